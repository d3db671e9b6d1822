package gpio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coinop/hardware"

	"go.uber.org/goleak"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/conn/v3/gpio/gpiotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

// full is a board with everything.
func full() Config {
	return Config{
		Door: Input{Pin: "D"}, Tamper: Input{Pin: "T"}, Lamp: Output{Pin: "L"}, Buzzer: Output{Pin: "B"},
		Power: []Power{{Output: Output{Pin: "P"}, Device: "reader", Off: 2 * time.Second}},
	}
}

// bench is a machine and pins in a time that is given: everything that happens is a line.
type bench struct {
	t      *testing.T
	s      State
	now    time.Duration
	wake   time.Duration
	levels byte
	lines  []string
	reads  int
}

func newBench(t *testing.T, cfg Config, levels byte) *bench {
	b := &bench{t: t, s: NewState(cfg), now: time.Hour, levels: levels}
	b.step(hardware.Opened{})
	return b
}

func (b *bench) step(in any) {
	var o hardware.Output
	b.s, o = b.s.Step(b.now, in)
	b.wake = o.Wake
	for _, a := range o.Do {
		switch {
		case a.Emit != nil:
			b.lines = append(b.lines, fmt.Sprintf("%T%v", a.Emit, a.Emit))
		case a.Write[0] == opSet:
			b.lines = append(b.lines, fmt.Sprintf("out %b", a.Write[1]))
			b.step(hardware.Wrote{N: 2})
		default:
			b.reads++
			b.step(hardware.Wrote{N: 2})
			b.step(hardware.Bytes{B: []byte{b.levels}})
		}
	}
}

// edge is a level that the pins have seen change.
func (b *bench) edge(levels byte) {
	b.levels = levels
	b.step(hardware.Bytes{B: []byte{levels}})
}

func (b *bench) run(d time.Duration) {
	b.t.Helper()
	end := b.now + d
	for n := 0; b.wake > 0 && b.wake <= end; n++ {
		if n > 10000 {
			b.t.Fatalf("it spins at %v", b.now)
		}
		b.now = max(b.now, b.wake)
		b.step(hardware.Wake{})
	}
	b.now = end
}

// want checks what happened since, but for the lamp's and buzzer's own life where a word asks only for events.
func (b *bench) want(what string, lines ...string) {
	b.t.Helper()
	if !slices.Equal(b.lines, lines) {
		b.t.Errorf("%s:\n got %q\nwant %q", what, b.lines, lines)
	}
	b.lines = nil
}

// TestContacts: playback of levels against time.
func TestContacts(t *testing.T) {
	t.Parallel()
	contacts := Config{Door: Input{Pin: "D"}, Tamper: Input{Pin: "T"}}
	const closed, whole = bitDoor, bitTamper
	t.Run("at an opening", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, contacts, closed|whole)
		b.want("nothing has settled", "hardware.Health{board ready ready }", "out 0")
		b.run(39 * ms)
		b.want("not yet")
		b.run(2 * ms)
		b.want("settled", "hardware.Door{false}", "hardware.Tamper{board true}")
		b.step(hardware.Closed{})
		b.step(hardware.Opened{})
		b.run(100 * ms)
		b.want("again at the next", "hardware.Health{board ready ready }", "out 0", "hardware.Door{false}", "hardware.Tamper{board true}")
	})
	t.Run("a bounce is nothing, and one opening is one", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, contacts, closed|whole)
		b.run(time.Second)
		b.lines = nil
		b.edge(whole)
		b.run(30 * ms)
		b.edge(closed | whole)
		b.run(time.Second)
		b.want("30 ms")
		for range 9 {
			b.edge(whole)
			b.run(5 * ms)
			b.edge(closed | whole)
			b.run(5 * ms)
		}
		b.edge(whole)
		b.run(time.Second)
		b.want("it bounced, and is open", "hardware.Door{true}")
	})
	t.Run("a cut wire", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, contacts, closed|whole)
		b.run(time.Second)
		b.lines = nil
		b.edge(closed)
		b.run(40 * ms)
		b.want("cut", "hardware.Tamper{board false}")
		b.edge(closed | whole)
		b.run(40 * ms)
		b.want("mended", "hardware.Tamper{board true}")
	})
	t.Run("an edge that is lost is found", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, contacts, closed|whole)
		b.run(time.Second)
		b.lines = nil
		b.levels = closed // and nobody says so
		b.run(50 * time.Second)
		b.want("not seen")
		b.run(10*time.Second + 40*ms)
		b.want("within a minute", "hardware.Tamper{board false}")
		if b.reads != 2 {
			t.Errorf("read %d times", b.reads)
		}
	})
	t.Run("a contact that never settles", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, contacts, closed|whole)
		b.run(time.Second)
		b.lines = nil
		for i := range 300 {
			b.edge(closed | whole&byte(i<<1)) //nolint:gosec // small
			b.run(20 * ms)
		}
		b.want("broken", "hardware.Health{board degraded contact_bounces the tamper loop opens and closes all the time}")
		b.edge(closed | whole)
		b.run(time.Second)
		b.want("and well", "hardware.Health{board ready ready }")
	})
	t.Run("no contacts", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, Config{Buzzer: Output{Pin: "B"}}, 0)
		b.run(time.Hour)
		b.want("only that it is there", "hardware.Health{board ready ready }", "out 0")
	})
}

