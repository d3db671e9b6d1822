package sim_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/screen"
	"coinop/cloud/ledger"
	"coinop/hardware/mdb"
	"coinop/hardware/outlet"
	"coinop/hardware/virtual"
	"coinop/hardware/vivopay"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Three dispensers that say whether something came out.
var kioskPrices = []int64{150, 200, 300}

func kioskGoods() map[protocol.Outlet]agent.Planned {
	goods := map[protocol.Outlet]agent.Planned{}
	for i, p := range kioskPrices {
		goods[protocol.Outlet(i+1)] = agent.Planned{Name: []string{"Tea", "Cake", "Soup"}[i], Price: money.New(p, money.EUR)} //nolint:gosec // three
	}
	return goods
}

// kioskLane is the agent's side of a kiosk: relays, a card reader, and cash.
func kioskLane(c victimConfig) agent.LaneConfig {
	var outlets []outlet.Outlet
	for i, p := range kioskPrices {
		outlets = append(outlets, outlet.Outlet{Number: protocol.Outlet(i + 1), Price: money.New(p, money.EUR), Relay: i + 1, Feedback: i + 1, Window: time.Second}) //nolint:gosec // three
	}
	return agent.LaneConfig{
		OwnsMotor: true, Name: "outlets",
		Vending: agent.Outlets(outlet.Config{Path: c.Board, Currency: money.EUR, Outlets: outlets}),
		Readers: []agent.ReaderConfig{{New: agent.ViVOpay(vivopay.Config{Path: c.Reader, Currency: money.EUR})}},
		Cash:    agent.MDBCash(mdb.PortRaw, c.Cash, money.EUR, true),
	}
}

// TestKioskOrder: a program on the kiosk's box orders three things over HTTP; the buyer pays once, they
// are given out one after the other, and one of them does not come. By card all is approved, and what came
// out is captured; in cash what did not come out is given back with the change. The program sees each step.
func TestKioskOrder(t *testing.T) {
	t.Parallel()
	w, ids := newVictims(t, 1)
	k := newKiosk(t, ids[0], w.proxy.addr())
	k.start()
	k.ready()
	if t.Failed() {
		return
	}
	shown := k.events()

	k.order()
	shown.until(t, "price 6.50")
	if err := k.reader.TapWhenArmed(t.Context(), virtual.VisaTest()); err != nil {
		t.Fatal(err)
	}
	sale := shown.until(t, "thanks 4.50")
	shown.seen(t, sale, "price 6.50", "authorizing 6.50", "vending 1.50", "vending 2.00", "vending 3.00", "thanks 4.50")

	k.ready()
	k.order()
	k.insert(shown)
	sale = shown.until(t, "thanks 4.50")
	shown.seen(t, sale, "price 6.50", "price 4.50", "price 3.50", "price 1.50", "price 0.50", "vending 1.50", "vending 2.00", "vending 3.00", "thanks 4.50")

	k.finish(func(st agent.Status) bool { return st.Lanes[0].Phase == "idle" })
	if t.Failed() {
		return
	}
	is := k.told(w.st)
	if len(is.payments) != 2 || is.count != 0 {
		t.Fatalf("%+v", is)
	}
	card, cash := is.payments[0], is.payments[1]
	if card.By > protocol.ByHost || card.Approved.Minor != 650 || card.Captured.Minor != 450 || cash.By != protocol.ByCash || cash.Approved.Minor != 700 || cash.Captured.Minor != 450 || cash.Change.Minor != 250 {
		t.Errorf("card %+v\ncash %+v", card, cash)
	}
	w.wait(1)
	net := w.accounts(t)
	bank := int64(0)
	for _, e := range w.host.Books() {
		bank += e.Stands()
	}
	if net(ledger.AcqReceivable) != 450 || bank != 450 || net(ledger.CashInMachine) != 450 || -net(ledger.MerchantPayable) != 900 || net(ledger.CashCredit) != 0 {
		t.Errorf("receivable %d, bank %d, in machine %d, payable %d, credit %d", net(ledger.AcqReceivable), bank, net(ledger.CashInMachine), -net(ledger.MerchantPayable), net(ledger.CashCredit))
	}
	if v := k.cash.View(); v.Out != 250 {
		t.Errorf("%+v", v)
	}
	if v := k.board.View(); v.Drops != 4 {
		t.Errorf("%+v", v)
	}
}

// kiosk is the far ends of one, and the agent before them.
type kiosk struct {
	*victim
	board  *virtual.Board
	reader *virtual.Reader
	cash   *virtual.Cash
}

