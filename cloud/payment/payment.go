// Package payment says what becomes of a payment once a device asks for money: one row a payment,
// one machine for the row, and the service that keeps both.
//
//	svc := payment.NewService(payment.Config{Do: ..., Route: ..., Vault: ..., ...})
//	effects, err := svc.Handle(ctx, now, payment.Request{From: d, Request: r})
//	for _, e := range effects { ... Send to the host, Publish to the device, start the Timer ... }
//	effects, err = svc.Handle(ctx, now, payment.HostAnswer{Device: d, Key: op.Key, Answer: a, Err: err})
//	effects, err = svc.Sweep(ctx, now)   // often: what is owed, and what nobody answered
//
// It promises:
//   - nothing is sent to a host before the operation that says so is committed;
//   - every transition is one transaction with the operation, the transfers and the answer it makes;
//   - a payment is asked at most once at one host: what may stand there and is not captured is
//     reversed until the host says so, by this replica or the next;
//   - an approval is published only before answer_by, and then never reversed on silence before
//     release_at.
package payment

import (
	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/protocol"
	"coinop/protocol/money"
)

// State of a payment's row. What is not drawn changes nothing.
//
//	        request              approved            capture             0230
//	(none) ────────▶ sent ─────────────────▶ approved ──────▶ capturing ──────▶ captured
//	   │              │ │ │ no answer, late,    │ void,           │ refused, dead
//	   │ void:        │ │ │ mismatch            │ release_at      ▼
//	   │ expired      │ │ └──▶ (unknown) ──▶ reversing ─────────▶ case
//	   │              │ ▼                       │ 0430     dead
//	   │ no time,     │ declined                ▼
//	   └▶ no route:   └▶ not sent:            reversed
//	      refused_unsent refused_unsent
//
// Cash is approved with its first coin, captured or reversed by its outcome, and never at a host: cash.go. So is a
// payment that a terminal authorized by itself: terminal.go. A closed-loop card is asked for like a bank's, at
// our own accounts.
//
// A decline or refusal whose approval comes after all goes to reversing, and so do reversed and
// expired. held and adopted belong to offline payments.
type State uint8

// States.
const (
	None          State = iota
	Sent                // an authorization is, or may be, at a host
	Unknown             // being asked after, before it is reversed; only where the host can be asked
	Approved            // and published; the device owes an outcome
	Capturing           // a capture is owed until its answer
	Captured            // final
	Reversing           // a reversal is owed until its answer
	Reversed            // final, unless an approval comes after all
	Expired             // final: no money can stand; a void that came first is one
	Declined            // final, unless an approval comes after all
	RefusedUnsent       // final: nothing was sent
	Held                // an offline acceptance, waiting
	Adopted             // its sale is settled by another payment
	InCase              // only a person goes on
)

var stateNames = []string{
	"none", "sent", "unknown", "approved", "capturing", "captured", "reversing", "reversed", "expired", "declined",
	"refused_unsent", "held", "adopted", "case",
}

func (s State) String() string { return name(stateNames, s) }

func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "?"
}

