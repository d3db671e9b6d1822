package sim

import (
	"errors"
	"math/rand/v2"
	"time"

	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/acquirer/iso8583"
	"coinop/cloud/payment"
	"coinop/cloud/relay"
	"coinop/protocol"
)

const linkName = "bank"

// replica is one process of the cloud. What it holds in memory is gone when it dies; the store,
// which all replicas share, stays.
type replica struct {
	w     *World
	i     int
	rng   *rand.Rand
	alive bool
	gen   int
	parts cloud.Parts
	armed int // dies at that many further steps; 0: not
	stuck time.Duration
}

func (r *replica) who() string { return [...]string{"cloud-a", "cloud-b"}[r.i] }

func (r *replica) start() {
	w := r.w
	r.gen++
	gen := r.gen
	dead := func() error {
		if r.gen != gen || !r.alive || r.step() {
			return errors.New("the process is dead")
		}
		return nil
	}
	parts, err := cloud.Wire(w.store, cloud.Wiring{
		Before: dead,
		Keys:   w.keys, VaultKeys: w.vk, Now: func() time.Time { return w.now.Time() },
		Random:    w.bytes(uint64(streamCloud)*1000 + uint64(r.i)*100_000 + uint64(gen)),
		Profile:   func(link string) (acquirer.Profile, bool) { return w.host.contract.Profile, link == linkName },
		Acquirers: func() []protocol.AcquirerState { return []protocol.AcquirerState{{Name: linkName, Up: !w.host.down}} },
		Publish: func(_ ctx, t protocol.Topic, p []byte) error {
			if err := dead(); err != nil {
				return err
			}
			return w.down(t, p)
		},
		Effect: func(e payment.Effect) {
			if dead() == nil {
				r.effect(gen, e)
			}
		},
	})
	if err != nil {
		w.fail("sim", "wire: %v", err)
		return
	}
	r.parts, r.alive = parts, true
	w.trace(r.who(), "starts")
	w.after(time.Second, w.sweepSoon)
}

// step counts the steps of a replica that is to die: between any two of them it may.
func (r *replica) step() (dead bool) {
	if r.armed > 0 {
		if r.armed--; r.armed == 0 {
			r.die()
			return true
		}
	}
	return false
}

func (r *replica) die() {
	r.alive = false
	r.w.counts.Deaths++
	r.w.trace(r.who(), "dies")
	gen := r.gen
	r.w.after(r.stuck, func() {
		if r.gen == gen && !r.alive {
			r.start()
		}
	})
}

// take handles a device's message.
func (r *replica) take(m relay.Message) {
	if r.step() {
		return
	}
	gen := r.gen
	err := r.parts.Relay.Handle(r.w.ctx, r.w.now, m)
	if err != nil && r.alive && r.gen == gen {
		r.w.trace(r.who(), "%s of %s: %v", m.Topic, m.Device, err)
	}
	r.step() // between two messages too
	r.w.sweepSoon()
}

func (r *replica) feed(gen int, ev payment.Event) {
	if r.gen != gen || !r.alive || r.step() {
		return
	}
	effects, err := r.parts.Payments.Handle(r.w.ctx, r.w.now, ev)
	if err != nil {
		if r.alive && r.gen == gen {
			r.w.fail(LawNoCrash, "payment event %T: %v", ev, err)
		}
		return
	}
	_ = r.parts.Relay.Do(r.w.ctx, effects) // a device that is not there is not told
	r.w.sweepSoon()
}

func (r *replica) sweep() {
	gen := r.gen
	effects, err := r.parts.Payments.Sweep(r.w.ctx, r.w.now)
	if r.gen != gen || !r.alive {
		r.w.after(time.Second, r.w.sweepSoon)
		return
	}
	if err != nil {
		r.w.fail(LawNoCrash, "sweep: %v", err)
		return
	}
	_ = r.parts.Relay.Do(r.w.ctx, effects)
	r.w.sweepSoon()
}

func (r *replica) effect(gen int, e payment.Effect) {
	switch e := e.(type) {
	case payment.Send:
		if e.Op.Link == acquirer.Accounts {
			r.account(gen, e)
		} else {
			r.w.host.send(r, gen, e)
		}
	case payment.Ask:
		r.ask(gen, e)
	case payment.Timer:
		r.w.after(e.At.Sub(r.w.now), func() { r.feed(gen, payment.Look{Device: e.Device, Payment: e.Payment}) })
	case payment.Publish: // the relay's
	}
}

// host is a bank and the way to it.
type host struct {
	w        *World
	rng      *rand.Rand
	bank     *hostsim.Bank
	codec    *iso8583.Codec
	contract iso8583.Contract
	down     bool
	armed    map[string][]hostsim.Behavior // by TID, for the next authorizations
	advice   map[string][]hostsim.Behavior // for the next captures and reversals
	lose     map[string]int                // frames by TID that will not reach the bank
	delay    map[string]time.Duration      // that reach it late
	arrived  map[string]protocol.UnixMS    // when the last message of a TID arrives: a connection keeps order
	extra    int64                         // tests: debited behind our back
}

