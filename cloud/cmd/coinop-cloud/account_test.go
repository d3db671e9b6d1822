package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"coinop/cloud/store/storetest"
)

// TestAccounts: an operator's day at the desk, by command line: what each command says, and what it says to do when
// it will not.
func TestAccounts(t *testing.T) {
	t.Parallel()
	t.Run("file", func(t *testing.T) { testAccounts(t, run) })
	t.Run("postgres", func(t *testing.T) {
		db := storetest.Database(t)
		testAccounts(t, func(ctx context.Context, args ...string) (string, error) {
			return run(ctx, append(args, "--store", db)...)
		})
	})
}

func testAccounts(t *testing.T, run func(context.Context, ...string) (string, error)) {
	dir := t.TempDir()
	if _, err := run(t.Context(), "device", "add", "snack-1", "--dir", dir, "--out", filepath.Join(t.TempDir(), "id"), "--tid", "1", "--mid", "1"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line string // with | between arguments
		want string // in what it prints, or in its error
		bad  bool
	}{
		{"account|open|0000000001|--currency|eur|--label|A. Miller", "is open; 0.00 EUR on it", false},
		{"account|open|0000000001|--currency|EUR", "account show", true},
		{"account|open|0000000002", "--currency: want", true},
		{"account|open|12|--currency|EUR", "ten hex digits", true},
		{"account|open|uid:04A1B2C3|--currency|EUR", "--unverified opens one all the same", true},
		{"account|open|uid:04A1B2C3|--currency|EUR|--unverified", "card uid:04a1b2c3: account", false},
		{"account|open|6000 4200 1234|--stripe|--currency|EUR|--unverified", "card loop:", false},
		{"account|open|6000x|--stripe|--currency|EUR|--unverified", "digits", true},
		{"account|load|0000000001|10.00 EUR|--reference|receipt 1", "10.00 EUR loaded; 10.00 EUR on it", false},
		{"account|load|0000000001|10.00|EUR|--reference|receipt 1", "were loaded under this reference already; 10.00 EUR on it", false},
		{"account|load|0000000001|11.00|EUR|--reference|receipt 1", "a reference of its own", true},
		{"account|load|0000000001|0.50|--reference|receipt 2", "0.50 EUR loaded; 10.50 EUR on it", false},
		{"account|load|0000000001|ten|--reference|receipt 3", "want one as 10.00 EUR", true},
		{"account|load|0000000001|10.00|CHF|--reference|receipt 3", "no such account", true},
		{"account|load|0000000009|10.00|EUR|--reference|receipt 3", "account open 0000000009", true},
		{"account|load|0000000001|10.00", "reference", true},
		{"account|load|600042001234|2.00|EUR|--stripe|--reference|receipt 4", "2.00 EUR loaded", false},
		{"account|block|0000000001", "it is blocked; 10.50 EUR on it", false},
		{"account|load|0000000001|1.00|--reference|receipt 5", "it is blocked", true},
		{"account|list|--state|blocked", "A. Miller", false},
		{"account|list|--state|gone", "want open, blocked or closed", true},
		{"account|unblock|0000000001", "it is open", false},
		{"account|show|0000000001", "receipt 2", false},
		{"account|close|0000000001", "--pay-out REFERENCE", true},
		{"account|close|0000000001|--pay-out|receipt 6", "10.50 EUR paid out, it is closed; 0.00 EUR on it", false},
		{"account|unblock|0000000001", "it is closed", true},
		{"account|show|not a card", "an account's id will do too", true},
		{"account|show", "want one CARD", true},
		{"books", "The ledger is balanced", false},
	} {
		out, err := run(t.Context(), append(strings.Split(c.line, "|"), "--dir", dir)...)
		if (err != nil) != c.bad {
			t.Errorf("%s: %q, %v", c.line, out, err)
			continue
		}
		if err != nil {
			out = err.Error()
		}
		if !strings.Contains(out, c.want) {
			t.Errorf("%s: %q, want %q", c.line, out, c.want)
		}
	}
	out, err := run(t.Context(), "account", "list", "--json", "--dir", dir)
	var all []shown
	if err != nil || json.Unmarshal([]byte(out), &all) != nil || len(all) != 3 || all[0].State != "closed" || all[2].Balance != 200 {
		t.Fatalf("%s, %v", out, err)
	}
	out, err = run(t.Context(), "account", "show", all[0].ID.String(), "--json", "--dir", dir)
	var one shown
	if err != nil || json.Unmarshal([]byte(out), &one) != nil || len(one.Entries) != 3 || one.Entries[0].Kind != "correction" || one.Entries[0].Balance != -1050 {
		t.Errorf("%s, %v", out, err)
	}
}
