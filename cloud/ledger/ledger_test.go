package ledger

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"coinop/protocol"
	"coinop/protocol/money"
)

func eur(n int64) money.Amount { return money.New(n, money.EUR) }

var about = About{Tenant: "acme", Payment: protocol.PaymentID{1}, Device: "snack-1", Day: "20261124"}

// loop is about a closed-loop card.
var loop = About{Tenant: "acme", Payment: protocol.PaymentID{1}, Device: "snack-1", Day: "20261124", Owing: StoredValue}

// posting is a transfer as the table of postings writes it.
func posting(ts []Transfer) []string {
	out := []string{}
	for _, t := range ts {
		out = append(out, t.Kind.String()+" Dr "+t.Debit.String()+" Cr "+t.Credit.String()+" "+t.Amount.Decimal())
	}
	return out
}

func TestPostings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		row  string
		got  []Transfer
		want []string
	}{
		{"cash in", about.CashTaken("r", eur(200)), []string{"post Dr cash_in_machine Cr cash_credit 2.00"}},
		{"cash sold by a machine", about.CashSold("r", eur(150)), []string{"post Dr cash_in_machine Cr merchant_payable 1.50"}},
		{"cash unsold", about.CashUnsold("r", eur(150)), []string{"post Dr merchant_payable Cr cash_in_machine 1.50"}},
		{"cash spent", about.CashSpent("r", eur(150)), []string{"post Dr cash_credit Cr merchant_payable 1.50"}},
		{"collected", about.CashCollected("r", eur(150)), []string{"post Dr cash_in_transit Cr cash_in_machine 1.50"}},
		{"nothing was in the box", about.CashCollected("r", eur(0)), []string{}},
		{"bag counted", about.BagCounted("r", eur(150), eur(150)), []string{"post Dr cash_counted Cr cash_in_transit 1.50"}},
		{
			"bag short", about.BagCounted("r", eur(150), eur(100)),
			[]string{"post Dr cash_counted Cr cash_in_transit 1.00", "post Dr cash_difference Cr cash_in_transit 0.50"},
		},
		{"empty bag", about.BagCounted("r", eur(150), eur(0)), []string{"post Dr cash_difference Cr cash_in_transit 1.50"}},
		{
			"bag over", about.BagCounted("r", eur(150), eur(160)),
			[]string{"post Dr cash_counted Cr cash_in_transit 1.50", "post Dr cash_counted Cr cash_difference 0.10"},
		},
		{"by hand", about.TakenByHand("r", eur(50)), []string{"post Dr cash_by_hand Cr cash_in_machine 0.50"}},
		{"change", about.ChangeGiven("r", eur(50), eur(0)), []string{"post Dr cash_credit Cr cash_in_machine 0.50"}},
		{
			"change, short", about.ChangeGiven("r", eur(20), eur(30)),
			[]string{"post Dr cash_credit Cr cash_in_machine 0.20", "post Dr cash_credit Cr change_owed 0.30"},
		},
		{"at a terminal", about.TerminalCaptured("r", eur(150)), []string{"post Dr terminal_clearing Cr merchant_payable 1.50"}},
		{"at a terminal, too much", about.TerminalStands("r", eur(30)), []string{"post Dr terminal_clearing Cr vend_pending 0.30"}},
		{"at a terminal, not too much", about.TerminalStands("r", eur(0)), []string{}},
		{"approved, dual", about.Approved(Dual, "a", eur(250)), []string{"pending Dr acq_receivable Cr vend_pending 2.50"}},
		{"approved, single", about.Approved(Single, "a", eur(250)), []string{"post Dr acq_receivable Cr vend_pending 2.50"}},
		{
			"capture, dual", about.Captured(Dual, "a", "c", eur(250), eur(100)),
			[]string{"void Dr acq_receivable Cr vend_pending 2.50", "post Dr acq_unconfirmed Cr merchant_payable 1.00"},
		},
		{
			"capture, single", about.Captured(Single, "a", "c", eur(250), eur(100)),
			[]string{"post Dr vend_pending Cr merchant_payable 1.00", "post Dr vend_pending Cr reversal_owed 1.50"},
		},
		{"approved, of a closed-loop card", loop.Approved(Dual, "a", eur(250)), []string{"pending Dr stored_value Cr vend_pending 2.50"}},
		{
			"capture, of a closed-loop card", loop.Captured(Dual, "a", "c", eur(250), eur(100)),
			[]string{"void Dr stored_value Cr vend_pending 2.50", "post Dr acq_unconfirmed Cr merchant_payable 1.00"},
		},
		{"taken off a closed-loop card", loop.Confirmed("c", eur(100)), []string{"post Dr stored_value Cr acq_unconfirmed 1.00"}},
		{"void, of a closed-loop card", loop.Undone(Dual, "a", eur(250)), []string{"void Dr stored_value Cr vend_pending 2.50"}},
		{"loaded", loop.Loaded("l", eur(1000)), []string{"post Dr suspense Cr stored_value 10.00"}},
		{"paid out", loop.PaidOut("l", eur(1000)), []string{"post Dr stored_value Cr suspense 10.00"}},
		{"capture of all, single", about.Captured(Single, "a", "c", eur(250), eur(250)), []string{"post Dr vend_pending Cr merchant_payable 2.50"}},
		{"0230 ok", about.Confirmed("c", eur(100)), []string{"post Dr acq_receivable Cr acq_unconfirmed 1.00"}},
		{"0230 refused", about.CaptureRefused("c", eur(100)), []string{"post Dr suspense Cr acq_unconfirmed 1.00"}},
		{"void, dual", about.Undone(Dual, "a", eur(250)), []string{"void Dr acq_receivable Cr vend_pending 2.50"}},
		{"void, single", about.Undone(Single, "a", eur(250)), []string{"post Dr vend_pending Cr reversal_owed 2.50"}},
		{"0430, dual", about.Reversed(Dual, "r", eur(250)), []string{}},
		{"0430, single", about.Reversed(Single, "r", eur(150)), []string{"post Dr reversal_owed Cr acq_receivable 1.50"}},
		{"capture after release", about.ExpiredDelivered(ByOperator, "r", eur(100)), []string{"post Dr expired_loss Cr merchant_payable 1.00"}},
		{"capture after release, by contract", about.ExpiredDelivered(ByMerchant, "r", eur(100)), []string{}},
		{"give back", about.GiveBack("g", eur(100)), []string{"post Dr merchant_payable Cr refund_owed 1.00"}},
		{"given back", about.GivenBack("g", eur(100)), []string{"post Dr refund_owed Cr acq_receivable 1.00"}},
	} {
		if d := cmp.Diff(c.want, posting(c.got)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.row, d)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	ok := about.Approved(Dual, "a", eur(250))[0]
	void := about.Undone(Dual, "a", eur(250))[0]
	mod := func(t Transfer, f func(*Transfer)) Transfer { f(&t); return t }
	for _, c := range []struct {
		name string
		ts   []Transfer
		want error
	}{
		{"no id", []Transfer{mod(ok, func(t *Transfer) { t.ID = protocol.Hash{} })}, ErrTransfer},
		{"no tenant", []Transfer{mod(ok, func(t *Transfer) { t.Tenant = "" })}, ErrTransfer},
		{"amount 0", []Transfer{mod(ok, func(t *Transfer) { t.Amount = eur(0) })}, ErrTransfer},
		{"amount below 0", []Transfer{mod(ok, func(t *Transfer) { t.Amount = eur(-1) })}, ErrTransfer},
		{"to itself", []Transfer{mod(ok, func(t *Transfer) { t.Credit = t.Debit })}, ErrTransfer},
		{"post names another", []Transfer{mod(ok, func(t *Transfer) { t.Of = t.ID })}, ErrTransfer},
		{"same id, other content", []Transfer{ok, mod(ok, func(t *Transfer) { t.Amount = eur(251) })}, ErrConflict},
		{"void of nothing", []Transfer{void}, ErrPending},
		{"void twice under two ids", []Transfer{ok, void, mod(void, func(t *Transfer) { t.ID = ID("x", "y") })}, ErrPending},
		{"void of another amount", []Transfer{ok, mod(void, func(t *Transfer) { t.Amount = eur(1) })}, ErrPending},
		{"overflow", []Transfer{mod(ok, func(t *Transfer) { t.Amount = eur(1<<63 - 1) }), about.Approved(Dual, "b", eur(1))[0]}, money.ErrOverflow},
		{"repeat is no error", []Transfer{ok, ok, void, void}, nil},
	} {
		var b Book
		if err := b.Apply(c.ts...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err := CheckSums(b.Balances()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// life draws the transfers of one payment's whole life and what its balances then must be.
func life(t *rapid.T, n int) ([]Transfer, int64) {
	a := about
	a.Payment = protocol.PaymentID{byte(n)}
	cur := rapid.SampledFrom([]money.Currency{money.EUR, money.JPY}).Draw(t, "currency")
	a.Tenant = rapid.SampledFrom([]string{"acme", "zeta"}).Draw(t, "tenant")
	f := rapid.SampledFrom([]Flow{Dual, Single}).Draw(t, "flow")
	approved := money.New(rapid.Int64Range(1, 1000).Draw(t, "approved"), cur)
	captured := money.New(rapid.Int64Range(1, approved.Minor).Draw(t, "captured"), cur)
	auth, capture, back := a.Payment.String()+"/a", a.Payment.String()+"/c", a.Payment.String()+"/r"
	ts := a.Approved(f, auth, approved)
	switch rapid.IntRange(0, 3).Draw(t, "end") {
	case 0: // nothing yet
		return ts, 0
	case 1:
		ts = append(ts, a.Undone(f, auth, approved)...)
		return append(ts, a.Reversed(f, back, approved)...), 0
	case 2:
		ts = append(ts, a.Undone(f, auth, approved)...)
		ts = append(ts, a.Reversed(f, back, approved)...)
		return append(ts, a.ExpiredDelivered(ByOperator, capture, captured)...), captured.Minor
	default:
		ts = append(ts, a.Captured(f, auth, capture, approved, captured)...)
		if f == Dual {
			return append(ts, a.Confirmed(capture, captured)...), captured.Minor
		}
		return append(ts, a.Reversed(f, back, money.New(approved.Minor-captured.Minor, cur))...), captured.Minor
	}
}

func TestLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []Transfer
		var merchant int64
		for n := range rapid.IntRange(1, 12).Draw(t, "payments") {
			ts, m := life(t, n)
			all, merchant = append(all, ts...), merchant+m
		}
		var once, twice Book
		for _, tr := range all {
			if err := once.Apply(tr); err != nil {
				t.Fatal(err)
			}
			if err := CheckSums(once.Balances()); err != nil {
				t.Fatal(err)
			}
			if err := twice.Apply(tr, tr); err != nil { // retrying is safe at every point
				t.Fatal(err)
			}
		}
		if err := twice.Apply(all...); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(once.Balances(), twice.Balances()); d != "" {
			t.Fatalf("repeats changed balances:\n%s", d)
		}
		var paid int64
		for k, v := range once.Balances() {
			switch k.Account {
			case MerchantPayable:
				paid -= v.Net()
			case AcqUnconfirmed, ReversalOwed:
				if v.Net() != 0 {
					t.Fatalf("%v left %+v", k, v)
				}
			}
		}
		if paid != merchant {
			t.Fatalf("merchant has %d, want %d", paid, merchant)
		}
		ids := map[protocol.Hash]bool{}
		for _, tr := range all {
			if ids[tr.ID] {
				t.Fatalf("id twice: %+v", tr)
			}
			ids[tr.ID] = true
		}
	})
}

// CheckSums must be able to fail.
func TestCheckSumsSees(t *testing.T) {
	t.Parallel()
	k := Key{"acme", money.EUR, Suspense}
	for _, b := range []Balance{{Debit: 1}, {PendingCredit: 1}, {PendingDebit: -1, PendingCredit: -1}} {
		if err := CheckSums(map[Key]Balance{k: b}); !errors.Is(err, ErrSum) {
			t.Errorf("%+v: %v", b, err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	var got []string
	for a := AcqReceivable; a <= Suspense+1; a++ {
		got = append(got, a.String())
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != int(Suspense)+1 || Post.String() != "post" || Kind(9).String() != "?" {
		t.Errorf("names: %v", got)
	}
}
