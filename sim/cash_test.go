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
	cashRounds = flag.Int("cash-rounds", 40, "how often TestCashKilled kills an agent")
	cashSeed   = flag.Uint64("cash-seed", 1, "of TestCashKilled")
)

// TestCashKilled: cash sales with change at real drivers before virtual machines, changers and
// validators; the agents are killed at every point of them. In the end the money that moved is the
// money in the records and in the ledger, and what was not given is named.
func TestCashKilled(t *testing.T) {
	t.Parallel()
	w, ids := newVictims(t, killSites)
	var sites []*cashSite
	for i, id := range ids {
		sites = append(sites, newCashSite(t, id, w.proxy.addr(), i%2 == 1, rand.New(rand.NewPCG(*cashSeed, uint64(i)))))
	}
	killRounds(t, *cashRounds, sites)
	total := cashSums{}
	for _, s := range sites {
		total.add(s.judge(w.st))
	}
	net := w.accounts(t)
	if net(ledger.CashCredit) != 0 || net(ledger.CashInMachine) != total.in-total.given || -net(ledger.MerchantPayable) != total.captured || -net(ledger.ChangeOwed) != total.owed {
		t.Errorf("ledger: in machine %d, credit %d, payable %d, owed %d; records %+v", net(ledger.CashInMachine), net(ledger.CashCredit), net(ledger.MerchantPayable), net(ledger.ChangeOwed), total)
	}
	t.Logf("%+v", total)
}

// cashSite is a vending machine, a changer and a validator, and the agent before them.
type cashSite struct {
	*victim
	cash *virtual.Cash
	put  []putCoin
}

// putCoin is one coin, or a bill: that one counts when it is stacked.
type putCoin struct {
	value int64
	bill  bool
	last  bool // before a kill
}

// In minor units: what coins are worth, and what is sold.
var cashCoins = []int64{5, 10, 20, 50, 100, 200}

func newCashSite(t *testing.T, identity, addr string, level3 bool, rnd *rand.Rand) *cashSite {
	t.Helper()
	s := &cashSite{victim: newVictim(t, identity, addr, rnd)}
	s.cfg.Cash = filepath.Join(t.TempDir(), "cash")
	// Coins of 0.50 and 2.00 go to the box: change of 0.50 is three coins of two types.
	var err error
	if s.cash, err = virtual.NewCash(virtual.CashConfig{Link: s.cfg.Cash, Tubes: []int{200, 200, 200, -1, 60, -1}, Level3: level3}); err != nil {
		t.Fatal(err)
	}
	s.live(s.machine.Run, s.cash.Run)
	s.far = func() any { return []any{s.machine.View(), s.cash.View()} }
	s.dead = func(point string) {
		if n := len(s.put); n > 0 && point != "end" {
			s.put[n-1].last = true
		}
	}
	return s
}

func (s *cashSite) see(ctx context.Context, what string, ok func(virtual.CashView) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, victimPatience)
	defer cancel()
	if err := s.cash.Wait(ctx, ok); err != nil {
		s.t.Errorf("%s: %s: %v %+v", s.id, what, err, s.cash.View())
		return false
	}
	return true
}

// order presses the button until the slot opens.
func (s *cashSite) order() bool {
	return s.press(func(ctx context.Context) error {
		return s.cash.Wait(ctx, func(v virtual.CashView) bool { return v.Accepting })
	})
}

func (s *cashSite) coin(kind int) bool {
	err := s.cash.Coin(kind)
	if err != nil {
		s.t.Errorf("%s: coin: %v", s.id, err)
		return false
	}
	s.put = append(s.put, putCoin{value: cashCoins[kind]})
	return true
}

// bill is one of 5.00.
func (s *cashSite) bill() bool {
	if !s.see(s.t.Context(), "bills", func(v virtual.CashView) bool { return v.Bills }) {
		return false
	}
	if err := s.cash.Bill(0); err != nil {
		s.t.Errorf("%s: bill: %v", s.id, err)
		return false
	}
	s.put = append(s.put, putCoin{value: 500, bill: true})
	return true
}

func (s *cashSite) self() *victim { return s.victim }

func (s *cashSite) rests(l agent.LaneStatus) bool {
	return l.Phase == "idle" && l.Cash != nil && l.Cash.Known
}

func (s *cashSite) stops() []string {
	return []string{"a coin", "two coins", "approval", "drop", "mid payout", "payout", "canceled", "vend fails", "coins stick", "a bill", "stacked", "end"}
}

func (s *cashSite) mend() { s.cash.Misbehave(virtual.CashOK) }

