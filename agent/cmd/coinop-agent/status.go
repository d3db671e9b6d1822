package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"coinop/agent"
	"coinop/configs"
	"coinop/hardware/thermo"
	"coinop/protocol/code"

	"github.com/spf13/cobra"
)

func newStatus(env []string) *cobra.Command {
	var data, file string
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Show how this device stands, and what to do", Args: cobra.NoArgs,
		Long: `Status asks the agent that runs on a data folder, as the same user or as root.
When none runs it shows what the disk says, and changes nothing.

It ends with
  0  healthy: the agent runs, and nothing is wrong
  1  degraded: it runs, and something is wrong; the table says what to do
  2  it does not run, or there is nothing to show: the folder is wrong`,
		Example: `  coinop-agent status --data /var/lib/coinop
  coinop-agent status --config /etc/coinop/agent.yaml --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fromEnvironment(c.Flags(), lookup(env), "data", "config"); err != nil {
				return err
			}
			if data == "" && file != "" {
				a, err := configs.LoadAgent(file, env)
				if err != nil {
					return fmt.Errorf("--config:\n%w", err)
				}
				data = string(a.Data)
			}
			if data == "" {
				return usage("--data or --config is missing: what run was given")
			}
			st, err := agent.AskStatus(data)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(st)
			} else {
				err = printStatus(c.OutOrStdout(), st)
			}
			switch {
			case err != nil:
				return err
			case st.Running == agent.NotRunning:
				return exit{exitFailure, nil}
			case !st.Healthy:
				return exit{exitProblem, nil}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&data, "data", "", "`folder` of the journal")
	f.StringVar(&file, "config", "", "configuration `file` that names it")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printStatus(out io.Writer, st agent.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	next := func(f code.Fault) {
		if f.Next != "" {
			line("", "-> %s", f.Next)
		}
	}
	line("device", "%s", or(st.Device, "not known"))
	switch st.Running {
	case agent.IsRunning:
		line("agent", "%s, process %d, up %s, certificate %s", st.Software, st.Process, span(st.At.Sub(st.Since)), st.Certificate)
	case agent.NotAnswering:
		line("agent", "process %d has the data folder and does not answer", st.Process)
	case agent.NotRunning:
		line("agent", "not running; this is what the disk says")
	}
	health := "healthy"
	if !st.Healthy {
		health = "degraded"
		if st.Running == agent.NotRunning {
			health = "down"
		}
	}
	line("health", "%s", health)
	for _, f := range st.Faults {
		line("", "%s: %s", f.Code, or(f.Cause, "see the log"))
		next(f)
	}
	s := st.Storage
	line("storage", "%s, %s free, journal %s, ballast %s", s.Code, size(s.Free), size(s.Used), size(s.Ballast))
	if s.Full > 0 {
		line("", "warns below %s, sells nothing below %s", size(s.Low), size(s.Full))
	}
	if s.Error != "" {
		line("", "the disk said: %s", s.Error)
	}
	if s.Damaged > 0 {
		line("", "%d damaged journals are kept beside it", s.Damaged)
	}
	j := st.Journal
	if j.Epoch != "" {
		held := fmt.Sprintf("the cloud holds 1 to %d", j.Acked)
		switch least := max(j.Acked, j.Released); {
		case !j.Known && least == 0:
			held = "what the cloud holds is not known"
		case !j.Known:
			held = fmt.Sprintf("the cloud holds at least 1 to %d", least)
		}
		line("journal", "epoch %s, %d records, %s, %d wait", j.Epoch, j.Head, held, j.Waiting)
	}
	if j.Repaired != "" {
		line("", "%s at its opening: %s", j.Opened, j.Repaired)
	}
	if st.Running == agent.IsRunning && st.Link.Way != "" {
		l := st.Link
		stands := "not connected"
		if !l.Connected.IsZero() {
			stands = "connected for " + span(st.At.Sub(l.Connected))
		}
		heard := "never heard"
		if !l.Heard.IsZero() {
			heard = "heard " + span(st.At.Sub(l.Heard)) + " ago"
		}
		line("cloud", "%s, %s, %s, way to the bank %s, acquirer %s", l.Cloud, stands, heard, l.Way, l.Acquirer)
	}
	for _, d := range st.Box {
		line(d.Name, "%s", deviceText(d, st.At))
	}
	for _, t := range st.Temperatures {
		line(t.Name, "%v, %s ago", thermo.Milli(t.Milli), span(st.At.Sub(t.At)))
	}
	for _, l := range st.Lanes {
		sells := "sells"
		if m := l.Selling; m != nil && m.Mode != agent.ModeFull {
			sells = fmt.Sprintf("sells %s (%s)", strings.ReplaceAll(string(m.Mode), "_", " "), m.Reason)
		}
		if l.Refuses != "" {
			sells = "sells nothing: " + l.Refuses
		}
		if l.DoorOpen {
			sells += ", its door is open"
		}
		line(fmt.Sprintf("lane %d", l.Lane), "%s, %s", l.Phase, sells)
		for _, d := range l.Devices {
			line("  "+d.Name, "%s", deviceText(d, st.At))
		}
		if t := l.Terminal; t != nil {
			line("  terminal", "%s", terminalText(*t))
		}
		if c := l.Cash; c != nil {
			line("  change", "%s", changeText(*c))
		}
	}
	for i, l := range st.Lately {
		text := fmt.Sprintf("%s: %s", l.Code, l.Cause)
		if l.Device != "" {
			text = l.Device + ": " + text
		}
		if l.Count > 1 {
			text += fmt.Sprintf(" (%d times)", l.Count)
		}
		line(pick(i == 0, "lately", ""), "%s, %s ago", text, span(st.At.Sub(l.At)))
		next(l.Fault)
	}
	if l := st.LastSale; l != nil {
		text := fmt.Sprintf("%s, lane %d, %s", l.At.Local().Format(time.DateTime), l.Lane, l.How)
		if l.Charged != "" {
			text += ", charged " + l.Charged
		}
		line("last sale", "%s, delivered %s", text, l.Delivered)
	}
	return w.Flush()
}

// deviceText is how a piece of hardware stands.
func deviceText(d agent.DeviceStatus, now time.Time) string {
	text := d.State
	if string(d.Code) != d.State {
		text += ", " + string(d.Code)
	}
	if d.Optional && d.State == "absent" {
		text += " (not required)"
	}
	if d.Detail != "" {
		text += ": " + d.Detail
	}
	return fmt.Sprintf("%s, for %s", text, span(now.Sub(d.Since)))
}

// terminalText is how a terminal stands that authorizes by itself.
func terminalText(t agent.TerminalStatus) string {
	text := "id " + t.ID
	switch {
	case !t.Here:
		text = "not here"
	case t.Due:
		text += ", wants its day ended"
	}
	if t.Owes != "" {
		text += ", owes: " + t.Owes
	}
	if !t.Closed.IsZero() {
		text += ", day ended " + t.Closed.Local().Format(time.DateTime)
	}
	return text
}

// changeText is what can be given as change.
func changeText(c agent.CashStatus) string {
	if !c.Known {
		return "not known: no cash is taken"
	}
	text := c.Change
	if c.Exact {
		text += ", exact money only"
	}
	for i, t := range c.Tubes {
		text += fmt.Sprintf("%s %d x %s", pick(i == 0, ":", ","), t.Count, t.Value)
		if t.Full {
			text += " (full)"
		}
	}
	return text
}

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// span is a time as people say it: 3h12m.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}

func size(n int64) string {
	if n < 1_000_000_000 {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}
