package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/intake"
	"coinop/cloud/payment"
	"coinop/protocol"
)

// hold runs a unit that keeps the lead until let go, and returns when it runs.
func hold(t testing.TB, s *Store) (letGo func()) {
	t.Helper()
	running, free, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- s.Do(context.Background(), own(-1), func(*Tx) error { close(running); <-free; return nil })
	}()
	<-running
	return func() {
		close(free)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// waiting blocks until n units are queued.
func waiting(s *Store, n int) {
	for {
		have := 0
		for _, l := range s.lanes {
			l.mu.Lock()
			have += len(l.queue)
			l.mu.Unlock()
		}
		if have == n {
			return
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// together queues units behind one that is held, so that they come as one group where they may.
func together(t testing.TB, s *Store, shard func(i int) uint32, fns ...func(*Tx) error) []error {
	t.Helper()
	letGo := hold(t, s)
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() { errs[i] = s.Do(context.Background(), shard(i), fn) })
		waiting(s, i+1)
	}
	letGo()
	wg.Wait()
	return errs
}

// own are shards of which none is shard 0, and all are of one writer.
func own(i int) uint32 { return uint32(4*i) + 4*100 }

func change(n int) func(*Tx) error {
	return func(tx *Tx) error { tx.PutChange(payment.Change{What: fmt.Sprint(n)}); return nil }
}

// feed is the whole change feed, as soon as all of it may be read: on PostgreSQL transactions of
// other tests may hold that up.
func feed(t testing.TB, s *Store) []payment.Change {
	t.Helper()
	ctx := context.Background()
	total, _, err := one(ctx, s.db, scanInt, "changes", "select count(*) from change")
	if err != nil {
		t.Fatal(err)
	}
	for {
		var out []payment.Change
		for _, c := range must(s.Changes(ctx, 0, 100_000))(t) {
			out = append(out, c.Change)
		}
		if int64(len(out)) >= total || t.Failed() {
			return out
		}
		time.Sleep(time.Millisecond)
	}
}

func changes(t testing.TB, s *Store) []string {
	t.Helper()
	var out []string
	for _, c := range feed(t, s) {
		out = append(out, c.What)
	}
	return out
}

func TestGroupSharesACommit(t *testing.T) {
	onAll(t, func(t *testing.T, s *Store) {
		var fns []func(*Tx) error
		for i := range 40 {
			fns = append(fns, change(i))
		}
		before := s.Stats()
		for _, err := range together(t, s, own, fns...) {
			if err != nil {
				t.Error(err)
			}
		}
		after := s.Stats()
		if n := after.Commits - before.Commits; n != 2 || after.Units-before.Units != 41 { // one is the holder's
			t.Errorf("%d units in %d commits, want 41 in 2", after.Units-before.Units, n)
		}
		if n := len(changes(t, s)); n != 40 {
			t.Error(n)
		}
	})
}

func TestShards(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		shard   func(int) uint32
		commits uint64
		order   []string
	}{
		{"one shard: one by one, in order", func(int) uint32 { return 3 }, 5, []string{"0", "1", "2", "3", "4"}},
		{"two shards: two at a time", func(i int) uint32 { return uint32(i/3) + 1 }, 3, []string{"0", "3", "1", "4", "2"}},
		{"shard 0 in the middle is alone", func(i int) uint32 { return []uint32{1, 2, 0, 3, 4}[i] }, 2, []string{"0", "1", "3", "4", "2"}},
		{"shard 0 first is alone", func(i int) uint32 { return uint32(i) }, 2, []string{"0", "1", "2", "3", "4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, Options{Path: ":memory:"})
			for _, err := range together(t, s, c.shard, change(0), change(1), change(2), change(3), change(4)) {
				if err != nil {
					t.Error(err)
				}
			}
			if n := s.Stats().Commits; n != c.commits+1 {
				t.Errorf("%d commits, want %d and the holder's", n, c.commits)
			}
			equal(t, c.order, changes(t, s))
		})
	}
}

func TestMaxGroup(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Path: ":memory:", MaxGroup: 2})
	together(t, s, own, change(0), change(1), change(2), change(3), change(4))
	if n := s.Stats().Commits; n != 4 {
		t.Error(n)
	}
}

