// Package store is all SQL: units of work that share commits, and reads beside them.
//
//	s, err := store.Open(ctx, store.Options{Path: "coinop.db"})
//	err = s.Do(ctx, store.Shard(device), func(tx *store.Tx) error {
//		p, err := tx.Payment(id)   // every read first
//		if err != nil {
//			return err             // nothing was touched
//		}
//		tx.PutPayment(next(p))     // puts only queue
//		return nil
//	})                             // nil: it is on disk
//	rows, err := s.Claim(ctx, now, time.Minute, 10, prepare)
//
// What it promises:
//   - Do returns nil after the commit that holds its unit, and only then.
//   - A unit is all there or not at all. One whose fn fails has touched nothing, and neither its
//     error nor its panic reaches another unit of the group.
//   - Units of one shard run one after the other, in the order they came; a unit of shard 0 is alone
//     in its group.
//   - An error that is not the fn's own leaves one question open: after a failed commit the unit may
//     still be found on disk when the machine comes back. Doing it again is safe, because ids are
//     made by whoever started, and versions are compared.
//   - The store starts no goroutine. One caller alone runs everything in its own, and no timer.
package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"coinop/protocol"
)

// Errors of the store. Trying again helps with ErrBusy, ErrUnavailable, ErrAborted and, after
// reading anew, with ErrConflict and ErrTaken.
var (
	ErrConflict       = errors.New("another version is stored")            // of a payment, head or STAN, or another record in its place
	ErrTaken          = errors.New("another payment of the sale is taken") // two captured payments of one live sale
	ErrExists         = errors.New("it exists already")
	ErrNotFound       = errors.New("no such thing is stored")
	ErrReadAfterWrite = errors.New("read after a put in one unit")          // a bug of the fn: it would not see what it put
	ErrBusy           = errors.New("the database is locked by another")     // nothing was done
	ErrUnavailable    = errors.New("the database cannot be written")        // disk full, read-only, broken
	ErrAborted        = errors.New("the unit was cut short by another")     // an fn ended its goroutine
	ErrClosed         = errors.New("the store is closed")                   // nothing was done
	errOver           = errors.New("a unit of work was used after its end") // a bug of the fn
)

// Options of a Store.
type Options struct {
	// Path of the database file, made when missing; ":memory:" for one that is gone after Close.
	Path string
	// Gather is how long a group waits for more units when at least two are there: 1 ms; less than
	// 0 is never. It ends early when those are back who were in the group before.
	Gather time.Duration
	// MaxGroup is the most units that share a commit: 64.
	MaxGroup int
}

// Stats count since Open.
type Stats struct {
	Units   uint64 // units that were tried
	Commits uint64 // transactions that were committed
	Redone  uint64 // groups rolled back and run again unit by unit
}

// Store is safe for concurrent use. Do must not be called inside the fn of a Do, nor any other
// method of the Store: it would wait for itself.
type Store struct {
	db  engine
	opt Options

	mu      sync.Mutex // guards what follows
	queue   []*unit    // in the order they came; the first leads or is about to
	leading bool       // someone leads: true whenever queue is not empty
	want    int        // queue length worth gathering for: full is closed at it
	full    chan struct{}
	closed  bool
	idle    chan struct{} // Close waits here for the last leader
	stats   Stats
	fault   error // of the last group, when the database failed and not a unit
}

// Open opens or makes the database and brings its tables up to date. Several Stores, here or in
// other processes of this machine, may have one file open.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Path == "" {
		return nil, errors.New("open store: want a path")
	}
	if o.Gather == 0 {
		o.Gather = time.Millisecond
	}
	if o.MaxGroup <= 0 {
		o.MaxGroup = 64
	}
	db, err := openSQLite(ctx, o.Path)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", o.Path, err)
	}
	return &Store{db: db, opt: o}, nil
}

// Close lets the units that came before it end, and closes the database. A Do after it gets
// ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var idle chan struct{}
	if s.leading {
		idle = make(chan struct{})
		s.idle = idle
	}
	s.mu.Unlock()
	if idle != nil {
		<-idle
	}
	if err := s.db.close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// Health is nil when the database can be read and the last group could be written.
func (s *Store) Health(ctx context.Context) error {
	s.mu.Lock()
	err, closed := s.fault, s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if err != nil {
		return fmt.Errorf("last write: %w", err)
	}
	_, _, err = one(ctx, s.db, scanInt, "probe", "select 1")
	return err
}

// Stats are the counters so far.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Shard is the shard of a device's units: FNV-1a of its id, never 0.
func Shard(d protocol.DeviceID) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(d))
	return max(h.Sum32(), 1)
}

// engine is a database as the rest of the package needs it; SQLite is the one there is. One on a
// network runs the fns of a group until each stands in its read, and sends reads, writes and commit
// of all together: nothing outside run knows that a unit's read is answered at once.
type engine interface {
	querier
	// run calls the units' fns and commits what they queued, or returns an error and has stored
	// nothing. Errors of fns are kept in the units. One caller at a time.
	run(units []*unit) error
	close() error
}

// querier reads rows of what is committed, or of a transaction.
type querier interface {
	each(ctx context.Context, query string, args []any, do func(row) error) error
}

type row interface{ Scan(...any) error }
