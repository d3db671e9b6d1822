package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"coinop/agent/session"
	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// deaf is a vending side and a reader that take nothing, and write down what they were told.
type deaf struct {
	err  error
	told []string
}

func (d *deaf) tell(what string) error { d.told = append(d.told, what); return d.err }

func (d *deaf) Run(context.Context) error                     { return nil }
func (d *deaf) Begin(money.Amount) error                      { return d.tell("begin") }
func (d *deaf) Deny(protocol.BusKey) error                    { return d.tell("deny") }
func (d *deaf) End() error                                    { return d.tell("end") }
func (d *deaf) Resume(protocol.VendID) error                  { return d.tell("resume") }
func (d *deaf) SeesAck() bool                                 { return false }
func (d *deaf) HasEvidence() bool                             { return false }
func (d *deaf) Activate(money.Amount, time.Duration) error    { return d.tell("activate") }
func (d *deaf) Cancel() error                                 { return d.tell("cancel") }
func (d *deaf) Finish(o hardware.Outcome) error               { return d.tell("finish " + o.String()) }
func (d *deaf) Open(context.Context) (hardware.Driver, error) { return d, nil }
func (d *deaf) Approve(protocol.VendID, protocol.BusKey, protocol.Outlet, money.Amount, time.Duration) error {
	return d.tell("approve")
}

func bareShell(err error) (*shell, *lane, *deaf) {
	d := &deaf{err: err}
	l := &lane{id: 2, vending: d, readers: []*reader{{Reader: d, name: "reader", part: partReader}}}
	return &shell{
		device: &Device{core: &Core{}}, log: slog.New(slog.DiscardHandler), start: time.Now(), inbox: make(chan any, 2),
		lanes: map[protocol.Lane]*lane{2: l}, timers: map[timerKey]deadline{},
		show: func(protocol.Lane, session.Screen, money.Amount, string) {}, storage: code.StorageOK,
	}, l, d
}

func (d *deaf) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(d.told, want) {
		t.Errorf("told %q, want %q", d.told, want)
	}
	d.told = nil
}

// TestNothingIsDue: the agent wakes for nothing that it then would not do, or it would never sleep again.
func TestNothingIsDue(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(*lane){
		"no device":                  func(*lane) {},
		"a terminal without days":    func(l *lane) { l.terminal, l.dayEvery, l.dayAt = struct{ Terminal }{}, -1, -1 },
		"a terminal":                 func(l *lane) { l.terminal, l.dayEvery = struct{ Terminal }{}, time.Hour },
		"an audit that is read now":  func(l *lane) { l.audit, l.auditing = struct{ Audit }{}, true },
		"a terminal, and never days": func(l *lane) { l.terminal, l.dayEvery = struct{ Terminal }{}, -time.Hour },
	} {
		s, l, _ := bareShell(nil)
		put(l)
		s.check = s.mono() + time.Hour
		s.days(s.mono())
		s.audits(s.mono())
		if at := s.next(); at <= s.mono() {
			t.Errorf("%s: the next is at %s, and is not done", name, at)
		}
	}
}

// An approval that the driver does not take has ended as withdrawn; a session not begun is complete.
func TestRefusedByDriver(t *testing.T) {
	t.Parallel()
	for _, err := range []error{hardware.ErrPortGone, hardware.ErrBusy, hardware.ErrInexact} {
		s, _, d := bareShell(err)
		back := s.carryOut([]Do{
			Effect{2, session.Vend{ID: protocol.VendID{7}}},
			Effect{2, session.DenyVend{}},
			Effect{2, session.BeginSession{}},
			Effect{2, session.EndSession{}},
			Effect{2, session.Resume{}},
			Effect{2, session.CardSignal{}},
		})
		want := []Input{
			Lane{2, session.Approval{Vend: protocol.VendID{7}, How: session.ApprovalWithdrawn}},
			Lane{2, session.SessionComplete{}},
		}
		if !slices.Equal(back, want) {
			t.Errorf("%v: %+v", err, back)
		}
		d.want(t, "approve", "deny", "begin", "end", "resume", "finish declined")
	}
	s, _, d := bareShell(nil)
	if back := s.carryOut([]Do{Effect{2, session.Vend{ID: protocol.VendID{7}}}, Effect{2, session.CardSignal{OK: true}}}); back != nil {
		t.Errorf("%+v", back)
	}
	d.want(t, "approve", "finish approved")
}

// A reader that was away is armed when it is back, once; and one that found nobody looks again, unless
// the session has ended the wait.
func TestRearm(t *testing.T) {
	t.Parallel()
	s, l, d := bareShell(hardware.ErrPortGone)
	hear := func(ev hardware.Event) {
		t.Helper()
		if err := s.hear(heard{l, partReader, ev}); err != nil {
			t.Fatal(err)
		}
	}
	ready := hardware.Health{State: hardware.Ready}
	hear(ready)
	d.want(t)
	s.carryOut([]Do{Effect{2, session.ArmReader{Amount: money.New(150, money.EUR)}}})
	d.err = nil
	hear(ready)
	d.want(t, "activate", "activate")
	hear(ready)
	d.want(t)
	hear(hardware.CardFailed{Reason: hardware.ReasonTimeout})
	d.want(t, "activate")
	hear(hardware.PortGone{Device: "reader"})
	hear(ready)
	d.want(t, "activate")
	s.carryOut([]Do{Effect{2, session.DisarmReader{}}})
	d.want(t, "cancel")
	hear(hardware.CardFailed{Reason: hardware.ReasonTimeout})
	hear(ready)
	s.carryOut([]Do{Effect{2, session.DisarmReader{}}})
	d.want(t)
}

