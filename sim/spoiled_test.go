package sim_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"coinop/agent"
	"coinop/cloud/payment"
	"coinop/hardware/mdb"
	"coinop/hardware/virtual"
	"coinop/hardware/vivopay"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// A real agent before a real cloud, and its disk spoils files while it is off: of one copy of the
// journal, nothing is lost, not even an outcome that the cloud has not heard; of both, a new epoch
// begins, the cloud reports it, and the machine sells on.
func TestSpoiledDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, own, lines{})
	s := newShop(t, w.add(t, "snack-2", 2), w.proxy.addr())

	stop := s.open()
	s.sell(func() {})
	if p := w.wait(1); p.State != payment.Captured {
		t.Fatal(p.State)
	}
	if st := s.status("all is held", held); !st.Healthy || len(st.Faults) != 0 {
		t.Fatalf("not healthy: %+v", st.Faults)
	}
	t.Log("the cloud goes away before it hears the outcome, and a file is spoiled")
	s.sell(func() { w.stop() })
	before := s.status("the sale is recorded", func(st agent.Status) bool { return st.LastSale != nil && st.Lanes[0].Phase == "idle" })
	stop()
	s.spoil("journal/MANIFEST")
	w.start()
	stop = s.open()
	if p := w.wait(2); p.State != payment.Captured {
		t.Fatal(p.State)
	}
	st := s.status("all is held", held)
	if st.Journal.Opened != "rebuilt" || st.Journal.Epoch != before.Journal.Epoch || st.Journal.Head <= before.Journal.Head {
		t.Fatalf("%+v, was %+v", st.Journal, before.Journal)
	}
	w.books(300)
	if is, err := w.st.Incidents(t.Context()); err != nil || len(is) != 0 {
		t.Fatalf("%+v %v", is, err)
	}

	t.Log("both copies are spoiled")
	stop()
	s.spoil("journal/MANIFEST")
	s.spoil("journal.twin")
	stop = s.open()
	s.sell(func() {})
	if p := w.wait(3); p.State != payment.Captured {
		t.Fatal(p.State)
	}
	st = s.status("the new epoch is held", held)
	if st.Journal.Opened != "renewed" || st.Journal.Epoch == before.Journal.Epoch || st.Storage.Damaged != 2 || st.Link.Stopped != "" {
		t.Fatalf("%+v %+v", st.Journal, st.Storage)
	}
	w.books(450)
	is, err := w.st.Incidents(t.Context())
	if err != nil || len(is) != 1 || is[0].Name != payment.EpochCut || is[0].Device != "snack-2" {
		t.Fatalf("%+v %v", is, err)
	}
	told := false
	records, err := w.st.Records(t.Context(), "snack-2", must[protocol.Epoch](t)(epochOf(st)), 0, 100)
	for _, r := range records {
		o, err := protocol.OpenRecord(r.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := o.Body.(protocol.DeviceEvent); ok && e.Code == string(code.StorageDamaged) {
			told = true
		}
	}
	if err != nil || !told {
		t.Errorf("the cloud has no %s among %d records (%v)", code.StorageDamaged, len(records), err)
	}
	stop()
}

func epochOf(st agent.Status) (e protocol.Epoch, err error) {
	return e, e.UnmarshalText([]byte(st.Journal.Epoch))
}

func held(st agent.Status) bool {
	return st.Journal.Known && st.Journal.Acked == st.Journal.Head && st.Link.Way == "up"
}

// shop is a vending machine and a reader with an agent before them.
type shop struct {
	t       *testing.T
	cfg     agent.Config
	machine *virtual.Machine
	reader  *virtual.Reader
	log     bytes.Buffer
}

func newShop(t *testing.T, id, addr string) *shop {
	t.Helper()
	run := t.TempDir()
	s := &shop{t: t}
	s.machine = must[*virtual.Machine](t)(virtual.NewMachine(virtual.MachineConfig{
		Link: filepath.Join(run, "vmc"), VendTime: 300 * time.Millisecond,
		Products: []virtual.Product{{Outlet: 5, Price: money.New(150, money.EUR)}},
	}))
	s.reader = must[*virtual.Reader](t)(virtual.NewReader(virtual.ReaderConfig{Link: filepath.Join(run, "reader")}))
	for _, run := range []func(context.Context) error{s.machine.Run, s.reader.Run} {
		background(t, func(ctx context.Context) error { _ = run(ctx); return nil }) // it ends with ctx alone
	}
	s.cfg = agent.Config{
		Identity: must[agent.Identity](t)(agent.LoadIdentity(id)), Data: filepath.Join(run, "data"), Cloud: addr,
		Policy: protocol.Policy{Version: 1, Currency: money.EUR},
		Lanes: []agent.LaneConfig{{
			Bus:     protocol.BusMDB,
			Vending: agent.MDB(mdb.PortQibixx, s.machine.Path(), mdb.Scale{Currency: money.EUR, Decimals: 2}),
			Readers: []agent.ReaderConfig{{New: agent.ViVOpay(vivopay.Config{Path: s.reader.Path(), Currency: money.EUR})}},
		}},
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	return s
}

// open runs the agent until close, or the test's end.
func (s *shop) open() (closed func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s.cfg.Log = slog.New(slog.NewTextHandler(&s.log, nil))
	go func() { ended <- agent.Run(ctx, s.cfg) }()
	done := false
	closed = func() {
		if cancel(); !done {
			done = true
			if err := <-ended; err != nil {
				s.t.Errorf("the agent ended: %v", err)
			}
		}
	}
	s.t.Cleanup(closed)
	return closed
}

// status waits for one that is as wanted.
func (s *shop) status(what string, want func(agent.Status) bool) agent.Status {
	s.t.Helper()
	var st agent.Status
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if st, err = agent.AskStatus(s.cfg.Data); err == nil && st.Running == agent.IsRunning && want(st) {
			return st
		}
	}
	s.t.Fatalf("%s: never came; %+v %v", what, st, err)
	return st
}

// sell is a buyer who gets what he paid for; approved runs when the motor turns.
func (s *shop) sell(approved func()) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	s.status("it sells", func(st agent.Status) bool {
		return len(st.Lanes) == 1 && st.Lanes[0].Refuses == "" && st.Link.Way == "up"
	})
	was := s.machine.View()
	step := func(what string, err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatalf("%s: %v (%+v)", what, err, s.machine.View())
		}
	}
	step("enabled", s.machine.Wait(ctx, func(v virtual.View) bool { return v.Status == "ENABLED" && v.Set }))
	step("order", s.machine.Select(5))
	step("tap", s.reader.TapWhenArmed(ctx, virtual.VisaTest()))
	step("approved", s.machine.Wait(ctx, func(v virtual.View) bool { return v.Approvals > was.Approvals }))
	approved()
	step("it falls", s.machine.Wait(ctx, func(v virtual.View) bool { return v.Drops > was.Drops && v.Status == "ENABLED" }))
}

// spoil makes nonsense of a file, in its length.
func (s *shop) spoil(name string) {
	s.t.Helper()
	path := filepath.Join(s.cfg.Data, name)
	text := must[[]byte](s.t)(os.ReadFile(path))
	for i := range text {
		text[i] ^= 0xa5
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
