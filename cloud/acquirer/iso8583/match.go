package iso8583

import (
	"slices"
	"strconv"
	"strings"

	"coinop/cloud/acquirer"
	"coinop/protocol"
	"coinop/protocol/card"
	"coinop/protocol/money"
)

// Match makes op's Answer of a response. false: m does not answer op, because its class, DE41, DE11
// or DE7 is another's.
//
// Without a DE37 of ours the host may give its own. An approval is believed only when DE4 (unless partial), DE3, DE37, DE42 and DE49 are what was
// sent, and not more is approved than asked with purpose exact; else the Outcome is Mismatch: it
// may stand at the host, and must be reversed. A decline is believed as it is.
func (c Contract) Match(op acquirer.Op, m *Message) (acquirer.Answer, bool) {
	mti, ok := c.mti(op)
	if !ok || m.MTI != response(mti) || trim(m.Get(41)) != trim(op.Merchant.TID) || m.Get(11) != stan(op.STAN) ||
		!slices.Contains(op.SentDE7, acquirer.Stamp(m.Get(7))) {
		return acquirer.Answer{}, false
	}
	ans := acquirer.Answer{
		Raw: m.Get(39), RRN: trim(m.Get(37)), AuthID: trim(m.Get(38)), Settle: m.Get(15), ICC: issuerData(m.Get(55)),
	}
	ans.Outcome, ans.Class = classify(op.Key.Kind, ans.Raw)
	if ans.Outcome != acquirer.OK && ans.Outcome != acquirer.PartialOK {
		return ans, true
	}
	ans.Approved, ok = approved(op, m)
	if !ok || !c.ours(op, m) {
		ans.Outcome = acquirer.Mismatch
		return ans, true
	}
	if op.Key.Kind != acquirer.Authorization && ans.Outcome == acquirer.PartialOK || ans.Approved.Minor < 1 {
		ans.Outcome = acquirer.Mismatch
		return ans, true
	}
	more := ans.Approved.Minor > op.Amount.Minor
	switch {
	case ans.Approved.Minor == op.Amount.Minor:
		ans.Outcome = acquirer.OK
	case more && op.Key.Kind == acquirer.Authorization && op.Purpose == protocol.MaxHold:
		ans.Outcome = acquirer.OK
	case more || ans.Outcome != acquirer.PartialOK:
		ans.Outcome = acquirer.Mismatch
	}
	return ans, true
}

// response is the message type that answers mti: 0100 and 0101 are answered by 0110.
func response(mti string) string { return mti[:2] + string(mti[2]+1) + "0" }

// approved is the amount of m, and whether it could be read in op's currency. Advices and refunds of
// some hosts come back without DE4 or DE49: what is absent there is as sent.
func approved(op acquirer.Op, m *Message) (money.Amount, bool) {
	must := op.Key.Kind == acquirer.Authorization
	if cur := m.Get(49); cur != currency(op.Amount.Currency) && (must || cur != "") {
		return money.Amount{}, false
	}
	if !must && !m.Has(4) {
		return op.Amount, true
	}
	n, err := strconv.ParseInt(m.Get(4), 10, 64)
	return money.New(n, op.Amount.Currency), err == nil
}

func (c Contract) ours(op acquirer.Op, m *Message) bool {
	sent := func(de int, value string, must bool) bool {
		return trim(m.Get(de)) == trim(value) || !must && !m.Has(de)
	}
	de3 := "000000"
	if op.Key.Kind == acquirer.Refund {
		de3 = "200000"
	}
	must := op.Key.Kind == acquirer.Authorization
	return sent(3, de3, must) && (op.RRN == "" || sent(37, op.RRN, must)) && sent(42, op.Merchant.MID, false)
}

// classify is what a DE39 means for an operation. Codes that approve in a way an unattended point
// of sale cannot use (08 honour with identification, 85, Y1, Y3) and codes that say nothing are
// Mismatch: something may stand, so it is undone. 94, duplicate, says that the host has what we
// sent: for an advice that is an OK, for an authorization we have no answer.
func classify(k acquirer.Kind, code string) (acquirer.Outcome, protocol.Code) {
	advice := k == acquirer.Capture || k == acquirer.Reversal || k == acquirer.PartialReversal
	reversal := advice && k != acquirer.Capture
	switch code {
	case "00":
		return acquirer.OK, protocol.CodeNone
	case "11", "16", "87":
		if reversal {
			return acquirer.No, protocol.DeclineFinal
		}
		return acquirer.OK, protocol.CodeNone
	case "10":
		if advice {
			return acquirer.No, protocol.DeclineFinal
		}
		return acquirer.PartialOK, protocol.CodeNone
	case "32":
		if k == acquirer.PartialReversal {
			return acquirer.OK, protocol.CodeNone
		}
		return acquirer.No, protocol.DeclineFinal
	case "25":
		if reversal {
			return acquirer.NotFound, protocol.CodeNone
		}
		return acquirer.No, protocol.DeclineFinal
	case "94":
		if advice {
			return acquirer.OK, protocol.CodeNone
		}
		return acquirer.Mismatch, protocol.CodeNone
	case "", "08", "85", "Y1", "Y3":
		if reversal {
			return acquirer.No, protocol.DeclineFinal
		}
		return acquirer.Mismatch, protocol.CodeNone
	case "06", "09", "19", "68", "90", "91", "92", "96":
		if advice {
			return acquirer.Later, protocol.DeclineTemporary
		}
		return acquirer.No, protocol.DeclineTemporary
	case "30", "81", "88", "89", "95", "97", "98":
		return acquirer.No, protocol.DeclineFormat
	case "01", "02", "60", "66":
		return acquirer.No, protocol.DeclineRefer
	case "04", "07", "33", "34", "35", "36", "37", "38", "41", "43", "67":
		return acquirer.No, protocol.DeclinePickUp
	default:
		return acquirer.No, protocol.DeclineFinal
	}
}

// issuerData keeps of DE55 what a contact card is given: 91, 71, 72.
func issuerData(de55 string) []byte {
	var out []byte
	err := card.EachTLV([]byte(de55), func(tag card.Tag, _, whole []byte) {
		switch tag {
		case card.TagIssuerAuth, card.TagIssuerScript1, card.TagIssuerScript2:
			out = append(out, whole...)
		default: // not for the card
		}
	})
	if err != nil {
		return nil
	}
	return out
}

func trim(s string) string { return strings.TrimRight(s, " ") }
