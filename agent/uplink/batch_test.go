package uplink

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"coinop/agent/journal"
	"coinop/protocol"
	"coinop/protocol/seal"
)

// A batch holds what the journal holds, in order, with the blobs of its offline payments; it is
// signed over its topic, and its bytes stay below the limit.
func TestBuild(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.OpenMem(journal.NewDisk(), journal.Options{Device: "m1", NewEpoch: func() protocol.Epoch { return protocol.Epoch{1} }})
	if err != nil {
		t.Fatal(err)
	}
	pay := protocol.PaymentID{5}
	big := protocol.Record{Body: protocol.DeviceEvent{Code: "x", Detail: string(bytes.Repeat([]byte{'a'}, 40<<10))}}
	if _, err := j.Append([]protocol.Record{
		{Body: protocol.OfflineAccepted{Payment: pay}}, big, big, big,
	}, []protocol.Blob{{Payment: pay, Sealed: []byte("card")}}); err != nil {
		t.Fatal(err)
	}
	signer := seal.Signer{Key: key, KeyID: "0a"}
	open := func(u Upload) (protocol.Batch, protocol.Journal, protocol.Seq) {
		t.Helper()
		msg, last, err := u.Build("m1", j, signer, []byte("ticket"))
		if err != nil || len(msg) > protocol.MaxMessage {
			t.Fatal(len(msg), err)
		}
		var jm protocol.Journal
		if err := protocol.Decode(msg, &jm); err != nil {
			t.Fatal(err)
		}
		s, err := seal.ParseSigned(jm.Signed)
		if err != nil || string(s.Ticket) != "ticket" || s.KeyID != "0a" {
			t.Fatalf("%+v %v", s, err)
		}
		if _, err := s.Verify("coinop/v1/m2/up/journal", &key.PublicKey); !errors.Is(err, seal.ErrSeal) {
			t.Fatal("verifies for another topic")
		}
		p, err := s.Verify("coinop/v1/m1/up/journal", &key.PublicKey)
		var b protocol.Batch
		if err != nil || protocol.Decode(p, &b) != nil {
			t.Fatal(err)
		}
		return b, jm, last
	}
	b, jm, last := open(Upload{After: 1, Max: 64, Nonce: protocol.Nonce{7}})
	if b.First != 2 || b.Last != 4 || last != 4 || len(b.Record) != 3 || b.Nonce != (protocol.Nonce{7}) {
		t.Fatalf("first %d last %d, %d records", b.First, b.Last, len(b.Record))
	}
	if len(jm.Blobs) != 1 || jm.Blobs[0].Payment != pay || string(jm.Blobs[0].Sealed) != "card" {
		t.Fatalf("blobs %+v", jm.Blobs)
	}
	if b.Head != protocol.HashBytes(b.Record[2]) {
		t.Fatal("head is not the hash of the last record")
	}
	o, err := protocol.OpenRecord(b.Record[0])
	if err != nil || o.Prev != b.Prev {
		t.Fatalf("prev %s, record follows %s (%v)", b.Prev, o.Prev, err)
	}
	if b, _, _ = open(Upload{After: 5}); b.First != 6 || b.Last != 5 || len(b.Record) != 0 || b.Head != j.Head().Hash {
		t.Fatalf("empty batch: %+v", b)
	}
}
