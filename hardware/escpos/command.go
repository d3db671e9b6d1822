package escpos

import "coinop/hardware/paper"

// The commands below are those of Epson's ESC/POS reference; where Bixolon's SRP-350 manual has them too,
// they are the same. Each adds itself to b.

const (
	codePage858 = 19 // of ESC t; Epson's number, and nearly everybody's
	feedToCut   = 0  // GS V 66 n feeds to the knife and n dots more
	// bandRows is how much of a picture a command has: 24 rows of 72 bytes are under 2 KB, which the
	// smallest buffers of printers hold.
	bandRows = 24
)

var initialize = []byte{0x1B, '@'}

// charset is set once, after ESC @: ESC t 19; FS & (two-byte characters on); FS ( C 48 2 (UTF-8), which
// Epson's Unicode models know.
func charset(b []byte, c paper.Charset) []byte {
	switch c {
	case paper.CP858:
		return append(b, 0x1B, 't', codePage858)
	case paper.GB18030:
		return append(b, 0x1C, '&')
	case paper.UTF8:
		return append(b, 0x1C, '(', 'C', 2, 0, 0x30, 2)
	}
	return b
}

// Align is ESC a: from the next line on.
func Align(b []byte, a paper.Align) []byte { return append(b, 0x1B, 'a', byte(a)) }

// Size is GS !: characters that many times as wide and as high, 1 to 8.
func Size(b []byte, wide, high int) []byte {
	return append(b, 0x1D, '!', byte((wide-1)&7<<4|(high-1)&7)) //nolint:gosec // 7 bits
}

// Cut is GS V 66: feed to the knife and cut, leaving a point.
func Cut(b []byte) []byte { return append(b, 0x1D, 'V', 0x42, feedToCut) }

// Drawer is ESC p: a pulse of 50 ms at a connector's pin 2 (0) or 5 (1), and 500 ms until the next.
func Drawer(b []byte, pin byte) []byte { return append(b, 0x1B, 'p', pin, 25, 250) }

// Code is a code for scanners; one that paper.Code.Check refuses is nothing.
func Code(b []byte, c paper.Code) []byte {
	if c.Data == "" || len(c.Data) > 500 {
		return b
	}
	if c.Symbology == paper.QR {
		return qr(b, c)
	}
	m, data := byte(0), c.Data
	switch c.Symbology {
	case paper.Code128:
		m = 73
		text := ""
		for _, r := range data {
			if text += string(r); r == '{' { // it begins a command
				text += "{"
			}
		}
		data = "{B" + text // code set B
	case paper.EAN13:
		m = 67
	case paper.Code39:
		m = 69
	case paper.QR:
	}
	if m == 0 || len(data) > 255 {
		return b
	}
	below := 2 - bit(c.Plain, 2)
	b = append(b, 0x1D, 'h', byte(c.Height), 0x1D, 'w', byte(c.Size), 0x1D, 'H', below) //nolint:gosec // checked
	return append(append(b, 0x1D, 'k', m, byte(len(data))), data...)
}

// qr is GS ( k with cn 49: model 2, size of a module, level, data, print.
func qr(b []byte, c paper.Code) []byte {
	n := len(c.Data) + 3
	b = append(b, 0x1D, '(', 'k', 4, 0, 0x31, 0x41, 0x32, 0)
	b = append(b, 0x1D, '(', 'k', 3, 0, 0x31, 0x43, byte(c.Size)) //nolint:gosec // checked
	b = append(b, 0x1D, '(', 'k', 3, 0, 0x31, 0x45, 0x30+byte(c.Level&3))
	b = append(b, 0x1D, '(', 'k', byte(n), byte(n>>8), 0x31, 0x50, 0x30) //nolint:gosec // two bytes
	b = append(b, c.Data...)
	return append(b, 0x1D, '(', 'k', 3, 0, 0x31, 0x51, 0x30)
}

// Raster is GS v 0: a picture in bands.
func Raster(b []byte, p paper.Bitmap) []byte {
	for y := 0; y < p.Height; y += bandRows {
		band := p.Band(y, min(y+bandRows, p.Height))
		x, rows := band.Width/8, band.Height
		b = append(b, 0x1D, 'v', '0', 0, byte(x), byte(x>>8), byte(rows), byte(rows>>8)) //nolint:gosec // two bytes each
		b = append(b, band.Bits...)
	}
	return b
}
