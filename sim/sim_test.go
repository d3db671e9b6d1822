package sim

import (
	"flag"
	"runtime"
	"sync"
	"testing"
	"time"
)

var (
	seeds = flag.Int("seeds", 20, "how many seeds TestSeeds plays")
	first = flag.Uint64("first", 1, "the first of them")
)

// TestSeeds plays seeds, each with faults of its own.
func TestSeeds(t *testing.T) {
	var mu sync.Mutex
	var all Counts
	var wg sync.WaitGroup
	work := make(chan uint64)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range work {
				opt := Options{Seed: seed, For: 36 * time.Hour} // two nights' closings; every third seed plays three days
				if seed%3 == 0 {
					opt.For = 72 * time.Hour
				}
				r := Run(opt)
				mu.Lock()
				all.add(r.Counts)
				shrink := r.Broken != nil && !t.Failed() && !testing.Short()
				if r.Broken != nil {
					t.Errorf("coinop-sim run --seed %d --for %s: %v", seed, opt.For, r.Broken)
				}
				mu.Unlock()
				if shrink {
					t.Log(Shrink(r, opt, 45*time.Second).Report())
				}
			}
		})
	}
	for i := range *seeds {
		work <- *first + uint64(i)
	}
	close(work)
	wg.Wait()
	t.Logf("seeds %d to %d: %s", *first, *first+uint64(*seeds)-1, all)
}

// TestSameSeedSameRun: a run can be repeated to the letter.
func TestSameSeedSameRun(t *testing.T) {
	t.Parallel()
	opt := Options{Seed: 42, Machines: 6, For: 40 * time.Hour} // three disks are spoiled in it
	a, b := Run(opt), Run(opt)
	if a.Trace != b.Trace || a.Counts != b.Counts {
		t.Fatalf("%s %+v\n%s %+v", a.Trace, a.Counts, b.Trace, b.Counts)
	}
	opt.Seed++
	if c := Run(opt); c.Trace == a.Trace {
		t.Fatal("another seed, the same run")
	}
}

// TestOracleSees: what the oracle is for, it finds.
func TestOracleSees(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		law  string
		harm func(*World)
	}{
		{LawCharged, func(w *World) { s := sold(w); s.fell += 100 }},
		{LawCharged, func(w *World) { s := sold(w); s.fell = 0 }},
		{LawBooks, func(w *World) {
			for _, e := range w.host.bank.Books() {
				if e.Captured > 0 { // a debit the ledger knows nothing of
					w.host.extra = e.Captured
					return
				}
			}
		}},
		{LawSells, func(w *World) { w.machines[0].on = false }},
	} {
		w, err := newWorld(Options{Seed: 5, Machines: 3, For: 12 * time.Hour, Only: map[int]bool{}})
		if err != nil {
			t.Fatal(err)
		}
		w.before = func() { c.harm(w) }
		w.run()
		if w.broken == nil || w.broken.Law != c.law {
			t.Errorf("want %q, got %v", c.law, w.broken)
		}
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	}
}

func sold(w *World) *sale {
	for _, m := range w.machines {
		for _, s := range m.sales {
			if s.fell > 0 {
				return s
			}
		}
	}
	return nil
}
