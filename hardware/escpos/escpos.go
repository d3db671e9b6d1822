// Package escpos is receipt printers that take ESC/POS: on a serial line, a USB printer device, or TCP.
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
	"time"

	"coinop/hardware"
	"coinop/hardware/paper"
)

// Config is one printer. The zero value of a field is its default.
type Config struct {
	Device string         // its name in Health; "printer"
	Path   string         // of the tty, or of the USB printer device, /dev/usb/lp0; or host:port, usually 9100; required
	Baud   int            // of a tty; 115,200
	Clock  hardware.Clock // starts at New
	// Proof is how long a printer may work at a job before it says so: 10 s, half a metre at 50 mm/s.
	Proof time.Duration
}

// Printer is a hardware.Printer.
type Printer struct {
	hardware.Driven
	cfg   Config
	state State
	box   hardware.Mailbox
	// status asks the kernel how a USB printer is; nil: not at USB.
	status func() (lpStatus, bool)
}

var _ hardware.Printer = (*Printer)(nil)

// New opens and starts nothing.
func New(cfg Config, out func(hardware.Event)) *Printer {
	cfg.Device, cfg.Baud = cmp.Or(cfg.Device, "printer"), cmp.Or(cfg.Baud, 115200)
	if cfg.Clock == nil {
		cfg.Clock = hardware.Since()
	}
	p := &Printer{cfg: cfg, state: NewState(cfg.Device)}
	p.state.patience = cmp.Or(cfg.Proof, proofTime)
	p.Driven = hardware.Drive(p.open, cfg.Clock, p.step, &p.box, out)
	return p
}

func (p *Printer) open(ctx context.Context) (port hardware.Port, err error) {
	port, p.status, err = open(ctx, p.cfg.Path, p.cfg.Baud)
	return port, err
}

// step looks at the status of a printer that does not speak, beside its machine's time.
func (p *Printer) step(now time.Duration, in any) (o hardware.Output) {
	if _, tick := in.(hardware.Wake); tick && p.status != nil && p.state.blind && !p.state.spoke && (!p.state.busy || p.state.proof > 0) {
		if b, ok := p.status(); ok {
			p.state, o = p.state.Step(now, b)
		}
	}
	var more hardware.Output
	p.state, more = p.state.Step(now, in)
	return hardware.Output{Do: append(o.Do, more.Do...), Wake: more.Wake, End: more.End}
}

type job struct {
	id    uint32
	bytes []byte
}

// Print queues a page.
func (p *Printer) Print(id uint32, page paper.Page) error {
	return p.box.Post(job{id, Bytes(page)})
}
