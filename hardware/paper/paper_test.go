package paper

import (
	"flag"
	"image/png"
	"os"
	"strings"
	"testing"
	"time"

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
	"a customer card": {
		Head: []string{"Canteen at the Lake"}, Machine: "canteen-1", Sale: "0199a1b2-0000-7000-8000-000000000004", At: time.Date(2026, 11, 24, 14, 2, 15, 0, time.UTC),
		Items: []Item{{"Soup", money.New(150, money.EUR), ItemDelivered}}, Charged: money.New(150, money.EUR), Brand: "closed_loop",
	},
	"offline, unknown, test, copy": {
		Head: []string{"水 Water"}, Machine: "k-2", Sale: "0199a1b2-0000-7000-8000-000000000002", At: time.Date(2026, 11, 24, 14, 2, 15, 0, time.UTC),
		Items:   []Item{{"Item 7", money.New(1234567, money.EUR), ItemUnknown}},
		Charged: money.New(1234567, money.EUR), Brand: "visa", Last4: "0119", Offline: true, Open: true, Test: true, Copy: true,
	},
	"in Chinese": {
		Head: []string{"北京咖啡", "王府井大街1号"}, Foot: []string{"有问题吗？请致电 400 800 1234。谢谢惠顾，欢迎下次光临本店"}, Machine: "bj-7",
		Sale: "0199a1b2-0000-7000-8000-000000000003", QR: "0199a1b2-0000-7000-8000-000000000003", At: time.Date(2026, 11, 24, 14, 2, 15, 0, time.UTC),
		Items:   []Item{{"可口可乐 0.5 l ¥ € ü", money.New(600, money.CNY), ItemDelivered}, {"Müller", money.New(150, money.CNY), ItemDelivered}},
		Charged: money.New(750, money.CNY), Brand: "unionpay", Last4: "0119", Merchant: true,
	},
}

// charsets of the samples that are not for code page 858.
var charsets = map[string]Charset{"in Chinese": GB18030}

// cells is how wide a text of a page is.
func cells(p Page, l Line) int {
	if l.Code != nil || l.Image != nil {
		return 0
	}
	return p.Charset.cells(l.Text)
}

// TestReceipts: what stands on each, in both widths, and that no line is longer than the paper.
func TestReceipts(t *testing.T) {
	t.Parallel()
	for name, r := range samples {
		for _, columns := range []int{Width58, Width80} {
			p := r.Layout(Form{Columns: columns, Charset: charsets[name]})
			file := "testdata/" + strings.NewReplacer(" ", "-", ",", "").Replace(name) + map[int]string{Width58: "-58", Width80: "-80"}[columns]
			for _, l := range p.Lines {
				if n := cells(p, l); n > columns || l.Big && n > columns/2 {
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
	if p := samples["offline, unknown, test, copy"].Layout(Form{Columns: Width80}); p.Missing != 1 {
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
	f.Add("Cola", "visa", 32, byte(0))
	f.Add("北京", "￥ü", 16, byte(1))
	f.Add("e\u0301\u202E㐀水", "x", 17, byte(2))
	f.Add(strings.Repeat("ä€\x00\u202E水", 40), "\xff", 48, byte(0))
	f.Fuzz(func(t *testing.T, name, brand string, columns int, set byte) {
		columns = 16 + (columns&0x7fffffff)%64
		p := Receipt{
			Head: []string{name}, Machine: name, Sale: name, Items: []Item{{name, money.New(150, money.EUR), ItemDelivered}},
			Charged: money.New(150, money.EUR), Brand: brand, Last4: "0119", QR: name,
		}.Layout(Form{Columns: columns, Charset: Charset(set % 3)})
		amounts := 0
		for _, l := range p.Lines {
			n := cells(p, l)
			if n > columns || l.Big && n > columns/2 {
				t.Fatalf("%d characters on %d: %q", n, columns, l.Text)
			}
			for _, r := range l.Text {
				if !p.Charset.Printable(r) {
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
