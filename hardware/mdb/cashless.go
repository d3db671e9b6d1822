package mdb

import (
	"fmt"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// CashlessConfig is one cashless device. The zero value of a field is its default.
type CashlessConfig struct {
	Config
	Scale    Scale             // currency required; factor 1; decimals as given
	BusEpoch uint64            // the last one of an earlier run; the first opening's is one more
	Level    uint8             // highest spoken; 3
	Second   bool              // address 60 instead of 10
	Z7       time.Duration     // maximum response time told to the controller; 30 s
	Serial   string            // up to 12 characters of 09; "1"
	Language string            // of the machine's display in sessions, two letters (ISO 639); "en"
	Params   map[string]string // of a Qibixx adapter: more SETCONF parameters, set after ours; its names
}

func (c *CashlessConfig) check() error {
	c.defaults("vmc")
	if c.Level == 0 {
		c.Level = 3
	}
	if c.Z7 == 0 {
		c.Z7 = 30 * time.Second
	}
	if c.Serial == "" {
		c.Serial = "1"
	}
	if c.Language == "" {
		c.Language = "en"
	}
	if err := c.Scale.Check(); err != nil {
		return wrong(c.Device, err)
	}
	if l := c.Language; len(l) != 2 || l[0] < 'a' || l[0] > 'z' || l[1] < 'a' || l[1] > 'z' {
		return fmt.Errorf("mdb %s: language %q: want two small letters", c.Device, l)
	}
	if c.Level > 3 || c.Z7 < time.Second || c.Z7 > 255*time.Second {
		return fmt.Errorf("mdb %s: level %d, response time %s: want 1 to 3, and 1 to 255 s", c.Device, c.Level, c.Z7)
	}
	return nil
}

// device is a Vender whose machine is CashlessState.
type device struct {
	hardware.Driven
	cfg   CashlessConfig
	state CashlessState
	box   hardware.Mailbox
}

func (c *device) init(cfg CashlessConfig, out func(hardware.Event)) error {
	if err := cfg.check(); err != nil {
		return err
	}
	c.cfg, c.state = cfg, NewCashlessState(cfg)
	c.Driven = hardware.Drive(c.cfg.device, cfg.Clock, hardware.Stepping(&c.state), &c.box, out)
	return nil
}

// Cashless is a Vender that is the cashless device itself, on a port that passes the bus's words
// (MDB/ICP 4.2; commands of later versions are acknowledged and not executed). It sees what the
// controller acknowledges, so approvals end as delivered.
//
// A process under Linux does not always answer within the bus's 5 ms: for machines that sell, an adapter
// is the better port.
type Cashless struct{ device }

var (
	_ hardware.Vender   = (*Cashless)(nil)
	_ hardware.Refunder = (*Cashless)(nil)
	_ hardware.Loader   = (*Cashless)(nil)
	_ hardware.Keypad   = (*Cashless)(nil)
	_ hardware.Vender   = (*Waferstar)(nil)
)

// NewCashless checks the configuration; it starts and opens nothing.
func NewCashless(cfg CashlessConfig, out func(hardware.Event)) (*Cashless, error) {
	cfg.Port = PortRaw
	c := &Cashless{}
	if err := c.init(cfg, out); err != nil {
		return nil, err
	}
	return c, nil
}

// Refunded ends the silence after VEND FAILURE. See hardware.Refunder.
func (c *Cashless) Refunded(v protocol.VendID) error { return c.box.Post(refunded{v}) }

// Limit lets money be loaded: REVALUE LIMIT AMOUNT. See hardware.Loader.
func (c *Cashless) Limit(most money.Amount) error {
	units, err := c.cfg.Scale.Units(most)
	if err != nil {
		return err
	}
	return c.box.Keep(limit{units})
}

// Load answers a request for it: REVALUE APPROVED or DENIED. See hardware.Loader.
func (c *Cashless) Load(bus protocol.BusKey, yes bool) error { return c.box.Post(load{bus, yes}) }

// Ask asks the buyer for digits: DATA ENTRY REQUEST. See hardware.Keypad.
func (c *Cashless) Ask(id uint32, length int, again bool, timeout time.Duration) error {
	return c.box.Post(prompt{id: id, length: length, again: again, by: c.cfg.Clock() + timeout})
}

// Unask takes that back: DATA ENTRY CANCEL.
func (c *Cashless) Unask(id uint32) error { return c.box.Post(unask{id}) }

// Waferstar is a Vender behind an RS232-MDB of Waferstar (sold as PC2MDB, and as Pi2MDB for the Raspberry
// Pi). The same device as Cashless, but the adapter answers RESET and POLL by itself and gives our answers
// to the controller when it POLLs: what it acknowledged is not told, so SeesAck is false and approvals end as
// maybe; a refund cannot be waited for, and no money loaded. It lives on when we do not. See waferDevice for what it speaks.
type Waferstar struct{ device }

// NewWaferstar checks the configuration; it starts and opens nothing.
func NewWaferstar(cfg CashlessConfig, out func(hardware.Event)) (*Waferstar, error) {
	cfg.Port = PortWaferstar
	c := &Waferstar{}
	if err := c.init(cfg, out); err != nil {
		return nil, err
	}
	return c, nil
}

// Begin opens a card-first session: BEGIN SESSION. See hardware.Vender.
func (c *device) Begin(funds money.Amount) error {
	units, err := c.cfg.Scale.Units(funds)
	if err != nil {
		return err
	}
	return c.box.Post(begin{units: units})
}

// Approve answers the open vend request: VEND APPROVED. See hardware.Vender.
func (c *device) Approve(v protocol.VendID, bus protocol.BusKey, o protocol.Outlet, a money.Amount, by time.Duration) error {
	units, err := c.cfg.Scale.Units(a)
	if err != nil {
		return err
	}
	if by <= 0 {
		by = hardware.DefaultApproveBy
	}
	return c.box.Post(approve{vend: v, bus: bus, outlet: o, units: units, by: c.cfg.Clock() + by})
}

// Deny answers it with VEND DENIED, or takes back an approval that is not on the wire yet.
func (c *device) Deny(bus protocol.BusKey) error { return takeBack(&c.box, deny{bus}) }

// End asks the controller to close a card-first session: SESSION CANCEL REQUEST.
func (c *device) End() error { return takeBack(&c.box, end{}) }

// Resume binds a result that comes before the controller resets us.
func (c *device) Resume(v protocol.VendID) error { return c.box.Keep(resume{v}) }

// SeesAck is true where we are the device at the bus.
func (c *device) SeesAck() bool { return c.cfg.Port.SeesAck() }

// HasEvidence is false: there is only the bus.
func (c *device) HasEvidence() bool { return false }
