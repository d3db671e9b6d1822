package virtual

import (
	"fmt"
)

// command carries one out; an error drops the line.
func (s *terminalLine) command(m []byte) error {
	t := s.t
	if f, ok := t.takes(TerminalSilent, TerminalGarbage, TerminalDribbles, TerminalJoins, TerminalTalks); ok {
		switch f {
		case TerminalSilent:
			return nil
		case TerminalGarbage:
			_, _ = s.c.Write([]byte("\xAA\x55HTTP/1.1 400"))
			return nil
		case TerminalDribbles:
			s.dribble = true
		case TerminalJoins:
			s.join = true
		default:
			s.talk = true
		}
	}
	body := m[2:]
	switch [2]byte{m[0], m[1]} {
	case [2]byte{0x06, 0x00}:
		return s.registration(body)
	case [2]byte{0x05, 0x01}:
		return s.enquiry()
	case [2]byte{0x06, 0x93}, [2]byte{0x06, 0x70}:
		if err := s.ok(); err != nil {
			return err
		}
		return s.all(completed)
	case [2]byte{0x06, 0x01}:
		return s.payment("purchase", body)
	case [2]byte{0x06, 0x22}:
		return s.payment("hold", body)
	case [2]byte{0x06, 0x23}:
		return s.holds()
	case [2]byte{0x06, 0x24}:
		return s.undo("booked", body)
	case [2]byte{0x06, 0x25}:
		return s.undo("release", body)
	case [2]byte{0x06, 0x30}:
		return s.undo("reversal", body[min(3, len(body)):])
	case [2]byte{0x06, 0x31}:
		return s.refund(body[min(3, len(body)):])
	case [2]byte{0x06, 0x20}:
		return s.repeat()
	case [2]byte{0x06, 0x50}:
		return s.endDay()
	case [2]byte{0x06, 0xB0}:
		if err := s.ok(); err != nil { // nothing to end
			return err
		}
		return nil
	}
	if m[0] == 0x80 || m[0] == 0x84 {
		return nil
	}
	return s.write(0x84, 0x83)
}

func (s *terminalLine) registration(b []byte) error {
	if _, no := s.t.takes(TerminalWrongPassword); no || len(b) < 6 || b[0] != 0 || b[1] != 0 || b[2] != 0 {
		return s.write(0x84, 0x83)
	}
	if err := s.ok(); err != nil {
		return err
	}
	status := byte(0x10)
	if _, help := s.t.takes(TerminalWantsHelp); help {
		status |= 1
	}
	done := append(append([]byte{0x06, 0x0F, 0x19, status, 0x29}, bcdOf(ofDigits(s.t.cfg.ID), 4)...), 0x49, 0x09, 0x78)
	return s.all(done)
}

func ofDigits(s string) (n int64) {
	for _, c := range s {
		n = n*10 + int64(c-'0')
	}
	return n
}

func (s *terminalLine) enquiry() error {
	t := s.t
	t.mu.Lock()
	status := byte(0)
	if t.due {
		status = 0xF0
	}
	if t.deaf > 0 {
		t.deaf--
		status = 0x9C
	}
	t.seen.Enquired++
	t.tell()
	t.mu.Unlock()
	if err := s.ok(); err != nil {
		return err
	}
	return s.all(append(completed[:2:2], status))
}

// book puts a transaction down. mu is held, or nobody else is there yet.
func (t *Terminal) book(x TerminalTx) TerminalTx {
	if t.last++; t.last > 9999 {
		t.last = 1
	}
	x.Receipt = t.last
	t.seen.Books = append(t.seen.Books, x)
	t.tell()
	return x
}

// told is a transaction as a result; traces are counted with the receipts here.
func (t *Terminal) told(x TerminalTx) []byte {
	out := append([]byte{0x04, 0x0F, 0x27, x.Result, 0x04}, bcdOf(x.Amount, 6)...)
	out = append(append(out, 0x0B), bcdOf(int64(x.Receipt)+100, 3)...)
	out = append(out, 0x0C, 0x22, 0x39, 0x53, 0x0D, 0x10, 0x06, 0x0E, 0x25, 0x12)
	out = append(out, 0x22, 0xF0, 0xF8, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0x47, 0x71, 0x29)
	out = append(out, bcdOf(ofDigits(t.cfg.ID), 4)...)
	out = append(out, []byte{0x3B, '6', '1', '1', '8', '0', '4', 0, 0, 0x49, 0x09, 0x78, 0x87}...)
	out = append(out, bcdOf(int64(x.Receipt), 2)...)
	if x.Kind == "reversal" {
		out = append(append(out, 0x37), bcdOf(int64(x.Of)+100, 3)...)
	}
	return append(out, 0x8A, 0x06, 0x8B, 0xF1, 0xF1, 'M', 'a', 's', 't', 'e', 'r', 'C', 'a', 'r', 'd', 0)
}

