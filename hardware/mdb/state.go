package mdb

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Times of the machine. The policy asks for a sign of life within 5 s.
const (
	answerTime = time.Second      // for an answer to a line of ours
	pingEvery  = 2 * time.Second  // V, when the adapter says nothing
	checkEvery = 30 * time.Second // C,1, to learn of an adapter that lost its power and came back off
	silence    = 5 * time.Second  // then the bus counts as down
	giveUp     = 10 * time.Second // then the port is opened again, unless a vend's result is awaited
	giveUpVend = 60 * time.Second // then even so
	lifeEvery  = time.Second      // BusState at most this often, when nothing changed
	tries      = 3
)

var errSilent = hardware.Silence("the adapter does not answer: check its power and that this tty is its")

// phase is how far an opening is.
//
//	closed → asking -(v,)→ probing -(cashless is on: it lived on)→ live
//	                          └(c,1: it was off)→ off → setting… → on → live
//	live -(it says that it is off)→ off
type phase uint8

const (
	closed phase = iota
	asking
	probing
	off
	setting
	on
	live
)

// request is the vend request the bus has open.
type request struct {
	price, item string // as on the wire: a repeat is told by them
	outlet      protocol.Outlet
	open        bool // no answer yet
	denied      bool
}

// result is one that belongs to no vend known here: see Resume.
type result uint8

const (
	none result = iota
	delivered
	failed
)

// State is the machine of one adapter: pure, its time is given. It is a value; Step returns the next.
type State struct {
	scale  Scale
	device string
	params []string // lines of the configuration

	phase phase
	set   int // next of params
	tried int
	until time.Duration // the phase's deadline
	lines Lines

	status Status
	key    protocol.BusKey
	card   bool // a card-first session is open
	ending bool // and is to be closed as soon as it has begun
	req    request

	writing  protocol.VendID // its C,VEND is being written
	approval approve         // the last one whose end was told, or is being written
	bound    protocol.VendID // its result is awaited
	item     protocol.Outlet
	served   bool   // a request came in this run: results are no earlier run's
	orphan   result // of an earlier run, until Resume

	heard, pinged, checked, said time.Duration
	saidUp                       hardware.BusUp
	asked                        bool // C,1 is out as a check
	silent                       bool
	lost                         int
}

// NewState is a machine whose port is not open yet.
func NewState(cfg CashlessConfig) State {
	s := State{scale: cfg.Scale, device: cfg.Device}
	s.key.BusEpoch = cfg.BusEpoch
	// The names are the adapter's; 1978 is EUR: 1 and the ISO 4217 number (MDB/ICP 4.2, 7.4, SETUP, Z2-Z3).
	s.params = []string{
		"C,SETCONF,mdb-addr=0x10",
		fmt.Sprintf("C,SETCONF,mdb-currency-code=0x1%03d", uint16(cfg.Scale.Currency)),
		"C,SETCONF,mdb-always-idle=1",
	}
	for _, k := range slices.Sorted(maps.Keys(cfg.Params)) {
		s.params = append(s.params, "C,SETCONF,"+k+"="+cfg.Params[k])
	}
	return s
}

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	switch in := in.(type) {
	case hardware.Opened:
		s.opened(&o, now)
	case hardware.Closed:
		s.closed()
	case hardware.Bytes:
		s.bytes(&o, now, in.B)
	case hardware.Wrote:
		s.wrote(&o, in)
	case hardware.Wake:
		s.tick(&o, now)
	case begin:
		s.begin(&o, in)
	case approve:
		s.approve(&o, now, in)
	case withdraw:
		if in.vend != s.approval.vend { // else it was a repeat of one whose end was told
			s.withdrawn(&o, approve{vend: in.vend})
		}
	case deny:
		s.deny(&o, in)
	case end:
		switch {
		case s.card && s.status == StatusIdle && s.bound.IsZero():
			write(&o, "C,STOP")
		case s.card && s.status == StatusEnabled: // it has not said yet that the session has begun
			s.ending = true
		}
	case resume:
		s.resume(&o, in)
	}
	o.Wake = s.next()
	return s, o
}

func write(o *hardware.Output, line string) { o.Write([]byte(line + "\r\n")) }

