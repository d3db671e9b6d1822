package session

import (
	"slices"

	"coinop/protocol"
	"coinop/protocol/money"
)

// live is a step with the changer there: what it makes it do is done, unless the power is cut first.
func (w *world) live(e Event) Output {
	switch e := e.(type) {
	case CashIn:
		if i := slices.IndexFunc(w.tubes, func(t money.Tube) bool { return t.Value == e.Value.Minor }); i >= 0 && !e.Box {
			w.tubes[i].Count++
		}
	case Paid:
		if w.paid != nil && e.ID == w.paid.ID {
			w.paid = nil
		}
	}
	o := w.step(e)
	for _, ef := range o.Effects {
		p, ok := ef.(PayChange)
		if !ok {
			continue
		}
		if w.chance(8) { // the order never gets to the changer
			w.restart()
			w.step(Booted{})
			return o
		}
		w.pay(p)
	}
	return o
}

// pay is the changer: it gives what it can, at times less, and at times nobody sees the end.
func (w *world) pay(p PayChange) {
	amount := p.Amount.Minor
	if w.chance(4) {
		amount /= 2
	}
	coins, given := money.Change(w.tubes, amount)
	for i, n := range coins {
		w.tubes[i].Count -= uint16(n)
	}
	w.out[w.s.d.Change.Payment] += given
	w.paid = &Paid{ID: p.ID, Given: eur(given), Known: !w.chance(5), Reason: "test"}
}

// level is what is in the tubes; still when no payout is under way.
func (w *world) level() CashLevel {
	return CashLevel{Known: true, Still: w.paid == nil && w.s.taking == 0 && !w.chance(5), Exact: w.chance(10), Tubes: slices.Clone(w.tubes)}
}

// money is a coin, at times a bill.
func (w *world) money() Event {
	c := CashIn{Payment: mk[protocol.PaymentID](w.id())}
	switch w.rnd.IntN(6) {
	case 0:
		return BillHeld{eur([]int64{500, 1000}[w.rnd.IntN(2)])}
	case 1:
		c.Value, c.Bill, c.Box = eur(500), true, true
	case 2:
		c.Value, c.Box = eur(200), true
	default:
		c.Value = eur(w.tubes[w.rnd.IntN(len(w.tubes))].Value)
	}
	return c
}

// moved holds that what is told of change is what came out.
func (w *world) moved() {
	sums := [4]int64{}
	for id, p := range w.books.payments {
		if !p.cash {
			continue
		}
		sums[0] += p.approved.Minor
		sums[1] += p.captured
		sums[2] += p.given
		sums[3] += p.owed
		if known := p.owed == 0 || p.given > 0; known && p.given != w.out[id] {
			w.fail("%d of payment %s came out, %d is told", w.out[id], id, p.given)
		}
	}
	if sums[0] != sums[1]+sums[2]+sums[3] {
		w.fail("%d came in, %d captured, %d given, %d owed", sums[0], sums[1], sums[2], sums[3])
	}
}

// rest is what of a cash payment is neither captured nor accounted for.
func (p payment) rest() int64 {
	if !p.cash {
		return 0
	}
	return p.approved.Minor - p.captured - p.given - p.owed
}

// cashRecord takes the records of cash.
func (b *books) cashRecord(r protocol.Record, say func(string, ...any)) {
	change := func(id protocol.PaymentID, given, owed int64) {
		p, ok := b.payments[id]
		if !ok || !p.cash || p.ends != 1 || p.counted || given < 0 || owed < 0 || given+owed != p.rest() {
			say("change %d and %d owed of %+v", given, owed, p)
		}
		if given > 0 && p.ordered != 1 {
			say("change given that was ordered %d times", p.ordered)
		}
		p.counted, p.given, p.owed = true, given, owed
		b.payments[id] = p
	}
	switch a := r.Body.(type) {
	case protocol.CashIn:
		p, ok := b.payments[a.Payment]
		switch {
		case !ok:
			p = payment{sale: r.Sale, cash: true}
		case !p.cash || p.sale != r.Sale || p.ends > 0:
			say("cash for payment %+v of sale %s", p, r.Sale)
		}
		for _, q := range b.payments {
			if !r.Sale.IsZero() && q.sale == r.Sale && !q.cash && q.ends == 0 {
				say("cash beside a card in sale %s", r.Sale)
			}
		}
		p.approved, _ = p.approved.Add(a.Value)
		p.asked = p.approved
		b.payments[a.Payment] = p
	case protocol.ChangeOrdered:
		p := b.payments[a.Payment]
		if p.ordered++; p.ordered > 1 || p.ends != 1 || p.counted || a.Amount.Minor != p.rest() || a.Amount.Minor <= 0 {
			say("change of %s ordered: %+v", a.Amount, p)
		}
		b.payments[a.Payment] = p
	case protocol.ChangePaid:
		change(a.Payment, a.Given.Minor, a.Short.Minor)
	case protocol.ChangeUnknown:
		if b.payments[a.Payment].ordered != 1 {
			say("nobody knows of change that was not ordered")
		}
		change(a.Payment, 0, a.Amount.Minor)
	}
}

// cashLaws holds that what is done with money was written, that change is paid once, and that coins
// may come in only while a sale waits for them.
func (b *books) cashLaws(o Output, phase Phase, say func(string, ...any)) {
	for id, p := range b.payments {
		if (p.owed > 0) != p.asks {
			say("%d of payment %s are owed, case %v", p.owed, id, p.asks)
		}
	}
	for _, ef := range o.Effects {
		switch a := ef.(type) {
		case AcceptCash:
			b.accepts = a.Most.Minor
		case TakeBill:
			stacks := false
			for _, r := range o.Records {
				_, is := r.Body.(protocol.StackOrdered)
				stacks = stacks || is
			}
			if a.Take != stacks {
				say("a bill taken %v, written %v", a.Take, stacks)
			}
		case PayChange:
			n := 0
			for id, p := range b.payments {
				if p.ordered == 1 && !p.counted && p.rest() == a.Amount.Minor {
					p.paying++
					b.payments[id] = p
					if n++; p.paying > 1 {
						say("change of %s is paid a second time", id)
					}
				}
			}
			if n != 1 {
				say("%s paid for %d payments", a.Amount, n)
			}
		}
	}
	if phase != Ordered && b.accepts > 0 {
		say("coins may come in in %s", phase)
	}
}
