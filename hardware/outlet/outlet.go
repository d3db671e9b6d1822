// Package outlet is outlets that we drive ourselves: a relay each, which gives a washer, a ride or a
// massage chair its coin pulses, or holds a valve or a motor on for a while. An input can be a button that
// orders the outlet, and another can say that it started. Two more can be the machine's door and tamper loop.
//
//	b, err := outlet.New(outlet.Config{Path: "/dev/serial/by-id/usb-...", Currency: money.EUR,
//		Outlets: []outlet.Outlet{{Number: 1, Price: money.New(300, money.EUR), Relay: 1, Pulses: 6, Feedback: 1, Button: 5}}}, out)
//	go hardware.Supervise(ctx, "outlets", b.Open, out)
//	...
//	b.Approve(vend, protocol.BusKey{}, 1, price, 5*time.Second) // or in answer to a button's VendRequest
//
// The relays are a Modbus RTU board's, at a serial port, or pins of this computer (GPIO). It promises:
//
//   - A relay is told for how long it is to be on in the moment it is told to go on, and never longer than
//     its MaxOn. The board itself ends that time, so it ends when this process is killed; of pins see GPIO.
//   - All our relays are off at every opening, which is read back, at the end of one, and after any error.
//   - A pulse is never repeated in doubt. A vend whose pulses are in doubt ends with the opening, without a
//     result: unknown, and as the motor is ours it does not count (see session.Config.OwnsMotor).
//   - A vend is a success when all its pulses are out, and, where there is a feedback input, that has become
//     active; without feedback its grade is "reported", with it "sensed". Feedback that stays away is a
//     failure; feedback that is active before the first pulse (in use, or stuck) holds that up, to the time in which it must begin.
//   - Resume does nothing: nothing here remembers a vend over a restart, and nothing is pulsed again.
//
// A board with inputs can be set to switch its relays by them; ours must be in its normal mode, 0.
package outlet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Config is one board, or one computer's pins. The zero value of a field is its default.
type Config struct {
	Device    string               // its name in Health; "outlets"
	Path      string               // the tty of a board; this or Pins
	Baud      int                  // 9,600
	Address   byte                 // of the board; 1
	Pins      func() (Pins, error) // opens pins in place of a board
	Currency  money.Currency       // required
	InputsLow bool                 // an input is active when it reads 0
	Outlets   []Outlet             // required
	Door      int                  // input that is active while the service door is open; 0: none
	Tamper    int                  // input of a loop that is closed, and so active, until it is opened or cut; 0: none
	BusEpoch  uint64               // the last one of an earlier run; the first opening's is one more
	Clock     hardware.Clock       // starts at New
}

// Outlet is one. Relays and inputs are numbered from 1, as they are printed on boards.
type Outlet struct {
	Number   protocol.Outlet
	Price    money.Amount
	Relay    int
	Pulses   int           // of one vend; 1
	On       time.Duration // of a pulse, or how long the relay is held; 100 ms
	Off      time.Duration // between pulses; 300 ms
	MaxOn    time.Duration // no On is longer; 10 s
	Feedback int           // input that becomes active when it started or gave something out; 0: none
	Window   time.Duration // after the last pulse, in which it does; 5 s
	Button   int           // input that orders it; 0: none
	Always   bool          // it is ordered without a button whenever nothing else is
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.Device == "" {
		c.Device = "outlets"
	}
	if c.Baud == 0 {
		c.Baud = 9600
	}
	if c.Address == 0 {
		c.Address = 1
	}
	if c.Clock == nil {
		c.Clock = hardware.Since()
	}
	c.Outlets = append([]Outlet(nil), c.Outlets...)
	for i := range c.Outlets {
		o := &c.Outlets[i]
		o.Pulses = max(o.Pulses, 1)
		def(&o.On, flashUnit)
		def(&o.Off, 300*time.Millisecond)
		def(&o.MaxOn, 10*time.Second)
		def(&o.Window, 5*time.Second)
	}
	return c
}

// unit is what on-times are counted in.
func (c Config) unit() time.Duration {
	if c.Pins != nil {
		return pinUnit
	}
	return flashUnit
}

// Takes is the longest a vend takes from its first pulse to its result.
func (o Outlet) Takes() time.Duration {
	d := time.Duration(o.Pulses)*(o.On+o.Off) - o.Off
	if o.Feedback != 0 {
		d += o.Window
	}
	return d
}

