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

// TestCash: a payment in cash is what the device's records say; the ledger follows them, and no bank
// hears of it. SALE section 8, the rows of cash.
func TestCash(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testCash)
}

func testCash(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	sale, stray := protocol.SaleID{8}, protocol.SaleID{}
	a, b := protocol.PaymentID{1}, protocol.PaymentID{2}
	in := func(p protocol.PaymentID, minor int64) protocol.Body {
		return protocol.CashIn{Payment: p, Value: eur(minor)}
	}
	capture := func(p protocol.PaymentID, minor int64) protocol.Body {
		return protocol.PaymentOutcome{Payment: p, What: protocol.Capture, Amount: eur(minor), Reason: protocol.ReasonSold}
	}
	void := func(p protocol.PaymentID) protocol.Body {
		return protocol.PaymentOutcome{Payment: p, What: protocol.Void, Amount: eur(0), Reason: protocol.Canceled}
	}
	paid := func(p protocol.PaymentID, given, short int64) protocol.Body {
		return protocol.ChangePaid{Payment: p, Given: eur(given), Short: eur(short)}
	}
	unknown := func(p protocol.PaymentID, minor int64) protocol.Body {
		return protocol.ChangeUnknown{Payment: p, Amount: eur(minor)}
	}
	type net struct{ machine, credit, merchant, owed int64 }
	for _, c := range []struct {
		name  string
		facts []record
		state payment.State
		net   net
		odd   int // incidents
	}{
		{"exact", []record{{sale, in(a, 100), "posted"}, {sale, in(a, 50), "posted"}, {sale, capture(a, 150), "posted"}}, payment.Captured, net{150, 0, 150, 0}, 0},
		{"with change", []record{
			{sale, in(a, 200), "posted"},
			{sale, capture(a, 150), "posted"},
			{sale, protocol.ChangeOrdered{Payment: a, Amount: eur(50)}, "no-money"},
			{sale, paid(a, 50, 0), "posted"},
		}, payment.Captured, net{150, 0, 150, 0}, 0},
		{"change short", []record{{sale, in(a, 200), "posted"}, {sale, capture(a, 150), "posted"}, {sale, paid(a, 20, 30), "posted"}}, payment.Captured, net{180, 0, 150, 30}, 0},
		{"change unknown", []record{{sale, in(a, 200), "posted"}, {sale, capture(a, 150), "posted"}, {sale, unknown(a, 50), "posted"}}, payment.Captured, net{200, 0, 150, 50}, 0},
		{"given back", []record{{sale, in(a, 200), "posted"}, {sale, void(a), "no-money"}, {sale, paid(a, 200, 0), "posted"}}, payment.Reversed, net{}, 0},
		{"of no sale", []record{{stray, in(a, 200), "posted"}, {stray, void(a), "no-money"}, {stray, paid(a, 0, 200), "posted"}}, payment.Reversed, net{200, 0, 0, 200}, 0},
		{"a bill is ordered", []record{{sale, protocol.StackOrdered{Value: eur(500)}, "no-money"}, {sale, in(a, 500), "posted"}}, payment.Approved, net{500, 500, 0, 0}, 0},
		{"no outcome yet", []record{{sale, in(a, 200), "posted"}, {sale, paid(a, 200, 0), "quarantined"}}, payment.Approved, net{200, 200, 0, 0}, 1},
		{"more change than is owed", []record{{sale, in(a, 200), "posted"}, {sale, capture(a, 150), "posted"}, {sale, paid(a, 51, 0), "quarantined"}}, payment.Captured, net{200, 50, 150, 0}, 1},
		{"change twice", []record{
			{sale, in(a, 200), "posted"}, {sale, capture(a, 150), "posted"}, {sale, paid(a, 50, 0), "posted"}, {sale, paid(a, 50, 0), "quarantined"},
		}, payment.Captured, net{150, 0, 150, 0}, 1},
		{"less than nothing", []record{{sale, in(a, 200), "posted"}, {sale, capture(a, 150), "posted"}, {sale, paid(a, 60, -10), "quarantined"}}, payment.Captured, net{200, 50, 150, 0}, 1},
		{"more than came in", []record{{sale, in(a, 200), "posted"}, {sale, capture(a, 201), "quarantined"}}, payment.InCase, net{200, 200, 0, 0}, 0},
		{"nothing came in", []record{{sale, in(a, 0), "quarantined"}, {sale, in(protocol.PaymentID{}, 5), "quarantined"}, {sale, in(a, 5), "posted"}}, payment.Approved, net{5, 5, 0, 0}, 0},
		{"after its outcome", []record{{sale, in(a, 100), "posted"}, {sale, capture(a, 100), "posted"}, {sale, in(a, 100), "quarantined"}}, payment.Captured, net{100, 0, 100, 0}, 1},
		{"of another sale", []record{{sale, in(a, 100), "posted"}, {stray, in(a, 100), "quarantined"}}, payment.Approved, net{100, 100, 0, 0}, 1},
		{"two tenders of a sale", []record{
			{sale, in(b, 100), "posted"}, {sale, capture(b, 100), "posted"}, {sale, in(a, 100), "posted"}, {sale, capture(a, 100), "quarantined"},
		}, payment.InCase, net{200, 100, 100, 0}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bed := newBed(t, fresh, acquirer.Profile{})
			bed.tell("kiosk-1", c.facts...)
			p := bed.want(a, c.state)
			if p.By != protocol.ByCash || p.Due() != 0 {
				t.Errorf("by %s, due %d", p.By, p.Due())
			}
			got := net{bed.net(ledger.CashInMachine), bed.net(ledger.CashCredit), bed.net(ledger.MerchantPayable), bed.net(ledger.ChangeOwed)}
			got.credit, got.merchant, got.owed = -got.credit, -got.merchant, -got.owed
			if got != c.net {
				t.Errorf("books %+v, want %+v", got, c.net)
			}
			if bed.odd() != c.odd {
				t.Errorf("incidents %v", bed.incidents())
			}
		})
	}
}

