package hardwaretest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol/money"
)

// NewCash makes a driver for the cash at a path, and what Supervise opens it with.
type NewCash func(path string, out func(hardware.Event)) (hardware.Cash, func(context.Context) (hardware.Driver, error), error)

// NewAdapter is an adapter before the bus at a path: the master in our place.
type NewAdapter func(link, bus string) (*virtual.Adapter, error)

type cashBench struct {
	t    *testing.T
	at   *virtual.Adapter // nil: none
	far  *virtual.Cash
	l    *Log
	c    hardware.Cash
	stop func()
}

// payless are cases in which a changer gives nothing, so that its level does not matter.
var payless = []string{
	"coins", "nothing before it may", "no coin above what may", "a bill is held, then taken", "a bill is held, then back",
	"a report said twice", "coins of before", "lever", "other money", "gone in mid frame",
}

// Cash is what every Cash must do, at a bus, or behind an adapter. The far end has coins of 0.05, 0.10, 0.20, 0.50, 1 and 2, tubes for
// all but the last, and takes bills of 5, 10 and 20.
func Cash(t *testing.T, mk NewCash, behind NewAdapter) {
	t.Helper()
	cases := map[string]func(*testing.T, *cashBench){
		"coins":                      coinsIn,
		"nothing before it may":      shut,
		"no coin above what may":     small,
		"still when nothing moves":   still,
		"a bill is held, then taken": func(t *testing.T, b *cashBench) { billIn(t, b, true) },
		"a bill is held, then back":  func(t *testing.T, b *cashBench) { billIn(t, b, false) },
		"pays":                       pays,
		"pays what it can":           paysShort,
		"a coin sticks":              coinSticks,
		"all coins stick":            allStick,
		"an order nobody heard of":   func(t *testing.T, b *cashBench) { paysAll(t, b, virtual.CashMute) },
		"a wrong sum":                func(t *testing.T, b *cashBench) { paysAll(t, b, virtual.CashBadSum) },
		"reset in mid payout":        func(t *testing.T, b *cashBench) { paysAll(t, b, virtual.CashResetInPay) },
		"a report said twice":        saidTwice,
		"byte dribble":               func(t *testing.T, b *cashBench) { lineIs(t, b, virtual.LineDribbles) },
		"two frames in one read":     func(t *testing.T, b *cashBench) { lineIs(t, b, virtual.LineJoins) },
		"garbage":                    func(t *testing.T, b *cashBench) { lineIs(t, b, virtual.LineNoise) },
		"gone in mid frame":          halfCoin,
		"two payouts":                twoPayouts,
		"a coin in mid payout":       coinMeanwhile,
		"coins of before":            ofBefore,
		"lever":                      lever,
		"changer dies":               changerDies,
		"unplugged in mid payout":    unpluggedPaying,
		"other money":                otherMoney,
	}
	if atDevice(t, cases, realCash(mk)) {
		return
	}
	for name, f := range cases {
		levels := []bool{false, true}
		if slices.Contains(payless, name) {
			levels = levels[:1]
		}
		for _, level3 := range levels {
			t.Run(fmt.Sprintf("%s, level 3 %v", name, level3), func(t *testing.T) {
				t.Parallel()
				runCash(t, mk, behind, f, virtual.CashConfig{Link: t.TempDir() + "/cash", Tubes: []int{10, 10, 10, 10, 10, -1}, Level3: level3})
			})
		}
	}
}

// CashLate is a bus whose answers come late while its devices start: what was late is nobody else's answer.
func CashLate(t *testing.T, mk NewCash) {
	t.Helper()
	for _, level3 := range []bool{false, true} {
		t.Run(fmt.Sprintf("late at the start, level 3 %v", level3), func(t *testing.T) {
			t.Parallel()
			far, err := virtual.NewCash(virtual.CashConfig{Link: t.TempDir() + "/cash", Tubes: []int{10, 10, 10, 10, 10, -1}, Level3: level3})
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = far.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
			b := &cashBench{t: t, far: far, l: NewLog(t)}
			far.Line(virtual.LineLate)
			c, open, err := mk(far.Path(), b.l.Out)
			must(t, err)
			b.c, b.stop = c, supervise(t, b.l, open)
			time.Sleep(3000 * time.Millisecond) // so long it is
			far.Line(virtual.LineFine)
			b.ready()
			coinsIn(t, b)
			b.balanced()
		})
	}
}

