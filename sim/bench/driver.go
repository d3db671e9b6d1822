package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"coinop/agent"
	"coinop/agent/profile"
	"coinop/cloud/identity"
	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/hardware/vivopay"
	"coinop/protocol/money"

	"golang.org/x/sys/unix"
)

// Wanted of the drivers.
const (
	targetPoll    = 5.0 // ms, the bus's own limit for an answer (MDB/ICP 4.2, 2.5)
	targetIdle    = 0.5 // % of a core, each driver
	idleDrivers   = 3   // MDB, DEX, reader
	targetAll     = 2.0 // % of a core, an agent with one of every driver
	targetCard    = 5.0 // ms, from the last byte of a reader's answer to the event
	cardTaps      = 400
	busPoll       = 25 * time.Millisecond
	cashSaleEvery = 20 * time.Millisecond
)

// drivers runs the agent at a raw MDB bus: how soon it answers a POLL while it writes cash sales down as
// fast as no machine sells, and what it costs when nothing happens but POLLs.
func (r *Report) drivers(ctx context.Context, o Options, dir string) error {
	keys, err := identity.OpenKeys(filepath.Join(dir, "keys"), time.Now())
	if err != nil {
		return err
	}
	cloud, err := keys.Cloud()
	if err != nil {
		return err
	}
	b, err := keys.Authority.Device("bench", time.Now(), cloud)
	if err == nil {
		err = b.Write(filepath.Join(dir, "identity"))
	}
	if err != nil {
		return err
	}
	busy, err := r.atBus(ctx, o, dir, 0)
	if err != nil {
		return err
	}
	r.less("MDB: answer to a POLL under load, p99.9", ms(percentile(busy.polls, 0.999)), "ms", targetPoll,
		fmt.Sprintf("the bus's limit; %d POLLs on a pty while %d cash sales were written down", len(busy.polls), busy.sales))
	r.less("MDB: answer to a POLL under load, p50", ms(percentile(busy.polls, 0.5)), "ms", targetPoll, "the bus's limit")
	idle, err := r.atBus(ctx, o, dir, busPoll)
	if err != nil {
		return err
	}
	r.less("agent idle, a POLL every 25 ms, reader, DEX", idle.cpu, "% of a core", idleDrivers*targetIdle, "0.5 % a driver")
	drivers, cpu, err := r.allDrivers(ctx, o, dir)
	if err != nil {
		return err
	}
	r.less(fmt.Sprintf("agent idle, all %d drivers of %d lanes", drivers, len(idleMachines)), cpu, "% of a core", targetAll, "what is wanted")
	taps, err := cards(ctx)
	if err != nil {
		return err
	}
	r.less("card: last byte of the reader's answer to the event, p99", ms(percentile(taps, 0.99)), "ms", targetCard,
		fmt.Sprintf("what is wanted; %d cards at a reader on a pty", len(taps)))
	return nil
}

// cards presents cards at a reader, and says how long each took from the answer's last byte to the event that
// the agent gets.
func cards(ctx context.Context) (taps []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	far, err := virtual.NewReader(virtual.ReaderConfig{})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	read, ready := make(chan time.Time, 1), make(chan struct{}, 1)
	out := func(ev hardware.Event) {
		switch ev := ev.(type) {
		case hardware.CardRead:
			ev.Card.Wipe()
			read <- time.Now()
		case hardware.Health:
			if ev.State == hardware.Ready {
				ready <- struct{}{}
			}
		}
	}
	driver, err := vivopay.New(vivopay.Config{Path: far.Path(), Currency: money.EUR, Clock: func() time.Duration { return time.Since(began) }}, out)
	if err != nil {
		return nil, err
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = far.Run(ctx) })
	running.Go(func() { _ = hardware.Supervise(ctx, "reader", driver.Open, out) })
	select {
	case <-ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("the reader is not ready: %w", ctx.Err())
	}
	for len(taps) < cardTaps {
		if err := driver.Activate(money.New(150, money.EUR), 10*time.Second); err != nil {
			return nil, err
		}
		if err := far.TapWhenArmed(ctx, virtual.VisaTest()); err != nil {
			return nil, err
		}
		written := time.Now()
		select {
		case at := <-read:
			taps = append(taps, max(at.Sub(written), 0))
		case <-ctx.Done():
			return nil, fmt.Errorf("card %d was not read: %w", len(taps)+1, ctx.Err())
		}
	}
	return taps, nil
}

