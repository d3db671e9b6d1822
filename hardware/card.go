package hardware

import (
	"fmt"
	"log/slog"

	"coinop/protocol"
	"coinop/protocol/card"
)

// Card is what a reader read. It prints masked however it is printed: what must stay hidden is in
// types that hide it. Whoever seals it calls Reveal on the parts and then Wipe.
type Card struct {
	Entry  protocol.EntryMode
	CVM    protocol.CVM
	AC     Cryptogram
	Reader string      // serial number of the reader
	Track2 card.Track2 // only from a reader without its own encryption
	PAN    card.PAN    // tag 5A, where there is no track
	Masked card.PAN    // as a reader shows it that encrypts: the first and the last digits, zeros between
	ICC    Hidden      // all data objects as read, card number and track among them
	KSN    []byte      // of Cipher
	Scheme string      // of Cipher
	Cipher []byte      // the reader's own ciphertext, opaque
	PSN    []byte      // card sequence number, tag 5F34
	// Capability is terminal capabilities and type, 9F33 and 9F35, in hex.
	Capability string
	// TapKey is 9F26, 9F36, 9F37: what tells one tap from another.
	TapKey []byte
	Token  string   // the reader's token or PAR (9F24), empty when it gives none
	Loop   LoopCard // a card of the operator's own; then there is nothing of a bank's above
}

// Cryptogram is what an EMV card answered: tag 9F27, bits 8 and 7 (EMV Book 3, table 15).
type Cryptogram uint8

// Cryptograms.
const (
	NoCryptogram Cryptogram = iota // a stripe, or contactless in magnetic stripe mode
	ARQC
	TC
	AAC
)

func (c Cryptogram) String() string { return name([]string{"none", "arqc", "tc", "aac"}, c) }

// DE55 is ICC without what never goes there: the number, the tracks, the name, the dates.
func (c Card) DE55() Hidden {
	var out []byte
	in := c.ICC.Reveal()
	_ = card.EachTLV(in, func(tag card.Tag, _, whole []byte) {
		switch tag {
		case card.TagTrack1Equiv, card.TagTrack2Equiv, card.TagPAN, card.TagHolder, card.TagExpiry,
			card.TagTrack1Discr, card.TagTrack2Discr, card.TagTrack2MSD:
		default:
			out = append(out, whole...)
		}
	})
	clear(in)
	return Hide(out)
}

// Brand and Last4 are what may be shown.
func (c Card) Brand() card.Brand { return c.number().Brand() }

// Last4 is the last four digits, or empty.
func (c Card) Last4() string { return c.number().Last4() }

func (c Card) number() card.PAN {
	if !c.Track2.IsZero() {
		return c.Track2.PAN()
	}
	if c.PAN.IsZero() {
		return c.Masked
	}
	return c.PAN
}

// Wipe zeroes the clear data here and in every copy.
func (c Card) Wipe() {
	c.Track2.Wipe()
	c.PAN.Wipe()
	c.Masked.Wipe()
	c.ICC.Wipe()
}

// String names the brand, the last four digits and how it was read.
func (c Card) String() string {
	n := c.number()
	if !c.Loop.IsZero() {
		return fmt.Sprintf("closed-loop card (%s)", c.Entry)
	}
	if n.IsZero() {
		return fmt.Sprintf("card(%s)", c.Entry)
	}
	return fmt.Sprintf("%s %s (%s)", n.Brand(), n, c.Entry)
}

// GoString, Format, LogValue, MarshalJSON and MarshalText say the same.
func (c Card) GoString() string { return "hardware.Card(" + c.String() + ")" }

// Format masks under every verb.
func (c Card) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// LogValue masks in slog.
func (c Card) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON masks; there is no way back.
func (c Card) MarshalJSON() ([]byte, error) { return []byte(`"` + c.String() + `"`), nil }

// MarshalText masks; there is no way back.
func (c Card) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Hidden is bytes that nothing prints. They are behind a func, because fmt follows pointers and
// slices in unexported fields but prints a func as an address.
type Hidden struct{ f func() *[]byte }

// Hide takes b over.
func Hide(b []byte) Hidden { return Hidden{func() *[]byte { return &b }} }

// Reveal is a copy of the bytes; the caller clears it.
func (h Hidden) Reveal() []byte {
	if h.f == nil {
		return nil
	}
	return append([]byte(nil), *h.f()...)
}

// Len is how many there are.
func (h Hidden) Len() int {
	if h.f == nil {
		return 0
	}
	return len(*h.f())
}

// Wipe zeroes the bytes here and in every copy.
func (h Hidden) Wipe() {
	if h.f != nil {
		b := h.f()
		clear(*b)
		*b = nil
	}
}

// String tells the length only.
func (h Hidden) String() string { return fmt.Sprintf("hidden(%d bytes)", h.Len()) }

// GoString, Format, LogValue, MarshalJSON and MarshalText say the same.
func (h Hidden) GoString() string { return h.String() }

// Format masks under every verb.
func (h Hidden) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(h.String())) }

// LogValue masks in slog.
func (h Hidden) LogValue() slog.Value { return slog.StringValue(h.String()) }

// MarshalJSON masks; there is no way back.
func (h Hidden) MarshalJSON() ([]byte, error) { return []byte(`"` + h.String() + `"`), nil }

// MarshalText masks; there is no way back.
func (h Hidden) MarshalText() ([]byte, error) { return []byte(h.String()), nil }
