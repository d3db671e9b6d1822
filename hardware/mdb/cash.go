package mdb

import (
	"errors"
	"fmt"

	"coinop/hardware"
	"coinop/protocol/money"
)

// CashConfig is a bus with a coin changer and a bill validator, either of which may be missing. The zero
// value of a field is its default. The parts of Device are "cash coins" and "cash bills".
type CashConfig struct {
	Config
	Currency money.Currency // required
	NoBills  bool           // there is no validator, and none is asked for
}

// Cash is a hardware.Cash: the master of an MDB bus (MDB/ICP 4.2, sections 5 and 6).
type Cash struct {
	hardware.Driven
	currency money.Currency
	state    CashState
	box      hardware.Mailbox
}

var _ hardware.Cash = (*Cash)(nil)

// NewCash checks the configuration; it starts and opens nothing.
func NewCash(cfg CashConfig, out func(hardware.Event)) (*Cash, error) {
	cfg.defaults("cash")
	if !cfg.Currency.Known() {
		return nil, fmt.Errorf("mdb %s: unknown currency %d", cfg.Device, cfg.Currency)
	}
	c := &Cash{currency: cfg.Currency, state: NewCashState(cfg)}
	c.Driven = hardware.Drive(cfg.master, cfg.Clock, hardware.Stepping(&c.state), &c.box, out)
	return c, nil
}

// Accept lets bills in, and coins of up to most; 0: neither.
func (c *Cash) Accept(most money.Amount) error {
	if most.Currency != c.currency && !most.IsZero() {
		return fmt.Errorf("%w: %s", hardware.ErrInexact, most)
	}
	return c.box.Post(acceptCmd{most.Minor})
}

var errNegative = errors.New("a payout of less than nothing")

// Pay gives an amount back in coins.
func (c *Cash) Pay(id uint32, a money.Amount) error {
	switch {
	case a.Currency != c.currency:
		return fmt.Errorf("%w: %s", hardware.ErrInexact, a)
	case a.Minor < 0:
		return errNegative
	}
	return c.box.Post(payCmd{id, a})
}

// Bill takes the bill in escrow in, or gives it back.
func (c *Cash) Bill(take bool) error { return c.box.Post(billCmd{take}) }
