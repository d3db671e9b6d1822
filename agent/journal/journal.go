// Package journal keeps a device's records through power cuts.
//
//	j, err := journal.OpenBadger(dir, journal.Options{Device: id, NewEpoch: mint})
//	pos, err := j.Append(records, blobs) // one transaction, synced; a position each
//	snap, after, err := j.Latest()       // what Recover folds
//	s, err := j.Read(n, 64)              // what the uplink sends
//	err = j.Release(m)                   // a signed checkpoint covers 1..m
//
// What it promises:
//
//   - When Append returns nil, all its records and blobs survive a power cut; when it does not,
//     all of them or none do, and the journal refuses work until it is opened again.
//   - Each record carries the hash of the one before. Open checks the chain from the last snapshot
//     on, Verify all of it.
//   - Nothing above min(released, last snapshot) is ever deleted, and KeepRecords released ones
//     stay for a cloud that was restored from a backup.
//
// A Journal is used by one goroutine at a time.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"coinop/protocol"
)

// Errors that callers branch on.
var (
	ErrCorrupt = errors.New("journal corrupt") // bytes or chain do not verify; permanent
	ErrFailed  = errors.New("journal failed")  // a write went wrong; open again
	ErrNoBlob  = errors.New("no such blob")
)

// Options of a journal. Device and NewEpoch are required.
type Options struct {
	Device      protocol.DeviceID
	NewEpoch    func() protocol.Epoch // called once, when the journal is empty
	CertSerial  string                // hex, for EpochStarted
	Software    string
	Now         protocol.Reading // for EpochStarted
	KeepRecords uint64           // released records kept for a restored cloud; 0 = 50,000
}

// engine is what a journal needs of its disk. Commit is atomic and synced.
type engine interface {
	commit(puts []pair, deletes [][]byte) error
	get(key []byte) ([]byte, bool, error)
	// scan calls f with keys from first on that start with prefix, in order, until f says stop.
	scan(prefix, first []byte, f func(key, value []byte) (more bool, err error)) error
	repaired() string
	free() uint64
	close() error
}

type pair struct{ key, value []byte }

// Keys. Records sort by sequence.
var (
	recordPrefix = []byte("r/")
	blobPrefix   = []byte("b/")
	keySnapshot  = []byte("m/snapshot") // sequence of the newest Snapshot record
	keyReleased  = []byte("m/released") // highest sequence a checkpoint covers
	keyConn      = []byte("m/connection")
	keyEpoch     = []byte("m/epoch")
)

func recordKey(s protocol.Seq) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), recordPrefix...), uint64(s))
}

func blobKey(p protocol.PaymentID) []byte { return append(append([]byte(nil), blobPrefix...), p[:]...) }

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// Journal is one device's records over an engine.
type Journal struct {
	eng      engine
	opt      Options
	head     protocol.Position
	snapshot protocol.Seq
	released protocol.Seq
	first    protocol.Seq // lowest record still here
	failed   error
}

func open(eng engine, opt Options) (*Journal, error) {
	if err := opt.Device.Check(); err != nil {
		return nil, err
	}
	if opt.KeepRecords == 0 {
		opt.KeepRecords = 50_000
	}
	j := &Journal{eng: eng, opt: opt}
	epoch, ok, err := eng.get(keyEpoch)
	if err != nil {
		return nil, err
	}
	if !ok {
		return j, j.begin()
	}
	if len(epoch) != 16 {
		return nil, fmt.Errorf("%w: epoch of %d bytes", ErrCorrupt, len(epoch))
	}
	j.head.Epoch = protocol.Epoch(epoch)
	return j, j.load()
}

// begin writes the first record of a new epoch.
func (j *Journal) begin() error {
	j.head = protocol.Position{Epoch: j.opt.NewEpoch()}
	_, err := j.write([]protocol.Record{{At: j.opt.Now, Body: protocol.EpochStarted{
		CertSerial: j.opt.CertSerial, Software: j.opt.Software, Reason: "new",
	}}}, nil, pair{keyEpoch, j.head.Epoch[:]})
	j.first = 1
	return err
}

// load finds the head and checks the chain from the last snapshot on.
func (j *Journal) load() error {
	snap, err := j.number(keySnapshot)
	if err != nil {
		return err
	}
	rel, err := j.number(keyReleased)
	if err != nil {
		return err
	}
	j.snapshot, j.released = protocol.Seq(snap), protocol.Seq(rel)
	err = j.eng.scan(recordPrefix, recordPrefix, func(k, _ []byte) (bool, error) {
		j.first = protocol.Seq(binary.BigEndian.Uint64(k[len(recordPrefix):]))
		return false, nil
	})
	if err != nil {
		return err
	}
	if j.first == 0 {
		return fmt.Errorf("%w: an epoch without records", ErrCorrupt)
	}
	from := max(j.snapshot, j.first)
	head, err := j.verify(from)
	if err != nil {
		return err
	}
	j.head = head
	return nil
}

