package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coinop/cloud"
	"coinop/cloud/account"
	"coinop/cloud/store"
	"coinop/protocol"
	"coinop/protocol/money"
)

func accountCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "account",
		Short: "Open, load and block accounts of closed-loop cards",
		Long: `A closed-loop card, one of the operator's own, holds a reference; what it is worth stands in an account.
Machines ask for it as they ask a bank, so a card without an account buys nothing.

A CARD is ten hex digits, as a reader that has the cards' keys reads them. Of what anyone can copy it is
uid: and a chip's number, or, with --stripe, the number on a stripe.

A running service need not be stopped.`,
	}
	c.AddCommand(accountOpen(), accountList(), accountShow(), accountLoad(),
		accountSet("block", account.Blocked, "Let a card buy nothing more",
			"block lets a card buy nothing more. What is bought already is still taken off it: it is out of the machine."),
		accountSet("unblock", account.Open, "Let a blocked card buy again", "unblock lets a blocked card buy again."),
		accountClose())
	return c
}

// desk is a ledger that is open, and whose account is meant.
type desk struct {
	place    cloud.Place
	tenant   string
	currency string
	stripe   bool
	asJSON   bool
	*store.Store
	account.Desk
}

func (d *desk) flags(c *cobra.Command) {
	placeFlags(c, &d.place.Dir, &d.place.Store)
	f := c.Flags()
	f.StringVar(&d.tenant, "tenant", "default", "whose card it is")
	f.StringVar(&d.currency, "currency", "", "of the account, where a card has several, as EUR")
	f.BoolVar(&d.stripe, "stripe", false, "CARD is the number on a stripe")
	f.BoolVar(&d.asJSON, "json", false, "print JSON")
}

func (d *desk) open(ctx context.Context) (err error) {
	if d.Store, err = d.place.OpenLedger(ctx); err != nil {
		return hint(err)
	}
	d.Desk = cloud.NewDesk(d.Store)
	return nil
}

// card is the reference that is meant.
func (d *desk) card(text string) (string, error) {
	if d.stripe {
		if text = strings.ReplaceAll(text, " ", ""); text == "" || strings.Trim(text, "0123456789") != "" {
			return "", errors.New("--stripe: want the number on the stripe, digits")
		}
		return protocol.StripeRef(text), nil
	}
	return account.ParseCard(text)
}

// find is the account of a CARD or an id.
func (d *desk) find(ctx context.Context, text string) (account.Account, error) {
	var id account.ID
	if id.UnmarshalText([]byte(text)) == nil {
		a, there, err := d.FindAccount(ctx, id)
		if err == nil && !there {
			err = fmt.Errorf("%s: %w; coinop-cloud account list shows them", text, account.ErrNone)
		}
		return a, err
	}
	card, err := d.card(text)
	if err != nil {
		return account.Account{}, fmt.Errorf("%w; an account's id will do too", err)
	}
	all, err := d.Accounts(ctx, account.Filter{Tenant: d.tenant, Card: card}, 100)
	if err != nil {
		return account.Account{}, err
	}
	if d.currency != "" {
		all = slices.DeleteFunc(all, func(a account.Account) bool { return a.Currency.String() != strings.ToUpper(d.currency) })
	}
	switch len(all) {
	case 0:
		return account.Account{}, fmt.Errorf("card %s of %s: %w; open one: coinop-cloud account open %s", text, d.tenant, account.ErrNone, text)
	case 1:
		return all[0], nil
	}
	return account.Account{}, fmt.Errorf("card %s has accounts in %d currencies: say which by --currency", text, len(all))
}

// at opens the desk, which is then to be closed, for the account of a CARD or an id.
func (d *desk) at(ctx context.Context, text string) (account.Account, error) {
	if err := d.open(ctx); err != nil {
		return account.Account{}, err
	}
	a, err := d.find(ctx, text)
	if err != nil {
		err = errors.Join(err, d.Store.Close())
	}
	return a, err
}

// next says what to do about what a desk refused.
func next(err error) error {
	for is, what := range map[error]string{
		account.ErrExists:    "coinop-cloud account show has it",
		account.ErrCopied:    "--unverified opens one all the same, and whoever does bears the loss of copies",
		account.ErrReference: "each load and each paying out has a reference of its own, as a receipt's number",
		account.ErrFunds:     "coinop-cloud account show has its entries; what is held ends with its sale",
	} {
		if errors.Is(err, is) {
			return fmt.Errorf("%w; %s", err, what)
		}
	}
	return err
}

// shown is an account as --json prints it.
type shown struct {
	ID         account.ID      `json:"id"`
	Tenant     string          `json:"tenant"`
	Card       string          `json:"card"`
	Unverified bool            `json:"unverified,omitempty"`
	State      string          `json:"state"`
	Label      string          `json:"label,omitempty"`
	Currency   string          `json:"currency"`
	Balance    int64           `json:"balance_minor"`
	Held       int64           `json:"held_minor"`
	Text       string          `json:"text"`
	Counter    uint16          `json:"counter"`
	Opened     time.Time       `json:"opened"`
	Again      bool            `json:"again,omitempty"` // it was loaded under this reference before
	Entries    []shownEntry    `json:"entries,omitempty"`
	account    account.Account // for print
}

