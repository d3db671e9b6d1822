package hardwaretest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol"
)

var (
	busSeed  = flag.Uint64("bus-seed", 0, "seed of TestBusReaderRandom; 0: by the clock")
	busSales = flag.Int("bus-sales", 5, "payments at each of its readers")
)

// TestBusReaderRandom: payments at readers, with whatever can go wrong on either side. What we say was
// captured is what the reader's own books say was charged; what differs has a name that says so.
func TestBusReaderRandom(t *testing.T) {
	t.Parallel()
	seed := *busSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) //nolint:gosec // any
	}
	for i := range uint64(8) {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed+i, 1)) //nolint:gosec // a test
			b := &terminalBench{t: t, l: NewLog(t), can: TerminalCan{Session: true, CardFirst: i%2 == 0}}
			b.build("random")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = b.far.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
			d, open, err := busReader(b.far.Address(), 0, b.l.Out)
			must(t, err)
			b.d = d
			supervise(t, b.l, open)
			b.up()
			for range *busSales {
				randomPayment(b, r)
			}
		})
	}
}

// randomFaults are those a payment ends by within its time.
var randomFaults = []virtual.BusReaderFault{
	virtual.BusReaderFine, virtual.BusReaderDeclines, virtual.BusReaderSlow, virtual.BusReaderOtherAmount, virtual.BusReaderMute,
	virtual.BusReaderNAK, virtual.BusReaderMisses, virtual.BusReaderSequence, virtual.BusReaderDeaf, virtual.BusReaderBadSum,
	virtual.BusReaderGarbage, virtual.BusReaderDribbles, virtual.BusReaderHalf, virtual.BusReaderUnplugs, virtual.BusReaderWontRefund,
	virtual.BusReaderRefundsSlow, virtual.BusReaderResetAsked, virtual.BusReaderResetApproved, virtual.BusReaderResetUnheard,
	virtual.BusReaderJoins, virtual.BusReaderTalks, virtual.BusReaderUnplugsAsked, virtual.BusReaderUnplugsFailed,
}

// randomPayment is one, to its end, with a fault before the answer and one after it.
func randomPayment(b *terminalBench, r *rand.Rand) {
	b.t.Helper()
	before, asked := b.bus.View(), 100+r.Int64N(100)
	first, second := randomFaults[r.IntN(len(randomFaults))], randomFaults[r.IntN(len(randomFaults))]
	b.bus.Misbehave(first)
	p := b.id()
	for errors.Is(b.d.Authorize(p, eur(asked)), hardware.ErrPortGone) {
		b.far.Replug()
		nextSlow[hardware.TerminalReady](b.l)
	}
	e := b.answer(p)
	says := fmt.Sprintf("faults %d, %d: %s %s", first, second, e.Result, e.Reason)
	captured, known := int64(0), true
	switch e.Result {
	case protocol.TerminalApproved:
		var end hardware.TerminalDone
		if second != virtual.BusReaderFine {
			b.bus.Misbehave(second)
		}
		capture := e.Approved == eur(asked) && r.IntN(2) == 0
		end, known = randomEnd(b, e, capture)
		says += fmt.Sprintf("; %s %s %s", end.Op, end.End, end.Reason)
		switch {
		case capture && end.End == protocol.TerminalOK:
			captured = e.Approved.Minor
		case end.End == protocol.TerminalRefused && (end.Reason == "reader_reset" || end.Reason == "refund_failed"):
			captured = e.Approved.Minor // it stands, and a case says so
		case end.End != protocol.TerminalOK:
			known = false
		}
	case protocol.TerminalUnknown:
		known = false
	default: // surely nothing
	}
	b.bus.Misbehave(virtual.BusReaderFine)
	b.far.Replug()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*patience)
	defer cancel()
	must(b.t, b.bus.Wait(ctx, func(v virtual.BusReaderView) bool { return v.Held == 0 && (v.State == 2 || v.State == 3) }))
	v := b.bus.View()
	switch got := v.Charged - before.Charged; {
	case known && got != captured:
		b.t.Errorf("%s: we say %d, the reader %d", says, captured, got)
	case !known && first == virtual.BusReaderOtherAmount && got == asked+1: // and its word was lost
	case !known && got != 0 && got != asked && got != e.Approved.Minor:
		b.t.Errorf("%s: the reader charged %d of %d", says, got, asked)
	}
	if v.Asked > before.Asked+1 {
		b.t.Errorf("%s: asked %d times", says, v.Asked-before.Asked)
	}
}

// randomEnd tells the reader how the vend ended, as a session does: what is lost is asked for, then said
// again.
func randomEnd(b *terminalBench, e hardware.TerminalAnswered, capture bool) (end hardware.TerminalDone, known bool) {
	b.t.Helper()
	for range 20 {
		var err error
		if capture {
			err = b.d.Capture(e.Payment, e.Ref, e.Approved, e.Approved)
		} else {
			err = b.d.Cancel(e.Payment, e.Ref, e.Approved)
		}
		if err != nil {
			b.far.Replug()
			nextSlow[hardware.TerminalReady](b.l)
			continue
		}
		end = nextSlow[hardware.TerminalDone](b.l)
		if end.End == protocol.TerminalOK || end.End == protocol.TerminalRefused {
			return end, true
		}
		b.far.Replug()
		for b.d.Last(e.Payment, e.Ref) != nil {
			nextSlow[hardware.TerminalReady](b.l)
		}
		if l := nextSlow[hardware.TerminalLast](b.l); !l.Known {
			return end, false
		}
	}
	return end, false
}
