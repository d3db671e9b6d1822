// Package risk decides whether a payment may be accepted without an online answer.
//
//	v := risk.Decide(policy, counters, risk.Ask{Amount: price, Entry: protocol.EntryContactless})
//	if v.Accept { ... v.Rule, v.Kind ... }
//
// It is pure: what it knows of the past comes in Counters.
package risk

import (
	"coinop/protocol"
	"coinop/protocol/money"
)

// Ask is one payment to decide about.
type Ask struct {
	Amount   money.Amount
	Entry    protocol.EntryMode
	HasRef   bool // the card can be told from others (token, PAR or device HMAC)
	CardSaid protocol.OfflineKind
}

// Verdict says yes or no, by which rule, and how the payment is to be settled.
type Verdict struct {
	Accept bool
	Rule   string // of the yes or of the no
	Kind   protocol.OfflineKind
}

// Decide has one rule so far: offline must be on, the amount within the limit of one payment, and
// the exposure after it within the limits of sum and count.
func Decide(p protocol.Policy, c protocol.Counters, a Ask) Verdict {
	o := p.Offline
	no := func(rule string) Verdict { return Verdict{Rule: rule} }
	switch {
	case !o.On:
		return no("offline_off")
	case o.Kind == 0:
		return no("kind_not_contracted")
	case a.Amount.Currency != p.Currency || a.Amount.Minor <= 0:
		return no("amount")
	case a.Amount.Minor > o.MaxOne:
		return no("one_too_large")
	case c.Exposure < 0 || a.Amount.Minor > o.MaxSum-c.Exposure:
		return no("exposure_full")
	case c.Count >= o.MaxCount:
		return no("count_full")
	}
	return Verdict{Accept: true, Rule: "within_limits", Kind: o.Kind}
}
