package payment

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"coinop/protocol"
)

// Anchors makes and judges anchors of cloud time. They need no table: an anchor's id is 48 bits of
// cloud milliseconds and 80 bits of HMAC-SHA-256 over the device and them, under a key all replicas
// share, so that any replica can say when one was given and to whom.
type Anchors struct{ Key []byte }

// Make is the id of an anchor given to a device now.
func (a Anchors) Make(d protocol.DeviceID, now protocol.UnixMS) protocol.AnchorID {
	var id protocol.AnchorID
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now))
	copy(id[:6], ms[2:])
	m := hmac.New(sha256.New, a.Key)
	m.Write(id[:6])
	m.Write([]byte(d))
	copy(id[6:], m.Sum(nil))
	return id
}

// Time is when an anchor was given to the device; false when it was not.
func (a Anchors) Time(d protocol.DeviceID, id protocol.AnchorID) (protocol.UnixMS, bool) {
	var ms [8]byte
	copy(ms[2:], id[:6])
	at := protocol.UnixMS(binary.BigEndian.Uint64(ms[:]))
	want := a.Make(d, at)
	return at, hmac.Equal(want[:], id[:])
}
