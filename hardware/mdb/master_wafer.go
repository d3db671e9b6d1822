package mdb

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// waferMaster is an MDB-RS232 of Waferstar, the master of a bus with a changer and a validator. We write
// a command's bytes without CHK; an answer comes as a line of hex with its CHK, or 00 (ACK) or FF (nobody
// answered). It POLLs by itself, and tells what a device reported behind the device's address, without CHK:
//
//	09              03 11 56 05 01 00 03 01 02 00 … 76
//	0C FF FF FF FF  00
//	                08 51 00     a coin of type 1, into a tube
//	                30 09        the validator is disabled
//
// So a driver's POLL is answered here, from what was told. Nothing told is ACK, but not
//   - of a device whose last command nobody answered: then, and every queryEach, the POLL asks for
//     something, or a device that is gone would never be missed;
//   - within settleTime of a command, or of its word that it is busy: 02. The adapter may not have POLLed
//     since.
//
// The same report twice within settleTime is one that was said again; later, it is another coin, and an
// empty POLL comes between the two.
//
// Source: MDB-RS232 user manual (Shanghai Wafer, V3), "Communication commands"; the line's form and FF from
// programs and captures in the field. That it POLLs at least every 200 ms is believed.
type waferMaster struct {
	lines   textLines
	pending []byte // it waits for its answer
	query   bool   // in place of a POLL
	coins   waferPeer
	bills   waferPeer
}

// waferPeer is what was heard of a device.
type waferPeer struct {
	told   [][]byte // and not given yet
	given  []byte   // at the POLL before
	last   []byte   // told last
	lastAt time.Duration
	gone   bool
	asked  time.Duration // last command
	busy   time.Duration // until then
}

const (
	settleTime = 250 * time.Millisecond // more than a POLL's period, less than a mechanism takes for a coin
	queryEach  = 2 * time.Second
	toldMost   = 64 // reports that wait; a device has a few a second, and is POLLed ten times
	hexLine    = 3*BlockMax + 3
)

func (*waferMaster) hello() []byte { return nil }

func (*waferMaster) reset() []byte { return nil }

func (m *waferMaster) peer(address byte) *waferPeer {
	switch address & 0xF8 {
	case changer:
		return &m.coins
	case validator:
		return &m.bills
	}
	return nil
}

func (m *waferMaster) say(now time.Duration, data []byte) (out []byte, answer []Word) {
	p := m.peer(data[0])
	if p == nil {
		return nil, nil
	}
	m.pending, m.query = data, false
	if data[0]&7 == 3 { // POLL
		if !p.gone && now-p.asked < queryEach {
			m.pending = nil
			return nil, p.poll(now)
		}
		m.query = true
		if m.pending = []byte{changer | 2}; p == &m.bills { // TUBE STATUS, STACKER
			m.pending = []byte{validator | 6}
		}
	}
	p.asked = now
	return m.pending, nil
}

// poll answers a POLL.
func (p *waferPeer) poll(now time.Duration) []Word {
	var data []byte
	switch {
	case len(p.told) > 0 && !bytes.Equal(p.told[0], p.given):
		data, p.told = p.told[0], p.told[1:]
	case now < p.busy:
		data = []byte{0x02}
	}
	p.given = data
	words, err := Peripheral(data...)
	if err != nil {
		return nil
	}
	return words
}

func (m *waferMaster) hear(now time.Duration, b []byte) (words []Word) {
	m.lines.add(b, hexLine, func(line string) {
		data, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
		if err != nil || len(data) == 0 {
			return
		}
		if m.answers(data) {
			words = append(words, m.answer(now, data)...)
			return
		}
		if p := m.peer(data[0]); p != nil && len(data) > 1 && len(data) < BlockMax {
			p.report(now, data[1:], p == &m.coins)
		}
	})
	return words
}

// answers reports whether a line is the answer that is awaited: what a device reported begins with its
// address, and so may an answer, but no answer but one is as short as a report.
func (m *waferMaster) answers(data []byte) bool {
	if m.pending == nil {
		return false
	}
	if len(data) == 1 {
		return data[0] == ACK || data[0] == NAK
	}
	if chk(data[:len(data)-1]) != data[len(data)-1] {
		return false
	}
	least := 255
	switch m.pending[0] {
	case changer | 1:
		least = 8
	case changer | 2:
		least = 3
	case changer | 7:
		least = map[byte]int{0x00: 34, 0x03: 2, 0x04: 2, 0x05: 2}[m.pending[1]]
	case validator | 1:
		least = 12
	case validator | 6:
		least = 3
	case validator | 7:
		least = 2
	}
	if data[0]&0xF8 == m.pending[0]&0xF8 && data[0]&7 == 0 && m.pending[0] == changer|2 {
		least = 18 // a tube of type 11 that is full, and the sums fit
	}
	return least > 0 && len(data) >= least
}

// answer is the one to the command that waits.
func (m *waferMaster) answer(now time.Duration, data []byte) []Word {
	p, reset := m.peer(m.pending[0]), m.pending[0]&7 == 0
	m.pending = nil
	if p.gone = len(data) == 1 && data[0] == NAK; p.gone {
		return nil
	}
	if m.query {
		return p.poll(now)
	}
	if reset { // money of before is money; a JUST RESET of before is none of now
		p.told = slices.DeleteFunc(p.told, func(b []byte) bool { return bytes.Equal(b, []byte{0x0B}) || bytes.Equal(b, []byte{0x06}) })
		p.last = nil
	}
	if len(data) == 1 {
		p.busy, p.given = now+settleTime, nil
		return []Word{ACK | Mode}
	}
	words, err := Peripheral(data[:len(data)-1]...)
	if err != nil {
		return nil
	}
	return words
}

// report is what a device said at the adapter's POLL. A changer's word that it is busy is no news, but a
// state: it holds until the next POLL.
func (p *waferPeer) report(now time.Duration, data []byte, coins bool) {
	p.gone = false
	if coins && len(data) == 1 && data[0] == 0x02 {
		p.busy = now + settleTime
		return
	}
	again := bytes.Equal(data, p.last) && now-p.lastAt < settleTime
	p.last, p.lastAt = data, now
	if !again && len(p.told) < toldMost {
		p.told = append(p.told, data)
	}
}
