package terminal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Times of the protocol (PA00P016).
const (
	answerTime   = 5 * time.Second   // T3: from a command to its 80 or 84
	finishTime   = 180 * time.Second // T4: from there to the completion; the terminal may change it
	longest      = 15 * time.Minute  // whatever it says meanwhile
	enquiryEvery = time.Minute       // it lets the terminal run what it has to
	retryEvery   = 5 * time.Second   // while it is not ready
)

// Other bounds.
const (
	queueMost  = 8
	mendsMost  = 3  // initialisations and diagnoses of one opening
	holdsMost  = 50 // holds ended before a day is closed
	configByte = 0x3E
	linesByte  = 0xBE
)

// Codes of Health beside hardware's own: what the terminal asks for, and does not get through with.
const (
	CodeInitialisation = "terminal_initialisation"
	CodeDiagnosis      = "terminal_diagnosis"
)

// Commands (PA00P015 2) and what a terminal sends.
var (
	registration   = [2]byte{0x06, 0x00}
	purchase       = [2]byte{0x06, 0x01}
	reservation    = [2]byte{0x06, 0x22}
	partial        = [2]byte{0x06, 0x23}
	bookTotal      = [2]byte{0x06, 0x24}
	release        = [2]byte{0x06, 0x25}
	reversal       = [2]byte{0x06, 0x30}
	refunding      = [2]byte{0x06, 0x31}
	endOfDay       = [2]byte{0x06, 0x50}
	repeatReceipt  = [2]byte{0x06, 0x20}
	statusEnquiry  = [2]byte{0x05, 0x01}
	initialisation = [2]byte{0x06, 0x93}
	diagnosis      = [2]byte{0x06, 0x70}
	abortion       = [2]byte{0x06, 0xB0}

	positive = []byte{0x80, 0x00, 0x00}
	unknown  = []byte{0x84, 0x83, 0x00}
)

// Config of a machine that does not change.
type setting struct {
	password [3]byte
	currency money.Currency
	number   [2]byte       // its ISO 4217 number, BCD
	hold     bool          // payments are reservations
	lines    bool          // the terminal composes the receipts
	finish   time.Duration // T4
}

// phase is where the exchange stands; the terminal is master while it runs.
//
//	down -> idle -> sent (80 or 84 awaited) -> running (04 FF, 04 0F, 06 Dx ... 06 0F or 06 1E) -> idle
type phase uint8

const (
	down phase = iota
	idle
	sent
	running
)

// do is what a job is about.
type do uint8

const (
	toRegister do = iota + 1
	toAsk         // 05 01
	toPeek        // 06 20, for ourselves
	toMend        // 06 93 or 06 70
	toAuthorize
	toAbort
	toCapture
	toCancel
	toRefund
	toLast  // 06 23 FF FF where there are holds, then 06 20
	toClose // the same until there is none, 06 25 each, then 06 50
)

type job struct {
	do       do
	payment  protocol.PaymentID
	ref      protocol.TerminalRef
	approved money.Amount
	amount   money.Amount

	command [2]byte
	written bool // something of it left
	abort   bool // wanted
	aborted bool // said
	info    *fields
	lines   []string
	hold    hardware.HoldState
	holds   int
}

func (j job) money() bool { return j.do >= toAuthorize && j.do <= toRefund }

// State is the machine: pure, its time is given.
type State struct {
	set     setting
	phase   phase
	in      stream
	job     job
	queue   []job
	writing bool // the command of job is being written
	until   time.Duration
	end     time.Duration
	patient time.Duration // T4
	ask     time.Duration // next enquiry
	ready   bool
	due     bool
	mends   int
	trouble string
	id      string
}

func newState(set setting) State { return State{set: set} }

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	s.queue = slices.Clone(s.queue)
	switch in := in.(type) {
	case hardware.Opened:
		s = State{set: s.set, phase: idle, queue: []job{{do: toRegister}}}
	case hardware.Closed:
		s.closed(&o)
	case hardware.Wrote:
		if s.writing {
			s.writing, s.job.written = false, in.N > 0 || in.Err == nil
		}
	case hardware.Bytes:
		s.in.feed(in.B)
		s.hear(&o, now)
	case hardware.Wake:
		s.tick(&o, now)
	case job:
		s.take(&o, in)
	}
	if o.End == nil {
		s.next(&o, now)
	}
	switch s.phase {
	case sent, running:
		o.Wake = min(s.until, s.end)
	case idle:
		o.Wake = s.ask
	}
	return s, o
}

