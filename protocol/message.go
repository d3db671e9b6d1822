package protocol

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"coinop/protocol/money"
)

// Ask is what an authorization is asked for: every field of the request but its journal position.
// Its hash (HashOf) is ask_hash: same payment and same hash, same answer; other hash, refused.
type Ask struct {
	V             uint8        `cbor:"1,keyasint"`
	Device        DeviceID     `cbor:"2,keyasint"`
	Sale          SaleID       `cbor:"3,keyasint"`
	Payment       PaymentID    `cbor:"4,keyasint"`
	Prior         PaymentID    `cbor:"5,keyasint,omitzero"`
	Lane          Lane         `cbor:"6,keyasint"`
	Class         Class        `cbor:"7,keyasint"`
	AuthorizedBy  AuthorizedBy `cbor:"8,keyasint"`
	Traceparent   string       `cbor:"9,keyasint,omitempty"` // W3C Trace Context
	Purpose       Purpose      `cbor:"10,keyasint"`
	Amount        money.Amount `cbor:"11,keyasint"`
	Lines         Hash         `cbor:"12,keyasint"` // HashOf the sale's []Line
	Tap           Tap          `cbor:"13,keyasint"`
	Sealed        []byte       `cbor:"14,keyasint"` // card data, to the payment key
	Anchor        AnchorID     `cbor:"15,keyasint"`
	SinceAnchorMS int64        `cbor:"16,keyasint"` // monotonic, since the anchor's receipt
	WaitMS        uint32       `cbor:"17,keyasint"`
	PolicyVersion uint64       `cbor:"18,keyasint"`
	Bus           Bus          `cbor:"19,keyasint,omitempty"`
}

// Tap is what the shell knows of one presentation of a card, apart from its sealed data.
type Tap struct {
	Entry      EntryMode `cbor:"1,keyasint"`
	CVM        CVM       `cbor:"2,keyasint,omitempty"`
	Capability string    `cbor:"3,keyasint,omitempty"` // terminal capability and type, 9F33 + 9F35, hex
	Reader     string    `cbor:"4,keyasint,omitempty"` // the reader's serial number
	Keys       []string  `cbor:"5,keyasint,omitempty"` // ids of the reader's keys (KSN without counter)
	Brand      string    `cbor:"6,keyasint,omitempty"`
	Last4      string    `cbor:"7,keyasint,omitempty"`
	LocalTime  string    `cbor:"8,keyasint"` // at the machine: YYYYMMDDhhmmss
	UTCOffset  int16     `cbor:"9,keyasint"` // minutes east of UTC
}

// MsgType is the t of up/auth and dn/auth.
type MsgType uint8

// Message types of up/auth and dn/auth.
const (
	MsgRequest MsgType = iota + 1
	MsgOutcomeCopy
	MsgReceived
	MsgResponse
	MsgAnnouncement
)

// Auth is what up/auth and dn/auth carry.
type Auth struct {
	T    MsgType `cbor:"1,keyasint"`
	Body Raw     `cbor:"2,keyasint"`
}

// AuthorizationRequest is an Ask and the position of its AuthorizationSent. Ask stays encoded so
// that the cloud hashes what it received.
type AuthorizationRequest struct {
	Ask      Raw      `cbor:"1,keyasint"`
	Position Position `cbor:"2,keyasint"`
}

// OutcomeCopy is a PaymentOutcome's record, sent at once so that money does not wait behind a
// backlog. There is no answer and it is never repeated: the journal's copy is the repeat.
type OutcomeCopy struct {
	V      uint8    `cbor:"1,keyasint"`
	Device DeviceID `cbor:"2,keyasint"`
	Record []byte   `cbor:"3,keyasint"`
	Hash   Hash     `cbor:"4,keyasint"`
}

// Received says the cloud has the request but no answer after 300 ms.
type Received struct {
	Payment PaymentID `cbor:"1,keyasint"`
	AskHash Hash      `cbor:"2,keyasint"`
	Cloud   UnixMS    `cbor:"3,keyasint"`
}

// AuthorizationResponse is the cloud's answer. Its hash is answer_hash.
type AuthorizationResponse struct {
	V         uint8        `cbor:"1,keyasint"`
	Device    DeviceID     `cbor:"2,keyasint"`
	Payment   PaymentID    `cbor:"3,keyasint"`
	AskHash   Hash         `cbor:"4,keyasint"`
	Result    Result       `cbor:"5,keyasint"`
	Code      Code         `cbor:"6,keyasint,omitempty"`
	Approved  money.Amount `cbor:"7,keyasint"`
	RRN       string       `cbor:"8,keyasint,omitempty"`
	AuthID    string       `cbor:"9,keyasint,omitempty"`
	ICC       []byte       `cbor:"10,keyasint,omitempty"` // DE55 91/71/72, contact chip only
	HostRef   []byte       `cbor:"11,keyasint,omitempty"`
	ReleaseAt UnixMS       `cbor:"12,keyasint,omitempty"`
	Answer    AnswerID     `cbor:"13,keyasint"`
	Cloud     UnixMS       `cbor:"14,keyasint"`
	KeyID     string       `cbor:"15,keyasint,omitempty"`
}

