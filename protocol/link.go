package protocol

import (
	"encoding/binary"
	"fmt"
)

// Link is what ties a record to the one before it.
type Link struct {
	Device   DeviceID
	Position Position
	Prev     Hash
}

// RecordLink reads a record's link and no more: a tenth of OpenRecord's work. What follows the link is held by
// the record's hash, which the next record names, or a head: where that fits, the bytes are those that
// SealRecord made. Errors wrap ErrDecode.
func RecordLink(b []byte) (Link, error) {
	// Deterministic encoding: a map whose first keys are 1 to 5, each head as short as can be.
	r := links{b: b}
	var l Link
	r.wants(r.head(majorMap) >= 5)
	r.key(1)
	r.wants(r.head(majorUint) == Version)
	r.key(2)
	l.Device = DeviceID(r.bytes(majorText))
	r.key(3)
	r.wants(copy(l.Position.Epoch[:], r.bytes(majorBytes)) == len(l.Position.Epoch))
	r.key(4)
	l.Position.Seq = Seq(r.head(majorUint))
	r.key(5)
	r.wants(copy(l.Prev[:], r.bytes(majorBytes)) == len(l.Prev))
	r.key(6)
	if r.bad || l.Position.Seq == 0 || l.Device.Check() != nil {
		return Link{}, fmt.Errorf("%w: a record's link", ErrDecode)
	}
	l.Position.Hash = HashBytes(b)
	return l, nil
}

// Major types of CBOR (RFC 8949, 3.1).
const (
	majorUint  = 0
	majorBytes = 2
	majorText  = 3
	majorMap   = 5
)

// links reads heads and strings of CBOR. After what it did not want, it reads nothing.
type links struct {
	b   []byte
	bad bool
}

func (r *links) wants(ok bool) {
	if !ok {
		r.b, r.bad = nil, true
	}
}

// head is the argument of the next item, which is of a major type.
func (r *links) head(major byte) uint64 {
	if r.wants(len(r.b) > 0 && r.b[0]>>5 == major); r.bad {
		return 0
	}
	info := r.b[0] & 0x1F
	if r.b = r.b[1:]; info < 24 {
		return uint64(info)
	}
	size := 1 << (info - 24)
	if r.wants(info < 28 && len(r.b) >= size); r.bad {
		return 0
	}
	var wide [8]byte
	copy(wide[8-size:], r.b[:size])
	r.b = r.b[size:]
	n := binary.BigEndian.Uint64(wide[:])
	// As short as can be: it would not have fitted in half of it.
	r.wants(info == 24 && n >= 24 || info > 24 && n>>(4*size) != 0)
	return n
}

func (r *links) key(n uint64) { r.wants(r.head(majorUint) == n && !r.bad) }

// bytes are those of a string of a major type.
func (r *links) bytes(major byte) []byte {
	n := r.head(major)
	if r.wants(n <= uint64(len(r.b))); r.bad {
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}
