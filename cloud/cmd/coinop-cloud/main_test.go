package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop/cloud/store/storetest"
)

// run is the command line in this process.
func run(ctx context.Context, args ...string) (out string, err error) {
	c := root()
	var stdout, stderr bytes.Buffer
	c.SetOut(&stdout)
	c.SetErr(&stderr)
	c.SetArgs(args)
	err = c.ExecuteContext(ctx)
	return stdout.String(), err
}

func TestMain(m *testing.M) { storetest.Main(m) }

func TestDevices(t *testing.T) {
	t.Parallel()
	t.Run("file", func(t *testing.T) { testDevices(t, run) })
	t.Run("postgres", func(t *testing.T) {
		db := storetest.Database(t)
		testDevices(t, func(ctx context.Context, args ...string) (string, error) {
			return run(ctx, append(args, "--store", db)...)
		})
	})
}

func testDevices(t *testing.T, run func(context.Context, ...string) (string, error)) {
	dir, id := t.TempDir(), filepath.Join(t.TempDir(), "id")
	add := []string{"device", "add", "snack-1", "--dir", dir, "--out", id, "--tid", "10000001", "--mid", "1", "--location", "Hall 2"}
	if out, err := run(t.Context(), add...); err != nil || !strings.Contains(out, "coinop-agent run --identity "+id) {
		t.Fatalf("add: %q, %v", out, err)
	}
	if _, err := os.Stat(filepath.Join(id, "device.key")); err != nil {
		t.Error(err)
	}
	if _, err := run(t.Context(), add...); err == nil || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("added twice: %v, want a hint at --replace", err)
	}
	out, err := run(t.Context(), "device", "list", "--dir", dir)
	if err != nil || !strings.Contains(out, "10000001") {
		t.Errorf("list: %q, %v", out, err)
	}
	out, err = run(t.Context(), "device", "list", "--dir", dir, "--json")
	var got []listed
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || len(got) != 1 || got[0].Merchant.Location != "Hall 2" || got[0].Link != "bank" {
		t.Errorf("list --json: %s, %v", out, err)
	}
	out, err = run(t.Context(), "books", "--dir", dir)
	if err != nil || !strings.Contains(out, "is balanced") {
		t.Errorf("books: %q, %v", out, err)
	}
	out, err = run(t.Context(), "books", "--dir", dir, "--json")
	var b books
	if err != nil || json.Unmarshal([]byte(out), &b) != nil || !b.Balanced {
		t.Errorf("books --json: %s, %v", out, err)
	}
}

// TestRefused: what is wrong is named, with what to do.
func TestRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"books --dir " + dir, "--dir is the folder given to serve"},
		{"device list --dir " + dir, "--dir is the folder given to serve"},
		{"device add --dir " + dir, "want one NAME"},
		{"device add a/b --out x --tid 1 --mid 1 --dir " + dir, "name"},
		{"device add a --out x --tid 123456789 --mid 1 --dir " + dir, "1 to 8"},
		{"device add a --out x --tid 1 --mid 1 --mcc x --dir " + dir, "4 digits"},
		{"serve --acquirer bank --institution 1 --dir " + dir, "NAME=HOST:PORT"},
		{"serve --acquirer bank=1.2.3.4:5 --dir " + dir, "--institution"},
		{"books --store ledger.db --dir " + dir, "postgres://user@host/database"},
		{"serve --log xml --dir " + dir, "text or json"},
		{"serve --loog text --dir " + dir, "see coinop-cloud serve --help"},
	} {
		if _, err := run(t.Context(), strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ready := filepath.Join(dir, "run", "addr")
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		_, err := run(ctx, "serve", "--dir", dir, "--listen", "127.0.0.1:0", "--ready-file", ready, "--log", "json",
			"--acquirer", "bank=127.0.0.1:1", "--institution", "1")
		ended <- err
	}()
	for ctx.Err() == nil {
		if b, err := os.ReadFile(ready); err == nil {
			if !strings.HasPrefix(string(b), "127.0.0.1:") {
				t.Errorf("ready file says %q", b)
			}
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
