package mdb

import (
	"bytes"
	"encoding/hex"
	"time"

	"coinop/hardware"
)

// An RS232-MDB of Waferstar answers RESET and POLL by itself, acknowledges every other command, and passes
// it on: STX, the bytes in hex with their CHK, ETX. What we write, bytes with CHK, the controller gets
// at its next POLL. READER CONFIG (01) it keeps, and answers SETUP by it; at its power-up it says its
// name, and the one it has.
//
//	02 "140115" 03             READER ENABLE
//	05 00 96 9B                VEND APPROVED
//	01 03 19 78 01 02 1E 08    without CHK: the sum of it comes back, 02 "BE" 03; so it is asked whether it lives
//
// Writes are told apart by the pause after them. It does not say what the controller acknowledged: some pass
// on its ACK as 02 "00" 03, which is not in the manual, and nothing is built on it.
//
// Source: RS232-MDB and MDB-USB converter manual 2.1 (Shanghai Wafer), "Introduction"; framing, power-up and the sum
// from captures and programs in the field. docs/decisions/0030.

const (
	waferPause = 30 * time.Millisecond // after a write of ours
	waferByte  = 1050 * time.Microsecond
	waferFrame = 2*BlockMax + 2
)

// waferFrames takes the adapter's stream apart.
type waferFrames struct {
	hex  []byte
	in   bool
	junk bool // the byte before was outside of a frame, and no text
	Lost int
}

func (f *waferFrames) add(b []byte) (frames [][]byte) {
	f.hex = bytes.Clone(f.hex)
	for _, c := range b {
		text := c >= ' ' && c < 0x7F || c == '\r' || c == '\n'
		switch {
		case c == 0x02:
			f.lost(f.in)
			f.hex, f.in = f.hex[:0], true
		case c == 0x03 && f.in:
			f.in = false
			data := make([]byte, len(f.hex)/2)
			if n, err := hex.Decode(data, f.hex); err == nil && n > 0 {
				frames = append(frames, data)
			} else {
				f.lost(!bytes.Contains(f.hex, []byte("-"))) // its name
			}
		case !f.in:
			f.lost(!text && !f.junk)
		case !text || len(f.hex) >= waferFrame:
			f.lost(true)
			f.in = false
		default:
			f.hex = append(f.hex, c)
		}
		f.junk = !f.in && !text && c != 0x03
	}
	return frames
}

func (f *waferFrames) lost(yes bool) {
	if yes {
		f.Lost++
	}
}

// waferDevice is what a device's machine has of such an adapter.
type waferDevice struct {
	frames  waferFrames
	writing answer
	clear   time.Duration // nothing is written before
	pinged  time.Duration
	command time.Duration // the last one came
	met     bool          // it was heard since the opening
	silent  bool
}

// meet begins an opening. The adapter has lived on, and what the controller was told before holds: which
// state it is in, and what it has enabled, only its next commands say.
func (s *CashlessState) meet(o *hardware.Output, now time.Duration) {
	s.wafer = waferDevice{pinged: now, command: now}
	s.reset(now, nil)
	s.phase, s.announce = busUnknown, now+lateResult
	s.key.BusEpoch++
	s.say(s.readerConfig())
	s.ping(o, now)
}

func (s *CashlessState) ping(o *hardware.Output, now time.Duration) {
	s.wafer.pinged = now
	s.put(o, now, s.readerConfig())
}

func (s *CashlessState) put(o *hardware.Output, now time.Duration, b []byte) {
	s.wafer.clear = now + time.Duration(len(b))*waferByte + waferPause
	o.Write(b)
}

// flush writes what waits, a message at a time.
func (s *CashlessState) flush(o *hardware.Output, now time.Duration) {
	if !s.open || len(s.queue) == 0 || now < s.wafer.clear {
		return
	}
	a := s.queue[0]
	s.queue = s.queue[1:]
	s.wafer.writing = a
	s.put(o, now, append(bytes.Clone(a.data), chk(a.data)))
}

// wrote is the end of a write: an approval's, where it is one. Half a message counts as on the wire.
func (s *CashlessState) wrote(o *hardware.Output, now time.Duration, in hardware.Wrote) {
	a := s.wafer.writing
	s.wafer.writing = answer{}
	switch {
	case a.data == nil:
	case in.N == 0 && in.Err != nil:
		s.ends(o, a.vend, hardware.ApprovalWithdrawn)
	default:
		s.told(o, now, a)
	}
}

// frame is one that the adapter passed on, or said.
func (s *CashlessState) frame(o *hardware.Output, now time.Duration, b []byte) {
	s.heard = now
	if !s.wafer.met || s.wafer.silent {
		s.wafer.met, s.wafer.silent = true, false
		o.Emit(hardware.Health{Device: s.device, State: hardware.Ready, Code: hardware.CodeReady})
	}
	switch {
	case len(b) == 1: // the sum we asked for, or the controller's ACK
	case b[0] == 0x01 && len(b) == 9 && chk(b[:8]) == b[8]:
		if ours := s.readerConfig(); !bytes.Equal(b[:8], ours) {
			s.say(ours)
			o.Emit(hardware.Health{
				Device: s.device, State: hardware.Degraded, Code: hardware.CodeNotConfigure,
				Detail: "the adapter had another configuration, and was given ours: where prices are wrong now, switch the machine off and on",
			})
		}
	case b[0]&0xF8 == s.address:
		s.wafer.command = now
		if !s.config && len(b) > 6 && b[0]&7 == 3 && b[1] == 0x00 { // what was enabled before we came, its length says
			if s.options = 0; len(b) == 9 {
				s.options = opt32Bit
			}
		}
		w := make([]Word, len(b))
		for i, x := range b {
			w[i] = Word(x)
		}
		w[0] |= Mode
		s.command(o, now, w)
	}
	s.life(o, now)
}

// tick asks for a sign of life, and has a controller begin anew that was set up before we came, when nothing
// is under way: only then is known what a session may be opened with.
func (s *CashlessState) tick(o *hardware.Output, now time.Duration) {
	quiet, waits := now-s.heard, !s.bound.IsZero() || s.req.open
	if quiet >= silence && !s.wafer.silent {
		s.wafer.silent = true
		o.Emit(hardware.Health{Device: s.device, State: hardware.Degraded, Code: hardware.CodeSilent, Detail: errSilent.Error()})
	}
	if quiet >= giveUpVend || quiet >= giveUp && !waits {
		o.End = errSilent
		return
	}
	if len(s.queue) > 0 || now < s.wafer.clear {
		return
	}
	if now-max(s.wafer.pinged, s.heard) >= pingEvery {
		s.ping(o, now)
		return
	}
	if s.announce > 0 && !s.config && !waits && !s.card && now >= max(s.announce, s.wafer.command+lateResult) {
		s.announce = 0
		s.say([]byte{0x00}) // JUST RESET, 7.4.1
	}
}

func (s *CashlessState) waferWake(at time.Duration) time.Duration {
	at = min(at, max(s.wafer.pinged, s.heard)+pingEvery)
	if len(s.queue) > 0 {
		at = min(at, s.wafer.clear)
	}
	if s.announce > 0 {
		at = min(at, max(s.announce, s.wafer.command+lateResult))
	}
	return max(at, s.wafer.clear)
}