type shownEntry struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`
	Balance int64     `json:"balance_minor"`
	Held    int64     `json:"held_minor"`
	Cause   string    `json:"cause"`
	Device  string    `json:"device,omitempty"`
	Note    string    `json:"note,omitempty"`
}

func show(a account.Account) shown {
	return shown{
		ID: a.ID, Tenant: a.Tenant, Card: a.Card, Unverified: a.Unverified, State: a.State.String(), Label: a.Label, Currency: a.Currency.String(),
		Balance: a.Balance, Held: a.Held, Text: a.Amount(a.Balance).String(), Counter: a.Counter, Opened: a.Opened.Time().UTC(), account: a,
	}
}

// say prints what became of an account, in a line or as JSON.
func (d *desk) say(c *cobra.Command, x shown, what string) error {
	if d.asJSON {
		return printJSON(c, x)
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "card %s: %s; %s on it\n", x.Card, what, x.Text)
	return err
}

func oneCard(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one CARD, as in 0000000001, or an account's id; see %s --help", c.CommandPath())
	}
	return nil
}

func accountOpen() *cobra.Command {
	var d desk
	var n account.Account
	c := &cobra.Command{
		Use:   "open CARD --dir DIR",
		Short: "Open an account for a card",
		Long: `open opens an account for a card, with nothing on it.

What anyone can copy, a chip's bare number or a stripe, is refused without --unverified. The machine must
be told to take chips' numbers too: unproven_cards of its reader.`,
		Example: `  coinop-cloud account open 0000000001 --dir /var/lib/coinop --currency EUR --label "A. Miller"
  coinop-cloud account open 600042001234 --stripe --unverified --dir /var/lib/coinop --currency EUR`,
		Args: oneCard,
		RunE: func(c *cobra.Command, args []string) error {
			card, err := d.card(args[0])
			if err != nil {
				return err
			}
			if d.currency == "" {
				return errors.New("--currency: want that of the account, as EUR")
			}
			if n.Currency, err = money.CurrencyOf(strings.ToUpper(d.currency)); err != nil {
				return fmt.Errorf("--currency: %w", err)
			}
			if err := d.open(c.Context()); err != nil {
				return err
			}
			defer d.Store.Close()
			n.Card, n.Tenant = card, d.tenant
			a, err := d.Open(c.Context(), n)
			if err != nil {
				return next(fmt.Errorf("card %s: %w", args[0], err))
			}
			return d.say(c, show(a), "account "+a.ID.String()+" is open")
		},
	}
	d.flags(c)
	c.Flags().StringVar(&n.Label, "label", "", "whose it is, for people")
	c.Flags().BoolVar(&n.Unverified, "unverified", false, "take a card that anyone can copy")
	return c
}

