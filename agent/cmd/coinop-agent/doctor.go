package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"coinop/agent"
	"coinop/configs"
	"coinop/hardware/pcsc"
	"coinop/protocol/code"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// diagnosis is what doctor found.
type diagnosis struct {
	At       time.Time       `json:"at"`
	Software string          `json:"software"`
	Failures int             `json:"failures"`
	Warnings int             `json:"warnings"`
	Findings []agent.Finding `json:"findings"`
}

func newDoctor(env []string) *cobra.Command {
	var file, data, identity, cloud string
	var asJSON bool
	c := &cobra.Command{
		Use: "doctor", Short: "Look at everything from the configuration to the bank, and say what to mend", Args: cobra.NoArgs,
		Long: `Doctor looks at the configuration, the identity, the clock, the connection to the
cloud, the way to the bank, the hardware, the records and their disk. It changes
nothing, needs no network and no running agent, and is over in three seconds.
What it cannot look at it names.

Each failure has a code, its cause and one next step; coinop-agent explain CODE
says more. It ends with 0 when nothing fails (warnings are none), 1 when
something does.`,
		Example: `  coinop-agent doctor --config /etc/coinop/agent.yaml
  coinop-agent doctor --data /var/lib/coinop --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fromEnvironment(c.Flags(), lookup(env), "config", "data", "identity", "cloud"); err != nil {
				return err
			}
			if file == "" && data == "" && identity == "" && cloud == "" {
				return usage("--config is missing, or --data, --identity and --cloud: what run was given")
			}
			d := diagnosis{At: time.Now(), Software: version}
			x := agent.Exam{Identity: identity, Data: data, Cloud: cloud}
			if file != "" {
				var given []configs.Flag
				c.Flags().Visit(func(f *pflag.Flag) {
					given = append(given, configs.Flag{Name: f.Name, Text: f.Value.String()})
				})
				d.Findings = append(d.Findings, examFile(file, env, given, &x)...)
			}
			d.Findings = append(d.Findings, agent.Examine(c.Context(), x)...)
			for _, f := range d.Findings {
				switch f.Level {
				case agent.LevelFail:
					d.Failures++
				case agent.LevelWarn:
					d.Warnings++
				case agent.LevelOK, agent.LevelNone:
				}
			}
			err := error(nil)
			if asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(d)
			} else {
				err = printDiagnosis(c.OutOrStdout(), d, inColor(c.OutOrStdout(), env))
			}
			if err == nil && d.Failures > 0 {
				err = exit{code: exitProblem}
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration `file`; what else is given goes before it")
	f.StringVar(&data, "data", "", "`folder` of the journal")
	f.StringVar(&identity, "identity", "", "`folder` of this device's identity")
	f.StringVar(&cloud, "cloud", "", "`host:port` of the cloud")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// examFile reads the file as run would, and fills in what it names.
func examFile(file string, env []string, given []configs.Flag, x *agent.Exam) []agent.Finding {
	fault := func(err error) agent.Finding {
		return agent.Finding{Part: "config", Level: agent.LevelFail, Says: strings.TrimSpace(err.Error()), Fault: code.Of(code.ConfigInvalid)}
	}
	a, err := configs.LoadAgent(file, env, given...)
	if err == nil {
		err = checkFile(a)
	}
	if err != nil {
		return []agent.Finding{fault(err)}
	}
	x.PCSC, _ = lookup(env)(pcsc.SocketVariable)
	x.Identity, x.Data, x.Cloud = string(a.Identity), string(a.Data), string(a.Cloud)
	port := func(lane int, what string, p configs.Port, driver string) {
		path, none := findPort(p, driver, serialPorts)
		x.Ports = append(x.Ports, agent.ExamPort{Name: fmt.Sprintf("lane %d %s", lane, what), Path: path, None: none})
	}
	for i, l := range a.Lanes {
		if l.Vending.Driver != "gpio" {
			port(i, "vending", l.Vending.Port, l.Vending.Driver)
		}
		for n, r := range l.AllReaders() {
			if r.Driver == "pcsc" { // pcscd has its port
				x.Cards = append(x.Cards, agent.ExamCards{Name: fmt.Sprintf("lane %d %s", i, agent.ReaderName(n)), Reader: r.Name})
				continue
			}
			port(i, agent.ReaderName(n), r.Port, readerPort(r.Reader))
		}
		switch {
		case l.Terminal != nil && l.Terminal.Driver == "zvt":
			x.ZVT = append(x.ZVT, agent.ExamAddress{Name: fmt.Sprintf("lane %d terminal", i), Address: string(l.Terminal.Address)})
		case l.Terminal != nil:
			port(i, "terminal", l.Terminal.Port, "mdb reader")
		}
		switch {
		case l.Printer != nil && l.Printer.Address != "":
			x.Printers = append(x.Printers, agent.ExamAddress{Name: fmt.Sprintf("lane %d printer", i), Address: string(l.Printer.Address)})
		case l.Printer != nil:
			port(i, "printer", l.Printer.Port, l.Printer.Driver)
		}
		if l.Cash != nil && l.Cash.Owner == "agent" {
			port(i, "cash", l.Cash.Port, "mdb cash")
		}
		if l.Scanner != nil {
			port(i, "scanner", l.Scanner.Port, scannerPort(*l.Scanner))
		}
		if l.Audit != nil {
			port(i, "audit", l.Audit.Port, "dex")
		}
	}
	return []agent.Finding{{Part: "config", Level: agent.LevelOK, Says: file + " is good"}}
}

func printDiagnosis(out io.Writer, d diagnosis, color bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	words := map[agent.Level]string{agent.LevelOK: "ok", agent.LevelWarn: "warn", agent.LevelFail: "FAIL", agent.LevelNone: "-"}
	paints := map[agent.Level]string{agent.LevelOK: "\x1b[32m", agent.LevelWarn: "\x1b[33m", agent.LevelFail: "\x1b[31m", agent.LevelNone: "\x1b[90m"}
	var codes, fails []string // the fails first
	for _, f := range d.Findings {
		word := fmt.Sprintf("%-4s", words[f.Level])
		if color {
			word = paints[f.Level] + word + "\x1b[0m"
		}
		why := ""
		if f.Fault.Code != "" {
			why = fmt.Sprintf("%s: %s", f.Fault.Code, or(f.Fault.Cause, "see the log"))
		}
		says := f.Says
		if says == f.Fault.Cause && why != "" { // it has nothing to add
			says, why = why, ""
		}
		for i, line := range strings.Split(says, "\n") {
			if i == 0 {
				_, _ = fmt.Fprintf(w, " %s\t%s\t%s\n", word, f.Part, line)
			} else {
				_, _ = fmt.Fprintf(w, " %s\t\t%s\n", blank(color), line)
			}
		}
		if f.Fault.Code != "" {
			if why != "" {
				_, _ = fmt.Fprintf(w, " %s\t\t%s\n", blank(color), why)
			}
			if f.Fault.Next != "" {
				_, _ = fmt.Fprintf(w, " %s\t\t-> %s\n", blank(color), f.Fault.Next)
			}
			if f.Level == agent.LevelFail {
				fails = append(fails, string(f.Fault.Code))
			} else {
				codes = append(codes, string(f.Fault.Code))
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	text := fmt.Sprintf("\n%s, %s.", count(d.Failures, "failure"), count(d.Warnings, "warning"))
	if codes = distinct(append(fails, codes...)); len(codes) > 0 {
		text += fmt.Sprintf("  Codes: %s.  More: coinop-agent explain %s", strings.Join(codes, " "), codes[0])
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

// distinct is a list without what stands in it before.
func distinct(all []string) (out []string) {
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// blank is as wide as a word to tabwriter, which counts what paints it.
func blank(color bool) string {
	if color {
		return "\x1b[39m    \x1b[0m"
	}
	return "    "
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// inColor: on a terminal, unless NO_COLOR is set (no-color.org).
func inColor(out io.Writer, env []string) bool {
	if v, ok := lookup(env)("NO_COLOR"); ok && v != "" {
		return false
	}
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

func newExplain() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "explain [CODE...]", Short: "Say what a code means, and what to do", Args: cobra.ArbitraryArgs,
		Long: `Explain says what a code of status, doctor, a log or a dashboard means and what to
do about it; it needs nothing but this program. Without CODE it says all of them.`,
		Example: "  coinop-agent explain storage.full",
		RunE: func(c *cobra.Command, args []string) error {
			faults := code.All()
			if len(args) > 0 {
				faults = faults[:0]
				var errs []error
				for _, a := range args {
					f := code.Of(code.Code(strings.ToLower(a)))
					if f.Cause == "" {
						errs = append(errs, usage("there is no code %q%s; coinop-agent explain lists them", a, nearestCode(a)))
						continue
					}
					faults = append(faults, f)
				}
				if len(errs) > 0 {
					return exit{exitUsage, errors.Join(errs...)}
				}
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(faults)
			}
			for i, f := range faults {
				if i > 0 {
					_, _ = fmt.Fprintln(c.OutOrStdout())
				}
				sells := "it sells on"
				if !f.Sells {
					sells = "what needs it sells nothing until it is mended"
				}
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%s\n  what   %s\n  do     %s\n  sales  %s\n", f.Code, f.Cause, or(f.Next, "nothing"), sells); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// nearestCode is a code that was probably meant.
func nearestCode(typed string) string {
	for _, f := range code.All() {
		if strings.Contains(string(f.Code), strings.ToLower(typed)) {
			return fmt.Sprintf(", did you mean %q?", f.Code)
		}
	}
	return ""
}