// Batch is a run of records going up, in order; empty after each connect, to ask for watermark
// and anchor. It is the payload of a COSE_Sign1 by the device.
type Batch struct {
	V      uint8    `cbor:"1,keyasint"`
	Device DeviceID `cbor:"2,keyasint"`
	Epoch  Epoch    `cbor:"3,keyasint"`
	First  Seq      `cbor:"4,keyasint"` // of Records; Last+1 when empty
	Last   Seq      `cbor:"5,keyasint"`
	Prev   Hash     `cbor:"6,keyasint"` // hash before First
	Head   Hash     `cbor:"7,keyasint"` // hash of Last
	Nonce  Nonce    `cbor:"8,keyasint"`
	Cursor uint64   `cbor:"9,keyasint"` // payment dispositions seen
	Record [][]byte `cbor:"10,keyasint,omitempty"`
}

// Journal is what up/journal carries: the signed batch and, outside the signature (their hash is
// in the records), the sealed cards of its offline payments.
type Journal struct {
	Signed []byte `cbor:"1,keyasint"`
	Blobs  []Blob `cbor:"2,keyasint,omitempty"`
}

// Watermark answers a batch. N: the cloud holds 1..N.
type Watermark struct {
	V            uint8           `cbor:"1,keyasint"`
	Device       DeviceID        `cbor:"2,keyasint"`
	Epoch        Epoch           `cbor:"3,keyasint"`
	Verdict      Verdict         `cbor:"4,keyasint"`
	Want         Seq             `cbor:"5,keyasint,omitempty"` // the first record the cloud lacks
	RestoreEpoch uint64          `cbor:"6,keyasint,omitempty"`
	N            Seq             `cbor:"7,keyasint"`
	Hash         Hash            `cbor:"8,keyasint"` // of record N
	Quarantined  []Quarantined   `cbor:"9,keyasint,omitempty"`
	Dispositions []Disposition   `cbor:"10,keyasint,omitempty"`
	Cursor       uint64          `cbor:"11,keyasint,omitempty"`
	Acquirers    []AcquirerState `cbor:"12,keyasint,omitempty"`
	Lease        *Lease          `cbor:"13,keyasint,omitempty"`
	Anchor       Anchor          `cbor:"14,keyasint"`
}

// Quarantined names a record that was kept and acknowledged but not applied.
type Quarantined struct {
	Seq  Seq        `cbor:"1,keyasint"`
	Code Quarantine `cbor:"2,keyasint"`
}

// Disposition is the final word about an offline payment.
type Disposition struct {
	Payment PaymentID     `cbor:"1,keyasint"`
	What    Disposed      `cbor:"2,keyasint"`
	Amount  money.Amount  `cbor:"3,keyasint"`
	Cause   DisposedCause `cbor:"4,keyasint,omitempty"`
}

// AcquirerState is an announced state of what a device's payments are authorized by: its link to an
// acquirer, or the accounts of closed-loop cards.
type AcquirerState struct {
	Name string       `cbor:"1,keyasint"`
	Up   bool         `cbor:"2,keyasint"`
	By   AuthorizedBy `cbor:"3,keyasint,omitempty"` // 0: host
}

// Announcement tells a connected device of a change among them, without being asked. It is never
// repeated: the next watermark says the same.
type Announcement struct {
	V         uint8           `cbor:"1,keyasint"`
	Device    DeviceID        `cbor:"2,keyasint"`
	Acquirers []AcquirerState `cbor:"3,keyasint,omitempty"`
	Cloud     UnixMS          `cbor:"4,keyasint"` // what was said later counts
}

// Lease is this device's share of the fleet's offline exposure.
type Lease struct {
	ID       LeaseID      `cbor:"1,keyasint"`
	Amount   money.Amount `cbor:"2,keyasint"`
	Count    uint32       `cbor:"3,keyasint"`
	NotAfter UnixMS       `cbor:"4,keyasint"`
}

// Checkpoint is signed proof that the cloud has released records up to N: the device may forget.
type Checkpoint struct {
	V            uint8    `cbor:"1,keyasint"`
	Device       DeviceID `cbor:"2,keyasint"`
	Epoch        Epoch    `cbor:"3,keyasint"`
	N            Seq      `cbor:"4,keyasint"`
	Hash         Hash     `cbor:"5,keyasint"`
	RestoreEpoch uint64   `cbor:"6,keyasint,omitempty"`
	Cloud        UnixMS   `cbor:"7,keyasint"`
	KeyID        string   `cbor:"8,keyasint,omitempty"`
}

