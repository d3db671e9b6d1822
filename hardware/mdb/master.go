package mdb

import (
	"time"

	"coinop/hardware"
)

// master is the controller's side of the line (MDB/ICP 4.2, section 2): one exchange at a time, a block and
// the answer to it.
type master struct {
	sent  []byte        // the exchange that waits for its answer
	begun time.Duration // its beginning, or that of the last
	until time.Duration
	tries int
	line  Unmark
	reply []Word
	waits time.Duration // for an answer
}

func newMaster(p Port) master {
	m := master{line: Unmark{Peripheral: true}, waits: replyTime}
	if p == PortWaferstar {
		m.waits = replySlow
	}
	return m
}

// anew is the master of another opening.
func (m *master) anew() master { return master{line: Unmark{Peripheral: true}, waits: m.waits} }

// say begins an exchange.
func (m *master) say(o *hardware.Output, now time.Duration, data []byte) {
	w, err := Controller(data...)
	if err != nil {
		panic(err) // of a block of ours that is too long
	}
	m.sent, m.begun, m.until, m.reply = data, now, now+m.waits, nil
	o.Write(Mark(w))
}

// hear takes a word of a device's: an answer ends with the word that has the mode bit. When it is whole and
// its sum is good it is acknowledged, and done; sent stays for the caller to clear. One that is damaged is
// not: the device says it again at the next POLL, or we ask again when the time is over.
//
// What comes late is nobody's answer, and not acknowledged, so that it is said again; but it shows that
// the way is slow, and from then on an answer has longer. Or each would be taken for the answer to what was said
// after it, and a changer's coin for a validator's bill.
func (m *master) hear(o *hardware.Output, now time.Duration, w Word) (data []byte, done bool) {
	if m.sent == nil {
		if late := now - m.begun; late < lateMost {
			m.waits = max(m.waits, min(2*late, replySlow))
		}
		return nil, false
	}
	m.reply = append(m.reply, w)
	if w&Mode == 0 {
		if len(m.reply) > BlockMax {
			m.reply = nil
		}
		return nil, false
	}
	data, err := ReadPeripheral(m.reply)
	m.reply = nil
	if err != nil {
		if len(data) == 0 && m.tries < tries {
			m.tries++
			o.Write(Mark([]Word{NAK}))
		}
		return nil, false
	}
	m.tries = 0
	if data != nil {
		o.Write(Mark([]Word{ACK}))
	}
	return data, true
}
