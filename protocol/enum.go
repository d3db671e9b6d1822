package protocol

import "fmt"

// name is the text of an enum value; values without one print as kind(n).
func name[T ~uint8](kind string, names []string, v T) string {
	if int(v) < len(names) && names[v] != "" {
		return names[v]
	}
	return fmt.Sprintf("%s(%d)", kind, uint8(v))
}

// Class keeps tests and service vends apart from sales: class test never reaches an acquirer.
type Class uint8

// Classes.
const (
	Live Class = iota + 1
	Test
)

func (c Class) String() string { return name("class", []string{1: "live", "test"}, c) }

// Flow says what comes first.
type Flow uint8

// Flows.
const (
	SelectionFirst Flow = iota + 1 // an order is known before the card: rows S..
	CardFirst                      // a hold of the maximum before the selection: rows C..
)

func (f Flow) String() string { return name("flow", []string{1: "selection_first", "card_first"}, f) }

// AuthorizedBy is who said yes to a payment.
type AuthorizedBy uint8

// Who authorizes.
const (
	ByHost AuthorizedBy = iota + 1 // our link to an acquirer
	ByTerminal
	ByWallet
	ByClosedLoop
	ByCash
)

func (a AuthorizedBy) String() string {
	return name("authorized_by", []string{1: "host", "terminal", "wallet", "closed_loop", "cash"}, a)
}

// Purpose is what an authorization is for.
type Purpose uint8

// Purposes.
const (
	Exact   Purpose = iota + 1 // the price of the order; approved > asked is a mismatch
	MaxHold                    // the most a card-first session may spend
)

func (p Purpose) String() string { return name("purpose", []string{1: "exact", "max_hold"}, p) }

// Bus is the kind of vending side of a lane.
type Bus uint8

// Kinds of vending side.
const (
	BusNone Bus = iota // a kiosk's own outlets: the lane times itself
	BusMDB             // a vending machine controller with its Z7 response time
)

func (b Bus) String() string { return name("bus", []string{"none", "mdb"}, b) }

// EntryMode is how the card was read. ISO 8583:1987 DE22 digits 1 and 2 in brackets.
type EntryMode uint8

// Entry modes.
const (
	EntryUnknown     EntryMode = iota // 00
	EntryManual                       // 01
	EntryBarcode                      // 03
	EntryChip                         // 05
	EntryContactless                  // 07
	EntryStripe                       // 90
	EntryFallback                     // 80
	EntryMSD                          // 91
)

func (e EntryMode) String() string {
	return name("entry", []string{"unknown", "manual", "barcode", "chip", "contactless", "stripe", "fallback", "msd"}, e)
}

// CVM is how the cardholder was verified. EMV Book 4, CVM results.
type CVM uint8

// Verification methods.
const (
	CVMNone CVM = iota
	CVMDevice
	CVMOnlinePIN
	CVMOfflinePIN
	CVMSignature
)

func (c CVM) String() string {
	return name("cvm", []string{"none", "device", "online_pin", "offline_pin", "signature"}, c)
}

// Result is the answer to an authorization request.
type Result uint8

// Results.
const (
	Approved Result = iota + 1
	Partial
	Declined
	RefusedUnsent // nothing was sent to a host; see RefuseCode
	Expired       // no money stands; the agent owes nothing after it
)

func (r Result) String() string {
	return name("result", []string{1: "approved", "partial", "declined", "refused_unsent", "expired"}, r)
}

// Code says why a request was declined or refused unsent.
type Code uint8

// Classes of decline (1 to 9) and codes of refused_unsent (10 and up).
const (
	CodeNone      Code = iota
	DeclineFinal       // do not try this card again
	DeclinePickUp      // as final, and onto the hot list
	DeclineRefer
	DeclineTemporary // a soft decline: the host or issuer could not decide
	DeclineFormat    // our fault: format or security
	// Of a closed-loop card, by its account in the cloud.
	DeclineFunds      // there is less on it than is asked
	DeclineUnknown    // no account is open for it
	DeclineBlocked    // its account was blocked or closed
	DeclineUnverified // anyone could have copied it, and its account takes only what is proven
	AcquirerDown
	DeviceStopped
	NoTime
	NoRoute
	NotAllowed
)

