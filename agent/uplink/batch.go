package uplink

import (
	"fmt"

	"coinop/protocol"
	"coinop/protocol/seal"
)

// Records is what a batch is read from; agent/journal has it.
type Records interface {
	Head() protocol.Position
	Read(after protocol.Seq, limit int) ([]protocol.Sealed, error)
	PrevHash(after protocol.Seq) (protocol.Hash, error)
	Blob(protocol.PaymentID) ([]byte, error)
}

// batchBytes keeps a batch well below protocol.MaxMessage.
const batchBytes = 96 << 10

// Build makes the bytes of an up/journal message: a batch signed by the device, with the ticket of
// its connection. last is the last record in it.
func (u Upload) Build(device protocol.DeviceID, from Records, key seal.Signer, ticket []byte) (msg []byte, last protocol.Seq, err error) {
	head := from.Head()
	b := protocol.Batch{
		V: protocol.Version, Device: device, Epoch: head.Epoch, First: u.After + 1, Last: u.After,
		Nonce: u.Nonce, Cursor: u.Cursor,
	}
	if b.Prev, err = from.PrevHash(u.After); err != nil {
		return nil, 0, fmt.Errorf("batch after %d: %w", u.After, err)
	}
	b.Head = b.Prev
	var records []protocol.Sealed
	if u.Max > 0 {
		if records, err = from.Read(u.After, u.Max); err != nil {
			return nil, 0, fmt.Errorf("batch after %d: %w", u.After, err)
		}
	}
	var blobs []protocol.Blob
	size := 0
	for i, r := range records {
		var blob []byte
		o, err := protocol.OpenRecord(r.Bytes)
		if err != nil {
			return nil, 0, fmt.Errorf("batch: record %d: %w", r.Position.Seq, err)
		}
		off, isOffline := o.Body.(protocol.OfflineAccepted)
		if isOffline {
			blob, _ = from.Blob(off.Payment) // dropped already: its disposition was final
		}
		if size += len(r.Bytes) + len(blob); size > batchBytes && i > 0 {
			break
		}
		if blob != nil {
			blobs = append(blobs, protocol.Blob{Payment: off.Payment, Sealed: blob})
		}
		b.Record = append(b.Record, r.Bytes)
		b.Last, b.Head = r.Position.Seq, r.Position.Hash
	}
	signed, err := key.Sign(protocol.TopicOf(device, protocol.UpJournal), protocol.MustEncode(b), ticket)
	if err != nil {
		return nil, 0, fmt.Errorf("batch: %w", err)
	}
	return protocol.MustEncode(protocol.Journal{Signed: signed, Blobs: blobs}), b.Last, nil
}
