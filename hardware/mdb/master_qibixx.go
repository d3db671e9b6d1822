package mdb

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// qibixxMaster is a Qibixx adapter (MDB Pi HAT, MDB-USB) as the master of a bus of its own, for drivers
// that are one: Cash and Reader.
//
//	M,1              m,ACK                        we are the master
//	R,0C,FFFFFFFF    p,ACK | p,NACK | p,521E      address and command, data; NACK: nobody answered
//	R,RESET                                       the line held down
//
// Source: docs.qibixx.com, api-generic-master. That answers come without their CHK is believed.
type qibixxMaster struct {
	on    bool // it has said that it is the master; what came before is of another time
	lines textLines
}

// textLine is the longest line that can be an answer: 36 bytes in hex.
const textLine = 2 + 2*BlockMax

func (*qibixxMaster) hello() []byte { return []byte("M,1\r\n") }

func (*qibixxMaster) reset() []byte { return []byte("R,RESET\r\n") }

func (*qibixxMaster) say(_ time.Duration, data []byte) (out []byte, answer []Word) {
	line := fmt.Sprintf("R,%02X", data[0])
	if len(data) > 1 {
		line += "," + strings.ToUpper(hex.EncodeToString(data[1:]))
	}
	return []byte(line + "\r\n"), nil
}

func (m *qibixxMaster) hear(_ time.Duration, b []byte) (words []Word) {
	m.lines.add(b, textLine, func(line string) { words = append(words, m.answer(line)...) })
	return words
}

func (m *qibixxMaster) answer(line string) []Word {
	if strings.EqualFold(line, "m,ACK") {
		m.on = true
		return nil
	}
	text, ok := strings.CutPrefix(strings.ToLower(line), "p,")
	if !ok || !m.on || text == "nack" {
		return nil
	}
	var data []byte
	if text != "ack" {
		var err error
		if data, err = hex.DecodeString(text); err != nil || len(data) == 0 {
			return nil // of another kind, or a line that came apart: as if nobody had answered
		}
	}
	words, err := Peripheral(data...)
	if err != nil {
		return nil
	}
	return words
}
