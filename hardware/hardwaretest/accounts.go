package hardwaretest

import (
	"context"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// teller is a Far that can load cash on cards, and ask the buyer at its keys. One behind Qibixx's adapter is none: its
// text has no words for either.
type teller interface {
	AskLimit() error
	LoadCash(minor int64) error
	Enter(digits string) error
	Diagnose() error
}

// Accounts is what a Vender must do that is a Loader or a Keypad. One that is neither refuses what the controller
// asks, and sells on.
func Accounts(t *testing.T, mk NewVender, far NewFar) {
	t.Helper()
	v, _, err := mk(t.TempDir()+"/none", 0, func(hardware.Event) {})
	must(t, err)
	all := map[string]func(*testing.T, *bench){"loads nothing": loadsNothing, "diagnostics": diagnostics, "digits nobody asked for": strayDigits}
	if _, ok := v.(hardware.Loader); ok {
		all["loads"], all["load denied"] = loadsCash, loadDenied
		all["load, repeated commands"] = func(t *testing.T, b *bench) { must(t, b.m.Misbehave(virtual.FaultRepeat)); loadsCash(t, b) }
		all["load, an answer that is not heard"] = loadDeaf
		all["load, reset before the answer"], all["load, reset after it"] = loadReset, loadDeafReset
		all["load, unplugged"] = loadUnplugged
	}
	if _, ok := v.(hardware.Keypad); ok {
		all["digits"], all["digits, said twice"], all["digits, nobody wants to"] = digits, digitsTwice, digitsCanceled
		all["digits, too late"], all["digits, reset"], all["digits, session over"] = digitsLate, digitsReset, digitsOver
	}
	for name, f := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, mk, far)
			b.enabled()
			f(t, b)
		})
	}
}

func (b *bench) teller() teller {
	b.t.Helper()
	far, ok := b.m.(teller)
	_, loads := b.v.(hardware.Loader)
	_, keys := b.v.(hardware.Keypad)
	switch {
	case !ok && (loads || keys):
		b.t.Fatal("the driver has words that its port cannot carry")
	case !ok:
		b.t.Skip("this port cannot carry it, and the driver says so")
	}
	return far
}

// limit lets money be loaded, and waits until the controller knows.
func (b *bench) limit(minor int64) {
	b.t.Helper()
	must(b.t, b.v.(hardware.Loader).Limit(money.New(minor, money.EUR)))
	b.limits(minor)
}

// limits asks for the limit until it is that: a bus that was reset in between has forgotten the question.
func (b *bench) limits(minor int64) {
	b.t.Helper()
	told := b.m.View().Session.Limits
	for end := time.Now().Add(patience); time.Now().Before(end); {
		must(b.t, b.teller().AskLimit())
		ctx, cancel := context.WithTimeout(b.ctx, patience/20)
		err := b.m.Wait(ctx, func(v virtual.View) bool { return v.Session.Limits > told })
		cancel()
		v := b.m.View().Session
		if told = v.Limits; err == nil && v.Limit == minor {
			return
		}
	}
	b.t.Fatalf("limit %d, want %d", b.m.View().Session.Limit, minor)
}

// asksToLoad is a buyer with 1.50.
func (b *bench) asksToLoad() hardware.LoadRequest {
	b.t.Helper()
	b.ready()
	b.limit(5000)
	must(b.t, b.teller().LoadCash(150))
	r := Next[hardware.LoadRequest](b.l, nil)
	if r.Amount != price || r.Bus.IsZero() {
		b.t.Errorf("request to load %+v", r)
	}
	return r
}

// yes agrees to it.
func (b *bench) yes(r hardware.LoadRequest) {
	b.t.Helper()
	must(b.t, b.v.(hardware.Loader).Load(r.Bus, true))
}

// loaded waits for its end, of which there is one.
func (b *bench) loaded(r hardware.LoadRequest, want hardware.Delivery) {
	b.t.Helper()
	if l := Next[hardware.Loaded](b.l, nil); l.Bus != r.Bus || l.How != want {
		b.t.Errorf("loaded %+v, want %v of %v", l, want, r.Bus)
	}
	if n := count(b.l, func(l hardware.Loaded) bool { return l.Bus == r.Bus }); n != 1 {
		b.t.Errorf("%d ends:%s", n, b.l)
	}
}