// bussed is what was seen at a bus.
type bussed struct {
	polls []time.Duration
	sales int
	cpu   float64 // % of a core
}

// atBus runs an agent at a machine that polls, and, without a pause, sells for cash.
func (r *Report) atBus(ctx context.Context, o Options, dir string, pause time.Duration) (out bussed, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run, err := os.MkdirTemp(dir, "run-")
	if err != nil {
		return out, err
	}
	products := []virtual.Product{{Outlet: 5, Price: money.New(150, money.EUR)}}
	till := virtual.NewTill("BENCH", money.EUR, products)
	var mu sync.Mutex
	measuring := false
	vmc, err := virtual.NewController(virtual.ControllerConfig{
		MachineConfig: virtual.MachineConfig{Link: filepath.Join(run, "vmc"), Products: products}, Till: till, Pause: pause,
		Polled: func(d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if measuring {
				out.polls = append(out.polls, d)
			}
		},
	})
	if err != nil {
		return out, err
	}
	dex, err := virtual.NewDEX(filepath.Join(run, "dex"), till.File())
	if err != nil {
		return out, err
	}
	reader, err := virtual.NewReader(virtual.ReaderConfig{Link: filepath.Join(run, "reader")})
	if err != nil {
		return out, err
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, f := range []func(context.Context) error{vmc.Run, dex.Run, reader.Run} {
		running.Go(func() { _ = f(ctx) })
	}
	file := fmt.Sprintf(`identity: %s
data: %s
cloud: 127.0.0.1:1
lanes:
  - vending: {driver: mdb-raw, port: %s}
    reader: {port: %s}
    audit: {port: %s}
`, filepath.Join(dir, "identity"), filepath.Join(run, "data"), vmc.Path(), filepath.Join(run, "reader"), filepath.Join(run, "dex"))
	if err := os.WriteFile(filepath.Join(run, "agent.yaml"), []byte(file), 0o600); err != nil {
		return out, err
	}
	a, stopAgent, err := startAgent(ctx, o, run)
	if err != nil {
		return out, err
	}
	defer func() { err = stopAgent(err) }()
	begins, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if err := vmc.Wait(begins, func(v virtual.View) bool { return v.Status == "ENABLED" }); err != nil {
		return out, err
	}
	o.settle()
	defer ahead()()
	mu.Lock()
	measuring = true
	mu.Unlock()
	was, err := onCPU(a)
	if err != nil {
		return out, err
	}
	span := 3 * o.For
	began := time.Now()
	for time.Since(began) < span {
		if pause > 0 {
			time.Sleep(span - time.Since(began))
			continue
		}
		if err := vmc.Pay(5, 150); err != nil {
			return out, err
		}
		out.sales++
		time.Sleep(cashSaleEvery)
	}
	now, err := onCPU(a)
	mu.Lock()
	measuring = false
	mu.Unlock()
	out.cpu = 100 * (now - was).Seconds() / time.Since(began).Seconds()
	if err == nil && len(out.polls) == 0 {
		err = errors.New("no POLL was answered")
	}
	return out, err
}

// ahead lets this process go before others until the end is called, where it may: it stands for the machine that
// POLLs, which would not wait for a CPU of the agent's box, and its own lateness is no part of an answer. The agent,
// which runs already, sees to itself.
func ahead() (end func()) {
	nice := func(value int) {
		for range 2 { // a thread made meanwhile has its maker's value
			threads, _ := os.ReadDir("/proc/self/task")
			for _, t := range threads {
				if id, err := strconv.Atoi(t.Name()); err == nil {
					_ = unix.Setpriority(unix.PRIO_PROCESS, id, value)
				}
			}
		}
	}
	was, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return func() {}
	}
	nice(-10)
	return func() { nice(20 - was) } // the system call's own form
}

