// Package demo is a whole installation on one machine, as processes of its own: a bank, the cloud,
// a snack machine that owns its cash, a kiosk with a payment terminal and cash of ours, a laundry, all on ptys and
// sockets with buyers before them, and the agents in them.
//
//	v, err := demo.Run(ctx, demo.Options{Bin: "bin", For: 20 * time.Second, Seed: 1, Out: os.Stdout})
//
// Things go wrong on purpose while it runs: a line is cut, a motor turns and nothing falls, the bank
// declines, an agent is killed in the middle of a vend, a relay board falls silent in one. At the end books that nobody shares are
// held against each other: those of the bank and of the terminal's provider, our ledger, what fell out of the
// machines, and the cash that they counted.
//
// Everything it starts it ends by its own handle, and every wait has a deadline.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options of Run. Bin is needed.
type Options struct {
	Bin      string        // folder of coinop-agent, coinop-cloud and coinop-sim
	Dir      string        // an empty folder, kept; "": a temporary one, kept only when something is wrong
	For      time.Duration // how long buyers come: 20 s. The run ends earlier when ctx does
	Seed     uint64        // of the buyers
	Broker   string        // "": the cloud's own; "mosquitto": a Mosquitto
	Store    string        // "": a file; "postgres": a PostgreSQL server. With both there are two replicas
	MinSales int           // fewer are an error; 0: 30 per 20 s of what was run, at most 30
	Receipts string        // folder that gets a picture of each machine's last receipts; "": in Dir
	Out      io.Writer     // what happens is printed to it; nil: nowhere

	inspect func(f *fleet) // looks at the engines before they end; nil: nobody
}

// Deadlines.
const (
	settleIn = 90 * time.Second
	vend     = 3 * time.Second // an agent's vend timeout
)

// ErrWrong means that the books do not agree, or something did not go as it must. What it was
// has been printed.
var ErrWrong = errors.New("not all is well")

// ErrEngine means an engine that there is none of.
var ErrEngine = errors.New(`the broker is "mosquitto" or "", the store "postgres" or ""`)

// Run is one demonstration. Its error wraps ErrWrong when the books do not agree or a process did
// not end by itself; the files are then kept, and it says where.
func Run(ctx context.Context, o Options) (Verdict, error) {
	if o.For <= 0 {
		o.For = 20 * time.Second
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Broker != "" && o.Broker != "mosquitto" || o.Store != "" && o.Store != "postgres" {
		return Verdict{}, fmt.Errorf("broker %q, store %q: %w", o.Broker, o.Store, ErrEngine)
	}
	dir, keep := o.Dir, o.Dir != ""
	var err error
	if keep {
		err = emptyDir(dir)
	} else {
		dir, err = os.MkdirTemp("", "coinop-demo-")
	}
	if err != nil {
		return Verdict{}, err
	}
	p := &printer{out: o.Out, began: time.Now()}
	v, err := run(ctx, o, dir, p)
	switch {
	case err != nil && !keep:
		err = fmt.Errorf("%w\nthe files of this run are kept in %s", err, dir)
	case !keep:
		err = os.RemoveAll(dir)
	}
	if v == nil { // it did not come to a comparison
		return Verdict{}, err
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrWrong, err)
		p.line(err.Error())
	}
	p.line(v.String())
	return *v, err
}

func (f *fleet) brokerName() string {
	if f.mosquitto != nil {
		return "Mosquitto"
	}
	return "the cloud's own broker"
}

func (f *fleet) storeName() string {
	if f.postgres != nil {
		return "PostgreSQL"
	}
	return "a file"
}

func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	there, err := os.ReadDir(dir)
	if err == nil && len(there) > 0 {
		err = fmt.Errorf("%s is not empty: choose another folder, books of two runs cannot be told apart", dir)
	}
	return err
}

