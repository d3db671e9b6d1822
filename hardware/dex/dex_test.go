package dex

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
)

func sample(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/snack.dts")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestParse: a file of EVA-DTS 6.1 with a G85 that others computed.
func TestParse(t *testing.T) {
	t.Parallel()
	f, err := Parse(sample(t))
	if err != nil || len(f.Problems) != 0 {
		t.Fatal(err, f.Problems)
	}
	a := f.Audit()
	want := Audit{
		Serial: "KSK000000000042", Model: "EDGE-1", Asset: "ASSET-0042", Board: "KSK000000000042", Decimals: 2, Currency: "EUR",
		Paid: Sum{12550, 84}, Free: Sum{100, 1}, Cash: Sum{5050, 34}, Cashless: Sum{7500, 50}, CashIn: Money{9000, 2500, 2500, 4000}, CashOut: 3950,
		Products: []Product{{Selection: "5", Price: 150, Sold: Sum{7500, 50}}, {Selection: "11", Price: 100, Sold: Sum{5050, 34}}},
		Read:     time.Date(2025, 11, 22, 3, 0, 0, 0, time.UTC),
	}
	if !reflect.DeepEqual(a, want) || len(f.Problems) != 0 {
		t.Errorf("have %+v\nwant %+v\n%v", a, want, f.Problems)
	}
	again, err := Parse(Write("COINOP0001", a.Segments()))
	if err != nil || len(again.Problems) != 0 {
		t.Fatal(err, again.Problems)
	}
	b := again.Audit()
	b.Read = a.Read
	if !reflect.DeepEqual(a, b) {
		t.Errorf("written and read again:\n%+v\n%+v", a, b)
	}
}

// TestOdd: what is wrong is refused or named, with its line.
func TestOdd(t *testing.T) {
	t.Parallel()
	edit := func(old, with string) []byte { return bytes.Replace(sample(t), []byte(old), []byte(with), 1) }
	// sum puts the right G85 in again.
	sum := func(b []byte) []byte {
		from, to := bytes.Index(b, []byte("ST*")), bytes.Index(b, []byte("G85*"))
		return append(append(slices.Clone(b[:to+4]), strings.ToUpper(hex.EncodeToString([]byte{byte(crc(0, b[from:to]...) >> 8), byte(crc(0, b[from:to]...))}))...), b[to+8:]...)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		err  error
		want []string
	}{
		{"one digit changed", edit("12550", "12551"), ErrSum, nil},
		{"the sum the other way round", edit("G85*F552", "G85*52F5"), nil, []string{ProblemSwapped}},
		{"no sum", edit("G85*F552\r\n", ""), nil, []string{ProblemNoSum, ProblemCount}},
		{"a sum that is none", edit("G85*F552", "G85*XYZ"), ErrSum, nil},
		{"a count that is wrong", edit("SE*21", "SE*20"), nil, []string{ProblemCount}},
		{"no number", sum(edit("CA2*5050", "CA2*50x0")), nil, []string{ProblemNumber}},
		{"a product twice", sum(edit("PA1*11", "PA1*5")), nil, []string{ProblemTwice}},
		{"a product without a price", sum(edit("PA1*5*150", "PA1*5")), nil, []string{ProblemPrice}},
		{"no decimals", sum(edit("ID4*2*", "ID4*9*")), nil, []string{ProblemDecimals}},
		{"nothing", nil, ErrFile, nil},
		{"noise", []byte("\x00\xff\r\n"), ErrFile, nil},
		{"no ST", []byte("DXS*1\r\n"), ErrFile, nil},
		{"too long", bytes.Repeat([]byte("ST*1\r\n"), MaxFile/6+1), ErrFile, nil},
		{"LF alone", bytes.ReplaceAll(edit("G85*F552\r\n", ""), []byte("\r\n"), []byte("\n")), nil, []string{ProblemNoSum, ProblemCount}},
	} {
		f, err := Parse(c.raw)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
			continue
		}
		if err != nil {
			continue
		}
		f.Audit()
		var got []string
		for _, p := range f.Problems {
			got = append(got, p.Code)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, f.Problems, c.want)
		}
	}
}

