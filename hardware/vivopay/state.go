package vivopay

import (
	"bytes"
	"fmt"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Times of the machine.
const (
	answerTime = time.Second            // for an answer that needs no card
	gapTime    = 200 * time.Millisecond // within a frame: at 9,600 baud a byte takes 1 ms
	cardTime   = 3 * time.Second        // beyond the reader's own time-out, for a card in the field
	shownTime  = time.Second            // after its display said to insert or swipe: its answer comes, or none does
	pingEvery  = 10 * time.Second
	tries      = 3
)

// Commands and statuses: NEO 2 Interface Developer's Guide.
const (
	cmdPoll, subPoll           = 0x01, 0x01
	cmdActivate, subActivate   = 0x02, 0x40
	subActivateLegacy          = 0x01
	cmdUpdate, subUpdate       = 0x03, 0x03
	cmdCancel, subCancel       = 0x05, 0x01
	cmdSerial, subSerial       = 0x12, 0x01
	cmdFirmware, subFirmware   = 0x29, 0x00
	cmdPing, subPing           = 0x18, 0x01
	cmdBuzzer, subBeeps        = 0x0B, 0x01 // data: how many
	subLong                    = 0x02       // data: 02 is 600 ms
	statusOK, statusTimeout    = 0x00, 0x08
	statusFailed, statusTamper = 0x0A, 0x1D
	statusOnline, statusUI     = 0x23, 0x0E
)

var errSilent = hardware.Silence("the reader does not answer: check its power, its cable and the speed of its port")

// phase is how far an opening is.
//
//	closed → setup: ping, on demand, serial number, firmware, settings → idle ⇄ active → canceling → idle
type phase uint8

const (
	closed phase = iota
	setup
	idle
	active
	canceling
)

// State is the machine of one reader: pure, its time is given.
type State struct {
	device   string
	currency money.Currency
	sub      byte // of activate

	phase    phase
	serial   string
	version  string   // of its firmware
	settings []Frame  // that are sent at an opening
	set      int      // of them
	refused  string   // those that it did not take
	rx       *Decoder // scratch of the opening: bytes that are no frame yet
	wait     byte     // command whose answer is awaited; 0 none
	until    time.Duration
	gap      time.Duration // when half a frame is given up; 0 none
	tried    int
	pinged   time.Duration
	next     *activate // to be sent when the one that runs is canceled
	asked    int64     // minor units of the activation that runs
	end      *finish
	signal   hardware.Signal // to be heard; 0 none
	tamper   bool
	skipped  int
	contact  bool // it has shown that the card of this activation is to be inserted or swiped
	rules    stripes
}

// stripes is what a stripe is judged by.
type stripes struct {
	chip bool
	wall func() time.Time
}

// NewState is a machine whose port is not open yet.
func NewState(cfg Config) State {
	s := State{device: cfg.Device, currency: cfg.Currency, sub: subActivate, rx: &Decoder{}, settings: cfg.Settings, rules: stripes{cfg.Chip, cfg.Wall}}
	if s.rules.wall == nil {
		s.rules.wall = time.Now
	}
	if cfg.Legacy {
		s.sub = subActivateLegacy
	}
	return s
}

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	switch in := in.(type) {
	case hardware.Opened:
		s.rx.Drop()
		*s.rx = Decoder{}
		s.phase, s.tried, s.next, s.end, s.signal, s.skipped = setup, 0, nil, nil, 0, 0
		s.set, s.refused, s.version = 0, "", ""
		s.send(&o, now, answerTime, cmdPing, subPing)
	case hardware.Closed:
		s.closed(&o)
	case hardware.Bytes:
		s.bytes(&o, now, in.B)
	case hardware.Wake:
		s.tick(&o, now)
	case activate:
		s.activate(&o, now, in)
	case cancel:
		s.next = nil
		if s.phase == active {
			s.cancel(&o, now)
		}
	case finish:
		s.end = &in
		s.ready(&o, now)
	case hardware.Signal:
		if s.phase == idle || s.phase == setup { // while a card is looked for a beep would end that
			s.signal = in
			s.ready(&o, now)
		}
	}
	o.Wake = s.wake()
	return s, o
}

func (s *State) wake() time.Duration {
	at := s.until
	switch {
	case s.phase == closed:
		return 0
	case s.phase == idle && s.wait == 0:
		at = s.pinged + pingEvery
	}
	if s.gap > 0 && s.gap < at {
		at = s.gap
	}
	return at
}

func (s *State) send(o *hardware.Output, now, answer time.Duration, cmd, sub byte, data ...byte) {
	s.wait, s.until, s.pinged = cmd, now+answer, now
	o.Write(Command(cmd, sub, data...))
}

// closed ends an activation that runs: nobody will read a card there.
func (s *State) closed(o *hardware.Output) {
	if s.phase == active || s.next != nil {
		o.Emit(hardware.CardFailed{Reason: hardware.ReasonReader})
	}
	s.rx.Drop()
	s.phase, s.wait, s.next, s.end, s.gap = closed, 0, nil, nil, 0
}

