package hardwaretest

import (
	"context"
	"errors"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// NewVender makes a driver for the machine at a path, and what Supervise opens it with.
type NewVender func(path string, epoch uint64, out func(hardware.Event)) (hardware.Vender, func(context.Context) (hardware.Driver, error), error)

// Far is the other end of a Vender's cable: a vending machine that can misbehave.
type Far interface {
	Path() string
	Run(context.Context) error
	Select(protocol.Outlet) error
	Cancel() error
	Repeat() error
	Misbehave(virtual.Fault) error
	Release() error
	Reset() error
	PowerCut() error
	Unplug() error
	Replug() error
	Line(virtual.LineFault)
	Drops() []virtual.Drop
	View() virtual.View
	Wait(context.Context, func(virtual.View) bool) error
}

// NewFar makes one.
type NewFar func(virtual.MachineConfig) (Far, error)

// Adapter is a machine behind a Qibixx adapter, which lives on when we die or its cable is pulled.
func Adapter(cfg virtual.MachineConfig) (Far, error) { return virtual.NewMachine(cfg) }

// pollPause is a controller's between two exchanges. One polls every 25 to 200 ms; a dozen at once that do so
// without a pause leave no time to those who have to answer.
const pollPause = 5 * time.Millisecond

// Bus is a controller at a raw port: there we are the device, and when we are gone it resets the bus.
func Bus(level byte, wide bool) NewFar {
	return func(cfg virtual.MachineConfig) (Far, error) {
		return virtual.NewController(virtual.ControllerConfig{MachineConfig: cfg, Level: level, Wide: wide, Keys: true, Pause: pollPause})
	}
}

// Wafer is a controller behind a Waferstar adapter, which lives on as Qibixx's does.
func Wafer(level byte, wide bool) NewFar {
	return func(cfg virtual.MachineConfig) (Far, error) {
		return virtual.NewWaferMachine(virtual.ControllerConfig{MachineConfig: cfg, Level: level, Wide: wide, Keys: true, Pause: pollPause})
	}
}

type bench struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // the test's
	make NewVender
	m    Far
	l    *Log
	v    hardware.Vender
	stop func()
	n    byte
}

const outlet = protocol.Outlet(5)

var price = money.New(150, money.EUR)

