package virtual

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"coinop/protocol"
)

// BoardConfig is a Modbus RTU board of 8 relays and 8 inputs, and the machines behind it: washers that
// count coin pulses, or dispensers that turn as long as a relay is on.
type BoardConfig struct {
	Link    string // symlink to the pty; none
	Drops   string // file of what the machines gave out, one JSON object a line; none
	Address byte   // 1
	Outlets []BoardOutlet
}

// BoardOutlet is a machine behind a relay. Relays and inputs are numbered from 1; 0 is none.
type BoardOutlet struct {
	Product
	Relay    int
	Pulses   int           // it starts after so many; 1
	Least    time.Duration // a pulse is on so long at least; 50 ms
	Feedback int           // input that is active when it has started
	Busy     time.Duration // for so long; 300 ms
	Button   int           // input of its button
}

// Times of a board. A series of pulses with a pause in it is none.
const (
	boardMute  = 1500 * time.Millisecond // of a board that says nothing for a while
	pulsePause = time.Second
	pressTime  = 250 * time.Millisecond
)

// ErrNoFault means a fault that this far end does not know.
var ErrNoFault = errors.New("it cannot go wrong in that way")

// BoardView is what can be seen of a board and its machines.
type BoardView struct {
	Asked   int  // frames it understood
	Relays  byte // that are on
	Inputs  byte // that are active
	Begun   int  // times one went on
	Pulses  int  // that were on long enough
	Drops   int
	Longest time.Duration // that a relay was on
}

// Board is one. It ends its relays' on-times itself, as boards of Waveshare do.
type Board struct {
	cfg  BoardConfig
	port *port

	stage[BoardView]
	rx     []byte
	fault  Fault
	mute   time.Time // until then it says and hears nothing
	stuck  byte
	relays [8]boardRelay
	counts map[protocol.Outlet]int
	wg     sync.WaitGroup
	ctx    context.Context //nolint:containedctx // Run's, for the timers
}

type boardRelay struct {
	on   time.Time // zero: it is off
	n    int       // of on-times, so that an old one's end is none of a new one
	last time.Time // when it went off
	fail bool      // what it starts gives nothing out
}

// NewBoard opens the pty and the book; it starts nothing.
func NewBoard(cfg BoardConfig) (*Board, error) {
	if cfg.Address == 0 {
		cfg.Address = 1
	}
	cfg.Outlets = slices.Clone(cfg.Outlets)
	for i := range cfg.Outlets {
		o := &cfg.Outlets[i]
		o.Pulses = max(o.Pulses, 1)
		if o.Least == 0 {
			o.Least = 50 * time.Millisecond
		}
		if o.Busy == 0 {
			o.Busy = 300 * time.Millisecond
		}
	}
	b := &Board{cfg: cfg, counts: map[protocol.Outlet]int{}}
	var err error
	if b.book, err = openBook(cfg.Drops); err != nil {
		return nil, err
	}
	b.seen.Drops = len(b.book.drops)
	b.port, err = newPort(cfg.Link)
	return b, err
}

// Path is the tty the agent opens: the link where there is one.
func (b *Board) Path() string { return b.port.name() }

// Run is the board's life; it ends with ctx, unplugged.
func (b *Board) Run(ctx context.Context) error {
	b.mu.Lock()
	b.ctx = ctx
	b.mu.Unlock()
	err := b.port.read(ctx, b.hear)
	b.wg.Wait()
	b.book.close()
	return err
}

func (b *Board) hear(chunk []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rx = append(b.rx, chunk...)
	for len(b.rx) >= 8 {
		n := 8
		if b.rx[1] == 0x0F {
			n = 9 + int(b.rx[6])
		}
		if len(b.rx) < n {
			if n > 64 {
				b.rx = b.rx[1:]
				continue
			}
			break
		}
		if f := b.rx[:n]; f[0] == b.cfg.Address && boardSum(f[:n-2]) == binary.LittleEndian.Uint16(f[n-2:]) {
			b.rx = slices.Clone(b.rx[n:])
			if time.Now().After(b.mute) {
				b.frame(f[:n-2])
			}
			continue
		}
		b.rx = b.rx[1:] // noise, or a frame to another
	}
	b.tell()
}