func run(ctx context.Context, o Options, dir string, p *printer) (v *Verdict, err error) {
	f := &fleet{o: fleetOptions{
		Bin: o.Bin, Dir: dir, Seed: o.Seed, Machines: 3, Broker: o.Broker, Store: o.Store, Vend: vend, Receipts: o.Receipts, On: p.event,
	}}
	// What must end in order ends after Ctrl-C too.
	orderly := context.WithoutCancel(ctx)
	defer func() {
		err = errors.Join(err, f.down())
		if o.inspect != nil {
			o.inspect(f)
		}
		err = errors.Join(err, f.closeEngines())
	}()
	p.note("seed %d, files in %s", o.Seed, dir)
	if err := f.up(ctx); err != nil {
		return nil, err
	}
	p.note("bank on %s, machines connect to %s (MQTT over TLS, %s), ledger in %s", f.hostAddr, f.cloudAddr, f.brokerName(), f.storeName())
	for _, r := range f.replicas {
		p.note("%s, process %d: http://%[3]s/api/v1/sales, .../sales/{id}, http://%[3]s/api/v1/devices, /healthz, /metrics, /openapi.json",
			r.name, r.proc.cmd.Process.Pid, r.http)
	}
	if o.Receipts != "" {
		p.note("pictures of the last receipts: %s", filepath.Join(o.Receipts, "*", "*.png"))
	}
	for _, s := range f.stations {
		p.note("%s, %s, terminal %s: process %d; %s: process %d, its line to the cloud is %s", s.name, descriptions[s.kind].what, s.tid, s.sim.cmd.Process.Pid,
			s.agentName(), s.agent.cmd.Process.Pid, s.line.addr())
	}
	for _, s := range f.stations {
		if err := s.tell("resume"); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	wrong := f.perform(ctx, o.For, p)
	ran := time.Since(began)

	if !errors.Is(wrong, errEnded) { // else nothing will settle
		wrong = errors.Join(wrong, f.calm(orderly, p))
	}
	shown := -1
	if !errors.Is(wrong, errEnded) {
		var err error
		if shown, err = captured(orderly, f.replicas[0].http); err != nil {
			wrong = errors.Join(wrong, err)
		}
	}
	wrong = errors.Join(wrong, f.down())
	verdict, err := f.compare(orderly)
	if err != nil {
		return nil, errors.Join(wrong, err)
	}
	if least := o.least(ran); verdict.Sales < least {
		wrong = errors.Join(wrong, fmt.Errorf("%d sales in %.0f s, want at least %d", verdict.Sales, ran.Seconds(), least))
	}
	if have := verdict.Sales + verdict.Told; shown >= 0 && shown != have {
		wrong = errors.Join(wrong, fmt.Errorf("the HTTP interface showed %d sales that were captured, the ledger has %d", shown, have))
	}
	for _, n := range verdict.Named {
		p.note("%s", n)
	}
	if !verdict.OK() {
		wrong = errors.Join(wrong, fmt.Errorf("the books do not agree:\n  %s", strings.Join(verdict.Findings, "\n  ")))
	}
	return &verdict, wrong
}

// calm ends the buying and waits until all has settled.
func (f *fleet) calm(ctx context.Context, p *printer) error {
	p.note("no more buyers; waiting until all has settled")
	ctx, done := context.WithTimeout(ctx, settleIn)
	defer done()
	if err := f.pause(ctx); err != nil {
		return err
	}
	if err := f.settle(ctx, func(waits string) { p.note("still waiting for %s", waits) }); err != nil {
		return err
	}
	p.note("all has settled: nothing open, every journal is held by the cloud up to its head")
	return nil
}

// least is the number of sales below which something must be wrong.
func (o Options) least(ran time.Duration) int {
	if o.MinSales != 0 {
		return max(o.MinSales, 0)
	}
	return min(30, int(30*ran/(20*time.Second)))
}

// act is one thing that goes wrong on purpose.
type act struct {
	at float64 // of the whole span
	do func(ctx context.Context) error
}

// perform lets buyers buy for a while, with everything that is to go wrong in it.
func (f *fleet) perform(ctx context.Context, span time.Duration, p *printer) error {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	first, second, third := f.stations[0], f.stations[1], f.stations[2]
	cut := min(span/5, 4*time.Second)
	acts := []act{
		{0.10, func(context.Context) error {
			p.act("a buyer at %s will want what his bank declines", first.name)
			return first.tell(fmt.Sprintf("choose %d", DearOutlet))
		}},
		{0.15, func(context.Context) error {
			p.act("%s will keep what the next buyer with coins puts in, and tell nobody", first.name)
			return first.tell("till steal")
		}},
		{0.20, func(context.Context) error {
			p.act("the next vend of %s fails: the motor will turn and nothing fall, and the payment is voided", first.name)
			return first.tell("fail next")
		}},
		{0.30, func(context.Context) error {
			p.act("%s loses its line to the cloud for %.1f s: cut, and every new connection refused", second.name, cut.Seconds())
			p.sold(second.name)
			second.line.set(true)
			return nil
		}},
		{0.30 + cut.Seconds()/span.Seconds(), func(context.Context) error {
			second.line.set(false)
			p.act("the line of %s is mended; it sold %d in between", second.name, p.sold(second.name))
			return nil
		}},
		{0.40, func(context.Context) error {
			p.act("the service door of %s opens: its agent writes that down", third.name)
			return third.tell("door open")
		}},
		{0.45, func(context.Context) error { return third.tell("door shut") }},
		{0.50, func(context.Context) error {
			p.act("%s will not tell of its next cash sale", first.name)
			return first.tell("till skip")
		}},
		{0.60, func(ctx context.Context) error { return f.killInVend(ctx, third, p) }},
		{0.70, func(ctx context.Context) error { return f.killReplica(ctx, f.replicas[len(f.replicas)-1], p) }},
		{0.80, func(context.Context) error {
			p.act("the board of %s will say nothing more in the middle of its next vend: it falls, nobody says so, and a case asks", second.name)
			return second.tell("fault reset_drop")
		}},
	}
	began := time.Now()
	var errs []error
	// Whatever ends this early, no line stays cut.
	defer second.line.set(false)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for len(acts) > 0 && time.Since(began) >= time.Duration(acts[0].at*float64(span)) {
			if err := acts[0].do(ctx); err != nil && ctx.Err() == nil {
				errs = append(errs, err)
			}
			acts = acts[1:]
		}
		if err := f.watch(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(errs...)
		}
	}
}

// killReplica kills one of several replicas of the cloud and starts it again; of one there is none to spare.
func (f *fleet) killReplica(ctx context.Context, r *replica, p *printer) error {
	if len(f.replicas) < 2 {
		return nil
	}
	pid := r.proc.cmd.Process.Pid
	r.proc.kill()
	p.act("%s killed (SIGKILL, process %d): what it had in hand the others take over", r.name, pid)
	if err := f.startReplica(ctx, r); err != nil {
		return err
	}
	p.act("%s started again (process %d)", r.name, r.proc.cmd.Process.Pid)
	return nil
}

// killInVend kills an agent while its machine gives something out, and starts it again.
func (f *fleet) killInVend(ctx context.Context, s *station, p *printer) error {
	if err := s.await(ctx, 10*time.Second, EventVending, s.count(EventVending)+1); err != nil {
		return err
	}
	pid := s.agent.cmd.Process.Pid
	s.killAgent()
	p.act("%s killed (SIGKILL, process %d) in the middle of a vend of %s", s.agentName(), pid, s.name)
	if err := f.startAgent(s); err != nil {
		return err
	}
	p.act("%s started again (process %d); nobody told it what became of that vend", s.agentName(), s.agent.cmd.Process.Pid)
	return nil
}
