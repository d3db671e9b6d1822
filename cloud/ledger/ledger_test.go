package ledger

import (
	"errors"
	"math"
	"testing"

	"coinop/protocol"
	"coinop/protocol/money"

	"pgregory.net/rapid"
)

func eur(n int64) money.Amount { return money.New(n, money.EUR) }

func entry(cause byte) Entry {
	return Entry{Tenant: "t", Payment: protocol.PaymentID{1}, Cause: protocol.Hash{cause}}
}

func captured(t interface{ Fatal(...any) }, e Entry, hold, c money.Amount) []Transfer {
	ts, err := CaptureSent(e, hold, c)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func join(tss ...[]Transfer) (out []Transfer) {
	for _, ts := range tss {
		out = append(out, ts...)
	}
	return out
}

// The rows of the dual message flow: what each account holds after each way a payment can go.
func TestWays(t *testing.T) {
	hold := Approved(entry(1), eur(200))
	for name, c := range map[string]struct {
		ts   []Transfer
		want map[Account]int64
		held int64
	}{
		"approved":         {hold, nil, 200},
		"voided":           {join(hold, Released(entry(2), eur(200))), nil, 0},
		"captured, asked":  {join(hold, captured(t, entry(2), eur(200), eur(150))), map[Account]int64{AcqUnconfirmed: 150, MerchantPayable: -150}, 0},
		"captured, taken":  {join(hold, captured(t, entry(2), eur(200), eur(150)), CaptureAnswered(entry(3), eur(150))), map[Account]int64{AcqReceivable: 150, MerchantPayable: -150}, 0},
		"capture refused":  {join(hold, captured(t, entry(2), eur(200), eur(150)), CaptureRefused(entry(3), eur(150))), map[Account]int64{Suspense: 150, MerchantPayable: -150}, 0},
		"too late":         {ExpiredDelivered(entry(2), eur(150)), map[Account]int64{ExpiredLoss: 150, MerchantPayable: -150}, 0},
		"refunded in full": {join(hold, captured(t, entry(2), eur(200), eur(150)), CaptureAnswered(entry(3), eur(150)), RefundOrdered(entry(4), eur(150)), RefundAnswered(entry(5), eur(150))), nil, 0},
	} {
		b, err := Fold(append(c.ts, c.ts...)) // each twice: counted once
		if err != nil || b.Check() != nil {
			t.Fatalf("%s: %v %v", name, err, b.Check())
		}
		for _, a := range []Account{AcqReceivable, AcqUnconfirmed, VendPending, MerchantPayable, ReversalOwed, RefundOwed, ExpiredLoss, Suspense} {
			if got := b.Posted("t", a, money.EUR); got.Minor != c.want[a] {
				t.Errorf("%s: %s holds %s, want %d", name, a, got, c.want[a])
			}
		}
		if got := b.Pending("t", AcqReceivable, money.EUR); got.Minor != c.held {
			t.Errorf("%s: %s held, want %d", name, got, c.held)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []money.Amount{eur(0), eur(-1), eur(201), money.New(1, money.USD)} {
		if _, err := CaptureSent(entry(1), eur(200), c); !errors.Is(err, ErrAmount) {
			t.Errorf("capture %s: %v", c, err)
		}
	}
	for name, ts := range map[string][]Transfer{
		"nothing":      Approved(entry(1), eur(0)),
		"less":         Approved(entry(1), eur(-5)),
		"same id":      join(Approved(entry(1), eur(1)), Approved(entry(1), eur(2))),
		"overflow":     join(ExpiredDelivered(entry(1), eur(math.MaxInt64)), ExpiredDelivered(entry(2), eur(1))),
		"same account": {{ID: protocol.Hash{1}, Kind: Post, Debit: Suspense, Credit: Suspense, Amount: eur(1)}},
	} {
		if _, err := Fold(ts); !errors.Is(err, ErrAmount) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := Fold(Released(entry(1), eur(5)))
	if err != nil || !errors.Is(b.Check(), ErrLaw) {
		t.Errorf("a release without a hold: %v %v", err, b.Check())
	}
}

// Whatever payments do, in whatever order and however often their steps are booked, the sums are
// zero, and the order does not matter.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ts []Transfer
		for p := range rapid.IntRange(0, 6).Draw(t, "payments") {
			e := func(step byte) Entry {
				return Entry{Tenant: "t", Payment: protocol.PaymentID{byte(p)}, Cause: protocol.Hash{byte(p), step}}
			}
			hold := rapid.Int64Range(1, 10_000).Draw(t, "hold")
			ts = append(ts, Approved(e(1), eur(hold))...)
			switch rapid.IntRange(0, 2).Draw(t, "way") {
			case 0:
				ts = append(ts, Released(e(2), eur(hold))...)
			case 1:
				c := rapid.Int64Range(1, hold).Draw(t, "captured")
				ts = append(ts, captured(t, e(2), eur(hold), eur(c))...)
				ts = append(ts, CaptureAnswered(e(3), eur(c))...)
			}
		}
		b, err := Fold(ts)
		if err != nil || b.Check() != nil {
			t.Fatal(err, b.Check())
		}
		again, err := Fold(rapid.Permutation(append(ts, ts...)).Draw(t, "order"))
		if err != nil {
			t.Fatal(err)
		}
		for k, n := range b.posted {
			if again.posted[k] != n {
				t.Fatalf("%v: %d, in another order %d", k, n, again.posted[k])
			}
		}
	})
}
