package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop/agent/journal"
	"coinop/protocol"
	"coinop/protocol/money"
)

// someRecords makes a data folder with a sale in it.
func someRecords(t *testing.T) (data string) {
	t.Helper()
	data = t.TempDir()
	j, err := journal.OpenBadger(filepath.Join(data, "journal"), journal.Options{
		Device: "snack-1", NewEpoch: func() protocol.Epoch { return protocol.Epoch{7} },
	})
	if err != nil {
		t.Fatal(err)
	}
	sale := protocol.SaleID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	at := protocol.Reading{Wall: protocol.At(time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC))}
	records := []protocol.Record{
		{Sale: sale, At: at, Body: protocol.SaleOpened{Class: protocol.Live, Due: money.New(250, money.EUR)}},
		{Sale: sale, At: at, Body: protocol.SaleClosed{How: protocol.Sold, Delivered: money.New(250, money.EUR)}},
		{Lane: 1, At: at, Body: protocol.DeviceEvent{Device: "reader", Code: "port_lost"}},
	}
	if _, err := j.Append(records, nil); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestJournalCommands(t *testing.T) {
	t.Parallel()
	data := someRecords(t)
	for _, c := range []struct {
		args       string
		code       int
		want, lack string
	}{
		{"list", 0, "DeviceEvent", ""},
		{"list", 0, "4 shown of 4 kept, 1 to 4; the cloud may lack 4", ""},
		{"list --kind saleopened", 0, "due 2.50 EUR", "SaleClosed"},
		{"list --lane 1", 0, "code port_lost, device reader", "SaleOpened"},
		{"list --last 1", 0, "1 shown of 4 kept", "SaleOpened"},
		{"list --sale zzzz", 0, "0 shown of 4 kept", "SaleOpened"},
		{"list --last 0", exitUsage, "--last 0: want 1 or more", ""},
		{"verify", 0, "ok: 4 records of snack-1, 1 to 4", ""},
		{"verify --json", 0, `"ok":true`, ""},
		{"export --kind SaleClosed", 0, `"kind":"SaleClosed"`, "SaleOpened"},
		{"export --into x", exitUsage, "unknown flag: --into", ""},
	} {
		code, out, errs := call(t, map[string]string{"COINOP_DATA": data}, append([]string{"journal"}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(out+errs, c.want) || c.lack != "" && strings.Contains(out, c.lack) {
			t.Errorf("%s: ends with %d\n%s%s", c.args, code, out, errs)
		}
	}
	file := filepath.Join(t.TempDir(), "out.jsonl")
	if code, _, errs := call(t, nil, "journal", "export", "--data", data, "--out", file); code != 0 || errs != "4 records in "+file+"\n" {
		t.Errorf("%d %s", code, errs)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		var r struct {
			Seq  int
			Body map[string]any
		}
		if err := json.Unmarshal(line, &r); err != nil || r.Seq != i+1 || r.Body == nil {
			t.Errorf("line %d: %v, %s", i, err, line)
		}
	}
}

// A copy that was spoiled, and one that lacks a record, are told apart from a good one.
func TestJournalVerifyFinds(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func([]byte) []byte{
		"a bit":            func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"the last records": func(b []byte) []byte { return b[:len(b)-40] },
	} {
		data := someRecords(t)
		twin := filepath.Join(data, "journal.twin")
		b, err := os.ReadFile(twin)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(twin, spoil(b), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := call(t, nil, "journal", "verify", "--data", data)
		if code != exitProblem || !strings.Contains(out, "broken: ") || !strings.Contains(out, "are no whole record") {
			t.Errorf("%s: ends with %d\n%s%s", name, code, out, errs)
		}
	}
}
