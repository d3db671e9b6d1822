package iso8583

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrFrame means the length before a message is 0 or more than the dialect allows: the two ends
// have lost step and the connection is of no more use.
var ErrFrame = errors.New("frame length out of range")

// AppendFrame appends the length, 2 bytes big-endian without itself, and the packed message.
func (c *Codec) AppendFrame(dst []byte, m *Message) ([]byte, error) {
	start := len(dst)
	out, err := c.Pack(append(dst, 0, 0), m)
	if err != nil {
		return dst, err
	}
	binary.BigEndian.PutUint16(out[start:], uint16(len(out)-start-2))
	return out, nil
}

// ReadFrame reads one message's bytes into buf, growing it to at most MaxFrame. io.EOF is an end
// between messages, ErrFrame a length out of range.
func (c *Codec) ReadFrame(r io.Reader, buf []byte) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return buf[:0], err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n == 0 || n > c.maxFrame {
		return buf[:0], ErrFrame
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		return buf[:0], fmt.Errorf("read %d bytes: %w", n, io.ErrUnexpectedEOF)
	}
	return buf, nil
}
