package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coinop/hardware/dex"
	"coinop/hardware/virtual"
)

// TestDEX: a machine's books are read over the link, shown, and compared with earlier ones.
func TestDEX(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := dex.Audit{Serial: "S1", Board: "B1", Decimals: 2, Currency: "EUR", Paid: dex.Sum{Value: 300, Count: 2}, Cash: dex.Sum{Value: 300, Count: 2}}
	before := dex.Write("MACHINE001", a.Segments())
	old, now := filepath.Join(dir, "old.dts"), filepath.Join(dir, "now.dts")
	if err := os.WriteFile(old, before, 0o600); err != nil {
		t.Fatal(err)
	}
	a.Paid, a.Cash = dex.Sum{Value: 450, Count: 3}, dex.Sum{Value: 250, Count: 2} // a sale, and 0.50 less of cash than before
	far, err := virtual.NewDEX(filepath.Join(dir, "dex"), dex.Write("MACHINE001", a.Segments()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = far.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if code, out, errs := call(t, nil, "dex", "read", "--port", far.Path(), "--out", now); code != 0 || !strings.Contains(out, "bytes in "+now) {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	if got, err := os.ReadFile(now); err != nil || !bytes.Equal(got, dex.Write("MACHINE001", a.Segments())) {
		t.Error("the file is another", err)
	}
	code, out, errs := call(t, nil, "dex", "show", now, "--since", old)
	if code != 0 || !strings.Contains(out, "4.50 EUR in 3") || !strings.Contains(out, "1.50 EUR in 1") || !strings.Contains(out, "backwards: CA2 value fell from 300 to 250") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if code, out, _ := call(t, nil, "dex", "show", now, "--json"); code != 0 || !strings.Contains(out, `"Value":450`) {
		t.Errorf("%d %s", code, out)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"dex", "read"}, "--data is needed, or --port and --out"},
		{[]string{"dex", "read", "--port", dir + "/none", "--out", now}, "ls -l /dev/serial/by-id"},
		{[]string{"dex", "show", dir + "/none"}, "no such file"},
	} {
		if code, _, errs := call(t, nil, c.args...); !refused(code) || !strings.Contains(errs, c.want) {
			t.Errorf("%v: %d %s", c.args, code, errs)
		}
	}
}
