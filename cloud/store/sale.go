package store

import (
	"context"
	"fmt"
	"strings"

	"coinop/cloud/intake"
	"coinop/cloud/payment"
	"coinop/protocol"
)

// SaleFilter chooses sales; zero fields choose all.
type SaleFilter struct {
	Device protocol.DeviceID
	Tenant string
	State  payment.State // of one of its payments; None is all
	Before protocol.SaleID
}

// Sales are at most limit sales with a payment before f.Before (zero: from the newest on), the
// newest first: ids begin with the time they were made at by the device's clock.
func (s *Store) Sales(ctx context.Context, f SaleFilter, limit int) ([]protocol.SaleID, error) {
	var q strings.Builder
	var args []any
	and := func(condition string, v any) {
		args = append(args, v)
		fmt.Fprintf(&q, " and "+condition, len(args))
	}
	none := protocol.SaleID{} // of money that came in when nobody bought
	and("sale <> $%d", none[:])
	if f.Device != "" {
		and("device = $%d", string(f.Device))
	}
	if f.Tenant != "" {
		and("tenant = $%d", f.Tenant)
	}
	if f.State != payment.None {
		and("state = $%d", int64(f.State))
	}
	if !f.Before.IsZero() {
		and("sale < $%d", f.Before[:])
	}
	args = append(args, int64(limit))
	return list(ctx, s.db, func(r row, id *protocol.SaleID) error { return r.Scan(fixed(id[:])) }, "sales",
		fmt.Sprintf("select distinct sale from payment where 1 = 1%s order by sale desc limit $%d", q.String(), len(args)), args...)
}

// SaleRecords are the records of a sale, in order.
func (s *Store) SaleRecords(ctx context.Context, d protocol.DeviceID, id protocol.SaleID) ([]intake.Stored, error) {
	return list(ctx, s.db, func(r row, x *intake.Stored) error {
		x.Device, x.Sale = d, id
		return r.Scan(fixed(x.Position.Epoch[:]), &x.Position.Seq, fixed(x.Position.Hash[:]), &x.Kind, &x.Lane, &x.Verdict.Disposition,
			&x.Verdict.Quarantine, &x.ReceivedAt, &x.Bytes)
	}, "records of sale "+id.String(), "select epoch, seq, hash, kind, lane, disposition, quarantine, received, bytes from record"+
		" where sale = $1 and device = $2 order by received, seq", id[:], string(d))
}

// SaleCases are the cases of a sale.
func (s *Store) SaleCases(ctx context.Context, id protocol.SaleID) ([]payment.Case, error) {
	return list(ctx, s.db, scanCase, "cases of sale "+id.String(), selectCase+" where sale = $1 order by opened, id", id[:])
}

// PaymentIncidents are the incidents about a payment, oldest first.
func (s *Store) PaymentIncidents(ctx context.Context, id protocol.PaymentID) ([]payment.Incident, error) {
	return list(ctx, s.db, scanIncident, "incidents of payment "+id.String(), selectIncident+" where payment = $1 order by seq", id[:])
}