var errOwn = errors.New("the fn's own")

// One unit of each kind of failure in one group: the others are there, once, and each got its own.
func TestIsolation(t *testing.T) {
	onAll(t, func(t *testing.T, s *Store) {
		do(t, s, func(tx *Tx) {
			tx.PutRecord(intake.Stored{Device: "d", Position: protocol.Position{Seq: 1}, Bytes: []byte("1")})
		})
		p := aPayment(1)
		do(t, s, func(tx *Tx) { tx.PutPayment(p) })
		fails := func(tx *Tx) error { tx.PutChange(payment.Change{What: "no"}); return errOwn }
		breaks := func(tx *Tx) error {
			tx.PutChange(payment.Change{What: "no"})
			tx.PutRecord(intake.Stored{Device: "d", Position: protocol.Position{Seq: 1}, Bytes: []byte("2")})
			return nil
		}
		stale := func(tx *Tx) error { tx.PutChange(payment.Change{What: "no"}); tx.PutPayment(p); return nil }
		reads := func(tx *Tx) error {
			tx.PutChange(payment.Change{What: "no"})
			if _, err := tx.Payment(p.ID); !errors.Is(err, ErrReadAfterWrite) {
				t.Error(err)
			}
			return nil // swallowed, and refused all the same
		}

		errs := together(t, s, own, change(0), fails, change(2))
		if errs[0] != nil || errs[1] != errOwn || errs[2] != nil || s.Stats().Redone != 0 {
			t.Error(errs, s.Stats())
		}
		errs = together(t, s, own, change(3), reads, fails, breaks, change(4), stale, change(5))
		for i, want := range []error{nil, ErrReadAfterWrite, errOwn, ErrConflict, nil, ErrConflict, nil} {
			if !errors.Is(errs[i], want) {
				t.Errorf("unit %d: %v, want %v", i, errs[i], want)
			}
		}
		if n := s.Stats().Redone; n != 1 {
			t.Error("groups redone:", n)
		}
		equal(t, []string{"0", "2", "3", "4", "5"}, changes(t, s))
	})
}

// A unit that read what a rolled back one had put must not answer on it.
func TestRedoReadsAgain(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Path: ":memory:"})
	do(t, s, func(tx *Tx) { tx.PutRecord(intake.Stored{Bytes: []byte{1}}) })
	errs := together(t, s, own,
		func(tx *Tx) error {
			tx.PutHead(intake.Head{Device: "d", Stopped: "fork"})
			tx.PutRecord(intake.Stored{Bytes: []byte{2}})
			return nil
		},
		func(tx *Tx) error {
			if h, err := tx.Head("d"); h.Stopped != "" || err != nil {
				return errOwn
			}
			return nil
		})
	if !errors.Is(errs[0], ErrConflict) || errs[1] != nil {
		t.Error(errs)
	}
}

// What Put is given has run before its turn has come, once, and stands in the same group as what others do; what it
// puts is judged as theirs is. It cannot read.
func TestPut(t *testing.T) {
	onAll(t, func(t *testing.T, s *Store) {
		p := payment.Payment{ID: protocol.PaymentID{1}, Device: "d"}
		do(t, s, func(tx *Tx) { tx.PutPayment(p) })
		p.Version = 1
		letGo := hold(t, s)
		var ran atomic.Int32
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for i := range errs {
			wg.Go(func() {
				errs[i] = s.Put(context.Background(), own(i), func(tx *Tx) error {
					tx.PutPayment(p) // over the same version
					ran.Add(1)
					return change(i)(tx)
				})
			})
			waiting(s, i+1)
		}
		if n := ran.Load(); n != 3 {
			t.Errorf("%d of 3 have run before their turn", n)
		}
		letGo()
		wg.Wait()
		if n := ran.Load(); n != 3 {
			t.Errorf("3 ran %d times", n)
		}
		stored := 0
		for _, err := range errs {
			if err == nil {
				stored++
			} else if !errors.Is(err, ErrConflict) {
				t.Error(err)
			}
		}
		if n := len(changes(t, s)); stored != 1 || n != 1 {
			t.Errorf("%d of 3 are stored, with %d changes", stored, n)
		}
		if err := s.Put(context.Background(), own(1), func(tx *Tx) error {
			_, _ = tx.Payment(p.ID)
			tx.PutChange(payment.Change{What: "no"})
			return nil
		}); !errors.Is(err, ErrRead) {
			t.Error(err)
		}
		if err := s.Put(context.Background(), own(1), func(*Tx) error { return errOwn }); !errors.Is(err, errOwn) {
			t.Error(err)
		}
		func() {
			defer func() {
				if p, ok := recover().(*Panic); !ok || !errors.Is(p, errOwn) {
					t.Error(p)
				}
			}()
			_ = s.Put(context.Background(), own(1), func(*Tx) error { panic(errOwn) })
		}()
		if n := len(changes(t, s)); n != 1 {
			t.Error(n)
		}
	})
}

