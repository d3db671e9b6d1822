// Package pn532 is NXP's PN532, a contactless reader chip, on a UART or at an I2C bus, for closed-loop cards:
// MIFARE Classic and DESFire (AES) of the operator's own. It is never for bank cards: it selects no
// application of theirs and reads no number.
//
//	r, err := pn532.New(pn532.Config{Path: "/dev/ttyS0", Currency: money.EUR, Keys: keys}, out)
//	go hardware.Supervise(ctx, "reader", r.Open, out)
//	r.Activate(price, 30*time.Second)     // then hardware.CardRead with Card.Loop, or hardware.CardFailed
//
// A card holds a reference (hardware.LoopCard) and no value. A card with a reference that was made for
// another card is ReasonWrongMAC, one that knows nothing of us ReasonUnsupported. Without keys a card is its
// chip's number alone, unverified.
//
// What it promises: a card that lies on the reader is told once, until it has been away for a second.
package pn532

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/protocol/money"
)

// Config is one chip. The zero value of a field is its default.
type Config struct {
	Device   string            // its name in Health; "reader"
	Path     string            // the tty, or an I2C bus: /dev/i2c-1; required
	Baud     int               // 115,200
	Currency money.Currency    // required
	Keys     hardware.LoopKeys // none: cards are their chip's number
	Clock    hardware.Clock    // of At in events; starts at New
	Random   func([]byte)      // of challenges; crypto/rand
}

// Reader is a CardReader.
type Reader struct {
	hardware.Driven
	cfg   Config
	state State
	box   hardware.Mailbox
}

var _ hardware.CardReader = (*Reader)(nil)

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
	if cfg.Random == nil {
		cfg.Random = func(b []byte) { _, _ = rand.Read(b) } // never fails
	}
	if !cfg.Currency.Known() {
		return nil, fmt.Errorf("pn532 %s: unknown currency %d", cfg.Device, cfg.Currency)
	}
	r := &Reader{cfg: cfg, state: NewState(cfg)}
	r.Driven = hardware.Drive(r.open, cfg.Clock, hardware.Stepping(&r.state), &r.box, out)
	return r, nil
}

func (r *Reader) open(context.Context) (hardware.Port, error) {
	if strings.HasPrefix(r.cfg.Path, i2cPrefix) {
		return openI2C(r.cfg.Path)
	}
	return hardware.OpenTTY(r.cfg.Path, r.cfg.Baud)
}

type (
	activate struct{ timeout time.Duration }
	cancel   struct{}
)

// Activate looks for one card. The amount is not told to the chip, which has no display. An activation that
// runs is replaced: only the last one is answered.
func (r *Reader) Activate(a money.Amount, timeout time.Duration) error {
	if a.Currency != r.cfg.Currency || a.Minor < 0 || a.Minor > 999_999_999_999 {
		return fmt.Errorf("%w: %s", hardware.ErrInexact, a)
	}
	return r.box.Post(activate{timeout})
}

// Cancel stops looking.
func (r *Reader) Cancel() error { return r.box.Post(cancel{}) }

// Finish does nothing: the chip has no lights.
func (r *Reader) Finish(hardware.Outcome) error { return nil }
