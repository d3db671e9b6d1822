package agent

import (
	"strings"
	"testing"

	"coinop/agent/uplink"
	"coinop/hardware"
	"coinop/protocol/code"
)

// What the ways to pay leave, one by one: each is there (1), away (0) or not configured.
func TestModeOf(t *testing.T) {
	t.Parallel()
	const bank, own, cash = ModeCashlessOnly, ModeClosedLoop, ModeCashOnly
	type ways map[Mode]bool
	for _, c := range []struct {
		name string
		ways ways
		want Mode
	}{
		{"a machine with its own cash", ways{}, ModeFull},
		{"all", ways{bank: true, own: true, cash: true}, ModeFull},
		{"own cards are all there is", ways{own: true}, ModeFull},
		{"own cards are all there was", ways{own: false}, ModeOut},
		{"the changer beside them is away", ways{own: true, cash: false}, ModeClosedLoop},
		{"the accounts are", ways{own: false, cash: true}, ModeCashOnly},
		{"the bank is, of a reader of both", ways{bank: false, own: true}, ModeClosedLoop},
		{"the accounts are, of a reader of both", ways{bank: true, own: false}, ModeCashlessOnly},
		{"the bank and the changer", ways{bank: false, own: true, cash: false}, ModeClosedLoop},
		{"the changer alone", ways{bank: true, own: true, cash: false}, ModeCashlessOnly},
		{"the bank, and cash is there", ways{bank: false, own: true, cash: true}, ModeCashOnly},
		{"nothing is left", ways{bank: false, own: false, cash: false}, ModeOut},
	} {
		var all []means
		for _, k := range []Mode{bank, own, cash} {
			works, there := c.ways[k]
			if !there {
				continue
			}
			m := means{name: string(k), kind: k}
			if !works {
				m.away = code.LinkDown
			}
			all = append(all, m)
		}
		if got, why := modeOf(all); got != c.want || (why == "") != (got == ModeFull) {
			t.Errorf("%s: %s (%s), want %s", c.name, got, why, c.want)
		} else if text := textOf(got, all); (text == "") != (got == ModeFull) || strings.Contains(text, "ustomer cards") != (got != ModeFull && c.ways[own] && got != bank) {
			t.Errorf("%s: a buyer is told %q", c.name, text)
		}
	}
}

// Before the cloud has said that it has accounts, they are not asked.
func TestAccountsFault(t *testing.T) {
	t.Parallel()
	var l uplink.Link
	if got := accountsFault(l); got != code.AccountsAway {
		t.Errorf("%q", got)
	}
	for kind, want := range map[Cards]code.Code{LoopCards: code.AccountsAway, BankCards: "", BothCards: ""} {
		if got := (&lane{readers: []*reader{{cards: kind}}}).cardFault(l); got != want {
			t.Errorf("cards %d: %q, want %q", kind, got, want)
		}
	}
}

// A kind of cards is taken as long as one reader for it works.
func TestReads(t *testing.T) {
	t.Parallel()
	works, away := hardware.Health{State: hardware.Ready}, hardware.Health{State: hardware.Absent, Code: string(code.PortLost)}
	type one struct {
		cards Cards
		hardware.Health
	}
	const none code.Code = "none"
	for _, c := range []struct {
		name      string
		readers   []one
		bank, own code.Code
	}{
		{"no reader", nil, none, none},
		{"one of the bank's", []one{{BankCards, works}}, "", none},
		{"one of each", []one{{BankCards, works}, {LoopCards, works}}, "", ""},
		{"the bank's is away", []one{{BankCards, away}, {LoopCards, works}}, code.PortLost, ""},
		{"the other is", []one{{BankCards, works}, {LoopCards, away}}, "", code.PortLost},
		{"one of two for the bank's", []one{{BankCards, away}, {BothCards, works}}, "", ""},
		{"the one for both", []one{{BankCards, works}, {BothCards, away}}, "", code.PortLost},
		{"all", []one{{BankCards, away}, {BothCards, away}}, code.PortLost, code.PortLost},
	} {
		l := &lane{health: map[part]hardware.Health{}}
		for i, r := range c.readers {
			at := partReader + part(i) //nolint:gosec // two
			l.readers = append(l.readers, &reader{cards: r.cards, part: at})
			l.health[at] = r.Health
		}
		for kind, want := range map[bool]code.Code{true: c.bank, false: c.own} {
			of := map[bool]func(Cards) bool{true: Cards.bank, false: Cards.own}[kind]
			got, there := l.reads(of)
			if there == (want == none) || there && got != want {
				t.Errorf("%s: the bank's %v: %q %v, want %q", c.name, kind, got, there, want)
			}
		}
	}
}
