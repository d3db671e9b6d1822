package account

import (
	"context"
	"errors"
	"fmt"

	"coinop/cloud/payment"
	"coinop/protocol"
	"coinop/protocol/money"
)

// What a desk is refused; trying again helps with none of them.
var (
	ErrNone      = errors.New("no such account")
	ErrExists    = errors.New("the card has an account already")
	ErrCopied    = errors.New("anyone could copy this card")
	ErrReference = errors.New("the reference was used before, for something else")
	ErrState     = errors.New("not in this state")
	ErrAmount    = errors.New("not an amount for this account")
	ErrFunds     = errors.New("there is not so much on it")
)

// Desk is where accounts are opened and loaded: the operator's side. All of it is needed.
type Desk struct {
	Do    func(ctx context.Context, key string, fn func(Tx) error) error
	Now   func() protocol.UnixMS
	NewID func(protocol.UnixMS) ID
}

// Open opens an account for a card: Tenant, Currency, Card, Unverified and Label are the caller's.
// ErrExists, ErrCopied, ErrAmount.
func (d Desk) Open(ctx context.Context, a Account) (Account, error) {
	switch {
	case a.Tenant == "" || a.Card == "" || !a.Currency.Known():
		return a, fmt.Errorf("%w: want a tenant, a card and a currency", ErrAmount)
	case Copied(a.Card) && !a.Unverified:
		return a, ErrCopied
	}
	now := d.Now()
	a.ID, a.State, a.Opened = d.NewID(now), Open, now
	a.Balance, a.Held, a.Counter, a.Version = 0, 0, 0, 0
	err := d.Do(ctx, a.Card, func(tx Tx) error {
		was, err := tx.AccountOf(a.Tenant, a.Currency, a.Card)
		if err != nil {
			return err
		}
		if was.Version > 0 {
			return fmt.Errorf("%w: %s, %s", ErrExists, was.ID, was.State)
		}
		tx.PutAccount(a)
		tx.PutChange(payment.Change{At: now, What: "account.open", Detail: a.ID.String()})
		return nil
	})
	a.Version = 1
	return a, err
}

// Load puts money onto an account that was taken under a reference: of a receipt, or of whatever says that it was.
// The same again changes nothing, and again is true. ErrNone, ErrState, ErrAmount, ErrReference.
func (d Desk) Load(ctx context.Context, id ID, amount money.Amount, reference, note string) (a Account, again bool, err error) {
	return d.move(ctx, id, amount, reference, note, Load)
}

// PayOut takes money off it, which was given back under a reference. Errors are those of Load, and ErrFunds.
func (d Desk) PayOut(ctx context.Context, id ID, amount money.Amount, reference, note string) (a Account, again bool, err error) {
	return d.move(ctx, id, amount, reference, note, Correction)
}

func (d Desk) move(ctx context.Context, id ID, amount money.Amount, reference, note string, kind Kind) (a Account, again bool, err error) {
	if reference == "" {
		return a, false, fmt.Errorf("%w: none was given", ErrReference)
	}
	e := Entry{Key: fmt.Sprintf("desk/%s/%s", id, reference), Account: id, Kind: kind, Balance: amount.Minor, At: d.Now(), Note: note}
	if kind == Correction {
		e.Balance = -amount.Minor
	}
	err = d.Do(ctx, id.String(), func(tx Tx) error {
		if a, err = tx.Account(id); err != nil {
			return err
		}
		was, there, err := tx.Entry(e.Key)
		switch again = there; {
		case err != nil:
			return err
		case a.Version == 0:
			return ErrNone
		case amount.Currency != a.Currency || amount.Minor <= 0:
			return fmt.Errorf("%w: %s", ErrAmount, amount)
		case there && (was.Kind != kind || was.Balance != e.Balance):
			return fmt.Errorf("%w: %s of %s", ErrReference, was.Kind, a.Amount(was.Balance))
		case there:
			return nil
		case a.State == Closed, kind == Load && a.State != Open:
			return fmt.Errorf("%w: it is %s", ErrState, a.State)
		case kind == Correction && amount.Minor > a.Available():
			return fmt.Errorf("%w: %s, of which %s is held", ErrFunds, a.Amount(a.Balance), a.Amount(a.Held))
		}
		if a, err = a.add(e); err != nil {
			return err
		}
		tx.PutAccount(a)
		tx.PutEntry(e)
		about := a.about(e.At)
		if kind == Load {
			tx.Post(about.Loaded(e.Key, amount)...)
		} else {
			tx.Post(about.PaidOut(e.Key, amount)...)
		}
		tx.PutChange(payment.Change{At: e.At, What: "account." + kind.String(), Detail: fmt.Sprintf("%s %s", id, amount)})
		return nil
	})
	return a, again, err
}

// Set opens, blocks or closes an account; one that is in that state already stays as it is. Closed is for good, and
// only where nothing is left: ErrNone, ErrState, ErrFunds.
func (d Desk) Set(ctx context.Context, id ID, to State) (a Account, err error) {
	now := d.Now()
	err = d.Do(ctx, id.String(), func(tx Tx) error {
		if a, err = tx.Account(id); err != nil {
			return err
		}
		switch {
		case a.Version == 0:
			return ErrNone
		case a.State == to:
			return nil
		case a.State == Closed || to < Open || to > Closed:
			return fmt.Errorf("%w: it is %s", ErrState, a.State)
		case to == Closed && a.Balance != 0:
			return fmt.Errorf("%w: it still holds %s", ErrState, a.Amount(a.Balance))
		}
		a.State = to
		tx.PutAccount(a)
		tx.PutChange(payment.Change{At: now, What: "account." + to.String(), Detail: id.String()})
		return nil
	})
	return a, err
}
