package escpos

import (
	"fmt"
	"slices"
	"time"

	"coinop/hardware"
)

// Times of the machine.
const (
	pollEvery  = 5 * time.Second
	answerTime = 2 * time.Second  // for a real-time status, which overtakes what waits in the buffer
	proofTime  = 10 * time.Second // for the answer that waits its turn behind a job
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
	CodeName      = "printer.name"      // of one in the network: nobody knows the name
	CodeRefused   = "printer.refused"   // nothing listens at its port
	CodeNoAnswer  = "printer.no_answer" // no way to it, or nobody is there
)

var errUnproven = hardware.Silence("the printer did not say that it printed: the port is opened anew, and what waits in it is dropped")

var errSilent = hardware.Silence("the printer does not answer any more: check its power, its cable, and whether it has paper")

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
//	closed → asking: DLE EOT 1 to 4 → ready ⇄ printing: chunks, then GS ( H 48 or GS r 1, whose answer
//	proves that the printer has worked all of it through
type State struct {
	device   string
	patience time.Duration // for a proof
	open     bool
	spoke    bool // it has answered something in this opening
	blind    bool // it has been said that it does not

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
	proof time.Duration // until when the proof may come; 0: it has not been asked for yet
	by    proofKind     // what proves, as far as is known
	count uint16        // of jobs, in their proofs
	got   int           // bytes of the proof's answer
}

// proofKind is how a printer says that it has worked through all before a question.
type proofKind uint8

const (
	proofAny   proofKind = iota // not known yet: both are asked for
	proofID                     // GS ( H 48: it sends a process id back. Epson's; others skip the command
	proofPaper                  // GS r 1: the paper sensor, asked in its turn
)

// Process ids are four bytes of 4xh, which look like no other answer but the last three bytes of an
// automatic status, and those come in one piece.
func (s *State) processID() []byte {
	c := s.count
	return []byte{0x40 | byte(c>>12), 0x40 | byte(c>>8)&15, 0x40 | byte(c>>4)&15, 0x40 | byte(c)&15} //nolint:gosec // nibbles
}

// NewState is a machine whose port is not open yet.
func NewState(device string) State { return State{device: device, patience: proofTime} }

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	s.queue, s.auto = slices.Clone(s.queue), slices.Clone(s.auto)
	switch in := in.(type) {
	case hardware.Opened:
		s = State{device: s.device, patience: s.patience, open: true, count: s.count}
		o.Write(append(slices.Clone(initialize), 0x1D, 'a', 0x0F)) // GS a: say changes by yourself
		s.poll(&o, now, 1)
	case hardware.Closed:
		if s.busy {
			s.finish(&o, ReasonPortLost)
		}
		for _, j := range s.queue {
			s.refuse(&o, j, ReasonPortLost)
		}
		s = State{device: s.device, patience: s.patience, count: s.count}
	case hardware.Bytes:
		for _, b := range in.B {
			s.hear(&o, now, b)
		}
		s.printNext(&o, now)
	case hardware.Wake:
		if s.tick(&o, now); o.End == nil {
			s.printNext(&o, now)
		}
	case lpStatus:
		s.lineStatus(&o, in)
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
		s.refuse(o, j, ReasonPortLost)
	case s.says&stops != 0:
		s.refuse(o, j, s.reason())
	case len(s.queue) == maxJobs:
		s.refuse(o, j, ReasonError)
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
			s.refuse(o, j, s.reason())
		}
		s.queue = nil
		return
	}
	s.busy, s.rest, s.proof = true, s.queue[0].bytes, 0
	s.asked, s.polled = 0, now // a question could come to stand within a picture, which would be spoiled
	s.more(o, now)
}

