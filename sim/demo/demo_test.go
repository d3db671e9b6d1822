package demo

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"image/png"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coinop/agent"
	"coinop/hardware/paper"
	"coinop/hardware/virtual"
)

var binDir string

func TestMain(m *testing.M) {
	var err error
	if binDir, err = os.MkdirTemp("", "coinop-bin-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(binDir)
	os.Exit(code)
}

// build makes the programs once. Without -race, whatever the test has: the processes are the point.
var build = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", binDir+"/", "coinop/agent/cmd/coinop-agent", "coinop/cloud/cmd/coinop-cloud",
		"coinop/sim/cmd/coinop-sim").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
})

func programs(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a dozen processes")
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return binDir
}

// logged prints lines as the test's log.
type logged struct{ t *testing.T }

func (l logged) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// engine is a broker and a store.
type engine struct{ name, broker, store string }

// engines are those that everything here runs on.
var engines = []engine{
	{"own broker and file", "", ""},
	{"mosquitto and postgres", "mosquitto", "postgres"},
}

// TestFleet is make demo, short: with Mosquitto and PostgreSQL on two replicas, of which one is killed.
func TestFleet(t *testing.T) {
	bin := programs(t)
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			dir := filepath.Join(t.TempDir(), "run")
			v, err := Run(t.Context(), Options{
				Bin: bin, Dir: dir, For: 6 * time.Second, Seed: 1, MinSales: 5, Out: &out, Broker: e.broker, Store: e.store,
				inspect: func(f *fleet) {
					noCardInClear(t, dir)
					if f.postgres != nil {
						noCardInClear(t, f.postgres.Dir())
					}
				},
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			last := lines[len(lines)-1]
			cash := regexp.MustCompile(`^sales \d+ · captured \d+\.\d\d EUR · voided \d+ · declined \d+ · cases \d+ · lost 0 · ` +
				`doubled 0 · unexplained 0 · cash explained (\d+\.\d\d) of (\d+\.\d\d) EUR · ledger balanced$`).FindStringSubmatch(last)
			if last != v.String() || cash == nil || cash[1] != cash[2] {
				t.Errorf("last line %q", last)
			}
			wants := []string{"loses its line", "is mended", "killed (SIGKILL", "started again", "  sold", "nothing fell", "all has settled"}
			if e.broker != "" && e.store != "" {
				wants = append(wants, "cloud-2 killed (SIGKILL", "cloud-2 started again", "Mosquitto", "ledger in PostgreSQL")
			}
			for _, want := range wants {
				if !strings.Contains(out.String(), want) {
					t.Errorf("nothing says %q:\n%s", want, out.String())
				}
			}
			if v.Voided == 0 || v.Declined == 0 {
				t.Errorf("%s: want a void and a decline", v)
			}
			t.Log(v)
			printed(t, dir, v.Sales)
		})
	}
}

// Each engine is an engine of its own.
func TestOneOtherEngine(t *testing.T) {
	bin := programs(t)
	for _, o := range []Options{{Broker: "mosquitto"}, {Store: "postgres"}} {
		t.Run(o.Broker+o.Store, func(t *testing.T) {
			t.Parallel()
			o.Bin, o.For, o.Seed, o.MinSales = bin, 2*time.Second, 4, 1
			v, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(v)
		})
	}
	if _, err := Run(t.Context(), Options{Bin: bin, Store: "oracle"}); !errors.Is(err, ErrEngine) {
		t.Error(err)
	}
}

// printed: every sale left a receipt in its agent's folder, but for one whose agent was killed in that
// moment, each machine's printer drew some, and the last is the last that was kept, dot by dot.
func printed(t *testing.T, dir string, sales int) {
	t.Helper()
	machines, _ := filepath.Glob(filepath.Join(dir, "machine-*"))
	charged := 0
	for _, m := range machines {
		kept, err := agent.Receipts(filepath.Join(m, "data"))
		if err != nil || len(kept) == 0 {
			t.Fatalf("%s: %d receipts, %v", m, len(kept), err)
		}
		last := kept[len(kept)-1]
		for _, r := range kept {
			if !r.Charged.IsZero() {
				charged++
			}
			if len(r.Items) != 1 || r.Cash.IsZero() && len(r.Last4) != 4 || r.Machine != filepath.Base(m) {
				t.Errorf("%s: %+v", m, r)
			}
		}
		drawn, _ := filepath.Glob(filepath.Join(dir, "receipts", filepath.Base(m), "*.png"))
		if len(drawn) == 0 {
			t.Fatalf("%s: its printer drew nothing", m)
		}
		slices.Sort(drawn)
		got, err := os.ReadFile(drawn[len(drawn)-1])
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := png.Encode(&want, last.Layout(paper.Form{Columns: paper.Width80}).Picture()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is not the last receipt:\n%s", drawn[len(drawn)-1], last.Layout(paper.Form{Columns: paper.Width80}).Text())
		}
	}
	if charged < sales-1 || charged > sales {
		t.Errorf("%d receipts of something charged, %d sales", charged, sales)
	}
}

