package pcsc

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/protocol"
)

// Times of the machine.
const (
	answerTime = 10 * time.Second // pcscd powers a card up meanwhile
	askEvery   = 15 * time.Second // whether pcscd is still there
)

var (
	errSilent  = hardware.Silence("pcscd does not answer: restart it")
	errVersion = errors.New("pcscd speaks another protocol than 4.4")
)

// phase is what is awaited of pcscd.
//
//	closed → version → establish → states ⇄ waiting
//	             states ← disconnecting ← talking ← connecting ← stopping ← waiting
type phase uint8

const (
	closed phase = iota
	version
	establish
	states
	waiting
	stopping
	connecting
	talking
	disconnecting
)

// State is the machine of one reader behind pcscd: pure, its time is given.
type State struct {
	device, name string
	keys         hardware.LoopKeys

	phase   phase
	rx      *bytes.Buffer // scratch of the opening
	until   time.Duration
	context uint32
	slot    *Slot  // nil: pcscd knows no such reader
	health  string // what was told last
	told    bool   // the card that is in
	armed   bool
	by      time.Duration
	card    uint32 // pcscd's handle
	proto   uint32
	atr     []byte
	uid     []byte
	talk    step
}

// NewState is a machine without a connection.
func NewState(cfg Config) State {
	return State{device: cfg.Device, name: cfg.Name, keys: cfg.Keys, rx: &bytes.Buffer{}}
}

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	switch in := in.(type) {
	case hardware.Opened:
		*s.rx = bytes.Buffer{}
		s.armed, s.slot, s.health, s.told = false, nil, "", false
		s.send(&o, now, version, request(cmdVersion, numbers(major, minor, 0)))
	case hardware.Closed:
		s.fail(&o, hardware.ReasonReader)
		s.phase = closed
	case hardware.Bytes:
		s.rx.Write(in.B)
		clear(in.B)
		for o.End == nil && s.take(&o, now) {
		}
	case hardware.Wake:
		s.tick(&o, now)
	case activate:
		s.armed, s.by = true, now+in.timeout
		if s.phase == closed || s.phase == waiting && s.slot == nil {
			s.fail(&o, hardware.ReasonReader)
		}
		s.ready(&o, now)
	case cancel:
		s.armed = false
	}
	if s.phase != closed {
		if o.Wake = s.until; s.armed {
			o.Wake = min(o.Wake, s.by)
		}
	}
	return s, o
}

func (s *State) send(o *hardware.Output, now time.Duration, p phase, b []byte) {
	s.phase, s.until = p, now+answerTime
	o.Write(b)
}

// fail answers the activation that runs, if one does.
func (s *State) fail(o *hardware.Output, reason string) {
	if s.armed {
		s.armed = false
		o.Emit(hardware.CardFailed{Reason: reason})
	}
}

func (s *State) tick(o *hardware.Output, now time.Duration) {
	if s.armed && now >= s.by {
		s.fail(o, hardware.ReasonTimeout)
	}
	switch {
	case s.phase == closed || now < s.until:
	case s.phase == waiting:
		s.send(o, now, stopping, request(cmdStop, nil))
	default:
		s.fail(o, hardware.ReasonReader)
		o.End = errSilent
	}
}

// take takes the next answer; false: it is not whole yet.
func (s *State) take(o *hardware.Output, now time.Duration) bool {
	n := map[phase]int{
		version: 12, establish: 12, states: statesSize, waiting: signalSize, stopping: signalSize, connecting: connectSize, talking: transmitSize, disconnecting: 12,
	}[s.phase]
	if s.phase == talking && s.rx.Len() >= n { // the card's answer stands behind
		if b := s.rx.Bytes(); number(b, 7) == resultOK {
			if number(b, 6) > apduMost {
				o.End = errBody
				return false
			}
			n += int(number(b, 6))
		}
	}
	if n == 0 || s.rx.Len() < n {
		return false
	}
	b := bytes.Clone(s.rx.Next(n))
	s.answered(o, now, b)
	clear(b)
	return true
}

func (s *State) answered(o *hardware.Output, now time.Duration, b []byte) {
	switch s.phase {
	case version:
		if number(b, 2) != resultOK || number(b, 0) != major {
			o.End = fmt.Errorf("%w: %d.%d", errVersion, number(b, 0), number(b, 1))
			return
		}
		s.send(o, now, establish, request(cmdEstablish, numbers(2, 0, 0))) // of the system
	case establish:
		if r := number(b, 2); r != resultOK {
			o.End = resultError("context", r)
			return
		}
		s.context = number(b, 1)
		s.send(o, now, states, request(cmdWait, nil))
	case states:
		s.phase, s.until = waiting, now+askEvery
		slots, err := ParseSlots(b)
		if err != nil {
			o.End = err
			return
		}
		s.see(o, slots)
		s.ready(o, now)
	case waiting:
		s.send(o, now, states, request(cmdWait, nil))
	case stopping:
		s.stopped(o, now)
	case connecting:
		s.connected(o, now, number(b[connectSize-4:], 0), number(b[connectSize-12:], 0), number(b[connectSize-8:], 0))
	case talking:
		s.heard(o, now, number(b, 7), b[transmitSize:])
	case disconnecting:
		s.send(o, now, states, request(cmdWait, nil))
	case closed:
	}
}

