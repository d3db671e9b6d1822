// Package sim is a whole fleet in one process and one goroutine: the real agents (Core, Link, journal
// in memory), the real relay, intake, payment, ledger and SQLite, and models of all that is not ours:
// power, disks, links, broker, vending machines, buyers and a bank. Time is virtual and every choice
// comes from a seed, so a run can be repeated to the letter.
//
//	res := sim.Run(sim.Options{Seed: 7})
//	if res.Broken != nil { fmt.Println(res.Report()) }
//
// An oracle judges: it knows only what fell out of the machines, the bank's books and the faults
// that were injected, and holds the fleet to the laws of laws.go.
package sim

import (
	"container/heap"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"time"

	"coinop/cloud/identity"
	"coinop/cloud/store"
	"coinop/cloud/vault"
	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"
)

// epoch0 is when every run begins: a Tuesday, 06:00 UTC.
var epoch0 = protocol.At(time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC))

// Options of a run.
type Options struct {
	Seed     uint64
	Machines int           // 20
	For      time.Duration // buyers come for that long: 72 h
	// Without are faults (indexes of the seed's plan) that do not happen: for shrinking.
	Without map[int]bool
	// Only, when not nil, are the only ones that do.
	Only map[int]bool
	// Keep all lines of the trace, not only its hash.
	Keep bool
}

// World is one run.
type World struct {
	opt    Options
	ctx    context.Context //nolint:containedctx // of one run, never cancelled
	now    protocol.UnixMS
	events events
	seq    uint64
	sum    hash.Hash
	lines  []line
	broken *Broken

	machines []*machine
	replicas []*replica
	host     *host
	store    *store.Store
	keys     identity.Keys
	vk       vault.Keys
	plan     []*Fault
	closing  bool // no new buyers
	sweepAt  protocol.UnixMS
	counts   Counts
	tabs     tabs   // of cards of the operator's own
	before   func() // tests: runs before the judgement
}

// Counts are what happened in a run.
type Counts struct {
	Orders, Sold, Refused, Walked      int
	Drops, Faults, Boots, Deaths, Cuts int
	Events                             int
	Captured                           int64
	Cases, Spoiled                     int
	Repeats                            int
}

func (c *Counts) add(o Counts) {
	c.Orders, c.Sold, c.Refused, c.Walked = c.Orders+o.Orders, c.Sold+o.Sold, c.Refused+o.Refused, c.Walked+o.Walked
	c.Drops, c.Faults, c.Boots, c.Deaths, c.Cuts = c.Drops+o.Drops, c.Faults+o.Faults, c.Boots+o.Boots, c.Deaths+o.Deaths, c.Cuts+o.Cuts
	c.Spoiled += o.Spoiled
	c.Events, c.Captured, c.Cases, c.Repeats = c.Events+o.Events, c.Captured+o.Captured, c.Cases+o.Cases, c.Repeats+o.Repeats
}

// String is one line for people.
func (c Counts) String() string {
	return fmt.Sprintf("%d orders, %d sold for %s, %d refused, %d drops, %d cases; %d faults: %d power cuts, %d disks spoiled, %d cloud deaths, %d repeats; %d events",
		c.Orders, c.Sold, eur(c.Captured), c.Refused, c.Drops, c.Cases, c.Faults, c.Cuts, c.Spoiled, c.Deaths, c.Repeats, c.Events)
}

type line struct {
	at   protocol.UnixMS
	who  string
	text string
}

type event struct {
	at  protocol.UnixMS
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	o := *e
	x := o[len(o)-1]
	*e = o[:len(o)-1]
	return x
}

// after schedules do.
func (w *World) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now.Add(max(d, 0)), w.seq, do})
}

// trace notes what happened. Nothing random of cryptography may stand in it.
func (w *World) trace(who, format string, args ...any) {
	l := line{w.now, who, fmt.Sprintf(format, args...)}
	fmt.Fprintf(w.sum, "%d %s %s\n", l.at, l.who, l.text)
	if w.opt.Keep {
		w.lines = append(w.lines, l)
	}
}

// rng is a stream of choices of its own: what happens to one part does not move another's.
func (w *World) rng(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(w.opt.Seed, stream)) }

// bytes is randomness for ids.
func (w *World) bytes(stream uint64) *rand.ChaCha8 {
	var seed [32]byte
	for i := range 8 {
		seed[i], seed[8+i] = byte(w.opt.Seed>>(8*i)), byte(stream>>(8*i))
	}
	return rand.NewChaCha8(seed)
}