// Readers of a lane: one is told by itself what it alone has missed, and the buyer looks at the one that has his card.
func TestReadersTogether(t *testing.T) {
	t.Parallel()
	s, l, one := bareShell(nil)
	two := &indicated{}
	l.readers = append(l.readers, &reader{Reader: two, name: ReaderName(1), part: partReader + 1})
	hear := func(from part, ev hardware.Event) {
		t.Helper()
		if err := s.hear(heard{l, from, ev}); err != nil {
			t.Fatal(err)
		}
	}
	both := func(first []string, second ...string) {
		t.Helper()
		one.want(t, first...)
		two.want(t, second...)
	}
	arm := func(minor int64) { s.carryOut([]Do{Effect{2, session.ArmReader{Amount: money.New(minor, money.EUR)}}}) }
	none, activate := []string(nil), []string{"activate"}
	arm(150)
	both(activate, "activate")
	hear(partReader+1, hardware.CardFailed{Reason: hardware.ReasonTimeout})
	both(none, "activate")
	hear(partReader+1, hardware.PortGone{Device: "reader 2"})
	arm(150) // the other is not disturbed
	both(none, "activate")
	hear(partReader, hardware.PortGone{Device: "reader"})
	for p := range part(2) {
		hear(partReader+p, hardware.Health{State: hardware.Ready})
	}
	both(activate)
	arm(200)
	both(activate, "activate")
	hear(partReader, hardware.PortGone{Device: "reader"})
	s.carryOut([]Do{Effect{2, session.DisarmReader{}}})
	both(none, "cancel")
	for p := range part(2) {
		hear(partReader+p, hardware.CardFailed{Reason: hardware.ReasonCardError}) // of a wait that is over
		hear(partReader+p, hardware.Health{State: hardware.Ready})
	}
	both(none)
	l.read = l.readers[0]
	hear(partReader+1, hardware.CardRead{At: time.Hour}) // while the other's is asked for: it beeps not, and hears no outcome
	both(none)
	if l.read != l.readers[0] || len(two.signals) > 0 {
		t.Errorf("a card too many is the one that pays: %v", two.signals)
	}

	end := func() {
		s.indicate(l, hardware.SignalCard)
		s.carryOut([]Do{Effect{2, session.CardSignal{OK: true}}, Effect{2, session.Vend{}}, Effect{2, session.Show{Screen: session.ScreenIdle}}})
	}
	l.read = l.readers[1]
	end()
	both([]string{"approve"}, "finish approved")
	l.read = l.readers[0]
	end()
	both([]string{"finish approved", "approve"})
	l.read = nil // nobody knows
	end()
	both([]string{"finish approved", "approve"}, "finish approved")
	want := []hardware.Signal{
		hardware.SignalCard, hardware.SignalOK, hardware.SignalIdle, // its own card
		hardware.SignalIdle, // the other's
		hardware.SignalCard, hardware.SignalOK, hardware.SignalIdle,
	}
	if !slices.Equal(two.signals, want) {
		t.Errorf("the second shows %v, want %v", two.signals, want)
	}
}

// A device with a number is one of its own, with its own port, power and way back; one with another word is a part.
func TestPartOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, whole string
		want        bool
	}{
		{"cash coins", "cash", true},
		{"cash", "cash", false},
		{"cash", "cash coins", false},
		{"reader 2", "reader", false},
		{"reader 3", "reader 2", false},
		{"readers", "reader", false},
	} {
		if got := partOf(c.name, c.whole); got != c.want {
			t.Errorf("%s of %s: %v", c.name, c.whole, got)
		}
	}
	l := &lane{ports: map[string]string{"reader": "/r", "reader 2": "/s", "cash": "/c"}}
	for name, want := range map[string]string{"reader": "/r", "reader 2": "/s", "reader 3": "", "cash coins": "/c", "dex": ""} {
		if got := l.port(name); got != want {
			t.Errorf("%s is at %q, want %q", name, got, want)
		}
	}
	l.ladder("reader").worked = true
	if l.ladder("reader 2").worked || len(l.ladders) != 2 {
		t.Error("a second reader takes the first's way back")
	}
	devices := sees(sees(nil, hardware.Health{Device: "reader 2"}), hardware.Health{Device: "reader"})
	if len(sees(devices, hardware.Health{Device: "reader 2"})) != 2 {
		t.Errorf("%+v", devices)
	}
}

