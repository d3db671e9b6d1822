package mdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coinop/hardware"
	"coinop/protocol/money"
)

// CashConfig is a bus with a coin changer and a bill validator, either of which may be missing. The zero
// value of a field is its default.
type CashConfig struct {
	Device   string // its name in Health, "cash": its parts are "cash coins" and "cash bills"
	Path     string // the port; required
	Currency money.Currency
	NoBills  bool           // there is no validator, and none is asked for
	Clock    hardware.Clock // starts at New
	Open     func(path string) (hardware.Port, error)
}

// Cash is a hardware.Cash: the master of an MDB bus (MDB/ICP 4.2, sections 5 and 6).
type Cash struct {
	cfg   CashConfig
	out   func(hardware.Event)
	state CashState
	port  hardware.Port
	box   hardware.Mailbox
}

var _ hardware.Cash = (*Cash)(nil)

// NewCash checks the configuration; it starts and opens nothing.
func NewCash(cfg CashConfig, out func(hardware.Event)) (*Cash, error) {
	if cfg.Device == "" {
		cfg.Device = "cash"
	}
	if cfg.Clock == nil {
		cfg.Clock = hardware.Since()
	}
	if cfg.Open == nil {
		cfg.Open = OpenRaw
	}
	if !cfg.Currency.Known() {
		return nil, fmt.Errorf("mdb %s: unknown currency %d", cfg.Device, cfg.Currency)
	}
	c := &Cash{cfg: cfg, out: out, state: NewCashState(cfg.Device, cfg.Currency)}
	c.state.noBills = cfg.NoBills
	return c, nil
}

// Open opens the port for one Run; it is what Supervise calls.
func (c *Cash) Open(context.Context) (hardware.Driver, error) {
	p, err := c.cfg.Open(c.cfg.Path)
	if err != nil {
		return nil, err
	}
	c.port = p
	return c, nil
}

// Run serves the opening until the port fails or ctx ends. Only after Open.
func (c *Cash) Run(ctx context.Context) error {
	step := func(now time.Duration, in any) (o hardware.Output) {
		c.state, o = c.state.Step(now, in)
		return o
	}
	return hardware.Serve(ctx, c.port, c.cfg.Clock, step, &c.box, c.out)
}

// Accept lets bills in, and coins of up to most; 0: neither.
func (c *Cash) Accept(most money.Amount) error {
	if most.Currency != c.cfg.Currency && !most.IsZero() {
		return fmt.Errorf("%w: %s", hardware.ErrInexact, most)
	}
	return c.box.Post(acceptCmd{most.Minor})
}

var errNegative = errors.New("a payout of less than nothing")

// Pay gives an amount back in coins.
func (c *Cash) Pay(id uint32, a money.Amount) error {
	switch {
	case a.Currency != c.cfg.Currency:
		return fmt.Errorf("%w: %s", hardware.ErrInexact, a)
	case a.Minor < 0:
		return errNegative
	}
	return c.box.Post(payCmd{id, a})
}

// Bill takes the bill in escrow in, or gives it back.
func (c *Cash) Bill(take bool) error { return c.box.Post(billCmd{take}) }
