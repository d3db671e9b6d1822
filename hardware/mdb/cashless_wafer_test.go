package mdb

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// box is a device behind an adapter: what it wrote, and what it told.
type box struct {
	t   testing.TB
	s   CashlessState
	now time.Duration
	out []string
	ev  []hardware.Event
	end error
	bad error // of the next write
}

func newBox(t testing.TB) *box {
	cfg := CashlessConfig{Config: Config{Device: "vmc", Port: PortWaferstar}, Scale: Scale{Currency: money.EUR, Decimals: 2}, Level: 3, Z7: 5 * time.Second, Serial: "1", Language: "en"}
	b := &box{t: t, s: NewCashlessState(cfg), now: time.Second}
	b.in(hardware.Opened{})
	return b
}

func (b *box) in(in any) {
	var o hardware.Output
	b.s, o = b.s.Step(b.now, in)
	for todo := o.Do; len(todo) > 0; todo = todo[1:] {
		a := todo[0]
		if a.Emit != nil {
			b.ev = append(b.ev, a.Emit)
			continue
		}
		w := hardware.Wrote{N: len(a.Write)}
		if b.bad != nil {
			w, b.bad = hardware.Wrote{Err: b.bad}, nil
		}
		b.out = append(b.out, strings.ToUpper(hex.EncodeToString(a.Write)))
		var more hardware.Output
		b.s, more = b.s.Step(b.now, w)
		todo = append(todo, more.Do...)
	}
	if o.End != nil {
		b.end = o.End
	}
}

// pass lets time go by.
func (b *box) pass(d time.Duration) {
	for end := b.now + d; b.now < end; {
		b.now += 10 * time.Millisecond
		b.in(hardware.Wake{})
	}
}

// vmc says commands, with the sums the table has, as the adapter passes them on.
func (b *box) vmc(commands ...string) {
	for _, c := range commands {
		b.in(hardware.Bytes{B: []byte("\x02" + strings.ReplaceAll(c, " ", "") + "\x03")})
		b.pass(50 * time.Millisecond)
	}
}

// wrote are the writes since it was asked, without pings.
func (b *box) wrote(want ...string) {
	b.t.Helper()
	b.pass(200 * time.Millisecond)
	var got []string
	for _, o := range b.out {
		if o != "0103197801020508" {
			got = append(got, o)
		}
	}
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], " ", "")
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("wrote %v, want %v", got, want)
	}
	b.out = nil
}

