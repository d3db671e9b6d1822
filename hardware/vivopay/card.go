package vivopay

import (
	"bytes"
	"encoding/hex"
	"errors"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/card"
)

// errData never holds what was refused.
var errData = errors.New("not the data of a transaction")

// Tags that are looked at, beside those protocol/card names (EMV Book 3, annex A; the reader's own).
const (
	tagPSN      card.Tag = 0x5F34
	tagAmount   card.Tag = 0x9F02
	tagCrypto   card.Tag = 0x9F26
	tagCID      card.Tag = 0x9F27
	tagATC      card.Tag = 0x9F36
	tagUN       card.Tag = 0x9F37
	tagTermCap  card.Tag = 0x9F33
	tagTermType card.Tag = 0x9F35
	tagPAR      card.Tag = 0x9F24
	tagCVMR     card.Tag = 0x9F34
	tagClearing card.Tag = 0xE1     // the clearing record: a template
	tagOutcome  card.Tag = 0xFFEE01 // the reader's own templates of data objects
	tagKSN      card.Tag = 0xDFEE12
	tagKSN2     card.Tag = 0xFFEE12
	tagCipher   card.Tag = 0xDFEF4D
	tagTrack2   card.Tag = 0xDFEF18 // of a card without a chip's data
	tagTrack2b  card.Tag = 0xFFEE14 // the same in older firmware
	tagSource   card.Tag = 0xDF30   // 0C: a stripe that was swiped
	tagPOSEntry card.Tag = 0x9F39   // 90: the same; 80: because its chip failed
)

// ParseCard reads the data of a response to Activate with status 00 or 23. To 02-01 it is track 1 and track 2,
// each with a byte of length, a byte for track 3 (always empty), one that says whether a clearing record
// follows, then data objects in any order; to 02-40 a byte of attributes and data objects. Which of the two,
// the data says. data is cleared; what is kept is hidden in the Card.
func ParseCard(data []byte) (hardware.Card, error) {
	c, _, err := parseCard(data)
	return c, err
}

// parseCard also gives the amount the card was asked for, tag 9F02; nil where there is none.
func parseCard(data []byte) (hardware.Card, []byte, error) {
	defer clear(data)
	var p parts
	t2, err := p.response(data)
	if err != nil {
		p.wipe()
		return hardware.Card{}, nil, errData
	}
	c := hardware.Card{Entry: protocol.EntryContactless}
	if err := p.fill(&c, t2); err != nil {
		p.wipe()
		return hardware.Card{}, nil, err
	}
	c.ICC = hardware.Hide(p.icc)
	return c, bytes.Clone(p.at[tagAmount]), nil
}

// response takes the data of a response apart: the objects, and track 2 where it stands before them.
func (p *parts) response(data []byte) (t2 []byte, err error) {
	// Attributes of what comes without contact or by the stripe are never 00. The length of track 1 is, where a chip
	// gave the data; where it is not, track 1 follows.
	if len(data) > attributions && data[0] != 0 && data[attributions] != '%' && card.EachTLV(data[attributions:], func(card.Tag, []byte, []byte) {}) == nil {
		p.swiped = data[0]&0x18 == 0x08 // bits 4 and 3: 01 is a stripe
		return nil, p.objects(data[attributions:], 0)
	}
	_, b, ok := cutTrack(data)
	t2, b, ok2 := cutTrack(b)
	if !ok || !ok2 {
		return nil, errData
	}
	if _, rest, ok := cutTrack(b); ok && len(rest) > 0 { // else a stripe's tracks alone
		return t2, p.objects(rest[1:], 0)
	}
	return t2, nil
}

// cutTrack takes a track with its byte of length from the front.
func cutTrack(b []byte) (track, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n], b[n:], true
}

// parts is the data objects, flattened out of the templates.
type parts struct {
	icc    []byte
	at     map[card.Tag][]byte // values, parts of the reader's data
	swiped bool
}

