package hardwaretest

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/paper"
	"coinop/protocol"
)

// Device is the path, or the address, of a real device that a suite runs at in place of its far end: -device.
var Device string

// byHand is how long a person may take.
const byHand = 2 * time.Minute

// atDevice runs the cases that a real device can play, and names the others as skipped. It reports whether there is
// a real device; the suite then has nothing left to do.
func atDevice[B any](t *testing.T, all map[string]B, real map[string]func(*testing.T)) bool {
	t.Helper()
	if Device == "" {
		return false
	}
	for name := range real {
		if _, ok := all[name]; !ok {
			t.Fatalf("the suite has no case %q", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) { // one at a time: there is one device
			f := real[name]
			if f == nil {
				t.Skip("no real device does that when it is told to")
			}
			f(t)
		})
	}
	return true
}

// hand tells a person what to do.
func hand(t *testing.T, what string) { t.Logf("-> %s", what) }

// nextHand is Next of what a person must do something for.
func nextHand[E hardware.Event](l *Log, ok func(E) bool) E {
	l.t.Helper()
	return next(l, ok, byHand)
}

func isReady(h hardware.Health) bool {
	return h.State == hardware.Ready || h.State == hardware.Degraded
}

// served is a driver at the real device that became ready.
func served(t *testing.T, l *Log, open func(context.Context) (hardware.Driver, error)) {
	t.Helper()
	supervise(t, l, open)
	nextHand(l, isReady)
}

func replugged(t *testing.T, l *Log) {
	t.Helper()
	hand(t, "pull its cable, and put it in again")
	nextHand[hardware.PortGone](l, nil)
	nextHand(l, isReady)
}

func realPrinter(mk NewPrinter) map[string]func(*testing.T) {
	up := func(t *testing.T) (hardware.Printer, *Log) {
		l := NewLog(t)
		p, open := mk(Device, byHand, l.Out)
		served(t, l, open)
		return p, l
	}
	prints := func(t *testing.T, l *Log, p hardware.Printer, id uint32, page paper.Page) {
		t.Helper()
		must(t, p.Print(id, page))
		if e := nextHand[hardware.Printed](l, nil); e.Job != id || e.Reason != "" {
			t.Errorf("%+v, want job %d", e, id)
		}
	}
	return map[string]func(*testing.T){
		"what is printed is the preview": func(t *testing.T) {
			p, l := up(t)
			prints(t, l, p, 1, aPage(3))
			hand(t, "compare with it:\n"+aPage(3).Text())
		},
		"one after the other": func(t *testing.T) {
			p, l := up(t)
			for i := range uint32(3) {
				prints(t, l, p, i, aPage(1))
			}
		},
		"paper out before": func(t *testing.T) {
			p, l := up(t)
			hand(t, "take the paper out, and put it back")
			nextHand(l, func(h hardware.Health) bool { return h.State == hardware.Fault })
			nextHand(l, isReady)
			prints(t, l, p, 1, aPage(1))
		},
		"unplugged idle": func(t *testing.T) {
			p, l := up(t)
			replugged(t, l)
			prints(t, l, p, 1, aPage(1))
		},
	}
}

// realReader: what is presented is a test card; nothing is charged.
func realReader(mk NewCardReader, how string) map[string]func(*testing.T) {
	up := func(t *testing.T) (hardware.CardReader, *Log) {
		l := NewLog(t)
		r, open, err := mk(Device, l.Out)
		must(t, err)
		served(t, l, open)
		return r, l
	}
	read := func(t *testing.T, r hardware.CardReader, l *Log) {
		t.Helper()
		must(t, r.Activate(price, byHand))
		hand(t, how)
		c := nextHand[hardware.CardRead](l, nil).Card
		if c.Last4() == "" && len(c.Cipher) == 0 && c.Loop.IsZero() {
			t.Errorf("nothing was read: %v", c)
		}
		t.Logf("read: %s, %s, ends with %q, %d bytes encrypted", c.Entry, c.Brand(), c.Last4(), len(c.Cipher))
		c.Wipe()
		must(t, r.Finish(hardware.OutcomeDeclined))
	}
	timeOut := func(t *testing.T, r hardware.CardReader, l *Log) {
		t.Helper()
		ends := func(e hardware.Event) bool {
			_, read := e.(hardware.CardRead)
			_, failed := e.(hardware.CardFailed)
			return read || failed
		}
		for end := time.Now().Add(byHand); time.Now().Before(end); {
			must(t, r.Activate(price, time.Second))
			switch e := nextHand(l, ends).(type) {
			case hardware.CardFailed:
				if e.Reason != hardware.ReasonTimeout {
					t.Errorf("ended as %q", e.Reason)
				}
				return
			case hardware.CardRead:
				hand(t, "take the card away")
			}
		}
		t.Error("a card lies there for ever")
	}
	return map[string]func(*testing.T){
		"reads":    func(t *testing.T) { r, l := up(t); read(t, r, l) },
		"time-out": func(t *testing.T) { r, l := up(t); timeOut(t, r, l) },
		"cancel": func(t *testing.T) {
			r, l := up(t)
			must(t, r.Activate(price, byHand))
			must(t, r.Cancel())
			timeOut(t, r, l)
			if n := count(l, func(hardware.CardFailed) bool { return true }); n != 1 {
				t.Errorf("%d failures of one activation", n)
			}
		},
		"unplugged while armed": func(t *testing.T) {
			r, l := up(t)
			must(t, r.Activate(price, byHand))
			replugged(t, l)
			if n := count(l, func(f hardware.CardFailed) bool { return f.Reason == hardware.ReasonReader }); n != 1 {
				t.Errorf("%d failures of one activation", n)
			}
			read(t, r, l)
		},
	}
}

