package main

import (
	"fmt"
	"strconv"

	"coinop/agent"
	"coinop/configs"
	"coinop/hardware/gpio"
	"coinop/hardware/thermo"
	"coinop/hardware/watchdog"
	"coinop/protocol"
)

// boardOf configures the board of door, lamp and relays.
func boardOf(a configs.Agent) (out agent.BoardConfig, problems configs.Errors) {
	b := a.Board
	if b == nil {
		return out, nil
	}
	out.Optional = !b.Required
	var cfg gpio.Config
	contact := func(c *configs.Contact) (in gpio.Input) {
		if c != nil {
			in = gpio.Input{Pin: c.Pin, High: c.Closed == "high"}
		}
		return in
	}
	pattern := func(key, text string) gpio.Pattern {
		p, err := gpio.ParsePattern(text)
		if err != nil {
			problems = append(problems, a.Refuse("board."+key, err.Error(), "see coinop-agent config explain board."+key))
		}
		return p
	}
	cfg.Door, cfg.Tamper = contact(b.Door), contact(b.Tamper)
	if l := b.Lamp; l != nil {
		cfg.Lamp = gpio.Output{Pin: l.Pin, Low: l.Active == "low"}
		cfg.Lights = gpio.Says{
			Idle: pattern("lamp.ready", l.Ready), Card: pattern("lamp.card", l.Card), OK: pattern("lamp.approved", l.Approved),
			No: pattern("lamp.declined", l.Declined), Alarm: pattern("lamp.alarm", l.Alarm),
		}
	}
	if z := b.Buzzer; z != nil {
		cfg.Buzzer = gpio.Output{Pin: z.Pin, Low: z.Active == "low"}
		cfg.Sounds = gpio.Says{
			Card: pattern("buzzer.card", z.Card), OK: pattern("buzzer.approved", z.Approved),
			No: pattern("buzzer.declined", z.Declined), Alarm: pattern("buzzer.alarm", z.Alarm),
		}
	}
	for _, p := range b.Power {
		lane, _ := strconv.Atoi(p.Lane) // the reader has seen that there is such a lane
		relay := fmt.Sprintf("lane %d %s", lane, p.Device)
		cfg.Power = append(cfg.Power, gpio.Power{Output: gpio.Output{Pin: p.Pin, Low: p.Active == "low"}, Device: relay, Off: p.Off})
		out.Power = append(out.Power, agent.Power{Relay: relay, Lane: protocol.Lane(lane), Device: p.Device, After: p.After}) //nolint:gosec // up to 16
	}
	out.New = agent.Pins(cfg)
	return out, problems
}

// thermometersOf are the box's thermometers. What they are called and where they are, the reader has seen.
func thermometersOf(a configs.Agent) (out []thermo.Sensor) {
	for _, t := range a.Temperatures {
		s := thermo.Sensor{Name: t.Name, Low: -thermo.Limitless, High: thermo.Limitless}
		limit := func(text string, to *thermo.Milli) {
			if n, err := strconv.Atoi(text); err == nil {
				*to = thermo.Milli(n) * 1000 //nolint:gosec // three digits
			}
		}
		limit(t.Least, &s.Low)
		limit(t.Most, &s.High)
		number := func(base int) uint64 { n, _ := strconv.ParseUint(t.ID, base, 64); return n }
		switch t.Driver {
		case "soc":
			s.Open = thermo.SoC(int(number(10))) //nolint:gosec // two digits
		case "tmp102":
			s.Open = thermo.TMP102(t.Bus, uint16(number(16))) //nolint:gosec // two digits
		case "ds18b20":
			s.Open = thermo.DS18B20(t.Bus, number(16))
		default:
			s.Open = thermo.W1(t.ID)
		}
		out = append(out, s)
	}
	return out
}

// watchdogsOf are the file's, and systemd's when it waits for word of us.
func watchdogsOf(a configs.Agent) (out []agent.WatchdogConfig) {
	if w := a.Watchdog; w != nil {
		out = append(out, agent.WatchdogConfig{Name: "watchdog", Open: func() (agent.Watchdog, error) {
			return watchdog.Open(string(w.Device), w.Timeout)
		}})
	}
	return out
}
