package emvqr

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"

	"coinop/protocol/card"
)

// Tags of a code that a consumer presents (CPM 1.1, table 4.1).
const (
	tagFormat card.Tag = 0x85
	tagApp    card.Tag = 0x61
	tagCommon card.Tag = 0x62
	tagAID    card.Tag = 0x4F
	tagLabel  card.Tag = 0x50
)

const consumerFormat = "CPV01"

// Consumer is a code that a consumer presents: applications in the order he prefers them in, and what holds
// for all of them. It prints masked: there is a card's number in it.
type Consumer struct {
	Apps   []Template
	Common *Template // nil: none
}

// Template is data objects of an application, or those common to all.
type Template struct {
	AID    []byte // 5 to 16 bytes; none in the common one
	Label  string
	Track2 card.Track2
	PAN    card.PAN
	Other  []byte // the other objects as they are; none of them is card data
	holder func() []byte
}

// WithHolder is t with a cardholder's name, which nothing shows.
func (t Template) WithHolder(name string) Template {
	t.holder = func() []byte { return []byte(name) }
	return t
}

// String names the application and masks the card.
func (t Template) String() string {
	return strings.TrimSpace(fmt.Sprintf("%X %s %s", t.AID, t.Label, t.number()))
}

func (t Template) number() card.PAN {
	if !t.Track2.IsZero() {
		return t.Track2.PAN()
	}
	return t.PAN
}

// GoString, Format, LogValue, MarshalJSON and MarshalText say the same.
func (t Template) GoString() string { return t.String() }

// Format masks under every verb.
func (t Template) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue masks in slog.
func (t Template) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText masks; there is no way back.
func (t Template) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// PAN is the number that the first application pays with: its own, or the common one. The zero value is none.
func (c Consumer) PAN() card.PAN {
	if len(c.Apps) > 0 && !c.Apps[0].number().IsZero() {
		return c.Apps[0].number()
	}
	if c.Common != nil {
		return c.Common.number()
	}
	return card.PAN{}
}

// ParseConsumer reads a code: base64 of BER-TLV. Errors are ErrFormat and ErrField.
func ParseConsumer(text string) (Consumer, error) {
	if len(text) > MaxChars {
		return Consumer{}, ErrFormat
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return Consumer{}, ErrFormat
	}
	defer clear(raw)
	var c Consumer
	n, failed := 0, error(nil)
	fail := func(err error) {
		if failed == nil {
			failed = err
		}
	}
	err = card.EachTLV(raw, func(tag card.Tag, value, _ []byte) {
		if n++; (n == 1) != (tag == tagFormat) { // it comes first, and once
			fail(ErrFormat)
			return
		}
		switch tag {
		case tagFormat:
			if string(value) != consumerFormat {
				fail(fmt.Errorf("%w: 85", ErrField))
			}
		case tagApp:
			t, err := template(value, true)
			if err != nil {
				fail(err)
			}
			c.Apps = append(c.Apps, t)
		case tagCommon:
			t, err := template(value, false)
			if err != nil || c.Common != nil {
				fail(fmt.Errorf("%w: 62", ErrField))
			}
			c.Common = &t
		default: // of schemes of their own: not for us
		}
	})
	switch {
	case err != nil || n == 0:
		return Consumer{}, ErrFormat
	case failed != nil:
		return Consumer{}, failed
	case len(c.Apps) == 0:
		return Consumer{}, fmt.Errorf("%w: 61", ErrField)
	}
	return c, nil
}

func template(b []byte, app bool) (t Template, err error) {
	bad := ""
	err = card.EachTLV(b, func(tag card.Tag, value, whole []byte) {
		var err error
		switch tag {
		case tagAID:
			t.AID = bytes.Clone(value)
		case tagLabel:
			t.Label = string(value)
			if strings.ContainsFunc(t.Label, func(r rune) bool { return r < 0x20 || r > 0x7E }) || len(value) > 16 {
				bad = "50"
			}
		case card.TagTrack2Equiv:
			if t.Track2, err = card.ParseTrack2(strings.ToUpper(hex.EncodeToString(value))); err != nil {
				bad = "57"
			}
		case card.TagPAN:
			if t.PAN, err = card.ParsePAN(strings.TrimRight(hex.EncodeToString(value), "f")); err != nil {
				bad = "5A"
			}
		case card.TagHolder:
			name := bytes.Clone(value)
			t.holder = func() []byte { return name }
		case card.TagTrack1Equiv, card.TagExpiry, card.TagTrack1Discr, card.TagTrack2Discr, card.TagTrack2MSD:
		default:
			t.Other = append(t.Other, whole...)
		}
	})
	if err != nil {
		return Template{}, ErrFormat
	}
	if app == (len(t.AID) < 5 || len(t.AID) > 16) {
		bad = "4F"
	}
	if bad != "" {
		return Template{}, fmt.Errorf("%w: %s", ErrField, bad)
	}
	return t, nil
}

// Text makes the code. The error is ErrField or ErrFormat, when it would be too long.
func (c Consumer) Text() (string, error) {
	raw := tlv(nil, tagFormat, []byte(consumerFormat))
	for _, a := range c.Apps {
		raw = tlv(raw, tagApp, a.bytes())
	}
	if c.Common != nil {
		raw = tlv(raw, tagCommon, c.Common.bytes())
	}
	defer clear(raw)
	text := base64.StdEncoding.EncodeToString(raw)
	_, err := ParseConsumer(text)
	return text, err
}

func (t Template) bytes() (b []byte) {
	if len(t.AID) > 0 {
		b = tlv(b, tagAID, t.AID)
	}
	if t.Label != "" {
		b = tlv(b, tagLabel, []byte(t.Label))
	}
	packed := func(tag card.Tag, digits string) {
		if digits == "" {
			return
		}
		if len(digits)%2 == 1 {
			digits += "F"
		}
		v, _ := hex.DecodeString(digits)
		b = tlv(b, tag, v)
		clear(v)
	}
	packed(card.TagTrack2Equiv, strings.Replace(t.Track2.Reveal(), "=", "D", 1))
	packed(card.TagPAN, t.PAN.Reveal())
	if t.holder != nil {
		b = tlv(b, card.TagHolder, t.holder())
	}
	return append(b, t.Other...)
}

// tlv appends a data object.
func tlv(b []byte, tag card.Tag, v []byte) []byte {
	for shift := 16; shift >= 0; shift -= 8 {
		if tag>>shift != 0 {
			b = append(b, byte(tag>>shift)) //nolint:gosec // its bytes, highest first
		}
	}
	switch n := len(v); {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, 0x82, byte(n>>8), byte(n)) //nolint:gosec // below 64 KiB: a code is short
	}
	return append(b, v...)
}