func (j *Journal) number(key []byte) (uint64, error) {
	b, ok, err := j.eng.get(key)
	if err != nil || !ok {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: %s", ErrCorrupt, key)
	}
	return binary.BigEndian.Uint64(b), nil
}

// Verify reads every record and checks bytes, sequence, epoch and chain. Errors wrap ErrCorrupt.
func (j *Journal) Verify() error {
	head, err := j.verify(j.first)
	if err == nil && head != j.head {
		err = fmt.Errorf("%w: head %d, want %d", ErrCorrupt, head.Seq, j.head.Seq)
	}
	return err
}

func (j *Journal) verify(from protocol.Seq) (protocol.Position, error) {
	want, prev := from, protocol.Hash{}
	var head protocol.Position
	err := j.eng.scan(recordPrefix, recordKey(from), func(k, v []byte) (bool, error) {
		seq := protocol.Seq(binary.BigEndian.Uint64(k[len(recordPrefix):]))
		o, err := protocol.OpenRecord(v)
		switch {
		case err != nil:
			return false, fmt.Errorf("%w: record %d: %w", ErrCorrupt, seq, err)
		case seq != want || o.Position.Seq != seq:
			return false, fmt.Errorf("%w: record %d where %d should be", ErrCorrupt, o.Position.Seq, want)
		case o.Position.Epoch != j.head.Epoch || o.Device != j.opt.Device:
			return false, fmt.Errorf("%w: record %d of device %s, epoch %s", ErrCorrupt, seq, o.Device, o.Position.Epoch)
		case (seq > from || seq == 1) && o.Prev != prev:
			return false, fmt.Errorf("%w: record %d does not follow record %d", ErrCorrupt, seq, seq-1)
		}
		want, prev, head = seq+1, o.Position.Hash, o.Position
		return true, nil
	})
	if err == nil && head.Seq == 0 {
		err = fmt.Errorf("%w: record %d is gone", ErrCorrupt, from)
	}
	return head, err
}

// Append writes records and blobs in one synced transaction and returns a position for each
// record. After an error nothing more is written until the journal is opened again.
func (j *Journal) Append(records []protocol.Record, blobs []protocol.Blob) ([]protocol.Position, error) {
	sealed, err := j.write(records, blobs)
	if err != nil {
		return nil, err
	}
	pos := make([]protocol.Position, len(sealed))
	for i, s := range sealed {
		pos[i] = s.Position
	}
	return pos, nil
}

func (j *Journal) write(records []protocol.Record, blobs []protocol.Blob, more ...pair) ([]protocol.Sealed, error) {
	if j.failed != nil {
		return nil, fmt.Errorf("%w: %w", ErrFailed, j.failed)
	}
	head, snapshot := j.head, j.snapshot
	sealed := make([]protocol.Sealed, len(records))
	puts := more
	for i, r := range records {
		s, err := protocol.SealRecord(j.opt.Device, head, r)
		if err != nil {
			return nil, err
		}
		sealed[i], head = s, s.Position
		puts = append(puts, pair{recordKey(s.Position.Seq), s.Bytes})
		if _, ok := r.Body.(protocol.Snapshot); ok {
			snapshot = s.Position.Seq
			puts = append(puts, pair{keySnapshot, number(uint64(snapshot))})
		}
	}
	for _, b := range blobs {
		puts = append(puts, pair{blobKey(b.Payment), b.Sealed})
	}
	if err := j.eng.commit(puts, nil); err != nil {
		j.failed = err
		return nil, fmt.Errorf("append %d records: %w", len(records), err)
	}
	j.head, j.snapshot = head, snapshot
	return sealed, nil
}

// Head is the position of the newest record.
func (j *Journal) Head() protocol.Position { return j.head }

// SinceSnapshot is how many records a Recover would have to read.
func (j *Journal) SinceSnapshot() int { return int(j.head.Seq - j.snapshot) }

// Latest is the newest snapshot and the records after it; a zero Snapshot and all records when
// there is none.
func (j *Journal) Latest() (protocol.Snapshot, []protocol.Record, error) {
	var snap protocol.Snapshot
	var after []protocol.Record
	from := max(j.snapshot, j.first)
	err := j.eng.scan(recordPrefix, recordKey(from), func(_, v []byte) (bool, error) {
		o, err := protocol.OpenRecord(v)
		if err == nil {
			err = o.Content
		}
		if err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if s, ok := o.Body.(protocol.Snapshot); ok && o.Position.Seq == j.snapshot {
			snap = s
			return true, nil
		}
		after = append(after, o.Record)
		return true, nil
	})
	return snap, after, err
}