func runCash(t *testing.T, mk NewCash, behind NewAdapter, f func(*testing.T, *cashBench), cfg virtual.CashConfig) {
	t.Helper()
	far, err := virtual.NewCash(cfg)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = far.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	b := &cashBench{t: t, far: far, l: NewLog(t)}
	path := far.Path()
	if behind != nil {
		b.at, err = behind(path+"-adapter", path)
		must(t, err)
		done := make(chan struct{})
		go func() { defer close(done); _ = b.at.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		b.at.Garble()
		path = b.at.Path()
	}
	c, open, err := mk(path, b.l.Out)
	must(t, err)
	b.c, b.stop = c, supervise(t, b.l, open)
	b.ready()
	f(t, b)
	b.balanced()
}

func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }

// ready waits for both devices.
func (b *cashBench) ready() {
	b.t.Helper()
	Next(b.l, func(e hardware.Health) bool { return e.State == hardware.Ready })
	Next(b.l, func(e hardware.Health) bool { return e.State == hardware.Ready })
}

func (b *cashBench) wait(ok func(virtual.CashView) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	must(b.t, b.far.Wait(ctx, ok))
}

func (b *cashBench) accept() {
	b.t.Helper()
	must(b.t, b.c.Accept(eur(100000)))
	b.wait(func(v virtual.CashView) bool { return v.Accepting && v.Bills })
}

func (b *cashBench) pay(id uint32, minor int64) hardware.Paid {
	b.t.Helper()
	must(b.t, b.c.Pay(id, eur(minor)))
	p := Next[hardware.Paid](b.l, nil)
	if p.ID != id || p.Asked != eur(minor) {
		b.t.Errorf("%+v", p)
	}
	return p
}

// balanced: what was told is what happened: money in is in tubes, box and stacker, and what was given,
// as far as it is known, is what came out.
func (b *cashBench) balanced() {
	b.t.Helper()
	in, given, known := int64(0), int64(0), true
	for _, e := range b.l.All() {
		switch e := e.(type) {
		case hardware.CashIn:
			in += e.Value.Minor
		case hardware.Paid:
			given += e.Given.Minor
			known = known && e.Known
		}
	}
	v := b.far.View()
	values, start, have := []int64{5, 10, 20, 50, 100, 200}, int64(0), v.Box+v.Out
	for i, n := range v.Tubes {
		have += values[i] * int64(max(n, 0))
		if i < 5 {
			start += 10 * values[i]
		}
	}
	for i, n := range v.Stacked {
		have += []int64{500, 1000, 2000}[i] * int64(n)
	}
	if have-start != in {
		b.t.Errorf("%d came in, %d was told:%s", have-start, in, b.l)
	}
	if known && given != v.Out {
		b.t.Errorf("%d came out, %d was told:%s", v.Out, given, b.l)
	}
}

func coinsIn(t *testing.T, b *cashBench) {
	b.accept()
	must(t, b.far.Coin(3))
	if e := Next[hardware.CashIn](b.l, nil); e.Value != eur(50) || e.Box || e.Bill {
		t.Errorf("%+v", e)
	}
	must(t, b.far.Coin(5))
	if e := Next[hardware.CashIn](b.l, nil); e.Value != eur(200) || !e.Box {
		t.Errorf("%+v", e)
	}
	b.l.read = 0
	if e := Next(b.l, func(e hardware.CashLevel) bool { return e.Change == eur(1900) }); e.Exact {
		t.Errorf("%+v", e)
	}
}

