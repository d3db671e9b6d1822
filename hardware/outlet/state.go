package outlet

import (
	"errors"
	"fmt"
	"time"

	"coinop/hardware"
	"coinop/protocol"
)

// Times of the machine.
const (
	answerTime = 200 * time.Millisecond // for an answer; a frame and its answer are 17 ms at 9,600 baud
	lineGap    = 5 * time.Millisecond   // silence between frames: 3.5 characters (MODBUS over Serial Line, 2.5.1.1)
	pollPress  = 100 * time.Millisecond // of inputs, for buttons
	pollVend   = 20 * time.Millisecond  // of inputs, while a vend waits for its feedback
	debounce   = 30 * time.Millisecond  // an input counts when it read the same for so long
	lifeEvery  = time.Second            // the relays are read, and BusState is said
	offerPause = 2 * time.Second        // before an outlet that is always offered is offered again
	tries      = 3
	misses     = 3 // vends in a row without their feedback: then the outlet is out of order
)

// Codes of Health beside hardware's own.
const (
	CodeRelayOn    = "relay_on"    // one of ours was on and should not have been
	CodeNoFeedback = "no_feedback" // pulses were given, and the feedback input did not move
	CodeInUse      = "in_use"      // the feedback input is active before the first pulse: in use, or stuck
	CodeBoard      = "board_error" // the board said that it cannot
)

var (
	errSilent  = hardware.Silence("the board does not answer: check its power, A and B of the RS-485 line, its address and speed")
	errDoubt   = errors.New("the board did not say whether it gave a pulse: nothing is repeated")
	errCut     = errors.New("the relay went off before its time: the board lost its power")
	errRelayOn = errors.New("a relay stays on: switch the machine off and look at the board")
)

// phase is how far an opening is.
//
//	closed → clearing -(0F answered)→ checking -(01: ours are off)→ live
//	                ↑                     └(one is on)┐
//	                └─────────────────────────────────┴─ live (one is on)
type phase uint8

const (
	closed phase = iota
	clearing
	checking
	live
)

// ask is the request whose answer is awaited.
type ask struct {
	Request
	out   bool          // it is on the wire, or was
	until time.Duration // for the answer
}

// train is a vend on its way.
type train struct {
	vend   protocol.VendID // zero: there is none
	outlet int             // of the configuration
	by     time.Duration
	left   int           // pulses to begin
	began  bool          // the first is out
	told   bool          // the pulse that is due was put on the wire and not answered
	tried  int           // times it was, provably for nothing
	sent   time.Duration // when it was
	at     time.Duration // when the next begins, or the last has ended
	clear  bool          // feedback was seen inactive
	seen   bool          // feedback
}

// request is a button's.
type request struct {
	open   bool
	outlet int
}

// State is the machine of one board: pure, its time is given. It is a value; Step returns the next.
type State struct {
	cfg    Config
	relays uint32 // ours
	inputs uint32 // ours
	count  [2]uint16

	phase phase
	ask   *ask
	rx    []byte
	free  time.Duration // the line is, from then on
	lost  int           // answers in a row that did not come
	stuck int           // times a relay was found on

	train   train
	last    protocol.VendID // the last that was approved
	missed  []int           // feedback, in a row, by outlet
	key     protocol.BusKey
	request request
	offer   time.Duration

	known       bool // levels holds something
	levels, raw uint32
	since       time.Duration // raw reads as it does
	contacts    uint32        // door and tamper loop, as they were told
	contactsOK  bool          // they were
	read        time.Duration // inputs, next
	look        time.Duration // at the relays, next
	said        time.Duration
	up, ill     bool // it was told that it is ready; and since then that something is wrong
}

// NewState is a machine whose port is not open yet.
func NewState(cfg Config) State {
	cfg = cfg.withDefaults()
	s := State{cfg: cfg, missed: make([]int, len(cfg.Outlets))}
	s.key.BusEpoch = cfg.BusEpoch
	bit := func(set *uint32, count *uint16, n int) {
		if n > 0 {
			*set |= 1 << (n - 1)
			*count = max(*count, uint16(n)) //nolint:gosec // up to maxBits
		}
	}
	for _, o := range cfg.Outlets {
		bit(&s.relays, &s.count[0], o.Relay)
		bit(&s.inputs, &s.count[1], o.Feedback)
		bit(&s.inputs, &s.count[1], o.Button)
	}
	bit(&s.inputs, &s.count[1], cfg.Door)
	bit(&s.inputs, &s.count[1], cfg.Tamper)
	return s
}