func (s *State) opened(o *hardware.Output, now time.Duration) {
	s.key = protocol.BusKey{BusEpoch: s.key.BusEpoch + 1}
	s.lines, s.status, s.req, s.card = Lines{}, StatusUnknown, request{}, false
	s.heard, s.pinged, s.checked = now, now, now
	s.silent, s.asked, s.tried, s.saidUp = false, false, 0, 0
	s.lost = 0
	s.ask(o, now)
}

// closed forgets what the port told; an approval that was written stays bound to its result.
func (s *State) closed() {
	s.phase, s.status, s.req, s.card = closed, StatusUnknown, request{}, false
}

func (s *State) ask(o *hardware.Output, now time.Duration) {
	s.phase, s.until = asking, now+answerTime
	s.tried++
	// An empty line first ends whatever half a line the adapter got from a program that was killed.
	o.Write([]byte("\r\nV\r\n"))
}

// next is when the machine wants to be stepped again.
func (s *State) next() time.Duration {
	switch s.phase {
	case closed:
		return 0
	case live:
		if at := s.heard + silence; !s.silent && at < s.pinged+pingEvery {
			return at
		}
		return s.pinged + pingEvery
	default:
		return s.until
	}
}

func (s *State) tick(o *hardware.Output, now time.Duration) {
	if s.phase != live {
		if now >= s.until {
			s.late(o, now)
		}
		return
	}
	quiet := now - s.heard
	if quiet >= silence && !s.silent {
		s.silent = true
		o.Emit(hardware.Health{Device: s.device, State: hardware.Degraded, Code: hardware.CodeSilent, Detail: errSilent.Error()})
		s.life(o, now)
	}
	if waits := !s.bound.IsZero() || s.req.open; quiet >= giveUpVend || (quiet >= giveUp && !waits) {
		o.End = errSilent
		return
	}
	if now-s.pinged < pingEvery {
		return
	}
	s.pinged = now
	if idle := s.bound.IsZero() && !s.req.open; idle && now-s.checked >= checkEvery {
		s.checked, s.asked = now, true
		write(o, "C,1")
		return
	}
	write(o, "V")
}

// late is an answer that did not come while the opening is set up.
func (s *State) late(o *hardware.Output, now time.Duration) {
	switch s.phase {
	case asking, probing:
		if s.tried >= tries {
			o.End = errSilent
			return
		}
		s.ask(o, now)
	case off:
		s.configure(o, now) // not every version echoes C,0
	case setting:
		o.Emit(s.misset())
		s.configure(o, now)
	case on:
		s.alive(o)
	case closed, live:
	}
}

func (s *State) misset() hardware.Event {
	return hardware.Health{
		Device: s.device, State: hardware.Degraded, Code: hardware.CodeNotConfigure,
		Detail: "the adapter did not take " + s.params[s.set-1],
	}
}

// configure sets the next parameter, or switches on.
func (s *State) configure(o *hardware.Output, now time.Duration) {
	s.until = now + answerTime
	if s.set < len(s.params) {
		s.phase = setting
		s.set++
		write(o, s.params[s.set-1])
		return
	}
	s.phase = on
	write(o, "C,1")
}

// cold is an adapter that was off: it lost its power, and with it any session and our parameters.
func (s *State) cold(o *hardware.Output, now time.Duration) {
	s.reset(o, now)
	s.phase, s.set, s.until, s.asked = off, 0, now+answerTime, false
	write(o, "C,0") // parameters are taken only when it is off
}

func (s *State) alive(o *hardware.Output) {
	s.phase = live
	o.Emit(hardware.Health{Device: s.device, State: hardware.Ready, Code: hardware.CodeReady})
}

func (s *State) bytes(o *hardware.Output, now time.Duration, b []byte) {
	for _, text := range s.lines.Add(b) {
		s.line(o, now, ParseLine(text))
	}
	if n := s.lines.Lost; n > s.lost && n&(n-1) == 0 { // the 1st, 2nd, 4th, 8th …
		o.Emit(hardware.Health{Device: s.device, State: hardware.Degraded, Code: hardware.CodeGarbage, Detail: fmt.Sprintf("%d lines", n)})
	}
	s.lost = s.lines.Lost
}

