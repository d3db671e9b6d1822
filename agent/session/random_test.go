package session

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run only this seed of TestRandom")
	seeds    = flag.Uint64("seeds", 30, "how many seeds TestRandom and TestTerminalRandom run")
)

// TestRandom drives lanes by random events, with power cuts between any two steps, and holds the
// laws of books_test.go after each. A failure names its seed; -seed runs that one alone.
func TestRandom(t *testing.T) {
	t.Parallel()
	first, n := uint64(0), *seeds
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	} else if testing.Short() {
		n = 20
	}
	t.Logf("seeds %d to %d", first, first+n-1)
	c := newCoverage()
	for s := range n {
		randomLane(t, first+s, 200, c)
	}
	for _, id := range rows() {
		if c.all[id] == 0 {
			t.Logf("row %s was not met", id)
		}
	}
}

// world makes events for a lane: mostly such that lead on from its phase, at times any.
type world struct {
	*rig
	rnd   *rand.Rand
	n     int    // of ids
	epoch uint64 // of the bus
	req   uint32
	tubes []money.Tube                 // what is in the changer
	out   map[protocol.PaymentID]int64 // change that came out
	paid  *Paid                        // the driver is about to say
	old   []Event                      // had their effect before
}

func randomLane(t testing.TB, seed uint64, steps int, c *coverage) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	cfg := Config{Flow: protocol.SelectionFirst, OwnsMotor: rnd.IntN(4) == 0}
	p := protocol.Policy{StopOnFailure: rnd.IntN(3) == 0, HintedIsFree: rnd.IntN(4) == 0, UnhintedCounts: rnd.IntN(4) == 0}
	if rnd.IntN(3) > 0 {
		p.Offline = offlineOn
		p.Offline.MaxSum, p.Offline.MaxCount = 50_000, 50
	}
	if rnd.IntN(4) == 0 {
		p.MinGrade = protocol.GradeCounted
	}
	cfg.Cash = rnd.IntN(2) == 0
	switch rnd.IntN(3) {
	case 0:
		cfg.Flow, cfg.Bus = protocol.CardFirst, protocol.BusMDB
	case 1:
		cfg.Bus = protocol.BusMDB
	}
	r := newRig(t, fmt.Sprintf("seed %d", seed), c, cfg, p)
	w := &world{rig: r, rnd: rnd, epoch: 1, out: map[protocol.PaymentID]int64{}}
	for _, v := range []int64{5, 10, 20, 50, 100, 200} {
		w.tubes = append(w.tubes, money.Tube{Value: v, Count: uint16(rnd.IntN(8))})
	}
	r.warm(rnd.IntN(2) == 0)
	for i := range steps {
		r.where = fmt.Sprintf("seed %d step %d", seed, i)
		r.quiet = rnd.IntN(4) > 0
		w.turn()
	}
	r.where = fmt.Sprintf("seed %d at the end", seed)
	r.quiet = false
	w.restart()
	r.step(Booted{})
	if r.s.Phase() == InEvidence {
		r.step(Timer{TimerEvidence, r.s.timers[TimerEvidence]})
	}
	for r.s.Phase() == InChange {
		w.live(w.level())
		if w.paid != nil {
			w.live(*w.paid)
		}
	}
	w.moved()
	if !r.s.Idle() {
		r.fail("%s", r.s.Phase())
	}
	r.atEnd()
}

func (w *world) restart() {
	w.rig.restart()
	w.paid = nil
	w.epoch++ // the driver's promise
	w.req = 0
	w.old = slices.DeleteFunc(w.old, func(e Event) bool { // a process takes its timers with it
		_, bus := e.(VendRequest)
		_, timer := e.(Timer)
		return bus || timer
	})
}