// payment is 06 01 and 06 22.
func (s *terminalLine) payment(kind string, body []byte) error {
	t := s.t
	ask, err := readAsk(body)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.seen.Asked++
	due := t.due
	t.tell()
	t.mu.Unlock()
	f, _ := t.takes(TerminalDeclines, TerminalNoCard, TerminalDropsFirst, TerminalDropsMidFrame, TerminalDiesApproved,
		TerminalLosesCompletion, TerminalDropsCompletion, TerminalNoResult, TerminalRepeats, TerminalWrongAmount, TerminalOtherMoney, TerminalContradicts)
	if f == TerminalDropsFirst {
		return errLine
	}
	if err := s.ok(); err != nil {
		return err
	}
	switch {
	case due:
		return s.all(refused(0xF0))
	case ask.money != 978:
		return s.all(refused(0x6F))
	}
	if s.talk {
		if err := s.talks(); err != nil {
			return err
		}
	}
	insert := []byte{0x04, 0xFF, 0x0A}
	if s.talk { // a text, to be shown
		insert = append(insert, 0x06, 0x0B, 0x24, 0x09, 0x07, 0x07, 'B', 'i', 't', 't', 'e', ' ', 0x84)
	}
	if err := s.all(insert); err != nil {
		return err
	}
	if t.cfg.Waits {
		how, err := s.waits()
		if err != nil || how == TerminalSilent {
			return err
		}
		f = how
	}
	switch f {
	case TerminalDeclines:
		return s.all([]byte{0x04, 0x0F, 0x27, 0x05}, refused(0x05))
	case TerminalNoCard:
		return s.all([]byte{0x04, 0x0F, 0x27, 0x6C}, refused(0x6C))
	}
	if err := s.all([]byte{0x04, 0xFF, 0x04}); err != nil {
		return err
	}
	return s.approves(kind, ask, f)
}

// talks is what no register asked for.
func (s *terminalLine) talks() error {
	for _, m := range [][]byte{
		{0x0F, 0x77},
		{0x04, 0xFF, 0x17, 0x05, 0x06, 0x0B, 0x24, 0x09, 0x07, 0x07, 'B', 'i', 't', 't', 'e', ' ', 0x84},
		{0x06, 0xD1, 0x40, 'B', 'e', 'l', 'e', 'g'},
	} {
		if _, err := s.say(m...); err != nil {
			return err
		}
	}
	return nil
}

// waits is a terminal that waits for a card: Silent is that it was aborted.
func (s *terminalLine) waits() (TerminalFault, error) {
	t := s.t
	set := func(on bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.seen.Waiting = on
		t.tell()
	}
	select {
	case <-t.card: // of a buyer before
	default:
	}
	set(true)
	defer set(false)
	for {
		select {
		case how := <-t.card:
			return how, nil
		case m, ok := <-s.in:
			switch {
			case !ok:
				return TerminalSilent, errLine
			case m[0] != 0x06 || m[1] != 0xB0:
				return TerminalSilent, fmt.Errorf("%w: % X in mid payment", errLine, m)
			}
			set(false)
			if _, wins := t.takes(TerminalWinsAbort); wins {
				return TerminalFine, s.write(0x84, 0x83)
			}
			if err := s.write(0x80, 0); err != nil {
				return TerminalSilent, err
			}
			return TerminalSilent, s.all([]byte{0x04, 0x0F, 0x27, 0x6C}, refused(0x6C))
		case <-s.ctx.Done():
			return TerminalSilent, errLine
		}
	}
}

// approves puts the payment down, and says so.
func (s *terminalLine) approves(kind string, ask terminalAsk, f TerminalFault) error {
	t := s.t
	if f == TerminalWrongAmount {
		ask.amount++
	}
	t.mu.Lock()
	x := t.book(TerminalTx{Kind: kind, Amount: ask.amount, Standing: ask.amount, Ref: ask.ref})
	t.mu.Unlock()
	m := t.told(x)
	if s.talk { // an unknown tag in a container nobody asked for
		m = append(m, 0x06, 0x09, 0x1F, 0x7A, 0x01, 0x42, 0x43, 0x03, 0xA0, 0x00, 0x00)
	}
	switch f {
	case TerminalDiesApproved:
		return errLine
	case TerminalDropsMidFrame:
		b := s.frame(m)
		_, _ = s.c.Write(b[:len(b)/2])
		return errLine
	case TerminalOtherMoney:
		for i := range m {
			if i+2 < len(m) && m[i] == 0x49 && m[i+1] == 0x09 && m[i+2] == 0x78 {
				m[i+1], m[i+2] = 0x07, 0x56
			}
		}
	case TerminalNoResult:
		return s.all(completed)
	}
	if _, err := s.say(m...); err != nil {
		if t.cfg.LoseUnread {
			t.mu.Lock()
			t.seen.Books[len(t.seen.Books)-1].Standing = 0
			t.seen.Books[len(t.seen.Books)-1].Result = 0x6C
			t.tell()
			t.mu.Unlock()
		}
		return err
	}
	switch f {
	case TerminalRepeats:
		return s.all(m, completed)
	case TerminalLosesCompletion:
		return nil
	case TerminalDropsCompletion:
		return errLine
	case TerminalContradicts:
		return s.all(refused(0x6C))
	}
	return s.all(completed)
}

