package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"sync"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"coinop/cloud/ledger"
)

// sqliteDB is one writing connection, and others that read. In memory there is only the first, and
// reads take turns with groups. The writing one is the driver's own, without a pool around it: at
// some ten statements a unit, a microsecond each is felt.
type sqliteDB struct {
	path   string
	reader *sql.DB // nil: in memory

	mu    sync.Mutex  // guards the writing connection
	conn  driver.Conn // nil after it broke
	stmts map[string]*statement

	readMu sync.Mutex
	reads  map[string]*sql.Stmt // of reader
}

var (
	_ engine = (*sqliteDB)(nil)
	_ writer = (*sqliteDB)(nil)
)

//go:embed migrations/*/*.sql
var migrations embed.FS

const (
	memory     = ":memory:"
	readers    = 4
	beginGroup = "begin immediate" // the write lock first: a reader that turns writer can fail with busy
)

func openSQLite(ctx context.Context, path string) (_ *sqliteDB, err error) {
	db := &sqliteDB{path: path, stmts: map[string]*statement{}, reads: map[string]*sql.Stmt{}}
	defer func() {
		if err != nil {
			_ = db.close()
		}
	}()
	if err := db.connect(); err != nil {
		return nil, err
	}
	if err := db.migrate(ctx); err != nil {
		return nil, err
	}
	if path == memory {
		return db, nil
	}
	if db.reader, err = sql.Open("sqlite", dsn(path, true)); err != nil {
		return nil, err
	}
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	return db, nil
}

// dsn: WAL and FULL sync every commit once. Foreign keys are not declared: rows of one unit come in
// any order, and a transfer outlives what it is about.
func dsn(path string, readOnly bool) string {
	p := []string{"busy_timeout(5000)", "foreign_keys(0)"}
	if path == memory {
		return memory + "?_txlock=immediate&_pragma=" + strings.Join(p, "&_pragma=")
	}
	if readOnly {
		p = append(p, "query_only(1)")
	} else {
		// A checkpoint truncates nothing by itself: a burst would leave its WAL for ever. One every 16 MB
		// instead of every 4 copies a page that many groups wrote once.
		p = append(p, "journal_mode(wal)", "synchronous(full)", "cache_size(-32000)", "journal_size_limit(67108864)", "wal_autocheckpoint(4000)")
	}
	u := url.URL{Path: path}
	return "file:" + u.EscapedPath() + "?_txlock=immediate&_pragma=" + strings.Join(p, "&_pragma=")
}

// migrate brings the tables up to date. Of two that do so at once, the one that comes second finds
// the tables there, and looks again.
func (db *sqliteDB) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return err
	}
	// goose wants a pool. It gets the one connection there is, which is the database when that is in memory.
	pool := sql.OpenDB(lent{db.conn})
	pool.SetMaxOpenConns(1)
	defer pool.Close()
	for try := 1; ; try++ {
		p, err := goose.NewProvider(goose.DialectSQLite3, pool, dir, goose.WithDisableGlobalRegistry(true))
		if err == nil {
			_, err = p.Up(ctx)
		}
		if err == nil {
			return nil
		}
		if try == 5 || ctx.Err() != nil {
			return fmt.Errorf("migrate: %w", classify(err))
		}
	}
}

// connect makes the writing connection.
func (db *sqliteDB) connect() (err error) {
	db.conn, err = (&sqlite.Driver{}).Open(dsn(db.path, false))
	return classify(err)
}

func (db *sqliteDB) writers() []writer { return []writer{db} }

// feedEnd: commits come one after the other, and places are given out in them.
func (db *sqliteDB) feedEnd() string { return "" }

func (db *sqliteDB) close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.drop()
	db.readMu.Lock()
	for _, st := range db.reads {
		_ = st.Close()
	}
	clear(db.reads)
	db.readMu.Unlock()
	if db.reader == nil {
		return nil
	}
	return db.reader.Close()
}

// drop lets go of the writing connection and what was prepared on it.
func (db *sqliteDB) drop() {
	for _, st := range db.stmts {
		_ = st.close()
	}
	clear(db.stmts)
	if db.conn != nil {
		_ = db.conn.Close()
		db.conn = nil
	}
}