// stillSells is a vend after all that.
func (b *bench) stillSells() {
	b.t.Helper()
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	b.request()
	b.approve()
	Next[hardware.VendSuccess](b.l, nil)
	b.drops(1)
}

func loadsNothing(t *testing.T, b *bench) {
	b.ready()
	b.limits(0)
	must(t, b.teller().LoadCash(150))
	b.wait(func(v virtual.View) bool { return v.Session.LoadDenials == 1 })
	b.stillSells()
	if n := count(b.l, func(hardware.LoadRequest) bool { return true }); n != 0 {
		t.Errorf("%d requests to load", n)
	}
}

func loadsCash(t *testing.T, b *bench) {
	r := b.asksToLoad()
	b.yes(r)
	b.yes(r) // the same again
	b.loaded(r, hardware.ApprovalDelivered)
	b.wait(func(v virtual.View) bool { return v.Session.Loads == 1 && v.Session.LoadDenials == 0 })
	must(t, b.m.Misbehave(virtual.FaultNone))
	b.stillSells()
	if n := count(b.l, func(hardware.LoadRequest) bool { return true }); n != 1 {
		t.Errorf("%d requests to load", n)
	}
}

func loadDenied(t *testing.T, b *bench) {
	r := b.asksToLoad()
	must(t, b.v.(hardware.Loader).Load(r.Bus, false))
	b.wait(func(v virtual.View) bool { return v.Session.Loads == 0 && v.Session.LoadDenials == 1 })
	b.yes(r)
	b.loaded(r, hardware.ApprovalWithdrawn)
	b.stillSells()
}

// loadDeaf: the controller hears the yes when it asks again; it is one yes.
func loadDeaf(t *testing.T, b *bench) {
	r := b.asksToLoad()
	must(t, b.m.Misbehave(virtual.FaultDeaf))
	b.yes(r)
	b.loaded(r, hardware.ApprovalDelivered)
	b.wait(func(v virtual.View) bool { return v.Session.Loads == 1 })
	b.stillSells()
}

func loadReset(t *testing.T, b *bench) {
	r := b.asksToLoad()
	must(t, b.m.Reset())
	Next[hardware.BusReset](b.l, nil)
	b.yes(r)
	b.loaded(r, hardware.ApprovalWithdrawn)
	b.stillSells()
}

// loadDeafReset: the yes was on the wire, no ACK came, and then the bus was reset.
func loadDeafReset(t *testing.T, b *bench) {
	r := b.asksToLoad()
	must(t, b.m.Misbehave(virtual.FaultDeafReset))
	b.yes(r)
	b.loaded(r, hardware.ApprovalMaybe)
	Next[hardware.BusReset](b.l, nil)
	b.stillSells()
}

func loadUnplugged(t *testing.T, b *bench) {
	r := b.asksToLoad()
	must(t, b.m.Unplug())
	Next[hardware.PortGone](b.l, nil)
	if err := b.v.(hardware.Loader).Load(r.Bus, true); err == nil {
		t.Error("a yes without a port was taken")
	}
	must(t, b.m.Replug())
	b.enabled()
	b.limits(5000) // kept
	b.stillSells()
}

func diagnostics(_ *testing.T, b *bench) {
	b.ready()
	must(b.t, b.teller().Diagnose())
	b.wait(func(v virtual.View) bool {
		return len(v.Session.Diagnosis) == 16 && v.Session.Diagnosis[:8] == "ff434f49"
	})
	b.stillSells()
}

func strayDigits(t *testing.T, b *bench) {
	b.ready()
	must(t, b.teller().Enter("1234"))
	if r := Next[hardware.DataRefused](b.l, nil); r.Reason != hardware.EntryLate {
		t.Errorf("refused %+v", r)
	}
	b.stillSells()
}

// asksDigits is a buyer who is to enter four, before his vend is approved.
func (b *bench) asksDigits(id uint32, timeout time.Duration) {
	b.t.Helper()
	must(b.t, b.v.(hardware.Keypad).Ask(id, 4, false, timeout))
	b.wait(func(v virtual.View) bool { return v.Session.Digits == 4 && !v.Session.Again })
}

// refusedDigits waits for why it ended without them.
func (b *bench) refusedDigits(id uint32, why string) {
	b.t.Helper()
	if r := Next[hardware.DataRefused](b.l, nil); r.ID != id || r.Reason != why {
		b.t.Errorf("refused %+v, want %s of %d", r, why, id)
	}
}

