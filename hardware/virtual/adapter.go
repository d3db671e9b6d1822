package virtual

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Adapter is an adapter as the master of a bus: what its maker speaks at one side, and at the other the words of
// a raw port where devices are, behind the tty or link Bus. When their cable goes, so does its own.
type Adapter struct {
	bus   string
	port  *port
	wafer bool // of Waferstar, which POLLs by itself; else of Qibixx

	turn sync.Mutex // of an exchange on the bus

	mu     sync.Mutex
	far    *os.File
	on     bool
	line   []byte
	answer []byte // of a device, unmarked; its last byte had the mode bit when done
	raw    []byte
	done   chan []byte
	garble bool
}

// NewAdapter is a Qibixx MDB Pi HAT or MDB-USB. It opens its pty; link is a symlink to it, or "".
func NewAdapter(link, bus string) (*Adapter, error) {
	p, err := newPort(link)
	return &Adapter{bus: bus, port: p, done: make(chan []byte, 4)}, err
}

// NewWaferAdapter is a Waferstar MDB-RS232.
func NewWaferAdapter(link, bus string) (*Adapter, error) {
	a, err := NewAdapter(link, bus)
	a.wafer = true
	return a, err
}

// Path is the tty the agent opens.
func (a *Adapter) Path() string { return a.port.name() }

// Replug puts the agent's cable in again.
func (a *Adapter) Replug() error { return a.port.replug() }

// Garble lets noise and half a line come before the next answer.
func (a *Adapter) Garble() { a.mu.Lock(); defer a.mu.Unlock(); a.garble = true }

// Run is its life; it ends with ctx, unplugged.
func (a *Adapter) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			a.connect(ctx)
			a.port.unplug()
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	hear := a.hear
	if a.wafer {
		wg.Go(func() { a.polls(ctx) })
		hear = a.hearBytes
	}
	err := a.port.read(ctx, func(b []byte) { hear(ctx, b) })
	wg.Wait()
	return err
}

