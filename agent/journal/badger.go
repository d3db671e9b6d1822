package journal

import (
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// OpenBadger opens the journal in its own directory, and beside it
//
//	dir.twin       the second copy
//	dir.epoch      the epoch, for the next to name when both are spoiled
//	dir.opening    how often in a row an open has begun and not ended
//	dir.ballast    room given up when the disk is full
//	dir.damaged-N  what was moved aside; never deleted by us
//
// An error is ErrFull, ErrForeign, or what the disk said: then nothing was changed, and opening again
// helps once the disk works.
func OpenBadger(dir string, opt Options) (*Journal, error) {
	f := &folder{dir: dir, ballast: opt.Ballast}
	j, err := f.openJournal(opt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", dir, err), f.closeTwin())
	}
	f.letGo()
	j.eng.tidy()
	return j, nil
}

func (f *folder) openJournal(opt Options) (*Journal, error) {
	if err := f.usable(); err != nil {
		return nil, err
	}
	died, err := f.opening()
	if err != nil {
		return nil, err
	}
	f.died = died >= diedMost
	j, err := open(f, opt)
	_ = os.Remove(f.dir + ".opening") // an end, though perhaps not the wanted one
	return j, err
}

// small are Badger's options for a kiosk: synced writes, a few MB of memory and of sparse files.
// ValueThreshold keeps all values in the tree, so that deletes free space by compaction alone; it
// must stay below 15 % of MemTableSize. Tables are mapped and neither compressed nor encrypted, so caches
// would keep what the kernel has already.
//
// There are no compactors, which look for work 40 times a second: see tidy. Level 0 therefore never stalls a write,
// which nobody would free.
func small(dir string) badger.Options {
	return badger.DefaultOptions(dir).WithSyncWrites(true).WithLogger(nil).WithMetricsEnabled(false).
		WithMemTableSize(4 << 20).WithNumMemtables(2).WithNumLevelZeroTables(1).WithNumLevelZeroTablesStall(math.MaxInt).
		WithBaseTableSize(1 << 20).WithBaseLevelSize(4 << 20).WithValueLogFileSize(8 << 20).
		WithValueThreshold(64 << 10).WithBlockCacheSize(0).WithIndexCacheSize(0).
		WithNumCompactors(0).WithCompression(options.None).WithNumVersionsToKeep(1).WithDetectConflicts(false).
		WithChecksumVerificationMode(options.OnBlockRead).WithBypassLockGuard(true) // the data folder has a lock
}

type badgerEngine struct {
	db      *badger.DB
	folder  *folder
	mended  string
	written int64         // bytes committed since tidy looked
	ended   chan struct{} // closed when the compaction that was begun has ended; nil: none was
}

// When tables are compacted. A table of level 0 has what a memtable had, and so some 3.5 MB when it was full; what was
// open at an end of the process becomes one too, as small as it is.
const (
	lookEvery  = 256 << 10 // bytes committed between two looks
	level0Size = 6 << 20   // is compacted
	level0Many = 6         // tables of it, however small, as each is looked into for every key
	level0Most = 4 * level0Many
)

// tidy compacts when it is time, in the background, and lets writes wait for that only when they are far ahead.
func (e *badgerEngine) tidy() {
	select { // which a nil channel passes by
	case <-e.ended:
		e.settle()
	default:
	}
	if e.written < lookEvery {
		return
	}
	e.written = 0
	levels, all := e.db.Levels(), int64(0)
	for _, l := range levels {
		all += l.Size
	}
	zero := levels[0]
	if e.ended != nil {
		if zero.NumTables >= level0Most {
			e.settle()
		}
		return
	}
	due := zero.NumTables >= 2 && zero.Size >= level0Size || zero.NumTables >= level0Many
	// It may write all tables anew before it deletes one.
	if !due || e.folder.free() < commitRoom+uint64(all) { //nolint:gosec // sizes
		return
	}
	ended := make(chan struct{})
	e.ended = ended
	go func() {
		defer close(ended)
		// An error leaves the tables as they were, for the next time; a disk that is ill is noticed by commits.
		_ = e.db.Flatten(1)
	}()
}

// settle waits for the end of a compaction, and gives back the memory it has read and written in.
func (e *badgerEngine) settle() {
	<-e.ended
	e.ended = nil
	e.folder.letGo()
}

func (e *badgerEngine) commit(puts []pair, deletes [][]byte) error {
	if err := e.folder.room(); err != nil {
		return err
	}
	for _, p := range puts {
		e.written += int64(len(p.key) + len(p.value))
	}
	for _, k := range deletes {
		e.written += int64(len(k))
	}
	return e.db.Update(func(t *badger.Txn) error {
		for _, p := range puts {
			if err := t.Set(p.key, p.value); err != nil {
				return err
			}
		}
		for _, k := range deletes {
			if err := t.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// caught turns a panic into damage: Badger takes a block's lengths before it checks its sum.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", ErrCorrupt, p)
	}
}

func (e *badgerEngine) get(key []byte) (value []byte, ok bool, err error) {
	defer caught(&err)
	err = e.db.View(func(t *badger.Txn) error {
		it, err := t.Get(key)
		if err != nil {
			return err
		}
		value, err = it.ValueCopy(nil)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	return value, err == nil, err
}

func (e *badgerEngine) scan(prefix, first []byte, f func(k, v []byte) (bool, error)) (err error) {
	defer caught(&err)
	return e.db.View(func(t *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix, o.PrefetchValues = prefix, false // a goroutine for each value, and they are in the tree
		it := t.NewIterator(o)
		defer it.Close()
		for it.Seek(first); it.ValidForPrefix(prefix); it.Next() {
			more := false
			err := it.Item().Value(func(v []byte) (err error) {
				more, err = f(it.Item().Key(), v)
				return err
			})
			if err != nil || !more {
				return err
			}
		}
		return nil
	})
}

func (e *badgerEngine) repaired() string { return e.mended }

func (e *badgerEngine) free() uint64 { return e.folder.free() }

func (e *badgerEngine) refill() error { return e.folder.fill() }

// close flushes, unless the disk takes nothing: then Badger would die, or try for ever.
func (e *badgerEngine) close() error {
	if e.folder.room() != nil || Probe(e.folder.dir) != nil {
		return e.folder.closeTwin()
	}
	if e.ended != nil {
		<-e.ended
	}
	return errors.Join(e.db.Close(), e.folder.closeTwin())
}
