package sim

import (
	"time"

	"coinop/cloud/account"
	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/payment"
	"coinop/protocol"
)

// Buyers at a canteen pay with cards of the operator's own. One card can buy everything, and is used at all of them;
// the other nothing.
const richCard, poorCard = "c0ffee0001", "c0ffee0002"

// tabs is what the accounts' entries say of each payment. Entries are only ever added: those that were seen are not
// read again.
type tabs struct {
	accounts []account.ID
	seen     map[account.ID]uint64 // the last entry that was read
	of       map[protocol.PaymentID]*tab
	all      []*tab
}

// tab is what one payment did.
type tab struct {
	device protocol.DeviceID
	hostsim.Entry
}

// openAccounts gives out the cards.
func (w *World) openAccounts() error {
	w.tabs = tabs{of: map[protocol.PaymentID]*tab{}, seen: map[account.ID]uint64{}}
	n := byte(0)
	desk := account.Desk{
		Do: w.store.DoAccount, Now: func() protocol.UnixMS { return w.now },
		NewID: func(protocol.UnixMS) account.ID { n++; return account.ID{n} },
	}
	for _, c := range []struct {
		card string
		has  int64
	}{{richCard, 100_000_00}, {poorCard, 1}} {
		a, err := desk.Open(w.ctx, account.Account{Tenant: "sim", Currency: eur(0).Currency, Card: c.card})
		if err == nil {
			a, _, err = desk.Load(w.ctx, a.ID, eur(c.has), "receipt 1", "")
		}
		if err != nil {
			return err
		}
		w.tabs.accounts = append(w.tabs.accounts, a.ID)
	}
	return nil
}

// account carries an operation out as the accounts' link does, in a process that may die before it and after it.
// What is planned for the bank happens here as it can: the store is slow, or a commit fails, or nobody learns of it.
func (r *replica) account(gen int, e payment.Send) {
	w, h, tid := r.w, r.w.host, e.Op.Merchant.TID
	way := span(h.rng, time.Millisecond, 20*time.Millisecond)
	if d := h.delay[tid]; d > 0 {
		way += d
		delete(h.delay, tid)
		w.blame(tid, "host")
	}
	queue := h.armed
	if e.Op.Key.Kind != acquirer.Authorization {
		queue = h.advice
	}
	lost, unheard := h.lose[tid] > 0, len(queue[tid]) > 0
	switch {
	case lost:
		h.lose[tid]--
		w.blame(tid, "host")
	case unheard:
		queue[tid] = queue[tid][1:]
		w.blame(tid, "host")
	}
	back := func(a acquirer.Answer, err error) {
		w.trace("accounts", "%s: %s/%d of %s: %s %s %t", tid, e.Op.Key.Kind, e.Op.Key.N, e.Op.Amount, a.Raw, a.Outcome, err == nil)
		w.after(time.Millisecond, func() { r.feed(gen, payment.HostAnswer{Device: e.Device, Key: e.Op.Key, Answer: a, Err: err}) })
	}
	w.after(way, func() {
		if r.gen != gen || !r.alive {
			return
		}
		var ans acquirer.Answer
		err := acquirer.ErrUnknown
		if !lost {
			ans, err = r.parts.Accounts.Do(w.ctx, e.Op)
		}
		if unheard {
			ans, err = acquirer.Answer{}, acquirer.ErrUnknown
		}
		back(ans, err)
	})
}

// ask asks what became of an operation: the accounts, for the bank has no word for it.
func (r *replica) ask(gen int, e payment.Ask) {
	ev := payment.QueryAnswer{Device: e.Device, Key: e.Op.Key, Err: acquirer.ErrNotSent}
	if e.Op.Link == acquirer.Accounts {
		ev.Answer, ev.Err = r.parts.Accounts.Query(r.w.ctx, e.Op)
	}
	r.feed(gen, ev)
}

// tabsOf is what a device's payments have done to the accounts, as a bank's books would say it.
func (w *World) tabsOf(d protocol.DeviceID) (out []hostsim.Entry) {
	for _, id := range w.tabs.accounts {
		w.readTabs(id)
	}
	for _, t := range w.tabs.all {
		if t.device == d {
			out = append(out, t.Entry)
		}
	}
	return out
}

func (w *World) readTabs(id account.ID) {
	var fresh []account.Entry // the newest first
	for before := uint64(0); ; {
		page, err := w.store.AccountEntries(w.ctx, id, before, 16)
		if err != nil {
			w.fail("sim", "%v", err)
			return
		}
		for _, e := range page {
			if e.Seq > w.tabs.seen[id] {
				fresh = append(fresh, e)
			}
		}
		if len(page) < 16 || page[15].Seq <= w.tabs.seen[id] {
			break
		}
		before = page[15].Seq
	}
	for i := len(fresh) - 1; i >= 0; i-- {
		e := fresh[i]
		w.tabs.seen[id] = e.Seq
		if e.Payment.IsZero() { // a desk's
			continue
		}
		t := w.tabs.of[e.Payment]
		if t == nil {
			t = &tab{e.Device, hostsim.Entry{Asked: e.Held, Approved: e.Held}}
			w.tabs.of[e.Payment] = t
			w.tabs.all = append(w.tabs.all, t)
		}
		t.Held += e.Held
		t.Captured -= e.Balance
		t.Reversed = t.Held == 0 && t.Captured == 0
	}
}
