package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"coinop/protocol"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

// folder is a real disk's medium.
type folder struct {
	dir     string
	ballast int64
	died    bool     // Badger's files end the process that opens them
	twin    *os.File // opened for writing at the first append
}

const (
	// commitRoom must be free for a commit: what Badger may map and fill at once, with its compaction.
	commitRoom = 12 << 20
	// openRoom must be free to open: its files are made at once.
	openRoom = 16 << 20
	// diedMost is how many opens in a row may end with the process before Badger's files are the cause.
	diedMost = 3
)

// usable reports whether the disk takes anything at all: room, and a file written and synced. On a
// disk without, Badger would not fail but die.
func (f *folder) usable() error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	if f.free() < openRoom {
		_ = os.Remove(f.dir + ".ballast")
		if free := f.free(); free < openRoom {
			return fmt.Errorf("%w: %d KiB free, %d are needed", ErrFull, free>>10, openRoom>>10)
		}
	}
	if err := Probe(filepath.Dir(f.dir)); err != nil {
		return err
	}
	return f.fill()
}

// Check reports whether a journal could be opened in a folder, as far as its disk is concerned: nil,
// ErrFull or what the disk said. It gives the ballast up when the disk is full.
func Check(dir string) error { return (&folder{dir: dir}).usable() }

// Probe writes a small file into a folder, syncs and reads it, and takes it away: nil when its disk
// works.
func Probe(dir string) (err error) {
	file, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	if _, err := file.WriteString("coinop"); err != nil {
		return err
	}
	return file.Sync()
}

// room is nil when a commit has room; the ballast is given up for it.
func (f *folder) room() error {
	if f.free() >= commitRoom {
		return nil
	}
	_ = os.Remove(f.dir + ".ballast")
	if free := f.free(); free < commitRoom {
		return fmt.Errorf("%w: %d KiB free, %d are needed", ErrFull, free>>10, commitRoom>>10)
	}
	return nil
}

