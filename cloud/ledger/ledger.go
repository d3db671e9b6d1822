// Package ledger is money that moved: transfers between accounts, and the laws of their sums.
//
//	about := ledger.About{Tenant: "acme", Payment: id, Device: "snack-1", Day: "20261124"}
//	ts := about.Approved(ledger.Dual, "…/authorization/1", amount) // what an approval posts
//	var book ledger.Book
//	err := book.Apply(ts...)                                       // a repeat changes nothing
//	sum := book.Balance(ledger.Key{Tenant: "acme", Currency: money.EUR, Account: ledger.VendPending})
//
// It is pure. It promises:
//   - a transfer is never changed or taken back, only followed by another;
//   - its id is a hash of what caused it, so making it again is harmless;
//   - per tenant and currency the posted balances sum to zero after every transfer, and so do the
//     pending ones, which stand in totals of their own.
package ledger

import (
	"errors"
	"fmt"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Account is one of a tenant's accounts; each exists once per currency.
type Account uint8

// Accounts.
const (
	AcqReceivable     Account = iota + 1 // the acquirer owes us
	AcqUnconfirmed                       // captured, the acquirer has not answered yet
	VendPending                          // authorized by the buyer, not yet delivered
	MerchantPayable                      // owed to the merchant
	ReversalOwed                         // to be given back at the acquirer by a reversal
	RefundOwed                           // to be given back by a refund
	OfflineReceivable                    // accepted offline, not yet at the acquirer
	OfflineLoss                          // offline, then declined
	ExpiredLoss                          // delivered, and too late to be charged
	CashInMachine                        // coins and notes in the box
	CashCredit                           // paid in, not yet bought for
	ChangeOwed                           // change that was short
	Bank                                 // settled
	Fees                                 // kept by the acquirer at settlement
	Suspense                             // not explained yet
	TerminalClearing                     // the provider of a terminal that authorizes by itself owes us
	CashInTransit                        // in bags that were collected and not yet counted, by the machines' figures
	CashCounted                          // in bags that were counted
	CashDifference                       // bags held less than they should, or more (a credit)
	CashByHand                           // taken out of changers at their buttons
	StoredValue                          // on closed-loop cards: owed to who carries them
)

var accountNames = [...]string{
	"?", "acq_receivable", "acq_unconfirmed", "vend_pending", "merchant_payable", "reversal_owed", "refund_owed",
	"offline_receivable", "offline_loss", "expired_loss", "cash_in_machine", "cash_credit", "change_owed", "bank",
	"fees", "suspense", "terminal_clearing", "cash_in_transit", "cash_counted", "cash_difference", "cash_by_hand",
	"stored_value",
}

func (a Account) String() string { return name(accountNames[:], a) }

// Kind says in which totals a transfer counts.
type Kind uint8

// Kinds of transfer.
const (
	Post    Kind = iota + 1 // moves money
	Pending                 // a memo of money that may move; counts only in the pending totals
	Void                    // ends a Pending; Of names it
)

func (k Kind) String() string { return name([]string{"?", "post", "pending", "void"}, k) }

// Transfer moves Amount from the account it credits to the account it debits.
type Transfer struct {
	ID            protocol.Hash
	Kind          Kind
	Of            protocol.Hash // of a Void: the pending transfer it ends
	Tenant        string
	Debit, Credit Account
	Amount        money.Amount // always more than 0
	Payment       protocol.PaymentID
	Device        protocol.DeviceID
	Day           string // business day, YYYYMMDD
}

// ID is a transfer's id: a hash of what caused it (an operation's key, a record's hash) and the
// step of what it caused.
func ID(source, step string) protocol.Hash { return protocol.HashOf([]string{source, step}) }

// Errors of Apply. None can be mended by trying again.
var (
	ErrTransfer = errors.New("not a transfer")              // amount, accounts, kind or tenant impossible
	ErrConflict = errors.New("another transfer has its id") // same id, other content
	ErrPending  = errors.New("no such pending transfer")    // Void of nothing, or of something voided
)

// Key names one balance.
type Key struct {
	Tenant   string
	Currency money.Currency
	Account  Account
}

// Balance is one account's totals in minor units. The balance is Debit less Credit; so is the
// pending one.
type Balance struct {
	Debit, Credit               int64
	PendingDebit, PendingCredit int64
}

// Net is Debit less Credit.
func (b Balance) Net() int64 { return b.Debit - b.Credit }

// PendingNet is PendingDebit less PendingCredit.
func (b Balance) PendingNet() int64 { return b.PendingDebit - b.PendingCredit }

// Book is a fold over transfers. The zero value is empty.
type Book struct {
	balances map[Key]Balance
	seen     map[protocol.Hash]Transfer
	voided   map[protocol.Hash]bool
}

// Apply adds transfers in order; one that is there already changes nothing. It stops at the first
// error, which wraps ErrTransfer, ErrConflict, ErrPending or money.ErrOverflow.
func (b *Book) Apply(ts ...Transfer) error {
	for _, t := range ts {
		if err := b.apply(t); err != nil {
			return fmt.Errorf("transfer %s: %w", t.ID, err)
		}
	}
	return nil
}

func (b *Book) apply(t Transfer) error {
	if err := t.Check(); err != nil {
		return err
	}
	if old, ok := b.seen[t.ID]; ok {
		if old != t {
			return ErrConflict
		}
		return nil
	}
	if t.Kind == Void {
		p, ok := b.seen[t.Of]
		same := p.Kind == Pending && p.Tenant == t.Tenant && p.Debit == t.Debit && p.Credit == t.Credit && p.Amount == t.Amount
		if !ok || !same || b.voided[t.Of] {
			return ErrPending
		}
	}
	if b.balances == nil {
		b.balances, b.seen, b.voided = map[Key]Balance{}, map[protocol.Hash]Transfer{}, map[protocol.Hash]bool{}
	}
	dr, cr := t.keys()
	d, c := b.balances[dr], b.balances[cr]
	ok := true
	switch t.Kind {
	case Post:
		ok = add(&d.Debit, t.Amount.Minor) && add(&c.Credit, t.Amount.Minor)
	case Pending:
		ok = add(&d.PendingDebit, t.Amount.Minor) && add(&c.PendingCredit, t.Amount.Minor)
	case Void:
		d.PendingDebit -= t.Amount.Minor
		c.PendingCredit -= t.Amount.Minor
		b.voided[t.Of] = true
	}
	if !ok {
		return money.ErrOverflow
	}
	b.balances[dr], b.balances[cr], b.seen[t.ID] = d, c, t
	return nil
}

func add(to *int64, n int64) bool {
	if *to > (1<<63-1)-n {
		return false
	}
	*to += n
	return true
}

func (t Transfer) keys() (debit, credit Key) {
	return Key{t.Tenant, t.Amount.Currency, t.Debit}, Key{t.Tenant, t.Amount.Currency, t.Credit}
}

// Check returns ErrTransfer for a transfer that cannot be.
func (t Transfer) Check() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrTransfer, what) }
	switch {
	case t.ID.IsZero():
		return bad("no id")
	case t.Kind < Post || t.Kind > Void:
		return bad("kind")
	case (t.Kind == Void) == t.Of.IsZero():
		return bad("only a void names another")
	case t.Tenant == "":
		return bad("no tenant")
	case t.Debit < AcqReceivable || int(t.Debit) >= len(accountNames) || t.Credit < AcqReceivable || int(t.Credit) >= len(accountNames) || t.Debit == t.Credit:
		return bad("accounts")
	case t.Amount.Minor <= 0 || !t.Amount.Currency.Known():
		return bad("amount")
	}
	return nil
}

