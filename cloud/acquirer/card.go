package acquirer

import (
	"context"
	"fmt"
	"log/slog"

	"coinop/protocol"
	"coinop/protocol/card"
)

// Card is the card data of one message to a host. It exists while the message is packed and sent,
// and prints masked.
type Card struct {
	PAN      card.PAN    // DE2, when there is no track
	Expiry   card.Expiry // DE14, with DE2
	Track2   card.Track2 // DE35; only of an authorization
	PSN      []byte      // DE23: card sequence number, tag 5F34, one byte of BCD; nil = none
	ICC      []byte      // DE55: BER-TLV; only of an authorization
	PINBlock []byte      // DE52, 8 bytes
	KSN      []byte      // key serial number of PINBlock

	Loop *protocol.SealedLoop // a closed-loop card; then there is nothing above
}

// Cards hands over the card of a payment: the vault. An authorization's use gets track, ICC and PIN
// and is the only one; use returns nil once the message was written, so that the vault drops them,
// and an error when it was not, so that another host may be tried. use must not keep what it got.
type Cards interface {
	WithCard(ctx context.Context, key OpKey, use func(Card) error) error
}

// String is the masked number and what else is there.
func (c Card) String() string {
	if c.Loop != nil {
		return "card{closed loop}"
	}
	return fmt.Sprintf("card{%s track2:%t icc:%d pin:%t}", c.PAN, !c.Track2.IsZero(), len(c.ICC), len(c.PINBlock) > 0)
}

// Format prints String under every verb.
func (c Card) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// GoString is String.
func (c Card) GoString() string { return c.String() }

// LogValue is String.
func (c Card) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is String; there is no way back.
func (c Card) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Wipe zeroes everything of the card, here and in its copies.
func (c Card) Wipe() {
	c.PAN.Wipe()
	c.Expiry.Wipe()
	c.Track2.Wipe()
	for _, b := range [][]byte{c.PSN, c.ICC, c.PINBlock, c.KSN} {
		clear(b)
	}
	if c.Loop != nil {
		clear(c.Loop.UID)
		*c.Loop = protocol.SealedLoop{}
	}
}
