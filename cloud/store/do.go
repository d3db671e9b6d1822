package store

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// Group commit without a goroutine of its own: whoever finds nobody leading leads, runs one group
// with its own unit in it, and hands the lead to the first that waits.
//
//	queued ──▶ running ──▶ settled
//	   │ ctx ended
//	   ▼
//	 removed

// unit is one Do.
type unit struct {
	shard uint32
	fn    func(*Tx) error
	wake  chan bool // true: lead; false: settled

	running bool // guarded by Store.mu: in a group
	named   bool // guarded by Store.mu: its caller is the next leader
	// What follows is the leader's until it wakes us.
	settled bool
	err     error
	panic   *Panic
}

// Panic is what Do panics with in its caller's goroutine when its fn panicked, wherever it ran.
type Panic struct {
	Value any
	Stack []byte // of the fn
}

func (p *Panic) Error() string { return fmt.Sprintf("%v\n\nin a unit of work:\n%s", p.Value, p.Stack) }

// Unwrap is the value, when it was an error.
func (p *Panic) Unwrap() error { err, _ := p.Value.(error); return err }

// Do runs fn as one unit of work and returns after its commit. fn may be run again, with other
// reads, and in another goroutine; what it does outside its Tx must wait until Do has returned.
// Units of one shard never share a group; shard 0 shares with nobody.
//
// When ctx ends before the unit was started, nothing is done; after that its outcome is waited for.
// Errors are the fn's own, those of the puts (ErrConflict, ErrTaken, ledger's), ErrReadAfterWrite,
// ErrBusy, ErrUnavailable, ErrAborted, ErrClosed and the cause of ctx.
func (s *Store) Do(ctx context.Context, shard uint32, fn func(*Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	u := &unit{shard: shard, fn: fn}
	lead, err := s.join(u)
	if err != nil {
		return err
	}
	if !lead {
		select {
		case lead = <-u.wake:
		case <-ctx.Done():
			if s.leave(u) {
				return context.Cause(ctx)
			}
			lead = <-u.wake
		}
	}
	if lead {
		s.lead(ctx, u)
	}
	if u.panic != nil {
		panic(u.panic)
	}
	return u.err
}

// join queues a unit and reports whether its caller leads.
func (s *Store) join(u *unit) (lead bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, ErrClosed
	}
	s.queue = append(s.queue, u)
	if s.full != nil && len(s.queue) >= s.want {
		close(s.full)
		s.full = nil
	}
	if !s.leading {
		s.leading = true
		return true, nil
	}
	u.wake = make(chan bool, 1)
	return false, nil
}

// leave takes a unit out of the queue. It reports false when it is too late: the unit runs, or its
// caller has been named leader.
func (s *Store) leave(u *unit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.running || u.named {
		return false
	}
	s.remove(u)
	return true
}

func (s *Store) remove(u *unit) {
	i := slices.Index(s.queue, u)
	s.queue = slices.Delete(s.queue, i, i+1)
}

// lead runs one group. The leader's unit is the first in the queue, so it is in it.
func (s *Store) lead(ctx context.Context, u *unit) {
	s.gather(ctx)
	s.mu.Lock()
	if ctx.Err() != nil {
		s.remove(u)
		s.handOver()
		s.mu.Unlock()
		u.err = context.Cause(ctx)
		return
	}
	group := s.pick()
	s.mu.Unlock()
	defer func() {
		// Without a settled flag only after runtime.Goexit in an fn (a failed test): this goroutine
		// is ending, and must not take the lead or the others along.
		for _, g := range group {
			if !g.settled {
				g.fail(ErrAborted)
			}
		}
		s.mu.Lock()
		s.want = min(s.opt.MaxGroup, len(s.queue)+len(group)) // nobody of the group is back yet
		s.handOver()
		s.mu.Unlock()
		for _, g := range group {
			if g != u {
				g.wake <- false
			}
		}
	}()
	s.settle(group)
}

// gather waits for more units, but only when others are there already, and no longer than until as
// many are there as waited or were served a moment ago: in a closed loop those are all there are.
func (s *Store) gather(ctx context.Context) {
	s.mu.Lock()
	if s.opt.Gather < 0 || len(s.queue) < 2 || len(s.queue) >= s.want {
		s.mu.Unlock()
		return
	}
	full := make(chan struct{})
	s.full = full
	s.mu.Unlock()

	timer := time.NewTimer(s.opt.Gather)
	defer timer.Stop()
	select {
	case <-full:
	case <-timer.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.full = nil
	s.mu.Unlock()
}

// pick takes a group off the queue: the first, and after it in order every unit whose shard is not
// in the group yet. What stays keeps its order, so units of a shard do too.
func (s *Store) pick() []*unit {
	group := make([]*unit, 0, min(s.opt.MaxGroup, len(s.queue)))
	rest := s.queue[:0]
	alone := s.queue[0].shard == 0
	var seen map[uint32]bool
	if len(s.queue) > 1 && !alone {
		seen = make(map[uint32]bool, len(s.queue))
	}
	for i, u := range s.queue {
		if i > 0 && (alone || u.shard == 0 || seen[u.shard] || len(group) == s.opt.MaxGroup) {
			rest = append(rest, u)
			if !alone {
				seen[u.shard] = true // one that stays must not be overtaken by a later one of its shard
			}
			continue
		}
		u.running = true
		group = append(group, u)
		if seen != nil {
			seen[u.shard] = true
		}
	}
	clear(s.queue[len(rest):])
	s.queue = rest
	s.stats.Units += uint64(len(group))
	return group
}

// handOver names the next leader, or ends the lead. s.mu is held.
func (s *Store) handOver() {
	if len(s.queue) > 0 {
		s.queue[0].named = true
		s.queue[0].wake <- true
		return
	}
	s.leading = false
	if s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// settle runs a group together and, when one of its units makes that impossible, each alone: an
// error of SQL does not say whose fault it was, and what the others read may never have been.
func (s *Store) settle(group []*unit) {
	err := s.run(group)
	if err == nil || len(group) == 1 || ofDatabase(err) {
		for _, u := range group {
			u.settle(err)
		}
		return
	}
	s.mu.Lock()
	s.stats.Redone++
	s.mu.Unlock()
	for i, u := range group {
		u.settle(s.run(group[i : i+1]))
	}
}

func (s *Store) run(group []*unit) error {
	err := s.db.run(group)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.stats.Commits++
		s.fault = nil
	case ofDatabase(err):
		s.fault = err
	}
	return err
}

// ofDatabase reports an error that every unit of the group would meet again.
func ofDatabase(err error) bool { return errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable) }

// settle ends a unit whose group ended with err.
func (u *unit) settle(err error) {
	if u.settled = true; err != nil {
		u.fail(err)
	}
}

// fail replaces what the fn said, which may rest on reads that were rolled back; not its panic.
func (u *unit) fail(err error) { u.err = err }

// call runs the fn and returns what it queued; nothing when it failed, which the unit keeps.
func (u *unit) call(q querier) []write {
	tx := &Tx{from: q}
	u.err, u.panic = nil, nil
	func() {
		defer func() {
			if v := recover(); v != nil {
				u.panic = &Panic{Value: v, Stack: debug.Stack()}
			}
			tx.from = nil
		}()
		u.err = u.fn(tx)
	}()
	if tx.err != nil {
		u.err = tx.err // though the fn may have said nil: what it read or put was refused
	}
	if u.err != nil || u.panic != nil {
		return nil
	}
	return tx.queue
}
