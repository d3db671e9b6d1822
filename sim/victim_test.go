package sim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"coinop/agent"
	"coinop/hardware/mdb"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// victimConfig is what an agent that is a process of its own is started with.
type victimConfig struct {
	Identity, Data, Cloud, VMC, Cash string
	Terminal                         string // its address: there is no cash then
	Hold                             bool   // of the terminal's payments
	Bus                              string // of a card reader: it is the terminal then
	Board, Reader                    string // relays and a card reader of a kiosk, beside Cash
}

const victimVariable = "COINOP_TEST_VICTIM"

// This test's binary is the agent too: one that can be killed.
func init() {
	text, ok := os.LookupEnv(victimVariable)
	if !ok {
		return
	}
	if err := runVictim(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runVictim(text string) error {
	var c victimConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	id, err := agent.LoadIdentity(c.Identity)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := agent.Config{
		Identity: id, Data: c.Data, Cloud: c.Cloud,
		Policy: protocol.Policy{Version: 1, Currency: money.EUR, VendMS: 1500},
		Log:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	lane := agent.LaneConfig{Bus: protocol.BusMDB, Vending: agent.MDB(mdb.PortQibixx, c.VMC, mdb.Scale{Currency: money.EUR, Decimals: 2})}
	switch {
	case c.Board != "":
		lane = kioskLane(c)
		cfg.Policy.VendMS, cfg.Plan, cfg.Screen = 5000, agent.Plan{0: kioskGoods()}, "127.0.0.1:0"
	case c.Bus != "":
		lane.Terminal, lane.CloseEvery = agent.MDBReader(mdb.PortRaw, c.Bus, money.EUR, false), -1
	case c.Terminal != "":
		lane.Terminal = agent.ZVT(c.Terminal, "", money.EUR, c.Hold, false)
	default:
		lane.Cash = agent.MDBCash(mdb.PortRaw, c.Cash, money.EUR, true)
	}
	cfg.Lanes = []agent.LaneConfig{lane}
	return agent.Run(ctx, cfg)
}

// newVictims is a cloud that knows some devices, and where their identities lie.
func newVictims(t *testing.T, n int) (*world, []string) {
	t.Helper()
	w := newCloud(t, own, lines{})
	var ids []string
	for i := range n {
		ids = append(ids, w.add(t, protocol.DeviceID(fmt.Sprintf("kiosk-%d", i)), i))
	}
	w.begin()
	return w, ids
}

// What is sold, in minor units, and the longest wait for anything.
const (
	victimPrice    = 150
	victimPatience = 40 * time.Second
)

// victim is a vending machine, and the agent before it, which can be killed.
type victim struct {
	t       *testing.T
	rnd     *rand.Rand
	id      protocol.DeviceID
	cfg     victimConfig
	machine *virtual.Machine
	cmd     *exec.Cmd
	ended   chan error
	log     string
	points  map[string]int     // where it was killed
	far     func() any         // what stands around the agent, for a report
	dead    func(point string) // after a kill; nil: nothing
}

func newVictim(t *testing.T, identity, addr string, rnd *rand.Rand) *victim {
	t.Helper()
	s := newProcess(t, identity, addr, rnd)
	s.cfg.VMC = filepath.Join(t.TempDir(), "vmc")
	var err error
	if s.machine, err = virtual.NewMachine(virtual.MachineConfig{
		Link: s.cfg.VMC, Products: []virtual.Product{{Outlet: 5, Price: money.New(victimPrice, money.EUR)}}, VendTime: 60 * time.Millisecond,
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// newProcess is one without a machine yet.
func newProcess(t *testing.T, identity, addr string, rnd *rand.Rand) *victim {
	dir := t.TempDir()
	return &victim{
		t: t, rnd: rnd, id: protocol.DeviceID(filepath.Base(identity)), log: filepath.Join(dir, "log"), points: map[string]int{},
		cfg: victimConfig{Identity: identity, Data: filepath.Join(dir, "data"), Cloud: addr},
	}
}

// live runs the far ends for the test's time.
func (s *victim) live(far ...func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	for _, run := range far {
		ends.Go(func() { _ = run(ctx) })
	}
	s.t.Cleanup(func() {
		if s.cmd != nil {
			s.kill("")
		}
		cancel()
		ends.Wait()
		if s.t.Failed() {
			b, _ := os.ReadFile(s.log)
			s.t.Logf("%s: %s\n%+v", s.id, b[max(0, len(b)-6000):], s.far())
		}
	})
}

func (s *victim) start() {
	text, _ := json.Marshal(s.cfg)
	f, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer func() { _ = f.Close() }()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this test
	cmd.Env = append(os.Environ(), victimVariable+"="+string(text))
	cmd.Stderr, cmd.Stdout = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Error(err)
		return
	}
	ended := make(chan error, 1)
	s.cmd, s.ended = cmd, ended
	go func() { ended <- cmd.Wait() }()
}

// kill is kill -9 of the agent.
func (s *victim) kill(point string) {
	_ = s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
	s.points[point]++
	if s.dead != nil {
		s.dead(point)
	}
}

// status waits until the agent stands as it should.
func (s *victim) status(what string, ok func(agent.Status) bool) {
	var last agent.Status
	for end := time.Now().Add(victimPatience); !s.t.Failed() && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-s.ended:
			s.ended <- err
			s.t.Errorf("%s: the agent ended: %v", s.id, err)
			return
		default:
		}
		st, err := agent.AskStatus(s.cfg.Data)
		if last = st; err == nil && st.Running == agent.IsRunning && len(st.Lanes) == 1 && ok(st) {
			return
		}
	}
	s.t.Errorf("%s: not %s: %+v, %+v", s.id, what, last.Lanes, s.far())
}

func (s *victim) seeMachine(what string, ok func(virtual.View) bool) bool {
	ctx, cancel := context.WithTimeout(s.t.Context(), victimPatience)
	defer cancel()
	err := s.machine.Wait(ctx, ok)
	if err != nil {
		s.t.Errorf("%s: %s: %v %+v", s.id, what, err, s.machine.View())
	}
	return err == nil
}

// press presses the button until what the agent does for an order is seen.
func (s *victim) press(seen func(context.Context) error) bool {
	for range 40 {
		if err := s.machine.Select(5); err == nil {
			ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
			err := seen(ctx)
			cancel()
			if err == nil {
				return true
			}
			_ = s.machine.Cancel()
		} else if !errors.Is(err, virtual.ErrNotEnabled) && !errors.Is(err, virtual.ErrSelling) {
			s.t.Error(err)
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Errorf("%s: no order is taken: %+v", s.id, s.far())
	return false
}

func (s *victim) soon(most time.Duration) { time.Sleep(time.Duration(s.rnd.Int64N(int64(most)))) }

// finish lets the agent say the rest, and end in order.
func (s *victim) finish(ok func(agent.Status) bool) {
	if s.t.Failed() {
		return
	}
	if s.cmd == nil {
		s.start()
	}
	s.status("idle, and all of it told", func(st agent.Status) bool { return ok(st) && st.Journal.Known && st.Journal.Waiting == 0 })
	if s.t.Failed() || s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := <-s.ended; err != nil {
		s.t.Errorf("%s: %v", s.id, err)
	}
	s.cmd = nil
}
