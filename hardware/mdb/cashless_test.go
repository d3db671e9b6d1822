package mdb

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// bus is a device under test and the words on its two lines.
type bus struct {
	t    testing.TB
	s    CashlessState
	now  time.Duration
	out  []Word
	ev   []hardware.Event
	line Unmark
	all  []hardware.Event
	// what the last DataEntered held
	secret string
}

func newBus(t testing.TB, cfg CashlessConfig) *bus {
	if cfg.Scale.Currency == 0 {
		cfg.Scale = Scale{Currency: money.EUR, Factor: 1, Decimals: 2}
	}
	if cfg.Level == 0 {
		cfg.Level = 3
	}
	if cfg.Z7 == 0 {
		cfg.Z7 = 5 * time.Second
	}
	cfg.Device = "vmc"
	if cfg.Language == "" {
		cfg.Language = "en"
	}
	b := &bus{t: t, s: NewCashlessState(cfg), line: Unmark{Peripheral: true}}
	b.in(hardware.Opened{})
	return b
}

func (b *bus) in(in any) {
	b.out, b.ev = nil, nil
	var o hardware.Output
	b.s, o = b.s.Step(b.now, in)
	for _, a := range o.Do {
		if a.Emit != nil {
			b.all = append(b.all, a.Emit)
			switch a.Emit.(type) {
			case hardware.BusState, hardware.Health: // signs of life, looked at where they matter
			default:
				b.ev = append(b.ev, a.Emit)
			}
			continue
		}
		b.out = append(b.out, b.line.Add(a.Write)...)
		b.s, _ = b.s.Step(b.now, hardware.Wrote{N: len(a.Write)})
	}
}

// vmc says words, byte by byte, and returns what is answered, as in the tables: "05 00 96 9B*".
func (b *bus) vmc(words string) string {
	b.t.Helper()
	var all []Word
	var ev []hardware.Event
	for _, c := range Mark(wire(b.t, words)) {
		b.now += time.Millisecond
		b.in(hardware.Bytes{B: []byte{c}})
		all, ev = append(all, b.out...), append(ev, b.ev...)
	}
	b.out, b.ev = all, ev
	return text(all)
}

