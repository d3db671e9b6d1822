package agent

import (
	"errors"
	"time"

	"coinop/agent/session"
	"coinop/agent/uplink"
	"coinop/hardware"
)

// lookFor is how long a reader may look for a card: as long as any can be told to. The session's own
// timer ends the wait.
const lookFor = 255 * time.Second

// carryOut does what the Device wants, in order. What comes of it at once (an approval that a driver
// did not take) is returned, to be handled next.
func (s *shell) carryOut(all []Do) (back []Input) {
	for _, do := range all {
		switch do := do.(type) {
		case Effect:
			back = append(back, s.effect(s.lanes[do.Lane], do.Effect)...)
		case Publish:
			s.publish(do)
		case WakeLink:
			s.wake = s.mono() + max(do.After, time.Millisecond)
		case Reconnect:
			if s.conn != nil {
				s.conn.end(errRenew)
			}
		case Way:
			s.tellWay(do.Way)
		case Heard:
			s.pinged(do)
		case Stopped:
			if !s.stopped {
				s.stopped = true
				s.log.Error("the cloud has stopped this device: it sells nothing", "code", do.Code,
					"check", "call the operator; a copied disk, an old backup or a revoked certificate does this")
			}
		}
	}
	return back
}

func (s *shell) tellWay(w uplink.Way) {
	if w == s.way {
		return
	}
	s.way = w
	switch w {
	case uplink.WayUp:
		s.log.Info("way to the bank", "way", w.String())
	case uplink.WayAcquirerDown:
		s.log.Warn("way to the bank", "way", w.String(), "effect", "no cards of a bank are taken until it is up")
	case uplink.WayDown, uplink.WayCloudDown:
		s.log.Warn("way to the bank", "way", w.String(), "effect", "no cards are taken until it is up")
	}
}

// effect does one thing at a lane.
func (s *shell) effect(l *lane, e session.Effect) []Input {
	switch e := e.(type) {
	case session.Show:
		if e.Screen == session.ScreenIdle {
			e.Screen, e.Reason = s.idleScreen(l)
		}
		s.about(l, e)
		s.show(l.id, e.Screen, e.Amount, e.Reason)
		switch e.Screen {
		case session.ScreenIdle:
			s.indicate(l, hardware.SignalIdle)
		case session.ScreenOutOfService:
			s.indicate(l, hardware.SignalFault)
		default:
		}
	case session.ArmReader:
		s.want(l, e.Amount)
	case session.DisarmReader:
		s.disarm(l)
	case session.CardSignal:
		how := hardware.OutcomeDeclined
		if e.OK {
			how = hardware.OutcomeApproved
		}
		for _, r := range l.payers() {
			s.reader(l, r, "signal", r.Finish(how))
		}
		if !e.OK {
			s.indicate(l, hardware.SignalNo)
		}
	case session.StartTimer:
		s.timers[timerKey{l.id, e.Name}] = deadline{e.ID, s.mono() + e.After}
	case session.StopTimer:
		if k := (timerKey{l.id, e.Name}); s.timers[k].id == e.ID {
			delete(s.timers, k)
		}
	case session.Vend:
		s.indicate(l, hardware.SignalOK) // the buyer need not wait for the machine to hear yes
		// A driver that does not take an approval has not put it on the wire and never will.
		if err := l.vending.Approve(e.ID, e.Bus, e.Outlet, e.Amount, e.By); err != nil {
			s.log.Warn("approval not taken", "lane", int(l.id), "vend", e.ID.String(), "error", err)
			return []Input{Lane{l.id, session.Approval{Vend: e.ID, How: session.ApprovalWithdrawn}}}
		}
	case session.AcceptCash:
		l.accepts = e.Most
		s.accept(l)
	case session.TakeBill:
		if l.cash != nil {
			s.cashed(l, "bill", l.cash.Bill(e.Take))
		}
	case session.PayChange:
		return s.pay(l, e)
	case session.TerminalAuthorize, session.TerminalAbort, session.TerminalCapture, session.TerminalCancel, session.TerminalAsk, session.TerminalClose:
		return s.terminalEffect(l, e)
	case session.DenyVend:
		s.vending(l, "deny", l.vending.Deny(e.Bus))
	case session.BeginSession:
		if err := l.vending.Begin(e.Funds); err != nil { // nobody is in a session: its end is told as the driver would
			s.log.Warn("session not begun", "lane", int(l.id), "error", err)
			return []Input{Lane{l.id, session.SessionComplete{}}}
		}
	case session.EndSession:
		s.vending(l, "end", l.vending.End())
	case session.Resume:
		s.vending(l, "resume", l.vending.Resume(e.Vend))
	case session.AskEvidence: // no device here knows more than the bus: the session's own wait ends it
	case session.Receipt:
		s.receipt(l, e.Sale)
	case session.StopOutlet:
		s.log.Warn("outlet out of service", "lane", int(l.id), "outlet", uint16(e.Outlet), "reason", e.Reason)
	case session.Authorize, session.SendOutcomeCopy: // the Device keeps these to itself
	}
	return nil
}

// vending logs a command that was not taken. A port that is gone is no news: PortGone has said so,
// and the vending side ends an open request by itself.
func (s *shell) vending(l *lane, what string, err error) {
	if err != nil && !errors.Is(err, hardware.ErrPortGone) {
		s.log.Warn("command not taken by the vending side", "lane", int(l.id), "command", what, "error", err)
	}
}
