package protocol

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
