package payment

import (
	"coinop/protocol"
	"coinop/protocol/money"
)

// Cash has no host: the device's records say all of it, in the journal's order, each once.
//
//	CashIn ...  ->  approved, and more with each  ->  captured, or reversed where nothing is
//	                                                  ->  change given, short or unknown
//
// What is not captured stands in cash_credit until the device says what became of it.

// contrary is a record that cannot be: the money it tells of is in question, and a person is told.
func (s *step) contrary() {
	s.cell("cash_contrary")
	s.do(Report{CashContrary}, Judge{Verdict{Quarantined, protocol.QuarantineContradiction}})
}

// cash: money came in.
func (s *step) cash(f Cash) {
	p := s.p
	sum, err := p.Approved.Add(f.Value)
	switch {
	case f.Value.Minor <= 0 || !f.Value.Currency.Known() || err != nil:
		s.cell("cash_bad")
		s.do(Judge{Verdict{Quarantined, protocol.BadContent}})
		return
	case p.State == None:
		s.cell("cash")
		p.Device, p.Sale, p.Tenant, p.Lane, p.Class = f.Device, f.Sale, f.Tenant, f.Lane, protocol.Live
		p.By, p.State, p.Received, p.Frozen = protocol.ByCash, Approved, s.now, true // nobody but the device ends it
	case p.By != protocol.ByCash || p.Device != f.Device || p.Sale != f.Sale || p.State != Approved:
		s.contrary()
		return
	default:
		s.cell("cash_more")
	}
	p.Approved, p.Asked = sum, sum
	s.do(Move{s.about().CashTaken(record(f.Position), f.Value)}, Judge{Verdict{Posted, 0}})
}

// cashOutcome: what of it was sold.
func (s *step) cashOutcome(f Outcome) {
	p, c := s.p, f.Amount
	switch {
	case f.What == protocol.Void:
		s.cell("cash_void")
		p.State = Reversed
		s.judge(NoMoney, 0) // until the change is given
	case f.Second:
		s.cell("cash_second")
		p.State = InCase
		s.do(Report{SecondCapture}, Open{protocol.CaseIncident})
		s.judge(Quarantined, protocol.QuarantineContradiction)
	case c.Currency != p.Approved.Currency || c.Minor > p.Approved.Minor:
		s.cell("cash_over")
		p.State = InCase
		s.do(Open{protocol.CaseOverApproved})
		s.judge(Quarantined, protocol.QuarantineOverApproved)
	default:
		s.cell("cash_capture")
		p.State, p.Captured = Captured, c
		s.do(Move{s.about().CashSpent(record(f.Position), c)})
		s.judge(Posted, 0)
	}
}

// change: what became of the rest.
func (s *step) change(f ChangeSaid) {
	p := s.p
	sum, err := f.Given.Add(f.Short)
	if err == nil {
		sum, err = p.Change.Add(sum)
	}
	rest := money.New(p.Approved.Minor-p.Captured.Minor, p.Approved.Currency)
	over, cmp := sum.Cmp(rest)
	ended := p.State == Captured || p.State == Reversed
	if p.By != protocol.ByCash || p.Device != f.Device || !ended || err != nil || cmp != nil || over > 0 || f.Given.Minor < 0 || f.Short.Minor < 0 {
		s.contrary()
		return
	}
	s.cell("change")
	p.Change = sum
	s.do(Move{s.about().ChangeGiven(record(f.Position), f.Given, f.Short)}, Judge{Verdict{Posted, 0}})
}

// record names a record as the ledger's source.
func record(at protocol.Position) string { return "record/" + at.Hash.String() }
