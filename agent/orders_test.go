package agent_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/session"
	"coinop/hardware/outlet"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// ask asks the agent's screen, and gives the status and what it says.
func (s *site) ask(method, path, body string) (int, map[string]any) {
	s.t.Helper()
	addr, err := os.ReadFile(filepath.Join(s.cfg.Data, agent.ScreenFile))
	if err != nil {
		s.t.Fatal(err)
	}
	r := must[*http.Request](s.t)(http.NewRequestWithContext(s.ctx(), method, "http://"+strings.TrimSpace(string(addr))+path, strings.NewReader(body)))
	r.Header.Set("Content-Type", "application/json")
	answer := must[*http.Response](s.t)((&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r))
	defer func() { _ = answer.Body.Close() }()
	says := map[string]any{}
	if b := must[[]byte](s.t)(io.ReadAll(answer.Body)); len(b) > 0 {
		if err := json.Unmarshal(b, &says); err != nil {
			s.t.Fatalf("%s: %v", b, err)
		}
	}
	return answer.StatusCode, says
}

// TestOrders: a lane of outlets takes orders over HTTP at the plan's prices, one buyer at a time, until its
// vend begins; buttons order there too; a vending machine's lane takes none.
func TestOrders(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	board := must[*virtual.Board](t)(virtual.NewBoard(virtual.BoardConfig{
		Link: filepath.Join(t.TempDir(), "board"), Outlets: []virtual.BoardOutlet{{Product: virtual.Product{Outlet: 3, Price: money.New(250, money.EUR)}, Relay: 1, Button: 1, Feedback: 2}},
	}))
	done := make(chan struct{})
	ctx := s.ctx()
	go func() { defer close(done); _ = board.Run(ctx) }()
	t.Cleanup(func() { <-done })
	vending := s.cfg.Lanes[0]
	s.cfg.Screen = "127.0.0.1:0"
	s.cfg.Plan = agent.Plan{0: {3: {Name: "Tea", Price: money.New(250, money.EUR)}, 4: {Name: "Water"}}, 1: {5: {Name: "Cola", Price: money.New(150, money.EUR)}}}
	s.cfg.Lanes[0] = agent.LaneConfig{
		OwnsMotor: true, Name: "outlets", Readers: vending.Readers,
		Vending: agent.Outlets(outlet.Config{Path: board.Path(), Currency: money.EUR, Outlets: []outlet.Outlet{{Number: 3, Price: money.New(250, money.EUR), Relay: 1, Button: 1, Feedback: 2}}}),
	}
	vending.Readers, vending.Lane = nil, 1
	s.cfg.Lanes = append(s.cfg.Lanes, vending)
	stop := s.start()
	waitFor := func(ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				for len(s.screens) > 0 {
					t.Logf("%+v", <-s.screens)
				}
				_, l := s.ask("GET", "/v1/lanes/0", "")
				t.Fatalf("it never came to that: %v, %+v", l, board.View())
			}
		}
	}
	waitFor(func() bool { _, err := os.Stat(filepath.Join(s.cfg.Data, agent.ScreenFile)); return err == nil })
	waitFor(func() bool {
		_, l := s.ask("GET", "/v1/lanes/0", "")
		return l["phase"] == "idle" && l["refuses"] == nil
	})
	const two = `{"lane": 0, "lines": [{"outlet": 3, "quantity": 2}]}`
	refused := func(body string, status int, reason string) {
		t.Helper()
		if got, says := s.ask("POST", "/v1/orders", body); got != status || says["reason"] != reason {
			t.Errorf("%s: %d %v, want %s", body, got, says, reason)
		}
	}
	refused(`{"lane": 0, "lines": [{"outlet": 9}]}`, 409, "no_such_outlet")
	refused(`{"lane": 0, "lines": [{"outlet": 4}]}`, 409, "no_such_outlet") // nobody says what it costs
	refused(`{"lane": 1, "lines": [{"outlet": 5}]}`, 409, "no_orders")
	refused(`{"lane": 2, "lines": [{"outlet": 5}]}`, 404, "no_such_lane")

	if err := board.Hold(2, true); err != nil {
		t.Fatal(err)
	}
	waitFor(func() bool { // until the driver has seen it
		status, says := s.ask("POST", "/v1/orders", two)
		if sale, ok := says["sale"].(string); ok {
			_, _ = s.ask("DELETE", "/v1/orders/"+sale, "")
			s.await(session.ScreenRefused)
		}
		return status == 409 && says["reason"] == "outlet_in_use"
	})
	if err := board.Hold(2, false); err != nil {
		t.Fatal(err)
	}
	waitFor(func() bool {
		status, says := s.ask("POST", "/v1/orders", two)
		if sale, ok := says["sale"].(string); ok {
			_, _ = s.ask("DELETE", "/v1/orders/"+sale, "")
			s.await(session.ScreenRefused)
		}
		return status == 202
	})
	for len(s.screens) > 0 {
		<-s.screens
	}

	order := func() string {
		t.Helper()
		status, says := s.ask("POST", "/v1/orders", two)
		sale, _ := says["sale"].(string)
		if status != 202 || sale == "" {
			t.Fatalf("%d %v", status, says)
		}
		if got := s.await(session.ScreenPrice); got.amount != money.New(500, money.EUR) {
			t.Errorf("%+v", got)
		}
		return sale
	}
	sale := order()
	_, l := s.ask("GET", "/v1/lanes/0", "")
	shown, _ := l["shown"].(map[string]any)
	if l["sale"] != sale || l["phase"] != "ordered" || shown["screen"] != "price" || shown["amount"] != "5.00" || shown["sale"] != sale {
		t.Errorf("%v", l)
	}
	if outlets, _ := l["outlets"].([]any); len(outlets) != 1 {
		t.Errorf("%v", l["outlets"])
	}
	refused(two, 409, "busy")
	if got := s.await(session.ScreenRefused); got.reason != "busy" {
		t.Errorf("%+v", got)
	}
	if status, says := s.ask("DELETE", "/v1/orders/"+protocol.SaleID{1}.String(), ""); status != 404 {
		t.Errorf("another's sale: %d %v", status, says)
	}
	if status, says := s.ask("DELETE", "/v1/orders/"+sale, ""); status != 204 {
		t.Errorf("%d %v", status, says)
	}
	if status, says := s.ask("DELETE", "/v1/orders/"+sale, ""); status != 404 {
		t.Errorf("twice: %d %v", status, says)
	}
	if got := s.await(session.ScreenRefused); got.reason != "canceled" {
		t.Errorf("%+v", got)
	}
	if err := s.reader.Wait(s.ctx(), func(v virtual.ReaderView) bool { return !v.Armed }); err != nil {
		t.Fatal(err)
	}
	// A card, and no way to the bank: nothing is sold for it.
	if again := order(); again == sale {
		t.Error("the same sale again")
	}
	if err := s.reader.TapWhenArmed(s.ctx(), virtual.VisaTest()); err != nil {
		t.Fatal(err)
	}
	if got := s.await(session.ScreenRefused); got.reason == "" {
		t.Errorf("%+v", got)
	}
	// The button orders one of it.
	waitFor(func() bool {
		if err := board.Press(3); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if _, l := s.ask("GET", "/v1/lanes/0", ""); l["phase"] == "ordered" {
				return true
			}
		}
		return false
	})
	if got := s.await(session.ScreenPrice); got.amount != money.New(250, money.EUR) {
		t.Errorf("%+v", got)
	}
	if v := board.View(); v.Pulses != 0 || v.Relays != 0 {
		t.Errorf("%+v", v)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.cfg.Data, agent.ScreenFile)); !os.IsNotExist(err) {
		t.Error("the address outlives the agent")
	}
}
