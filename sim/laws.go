package sim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/protocol"
)

// Broken is a law that did not hold.
type Broken struct {
	Law  string
	What string
	Who  string // the machine it is about, or ""
	At   protocol.UnixMS
}

func (b Broken) Error() string { return fmt.Sprintf("law broken: %s: %s", b.Law, b.What) }

// Laws by name. The oracle behind the first five knows only drops, the bank's books and the fault log.
const (
	LawCharged   = "charged equals delivered"           // I1
	LawApproved  = "nothing falls without approval"     // I2
	LawHeld      = "what is acknowledged is held"       // I3
	LawRecords   = "every record is disposed of"        // I3
	LawBooks     = "our books equal the bank's"         // I5
	LawFinal     = "every payment ends"                 // I6
	LawOnce      = "one approval stands at most"        // I6
	LawClear     = "no card number in clear"            // I8
	LawSells     = "it keeps selling"                   // after healing
	LawNoCrash   = "no crash"                           //
	LawCases     = "no case without a cause"            // I1
	LawIncidents = "no incident that cannot be"         //
	LawSum       = "the ledger sums to zero"            // I5
	LawTold      = "a lost journal is told"             //
	LawStopped   = "no device is stopped without cause" //
)

func (w *World) fail(law, format string, args ...any) { w.failAt("", law, format, args...) }

func (w *World) failAt(who, law, format string, args ...any) {
	if w.broken != nil {
		return
	}
	w.broken = &Broken{Law: law, What: fmt.Sprintf(format, args...), Who: who, At: w.now}
	w.trace("oracle", "%s", w.broken.Error())
}

// entries are what the bank has of a sale, or the accounts: prices are unique per machine.
func (w *World) entries(m *machine, s *sale) (out []hostsim.Entry) {
	books := w.tabsOf(m.id)
	for _, e := range w.host.bank.Books() {
		if e.TID == m.tid {
			books = append(books, e)
		}
	}
	for _, e := range books {
		if e.Asked == s.total {
			out = append(out, e)
		}
	}
	return out
}

// approvedBefore: when something falls, the bank has approved it, and not taken it back.
func (w *World) approvedBefore(m *machine, s *sale) {
	for _, e := range w.entries(m, s) {
		if e.Approved > 0 && !e.Reversed {
			return
		}
	}
	w.failAt(m.name, LawApproved, "%s dropped for %s", m.name, eur(s.total))
}

// ackedIsHeld: what a device believes to be held by the cloud is.
func (w *World) ackedIsHeld(m *machine) {
	acked, known := m.dev.Link().Acked()
	if !known || acked == 0 {
		return
	}
	h, err := w.store.Head(w.ctx, m.id)
	if err != nil {
		w.fail("sim", "%v", err)
		return
	}
	if h.Position == m.j.Head() {
		m.heldAt = w.now
	}
	if h.Position.Epoch == m.j.Head().Epoch && acked > h.Position.Seq {
		w.failAt(m.name, LawHeld, "%s was told that %d records are held, %d are", m.name, acked, h.Position.Seq)
	}
}

// scan looks for card numbers in clear, as digits or as BCD.
func (w *World) scan(where string, b []byte) {
	for _, pan := range needles {
		if bytes.Contains(b, pan) {
			w.fail(LawClear, "a card number in %s", where)
		}
	}
	for _, card := range []string{richCard, poorCard} {
		if bytes.Contains(b, []byte(card)) {
			w.fail(LawClear, "a customer's card in %s", where)
		}
	}
}

var needles = func() (out [][]byte) {
	for _, p := range pans {
		bcd := make([]byte, 0, 8)
		for i := 0; i+1 < len(p); i += 2 {
			n, _ := strconv.Atoi(p[i : i+2])
			bcd = append(bcd, byte(n/10<<4|n%10))
		}
		out = append(out, []byte(p), bcd)
	}
	return out
}()