// thenSells approves the request that waited.
func (b *bench) thenSells() {
	b.t.Helper()
	b.approve()
	Next[hardware.VendSuccess](b.l, nil)
	b.drops(1)
}

func digits(t *testing.T, b *bench) {
	b.request()
	b.asksDigits(1, time.Minute)
	must(t, b.teller().Enter("0000"))
	if d := Next[hardware.DataEntered](b.l, nil); d.ID != 1 || string(d.Data.Reveal()) != "0000" {
		t.Errorf("%+v", d)
	}
	must(t, b.v.(hardware.Keypad).Ask(2, 4, true, time.Minute)) // it was wrong
	b.wait(func(v virtual.View) bool { return v.Session.Digits == 4 && v.Session.Again })
	must(t, b.v.(hardware.Keypad).Ask(3, 4, false, time.Minute))
	b.refusedDigits(3, hardware.EntryBusy)
	must(t, b.teller().Enter("1234"))
	if d := Next[hardware.DataEntered](b.l, nil); d.ID != 2 || string(d.Data.Reveal()) != "1234" {
		t.Errorf("%+v", d)
	}
	b.thenSells()
}

func digitsTwice(t *testing.T, b *bench) {
	b.request()
	b.asksDigits(1, time.Minute)
	must(t, b.m.Misbehave(virtual.FaultRepeat))
	must(t, b.teller().Enter("1234"))
	Next[hardware.DataEntered](b.l, nil)
	b.refusedDigits(1, hardware.EntryRepeated)
	must(t, b.m.Misbehave(virtual.FaultNone))
	b.thenSells()
}

func digitsCanceled(t *testing.T, b *bench) {
	b.request()
	b.asksDigits(1, time.Minute)
	must(t, b.teller().Enter(""))
	b.refusedDigits(1, hardware.EntryCanceled)
	b.thenSells()
}

func digitsLate(t *testing.T, b *bench) {
	b.request()
	b.asksDigits(1, time.Second)
	b.refusedDigits(1, hardware.EntryNoTime)
	b.wait(func(v virtual.View) bool { return v.Session.Digits == 0 })
	must(t, b.teller().Enter("1234"))
	b.refusedDigits(1, hardware.EntryLate)
	b.thenSells()
}

func digitsReset(t *testing.T, b *bench) {
	b.request()
	b.asksDigits(1, time.Minute)
	must(t, b.m.Reset())
	b.refusedDigits(1, hardware.EntryReset)
	Next[hardware.BusReset](b.l, nil)
	b.stillSells()
}

func digitsOver(t *testing.T, b *bench) {
	b.request()
	b.asksDigits(1, time.Minute)
	must(t, b.m.Cancel())
	Next[hardware.VendCancel](b.l, nil)
	b.refusedDigits(1, hardware.EntryOver)
	must(t, b.v.(hardware.Keypad).Ask(2, 4, false, time.Minute))
	b.refusedDigits(2, hardware.EntryImpossible)
	b.stillSells()
}

// Currencies is a controller that enables multi currency and nothing else: in a session it is told the lane's
// currency and language; one that counts in another currency is sold nothing.
func Currencies(t *testing.T, mk NewVender, language, currency string) {
	t.Helper()
	far := func(foreign bool) NewFar {
		return func(cfg virtual.MachineConfig) (Far, error) {
			return virtual.NewController(virtual.ControllerConfig{MachineConfig: cfg, Currencies: true, Foreign: foreign, Pause: pollPause})
		}
	}
	t.Run("session", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, mk, far(false))
		b.enabled()
		cardFirst(t, b)
		if s := b.m.View().Session; s.Language != language || s.Currency != currency {
			t.Errorf("the session was in %q and %q", s.Language, s.Currency)
		}
	})
	t.Run("another currency", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, mk, far(true))
		Next(b.l, func(h hardware.Health) bool { return h.Code == hardware.CodeNotConfigure })
		b.enabled()
		if r := b.request(); r.Bad != "currency" || !r.Price.IsZero() {
			t.Errorf("request %+v", r)
		}
		must(t, b.v.Deny(protocol.BusKey{}))
		b.wait(func(v virtual.View) bool { return v.Denials == 1 && v.Status == "ENABLED" })
		b.drops(0)
	})
}
