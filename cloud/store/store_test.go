package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"coinop/cloud/acquirer"
	"coinop/cloud/identity"
	"coinop/cloud/intake"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
	"coinop/cloud/vault"
	"coinop/protocol"
	"coinop/protocol/money"
)

var _ vault.Kept = (*Store)(nil)

func TestMain(m *testing.M) {
	if writeUntilKilled() {
		return
	}
	storetest.Main(m, func(code int) int {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	})
}

// open opens a store on a file of its own, or what o says.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "a b?%.db") // characters that mean something in a URI
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// onAll runs a test on a file, in memory and on PostgreSQL.
func onAll(t *testing.T, f func(*testing.T, *Store)) {
	t.Parallel()
	t.Run("file", func(t *testing.T) { t.Parallel(); f(t, open(t, Options{})) })
	storetest.Each(t, func(t *testing.T, fresh storetest.Fresh) {
		t.Parallel()
		f(t, open(t, Options{Path: fresh(t)}))
	})
}

// onDisk is onAll for what needs a database that outlives a Store.
func onDisk(t *testing.T, f func(t *testing.T, path string)) {
	t.Parallel()
	t.Run("file", func(t *testing.T) { t.Parallel(); f(t, filepath.Join(t.TempDir(), "coinop.db")) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); f(t, storetest.Database(t)) })
}

