package agent

import (
	"fmt"
	"math"
	"strconv"

	"coinop/agent/cashbook"
	"coinop/hardware"
	"coinop/hardware/dex"
	"coinop/protocol"
	"coinop/protocol/money"
)

// A machine that owns its cash tells of it by CASH SALE, and by its own books. Both become records.

// sold is a cash sale the machine tells of.
func (s *shell) sold(l *lane, ev hardware.CashSale) error {
	kind, ok := cashKinds[ev.Kind]
	if !ok {
		return nil
	}
	name := s.device.plan.plan[l.id][ev.Item].Name
	price := ev.Price
	if price.Currency == 0 {
		price.Currency = s.cfg.Policy.Currency
	}
	s.log.Info("cash sale", "lane", int(l.id), "item", uint16(ev.Item), "product", name, "price", price.String(), "kind", kind.String())
	return s.handle(Noted{Lane: l.id, Body: protocol.CashSale{Sold: kind, Price: price, Outlet: ev.Item, Product: name}, Sale: true})
}

var cashKinds = map[hardware.CashKind]protocol.CashKind{
	hardware.CashPaid: protocol.SoldForCash, hardware.CashFree: protocol.SoldFree, hardware.CashTest: protocol.SoldTest,
	hardware.CashNegative: protocol.SoldNegative, hardware.CashToken: protocol.SoldForToken,
}

// books are the records of cash so far. Only who counts or collects needs them, so they are read then.
func (s *shell) books() (*cashbook.Book, error) {
	if s.cashbook == nil {
		s.cashbook, s.booked = cashbook.New(), s.journal.Oldest()
		s.booked -= min(s.booked, 1)
	}
	for head := s.journal.Head().Seq; s.booked < head; {
		last, err := s.read(s.booked, s.cashbook.See)
		if err != nil {
			return nil, err
		}
		s.booked = last
	}
	return s.cashbook, nil
}

// read shows some records after a number, and gives that of the last.
func (s *shell) read(after protocol.Seq, see func(protocol.Opened)) (protocol.Seq, error) {
	sealed, err := s.journal.Read(after, readAtOnce)
	if err == nil && len(sealed) == 0 {
		err = fmt.Errorf("read back record %d: it is gone", after+1)
	}
	for _, r := range sealed {
		o, wrong := protocol.OpenRecord(r.Bytes)
		if wrong != nil {
			return after, wrong
		}
		see(o)
		after = r.Position.Seq
	}
	return after, err
}

const readAtOnce = 512

// counters is a machine's books as a record.
func (s *shell) counters(l *lane, raw []byte, a dex.Audit) (protocol.CountersRead, error) {
	till, err := tillOf(a, s.cfg.Policy.Currency)
	if err != nil {
		return protocol.CountersRead{}, err
	}
	b, err := s.books()
	if err != nil {
		return protocol.CountersRead{}, err
	}
	return b.Lane(l.id).Count(cashbook.Reading{Machine: a.Serial, Board: a.Board, File: protocol.HashBytes(raw), Now: till}), nil
}

// tillOf is an audit in the currency's minor units.
func tillOf(a dex.Audit, policy money.Currency) (protocol.Till, error) {
	c := policy
	if a.Currency != "" {
		var err error
		if c, err = money.CurrencyOf(a.Currency); err != nil {
			n, wrong := strconv.ParseUint(a.Currency, 10, 16)
			if c = money.Currency(n); wrong != nil || !c.Known() {
				return protocol.Till{}, fmt.Errorf("ID4 names currency %q, which is none", a.Currency)
			}
		}
	}
	up, down := int64(1), int64(1)
	for range c.Exponent() - a.Decimals {
		up *= 10
	}
	for range a.Decimals - c.Exponent() {
		down *= 10
	}
	var wrong error
	minor := func(v int64) int64 {
		if v > math.MaxInt64/up/100 || v%down != 0 {
			wrong = fmt.Errorf("%d with %d decimals is no amount of %s", v, a.Decimals, c)
			return 0
		}
		return v * up / down
	}
	return protocol.Till{
		Currency:  c,
		CashSales: minor(a.Cash.Value), CashCount: a.Cash.Count, CardSales: minor(a.Cashless.Value), CardCount: a.Cashless.Count,
		Box: minor(a.CashIn.Box), Tubes: minor(a.CashIn.Tubes), Bills: minor(a.CashIn.Bills), Out: minor(a.CashOut), Filled: minor(a.Filled),
		TestVends: a.Test.Count, FreeVends: a.Free.Count, PowerOutages: a.PowerCuts, AllSales: minor(a.Paid.Value), AllSalesCount: a.Paid.Count,
	}, wrong
}
