package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"coinop/agent"
	"coinop/protocol/code"
)

// doctorTime is what a person waits for an examination.
const doctorTime = 3 * time.Second

// TestDoctor breaks an installation piece by piece, and wants each piece named.
func TestDoctor(t *testing.T) {
	t.Parallel()
	bin := programs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	p := &printer{out: logged{t}, began: time.Now()}
	f := &fleet{o: fleetOptions{Bin: bin, Dir: t.TempDir(), Seed: 1, Machines: 3, Vend: 2 * time.Second, On: p.event}}
	if err := f.up(ctx); err != nil {
		t.Fatal(err, f.down())
	}
	ended := false
	defer func() {
		if !ended {
			_ = f.down()
		}
	}()
	// wants waits until doctor names these codes, and no others, for a machine.
	wants := func(what string, s *station, codes ...code.Code) {
		t.Helper()
		var last []byte
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			began := time.Now()
			out, status := doctor(t, f, s)
			took := time.Since(began)
			last = out
			var d struct {
				Failures int
				Findings []agent.Finding
			}
			if err := json.Unmarshal(out, &d); err != nil {
				t.Fatalf("%s: %v\n%s", what, err, out)
			}
			var named []code.Code
			for _, f := range d.Findings {
				// Nothing keeps the clock of a container; and what an agent has not sent yet is no fault.
				if c := f.Fault.Code; f.Level == agent.LevelFail && !slices.Contains(named, c) {
					if f.Fault.Cause == "" || f.Fault.Next == "" {
						t.Errorf("%s: %s is not in the catalogue", what, c)
					}
					named = append(named, c)
				}
			}
			slices.Sort(named)
			slices.Sort(codes)
			if slices.Equal(named, codes) && (status == 1) == (len(codes) > 0) {
				if took > doctorTime+2*time.Second { // the machine is shared
					t.Errorf("%s: took %s", what, took)
				}
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: doctor names %v, want %v; it ended with %d\n%s", what, named, codes, status, last)
			}
		}
	}
	snack := f.stations[0]
	for _, s := range f.stations {
		wants(s.kind+" is well", s)
	}
	f.host.kill()
	wants("the bank is gone", snack, code.AcquirerDown)
	f.replicas[0].proc.kill()
	wants("the cloud is gone", snack, code.LinkClosed, code.CloudSilent) // a proxy stands before it
	snack.sim.kill()
	wants("the machine is gone too", snack, code.LinkClosed, code.CloudSilent, code.PortAbsent)
	snack.killAgent()
	out, _ := doctor(t, f, snack)
	if !bytes.Contains(out, []byte(code.AgentNotRunning)) {
		t.Errorf("without an agent:\n%s", out)
	}
	ended = true
	_ = f.down()
}

// doctor runs it on a machine, and says what it printed and how it ended.
func doctor(t *testing.T, f *fleet, s *station) (out []byte, status int) {
	t.Helper()
	cmd := exec.Command(f.bin("coinop-agent"), "doctor", "--config", s.file(), "--json",
		"--identity", filepath.Join(s.dir, "identity"), "--data", filepath.Join(s.dir, "data"), "--cloud", s.line.addr()) //nolint:gosec // ours
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return out, e.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out, 0
}
