package payment

import (
	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/protocol"
)

// outcome: the columns "outcome capture(c)" and "outcome void". The second copy of a record is a
// repeat in every state; a second record is a fork.
func (s *step) outcome(f Outcome) {
	p := s.p
	name := f.What.String()
	if p.State != None && p.Device != f.Device {
		s.out.Cell = "any/foreign_device"
		s.do(Report{ForeignDevice}, Judge{Verdict{Quarantined, protocol.QuarantineContradiction}})
		return
	}
	if !p.Outcome.Hash.IsZero() {
		if p.Outcome == f.Position {
			s.cell(name + "_repeat")
			s.do(Judge{p.Said})
			return
		}
		s.cell(name + "_fork")
		s.do(Report{OutcomeFork}, Judge{Verdict{Quarantined, protocol.QuarantineContradiction}})
		return
	}
	p.Outcome = f.Position
	switch {
	case p.By == protocol.ByCash:
		s.cashOutcome(f)
	case p.By == protocol.ByTerminal:
		s.terminalOutcome(f)
	case f.What == protocol.Void:
		s.void(f)
	default:
		s.capture(f)
	}
}

// judge is said about the outcome's record, now and whenever it comes again.
func (s *step) judge(d RecordDisposition, q protocol.Quarantine) {
	s.p.Said = Verdict{d, q}
	s.do(Judge{s.p.Said})
}

// offline payments are not built yet: the row keeps their outcome out of the cloud too.
func (s *step) offline(f Offline) {
	p := s.p
	s.cell("offline")
	if p.State == None {
		p.Device, p.Sale, p.Tenant, p.Asked = f.Device, f.Sale, f.Tenant, f.Amount
		p.State = Held
	}
	s.do(Report{OfflineRefused}, Judge{Verdict{Quarantined, protocol.OfflineNotYet}})
}

func (s *step) void(f Outcome) {
	p := s.p
	switch p.State {
	case None: // a tombstone: the request, should it come, is answered expired
		s.cell("void")
		p.Device, p.Sale, p.Tenant = f.Device, f.Sale, f.Tenant
		p.State, p.Cause = Expired, protocol.VoidFirst
		s.judge(NoMoney, 0)
	case Sent, Unknown:
		s.cell("void")
		p.VoidFlag = max(f.Reason, protocol.NoAnswer) // never 0, whatever the record says
		s.judge(Posted, 0)
	case Approved:
		s.cell("void")
		s.judge(Posted, 0)
		s.undo(s.voidReason(f.Reason))
	case Held:
		s.cell("void")
		s.judge(Quarantined, protocol.OfflineNotYet)
	case InCase, Adopted:
		s.cell("void")
		s.judge(Quarantined, protocol.QuarantineCase)
	default: // reversing, reversed, expired, declined, refused: nothing stands
		s.cell("void")
		s.judge(NoMoney, 0)
	}
}

func (s *step) capture(f Outcome) {
	p := s.p
	switch p.State {
	case None:
		s.cell("capture")
		p.Device, p.Sale, p.Tenant = f.Device, f.Sale, f.Tenant
		p.State = InCase
		s.do(Open{protocol.CaseUnseen})
		s.judge(Quarantined, protocol.QuarantineCase)
	case Sent, Unknown:
		s.cell("capture")
		p.Frozen = true
		s.do(Report{CaptureUnanswered}, Open{protocol.CaseIncident})
		s.judge(Quarantined, protocol.QuarantineContradiction)
	case Approved:
		s.settle(f)
	case Reversing, Reversed, Expired:
		s.cell("capture")
		src, loss := record(f.Position), f.Amount
		if loss.Minor > p.Asked.Minor || loss.Currency != p.Asked.Currency {
			loss = p.Asked
		}
		s.do(Move{s.about().ExpiredDelivered(ledger.ByOperator, src, loss)},
			Dispose{What: protocol.DispExpired, Amount: loss, Cause: protocol.ExpiredDelivered})
		s.judge(RecordExpired, 0)
	case Declined, RefusedUnsent:
		s.cell("capture")
		s.do(Report{CaptureUnanswered}, Open{protocol.CaseIncident})
		s.judge(Quarantined, protocol.QuarantineContradiction)
	case Held:
		s.cell("capture")
		s.judge(Quarantined, protocol.OfflineNotYet)
	default: // in a case, or settled by an offline payment
		s.cell("capture")
		s.judge(Quarantined, protocol.QuarantineCase)
	}
}

