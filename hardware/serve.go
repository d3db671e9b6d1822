package hardware

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Inputs of a driver's machine beside its own commands.
type (
	Opened struct{} // the port is open
	Closed struct{} // it is not any more; only events may follow
	Bytes  struct{ B []byte }
	Wake   struct{} // the time Output.Wake asked for has come
	// Wrote is the end of a Write: how many of its bytes have left, and why not all of them.
	Wrote struct {
		N   int
		Err error
	}
)

// Action is one thing a machine wants: a Write, which is answered by Wrote before the next action,
// or an Emit.
type Action struct {
	Write []byte
	Emit  Event
}

// Output is what a step wants, in order. Wake is when to step again by the driver's clock (0: not
// before something comes); each step says it anew. End ends the opening.
type Output struct {
	Do   []Action
	Wake time.Duration
	End  error
}

// Emit and Write add to the output.
func (o *Output) Emit(e Event)   { o.Do = append(o.Do, Action{Emit: e}) }
func (o *Output) Write(b []byte) { o.Do = append(o.Do, Action{Write: b}) }

// Clock is a monotonic time that does not jump; the agent gives its Reading.Mono.
type Clock func() time.Duration

// Since is a Clock that starts now.
func Since() Clock {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// writeTime is how long one Write may take: a frame is at most 40 ms at 9,600 baud, and a device
// that takes nothing for a second is hung.
const writeTime = time.Second

// Serve is the thin part of a driver: it carries bytes, time and commands from box to a machine's
// step, and carries out what it wants, until the port fails, the machine ends, or ctx does. It closes
// the port. When it returns, what was still in box has been stepped through too (after Closed, so
// that the machine can say that it never left), and everything it started has ended.
func Serve(ctx context.Context, port Port, now Clock, step func(time.Duration, any) Output, box *Mailbox, out func(Event)) error {
	s := &server{ctx: ctx, port: port, now: now, step: step, out: out, timer: time.NewTimer(time.Hour)}
	defer s.timer.Stop()
	var once sync.Once
	shut := func() { once.Do(func() { _ = port.Close() }) }
	done, failed := make(chan struct{}), make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { // a Write that waits ends with ctx
		select {
		case <-ctx.Done():
			shut()
		case <-done:
		}
	})
	defer wg.Wait()
	defer shut()
	defer close(done)

	ring := box.open()
	defer box.shut() // after a panic too: nobody would answer what is posted
	err := s.take(Opened{})
	if err == nil {
		wg.Go(func() { failed <- s.receive() })
		err = s.loop(ring, failed, box)
	}
	s.end()
	left := box.shut()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.final(Closed{})
	for _, cmd := range left {
		s.final(cmd)
	}
	return err
}

// Driven is what most drivers are made of: a port that is opened for each Run, and a machine whose state outlives it. A
// driver embeds it, and has Open and Run.
type Driven struct {
	open func(context.Context) (Port, error)
	now  Clock
	step func(time.Duration, any) Output
	box  *Mailbox
	out  func(Event)
	port Port
}

// Drive makes one; it starts and opens nothing. step is a machine's, as Stepping makes it; out gets every event, from
// the goroutine of Run: give Supervise the same.
func Drive(open func(context.Context) (Port, error), now Clock, step func(time.Duration, any) Output, box *Mailbox, out func(Event)) Driven {
	return Driven{open: open, now: now, step: step, box: box, out: out}
}

// Stepping is a state's Step as Drive wants it: it keeps the next state where the last one was.
func Stepping[S interface {
	Step(now time.Duration, in any) (S, Output)
}](s *S) func(time.Duration, any) Output {
	return func(now time.Duration, in any) (o Output) {
		*s, o = (*s).Step(now, in)
		return o
	}
}

// Open opens the port for one Run; it is what Supervise calls.
func (d *Driven) Open(ctx context.Context) (Driver, error) {
	p, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	d.port = p
	return d, nil
}

// Run serves the opening until the port fails, the machine ends it, or ctx does. Only after Open.
func (d *Driven) Run(ctx context.Context) error {
	return Serve(ctx, d.port, d.now, d.step, d.box, d.out)
}

// server has two goroutines that step in turn: one reads, one has the time and the commands. What was read is
// stepped by its reader, as a hand-over would wake another thread for every byte of a bus that never rests.
type server struct {
	ctx  context.Context //nolint:containedctx // of one call
	port Port
	now  Clock
	out  func(Event)

	mu    sync.Mutex // guards what follows, for a step and all that it wants
	step  func(time.Duration, any) Output
	wake  time.Duration
	timer *time.Timer
	ended bool // no step any more but final ones
}