// run is a group: SQLite runs in this process, so units are read, decided and written in turn; each
// sees the ones before it, and a unit that failed has queued nothing.
func (db *sqliteDB) run(units []*unit) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := db.begin(); err != nil {
		return fmt.Errorf("begin: %w", classify(err))
	}
	committed := false
	defer func() { // by a defer, because an fn may end this goroutine
		if !committed {
			db.rollback()
		}
	}()
	in := writing{db}
	for _, u := range units {
		for _, w := range u.decide(in) {
			if err := db.write(in, &w); err != nil {
				return fmt.Errorf("%s: %w", w.what, err)
			}
		}
	}
	if _, err := db.exec("commit"); err != nil {
		return fmt.Errorf("commit: %w", classify(err))
	}
	committed = true
	return nil
}

func (db *sqliteDB) write(in querier, w *write) error {
	n, err := db.exec(w.query, w.args...)
	if err != nil || w.check == nil {
		return classify(err)
	}
	return w.check(w, in, n)
}

func (db *sqliteDB) begin() error {
	if db.conn == nil {
		if err := db.connect(); err != nil {
			return err
		}
	}
	_, err := db.exec(beginGroup)
	if err != nil && !errors.Is(classify(err), ErrBusy) {
		db.broken()
	}
	return err
}

// rollback ends a transaction whatever state it is in: after some errors SQLite has done so itself.
func (db *sqliteDB) rollback() {
	if _, err := db.exec("rollback"); err != nil && !strings.Contains(err.Error(), "no transaction is active") {
		db.broken()
	}
}

// broken takes a new connection for the next group. In memory there is none to be had.
func (db *sqliteDB) broken() {
	if db.reader != nil {
		db.drop()
	}
}

// exec runs a statement on the writing connection, prepared once, and says how many rows it changed.
func (db *sqliteDB) exec(query string, args ...any) (changed int64, err error) {
	st, err := db.prepare(query)
	if err != nil {
		return 0, err
	}
	return st.exec(args)
}

func (db *sqliteDB) prepare(query string) (*statement, error) {
	if st, ok := db.stmts[query]; ok {
		return st, nil
	}
	if db.conn == nil {
		return nil, sql.ErrConnDone
	}
	st, err := prepare(db.conn, query)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	db.stmts[query] = st
	return st, nil
}

// writing reads on the writing connection, whose mutex is held.
type writing struct{ db *sqliteDB }

func (w writing) each(_ context.Context, query string, args []any, do func(row) error) error {
	st, err := w.db.prepare(query)
	if err != nil {
		return classify(err)
	}
	wrong, err := st.each(args, do)
	if err != nil {
		return classify(err)
	}
	return wrong
}

// each reads what is committed.
func (db *sqliteDB) each(ctx context.Context, query string, args []any, do func(row) error) error {
	if db.reader == nil {
		db.mu.Lock()
		defer db.mu.Unlock()
		return writing{db}.each(ctx, query, args, do)
	}
	st, err := db.prepareRead(ctx, query)
	if err != nil {
		return classify(err)
	}
	return rows(ctx, st, args, do)
}

func (db *sqliteDB) prepareRead(ctx context.Context, query string) (*sql.Stmt, error) {
	db.readMu.Lock()
	defer db.readMu.Unlock()
	if st, ok := db.reads[query]; ok {
		return st, nil
	}
	st, err := db.reader.PrepareContext(ctx, unnamed(query))
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	db.reads[query] = st
	return st, nil
}

func rows(ctx context.Context, st *sql.Stmt, args []any, do func(row) error) error {
	rs, err := st.QueryContext(ctx, args...)
	if err != nil {
		return classify(err)
	}
	defer rs.Close()
	for rs.Next() {
		if err := do(rs); err != nil {
			return err
		}
	}
	return classify(rs.Err())
}

// classify wraps a driver's error in one of ours.
func classify(err error) error {
	var e *sqlite.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrConnDone):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case !errors.As(err, &e):
		return err
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN, lib.SQLITE_READONLY, lib.SQLITE_CORRUPT,
		lib.SQLITE_NOTADB, lib.SQLITE_NOMEM, lib.SQLITE_PROTOCOL:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case lib.SQLITE_CONSTRAINT:
		if c := constraint(err.Error()); c != nil {
			return fmt.Errorf("%w: %w", c, err)
		}
	}
	return err
}

// constraint finds which rule of the tables was broken; nil for another.
func constraint(says string) error {
	for _, c := range constraints {
		if strings.Contains(says, "UNIQUE constraint failed: "+c.column) {
			return c.err
		}
	}
	return nil
}

// constraints are the rules the database itself keeps, by the first column SQLite names.
var constraints = []struct {
	column string
	err    error
}{
	{"payment.sale", ErrTaken},
	{"transfer.ends", ledger.ErrPending}, // voided already, under another id
	{"record.device", ErrConflict},
	{"disposition.device", ErrConflict},
}
