package terminal

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

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
