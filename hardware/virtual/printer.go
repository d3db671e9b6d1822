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

	"golang.org/x/text/encoding/charmap"

	"coinop/hardware/paper"
)

// PrinterConfig is one ESC/POS receipt printer. The zero value of a field is its default.
type PrinterConfig struct {
	Link     string // symlink to the pty; none
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
	Cuts    int            // receipts cut off
	Last    image.Image    // the last of them
	Lines   int            // on the receipt that it prints
	Unknown []string       // commands it does not know: a driver's mistake
	Trouble PrinterTrouble //
	Asked   int            // DLE EOT heard
}

// Printer is the printer: it understands the bytes by itself and draws what they say, dot by dot.
type Printer struct {
	cfg  PrinterConfig
	port *port

	watch
	seen   PrinterView
	in     []byte // not worked through yet
	auto   byte   // GS a
	page   byte   // ESC t
	style  paper.Line
	column int
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
	p, err := newPort(cfg.Link)
	return &Printer{cfg: cfg, port: p, sheet: paper.NewSheet(cfg.Columns)}, err
}

// Path is the tty the agent opens: the link where there is one.
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
	// DLE EOT is answered when it comes, before what waits.
	for {
		i := bytes.Index(b, []byte{0x10, 0x04})
		if i < 0 || i+2 >= len(b) {
			break
		}
		p.seen.Asked++
		p.say(p.status(b[i+2]))
		b = append(b[:i:i], b[i+3:]...)
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

// one carries out the first command of b and returns its length; 0: some of it is still to come.
func (p *Printer) one(b []byte) int {
	need := func(n int) bool { return len(b) < n }
	switch b[0] {
	case '\n':
		p.feed()
		return 1
	case 0x1B:
		switch {
		case need(2):
			return 0
		case b[1] == '@':
			p.style, p.page = paper.Line{}, 0
			return 2
		case need(3):
			return 0
		}
		switch b[1] {
		case 't':
			p.page = b[2]
		case 'E':
			p.style.Bold = b[2]&1 != 0
		case 'd':
			for range b[2] {
				p.feed()
			}
		default:
			p.unknown(b[:3])
		}
		return 3
	case 0x1D:
		if need(3) {
			return 0
		}
		switch b[1] {
		case '!':
			p.style.Big = b[2] == 0x11
			if b[2] != 0 && b[2] != 0x11 {
				p.unknown(b[:3])
			}
		case 'a':
			if p.auto = b[2]; p.auto != 0 {
				p.say(p.automatic()...)
			}
		case 'r':
			low := byte(0)
			if p.seen.Trouble.PaperLow {
				low = 0x03
			}
			p.say(low)
		case 'V':
			if b[2] == 0x42 {
				if need(4) {
					return 0
				}
				p.cut()
				return 4
			}
			p.cut()
		default:
			p.unknown(b[:3])
		}
		return 3
	}
	if b[0] < 0x20 {
		p.unknown(b[:1])
		return 1
	}
	p.character(b[0])
	return 1
}

func (p *Printer) unknown(b []byte) { p.seen.Unknown = append(p.seen.Unknown, fmt.Sprintf("% x", b)) }

func (p *Printer) character(b byte) {
	r := rune(b)
	if b >= 0x80 {
		if p.page != 19 { // code page 858 is the one that it draws
			p.unknown([]byte{0x1B, 't', p.page, b})
		}
		r = charmap.CodePage858.DecodeByte(b)
	}
	columns := p.cfg.Columns
	if p.style.Big {
		columns /= 2
	}
	if p.column >= columns {
		p.feed()
	}
	p.sheet.Set(p.column, p.y, r, p.style)
	p.column++
}

func (p *Printer) feed() {
	p.y += paper.CellHeight
	if p.style.Big {
		p.y += paper.CellHeight
	}
	p.sheet.Feed(p.y)
	p.column = 0
	p.seen.Lines++
	if p.outAt > 0 {
		if p.outAt--; p.outAt == 0 {
			t := p.seen.Trouble
			t.PaperOut = true
			p.trouble(t)
		}
	}
}

func (p *Printer) cut() {
	p.seen.Cuts++
	p.seen.Last = p.sheet.Picture()
	p.seen.Lines = 0
	p.sheet, p.y, p.column = paper.NewSheet(p.cfg.Columns), 0, 0
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
