package mdb

import (
	"fmt"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// word is one of the reader's.
func (s *ReaderState) word(o *hardware.Output, now time.Duration, w Word) {
	data, done := s.hear(o, now, w)
	if !done {
		return
	}
	sent := s.sent
	s.sent, s.heard, s.next = nil, now, now+pollEach
	if len(sent) > 1 || s.step < readLive {
		s.next = now + setupGap // what is being set up goes on at once
	}
	if s.step == readHear || s.step == readLeft || s.step == readJust || s.step == readLive {
		s.next = max(s.next, now+pollEach/2)
	}
	s.said(o, now, sent, data)
}

// said is the answer to sent; a command's may be ACK alone, and anything may come with it or at a POLL.
func (s *ReaderState) said(o *hardware.Output, now time.Duration, sent, data []byte) {
	sub := byte(0xFF)
	if len(sent) > 1 {
		sub = sent[1]
	}
	cmd := Command(sent[0]&7|0x10)<<8 | Command(sub)
	switch cmd {
	case Reset:
		s.anew(o)
		s.step, s.left = readJust, now+justMost
		return
	case SetupConfig:
		s.setUp(o, data)
	case SetupPrices:
		switch s.step {
		case readPrices:
			s.step = readID
		case readLong:
			s.up(o)
		}
	case RequestID:
		s.setUp(o, data)
	case EnableOptions:
		if s.step == readOptions {
			if s.format.Expanded = s.offered&(opt32Bit|optCurrencies) != 0; s.format.Expanded {
				s.step = readLong
				return
			}
			s.up(o)
		}
	case ReaderEnable:
		s.enabled = true
	case ReaderDisable:
		s.enabled, s.stale = false, false
	case ReaderCancel, VendCancel: // its answer comes
		if s.pay != nil {
			s.pay.canceled = tries
		}
	case VendSuccess:
		if s.pay != nil && s.pay.stage == vendSuccess {
			s.pay.stage = vendTaken
		}
	case VendFailure:
		if s.pay != nil && s.pay.stage == vendFailure {
			s.pay.stage, s.pay.by = vendRefund, now+s.most
		}
	case Poll:
		if len(data) == 0 {
			s.quiet(o, now)
		}
	}
	if p := s.pay; cmd == Poll && p != nil && p.stage == vendAsk && (len(data) == 0 || data[0] != 0x03) {
		p.polled = true
	}
	switch {
	case len(data) == 0:
	case cmd == Poll && (data[0] == 0x01 || data[0] == 0x09):
		s.setUp(o, data)
	case data[0] != 0x01 && data[0] != 0x09:
		s.messages(o, now, data)
	}
}

// quiet is a POLL that was answered by ACK alone.
func (s *ReaderState) quiet(o *hardware.Output, now time.Duration) {
	if s.step == readHear {
		s.step, s.left = readLeft, now
		if !s.began {
			s.left += leftMost
		}
		o.Emit(hardware.TerminalReady{Terminal: s.id})
		return
	}
	if s.step == readJust && now >= s.left { // it never said so
		s.step = readReset
	}
	if s.pay == nil {
		return
	}
	switch s.pay.stage {
	case vendTaken, vendRefund:
		s.done(o, protocol.TerminalOK, "")
	default:
	}
}

// setUp is the answer to SETUP or to the request of an id: at once, or ACK and then at a POLL.
func (s *ReaderState) setUp(o *hardware.Output, data []byte) {
	step := s.step
	switch {
	case len(data) == 0:
		s.later = 20
	case data[0] == 0x01:
		s.configured(data)
	case data[0] == 0x09:
		s.identified(o, data)
	}
	if s.step != step {
		s.later = 0
	}
}

// configured is the reader's configuration (7.4.2): level, country, scale, decimals, response time, options.
func (s *ReaderState) configured(data []byte) {
	if len(data) != 8 || data[0] != 0x01 || s.step != readConfig {
		return
	}
	s.level = min(max(data[1], 1), 3)
	s.format = Format{Level: s.level}
	s.scale = Scale{Currency: s.currency, Factor: max(data[4], 1), Decimals: data[5]}
	c := isoBCD(s.currency)
	s.foreign = data[2]>>4 == 1 && (data[2] != c[0] || data[3] != c[1])
	s.most = max(answerMost, time.Duration(data[6])*time.Second)
	s.step = readPrices
}

// identified is PERIPHERAL ID: maker, serial, model, version, and at level 3 what it can do. Only what we
// know is enabled.
func (s *ReaderState) identified(o *hardware.Output, data []byte) {
	if s.step != readID || len(data) < 30 || data[0] != 0x09 {
		return
	}
	s.id = strings.Map(func(r rune) rune {
		if r > 0x20 && r < 0x7F {
			return r
		}
		return -1
	}, string(data[1:16]))
	s.offered = 0
	if s.level >= 3 && len(data) == 34 {
		s.offered = number(data[30:34]) & (opt32Bit | optAlwaysIdle)
	}
	if s.step = readOptions; s.offered == 0 {
		s.up(o)
	}
}

// up is a reader that is ready.
func (s *ReaderState) up(o *hardware.Output) {
	s.step = readLive
	err := s.scale.Check()
	if err == nil && s.foreign {
		err = fmt.Errorf("the reader counts in another currency than %s: its configuration has to be changed", s.currency)
	}
	if err != nil {
		o.Emit(hardware.Health{Device: s.device, State: hardware.Fault, Code: hardware.CodeNotConfigure, Detail: err.Error()})
		return
	}
	o.Emit(hardware.Health{Device: s.device, State: hardware.Ready, Code: hardware.CodeReady})
	o.Emit(hardware.TerminalReady{Terminal: s.id})
}

// messages are what a reader has to say (7.4.4).
func (s *ReaderState) messages(o *hardware.Output, now time.Duration, data []byte) {
	if s.step == readHear || s.step == readLeft { // how it was set up is not known: the first alone
		s.message(o, now, data)
		if s.step == readHear && s.open {
			s.quiet(o, now)
		}
		return
	}
	f := s.format
	if data[0] == 0x02 { // no display was offered, and its length is what came
		f.Display = len(data) - 2
	}
	parts, err := Split(data, f)
	if err != nil { // of a later version, or cut short
		return
	}
	for _, m := range parts {
		s.message(o, now, m)
	}
}

func (s *ReaderState) message(o *hardware.Output, now time.Duration, m []byte) {
	p := s.pay
	switch m[0] {
	case 0x00: // JUST RESET
		s.anew(o)
	case 0x02:
		if p != nil && p.stage <= vendWait && len(m) > 2 {
			o.Emit(hardware.TerminalStatus{Payment: p.id, Code: "display", Text: shown(m[2:])})
		}
	case 0x03:
		s.begun(o, m)
	case 0x04: // the card was taken away: a vend that runs goes on
		if p != nil && p.stage == vendAsk {
			s.answer(o, protocol.TerminalAborted, ReaderCanceled)
		}
		s.session = true
	case 0x05:
		s.approved(o, m)
	case 0x06:
		if p != nil && p.stage == vendWait {
			if p.cancel {
				s.answer(o, protocol.TerminalAborted, ReaderCanceled)
			} else {
				s.answer(o, protocol.TerminalDeclined, ReaderDeclined)
			}
		}
	case 0x07:
		if s.session, s.closing = false, 0; p != nil && p.stage == vendAsk {
			s.answer(o, protocol.TerminalAborted, ReaderCanceled)
		} else if p != nil && p.stage == vendWait { // no answer, and the session is over
			s.answer(o, protocol.TerminalUnknown, ReaderLost)
			s.reset = true
		}
	case 0x08:
		if p != nil && p.stage == vendCard && p.cancel {
			s.stale = true
			s.answer(o, protocol.TerminalAborted, ReaderCanceled)
		}
	case 0x0A:
		if len(m) > 1 {
			s.malfunction(o, m[1])
		}
	case 0x0B:
		state := byte(0)
		if len(m) > 1 {
			state = m[1]
		}
		s.outOfSequence(o, state)
	}
}

// shown is a reader's text, without what would move a caret.
func shown(b []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7E {
			return ' '
		}
		return r
	}, string(b)))
}

