package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/journal"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
	"coinop/protocol/seal"

	"golang.org/x/sys/unix"
)

// asProgram makes the test's binary the program itself, so that it is killed, and replaces itself, as a
// whole process.
const asProgram = "COINOP_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// box is a machine with an agent of its own process, whose data folder is on a disk of its own.
type box struct {
	t       *testing.T
	data    string
	config  string
	machine *virtual.Machine
	log     *buffer
	cmd     *exec.Cmd
	ended   chan struct{}
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

func newBox(t *testing.T, disk string) *box {
	t.Helper()
	dir := t.TempDir()
	b := &box{t: t, data: filepath.Join(disk, "data"), config: filepath.Join(dir, "agent.yaml"), log: &buffer{}}
	b.machine = must[*virtual.Machine](t)(virtual.NewMachine(virtual.MachineConfig{
		Link: filepath.Join(dir, "vmc"), Products: []virtual.Product{{Outlet: 5, Price: money.New(150, money.EUR)}},
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ends.Go(func() { _ = b.machine.Run(ctx) })
	t.Cleanup(func() { cancel(); ends.Wait() })
	identity(t, filepath.Join(dir, "identity"))
	text := fmt.Sprintf(`identity: %s/identity
data: %s
cloud: 127.0.0.1:1
lanes:
  - vending: {port: %s}
storage: {warn_below: 44MB, stop_below: 36MB}
`, dir, b.data, b.machine.Path())
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.kill()
		if t.Failed() {
			t.Log(b.log.String())
		}
	})
	return b
}

func identity(t *testing.T, dir string) {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(0x4711), Subject: pkix.Name{CommonName: "snack-1"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	cert := must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))
	sealed := must[seal.PrivateKey](t)(seal.NewPrivateKey())
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"device.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))}),
		"device.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		"root.crt":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		"cloud.json": must[[]byte](t)(json.Marshal(map[string][]byte{
			"relay_key": sealed.Public().Bytes(), "payment_key": sealed.Public().Bytes(),
			"signing_key": must[[]byte](t)(x509.MarshalPKIXPublicKey(key.Public())),
		})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *box) start() {
	b.t.Helper()
	b.cmd = exec.Command(os.Args[0], "run", "--config", b.config)
	b.cmd.Env = append(os.Environ(), asProgram+"=1")
	b.cmd.Stderr = b.log
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.ended = make(chan struct{})
	go func(c *exec.Cmd, ended chan struct{}) { _ = c.Wait(); close(ended) }(b.cmd, b.ended)
}

func (b *box) kill() {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill()
		<-b.ended
		b.cmd = nil
	}
}

// term stops it as a service manager does.
func (b *box) term() {
	b.t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatal(err)
	}
	select {
	case <-b.ended:
	case <-time.After(10 * time.Second):
		b.t.Fatal("SIGTERM does not end it")
	}
	if !b.cmd.ProcessState.Success() {
		b.t.Errorf("SIGTERM ended it with %s", b.cmd.ProcessState)
	}
	b.cmd = nil
}

// await waits until the agent's status is as wanted. The process must live all the while, and be the
// one that was started: replacing itself keeps its number.
func (b *box) await(what string, want func(agent.Status) bool) agent.Status {
	b.t.Helper()
	var last agent.Status
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-b.ended:
			b.t.Fatalf("%s: the agent has ended: %s", what, b.cmd.ProcessState)
		default:
		}
		st, err := agent.AskStatus(b.data)
		if err != nil || st.Running != agent.IsRunning {
			continue
		}
		if last = st; st.Process == b.cmd.Process.Pid && want(st) {
			return st
		}
	}
	b.t.Fatalf("%s: never came; the status is %+v", what, last)
	return last
}

// is waits for a code of storage.
func (b *box) is(c code.Code) agent.Status {
	b.t.Helper()
	return b.await(string(c), func(st agent.Status) bool { return st.Storage.Code == c && st.Journal.Head > 0 })
}

// works waits until it sells, but for the cloud that is not there, and has lost no record.
func (b *box) works(least agent.Status) agent.Status {
	b.t.Helper()
	st := b.await("it works", func(st agent.Status) bool {
		return st.Storage.Code == code.StorageOK && st.Journal.Opened != "" && len(st.Lanes) == 1 && st.Lanes[0].Refuses == "link_down"
	})
	if least.Journal.Head > st.Journal.Head || least.Journal.Epoch != "" && least.Journal.Epoch != st.Journal.Epoch {
		b.t.Fatalf("it has %d records of %s, had %d of %s", st.Journal.Head, st.Journal.Epoch, least.Journal.Head, least.Journal.Epoch)
	}
	return st
}