func newBench(t *testing.T, mk NewVender, far NewFar) *bench {
	t.Helper()
	m, err := far(virtual.MachineConfig{
		Link: t.TempDir() + "/vmc", Drops: t.TempDir() + "/drops",
		Products: []virtual.Product{{Outlet: outlet, Price: price}, {Outlet: 6, Price: money.New(200, money.EUR)}},
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	b := &bench{t: t, ctx: ctx, make: mk, m: m}
	t.Cleanup(func() { cancel(); <-done })
	b.boot(0)
	return b
}

// boot is the agent's process that starts, after the one before was stopped.
func (b *bench) boot(epoch uint64) {
	b.t.Helper()
	b.l = NewLog(b.t)
	v, open, err := b.make(b.m.Path(), epoch, b.l.Out)
	must(b.t, err)
	b.v, b.stop = v, supervise(b.t, b.l, open)
}

func (b *bench) enabled() {
	b.t.Helper()
	Next(b.l, func(e hardware.BusState) bool {
		return e.State == hardware.BusStateEnabled || e.State == hardware.BusStateUp
	})
	b.wait(func(v virtual.View) bool {
		return v.Status != "OFF" && v.Status != "INACTIVE" && v.Status != "DISABLED"
	})
}

// ready waits until both ends know that the device is enabled: a session can be opened only then.
func (b *bench) ready() {
	b.t.Helper()
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	b.l.read = 0
	Next(b.l, func(e hardware.BusState) bool { return e.State == hardware.BusStateEnabled })
}

func (b *bench) wait(ok func(virtual.View) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	must(b.t, b.m.Wait(ctx, ok))
}

func (b *bench) request() hardware.VendRequest {
	b.t.Helper()
	must(b.t, b.m.Select(outlet))
	return Next[hardware.VendRequest](b.l, nil)
}

// approve gives a fresh vend its approval and waits for the approval's end.
func (b *bench) approve() (protocol.VendID, hardware.Delivery) {
	b.t.Helper()
	v := b.vend()
	must(b.t, b.v.Approve(v, protocol.BusKey{}, outlet, price, 5*time.Second))
	return v, Next(b.l, func(e hardware.Approval) bool { return e.Vend == v }).How
}

func (b *bench) vend() protocol.VendID {
	b.n++
	return protocol.VendID{0: b.n, 15: 1}
}

func (b *bench) drops(want int) {
	b.t.Helper()
	if got := len(b.m.Drops()); got != want {
		b.t.Errorf("%d items fell, want %d; events:%s", got, want, b.l)
	}
}

// once checks that the vend's approval ended exactly once.
func (b *bench) once(v protocol.VendID) {
	b.t.Helper()
	if n := count(b.l, func(e hardware.Approval) bool { return e.Vend == v }); n != 1 {
		b.t.Errorf("the approval ended %d times:%s", n, b.l)
	}
}

// Vender is what every Vender must do. livesOn says that what is before us keeps a vend over our death.
func Vender(t *testing.T, mk NewVender, far NewFar, livesOn bool) {
	t.Helper()
	cases := map[string]func(*testing.T, *bench){
		"card first":                       cardFirst,
		"session without a vend":           emptySession,
		"sells":                            sells,
		"denies":                           denies,
		"approval with nothing open":       nothingOpen,
		"approve then deny":                approveDeny,
		"vend failure":                     vendFailure,
		"controller cancels":               controllerCancels,
		"words for a request that is over": crossed,
		"reset in mid vend":                resetMidVend,
		"silent controller":                silentController,
		"repeated lines":                   repeatedLines,
		"garbage":                          garbage,
		"byte dribble":                     func(t *testing.T, b *bench) { b.m.Line(virtual.LineDribbles); sells(t, b) },
		"two frames in one read":           func(t *testing.T, b *bench) { b.m.Line(virtual.LineJoins); sells(t, b) },
		"gone in mid frame":                halfResult,
		"repeated request":                 repeatedRequest,
		"unplugged while it waits":         unpluggedWaiting,
		"power cut of the adapter":         powerCut,
		"amount that is none of the bus":   inexact,
		"nothing after the end":            nothingAfter,
	}
	if livesOn {
		cases["unplugged in mid vend"] = unpluggedVending
		cases["restart, late result"] = func(t *testing.T, b *bench) { restart(t, b, virtual.FaultLateDrop, false) }
		cases["restart, result while dead"] = func(t *testing.T, b *bench) { restart(t, b, virtual.FaultLateDrop, true) }
		cases["restart, late failure"] = func(t *testing.T, b *bench) { restart(t, b, virtual.FaultLateJam, false) }
	} else {
		cases["unplugged in mid vend"] = unpluggedDevice
		cases["restart in mid vend"] = restartDevice
	}
	if atDevice(t, cases, realVender(mk)) {
		return
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, mk, far)
			b.enabled()
			f(t, b)
		})
	}
}

// crossed: the controller took its request back and made another; what is said about the first is not
// for the second, which may be another product at another price.
func crossed(t *testing.T, b *bench) {
	first := b.request()
	must(t, b.m.Cancel())
	Next[hardware.VendCancel](b.l, nil)
	must(t, b.m.Select(6))
	second := Next[hardware.VendRequest](b.l, nil)

	late := b.vend()
	must(t, b.v.Deny(first.Bus))
	must(t, b.v.Approve(late, first.Bus, outlet, price, 5*time.Second))
	if how := Next(b.l, func(e hardware.Approval) bool { return e.Vend == late }).How; how != hardware.ApprovalWithdrawn {
		t.Errorf("an approval of the first request ended as %v", how)
	}
	if v := b.m.View(); v.Denials != 0 || v.Approvals != 0 || v.Status != "VEND" {
		t.Errorf("the second request was answered: %+v", v)
	}
	b.drops(0)

	v := b.vend()
	must(t, b.v.Approve(v, second.Bus, second.Item, second.Price, 5*time.Second))
	if s := Next[hardware.VendSuccess](b.l, nil); s.Vend != v || s.Item != 6 {
		t.Errorf("success %+v", s)
	}
	b.drops(1)
	b.once(late)
}

