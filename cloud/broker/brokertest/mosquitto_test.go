package brokertest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/cloud/broker"
	"coinop/cloud/broker/brokertest"
	"coinop/cloud/identity"
	"coinop/deploy/mosquitto"
	"coinop/protocol"
)

// TestMosquitto: the same suite on Mosquitto with the files of deploy/mosquitto and the cloud's end at
// it, so that the broker stays something that can be replaced.
func TestMosquitto(t *testing.T) { // not parallel: the bystander is timed
	brokertest.Run(t, startMosquitto)
}

func startMosquitto(t *testing.T) brokertest.Broker {
	h := newHall(t)
	heard := make(chan brokertest.Message, 10_000)
	r := h.replica(1, func(m broker.Message) error {
		heard <- brokertest.Message{Topic: string(m.Topic), Payload: m.Payload}
		return nil
	})
	return brokertest.Broker{
		Addr: h.m.Machines, Device: h.devices.device, Messages: heard, Alive: h.m.Alive,
		Publish: func(topic string, payload []byte) error {
			return r.Publish(t.Context(), protocol.Topic(topic), payload)
		},
	}
}

// hall is a Mosquitto, its two roots, and replicas of the cloud at it.
type hall struct {
	t                 *testing.T
	m                 *brokertest.Mosquitto
	devices, replicas *authority
}

func newHall(t *testing.T) *hall {
	h := &hall{t: t, devices: newAuthority(t), replicas: newAuthority(t)}
	var err error
	if h.m, err = brokertest.StartMosquitto(h.fill); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("mosquitto said:\n%s", h.m.Log())
		}
		if err := h.m.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *hall) fill(p mosquitto.Place) error {
	server := h.devices.issue("broker", x509.ExtKeyUsageServerAuth)
	key, err := x509.MarshalECPrivateKey(server.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return err
	}
	revoked, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
	}, h.devices.cert, h.devices.key)
	if err != nil {
		return err
	}
	conf, err := p.Conf()
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{
		mosquitto.RootFile:      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.devices.cert.Raw}),
		mosquitto.ReplicasFile:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.replicas.cert.Raw}),
		mosquitto.ServerFile:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate[0]}),
		mosquitto.ServerKeyFile: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
		mosquitto.RevokedFile:   pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: revoked}),
		mosquitto.ConfFile:      []byte(conf), mosquitto.ACLFile: []byte(mosquitto.ACL()),
	} {
		if err := os.WriteFile(filepath.Join(p.Dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// replica starts one and waits until all its connections stand.
func (h *hall) replica(connections int, tap func(broker.Message) error) *broker.Remote {
	h.t.Helper()
	cfg := h.replicas.device(identity.ReplicaName)
	cfg.RootCAs = h.devices.roots()
	r, err := broker.NewRemote(broker.RemoteConfig{URL: "mqtts://" + h.m.Clouds, TLS: cfg, Tap: tap, Connections: connections})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	})
	h.stands(r)
	return r
}

func (h *hall) stands(r *broker.Remote) {
	h.t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		up, of := r.Up()
		if up == of {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("%d of %d connections\n%s", up, of, h.m.Log())
		}
	}
}

// ears are what a replica heard.
type ears struct {
	mu    sync.Mutex
	seen  map[string]int
	whole int
}

func (e *ears) tap(m broker.Message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen == nil {
		e.seen = map[string]int{}
	}
	e.seen[string(m.Payload)]++
	e.whole++
	return nil
}

func (e *ears) count() int { e.mu.Lock(); defer e.mu.Unlock(); return e.whole }

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// Two replicas share what devices say, each message comes to one of them; who comes and goes, both
// hear. When one ends the other hears all.
func TestReplicasShare(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	var a, b ears
	h.replica(4, a.tap)
	gone := h.replica(4, b.tap)
	say := brokertest.Dial(t, h.m.Machines, h.devices.device, "m1")
	const n = 200
	for i := range n {
		say.Publish("coinop/v1/m1/up/auth", fmt.Sprint(i))
	}
	eventually(t, "not all was heard", func() bool { return a.count()+b.count() >= n })
	if a.count() < n/10 || b.count() < n/10 {
		t.Errorf("one heard %d, the other %d", a.count(), b.count())
	}
	say.Publish("coinop/v1/m1/up/conn", "here")
	eventually(t, "not everybody knows who came", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		b.mu.Lock()
		defer b.mu.Unlock()
		return a.seen["here"] == 1 && b.seen["here"] == 1
	})
	for i := range n {
		if got := a.seen[fmt.Sprint(i)] + b.seen[fmt.Sprint(i)]; got != 1 {
			t.Errorf("message %d came %d times", i, got)
		}
	}
	if d := gone.Stats().Dropped.Load(); d != 0 {
		t.Errorf("%d dropped", d)
	}
}

