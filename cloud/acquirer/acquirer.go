// Package acquirer is the words between payment and the links to hosts: operations and answers.
//
//	a := link.(acquirer.Acquirer)
//	ans, err := a.Do(ctx, op)
//	switch {
//	case errors.Is(err, acquirer.ErrNotSent): // no byte left: another host may be tried
//	case err != nil:                          // ErrUnknown: it may stand at the host
//	}
//
// A decline is an Answer. An error is what stopped us from getting one.
package acquirer

import (
	"context"
	"errors"
	"strconv"

	"coinop/protocol"
	"coinop/protocol/money"
)

// The two errors that decide everything. Every error of Do and Query is one of them.
var (
	ErrNotSent = errors.New("not sent")        // no byte of the request left this process
	ErrUnknown = errors.New("outcome unknown") // it may have been sent; never send it elsewhere
)

// Accounts is the name of the link to our own accounts of closed-loop cards. No other link may have it.
const Accounts = "accounts"

// Kind of operation.
type Kind uint8

// Kinds.
const (
	Authorization   Kind = iota + 1 // 0100 (single: 0200)
	Capture                         // 0220
	Reversal                        // 0420
	PartialReversal                 // 0420 with DE95
	Refund                          // 0200 with DE3 20xxxx
)

func (k Kind) String() string {
	return [...]string{"?", "authorization", "capture", "reversal", "partial_reversal", "refund"}[min(int(k), 5)]
}

// OpKey names an operation: unique.
type OpKey struct {
	Payment protocol.PaymentID `cbor:"1,keyasint,omitzero"`
	Kind    Kind               `cbor:"2,keyasint,omitzero"`
	N       uint8              `cbor:"3,keyasint,omitzero"` // 1 is the first
}

func (k OpKey) String() string {
	return k.Payment.String() + "/" + k.Kind.String() + "/" + strconv.Itoa(int(k.N))
}

// STAN is the system trace audit number, 1 to 999999 (ISO 8583:1987 DE11).
type STAN uint32

// Stamp is a transmission date and time as it stands in DE7: MMDDhhmmss, UTC.
type Stamp string

// Merchant is what the registry and the contract say about where a sale was.
type Merchant struct {
	TID      string `cbor:"1,keyasint"`           // DE41
	MID      string `cbor:"2,keyasint"`           // DE42
	MCC      string `cbor:"3,keyasint"`           // DE18
	Country  string `cbor:"4,keyasint"`           // DE19, ISO 3166 numeric
	Location string `cbor:"5,keyasint,omitempty"` // DE43
}

// Original is what DE90 says about the request a reversal undoes. Repeats use the first DE7.
type Original struct {
	MTI       string `cbor:"1,keyasint"`
	STAN      STAN   `cbor:"2,keyasint"`
	DE7       Stamp  `cbor:"3,keyasint"`
	Acquirer  string `cbor:"4,keyasint"`           // DE32
	Forwarder string `cbor:"5,keyasint,omitempty"` // DE33
}

// Op is one message to a host with everything that was stored before it is written, but for card
// data, which the vault hands over at pack time by payment id.
type Op struct {
	Key       OpKey              `cbor:"1,keyasint,omitzero"`
	Link      string             `cbor:"2,keyasint,omitzero"`
	Merchant  Merchant           `cbor:"3,keyasint,omitzero"`
	STAN      STAN               `cbor:"4,keyasint,omitzero"`
	DE7       Stamp              `cbor:"5,keyasint,omitzero"`  // of this transmission
	SentDE7   []Stamp            `cbor:"6,keyasint,omitzero"`  // of every transmission so far, this one included
	RRN       string             `cbor:"7,keyasint,omitzero"`  // DE37
	LocalTime string             `cbor:"8,keyasint,omitzero"`  // DE13 DE12: MMDDhhmmss at the machine; unchanged on repeats and follow-ups
	Amount    money.Amount       `cbor:"9,keyasint,omitzero"`  // DE4
	Actual    money.Amount       `cbor:"10,keyasint,omitzero"` // DE95; zero value when absent
	Purpose   protocol.Purpose   `cbor:"11,keyasint,omitzero"`
	Entry     protocol.EntryMode `cbor:"12,keyasint,omitzero"` // DE22
	AuthID    string             `cbor:"13,keyasint,omitzero"` // DE38 of what this follows
	Reason    string             `cbor:"14,keyasint,omitzero"` // DE39 of a reversal; "00" of a capture
	Original  Original           `cbor:"15,keyasint,omitzero"`
	Repeat    bool               `cbor:"16,keyasint,omitzero"` // 0101, 0221, 0421
	WriteBy   protocol.UnixMS    `cbor:"17,keyasint,omitzero"` // past it the writer answers ErrNotSent; 0 = no limit
	AnswerBy  protocol.UnixMS    `cbor:"18,keyasint,omitzero"` // T1: past it ErrUnknown
}

