package agent_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/magstripe"
	"coinop/hardware/scanner"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// TestBuyersReasons: every answer of a reader or a scanner has its text.
func TestBuyersReasons(t *testing.T) {
	t.Parallel()
	for _, reason := range slices.Concat(hardware.CardReasons(), []string{
		hardware.CodeStale, hardware.CodeTooLong, hardware.CodeControl, hardware.CodeTorn, "code_not_taken",
		protocol.CardRefused.String(), protocol.CardRemoved.String(), protocol.NoAnswer.String(), "offline_off", "card_offline", "not_expected", "accounts_away",
		protocol.DeclineFunds.String(), protocol.DeclineUnknown.String(), protocol.DeclineBlocked.String(), protocol.DeclineUnverified.String(),
	}) {
		if code.Buyer(reason) == "" {
			t.Errorf("%s has no text", reason)
		}
	}
}

// TestStripeAndScanner: each card and code that cannot be used has its own answer, and the lane goes on; what
// was scanned is recorded by its kind, once, and stands nowhere.
func TestStripeAndScanner(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stripe := must[*virtual.Stripe](t)(virtual.NewStripe(virtual.StripeConfig{Link: filepath.Join(t.TempDir(), "stripe"), Kind: virtual.StripeKeyboard}))
	codes := must[*virtual.Scanner](t)(virtual.NewScanner(filepath.Join(t.TempDir(), "scanner"), virtual.ScannerNewland))
	s.background(stripe.Run)
	s.background(codes.Run)
	lane := &s.cfg.Lanes[0]
	lane.Readers[0].New = agent.Magstripe(magstripe.Config{
		Path: stripe.Path(), Currency: money.EUR, Rules: magstripe.Rules{Own: []magstripe.Range{{From: "600042", To: "600042"}}, Bank: magstripe.BankClear},
	})
	lane.Scanner = agent.CodeScanner(scanner.Config{Path: codes.Path(), Trigger: scanner.Newland})
	stop := s.start()
	s.enabled()

	show := func(what string) {
		t.Helper()
		s.until("the scanner looks", func() bool { return codes.View().Looks })
		if err := codes.Show(what); err != nil {
			t.Fatal(err)
		}
	}
	says := func(on session.Screen, reason string) {
		t.Helper()
		if got := s.await(on); got.reason != reason {
			t.Errorf("%v says %q, want %q", on, got.reason, reason)
		}
	}
	swipe := func(track string, on session.Screen, reason string) {
		t.Helper()
		for range 5 { // one that comes before the reader has heard that it is armed is dropped
			if err := stripe.Swipe(track); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-s.screens:
				if got.screen != on || got.reason != reason {
					t.Errorf("shown %+v, want %v with %q", got, on, reason)
				}
				return
			case <-time.After(3 * time.Second):
			}
		}
		t.Fatalf("%q never came", reason)
	}
	const wallet, other, short = "135056725249518813", "281234567890123456", "4006381333931"
	s.order()
	show(wallet)
	says(session.ScreenOtherCard, "code_not_taken")
	codes.Misbehave(virtual.ScannerControl)
	show(short)
	says(session.ScreenOtherCard, hardware.CodeControl)
	swipe("4761739001010010=30122011234567890", session.ScreenOtherCard, hardware.ReasonUseChip)
	swipe("5413330002001155=2512101000000000", session.ScreenOtherCard, hardware.ReasonExpired)
	swipe("4761739001010010=30121011234567890", session.ScreenRefused, "offline_off") // the bank cannot be asked here
	s.order()
	swipe("6000420012345678", session.ScreenRefused, "accounts_away")
	show(other) // nobody buys
	says(session.ScreenRefused, "code_not_taken")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range s.events(string(code.ScannerNotTaken)) {
		kinds = append(kinds, e.Device+": "+e.Detail)
	}
	if want := []string{"lane 0 scanner: wechat", "lane 0 scanner: alipay or alipay_plus"}; !slices.Equal(kinds, want) {
		t.Errorf("recorded %q", kinds)
	}
	for _, secret := range []string{wallet, other, short, "476173900101", "600042001234"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log holds what was shown: one of %d characters", len(secret))
		}
	}
}

// TestUseContact: a card that cannot be taken without contact is the buyer's to insert or swipe, by name. The
// reader looks on while the offer stands, its own head for stripes too, and nothing is charged for what failed.
func TestUseContact(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start()
	s.enabled()
	s.order()
	for _, f := range []virtual.ReaderFault{virtual.ReaderUseContact, virtual.ReaderShowsContact} {
		arms := 0
		for _, tap := range []bool{true, false} { // a card in the moment before the next activation is nobody's
			if err := s.reader.Wait(s.ctx(), func(v virtual.ReaderView) bool { return v.Armed && v.Arms > arms }); err != nil {
				t.Fatal(err)
			}
			if !tap {
				break
			}
			arms = s.reader.View().Arms
			s.reader.Misbehave(f)
			if err := s.reader.TapWhenArmed(s.ctx(), virtual.VisaTest()); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.await(session.ScreenOtherCard); got.reason != hardware.ReasonUseContact || got.amount != money.New(150, money.EUR) {
			t.Errorf("%d: %+v", f, got)
		}
	}
	chip := virtual.VisaTest()
	chip.Swipe = true
	if err := s.reader.TapWhenArmed(s.ctx(), chip); err != nil {
		t.Fatal(err)
	}
	if got := s.await(session.ScreenOtherCard); got.reason != hardware.ReasonUseChip {
		t.Errorf("a chip's stripe: %+v", got)
	}
	if v := s.machine.View(); v.Denials != 0 || v.Drops != 0 {
		t.Errorf("the order has ended: %+v", v)
	}
	s.refused() // by the bank, which nobody can ask here
	if strings.Contains(s.log.String(), "476173900101") {
		t.Error("the log holds the card's number")
	}
}
