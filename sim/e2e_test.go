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
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/agent/uplink"
	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/broker/brokertest"
	"coinop/cloud/identity"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/cloud/store/storetest"
	"coinop/deploy/mosquitto"
	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// engine is what a cloud stands on.
type engine struct {
	name      string
	mosquitto bool // or the broker inside
	postgres  bool // or a file
}

var (
	own   = engine{name: "own broker and file"}
	other = engine{name: "mosquitto and postgres", mosquitto: true, postgres: true}
)

// One machine, the real cloud on a real socket with certificates on both ends, a bank on another:
// nothing is faked but the card, the slot and the buyer.
func TestOneMachine(t *testing.T) {
	t.Parallel()
	for _, e := range []engine{own, other} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			oneMachine(t, newWorld(t, e, lines{}))
		})
	}
}

func oneMachine(t *testing.T, w *world) {
	t.Log("a sale is approved, captured and in the ledger")
	s := w.machine.sell(250, true)
	if s.how != protocol.Sold || w.wait(1).State != payment.Captured {
		t.Fatal(s.how)
	}
	w.books(250)

	t.Log("a card is declined")
	if s = w.machine.sell(9051, true); s.how != protocol.SaleDeclined {
		t.Fatal(s.how)
	}
	if p := w.wait(2); p.State != payment.Declined {
		t.Fatal(p.State)
	}

	t.Log("the slot fails: voided")
	if s = w.machine.sell(300, false); s.how != protocol.NotCharged {
		t.Fatal(s.how)
	}
	if p := w.wait(3); p.State != payment.Reversed {
		t.Fatal(p.State)
	}
	w.books(250)

	t.Log("the connection breaks between request and answer: the same bytes again, one authorization")
	w.host.next(w.proxy.drop)
	if s = w.machine.sell(400, true); s.how != protocol.Sold {
		t.Fatal(s.how)
	}
	if p := w.wait(4); p.State != payment.Captured {
		t.Fatal(p.State)
	}
	w.books(650)

	t.Log("the cloud goes away before it hears the outcome")
	stopped := make(chan struct{})
	w.machine.post(t.Context(), func() { w.machine.onVend = func() { w.stop(); close(stopped) } })
	s = w.machine.sell(500, true)
	<-stopped
	if s.how != protocol.Sold {
		t.Fatal(s.how)
	}
	w.start()
	if p := w.wait(5); p.State != payment.Captured {
		t.Fatal(p.State)
	}
	w.books(1150)

	t.Log("the device is revoked while it is connected: it sells no more, by name")
	if err := w.place.RevokeDevice(t.Context(), "snack-1"); err != nil {
		t.Fatal(err)
	}
	w.machine.post(t.Context(), func() { w.machine.expect = "identity.revoked" })
	time.Sleep(1100 * time.Millisecond) // what the registry said is believed for a second
	if s = w.machine.sell(600, true); s.how != protocol.SaleDeclined && s.how != protocol.NotCharged {
		t.Fatal(s.how)
	}
	select {
	case <-w.machine.halted:
	case <-time.After(20 * time.Second):
		t.Fatal("it was not told")
	}
	w.books(1150)

	if is, err := w.st.Incidents(t.Context()); err != nil || len(is) != 0 {
		t.Fatalf("%+v %v", is, err)
	}
	if cs, err := w.st.Cases(t.Context()); err != nil || len(cs) != 0 {
		t.Fatalf("%+v %v", cs, err)
	}
	if n := w.host.auths(); n != 5 {
		t.Fatalf("%d authorizations at the host for 5 cards", n)
	}
}

// bank is a host that tells of each authorization before it answers it.
type bank struct {
	*hostsim.Server
	mu     sync.Mutex
	onAuth func()
}

// next sets what happens at the next authorization.
func (b *bank) next(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onAuth = f
}

func (b *bank) behave(now time.Time, s hostsim.Summary) hostsim.Behavior {
	b.mu.Lock()
	defer b.mu.Unlock()
	how := hostsim.Magic(now, s)
	if s.MTI == "0100" && b.onAuth != nil {
		how.Late = 300 * time.Millisecond // longer than it takes to notice, and to dial again
		go b.onAuth()
		b.onAuth = nil
	}
	return how
}

func (b *bank) auths() (n int) {
	for _, e := range b.Books() {
		if e.MTI == "0100" {
			n++
		}
	}
	return n
}

type world struct {
	t       *testing.T
	dir     string
	host    *bank
	place   cloud.Place
	proxy   *proxy
	machine *machine
	st      *store.Store // a second pair of eyes on the ledger
	stop    func()
	lines   lines
	broker  *brokertest.Mosquitto // nil: the one inside the cloud
	remote  string                // its address for the cloud
	profile acquirer.Profile      // of the contract with the bank
	// a broker elsewhere is wanted
	mosquitto bool
}

// lines are what stands before an address: each gives the one to go to instead. nil: nothing.
type lines struct {
	machine func(addr string) string // before the broker, for the machine
	bank    func(addr string) string
	broker  func(addr string) string // before a broker elsewhere, for the cloud
}