// turn is a step that ends well, or one with a power cut at one of three points; and at times an
// event of before, again, or one that belongs to nobody.
func (w *world) turn() {
	if w.rnd.IntN(3) == 0 {
		w.now.Mono += time.Duration(w.rnd.IntN(4000)) * time.Millisecond
		w.now.SinceAnchor += time.Second
	}
	if w.rnd.IntN(40) == 0 { // lost: neither record nor effect
		w.s.Step(w.now, w.in(w.event()))
		w.restart()
		w.step(Booted{})
		w.sight()
		return
	}
	e := w.event()
	o := w.live(e)
	if w.rnd.IntN(3) == 0 {
		w.again(e)
	}
	if len(w.old) > 0 && w.rnd.IntN(3) == 0 {
		w.again(w.old[w.rnd.IntN(len(w.old))])
	}
	if w.rnd.IntN(3) == 0 {
		w.foreign()
	}
	if len(o.Rows()) > 0 {
		w.old = append(w.old, e)
	}
	if w.rnd.IntN(40) == 0 { // synced; whether or not the effects ran, the lane cannot tell
		w.restart()
		w.step(Booted{})
		w.sight()
	}
}

// sight shows a restarted lane its surroundings, at times.
func (w *world) sight() {
	if w.rnd.IntN(4) > 0 {
		w.step(BusState{State: BusStateEnabled, At: w.now.Mono, HasEvidence: w.rnd.IntN(2) == 0})
		w.step(Link{LinkUp})
	}
}

// again holds that an event which had its effect has none the second time.
func (w *world) again(e Event) {
	switch e := e.(type) {
	case Answer, Approval, Evidence, Timer, Order:
	case VendSuccess:
		if e.Vend.IsZero() {
			return
		}
	case VendFailure:
		if e.Vend.IsZero() {
			return
		}
	case VendRequest: // a repeat may ask for the same 05 again, and writes nothing
		before := w.s
		if o := w.step(e); len(o.Records) > 0 || !w.s.Equal(before) {
			w.fail("%+v again, row %v, writes %d records\n%+v\n%+v", e, o.Rows(), len(o.Records), before.d, w.s.d)
		}
		return
	default:
		return
	}
	// An order refused, or evidence not believed yet, has had no effect.
	if _, o := w.s.Step(w.now, w.in(e)); o.Row() == "S02" || o.Row() == "S01" {
		return
	}
	if o, ok := e.(Order); ok && !w.s.d.seen(o.Sale, protocol.PaymentID{}) && o.Sale != w.s.last {
		return // nothing was written of it, or it is forgotten
	}
	switch e.(type) {
	case Evidence, Approval, VendSuccess, VendFailure:
		if o := w.step(e); len(o.Records) > 0 {
			w.mayBeLate(e, o)
		}
		return
	}
	w.unchanged(e)
}

// mayBeLate: a repeat may write once more only for a vend that the first word left open.
func (w *world) mayBeLate(e Event, o Output) {
	if o2 := w.step(e); len(o2.Records) > 0 && o2.Row() == o.Row() {
		w.fail("%T writes %v three times", e, o2.Rows())
	}
}

func (w *world) unchanged(e Event) {
	before := w.s
	next, o := before.Step(w.now, w.in(e))
	if !reflect.DeepEqual(next, before) || len(o.Records)+len(o.Effects)+len(o.Blobs) > 0 {
		w.fail("%T, late or foreign, makes %+v", e, o)
	}
}

// foreign holds that an event of an id that was never given out changes nothing.
func (w *world) foreign() {
	all := foreigners()
	w.unchanged(all[w.rnd.IntN(len(all))])
}

