package hardwaretest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol"
)

// NewTerminal makes a driver for the terminal at an address, and what Supervise opens it with. finish is
// how long it may wait for the end of a command.
type NewTerminal func(address string, finish time.Duration, out func(hardware.Event)) (hardware.Terminal, func(context.Context) (hardware.Driver, error), error)

// TerminalCan is what kind of terminal it is.
type TerminalCan struct {
	// Hold: its payments are holds, which can be ended by less.
	Hold bool
	// Session: its payments are sessions at an MDB bus (virtual.BusReader). Less than what was approved cannot
	// be captured, nothing refunded, no day closed, and it keeps no books: what got no answer is not known.
	Session bool
	// CardFirst: the session begins with the card; else the reader is always idle.
	CardFirst bool
}

// terminalFar is a terminal's far end, in the words of ZVT's.
type terminalFar interface {
	Run(ctx context.Context) error
	Address() string
	Misbehave(f virtual.TerminalFault)
	Present(how virtual.TerminalFault)
	Unplug()
	Replug()
	View() virtual.TerminalView
	Wait(ctx context.Context, ok func(virtual.TerminalView) bool) error
}

type terminalBench struct {
	t     *testing.T
	far   terminalFar
	bus   *virtual.BusReader // where it is one
	l     *Log
	d     hardware.Terminal
	hold  bool
	can   TerminalCan
	ready hardware.TerminalReady
	n     byte
}

// Terminal is what every Terminal must do. What one of a kind cannot do it must refuse by name.
func Terminal(t *testing.T, mk NewTerminal, can TerminalCan) {
	t.Helper()
	cases := map[string]func(*terminalBench){
		"approved":                  func(b *terminalBench) { b.approves(virtual.TerminalFine) },
		"said twice":                func(b *terminalBench) { b.approves(virtual.TerminalRepeats) },
		"byte by byte":              func(b *terminalBench) { b.approves(virtual.TerminalDribbles) },
		"two frames in one read":    func(b *terminalBench) { b.approves(virtual.TerminalJoins) },
		"more than was asked for":   func(b *terminalBench) { b.approves(virtual.TerminalTalks) },
		"another amount":            anotherAmount,
		"declined":                  func(b *terminalBench) { b.answers(virtual.TerminalDeclines, protocol.TerminalDeclined, "declined") },
		"unplugged meanwhile":       unpluggedPaying2,
		"aborted":                   aborted,
		"aborted too late":          abortedLate,
		"aborted in the queue":      abortedQueued,
		"canceled":                  canceled,
		"cancel and gone":           cancelGone,
		"will not cancel":           wontCancel,
		"captured":                  func(b *terminalBench) { captured(b, 250) },
		"captured less":             func(b *terminalBench) { captured(b, 150) },
		"refunded":                  refunded,
		"not here":                  notHere,
		"another one's money":       othersMoney,
		"two payments, one by one":  twoPayments,
		"nothing is ever said late": func(b *terminalBench) { must(b.t, b.d.Abort(protocol.PaymentID{9})); b.approves(virtual.TerminalFine) },
	}
	more := map[string]func(*terminalBench){
		"no card":              func(b *terminalBench) { b.answers(virtual.TerminalNoCard, protocol.TerminalAborted, "aborted") },
		"gone before it began": func(b *terminalBench) { b.unknown(virtual.TerminalDropsFirst, false) },
		"gone in mid frame":    func(b *terminalBench) { b.unknown(virtual.TerminalDropsMidFrame, true) },
		"approved and gone":    func(b *terminalBench) { b.unknown(virtual.TerminalDiesApproved, true) },
		"gone before the end":  func(b *terminalBench) { b.unknown(virtual.TerminalDropsCompletion, true) },
		"no end":               func(b *terminalBench) { b.unknown(virtual.TerminalLosesCompletion, true) },
		"no result":            func(b *terminalBench) { b.unknown(virtual.TerminalNoResult, true) },
		"other money":          func(b *terminalBench) { b.unknown(virtual.TerminalOtherMoney, true) },
		"yes, then no":         func(b *terminalBench) { b.unknown(virtual.TerminalContradicts, true) },
		"silent":               func(b *terminalBench) { b.unknown(virtual.TerminalSilent, false) },
		"garbage":              func(b *terminalBench) { b.unknown(virtual.TerminalGarbage, false) },
		"the day is due":       dayDue,
		"an empty day":         func(b *terminalBench) { must(b.t, b.d.Close()); b.closed(0) },
		"after 9999 comes 1":   func(b *terminalBench) { b.approves(virtual.TerminalFine); b.approves(virtual.TerminalFine) },
		"wants help first":     func(b *terminalBench) { b.again(virtual.TerminalWantsHelp) },
		"busy at first":        func(b *terminalBench) { b.again(virtual.TerminalDeaf) },
		"wrong password":       wrongPassword,
	}
	if can.Session {
		more = sessionCases
	}
	maps.Copy(cases, more)
	if atDevice(t, cases, realTerminal(mk)) {
		return
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &terminalBench{t: t, l: NewLog(t), hold: can.Hold, can: can}
			b.build(name)
			far := b.far
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = far.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
			finish := time.Minute
			if name == "no end" {
				finish = 2 * time.Second
			}
			d, open, err := mk(far.Address(), finish, b.l.Out)
			must(t, err)
			b.d = d
			supervise(t, b.l, open)
			b.up()
			f(b)
			b.clean()
		})
	}
}

