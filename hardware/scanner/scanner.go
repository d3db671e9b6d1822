// Package scanner is readers of barcodes and QR codes: at a serial line, or keyboards to the computer.
//
//	s, err := scanner.New(scanner.Config{Path: "/dev/serial/by-id/…", Trigger: scanner.Honeywell}, out)
//	go hardware.Supervise(ctx, "scanner", s.Open, out)
//	s.Scan()                       // then hardware.CodeRead for each code, until Stop
//
// What it promises:
//
//   - A code is given once: the same one again within Same is the scanner seeing it still, and is dropped;
//     later, within Life, it is a CodeRefused (hardware.CodeStale), also over unplugging.
//   - What is remembered of a code is an HMAC of it under a key that this process alone has.
//   - No code of more than 512 characters, with control characters, or of half a reading is given.
//   - A code that nobody asked for is dropped.
package scanner

import (
	"context"
	"crypto/rand"
	"time"

	"coinop/hardware"
	"coinop/hardware/keyboard"
)

// Trigger is how a scanner is told to look; one without looks by itself.
type Trigger uint8

// Triggers.
const (
	NoTrigger Trigger = iota
	Honeywell
	Newland
	GM65 // modules of this family; believed
)

// Config is one scanner. The zero value of a field is its default.
type Config struct {
	Device   string // its name in Health; "scanner"
	Path     string // required
	Keyboard bool   // it types: Path is an event device
	Baud     int    // at a serial line; 9,600
	Trigger  Trigger
	Gap      time.Duration // that ends a code without a suffix; 50 ms, 100 ms of a keyboard
	Same     time.Duration // the same code again within it is seen still; 2.5 s
	Life     time.Duration // of a code; 10 min
	Key      []byte        // of what is remembered; drawn at New
	Clock    hardware.Clock
}

func (c Config) withDefaults() Config {
	if c.Device == "" {
		c.Device = "scanner"
	}
	if c.Baud == 0 {
		c.Baud = 9600
	}
	if c.Gap == 0 {
		if c.Gap = gapTime; c.Keyboard {
			c.Gap = 2 * gapTime
		}
	}
	if c.Same == 0 {
		c.Same = sameTime
	}
	if c.Life == 0 {
		c.Life = lifeTime
	}
	if c.Clock == nil {
		c.Clock = hardware.Since()
	}
	return c
}

// Scanner is a hardware.Scanner.
type Scanner struct {
	hardware.Driven
	cfg   Config
	state State
	box   hardware.Mailbox
}

var _ hardware.Scanner = (*Scanner)(nil)

// New starts and opens nothing.
func New(cfg Config, out func(hardware.Event)) *Scanner {
	cfg = cfg.withDefaults()
	if cfg.Key == nil {
		cfg.Key = make([]byte, 32)
		_, _ = rand.Read(cfg.Key) // never fails
	}
	s := &Scanner{cfg: cfg, state: NewState(cfg)}
	s.Driven = hardware.Drive(s.open, cfg.Clock, hardware.Stepping(&s.state), &s.box, out)
	return s
}

func (s *Scanner) open(context.Context) (hardware.Port, error) {
	if s.cfg.Keyboard {
		return keyboard.Open(s.cfg.Path)
	}
	return hardware.OpenTTY(s.cfg.Path, s.cfg.Baud)
}

type (
	scan struct{}
	stop struct{}
)

// Scan gives codes from now on.
func (s *Scanner) Scan() error { return s.box.Post(scan{}) }

// Stop gives none any more.
func (s *Scanner) Stop() error { return s.box.Post(stop{}) }
