package agent

import (
	"context"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"

	"coinop/agent/session"
	"coinop/hardware"
	"coinop/protocol"
)

// out is where a driver's events go. It may wait, and does not after ctx has ended.
func (s *shell) out(ctx context.Context, l *lane, from part) func(hardware.Event) {
	var last hardware.BusUp // what was sent; one goroutine at a time calls this
	return func(ev hardware.Event) {
		m := heard{l, from, ev}
		if b, ok := ev.(hardware.BusState); ok && b.State == last {
			select {
			case s.inbox <- m:
			default: // it comes again in a second
			}
			return
		}
		select { // first without ctx: a result that still finds room is kept
		case s.inbox <- m:
		default:
			select {
			case s.inbox <- m:
			case <-ctx.Done():
				wipe(ev)
				return
			}
		}
		switch ev := ev.(type) {
		case hardware.BusState:
			last = ev.State
		case hardware.PortGone:
			last = 0
		}
	}
}

func wipe(ev hardware.Event) {
	switch ev := ev.(type) {
	case hardware.CardRead:
		ev.Card.Wipe()
	case hardware.CodeRead:
		ev.Code.Wipe()
	case hardware.DataEntered:
		ev.Data.Wipe()
	}
}

// hear takes a driver's event in: in the session's words, with what only the shell knows.
func (s *shell) hear(h heard) error {
	if h.from == partBoard {
		return s.hearBoard(h.ev)
	}
	l := h.lane
	tell := func(ev session.Event) error { return s.handle(Lane{l.id, ev}) }
	switch ev := h.ev.(type) {
	case hardware.CardRead:
		return s.cardRead(l, l.reader(h.from), ev)
	case hardware.CardFailed:
		return s.cardFailed(l, l.reader(h.from), ev.Reason)
	case hardware.CodeRead:
		return s.scanned(l, ev)
	case hardware.CodeRefused:
		if err := s.refuseCode(l, ev.Reason); err != nil || refusedCodes[ev.Reason] == "" {
			return err
		}
		return s.happened(l, refusedCodes[ev.Reason], "scanner", "")
	case hardware.CardRemoved:
		return tell(session.CardRemoved{})
	case hardware.VendRequest:
		if err := s.touch(); err != nil {
			return err
		}
		if s.saleAt(l.id).IsZero() { // a refusal is about no sale
			delete(s.agent.sale, l.id)
		}
		return s.handle(Asked{l.id, session.VendRequest{
			Bus: ev.Bus, Price: ev.Price, Item: ev.Item, Bad: ev.Bad, Since: max(0, s.mono()-ev.At),
		}})
	case hardware.VendCancel:
		return tell(session.VendCancel{})
	case hardware.Approval:
		return tell(session.Approval{Vend: ev.Vend, How: delivery(ev.How)})
	case hardware.VendSuccess:
		return tell(session.VendSuccess{Vend: ev.Vend, Item: ev.Item, Grade: ev.Grade})
	case hardware.VendFailure:
		err := tell(session.VendFailure{Vend: ev.Vend})
		if r, ok := l.vending.(hardware.Refunder); ok && err == nil { // it is on the disk
			s.vending(l, "refunded", r.Refunded(ev.Vend))
		}
		return err
	case hardware.BusReset:
		return tell(session.BusReset{})
	case hardware.BusState:
		return tell(session.BusState{
			State: busUp(ev.State), SeesAck: l.vending.SeesAck(), HasEvidence: l.vending.HasEvidence(), At: ev.At,
		})
	case hardware.CashIn, hardware.CashOut, hardware.BillHeld, hardware.BillReturned, hardware.Paid, hardware.ReturnLever, hardware.CashLevel:
		return s.cash(l, ev)
	case hardware.TerminalReady, hardware.TerminalStatus, hardware.TerminalAnswered, hardware.TerminalDone, hardware.TerminalLast, hardware.TerminalClosed:
		return s.atTerminal(l, ev)
	case hardware.AuditRead:
		return s.audited(l, ev)
	case hardware.CashSale:
		return s.sold(l, ev)
	case hardware.Door:
		return s.door(ev.Open, l)
	case hardware.SessionComplete:
		return tell(session.SessionComplete{})
	case hardware.PortGone:
		delete(s.loose, loop{l.id, h.from})
		if h.from == partVending {
			return tell(session.PortGone{})
		}
		if h.from == partTerminal {
			return tell(session.TerminalGone{})
		}
		if h.from == partCash {
			return s.cashGone(l)
		}
		if r := l.reader(h.from); r != nil {
			r.looks = false // it is told again when it is back
		}
	case hardware.EvidenceSeen:
		return tell(session.Evidence{Vend: ev.Vend, Result: ev.Result, Grade: ev.Grade, Source: ev.Source})
	case hardware.Printed:
		s.printed(l, ev)
	case hardware.Tamper:
		return s.tamper(h.from, ev, l)
	case hardware.Health:
		s.tellHealth(l, h.from, ev)
		if r := l.reader(h.from); r != nil && ev.State == hardware.Ready && l.armed != nil && !r.looks {
			s.activate(l, r)
		}
		if h.from == partPrinter && (ev.State == hardware.Ready || ev.State == hardware.Degraded) {
			s.printAgain(l)
		}
		if h.from == partScanner && ev.State == hardware.Ready {
			if err := l.scanner.Scan(); err != nil {
				s.log.Warn("command not taken by the scanner", "lane", int(l.id), "command", "scan", "error", err)
			}
		}
		if h.from == partCash && ev.State == hardware.Ready {
			s.accept(l)
		}
	}
	return nil
}

