package agent_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/cashbook"
	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/hardware/mdb"
	"coinop/hardware/paper"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// cashed is a site with a changer and a validator, which sells without a cloud.
func cashed(t *testing.T, cfg virtual.CashConfig) (*site, *virtual.Cash) {
	t.Helper()
	s := newSite(t)
	cfg.Link = filepath.Join(t.TempDir(), "cash")
	far := must[*virtual.Cash](t)(virtual.NewCash(cfg))
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ends.Go(func() { _ = far.Run(ctx) })
	t.Cleanup(func() { cancel(); ends.Wait() })
	s.cfg.Lanes[0].Cash = agent.MDBCash(mdb.PortRaw, far.Path(), money.EUR, true)
	return s, far
}

// stands waits until the agent's status is so.
func (s *site) stands(ok func(agent.LaneStatus, *agent.LastSale) bool) agent.LaneStatus {
	s.t.Helper()
	for ctx := s.ctx(); ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if st, err := agent.AskStatus(s.cfg.Data); err == nil && len(st.Lanes) == 1 && ok(st.Lanes[0], st.LastSale) {
			return st.Lanes[0]
		}
	}
	st, err := agent.AskStatus(s.cfg.Data)
	s.t.Fatalf("%+v %v", st, err)
	return agent.LaneStatus{}
}

func (s *site) sees(far *virtual.Cash, ok func(virtual.CashView) bool) {
	s.t.Helper()
	if err := far.Wait(s.ctx(), ok); err != nil {
		s.t.Fatalf("%v %+v", err, far.View())
	}
}

// another orders when what the buyer before was shown is over.
func (s *site) another() {
	s.t.Helper()
	s.enabled()
	for len(s.screens) > 0 {
		<-s.screens
	}
	s.order()
}

func known(l agent.LaneStatus, _ *agent.LastSale) bool { return l.Cash != nil && l.Cash.Known }

// Cash needs no cloud: a coin, a vend, the change; on the receipt, and in the status.
func TestCashSale(t *testing.T) {
	t.Parallel()
	for _, level3 := range []bool{false, true} {
		s, far := cashed(t, virtual.CashConfig{Tubes: []int{20, 20, 20, 20, 20, -1}, Level3: level3})
		stop := s.start()
		s.enabled()
		l := s.stands(known)
		if l.Cash.Change != "37.00 EUR" || l.Cash.Exact || len(l.Cash.Tubes) != 6 || l.Cash.Tubes[3] != (agent.Tube{Value: "0.50 EUR", Count: 20}) {
			t.Errorf("%+v", l.Cash)
		}
		s.another()
		s.sees(far, func(v virtual.CashView) bool { return v.Accepting && v.Bills })
		if err := far.Coin(5); err != nil {
			t.Fatal(err)
		}
		if got := s.await(session.ScreenThanks); got.amount != money.New(150, money.EUR) {
			t.Errorf("%+v", got)
		}
		s.sees(far, func(v virtual.CashView) bool { return v.Out == 50 && !v.Accepting })
		s.stands(func(l agent.LaneStatus, last *agent.LastSale) bool {
			return l.Phase == "idle" && l.Cash.Change == "36.50 EUR" && last != nil && last.Charged == "1.50 EUR" && last.How == "sold"
		})
		// A bill too large for the tubes goes back; one that is not is taken.
		s.another()
		s.sees(far, func(v virtual.CashView) bool { return v.Bills })
		if err := far.Bill(2); err != nil { // 20.00
			t.Fatal(err)
		}
		s.sees(far, func(v virtual.CashView) bool { return v.Stacked[2] == 1 && v.Out == 50+1850 })
		s.stands(func(l agent.LaneStatus, _ *agent.LastSale) bool {
			return l.Phase == "idle" && l.Cash.Change == "18.00 EUR"
		})
		s.another()
		s.sees(far, func(v virtual.CashView) bool { return v.Bills })
		if err := far.Bill(2); err != nil {
			t.Fatal(err)
		}
		s.sees(far, func(v virtual.CashView) bool { return v.Returned == 1 })
		far.Lever() // gives up
		s.stands(func(l agent.LaneStatus, _ *agent.LastSale) bool { return l.Phase == "idle" })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if v := s.machine.View(); v.Drops != 2 {
			t.Errorf("%+v", v)
		}
		found := 0
		files, _ := filepath.Glob(filepath.Join(s.cfg.Data, "receipts", "*.json"))
		for _, f := range files {
			var r paper.Receipt
			if err := json.Unmarshal(must[[]byte](t)(os.ReadFile(f)), &r); err != nil {
				t.Fatal(err)
			}
			if r.Charged.Minor == 150 && r.Cash.Minor-r.Change.Minor == 150 && r.Owed.IsZero() {
				found++
			}
		}
		if found != 2 {
			t.Errorf("%d receipts of 2 among %v", found, files)
		}
	}
}

