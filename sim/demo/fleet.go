package demo

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"coinop/agent"
	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/broker/brokertest"
	"coinop/cloud/store/storetest"
	"coinop/deploy/mosquitto"
	"coinop/protocol"
)

// fleetOptions is what a fleet is made for. All of it but the engines is needed.
type fleetOptions struct {
	Bin      string // folder of coinop-agent, coinop-cloud and coinop-sim
	Dir      string // everything it writes
	Seed     uint64
	Machines int
	Receipts string // folder of pictures of receipts; "": in Dir
	// Broker and Store are engines beside the cloud's own: "mosquitto" and "postgres"; "" is none. With
	// both there are two replicas of the cloud.
	Broker, Store string
	// Vend is how long an agent waits for what became of a vend.
	Vend time.Duration
	// On is called with every event of a machine, by one goroutine a machine; it must not block.
	On func(*station, Event)
}

// Windows of the demo's contract and machines, short so that doubt ends while one watches.
const (
	lateWindow  = time.Second
	hostLatency = 60 * time.Millisecond
)

// fleet is a whole installation as processes of its own: bank, cloud, machines, agents.
type fleet struct {
	o         fleetOptions
	host      *proc
	replicas  []*replica
	place     cloud.Place
	hostAddr  string
	cloudAddr string // where machines connect
	stations  []*station
	mosquitto *brokertest.Mosquitto // nil: the cloud's own broker
	postgres  *storetest.Server     // nil: a file
}

// replica is one process of the cloud.
type replica struct {
	name string
	proc *proc
	http string // of its HTTP interface
}

// station is one machine and the agent in it.
type station struct {
	name   protocol.DeviceID
	kind   string
	tid    string
	dir    string
	line   *proxy
	sim    *proc
	stdin  *os.File
	agent  *proc
	starts int
	kills  []int64 // when its agent was killed, Unix ms
	heard  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	seen    map[string]int
	changed chan struct{}
	last    Event
}

func (f *fleet) path(parts ...string) string {
	return filepath.Join(append([]string{f.o.Dir}, parts...)...)
}

func (f *fleet) bin(name string) string { return filepath.Join(f.o.Bin, name) }

func (f *fleet) logOf(name string) string { return f.path("log", name+".log") }

// up starts everything, in the order things depend on each other. After an error, down ends what
// was started.
func (f *fleet) up(ctx context.Context) error {
	var err error
	ready := f.path("run", "host")
	f.host, err = start("host", f.logOf("host"), nil, nil, f.bin("coinop-sim"), "host", "--listen", "127.0.0.1:0",
		"--books", f.path("host.jsonl"), "--latency", hostLatency.String(), "--ready-file", ready)
	if err != nil {
		return err
	}
	if f.hostAddr, err = f.host.ready(ctx, ready); err != nil {
		return err
	}
	if err := f.startEngines(ctx); err != nil {
		return err
	}
	for _, r := range f.replicas {
		if err := f.startReplica(ctx, r); err != nil {
			return err
		}
	}
	for i := range f.o.Machines {
		s, err := f.newStation(ctx, i+1)
		if err != nil {
			return err
		}
		f.stations = append(f.stations, s)
		if err := f.startSim(s, f.o.Seed*1000+uint64(i)); err != nil { //nolint:gosec // small
			return err
		}
	}
	for _, s := range f.stations {
		if err := s.await(ctx, readyIn, EventReady, 1); err != nil {
			return err
		}
		text, err := descriptions[s.kind].file(s.dir)
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.file(), []byte(text), 0o600); err != nil {
			return err
		}
		if err := f.startAgent(s); err != nil {
			return err
		}
	}
	for _, s := range f.stations {
		if _, err := s.agent.ready(ctx, f.path("run", s.agentName())); err != nil {
			return err
		}
	}
	return f.audit(ctx)
}

// audit lets the agents read the books of the machines that own their cash, as a person does who orders it.
func (f *fleet) audit(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, 40*time.Second)
	defer done()
	for _, s := range f.stations {
		for descriptions[s.kind].owns {
			_, err := agent.Tell(ctx, filepath.Join(s.dir, "data"), agent.Order{Do: agent.OrderAudit})
			if err == nil {
				break
			}
			if !sleep(ctx, 100*time.Millisecond) { // its port is opened in a moment
				return fmt.Errorf("books of %s: %w", s.name, err)
			}
		}
	}
	return nil
}

