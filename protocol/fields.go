package protocol

import (
	"cmp"
	"encoding/binary"

	"coinop/protocol/money"
)

// Fields makes the encoding of a struct whose keys are small numbers, the same bytes as Encode makes of it, without
// reflection: for the rows of which every authorization writes several. Keys must come in ascending order. What
// is left out of a struct when it is zero must be left out by the caller.
//
//	var f protocol.Fields
//	f.Uint(1, uint64(p.State))
//	f.Text(2, p.Tenant)
//	body := f.Map()
type Fields struct {
	Size int // bytes that the whole will need, about; 0: a row's
	b    []byte
	n    uint64
}

// fieldsSize is what most rows need.
const fieldsSize = 640

func (f *Fields) key(k uint64) {
	if f.b == nil {
		f.b = make([]byte, maxHead, cmp.Or(f.Size, fieldsSize)) // room for the head, which is known last
	}
	f.b = AppendHead(f.b, 0, k)
	f.n++
}

// maxHead is the longest head of a map that has fewer than 256 entries.
const maxHead = 2

// AppendHead appends a head of CBOR: a major type and its argument in the fewest bytes, RFC 8949, 4.2.1.
func AppendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendInt(b []byte, v int64) []byte {
	if v < 0 {
		return AppendHead(b, 1, uint64(-(v + 1)))
	}
	return AppendHead(b, 0, uint64(v))
}

// Uint is an unsigned number.
func (f *Fields) Uint(k, v uint64) {
	f.key(k)
	f.b = AppendHead(f.b, 0, v)
}

// Int is a signed number.
func (f *Fields) Int(k uint64, v int64) {
	f.key(k)
	f.b = appendInt(f.b, v)
}

// Bool is true or false.
func (f *Fields) Bool(k uint64, v bool) {
	f.key(k)
	if v {
		f.b = append(f.b, 0xf5)
	} else {
		f.b = append(f.b, 0xf4)
	}
}

// Text is a string.
func (f *Fields) Text(k uint64, s string) {
	f.key(k)
	f.text(s)
}

func (f *Fields) text(s string) { f.b = append(AppendHead(f.b, 3, uint64(len(s))), s...) }

// Bytes are a byte string of a fixed size: an id, a hash.
func (f *Fields) Bytes(k uint64, v []byte) {
	f.key(k)
	f.b = append(AppendHead(f.b, 2, uint64(len(v))), v...)
}

// Blob is a byte string; nil is null.
func (f *Fields) Blob(k uint64, v []byte) {
	if v == nil {
		f.Encoded(k, []byte{0xf6})
		return
	}
	f.Bytes(k, v)
}

// Amount is money.
func (f *Fields) Amount(k uint64, a money.Amount) {
	f.key(k)
	f.b = appendInt(append(f.b, 0x82), a.Minor)
	f.b = AppendHead(f.b, 0, uint64(a.Currency))
}

// Position is a record's place.
func (f *Fields) Position(k uint64, p Position) {
	f.key(k)
	f.b = append(append(f.b, 0xa3, 0x01, 0x50), p.Epoch[:]...)
	f.b = AppendHead(append(f.b, 0x02), 0, uint64(p.Seq))
	f.b = append(append(f.b, 0x03, 0x58, 0x20), p.Hash[:]...)
}

// Encoded is a value that is encoded already.
func (f *Fields) Encoded(k uint64, v []byte) {
	f.key(k)
	f.b = append(f.b, v...)
}

// Map is the whole.
func (f *Fields) Map() []byte {
	if f.n == 0 {
		return []byte{0xa0}
	}
	if f.n < 24 {
		f.b[1] = 0xa0 | byte(f.n)
		return f.b[1:]
	}
	f.b[0], f.b[1] = 0xb8, byte(f.n)
	return f.b
}

// AppendTexts appends an array of strings, encoded.
func AppendTexts[T ~string](b []byte, all []T) []byte {
	b = AppendHead(b, 4, uint64(len(all)))
	for _, s := range all {
		b = append(AppendHead(b, 3, uint64(len(s))), s...)
	}
	return b
}
