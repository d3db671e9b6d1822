package terminal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"coinop/protocol/card"
)

// apdu is one message: two control bytes and data (PA00P016 5.2).
type apdu struct {
	class, instr byte
	data         []byte
}

func (a apdu) is(class, instr byte) bool { return a.class == class && a.instr == instr }

// bytes is the message on the wire: a length below FF is one byte, others FF and two, low byte first
// (PA00P016 5.2.4).
func (a apdu) bytes() []byte {
	out := []byte{a.class, a.instr}
	if n := len(a.data); n < 0xFF {
		out = append(out, byte(n))
	} else {
		out = append(out, 0xFF, byte(n), byte(n>>8))
	}
	return append(out, a.data...)
}

var errFrame = errors.New("bytes that are no ZVT message")

// stream cuts a stream into messages: TCP gives them split and joined anywhere (PA00P016 4).
type stream struct{ buf []byte }

func (s *stream) feed(b []byte) { s.buf = append(s.buf, b...) }

// next is the next whole message. What cannot begin one ends the stream: behind it nothing can be found.
func (s *stream) next() (a apdu, ok bool, err error) {
	b := s.buf
	if len(b) > 0 {
		switch b[0] {
		case 0x04, 0x05, 0x06, 0x08, 0x0F, 0x80, 0x84:
		default:
			s.wipe(len(b))
			return a, false, errFrame
		}
	}
	if len(b) < 3 {
		return a, false, nil
	}
	head, n := 3, int(b[2])
	if b[2] == 0xFF {
		if len(b) < 5 {
			return a, false, nil
		}
		head, n = 5, int(b[3])|int(b[4])<<8
	}
	if len(b) < head+n {
		return a, false, nil
	}
	a = apdu{b[0], b[1], append([]byte(nil), b[head:head+n]...)}
	s.wipe(head + n)
	return a, true, nil
}

// wipe drops n bytes; they may have held a card number.
func (s *stream) wipe(n int) {
	rest := append([]byte(nil), s.buf[n:]...)
	clear(s.buf)
	s.buf = rest
}

// Kinds of lengths of the fields below; a positive one is the length itself.
const (
	llvar, lllvar, container = -2, -3, -6
)

// bitmaps are the lengths of the data behind a bitmap (PA00P015 13). One that is not here ends the
// reading of its message: where the next begins is not known.
var bitmaps = map[byte]int{
	0x01: 1, 0x02: 1, 0x03: 1, 0x04: 6, 0x05: 1, 0x06: container, 0x0B: 3, 0x0C: 3, 0x0D: 2, 0x0E: 2,
	0x17: 2, 0x19: 1, 0x22: llvar, 0x23: llvar, 0x24: lllvar, 0x27: 1, 0x29: 4, 0x2A: 15, 0x2D: llvar,
	0x2E: lllvar, 0x37: 3, 0x3A: 2, 0x3B: 8, 0x3C: lllvar, 0x3D: 3, 0x49: 2, 0x4C: llvar, 0x60: lllvar,
	0x87: 2, 0x88: 3, 0x8A: 1, 0x8B: llvar, 0x8C: 1, 0x92: lllvar, 0x9A: lllvar, 0xA0: 1, 0xA7: llvar,
	0xAA: 3, 0xAF: lllvar, 0xBA: 5, 0xD0: 1, 0xD1: llvar, 0xD2: 1, 0xD3: 1, 0xE0: 1, 0xE9: 1, 0xEA: 1,
	0xEB: 8, 0xF0: 1, 0xF9: 1, 0xFA: 1, 0xFC: 1,
	0xE1: llvar, 0xE2: llvar, 0xE3: llvar, 0xE4: llvar, 0xE5: llvar, 0xE6: llvar, 0xE7: llvar, 0xE8: llvar,
	0xF1: llvar, 0xF2: llvar, 0xF3: llvar, 0xF4: llvar, 0xF5: llvar, 0xF6: llvar, 0xF7: llvar, 0xF8: llvar,
}