// begun is BEGIN SESSION: funds, and what else of the card is not ours to know. Funds of FFFF are not known.
func (s *ReaderState) begun(o *hardware.Output, m []byte) {
	s.session = true
	p := s.pay
	if p == nil || p.stage != vendCard {
		return // nobody ordered: it is completed
	}
	funds, none := uint32(0xFFFF), uint32(0xFFFF)
	if s.format.Expanded && len(m) == 17 {
		funds, none = number(m[1:5]), 0xFFFFFFFF
	} else if len(m) >= 3 {
		funds = number(m[1:3])
	}
	switch {
	case p.cancel:
		s.answer(o, protocol.TerminalAborted, ReaderCanceled)
	case funds != none && funds < p.units:
		s.answer(o, protocol.TerminalDeclined, ReaderNoFunds)
	default:
		p.stage = vendAsk
		o.Emit(hardware.TerminalStatus{Payment: p.id, Code: "asking_host"})
	}
}

// approved is VEND APPROVED (7.4.7). One said again, for our ACK was not heard, changes nothing.
func (s *ReaderState) approved(o *hardware.Output, m []byte) {
	p := s.pay
	if p == nil {
		s.stray = true
		s.reset = s.reset || s.step == readLive
		return
	}
	if p.stage != vendWait {
		return
	}
	p.stage, p.by, p.cancel = vendHeld, 0, false
	a, err := s.scale.Amount(number(m[1:]))
	if err != nil {
		a = money.New(0, s.currency) // another amount than asked for: it is taken back
	}
	o.Emit(hardware.TerminalAnswered{
		Payment: p.id, Result: protocol.TerminalApproved, Approved: a,
		Ref: protocol.TerminalRef{Terminal: s.id, Trace: p.id.String()},
	})
}

