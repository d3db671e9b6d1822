package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/paper"
	"coinop/protocol"
	"coinop/protocol/money"
)

// tape is a printer that writes down what it was told.
type tape struct {
	err   error
	pages []paper.Page
}

func (p *tape) Run(context.Context) error                     { return nil }
func (p *tape) Open(context.Context) (hardware.Driver, error) { return p, nil }
func (p *tape) Print(_ uint32, page paper.Page) error {
	p.pages = append(p.pages, page)
	return p.err
}

// TestReceiptOfASale: what stands on a receipt is what stands in the journal, though many records of
// others lie between and after.
func TestReceiptOfASale(t *testing.T) {
	t.Parallel()
	c, j, err := newCore(journal.NewDisk())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Boot(reading(0), caseID); err != nil {
		t.Fatal(err)
	}
	for n := byte(1); n < 40; n++ {
		if _, err := sale(c, protocol.Lane(n%2), n); err != nil {
			t.Fatal(err)
		}
	}
	s, l, _ := bareShell(nil)
	s.journal, s.cfg.Policy.Currency, s.cfg.Data, s.cfg.Head, s.cfg.ReceiptQR = j, money.EUR, t.TempDir(), []string{"Coffee"}, true
	s.cfg.Identity.Device = "m1"
	p := &tape{}
	l.printer, l.form = p, paper.Form{Columns: paper.Width58}
	for _, n := range []byte{39, 7} {
		s.carryOut([]Do{Effect{2, session.Receipt{Sale: protocol.SaleID{n}}}})
		kept, err := Receipts(s.cfg.Data)
		if err != nil || len(kept) == 0 {
			t.Fatal(kept, err)
		}
		r := kept[0] // the lowest id, which is the last that was made
		if r.Sale != (protocol.SaleID{n}).String() || r.Charged != money.New(150, money.EUR) || r.Brand != "visa" || r.Last4 != "0011" || len(r.Items) != 1 ||
			r.Items[0].State != paper.ItemDelivered || r.Open || r.Test || r.Offline || r.Machine != "m1" {
			t.Errorf("%+v", r)
		}
	}
	if len(p.pages) != 2 || p.pages[0].Columns != paper.Width58 || !strings.Contains(p.pages[0].Text(), "TOTAL") || !strings.Contains(p.pages[0].Text(), "["+(protocol.SaleID{39}).String()) {
		t.Errorf("%+v", p.pages)
	}
	p.err = hardware.ErrPortGone // no receipt ends a run
	s.carryOut([]Do{Effect{2, session.Receipt{Sale: protocol.SaleID{9}}}})
	if err := s.hear(heard{l, partPrinter, hardware.Printed{Job: 1, Reason: "paper_out"}}); err != nil {
		t.Error(err)
	}
	l.readers[0].looks = true
	if err := s.hear(heard{l, partPrinter, hardware.PortGone{Device: "printer"}}); err != nil || !l.readers[0].looks {
		t.Error("a printer's port is not the reader's", err)
	}
}

