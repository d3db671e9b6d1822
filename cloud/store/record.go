package store

import (
	"context"
	"fmt"

	"coinop/cloud/intake"
	"coinop/protocol"
)

func scanHead(r row, h *intake.Head) error {
	return r.Scan(&h.Device, fixed(h.Position.Epoch[:]), &h.Position.Seq, fixed(h.Position.Hash[:]), &h.Stopped,
		&h.Released, &h.Serial, &h.Version)
}

func readHead(ctx context.Context, q querier, d protocol.DeviceID) (intake.Head, error) {
	h, _, err := one(ctx, q, scanHead, "head of "+string(d),
		"select device, epoch, seq, hash, stopped, released, serial, version from head where device = $1", string(d))
	return h, err
}

// Head is what is held of a device's journal; the zero value when there is nothing.
func (tx *Tx) Head(d protocol.DeviceID) (intake.Head, error) {
	return readHead(context.Background(), tx, d)
}

// Head is what is held of a device's journal; the zero value when there is nothing.
func (s *Store) Head(ctx context.Context, d protocol.DeviceID) (intake.Head, error) {
	return readHead(ctx, s.db, d)
}

// PutHead stores a head over the version it was read with: 0 is one that is not there. Another
// version fails the unit with ErrConflict.
func (tx *Tx) PutHead(h intake.Head) {
	w := write{what: "put head of " + string(h.Device), key: "head" + string(h.Device), check: replaces, args: []any{
		string(h.Device), h.Position.Epoch[:], int64(h.Position.Seq), h.Position.Hash[:], h.Stopped, int64(h.Released), h.Serial,
	}}
	if h.Version == 0 {
		w.query = "insert into head (device, epoch, seq, hash, stopped, released, serial, version)" +
			" values ($1, $2, $3, $4, $5, $6, $7, 1) on conflict (device) do nothing"
	} else {
		w.query = "update head set epoch = $2, seq = $3, hash = $4, stopped = $5, released = $6, serial = $7," +
			" version = version + 1 where device = $1 and version = $8"
		w.args = append(w.args, int64(h.Version))
	}
	tx.put(w)
}

// PutRecord adds a record. One in its place fails the unit with ErrConflict.
func (tx *Tx) PutRecord(r intake.Stored) {
	tx.put(write{what: "put record", args: []any{
		string(r.Device), r.Position.Epoch[:], int64(r.Position.Seq), r.Position.Hash[:], int64(r.Kind), int64(r.Lane),
		orNull(r.Sale[:]), int64(r.Verdict.Disposition), int64(r.Verdict.Quarantine), int64(r.ReceivedAt), r.Bytes,
	}, query: "insert into record (device, epoch, seq, hash, kind, lane, sale, disposition, quarantine, received, bytes)" +
		" values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"})
}

const ofEpoch = " from record where device = $1 and epoch = $2"

// Hashes are those of stored records first to last, in order; fewer when some are not held.
func (tx *Tx) Hashes(d protocol.DeviceID, e protocol.Epoch, first, last protocol.Seq) ([]protocol.Hash, error) {
	return list(context.Background(), tx, func(r row, h *protocol.Hash) error { return r.Scan(fixed(h[:])) },
		"hashes of "+string(d), "select hash"+ofEpoch+" and seq between $3 and $4 order by seq",
		string(d), e[:], int64(first), int64(last))
}

// Quarantined are the quarantined records of an epoch from first to last.
func (tx *Tx) Quarantined(d protocol.DeviceID, e protocol.Epoch, first, last protocol.Seq) ([]protocol.Quarantined, error) {
	return list(context.Background(), tx, func(r row, q *protocol.Quarantined) error { return r.Scan(&q.Seq, &q.Code) },
		"quarantined records of "+string(d), "select seq, quarantine"+ofEpoch+
			" and seq between $3 and $4 and disposition = 3 order by seq",
		string(d), e[:], int64(first), int64(last))
}

// Records are at most limit records of an epoch after a sequence number, in order.
func (s *Store) Records(ctx context.Context, d protocol.DeviceID, e protocol.Epoch, after protocol.Seq, limit int) ([]intake.Stored, error) {
	return list(ctx, s.db, func(r row, x *intake.Stored) error {
		x.Device, x.Position.Epoch = d, e
		return r.Scan(&x.Position.Seq, fixed(x.Position.Hash[:]), &x.Kind, &x.Lane, fixed(x.Sale[:]), &x.Verdict.Disposition,
			&x.Verdict.Quarantine, &x.ReceivedAt, &x.Bytes)
	}, "records of "+string(d), "select seq, hash, kind, lane, sale, disposition, quarantine, received, bytes"+ofEpoch+
		" and seq > $3 order by seq limit $4", string(d), e[:], int64(after), int64(limit))
}

// PutDisposition adds to the device's dispositions; its next acks carry it.
func (tx *Tx) PutDisposition(d protocol.DeviceID, what protocol.Disposition) {
	body, err := protocol.Encode(what)
	if err != nil {
		tx.fail(fmt.Errorf("encode disposition of %s: %w", what.Payment, err))
		return
	}
	tx.put(write{
		what: "put disposition", args: []any{string(d), body},
		query: "insert into disposition (device, cursor, body)" +
			" select $1, coalesce(max(cursor), 0) + 1, $2 from disposition where device = $1",
	})
}

// Dispositions are at most limit payment dispositions of a device after a cursor, oldest first, and
// the cursor after the last of them.
func (tx *Tx) Dispositions(d protocol.DeviceID, after uint64, limit int) ([]protocol.Disposition, uint64, error) {
	cursor := after
	ds, err := list(context.Background(), tx, func(r row, x *protocol.Disposition) error {
		var body []byte
		if err := r.Scan(&cursor, &body); err != nil {
			return err
		}
		return protocol.Decode(body, x)
	}, "dispositions of "+string(d), "select cursor, body from disposition where device = $1 and cursor > $2 order by cursor limit $3",
		string(d), int64(after), int64(limit))
	return ds, cursor, err
}
