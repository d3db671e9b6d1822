package iso8583

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"coinop/cloud/acquirer"
	"coinop/protocol"
	"coinop/protocol/money"
)

// ErrBuild is wrapped by the errors of Build: the operation lacks something its message needs.
// Nothing was sent; trying again cannot help.
var ErrBuild = errors.New("build message")

// PINCapability is the third digit of DE22.
type PINCapability uint8

// PIN capabilities.
const (
	NoPIN       PINCapability = iota // 2: cannot take a PIN
	CanPIN                           // 1
	PINUnstated                      // 0
)

func (p PINCapability) String() string {
	return [...]string{"none", "capable", "unstated"}[min(int(p), 2)]
}

func (p PINCapability) digit() string { return [...]string{"2", "1", "0"}[min(int(p), 2)] }

// Contract is what a contract with a host fixes for its messages.
type Contract struct {
	acquirer.Profile
	Forwarder string // DE33; none by default
	PIN       PINCapability
}

// amountMax is the largest DE4.
const amountMax = 999_999_999_999

// Build makes the request of op:
//
//	authorization      0100 (flow single: 0200), DE3 000000
//	capture            0220, DE39 op.Reason, DE38, DE90 when op follows a request
//	reversal           0420, DE39 the reason, DE90
//	partial_reversal   0420, and DE95 with the actual amount
//	refund             0200, DE3 200000
//
// and with op.Repeat the repeat of each (0101, 0221 ...), all else unchanged but DE7 where op says
// so. card may be nil for reversals, which hosts find by DE90. DE25 is always 27, unattended and
// cannot retain a card; the KSN of a PIN goes in hex to DE62. Errors wrap ErrBuild.
//
// ISO 8583:1987, 4.4 (fields of each message) and 4.3.35 (DE90).
func (c Contract) Build(op acquirer.Op, card *acquirer.Card) (*Message, error) {
	class, ok := c.mti(op)
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrBuild, op.Key.Kind)
	}
	if op.Repeat {
		class = class[:3] + "1"
	}
	reversal := op.Key.Kind == acquirer.Reversal || op.Key.Kind == acquirer.PartialReversal
	if err := c.check(op, card, reversal); err != nil {
		return nil, err
	}
	m := NewMessage(class)
	m.Set(3, "000000")
	if op.Key.Kind == acquirer.Refund {
		m.Set(3, "200000")
	}
	m.Set(4, amount(op.Amount))
	m.Set(7, string(op.DE7))
	m.Set(11, stan(op.STAN))
	m.Set(12, op.LocalTime[4:])
	m.Set(13, op.LocalTime[:4])
	m.Set(18, op.Merchant.MCC)
	m.Set(19, op.Merchant.Country)
	m.Set(22, entry(op.Entry)+c.PIN.digit())
	m.Set(25, "27")
	m.Set(32, c.Institution)
	m.Set(33, c.Forwarder)
	m.Set(37, op.RRN)
	m.Set(41, op.Merchant.TID)
	m.Set(42, op.Merchant.MID)
	m.Set(43, op.Merchant.Location)
	m.Set(49, currency(op.Amount.Currency))
	if op.Key.Kind != acquirer.Authorization {
		m.Set(38, op.AuthID)
		m.Set(39, op.Reason)
		if op.Original.MTI != "" {
			m.Set(90, original(op.Original))
		}
	}
	if op.Key.Kind == acquirer.PartialReversal {
		m.Set(95, amount(op.Actual)+"000000000000"+"D00000000"+"D00000000")
	}
	if card != nil {
		setCard(m, *card)
	}
	return m, nil
}

func (c Contract) mti(op acquirer.Op) (string, bool) {
	switch op.Key.Kind {
	case acquirer.Authorization:
		if c.Flow == acquirer.Single {
			return "0200", true
		}
		return "0100", true
	case acquirer.Capture:
		return "0220", true
	case acquirer.Reversal, acquirer.PartialReversal:
		return "0420", true
	case acquirer.Refund:
		return "0200", true
	default:
		return "", false
	}
}

