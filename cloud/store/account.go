package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"coinop/cloud/account"
	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/protocol"
	"coinop/protocol/money"
)

var _ account.Tx = (*Tx)(nil)

const selectAccount = "select id, tenant, currency, card, unverified, state, label, balance, held, counter, opened, version from account"

func scanAccount(r row, a *account.Account) error {
	var currency, unverified, version int64
	err := r.Scan(fixed(a.ID[:]), &a.Tenant, &currency, &a.Card, &unverified, &a.State, &a.Label, &a.Balance, &a.Held, &a.Counter, &a.Opened, &version)
	a.Currency, a.Unverified, a.Version = money.Currency(currency), unverified != 0, uint64(version) //nolint:gosec // as they were put
	return err
}

// Account is a row; the zero value when there is none.
func (tx *Tx) Account(id account.ID) (account.Account, error) {
	a, _, err := one(context.Background(), tx, scanAccount, "account "+id.String(), selectAccount+" where id = $1", id[:])
	return a, err
}

// AccountOf is the account of a card in a currency; the zero value when there is none.
func (tx *Tx) AccountOf(tenant string, c money.Currency, card string) (account.Account, error) {
	a, _, err := one(context.Background(), tx, scanAccount, "account of a card",
		selectAccount+" where tenant = $1 and currency = $2 and card = $3", tenant, int64(c), card)
	return a, err
}

// faster is the check of a put that another unit may have made impossible: accounts are not a device's, and units
// of two of them meet there.
func faster(_ *write, _ querier, changed int64) error {
	if changed != 1 {
		return fmt.Errorf("%w: %w", ErrConflict, errRace)
	}
	return nil
}

// PutAccount stores a row over the version it was read with: 0 is a row that is not there.
func (tx *Tx) PutAccount(a account.Account) {
	w := write{what: "put account " + a.ID.String(), key: "account" + string(a.ID[:]), check: faster}
	if a.Version == 0 {
		w.query = "insert into account (id, tenant, currency, card, unverified, state, label, balance, held, counter, opened, version)" +
			" values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1) on conflict (tenant, currency, card) do nothing"
		w.args = []any{
			a.ID[:], a.Tenant, int64(a.Currency), a.Card, flag(a.Unverified), int64(a.State), a.Label, a.Balance, a.Held, int64(a.Counter), int64(a.Opened),
		}
	} else {
		w.query = "update account set state = $2, label = $3, balance = $4, held = $5, counter = $6, version = version + 1 where id = $1 and version = $7"
		w.args = []any{a.ID[:], int64(a.State), a.Label, a.Balance, a.Held, int64(a.Counter), int64(a.Version)} //nolint:gosec // counts from 1
	}
	tx.put(w)
}

const selectEntry = "select seq, key, account, kind, balance, held, payment, device, at, note from account_entry"

func scanEntry(r row, e *account.Entry) error {
	return r.Scan(&e.Seq, &e.Key, fixed(e.Account[:]), &e.Kind, &e.Balance, &e.Held, fixed(e.Payment[:]), &e.Device, &e.At, &e.Note)
}

// Entry is the one that was caused so; false when there is none.
func (tx *Tx) Entry(key string) (account.Entry, bool, error) {
	return one(context.Background(), tx, scanEntry, "entry "+key, selectEntry+" where key = $1", key)
}

// PaymentEntries are those of one payment, oldest first.
func (tx *Tx) PaymentEntries(id protocol.PaymentID) ([]account.Entry, error) {
	return list(context.Background(), tx, scanEntry, "entries of payment "+id.String(), selectEntry+" where payment = $1 order by seq", id[:])
}

// PutEntry adds an entry. Its key must not be there.
func (tx *Tx) PutEntry(e account.Entry) {
	tx.put(write{
		what: "put entry " + e.Key, check: faster, args: []any{
			e.Key, e.Account[:], int64(e.Kind), e.Balance, e.Held, orNull(e.Payment[:]), string(e.Device), int64(e.At), e.Note,
		},
		query: "insert into account_entry (key, account, kind, balance, held, payment, device, at, note)" +
			" values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (key) do nothing",
	})
}

// AccountOp is the answer that was given to an operation; false when there is none.
func (tx *Tx) AccountOp(k acquirer.OpKey) (account.Op, bool, error) {
	return one(context.Background(), tx, func(r row, o *account.Op) error {
		o.Key = k
		var body []byte
		if err := r.Scan(fixed(o.Account[:]), &body); err != nil {
			return err
		}
		return protocol.Decode(body, &o.Answer)
	}, "answer to "+k.String(), "select account, answer from account_op where payment = $1 and kind = $2 and n = $3",
		k.Payment[:], int64(k.Kind), int64(k.N))
}

