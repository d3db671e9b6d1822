package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"coinop/agent/cashbook"
	"coinop/agent/journal"
	"coinop/hardware/dex"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// totals are what a device has sold since it counts, as the counters of an EVA-DTS file: they only grow.
// They are folded from records. The journal forgets those the cloud holds, so what was folded is kept in
// a file beside it; without that file counting begins anew, as another board.
type totals struct {
	Epoch protocol.Epoch                `json:"epoch"`
	UpTo  protocol.Seq                  `json:"up_to"`
	Board string                        `json:"board"` // names where counting began
	Lanes map[protocol.Lane]*laneTotals `json:"lanes"`
	Odd   map[string]code.Code          `json:"odd,omitempty"` // what of the plan does not fit
}

type laneTotals struct {
	Currency money.Currency                   `json:"currency"`
	Cash     dex.Sum                          `json:"cash"`
	Cards    dex.Sum                          `json:"cards"`
	Test     int64                            `json:"test"` // vends
	In       dex.Money                        `json:"in"`
	Out      int64                            `json:"out"`
	Products map[protocol.Outlet]*dex.Product `json:"products"`
	Vends    map[protocol.VendID]started      `json:"vends"` // of the sale that is open
	Payments cashbook.Payments                `json:"cash_payments"`
	Class    protocol.Class                   `json:"class"`
}

// started is a vend that may be sold.
type started struct {
	Outlet  protocol.Outlet `json:"outlet"`
	Product string          `json:"product"`
	Minor   int64           `json:"minor"`
}

const (
	totalsName = "totals.json"
	totalsKept = time.Hour // at least so often the file is written
	// So many times at the start. What is left then (the file is gone, or from before this program kept
	// one) is folded later, and what of the plan does not fit may be told once more.
	foldAtStart = 4
)

func (t *totals) lane(id protocol.Lane) *laneTotals {
	if t.Lanes == nil {
		t.Lanes = map[protocol.Lane]*laneTotals{}
	}
	l := t.Lanes[id]
	if l == nil {
		l = &laneTotals{
			Products: map[protocol.Outlet]*dex.Product{}, Vends: map[protocol.VendID]started{},
		}
		t.Lanes[id] = l
	}
	return l
}

// next reports that a record is the one after what was folded.
func (t *totals) next(at protocol.Position) bool { return t.Epoch == at.Epoch && t.UpTo+1 == at.Seq }

// see folds a record; one that was folded before changes nothing. Records that went unseen make another
// board of it: what they sold is missing.
func (t *totals) see(o protocol.Opened) {
	at := o.Position
	switch {
	case t.Epoch == at.Epoch && at.Seq <= t.UpTo:
		return
	case t.Board == "", t.Epoch == at.Epoch && at.Seq > t.UpTo+1, t.Epoch != at.Epoch && at.Seq > 1:
		t.Board = fmt.Sprintf("%s-%d", at.Epoch.String()[:8], at.Seq)
	}
	t.Epoch, t.UpTo = o.Position.Epoch, o.Position.Seq
	switch b := o.Body.(type) {
	case protocol.SaleOpened:
		l := t.lane(o.Lane)
		l.Class, l.Currency = b.Class, b.Due.Currency
		clear(l.Vends)
	case protocol.VendStarted:
		t.lane(o.Lane).Vends[b.Vend] = started{b.Outlet, b.Product, b.Amount.Minor}
	case protocol.SaleClosed:
		clear(t.lane(o.Lane).Vends)
	case protocol.DeviceEvent:
		t.oddity(b)
	case protocol.CashIn, protocol.PaymentOutcome, protocol.ChangePaid, protocol.ChangeUnknown, protocol.CashByHand:
		l := t.lane(o.Lane)
		if m, ok := l.Payments.See(b); ok {
			l.moved(m)
		}
	}
}

