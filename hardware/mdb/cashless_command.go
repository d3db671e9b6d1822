package mdb

import (
	"bytes"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// command carries out a whole block of the controller's. Everything is answered at once: by data, or by
// ACK and a message at a later POLL.
func (s *CashlessState) command(o *hardware.Output, now time.Duration, w []Word) {
	data, err := ReadController(w)
	if err != nil {
		if !s.adapter {
			o.Write(Mark([]Word{NAK | Mode}))
		}
		s.noise(o, 1)
		return
	}
	s.heard = now
	a, err := ParseCommand(data, s.expanded())
	if err != nil { // of a later version, or a vendor's
		s.outOfSequence(o)
		return
	}
	s.goesOn(o, data, a.Command)
	switch a.Command {
	case Poll:
		if !s.adapter {
			s.poll(o, now)
		}
	case Reset:
		s.send(o, nil)
		s.busReset(o, now, !s.adapter)
	case SetupConfig:
		if s.adapter && (s.config || s.phase != busInactive) { // its RESET the adapter kept to itself
			s.busReset(o, now, false)
		}
		s.setup(o, a)
	case SetupPrices:
		s.send(o, nil)
		s.prices = true
		if len(a.Data) == 10 {
			s.counts(o, foreign(a.Data[8:], s.scale.Currency))
		}
		if s.phase == busInactive && s.config {
			s.phase = busDisabled
		}
	case RequestID:
		s.send(o, s.identity())
	case EnableOptions:
		s.send(o, nil)
		// What we do not have is never enabled, whatever is asked: FTL, negative vend, and what a later version
		// may add.
		s.options = number(a.Data) & s.offered()
	case WriteTime:
		s.send(o, nil)
	case ReaderEnable:
		s.send(o, nil)
		if s.off = false; s.phase == busDisabled || s.phase == busUnknown {
			s.phase = busEnabled
		}
	case ReaderDisable:
		s.send(o, nil)
		switch s.phase {
		case busEnabled, busUnknown:
			s.phase = busDisabled
		case busIdle, busVend, busRevalue:
			s.off = true // a transaction that runs goes on (7.4, READER)
		}
	case ReaderCancel:
		if s.phase != busEnabled {
			s.outOfSequence(o)
			return
		}
		s.dropBegin()
		s.send(o, []byte{0x08})
	case VendRequest:
		s.vendRequest(o, now, data, a)
	case VendCancel:
		s.vendCancel(o)
	case VendSuccess, VendFailure:
		s.vendEnd(o, now, a)
	case SessionComplete:
		s.sessionComplete(o)
	case CashSale:
		s.send(o, nil)
		s.cashSale(o, a)
	case NegativeVend:
		s.negativeVend(o)
	case Revalue:
		s.revalue(o, now, data, a)
	case RevalueLimit:
		s.revalueLimit(o)
	case DataEntry:
		s.send(o, nil)
		s.entered(o, a.Data)
	case Diagnostics:
		s.send(o, nil)
		s.drop(0xFF)
		s.say(s.diagnostics())
	}
	s.life(o, now)
}

// poll says what waits, or ACK; nothing while the buyer's money is still on its way back to him (7.4,
// VEND FAILURE). Silence may not last longer than the controller waits: then it is 0A C0, credit lost, for
// whoever has to write it down could not.
func (s *CashlessState) poll(o *hardware.Output, now time.Duration) {
	if !s.refunding.IsZero() {
		if now < s.refundBy {
			s.wantsAck = false
			return
		}
		s.refunding = protocol.VendID{}
		s.say([]byte{0x0A, 0xC0})
	}
	if s.phase == busInactive && s.announce > 0 && now >= s.announce && len(s.queue) == 0 {
		s.announce = 0
		s.say([]byte{0x00}) // 7.4.1: it resets us, and begins anew
	}
	if len(s.queue) == 0 {
		s.send(o, nil)
		return
	}
	s.sayFirst(o)
}

// outOfSequence is acknowledged and not executed; 0B with our state follows (7.3).
func (s *CashlessState) outOfSequence(o *hardware.Output) {
	s.send(o, nil)
	if s.phase == busUnknown {
		return
	}
	for _, a := range s.queue {
		if a.data[0] == 0x0B {
			return
		}
	}
	if s.common < 2 {
		s.say([]byte{0x0B})
		return
	}
	s.say([]byte{0x0B, byte(s.phase)})
}

// setup is 11 00: our configuration, in the lower of both levels' words.
func (s *CashlessState) setup(o *hardware.Output, a Asked) {
	s.common, s.config = max(1, min(a.Data[0], s.level)), true
	s.send(o, s.readerConfig())
	if s.phase == busInactive && s.prices {
		s.phase = busDisabled
	}
}

// readerConfig is READER CONFIG. Options: b3, the controller's cash sales are wanted.
func (s *CashlessState) readerConfig() []byte {
	c := isoBCD(s.scale.Currency)
	return []byte{0x01, s.level, c[0], c[1], max(s.scale.Factor, 1), s.scale.Decimals, s.z7, 0x08}
}

// offered are the options a level 3 controller may enable.
func (s *CashlessState) offered() uint32 {
	if s.common < 3 {
		return 0
	}
	if s.adapter {
		return opt32Bit | optCurrencies | optAlwaysIdle
	}
	return opt32Bit | optCurrencies | optDataEntry | optAlwaysIdle
}

// maker and version are what 09 and FF tell of us: three letters, and BCD.
const (
	maker           = "COI"
	version, detail = 0x01, 0x00
)

// diagnostics is FF: maker, version, our state, and how much on the line made no sense since we started, FF: as
// much or more (7.4, 17 FF: the data is its maker's own, both ways; what came with the command is not looked at).
func (s *CashlessState) diagnostics() []byte {
	return append(append([]byte{0xFF}, maker...), version, detail, byte(s.phase), byte(min(s.garbled, 0xFF))) //nolint:gosec // within it
}

// counts takes in whether the controller's prices are in another currency. A VEND REQUEST names none: where they
// are, it cannot be sold, for the buyer would pay another amount than the one he saw.
func (s *CashlessState) counts(o *hardware.Output, foreign bool) {
	switch {
	case foreign == s.foreign:
	case foreign:
		o.Emit(hardware.Health{
			Device: s.device, State: hardware.Degraded, Code: hardware.CodeNotConfigure,
			Detail: "the machine counts in another currency than " + s.scale.Currency.String() + ": nothing is sold to it",
		})
	default:
		o.Emit(hardware.Health{Device: s.device, State: hardware.Ready, Code: hardware.CodeReady})
	}
	s.foreign = foreign
}

// identity is 09: maker, serial number, model, version, and at level 3 what we offer.
func (s *CashlessState) identity() []byte {
	field := func(text string, n int, pad byte) []byte {
		b := []byte(text)
		if len(b) > n {
			b = b[len(b)-n:]
		}
		for len(b) < n {
			if pad == '0' {
				b = append([]byte{'0'}, b...)
			} else {
				b = append(b, ' ')
			}
		}
		return b
	}
	b := append([]byte{0x09}, maker...)
	b = append(b, field(s.serial, 12, '0')...)
	b = append(b, field("COINOP", 12, ' ')...)
	b = append(b, version, detail)
	if s.common >= 3 {
		f := s.offered()
		b = append(b, byte(f>>24), byte(f>>16), byte(f>>8), byte(f))
	}
	return b
}

// alwaysIdle is what the controller enabled; one that was set up before we came may have.
func (s *CashlessState) alwaysIdle() bool {
	return s.options&optAlwaysIdle != 0 || s.adapter && !s.config
}

// vendRequest is 13 00. The same bytes before an answer of ours was acknowledged are the same request:
// the controller did not hear that we took it.
func (s *CashlessState) vendRequest(o *hardware.Output, now time.Duration, data []byte, a Asked) {
	again := s.phase == busVend && !s.answered && bytes.Equal(data, s.asked)
	switch {
	case again:
		s.send(o, nil)
		if s.req.denied { // the session answers a request once
			return
		}
	case s.phase == busIdle, s.phase == busUnknown, s.phase == busEnabled && s.alwaysIdle() && !s.beginning():
		s.send(o, nil)
		s.open13(data, a)
	case s.phase == busVend: // another one, without a result of the one before: it has none any more
		s.send(o, nil)
		s.lose(o)
		s.drop(0x05, 0x06)
		s.bound = protocol.VendID{}
		s.open13(data, a)
	default:
		s.outOfSequence(o)
		return
	}
	ev := hardware.VendRequest{Bus: s.key, At: now, Item: protocol.Outlet(a.Item)}
	var err error
	if ev.Price, err = s.amount(a.Units); err != nil || a.Units == s.unknown() {
		ev.Price, ev.Bad = money.Amount{}, "price"
	}
	if s.foreign {
		ev.Price, ev.Bad = money.Amount{}, "currency"
	}
	o.Emit(ev)
}

// unknown is the amount that says nothing.
func (s *CashlessState) unknown() uint32 {
	if s.expanded() {
		return 0xFFFFFFFF
	}
	return 0xFFFF
}

func (s *CashlessState) open13(data []byte, a Asked) {
	if s.phase == busEnabled || s.phase == busUnknown {
		s.key.Session, s.key.Request = s.key.Session+1, 0
	}
	s.phase, s.answered = busVend, false
	s.key.Request++
	s.asked = append([]byte(nil), data...)
	s.req = request{outlet: protocol.Outlet(a.Item), open: true}
	s.served, s.orphan = true, none
}

// beginning reports a BEGIN SESSION that waits: then the whole session is not always idle (7.3).
func (s *CashlessState) beginning() bool {
	for _, a := range s.queue {
		if a.data[0] == 0x03 {
			return true
		}
	}
	return false
}

func (s *CashlessState) dropBegin() { s.drop(0x03) }

// drop takes messages out of the queue.
func (s *CashlessState) drop(kinds ...byte) {
	kept := s.queue[:0]
	for _, a := range s.queue {
		if !bytes.Contains(kinds, a.data[:1]) {
			kept = append(kept, a)
		}
	}
	s.queue = kept
}

// vendCancel is 13 01: it is answered with 06, once. An approval that was never on the wire is
// withdrawn; one that was may have been heard.
func (s *CashlessState) vendCancel(o *hardware.Output) {
	if s.phase == busUnknown { // of a request of before we came
		s.phase = busEnabled
		s.say([]byte{0x06})
		return
	}
	if s.phase != busVend || s.answered && !s.req.denied {
		s.outOfSequence(o)
		if s.phase == busVend && !s.bound.IsZero() { // after the approval: it has no result any more
			s.bound = protocol.VendID{}
			o.Emit(hardware.VendCancel{})
		}
		return
	}
	s.send(o, nil)
	denied := s.req.denied
	s.lose(o)
	s.refuse()
	if !denied {
		o.Emit(hardware.VendCancel{})
	}
}

// vendEnd is 13 02 or 13 03. Whoever reports a result has heard the approval, whether we saw it
// acknowledged or not. Said again (our ACK was lost) it finds nothing bound.
func (s *CashlessState) vendEnd(o *hardware.Output, now time.Duration, a Asked) {
	r := delivered
	if a.Command == VendFailure {
		r = failed
	}
	switch {
	case s.phase == busVend:
		s.send(o, nil)
		if !s.end && len(s.queue) > 0 && s.queue[0].vend == s.approval.vend && s.queue[0].sent {
			s.queue = s.queue[1:]
			s.ends(o, s.approval.vend, hardware.ApprovalDelivered)
		}
		if s.bound.IsZero() { // of a request that was not approved
			s.drop(0x05)
			s.lose(o)
		} else if r == failed && !s.adapter { // which answers POLLs all the same
			s.refunding, s.refundBy = s.bound, now+refundTime
		}
		s.result(o, r, protocol.Outlet(a.Item))
		s.leaveVend(o)
	case s.phase == busUnknown:
		s.result(o, r, protocol.Outlet(a.Item))
		s.phase = busEnabled
	case s.phase == busInactive && (!s.served || !s.bound.IsZero()): // we were away, and the bus has not noticed
		s.send(o, nil)
		s.result(o, r, protocol.Outlet(a.Item))
		s.announce = min(s.announce, now) // it has told what there was
	case s.phase == busIdle, s.phase == busEnabled: // the same again; or it took its request back, and had been given 05
		s.send(o, nil)
		if s.adapter {
			s.result(o, r, protocol.Outlet(a.Item))
		}
	default:
		s.outOfSequence(o)
	}
}

// sessionComplete is 13 04: END SESSION follows. Without a result a vend has none any more.
func (s *CashlessState) sessionComplete(o *hardware.Output) {
	switch s.phase {
	case busIdle, busVend, busUnknown:
		s.send(o, nil)
		s.lose(o)
		s.bound = protocol.VendID{}
		s.drop(0x03, 0x04, 0x05, 0x06, 0x07)
		s.entryEnds(o, hardware.EntryOver)
		s.req, s.asked = request{}, nil
		s.phase = busIdle
		s.say([]byte{0x07})
		o.Emit(hardware.SessionComplete{})
	case busEnabled: // always idle, or our 07 was not heard
		s.send(o, nil)
		s.drop(0x07)
		s.say([]byte{0x07})
	default:
		s.outOfSequence(o)
	}
}

// negativeVend is what this device does not do: 06 (7.4).
func (s *CashlessState) negativeVend(o *hardware.Output) {
	if s.phase != busIdle && (s.phase != busEnabled || !s.alwaysIdle()) {
		s.outOfSequence(o)
		return
	}
	s.send(o, nil)
	s.say([]byte{0x06})
}

// cashSale is a sale the controller took cash for; the long form says in which currency.
func (s *CashlessState) cashSale(o *hardware.Output, a Asked) {
	ev := hardware.CashSale{Item: protocol.Outlet(a.Item & 0x0FFF), Kind: hardware.CashPaid}
	switch {
	case a.Item == 0xFFFF:
		ev.Item = protocol.OutletAny
	case a.Item&0x8000 != 0:
		ev.Kind = hardware.CashFree
	case a.Item&0x4000 != 0:
		ev.Kind = hardware.CashTest
	case a.Item&0x2000 != 0:
		ev.Kind = hardware.CashNegative
	case a.Item&0x1000 != 0:
		ev.Kind = hardware.CashToken
	}
	var err error
	other := s.foreign
	if s.expanded() && a.Data[6]>>4 == 1 {
		other = foreign(a.Data[6:], s.scale.Currency)
	}
	if ev.Price, err = s.amount(a.Units); err != nil || a.Units == s.unknown() || other {
		ev.Price = money.Amount{}
	}
	o.Emit(ev)
}
