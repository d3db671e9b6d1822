package virtual

import (
	"context"
	"encoding/hex"
	"strings"
)

// StripeKind is what a stripe reader says, and over what.
type StripeKind uint8

// Kinds of stripe readers.
const (
	StripeKeyboard StripeKind = iota // it types
	StripeSerial
	StripeMagTek // HID reports, encrypted
	StripeIDTECH // frames, encrypted
)

// StripeConfig is one stripe reader.
type StripeConfig struct {
	Link string // symlink to the pty; none
	Kind StripeKind
}

// StripeFault is what a reader does wrong with the next swipe.
type StripeFault uint8

// Faults of a stripe reader; each works once.
const (
	StripeOK       StripeFault = iota
	StripeUnread               // it could not read track 2, and says so
	StripeTornOff              // what it says ends in the middle
	StripeNoEnter              // the end that its kind has (Enter, the last byte) does not come
	StripeGarbage              // what it says is nothing that such a reader says
	StripeLostKey              // the kernel dropped a key
	StripeTwice                // the card went through twice
	StripeBadCheck             // its check sum is wrong
)

// Stripe is a stripe reader. What it reads is a track 2 without sentinels, as "4761…=3012…": those that
// encrypt say it masked, and ciphertext of a key that nobody here has.
type Stripe struct {
	cfg   StripeConfig
	port  *port
	fault StripeFault
	count byte
}

// NewStripe opens the pty; it starts nothing.
func NewStripe(cfg StripeConfig) (*Stripe, error) {
	p, err := newPort(cfg.Link)
	return &Stripe{cfg: cfg, port: p}, err
}

// Path is what the agent opens: the link where there is one.
func (s *Stripe) Path() string { return s.port.name() }

// Run is the reader's life; it ends with ctx, unplugged. It hears nothing.
func (s *Stripe) Run(ctx context.Context) error { return s.port.read(ctx, func([]byte) {}) }

// Unplug and Replug are its cable's.
func (s *Stripe) Unplug()       { s.port.unplug() }
func (s *Stripe) Replug() error { return s.port.replug() }

// Line sets what becomes of what it says.
func (s *Stripe) Line(f LineFault) { s.port.misbehave(f) }

// Misbehave sets what it does wrong next. It and Swipe are called from one goroutine.
func (s *Stripe) Misbehave(f StripeFault) { s.fault = f }

// Swipe reads a card with that track 2, and says it.
func (s *Stripe) Swipe(track2 string) error {
	f := s.fault
	s.fault = StripeOK
	s.count++
	var b []byte
	switch s.cfg.Kind {
	case StripeKeyboard:
		b = s.wedge(f, track2, typed)
	case StripeSerial:
		b = s.wedge(f, track2, func(text string) []byte { return []byte(text) })
	case StripeMagTek:
		b = s.magtek(f, track2)
	case StripeIDTECH:
		b = s.idtech(f, track2)
	}
	switch f {
	case StripeTornOff:
		if b = b[:len(b)/2]; s.cfg.Kind == StripeKeyboard {
			b = b[:len(b)/24*24] // the kernel says whole events
		}
	case StripeGarbage:
		b = []byte("\x55\xAA nothing of the kind \x00\xFF")
		if s.cfg.Kind == StripeKeyboard {
			b = typed("nothing of the kind\r")
		}
	case StripeTwice:
		b = append(b, b...)
	case StripeNoEnter:
		if s.cfg.Kind == StripeIDTECH {
			b = b[:len(b)-1]
		}
	default:
	}
	return s.port.write(b)
}

func (s *Stripe) wedge(f StripeFault, track2 string, say func(string) []byte) []byte {
	text := ";" + track2 + "?"
	if f == StripeUnread {
		text = "%E?;E?"
	}
	switch f {
	case StripeNoEnter:
		return say(text)
	case StripeLostKey:
		b := say(text[:8])
		if s.cfg.Kind == StripeKeyboard {
			b = event(event(b, 0, 3, 0), 0, 0, 0)
		} else {
			b = append(b, 0xFF)
		}
		return append(b, say(text[8:]+"\r")...)
	}
	return say(text + "\r")
}

// mask is what is shown of a track: with zeros or with stars, and its service code with zeros.
func mask(track2, with string, rest int) string {
	n := strings.IndexByte(track2, '=')
	out := track2[:6] + strings.Repeat(with, n-10) + track2[n-4:n] + "=" + track2[n+1:n+1+rest]
	return out + strings.Repeat(with, len(track2)-len(out))
}

// cipher is bytes that look like it: as many as a track makes in blocks of eight.
func (s *Stripe) cipher(track2 string) []byte {
	out := make([]byte, (len(track2)+2+7)/8*8)
	for i := range out {
		out[i] = byte(i)*37 ^ s.count //nolint:gosec // any byte
	}
	return out
}

func (s *Stripe) ksn() []byte {
	k, _ := hex.DecodeString("FFFF9876543210E00000")
	k[9] = s.count
	return k
}

// magtek is a report of 887 bytes.
func (s *Stripe) magtek(f StripeFault, track2 string) []byte {
	b := make([]byte, 887)
	put := func(at int, v []byte) { copy(b[at:], v) }
	b[0], b[2] = 1, 1 // there are no tracks 1 and 3
	if f == StripeUnread {
		b[1] = 1
	} else {
		c, m := s.cipher(track2), ";"+mask(track2, "0", 4)+"?"
		b[4], b[506] = byte(len(c)), byte(len(m)) //nolint:gosec // a track
		put(119, c)
		put(620, []byte(m))
	}
	put(477, []byte("B0A5C3D"))
	b[494] = 6
	put(495, s.ksn())
	if f == StripeBadCheck {
		b[4] = 0xFF // it has none: a length that cannot be
	}
	return b
}

// idtech is a frame in the enhanced format.
func (s *Stripe) idtech(f StripeFault, track2 string) []byte {
	data := []byte{0x80, 0x3F, 0, 0, 0, 0x00, 0x80}
	if f == StripeUnread {
		data[1] = 0x05
	} else {
		m := ";" + mask(track2, "*", 0) + "?"
		data[3], data[5], data[6] = byte(len(m)), 0x02, 0x92 //nolint:gosec // a track
		data = append(data, m...)
		data = append(data, s.cipher(track2)...)
		data = append(data, make([]byte, 20)...)
	}
	data = append(data, s.ksn()...)
	var x, sum byte
	for _, c := range data {
		x ^= c
		sum += c
	}
	if f == StripeBadCheck {
		sum++
	}
	out := append([]byte{2, byte(len(data)), byte(len(data) >> 8)}, data...) //nolint:gosec // two bytes
	return append(out, x, sum, 3)
}
