package hardwaretest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/card"
	"coinop/protocol/money"
)

// NewCardReader makes a driver for the reader at a path, and what Supervise opens it with.
type NewCardReader func(path string, out func(hardware.Event)) (hardware.CardReader, func(context.Context) (hardware.Driver, error), error)

type readerBench struct {
	t    *testing.T
	far  *virtual.Reader
	l    *Log
	r    hardware.CardReader
	stop func()
}

// CardReader is what every CardReader must do, at a far end as cfg says.
func CardReader(t *testing.T, mk NewCardReader, cfg virtual.ReaderConfig) {
	t.Helper()
	cases := map[string]func(*testing.T, *readerBench){
		"reads":                  reads,
		"two taps differ":        tapsDiffer,
		"cancel":                 cancelReader,
		"time-out":               timeOut,
		"armed again":            armedAgain,
		"outcome":                outcome,
		"signals":                signals,
		"bad CRC":                func(t *testing.T, b *readerBench) { lost(t, b, virtual.ReaderBadCRC) },
		"truncated":              func(t *testing.T, b *readerBench) { lost(t, b, virtual.ReaderTruncated) },
		"damaged data":           func(t *testing.T, b *readerBench) { lost(t, b, virtual.ReaderDamagedTLV) },
		"silence":                func(t *testing.T, b *readerBench) { lost(t, b, virtual.ReaderSilent) },
		"noise before":           noise,
		"byte dribble":           func(t *testing.T, b *readerBench) { b.far.Line(virtual.LineDribbles); reads(t, b) },
		"two frames in one read": func(t *testing.T, b *readerBench) { b.far.Line(virtual.LineJoins); reads(t, b) },
		"gone in mid frame":      halfCard,
		"answer twice":           twice,
		"collision":              func(t *testing.T, b *readerBench) { failed(t, b, virtual.ReaderCollision, hardware.ReasonCollision) },
		"torn away":              func(t *testing.T, b *readerBench) { failed(t, b, virtual.ReaderTorn, hardware.ReasonCardError) },
		"use another interface":  func(t *testing.T, b *readerBench) { failed(t, b, virtual.ReaderUseContact, hardware.ReasonUseContact) },
		"shown to use another": func(t *testing.T, b *readerBench) {
			failed(t, b, virtual.ReaderShowsContact, hardware.ReasonUseContact)
		},
		"falls back to the stripe":   fallsBack,
		"the card refuses":           refuses,
		"unsolicited":                unsolicited,
		"unplugged while armed":      unpluggedArmed,
		"dead, then alive":           deadThenAlive,
		"nothing after the end":      readerEnd,
		"amount it cannot be asked":  badAmount,
		"tamper":                     tamper,
		"shows while it looks":       shows,
		"nothing prints a card":      printsNothing,
		"commands before it is open": early,
	}
	if atDevice(t, cases, realReader(mk, "present a test card")) {
		return
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := cfg
			cfg.Link = t.TempDir() + "/reader"
			far, err := virtual.NewReader(cfg)
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = far.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
			b := &readerBench{t: t, far: far, l: NewLog(t)}
			r, open, err := mk(far.Path(), b.l.Out)
			must(t, err)
			b.r, b.stop = r, supervise(t, b.l, open)
			b.ready()
			f(t, b)
		})
	}
}

func (b *readerBench) ready() {
	b.t.Helper()
	Next(b.l, func(e hardware.Health) bool { return e.State == hardware.Ready })
}

func (b *readerBench) arm(timeout time.Duration) {
	b.t.Helper()
	n := b.far.View().Arms
	must(b.t, b.r.Activate(price, timeout))
	b.wait(func(v virtual.ReaderView) bool { return v.Armed && v.Arms > n })
}

func (b *readerBench) wait(ok func(virtual.ReaderView) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	must(b.t, b.far.Wait(ctx, ok))
}

func (b *readerBench) tap(tap virtual.Tap) hardware.Card {
	b.t.Helper()
	b.arm(time.Minute)
	must(b.t, b.far.Tap(tap))
	return Next[hardware.CardRead](b.l, nil).Card
}