// settle captures c of an approved payment by its profile's flow.
func (s *step) settle(f Outcome) {
	p, c := s.p, f.Amount
	switch {
	case f.Second:
		s.cell("capture_second")
		p.Frozen = true
		s.do(Report{SecondCapture}, Open{protocol.CaseIncident})
		s.judge(Quarantined, protocol.QuarantineContradiction)
		return
	case c.Currency != p.Approved.Currency || c.Minor <= 0 || c.Minor > p.Approved.Minor:
		s.cell("capture_over")
		p.Frozen = true
		s.do(Open{protocol.CaseOverApproved})
		s.judge(Quarantined, protocol.QuarantineOverApproved)
		return
	}
	s.cell("capture")
	p.State, p.Captured, p.Booked = Capturing, c, false
	n := p.ApprovedN
	partial := Insert{Kind: acquirer.PartialReversal, N: 1, Of: n, Amount: p.Asked, Actual: c, Reason: "32"}
	capture := Insert{Kind: acquirer.Capture, N: 1, Of: n, Amount: c, Reason: "00"}
	src := s.source(Followed{Kind: acquirer.Capture, N: 1})
	s.do(Move{s.about().Captured(p.flow(), s.auth(n), src, p.Approved, c)})
	switch full := c == p.Approved; {
	case p.Profile.Flow == acquirer.Single && full:
		p.State = Captured
	case p.Profile.Flow == acquirer.Single:
		p.Owing = less(p.Approved, c)
		s.do(partial)
	case p.Profile.Flow == acquirer.DualPartial && !full:
		capture.Waits = true
		s.do(partial, capture)
	default:
		s.do(capture)
	}
	s.judge(Posted, 0)
}

// opSaid: the columns "0230 ok / refused" and "0430 (00, 25)".
func (s *step) opSaid(f OpSaid) {
	switch f.Kind {
	case acquirer.Capture:
		s.captureSaid(f)
	case acquirer.Reversal:
		s.reversalSaid(f)
	case acquirer.PartialReversal:
		s.partialSaid(f)
	default: // refunds are not built yet
		s.cell("op_unknown")
		s.do(Report{HostAnswerUnmatched})
	}
}

func (s *step) captureSaid(f OpSaid) {
	p := s.p
	switch {
	case p.State == InCase:
		s.cell("0230")
		s.do(Close{Kind: f.Kind, N: f.N}, Report{ContraryAnswer})
	case p.State != Capturing:
		s.cell("0230") // a repeat
		s.do(Close{Kind: f.Kind, N: f.N})
	case f.Answer.Outcome == acquirer.OK:
		s.cell("0230_ok")
		p.State = Captured
		s.do(Close{Kind: f.Kind, N: f.N})
		if p.By != protocol.ByClosedLoop { // there the account posted it, in the commit that took it off the card
			s.do(Move{s.about().Confirmed(s.source(f.Followed), p.Captured)})
		}
	case f.Answer.Outcome == acquirer.Later || f.Answer.Outcome == acquirer.Mismatch:
		s.cell("0230_later")
		s.again(f.Followed)
	default:
		s.cell("0230_refused")
		p.State = InCase
		s.do(Close{Kind: f.Kind, N: f.N}, Move{s.about().CaptureRefused(s.source(f.Followed), p.Captured)},
			Open{protocol.CaseLatePresentment})
	}
}

func (s *step) reversalSaid(f OpSaid) {
	p := s.p
	if !s.undoing(f.N) { // a repeat, or one that a person has
		s.cell("0430")
		s.do(Close{Kind: f.Kind, N: f.N})
		if p.State == InCase {
			s.do(Report{ContraryAnswer})
		}
		return
	}
	after := p.WriteBy.Add(orSpan(p.Profile.LateWindowMS, defaultLate))
	switch o := f.Answer.Outcome; {
	case o == acquirer.NotFound && s.now < after:
		s.cell("0430_early") // the host may get the authorization after its reversal
		s.retry(f.Followed, after)
	case o == acquirer.OK || o == acquirer.NotFound:
		s.cell("0430_done")
		if o == acquirer.NotFound {
			s.do(Report{NotFoundAtHost})
		}
		s.do(Close{Kind: f.Kind, N: f.N})
		if p.Owing.Minor > 0 {
			s.do(Move{s.about().Reversed(p.flow(), s.source(f.Followed), p.Owing)})
			p.Owing.Minor = 0
		}
		if p.Undoing &^= 1 << f.N; p.Undoing == 0 && p.State == Reversing {
			p.State = Reversed
		}
	case o == acquirer.Later || o == acquirer.Mismatch:
		s.cell("0430_later")
		s.retry(f.Followed, s.now.Add(backoff(f.Tries)))
	default:
		s.cell("0430_refused")
		s.do(Close{Kind: f.Kind, N: f.N})
		s.failed(f.Followed)
	}
}

// partialSaid: the answer to an 0420 with DE95, which brings a hold (dual_partial) or a purchase
// (single) down to what was delivered.
func (s *step) partialSaid(f OpSaid) {
	p := s.p
	if p.State != Capturing {
		s.cell("0430_partial")
		s.do(Close{Kind: f.Kind, N: f.N})
		return
	}
	switch f.Answer.Outcome {
	case acquirer.OK:
		s.cell("0430_partial_done")
		s.do(Close{Kind: f.Kind, N: f.N})
		if p.Profile.Flow == acquirer.Single {
			s.do(Move{s.about().Reversed(p.flow(), s.source(f.Followed), p.Owing)})
			p.State, p.Owing.Minor = Captured, 0
			return
		}
		s.do(Retry{Kind: acquirer.Capture, N: 1, At: s.now})
	case acquirer.Later, acquirer.Mismatch:
		s.cell("0430_partial_later")
		s.again(f.Followed)
	default:
		s.cell("0430_partial_refused")
		s.do(Close{Kind: f.Kind, N: f.N})
		s.failed(f.Followed)
	}
}