// connect is the devices' cable, from its plugging in to its end.
func (a *Adapter) connect(ctx context.Context) {
	blocking, err := os.OpenFile(a.bus, os.O_RDWR, 0)
	if err != nil {
		return
	}
	f, err := pollable(blocking)
	if err != nil {
		return
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	a.mu.Lock()
	a.far, a.raw, a.answer = f, nil, nil
	a.mu.Unlock()
	if a.port.replug() != nil {
		return
	}
	buf := make([]byte, 256)
	for {
		n, err := f.Read(buf)
		a.words(buf[:n])
		if err != nil {
			a.mu.Lock()
			a.far, a.on = nil, false
			a.mu.Unlock()
			return
		}
	}
}

// words puts an answer together: FF 00 byte has the mode bit and ends it.
func (a *Adapter) words(b []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.raw = append(a.raw, b...)
	for len(a.raw) > 0 {
		c, n, last := a.raw[0], 1, false
		if c == 0xFF {
			switch {
			case len(a.raw) < 2:
				return
			case a.raw[1] == 0xFF:
				n = 2
			case len(a.raw) < 3:
				return
			default:
				c, n, last = a.raw[2], 3, true
			}
		}
		a.raw = a.raw[n:]
		if a.answer = append(a.answer, c); last {
			select {
			case a.done <- a.answer:
			default:
			}
			a.answer = nil
		}
	}
}

func (a *Adapter) hear(ctx context.Context, b []byte) {
	for _, c := range b {
		if c != '\n' {
			a.mu.Lock()
			a.line = append(a.line, c)
			a.mu.Unlock()
			continue
		}
		a.mu.Lock()
		line := strings.TrimSpace(string(a.line))
		a.line = nil
		on := a.on
		a.mu.Unlock()
		switch {
		case line == "M,1":
			a.mu.Lock()
			a.on = true
			a.mu.Unlock()
			a.say("m,ACK")
		case strings.HasPrefix(line, "R,") && on:
			a.say(a.request(ctx, line[2:]))
		default:
			a.say("m,NACK")
		}
	}
}

func (a *Adapter) say(line string) {
	a.mu.Lock()
	noise := a.garble
	a.garble = false
	a.mu.Unlock()
	if noise {
		_ = a.port.write([]byte("r,ACK\r\n\xfe\x00p,zz\r\n"))
	}
	_ = a.port.write([]byte(line + "\r\n"))
}

// request is one exchange on the bus, in Qibixx's words.
func (a *Adapter) request(ctx context.Context, text string) string {
	head, data, _ := strings.Cut(text, ",")
	block, err := hex.DecodeString(head + data)
	if err != nil || len(block) == 0 {
		return "p,NACK"
	}
	switch w := a.exchange(ctx, block); {
	case w == nil, len(w) == 1 && w[0] != 0:
		return "p,NACK"
	case len(w) == 1:
		return "p,ACK"
	default:
		return "p," + string(bytes.ToUpper(fmt.Appendf(nil, "%x", w[:len(w)-1])))
	}
}

// exchange is one on the bus: a device's words, its CHK included; nil when nobody answered.
func (a *Adapter) exchange(ctx context.Context, block []byte) []byte {
	a.turn.Lock()
	defer a.turn.Unlock()
	a.mu.Lock()
	f := a.far
	a.mu.Unlock()
	if f == nil {
		return nil
	}
	for len(a.done) > 0 {
		<-a.done
	}
	if _, err := f.Write(command(block)); err != nil {
		return nil
	}
	late := time.NewTimer(a.patience())
	defer late.Stop()
	select {
	case w := <-a.done:
		if len(w) == 1 {
			return w
		}
		sum := byte(0)
		for _, x := range w[:len(w)-1] {
			sum += x
		}
		if sum != w[len(w)-1] {
			_, _ = f.Write([]byte{0xFF, 0xFF}) // NAK
			return nil
		}
		_, _ = f.Write([]byte{0x00}) // ACK
		return w
	case <-late.C:
	case <-ctx.Done():
	}
	return nil
}

// patience is for an answer: 5 ms on a bus, but devices of this package are processes on a busy machine. Less than
// the agent's.
func (a *Adapter) patience() time.Duration {
	if a.wafer {
		return 200 * time.Millisecond
	}
	return 45 * time.Millisecond
}

// polls tells what changer and validator report: their address, and what they said.
func (a *Adapter) polls(ctx context.Context) {
	for ctx.Err() == nil {
		for _, poll := range []byte{0x0B, 0x33} {
			if w := a.exchange(ctx, []byte{poll}); len(w) > 1 {
				a.sayHex(append([]byte{poll &^ 7}, w[:len(w)-1]...))
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// waferSizes are the host's commands, which have no end of their own: bytes by the first, and by the
// second where there is one.
var waferSizes = map[byte]int{0x08: 1, 0x09: 1, 0x0A: 1, 0x0B: 1, 0x0C: 5, 0x0D: 2, 0x30: 1, 0x31: 1, 0x33: 1, 0x34: 5, 0x35: 2, 0x36: 1, 0x37: 2}

func (a *Adapter) hearBytes(ctx context.Context, b []byte) {
	a.mu.Lock()
	a.line = append(a.line, b...)
	a.mu.Unlock()
	for {
		a.mu.Lock()
		n, ok := 0, false
		if len(a.line) > 0 {
			n, ok = waferSizes[a.line[0]]
		}
		if len(a.line) > 1 && a.line[0] == 0x0F {
			n, ok = map[byte]int{0x01: 6, 0x02: 3}[a.line[1]], true
			if n == 0 {
				n = 2
			}
		}
		if !ok && len(a.line) > 0 && a.line[0] != 0x0F {
			n, a.line = 0, a.line[1:] // noise
			a.mu.Unlock()
			continue
		}
		if !ok || len(a.line) < n {
			a.mu.Unlock()
			return
		}
		block := a.line[:n:n]
		a.line = a.line[n:]
		a.mu.Unlock()
		w := a.exchange(ctx, block)
		if w == nil {
			w = []byte{0xFF}
		}
		a.sayHex(w)
	}
}

func (a *Adapter) sayHex(b []byte) {
	a.mu.Lock()
	noise := a.garble
	a.garble = false
	a.mu.Unlock()
	if noise {
		_ = a.port.write([]byte("\x00\xfe09 0G\r\n51 0\r\n"))
	}
	_ = a.port.write(append(bytes.ToUpper(fmt.Appendf(nil, "% x", b)), " \r\n"...))
}