func sells(t *testing.T, b *bench) {
	r := b.request()
	if r.Bad != "" || r.Price != price || r.Item != outlet || r.Bus.IsZero() {
		t.Fatalf("request %+v", r)
	}
	v, how := b.approve()
	want := hardware.ApprovalMaybe
	if b.v.SeesAck() {
		want = hardware.ApprovalDelivered
	}
	if how != want {
		t.Errorf("approval ended as %v", how)
	}
	if s := Next[hardware.VendSuccess](b.l, nil); s.Vend != v || s.Grade == protocol.GradeNone {
		t.Errorf("success %+v", s)
	}
	b.drops(1)
	b.once(v)
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	if again := b.request(); !again.Bus.Later(r.Bus) {
		t.Errorf("the second request's key %v is not later than %v", again.Bus, r.Bus)
	}
}

func denies(_ *testing.T, b *bench) {
	b.request()
	must(b.t, b.v.Deny(protocol.BusKey{}))
	must(b.t, b.v.Deny(protocol.BusKey{})) // once is enough
	b.wait(func(v virtual.View) bool { return v.Denials == 1 && v.Status == "ENABLED" })
	b.drops(0)
	b.request()
	b.approve()
	Next[hardware.VendSuccess](b.l, nil)
	b.drops(1)
}

func nothingOpen(t *testing.T, b *bench) {
	if v, how := b.approve(); how != hardware.ApprovalWithdrawn {
		t.Errorf("ended as %v", how)
	} else {
		b.once(v)
	}
	b.request()
	b.drops(0)
}

func approveDeny(t *testing.T, b *bench) {
	b.request()
	v := b.vend()
	must(t, b.v.Approve(v, protocol.BusKey{}, outlet, price, time.Second))
	must(t, b.v.Approve(v, protocol.BusKey{}, outlet, price, time.Second)) // the same again
	must(t, b.v.Deny(protocol.BusKey{}))
	how := Next(b.l, func(e hardware.Approval) bool { return e.Vend == v }).How
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	if how == hardware.ApprovalWithdrawn {
		b.drops(0)
	} else {
		Next[hardware.VendSuccess](b.l, nil)
		b.drops(1)
	}
	b.request()
	b.once(v)
}

func vendFailure(t *testing.T, b *bench) {
	must(t, b.m.Misbehave(virtual.FaultFail))
	b.request()
	v, _ := b.approve()
	if e := Next[hardware.VendFailure](b.l, nil); e.Vend != v {
		t.Errorf("failure of %v", e.Vend)
	}
	b.drops(0)
	r, ok := b.v.(hardware.Refunder)
	if !ok {
		return
	}
	// The controller waits for the buyer's money to be certain, and hears that it is.
	b.wait(func(v virtual.View) bool { return v.Waits > 2 })
	if n := b.m.View().Refunds; n != 0 {
		t.Errorf("%d refunds before anybody had written it down", n)
	}
	must(t, r.Refunded(v))
	b.wait(func(v virtual.View) bool { return v.Refunds == 1 && v.Errors == 0 })
}

func controllerCancels(t *testing.T, b *bench) {
	b.request()
	must(t, b.m.Cancel())
	Next[hardware.VendCancel](b.l, nil)
	if _, how := b.approve(); how != hardware.ApprovalWithdrawn {
		t.Errorf("approval of a canceled request ended as %v", how)
	}
	b.drops(0)
}

