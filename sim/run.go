package sim

import (
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Result of a run.
type Result struct {
	Seed     uint64
	Trace    string // SHA-256 of all that happened
	Counts   Counts
	Broken   *Broken
	Plan     []*Fault
	Took     time.Duration
	Shortest []*Fault // the fewest faults with which the same law breaks; after Shrink
	lines    []line
}

// Run plays one seed.
func Run(opt Options) Result {
	start := time.Now()
	w, err := newWorld(opt)
	if err != nil {
		return Result{Seed: opt.Seed, Broken: &Broken{Law: "sim", What: err.Error()}}
	}
	defer w.store.Close()
	func() {
		defer func() {
			if p := recover(); p != nil {
				w.fail(LawNoCrash, "panic: %v\n%s", p, debug.Stack())
			}
		}()
		w.run()
	}()
	return Result{
		Seed: opt.Seed, Trace: hex.EncodeToString(w.sum.Sum(nil)), Counts: w.counts, Broken: w.broken, Plan: w.plan,
		lines: w.lines, Took: time.Since(start),
	}
}

// Shrink looks for the fewest faults with which the same law still breaks, for at most budget, and
// leaves them and their timeline in the result.
func Shrink(r Result, opt Options, budget time.Duration) Result {
	if r.Broken == nil {
		return r
	}
	end := time.Now().Add(budget)
	keep := make([]int, 0, len(r.Plan))
	for _, f := range r.Plan {
		if !opt.Without[f.N] {
			keep = append(keep, f.N)
		}
	}
	best := r
	try := func(without map[int]bool) bool {
		o := opt
		o.Without, o.Keep = without, true
		got := Run(o)
		if got.Broken == nil || got.Broken.Law != r.Broken.Law {
			return false
		}
		best = got
		return true
	}
	for size := max(len(keep)/2, 1); time.Now().Before(end); {
		dropped := false
		for i := 0; i < len(keep) && time.Now().Before(end); {
			n := min(size, len(keep)-i)
			left := append(slices.Clone(keep[:i]), keep[i+n:]...)
			if try(without(r.Plan, left)) {
				keep, dropped = left, true
			} else {
				i += n
			}
		}
		if size == 1 && !dropped {
			break
		}
		size = max(size/2, 1)
	}
	if best.lines == nil {
		try(without(r.Plan, keep))
	}
	best.Shortest = []*Fault{}
	for _, f := range best.Plan {
		if slices.Contains(keep, f.N) {
			best.Shortest = append(best.Shortest, f)
		}
	}
	return best
}

func without(plan []*Fault, keep []int) map[int]bool {
	out := map[int]bool{}
	for _, f := range plan {
		if !slices.Contains(keep, f.N) {
			out[f.N] = true
		}
	}
	return out
}

// Report is what a person reads of a broken run: the law, the fewest faults, and what happened around.
func (r Result) Report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v\n", r.Seed, r.Broken)
	if r.Shortest != nil {
		fmt.Fprintf(&b, "\nwith %d of %d faults:\n", len(r.Shortest), len(r.Plan))
		for _, f := range r.Shortest {
			fmt.Fprintf(&b, "  %s\n", f)
		}
	}
	if len(r.lines) > 0 {
		b.WriteString("\nwhat happened:\n")
		for _, l := range r.story() {
			fmt.Fprintf(&b, "  %s  %-8s %s\n", l.at.Time().Format("02 15:04:05.000"), l.who, l.text)
		}
	}
	return b.String()
}

// Story is all that happened; of a run with Keep.
func (r Result) Story() string {
	var b strings.Builder
	for _, l := range r.lines {
		fmt.Fprintf(&b, "%s  %-8s %s\n", l.at.Time().Format("02 15:04:05.000"), l.who, l.text)
	}
	return b.String()
}

// story is the lines about the machine in question around its last orders and faults, and all that
// the cloud did then.
func (r Result) story() []line {
	who := r.Broken.Who
	if who == "" {
		return r.lines[max(0, len(r.lines)-60):]
	}
	tid := "T0000" + strings.Replace(who, "m", "0", 1) // as newMachine names it
	near := map[int64]bool{}
	for _, l := range r.lines {
		if l.who == who && (strings.Contains(l.text, "fault") || strings.Contains(r.Broken.What, "for "+price(l.text)+":") && price(l.text) != "") {
			for d := int64(-2); d <= 5; d++ {
				near[int64(l.at)/60_000+d] = true
			}
		}
	}
	var out []line
	for _, l := range r.lines {
		ours := l.who == who || strings.Contains(l.text, who) || strings.Contains(l.text, tid) || strings.HasPrefix(l.who, "cloud") || l.who == "oracle"
		if ours && near[int64(l.at)/60_000] {
			out = append(out, l)
		}
	}
	return out[max(0, len(out)-200):]
}

// price is that of an order's line.
func price(text string) string {
	_, p, ok := strings.Cut(text, " x ")
	if !ok {
		return ""
	}
	return p
}
