// Package magstripe is readers of magnetic stripes: heads that are keyboards, at a serial line, or that
// encrypt.
//
//	r, err := magstripe.New(magstripe.Config{Path: "/dev/input/by-id/…-event-kbd", Currency: money.EUR,
//		Rules: magstripe.Rules{Own: []magstripe.Range{{From: "600000", To: "600099"}}}}, out)
//	go hardware.Supervise(ctx, "reader", r.Open, out)
//	r.Activate(price, 30*time.Second)     // then hardware.CardRead or hardware.CardFailed
//
// What it promises:
//
//   - A swipe that nobody waits for is wiped unread.
//   - A track in clear of a bank's card is refused by name (hardware.ReasonBankCard) unless the
//     configuration takes it; what a head encrypted passes through as it is, with its KSN.
//   - A card of the operator's own becomes a card reference; its number goes nowhere.
//   - What comes of half a swipe is never half a card.
//
// Sources: ISO/IEC 7811-6 (characters, parity, LRC), ISO/IEC 7813 (tracks 1 and 2, service code), MagTek
// 99875475 (HID report), ID TECH's enhanced encrypted format.
package magstripe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"coinop/hardware"
	"coinop/hardware/keyboard"
	"coinop/protocol/money"
)

// Head is what a head says, and over what.
type Head uint8

// Heads.
const (
	HeadKeyboard Head = iota // it types the tracks: an event device
	HeadSerial               // it says them over a serial line
	HeadMagTek               // HID reports of MagTek's: /dev/hidraw0
	HeadIDTECH               // ID TECH's enhanced format, at a serial line or as HID reports
)

func (h Head) lines() bool { return h == HeadKeyboard || h == HeadSerial }

func (h Head) swipe(b []byte) (Swipe, error) {
	switch h {
	case HeadMagTek:
		return FromMagTek(b)
	case HeadIDTECH:
		return FromIDTECH(b)
	case HeadKeyboard, HeadSerial:
	}
	s := Swipe{Tracks: FromText(b)}
	if !s.Tracks.Any() {
		return s, errFrame
	}
	if slices.Contains(b, keyboard.Lost) { // somewhere in it a key is missing: the tracks may look whole
		s.Tracks.Wipe()
		s.Tracks = Tracks{Bad: [3]bool{true, true, true}}
	}
	return s, nil
}

func (h Head) scheme() string {
	if h == HeadMagTek {
		return "magtek"
	}
	return "idtech-msr"
}

// Config is one head. The zero value of a field is its default.
type Config struct {
	Device   string // its name in Health; "reader"
	Path     string // required
	Head     Head
	Baud     int            // at a serial line; 9,600
	Currency money.Currency // required
	Rules    Rules
	Gap      time.Duration    // that ends a swipe; 100 ms
	Wall     func() time.Time // the date, for expiry dates; time.Now
	Clock    hardware.Clock   // of At in events; starts at New
}

func (c Config) withDefaults() Config {
	if c.Device == "" {
		c.Device = "reader"
	}
	if c.Baud == 0 {
		c.Baud = 9600
	}
	if c.Gap == 0 {
		c.Gap = gapTime
	}
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.Clock == nil {
		c.Clock = hardware.Since()
	}
	return c
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
	cfg = cfg.withDefaults()
	if !cfg.Currency.Known() {
		return nil, fmt.Errorf("magstripe %s: unknown currency %d", cfg.Device, cfg.Currency)
	}
	for _, r := range cfg.Rules.Own {
		if r.From == "" || len(r.From) != len(r.To) || r.From > r.To || strings.Trim(r.From+r.To, "0123456789") != "" {
			return nil, fmt.Errorf("magstripe %s: %s to %s is no range of card numbers", cfg.Device, r.From, r.To)
		}
	}
	r := &Reader{cfg: cfg, state: NewState(cfg)}
	r.Driven = hardware.Drive(r.open, cfg.Clock, hardware.Stepping(&r.state), &r.box, out)
	return r, nil
}

func (r *Reader) open(context.Context) (hardware.Port, error) {
	switch r.cfg.Head {
	case HeadKeyboard:
		return keyboard.Open(r.cfg.Path)
	case HeadMagTek, HeadIDTECH:
		return openRaw(r.cfg.Path, r.cfg.Baud)
	case HeadSerial:
	}
	return hardware.OpenTTY(r.cfg.Path, r.cfg.Baud)
}

// openRaw opens a serial line, or a device of HID reports: /dev/hidraw0. Either is locked.
func openRaw(path string, baud int) (hardware.Port, error) {
	f, err := hardware.OpenNode(path)
	if err != nil {
		return nil, err
	}
	tty := false
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS) //nolint:gosec // a descriptor
			tty = err == nil
		})
	}
	if !tty {
		return f, nil
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return hardware.OpenTTY(path, baud)
}

type (
	activate struct{ timeout time.Duration }
	cancel   struct{}
	finish   struct{}
)

// Activate takes the next swipe. An activation that runs is replaced: only the last one is answered.
func (r *Reader) Activate(a money.Amount, timeout time.Duration) error {
	if a.Currency != r.cfg.Currency || a.Minor < 0 || a.Minor > 999_999_999_999 { // as a bank's message has it: n12
		return fmt.Errorf("%w: %s", hardware.ErrInexact, a)
	}
	return r.box.Post(activate{timeout})
}

// Cancel takes none any more.
func (r *Reader) Cancel() error { return r.box.Post(cancel{}) }

// Finish changes nothing at a head without lights.
func (r *Reader) Finish(hardware.Outcome) error { return r.box.Post(finish{}) }
