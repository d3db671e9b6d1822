package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// statement is a prepared statement of a driver's connection, for one goroutine at a time. It must not
// be interrupted by the end of one caller's context: a group is everybody's.
type statement struct {
	st    driver.Stmt
	write driver.StmtExecContext
	read  driver.StmtQueryContext
	args  []driver.NamedValue
	row   []driver.Value
}

func prepare(c driver.Conn, query string) (*statement, error) {
	st, err := c.Prepare(unnamed(query))
	if err != nil {
		return nil, err
	}
	s := &statement{st: st}
	var writes, reads bool
	s.write, writes = st.(driver.StmtExecContext)
	s.read, reads = st.(driver.StmtQueryContext)
	if !writes || !reads {
		return nil, fmt.Errorf("a driver without contexts: %T", st)
	}
	return s, nil
}

// unnamed is a query whose parameters, $1 to $n, come in that order and once each, with ? in their place:
// SQLite's driver asks for the name of each parameter at each execution, and ? has none. Another query is
// itself. None of ours has a $ in a text.
func unnamed(query string) string {
	var b strings.Builder
	for n, rest := 1, query; ; n++ {
		before, after, found := strings.Cut(rest, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		number := strconv.Itoa(n)
		if after, found = strings.CutPrefix(after, number); !found || after != "" && after[0] >= '0' && after[0] <= '9' {
			return query
		}
		b.WriteByte('?')
		rest = after
	}
}

func (s *statement) close() error { return s.st.Close() }

// bind takes the arguments as the driver wants them: of the types a driver.Value may have.
func (s *statement) bind(args []any) []driver.NamedValue {
	s.args = s.args[:0]
	for i, a := range args {
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return s.args
}

// exec says how many rows were changed.
func (s *statement) exec(args []any) (int64, error) {
	res, err := s.write.ExecContext(context.Background(), s.bind(args))
	clear(s.args)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// each calls do for every row until it returns an error, which is wrong.
func (s *statement) each(args []any, do func(row) error) (wrong, err error) {
	rs, err := s.read.QueryContext(context.Background(), s.bind(args))
	clear(s.args)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := rs.Close(); err == nil {
			err = e
		}
	}()
	if n := len(rs.Columns()); len(s.row) != n {
		s.row = make([]driver.Value, n)
	}
	for {
		if err := rs.Next(s.row); err == io.EOF {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		if err := do(values(s.row)); err != nil {
			return err, nil
		}
	}
}

// values is a row as a driver gives it.
type values []driver.Value

// Scan copies the columns into what dest points to, as database/sql does for the types we have.
func (v values) Scan(dest ...any) error {
	if len(dest) != len(v) {
		return fmt.Errorf("%d columns into %d", len(v), len(dest))
	}
	for i, d := range dest {
		if err := assign(d, v[i]); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	return nil
}

func assign(dest any, v driver.Value) error {
	switch d := dest.(type) {
	case *int64:
		if n, ok := v.(int64); ok {
			*d = n
			return nil
		}
	case sql.Scanner:
		return d.Scan(v)
	case *[]byte:
		b, ok := v.([]byte)
		if !ok && v != nil {
			break
		}
		*d = b
		return nil
	}
	to := reflect.ValueOf(dest).Elem()
	switch v := v.(type) {
	case string:
		if to.Kind() == reflect.String {
			to.SetString(v)
			return nil
		}
	case int64:
		switch {
		case to.CanInt() && !to.OverflowInt(v):
			to.SetInt(v)
			return nil
		case to.CanUint() && v >= 0 && !to.OverflowUint(uint64(v)):
			to.SetUint(uint64(v))
			return nil
		}
	}
	return fmt.Errorf("%T into %T", v, dest)
}

// lent is a pool of one connection that stays whose it was.
type lent struct{ conn driver.Conn }

func (l lent) Connect(context.Context) (driver.Conn, error) {
	c, ok := l.conn.(full)
	if !ok {
		return nil, fmt.Errorf("a driver without contexts: %T", l.conn)
	}
	return kept{c}, nil
}

func (l lent) Driver() driver.Driver { return nil }

// full is what database/sql uses of a connection.
type full interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

// kept does not close.
type kept struct{ full }

func (kept) Close() error { return nil }