// startEngines starts what the cloud uses beside itself, and says how many replicas there are.
func (f *fleet) startEngines(ctx context.Context) error {
	f.place = cloud.Place{Dir: f.path("cloud")}
	f.replicas = []*replica{{name: "cloud"}}
	if f.o.Store == "postgres" {
		var err error
		if f.postgres, err = storetest.Start(); err != nil {
			return err
		}
		if err := f.postgres.Create("coinop"); err != nil {
			return err
		}
		f.place.Store = f.postgres.URL("coinop")
	}
	if f.o.Broker == "mosquitto" {
		var err error
		f.mosquitto, err = brokertest.StartMosquitto(func(at mosquitto.Place) error {
			return f.place.WriteMosquitto(ctx, at, []string{"127.0.0.1"})
		})
		if err != nil {
			return err
		}
		f.cloudAddr = f.mosquitto.Machines
	}
	if f.postgres != nil && f.mosquitto != nil {
		f.replicas = []*replica{{name: "cloud-1"}, {name: "cloud-2"}}
	}
	return nil
}

// closeEngines ends them. Their books are read before.
func (f *fleet) closeEngines() error {
	var errs []error
	if f.mosquitto != nil {
		errs = append(errs, f.mosquitto.Close())
		f.mosquitto = nil
	}
	if f.postgres != nil {
		errs = append(errs, f.postgres.Close())
		f.postgres = nil
	}
	return errors.Join(errs...)
}

// startReplica starts one replica of the cloud, for the first time or again. When it has the broker
// inside, every line is led to it.
func (f *fleet) startReplica(ctx context.Context, r *replica) error {
	ready, web := f.path("run", r.name), f.path("run", r.name+"-http")
	for _, old := range []string{ready, web} {
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	args := []string{
		"serve", "--dir", f.place.Dir, "--acquirer", "bank=" + f.hostAddr, "--institution", "123456",
		"--late-window", lateWindow.String(), "--ready-file", ready, "--http", "127.0.0.1:0", "--http-ready-file", web,
	}
	if f.place.Store != "" {
		args = append(args, "--store", f.place.Store)
	}
	if f.mosquitto != nil {
		args = append(args, "--broker", "mqtts://"+f.mosquitto.Clouds)
	} else {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	var err error
	if r.proc, err = start(r.name, f.logOf(r.name), nil, nil, f.bin("coinop-cloud"), args...); err != nil {
		return err
	}
	if r.http, err = r.proc.ready(ctx, web); err != nil {
		return err
	}
	addr, err := r.proc.ready(ctx, ready)
	if err != nil || f.mosquitto != nil {
		return err
	}
	f.cloudAddr = addr
	for _, s := range f.stations {
		s.line.lead(addr)
	}
	return nil
}

// newStation registers a machine. Done in this process: it is one transaction, and the cloud runs.
func (f *fleet) newStation(ctx context.Context, n int) (*station, error) {
	s := &station{
		name: protocol.DeviceID(fmt.Sprintf("machine-%d", n)), kind: kinds[(n-1)%len(kinds)], tid: fmt.Sprintf("%08d", 10_000_000+n),
		seen: map[string]int{}, changed: make(chan struct{}),
	}
	s.dir = f.path(string(s.name))
	_, err := f.place.AddDevice(ctx, filepath.Join(s.dir, "identity"), cloud.NewDevice{
		ID: s.name, Link: "bank", Merchant: acquirer.Merchant{
			TID: s.tid, MID: "000000000012345", MCC: "5814", Country: "276",
			Location: "Demonstration",
		},
	})
	if err != nil {
		return nil, err
	}
	s.line, err = newProxy(f.cloudAddr)
	return s, err
}

func (f *fleet) startSim(s *station, seed uint64) error {
	commands, stdin, err := os.Pipe()
	if err != nil {
		return err
	}
	events, stdout, err := os.Pipe()
	if err != nil {
		return errors.Join(err, commands.Close(), stdin.Close())
	}
	s.sim, err = start(string(s.name), f.logOf(string(s.name)), commands, stdout, f.bin("coinop-sim"), "machine", "--dir", s.dir, "--kind", s.kind,
		"--seed", fmt.Sprint(seed), "--paused", "--quit-at-eof", "--receipts", filepath.Join(cmp.Or(f.o.Receipts, f.path("receipts")), string(s.name)))
	err = errors.Join(err, commands.Close(), stdout.Close())
	if err != nil {
		return errors.Join(err, stdin.Close(), events.Close())
	}
	s.stdin = stdin
	s.heard.Go(func() {
		defer func() { _ = events.Close() }()
		for lines := bufio.NewScanner(events); lines.Scan(); {
			var e Event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				s.note(e)
				f.o.On(s, e)
			}
		}
	})
	return nil
}

// file is what the agent is told beside its flags.
func (s *station) file() string { return filepath.Join(s.dir, "agent.yaml") }

func (s *station) agentName() string { return strings.Replace(string(s.name), "machine", "agent", 1) }

func (f *fleet) startAgent(s *station) error {
	ready := f.path("run", s.agentName())
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed
		return err
	}
	s.starts++
	var err error
	vend := f.o.Vend
	if descriptions[s.kind].board { // longer than its longest train
		vend = max(vend, 3*time.Second)
	}
	args := []string{
		"run", "--identity", filepath.Join(s.dir, "identity"), "--data", filepath.Join(s.dir, "data"), "--cloud", s.line.addr(),
		"--vmc", filepath.Join(s.dir, VMCFile), "--printer", filepath.Join(s.dir, PrinterFile),
		"--vend-timeout", vend.String(), "--ready-file", ready, "--config", s.file(),
	}
	if !descriptions[s.kind].terminal {
		args = append(args, "--reader", filepath.Join(s.dir, ReaderFile))
	}
	s.agent, err = start(s.agentName(), f.logOf(s.agentName()), nil, nil, f.bin("coinop-agent"), args...)
	return err
}

