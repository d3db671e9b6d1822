package terminal

import (
	"encoding/hex"
	"errors"
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

// begin sends a job's command.
func (s *State) begin(o *hardware.Output, now time.Duration, j job) {
	a := s.compose(&j)
	s.job, s.phase, s.writing = j, sent, true
	s.until, s.end, s.patient = now+answerTime, now+longest, s.set.finish
	o.Write(a.bytes())
}

func (s *State) sum(tag byte, a money.Amount) []byte { return append([]byte{tag}, bcd(a.Minor, 6)...) }

func (s *State) money() []byte { return []byte{0x49, s.set.number[0], s.set.number[1]} }

// compose is a job's next command.
func (s *State) compose(j *job) apdu {
	pw := s.set.password[:]
	var b []byte
	switch j.do {
	case toRegister:
		j.command = registration
		b = append(b, pw...)
		b = append(b, byte(configByte))
		if s.set.lines {
			b[3] = linesByte
		}
		b = append(b, s.set.number[:]...)
		b = append(b, 0x03, 0x01)
		if s.set.lines { // we take text blocks
			b = append(b, 0x06, 0x06, 0x26, 0x04, 0x0A, 0x02, 0x06, 0xD3)
		} else {
			b = append(b, 0x06, 0x00)
		}
	case toAsk:
		j.command = statusEnquiry
		b = append(append(b, pw...), 0x03, 0x02)
	case toMend: // the command is set
		if j.command == initialisation {
			b = append(b, pw...)
		}
	case toAuthorize:
		j.command = purchase
		if s.set.hold {
			j.command = reservation
		}
		b = append(s.sum(0x04, j.amount), s.money()...)
		b = append(b, 0x19, 0x40)
		b = append(b, reference(j.payment)...)
	case toCapture:
		j.command = bookTotal
		b = append(receipt(j.ref), s.sum(0x04, j.amount)...)
		b = append(append(b, s.money()...), 0x19, 0x40)
		b = append(b, trail(j.ref)...)
	case toCancel:
		if j.command = reversal; s.set.hold {
			j.command = release
			b = append(append(receipt(j.ref), s.money()...), 0x19, 0x40)
			break
		}
		b = append(append(b, pw...), receipt(j.ref)...)
		b = append(append(b, s.sum(0x04, j.approved)...), s.money()...)
	case toRefund:
		j.command = refunding
		b = append(append(b, pw...), s.sum(0x04, j.amount)...)
		b = append(b, s.money()...)
	case toPeek, toLast, toClose:
		b = s.composeAsk(j)
	}
	return apdu{j.command[0], j.command[1], b}
}

// composeAsk is the next command of a job of more than one: first the holds, then what it is about.
func (s *State) composeAsk(j *job) []byte {
	pw := s.set.password[:]
	switch {
	case j.do != toPeek && s.set.hold && j.command == [2]byte{}, j.do == toClose && j.command == release:
		j.command = partial
		return []byte{0x87, 0xFF, 0xFF}
	case j.do == toClose && j.command == partial && j.ref.Receipt != "":
		j.command = release
		return append(append(receipt(j.ref), s.money()...), 0x19, 0x40)
	case j.do == toClose:
		j.command = endOfDay
		return append([]byte(nil), pw...)
	}
	j.command = repeatReceipt
	return append(append([]byte(nil), pw...), 0x03, 0x03)
}

// receipt is bitmap 87.
func receipt(r protocol.TerminalRef) []byte {
	return append([]byte{0x87}, digits(r.Receipt, 2)...)
}

// trail is what must be sent for the booking of a reservation (PA00P015 2.13), as far as it is known.
func trail(r protocol.TerminalRef) (b []byte) {
	if len(r.Trace) == 6 {
		b = append(append(b, 0x0B), digits(r.Trace, 3)...)
	} else if r.Trace != "" {
		long := digits(r.Trace, len(r.Trace)/2)
		b = append(b, 0x0B, 0, 0, 0, 0x06, byte(3+len(long)), 0x1F, 0x2B, byte(len(long)))
		b = append(b, long...)
	}
	if r.AuthID != "" {
		auth := make([]byte, 8)
		copy(auth, r.AuthID)
		b = append(append(b, 0x3B), auth...)
	}
	return b
}

// digits is BCD of a number that a terminal gave us as such.
func digits(s string, size int) []byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != size {
		return make([]byte, size)
	}
	return b
}

