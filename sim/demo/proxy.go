package demo

import (
	"io"
	"net"
	"sync"
	"time"
)

// proxy is the line between a machine and the cloud: it can be cut, and leads to wherever the cloud
// is now. Its own address stays.
type proxy struct {
	listener net.Listener
	all      sync.WaitGroup

	mu     sync.Mutex // guards what follows
	target string
	cut    bool
	conns  map[net.Conn]bool
}

func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	p.all.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// lead sends new connections to target.
func (p *proxy) lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// set cuts the line, with every connection on it, or mends it. While it is cut, every new connection
// is refused: accepted and reset, for a closed listener could lose its port to somebody else.
func (p *proxy) set(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		p.drop()
	}
}

func (p *proxy) isCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

func (p *proxy) drop() {
	for c := range p.conns {
		reset(c)
	}
	clear(p.conns)
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.set(true)
	p.all.Wait()
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(near net.Conn) {
	p.mu.Lock()
	target, cut := p.target, p.cut
	p.mu.Unlock()
	if cut {
		reset(near)
		return
	}
	far, err := net.DialTimeout("tcp", target, 2*time.Second)
	if err != nil {
		reset(near)
		return
	}
	p.mu.Lock()
	if p.cut {
		p.mu.Unlock()
		reset(near)
		reset(far)
		return
	}
	p.conns[near], p.conns[far] = true, true
	p.mu.Unlock()
	p.all.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	})
	_, _ = io.Copy(near, far)
	_ = near.Close()
	p.mu.Lock()
	delete(p.conns, near)
	delete(p.conns, far)
	p.mu.Unlock()
}

// reset closes a connection without a good-bye.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
