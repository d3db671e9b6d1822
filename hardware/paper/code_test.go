package paper

import (
	"bytes"
	"encoding/hex"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"
)

// TestCharsets: the bytes of characters, and how wide they are.
func TestCharsets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		set   Charset
		r     rune
		want  string // "": it has none
		cells int
	}{
		{"ASCII", CP858, 'A', "41", 1},
		{"the euro sign is where code page 850 has a dotless i", CP858, '€', "d5", 1},
		{"u umlaut", CP858, 'ü', "81", 1},
		{"yen", CP858, '¥', "be", 1},
		{"Chinese", CP858, '水', "", 1},
		{"control", CP858, 0x1B, "", 1},
		{"GB 18030: ASCII", GB18030, 'A', "41", 1},
		{"GB 18030: two bytes", GB18030, '您', "c4fa", 2},
		{"GB 18030: the euro sign", GB18030, '€', "a2e3", 2},
		{"GB 18030: full-width yen", GB18030, '￥', "a3a4", 2},
		{"GB 18030: yen would be 81308436", GB18030, '¥', "a3a4", 2},
		{"GB 18030: four bytes, Chinese", GB18030, '㐀', "8139ee39", 2},
		{"GB 18030: four bytes, not Chinese", GB18030, 'ö', "", 2},
		{"GB 18030: pinyin", GB18030, 'ü', "a8b9", 2},
		{"UTF-8", UTF8, '水', "e6b0b4", 2},
		{"UTF-8: narrow", UTF8, 'ö', "c3b6", 1},
		{"UTF-8: a mark alone", UTF8, '\u0301', "", 1},
		{"UTF-8: right to left override", UTF8, '\u202E', "", 1},
		{"none", Charset(9), 'A', "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, ok := c.set.Encode(c.r)
			if !ok {
				b = nil
			}
			if hex.EncodeToString(b) != c.want || c.set.Cells(c.r) != c.cells {
				t.Errorf("%q is %x in %d cells, want %s in %d", c.r, b, c.set.Cells(c.r), c.want, c.cells)
			}
		})
	}
}

// TestMissing: what a printer lacks is counted once, and a letter and its mark are one character.
func TestMissing(t *testing.T) {
	t.Parallel()
	p := Page{Columns: 32}
	p.Center(Line{Text: "u\u0308 水 北京 €"})
	p.Pair("ö水", "￥", false)
	if p.Missing != 5 || !strings.Contains(p.Lines[0].Text, "ü ? ?? €") || !strings.HasPrefix(p.Lines[1].Text, "ö?") {
		t.Errorf("%d missing: %+v", p.Missing, p.Lines)
	}
}

// TestGlyphs: what stands in the picture is the character and not a box, or the box.
func TestGlyphs(t *testing.T) {
	t.Parallel()
	for r, n := range map[rune]int{'€': 1, 'ü': 1, '水': 2, '您': 2, '京': 2, '￥': 2, 'Ж': 1} {
		for _, bold := range []bool{false, true} {
			g := glyphs.of(r, bold, n)
			if len(g) != n*CellWidth*CellHeight || bytes.Equal(g, box(n)) || !bytes.Contains(g, []byte{1}) {
				t.Errorf("%c, bold %t: it is not drawn", r, bold)
			}
		}
	}
	if g := glyphs.of('\U0001F9CB', false, 2); !bytes.Equal(g, box(2)) {
		t.Error("what no font has is no box")
	}
}

// TestCodeCheck: what no printer can make, or no paper hold.
func TestCodeCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		code    Code
		columns int
		ok      bool
	}{
		{"QR", NewQR("https://r.example/T001/42"), Width58, true},
		{"QR of nothing", NewQR(""), Width58, false},
		{"QR too long", NewQR(strings.Repeat("x", 501)), Width80, false},
		{"QR too wide", NewQR(strings.Repeat("x", 400)), Width58, false},
		{"QR of no size", Code{Symbology: QR, Data: "x"}, Width80, false},
		{"CODE128", NewBars(Code128, "ORD00042"), Width58, true},
		{"CODE128 too wide", NewBars(Code128, strings.Repeat("8", 20)), Width58, false},
		{"CODE128 beyond ASCII", NewBars(Code128, "ü"), Width80, false},
		{"EAN13", NewBars(EAN13, "4006381333931"), Width58, true},
		{"EAN13 with a bad check digit", NewBars(EAN13, "4006381333932"), Width58, false},
		{"EAN8 is none", NewBars(EAN13, "96385074"), Width58, false},
		{"CODE39", NewBars(Code39, "COINOP-42"), Width80, true},
		{"CODE39 has no small letters", NewBars(Code39, "a"), Width80, false},
		{"CODE39 with its star", NewBars(Code39, "A*B"), Width80, false},
		{"bars of no height", Code{Symbology: Code39, Data: "A", Size: 2}, Width80, false},
		{"none", Code{Data: "x", Size: 2, Height: 9}, Width80, false},
	} {
		p := Page{Columns: c.columns}
		if err := p.Code(c.code); (err == nil) != c.ok || len(p.Lines) == 1 != c.ok {
			t.Errorf("%s: %v, %d lines", c.name, err, len(p.Lines))
		}
	}
}

// TestReadPNG: wide pictures are made smaller, clear is white, huge ones are refused.
func TestReadPNG(t *testing.T) {
	t.Parallel()
	file := func(w, h int) *bytes.Reader {
		img := image.NewNRGBA(image.Rect(0, 0, w, h)) // clear, with a black left half
		for y := range h {
			for x := range w / 2 {
				img.Set(x, y, color.Black)
			}
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(b.Bytes())
	}
	b, err := ReadPNG(file(20, 3), Width58)
	if err != nil || b.Width != 24 || b.Height != 3 || !bytes.Equal(b.Bits[:3], []byte{0xFF, 0xC0, 0}) {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err = ReadPNG(file(768, 100), Width58); err != nil || b.Width != 384 || b.Height != 50 {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err = ReadPNG(file(10, 601), Width58); err == nil {
		t.Error("half a roll of paper")
	}
	if _, err = ReadPNG(bytes.NewReader([]byte("GIF89a")), Width58); err == nil {
		t.Error("not a PNG")
	}
}