// fill puts the ballast there when it is not and there is room for twice as much.
func (f *folder) fill() error {
	path := f.dir + ".ballast"
	if st, err := os.Stat(path); f.ballast <= 0 || err == nil && st.Size() >= f.ballast {
		return nil
	}
	if free := f.free(); free < openRoom+2*uint64(f.ballast) { //nolint:gosec // positive
		return nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(file.Fd()), 0, 0, f.ballast)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		_, err = io.CopyN(file, zeros{}, f.ballast)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (f *folder) free() uint64 {
	var st unix.Statfs_t
	if err := unix.Statfs(f.dir, &st); err != nil {
		return 0
	}
	return st.Bavail * uint64(st.Bsize) //nolint:gosec // not negative
}

// opening counts this open, and says how many before it have not ended.
func (f *folder) opening() (died int, err error) {
	path := f.dir + ".opening"
	if text, err := os.ReadFile(path); err == nil {
		died, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	return died, os.WriteFile(path, []byte(strconv.Itoa(died+1)+"\n"), 0o600)
}

func (f *folder) first() (engine, error) {
	if f.died {
		return nil, fmt.Errorf("%w: opening it ended the process %d times in a row", ErrCorrupt, diedMost)
	}
	mended, err := mend(f.dir)
	if err != nil {
		return nil, err
	}
	if err := tables(f.dir); err != nil {
		return nil, err
	}
	db, err := badger.Open(small(f.dir))
	if err != nil { // the second attempt often succeeds where the first has cleaned up
		first := err
		var more []string
		if more, err = mend(f.dir); err != nil {
			return nil, err
		}
		if db, err = badger.Open(small(f.dir)); err != nil {
			return nil, f.blame(err)
		}
		mended = append(append(mended, more...), "opened at the second attempt: "+first.Error())
	}
	return &badgerEngine{db: db, folder: f, mended: strings.Join(mended, "; "), written: lookEvery}, nil
}

// blame tells damage from a system that lacks something: only damage is made good.
func (f *folder) blame(err error) error {
	for _, lack := range []error{fs.ErrPermission, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, lack) {
			return err
		}
	}
	if perr := Probe(filepath.Dir(f.dir)); perr != nil {
		return errors.Join(err, perr)
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// tables looks at the end of each table: one without the lengths that stand there would not fail to
// open but end the process, in a goroutine of Badger's own (its table/table.go, initIndex). A table that its manifest
// does not name is what a kill left of a compaction, whole or not: Badger deletes it.
func tables(dir string) error {
	file, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	m, _, err := badger.ReplayManifestFile(file, 0, small(dir))
	if e := file.Close(); e != nil {
		return e
	}
	if err != nil {
		return nil //nolint:nilerr // Badger reads it first too, and says so
	}
	for id := range m.Tables {
		name := fmt.Sprintf("%06d.sst", id)
		ok, err := table(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // gone: Badger says so
			return err
		}
		if err == nil && !ok {
			return fmt.Errorf("%w: the end of %s is spoiled", ErrCorrupt, name)
		}
	}
	return nil
}

// table: an index, its length, its checksum, and the checksum's length, big endian.
func table(path string) (ok bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return false, err
	}
	end := st.Size()
	length := func() (int64, error) {
		var b [4]byte
		if end < 4 {
			return 0, nil
		}
		end -= 4
		_, err := file.ReadAt(b[:], end)
		return int64(binary.BigEndian.Uint32(b[:])), err
	}
	sum, err := length()
	if err != nil || sum < 1 || sum > 64 {
		return false, err
	}
	end -= sum
	index, err := length()
	return err == nil && index > 0 && index < end, err
}

// mend deletes what a kill between two of Badger's own steps leaves behind: 0-byte memtables and
// value logs, which it refuses to open (dgraph-io/badger issue 2207). No acknowledged record is in
// such a file, and if a disk has made one empty, the second copy has what was.
func mend(dir string) (deleted []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
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

func (f *folder) aside(both bool) (string, error) {
	for n := 1; ; n++ {
		where := fmt.Sprintf("%s.damaged-%d", f.dir, n)
		if _, err := os.Lstat(where); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err := os.Rename(f.dir, where); err != nil {
			return "", err
		}
		f.died = false
		if both {
			err := errors.Join(f.closeTwin(), os.Rename(f.dir+".twin", where+".twin"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
		if err := os.Mkdir(f.dir, 0o700); err != nil {
			return "", err
		}
		return where, syncDir(filepath.Dir(f.dir))
	}
}

func (f *folder) epoch() (protocol.Epoch, bool) {
	text, err := os.ReadFile(f.dir + ".epoch")
	if err != nil {
		return protocol.Epoch{}, false
	}
	var e protocol.Epoch
	err = e.UnmarshalText([]byte(strings.TrimSpace(string(text))))
	return e, err == nil
}

func (f *folder) setEpoch(e protocol.Epoch) error {
	_, err := writeFile(f.dir+".epoch", func(w io.Writer) error {
		_, err := fmt.Fprintln(w, e)
		return err
	})
	return err
}

func (f *folder) open() (io.ReadCloser, error) { return os.Open(f.dir + ".twin") }

func (f *folder) append(at int64, frame []byte) (err error) {
	if err := f.room(); err != nil {
		return err
	}
	if f.twin == nil {
		if f.twin, err = os.OpenFile(f.dir+".twin", os.O_RDWR, 0); err != nil {
			return err
		}
	}
	st, err := f.twin.Stat()
	if err == nil && st.Size() != at { // a torn frame is behind it
		err = f.twin.Truncate(at)
	}
	if err == nil {
		_, err = f.twin.WriteAt(frame, at)
	}
	if err == nil {
		err = unix.Fdatasync(int(f.twin.Fd()))
	}
	return err
}

func (f *folder) replace(write func(io.Writer) error) (int64, error) {
	size, err := writeFile(f.dir+".twin", write)
	return size, errors.Join(err, f.closeTwin())
}

func (f *folder) closeTwin() error {
	if f.twin == nil {
		return nil
	}
	file := f.twin
	f.twin = nil
	return file.Close()
}

// writeFile makes a file that is whole and synced before it has its name.
func writeFile(path string, write func(io.Writer) error) (size int64, err error) {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path+".new"))
		}
	}()
	w := bufio.NewWriterSize(file, 64<<10)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		size, err = file.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return 0, err
	}
	if err = os.Rename(path+".new", path); err != nil {
		return 0, err
	}
	return size, syncDir(filepath.Dir(path))
}

// blocks is what a file takes, which is less than its size where it has holes.
func blocks(st fs.FileInfo) int64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Blocks * 512
	}
	return st.Size()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
