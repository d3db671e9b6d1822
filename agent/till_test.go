package agent_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/cashbook"
	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/hardware/mdb"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// snack is a site whose machine owns its cash: MDB at a raw port, and its books at another.
type snack struct {
	*site
	vmc  *virtual.Controller
	dex  *virtual.DEX
	till *virtual.Till
}

func newSnack(t *testing.T) *snack {
	t.Helper()
	s := &snack{site: newSite(t)}
	run := t.TempDir()
	products := []virtual.Product{{Outlet: 5, Price: money.New(150, money.EUR)}}
	s.till = virtual.NewTill("SNACK1", money.EUR, products)
	s.vmc = must[*virtual.Controller](t)(virtual.NewController(virtual.ControllerConfig{
		MachineConfig: virtual.MachineConfig{Link: filepath.Join(run, "raw"), Products: products}, Till: s.till,
	}))
	s.dex = must[*virtual.DEX](t)(virtual.NewDEX(filepath.Join(run, "dex"), s.till.File()))
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ends.Go(func() { _ = s.vmc.Run(ctx) })
	ends.Go(func() { _ = s.dex.Run(ctx) })
	t.Cleanup(func() { cancel(); ends.Wait() })
	l := &s.cfg.Lanes[0]
	l.Vending = agent.MDB(mdb.PortRaw, s.vmc.Path(), mdb.Scale{Currency: money.EUR, Decimals: 2})
	l.Audit, l.AuditEvery = agent.DEX(s.dex.Path()), time.Hour
	s.cfg.Plan = agent.Plan{0: {5: {Name: "Cola"}}}
	return s
}

// read lets the agent read the machine's books now.
func (s *snack) read() {
	s.t.Helper()
	s.dex.Set(s.till.File(), virtual.DEXOK)
	s.tell(agent.Order{Do: agent.OrderAudit})
}

