package session

import (
	"testing"
	"time"

	"coinop/protocol"
)

// TestFlows drives lanes along rows of the tables, and holds after each step that the records
// recover the live state.
func TestFlows(t *testing.T) {
	up := []Event{BusState{State: BusStateUp, At: time.Minute}, Link{LinkUp}}
	card := CardRead{Payment: protocol.PaymentID{3}, Spare: protocol.PaymentID{4}}
	order := online()[2]
	ans := func(r protocol.Result, n int64) Event {
		return Answer{protocol.AuthorizationResponse{Payment: protocol.PaymentID{3}, Result: r, Approved: eur(n)}}
	}
	v := protocol.VendID{2}
	req := func(n uint32, price int64) Event {
		return VendRequest{Bus: protocol.BusKey{BusEpoch: 1, Request: n}, Sale: protocol.SaleID{1}, Vend: v, Price: eur(price), Item: 1}
	}
	hold := ans(protocol.Approved, 1000)
	for _, c := range []struct {
		name, want string
		card       bool
		events     []Event
	}{
		{"canceled", "S01 S08", false, []Event{order, Cancel{}}},
		{"partial", "S01 S03 S12", false, []Event{order, card, ans(protocol.Partial, 100)}},
		{"other card", "S01 S03 S13 S08", false, []Event{order, card, ans(protocol.Declined, 0), BusReset{}}},
		{"no answer", "S01 S03 S17 S38 ", false, []Event{order, card, Timer{TimerWait, 2}, ans(protocol.Approved, 150), ans(protocol.Approved, 150)}},
		{"offline after time-out", "S01 S03 S16 S24", false, []Event{order, card, Timer{TimerWait, 2}, VendSuccess{v, 1, protocol.GradeSensed}}},
		{"offline", "S39 S01 S04 S25 ", false, []Event{Link{LinkDown}, order, card, VendFailure{v}, VendFailure{v}}},
		{"presumed", "S01 S03 S10 S21 S26 S37", false, []Event{order, card, ans(protocol.Approved, 150), Approval{v, ApprovalDelivered}, BusReset{}, VendSuccess{Vend: v, Grade: protocol.GradeSensed}}},
		{"restart", "S01 S03 S10 S31 S36 S33", false, []Event{order, card, ans(protocol.Approved, 150), Booted{}, Booted{}, Timer{TimerEvidence, 5}}},
		{"session", "C01 C04 C12 C11 C16 C19 C13", true, []Event{card, hold, req(1, 2000), req(2, 150), Approval{v, ApprovalDelivered}, VendSuccess{Vend: v, Grade: protocol.GradeReported}, SessionComplete{}}},
		{"session cut", "C01 C10", true, []Event{card, Booted{}}},
		{"session lost", "C01 C04 C11 C18 C16 C22", true, []Event{card, hold, req(1, 150), req(1, 150), Approval{v, ApprovalMaybe}, BusReset{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, p := lane().cfg, lane().policy
			if c.card {
				cfg.Flow = protocol.CardFirst
			}
			p.Offline = protocol.OfflinePolicy{On: true, Kind: protocol.OfflineDeferred, MaxOne: 1000, MaxSum: 5000, MaxCount: 5}
			if c.name == "no answer" {
				p.Offline.On = false
			}
			s := New(cfg, p)
			for _, e := range up {
				s, _ = s.Step(reading(), In{Event: e})
			}
			var disk []protocol.Record
			got := ""
			for i, e := range c.events {
				var o Output
				s, o = s.Step(reading(), In{Lane: 1, Case: protocol.CaseID{7}, Event: heard(s, e)})
				disk = append(disk, o.Records...)
				if i > 0 {
					got += " "
				}
				got += o.Row()
				back := Recover(Snapshot{Lanes: []State{New(cfg, p)}}, disk).Lanes[0]
				back.d.Bus = s.d.Bus // of requests that write nothing
				if s.pending == nil && !back.Equal(s) {
					t.Errorf("after %T: recovered %+v, live %+v", e, back.d, s.d)
				}
			}
			if got != c.want {
				t.Errorf("rows %q, want %q", got, c.want)
			}
		})
	}
}
