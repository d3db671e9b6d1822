package session

import (
	"fmt"
	"slices"

	"coinop/protocol"
)

// saved is a lane in a Snapshot record: what records said of it, and nothing of this boot.
type saved struct {
	Lane protocol.Lane `cbor:"1,keyasint"`
	D    durable       `cbor:"2,keyasint"`
}

// Record encodes s for the journal. A sale that has no record yet is left out.
func (s Snapshot) Record() protocol.Snapshot {
	out := protocol.Snapshot{Counters: s.Counters, Cursor: s.Cursor, PolicyVersion: s.PolicyVersion, OwedBlobs: slices.Clone(s.OwedBlobs)}
	for _, l := range s.Lanes {
		out.Lanes = append(out.Lanes, protocol.MustEncode(saved{l.cfg.Lane, l.written()}))
	}
	return out
}

// Restore is the opposite of Record. A lane of configs that the record lacks is idle; one that
// only the record has is an error while a sale is live on it, and an error wraps
// protocol.ErrDecode when its bytes are broken.
func Restore(rec protocol.Snapshot, configs []Config, policy protocol.Policy) (Snapshot, error) {
	out := Snapshot{Counters: rec.Counters, Cursor: rec.Cursor, PolicyVersion: rec.PolicyVersion, OwedBlobs: slices.Clone(rec.OwedBlobs)}
	for _, c := range configs {
		l := New(c, policy)
		l.counters = rec.Counters
		out.Lanes = append(out.Lanes, l)
	}
	for _, b := range rec.Lanes {
		var v saved
		if err := protocol.DecodeExact(b, &v); err != nil {
			return Snapshot{}, fmt.Errorf("lane of a snapshot: %w", err)
		}
		i := slices.IndexFunc(configs, func(c Config) bool { return c.Lane == v.Lane })
		switch {
		case i >= 0:
			out.Lanes[i].d = v.D
		case v.D.Phase != Idle:
			return Snapshot{}, fmt.Errorf("lane %d has a live sale and is not configured", v.Lane)
		}
	}
	return out, nil
}
