package hardwaretest

import (
	"context"
	"errors"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol"
)

// busTerminal is a reader at a bus, in the words of the suite: 1.00 was charged before.
type busTerminal struct{ *virtual.BusReader }

// busFaults are the reader's, by what the suite calls them.
var busFaults = map[virtual.TerminalFault]virtual.BusReaderFault{
	virtual.TerminalFine: virtual.BusReaderFine, virtual.TerminalDeclines: virtual.BusReaderDeclines,
	virtual.TerminalRepeats: virtual.BusReaderDeaf, virtual.TerminalDribbles: virtual.BusReaderDribbles,
	virtual.TerminalJoins: virtual.BusReaderJoins, virtual.TerminalTalks: virtual.BusReaderTalks,
	virtual.TerminalWrongAmount: virtual.BusReaderOtherAmount, virtual.TerminalDropsReversal: virtual.BusReaderUnplugsFailed,
	virtual.TerminalWontReverse: virtual.BusReaderWontRefund, virtual.TerminalWinsAbort: virtual.BusReaderWinsAbort,
}

func (b *busTerminal) Address() string { return b.Path() }

func (b *busTerminal) Misbehave(f virtual.TerminalFault) {
	bus, ok := busFaults[f]
	if !ok {
		panic("no such fault of a reader") // of the suite
	}
	b.BusReader.Misbehave(bus)
}

func (b *busTerminal) Present(f virtual.TerminalFault) { _ = b.BusReader.Present(busFaults[f]) }

func (b *busTerminal) Replug() { _ = b.BusReader.Replug() }

func (b *busTerminal) View() virtual.TerminalView { return busView(b.BusReader.View()) }

func busView(v virtual.BusReaderView) virtual.TerminalView {
	return virtual.TerminalView{
		Books: make([]virtual.TerminalTx, v.Approved), Charged: v.Charged + v.Held + 100, Held: v.Held, Asked: v.Asked, Waiting: v.Waiting,
	}
}

func (b *busTerminal) Wait(ctx context.Context, ok func(virtual.TerminalView) bool) error {
	return b.BusReader.Wait(ctx, func(v virtual.BusReaderView) bool { return ok(busView(v)) })
}

// sessionCases are what only a reader at a bus can do wrong, and what it cannot do.
var sessionCases = map[string]func(*terminalBench){
	"our ACK is lost":          func(b *terminalBench) { b.bus.Misbehave(virtual.BusReaderDeaf); b.approves(virtual.TerminalRepeats) },
	"its ACK is lost":          func(b *terminalBench) { sessionFault(b, virtual.BusReaderMute) },
	"garbage":                  func(b *terminalBench) { sessionFault(b, virtual.BusReaderGarbage) },
	"a bad sum":                func(b *terminalBench) { sessionFault(b, virtual.BusReaderBadSum) },
	"slow":                     func(b *terminalBench) { sessionFault(b, virtual.BusReaderSlow) },
	"gone before it began":     func(b *terminalBench) { sessionUnknown(b, virtual.BusReaderUnplugsAsked, 0) },
	"gone in mid frame":        func(b *terminalBench) { sessionUnknown(b, virtual.BusReaderHalf, 0) }, // it is found, and given back
	"reset when asked":         func(b *terminalBench) { sessionUnknown(b, virtual.BusReaderResetAsked, 0) },
	"reset before it is told":  func(b *terminalBench) { sessionUnknown(b, virtual.BusReaderResetUnheard, 250) },
	"silent":                   func(b *terminalBench) { sessionUnknown(b, virtual.BusReaderDead, 0) },
	"no answer":                func(b *terminalBench) { sessionNo(b, virtual.BusReaderNoAnswer, protocol.TerminalAborted, "canceled") },
	"NAK":                      func(b *terminalBench) { sessionNo(b, virtual.BusReaderNAK, protocol.TerminalUnsent, "not_taken") },
	"the request is not heard": func(b *terminalBench) { sessionNo(b, virtual.BusReaderMisses, protocol.TerminalUnsent, "not_taken") },
	"out of sequence":          func(b *terminalBench) { sessionNo(b, virtual.BusReaderSequence, protocol.TerminalUnsent, "not_taken") },
	"reset, then success":      func(b *terminalBench) { sessionReset(b, true) },
	"reset, then failure":      func(b *terminalBench) { sessionReset(b, false) },
	"success, ACK lost":        func(b *terminalBench) { sessionEnd(b, virtual.BusReaderMute, true) },
	"success, NAK":             func(b *terminalBench) { sessionEnd(b, virtual.BusReaderNAK, true) },
	"success, not heard":       func(b *terminalBench) { sessionEnd(b, virtual.BusReaderMisses, true) },
	"failure, ACK lost":        func(b *terminalBench) { sessionEnd(b, virtual.BusReaderMute, false) },
	"failure, NAK":             func(b *terminalBench) { sessionEnd(b, virtual.BusReaderNAK, false) },
	"failure, slow":            func(b *terminalBench) { sessionEnd(b, virtual.BusReaderRefundsSlow, false) },
	"unplugged, approved":      sessionUnplugged,
	"no day":                   sessionDay,
}