// Streams.
const (
	streamPlan = iota + 1
	streamHost
	streamCloud
	streamNet
	streamDisk
	streamMachine = 1000
)

func span(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)+1))
}

func newWorld(opt Options) (*World, error) {
	if opt.Machines == 0 {
		opt.Machines = 20
	}
	if opt.For == 0 {
		opt.For = 72 * time.Hour
	}
	w := &World{opt: opt, ctx: context.Background(), now: epoch0, sum: sha256.New()}
	var err error
	if w.store, err = store.Open(w.ctx, store.Options{Path: ":memory:"}); err != nil {
		return nil, err
	}
	if err := w.makeKeys(); err != nil {
		return nil, err
	}
	if err := w.openAccounts(); err != nil {
		return nil, err
	}
	w.host = newHost(w)
	for i := range 2 {
		w.replicas = append(w.replicas, &replica{w: w, i: i, rng: w.rng(streamCloud + uint64(i)*100)})
	}
	for i := range opt.Machines {
		m, err := newMachine(w, i)
		if err != nil {
			return nil, err
		}
		w.machines = append(w.machines, m)
	}
	w.plan = plan(w)
	return w, nil
}

func (w *World) makeKeys() error {
	a, err := identity.NewAuthority(w.now.Time())
	if err != nil {
		return err
	}
	relay, err := seal.NewPrivateKey()
	if err != nil {
		return err
	}
	card, err := seal.NewPrivateKey()
	if err != nil {
		return err
	}
	signer, err := a.Server([]string{"cloud"}, w.now.Time()) // any ES256 key will do
	if err != nil {
		return err
	}
	w.keys = identity.Keys{
		Authority: a, Relay: relay, Payment: card, Signing: seal.Signer{Key: signer.Key, KeyID: "cloud"},
		Anchor: []byte("an anchor key of the simulator.."),
	}
	text, err := vault.NewKeyLine("k1")
	if err != nil {
		return err
	}
	w.vk, err = vault.ParseKeys(text)
	return err
}

// run plays the whole run: buyers and faults, then healing, then one more sale on every machine,
// then quiet; and judges.
func (w *World) run() {
	for _, r := range w.replicas {
		r.start()
	}
	for _, m := range w.machines {
		m.powerOn()
		m.nextBuyer()
	}
	for _, f := range w.plan {
		if !w.opt.Without[f.N] && (w.opt.Only == nil || w.opt.Only[f.N]) {
			w.after(f.At, func() { w.inject(f) })
		}
	}
	w.play(epoch0.Add(w.opt.For))
	w.heal()
	w.play(w.now.Add(3 * time.Hour)) // what the faults left behind ends
	for _, m := range w.machines {
		m.lastBuyer()
	}
	w.play(w.now.Add(2 * time.Hour))
	if w.before != nil {
		w.before()
	}
	w.judge()
}

func (w *World) play(until protocol.UnixMS) {
	for w.broken == nil && len(w.events) > 0 && w.events[0].at <= until {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		w.counts.Events++
		e.do()
	}
	w.now = max(w.now, until)
}

// heal ends every fault; no buyer comes any more but the last ones.
func (w *World) heal() {
	w.trace("world", "heals")
	w.closing = true
	w.host.heal()
	for _, r := range w.replicas {
		r.armed = 0
		if !r.alive {
			r.start()
		}
	}
	for _, m := range w.machines {
		m.heal()
	}
}

// sweepSoon lets a replica look when the store says that something is due.
func (w *World) sweepSoon() {
	next, err := w.store.NextDue(w.ctx)
	if err != nil {
		w.fail("sim", "next due: %v", err)
		return
	}
	if next == 0 {
		return
	}
	next = max(next, w.now.Add(200*time.Millisecond))
	if w.sweepAt > w.now && w.sweepAt <= next {
		return
	}
	w.sweepAt = next
	w.after(next.Sub(w.now), func() {
		if w.sweepAt != next {
			return
		}
		w.sweepAt = 0
		if r := w.replica(); r != nil {
			r.sweep()
		} else {
			w.after(time.Second, w.sweepSoon)
		}
	})
}

// replica is one that lives, or nil.
func (w *World) replica() *replica {
	alive := make([]*replica, 0, 2)
	for _, r := range w.replicas {
		if r.alive {
			alive = append(alive, r)
		}
	}
	if len(alive) == 0 {
		return nil
	}
	return alive[int(w.seq)%len(alive)]
}

func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }
