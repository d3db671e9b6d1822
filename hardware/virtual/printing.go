package virtual

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/width"

	"coinop/hardware/paper"
)

// mode is what commands have set, and ESC @ sets back.
type mode struct {
	page    byte // ESC t
	chinese bool // FS &
	unicode bool // FS ( C
	style   paper.Line
	align   paper.Align
	bars    paper.Code // GS h, w, H
	qr      paper.Code // GS ( k
}

func reset() mode {
	return mode{bars: paper.Code{Height: 162, Size: 3, Plain: true}, qr: paper.Code{Symbology: paper.QR, Size: 3}}
}

// one carries out the first command of b and returns its length; 0: some of it is still to come.
func (p *Printer) one(b []byte) int {
	switch b[0] {
	case '\n':
		p.feed()
		return 1
	case 0x10: // it was answered when it came
		return min(len(b), 3) / 3 * 3
	case 0x1B:
		return p.escape(b)
	case 0x1C:
		return p.chineseCommand(b)
	case 0x1D:
		return p.group(b)
	}
	if b[0] < 0x20 {
		p.unknown(b[:1])
		return 1
	}
	return p.character(b)
}

// escape is a command that begins with ESC.
func (p *Printer) escape(b []byte) int {
	switch {
	case len(b) < 2:
		return 0
	case b[1] == '@':
		p.mode, p.column = reset(), 0
		return 2
	case len(b) < 3:
		return 0
	}
	switch b[1] {
	case 't':
		p.page = b[2]
	case 'a':
		p.align = paper.Align(b[2] & 3)
	case 'E':
		p.style.Bold = b[2]&1 != 0
	case '!': // font, bold, high, wide in one
		p.style.Bold, p.style.Big = b[2]&0x08 != 0, b[2]&0x30 == 0x30
		if b[2]&^0x38 != 0 || b[2]&0x30 == 0x10 || b[2]&0x30 == 0x20 {
			p.unknown(b[:3])
		}
	case 'd':
		for range b[2] {
			p.feed()
		}
	case 'p':
		if len(b) < 5 {
			return 0
		}
		p.seen.Drawer++
		return 5
	default:
		p.unknown(b[:3])
	}
	return 3
}

// chineseCommand is one that begins with FS.
func (p *Printer) chineseCommand(b []byte) int {
	switch {
	case len(b) < 2:
		return 0
	case b[1] == '&', b[1] == '.':
		p.chinese = b[1] == '&'
		return 2
	case b[1] == '(':
		n := long(b)
		if n > 0 && n == 7 && b[2] == 'C' && b[5] == 0x30 {
			p.unicode = b[6] == 2
		} else if n > 0 {
			p.unknown(b[:n])
		}
		return n
	}
	p.unknown(b[:2])
	return 2
}

// long is the length of a command with its length in bytes 3 and 4; 0: it is not there yet.
func long(b []byte) int {
	if len(b) < 5 {
		return 0
	}
	if n := 5 + int(binary.LittleEndian.Uint16(b[3:])); len(b) >= n {
		return n
	}
	return 0
}