// killAgent is power taken from an agent.
func (s *station) killAgent() {
	s.agent.kill()
	s.kills = append(s.kills, time.Now().UnixMilli())
}

// tell gives a machine a command.
func (s *station) tell(command string) error {
	if err := s.stdin.SetWriteDeadline(time.Now().Add(time.Second)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return err
	}
	if _, err := s.stdin.WriteString(command + "\n"); err != nil {
		return fmt.Errorf("tell %s to %s: %w", s.name, command, err)
	}
	return nil
}

func (s *station) note(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[e.What]++
	s.last = e
	close(s.changed)
	s.changed = make(chan struct{})
}

// count is how often something happened.
func (s *station) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[what]
}

// await waits until something happened n times.
func (s *station) await(ctx context.Context, d time.Duration, what string, n int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, fmt.Errorf("%s: no %q within %s", s.name, what, d))
	defer cancel()
	for {
		s.mu.Lock()
		seen, changed := s.seen[what], s.changed
		s.mu.Unlock()
		if seen >= n {
			return nil
		}
		select {
		case <-changed:
		case <-s.sim.ended:
			return s.sim.died()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pause lets the buyers who are there finish, and no more come.
func (f *fleet) pause(ctx context.Context) error {
	var errs []error
	before := make([]int, len(f.stations))
	for i, s := range f.stations {
		before[i] = s.count(EventPaused)
		errs = append(errs, s.tell("pause"))
	}
	for i, s := range f.stations {
		errs = append(errs, s.await(ctx, 30*time.Second, EventPaused, before[i]+1))
	}
	return errors.Join(errs...)
}

// watch returns an error for every process that ended and was not ended by us.
func (f *fleet) watch() error {
	procs := []*proc{f.host}
	for _, r := range f.replicas {
		procs = append(procs, r.proc)
	}
	for _, s := range f.stations {
		procs = append(procs, s.sim, s.agent)
	}
	var errs []error
	for _, p := range procs {
		if p != nil && !p.alive() && !p.leave {
			errs = append(errs, p.died())
		}
	}
	return errors.Join(errs...)
}

// stopAgents ends the agents, side by side.
func (f *fleet) stopAgents() error {
	errs := make([]error, len(f.stations))
	var all sync.WaitGroup
	for i, s := range f.stations {
		all.Go(func() { errs[i] = s.agent.stop() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// down ends what still runs, in the order agents, machines, cloud, host, and says what did not end
// by itself. Done twice, the second time does nothing.
func (f *fleet) down() error {
	errs := []error{f.stopAgents()}
	for _, s := range f.stations {
		if s.stdin != nil {
			errs = append(errs, s.sim.stop(), s.stdin.Close())
			s.stdin = nil
		}
		s.heard.Wait()
		s.line.close()
	}
	for _, r := range f.replicas {
		errs = append(errs, r.proc.stop())
	}
	return errors.Join(append(errs, f.host.stop())...)
}
