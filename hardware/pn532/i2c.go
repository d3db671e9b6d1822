package pn532

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2creg"
	"periph.io/x/host/v3"

	"coinop/hardware"
)

const (
	i2cPrefix  = "/dev/i2c-"
	i2cAddress = 0x24 // 7 bits (UM0701-02, 6.2.4)
	i2cPoll    = 2 * time.Millisecond
	i2cReady   = 0x01
	ackBytes   = 6
)

func isI2C(path string) bool { return strings.HasPrefix(path, i2cPrefix) }

// openI2C opens a bus by its path.
func openI2C(path string) (hardware.Port, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	if _, err := host.Init(); err != nil {
		return nil, err
	}
	b, err := i2creg.Open(path)
	if err != nil {
		return nil, err
	}
	return newI2C(b), nil
}

// i2cPort makes a stream of the chip at a bus. The bus has no way to say that the chip has something: every
// read begins with a byte that is 1 when it does (6.2.4), so after a command it is asked until it has given
// its ACK and its answer, and not at all when nothing is awaited.
type i2cPort struct {
	bus  i2c.BusCloser
	mu   sync.Mutex // of the bus, and what follows
	due  int        // frames awaited
	ring chan struct{}
	done chan struct{}
	once sync.Once
}

func newI2C(b i2c.BusCloser) *i2cPort {
	return &i2cPort{bus: b, ring: make(chan struct{}, 1), done: make(chan struct{})}
}

func (p *i2cPort) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.bus.Tx(i2cAddress, b, nil); err != nil {
		return 0, fmt.Errorf("i2c: %w", err)
	}
	switch f, _, _ := decodeOne(b); f.Kind {
	case ACK: // gives up what was awaited
		p.due = 0
	case NACK:
		p.due = 1
	case Information, Error:
		p.due = 2
	}
	select {
	case p.ring <- struct{}{}:
	default:
	}
	return len(b), nil
}

func decodeOne(b []byte) (Frame, bool, error) {
	var d Decoder
	d.Add(b)
	return d.Next()
}

// Read waits for the next frame. b has room for the longest.
func (p *i2cPort) Read(b []byte) (int, error) {
	t := time.NewTicker(i2cPoll)
	defer t.Stop()
	for {
		n, due, err := p.poll(b)
		if n > 0 || err != nil {
			return n, err
		}
		next := t.C
		if !due {
			next = nil
		}
		select {
		case <-p.done:
			return 0, os.ErrClosed
		case <-p.ring:
		case <-next:
		}
	}
}

func (p *i2cPort) poll(b []byte) (n int, due bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.due == 0 {
		return 0, false, nil
	}
	size := ackBytes
	if p.due == 1 {
		size = min(len(b), dataMax+10)
	}
	in := make([]byte, 1+size)
	if err := p.bus.Tx(i2cAddress, nil, in); err != nil {
		return 0, false, fmt.Errorf("i2c: %w", err)
	}
	if in[0] != i2cReady {
		return 0, true, nil
	}
	p.due--
	n = copy(b, in[1:])
	clear(in)
	return trim(b[:n]), true, nil
}

// trim is how many bytes the frame at the front has: what is read beyond its end has no meaning.
func trim(b []byte) int {
	var d Decoder
	d.Add(b)
	if _, ok, err := d.Next(); !ok || err != nil {
		return len(b) // the machine sees to it
	}
	return len(b) - len(d.buf)
}

// SetWriteDeadline does nothing: the kernel bounds a transfer.
func (p *i2cPort) SetWriteDeadline(time.Time) error { return nil }

func (p *i2cPort) Close() error {
	err := errors.New("closed already")
	p.once.Do(func() {
		close(p.done)
		p.mu.Lock()
		defer p.mu.Unlock()
		err = p.bus.Close()
	})
	return err
}
