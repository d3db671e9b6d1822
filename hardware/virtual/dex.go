package virtual

import (
	"context"
	"errors"
	"sync"
	"time"
)

// DEXFault is what a machine does wrong in the next reading of its books; each works once.
type DEXFault uint8

// Faults of a DEX machine.
const (
	DEXOK       DEXFault = iota
	DEXSilent            // it does not answer
	DEXNak               // it does not understand who asks, at first
	DEXBadSum            // a block's sum is wrong, at first
	DEXCut               // it stops in mid file
	DEXSlow              // it says WACK first
	DEXDeafOnce          // it does not hear one acknowledgment, and asks again
	DEXNoise             // noise between the blocks
)

// DEX is a vending machine's audit port: it gives its file to whoever asks, as the one that sends in a
// DEX/UCS session. It counts its sums by itself.
type DEX struct {
	port *port

	mu    sync.Mutex
	file  []byte
	make  func() []byte // nil: file
	fault DEXFault
	reads int
	heard chan byte
}

// NewDEX opens the pty; link is a symlink to it, or "".
func NewDEX(link string, file []byte) (*DEX, error) {
	p, err := newPort(link)
	return &DEX{port: p, file: file, heard: make(chan byte, 1024)}, err
}

// Path is the tty the agent opens.
func (d *DEX) Path() string { return d.port.name() }

// Set changes the file, and what goes wrong with the next reading.
func (d *DEX) Set(file []byte, f DEXFault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.file, d.make, d.fault = file, nil, f
}

// Source makes the file anew whenever a reading begins, as a machine does that goes on selling.
func (d *DEX) Source(file func() []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.make = file
}

// Reads is how often the file was read to its end.
func (d *DEX) Reads() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reads
}

// Unplug takes the cable out; Replug puts it back.
func (d *DEX) Unplug() { d.port.unplug() }

// Replug puts the cable back: a new pty behind the same link.
func (d *DEX) Replug() error { return d.port.replug() }

// Run is the machine's life; it ends with ctx, unplugged.
func (d *DEX) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = d.session(ctx)
		}
	})
	err := d.port.read(ctx, func(b []byte) {
		for _, c := range b {
			select {
			case d.heard <- c:
			default:
			}
		}
	})
	wg.Wait()
	return err
}

var errDEX = errors.New("the session broke")

func (d *DEX) next(ctx context.Context, wait time.Duration) (byte, error) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case c := <-d.heard:
		return c, nil
	case <-t.C:
		return 0, errDEX
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// expect waits for bytes, in order.
func (d *DEX) expect(ctx context.Context, want ...byte) error {
	for _, w := range want {
		c, err := d.next(ctx, 2*time.Second)
		if err != nil {
			return err
		}
		if c != w {
			return errDEX
		}
	}
	return nil
}

func (d *DEX) say(b ...byte) { _ = d.port.write(b) }

// session is one, from the other side's ENQ.
func (d *DEX) session(ctx context.Context) error {
	for {
		c, err := d.next(ctx, time.Hour)
		if err != nil {
			return err
		}
		if c == 0x05 {
			break
		}
	}
	d.mu.Lock()
	if d.make != nil {
		d.file = d.make()
	}
	fault, file := d.fault, append([]byte(nil), d.file...)
	if fault != DEXSilent {
		d.fault = DEXOK
	}
	d.mu.Unlock()
	if fault == DEXSilent {
		return nil
	}
	d.say(0x10, 0x30)
	for n := 0; ; n++ { // who asks
		if err := d.expect(ctx, 0x10, 0x01); err != nil {
			return err
		}
		var name []byte
		for {
			c, err := d.next(ctx, time.Second)
			if err != nil {
				return err
			}
			if c == 0x10 {
				break
			}
			name = append(name, c)
		}
		if err := d.expect(ctx, 0x03); err != nil {
			return err
		}
		sum := dexSum(append(name, 0x03))
		if err := d.expect(ctx, byte(sum), byte(sum>>8)); err != nil {
			return err
		}
		if fault == DEXNak && n == 0 {
			d.say(0x15)
			continue
		}
		if len(name) != 17 {
			return errDEX
		}
		break
	}
	if fault == DEXSlow {
		d.say(0x10, 0x3B)
		time.Sleep(50 * time.Millisecond)
	}
	d.say(0x10, 0x31)
	if err := d.expect(ctx, 0x04); err != nil {
		return err
	}
	d.say(0x05)
	if err := d.expect(ctx, 0x10, 0x30); err != nil {
		return err
	}
	d.say(block(0x01, []byte("00MACHINE001R00L06"), 0x03, false)...)
	if err := d.expect(ctx, 0x10, 0x31); err != nil {
		return err
	}
	d.say(0x04)
	d.say(0x05)
	if err := d.expect(ctx, 0x10, 0x30); err != nil {
		return err
	}
	ack := byte(0x31)
	for n := 0; len(file) > 0; n++ {
		part := file[:min(245, len(file))]
		file = file[len(part):]
		last := byte(0x17)
		if len(file) == 0 {
			last = 0x03
		}
		if n == 1 && fault == DEXCut {
			return errDEX
		}
		if n == 1 && fault == DEXBadSum {
			d.say(block(0x02, part, last, true)...)
			if err := d.expect(ctx, 0x15); err != nil {
				return err
			}
		}
		if n == 1 && fault == DEXNoise {
			d.say(0x00, 0x7F, 0xAA)
		}
		d.say(block(0x02, part, last, false)...)
		if err := d.expect(ctx, 0x10, ack); err != nil {
			return err
		}
		if n == 1 && fault == DEXDeafOnce {
			d.say(0x05)
			if err := d.expect(ctx, 0x10, ack); err != nil {
				return err
			}
		}
		ack = 0x30 + 0x31 - ack
	}
	d.say(0x04)
	d.mu.Lock()
	d.reads++
	d.mu.Unlock()
	return nil
}

// block is data between DLE STX (or SOH) and DLE ETX (or ETB), and its sum; a DLE in it stands twice.
func block(head byte, data []byte, last byte, wrong bool) []byte {
	out := []byte{0x10, head}
	for _, c := range data {
		if out = append(out, c); c == 0x10 {
			out = append(out, c)
		}
	}
	sum := dexSum(append(append([]byte(nil), data...), last))
	if wrong {
		sum ^= 0x0101
	}
	return append(out, 0x10, last, byte(sum), byte(sum>>8))
}

// dexSum is CRC-16/ARC, by a table of nibbles.
func dexSum(b []byte) (c uint16) {
	t := [16]uint16{
		0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401,
		0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4400,
	}
	for _, x := range b {
		c = c>>4 ^ t[c&15] ^ t[x&15]
		c = c>>4 ^ t[c&15] ^ t[x>>4]
	}
	return c
}
