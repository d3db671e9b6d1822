package session

import (
	"reflect"
	"testing"
	"time"

	"coinop/protocol"
)

func lane() State {
	return New(Config{Device: "d", Lane: 1, Flow: protocol.SelectionFirst}, protocol.Policy{Version: 1, Currency: eur(0).Currency})
}

func reading() protocol.Reading {
	return protocol.Reading{Mono: time.Minute, Anchor: protocol.AnchorID{9}, SinceAnchor: time.Second}
}

// online is one online sale of one item at a kiosk, an event a step; the answer's ask hash is the
// caller's to fill in.
func online() []Event {
	o := Order{
		Sale: mk[protocol.SaleID](1), Class: protocol.Live,
		Lines: []protocol.Line{{Product: "cola", Outlet: 1, Qty: 1, Unit: eur(150), Amount: eur(150)}},
		Items: []protocol.Item{{Vend: mk[protocol.VendID](11), Outlet: 1, Amount: eur(150)}},
	}
	return []Event{
		BusState{State: BusStateUp, At: time.Minute},
		Link{LinkUp},
		o, tap(1),
		Answer{protocol.AuthorizationResponse{Payment: mk[protocol.PaymentID](1), Result: protocol.Approved, Approved: eur(150)}},
		Approval{mk[protocol.VendID](11), ApprovalDelivered},
		VendSuccess{Vend: mk[protocol.VendID](11), Grade: protocol.GradeSensed},
	}
}

// A vending side whose port is gone is not alive, however lately it was heard.
func TestPortGoneShutsTheGate(t *testing.T) {
	t.Parallel()
	s := lane()
	for _, e := range []Event{online()[0], PortGone{}} {
		s, _ = s.Step(reading(), In{Lane: 1, Event: e})
	}
	if _, o := s.Step(reading(), In{Lane: 1, Event: online()[2]}); o.Row() != "S02" {
		t.Fatalf("row %s, want S02", o.Row())
	}
}

// An order that does not add up, or that names things twice, is refused by name.
func TestOrdersRefused(t *testing.T) {
	t.Parallel()
	good := func() Order { return online()[2].(Order) }
	more := protocol.Item{Vend: mk[protocol.VendID](12), Outlet: 1, Amount: eur(150)}
	for _, c := range []struct {
		why   string
		spoil func(*Order)
	}{
		{"", func(*Order) {}},
		{"sale_id", func(o *Order) { o.Sale = protocol.SaleID{} }},
		{"vend_id", func(o *Order) { o.Items[0].Vend = protocol.VendID{} }},
		{"vend_id", func(o *Order) { more.Vend = o.Items[0].Vend; o.Items = append(o.Items, more) }},
		{"empty_order", func(o *Order) { o.Items, o.Lines = nil, nil }},
		{"amount", func(o *Order) { o.Items[0].Amount.Minor, o.Lines[0].Amount.Minor = 0, 0 }},
		{"amount", func(o *Order) { o.Items[0].Amount.Minor, o.Lines[0].Amount.Minor = -1, -1 }},
		{"amount", func(o *Order) { o.Items[0].Amount.Currency, o.Lines[0].Amount.Currency = 840, 840 }},
		{"order_lines", func(o *Order) { o.Lines[0].Amount.Minor++ }},
		{"order_lines", func(o *Order) { o.Lines[0].Qty++ }},
		{"order_lines", func(o *Order) { o.Lines[0].Outlet++ }},
		{"order_lines", func(o *Order) { o.Items[0].Line = 1 }},
		{"order_lines", func(o *Order) { o.Lines = nil }},
		{"order_lines", func(o *Order) { o.Lines = append(o.Lines, o.Lines[0]) }},
		{"amount", func(o *Order) { // the sum overflows
			o.Items = append(o.Items, protocol.Item{Vend: mk[protocol.VendID](12), Line: 1, Outlet: 2, Amount: eur(1<<63 - 1)})
			o.Lines = append(o.Lines, protocol.Line{Outlet: 2, Qty: 1, Amount: eur(1<<63 - 1)})
		}},
	} {
		s := lane()
		for _, e := range online()[:2] {
			s, _ = s.Step(reading(), In{Lane: 1, Event: e})
		}
		o := good()
		c.spoil(&o)
		next, out := s.Step(reading(), In{Lane: 1, Event: o})
		show := out.Effects[0].(Show)
		if c.why == "" {
			if out.Row() != "S01" {
				t.Errorf("a good order: %+v", out)
			}
			continue
		}
		if out.Row() != "S02" || show.Reason != c.why || !next.Idle() {
			t.Errorf("want %s, got %s %s", c.why, out.Row(), show.Reason)
		}
	}
}

