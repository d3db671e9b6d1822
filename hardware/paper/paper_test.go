package paper

import (
	"flag"
	"image/png"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"coinop/protocol/money"
)

var update = flag.Bool("update", false, "write the golden texts and pictures anew")

// Samples are receipts of each kind.
var samples = map[string]Receipt{
	"sold": {
		Head: []string{"Kaffee Müller", "Bahnhofstraße 1, Zürich"}, Foot: []string{"Questions? 0800 123 456"}, Machine: "snack-1",
		Sale: "0199a1b2-0000-7000-8000-0000deadbeef", At: time.Date(2026, 11, 24, 14, 2, 15, 0, time.UTC),
		Items:   []Item{{"Cola 0.5 l", money.New(150, money.EUR), ItemDelivered}, {"A product whose name is much longer than any paper is wide, as they are", money.New(275, money.EUR), ItemDelivered}},
		Charged: money.New(425, money.EUR), Brand: "visa", Last4: "0119", Approval: "A1B2C3",
	},
	"not charged": {
		Head: []string{"Coinop"}, Machine: "snack-1", Sale: "0199a1b2-0000-7000-8000-000000000001", At: time.Date(2026, 11, 24, 14, 2, 15, 0, time.UTC),
		Items: []Item{{"Item 5", money.New(150, money.EUR), ItemFailed}}, Charged: money.New(0, money.EUR), Brand: "mastercard", Last4: "0011",
	},
	"offline, unknown, test, copy": {
		Head: []string{"水 Water"}, Machine: "k-2", Sale: "0199a1b2-0000-7000-8000-000000000002", At: time.Date(2026, 11, 24, 14, 2, 15, 0, time.UTC),
		Items:   []Item{{"Item 7", money.New(1234567, money.EUR), ItemUnknown}},
		Charged: money.New(1234567, money.EUR), Brand: "visa", Last4: "0119", Offline: true, Open: true, Test: true, Copy: true,
	},
}

// TestReceipts: what stands on each, in both widths, and that no line is longer than the paper.
func TestReceipts(t *testing.T) {
	t.Parallel()
	for name, r := range samples {
		for _, columns := range []int{Width58, Width80} {
			p := r.Layout(columns)
			file := "testdata/" + strings.NewReplacer(" ", "-", ",", "").Replace(name) + map[int]string{Width58: "-58", Width80: "-80"}[columns]
			for _, l := range p.Lines {
				if n := utf8.RuneCountInString(l.Text); n > columns || l.Big && n > columns/2 {
					t.Errorf("%s: %d characters: %q", file, n, l.Text)
				}
			}
			if *update {
				write(t, file+".txt", []byte(p.Text()))
			}
			if want, err := os.ReadFile(file + ".txt"); err != nil || string(want) != p.Text() {
				t.Errorf("%s.txt: %v, have\n%s", file, err, p.Text())
			}
			if *update && columns == Width80 {
				f, err := os.Create(file + ".png")
				if err == nil {
					err = png.Encode(f, p.Picture())
					_ = f.Close()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if p := samples["offline, unknown, test, copy"].Layout(Width80); p.Missing != 1 {
		t.Errorf("%d characters are missing, want 水", p.Missing)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzLayout: whatever names hold, a page keeps to its width, loses no amount, and can be drawn.
func FuzzLayout(f *testing.F) {
	f.Add("Cola", "visa", 32)
	f.Add(strings.Repeat("ä€\x00\u202E水", 40), "\xff", 48)
	f.Fuzz(func(t *testing.T, name, brand string, columns int) {
		columns = 16 + (columns&0x7fffffff)%64
		p := Receipt{
			Head: []string{name}, Machine: name, Sale: name, Items: []Item{{name, money.New(150, money.EUR), ItemDelivered}},
			Charged: money.New(150, money.EUR), Brand: brand, Last4: "0119",
		}.Layout(columns)
		amounts := 0
		for _, l := range p.Lines {
			n := utf8.RuneCountInString(l.Text)
			if n > columns || l.Big && n > columns/2 {
				t.Fatalf("%d characters on %d: %q", n, columns, l.Text)
			}
			for _, r := range l.Text {
				if !Printable(r) {
					t.Fatalf("%q cannot be printed", r)
				}
			}
			if strings.HasSuffix(l.Text, " 1.50") || strings.HasSuffix(l.Text, " 1.50 EUR") {
				amounts++
			}
		}
		if amounts < 2 && len(p.Lines) < maxLines {
			t.Fatalf("%d amounts:\n%s", amounts, p.Text())
		}
		if len(name) < 40 { // drawing is slow
			p.Picture()
		}
	})
}
