package cashbook

import (
	"bytes"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Payments are a lane's payments in cash that are not wholly accounted for: what tells an outcome in cash
// from a card's. Whoever folds records of buyers' money folds them with it. The zero value is none.
//
// At most 64 are open. One more, and the oldest is given up: what nobody said of it is added to Lost.
type Payments struct {
	Open map[protocol.PaymentID]*Payment `json:"open,omitempty"`
	Lost int64                           `json:"lost,omitempty"` // minor units
}

const openMost = 64

// Payment is one, in minor units: what came in, and what is said to have become of it.
type Payment struct {
	In  int64 `json:"in"`
	Out int64 `json:"out"` // sold, given back, owed, or not known
}

// Moved is what a record says of buyers' money, in minor units of Currency.
type Moved struct {
	Currency       money.Currency
	In             int64
	Bill, Box      bool  // of what came in: a bill, or a coin that went to the box
	Out            int64 // change that came out
	Short, Unknown int64 // change that did not, or of which nobody can tell
	ByHand         int64 // taken out at the changer's buttons
	Captured       bool
	Card           bool              // not in cash
	Sold           int64             // of Captured
	Counted        []protocol.VendID // that it was for
}

// See takes a record in. It says nothing of those that are not about buyers' money.
func (p *Payments) See(body protocol.Body) (m Moved, ok bool) {
	switch b := body.(type) {
	case protocol.CashIn:
		m = Moved{Currency: b.Value.Currency, In: b.Value.Minor, Bill: b.Bill, Box: b.Box && !b.Bill}
		p.open(b.Payment).In += m.In
	case protocol.PaymentOutcome:
		m.Currency, m.Card = b.Amount.Currency, p.Open[b.Payment] == nil
		if b.What == protocol.Capture {
			m.Captured, m.Sold, m.Counted = true, b.Amount.Minor, b.Counted
			p.end(b.Payment, m.Sold)
		}
	case protocol.ChangePaid:
		m = Moved{Currency: b.Given.Currency, Out: b.Given.Minor, Short: b.Short.Minor}
		p.end(b.Payment, m.Out+m.Short)
	case protocol.ChangeUnknown:
		m = Moved{Currency: b.Amount.Currency, Unknown: b.Amount.Minor}
		p.end(b.Payment, m.Unknown)
	case protocol.CashByHand:
		m = Moved{Currency: b.Value.Currency, ByHand: b.Value.Minor}
	default:
		return m, false
	}
	return m, true
}

// Held is what came in of which nothing is said yet.
func (p *Payments) Held() int64 {
	n := p.Lost
	for _, x := range p.Open {
		n += x.In - x.Out
	}
	return n
}

func (p *Payments) open(id protocol.PaymentID) *Payment {
	if p.Open == nil {
		p.Open = map[protocol.PaymentID]*Payment{}
	}
	if p.Open[id] == nil {
		p.Open[id] = &Payment{}
	}
	if len(p.Open) > openMost {
		oldest := id // ids begin with the time they were made at
		for k := range p.Open {
			if k != id && (oldest == id || bytes.Compare(k[:], oldest[:]) < 0) {
				oldest = k
			}
		}
		p.Lost += p.Open[oldest].In - p.Open[oldest].Out
		delete(p.Open, oldest)
	}
	return p.Open[id]
}

// end is what became of some of a payment; it is forgotten when all of it is accounted for. Of one whose
// coins nobody here saw come in, nothing is held.
func (p *Payments) end(id protocol.PaymentID, minor int64) {
	x := p.Open[id]
	if x == nil {
		return
	}
	if x.Out += minor; x.Out == x.In {
		delete(p.Open, id)
	}
}
