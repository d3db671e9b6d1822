package agent_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol/card"
	"coinop/protocol/money"
)

// beside puts a PN532 for the operator's cards beside the site's reader, and gives it with cards that it takes.
func (s *site) beside() (far *virtual.PN532, own func(uid string) *virtual.NFCCard) {
	s.t.Helper()
	keys := must[hardware.LoopKeys](s.t)(hardware.ParseLoopKeys([]byte("mac 101112131415161718191A1B1C1D1E1F\nclassic 4 A0A1A2A3A4A5\n")))
	far = must[*virtual.PN532](s.t)(virtual.NewPN532(filepath.Join(s.t.TempDir(), "nfc")))
	s.background(far.Run)
	l := &s.cfg.Lanes[0]
	l.Readers = append(l.Readers, agent.ReaderConfig{New: agent.PN532(far.Path(), money.EUR, keys), Cards: agent.LoopCards})
	return far, func(uid string) *virtual.NFCCard {
		c := virtual.MIFAREClassic([]byte(uid), []byte{0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5})
		c.Blocks[4] = keys.Reference(0xC0FFEE, 1, c.UID)
		return c
	}
}

// looks waits until the PN532 looks for a card, or does not any more.
func (s *site) looks(far *virtual.PN532, want bool) {
	s.t.Helper()
	before := far.View().Looks
	if err := far.Wait(s.ctx(), func(v virtual.PN532View) bool { return v.Field == want && (!want || v.Looks > before) }); err != nil {
		s.t.Fatalf("looks is never %v: %v", want, err)
	}
}

func (s *site) armed(want bool) {
	s.t.Helper()
	if err := s.reader.Wait(s.ctx(), func(v virtual.ReaderView) bool { return v.Armed == want }); err != nil {
		s.t.Fatalf("armed is never %v: %v", want, err)
	}
}

// has waits until the lane's devices stand so, as "reader ready".
func (s *site) has(want ...string) {
	s.t.Helper()
	s.stands(func(l agent.LaneStatus, _ *agent.LastSale) bool {
		var all []string
		for _, d := range l.Devices {
			all = append(all, d.Name+" "+d.State)
		}
		return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(all, w) })
	})
}

// TestReadersOfALane: a card at either is asked for, and the other is told to stop; one that is away leaves the other
// reading, has a name of its own, and looks with it when it is back.
func TestReadersOfALane(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	far, own := s.beside()
	stop := s.start()
	s.enabled()
	s.has("reader ready", "reader 2 ready")

	refused := func(reason string) {
		t.Helper()
		if got := s.await(session.ScreenRefused); got.reason != reason {
			t.Errorf("refused for %q, want %q", got.reason, reason)
		}
		s.enabled()
	}
	t.Log("the bank's card")
	s.order()
	s.looks(far, true)
	if err := s.reader.TapWhenArmed(s.ctx(), virtual.VisaTest()); err != nil {
		t.Fatal(err)
	}
	refused("offline_off")
	s.looks(far, false)

	t.Log("the operator's")
	s.order()
	s.armed(true)
	cancels := s.reader.View().Cancels
	far.Present(own("abcd"))
	refused("accounts_away")
	far.Present()
	s.armed(false)
	if v := s.reader.View(); v.Cancels != cancels+1 || v.Taps != 1 {
		t.Errorf("%+v", v)
	}

	t.Log("the first is away")
	s.reader.Unplug()
	s.has("reader absent", "reader 2 ready")
	s.order()
	far.Present(own("efgh")) // the one of before must have been away for a while
	refused("accounts_away")
	far.Present()

	t.Log("it comes back while the other looks")
	s.order()
	s.looks(far, true)
	if err := s.reader.Replug(); err != nil {
		t.Fatal(err)
	}
	s.has("reader ready", "reader 2 ready")
	s.armed(true)
	if err := s.reader.TapWhenArmed(s.ctx(), virtual.VisaTest()); err != nil {
		t.Fatal(err)
	}
	refused("offline_off")

	t.Log("the second is away")
	far.Unplug()
	s.has("reader ready", "reader 2 absent")
	s.order()
	if err := s.reader.TapWhenArmed(s.ctx(), virtual.VisaTest()); err != nil {
		t.Fatal(err)
	}
	refused("offline_off")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s.closed(t)
}