// malfunction is 0A (7.4.4): what it cannot give back is lost; from 8 on it does not work.
func (s *ReaderState) malfunction(o *hardware.Output, code byte) {
	if code>>4 == 0x0C && s.pay != nil && (s.pay.stage == vendRefund || s.pay.stage == vendFailure) {
		s.done(o, protocol.TerminalRefused, ReaderRefundFail)
		return
	}
	if s.trouble == code {
		return
	}
	s.trouble = code
	h := hardware.Health{Device: s.device, State: hardware.Degraded, Code: "reader.malfunction", Detail: fmt.Sprintf("malfunction %02X", code)}
	if code>>4 >= 8 && code>>4 != 0x0C {
		h.State = hardware.Fault
	}
	o.Emit(h)
}

// outOfSequence is 0B: the command before was not executed, and the reader is in a state (7.3): 1 inactive,
// 2 disabled, 3 enabled, 4 session idle, 5 vend; 0 where it does not say. The standard has it reset then.
func (s *ReaderState) outOfSequence(o *hardware.Output, state byte) {
	p, idle := s.pay, state >= 2 && state <= 4
	if p == nil {
		if s.closing > 0 && state == 3 { // the session was over already
			s.session, s.closing = false, 0
			return
		}
		s.reset = true
		return
	}
	switch p.stage {
	case vendCard, vendAsk:
		s.answer(o, protocol.TerminalUnsent, ReaderSequence)
	case vendWait:
		switch {
		case idle: // no vend runs, and none was approved: it never began
			s.answer(o, protocol.TerminalUnsent, ReaderNotTaken)
		case p.canceled > 0 && state == 5:
			return // it cannot be taken back any more: its answer comes
		default:
			s.answer(o, protocol.TerminalUnknown, ReaderLost)
		}
	case vendHeld:
		return // the answer to a VEND CANCEL that crossed the approval
	case vendSuccess, vendTaken, vendFailure, vendRefund:
		switch {
		case idle && p.sends > 1: // the first was heard
			s.done(o, protocol.TerminalOK, "")
		case state == 1: // it has begun anew, and we did not hear of it
			s.lose(o, ReaderReset)
		case idle && p.sends == 1:
			s.done(o, protocol.TerminalRefused, ReaderSequence)
		default:
			s.done(o, protocol.TerminalLost, ReaderLost)
		}
	}
	s.reset = true
}
