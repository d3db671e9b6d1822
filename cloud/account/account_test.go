package account_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"coinop/cloud/account"
	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
	"coinop/protocol/money"
)

func TestMain(m *testing.M) { storetest.Main(m) }

const now = protocol.UnixMS(1_800_000_000_000)

func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }

type bed struct {
	t    testing.TB
	st   *store.Store
	link *account.Link
	desk account.Desk
	card protocol.SealedLoop
	at   protocol.UnixMS

	mu  sync.Mutex
	ids byte
}

func newBed(t testing.TB, fresh storetest.Fresh) *bed {
	st, err := store.Open(context.Background(), store.Options{Path: fresh(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	b := &bed{t: t, st: st, at: now, card: protocol.SealedLoop{ID: "0000000001", Verified: true}}
	clock := func() protocol.UnixMS { return b.at }
	b.link = account.NewLink(account.LinkConfig{Do: st.DoAccount, Cards: b, Now: clock})
	b.desk = account.Desk{Do: st.DoAccount, Now: clock, NewID: func(protocol.UnixMS) account.ID {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ids++
		return account.ID{b.ids}
	}}
	return b
}

func (b *bed) WithCard(_ context.Context, _ acquirer.OpKey, use func(acquirer.Card) error) error {
	if b.card.Ref() == "" {
		return errors.New("none")
	}
	c := b.card
	return use(acquirer.Card{Loop: &c})
}

// open is an account of the bed's card with money on it.
func (b *bed) open(minor int64) account.Account {
	b.t.Helper()
	a, err := b.desk.Open(context.Background(), account.Account{Tenant: "acme", Currency: money.EUR, Card: "0000000001"})
	if err == nil {
		a, _, err = b.desk.Load(context.Background(), a.ID, eur(minor), "first", "")
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// op is an operation of a payment that is there.
func (b *bed) op(n byte, k acquirer.Kind, minor int64) acquirer.Op {
	b.t.Helper()
	p := payment.Payment{ID: protocol.PaymentID{n}, Sale: protocol.SaleID{n}, Device: protocol.DeviceID(fmt.Sprintf("d%d", n)), Tenant: "acme", Class: protocol.Live, State: payment.Sent}
	_ = b.st.Do(context.Background(), store.Shard(p.Device), func(tx *store.Tx) error { // again: it is there
		tx.PutPayment(p)
		return nil
	})
	return acquirer.Op{Key: acquirer.OpKey{Payment: p.ID, Kind: k, N: 1}, Link: acquirer.Accounts, Amount: eur(minor), Purpose: protocol.Exact}
}

func (b *bed) is(id account.ID) account.Account {
	b.t.Helper()
	a, err := b.st.Account(context.Background(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func (b *bed) laws() {
	b.t.Helper()
	if err := b.st.CheckAccounts(context.Background()); err != nil {
		b.t.Error(err)
	}
	m, err := b.st.Balances(context.Background())
	if err == nil {
		err = ledger.CheckSums(m)
	}
	if err != nil {
		b.t.Error(err)
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testOperations)
}

// What operations in an order do to an account with 10.00: what the last one is answered, and what stands.
func testOperations(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	auth, capture, reversal, partial := acquirer.Authorization, acquirer.Capture, acquirer.Reversal, acquirer.PartialReversal
	type do struct {
		kind  acquirer.Kind
		minor int64
	}
	for _, c := range []struct {
		name          string
		ops           []do
		last          acquirer.Outcome
		balance, held int64
	}{
		{"a hold", []do{{auth, 400}}, acquirer.OK, 1000, 400},
		{"a hold, twice", []do{{auth, 400}, {auth, 400}}, acquirer.OK, 1000, 400},
		{"a capture of all", []do{{auth, 400}, {capture, 400}}, acquirer.OK, 600, 0},
		{"a capture of less", []do{{auth, 400}, {capture, 100}}, acquirer.OK, 900, 0},
		{"a capture, twice", []do{{auth, 400}, {capture, 100}, {capture, 100}}, acquirer.OK, 900, 0},
		{"a capture of more", []do{{auth, 400}, {capture, 500}}, acquirer.No, 1000, 400},
		{"a capture of nothing that is held", []do{{capture, 100}}, acquirer.No, 1000, 0},
		{"a reversal", []do{{auth, 400}, {reversal, 400}}, acquirer.OK, 1000, 0},
		{"a reversal, twice", []do{{auth, 400}, {reversal, 400}, {reversal, 400}}, acquirer.OK, 1000, 0},
		{"a capture after the reversal", []do{{auth, 400}, {reversal, 400}, {capture, 100}}, acquirer.No, 1000, 0},
		{"a reversal after the capture", []do{{auth, 400}, {capture, 100}, {reversal, 400}}, acquirer.No, 900, 0},
		{"a reversal before the hold: it is refused for good", []do{{reversal, 400}, {auth, 400}}, acquirer.No, 1000, 0},
		{"a part of the hold is released", []do{{auth, 400}, {partial, 100}}, acquirer.OK, 1000, 100},
		{"and captured", []do{{auth, 400}, {partial, 100}, {capture, 100}}, acquirer.OK, 900, 0},
		{"not enough, and asked again when there is", []do{{auth, 1001}, {0, 500}, {auth, 1001}}, acquirer.No, 1500, 0},
		{"the reversal of a decline", []do{{auth, 1001}, {reversal, 1001}}, acquirer.OK, 1000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, fresh)
			a := b.open(1000)
			var ans acquirer.Answer
			for _, o := range c.ops {
				if o.kind == 0 {
					if _, _, err := b.desk.Load(t.Context(), a.ID, eur(o.minor), "more", ""); err != nil {
						t.Fatal(err)
					}
					continue
				}
				op := b.op(1, o.kind, o.minor)
				if o.kind == partial {
					op.Amount, op.Actual = eur(400), eur(o.minor)
				}
				var err error
				if ans, err = b.link.Do(t.Context(), op); err != nil {
					t.Fatal(err)
				}
				b.laws()
				again, err := b.link.Query(t.Context(), op)
				if err != nil || again.Outcome != ans.Outcome || again.Class != ans.Class || again.Approved != ans.Approved {
					t.Errorf("answered %+v, and asked what became of it: %+v, %v", ans, again, err)
				}
			}
			if x := b.is(a.ID); ans.Outcome != c.last || x.Balance != c.balance || x.Held != c.held {
				t.Errorf("%s (%s), balance %d, held %d; want %s, %d, %d", ans.Outcome, ans.Class, x.Balance, x.Held, c.last, c.balance, c.held)
			}
		})
	}
}

func TestNotSent(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testNotSent)
}

// What provably did nothing is said to be not sent, and nothing is known of it.
func testNotSent(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh)
	a := b.open(1000)
	late, gone, nobody := b.op(1, acquirer.Authorization, 100), b.op(2, acquirer.Authorization, 100), b.op(3, acquirer.Authorization, 100)
	late.WriteBy = now - 1
	nobody.Key.Payment = protocol.PaymentID{99}
	for what, op := range map[string]acquirer.Op{"too late": late, "nobody's": nobody} {
		if _, err := b.link.Do(t.Context(), op); !errors.Is(err, acquirer.ErrNotSent) {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.card = protocol.SealedLoop{}
	if _, err := b.link.Do(t.Context(), gone); !errors.Is(err, acquirer.ErrNotSent) {
		t.Errorf("without its card: %v", err)
	}
	for _, op := range []acquirer.Op{late, gone, nobody} {
		if _, err := b.link.Query(t.Context(), op); !errors.Is(err, acquirer.ErrUnknown) {
			t.Errorf("asked what became of it: %v", err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := b.link.Do(ended, late); !errors.Is(err, acquirer.ErrUnknown) {
		t.Errorf("its caller is gone: %v", err)
	}
	if x := b.is(a.ID); x.Held != 0 {
		t.Errorf("%d held", x.Held)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testManyAtOnce)
}

// One card at many machines in one moment, while a desk loads it twice: it is worth what it is worth, once.
func testManyAtOnce(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh)
	a := b.open(1000)
	const buyers = 24
	ops := make([]acquirer.Op, buyers)
	for i := range ops {
		ops[i] = b.op(byte(i+1), acquirer.Authorization, 100)
	}
	var wg sync.WaitGroup
	outcomes := make([]acquirer.Outcome, buyers)
	for i, op := range ops {
		wg.Go(func() {
			for range 50 { // many at one row: the store may give up, and has then done nothing
				ans, err := b.link.Do(context.Background(), op)
				if outcomes[i] = ans.Outcome; err == nil {
					break
				}
			}
			if i%3 > 0 || outcomes[i] != acquirer.OK {
				return
			}
			undo := op
			undo.Key.Kind = acquirer.Reversal
			for range 50 {
				if _, err := b.link.Do(context.Background(), undo); err == nil {
					return
				}
			}
			t.Error("a reversal was never answered")
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 50 {
				if _, _, err := b.desk.Load(context.Background(), a.ID, eur(500), "second", ""); err == nil {
					return
				}
			}
			t.Error("it was never loaded")
		})
	}
	wg.Wait()
	b.laws()
	held := int64(0)
	for i, o := range outcomes {
		switch {
		case o == acquirer.OK && i%3 > 0:
			held += 100
		case o != acquirer.OK && o != acquirer.No:
			t.Errorf("buyer %d: %s", i, o)
		}
	}
	if x := b.is(a.ID); x.Balance != 1500 || x.Held != held || held > 1500 {
		t.Errorf("balance %d, held %d; %d were given", x.Balance, x.Held, held)
	}
}

func TestDesk(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testDesk)
}

func testDesk(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	load := func(minor int64, ref string) func(*bed, account.ID) error {
		return func(b *bed, id account.ID) error {
			_, _, err := b.desk.Load(context.Background(), id, eur(minor), ref, "")
			return err
		}
	}
	out := func(minor int64, ref string) func(*bed, account.ID) error {
		return func(b *bed, id account.ID) error {
			_, _, err := b.desk.PayOut(context.Background(), id, eur(minor), ref, "")
			return err
		}
	}
	to := func(s account.State) func(*bed, account.ID) error {
		return func(b *bed, id account.ID) error {
			_, err := b.desk.Set(context.Background(), id, s)
			return err
		}
	}
	open := func(card string, unverified bool) func(*bed, account.ID) error {
		return func(b *bed, _ account.ID) error {
			_, err := b.desk.Open(context.Background(), account.Account{Tenant: "acme", Currency: money.EUR, Card: card, Unverified: unverified})
			return err
		}
	}
	hold := func(b *bed, _ account.ID) error {
		_, err := b.link.Do(context.Background(), b.op(1, acquirer.Authorization, 400))
		return err
	}
	type steps []func(*bed, account.ID) error
	for _, c := range []struct {
		name          string
		steps         steps
		err           error // of the last
		balance, held int64
		state         account.State
	}{
		{"loaded", steps{load(500, "a")}, nil, 1500, 0, account.Open},
		{"loaded twice under one reference", steps{load(500, "a"), load(500, "a")}, nil, 1500, 0, account.Open},
		{"another amount under that reference", steps{load(500, "a"), load(600, "a")}, account.ErrReference, 1500, 0, account.Open},
		{"paid out under that reference", steps{load(500, "a"), out(500, "a")}, account.ErrReference, 1500, 0, account.Open},
		{"without a reference", steps{load(500, "")}, account.ErrReference, 1000, 0, account.Open},
		{"nothing is loaded", steps{load(0, "a")}, account.ErrAmount, 1000, 0, account.Open},
		{"less than nothing", steps{load(-5, "a")}, account.ErrAmount, 1000, 0, account.Open},
		{"more than there can be", steps{load(1<<63-1, "a")}, account.ErrBooks, 1000, 0, account.Open},
		{"paid out", steps{out(600, "a")}, nil, 400, 0, account.Open},
		{"more than there is", steps{out(1001, "a")}, account.ErrFunds, 1000, 0, account.Open},
		{"what is held is not paid out", steps{hold, out(601, "a")}, account.ErrFunds, 1000, 400, account.Open},
		{"what is not, is", steps{hold, out(600, "a")}, nil, 400, 400, account.Open},
		{"a blocked one is not loaded", steps{to(account.Blocked), load(500, "a")}, account.ErrState, 1000, 0, account.Blocked},
		{"a blocked one is paid out", steps{to(account.Blocked), out(500, "a")}, nil, 500, 0, account.Blocked},
		{"blocked twice, then open", steps{to(account.Blocked), to(account.Blocked), to(account.Open), load(500, "a")}, nil, 1500, 0, account.Open},
		{"money is left on it", steps{to(account.Closed)}, account.ErrState, 1000, 0, account.Open},
		{"closed", steps{out(1000, "a"), to(account.Closed)}, nil, 0, 0, account.Closed},
		{"closed is for good", steps{out(1000, "a"), to(account.Closed), to(account.Open)}, account.ErrState, 0, 0, account.Closed},
		{"a closed one is not loaded", steps{out(1000, "a"), to(account.Closed), load(500, "b")}, account.ErrState, 0, 0, account.Closed},
		{"a card has one", steps{open("0000000001", false)}, account.ErrExists, 1000, 0, account.Open},
		{"a number that can be copied", steps{open("uid:0401", false)}, account.ErrCopied, 1000, 0, account.Open},
		{"and is wanted all the same", steps{open("uid:0401", true)}, nil, 1000, 0, account.Open},
		{"an account that is not there", steps{func(b *bed, _ account.ID) error { return load(5, "a")(b, account.ID{99}) }}, account.ErrNone, 1000, 0, account.Open},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, fresh)
			a := b.open(1000)
			for i, f := range c.steps {
				err := f(b, a.ID)
				if last := i == len(c.steps)-1; err != nil && !last || last && !errors.Is(err, c.err) {
					t.Fatalf("step %d: %v, want %v", i, err, c.err)
				}
				b.laws()
			}
			if x := b.is(a.ID); x.Balance != c.balance || x.Held != c.held || x.State != c.state {
				t.Errorf("balance %d, held %d, %s; want %d, %d, %s", x.Balance, x.Held, x.State, c.balance, c.held, c.state)
			}
		})
	}
}
