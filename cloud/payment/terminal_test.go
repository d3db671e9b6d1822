package payment_test

import (
	"testing"

	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
	"coinop/protocol/money"
)

// TestTerminal: a payment that a terminal authorized by itself is what the device's records say; what is
// captured is owed by the provider, no bank of ours hears of it, and it never expires.
func TestTerminal(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testTerminal)
}

func testTerminal(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	sale := protocol.SaleID{8}
	a, b := protocol.PaymentID{1}, protocol.PaymentID{2}
	sent := func(p protocol.PaymentID, minor int64) protocol.Body {
		return protocol.TerminalSent{Payment: p, Amount: eur(minor), Purpose: protocol.Exact}
	}
	said := func(r protocol.TerminalResult, minor int64) protocol.Body {
		return protocol.TerminalAnswered{Payment: a, Result: r, Approved: eur(minor), Brand: "visa", Last4: "0011"}
	}
	yes := said(protocol.TerminalApproved, 150)
	capture := func(p protocol.PaymentID, minor int64) protocol.Body {
		return protocol.PaymentOutcome{Payment: p, What: protocol.Capture, Amount: eur(minor), Reason: protocol.ReasonSold}
	}
	void := protocol.PaymentOutcome{Payment: a, What: protocol.Void, Amount: eur(0), Reason: protocol.VendFailed}
	done := func(op protocol.TerminalOp, end protocol.TerminalEnd, minor int64) protocol.Body {
		return protocol.TerminalDone{Payment: a, Op: op, Amount: eur(minor), End: end}
	}
	booked, canceled := done(protocol.TerminalCapture, protocol.TerminalOK, 150), done(protocol.TerminalCancel, protocol.TerminalOK, 150)
	type net struct{ clearing, merchant, buyer int64 }
	for _, c := range []struct {
		name  string
		facts []record
		state payment.State
		net   net
		odd   int // incidents
	}{
		{"sold", []record{{sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, capture(a, 150), "posted"}, {sale, booked, "no-money"}}, payment.Captured, net{150, 150, 0}, 0},
		{"less was used", []record{{sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, capture(a, 100), "posted"}, {sale, done(protocol.TerminalCapture, protocol.TerminalOK, 100), "no-money"}}, payment.Captured, net{100, 100, 0}, 0},
		{"less was used, and it will not", []record{{sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, capture(a, 100), "posted"}, {sale, done(protocol.TerminalCapture, protocol.TerminalRefused, 100), "posted"}}, payment.Captured, net{150, 100, 50}, 0},
		{"given back", []record{{sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, void, "no-money"}, {sale, canceled, "no-money"}}, payment.Reversed, net{}, 0},
		{"it will not give it back", []record{{sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, void, "no-money"}, {sale, done(protocol.TerminalCancel, protocol.TerminalRefused, 150), "posted"}}, payment.InCase, net{150, 0, 150}, 0},
		{"declined", []record{{sale, sent(a, 150), "no-money"}, {sale, said(protocol.TerminalDeclined, 0), "no-money"}}, payment.Declined, net{}, 0},
		{"never sent", []record{{sale, sent(a, 150), "no-money"}, {sale, said(protocol.TerminalUnsent, 0), "no-money"}}, payment.RefusedUnsent, net{}, 0},
		{"no answer, then given back", []record{{sale, sent(a, 150), "no-money"}, {sale, void, "no-money"}, {sale, yes, "no-money"}, {sale, canceled, "no-money"}}, payment.Reversed, net{}, 0},
		{"no answer, and none was paid", []record{{sale, sent(a, 150), "no-money"}, {sale, void, "no-money"}, {sale, said(protocol.TerminalUnsent, 0), "no-money"}}, payment.Reversed, net{}, 0},
		{"no answer, and nobody knows", []record{{sale, sent(a, 150), "no-money"}, {sale, void, "no-money"}, {sale, said(protocol.TerminalUnknown, 0), "no-money"}}, payment.InCase, net{}, 0},
		{"asked, no more", []record{{sale, sent(a, 150), "no-money"}}, payment.Sent, net{}, 0},
		{"asked twice", []record{{sale, sent(a, 150), "no-money"}, {sale, sent(a, 150), "quarantined"}}, payment.Sent, net{}, 1},
		{"answered twice", []record{{sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, said(protocol.TerminalDeclined, 0), "quarantined"}}, payment.Approved, net{}, 1},
		{"done before its outcome", []record{{sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, booked, "quarantined"}}, payment.Approved, net{}, 1},
		{"done twice", []record{{sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, capture(a, 150), "posted"}, {sale, booked, "no-money"}, {sale, booked, "quarantined"}}, payment.Captured, net{150, 150, 0}, 1},
		{"canceled what was captured", []record{{sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, capture(a, 150), "posted"}, {sale, canceled, "quarantined"}}, payment.Captured, net{150, 150, 0}, 1},
		{"captured what was declined", []record{{sale, sent(a, 150), "no-money"}, {sale, said(protocol.TerminalDeclined, 0), "no-money"}, {sale, capture(a, 150), "quarantined"}}, payment.InCase, net{}, 1},
		{"captured more", []record{{sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, capture(a, 151), "quarantined"}}, payment.InCase, net{}, 0},
		{"other money", []record{{sale, sent(a, 150), "no-money"}, {sale, protocol.TerminalAnswered{Payment: a, Result: protocol.TerminalApproved, Approved: money.New(150, money.USD)}, "quarantined"}}, payment.Sent, net{}, 1},
		{"for nothing", []record{{sale, sent(a, 0), "quarantined"}, {sale, sent(protocol.PaymentID{}, 5), "quarantined"}, {sale, sent(a, 150), "no-money"}}, payment.Sent, net{}, 0},
		{"two payments of a sale", []record{{sale, sent(b, 150), "no-money"}, {sale, protocol.TerminalAnswered{Payment: b, Result: protocol.TerminalApproved, Approved: eur(150)}, "no-money"}, {sale, capture(b, 150), "posted"}, {sale, sent(a, 150), "no-money"}, {sale, yes, "no-money"}, {sale, capture(a, 150), "quarantined"}}, payment.InCase, net{150, 150, 0}, 1},
		{"the end of its day", []record{{sale, sent(a, 150), "no-money"}, {sale, protocol.TerminalClosed{Total: eur(5)}, "no-money"}}, payment.Sent, net{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bed := newBed(t, fresh, acquirer.Profile{})
			bed.tell("kiosk-1", c.facts...)
			p := bed.want(a, c.state)
			if p.By != protocol.ByTerminal || p.Due() != 0 {
				t.Errorf("by %s, due %d", p.By, p.Due())
			}
			got := net{bed.net(ledger.TerminalClearing), -bed.net(ledger.MerchantPayable), -bed.net(ledger.VendPending)}
			if got != c.net {
				t.Errorf("books %+v, want %+v", got, c.net)
			}
			if bed.odd() != c.odd {
				t.Errorf("incidents %v", bed.incidents())
			}
			// A request under its id is none of ours: nothing goes to a bank.
			next, out := p.Step(t0+1e9, payment.Asked{Ask: protocol.Ask{Device: "kiosk-1", Payment: a, Amount: eur(150)}, Tenant: "acme"})
			if next.State != c.state {
				t.Errorf("a request makes it %s", next.State)
			}
			for _, act := range out.Acts {
				if _, ok := act.(payment.Insert); ok {
					t.Errorf("a request is sent: %+v", act)
				}
			}
		})
	}
}

