package sim_test

import (
	"context"
	"crypto/ecdsa"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/agent/uplink"
	"coinop/cloud/identity"
	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"
)

// sold is how a sale ended.
type sold struct{ how protocol.How }

// machine drives an agent.Device: one goroutine, one channel, as the agent's own loop does.
type machine struct {
	t      *testing.T
	dev    *agent.Device
	jour   *journal.Journal
	dialer uplink.Dialer
	began  time.Time
	in     chan func()
	conn   *uplink.Session
	wake   *time.Timer
	timers map[session.TimerID]*time.Timer
	works  bool // the slot
	onVend func()
	expect string        // the code it may be stopped with
	halted chan struct{} // closed when it is
	up     chan struct{} // closed and made anew when the way comes up
	isUp   bool
	fell   int64 // minor units of what was delivered
	lost   int   // connections that ended
	after  protocol.Seq
}

func newMachine(t *testing.T, dir, addr string) *machine {
	bundle := readBundle(t, dir)
	m := &machine{t: t, began: time.Now(), in: make(chan func(), 64), timers: map[session.TimerID]*time.Timer{}, up: make(chan struct{}), halted: make(chan struct{})}
	var err error
	m.jour, err = journal.OpenBadger(filepath.Join(dir, "journal"), journal.Options{
		Device: "snack-1", CertSerial: bundle.Serial,
		NewEpoch: func() protocol.Epoch { return random[protocol.Epoch]() },
	})
	if err != nil {
		t.Fatal(err)
	}
	relay, err1 := seal.ParsePublicKey(bundle.Cloud.RelayKey)
	pay, err2 := seal.ParsePublicKey(bundle.Cloud.PaymentKey)
	signing, err3 := x509.ParsePKIXPublicKey(bundle.Cloud.SigningKey)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	roots := x509.NewCertPool()
	root, err := x509.ParseCertificate(bundle.Root)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(root)
	m.dialer = uplink.Dialer{Addr: addr, Device: "snack-1", TLS: &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{bundle.Cert}, PrivateKey: bundle.Key}},
	}}
	var do []agent.Do
	m.dev, do, err = agent.NewDevice(m.now(), agent.DeviceConfig{
		Core:   agent.CoreConfig{Lanes: []session.Config{{Device: "snack-1", Flow: protocol.SelectionFirst}}, Policy: protocol.Policy{Version: 1, Currency: money.EUR, Attempts: 1}},
		Signer: bundle.Signer(), Relay: relay, Payment: pay, Cloud: signing.(*ecdsa.PublicKey), Boot: random[protocol.BootID](), Random: crand.Reader, Software: "test",
	}, m.jour)
	if err != nil {
		t.Fatal(err)
	}
	m.do(do)
	background(t, m.run)
	return m
}

func random[T ~[16]byte]() (id T) {
	var b [16]byte
	_, _ = crand.Read(b[:])
	return T(b)
}

func (m *machine) now() protocol.Reading {
	return protocol.Reading{Wall: protocol.At(time.Now()), Mono: time.Since(m.began)}
}

func (m *machine) run(ctx context.Context) error {
	defer m.jour.Close()
	dialed := make(chan func(), 1)
	var lost <-chan struct{}
	var dialing sync.WaitGroup
	defer dialing.Wait()
	dial := func() {
		connected, hello, will, err := m.dev.Dial(m.now())
		if err != nil {
			m.t.Error(err)
			return
		}
		d := m.dialer
		d.Will = will
		dialing.Go(func() {
			s, err := d.Dial(ctx, func(i uplink.Inbound) { m.post(ctx, func() { m.handle(agent.Uplink{Event: i}) }) })
			dialed <- func() {
				if err != nil {
					lost = closedAfter(ctx, 50*time.Millisecond) // try again
					return
				}
				m.conn, lost = s, s.Lost()
				_ = s.Publish(protocol.TopicOf("snack-1", protocol.UpConn), hello)
				m.handle(agent.Uplink{Event: connected})
			}
		})
	}
	dial()
	for {
		select {
		case f := <-m.in:
			f()
		case f := <-dialed:
			f()
		case <-lost:
			lost = nil
			if m.conn != nil {
				m.conn.Close()
				m.conn = nil
				m.lost++
				m.handle(agent.Uplink{Event: uplink.Disconnected{}})
			}
			dial()
		case <-ctx.Done():
			if m.conn != nil {
				m.conn.Close()
			}
			return nil
		}
	}
}

func closedAfter(ctx context.Context, d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}

// post brings something to the loop from outside.
func (m *machine) post(ctx context.Context, f func()) {
	select {
	case m.in <- f:
	case <-ctx.Done():
	}
}

func (m *machine) later(d time.Duration, in agent.Input) *time.Timer {
	return time.AfterFunc(d, func() { m.post(m.t.Context(), func() { m.handle(in) }) })
}

