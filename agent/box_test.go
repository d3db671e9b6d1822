package agent_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/journal"
	"coinop/hardware"
	"coinop/hardware/gpio"
	"coinop/hardware/thermo"
	"coinop/protocol"
	"coinop/protocol/code"
)

// board is one that writes down what it is told, and says what the test wants.
type board struct {
	out   func(hardware.Event)
	open  chan struct{}
	cycle func(device string)
	alarm func()

	mu   sync.Mutex
	told []string
}

func newBoard() *board {
	return &board{open: make(chan struct{}), cycle: func(string) {}, alarm: func() {}}
}

func (b *board) config() agent.BoardConfig {
	return agent.BoardConfig{New: func(w agent.Wiring) (agent.Board, error) { b.out = w.Out; return b, nil }}
}

func (b *board) Open(context.Context) (hardware.Driver, error) { return b, nil }

func (b *board) Run(ctx context.Context) error {
	b.out(hardware.Health{Device: "board", State: hardware.Ready, Code: hardware.CodeReady})
	close(b.open)
	<-ctx.Done()
	return context.Cause(ctx)
}

func (b *board) tell(what string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, what)
	return nil
}

func (b *board) was(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, t := range b.told {
		if t == what {
			n++
		}
	}
	return n
}

func (b *board) Show(s hardware.Signal) error { return b.tell(s.String()) }
func (b *board) Blink(n int) error            { return b.tell("blink" + strings.Repeat("!", n)) }
func (b *board) Alarm() error                 { b.alarm(); return b.tell("alarm") }
func (b *board) Cycle(d string) error         { b.cycle(d); return b.tell("cycle " + d) }