// sessionFault is a payment that ends well all the same.
func sessionFault(b *terminalBench, f virtual.BusReaderFault) {
	b.t.Helper()
	b.bus.Misbehave(f)
	e := b.ask(b.id(), 250)
	if e.Result != protocol.TerminalApproved || e.Approved != eur(250) || b.bus.View().Asked != 1 {
		b.t.Errorf("%+v; asked %d times", e, b.bus.View().Asked)
	}
	must(b.t, b.d.Capture(e.Payment, e.Ref, e.Approved, e.Approved))
	b.done(protocol.TerminalCapture, protocol.TerminalOK, "")
	b.stands(250)
}

// sessionUnknown is a payment without an answer, and what the reader's own books say of it.
func sessionUnknown(b *terminalBench, f virtual.BusReaderFault, minor int64) {
	b.t.Helper()
	b.bus.Misbehave(f)
	p := b.id()
	if e := b.ask(p, 250); e.Result != protocol.TerminalUnknown || !e.Approved.IsZero() {
		b.t.Errorf("%+v", e)
	}
	b.bus.Misbehave(virtual.BusReaderFine)
	b.far.Replug()
	for errors.Is(b.d.Last(p, protocol.TerminalRef{}), hardware.ErrPortGone) {
		nextSlow[hardware.TerminalReady](b.l)
	}
	if l := nextSlow[hardware.TerminalLast](b.l); l.Known || !l.Never || l.Payment != p {
		b.t.Errorf("%+v", l)
	}
	if n := b.bus.View().Asked; n > 1 {
		b.t.Errorf("asked %d times", n)
	}
	b.stands(minor)
	e := b.ask(b.id(), 100)
	must(b.t, b.d.Capture(e.Payment, e.Ref, e.Approved, e.Approved))
	b.done(protocol.TerminalCapture, protocol.TerminalOK, "")
	b.stands(minor + 100)
}

// sessionNo is one that surely was not charged.
func sessionNo(b *terminalBench, f virtual.BusReaderFault, want protocol.TerminalResult, why string) {
	b.t.Helper()
	b.bus.Misbehave(f)
	if e := b.ask(b.id(), 250); e.Result != want || e.Reason != why {
		b.t.Errorf("%+v", e)
	}
	b.stands(0)
	b.approves(virtual.TerminalFine)
}

// sessionReset is a reader that begins anew when its approval was heard: it has charged.
func sessionReset(b *terminalBench, success bool) {
	b.t.Helper()
	resets := b.bus.View().Resets
	b.bus.Misbehave(virtual.BusReaderResetApproved)
	e := b.ask(b.id(), 250)
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	must(b.t, b.bus.Wait(ctx, func(v virtual.BusReaderView) bool { return v.Resets > resets && v.State > 1 }))
	if success {
		must(b.t, b.d.Capture(e.Payment, e.Ref, e.Approved, e.Approved))
		b.done(protocol.TerminalCapture, protocol.TerminalOK, "")
	} else {
		must(b.t, b.d.Cancel(e.Payment, e.Ref, e.Approved))
		b.done(protocol.TerminalCancel, protocol.TerminalRefused, "reader_reset")
	}
	b.stands(250)
}

// sessionEnd is a fault in the word that ends it.
func sessionEnd(b *terminalBench, f virtual.BusReaderFault, success bool) {
	b.t.Helper()
	e := b.approved(virtual.TerminalFine)
	b.bus.Misbehave(f)
	if success {
		must(b.t, b.d.Capture(e.Payment, e.Ref, e.Approved, e.Approved))
		b.done(protocol.TerminalCapture, protocol.TerminalOK, "")
		b.stands(250)
	} else {
		must(b.t, b.d.Cancel(e.Payment, e.Ref, e.Approved))
		b.done(protocol.TerminalCancel, protocol.TerminalOK, "")
		b.stands(0)
	}
	if v := b.bus.View(); v.Held != 0 {
		b.t.Errorf("%+v", v)
	}
}

// sessionUnplugged is an approval that outlives the cable.
func sessionUnplugged(b *terminalBench) {
	e := b.approved(virtual.TerminalFine)
	b.far.Unplug()
	Next[hardware.PortGone](b.l, nil)
	b.far.Replug()
	b.up()
	if l := b.last(e.Payment, e.Ref); l.Hold != hardware.HoldOpen {
		b.t.Errorf("%+v", l)
	}
	must(b.t, b.d.Cancel(e.Payment, e.Ref, e.Approved))
	b.done(protocol.TerminalCancel, protocol.TerminalOK, "")
	b.stands(0)
	b.approves(virtual.TerminalFine)
}

func sessionDay(b *terminalBench) {
	must(b.t, b.d.Close())
	if e := nextSlow[hardware.TerminalClosed](b.l); e.Reason != "not_possible" {
		b.t.Errorf("%+v", e)
	}
}
