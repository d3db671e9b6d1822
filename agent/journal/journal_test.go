package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"coinop/protocol"

	"github.com/google/go-cmp/cmp"
)

// kind is one kind of disk: open opens (or opens again) the journal on it.
type kind struct {
	open func(Options) (*Journal, error)
}

var media = map[string]func(t *testing.T) kind{
	"mem": func(t *testing.T) kind {
		d := NewDisk()
		return kind{open: func(o Options) (*Journal, error) { return OpenMem(d, o) }}
	},
	"badger": func(t *testing.T) kind {
		dir := t.TempDir()
		return kind{open: func(o Options) (*Journal, error) { return OpenBadger(dir, o) }}
	},
}

func opts() Options {
	return Options{
		Device: "m1", Software: "test", CertSerial: "0a", KeepRecords: 3,
		NewEpoch: func() protocol.Epoch { return protocol.Epoch{1, 2, 3} },
		Now:      protocol.Reading{Wall: 1000, Boot: protocol.BootID{9}},
	}
}

func event(n int) protocol.Record {
	return protocol.Record{
		At:   protocol.Reading{Wall: protocol.UnixMS(n), Boot: protocol.BootID{9}, Mono: time.Duration(n) * time.Millisecond},
		Body: protocol.DeviceEvent{Code: "test", Detail: strconv.Itoa(n)},
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestConformance(t *testing.T) {
	suite := map[string]func(t *testing.T, m kind){
		"chain and reopen":   testChain,
		"one transaction":    testBlobs,
		"snapshot":           testSnapshot,
		"release":            testRelease,
		"connection counter": testConnection,
		"other device":       testOtherDevice,
		"corrupt":            testCorrupt,
	}
	for name, make := range media {
		for test, f := range suite {
			t.Run(name+"/"+test, func(t *testing.T) {
				t.Parallel()
				f(t, make(t))
			})
		}
	}
}

func testChain(t *testing.T, m kind) {
	j := must[*Journal](t)(m.open(opts()))
	if j.Head().Seq != 1 || j.Head().Epoch != (protocol.Epoch{1, 2, 3}) {
		t.Fatalf("head %+v, want EpochStarted at 1", j.Head())
	}
	want := must[[]protocol.Position](t)(j.Append([]protocol.Record{event(1), event(2)}, nil))
	for round := range 3 { // 0: live, 1 and 2: after a close
		if round > 0 {
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			j = must[*Journal](t)(m.open(opts()))
		}
		if j.Head() != want[1] {
			t.Fatalf("round %d: head %+v, want %+v", round, j.Head(), want[1])
		}
		got := must[[]protocol.Sealed](t)(j.Read(1, 10))
		if len(got) != 2 || got[0].Position != want[0] || got[1].Position != want[1] {
			t.Fatalf("round %d: read %+v", round, got)
		}
		if h := must[protocol.Hash](t)(j.PrevHash(2)); h != want[0].Hash {
			t.Fatalf("prev hash %s", h)
		}
		if err := j.Verify(); err != nil {
			t.Fatal(err)
		}
	}
	o, err := protocol.OpenRecord(must[[]protocol.Sealed](t)(j.Read(1, 1))[0].Bytes)
	if err != nil || o.Device != "m1" || o.Position.Seq != 2 {
		t.Fatalf("%+v %v", o, err)
	}
	if diff := cmp.Diff(event(1), o.Record); diff != "" {
		t.Fatal(diff)
	}
	if got := must[[]protocol.Sealed](t)(j.Read(3, 10)); got != nil {
		t.Fatalf("read past the head: %+v", got)
	}
	j.Close()
}

func testBlobs(t *testing.T, m kind) {
	j := must[*Journal](t)(m.open(opts()))
	p := protocol.PaymentID{7}
	must[[]protocol.Position](t)(j.Append([]protocol.Record{event(1)}, []protocol.Blob{{Payment: p, Sealed: []byte("sealed")}}))
	j.Close()
	j = must[*Journal](t)(m.open(opts()))
	defer j.Close()
	if b := must[[]byte](t)(j.Blob(p)); string(b) != "sealed" {
		t.Fatalf("%q", b)
	}
	for range 2 {
		if err := j.DropBlob(p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Blob(p); !errors.Is(err, ErrNoBlob) {
		t.Fatal(err)
	}
}

func testSnapshot(t *testing.T, m kind) {
	j := must[*Journal](t)(m.open(opts()))
	snap, after, err := j.Latest()
	if err != nil || len(after) != 1 || len(snap.Lanes) != 0 {
		t.Fatalf("%+v %d %v", snap, len(after), err)
	}
	want := protocol.Snapshot{Lanes: [][]byte{{1}}, Cursor: 5, Counters: protocol.Counters{Exposure: 3, Count: 1}}
	must[[]protocol.Position](t)(j.Append([]protocol.Record{event(1), {At: event(2).At, Body: want}, event(3)}, nil))
	for range 2 {
		snap, after, err = j.Latest()
		if err != nil || !cmp.Equal(want, snap) || !cmp.Equal([]protocol.Record{event(3)}, after) {
			t.Fatalf("%+v %+v %v", snap, after, err)
		}
		if j.SinceSnapshot() != 1 {
			t.Fatal(j.SinceSnapshot())
		}
		j.Close()
		j = must[*Journal](t)(m.open(opts()))
	}
	j.Close()
}

func testRelease(t *testing.T, m kind) {
	j := must[*Journal](t)(m.open(opts()))
	for i := range 10 {
		must[[]protocol.Position](t)(j.Append([]protocol.Record{event(i)}, nil))
	}
	oldest := func() protocol.Seq { return j.Oldest() }
	release := func(n protocol.Seq) error {
		err := j.Release(n)
		must[int](t)(j.Trim(2000, false))
		return err
	}
	if err := release(11); err != nil || oldest() != 1 {
		t.Fatalf("deleted without a snapshot: oldest %d, %v", oldest(), err)
	}
	must[[]protocol.Position](t)(j.Append([]protocol.Record{{Body: protocol.Snapshot{}}}, nil)) // 12
	must[[]protocol.Position](t)(j.Append([]protocol.Record{event(12), event(13)}, nil))
	if err := release(6); err != nil || oldest() != 9 {
		// released stays 11, the highest ever; the snapshot is at 12, three records are kept
		t.Fatalf("oldest %d, want 9 (%v)", oldest(), err)
	}
	if err := release(14); err != nil || oldest() != 9 {
		t.Fatalf("released past the snapshot: oldest %d (%v)", oldest(), err)
	}
	if err := release(99); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a checkpoint above our head: %v", err)
	}
	j.Close()
	j = must[*Journal](t)(m.open(opts()))
	defer j.Close()
	if oldest() != 9 {
		t.Fatalf("after reopen: oldest %d", oldest())
	}
	if _, err := j.Read(3, 1); !errors.Is(err, ErrReleased) {
		t.Fatalf("read of a released record: %v", err)
	}
	if err := j.Verify(); err != nil {
		t.Fatal(err)
	}
	// The three that are kept are records of second 1: a month later they go, and short of disk at once.
	month := protocol.UnixMS(1000 + 31*24*3600*1000)
	if n := must[int](t)(j.Trim(1000+29*24*3600*1000, false)); n != 0 {
		t.Fatalf("%d deleted before their time", n)
	}
	if n := must[int](t)(j.Trim(month, false)); n != 3 || oldest() != 12 {
		t.Fatalf("%d deleted, oldest %d", n, oldest())
	}
	if n := must[int](t)(j.Trim(month, true)); n != 0 {
		t.Fatalf("deleted past the snapshot: %d", n)
	}
	must[[]protocol.Position](t)(j.Append([]protocol.Record{{Body: protocol.Snapshot{}}}, nil)) // 15
	want := must[protocol.Hash](t)(j.PrevHash(14))
	if n := must[int](t)(j.Trim(1000, true)); n != 3 || oldest() != 15 {
		t.Fatalf("short of disk: %d deleted, oldest %d", n, oldest())
	}
	if got := must[protocol.Hash](t)(j.PrevHash(14)); got != want || got.IsZero() {
		t.Fatalf("the hash before the oldest record is %s, want %s", got, want)
	}
	if _, err := j.PrevHash(13); !errors.Is(err, ErrReleased) {
		t.Fatal(err)
	}
	if err := j.Verify(); err != nil {
		t.Fatal(err)
	}
}

func testConnection(t *testing.T, m kind) {
	for want := uint64(1); want <= 3; want++ {
		j := must[*Journal](t)(m.open(opts()))
		if n := must[uint64](t)(j.NextConnection()); n != want {
			t.Fatalf("connection %d, want %d", n, want)
		}
		j.Close()
	}
}

func testOtherDevice(t *testing.T, m kind) {
	must[*Journal](t)(m.open(opts())).Close()
	o := opts()
	o.Device = "m2"
	if _, err := m.open(o); !errors.Is(err, ErrForeign) {
		t.Fatalf("the journal of m1 opened for m2: %v", err)
	}
	must[*Journal](t)(m.open(opts())).Close() // and nothing of it was touched
}

func testCorrupt(t *testing.T, m kind) {
	j := must[*Journal](t)(m.open(opts()))
	must[[]protocol.Position](t)(j.Append([]protocol.Record{event(1), event(2)}, nil))
	v, _, err := j.eng.get(recordKey(2)) // behind the journal's back
	if err != nil {
		t.Fatal(err)
	}
	v[len(v)-1] ^= 1
	if err := j.eng.(*twin).engine.commit([]pair{{recordKey(2), v}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := j.Verify(); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("verify: %v", err)
	}
	want := j.Head()
	j.Close()
	j = must[*Journal](t)(m.open(opts())) // the second copy has what that was
	defer j.Close()
	if fate, why := j.Fate(); fate != Rebuilt || j.Head() != want || !strings.Contains(why, "does not follow") && !strings.Contains(why, "record 2") {
		t.Fatalf("%s %q, head %+v", fate, why, j.Head())
	}
	if err := j.Verify(); err != nil {
		t.Fatal(err)
	}
}

// Power is cut before, in the middle of and after every commit, and tears what stands beside: what was
// acknowledged is there, a transaction is whole or absent, and the journal refuses work until it is
// opened again.
func TestPowerCutAtEveryCommit(t *testing.T) {
	for cut := range 12 {
		for mode := range 3 {
			for torn := range 4 {
				t.Run(fmt.Sprintf("commit %d mode %d torn %d", cut, mode, torn), func(t *testing.T) { powerCut(t, cut, mode, torn) })
			}
		}
	}
}

func powerCut(t *testing.T, cut, mode, torn int) {
	d := NewDisk()
	commits := 0
	*[]*func() error{&d.Before, &d.Between, &d.After}[mode] = func() error {
		commits++
		if commits == cut+1 {
			return ErrPowerCut
		}
		return nil
	}
	acked := protocol.Seq(0)
	j, err := OpenMem(d, opts())
	for i := 0; err == nil && i < 10; i++ {
		if _, err = j.Append([]protocol.Record{event(2 * i), event(2*i + 1)}, nil); err == nil {
			acked = j.Head().Seq
		}
	}
	if cut < 11 && !errors.Is(err, ErrPowerCut) {
		t.Fatal(err)
	}
	if err != nil && j != nil {
		if _, err := j.Append([]protocol.Record{event(0)}, nil); !errors.Is(err, ErrFailed) || j.Health() == nil {
			t.Fatalf("append after a failed one: %v", err)
		}
	}
	d.Before, d.Between, d.After = nil, nil, nil
	switch torn {
	case 1:
		d.Tear(false, 0)
	case 2:
		d.Tear(false, 3)
	case 3:
		d.Tear(true, 3)
	}
	j = must[*Journal](t)(OpenMem(d, opts()))
	if n := j.Head().Seq; n < acked || n%2 != 1 {
		t.Fatalf("head %d, acknowledged %d", n, acked)
	}
	if err := j.Verify(); err != nil {
		t.Fatal(err)
	}
	if fate, why := j.Fate(); fate > Mended {
		t.Fatalf("%s: %s", fate, why)
	}
}

// flaky is a disk whose nth operation fails, and all after it.
type flaky struct {
	*Disk
	n int
}

var errIO = errors.New("input/output error")

func (f *flaky) ok() error {
	if f.n--; f.n < 0 {
		return errIO
	}
	return nil
}

func (f *flaky) first() (engine, error) {
	if err := f.ok(); err != nil {
		return nil, err
	}
	e, err := f.Disk.first()
	return flakyEngine{e, f}, err
}

func (f *flaky) aside(both bool) (string, error) {
	return either(f.ok(), func() (string, error) { return f.Disk.aside(both) })
}
func (f *flaky) open() (io.ReadCloser, error) { return either(f.ok(), f.Disk.open) }
func (f *flaky) setEpoch(e protocol.Epoch) error {
	return unless(f.ok(), func() error { return f.Disk.setEpoch(e) })
}

func (f *flaky) append(at int64, b []byte) error {
	return unless(f.ok(), func() error { return f.Disk.append(at, b) })
}

func (f *flaky) replace(w func(io.Writer) error) (int64, error) {
	return either(f.ok(), func() (int64, error) { return f.Disk.replace(w) })
}

type flakyEngine struct {
	engine
	f *flaky
}

func (e flakyEngine) commit(puts []pair, deletes [][]byte) error {
	return unless(e.f.ok(), func() error { return e.engine.commit(puts, deletes) })
}

func either[T any](err error, f func() (T, error)) (v T, _ error) {
	if err != nil {
		return v, err
	}
	return f()
}

func unless(err error, f func() error) error {
	if err != nil {
		return err
	}
	return f()
}

// Every operation of a disk fails once, for the first time, of an opening that mends and of the life
// after it: what was acknowledged is there when the disk works again, also after a rebuilding and a new
// epoch that were not ended.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*Disk){
		"sound": func(*Disk) {}, "torn": func(d *Disk) { d.Tear(false, 3) }, "second torn": func(d *Disk) { d.Tear(true, 2) },
		"first spoiled": func(d *Disk) { d.Spoil(false) }, "both spoiled": func(d *Disk) { d.Spoil(true) },
	} {
		t.Run(name, func(t *testing.T) {
			for n, done := 0, false; !done; n++ {
				d, o := NewDisk(), opts()
				epochs := byte(1)
				o.NewEpoch = func() protocol.Epoch { epochs++; return protocol.Epoch{epochs} }
				j := must[*Journal](t)(OpenMem(d, o))
				many := make([]protocol.Record, 2*baseKeys) // more than a frame of a base
				for i := range many {
					many[i] = event(i)
				}
				must[[]protocol.Position](t)(j.Append(many, nil))
				if err := j.eng.(*twin).anew(); err != nil {
					t.Fatal(err)
				}
				for i := range 4 {
					must[[]protocol.Position](t)(j.Append([]protocol.Record{event(i), {Body: protocol.Snapshot{}}}, nil))
				}
				was := j.Head()
				harm(d)
				j, err := open(&flaky{Disk: d, n: n}, o)
				acked := was
				for i := 0; err == nil && i < 3; i++ {
					acked = j.Head()
					if _, err = j.Append([]protocol.Record{event(i)}, nil); err == nil {
						err = j.Release(j.Head().Seq - 1)
					}
				}
				if done = err == nil; !done && !errors.Is(err, errIO) {
					t.Fatalf("operation %d: %v", n, err)
				}
				j = must[*Journal](t)(OpenMem(d, o))
				if name != "both spoiled" && (j.Head().Epoch != was.Epoch || j.Head().Seq < acked.Seq) {
					t.Fatalf("operation %d: head %+v, acknowledged %+v", n, j.Head(), acked)
				}
				if acked.Epoch != was.Epoch && (j.Head().Epoch != acked.Epoch || j.Head().Seq < acked.Seq) {
					t.Fatalf("operation %d in the new epoch: head %+v, acknowledged %+v", n, j.Head(), acked)
				}
				if err := j.Verify(); err != nil {
					t.Fatalf("operation %d: %v", n, err)
				}
				if n > 60 {
					t.Fatal("no end")
				}
				if name == "both spoiled" && done {
					first := must[[]protocol.Sealed](t)(j.Read(0, 1))
					r, err := protocol.OpenRecord(first[0].Bytes)
					if s, ok := r.Body.(protocol.EpochStarted); err != nil || !ok || s.PrevEpoch != was.Epoch {
						t.Fatalf("%+v %v", r, err)
					}
				}
			}
		})
	}
}

// A sector of the second copy that cannot be read costs nothing: the first has it.
func TestUnreadableSector(t *testing.T) {
	t.Parallel()
	d := NewDisk()
	j := must[*Journal](t)(OpenMem(d, opts()))
	for i := range 9 {
		must[[]protocol.Position](t)(j.Append([]protocol.Record{event(i)}, nil))
	}
	want := j.Head()
	j = must[*Journal](t)(open(&sector{d, len(d.file) / 2}, opts()))
	if fate, why := j.Fate(); fate != Mended || why != "second copy written anew" || j.Head() != want {
		t.Fatalf("%s %q: head %d", fate, why, j.Head().Seq)
	}
}

// sector is a disk whose second copy cannot be read from a byte on.
type sector struct {
	*Disk
	at int
}

func (s *sector) open() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(bytes.NewReader(s.file[:s.at]), iotest.ErrReader(fmt.Errorf("read: %w", syscall.EIO)))), nil
}

