package hardwaretest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/card"
	"coinop/protocol/money"
)

// NewStripeReader makes a driver for the stripe reader at a path, and what Supervise opens it with. It takes
// bank cards, those with a chip not, and the card StripeOwn as its operator's own.
type NewStripeReader func(path string, out func(hardware.Event)) (hardware.CardReader, func(context.Context) (hardware.Driver, error), error)

// Tracks that are swiped, and the first digits of the operator's own cards.
const (
	stripeBank    = "4761739001010010=30121011234567890"
	stripeOther   = "5413330089020011=30121010123456789"
	stripeChip    = "4761739001010010=30122011234567890"
	stripeExpired = "5413330002001155=2512101000000000"
	StripeOwn     = "600042"
	stripeOwn     = StripeOwn + "0012345678"
)

type stripeBench struct {
	t    *testing.T
	far  *virtual.Stripe
	kind virtual.StripeKind
	l    *Log
	r    hardware.CardReader
	stop func()
}

// StripeReader is what every CardReader must do that reads stripes.
func StripeReader(t *testing.T, kind virtual.StripeKind, mk NewStripeReader) {
	t.Helper()
	encrypts := kind == virtual.StripeMagTek || kind == virtual.StripeIDTECH
	all := map[string]func(*testing.T, *stripeBench){
		"reads":                     stripeReads,
		"a chip":                    func(t *testing.T, b *stripeBench) { b.refuses(stripeChip, hardware.ReasonUseChip) },
		"expired":                   func(t *testing.T, b *stripeBench) { b.refuses(stripeExpired, hardware.ReasonExpired) },
		"not armed":                 stripeIdle,
		"cancel":                    stripeCancel,
		"time-out":                  stripeTimeOut,
		"armed again":               stripeAgain,
		"swiped twice":              stripeTwice,
		"not read":                  func(t *testing.T, b *stripeBench) { b.fails(virtual.StripeUnread) },
		"torn off":                  func(t *testing.T, b *stripeBench) { b.fails(virtual.StripeTornOff) },
		"garbage":                   func(t *testing.T, b *stripeBench) { b.fails(virtual.StripeGarbage) },
		"byte dribble":              stripeDribble,
		"gone in mid swipe":         stripeHalf,
		"unplugged while armed":     stripeUnplugged,
		"nothing after the end":     stripeEnd,
		"amount it cannot be asked": stripeAmount,
		"nothing prints a card":     stripePrints,
	}
	if encrypts {
		all["a check that is wrong"] = func(t *testing.T, b *stripeBench) { b.fails(virtual.StripeBadCheck) }
		delete(all, "a chip") // that is masked
		if kind == virtual.StripeIDTECH {
			delete(all, "expired")
			all["without its end"] = func(t *testing.T, b *stripeBench) { b.fails(virtual.StripeNoEnter) }
		} else {
			delete(all, "swiped twice") // a report has no end: two at once are none
		}
	} else {
		all["our own"] = stripeOwnCard
		all["a key was lost"] = func(t *testing.T, b *stripeBench) { b.fails(virtual.StripeLostKey) }
		all["without Enter"] = func(t *testing.T, b *stripeBench) { b.far.Misbehave(virtual.StripeNoEnter); stripeReads(t, b) }
		all["two swipes in one read"] = stripeJoined
	}
	if atDevice(t, all, realReader(NewCardReader(mk), "swipe a test card")) {
		return
	}
	for name, f := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, err := virtual.NewStripe(virtual.StripeConfig{Link: t.TempDir() + "/stripe", Kind: kind})
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = far.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
			b := &stripeBench{t: t, far: far, kind: kind, l: NewLog(t)}
			r, open, err := mk(far.Path(), b.l.Out)
			must(t, err)
			b.r, b.stop = r, supervise(t, b.l, open)
			b.ready()
			f(t, b)
		})
	}
}

func (b *stripeBench) ready() {
	b.t.Helper()
	Next(b.l, func(e hardware.Health) bool { return e.State == hardware.Ready })
}

// arm returns when the driver has surely taken it.
func (b *stripeBench) arm() {
	b.t.Helper()
	must(b.t, b.r.Activate(price, time.Minute))
	b.settle()
}

