package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/payment"
	"coinop/protocol"
)

// Open operations are those of states below OpAnswered; the index op_open holds them.
const selectOp = "select device, follows, state, due, lease, owed, tries, body from op"

func scanOp(r row, o *payment.OpRow) error {
	var of, state, due, lease, owed, tries int64
	var body []byte
	if err := r.Scan(&o.Device, &of, &state, &due, &lease, &owed, &tries, &body); err != nil {
		return err
	}
	o.Of, o.State, o.Tries = uint8(of), payment.OpState(state), uint8(tries)
	o.Due, o.Lease, o.Owed = protocol.UnixMS(due), protocol.UnixMS(lease), protocol.UnixMS(owed)
	return protocol.Decode(body, &o.Op)
}

func readOps(ctx context.Context, q querier, id protocol.PaymentID) ([]payment.OpRow, error) {
	return list(ctx, q, scanOp, "operations of "+id.String(), selectOp+" where payment = $1 order by seq", id[:])
}

// Ops are all operations of a payment, in the order they were inserted.
func (tx *Tx) Ops(id protocol.PaymentID) ([]payment.OpRow, error) {
	return readOps(context.Background(), tx, id)
}

// OwedReversals are the reversals of a device's payments that wait to be sent (again), oldest first.
func (tx *Tx) OwedReversals(d protocol.DeviceID) ([]payment.OpRow, error) {
	return list(context.Background(), tx, scanOp, "reversals owed by "+string(d), selectOp+
		" where device = $1 and state = $2 and kind in ($3, $4) order by seq limit 8", string(d), int64(payment.OpOwed),
		int64(acquirer.Reversal), int64(acquirer.PartialReversal))
}

// PutOp stores an operation over the one of its key, whose device, link and authorization stay.
func (tx *Tx) PutOp(o payment.OpRow) {
	k := o.Op.Key
	var ready any
	if at, ok := claimable(o); ok {
		ready = int64(at)
	}
	tx.put(write{what: "put operation", args: []any{
		k.Payment[:], int64(k.Kind), int64(k.N), string(o.Device), o.Op.Link, int64(o.Of), int64(o.State), ready,
		int64(o.Due), int64(o.Lease), int64(o.Owed), int64(o.Tries), o.Op.Encode(),
	}, query: "insert into op (payment, kind, n, device, link, follows, state, ready, due, lease, owed, tries, body)" +
		" values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)" +
		" on conflict (payment, kind, n) do update set state = excluded.state, ready = excluded.ready, due = excluded.due," +
		" lease = excluded.lease, owed = excluded.owed, tries = excluded.tries, body = excluded.body"})
}

// EndOp stores the state of an operation that has ended.
func (tx *Tx) EndOp(o payment.OpRow) {
	k := o.Op.Key
	tx.put(write{
		what: "end operation", args: []any{k.Payment[:], int64(k.Kind), int64(k.N), int64(o.State)},
		query: "update op set state = $4, ready = null where payment = $1 and kind = $2 and n = $3",
	})
}

// claimable is from when on any replica may send an operation. An authorization never is: who
// inserted it sends it, or nobody.
func claimable(o payment.OpRow) (protocol.UnixMS, bool) {
	switch {
	case o.Op.Key.Kind == acquirer.Authorization:
		return 0, false
	case o.State == payment.OpOwed:
		return o.Due, true
	case o.State == payment.OpSent:
		return o.Lease, true
	}
	return 0, false
}

