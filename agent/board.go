package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"coinop/agent/session"
	"coinop/hardware"
	"coinop/protocol"
)

// doorSettles is how long after the door has moved a machine's books are read: who opens it switches the
// machine off or begins to fill it, and who closes it may slam it twice.
const doorSettles = 2 * time.Second

// loop is a tamper loop: of a part of a lane.
type loop struct {
	lane protocol.Lane
	from part
}

// door is the service door of lanes: who opens it may be about to change what the machine's counters say
// of, and who closes it has. It is on the disk before anybody hears of it.
func (s *shell) door(open bool, lanes ...*lane) error {
	var ins []Input
	moved := false
	for _, l := range lanes {
		st, ok := s.device.LaneState(l.id)
		moved = moved || ok && st.Door() != open
		if l.auditAt = min(l.auditAt, s.mono()+doorSettles); l.auditing {
			l.moved = true
		}
		ins = append(ins, Lane{l.id, session.Door{Open: open}})
	}
	if !moved { // as it was when we last looked: at a start
		return s.handle(ins...)
	}
	if err := s.handle(ins...); err != nil {
		return err
	}
	s.log.Info("door", "open", open, "lanes", lanesOf(lanes))
	return nil
}

// tamper is a device that was opened: its lanes sell nothing until a technician clears it. It is on the
// disk before anybody hears of it.
func (s *shell) tamper(from part, ev hardware.Tamper, lanes ...*lane) error {
	var ins []Input
	for _, l := range lanes {
		if at := (loop{l.id, from}); ev.Over {
			delete(s.loose, at)
		} else {
			s.loose[at] = ev.Device
		}
		ins = append(ins, Lane{l.id, session.Tamper{Part: ev.Device}})
	}
	if ev.Over { // what it locked stays so
		s.log.Info("tamper loop closed", "part", ev.Device, "lanes", lanesOf(lanes))
		return nil
	}
	if err := s.handle(ins...); err != nil {
		return err
	}
	s.log.Error("tamper", "lanes", lanesOf(lanes), "part", ev.Device,
		"check", "it was opened, or its wire is cut: look at it, and at the readers, before it sells again: coinop-agent tamper clear")
	if s.board != nil {
		s.onBoard("alarm", s.board.Alarm())
	}
	for _, l := range lanes {
		s.service(l.id)
	}
	s.tellStatus()
	return nil
}

// clearTamper lets lanes sell again that a person has looked at.
func (s *shell) clearTamper(ctx context.Context, person string) error {
	if err := nameOf("by", person); err != nil {
		return err
	}
	var said error
	done := s.inOwner(ctx, func() error {
		var ins []Input
		var locked []*lane
		for _, c := range s.cfg.Lanes {
			if st, ok := s.device.LaneState(c.Lane); ok && st.Tampered() {
				locked = append(locked, s.lanes[c.Lane])
				ins = append(ins, Lane{c.Lane, session.Tamper{Cleared: true, By: person}})
			}
		}
		if len(locked) == 0 {
			said = errors.New("nothing is locked")
			return nil
		}
		if open := s.looseNames(); open != "" {
			said = fmt.Errorf("%s: still open; close it, or mend its wire, first", open)
			return nil
		}
		if err := s.handle(ins...); err != nil {
			return err
		}
		s.log.Warn("tamper cleared", "by", person, "lanes", lanesOf(locked))
		for _, l := range locked {
			s.service(l.id)
		}
		s.tellStatus()
		return nil
	})
	if !done {
		return errors.New("the agent did not come to it in time")
	}
	return said
}

// locked reports that a lane was opened, and nobody has cleared that.
func (s *shell) locked(l protocol.Lane) bool {
	st, ok := s.device.LaneState(l)
	return ok && st.Tampered()
}

func (s *shell) looseNames() string {
	return strings.Join(slices.Compact(slices.Sorted(maps.Values(s.loose))), ", ")
}

func lanesOf(lanes []*lane) []int {
	ids := make([]int, 0, len(lanes))
	for _, l := range lanes {
		ids = append(ids, int(l.id))
	}
	return ids
}
