package payment

import (
	"coinop/protocol"
	"coinop/protocol/money"
)

// A terminal that authorizes by itself has a bank of its own: the cloud relays nothing, and books what
// the device's records say to the provider's clearing account. It never expires and is never released.
//
//	TerminalSent -> sent -> approved -> captured                   (Dr terminal_clearing Cr merchant_payable)
//	                 |  \-> declined, refused_unsent   \-> TerminalDone(refused): what was too much stands
//	                 \-> void: reversing -> TerminalDone: reversed   there, and is owed to the buyer
//	                          \-> its answer says that nothing was paid: reversed

// TerminalAsked is a TerminalSent record.
type TerminalAsked struct {
	Device   protocol.DeviceID
	Sale     protocol.SaleID
	Tenant   string
	Lane     protocol.Lane
	Purpose  protocol.Purpose
	Amount   money.Amount
	Position protocol.Position
}

// TerminalSaid is a TerminalAnswered record.
type TerminalSaid struct {
	Device   protocol.DeviceID
	Sale     protocol.SaleID
	Result   protocol.TerminalResult
	Approved money.Amount
	AuthID   string
	Position protocol.Position
}

// TerminalEnded is a TerminalDone record.
type TerminalEnded struct {
	Device   protocol.DeviceID
	Op       protocol.TerminalOp
	Amount   money.Amount
	End      protocol.TerminalEnd
	Position protocol.Position
}

func (TerminalAsked) fact() {}
func (TerminalSaid) fact()  {}
func (TerminalEnded) fact() {}

// noTerminal is a record of a terminal that cannot be: a person is told.
func (s *step) noTerminal() {
	s.cell("terminal_contrary")
	s.do(Report{TerminalContrary}, Judge{Verdict{Quarantined, protocol.QuarantineContradiction}})
}

func (s *step) terminalAsked(f TerminalAsked) {
	p := s.p
	switch {
	case f.Amount.Minor <= 0 || !f.Amount.Currency.Known():
		s.cell("terminal_bad")
		s.do(Judge{Verdict{Quarantined, protocol.BadContent}})
	case p.State != None:
		s.noTerminal()
	default:
		s.cell("terminal")
		p.Device, p.Sale, p.Tenant, p.Lane, p.Class = f.Device, f.Sale, f.Tenant, f.Lane, protocol.Live
		p.By, p.State, p.Purpose, p.Asked, p.Received, p.Frozen = protocol.ByTerminal, Sent, f.Purpose, f.Amount, s.now, true
		s.do(Judge{Verdict{NoMoney, 0}})
	}
}

// terminalSaid is what the terminal said, in time or when it was asked back after the outcome.
func (s *step) terminalSaid(f TerminalSaid) {
	p := s.p
	approved := f.Result == protocol.TerminalApproved
	switch {
	case p.By != protocol.ByTerminal || p.Device != f.Device || p.Sale != f.Sale || p.AnswerAt > 0 || p.State != Sent && p.State != Reversing,
		approved && (f.Approved.Minor <= 0 || f.Approved.Currency != p.Asked.Currency):
		s.noTerminal()
		return
	case approved:
		s.cell("terminal_approved")
		p.Approved, p.AuthID = f.Approved, f.AuthID
		if p.State == Sent {
			p.State = Approved
		}
	case f.Result == protocol.TerminalUnknown: // the device has opened a case
		s.cell("terminal_unknown")
		p.State = InCase
	case p.State == Reversing:
		s.cell("terminal_not_paid")
		p.State = Reversed
	case f.Result == protocol.TerminalUnsent:
		s.cell("terminal_unsent")
		p.State = RefusedUnsent
	default:
		s.cell("terminal_declined")
		p.State = Declined
	}
	p.AnswerAt = s.now
	s.do(Judge{Verdict{NoMoney, 0}})
}

// terminalOutcome is the outcome of a payment at a terminal.
func (s *step) terminalOutcome(f Outcome) {
	p, c := s.p, f.Amount
	switch {
	case f.What == protocol.Void && (p.State == Sent || p.State == Approved):
		s.cell("terminal_void")
		p.State = Reversing // until the device says what became of it there
		s.judge(NoMoney, 0)
	case f.What == protocol.Void:
		s.cell("terminal_void")
		s.judge(NoMoney, 0)
	case f.Second || p.State != Approved:
		s.cell("terminal_second")
		p.State = InCase
		name := SecondCapture
		if !f.Second {
			name = TerminalContrary
		}
		s.do(Report{name}, Open{protocol.CaseIncident})
		s.judge(Quarantined, protocol.QuarantineContradiction)
	case c.Currency != p.Approved.Currency || c.Minor > p.Approved.Minor:
		s.cell("terminal_over")
		p.State = InCase
		s.do(Open{protocol.CaseOverApproved})
		s.judge(Quarantined, protocol.QuarantineOverApproved)
	default:
		s.cell("terminal_capture")
		p.State, p.Captured = Captured, c
		s.do(Move{s.about().TerminalCaptured(record(f.Position), c)})
		s.judge(Posted, 0)
	}
}

// terminalEnded is what the terminal did about it, or would not.
func (s *step) terminalEnded(f TerminalEnded) {
	p := s.p
	capture := f.Op == protocol.TerminalCapture && p.State == Captured
	cancel := f.Op == protocol.TerminalCancel && p.State == Reversing && p.Approved.Minor > 0
	if p.By != protocol.ByTerminal || p.Device != f.Device || p.Done || !capture && !cancel || f.End != protocol.TerminalOK && f.End != protocol.TerminalRefused {
		s.noTerminal()
		return
	}
	p.Done = true
	switch {
	case f.End == protocol.TerminalOK && capture:
		s.cell("terminal_captured")
		s.do(Judge{Verdict{NoMoney, 0}})
	case f.End == protocol.TerminalOK:
		s.cell("terminal_canceled")
		p.State = Reversed
		s.do(Judge{Verdict{NoMoney, 0}})
	default: // all that was approved stands at the provider
		s.cell("terminal_refused")
		if cancel {
			p.State = InCase
		}
		over := money.New(p.Approved.Minor-p.Captured.Minor, p.Approved.Currency)
		s.do(Move{s.about().TerminalStands(record(f.Position), over)}, Judge{Verdict{Posted, 0}})
	}
}