// fields is what a message says, as far as anybody here wants to know. It never holds a card number:
// of bitmap 22 the last four digits are kept, of the tracks nothing.
type fields struct {
	result    byte
	hasResult bool
	amount    int64
	hasAmount bool
	currency  string // numeric, "978"; ISO 4217
	trace     string
	original  string // trace of what was taken back
	receipt   string
	turnover  string
	terminal  string
	contract  string
	auth      string
	status    byte // 19
	cardType  byte
	cardName  string
	last4     string
	text      string
	totals    []byte
	time      string // HHMMSS
	date      string // MMDD
	aid       string
	app       string
	shown     []string // display texts
	printed   []string // lines of a receipt
	kind      byte     // 1F07: 01 merchant, 02 customer, 03 admin
	cut       bool     // it could not be read to its end
}

// variable is the length a LLVAR or LLLVAR says, of n digits: only the low nibbles count (PA00P016 5.2.8).
func variable(b []byte, n int) (int, bool) {
	if len(b) < n {
		return 0, false
	}
	sum := 0
	for _, c := range b[:n] {
		if c&15 > 9 {
			return 0, false
		}
		sum = 10*sum + int(c&15)
	}
	return sum, true
}

// parse reads the bitmaps of a message. What it cannot read it leaves, and says so in cut.
func parse(b []byte) fields {
	var f fields
	for len(b) > 0 {
		tag := b[0]
		b = b[1:]
		n, ok := bitmaps[tag]
		switch n {
		case llvar, lllvar:
			digits := -n
			if n, ok = variable(b, digits); ok {
				b = b[digits:]
			}
		case container:
			var head int
			if n, head, ok = tlvLength(b); ok {
				b = b[head:]
			}
		}
		if !ok || n > len(b) {
			f.cut = true
			return f
		}
		f.take(tag, b[:n])
		b = b[n:]
	}
	return f
}

func (f *fields) take(tag byte, b []byte) {
	switch tag {
	case 0x04:
		f.amount, f.hasAmount = number(b)
	case 0x06:
		if !f.tlv(b, 0) {
			f.cut = true
		}
	case 0x0B:
		f.trace = hex.EncodeToString(b)
	case 0x0C:
		f.time = hex.EncodeToString(b)
	case 0x0D:
		f.date = hex.EncodeToString(b)
	case 0x19:
		f.status = b[0]
	case 0x22:
		f.last4 = lastFour(b)
	case 0x27:
		f.result, f.hasResult = b[0], true
	case 0x29:
		f.terminal = hex.EncodeToString(b)
	case 0x2A:
		f.contract = plain(b, charset437)
	case 0x37:
		f.original = hex.EncodeToString(b)
	case 0x3B:
		f.auth = plain(b, charset437)
	case 0x3C:
		f.text = plain(b, charset437)
	case 0x49:
		f.currency = strings.TrimPrefix(hex.EncodeToString(b), "0")
	case 0x60:
		f.totals = append([]byte(nil), b...)
	case 0x87:
		f.receipt = hex.EncodeToString(b)
	case 0x88:
		f.turnover = hex.EncodeToString(b)
	case 0x8A:
		f.cardType = b[0]
	case 0x8B:
		f.cardName = plain(b, charset437)
	}
}

// number is BCD; digits beyond 9 make it none.
func number(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c>>4 > 9 || c&15 > 9 {
			return 0, false
		}
		n = 100*n + int64(c>>4)*10 + int64(c&15)
	}
	return n, true
}

// bcd is n in as many bytes.
func bcd(n int64, size int) []byte {
	out := make([]byte, size)
	for i := size - 1; i >= 0; i-- {
		out[i] = byte(n/10%10)<<4 | byte(n%10)
		n /= 100
	}
	return out
}

// lastFour is the end of a card number: E is a digit the terminal has masked, F pads.
func lastFour(b []byte) string {
	d := strings.TrimRight(hex.EncodeToString(b), "f")
	if len(d) < 12 {
		return ""
	}
	d = d[len(d)-4:]
	if strings.Trim(d, "0123456789") != "" {
		return ""
	}
	return d
}

