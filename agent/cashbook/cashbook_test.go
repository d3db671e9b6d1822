package cashbook

import (
	"fmt"
	"slices"
	"testing"

	"coinop/protocol"
	"coinop/protocol/money"
)

func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }

// feed takes bodies in as records of lane 1.
func feed(b *Book, bodies ...protocol.Body) {
	for i, body := range bodies {
		b.See(protocol.Opened{Record: protocol.Record{Lane: 1, Sale: protocol.SaleID{1}, At: protocol.Reading{Wall: protocol.UnixMS(1_000_000 + i)}, Body: body}})
	}
}

func till(sales, in, out int64) protocol.Till {
	return protocol.Till{Currency: money.EUR, CashSales: sales, CashCount: sales / 100, Box: in, Out: out}
}

// TestReports: each thing that does not fit has its own name, and nothing else is named.
func TestReports(t *testing.T) {
	t.Parallel()
	sold := func(minor int64) protocol.Body {
		return protocol.CashSale{Sold: protocol.SoldForCash, Price: eur(minor), Outlet: 5}
	}
	p, q := protocol.PaymentID{1}, protocol.PaymentID{2}
	in := func(p protocol.PaymentID, minor int64) protocol.Body {
		return protocol.CashIn{Payment: p, Value: eur(minor)}
	}
	out := func(p protocol.PaymentID, minor int64) protocol.Body {
		return protocol.PaymentOutcome{Payment: p, What: protocol.Capture, Amount: eur(minor)}
	}
	void := protocol.PaymentOutcome{Payment: p, What: protocol.Void, Amount: eur(0)}
	change := func(p protocol.PaymentID, given, short int64) protocol.Body {
		return protocol.ChangePaid{Payment: p, Given: eur(given), Short: eur(short), Reason: "no_coins"}
	}
	type step any // a body, or a reading of the machine
	read := func(board string, now protocol.Till) Reading { return Reading{Machine: "S1", Board: board, Now: now} }
	carded := func(r Reading, cards int64) Reading {
		r.Now.CardSales, r.Now.CardCount = cards, cards/100
		return r
	}
	first := read("B1", till(1000, 5000, 4000))
	for _, c := range []struct {
		name  string
		steps []step
		sold  int64
		want  []string
	}{
		{"told and counted", []step{first, sold(150), sold(100), read("B1", till(1250, 5350, 4100))}, 250, nil},
		{"given away", []step{first, protocol.CashSale{Sold: protocol.SoldFree, Price: eur(150)}, read("B1", till(1000, 5000, 4000))}, 0, nil},
		{"a sale skipped", []step{first, sold(150), read("B1", till(1250, 5250, 4000))}, 250, []string{"cash_sale_not_told 1.00 EUR"}},
		{"a sale told twice", []step{first, sold(150), sold(150), read("B1", till(1150, 5150, 4000))}, 150, []string{"cash_sale_not_counted 1.50 EUR"}},
		{"5.00 kept", []step{first, sold(150), read("B1", till(1150, 5650, 4000))}, 150, []string{"cash_kept 5.00 EUR"}},
		{"5.00 gone", []step{first, sold(150), read("B1", till(1150, 5150, 4500))}, 150, []string{"cash_gone 5.00 EUR"}},
		{"a board swapped", []step{first, sold(150), read("B2", till(20, 20, 0)), sold(100), read("B2", till(120, 120, 0))}, 250, []string{"board_swapped 0.00 EUR"}},
		{"a counter fell", []step{first, read("B1", till(900, 5000, 4000))}, 0, []string{"counter_fell 0.00 EUR", "counter_fell 0.00 EUR"}},
		{"cards told and counted", []step{carded(first, 500), out(q, 150), carded(read("B1", till(1000, 5000, 4000)), 650)}, 0, nil},
		{"a card sale not counted", []step{carded(first, 500), out(q, 150), out(p, 100), carded(read("B1", till(1000, 5000, 4000)), 600)}, 0, []string{"card_sale_not_counted 1.50 EUR"}},
		{"a card sale of another's", []step{carded(first, 500), out(q, 150), carded(read("B1", till(1000, 5000, 4000)), 850)}, 0, []string{"card_sale_not_ours 2.00 EUR"}},
		{"a machine that counts no cards", []step{first, out(q, 150), read("B1", till(1000, 5000, 4000))}, 0, nil},
		{"a board swapped, with cards", []step{
			carded(first, 500), out(q, 150), carded(read("B2", till(20, 20, 0)), 150), out(q, 150), carded(read("B2", till(20, 20, 0)), 300),
		}, 0, []string{"board_swapped 0.00 EUR"}},
		{"read twice", []step{first, sold(150), read("B1", till(1150, 5150, 4000)), read("B1", till(1150, 5150, 4000))}, 150, nil},
		{"bag as it should be", []step{first, sold(150), read("B1", till(1150, 5150, 4000)), "collect 1", protocol.BagCounted{Bag: "1", Value: eur(150)}}, 150, nil},
		{"bag short", []step{first, sold(650), read("B1", till(1650, 5650, 4000)), "collect 1", protocol.BagCounted{Bag: "1", Value: eur(150)}}, 650, []string{"bag_short 5.00 EUR"}},
		{"bag over", []step{first, "collect 1", protocol.BagCounted{Bag: "1", Value: eur(1)}}, 0, []string{"bag_over 0.01 EUR"}},
		{"bag not counted", []step{first, sold(100), read("B1", till(1100, 5100, 4000)), "collect 1"}, 100, []string{"bag_not_counted 1.00 EUR"}},
		{"two bags", []step{
			first, sold(100), read("B1", till(1100, 5100, 4000)), "collect 1", sold(200), read("B1", till(1300, 5300, 4000)), "collect 2",
			protocol.BagCounted{Bag: "2", Value: eur(200)},
			protocol.BagCounted{Bag: "1", Value: eur(100)},
		}, 300, nil},
		{"a bag nobody collected", []step{first, protocol.BagCounted{Bag: "9", Value: eur(100)}}, 0, []string{"bag_unknown 1.00 EUR"}},
		{"ours, with change", []step{in(p, 200), out(p, 150), change(p, 50, 0)}, 150, nil},
		{"ours, short", []step{in(p, 200), out(p, 150), change(p, 20, 30)}, 150, []string{"change_short 0.30 EUR"}},
		{"ours, given back", []step{in(p, 200), void, change(p, 200, 0)}, 0, nil},
		{"ours, nobody can tell", []step{in(p, 200), void, protocol.ChangeUnknown{Payment: p, Amount: eur(200)}}, 0, []string{"change_unknown 2.00 EUR"}},
		{"ours, lost", []step{in(p, 200), out(p, 150), in(q, 100), out(q, 100)}, 250, []string{"cash_unaccounted 0.50 EUR"}},
		{"ours, a sale is open", []step{protocol.SaleOpened{}, in(p, 200)}, 0, nil},
		{"ours, a payout is", []step{in(p, 200), out(p, 150), protocol.ChangeOrdered{Payment: p, Amount: eur(50)}}, 150, nil},
		{"a card's outcome", []step{in(p, 100), out(p, 100), out(protocol.PaymentID{7}, 500)}, 100, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := New()
			for _, s := range c.steps {
				switch s := s.(type) {
				case Reading:
					feed(b, b.Lane(1).Count(s))
				case string:
					var bag string
					_, _ = fmt.Sscanf(s, "collect %s", &bag)
					r, err := b.Lane(1).Collect("ana", bag)
					if err != nil {
						t.Fatal(err)
					}
					feed(b, r)
				case protocol.Body:
					feed(b, s)
				}
			}
			rs := b.Reports()
			if len(rs) != 1 {
				t.Fatalf("%d reports", len(rs))
			}
			var got []string
			for _, f := range rs[0].Findings {
				got = append(got, fmt.Sprintf("%s %s", f.Cause, f.Amount))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
			if rs[0].Sold != eur(c.sold) {
				t.Errorf("sold %s, want %s", rs[0].Sold, eur(c.sold))
			}
		})
	}
}