// settle waits until the driver has taken every command. It tells of none, but its mailbox is full as long as
// it has not.
func (b *stripeBench) settle() {
	b.t.Helper()
	for range 17 {
		err := b.r.Finish(hardware.OutcomeDeclined)
		for end := time.Now().Add(patience); errors.Is(err, hardware.ErrBusy) && time.Now().Before(end); {
			runtime.Gosched()
			err = b.r.Finish(hardware.OutcomeDeclined)
		}
		must(b.t, err)
	}
}

func (b *stripeBench) swipe(track2 string) hardware.Card {
	b.t.Helper()
	b.arm()
	must(b.t, b.far.Swipe(track2))
	return Next[hardware.CardRead](b.l, nil).Card
}

func (b *stripeBench) cards() int { return count(b.l, func(hardware.CardRead) bool { return true }) }

// refuses: the buyer is told why, and the next card is read.
func (b *stripeBench) refuses(track2, reason string) {
	b.t.Helper()
	b.arm()
	must(b.t, b.far.Swipe(track2))
	if f := Next[hardware.CardFailed](b.l, nil); f.Reason != reason {
		b.t.Errorf("ended as %q", f.Reason)
	}
	b.swipe(stripeBank)
	if n := b.cards(); n != 1 {
		b.t.Errorf("%d cards", n)
	}
}

// fails: the swipe was none; the next is.
func (b *stripeBench) fails(f virtual.StripeFault) {
	b.t.Helper()
	b.far.Misbehave(f)
	b.refuses(stripeBank, hardware.ReasonUnreadable)
}

func stripeReads(t *testing.T, b *stripeBench) {
	c := b.swipe(stripeBank)
	if c.Last4() != "0010" || c.Brand() != card.Visa || c.Entry != protocol.EntryStripe || c.AC != hardware.NoCryptogram || c.Reader == "" {
		t.Errorf("read %v, by %q", c, c.Reader)
	}
	if encrypted := len(c.Cipher) > 0; encrypted != (b.kind >= virtual.StripeMagTek) || encrypted != c.Track2.IsZero() || encrypted && (len(c.KSN) != 10 || c.Scheme == "") {
		t.Errorf("encrypted %t, track %t, KSN of %d bytes, scheme %q", encrypted, !c.Track2.IsZero(), len(c.KSN), c.Scheme)
	}
	copied := c
	c.Wipe()
	if !copied.Track2.IsZero() || copied.Last4() != "" {
		t.Error("a copy outlived the wipe")
	}
	if o := b.swipe(stripeOther); o.Last4() != "0011" || o.Brand() != card.Mastercard {
		t.Errorf("read %v", o)
	}
}

func stripeDribble(_ *testing.T, b *stripeBench) {
	b.far.Line(virtual.LineDribbles)
	if b.kind == virtual.StripeKeyboard { // an event is 24 bytes, a character up to 8 events
		b.swipe(stripeOwn)
		return
	}
	b.swipe(stripeBank)
}

func stripeOwnCard(t *testing.T, b *stripeBench) {
	c := b.swipe(stripeOwn)
	if again := b.swipe(stripeOwn); c.Loop.IsZero() || again.Loop.Ref != c.Loop.Ref || !c.Track2.IsZero() || !c.PAN.IsZero() || strings.Contains(c.Loop.Ref, StripeOwn) {
		t.Error("a card of our own is no reference")
	}
}

// ignored swipes a card and waits until it was heard: that is told of garbage alone, which comes behind it.
func (b *stripeBench) ignored(track2 string) {
	b.t.Helper()
	must(b.t, b.far.Swipe(track2))
	b.far.Misbehave(virtual.StripeGarbage)
	must(b.t, b.far.Swipe(track2))
	Next(b.l, func(e hardware.Health) bool { return e.Code == hardware.CodeGarbage })
}

func stripeIdle(t *testing.T, b *stripeBench) {
	b.ignored(stripeBank)
	c := b.swipe(stripeOther)
	if n := b.cards(); n != 1 || c.Last4() != "0011" {
		t.Errorf("%d cards, the first %v", n, c)
	}
}

