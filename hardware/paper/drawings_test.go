package paper

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"image"
	"os"
	"testing"
	"unicode"

	"github.com/hajimehoshi/bitmapfont/v3"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// Of the fonts.
const (
	baseline     = 19
	fontSize     = 20 // the mono font is 0.6 of its size wide
	bitsBaseline = 10 // of the bitmap font, in half a cell's height of rows
)

// TestDrawings: drawings.gz is what the fonts draw; -update writes it.
func TestDrawings(t *testing.T) {
	t.Parallel()
	var want []byte
	for _, ttf := range [][]byte{gomono.TTF, gomonobold.TTF} {
		f, err := opentype.Parse(ttf)
		if err != nil {
			t.Fatal(err)
		}
		mono, err := opentype.NewFace(f, &opentype.FaceOptions{Size: fontSize, DPI: 72, Hinting: font.HintingFull})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, drawn(func(r rune) []byte {
			if i, err := f.GlyphIndex(nil, r); err != nil || i == 0 {
				return nil
			}
			return rowsOf(mono, r, 2*CellWidth, CellHeight, CellWidth/2, baseline, 0x70)
		})...)
	}
	dots := bitmapfont.FaceSC
	want = append(want, drawn(func(r rune) []byte {
		advance, ok := dots.GlyphAdvance(r)
		if _, _, _, _, drawn := dots.Glyph(fixed.P(0, 0), r); !ok || !drawn {
			return nil
		}
		b := rowsOf(dots, r, CellWidth, CellHeight/2, (CellWidth-advance.Round())/2, bitsBaseline, 0x80)
		if bytes.Count(b, []byte{0}) == len(b) && !unicode.IsSpace(r) && !unicode.In(r, unicode.Cc, unicode.Cf) {
			return nil // it says it has them all
		}
		return b
	})...)
	z, err := gzip.NewReader(bytes.NewReader(drawings))
	if err == nil {
		var got bytes.Buffer
		if _, err = got.ReadFrom(z); err == nil && bytes.Equal(got.Bytes(), want) {
			return
		}
	}
	t.Errorf("drawings.gz is not what the fonts draw: go test ./hardware/paper -update; %v", err)
	if *update {
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		_, _ = w.Write(want)
		_ = w.Close()
		if err := os.WriteFile("drawings.gz", b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// drawn is a face of the file.
func drawn(rows func(rune) []byte) []byte {
	var n uint16
	var runes, all []byte
	for r := rune(0); r <= 0xffff; r++ {
		if b := rows(r); b != nil {
			n++
			runes = binary.BigEndian.AppendUint16(runes, uint16(r))
			all = append(all, b...)
		}
	}
	return append(append(binary.BigEndian.AppendUint16(nil, n), runes...), all...)
}

func rowsOf(f font.Face, r rune, w, h, x, y int, black byte) []byte {
	gray := image.NewGray(image.Rect(0, 0, w, h))
	d := font.Drawer{Dst: gray, Src: image.White, Face: f, Dot: fixed.P(x, y)}
	d.DrawString(string(r))
	stride := (w + 7) / 8
	b := make([]byte, stride*h)
	for i, v := range gray.Pix {
		if v >= black {
			b[i/w*stride+i%w/8] |= 0x80 >> (i % w % 8)
		}
	}
	return b
}