// closed ends what was going on: what left may have been done.
func (s *State) closed(o *hardware.Output) {
	if s.phase == sent || s.phase == running {
		s.lost(o)
	}
	for _, j := range s.queue {
		s.unsent(o, j, "port_gone")
	}
	*s = State{set: s.set}
}

// take queues a command.
func (s *State) take(o *hardware.Output, j job) {
	switch {
	case j.do == toAbort:
		s.giveUp(o, j.payment)
	case s.phase == down || !s.ready:
		s.unsent(o, j, "terminal_away")
	case len(s.queue) >= queueMost:
		s.unsent(o, j, "busy")
	case s.due && j.do == toAuthorize:
		s.unsent(o, j, reason(codeDayEnd))
	default:
		s.queue = append(s.queue, j)
	}
}

// giveUp is Abort.
func (s *State) giveUp(o *hardware.Output, p protocol.PaymentID) {
	if (s.phase == sent || s.phase == running) && s.job.do == toAuthorize && s.job.payment == p {
		s.job.abort = true
		s.sayAbort(o)
		return
	}
	for i, j := range s.queue {
		if j.do == toAuthorize && j.payment == p {
			s.queue = slices.Delete(s.queue, i, i+1)
			o.Emit(hardware.TerminalAnswered{Payment: p, Result: protocol.TerminalAborted, Reason: reason(codeAborted)})
			return
		}
	}
}

// sayAbort sends 06 B0, once, and only while the terminal works on the payment (PA00P015 2.23).
func (s *State) sayAbort(o *hardware.Output) {
	if s.job.abort && !s.job.aborted && s.phase == running {
		s.job.aborted = true
		o.Write(apdu{abortion[0], abortion[1], nil}.bytes())
	}
}

// next begins the next job.
func (s *State) next(o *hardware.Output, now time.Duration) {
	for s.phase == idle && len(s.queue) > 0 {
		j := s.queue[0]
		s.queue = s.queue[1:]
		if j.do == toCapture && !s.set.hold {
			s.settled(o, j)
			continue
		}
		s.begin(o, now, j)
	}
	if s.phase == idle && s.ask == 0 {
		s.ask = now + enquiryEvery
	}
}

// settled is the capture of a purchase: it is one already, and less than all of it cannot be said
// (PA00P015 2.9: a reversal is of the whole amount).
func (s *State) settled(o *hardware.Output, j job) {
	e := hardware.TerminalDone{Payment: j.payment, Op: protocol.TerminalCapture, End: protocol.TerminalOK, Ref: j.ref}
	if j.amount != j.approved {
		e.End, e.Reason = protocol.TerminalRefused, "not_possible"
	}
	o.Emit(e)
}

// tick is a wait that is over.
func (s *State) tick(o *hardware.Output, now time.Duration) {
	switch {
	case s.phase == idle && now >= s.ask && s.ask > 0:
		s.ask = 0
		if !find(s.queue, func(j job) bool { return j.do == toAsk }) {
			s.queue = append(s.queue, job{do: toAsk})
		}
	case (s.phase == sent || s.phase == running) && now >= min(s.until, s.end):
		what := pick(s.phase == sent, "T3: no answer", "T4: no completion")
		s.lost(o)
		s.phase, o.End = down, fmt.Errorf("%s to %02X %02X", what, s.job.command[0], s.job.command[1])
	}
}

func find[T any](s []T, is func(T) bool) bool { return slices.ContainsFunc(s, is) }

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// hear takes what came.
func (s *State) hear(o *hardware.Output, now time.Duration) {
	for s.phase != down {
		a, ok, err := s.in.next()
		if err != nil {
			o.Emit(hardware.Health{Device: device, State: hardware.Degraded, Code: hardware.CodeGarbage})
			if s.phase == sent || s.phase == running {
				s.lost(o)
			}
			s.phase, o.End = down, err
			return
		}
		if !ok {
			return
		}
		s.message(o, now, a)
		clear(a.data)
		if o.End != nil {
			return
		}
		s.next(o, now) // before what came with it: it is of the next exchange
	}
}

