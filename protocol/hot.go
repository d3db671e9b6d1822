package protocol

import (
	"bytes"
	"fmt"
)

// The messages of an authorization are encoded by hand where a cloud encodes them, to the same bytes as Encode makes
// of them: TestRows of cloud/payment compares both, field by field.

// DecodeAsk is DecodeExact of an Ask.
func DecodeAsk(b []byte) (a Ask, err error) {
	if err := Decode(b, &a); err != nil {
		return a, err
	}
	if !bytes.Equal(a.encode(), b) {
		return a, fmt.Errorf("%w: %T is not in the deterministic encoding", ErrDecode, a)
	}
	return a, nil
}

func (a Ask) encode() []byte {
	var f Fields
	f.Uint(1, uint64(a.V))
	f.Text(2, string(a.Device))
	f.Bytes(3, a.Sale[:])
	f.Bytes(4, a.Payment[:])
	if !a.Prior.IsZero() {
		f.Bytes(5, a.Prior[:])
	}
	f.Uint(6, uint64(a.Lane))
	f.Uint(7, uint64(a.Class))
	f.Uint(8, uint64(a.AuthorizedBy))
	if a.Traceparent != "" {
		f.Text(9, a.Traceparent)
	}
	f.Uint(10, uint64(a.Purpose))
	f.Amount(11, a.Amount)
	f.Bytes(12, a.Lines[:])
	f.Encoded(13, a.Tap.encode())
	f.Blob(14, a.Sealed)
	f.Bytes(15, a.Anchor[:])
	f.Int(16, a.SinceAnchorMS)
	f.Uint(17, uint64(a.WaitMS))
	f.Uint(18, a.PolicyVersion)
	if a.Bus != 0 {
		f.Uint(19, uint64(a.Bus))
	}
	return f.Map()
}

func (t Tap) encode() []byte {
	f := Fields{Size: 96}
	f.Uint(1, uint64(t.Entry))
	if t.CVM != 0 {
		f.Uint(2, uint64(t.CVM))
	}
	for i, s := range []string{t.Capability, t.Reader} {
		if s != "" {
			f.Text(uint64(3+i), s) //nolint:gosec // an index
		}
	}
	if len(t.Keys) > 0 {
		f.Encoded(5, AppendTexts(nil, t.Keys))
	}
	for i, s := range []string{t.Brand, t.Last4} {
		if s != "" {
			f.Text(uint64(6+i), s) //nolint:gosec // an index
		}
	}
	f.Text(8, t.LocalTime)
	f.Int(9, int64(t.UTCOffset))
	return f.Map()
}

// Encode is the response as it is stored and sent.
func (r AuthorizationResponse) Encode() []byte {
	var f Fields
	f.Uint(1, uint64(r.V))
	f.Text(2, string(r.Device))
	f.Bytes(3, r.Payment[:])
	f.Bytes(4, r.AskHash[:])
	f.Uint(5, uint64(r.Result))
	if r.Code != 0 {
		f.Uint(6, uint64(r.Code))
	}
	f.Amount(7, r.Approved)
	if r.RRN != "" {
		f.Text(8, r.RRN)
	}
	if r.AuthID != "" {
		f.Text(9, r.AuthID)
	}
	if len(r.ICC) > 0 {
		f.Blob(10, r.ICC)
	}
	if len(r.HostRef) > 0 {
		f.Blob(11, r.HostRef)
	}
	if r.ReleaseAt != 0 {
		f.Int(12, int64(r.ReleaseAt))
	}
	f.Bytes(13, r.Answer[:])
	f.Int(14, int64(r.Cloud))
	if r.KeyID != "" {
		f.Text(15, r.KeyID)
	}
	return f.Map()
}

// Encode is the message as it is sealed.
func (m Auth) Encode() []byte {
	var f Fields
	f.Uint(1, uint64(m.T))
	if m.Body == nil {
		m.Body = Raw{0xf6}
	}
	f.Encoded(2, m.Body)
	return f.Map()
}

// Encode is what a card is bound to.
func (c CardAAD) Encode() []byte {
	f := Fields{Size: 128}
	f.Text(1, string(c.Device))
	f.Bytes(2, c.Epoch[:])
	f.Bytes(3, c.Sale[:])
	f.Bytes(4, c.Payment[:])
	f.Amount(5, c.Amount)
	return f.Map()
}