func (s *shell) tellHealth(l *lane, from part, h hardware.Health) {
	l.devices = sees(l.devices, h)
	if l.health == nil {
		l.health = map[part]hardware.Health{}
	}
	l.health[from] = h
	level, attrs := slog.LevelWarn, []any{"lane", int(l.id), "part", h.Device, "state", h.State.String(), "code", h.Code}
	if h.State == hardware.Ready {
		level = slog.LevelInfo
	}
	if h.Detail != "" {
		attrs = append(attrs, "detail", h.Detail)
	}
	switch h.Code {
	case hardware.CodePortAbsent, hardware.CodePortLost:
		check := "is the cable in, and is the path right? ls -l /dev/serial/by-id shows what is there"
		if strings.HasPrefix(h.Device, "terminal") {
			check = "is the terminal on, and in the network or at its bus, and is its address or port right? One in the network takes one connection at a time"
		}
		attrs = append(attrs, "check", check)
	case hardware.CodeDriverPanic:
		level = slog.LevelError
	}
	s.log.Log(context.Background(), level, "hardware", attrs...)
}

// card passes a card on to be sealed, and wipes it.
func (s *shell) card(l *lane, c hardware.Card) error {
	defer c.Wipe()
	if c.AC == hardware.AAC {
		return s.handle(Lane{l.id, session.CardAAC{}})
	}
	local := time.Now()
	_, east := local.Zone()
	var brand string
	loop := sealedLoop(c.Loop)
	if loop != nil {
		brand = protocol.ByClosedLoop.String()
	}
	if last4 := c.Last4(); last4 != "" {
		brand = strings.ToLower(c.Brand().String())
	}
	return s.handle(Tapped{l.id, TappedCard{
		Sealed: protocol.SealedCard{
			Reader: c.Reader, Entry: c.Entry, KSN: c.KSN, Scheme: c.Scheme, Cipher: c.Cipher,
			Track2: []byte(c.Track2.Reveal()), PSN: c.PSN, ICC: c.ICC.Reveal(), Loop: loop,
		},
		Tap: protocol.Tap{
			Entry: c.Entry, CVM: c.CVM, Capability: c.Capability, Reader: c.Reader, Keys: keys(c.KSN), Brand: brand, Last4: c.Last4(),
			LocalTime: local.Format("20060102150405"), UTCOffset: int16(east / 60), //nolint:gosec // within 15 hours
		},
		Ref: c.Token,
		TC:  c.AC == hardware.TC,
	}})
}

// sealedLoop is what a closed-loop card said of itself, as it is sealed; nil: it is none. A contact card whose
// reader knows only its ATR says nothing: that is its maker's.
func sealedLoop(c hardware.LoopCard) *protocol.SealedLoop {
	if c.IsZero() {
		return nil
	}
	return &protocol.SealedLoop{ID: c.ID, Counter: c.Counter, Verified: c.Verified, UID: append([]byte(nil), c.UID...), Stripe: c.Ref}
}

// keys names a reader's key: its key serial number without the counter, which is the last 21 bits of
// 10 bytes (ANSI X9.24-1) or the last 32 of 12 (X9.24-3).
func keys(ksn []byte) []string {
	k := append([]byte(nil), ksn...)
	switch len(k) {
	case 10:
		k[7], k[8], k[9] = k[7]&0xE0, 0, 0
	case 12:
		k = k[:8]
	default:
		return nil
	}
	return []string{hex.EncodeToString(k)}
}

func delivery(d hardware.Delivery) session.Delivery {
	switch d {
	case hardware.ApprovalDelivered:
		return session.ApprovalDelivered
	case hardware.ApprovalWithdrawn:
		return session.ApprovalWithdrawn
	case hardware.ApprovalMaybe:
	}
	return session.ApprovalMaybe // what is not known may have been on the wire
}

func busUp(b hardware.BusUp) session.BusUp {
	switch b {
	case hardware.BusStateUp:
		return session.BusStateUp
	case hardware.BusStateEnabled:
		return session.BusStateEnabled
	case hardware.BusStateDisabled:
		return session.BusStateDisabled
	case hardware.BusStateDown:
	}
	return session.BusStateDown
}
