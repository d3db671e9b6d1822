package virtual

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coinop/protocol"
)

// Drop is one item that fell. The file holds it, synced, before the controller says so to anybody.
type Drop struct {
	N       int             `json:"n"`
	Outlet  protocol.Outlet `json:"outlet"`
	Price   string          `json:"price"`   // "1.50 EUR"
	Request int             `json:"request"` // which of the machine's vend requests, from 1
	UnixMS  int64           `json:"unix_ms"`
}

// book is what fell out of a machine, in order; in a file where there is one.
type book struct {
	file  *os.File
	drops []Drop
}

// openBook goes on where the machine of an earlier run stopped counting. "" is a book without a file.
func openBook(path string) (b book, err error) {
	if path == "" {
		return b, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return b, err
	}
	if old, err := os.ReadFile(path); err == nil { //nolint:gosec // ours
		for l := range strings.Lines(string(old)) {
			var d Drop
			if json.Unmarshal([]byte(l), &d) == nil {
				b.drops = append(b.drops, d)
			}
		}
	}
	b.file, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // ours
	return b, err
}

// drop writes one down: no book, no drop.
func (b *book) drop(p Product, request int) error {
	d := Drop{N: len(b.drops) + 1, Outlet: p.Outlet, Price: p.Price.String(), Request: request, UnixMS: time.Now().UnixMilli()}
	if b.file != nil {
		line, err := json.Marshal(d)
		if err == nil {
			_, err = b.file.Write(append(line, '\n'))
		}
		if err == nil {
			err = b.file.Sync()
		}
		if err != nil {
			return err
		}
	}
	b.drops = append(b.drops, d)
	return nil
}

func (b *book) close() {
	if b.file != nil {
		_ = b.file.Close()
	}
}

// stage is a machine as one sees it, and what fell out of it.
type stage[V any] struct {
	watch
	book book
	seen V
}

// do is one thing that happens to it from outside.
func (s *stage[V]) do(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := f()
	s.tell()
	return err
}

// Drops is what fell, in order.
func (s *stage[V]) Drops() []Drop {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Drop(nil), s.book.drops...)
}

// View is what can be seen now.
func (s *stage[V]) View() V {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// Wait waits until what can be seen is ok.
func (s *stage[V]) Wait(ctx context.Context, ok func(V) bool) error {
	return await(ctx, &s.watch, func() V { return s.seen }, ok)
}
