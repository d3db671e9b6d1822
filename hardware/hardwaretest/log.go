// Package hardwaretest is one conformance suite a word: every driver of a Vender runs Vender, every
// driver of a CardReader CardReader, every driver of a Printer Printer, on far ends of package virtual.
//
// A suite runs at a real device too, which -device names: a tty, /dev/hidraw0, /dev/i2c-1, /dev/usb/lp0, an event
// device, the host:port of a printer or terminal, the name of a reader behind pcscd. A person is told what to do;
// cases that no real device plays when it is told to are skipped by name. One suite, and one of its kinds, is chosen:
//
//	go test ./hardware/hardwaretest -v -device /dev/usb/lp0 -run 'TestESCPOS/serial'
//	go test ./hardware/hardwaretest -v -device /dev/ttyUSB0 -run 'TestVivopay/serial'
//	go test ./hardware/hardwaretest -v -device /dev/ttyUSB0 -run 'TestPN532$'
//	go test ./hardware/hardwaretest -v -device 'ACS ACR122U' -run 'TestPCSC$'
//	go test ./hardware/hardwaretest -v -device /dev/hidraw0 -run 'TestMagstripe/MagTek'
//	go test ./hardware/hardwaretest -v -device /dev/ttyUSB0 -run 'TestScanner/CR$'
//	go test ./hardware/hardwaretest -v -device /dev/ttyUSB0 -run 'TestQibixx'
//	go test ./hardware/hardwaretest -v -device /dev/ttyUSB0 -run 'TestCash$'
//	go test ./hardware/hardwaretest -v -device /dev/ttyUSB0 -run 'TestDEX'
//	go test ./hardware/hardwaretest -v -device 192.168.1.40:20007 -run 'TestZVT/purchases'
//
// TestQibixx, TestWaferstar and TestCashless at a machine let one item fall, for which nobody is charged. What is put
// in comes back. The agent must be stopped: it has the port.
package hardwaretest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/hardware"
)

// patience bounds every wait; a test that passes waits milliseconds.
const patience = 20 * time.Second

// Log takes a driver's events and lets a test wait for them in order.
type Log struct {
	t       testing.TB
	mu      sync.Mutex
	events  []hardware.Event
	read    int
	closed  bool
	changed chan struct{}
}

// NewLog is an empty log.
func NewLog(t testing.TB) *Log { return &Log{t: t, changed: make(chan struct{})} }

// Out is the func(Event) a driver gets.
func (l *Log) Out(e hardware.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.t.Errorf("event after the end: %#v", e)
	}
	l.events = append(l.events, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

// close makes every further event a failure.
func (l *Log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// All is what came so far.
func (l *Log) All() []hardware.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]hardware.Event(nil), l.events...)
}

func (l *Log) String() string {
	var b strings.Builder
	for _, e := range l.All() {
		fmt.Fprintf(&b, "\n  %T %+v", e, e)
	}
	return b.String()
}

// Next waits for the next event of a type (after those Next gave before) that is ok, and gives it.
func Next[E hardware.Event](l *Log, ok func(E) bool) E {
	l.t.Helper()
	return next(l, ok, patience)
}

// nextSlow is Next for what a device may be slow about.
func nextSlow[E hardware.Event](l *Log) E {
	l.t.Helper()
	return next[E](l, nil, 3*patience)
}

func next[E hardware.Event](l *Log, ok func(E) bool, most time.Duration) E {
	l.t.Helper()
	deadline := time.After(most)
	for {
		l.mu.Lock()
		changed := l.changed
		for i := l.read; i < len(l.events); i++ {
			if e, is := l.events[i].(E); is && (ok == nil || ok(e)) {
				l.read = i + 1
				l.mu.Unlock()
				return e
			}
		}
		l.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			var zero E
			l.t.Fatalf("no %T came; these did:%s", zero, l)
		}
	}
}

// peek is Next of what came already.
func peek[E hardware.Event](l *Log) (e E, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := l.read; i < len(l.events); i++ {
		if e, ok = l.events[i].(E); ok {
			l.read = i + 1
			return e, true
		}
	}
	return e, false
}

// count is how many events of a type came that are ok.
func count[E hardware.Event](l *Log, ok func(E) bool) (n int) {
	for _, e := range l.All() {
		if e, is := e.(E); is && ok(e) {
			n++
		}
	}
	return n
}

// supervise runs a driver until the returned stop, which waits and then allows no event any more.
func supervise(t testing.TB, l *Log, open func(context.Context) (hardware.Driver, error)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hardware.Supervise(ctx, "dut", open, l.Out)
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case <-done:
			case <-time.After(patience):
				t.Errorf("Supervise did not return")
			}
			l.close()
		})
	}
	t.Cleanup(stop)
	return stop
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
