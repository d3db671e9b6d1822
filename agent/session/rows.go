package session

import (
	"coinop/protocol"
	"coinop/protocol/money"
)

// Step takes one event. The result's records are to be synced before its effects run. An event
// that no row names, or that names another sale, payment or vend, changes nothing. s is not changed.
func (s State) Step(now protocol.Reading, in In) (State, Output) {
	s = s.Clone()
	var o Output
	switch e := in.Event.(type) {
	case PortGone:
		was := s.bus.up()
		s.bus.State = BusStateDown
		if s.d.Phase == InEvidence {
			o.row = "S34"
			if was {
				s.start(&o, TimerEvidence, s.policy.BusAway())
			}
			return s, o
		}
	case Evidence:
		if e.Result != protocol.Delivered && e.Result != protocol.Failed {
			return s, o
		}
	case Order:
		if s.d.seen(e.Sale, protocol.PaymentID{}) {
			return s, o
		}
	case CardRead:
		if e.Payment.IsZero() || s.d.seen(protocol.SaleID{}, e.Payment) {
			return s, o
		}
	}
	if s.noted(&o, in) || s.late(&o, in) {
		return s, o
	}
	if t, ok := in.Event.(Timer); ok {
		if t.Name < TimerOrder || t.Name > TimerSession || t.ID == 0 || s.timers[t.Name] != t.ID {
			return s, o
		}
		s.timers[t.Name] = 0
	}
	if r, ok := in.Event.(VendRequest); ok {
		if !r.Bus.Later(s.d.Bus) {
			s.again(&o, r)
			return s, o
		}
		s.owes = true
	}
	switch s.d.Phase {
	case Idle:
		s.idle(&o, now, in)
	case Ordered:
		s.ordered(&o, now, in)
	case Authorizing:
		s.authorizing(&o, now, in)
	case SessionIdle:
		s.session(&o, in)
	case Queued, Vending:
		s.vending(&o, now, in)
	case InEvidence:
		s.inEvidence(&o, in)
	}
	if o.row == "" && s.d.Phase != Idle {
		switch e := in.Event.(type) {
		case VendRequest:
			o.row, s.d.Bus = "S40", e.Bus
			s.deny(&o)
		case Order, CardRead:
			o.row = "S40"
			o.do(Show{ScreenRefused, s.d.Due, "busy"})
		}
	}
	return s, o
}

// again takes a vend request the bus repeats: S29, C18.
func (s *State) again(o *Output, r VendRequest) {
	o.row = "S29"
	if s.d.Phase != Queued && s.d.Phase != Vending {
		return
	}
	v := s.d.last()
	if r.Bus != s.d.Bus || v.Hint == protocol.HintAcked {
		return
	}
	if s.d.Phase == Queued {
		o.row = "C18"
	}
	s.queued = true
	o.do(Vend{v.ID, v.Outlet, v.Amount, s.policy.ApproveBy()})
}

// noted takes the events that every phase only notes: S19, S30, S34 and S39.
func (s *State) noted(o *Output, in In) bool {
	o.row = "S39"
	switch e := in.Event.(type) {
	case Link:
		s.link = e.State
	case NewPolicy:
		s.policy = e.Policy
		o.Records = append(o.Records, protocol.Record{Lane: s.cfg.Lane, Body: protocol.PolicyApplied{Version: e.Policy.Version, Hash: e.Hash}})
	case Headroom:
		s.counters, s.lease = e.Counters, e.Lease
	case Storage:
		s.storage = e.State
	case Stopped:
		s.stopped = e.Code
	case Received:
		o.row = "S19"
		if s.d.Phase == Authorizing && e.Payment == s.d.Payment {
			s.received = true
		}
		return true
	case Door:
		o.Records = append(o.Records, protocol.Record{Lane: s.cfg.Lane, Body: protocol.DeviceEvent{Code: "door", Detail: map[bool]string{true: "open", false: "closed"}[e.Open]}})
	case Tamper:
		s.tampered = !e.Cleared
		o.Records = append(o.Records, protocol.Record{Lane: s.cfg.Lane, Body: protocol.DeviceEvent{Code: "tamper", Detail: map[bool]string{true: "cleared", false: "found"}[e.Cleared]}})
		if !e.Cleared && (s.d.Phase == Ordered || s.d.Phase == Authorizing) {
			o.row = ""
			return false // S08, S18 and C09 end the sale
		}
	case BusState:
		was := s.bus.up()
		s.bus = e
		if s.d.Phase == InEvidence && was != e.up() {
			first := s.d.Flow == protocol.CardFirst
			o.row = "S34"
			if e.up() {
				s.evidence(o, in)
				if s.d.Phase == Idle {
					o.row = pick(first, "C26", "S33")
				}
			} else {
				s.start(o, TimerEvidence, s.policy.BusAway())
			}
			return true
		}
	default:
		o.row = ""
		return false
	}
	if s.d.Phase == Queued || s.d.Phase == Vending {
		o.row = "S30"
	}
	return true
}

