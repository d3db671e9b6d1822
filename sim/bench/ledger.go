package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
	"coinop/protocol/money"
)

// A unit is a payment's row and two transfers; so many wait for theirs, and so many share a commit of the
// bare engine.
const unitsWaiting = 256

// unit is the nth.
func unit(tx *store.Tx, n uint64) error {
	var id protocol.PaymentID
	binary.BigEndian.PutUint64(id[:], n)
	device := protocol.DeviceID("bench")
	about := ledger.About{Tenant: "bench", Payment: id, Device: device, Day: "20261124"}
	tx.PutPayment(payment.Payment{
		ID: id, Sale: protocol.SaleID(id), Device: device, Tenant: "bench", Class: protocol.Live, State: payment.Approved,
		Asked: money.New(250, money.EUR), Approved: money.New(250, money.EUR), RRN: "632812000001", AuthID: "123456", Local: "1124120000",
	})
	tx.Post(about.Confirmed("c"+string(id[:]), money.New(100, money.EUR))...)
	tx.Post(about.GiveBack("g"+string(id[:]), money.New(100, money.EUR))...)
	return nil
}

// ledger measures units of work on both engines, in turns with the same statements on the engine alone. It
// returns what one of SQLite's costs alone.
func (r *Report) ledger(ctx context.Context, o Options, dir string) (time.Duration, error) {
	bare, err := r.engine(ctx, o, "SQLite", filepath.Join(dir, "ours.db"), filepath.Join(dir, "bare.db"))
	if err != nil {
		return 0, err
	}
	server, err := storetest.Start()
	if err != nil {
		return 0, err
	}
	err1, err2 := server.Create("ours"), server.Create("alone")
	if err = errors.Join(err1, err2); err == nil {
		_, err = r.engine(ctx, o, "PostgreSQL", server.URL("ours"), server.URL("alone"))
	}
	return bare, errors.Join(err, server.Close())
}

func (r *Report) engine(ctx context.Context, o Options, name, ours, alone string) (time.Duration, error) {
	for _, path := range []string{ours, alone} { // both have the tables
		st, err := store.Open(ctx, store.Options{Path: path})
		if err != nil {
			return 0, err
		}
		if err := st.Close(); err != nil {
			return 0, err
		}
	}
	st, err := store.Open(ctx, store.Options{Path: ours})
	if err != nil {
		return 0, err
	}
	defer st.Close()
	b, err := storetest.OpenBare(ctx, alone)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	var n atomic.Uint64
	var did [2]uint64
	var took [2]time.Duration
	const turns = 4
	for turn := range turns {
		end := time.Now().Add(o.For / turns)
		began := time.Now()
		first := n.Load()
		if turn%2 == 0 {
			err = waiters(ctx, st, &n, end)
		} else {
			for time.Now().Before(end) && err == nil {
				err = b.Group(ctx, func(do func(query string, args []any) error) error {
					for range unitsWaiting {
						err := store.Statements(func(tx *store.Tx) error { return unit(tx, n.Add(1)) }, do)
						if err != nil {
							return err
						}
					}
					return nil
				})
			}
		}
		if err != nil {
			return 0, err
		}
		did[turn%2] += n.Load() - first
		took[turn%2] += time.Since(began)
	}
	rate := func(i int) float64 { return float64(did[i]) / took[i].Seconds() }
	r.more("ledger units on "+name+", 256 waiting", rate(0), "/s", rate(1), "the same statements on the engine alone, 256 units a commit, same run")
	return time.Duration(float64(time.Second) / rate(1)), nil
}

// waiters each wait for their unit, again and again.
func waiters(ctx context.Context, st *store.Store, n *atomic.Uint64, end time.Time) error {
	var wg sync.WaitGroup
	errs := make([]error, unitsWaiting)
	for w := range unitsWaiting {
		wg.Go(func() {
			for time.Now().Before(end) && errs[w] == nil {
				i := n.Add(1)
				errs[w] = st.Do(ctx, uint32(w)+1, func(tx *store.Tx) error { return unit(tx, i) })
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