// build makes the far end of a case.
func (b *terminalBench) build(name string) {
	b.t.Helper()
	waits := slices.Contains([]string{"aborted", "aborted too late", "aborted in the queue", "two payments, one by one", "unplugged meanwhile"}, name)
	if b.can.Session {
		r, err := virtual.NewBusReader(virtual.BusReaderConfig{
			Link: b.t.TempDir() + "/reader", Waits: waits, AlwaysIdle: !b.can.CardFirst, Wide: !b.can.CardFirst,
		})
		must(b.t, err)
		b.bus, b.far = r, &busTerminal{r}
		return
	}
	cfg := virtual.TerminalConfig{History: true, Waits: waits}
	if name == "after 9999 comes 1" {
		cfg.Receipt = 9998
	}
	far, err := virtual.NewTerminal(cfg)
	must(b.t, err)
	b.far = far
}

// up waits until it can be asked.
func (b *terminalBench) up() {
	b.t.Helper()
	b.ready = nextSlow[hardware.TerminalReady](b.l)
	if b.can.Session {
		if b.ready.Terminal != "KSK000000000042" || !b.ready.Last.Ref.IsZero() {
			b.t.Errorf("ready %+v", b.ready)
		}
		return
	}
	if b.ready.Terminal != "52523535" || b.ready.Last.Ref.IsZero() {
		b.t.Errorf("ready %+v", b.ready)
	}
}

func (b *terminalBench) id() protocol.PaymentID {
	b.n++
	return protocol.PaymentID{0: b.n, 10: 0xAB, 15: b.n}
}

// clean: no card number stands in any event, only the last four digits do.
func (b *terminalBench) clean() {
	for _, e := range b.l.All() {
		if s := fmt.Sprintf("%+v", e); strings.Contains(s, "eeee") || strings.Contains(s, "EEEE") {
			b.t.Errorf("%s", s)
		}
	}
}

func (b *terminalBench) ask(p protocol.PaymentID, minor int64) hardware.TerminalAnswered {
	b.t.Helper()
	must(b.t, b.d.Authorize(p, eur(minor)))
	return b.answer(p)
}

func (b *terminalBench) answer(p protocol.PaymentID) hardware.TerminalAnswered {
	b.t.Helper()
	e := nextSlow[hardware.TerminalAnswered](b.l)
	if e.Payment != p {
		b.t.Errorf("%+v", e)
	}
	return e
}

// stands checks what buyers are charged for, beside the 1.00 of before.
func (b *terminalBench) stands(minor int64) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	must(b.t, b.far.Wait(ctx, func(v virtual.TerminalView) bool { return v.Charged == minor+100 }))
}

// approves is a payment that ends well, whatever the terminal does on the way.
func (b *terminalBench) approves(f virtual.TerminalFault) hardware.TerminalAnswered {
	b.t.Helper()
	e := b.approved(f)
	if b.can.Session { // one at a time: it is ended before the next
		must(b.t, b.d.Capture(e.Payment, e.Ref, e.Approved, e.Approved))
		b.done(protocol.TerminalCapture, protocol.TerminalOK, "")
	}
	return e
}