// A connection that takes nothing is closed, and nobody waits for it.
func TestHungConnection(t *testing.T) {
	t.Parallel()
	s, _, _ := bareShell(nil)
	s.publish(Publish{}) // no connection: dropped
	ctx, end := context.WithCancelCause(t.Context())
	s.conn = &conn{queue: make(chan Publish, 2), end: end}
	for range 2 {
		s.publish(Publish{})
	}
	if ctx.Err() != nil {
		t.Fatal("closed too early")
	}
	s.publish(Publish{})
	if !errors.Is(context.Cause(ctx), errHung) || s.conn != nil {
		t.Errorf("%v", context.Cause(ctx))
	}
	s.publish(Publish{})
}

// With a full inbox a sign of life that says nothing new is dropped; a result waits until there is
// room or the run ends.
func TestFullInbox(t *testing.T) {
	t.Parallel()
	s, l, _ := bareShell(nil)
	ctx, cancel := context.WithCancel(t.Context())
	out := s.out(ctx, l, partVending)
	out(hardware.BusState{State: hardware.BusStateEnabled})
	out(hardware.BusState{State: hardware.BusStateEnabled})
	out(hardware.BusState{State: hardware.BusStateEnabled}) // full: dropped
	done := make(chan struct{})
	go func() {
		defer close(done)
		out(hardware.VendSuccess{Vend: protocol.VendID{7}})
		out(hardware.BusState{State: hardware.BusStateDisabled}) // news waits too
	}()
	var got []hardware.Event
	for range 4 {
		got = append(got, (<-s.inbox).(heard).ev)
	}
	want := []hardware.Event{
		hardware.BusState{State: hardware.BusStateEnabled},
		hardware.BusState{State: hardware.BusStateEnabled},
		hardware.VendSuccess{Vend: protocol.VendID{7}},
		hardware.BusState{State: hardware.BusStateDisabled},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	<-done
	s.inbox <- call{}
	s.inbox <- call{}
	cancel()
	out(hardware.VendCancel{}) // for nobody: it does not wait
}

// A timer stopped by an older id goes on; one that was started anew is one.
func TestTimers(t *testing.T) {
	t.Parallel()
	s, _, _ := bareShell(nil)
	s.check = time.Hour
	do := func(e session.Effect) { s.carryOut([]Do{Effect{2, e}}) }
	do(session.StartTimer{Name: session.TimerOrder, ID: 1, After: time.Minute})
	do(session.StartTimer{Name: session.TimerOrder, ID: 2, After: 2 * time.Minute})
	do(session.StopTimer{Name: session.TimerOrder, ID: 1})
	if len(s.timers) != 1 || s.next() < time.Minute {
		t.Errorf("%v", s.timers)
	}
	s.carryOut([]Do{WakeLink{After: time.Second}})
	if s.next() > time.Minute {
		t.Errorf("next at %v", s.next())
	}
	do(session.StopTimer{Name: session.TimerOrder, ID: 2})
	if len(s.timers) != 0 {
		t.Errorf("%v", s.timers)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for d := hardware.ApprovalDelivered; d <= hardware.ApprovalMaybe; d++ {
		if got := delivery(d); got.String() != d.String() {
			t.Errorf("%v becomes %v", d, got)
		}
	}
	for b := hardware.BusStateUp; b <= hardware.BusStateDisabled; b++ {
		if got := busUp(b); got.String() != b.String() {
			t.Errorf("%v becomes %v", b, got)
		}
	}
	// ANSI X9.24-1, annex A: FFFF9876543210E00001 is the first use of the key FFFF9876543210E00000.
	for ksn, want := range map[string]string{
		"\xFF\xFF\x98\x76\x54\x32\x10\xE0\x00\x01":         "ffff9876543210e00000",
		"\xFF\xFF\x98\x76\x54\x32\x10\xFF\xFF\xFF":         "ffff9876543210e00000",
		"\x12\x34\x56\x78\x90\x12\x34\x56\x00\x00\x00\x01": "1234567890123456",
	} {
		if got := keys([]byte(ksn)); len(got) != 1 || got[0] != want {
			t.Errorf("% X: %q", ksn, got)
		}
	}
	if keys(nil) != nil || keys([]byte{1}) != nil {
		t.Error("a key of nothing")
	}
}

// A bus and what hangs at it take over each other's ladders, and leave none behind; a validator that is away
// has no part in what the changer did.
func TestLadders(t *testing.T) {
	t.Parallel()
	l := &lane{}
	l.ladder("cash coins").worked = true
	if l.ladder("cash bills").worked {
		t.Error("a validator that never was there is said to have worked")
	}
	gone := l.ladder("cash")
	if !gone.worked || len(l.ladders) != 1 {
		t.Errorf("the bus that is gone: %+v of %d", gone, len(l.ladders))
	}
	gone.away, gone.steps = true, 1
	if back := l.ladder("cash coins"); !back.worked || back.steps != 1 {
		t.Errorf("the changer is back: %+v", back)
	}
	if bills := l.ladder("cash bills"); bills.worked || bills.away || len(l.ladders) != 2 {
		t.Errorf("the validator is not: %+v of %d", bills, len(l.ladders))
	}
}
