package protocol

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// ID is a UUID (RFC 9562) of one kind of thing; the phantom type T keeps a SaleID from being
// passed where a PaymentID is meant. Ids are minted by the agent's shell before they are used and
// are the idempotency keys of everything that follows.
type ID[T any] [16]byte

type (
	saleTag    struct{}
	paymentTag struct{}
	vendTag    struct{}
	refundTag  struct{}
	caseTag    struct{}
	answerTag  struct{}
	anchorTag  struct{}
	bootTag    struct{}
	epochTag   struct{}
	leaseTag   struct{}
	nonceTag   struct{}
)

// SaleID names one purchase on one lane; PaymentID one presentation of one instrument for one
// amount; VendID the delivery of one item; CaseID an open question about one sale's money.
// AnswerID is the cloud's, one an answer; AnchorID names a moment of cloud time; BootID one run
// of the agent; Epoch one life of a device's journal.
type (
	SaleID    = ID[saleTag]
	PaymentID = ID[paymentTag]
	VendID    = ID[vendTag]
	RefundID  = ID[refundTag]
	CaseID    = ID[caseTag]
	AnswerID  = ID[answerTag]
	AnchorID  = ID[anchorTag]
	BootID    = ID[bootTag]
	Epoch     = ID[epochTag]
	LeaseID   = ID[leaseTag]
	Nonce     = ID[nonceTag]
)

// NewID makes a UUIDv7 (RFC 9562 section 5.7) from a Unix time and ten random bytes.
func NewID[T any](ms UnixMS, random [10]byte) ID[T] {
	var id ID[T]
	for i := range 6 {
		id[i] = byte(uint64(ms) >> (40 - 8*i))
	}
	copy(id[6:], random[:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ParseID reads the form String prints.
func ParseID[T any](s string) (ID[T], error) {
	var id ID[T]
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, fmt.Errorf("id %q: want 8-4-4-4-12 hex digits", s)
	}
	b, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	if err != nil {
		return id, fmt.Errorf("id %q: %w", s, err)
	}
	return ID[T](b), nil
}

// IsZero reports whether no id was given.
func (id ID[T]) IsZero() bool { return id == ID[T]{} }

// String prints the id as 8-4-4-4-12 hex digits.
func (id ID[T]) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// MarshalText and UnmarshalText carry ids through JSON and flags.
func (id ID[T]) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (id *ID[T]) UnmarshalText(b []byte) (err error) { *id, err = ParseID[T](string(b)); return err }

// MarshalCBOR writes a 16 byte string.
func (id ID[T]) MarshalCBOR() ([]byte, error) { return append([]byte{0x50}, id[:]...), nil }

// UnmarshalCBOR accepts a byte string of exactly 16 bytes.
func (id *ID[T]) UnmarshalCBOR(b []byte) error {
	if len(b) != 17 || b[0] != 0x50 {
		return errors.New("id: want a 16 byte string")
	}
	copy(id[:], b[1:])
	return nil
}

// Hash is a SHA-256.
type Hash [32]byte

// IsZero reports whether no hash was given.
func (h Hash) IsZero() bool { return h == Hash{} }

// String prints 64 hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText carries a hash through JSON.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// MarshalCBOR writes a 32 byte string.
func (h Hash) MarshalCBOR() ([]byte, error) { return append([]byte{0x58, 0x20}, h[:]...), nil }

// UnmarshalCBOR accepts a byte string of exactly 32 bytes.
func (h *Hash) UnmarshalCBOR(b []byte) error {
	if len(b) != 34 || b[0] != 0x58 || b[1] != 0x20 {
		return errors.New("hash: want a 32 byte string")
	}
	copy(h[:], b[2:])
	return nil
}

// DeviceID names one agent: certificate CN, MQTT client id and user name are all this string.
// Never the asset label of the machine.
type DeviceID string

// ErrDeviceID means a device id is not a DNS label in lower case.
var ErrDeviceID = errors.New("device id: want 1 to 63 of a-z, 0-9 and -, not at the ends")

// Check returns ErrDeviceID for a name that cannot be a device's.
func (d DeviceID) Check() error { // by hand: every message of every device comes by here
	for i := range len(d) {
		c := d[i]
		inside := i > 0 && i < len(d)-1
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || !inside) {
			return ErrDeviceID
		}
	}
	if len(d) < 1 || len(d) > 63 {
		return ErrDeviceID
	}
	return nil
}

// Lane is a place on a device where one buyer at a time can buy; 0 where there is one.
type Lane uint8

// Outlet is where an item comes out of a lane's vending side: a slot (the MDB item number), a
// washer, a relay. OutletAny is MDB's FFFF, item not known.
type Outlet uint16

// OutletAny is an item number the vending controller did not tell (MDB/ICP 4.2, 7.4.8: FFFFh).
const OutletAny Outlet = 0xFFFF

// Seq counts the records of one epoch from 1. 0 is before the first.
type Seq uint64
