package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"coinop/protocol"
)

// terminalRecord holds that a payment at a terminal is asked once, answered once, and what the terminal
// owes after its outcome ends once.
func (b *books) terminalRecord(r protocol.Record, say func(string, ...any)) {
	switch a := r.Body.(type) {
	case protocol.TerminalSent:
		if _, ok := b.payments[a.Payment]; ok {
			say("payment %s twice", a.Payment)
		}
		b.payments[a.Payment] = payment{sale: r.Sale, asked: a.Amount, terminal: true}
	case protocol.TerminalAnswered:
		p, ok := b.payments[a.Payment]
		if !ok || !p.terminal || b.answered[a.Payment] || p.sale != r.Sale {
			say("a second answer of the terminal, or to nothing asked")
		}
		b.answered[a.Payment] = true
		if a.AskedBack && p.ends == 0 {
			say("asked back about a payment that has no end")
		}
		if p.approved = a.Approved; a.Result != protocol.TerminalApproved && p.ends == 0 {
			b.payments[a.Payment] = p
			b.end(a.Payment, say)
			return
		}
		b.payments[a.Payment] = p
	case protocol.TerminalDone:
		p := b.payments[a.Payment]
		if p.done++; p.done > 1 || p.ends != 1 || p.approved.Minor == 0 || p.sale != r.Sale {
			say("%s of %+v", a.Op, p)
		}
		if want := p.approved.Minor; a.Op == protocol.TerminalCapture && a.Amount.Minor != p.captured || a.Op == protocol.TerminalCancel && (a.Amount.Minor != want || p.captured != 0) {
			say("%s of %s, approved %s, captured %d", a.Op, a.Amount, p.approved, p.captured)
		}
		b.payments[a.Payment] = p
	}
}

// terminalEffect holds that a terminal is asked only for what this step's records say, and told what to
// do only after the outcome.
func (b *books) terminalEffect(ef Effect, o Output, say func(string, ...any)) {
	switch a := ef.(type) {
	case TerminalAuthorize:
		if !find(o.Records, func(r protocol.Record) bool {
			s, ok := r.Body.(protocol.TerminalSent)
			return ok && s.Payment == a.Payment && s.Amount == a.Amount
		}) {
			say("the terminal is asked without a record")
		}
	case TerminalCapture:
		if p := b.payments[a.Payment]; p.ends != 1 || p.done > 0 || p.captured != a.Amount.Minor || p.approved != a.Approved {
			say("%+v of %+v", a, p)
		}
	case TerminalCancel:
		if p := b.payments[a.Payment]; p.ends != 1 || p.done > 0 || p.captured != 0 || p.approved != a.Approved {
			say("%+v of %+v", a, p)
		}
	case TerminalAsk:
		if p := b.payments[a.Payment]; p.ends != 1 || p.done > 0 {
			say("asked back about %+v", p)
		}
	}
}

// terminalAfter brings what a terminal owes after a power cut to its end, by books of many kinds.
func (r *rig) terminalAfter(s State, step func(State, Event) (State, Output)) State {
	if s.d.Terminal == nil {
		return s
	}
	t := *s.d.Terminal
	s, o := step(s, TerminalReady{Terminal: "t", Last: t.Before})
	for n := r.cases; s.d.Terminal != nil && n < r.cases+40; n++ {
		var e Event
		for _, ef := range o.Effects {
			switch a := ef.(type) {
			case TerminalAsk:
				l := TerminalLast{Payment: a.Payment, Known: n%5 != 0, Approved: true, Ref: tRef(num(a.Payment)*10 + 5), Amount: t.Asked}
				switch n % 7 {
				case 1:
					l.Ref = t.Before
				case 2:
					l.Approved = false
				case 3:
					l.Amount = eur(1)
				case 4:
					l.Original, l.Hold = t.Ref.Trace, HoldEnded
				}
				e = l
			case TerminalCapture:
				e = TerminalDone{Payment: a.Payment, Op: protocol.TerminalCapture, End: protocol.TerminalEnd(1 + n%4), Reason: "x"}
			case TerminalCancel:
				e = TerminalDone{Payment: a.Payment, Op: protocol.TerminalCancel, End: protocol.TerminalEnd(1 + n%4), Reason: "x"}
			}
		}
		if e == nil {
			if s.timers[TimerTerminal] == 0 {
				r.fail("nobody asks the terminal any more")
			}
			e = Timer{TimerTerminal, s.timers[TimerTerminal]}
		}
		s, o = step(s, e)
	}
	return s
}

// till is a terminal's own books: what buyers are charged for, whoever knows it.
type till struct {
	receipt int
	txs     []tillTx
}

