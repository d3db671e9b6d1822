// Package card is what stands on a card, in types that hide it.
//
//	t, err := card.ParseTrack2(raw)      // ;5413330089020011=25122010123456789?
//	fmt.Println(t.PAN(), t.Expiry())     // ************0011 ****
//	digits := t.PAN().Reveal()           // the only way to the digits
//
// PAN, Track2 and Expiry print masked under every verb of fmt, in slog, JSON and text. They hold
// their digits behind a func, so that printing a struct that keeps one in an unexported field (where
// fmt cannot call methods) shows an address. LogHandler is the second line: it masks what
// looks like a card in the text of a log.
//
// Sources: ISO/IEC 7812-1 (PAN, check digit), ISO/IEC 7813 (track 2), PCI DSS 4.0 requirement 3.4
// (what of a PAN may be shown; we show the last four).
package card

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// What cannot be read. The errors never hold what was refused; trying again cannot help.
var (
	ErrPAN    = errors.New("not a card number: want 12 to 19 digits")
	ErrExpiry = errors.New("not an expiry date: want YYMM")
	ErrTrack2 = errors.New("not a track 2: want card number, separator, YYMM, service code")
)

// secret keeps text out of reach of reflection that prints. A pointer would not do: under a verb that
// does not fit, fmt follows one at any depth. A func prints as an address whatever the verb.
type secret struct{ f func() *[]byte }

func keep(s string) secret {
	b := []byte(s)
	return secret{func() *[]byte { return &b }}
}

func (s secret) reveal() string {
	if s.f == nil {
		return ""
	}
	return string(*s.f())
}

func (s secret) wipe() {
	if s.f != nil {
		b := s.f()
		clear(*b)
		*b = (*b)[:0]
	}
}

// PAN is a primary account number. The zero value is none.
type PAN struct{ s secret }

// ParsePAN takes 12 to 19 digits, else ErrPAN. It does not ask for a valid check digit: see Luhn.
func ParsePAN(digits string) (PAN, error) {
	if len(digits) < 12 || len(digits) > 19 || !allDigits(digits) {
		return PAN{}, ErrPAN
	}
	return PAN{keep(digits)}, nil
}

// Reveal is the digits. Only what packs a message to a host, or seals, may ask.
func (p PAN) Reveal() string { return p.s.reveal() }

// Last4 is the last four digits, which may be shown.
func (p PAN) Last4() string {
	d := p.s.reveal()
	return d[max(0, len(d)-4):]
}

// Brand is the scheme the number's prefix belongs to.
func (p PAN) Brand() Brand { return BrandOf(p.s.reveal()) }

// Valid reports whether the check digit is right.
func (p PAN) Valid() bool { return Luhn(p.s.reveal()) }

// IsZero reports that there is no number.
func (p PAN) IsZero() bool { return p.s.reveal() == "" }

// Equal compares the digits.
func (p PAN) Equal(o PAN) bool { return p.s.reveal() == o.s.reveal() }

// Wipe zeroes the digits here and in every copy of p.
func (p PAN) Wipe() { p.s.wipe() }

// String is all but the last four digits masked.
func (p PAN) String() string { return mask(p.s.reveal()) }

// GoString, Format, LogValue, MarshalJSON and MarshalText say the same.
func (p PAN) GoString() string { return "card.PAN(" + p.String() + ")" }

// Format masks under every verb.
func (p PAN) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(p.String())) }

// LogValue masks in slog.
func (p PAN) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalJSON masks; there is no way back.
func (p PAN) MarshalJSON() ([]byte, error) { return []byte(`"` + p.String() + `"`), nil }

// MarshalText masks; there is no way back.
func (p PAN) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Expiry is the month a card ends with, as it stands in DE14. The zero value is none.
type Expiry struct{ s secret }

// ParseExpiry takes YYMM with a month of 01 to 12, else ErrExpiry.
func ParseExpiry(yymm string) (Expiry, error) {
	if len(yymm) != 4 || !allDigits(yymm) || yymm[2:] < "01" || yymm[2:] > "12" {
		return Expiry{}, ErrExpiry
	}
	return Expiry{keep(yymm)}, nil
}

// Reveal is YYMM.
func (e Expiry) Reveal() string { return e.s.reveal() }

// IsZero reports that there is no date.
func (e Expiry) IsZero() bool { return e.s.reveal() == "" }

// Equal compares the dates.
func (e Expiry) Equal(o Expiry) bool { return e.s.reveal() == o.s.reveal() }

