package agent_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/session"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// dog counts its kicks.
type dog struct {
	kicks  atomic.Int64
	closed atomic.Bool
}

func (d *dog) Kick() error          { d.kicks.Add(1); return nil }
func (d *dog) Every() time.Duration { return 20 * time.Millisecond }
func (d *dog) Close() error         { d.closed.Store(true); return nil }

// TestWatchdog: a watchdog is kicked while the goroutine that decides goes round, not while it hangs, and again
// when it does no more; an agent that ends on purpose disarms it. One that is not there is told.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := &dog{}
	s.cfg.HangsAfter = 3 * time.Second
	s.cfg.Watchdogs = []agent.WatchdogConfig{
		{Name: "watchdog", Open: func() (agent.Watchdog, error) { return d, nil }},
		{Name: "none", Open: func() (agent.Watchdog, error) { return nil, errors.New("no such device") }},
	}
	hang, hangs := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	show := s.cfg.Show
	s.cfg.Show = func(l protocol.Lane, on session.Screen, a money.Amount, reason string) {
		if on == session.ScreenPrice && once.CompareAndSwap(false, true) {
			close(hangs)
			<-hang
		}
		show(l, on, a, reason)
	}
	stop := s.start()
	s.until("kicked", func() bool { return d.kicks.Load() > 10 })
	st, err := agent.AskStatus(s.cfg.Data)
	for end := time.Now().Add(20 * time.Second); err == nil && len(st.Box) < 2 && time.Now().Before(end); st, err = agent.AskStatus(s.cfg.Data) {
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil || len(st.Box) != 2 || st.Box[0].State != "ready" || st.Box[1].Code != code.WatchdogAbsent {
		t.Fatalf("%+v %v", st.Box, err)
	}
	s.enabled()
	s.until("a choice that hangs", func() bool {
		_ = s.machine.Select(5) // one that came too early is not heard
		select {
		case <-hangs:
			return true
		case <-time.After(time.Second):
			_ = s.machine.Cancel()
			return false
		}
	})
	s.until("not kicked any more", func() bool {
		before := d.kicks.Load()
		time.Sleep(300 * time.Millisecond)
		return d.kicks.Load() == before
	})
	close(hang)
	was := d.kicks.Load()
	s.until("kicked again", func() bool { return d.kicks.Load() > was })
	if d.closed.Load() {
		t.Error("disarmed while it runs")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if !d.closed.Load() {
		t.Error("an agent that was stopped leaves its watchdog armed")
	}
}
