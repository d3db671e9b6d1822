package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	if whole, err := filepath.Abs(dir); err == nil {
		letGo(whole + "/")
	}
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
// must stay below 15 % of MemTableSize.
func small(dir string) badger.Options {
	return badger.DefaultOptions(dir).WithSyncWrites(true).WithLogger(nil).WithMetricsEnabled(false).
		WithMemTableSize(4 << 20).WithNumMemtables(2).WithNumLevelZeroTables(2).WithNumLevelZeroTablesStall(4).
		WithBaseTableSize(1 << 20).WithBaseLevelSize(4 << 20).WithValueLogFileSize(8 << 20).
		WithValueThreshold(64 << 10).WithBlockCacheSize(1 << 20).WithIndexCacheSize(1 << 20).
		WithNumCompactors(2).WithCompression(options.None).WithNumVersionsToKeep(1).WithDetectConflicts(false).
		WithChecksumVerificationMode(options.OnBlockRead).WithBypassLockGuard(true) // the data folder has a lock
}

type badgerEngine struct {
	db     *badger.DB
	folder *folder
	mended string
}

func (e *badgerEngine) commit(puts []pair, deletes [][]byte) error {
	if err := e.folder.room(); err != nil {
		return err
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
	return errors.Join(e.db.Close(), e.folder.closeTwin())
}
