package session

import (
	"fmt"
	"maps"
	"slices"

	"coinop/protocol"
	"coinop/protocol/money"
)

// books is what somebody who sees only events, synced records and effects knows of one lane. It
// shares nothing with the machine: its laws are read off the records.
type books struct {
	payments map[protocol.PaymentID]payment
	vends    map[protocol.VendID]vended
	answered map[protocol.PaymentID]bool // an answer was recorded, in time or late
	cases    map[protocol.CaseID]bool
	sale     protocol.SaleID // the open one
	timers   map[TimerName]TimerID

	asks      bool  // the bus waits for an answer to a vend request
	withdrawn bool  // its approval never was on the wire, and it may cancel
	due       int64 // of the open sale
	accepts   int64 // coins of up to this may come in
	session   bool  // card first: the controller is in a session
	rebooted  bool  // what the controller stands at is not known
}

type payment struct {
	sale     protocol.SaleID
	asked    money.Amount
	approved money.Amount
	ask      protocol.Hash
	ends     int
	cash     bool
	captured int64
	ordered  int   // payouts that were written
	paying   int   // and carried out
	given    int64 // of its change
	owed     int64 // short, or nobody knows
	counted  bool  // its change is accounted for
	asks     bool  // and a case says that some is owed
	terminal bool
	done     int // ends of what a terminal owed
}

type vended struct {
	sale    protocol.SaleID
	payment protocol.PaymentID
	amount  money.Amount
	result  protocol.VendOutcome // 0: under way
	first   protocol.VendOutcome // before it was resolved
	late    bool
	byBus   bool
	hint    protocol.Hint
	asked   bool // of somebody, by a case
}

func newBooks() *books {
	return &books{
		payments: map[protocol.PaymentID]payment{}, vends: map[protocol.VendID]vended{}, answered: map[protocol.PaymentID]bool{},
		cases: map[protocol.CaseID]bool{}, timers: map[TimerName]TimerID{},
	}
}

func (b *books) clone() *books {
	c := *b
	c.payments, c.vends, c.answered = maps.Clone(b.payments), maps.Clone(b.vends), maps.Clone(b.answered)
	c.cases, c.timers = maps.Clone(b.cases), maps.Clone(b.timers)
	return &c
}

// reboot forgets what a power cut took: timers, and what the bus asked.
func (b *books) reboot() {
	b.timers, b.asks, b.withdrawn, b.rebooted, b.accepts = map[TimerName]TimerID{}, false, false, true, 0
}

// hear takes the event before its step; later says whether a vend request is new.
func (b *books) hear(e Event, later bool) {
	switch e := e.(type) {
	case VendRequest:
		if later {
			b.asks, b.withdrawn = true, false
		}
	case BusReset, PortGone:
		b.asks, b.withdrawn, b.session = false, false, false
	case SessionComplete:
		b.withdrawn = false
	case Approval:
		if v, ok := b.vends[e.Vend]; ok && e.How == ApprovalWithdrawn && v.result == 0 && v.byBus {
			b.asks, b.withdrawn = true, true
		}
	}
}

// step takes the output of a step and says which laws it breaks.
func (b *books) step(e Event, o Output, phase Phase) (broken []string) {
	say := func(format string, a ...any) { broken = append(broken, fmt.Sprintf(format, a...)) }
	for _, r := range o.Records {
		if r.Lane != 1 {
			say("%s on lane %d", r.Body.Kind(), r.Lane)
		}
		b.record(r, say)
	}
	var offline, blobs []protocol.PaymentID
	for _, r := range o.Records {
		if a, ok := r.Body.(protocol.OfflineAccepted); ok {
			offline = append(offline, a.Payment)
		}
		if a, ok := r.Body.(protocol.VendResolved); ok && b.vends[a.Vend].hint != protocol.HintNone {
			if _, ok := e.(Approval); ok && a.Source == protocol.SourceBus {
				say("an approval withdrawn after it was on the wire is believed")
			}
		}
	}
	for _, bl := range o.Blobs {
		blobs = append(blobs, bl.Payment)
	}
	if !slices.Equal(offline, blobs) {
		say("offline payments %v with blobs of %v", offline, blobs)
	}
	b.effects(e, o, say)
	b.cashLaws(o, phase, say)
	if phase == Idle {
		if b.sale != (protocol.SaleID{}) {
			say("idle with open sale %s", b.sale)
		}
		if _, ok := b.timers[TimerTerminal]; len(b.timers) > 1 || len(b.timers) == 1 && !ok {
			say("idle with timers %v", b.timers)
		}
		if b.asks && !b.withdrawn {
			say("idle, and the bus has no answer")
		}
		if b.session && !b.rebooted {
			say("idle, and the session was not ended")
		}
	}
	return broken
}

func (b *books) end(p protocol.PaymentID, say func(string, ...any)) {
	v, ok := b.payments[p]
	v.ends++
	b.payments[p] = v
	if !ok || v.ends > 1 {
		say("payment %s ended %d times (known %v)", p, v.ends, ok)
	}
}

