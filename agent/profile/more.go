package profile

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"coinop/hardware"
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
	if err := p.ownCards(chip); err != nil {
		return err
	}
	p.config += "    reader: {driver: pn532, port: " + p.path("reader") + ", keys_file: " + p.path(KeysFile) + "}\n"
	bus := p.path("behind") // the adapter, and no port of the computer's
	if err := os.MkdirAll(bus, 0o750); err != nil {
		return err
	}
	c, err := virtual.NewCash(virtual.CashConfig{Link: filepath.Join(bus, "bus"), Tubes: []int{20, 20, 20, 20, 20, -1}})
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

// KeysFile is where a profile with a reader of closed-loop cards has their keys: not secret, for the cards are none.
const KeysFile = "cards.keys"

const ownKeys = "mac 101112131415161718191A1B1C1D1E1F\nclassic 4 A0A1A2A3A4A5\n"

// ownCard is the card that is held to a reader when none is named.
const ownCard = "0000000001"

// A buyer takes away the card that was there, long enough for the reader to take it as another presentation, and
// holds one for a second.
const (
	tapAfter = 1100 * time.Millisecond
	tapFor   = time.Second
)

// ownCards adds the operator's own cards.
func (p *Profile) ownCards(chip *virtual.PN532) error {
	keys, err := hardware.ParseLoopKeys([]byte(ownKeys))
	if err != nil {
		return err
	}
	var taps atomic.Uint64
	p.command("tap", "[ID]", "hold a card of the operator's own to the reader: ten hex digits, "+ownCard+" without; coinop-cloud account opens an account for it", func(arg string) error {
		arg = cmp.Or(arg, ownCard)
		id, err := strconv.ParseUint(arg, 16, 40)
		if err != nil || len(arg) != len(ownCard) {
			return fmt.Errorf("%w: %q is not ten hex digits", ErrCommand, arg)
		}
		uid := binary.BigEndian.AppendUint32(nil, uint32(id)) //nolint:gosec // any will do
		card := virtual.MIFAREClassic(uid, []byte{0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5})
		card.Blocks[4] = keys.Reference(id, 1, uid)
		n := taps.Add(1)
		chip.Present()
		later := func(d time.Duration, cards ...*virtual.NFCCard) {
			time.AfterFunc(d, func() {
				if taps.Load() == n { // nobody has held another one to it
					chip.Present(cards...)
				}
			})
		}
		later(tapAfter, card)
		later(tapAfter + tapFor)
		return nil
	})
	return os.WriteFile(p.path(KeysFile), []byte(ownKeys), 0o600)
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
