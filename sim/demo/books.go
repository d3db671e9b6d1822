package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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

// readLedger is every payment with what the transfers say of it, and the error of a ledger that is
// not balanced.
func readLedger(ctx context.Context, place cloud.Place) (books []Booked, unbalanced error, err error) {
	st, err := place.OpenLedger(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	devices, err := st.Devices(ctx)
	if err != nil {
		return nil, nil, err
	}
	tids := map[protocol.DeviceID]string{}
	for _, d := range devices {
		tids[d.ID] = d.Merchant.TID
	}
	ps, err := payments(ctx, st)
	if err != nil {
		return nil, nil, err
	}
	at := map[protocol.PaymentID]int{}
	ofSale := map[protocol.SaleID]int{}
	for _, p := range ps {
		b := Booked{
			Device: p.Device, TID: tids[p.Device], Sale: p.Sale, Payment: p.ID, State: p.State, Asked: p.Asked,
			Captured: money.New(0, p.Asked.Currency), Open: money.New(0, p.Asked.Currency),
		}
		ops, err := st.PaymentOps(ctx, p.ID)
		if err != nil {
			return nil, nil, err
		}
		for _, o := range ops {
			if o.Op.Key.Kind == acquirer.Authorization {
				b.Asks = append(b.Asks, Ask{fmt.Sprintf("%06d", o.Op.STAN), o.Op.RRN})
			}
		}
		at[p.ID] = len(books)
		ofSale[p.Sale] = len(books)
		books = append(books, b)
	}
	if err := addTransfers(ctx, st, books, at); err != nil {
		return nil, nil, err
	}
	cases, err := st.Cases(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range cases {
		i, ok := at[c.Payment]
		if !ok {
			i, ok = ofSale[c.Sale]
		}
		if !ok { // of a sale nobody asked money for: it stands for itself
			i = len(books)
			books = append(books, Booked{Device: c.Device, TID: tids[c.Device], Sale: c.Sale, Payment: c.Payment, State: payment.InCase})
		}
		books[i].Cases = append(books[i].Cases, Question{c.Cause, c.Charged})
	}
	balances, err := st.Balances(ctx)
	if err != nil {
		return nil, nil, err
	}
	return books, ledger.CheckSums(balances), nil
}

func addTransfers(ctx context.Context, st *store.Store, books []Booked, at map[protocol.PaymentID]int) error {
	for after := uint64(0); ; {
		es, err := st.Transfers(ctx, after, page)
		if err != nil {
			return err
		}
		for _, e := range es {
			after = e.Seq
			i, ok := at[e.Payment]
			if !ok {
				return fmt.Errorf("transfer %s is of payment %s, which there is none of", e.ID, e.Payment)
			}
			books[i].add(e.Transfer)
		}
		if len(es) < page {
			return nil
		}
	}
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
			case ledger.AcqUnconfirmed, ledger.ReversalOwed, ledger.Suspense:
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