// told are the events since it was asked that say something, by type and what matters.
func (b *box) told(want ...string) {
	b.t.Helper()
	var got []string
	for _, e := range b.ev {
		switch e := e.(type) {
		case hardware.BusState:
			continue
		case hardware.Approval:
			got = append(got, fmt.Sprintf("%d %s", e.Vend[0], e.How))
		case hardware.VendSuccess:
			got = append(got, fmt.Sprintf("success %d", e.Vend[0]))
		case hardware.VendFailure:
			got = append(got, fmt.Sprintf("failure %d", e.Vend[0]))
		case hardware.VendRequest:
			got = append(got, fmt.Sprintf("request %s %d %d", e.Price, e.Item, e.Bus.Session))
		case hardware.Health:
			got = append(got, string(e.Code))
		default:
			got = append(got, strings.TrimPrefix(fmt.Sprintf("%T", e), "hardware."))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("told %q, want %q", got, want)
	}
	b.ev = nil
}

func (b *box) approve(n byte) { b.in(approve{vend: vendOf(n), units: 150, by: b.now + time.Second}) }

func (b *box) start() {
	b.vmc("11 00 03 00 00 00 14", "11 01 FF FF 00 00 10", "17 04 00 00 00 20 3B", "14 01 15")
	b.pass(300 * time.Millisecond)
	b.out, b.ev = nil, nil
}

const waferConfig = "01 03 19 78 01 02 05 08 A5"

// TestWaferstarExchanges: what an RS232-MDB and we say to one another.
func TestWaferstarExchanges(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(*box){
		"opening: the configuration, and is it there": func(b *box) {
			if b.out[0] != "0103197801020508" { // without its sum
				b.t.Errorf("%v", b.out)
			}
			b.wrote(waferConfig)
			b.told()
			b.in(hardware.Bytes{B: []byte("\x02A5\x03")})
			b.told("ready")
		},
		"7.4.1 start": func(b *box) {
			b.in(hardware.Bytes{B: []byte("\x02CN0999-WFV-Jul  6 2021\x03")})
			b.vmc("01 01 09 72 0A 02 07 0D 9D") // what it had
			b.wrote(waferConfig, waferConfig)
			b.told("ready", "not_configured")
			b.vmc("11 00 03 00 00 00 14", "17 00 56 4D 43"+strings.Repeat(" 20", 24)+" 01 02 00", "11 01 FF FF 00 00 10", "17 04 00 00 00 20 3B", "14 01 15")
			b.wrote(waferConfig, "09434F49303030303030303030303031434F494E4F50202020202020010000000026D4")
			b.told("BusReset")
		},
		"a sale": func(b *box) {
			b.start()
			b.vmc("13 00 00 96 00 05 AE")
			b.told("request 1.50 EUR 5 1")
			b.approve(1)
			b.wrote("05 00 96 9B")
			b.told("1 maybe")
			b.vmc("00", "13 02 00 05 1A", "13 04 17")
			b.told("success 1")
			b.wrote("07 07")
		},
		"denied, and taken back": func(b *box) {
			b.start()
			b.vmc("13 00 00 96 00 05 AE")
			b.in(deny{})
			b.wrote("06 06")
			b.vmc("13 00 00 96 00 05 AE")
			b.vmc("13 01 14")
			b.wrote("06 06")
			b.approve(1)
			b.told("request 1.50 EUR 5 1", "request 1.50 EUR 5 2", "VendCancel", "1 withdrawn")
		},
		"withdrawn while it waits for the line": func(b *box) {
			b.start()
			b.vmc("13 00 00 96 00 05 AE")
			b.s.wafer.clear = b.now + time.Second/2
			b.approve(1)
			b.in(deny{})
			b.pass(600 * time.Millisecond)
			b.wrote("06 06")
			b.told("request 1.50 EUR 5 1", "1 withdrawn")
		},
		"never written after its time": func(b *box) {
			b.start()
			b.vmc("13 00 00 96 00 05 AE")
			b.s.wafer.clear = b.now + 2*time.Second
			b.approve(1)
			b.pass(2100 * time.Millisecond)
			b.wrote("06 06")
			b.told("request 1.50 EUR 5 1", "1 withdrawn")
		},
		"a write that fails whole is withdrawn": func(b *box) {
			b.start()
			b.vmc("13 00 00 96 00 05 AE")
			b.bad = errors.New("gone")
			b.approve(1)
			b.told("request 1.50 EUR 5 1", "1 withdrawn")
		},
		"approved, then RESET that the adapter keeps: SETUP tells": func(b *box) {
			b.start()
			b.vmc("13 00 00 96 00 05 AE")
			b.approve(1)
			b.vmc("11 00 03 00 00 00 14")
			b.vmc("13 02 00 05 1A")
			b.told("request 1.50 EUR 5 1", "1 maybe", "BusReset")
		},
		"approved, then taken back all the same: what comes of it is told": func(b *box) {
			b.start()
			b.vmc("13 00 00 96 00 05 AE")
			b.approve(1)
			b.vmc("13 01 14")
			b.vmc("13 02 00 05 1A")
			b.told("request 1.50 EUR 5 1", "1 maybe", "VendCancel", "success 1")
		},
		"failed": func(b *box) {
			b.start()
			b.vmc("13 00 00 96 00 05 AE")
			b.approve(1)
			b.vmc("13 03 16")
			b.told("request 1.50 EUR 5 1", "1 maybe", "failure 1")
		},
		"a repeat is the same request, and the same 05": func(b *box) {
			b.start()
			b.vmc("13 00 00 96 00 05 AE")
			b.approve(1)
			b.vmc("13 00 00 96 00 05 AE")
			b.approve(1)
			b.wrote("05 00 96 9B", "05 00 96 9B")
			b.told("request 1.50 EUR 5 1", "1 maybe", "request 1.50 EUR 5 1")
		},
		"card first": func(b *box) {
			b.start()
			b.in(begin{units: 1000})
			b.wrote("03 03 E8 FF FF FF FF 00 00 00 EA")
			b.vmc("13 00 00 96 00 05 AE")
			b.approve(1)
			b.vmc("13 02 00 05 1A", "13 04 17")
			b.told("request 1.50 EUR 5 1", "1 maybe", "success 1", "SessionComplete")
		},
		"reopened in a vend: its result, and then the next, of 32 bits": func(b *box) {
			b.start()
			b.vmc("13 00 00 96 00 05 AE")
			b.approve(1)
			b.in(hardware.Closed{})
			b.in(hardware.Opened{})
			b.vmc("13 02 00 05 1A", "13 00 00 00 00 96 00 05 AE")
			b.approve(2)
			b.wrote("05 00 96 9B", waferConfig, "05 00 00 00 96 9B")
			b.told("request 1.50 EUR 5 1", "1 maybe", "ready", "success 1", "request 1.50 EUR 5 2", "2 maybe")
		},
		"reopened, and nothing under way: begin anew": func(b *box) {
			b.start()
			b.in(hardware.Closed{})
			b.in(hardware.Opened{})
			b.vmc("A5")
			b.in(begin{units: 1000})
			b.told("ready", "SessionComplete")
			for range 4 {
				b.pass(time.Second)
				b.vmc("A5")
			}
			b.wrote(waferConfig, "00 00")
		},
		"money is not loaded, digits are not asked for, and diagnostics are answered": func(b *box) {
			b.vmc("11 00 03 00 00 00 14", "11 01 FF FF 00 00 10", "17 04 00 00 00 30 4B", "14 01 15")
			b.pass(300 * time.Millisecond)
			if b.s.options != optAlwaysIdle {
				b.t.Errorf("options %b", b.s.options)
			}
			b.out, b.ev = nil, nil
			b.vmc("15 01 16", "15 00 00 96 AB")
			b.wrote("0E 0E", "0E 0E")
			b.vmc("14 03 31 32 33 34 00 00 00 00 E1", "17 FF 16", "13 00 00 96 00 05 AE")
			b.wrote("FF 43 4F 49 01 00 03 00 DE")
			b.told("DataRefused", "request 1.50 EUR 5 2")
		},
		"reopened: what may be in sequence is denied": func(b *box) {
			b.vmc("15 00 00 96 AB")
			b.wrote(waferConfig, "0E 0E")
			b.vmc("15 01 16")
			b.wrote("0E 0E")
			b.told("ready")
		},
		"silent": func(b *box) {
			b.start()
			b.pass(6 * time.Second)
			b.told("device_silent")
			b.pass(5 * time.Second)
			if !errors.Is(b.end, errSilent) {
				b.t.Errorf("%v", b.end)
			}
		},
		"byte by byte, garbage, two in one, half a frame": func(b *box) {
			b.start()
			for _, c := range []byte("\xfe\x00\x0213\x02130000960005AE\x03\x021304") {
				b.in(hardware.Bytes{B: []byte{c}})
			}
			b.told("garbage", "garbage", "request 1.50 EUR 5 1")
			b.in(hardware.Bytes{B: []byte("17\x03\x02130000960005AF\x03\x0210\x03")}) // its session is over; a wrong sum
			b.told("SessionComplete")
			if b.s.garbled != 3 {
				b.t.Errorf("%d pieces of garbage", b.s.garbled)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); f(newBox(t)) })
	}
}

