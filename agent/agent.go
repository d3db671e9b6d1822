package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/escpos"
	"coinop/hardware/mdb"
	"coinop/hardware/vivopay"
	"coinop/protocol"
	"coinop/protocol/money"

	"golang.org/x/sys/unix"
)

// Config is what Run is made for. Identity, Data, Cloud, Policy and Lanes are needed.
type Config struct {
	Identity Identity
	Data     string // folder of the journal; made when missing, used by one agent at a time
	Cloud    string // host:port of the broker
	Policy   protocol.Policy
	Lanes    []LaneConfig
	Head     []string     // of receipts: the seller's name, and below it the address
	Foot     []string     // of receipts
	Software string       // our version, for records and the cloud; "dev"
	Log      *slog.Logger // nil: nothing is logged
	// Telemetry is how often traces, metrics and log go to the cloud; 0: never.
	Telemetry time.Duration
	// Show puts a screen up; nil: a line in the log. It is called by the goroutine that decides and
	// must return at once.
	Show func(l protocol.Lane, on session.Screen, a money.Amount, reason string)
	// Ready is called once the journal is recovered and the drivers have started; nil: nobody.
	Ready func()

	telemetry *told // nil: none
}

// LaneConfig is one place to buy at: how it sells, and what stands there.
type LaneConfig struct {
	Lane      protocol.Lane
	Flow      protocol.Flow // SelectionFirst
	Bus       protocol.Bus
	Z7        time.Duration // MDB's maximum response time; 0: 30 s
	OwnsMotor bool
	Vending   func(Wiring) (Vending, error) // needed
	Reader    func(Wiring) (Reader, error)  // nil: no cards here
	Printer   func(Wiring) (Printer, error) // nil: receipts are kept, and none is printed
	Columns   int                           // of the printer's paper; 48
}

// Wiring is what a driver is connected to.
type Wiring struct {
	Clock    hardware.Clock
	BusEpoch uint64 // above all of earlier runs
	Out      func(hardware.Event)
}

// Vending is a vending side that Supervise can open.
type Vending interface {
	hardware.Vender
	Open(context.Context) (hardware.Driver, error)
}

// Reader is a card reader that Supervise can open.
type Reader interface {
	hardware.CardReader
	Open(context.Context) (hardware.Driver, error)
}

// Printer is a receipt printer that Supervise can open.
type Printer interface {
	hardware.Printer
	Open(context.Context) (hardware.Driver, error)
}

// ESCPOS is a receipt printer at a tty, or at a USB printer device.
func ESCPOS(path string) func(Wiring) (Printer, error) {
	return func(w Wiring) (Printer, error) {
		return escpos.New(escpos.Config{Path: path, Clock: w.Clock}, w.Out), nil
	}
}

// Qibixx is a vending machine behind a Qibixx adapter at a tty.
func Qibixx(path string, scale mdb.Scale) func(Wiring) (Vending, error) {
	return func(w Wiring) (Vending, error) {
		return mdb.NewQibixx(mdb.Config{Path: path, Scale: scale, BusEpoch: w.BusEpoch, Clock: w.Clock}, w.Out)
	}
}

// ViVOpay is an ID TECH ViVOpay reader at a tty.
func ViVOpay(path string, c money.Currency) func(Wiring) (Reader, error) {
	return func(w Wiring) (Reader, error) {
		return vivopay.New(vivopay.Config{Path: path, Currency: c, Clock: w.Clock}, w.Out)
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
// error. An error means that it must be started anew; it then goes on from its journal. It may be
// killed at any moment.
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
	s, err := newShell(cfg)
	if err != nil {
		return err
	}
	unlock, err := lock(cfg.Data)
	if err != nil {
		return err
	}
	defer unlock()
	if err := room(cfg.Data); err != nil {
		return err
	}
	s.journal, err = journal.OpenBadger(filepath.Join(cfg.Data, "journal"), journal.Options{
		Device: cfg.Identity.Device, NewEpoch: newID[protocol.Epoch], CertSerial: cfg.Identity.Signer.KeyID,
		Software: cfg.Software, Now: s.now(),
	})
	if err != nil {
		return fmt.Errorf("data folder %s: %w; check that the disk has room and is not read-only, and that the folder is of device %s",
			cfg.Data, err, cfg.Identity.Device)
	}
	defer func() { err = errors.Join(err, s.journal.Close()) }()
	return s.run(ctx)
}

// newID is a random UUIDv7 of any kind.
func newID[T ~[16]byte]() T {
	var r [10]byte
	_, _ = rand.Read(r[:]) // never fails
	return T(protocol.NewID[struct{}](protocol.At(time.Now()), r))
}

// lock makes the data folder ours. The kernel gives a flock back when we die, however that happens.
func lock(dir string) (unlock func(), err error) {
	bad := func(err error) error {
		return fmt.Errorf("%s %w: %w; check that it is a folder that the user the agent runs as may write to", dir, ErrData, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, bad(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, bad(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		who := make([]byte, 16)
		n, _ := f.ReadAt(who, 0)
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data folder %s: %w (process %s); stop that one first, or give this agent a folder of its own",
				dir, ErrInUse, strings.TrimSpace(string(who[:n])))
		}
		return nil, bad(err)
	}
	if err = f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil { // a disk without a byte to spare is no place for a journal
		return nil, errors.Join(bad(err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// roomNeeded is what the journal's files take at once when it is opened; on a disk without it the
// process would die of SIGBUS, because they are mapped.
const roomNeeded = 16 << 20

func room(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s %w: %w", dir, ErrData, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < roomNeeded { //nolint:gosec // not negative
		return fmt.Errorf("%s %w: its disk has %d KiB free, %d are needed; make room on it", dir, ErrData, free>>10, roomNeeded>>10)
	}
	return nil
}
