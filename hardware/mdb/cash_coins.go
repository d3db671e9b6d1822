package mdb

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"coinop/hardware"
	"coinop/protocol/money"
)

// changerSays is what the changer is to hear next.
func (s *CashState) changerSays(now time.Duration) []byte {
	p := &s.coin
	switch p.step {
	case stepKnow:
		return []byte{changer | 1}
	case stepShut:
		return []byte{changer | 4, 0, 0, 0xFF, 0xFF}
	case stepHear:
		return []byte{changer | 3}
	case stepReset:
		return []byte{changer}
	case stepJust:
		if now >= p.just { // its word may have been heard, and not understood
			p.step = stepReset
			return []byte{changer}
		}
		return []byte{changer | 3}
	case stepSetup:
		return []byte{changer | 1}
	case stepID:
		return []byte{changer | 7, 0x00}
	case stepFeature:
		return []byte{changer | 7, 0x01, 0x00, 0x00, 0x00, 0x01}
	case stepTubes:
		s.tubeAt = now + 5*time.Second
		return []byte{changer | 2}
	case stepTypes:
		return s.coinTypes()
	case stepLive:
	}
	switch {
	case s.slot != s.takes():
		return s.coinTypes()
	case s.pay != nil && s.pay.stage == payFirst:
		return []byte{changer | 2}
	case s.pay != nil && s.pay.stage == payOrder:
		if units := s.alternative(s.pay.asked.Minor - s.pay.given); units > 0 {
			s.pay.stage, s.pay.ordered, s.pay.alone = payAlone, true, true
			s.forget()
			return []byte{changer | 7, 0x02, units}
		}
		coins, _ := money.Change(s.tubes, s.pay.asked.Minor-s.pay.given)
		for i := len(coins) - 1; i >= 0; i-- {
			if coins[i] > 0 {
				s.pay.stage, s.pay.ordered, s.last[i] = payBusy, true, -1
				return []byte{changer | 5, byte(min(coins[i], 15))<<4 | byte(i)}
			}
		}
		s.pay.stage = payCount // there is nothing left to give
		return []byte{changer | 2}
	case s.pay != nil && s.pay.stage == payAlone:
		return []byte{changer | 7, 0x04}
	case s.pay != nil && s.pay.stage == payTell:
		return []byte{changer | 7, 0x03}
	case s.pay != nil && s.pay.stage == payCount:
		return []byte{changer | 2}
	case now >= s.tubeAt:
		s.tubeAt = now + 5*time.Second
		return []byte{changer | 2}
	}
	return []byte{changer | 3}
}

// takes are the types of coins that may come in now, a bit each.
func (s *CashState) takes() int {
	if s.accept <= 0 || s.pay != nil {
		return 0
	}
	types := 0xFFFF
	for i, v := range s.coin.types {
		if v > s.accept || s.coin.tokens>>i&1 != 0 {
			types &^= 1 << i
		}
	}
	return types
}

// coinTypes is COIN TYPE: which coins are taken, and that all may be given by hand.
func (s *CashState) coinTypes() []byte {
	t := s.takes()
	return []byte{changer | 4, byte(t >> 8), byte(t), 0xFF, 0xFF} //nolint:gosec // two bytes of it
}

func (s *CashState) changerSaid(o *hardware.Output, now time.Duration, sent, data []byte) {
	p := &s.coin
	switch sent[0] & 7 {
	case 0: // RESET
		p.step, p.just = stepJust, now+lostAfter
	case 1: // SETUP: level, country, scale, decimals, routing, values
		if len(data) < 7 {
			return
		}
		p.level, p.scale = data[0], s.unitOf(int64(data[3]), data[4])
		p.types, p.tokens, p.tubed = [16]int64{}, 0, uint16(data[5])<<8|uint16(data[6])
		for i, v := range data[7:min(len(data), 23)] {
			if v == 0xFF {
				p.tokens |= 1 << i
				continue
			}
			p.types[i] = int64(v) * p.scale
		}
		if p.step == stepKnow {
			p.step = stepShut
			return
		}
		p.step, p.again = stepTubes, now+tubeWait
		if p.level >= 3 {
			p.step = stepID
		}
	case 7:
		s.expanded(sent[1], data)
	case 2:
		s.tubesSaid(o, data)
		if p.step == stepTubes {
			p.step = stepTypes
		}
	case 4:
		if p.step == stepShut {
			p.step = stepHear
			return
		}
		s.slot = int(sent[1])<<8 | int(sent[2])
		if p.step == stepTypes {
			s.live(o, p)
		}
	case 5: // DISPENSE: the polls say when it is done
	case 3:
		s.coins(o, now, data)
	}
}

