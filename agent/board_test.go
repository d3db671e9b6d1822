package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/dex"
	"coinop/hardware/outlet"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// laundry makes the site's lane one of outlets at a virtual relay board, with a door at input 7 and a
// tamper loop at input 8.
func (s *site) laundry() *virtual.Board {
	s.t.Helper()
	board := must[*virtual.Board](s.t)(virtual.NewBoard(virtual.BoardConfig{
		Link: filepath.Join(s.t.TempDir(), "board"), Outlets: []virtual.BoardOutlet{{Product: virtual.Product{Outlet: 3, Price: money.New(250, money.EUR)}, Relay: 1}},
	}))
	s.background(board.Run)
	s.cfg.Lanes[0].OwnsMotor, s.cfg.Lanes[0].Name, s.cfg.Lanes[0].Bus = true, "outlets", protocol.BusNone
	s.cfg.Lanes[0].Vending = agent.Outlets(outlet.Config{
		Path: board.Path(), Currency: money.EUR, Door: 7, Tamper: 8,
		Outlets: []outlet.Outlet{{Number: 3, Price: money.New(250, money.EUR), Relay: 1}},
	})
	return board
}

// background runs a far end until the test is over.
func (s *site) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = run(ctx) }()
	s.t.Cleanup(func() { cancel(); <-done })
}

// until waits for something that comes by itself.
func (s *site) until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: it never came to that", what)
		}
	}
}

// events are the DeviceEvents of a journal that nobody uses, of some codes.
func (s *site) events(codes string) (all []protocol.DeviceEvent) {
	s.t.Helper()
	_, err := journal.Peek(filepath.Join(s.cfg.Data, "journal"), func(o protocol.Opened) {
		if e, ok := o.Body.(protocol.DeviceEvent); ok && strings.Contains(codes, e.Code) {
			all = append(all, e)
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// TestAuditAtTheDoor: the machine's own books are read when its door opens, and again when it closes; both
// are records. Between them nobody reads: the next reading is a day away.
func TestAuditAtTheDoor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	books := dex.Audit{Serial: "S1", Board: "B1", Decimals: 2, Currency: "EUR", CashIn: dex.Money{In: 300, Box: 300}}
	file := dex.Write("MACHINE001", books.Segments())
	far := must[*virtual.DEX](t)(virtual.NewDEX(filepath.Join(t.TempDir(), "dex"), file))
	s.background(far.Run)
	board := s.laundry()
	s.cfg.Lanes[0].Audit = agent.DEX(far.Path())
	if err := board.Hold(8, true); err != nil { // the loop is whole
		t.Fatal(err)
	}
	stop := s.start()
	s.until("ready", func() bool {
		st, err := agent.AskStatus(s.cfg.Data)
		return err == nil && len(st.Lanes) == 1 && st.Lanes[0].Refuses != "vending_side_away"
	})
	kept := func() []string {
		names, _ := filepath.Glob(filepath.Join(s.cfg.Data, "audits", "lane-0-*.dts"))
		return names
	}
	for i, open := range []bool{true, false} {
		if n := len(kept()); n != i {
			t.Fatalf("%d files before the door moved", n)
		}
		if err := board.Hold(7, open); err != nil {
			t.Fatal(err)
		}
		s.until("the books", func() bool { return len(kept()) == i+1 })
	}
	if got, err := os.ReadFile(kept()[1]); err != nil || string(got) != string(file) {
		t.Error("the file is not as it came", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := s.events("door tamper"); len(got) != 2 || got[0].Detail != "open" || got[1].Detail != "closed" {
		t.Errorf("%+v", got)
	}
}

// TestTamper: a cut wire locks the lane, through a restart too, until a technician has closed the loop and
// said who he is.
func TestTamper(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	board := s.laundry()
	hold := func(whole bool) {
		t.Helper()
		if err := board.Hold(8, whole); err != nil {
			t.Fatal(err)
		}
	}
	hold(true)
	refuses := func(why string) func() bool {
		return func() bool {
			st, err := agent.AskStatus(s.cfg.Data)
			return err == nil && st.Running == agent.IsRunning && len(st.Lanes) == 1 && st.Lanes[0].Refuses == why
		}
	}
	clearBy := func(name string) string {
		_, err := agent.Tell(s.ctx(), s.cfg.Data, agent.Order{Do: agent.OrderTamperClear, Person: name})
		if err == nil {
			return ""
		}
		return err.Error()
	}
	stop := s.start()
	s.until("whole", refuses("link_down"))
	if got := clearBy("ana"); got != "nothing is locked" {
		t.Error(got)
	}
	hold(false)
	s.until("cut", refuses("tamper"))
	if got := s.await(session.ScreenOutOfService); got.reason != "tamper" {
		t.Errorf("%+v", got)
	}
	if got := clearBy("ana"); !strings.HasPrefix(got, "outlets: still open") {
		t.Error(got)
	}
	hold(true)
	s.until("closed", func() bool { return strings.Contains(s.log.String(), "tamper loop closed") })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = s.start()
	s.until("still locked", refuses("tamper"))
	s.until("closed again", func() bool { return strings.Count(s.log.String(), "tamper loop closed") == 2 })
	if got := clearBy(""); got != "by: 1 to 60 characters" {
		t.Error(got)
	}
	if got := clearBy("ana"); got != "" {
		t.Error(got)
	}
	s.until("cleared", refuses("link_down"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	got := s.events("tamper")
	if len(got) != 2 || got[0] != (protocol.DeviceEvent{Code: "tamper", Device: "outlets", Detail: "found"}) || got[1].Detail != "cleared by ana" {
		t.Errorf("%+v", got)
	}
}

// TestTamperReaders: the reader of a lane where the card comes first looks for none while the lane is locked, and
// who stands there is told so; a restart changes nothing.
func TestTamperReaders(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := newBoard()
	s.cfg.Board = b.config()
	s.cfg.Lanes[0].Flow, s.cfg.Policy.MaxHold = protocol.CardFirst, 500
	armed := func(want bool) {
		t.Helper()
		if err := s.reader.Wait(s.ctx(), func(v virtual.ReaderView) bool { return v.Armed == want }); err != nil {
			t.Fatalf("armed is never %v: %v", want, err)
		}
	}
	stop := s.start()
	<-b.open
	s.enabled()
	armed(true)
	b.out(hardware.Tamper{Device: "board"})
	armed(false)
	s.await(session.ScreenOutOfService)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	again := newBoard()
	s.cfg.Board = again.config()
	for len(s.screens) > 0 {
		<-s.screens
	}
	stop = s.start()
	<-again.open
	s.enabled()
	s.until("still locked", func() bool {
		st, err := agent.AskStatus(s.cfg.Data)
		return err == nil && len(st.Lanes) == 1 && st.Lanes[0].Refuses == "tamper" && len(st.Lanes[0].Devices) == 2
	})
	if s.reader.View().Armed {
		t.Error("a reader of a locked lane looks for a card")
	}
	if got := s.await(session.ScreenOutOfService); got.reason != "tamper" {
		t.Errorf("%+v", got)
	}
	if _, err := agent.Tell(s.ctx(), s.cfg.Data, agent.Order{Do: agent.OrderTamperClear, Person: "ana"}); err != nil {
		t.Fatal(err)
	}
	armed(true)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
