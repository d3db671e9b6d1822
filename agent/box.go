package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/hardware/gpio"
	"coinop/hardware/thermo"
	"coinop/protocol"
	"coinop/protocol/code"
)

// Board is what hangs at pins of this computer; Supervise can open it.
type Board interface {
	hardware.Indicator
	Open(context.Context) (hardware.Driver, error)
	// Blink lets the lamp tell of a fault (see code.Blinks), 0 of none. Alarm is on tamper.
	Blink(times int) error
	Alarm() error
	// Cycle takes a device's power away for a moment.
	Cycle(device string) error
}

// BoardConfig is the box's own door, tamper loop, lamp, buzzer and relays. The zero value is none. Its door and
// its tamper loop are those of all lanes.
type BoardConfig struct {
	New      func(Wiring) (Board, error)
	Optional bool // a computer without such pins is no fault
	Power    []Power
}

// Power is a relay that takes a device's power away when that stays away, as the step before a person is sent.
type Power struct {
	Relay  string // its name at the board
	Lane   protocol.Lane
	Device string        // as status names it: reader, reader 2
	After  time.Duration // that nothing is heard of it; 2 min. Each time in vain the pause doubles, up to an hour
}

// Pins is a board at pins of this computer.
func Pins(c gpio.Config) func(Wiring) (Board, error) {
	return func(w Wiring) (Board, error) {
		c.Clock = w.Clock
		return gpio.New(c, w.Out)
	}
}

// box is what the owner knows of what is no lane's.
type box struct {
	devices      []DeviceStatus
	temperatures []TemperatureStatus
	signal       hardware.Signal // as it was last shown
	blinks       int
	power        []powerState // of Board.Power
}

// powerState is a device that may lose its power for a moment.
type powerState struct {
	tries int
	at    time.Duration // Mono before which it is not tried again
}

const (
	powerAfter = 2 * time.Minute
	powerMost  = time.Hour // between two tries
)

// hearBoard takes in what the board says.
func (s *shell) hearBoard(ev hardware.Event) error {
	lanes := make([]*lane, 0, len(s.cfg.Lanes))
	for _, c := range s.cfg.Lanes {
		lanes = append(lanes, s.lanes[c.Lane])
	}
	switch ev := ev.(type) {
	case hardware.Door:
		return s.door(ev.Open, lanes...)
	case hardware.Tamper:
		return s.tamper(partBoard, ev, lanes...)
	case hardware.Temperature:
		s.temperature(ev)
	case hardware.PortGone:
		if ev.Device != "board" {
			return nil
		}
		for _, l := range lanes {
			delete(s.loose, loop{l.id, partBoard})
		}
	case hardware.Health:
		if ev.Device == "board" {
			s.boardHealth(ev)
		} else {
			return s.thermometerHealth(ev)
		}
	}
	return nil
}

func (s *shell) boardHealth(h hardware.Health) {
	if h.Code == hardware.CodePortAbsent { // no cable of it can be in the wrong port
		h.Code = string(code.BoardAbsent)
	}
	s.box.devices = sees(s.box.devices, h)
	for i := range s.box.devices {
		if d := &s.box.devices[i]; d.Name == h.Device {
			d.Optional = s.cfg.Board.Optional
		}
	}
	level := slog.LevelWarn
	if h.State == hardware.Ready || h.State == hardware.Absent && s.cfg.Board.Optional {
		level = slog.LevelInfo
	}
	s.log.Log(context.Background(), level, "hardware", "part", h.Device, "state", h.State.String(), "code", h.Code, "detail", h.Detail)
	if h.State == hardware.Ready { // what was said to nobody
		s.onBoard("show", s.board.Show(s.box.signal))
		s.onBoard("blink", s.board.Blink(s.box.blinks))
	}
}

// temperature keeps a thermometer's reading, for who asks and for telemetry.
func (s *shell) temperature(t hardware.Temperature) {
	now := TemperatureStatus{Name: t.Sensor, Milli: t.Milli, At: time.Now()}
	s.cfg.telemetry.temperature(t.Sensor, int64(t.Milli), true)
	for i, was := range s.box.temperatures {
		if was.Name == t.Sensor {
			s.box.temperatures[i] = now
			return
		}
	}
	s.box.temperatures = append(s.box.temperatures, now)
}