func (b *books) record(r protocol.Record, say func(string, ...any)) {
	if _, ok := r.Body.(protocol.SaleOpened); !ok && b.sale != (protocol.SaleID{}) && r.Sale != b.sale {
		switch r.Body.(type) {
		case protocol.LateAnswer, protocol.VendResolved, protocol.PolicyApplied, protocol.DeviceEvent,
			protocol.TerminalClosed, protocol.TerminalAnswered, protocol.TerminalDone: // what a terminal owes has its own laws
		case protocol.CashIn, protocol.PaymentOutcome, protocol.ChangePaid, protocol.CaseOpened:
			c, isCase := r.Body.(protocol.CaseOpened)
			if terminal := isCase && c.Cause >= protocol.CaseTerminalUnknown; !r.Sale.IsZero() && !terminal {
				say("%s of sale %s beside the open %s", r.Body.Kind(), r.Sale, b.sale)
			}
		default:
			say("%s of sale %s beside the open %s", r.Body.Kind(), r.Sale, b.sale)
		}
	}
	switch a := r.Body.(type) {
	case protocol.SaleOpened:
		if b.sale != (protocol.SaleID{}) {
			say("a second live sale")
		}
		b.sale, b.due = r.Sale, a.Due.Minor
	case protocol.AuthorizationSent:
		if _, ok := b.payments[a.Payment]; ok {
			say("payment %s twice", a.Payment)
		}
		b.payments[a.Payment] = payment{sale: r.Sale, asked: a.Amount, ask: a.AskHash}
	case protocol.AuthorizationAnswered:
		v, ok := b.payments[a.Payment]
		if b.answered[a.Payment] || !ok {
			say("a second answer, or to nothing asked")
		}
		b.answered[a.Payment] = true
		v.approved = a.Approved
		b.payments[a.Payment] = v
		if a.Result != protocol.Approved && a.Result != protocol.Partial {
			b.end(a.Payment, say)
		}
	case protocol.LateAnswer:
		if b.answered[a.Payment] {
			say("a second answer of %s", a.Payment)
		}
		b.answered[a.Payment] = true
	case protocol.OfflineAccepted:
		if _, ok := b.payments[a.Payment]; ok {
			say("payment %s twice", a.Payment)
		}
		b.payments[a.Payment] = payment{sale: r.Sale, asked: a.Amount, approved: a.Amount}
		if !a.Prior.IsZero() {
			b.end(a.Prior, say)
		}
	case protocol.VendStarted:
		p, ok := b.payments[a.Payment]
		if !ok || p.ends > 0 || p.approved.Minor <= 0 || a.Amount.Minor <= 0 {
			say("vend of a payment %+v", p)
		}
		if p.cash && p.approved.Minor < b.due {
			say("vend for %s of %d in cash", p.approved, b.due)
		}
		if _, ok := b.vends[a.Vend]; ok {
			say("vend %s twice", a.Vend)
		}
		b.vends[a.Vend] = vended{sale: r.Sale, payment: a.Payment, amount: a.Amount, byBus: !a.Bus.IsZero()}
	case protocol.AckHint:
		v, ok := b.vends[a.Vend]
		if !ok || v.result == protocol.Delivered || v.result == protocol.Failed || a.Hint <= v.hint {
			say("hint of an ended vend, or no news")
		}
		v.hint = a.Hint
		b.vends[a.Vend] = v
	case protocol.VendResult:
		v, ok := b.vends[a.Vend]
		if !ok || v.result != 0 {
			say("a second result of vend %s", a.Vend)
		}
		if a.Reason == protocol.NeverDelivered && v.hint != protocol.HintNone || a.Result == protocol.Presumed && v.hint != protocol.HintAcked {
			say("vend with hint %s ends as %s, %s", v.hint, a.Result, a.Reason)
		}
		v.result, v.first = a.Result, a.Result
		b.vends[a.Vend] = v
	case protocol.VendResolved:
		b.resolved(a, say)
	case protocol.PaymentOutcome:
		b.outcome(a, say)
	case protocol.CaseOpened:
		if b.cases[a.Case] || a.Case.IsZero() {
			say("case %s twice, or without an id", a.Case)
		}
		b.cases[a.Case] = true
		if p, ok := b.payments[a.Payment]; ok && (a.Cause == protocol.CaseChangeShort || a.Cause == protocol.CaseChangeUnknown) {
			p.asks = true
			b.payments[a.Payment] = p
		}
		for _, id := range a.Vends {
			v := b.vends[id]
			v.asked = true
			b.vends[id] = v
		}
	case protocol.SaleClosed:
		b.closed(r.Sale, a, say)
	case protocol.TerminalSent, protocol.TerminalAnswered, protocol.TerminalDone, protocol.TerminalClosed:
		b.terminalRecord(r, say)
	default:
		b.cashRecord(r, say)
	}
}

