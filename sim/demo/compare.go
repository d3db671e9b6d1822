package demo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/payment"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Booked is what the ledger says of one payment.
type Booked struct {
	Device   protocol.DeviceID
	TID      string
	Sale     protocol.SaleID
	Payment  protocol.PaymentID
	State    payment.State
	Asked    money.Amount
	Captured money.Amount // posted to the merchant
	Open     money.Amount // held, or not confirmed by the host: nothing once all has settled
	Asks     []Ask        // every authorization that may have reached the host
	Cases    []Question   // of its sale
}

// Ask names an authorization as it stands in the host's books.
type Ask struct{ STAN, RRN string }

// Question is a case: an open question about a sale's money.
type Question struct {
	Cause   protocol.CaseCause
	Charged bool
}

// Fallen is an item that fell out of a machine.
type Fallen struct {
	TID   string // of the machine
	N     int    // its count
	Price money.Amount
}

// Verdict is what comparing the three books gave.
type Verdict struct {
	Sales    int // payments that were captured
	Captured []money.Amount
	Voided   int
	Declined int
	Refused  int // never sent to a host
	Cases    int

	Lost        int // fell without a capture, and no case says so
	Doubled     int // captured without a fall, or approved twice for one sale
	Unexplained int // money at the host nobody can account for, or books that differ
	Unbalanced  error

	Findings []string // what is behind the numbers that must be 0
}

// OK reports that nothing is wrong.
func (v Verdict) OK() bool {
	return v.Lost == 0 && v.Doubled == 0 && v.Unexplained == 0 && v.Unbalanced == nil
}

// String is the last line of the demo.
func (v Verdict) String() string {
	captured := make([]string, 0, len(v.Captured))
	for _, a := range v.Captured {
		captured = append(captured, a.String())
	}
	if len(captured) == 0 {
		captured = append(captured, "nothing")
	}
	ledger := "ledger balanced"
	if v.Unbalanced != nil {
		ledger = "ledger NOT balanced"
	}
	return fmt.Sprintf("sales %d · captured %s · voided %d · declined %d · cases %d · lost %d · doubled %d · unexplained %d · %s",
		v.Sales, strings.Join(captured, " + "), v.Voided, v.Declined, v.Cases, v.Lost, v.Doubled, v.Unexplained, ledger)
}

// shelf is what cannot be told apart from outside: one machine's items of one price.
type shelf struct {
	tid   string
	price money.Amount
}

// Compare holds three books that nobody shares against each other: what the host says of the
// buyers' accounts, what our ledger says, and what fell. Everything must have settled.
//
// The host and the ledger name the same payments, so they must agree payment by payment. A machine
// knows nothing of payments: falls and captures of one machine and price are counted. A sale with a
// case (nobody knows what fell) may have fallen or not; it explains one difference in its own
// direction, and nothing else does.
func Compare(host []hostsim.Entry, ledger []Booked, drops []Fallen) Verdict {
	c := comparison{own: map[string]int{}, debited: make([]int64, len(ledger)), shelves: map[shelf]*count{}}
	for i, b := range ledger {
		for _, a := range b.Asks {
			c.own[entryKey(b.TID, a.STAN, a.RRN)] = i
		}
	}
	c.host(host, ledger)
	for i, b := range ledger {
		c.booked(b, c.debited[i])
	}
	for _, d := range drops {
		c.shelf(d.TID, d.Price).fell++
	}
	c.count()
	return c.v
}

type comparison struct {
	v       Verdict
	own     map[string]int // index into the ledger by entryKey
	debited []int64        // at the host, by index into the ledger
	shelves map[shelf]*count
}

type count struct {
	fell, captured int
	chargedDoubt   int // captures of sales that may not have fallen
	freeDoubt      int // sales that may have fallen without a capture
}

func entryKey(tid, stan, rrn string) string { return tid + "|" + stan + "|" + rrn }

func (c *comparison) shelf(tid string, price money.Amount) *count {
	k := shelf{tid, price}
	if c.shelves[k] == nil {
		c.shelves[k] = new(count)
	}
	return c.shelves[k]
}

func (c *comparison) find(n *int, format string, args ...any) {
	*n++
	c.v.Findings = append(c.v.Findings, fmt.Sprintf(format, args...))
}