// TestCollect: what should be in a bag is what went out of reach since the one before.
func TestCollect(t *testing.T) {
	t.Parallel()
	b := New()
	if _, err := b.Lane(1).Collect("ana", "1"); err == nil {
		t.Error("of a machine that nobody read")
	}
	p := protocol.PaymentID{1}
	for i, c := range []protocol.CashIn{
		{Payment: p, Value: eur(100)}, {Payment: p, Value: eur(200), Box: true}, {Payment: p, Value: eur(500), Bill: true},
	} {
		feed(b, c)
		want := []int64{0, 200, 700}[i]
		r, err := b.Lane(1).Collect("ana", "1")
		if err != nil || r.Expected != eur(want) {
			t.Errorf("%s, %v, want %d", r.Expected, err, want)
		}
	}
	r, _ := b.Lane(1).Collect("ana", "1")
	feed(b, r)
	if _, err := b.Lane(1).Collect("ana", "1"); err == nil {
		t.Error("the same bag twice")
	}
	if r, err := b.Lane(1).Collect("ana", "2"); err != nil || !r.Expected.IsZero() {
		t.Error(r.Expected, err)
	}
}

// TestBounds: what a book holds of a lane does not grow with its years, and nothing is dropped in silence.
func TestBounds(t *testing.T) {
	t.Parallel()
	b := New()
	for n := range findingsMost + 7 {
		feed(b, protocol.ChangeUnknown{Payment: protocol.PaymentID{1}, Amount: eur(int64(n + 1))})
	}
	r := b.Reports()[0]
	if len(r.Findings) != findingsMost || r.Dropped != 7 || r.Findings[0].Amount != eur(8) {
		t.Errorf("%d findings, %d dropped, the first %+v", len(r.Findings), r.Dropped, r.Findings[0])
	}

	b = New()
	name := func(n int) string { return fmt.Sprintf("%03d", n) }
	for n := range bagsMost + 2 {
		feed(b, protocol.CashCollected{Bag: name(n), Expected: eur(100)})
		if n == 5 { // the only one that was counted: it makes room first, and stays short
			feed(b, protocol.BagCounted{Bag: name(n), Value: eur(40)})
		}
	}
	l := b.Lane(1)
	if len(l.bags) != bagsMost || len(l.bagOrder) != bagsMost || l.bags[name(5)] != nil || l.bags[name(0)] != nil || l.bags[name(1)] == nil {
		t.Errorf("%d bags", len(l.bags))
	}
	count := map[Cause]int{}
	for _, f := range b.Reports()[0].Findings {
		count[f.Cause]++
	}
	if count[BagShort] != 1 || count[BagNotCounted] != bagsMost+1 {
		t.Errorf("%v", count)
	}

	b = New()
	for n := range openMost + 3 {
		feed(b, protocol.CashIn{Payment: protocol.PaymentID{byte(n)}, Value: eur(10)})
	}
	l = b.Lane(1)
	if len(l.payments.Open) != openMost || l.payments.Lost != 30 || b.Reports()[0].Held != eur(10*(openMost+3)) || l.payments.Open[protocol.PaymentID{2}] != nil {
		t.Errorf("%d open, lost %d", len(l.payments.Open), l.payments.Lost)
	}
}