func text(words []Word) string {
	var out []string
	for _, w := range words {
		s := fmt.Sprintf("%02X", byte(w))
		if w&Mode != 0 {
			s += "*"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// talk runs a conversation: what the controller says, and what it hears.
func (b *bus) talk(lines ...string) {
	b.t.Helper()
	for _, l := range lines {
		says, hears, _ := strings.Cut(l, " -> ")
		if got := b.vmc(says); got != hears {
			b.t.Errorf("%s -> %q, want %q", says, got, hears)
		}
	}
}

// Start-up of a controller of each level, as 7.4.1 has it.
var (
	level1 = []string{
		"10* 10 -> 00*", "12* 12 -> 00 00*", "00 -> ", "11* 00 01 00 00 00 12 -> 01 03 19 78 01 02 05 08 A5*", "00 -> ",
		"11* 01 FF FF 00 00 10 -> 00*", "14* 01 15 -> 00*",
	}
	level3 = []string{
		"10* 10 -> 00*", "12* 12 -> 00 00*", "00 -> ", "11* 00 03 00 00 00 14 -> 01 03 19 78 01 02 05 08 A5*", "00 -> ",
		"11* 01 FF FF 00 00 10 -> 00*", "17* 04 00 00 00 20 3B -> 00*", "14* 01 15 -> 00*",
	}
	level3Wide = []string{
		"10* 10 -> 00*", "12* 12 -> 00 00*", "00 -> ", "11* 00 03 00 00 00 14 -> 01 03 19 78 01 02 05 08 A5*", "00 -> ",
		"11* 01 FF FF 00 00 10 -> 00*", "17* 04 FF FF FF FF 17 -> 00*", // all it could ask for
		"11* 01 FF FF FF FF 00 00 00 00 19 78 9F -> 00*", "14* 01 15 -> 00*",
	}
)

func vendOf(n byte) protocol.VendID { return protocol.VendID{0: n, 15: 1} }

// wants compares the events of the last input.
func (b *bus) wants(events ...hardware.Event) {
	b.t.Helper()
	got := slices.Clone(b.ev)
	for i, e := range got {
		if r, ok := e.(hardware.VendRequest); ok {
			r.At, r.Bus = 0, protocol.BusKey{}
			got[i] = r
		}
		if r, ok := e.(hardware.LoadRequest); ok {
			r.At, r.Bus = 0, protocol.BusKey{}
			got[i] = r
		}
		if d, ok := e.(hardware.DataEntered); ok {
			b.secret = string(d.Data.Reveal())
			got[i] = hardware.DataEntered{ID: d.ID}
		}
	}
	if !slices.EqualFunc(got, events, func(a, b hardware.Event) bool { return reflect.DeepEqual(a, b) }) {
		b.t.Errorf("said %+v, want %+v", got, events)
	}
}

func ask(minor int64, item protocol.Outlet) hardware.VendRequest {
	return hardware.VendRequest{Price: money.New(minor, money.EUR), Item: item}
}

// TestCashlessExchanges: byte exchanges of MDB/ICP 4.2, the case named by its section.
func TestCashlessExchanges(t *testing.T) {
	t.Parallel()
	approve1 := approve{vend: vendOf(1), units: 150, by: time.Hour}
	for name, f := range map[string]func(*bus){
		"7.4.8 session level 1": func(b *bus) {
			b.talk(level1...)
			b.in(begin{units: 1000})
			b.talk("12* 12 -> 03 03 E8 EE*", "00 -> ", "13* 00 00 96 00 05 AE -> 00*")
			b.wants(ask(150, 5))
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "00 -> ")
			b.wants(hardware.Approval{Vend: vendOf(1), How: hardware.ApprovalDelivered})
			b.talk("13* 02 00 05 1A -> 00*")
			b.wants(hardware.VendSuccess{Vend: vendOf(1), Item: 5, Grade: protocol.GradeReported})
			b.talk("13* 04 17 -> 00*")
			b.wants(hardware.SessionComplete{})
			b.talk("12* 12 -> 07 07*", "00 -> ", "12* 12 -> 00*")
		},
		"7.4 always idle": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.wants(ask(150, 5))
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "00 -> ", "13* 02 FF FF 13 -> 00*")
			b.wants(hardware.VendSuccess{Vend: vendOf(1), Item: 0xFFFF, Grade: protocol.GradeReported})
			b.talk("12* 12 -> 00*", "13* 00 00 96 00 06 AF -> 00*")
			b.wants(ask(150, 6))
		},
		"7.4 without the option it is out of sequence": func(b *bus) {
			b.talk(level1[:6]...)
			b.talk("17* 04 00 00 00 20 3B -> 00*", "14* 01 15 -> 00*", "13* 00 00 96 00 05 AE -> 00*", "12* 12 -> 0B 0B*", "00 -> ")
			b.wants()
		},
		"7.4 out of sequence tells the state": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 02 00 05 1A -> 00*", "12* 12 -> 00*") // a repeat of a success: nothing to say
			b.talk("14* 00 14 -> 00*", "13* 00 00 96 00 05 AE -> 00*", "12* 12 -> 0B 02 0D*", "00 -> ", "12* 12 -> 00*")
		},
		"7.4.8 32 bit money": func(b *bus) {
			b.talk(level3Wide...)
			b.in(begin{units: 1000})
			b.talk("12* 12 -> 03 00 00 03 E8 FF FF FF FF 00 00 00 65 6E 19 78 02 50*", "00 -> ", "13* 00 00 00 00 96 00 05 AE -> 00*")
			b.wants(ask(150, 5))
			b.in(approve1)
			b.talk("12* 12 -> 05 00 00 00 96 9B*", "00 -> ")
		},
		"7.4 what a later version asks for is never enabled": func(b *bus) {
			b.talk(level3Wide...)
			if b.s.options != opt32Bit|optCurrencies|optDataEntry|optAlwaysIdle {
				t.Errorf("options %b", b.s.options)
			}
			b.talk("13* 06 00 00 00 96 00 05 B4 -> 00*", "12* 12 -> 06 06*", "00 -> ") // negative vend
			b.talk("17* FA 00 00 00 00 00 11 -> 00*", "12* 12 -> 0B 03 0E*", "00 -> ") // FTL
			b.talk("13* 0A 1D -> 00*", "12* 12 -> 0B 03 0E*", "00 -> ")                // nobody knows it
		},
		"7.4 id": func(b *bus) {
			b.talk(level1[:5]...)
			if got := b.vmc("17* 00 56 4D 43" + blanks(24) + " 01 02 00"); !strings.HasPrefix(got, "09 43 4F 49 30 30") || len(strings.Fields(got)) != 31 {
				t.Errorf("id %s", got)
			}
			b.talk("00 -> ")
		},
		"7.4 id, level 3": func(b *bus) {
			b.talk(level3[:5]...)
			if got := b.vmc("17* 00 56 4D 43" + blanks(24) + " 01 02 00"); len(strings.Fields(got)) != 35 || !strings.Contains(got, "00 00 00 36 ") {
				t.Errorf("id %s", got)
			}
		},
		"7.4 reader cancel": func(b *bus) {
			b.talk(level3...)
			b.in(begin{units: 1000})
			b.talk("14* 02 16 -> 08 08*", "00 -> ", "12* 12 -> 00*") // the session that was to begin is not
		},
		"7.4 disabled in a session": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*", "14* 00 14 -> 00*")
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "00 -> ", "13* 02 00 05 1A -> 00*")
			b.wants(hardware.VendSuccess{Vend: vendOf(1), Item: 5, Grade: protocol.GradeReported})
			b.talk("13* 00 00 96 00 05 AE -> 00*", "12* 12 -> 0B 02 0D*")
		},
		"7.4 denied": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(deny{})
			b.in(deny{})
			b.talk("12* 12 -> 06 06*", "12* 12 -> 06 06*", "00 -> ", "12* 12 -> 00*") // said again until it is acknowledged
		},
		"7.4 failure": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "00 -> ", "13* 03 16 -> 00*")
			b.wants(hardware.VendFailure{Vend: vendOf(1)})
			b.talk("12* 12 -> ", "13* 03 16 -> 00*") // and said again, for its ACK was not heard
			b.wants()
			b.talk("12* 12 -> ")
			b.in(refunded{vendOf(2)}) // of another
			b.talk("12* 12 -> ")
			b.in(refunded{vendOf(1)})
			b.talk("12* 12 -> 00*", "12* 12 -> 00*", "13* 00 00 96 00 05 AE -> 00*")
		},
		"7.4 failure, and nobody could write it down": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "00 -> ", "13* 03 16 -> 00*", "12* 12 -> ")
			b.now += refundTime
			b.talk("12* 12 -> 0A C0 CA*", "00 -> ", "12* 12 -> 00*")
			b.in(refunded{vendOf(1)}) // too late to be news
			b.talk("12* 12 -> 00*")
		},
		"7.4 failure, then RESET": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "00 -> ", "13* 03 16 -> 00*", "12* 12 -> ", "10* 10 -> 00*", "12* 12 -> 00 00*")
		},
		"7.4.1 just reset, to a controller that has not noticed our absence": func(b *bus) {
			b.talk(level3...)
			b.in(hardware.Closed{})
			b.in(hardware.Opened{})
			b.talk("12* 12 -> 00*")
			b.now += lateResult
			b.talk("12* 12 -> 00 00*", "12* 12 -> 00 00*", "00 -> ", "12* 12 -> 00*")
			b.talk(level3...)
		},
		"7.4.1 a late result, then just reset": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "00 -> ")
			b.in(hardware.Closed{})
			b.in(hardware.Opened{})
			b.in(resume{vendOf(1)})
			b.talk("12* 12 -> 00*", "13* 02 00 05 1A -> 00*")
			b.wants(hardware.VendSuccess{Vend: vendOf(1), Item: 5, Grade: protocol.GradeReported})
			b.talk("12* 12 -> 00 00*")
		},
		"7.4 cash sale": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 05 00 96 00 05 B3 -> 00*")
			b.wants(hardware.CashSale{Price: money.New(150, money.EUR), Item: 5, Kind: hardware.CashPaid})
			b.talk("13* 05 00 96 80 05 33 -> 00*")
			b.wants(hardware.CashSale{Price: money.New(150, money.EUR), Item: 5, Kind: hardware.CashFree})
			b.talk("13* 05 FF FF FF FF 14 -> 00*")
			b.wants(hardware.CashSale{Item: 0xFFFF, Kind: hardware.CashPaid})
		},
		"2.2 bad sum": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AF -> FF*", "13* 00 00 96 00 05 AE -> 00*")
			b.wants(ask(150, 5))
		},
		"2 RET and NAK": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "AA -> 05 00 96 9B*", "FF -> ", "12* 12 -> 05 00 96 9B*", "A8 -> 05 00 96 9B*",
				"3C -> ", "12* 12 -> 05 00 96 9B*", "81 -> ")
			b.wants(hardware.Approval{Vend: vendOf(1), How: hardware.ApprovalDelivered}) // 81 is nearest to ACK
		},
		"2 others on the bus": func(b *bus) {
			b.talk(level3...)
			b.talk("0B* 0B -> ", "00 -> ", "62* 62 -> ", "12* 12 -> 00*", "33* 33 -> ", "12* 12 -> 00*")
		},
		"2.4 break": func(b *bus) {
			b.talk(level3...)
			b.in(hardware.Bytes{B: []byte{0xFF, 0, 0}})
			b.wants(hardware.BusReset{Epoch: 3})
			b.talk(level3...)
		},
		"repeat after a lost ACK": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			key := b.ev[0].(hardware.VendRequest).Bus
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			if again := b.ev[0].(hardware.VendRequest).Bus; again != key {
				t.Errorf("key %v, not %v", again, key)
			}
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "13* 00 00 96 00 05 AE -> 00*", "12* 12 -> 05 00 96 9B*", "00 -> ")
			b.wants(hardware.Approval{Vend: vendOf(1), How: hardware.ApprovalDelivered})
			b.talk("13* 02 00 05 1A -> 00*", "13* 02 00 05 1A -> 00*")
			b.wants()
		},
		"cancel before the approval is on the wire": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve1)
			b.talk("13* 01 14 -> 00*")
			b.wants(hardware.Approval{Vend: vendOf(1), How: hardware.ApprovalWithdrawn}, hardware.VendCancel{})
			b.talk("12* 12 -> 06 06*", "00 -> ", "12* 12 -> 00*")
		},
		"cancel after it was, unacknowledged": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "13* 01 14 -> 00*")
			b.wants(hardware.Approval{Vend: vendOf(1), How: hardware.ApprovalMaybe}, hardware.VendCancel{})
			b.talk("12* 12 -> 06 06*", "00 -> ")
		},
		"reset after the acknowledgment": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*", "00 -> ", "10* 10 -> 00*")
			b.wants(hardware.BusReset{Epoch: 3}) // the approval has ended before: delivered
		},
		"reset before it was on the wire": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve1)
			b.talk("10* 10 -> 00*")
			b.wants(hardware.Approval{Vend: vendOf(1), How: hardware.ApprovalWithdrawn}, hardware.BusReset{Epoch: 3})
		},
		"too late to be said": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve{vend: vendOf(1), units: 150, by: b.now + time.Second})
			b.now += time.Second
			b.in(hardware.Wake{})
			b.wants(hardware.Approval{Vend: vendOf(1), How: hardware.ApprovalWithdrawn})
			b.talk("12* 12 -> 06 06*", "00 -> ")
		},
		"said, not acknowledged, and not said again too late": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve{vend: vendOf(1), units: 150, by: b.now + time.Second})
			b.talk("12* 12 -> 05 00 96 9B*", "12* 12 -> 05 00 96 9B*")
			b.wants()
			b.now += time.Second // and nobody woke us
			b.talk("12* 12 -> 00*")
			b.now += ackTime
			b.in(hardware.Wake{})
			b.talk("12* 12 -> 00*", "AA -> ", "13* 00 00 96 00 05 AE -> 00*", "12* 12 -> 00*")
			b.talk("13* 02 00 05 1A -> 00*") // it had heard it
			b.wants(hardware.VendSuccess{Vend: vendOf(1), Item: 5, Grade: protocol.GradeReported})
		},
		"the end of one not acknowledged in time": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve{vend: vendOf(1), units: 150, by: b.now + time.Second})
			b.talk("12* 12 -> 05 00 96 9B*")
			b.now += time.Second
			b.in(hardware.Wake{})
			b.wants(hardware.Approval{Vend: vendOf(1), How: hardware.ApprovalMaybe})
			b.talk("12* 12 -> 00*", "13* 01 14 -> 00*")
			b.wants(hardware.VendCancel{})
			b.talk("12* 12 -> 06 06*", "00 -> ")
		},
		"its ACK and RET at the last moment": func(b *bus) {
			for _, c := range []struct {
				byte string
				how  hardware.Delivery
			}{{"00", hardware.ApprovalDelivered}, {"AA", hardware.ApprovalMaybe}} {
				b.talk(level3...)
				b.talk("13* 00 00 96 00 05 AE -> 00*")
				n := vendOf(byte(c.how))
				by := b.now + ackTime/2
				b.in(approve{vend: n, units: 150, by: by})
				b.talk("12* 12 -> 05 00 96 9B*")
				b.now = by
				b.talk(c.byte + " -> ")
				if c.how == hardware.ApprovalMaybe { // the next POLL finds it over
					b.talk("12* 12 -> 00*")
					continue
				}
				b.wants(hardware.Approval{Vend: n, How: c.how})
			}
		},
		"no answer is taken back": func(b *bus) {
			for i, back := range []any{deny{}, end{}} {
				for j, how := range []hardware.Delivery{hardware.ApprovalWithdrawn, hardware.ApprovalMaybe} {
					n := vendOf(byte(2*i + j + 1))
					b.talk(level3...)
					b.talk("13* 00 00 96 00 05 AE -> 00*")
					b.in(approve{vend: n, units: 150, by: b.now + time.Hour})
					if how == hardware.ApprovalMaybe {
						b.talk("12* 12 -> 05 00 96 9B*")
					}
					b.in(back)
					b.wants(hardware.Approval{Vend: n, How: how})
					if how == hardware.ApprovalMaybe {
						b.talk("12* 12 -> 00*")
					} else {
						b.talk("12* 12 -> 06 06*", "00 -> ")
					}
				}
			}
		},
		"money of four bytes, and of two": func(b *bus) {
			b.talk(level3Wide...)
			b.talk("13* 00 00 01 86 A0 00 05 3F -> 00*")
			b.in(approve{vend: vendOf(1), units: 100000, by: b.now + time.Hour})
			b.talk("12* 12 -> 05 00 01 86 A0 2C*", "00 -> ", "13* 02 00 05 1A -> 00*")
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve{vend: vendOf(2), units: 100000, by: b.now + time.Hour})
			b.wants(hardware.Approval{Vend: vendOf(2), How: hardware.ApprovalWithdrawn})
			b.talk("12* 12 -> 00*")
		},
		"port gone": func(b *bus) {
			b.talk(level3...)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve1)
			b.talk("12* 12 -> 05 00 96 9B*")
			b.in(hardware.Closed{})
			b.wants(hardware.Approval{Vend: vendOf(1), How: hardware.ApprovalMaybe})
		},
		"half a block": func(b *bus) {
			b.talk(level3...)
			b.vmc("13* 00 00")
			b.now += blockGap
			b.in(hardware.Wake{})
			b.talk("12* 12 -> 00*")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(newBus(t, CashlessConfig{}))
		})
	}
	t.Run("second device", func(t *testing.T) {
		t.Parallel()
		b := newBus(t, CashlessConfig{Second: true})
		b.talk("10* 10 -> ", "60* 60 -> 00*", "62* 62 -> 00 00*", "00 -> ", "61* 00 01 00 00 00 62 -> 01 03 19 78 01 02 05 08 A5*")
	})
}