// holds is 06 23 FF FF: the first hold that nothing has ended.
func (s *terminalLine) holds() error {
	t := s.t
	t.mu.Lock()
	list := []byte{0x87, 0xFF, 0xFF}
	for _, x := range t.seen.Books {
		if x.Kind == "hold" && x.Standing > 0 {
			list = append([]byte{0x87}, bcdOf(int64(x.Receipt), 2)...)
			break
		}
	}
	t.mu.Unlock()
	if err := s.ok(); err != nil {
		return err
	}
	return s.all(append(refused(0xB8), list...))
}

// undo ends a transaction: 06 24, 06 25, 06 30.
func (s *terminalLine) undo(kind string, body []byte) error {
	ask, err := readAsk(body)
	if err != nil {
		return err
	}
	if err := s.ok(); err != nil {
		return err
	}
	if _, no := s.t.takes(TerminalWontReverse); no {
		return s.all(refused(0xB5))
	}
	x, code := s.t.undone(kind, ask)
	if code != 0 {
		return s.all(refused(code))
	}
	if _, drop := s.t.takes(TerminalDropsReversal); drop {
		return errLine
	}
	return s.all([]byte{0x04, 0xFF, 0x05}, s.t.told(x), completed)
}

func (t *Terminal) undone(kind string, ask terminalAsk) (x TerminalTx, code byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	want := "hold"
	code = 0xB8
	if kind == "reversal" {
		want, code = "purchase", 0xB5
	}
	for i := t.day; i < len(t.seen.Books); i++ {
		b := &t.seen.Books[i]
		switch {
		case b.Kind != want || b.Receipt != ask.receipt || b.Result != 0:
		case kind == "reversal" && b.Amount != ask.amount, kind == "booked" && ask.amount > b.Amount:
			return x, 0xB7
		case b.Standing == 0 && kind == "reversal":
			return x, 0xB4
		case b.Standing == 0:
			return x, 0xB8
		default:
			amount, standing := b.Standing, int64(0)
			if kind == "booked" {
				amount, standing = ask.amount, ask.amount
			}
			b.Standing = 0
			return t.book(TerminalTx{Kind: kind, Of: ask.receipt, Amount: amount, Standing: standing}), 0
		}
	}
	return x, code
}

func (s *terminalLine) refund(body []byte) error {
	ask, err := readAsk(body)
	if err != nil {
		return err
	}
	if err := s.ok(); err != nil {
		return err
	}
	if _, no := s.t.takes(TerminalDeclines); no {
		return s.all(refused(0x05))
	}
	s.t.mu.Lock()
	x := s.t.book(TerminalTx{Kind: "refund", Amount: ask.amount, Standing: -ask.amount})
	s.t.mu.Unlock()
	return s.all([]byte{0x04, 0xFF, 0x0A}, s.t.told(x), completed)
}

// repeat is 06 20: the last transaction.
func (s *terminalLine) repeat() error {
	t := s.t
	t.mu.Lock()
	var x *TerminalTx
	if n := len(t.seen.Books); n > 0 {
		x = &t.seen.Books[n-1]
	}
	t.mu.Unlock()
	if err := s.ok(); err != nil {
		return err
	}
	if x == nil {
		return s.all(refused(0x65))
	}
	return s.all(t.told(*x), completed)
}

// endDay is 06 50. Everything still held is charged in full, as some terminals do.
func (s *terminalLine) endDay() error {
	t := s.t
	t.mu.Lock()
	count, sum := 0, int64(0)
	for _, x := range t.seen.Books[t.day:] {
		if x.Standing != 0 {
			count++
			sum += x.Standing
		}
	}
	t.day = len(t.seen.Books)
	t.due = false
	t.seen.Days++
	t.tell()
	t.mu.Unlock()
	if err := s.ok(); err != nil {
		return err
	}
	m := append([]byte{0x04, 0x0F, 0x27, 0x00, 0x04}, bcdOf(sum, 6)...)
	m = append(m, 0x0B, 0x00, 0x09, 0x82, 0x60, 0xF0, 0xF5, 0xF3, 0x00, 0x01, 0x99, 0x99)
	for i := range 7 {
		if i == 2 {
			m = append(append(m, byte(count)), bcdOf(sum, 6)...)
		} else {
			m = append(m, 0, 0, 0, 0, 0, 0, 0)
		}
	}
	return s.all(m, completed)
}
