package session

import (
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Event is something that happened on one lane. Ids it may need were minted by the shell and come
// in with it. Step ignores an event that names another sale, payment or vend than the live one,
// but for the rows that say what a late one does.
type Event interface{ event() }

// In is an event on its lane. Case is a fresh id for a case this step may open.
type In struct {
	Lane  protocol.Lane
	Case  protocol.CaseID
	Event Event
}

// Booted comes once for every lane after Recover.
type Booted struct{}

// Order is what the buyer chose, expanded to items: quantity q is q items.
type Order struct {
	Sale  protocol.SaleID
	Class protocol.Class
	Lines []protocol.Line
	Items []protocol.Item
	// Payment is a fresh id, for a lane with a terminal.
	Payment protocol.PaymentID
	// Cash: where the lane has a terminal too, it is to be paid in cash and not there.
	Cash bool
}

// Cancel ends an order or a session that the buyer or an operator gave up.
type Cancel struct{ Who string }

// CardRead is one presentation of a card. Its data is sealed twice: under Payment for the online
// request, under Spare for an offline payment. Sale is a fresh id for the sale that a card opens
// where the card comes first; elsewhere it is not looked at.
type CardRead struct {
	Sale        protocol.SaleID
	Payment     protocol.PaymentID
	Spare       protocol.PaymentID
	Card        protocol.Card // BlobHash is of Sealed
	Sealed      []byte
	SpareHash   protocol.Hash
	SpareSealed []byte
	Tap         protocol.Tap
	TapHMAC     []byte
	// Loop is set for a closed-loop card: our own accounts are asked, and no bank.
	Loop bool
	// TC is set when the card approved offline although the terminal asked for an ARQC: row S07.
	TC bool
}

// CardFailed is a card that could not be used; Reason is shown to the buyer by name.
type CardFailed struct{ Reason string }

// CardAAC is a card that refused (EMV AAC).
type CardAAC struct{}

// CardRemoved is a contact card taken out while it was needed.
type CardRemoved struct{}

// Received says the cloud holds the request and has no answer yet.
type Received struct{ Payment protocol.PaymentID }

// Answer is the cloud's answer to a request.
type Answer struct {
	Response protocol.AuthorizationResponse
}

// TimerName tells timers of one lane apart; each name has at most one running.
type TimerName uint8

// Timers of a lane.
const (
	TimerOrder TimerName = iota + 1
	TimerWait
	TimerVend
	TimerEvidence
	TimerSession
	TimerChange
	TimerTerminal
)

func (n TimerName) String() string {
	if n < TimerOrder || n > TimerTerminal {
		return "timer?"
	}
	return [...]string{"order", "wait", "vend", "evidence", "session", "change", "terminal"}[n-1]
}

// TimerID tells a timer from an earlier one of the same name: an expiry with another id is stale.
type TimerID uint64

// Timer is a timer that ran out.
type Timer struct {
	Name TimerName
	ID   TimerID
}

// VendRequest is MDB VEND REQUEST (13 00). Sale and Vend are fresh ids for what it may start;
// Price is exact in the lane's currency, or the driver denied it. Bus.BusEpoch is higher after each
// start of the agent than at any time before it: after Booted a request of the last recorded epoch
// is a repeat, whether or not a record holds its key, and no older one that has no record may come.
type VendRequest struct {
	Bus   protocol.BusKey
	Sale  protocol.SaleID
	Vend  protocol.VendID
	Price money.Amount
	Item  protocol.Outlet
	Since time.Duration // since the request was on the wire
	Bad   string        // currency or item invalid; why
	// Product is what the plan says stands there; "": it does not say.
	Product string
	// Payment is a fresh id, for a lane with a terminal.
	Payment protocol.PaymentID
}

// VendCancel is MDB 13 01.
type VendCancel struct{}

// Delivery is what became of an approval handed to the driver.
type Delivery uint8

// Ends of an approval: exactly one is reported for each Vender.Approve.
const (
	ApprovalDelivered Delivery = iota + 1
	ApprovalWithdrawn          // never on the wire
	ApprovalMaybe              // on the wire, no ACK seen
)

func (d Delivery) String() string {
	if d < ApprovalDelivered || d > ApprovalMaybe {
		return "delivery?"
	}
	return [...]string{"delivered", "withdrawn", "maybe"}[d-1]
}

// Approval is the end of an approval. It is not the result of the vend.
type Approval struct {
	Vend protocol.VendID
	How  Delivery
}

// VendSuccess is the vending side's word that the item came out, with its evidence grade.
type VendSuccess struct {
	Vend  protocol.VendID // zero: the driver knows no id; the live vend is meant
	Item  protocol.Outlet
	Grade protocol.Grade
}

// VendFailure is the vending side's word that it did not.
type VendFailure struct{ Vend protocol.VendID }

// BusReset is MDB RESET, an adapter's INACTIVE, or a bus break.
type BusReset struct{}

// BusUp says how the vending side's bus stands.
type BusUp uint8

// States of a bus.
const (
	BusStateUp BusUp = iota + 1 // seen alive, reader not yet enabled
	BusStateDown
	BusStateEnabled
	BusStateDisabled
)

func (b BusUp) String() string {
	if b < BusStateUp || b > BusStateDisabled {
		return "bus?"
	}
	return [...]string{"up", "down", "enabled", "disabled"}[b-1]
}

// BusState is a sign of life (or of death) of the vending side; drivers repeat it while alive.
// Disabled is MDB READER DISABLE (14 00).
// SeesAck and HasEvidence are Vender's answers; At is Mono when the bus was last heard.
type BusState struct {
	State       BusUp
	SeesAck     bool
	HasEvidence bool
	At          time.Duration
}

// SessionComplete is MDB 13 04.
type SessionComplete struct{}

// PortGone is the vending side's port unplugged.
type PortGone struct{}

// Evidence is an answer to AskEvidence. Result is Delivered or Failed.
type Evidence struct {
	Vend   protocol.VendID
	Result protocol.VendOutcome
	Grade  protocol.Grade
	Source protocol.Source
}

// LinkState says what is up on the way to the bank.
type LinkState uint8

// States of the way.
const (
	LinkUp           LinkState = iota + 1 // connected and anchored
	LinkDown                              // no connection to the broker
	LinkCloudDown                         // connected, the cloud does not answer
	LinkAcquirerDown                      // announced by the cloud
	LinkSlow                              // received, but no answer
)

func (l LinkState) String() string {
	if l < LinkUp || l > LinkSlow {
		return "link?"
	}
	return [...]string{"up", "down", "cloud_down", "acquirer_down", "slow"}[l-1]
}

// Link is a change of the way to the bank.
type Link struct{ State LinkState }

// Accounts tells whether the accounts of closed-loop cards can be asked, wherever the cloud can be.
type Accounts struct{ Up bool }

// NewPolicy puts a policy in force, for new sales at once and for the live one where rows ask.
type NewPolicy struct {
	Policy protocol.Policy
	Hash   protocol.Hash
}

// StorageState is the journal's health.
type StorageState uint8

// States of the journal.
const (
	StorageOK StorageState = iota + 1
	StorageFull
	StorageReadOnly
	StorageCorrupt
)

func (s StorageState) String() string {
	if s < StorageOK || s > StorageCorrupt {
		return "storage?"
	}
	return [...]string{"ok", "full", "readonly", "corrupt"}[s-1]
}

// Storage is a change of the journal's health.
type Storage struct{ State StorageState }

// Headroom is what risk may still spend offline: the device's counters after dispositions.
type Headroom struct {
	Counters protocol.Counters
	Lease    protocol.LeaseID
}

// Stopped is the cloud's word that this device must not sell (fork, epoch, revoked), or a rolled
// back image found by a watermark above the head. Code is a protocol/code.
type Stopped struct{ Code string }

// Tamper is the case opened or a cut wire: nothing is sold, through restarts too, until it is Cleared by a
// technician, By name. Part names what says so.
type Tamper struct {
	Cleared  bool
	Part, By string
}

// Door is the service door.
type Door struct{ Open bool }

// Means says whether there is any way to pay: Why is empty when there is, else it names what keeps the
// last of them away. No order is taken then; what has begun goes on.
type Means struct{ Why string }

func (Booted) event()          {}
func (Means) event()           {}
func (Order) event()           {}
func (Cancel) event()          {}
func (CardRead) event()        {}
func (CardFailed) event()      {}
func (CardAAC) event()         {}
func (CardRemoved) event()     {}
func (Received) event()        {}
func (Answer) event()          {}
func (Timer) event()           {}
func (VendRequest) event()     {}
func (VendCancel) event()      {}
func (Approval) event()        {}
func (VendSuccess) event()     {}
func (VendFailure) event()     {}
func (BusReset) event()        {}
func (BusState) event()        {}
func (SessionComplete) event() {}
func (PortGone) event()        {}
func (Evidence) event()        {}
func (Link) event()            {}
func (Accounts) event()        {}
func (NewPolicy) event()       {}
func (Storage) event()         {}
func (Headroom) event()        {}
func (Stopped) event()         {}
func (Tamper) event()          {}
func (Door) event()            {}
