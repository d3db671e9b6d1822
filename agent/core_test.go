package agent

import (
	"errors"
	"testing"
	"time"

	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/protocol"
	"coinop/protocol/money"
)

func config() CoreConfig {
	return CoreConfig{
		Lanes:    []session.Config{{Device: "m1", Lane: 0, Flow: protocol.SelectionFirst}, {Device: "m1", Lane: 1, Flow: protocol.SelectionFirst}},
		Policy:   protocol.Policy{Version: 3, Currency: money.EUR},
		Software: "test",
	}
}

func reading(mono time.Duration) protocol.Reading {
	return protocol.Reading{Wall: 1, Boot: protocol.BootID{1}, Mono: mono, Anchor: protocol.AnchorID{1}, SinceAnchor: mono}
}

func newCore(d *journal.Disk) (*Core, *journal.Journal, error) {
	j, err := journal.OpenMem(d, journal.Options{Device: "m1", NewEpoch: func() protocol.Epoch { return protocol.Epoch{1} }})
	if err != nil {
		return nil, nil, err
	}
	c, err := NewCore(config(), j)
	return c, j, err
}

func caseID() protocol.CaseID { return protocol.CaseID{9} }

// sale drives one online sale on a lane, and returns every effect. n keeps its ids apart.
func sale(c *Core, lane protocol.Lane, n byte) (all []Effect, err error) {
	price := money.New(150, money.EUR)
	pay, vend := protocol.PaymentID{n}, protocol.VendID{n}
	card := protocol.Card{Brand: "visa", Last4: "0011", Entry: protocol.EntryContactless}
	step := func(evs ...session.Event) {
		if err != nil {
			return
		}
		var in []session.In
		for _, e := range evs {
			in = append(in, session.In{Lane: lane, Case: protocol.CaseID{n}, Event: e})
		}
		var es []Effect
		es, err = c.Handle(reading(time.Second), in)
		all = append(all, es...)
	}
	step(session.Link{State: session.LinkUp}, session.BusState{State: session.BusStateEnabled, At: time.Second, HasEvidence: false},
		session.Order{
			Sale: protocol.SaleID{n}, Class: protocol.Live,
			Lines: []protocol.Line{{Product: "cola", Outlet: 5, Qty: 1, Unit: price, Amount: price}},
			Items: []protocol.Item{{Vend: vend, Outlet: 5, Amount: price}},
		})
	step(session.CardRead{Payment: pay, Spare: protocol.PaymentID{n, 1}, Card: card, Sealed: []byte{1}, Tap: protocol.Tap{LocalTime: "20261124120000"}})
	var ask protocol.Hash
	for _, e := range all {
		if a, ok := e.Effect.(session.Authorize); ok {
			ask = protocol.HashOf(a.Ask)
		}
	}
	step(session.Answer{Response: protocol.AuthorizationResponse{
		V: 1, Device: "m1", Payment: pay, AskHash: ask,
		Result: protocol.Approved, Approved: price, Answer: protocol.AnswerID{n},
	}})
	step(session.VendSuccess{Vend: vend, Item: 5, Grade: protocol.GradeReported})
	return all, err
}

