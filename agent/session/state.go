package session

import (
	"slices"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Phase is where a lane's sale stands.
//
//	Idle -> Ordered -> Authorizing -> Vending(i) -> Idle
//	                                      \-> Evidence(i) -> Idle
//	        Ordered, Vending, Evidence -> InChange -> Idle    (cash, and what is left of it)
//	Idle -> Authorizing -> SessionIdle <-> Queued(k) -> Vending(k) -> Evidence(k)   (card first)
//
// Idle is "Enabled" and Authorizing is "PreAuth" in the card-first table.
type Phase uint8

// Phases.
const (
	Idle Phase = iota
	Ordered
	Authorizing
	SessionIdle
	Queued
	Vending
	InEvidence
	InChange
)

func (p Phase) String() string {
	if p > InChange {
		return "phase?"
	}
	return [...]string{"idle", "ordered", "authorizing", "session_idle", "queued", "vending", "evidence", "change"}[p]
}

// Config is what does not change while a lane runs. Z7 is MDB's maximum response time (0: 30 s);
// OwnsMotor: we drive the motor, so a vend in doubt never counts. Cash: there is a coin changer that we
// drive, and orders may be paid in cash.
type Config struct {
	Device    protocol.DeviceID
	Lane      protocol.Lane
	Flow      protocol.Flow
	Bus       protocol.Bus
	Z7        time.Duration
	OwnsMotor bool
	Cash      bool
	// Terminal: cards are read, and payments authorized, by a terminal. There is no reader then; with Cash an order
	// says which of the two it is paid by.
	Terminal bool
}

type vend struct {
	ID     protocol.VendID      `cbor:"1,keyasint"`
	Outlet protocol.Outlet      `cbor:"2,keyasint"`
	Amount money.Amount         `cbor:"3,keyasint"`
	Hint   protocol.Hint        `cbor:"4,keyasint,omitempty"`
	Result protocol.VendOutcome `cbor:"5,keyasint,omitempty"`
	Reason protocol.VendReason  `cbor:"6,keyasint,omitempty"`
}

type closedVend struct {
	ID       protocol.VendID `cbor:"1,keyasint"`
	Sale     protocol.SaleID `cbor:"2,keyasint"`
	Resolved bool            `cbor:"3,keyasint,omitempty"`
	Open     bool            `cbor:"4,keyasint,omitempty"` // ended presumed, unknown or never delivered
}

// asked is a payment that a tap was used for: one awaits an answer, an offline one never does.
type asked struct {
	Payment  protocol.PaymentID `cbor:"1,keyasint"`
	Sale     protocol.SaleID    `cbor:"2,keyasint"`
	Answered bool               `cbor:"3,keyasint,omitempty"`
	AskHash  protocol.Hash      `cbor:"4,keyasint"`
}

// durable is what the journal's records say of a lane. Only apply changes it, in Step and in
// Recover alike, so what is recovered is what was live.
type durable struct {
	Phase    Phase                `cbor:"1,keyasint"`
	Sale     protocol.SaleID      `cbor:"2,keyasint,omitzero"`
	Flow     protocol.Flow        `cbor:"3,keyasint,omitempty"`
	Class    protocol.Class       `cbor:"4,keyasint,omitempty"`
	Lines    []protocol.Line      `cbor:"5,keyasint,omitempty"`
	Items    []protocol.Item      `cbor:"6,keyasint,omitempty"`
	Due      money.Amount         `cbor:"7,keyasint"`
	Payment  protocol.PaymentID   `cbor:"8,keyasint,omitzero"`
	Approved money.Amount         `cbor:"9,keyasint"`
	Vends    []vend               `cbor:"10,keyasint,omitempty"`
	Bus      protocol.BusKey      `cbor:"11,keyasint"`
	Closed   []closedVend         `cbor:"12,keyasint,omitempty"`
	Asked    []asked              `cbor:"13,keyasint,omitempty"`
	Cash     bool                 `cbor:"14,keyasint,omitempty"` // Payment is in cash, and Approved what came in
	Change   *change              `cbor:"15,keyasint,omitempty"` // of InChange
	Strays   []change             `cbor:"16,keyasint,omitempty"` // came in beside the sale, and wait to be given back
	Terminal *atTerminal          `cbor:"17,keyasint,omitempty"` // of the sale, or owed after it
	LastRef  protocol.TerminalRef `cbor:"18,keyasint,omitzero"`  // the newest transaction of the terminal that a record names
	Door     bool                 `cbor:"19,keyasint,omitempty"` // open
	Tampered bool                 `cbor:"20,keyasint,omitempty"` // and not cleared
}

func (d durable) clone() durable {
	d.Lines, d.Items, d.Vends = slices.Clone(d.Lines), slices.Clone(d.Items), slices.Clone(d.Vends)
	d.Closed, d.Asked, d.Strays = slices.Clone(d.Closed), slices.Clone(d.Asked), slices.Clone(d.Strays)
	if d.Change != nil {
		c := *d.Change
		d.Change = &c
	}
	if d.Terminal != nil {
		t := *d.Terminal
		d.Terminal = &t
	}
	return d
}

// keep bounds what is remembered of closed vends and of payments asked for.
const keep = 8

func tail[T any](s []T) []T { return slices.Clone(s[max(0, len(s)-keep):]) }

func (d *durable) vend(id protocol.VendID) *vend {
	for i := range d.Vends {
		if d.Vends[i].ID == id {
			return &d.Vends[i]
		}
	}
	return nil
}

func (d *durable) last() *vend {
	if len(d.Vends) == 0 {
		return &vend{}
	}
	return &d.Vends[len(d.Vends)-1]
}

// apply folds one record of the lane.
func (d *durable) apply(r protocol.Record) {
	switch b := r.Body.(type) {
	case protocol.SaleOpened:
		d.Phase, d.Sale, d.Flow, d.Class, d.Due = Ordered, r.Sale, b.Flow, b.Class, b.Due
		d.Lines, d.Items, d.Vends = slices.Clone(b.Lines), slices.Clone(b.Items), nil
		if b.Bus.Later(d.Bus) {
			d.Bus = b.Bus
		}
	case protocol.AuthorizationSent:
		d.Phase, d.Payment, d.Approved = Authorizing, b.Payment, money.Amount{}
		d.Asked = tail(append(d.Asked, asked{Payment: b.Payment, Sale: r.Sale, AskHash: b.AskHash}))
	case protocol.AuthorizationAnswered:
		d.answered(b.Payment)
		if b.Result != protocol.Approved && b.Result != protocol.Partial {
			d.Phase, d.Payment = Ordered, protocol.PaymentID{}
			return
		}
		d.Approved, _ = money.Min(b.Approved, d.Due) // of another currency: nothing
		if d.Flow == protocol.CardFirst {
			d.Phase = SessionIdle
		}
	case protocol.OfflineAccepted:
		d.Payment, d.Approved = b.Payment, b.Amount
		d.Asked = tail(append(d.Asked, asked{Payment: b.Payment, Sale: r.Sale, Answered: true}))
		if d.Flow == protocol.CardFirst {
			d.Phase = SessionIdle
		}
	case protocol.VendStarted:
		d.Vends = append(slices.Clone(d.Vends), vend{ID: b.Vend, Outlet: b.Outlet, Amount: b.Amount})
		if b.Bus.Later(d.Bus) {
			d.Bus = b.Bus
		}
		d.Phase = Vending
		if d.Flow == protocol.CardFirst {
			d.Phase = Queued
		}
	case protocol.AckHint:
		if v := d.vend(b.Vend); v != nil {
			v.Hint = max(v.Hint, b.Hint)
			if d.Phase == Queued {
				d.Phase = Vending
			}
		}
	case protocol.VendResult:
		if v := d.vend(b.Vend); v != nil {
			v.Result, v.Reason = b.Result, b.Reason
		}
		switch {
		case b.Result == protocol.Presumed || b.Result == protocol.Unknown:
			d.Phase = InEvidence
		case d.Flow == protocol.CardFirst:
			d.Phase = SessionIdle
		}
	case protocol.VendResolved:
		if v := d.vend(b.Vend); v != nil {
			v.Result = b.Result
		}
		for i := range d.Closed {
			if d.Closed[i].ID == b.Vend {
				d.Closed[i].Resolved = true
			}
		}
	case protocol.PaymentOutcome:
		if t := d.Terminal; t != nil && t.Payment == b.Payment {
			t.What, t.Final = b.What, b.Amount
		}
		if b.Payment != d.Payment { // of money that came in beside the sale
			return
		}
		if d.Payment = (protocol.PaymentID{}); d.Cash {
			d.spent(b)
		}
	case protocol.SaleClosed:
		d.closeVends()
		*d = durable{Bus: d.Bus, Closed: d.Closed, Asked: d.Asked, Strays: d.Strays, Terminal: d.Terminal, LastRef: d.LastRef, Door: d.Door, Tampered: d.Tampered}
		d.next()
	case protocol.LateAnswer:
		d.answered(b.Payment)
	case protocol.DeviceEvent:
		switch b.Code {
		case eventDoor:
			d.Door = b.Detail == doorOpen
		case eventTamper:
			d.Tampered = b.Detail == tamperFound
		}
	default:
		d.applyCash(r)
		d.applyTerminal(r)
	}
}

// What a DeviceEvent of a lane says: these words are in journals.
const (
	eventDoor, doorOpen, doorClosed         = "door", "open", "closed"
	eventTamper, tamperFound, tamperCleared = "tamper", "found", "cleared"
)

// closeVends remembers the sale's vends as ended.
func (d *durable) closeVends() {
	for _, v := range d.Vends {
		open := v.Result == protocol.Presumed || v.Result == protocol.Unknown || v.Result == protocol.Failed && v.Reason == protocol.NeverDelivered
		d.Closed = append(d.Closed, closedVend{ID: v.ID, Sale: d.Sale, Open: open})
	}
	d.Closed, d.Vends = tail(d.Closed), nil
}

// asks reports whether r answers a request of ours that has no answer yet; an answer to another ask
// is no answer.
func (d durable) asks(r protocol.AuthorizationResponse) (asked, bool) {
	for _, a := range d.Asked {
		if a.Payment == r.Payment && a.AskHash == r.AskHash && !a.Answered {
			return a, true
		}
	}
	return asked{}, false
}

func (d *durable) answered(p protocol.PaymentID) {
	for i := range d.Asked {
		if d.Asked[i].Payment == p {
			d.Asked[i].Answered = true
		}
	}
}

// Snapshot is what a device's records say: its lanes, what risk must know, and owed blobs.
type Snapshot struct {
	Lanes         []State
	Counters      protocol.Counters
	Cursor        uint64
	PolicyVersion uint64
	OwedBlobs     []protocol.PaymentID
}

// Recover folds records onto a snapshot. It writes nothing and does not change base.
func Recover(base Snapshot, after []protocol.Record) Snapshot {
	out := base
	out.Lanes, out.OwedBlobs = slices.Clone(base.Lanes), slices.Clone(base.OwedBlobs)
	for i := range out.Lanes {
		out.Lanes[i] = out.Lanes[i].Clone()
	}
	for _, r := range after {
		for i := range out.Lanes {
			if out.Lanes[i].cfg.Lane == r.Lane {
				out.Lanes[i].d.apply(r)
			}
		}
		switch b := r.Body.(type) {
		case protocol.OfflineAccepted:
			out.Counters.Exposure += b.Amount.Minor
			out.Counters.Count++
			out.OwedBlobs = append(out.OwedBlobs, b.Payment)
		case protocol.BlobDropped:
			out.OwedBlobs = slices.DeleteFunc(out.OwedBlobs, func(p protocol.PaymentID) bool { return p == b.Payment })
		case protocol.PolicyApplied:
			out.PolicyVersion = b.Version
		}
	}
	for i := range out.Lanes {
		out.Lanes[i].counters = out.Counters
	}
	return out
}
