// Package thermo is thermometers: of the goods, of the box, of the computer itself.
//
//	t, err := thermo.New(thermo.Config{Sensors: []thermo.Sensor{
//		{Name: "cabinet", Open: thermo.W1("28-000005e2fdc3"), High: 8000},
//		{Name: "computer", Open: thermo.SoC(0), High: 80000}}}, out)
//	go hardware.Supervise(ctx, "thermometers", t.Open, out)
//
// It promises: what is told (hardware.Temperature) was measured. A sensor's value at power on (85 °C), an answer
// whose checksum is wrong, and what no sensor can measure are dropped; after three of them in a row the sensor is
// degraded. A temperature out of the limits of the configuration is told, and is degraded too.
package thermo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coinop/hardware"
)

// Milli is a temperature in thousandths of a degree Celsius.
type Milli int32

// String is in degrees, with one decimal.
func (m Milli) String() string {
	sign := ""
	if m < 0 {
		sign, m = "-", -m
	}
	return fmt.Sprintf("%s%d.%d °C", sign, m/1000, m%1000/100)
}

// Source is an open sensor. Sense may take a second.
type Source interface {
	Sense() (Milli, error)
	Close() error
}

// Limitless is a limit that no sensor reaches.
const Limitless = Milli(1_000_000)

// Sensor is one thermometer.
type Sensor struct {
	Name string // of what it measures: cabinet
	Open func() (Source, error)
	// Limits; both 0: none. What it measured is a degree within them before it is well again.
	Low, High Milli
}

// Config is all of a box.
type Config struct {
	Sensors []Sensor
	Every   time.Duration // 30 s
	Clock   hardware.Clock
}

// Codes of Health beside hardware's own.
const (
	CodeLost = "sensor_lost" // three readings in a row were none
	CodeHot  = "too_hot"
	CodeCold = "too_cold"
)

// Why a reading is none. All may pass.
var (
	ErrPowerOn  = errors.New("it has not measured since it got its power: is its supply good?")
	ErrChecksum = errors.New("its answer is spoiled: is the line too long, the pull-up there?")
	ErrRange    = errors.New("no sensor can measure that")
)

// Range of what a sensor can measure.
const (
	least, most = Milli(-55000), Milli(125000)
	losses      = 3    // in a row
	within      = 1000 // of a limit it was out of
)

// Thermometers read sensors.
type Thermometers struct {
	cfg   Config
	out   func(hardware.Event)
	state []State
}

// New checks the configuration; it starts and opens nothing. out gets every event, from the goroutine of Run.
func New(cfg Config, out func(hardware.Event)) (*Thermometers, error) {
	if cfg.Every == 0 {
		cfg.Every = 30 * time.Second
	}
	t := &Thermometers{cfg: cfg, out: out}
	names := map[string]bool{}
	for _, s := range cfg.Sensors {
		if s.Name == "" || s.Open == nil || names[s.Name] || s.Low > s.High {
			return nil, fmt.Errorf("thermometer %q: want a name of its own, a sensor, and limits of which low is lower", s.Name)
		}
		names[s.Name] = true
		t.state = append(t.state, State{Sensor: s})
	}
	if len(cfg.Sensors) == 0 {
		return nil, errors.New("thermometers: there are none")
	}
	return t, nil
}

// Open is what Supervise calls: sensors are opened when they are read.
func (t *Thermometers) Open(context.Context) (hardware.Driver, error) { return t, nil }

// Run reads until ctx ends.
func (t *Thermometers) Run(ctx context.Context) error {
	open := make([]Source, len(t.state))
	defer func() {
		for _, s := range open {
			if s != nil {
				_ = s.Close()
			}
		}
	}()
	tick := time.NewTicker(t.cfg.Every)
	defer tick.Stop()
	for {
		for i := range t.state {
			m, err := sense(&open[i], t.state[i].Sensor.Open)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			for _, e := range t.state[i].Step(m, err) {
				t.out(e)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// sense reads a sensor, which is opened anew after an error.
func sense(s *Source, open func() (Source, error)) (m Milli, err error) {
	if *s == nil {
		if *s, err = open(); err != nil {
			*s = nil
			return 0, err
		}
	}
	if m, err = (*s).Sense(); err != nil {
		_ = (*s).Close()
		*s = nil
	}
	return m, err
}

// State is what is known of one sensor: pure.
type State struct {
	Sensor Sensor
	lost   int
	code   string // as it was told; "": not yet
}

// Step takes a reading, or why it is none.
func (s *State) Step(m Milli, err error) (out []hardware.Event) {
	if err == nil && (m < least || m > most) {
		err = fmt.Errorf("%v: %w", m, ErrRange)
	}
	tell := func(h hardware.HealthState, code, detail string) {
		if code != s.code {
			s.code = code
			out = append(out, hardware.Health{Device: "temperature " + s.Sensor.Name, State: h, Code: code, Detail: detail})
		}
	}
	if err != nil {
		if s.lost++; s.lost >= losses {
			tell(hardware.Degraded, CodeLost, err.Error())
		}
		return out
	}
	s.lost = 0
	out = append(out, hardware.Temperature{Sensor: s.Sensor.Name, Milli: int32(m)})
	low, high, limits := s.Sensor.Low, s.Sensor.High, s.Sensor.Low != 0 || s.Sensor.High != 0
	switch {
	case limits && (m > high || s.code == CodeHot && m > high-within):
		tell(hardware.Degraded, CodeHot, fmt.Sprintf("%v, the most is %v", m, high))
	case limits && (m < low || s.code == CodeCold && m < low+within):
		tell(hardware.Degraded, CodeCold, fmt.Sprintf("%v, the least is %v", m, low))
	default:
		tell(hardware.Ready, hardware.CodeReady, "")
	}
	return out
}
