package session

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/risk"
)

// minWait is the least time for an online answer; below it no card is armed and no request leaves.
const minWait = 5 * time.Second

// State is one lane's session: a value. What records say is in d; the rest is of this boot only.
type State struct {
	cfg      Config
	d        durable
	policy   protocol.Policy
	counters protocol.Counters
	lease    protocol.LeaseID
	link     LinkState
	accounts bool   // of closed-loop cards: they can be asked
	means    string // why nobody can pay
	storage  StorageState
	stopped  string
	bus      BusState
	pending  *proposed
	last     protocol.SaleID // the last one ordered: an order that comes again is not new
	card     *CardRead
	received bool
	declined bool            // a host declined a card in this sale: nothing is taken offline after it
	since    time.Duration   // Mono of the order or of the bus's request
	heard    protocol.BusKey // the last one of this boot; d holds the last one of a record
	request  protocol.BusKey // the one the live order or vend answers; zero: no bus asked
	attempts int
	restart  bool // the vend in doubt was cut by a restart
	owes     bool // the bus asked for a vend and has no answer yet; 06 is said once
	open     bool // card first: the controller is in a session that no EndSession has ended
	queued   bool // an approval is with the driver, its end not reported yet
	held     *Evidence
	level    CashLevel
	taking   int64              // coins of up to this are let in, minor units; 0: none
	stacking int64              // a bill that was taken and is not stacked yet, minor units
	paying   uint32             // the payout under way; 0: none of this boot
	coin     protocol.PaymentID // of the last CashIn
	term     atHand
	timers   [TimerTerminal + 1]TimerID
	nextID   TimerID
}

// proposed is a sale of which nothing is written yet: its first record, and the last key before it.
type proposed struct {
	record protocol.Record
	bus    protocol.BusKey
}

// New is an idle lane that has not seen its vending side.
func New(c Config, p protocol.Policy) State {
	return State{cfg: c, policy: p, link: LinkDown, storage: StorageOK}
}

// Clone is s sharing nothing that a step changes.
func (s State) Clone() State { s.d = s.d.clone(); return s }

// Equal reports whether the records behind s and o say the same, by their encoding in a snapshot.
func (s State) Equal(o State) bool {
	return s.cfg == o.cfg && bytes.Equal(protocol.MustEncode(s.d), protocol.MustEncode(o.d))
}

// Phase is where the sale stands.
func (s State) Phase() Phase { return s.d.Phase }

// Sale is the live sale, or zero.
func (s State) Sale() protocol.SaleID { return s.d.Sale }

// Door reports that the service door is open, Tampered that the lane is locked until Tamper{Cleared}.
func (s State) Door() bool { return s.d.Door }

// Tampered: see Door.
func (s State) Tampered() bool { return s.d.Tampered }

// Idle reports that no sale is live.
func (s State) Idle() bool { return s.d.Phase == Idle }

// Due is what a card would be asked for now.
func (s State) Due() money.Amount {
	if s.d.Phase == Idle && s.cfg.Flow == protocol.CardFirst {
		return s.policy.Hold()
	}
	return s.d.Due
}

// Accepting reports whether a card would be read now.
func (s State) Accepting() bool {
	return s.d.Phase == Ordered && !s.d.Cash || s.d.Phase == Idle && s.cfg.Flow == protocol.CardFirst
}

// Asked reports that the cloud was asked for a payment; of the last few.
func (s State) Asked(p protocol.PaymentID) bool {
	return find(s.d.Asked, func(a asked) bool { return a.Payment == p && !a.AskHash.IsZero() })
}

// Row is the id of the first row a step took (S.. selection first, C.. card first, M.. cash, T.. terminals), or "".
func (o Output) Row() string {
	if len(o.rows) == 0 {
		return ""
	}
	return o.rows[0]
}

// Rows are all rows of a step: one that ends a wait of 0 takes the row "wait over" as well.
func (o Output) Rows() []string { return o.rows }

func (o *Output) take(row string) { o.rows = append(o.rows, row) }

func (o *Output) do(e ...Effect) { o.Effects = append(o.Effects, e...) }

// propose opens a sale in memory: SaleOpened is written with the sale's first other record.
func (s *State) propose(sale protocol.SaleID, b protocol.SaleOpened) {
	s.pending = &proposed{protocol.Record{Lane: s.cfg.Lane, Sale: sale, Body: b}, s.d.Bus}
	s.d.apply(s.pending.record)
	s.last = sale
}

// written is what records say: d, less a sale that has none yet.
func (s State) written() durable {
	if s.pending == nil {
		return s.d.clone()
	}
	d := s.d.clone()
	return durable{Bus: s.pending.bus, Closed: d.Closed, Asked: d.Asked, Terminal: d.Terminal, LastRef: d.LastRef, Door: d.Door, Tampered: d.Tampered}
}

