// Package cashbook is what a machine's records say of cash: what came in, what was sold and given back,
// what its counters say beside that, what was collected, and what of it does not fit, by name.
//
//	b := cashbook.New()
//	b.See(opened)                   // every record of a device, in order
//	c := b.Lane(1).Count(reading)   // what a reading of the machine's counters adds: a record
//	for _, r := range b.Reports() { … }
//
// It is pure. A machine that owns its cash tells by CASH SALE and by its counters; where the agent owns
// it, its own records say all. Nothing is guessed: a difference that no record explains has a cause that
// says so.
package cashbook

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Book is the cash of a device, by lane.
type Book struct {
	lanes map[protocol.Lane]*Lane
	open  map[protocol.Lane]bool // a sale is, or a payout
}

// New is an empty one.
func New() *Book { return &Book{map[protocol.Lane]*Lane{}, map[protocol.Lane]bool{}} }

// Lane is the cash at one place to buy.
type Lane struct {
	id       protocol.Lane
	currency money.Currency
	from, to protocol.UnixMS

	read     *protocol.CountersRead // the last
	heard    total                  // CASH SALEs since it
	cards    total                  // captured of our card sales since it, and their vends
	emptied  *protocol.Till         // counters when box and stacker were emptied last, or of the baseline since
	bags     map[string]*bag
	bagOrder []string
	machine  sums
	ours     sums
	boxed    boxed // of ours
	readings int
	findings []Finding
	dropped  map[Owner]int // of findings
	payments Payments
}

// Bounds of a lane. The oldest finding is dropped and counted. Of bags the oldest that was counted is
// forgotten, else the oldest; what did not fit of it stays as a finding.
const (
	findingsMost = 500
	bagsMost     = 200
)

type total struct{ value, count int64 }

type bag struct {
	at       protocol.UnixMS
	expected int64
	counted  *int64
}

// sums of a report, in minor units.
type sums struct{ in, out, sold, count, short, unknown, byHand int64 }

// boxed is what went out of reach, since the box was emptied last.
type boxed struct{ coins, bills int64 }

// Cause names what does not fit.
type Cause string

// Causes.
const (
	SaleNotTold    Cause = "cash_sale_not_told"    // the machine counted a cash sale that it never told
	SaleNotCounted Cause = "cash_sale_not_counted" // it told one that it did not count
	CardNotCounted Cause = "card_sale_not_counted" // we sold by card, and the machine did not count it (DA2)
	CardNotOurs    Cause = "card_sale_not_ours"    // it counted a card sale that we did not make
	CashKept       Cause = "cash_kept"             // came in, was neither sold for nor given back
	CashGone       Cause = "cash_gone"             // went out, and was no change
	BoardSwapped   Cause = "board_swapped"         // another board counts now: what the old one counted last is not known
	ScaleChanged   Cause = "scale_changed"         // its money is written otherwise now
	CounterFell    Cause = "counter_fell"          // of the same board: nothing of it was counted
	BagShort       Cause = "bag_short"             // less was in the bag than went into the box
	BagOver        Cause = "bag_over"
	BagNotCounted  Cause = "bag_not_counted" // nobody has said yet what is in it
	BagUnknown     Cause = "bag_unknown"     // one was counted that nobody collected
	ChangeShort    Cause = "change_short"    // owed to a buyer
	ChangeUnknown  Cause = "change_unknown"  // nobody can tell whether it came out
	ByHand         Cause = "cash_by_hand"    // taken out of our changer at its buttons
	Unaccounted    Cause = "cash_unaccounted"
)

// Finding is one thing that does not fit. Amount is what is in question, of no sign; 0: not known.
type Finding struct {
	At     time.Time
	Cause  Cause
	Amount money.Amount
	Text   string
}

// Lane is the cash of a lane; one nobody told of yet is empty.
func (b *Book) Lane(l protocol.Lane) *Lane {
	if b.lanes[l] == nil {
		b.lanes[l] = &Lane{id: l, bags: map[string]*bag{}, dropped: map[Owner]int{}}
	}
	return b.lanes[l]
}

