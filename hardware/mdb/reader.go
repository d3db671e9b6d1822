package mdb

import (
	"fmt"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// ReaderConfig is a cashless reader whose controller we are. The zero value of a field is its default.
type ReaderConfig struct {
	Config
	Currency money.Currency // required
	Second   bool           // address 60 instead of 10
}

// Reader is a hardware.Terminal: a cashless device at an MDB bus whose master we are (MDB/ICP 4.2, section
// 7). It reads the card and asks its own host; what it approved is charged by vend success, and given back
// by vend failure.
//
//   - A vend is requested once for a payment. What got no answer is Unknown.
//   - A reader that begins anew between approval and result has charged (7.4.7): Capture is then OK, and
//     Cancel Refused.
//   - It keeps no books that can be asked. Last knows a payment that was approved, and what vend failure
//     makes of one that was not, as long as the reader has not begun anew; else it Never is.
//   - Less than what was approved cannot be captured, nothing can be refunded without a vend, and it has no
//     day to close: Refused, and "not_possible".
//   - Nothing that it says of a card is passed on.
type Reader struct {
	hardware.Driven
	currency money.Currency
	state    ReaderState
	box      hardware.Mailbox
}

var _ hardware.Terminal = (*Reader)(nil)

// NewReader checks the configuration; it starts and opens nothing.
func NewReader(cfg ReaderConfig, out func(hardware.Event)) (*Reader, error) {
	cfg.defaults("terminal")
	if cfg.Port == PortWaferstar { // it does not tell what its POLL met, and silence after VEND FAILURE is a word (7.4.8)
		return nil, fmt.Errorf("mdb %s: no reader behind this adapter", cfg.Device)
	}
	if !cfg.Currency.Known() {
		return nil, fmt.Errorf("mdb %s: unknown currency %d", cfg.Device, cfg.Currency)
	}
	r := &Reader{currency: cfg.Currency, state: NewReaderState(cfg)}
	r.Driven = hardware.Drive(cfg.master, cfg.Clock, hardware.Stepping(&r.state), &r.box, out)
	return r, nil
}

func (r *Reader) exact(a money.Amount) error {
	if a.Currency != r.currency || a.Minor <= 0 {
		return fmt.Errorf("%w: %s", hardware.ErrInexact, a)
	}
	return nil
}

// Authorize is VEND REQUEST (13h/00h), after BEGIN SESSION where the reader wants the card first. An
// amount that the reader's scale cannot say ends Unsent, "amount".
func (r *Reader) Authorize(p protocol.PaymentID, a money.Amount) error {
	if err := r.exact(a); err != nil {
		return err
	}
	return r.box.Post(readerJob{do: readerAuthorize, payment: p, amount: a})
}

// Abort is READER CANCEL (14h/02h) before the card, SESSION COMPLETE (13h/04h) after it, and VEND CANCEL
// (13h/01h) while the reader asks its host.
func (r *Reader) Abort(p protocol.PaymentID) error {
	return r.box.Post(readerJob{do: readerAbort, payment: p})
}

// Capture is VEND SUCCESS (13h/02h), of all that was approved: less is Refused, "not_possible", and stands.
func (r *Reader) Capture(p protocol.PaymentID, ref protocol.TerminalRef, approved, a money.Amount) error {
	if err := r.exact(a); err != nil {
		return err
	}
	return r.box.Post(readerJob{do: readerCapture, payment: p, ref: ref, approved: approved, amount: a})
}

// Cancel is VEND FAILURE (13h/03h); the reader is silent while it gives the money back (7.4.8).
func (r *Reader) Cancel(p protocol.PaymentID, ref protocol.TerminalRef, approved money.Amount) error {
	return r.box.Post(readerJob{do: readerCancel, payment: p, ref: ref, approved: approved})
}

// Refund is Refused, "not_possible": a reader gives nothing back without a vend.
func (r *Reader) Refund(p protocol.PaymentID, a money.Amount) error {
	if err := r.exact(a); err != nil {
		return err
	}
	return r.box.Post(readerJob{do: readerRefund, payment: p, amount: a})
}

// Last says whether the reader still waits for the end of a payment. See Reader.
func (r *Reader) Last(p protocol.PaymentID, ref protocol.TerminalRef) error {
	return r.box.Post(readerJob{do: readerLast, payment: p, ref: ref})
}

// Close is answered with "not_possible": what a reader charged is on its way by its own rules.
func (r *Reader) Close() error { return r.box.Post(readerJob{do: readerClose}) }
