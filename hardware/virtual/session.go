package virtual

import (
	"bytes"
	"encoding/hex"
)

// Session is what a controller was told of sessions beside vends.
type Session struct {
	Language, Currency string // of the last one, where money is long: "en", "1978"
	Limit              int64  // what could be loaded at once, as it was told last
	Limits             int    // how often it was told, or that nothing can be
	Loads, LoadDenials int
	Digits             int  // it is asked for so many; 0: for none
	Again              bool // what was entered last was wrong
	Diagnosis          string
}

// long reports whether money has four bytes.
func (c *Controller) long() bool { return c.cfg.Wide || c.cfg.Currencies }

// currency is the controller's, as the bus has it.
func (c *Controller) currency() []byte {
	if c.cfg.Foreign {
		return []byte{0x18, 0x40} // USD
	}
	return []byte{0x19, 0x78} // EUR
}

// begins takes BEGIN SESSION in.
func (c *Controller) begins(a []byte) {
	if len(a) == 17 {
		c.seen.Session.Language, c.seen.Session.Currency = string(a[12:14]), hex.EncodeToString(a[14:16])
	}
}

// toldMore is a message that is about no vend.
func (c *Controller) toldMore(a []byte) {
	s := &c.seen.Session
	switch a[0] {
	case 0x0D, 0x0E:
		switch {
		case c.seen.Status == "REVALUE":
			if s.Loads++; a[0] == 0x0E {
				s.Loads--
				s.LoadDenials++
			}
			if c.fault == FaultRepeat {
				c.fault = FaultNone
			}
			if c.status("ENABLED"); c.session {
				c.status("IDLE")
			}
		case a[0] == 0x0E:
			s.Limit = 0
			s.Limits++
		}
	case 0x0F:
		s.Limit = 0
		for _, x := range a[1:] {
			s.Limit = s.Limit<<8 | int64(x)
		}
		s.Limits++
	case 0x12:
		s.Digits, s.Again = int(a[1]&0x7F), a[1]&0x80 != 0
	case 0x13:
		s.Digits = 0
	case 0xFF:
		s.Diagnosis = hex.EncodeToString(a)
	}
}

// AskLimit asks how much can be loaded: REVALUE LIMIT REQUEST.
func (c *Controller) AskLimit() error { return c.later([]byte{0x15, 0x01}) }

// LoadCash is a buyer who put coins in to be loaded on his card, in minor units: REVALUE REQUEST.
func (c *Controller) LoadCash(minor int64) error {
	return c.do(func() error {
		if c.seen.Status != "ENABLED" && c.seen.Status != "IDLE" {
			return ErrNotEnabled
		}
		b := []byte{0x15, 0x00}
		if c.long() {
			b = append(b, byte(minor>>24), byte(minor>>16))
		}
		c.status("REVALUE")
		c.todo = append(c.todo, append(b, byte(minor>>8), byte(minor)))
		return nil
	})
}

// Enter is a buyer at the machine's keys, whether it is asked for or not: DATA ENTRY RESPONSE. Without digits he will not.
func (c *Controller) Enter(digits string) error {
	b := append([]byte{0x14, 0x03}, bytes.Repeat([]byte{0xFF}, 8)...)
	if digits != "" {
		clear(b[2:])
		copy(b[2:], digits)
	}
	return c.do(func() error {
		c.seen.Session.Digits = 0
		c.todo = append(c.todo, b)
		return nil
	})
}

// Diagnose is a technician's test: EXPANSION DIAGNOSTICS.
func (c *Controller) Diagnose() error { return c.later([]byte{0x17, 0xFF}) }

func (c *Controller) later(b []byte) error {
	return c.do(func() error { c.todo = append(c.todo, b); return nil })
}
