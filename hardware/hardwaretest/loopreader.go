package hardwaretest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// LoopFar is the field of a reader of closed-loop cards, and its cable.
type LoopFar interface {
	Present(cards ...*virtual.NFCCard) // none: taken away
	Unplug()
	Replug() error
}

// LoopRig is a driver before such a far end. Mute and Line are nil where the reader hangs at a service and not
// at a line of ours; Removes says that it tells when a card is taken away.
type LoopRig struct {
	Far     LoopFar
	Reader  hardware.CardReader
	Open    func(context.Context) (hardware.Driver, error)
	Mute    func(bool)
	Line    func(virtual.LineFault)
	Fault   func(virtual.NFCFault)
	Looks   func() int
	Removes bool
}

// LoopKeys are the operator's keys of the cards below.
func LoopKeys(t testing.TB) hardware.LoopKeys {
	t.Helper()
	k, err := hardware.ParseLoopKeys([]byte("mac 101112131415161718191A1B1C1D1E1F\nclassic 4 A0A1A2A3A4A5\ndesfire F00001 0 1 202122232425262728292A2B2C2D2E2F\n"))
	must(t, err)
	return k
}

// loopID is what the good cards below say.
const loopID = 0x00C0FFEE42

// Classic is a MIFARE Classic of the operator's with that chip number; its reference was made for the chip forUID.
func Classic(t testing.TB, uid, forUID string) *virtual.NFCCard {
	t.Helper()
	c := virtual.MIFAREClassic([]byte(uid), []byte{0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5})
	c.Blocks[4] = LoopKeys(t).Reference(loopID, 3, []byte(forUID))
	return c
}

// DESFire is the same on a DESFire.
func DESFire(t testing.TB, uid, forUID string) *virtual.NFCCard {
	t.Helper()
	key := make([]byte, 16)
	for i := range key {
		key[i] = 0x20 + byte(i)
	}
	return virtual.NewDESFire([]byte(uid), [3]byte{0xF0, 0x00, 0x01}, key, LoopKeys(t).Reference(loopID, 3, []byte(forUID)))
}

type loopBench struct {
	LoopRig
	t    *testing.T
	l    *Log
	stop func()
}

