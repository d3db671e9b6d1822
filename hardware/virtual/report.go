package virtual

import "bytes"

// HID reports of 64 bytes: an id, 63 bytes of a frame. Ids: 1 it is all, 2 the first, 3 one between, 4 the last.

// unpack takes a report that was heard, and gives the frame that is whole with it.
func (r *Reader) unpack(report []byte) []byte {
	bad := func() []byte {
		r.seen.BadIn++
		r.parts = nil
		return nil
	}
	if len(report) != 64 {
		return bad()
	}
	begun := r.parts != nil
	switch id := report[0]; {
	case id == 1 && !begun:
		return bytes.Clone(report[1:])
	case id == 2 && !begun, id == 3 && begun:
		r.parts = append(r.parts, report[1:]...)
		return nil
	case id == 4 && begun:
		whole := append(r.parts, report[1:]...)
		r.parts = nil
		return whole
	}
	return bad()
}

// send says bytes, in reports where it speaks those.
func (r *Reader) send(b []byte) {
	if !r.cfg.HID {
		_ = r.port.write(b)
		return
	}
	n := (len(b) + 62) / 63
	for i := range n {
		report := make([]byte, 64)
		copy(report[1:], b[i*63:])
		switch {
		case n == 1:
			report[0] = 1
		case i == 0:
			report[0] = 2
		case i == n-1:
			report[0] = 4
		default:
			report[0] = 3
		}
		_ = r.port.write(report)
	}
}
