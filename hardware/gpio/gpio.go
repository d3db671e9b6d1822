// Package gpio is the contacts, lights and relays of a machine that hang at pins of this computer: its
// service door, its tamper loop, a lamp, a buzzer, and relays that take a device's power away for a moment.
//
//	b, err := gpio.New(gpio.Config{Door: gpio.Input{Pin: "GPIO5"}, Tamper: gpio.Input{Pin: "GPIO6"},
//		Buzzer: gpio.Output{Pin: "GPIO12"}, Power: []gpio.Power{{Device: "reader", Output: gpio.Output{Pin: "GPIO16"}}}}, out)
//	go hardware.Supervise(ctx, "board", b.Open, out)
//	...
//	b.Show(hardware.SignalOK)
//
// It promises:
//
//   - The door is told at each opening and when it moves, and so is the tamper loop, which is closed as long as
//     nobody has opened or cut it: a wire that is cut reads as open, whichever level closed is.
//   - A level counts when it stayed for 40 ms. Pins are read again every minute: an edge that was lost is found.
//   - A relay is on only while it takes power away, never longer than it was told to and Most, which a timer of
//     its own sees to, and off at every opening and at the end of one. When this process is killed meanwhile it
//     stays as it is until the next opening: see outlet.GPIO.
package gpio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"coinop/hardware"
)

// Most is the longest that power is taken away.
const Most = 30 * time.Second

// Config is what hangs at which pin, as periph.io names it: GPIO17. What has no pin is not there.
type Config struct {
	Device   string // its name in Health; "board"
	Door     Input
	Tamper   Input
	Lamp     Output
	Buzzer   Output
	Lights   Says          // of the lamp
	Sounds   Says          // of the buzzer
	Power    []Power       // up to 6
	Debounce time.Duration // 40 ms
	Clock    hardware.Clock
}

// Input is a contact. Low is the level while it is closed (door shut, loop whole), and the pin is pulled up;
// with High it is the other way round.
type Input struct {
	Pin  string
	High bool
}

// Output is on at high level; with Low at low.
type Output struct {
	Pin string
	Low bool
}

// Power is a relay that takes a device's power away while it is on: its contact NC is in the device's line.
type Power struct {
	Output
	Device string        // as Health names it: reader
	Off    time.Duration // for so long; 3 s
}

// Says is what a lamp or buzzer does when.
type Says struct {
	Idle, Card, OK, No Pattern
	Alarm              Pattern // on tamper
}

// Lights and Sounds are what they say when nobody says otherwise.
var (
	Lights = Says{Idle: MustPattern("on"), Card: MustPattern("80"), OK: MustPattern("2x150/100"), No: MustPattern("3x60/60"), Alarm: MustPattern("20x100/100")}
	Sounds = Says{Card: MustPattern("80"), OK: MustPattern("2x150/100"), No: MustPattern("3x60/60"), Alarm: MustPattern("10x500/500")}
)

func (s Says) isZero() bool {
	for _, p := range []Pattern{s.Idle, s.Card, s.OK, s.No, s.Alarm} {
		if p.on || len(p.steps) > 0 {
			return false
		}
	}
	return true
}

func (c Config) withDefaults() Config {
	if c.Device == "" {
		c.Device = "board"
	}
	if c.Debounce == 0 {
		c.Debounce = 40 * time.Millisecond
	}
	if c.Clock == nil {
		c.Clock = hardware.Since()
	}
	if c.Lights.isZero() {
		c.Lights = Lights
	}
	if c.Sounds.isZero() {
		c.Sounds = Sounds
	}
	c.Power = slices.Clone(c.Power)
	for i := range c.Power {
		if c.Power[i].Off == 0 {
			c.Power[i].Off = 3 * time.Second
		}
	}
	return c
}

func (c Config) check() error {
	pins, devices := map[string]bool{}, map[string]bool{}
	n := 0
	for _, pin := range append([]string{c.Door.Pin, c.Tamper.Pin, c.Lamp.Pin, c.Buzzer.Pin}, c.powerPins()...) {
		if pin == "" {
			continue
		}
		if n++; pins[pin] {
			return fmt.Errorf("pin %s has two things at it", pin)
		}
		pins[pin] = true
	}
	if n == 0 || len(c.Power) > 6 {
		return errors.New("want pins, and up to 6 relays for power")
	}
	for _, p := range c.Power {
		if p.Pin == "" || p.Device == "" || devices[p.Device] {
			return fmt.Errorf("power of %q: want a device of its own, and a pin", p.Device)
		}
		if p.Off < 100*time.Millisecond || p.Off > Most {
			return fmt.Errorf("power of %s: %v is not between 100ms and %v", p.Device, p.Off, Most)
		}
		devices[p.Device] = true
	}
	return nil
}

func (c Config) powerPins() (pins []string) {
	for _, p := range c.Power {
		pins = append(pins, p.Pin)
	}
	return pins
}

// Board is an Indicator, and tells of door and tamper loop.
type Board struct {
	hardware.Driven
	cfg   Config
	state State
	box   hardware.Mailbox
}

var _ hardware.Indicator = (*Board)(nil)

// New checks the configuration; it starts and opens nothing. out gets every event, from the goroutine of
// Run; give Supervise the same.
func New(cfg Config, out func(hardware.Event)) (*Board, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Device, err)
	}
	b := &Board{cfg: cfg, state: NewState(cfg)}
	open := func(context.Context) (hardware.Port, error) { return openPins(cfg) }
	b.Driven = hardware.Drive(open, cfg.Clock, hardware.Stepping(&b.state), &b.box, out)
	return b, nil
}

// Commands of the machine.
type (
	show  struct{ signal hardware.Signal }
	blink struct{ times int }
	alarm struct{}
	cycle struct{ device string }
)

// Show lets lamp and buzzer say something; what passes is followed by what stays.
func (b *Board) Show(s hardware.Signal) error { return b.box.Post(show{s}) }

// Blink lets the lamp tell of a fault, for as long as nothing else is to be said; 0: there is none.
func (b *Board) Blink(times int) error { return b.box.Post(blink{times}) }

// Alarm lets both tell of tamper, once.
func (b *Board) Alarm() error { return b.box.Post(alarm{}) }

// Cycle takes a device's power away for its time; one at a time, the second of the same is none.
func (b *Board) Cycle(device string) error {
	if !slices.ContainsFunc(b.cfg.Power, func(p Power) bool { return p.Device == device }) {
		return fmt.Errorf("no relay has the power of %s", device)
	}
	return b.box.Post(cycle{device})
}