func TestSaleThroughCore(t *testing.T) {
	d := journal.NewDisk()
	c, j, err := newCore(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Boot(reading(0), caseID); err != nil {
		t.Fatal(err)
	}
	commits := 0
	d.After = func() error { commits++; return nil }
	all, err := sale(c, 1, 7)
	if err != nil {
		t.Fatal(err)
	}
	if commits != 3 {
		t.Errorf("%d awaited commits for a one-item sale, want 3", commits)
	}
	var asked, copied, vended int
	for _, e := range all {
		if e.Lane != 1 {
			t.Errorf("effect of lane %d", e.Lane)
		}
		switch e := e.Effect.(type) {
		case session.Authorize:
			asked++
			s, err := j.Read(e.Position.Seq-1, 1)
			if err != nil || s[0].Position != e.Position {
				t.Fatalf("%+v %v", e.Position, err)
			}
			o, err := protocol.OpenRecord(s[0].Bytes)
			if sent, ok := o.Body.(protocol.AuthorizationSent); err != nil || !ok || sent.AskHash != protocol.HashOf(e.Ask) {
				t.Fatalf("the request's position holds %+v", o.Body)
			}
		case session.SendOutcomeCopy:
			copied++
			o, err := protocol.OpenRecord(e.Sealed.Bytes)
			if out, ok := o.Body.(protocol.PaymentOutcome); err != nil || !ok || out.What != protocol.Capture || out.Amount.Minor != 150 {
				t.Fatalf("the copy holds %+v", o.Body)
			}
		case session.Vend:
			vended++
		}
	}
	if asked != 1 || copied != 1 || vended != 1 {
		t.Fatalf("%d requests, %d copies, %d vends", asked, copied, vended)
	}
	if s, ok := c.Lane(1); !ok || !s.Idle() {
		t.Fatal("the lane is not idle")
	}
}

// Power is cut before and after every commit of a sale. Whatever the point, after a restart the sale
// has at most one outcome, exactly one when its payment may stand, and a second restart adds none.
func TestPowerCutInASale(t *testing.T) {
	points := 0
	for cut := 1; ; cut++ {
		whole := false
		for _, after := range []bool{false, true} {
			points++
			d := journal.NewDisk()
			n := 0
			hook := func() error {
				if n++; n == cut {
					return journal.ErrPowerCut
				}
				return nil
			}
			if after {
				d.After = hook
			} else {
				d.Before = hook
			}
			c, _, err := newCore(d)
			if err == nil {
				_, err = c.Boot(reading(0), caseID)
			}
			if err == nil {
				_, err = sale(c, 0, 7)
			}
			whole = err == nil
			if err != nil && !errors.Is(err, journal.ErrPowerCut) {
				t.Fatalf("cut %d: %v", cut, err)
			}
			if err != nil && c != nil {
				if es, again := c.Handle(reading(0), nil); again == nil || len(es) != 0 {
					t.Fatalf("cut %d: a core whose journal failed goes on", cut)
				}
			}
			d.Before, d.After = nil, nil
			first := restart(t, d)
			second := restart(t, d)
			if first != second {
				t.Fatalf("cut %d after=%v: %+v, after a second restart %+v", cut, after, first, second)
			}
			if first.outcomes != first.requests || first.opened != first.closed {
				t.Fatalf("cut %d after=%v: %+v", cut, after, first)
			}
		}
		if whole {
			break
		}
	}
	if points < 10 {
		t.Fatalf("only %d points were cut", points)
	}
}

type books struct{ requests, outcomes, opened, closed int }

// restart boots a fresh core and counts what the whole journal says.
func restart(t *testing.T, d *journal.Disk) (b books) {
	t.Helper()
	c, j, err := newCore(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Boot(protocol.Reading{Boot: protocol.BootID{2}}, caseID); err != nil {
		t.Fatal(err)
	}
	// a vend that the restart left unknown waits for evidence: its wait ends here
	for range 2 {
		s, _ := c.Lane(0)
		if s.Idle() {
			break
		}
		es, err := c.Handle(reading(time.Hour), []session.In{{Case: caseID(), Event: session.BusState{State: session.BusStateEnabled, At: time.Hour}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if st, ok := e.Effect.(session.StartTimer); ok {
				if _, err := c.Handle(reading(time.Hour+st.After), []session.In{{Case: caseID(), Event: session.Timer{Name: st.Name, ID: st.ID}}}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := j.Verify(); err != nil {
		t.Fatal(err)
	}
	records, err := j.Read(0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range records {
		o, err := protocol.OpenRecord(s.Bytes)
		if err != nil || o.Content != nil {
			t.Fatal(err, o.Content)
		}
		switch o.Body.(type) {
		case protocol.AuthorizationSent:
			b.requests++
		case protocol.PaymentOutcome:
			b.outcomes++
		case protocol.SaleOpened:
			b.opened++
		case protocol.SaleClosed:
			b.closed++
		}
	}
	return b
}

// A snapshot is written in time, and what is recovered from it is what was live.
func TestSnapshots(t *testing.T) {
	d := journal.NewDisk()
	c, j, err := newCore(d)
	if err != nil {
		t.Fatal(err)
	}
	c.cfg.SnapshotEvery = 20
	if _, err := c.Boot(reading(0), caseID); err != nil {
		t.Fatal(err)
	}
	for n := byte(1); n < 30; n++ {
		if _, err := sale(c, protocol.Lane(n%2), n); err != nil {
			t.Fatal(err)
		}
		if j.SinceSnapshot() > 20 {
			t.Fatalf("%d records since the last snapshot", j.SinceSnapshot())
		}
	}
	again, _, err := newCore(d)
	if err != nil {
		t.Fatal(err)
	}
	for l := range protocol.Lane(2) {
		live, _ := c.Lane(l)
		got, _ := again.Lane(l)
		if !got.Equal(live) {
			t.Fatalf("lane %d: recovered %+v, live %+v", l, got, live)
		}
	}
}
