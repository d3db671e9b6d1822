package demo

import (
	"errors"
	"strings"
	"testing"

	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/payment"
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

func TestCompare(t *testing.T) {
	t.Parallel()
	type books struct {
		host   []hostsim.Entry
		ledger []Booked
		drops  []Fallen
	}
	// good is two sales of 1.50, one of 2.00, a decline and a void.
	good := func() books {
		declined, voided := entry("000004", 9051), entry("000005", 150)
		declined.Approved, declined.Captured, declined.Code = 0, 0, "51"
		voided.Captured, voided.Reversed = 0, true
		no, back := booked(4, "000004", 9051), booked(5, "000005", 150)
		no.State, no.Captured = payment.Declined, money.Amount{}
		back.State, back.Captured = payment.Reversed, money.Amount{}
		return books{
			host:   []hostsim.Entry{entry("000001", 150), entry("000002", 150), entry("000003", 200), declined, voided},
			ledger: []Booked{booked(1, "000001", 150), booked(2, "000002", 150), booked(3, "000003", 200), no, back},
			drops:  []Fallen{fallen(1, 150), fallen(2, 150), fallen(3, 200)},
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
		{"paid, none of its kind fell", func(b *books) { b.drops = b.drops[:2] }, 0, 0, 1, "never fell"},
		{"another price fell than was paid", func(b *books) { b.drops[1] = fallen(2, 200) }, 1, 1, 0, "nobody paid"},
		{"two approvals of a sale", func(b *books) {
			b.host = append(b.host, entry("000006", 150))
			b.host[5].Captured, b.host[5].Held = 0, 150
			b.ledger[0].Asks = append(b.ledger[0].Asks, Ask{"000006", "r000006"})
		}, 0, 1, 1, "second approval"},
		{"a sale paid by two payments", func(b *books) {
			b.host = append(b.host, entry("000006", 150))
			b.ledger = append(b.ledger, booked(6, "000006", 150))
			b.ledger[5].Sale = b.ledger[0].Sale
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
			v := Compare(b.host, b.ledger, b.drops)
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
		v := Compare(b.host, b.ledger, b.drops)
		const want = "sales 3 · captured 5.00 EUR · voided 1 · declined 1 · cases 0 · lost 0 · doubled 0 · unexplained 0 · ledger balanced"
		if v.String() != want || v.Refused != 1 {
			t.Errorf("%s\nwant %s", v, want)
		}
		v.Unbalanced = errors.New("x")
		if v.OK() || !strings.HasSuffix(v.String(), "ledger NOT balanced") {
			t.Error(v)
		}
	})
}
