package keyboard

import (
	"encoding/binary"
	"strconv"
)

// size of an event: a time of two words of this computer, then type, code and value.
const size = 8 + 2*strconv.IntSize/8

// Types, codes and values of events.
const (
	evSyn, evKey         = 0, 1
	synReport            = 0
	synDropped           = 3
	keyRelease, keyPress = 0, 1

	keyEnter, keyKPEnter = 28, 96
	keyCtrlL, keyCtrlR   = 29, 97
	keyShiftL, keyShiftR = 42, 54
)

// Decoder makes text of events; it remembers which keys are held. The zero value is a keyboard that
// nobody touches.
type Decoder struct {
	part         [size]byte
	n            int
	shift, ctrl  [2]bool
	until        bool // a report ends: events before that are from before a loss
	modifierHeld bool // one whose characters are not known: Alt, Meta
}

// Text appends what b says was typed: at most one byte for each event. Pieces of an event are kept for the
// next call.
func (d *Decoder) Text(dst, b []byte) []byte {
	for len(b) > 0 {
		k := copy(d.part[d.n:], b)
		d.n, b = d.n+k, b[k:]
		if d.n < size {
			break
		}
		e := d.part[size-8:]
		if c, ok := d.event(binary.NativeEndian.Uint16(e), binary.NativeEndian.Uint16(e[2:]), int32(binary.NativeEndian.Uint32(e[4:]))); ok { //nolint:gosec // signed on the wire
			dst = append(dst, c)
		}
		d.n = 0
		clear(d.part[:])
	}
	return dst
}

func (d *Decoder) event(kind, code uint16, value int32) (c byte, ok bool) {
	switch {
	case kind == evSyn && code == synDropped: // which keys are held is not known any more either
		*d = Decoder{until: true}
		return Lost, true
	case kind == evSyn && code == synReport:
		d.until = false
		return 0, false
	case kind != evKey || d.until:
		return 0, false
	}
	held := value != keyRelease
	switch code {
	case keyShiftL:
		d.shift[0] = held
	case keyShiftR:
		d.shift[1] = held
	case keyCtrlL:
		d.ctrl[0] = held
	case keyCtrlR:
		d.ctrl[1] = held
	case 56, 100, 125, 126: // Alt, AltGr, Meta
		d.modifierHeld = held
	case 58, 69, 70: // locks: a device that types presses Shift itself
	default:
		if value != keyPress { // released, or held so long that it repeats
			return 0, false
		}
		return d.char(code), true
	}
	return 0, false
}

func (d *Decoder) char(code uint16) byte {
	if code == keyEnter || code == keyKPEnter {
		return '\r'
	}
	k, ok := keys[code]
	if !ok || d.modifierHeld {
		return Lost
	}
	c := k[0]
	if d.shift[0] || d.shift[1] {
		c = k[1]
	}
	if d.ctrl[0] || d.ctrl[1] { // Ctrl-] is GS, as scanners type it
		c &= 0x1F
	}
	return c
}

// keys are the characters of a US keyboard, without and with Shift.
var keys = func() map[uint16][2]byte {
	m := map[uint16][2]byte{15: {'\t', '\t'}, 57: {' ', ' '}, 41: {'`', '~'}, 43: {'\\', '|'}}
	row := func(from uint16, plain, shift string) {
		for i := range len(plain) {
			m[from+uint16(i)] = [2]byte{plain[i], shift[i]} //nolint:gosec // a row of keys
		}
	}
	row(2, "1234567890-=", "!@#$%^&*()_+")
	row(16, "qwertyuiop[]", "QWERTYUIOP{}")
	row(30, "asdfghjkl;'", "ASDFGHJKL:\"")
	row(44, "zxcvbnm,./", "ZXCVBNM<>?")
	row(71, "789-456+1230.", "789-456+1230.") // keypad
	m[55], m[98] = [2]byte{'*', '*'}, [2]byte{'/', '/'}
	return m
}()