// TestCashOfAnother: a card's payment takes no coins, and another device's no change.
func TestCashOfAnother(t *testing.T) {
	t.Parallel()
	card := payment.Payment{ID: protocol.PaymentID{1}, Device: "kiosk-1", State: payment.Approved, Asked: eur(100), Approved: eur(100)}
	cash := card
	cash.By, cash.State = protocol.ByCash, payment.Reversed
	for name, c := range map[string]struct {
		p payment.Payment
		f payment.Fact
	}{
		"coins for a card":   {card, payment.Cash{Device: "kiosk-1", Value: eur(5)}},
		"another's coins":    {cash, payment.Cash{Device: "kiosk-2", Value: eur(5)}},
		"another's change":   {cash, payment.ChangeSaid{Device: "kiosk-2", Given: eur(5), Short: eur(0)}},
		"change of a card":   {card, payment.ChangeSaid{Device: "kiosk-1", Given: eur(5), Short: eur(0)}},
		"change of nothing":  {payment.Payment{ID: card.ID}, payment.ChangeSaid{Device: "kiosk-1", Given: eur(5), Short: eur(0)}},
		"change in dollars":  {cash, payment.ChangeSaid{Device: "kiosk-1", Given: money.New(5, money.USD), Short: money.New(0, money.USD)}},
		"dollars among euro": {cash, payment.Cash{Device: "kiosk-1", Value: money.New(5, money.USD)}},
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

// TestMachineCash: what a machine that owns its cash says it sold is booked at once; what its counters
// say beyond that, or short of it, when they are read.
func TestMachineCash(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testMachineCash)
}

func testMachineCash(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	till := func(sales int64) protocol.Till { return protocol.Till{Currency: money.EUR, CashSales: sales} }
	for _, c := range []struct {
		name string
		body protocol.Body
		want string
		net  int64
	}{
		{"sold", protocol.CashSale{Sold: protocol.SoldForCash, Price: eur(150)}, "posted", 150},
		{"taken back", protocol.CashSale{Sold: protocol.SoldNegative, Price: eur(150)}, "posted", -150},
		{"given away", protocol.CashSale{Sold: protocol.SoldFree, Price: eur(150)}, "no-money", 0},
		{"of no price", protocol.CashSale{Sold: protocol.SoldForCash}, "no-money", 0},
		{"counted as said", protocol.CountersRead{Now: till(900), Since: till(300), Heard: 300}, "no-money", 0},
		{"counted more", protocol.CountersRead{Now: till(900), Since: till(300), Heard: 150}, "posted", 150},
		{"counted less", protocol.CountersRead{Now: till(900), Since: till(150), Heard: 300}, "posted", -150},
		{"a baseline", protocol.CountersRead{Now: till(900), Baseline: protocol.BaselineBoard, Heard: 300}, "no-money", 0},
		{"in no currency", protocol.CashSale{Sold: protocol.SoldForCash, Price: money.New(150, 0)}, "quarantined", 0},
		{"more than there is", protocol.CountersRead{Now: till(0), Since: protocol.Till{CashSales: -1 << 63}}, "quarantined", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bed := newBed(t, fresh, acquirer.Profile{})
			bed.tell("snack-1", record{body: c.body, want: c.want})
			if in, out := bed.net(ledger.CashInMachine), bed.net(ledger.MerchantPayable); in != c.net || out != -c.net {
				t.Errorf("books %d and %d, want %d", in, out, c.net)
			}
		})
	}
}

