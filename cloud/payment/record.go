package payment

import (
	"coinop/cloud/ledger"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Record says what a journal record means for money, and returns its disposition. The record's
// chain was checked and it is of the device it names.
func (u *Unit) Record(tenant string, r protocol.Opened) (Verdict, error) {
	if r.Content != nil {
		return Verdict{Quarantined, protocol.BadContent}, u.unreadable(r)
	}
	switch b := r.Body.(type) {
	case protocol.UnknownBody: // of a newer agent; also a newer PaymentOutcome
		return Verdict{Quarantined, protocol.UnknownKind}, u.unreadable(r)
	case protocol.PaymentOutcome:
		return u.outcome(tenant, r)
	case protocol.OfflineAccepted:
		if err := u.step(b.Payment, Offline{Device: r.Device, Sale: r.Sale, Tenant: tenant, Amount: b.Amount, Position: r.Position}); err != nil {
			return Verdict{}, err
		}
		return u.verdict, nil
	case protocol.CashIn:
		return u.own(b.Payment, Cash{Device: r.Device, Sale: r.Sale, Tenant: tenant, Lane: r.Lane, Value: b.Value, Position: r.Position})
	case protocol.ChangePaid:
		return u.own(b.Payment, ChangeSaid{Device: r.Device, Given: b.Given, Short: b.Short, Position: r.Position})
	case protocol.ChangeUnknown: // owed until a person has looked
		return u.own(b.Payment, ChangeSaid{Device: r.Device, Given: money.New(0, b.Amount.Currency), Short: b.Amount, Position: r.Position})
	case protocol.CashSale:
		return u.machineCash(tenant, r, Sold(b)), nil
	case protocol.CountersRead:
		return u.machineCash(tenant, r, b.Unheard()), nil
	case protocol.CashCollected:
		return u.handled(tenant, r, func(a ledger.About, source string) []ledger.Transfer { return a.CashCollected(source, b.Expected) }, b.Expected), nil
	case protocol.BagCounted:
		return u.handled(tenant, r, func(a ledger.About, source string) []ledger.Transfer {
			return a.BagCounted(source, b.Expected, b.Value)
		}, b.Value, b.Expected), nil
	case protocol.CashByHand:
		return u.handled(tenant, r, func(a ledger.About, source string) []ledger.Transfer { return a.TakenByHand(source, b.Value) }, b.Value), nil
	case protocol.TerminalSent:
		return u.own(b.Payment, TerminalAsked{
			Device: r.Device, Sale: r.Sale, Tenant: tenant, Lane: r.Lane, Purpose: b.Purpose, Amount: b.Amount, Position: r.Position,
		})
	case protocol.TerminalAnswered:
		return u.own(b.Payment, TerminalSaid{
			Device: r.Device, Sale: r.Sale, Result: b.Result, Approved: b.Approved, AuthID: b.Ref.AuthID, Position: r.Position,
		})
	case protocol.TerminalDone:
		return u.own(b.Payment, TerminalEnded{Device: r.Device, Op: b.Op, Amount: b.Amount, End: b.End, Position: r.Position})
	case protocol.AuthorizationSent:
		return Verdict{NoMoney, 0}, u.sent(r, b)
	case protocol.AuthorizationAnswered:
		return Verdict{NoMoney, 0}, u.answered(r, b)
	case protocol.CaseOpened:
		c := Case{ID: b.Case, Cause: b.Cause, Tenant: tenant, Device: r.Device, Sale: r.Sale, Payment: b.Payment, Charged: b.Charged, Opened: u.now}
		u.queue(func(tx Tx) { tx.PutCase(c) })
		u.change("case."+b.Cause.String(), r, b.Payment, "")
	case protocol.SaleClosed:
		u.change("sale."+b.How.String(), r, protocol.PaymentID{}, b.Delivered.String())
	}
	return Verdict{NoMoney, 0}, nil
}

// own takes a record of a payment that no host of ours knows: cash, or at a terminal.
func (u *Unit) own(id protocol.PaymentID, f Fact) (Verdict, error) {
	if id.IsZero() {
		return Verdict{Quarantined, protocol.BadContent}, nil
	}
	err := u.step(id, f)
	return u.verdict, err
}

// Sold is what a machine that owns its cash took for a sale.
func Sold(b protocol.CashSale) money.Amount {
	switch b.Sold {
	case protocol.SoldForCash:
		return b.Price
	case protocol.SoldNegative: // it took a thing back, and gave the money
		return money.New(-b.Price.Minor, b.Price.Currency)
	case protocol.SoldFree, protocol.SoldTest, protocol.SoldForToken:
	}
	return money.New(0, b.Price.Currency)
}

// mostCash is more than any machine takes between two readings, in minor units.
const mostCash = 1e12

// machineCash books what a machine that owns its cash took, or, of less than nothing, took too little.
func (u *Unit) machineCash(tenant string, r protocol.Opened, took money.Amount) Verdict {
	if took.IsZero() {
		return Verdict{NoMoney, 0}
	}
	if !took.Currency.Known() || took.Minor > mostCash || took.Minor < -mostCash {
		return Verdict{Quarantined, protocol.BadContent}
	}
	about := u.ofDevice(tenant, r)
	ts := about.CashSold(record(r.Position), took)
	if took.Minor < 0 {
		ts = about.CashUnsold(record(r.Position), money.New(-took.Minor, took.Currency))
	}
	u.queue(func(tx Tx) { tx.Post(ts...) })
	return Verdict{Posted, 0}
}

// ofDevice is what transfers of a device and of no payment have in common.
func (u *Unit) ofDevice(tenant string, r protocol.Opened) ledger.About {
	return ledger.About{Tenant: tenant, Device: r.Device, Day: u.now.Time().Format("20060102")}
}

// handled books cash that a person took out of a machine, or counted. All amounts are of one currency.
func (u *Unit) handled(tenant string, r protocol.Opened, row func(ledger.About, string) []ledger.Transfer, amounts ...money.Amount) Verdict {
	for _, a := range amounts {
		if a.Minor < 0 || a.Minor > mostCash || !a.Currency.Known() || a.Currency != amounts[0].Currency {
			return Verdict{Quarantined, protocol.BadContent}
		}
	}
	ts := row(u.ofDevice(tenant, r), record(r.Position))
	if len(ts) == 0 {
		return Verdict{NoMoney, 0}
	}
	u.queue(func(tx Tx) { tx.Post(ts...) })
	return Verdict{Posted, 0}
}

func (u *Unit) change(what string, r protocol.Opened, p protocol.PaymentID, detail string) {
	c := Change{At: u.now, What: what, Device: r.Device, Sale: r.Sale, Payment: p, Detail: detail}
	u.queue(func(tx Tx) { tx.PutChange(c) })
}

// unreadable freezes the release of what a quarantined record may have been about. Only approved
// payments can be released; an outcome nobody can read must not let one go.
func (u *Unit) unreadable(r protocol.Opened) error {
	if r.Body.Kind() != protocol.KindPaymentOutcome || r.Sale.IsZero() {
		return nil
	}
	ids, err := u.tx.OpenOf(r.Sale)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := u.step(id, Unreadable{}); err != nil {
			return err
		}
	}
	return nil
}

