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
//   - Each record carries the hash of the one before. Open checks the chain of all that may not be
//     lost, Verify all of it.
//   - There are two copies of what may not be lost (see twin): one spoiled file loses nothing.
//   - When both are spoiled, they are moved aside and kept, and a new epoch begins, whose first
//     record names the one before: the cloud hears how much it lacks.
//   - Nothing above min(released, last snapshot) is ever deleted, and released records stay as
//     long as Options say, for a cloud that was restored from a backup.
//
// A Journal is used by one goroutine at a time.
package journal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"coinop/protocol"
)

// Errors that callers branch on.
var (
	ErrCorrupt  = errors.New("journal corrupt")           // bytes or chain do not verify; open again, which mends it
	ErrFailed   = errors.New("journal failed")            // a write went wrong; open again
	ErrFull     = errors.New("disk full")                 // nothing was written
	ErrReleased = errors.New("record was released")       // and deleted
	ErrForeign  = errors.New("journal of another device") // permanent
	ErrNoBlob   = errors.New("no such blob")
)

// Options of a journal. Device and NewEpoch are required.
type Options struct {
	Device      protocol.DeviceID
	NewEpoch    func() protocol.Epoch // called when the journal is empty, or is lost
	CertSerial  string                // hex, for EpochStarted
	Software    string
	Now         protocol.Reading // for EpochStarted
	KeepRecords uint64           // released records kept for a restored cloud; 0 = 50,000
	KeepFor     time.Duration    // and for how long at most; 0 = 30 days
	Ballast     int64            // bytes of disk kept back, on a real disk; 0 = none
}

// Fate is what became of a journal when it was opened.
type Fate uint8

// Fates, best first.
const (
	Sound   Fate = iota + 1
	Mended       // what a kill or a torn write left behind was put right
	Rebuilt      // one copy was spoiled, and was made anew from the other: nothing is lost
	Renewed      // both were spoiled: a new epoch
)

func (f Fate) String() string {
	return [...]string{"?", "sound", "mended", "rebuilt", "renewed"}[min(int(f), 4)]
}

// engine is what a journal needs of its disk. Commit is atomic and synced.
type engine interface {
	commit(puts []pair, deletes [][]byte) error
	get(key []byte) ([]byte, bool, error)
	// scan calls f with keys from first on that start with prefix, in order, until f says stop.
	scan(prefix, first []byte, f func(key, value []byte) (more bool, err error)) error
	repaired() string
	// tidy puts files in order when it is time, after commits to what was verified.
	tidy()
	free() uint64
	refill() error
	close() error
}

type pair struct{ key, value []byte }

// medium is where the two copies of a journal live.
type medium interface {
	log
	// first opens the first copy, empty when there is none. ErrCorrupt: it is spoiled.
	first() (engine, error)
	// aside moves the first copy, or both, out of the way and keeps them.
	aside(both bool) (where string, err error)
	// epoch is the last one begun here, from a third place: for a new epoch to name.
	epoch() (protocol.Epoch, bool)
	setEpoch(protocol.Epoch) error
}

// Keys. Records sort by sequence.
var (
	recordPrefix = []byte("r/")
	blobPrefix   = []byte("b/")
	metaPrefix   = []byte("m/")
	keyHead      = []byte("m/head")     // Position of the newest record
	keySnapshot  = []byte("m/snapshot") // sequence of the newest Snapshot record
	keyReleased  = []byte("m/released") // highest sequence a checkpoint covers
	keyConn      = []byte("m/connection")
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
	fate     Fate
	note     string // of the fate
}

// opening is one open under way.
type opening struct {
	m   medium
	opt Options
	x   extent            // of the second copy
	was protocol.Position // the newest record heard of
}

