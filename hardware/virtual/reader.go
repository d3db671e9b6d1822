package virtual

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"coinop/protocol/card"
)

// ReaderConfig is one contactless reader. The zero value of a field is its default.
type ReaderConfig struct {
	Link   string // symlink to the pty; none
	HID    bool   // it speaks HID reports at a socket of that name in place of a pty
	Cipher bool   // it encrypts: neither tracks nor the card's number in clear
	Serial string // "630Z000001"
	Seed   uint64 // of the unpredictable numbers
}

// Tap is a card one can present. It prints masked.
type Tap struct {
	Track2 card.Track2
	PSN    byte
	AID    string // hex
	CID    byte   // 80 ARQC (0 is that), 40 TC; AAC is FaultDeclined
	Swipe  bool   // through the reader's own head for stripes
}

// NewTap is a card with that track 2, as ";number=YYMMsss...?".
func NewTap(track, aid string) (Tap, error) {
	t, err := card.ParseTrack2(track)
	return Tap{Track2: t, AID: aid, CID: 0x80, PSN: 1}, err
}

// Cards of the schemes' public test ranges.
func mustTap(track, aid string) Tap {
	t, err := NewTap(track, aid)
	if err != nil {
		panic(err)
	}
	return t
}

// VisaTest is Visa's test card 4761…0119, MastercardTest 5413…0011, MaestroTest 6759…8453.
func VisaTest() Tap { return mustTap("4761739001010119=30122011234567890", "A0000000031010") }

// MastercardTest is a card of Mastercard's test range.
func MastercardTest() Tap { return mustTap("5413330089020011=30122010123456789", "A0000000041010") }

// MaestroTest is a card of Maestro's test range.
func MaestroTest() Tap { return mustTap("6759649826438453=30122010123456789", "A0000000043060") }

// ReaderFault is what the reader does wrong with the next answer to a tap, or to a command.
type ReaderFault uint8

// Faults of a reader; each works once.
const (
	ReaderOK           ReaderFault = iota
	ReaderBadCRC                   // the tap's answer has a wrong CRC
	ReaderTruncated                // half of it comes
	ReaderSilent                   // it does not come
	ReaderNoise                    // bytes that are no frame come before it
	ReaderTwice                    // it comes twice
	ReaderCollision                // two cards
	ReaderTorn                     // the card was taken away too early
	ReaderDeclined                 // the card says AAC
	ReaderDamagedTLV               // its data objects make no sense
	ReaderUseContact               // it wants another interface
	ReaderShowsContact             // the same on its display alone: it ends nothing
)

// ErrNotArmed means that the reader looks for no card.
var ErrNotArmed = errors.New("the reader looks for no card")

// ReaderView is what can be seen of a reader.
type ReaderView struct {
	Armed    bool
	Minor    int64 // it is armed for
	Arms     int   // times it was armed
	Taps     int   // answered
	Cancels  int
	Approved int // outcomes told
	Declined int
	Beeps    []int // each sound: how many beeps, 0 for a long one
	BadIn    int   // commands with a bad CRC
}

// Reader is a ViVOpay reader in clear, without encryption.
type Reader struct {
	cfg  ReaderConfig
	port *port

	watch
	seen   ReaderView
	in     []byte
	parts  []byte // of a frame in reports
	whole  bool   // activated with 02-40: answers have a byte of attributes and data objects
	amount []byte
	curr   []byte
	arm    int // counts, for timers
	fault  ReaderFault
	mute   bool
	atc    map[[32]byte]uint16 // by hash of the track: of each card
	un     uint64
	wg     sync.WaitGroup
	ctx    context.Context //nolint:containedctx // Run's, for the time-out
}

// NewReader opens the pty; it starts nothing.
func NewReader(cfg ReaderConfig) (*Reader, error) {
	if cfg.Serial == "" {
		cfg.Serial = "630Z000001"
	}
	open := func() (*port, error) { return newPort(cfg.Link) }
	if cfg.HID {
		open = func() (*port, error) { return newSocket("unixpacket", cfg.Link) }
	}
	p, err := open()
	return &Reader{cfg: cfg, port: p, atc: map[[32]byte]uint16{}, un: cfg.Seed}, err
}

