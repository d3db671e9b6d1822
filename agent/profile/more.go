package profile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// keyboardScanner is a name as the kernel's for a scanner that types: it is all that speaks for one.
const keyboardScanner = "usb-Honeywell_Barcode_Scanner-event-kbd"

// machine is one that its maker's controller drives, as a bench sees it.
type machine interface {
	Run(ctx context.Context) error
	Select(o protocol.Outlet) error
	Cancel() error
	View() virtual.View
	Unplug() error
	Replug() error
}

// vmc adds a machine and its buttons.
func (p *Profile) vmc(driver string, m machine) {
	p.gave = func() int { return m.View().Drops }
	p.add("vending", driver, p.path("vmc"), m.Run, plugs(m.Unplug, m.Replug))
	p.selects("ITEM", "press a button of the machine: 11, 12", m.Select)
	p.command("cancel", "", "press the machine's return button", func(string) error { return m.Cancel() })
	p.config += "  - vending:\n      driver: " + driver + "\n      port: " + p.path("vmc") + "\n"
}

func (p *Profile) controller() virtual.ControllerConfig {
	return virtual.ControllerConfig{MachineConfig: virtual.MachineConfig{Link: p.path("vmc"), Products: snacks, VendTime: time.Second}, Pause: 25 * time.Millisecond}
}

func (p *Profile) coffee() error {
	m, err := virtual.NewWaferMachine(p.controller())
	if err != nil {
		return err
	}
	p.vmc("waferstar", m)
	s, err := virtual.NewScanner(p.path(keyboardScanner), virtual.ScannerKeyboard)
	if err != nil {
		return err
	}
	p.add("scanner", "keyboard", p.path(keyboardScanner), s.Run, plugs(quiet(s.Unplug), s.Replug))
	p.command("show", "CODE", "hold a barcode or QR code before the scanner", s.Show)
	p.config += "    scanner: {driver: keyboard, port: " + p.path(keyboardScanner) + "}\n"
	return p.readerAt(virtual.ReaderConfig{HID: true})
}

func (p *Profile) canteen() error {
	m, err := virtual.NewController(p.controller())
	if err != nil {
		return err
	}
	p.vmc("mdb-raw", m)
	chip, err := virtual.NewPN532(p.path("reader"))
	if err != nil {
		return err
	}
	p.add("reader", "pn532", p.path("reader"), chip.Run, plugs(quiet(chip.Unplug), chip.Replug))
	p.config += "    reader: {driver: pn532, port: " + p.path("reader") + "}\n"
	c, err := virtual.NewCash(virtual.CashConfig{Tubes: []int{20, 20, 20, 20, 20, -1}})
	if err != nil {
		return err
	}
	a, err := virtual.NewWaferAdapter(p.path("cash"), c.Path())
	if err != nil {
		return err
	}
	p.run = append(p.run, c.Run)
	p.add("cash", "waferstar", p.path("cash"), a.Run, plugs(quiet(c.Unplug), c.Replug))
	p.coins(c)
	p.config += "    cash: {owner: agent, driver: waferstar, port: " + p.path("cash") + "}\n"
	return nil
}

// relays adds a board with an outlet a price.
func (p *Profile) relays(names []string, price int64) error {
	var outlets []virtual.BoardOutlet
	p.config += "  - vending:\n      driver: relay-board\n      port: " + p.path("board") + "\n      outlets:\n"
	for i, name := range names {
		n := i + 1
		outlets = append(outlets, virtual.BoardOutlet{Product: virtual.Product{Outlet: protocol.Outlet(n), Price: money.New(price, money.EUR)}, Relay: n, Button: 4 + n}) //nolint:gosec // a few
		p.config += fmt.Sprintf("        - {number: %d, name: %s, price: %s, relay: %d, on: 500ms, button: %d}\n", n, name, money.New(price, money.EUR).Decimal(), n, 4+n)
	}
	b, err := virtual.NewBoard(virtual.BoardConfig{Link: p.path("board"), Outlets: outlets})
	if err != nil {
		return err
	}
	p.gave = func() int { return b.View().Drops }
	p.add("vending", "relay-board", p.path("board"), b.Run, plugs(b.Unplug, b.Replug))
	p.selects("OUTLET", "press the button of an outlet", b.Press)
	return nil
}

func (p *Profile) parking() error {
	if err := p.relays([]string{"Barrier"}, 500); err != nil {
		return err
	}
	t, err := virtual.NewTerminal(virtual.TerminalConfig{})
	if err != nil {
		return err
	}
	p.add("terminal", "zvt", t.Address(), t.Run, plugs(quiet(t.Unplug), quiet(t.Replug)))
	p.config += "    terminal: {driver: zvt, address: \"" + t.Address() + "\"}\n"
	return nil
}

func (p *Profile) locker() error {
	err1 := p.relays([]string{"Small", "Large"}, 200)
	r, err2 := virtual.NewBusReader(virtual.BusReaderConfig{Link: p.path("reader")})
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	p.add("terminal", "mdb", p.path("reader"), r.Run, plugs(quiet(r.Unplug), r.Replug))
	p.config += "    terminal: {driver: mdb, port: " + p.path("reader") + "}\n"
	return nil
}