func realScanner(mk NewScanner) map[string]func(*testing.T) {
	read := func(t *testing.T, again bool) {
		l := NewLog(t)
		s, open := mk(Device, hardware.Since(), l.Out)
		served(t, l, open)
		if again {
			replugged(t, l)
		}
		must(t, s.Scan())
		hand(t, "show the barcode of a product")
		c := nextHand[hardware.CodeRead](l, nil).Code
		t.Logf("%d characters", c.Len())
		c.Wipe()
	}
	return map[string]func(*testing.T){
		"reads":     func(t *testing.T) { read(t, false) },
		"unplugged": func(t *testing.T) { read(t, true) },
	}
}

// realVender: what is approved falls, and nobody is charged for it.
func realVender(mk NewVender) map[string]func(*testing.T) {
	request := func(t *testing.T) (hardware.Vender, *Log, hardware.VendRequest) {
		t.Helper()
		l := NewLog(t)
		v, open, err := mk(Device, 0, l.Out)
		must(t, err)
		served(t, l, open)
		nextHand(l, func(e hardware.BusState) bool {
			return e.State == hardware.BusStateEnabled || e.State == hardware.BusStateUp
		})
		hand(t, "press a button of the machine")
		return v, l, nextHand[hardware.VendRequest](l, nil)
	}
	return map[string]func(*testing.T){
		"denies": func(t *testing.T) {
			v, l, r := request(t)
			must(t, v.Deny(r.Bus))
			hand(t, "nothing may fall; press the button again")
			again := nextHand(l, func(again hardware.VendRequest) bool { return again.Bus.Later(r.Bus) })
			must(t, v.Deny(again.Bus))
			nextHand[hardware.BusState](l, nil) // it has been said
		},
		"sells": func(t *testing.T) {
			v, l, r := request(t)
			id := protocol.VendID{0: 0xD0}
			hand(t, "the item falls, and nobody is charged")
			must(t, v.Approve(id, r.Bus, r.Item, r.Price, 5*time.Second))
			if s := nextHand[hardware.VendSuccess](l, nil); s.Vend != id {
				t.Errorf("success %+v", s)
			}
		},
	}
}

func realCash(mk NewCash) map[string]func(*testing.T) {
	up := func(t *testing.T) (hardware.Cash, *Log) {
		t.Helper()
		l := NewLog(t)
		c, open, err := mk(Device, l.Out)
		must(t, err)
		served(t, l, open)
		must(t, c.Accept(eur(100000)))
		return c, l
	}
	return map[string]func(*testing.T){
		"pays": func(t *testing.T) {
			c, l := up(t)
			hand(t, "put a coin in that goes into a tube; it comes back")
			in := nextHand(l, func(e hardware.CashIn) bool { return !e.Bill })
			must(t, c.Pay(1, in.Value))
			if p := nextHand[hardware.Paid](l, nil); !p.Known || p.Given != in.Value {
				t.Errorf("%v came in, %+v", in.Value, p)
			}
		},
		"a bill is held, then back": func(t *testing.T) {
			c, l := up(t)
			hand(t, "put a bill in; it comes back")
			nextHand[hardware.BillHeld](l, nil)
			must(t, c.Bill(false))
			nextHand[hardware.BillReturned](l, nil)
		},
	}
}

func realAudit(mk NewAudit) map[string]func(*testing.T) {
	return map[string]func(*testing.T){"reads": func(t *testing.T) {
		l := NewLog(t)
		a, open, err := mk(Device, l.Out)
		must(t, err)
		served(t, l, open)
		must(t, a.Read())
		e := nextHand[hardware.AuditRead](l, nil)
		if e.Reason != "" || len(e.File) == 0 {
			t.Errorf("ended as %q with %d bytes", e.Reason, len(e.File))
		}
		t.Logf("%d bytes", len(e.File))
	}}
}

// realTerminal asks for a payment and takes the question back; a card that was presented all the same is given its
// money back, and fails the case.
func realTerminal(mk NewTerminal) map[string]func(*testing.T) {
	return map[string]func(*testing.T){"aborted": func(t *testing.T) {
		l := NewLog(t)
		d, open, err := mk(Device, byHand, l.Out)
		must(t, err)
		supervise(t, l, open)
		ready := nextHand[hardware.TerminalReady](l, nil)
		t.Logf("terminal %s", ready.Terminal)
		p := protocol.PaymentID{0: 0xD0}
		must(t, d.Authorize(p, eur(100)))
		hand(t, "present NO card: it asks for one, and is told to forget it")
		time.Sleep(3 * time.Second) // it shows it
		must(t, d.Abort(p))
		if e := nextHand[hardware.TerminalAnswered](l, nil); e.Result == protocol.TerminalApproved {
			t.Error("a card was presented; its money goes back")
			must(t, d.Cancel(p, e.Ref, e.Approved))
			nextHand[hardware.TerminalDone](l, nil)
		} else if e.Result != protocol.TerminalAborted {
			t.Errorf("%+v", e)
		}
	}}
}
