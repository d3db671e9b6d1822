package paper

import (
	"fmt"
	"image"
	"strings"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/code128"
	"github.com/boombuler/barcode/code39"
	"github.com/boombuler/barcode/ean"
	"github.com/boombuler/barcode/qr"
)

// Symbology is a kind of code for scanners.
type Symbology uint8

// Symbologies that receipt printers make by themselves.
const (
	QR Symbology = iota + 1
	Code128
	EAN13
	Code39
)

// Level is how much of a QR code may be damaged: 7, 15, 25 or 30 %.
type Level uint8

// Levels, as ISO/IEC 18004 names them.
const (
	LevelL Level = iota
	LevelM
	LevelQ
	LevelH
)

// Code is a code for scanners, in the middle of its line.
type Code struct {
	Symbology Symbology
	Data      string
	Size      int   // dots of a QR's module, 1 to 16, or of a narrow bar, 2 to 6
	Height    int   // of bars, in dots, 1 to 255
	Level     Level // of a QR
	Plain     bool  // no text below the bars
}

// maxQR bounds the bytes of a QR code: it is as wide as narrow paper then.
const maxQR = 500

// NewQR is a QR code in the size that exchanges of manuals have.
func NewQR(data string) Code { return Code{Symbology: QR, Data: data, Size: 6, Level: LevelM} }

// NewBars is a bar code in the size that exchanges of manuals have.
func NewBars(s Symbology, data string) Code {
	return Code{Symbology: s, Data: data, Size: 2, Height: 80}
}

// encode is the code with a dot a module; the error says what it cannot hold.
func (c Code) encode() (barcode.Barcode, error) {
	bad := func(what string) error { return fmt.Errorf("code %q: %s", c.Data, what) }
	if c.Data == "" {
		return nil, bad("nothing in it")
	}
	if c.Symbology == QR && (c.Size < 1 || c.Size > 16) || c.Symbology != QR && (c.Size < 2 || c.Size > 6 || c.Height < 1 || c.Height > 255) {
		return nil, bad("no printer makes that size")
	}
	switch c.Symbology {
	case QR:
		if len(c.Data) > maxQR {
			return nil, bad("too long")
		}
		return qr.Encode(c.Data, []qr.ErrorCorrectionLevel{qr.L, qr.M, qr.Q, qr.H}[c.Level&3], qr.Unicode)
	case Code128:
		if strings.ContainsFunc(c.Data, func(r rune) bool { return r < 0x20 || r > 0x7E }) {
			return nil, bad("more than ASCII")
		}
		return code128.Encode(c.Data)
	case EAN13:
		if len(c.Data) != 12 && len(c.Data) != 13 {
			return nil, bad("want 12 digits and perhaps a check digit")
		}
		return ean.Encode(c.Data)
	case Code39:
		if strings.Contains(c.Data, "*") {
			return nil, bad("the star is its own")
		}
		return code39.Encode(c.Data, false, false)
	}
	return nil, bad("no such symbology")
}

// Check reports whether it can be made and fits on a paper.
func (c Code) Check(columns int) error {
	b, err := c.encode()
	if err != nil {
		return err
	}
	w := b.Bounds().Dx() * c.Size
	if c.Symbology == Code128 { // a printer makes two digits of code B twice as wide as a picture's code C
		w = max(w, ((len(c.Data)+2)*11+13)*c.Size)
	}
	if w > columns*CellWidth {
		return fmt.Errorf("code %q: %d dots wide, the paper has %d", c.Data, w, columns*CellWidth)
	}
	return nil
}

// Align is where on its line something stands.
type Align uint8

// Alignments, numbered as ESC a has them.
const (
	Left Align = iota
	Center
	Right
)

// left is where something of a width begins.
func (s *Sheet) left(a Align, w int) int {
	switch a {
	case Center:
		return max(0, s.columns*CellWidth-w) / 2
	case Right:
		return max(0, s.columns*CellWidth-w)
	case Left:
	}
	return 0
}

// Code draws a code below dot row y and gives the row below it.
func (s *Sheet) Code(y int, c Code, a Align) (int, error) {
	b, err := c.encode()
	if err != nil {
		return y, err
	}
	w, h := b.Bounds().Dx()*c.Size, c.Height
	if c.Symbology == QR {
		h = b.Bounds().Dy() * c.Size
	}
	x := s.left(a, w)
	for dy := range h {
		row := s.row(y + dy)
		for dx := 0; dx < w && x+dx < len(row); dx++ {
			at := image.Pt(dx/c.Size, 0)
			if c.Symbology == QR {
				at.Y = dy / c.Size
			}
			if r, _, _, _ := b.At(b.Bounds().Min.X+at.X, b.Bounds().Min.Y+at.Y).RGBA(); r == 0 {
				row[x+dx] = 1
			}
		}
	}
	if y += h; c.Symbology != QR && !c.Plain {
		text := b.Content()
		x := s.left(a, len(text)*CellWidth)
		for _, r := range text {
			s.Stamp(x, y, r, Line{}, 1)
			x += CellWidth
		}
		y += CellHeight
	}
	s.Feed(y)
	return y, nil
}
