package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/agent/profile"
	"coinop/hardware"
	"coinop/hardware/probe"
	"coinop/hardware/virtual"
	"coinop/protocol/code"
)

// stands opens a profile and serves it.
func stands(t *testing.T, name string) *profile.Profile {
	t.Helper()
	p, err := profile.Open(name, filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, p)
	return p
}

func serve(t *testing.T, p *profile.Profile) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// set runs setup and gives what it found.
func set(t *testing.T, args ...string) (status int, w wiring, errs string) {
	t.Helper()
	status, out, errs := call(t, nil, append([]string{"setup", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &w); err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, out, errs)
	}
	return status, w, errs
}

func (w wiring) codes() (all []string) {
	for _, p := range w.Problems {
		all = append(all, string(p.Code))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// On each profile's bench every device is named, and the file that is written is good; with it the agent starts
// and its devices are ready.
func TestSetup(t *testing.T) {
	t.Parallel()
	for _, name := range profile.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := stands(t, name)
			id := newIdentity(t, t.TempDir())
			file, data := filepath.Join(t.TempDir(), "agent.yaml"), filepath.Join(t.TempDir(), "data")
			args := []string{"--port", p.Dir + "/*", "--out", file, "--identity", id, "--data", data, "--cloud", "127.0.0.1:1", "--currency", "EUR"}
			for _, d := range p.Devices {
				if d.Driver == "zvt" {
					args = append(args, "--terminal", d.Path)
				}
			}
			_, w, errs := set(t, args...)
			if len(w.Found) != len(p.Devices) || errs != "" {
				t.Fatalf("%d found of %d: %+v\n%s", len(w.Found), len(p.Devices), w, errs)
			}
			for _, d := range p.Devices {
				i := slices.IndexFunc(w.Found, func(f probe.Found) bool { return f.Path == d.Path })
				if i < 0 || w.Found[i].Part != d.Part || w.Found[i].Driver != d.Driver || w.Found[i].Sure == (d.Driver == "keyboard") {
					t.Errorf("%s at %s is not named: %+v", d.Driver, d.Path, w.Found)
				}
			}
			if code, out, _ := call(t, nil, "config", "check", "--here", file); code != 0 {
				t.Errorf("%s", out)
			}
			if code, _, errs := call(t, nil, "setup", "--port", p.Dir+"/*", "--out", file, "--json"); code != exitFailure || !strings.Contains(errs, "--force") {
				t.Errorf("written over: %d %s", code, errs)
			}
			sells := func() bool { return true } // where nobody but a bank can say yes, TestSetupSells of sim/demo does
			if name == "kiosk" || name == "canteen" {
				chosen := time.Time{}
				sells = func() bool {
					if time.Since(chosen) > 5*time.Second {
						chosen = time.Now()
						_, _ = p.Do("select 11")
					}
					_, _ = p.Do("coin 4")
					return p.Gave() > 0
				}
			}
			ready(t, file, len(p.Devices), sells)
		})
	}
}

// ready runs the agent with a file until its devices are, and then until it sells.
func ready(t *testing.T, file string, devices int, sells func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var log shared
	var end sync.WaitGroup
	end.Go(func() { execute(ctx, []string{"run", "--config", file}, nil, &log, &log) })
	defer end.Wait()
	defer cancel()
	for until := time.Now().Add(20 * time.Second); strings.Count(log.String(), "state=ready") < devices; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d devices are not ready:\n%s", devices, log.String())
		}
	}
	for until := time.Now().Add(20 * time.Second); !sells(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("it does not sell:\n%s", log.String())
		}
	}
}

