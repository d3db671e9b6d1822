package magstripe

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"coinop/hardware"
	"coinop/protocol/card"
)

// errFrame never holds what was refused.
var errFrame = errors.New("not what this head says")

// Swipe is what a head said that may encrypt. Its ciphertext is opaque here: only who has its keys, in the
// cloud, can read it.
type Swipe struct {
	Tracks Tracks    // in clear, or masked where there is a KSN
	Cipher [3][]byte // nil: none
	KSN    []byte    // nil: it does not encrypt
	Serial string    // of the head
}

// Offsets in a report of MagTek's heads with USB HID (MagneSafe). Each track has room for 112 bytes.
const (
	magStatus, magLengths, magCipher = 0, 3, 7
	magSerial, magSerialEnd          = 477, 493
	magKSN, magMaskedLengths         = 495, 505
	magMasked, magRoom               = 508, 112
	magLeast                         = magMasked + 3*magRoom
	magMost                          = 900 // heads say 887; more is two of them
)

// FromMagTek reads a report. It keeps no part of b.
func FromMagTek(b []byte) (Swipe, error) {
	if len(b) < magLeast || len(b) > magMost {
		return Swipe{}, errFrame
	}
	s := Swipe{Serial: printable(b[magSerial:magSerialEnd])}
	if ksn := b[magKSN : magKSN+10]; !bytes.Equal(ksn, make([]byte, 10)) {
		s.KSN = slices.Clone(ksn)
	}
	var text []byte
	defer func() { clear(text) }()
	for i := range 3 {
		n, m := int(b[magLengths+i]), int(b[magMaskedLengths+i])
		if n > magRoom || m > magRoom {
			return Swipe{}, errFrame
		}
		at, masked := b[magCipher+i*magRoom:], b[magMasked+i*magRoom:]
		if s.KSN == nil { // then they are no ciphertext
			text = append(text, at[:n]...)
		} else if n > 0 {
			s.Cipher[i], text = slices.Clone(at[:n]), append(text, masked[:m]...)
		}
		if b[magStatus+i]&1 != 0 {
			text = append(text, "%;+"[i], 'E', end)
		}
	}
	s.Tracks = s.fromText(text)
	return s, nil
}

// Bits of the fields of ID TECH's enhanced format.
const (
	idEnhanced         = 0x80
	idAES              = 0x10 // in the first field: blocks of 16
	idSerial           = 0x80 // in the first field
	idSession, idKSN   = 0x40, 0x80
	idHash             = 20
	idOverhead         = 6 // start, length, and behind the data: check, sum, end
	idStart, idEnd     = 0x02, 0x03
	idHeader, idKSNLen = 7, 10
)

// FromIDTECH reads a frame in the enhanced encrypted format of ID TECH's heads, believed: no head was heard
// yet. It keeps no part of b.
func FromIDTECH(b []byte) (Swipe, error) {
	if len(b) < idOverhead+idHeader || b[0] != idStart || b[len(b)-1] != idEnd || len(b) != idOverhead+int(b[1])+int(b[2])<<8 {
		return Swipe{}, errFrame
	}
	data := b[3 : len(b)-3]
	var lrc, sum byte
	for _, c := range data {
		lrc, sum = lrc^c, sum+c
	}
	if b[len(b)-3] != lrc || b[len(b)-2] != sum || data[0]&idEnhanced == 0 {
		return Swipe{}, errFrame
	}
	lengths, f1, f2 := data[2:5], data[5], data[6]
	rest, short := data[idHeader:], false
	take := func(n int) []byte {
		if n > len(rest) {
			short = true
			return nil
		}
		out := rest[:n]
		rest = rest[n:]
		return out
	}
	var s Swipe
	var text []byte
	defer func() { clear(text) }()
	for i := range 3 {
		if f1>>i&1 != 0 {
			text = append(text, take(int(lengths[i]))...)
		} else if lengths[i] == 0 && data[1]>>i&1 == 0 && data[1]&7 != 0 && i == 1 {
			text = append(text, ';', 'E', end) // the one that is needed was not read
		}
	}
	block := 8
	if f1&0x30 == idAES {
		block = 16
	}
	for i := range 3 {
		if f2>>i&1 != 0 {
			s.Cipher[i] = slices.Clone(take((int(lengths[i]) + block - 1) / block * block))
		}
	}
	if f2&idSession != 0 {
		take(8)
	}
	for i := range 3 {
		if f2>>(i+3)&1 != 0 {
			take(idHash)
		}
	}
	if f1&idSerial != 0 {
		s.Serial = printable(take(10))
	}
	if f2&idKSN != 0 {
		s.KSN = slices.Clone(take(idKSNLen))
	}
	if short || len(rest) != 0 || s.KSN == nil && f2&7 != 0 {
		return Swipe{}, errFrame
	}
	s.Tracks = s.fromText(text)
	return s, nil
}

// fromText is FromText; of a head that encrypts stars are read as zeros, so that a masked track has the
// characters of a track.
func (s Swipe) fromText(text []byte) Tracks {
	if s.KSN != nil {
		for i, c := range text {
			if c == '*' {
				text[i] = '0'
			}
		}
	}
	return FromText(text)
}

// Swipe decides about what such a head said: a card, or the reason why not. s is wiped.
func (r Rules) Swipe(s Swipe, scheme string, today time.Time) (hardware.Card, string) {
	if s.KSN == nil {
		c, reason := r.Clear(s.Tracks, today)
		c.Reader = s.Serial
		return c, reason
	}
	defer s.Tracks.Wipe()
	cipher := s.Cipher[1]
	switch {
	case r.Bank == BankNone:
		return hardware.Card{}, hardware.ReasonBankCard
	case cipher == nil:
		return hardware.Card{}, hardware.ReasonUnreadable
	}
	c := hardware.Card{Reader: s.Serial, KSN: s.KSN, Scheme: scheme, Cipher: cipher}
	var service, expiry string
	if track, err := card.ParseTrack2(string(s.Tracks.T[1])); err == nil {
		service, expiry, c.Masked = track.Service(), track.Expiry().Reveal(), track.PAN()
		track.Wipe()
	} else if n, err := card.ParsePAN(s.Tracks.number()); err == nil { // its expiry date is masked too
		c.Masked = n
	}
	var reason string
	if c.Entry, reason = hardware.JudgeStripe(service, expiry, r.Chip, today); reason != "" {
		c.Masked.Wipe()
		return hardware.Card{}, reason
	}
	return c, ""
}

func printable(b []byte) string {
	var out []byte
	for _, c := range b {
		if c > 0x20 && c < 0x7F && len(out) < 20 {
			out = append(out, c)
		}
	}
	return string(out)
}