func (s *State) put(o *Output, b protocol.Body) {
	s.opened(o)
	r := protocol.Record{Lane: s.cfg.Lane, Sale: s.d.Sale, Body: b}
	o.Records = append(o.Records, r)
	s.d.apply(r)
}

// opened writes the SaleOpened that was held back.
func (s *State) opened(o *Output) {
	if s.pending != nil {
		o.Records = append(o.Records, s.pending.record)
		s.pending = nil
	}
}

func (s *State) start(o *Output, n TimerName, after time.Duration) {
	s.nextID++
	s.timers[n] = s.nextID
	o.do(StartTimer{n, s.nextID, after})
}

func (s *State) stop(o *Output, n TimerName) {
	if s.timers[n] != 0 {
		o.do(StopTimer{n, s.timers[n]})
		s.timers[n] = 0
	}
}

// Gate names why no sale can begin now, or is "".
func (s State) Gate(now protocol.Reading) string {
	if why := cmp.Or(s.gate(now), s.means); why != "" {
		return why
	}
	if s.cfg.Cash { // then there is another way to pay
		return ""
	}
	return s.terminalShut()
}

// gate names why nothing can be sold now, or is "".
func (s State) gate(now protocol.Reading) string {
	switch {
	case s.stopped != "":
		return s.stopped
	case s.d.Tampered:
		return "tamper"
	case s.storage != StorageOK:
		return "storage_" + s.storage.String()
	case s.bus.State != BusStateUp && s.bus.State != BusStateEnabled:
		return "vending_side_away" // a reader the controller disabled cannot sell either
	case now.Mono-s.bus.At > s.policy.VendAlive():
		return "vending_side_silent"
	case !s.policy.Currency.Known():
		return "currency"
	case (s.d.Phase == Ordered || s.d.Phase == Authorizing) && !s.request.IsZero() && s.request != s.heard:
		return "request_gone" // the controller asked for something else since, and heard 06: it waits for no 05
	}
	return ""
}

// wait is how long an online answer may take from now.
func (s State) wait(now protocol.Reading) time.Duration {
	if s.d.Flow == protocol.CardFirst {
		return s.policy.Wait()
	}
	return min(s.policy.Wait(), s.left(now))
}

// left is what is left to answer the order: on MDB the maximum response time, less a second for
// the answer's own way (MDB/ICP 7.4, Z7).
func (s State) left(now protocol.Reading) time.Duration {
	if s.cfg.Bus != protocol.BusMDB {
		return math.MaxInt64
	}
	z := s.cfg.Z7
	if z == 0 {
		z = 30 * time.Second
	}
	return z - time.Second - (now.Mono - s.since)
}

// up reports that the vending side's bus was last seen working, whether or not it lets us sell.
func (b BusState) up() bool { return b.State != 0 && b.State != BusStateDown }

// seen reports whether events of this sale or payment have already had their effect.
func (d durable) seen(s protocol.SaleID, p protocol.PaymentID) bool {
	for _, a := range d.Asked {
		if a.Sale == s || a.Payment == p {
			return true
		}
	}
	return find(d.Closed, func(c closedVend) bool { return c.Sale == s })
}

// closed reports that a vend id was used before.
func (d durable) closed(v protocol.VendID) bool {
	return find(d.Closed, func(c closedVend) bool { return c.ID == v })
}

func find[T any](s []T, is func(T) bool) bool { return slices.ContainsFunc(s, is) }

func (s State) decide(c *CardRead) risk.Verdict {
	switch {
	case c == nil:
		return risk.Verdict{Rule: "no_card"}
	case s.d.Class == protocol.Test:
		return risk.Verdict{Rule: "test_class"}
	case c.Loop: // what is on it only the cloud knows
		return risk.Verdict{Rule: "accounts_away"}
	case s.declined:
		return risk.Verdict{Rule: "declined_before"}
	}
	return risk.Decide(s.policy, s.counters, risk.Ask{Amount: s.d.Due, Entry: c.Card.Entry, HasRef: c.Card.Ref != ""})
}

// clear forgets what belonged to the sale and stops its timers.
func (s *State) clear(o *Output) {
	for n := TimerOrder; n <= TimerChange; n++ {
		s.stop(o, n)
	}
	s.card, s.received, s.declined, s.attempts, s.restart = nil, false, false, 0, false
	s.queued, s.held, s.stacking = false, nil, 0
}

// close ends the sale; a sale without a record writes nothing.
func (s *State) close(o *Output, how protocol.How) {
	if s.pending != nil {
		s.d, s.pending = s.written(), nil
	} else {
		sum, _ := s.d.sum(func(v vend) bool { return v.Result == protocol.Delivered })
		s.put(o, protocol.SaleClosed{How: how, Delivered: sum})
	}
	s.clear(o)
	s.owed(o)
}