// FuzzTwin: a file of any bytes is read without harm, and what is good of it is read again alike.
func FuzzTwin(f *testing.F) {
	d := NewDisk()
	j, err := OpenMem(d, opts())
	if err != nil {
		f.Fatal(err)
	}
	if _, err := j.Append([]protocol.Record{event(1)}, []protocol.Blob{{Sealed: []byte("x")}}); err != nil {
		f.Fatal(err)
	}
	f.Add(d.file)
	f.Add(d.file[:len(d.file)-3])
	f.Add([]byte(twinMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := survey(&Disk{file: b}, nil)
		if err != nil || x.size > int64(len(b)) || x.last < x.from {
			t.Fatalf("%+v %v", x, err)
		}
		if again, err := survey(&Disk{file: b[:x.size]}, nil); x.whole && (again != x || err != nil) {
			t.Fatalf("%+v, then %+v %v", x, again, err)
		}
	})
}

// Both copies are spoiled: a new epoch names the one before, and how far it had come as far as known.
func TestBothSpoiled(t *testing.T) {
	t.Parallel()
	d, o := NewDisk(), opts()
	j := must[*Journal](t)(OpenMem(d, o))
	must[[]protocol.Position](t)(j.Append([]protocol.Record{event(1)}, nil))
	d.Spoil(true)
	o.NewEpoch = func() protocol.Epoch { return protocol.Epoch{4} }
	j = must[*Journal](t)(OpenMem(d, o))
	_, after, err := j.Latest()
	if err != nil || len(after) != 1 || j.Head().Epoch != (protocol.Epoch{4}) || d.Aside() != 1 {
		t.Fatalf("%+v %v", after, err)
	}
	want := protocol.EpochStarted{PrevEpoch: protocol.Epoch{1, 2, 3}, CertSerial: "0a", Software: "test", Reason: "corrupt"}
	if diff := cmp.Diff(protocol.Body(want), after[0].Body); diff != "" {
		t.Fatal(diff)
	}
	if fate, why := j.Fate(); fate != Renewed || !strings.Contains(why, "another folder") {
		t.Fatalf("%s: %s", fate, why)
	}
}

