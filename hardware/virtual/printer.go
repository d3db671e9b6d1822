package virtual

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"time"

	"coinop/hardware/paper"
)

// PrinterConfig is one ESC/POS receipt printer. The zero value of a field is its default.
type PrinterConfig struct {
	Link     string // symlink to the pty; none
	TCP      bool   // it is at a network in place of a pty: one client at a time, a second is reset
	Simple   bool   // it knows no process ids
	Columns  int    // of font A on its paper; 48
	Pictures string // folder that gets a PNG of each receipt that was cut off; none
	Keep     int    // pictures kept there, the last ones; 20
}

// PrinterTrouble is what is wrong with it.
type PrinterTrouble struct {
	PaperLow, PaperOut, CoverOpen, Cutter bool
	Mute                                  bool // it says nothing, and prints
	Hung                                  bool // it takes nothing from the line
}

func (t PrinterTrouble) stopped() bool { return t.PaperOut || t.CoverOpen || t.Cutter }

// PrinterView is what can be seen of it.
type PrinterView struct {
	Cuts     int            // receipts cut off
	Last     image.Image    // the last of them
	Lines    int            // on the receipt that it prints
	Unknown  []string       // commands it does not know: a driver's mistake
	Trouble  PrinterTrouble //
	Asked    int            // DLE EOT heard
	Recovers int            // DLE ENQ heard
	Drawer   int            // pulses at its connector
	Resets   int            // clients that it had no place for
	Tallest  int            // rows of the tallest band of a picture
}

// Printer is the printer: it understands the bytes by itself and draws what they say, dot by dot.
type Printer struct {
	cfg  PrinterConfig
	port *port

	watch
	seen   PrinterView
	in     []byte // not worked through yet
	now    []byte // of a DLE EOT that is not whole yet
	auto   byte   // GS a
	mode          // what commands have set
	column int
	line   []drawn // characters that wait for a line feed
	y      int
	sheet  *paper.Sheet
	outAt  int // the paper ends after so many lines more; 0: it lasts
	err    error
}

// NewPrinter opens the pty; it starts nothing.
func NewPrinter(cfg PrinterConfig) (*Printer, error) {
	if cfg.Columns == 0 {
		cfg.Columns = paper.Width80
	}
	if cfg.Keep == 0 {
		cfg.Keep = 20
	}
	open := func() (*port, error) { return newPort(cfg.Link) }
	if cfg.TCP {
		open = func() (*port, error) { return newSocket("tcp", "127.0.0.1:0") }
	}
	p, err := open()
	return &Printer{cfg: cfg, port: p, sheet: paper.NewSheet(cfg.Columns), mode: reset()}, err
}

// Feed gives it bytes beside the line, as from another program.
func (p *Printer) Feed(b []byte) { p.hear(b) }

// Path is what the agent opens: the tty, the link to it where there is one, or host:port.
func (p *Printer) Path() string { return p.port.name() }

// Run is the printer's life; it ends with ctx, unplugged. The error may be that of a picture.
func (p *Printer) Run(ctx context.Context) error {
	err := p.port.read(ctx, func(b []byte) {
		for p.hung() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		p.hear(b)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	return err
}

func (p *Printer) hung() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.Trouble.Hung
}

// Unplug takes the cable out; Replug puts it back.
func (p *Printer) Unplug() { p.port.unplug() }

// Replug puts the cable back: a new pty behind the same link.
func (p *Printer) Replug() error { return p.port.replug() }

// View is what can be seen now.
func (p *Printer) View() PrinterView {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.Resets = p.port.resets()
	return p.seen
}

// Wait waits until ok is true of what can be seen.
func (p *Printer) Wait(ctx context.Context, ok func(PrinterView) bool) error {
	return await(ctx, &p.watch, func() PrinterView { return p.seen }, ok)
}

// Set makes something wrong with it, or right again: what waits in its buffer is then printed.
func (p *Printer) Set(t PrinterTrouble) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble(t)
	p.work()
	p.tell()
}

// PaperOutAfter lets the paper end after so many lines more.
func (p *Printer) PaperOutAfter(lines int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outAt = lines
}

func (p *Printer) trouble(t PrinterTrouble) {
	changed := t != p.seen.Trouble
	p.seen.Trouble = t
	if changed && p.auto != 0 {
		p.say(p.automatic()...)
	}
}

func (p *Printer) say(b ...byte) {
	if !p.seen.Trouble.Mute {
		_ = p.port.write(b)
	}
}

func (p *Printer) hear(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// DLE EOT is answered when it comes, before what waits, and wherever it stands: in a picture too.
	for _, c := range b {
		switch n := len(p.now); {
		case n == 2 && p.now[1] == 0x05:
			p.seen.Recovers++
			p.now = nil
		case n == 2:
			p.seen.Asked++
			p.say(p.status(c))
			p.now = nil
		case n == 1 && (c == 0x04 || c == 0x05), n == 0 && c == 0x10:
			p.now = append(p.now, c)
		default:
			p.now = nil
		}
	}
	p.in = append(p.in, b...)
	p.work()
	p.tell()
}

// status answers DLE EOT n.
func (p *Printer) status(n byte) byte {
	t, s := p.seen.Trouble, byte(0x12)
	set := func(on bool, bits byte) {
		if on {
			s |= bits
		}
	}
	switch n {
	case 1:
		set(t.stopped(), 0x08)
	case 2:
		set(t.CoverOpen, 0x04)
		set(t.PaperOut, 0x20)
		set(t.Cutter, 0x40)
	case 3:
		set(t.Cutter, 0x08)
	case 4:
		set(t.PaperLow || t.PaperOut, 0x0C)
		set(t.PaperOut, 0x60)
	}
	return s
}

// automatic is the status back of GS a.
func (p *Printer) automatic() []byte {
	t, s := p.seen.Trouble, []byte{0x10, 0, 0, 0}
	set := func(on bool, at int, bits byte) {
		if on {
			s[at] |= bits
		}
	}
	set(t.stopped(), 0, 0x08)
	set(t.CoverOpen, 0, 0x20)
	set(t.Cutter, 1, 0x08)
	set(t.PaperLow || t.PaperOut, 2, 0x03)
	set(t.PaperOut, 2, 0x0C)
	return s
}

// work goes through what came, until it stops or needs more.
func (p *Printer) work() {
	for len(p.in) > 0 && !p.seen.Trouble.stopped() {
		n := p.one(p.in)
		if n == 0 {
			return
		}
		p.in = p.in[n:]
	}
}

func (p *Printer) cut() {
	p.seen.Cuts++
	p.seen.Last = p.sheet.Picture()
	p.seen.Lines = 0
	p.sheet, p.y, p.column, p.line = paper.NewSheet(p.cfg.Columns), 0, 0, nil
	if p.cfg.Pictures != "" && p.err == nil {
		p.err = p.keep(p.seen.Last)
	}
}

// keep writes a picture and forgets the oldest.
func (p *Printer) keep(img image.Image) error {
	if err := os.MkdirAll(p.cfg.Pictures, 0o750); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return err
	}
	name := func(n int) string { return filepath.Join(p.cfg.Pictures, fmt.Sprintf("receipt-%04d.png", n)) }
	if err := os.WriteFile(name(p.seen.Cuts), b.Bytes(), 0o600); err != nil {
		return err
	}
	if old := p.seen.Cuts - p.cfg.Keep; old > 0 {
		_ = os.Remove(name(old))
	}
	return nil
}
