package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop/agent"
	"coinop/hardware/dex"
	"coinop/hardware/virtual"
)

// TestAudits: a machine's books are read by themselves, but not while somebody buys; each file is kept
// as it came, and what does not fit the one before is told.
func TestAudits(t *testing.T) {
	t.Parallel()
	books := dex.Audit{Serial: "S1", Board: "B1", Decimals: 2, Currency: "EUR", Paid: dex.Sum{Value: 300, Count: 2}, CashIn: dex.Money{In: 300, Box: 300}}
	file := dex.Write("MACHINE001", books.Segments())
	far, err := virtual.NewDEX(filepath.Join(t.TempDir(), "dex"), file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = far.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	s := newSite(t)
	s.cfg.Lanes[0].Audit, s.cfg.Lanes[0].AuditEvery = agent.DEX(far.Path()), 200*time.Millisecond
	stop := s.start()
	kept := func(n int) []string {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if names, _ := filepath.Glob(filepath.Join(s.cfg.Data, "audits", "lane-0-*.dts")); len(names) >= n {
				return names
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d files did not come", n)
			}
		}
	}
	names := kept(2)
	if got, err := os.ReadFile(names[0]); err != nil || string(got) != string(file) {
		t.Error("the file is not as it came", err)
	}
	s.enabled()
	s.order() // somebody buys
	time.Sleep(300 * time.Millisecond)
	before := far.Reads()
	time.Sleep(600 * time.Millisecond)
	if n := far.Reads(); n != before {
		t.Errorf("read %d times while somebody bought", n-before)
	}
	books.CashIn.Box = 100 // somebody has had a hand in it
	far.Set(dex.Write("MACHINE001", books.Segments()), virtual.DEXOK)
	if err := s.machine.Cancel(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.log.String(), "CA306 fell from 300 to 100"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody says so")
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
