package mdb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// started is a controller of level 3 that has enabled options of 17 04, to the long prices in EUR where they want them.
func (b *bus) started(options byte) {
	b.t.Helper()
	b.talk(level3[:6]...)
	b.talk(fmt.Sprintf("17* 04 00 00 00 %02X %02X -> 00*", options, 0x1B+options))
	if options&0x06 != 0 {
		b.talk("11* 01 FF FF FF FF 00 00 00 00 19 78 9F -> 00*")
	}
	b.talk("14* 01 15 -> 00*")
}

// session is one with a card, 10.00.
func (b *bus) session(options byte) {
	b.t.Helper()
	b.started(options)
	b.in(begin{units: 1000})
	if b.vmc("12* 12"); !strings.HasPrefix(text(b.out), "03 ") {
		b.t.Errorf("no session: %s", text(b.out))
	}
	b.talk("00 -> ")
}

// cases runs each on a device of its own, the case named by the section of MDB/ICP 4.2.
func cases(t *testing.T, cfg CashlessConfig, all map[string]func(*bus)) {
	t.Parallel()
	for name, f := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(newBus(t, cfg))
		})
	}
}

// TestCashlessCurrencies: either option of expanded currency mode makes money long; a currency that is not ours is
// not sold in.
func TestCashlessCurrencies(t *testing.T) {
	const wide = "12* 12 -> 03 00 00 03 E8 FF FF FF FF 00 00 00 65 6E 19 78 02 50*"
	mode := func(options byte) func(*bus) {
		return func(b *bus) {
			b.started(options)
			b.in(begin{units: 1000})
			b.talk(wide, "00 -> ", "13* 00 00 00 00 96 00 05 AE -> 00*")
			b.wants(ask(150, 5))
			b.in(approve{vend: vendOf(1), units: 150, by: time.Hour})
			b.talk("12* 12 -> 05 00 00 00 96 9B*", "00 -> ")
			b.talk(level3...) // RESET: all options are off again
			b.in(begin{units: 1000})
			b.talk("12* 12 -> 03 03 E8 FF FF FF FF 00 00 00 EA*")
		}
	}
	dollars := "11* 01 FF FF FF FF 00 00 00 00 18 40 66 -> 00*"
	cases(t, CashlessConfig{}, map[string]func(*bus){
		"7.4 17 04 32 bit alone":             mode(0x02),
		"7.4 17 04 multi currency alone":     mode(0x04),
		"7.4 17 04 both":                     mode(0x06),
		"7.4 17 04 neither: 16 bit, no more": func(b *bus) { b.session(0x20); b.talk("13* 00 00 96 00 05 AE -> 00*"); b.wants(ask(150, 5)) },
		"7.4 11 01 in another currency": func(b *bus) {
			b.started(0x24)
			b.talk(dollars)
			if h, ok := b.all[len(b.all)-1].(hardware.Health); !ok || h.Code != hardware.CodeNotConfigure || !strings.Contains(h.Detail, "EUR") {
				b.t.Errorf("said %+v", b.all[len(b.all)-1])
			}
			b.talk(dollars, "13* 00 00 00 00 96 00 05 AE -> 00*")
			b.wants(hardware.VendRequest{Item: 5, Bad: "currency"})
			b.in(deny{})
			b.talk("12* 12 -> 06 06*", "00 -> ")
			b.in(limit{5000})
			b.talk("15* 01 16 -> 0E 0E*", "00 -> ", "15* 00 00 00 00 96 AB -> 00*")
			b.wants()
			b.talk("12* 12 -> 0E 0E*", "00 -> ", "11* 01 FF FF FF FF 00 00 00 00 19 78 9F -> 00*", "13* 00 00 00 00 96 00 05 AE -> 00*")
			b.wants(ask(150, 5))
			n := 0
			for _, e := range b.all {
				if h, ok := e.(hardware.Health); ok && h.Code == hardware.CodeNotConfigure {
					n++
				}
			}
			if n != 1 {
				b.t.Errorf("told %d times", n)
			}
		},
		"7.4 11 01 in a currency that is not said": func(b *bus) {
			b.started(0x24)
			b.talk("11* 01 FF FF FF FF 00 00 00 00 FF FF 0C -> 00*", "11* 01 FF FF FF FF 00 00 00 00 00 49 57 -> 00*",
				"13* 00 00 00 00 96 00 05 AE -> 00*")
			b.wants(ask(150, 5))
		},
		"7.4 13 05 in ours, in another, in none": func(b *bus) {
			b.started(0x24)
			b.talk("13* 05 00 00 00 96 00 05 19 78 44 -> 00*")
			b.wants(hardware.CashSale{Price: money.New(150, money.EUR), Item: 5, Kind: hardware.CashPaid})
			b.talk("13* 05 00 00 00 96 00 05 18 40 0B -> 00*")
			b.wants(hardware.CashSale{Item: 5, Kind: hardware.CashPaid})
			b.talk("13* 05 00 00 00 96 00 05 FF FF B1 -> 00*")
			b.wants(hardware.CashSale{Price: money.New(150, money.EUR), Item: 5, Kind: hardware.CashPaid})
		},
	})
	t.Run("7.4 language and currency are the lane's", func(t *testing.T) {
		t.Parallel()
		b := newBus(t, CashlessConfig{Scale: Scale{Currency: money.USD, Decimals: 2}, Language: "de"})
		b.talk("10* 10 -> 00*", "12* 12 -> 00 00*", "00 -> ", "11* 00 03 00 00 00 14 -> 01 03 18 40 01 02 05 08 6C*", "00 -> ",
			"11* 01 FF FF 00 00 10 -> 00*", "17* 04 00 00 00 04 1F -> 00*", "14* 01 15 -> 00*")
		b.in(begin{units: 1000})
		b.talk("12* 12 -> 03 00 00 03 E8 FF FF FF FF 00 00 00 64 65 18 40 02 0D*")
	})
	for _, l := range []string{"", "DE", "deu", "d", "1a"} {
		cfg := CashlessConfig{Scale: Scale{Currency: money.EUR, Decimals: 2}, Language: l}
		if _, err := NewCashless(cfg, nil); (err == nil) != (l == "") {
			t.Errorf("language %q: %v", l, err)
		}
	}
}