// sum adds up the vends that are to count. Each was checked against what was due or left, so their
// sum is within it; one that would not be is left out, never charged.
func (d durable) sum(counts func(vend) bool) (money.Amount, []protocol.VendID) {
	sum, ids := money.New(0, d.Due.Currency), []protocol.VendID(nil)
	for _, v := range d.Vends {
		if !counts(v) {
			continue
		}
		next, err := sum.Add(v.Amount)
		if c, over := next.Cmp(d.Approved); err != nil || over != nil || c > 0 {
			continue
		}
		sum, ids = next, append(ids, v.ID)
	}
	return sum, ids
}

func (s *State) void(o *Output, why protocol.Reason, how protocol.How) {
	s.put(o, protocol.PaymentOutcome{Payment: s.d.Payment, What: protocol.Void, Amount: money.New(0, s.d.Due.Currency), Reason: why})
	s.close(o, how)
}

// deny says 06, once, and only if the bus asked.
func (s *State) deny(o *Output) {
	if s.owes {
		o.do(DenyVend{s.heard})
	}
	s.owes = false
}

// counts says whether a vend is charged for.
func (s State) counts(v vend) bool {
	switch v.Result {
	case protocol.Delivered:
		return true
	case protocol.Presumed, protocol.Unknown:
		if s.cfg.OwnsMotor {
			return false
		}
		if v.Hint != protocol.HintNone {
			return !s.policy.HintedIsFree
		}
		return s.policy.UnhintedCounts
	}
	return false
}

// settle writes the outcome of a payment after its vends, and closes the sale. in opens a case for
// vends still in doubt.
func (s *State) settle(o *Output, in In, why protocol.Reason) {
	sum, counted := s.d.sum(s.counts)
	pay, sale, how, card := s.d.Payment, s.d.Sale, protocol.NotCharged, !s.d.Cash
	asks := s.doubts(in, pay)
	switch {
	case sum.Minor > 0:
		how = protocol.Sold
		s.put(o, protocol.PaymentOutcome{Payment: pay, What: protocol.Capture, Amount: sum, Reason: protocol.ReasonSold, Counted: counted})
	default:
		if why == protocol.NoPurchase {
			how = protocol.NoPurchaseMade
		}
		s.put(o, protocol.PaymentOutcome{Payment: pay, What: protocol.Void, Amount: sum, Reason: why})
	}
	if asks != nil {
		s.put(o, *asks)
	}
	owes := s.d.Phase == InChange
	if owes { // it is closed when the change is paid
		s.clear(o)
	} else {
		s.close(o, how)
	}
	switch {
	case how != protocol.Sold:
		o.do(Show{ScreenNotCharged, sum, why.String()})
	case owes:
		o.do(Show{ScreenThanks, sum, ""})
	default:
		o.do(Show{ScreenThanks, sum, ""}, Receipt{sale})
	}
	if card && (how == protocol.Sold || why != protocol.NoPurchase) { // a session left without buying is no failure
		o.do(CardSignal{how == protocol.Sold})
	}
}

// doubts asks a person about the vends still in doubt; nil: there are none.
func (s *State) doubts(in In, pay protocol.PaymentID) *protocol.CaseOpened {
	b := protocol.CaseOpened{Case: in.Case, Payment: pay, Cause: protocol.CaseUnknown}
	for _, v := range s.d.Vends {
		if v.Result != protocol.Presumed && v.Result != protocol.Unknown {
			continue
		}
		b.Vends, b.Charged = append(b.Vends, v.ID), b.Charged || s.counts(v)
		if v.Result == protocol.Presumed {
			b.Cause = protocol.CasePresumed
		}
	}
	if len(b.Vends) == 0 {
		return nil
	}
	return &b
}

func (s *State) vendNext(o *Output) {
	it := s.d.Items[len(s.d.Vends)]
	s.startVend(o, it.Vend, it.Outlet, it.Amount, int(it.Line))
}

func (s *State) startVend(o *Output, id protocol.VendID, out protocol.Outlet, a money.Amount, line int) {
	product := ""
	if line < len(s.d.Lines) {
		product = s.d.Lines[line].Product
	}
	s.put(o, protocol.VendStarted{Vend: id, Payment: s.d.Payment, N: uint16(len(s.d.Vends) + 1), Outlet: out, Product: product, Amount: a, Bus: s.request})
	s.queued, s.owes = true, false
	o.do(Show{ScreenVending, a, ""}, Vend{id, out, a, s.policy.ApproveBy(), s.request})
	s.start(o, TimerVend, s.policy.Vend())
}