func (s *snack) tell(o agent.Order) agent.Reply {
	s.t.Helper()
	for {
		r, err := agent.Tell(s.ctx(), s.cfg.Data, o)
		if err == nil {
			return r
		}
		if !strings.Contains(err.Error(), "DEX port") { // it is opened in a moment
			s.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// pay buys for cash, and waits until the agent has heard of it so often.
func (s *snack) pay(f virtual.TillFault, coins int64) {
	s.t.Helper()
	s.till.Misbehave(f)
	before := s.heard()
	if err := s.vmc.Pay(5, coins); err != nil {
		s.t.Fatal(err)
	}
	want := before + map[virtual.TillFault]int{virtual.TillOK: 1, virtual.TillTwice: 2}[f]
	for deadline := time.Now().Add(20 * time.Second); s.heard() < want; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%d cash sales heard of %d", s.heard(), want)
		}
	}
}

func (s *snack) heard() int { return strings.Count(s.log.String(), `msg="cash sale"`) }

func (s *snack) report() ([]string, cashbook.Report) {
	s.t.Helper()
	b := cashbook.New()
	if _, err := journal.Peek(filepath.Join(s.cfg.Data, "journal"), b.See); err != nil {
		s.t.Fatal(err)
	}
	rs := b.Reports()
	if len(rs) != 1 {
		s.t.Fatalf("%d reports", len(rs))
	}
	var found []string
	for _, f := range rs[0].Findings {
		found = append(found, fmt.Sprintf("%s %s", f.Cause, f.Amount))
	}
	return found, rs[0]
}

// TestMachineCountsCards: card sales that a machine does not count have a name.
func TestMachineCountsCards(t *testing.T) {
	t.Parallel()
	s := newSnack(t)
	far := must[*virtual.Terminal](t)(virtual.NewTerminal(virtual.TerminalConfig{}))
	ctx, cancel := context.WithCancel(context.Background())
	var end sync.WaitGroup
	end.Go(func() { _ = far.Run(ctx) })
	t.Cleanup(func() { cancel(); end.Wait() })
	l := &s.cfg.Lanes[0]
	l.Readers, l.Terminal = nil, agent.ZVT(far.Address(), "", money.EUR, false, false)
	stop := s.start()
	if err := s.vmc.Wait(s.ctx(), func(v virtual.View) bool { return v.Status == "ENABLED" }); err != nil {
		t.Fatal(err)
	}
	s.read()
	for i, f := range []virtual.TillFault{virtual.TillOK, virtual.TillCard, virtual.TillOK} {
		s.till.Misbehave(f)
		drops := s.vmc.View().Drops
		for s.vmc.View().Drops == drops {
			if s.ctx().Err() != nil {
				t.Fatalf("sale %d: %+v", i, s.vmc.View())
			}
			if err := s.vmc.Select(5); err != nil {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			wait, done := context.WithTimeout(s.ctx(), 2*time.Second)
			_ = s.vmc.Wait(wait, func(v virtual.View) bool { return v.Drops > drops })
			done()
		}
		s.await(session.ScreenThanks)
		if i > 0 {
			s.read()
		}
	}
	if found, _ := s.report(); !slices.Equal(found, []string{"card_sale_not_counted 1.50 EUR"}) {
		t.Errorf("%q", found)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestMachineOwnsCash: a machine that keeps 5.00, does not tell of a sale, tells of one twice and gets
// another board, each between two readings of its books and over a restart: each has its own name.
func TestMachineOwnsCash(t *testing.T) {
	t.Parallel()
	s := newSnack(t)
	stop := s.start()
	if err := s.vmc.Wait(s.ctx(), func(v virtual.View) bool { return v.Status == "ENABLED" }); err != nil {
		t.Fatal(err)
	}
	s.read() // where counting begins
	s.pay(virtual.TillOK, 200)
	s.pay(virtual.TillOK, 150)
	s.read()
	if found, r := s.report(); len(found) != 0 || r.Sold.Minor != 300 || r.In.Minor != 350 || r.Out.Minor != 50 {
		t.Fatalf("%q %+v", found, r)
	}
	s.pay(virtual.TillSteal, 500)
	s.read()
	s.pay(virtual.TillSkip, 150)
	s.pay(virtual.TillOK, 150)
	s.read()
	s.pay(virtual.TillTwice, 150)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = s.start()
	s.read()
	s.pay(virtual.TillOK, 150)
	s.till.Swap()
	s.read()
	s.pay(virtual.TillOK, 150)
	s.read()
	want := []string{"cash_kept 5.00 EUR", "cash_sale_not_told 1.50 EUR", "cash_sale_not_counted 1.50 EUR", "board_swapped 0.00 EUR"}
	found, r := s.report()
	if !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
	if r.Sold.Minor != 300+300+150+150+150 {
		t.Errorf("sold %s", r.Sold)
	}

	// The box is emptied, and not all of it is in the bag.
	taken := s.till.Empty()
	b := s.tell(agent.Order{Do: agent.OrderCollect, Person: "ana", Bag: "0042"})
	if b.Expected != "1.50 EUR" { // since the new board
		t.Errorf("bag: %+v, %d were in the box", b, taken)
	}
	if found, _ = s.report(); found[len(found)-1] != "bag_not_counted 1.50 EUR" {
		t.Errorf("%q", found)
	}
	if _, err := agent.Tell(s.ctx(), s.cfg.Data, agent.Order{Do: agent.OrderCollect, Person: "ana", Bag: "0042"}); err == nil {
		t.Error("the same bag twice")
	}
	s.tell(agent.Order{Do: agent.OrderCount, Person: "ben", Bag: "0042", Amount: "1.00"})
	if found, _ = s.report(); found[len(found)-1] != "bag_short 0.50 EUR" {
		t.Errorf("%q", found)
	}
	for _, o := range []agent.Order{
		{Do: agent.OrderCount, Person: "ben", Bag: "0042", Amount: "1.00"},
		{Do: agent.OrderCount, Person: "ben", Bag: "0043", Amount: "1.00"},
		{Do: agent.OrderCount, Person: "ben", Bag: "0042", Amount: "a lot"},
		{Do: agent.OrderCollect, Bag: "0043"},
		{Do: agent.OrderAudit, Lane: 7},
		{Do: "dance"},
	} {
		if r, err := agent.Tell(s.ctx(), s.cfg.Data, o); err == nil {
			t.Errorf("%+v: %+v", o, r)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var product string
	_, err := journal.Peek(filepath.Join(s.cfg.Data, "journal"), func(o protocol.Opened) {
		if c, ok := o.Body.(protocol.CashSale); ok && !o.Sale.IsZero() { // it has an id as any sale
			product = c.Product
		}
	})
	if err != nil || product != "Cola" {
		t.Error(product, err)
	}
	if _, err := agent.Tell(s.ctx(), s.cfg.Data, agent.Order{Do: agent.OrderAudit}); err == nil {
		t.Error("an agent that ended took an order")
	}
}