// foreigners is an event of each kind that has an id, for something this lane does not know.
func foreigners() []Event {
	v := mk[protocol.VendID](60_001)
	return []Event{
		Received{mk[protocol.PaymentID](60_001)},
		Answer{protocol.AuthorizationResponse{Payment: mk[protocol.PaymentID](60_001), Result: protocol.Approved, Approved: eur(100)}},
		Timer{TimerOrder, 1 << 40},
		Timer{TimerWait, 1 << 40},
		Timer{TimerVend, 1 << 40},
		Timer{TimerEvidence, 1 << 40},
		Timer{TimerSession, 1 << 40},
		Timer{TimerChange, 1 << 40},
		Paid{ID: 1 << 30, Given: eur(50), Known: true},
		CashIn{Value: eur(50)},
		TerminalAnswered{Payment: mk[protocol.PaymentID](60_001), Result: protocol.TerminalApproved, Approved: eur(100)},
		TerminalDone{Payment: mk[protocol.PaymentID](60_001), Op: protocol.TerminalCancel, End: protocol.TerminalOK},
		TerminalLast{Payment: mk[protocol.PaymentID](60_001), Known: true},
		TerminalStatus{Payment: mk[protocol.PaymentID](60_001), Code: "pin"},
		Timer{TimerTerminal, 1 << 40},
		Timer{0, 1},
		Timer{9, 1},
		Approval{v, ApprovalDelivered},
		Approval{v, ApprovalMaybe},
		Approval{v, ApprovalWithdrawn},
		VendSuccess{Vend: v, Grade: protocol.GradeSensed},
		VendFailure{v},
		Evidence{v, protocol.Delivered, protocol.GradeSensed, protocol.SourceSensor},
		Evidence{v, protocol.Failed, 0, protocol.SourceAudit},
		Evidence{v, protocol.Presumed, 0, protocol.SourceAudit},
		Evidence{Result: protocol.Failed},
	}
}

func (w *world) id() int { w.n++; return w.n }

func (w *world) chance(n int) bool { return w.rnd.IntN(n) == 0 }

// event is what may come next: three times in four something its phase waits for.
func (w *world) event() Event {
	if w.chance(4) {
		return w.any()
	}
	v := w.s.d.last()
	switch w.s.Phase() {
	case Idle:
		if w.now.Mono-w.s.bus.At > 3*time.Second || !w.s.bus.up() {
			return BusState{State: BusStateEnabled, At: w.now.Mono, HasEvidence: w.chance(2)}
		}
		switch {
		case w.cfg.Flow == protocol.CardFirst:
			return w.card()
		case w.cfg.Bus == protocol.BusMDB && !w.chance(4):
			return w.request()
		}
		return w.order()
	case Ordered:
		if w.s.takesCash() && !w.chance(3) {
			if !w.s.level.Known {
				return w.level()
			}
			return w.money()
		}
		return w.card()
	case InChange:
		if w.paid != nil {
			return *w.paid
		}
		return w.level()
	case Authorizing:
		if w.chance(4) {
			return Timer{TimerWait, w.s.timers[TimerWait]}
		}
		return w.answer()
	case SessionIdle:
		if w.chance(4) {
			return SessionComplete{}
		}
		return w.request()
	case Queued, Vending:
		switch w.rnd.IntN(4) {
		case 0:
			return Approval{v.ID, Delivery(1 + w.rnd.IntN(3))}
		case 1:
			return VendFailure{v.ID}
		}
		return VendSuccess{Vend: v.ID, Grade: protocol.Grade(w.rnd.IntN(4))}
	}
	return Evidence{v.ID, protocol.VendOutcome(1 + w.rnd.IntN(2)), protocol.Grade(w.rnd.IntN(4)), protocol.SourceSensor}
}

