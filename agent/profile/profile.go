// Package profile is kinds of machines with virtual devices, to try a configuration and an agent without
// hardware: what stands on ptys speaks the same bytes as what stands in the field.
//
//	p, err := profile.Open("snack", dir)   // makes dir/vmc, dir/reader, dir/printer, dir/agent.yaml and dir/identity
//	go p.Run(ctx)
//	said, err := p.Do("select 11")         // a buyer presses a button
package profile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Names are the profiles.
func Names() []string { return slices.Sorted(maps.Keys(profiles)) }

// About says what stands in a profile.
func About(name string) string { return profiles[name].about }

// ConfigFile is the configuration in a profile's folder that names its devices.
const ConfigFile = "agent.yaml"

// Profile is a machine that stands.
type Profile struct {
	Name    string
	Dir     string
	Devices []Device
	config  string

	gave     func() int
	run      []func(context.Context) error
	commands map[string]command
}

// Device is one of its virtual devices, and where it is plugged in.
type Device struct {
	Part   string // vending, reader, terminal, scanner, printer, cash
	Driver string
	Path   string
	plug   func(in bool) error
}

type command struct {
	args string
	does string
	run  func(arg string) error
}

var profiles = map[string]struct {
	about string
	build func(*Profile) error
}{
	"snack":   {"a snack machine behind a Qibixx MDB adapter, a contactless reader, a receipt printer", (*Profile).snack},
	"kiosk":   {"the same with a coin changer and a bill validator that the agent drives", (*Profile).kiosk},
	"coffee":  {"a coffee machine behind a Waferstar MDB adapter, a contactless reader that is a HID device, a scanner that types", (*Profile).coffee},
	"canteen": {"a machine at its own MDB bus, a reader of closed-loop cards, a coin changer behind a Waferstar adapter", (*Profile).canteen},
	"parking": {"a barrier at a Modbus relay board, a payment terminal in the network (ZVT)", (*Profile).parking},
	"locker":  {"two lockers at a Modbus relay board, a cashless reader at an MDB bus of its own", (*Profile).locker},
	"laundry": {"two washers and a dryer at a Modbus relay board with a door switch, a contactless reader", (*Profile).laundry},
}

// ErrNoProfile means that there is no profile of that name. ErrCommand is a command that nobody knows, or
// that cannot be done now.
var (
	ErrNoProfile = errors.New("there is no such profile")
	ErrCommand   = errors.New("no such command")
)

