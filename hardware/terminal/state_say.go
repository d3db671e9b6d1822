package terminal

import (
	"encoding/hex"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// begin sends a job's command.
func (s *State) begin(o *hardware.Output, now time.Duration, j job) {
	a := s.compose(&j)
	s.job, s.phase, s.writing = j, sent, true
	s.until, s.end, s.patient = now+answerTime, now+longest, s.set.finish
	o.Write(a.bytes())
}

func (s *State) sum(tag byte, a money.Amount) []byte { return append([]byte{tag}, bcd(a.Minor, 6)...) }

func (s *State) money() []byte { return []byte{0x49, s.set.number[0], s.set.number[1]} }

// compose is a job's next command.
func (s *State) compose(j *job) apdu {
	pw := s.set.password[:]
	var b []byte
	switch j.do {
	case toRegister:
		j.command = registration
		b = append(b, pw...)
		b = append(b, byte(configByte))
		if s.set.lines {
			b[3] = linesByte
		}
		b = append(b, s.set.number[:]...)
		b = append(b, 0x03, 0x01)
		if s.set.lines { // we take text blocks
			b = append(b, 0x06, 0x06, 0x26, 0x04, 0x0A, 0x02, 0x06, 0xD3)
		} else {
			b = append(b, 0x06, 0x00)
		}
	case toAsk:
		j.command = statusEnquiry
		b = append(append(b, pw...), 0x03, 0x02)
	case toMend: // the command is set
		if j.command == initialisation {
			b = append(b, pw...)
		}
	case toAuthorize:
		j.command = purchase
		if s.set.hold {
			j.command = reservation
		}
		b = append(s.sum(0x04, j.amount), s.money()...)
		b = append(b, 0x19, 0x40)
		b = append(b, reference(j.payment)...)
	case toCapture:
		j.command = bookTotal
		b = append(receipt(j.ref), s.sum(0x04, j.amount)...)
		b = append(append(b, s.money()...), 0x19, 0x40)
		b = append(b, trail(j.ref)...)
	case toCancel:
		if j.command = reversal; s.set.hold {
			j.command = release
			b = append(append(receipt(j.ref), s.money()...), 0x19, 0x40)
			break
		}
		b = append(append(b, pw...), receipt(j.ref)...)
		b = append(append(b, s.sum(0x04, j.approved)...), s.money()...)
	case toRefund:
		j.command = refunding
		b = append(append(b, pw...), s.sum(0x04, j.amount)...)
		b = append(b, s.money()...)
	case toPeek, toLast, toClose:
		b = s.composeAsk(j)
	}
	return apdu{j.command[0], j.command[1], b}
}

// composeAsk is the next command of a job of more than one: first the holds, then what it is about.
func (s *State) composeAsk(j *job) []byte {
	pw := s.set.password[:]
	switch {
	case j.do != toPeek && s.set.hold && j.command == [2]byte{}, j.do == toClose && j.command == release:
		j.command = partial
		return []byte{0x87, 0xFF, 0xFF}
	case j.do == toClose && j.command == partial && j.ref.Receipt != "":
		j.command = release
		return append(append(receipt(j.ref), s.money()...), 0x19, 0x40)
	case j.do == toClose:
		j.command = endOfDay
		return append([]byte(nil), pw...)
	}
	j.command = repeatReceipt
	return append(append([]byte(nil), pw...), 0x03, 0x03)
}

// receipt is bitmap 87.
func receipt(r protocol.TerminalRef) []byte {
	return append([]byte{0x87}, digits(r.Receipt, 2)...)
}

// trail is what must be sent for the booking of a reservation (PA00P015 2.13), as far as it is known.
func trail(r protocol.TerminalRef) (b []byte) {
	if len(r.Trace) == 6 {
		b = append(append(b, 0x0B), digits(r.Trace, 3)...)
	} else if r.Trace != "" {
		long := digits(r.Trace, len(r.Trace)/2)
		b = append(b, 0x0B, 0, 0, 0, 0x06, byte(3+len(long)), 0x1F, 0x2B, byte(len(long)))
		b = append(b, long...)
	}
	if r.AuthID != "" {
		auth := make([]byte, 8)
		copy(auth, r.AuthID)
		b = append(append(b, 0x3B), auth...)
	}
	return b
}

// digits is BCD of a number that a terminal gave us as such.
func digits(s string, size int) []byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != size {
		return make([]byte, size)
	}
	return b
}

// reference carries our payment id to the terminal's host (tag E9: two letters, a text): the last
// twelve digits of it, which are random.
func reference(p protocol.PaymentID) []byte {
	text := strings.ToUpper(hex.EncodeToString(p[10:]))
	e9 := append([]byte{0x1F, 0x62, 2, 'C', 'P', 0x1F, 0x63, byte(len(text))}, text...)
	return append([]byte{0x06, byte(2 + len(e9)), 0xE9, byte(len(e9))}, e9...)
}
