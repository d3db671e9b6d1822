package cloud

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/identity"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestAddDevice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	add := func(out string, replace bool) (identity.Device, error) {
		return Place{Dir: dir}.AddDevice(t.Context(), filepath.Join(dir, out), NewDevice{ID: "snack-1", Link: "bank", Replace: replace})
	}
	first, err := add("a", false)
	if err != nil || first.Tenant != "default" {
		t.Fatal(first, err)
	}
	if _, err := add("b", false); !errors.Is(err, store.ErrExists) {
		t.Fatal(err)
	}
	if _, err := add("a", true); !errors.Is(err, identity.ErrExists) { // a key is never overwritten
		t.Fatal(err)
	}
	second, err := add("b", true)
	if err != nil || second.Serial == first.Serial {
		t.Fatal(second, err)
	}
	st, _, _, err := Place{Dir: dir}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, c := range []struct {
		id     protocol.DeviceID
		serial string
		good   bool
	}{{"snack-1", second.Serial, true}, {"snack-1", first.Serial, false}, {"snack-2", second.Serial, false}} {
		if err := allowed(t.Context(), st, c.id, c.serial); (err == nil) != c.good {
			t.Errorf("%s with %s: %v", c.id, c.serial, err)
		}
	}
	second.Revoked = true
	if err := st.PutDevice(t.Context(), second, true); err != nil {
		t.Fatal(err)
	}
	if err := allowed(t.Context(), st, "snack-1", second.Serial); err == nil {
		t.Error("a revoked device may connect")
	}
}

func TestStoreIsAURL(t *testing.T) {
	t.Parallel()
	for _, p := range []Place{{Dir: t.TempDir(), Store: "ledger.db"}, {Dir: t.TempDir(), Store: "mysql://u:p@h/x"}} {
		if _, err := p.OpenLedger(t.Context()); !errors.Is(err, ErrStore) {
			t.Error(p.Store, err)
		}
	}
}

func TestRunRefusesAcquirersOfOneName(t *testing.T) {
	t.Parallel()
	a := Acquirer{Name: "bank", Addr: "127.0.0.1:1", Institution: "00000000001"}
	for _, as := range [][]Acquirer{{a, a}, {{Addr: a.Addr, Institution: a.Institution}}, {{Name: "bank", Addr: a.Addr}}} {
		if err := Run(t.Context(), Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Acquirers: as}); err == nil {
			t.Errorf("%+v", as)
		}
	}
}

