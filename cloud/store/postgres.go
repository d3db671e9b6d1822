package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"coinop/cloud/ledger"
)

// postgresDB is connections to a server: some that write, each for its own shards, and some that
// read. Each is made when it is first needed and again after it broke, so a server that was gone is
// found when it is back.
type postgresDB struct {
	config *pgx.ConnConfig
	write  [postgresWriters]pgWriter
	read   chan *pgx.Conn // as many as may read at once; nil: not connected
	closed atomic.Bool
}

var (
	_ engine = (*postgresDB)(nil)
	_ writer = (*pgWriter)(nil)
)

const (
	// Four writers: a commit waits for the disk, and the others work meanwhile.
	postgresWriters = 4
	postgresOldest  = 150000 // server_version_num of the oldest the tests have seen
	// statementMost ends the wait for a server that says nothing.
	statementMost = 30 * time.Second
	migrateMost   = 10 * time.Minute
)

// Advisory locks of a database: 25455, 0 is held shared by each group and exclusive by a unit that
// runs alone; 25456 with a shard by its unit; 25457 by who migrates.
const (
	lockMine      = "select pg_advisory_xact_lock_shared(25455, 0)"
	lockEverybody = "select pg_advisory_xact_lock(25455, 0)"
	lockShards    = "select pg_advisory_xact_lock(25456, k) from unnest($1::int4[]) as k"
	lockTables    = "set lock_timeout to '10min'; select pg_advisory_lock(25457)"
)

func openPostgres(ctx context.Context, dsn string) (_ *postgresDB, err error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"application_name":   "coinop",
		"synchronous_commit": "on",   // whatever the server's habit: Do promises it
		"lock_timeout":       "5000", // ms, as SQLite's busy_timeout
		// A replica that stands still in the middle holds locks no longer than this, in ms.
		"idle_in_transaction_session_timeout": "30000",
	} {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	db := &postgresDB{config: config, read: make(chan *pgx.Conn, readers)}
	for i := range db.write {
		db.write[i].db = db
	}
	for range readers {
		db.read <- nil
	}
	return db, db.migrate(ctx)
}

// migrate brings the tables up to date, one replica at a time.
func (db *postgresDB) migrate(ctx context.Context) error {
	conn, err := db.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) // lets go of the lock
	var version int
	if err := conn.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		return classifyPG(err)
	}
	if version < postgresOldest {
		return fmt.Errorf("PostgreSQL %d.%d: want 15 or later", version/10000, version%10000)
	}
	if _, err := conn.Exec(ctx, lockTables, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("migrate: %w", classifyPG(err))
	}
	dir, err := fs.Sub(migrations, "migrations/postgres")
	if err != nil {
		return err
	}
	sqlDB := stdlib.OpenDB(*db.config)
	defer sqlDB.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, sqlDB, dir, goose.WithDisableGlobalRegistry(true))
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, migrateMost)
		defer cancel()
		_, err = p.Up(ctx)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", classifyPG(err))
	}
	// A feed restored into another cluster goes on behind its last place. In one that was not
	// restored the condition never holds.
	_, err = conn.Exec(ctx, `update feed_start set transactions = behind from (
		select (coalesce(max(seq), 0) >> 20) + 1 - pg_snapshot_xmax(pg_current_snapshot())::text::bigint as behind
		from change) as last where behind > transactions`)
	return classifyPG(err)
}

func (db *postgresDB) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, db.config)
	if err == nil {
		return conn, nil
	}
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code[:2] == "28" || e.Code[:2] == "3D") { // password, role, name of the database
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (db *postgresDB) writers() []writer {
	out := make([]writer, len(db.write))
	for i := range db.write {
		out[i] = &db.write[i]
	}
	return out
}

// feedEnd is below every transaction that still runs, in whatever database of the server.
func (db *postgresDB) feedEnd() string {
	return "seq < feed_place(pg_snapshot_xmin(pg_current_snapshot()))"
}

// close is called when no writer runs; it waits for those who read.
func (db *postgresDB) close() error {
	db.closed.Store(true)
	for i := range db.write {
		db.write[i].drop()
	}
	for range readers {
		hangUp(<-db.read)
	}
	for range readers {
		db.read <- nil
	}
	return nil
}

// hangUp says goodbye to the server, but does not wait for one that is gone.
func hangUp(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// each reads what is committed. A connection that broke while it lay idle is replaced.
func (db *postgresDB) each(ctx context.Context, query string, args []any, do func(row) error) error {
	ctx, cancel := context.WithTimeout(ctx, statementMost)
	defer cancel()
	var conn *pgx.Conn
	select {
	case conn = <-db.read:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() {
		if conn != nil && conn.IsClosed() {
			conn = nil
		}
		db.read <- conn
	}()
	if db.closed.Load() {
		return ErrClosed
	}
	for fresh := false; ; {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = db.connect(ctx); err != nil {
				return err
			}
			fresh = true
		}
		seen := false
		err := read(ctx, conn, query, args, func(r row) error { seen = true; return do(r) })
		if err == nil || fresh || seen || !conn.IsClosed() || ctx.Err() != nil {
			return err
		}
	}
}

func read(ctx context.Context, conn *pgx.Conn, query string, args []any, do func(row) error) error {
	rs, err := conn.Query(ctx, query, texts(args)...)
	if err != nil {
		return classifyPG(err)
	}
	return scan(rs, do)
}

// scan gives rows to do. An error of do is not the database's.
func scan(rs pgx.Rows, do func(row) error) error {
	defer rs.Close()
	for rs.Next() {
		if err := do(rs); err != nil {
			return err
		}
	}
	return classifyPG(rs.Err())
}

// texts replaces what PostgreSQL takes in no text. Such bytes come from outside in details; a unit
// that can never be stored would stop a device's journal for good.
func texts(args []any) []any {
	for i, a := range args {
		if s, ok := a.(string); ok && (!utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0) {
			args[i] = strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�")
		}
	}
	return args
}

// classifyPG wraps an error of the driver in one of ours. What the server did not say is about the
// connection.
func classifyPG(err error) error {
	if err == nil {
		return nil
	}
	var e *pgconn.PgError
	var scan pgx.ScanArgError
	if !errors.As(err, &e) {
		var network interface{ SafeToRetry() bool }
		if errors.As(err, &scan) {
			return err
		}
		if errors.As(err, &network) || pgconn.Timeout(err) || errors.Is(err, context.Canceled) || broken(err) {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return err
	}
	switch e.Code {
	case "40001", "40P01": // serialization failure, deadlock
		return fmt.Errorf("%w: %w: %w", ErrBusy, errRace, err)
	case "55P03", "57014": // lock or statement timeout
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case "23505":
		if c := pgConstraints[e.ConstraintName]; c != nil {
			return fmt.Errorf("%w: %w", c, err)
		}
	case "25006", "25P03", "25P04": // read-only, a transaction that stood too long
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch e.Code[:2] {
	// Connection, resources, operator intervention, system, broken data or program; wrong password.
	case "08", "53", "57", "58", "XX", "28":
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// pgConstraints are the rules the database itself keeps.
var pgConstraints = map[string]error{
	"payment_taker":    ErrTaken,
	"transfer_ends":    ledger.ErrPending, // voided already, under another id
	"record_pkey":      ErrConflict,
	"disposition_pkey": ErrConflict,
}
