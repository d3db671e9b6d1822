package magstripe

import (
	"fmt"
	"time"

	"coinop/hardware"
)

const (
	gapTime  = 100 * time.Millisecond // within a swipe: what comes later belongs to another
	lineMost = 1024                   // three tracks in clear are 226, a report of MagTek's below 900
)

// State is the machine of one head: pure, its time and its date are given. A head cannot be asked whether it
// is there, nor armed: it says every swipe, and one that nobody waits for is dropped here.
//
//	closed → deaf ⇄ armed: a swipe, the time-out or Cancel
type State struct {
	cfg   Config
	open  bool
	armed bool
	until time.Duration // armed
	line  []byte        // what came of a swipe; scratch of the opening
	gap   time.Duration // when it ends; 0: none has begun
	over  bool          // it is too long: nothing of it counts until its end
	noisy bool          // told
}

// NewState is a machine whose port is not open yet.
func NewState(cfg Config) State { return State{cfg: cfg.withDefaults()} }

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	switch in := in.(type) {
	case hardware.Opened:
		s.open, s.noisy = true, false
		s.drop()
		o.Emit(hardware.Health{Device: s.cfg.Device, State: hardware.Ready, Code: hardware.CodeReady})
	case hardware.Closed:
		s.fail(&o, hardware.ReasonReader)
		s.open = false
		s.drop()
	case hardware.Bytes:
		s.bytes(&o, now, in.B)
		clear(in.B)
	case hardware.Wake:
		s.tick(&o, now)
	case activate:
		if s.armed, s.until = s.open, now+in.timeout; !s.open {
			o.Emit(hardware.CardFailed{Reason: hardware.ReasonReader})
		}
	case cancel:
		s.armed = false
	case finish: // it has no lights that we know of
	}
	o.Wake = s.wake()
	return s, o
}

func (s *State) wake() time.Duration {
	at := s.gap
	if s.armed && (at == 0 || s.until < at) {
		at = s.until
	}
	return at
}

func (s *State) drop() {
	clear(s.line[:cap(s.line)])
	s.line, s.gap, s.over = s.line[:0], 0, false
}

func (s *State) fail(o *hardware.Output, reason string) {
	if s.armed {
		s.armed = false
		o.Emit(hardware.CardFailed{Reason: reason})
	}
}

func (s *State) tick(o *hardware.Output, now time.Duration) {
	if s.gap > 0 && now >= s.gap {
		s.swiped(o, now)
	}
	if s.armed && now >= s.until {
		s.fail(o, hardware.ReasonTimeout)
	}
}

func (s *State) bytes(o *hardware.Output, now time.Duration, b []byte) {
	if s.gap > 0 && now >= s.gap { // we were late: there was a gap before these
		s.swiped(o, now)
	}
	for _, c := range b {
		s.gap = now + s.cfg.Gap
		if s.cfg.Head.lines() && (c == '\r' || c == '\n') {
			s.swiped(o, now)
			continue
		}
		if len(s.line) == 0 && c == 0 && s.cfg.Head == HeadIDTECH { // what fills a HID report up
			s.gap = 0
			continue
		}
		if s.over || len(s.line) >= lineMost {
			s.over = true
			continue
		}
		if s.line == nil { // of one size: growing would leave card data behind
			s.line = make([]byte, 0, lineMost)
		}
		s.line = append(s.line, c)
		if s.cfg.Head == HeadIDTECH && s.frame() {
			s.swiped(o, now)
		}
	}
	if s.cfg.Head == HeadMagTek && len(s.line) == len(b) && len(b) >= magLeast && len(b) <= magMost {
		s.swiped(o, now) // a read of a HID device is a report: it need not wait for a gap
	}
}

// frame reports that the length at its begin says that a frame is whole.
func (s *State) frame() bool {
	return len(s.line) >= 3 && s.line[0] == idStart && len(s.line) >= idOverhead+int(s.line[1])+int(s.line[2])<<8
}

// swiped is the end of a swipe: by Enter, by its length, or because nothing more came.
func (s *State) swiped(o *hardware.Output, now time.Duration) {
	defer s.drop()
	if len(s.line) == 0 {
		return // LF behind CR
	}
	c, reason, junk := s.read()
	if junk != s.noisy {
		s.noisy = junk
		h := hardware.Health{Device: s.cfg.Device, State: hardware.Ready, Code: hardware.CodeReady}
		if junk {
			h.State, h.Code, h.Detail = hardware.Degraded, hardware.CodeGarbage, fmt.Sprintf("%d bytes", len(s.line))
		}
		o.Emit(h)
	}
	switch {
	case reason != "":
		s.fail(o, reason)
	case !s.armed:
		c.Wipe()
	default:
		s.armed = false
		o.Emit(hardware.CardRead{Card: c, At: now})
	}
}

// read is what came of a swipe: a card, or the reason why not; junk: it was nothing that such a head says.
func (s *State) read() (c hardware.Card, reason string, junk bool) {
	if s.over {
		return c, hardware.ReasonUnreadable, true
	}
	sw, err := s.cfg.Head.swipe(s.line)
	if err != nil {
		return c, hardware.ReasonUnreadable, true
	}
	if c, reason = s.cfg.Rules.Swipe(sw, s.cfg.Head.scheme(), s.cfg.Wall()); reason == "" && c.Reader == "" {
		c.Reader = s.cfg.Device
	}
	return c, reason, false
}
