// Package account is the value of closed-loop cards: a card of the operator's own holds a reference, and what it
// is worth stands here.
//
//	desk := account.Desk{Do: ..., Now: ..., NewID: ...}
//	a, err := desk.Open(ctx, account.Account{Tenant: "acme", Currency: money.EUR, Card: "0000002a17"})
//	_, _, err = desk.Load(ctx, a.ID, money.New(1000, money.EUR), "till 7, receipt 4711", "")
//	link := account.NewLink(account.LinkConfig{Do: ..., Cards: vault, Now: ...}) // an acquirer.Acquirer
//
// It promises:
//   - a balance is the sum of the account's entries, and what is held the sum of theirs; entries are only ever
//     added, each under the name of what caused it, so that a repeat adds nothing;
//   - nothing is held or paid that is not there: 0 <= held <= balance;
//   - the entry that changes a balance and the ledger's transfer to or from stored_value are one commit, so that
//     what the accounts sum up to and what the ledger says is owed to cards are the same at every moment;
//   - an operation is answered once: asked again it gets the same answer, and one that was reversed before it came
//     is refused for good.
package account

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/protocol"
	"coinop/protocol/money"
)

type tag struct{}

// ID names an account.
type ID = protocol.ID[tag]

// State of an account.
type State uint8

// States.
const (
	Open    State = iota + 1
	Blocked       // nothing is held any more; what is held already is captured or released
	Closed        // for good
)

func (s State) String() string { return name([]string{"?", "open", "blocked", "closed"}, s) }

func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "?"
}

// Account is what a card is worth. A card has one in each currency of a tenant.
type Account struct {
	ID         ID
	Tenant     string
	Currency   money.Currency
	Card       string // protocol.SealedLoop.Ref
	Unverified bool   // Card is something anyone can copy, and it is taken all the same
	State      State
	Label      string
	Balance    int64 // minor units
	Held       int64 // of it, for payments that have not ended
	Counter    uint16
	Opened     protocol.UnixMS

	Version uint64 // of the row in the store: 0 = not there
}

// Available is what can be held.
func (a Account) Available() int64 { return a.Balance - a.Held }

// Amount is so much of the account's currency.
func (a Account) Amount(minor int64) money.Amount { return money.New(minor, a.Currency) }

// Kind of entry.
type Kind uint8

// Kinds.
const (
	Load       Kind = iota + 1 // money was taken at a desk
	Hold                       // for a payment that was authorized
	Release                    // of a hold, or of a part of it
	Capture                    // a payment took its hold's money; the rest of the hold is released by it
	Correction                 // paid out, or taken off by hand
)

func (k Kind) String() string {
	return name([]string{"?", "load", "hold", "release", "capture", "correction"}, k)
}

// Entry is one change of an account.
type Entry struct {
	Seq     uint64 // the order they were added in; the store's
	Key     string // what caused it
	Account ID
	Kind    Kind
	Balance int64 // change of the balance, minor units
	Held    int64 // change of what is held
	Payment protocol.PaymentID
	Device  protocol.DeviceID
	At      protocol.UnixMS
	Note    string
}

// Op is an operation that was answered.
type Op struct {
	Key     acquirer.OpKey
	Account ID // zero: of none
	Answer  acquirer.Answer
}

// ErrBooks means an entry that would break the laws of an account: a broken invariant.
var ErrBooks = errors.New("an entry against an account's laws")

// add is the account after an entry.
func (a Account) add(e Entry) (Account, error) {
	over := e.Balance > 0 && a.Balance > math.MaxInt64-e.Balance
	a.Balance += e.Balance
	a.Held += e.Held
	if over || a.Held < 0 || a.Balance < a.Held {
		return a, fmt.Errorf("%w: %s of %d, held %d: %d of %d would be held", ErrBooks, e.Kind, e.Balance, e.Held, a.Held, a.Balance)
	}
	return a, nil
}

// Filter chooses accounts; zero fields choose all.
type Filter struct {
	Tenant string
	Card   string
	State  State
	After  ID
}

// ParseState reads what String prints.
func ParseState(text string) (State, error) {
	for s := Open; s <= Closed; s++ {
		if s.String() == text {
			return s, nil
		}
	}
	return 0, fmt.Errorf("state %q: want open, blocked or closed", text)
}

// ErrCard is a reference that no card of ours has.
var ErrCard = errors.New("want ten hex digits, as on a card that is proven, or uid: and the hex digits of a chip's number, or loop: and those of a stripe's")

// ParseCard is a reference as people write it, in the form accounts hold it.
func ParseCard(text string) (string, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	kind, digits := "", text
	for _, k := range []string{protocol.LoopUID, protocol.LoopStripe} {
		if rest, ok := strings.CutPrefix(text, k); ok {
			kind, digits = k, rest
		}
	}
	n := len(digits)
	sized := kind == "" && n == 10 || kind == protocol.LoopUID && n >= 8 && n <= 20 && n%2 == 0 || kind == protocol.LoopStripe && n == 32
	if !sized || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", fmt.Errorf("card %q: %w", text, ErrCard)
	}
	return text, nil
}

// Copied reports a reference that stands for something anyone can copy.
func Copied(card string) bool {
	return strings.HasPrefix(card, protocol.LoopUID) || strings.HasPrefix(card, protocol.LoopStripe)
}

// Tx is one unit of work of the store, as accounts need it. Every read comes before the first Put. Units may run
// side by side: a row that is put over another version than was read, or a key that is there, runs the unit again.
type Tx interface {
	// Account and AccountOf are a row; the zero value when there is none.
	Account(ID) (Account, error)
	AccountOf(tenant string, c money.Currency, card string) (Account, error)
	// AccountOp is the answer that was given; false when there is none.
	AccountOp(acquirer.OpKey) (Op, bool, error)
	// PaymentEntries are those of one payment.
	PaymentEntries(protocol.PaymentID) ([]Entry, error)
	// Entry is the one that was caused so; false when there is none.
	Entry(key string) (Entry, bool, error)
	Payment(protocol.PaymentID) (payment.Payment, error)

	PutAccount(Account)
	PutEntry(Entry)
	PutAccountOp(Op)
	Post(...ledger.Transfer)
	PutIncident(payment.Incident)
	PutChange(payment.Change)
}

// about is what the transfers of an account have in common.
func (a Account) about(now protocol.UnixMS) ledger.About {
	return ledger.About{Tenant: a.Tenant, Day: now.Time().Format("20060102"), Owing: ledger.StoredValue}
}