func (s *State) message(o *hardware.Output, now time.Duration, a apdu) {
	switch {
	case a.class == 0x80, a.class == 0x84:
		s.answered(o, now, a)
		return
	case a.is(0x04, 0xFF), a.is(0x04, 0x0F), a.is(0x04, 0x01), a.is(0x06, 0xD1), a.is(0x06, 0xD3), a.is(0x06, 0x0F), a.is(0x06, 0x1E):
		o.Write(positive)
	default:
		o.Write(unknown)
		return
	}
	if s.phase != running {
		return // it does what it has to by itself, or spoke while we did
	}
	switch {
	case a.is(0x04, 0xFF):
		s.status(o, now, a.data)
	case a.is(0x04, 0x0F):
		f := parse(a.data)
		s.job.info = &f
		s.until = now + s.patient
	case a.is(0x06, 0xD1) && len(a.data) > 0:
		s.print([]string{plain(a.data[1:], charset437)})
	case a.is(0x06, 0xD3):
		if f := parse(a.data); f.kind != 0x01 {
			s.print(f.printed)
		}
	case a.is(0x06, 0x0F):
		s.finished(o, now, true, a.data)
	case a.is(0x06, 0x1E):
		s.finished(o, now, false, a.data)
	}
}

// print keeps the lines of a receipt. The printer that is missing costs no payment: they are taken.
func (s *State) print(l []string) {
	s.job.lines = append(slices.Clone(s.job.lines), l[:min(len(l), linesMost-min(linesMost, len(s.job.lines)))]...)
}

// status is 04 FF: a code, the minutes T4 is to be, texts.
func (s *State) status(o *hardware.Output, now time.Duration, b []byte) {
	if len(b) == 0 {
		return
	}
	code := b[0]
	rest := b[1:]
	if len(rest) > 0 && rest[0] != 0x06 {
		if m, ok := number(rest[:1]); ok && m > 0 {
			s.patient = time.Duration(m) * time.Minute
		}
		rest = rest[1:]
	}
	s.until = now + s.patient
	f := parse(rest)
	if s.job.money() {
		o.Emit(hardware.TerminalStatus{Payment: s.job.payment, Code: show(code), Text: strings.Join(f.shown, "\n")})
	}
}

// answered is 80 or 84: to our command, or to our 06 B0. 84 00 is positive too (PA00P016 5.2).
func (s *State) answered(o *hardware.Output, now time.Duration, a apdu) {
	switch {
	case s.phase != sent:
		return // to 06 B0: what becomes of it, the end says
	case a.class == 0x80 || a.instr == 0:
		s.phase, s.until = running, now+s.patient
		s.sayAbort(o)
	default:
		s.finished(o, now, false, []byte{a.instr})
	}
}

// finished is the end of a command: 06 0F, 06 1E, or 84.
func (s *State) finished(o *hardware.Output, now time.Duration, ok bool, data []byte) {
	j := s.job
	s.job, s.phase, s.ask = job{}, idle, 0
	code := byte(0)
	if !ok && len(data) > 0 {
		code, data = data[0], data[1:]
	}
	// Completed, with a result that is a no. Of 06 20 it is that of the transaction it tells of.
	if ok && j.info != nil && j.info.result != 0 && j.command != repeatReceipt {
		ok, code = false, j.info.result
	}
	switch j.do {
	case toRegister:
		s.registered(o, ok, code, data)
	case toAsk:
		s.asked(o, now, ok, code, data)
	case toMend:
		s.queue = append([]job{{do: toAsk}}, s.queue...)
	case toPeek:
		s.peeked(o, now, ok, code, j)
	case toAuthorize:
		s.paid(o, ok, code, j)
	case toCapture, toCancel, toRefund:
		s.did(o, ok, code, j)
	case toLast:
		s.lastKnown(o, now, ok, code, data, j)
	case toClose:
		s.dayEnded(o, now, ok, code, data, j)
	}
}
