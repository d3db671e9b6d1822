// Package terminal drives payment terminals that authorize by themselves, over ZVT (PA00P015 rev 13,
// PA00P016), the protocol of cash registers and terminals in German-speaking countries, on TCP. It is
// a hardware.Terminal.
//
//	t, err := terminal.New(terminal.Config{Address: "192.168.1.40:20007", Currency: money.EUR}, out)
//	go hardware.Supervise(ctx, "terminal", t.Open, out)
//	...
//	t.Authorize(payment, price) // answered by a TerminalAnswered
//
// After each connect it registers, asks how the terminal is, mends what the terminal says it needs,
// and reads the last transaction in its books; then it says TerminalReady. What it sent and got no
// answer to it never sends again: the answer is then Unknown (or Lost), and the caller asks for Last.
package terminal

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// device is its name in Health.
const device = "terminal"

// Codes of the way to a terminal.
const (
	CodeName     = "terminal.name"      // nobody knows the name
	CodeRefused  = "terminal.refused"   // nothing listens at its port
	CodeNoAnswer = "terminal.no_answer" // no way to it, or nobody is there
)

// Unreachable is why a terminal cannot be reached.
func Unreachable(err error) hardware.Named {
	return hardware.Unreachable(err, CodeName, CodeRefused, CodeNoAnswer)
}

// DefaultPort is the terminal's (PA00P016 2.2).
const DefaultPort = "20007"

// Config is one terminal. The zero value of a field is its default.
type Config struct {
	Address  string         // host:port; required
	Password string         // six digits; "000000"
	Currency money.Currency // required
	// Hold: a payment is a reservation, ended by what was used of it; not every contract and terminal
	// has that. Else it is a purchase: all of it stands, or is reversed.
	Hold  bool
	Lines bool // the terminal composes the receipt; else its facts are printed
	// Finish is how long a command may take after the terminal took it (T4), unless it says otherwise;
	// 180 s.
	Finish time.Duration
	Clock  hardware.Clock // starts at New
}

// ZVT is one terminal.
type ZVT struct {
	hardware.Driven
	cfg   Config
	state State
	box   hardware.Mailbox
}

var _ hardware.Terminal = (*ZVT)(nil)

// New checks the configuration; it starts and opens nothing.
func New(cfg Config, out func(hardware.Event)) (*ZVT, error) {
	if _, _, err := net.SplitHostPort(cfg.Address); err != nil {
		return nil, fmt.Errorf("terminal: address %q: give host:port, usually port %s: %w", cfg.Address, DefaultPort, err)
	}
	set := setting{currency: cfg.Currency, hold: cfg.Hold, lines: cfg.Lines, finish: cfg.Finish}
	if set.finish == 0 {
		set.finish = finishTime
	}
	if cfg.Password == "" {
		cfg.Password = "000000"
	}
	pw, err := hex.DecodeString(cfg.Password)
	if _, ok := number(pw); err != nil || len(pw) != 3 || !ok {
		return nil, errors.New("terminal: the password has six digits")
	}
	copy(set.password[:], pw)
	if !cfg.Currency.Known() {
		return nil, errors.New("terminal: a currency is needed")
	}
	copy(set.number[:], bcd(int64(cfg.Currency), 2))
	if cfg.Clock == nil {
		cfg.Clock = hardware.Since()
	}
	z := &ZVT{cfg: cfg, state: newState(set)}
	z.Driven = hardware.Drive(z.connect, cfg.Clock, hardware.Stepping(&z.state), &z.box, out)
	return z, nil
}

// dialTime is how long a connection may take.
const dialTime = 5 * time.Second

func (z *ZVT) connect(ctx context.Context) (hardware.Port, error) {
	d := net.Dialer{Timeout: dialTime, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	c, err := d.DialContext(ctx, "tcp", z.cfg.Address)
	if err != nil {
		return nil, Unreachable(err) // it names the address
	}
	return c, nil
}

// Authorize is 06 01, or 06 22 with Hold.
func (z *ZVT) Authorize(p protocol.PaymentID, a money.Amount) error {
	if err := z.exact(a); err != nil {
		return err
	}
	return z.box.Post(job{do: toAuthorize, payment: p, amount: a})
}

// exact reports whether an amount can be said: BCD of twelve digits, in the terminal's currency.
func (z *ZVT) exact(a money.Amount) error {
	if a.Currency != z.cfg.Currency || a.Minor <= 0 || a.Minor > 999_999_999_999 {
		return hardware.ErrInexact
	}
	return nil
}

// Abort is 06 B0.
func (z *ZVT) Abort(p protocol.PaymentID) error {
	return z.box.Post(job{do: toAbort, payment: p})
}

// Capture is 06 24 with Hold. A purchase needs none, and none of less is possible: Refused.
func (z *ZVT) Capture(p protocol.PaymentID, ref protocol.TerminalRef, approved, a money.Amount) error {
	if err := z.exact(a); err != nil {
		return err
	}
	return z.box.Post(job{do: toCapture, payment: p, ref: ref, approved: approved, amount: a})
}

// Cancel is 06 30, or 06 25 with Hold.
func (z *ZVT) Cancel(p protocol.PaymentID, ref protocol.TerminalRef, approved money.Amount) error {
	return z.box.Post(job{do: toCancel, payment: p, ref: ref, approved: approved})
}

// Refund is 06 31.
func (z *ZVT) Refund(p protocol.PaymentID, a money.Amount) error {
	if err := z.exact(a); err != nil {
		return err
	}
	return z.box.Post(job{do: toRefund, payment: p, amount: a})
}

// Last is 06 20, and 06 23 FF FF before it with Hold.
func (z *ZVT) Last(p protocol.PaymentID, ref protocol.TerminalRef) error {
	return z.box.Post(job{do: toLast, payment: p, ref: ref})
}

// Close is 06 50; with Hold, what is still held is released before it.
func (z *ZVT) Close() error { return z.box.Post(job{do: toClose}) }
