package pcsc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// What goes between a program and pcscd (pcsc-lite, winscard_msg.h), protocol 4.4: a request is its body's length
// and its command, then the body; an answer is a body alone, of a length that the request tells. All numbers
// are 32 bits, LSB first.
const (
	cmdEstablish  = 0x01 // scope, context, result
	cmdConnect    = 0x04 // context, name (128), share, protocols, card, protocol, result
	cmdDisconnect = 0x06 // card, disposition, result
	cmdTransmit   = 0x09 // card, protocol, 16, length, 0, 0, room, result; then the APDU, and so the answer
	cmdVersion    = 0x11 // major, minor, result
	cmdWait       = 0x13 // answered by the readers' states at once, and by a signal when they change
	cmdStop       = 0x14 // answered by a signal, unless one is on its way

	major, minor = 4, 4

	nameSize     = 128
	atrSize      = 36 // 33, and to the next number
	stateSize    = nameSize + 12 + atrSize + 8
	maxReaders   = 16
	statesSize   = maxReaders * stateSize
	signalSize   = 8
	connectSize  = 4 + nameSize + 20
	transmitSize = 32
	apduMost     = 65544

	shareExclusive = 1
	protocolT0T1   = 3
	leaveCard      = 0
	statePresent   = 0x04
)

// Results (pcsclite.h).
const (
	resultOK         = 0
	resultNoCard     = 0x8010000C
	resultSharing    = 0x8010000B
	resultUnknown    = 0x80100009 // reader
	resultAway       = 0x80100017 // reader unavailable
	resultStopped    = 0x8010001E // service
	resultUnpowered  = 0x80100067
	resultReset      = 0x80100068
	resultRemoved    = 0x80100069
	resultMute       = 0x80100066 // card
	resultProtocol   = 0x8010000F
	resultTransacted = 0x80100016
)

// Slot is a reader as pcscd tells it.
type Slot struct {
	Name    string
	Events  uint32 // counts insertions and removals
	Present bool
	ATR     []byte
}

var errBody = errors.New("pcscd's answer makes no sense")

// request is the bytes of one.
func request(cmd uint32, body []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(body))) //nolint:gosec // short
	b = binary.LittleEndian.AppendUint32(b, cmd)
	return append(b, body...)
}

func numbers(ns ...uint32) (b []byte) {
	for _, n := range ns {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// number is the i-th of a body.
func number(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }

func connectRequest(context uint32, name string) []byte {
	b := make([]byte, nameSize)
	copy(b[:nameSize-1], name)
	return request(cmdConnect, append(append(numbers(context), b...), numbers(shareExclusive, protocolT0T1, 0, 0, 0)...))
}

// ParseSlots reads the states of all readers.
func ParseSlots(b []byte) ([]Slot, error) {
	if len(b) != statesSize {
		return nil, errBody
	}
	var out []Slot
	for ; len(b) > 0; b = b[stateSize:] {
		name, _, ok := bytes.Cut(b[:nameSize], []byte{0})
		if !ok {
			return nil, errBody
		}
		if len(name) == 0 {
			continue
		}
		rest := b[nameSize:stateSize]
		n := int(number(rest[12+atrSize:], 0))
		if n < 0 || n > 33 {
			return nil, errBody
		}
		s := Slot{Name: string(name), Events: number(rest, 0), Present: number(rest, 1)&statePresent != 0}
		if s.Present {
			s.ATR = bytes.Clone(rest[12 : 12+n])
		}
		out = append(out, s)
	}
	return out, nil
}

// resultError is a result that is none of a card.
func resultError(what string, r uint32) error { return fmt.Errorf("pcscd: %s: 0x%08X", what, r) }
