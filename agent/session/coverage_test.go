package session

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"coinop/protocol"
)

// rows are the ids of the session machine's two tables: S selection first, C card first.
func rows() (ids []string) {
	for i := 1; i <= 40; i++ {
		ids = append(ids, fmt.Sprintf("S%02d", i))
	}
	for i := 1; i <= 27; i++ {
		ids = append(ids, fmt.Sprintf("C%02d", i))
	}
	return ids
}

// coverage counts where tests have been.
type coverage struct {
	rows  map[string]int // of steps in scripts
	all   map[string]int // of all steps
	cells map[cell]*[4]int
}

type cell struct{ state, event string }

// The columns of a cell: steps, and power cuts at each point after them.
var columns = []string{"steps", "unsynced", "synced", "done"}

func newCoverage() *coverage {
	return &coverage{rows: map[string]int{}, all: map[string]int{}, cells: map[cell]*[4]int{}}
}

func (c *coverage) at(s State, e Event) *[4]int {
	k := cell{phaseName(s), strings.TrimPrefix(fmt.Sprintf("%T", e), "session.")}
	if t, ok := e.(Timer); ok {
		k.event += "(" + t.Name.String() + ")"
	}
	if c.cells[k] == nil {
		c.cells[k] = new([4]int)
	}
	return c.cells[k]
}

func (c *coverage) step(s State, e Event, o Output) {
	c.at(s, e)[0]++
	for _, r := range o.Rows() {
		c.all[r]++
	}
}

func (c *coverage) scripted(o Output) {
	for _, r := range o.Rows() {
		c.rows[r]++
	}
}

func (c *coverage) cut(s State, e Event, when string) {
	c.at(s, e)[slices.Index(columns, when)]++
}

// phaseName names a state as its table does.
func phaseName(s State) string {
	if s.cfg.Flow != protocol.CardFirst {
		return s.Phase().String()
	}
	switch s.Phase() {
	case Idle:
		return "enabled"
	case Authorizing:
		return "preauth"
	case Vending:
		return "vend"
	case InEvidence:
		return "evidence(k)"
	}
	return s.Phase().String()
}

// TestCoverage fails for a row of either table that no script visits, and prints how often each
// event met each state, and how many power cuts were tried there.
func TestCoverage(t *testing.T) {
	c := newCoverage()
	for _, f := range scripts(t) {
		runScript(t, f, c)
	}
	for seed := range uint64(40) {
		randomLane(t, seed, 150, c)
	}
	known := rows()
	for _, id := range known {
		if c.rows[id] == 0 {
			t.Errorf("row %s is visited by no script", id)
		}
	}
	for id := range c.all {
		if !slices.Contains(known, id) {
			t.Errorf("a step says it took row %s, which no table has", id)
		}
	}
	var total [4]int
	t.Logf("%-13s %-16s %8s %8s %8s %8s", "state", "event", "steps", "unsynced", "synced", "done")
	for _, k := range slices.SortedFunc(maps.Keys(c.cells), func(a, b cell) int {
		return strings.Compare(a.state+" "+a.event, b.state+" "+b.event)
	}) {
		n := c.cells[k]
		t.Logf("%-13s %-16s %8d %8d %8d %8d", k.state, k.event, n[0], n[1], n[2], n[3])
		for i := range total {
			total[i] += n[i]
		}
	}
	t.Logf("%d cells of state and event; %d steps; power cuts: %d unsynced, %d synced, %d done", len(c.cells), total[0], total[1], total[2], total[3])
	for _, id := range known {
		t.Logf("%s: %d times in scripts, %d in all", id, c.rows[id], c.all[id])
	}
}
