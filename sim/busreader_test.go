package sim_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"coinop/agent"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/hardware/virtual"
	"coinop/protocol"
)

var (
	readerRounds = flag.Int("reader-rounds", 52, "how often TestBusReaderKilled kills an agent")
	readerSeed   = flag.Uint64("reader-seed", 1, "of TestBusReaderKilled")
)

// TestBusReaderKilled: sales at card readers on MDB buses of their own; the agents are killed at every
// point of them, and half of the readers lose their power too. Such a reader cannot be asked for what it
// did: in the end what it charged is what the records say was captured, and the rest has a case. No buyer
// is charged twice.
func TestBusReaderKilled(t *testing.T) {
	t.Parallel()
	w, ids := newVictims(t, killSites)
	var sites []*busSite
	for i, id := range ids {
		sites = append(sites, newBusSite(t, id, w.proxy.addr(), rand.New(rand.NewPCG(*readerSeed, uint64(i))), i%2 == 1, i >= 2))
	}
	killRounds(t, *readerRounds, sites)
	total, missed := busSums{}, 0
	for _, s := range sites {
		missed += s.missed
		sum := s.judge(w.st)
		total.stands += sum.stands
		total.captured += sum.captured
		total.charged += sum.charged
		total.unknown += sum.unknown
		total.cases += sum.cases
	}
	if missed > *readerRounds/2 {
		t.Errorf("%d stops of %d were missed: nothing is shown", missed, *readerRounds)
	}
	net := w.accounts(t)
	if net(ledger.TerminalClearing) != total.stands || -net(ledger.MerchantPayable) != total.captured || -net(ledger.VendPending) != total.stands-total.captured {
		t.Errorf("ledger: clearing %d, payable %d, owed to buyers %d; %+v", net(ledger.TerminalClearing), net(ledger.MerchantPayable), net(ledger.VendPending), total)
	}
	t.Logf("%d stops missed, %+v", missed, total)
}

// busSite is a vending machine and a card reader at a bus of its own, and the agent before them.
type busSite struct {
	*victim
	reader *virtual.BusReader
	cut    bool // the reader's power goes with the agent
	was    virtual.BusReaderView
	missed int // stops
}

func newBusSite(t *testing.T, identity, addr string, rnd *rand.Rand, idle, cut bool) *busSite {
	t.Helper()
	s := &busSite{victim: newVictim(t, identity, addr, rnd), cut: cut}
	s.cfg.Bus = filepath.Join(t.TempDir(), "bus")
	var err error
	if s.reader, err = virtual.NewBusReader(virtual.BusReaderConfig{Link: s.cfg.Bus, Waits: true, AlwaysIdle: idle}); err != nil {
		t.Fatal(err)
	}
	s.live(s.machine.Run, s.reader.Run)
	s.far = func() any { return []any{s.machine.View(), s.reader.View()} }
	return s
}

func (s *busSite) self() *victim { return s.victim }

func (s *busSite) rests(l agent.LaneStatus) bool { return terminalRests(l) }

// mend follows a kill. One buyer was asked for once, and charged once.
func (s *busSite) mend() {
	s.reader.Misbehave(virtual.BusReaderFine)
	_ = s.reader.Replug()
	if s.cut {
		s.reader.PowerCut()
	}
	v := s.reader.View()
	if v.Asked > s.was.Asked+1 || v.Charged+v.Held > s.was.Charged+s.was.Held+victimPrice {
		s.t.Errorf("%s: before %+v, after one buyer %+v", s.id, s.was, v)
	}
}

// order presses the button until the reader waits for a card.
func (s *busSite) order() bool {
	s.was = s.reader.View()
	return s.press(func(ctx context.Context) error {
		return s.reader.Wait(ctx, func(v virtual.BusReaderView) bool { return v.Waiting })
	})
}

// A bus has times of milliseconds. Where this machine cannot hold them, the reader is reset or the order
// withdrawn, and the stop is missed: the agent is killed where it is.
const stopPatience = 10 * time.Second

func (s *busSite) see(ok func(virtual.BusReaderView) bool) bool {
	ctx, cancel := context.WithTimeout(s.t.Context(), stopPatience)
	defer cancel()
	return s.reader.Wait(ctx, ok) == nil
}

func (s *busSite) machineSees(ok func(virtual.View) bool) bool {
	ctx, cancel := context.WithTimeout(s.t.Context(), stopPatience)
	defer cancel()
	return s.machine.Wait(ctx, ok) == nil
}

// at brings the sale to a stop, or misses it.
func (s *busSite) at(stop string) bool {
	if !s.reach(stop) {
		s.missed++
	}
	return !s.t.Failed()
}

func (s *busSite) stops() []string {
	return []string{
		"asked", "card", "approved", "approval", "drop", "charged", "vend fails", "given back", "won't give back", "unplugged", "reset, told",
		"reset, vend fails", "reset, untold", "no answer", "canceled", "declined", "end",
	}
}