type tillTx struct {
	payment  protocol.PaymentID
	receipt  int
	of       int // receipt it took back
	amount   int64
	standing int64
	declined bool
}

func (t *till) add(x tillTx) tillTx {
	if t.receipt++; t.receipt > 9999 {
		t.receipt = 1
	}
	x.receipt = t.receipt
	t.txs = append(t.txs, x)
	return x
}

// TestTerminalRandom drives lanes with a terminal whose answers are lost, late, wrong or never come, with
// power cuts before and after its books changed. At the end each payment is charged at the terminal for
// exactly what its records say, or a case names it.
func TestTerminalRandom(t *testing.T) {
	t.Parallel()
	first, n := uint64(0), *seeds
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	c := newCoverage()
	charged, canceled, cases := 0, 0, 0
	for s := range n {
		a, b, d := terminalLane(t, first+s, c)
		charged, canceled, cases = charged+a, canceled+b, cases+d
	}
	t.Logf("seeds %d to %d: %d charged, %d canceled at the terminal, %d cases", first, first+n-1, charged, canceled, cases)
	if *seedFlag == 0 && (charged == 0 || canceled == 0) {
		t.Error("nothing happened")
	}
}

type tillWorld struct {
	*rig
	rnd   *rand.Rand
	till  till
	todo  []Event // what the driver is about to say
	n     int
	hold  bool // of the terminal's payments
	fault bool
}

func terminalLane(t *testing.T, seed uint64, c *coverage) (charged, canceled, cases int) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	cfg := Config{Flow: protocol.SelectionFirst, Terminal: true, OwnsMotor: rnd.IntN(2) == 0}
	r := newRig(t, fmt.Sprintf("terminal seed %d", seed), c, cfg, protocol.Policy{})
	w := &tillWorld{rig: r, rnd: rnd, hold: rnd.IntN(2) == 0, fault: true}
	w.till.receipt = []int{0, 7, 9995}[rnd.IntN(3)]
	r.warm(false)
	w.reachable()
	for i := range 150 {
		r.where = fmt.Sprintf("terminal seed %d step %d", seed, i)
		r.quiet = rnd.IntN(6) > 0
		w.turn()
	}
	w.fault = false
	r.where = fmt.Sprintf("terminal seed %d at the end", seed)
	w.restart()
	w.live(Booted{})
	w.reachable()
	for range 100 {
		switch {
		case len(w.todo) > 0:
			e := w.todo[0]
			w.todo = w.todo[1:]
			w.live(e)
		case r.s.timers[TimerTerminal] != 0:
			w.live(Timer{TimerTerminal, r.s.timers[TimerTerminal]})
		case r.s.Phase() == InEvidence:
			w.live(Timer{TimerEvidence, r.s.timers[TimerEvidence]})
		}
	}
	if !r.s.Idle() || r.s.d.Terminal != nil {
		r.fail("%s, owed %+v", r.s.Phase(), r.s.d.Terminal)
	}
	r.atEnd()
	return w.compare()
}

// compare is the law: what stands at the terminal is what the records say.
func (w *tillWorld) compare() (charged, canceled, cases int) {
	stands := map[protocol.PaymentID]int64{}
	for _, x := range w.till.txs {
		if x.payment == somebody { // carryOut has failed if we had touched it
			continue
		}
		stands[x.payment] += x.standing
		if x.of > 0 {
			canceled++
		}
	}
	said, asks := map[protocol.PaymentID]int64{}, map[protocol.PaymentID]bool{}
	for _, r := range w.log {
		switch b := r.Body.(type) {
		case protocol.PaymentOutcome:
			said[b.Payment] = b.Amount.Minor
		case protocol.CaseOpened:
			if b.Cause == protocol.CaseTerminalFailed || b.Cause == protocol.CaseTerminalUnknown {
				asks[b.Payment] = true
				cases++
			}
		}
	}
	for p, n := range stands {
		if n > 0 {
			charged++
		}
		if n != said[p] && !asks[p] {
			w.fail("payment %s: %d stand at the terminal, records say %d; no case", p, n, said[p])
		}
	}
	for p, n := range said {
		if n != stands[p] && !asks[p] {
			w.fail("payment %s: records say %d, %d stand at the terminal; no case", p, n, stands[p])
		}
	}
	return charged, canceled, cases
}

func (w *tillWorld) restart() {
	w.rig.restart()
	w.todo = nil
}

// reachable is the driver's connection, made anew.
func (w *tillWorld) reachable() {
	w.live(BusState{State: BusStateEnabled, At: w.now.Mono})
	w.live(TerminalReady{Terminal: "t", Last: w.last().Ref})
}

