package escpos

import (
	"coinop/hardware/paper"

	"golang.org/x/text/encoding/charmap"
)

// Bytes is a page for the printer: from ESC @ to the cut.
func Bytes(p paper.Page) []byte {
	b := append([]byte(nil), initialize...)
	b = append(b, 0x1B, 't', codePage858)
	var now paper.Line
	for _, l := range p.Lines {
		if l.Bold != now.Bold {
			b = append(b, 0x1B, 'E', bit(l.Bold, 1))
		}
		if l.Big != now.Big {
			b = append(b, 0x1D, '!', bit(l.Big, 0x11))
		}
		now = l
		for _, r := range l.Text {
			c, ok := charmap.CodePage858.EncodeRune(r)
			if !ok || c < 0x20 {
				c = '?'
			}
			b = append(b, c)
		}
		b = append(b, '\n')
	}
	return append(b, 0x1D, 'V', 0x42, feedToCut)
}

func bit(on bool, v byte) byte {
	if on {
		return v
	}
	return 0
}

const (
	codePage858 = 19 // of ESC t; Epson's number, and nearly everybody's
	feedToCut   = 0  // GS V 66 n feeds to the knife and n dots more
)

var initialize = []byte{0x1B, '@'}
