package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"coinop/agent/journal"
	"coinop/agent/screen"
	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/escpos"
	"coinop/hardware/magstripe"
	"coinop/hardware/mdb"
	"coinop/hardware/outlet"
	"coinop/hardware/paper"
	"coinop/hardware/pcsc"
	"coinop/hardware/pn532"
	"coinop/hardware/thermo"
	"coinop/hardware/vivopay"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// Config is what Run is made for. Identity, Data, Cloud, Policy and Lanes are needed.
type Config struct {
	Identity          Identity
	Data              string // folder of the journal; made when missing, used by one agent at a time
	Cloud             string // host:port of the broker
	Policy            protocol.Policy
	Lanes             []LaneConfig
	Board             BoardConfig
	Thermometers      []thermo.Sensor
	ThermometersEvery time.Duration // they are read; 30 s
	// Watchdogs are kicked as long as the goroutine that decides has gone round within HangsAfter (10 s).
	Watchdogs  []WatchdogConfig
	HangsAfter time.Duration
	// ModeAfter is how long a way to pay must be away before a lane's mode goes by it; 4 s. A connection that is
	// made anew and a cable that is put back are no news to a buyer. What is back counts at once.
	Recovery  Recovery
	ModeAfter time.Duration
	Plan      Plan     // what stands behind the machines' item numbers; nil: nobody says
	ReceiptQR bool     // receipts end with a QR code of the sale's id
	Head      []string // of receipts: the seller's name, and below it the address
	Foot      []string // of receipts
	Storage   Storage
	After     code.Code    // what an Again of the process before said; "": nothing
	Software  string       // our version, for records and the cloud; "dev"
	Log       *slog.Logger // nil: nothing is logged
	// Telemetry is how often traces, metrics and log go to the cloud; 0: never.
	Telemetry time.Duration
	// Show puts a screen up; nil: a line in the log. It is called by the goroutine that decides and
	// must return at once.
	Show func(l protocol.Lane, on session.Screen, a money.Amount, reason string)
	// Screen is the loopback address at which programs of this box order and watch (package screen); "": none.
	Screen string
	// Ready is called once the journal is recovered and the drivers have started; nil: nobody.
	Ready func()

	telemetry *told // nil: none
}

// LaneConfig is one place to buy at: how it sells, and what stands there.
type LaneConfig struct {
	Lane      protocol.Lane
	Flow      protocol.Flow // SelectionFirst
	Bus       protocol.Bus
	Z7        time.Duration                 // MDB's maximum response time; 0: 30 s
	OwnsMotor bool                          // its outlets are ours: orders are taken, and a vend in doubt never counts
	Vending   func(Wiring) (Vending, error) // needed
	Language  string                        // of the machine's display, where it asks for one: two letters; "en"
	Name      string                        // of the vending side, in health; "vmc"
	Readers   []ReaderConfig                // the first card that is read at any of them pays; none: no cards here
	Printer   func(Wiring) (Printer, error) // nil: receipts are kept, and none is printed
	Copies    Copies                        // that are printed; the buyer's
	Form      paper.Form                    // of the printer's paper; 48 columns, code page 858
	Audit     func(Wiring) (Audit, error)   // nil: the machine's own books are not read
	Cash      func(Wiring) (Cash, error)    // nil: no cash is taken by us
	Scanner   func(Wiring) (Scanner, error) // nil: none; what it reads is refused by name
	// Terminal is in place of Readers: it reads cards and authorizes by itself. With Cash an order says which
	// of the two it is paid by. CloseEvery is how often its day is ended; 24 h. Less
	// than 0: it has none.
	Terminal   func(Wiring) (Terminal, error)
	CloseEvery time.Duration
	// AuditEvery is how often they are; 24 h.
	AuditEvery time.Duration
	// Ports are the ports of its devices by their names in status, as "reader 2": those at USB can be reset.
	Ports map[string]string
}

// Wiring is what a driver is connected to.
type Wiring struct {
	Clock    hardware.Clock
	BusEpoch uint64        // above all of earlier runs
	Device   string        // its name in Health; "": as the driver calls it
	Language string        // of a vending side's display; "en"
	Z7       time.Duration // MDB's maximum response time, told to the controller; 0: 30 s
	Out      func(hardware.Event)
}