// off is all relays up to the last of ours off: others below it are taken to be spare.
func (s State) off() Request {
	return Request{Address: s.cfg.Address, Function: writeCoils, Count: s.count[0]}
}

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	s.missed = append([]int(nil), s.missed...)
	if s.ask != nil {
		a := *s.ask
		s.ask = &a
	}
	switch in := in.(type) {
	case hardware.Opened:
		s = s.fresh(now)
	case hardware.Closed:
		s.closed(&o)
	case hardware.Bytes:
		s.bytes(&o, now, in.B)
	case hardware.Wrote:
		s.wrote(&o, now, in)
		return s, o
	case hardware.Wake:
		if s.ask != nil && now >= s.ask.until {
			s.unanswered(&o, now)
		}
	case approve:
		s.approve(&o, now, in)
	case withdraw:
		if in.vend != s.last {
			s.withdrawn(&o, in.vend)
		}
	case deny:
		s.deny(&o, now, in)
	case begin:
		o.Emit(hardware.SessionComplete{})
	}
	if s.phase != closed && o.End == nil {
		s.finish(&o, now)
		s.next(&o, now)
		o.Wake = s.wake()
	}
	return s, o
}

// fresh is the state of a new opening: what is known of outlets stays.
func (s State) fresh(now time.Duration) State {
	n := NewState(s.cfg)
	n.key.BusEpoch = s.key.BusEpoch + 1
	n.last, n.missed = s.last, s.missed
	n.phase, n.free, n.offer = clearing, now+lineGap, now
	return n
}

// closed ends the approval that has not ended; its vend has no result.
func (s *State) closed(o *hardware.Output) {
	if t := s.train; !t.vend.IsZero() && !t.began {
		how := hardware.ApprovalWithdrawn
		if t.told {
			how = hardware.ApprovalMaybe
		}
		o.Emit(hardware.Approval{Vend: t.vend, How: how})
	}
	s.train, s.phase, s.ask, s.request = train{}, closed, nil, request{}
}

func (s *State) withdrawn(o *hardware.Output, v protocol.VendID) {
	s.last = v
	o.Emit(hardware.Approval{Vend: v, How: hardware.ApprovalWithdrawn})
}

// takeBack ends a train that has not begun.
func (s *State) takeBack(o *hardware.Output) {
	v := s.train.vend
	s.train = train{}
	s.withdrawn(o, v)
}

func (s *State) health(o *hardware.Output, h hardware.HealthState, code, detail string) {
	s.ill = h != hardware.Ready
	o.Emit(hardware.Health{Device: s.cfg.Device, State: h, Code: code, Detail: detail})
}

func (s *State) approve(o *hardware.Output, now time.Duration, in approve) {
	if in.vend == s.last {
		return // asked again: it was or will be answered
	}
	i := s.find(in.outlet)
	answers := in.bus.IsZero() || s.request.open && in.bus == s.key
	if i < 0 || !answers || s.phase != live || !s.train.vend.IsZero() || now >= in.by || s.missed[i] >= misses {
		s.withdrawn(o, in.vend)
		if i >= 0 && s.missed[i] >= misses {
			s.request.open = s.request.open && !answers
			s.health(o, hardware.Degraded, CodeNoFeedback, fmt.Sprintf("outlet %d is out of order: %d vends in a row without feedback; mend its line, then restart", in.outlet, s.missed[i]))
		}
		return
	}
	s.last, s.request = in.vend, request{}
	s.train = train{vend: in.vend, outlet: i, by: in.by, left: s.cfg.Outlets[i].Pulses, at: now, clear: s.cfg.Outlets[i].Feedback == 0}
	s.read = now
}

func (s State) find(number protocol.Outlet) int {
	for i, o := range s.cfg.Outlets {
		if o.Number == number {
			return i
		}
	}
	return -1
}