// TestTerminalOfAnother: a card's payment has no terminal, and another device's is not ours.
func TestTerminalOfAnother(t *testing.T) {
	t.Parallel()
	card := payment.Payment{ID: protocol.PaymentID{1}, Device: "kiosk-1", State: payment.Sent, Asked: eur(100)}
	ours := card
	ours.By = protocol.ByTerminal
	for name, c := range map[string]struct {
		p payment.Payment
		f payment.Fact
	}{
		"asked for a card's":     {card, payment.TerminalAsked{Device: "kiosk-1", Amount: eur(100)}},
		"said of a card":         {card, payment.TerminalSaid{Device: "kiosk-1", Result: protocol.TerminalApproved, Approved: eur(100)}},
		"said by another":        {ours, payment.TerminalSaid{Device: "kiosk-2", Result: protocol.TerminalApproved, Approved: eur(100)}},
		"said of another sale":   {ours, payment.TerminalSaid{Device: "kiosk-1", Sale: protocol.SaleID{4}, Result: protocol.TerminalDeclined}},
		"done by another":        {ours, payment.TerminalEnded{Device: "kiosk-2", Op: protocol.TerminalCancel, End: protocol.TerminalOK}},
		"done, nobody knows how": {ours, payment.TerminalEnded{Device: "kiosk-1", Op: protocol.TerminalCancel, End: protocol.TerminalLost}},
	} {
		next, out := c.p.Step(t0, c.f)
		for _, a := range out.Acts {
			if _, ok := a.(payment.Move); ok {
				t.Errorf("%s: %+v", name, out)
			}
		}
		if next.State != c.p.State || next.Approved != c.p.Approved {
			t.Errorf("%s: %+v", name, next)
		}
	}
}
