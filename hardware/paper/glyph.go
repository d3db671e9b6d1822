package paper

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"io"
	"slices"
	"sync"
)

// drawings are the characters of our fonts as dots, so that an agent carries neither fonts nor what draws
// them. TestDrawings makes the file (-update) and keeps it: Latin, Greek and Cyrillic are the Go fonts', plain
// and bold, the rest is a bitmap font of 12 dots. Packed it is the three faces one behind the other, each the
// count of its characters in two bytes, the characters in two each, rising, and their rows from the top: 24 of
// three bytes, of the bitmap font 12 of two, the left dot the highest bit.
//
//go:embed drawings.gz
var drawings []byte

// face is one of them; a drawing is two cells wide, and whoever has one cell takes its middle.
type face struct {
	runes []uint16
	rows  []byte // of all, one behind the other
	size  int    // bytes of one
}

var faces = sync.OnceValue(func() (f [3]face) {
	z, err := gzip.NewReader(bytes.NewReader(drawings))
	if err != nil {
		panic(err) // of a file that is compiled in
	}
	b, err := io.ReadAll(z)
	if err != nil {
		panic(err)
	}
	for i := range f {
		n := int(binary.BigEndian.Uint16(b))
		f[i] = face{make([]uint16, n), b[2+2*n:], 3 * CellHeight}
		if i == 2 {
			f[i].size = 2 * CellHeight / 2
		}
		for k := range n {
			f[i].runes[k] = binary.BigEndian.Uint16(b[2+2*k:])
		}
		b = b[2+n*(2+f[i].size):]
	}
	return f
})

// of is the rows of a character; nil where the face has none.
func (f face) of(r rune) []byte {
	if r > 0xffff {
		return nil
	}
	k, found := slices.BinarySearch(f.runes, uint16(r)) //nolint:gosec // looked at
	if !found {
		return nil
	}
	return f.rows[k*f.size : (k+1)*f.size]
}

// glyphs are the characters that were unpacked already.
var glyphs = &glyphCache{seen: map[glyph][]byte{}}

type glyph struct {
	r     rune
	bold  bool
	cells int
}

type glyphCache struct {
	mu   sync.Mutex
	seen map[glyph][]byte
}

// of is a character in black and white, as a thermal head has no gray: a byte a dot. The bitmap font is
// doubled, and what no font has is a box.
func (c *glyphCache) of(r rune, bold bool, cells int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := glyph{r, bold, cells}
	if g, ok := c.seen[key]; ok {
		return g
	}
	f := faces()
	mono := f[0]
	if bold {
		mono = f[1]
	}
	var g []byte
	if rows := mono.of(r); rows != nil {
		g = plain(rows, cells)
	} else if rows = f[2].of(r); rows != nil {
		g = doubled(rows, bold, cells)
	} else {
		g = box(cells)
	}
	c.seen[key] = g
	return g
}

func plain(rows []byte, cells int) []byte {
	w, left := CellWidth*cells, (2-cells)*CellWidth/2
	g := make([]byte, w*CellHeight)
	for i := range g {
		x := i%w + left
		g[i] = rows[i/w*3+x/8] >> (7 - x%8) & 1
	}
	return g
}

// doubled makes each dot two by two; bold is a dot wider.
func doubled(rows []byte, bold bool, cells int) []byte {
	w, left := CellWidth*cells, (2-cells)*CellWidth/4
	g := make([]byte, w*CellHeight)
	for i := range g {
		x, y := i%w, i/w
		row := binary.BigEndian.Uint16(rows[y/2*2:])
		g[i] = byte(row >> (15 - x/2 - left) & 1)
		if bold && x > 0 {
			g[i] |= byte(row >> (15 - (x-1)/2 - left) & 1)
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
