package dex

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Sum is a value and how often: of sales, in minor units of ID4's decimals.
type Sum struct{ Value, Count int64 }

// Audit is what a file says in counters. Those called Init are since the machine was new, and never
// go back; those since somebody last set them back are not looked at: anybody may do that.
type Audit struct {
	Serial, Model, Asset string // ID1
	Board                string // CB1, its serial number
	Decimals             int    // ID4
	Currency             string // ID4, alphabetic when it says so, else numeric

	Paid, Test, Free Sum // VA1, VA2, VA3
	Cash             Sum // CA2
	Cashless         Sum // DA2, first device
	CashIn           Money
	CashOut          int64 // CA4, dispensed: change and by hand
	Filled           int64 // CA10: put into the tubes by hand
	Products         []Product
	PowerCuts        int64     // EA7
	Read             time.Time // EA3: when it was last read, by the machine's clock; zero when it does not say
}

// Money is CA3: where coins and bills that came in went.
type Money struct{ In, Box, Tubes, Bills int64 }

// Product is a selection: PA1 and PA2.
type Product struct {
	Selection string
	Name      string
	Price     int64
	Sold      Sum
}

// Audit reads the counters. What is no number counts as zero, and is among the problems.
func (f *File) Audit() Audit {
	var a Audit
	a.Decimals = -1
	num := func(s Segment, n int) int64 {
		if s.Field(n) == "" {
			return 0
		}
		v, ok := s.Number(n)
		if !ok {
			f.problem(s.Line, ProblemNumber, "%s%02d is %q", s.ID, n, s.Field(n))
		}
		return max(v, 0)
	}
	for _, s := range f.Segments {
		switch s.ID {
		case "ID1":
			a.Serial, a.Model, a.Asset = s.Field(1), s.Field(2), s.Field(6)
		case "CB1":
			a.Board = s.Field(1)
		case "ID4":
			a.Decimals, a.Currency = int(num(s, 1)), s.Field(3)
			if a.Currency == "" {
				a.Currency = s.Field(2)
			}
		case "VA1":
			a.Paid = Sum{num(s, 1), num(s, 2)}
		case "VA2":
			a.Test = Sum{num(s, 1), num(s, 2)}
		case "VA3":
			a.Free = Sum{num(s, 1), num(s, 2)}
		case "CA2":
			a.Cash = Sum{num(s, 1), num(s, 2)}
		case "DA2":
			a.Cashless = Sum{num(s, 1), num(s, 2)}
		case "CA3":
			a.CashIn = Money{num(s, 5), num(s, 6), num(s, 7), num(s, 8)}
			if v, ok := s.Number(10); ok { // bills with all the digits they need
				a.CashIn.Bills = v
			}
		case "CA4":
			a.CashOut = num(s, 3) + num(s, 4)
		case "CA10":
			a.Filled = num(s, 2)
		case "EA7":
			a.PowerCuts = num(s, 2)
		case "EA3":
			a.Read, _ = time.Parse("060102 1504", s.Field(2)+" "+(s.Field(3) + "0000")[:4])
		case "PA1":
			if slices.ContainsFunc(a.Products, func(p Product) bool { return p.Selection == s.Field(1) }) {
				f.problem(s.Line, ProblemTwice, "selection %s", s.Field(1))
			}
			if _, ok := s.Number(2); !ok {
				f.problem(s.Line, ProblemPrice, "selection %s", s.Field(1))
			}
			v, _ := s.Number(2)
			a.Products = append(a.Products, Product{Selection: s.Field(1), Name: s.Field(3), Price: max(v, 0)})
		case "PA2":
			if n := len(a.Products); n > 0 {
				a.Products[n-1].Sold = Sum{Count: num(s, 1), Value: num(s, 2)}
			}
		}
	}
	if a.Decimals < 0 || a.Decimals > 4 {
		f.problem(0, ProblemDecimals, "ID4 says %d: 2 is taken", a.Decimals)
		a.Decimals = 2
	}
	return a
}