func reads(t *testing.T, b *readerBench) {
	want := virtual.VisaTest().Track2
	c := b.tap(virtual.VisaTest())
	if b.far.View().Minor != price.Minor {
		t.Errorf("the reader was armed for %d", b.far.View().Minor)
	}
	if !c.Track2.Equal(want) || c.Last4() != "0119" || c.Brand() != card.Visa || c.Entry != protocol.EntryContactless ||
		c.AC != hardware.ARQC || c.Reader == "" || len(c.TapKey) != 14 || c.Capability != "e0f8c825" || len(c.PSN) != 1 {
		t.Errorf("read %v, %+v", c, []any{c.AC, c.Reader, len(c.TapKey), c.Capability, len(c.PSN)})
	}
	var tags []card.Tag
	must(t, card.EachTLV(c.DE55().Reveal(), func(tag card.Tag, _, _ []byte) { tags = append(tags, tag) }))
	for _, tag := range tags {
		if tag == card.TagTrack2Equiv || tag == card.TagPAN || tag == card.TagExpiry {
			t.Errorf("DE55 holds tag %X", uint32(tag))
		}
	}
	if len(tags) < 10 {
		t.Errorf("DE55 has %d tags", len(tags))
	}
	copied := c
	c.Wipe()
	if !copied.Track2.IsZero() || copied.ICC.Len() != 0 {
		t.Error("a copy outlived the wipe")
	}
}

func tapsDiffer(t *testing.T, b *readerBench) {
	one, two := b.tap(virtual.MastercardTest()), b.tap(virtual.MastercardTest())
	if string(one.TapKey) == string(two.TapKey) {
		t.Error("two taps have one key")
	}
}

func cancelReader(t *testing.T, b *readerBench) {
	b.arm(time.Minute)
	must(t, b.r.Cancel())
	b.wait(func(v virtual.ReaderView) bool { return v.Cancels == 1 && !v.Armed })
	b.tap(virtual.VisaTest())
	if n := len(fails(b)); n != 0 {
		t.Errorf("%d failures of a canceled activation", n)
	}
}

func fails(b *readerBench) (out []string) {
	for _, e := range b.l.All() {
		if f, ok := e.(hardware.CardFailed); ok {
			out = append(out, f.Reason)
		}
	}
	return out
}

func timeOut(t *testing.T, b *readerBench) {
	b.arm(time.Second)
	if f := Next[hardware.CardFailed](b.l, nil); f.Reason != hardware.ReasonTimeout {
		t.Errorf("ended as %q", f.Reason)
	}
	b.tap(virtual.VisaTest())
}

func armedAgain(t *testing.T, b *readerBench) {
	b.arm(time.Minute)
	n := b.far.View().Arms
	must(t, b.r.Activate(money.New(275, money.EUR), time.Minute))
	b.wait(func(v virtual.ReaderView) bool { return v.Arms == n+1 && v.Minor == 275 })
	must(t, b.far.Tap(virtual.VisaTest()))
	Next[hardware.CardRead](b.l, nil)
	if f := fails(b); len(f) != 0 {
		t.Errorf("the replaced activation was answered: %v", f)
	}
}

func outcome(t *testing.T, b *readerBench) {
	b.tap(virtual.VisaTest())
	must(t, b.r.Finish(hardware.OutcomeApproved))
	b.wait(func(v virtual.ReaderView) bool { return v.Approved == 1 })
	b.tap(virtual.VisaTest())
	must(t, b.r.Finish(hardware.OutcomeDeclined))
	b.wait(func(v virtual.ReaderView) bool { return v.Declined == 1 })
}