// Each wiring that is wrong is named.
func TestSetupNamesWrongWirings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	snack, other, laundry := stands(t, "snack"), stands(t, "snack"), stands(t, "laundry")
	at := func(p *profile.Profile, name string) string { return filepath.Join(p.Dir, name) }
	link := func(name, to string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	off := func() string {
		m := must[*virtual.Machine](t)(virtual.NewMachine(virtual.MachineConfig{}))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		if err := m.Mute(true); err != nil {
			t.Fatal(err)
		}
		return m.Path()
	}
	locker, spare := stands(t, "locker"), stands(t, "snack")
	taken := stands(t, "snack")
	port, err := hardware.OpenTTY(at(taken, "reader"), 9600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = port.Close() })
	printer := stands(t, "snack")
	if _, err := printer.Do("paper out"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		ports []string
		want  code.Code
	}{
		{"nothing is in", []string{filepath.Join(dir, "*-none-*")}, code.SetupNoPorts},
		{"no machine", []string{at(snack, "reader"), at(snack, "printer")}, code.SetupNoVending},
		{"nobody can pay", []string{at(other, "vmc"), at(other, "printer")}, code.SetupNobodyPays},
		{"a device is off", []string{off()}, code.SetupSilent},
		{"a device is off, its name is known", []string{link("usb-Qibixx_MDB-HAT_1-if00", off())}, code.SetupNameOnly},
		{"the agent runs", []string{at(taken, "reader")}, code.SetupTaken},
		{"the cable is out", []string{filepath.Join(dir, "usb-ID_TECH_VP3300-if00")}, code.PortAbsent},
		{"a relay board", []string{at(laundry, "board")}, code.SetupOutlets},
		{"a reader beside a terminal", []string{at(locker, "board"), at(locker, "reader"), at(spare, "reader")}, code.SetupTooMany},
		{"the paper is out", []string{at(printer, "printer")}, code.SetupPrinterOffline},
	} {
		t.Run(c.name, func(t *testing.T) { // each at ports of its own: two askers at one would disturb each other
			t.Parallel()
			var args []string
			for _, p := range c.ports {
				args = append(args, "--port", p)
			}
			status, w, errs := set(t, args...)
			if !slices.Contains(w.codes(), string(c.want)) || status != exitProblem {
				t.Errorf("ends with %d, names %v, want %s\n%+v\n%s", status, w.codes(), c.want, w.Found, errs)
			}
			for _, p := range w.Problems {
				if p.Next == "" {
					t.Errorf("%s is not in the catalogue", p.Code)
				}
			}
		})
	}
	if w := judge([]probe.Found{{Path: "/dev/ttyUSB0", Part: "vending", Driver: "qibixx", Sure: true}}); !slices.Contains(w.codes(), string(code.SetupMovable)) {
		t.Errorf("%v", w.codes())
	}
	if w := judge([]probe.Found{{Path: "/dev/ttyAMA0", WhyNot: []string{"it is the kernel's console"}}}); !slices.Contains(w.codes(), string(code.SetupConsole)) {
		t.Errorf("%v", w.codes())
	}
}

// TestSetupReaders: of a machine with several readers the one for bank cards is the first in the file, and the others
// stand beside it; more than a lane can have, and those of nobody knows which machine, are named.
func TestSetupReaders(t *testing.T) {
	t.Parallel()
	kiosk, canteen := stands(t, "kiosk"), stands(t, "canteen")
	file := filepath.Join(t.TempDir(), "agent.yaml")
	chip, bank := filepath.Join(canteen.Dir, "reader"), filepath.Join(kiosk.Dir, "reader")
	_, w, errs := set(t, "--port", chip, "--port", filepath.Join(kiosk.Dir, "vmc"), "--port", bank, "--out", file,
		"--identity", newIdentity(t, t.TempDir()), "--data", filepath.Join(t.TempDir(), "data"), "--cloud", "127.0.0.1:1", "--currency", "EUR")
	text, err := os.ReadFile(file)
	want := "    reader: {driver: vivopay, port: " + bank + "}\n    readers:\n      - {driver: pn532, port: " + chip + "}\n"
	if err != nil || !strings.Contains(string(text), want) || len(w.Problems) != 0 {
		t.Fatalf("%v %s%+v\n%s", err, errs, w.Problems, text)
	}
	ready(t, file, 3, func() bool { return true })

	machine := probe.Found{Path: "/dev/serial/by-id/a", Part: "vending", Driver: "qibixx", Sure: true}
	reader := probe.Found{Path: "/dev/serial/by-id/b", Part: "reader", Driver: "vivopay", Sure: true}
	terminal := probe.Found{Path: "192.168.1.40:20007", Part: "terminal", Driver: "zvt", Sure: true}
	for name, c := range map[string]struct {
		found []probe.Found
		want  bool
	}{
		"three at a machine":               {[]probe.Found{machine, reader, reader, reader}, false},
		"four at a machine":                {[]probe.Found{machine, reader, reader, reader, reader}, true},
		"three at two machines":            {[]probe.Found{machine, machine, reader, reader, reader}, true},
		"a reader beside a terminal":       {[]probe.Found{machine, reader, terminal}, true},
		"two readers beside a terminal":    {[]probe.Found{machine, reader, reader, terminal}, true},
		"a reader for each of two, in all": {[]probe.Found{machine, machine, reader, reader}, false},
	} {
		w := judge(c.found)
		if got := slices.Contains(w.codes(), string(code.SetupTooMany)); got != c.want {
			t.Errorf("%s: too many %v", name, got)
		}
		if lanes := w.lanes(known{}); hasPart(c.found, "terminal") && strings.Contains(lanes, "reader") {
			t.Errorf("%s: both are written:\n%s", name, lanes)
		}
	}
}