// approved is one that is not ended yet.
func (b *terminalBench) approved(f virtual.TerminalFault) hardware.TerminalAnswered {
	b.t.Helper()
	before := b.far.View()
	b.far.Misbehave(f)
	p := b.id()
	e := b.ask(p, 250)
	if b.can.Session {
		if e.Result != protocol.TerminalApproved || e.Approved != eur(250) || e.Card != (hardware.TerminalCard{}) || e.Ref.Terminal != "KSK000000000042" {
			b.t.Errorf("%+v", e)
		}
	} else if e.Result != protocol.TerminalApproved || e.Approved != eur(250) || e.Card.Last4 != "4771" || e.Card.Brand != "mastercard" ||
		len(e.Ref.Receipt) != 4 || e.Ref.Terminal != "52523535" || e.Ref.AuthID != "611804" || len(e.Receipt) == 0 {
		b.t.Errorf("%+v", e)
	}
	b.stands(before.Charged - 100 + 250)
	v := b.far.View()
	if v.Asked != before.Asked+1 || len(v.Books) != len(before.Books)+1 {
		b.t.Errorf("asked %d times, %d in the books", v.Asked, len(v.Books))
	}
	if n := count(b.l, func(e hardware.TerminalAnswered) bool { return e.Payment == p }); n != 1 {
		b.t.Errorf("answered %d times", n)
	}
	if got := v.Books[len(v.Books)-1].Ref; got == "" && !b.can.Session { // MDB has no word for it
		b.t.Error("the terminal never heard our reference")
	}
	return e
}

// answers is one that does not.
func (b *terminalBench) answers(f virtual.TerminalFault, want protocol.TerminalResult, why string) {
	b.t.Helper()
	b.far.Misbehave(f)
	if e := b.ask(b.id(), 250); e.Result != want || e.Reason != why || !e.Approved.IsZero() {
		b.t.Errorf("%+v", e)
	}
	b.stands(0)
	b.approves(virtual.TerminalFine)
}

// unknown is one without an answer, that the terminal's books explain.
func (b *terminalBench) unknown(f virtual.TerminalFault, stored bool) {
	b.t.Helper()
	b.far.Misbehave(f)
	p := b.id()
	if e := b.ask(p, 250); e.Result != protocol.TerminalUnknown || !e.Approved.IsZero() {
		b.t.Errorf("%+v", e)
	}
	last := b.last(p, protocol.TerminalRef{})
	if stored == last.Found.Ref.Same(b.ready.Last.Ref) || stored && (last.Found.Amount != eur(250) || last.Found.Result != protocol.TerminalApproved) {
		b.t.Errorf("last is %+v, before it was %+v", last.Found, b.ready.Last)
	}
	if b.far.View().Asked > 1 {
		b.t.Error("it was asked again")
	}
	if stored {
		must(b.t, b.d.Cancel(p, last.Found.Ref, last.Found.Amount))
		b.done(protocol.TerminalCancel, protocol.TerminalOK, "")
	}
	b.stands(0)
}

// last asks until it is known: the terminal may be opened anew meanwhile.
func (b *terminalBench) last(p protocol.PaymentID, ref protocol.TerminalRef) hardware.TerminalLast {
	b.t.Helper()
	for {
		if err := b.d.Last(p, ref); errors.Is(err, hardware.ErrPortGone) {
			nextSlow[hardware.TerminalReady](b.l)
			continue
		}
		e := nextSlow[hardware.TerminalLast](b.l)
		if e.Payment != p {
			b.t.Errorf("%+v", e)
		}
		if e.Known {
			return e
		}
	}
}

func (b *terminalBench) done(op protocol.TerminalOp, end protocol.TerminalEnd, why string) hardware.TerminalDone {
	b.t.Helper()
	e := nextSlow[hardware.TerminalDone](b.l)
	if e.Op != op || e.End != end || e.Reason != why {
		b.t.Errorf("%+v, not %s %s %s", e, op, end, why)
	}
	return e
}

func (b *terminalBench) closed(minor int64) {
	b.t.Helper()
	if e := nextSlow[hardware.TerminalClosed](b.l); e.Reason != "" || e.Total != eur(minor+100) {
		b.t.Errorf("%+v", e)
	}
}

// again opens it anew with something to do first.
func (b *terminalBench) again(f virtual.TerminalFault) {
	b.far.Misbehave(f)
	b.far.Unplug()
	Next[hardware.PortGone](b.l, nil)
	b.far.Replug()
	b.up()
	b.approves(virtual.TerminalFine)
}

func anotherAmount(b *terminalBench) {
	b.far.Misbehave(virtual.TerminalWrongAmount)
	p := b.id()
	e := b.ask(p, 250)
	if e.Result != protocol.TerminalApproved || e.Approved != eur(251) {
		b.t.Errorf("%+v", e)
	}
	must(b.t, b.d.Cancel(p, e.Ref, e.Approved))
	b.done(protocol.TerminalCancel, protocol.TerminalOK, "")
	b.stands(0)
}