func (c Code) String() string {
	return name("code", []string{
		0: "none", 1: "final", 2: "pick_up", 3: "refer", 4: "temporary", 5: "format",
		6: "not_enough", 7: "unknown_card", 8: "card_blocked", 9: "card_unverified",
		10: "acquirer_down", 11: "device_stopped", 12: "no_time", 13: "no_route", 14: "not_allowed",
	}, c)
}

// Hint is what is known of an approval's way to the vending controller.
type Hint uint8

// Hints, weakest first.
const (
	HintNone  Hint = iota
	HintSent       // it was on the wire; no ACK seen
	HintAcked      // the controller acknowledged it
)

func (h Hint) String() string { return name("hint", []string{"none", "sent", "acked"}, h) }

// VendOutcome is how a vend ended, by evidence alone.
type VendOutcome uint8

// Outcomes of a vend.
const (
	Delivered VendOutcome = iota + 1
	Failed
	Presumed // ACK seen, then the bus moved on without a result while we were alive
	Unknown
)

func (v VendOutcome) String() string {
	return name("vend", []string{1: "delivered", "failed", "presumed", "unknown"}, v)
}

// Grade is how good the evidence of a delivery is.
type Grade uint8

// Grades, weakest first.
const (
	GradeNone     Grade = iota
	GradeReported       // the vending controller said so
	GradeCounted        // an audit counter moved
	GradeSensed         // a drop sensor saw it
)

func (g Grade) String() string {
	return name("grade", []string{"none", "reported", "counted", "sensed"}, g)
}

// VendReason is why a vend did not end as delivered.
type VendReason uint8

// Reasons of VendResult.
const (
	VendReasonNone     VendReason = iota
	VendReportedFailed            // VEND FAILURE or an adapter's error
	NeverDelivered                // the approval was withdrawn before its first byte was on the wire
	VendBusReset
	VendSessionComplete
	VendCanceledByBus
	VendNewRequest // a later vend request came instead of a result
	VendTimeout
	VendPortGone
	VendLowGrade // a success below the policy's evidence grade
	VendRestart  // the agent restarted
)

func (r VendReason) String() string {
	return name("vend_reason", []string{
		"none", "reported_failed", "never_delivered", "bus_reset", "session_complete",
		"canceled_by_bus", "new_request", "timeout", "port_gone", "low_grade", "restart",
	}, r)
}

// Source is where late evidence came from.
type Source uint8

// Sources of evidence.
const (
	SourceBus Source = iota + 1
	SourceSensor
	SourceAudit
)

func (s Source) String() string { return name("source", []string{1: "bus", "sensor", "audit"}, s) }

// What is the direction of a PaymentOutcome.
type What uint8

// Outcomes of a payment.
const (
	Capture What = iota + 1
	Void
)

func (w What) String() string { return name("what", []string{1: "capture", "void"}, w) }

// Reason is why a payment was voided (or that it was captured). An acquirer profile maps it to DE39.
type Reason uint8

// Reasons of PaymentOutcome.
const (
	ReasonSold Reason = iota + 1
	NoAnswer
	Canceled
	ReasonPartial
	NoPurchase
	VendFailed
	VendUnknown
	VendGone
	CardRemoved
	CardRefused
	Tampered
)

func (r Reason) String() string {
	return name("reason", []string{
		1: "sold", "no_answer", "canceled", "partial", "no_purchase", "vend_failed",
		"vend_unknown", "vend_gone", "card_removed", "card_refused", "tamper",
	}, r)
}

// How is how a sale ended.
type How uint8

// Ends of a sale.
const (
	Sold How = iota + 1
	SaleCanceled
	Abandoned
	SaleDeclined
	NotCharged
	NoPurchaseMade
)

func (h How) String() string {
	return name("how", []string{1: "sold", "canceled", "abandoned", "declined", "not_charged", "no_purchase"}, h)
}

// CaseCause names the open question of a case.
type CaseCause uint8