func resetMidVend(t *testing.T, b *bench) {
	must(t, b.m.Misbehave(virtual.FaultResetDrop))
	r := b.request()
	v, _ := b.approve()
	Next[hardware.BusReset](b.l, nil) // after the approval's end, or Next finds none
	b.once(v)
	b.drops(1)
	b.enabled()
	if again := b.request(); again.Bus.BusEpoch <= r.Bus.BusEpoch {
		t.Errorf("the epoch did not rise: %v, %v", r.Bus, again.Bus)
	}
}

func silentController(t *testing.T, b *bench) {
	must(t, b.m.Misbehave(virtual.FaultSilentDrop))
	b.request()
	v, _ := b.approve()
	b.wait(func(v virtual.View) bool { return v.Drops == 1 })
	must(t, b.v.Deny(protocol.BusKey{})) // the session's time-out; it must not touch the vend
	must(t, b.m.Reset())
	Next[hardware.BusReset](b.l, nil)
	if n := count(b.l, func(hardware.VendSuccess) bool { return true }); n != 0 {
		t.Error("a success nobody told")
	}
	b.once(v)
}

func repeatedLines(t *testing.T, b *bench) {
	must(t, b.m.Misbehave(virtual.FaultRepeat))
	r := b.request()
	if again := Next[hardware.VendRequest](b.l, nil); again.Bus != r.Bus {
		t.Errorf("a repeat has the key %v, not %v", again.Bus, r.Bus)
	}
	v, _ := b.approve()
	must(t, b.v.Approve(v, protocol.BusKey{}, outlet, price, time.Second))
	Next[hardware.VendSuccess](b.l, nil)
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	must(t, b.m.Misbehave(virtual.FaultNone))
	time.Sleep(100 * time.Millisecond) // the machine has heard the second yes: it is not one for what is asked next
	b.request()
	if n := count(b.l, func(hardware.VendSuccess) bool { return true }); n != 1 {
		t.Errorf("%d successes of one vend", n)
	}
	b.once(v)
	b.drops(1)
}

func garbage(t *testing.T, b *bench) {
	must(t, b.m.Misbehave(virtual.FaultGarbage))
	b.request()
	v, _ := b.approve()
	if e := Next[hardware.VendSuccess](b.l, nil); e.Vend != v {
		t.Errorf("success %+v", e)
	}
	seen := map[protocol.BusKey]bool{} // one that comes again, for its answer was late, has the key of the first
	count(b.l, func(r hardware.VendRequest) bool { seen[r.Bus] = true; return true })
	if len(seen) != 1 {
		t.Errorf("%d requests out of garbage", len(seen))
	}
	b.drops(1)
}

// halfResult: the cable goes in the middle of the result. It is told once, or never; the next sale is none of it.
func halfResult(t *testing.T, b *bench) {
	must(t, b.m.Misbehave(virtual.FaultLateDrop))
	r := b.request()
	v, _ := b.approve()
	b.wait(func(v virtual.View) bool { return v.Held })
	b.m.Line(virtual.LineHalf)
	must(t, b.m.Release())
	Next[hardware.PortGone](b.l, nil)
	b.once(v)
	must(t, b.m.Replug())
	b.enabled()
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	again := b.request()
	if !again.Bus.Later(r.Bus) {
		t.Errorf("key %v is not later than %v", again.Bus, r.Bus)
	}
	next, _ := b.approve()
	Next(b.l, func(e hardware.VendSuccess) bool { return e.Vend == next })
	if n := count(b.l, func(e hardware.VendSuccess) bool { return e.Vend == v }); n > 1 {
		t.Errorf("%d successes of one vend", n)
	}
	b.drops(2)
}

