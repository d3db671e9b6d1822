package protocol

import (
	"errors"
	"fmt"
)

// ErrFrame means that a packet was announced longer than any we accept.
var ErrFrame = errors.New("packet too long")

// Frames follows a stream of MQTT packets by their announced lengths (MQTT 3.1.1, section 2.2.3), for
// a reader that would allocate whatever a packet announces. The zero value is at the stream's begin.
type Frames struct {
	left int // bytes of the packet being passed on
	head []byte
}

// Follow takes the next bytes of the stream, in pieces of any size. ErrFrame: a packet is longer than
// most bytes behind its fixed header.
func (f *Frames) Follow(p []byte, most int) error {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left, p = f.left-n, p[n:]
			continue
		}
		f.head, p = append(f.head, p[0]), p[1:]
		if len(f.head) < 2 || (f.head[len(f.head)-1]&0x80 != 0 && len(f.head) < 5) {
			continue
		}
		length := 0
		for i, d := range f.head[1:] {
			length |= int(d&0x7f) << (7 * i)
		}
		if length > most || f.head[len(f.head)-1]&0x80 != 0 {
			return fmt.Errorf("%w: %d bytes announced, at most %d", ErrFrame, length, most)
		}
		f.left, f.head = length, f.head[:0]
	}
	return nil
}
