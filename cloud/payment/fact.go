package payment

import (
	"coinop/cloud/acquirer"
	"coinop/cloud/ledger"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Fact is something that happened, as the machine takes it.
type Fact interface{ fact() }

// Route is where an authorization goes.
type Route struct {
	Link     string
	Merchant acquirer.Merchant
	Profile  acquirer.Profile
}

// Asked is a request. Made is the cloud time it was made at, never later than it truly was. Refuse
// is a reason to send nothing that is known outside: device stopped, no route, card not openable.
type Asked struct {
	Ask      protocol.Ask
	Hash     protocol.Hash
	Tenant   string
	Received protocol.UnixMS
	Made     protocol.UnixMS
	Refuse   protocol.Code
	Route    Route
}

// HostSaid is the answer to authorization N.
type HostSaid struct {
	N      uint8
	Answer acquirer.Answer
}

// HostNotSent is ErrNotSent of authorization N. Next is another host, nil when there is none.
type HostNotSent struct {
	N    uint8
	Next *Route
}

// HostSilent is ErrUnknown of authorization N: T1 is over, or the connection broke.
type HostSilent struct{ N uint8 }

// QuerySaid is what became of a query: an answer, or Known false.
type QuerySaid struct {
	N      uint8
	Known  bool
	Answer acquirer.Answer
}

// Due is a look at the row because time went by: 300 ms after the request, or a sweep.
type Due struct{}

// Outcome is a PaymentOutcome record, from the early copy or the journal.
type Outcome struct {
	Device   protocol.DeviceID
	Sale     protocol.SaleID
	Tenant   string
	What     protocol.What
	Amount   money.Amount
	Reason   protocol.Reason
	Position protocol.Position
	Second   bool // another payment of the same sale is captured already
}

// Offline is an OfflineAccepted record.
type Offline struct {
	Device   protocol.DeviceID
	Sale     protocol.SaleID
	Tenant   string
	Amount   money.Amount
	Position protocol.Position
}

// Cash is a CashIn record: money that came in for a payment.
type Cash struct {
	Device   protocol.DeviceID
	Sale     protocol.SaleID
	Tenant   string
	Lane     protocol.Lane
	Value    money.Amount
	Position protocol.Position
}

// ChangeSaid is a ChangePaid or ChangeUnknown record: what became of what was not captured.
type ChangeSaid struct {
	Device   protocol.DeviceID
	Given    money.Amount
	Short    money.Amount
	Position protocol.Position
}

// Unreadable says that an outcome of this payment's sale was quarantined unread.
type Unreadable struct{}

// Followed names an operation that follows an authorization, and its history.
type Followed struct {
	Kind  acquirer.Kind
	N     uint8
	Tries uint8           // times it was handed to a link so far
	Owed  protocol.UnixMS // since
}

// OpSaid is the answer to a capture or reversal.
type OpSaid struct {
	Followed
	Answer acquirer.Answer
}

// OpNotSent is ErrNotSent of one; OpSilent is ErrUnknown.
type (
	OpNotSent struct{ Followed }
	OpSilent  struct{ Followed }
)

func (Asked) fact()       {}
func (HostSaid) fact()    {}
func (HostNotSent) fact() {}
func (HostSilent) fact()  {}
func (QuerySaid) fact()   {}
func (Due) fact()         {}
func (Outcome) fact()     {}
func (Offline) fact()     {}
func (Cash) fact()        {}
func (ChangeSaid) fact()  {}
func (Unreadable) fact()  {}
func (OpSaid) fact()      {}
func (OpNotSent) fact()   {}
func (OpSilent) fact()    {}

// Output is what a step wants. Acts other than Reply, Wake and Query are part of the
// transaction that stores the row; those three follow its commit.
type Output struct {
	Cell string // the cell of the table that was taken: "sent/approved"
	Acts []Act
}

// Act is one thing the transaction holds or that follows it.
type Act interface{ act() }

// Insert is a new operation. Of is the authorization it follows (0: it is one).
type Insert struct {
	Kind     acquirer.Kind
	N        uint8
	Of       uint8
	Route    Route // of an authorization
	Amount   money.Amount
	Actual   money.Amount // DE95
	Reason   string       // DE39
	WriteBy  protocol.UnixMS
	AnswerBy protocol.UnixMS
	Waits    bool // until an earlier operation of the payment is answered
}

// Close ends an operation: answered, or dead.
type Close struct {
	Kind acquirer.Kind
	N    uint8
	Dead bool
}

// Retry owes an operation (again) at a time: at once for one that waited.
type Retry struct {
	Kind acquirer.Kind
	N    uint8
	At   protocol.UnixMS
}

// Refresh puts the row's RRN and AuthID into reversal N, if it was not sent yet.
type Refresh struct{ N uint8 }

// Query asks the host what became of authorization N.
type Query struct{ N uint8 }

// Move posts transfers.
type Move struct{ Transfers []ledger.Transfer }

// Reply publishes to the device.
type Reply struct {
	With   ReplyWith
	Code   protocol.Code   // of ReplyNew
	Result protocol.Result // of ReplyNew
	ICC    []byte          // of ReplyNew
}

// ReplyWith says what a Reply carries.
type ReplyWith uint8

// Replies.
const (
	ReplyNew      ReplyWith = iota + 1 // a response made of the row, stored as its answer
	ReplyStored                        // the stored answer again
	ReplyExpired                       // expired: made and stored the first time, the same bytes after
	ReplyReceived                      // no answer yet
	ReplyOther                         // a refusal of another ask under the same id; not stored
)

func (r ReplyWith) String() string {
	return name([]string{"?", "new", "stored", "expired", "received", "other"}, r)
}

// Dispose is the payment's final disposition, for the device's next ack.
type Dispose struct {
	What   protocol.Disposed
	Amount money.Amount
	Cause  protocol.DisposedCause
}

// Report is an incident: something that cannot be, or that someone should know.
type Report struct{ Name IncidentName }

// Open opens a case.
type Open struct{ Cause protocol.CaseCause }

// Wake asks for a Due.
type Wake struct{ At protocol.UnixMS }

// Judge is the verdict on the record that was the fact.
type Judge struct{ Verdict }

func (Insert) act()  {}
func (Close) act()   {}
func (Retry) act()   {}
func (Refresh) act() {}
func (Query) act()   {}
func (Move) act()    {}
func (Reply) act()   {}
func (Dispose) act() {}
func (Report) act()  {}
func (Open) act()    {}
func (Wake) act()    {}
func (Judge) act()   {}

// IncidentName names what was reported.
type IncidentName uint8

// Incidents.
const (
	OtherAsk            IncidentName = iota + 1 // another ask under a known payment id
	ForeignDevice                               // a record about another device's payment
	OutcomeFork                                 // two different outcomes of one payment
	LateApproval                                // an approval after the payment was declined, refused or reversed
	ContraryAnswer                              // a host answered an approved payment again, otherwise
	CaptureUnanswered                           // a capture of a payment that was never approved
	NoOutcome                                   // released: the device never said what became of it
	NotFoundAtHost                              // code 25 ended a reversal: look at it in reconciliation
	OfflineRefused                              // offline is not built yet
	AskHashDiffers                              // AuthorizationSent is not what was received
	AnswerHashDiffers                           // AuthorizationAnswered is not what was published
	AnswerUnseen                                // AuthorizationAnswered of a payment nobody knows
	CardRefused                                 // a sealed card did not open
	UnreadableOutcome                           // an outcome was quarantined unread
	SecondCapture                               // a second payment of one sale wants to be captured
	HostAnswerUnmatched                         // an answer to an operation nobody knows
	ChainFault                                  // a device's journal is not the one that is held: it was stopped
	EpochCut                                    // an epoch ended with records that never came
	CashContrary                                // a record of cash that cannot be: of another tender, or change that nobody is owed
	TerminalContrary                            // a record of a terminal that cannot be
	CardCounterBack                             // a closed-loop card counts less than it did before: a copy, perhaps
)

func (i IncidentName) String() string {
	return name([]string{
		"?", "other_ask", "foreign_device", "outcome_fork", "late_approval", "contrary_answer", "capture_unanswered",
		"no_outcome", "not_found_at_host", "offline_refused", "ask_hash_differs", "answer_hash_differs",
		"answer_unseen", "card_refused", "unreadable_outcome", "second_capture", "host_answer_unmatched",
		"chain_fault", "epoch_cut", "cash_contrary", "terminal_contrary",
		"card_counter_back",
	}, i)
}
