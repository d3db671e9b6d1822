package escpos

import "coinop/hardware/paper"

// Bytes is a page for the printer: from ESC @ to the cut.
func Bytes(p paper.Page) []byte {
	b := charset(append([]byte(nil), initialize...), p.Charset)
	if p.Drawer {
		b = Drawer(b, 0)
	}
	var now paper.Line
	for _, l := range p.Lines {
		switch {
		case l.Code != nil:
			b = Align(b, paper.Center)
			b = Code(b, *l.Code)
			b = Align(b, paper.Left)
			continue
		case l.Image != nil:
			b = Align(b, paper.Center)
			b = Raster(b, *l.Image)
			b = Align(b, paper.Left)
			continue
		}
		if l.Bold != now.Bold {
			b = append(b, 0x1B, 'E', bit(l.Bold, 1))
		}
		if l.Big != now.Big {
			b = Size(b, 1+int(bit(l.Big, 1)), 1+int(bit(l.Big, 1)))
		}
		now = l
		b = append(Text(b, p.Charset, l.Text), '\n')
	}
	return Cut(b)
}

// Text is characters; a question mark is in place of what the charset lacks.
func Text(b []byte, c paper.Charset, s string) []byte {
	for _, r := range s {
		if raw, ok := c.Encode(r); ok {
			b = append(b, raw...)
		} else {
			b = append(b, '?')
		}
	}
	return b
}

func bit(on bool, v byte) byte {
	if on {
		return v
	}
	return 0
}
