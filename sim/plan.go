package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"coinop/cloud/acquirer/hostsim"
)

// Kind of a fault.
type Kind uint8

// Kinds of fault.
const (
	PowerCut  Kind = iota // a device loses its power at a boundary of what it does
	LinkCut               // a device loses its link
	LoseUp                // a message up is lost after its PUBACK
	RepeatUp              // a message up comes twice
	ReorderUp             // a message up is late: later ones come first
	LoseDown
	ReorderDown
	CloudDeath  // a replica dies between any two steps
	HostDown    // the bank cannot be reached
	HostOdd     // the bank's next answer to a machine is silent, late, double, wrong ...
	HostAdvice  // the bank refuses the next capture or reversal for now
	HostLose    // the next message to the bank is lost on the way
	HostDelay   // it comes late: a request may come after its reversal
	VendFault   // the vending side's next vend goes wrong
	ClockJump   // a device's clock jumps
	DiskSpoiled // one copy of a device's journal is unreadable after a power cut, or both; drawn on its own
	kinds
)

func (k Kind) String() string {
	return [...]string{
		"power cut", "link cut", "lose up", "repeat up", "reorder up", "lose down", "reorder down", "cloud death",
		"host down", "host odd", "host advice", "host lose", "host delay", "vend fault", "clock jump", "disk spoiled", "?",
	}[min(k, kinds)]
}

type cutMode uint8

const (
	cutBefore cutMode = iota // a commit: nothing is there
	cutTorn                  // in the middle of it: bytes are there that do not count
	cutAfter                 // after it: everything is there, nobody was told
	cutEffect                // between two effects
)

func (m cutMode) String() string { return [...]string{"before", "in", "after", "between"}[m] }

// Fault is one thing that goes wrong. It strikes Delay after the next order of its machine that
// comes after At, so that most strike while money is under way.
type Fault struct {
	N       int
	Kind    Kind
	Machine int
	At      time.Duration // since the run began
	Delay   time.Duration
	For     time.Duration // of a cut
	Count   int           // messages, or steps until it strikes
	Mode    cutMode
	Whole   bool // the vending side loses its power too; of a disk, both copies
	Vend    vendFault
	Odd     hostsim.Behavior
	OddName string
}

func (f *Fault) String() string {
	s := fmt.Sprintf("#%d %s at m%02d, order after %s, %s later", f.N, f.Kind, f.Machine, f.At.Round(time.Second), f.Delay.Round(time.Millisecond))
	switch f.Kind {
	case PowerCut:
		s += fmt.Sprintf(": %s boundary %d, for %s, whole=%t", f.Mode, f.Count, f.For.Round(time.Second), f.Whole)
	case DiskSpoiled:
		s += fmt.Sprintf(": both copies=%t", f.Whole)
	case LinkCut, HostDown, CloudDeath:
		s += fmt.Sprintf(": for %s, after %d steps", f.For.Round(time.Second), f.Count)
	case HostOdd, HostAdvice:
		s += ": " + f.OddName
	case VendFault:
		s += ": " + f.Vend.String()
	default:
		s += fmt.Sprintf(": %d", f.Count)
	}
	return s
}

// plan draws the faults of a seed. Each seed has its own mix: some kinds never come, some often.
func plan(w *World) []*Fault {
	r := w.rng(streamPlan)
	weight := make([]int, DiskSpoiled)
	total := 0
	for k := range weight {
		if r.IntN(4) > 0 {
			weight[k] = 1 + r.IntN(6)
		}
		total += weight[k]
	}
	if total == 0 {
		return nil
	}
	n := w.opt.Machines * (4 + r.IntN(13)) * int(w.opt.For.Hours()+1) / 72
	out := make([]*Fault, 0, n)
	for i := range n {
		pick, k := r.IntN(total), Kind(0)
		for pick >= weight[k] {
			pick -= weight[k]
			k++
		}
		out = append(out, draw(r, i, k, w.opt))
	}
	return append(out, disks(w, len(out))...)
}

// disks draws the disks that a seed spoils, few and from choices of their own. The last is early enough
// for approvals that nobody settles any more to be taken back before the end.
func disks(w *World, n int) []*Fault {
	r, last := w.rng(streamDisk), w.opt.For-30*time.Hour
	if last <= 0 {
		return nil
	}
	var out []*Fault
	for range r.IntN(4) {
		f := draw(r, n+len(out), DiskSpoiled, w.opt)
		f.At, f.Delay = span(r, 0, last), span(r, 0, 20*time.Second)
		f.Whole = r.IntN(2) == 0
		out = append(out, f)
	}
	return out
}

