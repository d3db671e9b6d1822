package escpos

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"coinop/hardware/paper"
)

func line(text string) []byte { return append([]byte(text), '\n') }

// TestCommands: the exchanges of Epson's ESC/POS reference; those of codes are also the bytes of other
// programs' golden streams.
func TestCommands(t *testing.T) {
	t.Parallel()
	utf := paper.Page{Columns: 32, Charset: paper.UTF8, Lines: []paper.Line{{Text: "水 €"}}}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{
			"ESC @, ESC a, GS !: double size in the middle, and back",
			Align(Size(append(Size(Align(append([]byte(nil), initialize...), paper.Center), 2, 2), line("KIOSK 42")...), 1, 1), paper.Left),
			"1b40 1b6101 1d2111 4b494f534b203432 0a 1d2100 1b6100",
		},
		{
			"GS ( k: QR",
			Code(nil, paper.NewQR("https://r.example/T001/42")),
			"1d286b0400314132 00 1d286b0300314306 1d286b0300314531 1d286b1c00315030 68747470733a2f2f722e6578616d706c652f543030312f3432 1d286b0300315130",
		},
		{
			"GS ( k: QR of a golden stream",
			Code(nil, paper.Code{Symbology: paper.QR, Data: "Testing 123", Size: 3}),
			"1d286b040031413200 1d286b0300314303 1d286b0300314530 1d286b0e00315030 54657374696e6720313233 1d286b0300315130",
		},
		{"GS h, w, H, k: CODE128", Code(nil, paper.NewBars(paper.Code128, "ORD00042")), "1d6850 1d7702 1d4802 1d6b490a7b42 4f52443030303432"},
		{"CODE128 with a brace", Code(nil, paper.NewBars(paper.Code128, "a{b")), "1d6850 1d7702 1d4802 1d6b4906 7b42 61 7b7b 62"},
		{"EAN13", Code(nil, paper.NewBars(paper.EAN13, "4006381333931")), "1d6850 1d7702 1d4802 1d6b430d 34303036333831333333393331"},
		{"CODE39 without text", Code(nil, paper.Code{Symbology: paper.Code39, Data: "A-1", Size: 3, Height: 100, Plain: true}), "1d6864 1d7703 1d4800 1d6b4503 412d31"},
		{"no symbology", Code(nil, paper.Code{Data: "A"}), ""},
		{"GS v 0: raster", Raster(nil, paper.Bitmap{Width: 16, Height: 2, Bits: []byte{0xF0, 0x0F, 0x0F, 0xF0}}), "1d76300002000200 f00f0ff0"},
		{"GS V 66: cut", Cut(nil), "1d564200"},
		{"ESC p: drawer", Drawer(nil, 0), "1b700019fa"},
		{"FS &: Chinese", line(string(Text([]byte{0x1C, '&'}, paper.GB18030, "您好 北京"))), "1c26 c4fabac3 20 b1b1bea9 0a"},
		{"GB 18030: yen is full-width", Text(nil, paper.GB18030, "¥￥"), "a3a4a3a4"},
		{"code page 858: the euro sign", Text(nil, paper.CP858, "€水"), "d53f"},
		{"FS ( C: UTF-8", Bytes(utf), "1b40 1c284302003002 e6b0b420e282ac 0a 1d564200"},
		{
			"a page with a drawer, a picture and a code",
			Bytes(paper.Page{Columns: 32, Charset: paper.GB18030, Drawer: true, Lines: []paper.Line{
				{Image: &paper.Bitmap{Width: 8, Height: 1, Bits: []byte{0x81}}},
				{Code: &paper.Code{Symbology: paper.Code39, Data: "A", Size: 2, Height: 9}},
			}}),
			"1b40 1c26 1b700019fa 1b6101 1d76300001000100 81 1b6100 1b6101 1d6809 1d7702 1d4802 1d6b450141 1b6100 1d564200",
		},
	} {
		if got := hex.EncodeToString(c.got); got != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s:\nhave %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestBands: a picture's commands are small, and together they are the picture.
func TestBands(t *testing.T) {
	t.Parallel()
	p := paper.Bitmap{Width: 576, Height: 100}
	p.Bits = make([]byte, p.Width/8*p.Height)
	for i := range p.Bits {
		p.Bits[i] = byte(i * 7)
	}
	b, whole := Raster(nil, p), []byte(nil)
	bands := 0
	for len(b) > 0 {
		n := int(b[4]) * int(b[6])
		if n > 2048 || !bytes.HasPrefix(b, []byte{0x1D, 'v', '0', 0}) {
			t.Fatalf("band of %d bytes, % x", n, b[:8])
		}
		whole, b = append(whole, b[8:8+n]...), b[8+n:]
		bands++
	}
	if bands != 5 || !bytes.Equal(whole, p.Bits) {
		t.Errorf("%d bands, whole %t", bands, bytes.Equal(whole, p.Bits))
	}
}