// Payment is a row: everything the machine must know. The zero value is the row that is not there.
type Payment struct {
	ID       protocol.PaymentID `cbor:"1,keyasint"`
	Sale     protocol.SaleID    `cbor:"2,keyasint"`
	Device   protocol.DeviceID  `cbor:"3,keyasint"`
	Tenant   string             `cbor:"4,keyasint"`
	Lane     protocol.Lane      `cbor:"5,keyasint"`
	Class    protocol.Class     `cbor:"6,keyasint"`
	AskHash  protocol.Hash      `cbor:"7,keyasint"` // zero where a record came before any request
	State    State              `cbor:"8,keyasint"`
	Purpose  protocol.Purpose   `cbor:"9,keyasint"`
	Entry    protocol.EntryMode `cbor:"10,keyasint"`
	Local    string             `cbor:"11,keyasint"` // MMDDhhmmss at the machine
	Asked    money.Amount       `cbor:"12,keyasint"`
	Approved money.Amount       `cbor:"13,keyasint"`
	Captured money.Amount       `cbor:"14,keyasint"` // of the outcome
	Profile  acquirer.Profile   `cbor:"15,keyasint"`

	AuthN     uint8  `cbor:"16,keyasint"` // n of the last authorization; 0 = none was ever inserted
	ApprovedN uint8  `cbor:"17,keyasint"` // n of the one whose approval counts
	Undone    uint16 `cbor:"18,keyasint"` // bit n: a reversal of authorization n was inserted
	Undoing   uint16 `cbor:"19,keyasint"` // bit n: and is not answered yet

	AnswerBy   protocol.UnixMS `cbor:"20,keyasint"`
	WriteBy    protocol.UnixMS `cbor:"21,keyasint"` // the last moment the last authorization can have been written
	LeaseUntil protocol.UnixMS `cbor:"22,keyasint"`
	ReleaseAt  protocol.UnixMS `cbor:"23,keyasint"`
	Received   protocol.UnixMS `cbor:"24,keyasint"`

	VoidFlag protocol.Reason        `cbor:"25,keyasint"` // a void came while sent
	Frozen   bool                   `cbor:"26,keyasint"` // release_at does not count: an outcome is in question
	Booked   bool                   `cbor:"27,keyasint"` // the approval stands in the ledger
	Owing    money.Amount           `cbor:"28,keyasint"` // reversal_owed in the ledger until a 0430
	Cause    protocol.DisposedCause `cbor:"29,keyasint"`
	RRN      string                 `cbor:"30,keyasint"` // DE37 of the approval
	AuthID   string                 `cbor:"31,keyasint"` // DE38 of the approval

	Outcome protocol.Position `cbor:"32,keyasint"` // of the outcome that was taken
	Said    Verdict           `cbor:"33,keyasint"` // about that record

	Answer   protocol.Raw    `cbor:"34,keyasint,omitempty"` // the stored response, encoded; an approval, decline or refusal
	Gone     protocol.Raw    `cbor:"35,keyasint,omitempty"` // the stored response expired, encoded
	AnswerAt protocol.UnixMS `cbor:"36,keyasint"`

	By     protocol.AuthorizedBy `cbor:"37,keyasint,omitempty"` // 0: host; ByClosedLoop: our own accounts, as if they were one
	Change money.Amount          `cbor:"38,keyasint"`           // of cash: what was accounted for of what was not captured

	Done bool `cbor:"39,keyasint,omitempty"` // of a terminal: what it had to do after the outcome has ended

	Version uint64 `cbor:"-"` // of the row in the store: 0 = not there
}

// flow is the ledger's.
func (p Payment) flow() ledger.Flow {
	if p.Profile.Flow == acquirer.Single {
		return ledger.Single
	}
	return ledger.Dual
}

// RecordDisposition is what was done with a record.
type RecordDisposition uint8

// Record dispositions.
const (
	Posted RecordDisposition = iota + 1
	NoMoney
	Quarantined
	RecordExpired // a capture that came too late to be charged
)

func (d RecordDisposition) String() string {
	return name([]string{"?", "posted", "no-money", "quarantined", "expired"}, d)
}

// Verdict is a record's disposition, and the reason of a quarantine.
type Verdict struct {
	Disposition RecordDisposition   `cbor:"1,keyasint"`
	Quarantine  protocol.Quarantine `cbor:"2,keyasint"`
}

// Relayed reports a payment that is asked for at a link: a host's, or our own accounts'. Of the others the device's
// records say all there is.
func (p Payment) Relayed() bool { return p.By <= protocol.ByHost || p.By == protocol.ByClosedLoop }

// Final reports a state in which no operation is open and nothing more is expected.
func (s State) Final() bool {
	switch s {
	case Captured, Reversed, Expired, Declined, RefusedUnsent, Adopted, InCase:
		return true
	default:
		return false
	}
}
