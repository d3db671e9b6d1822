package session

import (
	"coinop/protocol"
)

// session is a card-first session between two vends.
func (s *State) session(o *Output, in In) {
	settle := func(row string) {
		o.take(row)
		s.settle(o, in, protocol.NoPurchase)
	}
	switch e := in.Event.(type) {
	case VendRequest:
		s.selected(o, e)
	case SessionComplete:
		s.owes = false // the controller has given up what it asked; 07 is the answer to 13 04
		settle("C13")
		s.end(o)
	case Timer:
		if e.Name == TimerSession {
			settle("C13")
			s.deny(o)
			s.end(o)
		}
	case VendCancel:
		if s.owes { // it took back an approval that never was on the wire: 06, once
			o.take("C17")
			s.deny(o)
		}
	case BusReset, PortGone:
		settle("C14")
	case Booted:
		settle("C15")
		s.end(o)
	}
}

// selected is C11 and C12: a selection within what is left of the hold.
func (s *State) selected(o *Output, e VendRequest) {
	spent, _ := s.d.sum(func(v vend) bool { return v.Result == protocol.Delivered })
	left, err := s.d.Approved.Sub(spent)
	enough := false
	if err == nil {
		c, err := e.Price.Cmp(left)
		enough = err == nil && c <= 0 && e.Price.Minor > 0
	}
	used := e.Vend.IsZero() || s.d.vend(e.Vend) != nil || s.d.closed(e.Vend)
	if e.Bad != "" || !enough || used {
		o.take("C12")
		s.deny(o)
		return
	}
	o.take("C11")
	s.stop(o, TimerSession)
	s.request = e.Bus
	s.startVend(o, e.Vend, e.Item, e.Price, len(s.d.Lines))
}

// ended writes the result of the live vend and goes on to the next item, or settles.
func (s *State) ended(o *Output, in In, b protocol.VendResult, more, end, card string) {
	s.stop(o, TimerVend)
	s.put(o, b)
	switch {
	case s.d.Flow == protocol.CardFirst:
		o.take(card)
		s.start(o, TimerSession, s.policy.Session())
	case len(s.d.Vends) < len(s.d.Items) && !(b.Result == protocol.Failed && s.policy.StopOnFailure):
		o.take(more)
		s.vendNext(o)
	default:
		o.take(end)
		s.settle(o, in, protocol.VendFailed)
	}
}

func (s *State) vending(o *Output, now protocol.Reading, in In) {
	first := s.d.Flow == protocol.CardFirst
	v := *s.d.last()
	mine := func(id protocol.VendID) bool { return id.IsZero() || id == v.ID }
	moved := func(why protocol.VendReason) {
		r, row := protocol.Unknown, pick(first, "C22", "S27")
		if v.Hint == protocol.HintAcked {
			r, row = protocol.Presumed, pick(first, "C21", "S26")
		}
		o.take(row)
		s.doubt(o, in, r, why)
	}
	lost := func(why protocol.VendReason) {
		o.take(pick(first, "C23", "S28"))
		o.do(DenyVend{s.request})
		s.doubt(o, in, protocol.Unknown, why)
	}
	switch e := in.Event.(type) {
	case Approval:
		if e.Vend == v.ID && v.Hint != protocol.HintAcked {
			s.approved(o, in, e.How)
		}
	case VendSuccess:
		switch {
		case !mine(e.Vend):
		case e.Grade < s.policy.Grade():
			lost(protocol.VendLowGrade)
		default:
			s.ended(o, in, protocol.VendResult{Vend: v.ID, Result: protocol.Delivered, Grade: e.Grade}, "S22", "S24", "C19")
		}
	case VendFailure:
		if mine(e.Vend) {
			s.ended(o, in, protocol.VendResult{Vend: v.ID, Result: protocol.Failed, Reason: protocol.VendReportedFailed}, "S23", "S25", "C20")
		}
	case BusReset:
		moved(protocol.VendBusReset)
	case SessionComplete:
		moved(protocol.VendSessionComplete)
		s.end(o) // 07, or 0B: nothing is vended on this session any more
	case VendCancel:
		moved(protocol.VendCanceledByBus)
		s.end(o) // 0B
	case VendRequest:
		if first {
			s.deny(o) // before an EndSession
		}
		moved(protocol.VendNewRequest)
		s.next(o, now, in)
	case Timer:
		if e.Name == TimerVend {
			lost(protocol.VendTimeout)
		}
	case PortGone:
		lost(protocol.VendPortGone)
	case Booted:
		o.take(pick(first, "C24", "S31"))
		s.doubt(o, in, protocol.Unknown, protocol.VendRestart)
	case Cancel:
		o.take("S30")
	}
}