// A real process is killed with -9 while it writes; every acknowledged record must be there.
func TestKill(t *testing.T) {
	if dir := os.Getenv("COINOP_JOURNAL_KILL"); dir != "" {
		j, err := OpenBadger(dir, opts())
		if err != nil {
			fmt.Println("open:", err)
			os.Exit(2)
		}
		if err := j.Verify(); err != nil {
			fmt.Println("verify:", err)
			os.Exit(2)
		}
		fmt.Println(j.Head().Seq)
		for {
			if _, err := j.Append([]protocol.Record{event(1), event(2)}, nil); err != nil {
				os.Exit(2)
			}
			fmt.Println(j.Head().Seq)
		}
	}
	t.Parallel()
	dir, acked, total := t.TempDir(), 0, 0
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	const rounds = 12
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "COINOP_JOURNAL_KILL="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := rnd.IntN(60) + 1; n > 0 && lines.Scan(); n-- {
			seq, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("seed %d round %d: %s", seed, round, lines.Text())
			}
			if seq < acked {
				t.Fatalf("seed %d round %d: head %d, acknowledged %d", seed, round, seq, acked)
			}
			acked = seq
			total++
		}
		cmd.Process.Kill()
		for lines.Scan() { // what it had acknowledged before the kill reached it
			if seq, err := strconv.Atoi(lines.Text()); err == nil {
				acked = seq
			}
		}
		cmd.Wait()
	}
	j := must[*Journal](t)(OpenBadger(dir, opts()))
	defer j.Close()
	if int(j.Head().Seq) < acked {
		t.Fatalf("seed %d: head %d, acknowledged %d", seed, j.Head().Seq, acked)
	}
	if err := j.Verify(); err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: %d kills, %d transactions acknowledged, 0 lost", seed, rounds, total)
}

// BenchmarkAppend is one synced transaction of three records.
func BenchmarkAppend(b *testing.B) {
	j, err := OpenBadger(b.TempDir(), opts())
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	recs := []protocol.Record{event(1), event(2), event(3)}
	for b.Loop() {
		if _, err := j.Append(recs, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRawSync is what the disk gives in the same run: pwrite of 1 KB and fdatasync.
func BenchmarkRawSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(64 << 20); err != nil {
		b.Fatal(err)
	}
	block, off := bytes.Repeat([]byte{1}, 1<<10), int64(0)
	for b.Loop() {
		if _, err := f.WriteAt(block, off); err != nil {
			b.Fatal(err)
		}
		if err := datasync(f); err != nil {
			b.Fatal(err)
		}
		off = (off + 1<<10) % (63 << 20)
	}
}