func (s *State) line(o *hardware.Output, now time.Duration, l Line) {
	if l.Kind == KindUnknown {
		return // no sign of life either: it may be another device
	}
	s.heard = now
	if s.silent {
		s.silent = false
		o.Emit(hardware.Health{Device: s.device, State: hardware.Ready, Code: hardware.CodeReady})
	}
	s.setup(o, now, l)
	switch l.Kind {
	case KindSuccess:
		s.result(o, delivered)
	case KindVendErr:
		switch l.Code {
		case 1: // 13h 01h
			s.canceled(o)
		case 3: // 13h 03h
			s.result(o, failed)
		}
	case KindStatus:
		s.state(o, now, l)
	case KindNoise, KindVersion, KindOn, KindOff, KindSet, KindIsOn, KindIsOff, KindRefused, KindUnknown:
	}
	if s.phase == live {
		s.life(o, now)
	}
}

// setup is what a line means for the opening.
func (s *State) setup(o *hardware.Output, now time.Duration, l Line) {
	inactive := l.Kind == KindStatus && l.Status == StatusInactive
	switch s.phase {
	case asking:
		if l.Kind == KindVersion {
			s.phase, s.until = probing, now+answerTime
			write(o, "C,1")
		}
	case probing:
		switch {
		case l.Kind == KindIsOn:
			s.alive(o)
		case l.Kind == KindOn, inactive:
			s.cold(o, now)
		}
	case off:
		if l.Kind == KindOff || l.Kind == KindIsOff {
			s.configure(o, now)
		}
	case setting:
		switch l.Kind {
		case KindSet:
			s.configure(o, now)
		case KindRefused, KindIsOn:
			o.Emit(s.misset())
			s.configure(o, now)
		}
	case on:
		if l.Kind == KindOn || l.Kind == KindIsOn || l.Kind == KindStatus && !inactive {
			s.alive(o)
		}
	case live:
		switch {
		case l.Kind == KindIsOn:
			s.asked = false
		case l.Kind == KindIsOff, l.Kind == KindOn && s.asked:
			s.cold(o, now)
		}
	case closed:
	}
}

// life tells how the bus stands, when that changed or was not told for a while.
func (s *State) life(o *hardware.Output, now time.Duration) {
	up := hardware.BusStateUp
	switch s.status {
	case StatusUnknown:
	case StatusInactive:
		up = hardware.BusStateDown
	case StatusDisabled:
		up = hardware.BusStateDisabled
	case StatusEnabled, StatusIdle, StatusVend:
		up = hardware.BusStateEnabled
	}
	if s.silent {
		up = hardware.BusStateDown
	}
	if up == s.saidUp && now-s.said < lifeEvery {
		return
	}
	s.saidUp, s.said = up, now
	o.Emit(hardware.BusState{State: up, At: s.heard, Epoch: s.key.BusEpoch})
}

func (s *State) reset(o *hardware.Output, now time.Duration) {
	s.key = protocol.BusKey{BusEpoch: s.key.BusEpoch + 1}
	s.status, s.req, s.card = StatusInactive, request{}, false
	o.Emit(hardware.BusReset{Epoch: s.key.BusEpoch})
	s.life(o, now)
}

func (s *State) state(o *hardware.Output, now time.Duration, l Line) {
	was := s.status
	s.status = l.Status
	switch l.Status {
	case StatusInactive:
		// Told twice at the start; and setup has reset already where the adapter was off.
		if was != StatusInactive && s.phase == live {
			s.reset(o, now)
		}
	case StatusVend:
		s.asksVend(o, now, was, l)
	case StatusDisabled, StatusEnabled, StatusIdle:
		s.leftVend(o, was)
	case StatusUnknown:
	}
}

func (s *State) asksVend(o *hardware.Output, now time.Duration, was Status, l Line) {
	if was == StatusVend && l.Price == s.req.price && l.Item == s.req.item {
		// The same request again: nothing was told between. Its key says so, and what we denied
		// is denied again, because the session answers a request once.
		if s.req.denied {
			write(o, "C,STOP")
			return
		}
	} else {
		if was == StatusVend || was == StatusIdle {
			s.key.Request++
		} else {
			s.key.Session, s.key.Request = s.key.Session+1, 1
		}
		s.req = request{price: l.Price, item: l.Item, open: true}
		s.served, s.orphan = true, none
		// What was approved before can have no result any more that we could tell from this one's.
		s.bound = protocol.VendID{}
	}
	ev := hardware.VendRequest{Bus: s.key, At: now}
	var err error
	if ev.Price, err = s.scale.parsePrice(l.Price); err != nil {
		ev.Price, ev.Bad = money.Amount{}, "price"
	}
	if ev.Item, err = parseItem(l.Item); err != nil && ev.Bad == "" {
		ev.Price, ev.Bad = money.Amount{}, "item"
	}
	s.req.outlet = ev.Item
	o.Emit(ev)
}