func (p *parts) objects(b []byte, depth int) error {
	if p.at == nil {
		p.at = map[card.Tag][]byte{}
	}
	var inner error
	err := card.EachTLV(b, func(tag card.Tag, value, whole []byte) {
		switch tag {
		case tagClearing, tagOutcome:
			if depth > 2 {
				inner = errData
			} else if err := p.objects(value, depth+1); err != nil {
				inner = err
			}
			return
		default:
			if own(tag) {
				break
			}
			if _, twice := p.at[tag]; !twice { // DE55 may hold a tag once
				p.icc = append(p.icc, whole...)
			}
		}
		if _, twice := p.at[tag]; !twice {
			p.at[tag] = value
		}
	})
	return errors.Join(err, inner)
}

// own reports a tag of the reader's, which is nothing a bank knows, and may be a track.
func own(tag card.Tag) bool {
	return tag>>8 == 0xDFEE || tag>>8 == 0xDFEF || tag>>8 == 0xFFEE || tag == tagSource
}

func (p *parts) wipe() { clear(p.icc) }

func (p *parts) fill(c *hardware.Card, t2 []byte) error {
	take := func(tags ...card.Tag) []byte {
		for _, t := range tags {
			if v := p.at[t]; len(v) > 0 {
				return bytes.Clone(v)
			}
		}
		return nil
	}
	c.KSN, c.Cipher, c.PSN = take(tagKSN, tagKSN2), take(tagCipher), take(tagPSN)
	if c.Cipher != nil {
		c.Scheme = "idtech"
	}
	if par := p.at[tagPAR]; len(par) > 0 {
		c.Token = string(bytes.Map(printable, par))
	}
	if caps := p.at[tagTermCap]; len(caps) > 0 {
		c.Capability = hex.EncodeToString(append(bytes.Clone(caps), p.at[tagTermType]...))
	}
	for _, t := range []card.Tag{tagCrypto, tagATC, tagUN} {
		c.TapKey = append(c.TapKey, p.at[t]...)
	}
	if cid := p.at[tagCID]; len(cid) == 1 {
		switch cid[0] >> 6 {
		case 0:
			c.AC = hardware.AAC
		case 1:
			c.AC = hardware.TC
		case 2:
			c.AC = hardware.ARQC
		}
	} else {
		c.Entry = protocol.EntryMSD
	}
	switch source, pos := p.at[tagSource], p.at[tagPOSEntry]; {
	case bytes.Equal(pos, []byte{0x80}):
		c.Entry = protocol.EntryFallback
	case p.swiped, bytes.Equal(source, []byte{0x0C}), bytes.Equal(pos, []byte{0x90}):
		c.Entry = protocol.EntryStripe
	}
	c.CVM = cvm(p.at[tagCVMR])
	return p.number(c, t2)
}

// number is the track: the stripe's own or tag 57; else tag 5A alone. An encrypting reader gives none
// of them, or masked.
func (p *parts) number(c *hardware.Card, t2 []byte) error {
	if tag57 := p.at[card.TagTrack2Equiv]; len(tag57) > 0 {
		if t, err := card.ParseTrack2(hexUpper(tag57)); err == nil {
			c.Track2 = t
			return nil
		}
	}
	for _, t2 := range [][]byte{t2, p.at[tagTrack2], p.at[tagTrack2b]} {
		if t, err := card.ParseTrack2(string(t2)); err == nil {
			c.Track2 = t
			return nil
		}
	}
	if pan := p.at[card.TagPAN]; len(pan) > 0 {
		if n, err := card.ParsePAN(string(bytes.TrimRight([]byte(hexUpper(pan)), "F"))); err == nil {
			c.PAN = n
			return nil
		}
	}
	if c.Cipher == nil {
		return errData
	}
	return nil
}

// cvm reads the first byte of CVM results (EMV Book 3, table 39; Book 4, annex A4).
func cvm(results []byte) protocol.CVM {
	if len(results) == 0 {
		return protocol.CVMNone
	}
	switch results[0] & 0x3F {
	case 0x01, 0x03, 0x04, 0x05:
		return protocol.CVMOfflinePIN
	case 0x02:
		return protocol.CVMOnlinePIN
	case 0x1E:
		return protocol.CVMSignature
	default: // 1F: none required. A phone's own check is told by kernels in tags of their own.
		return protocol.CVMNone
	}
}

func hexUpper(b []byte) string { return string(bytes.ToUpper([]byte(hex.EncodeToString(b)))) }

func printable(r rune) rune {
	if r < 0x21 || r > 0x7E {
		return -1
	}
	return r
}
