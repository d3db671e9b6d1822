package mdb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/protocol/money"
)

// dialog is a master, and what its devices are made to say.
type dialog struct {
	t   *testing.T
	s   CashState
	now time.Duration
	ev  []hardware.Event
}

func (d *dialog) step(in any) (wrote string) {
	var o hardware.Output
	var line Unmark
	d.s, o = d.s.Step(d.now, in)
	var words []Word
	for _, a := range o.Do {
		if a.Emit != nil {
			d.ev = append(d.ev, a.Emit)
		}
		words = append(words, line.Add(a.Write)...)
	}
	return text(words)
}

// next lets time go until the master says something to the changer (or the validator).
func (d *dialog) next(address string) string {
	for range 400 {
		d.now += 10 * time.Millisecond
		if w := d.step(hardware.Wake{}); strings.HasPrefix(w, address) {
			return w
		}
	}
	d.t.Fatal("nothing was said")
	return ""
}

func (d *dialog) talk(says, hears string) {
	d.t.Helper()
	if got := d.next(says[:1]); !strings.HasPrefix(got, says) {
		d.t.Errorf("said %s, want %s", got, says)
	}
	d.now += time.Millisecond
	if got := d.step(hardware.Bytes{B: Mark(wire(d.t, hears))}); hears != "00*" && !strings.HasPrefix(got, "00") {
		d.t.Errorf("%s was not acknowledged: %q", hears, got)
	}
}

// sealed is a block with its sum.
func sealed(t *testing.T, block string) string {
	t.Helper()
	sum := byte(0)
	for _, w := range wire(t, block) {
		sum += byte(w) //nolint:gosec // its low byte
	}
	return fmt.Sprintf("%s %02X*", block, sum)
}

// TestCashAlternative: a changer of level 3 is given an amount and chooses the coins itself (MDB/ICP 4.2,
// section 5, 0Fh 02h to 04h); it is asked until it is done, and its tubes are counted all the same.
func TestCashAlternative(t *testing.T) {
	t.Parallel()
	d := &dialog{t: t, s: NewCashState(CashConfig{Config: Config{Device: "cash"}, Currency: money.EUR}), now: time.Second}
	tubes := func(n string) string { return sealed(t, "00 00 "+n+" 02 08 00 00 00 00 00 00 00 00 00 00 00 00 00") }
	d.step(hardware.Opened{})
	setup := sealed(t, "03 19 78 05 02 FF FF 01 02 04 0A 14 28 00 00 00 00 00 00 00 00 00 00")
	d.talk("09* 09", setup)
	d.talk("0C* 00 00 FF FF 0A", "00*")
	d.talk("0B* 0B", "00*")
	d.talk("08* 08", "00*")
	d.talk("0B* 0B", "0B 0B*")
	d.talk("09* 09", setup)
	d.talk("0F* 00 0F", sealed(t, "56 49 52"+strings.Repeat(" 30", 29)+" 03")) // alternative payout, and diagnostics
	d.talk("0F* 01 00 00 00 01 11", "00*")
	d.talk("0A* 0A", tubes("11"))
	d.talk("0C* 00 00 FF FF 0A", "00*")
	d.talk("0B* 0B", "00*")
	d.talk("0A* 0A", tubes("11"))
	d.step(payCmd{1, money.New(35, money.EUR)})
	d.talk("0B* 0B", "00*")
	d.talk("0A* 0A", tubes("11"))
	d.talk("0F* 02 07 18", "00*")
	d.talk("0F* 04 13", "04 04*") // 0.20 so far
	d.talk("0F* 04 13", "03 03*")
	d.talk("0F* 04 13", "00*")
	d.talk("0F* 03 12", "00*") // not done after all
	d.talk("0F* 03 12", "01 01 01 00 03*")
	d.talk("0A* 0A", sealed(t, "00 00 10 01 07 00 00 00 00 00 00 00 00 00 00 00 00 00"))
	want := hardware.Paid{ID: 1, Asked: money.New(35, money.EUR), Given: money.New(35, money.EUR), Known: true}
	if got, _ := d.ev[len(d.ev)-1].(hardware.Paid); got != want {
		t.Errorf("%+v", d.ev)
	}
	d.step(payCmd{2, money.New(10, money.EUR)})
	d.talk("0B* 0B", "00*")
	d.talk("0A* 0A", tubes("10"))
	d.talk("0F* 02 02 13", "00*")
	d.talk("0F* 04 13", "00*")
	d.talk("0F* 03 12", "00 01 01*")
	d.talk("0A* 0A", tubes("10")) // it says that it gave a coin, and none is missing
	if h, _ := d.ev[len(d.ev)-1].(hardware.Health); h.Code != "cash.count" {
		t.Errorf("%+v", d.ev[len(d.ev)-1])
	}
}

// TestExactMoney: change is scarce when the smallest coin that has a tube is; one that goes to the box
// says nothing.
func TestExactMoney(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tubed  uint16
		counts []byte
		exact  bool
	}{
		{0x07, []byte{5, 5, 5}, false},
		{0x07, []byte{4, 90, 90}, true},
		{0x06, []byte{0, 5, 0}, false},
		{0x06, []byte{0, 4, 90}, true},
		{0x00, []byte{0, 0, 0}, true},
	} {
		s := NewCashState(CashConfig{Config: Config{Device: "cash"}, Currency: money.EUR})
		s.coin.types, s.coin.tubed = [16]int64{5, 10, 20}, c.tubed
		var o hardware.Output
		s.tubesSaid(&o, append([]byte{0, 0}, c.counts...))
		if l, _ := o.Do[0].Emit.(hardware.CashLevel); l.Exact != c.exact {
			t.Errorf("tubes %b with %v: exact %v", c.tubed, c.counts, l.Exact)
		}
	}
}

