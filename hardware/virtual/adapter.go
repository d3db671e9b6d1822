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

// Adapter is a Qibixx adapter as the master of a bus: text at one side, and at the other the words of a raw
// port where devices are, behind the tty or link Bus. When their cable goes, so does its own.
type Adapter struct {
	bus  string
	port *port

	mu     sync.Mutex
	far    *os.File
	on     bool
	line   []byte
	answer []byte // of a device, unmarked; its last byte had the mode bit when done
	raw    []byte
	done   chan []byte
	garble bool
}

// NewAdapter opens its pty; link is a symlink to it, or "".
func NewAdapter(link, bus string) (*Adapter, error) {
	p, err := newPort(link)
	return &Adapter{bus: bus, port: p, done: make(chan []byte, 4)}, err
}

// Path is the tty the agent opens.
func (a *Adapter) Path() string { return a.port.name() }

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
	err := a.port.read(ctx, func(b []byte) { a.hear(ctx, b) })
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

// request is one exchange on the bus.
func (a *Adapter) request(ctx context.Context, text string) string {
	head, data, _ := strings.Cut(text, ",")
	block, err := hex.DecodeString(head + data)
	a.mu.Lock()
	f := a.far
	a.mu.Unlock()
	if err != nil || len(block) == 0 || f == nil {
		return "p,NACK"
	}
	for len(a.done) > 0 {
		<-a.done
	}
	if _, err := f.Write(command(block)); err != nil {
		return "p,NACK"
	}
	late := time.NewTimer(40 * time.Millisecond)
	defer late.Stop()
	select {
	case w := <-a.done:
		if len(w) == 1 {
			if w[0] == 0 {
				return "p,ACK"
			}
			return "p,NACK"
		}
		data, sum := w[:len(w)-1], byte(0)
		for _, x := range data {
			sum += x
		}
		if sum != w[len(w)-1] {
			_, _ = f.Write([]byte{0xFF, 0xFF}) // NAK
			return "p,NACK"
		}
		_, _ = f.Write([]byte{0x00}) // ACK
		return "p," + string(bytes.ToUpper(fmt.Appendf(nil, "%x", data)))
	case <-late.C:
	case <-ctx.Done():
	}
	return "p,NACK"
}
