package hardwaretest

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coinop/hardware/paper"
	"coinop/hardware/virtual"
)

// scan is what zbarimg (Debian: zbar-tools) reads in a picture, sorted: TYPE:data. It is the judge of the
// codes that are drawn; where it is missing the test fails.
func scan(t *testing.T, picture string) []string {
	t.Helper()
	path, err := exec.LookPath("zbarimg")
	if err != nil {
		t.Fatal("zbarimg is missing, and only it can say whether codes can be read: make tools, or apt-get install zbar-tools")
	}
	var said bytes.Buffer
	c := exec.CommandContext(t.Context(), path, "--quiet", "-S*.enable", picture)
	c.Env, c.Stderr = []string{"DBUS_SYSTEM_BUS_ADDRESS=disabled:"}, &said
	out, err := c.Output()
	if err != nil {
		t.Fatalf("zbarimg reads nothing in %s: %v\n%s", picture, err, said.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	return lines
}

// codes: what a scanner reads in the picture that was drawn from the driver's bytes.
func codes(t *testing.T, b *printerBench) {
	for i, set := range []paper.Charset{paper.CP858, paper.GB18030, paper.UTF8} {
		p := paper.Receipt{Head: []string{"Kaffee 北京"}, Machine: "k-1", Charged: price, QR: "https://r.example/T001/42?x=1"}.Layout(paper.Form{Columns: paper.Width80, Charset: set})
		for s, data := range map[paper.Symbology]string{paper.Code128: "ORD{00042}", paper.EAN13: "400638133393", paper.Code39: "COINOP-42"} {
			p.Blank()
			must(t, p.Code(paper.NewBars(s, data)))
		}
		p.Blank()
		if r := b.print(uint32(i), p); r != "" { //nolint:gosec // 0 to 2
			t.Fatalf("ended as %q", r)
		}
		got := scan(t, filepath.Join(b.dir, "receipt-000"+string(rune('1'+i))+".png"))
		want := []string{"CODE-128:ORD{00042}", "CODE-39:COINOP-42", "EAN-13:4006381333931", "QR-Code:https://r.example/T001/42?x=1"}
		if !slices.Equal(got, want) {
			t.Errorf("charset %d: a scanner reads %q, want %q", set, got, want)
		}
		same(t, b, p)
	}
}

// pictures come in bands, and are the preview.
func pictures(t *testing.T, b *printerBench) {
	logo := paper.Bitmap{Width: 200, Height: 90, Bits: bytes.Repeat([]byte{0x10, 0x04, 0x01, 0xF0, 0x00}, 450)} // DLE EOT 1 in it
	p := paper.Receipt{Head: []string{"￥ 1 €"}, Machine: "k-1", Charged: price}.Layout(paper.Form{Columns: paper.Width80, Charset: paper.GB18030, Logo: &logo})
	p.Drawer = true
	if r := b.print(1, p); r != "" {
		t.Fatalf("ended as %q", r)
	}
	same(t, b, p)
	if v := b.far.View(); v.Tallest == 0 || v.Tallest > 128 || v.Drawer != 1 {
		t.Errorf("bands of %d rows, %d pulses for the drawer", v.Tallest, v.Drawer)
	}
}

// goldenCodes: a stream of another program, as it is printed and scanned.
func goldenCodes(t *testing.T, b *printerBench) {
	b.stop()
	stream := "\x1b@\x1b!0QR code demo\n\x1b!\x00\x1d(k\x04\x001A2\x00\x1d(k\x03\x001C\x03\x1d(k\x03\x001E0\x1d(k\x0e\x001P0Testing 123\x1d(k\x03\x001Q0\n\x1dV\x42\x00"
	b.far.Feed([]byte(stream))
	b.wait(func(v virtual.PrinterView) bool { return v.Cuts == 1 })
	if got := scan(t, filepath.Join(b.dir, "receipt-0001.png")); !slices.Equal(got, []string{"QR-Code:Testing 123"}) {
		t.Errorf("a scanner reads %q", got)
	}
}