// A run that starts while the database's server is away waits for it; one that is refused ends at once.
func TestRunWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	server, err := storetest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := server.Create("here"); err != nil {
		t.Fatal(err)
	}
	run := func(database string) (ready chan string, ended chan error, stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ready, ended = make(chan string, 1), make(chan error, 1)
		cfg := Config{Dir: t.TempDir(), Store: server.URL(database), Listen: "127.0.0.1:0", Ready: func(a string) { ready <- a }}
		go func() { ended <- Run(ctx, cfg) }()
		return ready, ended, cancel
	}
	_, ended, stop := run("missing")
	defer stop()
	if err := <-ended; !errors.Is(err, store.ErrRefused) {
		t.Errorf("no such database: %v", err)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	ready, ended, stop := run("here")
	defer stop()
	select {
	case <-ready:
		t.Fatal("ready without a database")
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(2 * storeAgain):
	}
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("not ready")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What a dead run left behind on the disk, an authorization that may be at the host, the next one
// undoes, and sends it to nobody again. And a run leaves no goroutine.
func TestRunFinishesWhatWasLeft(t *testing.T) {
	t.Run("file", func(t *testing.T) { finishesWhatWasLeft(t, Place{Dir: t.TempDir()}) })
	t.Run("postgres", func(t *testing.T) {
		finishesWhatWasLeft(t, Place{Dir: t.TempDir(), Store: storetest.Database(t)})
	})
}

func finishesWhatWasLeft(t *testing.T, place Place) {
	ignore := goleak.IgnoreCurrent()
	defer goleak.VerifyNone(t, ignore)
	host, err := hostsim.Open(hostsim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- host.Run(ctx) }()
	acquirers := []Acquirer{{Name: "bank", Addr: host.Addr(), Institution: "00000000001"}}

	// A replica that commits, sends to nobody and dies.
	st, keys, vk, err := place.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var ops []acquirer.Op
	parts, err := Wire(st, Wiring{
		Keys: keys, VaultKeys: vk,
		Profile: func(string) (acquirer.Profile, bool) { return acquirers[0].profile(), true },
		Publish: func(context.Context, protocol.Topic, []byte) error { return nil },
		Effect: func(e payment.Effect) {
			if s, ok := e.(payment.Send); ok {
				ops = append(ops, s.Op)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	past := protocol.At(time.Now()).Add(-10 * time.Minute)
	id := protocol.PaymentID{1}
	effects, err := parts.Payments.Handle(ctx, past, payment.Request{From: from(), Request: ask(t, keys, past, id)})
	if err != nil || len(effects) == 0 {
		t.Fatal(effects, err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}

	running, stop := context.WithCancel(ctx)
	ready := make(chan string, 1)
	go func() {
		ended <- Run(running, Config{Dir: place.Dir, Store: place.Store, Listen: "127.0.0.1:0", Acquirers: acquirers, Ready: func(a string) { ready <- a }})
	}()
	<-ready
	eyes, err := place.OpenLedger(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var p payment.Payment
	for end := time.Now().Add(20 * time.Second); p.State != payment.Reversed && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if p, err = eyes.Payment(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if p.State != payment.Reversed {
		t.Fatalf("it is %s", p.State)
	}
	if n := len(host.Books()); n != 0 {
		t.Fatalf("%d entries at the host: an authorization was sent again", n)
	}
	if err := eyes.Close(); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// Two replicas run on one database and find what a dead one left behind: each operation is sent to
// the host once, by one of them.
func TestOwedIsDoneOnce(t *testing.T) {
	t.Parallel()
	const left = 30
	var mu sync.Mutex
	reversals := map[string]int{} // by STAN
	host, err := hostsim.Open(hostsim.Config{Bank: hostsim.NewBank(hostsim.Options{Behave: func(_ time.Time, s hostsim.Summary) hostsim.Behavior {
		mu.Lock()
		defer mu.Unlock()
		if s.MTI == "0420" || s.MTI == "0421" {
			reversals[s.STAN]++
		}
		return hostsim.Behavior{Late: 700 * time.Millisecond} // several sweeps of both
	}})})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	go func() { ended <- host.Run(ctx) }()
	acquirers := []Acquirer{{Name: "bank", Addr: host.Addr(), Institution: "00000000001", Profile: acquirer.Profile{LateWindowMS: 1}}}
	place := Place{Dir: t.TempDir(), Store: storetest.Database(t)}
	st, keys, vk, err := place.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := Wire(st, Wiring{
		Keys: keys, VaultKeys: vk,
		Profile: func(string) (acquirer.Profile, bool) { return acquirers[0].profile(), true },
		Publish: func(context.Context, protocol.Topic, []byte) error { return nil },
		Effect:  func(payment.Effect) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	past := protocol.At(time.Now()).Add(-10 * time.Minute)
	for n := range left {
		if _, err := parts.Payments.Handle(ctx, past, payment.Request{From: from(), Request: ask(t, keys, past, protocol.PaymentID{byte(n + 1)})}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		ready := make(chan string, 1)
		go func() {
			ended <- Run(ctx, Config{Dir: place.Dir, Store: place.Store, Listen: "127.0.0.1:0", Acquirers: acquirers, Ready: func(a string) { ready <- a }})
		}()
		<-ready
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		ps, err := st.Payments(ctx, store.PaymentFilter{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		done := 0
		for _, p := range ps {
			if p.State == payment.Reversed {
				done++
			}
		}
		if done == left {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d reversed", done, left)
		}
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	for range 3 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for stan, n := range reversals {
		if n != 1 {
			t.Errorf("reversal %s was sent %d times", stan, n)
		}
	}
	if len(reversals) != left {
		t.Errorf("%d reversals at the host, want %d", len(reversals), left)
	}
}

func from() payment.From {
	return payment.From{Device: "snack-1", Tenant: "default", Link: "bank", Merchant: acquirer.Merchant{TID: "TERM0001", MID: "MERCHANT0000001", MCC: "5814", Country: "040"}}
}

func ask(t *testing.T, keys identity.Keys, at protocol.UnixMS, id protocol.PaymentID) protocol.AuthorizationRequest {
	t.Helper()
	a := protocol.Ask{
		V: protocol.Version, Device: "snack-1", Sale: protocol.SaleID{1}, Payment: id, Class: protocol.Live, AuthorizedBy: protocol.ByHost,
		Purpose: protocol.Exact, Amount: money.New(250, money.EUR), WaitMS: 10_000, Anchor: payment.Anchors{Key: keys.Anchor}.Make("snack-1", at),
		Tap: protocol.Tap{Entry: protocol.EntryContactless, LocalTime: "20270115120000"},
	}
	plain := protocol.MustEncode(protocol.SealedCard{Payment: id, Entry: protocol.EntryContactless, Track2: []byte("5413330089020011=25122010123456789")})
	aad := protocol.MustEncode(protocol.CardAAD{Device: a.Device, Epoch: protocol.Epoch{1}, Sale: a.Sale, Payment: id, Amount: a.Amount})
	var err error
	if a.Sealed, err = seal.NewCardSealer(keys.Payment.Public()).Seal(aad, plain); err != nil {
		t.Fatal(err)
	}
	return protocol.AuthorizationRequest{Ask: protocol.MustEncode(a), Position: protocol.Position{Epoch: protocol.Epoch{1}, Seq: 1}}
}