func repeatedRequest(t *testing.T, b *bench) {
	must(t, b.m.Misbehave(virtual.FaultLateDrop))
	r := b.request()
	v, _ := b.approve()
	b.wait(func(v virtual.View) bool { return v.Held })
	must(t, b.m.Repeat())
	again := Next[hardware.VendRequest](b.l, nil)
	if b.v.SeesAck() { // it has acknowledged the approval: this is another request, and the vend has no result
		if !again.Bus.Later(r.Bus) {
			t.Errorf("key %v is not later than %v", again.Bus, r.Bus)
		}
		b.once(v)
		return
	}
	if again.Bus != r.Bus {
		t.Errorf("key %v, not %v", again.Bus, r.Bus)
	}
	must(t, b.v.Approve(v, protocol.BusKey{}, outlet, price, time.Second)) // the same 05 again
	must(t, b.m.Release())
	if e := Next[hardware.VendSuccess](b.l, nil); e.Vend != v {
		t.Errorf("success %+v", e)
	}
	b.once(v)
	b.drops(1)
}

func unpluggedWaiting(t *testing.T, b *bench) {
	r := b.request()
	must(t, b.m.Unplug())
	Next[hardware.PortGone](b.l, nil)
	if err := b.v.Approve(b.vend(), protocol.BusKey{}, outlet, price, time.Second); !errors.Is(err, hardware.ErrPortGone) {
		t.Errorf("approve without a port: %v", err)
	}
	must(t, b.m.Replug())
	must(t, b.m.Cancel())
	b.enabled()
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	again := b.request()
	if !again.Bus.Later(r.Bus) {
		t.Errorf("key %v is not later than %v", again.Bus, r.Bus)
	}
	b.approve()
	Next[hardware.VendSuccess](b.l, nil)
	b.drops(1)
}

func unpluggedVending(t *testing.T, b *bench) {
	must(t, b.m.Misbehave(virtual.FaultUnplugDrop))
	b.request()
	v, _ := b.approve()
	Next[hardware.PortGone](b.l, nil)
	b.once(v)
	must(t, b.m.Replug())
	b.enabled()
	must(t, b.m.Release())
	if e := Next[hardware.VendSuccess](b.l, nil); e.Vend != v {
		t.Errorf("late success %+v", e)
	}
	b.drops(1)
}

// restart is an agent that dies in mid vend, and the adapter that lives on.
func restart(t *testing.T, b *bench, f virtual.Fault, whileDead bool) {
	must(t, b.m.Misbehave(f))
	r := b.request()
	v, _ := b.approve()
	b.wait(func(v virtual.View) bool { return v.Held })
	b.stop()
	if whileDead {
		must(t, b.m.Release())
	}
	b.boot(r.Bus.BusEpoch)
	must(t, b.v.Resume(v)) // as at Booted, whether the port is open already or not
	b.enabled()
	if !whileDead {
		must(t, b.m.Release())
	}
	b.l.read = 0
	if f == virtual.FaultLateJam {
		if e := Next[hardware.VendFailure](b.l, nil); e.Vend != v {
			t.Errorf("late failure %+v", e)
		}
		b.drops(0)
	} else {
		if e := Next[hardware.VendSuccess](b.l, nil); e.Vend != v {
			t.Errorf("late success %+v", e)
		}
		b.drops(1)
	}
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	if again := b.request(); !again.Bus.Later(r.Bus) {
		t.Errorf("key %v is not later than %v", again.Bus, r.Bus)
	}
}

// unpluggedDevice: the bus lost its device in mid vend. Its approval has ended before; what became of
// the vend nobody says any more.
func unpluggedDevice(t *testing.T, b *bench) {
	must(t, b.m.Misbehave(virtual.FaultUnplugDrop))
	b.request()
	v, _ := b.approve()
	Next[hardware.PortGone](b.l, nil)
	b.once(v)
	must(t, b.m.Replug())
	Next[hardware.BusReset](b.l, nil)
	b.enabled()
	b.request()
	b.approve()
	if s := Next[hardware.VendSuccess](b.l, nil); s.Vend == v {
		t.Error("a success nobody told")
	}
	b.drops(2)
}

