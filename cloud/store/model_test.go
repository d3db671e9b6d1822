package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
)

// model is what a store must hold, in maps.
type model struct {
	payments map[protocol.PaymentID]payment.Payment
	stans    map[string]acquirer.STAN
	book     []ledger.Transfer
	changes  []string
}

func (m model) clone() model {
	m.payments, m.stans = maps.Clone(m.payments), maps.Clone(m.stans)
	m.book, m.changes = append([]ledger.Transfer(nil), m.book...), append([]string(nil), m.changes...)
	return m
}

// act is one put, done to a Tx and to a model; its error is the unit's.
type act struct {
	What string
	ID   byte
	N    int64
}

func (a act) put(tx *Tx) error {
	id := protocol.PaymentID{a.ID}
	switch a.What {
	case "payment":
		p, err := tx.Payment(id)
		if err != nil {
			return err
		}
		version := p.Version
		p = aPayment(a.ID)
		p.ID, p.Sale, p.Version, p.State = id, protocol.SaleID{a.ID / 2}, version, payment.State(a.N%6+1)
		tx.PutPayment(p)
	case "stale":
		p := aPayment(a.ID)
		p.ID, p.Sale, p.Version = id, protocol.SaleID{a.ID / 2}, uint64(a.N)
		tx.PutPayment(p)
	case "stan":
		last, err := tx.LastSTAN("bank", string('a'+rune(a.ID)))
		if err != nil {
			return err
		}
		tx.PutSTAN("bank", string('a'+rune(a.ID)), last+1)
	case "post":
		tx.Post(a.transfer())
	case "change":
		tx.PutChange(payment.Change{What: fmt.Sprint(a.N)})
	case "fail":
		return errOwn
	}
	return nil
}

// transfer is one of few, some of which conflict with others.
func (a act) transfer() ledger.Transfer {
	about := ledger.About{Tenant: "acme", Payment: protocol.PaymentID{a.ID}, Device: "snack-1", Day: "20261124"}
	source := fmt.Sprint(a.ID)
	switch a.N % 4 {
	case 0:
		return about.Undone(ledger.Dual, source, eur(10))[0]
	case 1:
		return about.Confirmed(source, eur(10+a.N/4%2))[0]
	default:
		return about.Approved(ledger.Dual, source, eur(10))[0]
	}
}

func (a act) model(m *model) error {
	id := protocol.PaymentID{a.ID}
	p := aPayment(a.ID)
	p.ID, p.Sale = id, protocol.SaleID{a.ID / 2}
	switch a.What {
	case "payment", "stale":
		have := m.payments[id].Version
		if p.Version = have; a.What == "stale" {
			p.Version = uint64(a.N)
		} else {
			p.State = payment.State(a.N%6 + 1)
		}
		if p.Version != have {
			return ErrConflict
		}
		for other, q := range m.payments {
			if p.Takes() && other != id && q.Sale == p.Sale && q.Takes() {
				return ErrTaken
			}
		}
		p.Version++
		m.payments[id] = p
	case "stan":
		m.stans[string('a'+rune(a.ID))]++
	case "post":
		var book ledger.Book
		if err := book.Apply(append(append([]ledger.Transfer(nil), m.book...), a.transfer())...); err != nil {
			return err
		}
		for _, t := range m.book {
			if t == a.transfer() {
				return nil
			}
		}
		m.book = append(m.book, a.transfer())
	case "change":
		m.changes = append(m.changes, fmt.Sprint(a.N))
	case "fail":
		return errOwn
	}
	return nil
}

var causes = []error{nil, errOwn, ErrConflict, ErrTaken, ErrReadAfterWrite, ledger.ErrConflict, ledger.ErrPending}

func cause(err error) error {
	for _, c := range causes[1:] {
		if errors.Is(err, c) {
			return c
		}
	}
	return err
}

