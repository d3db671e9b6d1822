package sim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/profile"
	"coinop/agent/session"
	"coinop/cloud"
	"coinop/cloud/account"
	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/hardware"
	"coinop/hardware/mdb"
	"coinop/hardware/virtual"
	"coinop/hardware/vivopay"
	"coinop/protocol"
	"coinop/protocol/money"
)

// canteen is a machine at its own MDB bus with a reader of closed-loop cards and a changer, the agent before it, and
// a desk that loads cards.
type canteen struct {
	t      *testing.T
	st     *store.Store
	far    *profile.Profile
	data   string
	desk   account.Desk
	screen chan string // and the reason
}

// newCanteen runs its agent. Beside the reader of its cards there is bank, a reader of a bank's; nil: cash.
func newCanteen(t *testing.T, identity, addr string, st *store.Store, bank *virtual.Reader) *canteen {
	t.Helper()
	dir := t.TempDir()
	c := &canteen{t: t, st: st, data: filepath.Join(dir, "data"), screen: make(chan string, 256)}
	c.desk = cloud.NewDesk(st)
	var err error
	if c.far, err = profile.Open("canteen", dir); err != nil {
		t.Fatal(err)
	}
	background(t, c.far.Run)
	id, err := agent.LoadIdentity(identity)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, profile.KeysFile))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := hardware.ParseLoopKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	log, err := os.Create(at("log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	cfg := agent.Config{
		Identity: id, Data: c.data, Cloud: addr, ModeAfter: 500 * time.Millisecond,
		Policy: protocol.Policy{Version: 1, Currency: money.EUR},
		Log:    slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Show: func(_ protocol.Lane, on session.Screen, _ money.Amount, why string) {
			c.screen <- strings.TrimSpace(on.String() + " " + why)
		},
		Lanes: []agent.LaneConfig{{
			Bus: protocol.BusMDB, Vending: agent.MDB(mdb.PortRaw, at("vmc"), mdb.Scale{Currency: money.EUR, Decimals: 2}),
			Readers: []agent.ReaderConfig{{New: agent.PN532(at("reader"), money.EUR, keys), Cards: agent.LoopCards}},
		}},
	}
	if l := &cfg.Lanes[0]; bank != nil { // with cash too it would sell for that first of all when the bank is down
		l.Readers = append([]agent.ReaderConfig{{New: agent.ViVOpay(vivopay.Config{Path: bank.Path(), Currency: money.EUR})}}, l.Readers...)
	} else {
		l.Cash = agent.MDBCash(mdb.PortWaferstar, at("cash"), money.EUR, true)
	}
	background(t, func(ctx context.Context) error { return agent.Run(ctx, cfg) })
	t.Cleanup(func() { // before the agent ends
		if t.Failed() {
			st, err := agent.AskStatus(c.data)
			b, _ := os.ReadFile(at("log"))
			t.Logf("%+v, %v\n%s", st.Lanes, err, b[max(0, len(b)-6000):])
		}
	})
	return c
}

