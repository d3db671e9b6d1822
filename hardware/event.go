package hardware

import (
	"slices"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Event is something a device said. The agent's shell adds lane, ids and seals.
type Event interface{ event() }

// CardRead is one presentation of a card. Whoever takes it wipes Card when it is sealed.
type CardRead struct {
	Card Card
	At   time.Duration // by the driver's clock
}

// CardFailed is a card that could not be used, or none: Reason is a name (see the Reason constants).
type CardFailed struct{ Reason string }

// Reasons of CardFailed.
const (
	ReasonTimeout     = "timeout"     // nobody presented a card
	ReasonCollision   = "collision"   // more than one card
	ReasonCardError   = "card_error"  // torn away, or it spoke nonsense
	ReasonUnsupported = "unsupported" // no application in common
	ReasonOverLimit   = "over_limit"
	ReasonBlocked     = "blocked"
	ReasonExpired     = "expired"
	ReasonReader      = "reader_error" // the reader's answer was lost or made no sense
	ReasonDeclined    = "card_declined"
	ReasonUnreadable  = "unreadable"        // a stripe that was swiped too slowly, too fast, or is worn
	ReasonUseChip     = "use_chip"          // the card has a chip, and its stripe is not taken
	ReasonUseContact  = "use_contact"       // not without contact: the card, or the reader for it, wants its chip or stripe
	ReasonBankCard    = "bank_card"         // bank cards are not taken by this stripe reader
	ReasonPIN         = "pin_required"      // the card wants a PIN, and there is nothing to enter one
	ReasonWrongMAC    = "wrong_mac"         // a closed-loop card whose reference was made for another card, or by others
	ReasonNotAccepted = "card_not_accepted" // a closed-loop card that is not proven, where only proven ones are taken
)

// CardReasons are all of them but the one that is no card's: ReasonTimeout.
func CardReasons() []string {
	return []string{
		ReasonCollision, ReasonCardError, ReasonUnsupported, ReasonOverLimit, ReasonBlocked, ReasonExpired, ReasonReader, ReasonDeclined,
		ReasonUnreadable, ReasonUseChip, ReasonUseContact, ReasonBankCard, ReasonPIN,
		ReasonWrongMAC, ReasonNotAccepted,
	}
}

// CodeRead is a code that a scanner read, UTF-8 of at most 512 characters without control characters. It may
// be as good as a card for a minute, and for one payment: nobody keeps it, or shows more of it than its kind.
type CodeRead struct {
	Code Hidden
	At   time.Duration // by the driver's clock
}

// CodeRefused is one that is not given: Reason is a name.
type CodeRefused struct{ Reason string }

// Reasons of CodeRefused.
const (
	CodeStale   = "code_stale"    // it was given before
	CodeTooLong = "code_too_long" // more than 512 characters
	CodeControl = "code_garbled"  // control characters, or no text
	CodeTorn    = "code_torn"     // half of it came
)

// CardRemoved is a contact card taken out.
type CardRemoved struct{}

// VendRequest is MDB VEND REQUEST (MDB/ICP 4.2, 7.4.8, 13h 00h). One with the key of the one before is
// the same request repeated. Bad names what makes it unsellable: "price", "item", "currency"; then Price is zero.
type VendRequest struct {
	Bus   protocol.BusKey
	Price money.Amount
	Item  protocol.Outlet
	At    time.Duration // when it was on the wire, by the driver's clock
	Bad   string
}

// VendCancel is MDB VEND CANCEL (13h 01h): the controller takes its request back.
type VendCancel struct{}

// Delivery is what became of an approval.
type Delivery uint8

// Ends of an approval.
const (
	ApprovalDelivered Delivery = iota + 1 // the controller acknowledged it
	ApprovalWithdrawn                     // never on the wire
	ApprovalMaybe                         // on the wire, no acknowledgment seen
)

func (d Delivery) String() string {
	return name([]string{"delivery?", "delivered", "withdrawn", "maybe"}, d)
}

// Approval is the end of an approval: exactly one for each vend whose Approve was accepted. It is not
// the result of the vend. It comes before the bus event that caused it.
type Approval struct {
	Vend protocol.VendID
	How  Delivery
}

// VendSuccess is the vending side's word that the item came out.
type VendSuccess struct {
	Vend  protocol.VendID
	Item  protocol.Outlet
	Grade protocol.Grade
}

// VendFailure is its word that it did not.
type VendFailure struct{ Vend protocol.VendID }

// LoadRequest is MDB REVALUE REQUEST (MDB/ICP 4.2, 7.4, 15h 00h), of no more than Loader's limit: it waits for
// Load, and is denied by the device when nothing comes within its maximum response time. A BusReset or a
// PortGone ends it.
type LoadRequest struct {
	Bus    protocol.BusKey // later than those of requests before, of vends too
	Amount money.Amount
	At     time.Duration // when it was on the wire, by the driver's clock
}

// Loaded is the end of a yes to a LoadRequest: delivered, and the controller keeps the money; withdrawn, and it gives it
// back, or asks again; maybe: nobody knows.
type Loaded struct {
	Bus protocol.BusKey
	How Delivery
}

// DataEntered is what the buyer entered at the machine's keys: 1 to 8 characters of ASCII. It may be a PIN:
// nobody keeps it, or shows it. Whoever takes it wipes it.
type DataEntered struct {
	ID   uint32
	Data Hidden
}

// DataRefused is a Keypad's Ask that ended without it, or (EntryRepeated, EntryLate) data of the last one that
// came when it had ended: Reason is a name.
type DataRefused struct {
	ID     uint32
	Reason string
}

// Reasons of DataRefused.
const (
	EntryCanceled   = "entry_canceled"     // by the buyer, or the machine
	EntryTaken      = "entry_taken_back"   // by Unask
	EntryNoTime     = "entry_timeout"      // nothing came
	EntryOver       = "entry_session_over" // the session ended before
	EntryReset      = "entry_bus_reset"    // the bus was reset before, or the port is gone
	EntryImpossible = "entry_not_possible" // no session, a length that cannot be, or a machine without it
	EntryBusy       = "entry_busy"         // another is open
	EntryGarbled    = "entry_garbled"      // nothing, more than was asked for, or what no key has
	EntryRepeated   = "entry_repeated"     // no end: the machine said it again
	EntryLate       = "entry_late"         // no end: it came when nobody waited any more
)

// BusReset is MDB RESET, an adapter's INACTIVE, or an adapter that lost its power. Epoch is the bus
// epoch from here on; the shell keeps the last one and gives it back as the next start's.
type BusReset struct{ Epoch uint64 }

// BusUp says how the vending side stands.
type BusUp uint8

// States of a bus.
const (
	BusStateUp BusUp = iota + 1 // alive; whether we are enabled is not known yet
	BusStateDown
	BusStateEnabled
	BusStateDisabled
)

func (b BusUp) String() string {
	return name([]string{"bus?", "up", "down", "enabled", "disabled"}, b)
}

// BusState is a sign of life (or of death) of the vending side, repeated while it lives. At is when
// it was last heard, by the driver's clock. Epoch is the bus epoch, as in BusReset.
type BusState struct {
	State       BusUp
	SeesAck     bool
	HasEvidence bool
	At          time.Duration
	Epoch       uint64
}

// SessionComplete is MDB SESSION COMPLETE (13h 04h).
type SessionComplete struct{}

// CashIn is money that has come in for good.
type CashIn struct {
	Value money.Amount
	Bill  bool
	Box   bool // out of reach: in the box or the stacker; else it can be given as change
}

// CashOut is money that a person took out by hand, at the changer's buttons.
type CashOut struct{ Value money.Amount }

// BillHeld is a bill in escrow: Bill says what becomes of it.
type BillHeld struct{ Value money.Amount }

// BillReturned is one that went back.
type BillReturned struct{ Value money.Amount }

// Paid is the end of a payout. Given is what came out by the changer's own count of its tubes; Known is
// false when that could not be read: then a person has to look.
type Paid struct {
	ID     uint32
	Asked  money.Amount
	Given  money.Amount
	Known  bool
	Reason string // a name; empty when all of it came out
}

// ReturnLever is the buyer's wish to have his money back.
type ReturnLever struct{}

// CashLevel is what can be given as change; it is told when that changed, and after each coin.
type CashLevel struct {
	Change money.Amount // in the tubes
	Exact  bool         // a tube of a small coin is almost empty: only exact money should be taken
	Tubes  []money.Tube // none: there is no changer any more; else of each type of coin that there is; those that go to the box have none in it
	// Still says that they were counted while no coin could come in and none was on its way, in or out.
	Still bool
}

// Equal reports that o says the same.
func (l CashLevel) Equal(o CashLevel) bool {
	return l.Change == o.Change && l.Exact == o.Exact && l.Still == o.Still && slices.Equal(l.Tubes, o.Tubes)
}

// CashSale is a sale the vending side took cash for, or gave away (MDB/ICP 4.2, 7.4, CASH SALE).
type CashSale struct {
	Price money.Amount // zero when it does not say, or in another currency
	Item  protocol.Outlet
	Kind  CashKind
}

// CashKind is what the vending side says of a cash sale.
type CashKind uint8

// Kinds of a cash sale.
const (
	CashPaid CashKind = iota + 1
	CashFree
	CashTest
	CashNegative // the machine took something back
	CashToken
)

func (k CashKind) String() string {
	return name([]string{"cash?", "paid", "free", "test", "negative", "token"}, k)
}

// PortGone is a port that was open and is not any more.
type PortGone struct{ Device string }

// EvidenceSeen answers Evidence.Ask.
type EvidenceSeen struct {
	Vend   protocol.VendID
	Result protocol.VendOutcome // Delivered or Failed
	Grade  protocol.Grade
	Source protocol.Source
}

// Printed is the end of a print job; Reason is a name, empty when it came out.
type Printed struct {
	Job    uint32
	Reason string
	Result PrintResult
}

// PrintResult is what of a print job is on paper.
type PrintResult uint8

// Results of a print job. One copy of what is unknown may be tried; what is unsaid leaves no doubt that
// a copy could end.
const (
	PrintWhole   PrintResult = iota // the printer has said that it worked all of it through
	PrintNone                       // nothing of it was written
	PrintUnknown                    // nothing, a part or all of it
	PrintUnsaid                     // all was written, to a printer that never says anything
)

func (r PrintResult) String() string {
	return name([]string{"whole", "none", "unknown", "unsaid"}, r)
}

// AuditRead is the end of a reading of a machine's own books: the file as it came, or why there is none.
type AuditRead struct {
	File   []byte
	Reason string // a name; empty when File is whole
}

// Door is the machine's service door, as it is at each opening and when that changes.
type Door struct{ Open bool }

// Tamper is a device that says it was opened, or a loop that is cut. Over: it is whole again, which unlocks
// nothing that the first has locked.
type Tamper struct {
	Device string
	Over   bool
}

// Temperature is a thermometer's reading, in thousandths of a degree Celsius.
type Temperature struct {
	Sensor string
	Milli  int32
}

// HealthState is how a device is.
type HealthState uint8

// States of a device.
const (
	Absent HealthState = iota + 1
	Starting
	Ready
	Degraded
	Fault
)

func (h HealthState) String() string {
	return name([]string{"health?", "absent", "starting", "ready", "degraded", "fault"}, h)
}

// Health is a change of a device's health. Code is a stable name, Detail is for the technician and
// never holds card data.
type Health struct {
	Device string
	State  HealthState
	Code   string
	Detail string
}

// Codes of Health.
const (
	CodeReady        = "ready"
	CodePortAbsent   = "port_absent"   // cannot be opened; Detail says why
	CodePortLost     = "port_lost"     // was open; Detail says what ended it
	CodeDriverPanic  = "driver_panic"  // our own fault
	CodeSilent       = "device_silent" // the port is open, the device says nothing
	CodeNotConfigure = "not_configured"
	CodeGarbage      = "garbage" // bytes that are not the device's protocol
	CodeTamper       = "tamper"
)

func (CardRead) event()        {}
func (CardFailed) event()      {}
func (CardRemoved) event()     {}
func (CodeRead) event()        {}
func (CodeRefused) event()     {}
func (VendRequest) event()     {}
func (VendCancel) event()      {}
func (Approval) event()        {}
func (VendSuccess) event()     {}
func (VendFailure) event()     {}
func (LoadRequest) event()     {}
func (Loaded) event()          {}
func (DataEntered) event()     {}
func (DataRefused) event()     {}
func (BusReset) event()        {}
func (BusState) event()        {}
func (SessionComplete) event() {}
func (CashIn) event()          {}
func (CashOut) event()         {}
func (BillHeld) event()        {}
func (BillReturned) event()    {}
func (Paid) event()            {}
func (ReturnLever) event()     {}
func (CashLevel) event()       {}
func (CashSale) event()        {}
func (PortGone) event()        {}
func (EvidenceSeen) event()    {}
func (Printed) event()         {}
func (AuditRead) event()       {}
func (Door) event()            {}
func (Tamper) event()          {}
func (Temperature) event()     {}
func (Health) event()          {}