func TestPanic(t *testing.T) {
	onAll(t, func(t *testing.T, s *Store) {
		panics := func(tx *Tx) error { tx.PutChange(payment.Change{What: "no"}); panic(errOwn) }
		caught := make(chan any, 2)
		letGo := hold(t, s)
		var wg sync.WaitGroup
		for i, fn := range []func(*Tx) error{panics, change(1), panics, change(3)} { // a leader and a follower
			wg.Go(func() {
				defer func() {
					if v := recover(); v != nil {
						caught <- v
					}
				}()
				if err := s.Do(context.Background(), own(i), fn); err != nil {
					t.Error(err)
				}
			})
			waiting(s, i+1)
		}
		letGo()
		wg.Wait()
		for range 2 {
			if p, ok := (<-caught).(*Panic); !ok || !errors.Is(p, errOwn) || len(p.Stack) == 0 {
				t.Error(p)
			}
		}
		equal(t, []string{"1", "3"}, changes(t, s))
		do(t, s, func(*Tx) {}) // and the lead is free
	})
}

// An fn that ends its goroutine (a test's FailNow) takes neither the lead nor the others along.
func TestGoexit(t *testing.T) {
	onAll(t, func(t *testing.T, s *Store) {
		letGo := hold(t, s)
		var wg sync.WaitGroup
		errs := make([]error, 3)
		dead := &sync.WaitGroup{}
		dead.Add(1)
		go func() {
			defer dead.Done()
			_ = s.Do(context.Background(), own(0), func(tx *Tx) error { tx.PutChange(payment.Change{What: "no"}); exit(); return nil })
		}()
		waiting(s, 1)
		wg.Go(func() { errs[1] = s.Do(context.Background(), own(1), change(1)) })
		waiting(s, 2)
		wg.Go(func() { errs[2] = s.Do(context.Background(), own(0), change(2)) }) // the next group
		waiting(s, 3)
		letGo()
		wg.Wait()
		dead.Wait()
		if !errors.Is(errs[1], ErrAborted) || errs[2] != nil {
			t.Error(errs)
		}
		equal(t, []string{"2"}, changes(t, s))
	})
}

func TestContext(t *testing.T) {
	onAll(t, func(t *testing.T, s *Store) {
		gone, cancel := context.WithCancelCause(context.Background())
		cancel(errOwn)
		if err := s.Do(gone, 1, change(0)); !errors.Is(err, errOwn) {
			t.Error(err)
		}

		// Waiting: it leaves, whether it would have led or not.
		letGo := hold(t, s)
		ctx, cancel := context.WithCancelCause(context.Background())
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				if err := s.Do(ctx, own(i), change(i)); !errors.Is(err, errOwn) {
					t.Error(err)
				}
			})
			waiting(s, i+1)
		}
		cancel(errOwn)
		wg.Wait()
		letGo()
		equal(t, []string(nil), changes(t, s))

		// Started: its outcome is waited for, and stands.
		ctx, cancel = context.WithCancelCause(context.Background())
		err := s.Do(ctx, own(0), func(tx *Tx) error { cancel(errOwn); return change(7)(tx) })
		if err != nil {
			t.Error(err)
		}
		equal(t, []string{"7"}, changes(t, s))
		letGo = hold(t, s)
		ctx, cancel = context.WithCancelCause(context.Background())
		wg.Go(func() { _ = s.Do(context.Background(), own(0), change(8)) })
		waiting(s, 1)
		wg.Go(func() { // a follower, whose fn runs in the leader's goroutine
			if err := s.Do(ctx, own(1), func(tx *Tx) error { cancel(errOwn); return change(9)(tx) }); err != nil {
				t.Error(err)
			}
		})
		waiting(s, 2)
		letGo()
		wg.Wait()
		equal(t, []string{"7", "8", "9"}, changes(t, s))
	})
}

