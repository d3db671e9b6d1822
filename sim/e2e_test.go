package sim_test

import (
	"testing"
	"time"

	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// One machine, the real cloud on a real socket with certificates on both ends, a bank on another:
// nothing is faked but the card, the slot and the buyer.
func TestOneMachine(t *testing.T) {
	t.Parallel()
	for _, e := range []engine{own, other} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			oneMachine(t, newWorld(t, e, lines{}))
		})
	}
}

func oneMachine(t *testing.T, w *world) {
	t.Log("a sale is approved, captured and in the ledger")
	s := w.machine.sell(250, true)
	if s.how != protocol.Sold || w.wait(1).State != payment.Captured {
		t.Fatal(s.how)
	}
	w.books(250)

	t.Log("a card is declined")
	if s = w.machine.sell(9051, true); s.how != protocol.SaleDeclined {
		t.Fatal(s.how)
	}
	if p := w.wait(2); p.State != payment.Declined {
		t.Fatal(p.State)
	}

	t.Log("the slot fails: voided")
	if s = w.machine.sell(300, false); s.how != protocol.NotCharged {
		t.Fatal(s.how)
	}
	if p := w.wait(3); p.State != payment.Reversed {
		t.Fatal(p.State)
	}
	w.books(250)

	t.Log("the connection breaks between request and answer: the same bytes again, one authorization")
	w.host.next(w.proxy.drop)
	if s = w.machine.sell(400, true); s.how != protocol.Sold {
		t.Fatal(s.how)
	}
	if p := w.wait(4); p.State != payment.Captured {
		t.Fatal(p.State)
	}
	w.books(650)

	t.Log("the cloud goes away before it hears the outcome")
	stopped := make(chan struct{})
	w.machine.post(t.Context(), func() { w.machine.onVend = func() { w.stop(); close(stopped) } })
	s = w.machine.sell(500, true)
	<-stopped
	if s.how != protocol.Sold {
		t.Fatal(s.how)
	}
	w.start()
	if p := w.wait(5); p.State != payment.Captured {
		t.Fatal(p.State)
	}
	w.books(1150)

	t.Log("the device is revoked while it is connected: it sells no more, by name")
	if err := w.place.RevokeDevice(t.Context(), "snack-1"); err != nil {
		t.Fatal(err)
	}
	w.machine.post(t.Context(), func() { w.machine.expect = "identity.revoked" })
	time.Sleep(1100 * time.Millisecond) // what the registry said is believed for a second
	if s = w.machine.sell(600, true); s.how != protocol.SaleDeclined && s.how != protocol.NotCharged {
		t.Fatal(s.how)
	}
	select {
	case <-w.machine.halted:
	case <-time.After(20 * time.Second):
		t.Fatal("it was not told")
	}
	w.books(1150)

	if is, err := w.st.Incidents(t.Context()); err != nil || len(is) != 0 {
		t.Fatalf("%+v %v", is, err)
	}
	if cs, err := w.st.Cases(t.Context()); err != nil || len(cs) != 0 {
		t.Fatalf("%+v %v", cs, err)
	}
	if n := w.host.auths(); n != 5 {
		t.Fatalf("%d authorizations at the host for 5 cards", n)
	}
}