// PutAccountOp keeps the answer to an operation, which must have none yet.
func (tx *Tx) PutAccountOp(o account.Op) {
	body, err := protocol.Encode(o.Answer)
	if err != nil {
		tx.fail(fmt.Errorf("encode the answer to %s: %w", o.Key, err))
		return
	}
	tx.put(write{
		what: "put answer to " + o.Key.String(), check: faster,
		args:  []any{o.Key.Payment[:], int64(o.Key.Kind), int64(o.Key.N), orNull(o.Account[:]), body},
		query: "insert into account_op (payment, kind, n, account, answer) values ($1, $2, $3, $4, $5) on conflict (payment, kind, n) do nothing",
	})
}

// DoAccount is Do for accounts: units of one key never run side by side.
func (s *Store) DoAccount(ctx context.Context, key string, fn func(account.Tx) error) error {
	return s.Do(ctx, Shard(protocol.DeviceID(key)), func(tx *Tx) error { return fn(tx) })
}

// FindAccount is a row; false when there is none.
func (s *Store) FindAccount(ctx context.Context, id account.ID) (account.Account, bool, error) {
	return one(ctx, s.db, scanAccount, "account "+id.String(), selectAccount+" where id = $1", id[:])
}

// Account is a row, or ErrNotFound.
func (s *Store) Account(ctx context.Context, id account.ID) (account.Account, error) {
	a, ok, err := s.FindAccount(ctx, id)
	if err == nil && !ok {
		err = fmt.Errorf("account %s: %w", id, ErrNotFound)
	}
	return a, err
}

// Accounts are at most limit accounts after f.After, by id, which is by the time they were opened.
func (s *Store) Accounts(ctx context.Context, f account.Filter, limit int) ([]account.Account, error) {
	var q strings.Builder
	args := []any{f.After[:]}
	q.WriteString(selectAccount + " where id > $1")
	and := func(column string, v any) {
		args = append(args, v)
		fmt.Fprintf(&q, " and %s = $%d", column, len(args))
	}
	if f.Tenant != "" {
		and("tenant", f.Tenant)
	}
	if f.Card != "" {
		and("card", f.Card)
	}
	if f.State != 0 {
		and("state", int64(f.State))
	}
	args = append(args, int64(limit))
	fmt.Fprintf(&q, " order by id limit $%d", len(args))
	return list(ctx, s.db, scanAccount, "accounts", q.String(), args...)
}

// AccountEntries are at most limit entries of an account before a place (0: from the newest on), the newest first.
func (s *Store) AccountEntries(ctx context.Context, id account.ID, before uint64, limit int) ([]account.Entry, error) {
	query, args := selectEntry+" where account = $1", []any{id[:]}
	if before > 0 {
		query, args = query+" and seq < $2", append(args, int64(before)) //nolint:gosec // a place of ours
	}
	args = append(args, int64(limit))
	return list(ctx, s.db, scanEntry, "entries of account "+id.String(), fmt.Sprintf("%s order by seq desc limit $%d", query, len(args)), args...)
}

// ErrAccounts means accounts that are not the sum of their entries, or not what the ledger owes to cards.
var ErrAccounts = errors.New("accounts and ledger do not agree")

// CheckAccounts returns ErrAccounts unless, at one moment, every account is the sum of its entries, and all of a
// tenant's accounts in a currency are what stands in the ledger's stored_value.
func (s *Store) CheckAccounts(ctx context.Context) error {
	query := fmt.Sprintf(`select what, cast(sum(balance) as bigint), cast(sum(held) as bigint) from (
		select 'stored_value of ' || tenant || ', currency ' || currency as what, balance, 0 as held from account
		union all select 'stored_value of ' || tenant || ', currency ' || currency, case debit when %[1]d then minor else -minor end, 0
			from transfer where kind = 1 and (debit = %[1]d or credit = %[1]d)
		union all select 'account of ' || tenant || ', currency ' || currency || ', card ' || card, balance, held from account
		union all select 'account of ' || tenant || ', currency ' || currency || ', card ' || card, -e.balance, -e.held from account_entry e join account a on a.id = e.account
	) as sides group by what having sum(balance) <> 0 or sum(held) <> 0`, ledger.StoredValue)
	wrong, err := list(ctx, s.db, func(r row, out *string) error {
		var balance, held int64
		err := r.Scan(out, &balance, &held)
		*out = fmt.Sprintf("%s: %d and %d held too much", *out, balance, held)
		return err
	}, "sums of accounts", query)
	switch {
	case err != nil:
		return err
	case len(wrong) > 0:
		return fmt.Errorf("%w: %s", ErrAccounts, strings.Join(wrong, "; "))
	}
	return nil
}
