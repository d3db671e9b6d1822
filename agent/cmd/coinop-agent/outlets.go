package main

import (
	"strconv"

	"coinop/configs"
	"coinop/hardware/outlet"
	"coinop/protocol"
	"coinop/protocol/money"
)

// outletsOf configures the driver of a lane's outlets at a port, or at pins.
func outletsOf(a configs.Agent, lane int, c money.Currency, path string) outlet.Config {
	v := a.Lanes[lane].Vending
	plan, _ := planOf(a, lane, c)                     // what is wrong with it is told by who asks for the plan
	address, _ := strconv.ParseUint(v.Address, 10, 8) // the reader has seen that it is one
	cfg := outlet.Config{Path: path, Address: byte(address), Currency: c, InputsLow: v.InputsActive == "low"}
	pins := outlet.GPIOConfig{RelaysLow: v.RelaysActive == "low", InputsLow: cfg.InputsLow}
	// index is the number of a relay or input: on a board its own, of pins their order here.
	index := func(names *[]string, name string) int {
		if n, err := strconv.Atoi(name); name == "" || err == nil {
			return n
		}
		*names = append(*names, name)
		return len(*names)
	}
	for _, o := range v.Outlets {
		number, _ := strconv.ParseUint(o.Number, 10, 16) // planOf has seen that it is one
		pulses, _ := strconv.Atoi(o.Pulses)
		cfg.Outlets = append(cfg.Outlets, outlet.Outlet{
			Number: protocol.Outlet(number), Price: plan[protocol.Outlet(number)].Price, Relay: index(&pins.Relays, o.Relay),
			Pulses: pulses, On: o.On, Off: o.Off, MaxOn: o.MaxOn,
			Feedback: index(&pins.Inputs, o.Feedback), Window: o.Window, Button: index(&pins.Inputs, o.Button), Always: o.Always,
		})
	}
	cfg.Door, cfg.Tamper = index(&pins.Inputs, v.Door), index(&pins.Inputs, v.Tamper)
	if v.Driver == "gpio" {
		cfg.Pins = outlet.GPIO(pins)
	}
	return cfg
}
