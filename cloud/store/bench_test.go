package store

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
)

// work is the unit that is measured: one read and three inserts.
func work(tx *Tx, n uint64) error {
	p := aPayment(0)
	for i := range 8 {
		p.ID[7-i], p.Sale[7-i] = byte(n>>(8*i)), byte(n>>(8*i))
	}
	if _, err := tx.Payment(p.ID); err != nil {
		return err
	}
	about := ledger.About{Tenant: "acme", Payment: p.ID, Device: p.Device, Day: "20261124"}
	p.State = payment.Approved
	tx.PutPayment(p)
	tx.Post(about.Confirmed("c"+string(p.ID[:]), eur(100))...)
	tx.Post(about.GiveBack("g"+string(p.ID[:]), eur(100))...)
	return nil
}

// BenchmarkDo is units with a given number of callers that each wait for theirs; "bare" is the same
// statements on the connection itself, 32 units a transaction: what the engine can do.
func BenchmarkDo(b *testing.B) {
	for _, waiters := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("waiters=%d", waiters), func(b *testing.B) {
			s := open(b, Options{})
			var n atomic.Uint64
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for w := range waiters {
				wg.Go(func() {
					for i := n.Add(1); i <= uint64(b.N); i = n.Add(1) {
						if err := s.Do(context.Background(), own(w), func(tx *Tx) error { return work(tx, i) }); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			st := s.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "units/s")
			b.ReportMetric(float64(st.Units)/float64(max(st.Commits, 1)), "units/commit")
		})
	}
	for _, size := range []int{1, 32, 64} {
		b.Run(fmt.Sprintf("bare=%d", size), func(b *testing.B) {
			db, err := openSQLite(context.Background(), filepath.Join(b.TempDir(), "bare.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer db.close()
			exec := func(query string, args ...any) {
				if _, err := db.exec(query, args...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; {
				exec(beginGroup)
				for k := 0; k < size && i < b.N; k++ {
					i++
					tx := &Tx{from: writing{db}}
					if err := work(tx, uint64(i)); err != nil {
						b.Fatal(err)
					}
					for _, w := range tx.queue {
						exec(w.query, w.args...)
					}
				}
				exec("commit")
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "units/s")
		})
	}
}

// BenchmarkPostgres is BenchmarkDo on a server. "bare" is the same reads and writes in pipelines of
// our own on one connection, 32 units a transaction, without locks, guards or fns that wait.
func BenchmarkPostgres(b *testing.B) {
	ctx := context.Background()
	for _, waiters := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("waiters=%d", waiters), func(b *testing.B) {
			s := open(b, Options{Path: storetest.Database(b)})
			var n atomic.Uint64
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for w := range waiters {
				wg.Go(func() {
					for i := n.Add(1); i <= uint64(b.N); i = n.Add(1) {
						if err := s.Do(ctx, uint32(w)+1, func(tx *Tx) error { return work(tx, i) }); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			st := s.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "units/s")
			b.ReportMetric(float64(st.Units)/float64(max(st.Commits, 1)), "units/commit")
		})
	}
	for _, size := range []int{1, 32} {
		b.Run(fmt.Sprintf("bare=%d", size), func(b *testing.B) {
			s := open(b, Options{Path: storetest.Database(b)})
			conn, err := s.db.(*postgresDB).connect(ctx)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close(ctx)
			b.ResetTimer()
			for i := 0; i < b.N; {
				reads, writes := &pgx.Batch{}, &pgx.Batch{}
				reads.Queue("begin")
				for k := 0; k < size && i < b.N; k++ {
					i++
					tx := &Tx{from: recorder{reads}}
					if err := work(tx, uint64(i)); err != nil {
						b.Fatal(err)
					}
					for _, w := range tx.queue {
						writes.Queue(w.query, w.args...)
					}
				}
				writes.Queue("commit")
				for _, batch := range []*pgx.Batch{reads, writes} {
					if err := conn.SendBatch(ctx, batch).Close(); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "units/s")
		})
	}
}

// recorder notes reads for a pipeline, and answers that there is nothing.
type recorder struct{ b *pgx.Batch }

func (r recorder) each(_ context.Context, query string, args []any, _ func(row) error) error {
	r.b.Queue(query, args...)
	return nil
}

// BenchmarkOpen is what a run of the simulator pays for its database.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		s, err := Open(context.Background(), Options{Path: ":memory:"})
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}
