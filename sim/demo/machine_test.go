package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMachineAlone: without an agent nobody can buy, and commands are answered.
func TestMachineAlone(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"", "snack", "laundry"} { // behind an adapter, at a raw port, and a relay board
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			alone(t, kind)
		})
	}
}

func alone(t *testing.T, kind string) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dir := t.TempDir()
	commands, stdin := io.Pipe()
	events, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- RunMachine(ctx, MachineOptions{
			Dir: dir, Kind: kind, Seed: 1, Paused: true, QuitAtEOF: true, Think: time.Millisecond,
			Commands: commands, Events: stdout,
		})
		_ = stdout.Close()
	}()
	lines := bufio.NewScanner(events)
	until := func(what, why string) {
		t.Helper()
		for lines.Scan() {
			var e Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatalf("%s: %v", lines.Text(), err)
			}
			if e.What == what && strings.Contains(e.Why, why) {
				return
			}
		}
		t.Fatalf("no %s", what)
	}
	say := func(line string) {
		t.Helper()
		if _, err := io.WriteString(stdin, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	until(EventReady, "")
	for _, link := range []string{VMCFile, ReaderFile} {
		if _, err := os.Stat(filepath.Join(dir, link)); err != nil {
			t.Error(err)
		}
	}
	until(EventPaused, "")
	say("resume")
	until(EventTurnedAway, "takes no orders")
	say("dance")
	until(EventBad, "want pause, resume")
	say("fault no_such")
	until(EventBad, "silent_drop")
	say("till dance")
	until(EventBad, "want steal, skip or twice")
	say("till steal")
	if kind == "snack" {
		until(EventTold, "till steal")
	} else {
		until(EventBad, "of a machine that owns its cash")
	}
	say("door shut")
	if kind == "laundry" {
		until(EventTold, "door shut")
	} else {
		until(EventBad, "of a machine with a relay board")
	}
	say("fail next")
	until(EventTold, "fail next")
	say("pause")
	until(EventPaused, "")
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, events) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("it did not end with its commands")
	}
}
