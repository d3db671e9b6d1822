package payment

import (
	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/protocol"
)

// Tx is one unit of work of the store, as payment needs it. Every read comes before the first Put:
// what was put is queued, and a unit that fails has put nothing. Units of one device never run side
// by side in one group.
type Tx interface {
	// Payment is a row; the zero value when there is none.
	Payment(protocol.PaymentID) (Payment, error)
	// Ops are all operations of a payment, in the order they were inserted.
	Ops(protocol.PaymentID) ([]OpRow, error)
	// Taker is the payment of a sale that is being or was captured; zero when there is none.
	Taker(protocol.SaleID) (protocol.PaymentID, error)
	// OpenOf are the payments of a sale that are approved and await their outcome.
	OpenOf(protocol.SaleID) ([]protocol.PaymentID, error)
	// OwedReversals are the reversals of a device's payments that wait to be sent (again), oldest first.
	OwedReversals(protocol.DeviceID) ([]OpRow, error)
	// LastSTAN is the last one used on a link's TID; 0 when there is none.
	LastSTAN(link, tid string) (acquirer.STAN, error)
	// Opening is what a request needs to know, in one read.
	Opening(p protocol.PaymentID, d protocol.DeviceID, link, tid string) (Opening, error)

	// PutPayment stores a row over the version it was read with, or fails the unit.
	PutPayment(Payment)
	PutOp(OpRow)
	// EndOp stores the state of an operation that is stored and has ended: nothing else of it has changed.
	EndOp(OpRow)
	PutSTAN(link, tid string, last acquirer.STAN)
	// PutCard keeps what the vault gave for a payment; a repeat changes nothing.
	PutCard(protocol.PaymentID, []byte)
	// Post adds transfers; one with a known id changes nothing.
	Post(...ledger.Transfer)
	// PutDisposition adds to the device's dispositions; its next acks carry it.
	PutDisposition(protocol.DeviceID, protocol.Disposition)
	PutIncident(Incident)
	PutCase(Case)
	PutChange(Change)
}

// Opening is what stands when a request comes.
type Opening struct {
	Payment  Payment       // the zero value when there is none
	Stopped  string        // the code its device was stopped with; "" when it was not
	LastSTAN acquirer.STAN // the last one used on the link's TID
	Owed     bool          // OwedReversals of the device are not none
}

// OpState is where an operation stands.
type OpState uint8

// States of an operation.
const (
	OpWaiting  OpState = iota + 1 // for an earlier one of its payment
	OpOwed                        // to be sent at Due
	OpSent                        // it may be at the host; after Lease another replica repeats it
	OpAnswered                    // final
	OpDead                        // final: nobody sends it any more
)

func (s OpState) String() string {
	return name([]string{"?", "waiting", "owed", "sent", "answered", "dead"}, s)
}

// OpRow is an operation with everything that is stored before it is written.
type OpRow struct {
	Op     acquirer.Op
	Device protocol.DeviceID
	Of     uint8 // the authorization it follows; 0: it is one
	State  OpState
	Due    protocol.UnixMS // of OpOwed: not before
	Lease  protocol.UnixMS // of OpSent: whose send it is until then
	Owed   protocol.UnixMS // since when
	Tries  uint8           // times it was handed to a link
}

// Incident is something that cannot be, or that someone should know. It is kept for ever.
type Incident struct {
	Name    IncidentName
	Device  protocol.DeviceID
	Payment protocol.PaymentID
	At      protocol.UnixMS
	Detail  string
}

// Case is an open question about one sale's money. One that is known changes nothing.
type Case struct {
	ID      protocol.CaseID
	Cause   protocol.CaseCause
	Tenant  string
	Device  protocol.DeviceID
	Sale    protocol.SaleID
	Payment protocol.PaymentID
	Charged bool // what was decided until it is answered
	Opened  protocol.UnixMS
}

// Change is one entry of the change feed.
type Change struct {
	At      protocol.UnixMS
	What    string // "payment.approved", "sale.closed" ...
	Device  protocol.DeviceID
	Sale    protocol.SaleID
	Payment protocol.PaymentID
	Detail  string
}

// Due is when a row must be looked at although nobody asks; 0 for never. The store keeps it in a
// column of its own for the sweep.
func (p Payment) Due() protocol.UnixMS {
	switch p.State {
	case Sent:
		return p.LeaseUntil
	case Unknown:
		return p.LeaseUntil
	case Approved:
		if !p.Frozen {
			return p.ReleaseAt
		}
	}
	return 0
}

// Takes reports that this payment is, or is being, captured: at most one of a live sale.
func (p Payment) Takes() bool { return p.State == Capturing || p.State == Captured }

// source names an operation as the ledger's source.
func source(k acquirer.OpKey) string { return "op/" + k.String() }