// more writes the next chunk, and after the last the question that is answered when all is done.
func (s *State) more(o *hardware.Output, now time.Duration) {
	n := min(chunk, len(s.rest))
	o.Write(s.rest[:n:n])
	s.rest = s.rest[n:]
	if len(s.rest) == 0 {
		s.proof, s.got = now+s.patience, 0
		s.count++
		var ask []byte
		if s.by != proofPaper {
			ask = append([]byte{0x1D, '(', 'H', 6, 0, 0x30, 0x30}, s.processID()...)
		}
		if s.by != proofID {
			ask = append(ask, 0x1D, 'r', 1)
		}
		o.Write(ask)
	}
}

// refuse ends a job of which nothing was written.
func (s *State) refuse(o *hardware.Output, j job, reason string) {
	o.Emit(hardware.Printed{Job: j.id, Reason: reason, Result: hardware.PrintNone})
}

// finish ends the job that prints.
func (s *State) finish(o *hardware.Output, reason string) {
	result := hardware.PrintUnknown
	switch {
	case reason == "":
		result = hardware.PrintWhole
	case reason == ReasonUnconfirmed && !s.spoke:
		result = hardware.PrintUnsaid
	}
	o.Emit(hardware.Printed{Job: s.queue[0].id, Reason: reason, Result: result})
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
		if s.spoke { // what it says from here on could be the proof of that job, and be taken for the next's
			o.End = errUnproven
			return
		}
	}
	switch {
	case s.busy && s.proof == 0:
	case s.asked == 0 && now >= s.polled+pollEvery:
		s.tried = 0
		if s.says&cutterError != 0 { // somebody may have freed it: go on, with an empty buffer
			o.Write([]byte{0x10, 0x05, 2})
		}
		s.poll(o, now, 1)
	case s.asked != 0 && now >= s.until:
		if s.tried++; s.spoke && s.tried >= tries {
			o.End = errSilent
			return
		}
		if !s.spoke && !s.blind {
			s.blind = true
			s.tellBlind(o)
		}
		s.poll(o, now, 1)
	}
}

// hear takes one byte: the kinds of answer differ in bits that are always the same.
func (s *State) hear(o *hardware.Output, now time.Duration, b byte) {
	if b == 0x11 || b == 0x13 { // XON, XOFF: wherever they are
		return
	}
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
	case b&0x93 == 0x12:
		s.realTime(o, now, b)
	case b&0x93 == 0x10:
		s.auto = append(s.auto, b)
	case s.busy && s.proof > 0:
		s.proven(o, b)
	}
}

// proven takes a byte of the answer to a proof: 37 22, the process id, 00; or that to GS r 1, one byte
// with bits 4 and 7 clear.
func (s *State) proven(o *hardware.Output, b byte) {
	if s.by != proofPaper {
		want := append(append([]byte{0x37, 0x22}, s.processID()...), 0)
		if b != want[s.got] && s.got > 0 {
			s.got = 0
		}
		if b == want[s.got] {
			if s.got++; s.got == len(want) {
				s.spoke, s.by = true, proofID
				s.finish(o, "")
			}
			return
		}
	}
	if b&0x90 == 0 && s.by != proofID {
		s.spoke, s.by = true, proofPaper
		s.finish(o, "")
	}
}

// lpStatus is the kernel's word of a USB printer (LPGETSTATUS): 20 paper empty, 10 selected, 08 no error.
// Nothing set is a printer that does not tell.
type lpStatus byte

// lineStatus counts as long as the printer says nothing by itself.
func (s *State) lineStatus(o *hardware.Output, b lpStatus) {
	if s.spoke || !s.blind || !s.open {
		return
	}
	var t trouble
	switch {
	case b&0x20 != 0:
		t = paperOut
	case b&0x18 == 0x10:
		t = otherError
	case b&0x18 == 0x08:
		t = offline
	}
	s.now(o, t)
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
	case s.blind && !s.spoke:
		s.tellBlind(o)
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

func (s *State) tellBlind(o *hardware.Output) {
	s.tell(o, hardware.Degraded, hardware.CodeSilent, "it says nothing of its state: jobs are written and not confirmed")
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
