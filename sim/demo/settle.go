package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"coinop/cloud/store"
	"coinop/protocol"
)

// quietFor is how long nothing may change before the agents are stopped; what they had written but
// not sent is found afterwards, journal by journal.
const quietFor = 700 * time.Millisecond

// settleRounds is how often agents are started again to send what their journals still hold.
const settleRounds = 3

// settle waits until nothing is open any more and stops the agents. Nobody may be buying. It says
// what it waits for, and gives up when ctx ends.
func (f *fleet) settle(ctx context.Context, say func(string)) error {
	if err := f.audit(ctx); err != nil {
		return err
	}
	st, err := f.place.OpenLedger(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	want := map[protocol.DeviceID]protocol.Seq{}
	for round := 1; ; round++ {
		if err := f.quiet(ctx, st, want, say); err != nil {
			return err
		}
		if err := f.stopAgents(); err != nil {
			return err
		}
		behind := 0
		for _, s := range f.stations {
			head, err := journalHead(s.dir, s.name)
			if err != nil {
				return fmt.Errorf("journal of %s: %w", s.name, err)
			}
			held, err := st.Head(ctx, s.name)
			if err != nil {
				return err
			}
			switch {
			case held.Position == head:
				continue
			case held.Position.Epoch != head.Epoch || held.Position.Seq >= head.Seq:
				return fmt.Errorf("%s: the cloud holds another journal: %v, its own is at %v", s.name, held.Position, head)
			}
			behind += int(head.Seq - held.Position.Seq) //nolint:gosec // few
			want[s.name] = head.Seq
		}
		if behind == 0 {
			return nil
		}
		if round == settleRounds {
			return fmt.Errorf("after %d rounds %d records are still in the agents' journals only", round, behind)
		}
		say(fmt.Sprintf("%d records are still in the agents' journals only: the agents start again", behind))
		for _, s := range f.stations {
			if err := f.startAgent(s); err != nil {
				return err
			}
		}
	}
}

// quiet waits until the ledger has nothing open, holds what is wanted of every journal, and nothing
// has changed for a while.
func (f *fleet) quiet(ctx context.Context, st *store.Store, want map[protocol.DeviceID]protocol.Seq, say func(string)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, said := "", time.Time{}
	before, since := "", time.Now()
	for {
		waits, state, err := f.waitsFor(ctx, st, want)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if state != before {
			before, since = state, time.Now()
		}
		if waits == "" && time.Since(since) >= quietFor {
			return nil
		}
		if waits != "" && waits != last && time.Since(said) >= time.Second {
			say(waits)
			last, said = waits, time.Now()
		}
		if err := f.watch(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not settled in time, still waiting for %s: %w", waits, context.Cause(ctx))
		}
	}
}

// waitsFor says what is still open, "" for nothing, and where everything stands.
func (f *fleet) waitsFor(ctx context.Context, st *store.Store, want map[protocol.DeviceID]protocol.Seq) (waits, state string, err error) {
	ops, err := st.OpenOps(ctx)
	if err != nil {
		return "the ledger", "", err
	}
	ps, err := payments(ctx, st)
	if err != nil {
		return "the ledger", "", err
	}
	open := map[string]int{}
	for _, p := range ps {
		if !p.State.Final() {
			open[p.State.String()]++
		} else if p.By == protocol.ByCash && p.Change.Minor != p.Approved.Minor-p.Captured.Minor {
			open["owed change"]++
		}
	}
	var parts []string
	if ops > 0 {
		parts = append(parts, fmt.Sprintf("%d operations at the host", ops))
	}
	for _, s := range []string{"sent", "unknown", "approved", "capturing", "reversing", "held", "owed change"} {
		if open[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d payments %s", open[s], s))
		}
	}
	state = fmt.Sprint(ops, len(ps), open)
	for _, s := range f.stations {
		head, err := st.Head(ctx, s.name)
		if err != nil {
			return "the ledger", "", err
		}
		if head.Stopped != "" {
			return "", "", fmt.Errorf("the cloud has stopped %s: %s", s.name, head.Stopped)
		}
		if n := want[s.name]; head.Position.Seq < n {
			parts = append(parts, fmt.Sprintf("%d records of %s", n-head.Position.Seq, s.name))
		}
		state += fmt.Sprint(" ", head.Position.Seq)
	}
	return strings.Join(parts, ", "), state, nil
}

// compare reads all books. Cloud, host and machines must have ended.
func (f *fleet) compare(ctx context.Context) (Verdict, error) {
	host, err := readHost(f.path("host.jsonl"))
	if err != nil {
		return Verdict{}, err
	}
	ours, unbalanced, err := readLedger(ctx, f.place)
	if err != nil {
		return Verdict{}, err
	}
	theirs := Outside{Host: host}
	var errs []error
	for _, s := range f.stations {
		d, err := readDrops(filepath.Join(s.dir, DropsFile), s.tid)
		theirs.Drops = append(theirs.Drops, d...)
		t, terr := readTerminal(filepath.Join(s.dir, BooksFile), s.tid)
		theirs.Terminals = append(theirs.Terminals, t...)
		m, merr := readMoved(filepath.Join(s.dir, MovedFile), s.name, s.kills)
		theirs.Moved = append(theirs.Moved, m...)
		errs = append(errs, err, terr, merr)
	}
	v := Compare(theirs, ours)
	v.Unbalanced, v.Told = unbalanced, ours.Told
	if unbalanced != nil {
		v.Findings = append(v.Findings, unbalanced.Error())
	}
	return v, errors.Join(errs...)
}
