package virtual

import (
	"fmt"
	"net"
	"sync"
)

// socket is a port's: one client at a time, and a second is reset.
type socket struct {
	network   string
	listener  net.Listener // nil: unplugged
	reset     int
	accepting sync.WaitGroup
}

// newSocket listens; at 127.0.0.1:0 it keeps the address it got over unplugging.
func newSocket(network, address string) (*port, error) {
	p := &port{plug: make(chan struct{}), net: &socket{network: network}, path: address}
	return p, p.replug()
}

// listen is replug, with mu held.
func (p *port) listen() error {
	if p.net.listener != nil {
		return nil
	}
	l, err := net.Listen(p.net.network, p.path)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	p.net.listener, p.path = l, l.Addr().String()
	p.net.accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.connected(l, c)
		}
	})
	return nil
}

func (p *port) connected(l net.Listener, c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.master != nil || p.net.listener != l {
		p.net.reset++
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // RST
		}
		_ = c.Close()
		return
	}
	p.master = c
	close(p.plug)
	p.plug = make(chan struct{})
}

// shut is out, with mu held.
func (p *port) shut() {
	if p.net.listener != nil {
		_ = p.net.listener.Close()
		p.net.listener = nil
	}
	if p.master != nil {
		_ = p.master.Close()
		p.master = nil
	}
}

// resets is how many clients found the place taken.
func (p *port) resets() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.net == nil {
		return 0
	}
	return p.net.reset
}
