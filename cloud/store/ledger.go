package store

import (
	"context"
	"fmt"

	"coinop/cloud/ledger"
	"coinop/protocol/money"
)

const (
	transferColumns = "id, kind, ends, tenant, debit, credit, currency, minor, payment, device, day"
	insertTransfer  = "insert into transfer (" + transferColumns + ")"

	postTransfer = insertTransfer + " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict (id) do nothing"
	// A void is added only after the pending transfer it ends. (The "where" also keeps "on conflict"
	// from being read as a join.)
	voidTransfer = insertTransfer + " select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 from transfer" +
		" where id = $3 and kind = 2 and tenant = $4 and debit = $5 and credit = $6 and currency = $7 and minor = $8" +
		" on conflict (id) do nothing"
)

func scanTransfer(r row, t *ledger.Transfer) error {
	var kind, debit, credit, currency int64
	err := r.Scan(fixed(t.ID[:]), &kind, fixed(t.Of[:]), &t.Tenant, &debit, &credit, &currency, &t.Amount.Minor,
		fixed(t.Payment[:]), &t.Device, &t.Day)
	t.Kind, t.Debit, t.Credit = ledger.Kind(kind), ledger.Account(debit), ledger.Account(credit)
	t.Amount.Currency = money.Currency(currency)
	return err
}

// Post adds transfers; one that is there already changes nothing. The unit fails with
// ledger.ErrTransfer, ErrConflict or ErrPending as ledger.Book would.
func (tx *Tx) Post(ts ...ledger.Transfer) {
	for _, t := range ts {
		if err := t.Check(); err != nil {
			tx.fail(fmt.Errorf("transfer %s: %w", t.ID, err))
			return
		}
		query := postTransfer
		if t.Kind == ledger.Void {
			query = voidTransfer
		}
		tx.put(write{what: "post", query: query, check: posted, args: []any{
			t.ID[:], int64(t.Kind), orNull(t.Of[:]), t.Tenant, int64(t.Debit), int64(t.Credit), int64(t.Amount.Currency),
			t.Amount.Minor, orNull(t.Payment[:]), string(t.Device), t.Day,
		}})
	}
}

// posted tells a repeat from a conflict, and both from a void of nothing.
func posted(w *write, q querier, changed int64) error {
	if changed == 1 {
		return nil
	}
	there, ok, err := one(context.Background(), q, scanTransfer, "transfer",
		"select "+transferColumns+" from transfer where id = $1", w.args[0])
	switch {
	case err != nil:
		return err
	case !ok:
		return ledger.ErrPending
	}
	if !same(there, w.args) {
		return fmt.Errorf("transfer %s: %w", there.ID, ledger.ErrConflict)
	}
	return nil
}

// same compares a stored transfer with the arguments of a put.
func same(t ledger.Transfer, args []any) bool {
	of, _ := args[2].([]byte)
	p, _ := args[8].([]byte)
	return string(t.ID[:]) == string(args[0].([]byte)) && int64(t.Kind) == args[1] && (of == nil && t.Of.IsZero() || string(of) == string(t.Of[:])) &&
		t.Tenant == args[3] && int64(t.Debit) == args[4] && int64(t.Credit) == args[5] &&
		int64(t.Amount.Currency) == args[6] && t.Amount.Minor == args[7] &&
		(p == nil && t.Payment.IsZero() || string(p) == string(t.Payment[:])) && string(t.Device) == args[9] && t.Day == args[10]
}

// Entry is a transfer and its place in the order they were added.
type Entry struct {
	Seq uint64
	ledger.Transfer
}

// prefixed scans a leading sequence number, then the rest.
type prefixed struct {
	row
	seq *uint64
}

func (p prefixed) Scan(dst ...any) error { return p.row.Scan(append([]any{p.seq}, dst...)...) }

// Transfers are at most limit transfers after a sequence number, in the order they were added. While
// several write at once, one with a lower number may still come; the feed is for who waits for more.
func (s *Store) Transfers(ctx context.Context, after uint64, limit int) ([]Entry, error) {
	return list(ctx, s.db, func(r row, e *Entry) error { return scanTransfer(prefixed{r, &e.Seq}, &e.Transfer) }, "transfers",
		"select seq, "+transferColumns+" from transfer where seq > $1 order by seq limit $2", int64(after), int64(limit))
}

// Balances are the sums of all transfers, of one moment.
func (s *Store) Balances(ctx context.Context) (map[ledger.Key]ledger.Balance, error) {
	const query = `select tenant, currency, account, cast(sum(debit) as bigint), cast(sum(credit) as bigint),
		cast(sum(pending_debit) as bigint), cast(sum(pending_credit) as bigint) from (
		select tenant, currency, debit as account, case kind when 1 then minor else 0 end as debit, 0 as credit,
			case kind when 2 then minor when 3 then -minor else 0 end as pending_debit, 0 as pending_credit from transfer
		union all
		select tenant, currency, credit, 0, case kind when 1 then minor else 0 end,
			0, case kind when 2 then minor when 3 then -minor else 0 end from transfer
	) as sides group by tenant, currency, account`
	out := map[ledger.Key]ledger.Balance{}
	err := s.db.each(ctx, query, nil, func(r row) error {
		var k ledger.Key
		var b ledger.Balance
		if err := r.Scan(&k.Tenant, &k.Currency, &k.Account, &b.Debit, &b.Credit, &b.PendingDebit, &b.PendingCredit); err != nil {
			return err
		}
		out[k] = b
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read balances: %w", err)
	}
	return out, nil
}