// TestBoard: the box's door is every lane's; its lamp tells of the gravest fault and of tamper, and of that no
// sooner than it is on the disk.
func TestBoard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := newBoard()
	s.cfg.Board = b.config()
	second := s.cfg.Lanes[0]
	second.Lane, second.Readers = 1, nil
	s.cfg.Lanes = append(s.cfg.Lanes, second)
	onDisk := make(chan int, 1)
	b.alarm = func() {
		n := 0
		_, _ = journal.Peek(filepath.Join(s.cfg.Data, "journal"), func(o protocol.Opened) {
			if e, ok := o.Body.(protocol.DeviceEvent); ok && e.Code == "tamper" && e.Device == "board" {
				n++
			}
		})
		onDisk <- n
	}
	stop := s.start()
	<-b.open
	s.until("no way to the bank: 2", func() bool { return b.was("blink!!") > 0 })
	b.out(hardware.Door{Open: true})
	status := func() agent.Status {
		st, err := agent.AskStatus(s.cfg.Data)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	s.until("both doors", func() bool {
		l := status().Lanes
		return len(l) == 2 && l[0].DoorOpen && l[1].DoorOpen
	})
	b.out(hardware.Tamper{Device: "board"})
	if n := <-onDisk; n != 2 { // of two lanes
		t.Errorf("%d records before the alarm", n)
	}
	s.until("opened: 7", func() bool { return b.was("blink"+strings.Repeat("!", 7)) > 0 })
	if b.was("fault") == 0 {
		t.Error("the lamp shows that all is well")
	}
	st := status()
	if !st.Lanes[0].Tampered || !st.Lanes[1].Tampered || st.Faults[0].Code != code.Tamper || st.Box[0].State != "ready" {
		t.Errorf("%+v", st)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestBoardAbsent: on a computer without pins a board is a fault, or none when the file says so; sales go on.
func TestBoardAbsent(t *testing.T) {
	t.Parallel()
	for _, optional := range []bool{false, true} {
		s := newSite(t)
		s.cfg.Board = agent.BoardConfig{Optional: optional, New: agent.Pins(gpio.Config{Door: gpio.Input{Pin: "NO_SUCH_PIN"}})}
		stop := s.start()
		var st agent.Status
		s.until("absent", func() bool {
			var err error
			st, err = agent.AskStatus(s.cfg.Data)
			return err == nil && len(st.Box) == 1
		})
		if d := st.Box[0]; d.State != "absent" || d.Code != code.BoardAbsent || !strings.Contains(d.Detail, "NO_SUCH_PIN") {
			t.Errorf("%+v", d)
		}
		if is := slices.ContainsFunc(st.Faults, func(f code.Fault) bool { return f.Code == code.BoardAbsent }); is == optional {
			t.Errorf("optional %v: %+v", optional, st.Faults)
		}
		s.enabled()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPowerCycle: a reader that hangs gets its power taken away, and is back; that it was is a record.
func TestPowerCycle(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := newBoard()
	s.cfg.Board = b.config()
	s.cfg.Board.Power = []agent.Power{{Relay: "relay 1", Device: "reader", After: 100 * time.Millisecond}}
	times := 0
	b.cycle = func(string) {
		if times++; times == 2 { // the first is in vain
			s.reader.Mute(false)
		}
	}
	s.reader.Mute(true)
	stop := s.start()
	s.until("the reader", func() bool {
		st, err := agent.AskStatus(s.cfg.Data)
		return err == nil && len(st.Lanes) == 1 && slices.ContainsFunc(st.Lanes[0].Devices, func(d agent.DeviceStatus) bool { return d.Name == "reader" && d.State == "ready" })
	})
	s.until("that it is back", func() bool { return strings.Contains(s.log.String(), "a device is back after its power was") })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	got := s.events("recovery.power_cycle")
	if len(got) != b.was("cycle relay 1") || len(got) < 2 || got[0].Device != "lane 0 reader" || !strings.Contains(got[1].Detail, "time 2") {
		t.Errorf("%+v", got)
	}
}

// TestTemperatures: what a thermometer says stands in the status and is told; one that says nothing is a fault, and
// has no temperature; that it is back is a record too.
func TestTemperatures(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.cfg.Telemetry = time.Minute
	readings := make(chan thermo.Milli)
	s.cfg.Thermometers = []thermo.Sensor{{Name: "cabinet", Low: 2000, High: 8000, Open: func() (thermo.Source, error) { return milli(readings), nil }}}
	s.cfg.ThermometersEvery = time.Millisecond
	stop := s.start()
	shut := sync.OnceFunc(func() { close(readings) })
	t.Cleanup(shut)
	status := func(ok func(agent.Status) bool) func() bool {
		return func() bool {
			st, err := agent.AskStatus(s.cfg.Data)
			return err == nil && ok(st)
		}
	}
	has := func(st agent.Status, c code.Code) bool {
		return slices.ContainsFunc(st.Faults, func(f code.Fault) bool { return f.Code == c })
	}
	readings <- 5100
	s.until("measured", status(func(st agent.Status) bool {
		return len(st.Temperatures) == 1 && st.Temperatures[0].Name == "cabinet" && st.Temperatures[0].Milli == 5100
	}))
	readings <- 9000
	s.until("too hot", status(func(st agent.Status) bool { return has(st, code.TooHot) }))
	for range 3 {
		readings <- -127000
	}
	s.until("lost", status(func(st agent.Status) bool { return len(st.Temperatures) == 0 && has(st, code.SensorLost) }))
	readings <- 5200
	s.until("well again", status(func(st agent.Status) bool {
		return len(st.Temperatures) == 1 && !has(st, code.SensorLost) && !has(st, code.TooHot)
	}))
	shut()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range s.events("too_hot sensor_lost ready") {
		got = append(got, e.Code)
	}
	if !slices.Equal(got[:min(3, len(got))], []string{"too_hot", "sensor_lost", "ready"}) {
		t.Errorf("%q", got)
	}
}

// milli is a sensor that says what it is given; closed, it is a line without one.
type milli chan thermo.Milli

func (m milli) Sense() (thermo.Milli, error) {
	v, ok := <-m
	if !ok {
		return 0, thermo.ErrChecksum
	}
	return v, nil
}

func (m milli) Close() error { return nil }