func (s *server) loop(ring <-chan struct{}, failed <-chan error, box *Mailbox) error {
	var err error
	for err == nil {
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case e := <-failed:
			return e
		case <-ring:
			for _, cmd := range box.take() {
				e := s.take(cmd)
				if errors.Is(e, errEnded) { // never on the wire: let it be said
					box.back(cmd)
				}
				if err == nil {
					err = e
				}
			}
		case <-s.timer.C:
			err = s.tick()
		}
	}
	if errors.Is(err, errEnded) { // the reader knows why
		return <-failed
	}
	return err
}

// errEnded is a step that was not taken.
var errEnded = errors.New("ended")

// take steps; after a step that ended the opening, errEnded.
func (s *server) take(in any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken(in)
}

func (s *server) taken(in any) error {
	if s.ended {
		return errEnded
	}
	s.ended = true // should it panic
	err := s.do(in)
	s.ended = err != nil
	if s.wake > 0 {
		s.timer.Reset(max(0, s.wake-s.now()))
	} else {
		s.timer.Stop()
	}
	return err
}

// tick steps if it is still time: the reader may have stepped since.
func (s *server) tick() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake == 0 {
		return nil
	}
	if left := s.wake - s.now(); left > 0 {
		s.timer.Reset(left)
		return nil
	}
	return s.taken(Wake{})
}

func (s *server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

func (s *server) do(in any) error {
	o := s.step(s.now(), in)
	s.wake = o.Wake
	end := o.End
	for todo := o.Do; len(todo) > 0; {
		a := todo[0]
		todo = todo[1:]
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		if a.Emit != nil {
			s.out(a.Emit)
			continue
		}
		_ = s.port.SetWriteDeadline(time.Now().Add(writeTime))
		n, err := s.port.Write(a.Write)
		o := s.step(s.now(), Wrote{N: n, Err: err})
		s.wake = o.Wake
		todo = append(o.Do, todo...)
		if err != nil {
			end = fmt.Errorf("write: %w", err)
		} else if o.End != nil {
			end = o.End
		}
		if end != nil { // events still count, writes cannot
			kept := todo[:0:0]
			for _, a := range todo {
				if a.Emit != nil {
					kept = append(kept, a)
				}
			}
			todo = kept
		}
	}
	return end
}

// final is a step whose events count and whose writes come too late.
func (s *server) final(in any) {
	for _, a := range s.step(s.now(), in).Do {
		if a.Emit != nil && s.ctx.Err() == nil {
			s.out(a.Emit)
		}
	}
}

// receive steps what is read until the port fails or the opening has ended.
func (s *server) receive() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = Panicked(r)
		}
	}()
	buf := make([]byte, 1024)
	for {
		n, err := s.port.Read(buf)
		if n > 0 {
			b := append([]byte(nil), buf[:n]...)
			clear(buf[:n]) // it may have been a card
			if err := s.take(Bytes{b}); err != nil {
				return err
			}
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
	}
}

// mailboxSize bounds the commands that wait for a driver. A lane has one sale: a handful wait at most.
const mailboxSize = 16

// Mailbox holds commands for a driver's goroutine. Post never waits.
type Mailbox struct {
	mu    sync.Mutex
	queue []any
	up    bool
	ring  chan struct{}
}

// Post queues cmd: ErrPortGone while no opening is served, ErrBusy when full.
func (b *Mailbox) Post(cmd any) error {
	return b.Edit(false, func(q []any) []any { return append(q, cmd) })
}

// Keep queues cmd even while no opening is served, for the next one: only ErrBusy.
func (b *Mailbox) Keep(cmd any) error {
	return b.Edit(true, func(q []any) []any { return append(q, cmd) })
}

// Edit changes the queue: Deny takes back what waits in it.
func (b *Mailbox) Edit(keep bool, f func([]any) []any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.up && !keep {
		return ErrPortGone
	}
	q := f(append([]any(nil), b.queue...))
	if len(q) > mailboxSize {
		return ErrBusy
	}
	b.queue = q
	b.knock()
	return nil
}

func (b *Mailbox) knock() {
	if b.ring == nil {
		b.ring = make(chan struct{}, 1)
	}
	select {
	case b.ring <- struct{}{}:
	default:
	}
}

func (b *Mailbox) open() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up = true
	b.knock()
	return b.ring
}

func (b *Mailbox) take() []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue
	b.queue = nil
	return q
}

func (b *Mailbox) back(cmd any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, cmd)
}

func (b *Mailbox) shut() []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue
	b.queue, b.up = nil, false
	return q
}