// A changer that is almost empty: the screen says so, no coin above the price is let in, and exact money
// buys. Without a changer no cash is taken.
func TestExactMoney(t *testing.T) {
	t.Parallel()
	s, far := cashed(t, virtual.CashConfig{Tubes: []int{2, 2, 2, 2, 2, -1}})
	stop := s.start()
	s.enabled()
	if l := s.stands(known); !l.Cash.Exact {
		t.Errorf("%+v", l.Cash)
	}
	if err := s.machine.Select(5); err != nil {
		t.Fatal(err)
	}
	if got := s.await(session.ScreenPrice); got.reason != "exact_money" {
		t.Errorf("%+v", got)
	}
	s.sees(far, func(v virtual.CashView) bool { return v.Accepting && v.Bills })
	if far.Coin(5) == nil {
		t.Error("2.00 for 1.50, and nothing to change it with")
	}
	if err := far.Bill(0); err != nil {
		t.Fatal(err)
	}
	s.sees(far, func(v virtual.CashView) bool { return v.Returned == 1 })
	for _, kind := range []int{4, 3} {
		if err := far.Coin(kind); err != nil {
			t.Fatal(err)
		}
	}
	s.await(session.ScreenThanks)
	far.Misbehave(virtual.CashDead)
	s.stands(func(l agent.LaneStatus, _ *agent.LastSale) bool { return l.Phase == "idle" && !l.Cash.Known })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// Coins taken out at the changer's buttons are a record, once, and the cash report names them.
func TestCashByHand(t *testing.T) {
	t.Parallel()
	s, far := cashed(t, virtual.CashConfig{Tubes: []int{20, 20, 20, 20, 20, -1}})
	stop := s.start()
	s.enabled()
	s.stands(known)
	if err := far.ByHand(4, 3); err != nil {
		t.Fatal(err)
	}
	s.stands(func(l agent.LaneStatus, _ *agent.LastSale) bool { return known(l, nil) && l.Cash.Change == "34.00 EUR" })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	book, byHand := cashbook.New(), []int64{}
	_, err := journal.Peek(filepath.Join(s.cfg.Data, "journal"), func(o protocol.Opened) {
		book.See(o)
		if b, ok := o.Body.(protocol.CashByHand); ok {
			byHand = append(byHand, b.Value.Minor)
		}
	})
	if err != nil || !slices.Equal(byHand, []int64{300}) || far.View().ByHand != 300 {
		t.Error(byHand, err)
	}
	rs := book.Reports()
	if len(rs) != 1 || rs[0].Owner != cashbook.ByAgent || len(rs[0].Findings) != 1 || rs[0].Findings[0].Cause != cashbook.ByHand || rs[0].Findings[0].Amount.Minor != 300 {
		t.Errorf("%+v", rs)
	}
}

// Stopped, and pulled out, with money in and with change owed: it is given back, or named.
func TestCashStopped(t *testing.T) {
	t.Parallel()
	s, far := cashed(t, virtual.CashConfig{Tubes: []int{20, 20, 20, 20, 20, -1}})
	stop := s.start()
	s.enabled()
	s.stands(known)
	s.another()
	s.sees(far, func(v virtual.CashView) bool { return v.Accepting })
	if err := far.Coin(4); err != nil {
		t.Fatal(err)
	}
	if got := s.await(session.ScreenPrice); got.amount != money.New(50, money.EUR) {
		t.Errorf("%+v", got)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = s.start()
	s.sees(far, func(v virtual.CashView) bool { return v.Out == 100 })
	s.stands(func(l agent.LaneStatus, last *agent.LastSale) bool {
		return l.Phase == "idle" && last != nil && last.How == "canceled" && last.Charged == "0.00 EUR"
	})
	_ = s.machine.Cancel()
	s.enabled()
	s.another()
	s.sees(far, func(v virtual.CashView) bool { return v.Accepting })
	if err := far.Coin(4); err != nil {
		t.Fatal(err)
	}
	if got := s.await(session.ScreenPrice); got.amount != money.New(50, money.EUR) {
		t.Errorf("%+v", got)
	}
	far.Unplug()
	s.stands(func(l agent.LaneStatus, _ *agent.LastSale) bool { return !l.Cash.Known })
	if err := s.machine.Cancel(); err != nil {
		t.Fatal(err)
	}
	s.stands(func(l agent.LaneStatus, _ *agent.LastSale) bool { return l.Phase == "change" })
	if err := far.Replug(); err != nil {
		t.Fatal(err)
	}
	s.sees(far, func(v virtual.CashView) bool { return v.Out == 200 })
	s.stands(func(l agent.LaneStatus, _ *agent.LastSale) bool { return l.Phase == "idle" && l.Cash.Known })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
