package mdb

import (
	"bytes"
	"time"

	"coinop/hardware"
)

// entryMost are the characters that 14 03 has room for.
const entryMost = 8

// entry is a request for digits that is open, or was last (MDB/ICP 4.2, 7.4: 12 asks for them, 13 takes that
// back, 14 03 brings them).
type entry struct {
	id       uint32
	length   int
	open     bool
	by       time.Duration
	answered bool // the last one that ended did so by the controller's answer
	ended    uint32
}

// ask is 12: how many characters, with bit 7 where what was entered last was wrong.
func (s *CashlessState) ask(o *hardware.Output, in prompt) {
	switch {
	case s.entry.open:
		o.Emit(hardware.DataRefused{ID: in.id, Reason: hardware.EntryBusy})
		return
	case s.options&optDataEntry == 0, in.length < 1, in.length > entryMost, s.waits(0x07),
		s.phase != busIdle && (s.phase != busVend || !s.req.open):
		o.Emit(hardware.DataRefused{ID: in.id, Reason: hardware.EntryImpossible})
		return
	}
	a := &s.entry
	a.id, a.length, a.open, a.by = in.id, in.length, true, in.by
	n := byte(in.length)
	if in.again {
		n |= 0x80
	}
	s.say([]byte{0x12, n})
}

// waits reports whether a message of that kind does.
func (s *CashlessState) waits(kind byte) bool {
	for _, a := range s.queue {
		if a.data[0] == kind {
			return true
		}
	}
	return false
}

func (s *CashlessState) unask(o *hardware.Output, in unask) {
	if s.entry.open && s.entry.id == in.id {
		s.cancelEntry(o, hardware.EntryTaken)
	}
}

func (s *CashlessState) lateEntry(o *hardware.Output, now time.Duration) {
	if s.entry.open && now >= s.entry.by {
		s.cancelEntry(o, hardware.EntryNoTime)
	}
}

// cancelEntry ends it in a session that goes on; a controller that was asked is told.
func (s *CashlessState) cancelEntry(o *hardware.Output, why string) {
	asked := s.wasAsked()
	s.entryEnds(o, why)
	if asked {
		s.say([]byte{0x13})
	}
}

// wasAsked reports whether 12 was on the wire.
func (s *CashlessState) wasAsked() bool {
	for _, a := range s.queue {
		if a.data[0] == 0x12 {
			return a.sent
		}
	}
	return true
}

// entryEnds tells the end of a request without what was asked for, once.
func (s *CashlessState) entryEnds(o *hardware.Output, why string) {
	a := &s.entry
	if !a.open {
		return
	}
	s.drop(0x12)
	a.open, a.answered, a.ended = false, false, a.id
	o.Emit(hardware.DataRefused{ID: a.id, Reason: why})
}

// entered is 14 03: up to eight characters, then 00; all FF when the buyer or the controller will not. data is
// wiped. One that comes before our next question was on the wire is the last answer again, whose ACK was not heard.
func (s *CashlessState) entered(o *hardware.Output, data []byte) {
	defer clear(data)
	a := &s.entry
	if !a.open || !s.wasAsked() {
		why := hardware.EntryLate
		if a.answered {
			why = hardware.EntryRepeated
		}
		o.Emit(hardware.DataRefused{ID: a.ended, Reason: why})
		return
	}
	text := bytes.TrimRight(data, "\x00")
	switch {
	case bytes.Equal(data, bytes.Repeat([]byte{0xFF}, entryMost)):
		s.entryEnds(o, hardware.EntryCanceled)
	case len(text) == 0, len(text) > a.length, bytes.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }):
		s.entryEnds(o, hardware.EntryGarbled)
	default:
		s.drop(0x12)
		a.open, a.ended = false, a.id
		o.Emit(hardware.DataEntered{ID: a.id, Data: hardware.Hide(bytes.Clone(text))})
	}
	a.answered = true
}