// judge is the end of a run: nothing is under way any more.
func (w *World) judge() {
	for _, check := range []func() error{w.judgeSales, w.judgeBooks, w.judgePayments, w.judgeRecords, w.judgeIncidents, w.judgeStore} {
		if w.broken != nil {
			return
		}
		if err := check(); err != nil {
			w.fail("sim", "%v", err)
		}
	}
}

func (w *World) payments() ([]payment.Payment, error) {
	return w.store.Payments(w.ctx, store.PaymentFilter{}, 1<<20)
}

func (w *World) judgePayments() error {
	all, err := w.payments()
	if err != nil {
		return err
	}
	for _, p := range all {
		if !p.State.Final() {
			w.failAt(string(p.Device), LawFinal, "payment of %s at %s is %s", p.Asked, p.Device, p.State)
		}
	}
	open, err := w.store.OpenOps(w.ctx)
	if err == nil && open > 0 {
		w.fail(LawFinal, "%d operations are open", open)
	}
	return err
}

func (w *World) judgeSales() error {
	cases, err := w.store.Cases(w.ctx)
	if err != nil {
		return err
	}
	all, err := w.payments()
	if err != nil {
		return err
	}
	w.counts.Cases = len(cases)
	price := map[protocol.SaleID]int64{}
	lossOf := map[string]bool{}
	for _, p := range all {
		price[p.Sale] = p.Asked.Minor
		if p.State == payment.Reversed || p.State == payment.Expired {
			lossOf[fmt.Sprintf("%s/%d", p.Device, p.Asked.Minor)] = p.Said.Disposition == payment.RecordExpired
		}
	}
	open := map[string]bool{} // sales with a case
	for _, c := range cases {
		open[fmt.Sprintf("%s/%d", c.Device, price[c.Sale])] = true
	}
	for _, m := range w.machines {
		for _, s := range m.sales {
			w.judgeSale(m, s, open, lossOf)
		}
	}
	return nil
}

func (w *World) judgeSale(m *machine, s *sale, open, lossOf map[string]bool) {
	key := fmt.Sprintf("%s/%d", m.id, s.total)
	charged, standing := int64(0), 0
	for _, e := range w.entries(m, s) {
		charged += e.Captured - e.Refunded
		if e.Held > 0 {
			w.failAt(m.name, LawBooks, "%s of the buyer of %s at %s are still held", eur(e.Held), eur(s.total), m.name)
		}
		if e.Stands() > 0 {
			standing++
		}
	}
	w.counts.Captured += charged
	if s.fell > 0 && charged == s.fell {
		w.counts.Sold++
	}
	physical := s.causes["power"] || s.causes["bus"] || s.causes["disk"]
	what := fmt.Sprintf("sale %d of %s for %s: charged %s, fell %s; faults %s", s.n, m.name, eur(s.total), eur(charged), eur(s.fell), names(s.causes))
	switch {
	case standing > 1:
		w.failAt(m.name, LawOnce, "%s: %d approvals stand", what, standing)
	case open[key] && !physical:
		w.failAt(m.name, LawCases, "%s", what)
	case charged == s.fell, open[key]:
	case charged == 0 && lossOf[key] && s.causes["outage"]: // expired_delivered
	case charged == 0 && s.causes["disk"]: // both copies of its records are gone
	default:
		w.failAt(m.name, LawCharged, "%s", what)
	}
	if s.last && (s.fell != s.total || charged != s.total) {
		w.failAt(m.name, LawSells, "%s", what)
	}
}