func draw(r *rand.Rand, n int, k Kind, opt Options) *Fault {
	f := &Fault{
		N: n, Kind: k, Machine: r.IntN(opt.Machines), At: span(r, 0, opt.For-opt.For/20), Delay: span(r, 0, 25*time.Second),
		Count: 1 + r.IntN(3), For: span(r, 3*time.Second, 4*time.Minute),
	}
	if r.IntN(10) == 0 {
		f.For = span(r, 10*time.Minute, 6*time.Hour)
	}
	switch k {
	case PowerCut:
		f.Delay = 0
		if r.IntN(3) == 0 {
			f.Delay = span(r, 0, 20*time.Second)
		}
		f.Mode, f.Count, f.Whole = cutMode(r.IntN(4)), r.IntN(9), r.IntN(3) == 0
	case LinkCut:
		if r.IntN(12) == 0 {
			f.For = span(r, 25*time.Hour, 30*time.Hour)
		}
	case CloudDeath:
		f.Count = 1 + r.IntN(12)
		f.For = span(r, 500*time.Millisecond, 40*time.Second)
		if r.IntN(6) == 0 {
			f.For = span(r, time.Minute, 20*time.Minute)
		}
	case HostOdd:
		odd := []string{
			"silent", "late:2s", "late:7s", "late:20s", "late:70s", "twice", "wrong-stan", "wrong-amount", "drop-before", "drop-after",
			"partial:60", "decline:05", "decline:91",
		}
		f.OddName = odd[r.IntN(len(odd))]
	case HostAdvice:
		odd := []string{"soft", "silent", "late:30s", "twice", "drop-before", "drop-after"}
		f.OddName = odd[r.IntN(len(odd))]
	case HostDelay:
		f.For = span(r, 5*time.Second, 80*time.Second)
	case VendFault:
		f.Vend = vendFault(1 + r.IntN(int(vendFaults)-1))
		f.Delay = 0
	case LoseUp, RepeatUp, ReorderUp, LoseDown, ReorderDown, HostDown, HostLose, ClockJump, DiskSpoiled:
	}
	if f.OddName != "" {
		how, err := hostsim.ParseBehavior(f.OddName)
		if err != nil {
			panic(err)
		}
		f.Odd = how
		f.Delay = 0
	}
	return f
}

// inject makes a fault wait for its machine's next order.
func (w *World) inject(f *Fault) { m := w.machines[f.Machine]; m.waits = append(m.waits, f) }

// strike lets it happen.
func (w *World) strike(f *Fault, m *machine) {
	if w.closing {
		return
	}
	w.counts.Faults++
	w.trace(m.name, "fault %s", f)
	switch f.Kind {
	case PowerCut:
		m.cut, m.skip = f, f.Count
	case LinkCut:
		m.blame("link")
		m.linkCut, m.cutSince = true, w.now
		m.disconnect(span(m.net, 0, 45*time.Second))
		if f.For > 24*time.Hour {
			m.blame("outage")
		}
		w.after(f.For, func() {
			m.linkCut = false
			if m.on && m.conn == nil {
				m.connectSoon(time.Second)
			}
		})
	case LoseUp:
		m.lose += f.Count
	case RepeatUp:
		m.twice += f.Count
	case ReorderUp:
		m.slow += f.Count
	case LoseDown:
		m.deaf += f.Count
	case ReorderDown:
		m.slowDown += f.Count
	case CloudDeath:
		r := w.replicas[f.N%2]
		if r.alive && r.armed == 0 {
			r.armed, r.stuck = f.Count, f.For
		}
	case HostDown:
		w.host.down = true
		w.after(f.For, func() { w.host.down = false })
	case HostOdd:
		w.host.armed[m.tid] = append(w.host.armed[m.tid], f.Odd)
	case HostAdvice:
		w.host.advice[m.tid] = append(w.host.advice[m.tid], f.Odd)
	case HostLose:
		w.host.lose[m.tid]++
	case HostDelay:
		w.host.delay[m.tid] = f.For
	case VendFault:
		m.vmc.next = f.Vend
	case ClockJump:
		m.wall += span(m.net, -72*time.Hour, 72*time.Hour)
	case DiskSpoiled:
		m.spoil(f.Whole, f.For)
	case kinds:
	}
}
