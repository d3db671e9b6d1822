package demo

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/payment"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// A little world: a sale of terminal 1 numbered n, all of whose books agree.
func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }

func entry(stan string, asked int64) hostsim.Entry {
	return hostsim.Entry{TID: "1", MTI: "0100", STAN: stan, RRN: "r" + stan, Asked: asked, Approved: asked, Captured: asked, Code: "00"}
}

func booked(n byte, stan string, asked int64) Booked {
	b := Booked{
		Device: "m1", TID: "1", State: payment.Captured, Asked: eur(asked), Captured: eur(asked),
		Asks: []Ask{{stan, "r" + stan}},
	}
	b.Sale[15], b.Payment[15] = n, n
	return b
}

func fallen(n int, price int64) Fallen { return Fallen{TID: "1", N: n, Price: eur(price)} }

type books struct {
	host     []hostsim.Entry
	ledger   []Booked
	drops    []Fallen
	terminal []virtual.TerminalTx
	moved    InMachine
	cash     Explained
}

func (b books) compare() Verdict {
	return Compare(Outside{b.host, []AtTerminal{{"1", b.terminal}}, b.drops, []InMachine{b.moved}}, Ours{Payments: b.ledger, Cash: []Explained{b.cash}})
}

// by is a payment that no host knows.
func by(n byte, how protocol.AuthorizedBy, price int64) Booked {
	b := booked(n, "", price)
	b.By, b.Asks, b.Price = how, nil, eur(price)
	return b
}

