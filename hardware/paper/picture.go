package paper

import (
	"image"
	"image/color"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// A character of font A, in dots, and the white around a page.
const (
	CellWidth, CellHeight = 12, 24
	margin                = 16
	baseline              = 19
	fontSize              = 20 // the mono font is 0.6 of its size wide
)

// Sheet is paper in a printer: it grows as it is printed on. White is 0, black is 1.
type Sheet struct {
	columns int
	rows    [][]byte // of dots
}

// NewSheet is blank paper.
func NewSheet(columns int) *Sheet { return &Sheet{columns: columns} }

// Set puts a character into a column, in cells of its size, below dot row y.
func (s *Sheet) Set(column, y int, r rune, style Line) {
	scale := 1
	if style.Big {
		scale = 2
	}
	g := glyphs.of(r, style.Bold)
	for dy := range CellHeight * scale {
		for dx := range CellWidth * scale {
			if g[dy/scale*CellWidth+dx/scale] == 0 {
				continue
			}
			if x := column*CellWidth*scale + dx; x < s.columns*CellWidth {
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
		column := 0
		for _, r := range l.Text {
			s.Set(column, y, r, l)
			column++
		}
		y += CellHeight
		if l.Big {
			y += CellHeight
		}
		s.Feed(y)
	}
	return s.Picture()
}

// glyphs are the characters that were drawn already.
var glyphs = &glyphCache{drawn: map[glyph][]byte{}}

type glyph struct {
	r    rune
	bold bool
}

type glyphCache struct {
	mu    sync.Mutex
	faces [2]font.Face
	drawn map[glyph][]byte
}

// of is a character in black and white, as a thermal head has no gray.
func (c *glyphCache) of(r rune, bold bool) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := glyph{r, bold}
	if g, ok := c.drawn[key]; ok {
		return g
	}
	gray := image.NewGray(image.Rect(0, 0, CellWidth, CellHeight))
	d := font.Drawer{Dst: gray, Src: image.White, Face: c.face(bold), Dot: fixed.P(0, baseline)}
	d.DrawString(string(r))
	g := make([]byte, CellWidth*CellHeight)
	for i, v := range gray.Pix {
		if v >= 0x70 {
			g[i] = 1
		}
	}
	c.drawn[key] = g
	return g
}

func (c *glyphCache) face(bold bool) font.Face {
	i, ttf := 0, gomono.TTF
	if bold {
		i, ttf = 1, gomonobold.TTF
	}
	if c.faces[i] == nil {
		f, err := opentype.Parse(ttf)
		if err == nil {
			c.faces[i], err = opentype.NewFace(f, &opentype.FaceOptions{Size: fontSize, DPI: 72, Hinting: font.HintingFull})
		}
		if err != nil {
			panic(err) // of a font that is compiled in
		}
	}
	return c.faces[i]
}