func shut(t *testing.T, b *cashBench) {
	if b.far.Coin(1) == nil || b.far.Bill(0) == nil {
		t.Error("taken before it may")
	}
	b.accept()
	must(t, b.c.Accept(eur(0)))
	b.wait(func(v virtual.CashView) bool { return !v.Accepting && !v.Bills })
}

// small: a coin whose change could not be given is not let in.
func small(t *testing.T, b *cashBench) {
	must(t, b.c.Accept(eur(50)))
	b.wait(func(v virtual.CashView) bool { return v.Accepting && v.Bills })
	if b.far.Coin(4) == nil || b.far.Coin(5) == nil {
		t.Error("taken")
	}
	must(t, b.far.Coin(3))
	if e := Next[hardware.CashIn](b.l, nil); e.Value != eur(50) {
		t.Errorf("%+v", e)
	}
}

// still: what is in the tubes is told as counted when nothing moved, before a coin, after it, and after
// a payout; not while coins may come in.
func still(t *testing.T, b *cashBench) {
	is := func(minor int64) {
		t.Helper()
		e := Next(b.l, func(e hardware.CashLevel) bool { return e.Still })
		if e.Change != eur(minor) || money.Content(e.Tubes) != minor {
			t.Errorf("%+v, want %d", e, minor)
		}
	}
	b.l.read = 0
	is(1850)
	b.accept()
	must(t, b.far.Coin(3))
	Next[hardware.CashIn](b.l, nil)
	if e := Next[hardware.CashLevel](b.l, nil); e.Still {
		t.Errorf("%+v", e)
	}
	must(t, b.c.Accept(eur(0)))
	is(1900)
	b.pay(1, 85)
	is(1815)
	b.accept() // and nothing comes: it is still all the same, and told
	must(t, b.c.Accept(eur(0)))
	is(1815)
	b.far.Misbehave(virtual.CashDead)
	if e := Next(b.l, func(e hardware.CashLevel) bool { return !e.Still }); len(e.Tubes) > 0 {
		t.Errorf("of a changer that is gone: %+v", e)
	}
}

func billIn(t *testing.T, b *cashBench, take bool) {
	b.accept()
	must(t, b.far.Bill(1))
	if e := Next[hardware.BillHeld](b.l, nil); e.Value != eur(1000) {
		t.Errorf("%+v", e)
	}
	if n := count(b.l, func(e hardware.CashIn) bool { return e.Bill }); n != 0 {
		t.Error("a bill in escrow is no money")
	}
	must(t, b.c.Bill(take))
	if take {
		if e := Next[hardware.CashIn](b.l, nil); e.Value != eur(1000) || !e.Bill || !e.Box {
			t.Errorf("%+v", e)
		}
		return
	}
	if e := Next[hardware.BillReturned](b.l, nil); e.Value != eur(1000) || b.far.View().Returned != 1 {
		t.Errorf("%+v", e)
	}
	must(t, b.far.Bill(1)) // the same again is another one
	Next[hardware.BillHeld](b.l, nil)
}

func pays(t *testing.T, b *cashBench) {
	if p := b.pay(1, 285); p.Reason != "" || !p.Known || p.Given != eur(285) {
		t.Errorf("%+v", p)
	}
	if p := b.pay(2, 0); p.Reason != "" || !p.Given.IsZero() {
		t.Errorf("%+v", p)
	}
	b.l.read = 0 // it came before
	if e := Next(b.l, func(e hardware.CashLevel) bool { return e.Change == eur(1850-285) }); e.Exact {
		t.Errorf("%+v", e)
	}
}

func paysShort(t *testing.T, b *cashBench) {
	if p := b.pay(1, 3000); p.Reason != "no_coins" || p.Given != eur(1850) {
		t.Errorf("%+v", p)
	}
	b.l.read = 0
	if e := Next(b.l, func(e hardware.CashLevel) bool { return e.Change.IsZero() }); !e.Exact {
		t.Errorf("%+v", e)
	}
	b.l.read = len(b.l.All())
	if p := b.pay(2, 5); p.Reason != "no_coins" || !p.Given.IsZero() || !p.Known {
		t.Errorf("%+v", p)
	}
}