func wish(minor int64) hardware.LoadRequest {
	return hardware.LoadRequest{Amount: money.New(minor, money.EUR)}
}

// TestCashlessRevalue: 15 00 and 15 01.
func TestCashlessRevalue(t *testing.T) {
	const revalue = "15* 00 00 96 AB -> 00*"
	loadable := func(b *bus) { b.session(0x20); b.in(limit{5000}) }
	asked := func(b *bus) protocol.BusKey {
		loadable(b)
		b.talk(revalue)
		b.wants(wish(150))
		return b.ev[0].(hardware.LoadRequest).Bus
	}
	ended := func(b *bus, k protocol.BusKey, how hardware.Delivery, more ...hardware.Event) {
		b.t.Helper()
		b.wants(append([]hardware.Event{hardware.Loaded{Bus: k, How: how}}, more...)...)
	}
	cases(t, CashlessConfig{}, map[string]func(*bus){
		"7.4 15 01": func(b *bus) {
			loadable(b)
			b.talk("15* 01 16 -> 0F 13 88 AA*", "00 -> ", "12* 12 -> 00*")
		},
		"7.4 15 01 not acknowledged: at the next POLL": func(b *bus) {
			loadable(b)
			b.talk("15* 01 16 -> 0F 13 88 AA*", "FF -> ", "15* 01 16 -> 0F 13 88 AA*", "12* 12 -> 0F 13 88 AA*", "AA -> 0F 13 88 AA*", "00 -> ", "12* 12 -> 00*")
		},
		"7.4 15 01, 32 bit": func(b *bus) {
			b.session(0x22)
			b.in(limit{5000})
			b.talk("15* 01 16 -> 0F 00 00 13 88 AA*", "00 -> ", "15* 00 00 00 00 96 AB -> 00*")
			b.wants(wish(150))
		},
		"7.4 03 card options say whether it can": func(b *bus) {
			b.started(0x02)
			b.in(limit{5000})
			b.in(begin{units: 1000})
			b.talk("12* 12 -> 03 00 00 03 E8 FF FF FF FF 00 00 00 65 6E 19 78 06 54*")
		},
		"7.4 15 00 of an owner that loads nothing": func(b *bus) {
			b.session(0x20)
			b.talk("15* 01 16 -> 0E 0E*", "00 -> ", revalue)
			b.wants()
			b.talk("12* 12 -> 0E 0E*", "00 -> ", "12* 12 -> 00*", "13* 00 00 96 00 05 AE -> 00*")
			b.wants(ask(150, 5))
		},
		"7.4 15 00 more than the limit, nothing, unknown": func(b *bus) {
			b.session(0x20)
			b.in(limit{149})
			for _, says := range []string{revalue, "15* 00 00 00 15 -> 00*", "15* 00 FF FF 13 -> 00*"} {
				b.talk(says)
				b.wants()
				b.talk("12* 12 -> 0E 0E*", "00 -> ")
			}
			b.in(limit{150})
			b.talk(revalue)
			b.wants(wish(150))
		},
		"7.4 0D": func(b *bus) {
			k := asked(b)
			b.talk("12* 12 -> 00*")
			b.in(load{k, true})
			b.in(load{k, true}) // the same again
			b.in(load{k, false})
			b.talk("12* 12 -> 0D 0D*", "00 -> ")
			ended(b, k, hardware.ApprovalDelivered)
			b.in(load{k, true})
			b.wants()
			b.talk("12* 12 -> 00*", revalue) // the next, of the same amount
			b.wants(wish(150))
			if next := b.ev[0].(hardware.LoadRequest).Bus; !next.Later(k) {
				b.t.Errorf("key %v after %v", next, k)
			}
		},
		"7.4 0E": func(b *bus) {
			k := asked(b)
			b.in(load{k, false})
			b.in(load{k, true})
			ended(b, k, hardware.ApprovalWithdrawn)
			b.talk("12* 12 -> 0E 0E*", "12* 12 -> 0E 0E*", "00 -> ")
			b.wants()
			b.talk("12* 12 -> 00*", "13* 04 17 -> 00*")
			b.wants(hardware.SessionComplete{})
		},
		"7.4 always idle": func(b *bus) {
			b.started(0x20)
			b.in(limit{5000})
			b.talk("15* 01 16 -> 0F 13 88 AA*", "00 -> ", revalue)
			b.wants(wish(150))
			b.in(load{b.ev[0].(hardware.LoadRequest).Bus, true})
			b.talk("12* 12 -> 0D 0D*", "00 -> ", "13* 00 00 96 00 05 AE -> 00*")
			b.wants(ask(150, 5))
		},
		"7.4 without a session": func(b *bus) {
			b.started(0x00)
			b.in(limit{5000})
			b.talk(revalue, "12* 12 -> 0B 03 0E*", "00 -> ", "15* 01 16 -> 00*", "12* 12 -> 0B 03 0E*")
			b.wants()
		},
		"7.4 level 1 has none": func(b *bus) {
			b.talk(level1...)
			b.in(limit{5000})
			b.in(begin{units: 1000})
			b.talk("12* 12 -> 03 03 E8 EE*", "00 -> ", "15* 01 16 -> 00*", "12* 12 -> 0B 0B*")
		},
		"7.3 uninterruptible": func(b *bus) {
			k := asked(b)
			for _, says := range []string{"13* 00 00 96 00 05 AE", "13* 04 17", "13* 01 14", "13* 02 00 05 1A", "13* 06 00 96 00 05 B4", "15* 00 00 C8 DD", "15* 01 16", "14* 02 16"} {
				b.talk(says+" -> 00*", "12* 12 -> 0B 06 11*", "00 -> ")
				b.wants()
			}
			b.talk("14* 00 14 -> 00*") // it runs on, and then it is disabled
			b.in(load{k, true})
			b.talk("12* 12 -> 0D 0D*", "00 -> ")
			ended(b, k, hardware.ApprovalDelivered)
			b.talk("13* 04 17 -> 00*", "12* 12 -> 07 07*", "00 -> ", revalue, "12* 12 -> 0B 02 0D*")
		},
		"7.4 15 00 again, for our ACK was lost": func(b *bus) {
			k := asked(b)
			b.talk(revalue)
			b.wants()
			b.in(load{k, true})
			b.talk("12* 12 -> 0D 0D*", revalue)
			b.wants()
			b.talk("12* 12 -> 0D 0D*", "00 -> ")
			ended(b, k, hardware.ApprovalDelivered)
			b.talk("12* 12 -> 00*")
		},
		"7.4 the ACK of 0D was lost, and it goes on": func(b *bus) {
			k := asked(b)
			b.in(load{k, true})
			b.talk("12* 12 -> 0D 0D*", "13* 04 17 -> 00*")
			ended(b, k, hardware.ApprovalMaybe, hardware.SessionComplete{})
			b.talk("12* 12 -> 07 07*", "00 -> ", "12* 12 -> 00*")
		},
		"7.4 and it asks for another": func(b *bus) {
			k := asked(b)
			b.in(load{k, true})
			b.talk("12* 12 -> 0D 0D*", "15* 00 00 C8 DD -> 00*")
			ended(b, k, hardware.ApprovalMaybe, wish(200))
		},
		"7.4 a limit that was not acknowledged is no answer to 15 00": func(b *bus) {
			b.session(0x20)
			b.talk("15* 01 16 -> 0E 0E*")
			b.in(limit{5000})
			b.talk(revalue)
			b.wants(wish(150))
			b.talk("12* 12 -> 00*")
		},
		"7.4 04 is said after it": func(b *bus) {
			k := asked(b)
			b.in(end{})
			b.talk("12* 12 -> 00*")
			b.in(load{k, true})
			b.talk("12* 12 -> 0D 0D*", "00 -> ", "12* 12 -> 04 04*", "00 -> ", "13* 04 17 -> 00*", "12* 12 -> 07 07*", "00 -> ", "12* 12 -> 00*")
		},
		"7.4.1 RESET before our word": func(b *bus) {
			k := asked(b)
			b.talk("10* 10 -> 00*")
			b.wants(hardware.BusReset{Epoch: 3})
			b.in(load{k, true})
			ended(b, k, hardware.ApprovalWithdrawn)
			b.in(load{k, true})
			b.wants()
			b.talk("12* 12 -> 00 00*")
		},
		"7.4.1 RESET before 0D was on the wire": func(b *bus) {
			k := asked(b)
			b.in(load{k, true})
			b.talk("10* 10 -> 00*")
			ended(b, k, hardware.ApprovalWithdrawn, hardware.BusReset{Epoch: 3})
		},
		"7.4.1 RESET after it was": func(b *bus) {
			k := asked(b)
			b.in(load{k, true})
			b.talk("12* 12 -> 0D 0D*", "10* 10 -> 00*")
			ended(b, k, hardware.ApprovalMaybe, hardware.BusReset{Epoch: 3})
			b.talk("12* 12 -> 00 00*")
		},
		"7.4.1 RESET after its ACK": func(b *bus) {
			k := asked(b)
			b.in(load{k, true})
			b.talk("12* 12 -> 0D 0D*", "00 -> ")
			ended(b, k, hardware.ApprovalDelivered)
			b.talk("10* 10 -> 00*")
			b.wants(hardware.BusReset{Epoch: 3})
		},
		"port gone": func(b *bus) {
			k := asked(b)
			b.in(load{k, true})
			b.talk("12* 12 -> 0D 0D*")
			b.in(hardware.Closed{})
			ended(b, k, hardware.ApprovalMaybe)
			b.in(load{protocol.BusKey{BusEpoch: 9}, true}) // was on its way
			b.wants(hardware.Loaded{Bus: protocol.BusKey{BusEpoch: 9}, How: hardware.ApprovalWithdrawn})
		},
		"7.4 11 00 Z7: nobody answers in time": func(b *bus) {
			k := asked(b)
			b.now += 4 * time.Second
			b.in(hardware.Wake{})
			b.wants()
			b.in(load{k, true})
			ended(b, k, hardware.ApprovalWithdrawn)
			b.talk("12* 12 -> 0E 0E*", "00 -> ")
		},
		"7.4 11 00 Z7: no POLL in time": func(b *bus) {
			k := asked(b)
			b.in(load{k, true})
			b.now += 4 * time.Second
			b.in(hardware.Wake{})
			ended(b, k, hardware.ApprovalWithdrawn)
			b.talk("12* 12 -> 0E 0E*", "00 -> ", "12* 12 -> 00*")
		},
		"2 an ACK is of the answer before it": func(b *bus) {
			b.session(0x20)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(approve{vend: vendOf(1), units: 150, by: time.Hour})
			b.talk("12* 12 -> 05 00 96 9B*") // and what comes is not heard
			b.vmc("17* 00 56 4D 43" + blanks(24) + " 01 02 00")
			b.talk("00 -> ")
			b.wants() // the controller has our name, and not the approval
			b.talk("12* 12 -> 05 00 96 9B*", "00 -> ")
			b.wants(hardware.Approval{Vend: vendOf(1), How: hardware.ApprovalDelivered})
		},
	})
}

