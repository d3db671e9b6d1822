package agent

import (
	"context"
	"errors"
	"time"

	"coinop/hardware"
	"coinop/protocol/code"
)

// Watchdog restarts the box, or this process, when it is not kicked in time.
type Watchdog interface {
	Kick() error
	Every() time.Duration // 0: it wants none
	Close() error         // we end on purpose
}

// WatchdogConfig is one, opened by Run.
type WatchdogConfig struct {
	Name string
	Open func() (Watchdog, error)
}

// How long the goroutine that decides may be away: from its last turn, of which there is one a second; while it
// opens a journal; and while it ends.
const (
	openingMost = 5 * time.Minute
	endingMost  = time.Minute
)

// beat says that the goroutine that decides lives, and will say so again within d.
func (a *agent) beat(d time.Duration) { a.alive.Store(int64(time.Since(a.since) + d)) }

// healthy reports whether it has kept its word.
func (a *agent) healthy() bool { return time.Since(a.since) < time.Duration(a.alive.Load()) }

// watched opens the watchdogs and kicks them until ctx ends, as long as the agent is healthy; then it says that
// we end on purpose. One that cannot be opened is told, and sales go on without it.
func (a *agent) watched(ctx context.Context) (stop func()) {
	a.beat(openingMost)
	ctx, cancel := context.WithCancel(ctx)
	for _, c := range a.cfg.Watchdogs {
		w, err := c.Open()
		if err != nil {
			a.log.Warn("watchdog", "name", c.Name, "error", err, "check", code.Of(code.WatchdogAbsent).Next)
			a.box = sees(a.box, hardware.Health{Device: c.Name, State: hardware.Absent, Code: string(code.WatchdogAbsent), Detail: err.Error()})
			continue
		}
		a.box = sees(a.box, hardware.Health{Device: c.Name, State: hardware.Ready, Code: hardware.CodeReady})
		a.dogs.Go(func() {
			err := a.kick(ctx, w)
			if err = errors.Join(err, w.Close()); err != nil {
				a.log.Error("watchdog", "name", c.Name, "error", err)
			}
		})
	}
	return func() { cancel(); a.dogs.Wait() }
}

// kick kicks one.
func (a *agent) kick(ctx context.Context, w Watchdog) error {
	if w.Every() <= 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(w.Every())
	defer tick.Stop()
	said := false
	for {
		switch healthy := a.healthy(); {
		case healthy:
			if err := w.Kick(); err != nil {
				return err
			}
			said = false
		case !said:
			said = true
			a.log.Error("the agent hangs: its watchdog is not kicked", "check", "send the log to support; it is restarted")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