// ready sends what waits for an idle reader.
func (s *State) ready(o *hardware.Output, now time.Duration) {
	switch {
	case s.phase != idle || s.wait != 0:
	case s.end != nil:
		status := byte(0x00)
		if s.end.outcome != hardware.OutcomeApproved {
			status = 0x01
		}
		s.end = nil
		s.send(o, now, answerTime, cmdUpdate, subUpdate, status)
	case s.signal != 0:
		switch s.signal {
		case hardware.SignalOK:
			s.send(o, now, answerTime, cmdBuzzer, subBeeps, 2)
		case hardware.SignalNo:
			s.send(o, now, answerTime, cmdBuzzer, subLong, 2)
		default:
			s.send(o, now, answerTime, cmdBuzzer, subBeeps, 1)
		}
		s.signal = 0
	case s.next != nil:
		a := *s.next
		s.next = nil
		s.arm(o, now, a)
	}
}

func (s *State) activate(o *hardware.Output, now time.Duration, in activate) {
	if s.phase == closed {
		o.Emit(hardware.CardFailed{Reason: hardware.ReasonReader})
		return
	}
	s.next = &in
	if s.phase == active {
		s.cancel(o, now)
		return
	}
	s.ready(o, now)
}

// arm is Activate Transaction. The first byte is the time-out: samples that leave it out circulate, and
// a reader then takes the tag 9F for 159 s.
func (s *State) arm(o *hardware.Output, now time.Duration, a activate) {
	seconds := min(max((a.timeout+time.Second-1)/time.Second, 1), 255)
	d := []byte{byte(seconds), 0x9C, 1, 0x00, 0x5F, 0x2A, 2}
	d = append(d, bcd(int64(s.currency), 2)...)
	d = append(d, 0x5F, 0x36, 1, byte(s.currency.Exponent()), 0x9F, 0x02, 6)
	d = append(d, bcd(a.amount.Minor, 6)...)
	s.phase, s.asked, s.contact = active, a.amount.Minor, false
	s.send(o, now, seconds*time.Second+cardTime, cmdActivate, s.sub, d...)
}

// cancel is the one command that may be sent while a card is looked for.
func (s *State) cancel(o *hardware.Output, now time.Duration) {
	s.phase, s.tried = canceling, 0
	s.send(o, now, answerTime, cmdCancel, subCancel)
}

func (s *State) tick(o *hardware.Output, now time.Duration) {
	if s.gap > 0 && now >= s.gap {
		s.gap = 0
		s.rx.Drop()
		s.garbled(o, now)
	}
	if s.phase == closed {
		return
	}
	if s.wait == 0 {
		if now-s.pinged >= pingEvery {
			s.tried = 0
			s.send(o, now, answerTime, cmdPing, subPing)
		}
		return
	}
	if now < s.until {
		return
	}
	s.silent(o, now)
}

// silent is an answer that did not come.
func (s *State) silent(o *hardware.Output, now time.Duration) {
	if s.phase == active { // longer than it was told to look: is it there?
		s.fail(o, hardware.ReasonReader)
		s.cancel(o, now)
		return
	}
	s.tried++
	if s.tried >= tries {
		o.End = errSilent
		return
	}
	switch s.wait {
	case cmdCancel:
		s.send(o, now, answerTime, cmdCancel, subCancel)
	default:
		s.send(o, now, answerTime, cmdPing, subPing)
	}
}

func (s *State) bytes(o *hardware.Output, now time.Duration, b []byte) {
	s.rx.Add(b)
	clear(b)
	for {
		f, ok, err := s.rx.Next()
		if !ok {
			break
		}
		if err != nil {
			s.garbled(o, now)
			continue
		}
		s.frame(o, now, f)
	}
	if s.gap = 0; s.rx.Pending() {
		s.gap = now + gapTime
	}
	if n := s.rx.Skipped; n > s.skipped {
		if s.skipped == 0 {
			o.Emit(hardware.Health{Device: s.device, State: hardware.Degraded, Code: hardware.CodeGarbage, Detail: fmt.Sprintf("%d bytes", n)})
		}
		s.skipped = n
	}
}

// garbled is an answer we cannot read. In an activation it may have been the card's: it is lost, the
// buyer presents it again. It is no loss of money, nothing has been asked of a bank yet.
func (s *State) garbled(o *hardware.Output, now time.Duration) {
	if s.phase == active {
		o.Emit(hardware.CardFailed{Reason: hardware.ReasonReader})
		s.cancel(o, now)
	}
}