// The broker is killed and comes back: the connections are made again by themselves, a device hears
// what is told it then, and what was lost is counted.
func TestReplicaConnectsAgain(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	var a ears
	r := h.replica(2, a.tap)
	h.m.Kill()
	eventually(t, "it does not notice", func() bool { up, _ := r.Up(); return up == 0 })
	if n := r.Stats().Lost.Load(); n != 2 {
		t.Errorf("%d connections counted as lost", n)
	}
	var err error
	for n := 0; n <= 5000 && err == nil; n++ { // nobody takes these: at some point there is no room
		err = r.Publish(t.Context(), protocol.TopicOf("nobody", protocol.DnAuth), []byte("x"))
	}
	if !errors.Is(err, broker.ErrBusy) || r.Stats().Dropped.Load() != 1 {
		t.Errorf("%v, %d dropped", err, r.Stats().Dropped.Load())
	}
	if err := h.m.Run(); err != nil {
		t.Fatal(err)
	}
	h.stands(r)
	c := brokertest.Dial(t, h.m.Machines, h.devices.device, "m1")
	c.Subscribe("coinop/v1/m1/dn/#")
	if err := r.Publish(t.Context(), protocol.TopicOf("m1", protocol.DnAuth), []byte("answer")); err != nil {
		t.Fatal(err)
	}
	c.WantMessage("coinop/v1/m1/dn/auth", "answer")
	c.Publish("coinop/v1/m1/up/auth", "ask")
	eventually(t, "not heard", func() bool { return a.count() == 1 })
}

// A tap without room, and a device that says more than its share: each message is counted and stands
// in nobody's way, however many there are.
func TestReplicaBusy(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	var a ears
	r := h.replica(1, func(m broker.Message) error {
		if strings.HasPrefix(string(m.Payload), "flood") {
			return broker.ErrBusy
		}
		return a.tap(m)
	})
	const flood = 1000 // more than the broker's window for one client, and more than a device's share
	c := brokertest.Dial(t, h.m.Machines, h.devices.device, "m1")
	began := time.Now()
	for i := range flood {
		c.Publish("coinop/v1/m1/up/auth", fmt.Sprintf("flood %d", i))
	}
	earned := int64(time.Since(began)/time.Second+1) * 200
	brokertest.Dial(t, h.m.Machines, h.devices.device, "m2").Publish("coinop/v1/m2/up/otlp/traces", "ask")
	eventually(t, "the flood stands in the way", func() bool { return a.count() == 1 })
	busy, over := r.Stats().Busy.Load(), r.Stats().By(broker.ReasonRate)
	if busy+over != flood || busy < 400 || busy > 400+earned {
		t.Errorf("%d counted as busy and %d as more than its share, of %d, a burst of 400 and %d earned", busy, over, flood, earned)
	}
}

// Neither root vouches for the other's clients: a machine is nobody at the cloud's door, and the
// cloud's name, certified by the machines' root, gets no further.
func TestDoorsApart(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	for name, c := range map[string]struct {
		addr string
		from *authority
		who  string
	}{
		"a machine at the cloud's door":      {h.m.Clouds, h.devices, "m1"},
		"the cloud at the machines' door":    {h.m.Machines, h.replicas, identity.ReplicaName},
		"a machine named as the cloud is":    {h.m.Clouds, h.devices, identity.ReplicaName},
		"a replica's root vouches for no m1": {h.m.Machines, h.replicas, "m1"},
	} {
		cfg := c.from.device(c.who)
		cfg.RootCAs = h.devices.roots()
		conn, err := tls.Dial("tcp", c.addr, cfg)
		if err != nil {
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) { // TLS 1.3: the alert comes later
			t.Errorf("%s: let in (%d bytes, %v)", name, n, err)
		}
		conn.Close()
	}
}

func TestRemoteWantsAURL(t *testing.T) {
	t.Parallel()
	cfg := &tls.Config{Certificates: make([]tls.Certificate, 1)}
	for _, u := range []string{"", "mqtt://h:1", "h:1", "mqtts://h", "mqtts://u:p@h:1", "mqtts://h:1/x"} {
		if _, err := broker.NewRemote(broker.RemoteConfig{URL: u, TLS: cfg, Tap: func(broker.Message) error { return nil }}); !errors.Is(err, broker.ErrURL) {
			t.Errorf("%q: %v", u, err)
		}
	}
}

// A port that somebody takes before Mosquitto does costs a try, not the test.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	h := &hall{t: t, devices: newAuthority(t), replicas: newAuthority(t)}
	tries := 0
	m, err := brokertest.StartMosquitto(func(p mosquitto.Place) error {
		if tries++; tries == 1 {
			l, err := net.Listen("tcp", p.Clouds)
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
		}
		return h.fill(p)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil || tries < 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
}
