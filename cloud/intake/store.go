package intake

import (
	"coinop/cloud/payment"
	"coinop/protocol"
)

// Tx is one unit of work of the store, as intake needs it.
type Tx interface {
	payment.Tx
	// Head is what is held of a device's journal; the zero value when there is nothing.
	Head(protocol.DeviceID) (Head, error)
	// Hashes are those of stored records first to last, in order; fewer when some are not held.
	Hashes(d protocol.DeviceID, e protocol.Epoch, first, last protocol.Seq) ([]protocol.Hash, error)
	// Dispositions are at most limit payment dispositions of a device after a cursor, oldest first,
	// and the cursor after the last of them.
	Dispositions(d protocol.DeviceID, after uint64, limit int) ([]protocol.Disposition, uint64, error)
	// Quarantined are the quarantined records of an epoch from first to last.
	Quarantined(d protocol.DeviceID, e protocol.Epoch, first, last protocol.Seq) ([]protocol.Quarantined, error)

	// PutHead stores a head over the version it was read with, or fails the unit.
	PutHead(Head)
	PutRecord(Stored)
}

// Head is how far a device's journal is held.
type Head struct {
	Device   protocol.DeviceID
	Position protocol.Position // of the last record held
	Stopped  string            // the code of a chain fault; the device must not sell
	Released protocol.Seq      // the last checkpoint told
	Serial   string            // of the certificate the epoch was begun under
	Version  uint64            // of the row; 0 = not there
}

// Stored is a record as it is kept: its bytes for ever, and what was done with it.
type Stored struct {
	Device     protocol.DeviceID
	Position   protocol.Position
	Kind       protocol.Kind
	Lane       protocol.Lane
	Sale       protocol.SaleID
	Verdict    payment.Verdict
	ReceivedAt protocol.UnixMS
	Bytes      []byte
}
