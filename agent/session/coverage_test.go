package session

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"coinop/protocol"
)

// rows are the ids of the session machine's tables: S selection first, C card first, M cash, T terminals.
func rows() (ids []string) {
	for i := 1; i <= 40; i++ {
		ids = append(ids, fmt.Sprintf("S%02d", i))
	}
	for i := 1; i <= 27; i++ {
		ids = append(ids, fmt.Sprintf("C%02d", i))
	}
	for i := 1; i <= 19; i++ {
		ids = append(ids, fmt.Sprintf("M%02d", i))
	}
	for i := 1; i <= 27; i++ {
		ids = append(ids, fmt.Sprintf("T%02d", i))
	}
	return ids
}

// coverage counts where tests have been.
type coverage struct {
	rows  map[string]int // of steps in scripts
	all   map[string]int // of all steps
	cuts  map[string]int // power cuts tried in steps that took the row
	cells map[cell]*[4]int
}

type cell struct{ state, event string }

// The columns of a cell: steps, and power cuts at each point after them.
var columns = []string{"steps", "unsynced", "synced", "done"}

func newCoverage() *coverage {
	return &coverage{rows: map[string]int{}, all: map[string]int{}, cuts: map[string]int{}, cells: map[cell]*[4]int{}}
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

func (c *coverage) cut(s State, e Event, o Output, when string) {
	c.at(s, e)[slices.Index(columns, when)]++
	for _, r := range o.Rows() {
		c.cuts[r]++
	}
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

// everyEvent is an event of each kind and each variety, with ids of the sales in paths.
var everyEvent = []string{
	"booted", "order s70 100", "order s70 100 test", "order s70 100 bad_lines", "cancel", "card p70", "card p70 tc", "card_failed", "aac", "removed",
	"received p1", "answer p1 approved 150", "answer p1 approved 1000", "answer p1 partial 100", "answer p1 partial 50", "answer p1 declined",
	"answer p1 refused", "answer p1 refused acquirer_down", "answer p1 expired", "answer p1 approved 1000 other_ask",
	"timer order", "timer wait", "timer vend", "timer evidence", "timer session",
	"vend_request 70 s70 100", "vend_request 70 s70 9000", "vend_request 70 s70 100 bad", "vend_request 1 s1 150", "vend_cancel",
	"approval v11 delivered", "approval v11 withdrawn", "approval v11 maybe", "approval v12 delivered", "approval v12 withdrawn", "approval v12 maybe",
	"success v11", "success v12 grade=sensed", "success -", "success - grade=none", "failure v11", "failure v12", "failure -",
	"reset", "bus up", "bus down", "bus enabled evidence", "bus disabled", "complete", "port_gone",
	"evidence v11 delivered", "evidence v11 failed", "evidence v11 presumed", "evidence v12 delivered", "evidence v12 failed",
	"link up", "link down", "link cloud", "link acquirer", "link slow", "accounts up", "accounts down", "card p70 own", "answer p1 declined not_enough", "policy 9", "storage ok", "storage full", "storage readonly", "storage corrupt",
	"headroom 100", "means", "means link_down", "stopped", "tamper", "tamper cleared", "door open", "door",
	"t_ready 10", "t_ready 10 due", "t_gone", "t_status p1 pin", "t_status p1 insert_card", "t_answer p1 approved 150 11", "t_answer p1 approved 149 11", "t_answer p1 declined", "t_answer p1 aborted",
	"t_answer p1 unsent", "t_answer p1 unknown", "t_done p1 cancel ok 12", "t_done p1 cancel refused", "t_done p1 cancel lost", "t_done p1 capture not_sent", "t_done p1 capture ok 11",
	"t_last p1 10 100", "t_last p1 11 150", "t_last p1 11 150 declined", "t_last p1 12 150 taken=11", "t_last p1 13 99", "t_last p1 ?", "t_last p1 12 150 ended", "t_close", "t_closed", "t_closed busy", "timer terminal",
	"timer change", "cash p80 50", "cash p80 500", "cash p80 1000 bill", "held 1000", "returned", "paid 50", "paid 0 short", "paid ? lost", "level gone", "level still", "level low", "level still 200=9",
}

// meetEvery takes every event in every phase, each on a fresh lane that came there by a path.
func meetEvery(t *testing.T, c *coverage) {
	for _, p := range paths {
		for _, l := range everyEvent {
			r, _ := p.walk(t)
			r.where, r.cov = p.name+": "+l, c
			w := strings.Fields(l)
			if w[0] == "booted" {
				r.restart()
			}
			r.step(r.event(w))
			r.atEnd()
		}
	}
}

// TestCoverage fails for a row of any table that no script visits, for an event that never met a
// state, and for a point there at which the power was not cut; and it prints how often each was.
func TestCoverage(t *testing.T) {
	t.Parallel()
	c := newCoverage()
	for _, f := range scripts(t) {
		runScript(t, f, c)
	}
	meetEvery(t, c)
	for seed := range uint64(20) {
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
	states, events := map[string]bool{}, map[string]bool{}
	for k := range c.cells {
		states[k.state], events[k.event] = true, true
	}
	for s := range states {
		for e := range events {
			if n := c.cells[cell{s, e}]; n == nil || slices.Contains(n[:], 0) {
				t.Errorf("%s in %s: %v", e, s, n)
			}
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
	t.Logf("%d states, %d events, %d cells of state and event; %d steps; power cuts: %d unsynced, %d synced, %d done",
		len(states), len(events), len(c.cells), total[0], total[1], total[2], total[3])
	for _, id := range known {
		t.Logf("%s: %d times in scripts, %d in all, %d power cuts", id, c.rows[id], c.all[id], c.cuts[id])
	}
}