// restartDevice: we died in mid vend, and are the device: the bus is reset, the vend has no result.
func restartDevice(t *testing.T, b *bench) {
	must(t, b.m.Misbehave(virtual.FaultLateDrop))
	r := b.request()
	v, _ := b.approve()
	b.wait(func(v virtual.View) bool { return v.Held })
	b.stop()
	b.wait(func(v virtual.View) bool { return v.Status == "INACTIVE" })
	b.boot(r.Bus.BusEpoch)
	must(t, b.v.Resume(v))
	Next[hardware.BusReset](b.l, nil)
	b.enabled()
	if again := b.request(); !again.Bus.Later(r.Bus) {
		t.Errorf("key %v is not later than %v", again.Bus, r.Bus)
	}
	if n := count(b.l, func(hardware.VendSuccess) bool { return true }); n != 0 {
		t.Error("a success nobody told")
	}
	b.drops(1)
}

// cardFirst: the card was there first; a session with funds, a vend in it, and its end.
func cardFirst(t *testing.T, b *bench) {
	b.ready()
	must(t, b.v.Begin(money.New(1000, money.EUR)))
	b.wait(func(v virtual.View) bool { return v.Status == "IDLE" })
	r := b.request()
	v := b.vend()
	must(t, b.v.Approve(v, r.Bus, outlet, price, 5*time.Second))
	if s := Next[hardware.VendSuccess](b.l, nil); s.Vend != v {
		t.Errorf("success %+v", s)
	}
	Next[hardware.SessionComplete](b.l, nil)
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	b.drops(1)
	b.once(v)
	if again := b.request(); !again.Bus.Later(r.Bus) {
		t.Errorf("key %v is not later than %v", again.Bus, r.Bus)
	}
}

// emptySession: nobody chose anything; and one that cannot begin is over at once.
func emptySession(t *testing.T, b *bench) {
	b.ready()
	must(t, b.v.Begin(money.New(1000, money.EUR)))
	b.wait(func(v virtual.View) bool { return v.Status == "IDLE" })
	must(t, b.v.End())
	Next[hardware.SessionComplete](b.l, nil)
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	b.request()
	must(t, b.v.Begin(money.New(1000, money.EUR)))
	Next[hardware.SessionComplete](b.l, nil)
	b.drops(0)
}

func powerCut(t *testing.T, b *bench) {
	r := b.request()
	must(t, b.m.PowerCut())
	must(t, b.v.Deny(protocol.BusKey{})) // a word to an adapter that is off
	Next[hardware.BusReset](b.l, nil)
	b.enabled()
	b.wait(func(v virtual.View) bool { return v.Status == "ENABLED" })
	if again := b.request(); again.Bus.BusEpoch <= r.Bus.BusEpoch {
		t.Errorf("the epoch did not rise: %v, %v", r.Bus, again.Bus)
	}
	b.approve()
	b.wait(func(v virtual.View) bool { return v.Drops == 1 || v.Denials == 1 && v.Status == "ENABLED" })
	if b.m.View().Drops == 0 { // that word came when it was on again, and it kept it for the next request
		b.request()
		b.approve()
	}
	Next[hardware.VendSuccess](b.l, nil)
}

func inexact(t *testing.T, b *bench) {
	b.request()
	for _, a := range []money.Amount{money.New(-1, money.EUR), money.New(150, money.USD), money.New(1<<40, money.EUR)} {
		if err := b.v.Approve(b.vend(), protocol.BusKey{}, outlet, a, time.Second); !errors.Is(err, hardware.ErrInexact) {
			t.Errorf("approve %v: %v", a, err)
		}
	}
	b.drops(0)
}

func nothingAfter(t *testing.T, b *bench) {
	b.request()
	b.stop() // from here an event fails the test
	if err := b.v.Approve(b.vend(), protocol.BusKey{}, outlet, price, time.Second); !errors.Is(err, hardware.ErrPortGone) {
		t.Errorf("approve after the end: %v", err)
	}
	must(t, b.m.Cancel())
	b.drops(0)
}