// reference carries our payment id to the terminal's host (tag E9: two letters, a text): the last
// twelve digits of it, which are random.
func reference(p protocol.PaymentID) []byte {
	text := strings.ToUpper(hex.EncodeToString(p[10:]))
	e9 := append([]byte{0x1F, 0x62, 2, 'C', 'P', 0x1F, 0x63, byte(len(text))}, text...)
	return append([]byte{0x06, byte(2 + len(e9)), 0xE9, byte(len(e9))}, e9...)
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

func (s *State) registered(o *hardware.Output, ok bool, code byte, data []byte) {
	if !ok {
		o.Emit(hardware.Health{
			Device: device, State: hardware.Fault, Code: hardware.CodeNotConfigure,
			Detail: "the terminal refused the registration: " + reason(code) + "; check its password and currency",
		})
		s.phase, o.End = down, errors.New("registration refused: "+reason(code))
		return
	}
	f := parse(data)
	s.id = f.terminal
	s.queue = append([]job{{do: toAsk}}, s.queue...)
	switch {
	case f.status&0x01 != 0:
		s.mend(o, initialisation)
	case f.status&0x02 != 0:
		s.mend(o, diagnosis)
	}
}

// mend lets the terminal do what it says it needs, a few times.
func (s *State) mend(o *hardware.Output, command [2]byte) {
	if s.mends++; s.mends > mendsMost {
		s.unready(o, pick(command == initialisation, CodeInitialisation, CodeDiagnosis))
		return
	}
	s.queue = append([]job{{do: toMend, command: command}}, s.queue...)
}

// unready says why nothing can be sold, once, and asks again soon.
func (s *State) unready(o *hardware.Output, why string) {
	if s.trouble != why {
		s.trouble = why
		o.Emit(hardware.Health{Device: device, State: hardware.Degraded, Code: why})
	}
}

// asked is the terminal's status (PA00P015 7).
func (s *State) asked(o *hardware.Output, now time.Duration, ok bool, code byte, data []byte) {
	status, _, known := readStatus(data)
	if !ok {
		status, known = code, true
	}
	if !known {
		status = 0x9C
	}
	switch status {
	case 0x00, 0xDC, codeDayEnd:
		s.mends = 0
		was := s.due
		s.due = status == codeDayEnd
		switch {
		case !s.ready:
			s.queue = append([]job{{do: toPeek}}, s.queue...)
		case was != s.due || s.trouble != "":
			s.queue = append([]job{{do: toPeek}}, s.queue...) // what it did meanwhile is news too
		}
	case 0x51:
		s.mend(o, initialisation)
	case 0xC2:
		s.mend(o, diagnosis)
	default:
		s.unready(o, reason(status))
		s.ask = now + retryEvery
	}
}

// found is a transaction as the terminal told it.
func (s *State) found(f *fields) hardware.TerminalFound {
	if f == nil || f.receipt == "" && f.trace == "" {
		return hardware.TerminalFound{}
	}
	out := hardware.TerminalFound{
		Ref: s.ref(f), Result: protocol.TerminalApproved, Original: f.original, Card: cardOf(f),
		Amount: money.New(f.amount, s.set.currency),
	}
	if f.result != 0 || !f.hasResult {
		out.Result = protocol.TerminalDeclined
	}
	if !s.ours(f) {
		out.Amount = money.Amount{}
	}
	return out
}

// ours reports that an amount is in our currency: a terminal says none when it has one only.
func (s *State) ours(f *fields) bool {
	return f.hasAmount && (f.currency == "" || f.currency == strings.TrimPrefix(hex.EncodeToString(s.set.number[:]), "0"))
}

func (s *State) ref(f *fields) protocol.TerminalRef {
	id := f.terminal
	if f.receipt == "" && f.trace == "" {
		return protocol.TerminalRef{}
	}
	if id == "" {
		id = s.id
	}
	return protocol.TerminalRef{Terminal: id, Receipt: f.receipt, Trace: f.trace, AuthID: f.auth}
}

func cardOf(f *fields) hardware.TerminalCard {
	c := hardware.TerminalCard{Brand: brands[f.cardType], Last4: f.last4, AID: f.aid}
	if c.Brand == "" {
		c.Brand = strings.ToLower(f.cardName)
	}
	return c
}

// peeked is what stands last in its books: the terminal is ready.
func (s *State) peeked(o *hardware.Output, now time.Duration, ok bool, code byte, j job) {
	if !ok && passing(code) { // not before it says: what it kept before us must not be taken for ours
		s.unready(o, pick(code == 0, "no_result", reason(code)))
		s.ask = now + retryEvery
		return
	}
	e := hardware.TerminalReady{Terminal: s.id, Due: s.due}
	if ok {
		e.Last = s.found(j.info)
	}
	s.ready, s.trouble = true, ""
	o.Emit(hardware.Health{Device: device, State: hardware.Ready, Code: hardware.CodeReady, Detail: pick(s.due, "day end due", "")})
	o.Emit(e)
}

// paid is the end of a payment.
func (s *State) paid(o *hardware.Output, ok bool, code byte, j job) {
	e := hardware.TerminalAnswered{Payment: j.payment, Approved: money.New(0, s.set.currency)}
	switch {
	case !ok && j.info != nil && j.info.hasResult && j.info.result == 0:
		e.Result, e.Reason = protocol.TerminalUnknown, "contradiction" // paid, and then not
	case !ok && code == 0:
		e.Result, e.Reason = protocol.TerminalUnknown, "no_result"
	case !ok:
		e.Result, e.Reason = protocol.TerminalDeclined, reason(code)
		if code == codeAborted {
			e.Result = protocol.TerminalAborted
		}
		if code == codeDayEnd {
			s.due = true
			s.queue = append(s.queue, job{do: toPeek})
		}
	case j.info == nil || !j.info.hasResult:
		e.Result, e.Reason = protocol.TerminalUnknown, "no_result"
	case !s.ours(j.info):
		e.Result, e.Reason = protocol.TerminalUnknown, "currency"
	default:
		e.Result, e.Approved = protocol.TerminalApproved, money.New(j.info.amount, s.set.currency)
		e.Receipt = s.receipt(j)
	}
	if j.info != nil {
		e.Ref, e.Card = s.ref(j.info), cardOf(j.info)
	}
	o.Emit(e)
}

// receipt is what the buyer gets: the terminal's lines, or ours of what it said.
func (s *State) receipt(j job) []string {
	if len(j.lines) > 0 {
		return j.lines
	}
	f := j.info
	c := cardOf(f)
	var out []string
	add := func(name, v string) {
		if v != "" {
			out = append(out, strings.TrimSpace(name+" "+v))
		}
	}
	add("Terminal", s.ref(f).Terminal)
	add("VU", f.contract)
	add("Receipt", f.receipt)
	add("Trace", f.trace)
	add("Card", strings.TrimSpace(f.cardName+pick(c.Last4 != "", " *"+c.Last4, "")))
	add("AID", c.AID)
	add("Approval", f.auth)
	add("", f.text)
	return out
}

// did is the end of a capture, a cancel or a refund.
func (s *State) did(o *hardware.Output, ok bool, code byte, j job) {
	e := done(j)
	switch {
	case ok && (j.info == nil || !j.info.hasResult):
		e.End, e.Reason = protocol.TerminalLost, "no_result"
	case ok:
		e.End, e.Ref = protocol.TerminalOK, s.ref(j.info)
	case j.info != nil && j.info.hasResult && j.info.result == 0:
		e.End, e.Reason = protocol.TerminalLost, "contradiction"
	case j.do == toCancel && code == codeReversed: // so it is
		e.End, e.Ref = protocol.TerminalOK, protocol.TerminalRef{}
	case passing(code):
		e.End, e.Reason = protocol.TerminalNotSent, reason(code)
	default:
		e.End, e.Reason = protocol.TerminalRefused, reason(code)
	}
	o.Emit(e)
}

// passing are refusals of a moment.
func passing(code byte) bool {
	return slices.Contains([]byte{0x00, codeAborted, 0x7D, 0x9A, 0x9B, 0x9C, 0xA0, 0xA1, 0xA3, 0xDC, 0xE0, 0xE1, codeDayEnd, 0x6B}, code)
}

func done(j job) hardware.TerminalDone {
	op := map[do]protocol.TerminalOp{toCapture: protocol.TerminalCapture, toCancel: protocol.TerminalCancel, toRefund: protocol.TerminalRefund}[j.do]
	return hardware.TerminalDone{Payment: j.payment, Op: op, Ref: j.ref}
}

// lastKnown is a step of Last.
func (s *State) lastKnown(o *hardware.Output, now time.Duration, ok bool, code byte, data []byte, j job) {
	if j.command == partial {
		f := parse(data)
		switch {
		case code != codeHold || f.receipt == "":
			o.Emit(hardware.TerminalLast{Payment: j.payment})
			return
		case f.receipt == j.ref.Receipt || strings.HasPrefix(f.receipt, "f") || j.ref.Receipt == "":
			j.hold = pick(f.receipt == j.ref.Receipt, hardware.HoldOpen, hardware.HoldEnded)
		default: // of another: it lists the first one only
			j.hold = hardware.HoldNotSaid
		}
		s.begin(o, now, j)
		return
	}
	e := hardware.TerminalLast{Payment: j.payment, Known: true, Hold: j.hold}
	switch {
	case ok:
		e.Found = s.found(j.info)
		e.Known = e.Found.Ref != protocol.TerminalRef{}
	case passing(code):
		e.Known = false // another refusal: it has none
	}
	o.Emit(e)
}

// dayEnded is a step of Close.
func (s *State) dayEnded(o *hardware.Output, now time.Duration, ok bool, code byte, data []byte, j job) {
	switch j.command {
	case partial:
		f := parse(data)
		j.ref = protocol.TerminalRef{}
		if j.holds++; code == codeHold && f.receipt != "" && !strings.HasPrefix(f.receipt, "f") && j.holds <= holdsMost {
			j.ref.Receipt = f.receipt
		}
		j.info = nil
		s.begin(o, now, j)
		return
	case release:
		j.info = nil
		s.begin(o, now, j)
		return
	}
	e := hardware.TerminalClosed{Total: money.New(0, s.set.currency)}
	switch {
	case !ok:
		e.Reason = reason(code)
	case j.info != nil:
		e.Trace, e.Total = j.info.trace, money.New(j.info.amount, s.set.currency)
		for _, t := range totals(j.info.totals) {
			e.Of = append(e.Of, hardware.TerminalTotal{Brand: t.brand, Count: t.count, Sum: money.New(t.sum, s.set.currency)})
		}
	}
	o.Emit(e)
	s.queue = append(s.queue, job{do: toAsk}, job{do: toPeek})
}

// lost ends the running job without knowing how.
func (s *State) lost(o *hardware.Output) {
	j := s.job
	if !j.written {
		s.unsent(o, j, "port_gone")
		return
	}
	switch j.do {
	case toAuthorize:
		o.Emit(hardware.TerminalAnswered{Payment: j.payment, Result: protocol.TerminalUnknown, Reason: "lost", Approved: money.New(0, s.set.currency)})
	case toCapture, toCancel, toRefund:
		e := done(j)
		e.End, e.Reason = protocol.TerminalLost, "lost"
		o.Emit(e)
	case toLast:
		o.Emit(hardware.TerminalLast{Payment: j.payment})
	case toClose:
		o.Emit(hardware.TerminalClosed{Reason: "lost", Total: money.New(0, s.set.currency)})
	}
}

// unsent ends a job that never left.
func (s *State) unsent(o *hardware.Output, j job, why string) {
	switch j.do {
	case toAuthorize:
		o.Emit(hardware.TerminalAnswered{Payment: j.payment, Result: protocol.TerminalUnsent, Reason: why, Approved: money.New(0, s.set.currency)})
	case toCapture, toCancel, toRefund:
		e := done(j)
		e.End, e.Reason = protocol.TerminalNotSent, why
		o.Emit(e)
	case toLast:
		o.Emit(hardware.TerminalLast{Payment: j.payment})
	case toClose:
		o.Emit(hardware.TerminalClosed{Reason: why, Total: money.New(0, s.set.currency)})
	}
}
