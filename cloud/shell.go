package cloud

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/iso8583"
	"coinop/cloud/payment"
	"coinop/cloud/telemetry"
	"coinop/protocol"
)

// shell runs what payment wants done: it waits for hosts and timers, and feeds what comes of it
// back. Nothing in it is worth keeping: a lease, the sweep and the devices' repeats replace it.
type shell struct {
	log       *slog.Logger
	telemetry *telemetry.Telemetry // nil: none
	parts     Parts
	links     map[string]acquirer.Acquirer
	profiles  map[string]acquirer.Profile
	hosts     []host

	ctx  context.Context // of the run; set before the first effect, as is crew
	crew *crew           // waits for hosts and takes their answers in
	wg   sync.WaitGroup  // all else

	mu    sync.Mutex                   // guards what follows
	under map[acquirer.OpKey]*underway // reversals on their way
	ended bool                         // timers that fire from now on find nobody
}

// underway says how far an operation has come.
type underway struct {
	written chan struct{} // closed when it has left
	ended   chan struct{} // closed when Do has returned
}

// wireWait bounds how long an authorization waits for the reversals before it to leave: they are
// not to be the reason that a buyer waits.
const wireWait = 300 * time.Millisecond

type host struct {
	name string
	link *iso8583.Link
}

func (s *shell) acquirers() []protocol.AcquirerState {
	out := make([]protocol.AcquirerState, len(s.hosts))
	for i, h := range s.hosts {
		out[i] = protocol.AcquirerState{Name: h.name, Up: h.link.State().Up}
	}
	return out
}

// run serves until ctx ends: first no message comes in any more, then what is under way ends.
func (s *shell) run(ctx context.Context, b engine) error {
	links, stopLinks := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLinks()
	s.ctx, s.crew = links, newCrew(links.Done())
	var hosts sync.WaitGroup
	for _, h := range s.hosts {
		hosts.Go(func() { _ = h.link.Run(links) })
	}
	hosts.Go(func() { _ = s.parts.Vault.Run(links) })
	s.wg.Go(func() { s.sweep(ctx) })
	s.wg.Go(func() { s.announce(ctx) })
	s.wg.Go(func() { _ = s.parts.Relay.Run(ctx) })
	err := b.Run(ctx)
	stopLinks()
	hosts.Wait()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.wg.Wait() // these give the crew work
	s.crew.wait()
	return err
}

// effect must not block: it is called by whoever committed.
func (s *shell) effect(e payment.Effect) {
	switch e := e.(type) {
	case payment.Send:
		done := s.begin(e.Op.Key)
		s.crew.do(func() {
			s.waitFor(e)
			end := s.telemetry.Host(e.Op)
			ans, err := s.do(e.Op)
			end(ans, err)
			done()
			s.feed(payment.HostAnswer{Device: e.Device, Key: e.Op.Key, Answer: ans, Err: err})
		})
	case payment.Ask:
		s.crew.do(func() {
			ev := payment.QueryAnswer{Device: e.Device, Key: e.Op.Key}
			if link := s.links[e.Op.Link]; link != nil {
				ev.Answer, ev.Err = link.Query(s.ctx, e.Op)
			} else {
				ev.Err = acquirer.ErrNotSent
			}
			s.feed(ev)
		})
	case payment.Timer:
		// Thousands wait at a time and nearly all find their payment answered: none is worth a goroutine.
		time.AfterFunc(time.Until(e.At.Time()), func() { s.look(e) })
	case payment.Publish: // the relay's
	}
}

// look is a timer that fired.
func (s *shell) look(e payment.Timer) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	s.feed(payment.Look{Device: e.Device, Payment: e.Payment})
}

// begin notes a reversal as being on its way; done ends that.
func (s *shell) begin(k acquirer.OpKey) (done func()) {
	if k.Kind != acquirer.Reversal && k.Kind != acquirer.PartialReversal {
		return func() {}
	}
	u := &underway{written: make(chan struct{}), ended: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under[k] = u
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(u.ended)
		if s.under[k] == u {
			delete(s.under, k)
		}
	}
}

// written is the links' word that an operation has left.
func (s *shell) written(k acquirer.OpKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.under[k]; u != nil {
		select {
		case <-u.written:
		default:
			close(u.written)
		}
	}
}

// waitFor lets the operations that are to go before e go.
func (s *shell) waitFor(e payment.Send) {
	if len(e.After) == 0 {
		return
	}
	most := wireWait
	if e.Await {
		most = max(0, time.Until(e.Op.WriteBy.Time()))
	}
	late := time.NewTimer(most)
	defer late.Stop()
	for _, k := range e.After {
		s.mu.Lock()
		u := s.under[k]
		s.mu.Unlock()
		if u == nil {
			continue // it has ended
		}
		gone := u.written
		if e.Await {
			gone = u.ended
		}
		select {
		case <-gone:
		case <-u.ended:
		case <-late.C:
			return
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *shell) do(op acquirer.Op) (acquirer.Answer, error) {
	link := s.links[op.Link]
	if link == nil {
		return acquirer.Answer{}, fmt.Errorf("no link %q: %w", op.Link, acquirer.ErrNotSent)
	}
	return link.Do(s.ctx, op)
}

func (s *shell) late(k acquirer.OpKey, ans acquirer.Answer) {
	s.crew.do(func() { s.feed(payment.HostAnswer{Key: k, Answer: ans}) })
}

// feed hands an event to payment. After the end of the run nothing is: what was asked of a host is
// then unknown to this replica, and its lease says so.
func (s *shell) feed(ev payment.Event) {
	if s.ctx.Err() != nil {
		return
	}
	end := func(error) {}
	if a, ok := ev.(payment.HostAnswer); ok {
		end = s.telemetry.Answered(a.Key.Payment)
	}
	effects, err := s.parts.Payments.Handle(s.ctx, protocol.At(time.Now()), ev)
	if err != nil {
		end(err)
		s.log.Error("payment event not handled", "event", fmt.Sprintf("%T", ev), "error", err)
		return
	}
	err = s.parts.Relay.Do(s.ctx, effects)
	if end(err); err != nil {
		s.log.Debug("device not told", "error", err)
	}
}

// announceEvery is how often it is looked whether a link to an acquirer has come or gone: a link that comes and goes
// is told no more often.
const announceEvery = time.Second

// announce tells the devices that are connected when a link to an acquirer comes or goes: one at which nobody buys
// would not ask, and its lane says what it sells by.
func (s *shell) announce(ctx context.Context) {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	was := s.acquirers()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := s.acquirers()
		if slices.Equal(now, was) {
			continue
		}
		was = now
		if err := s.parts.Relay.Announce(ctx, protocol.At(time.Now()), s.parts.Announced); err != nil && ctx.Err() == nil {
			s.log.Debug("devices not told of their acquirers", "error", err)
		}
	}
}

func (s *shell) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		effects, err := s.parts.Payments.Sweep(ctx, protocol.At(time.Now()))
		if err != nil && ctx.Err() == nil {
			s.log.Error("sweep", "error", err)
		}
		if err := s.parts.Relay.Do(ctx, effects); err != nil {
			s.log.Debug("device not told", "error", err)
		}
	}
}
