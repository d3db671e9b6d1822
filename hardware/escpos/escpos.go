// Package escpos is receipt printers that take ESC/POS, on a serial line or a USB printer device.
//
//	p := escpos.New(escpos.Config{Path: "/dev/usb/lp0"}, out)
//	go hardware.Supervise(ctx, "printer", p.Open, out)
//	p.Print(7, page)          // then hardware.Printed{Job: 7}
//
// A job that was taken ends with exactly one Printed: with no reason when the printer said that all of
// it was worked through, else with the reason; what came out is then for eyes to see. A printer that
// never says anything (a cable with one way) prints all the same, and each job ends unconfirmed.
package escpos

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/hardware/paper"

	"golang.org/x/sys/unix"
)

// Config is one printer. The zero value of a field is its default.
type Config struct {
	Device string         // its name in Health; "printer"
	Path   string         // of the tty, or of the USB printer device, /dev/usb/lp0; required
	Baud   int            // of a tty; 115,200
	Clock  hardware.Clock // starts at New
}

// Printer is a hardware.Printer.
type Printer struct {
	cfg   Config
	out   func(hardware.Event)
	state State
	port  hardware.Port
	box   hardware.Mailbox
}

var _ hardware.Printer = (*Printer)(nil)

// New opens and starts nothing.
func New(cfg Config, out func(hardware.Event)) *Printer {
	cfg.Device, cfg.Baud = cmp.Or(cfg.Device, "printer"), cmp.Or(cfg.Baud, 115200)
	if cfg.Clock == nil {
		cfg.Clock = hardware.Since()
	}
	return &Printer{cfg: cfg, out: out, state: NewState(cfg.Device)}
}

// Open opens the device for one Run; it is what Supervise calls.
func (p *Printer) Open(context.Context) (hardware.Driver, error) {
	var err error
	if strings.HasPrefix(p.cfg.Path, "/dev/usb/") { // no serial line: it has no speed
		p.port, err = openRaw(p.cfg.Path)
	} else {
		p.port, err = hardware.OpenTTY(p.cfg.Path, p.cfg.Baud)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// openRaw opens a USB printer device. The kernel lets one process have it at a time.
func openRaw(path string) (hardware.Port, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0) //nolint:gosec // configured
	if err != nil {
		return nil, err
	}
	if err := f.SetWriteDeadline(time.Time{}); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open %s: no printer device: %w", path, err)
	}
	return f, nil
}

// Run serves the opening until the port fails, a printer that had spoken falls silent, or ctx ends.
// Only after Open.
func (p *Printer) Run(ctx context.Context) error {
	step := func(now time.Duration, in any) (o hardware.Output) {
		p.state, o = p.state.Step(now, in)
		return o
	}
	return hardware.Serve(ctx, p.port, p.cfg.Clock, step, &p.box, p.out)
}

type job struct {
	id    uint32
	bytes []byte
}

// Print queues a page.
func (p *Printer) Print(id uint32, page paper.Page) error {
	return p.box.Post(job{id, Bytes(page)})
}
