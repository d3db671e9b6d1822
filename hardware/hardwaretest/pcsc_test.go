package hardwaretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/pcsc"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// service is a real pcscd with a real driver of a virtual reader (vsmartcard's vpcd). Its socket's path is compiled in,
// so it runs with a /run of its own (a mount namespace); its reader's port is one of ours.
type service struct {
	*virtual.VICC
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
	log  bytes.Buffer
}

const vpcd = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"

func newService(t *testing.T) *service {
	t.Helper()
	for _, path := range []string{"/usr/sbin/pcscd", vpcd, "/usr/bin/unshare"} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%v: make tools installs it (pcscd, vsmartcard-vpcd)", err)
		}
	}
	dir, err := os.MkdirTemp("", "pcsc") // the path of a socket is short
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port := twoPorts(t)
	must(t, os.MkdirAll(filepath.Join(dir, "conf"), 0o755)) //nolint:gosec // a reader's configuration
	must(t, os.MkdirAll(filepath.Join(dir, "run"), 0o755))  //nolint:gosec // pcscd's
	conf := fmt.Sprintf("FRIENDLYNAME \"Coinop\"\nDEVICENAME /dev/null:0x%X\nLIBPATH %s\nCHANNELID 0x%X\n", port, vpcd, port)
	must(t, os.WriteFile(filepath.Join(dir, "conf", "vpcd"), []byte(conf), 0o600))
	s := &service{t: t, dir: dir, VICC: virtual.NewVICC(fmt.Sprintf("127.0.0.1:%d", port))}
	must(t, s.Replug())
	t.Cleanup(func() {
		s.Present()
		s.Unplug()
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	return s
}

// twoPorts are two ports side by side that nobody listens at: the reader's two slots want them.
func twoPorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "0.0.0.0:0") //nolint:gosec // closed at once
		must(t, err)
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port+1)) //nolint:gosec // closed at once
		_ = a.Close()
		if err == nil {
			_ = b.Close()
			return port
		}
	}
	t.Fatal("no two ports side by side")
	return 0
}

func (s *service) socket() string { return filepath.Join(s.dir, "run", "pcscd", "pcscd.comm") }

