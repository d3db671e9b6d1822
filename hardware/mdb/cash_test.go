package mdb

import (
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/protocol/money"
)

// TestCashExchanges: what the master says and makes of the answers, in the bytes of MDB/ICP 4.2, sections
// 5 and 6, and of captures of real changers and validators.
func TestCashExchanges(t *testing.T) {
	t.Parallel()
	s, now := NewCashState("cash", money.EUR), time.Second
	var ev []hardware.Event
	step := func(in any) (wrote string) {
		var o hardware.Output
		var line Unmark
		s, o = s.Step(now, in)
		var words []Word
		for _, a := range o.Do {
			if a.Emit != nil {
				ev = append(ev, a.Emit)
			}
			words = append(words, line.Add(a.Write)...)
		}
		return text(words)
	}
	// next lets time go until the master says something to the changer (or the validator).
	next := func(address string) string {
		for range 400 {
			now += 10 * time.Millisecond
			if w := step(hardware.Wake{}); strings.HasPrefix(w, address) {
				return w
			}
		}
		t.Fatal("nothing was said")
		return ""
	}
	answer := func(words string) string {
		now += time.Millisecond
		return step(hardware.Bytes{B: Mark(wire(t, words))})
	}
	talk := func(says, hears string) {
		t.Helper()
		if got := next(says[:1]); !strings.HasPrefix(got, says) {
			t.Errorf("said %s, want %s", got, says)
		}
		if got := answer(hears); hears != "00*" && !strings.HasPrefix(got, "00") {
			t.Errorf("%s was not acknowledged: %q", hears, got)
		}
	}
	step(hardware.Opened{})
	const setup = "02 19 78 05 02 FF FF 01 02 04 0A 14 28 00 00 00 00 00 00 00 00 00 00 E5*"
	talk("09* 09", setup)
	talk("0B* 0B", "41 00 41*") // what came in while nobody listened
	talk("0B* 0B", "02 02*")    // it still pays out
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
	for _, e := range ev {
		if c, ok := e.(hardware.CashIn); ok && c.Box && c.Value.Minor == 10 {
			before++
		}
	}
	ev = nil
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
	talk("0B* 0B", "00*")
	talk("0A* 0A", tubes) // at once: nothing can come in any more
	if before != 1 {
		t.Errorf("%d coins of before", before)
	}
	want := []hardware.Event{hardware.CashIn{Value: money.New(20, money.EUR)}, hardware.CashIn{Value: money.New(200, money.EUR), Box: true}}
	var got []hardware.Event
	for _, e := range ev {
		if c, ok := e.(hardware.CashIn); ok {
			got = append(got, c)
		}
	}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[1] {
		t.Errorf("%+v", got)
	}
	level, _ := ev[len(ev)-1].(hardware.CashLevel)
	if !level.Still || len(level.Tubes) != 6 || level.Tubes[2] != (money.Tube{Value: 20, Count: 8}) {
		t.Errorf("%+v", level)
	}
}

// FuzzCash: whatever the bus says, each payout ends once, and nothing grows.
func FuzzCash(f *testing.F) {
	f.Add([]byte{0xFF, 0, 0, 0x0B, 0xFF, 0, 0x0B, 0x02, 0x19, 0x78})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, now := NewCashState("cash", money.EUR), time.Second
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