// TestCompare: counters go forward, a new board is a new baseline, and what does not add up has a name.
func TestCompare(t *testing.T) {
	t.Parallel()
	before := Audit{
		Serial: "1", Board: "A", Decimals: 2, Currency: "EUR", Paid: Sum{1000, 10}, Cash: Sum{600, 6}, Cashless: Sum{400, 4}, CashIn: Money{700, 300, 300, 100},
		Products: []Product{{Selection: "5", Price: 100, Sold: Sum{1000, 10}}},
	}
	change := func(f func(*Audit)) Audit {
		now := before
		now.Products = slices.Clone(before.Products)
		f(&now)
		return now
	}
	for _, c := range []struct {
		name string
		now  Audit
		want []string
		ok   func(Delta) bool
	}{
		{"nothing", change(func(*Audit) {}), nil, func(d Delta) bool { return d.Paid == Sum{} && len(d.Products) == 0 }},
		{"two sold", change(func(a *Audit) {
			a.Paid, a.Cash, a.Products[0].Sold = Sum{1200, 12}, Sum{800, 8}, Sum{1200, 12}
		}), nil, func(d Delta) bool {
			return d.Paid == Sum{200, 2} && d.Cash == Sum{200, 2} && d.Cashless == Sum{} && d.Products[0].Sold == Sum{200, 2}
		}},
		{"a counter fell", change(func(a *Audit) { a.CashIn.Box = 200 }), []string{FindingBackwards}, func(d Delta) bool { return d.CashIn == Money{} }},
		{"another board", change(func(a *Audit) { a.Board, a.Paid = "B", Sum{} }), []string{FindingBoard}, func(d Delta) bool { return d.Paid == Sum{} }},
		{"another scale", change(func(a *Audit) { a.Decimals = 0 }), []string{FindingScale}, func(d Delta) bool { return d.Paid == Sum{} }},
		{"a sale nobody sold", change(func(a *Audit) { a.Paid = Sum{1100, 11} }), []string{FindingProducts}, func(d Delta) bool { return d.Paid == Sum{100, 1} }},
	} {
		d, found := Compare(&before, c.now)
		var got []string
		for _, f := range found {
			got = append(got, f.Code)
		}
		if !slices.Equal(got, c.want) || !c.ok(d) {
			t.Errorf("%s: %v %+v", c.name, found, d)
		}
	}
	if _, found := Compare(nil, before); len(found) != 1 || found[0].Code != FindingFirst {
		t.Errorf("%v", found)
	}
}

// TestHandshake: the bytes of the standard's first handshake, their sum from elsewhere.
func TestHandshake(t *testing.T) {
	t.Parallel()
	s := NewState("1234567890")
	step := func(in any) (wrote string, ev []hardware.Event) {
		var o hardware.Output
		s, o = s.Step(time.Second, in)
		for _, a := range o.Do {
			if a.Emit != nil {
				ev = append(ev, a.Emit)
			}
			wrote += hex.EncodeToString(a.Write)
		}
		return wrote, ev
	}
	step(hardware.Opened{})
	if w, _ := step(read{}); w != "05" {
		t.Errorf("wrote %s", w)
	}
	if w, _ := step(hardware.Bytes{B: []byte{0x10, 0x30}}); w != "1001313233343536373839305252303"+"04c30361003e1bd" {
		t.Errorf("wrote %s", w)
	}
	if w, _ := step(hardware.Bytes{B: []byte{0x10, 0x31}}); w != "04" {
		t.Errorf("wrote %s", w)
	}
	if _, ev := step(read{}); !slices.ContainsFunc(ev, func(e hardware.Event) bool {
		a, ok := e.(hardware.AuditRead)
		return ok && a.Reason == ReasonBusy
	}) {
		t.Errorf("a second reading: %+v", ev)
	}
	if _, ev := step(hardware.Closed{}); len(ev) != 1 {
		t.Errorf("%+v", ev)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte("ST*1\nPA1*1\nPA2**\nG85*0000\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := Parse(raw)
		if err != nil {
			return
		}
		a := file.Audit()
		if again, err := Parse(Write("x", a.Segments())); err != nil {
			t.Fatalf("%v: %+v", err, again)
		}
		Compare(&a, a)
	})
}

func FuzzLink(f *testing.F) {
	f.Add([]byte("\x10\x30\x10\x31\x05\x10\x0100MACHINE001R00L06\x10\x03\x00\x00\x04\x05\x10\x02ST\x10\x03ab\x04"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewState("1234567890")
		now, ended := time.Second, 0
		step := func(in any) {
			var o hardware.Output
			s, o = s.Step(now, in)
			for _, a := range o.Do {
				if _, ok := a.Emit.(hardware.AuditRead); ok {
					ended++
				}
			}
		}
		step(hardware.Opened{})
		step(read{})
		for _, c := range b {
			now += time.Duration(c) * time.Millisecond
			step(hardware.Bytes{B: []byte{c}})
			step(hardware.Wake{})
			if len(s.block) > blockMost+1 || len(s.file) > MaxFile+blockMost {
				t.Fatalf("%d %d", len(s.block), len(s.file))
			}
		}
		step(hardware.Closed{})
		if ended != 1 {
			t.Fatalf("the reading ended %d times", ended)
		}
	})
}
