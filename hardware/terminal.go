package hardware

import (
	"coinop/protocol"
	"coinop/protocol/money"
)

// Terminal is a certified device that authorizes by itself: it shows the price, reads the card, asks
// its own host, and tells us what came of it. It never gives us card data. One thing at a time: what
// is asked while it works waits its turn.
//
// A reader that sells by sessions (MDB cashless, driven by us) is a Terminal too: its Capture is vend
// success, its Cancel vend failure.
type Terminal interface {
	Driver
	// Authorize asks for a payment; accepted (nil), it is answered by exactly one TerminalAnswered,
	// with any number of TerminalStatus before it. It is never sent twice.
	Authorize(p protocol.PaymentID, a money.Amount) error
	// Abort gives up a payment that was not answered yet. Its TerminalAnswered still comes, and may say
	// that it was approved after all.
	Abort(p protocol.PaymentID) error
	// Capture ends a payment that was approved: a of it was used, and what was not is given back.
	// Answered by exactly one TerminalDone. approved is what the terminal said.
	Capture(p protocol.PaymentID, ref protocol.TerminalRef, approved, a money.Amount) error
	// Cancel gives all of a payment back, answered by exactly one TerminalDone.
	Cancel(p protocol.PaymentID, ref protocol.TerminalRef, approved money.Amount) error
	// Refund gives a back without a payment of today: the terminal wants the card again. Answered by
	// exactly one TerminalDone.
	Refund(p protocol.PaymentID, a money.Amount) error
	// Last asks for the last transaction in the terminal's books, and whether that of ref is still a
	// hold that was not ended; answered by exactly one TerminalLast.
	Last(p protocol.PaymentID, ref protocol.TerminalRef) error
	// Close ends the terminal's day, so that its money is on its way; answered by exactly one
	// TerminalClosed.
	Close() error
}

// TerminalReady says that the terminal can be asked, at each opening and when Due changes. Last is the
// newest transaction in its books: what is newer later has come after it.
type TerminalReady struct {
	Terminal string // its id
	Last     TerminalFound
	Due      bool // it sells nothing before its day is closed
}

// TerminalStatus is what goes on meanwhile, for the screen. Text is what the terminal shows, when it says.
type TerminalStatus struct {
	Payment protocol.PaymentID
	Code    string // a name
	Text    string
}

// TerminalFound is one transaction as the terminal keeps it. The zero value is none.
type TerminalFound struct {
	Ref      protocol.TerminalRef
	Result   protocol.TerminalResult // Approved or Declined
	Amount   money.Amount
	Original string // trace of the transaction that this one took back
	Card     TerminalCard
}

// TerminalCard is what a terminal says of a card: never its number.
type TerminalCard struct {
	Brand string
	Last4 string
	AID   string // EMV application, in hex
}

// TerminalAnswered ends an Authorize.
type TerminalAnswered struct {
	Payment  protocol.PaymentID
	Result   protocol.TerminalResult
	Reason   string // a name, when it was not approved
	Approved money.Amount
	Ref      protocol.TerminalRef
	Card     TerminalCard
	Receipt  []string // lines for the buyer, in the terminal's words
}

// TerminalDone ends a Capture, a Cancel or a Refund.
type TerminalDone struct {
	Payment protocol.PaymentID
	Op      protocol.TerminalOp
	End     protocol.TerminalEnd
	Reason  string // a name, when it is not OK
	Ref     protocol.TerminalRef
}

// HoldState says whether a payment is a hold that nothing has ended.
type HoldState uint8

// States of a hold.
const (
	HoldNotSaid HoldState = iota // the terminal does not keep holds
	HoldOpen
	HoldEnded
)

func (h HoldState) String() string { return name([]string{"not_said", "open", "ended"}, h) }

// TerminalLast answers Last. It is not Known when the terminal did not say: then ask again, unless it
// Never can, for it keeps no books.
type TerminalLast struct {
	Payment protocol.PaymentID
	Known   bool
	Never   bool
	Found   TerminalFound
	Hold    HoldState
}

// TerminalTotal is a count and a sum of a terminal's day, of one kind of card.
type TerminalTotal struct {
	Brand string
	Count int
	Sum   money.Amount
}

// TerminalClosed answers Close. Reason is a name, empty when the day is closed.
type TerminalClosed struct {
	Reason string
	Trace  string
	Total  money.Amount
	Of     []TerminalTotal
}

func (TerminalReady) event()    {}
func (TerminalStatus) event()   {}
func (TerminalAnswered) event() {}
func (TerminalDone) event()     {}
func (TerminalLast) event()     {}
func (TerminalClosed) event()   {}