// thermometerHealth writes what is wrong with a thermometer or with what it measures, and that it is over.
func (s *shell) thermometerHealth(h hardware.Health) error {
	was := slices.IndexFunc(s.box.devices, func(d DeviceStatus) bool { return d.Name == h.Device })
	news := h.State != hardware.Ready || was >= 0 && s.box.devices[was].State != h.State.String()
	s.box.devices = sees(s.box.devices, h)
	level := slog.LevelInfo
	if h.State != hardware.Ready {
		level = slog.LevelWarn
	}
	if h.Code == thermo.CodeLost {
		name := strings.TrimPrefix(h.Device, "temperature ")
		s.cfg.telemetry.temperature(name, 0, false)
		s.box.temperatures = slices.DeleteFunc(s.box.temperatures, func(t TemperatureStatus) bool { return t.Name == name })
	}
	if !news {
		return nil
	}
	if err := s.handle(Fault{Code: code.Code(h.Code), Device: h.Device, Detail: h.Detail}); err != nil {
		return err
	}
	s.log.Log(context.Background(), level, "hardware", "part", h.Device, "state", h.State.String(), "code", h.Code, "detail", h.Detail)
	return nil
}

// onBoard logs a command that was not taken.
func (s *shell) onBoard(what string, err error) {
	if err != nil && !errors.Is(err, hardware.ErrPortGone) {
		s.log.Warn("command not taken by the board", "command", what, "error", err)
	}
}

// light shows what is new at a lane. One lamp is all lanes': a fault of another is not hidden by a lane that is
// idle.
func (s *shell) light(sig hardware.Signal) {
	if s.board == nil {
		return
	}
	if sig == hardware.SignalIdle {
		for _, l := range s.lanes {
			if l.signal == hardware.SignalFault {
				sig = hardware.SignalFault
			}
		}
	}
	s.box.signal = sig
	s.onBoard("show", s.board.Show(sig))
}

// blink tells of the gravest fault.
func (s *shell) blink(faults []code.Fault) {
	n := 0
	if len(faults) > 0 {
		n = code.Blinks(faults[0].Code)
	}
	if s.board == nil || n == s.box.blinks {
		return
	}
	s.box.blinks = n
	s.onBoard("blink", s.board.Blink(n))
}

// away reports that nothing is heard of a device: power may mend that. What it says of itself, that its paper is
// out, power does not.
func (d DeviceStatus) away() bool {
	return d.State == hardware.Absent.String() || d.Code == code.Silent || d.Code == code.Garbage
}

// recoverPower takes the power of devices away that stay away while nobody buys. That it does is on the disk
// before it is done.
func (s *shell) recoverPower(now time.Duration) error {
	if s.board == nil {
		return nil
	}
	if s.box.power == nil {
		s.box.power = make([]powerState, len(s.cfg.Board.Power))
	}
	for i, p := range s.cfg.Board.Power {
		st, l := &s.box.power[i], s.lanes[p.Lane]
		if l == nil {
			continue
		}
		of := func(d DeviceStatus) bool { return d.Name == p.Device || partOf(d.Name, p.Device) }
		if !slices.ContainsFunc(l.devices, of) {
			continue
		}
		at := slices.IndexFunc(l.devices, func(d DeviceStatus) bool { return of(d) && d.away() })
		after := cmp.Or(p.After, powerAfter)
		if at < 0 {
			if st.tries > 0 {
				s.log.Info("a device is back after its power was", "lane", int(l.id), "part", p.Device, "times", st.tries)
			}
			*st = powerState{}
			continue
		}
		d := l.devices[at]
		idle, ok := s.device.LaneState(p.Lane)
		if time.Since(d.Since) < after || now < st.at || !ok || !idle.Idle() {
			continue
		}
		st.tries++
		st.at = now + min(after<<min(st.tries, 10), max(powerMost, after))
		detail := fmt.Sprintf("%s, %s for %s; time %d", d.State, d.Code, time.Since(d.Since).Round(time.Second), st.tries)
		if err := s.handle(Fault{Code: code.RecoveryPower, Device: fmt.Sprintf("lane %d %s", p.Lane, p.Device), Detail: detail}); err != nil {
			return err
		}
		s.log.Warn("a device's power is taken away for a moment", "lane", int(l.id), "part", p.Device, "because", detail)
		s.onBoard("cycle", s.board.Cycle(p.Relay))
	}
	return nil
}