// tlvLength is the length at the head of b: up to 7F one byte, 81 and one, 82 and two, high byte first
// (PA00P015 9.3).
func tlvLength(b []byte) (n, head int, ok bool) {
	switch {
	case len(b) >= 1 && b[0] < 0x80:
		return int(b[0]), 1, true
	case len(b) >= 2 && b[0] == 0x81:
		return int(b[1]), 2, true
	case len(b) >= 3 && b[0] == 0x82:
		return int(b[1])<<8 | int(b[2]), 3, true
	}
	return 0, 0, false
}

const tlvDepth = 8

// tlv reads a container; tags it does not know are passed over.
func (f *fields) tlv(b []byte, depth int) bool {
	set := charset437
	for len(b) > 0 {
		tag := uint32(b[0])
		more := b[0]&0x1F == 0x1F
		open := b[0]&0x20 != 0
		b = b[1:]
		for more {
			if len(b) == 0 || tag > 0xFFFF {
				return false
			}
			tag, more = tag<<8|uint32(b[0]), b[0]&0x80 != 0
			b = b[1:]
		}
		n, head, ok := tlvLength(b)
		if !ok || head+n > len(b) {
			return false
		}
		v := b[head : head+n]
		b = b[head+n:]
		switch {
		case tag == 0x14 && n == 1:
			set = charset(v[0])
		case tag == 0x24:
			f.shown = append(f.shown, lines(v, set)...)
		case tag == 0x25:
			f.printed = append(f.printed, lines(v, set)...)
		case tag == 0x43:
			f.aid = strings.ToUpper(hex.EncodeToString(v[:min(n, 16)]))
		case tag == 0x42:
			f.app = plain(v, set)
		case tag == 0x1F07 && n == 1:
			f.kind = v[0]
		case tag == 0x1F2B && n > 0 && n <= 8:
			f.trace = hex.EncodeToString(v)
		case open && tag != 0xE9 && depth < tlvDepth:
			if !f.tlv(v, depth+1) {
				return false
			}
		}
	}
	return true
}

// linesMost bounds a receipt.
const linesMost = 200

// lines are the texts (tag 07) of a block.
func lines(b []byte, set charset) (out []string) {
	for len(b) > 1 && len(out) < linesMost {
		n, head, ok := tlvLength(b[1:])
		if !ok || 1+head+n > len(b) {
			break
		}
		if b[0] == 0x07 {
			out = append(out, plain(b[1+head:1+head+n], set))
		}
		b = b[1+head+n:]
	}
	return out
}

// charset is tag 14.
type charset byte

const (
	charset437  charset = 0xFF
	charsetISO  charset = 0x01
	charsetUTF8 charset = 0xFE
)

// of437 are the letters of code page 437 that German and its neighbours use.
var of437 = map[byte]rune{
	0x81: 'ü', 0x84: 'ä', 0x94: 'ö', 0x8E: 'Ä', 0x99: 'Ö', 0x9A: 'Ü', 0xE1: 'ß', 0x82: 'é', 0x8A: 'è',
	0x85: 'à', 0x87: 'ç', 0x88: 'ê', 0x83: 'â', 0x93: 'ô', 0x15: '§', 0xD5: '€',
}

// textMost bounds one text.
const textMost = 255

// plain is a text a terminal sent, without what a screen or a printer must not get, and without card
// numbers.
func plain(b []byte, set charset) string {
	var out strings.Builder
	s := b[:min(len(b), textMost)]
	if set == charsetUTF8 {
		for _, r := range strings.ToValidUTF8(string(s), "?") {
			if r >= 0x20 && r != 0x7F {
				out.WriteRune(r)
			}
		}
		return card.Scrub(strings.TrimSpace(out.String()))
	}
	for _, c := range s {
		r, known := of437[c]
		switch {
		case c >= 0x20 && c < 0x7F:
			out.WriteByte(c)
		case set == charsetISO && c >= 0xA0:
			out.WriteRune(rune(c))
		case set == charset437 && known:
			out.WriteRune(r)
		case c >= 0x80:
			out.WriteByte('?')
		}
	}
	return card.Scrub(strings.TrimSpace(out.String()))
}