// alternative is how many units to order of a changer that chooses the coins itself: as much as one
// order can say and the largest coins first can make, which is how changers choose. 0: coin by coin.
func (s *CashState) alternative(minor int64) byte {
	p := &s.coin
	if !p.alt || p.scale <= 0 {
		return 0
	}
	_, paid := money.Change(s.tubes, min(minor, 255*p.scale))
	if paid == 0 || paid%p.scale != 0 || largest(s.tubes, paid) != paid {
		return 0
	}
	return byte(paid / p.scale) //nolint:gosec // up to 255
}

// largest is what taking the largest coins first makes of an amount.
func largest(tubes []money.Tube, minor int64) (paid int64) {
	sorted := slices.Clone(tubes)
	slices.SortFunc(sorted, func(a, b money.Tube) int { return cmp.Compare(b.Value, a.Value) })
	for _, t := range sorted {
		if t.Value > 0 {
			paid += t.Value * min(int64(t.Count), (minor-paid)/t.Value)
		}
	}
	return paid
}

// expanded is the answer to an expansion command (MDB/ICP 4.2, section 5, 0Fh).
func (s *CashState) expanded(sub byte, data []byte) {
	p := &s.coin
	switch sub {
	case 0x00: // maker, serial, model, version, and the features: bit 0 is the alternative payout
		p.alt = len(data) == 33 && data[32]&1 != 0
		if p.step = stepTubes; p.alt {
			p.step = stepFeature
		}
	case 0x01:
		p.step = stepTubes
	case 0x04: // what was given since; none: it is done
		if s.pay != nil && s.pay.stage == payAlone && len(data) == 0 {
			s.pay.stage = payTell
		}
	case 0x03: // coins of each type; none: it is not done after all
		if s.pay == nil || s.pay.stage != payTell || len(data) == 0 {
			return
		}
		for i, n := range data[:min(len(data), 16)] {
			s.pay.told += p.types[i] * int64(n)
		}
		s.pay.stage = payCount
	}
}

// tubesSaid is TUBE STATUS: full bits, and a count a type.
func (s *CashState) tubesSaid(o *hardware.Output, data []byte) {
	if len(data) < 2 {
		return
	}
	full := uint16(data[0])<<8 | uint16(data[1])
	s.tubes = make([]money.Tube, 16)
	sum, small, least := int64(0), int64(0), 0
	for i := range s.tubes {
		s.tubes[i].Value = s.coin.types[i]
		if s.tubes[i].Full = full>>i&1 != 0; i < len(data)-2 {
			s.tubes[i].Count = uint16(data[2+i])
		}
		t := s.tubes[i]
		if sum += t.Value * int64(t.Count); t.Count == 0 && s.coin.tubed>>i&1 == 0 {
			continue // it goes to the box: change is never made of it
		}
		if t.Value > 0 && (small == 0 || t.Value < small) {
			small, least = t.Value, 0
		}
		if t.Value > 0 && t.Value == small {
			least += int(t.Count)
		}
	}
	now := hardware.CashLevel{Change: s.amount(sum), Exact: small == 0 || least < lowTube, Still: s.quiet && s.pay == nil}
	for _, t := range s.tubes {
		if t.Value > 0 {
			now.Tubes = append(now.Tubes, t)
		}
	}
	if !s.levels || !now.Equal(s.level) {
		s.level, s.levels = now, true
		o.Emit(now)
	}
	switch {
	case s.pay != nil && s.pay.stage == payFirst:
		s.pay.stage, s.pay.before = payOrder, sum
		if _, paid := money.Change(s.tubes, s.pay.asked.Minor); paid == 0 {
			s.paid(o, 0, true, PaidShort)
		}
	case s.pay != nil && s.pay.stage == payCount:
		s.counted(o, s.pay.before-sum)
	}
}

