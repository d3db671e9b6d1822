package mdb

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"coinop/hardware"
)

// tongue is what an adapter speaks that is the master of a bus for us: pure, its time is given. Such an
// adapter keeps the bus's times, adds and checks sums, and acknowledges what comes. What it has
// acknowledged and we never read is lost: a cable pulled in that moment.
type tongue interface {
	// hello is said at the opening.
	hello() []byte
	// say is a block of ours: what to write, and what is answered at once.
	say(now time.Duration, data []byte) (out []byte, answer []Word)
	// reset is the line held down; nil where it cannot be.
	reset() []byte
	// hear takes what the adapter says, and gives the words of devices' answers.
	hear(now time.Duration, b []byte) []Word
}

// adapterMaster is a port that gives and takes the words of the bus as OpenRaw does, so that a driver
// does not know the difference. Read and Write are each one goroutine's.
type adapterMaster struct {
	hardware.Port
	now hardware.Clock

	ours  Unmark // Write's
	block []Word

	mu    sync.Mutex
	t     tongue
	words []byte // for who reads, marked

	chunk [256]byte // Read's
}

func openMaster(path string, baud int, t tongue) (hardware.Port, error) {
	p, err := hardware.OpenTTY(path, baud)
	if err != nil {
		return nil, err
	}
	m := &adapterMaster{Port: p, now: hardware.Since(), t: t}
	if err := m.all(t.hello()); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return m, nil
}

func (m *adapterMaster) all(b []byte) error {
	for len(b) > 0 {
		n, err := m.Port.Write(b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Write takes the words of a block; a lone ACK, NAK or RET is the adapter's own affair.
func (m *adapterMaster) Write(b []byte) (int, error) {
	for _, w := range m.ours.Add(b) {
		switch {
		case w == Break:
			m.block = nil
			if err := m.all(m.t.reset()); err != nil {
				return 0, err
			}
		case w&Mode != 0:
			m.block = []Word{w}
		case len(m.block) > 0:
			m.block = append(m.block, w)
		}
	}
	// A block's end is not marked; drivers write a whole one at a time.
	data, err := ReadController(m.block)
	if err != nil {
		if len(m.block) > BlockMax {
			m.block = nil
		}
		return len(b), nil
	}
	m.block = nil
	m.mu.Lock()
	out, answer := m.t.say(m.now(), data)
	m.words = append(m.words, Mark(answer)...)
	m.mu.Unlock()
	if p, ok := m.Port.(interface{ SetReadDeadline(time.Time) error }); ok && len(answer) > 0 {
		_ = p.SetReadDeadline(time.Unix(1, 0)) // whoever reads has something
	}
	if err := m.all(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Read gives the words of answers.
func (m *adapterMaster) Read(b []byte) (int, error) {
	for {
		if n := m.take(b); n > 0 {
			return n, nil
		}
		n, err := m.Port.Read(m.chunk[:])
		if n > 0 {
			m.mu.Lock()
			m.words = append(m.words, Mark(m.t.hear(m.now(), m.chunk[:n]))...)
			m.mu.Unlock()
		}
		if p, ok := m.Port.(interface{ SetReadDeadline(time.Time) error }); ok && errors.Is(err, os.ErrDeadlineExceeded) {
			err = p.SetReadDeadline(time.Time{}) // before what waits is looked for, or a word would wait for the next
		}
		if err != nil {
			return 0, err
		}
	}
}

func (m *adapterMaster) take(b []byte) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := copy(b, m.words)
	m.words = m.words[n:]
	return n
}

// textLines cuts an adapter's text at its line ends. What is too long for a block is dropped whole.
type textLines struct{ line []byte }

func (t *textLines) add(b []byte, most int, each func(line string)) {
	for _, c := range b {
		switch {
		case c == '\n' || c == '\r':
			if len(t.line) > 0 && len(t.line) <= most {
				each(string(t.line))
			}
			t.line = t.line[:0]
		case len(t.line) <= most:
			t.line = append(t.line, c)
		}
	}
}
