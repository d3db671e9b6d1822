package pn532

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"coinop/hardware"
	"coinop/protocol"
)

// Times of the machine.
const (
	ackTime    = 300 * time.Millisecond // the chip acknowledges within 15 ms (UM0701-02, 6.2.2.1); the rest is Linux and a USB adapter
	answerTime = time.Second
	gapTime    = 200 * time.Millisecond // within a frame
	listPause  = 100 * time.Millisecond // between two looks into the field
	pingEvery  = 5 * time.Second
	away       = time.Second // how long a card must have been away to be told again
	tries      = 3
)

// retries bound one look into the field (MxRtyPassiveActivation): without a bound InListPassiveTarget waits for ever.
const retries = 0x10

// Commands (UM0701-02, 7).
const (
	cmdVersion  = 0x02
	cmdSAM      = 0x14
	cmdRF       = 0x32
	cmdExchange = 0x40
	cmdList     = 0x4A
	cmdRelease  = 0x52
	icPN532     = 0x32
	rfField     = 0x01
	rfRetries   = 0x05
)

// Statuses of an exchange with a card: the first byte's bits 0 to 5 (7.1).
const (
	statusOK      = 0x00
	statusTimeout = 0x01 // the card does not answer
	statusAuth    = 0x14 // MIFARE: the key is not that of the sector
	statusMask    = 0x3F
)

var (
	errSilent = hardware.Silence("the reader does not answer: check its power, its cable, and that its switches are set for this line (UART or I2C)")
	errOther  = errors.New("what answers is no PN532")
)

// phase is how far an opening is.
//
//	closed → setup: SAM, version, retries → idle ⇄ looking ⇄ pausing
//	                                          ↑ looking → talking → ending: release, field off ↩
type phase uint8

const (
	closed phase = iota
	setup
	idle
	looking
	pausing
	talking
	ending
)

// State is the machine of one chip: pure, its time and randomness are given.
type State struct {
	device string
	keys   hardware.LoopKeys
	random func([]byte)
	uart   bool

	phase   phase
	rx      *Decoder      // scratch of the opening: bytes that are no frame yet
	wait    byte          // command whose answer is awaited; 0 none
	sent    []byte        // its bytes, to be said again
	acked   bool          // the chip has it
	answer  time.Duration // how long it may take then
	until   time.Duration
	gap     time.Duration // when half a frame is given up; 0 none
	tried   int
	nacks   int
	said    time.Duration // when a command was last sent
	armed   bool          // a card is looked for
	by      time.Duration // until then
	field   bool          // it is on
	tg      byte
	uid     []byte
	talk    talk
	last    []byte        // UID of the card that was told
	seen    time.Duration // when it was last in the field
	skipped int
}

// NewState is a machine whose line is not open yet.
func NewState(cfg Config) State {
	return State{device: cfg.Device, keys: cfg.Keys, random: cfg.Random, uart: !isI2C(cfg.Path), rx: &Decoder{}}
}

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	switch in := in.(type) {
	case hardware.Opened:
		*s.rx = Decoder{}
		s.phase, s.armed, s.field, s.tried, s.gap, s.skipped, s.talk = setup, false, false, 0, 0, 0, nil
		s.send(&o, now, cmdSAM, 0x01, 0x14, 0x01) // normal mode, 1 s, with IRQ
	case hardware.Closed:
		s.fail(&o, hardware.ReasonReader)
		s.rx.Drop()
		s.phase, s.wait, s.gap, s.talk = closed, 0, 0, nil
	case hardware.Bytes:
		s.bytes(&o, now, in.B)
	case hardware.Wake:
		s.tick(&o, now)
	case activate:
		s.armed, s.by = true, now+in.timeout
		if s.phase == closed {
			s.fail(&o, hardware.ReasonReader)
		}
		s.ready(&o, now)
	case cancel:
		s.armed = false
		s.ready(&o, now)
	}
	o.Wake = s.wake()
	return s, o
}

func (s *State) wake() time.Duration {
	at := s.until
	switch {
	case s.phase == closed:
		return 0
	case s.wait != 0:
	case s.phase == idle:
		at = s.said + pingEvery
	case s.phase == pausing:
		at = min(s.said+listPause, s.by)
	}
	if s.gap > 0 && s.gap < at {
		at = s.gap
	}
	return at
}

// fail answers the activation that runs, if one does.
func (s *State) fail(o *hardware.Output, reason string) {
	if s.armed {
		s.armed = false
		o.Emit(hardware.CardFailed{Reason: reason})
	}
}

func (s *State) send(o *hardware.Output, now time.Duration, cmd byte, data ...byte) {
	s.wait, s.answer, s.nacks = cmd, answerTime, 0
	s.sent = Encode(Frame{Kind: Information, TFI: tfiHost, Data: append([]byte{cmd}, data...)})
	s.again(o, now)
}