// What cannot stand on a bench is written so that the file is good all the same.
func TestSetupWrites(t *testing.T) {
	t.Parallel()
	board := probe.Found{Path: "/dev/serial/by-id/usb-RS485-if00", Part: "vending", Driver: "relay-board", Sure: true}
	for name, c := range map[string]struct {
		found probe.Found
		want  string
	}{
		"a reader behind pcscd":   {probe.Found{Path: "pcscd:ACS ACR122U 00 00", Part: "reader", Driver: "pcsc", With: []string{`name: "ACS ACR122U 00 00"`}}, `reader: {driver: pcsc, name: "ACS ACR122U 00 00"}`},
		"a head that encrypts":    {probe.Found{Path: "/dev/hidraw3", Part: "reader", Driver: "magstripe", With: []string{"head: magtek"}}, "reader: {driver: magstripe, port: /dev/hidraw3, head: magtek}"},
		"a chip at an I2C bus":    {probe.Found{Path: "/dev/i2c-1", Part: "reader", Driver: "pn532"}, "reader: {driver: pn532, port: /dev/i2c-1}"},
		"a second cashless":       {probe.Found{Path: "/dev/ttyS4", Part: "terminal", Driver: "mdb", With: []string{`bus_address: "60"`}}, "bus_address: \"60\"}"},
		"a terminal":              {probe.Found{Path: "192.168.1.40:20007", Part: "terminal", Driver: "zvt"}, `terminal: {driver: zvt, address: "192.168.1.40:20007"}`},
		"a changer at an adapter": {probe.Found{Path: "/dev/ttyS5", Part: "cash", Driver: "waferstar"}, "cash: {owner: agent, driver: waferstar, port: /dev/ttyS5}"},
		"a price of outlets":      {probe.Found{Aside: true}, "{number: 8, name: Outlet 8, price: 2.50, relay: 8,"},
		"a screen of outlets":     {probe.Found{Aside: true}, "/var/lib/coinop/screen.addr.\nscreen: {listen: \"127.0.0.1:0\"}\n"},
		"pins":                    {probe.Found{Path: "/dev/gpiochip0", Part: "pins", Driver: "gpio", Says: "pinctrl, 54 lines", Aside: true}, "# board:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "agent.yaml")
			if err := judge([]probe.Found{board, c.found}).write(file, false, known{"/etc/coinop/identity", "/var/lib/coinop", "127.0.0.1:1", "EUR", "2.50"}, nil); err != nil {
				t.Error(err)
			}
			if text, _ := os.ReadFile(file); !strings.Contains(string(text), c.want) {
				t.Errorf("%s", text)
			}
		})
	}
}

// At most three questions are asked, and none of who does not sit before a terminal.
func TestSetupAsks(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	a := asker{in: bufio.NewReader(strings.NewReader("192.168.1.40:20007\n\nCHF\nnever\n")), out: &said, can: true, left: 3}
	got := []string{a.answer("", "terminal", ""), a.answer("", "cloud", "c"), a.answer("given", "data", ""), a.answer("", "currency", "EUR"), a.answer("", "identity", "/etc")}
	if want := []string{"192.168.1.40:20007", "c", "given", "CHF", "/etc"}; !slices.Equal(got, want) || strings.Count(said.String(), "?")+strings.Count(said.String(), "]: ") != 3 {
		t.Errorf("%q, asked %q", got, said.String())
	}
	if quiet := (asker{left: 3}); quiet.answer("", "cloud", "c") != "c" {
		t.Error("it asked nobody")
	}
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	if code, _, errs := call(t, nil, "simulate", "boat", "--dir", t.TempDir()); code != exitUsage || !strings.Contains(errs, "kiosk, laundry, locker, parking, snack") {
		t.Errorf("%d %s", code, errs)
	}
	dir := t.TempDir()
	code, out, errs := call(t, nil, "simulate", "kiosk", "--dir", dir) // the test's stdin ends at once, and so does it
	_, next, _ := strings.Cut(out, "Next, in another terminal: coinop-agent ")
	next, _, _ = strings.Cut(next, "\n")
	if code != 0 || next != "run --config "+filepath.Join(dir, profile.ConfigFile) {
		t.Errorf("%d %s%s", code, out, errs)
	}
	kept := must[[]byte](t)(os.ReadFile(filepath.Join(dir, "identity", "device.key")))
	p := must[*profile.Profile](t)(profile.Open("kiosk", dir)) // again, at the same place
	if again := must[[]byte](t)(os.ReadFile(filepath.Join(dir, "identity", "device.key"))); !bytes.Equal(kept, again) {
		t.Error("the identity is another")
	}
	serve(t, p)
	if code, out, errs := call(t, nil, "config", "check", "--here", filepath.Join(dir, profile.ConfigFile)); code != 0 {
		t.Errorf("%d %s%s", code, out, errs)
	}
	ready(t, filepath.Join(dir, profile.ConfigFile), len(p.Devices), func() bool { return true }) // what it said is next
	for _, line := range []string{"unplug reader", "replug reader", "door open", "coin", "select x", "tap amex", "dance"} {
		_, err := p.Do(line)
		if good := strings.HasPrefix(line, "unplug") || strings.HasPrefix(line, "replug"); (err == nil) != good {
			t.Errorf("%s: %v", line, err)
		}
	}
	if said, err := p.Do("help"); err != nil || !strings.Contains(said, "coin TYPE") {
		t.Errorf("%s %v", said, err)
	}
}