func (s *State) deny(o *hardware.Output, now time.Duration, in deny) {
	if !s.train.vend.IsZero() && !s.train.began && !s.train.told {
		s.takeBack(o)
	}
	if s.request.open && (in.bus.IsZero() || in.bus == s.key) {
		s.request, s.offer = request{}, now+offerPause
	}
}

// next puts the next request on the line, when that is free and something is due.
func (s *State) next(o *hardware.Output, now time.Duration) {
	if s.ask != nil || now < s.free {
		return
	}
	r := Request{Address: s.cfg.Address}
	switch {
	case s.phase == clearing:
		r = s.off()
	case s.phase == checking || s.train.told:
		r.Function, r.Count = readCoils, s.count[0]
	case s.pulseDue(now):
		out := s.cfg.Outlets[s.train.outlet]
		r.Function, r.At, r.Flash = writeCoil, uint16(out.Relay-1), min(out.On, out.MaxOn)/s.cfg.unit()*flashUnit //nolint:gosec // small
	case s.reads() && now >= s.read:
		r.Function, r.Count = readInputs, s.count[1]
	case (s.train.vend.IsZero() || s.train.began) && now >= s.look:
		r.Function, r.Count = readCoils, s.count[0]
	default:
		return
	}
	s.ask, s.rx = &ask{Request: r, until: now + answerTime}, nil
	o.Write(r.Append(nil))
}

// pulseDue reports that a pulse may begin: never the first later than by.
func (s *State) pulseDue(now time.Duration) bool {
	t := s.train
	return !t.vend.IsZero() && t.left > 0 && t.clear && now >= t.at && (t.began || now < t.by)
}

// Why an outlet could not begin now.
const (
	RefusesInUse      = "outlet_in_use"       // its feedback is active
	RefusesOutOfOrder = "outlet_out_of_order" // it was given pulses, and never moved
)

// refuses are the outlets that could not begin now, by their place in the configuration: a bit for those in
// use, and 32 bits higher one for those out of order.
func (s State) refuses() (bits uint64) {
	for i, o := range s.cfg.Outlets {
		if o.Feedback > 0 && s.levels&(1<<(o.Feedback-1)) != 0 {
			bits |= 1 << i
		}
		if s.missed[i] >= misses {
			bits |= 1 << (i + maxBits)
		}
	}
	return bits
}

// reads reports whether inputs matter now.
func (s *State) reads() bool {
	if t := s.train; !t.vend.IsZero() {
		return s.cfg.Outlets[t.outlet].Feedback != 0 || s.cfg.Door+s.cfg.Tamper > 0
	}
	return s.inputs != 0
}

// wake is when the machine wants to be stepped again.
func (s *State) wake() time.Duration {
	t := s.train
	switch {
	case s.ask != nil:
		return s.ask.until
	case s.phase != live || t.told:
		return s.free
	}
	at := s.look
	if s.reads() {
		at = min(at, s.read)
	}
	if s.always() {
		at = min(at, s.offer)
	}
	switch out := s.cfg.Outlets[t.outlet]; {
	case t.vend.IsZero():
	case !t.began:
		at = min(t.by, s.read)
		if t.clear {
			at = min(t.by, t.at)
		}
	case t.left == 0 && out.Feedback != 0 && !t.seen:
		at = min(at, t.at+out.Window)
	default:
		at = min(at, t.at)
	}
	return max(at, s.free)
}

func (s *State) wrote(o *hardware.Output, now time.Duration, in hardware.Wrote) {
	if s.ask == nil {
		return
	}
	s.ask.out = in.N > 0 || in.Err == nil
	if s.ask.Flash > 0 && s.ask.out { // a part of it counts: who knows what the board makes of it
		s.train.told, s.train.sent = true, now
	}
	o.Wake = s.wake()
}