// Balance is one account's totals.
func (b *Book) Balance(k Key) Balance { return b.balances[k] }

// Balances is a copy of all of them.
func (b *Book) Balances() map[Key]Balance {
	out := make(map[Key]Balance, len(b.balances))
	for k, v := range b.balances {
		out[k] = v
	}
	return out
}

// ErrSum means balances do not sum to zero: a broken invariant.
var ErrSum = errors.New("ledger does not sum to zero")

// CheckSums returns ErrSum unless posted and pending balances sum to zero per tenant and currency
// and no pending total is negative.
func CheckSums(balances map[Key]Balance) error {
	type book struct {
		tenant   string
		currency money.Currency
	}
	sums := map[book][2]int64{}
	for k, v := range balances {
		if v.PendingDebit < 0 || v.PendingCredit < 0 {
			return fmt.Errorf("%w: pending of %s %s %s below zero", ErrSum, k.Tenant, k.Currency, k.Account)
		}
		s := sums[book{k.Tenant, k.Currency}]
		s[0] += v.Net()
		s[1] += v.PendingNet()
		sums[book{k.Tenant, k.Currency}] = s
	}
	for b, s := range sums {
		if s != [2]int64{} {
			return fmt.Errorf("%w: %s %s: posted %d, pending %d", ErrSum, b.tenant, b.currency, s[0], s[1])
		}
	}
	return nil
}

// name is the text of an enum value, "?" for one that has none.
func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "?"
}
