package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"coinop/cloud/intake"
	"coinop/cloud/payment"
	"coinop/protocol"
	"coinop/protocol/money"

	"github.com/danielgtaylor/huma/v2"
)

// Amount is money as people write it, and exactly.
type Amount struct {
	Minor    int64  `json:"minor" doc:"in minor units of the currency"`
	Currency string `json:"currency" doc:"ISO 4217"`
	Text     string `json:"text" example:"1.50 EUR"`
}

func amount(a money.Amount) Amount { return Amount{a.Minor, a.Currency.String(), a.String()} }

// Sale is one line of the list.
type Sale struct {
	ID       string    `json:"id"`
	Device   string    `json:"device"`
	Tenant   string    `json:"tenant"`
	By       string    `json:"authorized_by" doc:"who said yes to its last payment" enum:"host,terminal,wallet,closed_loop,cash"`
	State    string    `json:"state" doc:"of its last payment; of cash: approved is money that is in, reversed is money given back; of a terminal: reversing until it says that it gave all back; of a machine that owns its cash: captured" enum:"sent,unknown,approved,capturing,captured,reversing,reversed,expired,declined,refused_unsent,held,adopted,case"`
	Asked    Amount    `json:"asked" doc:"of cash: what was put in; of a machine that owns its cash: the price"`
	Captured Amount    `json:"captured" doc:"of a machine that owns its cash: what it took; less than nothing when it took something back"`
	Payments []string  `json:"payments" doc:"none of a machine that owns its cash"`
	Asking   time.Time `json:"asked_at" doc:"when the cloud got the first request"`
}

// Moment is one thing that is known of a sale.
type Moment struct {
	At     time.Time `json:"at" doc:"cloud time: when it was done, or received"`
	Source string    `json:"source" enum:"device,cloud,acquirer,case,incident"`
	What   string    `json:"what"`
	Detail string    `json:"detail,omitempty"`
	Seq    uint64    `json:"seq,omitempty" doc:"of a device's record: its place in the journal"`
	Device time.Time `json:"device_at,omitzero" doc:"of a device's record: its own clock, which may be wrong"`
}

// Timeline is a sale with everything that is known of it.
type Timeline struct {
	Sale
	Timeline []Moment `json:"timeline"`
	Cases    []Case   `json:"cases"`
}

// Case is an open question about a sale's money.
type Case struct {
	ID      string    `json:"id"`
	Cause   string    `json:"cause"`
	Device  string    `json:"device"`
	Sale    string    `json:"sale,omitempty"`
	Payment string    `json:"payment,omitempty"`
	Charged bool      `json:"charged" doc:"what was decided until it is answered"`
	Opened  time.Time `json:"opened"`
}