// LoopReader is what every CardReader of closed-loop cards must do. Of the suite for bank cards (CardReader)
// these do not apply: outcome and signals (no lights, no sound), the card refuses (no cryptogram), tamper, two
// taps differ (a reference is the same each time), damaged data (that is wrong MAC here). What needs a line of
// ours is left out where there is none, and said in the log.
func LoopReader(t *testing.T, real NewCardReader, mk func(*testing.T, func(hardware.Event)) LoopRig) {
	t.Helper()
	cases := map[string]func(*testing.T, *loopBench){
		"reads MIFARE Classic":  func(t *testing.T, b *loopBench) { loopReads(t, b, Classic(t, "\xde\xad\xbe\xef", "\xde\xad\xbe\xef")) },
		"reads, UID of 7 bytes": func(t *testing.T, b *loopBench) { loopReads(t, b, Classic(t, "\x04abcdef", "\x04abcdef")) },
		"one card is told once": loopOnce,
		"wrong MAC": func(t *testing.T, b *loopBench) {
			loopRefused(t, b, Classic(t, "abcd", "abce"), hardware.ReasonWrongMAC)
		},
		"another operator's key":     foreignKey,
		"an empty card":              emptyCard,
		"cancel":                     loopCancel,
		"time-out":                   loopTimeOut,
		"armed again":                loopArmedAgain,
		"unplugged while armed":      loopUnplugged,
		"nothing after the end":      loopEnd,
		"amount it cannot be asked":  loopBadAmount,
		"nothing prints a card":      loopPrintsNothing,
		"commands before it is open": loopEarly,
	}
	onLine := map[string]func(*testing.T, *loopBench){
		"reads DESFire": func(t *testing.T, b *loopBench) { loopReads(t, b, DESFire(t, "\x04123456", "\x04123456")) },
		"wrong MAC on a DESFire": func(t *testing.T, b *loopBench) {
			loopRefused(t, b, DESFire(t, "\x04123456", "\x04123457"), hardware.ReasonWrongMAC)
		},
		"DESFire with a wrong proof": func(t *testing.T, b *loopBench) {
			loopFault(t, b, DESFire(t, "\x04123456", "\x04123456"), virtual.NFCWrongProof, hardware.ReasonCardError)
		},
		"DESFire file spoiled": func(t *testing.T, b *loopBench) {
			loopFault(t, b, DESFire(t, "\x04123456", "\x04123456"), virtual.NFCSpoiled, hardware.ReasonCardError)
		},
		"bad checksum is asked again":  func(t *testing.T, b *loopBench) { b.Fault(virtual.NFCBadSum); loopReads(t, b, good(t)) },
		"bad checksums":                func(t *testing.T, b *loopBench) { loopFault(t, b, good(t), virtual.NFCBadSums, hardware.ReasonReader) },
		"truncated is asked again":     func(t *testing.T, b *loopBench) { b.Fault(virtual.NFCTruncated); loopReads(t, b, good(t)) },
		"silence":                      func(t *testing.T, b *loopBench) { loopFault(t, b, good(t), virtual.NFCSilent, hardware.ReasonReader) },
		"no ACK":                       func(t *testing.T, b *loopBench) { loopFault(t, b, good(t), virtual.NFCNoACK, hardware.ReasonReader) },
		"not understood":               func(t *testing.T, b *loopBench) { loopFault(t, b, good(t), virtual.NFCSyntax, hardware.ReasonReader) },
		"nonsense about the field":     func(t *testing.T, b *loopBench) { loopFault(t, b, good(t), virtual.NFCDamaged, hardware.ReasonReader) },
		"torn away":                    func(t *testing.T, b *loopBench) { loopFault(t, b, good(t), virtual.NFCTorn, hardware.ReasonCardError) },
		"noise before":                 func(t *testing.T, b *loopBench) { b.Fault(virtual.NFCNoise); loopReads(t, b, good(t)) },
		"answer twice":                 func(t *testing.T, b *loopBench) { b.Fault(virtual.NFCTwice); loopReads(t, b, good(t)) },
		"byte dribble":                 func(t *testing.T, b *loopBench) { b.Line(virtual.LineDribbles); loopReads(t, b, good(t)) },
		"two frames in one read":       func(t *testing.T, b *loopBench) { b.Line(virtual.LineJoins); loopReads(t, b, good(t)) },
		"noise on the line":            func(t *testing.T, b *loopBench) { b.Line(virtual.LineNoise); loopReads(t, b, good(t)) },
		"gone in mid frame":            loopHalf,
		"dead, then alive":             loopDead,
		"collision":                    loopCollision,
		"layer 4 of another operator":  func(t *testing.T, b *loopBench) { loopRefused(t, b, otherApp(t), hardware.ReasonUnsupported) },
		"the chip of another operator": func(t *testing.T, b *loopBench) { loopRefused(t, b, ultralight(), hardware.ReasonUnsupported) },
	}
	if Device != "" { // a card's number is read; the keys are those of no real card
		maps.Copy(cases, onLine)
		cases["reads"] = nil
		atDevice(t, cases, realReader(real, "hold a card to the reader"))
		return
	}
	for _, set := range []map[string]func(*testing.T, *loopBench){cases, onLine} {
		for name, f := range set {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				l := NewLog(t)
				rig := mk(t, l.Out)
				if _, needs := onLine[name]; needs && rig.Line == nil {
					t.Skip("does not apply: this driver speaks with a service, not with the reader's line")
				}
				b := &loopBench{LoopRig: rig, t: t, l: l}
				b.stop = supervise(t, l, rig.Open)
				b.ready()
				f(t, b)
			})
		}
	}
}

func good(t testing.TB) *virtual.NFCCard { return Classic(t, "good", "good") }

