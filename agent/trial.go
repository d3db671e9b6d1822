package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"coinop/hardware"
	"coinop/hardware/paper"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/emvqr"
	"coinop/protocol/money"
)

// Trial tries one device of a lane for a technician, without a sale: nothing is charged, no record is
// written, money that is put in comes back. The agent must not run: it has the ports.
type Trial struct {
	Config Config
	Lane   protocol.Lane
	Wait   time.Duration // for a person: 30 s
	// Say tells what happens, and what the person is to do.
	Say func(text string)
}

// Trials are what can be tried.
var Trials = []string{"printer", "reader", "scanner", "vend", "coin", "bill", "door"}

// Errors of a Trial.
var (
	ErrNoTrial  = errors.New("the configuration names none for this lane")
	ErrTrialEnd = errors.New("nothing came in time")
)

const (
	readyIn   = 8 * time.Second // an adapter that is set up takes a few seconds
	countedIn = 3 * time.Second // a changer tells its tubes, after a payout
)

// Do tries one of Trials. nil: it works.
func (t Trial) Do(ctx context.Context, what string) error {
	unlock, err := lock(t.Config.Data)
	if errors.Is(err, ErrInUse) {
		return fmt.Errorf("%w: stop the agent first (systemctl stop coinop-agent), for it has the ports", err)
	}
	if err != nil {
		return err
	}
	defer unlock()
	var l *LaneConfig
	for i := range t.Config.Lanes {
		if t.Config.Lanes[i].Lane == t.Lane {
			l = &t.Config.Lanes[i]
		}
	}
	if l == nil {
		return fmt.Errorf("there is no lane %d", t.Lane)
	}
	if what != "reader" {
		return t.one(ctx, l, what, 0)
	}
	if len(l.Readers) == 0 {
		return fmt.Errorf("%s: %w", what, ErrNoTrial)
	}
	var errs []error
	for i := range l.Readers { // one after the other: a person has them before him
		err := t.one(ctx, l, what, i)
		if err != nil && len(l.Readers) > 1 {
			err = fmt.Errorf("%s: %w", ReaderName(i), err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// one tries a device; nth says which of the readers.
func (t Trial) one(ctx context.Context, l *LaneConfig, what string, nth int) error {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan hardware.Event, 64)
	b := &bench{t: t, lane: l, nth: nth, events: events}
	began := time.Now()
	w := Wiring{Clock: func() time.Duration { return time.Since(began) }, Out: func(ev hardware.Event) {
		select {
		case events <- ev:
		case <-ctx.Done():
		}
	}}
	if what == "reader" {
		w.Device = ReaderName(nth)
	}
	try, open, err := b.of(what, w)
	if err != nil {
		cancel()
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hardware.Supervise(ctx, cmp.Or(w.Device, what), open, w.Out) // ends with ctx alone
	}()
	defer func() { cancel(); <-done }()
	if err := b.ready(ctx); err != nil {
		return err
	}
	return try(ctx)
}

// bench is one device under trial.
type bench struct {
	t      Trial
	lane   *LaneConfig
	nth    int // of its readers
	events <-chan hardware.Event
}

func (b *bench) of(what string, w Wiring) (try func(context.Context) error, open func(context.Context) (hardware.Driver, error), err error) {
	none := func(missing bool) error {
		if missing {
			return fmt.Errorf("%s: %w", what, ErrNoTrial)
		}
		return nil
	}
	switch l := b.lane; what {
	case "printer":
		if err = none(l.Printer == nil); err == nil {
			var d Printer
			if d, err = l.Printer(w); err == nil {
				return func(ctx context.Context) error { return b.print(ctx, d) }, d.Open, nil
			}
		}
	case "reader":
		var d Reader
		if d, err = l.Readers[b.nth].New(w); err == nil {
			return func(ctx context.Context) error { return b.card(ctx, d) }, d.Open, nil
		}
	case "scanner":
		if err = none(l.Scanner == nil); err == nil {
			var d Scanner
			if d, err = l.Scanner(w); err == nil {
				return func(ctx context.Context) error { return b.code(ctx, d) }, d.Open, nil
			}
		}
	case "vend", "door":
		if err = none(l.Vending == nil); err == nil {
			var d Vending
			if d, err = l.Vending(w); err == nil {
				if what == "door" {
					return b.door, d.Open, nil
				}
				return func(ctx context.Context) error { return b.vend(ctx, d) }, d.Open, nil
			}
		}
	case "coin", "bill":
		if err = none(l.Cash == nil); err == nil {
			var d Cash
			if d, err = l.Cash(w); err == nil {
				return func(ctx context.Context) error { return b.cash(ctx, d, what == "bill") }, d.Open, nil
			}
		}
	default:
		err = fmt.Errorf("there is no trial of %q", what)
	}
	return nil, nil, err
}

func (b *bench) say(format string, args ...any) { b.t.Say(fmt.Sprintf(format, args...)) }

// next is the next event until a time; ErrTrialEnd after it.
func (b *bench) next(ctx context.Context, by time.Time) (hardware.Event, error) {
	late := time.NewTimer(time.Until(by))
	defer late.Stop()
	select {
	case ev := <-b.events:
		return ev, nil
	case <-late.C:
		return nil, ErrTrialEnd
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (b *bench) ready(ctx context.Context) error {
	by := time.Now().Add(readyIn)
	var last hardware.Health
	for {
		ev, err := b.next(ctx, by)
		if errors.Is(err, ErrTrialEnd) && last.Code != "" {
			f := code.Of(code.Code(last.Code))
			return fmt.Errorf("it does not become ready: %s %s: %s; %s", last.State, last.Code, cmp.Or(f.Cause, last.Detail), f.Next)
		}
		if err != nil {
			return err
		}
		h, ok := ev.(hardware.Health)
		if !ok {
			continue
		}
		if last = h; h.State == hardware.Ready || h.State == hardware.Degraded {
			b.say("%s is %s %s", h.Device, h.State, h.Detail)
			return nil
		}
	}
}

func (b *bench) until() time.Time { return time.Now().Add(cmp.Or(b.t.Wait, 30*time.Second)) }

func (b *bench) print(ctx context.Context, d Printer) error {
	r := paper.Receipt{
		Head: []string{"TEST", "äöüß éèç €"}, Machine: string(b.t.Config.Identity.Device), At: time.Now(), Sale: protocol.SaleID{}.String(),
		Items: []paper.Item{{Name: "Test", State: paper.ItemDelivered}}, Charged: money.New(0, b.t.Config.Policy.Currency), Test: true,
	}
	form := b.lane.Form
	form.Columns = cmp.Or(form.Columns, paper.Width80)
	page := r.Layout(form)
	if err := d.Print(1, page); err != nil {
		return err
	}
	b.say("printing %d lines", len(page.Lines))
	for by := b.until(); ; {
		ev, err := b.next(ctx, by)
		if err != nil {
			return err
		}
		switch ev := ev.(type) {
		case hardware.Printed:
			if ev.Reason != "" {
				return fmt.Errorf("not printed: %s; %s", ev.Reason, code.Of(code.Code(ev.Reason)).Next)
			}
			b.say("printed. Is it all there, with the umlauts and the euro sign?")
			return nil
		case hardware.Health:
			b.say("the printer is %s %s", ev.State, ev.Detail)
		}
	}
}

func (b *bench) card(ctx context.Context, d Reader) error {
	by := b.until()
	if err := d.Activate(money.New(100, b.t.Config.Policy.Currency), time.Until(by)); err != nil {
		return err
	}
	at := ""
	if len(b.lane.Readers) > 1 {
		at = " to " + ReaderName(b.nth)
	}
	b.say("present a card%s within %s; nothing is charged", at, time.Until(by).Round(time.Second))
	for {
		ev, err := b.next(ctx, by)
		if err != nil {
			_ = d.Cancel()
			return err
		}
		switch ev := ev.(type) {
		case hardware.CardRead:
			brand, last4, entry, loop := ev.Card.Brand(), ev.Card.Last4(), ev.Card.Entry, sealedLoop(ev.Card.Loop)
			ev.Card.Wipe()
			_ = d.Finish(hardware.OutcomeDeclined) // nothing was bought
			if loop != nil {
				b.say("read: %s, a closed-loop card, %s", entry, ownCard(*loop))
				return nil
			}
			b.say("read: %s, %s, ends with %s", entry, brand, cmp.Or(last4, "(encrypted)"))
			return nil
		case hardware.CardFailed:
			return fmt.Errorf("the card was not read: %s", ev.Reason)
		}
	}
}

// ownCard is what an account would be opened for, and whether anyone can copy it.
func ownCard(c protocol.SealedLoop) string {
	switch ref := c.Ref(); {
	case ref == "":
		return "of which only its maker's ATR is known: it can have no account"
	case c.Verified:
		return "proven; for its account: coinop-cloud account open " + ref
	default:
		return "not proven, anyone can copy it; for an account all the same: coinop-cloud account open " + ref + " --unverified"
	}
}

// code wants to see one, and says what kind it is and how long, never what stands in it: it may be one to pay
// with.
func (b *bench) code(ctx context.Context, d Scanner) error {
	if err := d.Scan(); err != nil {
		return err
	}
	defer func() { _ = d.Stop() }()
	b.say("show a barcode or QR code; nothing is done with it")
	for by := b.until(); ; {
		ev, err := b.next(ctx, by)
		if err != nil {
			return err
		}
		switch ev := ev.(type) {
		case hardware.CodeRead:
			text := ev.Code.Reveal()
			ev.Code.Wipe()
			b.say("read: %s, %d characters", codeKind(emvqr.Classify(string(text))), utf8.RuneCount(text))
			clear(text)
			return nil
		case hardware.CodeRefused:
			b.say("a code was refused (%s); show another", ev.Reason)
		}
	}
}

// vend wants to hear a request, and answers it with no: an item that fell would be in nobody's books.
func (b *bench) vend(ctx context.Context, d Vending) error {
	b.say("press a button of the machine; it will be told no, and nothing falls")
	for by := b.until(); ; {
		ev, err := b.next(ctx, by)
		if err != nil {
			return err
		}
		if v, ok := ev.(hardware.VendRequest); ok {
			if err := d.Deny(v.Bus); err != nil {
				return err
			}
			b.say("it asked for item %d at %s, and was told no", v.Item, v.Price)
			return nil
		}
	}
}

func (b *bench) door(ctx context.Context) error {
	b.say("open or close the service door")
	for by := b.until(); ; {
		ev, err := b.next(ctx, by)
		if err != nil {
			return err
		}
		if d, ok := ev.(hardware.Door); ok {
			b.say("the door is %s", map[bool]string{true: "open", false: "closed"}[d.Open])
		} else {
			continue
		}
		return nil
	}
}

// cash takes one coin or bill, and gives it back.
func (b *bench) cash(ctx context.Context, d Cash, bill bool) error {
	b.say("put a %s in; it comes back", map[bool]string{true: "bill", false: "coin"}[bill])
	if err := d.Accept(money.New(1<<20, b.t.Config.Policy.Currency)); err != nil {
		return err
	}
	none := money.New(0, b.t.Config.Policy.Currency)
	defer func() { _ = d.Accept(none) }()
	owed, paying, came := none, false, false // a second coin may be in before the slot is shut
	for by := b.until(); ; {
		if owed.Minor > 0 && !paying {
			if err := d.Pay(1, owed); err != nil {
				return fmt.Errorf("%s came in and cannot be given back: %w", owed, err)
			}
			paying = true
		}
		ev, err := b.next(ctx, by)
		if came && errors.Is(err, ErrTrialEnd) {
			return nil
		}
		if err != nil {
			return err
		}
		switch ev := ev.(type) {
		case hardware.BillHeld:
			if err := d.Bill(false); err != nil {
				return err
			}
			b.say("a bill of %s; it is given back", ev.Value)
		case hardware.BillReturned:
			return nil
		case hardware.CashIn:
			b.say("%s came in; it is given back", ev.Value)
			if err := d.Accept(none); err != nil {
				return err
			}
			owed.Minor += ev.Value.Minor
			by, came = b.until(), false
		case hardware.Paid:
			if !ev.Known || ev.Given != ev.Asked {
				return fmt.Errorf("%s of %s came back: look at the changer", ev.Given, ev.Asked)
			}
			b.say("%s came back", ev.Given)
			owed.Minor -= ev.Given.Minor
			paying = false
			if came = owed.Minor == 0; came {
				by = time.Now().Add(countedIn)
			}
		case hardware.CashLevel:
			if came && ev.Still { // nothing is on its way any more
				return nil
			}
		}
	}
}