func (b *books) resolved(a protocol.VendResolved, say func(string, ...any)) {
	v, ok := b.vends[a.Vend]
	if !ok || v.result == 0 || v.late {
		say("vend %s resolved in vain, or again", a.Vend)
	}
	if a.Late {
		v.late = true
	} else {
		if v.result != protocol.Presumed && v.result != protocol.Unknown {
			say("vend %s resolved twice", a.Vend)
		}
		v.result = a.Result
	}
	b.vends[a.Vend] = v
}

// outcome holds that a capture is what was delivered or counted, and within what was approved.
func (b *books) outcome(a protocol.PaymentOutcome, say func(string, ...any)) {
	b.end(a.Payment, say)
	p, sum := b.payments[a.Payment], int64(0)
	for id, v := range b.vends {
		counted := slices.Contains(a.Counted, id)
		if v.payment != a.Payment {
			if counted {
				say("counts the vend of another payment")
			}
			continue
		}
		switch {
		case v.result == 0:
			say("outcome while vend %s is under way", id)
		case v.result == protocol.Delivered && !counted, v.result == protocol.Failed && counted:
			say("vend %s is %s, counted %v", id, v.result, counted)
		}
		if counted {
			sum += v.amount.Minor
		}
	}
	if a.Amount.Minor != sum || a.Amount.Minor > p.approved.Minor || a.Amount.Minor > p.asked.Minor {
		say("outcome of %s: counted %d, approved %s, asked %s", a.Amount, sum, p.approved, p.asked)
	}
	p.captured = a.Amount.Minor
	b.payments[a.Payment] = p
	if (a.What == protocol.Capture) != (sum > 0) {
		say("%s of %d", a.What, sum)
	}
}

func (b *books) closed(sale protocol.SaleID, a protocol.SaleClosed, say func(string, ...any)) {
	sum := int64(0)
	for _, v := range b.vends {
		if v.sale == sale && v.result == protocol.Delivered {
			sum += v.amount.Minor
		}
		if doubt := v.result == protocol.Presumed || v.result == protocol.Unknown; v.sale == sale && doubt != v.asked {
			say("closed with a vend that is %s, case %v", v.result, v.asked)
		}
	}
	if a.Delivered.Minor != sum {
		say("closed with %s delivered, want %d", a.Delivered, sum)
	}
	for id, p := range b.payments {
		if p.sale == sale && p.ends != 1 {
			say("closed while payment %s has %d ends", id, p.ends)
		}
		if p.sale == sale && p.rest() != 0 {
			say("closed while %d of payment %s are not accounted for", p.rest(), id)
		}
	}
	b.sale = protocol.SaleID{}
}

// effects holds that what touches the world was synced with or before this step, and that the bus
// hears one answer to what it asks.
func (b *books) effects(e Event, o Output, say func(string, ...any)) {
	denied := 0
	for _, ef := range o.Effects {
		switch a := ef.(type) {
		case Authorize:
			p, ok := b.payments[a.Ask.Payment]
			if !ok || p.ask != protocol.HashOf(a.Ask) || a.Record >= len(o.Records) {
				say("a request without its record")
				break
			}
			if r, ok := o.Records[a.Record].Body.(protocol.AuthorizationSent); !ok || r.Payment != a.Ask.Payment {
				say("a request beside its record")
			}
		case Vend:
			if v, ok := b.vends[a.ID]; !ok || v.result != 0 || v.amount != a.Amount {
				say("a vend without its record: %+v", v)
			}
			again := slices.Contains(o.rows, "S29") || slices.Contains(o.rows, "C18")
			if b.vends[a.ID].byBus && !b.asks && !again {
				say("05 that nobody waits for")
			}
			b.asks, b.withdrawn = false, false
		case BeginSession:
			b.session, b.rebooted = true, false
			if b.sale == (protocol.SaleID{}) {
				say("a session without a sale")
			}
		case EndSession:
			if !b.session && !b.rebooted {
				say("EndSession without a session")
			}
			b.session = false
		case DenyVend:
			takesBack := slices.Contains(o.rows, "S28") || slices.Contains(o.rows, "C23")
			if denied++; !b.asks && !takesBack || denied > 1 {
				say("06 that nobody asked for")
			}
			b.asks, b.withdrawn = false, false
		case TerminalAuthorize, TerminalCapture, TerminalCancel, TerminalAsk:
			b.terminalEffect(ef, o, say)
		case StartTimer:
			b.timers[a.Name] = a.ID
		case StopTimer:
			if b.timers[a.Name] != a.ID {
				say("stops timer %s %d, running is %d", a.Name, a.ID, b.timers[a.Name])
			}
			delete(b.timers, a.Name)
		case Resume:
			if v := b.vends[a.Vend]; v.result != protocol.Unknown && v.result != protocol.Presumed {
				say("resumes vend %+v", v)
			}
		}
	}
	if _, ok := e.(SessionComplete); ok {
		b.asks = false
	}
}

// open are payments that have no end.
func (b *books) open() (n int) {
	for _, p := range b.payments {
		if p.ends == 0 || p.rest() != 0 || p.terminal && p.approved.Minor > 0 && p.done == 0 {
			n++
		}
	}
	return n
}