// next answers the request that ended a vend, S35: 06 while the lane waits for evidence; with no
// wait the sale is closed, and the request is an order of its own.
func (s *State) next(o *Output, now protocol.Reading, in In) {
	o.take("S35")
	if s.d.Phase == Idle && s.cfg.Flow == protocol.SelectionFirst {
		s.idle(o, now, in)
		return
	}
	s.deny(o)
}

// approved is the end of the live vend's approval.
func (s *State) approved(o *Output, in In, how Delivery) {
	v := *s.d.last()
	s.queued = false
	if how != ApprovalWithdrawn {
		s.hint(o, how)
		return
	}
	if v.Hint != protocol.HintNone {
		return // it was on the wire: evidence decides
	}
	s.owes = !s.request.IsZero() && s.request == s.heard // asked, and not answered after all
	s.ended(o, in, protocol.VendResult{Vend: v.ID, Result: protocol.Failed, Reason: protocol.NeverDelivered}, "S23", "S25", "C17")
}

// hint writes how far the approval came, if that is news.
func (s *State) hint(o *Output, how Delivery) {
	v, h := *s.d.last(), protocol.HintAcked
	if how == ApprovalMaybe {
		h = protocol.HintSent
	}
	if h > v.Hint {
		o.take(pick(s.d.Flow == protocol.CardFirst && s.d.Phase != InEvidence, "C16", "S21"))
		s.put(o, protocol.AckHint{Vend: v.ID, Hint: h})
	}
}

func (s *State) inEvidence(o *Output, in In) {
	first := s.d.Flow == protocol.CardFirst
	v := *s.d.last()
	resolve := func(r protocol.VendOutcome, g protocol.Grade, src protocol.Source) {
		if r == protocol.Delivered && g < s.policy.Grade() {
			return
		}
		o.take(pick(first, "C25", "S32"))
		s.put(o, protocol.VendResolved{Vend: v.ID, Result: r, Grade: g, Source: src})
		s.settle(o, in, protocol.VendFailed)
		s.end(o)
	}
	mine := func(id protocol.VendID) bool { return id.IsZero() || id == v.ID }
	switch e := in.Event.(type) {
	case VendSuccess:
		if mine(e.Vend) {
			resolve(protocol.Delivered, e.Grade, protocol.SourceBus)
		}
	case VendFailure:
		if mine(e.Vend) {
			resolve(protocol.Failed, protocol.GradeNone, protocol.SourceBus)
		}
	case Evidence:
		switch {
		case e.Vend != v.ID:
		case s.queued && e.Result == protocol.Failed:
			s.held = &e // believed only after the approval's end was reported
		default:
			resolve(e.Result, e.Grade, e.Source)
		}
	case Approval:
		if e.Vend != v.ID {
			return
		}
		s.queued = false
		if e.How == ApprovalWithdrawn && v.Hint == protocol.HintNone {
			o.take("S21")
			resolve(protocol.Failed, protocol.GradeNone, protocol.SourceBus)
			return
		}
		if e.How != ApprovalWithdrawn {
			s.hint(o, e.How)
		}
		if h := s.held; h != nil {
			s.held = nil
			resolve(h.Result, h.Grade, h.Source)
		}
	case Timer:
		if e.Name == TimerEvidence {
			s.over(o, in)
		}
	case Booted:
		o.take(pick(first, "C27", "S36"))
		s.evidence(o, in, true)
	case VendRequest:
		s.next(o, protocol.Reading{}, in)
	}
}
