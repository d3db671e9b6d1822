package agent

import (
	"strings"
	"testing"

	"coinop/hardware"
	"coinop/hardware/escpos"
	"coinop/hardware/paper"
	"coinop/protocol/money"
)

// TestCopies: which papers of a sale come out, and what becomes of each that a printer does not print.
func TestCopies(t *testing.T) {
	t.Parallel()
	ready := hardware.Health{Device: "printer", State: hardware.Ready, Code: hardware.CodeReady}
	for _, c := range []struct {
		name   string
		copies Copies
		hears  []hardware.Event
		want   string // B a buyer's, S a seller's, each with c for a copy
	}{
		{"buyer's", BuyersCopy, nil, "B"},
		{"seller's", SellersCopy, nil, "S"},
		{"both", BothCopies, nil, "S B"},
		{"none", NoCopies, nil, ""},
		{"printed", BuyersCopy, []hardware.Event{hardware.Printed{Job: 1}, ready}, "B"},
		{"in doubt, and the printer is right: a copy at once", BuyersCopy, []hardware.Event{
			hardware.Printed{Job: 1, Reason: escpos.ReasonUnconfirmed, Result: hardware.PrintUnknown},
		}, "B Bc"},
		{"in doubt twice: one copy", BuyersCopy, []hardware.Event{
			hardware.Printed{Job: 1, Reason: escpos.ReasonUnconfirmed, Result: hardware.PrintUnknown},
			hardware.Printed{Job: 2, Reason: escpos.ReasonUnconfirmed, Result: hardware.PrintUnknown},
			ready,
		}, "B Bc"},
		{"paper ended in it: a copy when there is some", BuyersCopy, []hardware.Event{
			hardware.Printed{Job: 1, Reason: escpos.ReasonPaperOut, Result: hardware.PrintUnknown},
			hardware.Health{Device: "printer", State: hardware.Fault, Code: escpos.CodePaperOut},
			ready, ready,
		}, "B Bc"},
		{"paper ended in it, and stays so", BuyersCopy, []hardware.Event{
			hardware.Printed{Job: 1, Reason: escpos.ReasonPaperOut, Result: hardware.PrintUnknown},
			hardware.Health{Device: "printer", State: hardware.Fault, Code: escpos.CodePaperOut},
		}, "B"},
		{"never begun: itself when the printer is right", BothCopies, []hardware.Event{
			hardware.Printed{Job: 1, Reason: escpos.ReasonCoverOpen, Result: hardware.PrintNone},
			hardware.Printed{Job: 2, Reason: escpos.ReasonCoverOpen, Result: hardware.PrintNone},
			ready,
		}, "S B S B"},
		{"a copy that is not begun is a copy again", BuyersCopy, []hardware.Event{
			hardware.Printed{Job: 1, Reason: escpos.ReasonPortLost, Result: hardware.PrintUnknown},
			ready,
			hardware.Printed{Job: 2, Reason: escpos.ReasonPortLost, Result: hardware.PrintNone},
			ready,
		}, "B Bc Bc"},
		{"a printer that never speaks", BuyersCopy, []hardware.Event{
			hardware.Printed{Job: 1, Reason: escpos.ReasonUnconfirmed, Result: hardware.PrintUnsaid}, ready,
		}, "B"},
		{"of nobody", BuyersCopy, []hardware.Event{hardware.Printed{Job: 9, Reason: escpos.ReasonPortLost, Result: hardware.PrintUnknown}, ready}, "B"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, l, _ := bareShell(nil)
			p := &tape{}
			l.printer, l.form, l.copies = p, paper.Form{Columns: paper.Width58}, c.copies
			for _, one := range c.copies.of(paper.Receipt{Sale: "1", Charged: money.New(150, money.EUR)}) {
				if _, err := s.print(l, printing{one, s.mono()}); err != nil {
					t.Fatal(err)
				}
			}
			for _, e := range c.hears {
				if err := s.hear(heard{l, partPrinter, e}); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, page := range p.pages {
				what := "B"
				if text := page.Text(); strings.Contains(text, "SELLER'S") {
					what = "S"
				}
				if strings.Contains(page.Text(), "COPY") {
					what += "c"
				}
				got = append(got, what)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("printed %q, want %q", got, c.want)
			}
			if len(l.again) > againMost {
				t.Errorf("%d wait", len(l.again))
			}
		})
	}
}

// TestPrintedTooLate: a paper whose buyer has gone is dropped, and no more wait than there is room for.
func TestPrintedTooLate(t *testing.T) {
	t.Parallel()
	s, l, _ := bareShell(nil)
	p := &tape{err: hardware.ErrPortGone}
	l.printer, l.form = p, paper.Form{Columns: paper.Width58}
	for range againMost + 3 {
		s.printLater(l, printing{paper.Receipt{Sale: "1", Charged: money.New(150, money.EUR)}, s.mono()})
	}
	s.printAgain(l)
	if len(l.again) != againMost {
		t.Fatalf("%d wait", len(l.again))
	}
	for i := range l.again {
		l.again[i].since = s.mono() - againFor - 1
	}
	p.err, p.pages = nil, nil
	s.printAgain(l)
	if len(l.again) != 0 || len(p.pages) != 0 {
		t.Errorf("%d wait, %d were printed", len(l.again), len(p.pages))
	}
}
