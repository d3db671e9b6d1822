package session

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// path leads a lane to a phase by the lines of a script.
type path struct {
	name, options string
	phase         Phase
	lines         []string
}

var paths = []path{
	{"idle", "mdb", Idle, nil},
	{"idle again", "mdb", Idle, []string{"vend_request 1 s1 150", "card p1", "answer p1 approved 150", "success v11"}},
	{"ordered", "mdb", Ordered, []string{"vend_request 1 s1 150"}},
	{"ordered again", "", Ordered, []string{"order s1 150", "card p1", "answer p1 declined"}},
	{"authorizing", "mdb", Authorizing, []string{"vend_request 1 s1 150", "card p1"}},
	{"vending", "mdb", Vending, []string{"vend_request 1 s1 150", "card p1", "answer p1 approved 150", "approval v11 delivered"}},
	{"vending the second", "", Vending, []string{"order s1 150 80", "card p1", "answer p1 approved 230", "approval v11 delivered", "success v11"}},
	{"vending, offline", "offline", Vending, []string{"order s1 150 80", "card p1", "link down", "timer wait"}},
	{"evidence", "mdb evidence", InEvidence, []string{"vend_request 1 s1 150", "card p1", "answer p1 approved 150", "approval v11 delivered", "timer vend"}},
	{"evidence after a restart", "mdb", InEvidence, []string{"vend_request 1 s1 150", "card p1", "answer p1 approved 150", "approval v11 delivered", "booted"}},
	{"ordered, for cash", "mdb cash", Ordered, []string{"level still", "vend_request 1 s1 150"}},
	{"ordered, money in", "mdb cash", Ordered, []string{"level still", "vend_request 1 s1 150", "cash p1 100"}},
	{"vending for cash", "mdb cash", Vending, []string{"level still", "vend_request 1 s1 150", "cash p1 200", "approval v11 delivered"}},
	{"evidence, cash", "mdb cash evidence", InEvidence, []string{"level still", "vend_request 1 s1 150", "cash p1 200", "approval v11 delivered", "timer vend"}},
	{"change not ordered", "mdb cash", InChange, []string{"level still", "vend_request 1 s1 150", "cash p1 200", "success v11"}},
	{"change ordered", "mdb cash", InChange, []string{"level still", "vend_request 1 s1 150", "cash p1 200", "level still", "success v11"}},
	{"change ordered, then a restart", "mdb cash", InChange, []string{"level still", "vend_request 1 s1 150", "cash p1 200", "level still", "success v11", "booted"}},
	{"change of nobody", "cash", InChange, []string{"cash p1 200", "cash p2 100"}},
	{"idle, a terminal", "terminal", Idle, []string{"t_ready 10"}},
	{"at the terminal", "terminal", Authorizing, []string{"t_ready 10", "order s1 150"}},
	{"at the terminal, for a bus", "terminal mdb", Authorizing, []string{"t_ready 10", "vend_request 1 s1 150"}},
	{"at the terminal, given up", "terminal", Authorizing, []string{"t_ready 10", "order s1 150", "cancel"}},
	{"vending at a terminal", "terminal mdb", Vending, []string{"t_ready 10", "vend_request 1 s1 150", "t_answer p1 approved 150 11", "approval v11 delivered"}},
	{"evidence, a terminal", "terminal mdb evidence", InEvidence, []string{"t_ready 10", "vend_request 1 s1 150", "t_answer p1 approved 150 11", "approval v11 delivered", "timer vend"}},
	{"a terminal owes an answer", "terminal", Idle, []string{"t_ready 10", "order s1 150", "t_answer p1 unknown"}},
	{"a terminal is not here and owes", "terminal", Idle, []string{"t_ready 10", "order s1 150", "t_answer p1 unknown", "t_last p1 ?", "t_gone"}},
	{"a terminal captures", "terminal", Idle, []string{"t_ready 10", "order s1 150", "t_answer p1 approved 150 11", "success v11"}},
	{"a terminal cancels", "terminal", Idle, []string{"t_ready 10", "order s1 150", "t_answer p1 approved 150 11", "failure v11"}},
	{"at the terminal, where cash is taken too", "terminal cash", Authorizing, []string{"level still", "t_ready 10", "order s1 150"}},
	{"in cash, where there is a terminal too", "terminal cash", Ordered, []string{"level still", "t_ready 10", "order s1 150 cash", "cash p7 100"}},
	{"change is owed, and by the terminal something", "terminal cash", InChange, []string{"level still", "t_ready 10", "order s1 150", "cash p7 50", "t_answer p1 approved 150 11", "failure v11"}},
	{"a terminal owes, and cash is waited for", "terminal cash", Ordered, []string{"level still", "t_ready 10", "order s1 150", "t_answer p1 unknown", "order s2 150 cash"}},
	{"a terminal owes, and cash is in", "terminal cash", Ordered, []string{"level still", "t_ready 10", "order s1 150", "t_answer p1 approved 150 11", "failure v11", "order s2 150 cash", "cash p7 100"}},
	{"enabled", "card_first", Idle, nil},
	{"preauth", "card_first", Authorizing, []string{"card p1"}},
	{"session_idle", "card_first", SessionIdle, []string{"card p1", "answer p1 approved 1000"}},
	{"session_idle again", "card_first", SessionIdle, []string{"card p1", "answer p1 approved 1000", "vend_request 1 s1 150", "approval v11 maybe", "success v11"}},
	{"queued", "card_first", Queued, []string{"card p1", "answer p1 approved 1000", "vend_request 1 s1 150"}},
	{"vend", "card_first", Vending, []string{"card p1", "answer p1 approved 1000", "vend_request 1 s1 150", "approval v11 delivered"}},
	{"evidence(k)", "card_first evidence", InEvidence, []string{"card p1", "answer p1 approved 1000", "vend_request 1 s1 150", "approval v11 delivered", "timer vend"}},
}

