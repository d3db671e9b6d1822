package agent_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/session"
	"coinop/hardware/virtual"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// modeWithin is how long a lane may take to the mode that is left, and back.
const modeWithin = 10 * time.Second

// sells waits until the lane sells in a mode.
func (s *site) sells(what string, mode agent.Mode, whys ...code.Code) {
	s.t.Helper()
	began := time.Now()
	l := s.stands(func(l agent.LaneStatus, _ *agent.LastSale) bool {
		return l.Selling != nil && l.Selling.Mode == mode && slices.Contains(whys, l.Selling.Reason)
	})
	if took := time.Since(began); took > modeWithin {
		s.t.Errorf("%s: %s took %s", what, mode, took)
	}
	if (l.Selling.Text == "") != (mode == agent.ModeFull) {
		s.t.Errorf("%s: a buyer is told %q", what, l.Selling.Text)
	}
	if why := l.Selling.Reason; why != "" && code.Of(why).Next == "" {
		s.t.Errorf("%s: %s is not in the catalogue", what, why)
	}
}

// Of a terminal and a changer one fails after the other, and comes back.
func TestModes(t *testing.T) {
	t.Parallel()
	s, cash := cashed(t, virtual.CashConfig{Tubes: []int{20, 20, 20, 20, 20, -1}})
	terminal := must[*virtual.Terminal](t)(virtual.NewTerminal(virtual.TerminalConfig{History: true}))
	s.background(terminal.Run)
	l := &s.cfg.Lanes[0]
	l.Readers, l.Terminal = nil, agent.ZVT(terminal.Address(), "", money.EUR, true, false)
	s.cfg.ModeAfter = 0 // as it is
	stop := s.start()
	s.enabled()
	s.stands(known)
	s.sells("all is well", agent.ModeFull, "")

	cash.Unplug()
	s.sells("the changer is gone", agent.ModeCashlessOnly, code.PortAbsent, code.PortLost)
	if got := s.await(session.ScreenIdle); got.reason != string(agent.ModeCashlessOnly) {
		for got.reason != string(agent.ModeCashlessOnly) { // screens of before
			got = s.await(session.ScreenIdle)
		}
	}
	terminal.Unplug()
	s.sells("the terminal too", agent.ModeOut, code.PortAbsent, code.PortLost)
	if got := s.await(session.ScreenOutOfService); !strings.HasPrefix(got.reason, "port_") {
		t.Errorf("out, and the screen says %q", got.reason)
	}
	for { // no order begins, and the machine is told at once
		if err := s.machine.Select(5); err == nil {
			break
		}
		s.enabled()
	}
	if got := s.await(session.ScreenRefused); !strings.HasPrefix(got.reason, "port_") {
		t.Errorf("refused for %q", got.reason)
	}
	if err := cash.Replug(); err != nil {
		t.Fatal(err)
	}
	s.sells("the changer is back", agent.ModeCashOnly, code.PortAbsent, code.PortLost)
	terminal.Replug()
	s.sells("all is back", agent.ModeFull, "")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range s.events(string(code.SellingMode)) {
		told = append(told, strings.Fields(e.Detail)[0])
	}
	want := []string{"cashless_only", "out", "cash_only", "full"}
	if !slices.Equal(told, want) {
		t.Errorf("records: %q, want %q", told, want)
	}
}

// A card needs its reader and the bank; the machine needs to be there.
func TestModeOfCards(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.cfg.ModeAfter = 0
	s.start()
	s.enabled()
	s.sells("there is no cloud", agent.ModeOut, code.LinkDown)
	s.reader.Unplug()
	s.sells("nor a reader", agent.ModeOut, code.PortAbsent, code.PortLost)
	s.machine.Unplug()
	s.sells("nor a machine", agent.ModeOut, code.PortAbsent, code.PortLost)
}