func otherApp(t testing.TB) *virtual.NFCCard {
	c := DESFire(t, "\x04123456", "\x04123456")
	c.App.AID = [3]byte{1, 2, 3}
	return c
}

func ultralight() *virtual.NFCCard {
	return &virtual.NFCCard{UID: []byte("\x04999999"), ATQA: [2]byte{0x00, 0x44}}
}

func (b *loopBench) ready() {
	b.t.Helper()
	Next(b.l, func(e hardware.Health) bool { return e.State == hardware.Ready })
}

// tap arms, presents the card and gives what was read.
func (b *loopBench) tap(c *virtual.NFCCard) hardware.LoopCard {
	b.t.Helper()
	must(b.t, b.Reader.Activate(price, time.Minute))
	b.Far.Present(c)
	got := Next[hardware.CardRead](b.l, nil).Card
	if got.Entry != protocol.EntryContactless || !got.Track2.IsZero() || !got.PAN.IsZero() || got.ICC.Len() > 0 {
		b.t.Errorf("read %+v", got)
	}
	return got.Loop
}

func (b *loopBench) failed(reason string) {
	b.t.Helper()
	if f := Next[hardware.CardFailed](b.l, nil); f.Reason != reason {
		b.t.Errorf("ended as %q, want %q", f.Reason, reason)
	}
}

// works shows that the next buyer's card is read.
func (b *loopBench) works() {
	b.t.Helper()
	b.Far.Present()
	if c := b.tap(Classic(b.t, "next", "next")); !c.Verified {
		b.t.Errorf("read %+v", c)
	}
}

func loopReads(t *testing.T, b *loopBench, c *virtual.NFCCard) {
	got := b.tap(c)
	if string(got.UID) != string(c.UID) || got.ID != "00c0ffee42" || got.Counter != 3 || !got.Verified {
		t.Errorf("read %+v", got)
	}
	if n := count(b.l, func(hardware.CardFailed) bool { return true }); n > 0 {
		t.Errorf("%d failures", n)
	}
	b.works()
}

// loopOnce: a card that stays is not read again by the next activation, and is when it comes back.
func loopOnce(t *testing.T, b *loopBench) {
	b.tap(good(t))
	must(t, b.Reader.Activate(price, time.Second))
	b.failed(hardware.ReasonTimeout)
	b.Far.Present()
	must(t, b.Reader.Activate(price, 1200*time.Millisecond)) // it is seen to be away
	b.failed(hardware.ReasonTimeout)
	b.tap(good(t))
	if n := count(b.l, func(hardware.CardRemoved) bool { return true }); b.Removes && n == 0 {
		t.Error("nobody said that it was taken away")
	}
}

func loopRefused(t *testing.T, b *loopBench, c *virtual.NFCCard, reason string) {
	must(t, b.Reader.Activate(price, time.Minute))
	b.Far.Present(c)
	b.failed(reason)
	b.works()
	if n := count(b.l, func(hardware.CardRead) bool { return true }); n != 1 {
		t.Errorf("%d cards of one good one", n)
	}
}

func foreignKey(t *testing.T, b *loopBench) {
	c := good(t)
	c.Key = []byte{1, 2, 3, 4, 5, 6}
	loopRefused(t, b, c, hardware.ReasonUnsupported)
}

func emptyCard(t *testing.T, b *loopBench) {
	c := good(t)
	c.Blocks[4] = nil
	loopRefused(t, b, c, hardware.ReasonUnsupported)
}

// loopFault goes wrong once, and then the card is presented again.
func loopFault(t *testing.T, b *loopBench, c *virtual.NFCCard, f virtual.NFCFault, reason string) {
	b.Fault(f)
	must(t, b.Reader.Activate(price, time.Minute))
	b.Far.Present(c)
	b.failed(reason)
	b.Fault(virtual.NFCFine)
	b.works()
}

