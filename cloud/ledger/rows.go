package ledger

import (
	"coinop/protocol"
	"coinop/protocol/money"
)

// Flow is how a link moves money, as far as the ledger cares.
type Flow uint8

// Flows. SALE section 5: profile flow dual_* and single.
const (
	Dual   Flow = iota + 1 // the authorization holds, the capture moves
	Single                 // the authorization moves, a reversal gives the rest back
)

func (f Flow) String() string { return name([]string{"?", "dual", "single"}, f) }

// Bearer is who bears the loss of a delivery that can no longer be charged. A contract says.
type Bearer uint8

// Bearers.
const (
	ByOperator Bearer = iota // the operator pays the merchant
	ByMerchant               // nothing is posted
)

func (b Bearer) String() string { return name([]string{"operator", "merchant"}, b) }

// About is what every transfer of one payment has in common.
type About struct {
	Tenant  string
	Payment protocol.PaymentID
	Device  protocol.DeviceID
	Day     string // business day, YYYYMMDD
	// Owing is who owes what is approved: 0 is acq_receivable. StoredValue of a closed-loop card: then it is we,
	// and a capture makes it less. Links of flow dual only.
	Owing Account
}

func (a About) owing() Account {
	if a.Owing != 0 {
		return a.Owing
	}
	return AcqReceivable
}

// The rows of the posting table. source is what caused the transfers: the key of an operation or
// the hash of a record. Amounts of 0 post nothing.

// Approved: an approval in time. dual: pending Dr acq_receivable Cr vend_pending; single: posted.
func (a About) Approved(f Flow, auth string, amount money.Amount) []Transfer {
	kind := Post
	if f == Dual {
		kind = Pending
	}
	return a.list(a.move(kind, auth, "approved", a.owing(), VendPending, amount))
}

// Captured: an outcome of captured, at most approved. auth is the source of Approved, source the
// capture's. dual: the pending hold ends, Dr acq_unconfirmed Cr merchant_payable. single: Dr
// vend_pending Cr merchant_payable, and the rest Cr reversal_owed.
func (a About) Captured(f Flow, auth, source string, approved, captured money.Amount) []Transfer {
	if f == Dual {
		return a.list(a.unhold(auth, approved), a.move(Post, source, "captured", AcqUnconfirmed, MerchantPayable, captured))
	}
	rest := money.New(approved.Minor-captured.Minor, approved.Currency)
	return a.list(a.move(Post, source, "captured", VendPending, MerchantPayable, captured),
		a.move(Post, source, "rest", VendPending, ReversalOwed, rest))
}

// Confirmed: the acquirer answered a capture (dual). Dr acq_receivable Cr acq_unconfirmed; of a closed-loop
// card Dr stored_value, by the unit of work that takes it off its account.
func (a About) Confirmed(source string, captured money.Amount) []Transfer {
	return a.list(a.move(Post, source, "confirmed", a.owing(), AcqUnconfirmed, captured))
}

// CaptureRefused: the acquirer refused a capture (dual). Dr suspense Cr acq_unconfirmed, until the
// case decides who bears it.
func (a About) CaptureRefused(source string, captured money.Amount) []Transfer {
	return a.list(a.move(Post, source, "refused", Suspense, AcqUnconfirmed, captured))
}

// Undone: an approval in time will not be captured. dual: the pending hold ends. single: Dr
// vend_pending Cr reversal_owed.
func (a About) Undone(f Flow, auth string, approved money.Amount) []Transfer {
	if f == Dual {
		return a.list(a.unhold(auth, approved))
	}
	return a.list(a.move(Post, auth, "undone", VendPending, ReversalOwed, approved))
}

// Reversed: the acquirer answered a reversal of back (single; dual posts nothing). Dr reversal_owed
// Cr acq_receivable.
func (a About) Reversed(f Flow, source string, back money.Amount) []Transfer {
	if f == Dual {
		return nil
	}
	return a.list(a.move(Post, source, "reversed", ReversalOwed, AcqReceivable, back))
}

// ExpiredDelivered: a delivery that can no longer be charged. Dr expired_loss Cr merchant_payable,
// or nothing where the merchant bears it.
func (a About) ExpiredDelivered(b Bearer, source string, delivered money.Amount) []Transfer {
	if b == ByMerchant {
		return nil
	}
	return a.list(a.move(Post, source, "expired_delivered", ExpiredLoss, MerchantPayable, delivered))
}

// GiveBack: a refund was ordered. Dr merchant_payable Cr refund_owed.
func (a About) GiveBack(source string, amount money.Amount) []Transfer {
	return a.list(a.move(Post, source, "give_back", MerchantPayable, RefundOwed, amount))
}

// GivenBack: the acquirer answered a refund. Dr refund_owed Cr acq_receivable.
func (a About) GivenBack(source string, amount money.Amount) []Transfer {
	return a.list(a.move(Post, source, "given_back", RefundOwed, AcqReceivable, amount))
}