// noCardInClear: no number of a card that was tapped stands in any file that the processes wrote, as
// digits or as BCD: journals, ledger, the bank's books, logs.
func noCardInClear(t *testing.T, dir string) {
	t.Helper()
	var needles [][]byte
	for _, c := range []virtual.Tap{virtual.VisaTest(), virtual.MastercardTest(), virtual.MaestroTest()} {
		digits := c.Track2.PAN().Reveal()
		bcd, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		needles = append(needles, []byte(digits), bcd)
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		for _, n := range needles {
			if bytes.Contains(b, n) {
				t.Errorf("a card number stands in %s", path)
			}
		}
		return err
	})
	if err != nil || files < 15 {
		t.Errorf("%d files looked through in %s: %v", files, dir, err)
	}
}

// TestInterrupted: Ctrl-C ends it early, and as cleanly.
func TestInterrupted(t *testing.T) {
	bin := programs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "kept")
	v, err := Run(ctx, Options{Bin: bin, Dir: dir, For: time.Hour, Seed: 2, MinSales: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "host.jsonl")); err != nil {
		t.Errorf("the folder that was named is not kept: %v", err)
	}
	if _, err := Run(t.Context(), Options{Bin: bin, Dir: dir}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a second run in the same folder: %v", err)
	}
	t.Log(v)
}

// TestWrong: what is wrong is said before the last line, and the files are kept.
func TestWrong(t *testing.T) {
	bin := programs(t)
	var out strings.Builder
	v, err := Run(t.Context(), Options{Bin: bin, For: time.Second, Seed: 3, MinSales: 1000, Out: &out})
	if !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), "want at least 1000") {
		t.Errorf("%v, want ErrWrong and why", err)
	}
	_, dir, kept := strings.Cut(fmt.Sprint(err), "kept in ")
	if _, err := os.Stat(filepath.Join(dir, "cloud")); !kept || err != nil {
		t.Fatalf("files not kept: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "want at least 1000") || !strings.HasSuffix(out.String(), v.String()+"\n") {
		t.Errorf("printed:\n%s", out.String())
	}
}

// kills is how often what is killed.
type kills struct{ agents, clouds, brokers, stores int }

// TestKill kills agents and the cloud, and the broker and the database server where they are their
// own, at random moments of sales and starts them again at once; and one replica of two stands still
// for longer than its leases and goes on. After that the books agree. COINOP_SEED chooses
// others than the usual buyers and moments.
func TestKill(t *testing.T) {
	bin := programs(t)
	seed := uint64(1)
	if s := os.Getenv("COINOP_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 32); err != nil {
			t.Fatalf("COINOP_SEED: %v", err)
		}
	}
	for _, e := range engines {
		n := kills{agents: 40, clouds: 5} // of the only one there is: every machine has to connect again
		if e.broker != "" {
			n = kills{agents: 5, clouds: 10, brokers: 1, stores: 2}
		}
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			var hit map[string]int
			v := suffer(t, bin, seed, e, func(ctx context.Context, f *fleet, p *printer) (err error) {
				hit, err = killAndHeal(ctx, f, p, seed, n)
				return err
			})
			t.Logf("killed %+v after %v: %s", n, hit, v)
			if all := n.agents + n.clouds; v.Sales < n.agents/3 || all-hit["idle"] < all/3 {
				t.Errorf("%d sales, killed after %v: that was no test", v.Sales, hit)
			}
		})
	}
	t.Run("a replica stands still", func(t *testing.T) {
		t.Parallel()
		v := suffer(t, bin, seed, engines[1], standStill)
		t.Log(v)
		if v.Sales < 20 {
			t.Errorf("%d sales: that was no test", v.Sales)
		}
	})
}