// Vending is a vending side that Supervise can open.
type Vending interface {
	hardware.Vender
	Open(context.Context) (hardware.Driver, error)
}

// Printer is a receipt printer that Supervise can open.
type Printer interface {
	hardware.Printer
	Open(context.Context) (hardware.Driver, error)
}

// ESCPOS is a receipt printer at a tty, a USB printer device, or host:port.
func ESCPOS(path string) func(Wiring) (Printer, error) {
	return func(w Wiring) (Printer, error) {
		return escpos.New(escpos.Config{Path: path, Clock: w.Clock}, w.Out), nil
	}
}

// MDB is a vending machine with an MDB bus, at a tty, whose cashless device we are.
func MDB(port mdb.Port, path string, scale mdb.Scale) func(Wiring) (Vending, error) {
	return func(w Wiring) (Vending, error) {
		cfg := mdb.CashlessConfig{Config: mdb.Config{Path: path, Clock: w.Clock}, Scale: scale, BusEpoch: w.BusEpoch, Language: w.Language, Z7: w.Z7}
		switch port {
		case mdb.PortQibixx:
			return mdb.NewQibixx(cfg, w.Out)
		case mdb.PortWaferstar:
			return mdb.NewWaferstar(cfg, w.Out)
		case mdb.PortRaw:
		}
		return mdb.NewCashless(cfg, w.Out)
	}
}

// Outlets are relays that we switch ourselves.
func Outlets(c outlet.Config) func(Wiring) (Vending, error) {
	return func(w Wiring) (Vending, error) {
		c.BusEpoch, c.Clock = w.BusEpoch, w.Clock
		return outlet.New(c, w.Out)
	}
}

// ViVOpay is an ID TECH ViVOpay reader at a tty, or a HID device.
func ViVOpay(c vivopay.Config) func(Wiring) (Reader, error) {
	return func(w Wiring) (Reader, error) {
		c.Clock, c.Device = w.Clock, cmp.Or(w.Device, c.Device)
		return vivopay.New(c, w.Out)
	}
}

// Magstripe is a reader of magnetic stripes.
func Magstripe(c magstripe.Config) func(Wiring) (Reader, error) {
	return func(w Wiring) (Reader, error) {
		c.Clock, c.Device = w.Clock, cmp.Or(w.Device, c.Device)
		return magstripe.New(c, w.Out)
	}
}

// PN532 is a PN532 at a tty, or at an I2C bus, for closed-loop cards.
func PN532(path string, c money.Currency, keys hardware.LoopKeys) func(Wiring) (Reader, error) {
	return func(w Wiring) (Reader, error) {
		return pn532.New(pn532.Config{Device: w.Device, Path: path, Currency: c, Keys: keys, Clock: w.Clock}, w.Out)
	}
}

// PCSC is a reader behind pcscd, by its name or a part of it ("": there is one), for closed-loop cards.
func PCSC(name string, c money.Currency, keys hardware.LoopKeys) func(Wiring) (Reader, error) {
	return func(w Wiring) (Reader, error) {
		return pcsc.New(pcsc.Config{Device: w.Device, Name: name, Currency: c, Keys: keys, Clock: w.Clock}, w.Out)
	}
}

// Errors of Run that callers branch on.
var (
	// ErrInUse means that another agent works on the data folder. Retrying helps when that one ends.
	ErrInUse = errors.New("another agent uses it")
	// ErrData means that the data folder cannot be used as it is.
	ErrData = errors.New("cannot be used as data folder")
)

