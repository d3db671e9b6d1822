package demo

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"coinop/agent/cashbook"
	"coinop/agent/journal"
	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// page is how many rows are read at once.
const page = 1000

func payments(ctx context.Context, st *store.Store) ([]payment.Payment, error) {
	var out []payment.Payment
	for f := (store.PaymentFilter{}); ; {
		ps, err := st.Payments(ctx, f, page)
		if err != nil {
			return nil, err
		}
		out = append(out, ps...)
		if len(ps) < page {
			return out, nil
		}
		f.After = ps[page-1].ID
	}
}

// readLedger is every payment with what the transfers say of it, the cash that records and transfers explain,
// and the error of a ledger that is not balanced.
func readLedger(ctx context.Context, place cloud.Place) (ours Ours, unbalanced error, err error) {
	st, err := place.OpenLedger(ctx)
	if err != nil {
		return ours, nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	devices, err := st.Devices(ctx)
	if err != nil {
		return ours, nil, err
	}
	r := reading{
		st: st, tids: map[protocol.DeviceID]string{}, at: map[protocol.PaymentID]int{}, ofSale: map[protocol.SaleID]int{},
		due: map[protocol.SaleID]money.Amount{}, cash: map[drawer]*Explained{},
	}
	for _, d := range devices {
		r.tids[d.ID] = d.Merchant.TID
		if err := r.records(ctx, d.ID); err != nil {
			return ours, nil, err
		}
	}
	for _, step := range []func(context.Context) error{r.payments, r.transfers, r.cases} {
		if err := step(ctx); err != nil {
			return ours, nil, err
		}
	}
	for _, b := range r.books { // what no case names is not explained
		if b.Owed.Minor > 0 && b.names() {
			r.drawer(b.Device, b.Owed.Currency).Owed += b.Owed.Minor
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(r.cash), func(a, b drawer) int {
		return cmp.Or(cmp.Compare(a.device, b.device), cmp.Compare(a.currency, b.currency))
	}) {
		ours.Cash = append(ours.Cash, *r.cash[k])
	}
	balances, err := st.Balances(ctx)
	if err != nil {
		return ours, nil, err
	}
	ours.Payments, ours.Told = r.books, r.told
	return ours, ledger.CheckSums(balances), nil
}

// reading is our books being read.
type reading struct {
	st     *store.Store
	tids   map[protocol.DeviceID]string
	books  []Booked
	at     map[protocol.PaymentID]int
	ofSale map[protocol.SaleID]int
	due    map[protocol.SaleID]money.Amount
	cash   map[drawer]*Explained
	told   int // CashSales
}

// drawer is the cash of one currency in a machine.
type drawer struct {
	device   protocol.DeviceID
	currency money.Currency
}

func (r *reading) drawer(d protocol.DeviceID, c money.Currency) *Explained {
	k := drawer{d, c}
	if r.cash[k] == nil {
		r.cash[k] = &Explained{Device: d, Currency: c}
	}
	return r.cash[k]
}

// records are those of a device that the cloud holds: what sales were to cost, and what of its cash has a name.
func (r *reading) records(ctx context.Context, d protocol.DeviceID) error {
	head, err := r.st.Head(ctx, d)
	if err != nil {
		return err
	}
	book := cashbook.New()
	for after := protocol.Seq(0); after < head.Position.Seq; {
		all, err := r.st.Records(ctx, d, head.Position.Epoch, after, page)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return fmt.Errorf("records of %s end at %d of %d", d, after, head.Position.Seq)
		}
		for _, stored := range all {
			after = stored.Position.Seq
			o, err := protocol.OpenRecord(stored.Bytes)
			if err != nil {
				return fmt.Errorf("record %d of %s: %w", after, d, err)
			}
			book.See(o)
			switch b := o.Body.(type) {
			case protocol.SaleOpened:
				r.due[o.Sale] = b.Due
			case protocol.CashSale:
				r.told++
			case protocol.ChangeUnknown:
				r.drawer(d, b.Amount.Currency).Unknown += b.Amount.Minor
			}
		}
	}
	for _, rep := range book.Reports() {
		for _, f := range rep.Findings {
			x := r.drawer(d, f.Amount.Currency)
			x.Names = append(x.Names, fmt.Sprintf("%s: %s, %s: %s", d, f.Cause, f.Amount, f.Text))
			switch f.Cause {
			case cashbook.CashKept:
				x.Named += f.Amount.Minor
			case cashbook.CashGone:
				x.Named -= f.Amount.Minor
			}
		}
	}
	return nil
}

func (r *reading) payments(ctx context.Context) error {
	ps, err := payments(ctx, r.st)
	if err != nil {
		return err
	}
	for _, p := range ps {
		none := money.New(0, p.Asked.Currency)
		b := Booked{
			Device: p.Device, TID: r.tids[p.Device], Sale: p.Sale, Payment: p.ID, By: p.By, State: p.State, Asked: p.Asked,
			Price: r.due[p.Sale], Captured: none, Open: none, Owed: none,
		}
		ops, err := r.st.PaymentOps(ctx, p.ID)
		if err != nil {
			return err
		}
		for _, o := range ops {
			if o.Op.Key.Kind == acquirer.Authorization {
				b.Asks = append(b.Asks, Ask{fmt.Sprintf("%06d", o.Op.STAN), o.Op.RRN})
			}
		}
		r.at[p.ID] = len(r.books)
		r.ofSale[p.Sale] = len(r.books)
		r.books = append(r.books, b)
	}
	return nil
}

func (r *reading) transfers(ctx context.Context) error {
	for after := uint64(0); ; {
		es, err := r.st.Transfers(ctx, after, page)
		if err != nil {
			return err
		}
		for _, e := range es {
			after = e.Seq
			r.sold(e.Transfer)
			i, ok := r.at[e.Payment]
			switch {
			case ok:
				r.books[i].add(e.Transfer)
			case e.Debit == ledger.CashInTransit, e.Credit == ledger.CashInTransit, e.Credit == ledger.CashDifference, e.Debit == ledger.CashByHand: // people's
			case e.Debit != ledger.CashInMachine && e.Credit != ledger.CashInMachine || !e.Payment.IsZero():
				return fmt.Errorf("transfer %s is of payment %s, which there is none of", e.ID, e.Payment)
			}
		}
		if len(es) < page {
			return nil
		}
	}
}

// sold counts what was sold for cash.
func (r *reading) sold(t ledger.Transfer) {
	cash := func(a ledger.Account) bool { return a == ledger.CashInMachine || a == ledger.CashCredit }
	switch {
	case t.Kind != ledger.Post:
	case cash(t.Debit) && t.Credit == ledger.MerchantPayable:
		r.drawer(t.Device, t.Amount.Currency).Sold += t.Amount.Minor
	case cash(t.Credit) && t.Debit == ledger.MerchantPayable:
		r.drawer(t.Device, t.Amount.Currency).Sold -= t.Amount.Minor
	}
}

func (r *reading) cases(ctx context.Context) error {
	cases, err := r.st.Cases(ctx)
	if err != nil {
		return err
	}
	for _, c := range cases {
		i, ok := r.at[c.Payment]
		if !ok {
			i, ok = r.ofSale[c.Sale]
		}
		if !ok { // of a sale nobody asked money for: it stands for itself
			i = len(r.books)
			r.books = append(r.books, Booked{
				Device: c.Device, TID: r.tids[c.Device], Sale: c.Sale, Payment: c.Payment, State: payment.InCase, Price: r.due[c.Sale],
			})
		}
		r.books[i].Cases = append(r.books[i].Cases, Question{c.Cause, c.Charged})
	}
	return nil
}

// add counts a transfer: what the merchant got, and what is on its way: holds, captures the host has
// not confirmed, reversals it has not.
func (b *Booked) add(t ledger.Transfer) {
	switch t.Kind {
	case ledger.Pending:
		b.Open.Minor += t.Amount.Minor
	case ledger.Void:
		b.Open.Minor -= t.Amount.Minor
	case ledger.Post:
		for _, side := range []struct {
			account ledger.Account
			sign    int64
		}{{t.Credit, 1}, {t.Debit, -1}} {
			switch side.account {
			case ledger.MerchantPayable:
				b.Captured.Minor += side.sign * t.Amount.Minor
			case ledger.ChangeOwed:
				b.Owed.Minor += side.sign * t.Amount.Minor
			case ledger.AcqUnconfirmed, ledger.ReversalOwed, ledger.Suspense, ledger.CashCredit:
				b.Open.Minor += side.sign * t.Amount.Minor
			default:
			}
		}
	}
}

// readDrops reads what fell at a machine.
func readDrops(path, tid string) ([]Fallen, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Fallen
	for s := bufio.NewScanner(strings.NewReader(string(text))); s.Scan(); {
		var d virtual.Drop
		if err := json.Unmarshal(s.Bytes(), &d); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		number, code, _ := strings.Cut(d.Price, " ")
		currency, err := money.CurrencyOf(code)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		price, err := money.Parse(number, currency)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		out = append(out, Fallen{TID: tid, N: d.N, Price: price})
	}
	return out, nil
}

// readTerminal reads what a terminal's provider has; nothing where there is no terminal.
func readTerminal(path, tid string) ([]AtTerminal, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := []AtTerminal{{TID: tid}}
	if err := json.Unmarshal(b, &out[0].Books); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return out, nil
}

// readMoved reads what cash a machine counted. Its agent was killed at some times: what had come in just before
// one of them, the last coin, it may not have written.
func readMoved(path string, device protocol.DeviceID, kills []int64) ([]InMachine, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []Moved
	for line := range strings.Lines(string(text)) {
		var m Moved
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, nil
	}
	last := all[len(all)-1]
	currency, err := money.CurrencyOf(last.Currency)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	out := InMachine{Device: device, Currency: currency, In: last.In, Out: last.Out}
	for _, k := range kills {
		coin, before := int64(0), int64(0)
		for _, m := range all {
			if m.In > before && m.UnixMS <= k+deathThroes && m.UnixMS >= k-unwritten {
				coin = m.In - before
			}
			before = m.In
		}
		out.Doubt += coin
	}
	return []InMachine{out}, nil
}

// A coin that was acknowledged on the bus is on the disk a moment later. What a machine counts it writes down a
// moment later too.
const (
	unwritten   = 1000 // ms
	deathThroes = 100  // ms
)

// journalHead is how far an agent's journal goes. The agent must have ended.
func journalHead(dir string, device protocol.DeviceID) (protocol.Position, error) {
	j, err := journal.OpenBadger(filepath.Join(dir, "data", "journal"), journal.Options{
		Device:   device,
		NewEpoch: func() protocol.Epoch { return protocol.Epoch{1} },
	})
	if err != nil {
		return protocol.Position{}, err
	}
	head := j.Head()
	return head, j.Close()
}