// suffer lets a fleet of five sell while something is done to it, and compares the books.
func suffer(t *testing.T, bin string, seed uint64, e engine, do func(context.Context, *fleet, *printer) error) Verdict {
	t.Helper()
	dir, err := os.MkdirTemp("", "coinop-kill-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	p := &printer{out: logged{t}, began: time.Now()}
	f := &fleet{o: fleetOptions{
		Bin: bin, Dir: dir, Seed: seed, Machines: 5, Vend: 2 * time.Second, On: p.event, Broker: e.broker, Store: e.store,
	}}
	defer func() {
		if err := f.closeEngines(); err != nil {
			t.Error(err)
		}
	}()
	if err = f.up(ctx); err == nil {
		for _, s := range f.stations {
			err = errors.Join(err, s.tell("resume"))
		}
	}
	if err == nil {
		err = do(ctx, f, p)
	}
	if err = errors.Join(err, f.watch()); err == nil {
		err = f.pause(ctx)
	}
	if err == nil {
		err = f.settle(ctx, func(waits string) { p.note("still waiting for %s", waits) })
	}
	if err = errors.Join(err, f.down()); err != nil {
		t.Fatalf("seed %d: %v\nthe files of this run are kept in %s", seed, err, dir)
	}
	v, err := f.compare(ctx)
	if err != nil || !v.OK() {
		t.Fatalf("seed %d: %s\n%s\n%v\nthe files of this run are kept in %s", seed, v, strings.Join(v.Findings, "\n"), err, dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
	t.Logf("seed %d, %.0f s", seed, time.Since(p.began).Seconds())
	return v
}

// standStill stops one replica of two in the middle of sales, as a host that is short of memory or
// a machine that is moved does, for longer than the leases of what it has in hand; then it goes on
// with what it had in mind.
func standStill(ctx context.Context, f *fleet, p *printer) error {
	s, r := f.stations[0], f.replicas[0]
	if err := s.await(ctx, 10*time.Second, EventVending, s.count(EventVending)+2); err != nil {
		return err
	}
	if err := r.proc.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	p.act("%s stands still", r.name)
	if !sleep(ctx, 20*time.Second) {
		return context.Cause(ctx)
	}
	if err := r.proc.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	p.act("%s goes on", r.name)
	if !sleep(ctx, 3*time.Second) {
		return context.Cause(ctx)
	}
	return nil
}

// killAndHeal kills side by side: each machine's agent by itself, the replicas in turn, broker and
// database server. It says after what agents and replicas were hit.
func killAndHeal(ctx context.Context, f *fleet, p *printer, seed uint64, n kills) (hit map[string]int, err error) {
	hit = map[string]int{}
	var mu sync.Mutex // of hit and errs
	var errs []error
	var all sync.WaitGroup
	side := func(times int, stream uint64, do func(*rand.Rand, int) (string, error)) {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, stream))
			for i := range times {
				what, err := do(rnd, i)
				mu.Lock()
				if hit[what]++; err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	for i, s := range f.stations {
		times := n.agents / len(f.stations)
		side(times, uint64(i), func(rnd *rand.Rand, i int) (string, error) {
			if i%4 == 1 { // and a vend nobody hears the end of: a case
				if err := s.tell("fault " + []string{"reset_drop", "reset_jam"}[rnd.IntN(2)]); err != nil {
					return "", err
				}
			}
			what, err := moment(ctx, s, rnd)
			if err != nil {
				return what, err
			}
			s.killAgent()
			p.act("%s killed, after %s", s.agentName(), what)
			return what, f.startAgent(s)
		})
	}
	side(n.clouds, 100, func(rnd *rand.Rand, i int) (string, error) {
		if len(f.replicas) == 1 && !sleep(ctx, 3*time.Second) { // until machines are connected again, and sell
			return "", context.Cause(ctx)
		}
		s := f.stations[rnd.IntN(len(f.stations))]
		what, err := moment(ctx, s, rnd)
		if err != nil {
			return what, err
		}
		r := f.replicas[i%len(f.replicas)]
		if !r.proc.alive() {
			return what, r.proc.died()
		}
		r.proc.kill()
		p.act("%s killed, %s after %s", r.name, s.name, what)
		return what, f.startReplica(ctx, r)
	})
	apart := func(what string, kill, run func() error) func(*rand.Rand, int) (string, error) {
		return func(rnd *rand.Rand, _ int) (string, error) {
			if !sleep(ctx, time.Second+rand.N(2*time.Second)) {
				return "", context.Cause(ctx)
			}
			if err := kill(); err != nil {
				return "", err
			}
			p.act("%s killed", what)
			if !sleep(ctx, time.Duration(rnd.Int64N(int64(500*time.Millisecond)))) {
				return "", context.Cause(ctx)
			}
			return what, run()
		}
	}
	if f.mosquitto != nil {
		side(n.brokers, 101, apart("broker", func() error { f.mosquitto.Kill(); return nil }, f.mosquitto.Run))
	}
	if f.postgres != nil {
		side(n.stores, 102, apart("database server", f.postgres.Kill, f.postgres.Run))
	}
	all.Wait()
	return hit, errors.Join(errs...)
}

// moment waits for the next moment of some kind at a machine and a little longer, and says which. One
// that nobody can buy at is idle.
func moment(ctx context.Context, s *station, rnd *rand.Rand) (string, error) {
	moments := []string{EventChose, EventTapped, EventTapped, EventVending, EventVending}
	what := moments[rnd.IntN(len(moments))]
	if s.await(ctx, 4*time.Second, what, s.count(what)+1) != nil {
		what = "idle"
	}
	if !sleep(ctx, time.Duration(rnd.Int64N(int64(200*time.Millisecond)))) {
		return what, context.Cause(ctx)
	}
	if !s.sim.alive() {
		return what, s.sim.died()
	}
	return what, nil
}