// Claim takes at most max operations that are due at now: owed ones, and sent ones whose lease is
// over because the replica that had them is gone; never an authorization. Each is given to prepare,
// counted as a try, and stored as sent with a lease from now, all in one unit: no two replicas get
// the same. Longest due first. prepare may be called again for a row.
func (s *Store) Claim(ctx context.Context, now protocol.UnixMS, lease time.Duration, max int,
	prepare func(*payment.OpRow),
) ([]payment.OpRow, error) {
	due := " where state < 4 and ready is not null and ready <= $1 order by ready, seq limit $2"
	// Looked for outside first: idle replicas that ask need not take the write lock. That lock, and not
	// "for update skip locked", keeps replicas apart: a payment's unit may be about to write over the
	// same row, and has read it without a lock.
	any, err := list(ctx, s.db, scanInt, "operations that are due", "select seq from op"+due, int64(now), int64(1))
	if err != nil || len(any) == 0 {
		return nil, err
	}
	var claimed []payment.OpRow
	err = s.Do(ctx, 0, func(tx *Tx) error {
		var err error
		claimed, err = list(context.Background(), tx, scanOp, "operations that are due", selectOp+due, int64(now), int64(max))
		if err != nil {
			return err
		}
		for i := range claimed {
			o := &claimed[i]
			if prepare != nil {
				prepare(o)
			}
			o.State, o.Lease = payment.OpSent, now.Add(lease)
			if o.Tries < math.MaxUint8 {
				o.Tries++
			}
			tx.PutOp(*o)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("claim operations: %w", err)
	}
	return claimed, nil
}

// NextDue is when Claim or Overdue will next give something, 0 for never.
func (s *Store) NextDue(ctx context.Context) (protocol.UnixMS, error) {
	next, ok, err := one(ctx, s.db, scanInt, "next due",
		"select t from (select min(ready) as t from op where state < 4 and ready is not null"+
			" union all select min(due) from payment where due is not null) as d where t is not null order by t limit 1")
	if err != nil || !ok {
		return 0, err
	}
	return protocol.UnixMS(max(next, 1)), nil // an operation owed since 0 is due, not never
}

// PaymentOps are all operations of a payment, in the order they were inserted.
func (s *Store) PaymentOps(ctx context.Context, id protocol.PaymentID) ([]payment.OpRow, error) {
	return readOps(ctx, s.db, id)
}

// OpenOps counts the operations that are not final.
func (s *Store) OpenOps(ctx context.Context) (int, error) {
	n, _, err := one(ctx, s.db, scanInt, "open operations", "select count(*) from op where state < 4")
	return int(n), err
}

// stan is what a unit knows of a TID's last number.
type stan struct {
	link, tid string
	last      acquirer.STAN
}

func (tx *Tx) known(link, tid string) *stan {
	for i := range tx.stans {
		if s := &tx.stans[i]; s.link == link && s.tid == tid {
			return s
		}
	}
	return nil
}

// LastSTAN is the last one used on a link's TID; 0 when there is none.
func (tx *Tx) LastSTAN(link, tid string) (acquirer.STAN, error) {
	n, _, err := one(context.Background(), tx, scanInt, "stan of "+link+" "+tid,
		"select last from stan where link = $1 and tid = $2", link, tid)
	if err == nil && tx.known(link, tid) == nil {
		tx.stans = append(tx.stans, stan{link, tid, acquirer.STAN(n)})
	}
	return acquirer.STAN(n), err
}

// State 2 is owed, kinds 3 and 4 are reversals.
const selectOpening = "select coalesce(p.version, 0), p.body, coalesce((select stopped from head where device = $2), '')," +
	" coalesce((select last from stan where link = $3 and tid = $4), 0)," +
	" coalesce((select 1 from op where device = $2 and state = 2 and kind in (3, 4) limit 1), 0)" +
	" from (select 1 as one) as always left join payment p on p.id = $1"

// Opening is what a request needs to know.
func (tx *Tx) Opening(id protocol.PaymentID, d protocol.DeviceID, link, tid string) (payment.Opening, error) {
	o, _, err := one(context.Background(), tx, func(r row, o *payment.Opening) error {
		var version, last, owed int64
		var body []byte
		if err := r.Scan(&version, &body, &o.Stopped, &last, &owed); err != nil {
			return err
		}
		o.LastSTAN, o.Owed = acquirer.STAN(last), owed != 0
		if version == 0 {
			return nil
		}
		err := protocol.Decode(body, &o.Payment)
		o.Payment.Version = uint64(version)
		return err
	}, "opening of "+id.String(), selectOpening, id[:], string(d), link, tid)
	if err == nil && tx.known(link, tid) == nil {
		tx.stans = append(tx.stans, stan{link, tid, o.LastSTAN})
	}
	return o, err
}

// PutSTAN stores the last one used. Read in this unit before, it replaces only what was read, so that
// two devices that share a TID never use one number twice. SQLite runs units in turn and cannot come
// to that; PostgreSQL reads for a whole group first, finds it out here, and runs the unit again.
func (tx *Tx) PutSTAN(link, tid string, last acquirer.STAN) {
	w := write{
		what: "put stan", args: []any{link, tid, int64(last)},
		query: "insert into stan (link, tid, last) values ($1, $2, $3) on conflict (link, tid) do update set last = excluded.last",
	}
	if k := tx.known(link, tid); k != nil {
		w.query += " where stan.last = $4"
		w.args = append(w.args, int64(k.last))
		w.check = func(_ *write, _ querier, changed int64) error {
			if changed != 1 {
				return fmt.Errorf("%w: %w", ErrConflict, errRace)
			}
			return nil
		}
		k.last = last
	}
	tx.put(w)
}
