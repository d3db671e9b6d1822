package sim_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/broker/brokertest"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/cloud/store/storetest"
	"coinop/deploy/mosquitto"
	"coinop/protocol"
	"coinop/protocol/money"
)

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
	id := w.add(t, "snack-1", 1)
	w.begin()
	w.machine = newMachine(t, id, w.proxy.addr())
	return w
}

// add makes a device known, by a TID of its own, and says where its identity lies.
func (w *world) add(t *testing.T, name protocol.DeviceID, n int) string {
	t.Helper()
	dir := filepath.Join(w.dir, string(name))
	if _, err := w.place.AddDevice(t.Context(), dir, cloud.NewDevice{
		ID: name, Link: "bank",
		Merchant: acquirer.Merchant{TID: fmt.Sprintf("TERM%04d", n), MID: "MERCHANT0000001", MCC: "5814", Country: "040"},
	}); err != nil {
		t.Fatal(err)
	}
	return dir
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