// CashTaken: coins or bills came in. Dr cash_in_machine Cr cash_credit.
func (a About) CashTaken(source string, value money.Amount) []Transfer {
	return a.list(a.move(Post, source, "cash_in", CashInMachine, CashCredit, value))
}

// CashSpent: an outcome of captured, paid in cash. Dr cash_credit Cr merchant_payable.
func (a About) CashSpent(source string, captured money.Amount) []Transfer {
	return a.list(a.move(Post, source, "captured", CashCredit, MerchantPayable, captured))
}

// ChangeGiven: change that came out, and what did not. Dr cash_credit Cr cash_in_machine, and Dr
// cash_credit Cr change_owed.
func (a About) ChangeGiven(source string, given, short money.Amount) []Transfer {
	return a.list(a.move(Post, source, "change", CashCredit, CashInMachine, given),
		a.move(Post, source, "change_short", CashCredit, ChangeOwed, short))
}

// CashSold: a machine that owns its cash sold something for it. Dr cash_in_machine Cr merchant_payable.
func (a About) CashSold(source string, price money.Amount) []Transfer {
	return a.list(a.move(Post, source, "cash_sold", CashInMachine, MerchantPayable, price))
}

// CashUnsold: it counted less than it had said before. Dr merchant_payable Cr cash_in_machine.
func (a About) CashUnsold(source string, price money.Amount) []Transfer {
	return a.list(a.move(Post, source, "cash_unsold", MerchantPayable, CashInMachine, price))
}

// CashCollected: box and stacker were emptied into a bag, which should hold expected. Dr cash_in_transit
// Cr cash_in_machine.
func (a About) CashCollected(source string, expected money.Amount) []Transfer {
	return a.list(a.move(Post, source, "collected", CashInTransit, CashInMachine, expected))
}

// BagCounted: what was found in a bag, and what it should have held. Dr cash_counted Cr cash_in_transit;
// what was short Dr cash_difference Cr cash_in_transit, what was over Dr cash_counted Cr cash_difference.
func (a About) BagCounted(source string, expected, found money.Amount) []Transfer {
	both := money.New(min(expected.Minor, found.Minor), found.Currency)
	short := money.New(max(expected.Minor-found.Minor, 0), found.Currency)
	over := money.New(max(found.Minor-expected.Minor, 0), found.Currency)
	return a.list(a.move(Post, source, "counted", CashCounted, CashInTransit, both),
		a.move(Post, source, "bag_short", CashDifference, CashInTransit, short),
		a.move(Post, source, "bag_over", CashCounted, CashDifference, over))
}

// TakenByHand: coins were taken out of a changer at its buttons. Dr cash_by_hand Cr cash_in_machine.
func (a About) TakenByHand(source string, value money.Amount) []Transfer {
	return a.list(a.move(Post, source, "by_hand", CashByHand, CashInMachine, value))
}

// TerminalCaptured: an outcome of captured, at a terminal that authorizes by itself. Dr terminal_clearing
// Cr merchant_payable.
func (a About) TerminalCaptured(source string, captured money.Amount) []Transfer {
	return a.list(a.move(Post, source, "captured", TerminalClearing, MerchantPayable, captured))
}

// TerminalStands: more stands at a terminal's provider than was captured, and the terminal will not give
// it back. Dr terminal_clearing Cr vend_pending, until the case decides.
func (a About) TerminalStands(source string, over money.Amount) []Transfer {
	return a.list(a.move(Post, source, "stands", TerminalClearing, VendPending, over))
}

// Loaded: money was taken at a desk and put onto a closed-loop card. Dr suspense Cr stored_value: nobody has
// seen it in a bank, and a settlement that does explains it.
func (a About) Loaded(source string, amount money.Amount) []Transfer {
	return a.list(a.move(Post, source, "loaded", Suspense, StoredValue, amount))
}

// PaidOut: a closed-loop card's value was given back at a desk, or taken off by hand. Dr stored_value Cr suspense.
func (a About) PaidOut(source string, amount money.Amount) []Transfer {
	return a.list(a.move(Post, source, "paid_out", StoredValue, Suspense, amount))
}

func (a About) move(k Kind, source, step string, debit, credit Account, amount money.Amount) Transfer {
	return Transfer{
		ID: ID(source, step), Kind: k, Tenant: a.Tenant, Debit: debit, Credit: credit, Amount: amount,
		Payment: a.Payment, Device: a.Device, Day: a.Day,
	}
}

// unhold ends what Approved made pending.
func (a About) unhold(auth string, amount money.Amount) Transfer {
	t := a.move(Void, auth, "unhold", a.owing(), VendPending, amount)
	t.Of = ID(auth, "approved")
	return t
}

func (a About) list(ts ...Transfer) []Transfer {
	out := ts[:0]
	for _, t := range ts {
		if t.Amount.Minor != 0 {
			out = append(out, t)
		}
	}
	return out
}