// walk takes the path, and gives the lane and the events that led there.
func (p path) walk(t *testing.T) (*rig, []Event) {
	t.Helper()
	r := scriptRig(t, p.name, strings.Fields(p.options), newCoverage())
	var taken []Event
	for _, l := range p.lines {
		w := strings.Fields(l)
		if w[0] == "booted" {
			r.restart()
		}
		e := r.event(w)
		r.take(e)
		taken = append(taken, e)
	}
	if r.s.Phase() != p.phase {
		t.Fatalf("%s: phase %s", p.name, r.s.Phase())
	}
	return r, taken
}

// An event for another sale, payment, vend or timer changes nothing, in whatever phase.
func TestForeignEvents(t *testing.T) {
	t.Parallel()
	n := 0
	for _, p := range paths {
		r, _ := p.walk(t)
		for _, e := range foreigners() {
			unchanged(t, p.name, r, e)
			n++
		}
	}
	t.Logf("%d events of others", n)
}

// Each event that led to a phase comes again there, and those of the sale before it come late: none
// writes a record or changes what is durable, and but for a vend request asked again, nothing moves.
func TestLateAndTwice(t *testing.T) {
	t.Parallel()
	n := 0
	for _, p := range paths {
		r, taken := p.walk(t)
		for i, e := range taken {
			name := fmt.Sprintf("%s, %q again", p.name, p.lines[i])
			switch e := e.(type) {
			case VendRequest: // the same 05 once more: S29, C18
				next, o := r.s.Step(r.now, r.in(e))
				if len(o.Records) > 0 || !next.Equal(r.s) || len(o.Effects) > 1 {
					t.Errorf("%s: %+v", name, o)
				}
			case Booted, Link, CashLevel, TerminalReady, TerminalGone: // they have no id: each is news
			case CashIn: // the shell gives each an id of its own; the last one is remembered
				if e.Payment == r.s.coin {
					unchanged(t, name, r, e)
				}
			default:
				unchanged(t, name, r, e)
			}
			n++
		}
	}
	t.Logf("%d events again", n)
}

func unchanged(t *testing.T, name string, r *rig, e Event) {
	t.Helper()
	next, o := r.s.Step(r.now, r.in(e))
	if !reflect.DeepEqual(next, r.s) || len(o.Records)+len(o.Effects)+len(o.Blobs) > 0 {
		t.Errorf("%s: %T %+v makes row %v, records %v, effects %v", name, e, e, o.Rows(), o.Records, o.Effects)
	}
}

// Events of a closed sale that come while the next one is in each of its phases change nothing of
// it: at most they are told of their own sale, once.
func TestLateBesideALiveSale(t *testing.T) {
	t.Parallel()
	late := []string{"answer p50 approved 150", "approval v501 delivered", "success v501", "failure v501", "evidence v501 delivered", "received p50"}
	for _, p := range paths {
		if p.options == "card_first" || p.options == "card_first evidence" || strings.HasPrefix(p.options, "terminal") {
			continue // their sale is not of the same flow, or no request leaves
		}
		r := scriptRig(t, p.name, strings.Fields(p.options), newCoverage())
		r.warm(false)
		for _, l := range []string{"order s50 150", "card p50", "timer wait", "order s51 150", "card p51", "answer p51 approved 150", "timer vend"} {
			r.take(r.event(strings.Fields(l)))
		}
		r.warm(p.options == "mdb evidence")
		for _, l := range p.lines {
			w := strings.Fields(l)
			if w[0] == "booted" {
				r.restart()
			}
			r.take(r.event(w))
		}
		told := 0
		for range 2 {
			for _, l := range append(late, "success v511", "failure v511") {
				before := r.s
				o := r.take(r.event(strings.Fields(l)))
				told += len(o.Records)
				for _, rec := range o.Records {
					if rec.Sale == before.Sale() || len(o.Effects) > 0 {
						t.Errorf("%s: %s: %+v", p.name, l, o)
					}
				}
				live, was := r.s.d, before.d
				live.Asked, live.Closed, was.Asked, was.Closed = nil, nil, nil, nil
				if !reflect.DeepEqual(live, was) {
					t.Errorf("%s: %s changes the live sale", p.name, l)
				}
			}
		}
		if told != 2 {
			t.Errorf("%s: %d records of sales that were closed, want one LateAnswer and one VendResolved", p.name, told)
		}
	}
}
