package mdb

import (
	"fmt"
	"time"

	"coinop/hardware"
	"coinop/protocol/money"
)

// Times of the master's side (MDB/ICP 4.2, sections 2, 5 and 6).
const (
	pollEach   = 100 * time.Millisecond // 25 to 200 ms
	replyTime  = 50 * time.Millisecond  // 5 ms on the bus; a process is later
	replySlow  = 300 * time.Millisecond // through an adapter that says it in hex at 9,600 baud
	quietTime  = 150 * time.Millisecond // after an exchange without an answer: it may be late
	lateMost   = time.Second            // what comes later than that is noise
	resetEach  = 10 * time.Second       // a device that is gone
	tubeWait   = 500 * time.Millisecond // after a reset, before the first TUBE STATUS
	lostAfter  = 2 * time.Second        // a changer's non-response time
	billAfter  = 5 * time.Second        // a validator's
	payMost    = 60 * time.Second       // of a payout
	escrowMost = 30 * time.Second       // for a bill to be stacked or returned
	lowTube    = 5                      // coins: fewer of the smallest coin is exact money only
)

// Reasons of hardware.Paid beside "".
const (
	PaidShort   = "no_coins" // the tubes cannot make it
	PaidJam     = "jammed"   // fewer came out than were ordered
	PaidLost    = "changer_lost"
	PaidNoTime  = "no_end"
	PaidBusy    = "busy"
	PaidForeign = "currency"
)

// Addresses, and the commands below them.
const (
	changer   = 0x08
	validator = 0x30
)

// step is how far a device's start is. Before it is reset it is heard: one that kept its power while we
// were away may have money to tell of, or pay out yet, and a reset ends both. A buyer who goes on putting coins
// in is stopped first: one that came in between the last POLL and the reset nobody would hear of.
type step uint8

const (
	stepKnow step = iota // SETUP, for what its coins are worth
	stepShut             // COIN TYPE: none
	stepHear             // POLL, until there is no news
	stepReset
	stepJust // JUST RESET is awaited
	stepSetup
	stepID
	stepFeature
	stepTubes
	stepTypes
	stepLive
)

// peer is a device at the bus.
type peer struct {
	step   step
	heard  time.Duration // last answer
	again  time.Duration // not before
	just   time.Duration // when JUST RESET must have come
	gone   bool          // it was told that it is absent
	level  byte
	scale  int64 // minor units of one unit
	types  [16]int64
	tokens uint16 // types that are no money
	tubed  uint16 // types that can go into a tube
	alt    bool   // changer: it can be given an amount, and chooses the coins (level 3, feature bit 0)
	odd    bool   // changer: its word and its tubes differ, and that was told
	alone  bool   // validator: it has no escrow
	jammed bool
}

// CashState is the machine of a bus whose master we are, with a coin changer and a bill validator: pure,
// its time is given. One exchange at a time; the devices take turns.
type CashState struct {
	cfg      CashConfig
	device   string
	currency money.Currency
	noBills  bool
	open     bool
	accept   int64 // coins of up to this, minor units, and bills; 0: none
	slot     int   // the types of coins that are let in, as the changer was last told; -1: it was not
	notes    int   // the same of bills
	quiet    bool  // no coin can come in, and none is on its way
	coin     peer
	bill     peer
	turn     bool // the validator's

	master
	next time.Duration // of the next exchange

	heard  []byte  // the changer's last POLL
	last   [16]int // count of a tube as it was last reported with a coin; -1: not known
	tubes  []money.Tube
	tubeAt time.Duration
	level  hardware.CashLevel
	levels bool // it was told

	said []byte // the validator's last POLL
	held int64  // in escrow, minor units
	take *bool  // what is to become of it
	esc  time.Duration

	pay *payout
}

// payout is one under way. First no coins are let in, and what came in is heard of: then only we change
// what is in the tubes, and they are counted. Then one order of one type of coin, until the changer is done with it, then the
// tubes are counted, and so on. An order is never said twice: whether the changer heard it the tubes say.
type payout struct {
	id      uint32
	asked   money.Amount
	before  int64 // in the tubes
	given   int64
	stage   payStage
	ordered bool  // something was
	stuck   int   // orders of which nothing came
	told    int64 // what the changer says it gave, where it chose the coins
	alone   bool  // it did
	by      time.Duration
}

type payStage uint8