// leftVend is a state that is not VEND: whatever was open there is over.
func (s *State) leftVend(o *hardware.Output, was Status) {
	if s.ending && s.status == StatusIdle {
		s.ending = false
		write(o, "C,STOP")
	}
	open := s.req.open
	s.req = request{}
	if was != StatusVend {
		if s.card && s.status == StatusEnabled && was == StatusIdle {
			s.card = false
			o.Emit(hardware.SessionComplete{})
		}
		return
	}
	switch {
	case open:
		o.Emit(hardware.VendCancel{})
	case s.bound.IsZero():
	case s.status != StatusDisabled: // a reader disabled in a vend is not an end of it (7.4, READER)
		o.Emit(hardware.SessionComplete{})
	}
}

func (s *State) canceled(o *hardware.Output) {
	if !s.req.open && s.bound.IsZero() {
		return
	}
	s.req = request{}
	o.Emit(hardware.VendCancel{})
}

// result is the controller's word on a vend. It is said once; a repeated line finds nothing bound.
func (s *State) result(o *hardware.Output, r result) {
	if s.bound.IsZero() {
		if !s.served {
			s.orphan = r
		}
		return
	}
	v := s.bound
	s.bound, s.req = protocol.VendID{}, request{}
	if r == failed {
		o.Emit(hardware.VendFailure{Vend: v})
		return
	}
	o.Emit(hardware.VendSuccess{Vend: v, Item: s.item, Grade: protocol.GradeReported})
}

func (s *State) begin(o *hardware.Output, in begin) {
	if s.status != StatusEnabled {
		o.Emit(hardware.SessionComplete{})
		return
	}
	s.card, s.ending = true, false
	s.key.Session, s.key.Request = s.key.Session+1, 0
	write(o, "C,START,"+in.funds)
}

func (s *State) approve(o *hardware.Output, now time.Duration, in approve) {
	again := s.approval.vend == in.vend
	switch {
	case again && s.status == StatusVend && s.bound == in.vend && now < s.approval.by:
		write(o, "C,VEND,"+s.approval.amount) // the same 05 again; its end was told
	case again:
	case !s.req.open || !s.answers(in.bus) || s.phase != live || now >= in.by:
		s.withdrawn(o, in)
	default:
		s.writing, s.approval = in.vend, in
		write(o, "C,VEND,"+in.amount)
	}
}

// answers reports that a word is for the request that is open: what crossed on the wire with a newer
// one is not for it.
func (s *State) answers(bus protocol.BusKey) bool { return bus.IsZero() || bus == s.key }

// withdrawn ends an approval that never left; the same vend is not answered again.
func (s *State) withdrawn(o *hardware.Output, in approve) {
	s.approval = in
	o.Emit(hardware.Approval{Vend: in.vend, How: hardware.ApprovalWithdrawn})
}

// wrote is the end of a line of ours; only an approval's matters here, the rest ends the opening.
func (s *State) wrote(o *hardware.Output, in hardware.Wrote) {
	v := s.writing
	if v.IsZero() {
		return
	}
	s.writing = protocol.VendID{}
	if in.N == 0 && in.Err != nil {
		o.Emit(hardware.Approval{Vend: v, How: hardware.ApprovalWithdrawn})
		return
	}
	// Half a line counts as on the wire: who knows what the adapter makes of it.
	s.req.open = false
	s.bound, s.item = v, s.req.outlet
	o.Emit(hardware.Approval{Vend: v, How: hardware.ApprovalMaybe})
}

func (s *State) deny(o *hardware.Output, in deny) {
	if s.req.open && s.answers(in.bus) {
		s.req.open, s.req.denied = false, true
		write(o, "C,STOP")
	}
}

func (s *State) resume(o *hardware.Output, in resume) {
	if s.bound == in.vend || s.served {
		return
	}
	s.bound, s.item = in.vend, protocol.OutletAny
	if r := s.orphan; r != none {
		s.orphan = none
		s.result(o, r)
	}
}
