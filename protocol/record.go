package protocol

import (
	"errors"
	"fmt"
	"time"

	"coinop/protocol/money"
)

// Kind is the number of a record's body.
type Kind uint16

// Kinds. 32 to 47 are cash; those of them without a name are reserved for it.
const (
	KindEpochStarted Kind = iota + 1
	KindBooted
	KindSnapshot
	KindSaleOpened
	KindAuthorizationSent
	KindAuthorizationAnswered
	KindOfflineAccepted
	KindVendStarted
	KindAckHint
	KindVendResult
	KindVendResolved
	KindPaymentOutcome
	KindCaseOpened
	KindSaleClosed
	KindLateAnswer
	KindClockAnchor
	KindPolicyApplied
	KindDeviceEvent
	KindBlobDropped
	KindDeadlineAlarm
)

// Kinds of cash.
const (
	KindCashIn Kind = iota + 32
	KindChangeOrdered
	KindChangePaid
	KindChangeUnknown
	KindStackOrdered
	KindCashSale
	KindCountersRead
	KindCashCollected
	KindBagCounted
	KindCashByHand
)

// Kinds of terminals that authorize by themselves: 48 to 55.
const (
	KindTerminalSent Kind = iota + 48
	KindTerminalAnswered
	KindTerminalDone
	KindTerminalClosed
)

var kindNames = []string{
	1: "EpochStarted", "Booted", "Snapshot", "SaleOpened", "AuthorizationSent", "AuthorizationAnswered",
	"OfflineAccepted", "VendStarted", "AckHint", "VendResult", "VendResolved", "PaymentOutcome",
	"CaseOpened", "SaleClosed", "LateAnswer", "ClockAnchor", "PolicyApplied", "DeviceEvent", "BlobDropped",
	"DeadlineAlarm",
	32: "CashIn", "ChangeOrdered", "ChangePaid", "ChangeUnknown", "StackOrdered",
	"CashSale", "CountersRead", "CashCollected", "BagCounted", "CashByHand",
	48: "TerminalSent", "TerminalAnswered", "TerminalDone", "TerminalClosed",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint16(k))
}

// Body is what a record says. Each kind has one type below.
type Body interface{ Kind() Kind }

// Record is a fact in a device's journal. Session fills Lane, Sale and Body; Core adds At; the
// journal gives it a Position.
type Record struct {
	Lane Lane
	Sale SaleID // zero when the record is not about one sale
	At   Reading
	Body Body
}

// Position is a record's place: the journal's device and epoch, its sequence number and the hash
// of its bytes.
type Position struct {
	Epoch Epoch `cbor:"1,keyasint"`
	Seq   Seq   `cbor:"2,keyasint"`
	Hash  Hash  `cbor:"3,keyasint"`
}

// Sealed is a record as it stands in the journal and travels: its bytes are what is hashed.
type Sealed struct {
	Position Position
	Bytes    []byte
}

// envelope is the encoded form. Its fields are fixed: they are in every journal.
type envelope struct {
	V      uint8    `cbor:"1,keyasint"`
	Device DeviceID `cbor:"2,keyasint"`
	Epoch  Epoch    `cbor:"3,keyasint"`
	Seq    Seq      `cbor:"4,keyasint"`
	Prev   Hash     `cbor:"5,keyasint"`
	Kind   Kind     `cbor:"6,keyasint"`
	KV     uint8    `cbor:"7,keyasint"`
	Lane   Lane     `cbor:"8,keyasint"`
	Boot   BootID   `cbor:"9,keyasint"`
	Mono   int64    `cbor:"10,keyasint"` // ms
	Wall   UnixMS   `cbor:"11,keyasint"`
	Unc    int64    `cbor:"12,keyasint"` // ms
	Anchor AnchorID `cbor:"13,keyasint,omitzero"`
	Sale   SaleID   `cbor:"14,keyasint,omitzero"`
	Body   Raw      `cbor:"15,keyasint"`
}

// KindVersion is the version of every kind's body so far.
const KindVersion = 1

