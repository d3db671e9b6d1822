package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/session"
	"coinop/hardware/mdb"
	"coinop/hardware/outlet"
	"coinop/hardware/paper"
	"coinop/hardware/virtual"
	"coinop/protocol/money"
)

// terminalSite is a vending machine with a payment terminal beside it, and no cloud: a terminal needs none.
func terminalSite(t *testing.T, cfg virtual.TerminalConfig) (*site, *virtual.Terminal) {
	t.Helper()
	s := newSite(t)
	far := must[*virtual.Terminal](t)(virtual.NewTerminal(cfg))
	ctx, cancel := context.WithCancel(context.Background())
	var end sync.WaitGroup
	end.Go(func() { _ = far.Run(ctx) })
	t.Cleanup(func() { cancel(); end.Wait() })
	l := &s.cfg.Lanes[0]
	l.Readers, l.Terminal = nil, agent.ZVT(far.Address(), "", money.EUR, true, false)
	return s, far
}

func (s *site) terminal(far *virtual.Terminal, what string, ok func(virtual.TerminalView) bool) {
	s.t.Helper()
	if err := far.Wait(s.ctx(), ok); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// buy presses the button until the terminal waits for a card: an order may come before the machine, or
// the terminal, is ready for the next.
func (s *site) buy(far *virtual.Terminal) {
	s.t.Helper()
	for ctx := s.ctx(); !far.View().Waiting; {
		if ctx.Err() != nil {
			s.t.Fatal("the terminal was never asked")
		}
		denials := s.machine.View().Denials
		if err := s.machine.Select(5); err == nil {
			for heard := time.Now().Add(time.Second); !far.View().Waiting && s.machine.View().Denials == denials; time.Sleep(time.Millisecond) {
				if time.Now().After(heard) { // an adapter that is set up forgets what was asked in it
					_ = s.machine.Cancel()
					break
				}
			}
			continue
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A sale at a terminal, without a line to anybody: what came out is booked, with its lines on the
// receipt; what did not is given back; and a buyer who leaves has not paid.
func TestTerminalSale(t *testing.T) {
	t.Parallel()
	s, far := terminalSite(t, virtual.TerminalConfig{Waits: true, History: true})
	stop := s.start()
	s.enabled()
	s.terminal(far, "asked for its last", func(v virtual.TerminalView) bool { return v.Enquired > 0 })

	s.buy(far)
	far.Present(virtual.TerminalFine)
	s.await(session.ScreenThanks)
	s.terminal(far, "booked", func(v virtual.TerminalView) bool { return v.Held == 0 && v.Charged == 250 })
	all := must[[]paper.Receipt](t)(agent.Receipts(s.cfg.Data))
	for ctx := s.ctx(); len(all) == 0 && ctx.Err() == nil; all = must[[]paper.Receipt](t)(agent.Receipts(s.cfg.Data)) {
		time.Sleep(5 * time.Millisecond)
	}
	if len(all) != 1 {
		t.Fatal(all)
	}
	if r := all[0]; r.Last4 != "4771" || r.Brand != "mastercard" || r.Charged != money.New(150, money.EUR) || !strings.Contains(strings.Join(r.Terminal, "\n"), "Receipt 0002") {
		t.Errorf("%+v", r)
	}

	if err := s.machine.Misbehave(virtual.FaultFail); err != nil {
		t.Fatal(err)
	}
	s.buy(far)
	far.Present(virtual.TerminalFine)
	s.await(session.ScreenNotCharged)
	s.terminal(far, "given back", func(v virtual.TerminalView) bool { return v.Held == 0 && v.Charged == 250 && len(v.Books) == 5 })

	s.buy(far)
	if err := s.machine.Cancel(); err != nil {
		t.Fatal(err)
	}
	s.terminal(far, "aborted", func(v virtual.TerminalView) bool { return !v.Waiting && v.Charged == 250 && len(v.Books) == 5 })

	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if text := s.log.String(); strings.Contains(text, "EEEE") {
		t.Error("raw card data in the log")
	}
}

// An agent that ends while a card is being charged asks the terminal, at its next start, what became of
// it, and has it given back, once.
func TestTerminalRestart(t *testing.T) {
	t.Parallel()
	s, far := terminalSite(t, virtual.TerminalConfig{Waits: true, History: true})
	stop := s.start()
	s.enabled()
	s.buy(far)
	far.Misbehave(virtual.TerminalWinsAbort)
	far.Present(virtual.TerminalDiesApproved) // it is kept, and nobody is told
	s.terminal(far, "kept", func(v virtual.TerminalView) bool { return v.Charged == 250 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = s.start()
	s.terminal(far, "given back", func(v virtual.TerminalView) bool { return v.Held == 0 && v.Charged == 100 })
	if v := far.View(); v.Asked != 1 {
		t.Errorf("asked %d times", v.Asked)
	}
	// Nothing is owed any more: the next sale goes well. The machine still waits with the one before.
	if err := s.machine.Cancel(); err != nil {
		t.Fatal(err)
	}
	s.buy(far)
	far.Present(virtual.TerminalFine)
	s.await(session.ScreenThanks)
	s.terminal(far, "booked", func(v virtual.TerminalView) bool { return v.Held == 0 && v.Charged == 250 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestTerminalOrders: an order of a program at this box is paid at the terminal, and may be given up while
// that waits for a card.
func TestTerminalOrders(t *testing.T) {
	t.Parallel()
	s, far := terminalSite(t, virtual.TerminalConfig{Waits: true})
	price := money.New(250, money.EUR)
	board := must[*virtual.Board](t)(virtual.NewBoard(virtual.BoardConfig{
		Link: filepath.Join(t.TempDir(), "board"), Outlets: []virtual.BoardOutlet{{Product: virtual.Product{Outlet: 3, Price: price}, Relay: 1}},
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = board.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	s.cfg.Screen = "127.0.0.1:0"
	s.cfg.Plan = agent.Plan{0: {3: {Name: "Tea", Price: price}}}
	s.cfg.Lanes[0] = agent.LaneConfig{
		OwnsMotor: true, Name: "outlets", Terminal: s.cfg.Lanes[0].Terminal,
		Vending: agent.Outlets(outlet.Config{Path: board.Path(), Currency: money.EUR, Outlets: []outlet.Outlet{{Number: 3, Price: price, Relay: 1}}}),
	}
	stop := s.start()
	ready := func() {
		t.Helper()
		for ctx := s.ctx(); ; time.Sleep(5 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(s.cfg.Data, agent.ScreenFile)); err == nil {
				if _, l := s.ask("GET", "/v1/lanes/0", ""); l["phase"] == "idle" && l["refuses"] == nil {
					return
				}
			}
			if ctx.Err() != nil {
				t.Fatal("the lane is never ready")
			}
		}
	}
	ready()
	const lines = `"lane": 0, "lines": [{"outlet": 3}]`
	if status, says := s.ask("POST", "/v1/orders", "{"+lines+`, "pay": "cash"}`); status != 409 || says["reason"] != "no_cash" {
		t.Errorf("%d %v", status, says)
	}
	order := func(pay string) string {
		t.Helper()
		status, says := s.ask("POST", "/v1/orders", "{"+lines+pay+"}")
		sale, _ := says["sale"].(string)
		if status != 202 || sale == "" {
			t.Fatalf("%d %v", status, says)
		}
		s.terminal(far, "waits for a card", func(v virtual.TerminalView) bool { return v.Waiting })
		return sale
	}
	sale := order("")
	if status, says := s.ask("DELETE", "/v1/orders/"+sale, ""); status != 204 {
		t.Errorf("%d %v", status, says)
	}
	s.terminal(far, "aborted", func(v virtual.TerminalView) bool { return !v.Waiting && v.Charged == 0 })
	ready()
	far.Misbehave(virtual.TerminalTalks)
	order(`, "pay": "card"`)
	for ctx := s.ctx(); ; time.Sleep(5 * time.Millisecond) { // what the terminal shows, word for word
		_, l := s.ask("GET", "/v1/lanes/0", "")
		if shown, _ := l["shown"].(map[string]any); shown["text"] == "Bitte ä" && shown["reason"] == "insert_card" {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("%v", l)
		}
	}
	far.Present(virtual.TerminalFine)
	s.await(session.ScreenThanks)
	s.terminal(far, "booked", func(v virtual.TerminalView) bool { return v.Held == 0 && v.Charged == 250 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestTerminalDay: the terminal's day is ended when it is time, and when the terminal says so.
func TestTerminalDay(t *testing.T) {
	t.Parallel()
	s, far := terminalSite(t, virtual.TerminalConfig{History: true})
	s.cfg.Lanes[0].CloseEvery = 200 * time.Millisecond
	stop := s.start()
	s.terminal(far, "its day is ended", func(v virtual.TerminalView) bool { return v.Days >= 1 })
	for ctx := s.ctx(); ; time.Sleep(5 * time.Millisecond) {
		st, err := agent.AskStatus(s.cfg.Data)
		if err == nil && len(st.Lanes) == 1 && st.Lanes[0].Terminal != nil && !st.Lanes[0].Terminal.Closed.IsZero() && st.Lanes[0].Terminal.ID == "52523535" {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("%+v %v", st.Lanes, err)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s.cfg.Lanes[0].CloseEvery = 0 // once a day
	days := far.View().Days
	far.Misbehave(virtual.TerminalDueDay)
	stop = s.start()
	s.terminal(far, "the day that is due is ended", func(v virtual.TerminalView) bool { return v.Days == days+1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// busReaderSite is a vending machine with a cashless reader at a bus of its own beside it.
func busReaderSite(t *testing.T, cfg virtual.BusReaderConfig) (*site, *virtual.BusReader) {
	t.Helper()
	s := newSite(t)
	cfg.Link = filepath.Join(t.TempDir(), "bus")
	far := must[*virtual.BusReader](t)(virtual.NewBusReader(cfg))
	ctx, cancel := context.WithCancel(context.Background())
	var end sync.WaitGroup
	end.Go(func() { _ = far.Run(ctx) })
	t.Cleanup(func() { cancel(); end.Wait() })
	l := &s.cfg.Lanes[0]
	l.Readers, l.Terminal, l.CloseEvery = nil, agent.MDBReader(mdb.PortRaw, far.Path(), money.EUR, false), -1
	return s, far
}

// choose presses the button until the reader waits for a card.
func (s *site) choose(far *virtual.BusReader) {
	s.t.Helper()
	for ctx := s.ctx(); !far.View().Waiting; {
		if ctx.Err() != nil {
			s.t.Fatal("the reader was never asked")
		}
		denials := s.machine.View().Denials
		if err := s.machine.Select(5); err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		for heard := time.Now().Add(2 * time.Second); !far.View().Waiting && s.machine.View().Denials == denials; time.Sleep(time.Millisecond) {
			if time.Now().After(heard) {
				_ = s.machine.Cancel()
				break
			}
		}
	}
}

func (s *site) atBus(far *virtual.BusReader, what string, ok func(virtual.BusReaderView) bool) {
	s.t.Helper()
	if err := far.Wait(s.ctx(), ok); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// A sale at a reader whose controller we are: what came out is charged, what did not is given back, and one
// that was declined is neither.
func TestBusReaderSale(t *testing.T) {
	t.Parallel()
	s, far := busReaderSite(t, virtual.BusReaderConfig{Waits: true})
	stop := s.start()
	s.enabled()
	card := func(f virtual.BusReaderFault) {
		t.Helper()
		s.choose(far)
		if err := far.Present(f); err != nil {
			t.Fatal(err)
		}
	}
	card(virtual.BusReaderFine)
	s.await(session.ScreenThanks)
	s.atBus(far, "charged", func(v virtual.BusReaderView) bool { return v.Held == 0 && v.Charged == 150 && v.State == 2 })

	if err := s.machine.Misbehave(virtual.FaultFail); err != nil {
		t.Fatal(err)
	}
	card(virtual.BusReaderFine)
	s.await(session.ScreenNotCharged)
	s.atBus(far, "given back", func(v virtual.BusReaderView) bool { return v.Held == 0 && v.Refunds == 1 && v.State == 2 })

	card(virtual.BusReaderDeclines)
	s.atBus(far, "declined", func(v virtual.BusReaderView) bool { return v.Asked == 3 && v.State == 2 })
	s.await(session.ScreenNotCharged)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if v := far.View(); v.Charged != 150 || v.Held != 0 || v.Approved != 2 || v.Resets != 0 && v.Resets != 1 {
		t.Errorf("%+v", v)
	}
}

// A reader that approves while the agent is away is heard before it is reset, which would charge it: the
// payment is given back.
func TestBusReaderRestart(t *testing.T) {
	t.Parallel()
	s, far := busReaderSite(t, virtual.BusReaderConfig{Waits: true, AlwaysIdle: true})
	stop := s.start()
	s.enabled()
	s.choose(far)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := far.Present(virtual.BusReaderFine); err != nil {
		t.Fatal(err)
	}
	resets, end := far.View().Resets, virtual.BusReaderView{}
	stop = s.start()
	s.atBus(far, "given back", func(v virtual.BusReaderView) bool { end = v; return v.Held == 0 })
	if end.Asked != 1 || end.Resets != resets || end.Charged != 0 || end.Refunds != 1 {
		t.Errorf("%+v; %d resets before", end, resets)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
