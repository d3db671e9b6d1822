package card

import "errors"

// ErrTLV means bytes are not a sequence of BER-TLV data objects (EMV Book 3, annex B). It never
// holds the bytes.
var ErrTLV = errors.New("malformed BER-TLV")

// Tag is a BER-TLV tag of one to three bytes.
type Tag uint32

// Tags that carry card data in clear and never go into DE55, and those an issuer answers with.
const (
	TagTrack1Equiv   Tag = 0x56
	TagTrack2Equiv   Tag = 0x57
	TagPAN           Tag = 0x5A
	TagHolder        Tag = 0x5F20
	TagExpiry        Tag = 0x5F24
	TagTrack1Discr   Tag = 0x9F1F
	TagTrack2Discr   Tag = 0x9F20
	TagTrack2MSD     Tag = 0x9F6B
	TagIssuerScript1 Tag = 0x71
	TagIssuerScript2 Tag = 0x72
	TagIssuerAuth    Tag = 0x91
)

// EachTLV calls f with every data object of b at the outermost level: its tag, its value, and the
// whole of it. Values are parts of b. Padding bytes 00 and FF between objects are skipped; FF EE begins a
// tag: ID TECH's readers have tags of their own there.
func EachTLV(b []byte, f func(tag Tag, value, whole []byte)) error {
	for len(b) > 0 {
		if b[0] == 0x00 || b[0] == 0xFF && (len(b) == 1 || b[1] != 0xEE) {
			b = b[1:]
			continue
		}
		tag, n := Tag(b[0]), 1
		if b[0]&0x1F == 0x1F {
			for {
				if n == len(b) || n == 3 {
					return ErrTLV
				}
				tag = tag<<8 | Tag(b[n])
				n++
				if b[n-1]&0x80 == 0 {
					break
				}
			}
		}
		if n == len(b) {
			return ErrTLV
		}
		size := int(b[n])
		n++
		if size >= 0x80 {
			octets := size & 0x7F
			if octets == 0 || octets > 2 || n+octets > len(b) {
				return ErrTLV
			}
			size = 0
			for range octets {
				size = size<<8 | int(b[n])
				n++
			}
		}
		if size > len(b)-n {
			return ErrTLV
		}
		f(tag, b[n:n+size], b[:n+size])
		b = b[n+size:]
	}
	return nil
}
