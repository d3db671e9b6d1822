package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"coinop/agent"
	"coinop/configs"
	"coinop/hardware/probe"
	"coinop/protocol/code"
)

// wiring is what setup found, what does not fit, and the configuration that comes of it.
type wiring struct {
	Found    []probe.Found            `json:"found"`
	Problems []problem                `json:"problems"`
	File     string                   `json:"file,omitempty"` // that was written
	of       map[string][]probe.Found // by part
}

// known is what a person knows, and no port says.
type known struct{ identity, data, cloud, currency, price string }

// boardRelays is how many relays a board that setup finds has at least: so many it is asked for.
const boardRelays = 8

// moreReaders is how many a lane may have beside its first.
const moreReaders = 2

// bankFirst sorts readers: those for bank cards before those for an operator's own.
func bankFirst(f probe.Found) int {
	switch f.Driver {
	case "vivopay":
		return 0
	case "magstripe":
		return 1
	}
	return 2
}

// problem is something about the wiring that a technician should see to.
type problem struct {
	Where string `json:"where,omitempty"`
	code.Fault
}

// judge says what does not fit.
func judge(found []probe.Found) *wiring {
	of := map[string][]probe.Found{}
	w := &wiring{Found: found, Problems: []problem{}, of: of}
	wrong := func(where string, c code.Code) { w.Problems = append(w.Problems, problem{where, code.Of(c)}) }
	for _, f := range found {
		if f.Aside {
			continue
		}
		why := strings.Join(f.WhyNot, "\n")
		switch {
		case strings.Contains(why, "another process has it"):
			wrong(f.Path, code.SetupTaken)
		case strings.Contains(why, "kernel's console"):
			wrong(f.Path, code.SetupConsole)
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
	case !slices.ContainsFunc(found, func(f probe.Found) bool { return !f.Aside }):
		wrong("", code.SetupNoPorts)
	case len(vending) == 0:
		wrong("", code.SetupNoVending)
	case len(of["reader"]) == 0 && len(of["terminal"]) == 0 && len(of["cash"]) == 0:
		wrong("", code.SetupNobodyPays)
	}
	for _, part := range []string{"reader", "terminal", "scanner", "printer", "cash", "audit"} {
		most := max(1, len(vending))
		if part == "reader" && most == 1 { // the others of several machines could be anybody's
			most = 1 + moreReaders
			slices.SortStableFunc(of[part], func(a, b probe.Found) int { return cmp.Compare(bankFirst(a), bankFirst(b)) })
		}
		if len(of[part]) > most {
			wrong(of[part][len(of[part])-1].Path, code.SetupTooMany)
		}
	}
	if all := append(slices.Clone(of["terminal"]), of["reader"]...); len(of["terminal"]) > 0 && len(all) > max(1, len(vending)) {
		wrong(all[len(all)-1].Path, code.SetupTooMany) // one is in place of the other
	}
	for _, v := range vending {
		if v.Driver == "relay-board" {
			wrong(v.Path, code.SetupOutlets)
		}
	}
	return w
}

// lanes are those of the configuration. What hangs at a board's relays only its wires know: an outlet stands there for
// each, as an example that can be ordered by programs of this box alone.
func (w *wiring) lanes(k known) string {
	var b strings.Builder
	for i, v := range w.of["vending"] {
		fmt.Fprintf(&b, "  - vending:\n      driver: %s\n      port: %s\n", v.Driver, v.Path)
		if v.Driver == "relay-board" {
			b.WriteString("      outlets:                      # examples: remove what has no wire, look at name, price, pulses and on of the others,\n" +
				"                                    # and add button and feedback; all are numbers printed on the board\n")
			for n := range boardRelays {
				fmt.Fprintf(&b, "        - {number: %[1]d, name: Outlet %[1]d, price: %[2]s, relay: %[1]d, pulses: 1, on: 500ms}\n", n+1, k.price)
			}
		}
		for _, part := range []string{"terminal", "reader", "scanner", "printer", "audit", "cash"} {
			if i < len(w.of[part]) && (part != "reader" || i >= len(w.of["terminal"])) {
				fmt.Fprintf(&b, "    %s: {%s}\n", part, yaml(w.of[part][i]))
			}
		}
		if rs := w.of["reader"]; len(w.of["vending"]) == 1 && len(w.of["terminal"]) == 0 && len(rs) > 1 {
			b.WriteString("    readers:\n")
			for _, r := range rs[1:min(len(rs), 1+moreReaders)] {
				fmt.Fprintf(&b, "      - {%s}\n", yaml(r))
			}
		}
	}
	if w.board() {
		fmt.Fprintf(&b, "\n# Outlets without a button are ordered here, by a program of this box; port 0 is a free one, see %s.\nscreen: {listen: \"127.0.0.1:0\"}\n",
			filepath.Join(k.data, agent.ScreenFile))
	}
	if pins := slices.IndexFunc(w.Found, func(f probe.Found) bool { return f.Part == "pins" && f.Says != "" }); pins >= 0 {
		b.WriteString("\n# Pins of this computer; what hangs at them only its wires know: coinop-agent config explain board\n" +
			"# board:\n#   door: {pin: GPIO5}\n#   power:\n#     - {device: reader, pin: GPIO16}\n")
	}
	return b.String()
}

// board reports that a vending side is a relay board.
func (w *wiring) board() bool {
	return slices.ContainsFunc(w.of["vending"], func(f probe.Found) bool { return f.Driver == "relay-board" })
}

// yaml is what the configuration says of it, in braces.
func yaml(f probe.Found) string {
	words := []string{"driver: " + f.Driver, "port: " + f.Path}
	switch {
	case f.Part == "cash":
		words = append([]string{"owner: agent"}, words...)
	case f.Driver == "zvt":
		words[1] = fmt.Sprintf("address: %q", f.Path)
	case f.Driver == "pcsc":
		words = words[:1] // its name is with it
	}
	return strings.Join(append(words, f.With...), ", ")
}

// movable: the name changes when a cable is put elsewhere.
func movable(path string) bool {
	name := filepath.Base(path)
	return filepath.Dir(path) == "/dev" && (strings.HasPrefix(name, "ttyUSB") || strings.HasPrefix(name, "ttyACM"))
}

func (w *wiring) write(out string, force bool, k known, env []string) error {
	if len(w.of["vending"]) == 0 {
		return errors.New("no vending side was found, so there is nothing to sell at: no file was written")
	}
	text := fmt.Sprintf("# Written by coinop-agent setup. coinop-agent config explain says what else there is.\nidentity: %s\ndata: %s\ncloud: %s\ncurrency: %s\n\nlanes:\n%s",
		k.identity, k.data, k.cloud, k.currency, w.lanes(k))
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
