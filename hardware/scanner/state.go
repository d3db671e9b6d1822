package scanner

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"coinop/hardware"
)

// Times and bounds of the machine.
const (
	gapTime  = 50 * time.Millisecond
	sameTime = 2500 * time.Millisecond
	lifeTime = 10 * time.Minute // a wallet's code is good for one
	lookTime = 5 * time.Second  // after which a trigger is given again: scanners give up by themselves
	mostRead = 512              // characters of a code
	mostLine = 4 * mostRead     // bytes
	mostSeen = 256              // codes remembered: the oldest goes
)

// commands of a trigger: look, and look no more.
var commands = map[Trigger][2][]byte{
	Honeywell: {{0x16, 0x54, 0x0D}, {0x16, 0x55, 0x0D}},
	Newland:   {{0x01, 0x54, 0x04}, {0x01, 0x50, 0x04}},
	GM65: {
		{0x7E, 0x00, 0x08, 0x01, 0x00, 0x02, 0x01, 0xAB, 0xCD},
		{0x7E, 0x00, 0x08, 0x01, 0x00, 0x02, 0x00, 0xAB, 0xCD},
	},
}

// State is the machine of one scanner: pure, its time is given.
//
//	closed → off ⇄ on: codes, until Stop
type State struct {
	cfg  Config
	open bool
	on   bool
	look time.Duration // when the trigger is given again; 0: there is none

	line   []byte        // what came of a code
	gap    time.Duration // when that ends; 0: none has begun
	skip   int           // bytes of an answer to a trigger that are still to come
	suffix bool          // this scanner ends its codes: what a gap ends is half of one
	noisy  bool          // told

	seen []mark // oldest first
}

// mark is a code that was given.
type mark struct {
	hash        [sha256.Size]byte
	given, last time.Duration
}

// NewState is a machine whose port is not open yet.
func NewState(cfg Config) State { return State{cfg: cfg.withDefaults()} }

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	switch in := in.(type) {
	case hardware.Opened:
		s.open, s.on, s.suffix, s.noisy, s.look = true, false, s.cfg.Keyboard, false, 0
		s.drop()
		o.Emit(hardware.Health{Device: s.cfg.Device, State: hardware.Ready, Code: hardware.CodeReady})
	case hardware.Closed:
		s.open, s.on, s.look = false, false, 0
		s.drop()
	case hardware.Bytes:
		s.bytes(&o, now, in.B)
		clear(in.B)
	case hardware.Wake:
		s.tick(&o, now)
	case scan:
		if s.open {
			s.on = true
			s.trigger(&o, now)
		}
	case stop:
		if c, ok := commands[s.cfg.Trigger]; ok && s.on {
			o.Write(c[1])
		}
		s.on, s.look = false, 0
	}
	o.Wake = s.gap
	if s.look > 0 && (o.Wake == 0 || s.look < o.Wake) {
		o.Wake = s.look
	}
	return s, o
}

func (s *State) trigger(o *hardware.Output, now time.Duration) {
	if c, ok := commands[s.cfg.Trigger]; ok && s.on {
		o.Write(c[0])
		s.look = now + lookTime
	}
}

func (s *State) drop() {
	clear(s.line[:cap(s.line)])
	s.line, s.gap, s.skip = s.line[:0], 0, 0
}

func (s *State) tick(o *hardware.Output, now time.Duration) {
	if s.gap > 0 && now >= s.gap {
		s.read(o, now, false)
	}
	if s.look > 0 && now >= s.look {
		s.trigger(o, now)
	}
}

func (s *State) bytes(o *hardware.Output, now time.Duration, b []byte) {
	if s.gap > 0 && now >= s.gap { // we were late: there was a gap before these
		s.read(o, now, false)
	}
	for _, c := range b {
		s.gap = now + s.cfg.Gap
		switch {
		case s.answers(c):
		case c == '\r' || c == '\n':
			if len(s.line) > 0 {
				s.suffix = true
				s.read(o, now, true)
			}
			s.drop()
		case len(s.line) <= mostLine: // one more than it may be tells that it is too long
			if s.line == nil {
				s.line = make([]byte, 0, mostLine+1)
			}
			s.line = append(s.line, c)
		}
	}
}

// answers reports that c is of a scanner's answer to its trigger, which comes before a code: a byte of
// Newland's, a frame of GM65's: 02 00 00, length, so many bytes, two of check.
func (s *State) answers(c byte) bool {
	switch {
	case s.skip > 3: // before the length
		s.skip--
	case s.skip == 3:
		s.skip = -(int(c) + 2)
	case s.skip < 0:
		s.skip++
	case len(s.line) > 0:
		return false
	case s.cfg.Trigger == Newland && (c == 0x06 || c == 0x15):
	case s.cfg.Trigger == GM65 && c == 0x02:
		s.skip = 5
	default:
		return false
	}
	return true
}

// read is the end of a code: by its suffix, or because nothing more came.
func (s *State) read(o *hardware.Output, now time.Duration, ended bool) {
	line := s.line
	defer s.drop()
	if len(line) == 0 || !s.on {
		return
	}
	reason := wrong(line)
	if !ended && s.suffix {
		reason = hardware.CodeTorn
	}
	if reason == hardware.CodeControl != s.noisy {
		s.noisy = !s.noisy
		h := hardware.Health{Device: s.cfg.Device, State: hardware.Ready, Code: hardware.CodeReady}
		if s.noisy {
			h.State, h.Code, h.Detail = hardware.Degraded, hardware.CodeGarbage, fmt.Sprintf("%d bytes", len(line))
		}
		o.Emit(h)
	}
	fresh := true
	if reason == "" {
		fresh, reason = s.mark(line, now)
	}
	switch {
	case reason != "":
		o.Emit(hardware.CodeRefused{Reason: reason})
	case fresh:
		o.Emit(hardware.CodeRead{Code: hardware.Hide(bytes.Clone(line)), At: now})
	}
	s.trigger(o, now) // it has stopped looking
}

// wrong is why a line is no code; "" when it can be one.
func wrong(line []byte) string {
	switch {
	case utf8.RuneCount(line) > mostRead:
		return hardware.CodeTooLong
	case !utf8.Valid(line), bytes.ContainsFunc(line, unicode.IsControl):
		return hardware.CodeControl
	}
	return ""
}

// mark remembers a code. fresh: it was not seen before; else it is stale, or, without a reason, seen still.
func (s *State) mark(line []byte, now time.Duration) (fresh bool, reason string) {
	m := hmac.New(sha256.New, s.cfg.Key)
	m.Write(line)
	n := mark{given: now, last: now}
	m.Sum(n.hash[:0])
	kept := make([]mark, 0, len(s.seen)+1)
	fresh = true
	for _, old := range s.seen {
		if now-old.given >= s.cfg.Life {
			continue
		}
		if old.hash == n.hash {
			fresh = false
			if now-old.last >= s.cfg.Same {
				reason = hardware.CodeStale
			}
			old.last = now
		}
		kept = append(kept, old)
	}
	if fresh {
		kept = append(kept, n)
	}
	s.seen = kept[max(0, len(kept)-mostSeen):]
	return fresh, reason
}
