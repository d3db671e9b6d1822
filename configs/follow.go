package configs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// Loaded is an Agent or a Cloud.
type Loaded interface {
	Settings() []Setting
	Changes(since Origin) []string
}

// Following is a program that runs with a file.
type Following[T Loaded] struct {
	Path    string
	Running Origin // of the configuration it runs with
	Load    func() (T, error)
	// Apply takes what can be changed while it runs, and returns the keys it took.
	Apply func(T) []string
	// Again reads the file at once, changed or not: SIGHUP.
	Again <-chan os.Signal
	Log   *slog.Logger
}

// Follow watches the file of a running program until ctx ends. What can be changed while it runs is;
// of the rest the log says what needs a restart. A file with an error changes nothing, and the log says
// each problem of it once.
func Follow[T Loaded](ctx context.Context, f Following[T]) {
	var one sync.Mutex // Apply is called, and the log written, by one at a time
	said := ""
	hear := func(c T, err error, asked bool) {
		one.Lock()
		defer one.Unlock()
		now := fmt.Sprint(err)
		if err == nil {
			now = fmt.Sprint(c.Settings())
		}
		if now == said && !asked { // SIGHUP was first to see what the watch sees now
			return
		}
		said = now
		if err != nil {
			f.refused(err)
		} else {
			f.changed(c)
		}
	}
	var watch sync.WaitGroup
	defer watch.Wait()
	watch.Go(func() {
		var none T
		Watch(ctx, f.Path, f.Load, func(c T) { hear(c, nil, false) }, func(err error) { hear(none, err, false) })
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.Again:
		}
		c, err := f.Load()
		hear(c, err, true)
	}
}

func (f Following[T]) changed(c T) {
	applied := f.Apply(c)
	live := map[string]bool{}
	for _, key := range applied {
		live[key] = true
	}
	var wait []string
	for _, key := range c.Changes(f.Running) {
		if !live[key] {
			wait = append(wait, key)
		}
	}
	switch {
	case len(wait) > 0:
		f.Log.Warn("configuration changed, restart to apply", "keys", strings.Join(wait, " "), "applied", strings.Join(applied, " "))
	default:
		f.Log.Info("configuration read", "applied", strings.Join(applied, " "))
	}
}

func (f Following[T]) refused(err error) {
	es, ok := errors.AsType[Errors](err)
	if !ok {
		f.Log.Error("configuration refused, the old one stays", "error", err)
		return
	}
	for _, p := range es {
		f.Log.Error("configuration refused, the old one stays", "place", p.Place.String(), "key", p.Key, "problem", p.What, "check", p.Instead)
	}
}
