package store

import (
	"context"
	"sync"
	"testing"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/payment"
	"coinop/protocol"
)

func keys(ops []payment.OpRow) (out []string) {
	for _, o := range ops {
		out = append(out, o.Op.Key.Kind.String())
	}
	return out
}

func TestClaim(t *testing.T) {
	ctx := context.Background()
	onAll(t, func(t *testing.T, s *Store) {
		claim := func(now protocol.UnixMS, most int) []payment.OpRow {
			return must(s.Claim(ctx, now, 50*time.Millisecond, most, func(o *payment.OpRow) { o.Op.Repeat = o.Tries > 0 }))(t)
		}
		due := func(want protocol.UnixMS) {
			t.Helper()
			if got := must(s.NextDue(ctx))(t); got != want {
				t.Errorf("next due %d, want %d", got, want)
			}
		}
		due(0)
		p := protocol.PaymentID{1}
		do(t, s, func(tx *Tx) {
			auth := anOp(p, acquirer.Authorization, 1, payment.OpSent) // its lease is long over, and it is never claimed
			later, now, never := anOp(p, acquirer.Refund, 1, payment.OpOwed), anOp(p, acquirer.Reversal, 1, payment.OpOwed), anOp(p, acquirer.Capture, 1, payment.OpWaiting)
			later.Due = 120
			tx.PutOp(auth)
			tx.PutOp(later)
			tx.PutOp(now)
			tx.PutOp(never)
			tx.PutOp(anOp(p, acquirer.Reversal, 2, payment.OpAnswered))
			tx.PutOp(anOp(p, acquirer.Reversal, 3, payment.OpDead))
		})
		if n := must(s.OpenOps(ctx))(t); n != 4 {
			t.Error("open:", n)
		}
		due(100)
		equal(t, []string(nil), keys(claim(99, 9)))
		equal(t, []string{"reversal"}, keys(claim(120, 1))) // the longest due
		equal(t, []string{"refund"}, keys(claim(121, 9)))
		due(170)
		got := claim(170, 9)
		equal(t, []string{"reversal"}, keys(got)) // its lease is over
		o := got[0]
		if o.State != payment.OpSent || o.Tries != 2 || o.Lease != 220 || !o.Op.Repeat {
			t.Errorf("%+v", o)
		}
		equal(t, o, must(s.PaymentOps(ctx, p))(t)[2])
		due(171)
		o.State = payment.OpAnswered
		do(t, s, func(tx *Tx) { tx.PutOp(o); tx.PutPayment(aPayment(2)) })
		equal(t, []string{"refund"}, keys(claim(1000, 9)))
		due(1002) // the payment's
	})
}

// Two replicas on one database: nobody claims what another holds, and what a dead one held is taken
// over when its lease ends.
func TestTwoReplicas(t *testing.T) {
	onDisk(t, testTwoReplicas)
}

func testTwoReplicas(t *testing.T, path string) {
	ctx := context.Background()
	a, b := open(t, Options{Path: path}), open(t, Options{Path: path})
	const ops = 200
	do(t, a, func(tx *Tx) {
		for i := range ops {
			tx.PutOp(anOp(protocol.PaymentID{byte(i)}, acquirer.Capture, 1, payment.OpOwed))
		}
	})
	all := func(now protocol.UnixMS) map[acquirer.OpKey]int {
		var mu sync.Mutex
		var wg sync.WaitGroup
		got := map[acquirer.OpKey]int{}
		for i := range 6 {
			s := []*Store{a, b}[i%2]
			wg.Go(func() {
				for {
					ops, err := s.Claim(ctx, now, time.Second, 7, nil)
					if err != nil {
						t.Error(err)
					}
					if len(ops) == 0 {
						return
					}
					mu.Lock()
					for _, o := range ops {
						got[o.Op.Key]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return got
	}
	for _, now := range []protocol.UnixMS{100, 1100} {
		got := all(now)
		for k, n := range got {
			if n != 1 {
				t.Errorf("%s was claimed %d times", k, n)
			}
		}
		if len(got) != ops {
			t.Errorf("%d claimed at %d, want %d", len(got), now, ops)
		}
	}
	if n := len(must(b.Claim(ctx, 2099, time.Second, 9, nil))(t)); n != 0 {
		t.Error(n)
	}
}
