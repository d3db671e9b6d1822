package broker

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"coinop/protocol"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// conn is a device's connection. mochi knows it as a net.Conn; the hook finds the client through it.
type conn struct {
	*tls.Conn
	raw    net.Conn
	device protocol.DeviceID
	client atomic.Pointer[mqtt.Client]
	done   chan struct{} // closed when the goroutine that served it has ended
	once   sync.Once
}

// Close ends the connection at once: tls.Conn.Close would wait up to 5 s for a stalled peer.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() { err = c.raw.Close() })
	return err
}

// door is mochi's listener: it accepts, and serves each connection under a recover.
type door struct {
	b       *Broker
	l       net.Listener
	wg      sync.WaitGroup
	mu      sync.Mutex
	closed  bool
	conns   map[*conn]bool
	devices map[protocol.DeviceID]*conn
}

func (d *door) Init(*slog.Logger) error { return nil }
func (d *door) ID() string              { return "agents" }
func (d *door) Address() string         { return d.l.Addr().String() }
func (d *door) Protocol() string        { return "tcp" }

// Close is mochi's word to stop. shut has closed every connection before, so that mochi's own way of
// closing clients, which can wait for a stalled one, finds none.
func (d *door) Close(listeners.CloseFn) { d.shut() }

func (d *door) Serve(establish listeners.EstablishFn) {
	for {
		raw, err := d.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: let some go
			time.Sleep(acceptBackoff)
			continue
		}
		raw.SetDeadline(time.Now().Add(connectTime))
		c := &conn{Conn: tls.Server(raw, d.b.cfg.TLS), raw: raw, done: make(chan struct{})}
		d.mu.Lock()
		full := d.closed || int64(len(d.conns)) >= d.b.cfg.MaxClients
		if !full {
			d.conns[c] = true
			d.wg.Add(1)
		}
		d.mu.Unlock()
		if full {
			raw.Close()
			continue
		}
		go d.serve(c, establish)
	}
}

func (d *door) serve(c *conn, establish listeners.EstablishFn) {
	defer d.wg.Done()
	defer close(c.done)
	defer d.forget(c)
	defer c.Close()
	defer func() {
		if p := recover(); p != nil {
			d.b.stats.Panics.Add(1)
			d.b.cfg.Log.Error("connection ended in a panic", "device", c.device, "panic", p)
			d.tail(c)
		}
	}()
	if err := establish(d.ID(), c); err != nil {
		d.b.cfg.Log.Debug("connection ended", "device", c.device, "error", err)
	}
}

// tail does what mochi would have done after a connection that did not end in a panic: the will,
// the subscriptions, the client itself.
func (d *door) tail(c *conn) {
	cl := c.client.Load()
	if cl == nil {
		return
	}
	if atomic.CompareAndSwapUint32(&cl.Properties.Will.Flag, 1, 0) {
		d.b.will(c.device, cl.Properties.Will)
	}
	cl.ClearInflights()
	d.b.server.UnsubscribeClient(cl)
	if got, ok := d.b.server.Clients.Get(cl.ID); ok && got == cl {
		d.b.server.Clients.Delete(cl.ID)
	}
}

func (d *door) forget(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
	if d.devices[c.device] == c {
		delete(d.devices, c.device)
	}
}

// take makes c the connection of its device. An older one is closed and waited for: closing alone
// leaves its goroutine to delete the new client from mochi's map.
func (d *door) take(c *conn) bool {
	d.mu.Lock()
	old := d.devices[c.device]
	d.devices[c.device] = c
	d.mu.Unlock()
	if old == nil {
		return true
	}
	d.b.stats.Takeovers.Add(1)
	old.Close()
	select {
	case <-old.done:
		return true
	case <-time.After(takeoverTime):
		return false
	}
}

func (d *door) shut() {
	d.l.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for c := range d.conns {
		c.Close()
	}
}
