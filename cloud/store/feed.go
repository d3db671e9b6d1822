package store

import (
	"context"

	"coinop/cloud/payment"
)

// PutIncident adds an incident.
func (tx *Tx) PutIncident(i payment.Incident) {
	tx.put(write{
		what: "put incident", args: []any{int64(i.Name), string(i.Device), orNull(i.Payment[:]), int64(i.At), i.Detail},
		query: "insert into incident (name, device, payment, at, detail) values ($1, $2, $3, $4, $5)",
	})
}

const selectIncident = "select name, device, payment, at, detail from incident"

func scanIncident(r row, i *payment.Incident) error {
	return r.Scan(&i.Name, &i.Device, fixed(i.Payment[:]), &i.At, &i.Detail)
}

// Incidents are all of them, oldest first.
func (s *Store) Incidents(ctx context.Context) ([]payment.Incident, error) {
	return list(ctx, s.db, scanIncident, "incidents", selectIncident+" order by seq")
}

// PutCase opens a case; one that is known changes nothing.
func (tx *Tx) PutCase(c payment.Case) {
	tx.put(write{what: "put case " + c.ID.String(), args: []any{
		c.ID[:], int64(c.Cause), c.Tenant, string(c.Device), orNull(c.Sale[:]), orNull(c.Payment[:]), flag(c.Charged), int64(c.Opened),
	}, query: "insert into sale_case (id, cause, tenant, device, sale, payment, charged, opened)" +
		" values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (id) do nothing"})
}

const selectCase = "select id, cause, tenant, device, sale, payment, charged, opened from sale_case"

func scanCase(r row, c *payment.Case) error {
	var charged int64
	err := r.Scan(fixed(c.ID[:]), &c.Cause, &c.Tenant, &c.Device, fixed(c.Sale[:]), fixed(c.Payment[:]), &charged, &c.Opened)
	c.Charged = charged != 0
	return err
}

// Cases are all of them, by when they were opened.
func (s *Store) Cases(ctx context.Context) ([]payment.Case, error) {
	return list(ctx, s.db, scanCase, "cases", selectCase+" order by opened, id")
}

// PutChange adds to the change feed.
func (tx *Tx) PutChange(c payment.Change) {
	tx.put(write{what: "put change", args: []any{
		int64(c.At), c.What, string(c.Device), orNull(c.Sale[:]), orNull(c.Payment[:]), c.Detail,
	}, query: "insert into change (at, what, device, sale, payment, detail) values ($1, $2, $3, $4, $5, $6)"})
}

// Change is an entry of the change feed and its place in it. A reader that keeps the last Seq it
// saw misses nothing: an entry is shown when no lower place can come any more. Places have gaps.
type Change struct {
	Seq uint64
	payment.Change
}

// Changes are at most limit entries after a place, oldest first.
func (s *Store) Changes(ctx context.Context, after uint64, limit int) ([]Change, error) {
	where := " where seq > $1"
	if end := s.db.feedEnd(); end != "" {
		where += " and " + end
	}
	return list(ctx, s.db, func(r row, c *Change) error {
		return r.Scan(&c.Seq, &c.At, &c.What, &c.Device, fixed(c.Sale[:]), fixed(c.Payment[:]), &c.Detail)
	}, "changes", "select seq, at, what, device, sale, payment, detail from change"+where+" order by seq limit $2",
		int64(after), int64(limit))
}
