// Package hardware is the words for the machines around a sale: readers, vending sides, printers,
// lights. A word is an interface that drivers share; its answers are not results but Events.
//
//	q := mdb.NewQibixx(mdb.Config{Path: "/dev/serial/by-id/...", Currency: money.EUR}, out)
//	go hardware.Supervise(ctx, "vmc", q.Open, out)  // opens, serves, reopens until ctx ends
//	...
//	q.Approve(vend, bus, outlet, price, 5*time.Second) // returns at once; the answer is an Approval
//
// A driver is three things: a codec (pure: bytes to words), a machine (pure: Step with the time
// given), and a thin transport. What it promises:
//
//   - Its methods never block and never call out; they queue, or return ErrPortGone or ErrBusy, and
//     an error means that nothing was queued and nothing will be answered.
//   - Events come from one goroutine at a time, in the order things happened, and none comes after
//     Supervise has returned.
//   - Every queue is bounded; when it is full the method says ErrBusy.
//   - No card data stands in the text of an event, an error or a log.
package hardware

import (
	"context"
	"errors"
	"time"

	"coinop/hardware/paper"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Driver serves one opening of a device: Run returns when the port is gone (an error) or ctx ends,
// after the last goroutine it started has ended.
type Driver interface {
	Run(ctx context.Context) error
}

// Vender is a vending side: a vending machine controller, or outlets we drive ourselves.
type Vender interface {
	Driver
	// Begin opens a card-first session with funds (MDB BEGIN SESSION).
	Begin(funds money.Amount) error
	// Approve lets one item be delivered. Accepted (nil), it is answered with exactly one Approval
	// for a VendID; asked again for the same vend it is the same approval again, answered once.
	// Refused (an error), nothing was or will be on the wire: it ended as if withdrawn. by is how
	// long the driver may try to put it on the wire; 0 is DefaultApproveBy. bus is the request it
	// answers: when another is open by now, it ends withdrawn, for that one may be of another price.
	// Zero is whatever is open.
	Approve(v protocol.VendID, bus protocol.BusKey, o protocol.Outlet, a money.Amount, by time.Duration) error
	// Deny answers that vend request with no, or takes back an approval that is not yet on the wire.
	// When another request is open by now, or none, and nothing is queued, it does nothing. Zero is
	// whatever is open.
	Deny(bus protocol.BusKey) error
	// End closes a session that Begin opened.
	End() error
	// Resume binds a result that comes late, from an adapter that lived on while we did not, to a
	// vend of an earlier run. It is kept over a port that is gone.
	Resume(v protocol.VendID) error
	// SeesAck reports whether Approvals can say delivered; HasEvidence whether anything else than
	// the bus can say what became of a vend.
	SeesAck() bool
	HasEvidence() bool
}

// Refunder is a Vender whose controller waits, after its VendFailure, for the word that the buyer is not
// charged (MDB/ICP 4.2, 7.4, VEND FAILURE: POLLs are not answered until the refund is done).
type Refunder interface {
	// Refunded says that it is certain now. Of another vend than the one that waits it does nothing.
	Refunded(v protocol.VendID) error
}

// Loader is a Vender whose controller can put money that it took in cash on the buyer's card or account
// (MDB/ICP 4.2, 7.4, REVALUE). At first nothing can be loaded: the device says so by itself, and no
// LoadRequest comes. An owner that has no accounts need not know the word.
type Loader interface {
	// Limit lets up to most be loaded by one request, from now on; zero: nothing. It is kept over a port that is gone.
	Limit(most money.Amount) error
	// Load answers the LoadRequest of that key, once. A yes that was accepted (nil) is answered with exactly
	// one Loaded, as withdrawn when it came too late or to nothing; said again it is the same yes again.
	Load(bus protocol.BusKey, yes bool) error
}

// Keypad is a Vender whose controller asks the buyer for digits at the machine's keys (MDB/ICP 4.2, 7.4, DATA ENTRY).
type Keypad interface {
	// Ask asks for up to length characters, 1 to 8, in an open session; again: what was entered last was
	// wrong. Accepted (nil), it is answered by exactly one end: DataEntered, or DataRefused. One at a time.
	Ask(id uint32, length int, again bool, timeout time.Duration) error
	// Unask takes it back. When it has ended, it does nothing.
	Unask(id uint32) error
}

// DefaultApproveBy is how long an approval may wait for the wire when the caller gives no time.
const DefaultApproveBy = 5 * time.Second

// CardReader is a reader that is armed for an amount.
type CardReader interface {
	Driver
	// Activate looks for one card for at most timeout; it is answered by CardRead or CardFailed.
	Activate(a money.Amount, timeout time.Duration) error
	// Cancel stops looking. A card read in the same moment is dropped, not reported.
	Cancel() error
	// Finish tells the reader, and by its lights the buyer, how the payment went.
	Finish(o Outcome) error
}

// Outcome is how a payment went, for a reader's lights.
type Outcome uint8

// Outcomes.
const (
	OutcomeApproved Outcome = iota + 1
	OutcomeDeclined
)

func (o Outcome) String() string {
	return name([]string{"outcome?", "approved", "declined"}, o)
}

// Printer prints one page; accepted (nil), it is answered by exactly one Printed.
type Printer interface {
	Driver
	Print(job uint32, page paper.Page) error
}

// Indicator shows the state of a lane by light or sound.
type Indicator interface {
	Driver
	Show(s Signal) error
}

// Signal is what an Indicator shows.
type Signal uint8

// Signals.
const (
	SignalIdle Signal = iota + 1
	SignalCard
	SignalOK
	SignalNo
	SignalFault
)

func (s Signal) String() string {
	return name([]string{"signal?", "idle", "card", "ok", "no", "fault"}, s)
}

// Cash takes coins and bills and gives coins back, where we drive them ourselves. Money that has come in
// is a CashIn, and only then is it money: a bill in escrow is none (BillHeld), and may still go back.
type Cash interface {
	Driver
	// Accept lets bills in, and coins of up to most; 0: neither. It is 0 at first, and after every opening.
	Accept(most money.Amount) error
	// Pay gives an amount back in coins, as much of it as there are coins for; accepted (nil), it is
	// answered by exactly one Paid. One at a time: ErrBusy.
	Pay(id uint32, a money.Amount) error
	// Bill takes the bill in escrow in, or gives it back; answered by CashIn or BillReturned.
	Bill(take bool) error
}

// Audit reads a machine's own books (EVA-DTS); accepted (nil), it is answered by exactly one AuditRead.
// The machine may stop selling while it is read: only when it is idle.
type Audit interface {
	Driver
	Read() error
}

// Scanner reads barcodes and QR codes.
type Scanner interface {
	Driver
	// Scan gives a CodeRead or a CodeRefused for each code that is shown, until Stop or the opening's end.
	// The same code is given once; a code that was shown before is dropped.
	Scan() error
	// Stop gives none any more.
	Stop() error
}

// Evidence is what can say, beside the bus, what became of a vend: a drop sensor, audit counters.
// It answers with EvidenceSeen; Failed only when the item can not fall any more, so not while a motor
// may still turn.
type Evidence interface {
	Driver
	Ask(v protocol.VendID, o protocol.Outlet) error
}

// Why a driver's method queued nothing. ErrPortGone and ErrBusy may pass; ErrInexact will not.
var (
	ErrPortGone = errors.New("the device's port is gone")
	ErrBusy     = errors.New("the driver's queue is full")
	ErrInexact  = errors.New("the amount cannot be told to the device exactly")
)

// name is the text of an enum value whose zero has the first name.
func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return names[0]
}