func stripeCancel(t *testing.T, b *stripeBench) {
	b.arm()
	must(t, b.r.Cancel())
	b.settle()
	b.ignored(stripeBank)
	if c := b.swipe(stripeOther); c.Last4() != "0011" || b.cards() != 1 {
		t.Errorf("%d cards, the last %v", b.cards(), c)
	}
}

func stripeTimeOut(t *testing.T, b *stripeBench) {
	must(t, b.r.Activate(price, time.Millisecond))
	if f := Next[hardware.CardFailed](b.l, nil); f.Reason != hardware.ReasonTimeout {
		t.Errorf("ended as %q", f.Reason)
	}
	b.swipe(stripeBank)
}

func stripeAgain(t *testing.T, b *stripeBench) {
	b.arm()
	must(t, b.r.Activate(money.New(275, money.EUR), time.Minute))
	must(t, b.far.Swipe(stripeBank))
	Next[hardware.CardRead](b.l, nil)
	if n := count(b.l, func(f hardware.CardFailed) bool { return f.Reason != hardware.ReasonTimeout }); n != 0 {
		t.Errorf("%d answers to the replaced activation", n)
	}
}

func stripeTwice(t *testing.T, b *stripeBench) {
	b.far.Misbehave(virtual.StripeTwice)
	b.swipe(stripeBank)
	b.swipe(stripeOther)
	if n := b.cards(); n != 2 {
		t.Errorf("%d cards of two that were waited for", n)
	}
}

func stripeJoined(t *testing.T, b *stripeBench) {
	b.far.Line(virtual.LineJoins)
	b.arm()
	must(t, b.far.Swipe(stripeBank))
	must(t, b.far.Swipe(stripeOther))
	if c := Next[hardware.CardRead](b.l, nil).Card; c.Last4() != "0010" {
		t.Errorf("read %v", c)
	}
	b.far.Line(virtual.LineFine)
	b.swipe(stripeOther)
	if n := b.cards(); n != 2 {
		t.Errorf("%d cards", n)
	}
}

func stripeHalf(t *testing.T, b *stripeBench) {
	b.arm()
	b.far.Line(virtual.LineHalf)
	_ = b.far.Swipe(stripeBank)
	if f := Next[hardware.CardFailed](b.l, nil); f.Reason != hardware.ReasonReader {
		t.Errorf("ended as %q", f.Reason)
	}
	b.back()
}

func (b *stripeBench) back() {
	b.t.Helper()
	Next[hardware.PortGone](b.l, nil)
	must(b.t, b.far.Replug())
	b.ready()
	b.swipe(stripeBank)
	if n := b.cards(); n != 1 {
		b.t.Errorf("%d cards", n)
	}
}

func stripeUnplugged(t *testing.T, b *stripeBench) {
	b.arm()
	b.far.Unplug()
	if f := Next[hardware.CardFailed](b.l, nil); f.Reason != hardware.ReasonReader {
		t.Errorf("ended as %q", f.Reason)
	}
	b.back()
}

func stripeEnd(t *testing.T, b *stripeBench) {
	b.arm()
	b.stop()
	_ = b.far.Swipe(stripeBank)
	if b.r.Cancel() == nil || b.r.Activate(price, time.Minute) == nil {
		t.Error("a command was taken after the end")
	}
}

func stripeAmount(t *testing.T, b *stripeBench) {
	for _, a := range []money.Amount{money.New(-1, money.EUR), money.New(1, money.USD), money.New(1e12, money.EUR)} {
		if err := b.r.Activate(a, time.Minute); err == nil {
			t.Errorf("armed for %v", a)
		}
	}
}

func stripePrints(t *testing.T, b *stripeBench) {
	read := hardware.CardRead{Card: b.swipe(stripeBank)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{read, &read, read.Card, []any{read.Card}, struct{ c hardware.Card }{read.Card}} {
			s := fmt.Sprintf(verb, v)
			for _, secret := range []string{"47617390", "101001", "34373631", "52 55 54 49"} {
				if strings.Contains(s, secret) {
					t.Errorf("%s of %T shows a card", verb, v)
				}
			}
		}
	}
}