// boardSum is MODBUS's CRC-16, bit by bit from its generator x^16 + x^15 + x^2 + 1, written down anew: a
// mistake made on both sides would be invisible.
func boardSum(p []byte) uint16 {
	reg := uint32(0xFFFF)
	for _, x := range p {
		for i := range 8 {
			bit := (reg ^ uint32(x)>>i) & 1
			reg >>= 1
			reg ^= bit * 0xA001
		}
	}
	return uint16(reg) //nolint:gosec // 16 bits
}

func (b *Board) frame(f []byte) {
	b.seen.Asked++
	at, value := binary.BigEndian.Uint16(f[2:]), binary.BigEndian.Uint16(f[4:])
	refuse := func(code byte) { b.say([]byte{f[0], f[1] | 0x80, code}) }
	switch f[1] {
	case 0x01, 0x02:
		bits := b.seen.Relays
		if f[1] == 0x02 {
			bits = b.seen.Inputs | b.stuck
		}
		if at != 0 || value == 0 || value > 8 {
			refuse(2)
			return
		}
		b.say([]byte{f[0], f[1], 1, bits & byte(1<<value-1)}) //nolint:gosec // 8 bits
	case 0x0F:
		if at != 0 || value == 0 || value > 8 || f[6] != 1 {
			refuse(2)
			return
		}
		for i := range int(value) {
			b.set(i, f[7]>>i&1 != 0, 0)
		}
		b.say(f[:6])
	case 0x05:
		switch {
		case at < 8 && (value == 0 || value == 0xFF00):
			b.set(int(at), value != 0, 0)
			b.say(f)
		case at >= 0x200 && at < 0x208 && value > 0 && value < 0x8000:
			b.flash(f, int(at-0x200), time.Duration(value)*100*time.Millisecond)
		default:
			refuse(2)
		}
	default:
		refuse(1)
	}
}

// flash is a relay on for a while, and what goes wrong with it.
func (b *Board) flash(f []byte, relay int, d time.Duration) {
	fault := b.fault
	switch fault {
	case FaultRepeat, FaultGarbage, FaultDribble: // they last
	default:
		b.fault = FaultNone
	}
	switch fault {
	case FaultException:
		b.say([]byte{f[0], f[1] | 0x80, 4})
		return
	case FaultMissed:
		return
	case FaultSilentJam:
		b.mute = time.Now().Add(boardMute)
		return
	case FaultUnplugJam:
		b.port.unplug()
		return
	case FaultFail:
		b.relays[relay].fail = true
	case FaultStuck:
		for _, o := range b.cfg.Outlets {
			if o.Relay == relay+1 && o.Feedback > 0 {
				b.stuck |= 1 << (o.Feedback - 1)
			}
		}
	default:
	}
	b.set(relay, true, d)
	switch fault {
	case FaultLost:
	case FaultSilentDrop:
		b.mute = time.Now().Add(boardMute)
	case FaultUnplugDrop:
		b.port.unplug()
	case FaultCRC:
		_ = b.port.write(append(slices.Clone(f), 0xDE, 0xAD))
	default:
		b.say(f)
	}
}

// say puts an answer on the line.
func (b *Board) say(f []byte) {
	f = binary.LittleEndian.AppendUint16(slices.Clone(f), boardSum(f))
	switch b.fault {
	case FaultRepeat:
		_ = b.port.write(append(slices.Clone(f), f...))
	case FaultGarbage:
		_ = b.port.write(append([]byte{0xFF, f[0], f[1], 0, 0x55}, append(f, 0x01, 0x85)...))
	case FaultDribble:
		for _, c := range f {
			_ = b.port.write([]byte{c})
		}
	default:
		_ = b.port.write(f)
	}
}