func unpluggedPaying2(b *terminalBench) {
	p := b.id()
	must(b.t, b.d.Authorize(p, eur(250)))
	b.waiting()
	b.far.Unplug()
	want := protocol.TerminalUnknown
	if b.can.CardFirst { // nothing is asked before the card
		want = protocol.TerminalUnsent
	}
	if e := b.answer(p); e.Result != want {
		b.t.Errorf("%+v", e)
	}
	b.far.Replug()
	b.up()
	b.stands(0)
}

func (b *terminalBench) waiting() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	must(b.t, b.far.Wait(ctx, func(v virtual.TerminalView) bool { return v.Waiting }))
}

func aborted(b *terminalBench) {
	p := b.id()
	must(b.t, b.d.Authorize(p, eur(250)))
	b.waiting()
	must(b.t, b.d.Abort(p))
	must(b.t, b.d.Abort(p))
	if e := b.answer(p); e.Result != protocol.TerminalAborted {
		b.t.Errorf("%+v", e)
	}
	b.stands(0)
	p = b.id()
	must(b.t, b.d.Authorize(p, eur(250)))
	b.waiting()
	b.far.Present(virtual.TerminalFine)
	if e := b.answer(p); e.Result != protocol.TerminalApproved {
		b.t.Errorf("%+v", e)
	}
}

func abortedLate(b *terminalBench) {
	if b.can.CardFirst { // before the card nothing is asked, and nothing can come too late
		aborted(b)
		return
	}
	p := b.id()
	must(b.t, b.d.Authorize(p, eur(250)))
	b.waiting()
	b.far.Misbehave(virtual.TerminalWinsAbort)
	must(b.t, b.d.Abort(p))
	e := b.answer(p)
	if e.Result != protocol.TerminalApproved {
		b.t.Errorf("%+v", e)
	}
	must(b.t, b.d.Cancel(p, e.Ref, e.Approved))
	b.done(protocol.TerminalCancel, protocol.TerminalOK, "")
	b.stands(0)
}

func abortedQueued(b *terminalBench) {
	first, second := b.id(), b.id()
	must(b.t, b.d.Authorize(first, eur(250)))
	b.waiting()
	must(b.t, b.d.Authorize(second, eur(100)))
	must(b.t, b.d.Abort(second))
	if e := b.answer(second); e.Result != protocol.TerminalAborted {
		b.t.Errorf("%+v", e)
	}
	b.far.Present(virtual.TerminalFine)
	if e := b.answer(first); e.Result != protocol.TerminalApproved {
		b.t.Errorf("%+v", e)
	}
	b.stands(250)
}

func twoPayments(b *terminalBench) {
	first, second := b.id(), b.id()
	must(b.t, b.d.Authorize(first, eur(250)))
	must(b.t, b.d.Authorize(second, eur(100)))
	b.waiting()
	b.far.Present(virtual.TerminalDeclines)
	if e := b.answer(first); e.Result != protocol.TerminalDeclined {
		b.t.Errorf("%+v", e)
	}
	b.waiting()
	b.far.Present(virtual.TerminalFine)
	if e := b.answer(second); e.Result != protocol.TerminalApproved || e.Approved != eur(100) {
		b.t.Errorf("%+v", e)
	}
	b.stands(100)
}

func canceled(b *terminalBench) {
	e := b.approved(virtual.TerminalFine)
	must(b.t, b.d.Cancel(e.Payment, e.Ref, e.Approved))
	d := b.done(protocol.TerminalCancel, protocol.TerminalOK, "")
	b.stands(0)
	l := b.last(e.Payment, e.Ref)
	if b.can.Session {
		if l.Hold != hardware.HoldEnded {
			b.t.Errorf("%+v", l)
		}
		return
	}
	if b.hold && l.Hold != hardware.HoldEnded || !b.hold && l.Found.Original != e.Ref.Trace || !l.Found.Ref.Same(d.Ref) {
		b.t.Errorf("%+v", l)
	}
}

func cancelGone(b *terminalBench) {
	e := b.approved(virtual.TerminalFine)
	b.far.Misbehave(virtual.TerminalDropsReversal)
	must(b.t, b.d.Cancel(e.Payment, e.Ref, e.Approved))
	b.done(protocol.TerminalCancel, protocol.TerminalLost, "lost")
	if b.can.Session { // whether it was heard, VEND FAILURE said again tells
		b.far.Replug()
		if l := b.last(e.Payment, e.Ref); l.Hold != hardware.HoldOpen {
			b.t.Errorf("%+v", l)
		}
		must(b.t, b.d.Cancel(e.Payment, e.Ref, e.Approved))
		b.done(protocol.TerminalCancel, protocol.TerminalOK, "")
		b.stands(0)
		return
	}
	l := b.last(e.Payment, e.Ref)
	if b.hold && l.Hold != hardware.HoldEnded || !b.hold && l.Found.Original != e.Ref.Trace {
		b.t.Errorf("%+v", l)
	}
	b.stands(0)
}