// TestSignals: what lamp and buzzer do, change by change.
func TestSignals(t *testing.T) {
	t.Parallel()
	cfg := full()
	cfg.Door, cfg.Tamper = Input{}, Input{}
	b := newBench(t, cfg, 0)
	b.run(time.Second)
	b.want("ready: the lamp is on", "hardware.Health{board ready ready }", "out 1")
	b.step(show{hardware.SignalOK})
	b.run(time.Second)
	b.want("approved: 2x150/100", "out 11", "out 0", "out 11", "out 0", "out 1")
	b.step(show{hardware.SignalNo})
	b.run(time.Second)
	b.want("declined: 3x60/60", "out 11", "out 0", "out 11", "out 0", "out 11", "out 0", "out 1")
	b.step(blink{2})
	b.run(2400 * ms) // of 2x200/300 0/1500
	b.want("a fault: two blinks, a pause", "out 0", "out 1", "out 0")
	b.run(200 * ms)
	b.want("and again", "out 1")
	b.step(show{hardware.SignalCard})
	b.run(2000 * ms)
	if got := strings.Join(b.lines, ","); !strings.HasPrefix(got, "out 11,") || !strings.HasSuffix(got, "out 0") {
		t.Errorf("a card beeps, and the fault's code goes on: %s", got)
	}
	b.lines = nil
	b.step(blink{0})
	b.run(time.Second)
	b.want("mended", "out 1")
	b.step(show{hardware.SignalFault})
	b.run(200 * ms)
	b.step(alarm{})
	b.run(10 * time.Second)
	if n := strings.Count(strings.Join(b.lines, ","), "out 1"); n < 20 {
		t.Errorf("the alarm: %q", b.lines)
	}
}