// set switches a relay; d ends the on-time, 0 does not.
func (b *Board) set(relay int, on bool, d time.Duration) {
	r := &b.relays[relay]
	now := time.Now()
	switch {
	case on && r.on.IsZero():
		r.on = now
		b.seen.Begun++
	case !on && !r.on.IsZero():
		was := now.Sub(r.on)
		r.on = time.Time{}
		b.seen.Longest = max(b.seen.Longest, was)
		b.pulse(relay, was, now)
		r.last = now
	}
	r.n++
	b.seen.Relays &^= 1 << relay
	if !on {
		return
	}
	b.seen.Relays |= 1 << relay
	if n := r.n; d > 0 {
		b.later(d, func() {
			if r.n == n {
				b.set(relay, false, 0)
			}
		})
	}
}

// pulse is what the machine behind a relay makes of it.
func (b *Board) pulse(relay int, was time.Duration, now time.Time) {
	r := &b.relays[relay]
	for _, o := range b.cfg.Outlets {
		if o.Relay != relay+1 || was < o.Least {
			continue
		}
		b.seen.Pulses++
		if now.Sub(r.last) > pulsePause+was {
			b.counts[o.Outlet] = 0
		}
		if b.counts[o.Outlet]++; b.counts[o.Outlet] < o.Pulses {
			continue
		}
		b.counts[o.Outlet] = 0
		fail := r.fail
		r.fail = false
		if fail || b.book.drop(o.Product, b.seen.Pulses) != nil {
			continue
		}
		b.seen.Drops = len(b.book.drops)
		if o.Feedback > 0 {
			b.input(o.Feedback, o.Busy)
		}
	}
}

// input is active for a while.
func (b *Board) input(n int, d time.Duration) {
	b.seen.Inputs |= 1 << (n - 1)
	b.later(d, func() { b.seen.Inputs &^= 1 << (n - 1) })
}

// later does f after d, unless the board is switched off before.
func (b *Board) later(d time.Duration, f func()) {
	if b.ctx == nil || b.ctx.Err() != nil {
		return
	}
	ctx := b.ctx
	b.wg.Go(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		f()
		b.tell()
	})
}

// Press presses an outlet's button for a moment.
func (b *Board) Press(o protocol.Outlet) error {
	return b.do(func() error {
		for _, out := range b.cfg.Outlets {
			if out.Outlet == o && out.Button > 0 {
				b.input(out.Button, pressTime)
				return nil
			}
		}
		return ErrNoProduct
	})
}

// Hold keeps an input active, or lets it go.
func (b *Board) Hold(input int, on bool) error {
	return b.do(func() error {
		b.stuck &^= 1 << (input - 1)
		if on {
			b.stuck |= 1 << (input - 1)
		}
		return nil
	})
}

// Switch puts a relay on that nobody asked for.
func (b *Board) Switch(relay int) error {
	return b.do(func() error { b.set(relay-1, true, 0); return nil })
}

// Misbehave sets what goes wrong with the next pulse, or with every answer from here on.
func (b *Board) Misbehave(f Fault) error {
	return b.do(func() error {
		switch f {
		case FaultResetDrop, FaultResetJam, FaultLateDrop, FaultLateJam:
			return fmt.Errorf("%s: %w", f, ErrNoFault)
		default:
		}
		b.fault = f
		return nil
	})
}

// PowerCut is the board without power for a moment: all off, nothing kept.
func (b *Board) PowerCut() error {
	return b.do(func() error {
		for i := range b.relays {
			b.set(i, false, 0)
		}
		b.rx = nil
		return nil
	})
}

// Say puts any bytes on the line.
func (b *Board) Say(p []byte) error { return b.do(func() error { return b.port.write(p) }) }

// Unplug takes the cable out; what is on goes off in its time. Replug puts it in.
func (b *Board) Unplug() error { return b.do(func() error { b.port.unplug(); return nil }) }

// Replug puts the cable in again; the tty is a new one, the link points to it.
func (b *Board) Replug() error { return b.do(b.port.replug) }