// coins is the changer's POLL.
func (s *CashState) coins(o *hardware.Output, now time.Duration, data []byte) {
	p, busy := &s.coin, false
	// A mechanism takes longer for a coin than we for the next POLL: the same block is the same coins,
	// and our ACK was not heard.
	again := len(data) > 0 && bytes.Equal(data, s.heard)
	s.heard = slices.Clone(data)
	for i := 0; i < len(data); i++ {
		b := data[i]
		switch {
		case b&0x80 != 0 && i+1 < len(data): // given by hand
			if v, n := p.types[b&15], int64(b>>4&7); v > 0 && !again && s.fresh(b, data[i+1]) {
				o.Emit(hardware.CashOut{Value: s.amount(v * n)})
				if s.pay != nil {
					s.pay.before -= v * n
				}
			}
			s.moved(now)
			i++
		case b&0x40 != 0 && i+1 < len(data): // a coin
			v := p.types[b&15]
			switch way := b >> 4 & 3; {
			case v == 0, way > 1, again: // a token, or it went back, or it was told
			case way == 1:
				if s.fresh(b, data[i+1]) {
					o.Emit(hardware.CashIn{Value: s.amount(v)})
				}
			default:
				o.Emit(hardware.CashIn{Value: s.amount(v), Box: true})
			}
			s.moved(now)
			i++
		case b&0x20 != 0: // slugs
		case b == 0x01:
			o.Emit(hardware.ReturnLever{})
		case b == 0x02:
			busy = true
		case b == 0x07, b == 0x0C:
			s.jam(o, p, true, fmt.Sprintf("status %02X", b))
		case b == 0x0B:
			s.wasReset(o, now)
			return
		}
	}
	if len(data) == 0 {
		s.jam(o, p, false, "")
		if s.slot == 0 && s.accept == 0 && s.pay == nil && !s.quiet {
			s.quiet, s.tubeAt = true, now
		}
	}
	switch {
	case s.pay != nil && s.pay.stage == payQuiet && len(data) == 0 && s.slot == 0:
		s.pay.stage = payFirst
	case s.pay != nil && s.pay.stage == payBusy && !busy:
		s.pay.stage = payCount
	case p.step == stepHear && !busy && !slices.ContainsFunc(data, func(b byte) bool { return b >= 0x40 }):
		p.step = stepReset
	}
}

// moved is a coin: the tubes are counted anew, and told.
func (s *CashState) moved(now time.Duration) { s.tubeAt, s.quiet, s.levels = now, false, false }

// fresh reports whether a report of a coin into a tube, or out of it by hand, is news: each leaves
// another count behind. With the same it is the one before: the changer did not hear our ACK.
func (s *CashState) fresh(b, n byte) bool {
	if s.last[b&15] == int(n) {
		return false
	}
	s.last[b&15] = int(n)
	return true
}

// wasReset is the changer's word that it began anew.
func (s *CashState) wasReset(o *hardware.Output, now time.Duration) {
	p := &s.coin
	if p.step == stepJust {
		p.step = stepSetup
		return
	}
	gone := p.gone
	s.forget()
	*p = peer{step: stepSetup, heard: now, gone: gone}
	s.slot, s.quiet, s.levels, s.heard = -1, false, false, nil
	if s.pay != nil && s.pay.ordered { // what it had given by then, the tubes say
		s.pay.stage = payCount
	}
}