// Read returns up to limit records after a sequence number, oldest first. A record that was deleted
// already is an error that wraps ErrCorrupt: the cloud wants what the device no longer holds.
func (j *Journal) Read(after protocol.Seq, limit int) ([]protocol.Sealed, error) {
	if after >= j.head.Seq {
		return nil, nil
	}
	if after+1 < j.first {
		return nil, fmt.Errorf("%w: record %d was released; the oldest here is %d", ErrCorrupt, after+1, j.first)
	}
	var out []protocol.Sealed
	err := j.eng.scan(recordPrefix, recordKey(after+1), func(k, v []byte) (bool, error) {
		b := append([]byte(nil), v...)
		out = append(out, protocol.Sealed{Bytes: b, Position: protocol.Position{
			Epoch: j.head.Epoch, Seq: protocol.Seq(binary.BigEndian.Uint64(k[len(recordPrefix):])), Hash: protocol.HashBytes(b),
		}})
		return len(out) < limit, nil
	})
	return out, err
}

// PrevHash is the hash a batch that starts after a record names as prev: zero for 0.
func (j *Journal) PrevHash(after protocol.Seq) (protocol.Hash, error) {
	if after == 0 {
		return protocol.Hash{}, nil
	}
	if after == j.head.Seq {
		return j.head.Hash, nil
	}
	s, err := j.Read(after-1, 1)
	if err != nil || len(s) == 0 || s[0].Position.Seq != after {
		return protocol.Hash{}, fmt.Errorf("record %d: %w", after, errors.Join(err, ErrCorrupt))
	}
	return s[0].Position.Hash, nil
}

// Release notes that a signed checkpoint covers 1..upTo, and deletes what may be forgotten: at or
// below min(upTo, last snapshot - 1), less the KeepRecords newest of them. A checkpoint above the
// head means this disk was rolled back: ErrCorrupt.
func (j *Journal) Release(upTo protocol.Seq) error {
	if upTo > j.head.Seq {
		return fmt.Errorf("%w: checkpoint %d is above our head %d", ErrCorrupt, upTo, j.head.Seq)
	}
	if j.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, j.failed)
	}
	j.released = max(j.released, upTo)
	forget := j.released
	if j.snapshot == 0 {
		forget = 0
	} else {
		forget = min(forget, j.snapshot-1)
	}
	if uint64(forget) <= j.opt.KeepRecords {
		forget = 0
	} else {
		forget -= protocol.Seq(j.opt.KeepRecords)
	}
	puts := []pair{{keyReleased, number(uint64(j.released))}}
	var deletes [][]byte
	first := j.first
	for ; first <= forget && len(deletes) < 1024; first++ {
		deletes = append(deletes, recordKey(first))
	}
	if err := j.eng.commit(puts, deletes); err != nil {
		j.failed = err
		return fmt.Errorf("release: %w", err)
	}
	j.first = first
	return nil
}

// Blob is the sealed card of an offline payment, or ErrNoBlob.
func (j *Journal) Blob(p protocol.PaymentID) ([]byte, error) {
	b, ok, err := j.eng.get(blobKey(p))
	if err == nil && !ok {
		err = ErrNoBlob
	}
	return b, err
}

// DropBlob deletes one; call it after its BlobDropped is synced. Dropping twice is no error.
func (j *Journal) DropBlob(p protocol.PaymentID) error {
	if err := j.eng.commit(nil, [][]byte{blobKey(p)}); err != nil {
		j.failed = err
		return err
	}
	return nil
}

// NextConnection counts connections over restarts, from 1; synced before it returns.
func (j *Journal) NextConnection() (uint64, error) {
	n, err := j.number(keyConn)
	if err != nil {
		return 0, err
	}
	if err := j.eng.commit([]pair{{keyConn, number(n + 1)}}, nil); err != nil {
		j.failed = err
		return 0, fmt.Errorf("next connection: %w", err)
	}
	return n + 1, nil
}

// Repaired says what Open had to mend, or "".
func (j *Journal) Repaired() string { return j.eng.repaired() }

// Health is nil, or why no more can be written (wraps ErrFailed).
func (j *Journal) Health() error {
	if j.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, j.failed)
	}
	return nil
}

// Free is the free space under the journal in bytes.
func (j *Journal) Free() uint64 { return j.eng.free() }

// Close releases the disk. A journal that was not closed opens just as well.
func (j *Journal) Close() error { return j.eng.close() }