const (
	payQuiet payStage = iota // no coins any more; a POLL without news
	payFirst                 // the tubes are counted
	payOrder
	payBusy
	payAlone // the changer chooses the coins, and says what it has given since it was asked last
	payTell  // it is done, and says which
	payCount
)

// NewCashState is a machine whose port is not open yet.
func NewCashState(cfg CashConfig) CashState {
	s := CashState{cfg: cfg, device: cfg.Device, currency: cfg.Currency, noBills: cfg.NoBills, slot: -1, notes: -1, master: newMaster(cfg.Port)}
	s.forget()
	return s
}

type (
	acceptCmd struct{ most int64 }
	payCmd    struct {
		id uint32
		a  money.Amount
	}
	billCmd struct{ take bool }
)

// Step takes one input at a time now.
func (s CashState) Step(now time.Duration, in any) (CashState, hardware.Output) {
	var o hardware.Output
	s.tubes = append([]money.Tube(nil), s.tubes...)
	if s.pay != nil {
		p := *s.pay
		s.pay = &p
	}
	switch in := in.(type) {
	case hardware.Opened:
		s = NewCashState(s.cfg)
		s.open, s.next = true, now
		s.coin.heard, s.bill.heard = now, now
	case hardware.Closed:
		if s.pay != nil {
			s.paid(&o, 0, false, PaidLost)
		}
		s.open = false
	case hardware.Bytes:
		for _, w := range s.line.Add(in.B) {
			s.word(&o, now, w)
		}
	case acceptCmd:
		if s.accept = in.most; s.accept > 0 {
			s.quiet, s.levels = false, false // what is still after it is news
		}
	case payCmd:
		s.order(&o, now, in)
	case billCmd:
		if s.held > 0 && s.take == nil {
			s.take = &in.take
		}
	}
	if s.open {
		s.tick(&o, now)
		o.Wake = s.next
		if s.sent != nil {
			o.Wake = s.until
		}
	}
	return s, o
}

// tick ends an exchange that got no answer, and begins the next.
func (s *CashState) tick(o *hardware.Output, now time.Duration) {
	if s.sent != nil {
		if now < s.until {
			return
		}
		s.silent(o, now)
	}
	s.late(o, now)
	for range 2 { // each device has its turn; one that has nothing to say gives it up
		if s.sent != nil || now < s.next {
			return
		}
		s.turn = !s.turn && !s.noBills
		p, data := &s.coin, []byte(nil)
		if s.turn {
			p = &s.bill
			data = s.validatorSays(now)
		} else {
			data = s.changerSays(now)
		}
		if data != nil && now >= p.again {
			s.say(o, now, data)
		}
	}
	if s.sent == nil {
		s.next = now + pollEach/2
	}
}

// silent is an exchange without an answer.
func (s *CashState) silent(o *hardware.Output, now time.Duration) {
	p, most := s.peerOf(s.sent[0])
	s.sent, s.next = nil, now+quietTime
	switch {
	case p.step == stepKnow: // perhaps it has to be reset first
		p.step = stepReset
		return
	case p.step == stepShut:
		p.step = stepHear
		return
	case p.step != stepReset && now-p.heard < most:
		return
	}
	if !p.gone {
		p.gone = true
		o.Emit(hardware.Health{Device: s.nameOf(p), State: hardware.Absent, Code: hardware.CodeSilent, Detail: "no answer on the bus"})
	}
	again := now + resetEach
	*p = peer{gone: true, again: again, heard: now}
	if p == &s.coin {
		s.slot, s.quiet, s.heard, s.tubes = -1, false, nil, nil
		if len(s.level.Tubes) > 0 {
			s.level, s.levels = hardware.CashLevel{}, false
			o.Emit(hardware.CashLevel{Change: s.amount(0), Exact: true}) // no tubes: nothing can be given
		}
		if s.pay != nil {
			s.paid(o, 0, false, PaidLost)
		}
	} else {
		s.notes = -1
		s.held, s.take = 0, nil
	}
}

func (s *CashState) peerOf(address byte) (*peer, time.Duration) {
	if address&0xF8 == validator {
		return &s.bill, billAfter
	}
	return &s.coin, lostAfter
}

func (s *CashState) nameOf(p *peer) string {
	if p == &s.bill {
		return s.device + " bills"
	}
	return s.device + " coins"
}

