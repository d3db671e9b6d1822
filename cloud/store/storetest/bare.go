package storetest

import (
	"context"
	"database/sql"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // the engine
)

// Bare is one connection to a database, with nothing of the store's around it: what the engine itself can
// do, for whoever measures the store. SQLite syncs as the store's does.
type Bare struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	pg    *pgx.Conn
}

// OpenBare connects to a path as store.Options has it.
func OpenBare(ctx context.Context, path string) (*Bare, error) {
	b := &Bare{stmts: map[string]*sql.Stmt{}}
	var err error
	if strings.HasPrefix(path, "postgres://") {
		b.pg, err = pgx.Connect(ctx, path)
		return b, err
	}
	file := url.URL{Path: path}
	if b.db, err = sql.Open("sqlite", "file:"+file.EscapedPath()+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=cache_size(-32000)&_pragma=wal_autocheckpoint(4000)"); err != nil {
		return nil, err
	}
	b.conn, err = b.db.Conn(ctx)
	return b, err
}

// Close disconnects.
func (b *Bare) Close() {
	if b.pg != nil {
		_ = b.pg.Close(context.Background())
		return
	}
	if b.conn != nil {
		_ = b.conn.Close()
	}
	_ = b.db.Close()
}

// Group is one transaction of the statements that fn does. On PostgreSQL all of it is one pipeline.
func (b *Bare) Group(ctx context.Context, fn func(do func(query string, args []any) error) error) error {
	if b.pg != nil {
		var batch pgx.Batch
		batch.Queue("begin")
		if err := fn(func(query string, args []any) error { batch.Queue(query, args...); return nil }); err != nil {
			return err
		}
		batch.Queue("commit")
		return b.pg.SendBatch(ctx, &batch).Close()
	}
	exec := func(query string, args []any) error {
		st := b.stmts[query]
		if st == nil {
			var err error
			if st, err = b.conn.PrepareContext(ctx, query); err != nil {
				return err
			}
			b.stmts[query] = st
		}
		_, err := st.ExecContext(ctx, args...)
		return err
	}
	if err := exec("begin immediate", nil); err != nil {
		return err
	}
	if err := fn(exec); err != nil {
		return err
	}
	return exec("commit", nil)
}