func (l *laneTotals) moved(m cashbook.Moved) {
	if m.In > 0 {
		l.Currency = m.Currency
	}
	l.In.In += m.In
	switch {
	case m.Bill:
		l.In.Bills += m.In
	case m.Box:
		l.In.Box += m.In
	default:
		l.In.Tubes += m.In
	}
	l.Out += m.Out + m.ByHand // CA4 holds both
	if !m.Captured {
		return
	}
	if l.Class == protocol.Test {
		l.Test += int64(len(m.Counted))
		return
	}
	tender := &l.Cash
	if m.Card {
		tender = &l.Cards
	}
	tender.Value += m.Sold
	for _, v := range m.Counted {
		s, ok := l.Vends[v]
		if !ok {
			continue
		}
		tender.Count++
		p := l.Products[s.Outlet]
		if p == nil {
			p = &dex.Product{Selection: strconv.Itoa(int(s.Outlet))}
			l.Products[s.Outlet] = p
		}
		p.Price, p.Sold.Value, p.Sold.Count = s.Minor, p.Sold.Value+s.Minor, p.Sold.Count+1
		if s.Product != "" {
			p.Name = s.Product
		}
	}
}

// audit is a lane's counters.
func (t *totals) audit(device string, id protocol.Lane) dex.Audit {
	l := t.lane(id)
	a := dex.Audit{
		Serial: device, Model: "COINOP", Asset: device, Board: t.Board, Decimals: l.Currency.Exponent(), Currency: l.Currency.String(),
		Test: dex.Sum{Count: l.Test}, Cash: l.Cash, Cashless: l.Cards, CashIn: l.In, CashOut: l.Out,
		Paid: dex.Sum{Value: l.Cash.Value + l.Cards.Value, Count: l.Cash.Count + l.Cards.Count},
	}
	if len(t.Lanes) > 1 {
		a.Serial = fmt.Sprintf("%s-%d", device, id)
	}
	for _, o := range slices.Sorted(maps.Keys(l.Products)) {
		a.Products = append(a.Products, *l.Products[o])
	}
	return a
}

// loadTotals are those of a data folder; none is empty, and so is what cannot be read.
func loadTotals(data string) (t totals, err error) {
	b, err := os.ReadFile(filepath.Join(data, totalsName))
	if errors.Is(err, fs.ErrNotExist) {
		return totals{}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil {
		return totals{}, fmt.Errorf("%s: %w", totalsName, err)
	}
	return t, nil
}

// keep writes them, whole or not at all.
func (t *totals) keep(data string) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	path := filepath.Join(data, totalsName)
	f, err := os.CreateTemp(data, totalsName+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// WriteAudit is an EVA-DTS file of what a lane has sold since the device counts, from its own records: for a
// vending management system. The agent may run meanwhile.
func WriteAudit(data string, lane protocol.Lane) ([]byte, error) {
	t, err := loadTotals(data)
	if err != nil {
		return nil, err
	}
	p, err := journal.Peek(filepath.Join(data, journalName), t.see)
	if err != nil {
		return nil, fmt.Errorf("%w; is %s the folder that the agent runs with?", err, data)
	}
	if t.Lanes[lane] == nil {
		return nil, fmt.Errorf("lane %d has sold nothing yet", lane)
	}
	comm := (string(p.Device) + "          ")[:10]
	return dex.Write(comm, t.audit(string(p.Device), lane).Segments()), nil
}

// fold takes some of what is new in, and keeps it now and then.
func (s *shell) fold(now time.Duration) error {
	if err := s.foldSome(); err != nil {
		return err
	}
	if now >= s.totalsAt {
		s.totalsAt = now + totalsKept
		s.keepTotals()
	}
	return nil
}

func (s *shell) foldSome() error {
	t, head := &s.totals, s.journal.Head()
	after := t.UpTo
	if t.Epoch != head.Epoch {
		after = 0
	}
	if oldest := s.journal.Oldest(); oldest > 0 && after+1 < oldest {
		after = oldest - 1
	}
	if after >= head.Seq {
		return nil
	}
	_, err := s.read(after, t.see)
	return err
}

func (s *shell) keepTotals() {
	if err := s.totals.keep(s.cfg.Data); err != nil {
		s.log.Warn("what was sold is not kept for EVA-DTS files", "error", err)
	}
}
