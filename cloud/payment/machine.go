package payment

import (
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Spans of a payment. The first four are from the answer's deadline backwards.
const (
	answerMargin = 1000 * time.Millisecond // answer_by is this long before the device's wait ends
	hostMargin   = 500 * time.Millisecond  // T1 ends this long before answer_by
	leastT1      = 3 * time.Second         // a shorter one is refused unsent
	writeMargin  = 3500 * time.Millisecond // before answer_by: no authorization is written later
	leaseMargin  = 2 * time.Second         // after answer_by any replica may take the row
	receivedIn   = 300 * time.Millisecond  // without an answer: say received
	releaseIn    = 24 * time.Hour          // an approval nobody settles is released
	defaultT1    = 15 * time.Second
	defaultLate  = 90 * time.Second
	retryFirst   = 2 * time.Second // of captures and reversals; doubles
	retryMost    = 2 * time.Minute
	giveUp       = 72 * time.Hour  // an operation owed longer becomes a case
	waitMost     = 2 * time.Minute // a device that claims to wait longer must not hold a row open longer
)

// step is one Step under way.
type step struct {
	p   *Payment
	now protocol.UnixMS
	out Output
}

func (s *step) cell(name string) { s.out.Cell = s.p.State.String() + "/" + name }
func (s *step) do(acts ...Act)   { s.out.Acts = append(s.out.Acts, acts...) }
func (s *step) reply(w ReplyWith) {
	s.do(Reply{With: w})
}

// Step takes one fact in. p.ID must be set, also of a row that is not there. It never fails: a fact
// that cannot be is reported and changes nothing else.
func (p Payment) Step(now protocol.UnixMS, f Fact) (Payment, Output) {
	s := &step{p: &p, now: now}
	switch f := f.(type) {
	case Asked:
		s.asked(f)
	case HostSaid:
		s.said(f)
	case HostNotSent:
		s.notSent(f)
	case HostSilent:
		s.silent(f.N)
	case QuerySaid:
		s.queried(f)
	case Due:
		s.due()
	case Outcome:
		s.outcome(f)
	case Offline:
		s.offline(f)
	case Cash:
		s.cash(f)
	case ChangeSaid:
		s.change(f)
	case TerminalAsked:
		s.terminalAsked(f)
	case TerminalSaid:
		s.terminalSaid(f)
	case TerminalEnded:
		s.terminalEnded(f)
	case Unreadable:
		s.cell("unreadable")
		s.p.Frozen = true
		s.do(Report{UnreadableOutcome}, Open{protocol.CaseIncident})
	case OpSaid:
		s.opSaid(f)
	case OpNotSent:
		s.cell("op_not_sent")
		s.again(f.Followed)
	case OpSilent:
		s.cell("op_silent")
		s.again(f.Followed)
	}
	return p, s.out
}

// asked: the column "request".
func (s *step) asked(f Asked) {
	p := s.p
	if p.State != None && (p.Device != f.Ask.Device || !p.AskHash.IsZero() && p.AskHash != f.Hash || !p.Relayed()) {
		s.out.Cell = "any/request_other"
		s.do(Report{OtherAsk}, Reply{With: ReplyOther})
		return
	}
	switch p.State {
	case None:
		s.first(f)
	case Sent, Unknown:
		if s.now >= p.LeaseUntil {
			was := p.State
			s.lapsed()
			s.out.Cell = was.String() + "/request_lapsed"
			return
		}
		s.cell("request")
		if p.State == Unknown { // what the query finds is undone
			s.reply(ReplyExpired)
			return
		}
		s.reply(ReplyReceived)
	case Approved:
		if s.now < p.AnswerBy {
			s.cell("request")
			s.reply(ReplyStored)
			return
		}
		s.cell("request_late") // the agent's own wait ends it
	case Reversing, Reversed, Expired:
		s.cell("request")
		if p.AskHash.IsZero() { // a tombstone
			p.AskHash, p.Asked = f.Hash, f.Ask.Amount
		}
		s.reply(ReplyExpired)
	case Declined, RefusedUnsent:
		if s.now < p.AnswerBy && len(p.Answer) > 0 { // none was made where nobody waited any more
			s.cell("request")
			s.reply(ReplyStored)
			return
		}
		s.cell("request_late")
		s.reply(ReplyExpired)
	case Held, Adopted, InCase, Capturing, Captured:
		s.cell("request") // no answer
	}
}

func (s *step) first(f Asked) {
	p, a := s.p, f.Ask
	p.Sale, p.Device, p.Tenant, p.Lane, p.Class = a.Sale, a.Device, f.Tenant, a.Lane, a.Class
	p.AskHash, p.Purpose, p.Entry, p.Asked = f.Hash, a.Purpose, a.Tap.Entry, a.Amount
	p.Profile, p.Received = f.Route.Profile, f.Received
	if a.AuthorizedBy == protocol.ByClosedLoop {
		p.By = protocol.ByClosedLoop
	}
	if len(a.Tap.LocalTime) == 14 {
		p.Local = a.Tap.LocalTime[4:]
	}
	wait := min(time.Duration(a.WaitMS)*time.Millisecond, waitMost)
	p.AnswerBy = min(f.Made, f.Received).Add(wait - answerMargin)
	p.LeaseUntil = p.AnswerBy.Add(leaseMargin)
	t1 := min(s.now.Add(orSpan(p.Profile.T1MS, defaultT1)), p.AnswerBy.Add(-hostMargin))
	refuse := f.Refuse
	switch {
	case refuse != 0:
	case a.Class != protocol.Live:
		refuse = protocol.NotAllowed
	case t1.Sub(s.now) < leastT1:
		refuse = protocol.NoTime
	}
	if refuse != 0 {
		s.cell("request_refused")
		s.refuse(refuse)
		return
	}
	s.cell("request")
	p.State = Sent
	s.authorize(f.Route, t1)
	s.do(Wake{At: s.now.Add(receivedIn)})
}

func (s *step) refuse(code protocol.Code) {
	s.p.State = RefusedUnsent
	s.do(Reply{With: ReplyNew, Result: protocol.RefusedUnsent, Code: code})
}

// authorize inserts the next authorization.
func (s *step) authorize(r Route, t1 protocol.UnixMS) {
	p := s.p
	p.AuthN++
	p.WriteBy = p.AnswerBy.Add(-writeMargin)
	s.do(Insert{Kind: acquirer.Authorization, N: p.AuthN, Route: r, Amount: p.Asked, WriteBy: p.WriteBy, AnswerBy: t1})
}

// said: the columns "host approved in time", "approved late, mismatch" and "declined".
func (s *step) said(f HostSaid) {
	s.do(Close{Kind: acquirer.Authorization, N: f.N})
	switch f.Answer.Outcome {
	case acquirer.OK, acquirer.PartialOK:
		s.approved(f)
	case acquirer.No:
		s.declined(f)
	default: // a mismatch, or an answer that fits no request: something may stand at the host
		s.late(f, "mismatch")
	}
}

func (s *step) approved(f HostSaid) {
	p, a := s.p, f.Answer
	if p.State == Approved || p.State == Capturing || p.State == Captured {
		if f.N == p.ApprovedN {
			s.cell("approved") // a repeat
			return
		}
		s.late(f, "late")
		return
	}
	if p.State != Sent || f.N != p.AuthN {
		s.late(f, "late")
		return
	}
	if p.Purpose == protocol.MaxHold && a.Approved.Minor > p.Asked.Minor {
		a.Approved.Minor = p.Asked.Minor // a hold may be larger; what we may take of it is not
	}
	over := a.Approved.Currency != p.Asked.Currency || a.Approved.Minor <= 0 || a.Approved.Minor > p.Asked.Minor
	switch {
	case over:
		s.late(f, "mismatch")
	case p.VoidFlag != 0:
		s.cell("approved_void_flag")
		s.heard(f)
		s.undo(s.voidReason(p.VoidFlag))
	case s.now >= p.AnswerBy:
		s.late(f, "late")
	default:
		s.cell("approved")
		s.heard(f)
		p.State, p.Approved, p.ApprovedN = Approved, a.Approved, f.N
		p.ReleaseAt, p.Booked = s.now.Add(releaseIn), true
		s.do(Move{s.about().Approved(p.flow(), s.auth(f.N), p.Approved)})
		result := protocol.Approved
		if p.Approved.Minor < p.Asked.Minor {
			result = protocol.Partial
		}
		s.do(Reply{With: ReplyNew, Result: result, ICC: a.ICC})
	}
}

// heard keeps what the host gave and approved, for what follows authorization N. What another
// authorization of the payment was given stays: its reversal must not carry these.
func (s *step) heard(f HostSaid) {
	p, a := s.p, f.Answer
	if p.ApprovedN != 0 && p.ApprovedN != f.N {
		return
	}
	if a.RRN != "" {
		p.RRN = a.RRN
	}
	if a.AuthID != "" {
		p.AuthID = a.AuthID
	}
	approved := a.Outcome == acquirer.OK || a.Outcome == acquirer.PartialOK
	if approved && a.Approved.Currency == p.Asked.Currency && a.Approved.Minor > 0 && a.Approved.Minor <= p.Asked.Minor {
		p.Approved, p.ApprovedN = a.Approved, f.N
	}
}

// late: an approval that must not be believed any more, or that is not ours.
func (s *step) late(f HostSaid, name string) {
	p := s.p
	switch p.State {
	case Sent, Unknown:
		s.cell(name)
		s.heard(f)
		if f.N != p.AuthN {
			s.reverse(f.N, "68")
		}
		s.expire("68")
	case Reversing:
		s.cell(name)
		s.heard(f)
		s.do(Refresh{N: f.N})
		if p.Undone&(1<<f.N) == 0 {
			s.reverse(f.N, "68")
		}
	case Reversed, Expired, Declined, RefusedUnsent:
		s.cell(name)
		s.heard(f)
		s.do(Report{LateApproval})
		p.State = Reversing
		s.reverse(f.N, "68")
	case Held, Adopted, InCase:
		s.cell(name)
		s.do(Report{LateApproval})
	case Approved, Capturing, Captured:
		s.cell(name)
		if f.N == p.ApprovedN {
			s.do(Report{ContraryAnswer})
			return
		}
		s.do(Report{LateApproval}) // of an attempt that had not been sent, we thought
		if p.Undone&(1<<f.N) == 0 {
			s.reverse(f.N, "68")
		}
	case None:
		s.out.Cell = "none/answer"
		s.do(Report{HostAnswerUnmatched})
	}
}

func (s *step) declined(f HostSaid) {
	p := s.p
	switch p.State {
	case Sent:
		if f.N != p.AuthN {
			s.cell("declined_older")
			return
		}
		s.cell("declined")
		p.State = Declined
		s.do(Reply{With: ReplyNew, Result: protocol.Declined, Code: f.Answer.Class})
	case Approved:
		s.cell("declined")
		s.do(Report{ContraryAnswer})
	case None:
		s.out.Cell = "none/answer"
		s.do(Report{HostAnswerUnmatched})
	case Reversing:
		s.cell("declined") // repeated until its 0430 all the same
	case Held, Adopted, InCase:
		s.cell("declined")
		s.do(Report{ContraryAnswer})
	default:
		s.cell("declined")
	}
}

// notSent: the column ErrNotSent of an authorization.
func (s *step) notSent(f HostNotSent) {
	p := s.p
	if p.State != Sent || f.N != p.AuthN {
		s.cell("not_sent_stale")
		s.do(Close{Kind: acquirer.Authorization, N: f.N, Dead: true})
		return
	}
	s.do(Close{Kind: acquirer.Authorization, N: f.N, Dead: true})
	if p.VoidFlag != 0 {
		s.cell("not_sent_void_flag")
		p.State = RefusedUnsent // nobody waits for an answer
		return
	}
	if f.Next != nil {
		t1 := min(s.now.Add(orSpan(f.Next.Profile.T1MS, defaultT1)), p.AnswerBy.Add(-hostMargin))
		if t1.Sub(s.now) >= leastT1 && s.now < p.AnswerBy.Add(-writeMargin) && p.AuthN < 15 {
			s.cell("not_sent_next")
			p.Profile = f.Next.Profile
			s.authorize(*f.Next, t1)
			return
		}
	}
	s.cell("not_sent")
	s.refuse(protocol.AcquirerDown)
}

// silent: the column "T1, answer_by or lease over".
func (s *step) silent(n uint8) {
	if s.p.State != Sent || n != s.p.AuthN {
		s.cell("silent_stale")
		s.do(Close{Kind: acquirer.Authorization, N: n, Dead: true})
		return
	}
	s.lapsed()
	s.out.Cell = "sent/silent"
}

// lapsed: nobody knows what the host did. Ask it where it can be asked, else undo it.
func (s *step) lapsed() {
	p := s.p
	if p.State == Sent && p.Profile.CanQuery {
		s.do(Close{Kind: acquirer.Authorization, N: p.AuthN, Dead: true})
		p.State = Unknown
		p.LeaseUntil = s.now.Add(orSpan(p.Profile.T1MS, defaultT1) + leaseMargin)
		s.do(Query{N: p.AuthN}, Reply{With: ReplyExpired})
		return
	}
	s.do(Close{Kind: acquirer.Authorization, N: p.AuthN, Dead: true})
	s.expire("68")
}

// queried: an approval that the query finds is undone, for its answer_by is over; that nothing
// stands is no proof, for the request may still be on its way.
func (s *step) queried(f QuerySaid) {
	if s.p.State != Unknown || f.N != s.p.AuthN {
		s.cell("query_stale")
		return
	}
	s.cell("query")
	if f.Known {
		s.heard(HostSaid{N: f.N, Answer: f.Answer})
		if f.Answer.Outcome == acquirer.No {
			s.p.State = Declined
			return
		}
	}
	s.p.State = Sent
	s.expire("68")
	s.out.Cell = "unknown/query"
}

// expire leaves sent (through unknown) for reversing, in one transaction, and says so once.
func (s *step) expire(reason string) {
	switch {
	case s.p.VoidFlag != 0:
		reason = s.voidReason(s.p.VoidFlag)
	case len(s.p.Gone) == 0: // not said yet
		s.reply(ReplyExpired)
	}
	s.p.State = Reversing
	s.reverse(s.p.AuthN, reason)
}

// undo reverses what was approved. The booked hold ends.
func (s *step) undo(reason string) {
	p := s.p
	if p.Booked {
		p.Booked = false
		if p.flow() == ledger.Single {
			p.Owing = p.Approved
		}
		s.do(Move{s.about().Undone(p.flow(), s.auth(p.ApprovedN), p.Approved)})
	}
	n := p.ApprovedN
	if n == 0 {
		n = p.AuthN
	}
	p.State = Reversing
	s.reverse(n, reason)
}

// reverse owes the reversal of authorization n, again if it was answered before.
func (s *step) reverse(n uint8, reason string) {
	p := s.p
	p.Undoing |= 1 << n
	if p.Undone&(1<<n) != 0 {
		s.do(Retry{Kind: acquirer.Reversal, N: n, At: s.now})
		return
	}
	p.Undone |= 1 << n
	amount := p.Asked
	if p.Profile.ReversalAmount == "approved" && n == p.ApprovedN {
		amount = p.Approved
	}
	s.do(Insert{Kind: acquirer.Reversal, N: n, Of: n, Amount: amount, Reason: reason})
}

// due: time went by.
func (s *step) due() {
	p := s.p
	switch {
	case p.State == Sent && s.now >= p.LeaseUntil:
		s.lapsed()
		s.out.Cell = "sent/lease_over"
	case p.State == Sent:
		s.cell("received")
		s.reply(ReplyReceived)
	case p.State == Unknown && s.now >= p.LeaseUntil: // the query's replica died
		p.State = Sent
		s.expire("68")
		s.out.Cell = "unknown/lease_over"
	case p.State == Approved && !p.Frozen && s.now >= p.ReleaseAt:
		s.cell("release")
		s.do(Report{NoOutcome})
		s.undo("68")
	default:
		s.cell("due_stale")
	}
}

// again repeats a capture or reversal later, unless another answer of it has come meanwhile.
func (s *step) again(f Followed) {
	open := s.p.State == Capturing
	if f.Kind == acquirer.Reversal {
		open = s.undoing(f.N)
	}
	if !open {
		s.do(Close{Kind: f.Kind, N: f.N, Dead: s.p.State == InCase})
		return
	}
	s.retry(f, s.now.Add(backoff(f.Tries)))
}

// retry owes an operation again, or gives it up to a person when it was owed too long.
func (s *step) retry(f Followed, at protocol.UnixMS) {
	if f.Owed == 0 || s.now.Sub(f.Owed) < giveUp {
		s.do(Retry{Kind: f.Kind, N: f.N, At: at})
		return
	}
	s.cell("dead")
	s.do(Close{Kind: f.Kind, N: f.N, Dead: true})
	s.failed(f)
}

// failed gives an operation up to a person. The reversal of an attempt that is not the one that
// counts leaves that one alone.
func (s *step) failed(f Followed) {
	p := s.p
	cause := protocol.CaseReversalFailed
	switch f.Kind {
	case acquirer.Reversal:
		if p.Undoing &^= 1 << f.N; p.State == Reversing {
			p.State = InCase
		}
	case acquirer.PartialReversal: // what waits for it is not sent any more
		p.State = InCase
		s.do(Close{Kind: acquirer.Capture, N: 1, Dead: true})
	default:
		p.State, cause = InCase, protocol.CaseLatePresentment
	}
	s.do(Open{cause})
}

// undoing reports a reversal of authorization n that is not answered yet.
func (s *step) undoing(n uint8) bool { return s.p.Undoing&(1<<n) != 0 }

func backoff(tries uint8) time.Duration {
	d := retryFirst
	for range min(int(max(tries, 1))-1, 8) {
		d *= 2
	}
	return min(d, retryMost)
}

func (s *step) auth(n uint8) string {
	return source(acquirer.OpKey{Payment: s.p.ID, Kind: acquirer.Authorization, N: n})
}

func (s *step) source(f Followed) string {
	return source(acquirer.OpKey{Payment: s.p.ID, Kind: f.Kind, N: f.N})
}

func (s *step) about() ledger.About {
	a := ledger.About{Tenant: s.p.Tenant, Payment: s.p.ID, Device: s.p.Device, Day: s.now.Time().Format("20060102")}
	if s.p.By == protocol.ByClosedLoop {
		a.Owing = ledger.StoredValue
	}
	return a
}

// voidReason is DE39 of a reversal for the reason a device voided by.
func (s *step) voidReason(r protocol.Reason) string {
	switch r {
	case protocol.Canceled, protocol.ReasonPartial, protocol.NoPurchase:
		return "17"
	case protocol.VendFailed, protocol.VendUnknown, protocol.VendGone:
		return "22"
	case protocol.CardRemoved, protocol.CardRefused:
		return "21"
	case protocol.Tampered:
		return "34"
	default: // no answer
		return "68"
	}
}

func orSpan(ms int64, def time.Duration) time.Duration {
	if ms <= 0 {
		return def
	}
	return time.Duration(ms) * time.Millisecond
}

func less(a, b money.Amount) money.Amount { return money.New(a.Minor-b.Minor, a.Currency) }