func wontCancel(b *terminalBench) {
	e := b.approved(virtual.TerminalFine)
	b.far.Misbehave(virtual.TerminalWontReverse)
	must(b.t, b.d.Cancel(e.Payment, e.Ref, e.Approved))
	b.done(protocol.TerminalCancel, protocol.TerminalRefused, map[bool]string{false: "reversal_not_possible", true: "refund_failed"}[b.can.Session])
	b.stands(250)
}

func captured(b *terminalBench, minor int64) {
	e := b.approved(virtual.TerminalFine)
	if b.hold || b.can.Session {
		if l := b.last(e.Payment, e.Ref); l.Hold != hardware.HoldOpen {
			b.t.Errorf("%+v", l)
		}
	}
	must(b.t, b.d.Capture(e.Payment, e.Ref, e.Approved, eur(minor)))
	if !b.hold && minor != 250 {
		b.done(protocol.TerminalCapture, protocol.TerminalRefused, "not_possible")
		b.stands(250)
		return
	}
	b.done(protocol.TerminalCapture, protocol.TerminalOK, "")
	b.stands(minor)
	if v := b.far.View(); v.Held != 0 {
		b.t.Errorf("%d held", v.Held)
	}
}

func refunded(b *terminalBench) {
	p := b.id()
	if b.can.Session {
		must(b.t, b.d.Refund(p, eur(50)))
		b.done(protocol.TerminalRefund, protocol.TerminalRefused, "not_possible")
		b.stands(0)
		return
	}
	must(b.t, b.d.Refund(p, eur(50)))
	b.done(protocol.TerminalRefund, protocol.TerminalOK, "")
	b.stands(-50)
	b.far.Misbehave(virtual.TerminalDeclines)
	must(b.t, b.d.Refund(p, eur(50)))
	b.done(protocol.TerminalRefund, protocol.TerminalRefused, "declined")
}

func dayDue(b *terminalBench) {
	b.approves(virtual.TerminalFine)
	b.far.Misbehave(virtual.TerminalDueDay)
	if e := b.ask(b.id(), 100); e.Result != protocol.TerminalDeclined || e.Reason != "day_end_due" {
		b.t.Errorf("%+v", e)
	}
	Next(b.l, func(e hardware.TerminalReady) bool { return e.Due })
	if e := b.ask(b.id(), 100); e.Result != protocol.TerminalUnsent || e.Reason != "day_end_due" {
		b.t.Errorf("%+v", e)
	}
	must(b.t, b.d.Close())
	minor := int64(250)
	if b.hold { // what nobody captured is released first
		minor = 0
	}
	b.closed(minor)
	Next(b.l, func(e hardware.TerminalReady) bool { return !e.Due })
	b.approves(virtual.TerminalFine)
}

func notHere(b *terminalBench) {
	b.far.Unplug()
	Next[hardware.PortGone](b.l, nil)
	for _, err := range []error{
		b.d.Authorize(b.id(), eur(1)), b.d.Abort(b.id()), b.d.Cancel(b.id(), protocol.TerminalRef{}, eur(1)),
		b.d.Capture(b.id(), protocol.TerminalRef{}, eur(1), eur(1)), b.d.Refund(b.id(), eur(1)), b.d.Last(b.id(), protocol.TerminalRef{}), b.d.Close(),
	} {
		if !errors.Is(err, hardware.ErrPortGone) {
			b.t.Error(err)
		}
	}
	b.far.Replug()
	b.up()
	b.approves(virtual.TerminalFine)
}

func othersMoney(b *terminalBench) {
	a := eur(250)
	a.Currency = 756
	if err := b.d.Authorize(b.id(), a); !errors.Is(err, hardware.ErrInexact) {
		b.t.Error(err)
	}
	if err := b.d.Authorize(b.id(), eur(0)); !errors.Is(err, hardware.ErrInexact) {
		b.t.Error(err)
	}
}

func wrongPassword(b *terminalBench) {
	b.far.Misbehave(virtual.TerminalWrongPassword)
	b.far.Unplug()
	Next[hardware.PortGone](b.l, nil)
	b.far.Replug()
	Next(b.l, func(e hardware.Health) bool {
		return e.State == hardware.Fault && e.Code == hardware.CodeNotConfigure && strings.Contains(e.Detail, "password")
	})
	b.up()
}