// TestReceiptWords: each fact on its own.
func TestReceiptWords(t *testing.T) {
	t.Parallel()
	vend, other := protocol.VendID{1}, protocol.VendID{2}
	price := money.New(275, money.EUR)
	started := []protocol.Body{
		protocol.SaleOpened{Class: protocol.Test},
		protocol.AuthorizationSent{Card: protocol.Card{Brand: "visa", Last4: "0119"}},
		protocol.AuthorizationAnswered{AuthID: "A1B2C3"},
		protocol.VendStarted{Vend: vend, Outlet: 5, Product: "Cola", Amount: price},
		protocol.VendStarted{Vend: other, Outlet: 6, Amount: price},
	}
	for _, c := range []struct {
		name  string
		more  []protocol.Body
		items []paper.ItemState
		want  func(paper.Receipt) bool
	}{
		{"nothing known", nil, []paper.ItemState{"unknown", "unknown"}, func(r paper.Receipt) bool {
			return r.Test && r.Charged.IsZero() && r.Last4 == "0119" && r.Approval == "A1B2C3" && r.Items[0].Name == "Cola" && r.Items[1].Name == "Item 6"
		}},
		{"one fell", []protocol.Body{
			protocol.VendResult{Vend: vend, Result: protocol.Delivered},
			protocol.VendResult{Vend: other, Result: protocol.Failed},
			protocol.PaymentOutcome{What: protocol.Capture, Amount: price},
		}, []paper.ItemState{"delivered", "failed"}, func(r paper.Receipt) bool { return r.Charged == price && !r.Open }},
		{"presumed, and a case", []protocol.Body{
			protocol.VendResult{Vend: vend, Result: protocol.Presumed}, protocol.VendResult{Vend: other, Result: protocol.Unknown}, protocol.CaseOpened{},
		}, []paper.ItemState{"delivered", "unknown"}, func(r paper.Receipt) bool { return r.Open }},
		{"resolved", []protocol.Body{
			protocol.VendResult{Vend: vend, Result: protocol.Unknown}, protocol.VendResolved{Vend: vend, Result: protocol.Failed}, protocol.VendResolved{Vend: protocol.VendID{9}},
		}, []paper.ItemState{"failed", "unknown"}, func(r paper.Receipt) bool { return r.Charged.IsZero() }},
		{
			"offline",
			[]protocol.Body{protocol.OfflineAccepted{Card: protocol.Card{Last4: "0011"}}},
			[]paper.ItemState{"unknown", "unknown"},
			func(r paper.Receipt) bool { return r.Offline && r.Last4 == "0011" && r.Approval == "" },
		},
	} {
		var records []protocol.Opened
		for _, b := range append(slices.Clone(started), c.more...) {
			records = append(records, protocol.Opened{Record: protocol.Record{Body: b}})
		}
		r := receiptOf(records, protocol.SaleID{1}, money.EUR)
		var states []paper.ItemState
		for _, i := range r.Items {
			states = append(states, i.State)
		}
		if !slices.Equal(states, c.items) || !c.want(r) {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

// TestReceiptsKept: the last ones, and one that cannot be read hides no other.
func TestReceiptsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if all, err := Receipts(dir); all != nil || err != nil {
		t.Error(all, err)
	}
	for n := range receiptsKept + 5 {
		if err := keepReceipt(dir, paper.Receipt{Sale: protocol.SaleID{byte(n >> 8), byte(n)}.String(), Charged: money.New(1, money.EUR)}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Receipts(dir)
	if err != nil || len(all) != receiptsKept || all[0].Sale != (protocol.SaleID{0, 5}).String() {
		t.Fatalf("%d receipts, %v", len(all), err)
	}
	bad := filepath.Join(dir, receiptsDir, all[3].Sale+".json")
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := Receipts(dir); len(all) != receiptsKept-1 || err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("%d receipts, %v", len(all), err)
	}
}

// TestSignals: one sound for a card, one for yes however many things come out, one for no.
func TestSignals(t *testing.T) {
	t.Parallel()
	s, l, _ := bareShell(nil)
	i := &indicated{}
	l.readers[0].Reader = i
	do := func(es ...session.Effect) {
		for _, e := range es {
			s.carryOut([]Do{Effect{2, e}})
		}
	}
	s.indicate(l, hardware.SignalCard)
	do(session.Vend{}, session.Vend{}, session.CardSignal{OK: true}, session.Show{Screen: session.ScreenIdle})
	s.indicate(l, hardware.SignalCard)
	do(session.CardSignal{}, session.Show{Screen: session.ScreenOutOfService})
	want := []hardware.Signal{hardware.SignalCard, hardware.SignalOK, hardware.SignalIdle, hardware.SignalCard, hardware.SignalNo, hardware.SignalFault}
	if !slices.Equal(i.signals, want) {
		t.Errorf("%v, want %v", i.signals, want)
	}
}

type indicated struct {
	deaf
	signals []hardware.Signal
}

func (i *indicated) Show(s hardware.Signal) error {
	i.signals = append(i.signals, s)
	return nil
}
