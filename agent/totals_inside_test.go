package agent

import (
	"os"
	"path/filepath"
	"testing"

	"coinop/agent/journal"
	"coinop/hardware/dex"
	"coinop/protocol"
	"coinop/protocol/money"
)

// ledgered is a journal in a data folder that records are appended to.
type ledgered struct {
	t    *testing.T
	data string
	j    *journal.Journal
}

func (l *ledgered) open() {
	l.t.Helper()
	j, err := journal.OpenBadger(filepath.Join(l.data, journalName), journal.Options{
		Device: "snack-1", CertSerial: "1", NewEpoch: func() protocol.Epoch { return protocol.Epoch{7} },
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.j = j
}

func (l *ledgered) close() {
	l.t.Helper()
	if err := l.j.Close(); err != nil {
		l.t.Fatal(err)
	}
}

// sale is one of two items, of which one falls; in cash with change, or by card.
func (l *ledgered) sale(n byte, cash bool) {
	l.t.Helper()
	eur := func(minor int64) money.Amount { return money.New(minor, money.EUR) }
	p := protocol.PaymentID{n, 1}
	bodies := []protocol.Body{protocol.SaleOpened{Flow: protocol.SelectionFirst, Class: protocol.Live, Due: eur(400)}}
	if cash {
		bodies = append(bodies, protocol.CashIn{Payment: p, Value: eur(500), Bill: true})
	}
	bodies = append(bodies,
		protocol.VendStarted{Vend: protocol.VendID{n, 1}, N: 1, Outlet: 5, Product: "Cola", Amount: eur(150)},
		protocol.VendResult{Vend: protocol.VendID{n, 1}, Result: protocol.Delivered},
		protocol.VendStarted{Vend: protocol.VendID{n, 2}, N: 2, Outlet: 6, Amount: eur(250)},
		protocol.VendResult{Vend: protocol.VendID{n, 2}, Result: protocol.Failed},
		protocol.PaymentOutcome{Payment: p, What: protocol.Capture, Amount: eur(150), Counted: []protocol.VendID{{n, 1}}},
	)
	if cash {
		bodies = append(bodies, protocol.ChangePaid{Payment: p, Given: eur(350), Short: eur(0)})
	}
	bodies = append(bodies, protocol.SaleClosed{How: protocol.Sold, Delivered: eur(150)})
	for _, b := range bodies {
		if _, err := l.j.Append([]protocol.Record{{Sale: protocol.SaleID{n}, Body: b}}, nil); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *ledgered) audit() dex.Audit {
	l.t.Helper()
	raw, err := WriteAudit(l.data, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	f, err := dex.Parse(raw)
	if err != nil || len(f.Problems) > 0 {
		l.t.Fatal(err, f.Problems)
	}
	return f.Audit()
}

// TestWriteAudit: an EVA-DTS file of our own records counts what was sold, and never falls: not over a
// restart, not when what was folded is folded again, not when records are gone.
func TestWriteAudit(t *testing.T) {
	t.Parallel()
	l := &ledgered{t: t, data: t.TempDir()}
	if _, err := WriteAudit(l.data, 0); err == nil {
		t.Error("of a folder without a journal")
	}
	l.open()
	l.sale(1, false)
	l.sale(2, true)
	l.close()
	first := l.audit()
	want := dex.Audit{
		Serial: "snack-1", Model: "COINOP", Asset: "snack-1", Board: first.Board, Decimals: 2, Currency: "EUR",
		Paid: dex.Sum{Value: 300, Count: 2}, Cash: dex.Sum{Value: 150, Count: 1}, Cashless: dex.Sum{Value: 150, Count: 1},
		CashIn: dex.Money{In: 500, Bills: 500}, CashOut: 350,
	}
	if len(first.Products) != 1 || first.Products[0] != (dex.Product{Selection: "5", Name: "Cola", Price: 150, Sold: dex.Sum{Value: 300, Count: 2}}) {
		t.Errorf("%+v", first.Products)
	}
	before := first
	if first.Products = nil; !equalAudits(first, want) {
		t.Errorf("%+v\nwant %+v", first, want)
	}

	// Kept, and folded on; the same records again change nothing.
	tt, err := loadTotals(l.data)
	if err != nil {
		t.Fatal(err)
	}
	fold := func() {
		if _, err := journal.Peek(filepath.Join(l.data, journalName), tt.see); err != nil {
			t.Fatal(err)
		}
		if err := tt.keep(l.data); err != nil {
			t.Fatal(err)
		}
	}
	fold()
	fold()
	l.open()
	l.sale(3, true)
	l.close()
	_, found := dex.Compare(&before, l.audit())
	if len(found) != 0 {
		t.Errorf("%+v", found)
	}
	if a := l.audit(); a.Cash.Count != 2 || a.Cashless.Count != 1 || a.Board != first.Board {
		t.Errorf("%+v", a)
	}

	// Records that went unseen: another board, and no counter falls.
	gap := protocol.Opened{Position: protocol.Position{Epoch: tt.Epoch, Seq: tt.UpTo + 50}}
	tt.see(gap)
	if a := tt.audit("snack-1", 0); a.Board == first.Board || a.Paid.Value < 300 {
		t.Errorf("%+v", a)
	}
	if err := os.WriteFile(filepath.Join(l.data, totalsName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteAudit(l.data, 0); err == nil {
		t.Error("of a spoiled file")
	}
	if _, err := WriteAudit(l.data, 9); err == nil {
		t.Error("of no such lane")
	}
}

func equalAudits(a, b dex.Audit) bool {
	_, found := dex.Compare(&a, b)
	_, back := dex.Compare(&b, a)
	return len(found) == 0 && len(back) == 0 && a.Model == b.Model && a.Asset == b.Asset
}
