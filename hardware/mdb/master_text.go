package mdb

import (
	"encoding/hex"
	"fmt"
	"strings"

	"coinop/hardware"
)

// OpenQibixxMaster opens a Qibixx adapter (MDB Pi HAT, MDB-USB) as the master of a bus of its own, for
// drivers that are one: Cash, and others. It gives and takes the words of the bus as OpenRaw does, so that a
// driver does not know the difference; the adapter keeps the bus's times, adds and checks sums, and
// acknowledges what comes. What it has acknowledged and we never read is lost: a cable pulled in that moment.
//
//	M,1              m,ACK                        we are the master
//	R,0C,FFFFFFFF    p,ACK | p,NACK | p,521E      address and command, data; NACK: nobody answered
//	R,RESET                                       the line held down
//
// Source: docs.qibixx.com, api-generic-master. That answers come without their CHK is believed.
func OpenQibixxMaster(path string) (hardware.Port, error) {
	p, err := hardware.OpenTTY(path, 115200)
	if err != nil {
		return nil, err
	}
	m := &textMaster{Port: p}
	if err := m.say("M,1"); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return m, nil
}

// textMaster translates. Read and Write are each one goroutine's.
type textMaster struct {
	hardware.Port

	// Write's.
	ours  Unmark
	block []Word

	// Read's.
	on     bool // it has said that it is the master; what came before is of another time
	line   []byte
	words  []byte // for who reads, marked
	chunks [256]byte
}

// textLine is the longest line that can be an answer: 36 bytes in hex.
const textLine = 2 + 2*BlockMax

func (m *textMaster) say(line string) error {
	b := []byte(line + "\r\n")
	for len(b) > 0 {
		n, err := m.Port.Write(b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Write takes the words of a block; a lone ACK, NAK or RET is the adapter's own affair.
func (m *textMaster) Write(b []byte) (int, error) {
	for _, w := range m.ours.Add(b) {
		switch {
		case w == Break:
			m.block = nil
			if err := m.say("R,RESET"); err != nil {
				return 0, err
			}
			continue
		case w&Mode != 0:
			m.block = []Word{w}
		case len(m.block) > 0:
			m.block = append(m.block, w)
		}
	}
	// A block's end is not marked; drivers write a whole one at a time.
	data, err := ReadController(m.block)
	if err != nil {
		if len(m.block) > BlockMax {
			m.block = nil
		}
		return len(b), nil
	}
	m.block = nil
	line := fmt.Sprintf("R,%02X", data[0])
	if len(data) > 1 {
		line += "," + strings.ToUpper(hex.EncodeToString(data[1:]))
	}
	if err := m.say(line); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Read gives the words of answers.
func (m *textMaster) Read(b []byte) (int, error) {
	for len(m.words) == 0 {
		n, err := m.Port.Read(m.chunks[:])
		for _, c := range m.chunks[:n] {
			switch {
			case c == '\n' || c == '\r':
				m.answer(string(m.line))
				m.line = m.line[:0]
			case len(m.line) <= textLine:
				m.line = append(m.line, c)
			}
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(b, m.words)
	m.words = m.words[n:]
	return n, nil
}

func (m *textMaster) answer(line string) {
	if strings.EqualFold(line, "m,ACK") {
		m.on = true
		return
	}
	text, ok := strings.CutPrefix(strings.ToLower(line), "p,")
	if !ok || !m.on || text == "nack" || len(line) > textLine {
		return
	}
	var data []byte
	if text != "ack" {
		var err error
		if data, err = hex.DecodeString(text); err != nil || len(data) == 0 {
			return // of another kind, or a line that came apart: as if nobody had answered
		}
	}
	if words, err := Peripheral(data...); err == nil {
		m.words = append(m.words, Mark(words)...)
	}
}
