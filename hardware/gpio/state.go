package gpio

import (
	"time"

	"coinop/hardware"
)

// Times of the machine.
const (
	rereadEvery = time.Minute
	restless    = 5 * time.Second // a contact that does not settle is broken
)

// CodeBounces is a contact that never stays at one level, in Health.
const CodeBounces = "contact_bounces"

// What goes to the pins and comes from them. A write is an operation and outputs; a read is inputs, a bit
// each, set: closed.
const (
	opRead = 1
	opSet  = 2

	bitDoor   = 1 << 0
	bitTamper = 1 << 1

	bitLamp   = 1 << 0
	bitBuzzer = 1 << 1
	bitPower  = 1 << 2 // and on
)

// player is a pattern that goes on since a moment.
type player struct {
	p     Pattern
	since time.Duration
}

// State is the machine of one board: pure, its time is given. It is a value; Step returns the next.
type State struct {
	cfg          Config
	open         bool
	door, tamper Contact
	up, ill      bool          // it was told that it is ready; and that a contact is broken
	reread       time.Duration // the inputs, next

	signal hardware.Signal
	blinks int
	once   [2]player // of lamp and buzzer, while they say what passes
	stays  player    // of the lamp
	off    []time.Duration
	outs   byte // as they were written
	wrote  bool
}

// NewState is a machine whose pins are not open yet.
func NewState(cfg Config) State {
	cfg = cfg.withDefaults()
	return State{
		cfg: cfg, signal: hardware.SignalIdle, off: make([]time.Duration, len(cfg.Power)),
		door: Contact{Hold: cfg.Debounce}, tamper: Contact{Hold: cfg.Debounce},
	}
}

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	s.off = append([]time.Duration(nil), s.off...)
	switch in := in.(type) {
	case hardware.Opened:
		n := NewState(s.cfg)
		n.signal, n.blinks, n.open, n.reread = s.signal, s.blinks, true, now
		s = n
		s.stay(now)
	case hardware.Closed:
		s.open = false
	case hardware.Bytes:
		for _, b := range in.B {
			s.door.Level(now, b&bitDoor != 0)
			s.tamper.Level(now, b&bitTamper != 0)
		}
		if !s.up {
			s.up = true
			s.health(&o, hardware.Ready, hardware.CodeReady, "")
		}
	case hardware.Wrote:
		o.Wake = s.wake(now)
		return s, o
	case show:
		s.show(now, in.signal)
	case blink:
		if s.blinks != in.times {
			s.blinks = in.times
			s.stay(now)
		}
	case alarm:
		s.once = [2]player{{s.cfg.Lights.Alarm, now}, {s.cfg.Sounds.Alarm, now}}
	case cycle:
		for i, p := range s.cfg.Power {
			if p.Device == in.device && s.off[i] <= now {
				s.off[i] = now + p.Off
			}
		}
	}
	if !s.open {
		return s, o
	}
	s.contacts(&o, now)
	if now >= s.reread {
		s.reread = now + rereadEvery
		o.Write([]byte{opRead, 0})
	}
	if outs := s.outputs(now); outs != s.outs || !s.wrote {
		s.outs, s.wrote = outs, true
		o.Write([]byte{opSet, outs})
	}
	o.Wake = s.wake(now)
	return s, o
}

func (s *State) health(o *hardware.Output, h hardware.HealthState, code, detail string) {
	o.Emit(hardware.Health{Device: s.cfg.Device, State: h, Code: code, Detail: detail})
}

// contacts tells what has settled, and of what does not.
func (s *State) contacts(o *hardware.Output, now time.Duration) {
	if s.cfg.Door.Pin != "" && s.door.Due(now) {
		o.Emit(hardware.Door{Open: !s.door.Is()})
	}
	if s.cfg.Tamper.Pin != "" && s.tamper.Due(now) {
		o.Emit(hardware.Tamper{Device: s.cfg.Device, Over: s.tamper.Is()})
	}
	broken := ""
	switch {
	case s.cfg.Tamper.Pin != "" && s.tamper.Restless(now) >= restless:
		broken = "the tamper loop"
	case s.cfg.Door.Pin != "" && s.door.Restless(now) >= restless:
		broken = "the door's switch"
	}
	switch {
	case broken != "" && !s.ill:
		s.ill = true
		s.health(o, hardware.Degraded, CodeBounces, broken+" opens and closes all the time")
	case broken == "" && s.ill:
		s.ill = false
		s.health(o, hardware.Ready, hardware.CodeReady, "")
	}
}

// show begins what passes, or what stays.
func (s *State) show(now time.Duration, sig hardware.Signal) {
	s.signal = sig
	switch sig {
	case hardware.SignalCard:
		s.once = [2]player{{s.cfg.Lights.Card, now}, {s.cfg.Sounds.Card, now}}
	case hardware.SignalOK:
		s.once = [2]player{{s.cfg.Lights.OK, now}, {s.cfg.Sounds.OK, now}}
	case hardware.SignalNo:
		s.once = [2]player{{s.cfg.Lights.No, now}, {s.cfg.Sounds.No, now}}
	case hardware.SignalIdle, hardware.SignalFault:
	}
	s.stay(now)
}

// stay is what the lamp does when nothing passes: a fault's code, or that the lane is ready.
func (s *State) stay(now time.Duration) {
	p := s.cfg.Lights.Idle
	switch {
	case s.blinks > 0:
		p = Blinks(s.blinks)
	case s.signal == hardware.SignalFault:
		p = Blinks(1)
	}
	if p.String() != s.stays.p.String() {
		s.stays = player{p, now}
	}
}

// plays is how a lamp or buzzer stands now, and until when.
func (s *State) plays(i int, now time.Duration) (on bool, until time.Duration) {
	if p := s.once[i]; len(p.p.steps) > 0 {
		on, d, over := p.p.at(now - p.since)
		if !over {
			return on, p.since + d
		}
	}
	if i == 0 {
		on, d, _ := s.stays.p.at(now - s.stays.since)
		if d > 0 {
			d += s.stays.since
		}
		return on, d
	}
	return false, 0
}

func (s *State) outputs(now time.Duration) (outs byte) {
	if on, _ := s.plays(0, now); on && s.cfg.Lamp.Pin != "" {
		outs |= bitLamp
	}
	if on, _ := s.plays(1, now); on && s.cfg.Buzzer.Pin != "" {
		outs |= bitBuzzer
	}
	for i, until := range s.off {
		if now < until {
			outs |= bitPower << i
		}
	}
	return outs
}

// wake is when the machine wants to be stepped again.
func (s *State) wake(now time.Duration) time.Duration {
	at := s.reread
	sooner := func(t time.Duration) {
		if t > now {
			at = min(at, t)
		}
	}
	sooner(s.door.Settles())
	sooner(s.tamper.Settles())
	for i, pin := range []string{s.cfg.Lamp.Pin, s.cfg.Buzzer.Pin} {
		if pin != "" {
			_, until := s.plays(i, now)
			sooner(until)
		}
	}
	for _, until := range s.off {
		sooner(until)
	}
	return at
}
