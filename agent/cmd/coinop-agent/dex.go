package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"coinop/agent"
	"coinop/hardware"
	"coinop/hardware/dex"
	"coinop/protocol"

	"github.com/spf13/cobra"
)

func newDEX(env []string) *cobra.Command {
	c := &cobra.Command{Use: "dex", Short: "Read a machine's own books, and what they say (EVA-DTS)"}
	c.AddCommand(newDEXRead(env), newDEXShow(), newDEXWrite(env))
	return c
}

func newDEXRead(env []string) *cobra.Command {
	var port, out, data string
	var lane uint8
	c := &cobra.Command{
		Use: "read --data FOLDER | --port TTY --out FILE", Short: "Read the audit file over the DEX link", Args: cobra.NoArgs,
		Long: `Read asks the machine for its audit file and keeps it as it came. The machine may
sell nothing meanwhile: some seconds. With --data the agent that runs with that folder
does it, now and not at its time; what it finds becomes a record. With --port this
command does it, and nothing else may use the port.`,
		Example: `  coinop-agent dex read --data /var/lib/coinop
  coinop-agent dex read --port /dev/serial/by-id/usb-FTDI_DEX-if00 --out snack-1.dts`,
		RunE: func(c *cobra.Command, _ []string) error {
			if data != "" && port == "" {
				return tell(c, data, agent.Order{Do: agent.OrderAudit, Lane: protocol.Lane(lane)}, false)
			}
			if port == "" || out == "" || data != "" {
				return usage("--data is needed, or --port and --out; coinop-agent dex read --help has an example")
			}
			raw, err := readDEX(c.Context(), c.ErrOrStderr(), port)
			if err != nil {
				return err
			}
			if err := os.WriteFile(out, raw, 0o600); err != nil {
				return err
			}
			if _, err := dex.Parse(raw); err != nil {
				return fmt.Errorf("%s is written, but: %w; read it again", out, err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d bytes in %s; coinop-agent dex show %s says what they mean\n", len(raw), out, out)
			return err
		},
	}
	c.Flags().StringVar(&data, "data", "", "`folder` of the agent that is to read")
	c.Flags().Uint8Var(&lane, "lane", 0, "`number` of the lane, with --data")
	c.Flags().StringVar(&port, "port", "", "`tty` of the machine's DEX link")
	c.Flags().StringVar(&out, "out", "", "`file` for what it says, with --port")
	return c
}

func newDEXWrite(env []string) *cobra.Command {
	var data, out string
	var lane uint8
	c := &cobra.Command{
		Use: "write --data FOLDER --out FILE", Short: "Write an audit file of what was sold here, by our own records", Args: cobra.NoArgs,
		Long: `Write makes an EVA-DTS file of what a lane has sold since this device counts: by card
and, where the cash is ours, for cash, with the sales of each item. It is for a vending
management system beside, or in place of, the machine's own file. The counters only
grow; where they begin anew, the file names another board. The agent may run meanwhile.`,
		Example: "  coinop-agent dex write --data /var/lib/coinop --out snack-1.dts",
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usage("--out is missing: the file to write")
			}
			b, err := agent.WriteAudit(data, protocol.Lane(lane))
			if err != nil {
				return err
			}
			if err := os.WriteFile(out, b, 0o600); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d bytes in %s; coinop-agent dex show %s says what they mean\n", len(b), out, out)
			return err
		},
	}
	dataFolder(c, env, &data)
	c.Flags().StringVar(&out, "out", "", "`file` to write (required)")
	c.Flags().Uint8Var(&lane, "lane", 0, "`number` of the lane")
	return c
}