// See takes a record in; those that are not about cash change nothing.
func (b *Book) See(o protocol.Opened) {
	switch body := o.Body.(type) {
	case protocol.SaleOpened, protocol.ChangeOrdered:
		b.open[o.Lane] = true
		return
	case protocol.SaleClosed:
		b.open[o.Lane] = false
		return
	case protocol.CashSale, protocol.CountersRead, protocol.CashCollected, protocol.BagCounted, protocol.CashIn,
		protocol.ChangePaid, protocol.ChangeUnknown, protocol.CashByHand:
	case protocol.PaymentOutcome:
		if l := b.Lane(o.Lane); l.payments.Open[body.Payment] == nil { // of a card
			if m, _ := l.payments.See(body); m.Captured {
				l.cards.value, l.cards.count = l.cards.value+m.Sold, l.cards.count+int64(len(m.Counted))
			}
			return
		}
	default:
		return
	}
	l := b.Lane(o.Lane)
	if l.from == 0 {
		l.from = o.At.Wall
	}
	l.to = o.At.Wall
	switch o.Body.(type) {
	case protocol.ChangePaid, protocol.ChangeUnknown:
		b.open[o.Lane] = false
	}
	l.see(o)
}

func (l *Lane) see(o protocol.Opened) {
	switch r := o.Body.(type) {
	case protocol.CashSale:
		l.sale(r)
	case protocol.CountersRead:
		l.counters(o.At.Wall, r)
	case protocol.CashCollected:
		after := r.After
		l.emptied, l.boxed = &after, boxed{}
		l.knows(r.Expected.Currency)
		l.bag(r.Bag, &bag{at: o.At.Wall, expected: r.Expected.Minor})
	case protocol.BagCounted:
		l.knows(r.Value.Currency)
		if k := l.bags[r.Bag]; k != nil {
			k.counted = &r.Value.Minor
			return
		}
		l.find(o.At.Wall, BagUnknown, r.Value.Minor, "bag %s was counted, nobody collected it", r.Bag)
	default:
		if m, ok := l.payments.See(o.Body); ok {
			l.moved(o, m)
		}
	}
}

// moved is buyers' money of ours.
func (l *Lane) moved(o protocol.Opened, m Moved) {
	l.knows(m.Currency)
	l.ours.in, l.ours.out, l.ours.short, l.ours.unknown = l.ours.in+m.In, l.ours.out+m.Out, l.ours.short+m.Short, l.ours.unknown+m.Unknown
	l.ours.byHand += m.ByHand
	switch {
	case m.Bill:
		l.boxed.bills += m.In
	case m.Box:
		l.boxed.coins += m.In
	}
	if m.Captured {
		l.ours.sold += m.Sold
		l.ours.count++
	}
	if m.ByHand > 0 {
		l.find(o.At.Wall, ByHand, m.ByHand, "taken out at the changer's buttons")
	}
	if m.Short > 0 {
		l.find(o.At.Wall, ChangeShort, m.Short, "sale %s: %s", o.Sale, o.Body.(protocol.ChangePaid).Reason)
	}
	if m.Unknown > 0 {
		l.find(o.At.Wall, ChangeUnknown, m.Unknown, "sale %s: %s", o.Sale, o.Body.(protocol.ChangeUnknown).Reason)
	}
}

// bag is one that was collected. See bagsMost.
func (l *Lane) bag(name string, b *bag) {
	if l.bags[name] == nil {
		l.bagOrder = append(l.bagOrder, name)
	}
	l.bags[name] = b
	if len(l.bagOrder) <= bagsMost {
		return
	}
	i := max(0, slices.IndexFunc(l.bagOrder, func(n string) bool { return l.bags[n].counted != nil }))
	old := l.bagOrder[i]
	if f, odd := l.bags[old].finding(old, l.currency); odd {
		l.keep(f)
	}
	delete(l.bags, old)
	l.bagOrder = slices.Delete(l.bagOrder, i, i+1)
}

