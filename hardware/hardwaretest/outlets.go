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

// NewOutlets makes a driver for the relay board at a path, whose outlets are those of Outlets.
type NewOutlets func(path string, epoch uint64, out func(hardware.Event)) (hardware.Vender, func(context.Context) (hardware.Driver, error), error)

// Outlets of the suite: a washer that wants three coin pulses, says that it started and has a button; a
// chair whose relay is held for a while and that says nothing; a dispenser with a button and no feedback.
const (
	Washer    = protocol.Outlet(1)
	Chair     = protocol.Outlet(2)
	Dispenser = protocol.Outlet(3)
)

// OutletPrice is what each of them costs.
func OutletPrice(o protocol.Outlet) money.Amount { return money.New(100*int64(o), money.EUR) }

// HoldTime is how long the chair's relay is held.
const HoldTime = 1500 * time.Millisecond

type outletBench struct {
	bench
	b *virtual.Board
}

func newOutletBench(t *testing.T, mk NewOutlets) *outletBench {
	t.Helper()
	product := func(o protocol.Outlet) virtual.Product { return virtual.Product{Outlet: o, Price: OutletPrice(o)} }
	b, err := virtual.NewBoard(virtual.BoardConfig{
		Link: t.TempDir() + "/board", Drops: t.TempDir() + "/drops",
		Outlets: []virtual.BoardOutlet{
			{Product: product(Washer), Relay: 1, Pulses: 3, Feedback: 1, Button: 5},
			{Product: product(Chair), Relay: 2, Least: HoldTime - 100*time.Millisecond},
			{Product: product(Dispenser), Relay: 3, Button: 6},
		},
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	ob := &outletBench{bench: bench{t: t, ctx: ctx, make: NewVender(mk)}, b: b}
	t.Cleanup(func() { cancel(); <-done })
	ob.boot(0)
	return ob
}

func (b *outletBench) boot(epoch uint64) {
	b.t.Helper()
	b.l = NewLog(b.t)
	v, open, err := b.make(b.b.Path(), epoch, b.l.Out)
	must(b.t, err)
	b.v, b.stop = v, supervise(b.t, b.l, open)
}

func (b *outletBench) ready() {
	b.t.Helper()
	next(b.l, func(e hardware.BusState) bool { return e.State == hardware.BusStateEnabled }, 3*patience)
}

func (b *outletBench) seen(ok func(virtual.BoardView) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	must(b.t, b.b.Wait(ctx, ok))
}

// order approves an outlet that no button asked for.
func (b *outletBench) order(o protocol.Outlet) protocol.VendID {
	b.t.Helper()
	v := b.vend()
	must(b.t, b.v.Approve(v, protocol.BusKey{}, o, OutletPrice(o), 5*time.Second))
	return v
}

func (b *outletBench) ends(v protocol.VendID, want hardware.Delivery) {
	b.t.Helper()
	if how := Next(b.l, func(e hardware.Approval) bool { return e.Vend == v }).How; how != want {
		b.t.Errorf("the approval ended as %v, want %v; events:%s", how, want, b.l)
	}
}

func (b *outletBench) sold(v protocol.VendID, o protocol.Outlet, g protocol.Grade) {
	b.t.Helper()
	b.ends(v, hardware.ApprovalDelivered)
	if s := Next[hardware.VendSuccess](b.l, nil); s.Vend != v || s.Item != o || s.Grade != g {
		b.t.Errorf("success %+v", s)
	}
	b.once(v)
}

func (b *outletBench) gave(want int) {
	b.t.Helper()
	if got := len(b.b.Drops()); got != want {
		b.t.Errorf("the machines gave out %d, want %d; events:%s", got, want, b.l)
	}
}

// silent checks that nothing was said of a vend beside its approval's end.
func (b *outletBench) silent(v protocol.VendID) {
	b.t.Helper()
	said := count(b.l, func(e hardware.VendSuccess) bool { return e.Vend == v }) + count(b.l, func(e hardware.VendFailure) bool { return e.Vend == v })
	if said != 0 {
		b.t.Errorf("a result that nobody can know:%s", b.l)
	}
}

func (b *outletBench) press(o protocol.Outlet) hardware.VendRequest {
	b.t.Helper()
	for range 20 { // one that comes while the driver does not look, or too soon after another, is none
		must(b.t, b.b.Press(o))
		deadline := time.Now().Add(patience / 20)
		for time.Now().Before(deadline) {
			if r, ok := peek[hardware.VendRequest](b.l); ok {
				return r
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	b.t.Fatalf("no request of outlet %d; events:%s", o, b.l)
	return hardware.VendRequest{}
}

// Outlets is what every driver of outlets must do that we drive ourselves: the suite Vender, for a vending
// side without a bus.
func Outlets(t *testing.T, mk NewOutlets) {
	t.Helper()
	cases := map[string]func(*testing.T, *outletBench){
		"pulses, feedback": func(_ *testing.T, b *outletBench) {
			v := b.order(Washer)
			b.sold(v, Washer, protocol.GradeSensed)
			b.gave(1)
			b.sold(b.order(Washer), Washer, protocol.GradeSensed)
			b.gave(2)
		},
		"held, no feedback": func(t *testing.T, b *outletBench) {
			b.sold(b.order(Chair), Chair, protocol.GradeReported)
			b.seen(func(v virtual.BoardView) bool { return v.Relays == 0 && v.Drops == 1 })
			if v := b.b.View(); v.Longest > HoldTime+500*time.Millisecond {
				t.Errorf("on for %v", v.Longest)
			}
		},
		"a button orders": func(t *testing.T, b *outletBench) {
			r := b.press(Dispenser)
			if r.Bad != "" || r.Price != OutletPrice(Dispenser) || r.Item != Dispenser || r.Bus.IsZero() {
				t.Fatalf("request %+v", r)
			}
			v := b.vend()
			must(t, b.v.Approve(v, r.Bus, r.Item, r.Price, time.Second))
			must(t, b.v.Approve(v, r.Bus, r.Item, r.Price, time.Second)) // the same again
			b.sold(v, Dispenser, protocol.GradeReported)
			b.seen(func(v virtual.BoardView) bool { return v.Drops == 1 })
			if again := b.press(Dispenser); !again.Bus.Later(r.Bus) {
				t.Errorf("the second request's key %v is not later than %v", again.Bus, r.Bus)
			}
			b.gave(1)
		},
		"denied, and pressed again": func(t *testing.T, b *outletBench) {
			r := b.press(Dispenser)
			must(t, b.v.Deny(r.Bus))
			must(t, b.v.Deny(r.Bus))
			b.seen(func(v virtual.BoardView) bool { return v.Inputs == 0 })
			b.press(Dispenser)
			b.gave(0)
		},
		"words for a request that is over": func(t *testing.T, b *outletBench) {
			first := b.press(Dispenser)
			second := b.press(Washer)
			if n := count(b.l, func(hardware.VendCancel) bool { return true }); n != 1 {
				t.Errorf("the first was taken back %d times", n)
			}
			late := b.vend()
			must(t, b.v.Deny(first.Bus))
			must(t, b.v.Approve(late, first.Bus, first.Item, first.Price, time.Second))
			b.ends(late, hardware.ApprovalWithdrawn)
			v := b.vend()
			must(t, b.v.Approve(v, second.Bus, second.Item, second.Price, time.Second))
			b.sold(v, Washer, protocol.GradeSensed)
			b.gave(1)
		},
		"approve then deny": func(t *testing.T, b *outletBench) {
			v := b.order(Chair)
			must(t, b.v.Deny(protocol.BusKey{}))
			if how := Next(b.l, func(e hardware.Approval) bool { return e.Vend == v }).How; how == hardware.ApprovalDelivered {
				Next[hardware.VendSuccess](b.l, nil) // it was on already: it is not taken back
				b.seen(func(v virtual.BoardView) bool { return v.Drops == 1 })
			} else {
				b.gave(0)
			}
			b.once(v)
		},
		"one at a time": func(_ *testing.T, b *outletBench) {
			v := b.order(Chair)
			b.ends(v, hardware.ApprovalDelivered)
			b.ends(b.order(Washer), hardware.ApprovalWithdrawn)
			Next[hardware.VendSuccess](b.l, nil)
			b.seen(func(v virtual.BoardView) bool { return v.Drops == 1 })
		},
		"nothing starts": func(t *testing.T, b *outletBench) {
			must(t, b.b.Misbehave(virtual.FaultFail))
			v := b.order(Washer)
			b.ends(v, hardware.ApprovalDelivered)
			if e := Next[hardware.VendFailure](b.l, nil); e.Vend != v {
				t.Errorf("failure of %v", e.Vend)
			}
			b.gave(0)
		},
		"in use, or its input stuck": func(t *testing.T, b *outletBench) {
			must(t, b.b.Hold(1, true))
			v := b.vend()
			must(t, b.v.Approve(v, protocol.BusKey{}, Washer, OutletPrice(Washer), 300*time.Millisecond))
			b.ends(v, hardware.ApprovalWithdrawn)
			must(t, b.b.Press(Washer)) // its button does nothing either
			must(t, b.b.Hold(1, false))
			if n := count(b.l, func(hardware.VendRequest) bool { return true }); n != 0 {
				t.Errorf("%d requests of what is in use", n)
			}
			b.sold(b.order(Washer), Washer, protocol.GradeSensed)
			b.gave(1)
		},
		"feedback that stays": func(t *testing.T, b *outletBench) {
			must(t, b.b.Misbehave(virtual.FaultStuck))
			b.sold(b.order(Washer), Washer, protocol.GradeSensed)
			v := b.vend()
			must(t, b.v.Approve(v, protocol.BusKey{}, Washer, OutletPrice(Washer), 300*time.Millisecond))
			b.ends(v, hardware.ApprovalWithdrawn)
			b.gave(1)
		},
		"out of order after three": func(t *testing.T, b *outletBench) {
			for range 3 {
				must(t, b.b.Misbehave(virtual.FaultFail))
				b.ends(b.order(Washer), hardware.ApprovalDelivered)
				Next[hardware.VendFailure](b.l, nil)
			}
			b.ends(b.order(Washer), hardware.ApprovalWithdrawn)
			b.gave(0)
		},
		"refused by the board": func(t *testing.T, b *outletBench) {
			must(t, b.b.Misbehave(virtual.FaultException))
			v := b.order(Washer)
			b.ends(v, hardware.ApprovalWithdrawn)
			b.silent(v)
			b.sold(b.order(Washer), Washer, protocol.GradeSensed)
			b.gave(1)
		},
		"a command nobody heard, held": func(t *testing.T, b *outletBench) {
			must(t, b.b.Misbehave(virtual.FaultMissed))
			b.sold(b.order(Chair), Chair, protocol.GradeReported) // told again: the relay was seen off
			b.seen(func(v virtual.BoardView) bool { return v.Drops == 1 })
		},
		"an answer lost, held": func(t *testing.T, b *outletBench) {
			must(t, b.b.Misbehave(virtual.FaultLost))
			b.sold(b.order(Chair), Chair, protocol.GradeReported) // the relay was seen on
			b.seen(func(v virtual.BoardView) bool { return v.Drops == 1 && v.Pulses == 1 })
		},
		"a wrong checksum, held": func(t *testing.T, b *outletBench) {
			must(t, b.b.Misbehave(virtual.FaultCRC))
			b.sold(b.order(Chair), Chair, protocol.GradeReported)
			b.seen(func(v virtual.BoardView) bool { return v.Drops == 1 && v.Pulses == 1 })
		},
		"an answer lost, a pulse":      func(t *testing.T, b *outletBench) { b.doubt(t, virtual.FaultLost, 1) },
		"a command missed, a pulse":    func(t *testing.T, b *outletBench) { b.doubt(t, virtual.FaultMissed, 0) },
		"silent after it":              func(t *testing.T, b *outletBench) { b.doubt(t, virtual.FaultSilentDrop, 1) },
		"silent before it":             func(t *testing.T, b *outletBench) { b.doubt(t, virtual.FaultSilentJam, 0) },
		"a doubt in the middle":        doubtInMiddle,
		"unplugged in mid vend":        unplugMidVend,
		"unplugged before":             unplugBefore,
		"power cut while held":         cutHeld,
		"garbage":                      func(t *testing.T, b *outletBench) { b.noisy(t, virtual.FaultGarbage) },
		"two frames in one read":       func(t *testing.T, b *outletBench) { b.b.Line(virtual.LineJoins); b.noisy(t, virtual.FaultNone) },
		"gone in mid frame":            halfAnswer,
		"byte dribble":                 func(t *testing.T, b *outletBench) { b.noisy(t, virtual.FaultDribble) },
		"two answers in one read":      func(t *testing.T, b *outletBench) { b.noisy(t, virtual.FaultRepeat) },
		"restart in mid vend":          restartOutlet,
		"stopped in mid vend":          stopOutlet,
		"amount that is none":          outletInexact,
		"no sessions":                  noSessions,
		"no such outlet":               func(_ *testing.T, b *outletBench) { b.ends(b.order(77), hardware.ApprovalWithdrawn); b.gave(0) },
		"nothing after the end":        outletAfter,
		"a relay that was left on":     leftOn,
		"unplugged while it is wanted": unplugWanted,
	}
	if atDevice(t, cases, nil) { // what hangs at its relays only their wires know
		return
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newOutletBench(t, mk)
			b.ready()
			f(t, b)
		})
	}
}

// doubt: a pulse of 100 ms is over before anybody could look whether it was. It is not given again.
func (b *outletBench) doubt(t *testing.T, f virtual.Fault, drops int) {
	must(t, b.b.Misbehave(f))
	v := b.order(Dispenser)
	b.ends(v, hardware.ApprovalMaybe)
	Next[hardware.PortGone](b.l, nil)
	b.ready()
	b.silent(v)
	b.once(v)
	b.gave(drops)
	b.sold(b.order(Dispenser), Dispenser, protocol.GradeReported)
	b.seen(func(v virtual.BoardView) bool { return v.Drops == drops+1 && v.Relays == 0 })
}

func doubtInMiddle(t *testing.T, b *outletBench) {
	v := b.order(Washer)
	b.ends(v, hardware.ApprovalDelivered)
	must(t, b.b.Misbehave(virtual.FaultLost))
	Next[hardware.PortGone](b.l, nil)
	b.silent(v)
	b.once(v)
	b.gave(0)
}

func unplugMidVend(t *testing.T, b *outletBench) {
	must(t, b.b.Misbehave(virtual.FaultUnplugDrop))
	v := b.order(Chair)
	b.ends(v, hardware.ApprovalMaybe)
	Next[hardware.PortGone](b.l, nil)
	b.silent(v)
	b.seen(func(v virtual.BoardView) bool { return v.Relays == 0 && v.Pulses == 1 }) // the board ended it itself
	must(t, b.b.Replug())
	b.ready()
	b.once(v)
	b.sold(b.order(Chair), Chair, protocol.GradeReported)
	b.seen(func(v virtual.BoardView) bool { return v.Drops == 2 })
}

// halfAnswer: the cable goes in the middle of the board's answer. The approval ends once, and nothing is
// said of the vend.
func halfAnswer(t *testing.T, b *outletBench) {
	v := b.order(Chair)
	b.b.Line(virtual.LineHalf)
	if how := Next(b.l, func(e hardware.Approval) bool { return e.Vend == v }).How; how == hardware.ApprovalWithdrawn {
		b.gave(0)
	}
	Next[hardware.PortGone](b.l, nil)
	b.silent(v)
	must(t, b.b.Replug())
	b.ready()
	b.once(v)
	b.sold(b.order(Chair), Chair, protocol.GradeReported)
}

func unplugBefore(t *testing.T, b *outletBench) {
	must(t, b.b.Misbehave(virtual.FaultUnplugJam))
	v := b.order(Chair)
	b.ends(v, hardware.ApprovalMaybe) // it was written: who knows
	Next[hardware.PortGone](b.l, nil)
	b.silent(v)
	b.gave(0)
}

func unplugWanted(t *testing.T, b *outletBench) {
	r := b.press(Dispenser)
	must(t, b.b.Unplug())
	Next[hardware.PortGone](b.l, nil)
	if err := b.v.Approve(b.vend(), r.Bus, r.Item, r.Price, time.Second); !errors.Is(err, hardware.ErrPortGone) {
		t.Errorf("approve without a port: %v", err)
	}
	must(t, b.b.Replug())
	b.ready()
	late := b.vend()
	must(t, b.v.Approve(late, r.Bus, r.Item, r.Price, time.Second)) // of a request of the opening before
	b.ends(late, hardware.ApprovalWithdrawn)
	if again := b.press(Dispenser); again.Bus.BusEpoch <= r.Bus.BusEpoch {
		t.Errorf("the epoch did not rise: %v, %v", r.Bus, again.Bus)
	}
}

func cutHeld(t *testing.T, b *outletBench) {
	v := b.order(Chair)
	b.ends(v, hardware.ApprovalDelivered)
	must(t, b.b.PowerCut())
	Next[hardware.PortGone](b.l, nil)
	b.silent(v)
	b.gave(0)
}

func (b *outletBench) noisy(t *testing.T, f virtual.Fault) {
	must(t, b.b.Misbehave(f))
	b.sold(b.order(Washer), Washer, protocol.GradeSensed)
	b.press(Dispenser)
	must(t, b.b.Misbehave(virtual.FaultNone))
	if n := count(b.l, func(hardware.VendRequest) bool { return true }); n != 1 {
		t.Errorf("%d requests out of noise", n)
	}
	b.gave(1)
	b.seen(func(v virtual.BoardView) bool { return v.Pulses == 3 })
}

// restartOutlet: we are started again in the middle of a vend. Nothing is pulsed again, and nobody says
// what became of it.
func restartOutlet(t *testing.T, b *outletBench) {
	v := b.order(Washer)
	b.ends(v, hardware.ApprovalDelivered)
	b.stop()
	was := b.b.View().Pulses
	b.boot(9)
	must(t, b.v.Resume(v))
	b.ready()
	b.sold(b.order(Dispenser), Dispenser, protocol.GradeReported)
	b.silent(v)
	b.seen(func(v virtual.BoardView) bool { return v.Pulses >= was+1 })
	if p := b.b.View().Pulses; p > was+2 { // the one that was on, and the dispenser's
		t.Errorf("%d pulses after the restart", p-was)
	}
	if r := b.press(Washer); r.Bus.BusEpoch != 10 {
		t.Errorf("epoch %d", r.Bus.BusEpoch)
	}
}

// stopOutlet: stopped while a relay is held, it is off at once.
func stopOutlet(t *testing.T, b *outletBench) {
	b.ends(b.order(Chair), hardware.ApprovalDelivered)
	b.stop()
	b.seen(func(v virtual.BoardView) bool { return v.Relays == 0 })
	if v := b.b.View(); v.Longest >= HoldTime {
		t.Errorf("it was on for %v all the same", v.Longest)
	}
	b.gave(0)
}

func leftOn(t *testing.T, b *outletBench) {
	must(t, b.b.Switch(3)) // somebody else did, or its driver is confused
	Next(b.l, func(h hardware.Health) bool { return h.State == hardware.Degraded })
	b.seen(func(v virtual.BoardView) bool { return v.Relays == 0 })
}

func outletInexact(t *testing.T, b *outletBench) {
	for _, a := range []money.Amount{money.New(-1, money.EUR), money.New(150, money.USD), money.New(1<<40, money.EUR)} {
		if err := b.v.Approve(b.vend(), protocol.BusKey{}, Washer, a, time.Second); !errors.Is(err, hardware.ErrInexact) {
			t.Errorf("approve %v: %v", a, err)
		}
	}
	b.gave(0)
}

func noSessions(t *testing.T, b *outletBench) {
	must(t, b.v.Begin(OutletPrice(Washer)))
	Next[hardware.SessionComplete](b.l, nil)
	must(t, b.v.End())
	b.gave(0)
}

func outletAfter(t *testing.T, b *outletBench) {
	b.stop() // from here an event fails the test
	if err := b.v.Approve(b.vend(), protocol.BusKey{}, Washer, OutletPrice(Washer), time.Second); !errors.Is(err, hardware.ErrPortGone) {
		t.Errorf("approve after the end: %v", err)
	}
	must(t, b.b.Press(Washer))
	b.gave(0)
}