// open opens what is there: as it is, or mended; else rebuilt from the second copy; else a new epoch.
func open(m medium, opt Options) (*Journal, error) {
	if err := opt.Device.Check(); err != nil {
		return nil, err
	}
	opt.KeepRecords = cmp.Or(opt.KeepRecords, 50_000)
	opt.KeepFor = cmp.Or(opt.KeepFor, 30*24*time.Hour)
	o := &opening{m: m, opt: opt}
	var err error
	o.x, err = survey(m, func(f frame) error {
		for _, p := range f.puts {
			if string(p.key) == string(keyHead) {
				o.heard(p.value)
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	j, err := o.asItIs()
	if err == nil || !errors.Is(err, ErrCorrupt) {
		return j, err
	}
	why := err
	if o.x.whole {
		if j, err = o.rebuild(why); err == nil || !errors.Is(err, ErrCorrupt) {
			return j, err
		}
		why = fmt.Errorf("%w; second copy: %w", why, err)
	}
	return o.renew(why)
}

func (o *opening) heard(head []byte) {
	var p protocol.Position
	if protocol.DecodeExact(head, &p) == nil && (p.Epoch != o.was.Epoch || p.Seq > o.was.Seq) {
		o.was = p
	}
}

// asItIs opens the first copy, with what only the second has done again.
func (o *opening) asItIs() (*Journal, error) {
	e, err := o.m.first()
	if err != nil {
		return nil, err
	}
	j, err := o.bring(e)
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	return j, nil
}

func (o *opening) bring(e engine) (*Journal, error) {
	n, err := counted(e)
	if err != nil {
		return nil, err
	}
	if head, ok, err := e.get(keyHead); err != nil {
		return nil, spoiled(err)
	} else if ok {
		o.heard(head)
	}
	t, x := &twin{engine: e, log: o.m, n: n}, o.x
	j := &Journal{eng: t, opt: o.opt, fate: Sound}
	if mended := e.repaired(); mended != "" {
		j.notes(mended)
	}
	switch {
	case x.whole && x.last == n:
		t.size, t.again = x.size, x.base+max(x.base, twinRoom)
	case x.whole && x.from <= n && n < x.last:
		if err := redo(o.m, e, n, false); err != nil {
			return nil, err
		}
		t.n, t.size, t.again = x.last, x.size, x.base+max(x.base, twinRoom)
		j.notes(fmt.Sprintf("%d transactions done again from the second copy", x.last-n))
	case x.whole && n < x.last:
		return nil, fmt.Errorf("%w: it ends at transaction %d, its second copy begins at %d", ErrCorrupt, n, x.from)
	case x.there:
		j.notes("second copy written anew")
	}
	_, known := o.m.epoch()
	_, begun, err := e.get(keyHead)
	switch {
	case err != nil:
		return nil, spoiled(err)
	case !begun && (known || t.n > 0):
		return nil, fmt.Errorf("%w: it is empty, and was not", ErrCorrupt)
	case !begun:
		if err := t.anew(); err != nil {
			return nil, err
		}
		return j, j.begin(o.m, protocol.EpochStarted{Reason: "new"})
	}
	if err := j.load(); err != nil {
		return nil, err
	}
	if t.size == 0 {
		if err := t.anew(); err != nil {
			return nil, err
		}
	}
	if was, _ := o.m.epoch(); was != j.head.Epoch {
		return j, o.m.setEpoch(j.head.Epoch)
	}
	return j, nil
}

func (j *Journal) notes(text string) {
	j.fate = max(j.fate, Mended)
	if j.note != "" {
		text = j.note + "; " + text
	}
	j.note = text
}

// rebuild makes the first copy anew from the second. Nothing is lost.
func (o *opening) rebuild(why error) (*Journal, error) {
	where, err := o.m.aside(false)
	if err != nil {
		return nil, err
	}
	e, err := o.m.first()
	if err != nil {
		return nil, err
	}
	var j *Journal
	if err = redo(o.m, e, 0, true); err == nil {
		j, err = o.bring(e)
	}
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	j.fate, j.note = Rebuilt, fmt.Sprintf("%v; rebuilt from its second copy, the old one is kept in %s", why, where)
	return j, nil
}

// renew moves everything aside and begins a new epoch, which names the one before as far as known.
func (o *opening) renew(why error) (*Journal, error) {
	was := o.was
	if known, ok := o.m.epoch(); ok && known != was.Epoch {
		was = protocol.Position{Epoch: known}
	}
	where, err := o.m.aside(true)
	if err != nil {
		return nil, err
	}
	e, err := o.m.first()
	if err != nil {
		return nil, err
	}
	t := &twin{engine: e, log: o.m}
	j := &Journal{eng: t, opt: o.opt, fate: Renewed, note: fmt.Sprintf("%v; a new epoch begins, the old one is kept in %s", why, where)}
	if err = t.anew(); err == nil {
		// Connections go on above all that came before: no device makes one a second.
		conn := pair{keyConn, number(uint64(max(o.opt.Now.Wall, 0)) / 1000)}
		err = j.begin(o.m, protocol.EpochStarted{PrevEpoch: was.Epoch, PrevSeq: was.Seq, PrevHash: was.Hash, Reason: "corrupt"}, conn)
	}
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	return j, nil
}

// begin writes the first record of a new epoch.
func (j *Journal) begin(m medium, first protocol.EpochStarted, more ...pair) error {
	j.head = protocol.Position{Epoch: j.opt.NewEpoch()}
	first.CertSerial, first.Software = j.opt.CertSerial, j.opt.Software
	_, err := j.write([]protocol.Record{{At: j.opt.Now, Body: first}}, nil, more...)
	j.first = 1
	if err != nil {
		return err
	}
	return m.setEpoch(j.head.Epoch)
}

// spoiled marks an error of reading as damage: what cannot be read is made anew from what can.
func spoiled(err error) error {
	if err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrForeign) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// load finds the head and checks the chain of all that may not be lost.
func (j *Journal) load() error {
	text, _, err := j.eng.get(keyHead)
	if err == nil {
		err = protocol.DecodeExact(text, &j.head)
	}
	if err != nil {
		return spoiled(err)
	}
	snap, err := metaNumber(j.eng, keySnapshot)
	if err != nil {
		return err
	}
	rel, err := metaNumber(j.eng, keyReleased)
	if err != nil {
		return err
	}
	j.snapshot, j.released = protocol.Seq(snap), protocol.Seq(rel)
	err = j.eng.scan(recordPrefix, recordPrefix, func(k, _ []byte) (bool, error) {
		j.first = protocol.Seq(binary.BigEndian.Uint64(k[len(recordPrefix):]))
		return false, nil
	})
	if err != nil {
		return spoiled(err)
	}
	from, err := oldestKept(j.eng)
	if err != nil {
		return err
	}
	for _, prefix := range [][]byte{metaPrefix, blobPrefix} {
		if err := j.eng.scan(prefix, prefix, func(_, _ []byte) (bool, error) { return true, nil }); err != nil {
			return spoiled(err)
		}
	}
	return spoiled(j.verify(from))
}

// oldestKept is the lowest record that may not be lost: above min(released, last snapshot).
func oldestKept(e engine) (protocol.Seq, error) {
	snap, err := metaNumber(e, keySnapshot)
	if err != nil {
		return 0, err
	}
	rel, err := metaNumber(e, keyReleased)
	if err != nil {
		return 0, err
	}
	return forgettable(protocol.Seq(snap), protocol.Seq(rel)) + 1, nil
}

// forgettable is the highest record that may be deleted.
func forgettable(snapshot, released protocol.Seq) protocol.Seq {
	if snapshot == 0 {
		return 0
	}
	return min(released, snapshot-1)
}

func metaNumber(e engine, key []byte) (uint64, error) {
	b, ok, err := e.get(key)
	if err != nil || !ok {
		return 0, spoiled(err)
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: %s", ErrCorrupt, key)
	}
	return binary.BigEndian.Uint64(b), nil
}

// Verify reads every record and checks bytes, sequence, epoch and chain. Errors wrap ErrCorrupt.
func (j *Journal) Verify() error { return j.verify(j.first) }

// verify checks the chain from a record to the head: each hash is named by the next record, the last by the head, so
// nothing need be decoded to know that every byte is as it was written. Of those before it only that they are there:
// but all are read, for Badger's compaction would end the process at a block that cannot be.
func (j *Journal) verify(from protocol.Seq) error {
	if from < j.first {
		return fmt.Errorf("%w: it begins at record %d, want %d", ErrCorrupt, j.first, from)
	}
	want, prev := j.first, protocol.Hash{}
	var last protocol.Position
	err := j.eng.scan(recordPrefix, recordPrefix, func(k, v []byte) (bool, error) {
		seq := protocol.Seq(binary.BigEndian.Uint64(k[len(recordPrefix):]))
		if seq == want && seq < from {
			want++
			return true, nil
		}
		o, err := protocol.RecordLink(v)
		switch {
		case err != nil:
			return false, fmt.Errorf("%w: record %d: %w", ErrCorrupt, seq, err)
		case seq != want || o.Position.Seq != seq:
			return false, fmt.Errorf("%w: record %d where %d should be", ErrCorrupt, o.Position.Seq, want)
		case o.Device != j.opt.Device:
			return false, fmt.Errorf("%w: of %s", ErrForeign, o.Device)
		case o.Position.Epoch != j.head.Epoch:
			return false, fmt.Errorf("%w: record %d of epoch %s", ErrCorrupt, seq, o.Position.Epoch)
		case (seq > from || seq == 1) && o.Prev != prev:
			return false, fmt.Errorf("%w: record %d does not follow record %d", ErrCorrupt, seq, seq-1)
		}
		want, prev, last = seq+1, o.Position.Hash, o.Position
		return true, nil
	})
	if err == nil && last != j.head {
		err = fmt.Errorf("%w: it ends at record %d, want %d", ErrCorrupt, last.Seq, j.head.Seq)
	}
	return err
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

func (j *Journal) write(records []protocol.Record, blobs []protocol.Blob, puts ...pair) ([]protocol.Sealed, error) {
	head, snapshot := j.head, j.snapshot
	sealed := make([]protocol.Sealed, len(records))
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
	puts = append(puts, pair{keyHead, protocol.MustEncode(head)})
	err := j.change(fmt.Sprintf("append %d records", len(records)), puts, nil, func() { j.head, j.snapshot = head, snapshot })
	return sealed, err
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
	last := protocol.Seq(0)
	err := j.eng.scan(recordPrefix, recordKey(max(j.snapshot, 1)), func(_, v []byte) (bool, error) {
		o, err := protocol.OpenRecord(v)
		if err == nil {
			err = o.Content
		}
		if err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		last = o.Position.Seq
		if s, ok := o.Body.(protocol.Snapshot); ok && o.Position.Seq == j.snapshot {
			snap = s
			return true, nil
		}
		after = append(after, o.Record)
		return true, nil
	})
	if err == nil && last != j.head.Seq {
		err = fmt.Errorf("%w: it ends at record %d, want %d", ErrCorrupt, last, j.head.Seq)
	}
	return snap, after, err
}

// Read returns up to limit records after a sequence number, oldest first. A record that was deleted
// already is ErrReleased: the cloud wants what the device no longer holds.
func (j *Journal) Read(after protocol.Seq, limit int) ([]protocol.Sealed, error) {
	if after >= j.head.Seq {
		return nil, nil
	}
	if after+1 < j.first {
		return nil, fmt.Errorf("%w: %d; the oldest here is %d", ErrReleased, after+1, j.first)
	}
	var out []protocol.Sealed
	err := j.eng.scan(recordPrefix, recordKey(after+1), func(k, v []byte) (bool, error) {
		b := append([]byte(nil), v...)
		seq := protocol.Seq(binary.BigEndian.Uint64(k[len(recordPrefix):]))
		out = append(out, protocol.Sealed{Bytes: b, Position: protocol.Position{Epoch: j.head.Epoch, Seq: seq, Hash: protocol.HashBytes(b)}})
		return len(out) < limit && seq == after+protocol.Seq(len(out)), nil
	})
	if want := min(limit, int(j.head.Seq-after)); err == nil && (len(out) != want || out[want-1].Position.Seq != after+protocol.Seq(want)) {
		err = fmt.Errorf("%w: records after %d are missing", ErrCorrupt, after)
	}
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
	if after+1 == j.first { // it was deleted, and the next one names it
		s, err := j.Read(after, 1)
		if err != nil {
			return protocol.Hash{}, err
		}
		o, err := protocol.OpenRecord(s[0].Bytes)
		return o.Prev, err
	}
	s, err := j.Read(after-1, 1)
	if err != nil || len(s) == 0 || s[0].Position.Seq != after {
		return protocol.Hash{}, fmt.Errorf("record %d: %w", after, cmp.Or(err, ErrCorrupt))
	}
	return s[0].Position.Hash, nil
}

// Release notes that a signed checkpoint covers 1..upTo. A checkpoint above the head means that this
// disk was rolled back: ErrCorrupt.
func (j *Journal) Release(upTo protocol.Seq) error {
	if upTo > j.head.Seq {
		return fmt.Errorf("%w: checkpoint %d is above our head %d", ErrCorrupt, upTo, j.head.Seq)
	}
	if upTo <= j.released {
		return nil
	}
	return j.change("release", []pair{{keyReleased, number(uint64(upTo))}}, nil, func() { j.released = upTo })
}

// trimMost bounds the records one Trim deletes, and so its time.
const trimMost = 1024

// Trim deletes what may be forgotten and need not be kept any more: records at or below
// min(released, last snapshot - 1) that are not among the KeepRecords newest of those, or older than
// KeepFor by now; short of disk, all of them. It says how many it deleted; after trimMost there may
// be more. Called now and then, it also gives back the memory of a compaction that has ended.
func (j *Journal) Trim(now protocol.UnixMS, short bool) (int, error) {
	if j.failed == nil {
		j.eng.tidy()
	}
	limit := forgettable(j.snapshot, j.released)
	if limit < j.first {
		return 0, nil
	}
	end := j.first // the lowest that stays
	if short {
		end = limit + 1
	} else if n := uint64(limit - j.first + 1); n > j.opt.KeepRecords {
		end += protocol.Seq(n - j.opt.KeepRecords)
	}
	end = min(end, j.first+trimMost)
	if end == j.first { // not too many: too old?
		err := j.eng.scan(recordPrefix, recordKey(j.first), func(_, v []byte) (bool, error) {
			o, err := protocol.OpenRecord(v)
			if err != nil {
				return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
			if end > limit || now.Sub(o.At.Wall) <= j.opt.KeepFor {
				return false, nil
			}
			end++
			return end < j.first+trimMost, nil
		})
		if err != nil {
			return 0, err
		}
	}
	var deletes [][]byte
	for s := j.first; s < end; s++ {
		deletes = append(deletes, recordKey(s))
	}
	if len(deletes) == 0 {
		return 0, nil
	}
	return len(deletes), j.change("trim", nil, deletes, func() { j.first = end })
}

// change commits; after an error nothing more is written until the journal is opened again.
func (j *Journal) change(what string, puts []pair, deletes [][]byte, then func()) error {
	if j.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, j.failed)
	}
	if err := j.eng.commit(puts, deletes); err != nil {
		j.failed = err
		return fmt.Errorf("%w: %s: %w", ErrFailed, what, err)
	}
	then()
	j.eng.tidy()
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
	return j.change("drop a card", nil, [][]byte{blobKey(p)}, func() {})
}

// NextConnection counts connections over restarts, from 1; synced before it returns.
func (j *Journal) NextConnection() (uint64, error) {
	n, err := metaNumber(j.eng, keyConn)
	if err != nil {
		return 0, err
	}
	return n + 1, j.change("next connection", []pair{{keyConn, number(n + 1)}}, nil, func() {})
}

// Fate is what became of the journal when it was opened; the text says what was wrong, or "".
func (j *Journal) Fate() (Fate, string) { return j.fate, j.note }

// Released is the highest record that a checkpoint covers, and Oldest the lowest that is still here.
func (j *Journal) Released() protocol.Seq { return j.released }

// Oldest record that is still here.
func (j *Journal) Oldest() protocol.Seq { return j.first }

// Health is nil, or why no more can be written (wraps ErrFailed).
func (j *Journal) Health() error {
	if j.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, j.failed)
	}
	return nil
}

// Free is the free space under the journal in bytes.
func (j *Journal) Free() uint64 { return j.eng.free() }

// Refill puts the ballast back when it was given up and there is room for it again.
func (j *Journal) Refill() error { return j.eng.refill() }

// Close releases the disk. A journal that was not closed opens just as well. One that failed is left as
// it is: Badger would write to a disk that takes nothing, and die. This process must not open it again.
func (j *Journal) Close() error {
	if j.failed != nil {
		return nil
	}
	return j.eng.close()
}