// shown waits for a screen in the log.
func (b *box) shown(screen, reason string) {
	b.t.Helper()
	want := regexp.MustCompile("screen=" + screen + " .*reason=" + reason)
	for end := time.Now().Add(20 * time.Second); !want.MatchString(b.log.String()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("never shown: %s", want)
		}
	}
}

// press is a buyer at the button.
func (b *box) press() {
	b.t.Helper()
	if err := b.machine.Select(5); err != nil {
		b.t.Fatal(err)
	}
}

// command is what a technician types; it wants an exit code and text.
func (b *box) command(want int, texts ...string) {
	b.t.Helper()
	c, out, errs := call(b.t, nil, "status", "--config", b.config)
	for _, text := range texts {
		if c != want || !strings.Contains(out, text) {
			b.t.Fatalf("status ends with %d, want %d; %q is to be in\n%s%s", c, want, text, out, errs)
		}
	}
	if c, out, _ := call(b.t, nil, "status", "--data", b.data, "--json"); c != want || !json.Valid([]byte(out)) {
		b.t.Fatalf("--json: %d %s", c, out)
	}
}

// mount needs root, or a user namespace with root in it.
func mount(t *testing.T, source, dir, kind, options string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, dir, kind, flags, options); err != nil {
		t.Fatalf("mount %s (%s) on %s: %v; this test needs to mount: run it as root, or inside unshare -rm", kind, options, dir, err)
	}
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("unmount %s: %v", dir, err)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
}

// fill leaves no more than so many bytes free on a disk, or none.
func fill(t *testing.T, path string, leave int64) {
	t.Helper()
	f := must[*os.File](t)(os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600))
	defer f.Close()
	for {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		at, n := must[int64](t)(f.Seek(0, io.SeekEnd)), int64(st.Bavail)*st.Bsize-leave
		if n <= 0 {
			return
		}
		// At one stroke: piece by piece it would take the ballast too, which is given up while it does.
		err := unix.Fallocate(int(f.Fd()), 0, at, n)
		if err == nil {
			return
		}
		if !errors.Is(err, syscall.ENOSPC) { // the agent has taken some meanwhile
			t.Fatal(err)
		}
	}
}

// A disk fills up and is emptied again, slowly and at once, while the agent runs and before it starts.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	mount(t, "tmpfs", disk, "tmpfs", "size=72m,mode=700", 0)
	t.Cleanup(func() { unmount(t, disk) })
	b, hog := newBox(t, disk), filepath.Join(disk, "hog")
	t.Cleanup(b.kill) // before the disk goes
	b.start()
	first := b.works(agent.Status{})
	if first.Storage.Ballast != 16_000_000>>12<<12+4096 && first.Storage.Ballast != 16_000_000 {
		t.Errorf("ballast of %d", first.Storage.Ballast)
	}
	b.command(exitProblem, "snack-1", "storage.ok", "link.down", "lane 0")

	fill(t, hog, 40_000_000)
	b.is(code.StorageLow)
	b.command(exitProblem, "storage.low: the disk fills up", "-> make room")
	fill(t, hog, 30_000_000)
	b.is(code.StorageFull)
	b.shown("out_of_service", "storage_full")
	b.press()
	b.shown("refused", "storage_full")
	b.command(exitProblem, "storage.full", "sells nothing: storage_full")
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	st := b.works(first)

	// Not a byte is left: the ballast is given up for what is under way.
	fill(t, hog, 0)
	st = b.await("the ballast is gone, the journal goes on", func(now agent.Status) bool {
		return now.Storage.Ballast == 0 && now.Storage.Code == code.StorageFull && now.Journal.Opened != "" && now.Journal.Head > st.Journal.Head
	})
	// And the rest: no record can be written. It stays up and says so.
	fill(t, hog, 0)
	b.await("no journal", func(now agent.Status) bool { return now.Storage.Error != "" && now.Storage.Code == code.StorageFull })
	b.command(exitProblem, "storage.full", "the disk said: ")
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	st = b.works(st)
	if st.Storage.Ballast == 0 {
		t.Error("the ballast did not come back")
	}

	// It is stopped on a full disk, and starts on one.
	fill(t, hog, 0)
	b.term()
	var told []string
	_, err := journal.Peek(filepath.Join(b.data, "journal"), func(o protocol.Opened) {
		if e, ok := o.Body.(protocol.DeviceEvent); ok {
			told = append(told, e.Code)
		}
	})
	if want := "storage.low storage.full storage.ok storage.full storage.full"; err != nil || strings.Join(told, " ") != want {
		t.Errorf("the cloud is told %q, want %q (%v)", told, want, err) // the last: it works again after it
	}
	b.command(exitFailure, "not running", "snack-1", fmt.Sprintf("%d records", st.Journal.Head))
	if err := os.Remove(filepath.Join(b.data, "journal.ballast")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	fill(t, hog, 0)
	b.start()
	b.await("up without a journal", func(now agent.Status) bool { return now.Storage.Error != "" && now.Storage.Code == code.StorageFull })
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	b.works(st)
}