func (s *State) again(o *hardware.Output, now time.Duration) {
	s.acked, s.until, s.said = false, now+ackTime, now
	b := bytes.Clone(s.sent)
	if s.uart && (s.wait == cmdSAM || s.tried > 0) {
		b = append(bytes.Clone(wakeUp), b...)
	}
	o.Write(b)
}

// ready does what comes next when no answer is awaited.
func (s *State) ready(o *hardware.Output, now time.Duration) {
	if s.wait != 0 || s.phase == closed || s.phase == setup {
		return
	}
	switch {
	case s.phase == talking: // canceled, or armed anew, in the middle of it: the talk goes on to its end
	case s.phase == ending:
		if s.field {
			s.field = false
			s.send(o, now, cmdRF, rfField, 0x00)
			return
		}
		s.phase = idle
		s.ready(o, now)
	case !s.armed && s.field:
		s.phase = ending
		s.ready(o, now)
	case !s.armed:
		s.phase = idle
	case now >= s.by:
		s.fail(o, hardware.ReasonTimeout)
		s.ready(o, now)
	case s.phase == pausing && now < s.said+listPause:
	default:
		s.phase, s.field = looking, true
		s.send(o, now, cmdList, 0x02, 0x00) // two at most, 106 kbit/s type A
	}
}

func (s *State) tick(o *hardware.Output, now time.Duration) {
	if s.gap > 0 && now >= s.gap {
		s.gap = 0
		s.rx.Drop()
		s.garbled(o)
		s.garbage(o)
	}
	switch {
	case s.phase == closed:
	case s.wait != 0 && now >= s.until:
		s.silent(o, now)
	case s.wait != 0:
	case s.phase == idle && now >= s.said+pingEvery:
		s.send(o, now, cmdVersion)
	default:
		s.ready(o, now)
	}
}

// silent is an ACK or an answer that did not come.
func (s *State) silent(o *hardware.Output, now time.Duration) {
	if s.acked {
		o.Write(Encode(Frame{Kind: ACK})) // gives the command up
	}
	if s.tried++; s.tried >= tries {
		s.fail(o, hardware.ReasonReader)
		o.End = errSilent
		return
	}
	if s.wait == cmdExchange { // may not be said twice: what the card did is not known
		s.finish(o, now, hardware.ReasonReader)
		return
	}
	s.again(o, now)
}

// finish ends the talk with the card, and the activation.
func (s *State) finish(o *hardware.Output, now time.Duration, reason string) {
	s.fail(o, reason)
	s.talk, s.phase = nil, ending
	s.send(o, now, cmdRelease, 0x00)
}

// garbled is bytes that are no frame: an answer that is awaited is asked for again.
func (s *State) garbled(o *hardware.Output) {
	if s.acked && s.wait != 0 && s.nacks < tries {
		s.nacks++
		o.Write(Encode(Frame{Kind: NACK}))
	}
}

func (s *State) bytes(o *hardware.Output, now time.Duration, b []byte) {
	s.rx.Add(b)
	clear(b)
	for o.End == nil {
		f, ok, err := s.rx.Next()
		if !ok {
			break
		}
		if err != nil {
			s.garbled(o)
			continue
		}
		s.frame(o, now, f)
	}
	if s.gap = 0; s.rx.Pending() {
		s.gap = now + gapTime
	}
	s.garbage(o)
}

// garbage tells once an opening of bytes that are no frame.
func (s *State) garbage(o *hardware.Output) {
	if n := s.rx.Skipped; n > s.skipped {
		if s.skipped == 0 {
			o.Emit(hardware.Health{Device: s.device, State: hardware.Degraded, Code: hardware.CodeGarbage, Detail: fmt.Sprintf("%d bytes", n)})
		}
		s.skipped = n
	}
}

func (s *State) frame(o *hardware.Output, now time.Duration, f Frame) {
	defer clear(f.Data)
	switch {
	case s.wait == 0: // unsolicited, or twice
	case f.Kind == ACK:
		if !s.acked {
			s.acked, s.until = true, now+s.answer
		}
	case f.Kind == NACK: // of a frame it could not read
		if s.tried++; s.tried < tries {
			s.again(o, now)
		}
	case !s.acked: // an answer comes behind its command's ACK: this one is to the command before, twice
	case f.Kind == Error:
		s.answered(o, now, nil)
	case f.TFI == tfiChip && len(f.Data) > 0 && f.Data[0] == s.wait+1:
		s.answered(o, now, f.Data[1:])
	}
}

