package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"

	"coinop/configs"
	"coinop/hardware/probe"
	"coinop/protocol/code"

	"github.com/spf13/cobra"
)

// wiring is what setup found, what does not fit, and the configuration that comes of it.
type wiring struct {
	Found    []probe.Found `json:"found"`
	Problems []problem     `json:"problems"`
	File     string        `json:"file,omitempty"` // that was written
	config   string
}

// problem is something about the wiring that a technician should see to.
type problem struct {
	Where string `json:"where,omitempty"`
	code.Fault
}

func newSetup(env []string) *cobra.Command {
	var ports []string
	var out, identity, data, cloud, currency string
	var asJSON, force bool
	c := &cobra.Command{
		Use: "setup", Short: "Find the devices of this machine, and write the configuration", Args: cobra.NoArgs,
		Long: `Setup looks at the ports of this machine and asks at each what stands there; it
names what it found, how sure it is, and why not where nobody answered. With
--out it writes the configuration, and asks for what it cannot find out: at most
three questions, none when the flags say it. Stop the agent first: a port that
it has cannot be asked.

It ends with 0, or with 1 when something about the wiring does not fit.`,
		Example: `  coinop-agent setup
  coinop-agent setup --out /etc/coinop/agent.yaml
  coinop-agent setup --port '/tmp/snack/*' --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fromEnvironment(c.Flags(), lookup(env), "identity", "data", "cloud", "currency"); err != nil {
				return err
			}
			paths, err := portsOf(ports)
			if err != nil {
				return err
			}
			w := judge(identify(c.Context(), paths))
			if !asJSON {
				if err := printFound(c.OutOrStdout(), w); err != nil {
					return err
				}
			}
			if out != "" {
				ask := asker{in: bufio.NewReader(c.InOrStdin()), out: c.ErrOrStderr(), can: isTerminal(c.InOrStdin())}
				for _, q := range []struct {
					to              *string
					question, other string
				}{
					{&identity, "Folder of this device's identity", "/etc/coinop/identity"},
					{&cloud, "Address of the cloud, host:port", "cloud.example.com:8883"},
					{&currency, "Currency of the prices", "EUR"},
				} {
					*q.to = ask.answer(*q.to, q.question, q.other)
				}
				if err := w.write(out, force, identity, cmp.Or(data, "/var/lib/coinop"), cloud, currency, env); err != nil {
					return err
				}
				if !asJSON {
					_, _ = fmt.Fprintf(c.OutOrStdout(), "\nwrote %s, and it is good; next: coinop-agent doctor --config %s\n", out, out)
				}
			}
			if asJSON {
				if err := json.NewEncoder(c.OutOrStdout()).Encode(w); err != nil {
					return err
				}
			}
			if len(w.Problems) > 0 {
				return exit{code: exitProblem}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringArrayVar(&ports, "port", nil, "`path` or pattern of ports to look at; may be repeated; else all of /dev")
	f.StringVar(&out, "out", "", "`file` of the configuration to write")
	f.BoolVar(&force, "force", false, "write over it")
	f.StringVar(&identity, "identity", "", "`folder` of this device's identity")
	f.StringVar(&data, "data", "", "`folder` of the journal (/var/lib/coinop)")
	f.StringVar(&cloud, "cloud", "", "`host:port` of the cloud")
	f.StringVar(&currency, "currency", "", "ISO 4217 `code` of the prices")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// portsOf are the device files that patterns name.
func portsOf(patterns []string) ([]string, error) {
	if len(patterns) == 0 {
		return probe.Ports("/dev"), nil
	}
	var out []string
	for _, p := range patterns {
		paths, err := filepath.Glob(p)
		if err != nil {
			return nil, usage("--port %s: %v", p, err)
		}
		if len(paths) == 0 && !strings.ContainsAny(p, "*?[") {
			paths = []string{p} // that it is not there is said of it
		}
		for _, path := range paths {
			if st, err := os.Stat(path); err != nil || st.Mode()&fs.ModeDevice != 0 {
				out = append(out, path)
			}
		}
	}
	return out, nil
}

// atOnce is how many ports are asked side by side.
const atOnce = 8

func identify(ctx context.Context, paths []string) []probe.Found {
	found := make([]probe.Found, len(paths))
	room := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, path := range paths {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			found[i] = probe.Identify(ctx, path)
		})
	}
	all.Wait()
	return found
}

// judge says what does not fit, and makes the lanes of a configuration.
func judge(found []probe.Found) *wiring {
	w := &wiring{Found: found, Problems: []problem{}}
	wrong := func(where string, c code.Code) { w.Problems = append(w.Problems, problem{where, code.Of(c)}) }
	of := map[string][]probe.Found{}
	for _, f := range found {
		why := strings.Join(f.WhyNot, "\n")
		switch {
		case strings.Contains(why, "another process has it"):
			wrong(f.Path, code.SetupTaken)
		case strings.Contains(why, "may not open it"):
			wrong(f.Path, code.PortDenied)
		case strings.Contains(why, "not there"):
			wrong(f.Path, code.PortAbsent)
		case strings.Contains(why, "gone while it was asked"):
			wrong(f.Path, code.PortLost)
		case f.Part != "" && !f.Sure:
			wrong(f.Path, code.SetupNameOnly)
		case f.Part == "" && strings.Contains(why, "something else"):
			wrong(f.Path, code.Garbage)
		case f.Part == "":
			wrong(f.Path, code.SetupSilent)
		}
		if f.Sure && strings.Contains(f.Says, "offline") {
			wrong(f.Path, code.SetupPrinterOffline)
		}
		if f.Sure && movable(f.Path) {
			wrong(f.Path, code.SetupMovable)
		}
		if f.Part != "" {
			of[f.Part] = append(of[f.Part], f)
		}
	}
	vending := of["vending"]
	switch {
	case len(found) == 0:
		wrong("", code.SetupNoPorts)
	case len(vending) == 0:
		wrong("", code.SetupNoVending)
	case len(of["reader"]) == 0 && len(of["cash"]) == 0:
		wrong("", code.SetupNobodyPays)
	}
	for _, part := range []string{"reader", "printer", "cash", "audit"} {
		if len(of[part]) > max(1, len(vending)) {
			wrong(of[part][len(of[part])-1].Path, code.SetupTooMany)
		}
	}
	var b strings.Builder
	for i, v := range vending {
		fmt.Fprintf(&b, "  - vending:\n      driver: %s\n      port: %s\n", v.Driver, v.Path)
		if v.Driver == "relay-board" {
			wrong(v.Path, code.SetupOutlets)
			b.WriteString("      outlets:                      # relay, feedback, button: numbers printed on the board\n" +
				"        - {number: 1, name: Washer 1, price: 3.00, relay: 1, pulses: 6, on: 100ms, off: 100ms}\n")
		}
		for _, part := range []string{"reader", "printer", "audit"} {
			if i < len(of[part]) {
				fmt.Fprintf(&b, "    %s: {driver: %s, port: %s}\n", part, of[part][i].Driver, of[part][i].Path)
			}
		}
		if i < len(of["cash"]) {
			fmt.Fprintf(&b, "    cash: {owner: agent, port: %s}\n", of["cash"][i].Path)
		}
	}
	w.config = b.String()
	return w
}

// movable: the name changes when a cable is put elsewhere.
func movable(path string) bool {
	name := filepath.Base(path)
	return filepath.Dir(path) == "/dev" && (strings.HasPrefix(name, "ttyUSB") || strings.HasPrefix(name, "ttyACM"))
}

func (w *wiring) write(out string, force bool, identity, data, cloud, currency string, env []string) error {
	if w.config == "" {
		return errors.New("no vending side was found, so there is nothing to sell at: no file was written")
	}
	text := fmt.Sprintf("# Written by coinop-agent setup. coinop-agent config explain says what else there is.\nidentity: %s\ndata: %s\ncloud: %s\ncurrency: %s\n\nlanes:\n%s",
		identity, data, cloud, currency, w.config)
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(out, flags, 0o644) //nolint:gosec // as asked; it holds no secret
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; --force writes over it", out)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	a, err := configs.LoadAgent(out, env)
	if err == nil {
		err = checkFile(a)
	}
	if err != nil {
		return fmt.Errorf("%s was written and wants a hand:\n%w", out, err)
	}
	w.File = out
	return nil
}

func printFound(out io.Writer, w *wiring) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(w.Found) > 0 {
		_, _ = fmt.Fprintln(t, "PORT\tPART\tDRIVER\tSURE\tSAYS")
	}
	for _, f := range w.Found {
		sure, says := "no", f.Says
		if f.Sure {
			sure = "yes"
		}
		if f.Part == "" {
			sure, says = "-", strings.Join(f.WhyNot, "; ")
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.Path, cmp.Or(f.Part, "-"), cmp.Or(f.Driver, "-"), sure, says)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i, p := range w.Problems {
		if i == 0 {
			_, _ = fmt.Fprintln(out)
		}
		where := ""
		if p.Where != "" {
			where = p.Where + ": "
		}
		if _, err := fmt.Fprintf(out, "%s  %s%s\n  -> %s\n", p.Code, where, p.Cause, p.Next); err != nil {
			return err
		}
	}
	return nil
}

// asker asks who sits before a terminal; nobody else.
type asker struct {
	in  *bufio.Reader
	out io.Writer
	can bool
}

func (a asker) answer(given, question, other string) string {
	if given != "" || !a.can {
		return cmp.Or(given, other)
	}
	_, _ = fmt.Fprintf(a.out, "%s [%s]: ", question, other)
	line, _ := a.in.ReadString('\n')
	return cmp.Or(strings.TrimSpace(line), other)
}

func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