// coinSticks: one of the coins that were ordered does not come out; another takes its place.
func coinSticks(t *testing.T, b *cashBench) {
	b.far.Misbehave(virtual.CashShort)
	if p := b.pay(1, 300); p.Reason != "" || p.Given != eur(300) {
		t.Errorf("%+v", p)
	}
}

func allStick(t *testing.T, b *cashBench) {
	b.far.Misbehave(virtual.CashStuck)
	if p := b.pay(1, 300); p.Reason != "jammed" || !p.Given.IsZero() || !p.Known {
		t.Errorf("%+v", p)
	}
	b.far.Misbehave(virtual.CashOK)
	if p := b.pay(2, 300); p.Reason != "" {
		t.Errorf("%+v", p)
	}
}

// paysAll: whatever goes wrong on the way, all of it comes out, and once.
func paysAll(t *testing.T, b *cashBench, f virtual.CashFault) {
	b.far.Misbehave(f)
	if p := b.pay(1, 485); p.Reason != "" || p.Given != eur(485) || !p.Known {
		t.Errorf("%+v", p)
	}
	if out := b.far.View().Out; out != 485 {
		t.Errorf("%d came out", out)
	}
}

// saidTwice: the changer did not hear our ACK, and says the coin again; it is one coin. So with a bill.
func saidTwice(t *testing.T, b *cashBench) {
	b.accept()
	b.far.Misbehave(virtual.CashDeaf)
	must(t, b.far.Coin(3))
	Next[hardware.CashIn](b.l, nil)
	b.far.Misbehave(virtual.CashDeaf)
	must(t, b.far.Coin(5)) // into the box: no count tells it from another
	Next(b.l, func(e hardware.CashIn) bool { return e.Box })
	must(t, b.far.Bill(0))
	Next[hardware.BillHeld](b.l, nil)
	b.far.Misbehave(virtual.CashDeaf)
	must(t, b.c.Bill(true))
	Next(b.l, func(e hardware.CashIn) bool { return e.Bill })
	must(t, b.far.Coin(3)) // behind all that
	Next(b.l, func(e hardware.CashIn) bool { return !e.Bill })
	if n := count(b.l, func(hardware.CashIn) bool { return true }); n != 4 {
		t.Errorf("%d coins and bills of 4:%s", n, b.l)
	}
}

// lineIs: a coin, a bill and change, over a line that is not as it should be.
// What an adapter has to say it says once, so nothing may come into its lines: there Garble does it, between them.
func lineIs(t *testing.T, b *cashBench, f virtual.LineFault) {
	switch {
	case b.at == nil:
		b.far.Line(f)
	case f == virtual.LineNoise:
		b.at.Garble()
	default:
		b.at.Line(f)
	}
	coinsIn(t, b)
	b.l.read = len(b.l.All())
	billIn(t, b, true)
	paysAll(t, b, virtual.CashOK)
}

// halfCoin: the cable goes in the middle of the report of a coin, which is told when it is back, once.
// An adapter has acknowledged it, and it would be lost: there it is another word that is cut.
func halfCoin(t *testing.T, b *cashBench) {
	if b.at != nil {
		b.at.Line(virtual.LineHalf)
		Next[hardware.PortGone](b.l, nil)
		must(t, b.at.Replug())
		b.ready()
		coinsIn(t, b)
		return
	}
	b.accept()
	idle := b.far.View().Idle
	b.wait(func(v virtual.CashView) bool { return v.Idle > idle }) // between two POLLs
	b.far.Line(virtual.LineHalf)
	must(t, b.far.Coin(3))
	Next[hardware.PortGone](b.l, nil)
	must(t, b.far.Replug())
	if e := Next[hardware.CashIn](b.l, nil); e.Value != eur(50) {
		t.Errorf("%+v", e)
	}
	b.ready()
	if n := count(b.l, func(hardware.CashIn) bool { return true }); n != 1 {
		t.Errorf("%d coins of 1:%s", n, b.l)
	}
}