// TestCashlessDiagnostics: 17 FF, of any length.
func TestCashlessDiagnostics(t *testing.T) {
	cases(t, CashlessConfig{}, map[string]func(*bus){
		"7.4 17 FF": func(b *bus) {
			b.started(0x20)
			b.talk("17* FF 16 -> 00*", "12* 12 -> FF 43 4F 49 01 00 03 00 DE*", "00 -> ", "12* 12 -> 00*")
		},
		"7.4 17 FF with data, said again": func(b *bus) {
			b.started(0x20)
			b.talk("17* FF 01 02 19 -> 00*", "17* FF 01 02 19 -> 00*", "12* 12 -> FF 43 4F 49 01 00 03 00 DE*", "00 -> ", "12* 12 -> 00*")
		},
		"7.4 17 FF before anything is set up": func(b *bus) {
			b.talk("10* 10 -> 00*", "12* 12 -> 00 00*", "00 -> ", "17* FF 16 -> 00*", "12* 12 -> FF 43 4F 49 01 00 01 00 DC*")
		},
		"2 as long as a block can be, and longer": func(b *bus) {
			b.started(0x20)
			b.talk("17* FF"+strings.Repeat(" 00", 33)+" 16 -> 00*", "12* 12 -> FF 43 4F 49 01 00 03 00 DE*", "00 -> ")
			b.talk("17* FF"+strings.Repeat(" 01", 35)+" -> ", "12* 12 -> 00*")
		},
		"what made no sense is counted, up to FF": func(b *bus) {
			b.started(0x20)
			for range 300 {
				b.vmc("13* 01 15")
			}
			b.talk("17* FF 16 -> 00*", "12* 12 -> FF 43 4F 49 01 00 03 FF DD*")
		},
	})
}