func (l *Lane) knows(c money.Currency) {
	if c != 0 {
		l.currency = c
	}
}

func (l *Lane) sale(r protocol.CashSale) {
	l.knows(r.Price.Currency)
	switch r.Sold {
	case protocol.SoldForCash:
		l.heard.value += r.Price.Minor
		l.heard.count++
	case protocol.SoldNegative:
		l.heard.value -= r.Price.Minor
		l.heard.count++
	case protocol.SoldFree, protocol.SoldTest, protocol.SoldForToken:
	}
}

func (l *Lane) find(at protocol.UnixMS, c Cause, minor int64, format string, args ...any) {
	l.keep(Finding{At: at.Time(), Cause: c, Amount: money.New(max(minor, -minor), l.currency), Text: fmt.Sprintf(format, args...)})
}

// keep adds a finding. See findingsMost.
func (l *Lane) keep(f Finding) {
	if l.findings = append(l.findings, f); len(l.findings) > findingsMost {
		l.dropped[l.findings[0].owner()]++
		l.findings = slices.Delete(l.findings, 0, 1)
	}
}

// counters is a reading: an interval ends, and another begins.
func (l *Lane) counters(at protocol.UnixMS, r protocol.CountersRead) {
	l.knows(r.Now.Currency)
	before := l.read
	l.read, l.heard, l.cards = &r, total{}, total{}
	l.readings++
	if r.Baseline != 0 || l.emptied == nil {
		now := r.Now
		l.emptied = &now
	}
	text := func(minor int64) string { return money.New(minor, l.currency).String() }
	switch r.Baseline {
	case 0:
	case protocol.BaselineFirst:
		return
	case protocol.BaselineBoard:
		was := ""
		if before != nil {
			was = fmt.Sprintf("; it was %s, board %s, and had counted %s of cash sales when it was read last", before.Machine, before.Board, text(before.Now.CashSales))
		}
		l.machine.sold, l.machine.count = l.machine.sold+r.Heard, l.machine.count+r.HeardCount
		l.find(at, BoardSwapped, 0, "machine %s, board %s counts now%s; since then it told of %s", r.Machine, r.Board, was, text(r.Heard))
		return
	case protocol.BaselineScale:
		l.machine.sold, l.machine.count = l.machine.sold+r.Heard, l.machine.count+r.HeardCount
		l.find(at, ScaleChanged, 0, "counters are in %s now; since the last reading it told of %s", r.Now.Currency, text(r.Heard))
		return
	}
	d := r.Since
	l.machine.in, l.machine.out = l.machine.in+d.In(), l.machine.out+d.Out
	l.machine.sold, l.machine.count = l.machine.sold+d.CashSales, l.machine.count+d.CashCount
	for _, name := range r.Fell {
		l.find(at, CounterFell, 0, "%s", name)
	}
	switch n := r.Unheard().Minor; {
	case n > 0:
		l.find(at, SaleNotTold, n, "it counted %s in %d cash sales, and told of %s in %d", text(d.CashSales), d.CashCount, text(r.Heard), r.HeardCount)
	case n < 0:
		l.find(at, SaleNotCounted, n, "it counted %s in %d cash sales, and told of %s in %d", text(d.CashSales), d.CashCount, text(r.Heard), r.HeardCount)
	}
	switch n := r.CardsUncounted().Minor; {
	case n > 0:
		l.find(at, CardNotCounted, n, "it counted %s in %d card sales, ours are %s in %d", text(d.CardSales), d.CardCount, text(r.Cards), r.CardsCount)
	case n < 0:
		l.find(at, CardNotOurs, n, "it counted %s in %d card sales, ours are %s in %d", text(d.CardSales), d.CardCount, text(r.Cards), r.CardsCount)
	}
	switch n := d.In() - d.Out - d.CashSales; {
	case n > 0:
		l.find(at, CashKept, n, "%s came in, %s went out, %s was sold for cash", text(d.In()), text(d.Out), text(d.CashSales))
	case n < 0:
		l.find(at, CashGone, n, "%s came in, %s went out, %s was sold for cash", text(d.In()), text(d.Out), text(d.CashSales))
	}
}

