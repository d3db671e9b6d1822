// Package storetest gives tests a store of each kind: SQLite in memory and a database on a real
// PostgreSQL, which is started once per test program.
//
//	func TestMain(m *testing.M) { storetest.Main(m) }
//
//	func TestX(t *testing.T) {
//		storetest.Each(t, func(t *testing.T, path string) { st, err := store.Open(ctx, store.Options{Path: path}) ... })
//	}
//
// A machine without PostgreSQL fails these tests: "make tools" installs it.
package storetest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Memory is the path of a SQLite database that is gone after Close.
const Memory = ":memory:"

// shared is the server of this test program.
var shared struct {
	once   sync.Once
	server *Server
	err    error
	mu     sync.Mutex // guards n, and one "create database" at a time
	n      int
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

// Each runs a test on SQLite in memory, and on PostgreSQL.
func Each(t *testing.T, f func(t *testing.T, path string)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, Memory) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); f(t, Database(t)) })
}

// Database is the URL of a new database on the program's server. It goes with the server.
func Database(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = Start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.n++
	name := fmt.Sprintf("test%d", shared.n)
	if err := shared.server.Create(name); err != nil {
		t.Fatal(err)
	}
	return shared.server.URL(name)
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
