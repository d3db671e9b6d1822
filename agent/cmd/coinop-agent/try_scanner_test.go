package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop/agent/profile"
)

// A code before the scanner is told by its kind and length, and is not shown: it may be one to pay with.
func TestTryScanner(t *testing.T) {
	t.Parallel()
	const wallet = "135056725249518813"
	p := stands(t, "coffee")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for ctx.Err() == nil {
			_, _ = p.Do("show " + wallet)
			time.Sleep(150 * time.Millisecond)
		}
	}()
	code, out, errs := call(t, nil, "test", "scanner", "--config", filepath.Join(p.Dir, profile.ConfigFile))
	if code != 0 || !strings.Contains(out, "scanner: read: wechat, 18 characters") || strings.Contains(out+errs, wallet[4:]) {
		t.Errorf("ends with %d: %s%s", code, out, errs)
	}
}
