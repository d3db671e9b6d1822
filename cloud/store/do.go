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
	shard  uint32
	fn     func(*Tx) error
	wake   chan bool // true: lead; false: settled
	ahead  bool      // fn has run: writes is what it queued
	writes []write

	running bool // guarded by lane.mu: in a group
	named   bool // guarded by lane.mu: its caller is the next leader
	// What follows is the leader's until it wakes us.
	settled bool
	only    bool // no other unit runs beside it, in any lane or replica: shard 0, or one that lost too often
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
// Units of one shard run one after the other; beside one of shard 0 runs nothing at all.
//
// When ctx ends before the unit was started, nothing is done; after that its outcome is waited for.
// Errors are the fn's own, those of the puts (ErrConflict, ErrTaken, ledger's), ErrReadAfterWrite,
// ErrBusy, ErrUnavailable, ErrAborted, ErrClosed and the cause of ctx.
func (s *Store) Do(ctx context.Context, shard uint32, fn func(*Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.do(ctx, &unit{shard: shard, fn: fn, only: shard == 0})
}

// Put is Do for an fn that reads nothing. It runs at once, in its caller's goroutine and beside whatever else
// runs: only what it puts waits for its turn, and a writer that everybody waits for has less to do. An fn that
// reads ends with ErrRead.
func (s *Store) Put(ctx context.Context, shard uint32, fn func(*Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	u := &unit{shard: shard, fn: fn, only: shard == 0, ahead: true}
	u.writes = u.call(blind{})
	if u.panic != nil {
		panic(u.panic)
	}
	if u.err != nil {
		return u.err
	}
	return s.do(ctx, u)
}

// blind is what a unit reads from that must not: Tx says so.
type blind struct{}

func (blind) each(context.Context, string, []any, func(row) error) error { return ErrRead }

func (s *Store) do(ctx context.Context, u *unit) error {
	l := s.lanes[u.shard%uint32(len(s.lanes))]
	lead, err := l.join(u)
	if err != nil {
		return err
	}
	if !lead {
		select {
		case lead = <-u.wake:
		case <-ctx.Done():
			if l.leave(u) {
				return context.Cause(ctx)
			}
			lead = <-u.wake
		}
	}
	if lead {
		l.lead(ctx, u)
	}
	if u.panic != nil {
		panic(u.panic)
	}
	return u.err
}

// join queues a unit and reports whether its caller leads.
func (l *lane) join(u *unit) (lead bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, ErrClosed
	}
	l.queue = append(l.queue, u)
	if l.full != nil && len(l.queue) >= l.enough() {
		close(l.full)
		l.full = nil
	}
	if !l.leading {
		l.leading = true
		return true, nil
	}
	u.wake = make(chan bool, 1)
	return false, nil
}

// leave takes a unit out of the queue. It reports false when it is too late: the unit runs, or its
// caller has been named leader.
func (l *lane) leave(u *unit) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u.running || u.named {
		return false
	}
	l.remove(u)
	return true
}

func (l *lane) remove(u *unit) {
	i := slices.Index(l.queue, u)
	l.queue = slices.Delete(l.queue, i, i+1)
}

// lead runs one group. The leader's unit is the first in the queue, so it is in it.
func (l *lane) lead(ctx context.Context, u *unit) {
	l.gather(ctx)
	l.mu.Lock()
	if ctx.Err() != nil {
		l.remove(u)
		l.handOver()
		l.mu.Unlock()
		u.err = context.Cause(ctx)
		return
	}
	group := l.pick()
	l.mu.Unlock()
	defer func() {
		// Without a settled flag only after runtime.Goexit in an fn (a failed test): this goroutine
		// is ending, and must not take the lead or the others along.
		for _, g := range group {
			if !g.settled {
				g.fail(ErrAborted)
			}
		}
		l.mu.Lock()
		l.handOver()
		l.mu.Unlock()
		for _, g := range group {
			if g != u {
				g.wake <- false
			}
		}
	}()
	l.settle(group)
}

// enough units make no leader wait for more: a commit of SQLite costs as much CPU as ten or so, and while he
// waits nothing is written. l.mu is held.
func (l *lane) enough() int { return min(l.opt.MaxGroup, 16) }

// gather waits a little for more units, but only when others are there already.
func (l *lane) gather(ctx context.Context) {
	l.mu.Lock()
	if l.opt.Gather < 0 || len(l.queue) < 2 || len(l.queue) >= l.enough() {
		l.mu.Unlock()
		return
	}
	full := make(chan struct{})
	l.full = full
	l.mu.Unlock()

	timer := time.NewTimer(l.opt.Gather)
	defer timer.Stop()
	select {
	case <-full:
	case <-timer.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	l.full = nil
	l.mu.Unlock()
}

// pick takes a group off the queue: the first, and after it in order every unit whose shard is not
// in the group yet. What stays keeps its order, so units of a shard do too.
func (l *lane) pick() []*unit {
	group := make([]*unit, 0, min(l.opt.MaxGroup, len(l.queue)))
	rest := l.queue[:0]
	alone := l.queue[0].shard == 0
	var seen map[uint32]bool
	if len(l.queue) > 1 && !alone {
		seen = make(map[uint32]bool, len(l.queue))
	}
	for i, u := range l.queue {
		if i > 0 && (alone || u.shard == 0 || seen[u.shard] || len(group) == l.opt.MaxGroup) {
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
	clear(l.queue[len(rest):])
	l.queue = rest
	l.stats.Units += uint64(len(group))
	return group
}

// handOver names the next leader, or ends the lead. l.mu is held.
func (l *lane) handOver() {
	if len(l.queue) > 0 {
		l.queue[0].named = true
		l.queue[0].wake <- true
		return
	}
	l.leading = false
	if l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// settle runs a group together and, when one of its units makes that impossible, each alone: an
// error of SQL does not say whose fault it was, and what the others read may never have been.
func (l *lane) settle(group []*unit) {
	err := l.run(group)
	race := errors.Is(err, errRace)
	if err == nil || !race && (len(group) == 1 || ofDatabase(err)) {
		for _, u := range group {
			u.settle(err)
		}
		return
	}
	l.mu.Lock()
	l.stats.Redone++
	l.mu.Unlock()
	for _, u := range group {
		l.alone(u)
	}
}

// alone runs a unit until nobody was faster; in the end by stopping everybody else.
func (l *lane) alone(u *unit) {
	const tries = 5
	group := []*unit{u}
	for try := 1; ; try++ {
		err := l.run(group)
		if !errors.Is(err, errRace) || try == tries {
			u.settle(err)
			return
		}
		u.only = u.only || try >= 2
	}
}

func (l *lane) run(group []*unit) error {
	err := l.write.run(group)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.stats.Commits++
		l.fault = nil
	case ofDatabase(err):
		l.fault = err
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

// decide is what a unit writes, in the group that commits it.
func (u *unit) decide(q querier) []write {
	if u.ahead {
		return u.writes
	}
	return u.call(q)
}

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
