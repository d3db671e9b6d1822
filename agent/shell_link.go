package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"coinop/agent/uplink"
	"coinop/protocol"
	"coinop/protocol/code"
)

// Pauses between two connections: doubled from the first to the last, half of each random, so that a
// fleet that lost its cloud does not come back in one second. A connection that lived longer than calm
// starts again at the first.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 30 * time.Second
	calm       = 10 * time.Second
)

// publishQueue bounds what waits for a connection. A device has a handful of messages on their way; a
// link that does not take this many is hung, and is closed: all that matters is sent again on the next.
const publishQueue = 64

// Why we close a connection ourselves.
var (
	errHung  = errors.New("the connection takes nothing any more")
	errRenew = errors.New("a new connection is due: this one's ticket is old, or the cloud is silent on it")
)

// conn is a connection that stands, as the owner sees it.
type conn struct {
	queue chan Publish
	end   context.CancelCauseFunc
}

// publish never waits.
func (s *shell) publish(p Publish) {
	if s.conn == nil {
		return
	}
	select {
	case s.conn.queue <- p:
	default:
		s.conn.end(errHung)
		s.conn = nil // the uplink's goroutine says Disconnected when it has closed it
	}
}

// uplink connects, and connects again, until ctx ends.
func (s *shell) uplink(ctx context.Context) {
	pause, said := firstPause, ""
	for {
		began := time.Now()
		stood, err := s.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		// The same trouble again is told once.
		if errors.Is(err, errRenew) {
			s.log.Info("connection renewed", "cloud", s.cfg.Cloud, "cause", err.Error())
		} else if text := err.Error(); stood || text != said {
			said = text
			s.log.Warn("no connection to the cloud", "cloud", s.cfg.Cloud, "error", err, "check", hint(err))
		}
		if time.Since(began) > calm {
			pause = firstPause
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // jitter
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, lastPause)
	}
}

// connection is one, from its number to its end. stood: the cloud took it.
func (s *shell) connection(ctx context.Context) (stood bool, err error) {
	var connected uplink.Connected
	var hello, will []byte
	config, err := s.cfg.Identity.tls(s.cfg.Cloud)
	if err != nil {
		return false, err
	}
	if !s.inOwner(ctx, func() (err error) {
		connected, hello, will, err = s.device.Dial(s.now())
		return err
	}) {
		return false, context.Cause(ctx)
	}
	live, end := context.WithCancelCause(ctx)
	defer end(nil)
	id := s.cfg.Identity.Device
	ses, err := uplink.Dialer{Addr: s.cfg.Cloud, TLS: config, Device: id, Will: will}.Dial(live, func(m uplink.Inbound) {
		select {
		case s.inbox <- m:
		default: // the cloud answers our repeats
		}
	})
	if err != nil {
		return false, err
	}
	defer ses.Close()
	if err := ses.Publish(protocol.TopicOf(id, protocol.UpConn), hello); err != nil {
		return false, err
	}
	c := &conn{queue: make(chan Publish, publishQueue), end: end}
	if !s.inOwner(ctx, func() error {
		s.conn, s.joined = c, time.Now()
		s.log.Info("connected to the cloud", "cloud", s.cfg.Cloud, "connection", connected.Number)
		return s.handle(Uplink{connected})
	}) {
		return false, context.Cause(ctx)
	}
	var telling sync.WaitGroup
	telling.Go(func() { s.cfg.telemetry.tell(live, ses, id) })
	err = pump(live, ses, c.queue)
	end(err)
	telling.Wait()
	if ctx.Err() != nil { // an end on purpose says so: the broker tells no last will after it
		_ = ses.Publish(protocol.TopicOf(id, protocol.UpConn), farewell(will))
		return true, context.Cause(ctx)
	}
	s.inOwner(ctx, func() error {
		s.conn = nil
		return s.handle(Uplink{uplink.Disconnected{}})
	})
	return true, err
}

func pump(ctx context.Context, ses *uplink.Session, queue <-chan Publish) error {
	for {
		select {
		case p := <-queue:
			if err := ses.Publish(p.Topic, p.Payload); err != nil {
				return err
			}
		case <-ses.Lost():
			return ses.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// farewell is the last will with the reason of an end on purpose.
func farewell(will []byte) []byte {
	var c protocol.Conn
	if err := protocol.DecodeExact(will, &c); err != nil {
		return will
	}
	c.Reason = "stopped"
	return protocol.MustEncode(c)
}

// hint is what a technician can look at.
func hint(err error) string {
	c := linkCode(err)
	if errors.Is(err, uplink.ErrRefused) {
		c = code.IdentityUnknown
	}
	f := code.Of(c)
	return f.Cause + ": " + f.Next
}
