package payment_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"coinop/cloud/account"
	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
)

// purse is a bed with a link to accounts, and a desk.
type purse struct {
	*bed
	now   protocol.UnixMS
	link  *account.Link
	desk  account.Desk
	cards map[protocol.PaymentID]protocol.SealedLoop
}

func newPurse(b *bed) *purse {
	p := &purse{bed: b, now: t0, cards: map[protocol.PaymentID]protocol.SealedLoop{}}
	do := func(ctx context.Context, key string, fn func(account.Tx) error) error {
		err := b.st.DoAccount(ctx, key, fn)
		if err == nil {
			b.sums()
		}
		return err
	}
	now := func() protocol.UnixMS { return p.now }
	p.link = account.NewLink(account.LinkConfig{Do: do, Cards: p, Now: now})
	p.desk = account.Desk{Do: do, Now: now, NewID: func(protocol.UnixMS) account.ID { return b.newID() }}
	return p
}

// WithCard is the vault's.
func (p *purse) WithCard(_ context.Context, k acquirer.OpKey, use func(acquirer.Card) error) error {
	c, ok := p.cards[k.Payment]
	if !ok {
		return errors.New("none")
	}
	return use(acquirer.Card{Loop: &c})
}

// open opens an account and loads it.
func (p *purse) open(card string, minor int64) account.Account {
	p.t.Helper()
	a, err := p.desk.Open(context.Background(), account.Account{Tenant: "acme", Currency: eur(0).Currency, Card: card})
	if err == nil && minor > 0 {
		a, _, err = p.desk.Load(context.Background(), a.ID, eur(minor), "first", "")
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *purse) is(id account.ID) account.Account {
	p.t.Helper()
	a, err := p.st.Account(context.Background(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func ours(id string) protocol.SealedLoop { return protocol.SealedLoop{ID: id, Verified: true} }

func TestClosedLoopSale(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testClosedLoopSale)
}

// A sale paid with a closed-loop card: what each of its steps makes of account and ledger.
func testClosedLoopSale(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	p := newPurse(newBed(t, fresh, acquirer.Profile{}))
	a := p.open("0000000001", 1000)
	p.cards[pay] = ours("0000000001")
	s := p.service()
	answer := func(at protocol.UnixMS, op acquirer.Op) []payment.Effect {
		t.Helper()
		p.now = at
		ans, err := p.link.Do(t.Context(), op)
		return handle(t, s, at, payment.HostAnswer{Device: snack, Key: op.Key, Answer: ans, Err: err})
	}
	want := func(what string, balance, held, stored, pending int64) {
		t.Helper()
		x := p.is(a.ID)
		b := p.balances()[ledger.Key{Tenant: "acme", Currency: eur(0).Currency, Account: ledger.StoredValue}]
		if x.Balance != balance || x.Held != held || b.Net() != -stored || b.PendingNet() != pending {
			t.Errorf("%s: balance %d, held %d, stored %d, pending %d", what, x.Balance, x.Held, -b.Net(), b.PendingNet())
		}
	}
	want("loaded", 1000, 0, 1000, 0)
	op := one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250, loop)))
	if op.Link != acquirer.Accounts {
		t.Fatalf("asked at %q", op.Link)
	}
	r, _ := response(t, answer(t0+100, op))
	if r.Result != protocol.Approved || r.Approved != eur(250) {
		t.Fatalf("%+v", r)
	}
	want("held", 1000, 250, 1000, 250)
	effects := handle(t, s, t0+3000, payment.Copy{From: from(snack), Record: outcome(snack, sale, pay, 5, protocol.Capture, 100, protocol.ReasonSold)})
	want("delivered", 1000, 250, 1000, 0)
	capture := one(t, effects)
	if effects = answer(t0+3100, capture); len(effects) != 0 {
		t.Fatal(effects)
	}
	want("captured", 900, 0, 900, 0)
	capture.Repeat = true
	answer(t0+4000, capture)
	want("captured again", 900, 0, 900, 0)
	if got := p.want(pay, payment.Captured); got.By != protocol.ByClosedLoop {
		t.Errorf("paid by %s", got.By)
	}
	if ar, mp, au := p.net(ledger.AcqReceivable), p.net(ledger.MerchantPayable), p.net(ledger.AcqUnconfirmed); ar != 0 || mp != -100 || au != 0 {
		t.Errorf("claimed %d and %d from an acquirer, owed to the merchant %d", ar, au, -mp)
	}
	if p.odd() != 0 || len(p.cases()) != 0 {
		t.Error(p.incidents(), p.cases())
	}
}

