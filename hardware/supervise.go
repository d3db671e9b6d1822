package hardware

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"coinop/protocol/card"

	"golang.org/x/sys/unix"
)

// Pauses between two openings: doubled from the first to the last, a quarter of them random, so
// that many readers behind one hub that came back do not open at once. An opening that lived longer
// than calm starts again at the first.
const (
	firstPause = 500 * time.Millisecond
	lastPause  = 30 * time.Second
	calm       = 10 * time.Second
)

// Supervise opens a device, serves the opening with Run, and opens again when it ends, until ctx
// ends; then it returns the cause, after Run has returned. device names it in Health and PortGone.
//
// out is called from this goroutine and from Run's, never from two at once, and not after Supervise
// has returned; it may block, but not after ctx has ended. When an opening ends while ctx lives, out gets PortGone, then Health.
// A device that cannot be opened is reported once, not at every try. A panic in open or Run is
// caught, reported and treated as an end of the opening.
func Supervise(ctx context.Context, device string, open func(context.Context) (Driver, error), out func(Event)) error {
	pause, said := firstPause, ""
	for {
		start := time.Now()
		opened, err := serve(ctx, open)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h := Health{Device: device, State: Absent, Code: CodePortAbsent, Detail: detail(err)}
		var p panicked
		if opened {
			out(PortGone{Device: device})
			h.Code = CodePortLost
			var s Silence
			if errors.As(err, &s) || errors.Is(err, os.ErrDeadlineExceeded) { // it takes nothing
				h.Code = CodeSilent
			}
		}
		var n Named
		if errors.As(err, &n) {
			h.Code = n.Code
		}
		if errors.As(err, &p) {
			h.State, h.Code = Fault, CodeDriverPanic
		}
		if opened || h.Code+h.Detail != said {
			out(h)
		}
		said = h.Code + h.Detail
		if opened && time.Since(start) > calm {
			pause = firstPause
		}
		if !sleep(ctx, pause-rand.N(pause/4)) { //nolint:gosec // jitter
			return context.Cause(ctx)
		}
		pause = min(2*pause, lastPause)
	}
}

// serve is one opening.
func serve(ctx context.Context, open func(context.Context) (Driver, error)) (opened bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = Panicked(r)
		}
	}()
	d, err := open(ctx)
	if err != nil {
		return false, err
	}
	opened = true
	if err = d.Run(ctx); err == nil {
		err = errors.New("the driver ended")
	}
	return opened, err
}

// Silence ends the opening of a device that does not answer: its port is there, and Health says CodeSilent
// in place of CodePortLost.
type Silence string

func (s Silence) Error() string { return string(s) }

// Named is why a device cannot be opened, or is lost, with a code of its own for Health.
type Named struct {
	Code string
	Err  error
}

func (n Named) Error() string { return n.Err.Error() }
func (n Named) Unwrap() error { return n.Err }

// Unreachable is why a device in the network cannot be reached, with the code of one whose name nobody knows, of one
// that nothing listens at, and of one to which there is no way or where nobody is.
func Unreachable(err error, name, refused, silent string) Named {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return Named{name, err}
	case errors.Is(err, unix.ECONNREFUSED):
		return Named{refused, err}
	}
	return Named{silent, err}
}

type panicked struct{ what string }

func (p panicked) Error() string { return p.what }

// Panicked is the error of a recovered panic, for drivers with goroutines of their own: Supervise
// reports it as our fault, not the device's. It holds the place, and of the value no more than what
// is surely no card data: a panic inside a parser can carry what was parsed.
func Panicked(r any) error {
	what := "panic"
	if e, ok := r.(runtime.Error); ok {
		what = card.Scrub(e.Error())
	}
	for skip := 2; skip < 12; skip++ {
		_, file, line, ok := runtime.Caller(skip)
		if !ok {
			break
		}
		if f := shortPath(file); f != "" {
			return panicked{fmt.Sprintf("%s at %s:%d", what, f, line)}
		}
	}
	return panicked{what}
}

// shortPath is the end of a path of ours: folder and file; empty for the runtime's.
func shortPath(file string) string {
	dir, name := filepath.Split(file)
	if dir = filepath.Base(dir); dir == "runtime" {
		return ""
	}
	return dir + "/" + name
}

func detail(err error) string {
	if err == nil {
		return ""
	}
	s := card.Scrub(err.Error())
	return s[:min(len(s), 200)]
}

// sleep waits d, or less when ctx ends: then false.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
