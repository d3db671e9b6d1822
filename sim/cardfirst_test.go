package sim_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"coinop/agent"
	"coinop/cloud/payment"
	"coinop/hardware/mdb"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// A real agent at a raw MDB bus before a real cloud and a bank, where the card comes first: one hold, and
// what the buyer takes is charged; a vend that fails is not, and the machine hears so once it is certain.
func TestCardFirst(t *testing.T) {
	// By itself: a raw bus keeps times of 5 ms, and beside a hundred processes nobody does.
	w := newWorld(t, own, lines{})
	s := newShop(t, w.add(t, "snack-3", 3), w.proxy.addr())
	vmc := must[*virtual.Controller](t)(virtual.NewController(virtual.ControllerConfig{MachineConfig: virtual.MachineConfig{
		Link: filepath.Join(t.TempDir(), "raw"), Products: []virtual.Product{{Outlet: 5, Price: money.New(150, money.EUR)}},
	}, Currencies: true}))
	background(t, func(ctx context.Context) error { _ = vmc.Run(ctx); return nil })
	s.cfg.Policy.MaxHold = 500
	l := &s.cfg.Lanes[0]
	l.Language = "de"
	l.Flow, l.Vending = protocol.CardFirst, agent.MDB(mdb.PortRaw, vmc.Path(), mdb.Scale{Currency: money.EUR, Decimals: 2})
	stop := s.open()
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	step := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v (%+v)", what, err, vmc.View())
		}
	}
	tap := func() {
		t.Helper()
		s.status("it sells", func(st agent.Status) bool {
			return len(st.Lanes) == 1 && st.Lanes[0].Refuses == "" && st.Link.Way == "up" && st.Lanes[0].Phase == "idle"
		})
		step("tap", s.reader.TapWhenArmed(ctx, virtual.VisaTest()))
		step("session", vmc.Wait(ctx, func(v virtual.View) bool { return v.Status == "IDLE" }))
	}
	// This controller ends a session after one vend.
	done := func() {
		t.Helper()
		step("the session's end", vmc.Wait(ctx, func(v virtual.View) bool { return v.Status == "ENABLED" }))
	}

	t.Log("one item of a hold of 5.00")
	tap()
	if s := vmc.View().Session; s.Language != "de" || s.Currency != "1978" {
		t.Errorf("the session is in %q and %q", s.Language, s.Currency)
	}
	step("select", vmc.Select(5))
	done()
	p := w.wait(1)
	if p.State != payment.Captured || p.Asked.Minor != 500 || p.Captured.Minor != 150 {
		t.Fatalf("%s, asked %s, captured %s", p.State, p.Asked, p.Captured)
	}

	t.Log("cash for his card: nothing can be loaded here, and the controller hears so")
	step("load", vmc.LoadCash(150))
	step("denied", vmc.Wait(ctx, func(v virtual.View) bool { return v.Session.LoadDenials == 1 && v.Session.Loads == 0 }))

	t.Log("the vend fails: the controller waits, hears that the buyer is not charged, and he is not")
	step("fault", vmc.Misbehave(virtual.FaultFail))
	tap()
	step("select", vmc.Select(5))
	step("refund", vmc.Wait(ctx, func(v virtual.View) bool { return v.Refunds == 1 }))
	done()
	if p = w.wait(2); p.State != payment.Reversed {
		t.Fatal(p.State)
	}
	if v := vmc.View(); v.Errors != 0 || v.Drops != 1 {
		t.Errorf("%+v", v)
	}

	t.Log("a buyer who takes nothing")
	tap()
	step("give up", vmc.Complete())
	done()
	if p = w.wait(3); p.State != payment.Reversed {
		t.Fatal(p.State)
	}
	w.books(150)
	if is, err := w.st.Incidents(t.Context()); err != nil || len(is) != 0 {
		t.Fatalf("%+v %v", is, err)
	}
}