// Path is the tty the agent opens: the link where there is one.
func (r *Reader) Path() string { return r.port.name() }

// Run is the reader's life; it ends with ctx, unplugged.
func (r *Reader) Run(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	err := r.port.read(ctx, r.hear)
	r.wg.Wait()
	return err
}

const vivotech = "ViVOtech2\x00"

// sum is CRC-16/CCITT-FALSE, bit by bit.
func sum(b []byte) uint16 {
	c := uint16(0xFFFF)
	for _, x := range b {
		for bit := 7; bit >= 0; bit-- {
			top := c>>15 ^ uint16(x>>bit&1)
			if c <<= 1; top == 1 {
				c ^= 0x1021
			}
		}
	}
	return c
}

func (r *Reader) hear(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cfg.HID {
		b = r.unpack(b)
	}
	r.in = append(r.in, b...)
	for {
		i := strings.Index(string(r.in), vivotech)
		if i < 0 {
			if len(r.in) > 64 {
				r.in = r.in[len(r.in)-9:]
			}
			break
		}
		f := r.in[i:]
		if len(f) < 14 {
			break
		}
		n := int(binary.BigEndian.Uint16(f[12:]))
		if n > 1024 {
			r.in = f[1:]
			continue
		}
		if len(f) < 16+n {
			break
		}
		good := sum(f[:14+n]) == binary.LittleEndian.Uint16(f[14+n:])
		cmd, sub, data := f[10], f[11], append([]byte(nil), f[14:14+n]...)
		r.in = append([]byte(nil), f[16+n:]...)
		switch {
		case r.mute:
		case !good:
			r.seen.BadIn++
			r.say(cmd, 0x04, nil)
		default:
			r.command(cmd, sub, data)
		}
	}
	r.tell()
}

func (r *Reader) command(cmd, sub byte, data []byte) {
	if r.seen.Armed { // any command ends it; only 05-01 is meant to
		r.seen.Armed = false
	}
	switch uint16(cmd)<<8 | uint16(sub) {
	case 0x1801, 0x0101:
		r.say(cmd, 0, nil)
	case 0x1201:
		r.say(cmd, 0, append([]byte(r.cfg.Serial), 0, 0, 0, 0, 0))
	case 0x2900:
		r.say(cmd, 0, []byte("VP3300-V1.01.118"))
	case 0x0403: // a setting that it takes
		r.say(cmd, 0, nil)
	case 0x0501:
		r.seen.Cancels++
		r.say(cmd, 0, nil)
	case 0x0303:
		if len(data) > 0 && data[0] == 0 {
			r.seen.Approved++
		} else {
			r.seen.Declined++
		}
		r.say(cmd, 0, nil)
	case 0x0B01, 0x0B02:
		n := 0
		if sub == 1 && len(data) == 1 {
			n = int(data[0])
		}
		r.seen.Beeps = append(r.seen.Beeps[max(0, len(r.seen.Beeps)-99):len(r.seen.Beeps):len(r.seen.Beeps)], n)
		r.say(cmd, 0, nil)
	case 0x0201, 0x0240:
		r.whole = sub == 0x40
		r.activate(cmd, data)
	default:
		r.say(cmd, 0x03, nil)
	}
}

