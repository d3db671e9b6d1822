package agent

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"coinop/hardware"
	"coinop/protocol/code"
)

// Recovery is when the next step is taken to bring a device back that stays away; the zero value is as it
// should be in the field. Each step is a record.
//
//  1. Its port is opened again and again, from half a second on; a driver's opening resets its device (an MDB
//     RESET, 1B 40, a reader's cancel and ping). It is a record when that has not helped for ReopenAfter.
//  2. A relay takes its power away for a moment, where one is wired (BoardConfig.Power).
//  3. The agent starts anew, RestartAfter, while nobody buys: once for a device that had worked since the start
//     before, so that one which is broken does not make the agent start for ever.
type Recovery struct {
	ReopenAfter  time.Duration // 10 s
	RestartAfter time.Duration // 15 min
}

const (
	reopenAfter  = 10 * time.Second
	restartAfter = 15 * time.Minute
)

// ladder is how far a device's recovery has come.
type ladder struct {
	worked bool          // since the start
	away   bool          // since Mono
	since  time.Duration // Mono
	steps  int           // taken, but for the relay's
	times  int           // it went away
}

// recover takes the steps that are due, once a second.
func (s *shell) recover(now time.Duration) error {
	for _, c := range s.cfg.Lanes {
		l := s.lanes[c.Lane]
		if l == nil {
			continue
		}
		for _, p := range slices.Sorted(maps.Keys(l.health)) {
			if err := s.recoverPart(l, p, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *shell) recoverPart(l *lane, p part, now time.Duration) error {
	h := l.health[p]
	if l.ladders == nil {
		l.ladders = map[part]*ladder{}
	}
	st := l.ladders[p]
	if st == nil {
		st = &ladder{}
		l.ladders[p] = st
	}
	name := fmt.Sprintf("lane %d %s", l.id, h.Device)
	away := time.Duration(0)
	if h.State == hardware.Ready || h.State == hardware.Degraded {
		was := *st
		st.worked, st.away, st.steps = true, false, 0
		if was.steps == 0 {
			return nil
		}
		away = now - was.since
		s.log.Info("a device is back", "lane", int(l.id), "part", h.Device, "away", away.Round(time.Second).String())
		return s.handle(Fault{Code: code.RecoveryOver, Device: name, Detail: "away for " + away.Round(time.Second).String()})
	}
	if !st.away {
		st.away, st.since = true, now
		st.times++
	}
	away = now - st.since
	detail := fmt.Sprintf("%s for %s", cmp.Or(h.Code, h.State.String()), away.Round(time.Second))
	switch {
	case st.steps == 0 && away >= cmp.Or(s.cfg.Recovery.ReopenAfter, reopenAfter):
		st.steps = 1
		return s.handle(Fault{Code: code.RecoveryReopen, Device: name, Detail: detail})
	case st.steps == 1 && st.worked && away >= cmp.Or(s.cfg.Recovery.RestartAfter, restartAfter) && s.nobodyBuys():
		st.steps = 2
		if err := s.handle(Fault{Code: code.RecoveryRestart, Device: name, Detail: detail}); err != nil {
			return err
		}
		s.log.Warn("the agent starts anew for a device that stays away", "lane", int(l.id), "part", h.Device, "because", detail)
		return &Again{code.RecoveryRestart}
	}
	return nil
}

// diskCode is what an Again said, when it was about the disk.
func diskCode(after code.Code) code.Code {
	if after == code.RecoveryRestart {
		return ""
	}
	return after
}

func (s *shell) nobodyBuys() bool {
	return !slices.ContainsFunc(s.cfg.Lanes, func(c LaneConfig) bool {
		st, ok := s.device.LaneState(c.Lane)
		return !ok || !st.Idle()
	})
}

// times is how often a device went away since the agent's start.
func (l *lane) times(name string) int {
	for p, h := range l.health {
		if st := l.ladders[p]; st != nil && h.Device == name {
			return st.times
		}
	}
	return 0
}