// Run is one device's life: it recovers, drives the hardware and sells until ctx ends, which is no
// error. It may be killed at any moment, and goes on from its journal.
//
// A disk that does not work ends the selling, not the Run: it stays up, says so, and tries again.
//
// Run owns every goroutine it starts and returns after the last has ended. One of them owns the
// Device and reads one bounded channel; see shell for what happens when that is full.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Software == "" {
		cfg.Software = "dev"
	}
	if cfg.Identity.Cloud == nil || cfg.Data == "" || len(cfg.Lanes) == 0 || !cfg.Policy.Currency.Known() {
		return errors.New("agent: incomplete configuration")
	}
	if cfg.Telemetry > 0 {
		if cfg.telemetry, err = newTelemetry(&cfg); err != nil {
			return err
		}
		defer cfg.telemetry.end()
	}
	cfg.Log = cfg.Log.With("device", string(cfg.Identity.Device))
	cfg.Storage = cfg.Storage.withDefaults()
	cfg.HangsAfter = cmp.Or(cfg.HangsAfter, hung)
	a := &agent{cfg: cfg, log: cfg.Log, show: cfg.Show, sale: map[protocol.Lane]protocol.SaleID{}, says: map[protocol.Lane]string{}, since: time.Now(), was: diskCode(cfg.After), retry: firstRetry}
	if a.show == nil {
		a.show = a.showInLog
	}
	if _, err := cfg.Identity.tls(cfg.Cloud); err != nil {
		return err
	}
	defer a.watched(ctx)()
	defer a.status.stop()
	stop, err := a.takeOrders(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for {
		open, err := a.live(ctx)
		c := ofStorage(err)
		if c == "" {
			return err
		}
		if ctx.Err() != nil { // stopped, and the disk works no more: nothing was promised that is not on it
			a.log.Warn("stopped on a disk that does not work", "code", string(c), "error", err)
			return nil
		}
		if open { // its sales have ended with it; no time must be lost
			a.retry = firstRetry
		}
		cause, ok := errors.AsType[*storageError](err)
		if !ok {
			cause = &storageError{c, err}
		}
		if err := a.wait(ctx, cause, open); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// agent is what outlives a journal that cannot be used.
type agent struct {
	cfg     Config
	log     *slog.Logger
	show    func(protocol.Lane, session.Screen, money.Amount, string)
	since   time.Time
	was     code.Code     // of storage, before this life; "": nothing was wrong
	retry   time.Duration // until the journal is opened again
	status  statusServer
	screen  *screen.Server                    // nil: no orders over HTTP
	door    door                              // where it is
	sale    map[protocol.Lane]protocol.SaleID // that a lane's screen is about
	says    map[protocol.Lane]string          // what a lane's terminal shows, while that is told
	lives   atomic.Pointer[living]            // nil: there is no shell
	alive   atomic.Int64                      // span since since, until which the goroutine that decides need say nothing
	dogs    sync.WaitGroup                    // who kicks
	unclean string                            // how the run before ended, when it did not say so and no journal has heard of it yet
	box     []DeviceStatus                    // of what outlives a shell
}

// live is one life of the journal: from its opening to an error or the end of ctx. open: it had begun
// to sell.
func (a *agent) live(ctx context.Context) (open bool, err error) {
	cfg := a.cfg
	a.beat(openingMost)
	s := newShell(a)
	unlock, err := lock(cfg.Data)
	if err == nil {
		defer unlock()
	} else if ofStorage(err) == "" {
		return false, err
	}
	if err == nil && a.status.l == nil && cfg.After == "" {
		a.unclean = unclean(cfg.Data)
	}
	if err := a.status.serve(cfg.Data, cfg.Log); err != nil {
		a.log.Warn("status is not served", "error", err)
	}
	if err != nil {
		return false, err
	}
	s.journal, err = journal.OpenBadger(filepath.Join(cfg.Data, journalName), journal.Options{
		Device: cfg.Identity.Device, NewEpoch: newID[protocol.Epoch], CertSerial: cfg.Identity.Signer.KeyID,
		Software: cfg.Software, Now: s.now(),
		KeepRecords: cfg.Storage.KeepRecords, KeepFor: cfg.Storage.KeepFor, Ballast: cfg.Storage.Ballast,
	})
	if err != nil {
		return false, onDisk(fmt.Errorf("data folder %s: %w", cfg.Data, err))
	}
	err = s.run(ctx)
	if s.journal.Health() == nil && ofStorage(err) == "" {
		return true, errors.Join(err, s.journal.Close())
	}
	return true, err // as it is: see Journal.Close
}

// newID is a random UUIDv7 of any kind.
func newID[T ~[16]byte]() T {
	var r [10]byte
	_, _ = rand.Read(r[:]) // never fails
	return T(protocol.NewID[struct{}](protocol.At(time.Now()), r))
}