func names(set map[string]bool) string {
	var out []string
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

func (w *World) judgeRecords() error {
	for _, m := range w.machines {
		if !m.on {
			w.failAt(m.name, LawSells, "%s is off", m.name)
			continue
		}
		h, err := w.store.Head(w.ctx, m.id)
		if err != nil {
			return err
		}
		if h.Position != m.j.Head() {
			w.failAt(m.name, LawRecords, "%s has %d records, %d are held", m.name, m.j.Head().Seq, h.Position.Seq)
			continue
		}
		records, err := w.store.Records(w.ctx, m.id, h.Position.Epoch, 0, 1<<20)
		if err != nil {
			return err
		}
		prev := protocol.Hash{}
		for i, r := range records {
			w.scan("a record", r.Bytes)
			o, err := protocol.OpenRecord(r.Bytes)
			if err != nil {
				return err
			}
			if o.Position.Seq != protocol.Seq(i+1) || o.Prev != prev || o.Position.Hash != r.Position.Hash {
				w.failAt(m.name, LawRecords, "%s: record %d is out of order", m.name, i+1)
			}
			prev = o.Position.Hash
			if r.Verdict.Disposition < payment.Posted || r.Verdict.Disposition > payment.RecordExpired {
				w.failAt(m.name, LawRecords, "%s: record %d (%s) has no disposition", m.name, i+1, r.Kind)
			}
			if r.Verdict.Disposition == payment.Quarantined {
				w.failAt(m.name, LawRecords, "%s: record %d (%s) is quarantined: %s", m.name, i+1, r.Kind, r.Verdict.Quarantine)
			}
		}
		if len(records) != int(h.Position.Seq) {
			w.failAt(m.name, LawRecords, "%s: %d of %d records are held", m.name, len(records), h.Position.Seq)
		}
	}
	return nil
}

// judgeBooks: after quiescence what the bank owes us by our ledger is what it has debited.
func (w *World) judgeBooks() error {
	balances, err := w.store.Balances(w.ctx)
	if err != nil {
		return err
	}
	if err := ledger.CheckSums(balances); err != nil {
		if !errors.Is(err, ledger.ErrSum) {
			return err
		}
		w.fail(LawSum, "%v", err)
	}
	theirs := w.host.extra
	for _, e := range w.host.bank.Books() {
		theirs += e.Captured - e.Refunded
	}
	key := ledger.Key{Tenant: "sim", Currency: eur(0).Currency, Account: ledger.AcqReceivable}
	if ours := balances[key].Net(); ours != theirs {
		w.fail(LawBooks, "the bank owes us %s by our books and %s by its own", eur(ours), eur(theirs))
	}
	if err := w.store.CheckAccounts(w.ctx); err != nil {
		if !errors.Is(err, store.ErrAccounts) {
			return err
		}
		w.fail(LawBooks, "%v", err)
	}
	for k, b := range balances {
		if b.PendingNet() != 0 || (k.Account == ledger.AcqUnconfirmed || k.Account == ledger.VendPending) && b.Net() != 0 {
			w.fail(LawBooks, "%s is left with %s, pending %s", k.Account, eur(b.Net()), eur(b.PendingNet()))
		}
	}
	return nil
}

// judgeIncidents: only what the faults can explain.
func (w *World) judgeIncidents() error {
	all, err := w.store.Incidents(w.ctx)
	if err != nil {
		return err
	}
	cut := map[protocol.DeviceID]bool{}
	for _, i := range all {
		switch i.Name {
		case payment.LateApproval, payment.NotFoundAtHost, payment.ContraryAnswer, payment.NoOutcome:
		case payment.EpochCut:
			cut[i.Device] = true
			if m := w.machine(i.Device); m == nil || !m.renewed {
				w.failAt(string(i.Device), LawIncidents, "%s of %s: %s", i.Name, i.Device, i.Detail)
			}
		default:
			w.failAt(string(i.Device), LawIncidents, "%s of %s: %s", i.Name, i.Device, i.Detail)
		}
	}
	for _, m := range w.machines {
		if m.renewed && !cut[m.id] {
			w.failAt(m.name, LawTold, "%s began a new epoch after its disk was spoiled, and nobody was told", m.name)
		}
	}
	return nil
}

func (w *World) machine(id protocol.DeviceID) *machine {
	for _, m := range w.machines {
		if m.id == id {
			return m
		}
	}
	return nil
}

func (w *World) judgeStore() error { return w.store.Health(w.ctx) }