// TestCashlessDataEntry: 12, 13 and 14 03.
func TestCashlessDataEntry(t *testing.T) {
	const (
		pin      = "14* 03 31 32 33 34 00 00 00 00 E1 -> 00*"
		canceled = "14* 03 FF FF FF FF FF FF FF FF 0F -> 00*"
	)
	four := func(b *bus, again bool) prompt {
		return prompt{id: 7, length: 4, again: again, by: b.now + time.Minute}
	}
	refused := func(b *bus, why string, more ...hardware.Event) {
		b.t.Helper()
		b.wants(append([]hardware.Event{hardware.DataRefused{ID: 7, Reason: why}}, more...)...)
	}
	asked := func(b *bus) {
		b.session(0x30)
		b.in(four(b, false))
		b.talk("12* 12 -> 12 04 16*", "00 -> ", "12* 12 -> 00*")
	}
	cases(t, CashlessConfig{}, map[string]func(*bus){
		"7.4 12, 14 03": func(b *bus) {
			asked(b)
			b.talk(pin)
			if said := fmt.Sprintf("%+v %#v %v", b.ev, b.ev, b.ev[0]); strings.Contains(said, "1234") || strings.Contains(said, "49") {
				b.t.Errorf("it tells: %s", said)
			}
			b.wants(hardware.DataEntered{ID: 7})
			if b.secret != "1234" {
				b.t.Errorf("entered %q", b.secret)
			}
			b.talk("12* 12 -> 00*")
		},
		"7.4 12 again, bit 7": func(b *bus) {
			asked(b)
			b.talk(pin)
			b.in(four(b, true))
			b.talk("12* 12 -> 12 84 96*", "12* 12 -> 12 84 96*", "00 -> ", pin)
			b.wants(hardware.DataEntered{ID: 7})
		},
		"7.4 14 03 canceled": func(b *bus) { asked(b); b.talk(canceled); refused(b, hardware.EntryCanceled); b.talk("12* 12 -> 00*") },
		"7.4 14 03 said again": func(b *bus) {
			asked(b)
			b.talk(pin, pin)
			refused(b, hardware.EntryRepeated)
			b.in(prompt{id: 8, length: 4, by: b.now + time.Minute})
			b.talk(pin) // before the next question was on the wire
			refused(b, hardware.EntryRepeated)
			b.talk("12* 12 -> 12 04 16*", pin) // it heard that, and its ACK was lost
			b.wants(hardware.DataEntered{ID: 8})
			b.talk("12* 12 -> 00*")
		},
		"7.4 14 03 too late, 13": func(b *bus) {
			asked(b)
			b.now += time.Minute
			b.in(hardware.Wake{})
			refused(b, hardware.EntryNoTime)
			b.talk(pin)
			refused(b, hardware.EntryLate)
			b.talk("12* 12 -> 13 13*", "00 -> ", canceled)
			refused(b, hardware.EntryLate)
		},
		"7.4 13": func(b *bus) {
			asked(b)
			b.in(unask{6})
			b.wants()
			b.in(unask{7})
			refused(b, hardware.EntryTaken)
			b.in(unask{7})
			b.wants()
			b.talk("12* 12 -> 13 13*", "00 -> ", "12* 12 -> 00*")
		},
		"7.4 taken back before it was said": func(b *bus) {
			b.session(0x30)
			b.in(four(b, false))
			b.in(unask{7})
			refused(b, hardware.EntryTaken)
			b.talk("12* 12 -> 00*")
		},
		"7.4 13 04 in between": func(b *bus) {
			asked(b)
			b.talk("13* 04 17 -> 00*")
			refused(b, hardware.EntryOver, hardware.SessionComplete{})
			b.in(four(b, false))
			refused(b, hardware.EntryImpossible)
			b.talk(pin)
			refused(b, hardware.EntryLate)
			b.talk("12* 12 -> 07 07*", "00 -> ")
		},
		"7.4.1 RESET in between": func(b *bus) {
			asked(b)
			b.talk("10* 10 -> 00*")
			refused(b, hardware.EntryReset, hardware.BusReset{Epoch: 3})
			b.talk("12* 12 -> 00 00*", "00 -> ", pin)
			refused(b, hardware.EntryLate)
		},
		"port gone": func(b *bus) {
			asked(b)
			b.in(hardware.Closed{})
			refused(b, hardware.EntryReset)
			b.in(four(b, false))
			refused(b, hardware.EntryImpossible)
		},
		"7.4 always idle: between request and approval": func(b *bus) {
			b.started(0x30)
			b.in(four(b, false))
			refused(b, hardware.EntryImpossible)
			b.talk("13* 00 00 96 00 05 AE -> 00*")
			b.in(four(b, false))
			b.talk("12* 12 -> 12 04 16*", "00 -> ", pin)
			b.wants(hardware.DataEntered{ID: 7})
			b.in(four(b, false))
			b.talk("13* 01 14 -> 00*", "12* 12 -> 12 04 16*", "00 -> ", "12* 12 -> 06 06*", "00 -> ")
			refused(b, hardware.EntryOver)
		},
		"7.4 17 04 without the option": func(b *bus) {
			b.session(0x20)
			b.in(four(b, false))
			refused(b, hardware.EntryImpossible)
			b.talk("12* 12 -> 00*")
		},
		"7.4 14 03 holds eight": func(b *bus) {
			b.session(0x30)
			for _, n := range []int{-1, 0, 9, 0x104} {
				b.in(prompt{id: 7, length: n, by: b.now + time.Minute})
				refused(b, hardware.EntryImpossible)
			}
			b.in(prompt{id: 7, length: 8, by: b.now + time.Minute})
			b.in(prompt{id: 8, length: 8, by: b.now + time.Minute})
			b.wants(hardware.DataRefused{ID: 8, Reason: hardware.EntryBusy})
			b.talk("12* 12 -> 12 08 1A*", "00 -> ", "14* 03 31 32 33 34 35 36 37 38 BB -> 00*")
			b.wants(hardware.DataEntered{ID: 7})
			if b.secret != "12345678" {
				b.t.Errorf("entered %q", b.secret)
			}
		},
		"7.4 14 03 more than was asked for, nothing, no character": func(b *bus) {
			b.session(0x30)
			for _, says := range []string{"14* 03 31 32 33 34 35 00 00 00 16", "14* 03 00 00 00 00 00 00 00 00 17", "14* 03 31 00 33 00 00 00 00 00 7B", "14* 03 31 FF FF FF 00 00 00 00 45"} {
				b.in(four(b, false))
				b.talk("12* 12 -> 12 04 16*", "00 -> ", says+" -> 00*")
				refused(b, hardware.EntryGarbled)
			}
		},
	})
}