// signals are heard, in order, and none ends an activation.
func signals(t *testing.T, b *readerBench) {
	i, ok := b.r.(hardware.Indicator)
	if !ok {
		t.Fatal("it has no sound")
	}
	b.tap(virtual.VisaTest())
	must(t, i.Show(hardware.SignalCard))
	b.wait(func(v virtual.ReaderView) bool { return slices.Equal(v.Beeps, []int{1}) })
	must(t, i.Show(hardware.SignalOK))
	b.wait(func(v virtual.ReaderView) bool { return slices.Equal(v.Beeps, []int{1, 2}) })
	must(t, i.Show(hardware.SignalNo))
	b.wait(func(v virtual.ReaderView) bool { return slices.Equal(v.Beeps, []int{1, 2, 0}) })
	b.arm(time.Minute)
	must(t, i.Show(hardware.SignalCard))
	must(t, b.far.Tap(virtual.VisaTest()))
	Next[hardware.CardRead](b.l, nil)
	if v := b.far.View(); len(v.Beeps) != 3 {
		t.Errorf("heard %v", v.Beeps)
	}
}

// lost is an answer that cannot be read: the buyer presents the card again, and that works.
func lost(t *testing.T, b *readerBench, f virtual.ReaderFault) {
	b.far.Misbehave(f)
	b.arm(time.Second) // silence is noticed a little after the reader's own time-out
	must(t, b.far.Tap(virtual.VisaTest()))
	if f := Next[hardware.CardFailed](b.l, nil); f.Reason != hardware.ReasonReader {
		t.Errorf("ended as %q", f.Reason)
	}
	b.tap(virtual.MastercardTest())
	if n := count(b.l, func(hardware.CardRead) bool { return true }); n != 1 {
		t.Errorf("%d cards of one good tap", n)
	}
}

func noise(_ *testing.T, b *readerBench) {
	b.far.Misbehave(virtual.ReaderNoise)
	b.tap(virtual.VisaTest())
}

func twice(t *testing.T, b *readerBench) {
	b.far.Misbehave(virtual.ReaderTwice)
	b.tap(virtual.VisaTest())
	must(t, b.r.Finish(hardware.OutcomeApproved))
	b.wait(func(v virtual.ReaderView) bool { return v.Approved == 1 })
	b.tap(virtual.MastercardTest())
	if n := count(b.l, func(hardware.CardRead) bool { return true }); n != 2 {
		t.Errorf("%d cards of two taps", n)
	}
}

func failed(t *testing.T, b *readerBench, f virtual.ReaderFault, reason string) {
	b.far.Misbehave(f)
	b.arm(time.Minute)
	must(t, b.far.Tap(virtual.VisaTest()))
	if f := Next[hardware.CardFailed](b.l, nil); f.Reason != reason {
		t.Errorf("ended as %q", f.Reason)
	}
	b.tap(virtual.VisaTest())
}

// fallsBack: a card that is not taken without contact is swiped instead, at the reader's own head. One with a
// chip is not taken there either, and nothing of it is kept.
func fallsBack(t *testing.T, b *readerBench) {
	failed(t, b, virtual.ReaderUseContact, hardware.ReasonUseContact)
	plain, err := virtual.NewTap("4761739001010119=30121011234567890", "")
	must(t, err)
	plain.Swipe = true
	if c := b.tap(plain); c.Entry != protocol.EntryStripe || !c.Track2.Equal(plain.Track2) || c.AC != 0 || c.ICC.Len() > 4 {
		t.Errorf("swiped: %v, %v, %d bytes of a chip", c, c.Entry, c.ICC.Len())
	}
	chip := virtual.VisaTest()
	chip.Swipe = true
	b.arm(time.Minute)
	must(t, b.far.Tap(chip))
	if f := Next[hardware.CardFailed](b.l, func(f hardware.CardFailed) bool { return f.Reason != hardware.ReasonUseContact }); f.Reason != hardware.ReasonUseChip {
		t.Errorf("a chip's stripe: %q", f.Reason)
	}
}

func refuses(t *testing.T, b *readerBench) {
	b.far.Misbehave(virtual.ReaderDeclined)
	if c := b.tap(virtual.VisaTest()); c.AC != hardware.AAC {
		t.Errorf("cryptogram %v", c.AC)
	}
}

