package store

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"coinop/cloud/acquirer"
	"coinop/cloud/intake"
	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
)

// execSQL runs statements on a connection of its own.
func execSQL(t testing.TB, s *Store, text string) {
	t.Helper()
	ctx := context.Background()
	conn, err := s.db.(*postgresDB).connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, text, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(text, err)
	}
}

// kill -9 of the server, again and again in the middle of units: an acknowledged one is there, whole
// and once; others fail with an error that says so, and the same store goes on when it is back.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	server, err := storetest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := server.Create("sales"); err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{Path: server.URL("sales")})
	ctx := context.Background()

	var mu sync.Mutex
	acked := map[protocol.PaymentID]bool{}
	var count, failed atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range uint32(16) {
		wg.Go(func() {
			for id := newID(); ; {
				select {
				case <-stop:
					return
				default:
				}
				reads := g%2 == 0 // the others leave with begin and commit in one pipeline
				err := s.Do(ctx, g+1, func(tx *Tx) error {
					if reads {
						if _, err := tx.Payment(id); err != nil {
							return err
						}
					}
					sale(tx, id)
					return nil
				})
				switch {
				case errors.Is(err, ErrUnavailable), errors.Is(err, ErrBusy):
					failed.Add(1)
					time.Sleep(time.Millisecond) // and again: it may be stored, or not
					continue
				case err != nil && !errors.Is(err, ErrConflict): // it was stored
					t.Error(err)
				}
				mu.Lock()
				acked[id] = true
				mu.Unlock()
				count.Add(1)
				id = newID()
			}
		})
	}
	// Meanwhile someone follows the feed.
	seen := map[protocol.PaymentID]int{}
	follow := func(after uint64) uint64 {
		cs, err := s.Changes(ctx, after, 1000)
		if err != nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		for _, c := range cs {
			seen[c.Payment]++
			after = c.Seq
		}
		return after
	}
	cursor := uint64(0)
	for range 3 {
		for target := count.Load() + 400; count.Load() < target && !t.Failed(); time.Sleep(time.Millisecond) {
			cursor = follow(cursor)
		}
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Health(ctx); !errors.Is(err, ErrUnavailable) {
			t.Error("health without a server:", err)
		}
		if err := server.Run(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if err := s.Do(ctx, 1, func(tx *Tx) error { _, err := tx.Head("d"); return err }); err != nil {
		t.Error(err)
	}
	there := whole(t, s, acked)
	cursor = follow(cursor)
	for more := follow(cursor); more != cursor; more = follow(cursor) {
		cursor = more
	}
	for id := range there {
		if seen[id] != 1 {
			t.Errorf("who follows the feed saw %s %d times", id, seen[id])
		}
	}
	if failed.Load() == 0 {
		t.Error("no unit met a dead server")
	}
	t.Logf("3 kills: %d acknowledged, none missing; %d failed and were done again", len(acked), failed.Load())
}

// Who follows the feed while all writers of two replicas write sees each entry once, in one order,
// whichever replica it asks.
func TestFeedMissesNothing(t *testing.T) {
	onDisk(t, func(t *testing.T, path string) {
		replicas := []*Store{open(t, Options{Path: path}), open(t, Options{Path: path})}
		const writers, each = 32, 30
		var wg sync.WaitGroup
		for w := range uint32(writers) {
			wg.Go(func() {
				for range each {
					if err := replicas[w%2].Do(context.Background(), w+1, change(int(w))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		var seen [2][]Change
		for i, s := range replicas {
			wg.Go(func() {
				last := uint64(0)
				for end := time.Now().Add(30 * time.Second); len(seen[i]) < writers*each && time.Now().Before(end); {
					cs, err := s.Changes(context.Background(), last, 7)
					if err != nil {
						t.Error(err)
						return
					}
					for _, c := range cs {
						if c.Seq <= last {
							t.Error("out of order")
						}
						last = c.Seq
						seen[i] = append(seen[i], c)
					}
				}
			})
		}
		wg.Wait()
		if len(seen[0]) != writers*each {
			t.Errorf("saw %d, want %d", len(seen[0]), writers*each)
		}
		equal(t, seen[0], seen[1])
	})
}

// Units of one shard, and those of shard 0 with all others, never stand between each other's read
// and put, whatever replica they came to: the operation counted here has no version to save it.
func TestReplicasTakeTurns(t *testing.T) {
	onDisk(t, func(t *testing.T, path string) {
		replicas := []*Store{open(t, Options{Path: path}), open(t, Options{Path: path})}
		id := protocol.PaymentID{1}
		do(t, replicas[0], func(tx *Tx) { tx.PutOp(anOp(id, acquirer.Capture, 1, payment.OpOwed)) })
		const each = 12
		var wg sync.WaitGroup
		for g := range 16 {
			wg.Go(func() {
				for range each {
					err := replicas[g%2].Do(context.Background(), uint32(g/2%2)*5, func(tx *Tx) error {
						ops, err := tx.Ops(id)
						if err != nil {
							return err
						}
						h, err := tx.Head("snack-1")
						h.Device = "snack-1"
						ops[0].Tries++
						tx.PutOp(ops[0])
						tx.PutHead(h)
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := must(replicas[0].PaymentOps(context.Background(), id))(t)[0].Tries; n != 16*each {
			t.Errorf("counted %d, want %d", n, 16*each)
		}
	})
}

// Two lanes that take the same rows in opposite orders wait for each other. The store sees to it.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Path: storetest.Database(t) + "&deadlock_timeout=20"})
	const each = 10
	var wg sync.WaitGroup
	for g := range uint32(8) {
		tids := []string{"a", "b"}
		if g%2 == 1 {
			tids = []string{"b", "a"}
		}
		wg.Go(func() {
			for range each {
				err := s.Do(context.Background(), g+1, func(tx *Tx) error {
					var last [2]acquirer.STAN
					for i, tid := range tids {
						var err error
						if last[i], err = tx.LastSTAN("bank", tid); err != nil {
							return err
						}
					}
					for i, tid := range tids {
						tx.PutSTAN("bank", tid, last[i]+1)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	do(t, s, func(tx *Tx) {
		for _, tid := range []string{"a", "b"} {
			equal(t, acquirer.STAN(8*each), must(tx.LastSTAN("bank", tid))(t))
		}
	})
	t.Logf("%+v", s.Stats())
}

// Somebody holds a lock for longer than we wait.
func TestPostgresBusy(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, Options{Path: storetest.Database(t) + "&lock_timeout=50"})
	conn, err := s.db.(*postgresDB).connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "begin; lock change", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if err := s.Do(ctx, 1, change(1)); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if err := s.Health(ctx); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if _, err := conn.Exec(ctx, "rollback"); err != nil {
		t.Fatal(err)
	}
	if err := s.Do(ctx, 1, change(1)); err != nil {
		t.Error(err)
	}
	if err := s.Health(ctx); err != nil {
		t.Error(err)
	}
	equal(t, []string{"1"}, changes(t, s))
}

// Connections that were cut while they lay idle are not noticed by anybody.
func TestReconnect(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, Options{Path: storetest.Database(t)})
	read := func(tx *Tx) error { _, err := tx.Head("d"); return err }
	for _, fn := range []func(*Tx) error{change(1), read, change(2)} {
		for lane := range uint32(4) {
			if err := s.Do(ctx, lane+1, fn); err != nil {
				t.Error(err)
			}
		}
		must(s.Head(ctx, "d"))(t)
		execSQL(t, s, "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
	}
	must(s.Head(ctx, "d"))(t)
	if n := len(changes(t, s)); n != 8 {
		t.Error(n)
	}
}

// Bytes that are no text come from outside; they must not keep a unit from being stored.
func TestNoText(t *testing.T) {
	onAll(t, func(t *testing.T, s *Store) {
		do(t, s, func(tx *Tx) {
			tx.PutChange(payment.Change{What: "a\x00b\xff", Detail: "\xc3\x28"})
			tx.PutHead(intake.Head{Device: "d", Stopped: "\x00"})
		})
		if n := len(changes(t, s)); n != 1 {
			t.Error(n)
		}
	})
}

// A feed that was restored into a new cluster, whose transactions count from the start again.
func TestRestoredFeed(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Path: storetest.Database(t)})
	do(t, s, func(tx *Tx) { tx.PutChange(payment.Change{What: "old"}) })
	execSQL(t, s, "update feed_start set transactions = 1000000; update change set seq = seq + (1000000::bigint << 20)")
	_ = open(t, Options{Path: path(s)})
	execSQL(t, s, "update feed_start set transactions = 0") // what a new cluster makes of it
	again := open(t, Options{Path: path(s)})
	do(t, again, func(tx *Tx) { tx.PutChange(payment.Change{What: "new"}) })
	equal(t, []string{"old", "new"}, changes(t, again))
}

func TestReadAfterClose(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Path: storetest.Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	must(s.Devices(t.Context()))(t)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Devices(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), Options{Path: "postgres://u:secret@127.0.0.1:1/x?password=secret"})
	if !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Options{Path: "postgres://u:secret@:x/%zz"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