// Random units, some of which fail in every way there is, run in groups of random size. The store
// must end as the model does when the units run one by one.
func TestModel(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		checkModel(t, func() (*Store, func()) {
			s, err := Open(context.Background(), Options{Path: storetest.Memory})
			if err != nil {
				t.Fatal(err)
			}
			return s, func() { _ = s.Close() }
		})
	})
	t.Run("postgres", func(t *testing.T) { // where a database is dear: one for all, emptied
		t.Parallel()
		s := open(t, Options{Path: storetest.Database(t)})
		checkModel(t, func() (*Store, func()) {
			execSQL(t, s, "delete from payment; delete from transfer; delete from stan; delete from change")
			return s, func() {}
		})
	})
}

func checkModel(t *testing.T, fresh func() (*Store, func())) {
	units := rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) act {
		return act{
			rapid.SampledFrom([]string{"payment", "payment", "stale", "stan", "post", "post", "post", "change", "fail"}).Draw(t, "what"),
			rapid.ByteMax(3).Draw(t, "id"), rapid.Int64Range(0, 12).Draw(t, "n"),
		}
	}), 1, 3), 1, 6)
	redone := uint64(0)
	rapid.Check(t, func(r *rapid.T) {
		s, end := fresh()
		defer end()
		before := s.Stats().Redone
		m := model{payments: map[protocol.PaymentID]payment.Payment{}, stans: map[string]acquirer.STAN{}}
		for range rapid.IntRange(1, 6).Draw(r, "groups") {
			group := units.Draw(r, "units")
			var fns []func(*Tx) error
			var want []error
			for _, acts := range group {
				fns = append(fns, func(tx *Tx) error {
					for _, a := range acts {
						if err := a.put(tx); err != nil {
							return err
						}
					}
					return nil
				})
				next := m.clone()
				var err error
				for i, a := range acts {
					if i > 0 && (a.What == "payment" || a.What == "stan") {
						err = ErrReadAfterWrite // what the fn finds before any put is carried out
					}
					if a.What == "fail" {
						err = errOwn
					}
					if err != nil {
						break
					}
				}
				for i := 0; err == nil && i < len(acts); i++ {
					// Of two puts of one payment in a unit only the last counts.
					err = acts[i].model(&next)
				}
				if want = append(want, cause(err)); err == nil {
					m = next
				}
			}
			if twice(group) {
				r.Skip("puts of one payment coalesce; TestVersions has it")
			}
			for i, err := range together(t, s, own, fns...) {
				if cause(err) != want[i] {
					r.Fatalf("unit %d %v: %v, want %v", i, group[i], err, want[i])
				}
			}
		}
		redone += s.Stats().Redone - before
		compare(t, r, s, m)
	})
	t.Log("groups redone:", redone)
}

// twice reports a unit that puts one payment twice.
func twice(group [][]act) bool {
	for _, acts := range group {
		seen := map[byte]bool{}
		for _, a := range acts {
			if a.What == "payment" || a.What == "stale" {
				if seen[a.ID] {
					return true
				}
				seen[a.ID] = true
			}
		}
	}
	return false
}

func compare(t *testing.T, r *rapid.T, s *Store, m model) {
	ctx := context.Background()
	ps, err := s.Payments(ctx, PaymentFilter{}, 99)
	got := map[protocol.PaymentID]payment.Payment{}
	for _, p := range ps {
		got[p.ID] = p
	}
	// Id 0 is before every id that After can name.
	if p, err := s.Payment(ctx, protocol.PaymentID{}); err == nil {
		got[p.ID] = p
	}
	if d := cmp.Diff(m.payments, got); d != "" || err != nil {
		r.Fatal(err, d)
	}
	var book ledger.Book
	if err := book.Apply(m.book...); err != nil {
		r.Fatal(err)
	}
	have, err := s.Balances(ctx)
	if err != nil {
		r.Fatal(err)
	}
	want := book.Balances()
	if d := cmp.Diff(want, have); d != "" && len(want)+len(have) > 0 {
		r.Fatal(d)
	}
	if err := ledger.CheckSums(have); err != nil {
		r.Fatal(err)
	}
	if d := cmp.Diff(m.changes, changes(t, s)); d != "" {
		r.Fatal(d)
	}
	err = s.Do(ctx, 1, func(tx *Tx) error {
		for tid, n := range m.stans {
			if last, err := tx.LastSTAN("bank", tid); err != nil || last != n {
				r.Errorf("stan %s: %d %v, want %d", tid, last, err, n)
			}
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
}
