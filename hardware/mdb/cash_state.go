package mdb

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"coinop/hardware"
	"coinop/protocol/money"
)

// Times of the master's side (MDB/ICP 4.2, sections 2, 5 and 6).
const (
	pollEach   = 100 * time.Millisecond // 25 to 200 ms
	replyTime  = 50 * time.Millisecond  // 5 ms on the bus; a process is later
	replySlow  = 300 * time.Millisecond // through an adapter that says it in hex at 9,600 baud
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
	s.sent, s.next = nil, now+pollEach/2
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
	data, done := s.hear(o, w)
	if !done {
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

// changerSays is what the changer is to hear next.
func (s *CashState) changerSays(now time.Duration) []byte {
	p := &s.coin
	switch p.step {
	case stepKnow:
		return []byte{changer | 1}
	case stepShut:
		return []byte{changer | 4, 0, 0, 0xFF, 0xFF}
	case stepHear:
		return []byte{changer | 3}
	case stepReset:
		return []byte{changer}
	case stepJust:
		return []byte{changer | 3}
	case stepSetup:
		return []byte{changer | 1}
	case stepID:
		return []byte{changer | 7, 0x00}
	case stepFeature:
		return []byte{changer | 7, 0x01, 0x00, 0x00, 0x00, 0x01}
	case stepTubes:
		s.tubeAt = now + 5*time.Second
		return []byte{changer | 2}
	case stepTypes:
		return s.coinTypes()
	case stepLive:
	}
	switch {
	case s.slot != s.takes():
		return s.coinTypes()
	case s.pay != nil && s.pay.stage == payFirst:
		return []byte{changer | 2}
	case s.pay != nil && s.pay.stage == payOrder:
		if units := s.alternative(s.pay.asked.Minor - s.pay.given); units > 0 {
			s.pay.stage, s.pay.ordered, s.pay.alone = payAlone, true, true
			s.forget()
			return []byte{changer | 7, 0x02, units}
		}
		coins, _ := money.Change(s.tubes, s.pay.asked.Minor-s.pay.given)
		for i := len(coins) - 1; i >= 0; i-- {
			if coins[i] > 0 {
				s.pay.stage, s.pay.ordered, s.last[i] = payBusy, true, -1
				return []byte{changer | 5, byte(min(coins[i], 15))<<4 | byte(i)}
			}
		}
		s.pay.stage = payCount // there is nothing left to give
		return []byte{changer | 2}
	case s.pay != nil && s.pay.stage == payAlone:
		return []byte{changer | 7, 0x04}
	case s.pay != nil && s.pay.stage == payTell:
		return []byte{changer | 7, 0x03}
	case s.pay != nil && s.pay.stage == payCount:
		return []byte{changer | 2}
	case now >= s.tubeAt:
		s.tubeAt = now + 5*time.Second
		return []byte{changer | 2}
	}
	return []byte{changer | 3}
}

// takes are the types of coins that may come in now, a bit each.
func (s *CashState) takes() int {
	if s.accept <= 0 || s.pay != nil {
		return 0
	}
	types := 0xFFFF
	for i, v := range s.coin.types {
		if v > s.accept || s.coin.tokens>>i&1 != 0 {
			types &^= 1 << i
		}
	}
	return types
}

// coinTypes is COIN TYPE: which coins are taken, and that all may be given by hand.
func (s *CashState) coinTypes() []byte {
	t := s.takes()
	return []byte{changer | 4, byte(t >> 8), byte(t), 0xFF, 0xFF} //nolint:gosec // two bytes of it
}

func (s *CashState) changerSaid(o *hardware.Output, now time.Duration, sent, data []byte) {
	p := &s.coin
	switch sent[0] & 7 {
	case 0: // RESET
		p.step = stepJust
	case 1: // SETUP: level, country, scale, decimals, routing, values
		if len(data) < 7 {
			return
		}
		p.level, p.scale = data[0], s.unitOf(int64(data[3]), data[4])
		p.types, p.tokens, p.tubed = [16]int64{}, 0, uint16(data[5])<<8|uint16(data[6])
		for i, v := range data[7:min(len(data), 23)] {
			if v == 0xFF {
				p.tokens |= 1 << i
				continue
			}
			p.types[i] = int64(v) * p.scale
		}
		if p.step == stepKnow {
			p.step = stepShut
			return
		}
		p.step, p.again = stepTubes, now+tubeWait
		if p.level >= 3 {
			p.step = stepID
		}
	case 7:
		s.expanded(sent[1], data)
	case 2:
		s.tubesSaid(o, data)
		if p.step == stepTubes {
			p.step = stepTypes
		}
	case 4:
		if p.step == stepShut {
			p.step = stepHear
			return
		}
		s.slot = int(sent[1])<<8 | int(sent[2])
		if p.step == stepTypes {
			s.live(o, p)
		}
	case 5: // DISPENSE: the polls say when it is done
	case 3:
		s.coins(o, now, data)
	}
}

// alternative is how many units to order of a changer that chooses the coins itself: as much as one
// order can say and the largest coins first can make, which is how changers choose. 0: coin by coin.
func (s *CashState) alternative(minor int64) byte {
	p := &s.coin
	if !p.alt || p.scale <= 0 {
		return 0
	}
	_, paid := money.Change(s.tubes, min(minor, 255*p.scale))
	if paid == 0 || paid%p.scale != 0 || largest(s.tubes, paid) != paid {
		return 0
	}
	return byte(paid / p.scale) //nolint:gosec // up to 255
}

// largest is what taking the largest coins first makes of an amount.
func largest(tubes []money.Tube, minor int64) (paid int64) {
	sorted := slices.Clone(tubes)
	slices.SortFunc(sorted, func(a, b money.Tube) int { return cmp.Compare(b.Value, a.Value) })
	for _, t := range sorted {
		if t.Value > 0 {
			paid += t.Value * min(int64(t.Count), (minor-paid)/t.Value)
		}
	}
	return paid
}

// expanded is the answer to an expansion command (MDB/ICP 4.2, section 5, 0Fh).
func (s *CashState) expanded(sub byte, data []byte) {
	p := &s.coin
	switch sub {
	case 0x00: // maker, serial, model, version, and the features: bit 0 is the alternative payout
		p.alt = len(data) == 33 && data[32]&1 != 0
		if p.step = stepTubes; p.alt {
			p.step = stepFeature
		}
	case 0x01:
		p.step = stepTubes
	case 0x04: // what was given since; none: it is done
		if s.pay != nil && s.pay.stage == payAlone && len(data) == 0 {
			s.pay.stage = payTell
		}
	case 0x03: // coins of each type; none: it is not done after all
		if s.pay == nil || s.pay.stage != payTell || len(data) == 0 {
			return
		}
		for i, n := range data[:min(len(data), 16)] {
			s.pay.told += p.types[i] * int64(n)
		}
		s.pay.stage = payCount
	}
}

// tubesSaid is TUBE STATUS: full bits, and a count a type.
func (s *CashState) tubesSaid(o *hardware.Output, data []byte) {
	if len(data) < 2 {
		return
	}
	full := uint16(data[0])<<8 | uint16(data[1])
	s.tubes = make([]money.Tube, 16)
	sum, small, least := int64(0), int64(0), 0
	for i := range s.tubes {
		s.tubes[i].Value = s.coin.types[i]
		if s.tubes[i].Full = full>>i&1 != 0; i < len(data)-2 {
			s.tubes[i].Count = uint16(data[2+i])
		}
		t := s.tubes[i]
		if sum += t.Value * int64(t.Count); t.Count == 0 && s.coin.tubed>>i&1 == 0 {
			continue // it goes to the box: change is never made of it
		}
		if t.Value > 0 && (small == 0 || t.Value < small) {
			small, least = t.Value, 0
		}
		if t.Value > 0 && t.Value == small {
			least += int(t.Count)
		}
	}
	now := hardware.CashLevel{Change: s.amount(sum), Exact: small == 0 || least < lowTube, Still: s.quiet && s.pay == nil}
	for _, t := range s.tubes {
		if t.Value > 0 {
			now.Tubes = append(now.Tubes, t)
		}
	}
	if !s.levels || !now.Equal(s.level) {
		s.level, s.levels = now, true
		o.Emit(now)
	}
	switch {
	case s.pay != nil && s.pay.stage == payFirst:
		s.pay.stage, s.pay.before = payOrder, sum
		if _, paid := money.Change(s.tubes, s.pay.asked.Minor); paid == 0 {
			s.paid(o, 0, true, PaidShort)
		}
	case s.pay != nil && s.pay.stage == payCount:
		s.counted(o, s.pay.before-sum)
	}
}

// coins is the changer's POLL.
func (s *CashState) coins(o *hardware.Output, now time.Duration, data []byte) {
	p, busy := &s.coin, false
	// A mechanism takes longer for a coin than we for the next POLL: the same block is the same coins,
	// and our ACK was not heard.
	again := len(data) > 0 && bytes.Equal(data, s.heard)
	s.heard = slices.Clone(data)
	for i := 0; i < len(data); i++ {
		b := data[i]
		switch {
		case b&0x80 != 0 && i+1 < len(data): // given by hand
			if v, n := p.types[b&15], int64(b>>4&7); v > 0 && !again && s.fresh(b, data[i+1]) {
				o.Emit(hardware.CashOut{Value: s.amount(v * n)})
				if s.pay != nil {
					s.pay.before -= v * n
				}
			}
			s.moved(now)
			i++
		case b&0x40 != 0 && i+1 < len(data): // a coin
			v := p.types[b&15]
			switch way := b >> 4 & 3; {
			case v == 0, way > 1, again: // a token, or it went back, or it was told
			case way == 1:
				if s.fresh(b, data[i+1]) {
					o.Emit(hardware.CashIn{Value: s.amount(v)})
				}
			default:
				o.Emit(hardware.CashIn{Value: s.amount(v), Box: true})
			}
			s.moved(now)
			i++
		case b&0x20 != 0: // slugs
		case b == 0x01:
			o.Emit(hardware.ReturnLever{})
		case b == 0x02:
			busy = true
		case b == 0x07, b == 0x0C:
			s.jam(o, p, true, fmt.Sprintf("status %02X", b))
		case b == 0x0B:
			s.wasReset(o, now)
			return
		}
	}
	if len(data) == 0 {
		s.jam(o, p, false, "")
		if s.slot == 0 && s.accept == 0 && s.pay == nil && !s.quiet {
			s.quiet, s.tubeAt = true, now
		}
	}
	switch {
	case s.pay != nil && s.pay.stage == payQuiet && len(data) == 0 && s.slot == 0:
		s.pay.stage = payFirst
	case s.pay != nil && s.pay.stage == payBusy && !busy:
		s.pay.stage = payCount
	case p.step == stepHear && !busy && !slices.ContainsFunc(data, func(b byte) bool { return b >= 0x40 }):
		p.step = stepReset
	}
}

// moved is a coin: the tubes are counted anew, and told.
func (s *CashState) moved(now time.Duration) { s.tubeAt, s.quiet, s.levels = now, false, false }

// fresh reports whether a report of a coin into a tube, or out of it by hand, is news: each leaves
// another count behind. With the same it is the one before: the changer did not hear our ACK.
func (s *CashState) fresh(b, n byte) bool {
	if s.last[b&15] == int(n) {
		return false
	}
	s.last[b&15] = int(n)
	return true
}

// wasReset is the changer's word that it began anew.
func (s *CashState) wasReset(o *hardware.Output, now time.Duration) {
	p := &s.coin
	if p.step == stepJust {
		p.step = stepSetup
		return
	}
	gone := p.gone
	s.forget()
	*p = peer{step: stepSetup, heard: now, gone: gone}
	s.slot, s.quiet, s.levels, s.heard = -1, false, false, nil
	if s.pay != nil && s.pay.ordered { // what it had given by then, the tubes say
		s.pay.stage = payCount
	}
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
