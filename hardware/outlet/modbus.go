package outlet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Functions that relay boards understand (MODBUS Application Protocol V1.1b3, section 6).
const (
	readCoils     = 0x01 // 6.1: relays
	readInputs    = 0x02 // 6.2
	writeCoil     = 0x05 // 6.5
	writeCoils    = 0x0F // 6.11
	exceptionFlag = 0x80 // section 7
)

// flash is added to a coil's address in function 05: the relay goes on, and the board switches it off by
// itself after value x 100 ms, up to 7FFFh (Waveshare Modbus RTU Relay, "Control Single Relay ... flash").
// It is not in the MODBUS standard; boards of other makers often have it too [believed].
const (
	flash     = 0x0200
	flashUnit = 100 * time.Millisecond
	flashMost = 0x7FFF
)

// maxFrame bounds a frame: MODBUS over Serial Line V1.02, 2.5.1 says 256.
const maxFrame = 256

// maxBits is how many relays, and how many inputs, one board has here.
const maxBits = 32

// Exception is a board's answer that it did not do what it was told (section 7): nothing was switched.
type Exception byte

func (e Exception) Error() string {
	names := map[Exception]string{1: "illegal function", 2: "illegal data address: has the board so many relays and inputs?", 3: "illegal data value", 4: "device failure", 6: "device busy"}
	if n := names[e]; n != "" {
		return fmt.Sprintf("the board says no (%d): %s", byte(e), n)
	}
	return fmt.Sprintf("the board says no (%d)", byte(e))
}

// Request is one thing a board is told. At is the first relay or input, from 0. Flash and Value are of
// function 05, Value (1: on) and Bits of 05 and 0F.
type Request struct {
	Address  byte
	Function byte
	At       uint16
	Count    uint16        // of relays or inputs: 01, 02, 0F
	Flash    time.Duration // 05: on for so long
	Bits     uint32        // 0F: bit 0 is At; 05: 1 is on
}

var errFrame = errors.New("not a frame")

// crc is CRC-16 with the polynomial A001h, from FFFFh, low byte first (MODBUS over Serial Line, 6.2.2).
func crc(b []byte) uint16 {
	c := uint16(0xFFFF)
	for _, x := range b {
		c ^= uint16(x)
		for range 8 {
			c, x = c>>1, byte(c&1)
			if x != 0 {
				c ^= 0xA001
			}
		}
	}
	return c
}

func sealed(b []byte) []byte { return binary.LittleEndian.AppendUint16(b, crc(b)) }

func opened(b []byte) ([]byte, bool) {
	if len(b) < 4 || len(b) > maxFrame || crc(b[:len(b)-2]) != binary.LittleEndian.Uint16(b[len(b)-2:]) {
		return nil, false
	}
	return b[:len(b)-2], true
}

// Append adds r's frame.
func (r Request) Append(b []byte) []byte {
	f := []byte{r.Address, r.Function}
	switch r.Function {
	case writeCoil:
		at, value := r.At, uint16(0)
		switch {
		case r.Flash > 0:
			at, value = at+flash, uint16(min(max(r.Flash/flashUnit, 1), flashMost)) //nolint:gosec // bounded
		case r.Bits&1 != 0:
			value = 0xFF00
		}
		f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, at), value)
	case writeCoils:
		f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, r.At), r.Count)
		n := bytesFor(r.Count)
		f = append(f, byte(n))
		f = append(f, binary.LittleEndian.AppendUint32(nil, r.Bits)[:n]...)
	default:
		f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, r.At), r.Count)
	}
	return append(b, sealed(f)...)
}

func bytesFor(count uint16) int { return (min(int(count), maxBits) + 7) / 8 }

// ParseRequest reads a whole frame to a board.
func ParseRequest(b []byte) (Request, error) {
	f, ok := opened(b)
	if !ok || len(f) < 6 {
		return Request{}, errFrame
	}
	r := Request{Address: f[0], Function: f[1], At: binary.BigEndian.Uint16(f[2:])}
	value := binary.BigEndian.Uint16(f[4:])
	switch r.Function {
	case readCoils, readInputs:
		r.Count = value
		if len(f) != 6 || r.Count == 0 || r.Count > maxBits {
			return Request{}, errFrame
		}
	case writeCoil:
		switch {
		case len(f) != 6:
			return Request{}, errFrame
		case r.At >= flash && r.At < flash+maxBits && value > 0 && value <= flashMost:
			r.At, r.Flash = r.At-flash, time.Duration(value)*flashUnit
		case r.At < maxBits && value == 0xFF00:
			r.Bits = 1
		case r.At >= maxBits || value != 0:
			return Request{}, errFrame
		}
	case writeCoils:
		r.Count = value
		n := bytesFor(value)
		if value == 0 || value > maxBits || len(f) != 7+n || int(f[6]) != n {
			return Request{}, errFrame
		}
		var bits [4]byte
		copy(bits[:], f[7:])
		r.Bits = binary.LittleEndian.Uint32(bits[:]) & mask(value)
	default:
		return Request{}, errFrame
	}
	return r, nil
}

func mask(count uint16) uint32 {
	if count >= maxBits {
		return 0xFFFFFFFF
	}
	return 1<<count - 1
}

// AppendAnswer adds the answer of a board that did what r says; bits are what it read.
func (r Request) AppendAnswer(b []byte, bits uint32) []byte {
	f := []byte{r.Address, r.Function}
	switch r.Function {
	case readCoils, readInputs:
		n := bytesFor(r.Count)
		f = append(f, byte(n))
		f = append(f, binary.LittleEndian.AppendUint32(nil, bits&mask(r.Count))[:n]...)
	case writeCoils:
		f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, r.At), r.Count)
	default: // 05 is answered with its own bytes
		return r.Append(b)
	}
	return append(b, sealed(f)...)
}

// AppendException adds the answer of one that did not.
func (r Request) AppendException(b []byte, e Exception) []byte {
	return append(b, sealed([]byte{r.Address, r.Function | exceptionFlag, byte(e)})...)
}

// Find looks for the answer to r anywhere in b, over noise and what answers something else. n is how
// many bytes are used up; 0: it is not there yet. err is an Exception.
func (r Request) Find(b []byte) (bits uint32, n int, err error) {
	for i := range b {
		if b[i] != r.Address || i+1 >= len(b) {
			continue
		}
		want := 8
		switch {
		case b[i+1] == r.Function|exceptionFlag:
			want = 5
		case b[i+1] != r.Function:
			continue
		case r.Function == readCoils || r.Function == readInputs:
			want = 5 + bytesFor(r.Count)
		}
		if i+want > len(b) {
			continue
		}
		f, ok := opened(b[i : i+want])
		switch {
		case !ok:
		case want == 5:
			return 0, i + want, Exception(f[2])
		case r.Function == readCoils || r.Function == readInputs:
			if int(f[2]) != bytesFor(r.Count) {
				continue
			}
			var four [4]byte
			copy(four[:], f[3:])
			return binary.LittleEndian.Uint32(four[:]) & mask(r.Count), i + want, nil
		case string(b[i:i+want]) == string(r.AppendAnswer(nil, 0)):
			return 0, i + want, nil
		}
	}
	return 0, 0, nil
}