// Conn is up/conn and its last will. A will with an older connection number is ignored.
type Conn struct {
	V             uint8    `cbor:"1,keyasint"`
	Device        DeviceID `cbor:"2,keyasint"`
	Online        bool     `cbor:"3,keyasint"`
	Reason        string   `cbor:"4,keyasint,omitempty"`
	Epoch         Epoch    `cbor:"5,keyasint"`
	Connection    uint64   `cbor:"6,keyasint"`
	Seq           Seq      `cbor:"7,keyasint"`
	PolicyVersion uint64   `cbor:"8,keyasint"`
	Software      string   `cbor:"9,keyasint,omitempty"`
	Ticket        []byte   `cbor:"10,keyasint,omitempty"`
}

// SealedCard is the plaintext a card's blob holds, sealed to the payment key with CardAAD. It is
// the only place where card data stands.
type SealedCard struct {
	Payment  PaymentID `cbor:"1,keyasint"`
	Reader   string    `cbor:"2,keyasint,omitempty"`
	Entry    EntryMode `cbor:"3,keyasint"`
	KSN      []byte    `cbor:"4,keyasint,omitempty"`
	Scheme   string    `cbor:"5,keyasint,omitempty"` // of Cipher
	Cipher   []byte    `cbor:"6,keyasint,omitempty"` // the reader's own ciphertext, opaque
	Track2   []byte    `cbor:"7,keyasint,omitempty"` // only from a reader without encryption
	PSN      []byte    `cbor:"8,keyasint,omitempty"` // card sequence number, 5F34
	ICC      []byte    `cbor:"9,keyasint,omitempty"` // DE55 TLV as read
	PINBlock []byte    `cbor:"10,keyasint,omitempty"`
	PINKSN   []byte    `cbor:"11,keyasint,omitempty"`
	Nonce    Nonce     `cbor:"12,keyasint"`

	Loop *SealedLoop `cbor:"13,keyasint,omitempty"` // a card of the operator's own; then no bank's is here
}

// SealedLoop is what a closed-loop card says of itself. It is sealed because it names who carries it.
type SealedLoop struct {
	ID       string `cbor:"1,keyasint,omitempty"` // ten hex digits; with Verified
	Counter  uint16 `cbor:"2,keyasint,omitempty"` // how often the card was written
	Verified bool   `cbor:"3,keyasint,omitempty"` // the reader has proven that ID was made for this card with the operator's key
	UID      []byte `cbor:"4,keyasint,omitempty"` // the chip's number, which anyone can copy
	Stripe   string `cbor:"5,keyasint,omitempty"` // StripeRef of the number on a stripe, which anyone can copy
}

// Ref is the name an account is opened for: the id of a card that is proven, or what can be copied, marked as
// that. "" where there is nothing.
func (l SealedLoop) Ref() string {
	switch {
	case l.Verified && l.ID != "":
		return l.ID
	case len(l.UID) > 0:
		return LoopUID + hex.EncodeToString(l.UID)
	}
	return l.Stripe
}

// How a reference that anyone can copy begins.
const (
	LoopUID    = "uid:"
	LoopStripe = "loop:"
)

// StripeRef is the reference of the number on the stripe of a card of the operator's own: the same on every
// device and in the cloud, and not the number.
func StripeRef(number string) string {
	h := sha256.Sum256([]byte("coinop/own-card\x00" + number))
	return LoopStripe + hex.EncodeToString(h[:16])
}

// CardAAD binds a sealed card to its payment.
type CardAAD struct {
	Device  DeviceID     `cbor:"1,keyasint"`
	Epoch   Epoch        `cbor:"2,keyasint"`
	Sale    SaleID       `cbor:"3,keyasint"`
	Payment PaymentID    `cbor:"4,keyasint"`
	Amount  money.Amount `cbor:"5,keyasint"`
}

// Check reports what is missing or impossible in an ask, wrapping ErrDecode.
func (a Ask) Check() error {
	bad := func(what string) error { return fmt.Errorf("%w: ask: %s", ErrDecode, what) }
	switch {
	case a.V != Version:
		return bad("version")
	case a.Device.Check() != nil:
		return bad("device")
	case a.Sale.IsZero() || a.Payment.IsZero():
		return bad("ids")
	case a.Class != Live && a.Class != Test:
		return bad("class")
	case a.Purpose != Exact && a.Purpose != MaxHold:
		return bad("purpose")
	case a.Amount.Minor <= 0 || !a.Amount.Currency.Known():
		return bad("amount")
	case a.Anchor.IsZero() || a.SinceAnchorMS < 0:
		return bad("anchor")
	case len(a.Tap.LocalTime) != 14:
		return bad("local time")
	}
	return nil
}