// open opens an account and loads it.
func (c *canteen) open(card string, minor int64) account.Account {
	c.t.Helper()
	a, err := c.desk.Open(c.t.Context(), account.Account{Tenant: "default", Currency: money.EUR, Card: card})
	if err == nil && minor > 0 {
		a, _, err = c.desk.Load(c.t.Context(), a.ID, money.New(minor, money.EUR), "till 1", "")
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// shows waits for a screen.
func (c *canteen) shows(want string) {
	c.t.Helper()
	var seen []string
	late := time.After(victimPatience)
	for {
		select {
		case s := <-c.screen:
			if s == want {
				return
			}
			seen = append(seen, s)
		case <-late:
			c.t.Fatalf("no screen %q, but %q", want, seen)
		}
	}
}

// mode waits until the lane sells by it. What is missing is to be said in ten seconds.
func (c *canteen) mode(want agent.Mode) {
	c.t.Helper()
	began := time.Now()
	for ; time.Since(began) < victimPatience; time.Sleep(20 * time.Millisecond) {
		st, err := agent.AskStatus(c.data)
		if err == nil && len(st.Lanes) == 1 && st.Lanes[0].Selling != nil && st.Lanes[0].Selling.Mode == want {
			if took := time.Since(began); took > 10*time.Second && want != agent.ModeFull {
				c.t.Errorf("%s took %s", want, took)
			}
			return
		}
	}
	c.t.Fatalf("not %s", want)
}

// choose presses a button, and holds a card to the reader when it waits for one.
func (c *canteen) choose(item, card string) {
	c.t.Helper()
	c.order(item)
	if _, err := c.far.Do("tap " + card); err != nil {
		c.t.Fatal(err)
	}
}

// order presses a button until it is asked for a card.
func (c *canteen) order(item string) {
	c.t.Helper()
	for len(c.screen) > 0 {
		<-c.screen
	}
	for end := time.Now().Add(victimPatience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := c.far.Do("select " + item); err == nil {
			break
		} else if time.Now().After(end) {
			c.t.Fatal(err)
		}
	}
	c.shows("price")
}

// worth is what stands on an account.
func (c *canteen) worth(id account.ID, balance, held int64) {
	c.t.Helper()
	var a account.Account
	for end := time.Now().Add(victimPatience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		if a, err = c.st.Account(c.t.Context(), id); err != nil {
			c.t.Fatal(err)
		}
		if a.Balance == balance && a.Held == held {
			return
		}
	}
	c.t.Fatalf("balance %d, held %d; want %d, %d", a.Balance, a.Held, balance, held)
}

const loopCard = "0000000001"

// TestClosedLoop has the machine to itself: its buses are raw, and keep their times.
func TestClosedLoop(t *testing.T) {
	t.Run("sells", testClosedLoop)
	t.Run("the cloud is killed", testClosedLoopCloudKilled)
}

// testClosedLoop: a canteen sells to a loaded card through the cloud, declines by name what is not enough, unknown or
// blocked, and goes on selling by such cards when the bank is down, or the reader for the bank's cards beside is away:
// its lane says so within ten seconds, and takes it back by itself. A bank's card at that other reader pays too.
func testClosedLoop(t *testing.T) {
	t.Parallel()
	bank := newProxy(t)
	reader := must[*virtual.Reader](t)(virtual.NewReader(virtual.ReaderConfig{Link: filepath.Join(t.TempDir(), "bank")}))
	background(t, func(ctx context.Context) error { _ = reader.Run(ctx); return nil }) // it ends with ctx alone
	var at string
	w := newCloud(t, own, lines{bank: func(addr string) string { at = addr; return bank.addr() }})
	id := w.add(t, "canteen-1", 1)
	bank.to(w.host.Addr())
	w.begin()
	c := newCanteen(t, id, w.proxy.addr(), w.st, reader)
	a := c.open(loopCard, 400)
	c.mode(agent.ModeFull)

	t.Log("it pays")
	c.choose("11", loopCard)
	c.shows("thanks")
	c.worth(a.ID, 250, 0)

	t.Log("not enough, unknown, blocked: each by its name, and nothing is charged")
	c.choose("11", "00000000ff")
	c.shows("not_charged unknown_card")
	c.choose("12", loopCard)
	c.shows("thanks")
	c.worth(a.ID, 30, 0)
	c.choose("11", loopCard)
	c.shows("not_charged not_enough")
	if _, _, err := c.desk.Load(t.Context(), a.ID, money.New(500, money.EUR), "till 2", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.desk.Set(t.Context(), a.ID, account.Blocked); err != nil {
		t.Fatal(err)
	}
	c.choose("11", loopCard)
	c.shows("not_charged card_blocked")
	if _, err := c.desk.Set(t.Context(), a.ID, account.Open); err != nil {
		t.Fatal(err)
	}
	c.choose("11", loopCard)
	c.shows("thanks")
	c.worth(a.ID, 380, 0)

	t.Log("the bank is down: the operator's cards are taken, and a lane at which nobody buys says so")
	c.mode(agent.ModeFull)
	bank.to("")
	c.mode(agent.ModeClosedLoop)
	c.choose("11", loopCard)
	c.shows("thanks")
	c.worth(a.ID, 230, 0)
	bank.to(at)
	c.mode(agent.ModeFull)

	t.Log("the reader for the bank's cards is away: so too")
	reader.Unplug()
	c.mode(agent.ModeClosedLoop)
	c.choose("11", loopCard)
	c.shows("thanks")
	c.worth(a.ID, 80, 0)
	if err := reader.Replug(); err != nil {
		t.Fatal(err)
	}
	c.mode(agent.ModeFull)

	net := w.accounts(t) // balanced, and no incident
	if err := w.st.CheckAccounts(t.Context()); err != nil {
		t.Error(err)
	}
	if net(ledger.StoredValue) != -80 || net(ledger.Suspense) != 900 || net(ledger.MerchantPayable) != -820 || net(ledger.AcqReceivable) != 0 || net(ledger.AcqUnconfirmed) != 0 {
		t.Errorf("stored value %d, suspense %d, payable %d, receivable %d", net(ledger.StoredValue), net(ledger.Suspense), net(ledger.MerchantPayable), net(ledger.AcqReceivable))
	}
	ps, err := w.st.Payments(t.Context(), store.PaymentFilter{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.By != protocol.ByClosedLoop {
			t.Errorf("%s paid by %s", p.ID, p.By)
		}
	}
	if n := w.host.auths(); n != 0 || len(ps) != 8 {
		t.Errorf("%d payments, and the bank was asked %d times", len(ps), n)
	}

	t.Log("a bank's card pays, at the other reader")
	c.order("11")
	if err := reader.TapWhenArmed(t.Context(), virtual.VisaTest()); err != nil {
		t.Fatal(err)
	}
	c.shows("thanks")
	c.worth(a.ID, 80, 0)
	sounds := reader.View().Beeps // a card, and yes: none of the sales at the other reader
	if n := w.host.auths(); n != 1 || !slices.Equal(sounds, []int{1, 2}) {
		t.Errorf("the bank was asked %d times, and its reader made sounds of %v", n, sounds)
	}
	if _, err := c.far.Do("unplug reader"); err != nil {
		t.Fatal(err)
	}
	c.mode(agent.ModeCashlessOnly)
}

const cloudVariable = "COINOP_TEST_CLOUD"

type cloudConfig struct{ Dir, Bank, Ready string }

// This test's binary is the cloud too: one that can be killed.
func init() {
	text, ok := os.LookupEnv(cloudVariable)
	if !ok {
		return
	}
	var c cloudConfig
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = cloud.Run(context.Background(), cloud.Config{
			Dir: c.Dir, Listen: "127.0.0.1:0", Ready: func(addr string) { _ = os.WriteFile(c.Ready, []byte(addr), 0o600) },
			Acquirers: []cloud.Acquirer{{Name: "bank", Addr: c.Bank, Institution: "00000000001", Profile: acquirer.Profile{LateWindowMS: 2000}}},
			Log:       slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// process runs a world's cloud as a process of its own until kill, which is kill -9.
func (w *world) process() (kill func()) {
	t := w.t
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	text, _ := json.Marshal(cloudConfig{w.dir, w.host.Addr(), ready})
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this test
	cmd.Env = append(os.Environ(), cloudVariable+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		w.proxy.to("")
	})
	t.Cleanup(kill)
	for end := time.Now().Add(victimPatience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(ready); err == nil && len(b) > 0 {
			w.proxy.to(string(b))
			return kill
		}
	}
	t.Fatal("the cloud did not start")
	return nil
}

// testClosedLoopCloudKilled: the cloud is killed in the moment in which an account holds the money of a sale, and the
// answer is still on its way or was just committed. The next one finds one hold or none, and what the buyer was told
// decides which; what all cards hold is what the ledger says. A changer that is away meanwhile is said.
func testClosedLoopCloudKilled(t *testing.T) {
	t.Parallel()
	w := newCloud(t, own, lines{})
	id := w.add(t, "canteen-1", 1)
	var err error
	if w.st, err = w.place.OpenLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.st.Close() })
	w.proxy = newProxy(t)
	kill := w.process()
	c := newCanteen(t, id, w.proxy.addr(), w.st, nil)
	a := c.open(loopCard, 1000)
	c.mode(agent.ModeFull)
	if _, err := c.far.Do("unplug cash"); err != nil {
		t.Fatal(err)
	}
	c.mode(agent.ModeClosedLoop)

	c.choose("11", loopCard)
	for end := time.Now().Add(victimPatience); ; time.Sleep(100 * time.Microsecond) {
		if x, err := w.st.Account(t.Context(), a.ID); err != nil || x.Held > 0 {
			break
		} else if time.Now().After(end) {
			t.Fatal("nothing was held")
		}
	}
	kill()
	if err := w.st.CheckAccounts(t.Context()); err != nil {
		t.Error(err)
	}
	w.process()
	ps, ends := []payment.Payment(nil), time.Now().Add(victimPatience)
	for ; time.Now().Before(ends); time.Sleep(50 * time.Millisecond) {
		ps, err = w.st.Payments(t.Context(), store.PaymentFilter{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		n, err := w.st.OpenOps(t.Context())
		if err == nil && n == 0 && len(ps) == 1 && ps[0].State.Final() {
			break
		}
	}
	if len(ps) != 1 || !ps[0].State.Final() {
		t.Fatalf("%+v", ps)
	}
	sold := int64(0)
	if ps[0].State == payment.Captured {
		sold = 150
	}
	t.Logf("it ended as %s, %d came out", ps[0].State, c.far.Gave())
	c.worth(a.ID, 1000-sold, 0)
	if got := int64(c.far.Gave()) * 150; got != sold {
		t.Errorf("%d came out, and %d was charged", got, sold)
	}
	holds := 0
	entries, err := w.st.AccountEntries(t.Context(), a.ID, 0, 100)
	for _, e := range entries {
		if e.Kind == account.Hold {
			holds++
		}
	}
	if err != nil || holds != 1 {
		t.Errorf("%d holds, %v", holds, err)
	}
	if net := w.accounts(t); net(ledger.StoredValue) != sold-1000 {
		t.Errorf("stored value %d", net(ledger.StoredValue))
	}
	if err := w.st.CheckAccounts(t.Context()); err != nil {
		t.Error(err)
	}
	c.mode(agent.ModeClosedLoop)
	c.choose("11", loopCard)
	c.shows("thanks")
	c.worth(a.ID, 850-sold, 0)
}
