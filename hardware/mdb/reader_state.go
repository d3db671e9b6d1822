package mdb

import (
	"slices"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Times of a cashless device (MDB/ICP 4.2, section 7).
const (
	answerMost = 5 * time.Second // its non-response time, or Z7 of its configuration if that is more
	leftMost   = 5 * time.Minute // for the word how a vend of an earlier run ended, which may run yet
	setupGap   = 5 * time.Millisecond
	justMost   = 2 * time.Second // from RESET to JUST RESET
	readerMost = 8               // commands that wait
)

// Reasons of a reader's answers.
const (
	ReaderDeclined   = "declined"
	ReaderCanceled   = "canceled"
	ReaderNoFunds    = "insufficient_funds"
	ReaderNotTaken   = "not_taken"    // VEND REQUEST was not executed
	ReaderReset      = "reader_reset" // it began anew
	ReaderLost       = "lost"         // the answer is not known
	ReaderAmount     = "amount"       // its scale cannot say it
	ReaderCurrency   = "currency"
	ReaderRefundFail = "refund_failed" // 0A Cx: the credit is lost
	ReaderSequence   = "out_of_sequence"
	ReaderImpossible = "not_possible"
	ReaderAway       = "terminal_away"
	ReaderBusy       = "busy"
)

var errReaderSilent = hardware.Silence("mdb: the reader does not answer")

type readerDo uint8

const (
	readerAuthorize readerDo = iota + 1
	readerAbort
	readerCapture
	readerCancel
	readerRefund
	readerLast
	readerClose
)

type readerJob struct {
	do       readerDo
	payment  protocol.PaymentID
	ref      protocol.TerminalRef
	approved money.Amount
	amount   money.Amount
}

// readStep is how far the start of an opening is.
//
//	hear -> (JUST RESET) -> config -> prices -> id [-> options [-> long]] -> live
//	hear -> (it has kept its power) left -> reset -> just -> config ...
type readStep uint8

const (
	readHear readStep = iota // POLL: has it begun anew?
	readLeft                 // it has not, and may hold an approval of ours: what is owed comes first
	readReset
	readJust // JUST RESET is awaited
	readConfig
	readPrices
	readID
	readOptions
	readLong // 11 01 again, with 32 bits of money
	readLive
)

// vendStage is how far a payment is.
//
//	card -> ask -> wait -> held -> success ------------> (ended)
//	                            -> failure -> refund --> (ended)
type vendStage uint8

const (
	vendCard    vendStage = iota // BEGIN SESSION is awaited
	vendAsk                      // VEND REQUEST is to be said
	vendWait                     // it was: 05 or 06
	vendHeld                     // approved; success or failure comes from the session
	vendSuccess                  // VEND SUCCESS is to be said, or its ACK is awaited
	vendTaken                    // it was acknowledged; the next POLL says whether it was executed
	vendFailure
	vendRefund // VEND FAILURE was acknowledged: POLL is silent until the money is back
)

// readerPay is the payment at the reader, from the request to its end. One at a time.
type readerPay struct {
	id       protocol.PaymentID
	amount   money.Amount
	units    uint32
	stage    vendStage
	polled   bool // BEGIN SESSION is not said again: the reader has heard our ACK
	cancel   bool // it is given up
	canceled int  // times VEND CANCEL or READER CANCEL was said
	sends    int  // times VEND SUCCESS or VEND FAILURE was said
	failing  bool // VEND FAILURE was among them
	last     bool // the end answers Last, not Cancel
	part     bool // less than all of it was wanted
	over     bool // the reader has begun anew since the approval
	by       time.Duration
}

// ReaderState is the machine of a bus whose master we are, with one cashless reader: pure, its time is
// given. MDB/ICP 4.2, section 7.
type ReaderState struct {
	device   string
	currency money.Currency
	base     byte // its address
	master
	open  bool
	began bool // an opening of this run has reset the reader: what it holds is known
	step  readStep
	next  time.Duration // of the next exchange
	heard time.Duration // last answer
	left  time.Duration // until when an earlier run's vend may be spoken of
	stray bool          // an approval nobody here asked for was heard
	reset bool          // the reader is to begin anew as soon as nothing is held

	level   byte
	scale   Scale
	most    time.Duration // its non-response time
	offered uint32
	format  Format
	id      string
	trouble byte
	foreign bool // it counts in another currency
	later   int  // POLLs that may yet bring the answer to SETUP or to the request of its id

	enabled bool // as it was last told
	stale   bool // it was told to stop looking for a card: it is disabled before it looks again
	session bool // one is open at the reader
	closing time.Duration
	queue   []readerJob
	pay     *readerPay
	settled protocol.PaymentID // the last one that was ended
}

// NewReaderState is a machine whose port is not open yet.
func NewReaderState(cfg ReaderConfig) ReaderState {
	s := ReaderState{device: cfg.Device, currency: cfg.Currency, base: 0x10, master: newMaster(cfg.Port), most: answerMost}
	if cfg.Second {
		s.base = 0x60
	}
	s.scale.Currency = cfg.Currency
	return s
}

// always reports that a vend may be requested without a session before it.
func (s *ReaderState) always() bool { return s.offered&optAlwaysIdle != 0 }

// Step takes one input at a time now.
func (s ReaderState) Step(now time.Duration, in any) (ReaderState, hardware.Output) {
	var o hardware.Output
	s.queue = slices.Clone(s.queue)
	if s.pay != nil {
		p := *s.pay
		s.pay = &p
	}
	switch in := in.(type) {
	case hardware.Opened:
		s.master = s.master.anew()
		s.open, s.step, s.next, s.heard, s.left = true, readHear, now, now, 0
		s.stray, s.reset, s.session, s.enabled, s.closing = false, false, false, false, 0
	case hardware.Closed:
		s.closed(&o)
	case hardware.Bytes:
		for _, w := range s.line.Add(in.B) {
			s.word(&o, now, w)
		}
	case readerJob:
		s.take(&o, now, in)
	}
	if s.open {
		s.tick(&o, now)
		o.Wake = s.next
		if s.sent != nil {
			o.Wake = s.until
		}
	}
	return s, o
}

// closed ends what cannot go on without the port. An approval is kept: the reader may hold it yet.
func (s *ReaderState) closed(o *hardware.Output) {
	s.open, s.sent = false, nil
	s.lose(o, ReaderLost)
	for _, j := range s.queue {
		s.unsent(o, j, "port_gone")
	}
	s.queue = nil
}

// unsent answers what was never on the wire.
func (s *ReaderState) unsent(o *hardware.Output, j readerJob, why string) {
	done := func(op protocol.TerminalOp) {
		o.Emit(hardware.TerminalDone{Payment: j.payment, Op: op, End: protocol.TerminalNotSent, Reason: why})
	}
	switch j.do {
	case readerAuthorize:
		o.Emit(hardware.TerminalAnswered{Payment: j.payment, Result: protocol.TerminalUnsent, Reason: why, Approved: money.New(0, s.currency)})
	case readerCapture:
		done(protocol.TerminalCapture)
	case readerCancel:
		done(protocol.TerminalCancel)
	case readerRefund:
		done(protocol.TerminalRefund)
	case readerLast:
		o.Emit(hardware.TerminalLast{Payment: j.payment})
	case readerClose:
		o.Emit(hardware.TerminalClosed{Reason: why, Total: money.New(0, s.currency)})
	case readerAbort:
	}
}

// take is a command.
func (s *ReaderState) take(o *hardware.Output, now time.Duration, j readerJob) {
	refused := func(op protocol.TerminalOp, why string) {
		o.Emit(hardware.TerminalDone{Payment: j.payment, Op: op, End: protocol.TerminalRefused, Reason: why})
	}
	ours := s.pay != nil && s.pay.id == j.payment
	if s.leftOver() && (j.do == readerCapture || j.do == readerCancel) { // it hears the end of it yet
		s.pay, ours = &readerPay{id: j.payment, stage: vendHeld}, true
	}
	switch {
	case j.do == readerAbort:
		s.abort(o, j.payment)
	case j.do == readerClose:
		o.Emit(hardware.TerminalClosed{Reason: ReaderImpossible, Total: money.New(0, s.currency)})
	case j.do == readerRefund:
		refused(protocol.TerminalRefund, ReaderImpossible)
	case !s.open:
		s.unsent(o, j, ReaderAway)
	case j.do == readerAuthorize && len(s.queue) >= readerMost:
		s.unsent(o, j, ReaderBusy)
	case j.do == readerAuthorize:
		s.queue = append(s.queue, j)
	case j.do == readerLast:
		s.last(o, now, j, ours)
	case j.do == readerCapture && j.amount != j.approved: // one has no part (7.4.7)
		if ours && s.pay.stage == vendHeld && !s.pay.over { // all of it is charged
			s.pay.stage, s.pay.part, s.next = vendSuccess, true, min(s.next, now+setupGap)
			return
		}
		s.pay = pick(ours, nil, s.pay)
		refused(protocol.TerminalCapture, ReaderImpossible)
	case ours && s.pay.stage != vendHeld:
		s.unsent(o, j, ReaderBusy)
	case j.do == readerCapture && (!ours || s.pay.over): // it has begun anew: that is a success (7.4.7)
		s.pay = pick(ours, nil, s.pay)
		o.Emit(hardware.TerminalDone{Payment: j.payment, Op: protocol.TerminalCapture, End: protocol.TerminalOK})
	case j.do == readerCancel && (!ours || s.pay.over):
		s.pay = pick(ours, nil, s.pay)
		refused(protocol.TerminalCancel, ReaderReset)
	case j.do == readerCapture:
		s.pay.stage, s.next = vendSuccess, min(s.next, now+setupGap)
	default:
		s.pay.stage, s.next = vendFailure, min(s.next, now+setupGap)
	}
}

func pick[T any](ok bool, a, b T) T {
	if ok {
		return a
	}
	return b
}

// leftOver reports that the reader may hold a vend of an earlier run: it has not begun anew since.
func (s *ReaderState) leftOver() bool {
	return s.pay == nil && !s.began && (s.step == readHear || s.step == readLeft)
}

// last answers Last. An approval of an earlier run is taken over while the reader has not begun anew; of a
// payment without an answer VEND FAILURE says whether it holds one, and takes it back.
func (s *ReaderState) last(o *hardware.Output, now time.Duration, j readerJob, ours bool) {
	left := s.leftOver()
	// A reader that has begun anew holds nothing of before, and never says what it did about it.
	never := s.began && !ours || ours && s.pay.over && s.pay.failing
	switch {
	case ours && s.pay.stage != vendHeld, ours && s.pay.over && s.pay.failing, j.ref.IsZero() && !left:
		if ours && s.pay.over {
			s.pay = nil
		}
		o.Emit(hardware.TerminalLast{Payment: j.payment, Never: never})
		return
	case left && j.ref.IsZero():
		s.stray = false
		s.pay = &readerPay{id: j.payment, stage: vendFailure, last: true}
		s.next = min(s.next, now+setupGap)
		return
	case left:
		s.pay = &readerPay{id: j.payment, stage: vendHeld}
	}
	l := hardware.TerminalLast{Payment: j.payment, Known: true, Found: hardware.TerminalFound{Ref: j.ref, Result: protocol.TerminalApproved}}
	switch {
	case s.settled == j.payment:
		l.Hold = hardware.HoldEnded
	case ours || left:
		l.Hold = hardware.HoldOpen
	}
	o.Emit(l)
}

// abort gives a payment up.
func (s *ReaderState) abort(o *hardware.Output, p protocol.PaymentID) {
	for i, j := range s.queue {
		if j.payment == p {
			s.queue = slices.Delete(s.queue, i, i+1)
			o.Emit(hardware.TerminalAnswered{Payment: p, Result: protocol.TerminalAborted, Reason: ReaderCanceled, Approved: money.New(0, s.currency)})
			return
		}
	}
	if s.pay == nil || s.pay.id != p || s.pay.stage > vendWait {
		return
	}
	if s.pay.cancel = true; s.pay.stage == vendAsk {
		s.answer(o, protocol.TerminalAborted, ReaderCanceled)
	}
}

// answer ends an Authorize that was not approved.
func (s *ReaderState) answer(o *hardware.Output, r protocol.TerminalResult, why string) {
	p := s.pay
	s.pay = nil
	o.Emit(hardware.TerminalAnswered{Payment: p.id, Result: r, Reason: why, Approved: money.New(0, s.currency)})
}

// done ends a Capture or a Cancel, or the Last that VEND FAILURE answers. A Lost one may be asked again.
func (s *ReaderState) done(o *hardware.Output, end protocol.TerminalEnd, why string) {
	p := s.pay
	e := hardware.TerminalDone{Payment: p.id, Op: protocol.TerminalCancel, End: end, Reason: why}
	if p.stage == vendSuccess || p.stage == vendTaken {
		e.Op = protocol.TerminalCapture
	}
	s.reset = s.reset || s.step < readLive // what was left is settled
	if p.part && end == protocol.TerminalOK {
		e.End, e.Reason = protocol.TerminalRefused, ReaderImpossible
	}
	switch {
	case p.id.IsZero(): // nobody's
		s.pay = nil
		return
	case p.last: // nothing is owed when the money went back; else nobody knows
		s.pay = nil
		refused := end == protocol.TerminalRefused // it has left the vend
		o.Emit(hardware.TerminalLast{Payment: p.id, Known: end == protocol.TerminalOK, Never: refused || p.over})
		return
	case end == protocol.TerminalOK || end == protocol.TerminalRefused:
		s.pay, s.settled = nil, p.id
	default:
		p.stage = vendHeld
	}
	o.Emit(e)
}

// lose ends what waits for the reader, which is gone or has begun anew. What it holds it has charged, once
// it has begun anew (7.4.7): anew says so.
func (s *ReaderState) lose(o *hardware.Output, why string) {
	p := s.pay
	if p == nil {
		return
	}
	anew := why == ReaderReset
	switch p.stage {
	case vendCard, vendAsk:
		s.answer(o, protocol.TerminalUnsent, why)
	case vendWait:
		s.answer(o, protocol.TerminalUnknown, why)
	case vendHeld:
		p.over = p.over || anew
	case vendSuccess, vendTaken:
		switch {
		case anew:
			s.done(o, protocol.TerminalOK, "")
		case p.sends > 0:
			s.done(o, protocol.TerminalLost, ReaderLost)
		default:
			s.done(o, protocol.TerminalNotSent, why)
		}
	case vendFailure, vendRefund:
		p.over = p.over || anew
		switch {
		case p.sends > 0:
			s.done(o, protocol.TerminalLost, ReaderLost)
		case anew:
			s.done(o, protocol.TerminalRefused, ReaderReset)
		default:
			s.done(o, protocol.TerminalNotSent, why)
		}
	}
}

// anew is a reader that has begun anew, by itself or because we told it to.
func (s *ReaderState) anew(o *hardware.Output) {
	s.lose(o, ReaderReset)
	s.session, s.enabled, s.closing, s.reset, s.stray, s.trouble = false, false, 0, false, false, 0
	s.began, s.step = true, readConfig
	s.format, s.offered = Format{Level: 1}, 0
}

// tick ends an exchange that got no answer, and begins the next.
func (s *ReaderState) tick(o *hardware.Output, now time.Duration) {
	if s.sent != nil {
		if now < s.until {
			return
		}
		s.sent, s.next = nil, now+pollEach/2
	}
	if now-s.heard > s.most+time.Second {
		o.End = errReaderSilent
		return
	}
	s.late(o, now)
	if now < s.next {
		return
	}
	if data := s.says(o, now); data != nil {
		s.say(o, now, data)
		s.next = now + pollEach
	}
}

// late ends what takes too long.
func (s *ReaderState) late(o *hardware.Output, now time.Duration) {
	if s.closing > 0 && now >= s.closing {
		s.closing, s.reset = 0, true
	}
	p := s.pay
	if p == nil || p.by == 0 || now < p.by {
		return
	}
	switch {
	case p.stage == vendCard: // READER CANCEL was not answered, and nothing was asked
		s.answer(o, protocol.TerminalAborted, ReaderCanceled)
		s.reset = true
	case p.stage == vendWait && !p.cancel: // it may be taken back yet
		p.cancel, p.by = true, now+s.most
	case p.stage == vendWait:
		s.answer(o, protocol.TerminalUnknown, ReaderLost)
		s.reset = true
	case p.stage == vendRefund || p.stage == vendFailure || p.stage == vendSuccess || p.stage == vendTaken:
		s.reset = true // begin anew; lose says what that is
		s.done(o, protocol.TerminalLost, ReaderLost)
	}
}

// command is a block to this reader's address.
func (s *ReaderState) command(b ...byte) []byte {
	b[0] = b[0]&7 | s.base
	return b
}

// says is what the reader is to hear next.
func (s *ReaderState) says(o *hardware.Output, now time.Duration) []byte {
	poll := s.command(0x12)
	switch s.step {
	case readHear:
		if s.pay == nil && now-s.heard > time.Second { // perhaps it has to be reset first
			s.step = readReset
			return s.command(0x10)
		}
		return poll
	case readLeft:
		if p := s.pay; p != nil {
			return s.vend(o, now)
		}
		switch {
		case now < s.left && len(s.queue) == 0 && !s.reset:
			return poll
		case s.stray: // an approval that nobody ever heard of: nothing can have come of it
			s.stray, s.pay = false, &readerPay{stage: vendFailure}
			return s.vend(o, now)
		}
		s.step = readReset
		return s.command(0x10)
	case readReset:
		return s.command(0x10)
	case readJust:
		return poll
	case readConfig, readID:
		if s.later > 0 {
			s.later--
			return poll
		}
		if s.step == readID {
			b := append([]byte{0x17, 0x00}, "COI000000000001COINOP-AGENT"...)
			return s.command(append(b, 0x01, 0x00)...)
		}
		return s.command(0x11, 0x00, 0x03, 0x00, 0x00, 0x00) // level 3, no display
	case readPrices: // not known
		return s.command(0x11, 0x01, 0xFF, 0xFF, 0x00, 0x00)
	case readOptions:
		return s.command(0x17, 0x04, byte(s.offered>>24), byte(s.offered>>16), byte(s.offered>>8), byte(s.offered))
	case readLong:
		c := isoBCD(s.currency)
		return s.command(0x11, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, c[0], c[1])
	case readLive:
	}
	return s.live(o, now)
}

// live is the next exchange of a reader that is set up.
func (s *ReaderState) live(o *hardware.Output, now time.Duration) []byte {
	if s.reset && (s.pay == nil || s.pay.stage == vendHeld) {
		s.step = readReset
		return s.command(0x10)
	}
	if s.pay != nil && s.pay.over { // it waits for a word, and the reader for nothing
		return s.command(0x12)
	}
	if s.pay != nil {
		return s.vend(o, now)
	}
	switch {
	case s.session && s.closing == 0:
		s.closing = now + s.most
		return s.command(0x13, 0x04)
	case s.closing > 0:
		return s.command(0x12)
	case s.stale && s.enabled:
		return s.command(0x14, 0x00)
	case len(s.queue) > 0:
		j := s.queue[0]
		s.queue = s.queue[1:]
		s.begin(o, j)
		if s.pay != nil {
			return s.vend(o, now)
		}
	case !s.always() && s.enabled: // a card before the order would be for nothing
		return s.command(0x14, 0x00)
	case s.always() && !s.enabled:
		return s.command(0x14, 0x01)
	}
	return s.command(0x12)
}

// begin is the next Authorize.
func (s *ReaderState) begin(o *hardware.Output, j readerJob) {
	unit, err := s.scale.unit()
	most := int64(0xFFFE)
	if s.format.Expanded {
		most = 0xFFFFFFFE
	}
	if err != nil || s.foreign || j.amount.Minor%unit != 0 || j.amount.Minor/unit > most {
		s.unsent(o, j, pick(s.foreign, ReaderCurrency, ReaderAmount))
		return
	}
	s.pay = &readerPay{id: j.payment, amount: j.amount, units: uint32(j.amount.Minor / unit)} //nolint:gosec // checked above
	o.Emit(hardware.TerminalStatus{Payment: j.payment, Code: "insert_card"})
}

// vend is the next exchange about the payment.
func (s *ReaderState) vend(o *hardware.Output, now time.Duration) []byte {
	p := s.pay
	switch p.stage {
	case vendCard:
		switch {
		case p.cancel && !s.enabled:
			s.answer(o, protocol.TerminalAborted, ReaderCanceled)
		case p.cancel && p.canceled < tries:
			p.canceled++
			p.by = now + s.most
			return s.command(0x14, 0x02)
		case !p.cancel && !s.enabled:
			return s.command(0x14, 0x01)
		case !p.cancel && s.always():
			p.stage, p.polled = vendAsk, true
			return s.vend(o, now)
		}
	case vendAsk:
		if !p.polled {
			break
		}
		p.stage, p.by, s.session = vendWait, now+s.most+time.Second, true
		if s.format.Expanded {
			return s.command(0x13, 0x00, byte(p.units>>24), byte(p.units>>16), byte(p.units>>8), byte(p.units), 0xFF, 0xFF)
		}
		return s.command(0x13, 0x00, byte(p.units>>8), byte(p.units), 0xFF, 0xFF)
	case vendWait:
		if p.cancel && p.canceled < tries {
			p.canceled++
			p.by = max(p.by, now+s.most)
			return s.command(0x13, 0x01)
		}
	case vendSuccess:
		return s.ends(now, 0x02, 0xFF, 0xFF)
	case vendFailure:
		p.failing = true
		return s.ends(now, 0x03)
	case vendHeld, vendTaken, vendRefund:
	}
	return s.command(0x12)
}

// ends is VEND SUCCESS or VEND FAILURE. It may be said again: where the first was heard, the reader is
// not in a vend any more, and says so.
func (s *ReaderState) ends(now time.Duration, b ...byte) []byte {
	if s.pay.sends++; s.pay.sends == 1 || s.pay.by == 0 {
		s.pay.by = now + 2*s.most
	}
	return s.command(append([]byte{0x13}, b...)...)
}