// readDEX reads once; the port must open at the first try.
func readDEX(ctx context.Context, say io.Writer, port string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 75*time.Second)
	defer cancel()
	events := make(chan hardware.Event, 16)
	r, err := dex.New(dex.Config{Path: port}, func(e hardware.Event) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	})
	if err != nil {
		return nil, err
	}
	d, err := r.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w; ls -l /dev/serial/by-id shows what is there", err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for {
		select {
		case e := <-events:
			switch e := e.(type) {
			case hardware.Health:
				_, _ = fmt.Fprintln(say, "asking the machine, up to 60 s ...")
				if err := r.Read(); err != nil {
					return nil, err
				}
			case hardware.AuditRead:
				if e.Reason != "" {
					return nil, fmt.Errorf("no audit file: %s; is it the DEX port, is the cable in, and is the machine on?", e.Reason)
				}
				return e.File, nil
			}
		case err := <-done:
			done <- err
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// shownAudit is what show prints as JSON.
type shownAudit struct {
	Audit    dex.Audit     `json:"audit"`
	Problems []dex.Problem `json:"problems"`
	Since    *dex.Delta    `json:"since,omitempty"`
	Findings []dex.Finding `json:"findings,omitempty"`
}

func newDEXShow() *cobra.Command {
	var since string
	var asJSON bool
	c := &cobra.Command{
		Use: "show FILE", Short: "Say what an audit file says", Args: cobra.ExactArgs(1),
		Long: `Show reads an audit file and says what it counts, and what is odd about it. With
--since it says what happened since an earlier one: a counter that fell, another
board, sales that do not add up.`,
		Example: "  coinop-agent dex show today.dts --since yesterday.dts",
		RunE: func(c *cobra.Command, args []string) error {
			a, problems, err := auditOf(args[0])
			if err != nil {
				return err
			}
			out := shownAudit{Audit: a, Problems: problems}
			if since != "" {
				before, _, err := auditOf(since)
				if err != nil {
					return err
				}
				d, found := dex.Compare(&before, a)
				out.Since, out.Findings = &d, found
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(out)
			}
			return out.print(c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&since, "since", "", "an earlier `file` of the same machine")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func auditOf(path string) (dex.Audit, []dex.Problem, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // as asked
	if err != nil {
		return dex.Audit{}, nil, err
	}
	f, err := dex.Parse(raw)
	if err != nil {
		return dex.Audit{}, nil, fmt.Errorf("%s: %w", path, err)
	}
	a := f.Audit()
	return a, f.Problems, nil
}

func (s shownAudit) print(w io.Writer) error {
	a := s.Audit
	money := func(minor int64) string {
		unit := int64(1)
		for range a.Decimals {
			unit *= 10
		}
		if unit == 1 {
			return fmt.Sprintf("%d %s", minor, a.Currency)
		}
		return fmt.Sprintf("%d.%0*d %s", minor/unit, a.Decimals, minor%unit, a.Currency)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { _, _ = fmt.Fprintf(t, "%s\t%v\n", name, value) }
	sum := func(name string, x dex.Sum) { row(name, fmt.Sprintf("%s in %d", money(x.Value), x.Count)) }
	row("machine", a.Serial+" "+a.Model+" "+a.Asset)
	row("board", a.Board)
	if !a.Read.IsZero() {
		row("read before at", a.Read.Format("2006-01-02 15:04"))
	}
	all := func(paid, cash, cashless, test, free dex.Sum, in dex.Money, out, filled int64) {
		sum("paid", paid)
		sum("  cash", cash)
		sum("  cashless", cashless)
		sum("test", test)
		sum("free", free)
		row("cash in", fmt.Sprintf("%s (box %s, tubes %s, bills %s)", money(in.In), money(in.Box), money(in.Tubes), money(in.Bills)))
		row("cash out", money(out))
		row("filled by hand", money(filled))
	}
	all(a.Paid, a.Cash, a.Cashless, a.Test, a.Free, a.CashIn, a.CashOut, a.Filled)
	for _, p := range a.Products {
		sum("selection "+p.Selection+" "+p.Name+" at "+money(p.Price), p.Sold)
	}
	if d := s.Since; d != nil {
		row("", "")
		row("SINCE THE EARLIER FILE", "")
		all(d.Paid, d.Cash, d.Cashless, d.Test, d.Free, d.CashIn, d.CashOut, d.Filled)
		for _, p := range d.Products {
			sum("selection "+p.Selection, p.Sold)
		}
	}
	for _, p := range s.Problems {
		row("odd", p)
	}
	for _, f := range s.Findings {
		row("FOUND", f.Code+": "+f.Text)
	}
	return t.Flush()
}
