package sim

import (
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		r := Run(Options{Seed: seed, Keep: true, Only: map[int]bool{}})
		t.Logf("%+v %s %v", r.Counts, r.Trace[:8], r.Took)
		if r.Broken != nil {
			t.Fatal(r.Report())
		}
	}
	_ = time.Now
}