// answered is the end of a command; of one whose syntax was refused with nil.
func (s *State) answered(o *hardware.Output, now time.Duration, data []byte) {
	cmd := s.wait
	s.wait, s.tried = 0, 0
	switch {
	case s.phase == setup:
		s.setup(o, now, cmd, data)
		return
	case s.phase == looking:
		s.looked(o, now, data)
		return
	case s.phase == talking:
		s.told(o, now, data)
		return
	}
	s.ready(o, now)
}

func (s *State) setup(o *hardware.Output, now time.Duration, cmd byte, data []byte) {
	switch cmd {
	case cmdSAM:
		s.send(o, now, cmdVersion)
	case cmdVersion:
		if len(data) < 4 || data[0] != icPN532 {
			o.End = errOther
			return
		}
		o.Emit(hardware.Health{Device: s.device, State: hardware.Starting, Code: hardware.CodeReady, Detail: fmt.Sprintf("PN532 firmware %d.%d", data[1], data[2])})
		s.send(o, now, cmdRF, rfRetries, 0xFF, 0x01, retries)
	case cmdRF:
		s.phase = idle
		o.Emit(hardware.Health{Device: s.device, State: hardware.Ready, Code: hardware.CodeReady})
		s.ready(o, now)
	}
}

// looked is what is in the field.
func (s *State) looked(o *hardware.Output, now time.Duration, data []byte) {
	s.phase = pausing
	ts, err := ParseTargets(data)
	switch {
	case !s.armed: // canceled meanwhile: a card is dropped
	case err != nil:
		s.finish(o, now, hardware.ReasonReader)
		return
	case len(ts) == 2:
		s.finish(o, now, hardware.ReasonCollision)
		return
	case len(ts) == 1:
		if t := ts[0]; !bytes.Equal(t.UID, s.last) || now-s.seen > away {
			s.begin(o, now, t)
			return
		}
		s.seen = now
	}
	s.ready(o, now)
}

// begin starts the talk with a card.
func (s *State) begin(o *hardware.Output, now time.Duration, t Target) {
	s.phase, s.tg, s.uid = talking, t.Tg, t.UID
	switch {
	case s.keys.IsZero():
		s.read(o, now, hardware.LoopCard{UID: t.UID})
		return
	case t.layer4() && s.keys.DESFire.Len() > 0:
		s.talk = &desfireTalk{keys: s.keys, random: s.random}
	case t.classic() && s.keys.Classic.Len() > 0:
		s.talk = &classicTalk{keys: s.keys, uid: t.UID}
	default:
		s.refuse(o, now, hardware.ReasonUnsupported)
		return
	}
	s.say(o, now, nil)
}

// say goes on with the talk.
func (s *State) say(o *hardware.Output, now time.Duration, answer []byte) {
	send, err := s.talk.next(answer)
	switch {
	case errors.Is(err, errForeign):
		s.refuse(o, now, hardware.ReasonUnsupported)
	case err != nil:
		s.finish(o, now, hardware.ReasonCardError)
	case send != nil:
		s.send(o, now, cmdExchange, append([]byte{s.tg}, send...)...)
		clear(send)
	default:
		c, err := s.keys.Open(s.talk.reference(), s.uid)
		switch {
		case errors.Is(err, hardware.ErrWrongMAC):
			s.refuse(o, now, hardware.ReasonWrongMAC)
		case err != nil:
			s.refuse(o, now, hardware.ReasonUnsupported)
		default:
			s.read(o, now, c)
		}
	}
}

// told is the end of one exchange with the card: a status, then what the card said.
func (s *State) told(o *hardware.Output, now time.Duration, data []byte) {
	switch {
	case s.talk == nil:
		s.ready(o, now)
	case len(data) == 0:
		s.finish(o, now, hardware.ReasonReader)
	case data[0]&statusMask == statusOK:
		s.say(o, now, data[1:])
	case data[0]&statusMask == statusAuth: // another key: not one of ours
		s.refuse(o, now, hardware.ReasonUnsupported)
	default: // 01 torn away, 02 to 0B spoiled on the way, 27, 29, 2B another card
		s.finish(o, now, hardware.ReasonCardError)
	}
}

// refuse ends the activation with a card that presenting again will not help.
func (s *State) refuse(o *hardware.Output, now time.Duration, reason string) {
	s.last, s.seen = s.uid, now
	s.finish(o, now, reason)
}

func (s *State) read(o *hardware.Output, now time.Duration, c hardware.LoopCard) {
	if s.armed { // else it was canceled meanwhile
		s.armed, s.last, s.seen = false, s.uid, now
		o.Emit(hardware.CardRead{Card: hardware.Card{Entry: protocol.EntryContactless, Loop: c}, At: now})
	}
	s.finish(o, now, "")
}