func (s *State) bytes(o *hardware.Output, now time.Duration, b []byte) {
	if s.ask == nil {
		return // nobody asked
	}
	if s.rx = append(s.rx, b...); len(s.rx) > 2*maxFrame {
		s.rx = s.rx[len(s.rx)-maxFrame:]
	}
	bits, n, err := s.ask.Find(s.rx)
	if n == 0 {
		return
	}
	r := s.ask.Request
	s.ask, s.rx, s.free, s.lost = nil, nil, now+lineGap, 0
	if err != nil {
		s.refused(o, r, err)
		return
	}
	switch r.Function {
	case writeCoils:
		s.phase = checking
	case readCoils:
		s.sawRelays(o, now, bits&s.relays)
	case readInputs:
		if s.cfg.InputsLow {
			bits = ^bits
		}
		s.sawInputs(o, now, bits&s.inputs)
	case writeCoil:
		s.pulsed(o, now)
	}
	if s.phase == live {
		s.alive(o, now)
	}
}

func (s *State) alive(o *hardware.Output, now time.Duration) {
	if !s.up {
		s.up = true
		s.health(o, hardware.Ready, hardware.CodeReady, "")
	} else if now-s.said < lifeEvery {
		return
	}
	s.said = now
	o.Emit(hardware.BusState{State: hardware.BusStateEnabled, SeesAck: true, At: now, Epoch: s.key.BusEpoch})
}

// refused is an exception: what was asked was not done.
func (s *State) refused(o *hardware.Output, r Request, err error) {
	s.health(o, hardware.Degraded, CodeBoard, err.Error())
	if r.Flash > 0 && !s.train.began {
		s.train.told = false
		s.takeBack(o)
		return
	}
	o.End = fmt.Errorf("function %02X: %w", r.Function, err)
}

// unanswered is a request whose time is over.
func (s *State) unanswered(o *hardware.Output, now time.Duration) {
	s.ask, s.rx, s.free = nil, nil, now+lineGap // a 05 is resolved by a look at the relay: see told
	if s.lost++; s.lost >= tries {
		o.End = errSilent
		if s.train.told {
			o.End = errDoubt
		}
		return
	}
	if s.phase == checking { // begin anew
		s.phase = clearing
	}
}

// pulsed is a pulse that is out.
func (s *State) pulsed(o *hardware.Output, now time.Duration) {
	t, out := &s.train, s.cfg.Outlets[s.train.outlet]
	t.told, t.tried = false, 0
	t.left--
	t.at = now + out.On // it began before its answer
	if t.left > 0 {
		t.at += out.Off
	}
	if !t.began {
		t.began = true
		o.Emit(hardware.Approval{Vend: t.vend, How: hardware.ApprovalDelivered})
	}
}

// relay is the bit of an outlet's.
func (s *State) relay(outlet int) uint32 { return 1 << (s.cfg.Outlets[outlet].Relay - 1) }

// sawRelays is what relays of ours are on.
func (s *State) sawRelays(o *hardware.Output, now time.Duration, on uint32) {
	switch {
	case s.train.told:
		s.resolve(o, now, on)
	case s.train.began:
		s.look = now + lifeEvery
		mine := s.relay(s.train.outlet)
		if on&^mine != 0 {
			o.End = errRelayOn
		} else if on == 0 && now < s.train.sent+s.cfg.Outlets[s.train.outlet].On {
			o.End = errCut
		}
	case on == 0:
		if s.stuck > 0 {
			s.health(o, hardware.Ready, hardware.CodeReady, "")
		}
		s.stuck = 0
		s.look = now + lifeEvery
		s.phase = live
	default:
		s.health(o, hardware.Degraded, CodeRelayOn, fmt.Sprintf("relays %b were on", on))
		s.phase = clearing
		if s.stuck++; s.stuck >= tries {
			o.End = errRelayOn
		}
	}
}

// resolve says what became of a pulse without an answer: its relay is on, or was not told in time to have
// been on and off again; else nobody knows.
func (s *State) resolve(o *hardware.Output, now time.Duration, on uint32) {
	t, out := &s.train, s.cfg.Outlets[s.train.outlet]
	switch {
	case on&s.relay(t.outlet) != 0:
		s.pulsed(o, now)
	case now-t.sent < out.On && t.tried+1 < tries:
		t.told = false
		t.tried++
	default:
		o.End = errDoubt
	}
}

