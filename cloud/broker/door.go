package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"coinop/protocol"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// door is mochi's listener: it accepts, and serves each connection under a recover.
type door struct {
	b       *Broker
	l       net.Listener
	wg      sync.WaitGroup
	mu      sync.Mutex
	closed  bool
	conns   map[*conn]bool // true: it has said who it is
	devices map[protocol.DeviceID]*conn
	// strangers are connections that have not said who they are, in all and by address: they cost
	// us a handshake and are owed nothing.
	strangers int
	crowd     map[netip.Addr]int
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
		c := newConn(raw, d.b.cfg.TLS, d.b.cfg.Rate, &d.b.stats, d.b.tap)
		if !d.admit(c) {
			raw.Close()
			continue
		}
		go d.serve(c, establish)
	}
}

// admit lets a connection in unless there are too many already.
func (d *door) admit(c *conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	if int64(len(d.conns)) >= d.b.cfg.MaxClients || d.strangers >= d.b.cfg.MaxStrangers ||
		d.crowd[c.from] >= d.b.cfg.MaxStrangersPerAddress {
		d.b.stats.count(ReasonCrowd)
		return false
	}
	d.conns[c] = false
	d.strangers++
	d.crowd[c.from]++
	d.wg.Add(1)
	return true
}

// introduced: c is no stranger any more. The caller holds mu.
func (d *door) introduced(c *conn) {
	if known, here := d.conns[c]; known || !here {
		return
	}
	d.conns[c] = true
	d.strangers--
	if d.crowd[c.from]--; d.crowd[c.from] == 0 {
		delete(d.crowd, c.from)
	}
}

// apart does f in a goroutine that ends with it. The stack of one that waits for what a device says stays
// as deep as it ever was, and there are many: 30 KB each of a handshake's and a database's.
func apart(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		err = f()
	}()
	<-done
	return err
}

// serve is a connection's first goroutine, and mochi's. One that becomes ours goes on in another: the
// stack of this one has been deep, and stays so.
func (d *door) serve(c *conn, establish listeners.EstablishFn) {
	defer func() {
		if c.ours {
			go d.attend(c)
			return
		}
		d.end(c)
	}()
	if apart(func() error { return c.Conn.HandshakeContext(context.Background()) }) != nil { // it has the deadline of a stranger
		return
	}
	defer d.survive(c)
	if err := establish(d.ID(), c); err != nil && !c.ours {
		d.b.cfg.Log.Debug("connection ended", "device", c.device, "error", err)
	}
}

// attend serves a connection that mochi has let go of.
func (d *door) attend(c *conn) {
	defer d.end(c)
	defer d.survive(c)
	err := c.attend()
	if err == nil {
		c.will = nil // MQTT 3.1.1, 3.14.4
	}
	d.b.will(c.will)
	c.will = nil
	d.b.cfg.Log.Debug("connection ended", "device", c.device, "error", err)
}

// end is the last that happens to a connection.
func (d *door) end(c *conn) {
	c.shut()
	c.out.writers.Wait()
	d.forget(c)
	close(c.done)
	d.wg.Done()
}

// survive is deferred by whoever serves a connection: a panic ends that connection only.
func (d *door) survive(c *conn) {
	p := recover()
	if p == nil {
		return
	}
	d.b.stats.Panics.Add(1)
	d.b.cfg.Log.Error("connection ended in a panic", "device", c.device, "panic", p)
	if c.ours {
		d.b.will(c.will)
		c.ours, c.will = false, nil
		return
	}
	d.tail(c)
}

// tail does what mochi would have done after a connection that did not end in a panic: the will,
// the subscriptions, the client itself.
func (d *door) tail(c *conn) {
	cl := c.client.Load()
	if cl == nil {
		return
	}
	if atomic.CompareAndSwapUint32(&cl.Properties.Will.Flag, 1, 0) {
		d.b.will(will(c.device, cl.Properties.Will))
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
	d.introduced(c)
	delete(d.conns, c)
	if d.devices[c.device] == c {
		delete(d.devices, c.device)
	}
}

// take makes c the connection of its device. An older one is closed and waited for: closing alone
// leaves its goroutine to delete the new client from mochi's map.
func (d *door) take(c *conn) bool {
	d.mu.Lock()
	d.introduced(c)
	old := d.devices[c.device]
	d.devices[c.device] = c
	d.mu.Unlock()
	if old == nil {
		return true
	}
	d.b.stats.Takeovers.Add(1)
	old.abort()
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
		c.abort()
	}
}
