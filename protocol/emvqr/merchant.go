// Package emvqr is the payment codes that a scanner reads and a screen shows: EMVCo's, presented by the
// merchant or by the consumer, parsed and made, and the ranges of wallets' codes.
//
//	m, err := emvqr.ParseMerchant("000201…6304A13A")
//	m.Get("59")                              // BEST TRANSPORT
//	text, err := emvqr.Merchant{...}.Text()  // with 00 in front and its CRC behind
//	emvqr.Classify("135056725249518813")     // [wechat]
//
// A code that a consumer presents is as good as his card for a minute: such types print masked, and no error
// holds what was refused.
//
// Sources: EMV QR Code Specification for Payment Systems, Merchant-Presented Mode 1.1 and Consumer-Presented
// Mode 1.1.
package emvqr

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Why a text is no such code. Trying again cannot help.
var (
	ErrFormat = errors.New("not data objects of an EMV code: want id, length, value")
	ErrCRC    = errors.New("the check sum of an EMV code is wrong")
	ErrField  = errors.New("a field of an EMV code is missing or cannot be")
)

// MaxChars bounds a code (MPM 1.1, section 3.1).
const MaxChars = 512

// Object is a data object of a merchant's code: its value counts in characters.
type Object struct{ ID, Value string }

// Ids of data objects (MPM 1.1, table 3.1).
const (
	IDFormat   = "00"
	IDMethod   = "01" // 11 static, 12 dynamic
	IDMCC      = "52"
	IDCurrency = "53"
	IDAmount   = "54"
	IDTip      = "55"
	IDTipFixed = "56"
	IDTipRate  = "57"
	IDCountry  = "58"
	IDName     = "59"
	IDCity     = "60"
	IDPostal   = "61"
	IDExtra    = "62" // a template
	IDCRC      = "63"
	IDLanguage = "64" // a template
)

// Merchant is a code that a merchant presents: its data objects in their order, without those of format and
// check sum, which Text adds.
type Merchant []Object

// Get is the value of an object; "" where there is none.
func (m Merchant) Get(id string) string {
	for _, o := range m {
		if o.ID == id {
			return o.Value
		}
	}
	return ""
}

// Template is the objects within an object: an account (02 to 51), extra data (62), another language (64).
func (m Merchant) Template(id string) ([]Object, error) { return objects(m.Get(id)) }

// Accounts are the ids that say where the money goes: 02 to 51.
func (m Merchant) Accounts() (ids []string) {
	for _, o := range m {
		if o.ID >= "02" && o.ID <= "51" {
			ids = append(ids, o.ID)
		}
	}
	return ids
}

// Dynamic reports that the code is of one transaction alone.
func (m Merchant) Dynamic() bool { return m.Get(IDMethod) == "12" }

// ParseMerchant reads a code. Errors are ErrFormat, ErrCRC and ErrField; an ErrField names the id.
func ParseMerchant(text string) (Merchant, error) {
	n := len(text) - 8 // what stands before "6304" and four digits
	if n < 0 || !utf8.ValidString(text) || utf8.RuneCountInString(text) > MaxChars {
		return nil, ErrFormat
	}
	if text[n:n+4] != IDCRC+"04" {
		return nil, ErrFormat
	}
	if text[n+4:] != crc(text[:n+4]) {
		return nil, ErrCRC
	}
	all, err := objects(text[:n])
	if err != nil {
		return nil, err
	}
	if len(all) == 0 || all[0] != (Object{IDFormat, "01"}) {
		return nil, fmt.Errorf("%w: %s", ErrField, IDFormat)
	}
	m := Merchant(all[1:])
	return m, m.check()
}

// Text makes the code. The error is an ErrField, or ErrFormat where a value is too long to be one.
func (m Merchant) Text() (string, error) {
	if err := m.check(); err != nil {
		return "", err
	}
	text, err := Join(append([]Object{{IDFormat, "01"}}, m...))
	if err != nil {
		return "", err
	}
	text += IDCRC + "04"
	if utf8.RuneCountInString(text)+4 > MaxChars {
		return "", ErrFormat
	}
	return text + crc(text), nil
}

