package virtual

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"coinop/protocol/money"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The far end's own sum against a frame of the vendor's.
func TestSum(t *testing.T) {
	t.Parallel()
	b, err := hex.DecodeString("5669564F74656368320018010000B3CD")
	if err != nil || sum(b[:14]) != binary.LittleEndian.Uint16(b[14:]) {
		t.Errorf("%04X, %v", sum(b[:14]), err)
	}
}

func TestFaultNames(t *testing.T) {
	t.Parallel()
	for f := FaultNone; f <= FaultGarbage; f++ {
		if got, err := ParseFault(f.String()); err != nil || got != f {
			t.Errorf("%v: %v, %v", f, got, err)
		}
	}
	if _, err := ParseFault("fire"); err == nil {
		t.Error("no error")
	}
}

// run starts a machine and gives a way to speak to it as an agent would.
func run(t *testing.T, cfg MachineConfig) (m *Machine, tty *os.File, stop func()) {
	t.Helper()
	m, err := NewMachine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	if tty, err = os.OpenFile(m.Path(), os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	stop = func() { cancel(); <-done; _ = tty.Close() }
	t.Cleanup(stop)
	return m, tty, stop
}

func say(t *testing.T, m *Machine, tty *os.File, line string, ok func(View) bool) {
	t.Helper()
	if _, err := tty.WriteString(line + "\r\n"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := m.Wait(ctx, ok); err != nil {
		t.Fatalf("after %s: %v", line, err)
	}
}

// The book is counted on over restarts, and an approval is one drop however often it is said.
func TestBook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := MachineConfig{Link: dir + "/vmc", Drops: dir + "/drops", Products: []Product{{5, money.New(150, money.EUR)}}}
	for round := 1; round <= 2; round++ {
		m, tty, stop := run(t, cfg)
		if err := m.Select(5); !errors.Is(err, ErrNotEnabled) {
			t.Errorf("select while off: %v", err)
		}
		say(t, m, tty, "C,1", func(v View) bool { return v.Status == "ENABLED" })
		if err := m.Select(6); !errors.Is(err, ErrNoProduct) {
			t.Error(err)
		}
		if err := m.Select(5); err != nil {
			t.Fatal(err)
		}
		if err := m.Select(5); !errors.Is(err, ErrSelling) {
			t.Error(err)
		}
		say(t, m, tty, "C,VEND,1.50\r\nC,VEND,1.50\r\nC,0", func(v View) bool { return v.Status == "OFF" })
		if v := m.View(); v.Drops != round || v.Approvals != 1 || v.Results != 1 {
			t.Errorf("%+v", v)
		}
		stop()
	}
	b, err := os.ReadFile(cfg.Drops)
	if err != nil || strings.Count(string(b), "\n") != 2 || !strings.Contains(string(b), `"n":2,"outlet":5,"price":"1.50 EUR"`) {
		t.Errorf("%s %v", b, err)
	}
	if _, err := os.Lstat(cfg.Link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link outlived the machine: %v", err)
	}
}

// Less money than the price, nobody who answers, a motor that takes time.
func TestController(t *testing.T) {
	t.Parallel()
	m, tty, _ := run(t, MachineConfig{Products: []Product{{5, money.New(150, money.EUR)}}, Patience: 300 * time.Millisecond, VendTime: 5 * time.Millisecond})
	say(t, m, tty, "C,1", func(v View) bool { return v.Status == "ENABLED" })
	for _, step := range []struct {
		say string
		ok  func(View) bool
	}{
		{"C,VEND,1.49", func(v View) bool { return v.Results == 1 && v.Drops == 0 }},
		{"", func(v View) bool { return v.Canceled == 1 && v.Status == "ENABLED" }},
		{"C,STOP", func(v View) bool { return v.Denials == 1 }},
		{"C,VEND,1.50", func(v View) bool { return v.Drops == 1 && v.Results == 2 && v.Status == "ENABLED" }},
	} {
		if err := m.Select(5); err != nil {
			t.Fatal(err)
		}
		say(t, m, tty, step.say, step.ok)
	}
}

// Who has read to the end has unplugged: a cable that is put at the same link afterwards stays there.
func TestPortEnds(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "tty")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 200 {
		p, err := newPort(link)
		if err != nil {
			t.Fatal(err)
		}
		_ = p.read(ctx, func([]byte) {})
		if _, err := os.Lstat(link); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("read has ended, and the link is still there")
		}
	}
}
