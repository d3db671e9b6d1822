package agent

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"coinop/hardware"
	"coinop/hardware/usb"
	"coinop/protocol/code"
)

// Recovery is when the next step is taken to bring a device back that stays away; the zero value is as it
// should be in the field. Each step is a record.
//
//  1. Its port is opened again and again, from half a second on; a driver's opening resets its device (an MDB
//     RESET, 1B 40, a reader's cancel and ping). It is a record when that has not helped for ReopenAfter.
//  2. At USB it is reset, ResetAfter, as if its cable were pulled and put in again, while nobody buys: once each
//     time it goes away.
//  3. A relay takes its power away for a moment, where one is wired (BoardConfig.Power).
//  4. The agent starts anew, RestartAfter, while nobody buys: once for a device that had worked since the start
//     before, so that one which is broken does not make the agent start for ever.
type Recovery struct {
	ReopenAfter  time.Duration // 10 s
	ResetAfter   time.Duration // 30 s
	RestartAfter time.Duration // 15 min
	USB          usb.Tree      // where its devices are found; this computer's
}

const (
	reopenAfter  = 10 * time.Second
	resetAfter   = 30 * time.Second
	restartAfter = 15 * time.Minute
)

// ladder is how far a device's recovery has come.
type ladder struct {
	worked bool          // since the start
	away   bool          // since Mono
	since  time.Duration // Mono
	steps  int           // taken, but for the reset and the relay's
	reset  bool          // at USB
	times  int           // it went away
}

// recover takes the steps that are due, once a second.
func (s *shell) recover(now time.Duration) error {
	for _, c := range s.cfg.Lanes {
		l := s.lanes[c.Lane]
		if l == nil {
			continue
		}
		for _, d := range l.devices {
			if err := s.recoverDevice(l, d, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// ladder is a device's. A bus that is gone and what hangs at it (cash; cash coins, cash bills) take over each
// other's, as in sees; those at one bus have their own.
func (l *lane) ladder(name string) *ladder {
	if l.ladders == nil {
		l.ladders = map[string]*ladder{}
	}
	if l.ladders[name] == nil {
		st := ladder{}
		for other, was := range l.ladders {
			if partOf(other, name) || partOf(name, other) {
				if was.worked || !st.worked {
					st = *was
				}
				delete(l.ladders, other)
			}
		}
		l.ladders[name] = &st
	}
	return l.ladders[name]
}

func (s *shell) recoverDevice(l *lane, d DeviceStatus, now time.Duration) error {
	st := l.ladder(d.Name)
	name := fmt.Sprintf("lane %d %s", l.id, d.Name)
	away := time.Duration(0)
	if d.State == hardware.Ready.String() || d.State == hardware.Degraded.String() {
		was := *st
		st.worked, st.away, st.steps, st.reset = true, false, 0, false
		if was.steps == 0 {
			return nil
		}
		away = now - was.since
		s.log.Info("a device is back", "lane", int(l.id), "part", d.Name, "away", away.Round(time.Second).String())
		return s.handle(Fault{Code: code.RecoveryOver, Device: name, Detail: "away for " + away.Round(time.Second).String()})
	}
	if !st.away {
		st.away, st.since = true, now
		st.times++
	}
	away = now - st.since
	detail := fmt.Sprintf("%s for %s", cmp.Or(string(d.Code), d.State), away.Round(time.Second))
	if st.steps > 0 && !st.reset && d.away() && away >= cmp.Or(s.cfg.Recovery.ResetAfter, resetAfter) && s.nobodyBuys() {
		if err := s.resetUSB(l, d, st, name, detail); err != nil {
			return err
		}
	}
	switch {
	case st.steps == 0 && away >= cmp.Or(s.cfg.Recovery.ReopenAfter, reopenAfter):
		st.steps = 1
		return s.handle(Fault{Code: code.RecoveryReopen, Device: name, Detail: detail})
	case st.steps == 1 && st.worked && away >= cmp.Or(s.cfg.Recovery.RestartAfter, restartAfter) && s.nobodyBuys():
		st.steps = 2
		if err := s.handle(Fault{Code: code.RecoveryRestart, Device: name, Detail: detail}); err != nil {
			return err
		}
		s.log.Warn("the agent starts anew for a device that stays away", "lane", int(l.id), "part", d.Name, "because", detail)
		return &Again{code.RecoveryRestart}
	}
	return nil
}

// resetUSB resets a device that hangs at USB; of another, and of one whose cable is out, it does nothing. That it
// does is on the disk before it is done.
func (s *shell) resetUSB(l *lane, d DeviceStatus, st *ladder, name, detail string) error {
	at, err := s.cfg.Recovery.USB.Find(l.port(d.Name))
	if err != nil {
		return nil //nolint:nilerr // it is not there, or not at USB
	}
	st.reset = true
	if err := s.handle(Fault{Code: code.RecoveryReset, Device: name, Detail: detail + ", " + at.Name}); err != nil {
		return err
	}
	s.log.Warn("a device at USB is reset", "lane", int(l.id), "part", d.Name, "usb", at.Name, "because", detail)
	s.resets.Go(func() { // the kernel takes its time
		if err := at.Reset(); err != nil {
			s.log.Warn("a device at USB could not be reset", "lane", int(l.id), "part", d.Name, "usb", at.Name, "error", err.Error(),
				"check", "the agent's user must be allowed to write "+at.Node+": a udev rule for it, or the group that owns it")
		}
	})
	return nil
}

// port is where a device of a lane is, or what it is a part of.
func (l *lane) port(name string) string {
	if at, ok := l.ports[name]; ok {
		return at
	}
	for whole, at := range l.ports {
		if partOf(name, whole) {
			return at
		}
	}
	return ""
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
	if st := l.ladders[name]; st != nil {
		return st.times
	}
	return 0
}
