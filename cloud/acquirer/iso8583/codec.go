// Package iso8583 speaks ISO 8583:1987 to an acquirer's host.
//
//	link, err := iso8583.NewLink(iso8583.Config{Name: "bank", Addr: "10.0.0.1:5000", Cards: vault, ...})
//	go link.Run(ctx)                 // connects, signs on, echoes, reconnects
//	ans, err := link.Do(ctx, op)     // packs, sends, waits; an acquirer.Acquirer
//
// Codec turns a Message into a host's bytes and back, by the table of a dialect file. Build makes
// the Message of an acquirer.Op; Match makes an acquirer.Answer of the response. Link owns the
// connection.
//
// It promises: values of card fields (2, 14, 35, 36, 45, 52, 55) stand in no error, no log and
// nothing that prints; a request of which no byte left is answered ErrNotSent, any other without
// an answer ErrUnknown.
//
// Source: ISO 8583:1987; what hosts do with it, as published by jPOS and moov-io.
package iso8583

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"coinop/cloud/acquirer/dialects"
)

// ErrFormat is wrapped by every error of Codec: the message or the bytes are not what the dialect
// allows. Trying again cannot help.
var ErrFormat = errors.New("iso8583")

// FieldError names the data element at fault and what is wrong, never its value. DE 0 is the
// message type, 1 the bitmap, 129 what follows the last field.
type FieldError struct {
	DE   int
	What string
}

func (e *FieldError) Error() string { return fmt.Sprintf("iso8583: DE%d: %s", e.DE, e.What) }

// Unwrap is ErrFormat.
func (e *FieldError) Unwrap() error { return ErrFormat }

// Permanent reports that trying again cannot help.
func (e *FieldError) Permanent() bool { return true }

func fault(de int, what string) error { return &FieldError{de, what} }

type format uint8

const (
	fmtN    format = iota + 1 // digits, padded left with 0
	fmtAN                     // letters, digits, spaces, padded right
	fmtANS                    // printable ASCII, padded right
	fmtZ                      // digits and '='
	fmtXN                     // C or D and digits
	fmtBHex                   // two hex digits a byte
	fmtBRaw                   // bytes
)

var formats = map[string]format{"n": fmtN, "an": fmtAN, "ans": fmtANS, "z": fmtZ, "x+n": fmtXN, "b-hex": fmtBHex, "b-raw": fmtBRaw}

// column is how the dialect writes one data element; format 0 is not at all.
type column struct {
	format format
	prefix int // digits of the length before the value; 0 for fixed
	max    int
}

// Codec packs and unpacks one dialect. It is safe for concurrent use.
type Codec struct {
	name     string
	maxFrame int
	table    [129]column
}

// NewCodec compiles a dialect file (package dialects).
func NewCodec(dialect []byte) (*Codec, error) {
	var file struct {
		Name     string `json:"name"`
		Source   string `json:"source"`
		Bitmap   string `json:"bitmap"`
		MaxFrame int    `json:"max_frame"`
		Fields   map[string]struct {
			Name   string `json:"name"`
			Format string `json:"format"`
			Length string `json:"length"`
			Max    int    `json:"max"`
		} `json:"fields"`
	}
	dec := json.NewDecoder(bytes.NewReader(dialect))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("read dialect: %w", err)
	}
	bad := func(n, what string) (*Codec, error) {
		return nil, fmt.Errorf("dialect %s: field %s: %s", file.Name, n, what)
	}
	c := &Codec{name: file.Name, maxFrame: file.MaxFrame}
	if file.Bitmap != "hex" || c.maxFrame < 36 || c.maxFrame > 0xFFFF {
		return bad("-", "want bitmap hex and max_frame 36 to 65535")
	}
	for key, f := range file.Fields {
		n, err := strconv.Atoi(key)
		if err != nil || n < 2 || n > 128 || n == 65 {
			return bad(key, "want a number from 2 to 128 but 65")
		}
		row := column{format: formats[f.Format], max: f.Max}
		switch f.Length {
		case "fixed":
		case "ll":
			row.prefix = 2
		case "lll":
			row.prefix = 3
		default:
			return bad(key, "want length fixed, ll or lll")
		}
		most := c.maxFrame
		if row.prefix > 0 {
			most = [...]int{2: 99, 3: 999}[row.prefix]
		}
		if row.format == 0 || row.max < 1 || row.max > most {
			return bad(key, "unknown format, or max out of range")
		}
		c.table[n] = row
	}
	return c, nil
}

// ASCII87 is the codec of dialects.ASCII87.
var ASCII87 = sync.OnceValue(func() *Codec {
	c, err := NewCodec(dialects.ASCII87)
	if err != nil {
		panic(err)
	}
	return c
})

// MaxFrame is the longest message in bytes.
func (c *Codec) MaxFrame() int { return c.maxFrame }

// Pack appends the message to dst, each fixed field padded to its length. Errors are *FieldError;
// dst is then returned as it came.
func (c *Codec) Pack(dst []byte, m *Message) ([]byte, error) {
	out, err := c.pack(dst, m)
	if err != nil {
		clear(out[len(dst):])
		return dst, err
	}
	return out, nil
}

