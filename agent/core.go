// Package agent runs one device: it drives the hardware, decides about money when it must, and
// loses no record of it.
//
// Core is its middle: synchronous and without goroutines. Events of all lanes go in, their records
// are synced in one transaction, and only then the effects come out for the loop around it to run.
//
//	core, err := agent.NewCore(config, journal)
//	effects, err := core.Boot(now, ids)              // once: says what is still owed
//	effects, err := core.Handle(now, events)         // ever after
package agent

import (
	"fmt"
	"slices"

	"coinop/agent/session"
	"coinop/protocol"
)

// Journal is what Core needs of agent/journal.
type Journal interface {
	// Append is one transaction, synced; a position each. After an error nothing is known.
	Append([]protocol.Record, []protocol.Blob) ([]protocol.Position, error)
	Head() protocol.Position
	Latest() (protocol.Snapshot, []protocol.Record, error)
	SinceSnapshot() int
	Read(after protocol.Seq, limit int) ([]protocol.Sealed, error)
}

// CoreConfig is what a Core is made for.
type CoreConfig struct {
	Lanes    []session.Config
	Policy   protocol.Policy
	Software string
	Repaired string // what the journal had to mend at open
	// SnapshotEvery is how many records may follow a snapshot; 0 = 512.
	SnapshotEvery int
}

// Effect is a session effect on its lane.
type Effect struct {
	Lane   protocol.Lane
	Effect session.Effect
}

// Core steps all lanes of a device.
type Core struct {
	cfg     CoreConfig
	journal Journal
	snap    session.Snapshot
	failed  error
}

// NewCore recovers the lanes' state from the journal. It writes nothing; Boot does.
func NewCore(cfg CoreConfig, j Journal) (*Core, error) {
	if cfg.SnapshotEvery == 0 {
		cfg.SnapshotEvery = 512
	}
	rec, after, err := j.Latest()
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	base, err := session.Restore(rec, cfg.Lanes, cfg.Policy)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	return &Core{cfg: cfg, journal: j, snap: session.Recover(base, after)}, nil
}

// Boot writes Booted, and after it records of the device, and lets every lane say what is still owed.
// caseID gives each lane a fresh id.
func (c *Core) Boot(now protocol.Reading, caseID func() protocol.CaseID, device ...protocol.Record) ([]Effect, error) {
	evs := make([]session.In, len(c.snap.Lanes))
	for i, l := range c.cfg.Lanes {
		evs[i] = session.In{Lane: l.Lane, Case: caseID(), Event: session.Booted{}}
	}
	booted := protocol.Record{Body: protocol.Booted{
		Software: c.cfg.Software, PolicyVersion: c.cfg.Policy.Version, Reason: "start", Repaired: c.cfg.Repaired,
	}}
	return c.handle(now, evs, append([]protocol.Record{booted}, device...)...)
}

// Handle takes events in order, syncs what they record, and before it records of the device itself,
// in one transaction, and returns what is to be done. After an error no state has changed, nothing
// may be done, and the agent must start again.
func (c *Core) Handle(now protocol.Reading, evs []session.In, device ...protocol.Record) ([]Effect, error) {
	return c.handle(now, evs, device...)
}

// Cursor is how many payment dispositions the device has taken in.
func (c *Core) Cursor() uint64 { return c.snap.Cursor }

// Lane is the state of a lane, to draw a screen or seal a card by.
func (c *Core) Lane(l protocol.Lane) (session.State, bool) {
	for i, cfg := range c.cfg.Lanes {
		if cfg.Lane == l {
			return c.snap.Lanes[i], true
		}
	}
	return session.State{}, false
}

func (c *Core) handle(now protocol.Reading, evs []session.In, records ...protocol.Record) ([]Effect, error) {
	if c.failed != nil {
		return nil, fmt.Errorf("core: %w", c.failed)
	}
	next := session.Recover(c.snap, nil) // a copy
	var blobs []protocol.Blob
	var effects []Effect
	requests := map[int]int{} // index of an Authorize in effects -> index of its record
	for _, ev := range evs {
		if h, ok := ev.Event.(session.Headroom); ok { // what the cloud's acks gave back
			next.Counters = h.Counters
		}
		for i := range next.Lanes {
			if c.cfg.Lanes[i].Lane != ev.Lane {
				continue
			}
			var out session.Output
			next.Lanes[i], out = next.Lanes[i].Step(now, ev)
			for _, e := range out.Effects {
				if a, ok := e.(session.Authorize); ok {
					requests[len(effects)] = len(records) + a.Record
				}
				effects = append(effects, Effect{Lane: ev.Lane, Effect: e})
			}
			records, blobs = append(records, out.Records...), append(blobs, out.Blobs...)
		}
	}
	if len(records) > 0 {
		for i := range records {
			records[i].At = now
		}
		// The steps have folded their records into the lanes; what belongs to the whole device is
		// folded here, and told to every lane.
		device := session.Recover(session.Snapshot{Counters: next.Counters, OwedBlobs: next.OwedBlobs, PolicyVersion: next.PolicyVersion}, records)
		next.OwedBlobs, next.PolicyVersion = device.OwedBlobs, device.PolicyVersion
		if device.Counters != next.Counters {
			next.Counters = device.Counters
			for i, l := range c.cfg.Lanes {
				next.Lanes[i], _ = next.Lanes[i].Step(now, session.In{Lane: l.Lane, Event: session.Headroom{Counters: next.Counters}})
			}
		}
		if c.journal.SinceSnapshot()+len(records) >= c.cfg.SnapshotEvery {
			records = append(records, protocol.Record{At: now, Body: next.Record()})
		}
		positions, err := c.journal.Append(records, blobs)
		if err != nil {
			c.failed = err
			return nil, fmt.Errorf("sync %d records: %w", len(records), err)
		}
		for e, r := range requests {
			a := effects[e].Effect.(session.Authorize)
			a.Position = positions[r]
			effects[e].Effect = a
		}
		copies, err := c.copies(next, records, positions)
		if err != nil {
			c.failed = err
			return nil, err
		}
		effects = append(effects, copies...)
	}
	c.snap = next
	return effects, nil
}

// copies makes the early copy of each outcome of an online payment: its record's own bytes.
func (c *Core) copies(s session.Snapshot, records []protocol.Record, at []protocol.Position) ([]Effect, error) {
	var out []Effect
	for i, r := range records {
		o, ok := r.Body.(protocol.PaymentOutcome)
		if !ok || !slices.ContainsFunc(s.Lanes, func(l session.State) bool { return l.Asked(o.Payment) }) { // offline, or cash: the journal tells it
			continue
		}
		sealed, err := c.journal.Read(at[i].Seq-1, 1)
		if err != nil || len(sealed) != 1 {
			return nil, fmt.Errorf("read back record %d: %w", at[i].Seq, err)
		}
		out = append(out, Effect{Lane: r.Lane, Effect: session.SendOutcomeCopy{Sealed: sealed[0]}})
	}
	return out, nil
}
