package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A short run gives every figure, a table and a file. How good they are is not judged here: the
// machine is shared.
func TestRun(t *testing.T) {
	r, err := Run(t.Context(), Options{Dir: t.TempDir(), For: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := r.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	if len(r.Figures) != 9 {
		t.Fatalf("%d figures", len(r.Figures))
	}
	for _, f := range r.Figures {
		if f.Value <= 0 || f.Limit <= 0 || f.Ratio <= 0 || f.Against == "" || !strings.Contains(table.String(), f.Name) {
			t.Errorf("%+v", f)
		}
	}
	path := filepath.Join(t.TempDir(), "out", "bench.json")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Contains(b, []byte(`"ratio"`)) {
		t.Fatal(err)
	}
}
