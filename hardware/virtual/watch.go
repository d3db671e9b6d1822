package virtual

import (
	"context"
	"fmt"
	"sync"
)

// watch is the lock of a far end, and who waits to see something of it.
type watch struct {
	mu      sync.Mutex
	changed chan struct{}
}

// tell wakes those who wait. mu is held.
func (w *watch) tell() {
	if w.changed != nil {
		close(w.changed)
	}
	w.changed = make(chan struct{})
}

// look is view, and the channel that is closed when it may be another.
func look[V any](w *watch, view func() V) (V, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return view(), w.changed
}

// await waits until what can be seen is ok.
func await[V any](ctx context.Context, w *watch, view func() V, ok func(V) bool) error {
	for {
		v, changed := look(w, view)
		if ok(v) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w; what can be seen is %+v", context.Cause(ctx), v)
		}
	}
}