func do(t testing.TB, s *Store, f func(*Tx)) {
	t.Helper()
	if err := s.Do(context.Background(), 1, func(tx *Tx) error { f(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func equal(t testing.TB, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func eur(n int64) money.Amount { return money.New(n, money.EUR) }

func aPayment(n byte) payment.Payment {
	return payment.Payment{
		ID: protocol.PaymentID{n, 1}, Sale: protocol.SaleID{n, 2}, Device: "snack-1", Tenant: "acme", Class: protocol.Live,
		State: payment.Sent, Asked: eur(250), AskHash: protocol.HashBytes([]byte{n}), LeaseUntil: 1000 + protocol.UnixMS(n),
	}
}

func anOp(p protocol.PaymentID, k acquirer.Kind, n uint8, state payment.OpState) payment.OpRow {
	return payment.OpRow{
		Op:     acquirer.Op{Key: acquirer.OpKey{Payment: p, Kind: k, N: n}, Link: "bank", Amount: eur(250), STAN: 7},
		Device: "snack-1", Of: 1, State: state, Due: 100, Owed: 90,
	}
}

func TestRows(t *testing.T) {
	ctx := context.Background()
	onAll(t, func(t *testing.T, s *Store) {
		p := aPayment(1)
		p.Answer = protocol.Raw{0x01}
		auth, capture := anOp(p.ID, acquirer.Authorization, 1, payment.OpSent), anOp(p.ID, acquirer.Capture, 1, payment.OpWaiting)
		pos := protocol.Position{Epoch: protocol.Epoch{9}, Seq: 2, Hash: protocol.HashBytes([]byte("2"))}
		head := intake.Head{Device: "snack-1", Position: pos, Stopped: "fork", Released: 1}
		rec := intake.Stored{
			Device: "snack-1", Position: pos, Kind: protocol.KindSaleOpened, Lane: 1, Sale: p.Sale,
			Verdict: payment.Verdict{Disposition: payment.Quarantined, Quarantine: 2}, ReceivedAt: 5, Bytes: []byte("r2"),
		}
		rec1 := rec
		rec1.Position.Seq, rec1.Position.Hash, rec1.Sale = 1, protocol.HashBytes([]byte("1")), protocol.SaleID{}
		rec1.Verdict = payment.Verdict{Disposition: payment.Posted}
		d1 := protocol.Disposition{Payment: p.ID, What: 1, Amount: eur(1)}
		d2 := protocol.Disposition{Payment: protocol.PaymentID{8}, What: 2, Amount: eur(2)}
		incident := payment.Incident{Name: payment.OtherAsk, Device: "snack-1", At: 3, Detail: "x"}
		aCase := payment.Case{
			ID: protocol.CaseID{4}, Cause: protocol.CasePresumed, Tenant: "acme", Device: "snack-1", Sale: p.Sale,
			Payment: p.ID, Charged: true, Opened: 6,
		}
		change := payment.Change{At: 1, What: "payment.approved", Device: "snack-1", Payment: p.ID}
		do(t, s, func(tx *Tx) {
			tx.PutPayment(p)
			tx.PutOp(auth)
			tx.PutOp(capture)
			tx.PutSTAN("bank", "t1", 41)
			tx.PutSTAN("bank", "t1", 42)
			tx.PutCard(p.ID, []byte("kept"))
			tx.PutCard(p.ID, []byte("again"))
			tx.PutHead(head)
			tx.PutRecord(rec)
			tx.PutRecord(rec1)
			tx.PutDisposition("snack-1", d1)
			tx.PutDisposition("snack-1", d2)
			tx.PutDisposition("snack-2", d2)
			tx.PutIncident(incident)
			tx.PutCase(aCase)
			tx.PutCase(payment.Case{ID: aCase.ID})
			tx.PutChange(change)
		})
		p.Version, head.Version = 1, 1
		auth.Tries = 3 // an update keeps the order
		do(t, s, func(tx *Tx) { tx.PutOp(auth) })

		do(t, s, func(tx *Tx) {
			equal(t, p, must(tx.Payment(p.ID))(t))
			equal(t, payment.Payment{}, must(tx.Payment(protocol.PaymentID{7}))(t))
			equal(t, []payment.OpRow{auth, capture}, must(tx.Ops(p.ID))(t))
			equal(t, acquirer.STAN(42), must(tx.LastSTAN("bank", "t1"))(t))
			equal(t, acquirer.STAN(0), must(tx.LastSTAN("bank", "t2"))(t))
			equal(t, "fork", must(tx.Head("snack-1"))(t).Stopped)
			equal(t, "", must(tx.Head("snack-2"))(t).Stopped)
			equal(t, head, must(tx.Head("snack-1"))(t))
			equal(t, intake.Head{}, must(tx.Head("snack-2"))(t))
			equal(t, []protocol.Hash{rec1.Position.Hash, rec.Position.Hash}, must(tx.Hashes("snack-1", pos.Epoch, 1, 9))(t))
			equal(t, []protocol.Quarantined{{Seq: 2, Code: 2}}, must(tx.Quarantined("snack-1", pos.Epoch, 1, 9))(t))
			ds, cursor, err := tx.Dispositions("snack-1", 0, 1)
			if err != nil || cursor != 1 {
				t.Error(cursor, err)
			}
			equal(t, []protocol.Disposition{d1}, ds)
			ds, cursor, _ = tx.Dispositions("snack-1", 1, 9)
			equal(t, []protocol.Disposition{d2}, ds)
			if _, again, _ := tx.Dispositions("snack-1", cursor, 9); cursor != 2 || again != 2 {
				t.Error(cursor, again)
			}
		})
		equal(t, p, must(s.Payment(ctx, p.ID))(t))
		equal(t, []payment.Payment{p}, must(s.Payments(ctx, PaymentFilter{Device: "snack-1", Tenant: "acme", Sale: p.Sale, State: payment.Sent}, 9))(t))
		equal(t, 0, len(must(s.Payments(ctx, PaymentFilter{After: p.ID}, 9))(t)))
		equal(t, []payment.OpRow{auth, capture}, must(s.PaymentOps(ctx, p.ID))(t))
		equal(t, []byte("kept"), must(s.Card(ctx, p.ID))(t))
		equal(t, []byte(nil), must(s.Card(ctx, protocol.PaymentID{7}))(t))
		equal(t, []intake.Stored{rec1, rec}, must(s.Records(ctx, "snack-1", pos.Epoch, 0, 9))(t))
		equal(t, []payment.Incident{incident}, must(s.Incidents(ctx))(t))
		equal(t, []payment.Case{aCase}, must(s.Cases(ctx))(t))
		equal(t, []payment.Change{change}, feed(t, s))
		if first := must(s.Changes(ctx, 0, 9))(t)[0]; first.Seq == 0 || len(must(s.Changes(ctx, first.Seq, 9))(t)) != 0 {
			t.Error("a place of 0, or one that comes again:", first.Seq)
		}
		equal(t, head, must(s.Head(ctx, "snack-1"))(t))
		equal(t, 2, must(s.OpenOps(ctx))(t))
		equal(t, []payment.Overdue{{Payment: p.ID, Device: "snack-1"}}, must(s.Overdue(ctx, 1001, 9))(t))
		equal(t, 0, len(must(s.Overdue(ctx, 1000, 9))(t)))
		if _, err := s.Payment(ctx, protocol.PaymentID{7}); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if err := s.Health(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestDevices(t *testing.T) {
	ctx := context.Background()
	onAll(t, func(t *testing.T, s *Store) {
		d := identity.Device{ID: "snack-1", Tenant: "acme", Serial: "01", Key: []byte{1}, Link: "bank"}
		if _, err := s.Device(ctx, d.ID); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if err := s.PutDevice(ctx, d, false); err != nil {
			t.Fatal(err)
		}
		d.Serial, d.Key = "02", []byte{2}
		if err := s.PutDevice(ctx, d, false); !errors.Is(err, ErrExists) {
			t.Error(err)
		}
		if err := s.PutDevice(ctx, d, true); err != nil {
			t.Error(err)
		}
		if err := s.PutDevice(ctx, identity.Device{ID: "No!"}, true); !errors.Is(err, protocol.ErrDeviceID) {
			t.Error(err)
		}
		equal(t, d, must(s.Device(ctx, d.ID))(t))
		equal(t, []identity.Device{d}, must(s.Devices(ctx))(t))

		equal(t, []byte(nil), must(s.Meta(ctx, "restore_epoch"))(t))
		for _, v := range []string{"1", "2"} {
			if err := s.SetMeta(ctx, "restore_epoch", []byte(v)); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, []byte("2"), must(s.Meta(ctx, "restore_epoch"))(t))
	})
}

func TestVersions(t *testing.T) {
	ctx := context.Background()
	onAll(t, func(t *testing.T, s *Store) {
		p, h := aPayment(1), intake.Head{Device: "snack-1"}
		put := func(ps ...payment.Payment) error {
			return s.Do(ctx, 1, func(tx *Tx) error {
				for _, p := range ps {
					tx.PutPayment(p)
				}
				return nil
			})
		}
		head := func(h intake.Head) error {
			return s.Do(ctx, 1, func(tx *Tx) error { tx.PutHead(h); return nil })
		}
		p2 := p
		p2.State = payment.Approved
		if err := errors.Join(put(p, p2), head(h)); err != nil {
			t.Fatal(err)
		}
		p.Version = 1
		if got := must(s.Payment(ctx, p.ID))(t); got.State != payment.Approved || got.Version != 1 {
			t.Error("two puts in one unit: want the last, once", got.State, got.Version)
		}
		if err := put(p, p); err != nil {
			t.Error(err)
		}
		for _, v := range []uint64{0, 1, 3} {
			p.Version, h.Version = v, v*2
			if err := put(p); !errors.Is(err, ErrConflict) {
				t.Errorf("payment over version %d: %v", v, err)
			}
			if err := head(h); !errors.Is(err, ErrConflict) {
				t.Errorf("head over version %d: %v", h.Version, err)
			}
		}
		if err := s.Do(ctx, 1, func(tx *Tx) error {
			tx.PutRecord(intake.Stored{Bytes: []byte{}})
			tx.PutRecord(intake.Stored{Bytes: []byte{}})
			return nil
		}); !errors.Is(err, ErrConflict) {
			t.Error(err)
		}
	})
}

func TestTaker(t *testing.T) {
	ctx := context.Background()
	onAll(t, func(t *testing.T, s *Store) {
		a, b := aPayment(1), aPayment(2)
		b.Sale = a.Sale
		a.State, b.State = payment.Captured, payment.Capturing
		do(t, s, func(tx *Tx) { tx.PutPayment(a) })
		err := s.Do(ctx, 1, func(tx *Tx) error {
			if got, err := tx.Taker(a.Sale); got != a.ID || err != nil {
				t.Error(got, err)
			}
			if got, err := tx.Taker(protocol.SaleID{9}); !got.IsZero() || err != nil {
				t.Error(got, err)
			}
			tx.PutPayment(b)
			return nil
		})
		if !errors.Is(err, ErrTaken) {
			t.Error(err)
		}
		b.Class = protocol.Test
		do(t, s, func(tx *Tx) { tx.PutPayment(b) })
	})
}

func TestPost(t *testing.T) {
	ctx := context.Background()
	about := ledger.About{Tenant: "acme", Payment: protocol.PaymentID{1}, Device: "snack-1", Day: "20261124"}
	ok, void := about.Approved(ledger.Dual, "a", eur(250))[0], about.Undone(ledger.Dual, "a", eur(250))[0]
	mod := func(t ledger.Transfer, f func(*ledger.Transfer)) ledger.Transfer { f(&t); return t }
	onAll(t, func(t *testing.T, s *Store) {
		post := func(ts ...ledger.Transfer) error {
			return s.Do(ctx, 1, func(tx *Tx) error { tx.Post(ts...); return nil })
		}
		for _, c := range []struct {
			name string
			ts   []ledger.Transfer
			want error
		}{
			{"void of nothing", []ledger.Transfer{void}, ledger.ErrPending},
			{"amount 0", []ledger.Transfer{mod(ok, func(t *ledger.Transfer) { t.Amount = eur(0) })}, ledger.ErrTransfer},
			{"pending", []ledger.Transfer{ok}, nil},
			{"again", []ledger.Transfer{ok}, nil},
			{"void of another amount", []ledger.Transfer{mod(void, func(t *ledger.Transfer) { t.Amount = eur(1) })}, ledger.ErrPending},
			{"same id, other amount", []ledger.Transfer{mod(ok, func(t *ledger.Transfer) { t.Amount = eur(251) })}, ledger.ErrConflict},
			{"same id, other day", []ledger.Transfer{mod(ok, func(t *ledger.Transfer) { t.Day = "20261125" })}, ledger.ErrConflict},
			{"same id, no payment", []ledger.Transfer{mod(ok, func(t *ledger.Transfer) { t.Payment = protocol.PaymentID{} })}, ledger.ErrConflict},
			{"void", []ledger.Transfer{void}, nil},
			{"void again", []ledger.Transfer{ok, void, void}, nil},
			{"void under another id", []ledger.Transfer{mod(void, func(t *ledger.Transfer) { t.ID = ledger.ID("x", "y") })}, ledger.ErrPending},
			{"pending and void in one", append(about.Approved(ledger.Dual, "b", eur(7)), about.Captured(ledger.Dual, "b", "c", eur(7), eur(5))...), nil},
		} {
			if err := post(c.ts...); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
		got := must(s.Balances(ctx))(t)
		if err := ledger.CheckSums(got); err != nil {
			t.Error(err)
		}
		var book ledger.Book
		for _, e := range must(s.Transfers(ctx, 0, 99))(t) {
			if err := book.Apply(e.Transfer); err != nil {
				t.Error(err)
			}
		}
		equal(t, book.Balances(), got)
		all := must(s.Transfers(ctx, 0, 99))(t)
		equal(t, all[2:4], must(s.Transfers(ctx, all[1].Seq, 2))(t))
	})
}
