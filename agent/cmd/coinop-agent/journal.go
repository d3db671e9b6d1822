package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"coinop/agent"
	"coinop/agent/journal"
	"coinop/protocol"

	"github.com/spf13/cobra"
)

func newJournal(env []string) *cobra.Command {
	c := &cobra.Command{
		Use: "journal", Short: "Show, check and export the records of this device",
		Long: `Journal reads the second copy of the records in the data folder and changes
nothing; the agent may run meanwhile. No record holds a card's number.`,
	}
	c.AddCommand(newJournalList(env), newJournalVerify(env), newJournalExport(env))
	return c
}

// chosen are the records a person wants.
type chosen struct {
	data, sale, kind string
	lane             int
}

func (o *chosen) flags(c *cobra.Command, env []string) {
	dataFolder(c, env, &o.data)
	c.Flags().StringVar(&o.sale, "sale", "", "only of this sale: its `id`, or the end of it as on a receipt")
	c.Flags().StringVar(&o.kind, "kind", "", "only of this `kind`: SaleClosed, PaymentOutcome ...")
	c.Flags().IntVar(&o.lane, "lane", -1, "only of this `lane`")
}

func (o *chosen) want(r protocol.Opened) bool {
	return (o.lane < 0 || int(r.Lane) == o.lane) &&
		(o.kind == "" || strings.EqualFold(r.Body.Kind().String(), o.kind)) &&
		(o.sale == "" || !r.Sale.IsZero() && strings.HasSuffix(r.Sale.String(), strings.ToUpper(strings.ReplaceAll(o.sale, " ", ""))))
}

// read calls see with what was chosen, in order.
func (o *chosen) read(see func(protocol.Opened)) (journal.Peeked, error) {
	p, err := journal.Peek(filepath.Join(o.data, "journal"), func(r protocol.Opened) {
		if o.want(r) {
			see(r)
		}
	})
	if err != nil {
		err = fmt.Errorf("%w; is %s the folder that the agent runs with?", err, o.data)
	}
	return p, err
}

// shownRecord is a record as people and programs read it.
type shownRecord struct {
	Epoch string        `json:"epoch"`
	Seq   protocol.Seq  `json:"seq"`
	Hash  string        `json:"hash"`
	At    time.Time     `json:"at"` // by this device's clock
	Lane  protocol.Lane `json:"lane"`
	Sale  string        `json:"sale,omitempty"`
	Kind  string        `json:"kind"`
	Body  any           `json:"body"`
}

func showRecord(r protocol.Opened) shownRecord {
	out := shownRecord{
		Epoch: r.Position.Epoch.String(), Seq: r.Position.Seq, Hash: r.Position.Hash.String(), At: r.At.Wall.Time(),
		Lane: r.Lane, Kind: r.Body.Kind().String(), Body: r.Body,
	}
	if !r.Sale.IsZero() {
		out.Sale = r.Sale.String()
	}
	return out
}

