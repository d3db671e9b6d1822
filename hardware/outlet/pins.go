package outlet

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	board "coinop/hardware/gpio"

	"periph.io/x/conn/v3/gpio"
)

// Pins are relays and inputs that are no board's. Bit 0 is relay 1, input 1.
type Pins interface {
	On(relay int, d time.Duration) error // from 0; it goes off by itself after d
	Off() error                          // all of them
	Relays() (uint32, error)
	Inputs() (uint32, error)
	Close() error // all off
}

// pinUnit is what pins count on-times in, where a board counts in flashUnit.
const pinUnit = 10 * time.Millisecond

// local is a board made of pins: the driver speaks with it as with one at the end of a cable, so that
// both are driven, and tested, the same way.
type local struct {
	pins    Pins
	address byte
	answers chan []byte
	done    chan struct{}
	once    sync.Once
	rest    []byte
}

func openLocal(cfg Config) (*local, error) {
	p, err := cfg.Pins()
	if err != nil {
		return nil, err
	}
	return &local{pins: p, address: cfg.Address, answers: make(chan []byte, 4), done: make(chan struct{})}, nil
}

// Write carries a frame out.
func (l *local) Write(b []byte) (int, error) {
	r, err := ParseRequest(b)
	if err != nil {
		return 0, err
	}
	var bits uint32
	switch {
	case r.Flash > 0:
		err = l.pins.On(int(r.At), r.Flash/flashUnit*pinUnit)
	case r.Function == readCoils:
		bits, err = l.pins.Relays()
	case r.Function == readInputs:
		bits, err = l.pins.Inputs()
	case r.Function == writeCoils && r.Bits == 0:
		err = l.pins.Off()
	default:
		err = errors.New("not of ours")
	}
	answer := r.AppendAnswer(nil, bits)
	if err != nil {
		answer = r.AppendException(nil, 4)
	}
	select {
	case l.answers <- answer:
	case <-l.done:
		return 0, os.ErrClosed
	default: // nobody reads: lost, as on a line
	}
	return len(b), nil
}

func (l *local) Read(b []byte) (int, error) {
	if len(l.rest) == 0 {
		select {
		case l.rest = <-l.answers:
		case <-l.done:
			return 0, os.ErrClosed
		}
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *local) SetWriteDeadline(time.Time) error { return nil }

func (l *local) Close() (err error) {
	l.once.Do(func() {
		close(l.done)
		err = l.pins.Close()
	})
	return err
}

// GPIOConfig names pins as periph.io does: GPIO17.
type GPIOConfig struct {
	Relays, Inputs []string
	RelaysLow      bool // a relay is on at low level
	InputsLow      bool // an input is active at low level: it is pulled up, else down
}

// GPIO is pins of this computer, as Config.Pins.
//
// A pin goes off by a timer of this process. When that is killed in the middle of a pulse, the pin stays
// as it is until the next opening, where all go off: Linux promises no more (a line's level after its last
// user is gone is the driver's choice). So a relay at a pin that must not stay on for a second too long
// needs a time relay, or a board that ends its own pulses.
func GPIO(c GPIOConfig) func() (Pins, error) {
	return func() (Pins, error) {
		g := &gpioPins{cfg: c, off: map[int]*time.Timer{}}
		for _, names := range []struct {
			of []string
			to *[]gpio.PinIO
		}{{c.Relays, &g.relays}, {c.Inputs, &g.inputs}} {
			for _, name := range names.of {
				p, err := board.Pin(name)
				if err != nil {
					return nil, err
				}
				*names.to = append(*names.to, p)
			}
		}
		pull := gpio.PullDown
		if c.InputsLow {
			pull = gpio.PullUp
		}
		if err := g.Off(); err != nil {
			return nil, err
		}
		for _, p := range g.inputs {
			if err := p.In(pull, gpio.NoEdge); err != nil {
				return nil, fmt.Errorf("gpio %s: %w", p, err)
			}
		}
		return g, nil
	}
}

type gpioPins struct {
	cfg            GPIOConfig
	relays, inputs []gpio.PinIO

	mu  sync.Mutex
	off map[int]*time.Timer
	on  uint32
	end bool
}

func (g *gpioPins) set(relay int, on bool) error {
	if err := g.relays[relay].Out(gpio.Level(on != g.cfg.RelaysLow)); err != nil {
		return fmt.Errorf("gpio %s: %w", g.relays[relay], err)
	}
	g.on &^= 1 << relay
	if on {
		g.on |= 1 << relay
	}
	return nil
}

func (g *gpioPins) On(relay int, d time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if relay < 0 || relay >= len(g.relays) || g.end {
		return fmt.Errorf("gpio: no relay %d", relay+1)
	}
	if t := g.off[relay]; t != nil {
		t.Stop()
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() { // before the pin goes on: nothing can come between
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.off[relay] == t {
			_ = g.set(relay, false) // one that does not go off is seen by Relays
			delete(g.off, relay)
		}
	})
	g.off[relay] = t
	return g.set(relay, true)
}

func (g *gpioPins) Off() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for i := range g.relays {
		if t := g.off[i]; t != nil {
			t.Stop()
			delete(g.off, i)
		}
		errs = append(errs, g.set(i, false))
	}
	return errors.Join(errs...)
}

func (g *gpioPins) Relays() (uint32, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.on, nil
}

func (g *gpioPins) Inputs() (uint32, error) {
	var bits uint32
	for i, p := range g.inputs {
		if p.Read() == gpio.High {
			bits |= 1 << i
		}
	}
	return bits, nil
}

func (g *gpioPins) Close() error {
	g.mu.Lock()
	g.end = true
	g.mu.Unlock()
	return g.Off()
}
