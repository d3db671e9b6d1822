package store

import (
	"context"
	"fmt"
	"strings"

	"coinop/cloud/payment"
	"coinop/protocol"
)

const selectPayment = "select version, body from payment"

func scanPayment(r row, p *payment.Payment) error {
	var version int64
	var body []byte
	if err := r.Scan(&version, &body); err != nil {
		return err
	}
	if err := protocol.Decode(body, p); err != nil {
		return err
	}
	p.Version = uint64(version)
	return nil
}

func readPayment(ctx context.Context, q querier, id protocol.PaymentID) (payment.Payment, bool, error) {
	return one(ctx, q, scanPayment, "payment "+id.String(), selectPayment+" where id = $1", id[:])
}

// Payment is a row; the zero value when there is none.
func (tx *Tx) Payment(id protocol.PaymentID) (payment.Payment, error) {
	p, _, err := readPayment(context.Background(), tx, id)
	return p, err
}

// Taker is the payment of a sale that is being or was captured; zero when there is none.
func (tx *Tx) Taker(sale protocol.SaleID) (protocol.PaymentID, error) {
	id, _, err := one(context.Background(), tx, scanPaymentID, "taker of "+sale.String(),
		"select id from payment where sale = $1 and takes = 1 order by class limit 1", sale[:])
	return id, err
}

// OpenOf are the payments of a sale that are approved and await their outcome.
func (tx *Tx) OpenOf(sale protocol.SaleID) ([]protocol.PaymentID, error) {
	return list(context.Background(), tx, scanPaymentID, "open payments of "+sale.String(),
		"select id from payment where sale = $1 and state = $2 order by id", sale[:], int64(payment.Approved))
}

func scanPaymentID(r row, id *protocol.PaymentID) error { return r.Scan(fixed(id[:])) }

// PutPayment stores a row over the version it was read with: 0 is a row that is not there. Another
// version fails the unit with ErrConflict, a second captured payment of a live sale with ErrTaken. Sale,
// device, tenant and class are those of the first version: what is not written is not indexed anew.
func (tx *Tx) PutPayment(p payment.Payment) {
	body := p.Encode()
	var due any
	if d := p.Due(); d != 0 {
		due = int64(d)
	}
	w := write{what: "put payment", key: "payment" + string(p.ID[:]), check: replaces}
	if p.Version == 0 {
		w.args = []any{p.ID[:], p.Sale[:], string(p.Device), p.Tenant, int64(p.Class), int64(p.State), flag(p.Takes()), due, body}
		w.query = "insert into payment (id, sale, device, tenant, class, state, takes, due, version, body)" +
			" values ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9) on conflict (id) do nothing"
	} else {
		w.args = []any{p.ID[:], int64(p.State), flag(p.Takes()), due, body, int64(p.Version)}
		w.query = "update payment set state = $2, takes = $3, due = $4, body = $5, version = version + 1" +
			" where id = $1 and version = $6"
	}
	tx.put(w)
}

// PutCard keeps what the vault gave for a payment; a repeat changes nothing.
func (tx *Tx) PutCard(id protocol.PaymentID, kept []byte) {
	tx.put(write{
		what: "put card of " + id.String(), args: []any{id[:], kept},
		query: "insert into card (payment, kept) values ($1, $2) on conflict (payment) do nothing",
	})
}

// Card is what PutCard kept; nil for none.
func (s *Store) Card(ctx context.Context, id protocol.PaymentID) ([]byte, error) {
	kept, _, err := one(ctx, s.db, scanBytes, "card of "+id.String(), "select kept from card where payment = $1", id[:])
	return kept, err
}

// Payment is a row, or ErrNotFound.
func (s *Store) Payment(ctx context.Context, id protocol.PaymentID) (payment.Payment, error) {
	p, ok, err := readPayment(ctx, s.db, id)
	if err == nil && !ok {
		err = fmt.Errorf("payment %s: %w", id, ErrNotFound)
	}
	return p, err
}

// PaymentFilter chooses payments; zero fields choose all.
type PaymentFilter struct {
	Device protocol.DeviceID
	Tenant string
	Sale   protocol.SaleID
	State  payment.State // None is all
	After  protocol.PaymentID
}

// Payments are at most limit payments after f.After, by id, which is by the time they were made.
func (s *Store) Payments(ctx context.Context, f PaymentFilter, limit int) ([]payment.Payment, error) {
	var q strings.Builder
	args := []any{f.After[:]}
	q.WriteString(selectPayment + " where id > $1")
	and := func(column string, v any) {
		args = append(args, v)
		fmt.Fprintf(&q, " and %s = $%d", column, len(args))
	}
	if f.Device != "" {
		and("device", string(f.Device))
	}
	if f.Tenant != "" {
		and("tenant", f.Tenant)
	}
	if !f.Sale.IsZero() {
		and("sale", f.Sale[:])
	}
	if f.State != payment.None {
		and("state", int64(f.State))
	}
	args = append(args, int64(limit))
	fmt.Fprintf(&q, " order by id limit $%d", len(args))
	return list(ctx, s.db, scanPayment, "payments", q.String(), args...)
}

// Overdue are at most max payments whose Due is now or before, the longest due first.
func (s *Store) Overdue(ctx context.Context, now protocol.UnixMS, max int) ([]payment.Overdue, error) {
	return list(ctx, s.db, func(r row, d *payment.Overdue) error { return r.Scan(fixed(d.Payment[:]), &d.Device) },
		"overdue payments", "select id, device from payment where due is not null and due <= $1 order by due, id limit $2",
		int64(now), int64(max))
}