// TestCashExchanges: what the master says and makes of the answers, in the bytes of MDB/ICP 4.2, sections
// 5 and 6, and of captures of real changers and validators.
func TestCashExchanges(t *testing.T) {
	t.Parallel()
	d := &dialog{t: t, s: NewCashState(CashConfig{Config: Config{Device: "cash"}, Currency: money.EUR}), now: time.Second}
	step, talk := d.step, d.talk
	step(hardware.Opened{})
	const setup = "02 19 78 05 02 FF FF 01 02 04 0A 14 28 00 00 00 00 00 00 00 00 00 00 E5*"
	talk("09* 09", setup)
	talk("0C* 00 00 FF FF 0A", "00*") // who was away lets no coins in before it listens: a reset forgets them
	talk("0B* 0B", "41 00 41*")       // what came in while nobody listened
	talk("0B* 0B", "02 02*")          // it still pays out
	talk("0B* 0B", "00*")
	talk("08* 08", "00*")
	talk("0B* 0B", "0B 0B*")
	talk("09* 09", setup)
	const tubes = "00 00 11 00 08 00 00 00 00 00 00 00 00 00 00 00 00 00 19*"
	talk("0A* 0A", tubes)
	talk("0C* 00 00 FF FF 0A", "00*")
	step(acceptCmd{100000})
	talk("0C* FF FF FF FF 08", "00*")
	before := 0
	for _, e := range d.ev {
		if c, ok := e.(hardware.CashIn); ok && c.Box && c.Value.Minor == 10 {
			before++
		}
	}
	d.ev = nil
	talk("0B* 0B", "52 09 5B*") // type 2 into its tube, 9 in it
	talk("0A* 0A", tubes)
	talk("0B* 0B", "52 09 5B*") // the same again: our ACK was not heard
	talk("0A* 0A", tubes)
	talk("0B* 0B", "73 00 73*") // rejected
	talk("0A* 0A", tubes)
	talk("0B* 0B", "45 00 45*") // type 5 into the box
	talk("0A* 0A", tubes)
	talk("0B* 0B", "45 00 45*") // the same block at the very next POLL: our ACK was not heard
	talk("0A* 0A", tubes)
	talk("0B* 0B", "00*")
	talk("0B* 0B", "45 00 45*") // another one
	talk("0A* 0A", tubes)
	step(acceptCmd{100})
	talk("0C* FF DF FF FF E8", "00*") // no coin of 2.00: its change could not be given
	step(acceptCmd{0})
	talk("0C* 00 00 FF FF 0A", "00*")
	talk("0B* 0B", "92 07 99*") // a technician took one of type 2 out: 7 are left
	if out, _ := d.ev[len(d.ev)-1].(hardware.CashOut); out.Value != money.New(20, money.EUR) {
		t.Errorf("%+v", d.ev[len(d.ev)-1])
	}
	talk("0A* 0A", tubes)
	talk("0B* 0B", "00*")
	talk("0A* 0A", tubes) // at once: nothing can come in any more
	if before != 1 {
		t.Errorf("%d coins of before", before)
	}
	want := []hardware.Event{hardware.CashIn{Value: money.New(20, money.EUR)}, hardware.CashIn{Value: money.New(200, money.EUR), Box: true}}
	var got []hardware.Event
	for _, e := range d.ev {
		if c, ok := e.(hardware.CashIn); ok {
			got = append(got, c)
		}
	}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[1] {
		t.Errorf("%+v", got)
	}
	level, _ := d.ev[len(d.ev)-1].(hardware.CashLevel)
	if !level.Still || len(level.Tubes) != 6 || level.Tubes[2] != (money.Tube{Value: 20, Count: 8}) {
		t.Errorf("%+v", level)
	}
}

// FuzzCash: whatever the bus says, each payout ends once, and nothing grows.
func FuzzCash(f *testing.F) {
	f.Add([]byte{0xFF, 0, 0, 0x0B, 0xFF, 0, 0x0B, 0x02, 0x19, 0x78})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, now := NewCashState(CashConfig{Config: Config{Device: "cash"}, Currency: money.EUR}), time.Second
		asked, ended := 0, 0
		step := func(in any) {
			var o hardware.Output
			s, o = s.Step(now, in)
			for _, a := range o.Do {
				if p, ok := a.Emit.(hardware.Paid); ok {
					if ended++; p.Given.Minor < 0 {
						t.Fatalf("%+v", p)
					}
				}
			}
		}
		step(hardware.Opened{})
		for i, c := range b {
			now += time.Duration(c) * time.Millisecond
			step(hardware.Wake{})
			switch c % 31 {
			case 3:
				step(acceptCmd{int64(i%2) * 100})
			case 7:
				asked++
				step(payCmd{uint32(i), money.New(int64(c)*5, money.EUR)}) //nolint:gosec // short
			case 11:
				step(billCmd{i%2 == 0})
			}
			step(hardware.Bytes{B: []byte{c}})
			if len(s.reply) > BlockMax+1 {
				t.Fatal(len(s.reply))
			}
		}
		step(hardware.Closed{})
		if asked != ended {
			t.Fatalf("%d payouts, %d ends", asked, ended)
		}
	})
}
