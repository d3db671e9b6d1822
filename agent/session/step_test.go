package session

import (
	"testing"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

func eur(n int64) money.Amount {
	c, _ := money.CurrencyOf("EUR")
	return money.New(n, c)
}

func reading() protocol.Reading {
	return protocol.Reading{Mono: time.Minute, Anchor: protocol.AnchorID{9}, SinceAnchor: time.Second}
}

// online is one online kiosk sale, an event a step.
func online() []Event {
	return []Event{
		BusState{State: BusStateUp, At: time.Minute}, Link{LinkUp},
		Order{Sale: protocol.SaleID{1}, Class: protocol.Live, Items: []protocol.Item{{Vend: protocol.VendID{2}, Outlet: 1, Amount: eur(150)}}},
		CardRead{Payment: protocol.PaymentID{3}, Spare: protocol.PaymentID{4}},
		Answer{protocol.AuthorizationResponse{Payment: protocol.PaymentID{3}, Result: protocol.Approved, Approved: eur(150)}},
		Approval{protocol.VendID{2}, ApprovalDelivered},
		VendSuccess{Vend: protocol.VendID{2}, Grade: protocol.GradeSensed},
	}
}

func lane() State {
	return New(Config{Device: "d", Lane: 1, Flow: protocol.SelectionFirst}, protocol.Policy{Currency: eur(0).Currency})
}

// TestOnlineSaleCut runs an online sale, cuts the power after each transaction and holds that
// Recover gives the live state, and that a second restart writes nothing.
func TestOnlineSaleCut(t *testing.T) {
	s, rows := lane(), ""
	var disk []protocol.Record
	for i, e := range online() {
		var o Output
		s, o = s.Step(reading(), In{Lane: 1, Event: e})
		rows += o.Row() + " "
		disk = append(disk, o.Records...)
		back := Recover(Snapshot{Lanes: []State{lane()}}, disk).Lanes[0]
		if s.pending == nil && !back.Equal(s) {
			t.Errorf("after event %d: recovered %+v, live %+v", i, back.d, s.d)
		}
		snap, err := Restore(Snapshot{Lanes: []State{s}}.Record(), []Config{s.cfg}, s.policy)
		if err != nil || !snap.Lanes[0].Equal(back) {
			t.Errorf("after event %d: restored %+v, %v; want %+v", i, snap, err, back.d)
		}
		once, o1 := back.Step(reading(), In{Lane: 1, Event: Booted{}})
		again := Recover(Snapshot{Lanes: []State{back}}, o1.Records).Lanes[0]
		if !again.Equal(once) {
			t.Errorf("after event %d: second restart finds %+v, want %+v", i, again.d, once.d)
		}
		if _, o2 := again.Step(reading(), In{Lane: 1, Event: Booted{}}); len(o2.Records) > 0 {
			t.Errorf("after event %d: second restart writes %d records", i, len(o2.Records))
		}
	}
	if want := "S39 S39 S01 S03 S10 S21 S24 "; rows != want {
		t.Errorf("rows %q, want %q", rows, want)
	}
	last := disk[len(disk)-2].Body.(protocol.PaymentOutcome)
	if last.What != protocol.Capture || last.Amount != eur(150) || !s.Idle() {
		t.Errorf("outcome %+v, phase %s", last, s.Phase())
	}
}

// BenchmarkStep is one whole online sale.
func BenchmarkStep(b *testing.B) {
	events := online()
	for b.Loop() {
		s := lane()
		for _, e := range events {
			s, _ = s.Step(reading(), In{Lane: 1, Event: e})
		}
	}
}
