package agent_test

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
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/mdb"
	"coinop/hardware/virtual"
	"coinop/hardware/vivopay"
	"coinop/protocol"
	"coinop/protocol/card"
	"coinop/protocol/money"
	"coinop/protocol/seal"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// identityFolder is what the cloud would have written for a device.
func identityFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(0x4711), Subject: pkix.Name{CommonName: "snack-1"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	cert := must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))
	sealed := must[seal.PrivateKey](t)(seal.NewPrivateKey())
	cloud := must[[]byte](t)(json.Marshal(map[string][]byte{
		"relay_key": sealed.Public().Bytes(), "payment_key": sealed.Public().Bytes(),
		"signing_key": must[[]byte](t)(x509.MarshalPKIXPublicKey(key.Public())),
	}))
	for name, text := range map[string][]byte{
		"device.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))}),
		"device.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		"root.crt":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		"cloud.json": cloud,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shown is a screen, as the buyer sees it.
type shown struct {
	screen session.Screen
	amount money.Amount
	reason string
}

// site is a vending machine with an agent before it.
type site struct {
	t       *testing.T
	machine *virtual.Machine
	reader  *virtual.Reader
	cfg     agent.Config
	screens chan shown
	log     *safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *safeBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func newSite(t *testing.T) *site {
	t.Helper()
	run := t.TempDir()
	s := &site{t: t, screens: make(chan shown, 256), log: &safeBuffer{}}
	s.machine = must[*virtual.Machine](t)(virtual.NewMachine(virtual.MachineConfig{
		Link: filepath.Join(run, "vmc"), Products: []virtual.Product{{Outlet: 5, Price: money.New(150, money.EUR)}},
	}))
	s.reader = must[*virtual.Reader](t)(virtual.NewReader(virtual.ReaderConfig{Link: filepath.Join(run, "reader")}))
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ends.Go(func() { _ = s.machine.Run(ctx) })
	ends.Go(func() { _ = s.reader.Run(ctx) })
	t.Cleanup(func() { cancel(); ends.Wait() })
	s.cfg = agent.Config{
		Identity: must[agent.Identity](t)(agent.LoadIdentity(identityFolder(t))),
		Data:     filepath.Join(t.TempDir(), "data"), Cloud: "127.0.0.1:1", // nobody listens on tcpmux
		Policy:    protocol.Policy{Version: 1, Currency: money.EUR},
		ModeAfter: time.Hour, // there is no cloud here, and buyers come all the same
		Lanes: []agent.LaneConfig{{
			Bus:     protocol.BusMDB,
			Vending: agent.MDB(mdb.PortQibixx, s.machine.Path(), mdb.Scale{Currency: money.EUR, Decimals: 2}),
			Readers: []agent.ReaderConfig{{New: agent.ViVOpay(vivopay.Config{Path: s.reader.Path(), Currency: money.EUR})}},
		}},
		Log: slog.New(card.LogHandler(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
		Show: func(_ protocol.Lane, on session.Screen, a money.Amount, reason string) {
			s.screens <- shown{on, a, reason}
		},
	}
	return s
}

// start runs the agent; stop ends it and gives its error.
func (s *site) start() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done, ready := make(chan error, 1), make(chan struct{})
	cfg := s.cfg
	cfg.Ready = func() { close(ready) }
	go func() { done <- agent.Run(ctx, cfg) }()
	select {
	case <-ready:
	case err := <-done:
		s.t.Fatalf("the agent ended: %v", err)
	}
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { cancel(); err = <-done })
		return err
	}
	s.t.Cleanup(func() {
		_ = stop()
		if s.t.Failed() {
			s.t.Log(s.log.String())
		}
	})
	return stop
}

func (s *site) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	s.t.Cleanup(cancel)
	return ctx
}

// enabled waits until the controller lets the agent sell: an adapter that had no power is switched on, and found to
// lack its parameters, and switched on again, and forgets what was asked between.
func (s *site) enabled() {
	s.t.Helper()
	if err := s.machine.Wait(s.ctx(), func(v virtual.View) bool { return v.Status == "ENABLED" && v.Set }); err != nil {
		s.t.Fatalf("the machine does not enable us: %v (%+v)", err, s.machine.View())
	}
}