// word is one of a device's.
func (s *CashState) word(o *hardware.Output, now time.Duration, w Word) {
	data, done := s.hear(o, now, w)
	if !done {
		if s.sent == nil { // late; more may come, though not for ever
			s.next = max(s.next, min(now+quietTime, s.begun+lateMost))
		}
		return
	}
	sent := s.sent
	p, _ := s.peerOf(sent[0])
	p.heard = now
	s.sent, s.next = nil, now+pollEach/2
	if p == &s.bill {
		s.validatorSaid(o, now, sent, data)
	} else {
		s.changerSaid(o, now, sent, data)
	}
}

// live says that a device is ready.
func (s *CashState) live(o *hardware.Output, p *peer) {
	p.step, p.gone = stepLive, false
	o.Emit(hardware.Health{Device: s.nameOf(p), State: hardware.Ready, Code: hardware.CodeReady})
}

// jam tells that a device cannot go on, and when it can.
func (s *CashState) jam(o *hardware.Output, p *peer, on bool, what string) {
	if p.jammed == on {
		return
	}
	p.jammed = on
	if on {
		o.Emit(hardware.Health{Device: s.nameOf(p), State: hardware.Fault, Code: "cash.jammed", Detail: what})
		return
	}
	o.Emit(hardware.Health{Device: s.nameOf(p), State: hardware.Ready, Code: hardware.CodeReady})
}

func (s *CashState) amount(minor int64) money.Amount { return money.New(minor, s.currency) }

// forget is a changer that begins anew.
func (s *CashState) forget() {
	for i := range s.last {
		s.last[i] = -1
	}
}

// unitOf is one unit of a device's scale, in minor units; 0 when it is none.
func (s *CashState) unitOf(scale int64, decimals byte) int64 {
	for d := int(decimals); d < s.currency.Exponent(); d++ {
		scale *= 10
	}
	for d := int(decimals); d > s.currency.Exponent(); d-- {
		if scale%10 != 0 {
			return 0
		}
		scale /= 10
	}
	return scale
}

// order begins a payout.
func (s *CashState) order(o *hardware.Output, now time.Duration, in payCmd) {
	end := func(reason string) {
		o.Emit(hardware.Paid{ID: in.id, Asked: in.a, Given: s.amount(0), Known: true, Reason: reason})
	}
	switch {
	case in.a.Currency != s.currency || in.a.Minor < 0:
		end(PaidForeign)
		return
	case s.pay != nil:
		end(PaidBusy)
		return
	case !s.open || s.coin.step != stepLive || len(s.tubes) == 0: // one that came too late is not paid later
		end(PaidLost)
		return
	}
	if in.a.Minor == 0 {
		end("")
		return
	}
	s.pay = &payout{id: in.id, asked: in.a, by: now + payMost}
}

// counted goes on with a payout, or ends it, by what is gone from the tubes.
func (s *CashState) counted(o *hardware.Output, given int64) {
	p := s.pay
	if given <= p.given {
		p.stuck++
	} else {
		p.stuck = 0
	}
	p.given = max(given, 0)
	if p.alone && p.told != p.given && !s.coin.odd { // the tubes count; that it thinks otherwise is for a person
		s.coin.odd = true
		o.Emit(hardware.Health{
			Device: s.nameOf(&s.coin), State: hardware.Degraded, Code: "cash.count",
			Detail: fmt.Sprintf("it says it gave %d, its tubes say %d", p.told, p.given),
		})
	}
	_, more := money.Change(s.tubes, p.asked.Minor-p.given)
	switch {
	case p.given >= p.asked.Minor:
		s.paid(o, p.given, true, "")
	case more == 0:
		s.paid(o, p.given, true, PaidShort)
	case p.stuck > 1:
		s.paid(o, p.given, true, PaidJam)
	default:
		p.stage = payOrder
	}
}

func (s *CashState) paid(o *hardware.Output, given int64, known bool, reason string) {
	p := s.pay
	if !p.ordered { // nothing came out
		given, known = 0, true
	}
	s.pay, s.quiet, s.levels = nil, false, false
	o.Emit(hardware.Paid{ID: p.id, Asked: p.asked, Given: s.amount(given), Known: known, Reason: reason})
}

// late ends what takes too long.
func (s *CashState) late(o *hardware.Output, now time.Duration) {
	if s.pay != nil && now >= s.pay.by {
		s.paid(o, 0, false, PaidNoTime)
	}
	if s.esc > 0 && now >= s.esc { // neither stacked nor returned: the validator is asked again
		s.esc, s.take = 0, nil
	}
}
