package escpos

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOpen: what is no printer is said, by each way to one.
func TestOpen(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lp0")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"127.0.0.1:1", "no-port", "/nowhere", file} {
		if p, _, err := open(t.Context(), path, 115200); err == nil {
			t.Errorf("%s: opened as %T", path, p)
		}
	}
	if _, err := openLP(file); err == nil {
		t.Error("a file is no printer device")
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	if s, ok := statusOf(null); ok {
		t.Errorf("/dev/null says %x", s)
	}
}
