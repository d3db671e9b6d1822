package escpos

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"coinop/hardware"
)

// Times of the machine.
const (
	pollEvery  = 5 * time.Second
	answerTime = 2 * time.Second  // for a real-time status, which overtakes what waits in the buffer
	proofTime  = 10 * time.Second // for the answer that waits its turn behind a job: 50 mm/s, half a metre
	tries      = 3
	chunk      = 128 // bytes a write: at 9,600 baud a tenth of a second
	maxJobs    = 8
)

// Reasons of hardware.Printed beside "": what came out may be nothing, a part or all of it.
const (
	ReasonPaperOut    = "paper_out"
	ReasonCoverOpen   = "cover_open"
	ReasonCutter      = "cutter"
	ReasonError       = "printer_error"
	ReasonUnconfirmed = "unconfirmed" // written, and the printer says nothing
	ReasonPortLost    = "port_lost"
)

// Codes of hardware.Health.
const (
	CodePaperLow  = "printer.paper_low"
	CodePaperOut  = "printer.paper_out"
	CodeCoverOpen = "printer.cover_open"
	CodeCutter    = "printer.cutter"
	CodeError     = "printer.error"
	CodeOffline   = "printer.offline"
)

var errSilent = errors.New("the printer does not answer any more: check its power, its cable, and whether it has paper")

// trouble is what a printer says of itself, as bits.
type trouble uint8

const (
	paperLow trouble = 1 << iota
	paperOut
	coverOpen
	cutterError
	otherError
	offline
)

// stops are the troubles that keep it from printing.
const stops = paperOut | coverOpen | cutterError | otherError

// State is the machine of one printer: pure, its time is given. Its commands and the bits of its
// answers are ESC/POS as Epson's and Bixolon's manuals have them.
//
//	closed → asking: DLE EOT 1 to 4 → ready ⇄ printing: chunks, then GS r 1, whose answer proves that
//	the printer has worked all of it through
type State struct {
	device string
	open   bool
	spoke  bool // it has answered something in this opening
	blind  bool // it has been said that it does not

	asked  byte          // n of the DLE EOT that waits for its answer; 0 none
	until  time.Duration // of that answer
	polled time.Duration
	tried  int
	seen   trouble // by DLE EOT: 1 to 4 of this round so far
	stale  bool    // an automatic status has come since the round began, and is newer than its answers
	says   trouble // all of a round, or the last automatic status
	told   string  // code of the last Health
	auto   []byte  // first bytes of an automatic status that is not complete yet

	queue []job
	rest  []byte        // of the job that prints
	busy  bool          // one prints
	proof time.Duration // until when the answer to GS r 1 may come; 0: it has not been asked yet
}

// NewState is a machine whose port is not open yet.
func NewState(device string) State { return State{device: device} }

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	s.queue, s.auto = slices.Clone(s.queue), slices.Clone(s.auto)
	switch in := in.(type) {
	case hardware.Opened:
		s = State{device: s.device, open: true}
		o.Write(append(slices.Clone(initialize), 0x1D, 'a', 0x0F)) // GS a: say changes by yourself
		s.poll(&o, now, 1)
	case hardware.Closed:
		if s.busy {
			s.finish(&o, ReasonPortLost)
		}
		for _, j := range s.queue {
			o.Emit(hardware.Printed{Job: j.id, Reason: ReasonPortLost})
		}
		s = State{device: s.device}
	case hardware.Bytes:
		for _, b := range in.B {
			s.hear(&o, now, b)
		}
		s.printNext(&o, now)
	case hardware.Wake:
		s.tick(&o, now)
		s.printNext(&o, now)
	case job:
		s.take(&o, in)
		s.printNext(&o, now)
	}
	if o.End == nil {
		o.Wake = s.wake(now)
	}
	return s, o
}

func (s *State) wake(now time.Duration) time.Duration {
	if !s.open {
		return 0
	}
	at := s.polled + pollEvery
	if s.asked != 0 {
		at = s.until
	}
	if s.busy && s.proof > 0 {
		at = min(at, s.proof)
	}
	if s.busy && s.proof == 0 { // the next chunk, once what came meanwhile is read
		at = now + time.Microsecond
	}
	return at
}

// take queues a job, or ends it when it cannot be printed now: the buyer stands there now.
func (s *State) take(o *hardware.Output, j job) {
	switch {
	case !s.open:
		o.Emit(hardware.Printed{Job: j.id, Reason: ReasonPortLost})
	case s.says&stops != 0:
		o.Emit(hardware.Printed{Job: j.id, Reason: s.reason()})
	case len(s.queue) == maxJobs:
		o.Emit(hardware.Printed{Job: j.id, Reason: ReasonError})
	default:
		s.queue = append(s.queue, j)
	}
}

// printNext begins a job when the printer is known to be able to.
func (s *State) printNext(o *hardware.Output, now time.Duration) {
	if !s.open || s.busy || len(s.queue) == 0 || (!s.spoke && !s.blind) {
		return
	}
	if s.says&stops != 0 {
		for _, j := range s.queue {
			o.Emit(hardware.Printed{Job: j.id, Reason: s.reason()})
		}
		s.queue = nil
		return
	}
	s.busy, s.rest, s.proof = true, s.queue[0].bytes, 0
	s.more(o, now)
}

// more writes the next chunk, and after the last the question that is answered when all is done.
func (s *State) more(o *hardware.Output, now time.Duration) {
	n := min(chunk, len(s.rest))
	o.Write(s.rest[:n:n])
	s.rest = s.rest[n:]
	if len(s.rest) == 0 {
		s.proof = now + proofTime
		o.Write([]byte{0x1D, 'r', 1}) // GS r 1: paper sensor, in its turn
	}
}

