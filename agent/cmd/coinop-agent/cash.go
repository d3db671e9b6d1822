package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"coinop/agent"
	"coinop/agent/cashbook"
	"coinop/agent/journal"
	"coinop/protocol"
	"coinop/protocol/money"

	"github.com/spf13/cobra"
)

func newCash(env []string) *cobra.Command {
	c := &cobra.Command{Use: "cash", Short: "What should be in a machine's till, who emptied it, and what does not fit"}
	c.AddCommand(newCashReport(env), newCashCollect(env), newCashCount(env))
	return c
}

// dataFolder is the flag all of them have.
func dataFolder(c *cobra.Command, env []string, data *string) {
	c.Flags().StringVar(data, "data", "", "`folder` of the journal (required)")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if err := fromEnvironment(c.Flags(), lookup(env), "data"); err != nil {
			return err
		}
		if *data == "" {
			return usage("--data is missing: the folder that run was given")
		}
		return nil
	}
}

func newCashReport(env []string) *cobra.Command {
	var data string
	var asJSON bool
	c := &cobra.Command{
		Use: "report", Short: "Say what came in, what was sold and given back, and what does not fit, by name", Args: cobra.NoArgs,
		Long: `Report reads the records in the data folder; the agent may run meanwhile. Where the
machine's controller owns the cash, what it tells on the bus (CASH SALE) is held
against its own books (DEX) and against what was found in the bags. It ends with
code 1 when something does not fit.`,
		Example: "  coinop-agent cash report --data /var/lib/coinop",
		RunE: func(c *cobra.Command, _ []string) error {
			book := cashbook.New()
			if _, err := journal.Peek(filepath.Join(data, "journal"), book.See); err != nil {
				return fmt.Errorf("%w; is %s the folder that the agent runs with?", err, data)
			}
			reports := book.Reports()
			var err error
			if asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(shownReports(reports))
			} else {
				err = printReports(c.OutOrStdout(), reports)
			}
			for _, r := range reports {
				if len(r.Findings) > 0 && err == nil {
					err = exit{code: exitProblem}
				}
			}
			return err
		},
	}
	dataFolder(c, env, &data)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// shownReport is a report as JSON.
type shownReport struct {
	Lane     protocol.Lane  `json:"lane"`
	Owner    string         `json:"owner"`
	From     time.Time      `json:"from"`
	To       time.Time      `json:"to"`
	Readings int            `json:"readings"`
	Currency string         `json:"currency"`
	In       int64          `json:"in"` // minor units, as all of them
	Sold     int64          `json:"sold"`
	Sales    int64          `json:"sales"`
	Out      int64          `json:"out"`
	Held     int64          `json:"held"`
	Short    int64          `json:"short"`
	Told     int64          `json:"told_since_reading"`
	Findings []shownFinding `json:"findings"`
	Dropped  int            `json:"dropped,omitempty"` // older findings, of which there were too many
}

type shownFinding struct {
	At     time.Time `json:"at"`
	Cause  string    `json:"cause"`
	Amount int64     `json:"amount"`
	Text   string    `json:"text"`
}

func shownReports(rs []cashbook.Report) []shownReport {
	out := []shownReport{}
	for _, r := range rs {
		s := shownReport{
			Lane: r.Lane, Owner: string(r.Owner), From: r.From, To: r.To, Readings: r.Readings, Currency: r.Sold.Currency.String(),
			In: r.In.Minor, Sold: r.Sold.Minor, Sales: r.Sales, Out: r.Out.Minor, Held: r.Held.Minor, Short: r.Short.Minor, Told: r.Told.Minor,
			Findings: []shownFinding{}, Dropped: r.Dropped,
		}
		for _, f := range r.Findings {
			s.Findings = append(s.Findings, shownFinding{f.At, string(f.Cause), f.Amount.Minor, f.Text})
		}
		out = append(out, s)
	}
	return out
}

