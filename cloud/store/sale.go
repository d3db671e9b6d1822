package store

import (
	"context"
	"fmt"

	"coinop/cloud/intake"
	"coinop/cloud/payment"
	"coinop/protocol"
)

// Tender is what a sale was paid with.
type Tender uint8

// Tenders. Cash is also what a machine that owns its cash says it sold for it, or gave away.
const (
	AnyTender Tender = iota
	Card             // whoever authorized it
	Cash
)

// SaleFilter chooses sales; zero fields choose all.
type SaleFilter struct {
	Device protocol.DeviceID
	Tenant string
	State  payment.State // of one of its payments; None is all. A machine's own cash sales count as captured
	Tender Tender
	Before protocol.SaleID
}

// Kinds of records of cash, as the index record_cash has them.
const cashKinds = "(32, 37)"

// Sales are at most limit sales before f.Before (zero: from the newest on), the newest first: ids begin
// with the time they were made at by the device's clock. A sale has a payment, or is a CashSale.
func (s *Store) Sales(ctx context.Context, f SaleFilter, limit int) ([]protocol.SaleID, error) {
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	none := protocol.SaleID{} // of money that came in when nobody bought
	both := " and sale <> " + arg(none[:])
	if f.Device != "" {
		both += " and device = " + arg(string(f.Device))
	}
	if !f.Before.IsZero() {
		both += " and sale < " + arg(f.Before[:])
	}
	most := " order by sale desc limit " + arg(int64(limit))
	paid, own := both, both
	if f.Tenant != "" {
		tenant := arg(f.Tenant)
		paid += " and tenant = " + tenant
		own += " and device in (select id from device where tenant = " + tenant + ")"
	}
	if f.State != payment.None {
		paid += " and state = " + arg(int64(f.State))
	}
	coins := "exists (select 1 from record where record.sale = payment.sale and record.kind in " + cashKinds + ")"
	switch f.Tender {
	case AnyTender:
	case Card:
		paid += " and not " + coins
	case Cash:
		paid += " and " + coins
	}
	query := "select distinct sale from payment where 1 = 1" + paid + most
	if f.Tender != Card && (f.State == payment.None || f.State == payment.Captured) {
		query = "select sale from (" + query + ") as paid union select sale from (select sale from record where sale is not null and kind in " +
			cashKinds + fmt.Sprintf(" and kind = %d and disposition <> %d", protocol.KindCashSale, payment.Quarantined) + own + most + ") as own" + most
	}
	return list(ctx, s.db, func(r row, id *protocol.SaleID) error { return r.Scan(fixed(id[:])) }, "sales", query, args...)
}

// CashSale is the record of a sale that a machine which owns its cash made, and the machine's tenant.
// Where there is none its Device is "".
func (s *Store) CashSale(ctx context.Context, id protocol.SaleID) (intake.Stored, string, error) {
	var tenant string
	x, _, err := one(ctx, s.db, func(r row, x *intake.Stored) error {
		x.Sale = id
		return r.Scan(&x.Device, fixed(x.Position.Epoch[:]), &x.Position.Seq, fixed(x.Position.Hash[:]), &x.Kind, &x.Lane, &x.Verdict.Disposition,
			&x.Verdict.Quarantine, &x.ReceivedAt, &x.Bytes, &tenant)
	}, "cash sale "+id.String(), "select device, epoch, seq, hash, kind, lane, disposition, quarantine, received, bytes,"+
		" coalesce((select tenant from device where id = record.device), '') from record where sale = $1 and kind in "+cashKinds+
		fmt.Sprintf(" and kind = %d and disposition <> %d", protocol.KindCashSale, payment.Quarantined)+" order by received limit 1", id[:])
	return x, tenant, err
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