// Causes. The agent opens the first three, change_short and those of terminals, the cloud the others.
const (
	CasePresumed CaseCause = iota + 1
	CaseUnknown
	CaseChangeUnknown
	CaseUnseen
	CaseOverApproved
	CaseLatePresentment
	CaseNoOutcome
	CaseReversalFailed
	CaseIncident        // facts that contradict each other
	CaseChangeShort     // less change came out than was owed
	CaseTerminalUnknown // a terminal's last transaction does not say whether a payment stands
	CaseTerminalFailed  // a terminal refused what was owed at it
)

func (c CaseCause) String() string {
	return name("case", []string{
		1: "presumed", "unknown", "change_unknown", "unseen", "over_approved",
		"late_presentment", "no_outcome", "reversal_failed", "incident", "change_short",
		"terminal_unknown", "terminal_failed",
	}, c)
}

// OfflineKind is the kind of an offline acceptance.
type OfflineKind uint8

// Kinds.
const (
	OfflineEMV      OfflineKind = iota + 1 // the card approved offline: 0220 with TC
	OfflineDeferred                        // ARQC held: deferred 0100, then 0220
	OfflineToken
	OfflineClosedLoop
)

func (k OfflineKind) String() string {
	return name("offline", []string{1: "emv_tc", "deferred", "token", "closed_loop"}, k)
}

// Cause is why there was no online answer.
type Cause uint8

// Causes told apart: link down, cloud down (link up, no received), acquirer down (announced or
// answered), issuer slow (received, then nothing).
const (
	CauseNone Cause = iota
	CauseLink
	CauseCloud
	CauseAcquirer
	CauseIssuerSlow
)

func (c Cause) String() string {
	return name("cause", []string{"none", "link", "cloud", "acquirer", "issuer_slow"}, c)
}

// Disposed is a payment's final disposition in dn/ack; only it gives headroom back.
type Disposed uint8

// Payment dispositions.
const (
	Debited Disposed = iota + 1
	Voided
	DispDeclined
	DispExpired
	Adopted
	DispCase
)

func (d Disposed) String() string {
	return name("disposed", []string{1: "debited", "voided", "declined", "expired", "adopted", "case"}, d)
}

// DisposedCause names why a disposition is a loss; 0 when it is none.
type DisposedCause uint8

// Causes of dispositions.
const (
	DisposedPlain DisposedCause = iota
	ExpiredDelivered
	OfflineDeclined
	AgeUncertain
	VoidFirst
)

func (d DisposedCause) String() string {
	return name("disposed_cause", []string{"plain", "expired_delivered", "offline_declined", "age_uncertain", "void_first"}, d)
}

// Verdict is intake's answer to a batch.
type Verdict uint8

// Verdicts.
const (
	Acked Verdict = iota + 1
	Repeat
	Gap  // rewind to Want
	Fork // a chain fault: the device stops uploading and selling
	BadEpoch
	Revoked
)

func (v Verdict) String() string {
	return name("verdict", []string{1: "acked", "repeat", "gap", "fork", "epoch", "revoked"}, v)
}

// Quarantine is why a record could not be applied. It is kept, acknowledged and shown.
type Quarantine uint8

// Reasons of quarantine.
const (
	UnknownKind Quarantine = iota + 1
	BadContent
	OfflineNotYet
	QuarantineOverApproved
	QuarantineCase // to a payment in state case
	QuarantineContradiction
)

func (q Quarantine) String() string {
	return name("quarantine", []string{1: "unknown_kind", "bad_content", "offline_not_yet", "over_approved", "to_case", "contradiction"}, q)
}

// CashKind is what a machine that owns its cash says of a cash sale (MDB/ICP 4.2, 7.4, CASH SALE).
type CashKind uint8

// Kinds of a cash sale.
const (
	SoldForCash CashKind = iota + 1
	SoldFree
	SoldTest
	SoldNegative // the machine took something back
	SoldForToken
)

func (k CashKind) String() string {
	return name("cash", []string{1: "cash", "free", "test", "negative", "token"}, k)
}

// Baseline is why a reading of a machine's counters has nothing to count from.
type Baseline uint8

// Baselines.
const (
	BaselineFirst Baseline = iota + 1 // no reading before it is known
	BaselineBoard                     // another machine or controller board counts now
	BaselineScale                     // decimals or currency are others
)

func (b Baseline) String() string { return name("baseline", []string{1: "first", "board", "scale"}, b) }
