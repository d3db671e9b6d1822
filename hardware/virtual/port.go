package virtual

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// ErrUnplugged means that the cable is out.
var ErrUnplugged = errors.New("unplugged")

// port is one end of a cable that can be unplugged: a pty and the symlink to it, or a socket (socket.go).
type port struct {
	link string
	net  *socket // nil: a pty

	mu     sync.Mutex
	master end
	slave  io.Closer // ours, held so that the line outlives the agent's process; of a pty
	path   string
	plug   chan struct{} // closed and renewed when a cable is plugged in
	lost   int
	line
}

// end is our end of an open cable.
type end interface {
	io.ReadWriteCloser
	SetWriteDeadline(t time.Time) error
}

func newPort(link string) (*port, error) {
	p := &port{link: link, plug: make(chan struct{})}
	return p, p.replug()
}

func (p *port) replug() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.master != nil {
		return nil
	}
	if p.net != nil {
		return p.listen()
	}
	blocking, s, err := pty.Open()
	if err != nil {
		return fmt.Errorf("open pty: %w", err)
	}
	m, err := pollable(blocking)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	// Raw before anybody writes: a fresh pty echoes, and the agent would hear itself.
	t, err := unix.IoctlGetTermios(int(s.Fd()), unix.TCGETS)
	if err == nil {
		t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
		t.Cc[unix.VMIN] = 1
		err = unix.IoctlSetTermios(int(s.Fd()), unix.TCSETS, t)
	}
	if err == nil && p.link != "" {
		err = point(p.link, s.Name())
	}
	if err != nil {
		return errors.Join(err, m.Close(), s.Close())
	}
	p.master, p.slave, p.path = m, s, s.Name()
	close(p.plug)
	p.plug = make(chan struct{})
	return nil
}

// pollable is f with deadlines, and with a Read that Close ends: package pty leaves its files blocking.
func pollable(f *os.File) (*os.File, error) {
	defer func() { _ = f.Close() }()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("pty: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("pty: %w", errors.Join(err, unix.Close(fd)))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil //nolint:gosec // a descriptor
}

// point makes link a symlink to target in one step: whoever opens it finds the old or the new.
func point(link, target string) error {
	if err := os.MkdirAll(filepath.Dir(link), 0o750); err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", link, os.Getpid())
	_ = os.Remove(tmp)
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, link)
}

func (p *port) unplug() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out()
}

// unplugged takes the cable out when it is still that of m; who hung up at a socket may come again.
func (p *port) unplugged(m end) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.master != m:
	case p.net != nil:
		_ = m.Close()
		p.master = nil
	default:
		p.out()
	}
}

// out takes the cable out, with mu held.
func (p *port) out() {
	if p.net != nil {
		p.shut()
		return
	}
	if p.master == nil {
		return
	}
	if p.link != "" {
		_ = os.Remove(p.link)
	}
	_, _ = p.master.Close(), p.slave.Close()
	p.master, p.slave = nil, nil
}

// name is what the agent opens.
func (p *port) name() string {
	if p.link != "" {
		return p.link
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.path
}

// write says b; what nobody takes for a while is lost, as on a wire.
func (p *port) write(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.master == nil {
		return ErrUnplugged
	}
	if p.fault != LineFine {
		return p.badly(b)
	}
	return p.put(b)
}

// put is write, with mu held. It may be over before it has begun, on a machine that is busy elsewhere: that is
// nobody's who listens, so it is tried again.
func (p *port) put(b []byte) error {
	for try := 1; ; try++ {
		_ = p.master.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := p.master.Write(b)
		if err == nil {
			return nil
		}
		if b = b[n:]; try == 3 || !errors.Is(err, os.ErrDeadlineExceeded) {
			p.lost++
			return fmt.Errorf("nobody listens: %w", err)
		}
	}
}

// read gives every chunk to f until ctx ends, over unplugging. It unplugs at the end.
func (p *port) read(ctx context.Context, f func([]byte)) error {
	stop := context.AfterFunc(ctx, p.unplug)
	defer func() {
		stop()
		p.unplug() // also where it has begun elsewhere: who comes next may put another at the same link
		if p.net != nil {
			p.net.accepting.Wait()
		}
	}()
	buf := make([]byte, 4096)
	for ctx.Err() == nil {
		p.mu.Lock()
		m, plug := p.master, p.plug
		p.mu.Unlock()
		if m == nil {
			select {
			case <-plug:
			case <-ctx.Done():
			}
			continue
		}
		n, err := m.Read(buf)
		if n > 0 {
			f(buf[:n])
		}
		if err != nil {
			p.unplugged(m)
		}
	}
	return context.Cause(ctx)
}
