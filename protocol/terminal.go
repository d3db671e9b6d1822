package protocol

import "coinop/protocol/money"

// TerminalSent is synced before a terminal is asked for a payment. Before is the newest transaction in
// its books then: what is newer later may be this one.
type TerminalSent struct {
	Payment       PaymentID    `cbor:"1,keyasint"`
	Amount        money.Amount `cbor:"2,keyasint"`
	Purpose       Purpose      `cbor:"3,keyasint"`
	Terminal      string       `cbor:"4,keyasint,omitempty"` // its id
	Before        TerminalRef  `cbor:"5,keyasint,omitzero"`
	PolicyVersion uint64       `cbor:"6,keyasint"`
}

// TerminalAnswered is what came of it. Asked back: it was not said, and the terminal's last transaction
// tells.
type TerminalAnswered struct {
	Payment   PaymentID      `cbor:"1,keyasint"`
	Result    TerminalResult `cbor:"2,keyasint"`
	Reason    string         `cbor:"3,keyasint,omitempty"` // a name, when it is not approved
	Approved  money.Amount   `cbor:"4,keyasint"`
	Ref       TerminalRef    `cbor:"5,keyasint,omitzero"`
	Brand     string         `cbor:"6,keyasint,omitempty"`
	Last4     string         `cbor:"7,keyasint,omitempty"`
	AID       string         `cbor:"8,keyasint,omitempty"` // EMV application, in hex
	AskedBack bool           `cbor:"9,keyasint,omitempty"`
	Receipt   []string       `cbor:"10,keyasint,omitempty"` // lines for the buyer, in the terminal's words
}

// TerminalDone ends what a terminal had to do about a payment after its outcome. Where it refused, a
// case (terminal_failed) is opened: all that was approved stands at the provider.
type TerminalDone struct {
	Payment PaymentID    `cbor:"1,keyasint"`
	Op      TerminalOp   `cbor:"2,keyasint"`
	Amount  money.Amount `cbor:"3,keyasint"` // captured, or given back
	End     TerminalEnd  `cbor:"4,keyasint"` // OK or Refused
	Reason  string       `cbor:"5,keyasint,omitempty"`
	Ref     TerminalRef  `cbor:"6,keyasint,omitzero"`
}

// TerminalClosed is the end of a terminal's day, with its totals; or why it did not end.
type TerminalClosed struct {
	Reason string          `cbor:"1,keyasint,omitempty"` // a name; empty when it has ended
	Trace  string          `cbor:"2,keyasint,omitempty"`
	Total  money.Amount    `cbor:"3,keyasint"`
	Of     []TerminalTotal `cbor:"4,keyasint,omitempty"`
}

// TerminalTotal is one kind of card's part of a terminal's day.
type TerminalTotal struct {
	Brand string       `cbor:"1,keyasint"`
	Count uint32       `cbor:"2,keyasint"`
	Sum   money.Amount `cbor:"3,keyasint"`
}

// Kind is the record's number.
func (TerminalSent) Kind() Kind     { return KindTerminalSent }
func (TerminalAnswered) Kind() Kind { return KindTerminalAnswered }
func (TerminalDone) Kind() Kind     { return KindTerminalDone }
func (TerminalClosed) Kind() Kind   { return KindTerminalClosed }

// TerminalResult is what a terminal that authorizes by itself said to a payment.
type TerminalResult uint8

// Results. Unknown is no answer: the terminal is asked for its last transaction.
const (
	TerminalApproved TerminalResult = iota + 1
	TerminalDeclined
	TerminalAborted // nobody paid: given up, or the terminal's time for a card was over
	TerminalUnsent  // the request never reached it
	TerminalUnknown
)

func (r TerminalResult) String() string {
	return name("terminal_result", []string{1: "approved", "declined", "aborted", "unsent", "unknown"}, r)
}

// TerminalOp is what a terminal is to do about a payment it has stored.
type TerminalOp uint8

// Operations.
const (
	TerminalCapture TerminalOp = iota + 1 // the amount that was used; what was not is given back
	TerminalCancel                        // all of it is given back
	TerminalRefund                        // money of an earlier day is given back: the card is needed again
)

func (o TerminalOp) String() string {
	return name("terminal_op", []string{1: "capture", "cancel", "refund"}, o)
}

// TerminalEnd is how an operation ended.
type TerminalEnd uint8

// Ends.
const (
	TerminalOK      TerminalEnd = iota + 1
	TerminalRefused             // the terminal will not, now or ever; a person has to look
	TerminalNotSent             // it never reached it: again
	TerminalLost                // it may have been done: its last transaction is asked for, then again
)

func (e TerminalEnd) String() string {
	return name("terminal_end", []string{1: "ok", "refused", "not_sent", "lost"}, e)
}

// TerminalRef is how a terminal names a transaction in its own books; what later commands about it carry.
type TerminalRef struct {
	Terminal string `cbor:"1,keyasint,omitempty"` // terminal id as printed
	Receipt  string `cbor:"2,keyasint,omitempty"`
	Trace    string `cbor:"3,keyasint,omitempty"`
	AuthID   string `cbor:"4,keyasint,omitempty"` // the host's approval code
}

// IsZero reports that no transaction is named.
func (r TerminalRef) IsZero() bool { return r == TerminalRef{} }

// Same reports that both name one transaction: receipt and trace are equal. The other fields are not
// always said again.
func (r TerminalRef) Same(o TerminalRef) bool {
	return r.Receipt == o.Receipt && r.Trace == o.Trace && (r.Receipt != "" || r.Trace != "")
}