// FuzzWaferstar: whatever the line brings, an approval ends once and never as delivered, and nothing grows.
func FuzzWaferstar(f *testing.F) {
	f.Add([]byte("\x021100030000001\x03\x02140115\x03a\x02130000960005AE\x03a\x021302000519\x03"), uint8(7))
	f.Add([]byte("\x02130000960005AE\x03aac\x02130417\x03b"), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		b, asked := newBox(t), map[protocol.VendID]bool{}
		for i := 0; len(in) > 0 && i < 500; i++ {
			n := min(1+int(cut)%16, len(in))
			switch in[0] {
			case 'a':
				asked[vendOf(byte(i))] = true
				b.approve(byte(i))
			case 'b':
				b.in(hardware.Closed{})
				b.in(hardware.Opened{})
			case 'c':
				b.in(deny{})
			}
			b.in(hardware.Bytes{B: in[:n]})
			in = in[n:]
			b.pass(30 * time.Millisecond)
			if len(b.s.queue) > 64 || len(b.s.wafer.frames.hex) > waferFrame {
				t.Fatal("it grows")
			}
		}
		b.in(hardware.Closed{})
		for _, e := range b.ev {
			if a, ok := e.(hardware.Approval); ok {
				if a.How == hardware.ApprovalDelivered || !asked[a.Vend] {
					t.Fatalf("%+v", a)
				}
				delete(asked, a.Vend)
			}
		}
		if len(asked) > 0 {
			t.Fatalf("%d approvals have no end", len(asked))
		}
	})
}
