package store

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
)

const childEnv = "COINOP_STORE_CRASH_TEST"

// sale is one unit of the crash test: a payment with two transfers, a record of what it was in one.
func sale(tx *Tx, id protocol.PaymentID) {
	p := aPayment(0)
	p.ID, p.Sale, p.State, p.LeaseUntil = id, protocol.SaleID(id), payment.Captured, 0
	about := ledger.About{Tenant: "acme", Payment: id, Device: p.Device, Day: "20261124"}
	tx.PutPayment(p)
	tx.Post(about.Approved(ledger.Dual, id.String(), eur(250))...)
	tx.Post(about.Captured(ledger.Dual, id.String(), "c"+id.String(), eur(250), eur(200))...)
	tx.PutChange(payment.Change{What: "payment.captured", Payment: id})
}

func newID() protocol.PaymentID {
	var random [10]byte
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	return protocol.PaymentID(protocol.NewID[struct{}](protocol.At(time.Now()), random))
}

// writeUntilKilled is the child: it writes from 8 goroutines and prints each id after its commit.
func writeUntilKilled() bool {
	path := os.Getenv(childEnv)
	if path == "" {
		return false
	}
	s, err := Open(context.Background(), Options{Path: path})
	if err != nil {
		fmt.Println("!", err)
		return true
	}
	var out sync.Mutex
	var wg sync.WaitGroup
	for g := range uint32(8) {
		wg.Go(func() {
			for {
				id := newID()
				if err := s.Do(context.Background(), g+1, func(tx *Tx) error { sale(tx, id); return nil }); err != nil {
					fmt.Println("!", err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Println(hex.EncodeToString(id[:]))
				out.Unlock()
			}
		})
	}
	wg.Wait()
	return true
}

// kill -9 in mid write, again and again on one file: what was acknowledged is there, whole.
func TestKill(t *testing.T) {
	onDisk(t, testKill)
}

func testKill(t *testing.T, path string) {
	kills := 6
	if testing.Short() {
		kills = 1
	}
	acked := map[protocol.PaymentID]bool{}
	extra := 0
	for range kills {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), childEnv+"="+path)
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		limit := 50 + rand.IntN(300)
		for n, lines := 0, bufio.NewScanner(stdout); lines.Scan(); n++ {
			b, err := hex.DecodeString(lines.Text())
			if err != nil || len(b) != 16 {
				if n < limit {
					t.Fatal(lines.Text())
				}
				break // cut off by the kill
			}
			acked[protocol.PaymentID(b)] = true
			if n == limit {
				_ = child.Process.Kill()
			}
		}
		_ = child.Wait()

		storetest.Quiet(t, path)
		s := open(t, Options{Path: path})
		extra = len(whole(t, s, acked)) - len(acked)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills: %d acknowledged, 0 may be missing; %d committed and not acknowledged", kills, len(acked), extra)
}

// whole checks that all acknowledged sales are there, and each that is there is so in all its rows.
func whole(t *testing.T, s *Store, acked map[protocol.PaymentID]bool) map[protocol.PaymentID]bool {
	t.Helper()
	there := map[protocol.PaymentID]bool{}
	for after := (protocol.PaymentID{}); ; {
		ps := must(s.Payments(t.Context(), PaymentFilter{After: after}, 1000))(t)
		if len(ps) == 0 {
			break
		}
		for _, p := range ps {
			there[p.ID], after = true, p.ID
		}
	}
	for id := range acked {
		if !there[id] {
			t.Errorf("%s was acknowledged and is gone", id)
		}
	}
	if n := len(must(s.Transfers(t.Context(), 0, 1<<30))(t)); n != 3*len(there) {
		t.Errorf("%d transfers of %d payments, want 3 each", n, len(there))
	}
	if n := len(feed(t, s)); n != len(there) {
		t.Errorf("%d changes of %d payments, want one each", n, len(there))
	}
	if err := ledger.CheckSums(must(s.Balances(t.Context()))(t)); err != nil {
		t.Error(err)
	}
	return there
}
