package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A group on a server lives on round trips. Its fns run as coroutines until each stands in a read;
// the reads of all go as one pipeline, again and again until nobody reads any more, and then all
// writes and the commit as one:
//
//	begin, locks, reads ──▶ reads ──▶ … ──▶ writes, commit
//
// The locks stand for what SQLite's one writer gives: units of a shard run one after the other
// whatever replica they come to, and a unit of shard 0 runs alone. So read committed is enough: what
// a unit has read can change under it only where shards share a row, and those rows are put over what
// was read (versions, STANs) or never change (transfers).
//
// The commit leaves with the writes, so nobody can look at how many rows they changed. Each write
// that is checked therefore fails by itself when it changed none; that may be right (a transfer that
// is there already), and the unit is run again, alone, with its writes looked at before the commit.

// errGuard is a write that changed nothing and was not looked at.
var errGuard = fmt.Errorf("a guarded write changed nothing: %w", errRace)

// guarded makes a write fail that changes no row: by a division by zero, SQL's shortest.
func guarded(query string) string {
	return "with done as (" + query + " returning 1) select 1 / count(*) from done"
}

const divisionByZero = "22012"

// pgWriter is one writing connection.
type pgWriter struct {
	db     *postgresDB
	conn   *pgx.Conn         // nil: not connected
	guards map[string]string // query: guarded
}

// drop lets go of the connection; the server rolls back.
func (w *pgWriter) drop() {
	hangUp(w.conn)
	w.conn = nil
}

func (w *pgWriter) run(units []*unit) error {
	err := w.try(units, false)
	if len(units) == 1 && errors.Is(err, errGuard) {
		err = w.try(units, true)
	}
	return err
}

// group is a run under way.
type group struct {
	w     *pgWriter
	units []*unit
	tasks []*task
	open  bool // begun: the server has a transaction of ours, or may have
}

func (w *pgWriter) try(units []*unit, careful bool) error {
	g := &group{w: w, units: units, tasks: make([]*task, len(units))}
	defer g.end() // by a defer, because an fn may end this goroutine
	for i, u := range units {
		g.tasks[i] = newTask(u)
	}
	for {
		reading := false
		for _, t := range g.tasks {
			reading = t.resume() || reading
		}
		if !reading {
			break
		}
		if err := g.readAll(); err != nil {
			return err
		}
	}
	return g.commit(careful)
}

// end stops fns that stand in a read, and rolls back what was not committed.
func (g *group) end() {
	for _, t := range g.tasks {
		if t != nil {
			t.stop()
		}
	}
	w := g.w
	if !g.open || w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), statementMost)
	defer cancel()
	if w.conn.IsClosed() {
		w.conn = nil
	} else if _, err := w.conn.PgConn().Exec(ctx, "rollback").ReadAll(); err != nil {
		w.drop()
	}
}

// begin starts a transaction, with its locks, in front of what b holds already.
func (g *group) begin(b *pgx.Batch) {
	b.Queue("begin")
	if g.units[0].only {
		b.Queue(lockEverybody)
		return
	}
	b.Queue(lockMine)
	shards := make([]int32, len(g.units))
	for i, u := range g.units {
		shards[i] = int32(u.shard)
	}
	slices.Sort(shards) // everybody in one order: nobody waits in a circle
	b.Queue(lockShards, shards)
}