func (w *tillWorld) last() TerminalLast {
	if len(w.till.txs) == 0 {
		if w.till.receipt == 0 {
			return TerminalLast{Known: true}
		}
		return TerminalLast{Known: true, Ref: tRef(w.till.receipt), Approved: true, Amount: eur(100)}
	}
	x := w.till.txs[len(w.till.txs)-1]
	l := TerminalLast{Known: true, Ref: tRef(x.receipt), Approved: !x.declined, Amount: eur(x.amount)}
	if x.of > 0 {
		l.Original = tRef(x.of).Trace
	}
	return l
}

func (w *tillWorld) chance(n int) bool { return w.fault && w.rnd.IntN(n) == 0 }

// live takes an event, and carries its effects out at the terminal; the answers wait in todo. At times
// the power fails before them or right after.
func (w *tillWorld) live(e Event) {
	w.t.Helper()
	o := w.step(e)
	if w.chance(30) { // synced, and nothing was done
		w.cutOff()
		return
	}
	for _, ef := range o.Effects {
		w.carryOut(ef)
	}
	if w.chance(30) { // done, and nobody heard
		w.cutOff()
	}
}

func (w *tillWorld) cutOff() {
	w.restart()
	w.live(Booted{})
	if w.rnd.IntN(3) > 0 {
		w.reachable()
	}
}

func (w *tillWorld) carryOut(ef Effect) {
	switch a := ef.(type) {
	case TerminalAuthorize:
		e := TerminalAnswered{Payment: a.Payment, Result: protocol.TerminalDeclined, Approved: eur(0)}
		switch k := w.rnd.IntN(10); {
		case !w.fault || k < 6:
			x := w.till.add(tillTx{payment: a.Payment, amount: a.Amount.Minor, standing: a.Amount.Minor})
			e.Result, e.Approved, e.Ref = protocol.TerminalApproved, a.Amount, tRef(x.receipt)
		case k == 6:
			x := w.till.add(tillTx{payment: a.Payment, amount: a.Amount.Minor, declined: true})
			e.Ref = tRef(x.receipt)
		case k == 7:
			x := w.till.add(tillTx{payment: a.Payment, amount: a.Amount.Minor + 1, standing: a.Amount.Minor + 1})
			e.Result, e.Approved, e.Ref = protocol.TerminalApproved, eur(a.Amount.Minor+1), tRef(x.receipt)
		case k == 8:
			e.Result = protocol.TerminalUnsent
		}
		if e.Result != protocol.TerminalUnsent && w.chance(4) { // its answer is lost
			e = TerminalAnswered{Payment: a.Payment, Result: protocol.TerminalUnknown, Approved: eur(0)}
		}
		w.todo = append(w.todo, e)
	case TerminalCapture:
		w.op(a.Payment, a.Ref, protocol.TerminalCapture, a.Amount.Minor, a.Approved.Minor)
	case TerminalCancel:
		w.op(a.Payment, a.Ref, protocol.TerminalCancel, 0, a.Approved.Minor)
	case TerminalAsk:
		l := w.last()
		l.Payment = a.Payment
		if w.chance(5) {
			l = TerminalLast{Payment: a.Payment, Never: w.chance(3)}
		} else if w.hold && !a.Ref.IsZero() {
			l.Hold = HoldEnded
			for _, x := range w.till.txs {
				if x.payment == a.Payment && x.of == 0 && tRef(x.receipt) == a.Ref && x.standing > 0 && !w.ended(x.receipt) {
					l.Hold = HoldOpen
				}
			}
		}
		w.todo = append(w.todo, l)
	case TerminalClose:
		w.todo = append(w.todo, TerminalClosed{protocol.TerminalClosed{Total: eur(0)}})
	}
}

func (w *tillWorld) ended(receipt int) bool {
	return find(w.till.txs, func(x tillTx) bool { return x.of == receipt })
}