func (c *Codec) pack(dst []byte, m *Message) ([]byte, error) {
	start := len(dst)
	if !validMTI(m.MTI) {
		return dst, fault(0, "not a message type")
	}
	dst = append(dst, m.MTI...)
	var bits [16]byte
	for _, f := range m.fields {
		bits[(f.de-1)/8] |= 0x80 >> ((f.de - 1) % 8)
		if f.de > 64 {
			bits[0] |= 0x80
		}
	}
	n := 8
	if bits[0]&0x80 != 0 {
		n = 16
	}
	for _, b := range bits[:n] {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	for _, f := range m.fields {
		var what string
		if dst, what = c.table[f.de].append(dst, f.value); what != "" {
			return dst, fault(int(f.de), what)
		}
	}
	if len(dst)-start > c.maxFrame {
		return dst, fault(129, "message longer than the dialect allows")
	}
	return dst, nil
}

const hexDigits = "0123456789ABCDEF"

func (f column) append(dst []byte, v string) ([]byte, string) {
	switch {
	case f.format == 0:
		return dst, "not in this dialect"
	case len(v) > f.max:
		return dst, "too long"
	case v == "":
		return dst, "empty"
	}
	if what := f.check(v); what != "" {
		return dst, what
	}
	pad := 0
	switch {
	case f.prefix == 3:
		dst = append(dst, '0'+byte(len(v)/100))
		fallthrough
	case f.prefix == 2:
		dst = append(dst, '0'+byte(len(v)/10%10), '0'+byte(len(v)%10))
	default:
		pad = f.max - len(v)
	}
	if pad == 0 {
		return append(dst, v...), ""
	}
	switch f.format {
	case fmtN:
		for range pad {
			dst = append(dst, '0')
		}
		return append(dst, v...), ""
	case fmtAN, fmtANS:
		dst = append(dst, v...)
		for range pad {
			dst = append(dst, ' ')
		}
		return dst, ""
	default:
		return dst, "too short"
	}
}

// check says what is wrong with a value's characters, or "".
func (f column) check(v string) string {
	switch f.format {
	case fmtN:
		if !all(v, isDigit) {
			return "want digits"
		}
	case fmtAN:
		if !all(v, isAN) {
			return "want letters, digits, spaces"
		}
	case fmtANS:
		if !all(v, isPrint) {
			return "want printable ASCII"
		}
	case fmtZ:
		if !all(v, isTrack) {
			return "want digits and ="
		}
	case fmtXN:
		if v[0] != 'C' && v[0] != 'D' || !all(v[1:], isDigit) {
			return "want C or D and digits"
		}
	case fmtBHex:
		if !all(v, isHex) {
			return "want hex digits in upper case"
		}
	case fmtBRaw:
	}
	return ""
}

func all(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isTrack(c byte) bool { return isDigit(c) || c == '=' }
func isHex(c byte) bool   { return isDigit(c) || c >= 'A' && c <= 'F' }
func isPrint(c byte) bool { return c >= 0x20 && c <= 0x7E }
func isAN(c byte) bool {
	return isDigit(c) || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == ' '
}

func validMTI(s string) bool { return len(s) == 4 && s[0] == '0' && all(s, isDigit) && s[1] != '0' }

// Unpack reads exactly one message. The values keep their padding. Errors are *FieldError.
func (c *Codec) Unpack(frame []byte) (*Message, error) {
	if len(frame) > c.maxFrame {
		return nil, fault(129, "message longer than the dialect allows")
	}
	s := string(frame) // every value is a part of it
	if len(s) < 20 {
		return nil, fault(1, "message ends in the bitmap")
	}
	if !validMTI(s[:4]) {
		return nil, fault(0, "not a message type")
	}
	var bits [2]uint64
	n := 1
	for i := 0; i < n; i++ {
		if len(s) < 4+16*(i+1) {
			return nil, fault(1, "message ends in the bitmap")
		}
		v, err := strconv.ParseUint(s[4+16*i:20+16*i], 16, 64)
		if err != nil || s[4+16*i] == '+' {
			return nil, fault(1, "want hex digits")
		}
		if bits[i] = v; v>>63 == 1 {
			n = 2
		}
	}
	if bits[1]>>63 == 1 {
		return nil, fault(65, "not in this dialect")
	}
	m := &Message{MTI: s[:4], fields: make([]element, 0, 24)}
	rest := s[4+16*n:]
	for de := 2; de <= 64*n; de++ {
		if bits[(de-1)/64]<<((de-1)%64)>>63 == 0 || de == 65 {
			continue
		}
		v, left, what := c.table[de].cut(rest)
		if what != "" {
			return nil, fault(de, what)
		}
		m.fields = append(m.fields, element{uint8(de), v})
		rest = left
	}
	if rest != "" {
		return nil, fault(129, "bytes after the last field")
	}
	return m, nil
}

func (f column) cut(s string) (v, rest, what string) {
	if f.format == 0 {
		return "", "", "not in this dialect"
	}
	n := f.max
	if f.prefix > 0 {
		if len(s) < f.prefix {
			return "", "", "message ends in the length"
		}
		n = 0
		for _, c := range []byte(s[:f.prefix]) {
			if !isDigit(c) {
				return "", "", "length is not decimal"
			}
			n = n*10 + int(c-'0')
		}
		s = s[f.prefix:]
		if n == 0 || n > f.max {
			return "", "", "length out of range"
		}
	}
	if len(s) < n {
		return "", "", "message ends in the value"
	}
	if what := f.check(s[:n]); what != "" {
		return "", "", what
	}
	return s[:n], s[n:], ""
}
