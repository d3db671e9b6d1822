package store

import "testing"

func TestUnnamed(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"select 1": "select 1",
		"insert into t values ($1, $2, $3) on conflict do nothing":             "insert into t values (?, ?, ?) on conflict do nothing",
		"select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11":                  "select ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?",
		"update t set a = $2 where id = $1":                                    "update t set a = $2 where id = $1",
		"select $1, coalesce(max(cursor), 0) + 1, $2 from t where device = $1": "select $1, coalesce(max(cursor), 0) + 1, $2 from t where device = $1",
		"select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $12":                  "select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $12",
		"select $10": "select $10",
	} {
		if got := unnamed(query); got != want {
			t.Errorf("%s: %s", query, got)
		}
	}
}