func (s *State) authorize(o *Output, now protocol.Reading, c CardRead, p protocol.Purpose) {
	w := uint32(s.wait(now).Milliseconds())
	by := protocol.ByHost
	if c.Loop {
		by = protocol.ByClosedLoop
	}
	ask := protocol.Ask{
		V: protocol.Version, Device: s.cfg.Device, Sale: s.d.Sale, Payment: c.Payment, Lane: s.cfg.Lane, Class: s.d.Class,
		AuthorizedBy: by, Traceparent: protocol.Traceparent(s.d.Sale, c.Payment), Purpose: p, Amount: s.d.Due, Lines: protocol.HashOf(s.d.Lines),
		Tap: c.Tap, Sealed: c.Sealed, Anchor: now.Anchor, SinceAnchorMS: now.SinceAnchor.Milliseconds(), WaitMS: w,
		PolicyVersion: s.policy.Version, Bus: s.cfg.Bus,
	}
	s.put(o, protocol.AuthorizationSent{Payment: c.Payment, AskHash: protocol.HashOf(ask), Purpose: p, Amount: s.d.Due, Card: c.Card, WaitMS: w, PolicyVersion: s.policy.Version})
	s.card, s.received = &c, false
	s.attempts++
	s.stop(o, TimerOrder)
	o.do(DisarmReader{}, Show{ScreenAuthorizing, s.d.Due, ""}, Authorize{Ask: ask, Record: len(o.Records) - 1})
	s.start(o, TimerWait, s.wait(now))
}

func (s *State) offline(o *Output, v risk.Verdict, prior protocol.PaymentID, why protocol.Cause) {
	c := s.card.Card
	c.BlobHash = s.card.SpareHash
	o.Blobs = append(o.Blobs, protocol.Blob{Payment: s.card.Spare, Sealed: s.card.SpareSealed})
	s.put(o, protocol.OfflineAccepted{
		Payment: s.card.Spare, Prior: prior, OfflineKind: v.Kind, Cause: why, Rule: v.Rule, Amount: s.d.Due,
		Card: c, TapHMAC: s.card.TapHMAC, PolicyVersion: s.policy.Version, Lease: s.lease,
	})
	s.counters.Exposure += s.d.Due.Minor
	s.counters.Count++
	s.stop(o, TimerOrder)
	s.stop(o, TimerWait)
	o.do(DisarmReader{})
	if s.d.Flow == protocol.CardFirst {
		s.begin(o)
	} else {
		s.vendNext(o)
	}
}

func (s *State) begin(o *Output) {
	f := s.d.Approved
	f.Minor = min(f.Minor, 0xFFFE)
	s.stop(o, TimerWait)
	s.open = true
	o.do(Show{ScreenSession, f, ""}, BeginSession{f})
	s.start(o, TimerSession, s.policy.Session())
}

// doubt ends the live vend as presumed or unknown and asks for evidence.
func (s *State) doubt(o *Output, in In, r protocol.VendOutcome, why protocol.VendReason) {
	s.put(o, protocol.VendResult{Vend: s.d.last().ID, Result: r, Reason: why})
	s.stop(o, TimerVend)
	s.stop(o, TimerSession)
	s.evidence(o, in, why == protocol.VendRestart)
}

// evidence asks whether the last vend came out, and waits for the answer.
func (s *State) evidence(o *Output, in In, restart bool) {
	v := *s.d.last()
	if s.restart = restart; restart {
		s.queued = false // the driver that had the approval is gone with its queue
		o.do(Resume{v.ID})
	}
	if v.Result == protocol.Unknown {
		o.do(StopOutlet{v.Outlet, "vend_unknown"})
	}
	s.await(o, in)
}

// await is the wait: none where nobody can tell more; it begins when the bus is up, and anew after
// a restart; a bus that is away ends it later.
func (s *State) await(o *Output, in In) {
	v := *s.d.last()
	o.do(AskEvidence{v.ID, v.Outlet})
	w := s.policy.Evidence()
	switch {
	case s.restart && !s.bus.HasEvidence && !s.cfg.OwnsMotor: // an adapter that lived on may still say
		w = s.policy.Vend()
	case !s.bus.HasEvidence:
		s.over(o, in)
		return
	}
	if !s.bus.up() {
		w = s.policy.BusAway()
	}
	o.do(Show{ScreenWait, v.Amount, ""})
	s.start(o, TimerEvidence, w)
}

// over ends the wait.
func (s *State) over(o *Output, in In) {
	o.take(pick(s.d.Flow == protocol.CardFirst, "C26", "S33"))
	s.settle(o, in, protocol.VendUnknown)
	s.end(o)
}

// end ends the controller's session, if one is open.
func (s *State) end(o *Output) {
	if s.open {
		o.do(EndSession{})
	}
	s.open = false
}
