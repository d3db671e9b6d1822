package sim_test

import (
	"context"
	"encoding/hex"
	"flag"
	"math/rand/v2"
	"strings"
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
	terminalRounds = flag.Int("terminal-rounds", 100, "how often TestTerminalKilled kills an agent")
	terminalSeed   = flag.Uint64("terminal-seed", 1, "of TestTerminalKilled")
)

// TestTerminalKilled: sales at the real driver before virtual payment terminals and vending machines; the
// agents are killed at every point of them. In the end what stands at the terminals is what the records
// say and what the ledger has; nothing was charged twice, and nothing was approved that has no end.
func TestTerminalKilled(t *testing.T) {
	t.Parallel()
	w, ids := newVictims(t, killSites)
	var sites []*terminalSite
	for i, id := range ids {
		// Purchases and holds; a result that nobody acknowledged is kept, or taken back by the terminal.
		sites = append(sites, newTerminalSite(t, id, w.proxy.addr(), rand.New(rand.NewPCG(*terminalSeed, uint64(i))), i%2 == 1, i >= 2))
	}
	killRounds(t, *terminalRounds, sites)
	total := terminalSums{}
	for _, s := range sites {
		sum := s.judge(w.st)
		total.stands += sum.stands
		total.captured += sum.captured
		total.canceled += sum.canceled
		total.back += sum.back
		total.cases += sum.cases
	}
	net := w.accounts(t)
	if net(ledger.TerminalClearing) != total.stands || -net(ledger.MerchantPayable) != total.captured || -net(ledger.VendPending) != total.stands-total.captured {
		t.Errorf("ledger: clearing %d, payable %d, owed to buyers %d; %+v", net(ledger.TerminalClearing), net(ledger.MerchantPayable), net(ledger.VendPending), total)
	}
	if len(w.host.Books()) != 0 {
		t.Error("a bank of ours heard of it")
	}
	t.Logf("%+v", total)
}

// terminalSite is a vending machine and a terminal, and the agent before them.
type terminalSite struct {
	*victim
	terminal *virtual.Terminal
}

func newTerminalSite(t *testing.T, identity, addr string, rnd *rand.Rand, hold, loses bool) *terminalSite {
	t.Helper()
	s := &terminalSite{victim: newVictim(t, identity, addr, rnd)}
	var err error
	if s.terminal, err = virtual.NewTerminal(virtual.TerminalConfig{Waits: true, LoseUnread: loses, Receipt: 9990}); err != nil {
		t.Fatal(err)
	}
	s.cfg.Terminal, s.cfg.Hold = s.terminal.Address(), hold
	s.live(s.machine.Run, s.terminal.Run)
	s.far = func() any { return []any{s.machine.View(), s.terminal.View()} }
	return s
}

func (s *terminalSite) self() *victim { return s.victim }

func (s *terminalSite) rests(l agent.LaneStatus) bool { return terminalRests(l) }

func terminalRests(l agent.LaneStatus) bool {
	return l.Phase == "idle" && l.Terminal != nil && l.Terminal.Here && l.Terminal.Owes == ""
}

func (s *terminalSite) mend() { s.terminal.Misbehave(virtual.TerminalFine) }

// see waits for what the terminal shows.
func (s *terminalSite) see(what string, ok func(virtual.TerminalView) bool) bool {
	ctx, cancel := context.WithTimeout(s.t.Context(), victimPatience)
	defer cancel()
	err := s.terminal.Wait(ctx, ok)
	if err != nil {
		s.t.Errorf("%s: %s: %v", s.id, what, err)
	}
	return err == nil
}

// order presses the button until the terminal waits for a card.
func (s *terminalSite) order() bool {
	return s.press(func(ctx context.Context) error {
		return s.terminal.Wait(ctx, func(v virtual.TerminalView) bool { return v.Waiting })
	})
}

func (s *terminalSite) stops() []string {
	return []string{
		"asked", "card", "approved", "approval", "drop", "booked", "vend fails", "given back", "given back, and dropped",
		"approved, and dropped", "no result", "canceled", "canceled too late", "declined", "end",
	}
}