func (s *State) frame(o *hardware.Output, now time.Duration, f Frame) {
	defer clear(f.Data)
	if f.Sub == statusTamper {
		if !s.tamper {
			s.tamper = true
			o.Emit(hardware.Tamper{Device: s.device})
			o.Emit(hardware.Health{Device: s.device, State: hardware.Fault, Code: hardware.CodeTamper})
		}
	}
	if f.Sub == statusUI { // what it shows the buyer while it looks for a card: no end of that
		if s.phase == active && f.Cmd == s.wait {
			switch { // what it looks for from now on we do not know: it is armed anew
			case s.contact:
			case shown(f.Data):
				s.contact, s.until = true, now+shownTime
			default:
				s.until = max(s.until, now+cardTime)
			}
		}
		return
	}
	if f.Cmd != s.wait {
		return // unsolicited, or the answer to what was canceled: a card in it was not asked for
	}
	if f.Cmd == cmdActivate {
		s.result(o, now, f)
		return
	}
	s.wait, s.tried = 0, 0
	switch s.phase {
	case setup:
		s.setup(o, now, f)
	case canceling:
		if f.Cmd == cmdCancel {
			s.phase = idle
		}
		s.ready(o, now)
	case idle, active:
		s.ready(o, now)
	case closed:
	}
}

// setup asks in turn; the answers to all but the first may be no: older firmware.
func (s *State) setup(o *hardware.Output, now time.Duration, f Frame) {
	switch {
	case s.set > 0: // the answer to a setting
		if f.Sub != statusOK {
			s.refused += fmt.Sprintf(", setting %02X-%02X refused: %02X", f.Cmd, s.settings[s.set-1].Sub, f.Sub)
		}
		s.configure(o, now)
	case f.Cmd == cmdPing:
		s.send(o, now, answerTime, cmdPoll, subPoll, 0x01) // on demand: only when armed
	case f.Cmd == cmdPoll:
		s.send(o, now, answerTime, cmdSerial, subSerial)
	case f.Cmd == cmdSerial:
		s.serial = textOf(f)
		s.send(o, now, answerTime, cmdFirmware, subFirmware)
	case f.Cmd == cmdFirmware:
		s.version = textOf(f)
		s.configure(o, now)
	}
}

// configure sends the next setting; after the last the reader is ready.
func (s *State) configure(o *hardware.Output, now time.Duration) {
	if s.set < len(s.settings) {
		c := s.settings[s.set]
		s.set++
		s.send(o, now, answerTime, c.Cmd, c.Sub, c.Data...)
		return
	}
	s.phase, s.set = idle, 0
	detail := s.serial
	if s.version != "" {
		detail += ", " + s.version
	}
	o.Emit(hardware.Health{Device: s.device, State: hardware.Ready, Code: hardware.CodeReady, Detail: detail + s.refused})
	s.ready(o, now)
}

// textOf is an answer of text, such as a serial number.
func textOf(f Frame) string {
	if f.Sub != statusOK {
		return ""
	}
	var out []byte
	for _, c := range f.Data {
		if c > 0x20 && c < 0x7F && len(out) < 40 {
			out = append(out, c)
		}
	}
	return string(out)
}

// result is the end of an activation.
func (s *State) result(o *hardware.Output, now time.Duration, f Frame) {
	s.phase, s.wait = idle, 0
	defer s.ready(o, now)
	switch f.Sub {
	case statusOK, statusOnline:
		c, amount, err := parseCard(f.Data)
		if err == nil && amount != nil && !bytes.Equal(amount, bcd(s.asked, 6)) {
			err = errData // the answer to an activation that was canceled, later than the cancel's own
		}
		reason := hardware.ReasonReader
		if err == nil {
			reason = s.swiped(&c)
		}
		if reason != "" {
			c.Wipe()
			s.fail(o, reason)
			return
		}
		c.Reader = s.serial
		o.Emit(hardware.CardRead{Card: c, At: now})
	case statusTimeout:
		s.fail(o, hardware.ReasonTimeout)
	case statusFailed:
		s.fail(o, failure(f.Data))
	default:
		s.fail(o, hardware.ReasonReader)
	}
}

// fail ends an activation by name. What the reader has shown the buyer is the better one where its own says
// no more than that it had no card.
func (s *State) fail(o *hardware.Output, reason string) {
	switch reason {
	case hardware.ReasonTimeout, hardware.ReasonReader, hardware.ReasonCardError:
		if s.contact {
			reason = hardware.ReasonUseContact
		}
	}
	o.Emit(hardware.CardFailed{Reason: reason})
}

// swiped judges a card that came by the reader's own head for stripes: the reason why it is not taken. What
// it counts as where the reader had said that itself is left.
func (s *State) swiped(c *hardware.Card) (reason string) {
	if c.Entry != protocol.EntryStripe || c.Track2.IsZero() {
		return ""
	}
	c.Entry, reason = hardware.JudgeStripe(c.Track2.Service(), c.Track2.Expiry().Reveal(), s.rules.chip, s.rules.wall())
	return reason
}

// bcd is n in 2*size digits.
func bcd(n int64, size int) []byte {
	b := make([]byte, size)
	for i := size - 1; i >= 0; i-- {
		b[i] = byte(n%10 | n/10%10<<4)
		n /= 100
	}
	return b
}