// SealRecord encodes r as the record after prev (zero Seq and Hash for the first of an epoch).
func SealRecord(device DeviceID, prev Position, r Record) (Sealed, error) {
	body, err := Encode(r.Body)
	if err != nil {
		return Sealed{}, fmt.Errorf("encode %s: %w", r.Body.Kind(), err)
	}
	if u, ok := r.Body.(UnknownBody); ok {
		body = u.Raw
	}
	e := envelope{
		V: Version, Device: device, Epoch: prev.Epoch, Seq: prev.Seq + 1, Prev: prev.Hash,
		Kind: r.Body.Kind(), KV: KindVersion, Lane: r.Lane, Boot: r.At.Boot, Mono: r.At.Mono.Milliseconds(),
		Wall: r.At.Wall, Unc: r.At.Uncertainty.Milliseconds(), Anchor: r.At.Anchor, Sale: r.Sale, Body: body,
	}
	b, err := Encode(e)
	if err != nil {
		return Sealed{}, fmt.Errorf("encode record: %w", err)
	}
	return Sealed{Position: Position{Epoch: e.Epoch, Seq: e.Seq, Hash: HashBytes(b)}, Bytes: b}, nil
}

// Opened is a record read back from its bytes.
type Opened struct {
	Record
	Device   DeviceID
	Position Position
	Prev     Hash
	Content  error // ErrContent: the envelope stands, the body does not; Body is then an UnknownBody
}

// ErrContent means a record of known kind and version does not decode. The chain still holds: the
// record is kept, acknowledged and quarantined.
var ErrContent = errors.New("record content")