// Outcome is what a host said.
type Outcome uint8

// Outcomes.
const (
	OK        Outcome = iota + 1 // approved, accepted
	PartialOK                    // approved for less (DE39 10)
	No                           // declined or refused; Class says how
	NotFound                     // 25 to a reversal: original not found
	Mismatch                     // an approval whose amount, currency or ids are not ours: unknown
	Later                        // a soft refusal of an advice: keep it and repeat (19, 90, 91, 92, 96)
)

func (o Outcome) String() string {
	return [...]string{"?", "ok", "partial", "no", "not_found", "mismatch", "later"}[min(int(o), 6)]
}

// Answer is a host's response to an Op.
type Answer struct {
	Outcome  Outcome       `cbor:"1,keyasint,omitzero"`
	Class    protocol.Code `cbor:"2,keyasint,omitzero"` // of No
	Raw      string        `cbor:"3,keyasint,omitzero"` // DE39, for the audit trail only
	Approved money.Amount  `cbor:"4,keyasint,omitzero"`
	RRN      string        `cbor:"5,keyasint,omitzero"`
	AuthID   string        `cbor:"6,keyasint,omitzero"`
	Settle   string        `cbor:"7,keyasint,omitzero"` // DE15, MMDD
	ICC      []byte        `cbor:"8,keyasint,omitzero"` // DE55 91, 71, 72
}

// Acquirer sends one operation and waits for its answer. Only payment's shell calls it; it blocks.
type Acquirer interface {
	Do(ctx context.Context, op Op) (Answer, error)
	// Query asks what became of an operation, where the profile can; else ErrNotSent.
	Query(ctx context.Context, op Op) (Answer, error)
}

// Flow is how a link moves money.
type Flow uint8

// Flows.
const (
	DualFinal   Flow = iota + 1 // 0100, then 0220 of the actual amount; the rest of the hold is released by it
	DualPartial                 // 0100, 0420 with DE95 down to the actual amount, then 0220
	Single                      // 0200, then 0420 with DE95 or a full 0420
)

func (f Flow) String() string {
	return [...]string{"?", "dual_final", "dual_partial", "single"}[min(int(f), 3)]
}

// Profile is what a contract with an acquirer fixes. Zero fields mean the default named.
type Profile struct {
	Name           string `cbor:"1,keyasint,omitzero"`
	Flow           Flow   `cbor:"2,keyasint,omitzero"` // DualFinal
	T1MS           int64  `cbor:"3,keyasint,omitzero"` // host time-out: 15,000
	LateWindowMS   int64  `cbor:"4,keyasint,omitzero"` // after a 0100 was written, how long code 25 to its reversal does not count: 90,000
	STANPerRepeat  bool   `cbor:"5,keyasint,omitzero"` // a new DE7 on repeats
	ReversalAmount string `cbor:"6,keyasint,omitzero"` // DE4 of a full reversal after a partial approval: sent | approved; sent
	ReversalFirst  string `cbor:"7,keyasint,omitzero"` // write | await; write
	CanQuery       bool   `cbor:"8,keyasint,omitzero"`
	Institution    string `cbor:"9,keyasint,omitzero"` // DE32
}