// outcome takes a PaymentOutcome in, from the journal or as its early copy.
func (u *Unit) outcome(tenant string, r protocol.Opened) (Verdict, error) {
	b := r.Body.(protocol.PaymentOutcome)
	if !sensible(b) {
		return Verdict{Quarantined, protocol.BadContent}, u.unreadable(r) // it decodes, and says nothing that can be done
	}
	f := Outcome{Device: r.Device, Sale: r.Sale, Tenant: tenant, What: b.What, Amount: b.Amount, Reason: b.Reason, Position: r.Position}
	if b.What == protocol.Capture {
		taker, err := u.taker(r.Sale)
		if err != nil {
			return Verdict{}, err
		}
		f.Second = !taker.IsZero() && taker != b.Payment
	}
	if err := u.step(b.Payment, f); err != nil {
		return Verdict{}, err
	}
	return u.verdict, nil
}

// sensible reports an outcome that something can be done about.
func sensible(o protocol.PaymentOutcome) bool {
	return !o.Payment.IsZero() && (o.What == protocol.Void || o.What == protocol.Capture && o.Amount.Minor > 0)
}

func (u *Unit) taker(sale protocol.SaleID) (protocol.PaymentID, error) {
	for _, r := range u.touched {
		if r.p.Sale == sale && r.p.Takes() {
			return r.p.ID, nil
		}
	}
	return u.tx.Taker(sale)
}

// sent compares what the device says it asked with what was received.
func (u *Unit) sent(r protocol.Opened, b protocol.AuthorizationSent) error {
	row, err := u.row(b.Payment)
	if err != nil {
		return err
	}
	if !row.p.AskHash.IsZero() && (row.p.AskHash != b.AskHash || row.p.Device != r.Device) {
		u.incident(AskHashDiffers, r.Device, b.Payment, "")
	}
	return nil
}

// answered compares the answer the device acted on with those that were published.
func (u *Unit) answered(r protocol.Opened, b protocol.AuthorizationAnswered) error {
	row, err := u.row(b.Payment)
	if err != nil {
		return err
	}
	p := row.p
	switch {
	case p.State == None || p.Device != r.Device:
		u.incident(AnswerUnseen, r.Device, b.Payment, "")
	case len(p.Answer) > 0 && protocol.HashBytes(p.Answer) == b.AnswerHash:
	case len(p.Gone) > 0 && protocol.HashBytes(p.Gone) == b.AnswerHash:
	default:
		u.incident(AnswerHashDiffers, r.Device, b.Payment, "")
	}
	return nil
}
