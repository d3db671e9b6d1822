package broker

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"coinop/protocol"

	mqtt "github.com/mochi-mqtt/server/v2"
)

// conn is a device's connection. mochi knows it as a net.Conn and reads whole packets from it that
// the guard has let through; the hook finds the client by it.
type conn struct {
	*tls.Conn
	raw    net.Conn
	from   netip.Addr
	device protocol.DeviceID
	client atomic.Pointer[mqtt.Client]
	done   chan struct{} // closed when the goroutine that served it has ended
	once   sync.Once
	closed chan struct{} // closed by Close and abort
	stats  *Stats
	tap    func(Message) error
	out    outbox
	express

	// Read's own, on the one goroutine that serves the connection.
	in       io.Reader // the tls.Conn
	guard    guard
	messages bucket
	bytes    bucket
	buf      []byte
	start    int // of what has not been handed on
	good     int // end of what the guard has let through
	end      int // end of what has come
}

// Sizes of a connection's buffer: it grows with the bytes that come, not with those announced, and a
// large one is let go when it is empty.
const (
	smallBuffer = 1 << 10
	keptBuffer  = 4 << 10
)

func newConn(raw net.Conn, cfg *tls.Config, rate Rate, stats *Stats, tap func(Message) error) *conn {
	c := &conn{
		Conn: tls.Server(raw, cfg), raw: raw, done: make(chan struct{}), closed: make(chan struct{}), stats: stats, tap: tap,
		messages: newBucket(rate.Messages, rate.MessagesBurst), bytes: newBucket(rate.Bytes, rate.BytesBurst),
	}
	c.in = c.Conn
	if a, err := netip.ParseAddrPort(raw.RemoteAddr().String()); err == nil {
		c.from = a.Addr().Unmap()
	}
	return c
}

// offence is the error mochi gets when the guard refuses a packet.
type offence struct{ reason Reason }

func (o offence) Error() string { return "not a packet we take: " + o.reason.String() }

// unacceptable is CONNACK with return code 1, the one word a client of another version of MQTT is
// owed (MQTT 3.1.1, section 3.1.2.2).
var unacceptable = []byte{0x20, 2, 0, 1}

// Read is mochi's: bytes of packets the guard has let through, and of no others; not of those that
// take the short way. It ends when the connection is to be served without mochi.
func (c *conn) Read(p []byte) (int, error) {
	for c.start == c.good {
		if c.leave() {
			return 0, errOurs
		}
		f, err := c.next()
		if err != nil {
			return 0, err
		}
		if c.took(f, c.buf[c.start:c.good]) {
			c.start = c.good
		}
	}
	n := copy(p, c.buf[c.start:c.good])
	c.start += n
	return n, nil
}

// next waits for a whole packet that the guard lets through; its bytes are buf[start:good].
func (c *conn) next() (packet, error) {
	for {
		have := c.buf[c.start:c.end]
		f, r := c.guard.next(have)
		whole := r == reasonNone && f.header > 0 && f.size <= len(have)
		if whole {
			r = c.guard.check(f, have)
		}
		switch {
		case r != reasonNone:
			return packet{}, c.refuse(r)
		case whole:
			if err := c.pace(f); err != nil {
				return packet{}, err
			}
			c.good += f.size
			return f, nil
		}
		if err := c.fill(); err != nil {
			return packet{}, err
		}
	}
}

func (c *conn) refuse(r Reason) error {
	c.stats.count(r)
	if c.device == "" {
		c.stats.Refused.Add(1)
	}
	if r == ReasonProtocol {
		_, _ = c.Write(unacceptable)
	}
	c.shut()
	return offence{r}
}

// fill waits for more bytes behind those that are here.
func (c *conn) fill() error {
	switch {
	case c.start == c.end:
		c.start, c.good, c.end = 0, 0, 0
		if len(c.buf) > keptBuffer {
			c.buf = nil
		}
	case c.start > 0 && c.end == len(c.buf):
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start, c.good = 0, 0
	}
	if c.end == len(c.buf) {
		larger := make([]byte, max(smallBuffer, 2*len(c.buf)))
		copy(larger, c.buf)
		c.buf = larger
	}
	n, err := c.in.Read(c.buf[c.end:])
	c.end += n
	if n > 0 {
		return nil
	}
	if err != nil && c.end > 0 && !c.isClosed() {
		c.stats.count(ReasonCut)
	}
	return err
}

// pace holds a packet back until its sender has earned it.
func (c *conn) pace(f packet) error {
	now := time.Now()
	wait := c.bytes.take(now, f.size+overhead)
	if f.kind != typePuback {
		wait = max(wait, c.messages.take(now, 1))
	}
	if wait == 0 {
		return nil
	}
	c.stats.count(ReasonRate)
	select {
	case <-time.After(wait):
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// abort ends the connection at once.
func (c *conn) abort() {
	c.once.Do(func() { close(c.closed) })
	_ = c.raw.Close()
}
