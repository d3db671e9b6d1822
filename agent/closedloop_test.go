package agent_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"coinop/agent"
	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol/money"
)

// TestClosedLoopCard: a card of the operator's own is read, and where its account cannot be asked nothing is sold
// for it. One that could be a copy is not even asked for, but where that is wanted. How one pays is in sim.
func TestClosedLoopCard(t *testing.T) {
	t.Parallel()
	keys := must[hardware.LoopKeys](t)(hardware.ParseLoopKeys([]byte("mac 101112131415161718191A1B1C1D1E1F\nclassic 4 A0A1A2A3A4A5\n")))
	for _, c := range []struct {
		name   string
		keys   hardware.LoopKeys
		copied bool
		asked  bool // and the sale ends, for there is nobody
		reason string
	}{
		{"proven", keys, false, true, "accounts_away"},
		{"a chip's number", hardware.LoopKeys{}, false, false, "card_not_accepted"},
		{"a chip's number, where that is wanted", hardware.LoopKeys{}, true, true, "accounts_away"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			closedLoopCard(t, c.keys, keys, c.copied, c.asked, c.reason)
		})
	}
}

func closedLoopCard(t *testing.T, has, made hardware.LoopKeys, copied, asked bool, reason string) {
	s := newSite(t)
	far := must[*virtual.PN532](t)(virtual.NewPN532(filepath.Join(t.TempDir(), "nfc")))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = far.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	l := &s.cfg.Lanes[0]
	l.Readers = []agent.ReaderConfig{{New: agent.PN532(far.Path(), money.EUR, has), Cards: agent.LoopCards, Unproven: copied}}
	s.start()
	s.enabled()
	s.order()
	card := virtual.MIFAREClassic([]byte("abcd"), []byte{0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5})
	card.Blocks[4] = made.Reference(0xC0FFEE, 1, card.UID)
	far.Present(card)
	on := session.ScreenOtherCard
	if asked {
		on = session.ScreenRefused
	}
	if got := s.await(on); got.reason != reason || got.amount != money.New(150, money.EUR) {
		t.Errorf("%+v", got)
	}
	if asked {
		s.closed(t)
		return
	}
	looks := far.View().Looks // it is armed anew, for another card
	if err := far.Wait(s.ctx(), func(v virtual.PN532View) bool { return v.Looks > looks+2 }); err != nil {
		t.Fatal(err)
	}
	if err := s.machine.Cancel(); err != nil {
		t.Fatal(err)
	}
	s.await(session.ScreenRefused)
	s.closed(t)
}

// closed is that nothing was sold, and that nobody learns whose card it was.
func (s *site) closed(t *testing.T) {
	t.Helper()
	if v := s.machine.View(); v.Drops != 0 || v.Approvals != 0 {
		t.Errorf("something was sold: %+v", v)
	}
	if text := s.log.String(); strings.Contains(text, "c0ffee") || strings.Contains(text, "61626364") || strings.Contains(text, "abcd") {
		t.Error("the log holds the card's numbers")
	}
}
