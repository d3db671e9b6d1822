package configs

import (
	"fmt"
	"strconv"
	"time"
)

// Ours reports that the lane's outlets are driven by this box.
func (v Vending) Ours() bool { return v.Driver == "relay-board" || v.Driver == "gpio" }

// number is a number of a board, from 1 to 32, or 0 for the name of a pin.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// settle is what a vend's end takes beside its pulses: frames on the line, a look at the relay.
const settle = time.Second

// checkOutlets finds what no single value of a lane's outlets shows.
func (a Agent) checkOutlets(lane int) (ps []Problem) {
	v := a.Lanes[lane].Vending
	at := fmt.Sprintf("lanes.%d.vending.", lane)
	bad := func(key, what, instead string) { ps = append(ps, a.Refuse(at+key, what, instead)) }
	board := v.Driver == "relay-board"
	switch {
	case !v.Ours() && len(v.Outlets) > 0:
		bad("driver", v.Driver+" is a machine that switches its outlets itself", "write relay-board or gpio, or products in place of outlets")
		return ps
	case !v.Ours() && v.Door+v.Tamper != "":
		bad("driver", v.Driver+" has no inputs for a door or a tamper loop", "at pins of this computer they stand in board; remove them here")
		return ps
	case !v.Ours():
		return nil
	case len(v.Outlets) == 0:
		bad("driver", v.Driver+" has no outlets", "list them below outlets, each with number, name, price and relay")
	case len(v.Products) > 0:
		bad("products", "belong to a machine with prices of its own", "write name and price at each of the outlets")
	}
	if n := number(v.Address); board && (n < 1 || n > 247) {
		bad("address", v.Address+" is no address of a board", "write 1 to 247")
	}
	if board && v.RelaysActive == "low" {
		bad("relays_active", "a board's relay is on when it is told to be on", "remove the line; use the other contact of the relay, NC instead of NO")
	}
	numbers, relays, inputs := map[string]string{}, map[string]string{}, map[string]string{}
	if !board { // a pin is a pin
		inputs = relays
	}
	once := func(seen map[string]string, key, value, whose string) {
		if n := number(value); n > 0 {
			value = strconv.Itoa(n)
		}
		if first, twice := seen[value]; twice {
			bad(key, fmt.Sprintf("%s is that of %s already", value, first), "each has its own: check the wires")
		}
		seen[value] = whose
	}
	pin := func(key, value string) {
		switch n := number(value); {
		case board && (n < 1 || n > 32):
			bad(key, value+" is nothing at a board", "write the number that is printed at it, 1 to 32")
		case !board && n != 0 || !board && value == "0":
			bad(key, value+" is no pin", "write its name, as GPIO17")
		}
	}
	for _, in := range []struct{ name, value string }{{"door", v.Door}, {"tamper", v.Tamper}} {
		if in.value != "" {
			once(inputs, in.name, in.value, in.name)
			pin(in.name, in.value)
		}
	}
	for i, o := range v.Outlets {
		key := func(name string) string { return fmt.Sprintf("outlets.%d.%s", i, name) }
		once(numbers, key("number"), o.Number, o.Name)
		once(relays, key("relay"), o.Relay, o.Name)
		pin(key("relay"), o.Relay)
		for _, in := range []struct{ name, value string }{{"feedback", o.Feedback}, {"button", o.Button}} {
			if in.value != "" {
				once(inputs, key(in.name), in.value, o.Name)
				pin(key(in.name), in.value)
			}
		}
		a.checkTimes(o, board, func(name, what, instead string) { bad(key(name), what, instead) })
		if o.Always && len(v.Outlets) > 1 {
			bad(key("always"), "there are other outlets: nobody could tell which is meant", "give each of them a button, or order over HTTP")
		}
	}
	return ps
}

func (a Agent) checkTimes(o Outlet, board bool, bad func(key, what, instead string)) {
	unit := 10 * time.Millisecond
	if board {
		unit = 100 * time.Millisecond
	}
	pulses := number(o.Pulses)
	takes := time.Duration(pulses)*(o.On+o.Off) + settle
	if o.Feedback != "" {
		takes += o.Window
	}
	switch {
	case pulses == 0:
		bad("pulses", "are none", "write 1 to 999")
	case o.On%unit != 0:
		bad("on", fmt.Sprintf("%v is no number of %v, which is what it counts in", o.On, unit), fmt.Sprintf("write %v or %v", max(o.On/unit, 1)*unit, (o.On/unit+1)*unit))
	case o.On > o.MaxOn:
		bad("on", fmt.Sprintf("%v is longer than max_on, %v", o.On, o.MaxOn), "check both; raise max_on only when nothing can burn or flood")
	case takes > a.Timeouts.VendTimeout:
		bad("pulses", fmt.Sprintf("with their pauses and window they take up to %v, and timeouts.vend_timeout is %v", takes, a.Timeouts.VendTimeout), "write a longer timeouts.vend_timeout, or shorter pulses")
	}
}
