package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/identity"
	"coinop/protocol"
)

func deviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "device", Short: "Register and list machines"}
	c.AddCommand(deviceAdd(), deviceRevoke(), deviceList())
	return c
}

func deviceAdd() *cobra.Command {
	var (
		place cloud.Place
		out   string
		n     cloud.NewDevice
	)
	c := &cobra.Command{
		Use:   "add NAME --dir DIR --out DIR",
		Short: "Register a machine and write its identity",
		Long: `add registers a machine and writes its key and certificate into --out. That folder goes onto
the machine, and nowhere else: whoever has it is the machine. The terminal data (--tid, --mid, --mcc,
--country) is what the acquirer's contract says about the machine.

A running service need not be stopped.`,
		Example: `  coinop-cloud device add snack-1 --dir /var/lib/coinop --out snack-1 --link bank \
      --tid 10000001 --mid 000000000000001 --location "Main station, hall 2"

  # the box was stolen or its disk lost: a new identity, the old one is revoked
  coinop-cloud device add snack-1 --dir /var/lib/coinop --out snack-1b --replace --link bank --tid 10000001 --mid 1`,
		Args: oneName,
		RunE: func(c *cobra.Command, args []string) error {
			n.ID = protocol.DeviceID(args[0])
			if err := checkDevice(n); err != nil {
				return err
			}
			d, err := place.AddDevice(c.Context(), out, n)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s registered, certificate %s\nits identity is in %s; on the machine: coinop-agent run --identity %s ...\n",
				d.ID, d.Serial, out, out)
			return err
		},
	}
	f := c.Flags()
	placeFlags(c, &place.Dir, &place.Store)
	f.StringVar(&out, "out", "", "new folder for the identity (needed)")
	_ = c.MarkFlagRequired("out")
	f.StringVar(&n.Tenant, "tenant", "default", "whose machine it is")
	f.StringVar(&n.Link, "link", "bank", "NAME of the serve --acquirer that takes its cards")
	f.StringVar(&n.Merchant.TID, "tid", "", "terminal id, DE41: up to 8 characters, one per machine (needed)")
	f.StringVar(&n.Merchant.MID, "mid", "", "merchant id, DE42: up to 15 characters (needed)")
	f.StringVar(&n.Merchant.MCC, "mcc", "5814", "merchant category, DE18: 4 digits; 5814 is vending of food")
	f.StringVar(&n.Merchant.Country, "country", "276", "country of the machine, DE19: ISO 3166 number, 3 digits")
	f.StringVar(&n.Merchant.Location, "location", "", "what a card statement says, DE43: up to 40 characters")
	f.BoolVar(&n.Replace, "replace", false, "give a machine that is registered a new identity and revoke the old one")
	_ = c.MarkFlagRequired("tid")
	_ = c.MarkFlagRequired("mid")
	return c
}

func deviceRevoke() *cobra.Command {
	var place cloud.Place
	c := &cobra.Command{
		Use:   "revoke NAME --dir DIR",
		Short: "End a machine's right to sell and to connect",
		Long: `revoke ends a machine's right to sell and to connect, within a second also while it is connected.
What it has not sent yet is not taken in any more: whoever holds its key could have written it.

The name stays taken. "device add NAME --replace" gives the machine a new identity.

A broker elsewhere (serve --broker) keeps its connection until it connects again; what it says is
refused all the same. See coinop-cloud broker mosquitto.`,
		Example: "  coinop-cloud device revoke snack-1 --dir /var/lib/coinop",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			id := protocol.DeviceID(args[0])
			if err := place.RevokeDevice(c.Context(), id); err != nil {
				return hint(err)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s is revoked\n", id)
			return err
		},
	}
	placeFlags(c, &place.Dir, &place.Store)
	return c
}

func oneName(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one NAME, as in snack-1; see %s --help", c.CommandPath())
	}
	return nil
}

func checkDevice(n cloud.NewDevice) error {
	m := n.Merchant
	digits := func(s string, k int) bool { return len(s) == k && strings.Trim(s, "0123456789") == "" }
	switch {
	case n.ID.Check() != nil:
		return fmt.Errorf("name %q: %w", n.ID, n.ID.Check())
	case m.TID == "" || len(m.TID) > 8:
		return fmt.Errorf("--tid %q: want 1 to 8 characters", m.TID)
	case m.MID == "" || len(m.MID) > 15:
		return fmt.Errorf("--mid %q: want 1 to 15 characters", m.MID)
	case !digits(m.MCC, 4):
		return fmt.Errorf("--mcc %q: want 4 digits", m.MCC)
	case !digits(m.Country, 3):
		return fmt.Errorf("--country %q: want 3 digits, as 276 for Germany", m.Country)
	case len(m.Location) > 40:
		return fmt.Errorf("--location: %d characters, DE43 has room for 40", len(m.Location))
	}
	return nil
}

// listed is a machine as list --json prints it.
type listed struct {
	ID       protocol.DeviceID `json:"id"`
	Tenant   string            `json:"tenant"`
	Serial   string            `json:"serial"`
	Revoked  bool              `json:"revoked,omitempty"`
	Link     string            `json:"link"`
	Merchant acquirer.Merchant `json:"merchant"`
	Records  protocol.Seq      `json:"records"`           // of its journal that are held
	Stopped  string            `json:"stopped,omitempty"` // why it must not sell
}

func deviceList() *cobra.Command {
	var (
		place  cloud.Place
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "list --dir DIR",
		Short: "List the registered machines and how far their journals are held",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := place.OpenLedger(c.Context())
			if err != nil {
				return hint(err)
			}
			defer st.Close()
			devices, err := st.Devices(c.Context())
			if err != nil {
				return err
			}
			out := make([]listed, 0, len(devices))
			for _, d := range devices {
				head, err := st.Head(c.Context(), d.ID)
				if err != nil {
					return err
				}
				out = append(out, list(d, head.Position.Seq, head.Stopped))
			}
			if asJSON {
				return printJSON(c, out)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "NAME\tTENANT\tLINK\tTID\tMID\tRECORDS\tSTATE")
			for _, d := range out {
				state := "ok"
				switch {
				case d.Revoked:
					state = "revoked"
				case d.Stopped != "":
					state = "stopped: " + d.Stopped
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", d.ID, d.Tenant, d.Link, d.Merchant.TID, d.Merchant.MID, d.Records, state)
			}
			return w.Flush()
		},
	}
	placeFlags(c, &place.Dir, &place.Store)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func list(d identity.Device, held protocol.Seq, stopped string) listed {
	return listed{
		ID: d.ID, Tenant: d.Tenant, Serial: d.Serial, Revoked: d.Revoked, Link: d.Link, Merchant: d.Merchant,
		Records: held, Stopped: stopped,
	}
}

func printJSON(c *cobra.Command, v any) error {
	e := json.NewEncoder(c.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// hint says what to do about a folder without a ledger.
func hint(err error) error {
	if errors.Is(err, cloud.ErrNoLedger) {
		return fmt.Errorf("%w; --dir is the folder given to serve and device add; with --store there, --store here", err)
	}
	return err
}
