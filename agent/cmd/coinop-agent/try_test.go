package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/agent/profile"
)

// Each device of the profiles is tried while a person does what the trial asks for; and each that nobody
// touches, or that is broken, fails by name.
func TestTry(t *testing.T) {
	t.Parallel()
	var trials sync.WaitGroup // they wait for devices: all at once, whatever number of processors there is
	for _, c := range []struct {
		profile, what string
		wait          string
		does          []string // again and again
		code          int
		want          string
	}{
		{"snack", "printer", "60s", nil, 0, "printed."},
		{"snack", "tap", "60s", []string{"tap visa"}, 0, "ends with 0119"},
		{"snack", "vend", "60s", []string{"select 12"}, 0, "item 12 at 2.20 EUR"},
		{"canteen", "reader", "60s", append([]string{"tap"}, slices.Repeat([]string{"help"}, 20)...), 0, "proven; for its account: coinop-cloud account open 0000000001"},
		{"kiosk", "coin", "60s", []string{"coin 4"}, 0, "1.00 EUR came back"},
		{"kiosk", "coin", "61s", []string{"coin 4;coin 3"}, 0, "0.50 EUR came in"}, // before the slot is shut
		{"kiosk", "bill", "60s", []string{"bill 1"}, 0, "a bill of 10.00 EUR; it is given back"},
		{"laundry", "door", "60s", []string{"door open", "door shut"}, 0, "the door is "},
		{"snack", "reader", "200ms", nil, exitProblem, "nothing came in time"},
		{"snack", "bill", "1s", nil, exitProblem, "the configuration names none"},
	} {
		try := func(t *testing.T) {
			p := stands(t, c.profile)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go func() {
				for i := 0; len(c.does) > 0 && ctx.Err() == nil; i++ {
					for line := range strings.SplitSeq(c.does[i%len(c.does)], ";") {
						_, _ = p.Do(line)
					}
					time.Sleep(150 * time.Millisecond)
				}
			}()
			code, out, errs := call(t, nil, "test", c.what, "--config", filepath.Join(p.Dir, profile.ConfigFile), "--wait", c.wait, "--json")
			var all []tried
			if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
				t.Fatalf("%v\n%s%s", err, out, errs)
			}
			if code != c.code || !strings.Contains(strings.Join(all[0].Said, "\n")+all[0].Error, c.want) || all[0].OK != (code == 0) {
				t.Errorf("ends with %d: %+v", code, all[0])
			}
			if strings.Contains(out, "4761739001010010") {
				t.Error("a card's number is printed")
			}
		}
		trials.Go(func() { t.Run(c.profile+" "+c.what+" "+c.wait, try) })
	}
	defer trials.Wait()
	p := stands(t, "snack")
	file := filepath.Join(p.Dir, profile.ConfigFile)
	if _, err := p.Do("unplug printer"); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := call(t, nil, "test", "all", "--config", file, "--wait", "300ms"); code != exitProblem || !strings.Contains(out, "printer: FAIL: it does not become ready: absent") ||
		!strings.Contains(out, "reader: FAIL: nothing came in time") || strings.Contains(out, "coin:") {
		t.Errorf("%d %s", code, out)
	}
	if code, _, errs := call(t, nil, "test", "beer", "--config", file); code != exitUsage || !strings.Contains(errs, "printer, reader") {
		t.Errorf("%d %s", code, errs)
	}
}

// TestTryReaders: each reader of a lane is tried, one after the other, and one that fails is named.
func TestTryReaders(t *testing.T) {
	t.Parallel()
	p, other := stands(t, "snack"), stands(t, "canteen")
	file := filepath.Join(t.TempDir(), "agent.yaml")
	text := must[[]byte](t)(os.ReadFile(filepath.Join(p.Dir, profile.ConfigFile)))
	two := strings.Replace(string(text), "    reader:", "    readers: [{driver: pn532, port: "+filepath.Join(other.Dir, "reader")+"}]\n    reader:", 1)
	if err := os.WriteFile(file, []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = p.Do("tap visa")
			if i%20 == 0 { // a second away, and a second there
				_, _ = other.Do("tap 0000000001")
			}
			time.Sleep(150 * time.Millisecond)
		}
	}()
	try := func(wait string) (int, tried) {
		t.Helper()
		code, out, errs := call(t, nil, "test", "tap", "--config", file, "--wait", wait, "--json")
		var all []tried
		if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
			t.Fatalf("%v\n%s%s", err, out, errs)
		}
		return code, all[0]
	}
	code, got := try("60s")
	said := strings.Join(got.Said, "\n")
	if code != 0 || !got.OK || !strings.Contains(said, "present a card to reader within") || !strings.Contains(said, "ends with 0119") ||
		!strings.Contains(said, "reader 2 is ready") || !strings.Contains(said, "present a card to reader 2 within") {
		t.Errorf("ends with %d: %+v", code, got)
	}
	if _, err := other.Do("unplug reader"); err != nil {
		t.Fatal(err)
	}
	if code, got := try("60s"); code != exitProblem || !strings.HasPrefix(got.Error, "reader 2: it does not become ready: absent") {
		t.Errorf("ends with %d: %+v", code, got)
	}
}