// late takes S37 and S38.
func (s *State) late(o *Output, in In) bool {
	var id protocol.VendID
	b := protocol.VendResolved{Result: protocol.Delivered, Source: protocol.SourceBus, Late: true}
	switch e := in.Event.(type) {
	case Answer:
		if s.d.Phase == Authorizing && e.Response.Payment == s.d.Payment {
			return false
		}
		if a, ok := s.d.asks(e.Response); ok {
			o.row = "S38"
			r := protocol.Record{Lane: s.cfg.Lane, Sale: a.Sale, Body: protocol.LateAnswer{Payment: a.Payment, Answer: e.Response.Answer, Result: e.Response.Result, Approved: e.Response.Approved}}
			s.d.apply(r)
			o.Records = append(o.Records, r)
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
			o.row, b.Vend = "S37", id
			r := protocol.Record{Lane: s.cfg.Lane, Sale: c.Sale, Body: b}
			s.d.apply(r)
			o.Records = append(o.Records, r)
			return true
		}
	}
	return false
}

func (s *State) idle(o *Output, now protocol.Reading, in In) {
	switch e := in.Event.(type) {
	case VendCancel:
		s.withdrawn(o)
	case BusReset, PortGone, SessionComplete:
		s.owes = false
	case Order:
		if s.cfg.Flow == protocol.SelectionFirst {
			s.order(o, now, e, protocol.BusKey{}, "")
		}
	case VendRequest:
		if s.cfg.Flow == protocol.SelectionFirst {
			s.since = now.Mono - e.Since
			it := protocol.Item{Vend: e.Vend, Outlet: e.Item, Amount: e.Price}
			s.order(o, now, Order{Sale: e.Sale, Class: protocol.Live, Items: []protocol.Item{it}}, e.Bus, e.Bad)
		}
	case CardRead:
		if s.cfg.Flow != protocol.CardFirst {
			return
		}
		why := s.gate(now)
		r := protocol.Record{Lane: s.cfg.Lane, Sale: protocol.SaleID(e.Payment), Body: protocol.SaleOpened{Flow: protocol.CardFirst, Class: protocol.Live, Due: s.policy.Hold()}}
		if why == "" {
			s.pending = &r
			s.d.apply(r)
			if s.link == LinkUp && !now.Anchor.IsZero() {
				o.row = "C01"
				s.authorize(o, now, e, protocol.MaxHold)
				return
			}
			v := s.decide(&e)
			if v.Accept {
				o.row = "C02"
				s.card = &e
				s.offline(o, v, protocol.PaymentID{}, s.cause())
				return
			}
			why = v.Rule
			s.close(o, protocol.NotCharged)
		}
		o.row = "C03"
		o.do(Show{ScreenRefused, s.policy.Hold(), why})
	}
}

func (s *State) order(o *Output, now protocol.Reading, e Order, bus protocol.BusKey, why string) {
	due := money.New(0, s.policy.Currency)
	if why == "" {
		why = s.gate(now)
	}
	for _, it := range e.Items {
		sum, err := due.Add(it.Amount)
		if err != nil || it.Amount.Minor <= 0 {
			why = "amount"
			break
		}
		due = sum
	}
	if why == "" && due.IsZero() {
		why = "empty_order"
	}
	if bus.IsZero() {
		s.since = now.Mono
	} else {
		s.d.Bus = bus
	}
	if why == "" && s.left(now) < minWait {
		why = "no_time"
	}
	if why != "" {
		o.row = "S02"
		o.do(Show{ScreenRefused, due, why})
		s.deny(o)
		return
	}
	r := protocol.Record{Lane: s.cfg.Lane, Sale: e.Sale, Body: protocol.SaleOpened{Flow: protocol.SelectionFirst, Class: e.Class, Lines: e.Lines, Items: e.Items, Due: due, Bus: bus}}
	o.row, s.pending = "S01", &r
	s.d.apply(r)
	s.arm(o, now, ScreenPrice, "")
}

// withdrawn answers the 13 01 that took back an approval which never was on the wire: 06, once.
func (s *State) withdrawn(o *Output) {
	if s.owes {
		o.row = pick(s.cfg.Flow == protocol.CardFirst, "C17", "S25")
		s.deny(o)
	}
}

// arm waits for a card: on MDB to the last moment that leaves minWait for an answer.
func (s *State) arm(o *Output, now protocol.Reading, on Screen, why string) {
	o.do(Show{on, s.d.Due, why}, ArmReader{s.d.Due})
	s.start(o, TimerOrder, min(s.policy.Order(), s.left(now)-minWait))
}