func (s *cashSite) at(point string) bool {
	v, c := s.machine.View(), s.cash.View()
	ok := true
	switch point {
	case "a coin":
		ok = s.coin(4)
		s.soon(200 * time.Millisecond)
	case "two coins":
		if ok = s.coin(4); ok {
			s.soon(400 * time.Millisecond)
			if s.cash.View().Accepting {
				ok = s.coin(4)
			}
			s.soon(200 * time.Millisecond)
		}
	case "approval":
		ok = s.coin(5) && s.seeMachine(point, func(now virtual.View) bool { return now.Approvals > v.Approvals })
		s.soon(60 * time.Millisecond)
	case "drop":
		ok = s.coin(5) && s.seeMachine(point, func(now virtual.View) bool { return now.Drops > v.Drops })
		s.soon(100 * time.Millisecond)
	case "mid payout":
		ok = s.coin(5) && s.see(s.t.Context(), point, func(now virtual.CashView) bool { return now.Out > c.Out })
		s.soon(50 * time.Millisecond)
	case "payout":
		ok = s.coin(5) && s.see(s.t.Context(), point, func(now virtual.CashView) bool { return now.Out == c.Out+50 })
		s.soon(300 * time.Millisecond)
	case "canceled":
		if ok = s.coin(4); ok {
			time.Sleep(150 * time.Millisecond)
			_ = s.machine.Cancel()
			s.soon(500 * time.Millisecond)
		}
	case "vend fails":
		_ = s.machine.Misbehave(virtual.FaultFail)
		ok = s.coin(5) && s.see(s.t.Context(), point, func(now virtual.CashView) bool { return now.Out > c.Out })
		s.soon(300 * time.Millisecond)
	case "coins stick":
		s.cash.Misbehave(virtual.CashStuck)
		ok = s.coin(5) && s.seeMachine(point, func(now virtual.View) bool { return now.Drops > v.Drops })
		s.soon(1500 * time.Millisecond)
	case "a bill":
		ok = s.bill()
		s.soon(400 * time.Millisecond)
	case "stacked":
		ok = s.bill() && s.see(s.t.Context(), point, func(now virtual.CashView) bool { return now.Stacked[0] > c.Stacked[0] })
		s.soon(600 * time.Millisecond)
	case "end": // of a sale that nobody disturbs
		if ok = s.coin(5); ok {
			s.see(s.t.Context(), point, func(now virtual.CashView) bool { return now.Out == c.Out+50 })
			s.status("idle", func(st agent.Status) bool { return st.Lanes[0].Phase == "idle" })
		}
	}
	return ok
}

// cashSums are minor units.
type cashSums struct {
	in, captured, given, owed int64 // by the records
	inserted, out, lost       int64 // by the far end
	unknown                   int64 // change of which nobody can tell
	sales, drops, cases       int
}

func (a *cashSums) add(b cashSums) {
	a.in += b.in
	a.captured += b.captured
	a.given += b.given
	a.owed += b.owed
	a.inserted += b.inserted
	a.out += b.out
	a.lost += b.lost
	a.unknown += b.unknown
	a.sales += b.sales
	a.drops += b.drops
	a.cases += b.cases
}

// judge compares what happened with what was written.
func (s *cashSite) judge(st *store.Store) (sum cashSums) {
	t := s.t
	t.Helper()
	is := s.told(st)
	sum.cases = is.count
	change := changeOf(is.records)
	for _, p := range is.payments {
		if p.By != protocol.ByCash || !p.State.Final() || p.Change.Minor != p.Approved.Minor-p.Captured.Minor {
			t.Errorf("%s: payment %s: %s, in %s, captured %s, change %s", s.id, p.ID, p.State, p.Approved, p.Captured, p.Change)
		}
		sum.in += p.Approved.Minor
		sum.captured += p.Captured.Minor
		if p.State == payment.Captured {
			sum.sales++
		}
		c := change[p.ID]
		sum.given += c.given
		sum.owed += c.owed
		sum.unknown += c.unknown
		named := is.has(p.ID, protocol.CaseChangeShort, protocol.CaseChangeUnknown)
		if named != (c.owed > 0) {
			t.Errorf("%s: %d of payment %s are owed, cases %v", s.id, c.owed, p.ID, is.cases[p.ID])
		}
	}
	v := s.cash.View()
	sum.out, sum.drops = v.Out, s.machine.View().Drops
	late := int64(0)
	for _, c := range s.put {
		if !c.bill {
			sum.inserted += c.value
		}
		if c.last {
			late += c.value
		}
	}
	sum.inserted += 500 * int64(v.Stacked[0])
	// What was acknowledged on the bus and not synced when the agent was killed is lost: the last before it.
	if sum.lost = sum.inserted - sum.in; sum.lost < 0 || sum.lost > late {
		t.Errorf("%s: %d was put in, %d is written; %d at most can be lost", s.id, sum.inserted, sum.in, late)
	}
	if d := sum.out - sum.given; d < 0 || d > sum.unknown {
		t.Errorf("%s: %d came out, %d is written, of %d nobody knows", s.id, sum.out, sum.given, sum.unknown)
	}
	s.fell(sum.drops, sum.captured, is.doubts)
	if sum.in != sum.captured+sum.given+sum.owed {
		t.Errorf("%s: %+v", s.id, sum)
	}
	t.Logf("%s: %v %+v", s.id, s.points, sum)
	return sum
}

// changed is what is written of a payment's change.
type changed struct{ given, owed, unknown int64 }

func changeOf(records []protocol.Opened) map[protocol.PaymentID]changed {
	out := map[protocol.PaymentID]changed{}
	for _, r := range records {
		switch b := r.Body.(type) {
		case protocol.ChangePaid:
			c := out[b.Payment]
			out[b.Payment] = changed{c.given + b.Given.Minor, c.owed + b.Short.Minor, c.unknown}
		case protocol.ChangeUnknown:
			c := out[b.Payment]
			out[b.Payment] = changed{c.given, c.owed + b.Amount.Minor, c.unknown + b.Amount.Minor}
		}
	}
	return out
}
