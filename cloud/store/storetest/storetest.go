// Package storetest gives tests a store of each kind: SQLite in memory and a database on a real
// PostgreSQL, which is started once per test program.
//
//	func TestMain(m *testing.M) { storetest.Main(m) }
//
//	func TestX(t *testing.T) { storetest.Each(t, testX) }
//
//	func testX(t *testing.T, fresh storetest.Fresh) {
//		st, err := store.Open(ctx, store.Options{Path: fresh(t)})
//		...
//	}
//
// A machine without PostgreSQL fails these tests: "make tools" installs it.
package storetest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Memory is the path of a SQLite database that is gone after Close.
const Memory = ":memory:"

// shared is the server of this test program.
var shared struct {
	once   sync.Once
	server *Server
	err    error
	mu     sync.Mutex // guards what follows, and one "create database" at a time
	n      int
	free   []string // databases whose tests are over, emptied
}

// Main runs the tests and stops the server; TestMain calls it. after, when not nil, looks at the
// exit code and may change it (goleak).
func Main(m *testing.M, after ...func(code int) int) {
	code := m.Run()
	if s := shared.server; s != nil {
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "storetest:", err)
			code = max(code, 1)
		}
	}
	for _, f := range after {
		code = f(code)
	}
	os.Exit(code)
}

// Fresh is the path of a new and empty database.
type Fresh func(testing.TB) string

// Each runs a test on SQLite in memory, and on PostgreSQL.
func Each(t *testing.T, f func(*testing.T, Fresh)) {
	t.Run("sqlite", func(t *testing.T) { f(t, func(testing.TB) string { return Memory }) })
	t.Run("postgres", func(t *testing.T) { f(t, Database) })
}

// Database is the URL of a database on the program's server that is the test's own until its end,
// with tables or without, and with no rows in them: making one takes long, so they are used again.
func Database(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = Start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	name, err := take()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := giveBack(name); err != nil && !t.Failed() { // one that failed may have left anything
			t.Error(err)
		}
	})
	return shared.server.URL(name)
}

// Quiet waits until nobody is connected to a database any more. A client that was killed leaves a
// commit behind that the server has read and not yet done; whoever looks meanwhile sees half of it
// in one question and all of it in the next. It does nothing for a path of SQLite.
func Quiet(t testing.TB, path string) {
	t.Helper()
	if !strings.HasPrefix(path, "postgres://") {
		return
	}
	config, err := pgx.ParseConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, shared.server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for {
		var n int
		err := conn.QueryRow(ctx, "select count(*) from pg_stat_activity where datname = $1", config.Database).Scan(&n)
		if err != nil {
			t.Fatalf("%d still connected to %s: %v", n, config.Database, err)
		}
		if n == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func take() (string, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if n := len(shared.free); n > 0 {
		name := shared.free[n-1]
		shared.free = shared.free[:n-1]
		return name, nil
	}
	shared.n++
	name := fmt.Sprintf("test%d", shared.n)
	return name, shared.server.Create(name)
}

func giveBack(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, shared.server.URL(name))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	// All tables but those whose rows the migrations put there.
	_, err = conn.Exec(ctx, `do $$ declare t text; begin
		for t in select tablename from pg_tables where schemaname = 'public' and tablename not in ('goose_db_version', 'feed_start')
		loop execute 'delete from ' || quote_ident(t); end loop; end $$`)
	if err != nil {
		return fmt.Errorf("empty %s: %w", name, err)
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.free = append(shared.free, name)
	return nil
}

// Create makes an empty database.
func (s *Server) Create(name string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	// Tests would drown in the checkpoints that copying files needs.
	_, err = conn.Exec(ctx, "create database "+name+" strategy wal_log")
	return err
}