// Reading is what the machine's books say now.
type Reading struct {
	Machine, Board string
	File           protocol.Hash
	Now            protocol.Till
}

// Count says what a reading adds to the one before it.
func (l *Lane) Count(r Reading) protocol.CountersRead {
	c := protocol.CountersRead{
		Machine: r.Machine, Board: r.Board, File: r.File, Now: r.Now, Heard: l.heard.value, HeardCount: l.heard.count,
		Cards: l.cards.value, CardsCount: l.cards.count,
		Since: protocol.Till{Currency: r.Now.Currency},
	}
	switch before := l.read; {
	case before == nil:
		c.Baseline = protocol.BaselineFirst
	case before.Machine != r.Machine || before.Board != r.Board:
		c.Baseline = protocol.BaselineBoard
	case before.Now.Currency != r.Now.Currency:
		c.Baseline = protocol.BaselineScale
	default:
		was, now, since := counted(&before.Now), counted(&c.Now), counted(&c.Since)
		for i := range now {
			if *now[i].value < *was[i].value {
				c.Fell = append(c.Fell, fmt.Sprintf("%s fell from %d to %d", now[i].name, *was[i].value, *now[i].value))
				continue
			}
			*since[i].value = *now[i].value - *was[i].value
		}
	}
	return c
}

type counter struct {
	name  string
	value *int64
}

// counted are a till's counters, by their fields in EVA-DTS.
func counted(t *protocol.Till) []counter {
	return []counter{
		{"CA2 value", &t.CashSales},
		{"CA2 count", &t.CashCount},
		{"DA2 value", &t.CardSales},
		{"DA2 count", &t.CardCount},
		{"CA306", &t.Box},
		{"CA307", &t.Tubes},
		{"CA308", &t.Bills},
		{"CA4", &t.Out},
		{"CA10", &t.Filled},
		{"VA2 count", &t.TestVends},
		{"VA3 count", &t.FreeVends},
		{"EA7", &t.PowerOutages},
		{"VA1 value", &t.AllSales},
		{"VA1 count", &t.AllSalesCount},
	}
}

// Why a collection cannot be told.
var (
	ErrNotRead = errors.New("nobody knows what should be in the box: the machine's counters were never read")
	ErrBag     = errors.New("a bag of that name was collected before")
)

// Collect is box and stacker emptied into a bag: by the counters of the last reading, or, where the cash
// is ours, by what went into them since the last collection.
func (l *Lane) Collect(person, name string) (protocol.CashCollected, error) {
	c := protocol.CashCollected{Person: person, Bag: name}
	switch {
	case l.bags[name] != nil:
		return c, fmt.Errorf("%w: %s, on %s", ErrBag, name, l.bags[name].at.Time().Format(time.DateOnly))
	case l.ours.in > 0:
		c.Before.Currency = l.currency
		c.After = protocol.Till{Currency: l.currency, Box: l.boxed.coins, Bills: l.boxed.bills}
	case l.read == nil || l.emptied == nil:
		return c, ErrNotRead
	default:
		c.Before, c.After = *l.emptied, l.read.Now
	}
	c.Expected = money.New(max(0, c.After.Box-c.Before.Box)+max(0, c.After.Bills-c.Before.Bills), c.After.Currency)
	return c, nil
}

// Bag is what a bag should hold that was collected and has not been counted.
func (l *Lane) Bag(name string) (expected money.Amount, waits bool) {
	b := l.bags[name]
	if b == nil || b.counted != nil {
		return money.Amount{}, false
	}
	return money.New(b.expected, l.currency), true
}

// Owner is whose the cash devices are.
type Owner string

// Owners.
const (
	ByMachine Owner = "vmc"
	ByAgent   Owner = "agent"
)

