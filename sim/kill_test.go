package sim_test

import (
	"sync"
	"testing"

	"coinop/agent"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// killSite is a victim among its far ends, and the points of a sale at which it is killed.
type killSite interface {
	self() *victim
	rests(agent.LaneStatus) bool // nobody buys, and nothing is owed
	order() bool
	stops() []string
	at(stop string) bool // brings the sale that was ordered there
	mend()               // the far ends do well again
}

const killSites = 4

// killRounds kills the agents of sites in rounds, each site at its own points first, and then lets them
// say the rest.
func killRounds[S killSite](t *testing.T, rounds int, sites []S) {
	t.Helper()
	var all sync.WaitGroup
	for i, s := range sites {
		all.Go(func() {
			first := i * len(s.stops()) / len(sites)
			for n := range (rounds + len(sites) - 1) / len(sites) {
				if t.Failed() {
					return
				}
				killRound(s, first+n)
			}
			s.self().finish(func(st agent.Status) bool { return s.rests(st.Lanes[0]) })
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// killRound is one buyer, and one kill.
func killRound(s killSite, n int) {
	v := s.self()
	if v.cmd == nil {
		v.start()
	}
	v.status("ready", func(st agent.Status) bool { return st.Lanes[0].Refuses == "" && s.rests(st.Lanes[0]) })
	if v.t.Failed() || !s.order() {
		return
	}
	stop := s.stops()[n%len(s.stops())]
	if !s.at(stop) || v.t.Failed() {
		return
	}
	v.kill(stop)
	_ = v.machine.Cancel() // the controller asks nobody who is not there
	s.mend()
	_ = v.machine.Misbehave(virtual.FaultNone)
}

// accounts is the ledger, which balances; no incident was reported.
func (w *world) accounts(t *testing.T) func(ledger.Account) int64 {
	t.Helper()
	balances, err := w.st.Balances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.CheckSums(balances); err != nil {
		t.Fatal(err)
	}
	if is, err := w.st.Incidents(t.Context()); err != nil || len(is) != 0 {
		t.Errorf("%+v %v", is, err)
	}
	return func(a ledger.Account) int64 {
		return balances[ledger.Key{Tenant: "default", Currency: money.EUR, Account: a}].Net()
	}
}

// told is what the cloud knows of a victim: its payments, its cases by payment, and all its records.
type told struct {
	payments []payment.Payment
	cases    map[protocol.PaymentID][]protocol.CaseCause
	count    int // of cases
	doubts   int // of them, about a vend
	records  []protocol.Opened
}

// has reports that a payment has a case for one of causes.
func (a told) has(p protocol.PaymentID, causes ...protocol.CaseCause) bool {
	for _, c := range a.cases[p] {
		for _, want := range causes {
			if c == want {
				return true
			}
		}
	}
	return false
}

// told reads it; no record may be quarantined.
func (s *victim) told(st *store.Store) told {
	t := s.t
	t.Helper()
	a := told{cases: map[protocol.PaymentID][]protocol.CaseCause{}}
	var err error
	if a.payments, err = st.Payments(t.Context(), store.PaymentFilter{Device: s.id}, 1000); err != nil {
		t.Fatal(err)
	}
	cases, err := st.Cases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if c.Device != s.id {
			continue
		}
		a.cases[c.Payment] = append(a.cases[c.Payment], c.Cause)
		a.count++
		if c.Cause == protocol.CaseUnknown || c.Cause == protocol.CasePresumed {
			a.doubts++
		}
	}
	head, err := st.Head(t.Context(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	for after := protocol.Seq(0); after < head.Position.Seq; {
		records, err := st.Records(t.Context(), s.id, head.Position.Epoch, after, 500)
		if err != nil || len(records) == 0 {
			t.Fatal(after, err)
		}
		for _, r := range records {
			after = r.Position.Seq
			o, err := protocol.OpenRecord(r.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict.Disposition == payment.Quarantined {
				t.Errorf("%s: %s is quarantined: %s", s.id, r.Kind, r.Verdict.Quarantine)
			}
			a.records = append(a.records, o)
		}
	}
	return a
}

// fell holds what fell against what was captured: they differ by vends in doubt, at most.
func (s *victim) fell(drops int, captured int64, doubts int) {
	s.t.Helper()
	if d, most := int64(drops)*victimPrice-captured, int64(doubts)*victimPrice; d > most || -d > most {
		s.t.Errorf("%s: %d fell, %d captured, %d in doubt", s.id, drops, captured, doubts)
	}
}
