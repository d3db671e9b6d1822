package session

import (
	"cmp"
	"math"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Step takes one event. The result's records are to be synced before its effects run. An event
// that no row names, or that names another sale, payment or vend, changes nothing. s is not changed.
func (s State) Step(now protocol.Reading, in In) (State, Output) {
	s = s.Clone()
	var o Output
	if s.fresh(in.Event) {
		s.event(&o, now, in)
		s.tend(&o, in)
	}
	return s, o
}

func (s *State) event(o *Output, now protocol.Reading, in In) {
	if s.noted(o, in) || s.late(o, in) {
		return
	}
	switch e := in.Event.(type) {
	case Booted:
		// The driver has raised its epoch: what it asked before this start is a repeat.
		s.heard = protocol.BusKey{BusEpoch: s.d.Bus.BusEpoch, Session: math.MaxUint32, Request: math.MaxUint32}
		s.open = s.cfg.Flow == protocol.CardFirst // an adapter may have kept a session, if only the EndSession was lost
	case BusReset:
		s.owes, s.open = false, false
	case PortGone:
		s.bus.State, s.owes, s.open = BusStateDown, false, false
	case Timer:
		s.timers[e.Name] = 0
	case VendRequest:
		if !e.Bus.Later(s.heard) || !e.Bus.Later(s.d.Bus) {
			s.again(o, e)
			return
		}
		s.heard, s.owes = e.Bus, true
	}
	if !s.terminal(o, now, in) && !s.cash(o, now, in) {
		s.phase(o, now, in)
	}
	if len(o.rows) == 0 && s.d.Phase != Idle {
		s.busy(o, in.Event)
	}
}

func (s *State) phase(o *Output, now protocol.Reading, in In) {
	switch s.d.Phase {
	case Idle:
		s.idle(o, now, in)
	case Ordered:
		s.ordered(o, now, in)
	case Authorizing:
		s.authorizing(o, now, in)
	case SessionIdle:
		s.session(o, in)
	case Queued, Vending:
		s.vending(o, now, in)
	case InEvidence:
		s.inEvidence(o, in)
	case InChange: // cash has taken it
	}
}

// busy is S40.
func (s *State) busy(o *Output, e Event) {
	switch e.(type) {
	case VendRequest, Order, CardRead:
		o.take("S40")
		o.do(Show{ScreenRefused, s.d.Due, "busy"})
	}
	if _, ok := e.(VendRequest); ok {
		s.deny(o)
	}
}

// fresh reports that an event has not had its effect yet, as far as its ids can tell.
func (s State) fresh(e Event) bool {
	switch e := e.(type) {
	case Order:
		return e.Sale.IsZero() || e.Sale != s.last && !s.d.seen(e.Sale, protocol.PaymentID{}) // zero: refused by name
	case CardRead:
		return !e.Payment.IsZero() && !s.d.seen(protocol.SaleID{}, e.Payment) && !s.d.seen(protocol.SaleID{}, e.Spare)
	case Evidence:
		return !e.Vend.IsZero() && (e.Result == protocol.Delivered || e.Result == protocol.Failed)
	case CashIn:
		return !e.Payment.IsZero() && e.Payment != s.coin && e.Value.Minor > 0
	case Timer:
		return e.Name >= TimerOrder && e.Name <= TimerTerminal && e.ID != 0 && s.timers[e.Name] == e.ID
	}
	return true
}

// again takes a vend request the bus repeats: S29, C18.
func (s *State) again(o *Output, r VendRequest) {
	v := s.d.last()
	if s.d.Phase != Queued && s.d.Phase != Vending || r.Bus.IsZero() || r.Bus != s.request || v.Hint == protocol.HintAcked {
		o.take("S29")
		return
	}
	o.take(pick(s.d.Phase == Queued, "C18", "S29"))
	s.queued = true
	o.do(Vend{v.ID, v.Outlet, v.Amount, s.policy.ApproveBy(), s.request})
}

// noted takes the events that every phase only notes: S19, S30, S34 and S39.
func (s *State) noted(o *Output, in In) bool {
	row := "S39"
	held := pick(s.d.Phase == Queued || s.d.Phase == Vending, "S30", "S39") // S30: what never ends a vend
	switch e := in.Event.(type) {
	case Link:
		s.link, row = e.State, held
	case Accounts:
		s.accounts, row = e.Up, held
	case NewPolicy:
		s.newPolicy(o, e)
	case Headroom:
		s.counters, s.lease = e.Counters, e.Lease
	case Storage:
		s.storage = e.State
	case Means:
		s.means, row = e.Why, held
	case Stopped:
		s.stopped = e.Code
	case Received:
		row = "S19"
		if s.d.Phase == Authorizing && e.Payment == s.d.Payment {
			s.received = true
		}
	case Door:
		if row = held; s.d.Door != e.Open {
			s.device(o, protocol.DeviceEvent{Code: eventDoor, Detail: pick(e.Open, doorOpen, doorClosed)})
		}
	case Tamper:
		if row = held; s.d.Tampered == e.Cleared {
			detail := pick(e.Cleared, tamperCleared, tamperFound)
			if e.Cleared && e.By != "" {
				detail += " by " + e.By
			}
			s.device(o, protocol.DeviceEvent{Code: eventTamper, Device: e.Part, Detail: detail})
		}
		if !e.Cleared && (s.d.Phase == Ordered || s.d.Phase == Authorizing) {
			return false // S08, S18 and C09 end the sale
		}
	case BusState:
		was := s.bus.up()
		s.bus = e
		switch {
		case s.d.Phase == Authorizing && s.d.Flow == protocol.CardFirst && e.State == BusStateDisabled:
			return false // C09
		case s.d.Phase == InEvidence && was != e.up():
			o.take("S34")
			s.await(o, in)
			return true
		case !e.up() || e.State == BusStateDisabled:
			row = held
		}
	case PortGone:
		if s.d.Phase != InEvidence {
			return false
		}
		was := s.bus.up()
		s.bus.State, s.owes, s.open, row = BusStateDown, false, false, "S34"
		if was {
			s.await(o, in)
		}
	default:
		return false
	}
	o.take(row)
	return true
}

// newPolicy puts a policy in force. One that comes again writes nothing; an older one is late.
func (s *State) newPolicy(o *Output, e NewPolicy) {
	if e.Policy.Version < s.policy.Version {
		return
	}
	if e.Policy.Version > s.policy.Version {
		o.Records = append(o.Records, protocol.Record{Lane: s.cfg.Lane, Body: protocol.PolicyApplied{Version: e.Policy.Version, Hash: e.Hash}})
	}
	s.policy = e.Policy
}

// device writes a DeviceEvent: it is not about a sale and opens none.
func (s *State) device(o *Output, e protocol.DeviceEvent) {
	r := protocol.Record{Lane: s.cfg.Lane, Body: e}
	o.Records = append(o.Records, r)
	s.d.apply(r)
}

// late takes S37 and S38.
func (s *State) late(o *Output, in In) bool {
	var id protocol.VendID
	b := protocol.VendResolved{Result: protocol.Delivered, Source: protocol.SourceBus, Late: true}
	switch e := in.Event.(type) {
	case Answer:
		a, ok := s.d.asks(e.Response)
		if ok && s.d.Phase == Authorizing && a.Payment == s.d.Payment {
			return false
		}
		if ok {
			o.take("S38")
			s.tell(o, a.Sale, protocol.LateAnswer{Payment: a.Payment, Answer: e.Response.Answer, Result: e.Response.Result, Approved: e.Response.Approved})
		}
		return true
	case VendSuccess:
		id, b.Grade = e.Vend, e.Grade
	case VendFailure:
		id, b.Result = e.Vend, protocol.Failed
	case Evidence:
		id, b.Result, b.Grade, b.Source = e.Vend, e.Result, e.Grade, e.Source
	default:
		return false
	}
	for _, c := range s.d.Closed {
		if c.ID == id && c.Open && !c.Resolved {
			o.take("S37")
			b.Vend = id
			s.tell(o, c.Sale, b)
			return true
		}
	}
	return false
}

// tell writes a record of a sale that is closed, beside the live one.
func (s *State) tell(o *Output, sale protocol.SaleID, b protocol.Body) {
	r := protocol.Record{Lane: s.cfg.Lane, Sale: sale, Body: b}
	s.d.apply(r)
	o.Records = append(o.Records, r)
}

func (s *State) idle(o *Output, now protocol.Reading, in In) {
	first := s.cfg.Flow == protocol.CardFirst
	switch e := in.Event.(type) {
	case VendCancel:
		// The 13 01 that took back an approval which never was on the wire: 06, once.
		if s.owes {
			o.take("S25")
			s.deny(o)
		}
	case SessionComplete:
		s.owes = false
	case PortGone:
		o.take("S39")
	case Booted:
		s.end(o)
	case Order:
		if !first {
			s.since, s.request = now.Mono, protocol.BusKey{}
			s.order(o, now, e, "")
		}
	case VendRequest:
		if first {
			o.take("C12") // between the end of a session and its 07: no funds are left
			s.deny(o)
			return
		}
		s.since, s.request = now.Mono-e.Since, e.Bus
		it := protocol.Item{Vend: e.Vend, Outlet: e.Item, Amount: e.Price}
		order := Order{Sale: e.Sale, Class: protocol.Live, Items: []protocol.Item{it}, Payment: e.Payment}
		if e.Product != "" {
			order.Lines = []protocol.Line{{Product: e.Product, Outlet: e.Item, Qty: 1, Unit: e.Price, Amount: e.Price}}
		}
		s.order(o, now, order, e.Bad)
	case CardRead:
		if first {
			s.hold(o, now, e)
		}
	}
}

// hold is C01 to C03: a card before the selection, for the most that may be spent.
func (s *State) hold(o *Output, now protocol.Reading, e CardRead) {
	why := s.gate(now)
	switch {
	case why != "":
	case e.TC:
		why = "card_offline"
	case e.Sale.IsZero() || s.d.seen(e.Sale, protocol.PaymentID{}):
		why = "sale_id"
	}
	if why == "" {
		s.request = protocol.BusKey{}
		s.propose(e.Sale, protocol.SaleOpened{Flow: protocol.CardFirst, Class: protocol.Live, Due: s.policy.Hold()})
		if s.online(now, e) {
			o.take("C01")
			s.authorize(o, now, e, protocol.MaxHold)
			return
		}
		v := s.decide(&e)
		if v.Accept {
			o.take("C02")
			s.card = &e
			s.offline(o, v, protocol.PaymentID{}, s.shut())
			return
		}
		why = v.Rule
		s.close(o, protocol.NotCharged)
	}
	o.take("C03")
	o.do(Show{ScreenRefused, s.policy.Hold(), why})
}

// total is the sum of an order's items, and why it cannot be sold.
func (s State) total(e Order) (money.Amount, string) {
	due := money.New(0, s.policy.Currency)
	if e.Sale.IsZero() {
		return due, "sale_id"
	}
	for i, it := range e.Items {
		sum, err := due.Add(it.Amount)
		if err != nil || it.Amount.Minor <= 0 || it.Amount.Currency != s.policy.Currency {
			return due, "amount"
		}
		due = sum
		if it.Vend.IsZero() || s.d.closed(it.Vend) || find(e.Items[:i], func(o protocol.Item) bool { return o.Vend == it.Vend }) {
			return due, "vend_id"
		}
	}
	if due.IsZero() {
		return due, "empty_order"
	}
	return due, ""
}

// lines says how an order's lines do not match its items: each line's quantity, outlet and amount
// are those of its items.
func lines(e Order) string {
	sums, qty := make([]money.Amount, len(e.Lines)), make([]uint16, len(e.Lines))
	for _, it := range e.Items {
		if int(it.Line) >= len(e.Lines) || e.Lines[it.Line].Outlet != it.Outlet {
			return "order_lines"
		}
		sum, err := sums[it.Line].Add(it.Amount)
		if err != nil {
			return "order_lines"
		}
		sums[it.Line] = sum
		qty[it.Line]++
	}
	for i, l := range e.Lines {
		if l.Qty != qty[i] || l.Amount != sums[i] {
			return "order_lines"
		}
	}
	return ""
}

// order is S01 and S02.
func (s *State) order(o *Output, now protocol.Reading, e Order, why string) {
	due, bad := s.total(e)
	if why == "" {
		why = bad
	}
	if why == "" && s.request.IsZero() { // a bus's request has no lines
		why = lines(e)
	}
	if why == "" {
		why = cmp.Or(s.gate(now), s.means)
	}
	if why == "" && s.left(now) < minWait {
		why = "no_time"
	}
	if why == "" {
		why = s.noTerminal(e)
	}
	if why != "" {
		o.take("S02")
		o.do(Show{ScreenRefused, due, why})
		s.deny(o)
		return
	}
	o.take(pick(s.atTerminal(e), "T01", "S01"))
	s.propose(e.Sale, protocol.SaleOpened{Flow: protocol.SelectionFirst, Class: e.Class, Lines: e.Lines, Items: e.Items, Due: due, Bus: s.request})
	if s.atTerminal(e) {
		s.askTerminal(o, now, e.Payment)
		return
	}
	s.arm(o, now, ScreenPrice, s.exactOnly())
}

// arm waits for a card: on MDB to the last moment that leaves minWait for an answer.
func (s *State) arm(o *Output, now protocol.Reading, on Screen, why string) {
	o.do(Show{on, s.d.Due, why}, ArmReader{s.d.Due})
	s.start(o, TimerOrder, min(s.policy.Order(), s.left(now)-minWait))
}

// online reports that a request about a card may leave: an issuer that is slow is still asked, and our accounts
// when the bank cannot be.
func (s State) online(now protocol.Reading, c CardRead) bool {
	up := s.link == LinkUp || s.link == LinkSlow
	if c.Loop {
		up = s.accounts && (up || s.link == LinkAcquirerDown)
	}
	return up && !now.Anchor.IsZero()
}

// shut is why no request can leave.
func (s State) shut() protocol.Cause {
	switch s.link {
	case LinkAcquirerDown:
		return protocol.CauseAcquirer
	case LinkUp, LinkCloudDown, LinkSlow: // connected, and yet no anchor or no word
		return protocol.CauseCloud
	}
	return protocol.CauseLink
}

// silence is why a request got no answer. Received, and nothing more, is the issuer's slowness
// whatever the link did since; only an announcement that the acquirer is down says otherwise.
func (s State) silence() protocol.Cause {
	if s.link != LinkAcquirerDown && (s.received || s.link == LinkSlow) {
		return protocol.CauseIssuerSlow
	}
	return s.shut()
}

func (s *State) ordered(o *Output, now protocol.Reading, in In) {
	refuse := func(row, why string, how protocol.How) {
		o.take(row)
		due := s.d.Due
		s.close(o, how)
		o.do(DisarmReader{}, Show{ScreenRefused, due, why})
		s.deny(o)
	}
	retry := func(why string) {
		o.take("S07")
		o.do(Show{ScreenOtherCard, s.d.Due, why}, ArmReader{s.d.Due})
	}
	switch e := in.Event.(type) {
	case CardRead:
		s.tapped(o, now, e, refuse, retry)
	case CardFailed:
		retry(e.Reason)
	case CardAAC:
		retry("card_refused")
	case Cancel, VendCancel, BusReset, SessionComplete, PortGone:
		refuse("S08", "canceled", protocol.SaleCanceled)
	case Tamper:
		refuse("S08", "tamper", protocol.SaleCanceled)
	case Timer:
		if e.Name == TimerOrder {
			refuse("S08", "timeout", protocol.SaleCanceled)
		}
	case Booted:
		o.take("S09")
		s.close(o, protocol.Abandoned)
	}
}

// tapped is a card for an order: S03 to S07.
func (s *State) tapped(o *Output, now protocol.Reading, e CardRead, refuse func(string, string, protocol.How), retry func(string)) {
	if e.TC {
		retry("card_offline")
		return
	}
	why := s.gate(now)
	if why == "" && s.wait(now) < minWait {
		why = "no_time"
	}
	if why != "" {
		refuse("S06", why, protocol.NotCharged)
		return
	}
	if s.online(now, e) {
		o.take("S03")
		s.authorize(o, now, e, protocol.Exact)
		return
	}
	v := s.decide(&e)
	if !v.Accept {
		refuse("S05", v.Rule, protocol.NotCharged)
		return
	}
	o.take("S04")
	s.card = &e
	s.offline(o, v, protocol.PaymentID{}, s.shut())
}

func voidReason(e Event) (protocol.Reason, bool) {
	switch e.(type) {
	case Cancel, VendCancel, BusReset, SessionComplete, PortGone, BusState:
		return protocol.Canceled, true
	case CardAAC:
		return protocol.CardRefused, true
	case CardRemoved:
		return protocol.CardRemoved, true
	case Tamper:
		return protocol.Tampered, true
	}
	return 0, false
}

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

func (s *State) authorizing(o *Output, now protocol.Reading, in In) {
	first := s.d.Flow == protocol.CardFirst
	due := s.d.Due
	fail := func(row string, why protocol.Reason, how protocol.How) {
		o.take(row)
		s.void(o, why, how)
		o.do(Show{ScreenNotCharged, due, why.String()}, CardSignal{false})
		s.deny(o)
	}
	if why, ok := voidReason(in.Event); ok {
		if first {
			fail("C09", why, protocol.NotCharged)
		} else {
			fail("S18", why, protocol.SaleCanceled)
		}
		return
	}
	switch e := in.Event.(type) {
	case Booted:
		fail(pick(first, "C10", "S20"), protocol.NoAnswer, protocol.NotCharged)
	case Timer:
		if e.Name != TimerWait {
			return
		}
		cause := s.silence()
		if v := s.decide(s.card); v.Accept && cause != protocol.CauseIssuerSlow && s.gate(now) == "" {
			o.take(pick(first, "C08", "S16"))
			s.offline(o, v, s.d.Payment, cause)
			return
		}
		fail(pick(first, "C09", "S17"), protocol.NoAnswer, protocol.NotCharged)
	case Answer:
		s.answer(o, now, e.Response, fail)
	}
}

func (s *State) answer(o *Output, now protocol.Reading, r protocol.AuthorizationResponse, fail func(string, protocol.Reason, protocol.How)) {
	first := s.d.Flow == protocol.CardFirst
	s.put(o, protocol.AuthorizationAnswered{
		Payment: r.Payment, Answer: r.Answer, AnswerHash: protocol.HashOf(r), Result: r.Result, Code: r.Code,
		Approved: r.Approved, RRN: r.RRN, AuthID: r.AuthID, HostRef: r.HostRef, ReleaseAt: r.ReleaseAt,
	})
	s.stop(o, TimerWait)
	if r.Result != protocol.Approved && r.Result != protocol.Partial {
		s.declined = s.declined || r.Result == protocol.Declined
		s.refused(o, now, r)
		return
	}
	least := s.d.Due
	if first && r.Result == protocol.Partial {
		least = s.policy.Least()
	}
	c, err := r.Approved.Cmp(least)
	switch {
	case err != nil || c < 0:
		fail(pick(first, "C05", "S12"), protocol.ReasonPartial, protocol.NotCharged)
	case s.gate(now) != "":
		fail(pick(first, "C05", "S11"), protocol.VendGone, protocol.NotCharged)
	case first:
		o.take("C04")
		s.begin(o)
	default:
		o.take("S10")
		s.vendNext(o)
	}
}

// refused goes on after an answer that took no money: S13 to S15, C06, C07.
func (s *State) refused(o *Output, now protocol.Reading, r protocol.AuthorizationResponse) {
	first := s.d.Flow == protocol.CardFirst
	if v := s.decide(s.card); r.Result == protocol.RefusedUnsent && r.Code == protocol.AcquirerDown && v.Accept && s.gate(now) == "" {
		o.take(pick(first, "C07", "S15"))
		s.offline(o, v, protocol.PaymentID{}, protocol.CauseAcquirer)
		return
	}
	o.do(CardSignal{false})
	why := r.Result.String()
	if r.Result == protocol.Declined && r.Code >= protocol.DeclineFunds && r.Code <= protocol.DeclineUnverified {
		why = r.Code.String() // an account says what is wrong; a bank does not
	}
	if !first && s.attempts < s.policy.CardAttempts(s.cfg.Bus) && s.wait(now) >= minWait {
		o.take("S13")
		s.arm(o, now, ScreenOtherCard, why)
		return
	}
	o.take(pick(first, "C06", "S14"))
	due := s.d.Due
	s.close(o, protocol.SaleDeclined)
	o.do(Show{ScreenNotCharged, due, why})
	s.deny(o)
}
