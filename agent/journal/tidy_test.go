package journal

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"coinop/protocol"
)

// badgerOf is the engine of the first copy.
func badgerOf(t *testing.T, j *Journal) *badgerEngine {
	t.Helper()
	if tw, ok := j.eng.(*twin); ok {
		if e, ok := tw.engine.(*badgerEngine); ok {
			return e
		}
	}
	t.Fatalf("%T", j.eng)
	return nil
}

// batch is what a busy day writes at once, a tenth of a megabyte, and a snapshot.
func batch() []protocol.Record {
	recs := []protocol.Record{{Body: protocol.Snapshot{}}}
	for i := range 100 {
		recs = append(recs, protocol.Record{Body: protocol.DeviceEvent{Code: "test", Detail: fmt.Sprint(strings.Repeat("x", 1000), i)}})
	}
	return recs
}

// Tables do not heap up, whether what they have is released or not, and nobody looks for them when nothing is written.
func TestTidy(t *testing.T) {
	t.Parallel()
	for name, release := range map[string]bool{"all is released": true, "nothing is": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "journal")
			j := must[*Journal](t)(OpenBadger(dir, opts()))
			e := badgerOf(t, j)
			begun, most := 0, 0
			for range tidyBatches {
				last := e.ended
				must[[]protocol.Position](t)(j.Append(batch(), nil))
				if e.ended != nil && e.ended != last { // one may end and the next begin at once
					begun++
				}
				most = max(most, e.db.Levels()[0].NumTables)
				if release {
					if err := j.Release(j.Head().Seq); err != nil {
						t.Fatal(err)
					}
					must[int](t)(j.Trim(0, false))
				}
			}
			if begun < 2 || most > level0Most+1 {
				t.Errorf("compacted %d times, %d tables at level 0", begun, most)
			}
			if e.ended != nil {
				e.settle()
			}
			tables, size := 0, int64(0)
			for _, l := range e.db.Levels() {
				tables += l.NumTables
				size += l.Size
			}
			if release && size > 10<<20 || !release && size < int64(tidyBatches)*80_000 {
				t.Errorf("%d tables of %d bytes", tables, size)
			}
			if zero := e.db.Levels()[0].NumTables; zero > level0Most {
				t.Errorf("%d tables at level 0", zero)
			}
			var all bytes.Buffer
			if err := pprof.Lookup("goroutine").WriteTo(&all, 2); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(all.String(), "runCompactor") {
				t.Error("Badger's compactors run")
			}
			if err := j.Verify(); err != nil {
				t.Error(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			j = must[*Journal](t)(OpenBadger(dir, opts()))
			defer j.Close()
			if fate, why := j.Fate(); fate != Sound {
				t.Errorf("%s: %s", fate, why)
			}
		})
	}
}

// Each end of the process leaves a small table: many of them are compacted at an opening.
func TestTidyAfterManyStarts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	most, compacted := 0, 0
	for i := range 3 * level0Many {
		j := must[*Journal](t)(OpenBadger(dir, opts()))
		e := badgerOf(t, j)
		most = max(most, e.db.Levels()[0].NumTables)
		if e.ended != nil {
			<-e.ended
			if must[int](t)(j.Trim(0, false)); e.ended != nil {
				t.Error("its memory was not given back")
			}
			compacted++
		}
		must[[]protocol.Position](t)(j.Append([]protocol.Record{event(i)}, nil))
		if err := j.Verify(); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if most > level0Many || compacted < 2 {
		t.Errorf("%d tables at level 0, compacted %d times", most, compacted)
	}
}

// A real process is killed with -9 while it compacts: every acknowledged record is there, in the first copy.
func TestKillCompacting(t *testing.T) {
	const compacting = "compacting"
	if dir := os.Getenv("COINOP_JOURNAL_COMPACT"); dir != "" {
		j, err := OpenBadger(dir, opts())
		if err == nil {
			err = j.Verify()
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(2)
		}
		fate, why := j.Fate()
		fmt.Println(fate, j.Head().Seq, why)
		for {
			if _, err = j.Append(batch(), nil); err == nil {
				err = j.Release(max(j.Head().Seq, 1000) - 1000)
			}
			if err == nil {
				_, err = j.Trim(0, false)
			}
			if err != nil {
				fmt.Println(err)
				os.Exit(2)
			}
			fmt.Println("at", j.Head().Seq)
			if badgerOf(t, j).ended != nil {
				fmt.Println(compacting)
			}
		}
	}
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	acked, kills := 0, 0
	for round := range killRounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillCompacting$")
		cmd.Env = append(os.Environ(), "COINOP_JOURNAL_COMPACT="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, first := bufio.NewScanner(out), true
		for lines.Scan() {
			var fate string
			var seq int
			switch n, _ := fmt.Sscan(lines.Text(), &fate, &seq); {
			case lines.Text() == compacting:
				kills++
				time.AfterFunc(time.Duration(rnd.IntN(int(30*time.Millisecond))), func() { _ = cmd.Process.Kill() })
			case n != 2 || first && (fate != Sound.String() && fate != Mended.String() || seq < acked):
				t.Errorf("seed %d round %d: %s; acknowledged %d", seed, round, lines.Text(), acked)
				_ = cmd.Process.Kill()
			default:
				acked = seq
			}
			first = false
		}
		_ = cmd.Wait()
	}
	j := must[*Journal](t)(OpenBadger(dir, opts()))
	defer j.Close()
	fate, why := j.Fate()
	if err := j.Verify(); err != nil || int(j.Head().Seq) < acked || fate > Mended {
		t.Fatalf("seed %d: %v, %s: %s, head %d, acknowledged %d", seed, err, fate, why, j.Head().Seq, acked)
	}
	if kills < killRounds {
		t.Errorf("it was killed %d times only", kills)
	}
	t.Logf("seed %d: %d records acknowledged, 0 lost", seed, acked)
}

var (
	killRounds  = 8
	tidyBatches = 300 // of 0.1 MB
)