func TestClose(t *testing.T) {
	onAll(t, func(t *testing.T, s *Store) {
		letGo := hold(t, s)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Do(context.Background(), own(0), change(1)); err != nil {
				t.Error(err)
			}
		})
		waiting(s, 1)
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		for closed := false; !closed; time.Sleep(50 * time.Microsecond) {
			l := s.lanes[0]
			l.mu.Lock()
			closed = l.closed
			l.mu.Unlock()
		}
		if err := s.Health(context.Background()); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := s.Do(context.Background(), own(0), change(2)); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		letGo()
		wg.Wait()
	})
}

// 64 goroutines take numbers of one TID; no number is given twice and none is lost, whether they
// share a shard or, on a TID that is used twice, do not.
func TestNoLostUpdate(t *testing.T) {
	onAll(t, func(t *testing.T, s *Store) {
		const each = 20
		for _, shards := range []uint32{1, 64} {
			tid := fmt.Sprint("t", shards)
			var wg sync.WaitGroup
			var seen sync.Map
			var twice atomic.Int32
			for g := range 64 {
				wg.Go(func() {
					for range each {
						var mine acquirer.STAN
						err := s.Do(context.Background(), uint32(g)%shards+1, func(tx *Tx) error {
							last, err := tx.LastSTAN("bank", tid)
							mine = last + 1
							tx.PutSTAN("bank", tid, mine)
							return err
						})
						if err != nil {
							t.Error(err)
						}
						if _, there := seen.LoadOrStore(mine, true); there {
							twice.Add(1)
						}
					}
				})
			}
			wg.Wait()
			do(t, s, func(tx *Tx) {
				if last := must(tx.LastSTAN("bank", tid))(t); last != 64*each || twice.Load() != 0 {
					t.Errorf("%d shards: last %d, want %d; given twice %d", shards, last, 64*each, twice.Load())
				}
			})
		}
		st := s.Stats()
		t.Logf("%d units in %d commits", st.Units, st.Commits)
	})
}

// Another process holds the write lock for longer than we wait.
func TestBusy(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	if _, err := s.db.(*sqliteDB).exec("pragma busy_timeout = 50"); err != nil {
		t.Fatal(err)
	}
	other := open(t, Options{Path: path(s)})
	letGo := hold(t, other)
	if err := s.Do(context.Background(), 1, change(1)); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if err := s.Health(context.Background()); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	letGo()
	if err := s.Do(context.Background(), 1, change(1)); err != nil {
		t.Error(err)
	}
	if err := s.Health(context.Background()); err != nil {
		t.Error(err)
	}
	equal(t, []string{"1"}, changes(t, s))
}

// A database that cannot grow any more refuses, stays alive, and goes on when it can.
func TestFull(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	db := s.db.(*sqliteDB)
	if _, err := db.exec("pragma max_page_count = 1"); err != nil { // clamped to what there is
		t.Fatal(err)
	}
	big := func(tx *Tx) error {
		tx.PutRecord(intake.Stored{Device: "d", Position: protocol.Position{Seq: 1}, Bytes: make([]byte, 100_000)})
		return nil
	}
	for range 2 {
		for _, err := range together(t, s, own, big, big) {
			if !errors.Is(err, ErrUnavailable) {
				t.Error(err)
			}
		}
	}
	if _, err := db.exec("pragma max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if err := s.Do(context.Background(), 1, big); err != nil {
		t.Error(err)
	}
}

func exit() { runtime.Goexit() }

func path(s *Store) string { return s.opt.Path }
