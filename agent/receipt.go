package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"coinop/agent/journal"
	"coinop/hardware/paper"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Receipts are made from the journal, so that a restart in mid sale changes nothing on them. The last
// ones are kept as files for a buyer who comes back; they are a convenience, nothing depends on them.
const (
	receiptsDir  = "receipts"
	receiptsKept = 100
	// farthest is how many records back a sale's first one is looked for.
	farthest = 1024
)

// recordsOf are the records of a sale, in order, from its SaleOpened on.
func recordsOf(j *journal.Journal, sale protocol.SaleID) ([]protocol.Opened, error) {
	const step = 64
	var all []protocol.Opened
	gone := j.Oldest() - 1 // released, and deleted
	for end := j.Head().Seq; end > gone && j.Head().Seq-end < farthest; {
		after := end - min(end-gone, step)
		sealed, err := j.Read(after, int(end-after))
		if err != nil {
			return nil, err
		}
		var some []protocol.Opened
		opened := false
		for _, r := range sealed {
			o, err := protocol.OpenRecord(r.Bytes)
			if err != nil {
				return nil, err
			}
			if o.Sale != sale {
				continue
			}
			some = append(some, o)
			_, is := o.Body.(protocol.SaleOpened)
			opened = opened || is
		}
		all = append(some, all...)
		if end = after; opened {
			return all, nil
		}
	}
	return all, nil
}

// receiptOf is the receipt of a sale by its records. Card first has no SaleOpened before the first
// vend; whatever stands there is enough.
func receiptOf(records []protocol.Opened, sale protocol.SaleID, currency money.Currency) paper.Receipt {
	r := paper.Receipt{Sale: sale.String(), Charged: money.New(0, currency)}
	items := map[protocol.VendID]int{}
	state := func(v protocol.VendID, what protocol.VendOutcome) {
		i, ok := items[v]
		if !ok {
			return
		}
		switch what {
		case protocol.Delivered, protocol.Presumed:
			r.Items[i].State = paper.ItemDelivered
		case protocol.Failed:
			r.Items[i].State = paper.ItemFailed
		case protocol.Unknown:
			r.Items[i].State = paper.ItemUnknown
		}
	}
	zero := money.New(0, currency)
	add := func(to *money.Amount, a money.Amount) { // of one currency, but for a broken record
		if sum, err := to.Add(a); err == nil {
			*to = sum
		}
	}
	for _, o := range records {
		r.At = o.At.Wall.Time()
		switch b := o.Body.(type) {
		case protocol.SaleOpened:
			r.Test = b.Class == protocol.Test
		case protocol.AuthorizationSent:
			r.Brand, r.Last4 = b.Card.Brand, b.Card.Last4
		case protocol.AuthorizationAnswered:
			r.Approval = b.AuthID
		case protocol.OfflineAccepted:
			r.Brand, r.Last4, r.Offline, r.Approval = b.Card.Brand, b.Card.Last4, true, ""
		case protocol.VendStarted:
			name := b.Product
			if name == "" {
				name = fmt.Sprintf("Item %d", b.Outlet)
			}
			items[b.Vend] = len(r.Items)
			r.Items = append(r.Items, paper.Item{Name: name, Price: b.Amount, State: paper.ItemUnknown})
		case protocol.VendResult:
			state(b.Vend, b.Result)
		case protocol.VendResolved:
			state(b.Vend, b.Result)
		case protocol.PaymentOutcome:
			r.Charged = b.Amount
		case protocol.TerminalAnswered:
			if b.Result == protocol.TerminalApproved {
				r.Brand, r.Last4, r.Approval, r.Terminal = b.Brand, b.Last4, b.Ref.AuthID, b.Receipt
			}
		case protocol.CashIn:
			r.Change = zero
			add(&r.Cash, b.Value)
		case protocol.ChangePaid:
			r.Change, r.Owed = b.Given, b.Short
		case protocol.ChangeUnknown:
			r.Owed = b.Amount
		case protocol.CaseOpened:
			r.Open = true
		}
	}
	return r
}

// receipt makes a sale's receipt, keeps it, and prints it where there is a printer. Nothing waits for it.
func (s *shell) receipt(l *lane, sale protocol.SaleID) {
	log := s.log.With("lane", int(l.id), "sale", sale.String())
	records, err := recordsOf(s.journal, sale)
	if err != nil {
		log.Error("receipt not made", "error", err)
		return
	}
	r := receiptOf(records, sale, s.cfg.Policy.Currency)
	r.Head, r.Foot, r.Machine, r.At = s.cfg.Head, s.cfg.Foot, string(s.cfg.Identity.Device), r.At.Local()
	if s.cfg.ReceiptQR {
		r.QR = r.Sale
	}
	if err := keepReceipt(s.cfg.Data, r); err != nil {
		log.Warn("receipt not kept", "error", err)
	}
	attrs := []any{"reference", r.Reference()}
	if l.printer != nil {
		for _, one := range l.copies.of(r) {
			p := printing{one, s.mono()}
			page, err := s.print(l, p)
			if err != nil {
				s.printLater(l, p)
				log.Warn("receipt not printed", append(attrs, "error", err, "check", "the printer: coinop-agent receipt shows what it would have printed")...)
				continue
			}
			attrs = append(attrs, "job", s.job)
			if page.Missing > 0 {
				attrs = append(attrs, "characters_missing", page.Missing)
			}
		}
	}
	log.Info("receipt", attrs...)
}

// keepReceipt writes a receipt into the data folder, and forgets the oldest.
func keepReceipt(data string, r paper.Receipt) error {
	dir := filepath.Join(data, receiptsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, r.Sale+".json") // whole or not there, for those who look meanwhile
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	names, err := receiptNames(dir)
	for i := 0; err == nil && i < len(names)-receiptsKept; i++ {
		err = os.Remove(filepath.Join(dir, names[i]))
	}
	return err
}

// receiptNames are the files of a folder, oldest first: a sale's id begins with its time.
func receiptNames(dir string) ([]string, error) {
	all, err := os.ReadDir(dir)
	var names []string
	for _, e := range all {
		if strings.HasSuffix(e.Name(), ".json") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// Receipts are the receipts kept in a data folder, oldest first; the agent may run meanwhile. What
// cannot be read is in the error, and the others are given all the same.
func Receipts(data string) ([]paper.Receipt, error) {
	dir := filepath.Join(data, receiptsDir)
	names, err := receiptNames(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	errs := []error{err}
	var all []paper.Receipt
	for _, name := range names {
		var r paper.Receipt
		b, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // of our folder
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if errors.Is(err, fs.ErrNotExist) { // forgotten meanwhile
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("receipt %s: %w", name, err))
			continue
		}
		r.At = r.At.In(time.Local)
		all = append(all, r)
	}
	return all, errors.Join(errs...)
}