// readAll answers the reads the fns stand in.
func (g *group) readAll() error {
	err := g.send(true, func(b *pgx.Batch) {
		for _, t := range g.tasks {
			if t.ask != nil {
				b.Queue(t.ask.query, texts(t.ask.args)...)
			}
		}
	}, func(res pgx.BatchResults) error {
		for _, t := range g.tasks {
			if t.ask == nil {
				continue
			}
			rs, err := res.Query()
			if err != nil {
				return classifyPG(err)
			}
			// An error of the fn's own scanning goes to the fn; one of the database ends the group.
			t.ask.err = nil
			if err := scan(rs, func(r row) error { t.ask.err = t.ask.do(r); return t.ask.err }); err != nil && t.ask.err == nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

// send sends a pipeline, before it "begin" when the group has not begun, and gives the results of
// what queue queued to take. A connection that broke while it lay idle is replaced, which only
// sending can find out. It must be safe to send twice: one that commits may have done so though no
// answer came, so "begin" then goes first by itself.
func (g *group) send(safe bool, queue func(*pgx.Batch), take func(pgx.BatchResults) error) error {
	w := g.w
	if !safe && !g.open {
		nothing := func(*pgx.Batch) {}
		if err := g.send(true, nothing, func(pgx.BatchResults) error { return nil }); err != nil {
			return err
		}
	}
	again := !g.open && w.conn != nil
	for {
		if w.conn == nil {
			if g.open {
				return fmt.Errorf("%w: the connection is gone", ErrUnavailable)
			}
			ctx, cancel := context.WithTimeout(context.Background(), statementMost)
			conn, err := w.db.connect(ctx)
			cancel()
			if err != nil {
				return err
			}
			w.conn = conn
		}
		err := g.sendOn(queue, take)
		if !w.conn.IsClosed() {
			return err
		}
		w.conn = nil
		if !again {
			return err
		}
		again, g.open = false, false
	}
}

func (g *group) sendOn(queue func(*pgx.Batch), take func(pgx.BatchResults) error) error {
	b := &pgx.Batch{}
	if !g.open {
		g.begin(b)
	}
	begun := b.Len()
	queue(b)
	g.open = true
	// A deadline of the connection and none of a context: pgx would start a goroutine for that, and
	// up to 5.7.6 leave it behind when the connection breaks.
	wire := g.w.conn.PgConn().Conn()
	if err := wire.SetDeadline(time.Now().Add(statementMost)); err != nil {
		hangUp(g.w.conn)
		return classifyPG(err)
	}
	defer wire.SetDeadline(time.Time{})
	res := g.w.conn.SendBatch(context.Background(), b)
	var err error
	for i := 0; i < begun && err == nil; i++ {
		if _, err = res.Exec(); err != nil {
			err = fmt.Errorf("begin: %w", classifyPG(err))
		}
	}
	if err == nil {
		err = take(res)
	}
	if e := res.Close(); err == nil {
		err = classifyPG(e)
	}
	return err
}

// commit sends what the fns queued, and the commit: with it, or careful, after each write was
// looked at.
func (g *group) commit(careful bool) error {
	var writes []*write
	for _, t := range g.tasks {
		for i := range t.writes {
			writes = append(writes, &t.writes[i])
		}
	}
	if len(writes) == 0 && !g.open {
		return nil
	}
	if careful {
		if err := g.writeAll(writes, true); err != nil {
			return err
		}
		writes = nil
	}
	return g.writeAll(writes, false)
}

func (g *group) writeAll(writes []*write, careful bool) error {
	changed := make([]int64, len(writes))
	err := g.send(careful, func(b *pgx.Batch) {
		for _, w := range writes {
			query := w.query
			if w.check != nil && !careful {
				query = g.w.guard(query)
			}
			b.Queue(query, texts(w.args)...)
		}
		if !careful {
			b.Queue("commit")
		}
	}, func(res pgx.BatchResults) error {
		for i, w := range writes {
			tag, err := res.Exec()
			if err != nil {
				return fmt.Errorf("%s: %w", w.what, guardFailed(err))
			}
			changed[i] = tag.RowsAffected()
		}
		if careful {
			return nil
		}
		tag, err := res.Exec()
		if err != nil {
			return fmt.Errorf("commit: %w", classifyPG(err))
		}
		if tag.String() != "COMMIT" { // a transaction that had failed is rolled back, and that is no error
			return fmt.Errorf("commit: the server says %s", tag)
		}
		g.open = false
		return nil
	})
	if err != nil || !careful {
		return err
	}
	for i, w := range writes {
		if w.check == nil {
			continue
		}
		if err := w.check(w, inTransaction{g.w}, changed[i]); err != nil {
			return fmt.Errorf("%s: %w", w.what, err)
		}
	}
	return nil
}

func (w *pgWriter) guard(query string) string {
	g, ok := w.guards[query]
	if !ok {
		if w.guards == nil {
			w.guards = map[string]string{}
		}
		g = guarded(query)
		w.guards[query] = g
	}
	return g
}

func guardFailed(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == divisionByZero {
		return errGuard
	}
	return classifyPG(err)
}

// inTransaction reads at once, on a writing connection.
type inTransaction struct{ w *pgWriter }

func (q inTransaction) each(ctx context.Context, query string, args []any, do func(row) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementMost)
	defer cancel()
	return read(ctx, q.w.conn, query, args, do)
}

// task is a unit's fn as a coroutine.
type task struct {
	next   func() (*ask, bool)
	stop   func()
	ask    *ask // it stands in this read; nil: it ended, and writes is what it queued
	writes []write
	ended  bool
}

// ask is a read of an fn.
type ask struct {
	query string
	args  []any
	do    func(row) error
	err   error // of do
}

var errStopped = errors.New("the group ended")

func newTask(u *unit) *task {
	t := &task{}
	t.next, t.stop = iter.Pull(func(yield func(*ask) bool) {
		t.writes = u.decide(&reading{yield: yield})
	})
	return t
}

// resume lets the fn run to its next read; false when it has ended.
func (t *task) resume() bool {
	if t.ended {
		return false
	}
	ask, ok := t.next()
	t.ask, t.ended = ask, !ok
	return ok
}

// reading stands still in each read until the group has answered it.
type reading struct {
	yield   func(*ask) bool
	stopped bool // the fn may not have noticed, and read on
}

func (r *reading) each(_ context.Context, query string, args []any, do func(row) error) error {
	a := &ask{query: query, args: args, do: do}
	if r.stopped || !r.yield(a) {
		r.stopped = true
		return errStopped
	}
	return a.err
}

// broken reports an error of the connection that says so in no better way.
func broken(err error) bool {
	var n net.Error
	return errors.As(err, &n) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		err.Error() == "conn closed" || errors.Is(err, context.DeadlineExceeded)
}