// A file system that gives up after an error, as ext4 does, and one that is read-only at the start.
func TestDiskReadOnly(t *testing.T) {
	t.Parallel()
	b, again := ext4(t)
	b.start()
	st := b.works(agent.Status{})
	if err := unix.Mount("", filepath.Dir(b.data), "", unix.MS_REMOUNT, "abort"); err != nil {
		t.Fatalf("remount with abort: %v", err)
	}
	b.press()
	now := b.is(code.StorageReadOnly)
	b.shown("out_of_service", "storage_read_only")
	b.command(exitProblem, "storage.read_only: the disk has become read-only", "-> look at dmesg")
	if now.Journal.Head < st.Journal.Head {
		t.Errorf("the status forgot records: %+v", now.Journal)
	}
	b.kill()
	again() // replays the file system's own journal
	if err := unix.Mount("", filepath.Dir(b.data), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.is(code.StorageReadOnly)
	if err := unix.Mount("", filepath.Dir(b.data), "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	st = b.works(st)
	if err := unix.Mount("", filepath.Dir(b.data), "", unix.MS_REMOUNT, "abort"); err != nil {
		t.Fatal(err)
	}
	b.term() // before it has seen it
	again()
	b.start()
	b.works(st)
	b.kill()
}

// Every read and write of the disk is an I/O error from one moment on.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	b, again := ext4(t)
	b.start()
	st := b.works(agent.Status{})
	f := must[*os.File](t)(os.Open(filepath.Dir(b.data)))
	err := unix.IoctlSetPointerInt(int(f.Fd()), 0x8004587d, 2) // EXT4_IOC_SHUTDOWN, without a flush: fs/ext4/ext4.h
	if f.Close(); err != nil {
		t.Fatalf("EXT4_IOC_SHUTDOWN: %v; the kernel needs to be 4.11 or newer", err)
	}
	b.press()
	b.is(code.StorageFailing)
	b.shown("out_of_service", "storage_failing")
	b.command(exitProblem, "storage.failing", "input/output error")
	b.kill()
	again()
	b.start()
	b.works(st)
	b.kill()
}

// ext4 is a file system of its own on a loop device; again unmounts and mounts it.
func ext4(t *testing.T) (b *box, again func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a loop device: run it as root")
	}
	image, disk := filepath.Join(t.TempDir(), "image"), t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s; this test needs root, mkfs.ext4 (e2fsprogs) and loop devices", name, strings.Join(args, " "), err, out)
		}
	}
	run("truncate", "-s", "160M", image)
	run("mkfs.ext4", "-q", "-F", "-m", "0", image)
	up := func() { run("mount", "-o", "loop", image, disk) }
	up()
	t.Cleanup(func() { unmount(t, disk) })
	b = newBox(t, disk)
	t.Cleanup(b.kill) // before the disk goes
	return b, func() { unmount(t, disk); up() }
}

// Files of the journal are spoiled while the agent is dead: one costs nothing, and when both copies are
// gone a new epoch begins, in a process that lives.
func TestDiskSpoils(t *testing.T) {
	t.Parallel()
	b := newBox(t, t.TempDir())
	b.start()
	st := b.works(agent.Status{})
	b.kill()
	spoil := func(name string) {
		t.Helper()
		path := filepath.Join(b.data, name)
		size := must[os.FileInfo](t)(os.Stat(path)).Size()
		if err := os.WriteFile(path, bytes.Repeat([]byte{0xa5}, int(min(size, 1<<20))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	spoil("journal/MANIFEST")
	b.start()
	st = b.works(st)
	if st.Journal.Opened != "rebuilt" {
		t.Errorf("%+v", st.Journal)
	}
	b.command(exitProblem, "storage.rebuilt", "1 damaged journals are kept")
	b.kill()
	spoil("journal/MANIFEST")
	spoil("journal.twin")
	b.command(exitFailure, "storage.failing")
	b.start()
	now := b.works(agent.Status{})
	if now.Journal.Opened != "renewed" || now.Journal.Epoch == st.Journal.Epoch || now.Storage.Damaged != 2 {
		t.Errorf("%+v %+v", now.Journal, now.Storage)
	}
	b.command(exitProblem, "storage.damaged", "-> replace the disk")
}