func TestClosedLoopRefusals(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testClosedLoopRefusals)
}

func testClosedLoopRefusals(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	uid := protocol.SealedLoop{UID: []byte{4, 1}}
	for _, c := range []struct {
		name   string
		card   protocol.SealedLoop
		before func(*testing.T, *purse, account.Account)
		minor  int64
		change func(*protocol.Ask)
		result protocol.Result
		code   protocol.Code
		odd    payment.IncidentName
	}{
		{"enough", ours("0000000001"), nil, 1000, nil, protocol.Approved, 0, 0},
		{"not enough", ours("0000000001"), nil, 1001, nil, protocol.Declined, protocol.DeclineFunds, 0},
		{"not enough, card first: what there is", ours("0000000001"), nil, 1001, func(a *protocol.Ask) { a.Purpose = protocol.MaxHold }, protocol.Partial, 0, 0},
		{"unknown", ours("0000000002"), nil, 100, nil, protocol.Declined, protocol.DeclineUnknown, 0},
		{"of another currency", ours("0000000001"), nil, 100, func(a *protocol.Ask) { a.Amount.Currency = 756 }, protocol.Declined, protocol.DeclineUnknown, 0},
		{"blocked", ours("0000000001"), set(account.Blocked), 100, nil, protocol.Declined, protocol.DeclineBlocked, 0},
		{"unblocked", ours("0000000001"), func(t *testing.T, p *purse, a account.Account) {
			set(account.Blocked)(t, p, a)
			set(account.Open)(t, p, a)
		}, 100, nil, protocol.Approved, 0, 0},
		{"closed", ours("0000000001"), func(t *testing.T, p *purse, a account.Account) {
			if _, _, err := p.desk.PayOut(t.Context(), a.ID, eur(1000), "out", ""); err != nil {
				t.Fatal(err)
			}
			set(account.Closed)(t, p, a)
		}, 100, nil, protocol.Declined, protocol.DeclineBlocked, 0},
		{"a number anyone can copy", uid, nil, 100, nil, protocol.Declined, protocol.DeclineUnverified, 0},
		{"the id of a card that was not proven", protocol.SealedLoop{ID: "0000000001", UID: []byte{4}}, nil, 100, nil, protocol.Declined, protocol.DeclineUnverified, 0},
		{"a number anyone can copy, where the operator wants it", uid, func(t *testing.T, p *purse, _ account.Account) {
			b, err := p.desk.Open(t.Context(), account.Account{Tenant: "acme", Currency: eur(0).Currency, Card: "uid:0401", Unverified: true})
			if err == nil {
				_, _, err = p.desk.Load(t.Context(), b.ID, eur(500), "1", "")
			}
			if err != nil {
				t.Fatal(err)
			}
		}, 100, nil, protocol.Approved, 0, 0},
		{"a counter that went back is told, and no refusal", protocol.SealedLoop{ID: "0000000001", Verified: true, Counter: 3}, func(t *testing.T, p *purse, _ account.Account) {
			first := protocol.PaymentID{9}
			p.cards[first] = protocol.SealedLoop{ID: "0000000001", Verified: true, Counter: 4}
			op := one(t, handle(t, p.service(), t0, request(t0, snack, protocol.SaleID{9}, first, 10, loop)))
			if _, err := p.link.Do(t.Context(), op); err != nil {
				t.Fatal(err)
			}
		}, 100, nil, protocol.Approved, 0, payment.CardCounterBack},
		{"of another tenant", ours("0000000001"), nil, 100, nil, protocol.Declined, protocol.DeclineUnknown, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPurse(newBed(t, fresh, acquirer.Profile{}))
			a := p.open("0000000001", 1000)
			if c.before != nil {
				c.before(t, p, a)
			}
			held := p.is(a.ID).Held
			p.cards[pay] = c.card
			s := p.service()
			q := request(t0, snack, sale, pay, c.minor, loop, func(a *protocol.Ask) {
				if c.change != nil {
					c.change(a)
				}
			})
			if c.name == "of another tenant" {
				q.From.Tenant = "other"
			}
			op := one(t, handle(t, s, t0, q))
			ans, err := p.link.Do(t.Context(), op)
			r, _ := response(t, handle(t, s, t0+100, payment.HostAnswer{Device: snack, Key: op.Key, Answer: ans, Err: err}))
			if r.Result != c.result || r.Code != c.code {
				t.Errorf("%s(%s), want %s(%s)", r.Result, r.Code, c.result, c.code)
			}
			if now := p.is(a.ID); now.Held != held && c.result == protocol.Declined {
				t.Errorf("declined, and %d held", now.Held)
			}
			if c.odd != 0 && p.incidents()[c.odd] != 1 || c.odd == 0 && p.odd() != 0 {
				t.Error(p.incidents())
			}
		})
	}
}