type salesInput struct {
	Device string `query:"device" doc:"only of this device" maxLength:"63"`
	State  string `query:"state" doc:"only with a payment in this state" enum:"sent,unknown,approved,capturing,captured,reversing,reversed,expired,declined,refused_unsent,held,adopted,case"`
	Tender string `query:"tender" doc:"only what was paid so; cash is also what a machine that owns its cash says it sold" enum:"card,cash"`
	Before string `query:"before" doc:"only older than this sale: next of the page before" maxLength:"36"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

type salesBody struct {
	Sales []Sale `json:"sales"`
	Next  string `json:"next,omitempty" doc:"before of the next page; absent on the last"`
}

func (s *server) sales(ctx context.Context, in *salesInput) (*body[salesBody], error) {
	f := SaleFilter{Device: protocol.DeviceID(in.Device), Tender: in.Tender}
	if in.Before != "" {
		id, err := saleID(in.Before)
		if err != nil {
			return nil, err
		}
		f.Before = id
	}
	for st := payment.Sent; st <= payment.InCase; st++ {
		if st.String() == in.State {
			f.State = st
		}
	}
	ids, err := s.cfg.Ledger.Sales(ctx, f, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := salesBody{Sales: []Sale{}}
	if len(ids) > in.Limit {
		ids = ids[:in.Limit]
		out.Next = ids[len(ids)-1].String()
	}
	for _, id := range ids {
		ps, err := s.cfg.Ledger.SalePayments(ctx, id)
		if err != nil {
			return nil, err
		}
		sale := summary(id, ps)
		if len(ps) == 0 {
			if sale, err = s.cashSale(ctx, id); err != nil {
				return nil, err
			}
		}
		out.Sales = append(out.Sales, sale)
	}
	return ok(out), nil
}

// cashSale is a sale of a machine that owns its cash: its record is all there is.
func (s *server) cashSale(ctx context.Context, id protocol.SaleID) (Sale, error) {
	r, tenant, err := s.cfg.Ledger.CashSale(ctx, id)
	if err != nil {
		return Sale{}, err
	}
	out := Sale{
		ID: id.String(), Device: string(r.Device), Tenant: tenant, By: protocol.ByCash.String(), State: payment.Captured.String(),
		Payments: []string{}, Asking: r.ReceivedAt.Time(),
	}
	if o, err := protocol.OpenRecord(r.Bytes); err == nil {
		if b, ok := o.Body.(protocol.CashSale); ok {
			out.Asked, out.Captured = amount(b.Price), amount(payment.Sold(b))
		}
	}
	return out, nil
}

func saleID(text string) (protocol.SaleID, error) {
	var id protocol.SaleID
	if err := id.UnmarshalText([]byte(text)); err != nil {
		return id, huma.NewError(http.StatusUnprocessableEntity, "not a sale's id", &huma.ErrorDetail{Message: err.Error(), Value: text})
	}
	return id, nil
}

func summary(id protocol.SaleID, ps []payment.Payment) Sale {
	s := Sale{ID: id.String(), Payments: []string{}}
	for _, p := range ps {
		if s.Asking.IsZero() {
			s.Asking = p.Received.Time()
		}
		s.Device, s.Tenant, s.State, s.Asked = string(p.Device), p.Tenant, p.State.String(), amount(p.Asked)
		if p.Captured.Minor > 0 {
			s.Captured = amount(p.Captured)
		} else if s.Captured.Currency == "" {
			s.Captured = amount(money.New(0, p.Asked.Currency))
		}
		s.By = cmp.Or(p.By, protocol.ByHost).String()
		s.Payments = append(s.Payments, p.ID.String())
	}
	return s
}

type saleInput struct {
	ID string `path:"id" maxLength:"36"`
}

func (s *server) sale(ctx context.Context, in *saleInput) (*body[Timeline], error) {
	id, err := saleID(in.ID)
	if err != nil {
		return nil, err
	}
	ps, err := s.cfg.Ledger.SalePayments(ctx, id)
	if err != nil {
		return nil, err
	}
	out := Timeline{Sale: summary(id, ps), Timeline: []Moment{}, Cases: []Case{}}
	if len(ps) == 0 {
		if out.Sale, err = s.cashSale(ctx, id); err != nil {
			return nil, err
		}
		if out.Device == "" {
			return nil, huma.Error404NotFound("no payment of such a sale is known; orders that ended without a card leave none")
		}
	}
	for _, p := range ps {
		if err := s.payment(ctx, p, &out); err != nil {
			return nil, err
		}
	}
	records, err := s.cfg.Ledger.SaleRecords(ctx, protocol.DeviceID(out.Device), id)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		out.Timeline = append(out.Timeline, recorded(r))
	}
	cases, err := s.cfg.Ledger.SaleCases(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, c := range cases {
		out.Cases = append(out.Cases, openCase(c))
		out.Timeline = append(out.Timeline, Moment{At: c.Opened.Time(), Source: "case", What: c.Cause.String(), Detail: fmt.Sprintf("charged %t until it is answered", c.Charged)})
	}
	slices.SortStableFunc(out.Timeline, func(a, b Moment) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Seq, b.Seq)) })
	return ok(out), nil
}

// payment adds what the cloud and the acquirer did.
func (s *server) payment(ctx context.Context, p payment.Payment, out *Timeline) error {
	if p.Received > 0 && p.Relayed() { // of cash and terminals the records say all there is
		out.Timeline = append(out.Timeline, Moment{At: p.Received.Time(), Source: "cloud", What: "request received", Detail: p.Asked.String()})
	}
	if p.AnswerAt > 0 && p.Relayed() {
		detail := p.State.String()
		var r protocol.AuthorizationResponse
		if protocol.Decode(p.Answer, &r) == nil {
			detail = strings.TrimSpace(fmt.Sprintf("%s %s", r.Result, r.Approved))
		}
		out.Timeline = append(out.Timeline, Moment{At: p.AnswerAt.Time(), Source: "cloud", What: "answered", Detail: detail})
	}
	ops, err := s.cfg.Ledger.PaymentOps(ctx, p.ID)
	if err != nil {
		return err
	}
	for _, o := range ops {
		out.Timeline = append(out.Timeline, Moment{
			At: o.Owed.Time(), Source: "acquirer", What: o.Op.Key.Kind.String(),
			Detail: fmt.Sprintf("%s, %s, STAN %06d, RRN %s, %d tries", o.State, o.Op.Amount, o.Op.STAN, o.Op.RRN, o.Tries),
		})
	}
	incidents, err := s.cfg.Ledger.PaymentIncidents(ctx, p.ID)
	if err != nil {
		return err
	}
	for _, i := range incidents {
		out.Timeline = append(out.Timeline, Moment{At: i.At.Time(), Source: "incident", What: i.Name.String(), Detail: i.Detail})
	}
	return nil
}

// recorded is a device's record in words.
func recorded(r intake.Stored) Moment {
	m := Moment{At: r.ReceivedAt.Time(), Source: "device", What: r.Kind.String(), Seq: uint64(r.Position.Seq)}
	o, err := protocol.OpenRecord(r.Bytes)
	if err != nil {
		m.Detail = "cannot be read"
		return m
	}
	m.Device = o.At.Wall.Time()
	switch b := o.Body.(type) {
	case protocol.SaleOpened:
		m.Detail = fmt.Sprintf("%d items, %s", len(b.Items), b.Due)
	case protocol.AuthorizationSent:
		m.Detail = strings.TrimSpace(fmt.Sprintf("%s, %s %s", b.Amount, b.Card.Brand, b.Card.Last4))
	case protocol.AuthorizationAnswered:
		m.Detail = fmt.Sprintf("%s %s", b.Result, b.Approved)
	case protocol.VendStarted:
		m.Detail = strings.TrimSpace(fmt.Sprintf("outlet %d, %s %s", b.Outlet, b.Amount, b.Product))
	case protocol.AckHint:
		m.Detail = b.Hint.String()
	case protocol.VendResult:
		m.Detail = fmt.Sprintf("%s, %s", b.Result, b.Reason)
	case protocol.VendResolved:
		m.Detail = fmt.Sprintf("%s, late %t", b.Result, b.Late)
	case protocol.PaymentOutcome:
		m.Detail = fmt.Sprintf("%s %s, %s", b.What, b.Amount, b.Reason)
	case protocol.CaseOpened:
		m.Detail = b.Cause.String()
	case protocol.TerminalSent:
		m.Detail = strings.TrimSpace(fmt.Sprintf("%s, terminal %s", b.Amount, b.Terminal))
	case protocol.TerminalAnswered:
		m.Detail = terminalText(b)
	case protocol.TerminalDone:
		m.Detail = fmt.Sprintf("%s %s, %s", b.Op, b.Amount, b.End)
		if b.Reason != "" {
			m.Detail += ": " + b.Reason
		}
	case protocol.CashIn:
		m.Detail = b.Value.String() + pick(b.Bill, ", a bill", ", a coin")
	case protocol.CashSale:
		m.Detail = strings.TrimSpace(fmt.Sprintf("%s, %s, outlet %d %s", b.Sold, b.Price, b.Outlet, b.Product))
	case protocol.StackOrdered:
		m.Detail = b.Value.String()
	case protocol.ChangeOrdered:
		m.Detail = b.Amount.String()
	case protocol.ChangePaid:
		m.Detail = b.Given.String()
		if b.Short.Minor > 0 {
			m.Detail = fmt.Sprintf("%s, short %s: %s", b.Given, b.Short, b.Reason)
		}
	case protocol.ChangeUnknown:
		m.Detail = fmt.Sprintf("of %s: %s", b.Amount, b.Reason)
	case protocol.SaleClosed:
		m.Detail = fmt.Sprintf("%s, delivered %s", b.How, b.Delivered)
	}
	if r.Verdict.Disposition == payment.Quarantined {
		m.Detail = strings.TrimSpace(m.Detail + "; quarantined: " + r.Verdict.Quarantine.String())
	}
	return m
}

// terminalText is what a terminal said.
func terminalText(b protocol.TerminalAnswered) string {
	text := b.Result.String()
	if b.Result == protocol.TerminalApproved {
		text += " " + b.Approved.String()
	}
	add := func(what, s string) {
		if s != "" {
			text += what + s
		}
	}
	add(": ", b.Reason)
	add(", ", strings.TrimSpace(b.Brand+" "+b.Last4))
	add(", receipt ", b.Ref.Receipt)
	if b.AskedBack {
		text += ", asked back"
	}
	return text
}

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

func openCase(c payment.Case) Case {
	out := Case{ID: c.ID.String(), Cause: c.Cause.String(), Device: string(c.Device), Charged: c.Charged, Opened: c.Opened.Time()}
	if !c.Sale.IsZero() {
		out.Sale = c.Sale.String()
	}
	if !c.Payment.IsZero() {
		out.Payment = c.Payment.String()
	}
	return out
}

type casesBody struct {
	Cases []Case `json:"cases"`
}

func (s *server) cases(ctx context.Context, _ *struct{}) (*body[casesBody], error) {
	all, err := s.cfg.Ledger.Cases(ctx)
	if err != nil {
		return nil, err
	}
	out := casesBody{Cases: []Case{}}
	for _, c := range all {
		out.Cases = append(out.Cases, openCase(c))
	}
	return ok(out), nil
}