// Wipe zeroes the date here and in every copy of e.
func (e Expiry) Wipe() { e.s.wipe() }

// String is wholly masked.
func (e Expiry) String() string { return strings.Repeat("*", len(e.s.reveal())) }

// GoString, Format, LogValue, MarshalJSON and MarshalText say the same.
func (e Expiry) GoString() string { return "card.Expiry(" + e.String() + ")" }

// Format masks under every verb.
func (e Expiry) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(e.String())) }

// LogValue masks in slog.
func (e Expiry) LogValue() slog.Value { return slog.StringValue(e.String()) }

// MarshalJSON masks; there is no way back.
func (e Expiry) MarshalJSON() ([]byte, error) { return []byte(`"` + e.String() + `"`), nil }

// MarshalText masks; there is no way back.
func (e Expiry) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// Track2 is track 2 of a stripe or its equivalent of a chip (EMV tag 57), without sentinels and
// check character, the separator written '=' as in DE35. The zero value is none.
type Track2 struct{ s secret }

// ParseTrack2 reads a track 2: an optional start sentinel ';', the PAN, '=' or 'D', YYMM, a three
// digit service code, discretionary digits, an optional 'F' of padding or '?' with whatever
// follows it; at most 37 characters between the sentinels (ISO/IEC 7813). Errors are ErrTrack2,
// ErrPAN or ErrExpiry.
func ParseTrack2(raw string) (Track2, error) {
	t := strings.TrimPrefix(raw, ";")
	if i := strings.IndexByte(t, '?'); i >= 0 {
		if len(t)-i > 2 { // one check character at most
			return Track2{}, ErrTrack2
		}
		t = t[:i]
	}
	t = strings.TrimSuffix(t, "F")
	i := strings.IndexAny(t, "=D")
	if i < 0 || len(t) > 37 || len(t) < i+8 || !allDigits(t[i+1:]) {
		return Track2{}, ErrTrack2
	}
	if _, err := ParsePAN(t[:i]); err != nil {
		return Track2{}, err
	}
	if _, err := ParseExpiry(t[i+1 : i+5]); err != nil {
		return Track2{}, err
	}
	return Track2{keep(t[:i] + "=" + t[i+1:])}, nil
}

// Reveal is the track as DE35 carries it.
func (t Track2) Reveal() string { return t.s.reveal() }

// IsZero reports that there is no track.
func (t Track2) IsZero() bool { return t.s.reveal() == "" }

// Equal compares the tracks.
func (t Track2) Equal(o Track2) bool { return t.s.reveal() == o.s.reveal() }

// Wipe zeroes the track here and in every copy of t.
func (t Track2) Wipe() { t.s.wipe() }

// PAN is the number on the track.
func (t Track2) PAN() PAN {
	pan, _, ok := strings.Cut(t.s.reveal(), "=")
	if !ok {
		return PAN{}
	}
	return PAN{keep(pan)}
}

// Expiry is the date on the track.
func (t Track2) Expiry() Expiry {
	_, rest, ok := strings.Cut(t.s.reveal(), "=")
	if !ok {
		return Expiry{}
	}
	return Expiry{keep(rest[:4])}
}

// Service is the three digit service code: it may be shown. A first digit 2 or 6 says that the card
// has a chip (ISO/IEC 7813).
func (t Track2) Service() string {
	_, rest, ok := strings.Cut(t.s.reveal(), "=")
	if !ok {
		return ""
	}
	return rest[4:7]
}

// String is the masked PAN and nothing else of the track.
func (t Track2) String() string {
	if t.IsZero() {
		return ""
	}
	return t.PAN().String() + "=*"
}

// GoString, Format, LogValue, MarshalJSON and MarshalText say the same.
func (t Track2) GoString() string { return "card.Track2(" + t.String() + ")" }

// Format masks under every verb.
func (t Track2) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue masks in slog.
func (t Track2) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalJSON masks; there is no way back.
func (t Track2) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// MarshalText masks; there is no way back.
func (t Track2) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Luhn reports whether digits end in the right check digit (ISO/IEC 7812-1 annex B).
func Luhn(digits string) bool {
	if len(digits) < 2 {
		return false
	}
	sum := 0
	for i := range len(digits) {
		c := digits[len(digits)-1-i]
		if c < '0' || c > '9' {
			return false
		}
		d := int(c - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

func mask(digits string) string {
	if len(digits) <= 4 {
		return strings.Repeat("*", len(digits))
	}
	return strings.Repeat("*", len(digits)-4) + digits[len(digits)-4:]
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
