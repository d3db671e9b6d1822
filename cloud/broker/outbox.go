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
//
// Who writes is a goroutine that lives while there is something to write: most devices are silent
// most of the time, and there are many.
type outbox struct {
	mu      sync.Mutex
	queue   []byte
	spare   []byte // the buffer written last
	shut    bool
	writing bool
	flushed chan struct{} // made by Close; closed when nothing is written any more
	later   *time.Timer   // writes what may wait a little
	waits   bool          // later is running
	writers sync.WaitGroup
}

// Limits of an outbox.
const (
	maxWaiting = 2 << 20 // bytes
	writeTime  = 20 * time.Second
	flushTime  = 250 * time.Millisecond // for the last words when a connection is closed
)

var errSlow = errors.New("the peer does not read")

// Write queues. It never waits for the peer.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.queue(p, nil); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ackTime is how long a PUBACK may wait for something to travel with: as TCP delays its own. What was
// asked for is mostly answered by then, and one write takes both.
const ackTime = 40 * time.Millisecond

// queue is Write of two pieces that belong together.
func (c *conn) queue(head, body []byte) error { return c.put(head, body, false) }

// acknowledge queues a PUBACK, to be written with what comes next or soon.
func (c *conn) acknowledge(id []byte) { _ = c.put([]byte{typePuback << 4, 2}, id, true) }

func (c *conn) put(head, body []byte, mayWait bool) error {
	o := &c.out
	o.mu.Lock()
	full, shut := len(o.queue)+len(head)+len(body) > maxWaiting, o.shut
	if !full && !shut {
		o.queue = append(append(o.queue, head...), body...)
		switch {
		case o.writing:
		case !mayWait:
			c.begin()
		case o.later == nil:
			o.later, o.waits = time.AfterFunc(ackTime, c.flush), true
		case !o.waits:
			o.later.Reset(ackTime)
			o.waits = true
		}
	}
	o.mu.Unlock()
	switch {
	case shut:
		return net.ErrClosed
	case full:
		if !c.isClosed() {
			c.stats.count(ReasonSlow)
		}
		c.abort()
		return errSlow
	}
	return nil
}

// begin lets a goroutine write. The caller holds mu.
func (c *conn) begin() {
	c.out.writing = true
	c.out.writers.Go(c.write)
}

// flush is the timer's: what waited goes, if it has not gone already.
func (c *conn) flush() {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waits = false; len(o.queue) > 0 && !o.writing && !o.shut {
		c.begin()
	}
}

// write sends what is queued until nothing is left or the connection ends.
func (c *conn) write() {
	o := &c.out
	for {
		o.mu.Lock()
		p := o.queue
		if len(p) == 0 || c.isClosed() {
			o.writing = false
			if o.flushed != nil {
				close(o.flushed)
				o.flushed = nil
			}
			o.mu.Unlock()
			return
		}
		o.queue, o.spare = o.spare[:0], nil
		o.mu.Unlock()
		_ = c.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := c.Conn.Write(p); err != nil {
			c.abort()
		}
		if cap(p) > keptBuffer {
			continue
		}
		o.mu.Lock()
		o.spare = p
		o.mu.Unlock()
	}
}

// SetDeadline is mochi's, for the keepalive: it is about what is read.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Close is mochi's; of a connection that is ours it closes nothing.
func (c *conn) Close() error {
	if !c.ours {
		c.shut()
	}
	return nil
}

// shut closes: the last words, a refusal perhaps, are given a moment. tls.Conn.Close would wait up to
// 5 s for a stalled peer.
func (c *conn) shut() {
	o := &c.out
	o.mu.Lock()
	var flushed chan struct{}
	if !o.shut && len(o.queue) > 0 && !o.writing {
		c.begin()
	}
	if !o.shut && o.writing {
		flushed = make(chan struct{})
		o.flushed = flushed
	}
	o.shut = true
	if o.later != nil {
		o.later.Stop()
	}
	o.mu.Unlock()
	if flushed != nil {
		select {
		case <-flushed:
		case <-c.closed:
		case <-time.After(flushTime):
		}
	}
	c.abort()
}