func (m *machine) handle(ins ...agent.Input) {
	do, err := m.dev.Handle(m.now(), ins...)
	if err != nil {
		m.t.Error(err)
		return
	}
	m.do(do)
}

func (m *machine) do(do []agent.Do) {
	for _, d := range do {
		switch d := d.(type) {
		case agent.Effect:
			m.effect(d)
		case agent.Publish:
			if m.conn != nil {
				_ = m.conn.Publish(d.Topic, d.Payload)
			}
		case agent.WakeLink:
			if m.wake != nil {
				m.wake.Stop()
			}
			m.wake = m.later(d.After, agent.Uplink{Event: uplink.Tick{}})
		case agent.Way:
			if m.isUp = d.Way == uplink.WayUp; m.isUp {
				close(m.up)
				m.up = make(chan struct{})
			}
		case agent.Stopped:
			if d.Code != m.expect {
				m.t.Errorf("stopped: %s", d.Code)
			}
			close(m.halted)
		}
	}
}

func (m *machine) effect(e agent.Effect) {
	switch x := e.Effect.(type) {
	case session.ArmReader:
		m.later(0, agent.Tapped{Lane: e.Lane, Card: agent.TappedCard{
			Sealed: protocol.SealedCard{Entry: protocol.EntryContactless, Track2: []byte("5413330089020011=25122010123456789")},
			Tap:    protocol.Tap{Entry: protocol.EntryContactless, Brand: "mastercard", Last4: "0011", LocalTime: time.Now().Format("20060102150405")},
		}})
	case session.Vend:
		if m.onVend != nil {
			m.onVend()
			m.onVend = nil
		}
		if m.works {
			m.fell += x.Amount.Minor
			m.later(0, agent.Lane{Lane: e.Lane, Event: session.VendSuccess{Vend: x.ID, Item: x.Outlet, Grade: protocol.GradeReported}})
		} else {
			m.later(0, agent.Lane{Lane: e.Lane, Event: session.VendFailure{Vend: x.ID}})
		}
	case session.StartTimer:
		m.timers[x.ID] = m.later(x.After, agent.Lane{Lane: e.Lane, Event: session.Timer{Name: x.Name, ID: x.ID}})
	case session.StopTimer:
		if t := m.timers[x.ID]; t != nil {
			t.Stop()
		}
	default: // a screen and lights
	}
}

// sell is a buyer with a card at the machine; it returns when the sale is closed in the journal.
func (m *machine) sell(minor int64, works bool) sold {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	m.awaitUp(ctx)
	price := money.New(minor, money.EUR)
	m.post(ctx, func() {
		m.works, m.after = works, m.jour.Head().Seq
		m.handle(agent.Lane{Event: session.Storage{State: session.StorageOK}},
			agent.Lane{Event: session.BusState{State: session.BusStateEnabled, At: m.now().Mono}},
			agent.Chosen{Class: protocol.Live, Lines: []protocol.Line{{Product: "cola", Outlet: 5, Qty: 1, Unit: price, Amount: price}}})
	})
	for {
		found := make(chan *sold, 1)
		m.post(ctx, func() { found <- m.closed() })
		select {
		case s := <-found:
			if s != nil {
				return *s
			}
		case <-ctx.Done():
			m.t.Fatalf("the sale of %s does not end", price)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (m *machine) closed() *sold {
	rs, err := m.jour.Read(m.after, 64)
	if err != nil {
		m.t.Error(err)
	}
	for _, r := range rs {
		o, err := protocol.OpenRecord(r.Bytes)
		if err != nil {
			m.t.Error(err)
		}
		if c, ok := o.Body.(protocol.SaleClosed); ok {
			return &sold{c.How}
		}
	}
	return nil
}

func (m *machine) awaitUp(ctx context.Context) {
	m.t.Helper()
	for {
		up := make(chan chan struct{}, 1)
		m.post(ctx, func() {
			if m.isUp {
				up <- nil
			} else {
				up <- m.up
			}
		})
		select {
		case c := <-up:
			if c == nil {
				return
			}
			select {
			case <-c:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			m.t.Fatal("the way to the bank does not come up")
		}
	}
}

func readBundle(t *testing.T, dir string) identity.Bundle {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	der := func(name string) []byte {
		block, _ := pem.Decode(read(name))
		if block == nil {
			t.Fatal(fmt.Errorf("%s holds no PEM", name))
		}
		return block.Bytes
	}
	b := identity.Bundle{Cert: der("device.crt"), Root: der("root.crt")}
	key, err1 := x509.ParsePKCS8PrivateKey(der("device.key"))
	cert, err2 := x509.ParseCertificate(b.Cert)
	if err := json.Unmarshal(read("cloud.json"), &b.Cloud); err != nil || err1 != nil || err2 != nil {
		t.Fatal(err, err1, err2)
	}
	b.Key, b.Serial = key.(*ecdsa.PrivateKey), identity.Serial(cert.SerialNumber)
	return b
}
