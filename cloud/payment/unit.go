package payment

import (
	"fmt"
	"reflect"
	"strconv"

	"coinop/cloud/acquirer"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Unit is one unit of work under way: rows are read when they are first needed, changed in memory,
// and put when it ends, so that every read of the store comes before the first write.
type Unit struct {
	s       *Service
	tx      Tx
	now     protocol.UnixMS
	rows    map[protocol.PaymentID]*row
	touched []*row
	stans   map[trace]acquirer.STAN
	traces  []trace // keys of stans, in order of first use
	opening *Opening
	opened  trace // what of opening is about
	puts    []func(Tx)
	effects []Effect
	verdict Verdict // of the last Judge
}

type trace struct{ link, tid string }

type row struct {
	p     Payment
	was   Payment // as it is stored
	ops   []OpRow
	dirty bool
	marks []mark // of ops; those past its end are not marked
}

// mark is what of an operation is to be stored.
type mark uint8

const (
	nothing mark = iota
	ended        // its state
	whole
)

func (r *row) mark(i int, m mark) {
	for len(r.marks) <= i {
		r.marks = append(r.marks, nothing)
	}
	r.marks[i] = max(r.marks[i], m)
}

func (r *row) op(k acquirer.Kind, n uint8) *OpRow {
	if i := r.index(k, n); i >= 0 {
		return &r.ops[i]
	}
	return nil
}

func (r *row) index(k acquirer.Kind, n uint8) int {
	for i := range r.ops {
		if r.ops[i].Op.Key.Kind == k && r.ops[i].Op.Key.N == n {
			return i
		}
	}
	return -1
}

func (u *Unit) queue(f func(Tx)) { u.puts = append(u.puts, f) }

func (u *Unit) row(id protocol.PaymentID) (*row, error) {
	if r := u.rows[id]; r != nil {
		return r, nil
	}
	p, err := u.tx.Payment(id)
	if err != nil {
		return nil, err
	}
	return u.load(id, p)
}

// load takes in a payment that was read.
func (u *Unit) load(id protocol.PaymentID, p Payment) (*row, error) {
	var ops []OpRow
	if p.Version > 0 {
		var err error
		if ops, err = u.tx.Ops(id); err != nil {
			return nil, err
		}
	}
	return u.touch(id, p, ops), nil
}

func (u *Unit) touch(id protocol.PaymentID, p Payment, ops []OpRow) *row {
	p.ID = id
	r := &row{p: p, was: p, ops: ops}
	u.rows[id] = r
	u.touched = append(u.touched, r)
	return r
}

// open reads what a request needs.
func (u *Unit) open(p protocol.PaymentID, d protocol.DeviceID, t trace) (*row, error) {
	o, err := u.tx.Opening(p, d, t.link, t.tid)
	if err != nil {
		return nil, err
	}
	u.opening, u.opened = &o, t
	return u.load(p, o.Payment)
}

func (u *Unit) incident(n IncidentName, d protocol.DeviceID, p protocol.PaymentID, detail string) {
	i := Incident{Name: n, Device: d, Payment: p, At: u.now, Detail: detail}
	u.queue(func(tx Tx) { tx.PutIncident(i) })
}

// step takes a fact to a payment's row and carries out what comes of it.
func (u *Unit) step(id protocol.PaymentID, f Fact) error {
	r, err := u.row(id)
	if err != nil {
		return err
	}
	was := r.p.State
	next, out := r.p.Step(u.now, f)
	if r.p.State != None || next.State != None {
		r.dirty = true
	}
	r.p = next
	if was != next.State {
		c := Change{At: u.now, What: "payment." + next.State.String(), Device: next.Device, Sale: next.Sale, Payment: id}
		u.queue(func(tx Tx) { tx.PutChange(c) })
	}
	for _, a := range out.Acts {
		if err := u.act(r, f, a); err != nil {
			return fmt.Errorf("payment %s, %s: %w", id, out.Cell, err)
		}
	}
	return nil
}

func (u *Unit) act(r *row, f Fact, a Act) error {
	p := &r.p
	switch a := a.(type) {
	case Insert:
		return u.insert(r, a)
	case Close:
		if o := r.op(a.Kind, a.N); o != nil && o.State != OpAnswered && o.State != OpDead {
			o.State = OpAnswered
			if a.Dead {
				o.State = OpDead
			}
			r.mark(r.index(a.Kind, a.N), ended)
		}
	case Retry:
		u.retry(r, a, f)
	case Refresh:
		if o := r.op(acquirer.Reversal, a.N); o != nil && !o.Op.Repeat && (o.State == OpOwed || o.State == OpWaiting) {
			u.ids(p, a.N, &o.Op)
			r.mark(r.index(acquirer.Reversal, a.N), whole)
		}
	case Query:
		if o := r.op(acquirer.Authorization, a.N); o != nil {
			u.effects = append(u.effects, Ask{Device: p.Device, Op: o.Op})
		}
	case Move:
		ts := a.Transfers
		u.queue(func(tx Tx) { tx.Post(ts...) })
	case Reply:
		u.reply(p, f, a)
	case Dispose:
		d := protocol.Disposition{Payment: p.ID, What: a.What, Amount: a.Amount, Cause: a.Cause}
		device := p.Device
		u.queue(func(tx Tx) { tx.PutDisposition(device, d) })
	case Report:
		u.incident(a.Name, p.Device, p.ID, "")
	case Open:
		c := Case{ID: u.s.cfg.NewCase(u.now), Cause: a.Cause, Tenant: p.Tenant, Device: p.Device, Sale: p.Sale, Payment: p.ID, Opened: u.now}
		u.queue(func(tx Tx) { tx.PutCase(c) })
	case Wake:
		u.effects = append(u.effects, Timer{Device: p.Device, Payment: p.ID, At: a.At})
	case Judge:
		u.verdict = a.Verdict
	}
	return nil
}

func (u *Unit) insert(r *row, a Insert) error {
	p := &r.p
	op := acquirer.Op{
		Key: acquirer.OpKey{Payment: p.ID, Kind: a.Kind, N: a.N}, Amount: a.Amount, Actual: a.Actual,
		Purpose: p.Purpose, Entry: p.Entry, LocalTime: p.Local, Reason: a.Reason,
	}
	op.DE7 = stamp(u.now)
	op.SentDE7 = []acquirer.Stamp{op.DE7}
	row := OpRow{Device: p.Device, Of: a.Of, Owed: u.now, Lease: u.now.Add(defaultT1 + leaseMargin)}
	var after []acquirer.OpKey
	if a.Of == 0 {
		op.Link, op.Merchant = a.Route.Link, a.Route.Merchant
		op.WriteBy, op.AnswerBy = a.WriteBy, a.AnswerBy
		var err error
		if after, err = u.reversalsFirst(p, trace{op.Link, op.Merchant.TID}); err != nil {
			return err
		}
	} else {
		auth := r.op(acquirer.Authorization, a.Of)
		if auth == nil {
			return fmt.Errorf("no authorization %d to follow", a.Of)
		}
		op.Link, op.Merchant, op.RRN = auth.Op.Link, auth.Op.Merchant, auth.Op.RRN
		op.Original = acquirer.Original{MTI: "0100", STAN: auth.Op.STAN, DE7: auth.Op.SentDE7[0], Acquirer: p.Profile.Institution}
		if p.Profile.Flow == acquirer.Single {
			op.Original.MTI = "0200"
		}
		op.AnswerBy = u.now.Add(defaultT1)
		u.ids(p, a.Of, &op)
	}
	stan, err := u.stan(trace{op.Link, op.Merchant.TID})
	if err != nil {
		return err
	}
	op.STAN = stan
	if a.Of == 0 {
		op.RRN = rrn(u.now, stan)
	}
	row.Op, row.State = op, OpSent
	if a.Waits {
		row.State = OpWaiting
	} else {
		row.Tries = 1
		u.effects = append(u.effects, Send{Device: p.Device, Op: op, After: after, Await: p.Profile.ReversalFirst == "await"})
	}
	r.ops = append(r.ops, row)
	r.mark(len(r.ops)-1, whole)
	return nil
}

// reversalsFirst sends what is owed on a TID before its next authorization: a bank that still holds
// the last buyer's money may refuse this one.
func (u *Unit) reversalsFirst(p *Payment, t trace) ([]acquirer.OpKey, error) {
	if u.opening != nil && !u.opening.Owed { // it is of this device
		return nil, nil
	}
	owed, err := u.tx.OwedReversals(p.Device)
	if err != nil {
		return nil, err
	}
	var keys []acquirer.OpKey
	for _, o := range owed {
		if u.rows[o.Op.Key.Payment] != nil || o.Op.Link != t.link || o.Op.Merchant.TID != t.tid {
			continue
		}
		u.s.resend(&o, u.now)
		o.State, o.Lease, o.Tries = OpSent, u.now.Add(defaultT1+leaseMargin), min(o.Tries, 250)+1
		u.queue(func(tx Tx) { tx.PutOp(o) })
		u.effects = append(u.effects, Send{Device: o.Device, Op: o.Op})
		keys = append(keys, o.Op.Key)
	}
	return keys, nil
}

// ids puts what the host gave for authorization n into an operation that follows it.
func (u *Unit) ids(p *Payment, n uint8, op *acquirer.Op) {
	if p.ApprovedN != 0 && p.ApprovedN != n {
		return
	}
	if p.RRN != "" {
		op.RRN = p.RRN
	}
	op.AuthID = p.AuthID
}

// rrn is ours, YDDDhh and the STAN, until the host gives its own. ISO 8583:1987 4.3.28 (DE37).
func rrn(now protocol.UnixMS, n acquirer.STAN) string {
	t := now.Time()
	return strconv.Itoa(1e12 + ((t.Year()%10*1000+t.YearDay())*100+t.Hour())*1e6 + int(n))[1:] // twelve digits
}

func (u *Unit) stan(t trace) (acquirer.STAN, error) {
	last, ok := u.stans[t]
	if !ok {
		if u.opening != nil && u.opened == t {
			last = u.opening.LastSTAN
		} else {
			var err error
			if last, err = u.tx.LastSTAN(t.link, t.tid); err != nil {
				return 0, err
			}
		}
		u.traces = append(u.traces, t)
	}
	next := last%999_999 + 1
	u.stans[t] = next
	return next, nil
}

// retry owes an operation at a time, or sends it at once.
func (u *Unit) retry(r *row, a Retry, f Fact) {
	o := r.op(a.Kind, a.N)
	if o == nil {
		return
	}
	waited := o.State == OpWaiting
	switch f.(type) {
	case OpNotSent: // no byte of it left: it is no repeat on that account
	default:
		o.Op.Repeat = o.Op.Repeat || !waited
	}
	if o.State == OpAnswered || o.State == OpDead {
		o.Owed = u.now // anew
	}
	o.State, o.Due = OpOwed, a.At
	if a.At <= u.now {
		if waited {
			o.Op.DE7 = stamp(u.now)
			o.Op.SentDE7 = []acquirer.Stamp{o.Op.DE7}
		}
		restamp(&o.Op, r.p.Profile, u.now)
		o.State, o.Lease, o.Op.AnswerBy = OpSent, u.now.Add(defaultT1+leaseMargin), u.now.Add(defaultT1)
		o.Tries = min(o.Tries, 250) + 1
		u.effects = append(u.effects, Send{Device: r.p.Device, Op: o.Op})
	}
	r.mark(r.index(a.Kind, a.N), whole)
}

// stamp is DE7 of a moment.
func stamp(at protocol.UnixMS) acquirer.Stamp {
	return acquirer.Stamp(at.Time().Format("0102150405"))
}

// restamp gives a repeat its own DE7 where the profile wants one; those before are kept, for an
// answer to any of them counts.
func restamp(op *acquirer.Op, p acquirer.Profile, now protocol.UnixMS) {
	if p.STANPerRepeat && op.Repeat {
		op.DE7 = stamp(now)
		op.SentDE7 = append(append([]acquirer.Stamp(nil), op.SentDE7...), op.DE7)
	}
}

// reply makes what the device is told. A stored answer is the same bytes for ever.
func (u *Unit) reply(p *Payment, f Fact, a Reply) {
	res := protocol.AuthorizationResponse{
		V: protocol.Version, Device: p.Device, Payment: p.ID, AskHash: p.AskHash,
		Approved: money.New(0, p.Asked.Currency), Cloud: u.now,
	}
	switch a.With {
	case ReplyNew:
		res.Result, res.Code, res.Answer = a.Result, a.Code, u.s.cfg.NewAnswer(u.now)
		if a.Result == protocol.Approved || a.Result == protocol.Partial {
			res.Approved, res.RRN, res.AuthID, res.ICC, res.ReleaseAt = p.Approved, p.RRN, p.AuthID, a.ICC, p.ReleaseAt
		}
		p.Answer, p.AnswerAt = res.Encode(), u.now
		u.publish(p.Device, protocol.MsgResponse, p.Answer)
	case ReplyStored:
		u.publish(p.Device, protocol.MsgResponse, p.Answer)
	case ReplyExpired:
		if len(p.Gone) == 0 {
			res.Result, res.Answer = protocol.Expired, u.s.cfg.NewAnswer(u.now)
			p.Gone = res.Encode()
		}
		u.publish(p.Device, protocol.MsgResponse, p.Gone)
	case ReplyReceived:
		u.publish(p.Device, protocol.MsgReceived, protocol.MustEncode(protocol.Received{Payment: p.ID, AskHash: p.AskHash, Cloud: u.now}))
	case ReplyOther:
		asked := f.(Asked)
		res.Device, res.AskHash, res.Approved = asked.Ask.Device, asked.Hash, money.New(0, asked.Ask.Amount.Currency)
		res.Result, res.Code, res.Answer = protocol.RefusedUnsent, protocol.NotAllowed, u.s.cfg.NewAnswer(u.now)
		u.publish(asked.Ask.Device, protocol.MsgResponse, res.Encode())
	}
}

func (u *Unit) publish(d protocol.DeviceID, t protocol.MsgType, body []byte) {
	u.effects = append(u.effects, Publish{Device: d, Body: protocol.Auth{T: t, Body: body}.Encode()})
}

// End puts what changed. What it returns is to be done after the commit.
func (u *Unit) End() ([]Effect, error) {
	for _, r := range u.touched {
		if r.dirty && (r.p.State != r.was.State || !reflect.DeepEqual(r.p, r.was)) { // a repeat costs no write
			u.tx.PutPayment(r.p)
		}
		for i, m := range r.marks {
			switch m {
			case whole:
				u.tx.PutOp(r.ops[i])
			case ended:
				u.tx.EndOp(r.ops[i])
			case nothing:
			}
		}
	}
	for _, t := range u.traces {
		u.tx.PutSTAN(t.link, t.tid, u.stans[t])
	}
	for _, f := range u.puts {
		f(u.tx)
	}
	return u.effects, nil
}
