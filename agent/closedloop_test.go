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

// TestClosedLoopCard: a good card of the operator's own is read and refused by name, and nothing is sold for
// it: there is no account behind it yet. The buyer may present another card, and give up.
func TestClosedLoopCard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	far := must[*virtual.PN532](t)(virtual.NewPN532(filepath.Join(t.TempDir(), "nfc")))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = far.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	keys := must[hardware.LoopKeys](t)(hardware.ParseLoopKeys([]byte("mac 101112131415161718191A1B1C1D1E1F\nclassic 4 A0A1A2A3A4A5\n")))
	s.cfg.Lanes[0].Reader = agent.PN532(far.Path(), money.EUR, keys)
	s.start()
	s.enabled()
	s.order()
	card := virtual.MIFAREClassic([]byte("abcd"), []byte{0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5})
	card.Blocks[4] = keys.Reference(0xC0FFEE, 1, card.UID)
	far.Present(card)
	if got := s.await(session.ScreenOtherCard); got.reason != "card_not_accepted" || got.amount != money.New(150, money.EUR) {
		t.Errorf("%+v", got)
	}
	looks := far.View().Looks // it is armed anew, for another card
	if err := far.Wait(s.ctx(), func(v virtual.PN532View) bool { return v.Looks > looks+2 }); err != nil {
		t.Fatal(err)
	}
	if err := s.machine.Cancel(); err != nil {
		t.Fatal(err)
	}
	s.await(session.ScreenRefused)
	if v := s.machine.View(); v.Drops != 0 || v.Approvals != 0 {
		t.Errorf("something was sold: %+v", v)
	}
	if text := s.log.String(); strings.Contains(text, "c0ffee") || strings.Contains(text, "61626364") || strings.Contains(text, "abcd") {
		t.Error("the log holds the card's numbers")
	}
}
