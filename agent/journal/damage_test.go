package journal

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"coinop/protocol"
)

// lived is a journal's folder with tables, memtables and a backlog, as a kill leaves it: nothing was
// closed.
func lived(t *testing.T) (dir string, head protocol.Position) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "journal")
	j := must[*Journal](t)(OpenBadger(dir, opts()))
	text := strings.Repeat("x", 900)
	for i := range 150 { // more than a memtable: there are tables
		var recs []protocol.Record
		for k := range 60 {
			recs = append(recs, protocol.Record{Body: protocol.DeviceEvent{Code: "test", Detail: fmt.Sprint(text, i, k)}})
		}
		if i%50 == 49 {
			recs = append(recs, protocol.Record{Body: protocol.Snapshot{Cursor: uint64(i)}})
		}
		must[[]protocol.Position](t)(j.Append(recs, nil))
		if i == 120 {
			if err := j.Release(j.Head().Seq - 1000); err != nil {
				t.Fatal(err)
			}
		}
		for {
			if n := must[int](t)(j.Trim(0, false)); n < trimMost {
				break
			}
		}
	}
	copied := filepath.Join(t.TempDir(), "journal")
	for _, suffix := range []string{".twin", ".epoch"} {
		copyFile(t, dir+suffix, copied+suffix)
	}
	names := func(dir string) (names []string) {
		for _, e := range must[[]os.DirEntry](t)(os.ReadDir(dir)) {
			names = append(names, e.Name())
		}
		return names
	}
	for { // Badger may be compacting: until nothing moved meanwhile
		before := names(dir)
		err := os.CopyFS(copied, os.DirFS(dir))
		if err == nil && slices.Equal(before, names(dir)) {
			break
		}
		if err := os.RemoveAll(copied); err != nil {
			t.Fatal(err)
		}
	}
	head = j.Head()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return copied, head
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.WriteFile(to, must[[]byte](t)(os.ReadFile(from)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// spoils are what a disk does to a file.
var spoils = map[string]func(path string, size int64) error{
	"gone":      func(p string, _ int64) error { return os.Remove(p) },
	"empty":     func(p string, _ int64) error { return os.Truncate(p, 0) },
	"cut short": func(p string, n int64) error { return os.Truncate(p, n/2) },
	"bit early": func(p string, n int64) error { return flip(p, min(n-1, 33)) },
	"bit third": func(p string, n int64) error { return flip(p, n/3) },
	"bit late":  func(p string, n int64) error { return flip(p, n-5) },
	"zeroed":    func(p string, n int64) error { return os.WriteFile(p, make([]byte, n), 0o600) },
	"block":     func(p string, n int64) error { return overwrite(p, n/4&^511, make([]byte, 4096)) },
}

func flip(path string, at int64) error {
	b := make([]byte, 1)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.ReadAt(b, max(at, 0)); err != nil {
		return err
	}
	b[0] ^= 0x10
	_, err = f.WriteAt(b, max(at, 0))
	return err
}

func overwrite(path string, at int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, at)
	return err
}

// Every file of a journal is spoiled in every way, one at a time: nothing that was acknowledged is
// lost, in the same epoch, and what was moved aside is still there.
func TestEveryFileSpoiled(t *testing.T) {
	t.Parallel()
	dir, head := lived(t)
	var files []string
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(dir)) {
		files = append(files, "/"+e.Name())
	}
	if len(files) < 6 {
		t.Fatalf("only %v", files)
	}
	var mu sync.Mutex
	fates := map[Fate]int{}
	t.Cleanup(func() { t.Logf("%d files: %v", len(files)+2, fates) })
	for _, file := range append(files, ".twin", ".epoch") {
		for how, spoil := range spoils {
			t.Run(file[1:]+" "+how, func(t *testing.T) {
				t.Parallel()
				d := filepath.Join(t.TempDir(), "journal")
				copyDir(t, dir, d)
				copyFile(t, dir+".twin", d+".twin")
				copyFile(t, dir+".epoch", d+".epoch")
				st := must[fs.FileInfo](t)(os.Stat(d + file))
				if st.Size() == 0 && strings.HasPrefix(how, "bit") {
					return
				}
				if err := spoil(d+file, st.Size()); err != nil {
					t.Fatal(err)
				}
				o := opts()
				o.NewEpoch = func() protocol.Epoch { t.Error("a new epoch"); return protocol.Epoch{7} }
				j := must[*Journal](t)(OpenBadger(d, o))
				defer j.Close()
				fate, why := j.Fate()
				mu.Lock()
				fates[fate]++
				mu.Unlock()
				if j.Head() != head || fate == Renewed {
					t.Fatalf("%s %s: head %d, want %d", fate, why, j.Head().Seq, head.Seq)
				}
				if err := j.Verify(); err != nil {
					t.Fatalf("%s %s: %v", fate, why, err)
				}
				if kept, _ := filepath.Glob(d + ".damaged-*"); (len(kept) > 0) != (fate == Rebuilt) {
					t.Fatalf("%s %s: kept %v", fate, why, kept)
				}
				must[[]protocol.Position](t)(j.Append([]protocol.Record{event(1)}, nil))
			})
		}
	}
}

