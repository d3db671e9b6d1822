package virtual

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// typed is what the kernel says of a device that types a text on a US keyboard, ended by Enter where there is
// a '\r': struct input_event, a key pressed and released in a report of each. Containers have no uinput; a
// pty carries the same bytes.
func typed(text string) (out []byte) {
	report := func(code, value int) {
		out = event(out, 1, code, value)
		out = event(out, 0, 0, 0)
	}
	for _, c := range text {
		code, shift, ok := keyOf(c)
		if !ok {
			continue // no such key
		}
		if shift {
			report(42, 1)
		}
		report(code, 1)
		report(code, 0)
		if shift {
			report(42, 0)
		}
	}
	return out
}

func event(b []byte, kind, code, value int) []byte {
	b = append(b, make([]byte, 2*strconv.IntSize/8)...)       // the time: nobody looks
	b = binary.LittleEndian.AppendUint16(b, uint16(kind))     //nolint:gosec // small
	b = binary.LittleEndian.AppendUint16(b, uint16(code))     //nolint:gosec // small
	return binary.LittleEndian.AppendUint32(b, uint32(value)) //nolint:gosec // small
}

// usKeys are keys by number, from KEY_1 on: what they type, and with Shift.
const (
	usKeys  = "1234567890-=\x00\x00qwertyuiop[]\r\x00asdfghjkl;'`\x00\\zxcvbnm,./\x00\x00\x00 "
	usShift = "!@#$%^&*()_+\x00\x00QWERTYUIOP{}\x00\x00ASDFGHJKL:\"~\x00|ZXCVBNM<>?\x00\x00\x00\x00"
)

func keyOf(c rune) (code int, shift, ok bool) {
	if c == 0 {
		return 0, false, false
	}
	if i := strings.IndexRune(usKeys, c); i >= 0 {
		return i + 2, false, true
	}
	if i := strings.IndexRune(usShift, c); i >= 0 {
		return i + 2, true, true
	}
	return 0, false, false
}
