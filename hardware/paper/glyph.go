package paper

import (
	"image"
	"sync"

	"github.com/hajimehoshi/bitmapfont/v3"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// glyphs are the characters that were drawn already.
var glyphs = &glyphCache{drawn: map[glyph][]byte{}}

type glyph struct {
	r     rune
	bold  bool
	cells int
}

type glyphCache struct {
	mu    sync.Mutex
	fonts [2]*opentype.Font
	faces [2]font.Face
	drawn map[glyph][]byte
}

// of is a character in black and white, as a thermal head has no gray. Latin, Greek and Cyrillic are
// the Go fonts', the rest is a bitmap font of 12 dots that is doubled, and what neither has is a box.
func (c *glyphCache) of(r rune, bold bool, cells int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := glyph{r, bold, cells}
	if g, ok := c.drawn[key]; ok {
		return g
	}
	g := c.mono(r, bold, cells)
	if g == nil {
		g = bits(r, bold, cells)
	}
	if g == nil {
		g = box(cells)
	}
	c.drawn[key] = g
	return g
}

// mono is the character of the Go font, in the middle of its cells; nil where it has none.
func (c *glyphCache) mono(r rune, bold bool, cells int) []byte {
	face, has := c.face(bold, r)
	if !has {
		return nil
	}
	w := CellWidth * cells
	gray := image.NewGray(image.Rect(0, 0, w, CellHeight))
	d := font.Drawer{Dst: gray, Src: image.White, Face: face, Dot: fixed.P((w-CellWidth)/2, baseline)}
	d.DrawString(string(r))
	g := make([]byte, w*CellHeight)
	for i, v := range gray.Pix {
		if v >= 0x70 {
			g[i] = 1
		}
	}
	return g
}

func (c *glyphCache) face(bold bool, r rune) (f font.Face, has bool) {
	i, ttf := 0, gomono.TTF
	if bold {
		i, ttf = 1, gomonobold.TTF
	}
	if c.faces[i] == nil {
		f, err := opentype.Parse(ttf)
		if err == nil {
			c.fonts[i] = f
			c.faces[i], err = opentype.NewFace(f, &opentype.FaceOptions{Size: fontSize, DPI: 72, Hinting: font.HintingFull})
		}
		if err != nil {
			panic(err) // of a font that is compiled in
		}
	}
	index, err := c.fonts[i].GlyphIndex(nil, r)
	return c.faces[i], err == nil && index != 0
}

// Of the bitmap font: the row of its baseline in half a cell's height of rows.
const bitsBaseline = 10

// bits is the character of the bitmap font, each of its dots two by two; bold is a dot wider.
func bits(r rune, bold bool, cells int) []byte {
	advance, ok := bitmapfont.FaceSC.GlyphAdvance(r)
	if _, _, _, _, drawn := bitmapfont.FaceSC.Glyph(fixed.P(0, 0), r); !ok || !drawn {
		return nil
	}
	half := image.Rect(0, 0, CellWidth*cells/2, CellHeight/2)
	gray := image.NewGray(half)
	d := font.Drawer{Dst: gray, Src: image.White, Face: bitmapfont.FaceSC, Dot: fixed.P((half.Dx()-advance.Round())/2, bitsBaseline)}
	d.DrawString(string(r))
	w := CellWidth * cells
	g := make([]byte, w*CellHeight)
	for y := range CellHeight {
		for x := range w {
			if gray.GrayAt(x/2, y/2).Y >= 0x80 || bold && x > 0 && gray.GrayAt((x-1)/2, y/2).Y >= 0x80 {
				g[y*w+x] = 1
			}
		}
	}
	return g
}

// box stands for a character that no font of ours has; the printer may well.
func box(cells int) []byte {
	w := CellWidth * cells
	g := make([]byte, w*CellHeight)
	for y := 3; y < CellHeight-3; y++ {
		for x := 1; x < w-1; x++ {
			if y == 3 || y == CellHeight-4 || x == 1 || x == w-2 {
				g[y*w+x] = 1
			}
		}
	}
	return g
}