// see takes in which readers there are, and whether a card is in ours.
func (s *State) see(o *hardware.Output, slots []Slot) {
	slot, what := find(slots, s.name)
	was := s.slot != nil && s.slot.Present
	gone := was && (slot == nil || !slot.Present || slot.Events != s.slot.Events && slot.Events-s.slot.Events > 1)
	if s.slot = slot; gone && s.told {
		o.Emit(hardware.CardRemoved{})
	}
	if gone {
		s.told = false
	}
	h := hardware.Health{Device: s.device, State: hardware.Ready, Code: hardware.CodeReady}
	if slot == nil {
		h.State, h.Code, h.Detail = hardware.Absent, CodeReader, what
		s.fail(o, hardware.ReasonReader)
	} else {
		h.Detail = slot.Name
	}
	if text := h.Code + h.Detail; text != s.health {
		s.health = text
		o.Emit(h)
	}
}

// find is the reader of that name, or the one that has it in its name; what says why there is none.
func find(slots []Slot, name string) (slot *Slot, what string) {
	var fit []*Slot
	names := make([]string, 0, len(slots))
	for i := range slots {
		names = append(names, slots[i].Name)
		if slots[i].Name == name {
			return &slots[i], ""
		}
		if strings.Contains(slots[i].Name, name) {
			fit = append(fit, &slots[i])
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], ""
	case len(slots) == 0:
		return nil, "pcscd knows no reader: is its cable in?"
	case len(fit) == 0:
		return nil, "pcscd does not know it; it knows " + strings.Join(names, ", ")
	}
	return nil, "more than one has that name: " + strings.Join(names, ", ")
}

// due reports that a card is in that is looked for and was not told.
func (s *State) due() bool { return s.armed && s.slot != nil && s.slot.Present && !s.told }

// ready begins with a card, when one is due.
func (s *State) ready(o *hardware.Output, now time.Duration) {
	if s.phase == waiting && s.due() {
		s.send(o, now, stopping, request(cmdStop, nil))
	}
}

// stopped: nothing is on its way any more, so the card may be connected.
func (s *State) stopped(o *hardware.Output, now time.Duration) {
	if !s.due() {
		s.send(o, now, states, request(cmdWait, nil))
		return
	}
	s.atr = s.slot.ATR
	s.send(o, now, connecting, connectRequest(s.context, s.slot.Name))
}

func (s *State) connected(o *hardware.Output, now time.Duration, result, card, proto uint32) {
	if result != resultOK {
		s.refused(o, "connect", result)
		if o.End == nil {
			s.send(o, now, states, request(cmdWait, nil))
		}
		return
	}
	s.card, s.proto, s.uid, s.talk = card, proto, nil, askUID
	s.say(o, now, []byte{0xFF, 0xCA, 0x00, 0x00, 0x00}) // PC/SC part 3, 3.2.2.1.3, GET DATA
}

// refused names a result. What is about the card ends the activation, not the opening.
func (s *State) refused(o *hardware.Output, what string, r uint32) {
	s.told = true // not tried again while it is in
	switch r {
	case resultNoCard, resultRemoved, resultReset, resultUnpowered, resultMute, resultProtocol, resultTransacted:
		s.fail(o, hardware.ReasonCardError)
	case resultAway, resultUnknown, resultSharing:
		s.fail(o, hardware.ReasonReader)
	default: // resultStopped, and what is not known
		s.fail(o, hardware.ReasonReader)
		o.End = resultError(what, r)
	}
}

func (s *State) say(o *hardware.Output, now time.Duration, apdu []byte) {
	b := request(cmdTransmit, numbers(s.card, s.proto, 16, uint32(len(apdu)), 0, 0, apduMost, 0)) //nolint:gosec // short
	s.send(o, now, talking, append(b, apdu...))
}

// finish lets the card go.
func (s *State) finish(o *hardware.Output, now time.Duration, reason string) {
	if reason != "" {
		s.fail(o, reason)
	}
	s.told = true
	s.send(o, now, disconnecting, request(cmdDisconnect, numbers(s.card, leaveCard, 0)))
}

func (s *State) read(o *hardware.Output, now time.Duration, c hardware.LoopCard) {
	entry := protocol.EntryContactless
	if len(s.uid) == 0 {
		entry = protocol.EntryChip
	}
	told := s.armed
	if s.armed { // else it was canceled meanwhile, and the next activation may have it
		s.armed, c.ATR = false, s.atr
		o.Emit(hardware.CardRead{Card: hardware.Card{Entry: entry, Loop: c}, At: now})
	}
	s.finish(o, now, "")
	s.told = told
}
