package protocol

import "coinop/protocol/money"

// Line is one position of an order: a product at an outlet, Qty times. Amount is Qty times Unit
// plus Deposit and Surcharge less Discount, all of the line.
type Line struct {
	Product   string       `cbor:"1,keyasint"`
	Outlet    Outlet       `cbor:"2,keyasint"`
	Qty       uint16       `cbor:"3,keyasint"`
	Unit      money.Amount `cbor:"4,keyasint"`
	TaxClass  string       `cbor:"5,keyasint,omitempty"`
	Deposit   int64        `cbor:"6,keyasint,omitempty"` // minor units
	Discount  int64        `cbor:"7,keyasint,omitempty"` // minor units, 0 or more
	Surcharge int64        `cbor:"8,keyasint,omitempty"` // minor units
	Amount    money.Amount `cbor:"9,keyasint"`
}

// Item is one vend of an order: quantity q gives q items.
type Item struct {
	Vend   VendID       `cbor:"1,keyasint"`
	Line   uint8        `cbor:"2,keyasint"`
	Outlet Outlet       `cbor:"3,keyasint"`
	Amount money.Amount `cbor:"4,keyasint"`
}

// BusKey orders the vend requests of a bus: a repeat has the same key, never a time window. The
// driver raises BusEpoch at each of its starts too: a key that no record holds is then still
// earlier than all that come after a restart.
type BusKey struct {
	BusEpoch uint64 `cbor:"1,keyasint"` // from 1; counts resets and starts of the driver, over restarts
	Session  uint32 `cbor:"2,keyasint"`
	Request  uint32 `cbor:"3,keyasint"`
}

// IsZero reports that the sale did not come from a bus.
func (k BusKey) IsZero() bool { return k == BusKey{} }

// Later reports whether k came after o.
func (k BusKey) Later(o BusKey) bool {
	if k.BusEpoch != o.BusEpoch {
		return k.BusEpoch > o.BusEpoch
	}
	if k.Session != o.Session {
		return k.Session > o.Session
	}
	return k.Request > o.Request
}

// Card is all that a record may say about a card.
type Card struct {
	BlobHash Hash      `cbor:"1,keyasint"`           // of the sealed card data of this payment
	Brand    string    `cbor:"2,keyasint,omitempty"` // visa, mastercard, amex ...
	Last4    string    `cbor:"3,keyasint,omitempty"`
	Ref      string    `cbor:"4,keyasint,omitempty"` // reader token or PAR; never beside Last4 on the view plane
	Entry    EntryMode `cbor:"5,keyasint"`
	CVM      CVM       `cbor:"6,keyasint"`
}

// Blob is a card's sealed data of one payment, kept outside the chained record that names its
// hash. Only the cloud's vault can open it.
type Blob struct {
	Payment PaymentID `cbor:"1,keyasint"`
	Sealed  []byte    `cbor:"2,keyasint"`
}