// await waits for a screen.
func (s *site) await(on session.Screen) shown {
	s.t.Helper()
	ctx := s.ctx()
	for {
		select {
		case got := <-s.screens:
			if got.screen == on {
				return got
			}
		case <-ctx.Done():
			s.t.Fatalf("screen %v never came", on)
		}
	}
}

// order presses the button until the agent takes the order: it must first have seen the bus alive.
func (s *site) order() {
	s.t.Helper()
	for {
		if err := s.machine.Select(5); err != nil && !errors.Is(err, virtual.ErrNotEnabled) && !errors.Is(err, virtual.ErrSelling) {
			s.t.Fatal(err)
		}
		select {
		case <-time.After(time.Second): // nobody heard it
			if err := s.machine.Cancel(); err != nil {
				s.t.Fatal(err)
			}
		case got := <-s.screens:
			if got.screen == session.ScreenPrice && got.amount == money.New(150, money.EUR) {
				return
			}
			if !strings.HasPrefix(got.reason, "vending_side") {
				s.t.Fatalf("%+v", got)
			}
		case <-s.ctx().Done():
			s.t.Fatal("no screen")
		}
		s.enabled()
	}
}

// refused taps a card and sees that nothing is sold for it.
func (s *site) refused() {
	s.t.Helper()
	denials := s.machine.View().Denials
	if err := s.reader.TapWhenArmed(s.ctx(), virtual.VisaTest()); err != nil {
		s.t.Fatal(err)
	}
	if got := s.await(session.ScreenRefused); got.reason == "" {
		s.t.Errorf("refused without a reason: %+v", got)
	}
	if err := s.machine.Wait(s.ctx(), func(v virtual.View) bool { return v.Denials > denials && v.Status == "ENABLED" }); err != nil {
		s.t.Fatalf("the machine was not told: %v (%+v)", err, s.machine.View())
	}
	if v := s.machine.View(); v.Drops != 0 || v.Approvals != 0 {
		s.t.Fatalf("something was sold: %+v", v)
	}
}

