package main

import (
	"fmt"
	"strconv"

	"coinop/agent"
	"coinop/configs"
	"coinop/hardware/gpio"
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
