package pn532

import (
	"bytes"
	"errors"
)

// Frames between host and chip (PN532 User Manual UM0701-02, 6.2.1):
//
//	normal    00 00 FF  LEN LCS                TFI data...  DCS 00    LEN+LCS = 0, LEN counts TFI
//	extended  00 00 FF  FF FF LENM LENL LCS    TFI data...  DCS 00
//	ACK       00 00 FF  00 FF 00
//	NACK      00 00 FF  FF 00 00
//	error     00 00 FF  01 FF 7F 81 00
//
// TFI is D4 from the host and D5 from the chip; the bytes from TFI to DCS sum up to 0.
const (
	tfiHost  = 0xD4
	tfiChip  = 0xD5
	tfiError = 0x7F
	dataMax  = 265 // TFI, command and 263 bytes (7.3.8, InDataExchange, with its status)
)

// Kind is what a frame is.
type Kind uint8

// Kinds of a frame.
const (
	Information Kind = iota + 1
	ACK
	NACK
	Error // the chip's word that it did not understand the command's syntax
)

// Frame is one; Data begins with the command (from the chip: plus 1), and is empty where it is not Information.
type Frame struct {
	Kind Kind
	TFI  byte
	Data []byte
}

// Why bytes are no frame.
var (
	ErrSum    = errors.New("bad checksum")
	ErrLength = errors.New("frame too long")
)

var (
	ackFrame  = []byte{0x00, 0x00, 0xFF, 0x00, 0xFF, 0x00}
	nackFrame = []byte{0x00, 0x00, 0xFF, 0xFF, 0x00, 0x00}
	// wakeUp is what a chip in low power needs before the first frame on a UART (7.2.11).
	wakeUp = append([]byte{0x55, 0x55}, make([]byte, 14)...)
	start  = []byte{0x00, 0xFF}
)

// Encode is a frame's bytes; what is over 255 bytes is extended.
func Encode(f Frame) []byte {
	switch f.Kind {
	case ACK:
		return bytes.Clone(ackFrame)
	case NACK:
		return bytes.Clone(nackFrame)
	case Error:
		return []byte{0x00, 0x00, 0xFF, 0x01, 0xFF, tfiError, 0x81, 0x00}
	case Information:
	}
	n := len(f.Data) + 1
	b := []byte{0x00, 0x00, 0xFF}
	if n > 255 {
		b = append(b, 0xFF, 0xFF, byte(n>>8), byte(n), -(byte(n>>8) + byte(n)))
	} else {
		b = append(b, byte(n), -byte(n))
	}
	b = append(append(b, f.TFI), f.Data...)
	return append(b, -(f.TFI + sum(f.Data)), 0x00)
}

func sum(b []byte) (s byte) {
	for _, x := range b {
		s += x
	}
	return s
}

// Decoder finds frames in a stream. Zeros between them are theirs; what else is no frame is counted. A frame
// with a bad checksum is given with ErrSum, so that it can be asked for again.
type Decoder struct {
	buf     []byte
	Skipped int
}

// Add takes bytes.
func (d *Decoder) Add(b []byte) { d.buf = append(d.buf, b...) }

// Pending reports that part of a frame waits for its rest.
func (d *Decoder) Pending() bool { return len(d.buf) > 1 || len(d.buf) == 1 && d.buf[0] != 0 }

// Drop forgets the part of a frame whose rest did not come.
func (d *Decoder) Drop() { d.skip(len(d.buf)) }

// Next is the next frame; ok is false when there is none yet. Frame.Data is the caller's.
func (d *Decoder) Next() (f Frame, ok bool, err error) {
	i := bytes.Index(d.buf, start)
	if i < 0 {
		n := len(d.buf)
		if n > 0 && d.buf[n-1] == start[0] {
			n--
		}
		d.skip(n)
		return Frame{}, false, nil
	}
	d.skip(i)
	b := d.buf[2:]
	if len(b) < 2 {
		return Frame{}, false, nil
	}
	switch {
	case b[0] == 0x00 && b[1] == 0xFF:
		d.cut(4)
		return Frame{Kind: ACK}, true, nil
	case b[0] == 0xFF && b[1] == 0x00:
		d.cut(4)
		return Frame{Kind: NACK}, true, nil
	}
	n, head, lcs := int(b[0]), 2, b[0]+b[1]
	if b[0] == 0xFF && b[1] == 0xFF {
		if len(b) < 5 {
			return Frame{}, false, nil
		}
		n, head, lcs = int(b[2])<<8|int(b[3]), 5, b[2]+b[3]+b[4]
	}
	if lcs != 0 || n == 0 {
		d.skip(2)
		return Frame{}, true, ErrSum
	}
	if n > dataMax {
		d.skip(2)
		return Frame{}, true, ErrLength
	}
	if len(b) < head+n+1 {
		return Frame{}, false, nil
	}
	body := b[head : head+n]
	if sum(body)+b[head+n] != 0 {
		d.skip(2) // the length may be what is wrong: look again right after this start
		return Frame{}, true, ErrSum
	}
	f = Frame{Kind: Information, TFI: body[0], Data: bytes.Clone(body[1:])}
	if n == 1 && f.TFI == tfiError {
		f = Frame{Kind: Error}
	}
	d.cut(2 + head + n + 1)
	return f, true, nil
}

// skip drops n bytes that are no frame.
func (d *Decoder) skip(n int) {
	for _, x := range d.buf[:n] {
		if x != 0 {
			d.Skipped++
		}
	}
	d.cut(n)
}

// cut drops n bytes from the front and clears the room behind: it may have held a card.
func (d *Decoder) cut(n int) {
	rest := copy(d.buf, d.buf[n:])
	clear(d.buf[rest:])
	d.buf = d.buf[:rest]
}