func unsolicited(t *testing.T, b *readerBench) {
	b.far.Say(0x02, 0x23, []byte{0, 0, 0, 1}) // an answer nobody waits for
	b.far.Say(0x77, 0x00, nil)
	must(t, b.r.Finish(hardware.OutcomeDeclined)) // its answer comes behind those
	b.wait(func(v virtual.ReaderView) bool { return v.Declined == 1 })
	b.tap(virtual.VisaTest())
	if f := fails(b); len(f) != 0 {
		t.Errorf("failures: %v", f)
	}
}

func unpluggedArmed(t *testing.T, b *readerBench) {
	b.arm(time.Minute)
	b.far.Unplug()
	if f := Next[hardware.CardFailed](b.l, nil); f.Reason != hardware.ReasonReader {
		t.Errorf("ended as %q", f.Reason)
	}
	Next[hardware.PortGone](b.l, nil)
	if err := b.r.Activate(price, time.Minute); err == nil {
		t.Error("armed without a port")
	}
	must(t, b.far.Replug())
	b.ready()
	b.tap(virtual.VisaTest())
}

// halfCard: the cable goes in the middle of a card's answer.
func halfCard(t *testing.T, b *readerBench) {
	b.arm(time.Minute)
	b.far.Line(virtual.LineHalf)
	_ = b.far.Tap(virtual.VisaTest())
	if f := Next[hardware.CardFailed](b.l, nil); f.Reason != hardware.ReasonReader {
		t.Errorf("ended as %q", f.Reason)
	}
	Next[hardware.PortGone](b.l, nil)
	must(t, b.far.Replug())
	b.ready()
	b.tap(virtual.VisaTest())
	if n := count(b.l, func(hardware.CardRead) bool { return true }); n != 1 {
		t.Errorf("%d cards", n)
	}
}

func deadThenAlive(t *testing.T, b *readerBench) {
	b.far.Mute(true)
	must(t, b.r.Finish(hardware.OutcomeDeclined)) // something it does not answer
	Next[hardware.PortGone](b.l, nil)
	b.far.Mute(false)
	b.ready()
	b.tap(virtual.VisaTest())
}

func readerEnd(t *testing.T, b *readerBench) {
	b.arm(time.Minute)
	b.stop()
	_ = b.far.Tap(virtual.VisaTest())
	if err := b.r.Cancel(); err == nil {
		t.Error("a command was taken after the end")
	}
}

func badAmount(t *testing.T, b *readerBench) {
	for _, a := range []money.Amount{money.New(-1, money.EUR), money.New(1, money.USD), money.New(1e12, money.EUR)} {
		if err := b.r.Activate(a, time.Minute); err == nil {
			t.Errorf("armed for %v", a)
		}
	}
}

// shows: what the reader tells of its display ends no activation.
func shows(t *testing.T, b *readerBench) {
	b.arm(time.Minute)
	for _, message := range []byte{0x15, 0x17, 0x21} { // present card, read, again
		b.far.Say(0x02, 0x0E, []byte{message})
	}
	must(t, b.far.Tap(virtual.VisaTest()))
	Next[hardware.CardRead](b.l, nil)
	if f := fails(b); len(f) != 0 {
		t.Errorf("failures: %v", f)
	}
}

func tamper(_ *testing.T, b *readerBench) {
	b.far.Say(0x18, 0x1D, nil)
	Next[hardware.Tamper](b.l, nil)
}

func printsNothing(t *testing.T, b *readerBench) {
	read := hardware.CardRead{Card: b.tap(virtual.VisaTest())}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{read, &read, read.Card, read.Card.ICC, []any{read.Card}, struct{ c hardware.Card }{read.Card}} {
			s := fmt.Sprintf(verb, v)
			for _, secret := range []string{"476173900101", "4761739001010119", "34373631", "4761 7390", "52 55 54 49"} {
				if strings.Contains(s, secret) {
					t.Errorf("%s of %T shows %q", verb, v, secret)
				}
			}
		}
	}
}

func early(t *testing.T, b *readerBench) {
	must(t, b.r.Activate(price, time.Minute))
	must(t, b.r.Cancel())
	must(t, b.r.Activate(price, time.Minute))
	b.wait(func(v virtual.ReaderView) bool { return v.Armed })
}