func accountList() *cobra.Command {
	var (
		place         cloud.Place
		tenant, state string
		asJSON        bool
	)
	c := &cobra.Command{
		Use:   "list --dir DIR",
		Short: "List accounts of closed-loop cards",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f := account.Filter{Tenant: tenant}
			if state != "" {
				var err error
				if f.State, err = account.ParseState(state); err != nil {
					return fmt.Errorf("--state: %w", err)
				}
			}
			st, err := place.OpenLedger(c.Context())
			if err != nil {
				return hint(err)
			}
			defer st.Close()
			out := []shown{}
			for {
				all, err := st.Accounts(c.Context(), f, page)
				if err != nil {
					return err
				}
				for _, a := range all {
					out, f.After = append(out, show(a)), a.ID
				}
				if len(all) < page {
					break
				}
			}
			if asJSON {
				return printJSON(c, out)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "CARD\tTENANT\tSTATE\tBALANCE\tHELD\tLABEL\tID")
			for _, x := range out {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Card, x.Tenant, x.State, x.Text, x.account.Amount(x.Held), x.Label, x.ID)
			}
			return w.Flush()
		},
	}
	placeFlags(c, &place.Dir, &place.Store)
	c.Flags().StringVar(&tenant, "tenant", "", "only of this tenant")
	c.Flags().StringVar(&state, "state", "", "only open, blocked or closed ones")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func accountShow() *cobra.Command {
	var d desk
	var most int
	c := &cobra.Command{
		Use:   "show CARD|ID --dir DIR",
		Short: "Show an account and its newest entries",
		Args:  oneCard,
		RunE: func(c *cobra.Command, args []string) error {
			if most < 1 {
				return errors.New("--entries: want at least 1")
			}
			a, err := d.at(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer d.Store.Close()
			entries, err := d.AccountEntries(c.Context(), a.ID, 0, most)
			if err != nil {
				return err
			}
			x := show(a)
			for _, e := range entries {
				x.Entries = append(x.Entries, shownEntry{e.At.Time().UTC(), e.Kind.String(), e.Balance, e.Held, e.Key, string(e.Device), e.Note})
			}
			if d.asJSON {
				return printJSON(c, x)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintf(w, "card\t%s\nid\t%s\ntenant\t%s\nstate\t%s\nlabel\t%s\nbalance\t%s\nheld\t%s\n\nAT\tKIND\tBALANCE\tHELD\tDEVICE\tCAUSE\n",
				x.Card, x.ID, x.Tenant, x.State, x.Label, x.Text, a.Amount(a.Held))
			for _, e := range x.Entries {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.At.Format(time.RFC3339), e.Kind, a.Amount(e.Balance).Decimal(), a.Amount(e.Held).Decimal(), e.Device, strings.TrimSpace(e.Cause+" "+e.Note))
			}
			return w.Flush()
		},
	}
	d.flags(c)
	c.Flags().IntVar(&most, "entries", 20, "how many entries")
	return c
}

func accountLoad() *cobra.Command {
	var d desk
	var reference, note string
	c := &cobra.Command{
		Use:   "load CARD|ID AMOUNT --reference REF --dir DIR",
		Short: "Put money onto a card",
		Long: `load puts money onto a card that was taken at a desk. The reference says for what, as a receipt's number:
loaded again under it nothing more is put onto the card, so a load that may or may not have been done is
simply done again.`,
		Example: `  coinop-cloud account load 0000000001 10.00 EUR --reference "till 7, receipt 4711" --dir /var/lib/coinop`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 && len(args) != 3 {
				return fmt.Errorf("want a CARD and an AMOUNT, as in 0000000001 10.00 EUR; see %s --help", c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			value := strings.Fields(strings.Join(args[1:], " "))
			if len(value) == 2 {
				d.currency = value[1]
			}
			if len(value) < 1 || len(value) > 2 {
				return fmt.Errorf("amount %q: want one as 10.00 EUR", strings.Join(args[1:], " "))
			}
			a, err := d.at(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer d.Store.Close()
			if len(value) == 2 && !strings.EqualFold(value[1], a.Currency.String()) {
				return fmt.Errorf("the account is in %s, and %s is not", a.Currency, strings.Join(value, " "))
			}
			amount, err := money.Parse(value[0], a.Currency)
			if err != nil {
				return fmt.Errorf("amount %q: %w; want one as 10.00 %s", value[0], err, a.Currency)
			}
			a, again, err := d.Load(c.Context(), a.ID, amount, reference, note)
			if err != nil {
				return next(fmt.Errorf("load %s onto %s: %w", amount, args[0], err))
			}
			x := show(a)
			x.Again = again
			if again {
				return d.say(c, x, fmt.Sprintf("%s were loaded under this reference already", amount))
			}
			return d.say(c, x, fmt.Sprintf("%s loaded", amount))
		},
	}
	d.flags(c)
	c.Flags().StringVar(&reference, "reference", "", "what the money was taken for: a load has its own (needed)")
	_ = c.MarkFlagRequired("reference")
	c.Flags().StringVar(&note, "note", "", "for people")
	return c
}

func accountSet(name string, to account.State, short, long string) *cobra.Command {
	var d desk
	c := &cobra.Command{
		Use: name + " CARD|ID --dir DIR", Short: short, Long: long, Args: oneCard,
		RunE: func(c *cobra.Command, args []string) error {
			a, err := d.at(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer d.Store.Close()
			if a, err = d.Set(c.Context(), a.ID, to); err != nil {
				return next(fmt.Errorf("%s %s: %w", name, args[0], err))
			}
			return d.say(c, show(a), "it is "+a.State.String())
		},
	}
	d.flags(c)
	return c
}

func accountClose() *cobra.Command {
	var d desk
	var payOut string
	c := &cobra.Command{
		Use:   "close CARD|ID --dir DIR",
		Short: "Close an account for good",
		Long: `close ends an account for good. One that holds money is closed only with --pay-out: what is on it is taken
off, for it was given back to who carried the card, under that reference.`,
		Example: `  coinop-cloud account close 0000000001 --pay-out "till 7, receipt 4712" --dir /var/lib/coinop`,
		Args:    oneCard,
		RunE: func(c *cobra.Command, args []string) error {
			a, err := d.at(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer d.Store.Close()
			what := "it is closed"
			if payOut != "" && a.Balance > 0 {
				back := a.Amount(a.Balance)
				if _, _, err := d.PayOut(c.Context(), a.ID, back, payOut, "closed"); err != nil {
					return next(fmt.Errorf("pay %s out of %s: %w", back, args[0], err))
				}
				what = fmt.Sprintf("%s paid out, it is closed", back)
			}
			if a, err = d.Set(c.Context(), a.ID, account.Closed); err != nil {
				if errors.Is(err, account.ErrState) && a.Balance > 0 {
					return fmt.Errorf("close %s: %w; --pay-out REFERENCE says that it was given back", args[0], err)
				}
				return next(fmt.Errorf("close %s: %w", args[0], err))
			}
			return d.say(c, show(a), what)
		},
	}
	d.flags(c)
	c.Flags().StringVar(&payOut, "pay-out", "", "REFERENCE under which what is on it was given back")
	return c
}
