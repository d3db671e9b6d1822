package outlet

import (
	"slices"
	"testing"
	"time"

	"coinop/hardware"
)

// TestContacts: the door and the tamper loop are told as they are at an opening, once they have settled, and
// when they change, also while an outlet runs that has no feedback; a bounce is nothing.
func TestContacts(t *testing.T) {
	t.Parallel()
	door := func(open bool) hardware.Event { return hardware.Door{Open: open} }
	loop := func(whole bool) hardware.Event { return hardware.Tamper{Device: "outlets", Over: whole} }
	p := &pure{t: t, s: NewState(Config{
		Path: "x", Currency: eur(0).Currency, Door: 7, Tamper: 8,
		Outlets: []Outlet{{Number: 1, Price: eur(100), Relay: 1, On: 5 * time.Second, Button: 6}},
	}), now: time.Hour, inputs: 0x80}
	want := func(what string, all ...hardware.Event) {
		t.Helper()
		var got []hardware.Event
		for _, e := range p.events {
			switch e.(type) {
			case hardware.Door, hardware.Tamper:
				got = append(got, e)
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("%s: %v, want %v", what, got, all)
		}
		p.events = nil
	}
	p.step(hardware.Opened{})
	p.run(500 * time.Millisecond)
	want("at an opening", door(false), loop(true))
	p.inputs = 0xC0
	p.run(20 * time.Millisecond)
	p.inputs = 0x80
	p.run(time.Second)
	p.inputs = 0x40
	p.run(time.Second)
	want("opened, and cut", door(true), loop(false))
	p.step(approve{vend: vend, outlet: 1, by: p.now + time.Second})
	p.run(time.Second)
	p.inputs = 0x80
	p.run(time.Second)
	want("while an outlet runs", door(false), loop(true))
	p.run(6 * time.Second)
	p.step(hardware.Closed{})
	p.step(hardware.Opened{})
	p.run(500 * time.Millisecond)
	want("at the next opening", door(false), loop(true))
}
