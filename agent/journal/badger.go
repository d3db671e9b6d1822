package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"
)

// OpenBadger opens the journal in its own directory, mending first what a kill between two of
// Badger's own steps leaves behind: 0-byte memtable and value log files, which it refuses to open
// (dgraph-io/badger issue 2207). No acknowledged record is in such a file.
func OpenBadger(dir string, opt Options) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	mended, err := repair(dir)
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	db, err := badger.Open(small(dir))
	if err != nil { // the second attempt often succeeds where the first has cleaned up
		first := err
		more, rerr := repair(dir)
		if db, err = badger.Open(small(dir)); err != nil {
			return nil, fmt.Errorf("open journal %s: %w", dir, errors.Join(err, rerr))
		}
		mended = append(append(mended, more...), "opened at the second attempt: "+first.Error())
	}
	j, err := open(&badgerEngine{db: db, dir: dir, mended: strings.Join(mended, "; ")}, opt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", dir, err), db.Close())
	}
	return j, nil
}

// small are Badger's options for a kiosk: synced writes, a few MB of memory and of sparse files.
// ValueThreshold keeps all values in the tree, so that deletes free space by compaction alone; it
// must stay below 15 % of MemTableSize.
func small(dir string) badger.Options {
	return badger.DefaultOptions(dir).WithSyncWrites(true).WithLogger(nil).WithMetricsEnabled(false).
		WithMemTableSize(4 << 20).WithNumMemtables(2).WithNumLevelZeroTables(2).WithNumLevelZeroTablesStall(4).
		WithBaseTableSize(1 << 20).WithBaseLevelSize(4 << 20).WithValueLogFileSize(8 << 20).
		WithValueThreshold(64 << 10).WithBlockCacheSize(1 << 20).WithIndexCacheSize(1 << 20).
		WithNumCompactors(2).WithCompression(options.None).WithNumVersionsToKeep(1).WithDetectConflicts(false)
}

// repair deletes 0-byte files and names them.
func repair(dir string) (deleted []string, err error) {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return deleted, err
		}
		for _, n := range names {
			st, err := os.Stat(n)
			if errors.Is(err, fs.ErrNotExist) || (err == nil && st.Size() > 0) {
				continue
			}
			if err == nil {
				err = os.Remove(n)
			}
			if err != nil {
				return deleted, err
			}
			deleted = append(deleted, "deleted empty "+filepath.Base(n))
		}
	}
	return deleted, nil
}

type badgerEngine struct {
	db     *badger.DB
	dir    string
	mended string
}

func (e *badgerEngine) commit(puts []pair, deletes [][]byte) error {
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

func (e *badgerEngine) get(key []byte) (value []byte, ok bool, err error) {
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

func (e *badgerEngine) scan(prefix, first []byte, f func(k, v []byte) (bool, error)) error {
	return e.db.View(func(t *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix, o.PrefetchSize = prefix, 64
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

func (e *badgerEngine) free() uint64 {
	var st unix.Statfs_t
	if err := unix.Statfs(e.dir, &st); err != nil {
		return 0
	}
	return st.Bavail * uint64(st.Bsize)
}

func (e *badgerEngine) close() error { return e.db.Close() }