// Segments are an audit as a file's segments, for Write.
func (a Audit) Segments() []Segment {
	var out []Segment
	add := func(id string, fields ...any) {
		s := Segment{ID: id}
		for _, f := range fields {
			s.Fields = append(s.Fields, fmt.Sprint(f))
		}
		out = append(out, s)
	}
	sum := func(id string, s Sum) { add(id, s.Value, s.Count, 0, 0) }
	add("ID1", a.Serial, a.Model, "", "", "", a.Asset)
	add("ID4", a.Decimals, "", a.Currency)
	add("CB1", a.Board, a.Model)
	sum("VA1", a.Paid)
	sum("VA2", a.Test)
	sum("VA3", a.Free)
	sum("CA2", a.Cash)
	add("CA3", 0, 0, 0, 0, a.CashIn.In, a.CashIn.Box, a.CashIn.Tubes, a.CashIn.Bills, "", a.CashIn.Bills)
	add("CA4", 0, 0, a.CashOut, 0)
	add("CA10", 0, a.Filled)
	sum("DA2", a.Cashless)
	for _, p := range a.Products {
		add("PA1", p.Selection, p.Price, p.Name)
		add("PA2", p.Sold.Count, p.Sold.Value, 0, 0)
	}
	add("EA7", 0, a.PowerCuts)
	return out
}

// Finding is what a pair of audits says that cannot just be counted.
type Finding struct {
	Code string
	Text string
}

// Codes of Finding.
const (
	FindingFirst     = "first"     // nothing to compare with: the baseline
	FindingBoard     = "board"     // another board: a new baseline
	FindingBackwards = "backwards" // a counter of the same board fell
	FindingScale     = "scale"     // decimals or currency changed: a new baseline
	FindingProducts  = "products"  // the selections do not add up to what was sold
)

// Delta is what happened between two audits.
type Delta struct {
	Paid, Test, Free, Cash, Cashless Sum
	CashIn                           Money
	CashOut, Filled, PowerCuts       int64
	Products                         []Product // that sold something
}

// Compare counts from before to now. With a finding of first, board or scale now is a new baseline and
// there is no delta; of a counter that fell nothing is counted, and it is named.
func Compare(before *Audit, now Audit) (d Delta, found []Finding) {
	find := func(code, format string, args ...any) {
		found = append(found, Finding{code, fmt.Sprintf(format, args...)})
	}
	switch {
	case before == nil:
		find(FindingFirst, "the first audit of %s", now.Serial)
		return d, found
	case before.Board != now.Board || before.Serial != now.Serial:
		find(FindingBoard, "machine %s, board %s; before it was %s, %s", now.Serial, now.Board, before.Serial, before.Board)
		return d, found
	case before.Decimals != now.Decimals || before.Currency != now.Currency:
		find(FindingScale, "%d decimals of %s; before it was %d of %s", now.Decimals, now.Currency, before.Decimals, before.Currency)
		return d, found
	}
	grown := func(name string, was, is int64) int64 {
		if is < was {
			find(FindingBackwards, "%s fell from %d to %d", name, was, is)
			return 0
		}
		return is - was
	}
	sum := func(name string, was, is Sum) Sum {
		return Sum{grown(name+" value", was.Value, is.Value), grown(name+" count", was.Count, is.Count)}
	}
	d = Delta{
		Paid: sum("VA1", before.Paid, now.Paid), Test: sum("VA2", before.Test, now.Test), Free: sum("VA3", before.Free, now.Free),
		Cash: sum("CA2", before.Cash, now.Cash), Cashless: sum("DA2", before.Cashless, now.Cashless),
		CashIn: Money{
			grown("CA305", before.CashIn.In, now.CashIn.In), grown("CA306", before.CashIn.Box, now.CashIn.Box),
			grown("CA307", before.CashIn.Tubes, now.CashIn.Tubes), grown("CA308", before.CashIn.Bills, now.CashIn.Bills),
		},
		CashOut: grown("CA4", before.CashOut, now.CashOut), Filled: grown("CA10", before.Filled, now.Filled),
		PowerCuts: grown("EA7", before.PowerCuts, now.PowerCuts),
	}
	sold := Sum{}
	for _, p := range now.Products {
		was := Sum{}
		if i := slices.IndexFunc(before.Products, func(q Product) bool { return q.Selection == p.Selection }); i >= 0 {
			was = before.Products[i].Sold
		}
		s := sum("PA2 of "+p.Selection, was, p.Sold)
		sold.Value, sold.Count = sold.Value+s.Value, sold.Count+s.Count
		if s != (Sum{}) {
			p.Sold = s
			d.Products = append(d.Products, p)
		}
	}
	if len(now.Products) > 0 && sold.Count != d.Paid.Count {
		find(FindingProducts, "the selections sold %s, VA1 says %s", strconv.FormatInt(sold.Count, 10), strconv.FormatInt(d.Paid.Count, 10))
	}
	return d, found
}