// startAgent runs the agent of a folder's agent.yaml. stop ends it, and adds to an error what it said.
func startAgent(ctx context.Context, o Options, dir string) (pid int, stop func(error) error, err error) {
	a := exec.CommandContext(ctx, filepath.Join(o.Bin, "coinop-agent"), "run", "--config", filepath.Join(dir, "agent.yaml"))
	log, err := os.Create(filepath.Join(dir, "agent.log"))
	if err != nil {
		return 0, nil, err
	}
	a.Stderr = log
	a.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := a.Start(); err != nil {
		return 0, nil, errors.Join(err, log.Close())
	}
	return a.Process.Pid, func(err error) error {
		defer log.Close()
		_ = a.Process.Signal(syscall.SIGTERM)
		if ended := a.Wait(); err == nil {
			err = ended
		}
		if err != nil {
			said, _ := os.ReadFile(log.Name())
			err = fmt.Errorf("agent: %w\n%s", err, said)
		}
		return err
	}, nil
}

// idleMachines have one of every driver between them, and some twice: three kinds of vending ports and an MDB
// bus that is the agent's own, readers of cards, at a serial line, as HID device and for closed-loop cards, a
// printer, a scanner, cash, a relay board and a terminal.
var idleMachines = []string{"snack", "coffee", "canteen", "parking", "locker"}

// allDrivers is what an agent costs that has all of them, when nothing happens.
func (r *Report) allDrivers(ctx context.Context, o Options, dir string) (drivers int, cpu float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	run, err := os.MkdirTemp(dir, "run-")
	if err != nil {
		return 0, 0, err
	}
	file := fmt.Sprintf("identity: %s\ndata: %s\ncloud: 127.0.0.1:1\nlanes:\n", filepath.Join(dir, "identity"), filepath.Join(run, "data"))
	for _, name := range idleMachines {
		p, err := profile.Open(name, filepath.Join(run, name))
		if err != nil {
			return 0, 0, err
		}
		running.Go(func() { _ = p.Run(ctx) })
		drivers += len(p.Devices)
		text, err := os.ReadFile(filepath.Join(p.Dir, profile.ConfigFile))
		if err != nil {
			return 0, 0, err
		}
		_, lane, _ := strings.Cut(string(text), "\nlanes:\n")
		file += strings.TrimRight(lane, "\n") + "\n"
	}
	if err := os.WriteFile(filepath.Join(run, "agent.yaml"), []byte(file), 0o600); err != nil {
		return 0, 0, err
	}
	pid, stop, err := startAgent(ctx, o, run)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = stop(err) }()
	if err := allReady(ctx, o, run, drivers); err != nil {
		return 0, 0, err
	}
	o.settle()
	began := time.Now()
	was, err := onCPU(pid)
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(3 * o.For)
	now, err := onCPU(pid)
	return drivers, 100 * (now - was).Seconds() / time.Since(began).Seconds(), err
}

// allReady waits until so many devices of an agent are.
func allReady(ctx context.Context, o Options, dir string, devices int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var said []byte
	for ctx.Err() == nil {
		said, _ = exec.CommandContext(ctx, filepath.Join(o.Bin, "coinop-agent"), "status", "--json", "--config", filepath.Join(dir, "agent.yaml")).Output()
		var s agent.Status
		if json.Unmarshal(said, &s) == nil {
			ready := 0
			for _, l := range s.Lanes {
				for _, d := range l.Devices {
					if d.State == hardware.Ready.String() {
						ready++
					}
				}
			}
			if ready >= devices {
				return nil
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	return fmt.Errorf("the agent's devices are not all ready: %s", said)
}

// onCPU is the time a process's threads have spent on CPUs; in steps of a nanosecond, for one that has little
// to do. Threads that ended count no more: an idle process of Go ends none.
func onCPU(pid int) (sum time.Duration, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err == nil && len(tasks) == 0 {
		err = fmt.Errorf("process %d: no schedstat", pid)
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		var ns int64
		if _, err := fmt.Sscan(string(b), &ns); err != nil {
			return 0, fmt.Errorf("%s: %w", t, err)
		}
		sum += time.Duration(ns)
	}
	return sum, err
}