func (r *Reader) activate(cmd byte, data []byte) {
	if len(data) == 0 {
		r.say(cmd, 0x05, nil)
		return
	}
	r.amount, r.curr = nil, nil
	err := card.EachTLV(data[1:], func(tag card.Tag, value, _ []byte) {
		switch tag {
		case 0x9F02:
			r.amount = append([]byte(nil), value...)
		case 0x5F2A:
			r.curr = append([]byte(nil), value...)
		}
	})
	if err != nil || len(r.amount) != 6 || len(r.curr) != 2 {
		r.say(cmd, 0x05, nil)
		return
	}
	r.seen.Minor = 0
	for _, b := range r.amount {
		r.seen.Minor = r.seen.Minor*100 + int64(b>>4)*10 + int64(b&15)
	}
	r.seen.Armed = true
	r.seen.Arms++
	r.arm++
	arm := r.arm
	if r.ctx == nil || r.ctx.Err() != nil {
		return
	}
	ctx := r.ctx
	r.wg.Go(func() {
		t := time.NewTimer(time.Duration(data[0]) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.arm == arm && r.seen.Armed {
			r.seen.Armed = false
			r.say(0x02, 0x08, nil)
			r.tell()
		}
	})
}

func (r *Reader) frame(cmd, status byte, data []byte) []byte {
	b := append([]byte(vivotech), cmd, status)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data))) //nolint:gosec // short
	b = append(b, data...)
	return binary.BigEndian.AppendUint16(b, sum(b))
}

func (r *Reader) say(cmd, status byte, data []byte) { r.send(r.frame(cmd, status, data)) }

// Tap presents a card: ErrNotArmed unless the reader looks for one.
func (r *Reader) Tap(t Tap) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.seen.Armed {
		return ErrNotArmed
	}
	r.tap(t)
	r.tell()
	return nil
}

// TapWhenArmed holds the card before the reader until it is read.
func (r *Reader) TapWhenArmed(ctx context.Context, t Tap) error {
	for {
		if err := r.Tap(t); !errors.Is(err, ErrNotArmed) {
			return err
		}
		if err := r.Wait(ctx, func(v ReaderView) bool { return v.Armed }); err != nil {
			return err
		}
	}
}

func (r *Reader) tap(t Tap) {
	fault := r.fault
	r.fault = ReaderOK
	r.seen.Armed = false
	r.seen.Taps++
	switch fault {
	case ReaderCollision:
		r.failed(0x21)
		return
	case ReaderTorn:
		r.failed(0x20)
		return
	case ReaderUseContact:
		r.failed(0x02)
		return
	case ReaderShowsContact:
		r.seen.Armed = true
		r.say(0x02, 0x0E, []byte{0x03, 0x08})
		return
	case ReaderDeclined:
		t.CID = 0
	default:
		if t.CID == 0 {
			t.CID = 0x80
		}
	}
	data := r.transaction(t)
	if fault == ReaderDamagedTLV {
		data = data[:len(data)-3]
	}
	b := r.frame(0x02, 0x23, data)
	switch fault {
	case ReaderBadCRC:
		b[len(b)-1] ^= 0x5A
	case ReaderTruncated:
		b = b[:len(b)/2]
	case ReaderSilent:
		return
	case ReaderNoise:
		b = append([]byte("ViVOtech\xff\x00junk"), b...)
	case ReaderTwice:
		b = append(b, b...)
	}
	r.send(b)
}

// failed is an activation that ends with an error code.
func (r *Reader) failed(code byte) {
	b := []byte{code, 0, 0, 0} // SW1, SW2, state
	if r.whole {
		b = append([]byte{0x01, 0xFF, 0xEE, 0x1F, 4}, b...)
	}
	r.say(0x02, 0x0A, b)
}

