package pcsc

import (
	"bytes"
	"errors"
	"time"

	"coinop/hardware"
)

// step is what was asked of the card last.
type step uint8

const (
	askUID step = iota
	loadKey
	authenticate
	readBlock
)

// storage is how the ATR of a memory card behind a contactless reader begins; behind it stand the standard (03:
// ISO 14443 A, part 3) and the card's name: 00 01 is MIFARE Classic 1K, 00 02 is 4K (PC/SC part 3, 3.1.3.2.3).
var storage = []byte{0x3B, 0x8F, 0x80, 0x01, 0x80, 0x4F, 0x0C, 0xA0, 0x00, 0x00, 0x03, 0x06, 0x03}

func classic(atr []byte) bool {
	return len(atr) >= 15 && bytes.HasPrefix(atr, storage) && atr[13] == 0 && (atr[14] == 1 || atr[14] == 2)
}

// heard is the card's answer, or why there is none.
func (s *State) heard(o *hardware.Output, now time.Duration, result uint32, answer []byte) {
	if result != resultOK {
		if s.refused(o, "transmit", result); o.End == nil {
			s.finish(o, now, "")
		}
		return
	}
	n := len(answer) - 2
	if n < 0 {
		s.finish(o, now, hardware.ReasonCardError)
		return
	}
	data, ok := answer[:n], answer[n] == 0x90 && answer[n+1] == 0x00
	switch {
	case s.talk == askUID:
		s.number(o, now, data, ok)
	case !ok: // 63 00, 69 8x: another key: not one of ours
		s.finish(o, now, hardware.ReasonUnsupported)
	case s.talk == loadKey: // PC/SC part 3, 3.2.2.1.6: key A by its number
		s.talk = authenticate
		s.say(o, now, []byte{0xFF, 0x86, 0x00, 0x00, 0x05, 0x01, 0x00, s.keys.Block, 0x60, 0x00})
	case s.talk == authenticate:
		s.talk = readBlock
		s.say(o, now, []byte{0xFF, 0xB0, 0x00, s.keys.Block, 0x10})
	default:
		s.open(o, now, data)
	}
}

// number is the chip's, or of a contact card none.
func (s *State) number(o *hardware.Output, now time.Duration, data []byte, ok bool) {
	if l := len(data); ok && (l == 4 || l == 7 || l == 10) {
		s.uid = bytes.Clone(data)
	}
	switch {
	case s.keys.IsZero():
		s.read(o, now, hardware.LoopCard{UID: s.uid})
	case len(s.uid) > 0 && classic(s.atr) && s.keys.Classic.Len() > 0:
		key := s.keys.Classic.Reveal()
		s.talk = loadKey
		s.say(o, now, append([]byte{0xFF, 0x82, 0x00, 0x00, 0x06}, key...))
		clear(key)
	default:
		s.finish(o, now, hardware.ReasonUnsupported)
	}
}

func (s *State) open(o *hardware.Output, now time.Duration, ref []byte) {
	c, err := s.keys.Open(ref, s.uid)
	switch {
	case errors.Is(err, hardware.ErrWrongMAC):
		s.finish(o, now, hardware.ReasonWrongMAC)
	case err != nil:
		s.finish(o, now, hardware.ReasonUnsupported)
	default:
		s.read(o, now, c)
	}
}
