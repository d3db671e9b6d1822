package session

import (
	"strconv"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// A terminal that authorizes by itself stands in for reader and bank: it is asked for the price, waits
// for the card, and says what came of it. Its payment ends in one outcome like any other. What the
// terminal has to do after it (book what was used, or give all back) is owed until it says that it is
// done, or that it will not, which is a case. While it owes, nothing is sold by it.
//
// What got no answer is never asked again: the terminal is asked for the last transaction in its books,
// and only then told what to do, once.

// TerminalReady says that the terminal can be asked. Last is the newest transaction in its books, Due
// that it wants its day closed first.
type TerminalReady struct {
	Terminal string
	Last     protocol.TerminalRef
	Due      bool
}

// TerminalGone is a terminal that cannot be reached. What it had to answer has been answered before.
type TerminalGone struct{}

// TerminalStatus is what goes on meanwhile, by name.
type TerminalStatus struct {
	Payment protocol.PaymentID
	Code    string
}

// TerminalAnswered ends a TerminalAuthorize: exactly one each.
type TerminalAnswered struct {
	Payment  protocol.PaymentID
	Result   protocol.TerminalResult
	Reason   string
	Approved money.Amount
	Ref      protocol.TerminalRef
	Card     TerminalCard
	Receipt  []string
}

// TerminalCard is what a terminal says of a card.
type TerminalCard struct{ Brand, Last4, AID string }

// TerminalDone ends a TerminalCapture or TerminalCancel.
type TerminalDone struct {
	Payment protocol.PaymentID
	Op      protocol.TerminalOp
	End     protocol.TerminalEnd
	Reason  string
	Ref     protocol.TerminalRef
}

// TerminalLast ends a TerminalAsk.
type TerminalLast struct {
	Payment  protocol.PaymentID
	Known    bool
	Never    bool                 // it is not known, and never will be
	Ref      protocol.TerminalRef // zero: its books are empty
	Approved bool
	Amount   money.Amount
	Original string // trace of what this one took back
	Card     TerminalCard
	Hold     HoldState
}

// HoldState says whether the payment asked about is a hold that nothing has ended.
type HoldState uint8

// States of a hold.
const (
	HoldNotSaid HoldState = iota
	HoldOpen
	HoldEnded
)

// CloseDay asks for the end of the terminal's day. It is said again while it does not come.
type CloseDay struct{}

// TerminalClosed is that end, or why there is none.
type TerminalClosed struct{ Day protocol.TerminalClosed }

// TerminalAuthorize asks the terminal for a payment.
type TerminalAuthorize struct {
	Payment protocol.PaymentID
	Amount  money.Amount
}

// TerminalAbort gives it up; the answer still comes.
type TerminalAbort struct{ Payment protocol.PaymentID }

// TerminalCapture books what was used of what was approved.
type TerminalCapture struct {
	Payment  protocol.PaymentID
	Ref      protocol.TerminalRef
	Approved money.Amount
	Amount   money.Amount
}

// TerminalCancel gives all of it back.
type TerminalCancel struct {
	Payment  protocol.PaymentID
	Ref      protocol.TerminalRef
	Approved money.Amount
}

// TerminalAsk asks for the last transaction in the terminal's books.
type TerminalAsk struct {
	Payment protocol.PaymentID
	Ref     protocol.TerminalRef // zero: no answer is known
}

// TerminalClose ends its day.
type TerminalClose struct{}

func (TerminalReady) event()      {}
func (TerminalGone) event()       {}
func (TerminalStatus) event()     {}
func (TerminalAnswered) event()   {}
func (TerminalDone) event()       {}
func (TerminalLast) event()       {}
func (TerminalClosed) event()     {}
func (CloseDay) event()           {}
func (TerminalAuthorize) effect() {}
func (TerminalAbort) effect()     {}
func (TerminalCapture) effect()   {}
func (TerminalCancel) effect()    {}
func (TerminalAsk) effect()       {}
func (TerminalClose) effect()     {}

const (
	terminalAgain = 5 * time.Second // until it is asked once more
	terminalTries = 5               // of what it does not answer while it can be reached
)

// atTerminal is a payment from its TerminalSent to the end of what is owed about it.
type atTerminal struct {
	Sale     protocol.SaleID      `cbor:"1,keyasint"`
	Payment  protocol.PaymentID   `cbor:"2,keyasint"`
	Asked    money.Amount         `cbor:"3,keyasint"`
	Before   protocol.TerminalRef `cbor:"4,keyasint,omitzero"`
	Answered bool                 `cbor:"5,keyasint,omitempty"` // approved
	Ref      protocol.TerminalRef `cbor:"6,keyasint,omitzero"`
	Approved money.Amount         `cbor:"7,keyasint"`
	What     protocol.What        `cbor:"8,keyasint,omitempty"`  // of the outcome; 0: there is none yet
	Final    money.Amount         `cbor:"9,keyasint"`            // captured
	Terminal string               `cbor:"10,keyasint,omitempty"` // its id
}

// atHand is what is known of the terminal in this boot.
type atHand struct {
	up     bool
	id     string
	last   protocol.TerminalRef
	due    bool
	asking bool            // an answer to TerminalAuthorize is to come
	doing  bool            // an answer to something else is
	day    bool            // its day is being closed
	why    protocol.Reason // the payment was given up; 0: not
	tries  int
}

// applyTerminal folds the records of a terminal.
func (d *durable) applyTerminal(r protocol.Record) {
	switch b := r.Body.(type) {
	case protocol.TerminalSent:
		d.Phase, d.Payment, d.Approved = Authorizing, b.Payment, money.Amount{}
		d.Asked = tail(append(d.Asked, asked{Payment: b.Payment, Sale: r.Sale, Answered: true}))
		d.Terminal = &atTerminal{Sale: r.Sale, Payment: b.Payment, Asked: b.Amount, Before: b.Before, Terminal: b.Terminal}
	case protocol.TerminalAnswered:
		if !b.Ref.IsZero() {
			d.LastRef = b.Ref
		}
		t := d.Terminal
		if t == nil || t.Payment != b.Payment {
			return
		}
		live := d.Payment == b.Payment
		if b.Result != protocol.TerminalApproved {
			if d.Terminal = nil; live {
				d.Phase, d.Payment = Ordered, protocol.PaymentID{}
			}
			return
		}
		t.Answered, t.Ref, t.Approved = true, b.Ref, b.Approved
		if live {
			d.Approved, _ = money.Min(b.Approved, d.Due) // of another currency: nothing
		}
	case protocol.TerminalDone:
		if !b.Ref.IsZero() {
			d.LastRef = b.Ref
		}
		if d.Terminal != nil && d.Terminal.Payment == b.Payment {
			d.Terminal = nil
		}
	}
}

// Terminal is what is known of the lane's terminal, and what it has to do yet: "answer", "capture",
// "cancel", or "".
func (s State) Terminal() (id string, here, due bool, owes string) {
	if t := s.d.Terminal; t != nil && t.What != 0 {
		owes = t.op().String()
		if !t.Answered {
			owes = "answer"
		}
	}
	return s.term.id, s.term.up, s.term.due, owes
}

// GivenUp reports that the live sale was, and that only the terminal's last word is waited for.
func (s State) GivenUp() bool {
	return s.d.Phase == Authorizing && s.d.Terminal != nil && s.term.why != 0
}

// terminalShut names why the terminal cannot be asked for a payment, or is "".
func (s State) terminalShut() string {
	switch {
	case s.d.Terminal != nil: // also where the file has none any more: it must be put back first
		return "terminal_owes"
	case !s.cfg.Terminal:
		return ""
	case !s.term.up:
		return "terminal_away"
	case s.term.due:
		return "terminal_day_end"
	case s.term.day || s.term.asking || s.term.doing:
		return "terminal_busy"
	}
	return ""
}

// atTerminal reports that an order is to be paid at the lane's terminal.
func (s State) atTerminal(e Order) bool { return s.cfg.Terminal && !(e.Cash && s.cfg.Cash) }

// noTerminal names why this order cannot be paid at the lane's terminal, or is "".
func (s State) noTerminal(e Order) string {
	why := s.terminalShut()
	switch {
	case s.d.Terminal != nil && !s.cfg.Terminal:
	case !s.atTerminal(e):
		return ""
	case why != "":
	case e.Class == protocol.Test:
		why = "test_class" // a terminal knows none
	case e.Payment.IsZero() || s.d.seen(protocol.SaleID{}, e.Payment):
		why = "payment_id"
	}
	return why
}

// askTerminal is T01: an order that the terminal is asked for.
func (s *State) askTerminal(o *Output, now protocol.Reading, p protocol.PaymentID) {
	before := s.term.last
	if before.IsZero() {
		before = s.d.LastRef
	}
	s.put(o, protocol.TerminalSent{
		Payment: p, Amount: s.d.Due, Purpose: protocol.Exact, Terminal: s.term.id, Before: before, PolicyVersion: s.policy.Version,
	})
	s.term.asking, s.term.why, s.term.tries = true, 0, 0
	o.do(Show{ScreenPrice, s.d.Due, "terminal"}, TerminalAuthorize{p, s.d.Due})
	s.start(o, TimerOrder, min(s.policy.Order(), s.left(now)-minWait))
}

// terminal takes the events of terminals, and while the live sale's payment is at one, all others.
func (s *State) terminal(o *Output, now protocol.Reading, in In) bool {
	switch e := in.Event.(type) {
	case TerminalReady:
		o.take("T11")
		s.term.up, s.term.id, s.term.last, s.term.due = true, e.Terminal, e.Last, e.Due
		if !s.askBack(o) {
			s.closeDay(o, e.Due)
		}
	case TerminalGone:
		o.take("T12")
		s.term = atHand{why: s.term.why, tries: s.term.tries}
		s.stop(o, TimerTerminal)
	case TerminalStatus:
		s.terminalStatus(o, now, e)
	case TerminalAnswered:
		s.terminalAnswered(o, now, e)
	case TerminalDone:
		s.terminalDone(o, in, e)
	case TerminalLast:
		s.terminalLast(o, in, e)
	case CloseDay:
		s.closeDay(o, true)
	case TerminalClosed:
		o.take("T26")
		s.term.day = false
		if e.Day.Reason == "" {
			s.term.due = false
		}
		o.Records = append(o.Records, protocol.Record{Lane: s.cfg.Lane, Body: e.Day})
	case Timer:
		if e.Name != TimerTerminal {
			return s.waiting(o, in)
		}
		o.take("T23")
		s.askBack(o)
	default:
		return s.waiting(o, in)
	}
	return true
}

// waiting is a sale whose payment is at the terminal.
func (s *State) waiting(o *Output, in In) bool {
	if s.d.Phase != Authorizing || s.d.Terminal == nil || s.d.Terminal.Payment != s.d.Payment {
		return false
	}
	switch in.Event.(type) {
	case CashLevel, CashIn, BillHeld, BillReturned, Paid: // nobody waits for it, and it goes back
		return false
	}
	due := s.d.Due
	end := func(row string) {
		o.take(row)
		s.void(o, max(s.term.why, protocol.NoAnswer), protocol.NotCharged)
		o.do(Show{ScreenNotCharged, due, protocol.NoAnswer.String()})
		s.deny(o)
	}
	switch e := in.Event.(type) {
	case Booted:
		end("T10")
	case Timer:
		switch e.Name {
		case TimerOrder:
			s.giveUp(o, protocol.Canceled, "timeout")
		case TimerWait:
			end("T09")
		default:
		}
	case Cancel, VendCancel, BusReset, SessionComplete, PortGone:
		s.giveUp(o, protocol.Canceled, "canceled")
	case Tamper:
		s.giveUp(o, protocol.Tampered, "tamper")
	}
	return true
}

// giveUp is T07: the terminal is told once, and its last word counts.
func (s *State) giveUp(o *Output, why protocol.Reason, say string) {
	o.take("T07")
	s.deny(o)
	if s.term.why != 0 {
		return
	}
	s.term.why = why
	s.stop(o, TimerOrder)
	o.do(TerminalAbort{s.d.Payment}, Show{ScreenWait, s.d.Due, say})
	s.start(o, TimerWait, s.policy.Wait())
}

// terminalStatus is T24: for the screen. While something goes on, the order's time begins anew.
func (s *State) terminalStatus(o *Output, now protocol.Reading, e TerminalStatus) {
	if s.d.Phase != Authorizing || e.Payment != s.d.Payment || s.term.why != 0 {
		return
	}
	o.take("T24")
	o.do(Show{ScreenAuthorizing, s.d.Due, e.Code})
	if e.Code != "insert_card" && e.Code != "wait" && e.Code != "confirm_amount" {
		s.stop(o, TimerOrder)
		s.start(o, TimerOrder, max(min(s.policy.Order(), s.left(now)-minWait), time.Second))
	}
}

// terminalAnswered is T02 to T06, T08 and T17.
func (s *State) terminalAnswered(o *Output, now protocol.Reading, e TerminalAnswered) {
	t := s.d.Terminal
	if t == nil || t.Payment != e.Payment || t.Answered || !s.term.asking {
		return
	}
	s.term.asking = false
	due, live := s.d.Due, s.d.Phase == Authorizing && s.d.Payment == t.Payment
	fail := func(row string, why protocol.Reason, how protocol.How) {
		o.take(row)
		s.void(o, why, how)
		o.do(Show{ScreenNotCharged, due, why.String()})
		s.deny(o)
	}
	if e.Result == protocol.TerminalUnknown {
		if live {
			fail("T06", max(s.term.why, protocol.NoAnswer), protocol.NotCharged)
			return
		}
		o.take("T17")
		s.askBack(o)
		return
	}
	b := protocol.TerminalAnswered{
		Payment: e.Payment, Result: e.Result, Reason: e.Reason, Approved: e.Approved, Ref: e.Ref,
		Brand: e.Card.Brand, Last4: e.Card.Last4, AID: e.Card.AID, Receipt: e.Receipt,
	}
	if !e.Ref.IsZero() {
		s.term.last = e.Ref
	}
	if !live {
		o.take("T17")
		s.tell(o, t.Sale, b)
		s.act(o)
		return
	}
	s.put(o, b)
	s.stop(o, TimerOrder)
	s.stop(o, TimerWait)
	switch {
	case e.Result != protocol.TerminalApproved:
		o.take("T05")
		how := protocol.SaleDeclined
		if e.Result == protocol.TerminalAborted {
			how = protocol.SaleCanceled
		}
		s.close(o, how)
		o.do(Show{ScreenNotCharged, due, pick(e.Reason == "", e.Result.String(), e.Reason)})
		s.deny(o)
	case s.term.why != 0:
		fail("T08", s.term.why, protocol.SaleCanceled)
	case e.Approved != due:
		fail("T04", protocol.ReasonPartial, protocol.NotCharged)
	case s.gate(now) != "":
		fail("T03", protocol.VendGone, protocol.NotCharged)
	default:
		o.take("T02")
		s.vendNext(o)
	}
}

// owed does, after an outcome, what the terminal has to do about it.
func (s *State) owed(o *Output) {
	switch t := s.d.Terminal; {
	case t == nil || t.What == 0:
	case t.Answered && !s.replaced():
		s.act(o)
	default:
		s.askBack(o)
	}
}

// replaced reports that another terminal stands here than the one that owes: its receipt numbers say
// nothing about ours.
func (s State) replaced() bool {
	t := s.d.Terminal
	return t.Terminal != "" && s.term.id != "" && t.Terminal != s.term.id
}

// act tells the terminal what to do, when nobody waits for an answer of it.
func (s *State) act(o *Output) {
	t := s.d.Terminal
	if t == nil || t.What == 0 || !t.Answered || s.term.asking || s.term.doing || !s.term.up {
		return
	}
	s.term.doing = true
	if t.What == protocol.Capture {
		o.do(TerminalCapture{t.Payment, t.Ref, t.Approved, t.Final})
	} else {
		o.do(TerminalCancel{t.Payment, t.Ref, t.Approved})
	}
}

// askBack asks what became of what is owed, when nobody waits for an answer.
func (s *State) askBack(o *Output) bool {
	t := s.d.Terminal
	if t == nil || t.What == 0 {
		return false
	}
	if !s.term.asking && !s.term.doing && s.term.up {
		s.term.doing = true
		o.do(TerminalAsk{t.Payment, t.Ref})
	}
	return true
}

// soon asks once more, later.
func (s *State) soon(o *Output) {
	s.stop(o, TimerTerminal)
	s.start(o, TimerTerminal, terminalAgain)
}

// terminalDone is T20 to T22.
func (s *State) terminalDone(o *Output, in In, e TerminalDone) {
	t := s.d.Terminal
	if t == nil || t.Payment != e.Payment || !t.Answered || !s.term.doing || e.Op != t.op() {
		return
	}
	s.term.doing = false
	switch e.End {
	case protocol.TerminalOK:
		o.take("T20")
		s.done(o, e.End, "", e.Ref)
	case protocol.TerminalRefused:
		o.take("T21")
		s.done(o, e.End, e.Reason, e.Ref)
		s.tell(o, t.Sale, protocol.CaseOpened{Case: in.Case, Payment: t.Payment, Cause: protocol.CaseTerminalFailed, Charged: true})
	case protocol.TerminalLost:
		o.take("T22")
		s.askBack(o)
	default:
		o.take("T22")
		s.soon(o)
	}
}

func (t atTerminal) op() protocol.TerminalOp {
	if t.What == protocol.Capture {
		return protocol.TerminalCapture
	}
	return protocol.TerminalCancel
}

// done writes the end of what was owed.
func (s *State) done(o *Output, end protocol.TerminalEnd, why string, ref protocol.TerminalRef) {
	t := *s.d.Terminal
	amount := t.Approved
	if t.What == protocol.Capture {
		amount = t.Final
	}
	if !ref.IsZero() {
		s.term.last = ref
	}
	s.tell(o, t.Sale, protocol.TerminalDone{Payment: t.Payment, Op: t.op(), Amount: amount, End: end, Reason: why, Ref: ref})
	s.stop(o, TimerTerminal)
	s.term.tries = 0
}

// terminalLast is T13 to T19 and T27: what the terminal's books say of what got no answer.
func (s *State) terminalLast(o *Output, in In, e TerminalLast) {
	t := s.d.Terminal
	if t == nil || t.Payment != e.Payment || t.What == 0 || !s.term.doing {
		return
	}
	s.term.doing = false
	if !e.Known && e.Never {
		o.take("T27")
		s.doubtful(o, in, "no_books")
		return
	}
	if !e.Known {
		o.take("T13")
		if s.term.tries++; s.term.tries < terminalTries {
			s.soon(o)
			return
		}
		s.doubtful(o, in, "no_books")
		return
	}
	if s.replaced() {
		s.doubtful(o, in, "other_terminal")
		return
	}
	s.term.last, s.term.tries = e.Ref, 0
	if t.Answered {
		s.afterwards(o, e)
		return
	}
	b := protocol.TerminalAnswered{Payment: t.Payment, Approved: money.New(0, t.Asked.Currency), AskedBack: true}
	switch t.ours(e) {
	case yes:
		o.take("T14")
		b.Result, b.Approved, b.Ref = protocol.TerminalApproved, e.Amount, e.Ref
		b.Brand, b.Last4, b.AID = e.Card.Brand, e.Card.Last4, e.Card.AID
		s.tell(o, t.Sale, b)
		s.act(o)
	case no:
		o.take("T15")
		b.Result, b.Reason = protocol.TerminalUnsent, "not_in_its_books"
		s.tell(o, t.Sale, b)
		s.stop(o, TimerTerminal)
	default:
		s.doubtful(o, in, "other_transaction")
	}
}

// doubtful is T16: nobody here can tell, so a person looks.
func (s *State) doubtful(o *Output, in In, why string) {
	o.take("T16")
	t := *s.d.Terminal
	if t.Answered {
		s.done(o, protocol.TerminalRefused, why, protocol.TerminalRef{})
	} else {
		s.tell(o, t.Sale, protocol.TerminalAnswered{
			Payment: t.Payment, Result: protocol.TerminalUnknown, Reason: why, Approved: money.New(0, t.Asked.Currency), AskedBack: true,
		})
	}
	s.tell(o, t.Sale, protocol.CaseOpened{Case: in.Case, Payment: t.Payment, Cause: protocol.CaseTerminalUnknown, Charged: t.Answered})
	s.stop(o, TimerTerminal)
	s.term.tries = 0
}

// afterwards is T18 and T19: what was owed has been done, or is done now.
func (s *State) afterwards(o *Output, e TerminalLast) {
	t := s.d.Terminal
	taken := e.Approved && e.Original != "" && e.Original == t.Ref.Trace
	booked := e.Hold == HoldEnded && !e.Ref.Same(t.Ref)
	switch {
	case t.What == protocol.Void && (taken || booked), t.What == protocol.Capture && booked && e.Approved && e.Amount == t.Final:
		o.take("T18")
		s.done(o, protocol.TerminalOK, "", e.Ref)
	default:
		o.take("T19")
		s.act(o)
	}
}

// closeDay is T25: only when nothing is sold or owed.
func (s *State) closeDay(o *Output, wanted bool) {
	if wanted && s.term.up && s.d.Phase == Idle && s.d.Terminal == nil && !s.term.day && !s.term.asking && !s.term.doing {
		o.take("T25")
		s.term.day = true
		o.do(TerminalClose{})
	}
}

type verdict uint8

const (
	doubt verdict = iota
	yes
	no
)

// ours says whether the last transaction in the terminal's books is a payment that got no answer. It is
// when it is the next one after what stood there before, approved, of our amount; it is not when
// nothing is newer, when the newer one was not paid, or when it was taken back meanwhile.
func (t atTerminal) ours(e TerminalLast) verdict {
	if e.Ref.IsZero() || e.Ref.Same(t.Before) {
		return no
	}
	gap, counted := 1, true
	if !t.Before.IsZero() {
		gap, counted = receipts(t.Before.Receipt, e.Ref.Receipt)
	}
	same := e.Amount == t.Asked
	switch {
	case !counted:
		return doubt
	case gap == 1 && !e.Approved:
		return no
	case gap == 1 && same && e.Original == "":
		return yes
	case gap == 2 && same && e.Approved && e.Original != "":
		return no
	}
	return doubt
}

// receipts is how many receipt numbers lie between two; they have four digits and begin anew at 1.
func receipts(before, after string) (gap int, ok bool) {
	a, err := strconv.Atoi(before)
	b, err2 := strconv.Atoi(after)
	if err != nil || err2 != nil || a < 0 || b < 0 || a > 9999 || b > 9999 {
		return 0, false
	}
	return (b - a + 9999) % 9999, true
}