// Join writes objects one behind the other: the value of a template.
func Join(all []Object) (string, error) {
	var b strings.Builder
	for _, o := range all {
		n := utf8.RuneCountInString(o.Value)
		if !digits(o.ID, 2) || n == 0 || n > 99 || !utf8.ValidString(o.Value) {
			return "", ErrFormat
		}
		fmt.Fprintf(&b, "%s%02d%s", o.ID, n, o.Value)
	}
	return b.String(), nil
}

// objects cuts a text into its data objects. A length counts characters, not bytes (MPM 1.1, section 4.1).
func objects(text string) (out []Object, err error) {
	for text != "" {
		if len(text) < 4 || !digits(text[:4], 4) {
			return nil, ErrFormat
		}
		o := Object{ID: text[:2]}
		n, _ := strconv.Atoi(text[2:4])
		text = text[4:]
		end := 0
		for range n {
			_, size := utf8.DecodeRuneInString(text[end:])
			if size == 0 {
				return nil, ErrFormat
			}
			end += size
		}
		if n == 0 || slices.ContainsFunc(out, func(p Object) bool { return p.ID == o.ID }) {
			return nil, ErrFormat
		}
		o.Value, text = text[:end], text[end:]
		out = append(out, o)
	}
	return out, nil
}

// check finds what a code must have and has not (MPM 1.1, tables 3.1 to 3.8).
func (m Merchant) check() error {
	bad := func(id string) error { return fmt.Errorf("%w: %s", ErrField, id) }
	for _, f := range []struct {
		id string
		ok func(string) bool
	}{
		{IDMCC, func(s string) bool { return digits(s, 4) }},
		{IDCurrency, func(s string) bool { return digits(s, 3) }},
		{IDCountry, func(s string) bool { return len(s) == 2 && strings.Trim(s, letters) == "" }},
		{IDName, func(s string) bool { return between(s, 1, 25) }},
		{IDCity, func(s string) bool { return between(s, 1, 15) }},
		{IDMethod, func(s string) bool { return s == "" || s == "11" || s == "12" }},
		{IDAmount, func(s string) bool { return s == "" || amount(s) }},
		{IDTip, func(s string) bool { return s == "" || s == "01" || s == "02" || s == "03" }},
		{IDTipFixed, func(s string) bool { return (s != "") == (m.Get(IDTip) == "02") && (s == "" || amount(s)) }},
		{IDTipRate, func(s string) bool {
			return (s != "") == (m.Get(IDTip) == "03") && (s == "" || len(s) <= 5 && amount(s))
		}},
		{IDPostal, func(s string) bool { return between(s, 0, 10) }},
		{IDFormat, func(s string) bool { return s == "" }},
		{IDCRC, func(s string) bool { return s == "" }},
	} {
		if !f.ok(m.Get(f.id)) {
			return bad(f.id)
		}
	}
	if len(m.Accounts()) == 0 {
		return bad("02 to 51")
	}
	for _, o := range m {
		if template := o.ID >= "26" && o.ID <= "51" || o.ID == IDExtra || o.ID == IDLanguage; template {
			inner, err := objects(o.Value)
			if err != nil || o.ID <= "51" && (len(inner) == 0 || inner[0].ID != "00") {
				return bad(o.ID)
			}
		}
	}
	return nil
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

func between(s string, least, most int) bool {
	n := utf8.RuneCountInString(s)
	return n >= least && n <= most
}

// amount is digits with at most one point, which is not their begin; not more than 13 characters, and not
// nothing.
func amount(s string) bool {
	whole, part, point := strings.Cut(s, ".")
	return len(s) <= 13 && digits(whole, len(whole)) && whole != "" && (!point || part == "" || digits(part, len(part))) && strings.Trim(s, "0.") != ""
}

func digits(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789") == ""
}

// crc is CRC-16/CCITT-FALSE of the bytes, in upper-case hex (MPM 1.1, section 4.7.3; ISO/IEC 13239).
func crc(text string) string {
	c := uint16(0xFFFF)
	for i := range len(text) {
		c ^= uint16(text[i]) << 8
		for range 8 {
			if c&0x8000 != 0 {
				c = c<<1 ^ 0x1021
			} else {
				c <<= 1
			}
		}
	}
	return fmt.Sprintf("%04X", c)
}
