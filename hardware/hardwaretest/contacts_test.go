package hardwaretest

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/conn/v3/gpio/gpiotest"

	"coinop/hardware"
	pins "coinop/hardware/gpio"
	board "coinop/hardware/outlet"
	"coinop/hardware/virtual"
	"coinop/protocol/money"
)

// TestContactsAtBoard: at inputs of a relay board.
func TestContactsAtBoard(t *testing.T) {
	t.Parallel()
	DoorAndTamper(t, func(t *testing.T, out func(hardware.Event)) (Contacts, func(context.Context) (hardware.Driver, error)) {
		far, err := virtual.NewBoard(virtual.BoardConfig{Link: filepath.Join(t.TempDir(), "board")})
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = far.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		b, err := board.New(board.Config{
			Path: far.Path(), Currency: money.EUR, Door: 7, Tamper: 8,
			Outlets: []board.Outlet{{Number: 1, Price: money.New(100, money.EUR), Relay: 1}},
		}, out)
		must(t, err)
		return Contacts{
			Move:   func(open, whole bool) { must(t, far.Hold(7, open)); must(t, far.Hold(8, whole)) },
			Unplug: func() { must(t, far.Unplug()) },
			Replug: func() { must(t, far.Replug()) },
		}, b.Open
	})
}

// TestContactsAtPins: at pins of this computer, closed to ground.
func TestContactsAtPins(t *testing.T) {
	t.Parallel()
	DoorAndTamper(t, func(t *testing.T, out func(hardware.Event)) (Contacts, func(context.Context) (hardware.Driver, error)) {
		door, loop := register(t, "DOOR"), register(t, "LOOP")
		b, err := pins.New(pins.Config{Door: pins.Input{Pin: door.N}, Tamper: pins.Input{Pin: loop.N}}, out)
		must(t, err)
		return Contacts{Move: func(open, whole bool) { door.move(open); loop.move(!whole) }}, b.Open
	})
}

// pulled is a pin that something outside pulls: it keeps its level when it becomes an input.
type pulled struct{ gpiotest.Pin }

func register(t *testing.T, name string) *pulled {
	t.Helper()
	p := &pulled{gpiotest.Pin{N: strings.ReplaceAll(t.Name(), "/", "_") + name, Num: -1, EdgesChan: make(chan gpio.Level, 16)}}
	must(t, gpioreg.Register(p))
	t.Cleanup(func() { must(t, gpioreg.Unregister(p.N)) })
	return p
}

func (p *pulled) In(pull gpio.Pull, e gpio.Edge) error {
	l := p.Read()
	defer func() { _ = p.Out(l) }()
	return p.Pin.In(pull, e)
}

func (p *pulled) move(high bool) {
	if l := gpio.Level(high); p.Read() != l {
		_ = p.Out(l)
		select {
		case p.EdgesChan <- l:
		default: // nobody waits for edges yet
		}
	}
}
