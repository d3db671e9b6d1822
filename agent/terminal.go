package agent

import (
	"context"
	"time"

	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/mdb"
	"coinop/hardware/terminal"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Terminal is a terminal that authorizes by itself, and that Supervise can open.
type Terminal interface {
	hardware.Terminal
	Open(context.Context) (hardware.Driver, error)
}

// ZVT is a terminal at host:port that speaks ZVT. hold: its payments are reservations. lines: it
// composes the receipts. An empty password is six zeros.
func ZVT(address, password string, c money.Currency, hold, lines bool) func(Wiring) (Terminal, error) {
	return func(w Wiring) (Terminal, error) {
		return terminal.New(terminal.Config{Address: address, Password: password, Currency: c, Hold: hold, Lines: lines, Clock: w.Clock}, w.Out)
	}
}

// MDBReader is a cashless reader at an MDB bus of its own, at a tty: we are its master, or an adapter is for
// us. second: it is set up as the second cashless device. It is not the bus of a vending machine.
func MDBReader(port mdb.Port, path string, c money.Currency, second bool) func(Wiring) (Terminal, error) {
	return func(w Wiring) (Terminal, error) {
		return mdb.NewReader(mdb.ReaderConfig{Config: mdb.Config{Path: path, Port: port, Clock: w.Clock}, Currency: c, Second: second}, w.Out)
	}
}

// dayRetry is until the end of a terminal's day is asked for again, where it did not come.
const dayRetry = 15 * time.Minute

// TerminalStatus is a lane's terminal.
type TerminalStatus struct {
	ID   string `json:"id,omitempty"`
	Here bool   `json:"here"`
	Due  bool   `json:"day_end_due,omitempty"`
	Owes string `json:"owes,omitempty"` // what it has to do yet: answer, capture, cancel
	// Closed is when its day ended last, in this run of the agent.
	Closed time.Time `json:"day_ended_at,omitzero"`
}

func (l *lane) terminalStatus(st session.State) *TerminalStatus {
	if l.terminal == nil {
		return nil
	}
	id, here, due, owes := st.Terminal()
	return &TerminalStatus{ID: id, Here: here, Due: due, Owes: owes, Closed: l.dayEnded}
}

// atTerminal takes an event of a terminal in.
func (s *shell) atTerminal(l *lane, ev hardware.Event) error {
	tell := func(ev session.Event) error { return s.handle(Lane{l.id, ev}) }
	cardOf := func(c hardware.TerminalCard) session.TerminalCard {
		return session.TerminalCard{Brand: c.Brand, Last4: c.Last4, AID: c.AID}
	}
	switch ev := ev.(type) {
	case hardware.TerminalReady:
		return tell(session.TerminalReady{Terminal: ev.Terminal, Last: ev.Last.Ref, Due: ev.Due})
	case hardware.TerminalStatus:
		s.log.Debug("terminal", "lane", int(l.id), "payment", ev.Payment.String(), "says", ev.Code, "text", ev.Text)
		s.agent.says[l.id] = ev.Text // PA00P015 3.7: at a terminal without a display of its own, as it stands
		defer delete(s.agent.says, l.id)
		return tell(session.TerminalStatus{Payment: ev.Payment, Code: ev.Code})
	case hardware.TerminalAnswered:
		return tell(session.TerminalAnswered{
			Payment: ev.Payment, Result: ev.Result, Reason: ev.Reason, Approved: ev.Approved, Ref: ev.Ref,
			Card: cardOf(ev.Card), Receipt: ev.Receipt,
		})
	case hardware.TerminalDone:
		return tell(session.TerminalDone{Payment: ev.Payment, Op: ev.Op, End: ev.End, Reason: ev.Reason, Ref: ev.Ref})
	case hardware.TerminalLast:
		return tell(session.TerminalLast{
			Payment: ev.Payment, Known: ev.Known, Never: ev.Never, Ref: ev.Found.Ref, Approved: ev.Found.Result == protocol.TerminalApproved,
			Amount: ev.Found.Amount, Original: ev.Found.Original, Card: cardOf(ev.Found.Card), Hold: holdOf(ev.Hold),
		})
	case hardware.TerminalClosed:
		b := protocol.TerminalClosed{Reason: ev.Reason, Trace: ev.Trace, Total: ev.Total}
		for _, t := range ev.Of {
			b.Of = append(b.Of, protocol.TerminalTotal{Brand: t.Brand, Count: uint32(max(t.Count, 0)), Sum: t.Sum}) //nolint:gosec // of one byte
		}
		if ev.Reason == "" {
			l.dayAt, l.dayEnded = s.mono()+l.dayEvery, time.Now()
			s.log.Info("the terminal's day has ended", "lane", int(l.id), "total", ev.Total.String())
		} else {
			s.log.Warn("the terminal's day did not end", "lane", int(l.id), "reason", ev.Reason, "check", "the terminal's display; it is tried again")
		}
		return tell(session.TerminalClosed{Day: b})
	}
	return nil
}

func holdOf(h hardware.HoldState) session.HoldState {
	switch h {
	case hardware.HoldOpen:
		return session.HoldOpen
	case hardware.HoldEnded:
		return session.HoldEnded
	case hardware.HoldNotSaid:
	}
	return session.HoldNotSaid
}

// terminalEffect asks a lane's terminal. What it does not take is told as its driver would.
func (s *shell) terminalEffect(l *lane, e session.Effect) []Input {
	t := l.terminal
	err := hardware.ErrPortGone
	back := func(ev session.Event) []Input {
		if err == nil {
			return nil
		}
		s.log.Warn("command not taken by the terminal", "lane", int(l.id), "error", err)
		return []Input{Lane{l.id, ev}}
	}
	switch e := e.(type) {
	case session.TerminalAuthorize:
		if t != nil {
			err = t.Authorize(e.Payment, e.Amount)
		}
		return back(session.TerminalAnswered{
			Payment: e.Payment, Result: protocol.TerminalUnsent, Reason: "terminal_away", Approved: money.New(0, e.Amount.Currency),
		})
	case session.TerminalAbort:
		if t != nil {
			_ = t.Abort(e.Payment) // its answer comes whether or not
		}
	case session.TerminalCapture:
		if t != nil {
			err = t.Capture(e.Payment, e.Ref, e.Approved, e.Amount)
		}
		return back(session.TerminalDone{Payment: e.Payment, Op: protocol.TerminalCapture, End: protocol.TerminalNotSent, Reason: "terminal_away"})
	case session.TerminalCancel:
		if t != nil {
			err = t.Cancel(e.Payment, e.Ref, e.Approved)
		}
		return back(session.TerminalDone{Payment: e.Payment, Op: protocol.TerminalCancel, End: protocol.TerminalNotSent, Reason: "terminal_away"})
	case session.TerminalAsk:
		if t != nil {
			err = t.Last(e.Payment, e.Ref)
		}
		return back(session.TerminalLast{Payment: e.Payment})
	case session.TerminalClose:
		if t != nil {
			err = t.Close()
		}
		return back(session.TerminalClosed{Day: protocol.TerminalClosed{Reason: "terminal_away", Total: money.New(0, s.cfg.Policy.Currency)}})
	}
	return nil
}

// days asks for the end of the terminals' days that are due; while somebody buys they wait.
func (s *shell) days(now time.Duration) (ins []Input) {
	for _, l := range s.lanes {
		if l.terminal == nil || l.dayEvery < 0 || now < l.dayAt {
			continue
		}
		if st, ok := s.device.LaneState(l.id); ok && !st.Idle() {
			l.dayAt = now + auditRetry
			continue
		}
		l.dayAt = now + dayRetry
		ins = append(ins, Lane{l.id, session.CloseDay{}})
	}
	return ins
}