// group is a command that begins with GS.
func (p *Printer) group(b []byte) int {
	if len(b) < 3 {
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
	case 'h':
		p.bars.Height = int(b[2])
	case 'w':
		p.bars.Size = int(b[2])
	case 'H':
		p.bars.Plain = b[2] == 0
	case 'k':
		return p.barcode(b)
	case '(':
		n := long(b)
		if n > 0 {
			p.function(b[:n])
		}
		return n
	case 'v':
		return p.raster(b)
	case 'V':
		if b[2] == 0x42 {
			if len(b) < 4 {
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

// barcode is GS k in its form with a length.
func (p *Printer) barcode(b []byte) int {
	if len(b) < 4 || len(b) < 4+int(b[3]) {
		return 0
	}
	n := 4 + int(b[3])
	c, data := p.bars, b[4:n]
	switch b[2] {
	case 73:
		c.Symbology = paper.Code128
		if len(data) < 2 || data[0] != '{' || data[1] != 'B' {
			p.unknown(b[:n])
			return n
		}
		for i := 2; i < len(data); i++ {
			if data[i] == '{' { // an escaped one
				i++
			}
			if i < len(data) {
				c.Data += string(rune(data[i]))
			}
		}
	case 67:
		c.Symbology, c.Data = paper.EAN13, string(data)
	case 69:
		c.Symbology, c.Data = paper.Code39, string(data)
	default:
		p.unknown(b[:n])
		return n
	}
	p.code(c)
	return n
}

func (p *Printer) code(c paper.Code) {
	y, err := p.sheet.Code(p.y, c, p.align)
	if err != nil {
		p.seen.Unknown = append(p.seen.Unknown, err.Error())
	}
	p.y = y
}

// function is GS ( with its data.
func (p *Printer) function(b []byte) {
	switch {
	case b[2] == 'H' && len(b) == 11 && b[5] == 0x30 && b[6] == 0x30:
		if !p.cfg.Simple { // it sends the process id back, now that all before it is done
			p.say(append(append([]byte{0x37, 0x22}, b[7:11]...), 0)...)
		}
	case b[2] != 'k' || len(b) < 8 || b[5] != 0x31:
		p.unknown(b)
	case b[6] == 0x41 && len(b) == 9:
		if b[7] != 0x32 {
			p.unknown(b) // model 2 is what scanners read
		}
	case b[6] == 0x43 && len(b) == 8:
		p.qr.Size = int(b[7])
	case b[6] == 0x45 && len(b) == 8:
		p.qr.Level = paper.Level(b[7] - 0x30)
	case b[6] == 0x50:
		p.qr.Data = string(b[8:])
	case b[6] == 0x51 && len(b) == 8:
		p.code(p.qr)
	default:
		p.unknown(b)
	}
}

// raster is GS v 0.
func (p *Printer) raster(b []byte) int {
	if len(b) < 8 {
		return 0
	}
	x, rows := int(binary.LittleEndian.Uint16(b[4:])), int(binary.LittleEndian.Uint16(b[6:]))
	n := 8 + x*rows
	if len(b) < n {
		return 0
	}
	p.seen.Tallest = max(p.seen.Tallest, rows)
	if x > p.cfg.Columns*paper.CellWidth/8 || b[3] != 0 {
		p.unknown(b[:8])
		return n
	}
	p.y = p.sheet.Bitmap(p.y, paper.Bitmap{Width: x * 8, Height: rows, Bits: b[8:n]}, p.align)
	return n
}

func (p *Printer) unknown(b []byte) { p.seen.Unknown = append(p.seen.Unknown, fmt.Sprintf("% x", b)) }

// character prints the first character of b, in the bytes that the mode has it in.
func (p *Printer) character(b []byte) int {
	r, n, cells := rune(b[0]), 1, 1
	switch {
	case b[0] < 0x80:
	case p.unicode:
		if !utf8.FullRune(b) {
			return 0
		}
		r, n = utf8.DecodeRune(b)
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			cells = 2
		}
	case p.chinese:
		if len(b) < 2 {
			return 0
		}
		n, cells = 2, 2
		if b[1] >= 0x30 && b[1] <= 0x39 {
			n = 4
		}
		if len(b) < n {
			return 0
		}
		s, err := simplifiedchinese.GB18030.NewDecoder().Bytes(b[:n])
		r, _ = utf8.DecodeRune(s)
		if err != nil || r == utf8.RuneError {
			p.unknown(b[:n])
		}
	default:
		if p.page != 19 { // code page 858 is the one that it draws
			p.unknown([]byte{0x1B, 't', p.page, b[0]})
		}
		r = charmap.CodePage858.DecodeByte(b[0])
	}
	columns := p.cfg.Columns
	if p.style.Big {
		columns /= 2
	}
	if p.column+cells > columns {
		p.feed()
	}
	p.line = append(p.line, drawn{r, p.style, cells})
	p.column += cells
	return n
}

// drawn is a character of the line that fills.
type drawn struct {
	r     rune
	style paper.Line
	cells int
}

func (d drawn) wide() int {
	if d.style.Big {
		return 2 * d.cells * paper.CellWidth
	}
	return d.cells * paper.CellWidth
}

// feed prints the line. It may be in the middle only when that was set at its beginning.
func (p *Printer) feed() {
	high := paper.CellHeight
	if p.style.Big {
		high *= 2
	}
	width := 0
	for _, d := range p.line {
		width += d.wide()
	}
	left := 0
	if p.align == paper.Center {
		left = max(0, p.cfg.Columns*paper.CellWidth-width) / 2
	}
	for _, d := range p.line {
		p.sheet.Stamp(left, p.y, d.r, d.style, d.cells)
		left += d.wide()
	}
	p.y += high
	p.sheet.Feed(p.y)
	p.column, p.line = 0, nil
	p.seen.Lines++
	if p.outAt > 0 {
		if p.outAt--; p.outAt == 0 {
			t := p.seen.Trouble
			t.PaperOut = true
			p.trouble(t)
		}
	}
}
