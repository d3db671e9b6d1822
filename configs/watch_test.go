package configs

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	stamp := time.Unix(1, 0)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		stamp = stamp.Add(time.Second) // the bubble's clock does not move the disk's
		if err := os.Chtimes(path, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	write(least)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		var got []string
		tell := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, s)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Watch(ctx, path, func() (Agent, error) { return LoadAgent(path, nil) },
				func(a Agent) { tell(string(a.Currency)) },
				func(err error) { tell("error " + strings.SplitN(err.Error(), ": ", 3)[1]) })
		}()
		expect := func(what string, want ...string) {
			t.Helper()
			time.Sleep(5 * watchEvery)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if strings.Join(got, ",") != strings.Join(want, ",") {
				t.Errorf("%s: told %q, want %q", what, got, want)
			}
			got = nil
		}
		time.Sleep(watchEvery / 2) // between two looks
		expect("nothing changed")
		write(least + "currency: CHF\n")
		expect("changed", "CHF")
		write(least + "currency: CHF\n")
		expect("only touched")
		write(least + "curency: CHF\n")
		expect("wrong, told once", "error curency")
		write(least + "currency: CHF\n")
		expect("mended", "CHF")
		write("iden") // an editor between two writes
		time.Sleep(watchEvery)
		write(least + "currency: USD\n")
		expect("half a file is not read", "USD")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect("gone", "error there is no such file; check the path")
		write(least)
		expect("back", "EUR")
		stop()
		<-done
	})
}

// TestFollow: a wrong file is told problem by problem and changes nothing; what cannot be applied is named.
func TestFollow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(least)
	running, err := LoadAgent(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var log bytes.Buffer // read after the end, or when all stand still
		level := "info"
		again := make(chan os.Signal)
		done := make(chan struct{})
		go func() {
			defer close(done)
			Follow(ctx, Following[Agent]{
				Path: path, Running: running.Origin, Load: func() (Agent, error) { return LoadAgent(path, nil) },
				Apply: func(a Agent) []string { level = a.Log.Level; return []string{"log.level"} },
				Again: again, Log: slog.New(slog.NewTextHandler(&log, nil)),
			})
		}()
		again <- os.Interrupt
		time.Sleep(watchEvery)                                        // the first look was before
		write(least + "log: {level: debug}\ntimeouts: {wait: 11s}\n") // seen by the looks at it
		time.Sleep(5 * watchEvery)
		write("x: 1\n" + least + "timeouts: {wait: 1s}\n")
		again <- os.Interrupt
		time.Sleep(5 * watchEvery)
		stop()
		<-done
		for _, want := range []string{
			`msg="configuration read" applied=log.level`,
			`msg="configuration changed, restart to apply" keys=timeouts.wait applied=log.level`,
			`place=` + path + `:1:1 key=x problem="unknown key"`,
			`key=timeouts.wait problem="1s is too short" check="5s to 28s may be"`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s\ndoes not say %s", log.String(), want)
			}
		}
		if n := strings.Count(log.String(), "unknown key"); n != 1 {
			t.Errorf("the same problem was told %d times", n)
		}
		if level != "debug" {
			t.Error(level)
		}
	})
}
