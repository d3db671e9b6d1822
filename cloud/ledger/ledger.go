// Package ledger is double entry: transfers between accounts, never changed, only followed by
// others.
//
//	ts := ledger.Approved(e, amount)              // pending
//	ts = ledger.CaptureSent(e, amount, captured)  // voids the pending one, posts the capture
//	b := ledger.Fold(transfers)                   // balances of every account
//	err := b.Check()                              // the laws
//
// A transfer's id is the hash of what caused it and the step it is; doing a step again makes the
// same id, so a store that keeps ids unique books it once. Pure.
package ledger

import (
	"errors"
	"fmt"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Account is an account of one tenant in one currency.
type Account string

// Accounts. A debit raises what is owed to us, a credit what we owe.
const (
	AcqReceivable   Account = "acq_receivable"   // the acquirer owes us
	AcqUnconfirmed  Account = "acq_unconfirmed"  // captured, not yet answered
	VendPending     Account = "vend_pending"     // owed to the buyer: goods or money back
	MerchantPayable Account = "merchant_payable" // owed to the merchant
	ReversalOwed    Account = "reversal_owed"
	RefundOwed      Account = "refund_owed"
	ExpiredLoss     Account = "expired_loss"
	Suspense        Account = "suspense"
)

// Kind of a transfer.
type Kind uint8

// Kinds. Pending transfers have totals of their own; Release takes one back.
const (
	Post Kind = iota + 1
	Pending
	Release
)

func (k Kind) String() string {
	return [...]string{"?", "post", "pending", "release"}[min(int(k), 3)]
}

// Step names what a transfer does, within what caused it.
type Step string

// Entry is what caused transfers: an operation's key or a record's hash, of one tenant and payment.
type Entry struct {
	Tenant  string
	Payment protocol.PaymentID
	Cause   protocol.Hash
}

// Transfer moves Amount from Credit to Debit. Amount is positive.
type Transfer struct {
	ID      protocol.Hash
	Tenant  string
	Payment protocol.PaymentID
	Kind    Kind
	Step    Step
	Debit   Account
	Credit  Account
	Amount  money.Amount
}

// ErrAmount means a transfer of nothing, of less, or of more than it may be.
var ErrAmount = errors.New("amount of a transfer")

func (e Entry) move(k Kind, s Step, dr, cr Account, a money.Amount) Transfer {
	id := protocol.HashOf([]any{e.Cause[:], string(s)})
	return Transfer{ID: id, Tenant: e.Tenant, Payment: e.Payment, Kind: k, Step: s, Debit: dr, Credit: cr, Amount: a}
}

// Approved notes a hold: the acquirer will owe it if it is captured. Dual message.
func Approved(e Entry, a money.Amount) []Transfer {
	return []Transfer{e.move(Pending, "hold", AcqReceivable, VendPending, a)}
}

// Released takes the hold back: voided, released or reversed before a capture. Dual message.
func Released(e Entry, hold money.Amount) []Transfer {
	return []Transfer{e.move(Release, "release", AcqReceivable, VendPending, hold)}
}

// CaptureSent takes the hold back and books what is captured, not yet answered. Dual message.
// ErrAmount when captured is not within 1 and hold.
func CaptureSent(e Entry, hold, captured money.Amount) ([]Transfer, error) {
	if c, err := captured.Cmp(hold); err != nil || c > 0 || captured.Minor <= 0 {
		return nil, errors.Join(fmt.Errorf("%w: capture %s of %s", ErrAmount, captured, hold), err)
	}
	return append(Released(e, hold), e.move(Post, "capture", AcqUnconfirmed, MerchantPayable, captured)), nil
}

// CaptureAnswered books that the host has taken the capture.
func CaptureAnswered(e Entry, captured money.Amount) []Transfer {
	return []Transfer{e.move(Post, "confirm", AcqReceivable, AcqUnconfirmed, captured)}
}

// CaptureRefused moves a capture the host refused to where it waits for a decision.
func CaptureRefused(e Entry, captured money.Amount) []Transfer {
	return []Transfer{e.move(Post, "refused", Suspense, AcqUnconfirmed, captured)}
}

// ExpiredDelivered books goods that were delivered and can no longer be charged.
func ExpiredDelivered(e Entry, a money.Amount) []Transfer {
	return []Transfer{e.move(Post, "expired", ExpiredLoss, MerchantPayable, a)}
}

// RefundOrdered books money promised back to the buyer; RefundAnswered that the host has taken it.
func RefundOrdered(e Entry, a money.Amount) []Transfer {
	return []Transfer{e.move(Post, "refund", MerchantPayable, RefundOwed, a)}
}

// RefundAnswered ends what RefundOrdered began.
func RefundAnswered(e Entry, a money.Amount) []Transfer {
	return []Transfer{e.move(Post, "refunded", RefundOwed, AcqReceivable, a)}
}

// key is one account of one tenant in one currency.
type key struct {
	tenant   string
	account  Account
	currency money.Currency
}

// Balances are sums: debits less credits.
type Balances struct {
	posted, pending map[key]int64
	ids             map[protocol.Hash]Transfer
}

// Fold adds transfers up. The same transfer twice counts once; another with its id is an error that
// wraps ErrAmount, and so are an amount below 1 and an overflow.
func Fold(ts []Transfer) (Balances, error) {
	b := Balances{posted: map[key]int64{}, pending: map[key]int64{}, ids: map[protocol.Hash]Transfer{}}
	for _, t := range ts {
		if old, seen := b.ids[t.ID]; seen {
			if old != t {
				return Balances{}, fmt.Errorf("%w: two transfers with id %s", ErrAmount, t.ID)
			}
			continue
		}
		b.ids[t.ID] = t
		if t.Amount.Minor <= 0 || t.Debit == t.Credit {
			return Balances{}, fmt.Errorf("%w: %s %s of %s", ErrAmount, t.Kind, t.Step, t.Amount)
		}
		sums, n := b.posted, t.Amount.Minor
		switch t.Kind {
		case Pending:
			sums = b.pending
		case Release:
			sums, n = b.pending, -n
		}
		for account, d := range map[Account]int64{t.Debit: n, t.Credit: -n} {
			k := key{t.Tenant, account, t.Amount.Currency}
			sum, err := money.New(sums[k], k.currency).Add(money.New(d, k.currency))
			if err != nil {
				return Balances{}, fmt.Errorf("%w: %s: %w", ErrAmount, account, err)
			}
			sums[k] = sum.Minor
		}
	}
	return b, nil
}

// Posted is the balance of an account: debits less credits.
func (b Balances) Posted(tenant string, a Account, c money.Currency) money.Amount {
	return money.New(b.posted[key{tenant, a, c}], c)
}

// Pending is the balance of what is only noted.
func (b Balances) Pending(tenant string, a Account, c money.Currency) money.Amount {
	return money.New(b.pending[key{tenant, a, c}], c)
}

// ErrLaw means a law of the books is broken: our own fault, never an answer.
var ErrLaw = errors.New("law of the ledger broken")

// Check holds the laws: posted and pending balances sum to zero per tenant and currency, and no
// hold was taken back that was not there.
func (b Balances) Check() error {
	for name, sums := range map[string]map[key]int64{"posted": b.posted, "pending": b.pending} {
		total := map[key]int64{}
		for k, n := range sums {
			total[key{k.tenant, "", k.currency}] += n
		}
		for k, n := range total {
			if n != 0 {
				return fmt.Errorf("%w: %s sums to %d %s of %q", ErrLaw, name, n, k.currency, k.tenant)
			}
		}
	}
	for k, n := range b.pending {
		if k.account == AcqReceivable && n < 0 {
			return fmt.Errorf("%w: %d %s more released than held", ErrLaw, -n, k.currency)
		}
	}
	return nil
}