func newJournalList(env []string) *cobra.Command {
	var o chosen
	var last int
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "Show the newest records, the oldest of them first", Args: cobra.NoArgs,
		Long: `List shows a line a record. A dot before it: the cloud may not hold it yet.`,
		Example: `  coinop-agent journal list --data /var/lib/coinop
  coinop-agent journal list --data /var/lib/coinop --kind SaleClosed --last 5
  coinop-agent journal list --data /var/lib/coinop --sale 5XYZ --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			if last < 1 {
				return usage("--last %d: want 1 or more", last)
			}
			var newest []protocol.Opened
			p, err := o.read(func(r protocol.Opened) {
				if newest = append(newest, r); len(newest) > 2*last {
					newest = append(newest[:0], newest[len(newest)-last:]...)
				}
			})
			if err != nil {
				return err
			}
			newest = newest[max(0, len(newest)-last):]
			if asJSON {
				all := make([]shownRecord, len(newest))
				for i, r := range newest {
					all[i] = showRecord(r)
				}
				return json.NewEncoder(c.OutOrStdout()).Encode(all)
			}
			held := p.Released
			if st, err := agent.AskStatus(o.data); err == nil {
				held = max(held, st.Journal.Acked)
			}
			return printRecords(c.OutOrStdout(), newest, held, p)
		},
	}
	o.flags(c, env)
	c.Flags().IntVar(&last, "last", 20, "how many")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printRecords(out io.Writer, records []protocol.Opened, held protocol.Seq, p journal.Peeked) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(records) > 0 {
		_, _ = fmt.Fprintln(w, "  SEQ\tTIME\tLANE\tSALE\tKIND\tSAYS")
	}
	for _, r := range records {
		mark, sale := " ", ""
		if r.Position.Seq > held {
			mark = "."
		}
		if !r.Sale.IsZero() {
			sale = ending(r.Sale.String())
		}
		_, _ = fmt.Fprintf(w, "%s %d\t%s\t%d\t%s\t%s\t%s\n", mark, r.Position.Seq, r.At.Wall.Time().Local().Format(time.DateTime), r.Lane, sale, r.Body.Kind(), says(r.Body))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	waits := "the cloud holds all of them"
	if p.Head.Seq > held {
		waits = fmt.Sprintf("the cloud may lack %d", p.Head.Seq-held)
	}
	_, err := fmt.Fprintf(out, "%d shown of %d kept, %d to %d; %s\n", len(records), p.Records, p.First, p.Head.Seq, waits)
	return err
}

// ending is the end of an id, as receipts have it.
func ending(id string) string { return id[max(0, len(id)-8):] }

// says is what a record's body says, on a line: its fields that are not zero. Hashes and keys are left out.
func says(b protocol.Body) string {
	var out []string
	v := reflect.ValueOf(b)
	for i := range v.NumField() {
		f := v.Field(i)
		if !v.Type().Field(i).IsExported() || f.IsZero() {
			continue
		}
		name := strings.ToLower(v.Type().Field(i).Name)
		switch x := f.Interface().(type) {
		case protocol.Hash, protocol.Raw, []byte:
		case interface{ IsZero() bool }:
			out = append(out, name+" "+short(fmt.Sprint(x)))
		case fmt.Stringer:
			out = append(out, name+" "+x.String())
		default:
			switch f.Kind() { //nolint:exhaustive // the rest is told by --json
			case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
				out = append(out, fmt.Sprintf("%s %v", name, x))
			default:
			}
		}
	}
	return strings.Join(out, ", ")
}

// short is an id without the part that all of a day have.
func short(id string) string {
	if len(id) > 20 {
		return ending(id)
	}
	return id
}

// verifyLag is how many records an agent may have written since they were read.
const verifyLag = 64

func newJournalVerify(env []string) *cobra.Command {
	var data string
	var asJSON bool
	c := &cobra.Command{
		Use: "verify", Short: "Check that no record is lost, changed or out of place", Args: cobra.NoArgs,
		Long: `Verify reads every record of the second copy and checks its hash, its number and
that it follows the one before. The first copy is checked at each start of the
agent, and made good from this one. It ends with code 1 when the chain is broken.`,
		Example: "  coinop-agent journal verify --data /var/lib/coinop",
		RunE: func(c *cobra.Command, _ []string) error {
			o := chosen{data: data, lane: -1}
			p, err := o.read(func(protocol.Opened) {})
			for try := 0; err == nil && p.Torn > 0 && try < 5; try++ { // the agent may be writing
				time.Sleep(50 * time.Millisecond)
				p, err = o.read(func(protocol.Opened) {})
			}
			if err != nil {
				if !errors.Is(err, journal.ErrCorrupt) {
					return err
				}
				p.Chain = err
			}
			problem := ""
			switch st, told := agent.AskStatus(data); {
			case p.Chain != nil:
				problem = p.Chain.Error()
			case p.Torn > 0:
				problem = fmt.Sprintf("%d bytes after record %d are no whole record: the last write was cut off, or the file is spoiled", p.Torn, p.Head.Seq)
			case told == nil && st.Running == agent.IsRunning && st.Journal.Head > p.Head.Seq+verifyLag:
				problem = fmt.Sprintf("it ends at record %d, and the agent is at %d", p.Head.Seq, st.Journal.Head)
			}
			if asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(struct {
					OK      bool         `json:"ok"`
					Device  string       `json:"device"`
					Epoch   string       `json:"epoch"`
					First   protocol.Seq `json:"first"`
					Head    protocol.Seq `json:"head"`
					Hash    string       `json:"hash"`
					Records int          `json:"records"`
					Problem string       `json:"problem,omitempty"`
				}{problem == "", string(p.Device), p.Head.Epoch.String(), p.First, p.Head.Seq, p.Head.Hash.String(), p.Records, problem})
			} else if problem == "" {
				_, err = fmt.Fprintf(c.OutOrStdout(), "ok: %d records of %s, %d to %d, each follows the one before\n", p.Records, p.Device, p.First, p.Head.Seq)
			} else {
				_, err = fmt.Fprintf(c.OutOrStdout(), "broken: %s\n-> keep the data folder as it is; the next start of the agent makes this copy good from the first one, and says so; if it cannot, call support\n", problem)
			}
			if err == nil && problem != "" {
				err = exit{code: exitProblem}
			}
			return err
		},
	}
	dataFolder(c, env, &data)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newJournalExport(env []string) *cobra.Command {
	var o chosen
	var file string
	c := &cobra.Command{
		Use: "export", Short: "Write the records as lines of JSON", Args: cobra.NoArgs,
		Example: `  coinop-agent journal export --data /var/lib/coinop --out journal.jsonl
  coinop-agent journal export --data /var/lib/coinop --kind PaymentOutcome | jq .body.amount`,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			out := c.OutOrStdout()
			if file != "" {
				f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // as asked
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				out = f
			}
			w, n := bufio.NewWriter(out), 0
			var failed error
			_, err = o.read(func(r protocol.Opened) {
				if failed == nil {
					failed = json.NewEncoder(w).Encode(showRecord(r))
					n++
				}
			})
			if err = errors.Join(err, failed, w.Flush()); err == nil && file != "" {
				_, err = fmt.Fprintf(c.ErrOrStderr(), "%d records in %s\n", n, file)
			}
			return err
		},
	}
	o.flags(c, env)
	c.Flags().StringVar(&file, "out", "", "`file` to write; else standard output")
	return c
}