// Open plugs the devices of a profile in, below dir, and writes the configuration, and an identity that no cloud
// knows unless there is one. Run serves the devices.
func Open(name, dir string) (*Profile, error) {
	build, ok := profiles[name]
	if !ok {
		return nil, fmt.Errorf("%w: %q; there are %s", ErrNoProfile, name, strings.Join(Names(), ", "))
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	p := &Profile{Name: name, Dir: dir, commands: map[string]command{}}
	p.commands["help"] = command{"", "say what there is to do", nil}
	p.command("unplug", "PART", "pull a cable: vending, reader, terminal, scanner, printer, cash", func(arg string) error { return p.plug(arg, false) })
	p.command("replug", "PART", "put it back", func(arg string) error { return p.plug(arg, true) })
	if err := build.build(p); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("# A %s of virtual devices: coinop-agent simulate %s.\nidentity: %s\ndata: %s\ncloud: 127.0.0.1:8883\ncurrency: EUR\n\nlanes:\n%s",
		name, name, p.path("identity"), p.path("data"), p.config)
	return p, errors.Join(identity(p.path("identity"), name+"-trial"), os.WriteFile(p.path(ConfigFile), []byte(text), 0o600))
}

func (p *Profile) path(name string) string { return filepath.Join(p.Dir, name) }

func (p *Profile) add(part, driver, path string, run func(context.Context) error, plug func(bool) error) {
	p.Devices = append(p.Devices, Device{part, driver, path, plug})
	p.run = append(p.run, run)
}

func (p *Profile) command(name, args, does string, run func(string) error) {
	p.commands[name] = command{args, does, run}
}

// Run serves the devices until ctx ends.
func (p *Profile) Run(ctx context.Context) error {
	var all sync.WaitGroup
	errs := make([]error, len(p.run))
	for i, run := range p.run {
		all.Go(func() {
			if err := run(ctx); ctx.Err() == nil {
				errs[i] = err
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Gave is how many items have come out, or outlets run.
func (p *Profile) Gave() int { return p.gave() }

// Do is one command of a person at the machine; what it says is empty when there is nothing to say.
func (p *Profile) Do(line string) (string, error) {
	name, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	c, ok := p.commands[name]
	switch {
	case !ok:
		return "", fmt.Errorf("%w: %q; help says what there is", ErrCommand, name)
	case c.run == nil:
		return p.Help(), nil
	}
	return "", c.run(strings.TrimSpace(arg))
}

// Help is a line a command.
func (p *Profile) Help() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.commands)) {
		fmt.Fprintf(&b, "  %-16s %s\n", strings.TrimSpace(name+" "+p.commands[name].args), p.commands[name].does)
	}
	return b.String()
}

// selects is the command that presses a button of a machine.
func (p *Profile) selects(arg, does string, press func(protocol.Outlet) error) {
	p.command("select", arg, does, func(s string) error {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return fmt.Errorf("%w: %q is no number of a button", ErrCommand, s)
		}
		return press(protocol.Outlet(n))
	})
}

func (p *Profile) plug(part string, in bool) error {
	i := slices.IndexFunc(p.Devices, func(d Device) bool { return d.Part == part })
	if i < 0 {
		return fmt.Errorf("%w: no %q stands here", ErrCommand, part)
	}
	return p.Devices[i].plug(in)
}

func plugs(out, in func() error) func(bool) error {
	return func(on bool) error {
		if on {
			return in()
		}
		return out()
	}
}

func quiet(f func()) func() error { return func() error { f(); return nil } }

var snacks = []virtual.Product{{Outlet: 11, Price: money.New(150, money.EUR)}, {Outlet: 12, Price: money.New(220, money.EUR)}}

func (p *Profile) snack() error {
	m, err := virtual.NewMachine(virtual.MachineConfig{Link: p.path("vmc"), Products: snacks, VendTime: time.Second})
	if err != nil {
		return err
	}
	p.gave = func() int { return m.View().Drops }
	p.add("vending", "qibixx", p.path("vmc"), m.Run, plugs(m.Unplug, m.Replug))
	p.selects("ITEM", "press a button of the machine: 11, 12", m.Select)
	p.command("cancel", "", "press the machine's return button", func(string) error { return m.Cancel() })
	p.command("jam", "", "the next item does not fall", func(string) error { return m.Misbehave(virtual.FaultFail) })
	p.config += "  - vending:\n      driver: qibixx\n      port: " + p.path("vmc") + "\n      products:\n        - {item: 11, name: Cola, price: 1.50}\n        - {item: 12, name: Crisps, price: 2.20}\n"
	return errors.Join(p.reader(), p.printer())
}

func (p *Profile) reader() error { return p.readerAt(virtual.ReaderConfig{}) }

func (p *Profile) readerAt(cfg virtual.ReaderConfig) error {
	cfg.Link = p.path("reader")
	r, err := virtual.NewReader(cfg)
	if err != nil {
		return err
	}
	p.add("reader", "vivopay", p.path("reader"), r.Run, plugs(quiet(r.Unplug), r.Replug))
	p.command("tap", "[visa|mastercard|maestro]", "present a card", func(arg string) error {
		cards := map[string]virtual.Tap{"": virtual.VisaTest(), "visa": virtual.VisaTest(), "mastercard": virtual.MastercardTest(), "maestro": virtual.MaestroTest()}
		t, ok := cards[arg]
		if !ok {
			return fmt.Errorf("%w: no card %q", ErrCommand, arg)
		}
		return r.Tap(t)
	})
	p.config += "    reader: {driver: vivopay, port: " + p.path("reader") + "}\n"
	return nil
}

func (p *Profile) printer() error {
	pr, err := virtual.NewPrinter(virtual.PrinterConfig{Link: p.path("printer"), Pictures: p.path("receipts")})
	if err != nil {
		return err
	}
	p.add("printer", "escpos", p.path("printer"), pr.Run, plugs(quiet(pr.Unplug), pr.Replug))
	p.command("paper", "out|in", "take the paper out, or put it back", func(arg string) error {
		pr.Set(virtual.PrinterTrouble{PaperOut: arg == "out"})
		return nil
	})
	p.config += "    printer: {driver: escpos, port: " + p.path("printer") + "}\n"
	return nil
}

func (p *Profile) kiosk() error {
	if err := p.snack(); err != nil {
		return err
	}
	c, err := virtual.NewCash(virtual.CashConfig{Link: p.path("cash"), Tubes: []int{20, 20, 20, 20, 20, -1}})
	if err != nil {
		return err
	}
	p.add("cash", "mdb", p.path("cash"), c.Run, plugs(quiet(c.Unplug), c.Replug))
	p.coins(c)
	p.config += "    cash: {owner: agent, port: " + p.path("cash") + "}\n"
	return nil
}

// coins adds what is done with coins and bills.
func (p *Profile) coins(c *virtual.Cash) {
	number := func(arg string, do func(int) error) error {
		n, err := strconv.Atoi(arg)
		if err != nil {
			return fmt.Errorf("%w: %q is no number", ErrCommand, arg)
		}
		return do(n)
	}
	p.command("coin", "TYPE", "put a coin in: 0 to 5 are 0.05, 0.10, 0.20, 0.50, 1.00, 2.00", func(arg string) error { return number(arg, c.Coin) })
	p.command("bill", "TYPE", "put a bill in: 0 to 2 are 5.00, 10.00, 20.00", func(arg string) error { return number(arg, c.Bill) })
	p.command("lever", "", "press the changer's return lever", func(string) error { c.Lever(); return nil })
}

func (p *Profile) laundry() error {
	b, err := virtual.NewBoard(virtual.BoardConfig{Link: p.path("board"), Outlets: []virtual.BoardOutlet{
		{Product: virtual.Product{Outlet: 1, Price: money.New(300, money.EUR)}, Relay: 1, Pulses: 6, Feedback: 1, Button: 5},
		{Product: virtual.Product{Outlet: 2, Price: money.New(300, money.EUR)}, Relay: 2, Pulses: 6, Feedback: 2, Button: 6},
		{Product: virtual.Product{Outlet: 3, Price: money.New(100, money.EUR)}, Relay: 3, Button: 7},
	}})
	if err != nil {
		return err
	}
	p.gave = func() int { return b.View().Drops }
	p.add("vending", "relay-board", p.path("board"), b.Run, plugs(b.Unplug, b.Replug))
	p.selects("OUTLET", "press the button of an outlet: 1, 2, 3", b.Press)
	p.command("door", "open|shut", "the service door", func(arg string) error { return b.Hold(8, arg == "open") })
	p.config += `  - vending:
      driver: relay-board
      port: ` + p.path("board") + `
      door: 8
      outlets:
        - {number: 1, name: Washer 1, price: 3.00, relay: 1, pulses: 6, on: 100ms, off: 100ms, feedback: 1, button: 5}
        - {number: 2, name: Washer 2, price: 3.00, relay: 2, pulses: 6, on: 100ms, off: 100ms, feedback: 2, button: 6}
        - {number: 3, name: Dryer, price: 1.00, relay: 3, on: 500ms, button: 7}
`
	return p.reader()
}
