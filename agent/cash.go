package agent

import (
	"context"
	"errors"
	"fmt"

	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/mdb"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// Cash is a coin changer and a bill validator that we drive, and that Supervise can open.
type Cash interface {
	hardware.Cash
	Open(context.Context) (hardware.Driver, error)
}

// MDBCash is a changer, and a validator unless there is none, on an MDB bus of their own at a tty: we are
// its master, or an adapter is for us. It is not the bus of a vending machine, which has a master already.
func MDBCash(port mdb.Port, path string, c money.Currency, bills bool) func(Wiring) (Cash, error) {
	return func(w Wiring) (Cash, error) {
		return mdb.NewCash(mdb.CashConfig{Config: mdb.Config{Path: path, Port: port, Clock: w.Clock}, Currency: c, NoBills: !bills}, w.Out)
	}
}

// cash takes an event of the lane's cash devices in.
func (s *shell) cash(l *lane, ev hardware.Event) error {
	tell := func(ev session.Event) error { return s.handle(Lane{l.id, ev}) }
	switch ev := ev.(type) {
	case hardware.CashIn:
		return s.handle(Inserted{l.id, session.CashIn{Value: ev.Value, Bill: ev.Bill, Box: ev.Box}})
	case hardware.BillHeld:
		return tell(session.BillHeld{Value: ev.Value})
	case hardware.BillReturned:
		return tell(session.BillReturned{Value: ev.Value})
	case hardware.Paid:
		if ev.Reason != "" {
			s.log.Warn("change", "lane", int(l.id), "asked", ev.Asked.String(), "given", ev.Given.String(), "counted", ev.Known, "reason", ev.Reason)
		}
		return tell(session.Paid{ID: ev.ID, Given: ev.Given, Known: ev.Known, Reason: ev.Reason})
	case hardware.CashLevel:
		if l.level.Exact != ev.Exact || !l.leveled {
			s.log.Info("change level", "lane", int(l.id), "change", ev.Change.String(), "exact_money_only", ev.Exact)
		}
		l.level, l.leveled = ev, len(ev.Tubes) > 0
		return tell(session.CashLevel{Known: l.leveled, Still: ev.Still, Exact: ev.Exact, Tubes: ev.Tubes})
	case hardware.CashOut:
		s.log.Warn("coins taken out by hand", "lane", int(l.id), "value", ev.Value.String())
		return s.handle(Noted{Lane: l.id, Body: protocol.CashByHand{Value: ev.Value}}, Fault{Code: code.CashByHand, Detail: fmt.Sprintf("lane %d: %s", l.id, ev.Value)})
	case hardware.ReturnLever:
		return tell(session.Cancel{Who: "lever"})
	}
	return nil
}

// cashGone is a changer that cannot be spoken to.
func (s *shell) cashGone(l *lane) error {
	l.level, l.leveled = hardware.CashLevel{}, false
	return s.handle(Lane{l.id, session.CashLevel{}})
}

// accept lets coins in as the session wants, again when the devices are back.
func (s *shell) accept(l *lane) {
	if l.cash != nil {
		s.cashed(l, "accept", l.cash.Accept(l.accepts))
	}
}

// pay orders a payout. One that is not taken has given nothing, and never will.
func (s *shell) pay(l *lane, e session.PayChange) []Input {
	err := errors.ErrUnsupported
	if l.cash != nil {
		err = l.cash.Pay(e.ID, e.Amount)
	}
	if err == nil {
		return nil
	}
	s.log.Warn("change not paid", "lane", int(l.id), "amount", e.Amount.String(), "error", err)
	return []Input{Lane{l.id, session.Paid{ID: e.ID, Given: money.New(0, e.Amount.Currency), Known: true, Reason: "not_taken"}}}
}

func (s *shell) cashed(l *lane, what string, err error) {
	if err != nil && !errors.Is(err, hardware.ErrPortGone) {
		s.log.Warn("command not taken by the cash devices", "lane", int(l.id), "command", what, "error", err)
	}
}
