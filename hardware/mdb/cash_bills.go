package mdb

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"coinop/hardware"
)

// validatorSays is what the validator is to hear next.
func (s *CashState) validatorSays(now time.Duration) []byte {
	p := &s.bill
	switch p.step {
	case stepKnow:
		return []byte{validator | 1}
	case stepHear:
		return []byte{validator | 3}
	case stepReset:
		return []byte{validator}
	case stepJust:
		if now >= p.just {
			p.step = stepReset
			return []byte{validator}
		}
		return []byte{validator | 3}
	case stepSetup:
		return []byte{validator | 1}
	case stepID, stepTubes:
		p.step = stepTypes
		return s.billTypes()
	case stepTypes:
		return s.billTypes()
	case stepLive:
	}
	switch {
	case s.take != nil && s.esc == 0:
		s.esc = now + escrowMost
		b := []byte{validator | 5, 0x00}
		if *s.take {
			b[1] = 0x01
		}
		return b
	case s.notes != s.takesBills():
		return s.billTypes()
	}
	return []byte{validator | 3}
}

// takesBills are the types of bills that may come in now, a bit each. A validator without an escrow gives
// none back, so it takes none that is above what a coin may be.
func (s *CashState) takesBills() int {
	if s.accept <= 0 {
		return 0
	}
	types := 0xFFFF
	for i, v := range s.bill.types {
		if s.bill.alone && v > s.accept {
			types &^= 1 << i
		}
	}
	return types
}

// billTypes is BILL TYPE: which are taken, and that all wait in escrow.
func (s *CashState) billTypes() []byte {
	t := s.takesBills()
	return []byte{validator | 4, byte(t >> 8), byte(t), byte(t >> 8), byte(t)} //nolint:gosec // two bytes of it
}

func (s *CashState) validatorSaid(o *hardware.Output, now time.Duration, sent, data []byte) {
	p := &s.bill
	switch sent[0] & 7 {
	case 0:
		p.step, p.just = stepJust, now+billAfter
	case 1: // SETUP: level, country, scale, decimals, stacker, security, escrow, values
		if len(data) < 11 {
			return
		}
		p.level, p.scale = data[0], s.unitOf(int64(data[3])<<8|int64(data[4]), data[5])
		p.alone = data[10] != 0xFF
		p.types = [16]int64{}
		for i, v := range data[11:min(len(data), 27)] {
			if v != 0xFF {
				p.types[i] = int64(v) * p.scale
			}
		}
		if p.step == stepKnow {
			p.step = stepHear
			return
		}
		p.step = stepTypes
	case 4:
		s.notes = int(sent[1])<<8 | int(sent[2])
		if p.step == stepTypes {
			s.live(o, p)
		}
	case 3:
		s.bills(o, now, data)
	}
}

// bills is the validator's POLL. A bill is money when it is stacked, and not before.
func (s *CashState) bills(o *hardware.Output, now time.Duration, data []byte) {
	p := &s.bill
	again := len(data) > 0 && bytes.Equal(data, s.said) // a bill takes seconds: it did not hear our ACK
	if s.said = append([]byte(nil), data...); again {
		return
	}
	ok := true
	for _, b := range data {
		if b&0x80 != 0 {
			s.routed(o, b>>4&7, p.types[b&15])
			continue
		}
		switch {
		case b == 0x06:
			s.billReset(now)
			return
		case b == 0x05, b == 0x08:
			ok = false
			s.jam(o, p, true, fmt.Sprintf("status %02X", b))
		case b == 0x0A: // nothing was in escrow
			s.held, s.take, s.esc = 0, nil, 0
		}
	}
	if ok && len(data) == 0 {
		s.jam(o, p, false, "")
	}
	if p.step == stepHear && !slices.ContainsFunc(data, func(b byte) bool { return b >= 0x80 }) {
		p.step = stepReset
	}
}

// routed is where a bill went.
func (s *CashState) routed(o *hardware.Output, way byte, value int64) {
	switch way {
	case 0, 3: // stacked, or into a recycler
		s.held, s.take, s.esc = 0, nil, 0
		if value > 0 {
			o.Emit(hardware.CashIn{Value: s.amount(value), Bill: true, Box: true})
		}
	case 1: // in escrow; said again it is the same bill
		if s.held != value && value > 0 {
			s.held, s.take, s.esc = value, nil, 0
			o.Emit(hardware.BillHeld{Value: s.amount(value)})
		}
	case 2: // returned
		s.held, s.take, s.esc = 0, nil, 0
		o.Emit(hardware.BillReturned{Value: s.amount(value)})
	}
}

// billReset is the validator's word that it began anew: a bill in escrow goes back, or is stacked, and
// it says so by itself.
func (s *CashState) billReset(now time.Duration) {
	p := &s.bill
	if p.step == stepJust {
		p.step = stepSetup
		return
	}
	*p = peer{step: stepSetup, heard: now, gone: p.gone}
	s.notes, s.held, s.take, s.esc = -1, 0, nil, 0
}
