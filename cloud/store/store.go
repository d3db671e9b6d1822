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
//   - Units of one shard run one after the other, in the order they came, also those of other
//     replicas. While a unit of shard 0 runs, no other does.
//   - An error that is not the fn's own leaves one question open: after a failed commit the unit may
//     still be found on disk when the machine comes back. Doing it again is safe, because ids are
//     made by whoever started, and versions are compared.
//   - The store starts no goroutine. One caller alone runs everything in its own, and no timer. (On
//     PostgreSQL fns run as coroutines of their leader.)
//
// It is SQLite for one cloud, or PostgreSQL for several replicas; the same text of SQL but where
// engine says otherwise.
package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"strings"
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
	ErrRead           = errors.New("read in a unit that only puts")         // nothing was done: Put
	ErrBusy           = errors.New("the database is locked by another")     // nothing was done
	ErrUnavailable    = errors.New("the database cannot be written")        // disk full, read-only, broken
	ErrRefused        = errors.New("the database server lets us not in")    // beside ErrUnavailable: password, role, name
	ErrAborted        = errors.New("the unit was cut short by another")     // an fn ended its goroutine
	ErrClosed         = errors.New("the store is closed")                   // nothing was done
	errOver           = errors.New("a unit of work was used after its end") // a bug of the fn
	errRace           = errors.New("another unit was faster")               // beside one of the above: the store runs the unit again
)

// Options of a Store.
type Options struct {
	// Path of the database file, made when missing; ":memory:" for one that is gone after Close. Or
	// "postgres://…", a database of PostgreSQL 15 or later: as libpq has it, with its parameters.
	Path string
	// Gather is how long a group waits for more units when at least two are there: 2 ms; less than
	// 0 is never. It ends early when 16 are there.
	Gather time.Duration
	// MaxGroup is the most units that share a commit: 256. A page that many touch is written once.
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
	db    engine
	opt   Options
	lanes []*lane // a shard has one for ever: units of a shard keep their order
}

// lane is a queue of units before one writer of the engine.
type lane struct {
	opt   Options
	write writer

	mu      sync.Mutex    // guards what follows
	queue   []*unit       // in the order they came; the first leads or is about to
	leading bool          // someone leads: true whenever queue is not empty
	full    chan struct{} // closed when enough wait; nil: nobody gathers
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
		o.Gather = 2 * time.Millisecond
	}
	if o.MaxGroup <= 0 {
		o.MaxGroup = 256
	}
	db, err := openEngine(ctx, o.Path)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", redacted(o.Path), err)
	}
	s := &Store{db: db, opt: o}
	for _, w := range db.writers() {
		s.lanes = append(s.lanes, &lane{opt: o, write: w})
	}
	return s, nil
}

func openEngine(ctx context.Context, path string) (engine, error) {
	if Remote(path) {
		return openPostgres(ctx, path)
	}
	return openSQLite(ctx, path)
}

// Remote reports a Path that names a server and no file.
func Remote(path string) bool {
	return strings.HasPrefix(path, "postgres://") || strings.HasPrefix(path, "postgresql://")
}

// redacted is a path without its password.
func redacted(path string) string {
	if !Remote(path) {
		return path
	}
	u, err := url.Parse(path)
	if err != nil {
		return "postgres://?"
	}
	u.RawQuery = "" // a password may be there too
	return u.Redacted()
}

// Close lets the units that came before it end, and closes the database. A Do after it gets
// ErrClosed.
func (s *Store) Close() error {
	again := false
	for _, l := range s.lanes { // no lane takes a unit any more before one is waited for
		again = l.shut() || again
	}
	if again {
		return nil
	}
	for _, l := range s.lanes {
		l.drain()
	}
	if err := s.db.close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// shut refuses units from now on; it reports that it did so before.
func (l *lane) shut() (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	again, l.closed = l.closed, true
	if !again && l.leading {
		l.idle = make(chan struct{})
	}
	return again
}

// drain waits for the last leader.
func (l *lane) drain() {
	l.mu.Lock()
	idle := l.idle
	l.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

// Health is nil when the database can be read and the last group of each writer could be written.
func (s *Store) Health(ctx context.Context) error {
	for _, l := range s.lanes {
		l.mu.Lock()
		err, closed := l.fault, l.closed
		l.mu.Unlock()
		if closed {
			return ErrClosed
		}
		if err != nil {
			return fmt.Errorf("last write: %w", err)
		}
	}
	_, _, err := one(ctx, s.db, scanInt, "probe", "select 1")
	return err
}

// Stats are the counters so far.
func (s *Store) Stats() Stats {
	var sum Stats
	for _, l := range s.lanes {
		l.mu.Lock()
		sum.Units += l.stats.Units
		sum.Commits += l.stats.Commits
		sum.Redone += l.stats.Redone
		l.mu.Unlock()
	}
	return sum
}

// Shard is the shard of a device's units: FNV-1a of its id, never 0.
func Shard(d protocol.DeviceID) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(d))
	return max(h.Sum32(), 1)
}

// engine is a database as the rest of the package needs it.
type engine interface {
	querier
	// writers are as many as can write side by side; the same ones every time.
	writers() []writer
	// feedEnd is the condition under which an entry of the feed may be read; "" for always.
	feedEnd() string
	close() error
}

// writer carries out groups. SQLite answers each read of a unit at once; PostgreSQL lets the fns of
// a group run until each stands in its read, and sends reads, writes and commit of all together.
// Nothing outside run knows.
type writer interface {
	// run calls the units' fns and commits what they queued, or returns an error and has stored
	// nothing. Errors of fns are kept in the units. One caller at a time. With errRace in the error,
	// the units may do better alone.
	run(units []*unit) error
}

// querier reads rows of what is committed, or of a transaction.
type querier interface {
	each(ctx context.Context, query string, args []any, do func(row) error) error
}

type row interface{ Scan(...any) error }