// op is a capture or a cancel at the terminal. It acts once; a second time it is refused.
func (w *tillWorld) op(p protocol.PaymentID, ref protocol.TerminalRef, op protocol.TerminalOp, final, approved int64) {
	e := TerminalDone{Payment: p, Op: op, End: protocol.TerminalOK, Ref: ref}
	i := slices.IndexFunc(w.till.txs, func(x tillTx) bool { return x.of == 0 && tRef(x.receipt) == ref && x.payment == p })
	if i < 0 {
		w.fail("%s of %+v, which is not in its books", op, ref)
	}
	switch {
	case w.chance(6):
		e.End, e.Reason = protocol.TerminalNotSent, "busy"
	case w.chance(12):
		e.End, e.Reason = protocol.TerminalRefused, "not_possible"
	case w.ended(w.till.txs[i].receipt):
		e.End, e.Reason = protocol.TerminalRefused, "already"
		if op == protocol.TerminalCancel && !w.hold {
			e.End, e.Reason, e.Ref = protocol.TerminalOK, "", protocol.TerminalRef{}
		}
	case op == protocol.TerminalCapture && !w.hold:
		if final != approved {
			e.End, e.Reason = protocol.TerminalRefused, "not_possible"
		}
	default:
		w.till.txs[i].standing = 0
		x := w.till.add(tillTx{payment: p, of: w.till.txs[i].receipt, amount: max(final, 0), standing: final})
		if op == protocol.TerminalCancel {
			w.till.txs[len(w.till.txs)-1].amount = approved
		}
		e.Ref = tRef(x.receipt)
	}
	if e.End != protocol.TerminalNotSent && w.chance(4) {
		e.End, e.Reason, e.Ref = protocol.TerminalLost, "lost", protocol.TerminalRef{}
	}
	w.todo = append(w.todo, e)
}

// somebody else pays at the terminal, by hand.
var somebody = mk[protocol.PaymentID](59_000)

// turn is one thing that happens.
func (w *tillWorld) turn() {
	if w.chance(40) {
		w.till.add(tillTx{payment: somebody, amount: 7, standing: 7})
	}
	if w.chance(25) { // the line goes: the driver answers what was asked, then says so
		for i, e := range w.todo {
			switch a := e.(type) {
			case TerminalAnswered:
				w.todo[i] = TerminalAnswered{Payment: a.Payment, Result: protocol.TerminalUnknown, Approved: eur(0)}
			case TerminalDone:
				w.todo[i] = TerminalDone{Payment: a.Payment, Op: a.Op, End: protocol.TerminalLost, Reason: "lost"}
			case TerminalLast:
				w.todo[i] = TerminalLast{Payment: a.Payment}
			case TerminalClosed:
				w.todo[i] = TerminalClosed{protocol.TerminalClosed{Reason: "lost", Total: eur(0)}}
			}
		}
		for len(w.todo) > 0 {
			e := w.todo[0]
			w.todo = w.todo[1:]
			w.live(e)
		}
		w.live(TerminalGone{})
		return
	}
	if !w.s.term.up && w.rnd.IntN(3) == 0 {
		w.reachable()
		return
	}
	if len(w.todo) > 0 && w.rnd.IntN(4) > 0 {
		e := w.todo[0]
		w.todo = w.todo[1:]
		w.live(e)
		return
	}
	w.now.Mono += time.Duration(w.rnd.IntN(300)) * time.Millisecond
	v := w.s.d.last()
	switch w.s.Phase() {
	case Idle:
		switch {
		case w.s.timers[TimerTerminal] != 0 && w.rnd.IntN(2) == 0:
			w.live(Timer{TimerTerminal, w.s.timers[TimerTerminal]})
		case w.rnd.IntN(20) == 0:
			w.live(CloseDay{})
		default:
			w.live(BusState{State: BusStateEnabled, At: w.now.Mono})
			w.live(w.order())
		}
	case Authorizing:
		switch w.rnd.IntN(6) {
		case 0:
			w.live(Cancel{"buyer"})
		case 1:
			w.live(Timer{TimerOrder, w.s.timers[TimerOrder]})
		case 2:
			w.live(Timer{TimerWait, w.s.timers[TimerWait]})
		default:
			w.live(TerminalStatus{Payment: w.s.d.Payment, Code: "pin"})
		}
	case Vending:
		switch w.rnd.IntN(5) {
		case 0:
			w.live(VendFailure{v.ID})
		case 1:
			w.live(Timer{TimerVend, w.s.timers[TimerVend]})
		default:
			w.live(VendSuccess{Vend: v.ID, Grade: protocol.GradeSensed})
		}
	case InEvidence:
		w.live(Timer{TimerEvidence, w.s.timers[TimerEvidence]})
	default:
		w.fail("%s", w.s.Phase())
	}
}

func (w *tillWorld) order() Order {
	w.n += 10
	o := Order{Sale: mk[protocol.SaleID](w.n), Class: protocol.Live, Payment: mk[protocol.PaymentID](w.n)}
	for i := range 1 + w.rnd.IntN(2) {
		price := eur(int64(50 + w.rnd.IntN(200)))
		o.Lines = append(o.Lines, protocol.Line{Outlet: protocol.Outlet(i), Qty: 1, Unit: price, Amount: price})
		o.Items = append(o.Items, protocol.Item{Vend: mk[protocol.VendID](w.n + i + 1), Line: uint8(i), Outlet: protocol.Outlet(i), Amount: price})
	}
	return o
}