func printReports(w io.Writer, rs []cashbook.Report) error {
	if len(rs) == 0 {
		_, err := fmt.Fprintln(w, "no records of cash yet")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, r := range rs {
		if i > 0 {
			_, _ = fmt.Fprintln(t)
		}
		row := func(name string, a money.Amount, more string) { _, _ = fmt.Fprintf(t, "  %s\t%s\t%s\n", name, a, more) }
		_, _ = fmt.Fprintf(t, "lane %d, cash of the %s, %s to %s\n", r.Lane, map[cashbook.Owner]string{cashbook.ByMachine: "machine", cashbook.ByAgent: "agent"}[r.Owner],
			r.From.Format("2006-01-02 15:04"), r.To.Format("2006-01-02 15:04"))
		row("came in", r.In, "")
		row("sold", r.Sold, fmt.Sprintf("in %d sales", r.Sales))
		row("given back", r.Out, "")
		if r.Owner == cashbook.ByMachine {
			row("told since", r.Told, fmt.Sprintf("by CASH SALE, after the last of %d readings of its books", r.Readings))
		} else {
			row("in a sale", r.Held, "that is open")
			row("owed", r.Short, "of change")
		}
		for _, f := range r.Findings {
			_, _ = fmt.Fprintf(t, "  %s\t%s\t%s: %s\n", f.Cause, f.Amount, f.At.Format("01-02 15:04"), f.Text)
		}
		if r.Dropped > 0 {
			_, _ = fmt.Fprintf(t, "  and %d older ones\n", r.Dropped)
		}
		if len(r.Findings) == 0 {
			_, _ = fmt.Fprintln(t, "  all of it fits")
		}
	}
	return t.Flush()
}

func newCashCollect(env []string) *cobra.Command {
	var data string
	var asJSON bool
	o := agent.Order{Do: agent.OrderCollect}
	c := &cobra.Command{
		Use: "collect --person NAME --bag NUMBER", Short: "Say that the box is emptied into a bag", Args: cobra.NoArgs,
		Long: `Collect is for who empties a machine's box and stacker, at the machine: the running
agent reads the machine's books first, so that it is known what should be in the bag.
Say what was found in it with coinop-agent cash count.`,
		Example: "  coinop-agent cash collect --data /var/lib/coinop --person ana --bag 0042",
		RunE:    func(c *cobra.Command, _ []string) error { return tell(c, data, o, asJSON) },
	}
	dataFolder(c, env, &data)
	orderFlags(c, &o, &asJSON)
	return c
}

func newCashCount(env []string) *cobra.Command {
	var data string
	var asJSON bool
	o := agent.Order{Do: agent.OrderCount}
	c := &cobra.Command{
		Use: "count --person NAME --bag NUMBER --amount MONEY", Short: "Say what was found in a bag", Args: cobra.NoArgs,
		Example: "  coinop-agent cash count --data /var/lib/coinop --person ben --bag 0042 --amount 87.50",
		RunE:    func(c *cobra.Command, _ []string) error { return tell(c, data, o, asJSON) },
	}
	dataFolder(c, env, &data)
	orderFlags(c, &o, &asJSON)
	c.Flags().StringVar(&o.Amount, "amount", "", "`money` that was in it, as 87.50 (required)")
	return c
}

func orderFlags(c *cobra.Command, o *agent.Order, asJSON *bool) {
	c.Flags().StringVar(&o.Person, "person", "", "`name` of who did it (required)")
	c.Flags().StringVar(&o.Bag, "bag", "", "`number` on the bag (required)")
	c.Flags().Uint8Var((*uint8)(&o.Lane), "lane", 0, "`number` of the lane")
	c.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

// tell gives the running agent an order and says how it went.
func tell(c *cobra.Command, data string, o agent.Order, asJSON bool) error {
	r, err := agent.Tell(c.Context(), data, o)
	if errors.Is(err, agent.ErrNotRunning) {
		return fmt.Errorf("%w; start it, or name its folder with --data", err)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(r)
	}
	switch o.Do {
	case agent.OrderAudit:
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s; coinop-agent dex show %s says what it means\n", r.File, r.File)
	case agent.OrderCollect:
		_, err = fmt.Fprintf(c.OutOrStdout(), "bag %s should hold %s; count it with coinop-agent cash count\n", o.Bag, r.Expected)
	case agent.OrderTamperClear:
		_, err = fmt.Fprintln(c.OutOrStdout(), "cleared; coinop-agent status says what else there is")
	case agent.OrderCount:
		_, err = fmt.Fprintf(c.OutOrStdout(), "bag %s is counted; coinop-agent cash report says whether it fits\n", o.Bag)
	}
	return err
}