// Report is a lane's cash. Sold is what the machine counted, or the agent; with Readings 0 of a machine
// that owns its cash, what it told of.
type Report struct {
	Lane     protocol.Lane
	Owner    Owner
	From, To time.Time
	Readings int // of the machine's counters
	Sold     money.Amount
	Sales    int64
	In, Out  money.Amount
	Held     money.Amount // in a sale that is open
	Short    money.Amount // of change: owed, or nobody can tell
	Told     money.Amount // by CASH SALE since the last reading
	Findings []Finding
	Dropped  int // older findings, of which there were too many
}

// Unexplained is how many findings have no cause but that nothing explains them.
func (r Report) Unexplained() (n int) {
	for _, f := range r.Findings {
		if f.Cause == Unaccounted {
			n++
		}
	}
	return n
}

// Reports are what there is to say, lane by lane.
func (b *Book) Reports() []Report {
	var out []Report
	for _, id := range slices.Sorted(maps.Keys(b.lanes)) {
		if l := b.lanes[id]; l.from != 0 {
			out = append(out, l.report(b.open[id])...)
		}
	}
	return out
}

func (l *Lane) report(open bool) []Report {
	amount := func(minor int64) money.Amount { return money.New(minor, l.currency) }
	base := Report{Lane: l.id, From: l.from.Time(), To: l.to.Time()}
	var out []Report
	findings := slices.Clone(l.findings)
	for _, name := range l.bagOrder {
		if f, odd := l.bags[name].finding(name, l.currency); odd {
			findings = append(findings, f)
		}
	}
	mine, theirs := split(findings)
	if l.readings > 0 || l.heard.count > 0 || len(theirs) > 0 || l.dropped[ByMachine] > 0 {
		r := base
		r.Owner, r.Readings, r.Findings, r.Dropped = ByMachine, l.readings, theirs, l.dropped[ByMachine]
		r.In, r.Out, r.Sold, r.Sales = amount(l.machine.in), amount(l.machine.out), amount(l.machine.sold), l.machine.count
		r.Told = amount(l.heard.value)
		out = append(out, r)
	}
	if l.ours != (sums{}) || l.payments.Held() != 0 {
		r := base
		r.Owner, r.Findings, r.Dropped = ByAgent, mine, l.dropped[ByAgent]
		held := l.payments.Held()
		r.In, r.Out, r.Sold, r.Sales, r.Held = amount(l.ours.in), amount(l.ours.out), amount(l.ours.sold), l.ours.count, amount(held)
		r.Short = amount(l.ours.short + l.ours.unknown)
		if held != 0 && !open {
			r.Findings = append(r.Findings, Finding{l.to.Time(), Unaccounted, amount(max(held, -held)), "came in, and no record says what became of it"})
		}
		out = append(out, r)
	}
	return out
}

// finding is what a bag does not hold, or holds too much of, or that nobody has counted it.
func (b *bag) finding(name string, c money.Currency) (f Finding, odd bool) {
	amount := func(minor int64) money.Amount { return money.New(minor, c) }
	f.At = b.at.Time()
	if b.counted == nil {
		f.Cause, f.Amount, f.Text = BagNotCounted, amount(b.expected), fmt.Sprintf("bag %s should hold %s", name, amount(b.expected))
		return f, true
	}
	f.Text = fmt.Sprintf("bag %s held %s instead of %s", name, amount(*b.counted), amount(b.expected))
	if f.Cause, f.Amount = BagShort, amount(b.expected-*b.counted); f.Amount.Minor < 0 {
		f.Cause, f.Amount = BagOver, amount(*b.counted-b.expected)
	}
	return f, f.Amount.Minor != 0
}

// owner is whose cash a finding is about.
func (f Finding) owner() Owner {
	if f.Cause == ChangeShort || f.Cause == ChangeUnknown || f.Cause == ByHand {
		return ByAgent
	}
	return ByMachine
}

// split tells findings of our own cash from those of the machine's.
func split(all []Finding) (ours, machine []Finding) {
	for _, f := range all {
		if f.owner() == ByAgent {
			ours = append(ours, f)
		} else {
			machine = append(machine, f)
		}
	}
	return ours, machine
}