// sawInputs takes levels in, debounced.
func (s *State) sawInputs(o *hardware.Output, now time.Duration, active uint32) {
	if !s.known {
		s.known, s.levels, s.raw, s.since = true, active, active, now
	}
	if active != s.raw {
		s.raw, s.since = active, now
	}
	var pressed uint32
	if now-s.since >= debounce {
		pressed, s.levels = active&^s.levels, active
		s.contact(o)
	}
	every := pollPress
	if t := &s.train; !t.vend.IsZero() && s.cfg.Outlets[t.outlet].Feedback != 0 {
		every = pollVend
		bit := uint32(1) << (s.cfg.Outlets[t.outlet].Feedback - 1)
		switch {
		case t.began:
			t.seen = t.seen || s.levels&bit != 0
		case (active|s.levels)&bit == 0: // else it may end in time
			t.clear = true
		}
	}
	if s.levels != s.raw || !s.contactsOK {
		every = debounce
	}
	s.read = now + every
	for i, out := range s.cfg.Outlets {
		if out.Button > 0 && pressed&(1<<(out.Button-1)) != 0 {
			s.press(o, now, i)
		}
	}
}

// contact tells of the door and the tamper loop, at the opening's first levels and when they change.
func (s *State) contact(o *hardware.Output) {
	changed := s.levels ^ s.contacts
	if !s.contactsOK {
		changed = ^uint32(0)
	}
	s.contacts, s.contactsOK = s.levels, true
	if bit := uint32(1) << max(s.cfg.Door-1, 0); s.cfg.Door > 0 && changed&bit != 0 {
		o.Emit(hardware.Door{Open: s.levels&bit != 0})
	}
	if bit := uint32(1) << max(s.cfg.Tamper-1, 0); s.cfg.Tamper > 0 && changed&bit != 0 {
		o.Emit(hardware.Tamper{Device: s.cfg.Device, Over: s.levels&bit != 0})
	}
}

// press is a button: an order, or another one in place of the first.
func (s *State) press(o *hardware.Output, now time.Duration, i int) {
	if !s.train.vend.IsZero() || s.refuses()&(1<<i|1<<(i+maxBits)) != 0 || s.request.open && s.request.outlet == i {
		return
	}
	if s.request.open {
		o.Emit(hardware.VendCancel{})
	}
	s.key.Session, s.key.Request = s.key.Session+1, 1
	s.request = request{open: true, outlet: i}
	out := s.cfg.Outlets[i]
	o.Emit(hardware.VendRequest{Bus: s.key, Price: out.Price, Item: out.Number, At: now})
}

// always reports that an outlet waits to be offered.
func (s *State) always() bool {
	return s.phase == live && s.cfg.Outlets[0].Always && !s.request.open && s.train.vend.IsZero() && s.refuses() == 0
}

// finish ends a train that is over, and offers what is always offered.
func (s *State) finish(o *hardware.Output, now time.Duration) {
	t := s.train
	if s.always() && now >= s.offer {
		s.press(o, now, 0)
	}
	if t.vend.IsZero() || t.told {
		return
	}
	if !t.began {
		if now >= t.by && s.ask == nil {
			if !t.clear {
				s.health(o, hardware.Degraded, CodeInUse, fmt.Sprintf("feedback of outlet %d is active before its first pulse", s.cfg.Outlets[t.outlet].Number))
			}
			s.takeBack(o)
		}
		return
	}
	out := s.cfg.Outlets[t.outlet]
	if t.left > 0 || now < t.at {
		return
	}
	done := func(e hardware.Event) {
		o.Emit(e)
		s.train, s.look, s.offer = train{}, now, now+offerPause
		if _, ok := e.(hardware.VendSuccess); ok && s.ill {
			s.health(o, hardware.Ready, hardware.CodeReady, "")
		}
	}
	switch {
	case out.Feedback == 0:
		done(hardware.VendSuccess{Vend: t.vend, Item: out.Number, Grade: protocol.GradeReported})
	case t.seen:
		s.missed[t.outlet] = 0
		done(hardware.VendSuccess{Vend: t.vend, Item: out.Number, Grade: protocol.GradeSensed})
	case now >= t.at+out.Window:
		s.missed[t.outlet]++
		s.health(o, hardware.Degraded, CodeNoFeedback, fmt.Sprintf("outlet %d: its pulses were given, its feedback input did not move", out.Number))
		done(hardware.VendFailure{Vend: t.vend})
	}
}
