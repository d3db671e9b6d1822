package hardwaretest

import (
	"bytes"
	"image"
	"testing"

	"coinop/hardware/escpos"
	"coinop/hardware/paper"
	"coinop/hardware/virtual"
)

// FuzzPage: whatever stands on a page, in whichever charset, the far end understands every byte of it, and
// prints its preview.
func FuzzPage(f *testing.F) {
	f.Add("Kaffee Müller 1 €", "ORD{00042}", byte(0), byte(2))
	f.Add("北京 ￥㐀", "400638133393", byte(1), byte(3))
	f.Add("e\u0301 水\x1b@", "COINOP-42", byte(2), byte(4))
	f.Add("\x10\x04\x01", "https://r.example/?\x10\x04\x01", byte(1), byte(1))
	far, err := virtual.NewPrinter(virtual.PrinterConfig{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(far.Unplug)
	f.Fuzz(func(t *testing.T, text, data string, set, kind byte) {
		if len(text) > 200 {
			return
		}
		p := paper.Receipt{
			Head: []string{text}, Machine: text, Charged: price, Terminal: []string{text}, QR: data, Copy: kind&8 != 0,
			Items: []paper.Item{{Name: text, Price: price, State: paper.ItemDelivered}},
		}.Layout(paper.Form{Columns: paper.Width80, Charset: paper.Charset(set % 3)})
		_ = p.Code(paper.NewBars(paper.Symbology(kind%5), data)) // where it can be
		n := far.View().Cuts
		far.Feed(escpos.Bytes(p))
		v := far.View()
		if v.Cuts != n+1 || len(v.Unknown) > 0 {
			t.Fatalf("%d cuts, not understood: %q", v.Cuts-n, v.Unknown)
		}
		drawn, ok := v.Last.(*image.Paletted)
		if !ok || !bytes.Equal(drawn.Pix, p.Picture().Pix) {
			t.Fatalf("the print is not the preview of\n%s", p.Text())
		}
	})
}