// What a kill leaves, and what it does not: an empty file is deleted, and after three opens that ended
// the process Badger's files are taken for the cause.
func TestDiedOpening(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	j := must[*Journal](t)(OpenBadger(dir, opts()))
	want := must[[]protocol.Position](t)(j.Append([]protocol.Record{event(1)}, nil))
	j.Close()
	if err := os.WriteFile(filepath.Join(dir, "00099.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	j = must[*Journal](t)(OpenBadger(dir, opts()))
	if fate, why := j.Fate(); why != "deleted empty 00099.mem" || fate != Mended || j.Head() != want[0] {
		t.Fatalf("%s %q, head %+v", fate, why, j.Head())
	}
	j.Close()
	for n, fate := range []Fate{Sound, Sound, Sound, Rebuilt} {
		if err := os.WriteFile(dir+".opening", []byte(fmt.Sprintln(n)), 0o600); err != nil {
			t.Fatal(err)
		}
		j = must[*Journal](t)(OpenBadger(dir, opts()))
		if got, why := j.Fate(); got != fate || j.Head() != want[0] {
			t.Fatalf("after %d: %s %q, head %+v", n, got, why, j.Head())
		}
		j.Close()
	}
	if _, err := os.Stat(dir + ".damaged-1/MANIFEST"); err != nil {
		t.Fatal(err)
	}
}

var lifeRecords = 100_000

// A long life: 100,000 records are written, acknowledged and released; the folder stays small.
func TestLongLife(t *testing.T) {
	t.Parallel()
	const each, kept, most = 250, 1000, 24 << 20
	records := lifeRecords
	o := opts()
	o.KeepRecords = kept
	dir := t.TempDir()
	j := must[*Journal](t)(OpenBadger(filepath.Join(dir, "journal"), o))
	recs, long := make([]protocol.Record, each), strings.Repeat(" of a long life", 14)
	peak, sum := int64(0), int64(0)
	for n := range records / each {
		for i := range recs {
			recs[i] = protocol.Record{Body: protocol.DeviceEvent{Code: "test", Detail: fmt.Sprint(n, long)}}
		}
		recs[0].Body = protocol.Snapshot{}
		must[[]protocol.Position](t)(j.Append(recs, nil))
		if n%4 == 3 {
			if err := j.Release(j.Head().Seq); err != nil {
				t.Fatal(err)
			}
			must[int](t)(j.Trim(0, false))
			peak = max(peak, used(t, dir))
		}
	}
	sum = int64(records) * 300
	if peak > most {
		t.Errorf("%d MiB on disk at the most, want %d", peak>>20, most>>20)
	}
	if n := j.Head().Seq - j.Oldest(); n < kept || n > kept+2*each {
		t.Errorf("%d records are kept", n)
	}
	j.Close()
	j = must[*Journal](t)(OpenBadger(filepath.Join(dir, "journal"), o))
	defer j.Close()
	if fate, why := j.Fate(); fate != Sound {
		t.Errorf("%s: %s", fate, why)
	}
	t.Logf("%d records, some %d MB: at most %.1f MB on disk, %.1f at the end", records, sum/1e6, float64(peak)/1e6, float64(used(t, dir))/1e6)
}

// used is what a folder takes of its disk.
func used(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // a table may go meanwhile
		}
		if st, err := e.Info(); err == nil {
			n += blocks(st)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