func (s *terminalSite) at(point string) bool {
	v, was := s.machine.View(), s.terminal.View()
	more := func(n int) func(virtual.TerminalView) bool {
		return func(v virtual.TerminalView) bool { return len(v.Books) >= len(was.Books)+n }
	}
	ok := true
	pay := func(f virtual.TerminalFault) { s.terminal.Present(f) }
	switch point {
	case "asked":
		s.soon(100 * time.Millisecond)
	case "card":
		pay(virtual.TerminalFine)
		s.soon(10 * time.Millisecond)
	case "approved":
		pay(virtual.TerminalFine)
		ok = s.see(point, more(1))
		s.soon(10 * time.Millisecond)
	case "approval":
		pay(virtual.TerminalFine)
		ok = s.seeMachine(point, func(now virtual.View) bool { return now.Approvals > v.Approvals })
		s.soon(60 * time.Millisecond)
	case "drop":
		pay(virtual.TerminalFine)
		ok = s.seeMachine(point, func(now virtual.View) bool { return now.Drops > v.Drops })
		s.soon(10 * time.Millisecond)
	case "booked":
		pay(virtual.TerminalFine)
		ok = s.seeMachine(point, func(now virtual.View) bool { return now.Drops > v.Drops })
		s.soon(100 * time.Millisecond)
	case "vend fails", "given back", "given back, and dropped":
		_ = s.machine.Misbehave(virtual.FaultFail)
		pay(virtual.TerminalFine)
		ok = s.see(point, more(1))
		if point == "given back, and dropped" {
			s.terminal.Misbehave(virtual.TerminalDropsReversal)
		}
		if point == "vend fails" {
			s.soon(150 * time.Millisecond)
			break
		}
		ok = ok && s.see(point, more(2))
		s.soon(10 * time.Millisecond)
	case "approved, and dropped":
		pay(virtual.TerminalDiesApproved)
		ok = s.see(point, more(1))
		s.soon(800 * time.Millisecond) // the agent is here again, or not
	case "no result":
		pay(virtual.TerminalNoResult)
		ok = s.see(point, more(1))
		s.soon(50 * time.Millisecond)
	case "canceled":
		_ = s.machine.Cancel()
		s.soon(50 * time.Millisecond)
	case "canceled too late":
		s.terminal.Misbehave(virtual.TerminalWinsAbort)
		_ = s.machine.Cancel()
		s.soon(100 * time.Millisecond)
	case "declined":
		pay(virtual.TerminalDeclines)
		s.soon(50 * time.Millisecond)
	case "end": // of a sale that nobody disturbs
		pay(virtual.TerminalFine)
		ok = s.seeMachine(point, func(now virtual.View) bool { return now.Drops > v.Drops })
		s.status("idle", func(st agent.Status) bool { return terminalRests(st.Lanes[0]) })
	}
	return ok
}

type terminalSums struct {
	stands, captured int64 // minor units
	canceled         int   // at the terminal
	back             int   // answers that were asked back
	cases            int
}

// judge compares what happened with what was written.
func (s *terminalSite) judge(st *store.Store) (sum terminalSums) {
	t := s.t
	t.Helper()
	is := s.told(st)
	if sum.cases = is.count; is.count != is.doubts { // this terminal says all of it in the end
		t.Errorf("%s: cases %v", s.id, is.cases)
	}
	// The terminal's own books, by the reference that came with each payment.
	stands, times, of := map[string]int64{}, map[string]int{}, map[int]string{}
	for _, x := range s.terminal.View().Books {
		ref := x.Ref
		if x.Of > 0 {
			ref = of[x.Of]
			if x.Kind == "reversal" || x.Kind == "release" {
				sum.canceled++
			}
		} else {
			of[x.Receipt] = ref
			times[ref]++
		}
		stands[ref] += x.Standing
	}
	for _, p := range is.payments {
		ref := strings.ToUpper(hex.EncodeToString(p.ID[10:]))
		if p.By != protocol.ByTerminal || !p.State.Final() || p.State == payment.InCase || stands[ref] != p.Captured.Minor || times[ref] > 1 {
			t.Errorf("%s: payment %s: by %s, %s, captured %s; at the terminal %d stand of %d payments", s.id, p.ID, p.By, p.State, p.Captured, stands[ref], times[ref])
		}
		sum.stands += stands[ref]
		sum.captured += p.Captured.Minor
		delete(stands, ref)
	}
	if len(stands) > 0 {
		t.Errorf("%s: the terminal has payments that no record names: %v", s.id, stands)
	}
	for _, r := range is.records {
		if b, ok := r.Body.(protocol.TerminalAnswered); ok && b.AskedBack {
			sum.back++
		}
	}
	s.fell(s.machine.View().Drops, sum.captured, is.doubts)
	t.Logf("%s: %v %+v", s.id, s.points, sum)
	return sum
}
