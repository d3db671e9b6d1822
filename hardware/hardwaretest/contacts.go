package hardwaretest

import (
	"context"
	"testing"

	"coinop/hardware"
)

// Contacts is a service door and a tamper loop, and how a test moves them.
type Contacts struct {
	Move func(open, whole bool)
	// Unplug takes the device away that they hang at, Replug gives it back; nil: it is the computer itself.
	Unplug, Replug func()
}

// NewContacts makes a driver before such contacts, and what Supervise opens it with.
type NewContacts func(t *testing.T, out func(hardware.Event)) (Contacts, func(context.Context) (hardware.Driver, error))

// DoorAndTamper is what every driver must do that tells of a door and of a tamper loop.
func DoorAndTamper(t *testing.T, mk NewContacts) {
	t.Helper()
	door := func(l *Log, open bool) {
		l.t.Helper()
		if e := Next[hardware.Door](l, nil); e.Open != open {
			t.Errorf("the door is told as open %v", e.Open)
		}
	}
	loop := func(l *Log, whole bool) {
		l.t.Helper()
		if e := Next[hardware.Tamper](l, nil); e.Over != whole || e.Device == "" {
			t.Errorf("the loop is told as %+v", e)
		}
	}
	total := func(l *Log) int {
		return count(l, func(hardware.Door) bool { return true }) + count(l, func(hardware.Tamper) bool { return true })
	}
	for name, c := range map[string]struct{ open, whole bool }{
		"all is well at an opening": {false, true}, "the door is open at an opening": {true, true}, "the wire is cut at an opening": {false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := NewLog(t)
			far, open := mk(t, l.Out)
			far.Move(c.open, c.whole)
			supervise(t, l, open)
			door(l, c.open)
			loop(l, c.whole)
		})
	}
	t.Run("each move is told once", func(t *testing.T) {
		t.Parallel()
		l := NewLog(t)
		far, open := mk(t, l.Out)
		far.Move(false, true)
		stop := supervise(t, l, open)
		door(l, false)
		loop(l, true)
		for range 2 {
			far.Move(true, true)
			door(l, true)
			far.Move(true, false)
			loop(l, false)
			far.Move(true, true)
			loop(l, true)
			far.Move(false, true)
			door(l, false)
		}
		stop()
		if n := total(l); n != 10 {
			t.Errorf("%d events:%s", n, l)
		}
	})
	t.Run("what moved while the device was away", func(t *testing.T) {
		t.Parallel()
		l := NewLog(t)
		far, open := mk(t, l.Out)
		if far.Unplug == nil {
			t.Skip("it cannot be away")
		}
		far.Move(false, true)
		supervise(t, l, open)
		door(l, false)
		loop(l, true)
		far.Unplug()
		Next[hardware.PortGone](l, nil)
		far.Move(true, false)
		far.Replug()
		door(l, true)
		loop(l, false)
	})
}
