// Package vivopay is contactless readers of ID TECH's ViVOpay family on a serial line or as a USB HID
// device, protocol 2.
//
//	r, err := vivopay.New(vivopay.Config{Path: "/dev/serial/by-id/...", Currency: money.EUR}, out)
//	go hardware.Supervise(ctx, "reader", r.Open, out)
//	r.Activate(price, 30*time.Second)     // then hardware.CardRead or hardware.CardFailed
//
// The reader decides nothing about money: it asks the card for an ARQC and gives what it got. Readers
// that encrypt give ciphertext, which passes through as it is; a reader in clear is for tests.
package vivopay

import (
	"context"
	"fmt"
	"time"

	"coinop/hardware"
	"coinop/protocol/money"
)

// Config is one reader. The zero value of a field is its default.
type Config struct {
	Device   string         // its name in Health; "reader"
	Path     string         // the tty, or /dev/hidraw0; required
	Baud     int            // of a tty; 115,200
	Currency money.Currency // required
	Legacy   bool           // activate with 02-01, for firmware that does not know 02-40
	// Settings are commands that configure it, sent at each opening in this order; Sub is the subcommand.
	// One that it refuses stands in its health, and ends nothing.
	Settings []Frame
	// Chip lets the reader's own head for stripes, where it has one, take those of cards with a chip: as
	// fallback, and whoever does bears the loss of a copied one.
	Chip  bool
	Wall  func() time.Time // the date, for expiry dates of stripes; time.Now
	Clock hardware.Clock   // of At in events; starts at New
}

// Reader is a CardReader.
type Reader struct {
	hardware.Driven
	cfg   Config
	state State
	box   hardware.Mailbox
}

var (
	_ hardware.CardReader = (*Reader)(nil)
	_ hardware.Indicator  = (*Reader)(nil)
)

// New checks the configuration; it starts and opens nothing.
func New(cfg Config, out func(hardware.Event)) (*Reader, error) {
	if cfg.Device == "" {
		cfg.Device = "reader"
	}
	if cfg.Baud == 0 {
		cfg.Baud = 115200
	}
	if cfg.Clock == nil {
		cfg.Clock = hardware.Since()
	}
	if !cfg.Currency.Known() {
		return nil, fmt.Errorf("vivopay %s: unknown currency %d", cfg.Device, cfg.Currency)
	}
	r := &Reader{cfg: cfg, state: NewState(cfg)}
	r.Driven = hardware.Drive(func(context.Context) (hardware.Port, error) { return open(cfg.Path, cfg.Baud) }, cfg.Clock, hardware.Stepping(&r.state), &r.box, out)
	return r, nil
}

type (
	activate struct {
		amount  money.Amount
		timeout time.Duration
	}
	cancel struct{}
	finish struct{ outcome hardware.Outcome }
)

// Activate looks for one card. timeout is rounded up to a second, 1 to 255. An activation that runs
// is replaced: only the last one is answered.
func (r *Reader) Activate(a money.Amount, timeout time.Duration) error {
	if a.Currency != r.cfg.Currency || a.Minor < 0 || a.Minor > 999_999_999_999 { // 9F02 is n12
		return fmt.Errorf("%w: %s", hardware.ErrInexact, a)
	}
	return r.box.Post(activate{a, timeout})
}

// Cancel stops looking: 05-01.
func (r *Reader) Cancel() error { return r.box.Post(cancel{}) }

// Show beeps: once for a card, twice for yes, long for no (0B; believed, no reader was heard yet). What
// it shows by light it does by itself.
func (r *Reader) Show(s hardware.Signal) error {
	switch s {
	case hardware.SignalCard, hardware.SignalOK, hardware.SignalNo:
		return r.box.Post(s)
	case hardware.SignalIdle, hardware.SignalFault:
	}
	return nil
}

// Finish tells the reader the outcome: 03-03.
func (r *Reader) Finish(o hardware.Outcome) error { return r.box.Post(finish{o}) }