func TestCompare(t *testing.T) {
	t.Parallel()
	// good is two sales of 1.50, one of 2.00, a decline and a void; at a terminal one of 2.10, and one of 3.60 that
	// was given back; and in cash one of 1.20, paid with 2.00.
	good := func() books {
		declined, voided := entry("000004", 9051), entry("000005", 150)
		declined.Approved, declined.Captured, declined.Code = 0, 0, "51"
		voided.Captured, voided.Reversed = 0, true
		no, back := booked(4, "000004", 9051), booked(5, "000005", 150)
		given, cash := by(17, protocol.ByTerminal, 360), by(18, protocol.ByCash, 120)
		given.State, given.Captured, cash.Asked = payment.Reversed, money.Amount{}, eur(200)
		no.State, no.Captured = payment.Declined, money.Amount{}
		back.State, back.Captured = payment.Reversed, money.Amount{}
		return books{
			host: []hostsim.Entry{entry("000001", 150), entry("000002", 150), entry("000003", 200), declined, voided},
			ledger: []Booked{
				booked(1, "000001", 150), booked(2, "000002", 150), booked(3, "000003", 200), no, back,
				by(16, protocol.ByTerminal, 210), given, cash,
			},
			drops: []Fallen{fallen(1, 150), fallen(2, 150), fallen(3, 200), fallen(4, 210), fallen(5, 120)},
			terminal: []virtual.TerminalTx{
				{Kind: "purchase", Receipt: 1, Amount: 210, Standing: 210, Ref: "000000000010"},
				{Kind: "purchase", Receipt: 2, Amount: 360, Standing: 360, Ref: "000000000011"},
				{Kind: "reversal", Receipt: 3, Of: 2, Amount: 360, Standing: -360},
			},
			moved: InMachine{"m1", money.EUR, 200, 80, 0},
			cash:  Explained{Device: "m1", Currency: money.EUR, Sold: 120},
		}
	}
	for _, c := range []struct {
		name                       string
		wrong                      func(*books)
		lost, doubled, unexplained int
		says                       string
	}{
		{"all agree", func(*books) {}, 0, 0, 0, ""},
		{"fell unpaid", func(b *books) { b.drops = append(b.drops, fallen(4, 150)) }, 1, 0, 0, "nobody paid"},
		{"fell at a price never sold", func(b *books) { b.drops = append(b.drops, fallen(4, 999)) }, 1, 0, 0, "nobody paid"},
		{"fell at a machine never seen", func(b *books) { b.drops = append(b.drops, Fallen{TID: "9", Price: eur(150)}) }, 1, 0, 0, "terminal 9"},
		{"paid, did not fall", func(b *books) { b.drops = b.drops[1:] }, 0, 1, 0, "did not fall"},
		{"paid, none of its kind fell", func(b *books) { b.drops = slices.Delete(b.drops, 2, 3) }, 0, 0, 1, "never fell"},
		{"another price fell than was paid", func(b *books) { b.drops[1] = fallen(2, 200) }, 1, 1, 0, "nobody paid"},
		{"two approvals of a sale", func(b *books) {
			b.host = append(b.host, entry("000006", 150))
			b.host[5].Captured, b.host[5].Held = 0, 150
			b.ledger[0].Asks = append(b.ledger[0].Asks, Ask{"000006", "r000006"})
		}, 0, 1, 1, "second approval"},
		{"a sale paid by two payments", func(b *books) {
			b.host = append(b.host, entry("000006", 150))
			b.ledger = append(b.ledger, booked(6, "000006", 150))
			b.ledger[len(b.ledger)-1].Sale = b.ledger[0].Sale
			b.drops = append(b.drops, fallen(4, 150))
		}, 0, 1, 0, "second approval"},
		{"captured twice at the host", func(b *books) { b.host[0].Captured = 300 }, 1, 0, 2, "the host 3.00"},
		{"an approval of nobody", func(b *books) { b.host = append(b.host, entry("000007", 150)) }, 0, 0, 1, "no payment of ours"},
		{"a hold is left", func(b *books) { b.host[4].Held, b.host[4].Reversed = 150, false }, 0, 0, 1, "a hold of 1.50"},
		{"the host did not capture", func(b *books) { b.host[0].Captured = 0 }, 1, 0, 1, "the ledger captured 1.50"},
		{"the ledger did not", func(b *books) { b.ledger[0].Captured = money.Amount{} }, 0, 0, 1, "the ledger captured 0.00"},
		{"a refund only at the host", func(b *books) { b.host[0].Refunded = 150 }, 1, 0, 1, "the host 0.00"},
		{"a payment still awaits", func(b *books) { b.ledger[4].State = payment.Reversing }, 0, 0, 1, "still awaits"},
		{"open in the ledger", func(b *books) { b.ledger[4].Open = eur(150) }, 0, 0, 1, "open in the ledger"},
		{"an incident", func(b *books) { b.ledger[0].Cases = []Question{{protocol.CaseIncident, true}} }, 0, 0, 1, "incident"},
		{"a case that says otherwise", func(b *books) { b.ledger[0].Cases = []Question{{protocol.CaseUnknown, false}} }, 0, 0, 1, "charged false"},

		{"paid at a terminal, did not fall", func(b *books) { b.drops[3] = fallen(4, 120) }, 1, 0, 1, "never fell"},
		{"a terminal has what was given back", func(b *books) { b.terminal = b.terminal[:2] }, 0, 0, 2, "the host 3.60"},
		{"a terminal has less", func(b *books) { b.terminal = b.terminal[1:] }, 1, 0, 1, "the ledger captured 2.10"},
		{"a terminal has what nobody asked for", func(b *books) { b.terminal[0].Ref = "000000000099" }, 1, 0, 2, "no payment of ours"},
		{"a terminal charged a sale twice", func(b *books) { b.ledger[6].Sale, b.terminal[2].Of = b.ledger[5].Sale, 0 }, 0, 1, 3, "second approval"},
		{"a hold is left at a terminal", func(b *books) { b.terminal[0].Kind = "hold" }, 0, 0, 1, "a hold of 2.10"},

		{"cash that nothing explains", func(b *books) { b.moved.In += 50 }, 0, 0, 1, "nothing explains 0.50"},
		{"less cash than was sold", func(b *books) { b.moved.Out += 50 }, 0, 0, 1, "0.50 of that is not there"},
		{"sold for cash, and none moved", func(b *books) { b.moved = InMachine{} }, 0, 0, 1, "1.20 of that is not there"},
		{"cash sold of which the ledger knows nothing", func(b *books) { b.cash = Explained{} }, 0, 0, 1, "nothing explains 1.20"},
		{"a coin that came as the agent was killed", func(b *books) { b.moved.In, b.moved.Doubt = 400, 199 }, 0, 0, 1, "nothing explains 2.00"},
		{"and no more than it", func(b *books) { b.moved.In, b.moved.Doubt = 400, 200 }, 0, 0, 0, ""},
		{"kept by the machine, and named", func(b *books) { b.moved.In, b.cash.Named = 700, 500 }, 0, 0, 0, ""},
		{"change owed, in a case", func(b *books) {
			b.moved.Out, b.cash.Owed, b.ledger[7].Owed = 30, 50, eur(50)
			b.ledger[7].Cases = []Question{{protocol.CaseChangeShort, false}}
		}, 0, 0, 0, ""},
		{"change owed, no case", func(b *books) { b.moved.Out, b.ledger[7].Owed = 30, eur(50) }, 0, 0, 2, "no case says so"},
		{"a case of change, and none is owed", func(b *books) { b.ledger[7].Cases = []Question{{protocol.CaseChangeShort, true}} }, 0, 0, 1, "change_short"},
		{"change that may have come out", func(b *books) {
			b.cash.Owed, b.cash.Unknown, b.ledger[7].Owed = 50, 50, eur(50)
			b.ledger[7].Cases = []Question{{protocol.CaseChangeUnknown, false}}
		}, 0, 0, 0, ""},
		{"fell for cash that was given back: its case", func(b *books) {
			b.ledger[7].Captured, b.ledger[7].State, b.moved.Out, b.cash.Sold = money.Amount{}, payment.Reversed, 200, 0
			b.ledger[7].Cases = []Question{{protocol.CaseUnknown, false}}
		}, 0, 0, 0, ""},

		{"a charged case explains what did not fall", func(b *books) {
			b.ledger[0].Cases, b.drops = []Question{{protocol.CaseUnknown, true}}, b.drops[1:]
		}, 0, 0, 0, ""},
		{"and is no fault when it fell", func(b *books) { b.ledger[0].Cases = []Question{{protocol.CaseUnknown, true}} }, 0, 0, 0, ""},
		{"a free case explains what fell", func(b *books) {
			b.ledger[4].Cases, b.drops = []Question{{protocol.CaseUnknown, false}}, append(b.drops, fallen(4, 150))
		}, 0, 0, 0, ""},
		{"not at another price", func(b *books) {
			b.ledger[4].Cases, b.drops = []Question{{protocol.CaseUnknown, false}}, append(b.drops, fallen(4, 200))
		}, 1, 0, 0, "nobody paid"},
		{"not in the other direction", func(b *books) {
			b.ledger[4].Cases, b.drops = []Question{{protocol.CaseUnknown, false}}, b.drops[1:]
		}, 0, 1, 0, "did not fall"},
		{"not two", func(b *books) {
			b.ledger[4].Cases = []Question{{protocol.CaseUnknown, false}, {protocol.CasePresumed, false}}
			b.drops = append(b.drops, fallen(4, 150), fallen(5, 150))
		}, 1, 0, 0, "nobody paid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := good()
			c.wrong(&b)
			v := b.compare()
			if v.Lost != c.lost || v.Doubled != c.doubled || v.Unexplained != c.unexplained {
				t.Errorf("%s\n%s", v, strings.Join(v.Findings, "\n"))
			}
			if v.OK() != (c.lost+c.doubled+c.unexplained == 0) || len(v.Findings) != c.lost+c.doubled+c.unexplained {
				t.Errorf("ok %t, findings %q", v.OK(), v.Findings)
			}
			if !strings.Contains(strings.Join(v.Findings, "\n"), c.says) {
				t.Errorf("findings %q, want %q", v.Findings, c.says)
			}
		})
	}

	t.Run("line", func(t *testing.T) {
		b := good()
		b.ledger = append(b.ledger, Booked{State: payment.RefusedUnsent, Payment: protocol.PaymentID{15: 9}})
		b.moved.In, b.moved.Doubt = 700, 500
		v := b.compare()
		const want = "sales 5 · captured 8.30 EUR · voided 2 · declined 1 · cases 0 · lost 0 · doubled 0 · unexplained 0 · cash explained 1.20 of 6.20 EUR · ledger balanced"
		if v.String() != want || v.Refused != 1 {
			t.Errorf("%s\nwant %s", v, want)
		}
		v.Unbalanced = errors.New("x")
		if v.OK() || !strings.HasSuffix(v.String(), "ledger NOT balanced") {
			t.Error(v)
		}
	})
}