func newHost(w *World) *host {
	h := &host{
		w: w, rng: w.rng(streamHost), codec: iso8583.ASCII87(), armed: map[string][]hostsim.Behavior{},
		advice: map[string][]hostsim.Behavior{}, lose: map[string]int{}, delay: map[string]time.Duration{}, arrived: map[string]protocol.UnixMS{},
	}
	h.contract = iso8583.Contract{Profile: acquirer.Profile{Name: linkName, Flow: acquirer.DualFinal, Institution: "12345678901"}}
	h.bank = hostsim.NewBank(hostsim.Options{Behave: h.behave})
	return h
}

func (h *host) heal() {
	h.down = false
	clear(h.armed)
	clear(h.advice)
	clear(h.lose)
	clear(h.delay)
}

func (h *host) behave(_ time.Time, s hostsim.Summary) hostsim.Behavior {
	queue := h.armed
	if s.MTI != "0100" && s.MTI != "0200" {
		queue = h.advice
	}
	if q := queue[s.TID]; len(q) > 0 {
		queue[s.TID] = q[1:]
		h.w.blame(s.TID, "host")
		return q[0]
	}
	if s.MTI == "0100" && !h.w.closing && h.rng.IntN(12) == 0 {
		return hostsim.Behavior{Decline: "51"}
	}
	return hostsim.Behavior{}
}

// send is what a link's Do does: one answer or error comes back, and what is late comes after it.
func (h *host) send(r *replica, gen int, e payment.Send) {
	w, op := h.w, e.Op
	tid := op.Merchant.TID
	answered := false
	back := func(a acquirer.Answer, err error) {
		ev := payment.HostAnswer{Device: e.Device, Key: op.Key, Answer: a, Err: err}
		if answered {
			if err != nil {
				return
			}
			ev.Device = "" // as from the link's late answers
		}
		answered = true
		r.feed(gen, ev)
	}
	if h.down || op.WriteBy > 0 && w.now > op.WriteBy {
		w.after(span(h.rng, time.Millisecond, 10*time.Millisecond), func() { back(acquirer.Answer{}, acquirer.ErrNotSent) })
		return
	}
	var frame []byte
	pack := func(c *acquirer.Card) error {
		m, err := h.contract.Build(op, c)
		if err != nil {
			return err
		}
		frame, err = h.codec.Pack(nil, m)
		return err
	}
	var err error
	if op.Key.Kind == acquirer.Reversal || op.Key.Kind == acquirer.PartialReversal {
		err = pack(nil)
	} else {
		err = r.parts.Vault.WithCard(w.ctx, op.Key, func(c acquirer.Card) error { return pack(&c) })
	}
	if err != nil {
		w.trace("host", "not built for %s: %s/%d: %v", tid, op.Key.Kind, op.Key.N, err)
		w.after(time.Millisecond, func() { back(acquirer.Answer{}, acquirer.ErrNotSent) })
		return
	}
	w.trace("host", "%s is sent %s/%d stan %d %s repeat=%t", tid, op.Key.Kind, op.Key.N, op.STAN, op.Amount, op.Repeat)
	if op.AnswerBy > 0 {
		w.after(op.AnswerBy.Sub(w.now), func() {
			if !answered {
				back(acquirer.Answer{}, acquirer.ErrUnknown)
			}
		})
	}
	way := span(h.rng, 3*time.Millisecond, 60*time.Millisecond)
	if d := h.delay[tid]; d > 0 {
		way += d
		delete(h.delay, tid)
		w.blame(tid, "host")
	}
	if h.lose[tid] > 0 {
		h.lose[tid]--
		w.blame(tid, "host")
		return
	}
	at := w.now.Add(way)
	if way < time.Second { // what is late came over another way
		at = max(at, h.arrived[tid])
		h.arrived[tid] = at
	}
	w.after(at.Sub(w.now), func() { h.arrive(tid, op, frame, back) })
}

func (h *host) arrive(tid string, op acquirer.Op, frame []byte, back func(acquirer.Answer, error)) {
	w := h.w
	replies := h.bank.Handle(w.now.Time(), frame)
	h.bank.Take()
	for _, rep := range replies {
		w.after(rep.After+span(h.rng, 3*time.Millisecond, 60*time.Millisecond), func() {
			if rep.Drop {
				back(acquirer.Answer{}, acquirer.ErrUnknown)
				return
			}
			m, err := h.codec.Unpack(rep.Frame)
			if err != nil {
				w.fail("sim", "unpack: %v", err)
				return
			}
			ans, ok := h.contract.Match(op, m)
			if !ok {
				w.trace("host", "%s answers something nobody asked", tid)
				return
			}
			w.trace("host", "%s answers %s/%d: %s %s", tid, op.Key.Kind, op.Key.N, ans.Raw, ans.Outcome)
			back(ans, nil)
		})
	}
}