func (c Contract) check(op acquirer.Op, card *acquirer.Card, reversal bool) error {
	bad := func(what string) error { return fmt.Errorf("%w: %s: %s", ErrBuild, op.Key, what) }
	switch {
	case op.Amount.Minor < 1 || op.Amount.Minor > amountMax || !op.Amount.Currency.Known():
		return bad("amount")
	case op.STAN < 1 || op.STAN > 999_999:
		return bad("STAN")
	case len(op.DE7) != 10:
		return bad("DE7")
	case len(op.LocalTime) != 10:
		return bad("local time")
	case op.Merchant.TID == "":
		return bad("no TID")
	case op.Key.Kind == acquirer.PartialReversal && (op.Actual.Currency != op.Amount.Currency ||
		op.Actual.Minor < 1 || op.Actual.Minor >= op.Amount.Minor):
		return bad("actual amount")
	case reversal && (len(op.Original.MTI) != 4 || len(op.Original.DE7) != 10 || op.Original.STAN == 0):
		return bad("original")
	case (reversal || op.Key.Kind == acquirer.Capture) && len(op.Reason) != 2:
		return bad("reason")
	case card == nil && !reversal:
		return bad("no card")
	case card != nil && card.PAN.IsZero() && card.Track2.IsZero():
		return bad("card without a number")
	case card != nil && len(card.PINBlock) != 0 && len(card.PINBlock) != 8:
		return bad("PIN block")
	}
	return nil
}

// setCard puts the number only when no track carries it.
func setCard(m *Message, card acquirer.Card) {
	if card.Track2.IsZero() {
		m.Set(2, card.PAN.Reveal())
		m.Set(14, card.Expiry.Reveal())
	} else {
		m.Set(35, card.Track2.Reveal())
	}
	if len(card.PSN) == 1 {
		m.Set(23, fmt.Sprintf("%03x", card.PSN[0]))
	}
	if len(card.PINBlock) == 8 {
		m.Set(26, "12")
		m.Set(52, strings.ToUpper(fmt.Sprintf("%x", card.PINBlock)))
		m.Set(53, "2001010100000000") // PIN under a DUKPT key, ISO format 0
		m.Set(62, strings.ToUpper(fmt.Sprintf("%x", card.KSN)))
	}
	m.Set(55, string(card.ICC))
}

// Network codes of DE70.
const (
	signOn  = "001"
	signOff = "002"
	echo    = "301"
)

// network is an 0800 of code.
func (c Contract) network(code string, n acquirer.STAN, de7 acquirer.Stamp) *Message {
	m := NewMessage("0800")
	m.Set(7, string(de7))
	m.Set(11, stan(n))
	m.Set(32, c.Institution)
	m.Set(33, c.Forwarder)
	m.Set(70, code)
	return m
}

// networkReply answers a host's 0800.
func networkReply(req *Message) *Message {
	m := NewMessage("0810")
	for _, de := range []int{7, 11, 32, 33, 70} {
		m.Set(de, req.Get(de))
	}
	m.Set(39, "00")
	return m
}

func amount(a money.Amount) string { return digits(a.Minor, amountMax+1) }

func stan(n acquirer.STAN) string { return digits(int64(n), 1e6) }

func currency(c money.Currency) string { return digits(int64(c), 1e3) }

// digits are as many as over has zeros. n is not negative, and less than over.
func digits(n, over int64) string { return strconv.FormatInt(over+n, 10)[1:] }

func original(o acquirer.Original) string {
	return o.MTI + stan(o.STAN) + string(o.DE7) + institution(o.Acquirer) + institution(o.Forwarder)
}

// institution is DE32 or DE33 as DE90 holds it: 11 digits, right-justified.
func institution(s string) string {
	return strings.Repeat("0", max(0, 11-len(s))) + s
}

// entry is the first two digits of DE22.
func entry(e protocol.EntryMode) string {
	switch e {
	case protocol.EntryManual:
		return "01"
	case protocol.EntryBarcode:
		return "03"
	case protocol.EntryChip:
		return "05"
	case protocol.EntryContactless:
		return "07"
	case protocol.EntryStripe:
		return "90"
	case protocol.EntryFallback:
		return "80"
	case protocol.EntryMSD:
		return "91"
	default:
		return "00"
	}
}