func loopCollision(t *testing.T, b *loopBench) {
	must(t, b.Reader.Activate(price, time.Minute))
	b.Far.Present(good(t), Classic(t, "two.", "two."))
	b.failed(hardware.ReasonCollision)
	b.works()
}

func loopCancel(t *testing.T, b *loopBench) {
	must(t, b.Reader.Activate(price, time.Minute))
	must(t, b.Reader.Cancel())
	must(t, b.Reader.Activate(price, time.Second)) // behind the cancel
	b.failed(hardware.ReasonTimeout)
	b.works()
	if n := count(b.l, func(hardware.CardFailed) bool { return true }); n != 1 {
		t.Errorf("%d failures: the canceled activation was answered", n)
	}
}

func loopTimeOut(_ *testing.T, b *loopBench) {
	must(b.t, b.Reader.Activate(price, time.Second))
	b.failed(hardware.ReasonTimeout)
	b.works()
}

func loopArmedAgain(t *testing.T, b *loopBench) {
	must(t, b.Reader.Activate(price, time.Minute))
	must(t, b.Reader.Activate(money.New(275, money.EUR), time.Minute))
	b.Far.Present(good(t))
	Next[hardware.CardRead](b.l, nil)
	must(t, b.Reader.Activate(price, time.Second))
	b.failed(hardware.ReasonTimeout)
	if n := count(b.l, func(hardware.CardRead) bool { return true }); n != 1 {
		t.Errorf("%d cards", n)
	}
}

func loopUnplugged(t *testing.T, b *loopBench) {
	must(t, b.Reader.Activate(price, time.Minute))
	b.Far.Unplug()
	b.failed(hardware.ReasonReader)
	must(t, b.Far.Replug())
	b.ready()
	b.works()
}

// loopHalf: the cable goes in the middle of an answer.
func loopHalf(t *testing.T, b *loopBench) {
	must(t, b.Reader.Activate(price, time.Minute))
	b.Line(virtual.LineHalf)
	b.Far.Present(good(t))
	b.failed(hardware.ReasonReader)
	Next[hardware.PortGone](b.l, nil)
	if err := b.Reader.Activate(price, time.Minute); !errors.Is(err, hardware.ErrPortGone) {
		t.Errorf("armed without a line: %v", err)
	}
	must(t, b.Far.Replug())
	b.ready()
	b.works()
}

func loopDead(t *testing.T, b *loopBench) {
	b.Mute(true)
	must(t, b.Reader.Activate(price, time.Minute))
	b.failed(hardware.ReasonReader)
	Next[hardware.PortGone](b.l, nil)
	b.Mute(false)
	b.ready()
	b.works()
}

func loopEnd(t *testing.T, b *loopBench) {
	must(t, b.Reader.Activate(price, time.Minute))
	b.stop()
	b.Far.Present(good(t))
	if err := b.Reader.Cancel(); err == nil {
		t.Error("a command was taken after the end")
	}
}

func loopBadAmount(t *testing.T, b *loopBench) {
	for _, a := range []money.Amount{money.New(-1, money.EUR), money.New(1, money.USD), money.New(1e12, money.EUR)} {
		if err := b.Reader.Activate(a, time.Minute); !errors.Is(err, hardware.ErrInexact) {
			t.Errorf("armed for %v: %v", a, err)
		}
	}
}

// loopPrintsNothing: a card's id is a person's; it is not in texts that were not meant to hold it.
func loopPrintsNothing(t *testing.T, b *loopBench) {
	must(t, b.Reader.Activate(price, time.Minute))
	b.Far.Present(good(t))
	read := Next[hardware.CardRead](b.l, nil)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(verb, read); strings.Contains(strings.ToLower(s), "c0ffee") || strings.Contains(s, "676f6f64") {
			t.Errorf("%s: %s", verb, s)
		}
	}
}

func loopEarly(t *testing.T, b *loopBench) {
	must(t, b.Reader.Activate(price, time.Minute))
	must(t, b.Reader.Cancel())
	b.works()
}
