package session

import (
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Output is what a step wants: Records and the Blobs they name are synced in one transaction
// before any Effect runs.
type Output struct {
	Records []protocol.Record
	Blobs   []protocol.Blob
	Effects []Effect
	rows    []string
}

// Effect is something done to the world. The switch that runs effects has no default.
type Effect interface{ effect() }

// Screen names what the buyer is shown.
type Screen uint8

// Screens.
const (
	ScreenIdle Screen = iota + 1
	ScreenPrice
	ScreenAuthorizing
	ScreenVending
	ScreenThanks
	ScreenOtherCard // declined or not read; present another
	ScreenRefused   // refused by name; Reason says why
	ScreenNotCharged
	ScreenWait // the outcome is being looked into
	ScreenOutOfService
	ScreenSession // card first: choose a product
)

var screenNames = [...]string{
	"?", "idle", "price", "authorizing", "vending", "thanks", "other_card", "refused",
	"not_charged", "wait", "out_of_service", "session",
}

func (s Screen) String() string {
	if int(s) < len(screenNames) {
		return screenNames[s]
	}
	return "?"
}

// Show puts a screen up. Reason is a name ("link_down", "declined"), never free text.
type Show struct {
	Screen Screen
	Amount money.Amount
	Reason string
}

// ArmReader lets the reader look for a card for an amount.
type ArmReader struct{ Amount money.Amount }

// DisarmReader stops it.
type DisarmReader struct{}

// CardSignal tells the reader how the payment went, for its lights and beeper.
type CardSignal struct{ OK bool }

// Authorize sends a request. Record is the index of its AuthorizationSent in Output.Records; Core
// turns it into the Position that goes with the request.
type Authorize struct {
	Ask      protocol.Ask
	Record   int
	Position protocol.Position // filled in by Core
}

// SendOutcomeCopy sends the early copy of a PaymentOutcome of an online payment. Only Core makes it.
type SendOutcomeCopy struct{ Sealed protocol.Sealed }

// StartTimer starts (or restarts) a timer of the lane.
type StartTimer struct {
	Name  TimerName
	ID    TimerID
	After time.Duration
}

// StopTimer stops one.
type StopTimer struct {
	Name TimerName
	ID   TimerID
}

// Vend commands or approves the delivery of one item. By is how long the driver may try to put the
// approval on the wire.
type Vend struct {
	ID     protocol.VendID
	Outlet protocol.Outlet
	Amount money.Amount
	By     time.Duration
	Bus    protocol.BusKey // the request it answers; zero: no bus asked
}

// DenyVend answers the vend request of that key with no (06), or takes back its queued approval. Where
// the bus asks something else by now, or nothing, and nothing is queued, the driver says nothing.
type DenyVend struct{ Bus protocol.BusKey }

// BeginSession starts a card-first session with funds.
type BeginSession struct{ Funds money.Amount }

// EndSession ends it: 07 after the controller's 13 04; 0B after a command that was out of sequence;
// else 04, and 07 when 13 04 has come.
type EndSession struct{}

// Resume binds a result that an adapter reports late to a vend that a restart left unknown.
type Resume struct{ Vend protocol.VendID }

// AskEvidence asks sensors and counters about a vend.
type AskEvidence struct {
	Vend   protocol.VendID
	Outlet protocol.Outlet
}

// Receipt prints or shows the receipt of a sale.
type Receipt struct{ Sale protocol.SaleID }

// StopOutlet takes an outlet out of service.
type StopOutlet struct {
	Outlet protocol.Outlet
	Reason string
}

func (Show) effect()            {}
func (ArmReader) effect()       {}
func (DisarmReader) effect()    {}
func (CardSignal) effect()      {}
func (Authorize) effect()       {}
func (SendOutcomeCopy) effect() {}
func (StartTimer) effect()      {}
func (StopTimer) effect()       {}
func (Vend) effect()            {}
func (DenyVend) effect()        {}
func (BeginSession) effect()    {}
func (EndSession) effect()      {}
func (Resume) effect()          {}
func (AskEvidence) effect()     {}
func (Receipt) effect()         {}
func (StopOutlet) effect()      {}
