package mdb

import (
	"context"
	"fmt"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// CashlessConfig is one cashless device at a raw port. The zero value of a field is its default.
type CashlessConfig struct {
	Device   string         // its name in Health; "vmc"
	Path     string         // the port; required
	Scale    Scale          // currency required; factor 1; decimals as given
	Level    uint8          // highest spoken; 3
	Second   bool           // address 60 instead of 10
	Z7       time.Duration  // maximum response time told to the controller; 30 s
	Serial   string         // up to 12 characters of 09; "1"
	BusEpoch uint64         // the last one of an earlier run; the first opening's is one more
	Clock    hardware.Clock // of At in events; starts at New
	// Open opens the port; nil: OpenRaw of Path.
	Open func(path string) (hardware.Port, error)
}

// Cashless is a Vender that is the cashless device itself, on a port that passes the bus's words
// (MDB/ICP 4.2; commands of later versions are acknowledged and not executed). It sees what the
// controller acknowledges, so approvals end as delivered.
//
// A process under Linux does not always answer within the bus's 5 ms: for machines that sell, an adapter
// is the better port.
type Cashless struct {
	cfg   CashlessConfig
	out   func(hardware.Event)
	state CashlessState
	port  hardware.Port
	box   hardware.Mailbox
}

var (
	_ hardware.Vender   = (*Cashless)(nil)
	_ hardware.Refunder = (*Cashless)(nil)
)

// NewCashless checks the configuration; it starts and opens nothing.
func NewCashless(cfg CashlessConfig, out func(hardware.Event)) (*Cashless, error) {
	if cfg.Device == "" {
		cfg.Device = "vmc"
	}
	if cfg.Level == 0 {
		cfg.Level = 3
	}
	if cfg.Z7 == 0 {
		cfg.Z7 = 30 * time.Second
	}
	if cfg.Serial == "" {
		cfg.Serial = "1"
	}
	if cfg.Clock == nil {
		cfg.Clock = hardware.Since()
	}
	if cfg.Open == nil {
		cfg.Open = OpenRaw
	}
	if err := cfg.Scale.Check(); err != nil {
		return nil, fmt.Errorf("mdb %s: %w", cfg.Device, err)
	}
	if cfg.Level > 3 || cfg.Z7 < time.Second || cfg.Z7 > 255*time.Second {
		return nil, fmt.Errorf("mdb %s: level %d, response time %s: want 1 to 3, and 1 to 255 s", cfg.Device, cfg.Level, cfg.Z7)
	}
	return &Cashless{cfg: cfg, out: out, state: NewCashlessState(cfg)}, nil
}

// Open opens the port for one Run; it is what Supervise calls.
func (c *Cashless) Open(context.Context) (hardware.Driver, error) {
	p, err := c.cfg.Open(c.cfg.Path)
	if err != nil {
		return nil, err
	}
	c.port = p
	return c, nil
}

// Run serves the opening until the port fails or ctx ends. Only after Open.
func (c *Cashless) Run(ctx context.Context) error {
	step := func(now time.Duration, in any) (o hardware.Output) {
		c.state, o = c.state.Step(now, in)
		return o
	}
	return hardware.Serve(ctx, c.port, c.cfg.Clock, step, &c.box, c.out)
}

// Begin opens a card-first session: BEGIN SESSION. See hardware.Vender.
func (c *Cashless) Begin(funds money.Amount) error {
	units, err := c.cfg.Scale.Units(funds)
	if err != nil {
		return err
	}
	return c.box.Post(begin{units: uint32(units)})
}

// Approve answers the open vend request: VEND APPROVED. See hardware.Vender.
func (c *Cashless) Approve(v protocol.VendID, bus protocol.BusKey, o protocol.Outlet, a money.Amount, by time.Duration) error {
	units, err := c.cfg.Scale.Units(a)
	if err != nil {
		return err
	}
	if by <= 0 {
		by = hardware.DefaultApproveBy
	}
	return c.box.Post(approve{vend: v, bus: bus, outlet: o, units: uint32(units), by: c.cfg.Clock() + by})
}

// Refunded ends the silence after VEND FAILURE. See hardware.Refunder.
func (c *Cashless) Refunded(v protocol.VendID) error { return c.box.Post(refunded{v}) }

// Deny answers it with VEND DENIED, or takes back an approval that is not on the wire yet.
func (c *Cashless) Deny(bus protocol.BusKey) error { return takeBack(&c.box, deny{bus}) }

// End asks the controller to close a card-first session: SESSION CANCEL REQUEST.
func (c *Cashless) End() error { return takeBack(&c.box, end{}) }

// Resume binds a result that comes before the controller resets us.
func (c *Cashless) Resume(v protocol.VendID) error { return c.box.Keep(resume{v}) }

// SeesAck is true: we are the device.
func (c *Cashless) SeesAck() bool { return true }

// HasEvidence is false: there is only the bus.
func (c *Cashless) HasEvidence() bool { return false }
