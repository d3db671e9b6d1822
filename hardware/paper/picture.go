package paper

import (
	"image"
	"image/color"
)

// A character of font A, in dots, and the white around a page.
const (
	CellWidth, CellHeight = 12, 24
	margin                = 16
)

// Sheet is paper in a printer: it grows as it is printed on. White is 0, black is 1.
type Sheet struct {
	columns int
	rows    [][]byte // of dots
}

// NewSheet is blank paper.
func NewSheet(columns int) *Sheet { return &Sheet{columns: columns} }

// Stamp puts a character of that many cells at a dot of the line, below dot row y.
func (s *Sheet) Stamp(left, y int, r rune, style Line, cells int) {
	scale := 1
	if style.Big {
		scale = 2
	}
	g, w := glyphs.of(r, style.Bold, cells), CellWidth*cells
	for dy := range CellHeight * scale {
		for dx := range w * scale {
			if g[dy/scale*w+dx/scale] == 0 {
				continue
			}
			if x := left + dx; x >= 0 && x < s.columns*CellWidth {
				s.row(y + dy)[x] = 1
			}
		}
	}
}

func (s *Sheet) row(y int) []byte {
	for len(s.rows) <= y {
		s.rows = append(s.rows, make([]byte, s.columns*CellWidth))
	}
	return s.rows[y]
}

// Feed makes the paper at least y dots long.
func (s *Sheet) Feed(y int) {
	if y > 0 {
		s.row(y - 1)
	}
}

// Picture is the paper cut off below its last dot row, with a margin.
func (s *Sheet) Picture() *image.Paletted {
	img := image.NewPaletted(image.Rect(0, 0, s.columns*CellWidth+2*margin, len(s.rows)+2*margin), color.Palette{color.White, color.Black})
	for y, row := range s.rows {
		copy(img.Pix[(y+margin)*img.Stride+margin:], row)
	}
	return img
}

// Picture is the page as a printer prints it, one pixel a dot.
func (p Page) Picture() *image.Paletted {
	s, y := NewSheet(p.Columns), 0
	for _, l := range p.Lines {
		switch {
		case l.Code != nil:
			y, _ = s.Code(y, *l.Code, Center) // it was checked
			continue
		case l.Image != nil:
			y = s.Bitmap(y, *l.Image, Center)
			continue
		}
		left := 0
		for _, r := range l.Text {
			n := p.Charset.Cells(r)
			s.Stamp(left, y, r, l, n)
			left += n * CellWidth
			if l.Big {
				left += n * CellWidth
			}
		}
		y += CellHeight
		if l.Big {
			y += CellHeight
		}
		s.Feed(y)
	}
	return s.Picture()
}