// TestPower: a device loses its power for its time, once however often it is asked, and a restart of the
// driver gives it back.
func TestPower(t *testing.T) {
	t.Parallel()
	cfg := Config{Power: full().Power}
	b := newBench(t, cfg, 0)
	b.lines = nil
	b.step(cycle{"reader"})
	b.run(time.Second)
	b.step(cycle{"reader"})
	b.step(cycle{"printer"})
	b.run(990 * ms)
	b.want("off", "out 100")
	b.run(20 * ms)
	b.want("and on", "out 0")
	b.run(time.Minute)
	b.want("for good")
	b.step(cycle{"reader"})
	b.step(hardware.Closed{})
	b.step(hardware.Opened{})
	b.want("a new opening", "out 100", "hardware.Health{board ready ready }", "out 0")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		cfg        Config
	}{
		{"all", "", full()},
		{"nothing", "want pins", Config{}},
		{"one pin twice", "pin X has two", Config{Door: Input{Pin: "X"}, Lamp: Output{Pin: "X"}}},
		{"power without a pin", "and a pin", Config{Lamp: Output{Pin: "X"}, Power: []Power{{Device: "reader"}}}},
		{"power too long", "31s is not between", Config{Power: []Power{{Device: "reader", Output: Output{Pin: "X"}, Off: 31 * time.Second}}}},
		{"power of one device twice", "a device of its own", Config{Power: []Power{{Device: "reader", Output: Output{Pin: "X"}}, {Device: "reader", Output: Output{Pin: "Y"}}}}},
	} {
		_, err := New(c.cfg, nil)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	b, err := New(full(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Cycle("printer"); err == nil || errors.Is(err, hardware.ErrPortGone) {
		t.Errorf("a device that has no relay: %v", err)
	}
	if err := b.Cycle("reader"); !errors.Is(err, hardware.ErrPortGone) {
		t.Errorf("no pins are open: %v", err)
	}
	if _, err := b.Open(t.Context()); !errors.Is(err, ErrNoPin) {
		t.Errorf("a computer without pins: %v", err)
	}
}

// contact is a pin that keeps its level, as one does that something pulls.
type contact struct {
	gpiotest.Pin
	noEdges bool
	broken  bool
}

func (c *contact) In(p gpio.Pull, e gpio.Edge) error {
	if c.broken {
		return errors.New("it is somebody else's")
	}
	if c.noEdges && e != gpio.NoEdge {
		return errors.New("no edges here")
	}
	l := c.Read()
	err := c.Pin.In(p, e)
	c.set(l)
	return err
}

func (c *contact) set(l gpio.Level) { _ = c.Out(l) }

// move is a level with an edge.
func (c *contact) move(l gpio.Level) {
	c.set(l)
	c.EdgesChan <- l
}

// register makes a pin of this computer, with a name of this test's.
func register(t *testing.T, name string, l gpio.Level) *contact {
	t.Helper()
	c := &contact{Pin: gpiotest.Pin{N: t.Name() + name, Num: -1, L: l, EdgesChan: make(chan gpio.Level, 8)}}
	if err := gpioreg.Register(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gpioreg.Unregister(c.N) })
	return c
}

// TestPins plays levels back at pins, through the driver: what is closed by level, that a pin without edges is
// asked, that relays are off when the driver goes, and the longest a relay is on though nobody switches it off.
func TestPins(t *testing.T) {
	t.Parallel()
	door, loop := register(t, "door", gpio.Low), register(t, "loop", gpio.High)
	loop.noEdges = true
	lamp, power := register(t, "lamp", gpio.Low), register(t, "power", gpio.Low)
	events := make(chan hardware.Event, 16)
	out := func(e hardware.Event) { events <- e }
	b, err := New(Config{
		Door: Input{Pin: door.N}, Tamper: Input{Pin: loop.N, High: true}, Lamp: Output{Pin: lamp.N, Low: true},
		Power: []Power{{Output: Output{Pin: power.N}, Device: "reader", Off: 100 * ms}},
	}, out)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ends sync.WaitGroup
	ends.Go(func() { _ = hardware.Supervise(ctx, "board", b.Open, out) })
	next := func(want hardware.Event) {
		t.Helper()
		select {
		case got := <-events:
			if got != want {
				t.Fatalf("%T%v, want %T%v", got, got, want, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%T%v never came", want, want)
		}
	}
	next(hardware.Health{Device: "board", State: hardware.Ready, Code: hardware.CodeReady})
	next(hardware.Door{})
	next(hardware.Tamper{Device: "board", Over: true})
	if lamp.Read() != gpio.Low { // active low: on
		t.Error("the lamp is off")
	}
	door.move(gpio.High)
	next(hardware.Door{Open: true})
	loop.set(gpio.Low) // no edge is told
	next(hardware.Tamper{Device: "board"})
	door.move(gpio.Low)
	next(hardware.Door{})
	if door.Pull() != gpio.PullUp || loop.Pull() != gpio.PullDown {
		t.Error("a wire that is cut would read as closed")
	}
	if err := b.Cycle("reader"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []gpio.Level{gpio.High, gpio.Low} {
		for end := time.Now().Add(20 * time.Second); power.Read() != want; time.Sleep(ms) {
			if time.Now().After(end) {
				t.Fatalf("the relay is never %v", want)
			}
		}
	}
	cancel()
	ends.Wait()
	if lamp.Read() != gpio.High {
		t.Error("the lamp stays on")
	}
}

// TestHalfABoard: a pin that cannot be had ends the opening with all that had begun.
func TestHalfABoard(t *testing.T) {
	t.Parallel()
	door, loop, lamp := register(t, "door", gpio.Low), register(t, "loop", gpio.Low), register(t, "lamp", gpio.High)
	loop.broken = true
	b, err := New(Config{Door: Input{Pin: door.N}, Tamper: Input{Pin: loop.N}, Lamp: Output{Pin: lamp.N}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "somebody else's") {
		t.Error(err)
	}
	if lamp.Read() != gpio.Low {
		t.Error("the lamp stays on")
	}
}

// TestMost: a relay goes off by itself when the driver does not switch it off.
func TestMost(t *testing.T) {
	t.Parallel()
	power := register(t, "power", gpio.Low)
	synctest.Test(t, func(t *testing.T) {
		p, err := openPins(Config{Power: []Power{{Output: Output{Pin: power.N}, Device: "reader", Off: 2 * time.Second}}})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = p.Write([]byte{opSet, bitPower})
		time.Sleep(2900 * ms)
		if power.Read() != gpio.High {
			t.Error("it is off too early")
		}
		time.Sleep(200 * ms)
		synctest.Wait()
		if power.Read() != gpio.Low {
			t.Error("it stays on")
		}
		_, _ = p.Write([]byte{opSet, bitPower})
		if err := p.Close(); err != nil || power.Read() != gpio.Low {
			t.Error("it is on after the driver has gone", err)
		}
		_, _ = p.Write([]byte{opSet, bitPower})
		if power.Read() != gpio.Low {
			t.Error("a driver that has gone switches")
		}
	})
}
