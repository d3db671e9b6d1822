package cloud

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Pace of the collector: between two collections a process may make so much garbage, or a share of
// what it holds, whichever is more.
const (
	garbageLeast = 64 << 20 // bytes: with few devices the heap is small, and 100 % of it is soon used up
	garbageShare = 15       // percent: with many it is large, and each sells once a minute or less
)

// PaceCollector lets the collector run seldom while there is little to hold, and keeps the heap
// close to what is held when that is much. GOGC in the environment overrides it. It is for the
// program's main: it changes the whole process.
func PaceCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	now := 0
	var pace func(*cycle)
	pace = func(c *cycle) { // after each collection
		metrics.Read(live)
		p := max(garbageShare, int(100*garbageLeast/(live[0].Value.Uint64()+1)))
		p = min(p, 3200)
		if p*10 > now*11 || p*11 < now*10 { // setting it stops the world for a moment
			now = p
			debug.SetGCPercent(p)
		}
		runtime.SetFinalizer(&cycle{}, pace)
	}
	pace(nil)
}

// cycle dies in every collection. It is large enough not to share its memory with others.
type cycle struct{ _ [64]byte }