// host goes through the host's entries: whose they are, and whether something still stands.
func (c *comparison) host(entries []hostsim.Entry, ledger []Booked) {
	live := map[protocol.SaleID]int{}
	for _, e := range entries {
		i, known := c.own[entryKey(e.TID, e.STAN, e.RRN)]
		where := fmt.Sprintf("host entry %s STAN %s of %s", e.TID, e.STAN, minorText(e.Asked))
		switch {
		case !known && e.Stands() != 0:
			c.find(&c.v.Unexplained, "%s: %s stand, no payment of ours", where, minorText(e.Stands()))
			continue
		case !known:
			continue
		case e.Held != 0:
			c.find(&c.v.Unexplained, "%s: a hold of %s is left (payment %s, %s)", where, minorText(e.Held),
				ledger[i].Payment, ledger[i].State)
		}
		c.debited[i] += e.Captured - e.Refunded
		if e.Approved > 0 && !e.Reversed {
			sale := ledger[i].Sale
			if live[sale]++; live[sale] == 2 {
				c.find(&c.v.Doubled, "%s: a second approval of sale %s stands", where, sale)
			}
		}
	}
}

// booked goes through one payment of the ledger.
func (c *comparison) booked(b Booked, debited int64) {
	name := fmt.Sprintf("payment %s of %s at %s (%s)", b.Payment, b.Asked, b.Device, b.State)
	switch b.State {
	case payment.Declined:
		c.v.Declined++
	case payment.Reversed:
		c.v.Voided++
	case payment.RefusedUnsent:
		c.v.Refused++
	}
	if !b.State.Final() {
		c.find(&c.v.Unexplained, "%s: still awaits something", name)
	}
	if b.Open.Minor != 0 {
		c.find(&c.v.Unexplained, "%s: %s are open in the ledger", name, b.Open)
	}
	if debited != b.Captured.Minor {
		c.find(&c.v.Unexplained, "%s: the ledger captured %s, the host %s", name, minorText(b.Captured.Minor), minorText(debited))
	}
	if b.Captured.Minor > 0 {
		c.v.Sales++
		c.captured(b.Captured)
	}
	if debited > 0 {
		c.shelf(b.TID, money.New(debited, b.Asked.Currency)).captured++
	}
	for i, q := range b.Cases {
		c.v.Cases++
		switch charged := b.Captured.Minor > 0; {
		case q.Cause != protocol.CasePresumed && q.Cause != protocol.CaseUnknown:
			c.find(&c.v.Unexplained, "%s: case %s, which nothing here can cause", name, q.Cause)
		case q.Charged != charged:
			c.find(&c.v.Unexplained, "%s: its case says charged %t", name, q.Charged)
		case i > 0: // of the same sale: it explains nothing more
		case charged:
			c.shelf(b.TID, b.Captured).chargedDoubt++
		default:
			c.shelf(b.TID, b.Asked).freeDoubt++
		}
	}
}

func (c *comparison) captured(a money.Amount) {
	for i := range c.v.Captured {
		if sum, err := c.v.Captured[i].Add(a); err == nil {
			c.v.Captured[i] = sum
			return
		}
	}
	c.v.Captured = append(c.v.Captured, a)
	slices.SortFunc(c.v.Captured, func(x, y money.Amount) int { return cmp.Compare(x.Currency, y.Currency) })
}

// count compares falls with captures, shelf by shelf.
func (c *comparison) count() {
	keys := make([]shelf, 0, len(c.shelves))
	for k := range c.shelves {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y shelf) int {
		return cmp.Or(cmp.Compare(x.tid, y.tid), cmp.Compare(x.price.Minor, y.price.Minor))
	})
	for _, k := range keys {
		n := c.shelves[k]
		where := fmt.Sprintf("terminal %s, %s: %d fell, %d captured, cases %d charged %d not", k.tid, k.price, n.fell, n.captured,
			n.chargedDoubt, n.freeDoubt)
		for range n.fell - n.captured - n.freeDoubt {
			c.find(&c.v.Lost, "%s: one fell that nobody paid", where)
		}
		for range n.captured - n.chargedDoubt - n.fell {
			if n.fell > 0 {
				c.find(&c.v.Doubled, "%s: one paid that did not fall", where)
			} else {
				c.find(&c.v.Unexplained, "%s: money for what never fell", where)
			}
		}
	}
}

func minorText(minor int64) string { return fmt.Sprintf("%d.%02d", minor/100, minor%100) }
