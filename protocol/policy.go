package protocol

import (
	"time"

	"coinop/protocol/money"
)

// Policy is the signed, versioned set of limits an agent sells by. Spans are in milliseconds. Zero
// fields mean the default in the comment; read them through the methods.
type Policy struct {
	Version        uint64         `cbor:"1,keyasint"`
	Currency       money.Currency `cbor:"2,keyasint"`
	WaitMS         uint32         `cbor:"3,keyasint,omitempty"`  // for an online answer: 10,000
	OrderMS        uint32         `cbor:"4,keyasint,omitempty"`  // for a card after an order: 60,000
	SessionMS      uint32         `cbor:"5,keyasint,omitempty"`  // card-first session: 60,000
	VendMS         uint32         `cbor:"6,keyasint,omitempty"`  // vend_timeout: 60,000
	EvidenceMS     uint32         `cbor:"7,keyasint,omitempty"`  // evidence_wait: 120,000
	BusAwayMS      uint32         `cbor:"8,keyasint,omitempty"`  // longest wait for a bus that is down: 900,000
	ApproveByMS    uint32         `cbor:"9,keyasint,omitempty"`  // latest 05 on the wire: 5,000
	VendAliveMS    uint32         `cbor:"10,keyasint,omitempty"` // vending side seen alive within: 5,000
	Attempts       uint8          `cbor:"11,keyasint,omitempty"` // card_attempts on a screen: 3; MDB is always 1
	MinGrade       Grade          `cbor:"12,keyasint,omitempty"` // evidence below it is no delivery: reported
	StopOnFailure  bool           `cbor:"13,keyasint,omitempty"` // drop the items after one that failed
	HintedIsFree   bool           `cbor:"14,keyasint,omitempty"` // do not count a presumed or unknown vend with a hint
	UnhintedCounts bool           `cbor:"15,keyasint,omitempty"` // count an unknown vend without a hint
	MaxHold        int64          `cbor:"16,keyasint,omitempty"` // card first, minor units: 1,000
	MinFunds       int64          `cbor:"17,keyasint,omitempty"` // card first, least partial approval: 100
	Offline        OfflinePolicy  `cbor:"18,keyasint,omitzero"`
}

// OfflinePolicy says what may be accepted without an online answer. The zero value accepts nothing.
type OfflinePolicy struct {
	On       bool        `cbor:"1,keyasint,omitempty"`
	Kind     OfflineKind `cbor:"2,keyasint,omitempty"` // what the acquirer's contract allows
	MaxOne   int64       `cbor:"3,keyasint,omitempty"` // one payment, minor units
	MaxSum   int64       `cbor:"4,keyasint,omitempty"` // exposure, minor units
	MaxCount uint32      `cbor:"5,keyasint,omitempty"`
}

// Counters are what risk.Decide must know of the past: payments accepted offline that have no
// final disposition yet.
type Counters struct {
	Exposure int64  `cbor:"1,keyasint,omitempty"` // minor units
	Count    uint32 `cbor:"2,keyasint,omitempty"`
}

// Wait is the longest wait for an online answer.
func (p Policy) Wait() time.Duration { return orMS(p.WaitMS, 10_000) }

// Order is how long an ordered lane waits for a card.
func (p Policy) Order() time.Duration { return orMS(p.OrderMS, 60_000) }

// Session is how long a card-first session may stay idle.
func (p Policy) Session() time.Duration { return orMS(p.SessionMS, 60_000) }

// Vend is vend_timeout.
func (p Policy) Vend() time.Duration { return orMS(p.VendMS, 60_000) }

// Evidence is evidence_wait.
func (p Policy) Evidence() time.Duration { return orMS(p.EvidenceMS, 120_000) }

// BusAway is the longest the wait for evidence waits for a bus that is down.
func (p Policy) BusAway() time.Duration { return orMS(p.BusAwayMS, 900_000) }

// ApproveBy is the latest after Vender.Approve that an approval may go on the wire.
func (p Policy) ApproveBy() time.Duration { return orMS(p.ApproveByMS, 5_000) }

// VendAlive is how recently the vending side must have been seen.
func (p Policy) VendAlive() time.Duration { return orMS(p.VendAliveMS, 5_000) }

// CardAttempts is how many cards one order may try.
func (p Policy) CardAttempts(b Bus) int {
	switch {
	case b == BusMDB:
		return 1
	case p.Attempts == 0:
		return 3
	}
	return int(p.Attempts)
}

// Grade is the least evidence that counts as delivered.
func (p Policy) Grade() Grade { return max(p.MinGrade, GradeReported) }

// Hold is what a card-first session asks for.
func (p Policy) Hold() money.Amount { return money.New(or(p.MaxHold, 1_000), p.Currency) }

// Least is the least partial approval a card-first session starts with.
func (p Policy) Least() money.Amount { return money.New(or(p.MinFunds, 100), p.Currency) }

func or(v, def int64) int64 {
	if v == 0 {
		return def
	}
	return v
}

func orMS(v uint32, def int64) time.Duration {
	return time.Duration(or(int64(v), def)) * time.Millisecond
}
