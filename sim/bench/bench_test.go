package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The processes that are measured are this program again.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "far" {
		if err := Far(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A short run gives every figure, a table and a file. How good they are is not judged here: the
// machine is shared.
func TestRun(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "coinop/agent/cmd/coinop-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Options{
		Bin: bin, Self: []string{self, "far"}, Dir: t.TempDir(), For: 250 * time.Millisecond, Devices: 48, Records: 2000,
	})
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := r.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	if len(r.Figures) != 41 {
		t.Errorf("%d figures", len(r.Figures))
	}
	for _, f := range r.Figures {
		if f.Value < 0 || f.Limit < 0 || f.Against == "" || !strings.Contains(table.String(), f.Name) ||
			!strings.HasPrefix(f.Name, "·") && (f.Value == 0 || f.Ratio <= 0) {
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

func TestUnknownStage(t *testing.T) {
	if _, err := Run(t.Context(), Options{Only: []string{"ledger", "legder"}}); err == nil || !strings.Contains(err.Error(), `"legder"; there are session, journal`) {
		t.Fatal(err)
	}
}