func set(to account.State) func(*testing.T, *purse, account.Account) {
	return func(t *testing.T, p *purse, a account.Account) {
		t.Helper()
		if _, err := p.desk.Set(t.Context(), a.ID, to); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRandomClosedLoop(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testRandomClosedLoop)
}

// The random test's world with our own accounts in the bank's place: a few cards that many buy with, that are
// loaded and blocked meanwhile. What stands there, in the ledger and on the devices must be one story.
func testRandomClosedLoop(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	for n := range uint64(max(*seeds, 1)) {
		t.Run(fmt.Sprintf("seed %d", n+1), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fresh, n+1, acquirer.Profile{})
			w.loaded = map[ledger.Account]int64{}
			p := newPurse(w.bed)
			var accounts []account.Account
			for i := range 3 {
				accounts = append(accounts, p.open(fmt.Sprintf("000000000%d", i), 2500))
			}
			w.change = func(a *protocol.Ask) {
				loop(a)
				p.cards[a.Payment] = ours(accounts[a.Payment[1]%3].Card)
			}
			w.do = func(at protocol.UnixMS, op acquirer.Op, _ hostsim.Behavior) (acquirer.Answer, error) {
				p.now = at
				return p.link.Do(t.Context(), op)
			}
			w.query = func(op acquirer.Op) (acquirer.Answer, error) { return p.link.Query(t.Context(), op) }
			for i := range 40 {
				w.after(time.Duration(w.rng.IntN(60_000))*time.Millisecond, func() { w.buy(i) })
			}
			for i := range 4 {
				w.after(time.Duration(w.rng.IntN(80_000))*time.Millisecond, func() { w.die(i % len(w.replicas)) })
			}
			for i := range 6 {
				w.after(w.ms(80_000), func() {
					p.now = w.now
					a := accounts[i%3]
					if i < 3 {
						if _, _, err := p.desk.Load(t.Context(), a.ID, eur(1000), "again", ""); err != nil && !errors.Is(err, account.ErrState) {
							t.Error(err)
						}
						return
					}
					set(account.State(1+w.rng.IntN(2)))(t, p, a)
				})
			}
			w.run()
			var balance, held int64
			for _, a := range accounts {
				x := p.is(a.ID)
				balance, held = balance+x.Balance, held+x.Held
			}
			suspense := w.net(ledger.Suspense) // what was loaded, and nothing else
			w.loaded[ledger.StoredValue], w.loaded[ledger.Suspense] = -suspense, suspense
			w.judgeBy(ledger.StoredValue, func(op acquirer.Op) (h, d int64) {
				for _, e := range p.entries(accounts) {
					if e.Payment == op.Key.Payment {
						h, d = h+e.Held, d-e.Balance
					}
				}
				return h, d
			})
			if held != 0 || balance != -w.net(ledger.StoredValue) {
				t.Errorf("%d on cards, %d held, stored value %d", balance, held, -w.net(ledger.StoredValue))
			}
			if suspense < 7500 || suspense > 10500 {
				t.Errorf("%d loaded", suspense)
			}
		})
	}
}

func (p *purse) entries(of []account.Account) (all []account.Entry) {
	for _, a := range of {
		es, err := p.st.AccountEntries(context.Background(), a.ID, 0, 10_000)
		if err != nil {
			p.t.Fatal(err)
		}
		all = append(all, es...)
	}
	return all
}
