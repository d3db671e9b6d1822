package outlet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"

	"go.uber.org/goleak"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/conn/v3/gpio/gpiotest"
)

// childVar holds the tty of a child that is the agent, to be killed.
const childVar = "COINOP_OUTLET_TTY"

func TestMain(m *testing.M) {
	if tty := os.Getenv(childVar); tty != "" {
		child(tty)
		return
	}
	goleak.VerifyTestMain(m)
}

func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }

func TestConfig(t *testing.T) {
	t.Parallel()
	good := Outlet{Number: 1, Price: eur(100), Relay: 1}
	with := func(f func(*Outlet)) Outlet { o := good; f(&o); return o }
	pins := func() (Pins, error) { return nil, errors.New("none") }
	for _, c := range []struct {
		name, want string
		cfg        Config
	}{
		{"good", "", Config{Path: "x", Currency: money.EUR, Outlets: []Outlet{good}}},
		{"pins count finer", "", Config{Pins: pins, Currency: money.EUR, Outlets: []Outlet{with(func(o *Outlet) { o.On = 50 * time.Millisecond })}}},
		{"nothing", "want outlets", Config{}},
		{"board and pins", "a port or pins", Config{Path: "x", Pins: pins, Currency: money.EUR, Outlets: []Outlet{good}}},
		{"number twice", "its number is another's", Config{Path: "x", Currency: money.EUR, Outlets: []Outlet{good, good}}},
		{"relay twice", "relay 1 is none, or another's", Config{Path: "x", Currency: money.EUR, Outlets: []Outlet{good, with(func(o *Outlet) { o.Number = 2 })}}},
		{"no relay", "relay 0", Config{Path: "x", Currency: money.EUR, Outlets: []Outlet{with(func(o *Outlet) { o.Relay = 0 })}}},
		{"no price", "no price", Config{Path: "x", Currency: money.EUR, Outlets: []Outlet{with(func(o *Outlet) { o.Price = eur(0) })}}},
		{"other money", "no price", Config{Path: "x", Currency: money.USD, Outlets: []Outlet{good}}},
		{"on too long", "it would be on for 11s, the most is 10s", Config{Path: "x", Currency: money.EUR, Outlets: []Outlet{with(func(o *Outlet) { o.On = 11 * time.Second })}}},
		{"on between", "50ms is no number of 100ms", Config{Path: "x", Currency: money.EUR, Outlets: []Outlet{with(func(o *Outlet) { o.On = 50 * time.Millisecond })}}},
		{"always, two", "not the only one", Config{Path: "x", Currency: money.EUR, Outlets: []Outlet{with(func(o *Outlet) { o.Always = true }), with(func(o *Outlet) { o.Number, o.Relay = 2, 2 })}}},
		{"input", "no such input", Config{Path: "x", Currency: money.EUR, Outlets: []Outlet{with(func(o *Outlet) { o.Button = 99 })}}},
	} {
		_, err := New(c.cfg, nil)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if d := (Outlet{Pulses: 3, On: time.Second, Off: 2 * time.Second, Feedback: 1, Window: 5 * time.Second}).Takes(); d != 12*time.Second {
		t.Error(d)
	}
}

// pure is a machine and a board that answers at once, in a time that is given.
type pure struct {
	t      *testing.T
	s      State
	now    time.Duration
	wake   time.Duration
	events []hardware.Event
	told   []Request // 05
	relays uint32
	until  time.Duration // the one that was told last is on
	inputs uint32
	end    error
}

func newPure(t *testing.T, outlets ...Outlet) *pure {
	t.Helper()
	p := &pure{t: t, s: NewState(Config{Path: "x", Currency: money.EUR, Outlets: outlets}), now: time.Hour}
	p.step(hardware.Opened{})
	p.run(50 * time.Millisecond)
	return p
}

func (p *pure) step(in any) {
	p.t.Helper()
	var o hardware.Output
	p.s, o = p.s.Step(p.now, in)
	p.wake = o.Wake
	if o.End != nil {
		p.end = o.End
	}
	for _, a := range o.Do {
		if a.Emit != nil {
			p.events = append(p.events, a.Emit)
			continue
		}
		p.step(hardware.Wrote{N: len(a.Write)})
		r, err := ParseRequest(a.Write)
		if err != nil {
			p.t.Fatalf("% X: %v", a.Write, err)
		}
		p.now += 10 * time.Millisecond
		bits := p.relays
		switch r.Function {
		case readCoils:
			if p.now < p.until {
				bits |= 1 << p.told[len(p.told)-1].At
			}
		case readInputs:
			bits = p.inputs
		case writeCoil:
			p.told, p.until = append(p.told, r), p.now+r.Flash
		}
		p.now += 10 * time.Millisecond
		p.step(hardware.Bytes{B: r.AppendAnswer(nil, bits)})
	}
}

// run lets time pass, waking as asked.
func (p *pure) run(d time.Duration) {
	p.t.Helper()
	end := p.now + d
	for p.wake > 0 && p.wake <= end {
		if p.wake > p.now {
			p.now = p.wake
		} else {
			p.now++ // a wake in the past that changes nothing would spin
		}
		p.step(hardware.Wake{})
	}
	p.now = max(p.now, end)
}

func has[E hardware.Event](p *pure) (out []E) {
	for _, e := range p.events {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

var vend = protocol.VendID{1}

// TestTrain: so many pulses, each as long as told, with their pauses; the result after the last has ended.
func TestTrain(t *testing.T) {
	t.Parallel()
	p := newPure(t, Outlet{Number: 7, Price: eur(300), Relay: 4, Pulses: 6, On: 200 * time.Millisecond, Off: 400 * time.Millisecond})
	p.step(approve{vend: vend, outlet: 7, by: p.now + time.Second})
	var at []time.Duration
	for range 1000 {
		p.run(10 * time.Millisecond)
		if len(p.told) > len(at) {
			at = append(at, p.now)
		}
		if len(at) == 6 && p.now < at[5]+150*time.Millisecond && len(has[hardware.VendSuccess](p)) > 0 {
			t.Error("a success before the last pulse has ended")
		}
	}
	if len(has[hardware.VendSuccess](p)) != 1 {
		t.Errorf("%+v", p.events)
	}
	if len(at) != 6 {
		t.Fatalf("%d pulses: %v", len(at), at)
	}
	for i := range at[1:] {
		if d := at[i+1] - at[i]; d < 590*time.Millisecond || d > 690*time.Millisecond {
			t.Errorf("%v between pulse %d and the next", d, i+1)
		}
	}
	for _, r := range p.told {
		if r.At != 3 || r.Flash != 200*time.Millisecond {
			t.Errorf("%+v", r)
		}
	}
	if a := has[hardware.Approval](p); len(a) != 1 || a[0].How != hardware.ApprovalDelivered {
		t.Errorf("%+v", a)
	}
}

// TestMaxOn: no way to a relay is longer than the most, whatever the configuration became.
func TestMaxOn(t *testing.T) {
	t.Parallel()
	p := newPure(t, Outlet{Number: 7, Price: eur(300), Relay: 1, On: time.Hour, MaxOn: 2 * time.Second})
	p.step(approve{vend: vend, outlet: 7, by: p.now + time.Second})
	p.run(10 * time.Millisecond)
	if len(p.told) != 1 || p.told[0].Flash != 2*time.Second {
		t.Errorf("%+v", p.told)
	}
}

// TestFeedback: a level that does not last is none; one that does is the result; one in the way holds up.
func TestFeedback(t *testing.T) {
	t.Parallel()
	o := Outlet{Number: 7, Price: eur(300), Relay: 1, Feedback: 2, Window: time.Second}
	t.Run("bounce", func(t *testing.T) {
		t.Parallel()
		p := newPure(t, o)
		p.step(approve{vend: vend, outlet: 7, by: p.now + time.Second})
		p.run(60 * time.Millisecond)
		p.inputs = 2
		p.run(20 * time.Millisecond) // one reading
		p.inputs = 0
		p.run(3 * time.Second)
		if len(has[hardware.VendFailure](p)) != 1 || len(has[hardware.VendSuccess](p)) != 0 {
			t.Errorf("%+v", p.events)
		}
	})
	t.Run("another input", func(t *testing.T) {
		t.Parallel()
		p := newPure(t, o)
		p.step(approve{vend: vend, outlet: 7, by: p.now + time.Second})
		p.run(60 * time.Millisecond)
		p.inputs = 1
		p.run(3 * time.Second)
		if len(has[hardware.VendFailure](p)) != 1 {
			t.Errorf("%+v", p.events)
		}
	})
	t.Run("in time", func(t *testing.T) {
		t.Parallel()
		p := newPure(t, o)
		p.step(approve{vend: vend, outlet: 7, by: p.now + time.Second})
		p.run(900 * time.Millisecond)
		p.inputs = 2
		p.run(3 * time.Second)
		if s := has[hardware.VendSuccess](p); len(s) != 1 || s[0].Grade != protocol.GradeSensed {
			t.Errorf("%+v", p.events)
		}
	})
	t.Run("in the way, then not", func(t *testing.T) {
		t.Parallel()
		p := newPure(t, o)
		p.inputs = 2
		p.run(300 * time.Millisecond)
		p.step(approve{vend: vend, outlet: 7, by: p.now + time.Second})
		p.run(500 * time.Millisecond)
		if len(p.told) != 0 {
			t.Fatalf("pulsed: %+v", p.told)
		}
		p.inputs = 0
		p.run(200 * time.Millisecond)
		if len(p.told) != 1 {
			t.Errorf("%d pulses; %+v", len(p.told), p.events)
		}
	})
	t.Run("in the way", func(t *testing.T) {
		t.Parallel()
		p := newPure(t, o)
		p.inputs = 2
		p.run(300 * time.Millisecond)
		p.step(approve{vend: vend, outlet: 7, by: p.now + time.Second})
		p.run(2 * time.Second)
		if a := has[hardware.Approval](p); len(p.told) != 0 || len(a) != 1 || a[0].How != hardware.ApprovalWithdrawn {
			t.Errorf("%d pulses; %+v", len(p.told), p.events)
		}
	})
}

// TestAlways: an outlet that needs no button is offered as long as nobody wants it, not more often than it
// must, and not while it runs.
func TestAlways(t *testing.T) {
	t.Parallel()
	p := newPure(t, Outlet{Number: 7, Price: eur(300), Relay: 1, On: 2 * time.Second, Always: true})
	r := has[hardware.VendRequest](p)
	if len(r) != 1 || r[0].Item != 7 || r[0].Price != eur(300) {
		t.Fatalf("%+v", p.events)
	}
	p.run(time.Minute)
	p.step(deny{bus: r[0].Bus})
	p.run(time.Minute)
	if r = has[hardware.VendRequest](p); len(r) != 2 || !r[1].Bus.Later(r[0].Bus) {
		t.Fatalf("%+v", r)
	}
	p.step(approve{vend: vend, bus: r[1].Bus, outlet: 7, by: p.now + time.Second})
	p.run(1500 * time.Millisecond)
	if n := len(has[hardware.VendRequest](p)); n != 2 {
		t.Errorf("offered while it runs")
	}
	p.run(5 * time.Second)
	if n := len(has[hardware.VendRequest](p)); n != 3 || len(has[hardware.VendSuccess](p)) != 1 {
		t.Errorf("%d offers; %+v", n, p.events)
	}
}

// TestTooLate: an approval whose time is over is not begun.
func TestTooLate(t *testing.T) {
	t.Parallel()
	p := newPure(t, Outlet{Number: 7, Price: eur(300), Relay: 1})
	p.step(approve{vend: vend, outlet: 7, by: p.now})
	p.step(approve{vend: vend, outlet: 7, by: p.now + time.Hour}) // the same again
	p.run(time.Second)
	if a := has[hardware.Approval](p); len(p.told) != 0 || len(a) != 1 || a[0].How != hardware.ApprovalWithdrawn {
		t.Errorf("%+v %+v", p.told, a)
	}
}

// TestStaysOn: a relay that does not go off ends the opening; nothing is sold.
func TestStaysOn(t *testing.T) {
	t.Parallel()
	p := newPure(t, Outlet{Number: 7, Price: eur(300), Relay: 1})
	p.relays = 1
	p.run(5 * time.Second)
	if !errors.Is(p.end, errRelayOn) {
		t.Errorf("%v %+v", p.end, p.events)
	}
}

// TestGPIO: the same driver on pins of this computer: off at open, on by level, off by itself, off at close.
func TestGPIO(t *testing.T) {
	t.Parallel()
	relay := &gpiotest.Pin{N: "OUTLET_R1", Num: 9001, L: gpio.High}
	button := &gpiotest.Pin{N: "OUTLET_B1", Num: 9002, L: gpio.High}
	for _, p := range []*gpiotest.Pin{relay, button} {
		if err := gpioreg.Register(p); err != nil {
			t.Fatal(err)
		}
	}
	level := func(p *gpiotest.Pin) gpio.Level { p.Lock(); defer p.Unlock(); return p.L }
	events := make(chan hardware.Event, 256)
	b, err := New(Config{
		Pins:      GPIO(GPIOConfig{Relays: []string{"OUTLET_R1"}, Inputs: []string{"OUTLET_B1"}, RelaysLow: false, InputsLow: true}),
		InputsLow: true, Currency: money.EUR,
		Outlets: []Outlet{{Number: 3, Price: eur(100), Relay: 1, Pulses: 2, On: 50 * time.Millisecond, Off: 50 * time.Millisecond, Button: 1}},
	}, func(e hardware.Event) { events <- e })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hardware.Supervise(ctx, "outlets", b.Open, func(e hardware.Event) { events <- e }) })
	defer wg.Wait()
	defer cancel()
	await := func(ok func(hardware.Event) bool) {
		t.Helper()
		for deadline := time.After(10 * time.Second); ; {
			select {
			case e := <-events:
				if ok(e) {
					return
				}
			case <-deadline:
				t.Fatal("nothing came")
			}
		}
	}
	await(func(e hardware.Event) bool { _, ok := e.(hardware.BusState); return ok })
	if level(relay) != gpio.Low {
		t.Error("on at open")
	}
	time.Sleep(100 * time.Millisecond) // it has looked at the button once
	_ = button.Out(gpio.Low)
	var r hardware.VendRequest
	await(func(e hardware.Event) (ok bool) { r, ok = e.(hardware.VendRequest); return ok })
	if err := b.Approve(vend, r.Bus, r.Item, r.Price, time.Second); err != nil {
		t.Fatal(err)
	}
	on := 0
	for was := gpio.Low; on < 2; {
		if now := level(relay); now != was {
			was = now
			if now {
				on++
			}
		}
	}
	await(func(e hardware.Event) bool { s, ok := e.(hardware.VendSuccess); return ok && s.Vend == vend })
	for end := time.Now().Add(10 * time.Second); level(relay) != gpio.Low; time.Sleep(time.Millisecond) { // by a timer of its own
		if time.Now().After(end) {
			t.Fatal("on after its pulses")
		}
	}
	if _, err := GPIO(GPIOConfig{Relays: []string{"NO_SUCH"}})(); err == nil || !strings.Contains(err.Error(), "NO_SUCH: this computer has no such pin") {
		t.Error(err)
	}
	if err := b.Approve(protocol.VendID{2}, protocol.BusKey{}, 3, eur(100), time.Second); err != nil {
		t.Fatal(err)
	}
	await(func(e hardware.Event) bool { _, ok := e.(hardware.Approval); return ok })
	cancel()
	wg.Wait()
	if level(relay) != gpio.Low {
		t.Error("on at the end")
	}
}

// TestPinEnds: a pin goes off by itself, and by Close, whatever the driver does; a new time replaces one.
func TestPinEnds(t *testing.T) {
	t.Parallel()
	pin := &gpiotest.Pin{N: "OUTLET_R9", Num: 9009}
	g := &gpioPins{cfg: GPIOConfig{RelaysLow: true}, relays: []gpio.PinIO{pin}, off: map[int]*time.Timer{}}
	low := func() bool { pin.Lock(); defer pin.Unlock(); return pin.L == gpio.Low }
	if err := errors.Join(g.On(0, time.Hour), g.On(0, time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for low() {
		time.Sleep(time.Millisecond)
	}
	if err := g.On(0, time.Hour); err != nil || !low() {
		t.Error(err, low())
	}
	if err := g.Close(); err != nil || low() {
		t.Error(err, low())
	}
	if g.On(0, time.Hour) == nil || low() {
		t.Error("on after Close")
	}
}

func washer(tty string, out func(hardware.Event)) (*Board, error) {
	return New(Config{Path: tty, Currency: money.EUR, Outlets: []Outlet{{Number: 1, Price: eur(100), Relay: 1, On: 2 * time.Second}}}, out)
}

// child orders as soon as it can, and never ends by itself.
func child(tty string) {
	var b *Board
	ordered := false
	b, err := washer(tty, func(e hardware.Event) {
		switch e := e.(type) {
		case hardware.BusState:
			if !ordered {
				ordered = true
				_ = b.Approve(vend, protocol.BusKey{}, 1, eur(100), time.Second)
			}
		case hardware.Approval:
			fmt.Println("approval", e.How)
		}
	})
	if err == nil {
		err = hardware.Supervise(context.Background(), "outlets", b.Open, func(hardware.Event) {})
	}
	fmt.Println(err)
}

// TestKilled: kill -9 while a relay is on. The board ends its time; a process that comes after switches
// off at once what is still on, and gives nothing again.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprint("started again ", again), func(t *testing.T) {
			t.Parallel()
			far, err := virtual.NewBoard(virtual.BoardConfig{Link: t.TempDir() + "/board", Outlets: []virtual.BoardOutlet{{Product: virtual.Product{Outlet: 1, Price: eur(100)}, Relay: 1, Least: 1900 * time.Millisecond}}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = far.Run(ctx) })
			defer wg.Wait()
			defer cancel()
			agent := exec.CommandContext(ctx, os.Args[0]) //nolint:gosec // ourselves
			agent.Env = append(os.Environ(), childVar+"="+far.Path())
			says, err := agent.StdoutPipe()
			if err == nil {
				err = agent.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			for lines := bufio.NewScanner(says); lines.Scan() && lines.Text() != "approval delivered"; {
			}
			if far.View().Relays != 1 {
				t.Fatalf("%+v", far.View())
			}
			if err := agent.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = agent.Wait()
			want := 1 // it ran its time
			if again {
				want = 0
				b, err := washer(far.Path(), func(hardware.Event) {})
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { _ = hardware.Supervise(ctx, "outlets", b.Open, func(hardware.Event) {}) })
			}
			short, done := context.WithTimeout(ctx, 20*time.Second)
			defer done()
			if err := far.Wait(short, func(v virtual.BoardView) bool { return v.Relays == 0 }); err != nil {
				t.Fatal(err)
			}
			if v := far.View(); v.Drops != want || v.Longest > 2500*time.Millisecond {
				t.Errorf("%+v", v)
			}
		})
	}
}