func newKiosk(t *testing.T, identity, addr string) *kiosk {
	t.Helper()
	k := &kiosk{victim: newProcess(t, identity, addr, rand.New(rand.NewPCG(1, 1)))}
	dir := t.TempDir()
	k.cfg.Board, k.cfg.Reader, k.cfg.Cash = filepath.Join(dir, "board"), filepath.Join(dir, "reader"), filepath.Join(dir, "cash")
	var outlets []virtual.BoardOutlet
	for i, p := range kioskPrices {
		outlets = append(outlets, virtual.BoardOutlet{
			Product: virtual.Product{Outlet: protocol.Outlet(i + 1), Price: money.New(p, money.EUR)}, Relay: i + 1, Feedback: i + 1, //nolint:gosec // three
		})
	}
	outlets[1].Least = time.Hour // the cake is stuck
	var err1, err2, err3 error
	k.board, err1 = virtual.NewBoard(virtual.BoardConfig{Link: k.cfg.Board, Outlets: outlets})
	k.reader, err2 = virtual.NewReader(virtual.ReaderConfig{Link: k.cfg.Reader})
	k.cash, err3 = virtual.NewCash(virtual.CashConfig{Link: k.cfg.Cash, Tubes: []int{200, 200, 200, 50, 60, -1}})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	k.live(k.board.Run, k.reader.Run, k.cash.Run)
	k.far = func() any { return []any{k.board.View(), k.reader.View(), k.cash.View()} }
	return k
}

func (k *kiosk) ready() {
	k.t.Helper()
	k.status("ready", func(st agent.Status) bool {
		l := st.Lanes[0]
		return l.Phase == "idle" && l.Refuses == "" && l.Cash != nil && l.Cash.Known && st.Link.Way == "up"
	})
	if k.t.Failed() {
		k.t.FailNow()
	}
}

// insert puts in 7.00, coin by coin, as the screen says what is missing.
func (k *kiosk) insert(shown *seen) {
	k.t.Helper()
	for i, kind := range []int{5, 4, 5, 4, 4} {
		shown.until(k.t, "price "+[]string{"6.50", "4.50", "3.50", "1.50", "0.50"}[i])
		ctx, cancel := context.WithTimeout(k.t.Context(), victimPatience)
		err := k.cash.Wait(ctx, func(v virtual.CashView) bool { return v.Accepting })
		cancel()
		if err == nil {
			err = k.cash.Coin(kind)
		}
		if err != nil {
			k.t.Fatal(err)
		}
	}
}

// url is where orders are taken.
func (k *kiosk) url(path string) string {
	addr, err := os.ReadFile(filepath.Join(k.cfg.Data, agent.ScreenFile))
	if err != nil {
		k.t.Fatal(err)
	}
	return "http://" + strings.TrimSpace(string(addr)) + path
}

// order orders one of each.
func (k *kiosk) order() {
	k.t.Helper()
	body := `{"lane": 0, "lines": [{"outlet": 1}, {"outlet": 2}, {"outlet": 3}]}`
	for end := time.Now().Add(victimPatience); ; time.Sleep(50 * time.Millisecond) {
		r, err := http.NewRequestWithContext(k.t.Context(), http.MethodPost, k.url("/v1/orders"), strings.NewReader(body))
		if err != nil {
			k.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			k.t.Fatal(err)
		}
		said, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		switch {
		case answer.StatusCode == http.StatusAccepted:
			return
		case answer.StatusCode == http.StatusConflict && strings.Contains(string(said), "outlet_in_use") && time.Now().Before(end):
			// the last item's motor has not come to rest yet
		default:
			k.t.Fatalf("%s: %s", answer.Status, said)
		}
	}
}

// seen is what a program saw on the lane's events.
type seen struct {
	in  chan screen.Shown
	all []screen.Shown
}

// events watches the lane as a program does.
func (k *kiosk) events() *seen {
	k.t.Helper()
	r, err := http.NewRequestWithContext(k.t.Context(), http.MethodGet, k.url("/v1/lanes/0/events"), http.NoBody)
	if err != nil {
		k.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	s := &seen{in: make(chan screen.Shown, 256)}
	done := make(chan struct{})
	k.t.Cleanup(func() { _ = answer.Body.Close(); <-done })
	go func() {
		defer close(done)
		defer close(s.in)
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var e screen.Shown
				if json.Unmarshal([]byte(data), &e) != nil {
					return
				}
				s.in <- e
			}
		}
	}()
	return s
}

func says(e screen.Shown) string { return strings.TrimSpace(e.Screen + " " + e.Amount) }

// until reads on until a screen was shown, and gives its sale.
func (s *seen) until(t *testing.T, what string) string {
	t.Helper()
	for late := time.After(victimPatience); ; {
		select {
		case e, ok := <-s.in:
			if !ok {
				t.Fatalf("the events ended before %q: %+v", what, s.all)
			}
			if s.all = append(s.all, e); says(e) == what {
				return e.Sale
			}
		case <-late:
			t.Fatalf("%q was not shown: %+v", what, s.all)
		}
	}
}

// seen holds the screens of a sale, each as often as it changed, against what they should be.
func (s *seen) seen(t *testing.T, sale string, want ...string) {
	t.Helper()
	var got []string
	for _, e := range s.all {
		if e.Sale == sale && sale != "" {
			got = append(got, says(e))
		}
	}
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