// Why there is no answer, case by case: only a slow issuer bars an offline payment.
func TestCauseOfSilence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		link     LinkState
		received bool
		row      string
		cause    protocol.Cause
	}{
		{LinkDown, false, "S16", protocol.CauseLink},
		{LinkUp, false, "S16", protocol.CauseCloud},
		{LinkCloudDown, false, "S16", protocol.CauseCloud},
		{LinkAcquirerDown, false, "S16", protocol.CauseAcquirer},
		{LinkAcquirerDown, true, "S16", protocol.CauseAcquirer},
		{LinkSlow, false, "S17", 0},
		{LinkUp, true, "S17", 0},
		{LinkDown, true, "S17", 0},
		{LinkCloudDown, true, "S17", 0},
		{LinkSlow, true, "S17", 0},
	} {
		r := newRig(t, c.link.String(), newCoverage(), Config{Flow: protocol.SelectionFirst}, protocol.Policy{Offline: offlineOn})
		r.warm(false)
		r.step(online()[2])
		r.step(tap(1))
		if c.received {
			r.step(Received{mk[protocol.PaymentID](1)})
		}
		r.step(Link{c.link})
		o := r.step(Timer{TimerWait, r.s.timers[TimerWait]})
		if o.Row() != c.row {
			t.Errorf("link %s, received %v: row %s, want %s", c.link, c.received, o.Row(), c.row)
		}
		if a, ok := o.Records[0].Body.(protocol.OfflineAccepted); ok && a.Cause != c.cause {
			t.Errorf("link %s, received %v: cause %s, want %s", c.link, c.received, a.Cause, c.cause)
		}
	}
}

// A vend request that a record or an older epoch covers is a repeat after a restart, whatever
// became of it: refused (S02), too dear (C12), busy (S40), or vended (C11).
func TestBusKeysOverRestarts(t *testing.T) {
	t.Parallel()
	for _, flow := range []protocol.Flow{protocol.SelectionFirst, protocol.CardFirst} {
		r := newRig(t, flow.String(), newCoverage(), Config{Flow: flow, Bus: protocol.BusMDB}, protocol.Policy{})
		r.warm(false)
		n := uint32(0)
		ask := func(epoch uint64, price int64) Event {
			n++
			return VendRequest{Bus: protocol.BusKey{BusEpoch: epoch, Request: n}, Sale: mk[protocol.SaleID](int(n)), Vend: mk[protocol.VendID](int(n)), Price: eur(price), Item: 1}
		}
		if flow == protocol.CardFirst {
			r.step(tap(500))
			r.step(Answer{protocol.AuthorizationResponse{Payment: mk[protocol.PaymentID](500), AskHash: r.books.payments[mk[protocol.PaymentID](500)].ask, Result: protocol.Approved, Approved: eur(1000)}})
			r.step(ask(4, 5000)) // C12
			r.step(ask(4, 200))  // C11
			r.step(VendSuccess{Vend: mk[protocol.VendID](int(n)), Grade: protocol.GradeSensed})
			r.step(ask(4, 5000)) // C12
			r.step(SessionComplete{})
		} else {
			r.step(Link{LinkDown})
			r.step(ask(4, 100)) // S01
			r.step(ask(4, 100)) // S40
			r.step(tap(500))    // S05
			r.step(Link{LinkUp})
			r.step(ask(4, 0)) // S02
			r.step(ask(4, 100))
			r.step(tap(501)) // S03: a record holds epoch 4
			r.step(ask(4, 100))
		}
		r.restart()
		r.step(Booted{})
		r.step(BusState{State: BusStateEnabled, At: r.now.Mono})
		before := r.s
		for _, epoch := range []uint64{3, 4} {
			for _, req := range []uint32{0, 1, n, n + 1, n + 100} {
				q := VendRequest{Bus: protocol.BusKey{BusEpoch: epoch, Session: 9, Request: req}, Sale: mk[protocol.SaleID](900), Vend: mk[protocol.VendID](900), Price: eur(100), Item: 1}
				if next, o := before.Step(r.now, In{Lane: 1, Event: q}); !reflect.DeepEqual(next, before) || len(o.Records)+len(o.Effects) > 0 {
					t.Errorf("%s: epoch %d request %d after a restart: %+v", flow, epoch, req, o)
				}
			}
		}
		if o := r.step(ask(5, 100)); len(o.Effects) == 0 {
			t.Errorf("%s: a new request after a restart: %+v", flow, o)
		}
	}
}

// BenchmarkStep is one whole online sale of one item, and what one of its steps takes.
func BenchmarkStep(b *testing.B) {
	events := online()
	b.ReportAllocs()
	for b.Loop() {
		s := lane()
		for _, e := range events {
			if a, ok := e.(Answer); ok {
				a.Response.AskHash = s.d.Asked[0].AskHash
				e = a
			}
			s, _ = s.Step(reading(), In{Lane: 1, Event: e})
		}
		if !s.Idle() {
			b.Fatal(s.Phase())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(events)), "ns/step")
}
