package broker

import (
	"errors"
	"net"
	"sync"
	"time"
)

// outbox is what waits to be written. mochi writes while it holds the client's lock, and takes the
// same lock to number a message for it: with a peer that does not read, whoever publishes to it, a
// worker with a payment in hand, would wait until its keepalive is over. So a Write only queues, and
// a peer that lets too much wait is closed; what mattered the device asks for again.
type outbox struct {
	mu    sync.Mutex
	queue []byte
	spare []byte // the buffer written last
	shut  bool
	wake  chan struct{} // holds one
	done  chan struct{} // closed when the writer has ended
}

// Limits of an outbox.
const (
	maxWaiting = 2 << 20 // bytes
	writeTime  = 20 * time.Second
	flushTime  = 250 * time.Millisecond // for the last words when a connection is closed
)

var errSlow = errors.New("the peer does not read")

func (o *outbox) init() { o.wake, o.done = make(chan struct{}, 1), make(chan struct{}) }

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Write queues. It never waits for the peer.
func (c *conn) Write(p []byte) (int, error) {
	o := &c.out
	o.mu.Lock()
	full, shut := len(o.queue)+len(p) > maxWaiting, o.shut
	if !full && !shut {
		o.queue = append(o.queue, p...)
	}
	o.mu.Unlock()
	switch {
	case shut:
		return 0, net.ErrClosed
	case full:
		if !c.isClosed() {
			c.stats.count(ReasonSlow)
		}
		c.abort()
		return 0, errSlow
	}
	o.signal()
	return len(p), nil
}

// write sends what is queued until the connection ends or, after Close, nothing is left.
func (c *conn) write() {
	o := &c.out
	defer close(o.done)
	for {
		o.mu.Lock()
		p, shut := o.queue, o.shut
		o.queue = o.spare[:0]
		o.mu.Unlock()
		if c.isClosed() || len(p) == 0 && shut {
			return
		}
		if len(p) > 0 {
			_ = c.SetWriteDeadline(time.Now().Add(writeTime))
			if _, err := c.Conn.Write(p); err != nil {
				c.abort()
				return
			}
		}
		if cap(p) > keptBuffer {
			p = nil
		}
		o.mu.Lock()
		o.spare = p
		more := len(o.queue) > 0 || o.shut
		o.mu.Unlock()
		if more {
			continue
		}
		select {
		case <-o.wake:
		case <-c.closed:
		}
	}
}

// SetDeadline is mochi's, for the keepalive: it is about what is read.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Close is mochi's: the last words, a refusal perhaps, are given a moment. tls.Conn.Close would wait
// up to 5 s for a stalled peer.
func (c *conn) Close() error {
	o := &c.out
	o.mu.Lock()
	first := !o.shut
	o.shut = true
	o.mu.Unlock()
	o.signal()
	if first && !c.isClosed() {
		select {
		case <-o.done:
		case <-c.closed:
		case <-time.After(flushTime):
		}
	}
	c.abort()
	return nil
}
