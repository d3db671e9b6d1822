package magstripe

import (
	"bytes"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/card"
)

// Range is numbers of cards by their first digits: From to To, of one length; a prefix alone is both.
type Range struct{ From, To string }

func (r Range) has(number string) bool {
	n := len(r.From)
	return len(number) >= n && number[:n] >= r.From && number[:n] <= r.To
}

// Bank says from which heads bank cards are taken.
type Bank uint8

// Heads that bank cards are taken from.
const (
	BankEncrypted Bank = iota // only from those that encrypt: in clear they put this computer under PCI DSS
	BankNone
	BankClear
)

// Rules are which cards are taken.
type Rules struct {
	Own  []Range // cards of the operator's own; they go before everything else
	Bank Bank
	Chip bool // the stripe of a card with a chip is taken too: whoever does bears the loss of a copied one
}

// Ref is the card reference of a number: the same on every device and in the cloud, and not the number.
func Ref(number string) string { return protocol.StripeRef(number) }

// Clear decides about the tracks of a head that does not encrypt, on that day: a card, or the reason why not.
// t is wiped.
func (r Rules) Clear(t Tracks, today time.Time) (c hardware.Card, reason string) {
	defer t.Wipe()
	if n := t.number(); n != "" {
		for _, own := range r.Own {
			if own.has(n) {
				return hardware.Card{Entry: protocol.EntryStripe, Loop: hardware.LoopCard{Ref: Ref(n)}}, ""
			}
		}
	}
	if t.T[1] == nil {
		return c, hardware.ReasonUnreadable // banks want track 2
	}
	track, err := card.ParseTrack2(string(t.T[1]))
	if err != nil || !track.PAN().Valid() {
		track.Wipe()
		return c, hardware.ReasonUnsupported // a card of somebody else's, or none for money
	}
	if r.Bank != BankClear {
		track.Wipe()
		return c, hardware.ReasonBankCard
	}
	entry, reason := hardware.JudgeStripe(track.Service(), track.Expiry().Reveal(), r.Chip, today)
	if reason != "" {
		track.Wipe()
		return c, reason
	}
	return hardware.Card{Entry: entry, Track2: track}, ""
}

// number is the card's, from track 2 or from track 1 in format B.
func (t Tracks) number() string {
	if b := t.T[1]; b != nil {
		n := b[1 : len(b)-1]
		if i := bytes.IndexByte(n, '='); i >= 0 {
			n = n[:i]
		}
		return string(n)
	}
	if b := t.T[0]; len(b) > 3 && b[1] == 'B' {
		if n, _, ok := strings.Cut(string(b[2:]), "^"); ok {
			return strings.ReplaceAll(n, " ", "") // American Express once grouped them
		}
	}
	return ""
}