func (w *world) any() Event {
	v := w.s.d.last().ID
	if c := w.s.d.Closed; len(c) > 0 && w.chance(2) {
		v = c[w.rnd.IntN(len(c))].ID
	}
	n := TimerName(1 + w.rnd.IntN(6))
	all := []func() Event{
		func() Event { return w.order() }, func() Event { return w.card() }, w.answer, func() Event { return w.request() },
		func() Event { return Cancel{"buyer"} }, func() Event { return CardFailed{"read_error"} }, func() Event { return CardAAC{} }, func() Event { return CardRemoved{} },
		func() Event { return Received{w.s.d.Payment} }, func() Event { return Timer{n, w.s.timers[n]} }, func() Event { return VendCancel{} },
		func() Event { return Approval{v, Delivery(1 + w.rnd.IntN(3))} }, func() Event { return VendSuccess{Vend: v, Grade: protocol.Grade(w.rnd.IntN(4))} },
		func() Event { return VendFailure{v} }, func() Event { return BusReset{} }, func() Event { return SessionComplete{} }, func() Event { return PortGone{} },
		func() Event {
			return BusState{State: BusUp(1 + w.rnd.IntN(4)), At: w.now.Mono, HasEvidence: w.chance(2)}
		},
		func() Event {
			return Evidence{v, protocol.VendOutcome(1 + w.rnd.IntN(2)), protocol.Grade(w.rnd.IntN(4)), protocol.SourceAudit}
		},
		func() Event { return w.money() }, func() Event { return w.level() }, func() Event { return CashLevel{} },
		func() Event { return BillHeld{eur(500)} }, func() Event { return BillReturned{} },
		func() Event { return Paid{ID: 1 << 30, Given: eur(5), Known: true} },
		func() Event { return Link{LinkState(1 + w.rnd.IntN(5))} }, func() Event { return Link{LinkUp} }, func() Event { return Accounts{w.chance(50)} },
		func() Event {
			p := w.s.policy
			p.Version += uint64(w.rnd.IntN(2))
			return NewPolicy{Policy: p}
		},
		func() Event { return Storage{StorageState(1 + w.rnd.IntN(2)*w.rnd.IntN(4))} }, func() Event { return Headroom{} },
		func() Event { return Means{"link_down"} }, func() Event { return Means{} }, func() Event { return Means{} },
		func() Event { return Tamper{Cleared: w.chance(2)} }, func() Event { return Tamper{Cleared: true} }, func() Event { return Door{w.chance(2)} },
	}
	return all[w.rnd.IntN(len(all))]()
}

func (w *world) order() Order {
	n := w.id()
	o := Order{Sale: mk[protocol.SaleID](n), Class: protocol.Live}
	if w.chance(10) {
		o.Class = protocol.Test
	}
	for i := range 1 + w.rnd.IntN(3) {
		price := eur(int64(50 + w.rnd.IntN(200)))
		o.Lines = append(o.Lines, protocol.Line{Outlet: protocol.Outlet(i), Qty: 1, Unit: price, Amount: price})
		o.Items = append(o.Items, protocol.Item{Vend: mk[protocol.VendID](w.id()), Line: uint8(i), Outlet: protocol.Outlet(i), Amount: price})
	}
	return o
}

func (w *world) card() CardRead {
	c := tap(1)
	c.Sale, c.Payment, c.Spare, c.TC = mk[protocol.SaleID](w.id()), mk[protocol.PaymentID](w.id()), mk[protocol.PaymentID](w.id()), w.chance(20)
	c.Loop = w.chance(20)
	return c
}

func (w *world) request() VendRequest {
	if w.req++; w.chance(5) && w.req > 1 {
		w.req-- // again
	}
	q := VendRequest{
		Bus: protocol.BusKey{BusEpoch: w.epoch, Request: w.req}, Sale: mk[protocol.SaleID](w.id()), Vend: mk[protocol.VendID](w.id()),
		Price: eur(int64(50 + w.rnd.IntN(1200))), Item: 7, Since: time.Duration(w.rnd.IntN(3)) * time.Second,
	}
	if w.chance(20) {
		q.Bad = "currency"
	}
	return q
}

func (w *world) answer() Event {
	p := w.s.d.Payment
	if a := w.s.d.Asked; len(a) > 0 && w.chance(4) {
		p = a[w.rnd.IntN(len(a))].Payment
	}
	asked := w.books.payments[p]
	r := protocol.AuthorizationResponse{Payment: p, AskHash: asked.ask, Answer: mk[protocol.AnswerID](w.id()), Result: protocol.Result(1 + w.rnd.IntN(5)), Approved: asked.asked}
	switch {
	case w.chance(2):
		r.Result = protocol.Approved
	case r.Result == protocol.Partial:
		r.Approved.Minor /= 1 + int64(w.rnd.IntN(4))
	case r.Result == protocol.RefusedUnsent && w.chance(2):
		r.Code = protocol.AcquirerDown
	}
	switch w.rnd.IntN(20) {
	case 0:
		r.Approved = money.Amount{Minor: 99_999, Currency: asked.asked.Currency}
	case 1:
		r.Approved = money.New(r.Approved.Minor, 840)
	}
	return Answer{r}
}