// TestCollectedCash: what people take out of machines goes through its accounts by the records alone, and
// what a bag held less or more has an account of its own. What cannot be is quarantined, and moves nothing.
func TestCollectedCash(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testCollectedCash)
}

func testCollectedCash(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	bed := newBed(t, fresh, acquirer.Profile{})
	for _, step := range []struct {
		body protocol.Body
		want string
		// in the machine, in transit, counted, difference, by hand
		net [5]int64
	}{
		{protocol.CashSale{Sold: protocol.SoldForCash, Price: eur(1000)}, "posted", [5]int64{1000}},
		{protocol.CashCollected{Bag: "1", Expected: eur(600)}, "posted", [5]int64{400, 600}},
		{protocol.CashCollected{Bag: "2", Expected: eur(300)}, "posted", [5]int64{100, 900}},
		{protocol.CashCollected{Bag: "3", Expected: eur(0)}, "no-money", [5]int64{100, 900}},
		{protocol.BagCounted{Bag: "2", Value: eur(320), Expected: eur(300)}, "posted", [5]int64{100, 600, 320, -20}},
		{protocol.BagCounted{Bag: "1", Value: eur(550), Expected: eur(600)}, "posted", [5]int64{100, 0, 870, 30}},
		{protocol.CashByHand{Value: eur(50)}, "posted", [5]int64{50, 0, 870, 30, 50}},
		{protocol.CashByHand{Value: eur(-50)}, "quarantined", [5]int64{50, 0, 870, 30, 50}},
		{protocol.BagCounted{Bag: "4", Value: money.New(5, money.USD), Expected: eur(5)}, "quarantined", [5]int64{50, 0, 870, 30, 50}},
		{protocol.CashCollected{Bag: "5", Expected: money.New(5, 0)}, "quarantined", [5]int64{50, 0, 870, 30, 50}},
	} {
		bed.tell("snack-1", record{body: step.body, want: step.want})
		var net [5]int64
		for i, a := range []ledger.Account{ledger.CashInMachine, ledger.CashInTransit, ledger.CashCounted, ledger.CashDifference, ledger.CashByHand} {
			net[i] = bed.net(a)
		}
		if net != step.net {
			t.Errorf("after %+v: %v, want %v", step.body, net, step.net)
		}
	}
}