// finish ends the job that prints.
func (s *State) finish(o *hardware.Output, reason string) {
	o.Emit(hardware.Printed{Job: s.queue[0].id, Reason: reason})
	s.queue, s.busy, s.rest, s.proof = s.queue[1:], false, nil, 0
}

func (s *State) poll(o *hardware.Output, now time.Duration, n byte) {
	if n == 1 {
		s.seen, s.stale = 0, false
	}
	s.asked, s.until, s.polled = n, now+answerTime, now
	o.Write([]byte{0x10, 0x04, n}) // DLE EOT n
}

func (s *State) tick(o *hardware.Output, now time.Duration) {
	if !s.open {
		return
	}
	if s.busy && s.proof == 0 {
		s.more(o, now)
	}
	if s.busy && s.proof > 0 && now >= s.proof {
		s.finish(o, ReasonUnconfirmed)
	}
	switch {
	case s.asked == 0 && s.busy && s.proof == 0: // the question could come to stand within a picture
	case s.asked == 0 && now >= s.polled+pollEvery:
		s.tried = 0
		s.poll(o, now, 1)
	case s.asked != 0 && now >= s.until:
		if s.tried++; s.spoke && s.tried >= tries {
			o.End = errSilent
			return
		}
		if !s.spoke && !s.blind {
			s.blind = true
			s.tell(o, hardware.Degraded, hardware.CodeSilent, "it says nothing of its state: jobs are written and not confirmed")
		}
		s.poll(o, now, 1)
	}
}

// hear takes one byte: the kinds of answer differ in bits that are always the same.
func (s *State) hear(o *hardware.Output, now time.Duration, b byte) {
	if len(s.auto) > 0 {
		if b&0x90 == 0 {
			if s.auto = append(s.auto, b); len(s.auto) == 4 {
				s.automatic(o)
			}
			return
		}
		s.auto = nil // cut off: what follows is something else
	}
	switch {
	case b == 0x11 || b == 0x13: // XON, XOFF
	case b&0x93 == 0x12:
		s.realTime(o, now, b)
	case b&0x93 == 0x10:
		s.auto = append(s.auto, b)
	case b&0x90 == 0 && s.busy && s.proof > 0: // the answer to GS r 1
		s.spoke = true
		s.finish(o, "")
	}
}

// realTime is the answer to DLE EOT n.
func (s *State) realTime(o *hardware.Output, now time.Duration, b byte) {
	n := s.asked
	if n == 0 {
		return
	}
	s.spoke, s.tried = true, 0
	type mean struct {
		n, mask byte
		is      trouble
	}
	for _, m := range []mean{
		{1, 0x08, offline},
		{2, 0x04, coverOpen},
		{2, 0x20, paperOut},
		{3, 0x08, cutterError},
		{3, 0x64, otherError},
		{4, 0x0C, paperLow},
		{4, 0x60, paperOut},
	} {
		if m.n == n && b&m.mask != 0 {
			s.seen |= m.is
		}
	}
	if n < 4 {
		s.poll(o, now, n+1)
		return
	}
	if s.asked = 0; !s.stale {
		s.now(o, s.seen)
	}
}

// automatic is the four bytes a printer sends when something changed.
func (s *State) automatic(o *hardware.Output) {
	var t trouble
	for _, m := range []struct {
		at   int
		mask byte
		is   trouble
	}{
		{0, 0x08, offline}, {0, 0x20, coverOpen}, {1, 0x08, cutterError}, {1, 0x64, otherError}, {2, 0x03, paperLow}, {2, 0x0C, paperOut},
	} {
		if s.auto[m.at]&m.mask != 0 {
			t |= m.is
		}
	}
	s.auto, s.spoke, s.stale = nil, true, true
	s.now(o, t)
}

// now is how the printer is from here on.
func (s *State) now(o *hardware.Output, t trouble) {
	s.says = t
	if s.busy && t&stops != 0 {
		s.finish(o, s.reason())
	}
	switch {
	case t&paperOut != 0:
		s.tell(o, hardware.Fault, CodePaperOut, "")
	case t&coverOpen != 0:
		s.tell(o, hardware.Fault, CodeCoverOpen, "")
	case t&cutterError != 0:
		s.tell(o, hardware.Fault, CodeCutter, "")
	case t&otherError != 0:
		s.tell(o, hardware.Fault, CodeError, "")
	case t&offline != 0:
		s.tell(o, hardware.Degraded, CodeOffline, "")
	case t&paperLow != 0:
		s.tell(o, hardware.Degraded, CodePaperLow, "")
	default:
		s.tell(o, hardware.Ready, hardware.CodeReady, "")
	}
}

func (s *State) reason() string {
	switch {
	case s.says&paperOut != 0:
		return ReasonPaperOut
	case s.says&coverOpen != 0:
		return ReasonCoverOpen
	case s.says&cutterError != 0:
		return ReasonCutter
	}
	return ReasonError
}

// tell says how it is, when that is news.
func (s *State) tell(o *hardware.Output, h hardware.HealthState, code, detail string) {
	if code == s.told {
		return
	}
	s.told = code
	o.Emit(hardware.Health{Device: s.device, State: h, Code: code, Detail: detail})
}

// String is the state for a failing test.
func (s State) String() string {
	return fmt.Sprintf("open %t spoke %t asked %d says %b busy %t queue %d", s.open, s.spoke, s.asked, s.says, s.busy, len(s.queue))
}