func (l lines) filled() lines {
	for _, f := range []*func(string) string{&l.machine, &l.bank, &l.broker} {
		if *f == nil {
			*f = func(addr string) string { return addr }
		}
	}
	return l
}

func newWorld(t *testing.T, e engine, l lines) *world {
	w := newCloud(t, e, l)
	id := filepath.Join(w.dir, "device")
	_, err := w.place.AddDevice(t.Context(), id, cloud.NewDevice{
		ID: "snack-1", Link: "bank",
		Merchant: acquirer.Merchant{TID: "TERM0001", MID: "MERCHANT0000001", MCC: "5814", Country: "040"},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.begin()
	w.machine = newMachine(t, id, w.proxy.addr())
	return w
}

// newCloud is a place for a cloud, with a bank and a way there. It knows no device yet, and does not run.
func newCloud(t *testing.T, e engine, l lines) *world {
	w := &world{t: t, dir: t.TempDir(), host: &bank{}, lines: l.filled(), profile: acquirer.Profile{LateWindowMS: 2000}}
	w.place = cloud.Place{Dir: w.dir}
	if e.postgres {
		w.place.Store = storetest.Database(t)
	}
	srv, err := hostsim.Open(hostsim.Config{Bank: hostsim.NewBank(hostsim.Options{Behave: w.host.behave}), Books: filepath.Join(w.dir, "bank.books")})
	if err != nil {
		t.Fatal(err)
	}
	w.host.Server = srv
	background(t, srv.Run)
	w.mosquitto = e.mosquitto
	return w
}

// begin runs the cloud; another pair of eyes looks at its ledger.
func (w *world) begin() {
	t := w.t
	t.Helper()
	var err error
	if w.st, err = w.place.OpenLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.st.Close() })
	w.proxy = newProxy(t)
	if w.mosquitto {
		w.broker, err = brokertest.StartMosquitto(func(at mosquitto.Place) error { return w.place.WriteMosquitto(t.Context(), at, []string{"127.0.0.1"}) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := w.broker.Close(); err != nil {
				t.Error(err)
			}
		})
		w.remote = "mqtts://" + w.lines.broker(w.broker.Clouds)
		w.proxy.to(w.lines.machine(w.broker.Machines))
	}
	w.start()
	t.Cleanup(func() { w.stop() })
}

// start runs the cloud on the directory it has.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- cloud.Run(ctx, cloud.Config{
			Dir: w.dir, Store: w.place.Store, Listen: "127.0.0.1:0", Broker: w.remote, Ready: func(a string) { ready <- a },
			Acquirers: []cloud.Acquirer{{Name: "bank", Addr: w.lines.bank(w.host.Addr()), Institution: "00000000001", Profile: w.profile}},
		})
	}()
	select {
	case addr := <-ready:
		if w.broker == nil {
			w.proxy.to(w.lines.machine(addr))
		}
	case err := <-ended:
		w.t.Fatal(err)
	}
	w.stop = sync.OnceFunc(func() {
		cancel()
		if w.broker == nil {
			w.proxy.to("")
		}
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
}

// wait is until the nth payment has come to its end.
func (w *world) wait(n int) payment.Payment {
	w.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		ps, err := w.st.Payments(w.t.Context(), store.PaymentFilter{}, 100)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(ps) >= n && ps[n-1].State.Final() {
			return ps[n-1]
		}
	}
	w.t.Fatalf("payment %d does not come to an end", n)
	return payment.Payment{}
}

// books compares the ledger with the bank's.
func (w *world) books(want int64) {
	w.t.Helper()
	balances, err := w.st.Balances(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := ledger.CheckSums(balances); err != nil {
		w.t.Fatal(err)
	}
	var stands int64
	for _, e := range w.host.Books() {
		stands += e.Stands()
	}
	key := func(a ledger.Account) ledger.Key {
		return ledger.Key{Tenant: "default", Currency: money.EUR, Account: a}
	}
	if got, owed := balances[key(ledger.AcqReceivable)].Net(), -balances[key(ledger.MerchantPayable)].Net(); got != want || stands != want || owed != want {
		w.t.Fatalf("want %d: bank %d, acq_receivable %d, merchant_payable %d", want, stands, got, owed)
	}
}

func background(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// proxy is the network between machine and cloud.
type proxy struct {
	l      net.Listener
	mu     sync.Mutex
	target string
	conns  map[net.Conn]bool
}

func newProxy(t *testing.T) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, conns: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); p.drop() })
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) to(addr string) {
	p.mu.Lock()
	p.target = addr
	p.mu.Unlock()
	if addr == "" {
		p.drop()
	}
}

func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.conns[c], p.conns[far] = true, true
	p.mu.Unlock()
	go func() { _, _ = io.Copy(far, c); _ = far.Close() }()
	_, _ = io.Copy(c, far)
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, far)
	p.mu.Unlock()
}

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
