// Package pcsc is smart card readers behind pcscd, the service of PC/SC on Linux, for closed-loop cards,
// contactless and contact. It is never for bank cards: it selects no application and reads no number.
//
//	r, err := pcsc.New(pcsc.Config{Name: "ACR122U", Currency: money.EUR, Keys: keys}, out)
//	go hardware.Supervise(ctx, "reader", r.Open, out)
//	r.Activate(price, 30*time.Second)     // then hardware.CardRead with Card.Loop, or hardware.CardFailed
//
// It speaks pcscd's own protocol over its socket, in Go alone, and is told of cards and readers that come and
// go. A reader that is unplugged is Absent and comes back by itself; a service that ends is a port that is gone.
// With keys a MIFARE Classic is opened and its reference proven (hardware.LoopCard); without, a card is its
// chip's number, and a contact card its ATR.
//
// What it promises: a card is told once for each time it is presented, and CardRemoved when one that was told is gone.
package pcsc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"coinop/hardware"
	"coinop/protocol/money"
)

// Socket is where pcscd listens, when SocketVariable does not say otherwise.
const (
	Socket         = "/run/pcscd/pcscd.comm"
	SocketVariable = "PCSCLITE_CSOCK_NAME" // as pcsc-lite's own library has it
)

// Codes of Health beside hardware's own.
const (
	CodeService = "pcsc.service" // pcscd does not run, or has ended
	CodeDenied  = "pcsc.denied"  // it runs, and does not let us
	CodeReader  = "pcsc.reader"  // it runs, and does not know the reader
)

// Config is one reader. The zero value of a field is its default.
type Config struct {
	Device   string            // its name in Health; "reader"
	Socket   string            // of pcscd; what SocketVariable says, or Socket
	Name     string            // of the reader or a part of it, as pcscd tells it; "": there is one
	Currency money.Currency    // required
	Keys     hardware.LoopKeys // none: cards are their chip's number
	Clock    hardware.Clock    // of At in events; starts at New
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
	if cfg.Socket == "" {
		cfg.Socket = cmp.Or(os.Getenv(SocketVariable), Socket)
	}
	if cfg.Clock == nil {
		cfg.Clock = hardware.Since()
	}
	if !cfg.Currency.Known() {
		return nil, fmt.Errorf("pcsc %s: unknown currency %d", cfg.Device, cfg.Currency)
	}
	r := &Reader{cfg: cfg, state: NewState(cfg)}
	r.Driven = hardware.Drive(r.connect, cfg.Clock, hardware.Stepping(&r.state), &r.box, out)
	return r, nil
}

func (r *Reader) connect(ctx context.Context) (hardware.Port, error) {
	c, err := dial(ctx, r.cfg.Socket)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Open connects to pcscd for one Run; it is what Supervise calls.
func (r *Reader) Open(ctx context.Context) (hardware.Driver, error) {
	if _, err := r.Driven.Open(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	d := net.Dialer{Timeout: answerTime}
	c, err := d.DialContext(ctx, "unix", socket)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, hardware.Named{Code: CodeDenied, Err: err}
	case err != nil:
		return nil, hardware.Named{Code: CodeService, Err: fmt.Errorf("is pcscd installed and running? %w", err)}
	}
	return c, nil
}

// list asks pcscd at a socket for its readers. It connects no card and may be asked while others use them.
func list(ctx context.Context, socket string) (all []Slot, err error) {
	c, err := dial(ctx, cmp.Or(socket, os.Getenv(SocketVariable), Socket))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(answerTime))
	ask := func(q []byte, size int) []byte {
		b := make([]byte, size)
		if _, errWrite := c.Write(q); err == nil {
			err = errWrite
		}
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		return b
	}
	v := ask(request(cmdVersion, numbers(major, minor, 0)), 12)
	if err == nil {
		if number(v, 2) != resultOK {
			return nil, hardware.Named{Code: CodeService, Err: errVersion}
		}
		all, err = ParseSlots(ask(request(cmdWait, nil), statesSize))
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE): // it takes whom polkit allows
		return nil, hardware.Named{Code: CodeDenied, Err: errors.New("pcscd closed the connection")}
	case err != nil:
		return nil, hardware.Named{Code: CodeService, Err: fmt.Errorf("pcscd: %w", err)}
	}
	return all, nil
}

// Names are the readers that pcscd at a socket ("": as for Config) knows. An error is a hardware.Named.
func Names(ctx context.Context, socket string) (names []string, err error) {
	all, err := list(ctx, socket)
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names, err
}

// Look asks pcscd at a socket ("": as for Config) for a reader by its name, as Config has it, and gives the name in
// full. It connects no card and may be asked while others use the reader. An error is a hardware.Named.
func Look(ctx context.Context, socket, name string) (reader string, err error) {
	slots, err := list(ctx, socket)
	if err != nil {
		return "", err
	}
	slot, what := find(slots, name)
	if slot == nil {
		return "", hardware.Named{Code: CodeReader, Err: errors.New(what)}
	}
	return slot.Name, nil
}

// Run serves the connection until pcscd ends it or stays silent, or ctx ends. Only after Open.
func (r *Reader) Run(ctx context.Context) error {
	err := r.Driven.Run(ctx)
	if errors.Is(err, io.EOF) {
		err = hardware.Named{Code: CodeService, Err: errors.New("pcscd has ended")}
	}
	return err
}

type (
	activate struct{ timeout time.Duration }
	cancel   struct{}
)

// Activate looks for one card; one that is in already is taken, unless it was told before. The amount is not
// told to the reader. An activation that runs is replaced: only the last one is answered.
func (r *Reader) Activate(a money.Amount, timeout time.Duration) error {
	if a.Currency != r.cfg.Currency || a.Minor < 0 || a.Minor > 999_999_999_999 {
		return fmt.Errorf("%w: %s", hardware.ErrInexact, a)
	}
	return r.box.Post(activate{timeout})
}

// Cancel stops looking.
func (r *Reader) Cancel() error { return r.box.Post(cancel{}) }

// Finish does nothing: PC/SC has no word for lights.
func (r *Reader) Finish(hardware.Outcome) error { return nil }
