package mdb

import (
	"fmt"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Times of the bus side. The controller polls every 25 to 200 ms and resets a device that is silent for
// its non-response time (MDB/ICP 4.2, sections 2.5 and 7.4).
const (
	blockGap = 20 * time.Millisecond // within a block: 1 ms on the bus, more behind a USB port
	ackTime  = 50 * time.Millisecond // for an acknowledgment: 5 ms on the bus
	busQuiet = 5 * time.Second       // without a word for us the bus counts as down
	// A cashless device may be silent for 5 s (7.1); after a failed vend it is, for less.
	refundTime = 4 * time.Second
	lateResult = 3 * time.Second // for the result of a vend that began before our port was opened
)

// busPhase is the cashless device's state, MDB/ICP 4.2, 7.2; its number is what 0B tells.
type busPhase uint8

const (
	busUnknown  busPhase = 0 // an adapter lived on, and has not said
	busInactive busPhase = 1
	busDisabled busPhase = 2
	busEnabled  busPhase = 3
	busIdle     busPhase = 4 // a session is open
	busVend     busPhase = 5
	busRevalue  busPhase = 6
	busNegative busPhase = 7
)

// Options of 17 04.
const (
	optFTL        = 1 << 0
	opt32Bit      = 1 << 1
	optCurrencies = 1 << 2
	optNegative   = 1 << 3
	optDataEntry  = 1 << 4
	optAlwaysIdle = 1 << 5
)

// answer is one message to the controller. It stays the first of the queue until the controller has
// acknowledged it: whatever it did not acknowledge is said again at the next POLL.
type answer struct {
	data []byte // nil: ACK
	vend protocol.VendID
	load bool // it answers a REVALUE REQUEST
	sent bool
}

// CashlessState is the machine of a cashless device at the bus: pure, its time is given. It is the
// device itself, and sees what the controller acknowledges; or it is behind an adapter that answers POLLs,
// and what it says counts as heard as far as that binds us (cashless_wafer.go).
//
//	inactive -(11 00, 11 01)→ disabled ⇄(14 00, 14 01)⇄ enabled -(03 acknowledged)→ idle -(13 00)→ vend
//	vend -(13 02, 13 03, 06 acknowledged)→ idle, or enabled where it is always idle; idle -(13 04)→ enabled
//	idle -(15 00)→ revalue -(0D, 0E acknowledged)→ idle, or enabled where it is always idle
type CashlessState struct {
	scale   Scale
	device  string
	address byte // 10, or 60 for the second cashless device
	level   byte // of ours
	z7      byte // seconds
	serial  string
	tongue  [2]byte // language of sessions
	adapter bool    // behind one of Waferstar
	wafer   waferDevice

	open     bool
	unmark   Unmark
	block    []Word
	gap      time.Duration // when half a block is given up; 0: none
	wantsAck bool          // a block of ours was the last on the wire
	ackBy    time.Duration // until then
	last     []Word        // that block
	ofQueue  bool          // it was the first of the queue: an ACK is that one's

	phase    busPhase
	common   byte   // level
	options  uint32 // enabled by 17 04
	config   bool   // 11 00 came
	prices   bool   // 11 01 came
	foreign  bool   // and says that its prices are in another currency
	off      bool   // 14 00 came in a session: disabled after it
	ending   bool   // its end was asked for while money was being loaded
	queue    []answer
	key      protocol.BusKey
	card     bool   // a session that we began
	asked    []byte // the open request as on the wire
	req      request
	answered bool // an answer to it was acknowledged

	approval approve         // the last one taken
	end      bool            // its end was told
	gone     protocol.VendID // the last one that was not taken: its end was told too
	bound    protocol.VendID // its result is awaited
	item     protocol.Outlet
	served   bool
	orphan   result

	limit   uint32 // units, most that can be loaded at once
	loading loading
	entry   entry

	announce  time.Duration   // when JUST RESET is said to a controller that has not noticed our absence; 0: it has
	refunding protocol.VendID // it failed, and is not written down yet: POLLs are not answered
	refundBy  time.Duration

	heard, said time.Duration
	saidUp      hardware.BusUp
	garbled     int
}

// NewCashlessState is a machine whose port is not open yet.
func NewCashlessState(cfg CashlessConfig) CashlessState {
	s := CashlessState{scale: cfg.Scale, device: cfg.Device, address: 0x10, level: cfg.Level, z7: byte(cfg.Z7 / time.Second), serial: cfg.Serial, end: true} //nolint:gosec // checked
	if cfg.Second {
		s.address = 0x60
	}
	s.adapter = cfg.Port == PortWaferstar
	copy(s.tongue[:], cfg.Language)
	s.key.BusEpoch = cfg.BusEpoch
	return s
}

// Step takes one input at a time now.
func (s CashlessState) Step(now time.Duration, in any) (CashlessState, hardware.Output) {
	var o hardware.Output
	s.queue = append([]answer(nil), s.queue...)
	s.block = append([]Word(nil), s.block...)
	switch in := in.(type) {
	case hardware.Opened:
		s.open, s.unmark, s.block, s.gap, s.heard = true, Unmark{}, nil, 0, now
		s.saidUp = 0
		if s.adapter {
			s.meet(&o, now)
			break
		}
		// Whatever the bus was in the middle of went on without us. A controller that missed us resets us; one
		// that did not is told, but first it may have a result to tell.
		s.reset(now, nil)
		s.announce = now + lateResult
		s.key.BusEpoch++
		o.Emit(hardware.Health{Device: s.device, State: hardware.Ready, Code: hardware.CodeReady})
		s.life(&o, now)
	case hardware.Closed:
		s.open = false
		s.lose(&o)
		s.loseLoad(&o)
		s.entryEnds(&o, hardware.EntryReset)
		s.phase, s.queue, s.req = busInactive, nil, request{}
	case hardware.Bytes:
		s.late(&o, now) // they may come before we were woken for it
		if s.adapter {
			for _, f := range s.wafer.frames.add(in.B) {
				s.frame(&o, now, f)
			}
			s.unmark.Lost, s.wafer.frames.Lost = s.wafer.frames.Lost, 0
			in.B = nil
		}
		for _, w := range s.unmark.Add(in.B) {
			s.word(&o, now, w)
		}
		if n := s.unmark.Lost; n > 0 {
			s.unmark.Lost = 0
			s.noise(&o, n)
		}
	case hardware.Wake:
		if s.gap > 0 && now >= s.gap {
			s.block, s.gap = nil, 0
			s.noise(&o, 1)
		}
		s.life(&o, now)
		s.late(&o, now)
		if s.adapter {
			s.tick(&o, now)
		}
	case hardware.Wrote:
		s.wrote(&o, now, in)
	case begin:
		s.begin(&o, in)
	case approve:
		s.approve(&o, now, in)
	case withdraw:
		if in.vend != s.approval.vend && in.vend != s.gone {
			s.gone = in.vend
			o.Emit(hardware.Approval{Vend: in.vend, How: hardware.ApprovalWithdrawn})
		}
	case deny:
		s.deny(&o, in)
	case refunded:
		if s.refunding == in.vend {
			s.refunding = protocol.VendID{}
		}
	case limit:
		s.limit = in.units
	case load:
		s.load(&o, in)
	case prompt:
		s.ask(&o, in)
	case unask:
		s.unask(&o, in)
	case end:
		s.endSession(&o)
	case resume:
		if s.bound != in.vend && !s.served {
			s.bound, s.item = in.vend, protocol.OutletAny
			if r := s.orphan; r != none {
				s.orphan = none
				s.result(&o, r, 0)
			}
		}
	}
	if s.adapter {
		s.flush(&o, now)
	}
	o.Wake = s.wake(now)
	return s, o
}

func (s *CashlessState) wake(now time.Duration) time.Duration {
	if !s.open {
		return 0
	}
	at := max(s.said+lifeEvery, now+time.Millisecond)
	if s.gap > 0 {
		at = min(at, s.gap)
	}
	for _, by := range []time.Duration{s.approval.by, s.loading.by, s.entry.by} {
		if by > now {
			at = min(at, by)
		}
	}
	if s.unheard() && s.ackBy > now {
		at = min(at, s.ackBy)
	}
	if s.adapter {
		at = s.waferWake(at)
	}
	return at
}

// word takes one word of the controller's line.
func (s *CashlessState) word(o *hardware.Output, now time.Duration, w Word) {
	if w == Break {
		s.block, s.gap, s.heard = nil, 0, now
		s.busReset(o, now, false)
		return
	}
	if w&Mode != 0 {
		s.block = append(s.block[:0], w)
		s.wantsAck = false // it went on without an acknowledgment
	} else if len(s.block) == 0 {
		if s.wantsAck && now <= s.ackBy {
			s.acknowledged(o, now, byte(w))
		}
		return // of another device's block, or noise
	} else {
		s.block = append(s.block, w)
	}
	if byte(s.block[0])&0xF8 != s.address {
		s.block = s.block[:0]
		return
	}
	s.gap = now + blockGap
	if len(s.block) > BlockMax {
		s.block, s.gap = nil, 0
		s.noise(o, 1)
		return
	}
	if n := s.size(); n > 0 && len(s.block) == n {
		b := s.block
		s.block, s.gap = nil, 0
		s.command(o, now, b)
	}
}

// size is how long the block that comes in is, its CHK included; 0: not known yet, or never.
func (s *CashlessState) size() int {
	head := byte(s.block[0])&7 | 0x10
	if n, ok := sizes[Command(head)<<8|0xFF]; ok {
		return n[0] + 1
	}
	if len(s.block) < 2 {
		return 0
	}
	c := Command(head)<<8 | Command(byte(s.block[1]))
	n, ok := sizes[c]
	switch {
	case !ok:
		return s.unknownSize()
	case c == SetupPrices && s.expanded() && len(s.block) > n[0]+1:
		return n[1] + 1
	case c == SetupPrices && s.expanded(): // the short form may come in this mode too: CHK tells
		if len(s.block) == n[0]+1 && chk(low(s.block[:n[0]])) == byte(s.block[n[0]]) {
			return n[0] + 1
		}
		return n[1] + 1
	case s.expanded():
		return n[1] + 1
	}
	return n[0] + 1
}

// unknownSize ends a command nobody here knows (4.3's, a vendor's) where its sum is right.
func (s *CashlessState) unknownSize() int {
	n := len(s.block)
	if n >= 3 && chk(low(s.block[:n-1])) == byte(s.block[n-1]) {
		return n
	}
	return 0
}

func low(w []Word) []byte {
	b := make([]byte, len(w))
	for i, x := range w {
		b[i] = byte(x)
	}
	return b
}

func (s *CashlessState) expanded() bool { return s.options&(opt32Bit|optCurrencies) != 0 }

// send puts a block on the wire; with no data it is the lone ACK. An adapter has acknowledged already.
func (s *CashlessState) send(o *hardware.Output, data []byte) {
	if s.adapter {
		if len(data) > 0 {
			s.say(data)
		}
		return
	}
	s.ackBy = s.heard + ackTime
	w, err := Peripheral(data...)
	if err != nil {
		panic(err) // of a block of ours that is too long
	}
	s.wantsAck, s.last, s.ofQueue = len(data) > 0, w, false
	o.Write(Mark(w))
}

// reply puts data on the wire at once, and again at POLLs until it is acknowledged. Behind others it waits its turn.
func (s *CashlessState) reply(o *hardware.Output, data []byte) {
	if s.drop(data[0]); s.adapter || len(s.queue) > 0 {
		s.send(o, nil)
		s.say(data)
		return
	}
	s.say(data)
	s.sayFirst(o)
}

// sayFirst says what waits first.
func (s *CashlessState) sayFirst(o *hardware.Output) {
	s.queue[0].sent = true
	s.send(o, s.queue[0].data)
	s.ofQueue = true
}

// say queues a message for the next POLL.
func (s *CashlessState) say(data []byte) { s.queue = append(s.queue, answer{data: data}) }

// acknowledged is ACK, RET or NAK to our last block, told by the nearer of the bytes (section 2.2: two
// bits may be wrong).
func (s *CashlessState) acknowledged(o *hardware.Output, now time.Duration, b byte) {
	s.wantsAck = false
	switch {
	case near8(b, RET) && s.ofQueue && s.spoken() && now >= s.approval.by: // not again: late ends it
		return
	case near8(b, RET):
		s.wantsAck, s.ackBy = true, now+ackTime
		o.Write(Mark(s.last))
		return
	case !near8(b, ACK) || !s.ofQueue || len(s.queue) == 0 || !s.queue[0].sent:
		return // NAK, or noise: said again at the next POLL; or of an answer that is said once
	}
	a := s.queue[0]
	s.queue = s.queue[1:]
	s.told(o, now, a)
}

func near8(b, of byte) bool {
	n := 0
	for x := b ^ of; x > 0; x &= x - 1 {
		n++
	}
	return n <= 2
}

// told is what an acknowledged message changes.
func (s *CashlessState) told(o *hardware.Output, now time.Duration, a answer) {
	switch a.data[0] {
	case 0x03: // BEGIN SESSION
		if s.phase == busEnabled {
			s.phase, s.card = busIdle, true
			s.key.Session, s.key.Request = s.key.Session+1, 0
		}
	case 0x05: // VEND APPROVED
		if s.adapter {
			s.ends(o, a.vend, hardware.ApprovalMaybe)
			break
		}
		s.answered = true
		s.ends(o, a.vend, hardware.ApprovalDelivered)
	case 0x06: // VEND DENIED
		if s.phase == busVend {
			s.answered = true
			s.leaveVend(o)
		}
	case 0x07: // END SESSION
		s.leaveSession(o)
	case 0x0D, 0x0E: // REVALUE APPROVED, DENIED
		if a.load {
			s.loaded(o, hardware.ApprovalDelivered)
			s.leaveVend(o)
		}
	}
	s.life(o, now)
}

// ends tells the end of an approval, once.
func (s *CashlessState) ends(o *hardware.Output, v protocol.VendID, how hardware.Delivery) {
	if s.end || s.approval.vend != v {
		return
	}
	s.end = true
	if how != hardware.ApprovalWithdrawn {
		s.bound, s.item = v, s.req.outlet
		s.req.open = false
	}
	o.Emit(hardware.Approval{Vend: v, How: how})
}

// lose ends an approval that has no end yet: withdrawn when it was never on the wire.
func (s *CashlessState) lose(o *hardware.Output) {
	if s.end {
		return
	}
	how := hardware.ApprovalWithdrawn
	for i, a := range s.queue {
		if a.vend == s.approval.vend {
			if a.sent { // and is not said again, not at RET either
				how, s.wantsAck = hardware.ApprovalMaybe, false
			}
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			break
		}
	}
	s.ends(o, s.approval.vend, how)
}

// spoken reports that the approval that has no end yet was on the wire; unheard, that its ACK may still come.
func (s *CashlessState) spoken() bool {
	return !s.end && len(s.queue) > 0 && s.queue[0].vend == s.approval.vend && s.queue[0].sent
}

func (s *CashlessState) unheard() bool { return s.spoken() && s.wantsAck && s.ofQueue }

// takeBack ends an approval that has no end yet: it is not on the wire from here on. The request is refused only
// where it never was: a controller that has heard 05 would not know what to make of 06.
func (s *CashlessState) takeBack(o *hardware.Output) {
	spoken := s.spoken()
	if s.lose(o); !spoken {
		s.refuse()
	}
}

// late takes back an approval whose time is over, said or not, and ends what else took too long.
func (s *CashlessState) late(o *hardware.Output, now time.Duration) {
	s.lateLoad(o, now)
	s.lateEntry(o, now)
	if s.end || now < s.approval.by || s.unheard() && now < s.ackBy {
		return
	}
	s.takeBack(o)
}

// refuse queues one 06 for the open request.
func (s *CashlessState) refuse() {
	s.req.open, s.req.denied = false, true
	for _, a := range s.queue {
		if a.data[0] == 0x06 {
			return
		}
	}
	s.say([]byte{0x06})
}

// leaveVend is back to the session, and where there is none (always idle) to its end.
func (s *CashlessState) leaveVend(o *hardware.Output) {
	s.req, s.asked = request{}, nil
	if s.phase = busIdle; !s.card {
		s.leaveSession(o)
	} else if s.ending {
		s.ending = false
		s.say([]byte{0x04})
	}
}

func (s *CashlessState) leaveSession(o *hardware.Output) {
	s.entryEnds(o, hardware.EntryOver)
	s.card, s.ending = false, false
	if s.phase = busEnabled; s.off {
		s.phase, s.off = busDisabled, false
	}
}

// noise is what makes no sense on the wire: told at the 1st, 2nd, 4th, 8th …
func (s *CashlessState) noise(o *hardware.Output, n int) {
	before := s.garbled
	s.garbled += n
	for p := 1; p > 0; p <<= 1 {
		if before < p && p <= s.garbled {
			o.Emit(hardware.Health{Device: s.device, State: hardware.Degraded, Code: hardware.CodeGarbage, Detail: fmt.Sprintf("%d blocks", s.garbled)})
			return
		}
	}
}

// life tells how the bus stands, when that changed or was not told for a while.
func (s *CashlessState) life(o *hardware.Output, now time.Duration) {
	up := hardware.BusStateEnabled
	switch {
	case s.adapter && !s.wafer.met:
		return
	case now-s.heard >= busQuiet || s.phase == busInactive:
		up = hardware.BusStateDown
	case s.phase == busUnknown:
		up = hardware.BusStateUp
	case s.phase == busDisabled:
		up = hardware.BusStateDisabled
	}
	if up == s.saidUp && now-s.said < lifeEvery {
		return
	}
	s.saidUp, s.said = up, now
	o.Emit(hardware.BusState{State: up, SeesAck: !s.adapter, At: s.heard, Epoch: s.key.BusEpoch})
}

// reset forgets the bus; an approval that was delivered stays bound to its result no longer.
func (s *CashlessState) reset(now time.Duration, queue []answer) {
	s.phase, s.common, s.options, s.config, s.prices, s.off, s.foreign = busInactive, 0, 0, false, false, false, false
	s.queue, s.card, s.ending, s.req, s.asked, s.wantsAck = queue, false, false, request{}, nil, false
	s.heard, s.refunding, s.announce = now, protocol.VendID{}, 0
}

// busReset is 10, or the line held down.
func (s *CashlessState) busReset(o *hardware.Output, now time.Duration, told bool) {
	s.lose(o)
	s.loseLoad(o)
	s.entryEnds(o, hardware.EntryReset)
	s.bound = protocol.VendID{}
	var queue []answer
	if told {
		queue = []answer{{data: []byte{0x00}}} // JUST RESET
	}
	s.reset(now, queue)
	s.key = protocol.BusKey{BusEpoch: s.key.BusEpoch + 1}
	o.Emit(hardware.BusReset{Epoch: s.key.BusEpoch})
	s.life(o, now)
}

func (s *CashlessState) begin(o *hardware.Output, in begin) {
	if s.phase != busEnabled || s.card || s.adapter && !s.config {
		o.Emit(hardware.SessionComplete{})
		return
	}
	s.say(s.beginData(min(in.units, s.most())))
}

// endSession asks for the session's end (04; the controller then says 13 04), or takes back one that
// has not begun.
func (s *CashlessState) endSession(o *hardware.Output) {
	if !s.end {
		s.takeBack(o)
	}
	for _, a := range s.queue {
		if a.data[0] == 0x03 && !a.sent {
			s.drop(0x03)
			o.Emit(hardware.SessionComplete{})
			return
		}
	}
	s.ending = s.card && s.phase == busRevalue // after that
	if s.card && s.phase == busIdle || s.beginning() || s.phase == busUnknown {
		s.say([]byte{0x04})
	}
}

// beginData is BEGIN SESSION of the common level; where money has four bytes, with language and currency of
// the session, whichever of the two options asked for it (7.4, 17 04). Options of the card: bit 1, what is
// not sold is given back; bit 2, money can be loaded.
func (s *CashlessState) beginData(funds uint32) []byte {
	b := append([]byte{0x03}, s.money(funds)...)
	if s.common < 2 {
		return b
	}
	b = append(b, 0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00) // no media id, normal prices
	if s.expanded() {
		c := isoBCD(s.scale.Currency)
		card := byte(0x02)
		if s.limit > 0 {
			card |= 0x04
		}
		b = append(b, s.tongue[0], s.tongue[1], c[0], c[1], card)
	}
	return b
}

func (s *CashlessState) money(units uint32) []byte {
	if s.expanded() {
		return []byte{byte(units >> 24), byte(units >> 16), byte(units >> 8), byte(units)}
	}
	return []byte{byte(units >> 8), byte(units)}
}

// most is the largest amount that can be told: all ones say that it is not known (7.4, BEGIN SESSION).
func (s *CashlessState) most() uint32 { return s.unknown() - 1 }

func (s *CashlessState) approve(o *hardware.Output, now time.Duration, in approve) {
	again := s.approval.vend == in.vend
	switch {
	case again && s.adapter && s.phase == busVend && s.bound == in.vend && now < s.approval.by: // the same 05 again; its end was told
		s.queue = append(s.queue, answer{data: append([]byte{0x05}, s.money(in.units)...), vend: in.vend})
	case again, s.gone == in.vend: // the same again: it waits, was acknowledged, or ended
	case !s.req.open || !s.end || (!in.bus.IsZero() && in.bus != s.key) || s.phase != busVend || now >= in.by || in.units > s.most():
		s.gone = in.vend
		o.Emit(hardware.Approval{Vend: in.vend, How: hardware.ApprovalWithdrawn})
	default:
		s.approval, s.end = in, false
		s.queue = append(s.queue, answer{data: append([]byte{0x05}, s.money(in.units)...), vend: in.vend})
	}
}

func (s *CashlessState) deny(o *hardware.Output, in deny) {
	if !s.req.open || (!in.bus.IsZero() && in.bus != s.key) {
		return
	}
	if !s.end {
		s.takeBack(o)
		return
	}
	s.refuse()
}

// result is the controller's word on a vend, once.
func (s *CashlessState) result(o *hardware.Output, r result, item protocol.Outlet) {
	if s.bound.IsZero() {
		if !s.served {
			s.orphan = r
		}
		return
	}
	v := s.bound
	s.bound = protocol.VendID{}
	if r == failed {
		o.Emit(hardware.VendFailure{Vend: v})
		return
	}
	if item == 0 {
		item = s.item
	}
	o.Emit(hardware.VendSuccess{Vend: v, Item: item, Grade: protocol.GradeReported})
}

// amount is units of the bus; what no price can be is an error.
func (s *CashlessState) amount(units uint32) (money.Amount, error) { return s.scale.Amount(units) }