// transaction is the data of an answer: tracks, clearing record, data objects. The cryptogram is a hash
// over what a card would have counted in: distinct for every tap, not one a bank could check.
func (r *Reader) transaction(t Tap) []byte {
	track := t.Track2.Reveal()
	if t.Swipe { // in clear; the head of an encrypting reader has a format of its own
		b := append([]byte{0x08, 0xDF, 0xEF, 0x18, byte(len(track) + 2)}, ";"+track+"?"...)
		b = append(b, 0x9F, 0x39, 1, 0x90, 0xFF, 0xEE, 0x01, 4, 0xDF, 0x30, 1, 0x0C)
		if !r.whole {
			b = append(append([]byte{0, byte(len(track) + 2)}, ";"+track+"?"...), 0, 0, 0xFF, 0xEE, 0x01, 4, 0xDF, 0x30, 1, 0x0C)
		}
		return b
	}
	key := sha256.Sum256([]byte(track))
	r.atc[key]++
	atc := binary.BigEndian.AppendUint16(nil, r.atc[key])
	r.un++
	rnd := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(r.cfg.Serial), r.un))
	un := rnd[:4]
	ac := sha256.Sum256(append(append(append(key[:], r.amount...), un...), atc...))

	digits := strings.Replace(track, "=", "D", 1)
	if len(digits)%2 == 1 {
		digits += "F"
	}
	var e []byte
	put := func(tag string, v []byte) {
		h, _ := hex.DecodeString(tag)
		e = append(append(append(e, h...), byte(len(v))), v...)
	}
	if !r.cfg.Cipher {
		put("57", unhex(digits))
		put("5A", unhex(even(t.Track2.PAN().Reveal())))
	}
	put("5F24", unhex(t.Track2.Expiry().Reveal()+"31"))
	put("5F34", []byte{t.PSN})
	put("84", unhex(t.AID))
	put("82", []byte{0x20, 0x00})
	put("9F26", ac[:8])
	put("9F27", []byte{t.CID})
	put("9F10", unhex("06010A03A0A000"))
	put("9F37", un)
	put("9F36", atc)
	put("95", make([]byte, 5))
	put("9A", unhex("261122"))
	put("9C", []byte{0})
	put("9F02", r.amount)
	put("9F03", make([]byte, 6))
	put("5F2A", r.curr)
	put("9F1A", []byte{0x02, 0x76})
	put("9F33", unhex("E0F8C8"))
	put("9F34", unhex("1F0302"))
	out := []byte{0, 0}
	if !r.cfg.Cipher {
		out = append([]byte{0, byte(len(track) + 2)}, ";"+track+"?"...)
	}
	out = append(out, 0, 1)
	if r.whole {
		out = []byte{0x01}
		if r.cfg.Cipher {
			out = []byte{0x41}
		}
	}
	out = append(out, 0xE1)
	if len(e) > 127 {
		out = append(out, 0x81)
	}
	out = append(append(out, byte(len(e))), e...)
	out = append(out, 0x9F, 0x35, 1, 0x25)
	if r.cfg.Cipher { // what a key would make of the track; nobody here can read it
		c, ksn := sha256.Sum256(append(key[:], atc...)), binary.BigEndian.AppendUint64([]byte{0xFF, 0xFF}, r.un)
		out = append(append(out, 0xDF, 0xEF, 0x4D, byte(len(c))), c[:]...)
		out = append(append(out, 0xDF, 0xEE, 0x12, byte(len(ksn))), ksn...)
	}
	return out
}

func even(digits string) string {
	if len(digits)%2 == 1 {
		return digits + "F"
	}
	return digits
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("virtual: bad hex in a constant")
	}
	return b
}

// Misbehave sets what goes wrong with the next tap; Mute makes the reader dead, or alive again.
func (r *Reader) Misbehave(f ReaderFault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// Mute makes the reader hear and say nothing, or lets it again.
func (r *Reader) Mute(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = on
}

// Say puts a frame nobody asked for on the wire.
func (r *Reader) Say(cmd, status byte, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.say(cmd, status, data)
}

// Unplug takes the cable, which is its power too; Replug puts it in again.
func (r *Reader) Unplug() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Armed, r.in, r.parts = false, nil, nil
	r.port.unplug()
	r.tell()
}

// Replug puts the cable in again; the tty is a new one, the link points to it.
func (r *Reader) Replug() error { return r.port.replug() }

// View is what can be seen now.
func (r *Reader) View() ReaderView {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// Wait waits until what can be seen is ok.
func (r *Reader) Wait(ctx context.Context, ok func(ReaderView) bool) error {
	return await(ctx, &r.watch, func() ReaderView { return r.seen }, ok)
}