// pretended is a reader whose cards are a test's.
type pretended struct {
	wiring chan agent.Wiring
	armed  func() // called by the goroutine that decides; nil: nobody is

	mu   sync.Mutex
	told []string
}

func (p *pretended) config() agent.ReaderConfig {
	p.wiring = make(chan agent.Wiring, 1)
	return agent.ReaderConfig{New: func(w agent.Wiring) (agent.Reader, error) { p.wiring <- w; return p, nil }}
}

func (p *pretended) tell(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, what)
	return nil
}

func (p *pretended) was(want ...string) func() bool {
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return slices.Equal(p.told, want)
	}
}

func (p *pretended) Open(context.Context) (hardware.Driver, error) { return p, nil }
func (p *pretended) Run(ctx context.Context) error                 { <-ctx.Done(); return nil }
func (p *pretended) Cancel() error                                 { return p.tell("cancel") }
func (p *pretended) Finish(hardware.Outcome) error                 { return p.tell("finish") }
func (p *pretended) Activate(money.Amount, time.Duration) error {
	if p.armed != nil {
		p.armed()
	}
	return p.tell("activate")
}

// TestTwoCardsAtOnce: two readers read a card each before the agent has heard of the first. The first card's answer
// is that another is wanted; the second is not that other: it is wiped, and is not asked for in this order or the next.
func TestTwoCardsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var first, second pretended
	s.cfg.Lanes[0].Readers = []agent.ReaderConfig{first.config(), second.config()}
	visa := must[card.Track2](t)(card.ParseTrack2("4761739001010119=30122011234567890"))
	late := must[card.Track2](t)(card.ParseTrack2("5413330089020011=30122010123456789"))
	var once sync.Once
	var one, two agent.Wiring
	taken := make(chan struct{})
	second.armed = func() { // both are armed, or are about to be
		once.Do(func() {
			<-taken
			at := two.Clock()
			one.Out(hardware.CardRead{Card: hardware.Card{AC: hardware.AAC, Reader: "one"}, At: at})
			two.Out(hardware.CardRead{Card: hardware.Card{Track2: visa, Reader: "two"}, At: at})
		})
	}
	go func() { one, two = <-first.wiring, <-second.wiring; close(taken) }()
	stop := s.start()
	<-taken
	if one.Device != "reader" || two.Device != "reader 2" {
		t.Errorf("they are %q and %q", one.Device, two.Device)
	}
	s.enabled()
	s.order()
	if got := s.await(session.ScreenOtherCard); got.reason != "card_refused" {
		t.Errorf("%+v", got)
	}
	s.until("the second is dropped", func() bool {
		return strings.Count(s.log.String(), `msg="a card that nobody waits for any more is dropped" device=snack-1 lane=0 part="reader 2"`) == 1
	})
	if strings.Trim(visa.Reveal(), "\x00") != "" {
		t.Error("the second card is not wiped")
	}
	s.until("both look again", first.was("activate", "activate"))
	s.until("both look again", second.was("activate", "cancel", "activate"))
	if err := s.machine.Cancel(); err != nil {
		t.Fatal(err)
	}
	if got := s.await(session.ScreenRefused); got.reason != "canceled" {
		t.Errorf("the order ends with %+v", got)
	}
	s.enabled()
	two.Out(hardware.CardRead{Card: hardware.Card{Track2: late}, At: two.Clock()}) // nobody buys
	s.order()
	s.until("they look for the next order's", first.was("activate", "activate", "cancel", "activate"))
	s.until("they look for the next order's", second.was("activate", "cancel", "activate", "cancel", "activate"))
	two.Out(hardware.CardFailed{Reason: hardware.ReasonTimeout})
	one.Out(hardware.CardRead{Card: hardware.Card{Track2: must[card.Track2](t)(card.ParseTrack2("4761739001010119=30122011234567890"))}, At: one.Clock()})
	if got := s.await(session.ScreenRefused); got.reason != "offline_off" {
		t.Errorf("%+v", got)
	}
	s.until("the card of before", func() bool { return strings.Trim(late.Reveal(), "\x00") == "" })
	s.until("the first has read one", first.was("activate", "activate", "cancel", "activate"))
	s.until("the second looked anew, alone", second.was("activate", "cancel", "activate", "cancel", "activate", "activate", "cancel"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