// Replug starts pcscd, and waits until it listens.
func (s *service) Replug() error {
	const script = `mount --bind "$1/run" /run && exec /usr/sbin/pcscd --foreground --error --config "$1/conf"`
	args := []string{"--mount", "/bin/sh", "-c", script, "sh", s.dir}
	if os.Getuid() != 0 {
		args = append([]string{"--map-root-user"}, args...)
	}
	s.cmd = exec.Command("/usr/bin/unshare", args...) //nolint:gosec // ours
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func() { defer close(s.done); _ = s.cmd.Wait() }()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if c, err := net.Dial("unix", s.socket()); err == nil {
			return c.Close()
		}
		select {
		case <-s.done:
			return fmt.Errorf("pcscd ended: %s", s.log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("pcscd does not listen: %s", s.log.String())
}

// Unplug ends pcscd, and only that one.
func (s *service) Unplug() {
	_ = s.cmd.Process.Kill()
	<-s.done
	_ = os.RemoveAll(filepath.Join(s.dir, "run", "pcscd"))
}

func (s *service) reader(out func(hardware.Event), keys hardware.LoopKeys, name string) *pcsc.Reader {
	r, err := pcsc.New(pcsc.Config{Socket: s.socket(), Name: name, Currency: money.EUR, Keys: keys}, out)
	must(s.t, err)
	return r
}

// slot0 is the first of the virtual reader's two.
const slot0 = "Coinop 00 00"

func TestPCSC(t *testing.T) {
	t.Parallel()
	atService := func(name string, out func(hardware.Event)) (hardware.CardReader, func(context.Context) (hardware.Driver, error), error) {
		r, err := pcsc.New(pcsc.Config{Name: name, Currency: money.EUR}, out)
		if err != nil {
			return nil, nil, err
		}
		return r, r.Open, nil
	}
	LoopReader(t, atService, func(t *testing.T, out func(hardware.Event)) LoopRig {
		s := newService(t)
		r := s.reader(out, LoopKeys(t), slot0)
		return LoopRig{Far: s, Reader: r, Open: r.Open, Removes: true}
	})
}

// TestPCSCWithoutKeys: contactless cards are their number, contact cards their ATR; they are told to be there and away.
func TestPCSCWithoutKeys(t *testing.T) {
	t.Parallel()
	s, l := newService(t), NewLog(t)
	r := s.reader(l.Out, hardware.LoopKeys{}, slot0)
	supervise(t, l, r.Open)
	Next(l, func(e hardware.Health) bool { return e.State == hardware.Ready && e.Detail == slot0 })
	for name, c := range map[string]struct {
		card  *virtual.NFCCard
		entry protocol.EntryMode
		uid   string
		atr   string
	}{
		"MIFARE Classic": {Classic(t, "\xde\xad\xbe\xef", "x"), protocol.EntryContactless, "\xde\xad\xbe\xef", "3b8f8001804f0ca000000306030001000000006a"},
		"DESFire":        {DESFire(t, "\x04123456", "x"), protocol.EntryContactless, "\x04123456", "3b8180018080"},
		"contacts":       {&virtual.NFCCard{}, protocol.EntryChip, "", "3b6800000073c84012009000"},
	} {
		s.Present(c.card) // it may be in before it is asked for
		must(t, r.Activate(price, time.Minute))
		got := Next[hardware.CardRead](l, nil).Card
		if got.Entry != c.entry || string(got.Loop.UID) != c.uid || fmt.Sprintf("%x", got.Loop.ATR) != c.atr || got.Loop.Verified {
			t.Errorf("%s: %v %+v", name, got.Entry, got.Loop)
		}
		s.Present()
		Next[hardware.CardRemoved](l, nil)
	}
}

// TestPCSCNames: a reader that is not there, or cannot be told from another, is absent and says why.
func TestPCSCNames(t *testing.T) {
	t.Parallel()
	s := newService(t)
	if names, err := pcsc.Names(t.Context(), s.socket()); err != nil || !slices.Equal(names, []string{slot0, "Coinop 00 01"}) {
		t.Errorf("%q %v", names, err)
	}
	for name, want := range map[string]string{"": "more than one", "ACR122U": "it knows Coinop 00 00, Coinop 00 01"} {
		l := NewLog(t)
		r := s.reader(l.Out, hardware.LoopKeys{}, name)
		supervise(t, l, r.Open)
		if h := Next[hardware.Health](l, nil); h.State != hardware.Absent || h.Code != pcsc.CodeReader || !strings.Contains(h.Detail, want) {
			t.Errorf("%q: %+v", name, h)
		}
		must(t, r.Activate(price, time.Minute))
		if f := Next[hardware.CardFailed](l, nil); f.Reason != hardware.ReasonReader {
			t.Errorf("%q: %+v", name, f)
		}
		if n, err := pcsc.Look(t.Context(), s.socket(), name); codeOf(err) != pcsc.CodeReader || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q %v", name, n, err)
		}
	}
	if n, err := pcsc.Look(t.Context(), s.socket(), "00 01"); err != nil || n != "Coinop 00 01" {
		t.Errorf("%q %v", n, err)
	}
	if _, err := pcsc.Look(t.Context(), s.dir+"/none", ""); codeOf(err) != pcsc.CodeService {
		t.Error(err)
	}
	l := NewLog(t)
	r, err := pcsc.New(pcsc.Config{Socket: s.dir + "/none", Currency: money.EUR}, l.Out)
	must(t, err)
	if _, err := r.Open(context.Background()); err == nil || !strings.Contains(err.Error(), "pcscd installed") {
		t.Error(err)
	}
}

func codeOf(err error) string {
	n, _ := errors.AsType[hardware.Named](err)
	return n.Code
}