func (c Config) check() error {
	if len(c.Outlets) == 0 || !c.Currency.Known() || (c.Path == "") == (c.Pins == nil) {
		return errors.New("want outlets, a currency, and a port or pins")
	}
	if c.Door < 0 || c.Door > maxBits || c.Tamper < 0 || c.Tamper > maxBits || c.Door > 0 && c.Door == c.Tamper {
		return fmt.Errorf("door %d, tamper loop %d: no such inputs", c.Door, c.Tamper)
	}
	numbers, relays := map[protocol.Outlet]bool{}, map[int]bool{}
	for _, o := range c.Outlets {
		what := ""
		switch {
		case numbers[o.Number] || o.Number == protocol.OutletAny:
			what = "its number is another's"
		case o.Relay < 1 || o.Relay > maxBits || relays[o.Relay]:
			what = fmt.Sprintf("relay %d is none, or another's", o.Relay)
		case o.Feedback < 0 || o.Feedback > maxBits || o.Button < 0 || o.Button > maxBits:
			what = "it has no such input"
		case o.Price.Currency != c.Currency || o.Price.Minor <= 0:
			what = "it has no price"
		case o.On > o.MaxOn:
			what = fmt.Sprintf("it would be on for %v, the most is %v", o.On, o.MaxOn)
		case o.On < time.Millisecond || o.Off < time.Millisecond || o.Window < 0 || o.Pulses > 1000:
			what = "its pulses are none"
		case o.On%c.unit() != 0 || o.On > flashMost*c.unit():
			what = fmt.Sprintf("%v is no number of %v", o.On, c.unit())
		case o.Always && len(c.Outlets) > 1:
			what = "it is not the only one: a button must say which is meant"
		}
		if what != "" {
			return fmt.Errorf("outlet %d: %s", o.Number, what)
		}
		numbers[o.Number], relays[o.Relay] = true, true
	}
	return nil
}

// Board is a Vender.
type Board struct {
	hardware.Driven
	cfg   Config
	state State
	box   hardware.Mailbox
	no    atomic.Uint64 // State.refuses
}

var _ hardware.Vender = (*Board)(nil)

// New checks the configuration; it starts and opens nothing. out gets every event, from the goroutine
// of Run; give Supervise the same.
func New(cfg Config, out func(hardware.Event)) (*Board, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Device, err)
	}
	b := &Board{cfg: cfg, state: NewState(cfg)}
	b.Driven = hardware.Drive(b.open, cfg.Clock, b.step, &b.box, out)
	return b, nil
}

// open opens the board, or the pins.
func (b *Board) open(context.Context) (hardware.Port, error) {
	var p hardware.Port
	var err error
	if b.cfg.Pins != nil {
		p, err = openLocal(b.cfg)
	} else {
		p, err = hardware.OpenTTY(b.cfg.Path, b.cfg.Baud)
	}
	if err != nil {
		return nil, err
	}
	return &offAtEnd{Port: p, off: b.state.off().Append(nil)}, nil
}

// offAtEnd switches all off before it closes, however the opening ends.
type offAtEnd struct {
	hardware.Port
	off []byte
}

func (p *offAtEnd) Close() error {
	time.Sleep(lineGap) // after what may be on the wire
	_ = p.SetWriteDeadline(time.Now().Add(answerTime))
	_, err := p.Write(p.off)
	return errors.Join(err, p.Port.Close())
}

func (b *Board) step(now time.Duration, in any) (o hardware.Output) {
	b.state, o = b.state.Step(now, in)
	b.no.Store(b.state.refuses())
	return o
}

// Refuses names why an outlet could not begin now, or is "": an order for it would only be voided.
func (b *Board) Refuses(number protocol.Outlet) string {
	no, i := b.no.Load(), slices.IndexFunc(b.cfg.Outlets, func(o Outlet) bool { return o.Number == number })
	switch {
	case i < 0:
		return ""
	case no&(1<<(i+maxBits)) != 0:
		return RefusesOutOfOrder
	case no&(1<<i) != 0:
		return RefusesInUse
	}
	return ""
}

// Commands of the machine.
type (
	approve struct {
		vend   protocol.VendID
		bus    protocol.BusKey
		outlet protocol.Outlet
		by     time.Duration // by the clock
	}
	withdraw struct{ vend protocol.VendID }
	deny     struct{ bus protocol.BusKey }
	begin    struct{}
)

// Begin is of a bus with sessions, which this is not: it is answered with SessionComplete at once.
func (b *Board) Begin(money.Amount) error { return b.box.Post(begin{}) }

// Approve lets an outlet begin. bus is the button's request it answers; zero is an order from elsewhere.
// See hardware.Vender.
func (b *Board) Approve(v protocol.VendID, bus protocol.BusKey, o protocol.Outlet, a money.Amount, by time.Duration) error {
	if a.Currency != b.cfg.Currency || a.Minor < 0 || a.Minor > math.MaxUint32 {
		return hardware.ErrInexact
	}
	if by <= 0 {
		by = hardware.DefaultApproveBy
	}
	return b.box.Post(approve{vend: v, bus: bus, outlet: o, by: b.cfg.Clock() + by})
}

// Deny ends a button's request, or takes back an approval whose first pulse is not on the wire.
func (b *Board) Deny(bus protocol.BusKey) error {
	return b.box.Edit(false, func(queue []any) []any {
		for i, waits := range queue {
			if a, ok := waits.(approve); ok {
				queue[i] = withdraw{a.vend}
			}
		}
		return append(queue, deny{bus})
	})
}

// End does nothing: there are no sessions.
func (b *Board) End() error { return nil }

// Resume does nothing: what became of a vend that a restart cut, nobody here knows.
func (b *Board) Resume(protocol.VendID) error { return nil }

// SeesAck is true: the board answers what it did.
func (b *Board) SeesAck() bool { return true }

// HasEvidence is false: what feedback says is in the result.
func (b *Board) HasEvidence() bool { return false }