// cause is why the way to the bank is shut before a request left.
func (s *State) cause() protocol.Cause {
	switch s.link {
	case LinkCloudDown:
		return protocol.CauseCloud
	case LinkAcquirerDown:
		return protocol.CauseAcquirer
	}
	return protocol.CauseLink
}

func (s *State) ordered(o *Output, now protocol.Reading, in In) {
	refuse := func(row, why string, how protocol.How) {
		o.row = row
		due := s.d.Due
		s.close(o, how)
		o.do(DisarmReader{}, Show{ScreenRefused, due, why})
		s.deny(o)
	}
	switch e := in.Event.(type) {
	case CardRead:
		if e.TC {
			o.row = "S07"
			o.do(Show{ScreenOtherCard, s.d.Due, "card_offline"}, ArmReader{s.d.Due})
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
		if s.link == LinkUp && !now.Anchor.IsZero() {
			o.row = "S03"
			s.authorize(o, now, e, protocol.Exact)
			return
		}
		v := s.decide(&e)
		if !v.Accept {
			refuse("S05", v.Rule, protocol.NotCharged)
			return
		}
		o.row, s.card = "S04", &e
		s.offline(o, v, protocol.PaymentID{}, s.cause())
	case CardFailed:
		o.row = "S07"
		o.do(Show{ScreenOtherCard, s.d.Due, e.Reason}, ArmReader{s.d.Due})
	case CardAAC:
		o.row = "S07"
		o.do(Show{ScreenOtherCard, s.d.Due, "card_refused"}, ArmReader{s.d.Due})
	case Cancel, VendCancel, BusReset, SessionComplete, PortGone:
		refuse("S08", "canceled", protocol.SaleCanceled)
	case Tamper:
		refuse("S08", "tamper", protocol.SaleCanceled)
	case Timer:
		refuse("S08", "timeout", protocol.SaleCanceled)
	case Booted:
		o.row = "S09"
		s.close(o, protocol.Abandoned)
	}
}

func voidReason(e Event) (protocol.Reason, bool) {
	switch e.(type) {
	case Cancel, VendCancel, BusReset, SessionComplete, PortGone:
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

func pick(first bool, c, r string) string {
	if first {
		return c
	}
	return r
}

func (s *State) authorizing(o *Output, now protocol.Reading, in In) {
	first := s.d.Flow == protocol.CardFirst
	due := s.d.Due
	fail := func(row string, why protocol.Reason, how protocol.How) {
		o.row = row
		s.void(o, why, how)
		o.do(Show{ScreenNotCharged, due, why.String()})
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
		cause := s.cause()
		if s.link == LinkUp {
			cause = protocol.CauseCloud
		}
		v := s.decide(s.card)
		if v.Accept && s.link != LinkSlow && (!s.received || s.link == LinkAcquirerDown) && s.gate(now) == "" {
			o.row = pick(first, "C08", "S16")
			s.offline(o, v, s.d.Payment, cause)
			return
		}
		fail(pick(first, "C09", "S17"), protocol.NoAnswer, protocol.NotCharged)
	case Answer:
		if _, ok := s.d.asks(e.Response); ok {
			s.answer(o, now, e.Response, fail)
		}
	}
}

func (s *State) answer(o *Output, now protocol.Reading, r protocol.AuthorizationResponse, fail func(string, protocol.Reason, protocol.How)) {
	first := s.d.Flow == protocol.CardFirst
	s.put(o, protocol.AuthorizationAnswered{Payment: r.Payment, Answer: r.Answer, AnswerHash: protocol.HashOf(r), Result: r.Result, Code: r.Code,
		Approved: r.Approved, RRN: r.RRN, AuthID: r.AuthID, HostRef: r.HostRef, ReleaseAt: r.ReleaseAt})
	s.stop(o, TimerWait)
	if r.Result == protocol.Approved || r.Result == protocol.Partial {
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
			o.row = "C04"
			s.begin(o)
		default:
			o.row = "S10"
			s.vendNext(o)
		}
		return
	}
	if v := s.decide(s.card); r.Result == protocol.RefusedUnsent && r.Code == protocol.AcquirerDown && v.Accept && s.gate(now) == "" {
		o.row = pick(first, "C07", "S15")
		s.offline(o, v, protocol.PaymentID{}, protocol.CauseAcquirer)
		return
	}
	if !first && s.attempts < s.policy.CardAttempts(s.cfg.Bus) && s.wait(now) >= minWait {
		o.row = "S13"
		s.arm(o, now, ScreenOtherCard, r.Result.String())
		return
	}
	o.row = pick(first, "C06", "S14")
	due := s.d.Due
	s.close(o, protocol.SaleDeclined)
	o.do(Show{ScreenNotCharged, due, r.Result.String()}, CardSignal{false})
	s.deny(o)
}