func twoPayouts(t *testing.T, b *cashBench) {
	must(t, b.c.Pay(1, eur(300)))
	must(t, b.c.Pay(2, eur(100)))
	if p := Next[hardware.Paid](b.l, nil); p.ID != 2 || p.Reason != "busy" || !p.Given.IsZero() {
		t.Errorf("%+v", p)
	}
	if p := Next[hardware.Paid](b.l, nil); p.ID != 1 || p.Reason != "" {
		t.Errorf("%+v", p)
	}
}

// coinMeanwhile: coins come until the slot is shut; each is money, and none confuses the count.
func coinMeanwhile(t *testing.T, b *cashBench) {
	b.accept()
	must(t, b.c.Pay(1, eur(500)))
	put := 0
	for b.far.Coin(put%5) == nil {
		put++
		time.Sleep(110 * time.Millisecond) // no faster than they are reported
	}
	if p := Next[hardware.Paid](b.l, nil); p.Reason != "" || p.Given != eur(500) {
		t.Errorf("%+v", p)
	}
	if n := count(b.l, func(hardware.CashIn) bool { return true }); n != put {
		t.Errorf("%d coins of %d", n, put)
	}
	b.accept() // again, by itself
}

// ofBefore: what came in while the cable was out is told when it is back, before anything is reset.
func ofBefore(t *testing.T, b *cashBench) {
	b.accept()
	must(t, b.far.Bill(0))
	Next[hardware.BillHeld](b.l, nil)
	b.far.Unplug()
	must(t, b.far.Coin(3))
	must(t, b.far.Coin(5))
	Next[hardware.PortGone](b.l, nil)
	must(t, b.far.Replug())
	Next(b.l, func(e hardware.CashIn) bool { return e.Value == eur(50) })
	Next(b.l, func(e hardware.CashIn) bool { return e.Value == eur(200) })
	b.ready()
	if n := count(b.l, func(hardware.CashIn) bool { return true }); n != 2 {
		t.Errorf("%d coins of 2:%s", n, b.l)
	}
}

func lever(_ *testing.T, b *cashBench) {
	b.far.Lever()
	Next[hardware.ReturnLever](b.l, nil)
}

func changerDies(t *testing.T, b *cashBench) {
	must(t, b.c.Pay(1, eur(485)))
	b.wait(func(v virtual.CashView) bool { return v.Out > 0 })
	b.far.Misbehave(virtual.CashDead)
	if p := Next[hardware.Paid](b.l, nil); p.Reason != "changer_lost" || p.Known {
		t.Errorf("%+v", p)
	}
	b.l.read = 0
	Next(b.l, func(e hardware.Health) bool { return e.State == hardware.Absent })
	b.l.read = len(b.l.All())
	if p := b.pay(2, 100); p.Reason != "changer_lost" || !p.Known {
		t.Errorf("%+v", p)
	}
}

func unpluggedPaying(t *testing.T, b *cashBench) {
	must(t, b.c.Pay(1, eur(500)))
	b.wait(func(v virtual.CashView) bool { return v.Out > 0 })
	b.far.Unplug()
	if p := Next[hardware.Paid](b.l, nil); p.Known || p.Reason != "changer_lost" {
		t.Errorf("%+v", p)
	}
	Next[hardware.PortGone](b.l, nil)
	must(t, b.far.Replug())
	b.ready()
	if p := b.pay(2, 100); p.Reason != "" {
		t.Errorf("%+v", p)
	}
}

func otherMoney(t *testing.T, b *cashBench) {
	if b.c.Pay(1, money.New(100, money.USD)) == nil || b.c.Pay(2, eur(-5)) == nil {
		t.Error("taken")
	}
	time.Sleep(time.Millisecond)
}
