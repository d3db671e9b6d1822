package store

import (
	"context"
	"fmt"

	"coinop/cloud/intake"
	"coinop/cloud/payment"
)

// Tx is one unit of work: reads, then puts. A put only queues; what is wrong with it fails the unit
// after the fn. It lives as long as its fn, in one goroutine.
type Tx struct {
	from  querier // nil after the fn
	queue []write
	err   error // the first thing that was refused
	stans []stan
}

var (
	_ payment.Tx = (*Tx)(nil)
	_ intake.Tx  = (*Tx)(nil)
)

// write is a queued put.
type write struct {
	what  string // for errors: "put payment 01…"
	query string
	args  []any
	key   string // puts of one versioned row: the last one counts
	// check judges how many rows were changed; nil takes any number.
	check func(w *write, q querier, changed int64) error
}

// each makes a Tx the querier of its own reads.
func (tx *Tx) each(ctx context.Context, query string, args []any, do func(row) error) error {
	switch {
	case tx.from == nil:
		return errOver
	case tx.from == querier(blind{}):
		tx.fail(ErrRead)
		return ErrRead
	case len(tx.queue) > 0:
		tx.fail(ErrReadAfterWrite)
		return ErrReadAfterWrite
	}
	return tx.from.each(ctx, query, args, do)
}

func (tx *Tx) put(w write) {
	if w.key != "" {
		for i := range tx.queue {
			if tx.queue[i].key == w.key {
				tx.queue[i] = w
				return
			}
		}
	}
	tx.queue = append(tx.queue, w)
}

func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// replaces is the check of a put over a version.
func replaces(_ *write, _ querier, changed int64) error {
	if changed != 1 {
		return ErrConflict
	}
	return nil
}

// one reads at most one row; false when there is none.
func one[T any](ctx context.Context, q querier, scan func(row, *T) error, what, query string, args ...any) (v T, ok bool, err error) {
	err = q.each(ctx, query, args, func(r row) error {
		ok = true
		return scan(r, &v)
	})
	if err != nil {
		return v, false, fmt.Errorf("read %s: %w", what, err)
	}
	return v, ok, nil
}

// list reads all rows.
func list[T any](ctx context.Context, q querier, scan func(row, *T) error, what, query string, args ...any) ([]T, error) {
	var out []T
	err := q.each(ctx, query, args, func(r row) error {
		var v T
		if err := scan(r, &v); err != nil {
			return err
		}
		out = append(out, v)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return out, nil
}

func scanInt(r row, v *int64) error    { return r.Scan(v) }
func scanBytes(r row, v *[]byte) error { return r.Scan(v) }

// fixed scans a blob of one length into an array; null clears it.
type fixed []byte

// Scan is for database/sql.
func (f fixed) Scan(src any) error {
	switch b := src.(type) {
	case nil:
		clear(f)
		return nil
	case []byte:
		if len(b) == len(f) {
			copy(f, b)
			return nil
		}
		return fmt.Errorf("want %d bytes, have %d", len(f), len(b))
	default:
		return fmt.Errorf("want bytes, have %T", src)
	}
}

// orNull is the bytes of an id or hash, null when it is zero.
func orNull(b []byte) any {
	for _, c := range b {
		if c != 0 {
			return b
		}
	}
	return nil
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Statements calls do with what fn puts, as SQL: for who measures an engine without us. fn cannot read.
func Statements(fn func(*Tx) error, do func(query string, args []any) error) error {
	tx := &Tx{}
	if err := fn(tx); err != nil {
		return err
	}
	if tx.err != nil {
		return tx.err
	}
	for _, w := range tx.queue {
		if err := do(w.query, w.args); err != nil {
			return err
		}
	}
	return nil
}
