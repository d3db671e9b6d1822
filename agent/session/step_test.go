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
		Order{Sale: protocol.SaleID{1}, Class: protocol.Live,
			Lines: []protocol.Line{{Product: "cola", Outlet: 1, Qty: 1, Unit: eur(150), Amount: eur(150)}},
			Items: []protocol.Item{{Vend: protocol.VendID{2}, Outlet: 1, Amount: eur(150)}}},
		CardRead{Payment: protocol.PaymentID{3}, Spare: protocol.PaymentID{4}},
		Answer{protocol.AuthorizationResponse{Payment: protocol.PaymentID{3}, Result: protocol.Approved, Approved: eur(150)}},
		Approval{protocol.VendID{2}, ApprovalDelivered},
		VendSuccess{Vend: protocol.VendID{2}, Grade: protocol.GradeSensed},
	}
}

// heard gives an answer the hash of what s asked.
func heard(s State, e Event) Event {
	if a, ok := e.(Answer); ok && a.Response.AskHash.IsZero() {
		for _, q := range s.d.Asked {
			if q.Payment == a.Response.Payment {
				a.Response.AskHash = q.AskHash
			}
		}
		return a
	}
	return e
}

// An answer to another ask, for another payment, or a second one changes nothing.
func TestForeignAnswers(t *testing.T) {
	s := lane()
	for _, e := range online()[:4] {
		s, _ = s.Step(reading(), In{Lane: 1, Event: e})
	}
	good := heard(s, online()[4]).(Answer)
	hash, payment := good, good
	hash.Response.AskHash = protocol.Hash{1}
	payment.Response.Payment = protocol.PaymentID{99}
	for name, a := range map[string]Answer{"other ask": hash, "other payment": payment} {
		if next, o := s.Step(reading(), In{Lane: 1, Event: a}); !next.Equal(s) || len(o.Records)+len(o.Effects) != 0 {
			t.Errorf("%s: %+v", name, o)
		}
	}
	s, o := s.Step(reading(), In{Lane: 1, Event: good})
	if o.Row() != "S10" {
		t.Fatalf("row %s", o.Row())
	}
	if next, o := s.Step(reading(), In{Lane: 1, Event: good}); !next.Equal(s) || len(o.Records)+len(o.Effects) != 0 {
		t.Errorf("twice: %+v", o)
	}
}

// A vending side whose port is gone is not alive, however lately it was heard.
func TestPortGoneShutsTheGate(t *testing.T) {
	s := lane()
	for _, e := range []Event{online()[0], PortGone{}} {
		s, _ = s.Step(reading(), In{Lane: 1, Event: e})
	}
	if _, o := s.Step(reading(), In{Lane: 1, Event: online()[2]}); o.Row() != "S02" {
		t.Fatalf("row %s, want S02", o.Row())
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
		s, o = s.Step(reading(), In{Lane: 1, Event: heard(s, e)})
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
			s, _ = s.Step(reading(), In{Lane: 1, Event: heard(s, e)})
		}
		if !s.Idle() {
			b.Fatal(s.Phase())
		}
	}
}
