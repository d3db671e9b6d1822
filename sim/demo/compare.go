package demo

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/payment"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Outside is what others than we say: banks, what fell, what cash the machines counted.
type Outside struct {
	Host      []hostsim.Entry
	Terminals []AtTerminal
	Drops     []Fallen
	Moved     []InMachine
}

// Ours is what our ledger and the records in it say.
type Ours struct {
	Payments []Booked
	Cash     []Explained
	Told     int // sales of machines for cash of their own, of which they told
}

// AtTerminal is what the provider of a machine's payment terminal has.
type AtTerminal struct {
	TID   string // of the machine
	Books []virtual.TerminalTx
}

// InMachine is cash that moved at a machine, in minor units, by its own count.
type InMachine struct {
	Device   protocol.DeviceID
	Currency money.Currency
	In, Out  int64
	Doubt    int64 // of In: came in as its agent was killed, and may not have been written
}

// Explained is the cash in a machine that our books explain, in minor units.
type Explained struct {
	Device   protocol.DeviceID
	Currency money.Currency
	Sold     int64    // by the ledger
	Owed     int64    // to buyers, in cases
	Named    int64    // what the machine kept or lost by its own counters: a finding of package cashbook
	Unknown  int64    // of Owed: may have come out
	Names    []string // of everything that does not fit
}

