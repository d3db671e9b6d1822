package session

import (
	"coinop/protocol"
)

func (s *State) session(o *Output, in In) {
	switch e := in.Event.(type) {
	case VendRequest:
		s.d.Bus = e.Bus
		left := s.d.Approved
		for _, v := range s.d.Vends {
			if v.Result == protocol.Delivered {
				left.Minor -= v.Amount.Minor
			}
		}
		if c, err := e.Price.Cmp(left); e.Bad != "" || err != nil || c > 0 || e.Price.Minor <= 0 {
			o.row = "C12"
			s.deny(o)
			return
		}
		o.row = "C11"
		s.stop(o, TimerSession)
		s.startVend(o, e.Vend, e.Item, e.Price, len(s.d.Lines))
	case SessionComplete, Timer:
		o.row = "C13"
		s.settle(o, in, protocol.NoPurchase)
		o.do(EndSession{})
	case VendCancel:
		s.withdrawn(o)
	case BusReset, PortGone:
		o.row = "C14"
		s.settle(o, in, protocol.NoPurchase)
	case Booted:
		o.row = "C15"
		s.settle(o, in, protocol.NoPurchase)
		o.do(EndSession{})
	}
}

// ended writes the result of the live vend and goes on to the next item, or settles.
func (s *State) ended(o *Output, in In, b protocol.VendResult, more, end, card string) {
	s.stop(o, TimerVend)
	s.put(o, b)
	switch {
	case s.d.Flow == protocol.CardFirst:
		o.row = card
		s.start(o, TimerSession, s.policy.Session())
	case len(s.d.Vends) < len(s.d.Items) && !(b.Result == protocol.Failed && s.policy.StopOnFailure):
		o.row = more
		s.vendNext(o)
	default:
		o.row = end
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
		o.row = row
		s.doubt(o, in, r, why)
	}
	lost := func(why protocol.VendReason) {
		o.row = pick(first, "C23", "S28")
		o.do(DenyVend{})
		s.doubt(o, in, protocol.Unknown, why)
	}
	switch e := in.Event.(type) {
	case Approval:
		if e.Vend != v.ID || v.Hint == protocol.HintAcked {
			return
		}
		s.queued = false
		switch e.How {
		case ApprovalWithdrawn:
			if v.Hint != protocol.HintNone {
				return // it was on the wire: evidence decides
			}
			s.owes = s.cfg.Bus == protocol.BusMDB
			s.ended(o, in, protocol.VendResult{Vend: v.ID, Result: protocol.Failed, Reason: protocol.NeverDelivered}, "S23", "S25", "C17")
		case ApprovalDelivered, ApprovalMaybe:
			h := protocol.HintAcked
			if e.How == ApprovalMaybe {
				h = protocol.HintSent
			}
			if h > v.Hint {
				o.row = pick(first, "C16", "S21")
				s.put(o, protocol.AckHint{Vend: v.ID, Hint: h})
			}
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
	case VendCancel:
		moved(protocol.VendCanceledByBus)
	case VendRequest:
		moved(protocol.VendNewRequest)
		if s.d.Phase != Idle || first {
			s.d.Bus = e.Bus
			s.deny(o)
			return
		}
		s.idle(o, now, in) // S35: a fresh order after the sale is closed
		o.row = "S27"
		if v.Hint == protocol.HintAcked {
			o.row = "S26"
		}
	case Timer:
		lost(protocol.VendTimeout)
	case PortGone:
		lost(protocol.VendPortGone)
	case Booted:
		o.row = pick(first, "C24", "S31")
		s.doubt(o, in, protocol.Unknown, protocol.VendRestart)
	case Cancel:
		o.row = "S30"
	}
}

func (s *State) inEvidence(o *Output, in In) {
	first := s.d.Flow == protocol.CardFirst
	v := *s.d.last()
	resolve := func(id protocol.VendID, r protocol.VendOutcome, g protocol.Grade, src protocol.Source) {
		if !id.IsZero() && id != v.ID || r == protocol.Delivered && g < s.policy.Grade() {
			return
		}
		o.row = pick(first, "C25", "S32")
		s.put(o, protocol.VendResolved{Vend: v.ID, Result: r, Grade: g, Source: src})
		s.settle(o, in, protocol.VendFailed)
		if first {
			o.do(EndSession{})
		}
	}
	switch e := in.Event.(type) {
	case VendSuccess:
		resolve(e.Vend, protocol.Delivered, e.Grade, protocol.SourceBus)
	case VendFailure:
		resolve(e.Vend, protocol.Failed, protocol.GradeNone, protocol.SourceBus)
	case Evidence:
		if s.queued && e.Result == protocol.Failed && e.Vend == v.ID {
			s.held = &e // believed only after the approval's end was reported
			return
		}
		resolve(e.Vend, e.Result, e.Grade, e.Source)
	case Approval:
		if e.Vend != v.ID {
			return
		}
		s.queued = false
		defer func() {
			if h := s.held; h != nil && s.d.Phase == InEvidence {
				s.held = nil
				resolve(h.Vend, h.Result, h.Grade, h.Source)
			}
		}()
		switch {
		case e.How == ApprovalWithdrawn && v.Hint == protocol.HintNone:
			resolve(e.Vend, protocol.Failed, protocol.GradeNone, protocol.SourceBus)
		case e.How == ApprovalDelivered && v.Hint < protocol.HintAcked:
			o.row = "S21"
			s.put(o, protocol.AckHint{Vend: v.ID, Hint: protocol.HintAcked})
		case e.How == ApprovalMaybe && v.Hint == protocol.HintNone:
			o.row = "S21"
			s.put(o, protocol.AckHint{Vend: v.ID, Hint: protocol.HintSent})
		}
	case Timer:
		if e.Name == TimerEvidence {
			o.row = pick(first, "C26", "S33")
			s.over(o, in)
		}
	case Booted:
		o.row, s.restart = pick(first, "C27", "S36"), true
		o.do(Resume{v.ID})
		s.evidence(o, in)
	case VendRequest:
		o.row, s.d.Bus = "S35", e.Bus
		s.deny(o)
	}
}
