package vivopay

import (
	"bytes"
	"errors"
)

// Protocol 2 of ViVOpay readers (ID TECH, NEO 2 Interface Developer's Guide, "Protocol 2"):
//
//	command   "ViVOtech2" 00  cmd  sub     length (MSB first)  data  CRC (LSB first)
//	response  "ViVOtech2" 00  cmd  status  length (MSB first)  data  CRC (MSB first)
//
// The CRC is CRC-16/CCITT-FALSE (polynomial 1021, start FFFF) of all before it.
const (
	header  = "ViVOtech2\x00"
	prefix  = len(header) + 4
	dataMax = 4096 // the longest known answer is under 2,000
)

// Frame is a command (Sub) or a response (its status in Sub).
type Frame struct {
	Cmd, Sub byte
	Data     []byte
}

// Why bytes are not a frame.
var (
	ErrCRC    = errors.New("bad CRC")
	ErrLength = errors.New("frame too long")
)

// Command is a command's bytes.
func Command(cmd, sub byte, data ...byte) []byte {
	b := body(cmd, sub, data)
	c := crc(b)
	return append(b, byte(c), byte(c>>8))
}

// Response is a response's bytes.
func Response(f Frame) []byte {
	b := body(f.Cmd, f.Sub, f.Data)
	c := crc(b)
	return append(b, byte(c>>8), byte(c))
}

func body(cmd, sub byte, data []byte) []byte {
	b := append(make([]byte, 0, prefix+len(data)+2), header...)
	b = append(b, cmd, sub, byte(len(data)>>8), byte(len(data)))
	return append(b, data...)
}

var table = func() (t [256]uint16) {
	for i := range t {
		c := uint16(i) << 8 //nolint:gosec // under 256
		for range 8 {
			if c&0x8000 != 0 {
				c = c<<1 ^ 0x1021
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()

func crc(b []byte) uint16 {
	c := uint16(0xFFFF)
	for _, x := range b {
		c = c<<8 ^ table[byte(c>>8)^x]
	}
	return c
}

// Decoder finds responses in a stream. What is not a frame is skipped to the next header and
// counted, but for 00, which reports are filled up with; a frame with a bad CRC is given with ErrCRC, so that its answer is not waited for.
type Decoder struct {
	buf     []byte
	Skipped int
}

// Add takes bytes.
func (d *Decoder) Add(b []byte) { d.buf = append(d.buf, b...) }

// Pending reports that part of a frame waits for its rest.
func (d *Decoder) Pending() bool { return len(d.buf) > 0 }

// Drop forgets the part of a frame whose rest did not come, and clears it.
func (d *Decoder) Drop() {
	d.Skipped += len(d.buf)
	clear(d.buf[:cap(d.buf)])
	d.buf = d.buf[:0]
}

// Next is the next frame; ok is false when there is none yet. Frame.Data is the caller's.
func (d *Decoder) Next() (f Frame, ok bool, err error) {
	i := bytes.Index(d.buf, []byte(header))
	if i < 0 {
		// keep what may be the start of a header
		keep := 0
		for n := min(len(header)-1, len(d.buf)); n > 0; n-- {
			if bytes.HasSuffix(d.buf, []byte(header[:n])) {
				keep = n
				break
			}
		}
		d.cut(len(d.buf)-keep, true)
		return Frame{}, false, nil
	}
	d.cut(i, true)
	if len(d.buf) < prefix {
		return Frame{}, false, nil
	}
	n := int(d.buf[prefix-2])<<8 | int(d.buf[prefix-1])
	if n > dataMax {
		d.cut(len(header), true)
		return Frame{}, true, ErrLength
	}
	end := prefix + n + 2
	if len(d.buf) < end {
		return Frame{}, false, nil
	}
	c := crc(d.buf[:end-2])
	if byte(c>>8) != d.buf[end-2] || byte(c) != d.buf[end-1] {
		// The length may be what is wrong: look again right after this header.
		f = Frame{Cmd: d.buf[prefix-4]}
		d.cut(len(header), true)
		return f, true, ErrCRC
	}
	f = Frame{Cmd: d.buf[prefix-4], Sub: d.buf[prefix-3], Data: append([]byte(nil), d.buf[prefix:end-2]...)}
	d.cut(end, false)
	return f, true, nil
}

// cut drops n bytes from the front and clears the room behind: it may have held a card.
func (d *Decoder) cut(n int, skipped bool) {
	if n <= 0 {
		return
	}
	if skipped {
		d.Skipped += n - bytes.Count(d.buf[:n], []byte{0})
	}
	rest := copy(d.buf, d.buf[n:])
	clear(d.buf[rest:])
	d.buf = d.buf[:rest]
}
