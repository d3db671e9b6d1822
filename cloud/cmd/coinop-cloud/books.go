package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coinop/cloud"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/protocol"
	"coinop/protocol/money"
)

// books is what the ledger says now.
type books struct {
	Payments  map[string]int `json:"payments"` // by state
	Balances  []balance      `json:"balances"`
	Open      int            `json:"open_operations"`
	Cases     []openCase     `json:"cases"`
	Incidents []incident     `json:"incidents"`
	Balanced  bool           `json:"balanced"`
	Why       string         `json:"why,omitempty"` // not
}

type balance struct {
	Tenant   string `json:"tenant"`
	Currency string `json:"currency"`
	Account  string `json:"account"`
	Minor    int64  `json:"minor"` // debit less credit
	Pending  int64  `json:"pending_minor"`
	Text     string `json:"text"`
	Held     string `json:"pending_text"`
}

type openCase struct {
	ID      protocol.CaseID    `json:"id"`
	Cause   string             `json:"cause"`
	Device  protocol.DeviceID  `json:"device"`
	Sale    protocol.SaleID    `json:"sale"`
	Payment protocol.PaymentID `json:"payment"`
	Charged bool               `json:"charged"`
	Opened  time.Time          `json:"opened"`
}

type incident struct {
	Name    string             `json:"name"`
	Device  protocol.DeviceID  `json:"device"`
	Payment protocol.PaymentID `json:"payment"`
	At      time.Time          `json:"at"`
	Detail  string             `json:"detail,omitempty"`
}

func booksCommand() *cobra.Command {
	var (
		place  cloud.Place
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "books --dir DIR",
		Short: "Show payments, balances, open operations, cases and incidents",
		Long: `books reads the ledger, beside a service that runs or after it. Exit code 1 when the balances do
not sum to zero, or are not what the accounts of closed-loop cards say, which must never be.

Accounts are shown as debit less credit: what the acquirer owes us is positive, what we owe the
merchant is negative.`,
		Example: `  coinop-cloud books --dir /var/lib/coinop
  coinop-cloud books --dir /var/lib/coinop --store postgres://coinop@db/coinop
  coinop-cloud books --dir /var/lib/coinop --json | jq .payments`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := place.OpenLedger(c.Context())
			if err != nil {
				return hint(err)
			}
			defer st.Close()
			b, err := readBooks(c.Context(), st)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(c, b)
			} else {
				err = b.print(c)
			}
			if err == nil && !b.Balanced {
				err = fmt.Errorf("%s; stop the service, keep a copy of the ledger and report this", b.Why)
			}
			return err
		},
	}
	placeFlags(c, &place.Dir, &place.Store)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// page is how many rows are read at once.
const page = 1000

func readBooks(ctx context.Context, st *store.Store) (books, error) {
	b := books{Payments: map[string]int{}, Balances: []balance{}, Cases: []openCase{}, Incidents: []incident{}}
	for f := (store.PaymentFilter{}); ; {
		ps, err := st.Payments(ctx, f, page)
		if err != nil {
			return b, err
		}
		for _, p := range ps {
			b.Payments[p.State.String()]++
			f.After = p.ID
		}
		if len(ps) < page {
			break
		}
	}
	balances, err := st.Balances(ctx)
	if err != nil {
		return b, err
	}
	if err = ledger.CheckSums(balances); err == nil { // and what is owed to cards is what they hold
		if err = st.CheckAccounts(ctx); err != nil && !errors.Is(err, store.ErrAccounts) {
			return b, err
		}
	}
	if b.Balanced = err == nil; !b.Balanced {
		b.Why = err.Error()
	}
	keys := make([]ledger.Key, 0, len(balances))
	for k := range balances {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y ledger.Key) int {
		return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.Currency, y.Currency), cmp.Compare(x.Account, y.Account))
	})
	for _, k := range keys {
		v := balances[k]
		b.Balances = append(b.Balances, balance{
			Tenant: k.Tenant, Currency: k.Currency.String(), Account: k.Account.String(),
			Minor: v.Net(), Pending: v.PendingNet(), Text: money.New(v.Net(), k.Currency).String(), Held: money.New(v.PendingNet(), k.Currency).String(),
		})
	}
	if b.Open, err = st.OpenOps(ctx); err != nil {
		return b, err
	}
	cases, err := st.Cases(ctx)
	if err != nil {
		return b, err
	}
	for _, c := range cases {
		b.Cases = append(b.Cases, openCase{
			ID: c.ID, Cause: c.Cause.String(), Device: c.Device, Sale: c.Sale, Payment: c.Payment,
			Charged: c.Charged, Opened: c.Opened.Time().UTC(),
		})
	}
	incidents, err := st.Incidents(ctx)
	if err != nil {
		return b, err
	}
	for _, i := range incidents {
		b.Incidents = append(b.Incidents, incident{Name: i.Name.String(), Device: i.Device, Payment: i.Payment, At: i.At.Time().UTC(), Detail: i.Detail})
	}
	return b, nil
}

func (b books) print(c *cobra.Command) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	line("PAYMENTS")
	for s := payment.Sent; s <= payment.InCase; s++ { // in the order of a payment's life
		if n := b.Payments[s.String()]; n > 0 {
			line("  %s\t%d", s, n)
		}
	}
	line("\nBALANCES (debit less credit)\tPOSTED\tPENDING")
	for _, x := range b.Balances {
		line("  %s %s\t%s\t%s", x.Tenant, x.Account, x.Text, x.Held)
	}
	line("\nOPEN OPERATIONS\t%d", b.Open)
	line("\nCASES\t%d", len(b.Cases))
	for _, x := range b.Cases {
		charged := "not charged"
		if x.Charged {
			charged = "charged"
		}
		line("  %s\t%s\t%s\t%s\tsale %s", x.Opened.Format(time.RFC3339), x.Device, x.Cause, charged, x.Sale)
	}
	line("\nINCIDENTS\t%d", len(b.Incidents))
	for _, x := range b.Incidents {
		line("  %s\t%s\t%s\tpayment %s\t%s", x.At.Format(time.RFC3339), x.Device, x.Name, x.Payment, x.Detail)
	}
	if b.Balanced {
		line("\nThe ledger is balanced.")
	} else {
		line("\nTHE LEDGER IS NOT BALANCED: %s", b.Why)
	}
	return w.Flush()
}