func (s *busSite) reach(point string) bool {
	v, was := s.machine.View(), s.reader.View()
	pay := func(f virtual.BusReaderFault) bool { return s.reader.Present(f) == nil }
	approved := func(now virtual.BusReaderView) bool { return now.Approved > was.Approved }
	dropped := func(now virtual.View) bool { return now.Drops > v.Drops }
	ok := true
	switch point {
	case "asked":
		s.soon(100 * time.Millisecond)
	case "card":
		ok = pay(virtual.BusReaderFine)
		s.soon(10 * time.Millisecond)
	case "approved":
		ok = pay(virtual.BusReaderFine) && s.see(approved)
		s.soon(30 * time.Millisecond)
	case "approval":
		ok = pay(virtual.BusReaderFine) && s.machineSees(func(now virtual.View) bool { return now.Approvals > v.Approvals })
		s.soon(60 * time.Millisecond)
	case "drop":
		ok = pay(virtual.BusReaderFine) && s.machineSees(dropped)
		s.soon(10 * time.Millisecond)
	case "charged":
		ok = pay(virtual.BusReaderFine) && s.see(func(now virtual.BusReaderView) bool { return now.Charged > was.Charged })
		s.soon(50 * time.Millisecond)
	case "vend fails", "given back", "won't give back":
		_ = s.machine.Misbehave(virtual.FaultFail)
		ok = pay(virtual.BusReaderFine) && s.see(approved)
		if point == "won't give back" {
			s.reader.Misbehave(virtual.BusReaderWontRefund)
		}
		if point != "vend fails" {
			ok = ok && s.see(func(now virtual.BusReaderView) bool { return now.Held == 0 })
		}
		s.soon(100 * time.Millisecond)
	case "unplugged":
		ok = pay(virtual.BusReaderUnplugs) && s.see(approved)
		s.soon(100 * time.Millisecond)
	case "reset, told":
		ok = pay(virtual.BusReaderResetApproved) && s.see(approved)
		s.soon(200 * time.Millisecond)
	case "reset, vend fails":
		_ = s.machine.Misbehave(virtual.FaultFail)
		ok = pay(virtual.BusReaderResetApproved) && s.see(approved)
		s.soon(400 * time.Millisecond)
	case "reset, untold":
		ok = pay(virtual.BusReaderResetUnheard) && s.see(approved)
		s.soon(200 * time.Millisecond)
	case "no answer":
		ok = pay(virtual.BusReaderNoAnswer)
		s.soon(200 * time.Millisecond)
	case "canceled":
		_ = s.machine.Cancel()
		s.soon(50 * time.Millisecond)
	case "declined":
		ok = pay(virtual.BusReaderDeclines)
		s.soon(50 * time.Millisecond)
	case "end": // of a sale that nobody disturbs
		if ok = pay(virtual.BusReaderFine) && s.machineSees(dropped); !ok {
			break
		}
		s.status("idle", func(st agent.Status) bool { return terminalRests(st.Lanes[0]) })
	}
	return ok
}

type busSums struct {
	stands, captured, charged int64 // minor units
	unknown, cases            int   // payments of which nobody can tell; all cases
}

// judge compares what the reader charged with what was written.
func (s *busSite) judge(st *store.Store) (sum busSums) {
	t := s.t
	t.Helper()
	is := s.told(st)
	sum.cases = is.count
	refused := int64(0) // what it did not say it gave back
	for _, p := range is.payments {
		doubt := is.has(p.ID, protocol.CaseTerminalFailed, protocol.CaseTerminalUnknown)
		// A booking that the reader does not take is a case too, and stays captured.
		if p.By != protocol.ByTerminal || !p.State.Final() || (p.State == payment.InCase) != (doubt && p.Captured.Minor == 0) {
			t.Errorf("%s: payment %s: by %s, %s, cases %v", s.id, p.ID, p.By, p.State, is.cases[p.ID])
		}
		sum.captured += p.Captured.Minor
		sum.stands += p.Captured.Minor
		switch {
		case doubt && p.Approved.Minor > 0: // by the books it stands there
			sum.stands += p.Approved.Minor - p.Captured.Minor
			refused += p.Approved.Minor - p.Captured.Minor
		case doubt: // its answer is not known
			sum.unknown++
		}
	}
	v := s.reader.View()
	sum.charged = v.Charged + v.Held // what it holds is charged by its next reset
	if d := sum.charged - sum.stands; d < -refused || d > int64(sum.unknown)*victimPrice {
		t.Errorf("%s: %d charged, %d by the records, %d of it in doubt; of %d payments nobody knows", s.id, sum.charged, sum.stands, refused, sum.unknown)
	}
	s.fell(s.machine.View().Drops, sum.captured, is.doubts)
	t.Logf("%s: %v %+v", s.id, s.points, sum)
	return sum
}
