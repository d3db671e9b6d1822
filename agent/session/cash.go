package session

import (
	"slices"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Cash is a tender of its own: a sale is paid by card or in cash, never by both. Its first CashIn makes
// it cash, with that event's payment id; what came in is its credit, and stands in for an approval. The
// payment ends in one outcome like any other, and what is left of it is change: counted, ordered once,
// and accounted for as given, short or unknown. Money that comes when no sale waits for it is a payment
// of its own, void from the start, and is given back.

// CashIn is money that has come in for good. Payment is a fresh id.
type CashIn struct {
	Payment protocol.PaymentID
	Value   money.Amount
	Bill    bool
	Box     bool // out of reach; else it can be given as change
}

// BillHeld is a bill in escrow, which is no money yet.
type BillHeld struct{ Value money.Amount }

// BillReturned is one that went back.
type BillReturned struct{ Value money.Amount }

// Paid is the end of a payout. Given is by a count of the tubes; Known is false when nobody could count.
type Paid struct {
	ID     uint32
	Given  money.Amount
	Known  bool
	Reason string // a name; empty when all of it came out
}

// CashLevel is what the changer holds. Known is false when there is none that works: then no cash is
// taken. Still says that it was counted while no coin could come in and none was on its way.
type CashLevel struct {
	Known bool
	Still bool
	Exact bool // too little in the tubes to give change by
	Tubes []money.Tube
}

// AcceptCash lets bills in, and coins of up to Most; 0: neither. It is said again when it changes.
type AcceptCash struct{ Most money.Amount }

// TakeBill takes the bill in escrow in, or gives it back.
type TakeBill struct{ Take bool }

// PayChange pays an amount out in coins; Paid with its ID is the answer.
type PayChange struct {
	ID     uint32
	Amount money.Amount
}

func (CashIn) event()       {}
func (BillHeld) event()     {}
func (BillReturned) event() {}
func (Paid) event()         {}
func (CashLevel) event()    {}
func (AcceptCash) effect()  {}
func (TakeBill) effect()    {}
func (PayChange) effect()   {}

// changeMost is how long change that is owed may wait to be ordered or counted. A payout takes less.
const changeMost = 2 * time.Minute

// change is what is left of a payment.
type change struct {
	Payment   protocol.PaymentID `cbor:"1,keyasint"`
	Amount    money.Amount       `cbor:"2,keyasint"`
	Ordered   bool               `cbor:"3,keyasint,omitempty"`
	Tubes     []money.Tube       `cbor:"4,keyasint,omitempty"` // before
	How       protocol.How       `cbor:"5,keyasint,omitempty"` // of its sale's end
	Delivered money.Amount       `cbor:"6,keyasint"`           // of its sale
}

// applyCash folds the records of cash.
func (d *durable) applyCash(r protocol.Record) {
	switch b := r.Body.(type) {
	case protocol.CashIn:
		if r.Sale.IsZero() {
			d.Strays = append(slices.Clone(d.Strays), change{Payment: b.Payment, Amount: b.Value})
			if d.Change != nil && d.Change.Ordered && !b.Box { // what is in the tubes, but for the payout
				d.Change.Tubes = with(d.Change.Tubes, b.Value.Minor)
			}
			if d.Phase == Idle {
				d.next()
			}
			return
		}
		if !d.Cash {
			d.Cash, d.Payment, d.Approved = true, b.Payment, money.Amount{}
		}
		d.Approved, _ = d.Approved.Add(b.Value)
	case protocol.ChangeOrdered:
		if d.Change != nil {
			d.Change.Ordered, d.Change.Tubes = true, slices.Clone(b.Tubes)
		}
	case protocol.ChangePaid:
		d.accounted(b.Payment)
	case protocol.ChangeUnknown:
		d.accounted(b.Payment)
	}
}

// spent is the outcome of the live sale's cash. Its vends have ended; only its change may be open.
func (d *durable) spent(b protocol.PaymentOutcome) {
	d.Cash = false
	rest, err := d.Approved.Sub(b.Amount)
	if err != nil || rest.Minor <= 0 {
		return
	}
	c := change{Payment: b.Payment, Amount: rest, How: howOf(b)}
	c.Delivered, _ = d.sum(func(v vend) bool { return v.Result == protocol.Delivered })
	d.closeVends()
	d.Phase, d.Change = InChange, &c
}

// howOf is how a sale with this outcome ends.
func howOf(b protocol.PaymentOutcome) protocol.How {
	switch {
	case b.What == protocol.Capture:
		return protocol.Sold
	case b.Reason == protocol.Canceled, b.Reason == protocol.Tampered:
		return protocol.SaleCanceled
	}
	return protocol.NotCharged
}

// accounted ends change. What belongs to no sale makes room for the next of its kind.
func (d *durable) accounted(p protocol.PaymentID) {
	if d.Change == nil || d.Change.Payment != p {
		d.Strays = slices.DeleteFunc(slices.Clone(d.Strays), func(c change) bool { return c.Payment == p })
		return
	}
	if d.Change = nil; d.Sale.IsZero() {
		d.next()
	}
}

// next is what a lane does after a sale: it gives back what came in beside it.
func (d *durable) next() {
	d.Phase, d.Change = Idle, nil
	if len(d.Strays) > 0 {
		c := d.Strays[0]
		d.Phase, d.Change, d.Strays = InChange, &c, slices.Clone(d.Strays[1:])
	}
}

// cash takes the events of cash, and in the two places where money is in, those of everything else.
func (s *State) cash(o *Output, now protocol.Reading, in In) bool {
	switch e := in.Event.(type) {
	case CashLevel:
		s.level = e
		s.level.Tubes = slices.Clone(e.Tubes)
		s.level.Still = e.Still && s.taking == 0 // else it is of before
	case CashIn:
		s.cashIn(o, now, in, e)
	case BillHeld:
		s.bill(o, now, e)
	case BillReturned:
		s.stacking = 0
	case Paid:
		s.paid(o, in, e)
	default:
		switch {
		case s.d.Phase == InChange:
			s.changing(o, in)
		case s.d.Phase == Ordered && s.d.Cash:
			s.credited(o, in)
		default:
			return false
		}
	}
	return true
}

// takesCash reports that the live sale may be paid in cash.
func (s State) takesCash() bool {
	return s.cfg.Cash && s.d.Phase == Ordered && s.d.Flow == protocol.SelectionFirst && s.d.Class == protocol.Live
}

// left is what is to be paid yet, in minor units; a bill that is being stacked counts.
func (s State) toPay() int64 {
	left := s.d.Due.Minor - s.stacking
	if s.d.Cash {
		left -= s.d.Approved.Minor
	}
	return left
}

// most is the largest coin that may come in: exactly what is owed, or more where the tubes can give
// back what is over.
func (s State) most() money.Amount {
	most := money.New(0, s.policy.Currency)
	if !s.takesCash() || !s.level.Known {
		return most
	}
	left := s.toPay()
	most.Minor = max(left, 0)
	if s.exact() || left <= 0 {
		return most
	}
	values := make([]int64, 0, len(s.level.Tubes))
	for _, t := range s.level.Tubes {
		if t.Value > left {
			values = append(values, t.Value)
		}
	}
	slices.Sort(values)
	for _, v := range values {
		if !s.pays(v - left) {
			break
		}
		most.Minor = v
	}
	return most
}

// pays reports that an amount can be given from the tubes as they were last told.
func (s State) pays(minor int64) bool {
	_, paid := money.Change(s.level.Tubes, minor)
	return paid == minor
}

// exact reports that only exact money is taken.
func (s State) exact() bool { return s.level.Exact || money.Content(s.level.Tubes) == 0 }

// exactOnly is what the buyer is told of it: a name, or "".
func (s State) exactOnly() string {
	if s.takesCash() && s.level.Known && s.exact() {
		return "exact_money"
	}
	return ""
}

// tend does what follows from where a step has led: change is ordered once, when it is known what is
// in the tubes, and coins come in only while a sale waits for them.
func (s *State) tend(o *Output, in In) {
	still := s.level.Known && s.level.Still
	if s.d.Phase == InChange && s.d.Change.Ordered && still && s.paying == 0 {
		s.compare(o, in)
	}
	if s.d.Phase == InChange && !s.d.Change.Ordered && still {
		s.orderChange(o)
	}
	if s.d.Phase == InChange && s.timers[TimerChange] == 0 {
		s.start(o, TimerChange, changeMost)
	}
	if most := s.most(); most.Minor != s.taking {
		if s.taking = most.Minor; s.taking > 0 {
			s.level.Still = false
		}
		o.do(AcceptCash{most})
	}
}

// orderChange is M13. Nothing is paid that was not written before, and nothing twice.
func (s *State) orderChange(o *Output) {
	o.take("M13")
	c := *s.d.Change
	s.put(o, protocol.ChangeOrdered{Payment: c.Payment, Amount: c.Amount, Tubes: s.level.Tubes})
	s.stop(o, TimerChange)
	s.nextID++
	s.paying, s.level.Still = uint32(s.nextID), false //nolint:gosec // of one boot
	o.do(PayChange{s.paying, c.Amount})
}

// compare is M17 and M18: what came out of a payout that nobody saw the end of, by the tubes before
// and after. What did not come out is not paid again: the buyer may have gone, and a person decides.
func (s *State) compare(o *Output, in In) {
	c := *s.d.Change
	given, ok := gone(c.Tubes, s.level.Tubes)
	if !ok || given > c.Amount.Minor {
		o.take("M18")
		s.unknown(o, in, "tubes")
		return
	}
	o.take("M17")
	s.accounted(o, in, given, "restart")
}

// with is tubes with one coin more; nil where it is not known in which one it is.
func with(tubes []money.Tube, value int64) []money.Tube {
	is := func(t money.Tube) bool { return t.Value == value }
	i := slices.IndexFunc(tubes, is)
	if i < 0 || slices.ContainsFunc(tubes[i+1:], is) {
		return nil
	}
	tubes = slices.Clone(tubes)
	tubes[i].Count++
	return tubes
}

// gone is what left the tubes between two counts, and whether that can be told.
func gone(before, after []money.Tube) (minor int64, ok bool) {
	if len(before) == 0 || len(before) != len(after) {
		return 0, false
	}
	for i, t := range before {
		if t.Value != after[i].Value || t.Count < after[i].Count {
			return 0, false
		}
		minor += t.Value * int64(t.Count-after[i].Count)
	}
	return minor, true
}

// accounted ends a payout of which given came out.
func (s *State) accounted(o *Output, in In, given int64, why string) {
	c := *s.d.Change
	short := c.Amount.Minor - given
	if short == 0 {
		why = ""
	}
	s.put(o, protocol.ChangePaid{
		Payment: c.Payment, Given: money.New(given, c.Amount.Currency), Short: money.New(short, c.Amount.Currency), Reason: why,
	})
	cause := protocol.CaseChangeShort
	if short == 0 {
		cause = 0
	}
	s.changed(o, in, c, cause)
}

// unknown ends one of which nobody can tell.
func (s *State) unknown(o *Output, in In, why string) {
	c := *s.d.Change
	s.put(o, protocol.ChangeUnknown{Payment: c.Payment, Amount: c.Amount, Reason: why})
	s.changed(o, in, c, protocol.CaseChangeUnknown)
}

// changed opens a case for money that is still owed, and closes the sale.
func (s *State) changed(o *Output, in In, c change, cause protocol.CaseCause) {
	if cause != 0 {
		s.put(o, protocol.CaseOpened{Case: in.Case, Payment: c.Payment, Cause: cause})
		o.do(Show{ScreenThanks, c.Amount, cause.String()})
	}
	if s.paying = 0; !s.d.Sale.IsZero() {
		sale := s.d.Sale
		s.put(o, protocol.SaleClosed{How: c.How, Delivered: c.Delivered})
		if c.How == protocol.Sold {
			o.do(Receipt{sale})
		}
	}
	s.clear(o)
}

// paid is M14 to M16: the end of a payout that was seen.
func (s *State) paid(o *Output, in In, e Paid) {
	if s.d.Phase != InChange || s.paying == 0 || e.ID != s.paying {
		return
	}
	given := e.Given.Minor
	switch {
	case !e.Known || given < 0 || given > s.d.Change.Amount.Minor:
		o.take("M16") // the tubes will tell
		s.paying = 0
	case given == s.d.Change.Amount.Minor:
		o.take("M14")
		s.accounted(o, in, given, "")
	default:
		o.take("M15")
		s.accounted(o, in, given, e.Reason)
	}
}

// changing is a lane that owes change.
func (s *State) changing(o *Output, in In) {
	switch e := in.Event.(type) {
	case Booted:
		o.take("M16")
		s.end(o)
	case Timer:
		if e.Name != TimerChange {
			return
		}
		o.take("M19")
		if s.d.Change.Ordered {
			s.unknown(o, in, "no_count")
		} else {
			s.accounted(o, in, 0, "changer_away")
		}
	case VendCancel:
		if s.owes { // as in idle
			o.take("S25")
			s.deny(o)
		}
	case SessionComplete:
		s.owes = false
	}
}

// cashIn is money: M01 to M04, M08 and M09.
func (s *State) cashIn(o *Output, now protocol.Reading, in In, e CashIn) {
	if s.coin = e.Payment; !e.Box {
		s.level.Still = false
	}
	if e.Bill {
		s.stacking = 0
	}
	b := protocol.CashIn{Payment: e.Payment, Value: e.Value, Bill: e.Bill, Box: e.Box}
	first := !s.d.Cash
	switch {
	case e.Value.Currency != s.d.Due.Currency:
		s.stray(o, in, b)
		return
	case s.takesCash():
	case s.d.Cash: // its goods are on their way: more of its credit
		o.take("M08")
		b.Payment = s.d.Payment
		s.put(o, b)
		return
	default:
		s.stray(o, in, b)
		return
	}
	if !first {
		b.Payment = s.d.Payment
	}
	s.put(o, b)
	if first {
		o.do(DisarmReader{})
	}
	left := s.d.Due.Minor - s.d.Approved.Minor
	why := s.gate(now)
	switch {
	case left > 0:
		o.take(pick(first, "M01", "M02"))
		o.do(Show{ScreenPrice, money.New(left, s.d.Due.Currency), s.exactOnly()})
		s.start(o, TimerOrder, min(s.policy.Order(), s.left(now)-minWait))
	case why != "":
		o.take("M04")
		s.giveBack(o, protocol.VendGone, why)
	default:
		o.take("M03")
		s.stop(o, TimerOrder)
		s.vendNext(o)
	}
}

// stray is M09: money that no sale waits for. It is void at once, and given back when the lane is free.
func (s *State) stray(o *Output, in In, b protocol.CashIn) {
	o.take("M09")
	zero := money.New(0, b.Value.Currency)
	full := len(s.d.Strays) >= keep
	s.opened(o) // what comes in beside an order is of the time after it
	s.tell(o, protocol.SaleID{}, b)
	s.tell(o, protocol.SaleID{}, protocol.PaymentOutcome{Payment: b.Payment, What: protocol.Void, Amount: zero, Reason: protocol.Canceled})
	if full { // it is kept, and a person gives it back
		s.tell(o, protocol.SaleID{}, protocol.ChangePaid{Payment: b.Payment, Given: zero, Short: b.Value, Reason: "too_many"})
		s.tell(o, protocol.SaleID{}, protocol.CaseOpened{Case: in.Case, Payment: b.Payment, Cause: protocol.CaseChangeShort})
	}
}

// bill is M10 to M12: one in escrow is taken only where a sale waits for it, and what is over can be
// given back in coins.
func (s *State) bill(o *Output, now protocol.Reading, e BillHeld) {
	if !s.takesCash() {
		o.take("M12")
		o.do(TakeBill{false})
		return
	}
	over, why := e.Value.Minor-s.toPay(), s.gate(now)
	switch {
	case e.Value.Currency != s.d.Due.Currency || e.Value.Minor <= 0 || s.toPay() <= 0:
		why = "bill_not_needed"
	case why != "":
	case !s.level.Known, over > 0 && (s.exact() || !s.pays(over)):
		why = "no_change"
	}
	if why != "" {
		o.take("M11")
		o.do(TakeBill{false}, Show{ScreenPrice, money.New(max(s.toPay(), 0), s.d.Due.Currency), why})
		return
	}
	o.take("M10")
	s.put(o, protocol.StackOrdered{Value: e.Value})
	s.stacking = e.Value.Minor
	o.do(TakeBill{true})
}

// credited is an order with money in: M05 to M07.
func (s *State) credited(o *Output, in In) {
	cancel := func(row string, why protocol.Reason, say string) {
		o.take(row)
		s.giveBack(o, why, say)
	}
	switch e := in.Event.(type) {
	case Cancel, VendCancel, BusReset, SessionComplete, PortGone:
		cancel("M05", protocol.Canceled, "canceled")
	case Tamper:
		cancel("M05", protocol.Tampered, "tamper")
	case Timer:
		if e.Name == TimerOrder {
			cancel("M05", protocol.Canceled, "timeout")
		}
	case Booted:
		cancel("M06", protocol.Canceled, "restart")
	case CardRead:
		o.take("M07")
		o.do(Show{ScreenPrice, money.New(max(s.toPay(), 0), s.d.Due.Currency), "card_or_cash"})
	case CardFailed, CardAAC, CardRemoved:
		o.take("M07") // of a card that nobody asked for any more
	}
}

// giveBack ends an order whose money goes back to the buyer.
func (s *State) giveBack(o *Output, why protocol.Reason, say string) {
	due := s.d.Due
	s.put(o, protocol.PaymentOutcome{Payment: s.d.Payment, What: protocol.Void, Amount: money.New(0, due.Currency), Reason: why})
	s.clear(o)
	o.do(Show{ScreenRefused, due, say})
	s.deny(o)
}
