package paper

import (
	"fmt"
	"image"
	"image/png"
	"io"

	"golang.org/x/image/draw"
)

// Bitmap is a picture in black and white: rows of whole bytes, the highest bit at the left, 1 is black.
type Bitmap struct {
	Width, Height int // in dots; Width is a multiple of 8
	Bits          []byte
}

// stride is the bytes of a row.
func (b Bitmap) stride() int { return b.Width / 8 }

// Band is some of its rows.
func (b Bitmap) Band(from, to int) Bitmap {
	return Bitmap{Width: b.Width, Height: to - from, Bits: b.Bits[from*b.stride() : to*b.stride()]}
}

// Most of a picture for paper: longer ones are a mistake, and cost a roll.
const maxPicture, maxPixels = 600, 4 << 20

// ReadPNG is a PNG file as a Bitmap for paper of that many columns: made smaller where it is wider, in
// the middle where it is narrower, dark is black, and what shines through is paper.
func ReadPNG(r io.ReadSeeker, columns int) (*Bitmap, error) {
	c, err := png.DecodeConfig(r)
	if err != nil {
		return nil, err
	}
	if c.Width < 1 || c.Height < 1 || c.Width > maxPixels/c.Height {
		return nil, fmt.Errorf("a picture of %d by %d pixels", c.Width, c.Height)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	img, err := png.Decode(r)
	if err != nil {
		return nil, err
	}
	w, h, paper := c.Width, c.Height, columns*CellWidth
	if w > paper {
		w, h = paper, max(1, h*paper/w)
	}
	if h > maxPicture {
		return nil, fmt.Errorf("%d dots high on this paper, want at most %d", h, maxPicture)
	}
	gray := image.NewGray(image.Rect(0, 0, (w+7)/8*8, h))
	draw.Draw(gray, gray.Bounds(), image.White, image.Point{}, draw.Src)
	draw.ApproxBiLinear.Scale(gray, image.Rect(0, 0, w, h), img, img.Bounds(), draw.Over, nil)
	b := &Bitmap{Width: gray.Rect.Dx(), Height: h}
	b.Bits = make([]byte, b.stride()*h)
	for y := range h {
		for x := range b.Width {
			if gray.GrayAt(x, y).Y < 0x80 {
				b.Bits[y*b.stride()+x/8] |= 0x80 >> (x % 8)
			}
		}
	}
	return b, nil
}

// Bitmap draws a picture below dot row y and gives the row below it.
func (s *Sheet) Bitmap(y int, b Bitmap, a Align) int {
	left := s.left(a, b.Width)
	for dy := range b.Height {
		row := s.row(y + dy)
		for x := range b.Width {
			if b.Bits[dy*b.stride()+x/8]&(0x80>>(x%8)) != 0 && left+x < len(row) {
				row[left+x] = 1
			}
		}
	}
	s.Feed(y + b.Height)
	return y + b.Height
}