// Booked is what the ledger says of one payment.
type Booked struct {
	Device   protocol.DeviceID
	TID      string
	Sale     protocol.SaleID
	Payment  protocol.PaymentID
	By       protocol.AuthorizedBy
	State    payment.State
	Asked    money.Amount
	Price    money.Amount // of its sale, as it was opened; none: Asked
	Captured money.Amount // posted to the merchant
	Owed     money.Amount // change that did not come out
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

// Verdict is what comparing the books gave.
type Verdict struct {
	Sales    int // payments that were captured
	Told     int // sales of machines for cash of their own
	Captured []money.Amount
	Voided   int
	Declined int
	Refused  int // never sent to a host
	Cases    int

	Lost        int // fell without a capture, and no case says so
	Doubled     int // captured without a fall, or approved twice for one sale
	Unexplained int // money at a host, a terminal or in a machine nobody can account for, or books that differ
	Cash        []CashSum
	Unbalanced  error

	Named    []string // cash that does not fit, and why
	Findings []string // what is behind the numbers that must be 0
}

// CashSum is all cash of a currency, in minor units: what is in the machines of what buyers put in, and how much
// of it our books explain.
type CashSum struct {
	Currency         money.Currency
	Explained, Moved int64
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
	cash := make([]string, 0, len(v.Cash))
	for _, s := range v.Cash {
		cash = append(cash, fmt.Sprintf("%s of %s", money.New(s.Explained, s.Currency).Decimal(), money.New(s.Moved, s.Currency)))
	}
	if len(cash) == 0 {
		cash = append(cash, "nothing of nothing")
	}
	return fmt.Sprintf("sales %d · captured %s · voided %d · declined %d · cases %d · lost %d · doubled %d · unexplained %d · cash explained %s · %s",
		v.Sales, strings.Join(captured, " + "), v.Voided, v.Declined, v.Cases, v.Lost, v.Doubled, v.Unexplained, strings.Join(cash, " + "), ledger)
}

// shelf is what cannot be told apart from outside: one machine's items of one price.
type shelf struct {
	tid   string
	price money.Amount
}

// Compare holds books that nobody shares against each other: what the host and the terminals say of the
// buyers' accounts, what our ledger says, what fell, and what cash the machines counted. Everything must have
// settled.
//
// Hosts, terminals and the ledger name the same payments, so they must agree payment by payment. Cash has no
// names: what is in a machine of what was put in must be sold, owed in a case, or named by what its own
// counters say. A machine
// knows nothing of payments: falls and captures of one machine and price are counted. A sale with a
// case (nobody knows what fell) may have fallen or not; it explains one difference in its own
// direction, and nothing else does.
func Compare(theirs Outside, ours Ours) Verdict {
	ledger := ours.Payments
	c := comparison{own: map[string]int{}, debited: make([]int64, len(ledger)), shelves: map[shelf]*count{}}
	for i, b := range ledger {
		for _, a := range b.Asks {
			c.own[entryKey(b.TID, a.STAN, a.RRN)] = i
		}
	}
	c.host(theirs.Host, ledger)
	for _, t := range theirs.Terminals {
		c.terminal(t, ledger)
	}
	for i, b := range ledger {
		c.booked(b, c.debited[i])
	}
	for _, d := range theirs.Drops {
		c.shelf(d.TID, d.Price).fell++
	}
	c.count()
	c.cash(theirs.Moved, ours.Cash)
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

// terminal goes through the books of a terminal's provider. A payment has our reference there, the end of its id; what
// ends one names its receipt.
func (c *comparison) terminal(t AtTerminal, ledger []Booked) {
	refs := map[string]int{}
	for i, b := range ledger {
		if b.By == protocol.ByTerminal && b.TID == t.TID {
			refs[hex.EncodeToString(b.Payment[10:])] = i
		}
	}
	of, live := map[int]string{}, map[string]int64{}
	var order []string
	for _, x := range t.Books {
		ref := strings.ToLower(x.Ref)
		if x.Of > 0 {
			ref = of[x.Of]
		} else {
			of[x.Receipt] = ref
			order = append(order, ref)
		}
		live[ref] += x.Standing
		if x.Kind == "hold" && x.Standing != 0 {
			c.find(&c.v.Unexplained, "terminal of %s, receipt %d: a hold of %s is left", t.TID, x.Receipt, minorText(x.Standing))
		}
	}
	sales, told := map[protocol.SaleID]int{}, map[string]bool{}
	for _, ref := range order {
		if live[ref] == 0 || told[ref] {
			continue
		}
		told[ref] = true
		i, known := refs[ref]
		if !known {
			c.find(&c.v.Unexplained, "terminal of %s: %s stand as %q, no payment of ours", t.TID, minorText(live[ref]), ref)
			continue
		}
		c.debited[i] += live[ref]
		if sales[ledger[i].Sale]++; sales[ledger[i].Sale] == 2 {
			c.find(&c.v.Doubled, "terminal of %s: a second approval of sale %s stands", t.TID, ledger[i].Sale)
		}
	}
}

// cash holds what the machines counted against what we explain of it.
func (c *comparison) cash(moved []InMachine, ours []Explained) {
	type key struct {
		device   protocol.DeviceID
		currency money.Currency
	}
	books := map[key]Explained{}
	for _, x := range ours {
		books[key{x.Device, x.Currency}] = x
		c.v.Named = append(c.v.Named, x.Names...)
	}
	sums := map[money.Currency]*CashSum{}
	judge := func(m InMachine, x Explained) {
		in, most := m.In-m.Out, x.Sold+x.Owed+x.Named
		explained := min(in, most)
		where := fmt.Sprintf("cash of %s: %s went in, %s came back; sold %s, owed %s, named %s", m.Device, minorText(m.In), minorText(m.Out),
			minorText(x.Sold), minorText(x.Owed), minorText(x.Named))
		switch {
		case in > most+m.Doubt:
			c.find(&c.v.Unexplained, "%s: nothing explains %s", where, minorText(in-most))
		case in < most-x.Unknown:
			c.find(&c.v.Unexplained, "%s: %s of that is not there", where, minorText(most-in))
		}
		if sums[m.Currency] == nil {
			sums[m.Currency] = &CashSum{Currency: m.Currency}
		}
		sums[m.Currency].Moved += in
		sums[m.Currency].Explained += explained
	}
	for _, m := range moved {
		k := key{m.Device, m.Currency}
		judge(m, books[k])
		delete(books, k)
	}
	for _, x := range ours { // of cash that never moved
		if _, left := books[key{x.Device, x.Currency}]; left && x.Sold+x.Owed+x.Named != 0 {
			judge(InMachine{Device: x.Device, Currency: x.Currency}, x)
		}
	}
	for _, currency := range slices.Sorted(maps.Keys(sums)) {
		c.v.Cash = append(c.v.Cash, *sums[currency])
	}
}

// names reports a case that says that change is owed.
func (b Booked) names() bool {
	return slices.ContainsFunc(b.Cases, Question.ofChange)
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
	if b.By == protocol.ByCash { // it has no name outside: cash is held against what machines counted
		debited = b.Captured.Minor
	}
	if b.Owed.Minor != 0 && !b.names() {
		c.find(&c.v.Unexplained, "%s: %s of change are owed, no case says so", name, b.Owed)
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
	doubts := 0
	for _, q := range b.Cases {
		c.v.Cases++
		switch charged := b.Captured.Minor > 0; {
		case q.ofChange() && b.By == protocol.ByCash && b.Owed.Minor > 0:
			continue // about what did not come back, not about what fell
		case q.Cause != protocol.CasePresumed && q.Cause != protocol.CaseUnknown:
			c.find(&c.v.Unexplained, "%s: case %s, which nothing here can cause", name, q.Cause)
		case q.Charged != charged:
			c.find(&c.v.Unexplained, "%s: its case says charged %t", name, q.Charged)
		case doubts > 0: // of the same sale: it explains nothing more
		case charged:
			c.shelf(b.TID, b.Captured).chargedDoubt++
		default:
			c.shelf(b.TID, b.price()).freeDoubt++
		}
		doubts++
	}
}

// price is of what was to fall.
func (b Booked) price() money.Amount {
	if b.Price.Minor > 0 {
		return b.Price
	}
	return b.Asked
}

func (q Question) ofChange() bool {
	return q.Cause == protocol.CaseChangeShort || q.Cause == protocol.CaseChangeUnknown
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