// OpenRecord decodes a record. An error wraps ErrDecode and means the envelope itself is broken;
// a broken body is told in Opened.Content instead. A kind not known is an UnknownBody without error.
func OpenRecord(b []byte) (Opened, error) {
	var e envelope
	if err := DecodeExact(b, &e); err != nil {
		return Opened{}, err
	}
	if e.V != Version || e.Seq == 0 || e.Device.Check() != nil {
		return Opened{}, fmt.Errorf("%w: record v%d seq %d of %q", ErrDecode, e.V, e.Seq, e.Device)
	}
	o := Opened{
		Record: Record{Lane: e.Lane, Sale: e.Sale, At: Reading{Wall: e.Wall, Uncertainty: ms(e.Unc), Boot: e.Boot, Mono: ms(e.Mono), Anchor: e.Anchor}},
		Device: e.Device, Position: Position{Epoch: e.Epoch, Seq: e.Seq, Hash: HashBytes(b)}, Prev: e.Prev,
	}
	o.Body, o.Content = decodeBody(e.Kind, e.KV, e.Body)
	return o, nil
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func decodeBody(k Kind, kv uint8, raw Raw) (Body, error) {
	unknown := UnknownBody{K: k, KV: kv, Raw: append(Raw(nil), raw...)}
	read, ok := bodies[k]
	if !ok || kv != KindVersion {
		return unknown, nil
	}
	b, err := read(raw)
	if err != nil {
		return unknown, fmt.Errorf("%w: %s: %w", ErrContent, k, err)
	}
	return b, nil
}

func body[T Body](raw Raw) (Body, error) {
	var b T
	if err := DecodeExact(raw, &b); err != nil {
		return nil, err
	}
	return b, nil
}

var bodies = map[Kind]func(Raw) (Body, error){
	KindEpochStarted: body[EpochStarted], KindBooted: body[Booted], KindSnapshot: body[Snapshot],
	KindSaleOpened: body[SaleOpened], KindAuthorizationSent: body[AuthorizationSent],
	KindAuthorizationAnswered: body[AuthorizationAnswered], KindOfflineAccepted: body[OfflineAccepted],
	KindVendStarted: body[VendStarted], KindAckHint: body[AckHint], KindVendResult: body[VendResult],
	KindVendResolved: body[VendResolved], KindPaymentOutcome: body[PaymentOutcome], KindCaseOpened: body[CaseOpened],
	KindSaleClosed: body[SaleClosed], KindLateAnswer: body[LateAnswer], KindClockAnchor: body[ClockAnchor],
	KindPolicyApplied: body[PolicyApplied], KindDeviceEvent: body[DeviceEvent], KindBlobDropped: body[BlobDropped],
	KindDeadlineAlarm: body[DeadlineAlarm],
	KindCashIn:        body[CashIn], KindChangeOrdered: body[ChangeOrdered], KindChangePaid: body[ChangePaid],
	KindChangeUnknown: body[ChangeUnknown], KindStackOrdered: body[StackOrdered],
	KindTerminalSent: body[TerminalSent], KindTerminalAnswered: body[TerminalAnswered],
	KindTerminalDone: body[TerminalDone], KindTerminalClosed: body[TerminalClosed],
	KindCashSale: body[CashSale], KindCountersRead: body[CountersRead], KindCashCollected: body[CashCollected], KindBagCounted: body[BagCounted],
	KindCashByHand: body[CashByHand],
}

// UnknownBody keeps the body of a kind or version this build does not know.
type UnknownBody struct {
	K   Kind
	KV  uint8
	Raw Raw
}

// Kind is the number the record came with.
func (u UnknownBody) Kind() Kind { return u.K }

// EpochStarted is the first record of an epoch. It names the epoch before, if the device knows it.
type EpochStarted struct {
	PrevEpoch  Epoch  `cbor:"1,keyasint,omitzero"`
	PrevSeq    Seq    `cbor:"2,keyasint,omitempty"`
	PrevHash   Hash   `cbor:"3,keyasint,omitzero"`
	CertSerial string `cbor:"4,keyasint"` // hex
	Software   string `cbor:"5,keyasint"`
	Reason     string `cbor:"6,keyasint"` // new | replaced | corrupt
}

// Booted is written at each start of the agent.
type Booted struct {
	Software      string `cbor:"1,keyasint"`
	ConfigHash    Hash   `cbor:"2,keyasint,omitzero"`
	PolicyVersion uint64 `cbor:"3,keyasint"`
	Reason        string `cbor:"4,keyasint"` // start | restart
	Repaired      string `cbor:"5,keyasint,omitempty"`
}

// Snapshot is all that Recover needs of the records before it.
type Snapshot struct {
	Lanes         [][]byte    `cbor:"1,keyasint"` // one encoded session.State a lane
	Counters      Counters    `cbor:"2,keyasint"`
	Cursor        uint64      `cbor:"3,keyasint"` // payment dispositions seen
	PolicyVersion uint64      `cbor:"4,keyasint"`
	OwedBlobs     []PaymentID `cbor:"5,keyasint,omitempty"`
}

// SaleOpened says what is being bought. It is held in memory and written first in the sale's next
// transaction.
type SaleOpened struct {
	Flow  Flow         `cbor:"1,keyasint"`
	Class Class        `cbor:"2,keyasint"`
	Lines []Line       `cbor:"3,keyasint,omitempty"`
	Items []Item       `cbor:"4,keyasint,omitempty"`
	Due   money.Amount `cbor:"5,keyasint"`
	Bus   BusKey       `cbor:"6,keyasint,omitzero"`
}

// AuthorizationSent is synced before the request leaves.
type AuthorizationSent struct {
	Payment       PaymentID    `cbor:"1,keyasint"`
	AskHash       Hash         `cbor:"2,keyasint"`
	Purpose       Purpose      `cbor:"3,keyasint"`
	Amount        money.Amount `cbor:"4,keyasint"`
	Card          Card         `cbor:"5,keyasint"`
	WaitMS        uint32       `cbor:"6,keyasint"`
	PolicyVersion uint64       `cbor:"7,keyasint"`
}

// AuthorizationAnswered is the answer the sale acted on.
type AuthorizationAnswered struct {
	Payment    PaymentID    `cbor:"1,keyasint"`
	Answer     AnswerID     `cbor:"2,keyasint"`
	AnswerHash Hash         `cbor:"3,keyasint"`
	Result     Result       `cbor:"4,keyasint"`
	Code       Code         `cbor:"5,keyasint,omitempty"`
	Approved   money.Amount `cbor:"6,keyasint"`
	RRN        string       `cbor:"7,keyasint,omitempty"`
	AuthID     string       `cbor:"8,keyasint,omitempty"` // DE38
	HostRef    []byte       `cbor:"9,keyasint,omitempty"` // at most 128 bytes, sealed to the cloud
	ReleaseAt  UnixMS       `cbor:"10,keyasint,omitempty"`
}

// OfflineAccepted is a payment taken without an online answer.
type OfflineAccepted struct {
	Payment       PaymentID    `cbor:"1,keyasint"`
	Prior         PaymentID    `cbor:"2,keyasint,omitzero"` // the online attempt it supersedes
	OfflineKind   OfflineKind  `cbor:"3,keyasint"`
	Cause         Cause        `cbor:"4,keyasint"`
	Rule          string       `cbor:"5,keyasint"`
	Amount        money.Amount `cbor:"6,keyasint"`
	Card          Card         `cbor:"7,keyasint"`
	TapHMAC       []byte       `cbor:"8,keyasint,omitempty"`
	PolicyVersion uint64       `cbor:"9,keyasint"`
	Lease         LeaseID      `cbor:"10,keyasint,omitzero"`
}

// VendStarted is synced before a vend is commanded or approved; from here only evidence decides.
type VendStarted struct {
	Vend    VendID       `cbor:"1,keyasint"`
	Payment PaymentID    `cbor:"2,keyasint"`
	N       uint16       `cbor:"3,keyasint"` // 1 is the sale's first
	Outlet  Outlet       `cbor:"4,keyasint"`
	Product string       `cbor:"5,keyasint,omitempty"`
	Amount  money.Amount `cbor:"6,keyasint"`
	Bus     BusKey       `cbor:"7,keyasint,omitzero"` // of the bus's request it answers
}

// AckHint is how far the approval of a vend is known to have come.
type AckHint struct {
	Vend VendID `cbor:"1,keyasint"`
	Hint Hint   `cbor:"2,keyasint"`
}

// VendResult is how a vend ended.
type VendResult struct {
	Vend   VendID      `cbor:"1,keyasint"`
	Result VendOutcome `cbor:"2,keyasint"`
	Grade  Grade       `cbor:"3,keyasint,omitempty"`
	Reason VendReason  `cbor:"4,keyasint,omitempty"`
}

// VendResolved is evidence that came after a VendResult of presumed, unknown or never_delivered.
// Late: after the sale was closed.
type VendResolved struct {
	Vend   VendID      `cbor:"1,keyasint"`
	Result VendOutcome `cbor:"2,keyasint"` // Delivered or Failed
	Grade  Grade       `cbor:"3,keyasint,omitempty"`
	Source Source      `cbor:"4,keyasint"`
	Late   bool        `cbor:"5,keyasint,omitempty"`
}

// PaymentOutcome is what the cloud must do about a payment: exactly one for each that was not
// declined, refused, answered expired or superseded. Capture(Amount <= approved) or Void(Reason).
type PaymentOutcome struct {
	Payment PaymentID    `cbor:"1,keyasint"`
	What    What         `cbor:"2,keyasint"`
	Amount  money.Amount `cbor:"3,keyasint"`
	Reason  Reason       `cbor:"4,keyasint"`
	Counted []VendID     `cbor:"5,keyasint,omitempty"`
}

// CaseOpened is an open question about a sale's money, and what was decided until it is answered.
type CaseOpened struct {
	Case    CaseID    `cbor:"1,keyasint"`
	Payment PaymentID `cbor:"2,keyasint,omitzero"`
	Vends   []VendID  `cbor:"3,keyasint,omitempty"`
	Cause   CaseCause `cbor:"4,keyasint"`
	Charged bool      `cbor:"5,keyasint"` // the default taken: the vends in question count
}

// SaleClosed ends a sale. Delivered is the price of the vends that ended as delivered.
type SaleClosed struct {
	How       How          `cbor:"1,keyasint"`
	Delivered money.Amount `cbor:"2,keyasint"`
}

// LateAnswer is an answer nobody waited for any more; at most one a payment.
type LateAnswer struct {
	Payment  PaymentID    `cbor:"1,keyasint"`
	Answer   AnswerID     `cbor:"2,keyasint"`
	Result   Result       `cbor:"3,keyasint"`
	Approved money.Amount `cbor:"4,keyasint"`
}

// ClockAnchor is cloud time received for a nonce.
type ClockAnchor struct {
	Anchor Anchor `cbor:"1,keyasint"`
	MonoMS int64  `cbor:"2,keyasint"` // at receipt
	RTTMS  int64  `cbor:"3,keyasint"` // from asking to receipt
}

// PolicyApplied is a new policy in force.
type PolicyApplied struct {
	Version uint64 `cbor:"1,keyasint"`
	Hash    Hash   `cbor:"2,keyasint"`
}

// DeviceEvent is something about the machine itself: tamper, door, a recovery step.
type DeviceEvent struct {
	Code   string `cbor:"1,keyasint"`
	Device string `cbor:"2,keyasint,omitempty"`
	Detail string `cbor:"3,keyasint,omitempty"`
}

// BlobDropped is written before a sealed card is deleted.
type BlobDropped struct {
	Payment PaymentID `cbor:"1,keyasint"`
	Cause   Disposed  `cbor:"2,keyasint"`
}

// DeadlineAlarm is 50, 75 or 90 percent of an offline payment's time gone.
type DeadlineAlarm struct {
	Payment PaymentID `cbor:"1,keyasint"`
	Percent uint8     `cbor:"2,keyasint"`
}

// CashIn is money that has come in for good. The first of a sale is its payment, and those after it
// name that one; what comes when no sale waits for money is a payment of its own, of no sale.
type CashIn struct {
	Payment PaymentID    `cbor:"1,keyasint"`
	Value   money.Amount `cbor:"2,keyasint"`
	Bill    bool         `cbor:"3,keyasint,omitempty"`
	Box     bool         `cbor:"4,keyasint,omitempty"` // out of reach: in the box or the stacker
}

// ChangeOrdered is synced before what is left of a payment is paid out, and said once. Tubes are what
// the changer held before, counted when no coin could come in.
type ChangeOrdered struct {
	Payment PaymentID    `cbor:"1,keyasint"`
	Amount  money.Amount `cbor:"2,keyasint"`
	Tubes   []money.Tube `cbor:"3,keyasint,omitempty"`
}

// ChangePaid ends it: Given came out, by a count of the tubes, and Short did not. With Short a case
// (change_short) is opened.
type ChangePaid struct {
	Payment PaymentID    `cbor:"1,keyasint"`
	Given   money.Amount `cbor:"2,keyasint"`
	Short   money.Amount `cbor:"3,keyasint"`
	Reason  string       `cbor:"4,keyasint,omitempty"` // a name; empty when all of it came out
}

// ChangeUnknown ends it where nobody can tell what came out of Amount: a case (change_unknown).
type ChangeUnknown struct {
	Payment PaymentID    `cbor:"1,keyasint"`
	Amount  money.Amount `cbor:"2,keyasint"`
	Reason  string       `cbor:"3,keyasint,omitempty"`
}

// StackOrdered is synced before the bill in escrow is taken. It is no money: a CashIn says that it is
// stacked.
type StackOrdered struct {
	Value money.Amount `cbor:"1,keyasint"`
}

// CashSale is a sale that a machine which owns its cash says it made for cash, or gave away (MDB/ICP
// 4.2, 7.4, CASH SALE).
type CashSale struct {
	Sold    CashKind     `cbor:"1,keyasint"`
	Price   money.Amount `cbor:"2,keyasint"` // zero when it does not say
	Outlet  Outlet       `cbor:"3,keyasint"`
	Product string       `cbor:"4,keyasint,omitempty"`
}

// CountersRead is a reading of a machine's own books (EVA-DTS). Now are its counters since it was new, Since
// what they grew since the reading before; a counter that fell grew nothing, and is named. With a
// Baseline there is nothing to count from: Now is where counting begins.
type CountersRead struct {
	Machine  string   `cbor:"1,keyasint,omitempty"` // serial number, ID1
	Board    string   `cbor:"2,keyasint,omitempty"` // of its controller, CB1
	Baseline Baseline `cbor:"3,keyasint,omitempty"`
	File     Hash     `cbor:"4,keyasint"` // of the file as it came
	Now      Till     `cbor:"5,keyasint"`
	Since    Till     `cbor:"6,keyasint"`
	Fell     []string `cbor:"7,keyasint,omitempty"` // as "CA305"
	// Heard is what the machine's CASH SALEs recorded since the reading before add up to, and how many.
	Heard      int64 `cbor:"8,keyasint,omitempty"`
	HeardCount int64 `cbor:"9,keyasint,omitempty"`
	// Cards is what was captured of our own card sales since the reading before, and how many vends it was for.
	Cards      int64 `cbor:"10,keyasint,omitempty"`
	CardsCount int64 `cbor:"11,keyasint,omitempty"`
}

// Unheard is what the machine counted of cash sales more than it said by CASH SALE, or less.
func (c CountersRead) Unheard() money.Amount {
	if c.Baseline != 0 {
		return money.New(0, c.Now.Currency)
	}
	return money.New(c.Since.CashSales-c.Heard, c.Now.Currency)
}

// CardsUncounted is what we captured of card sales more than the machine counted (DA2), or less: nothing of
// a machine that never counted one.
func (c CountersRead) CardsUncounted() money.Amount {
	if c.Baseline != 0 || c.Now.CardSales == 0 {
		return money.New(0, c.Now.Currency)
	}
	return money.New(c.Cards-c.Since.CardSales, c.Now.Currency)
}

// Till is what a machine counts of money, in minor units of Currency: values, and how often.
type Till struct {
	Currency      money.Currency `cbor:"1,keyasint"`
	CashSales     int64          `cbor:"2,keyasint,omitempty"` // CA2
	CashCount     int64          `cbor:"3,keyasint,omitempty"`
	CardSales     int64          `cbor:"4,keyasint,omitempty"` // DA2
	CardCount     int64          `cbor:"5,keyasint,omitempty"`
	Box           int64          `cbor:"6,keyasint,omitempty"` // CA306: coins that went to the box
	Tubes         int64          `cbor:"7,keyasint,omitempty"` // CA307: and to the tubes
	Bills         int64          `cbor:"8,keyasint,omitempty"` // CA308, CA310
	Out           int64          `cbor:"9,keyasint,omitempty"` // CA4: change, and what was taken out at the buttons
	Filled        int64          `cbor:"10,keyasint,omitempty"`
	TestVends     int64          `cbor:"11,keyasint,omitempty"` // VA2, how often
	FreeVends     int64          `cbor:"12,keyasint,omitempty"` // VA3
	PowerOutages  int64          `cbor:"13,keyasint,omitempty"` // EA7
	AllSales      int64          `cbor:"14,keyasint,omitempty"` // VA1
	AllSalesCount int64          `cbor:"15,keyasint,omitempty"`
}

// In is what came in, in coins and bills.
func (t Till) In() int64 { return t.Box + t.Tubes + t.Bills }

// CashCollected is a person who emptied the box and the stacker into a bag. After are the machine's
// counters then, Before those of the collection before it, or of the baseline since: emptying changes no
// counter. Expected is what grew between them in the box and the stacker, and so should be in the bag;
// what is in it is said by BagCounted.
type CashCollected struct {
	Person   string       `cbor:"1,keyasint"`
	Bag      string       `cbor:"2,keyasint"`
	Before   Till         `cbor:"3,keyasint"`
	After    Till         `cbor:"4,keyasint"`
	Expected money.Amount `cbor:"5,keyasint"`
}

// BagCounted is what was found in a bag. Expected is what its CashCollected said.
type BagCounted struct {
	Person   string       `cbor:"1,keyasint"`
	Bag      string       `cbor:"2,keyasint"`
	Value    money.Amount `cbor:"3,keyasint"`
	Expected money.Amount `cbor:"4,keyasint"`
}

// CashByHand is coins that were taken out of a changer of ours at its own buttons (MDB/ICP 5, POLL,
// coins dispensed manually).
type CashByHand struct {
	Value money.Amount `cbor:"1,keyasint"`
}

func (CashSale) Kind() Kind      { return KindCashSale }
func (CountersRead) Kind() Kind  { return KindCountersRead }
func (CashCollected) Kind() Kind { return KindCashCollected }
func (BagCounted) Kind() Kind    { return KindBagCounted }
func (CashByHand) Kind() Kind    { return KindCashByHand }

func (EpochStarted) Kind() Kind          { return KindEpochStarted }
func (Booted) Kind() Kind                { return KindBooted }
func (Snapshot) Kind() Kind              { return KindSnapshot }
func (SaleOpened) Kind() Kind            { return KindSaleOpened }
func (AuthorizationSent) Kind() Kind     { return KindAuthorizationSent }
func (AuthorizationAnswered) Kind() Kind { return KindAuthorizationAnswered }
func (OfflineAccepted) Kind() Kind       { return KindOfflineAccepted }
func (VendStarted) Kind() Kind           { return KindVendStarted }
func (AckHint) Kind() Kind               { return KindAckHint }
func (VendResult) Kind() Kind            { return KindVendResult }
func (VendResolved) Kind() Kind          { return KindVendResolved }
func (PaymentOutcome) Kind() Kind        { return KindPaymentOutcome }
func (CaseOpened) Kind() Kind            { return KindCaseOpened }
func (SaleClosed) Kind() Kind            { return KindSaleClosed }
func (LateAnswer) Kind() Kind            { return KindLateAnswer }
func (ClockAnchor) Kind() Kind           { return KindClockAnchor }
func (PolicyApplied) Kind() Kind         { return KindPolicyApplied }
func (DeviceEvent) Kind() Kind           { return KindDeviceEvent }
func (BlobDropped) Kind() Kind           { return KindBlobDropped }
func (DeadlineAlarm) Kind() Kind         { return KindDeadlineAlarm }
func (CashIn) Kind() Kind                { return KindCashIn }
func (ChangeOrdered) Kind() Kind         { return KindChangeOrdered }
func (ChangePaid) Kind() Kind            { return KindChangePaid }
func (ChangeUnknown) Kind() Kind         { return KindChangeUnknown }
func (StackOrdered) Kind() Kind          { return KindStackOrdered }