// readStatus reads a completion of a status enquiry: a version that may be missing, the terminal's
// status, bitmaps (PA00P015 2.55).
func readStatus(b []byte) (status byte, f fields, ok bool) {
	if len(b) > 1 && b[0]>>4 == 0xF {
		if n, ok := variable(b, 3); ok && 3+n < len(b) && b[1]>>4 == 0xF && b[2]>>4 == 0xF {
			b = b[3+n:]
		}
	}
	if len(b) == 0 {
		return 0, f, false
	}
	return b[0], parse(b[1:]), true
}

// totals are count and sum of each kind of card (PA00P015 2.16: 53 bytes in bitmap 60).
func totals(b []byte) (out []total) {
	if len(b) != 4+7*7 {
		return nil
	}
	for i, name := range []string{"girocard", "jcb", "mastercard", "amex", "visa", "diners", "other"} {
		at := b[4+7*i:]
		sum, ok := number(at[1:7])
		if !ok {
			return nil
		}
		if at[0] > 0 || sum > 0 {
			out = append(out, total{name, int(at[0]), sum})
		}
	}
	return out
}

type total struct {
	brand string
	count int
	sum   int64
}

// brands are card types (PA00P015 12).
var brands = map[byte]string{
	0x02: "girocard", 0x05: "girocard", 0x06: "mastercard", 0x08: "amex", 0x09: "elv", 0x0A: "visa",
	0x0C: "diners", 0x0D: "vpay", 0x0E: "jcb", 0x2E: "maestro", 0xE8: "discover",
}

// names are result codes (PA00P015 10); others are zvt_ and their number.
var names = map[byte]string{
	0x05: "declined", 0x33: "funds", 0x37: "wrong_pin", 0x64: "card_unreadable", 0x65: "no_card_data",
	0x66: "processing", 0x67: "card_not_taken", 0x68: "card_not_taken", 0x6A: "day_end_due", 0x6B: "not_registered",
	0x6C: "aborted", 0x6E: "blocked", 0x6F: "currency", 0x72: "chip", 0x73: "card_data", 0x77: "day_end_impossible",
	0x78: "expired", 0x79: "not_yet_valid", 0x7A: "card_unknown", 0x7D: "communication", 0x83: "not_possible",
	0x85: "key_missing", 0x89: "pin_pad", 0x9A: "protocol", 0x9B: "dial_up", 0x9C: "busy", 0xA0: "host_not_ready",
	0xA1: "host_silent", 0xA3: "no_connection", 0xB1: "memory", 0xB2: "journal_full", codeReversed: "already_reversed",
	0xB5: "reversal_not_possible", 0xB7: "hold_amount", codeHold: "hold_error", 0xC3: "over_maximum", 0xC8: "amount_small",
	0xCC: "printer", 0xDC: "card_inserted", 0xDF: "out_of_order", 0xE0: "maintenance", 0xE2: "reader", 0xE4: "activation",
	0xEC: "pin", codeDayEnd: "day_end_due", 0xFC: "device",
}

const (
	codeReversed = 0xB4
	codeHold     = 0xB8
	codeDayEnd   = 0xF0
	codeAborted  = 0x6C
)

func reason(code byte) string {
	if n, ok := names[code]; ok {
		return n
	}
	return fmt.Sprintf("zvt_%02x", code)
}

// shows are intermediate states (PA00P015 3.7) by the names our screens know; the others of a kind say
// no more than these.
var shows = map[byte]string{
	0x00: "confirm_amount", 0x04: "asking_host", 0x05: "reversing", 0x06: "posting", 0x0A: "insert_card",
	0x0B: "remove_card", 0x0D: "error", 0x0E: "wait", 0x0F: "day_end", 0x15: "wrong_pin", 0x17: "wait",
	0x18: "pin_tries", 0x1C: "approved", 0x1D: "declined", 0x2B: "offline", 0x68: "card_inserted",
	0xC9: "diagnosis", 0xCA: "initialising", 0xD2: "connecting", 0xD3: "connecting", 0xF1: "offline", 0xF2: "online", 0xF3: "offline",
}

func show(code byte) string {
	if n, ok := shows[code]; ok {
		return n
	}
	if code >= 0x41 && code <= 0x5D {
		return "remove_card"
	}
	return "wait"
}