// Without a cloud nothing is sold by card, the buyer is told, and everything goes on after cables were
// pulled, and after a restart.
func TestUnreachableCloud(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stop := s.start()
	s.enabled()
	s.order()
	s.refused()

	if err := s.machine.Unplug(); err != nil {
		t.Fatal(err)
	}
	if err := s.machine.Replug(); err != nil {
		t.Fatal(err)
	}
	s.enabled()
	s.order()
	s.refused()

	// The reader's cable comes out while it looks for a card; the card is read when it is back.
	s.order()
	if err := s.reader.Wait(s.ctx(), func(v virtual.ReaderView) bool { return v.Armed }); err != nil {
		t.Fatal(err)
	}
	s.reader.Unplug()
	if err := s.reader.Replug(); err != nil {
		t.Fatal(err)
	}
	s.refused()

	if err := stop(); err != nil {
		t.Fatal(err)
	}
	log := s.log.String()
	for _, want := range []string{"msg=booted", "no connection to the cloud", "nothing listens at the cloud's address", "code=port_lost", "msg=stopped"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if strings.Contains(log, "4761739001010119") {
		t.Error("a card number is in the log")
	}

	stop = s.start() // on the same folder
	s.enabled()
	s.order()
	s.refused()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// A cloud that takes connections and says nothing holds nothing up, nor the end.
func TestSilentCloud(t *testing.T) {
	t.Parallel()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	taken := make(chan net.Conn, 16)
	go func() {
		defer close(taken)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			taken <- c
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		for c := range taken {
			_ = c.Close()
		}
	})
	s := newSite(t)
	s.cfg.Cloud = l.Addr().String()
	stop := s.start()
	s.enabled()
	s.order()
	s.refused()
	began := time.Now()
	if err := stop(); err != nil || time.Since(began) > 5*time.Second {
		t.Fatalf("%v after %v", err, time.Since(began))
	}
}

// The controller takes its request back: the reader is disarmed, and the next order is taken.
func TestCanceledOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stop := s.start()
	s.enabled()
	for range 3 {
		s.order()
		if err := s.reader.Wait(s.ctx(), func(v virtual.ReaderView) bool { return v.Armed }); err != nil {
			t.Fatal(err)
		}
		if err := s.machine.Cancel(); err != nil {
			t.Fatal(err)
		}
		if got := s.await(session.ScreenRefused); got.reason != "canceled" {
			t.Fatalf("%+v", got)
		}
		if err := s.reader.Wait(s.ctx(), func(v virtual.ReaderView) bool { return !v.Armed }); err != nil {
			t.Fatal(err)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestTwoAgentsOnOneFolder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stop := s.start()
	err := agent.Run(t.Context(), s.cfg)
	if !errors.Is(err, agent.ErrInUse) || !strings.Contains(err.Error(), s.cfg.Data) {
		t.Errorf("the second: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.start()(); err != nil {
		t.Errorf("after the first has ended: %v", err)
	}
}

func TestBadData(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	for name, dir := range map[string]string{"a file": file, "below a file": filepath.Join(file, "data")} {
		s.cfg.Data = dir
		if err := agent.Run(t.Context(), s.cfg); !errors.Is(err, agent.ErrData) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.cfg.Data, s.cfg.Cloud = t.TempDir(), "cloud.example.com"
	if err := agent.Run(t.Context(), s.cfg); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("an address without a port: %v", err)
	}
}

func TestLoadIdentity(t *testing.T) {
	t.Parallel()
	good := identityFolder(t)
	id, err := agent.LoadIdentity(good)
	if err != nil || id.Device != "snack-1" || id.Signer.KeyID != "4711" {
		t.Fatalf("%+v, %v", id, err)
	}
	other := identityFolder(t)
	for name, spoil := range map[string]func(dir string) error{
		"device.key is missing": func(d string) error { return os.Remove(filepath.Join(d, "device.key")) },
		"root.crt is missing":   func(d string) error { return os.Remove(filepath.Join(d, "root.crt")) },
		"not the key of device.crt": func(d string) error {
			return os.Rename(filepath.Join(other, "device.key"), filepath.Join(d, "device.key"))
		},
		"want a PEM block CERTIFICATE":  func(d string) error { return os.WriteFile(filepath.Join(d, "device.crt"), []byte("?"), 0o600) },
		"cloud.json is invalid":         func(d string) error { return os.WriteFile(filepath.Join(d, "cloud.json"), []byte("?"), 0o600) },
		"cloud.json is relay_key":       func(d string) error { return os.WriteFile(filepath.Join(d, "cloud.json"), []byte("{}"), 0o600) },
		"device.crt is missing; the fo": func(d string) error { return os.Remove(filepath.Join(d, "device.crt")) },
	} {
		dir := identityFolder(t)
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := agent.LoadIdentity(dir); !errors.Is(err, agent.ErrIdentity) || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q: %v", name, err)
		}
	}
}

// TestResponseTime: what the session counts with is what the controller is told.
func TestResponseTime(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	lane := &s.cfg.Lanes[0]
	lane.Z7 = 20 * time.Second
	vending, wired := lane.Vending, make(chan agent.Wiring, 1)
	lane.Vending = func(w agent.Wiring) (agent.Vending, error) {
		wired <- w
		return vending(w)
	}
	s.start()
	if w := <-wired; w.Z7 != lane.Z7 {
		t.Errorf("the driver has %v", w.Z7)
	}
	for _, port := range []mdb.Port{mdb.PortRaw, mdb.PortWaferstar, mdb.PortQibixx} {
		build := agent.MDB(port, "nowhere", mdb.Scale{Currency: money.EUR, Decimals: 2})
		for z7, ok := range map[time.Duration]bool{0: true, 20 * time.Second: true, 300 * time.Second: false} {
			if _, err := build(agent.Wiring{Clock: hardware.Since(), Z7: z7}); (err == nil) != ok {
				t.Errorf("port %v with %v: %v", port, z7, err)
			}
		}
	}
}
