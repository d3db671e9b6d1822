package virtual

import (
	"bytes"
	"context"
)

// NFCFault is what a PN532 does wrong; each works once, with the next exchange that it is about.
type NFCFault uint8

// Faults of a PN532.
const (
	NFCFine       NFCFault = iota
	NFCBadSum              // the answer's checksum is wrong; right when it is asked for again
	NFCBadSums             // it is wrong each time it is asked for
	NFCSilent              // acknowledged, and never answered
	NFCNoACK               // not acknowledged, not answered
	NFCTruncated           // half of the answer comes
	NFCNoise               // bytes that are no frame come before it
	NFCTwice               // it comes twice
	NFCTorn                // the card is gone in the middle of an exchange with it
	NFCOtherChip           // it says that it is another chip
	NFCDamaged             // what it says of the field makes no sense
	NFCSyntax              // it says that it did not understand
	NFCWrongProof          // the card's proof is not that of its key
	NFCSpoiled             // what is read of a DESFire's file has a wrong CMAC
)

// NFCCard is a card for a PN532's or a PC/SC reader's field.
type NFCCard struct {
	UID  []byte
	ATQA [2]byte
	SAK  byte
	ATS  []byte // of an ISO 14443-4 card

	Key    []byte          // of a MIFARE Classic: key A of every sector
	Blocks map[byte][]byte // 16 bytes each
	App    *DESFire        // of a DESFire

	auth   bool
	loaded []byte // key, by a PC/SC reader
}

// MIFAREClassic is a card of 1 kB with that UID, of 4 or 7 bytes, and key A.
func MIFAREClassic(uid, keyA []byte) *NFCCard {
	return &NFCCard{UID: uid, ATQA: [2]byte{0x00, 0x04}, SAK: 0x08, Key: keyA, Blocks: map[byte][]byte{}}
}

// NewDESFire is a card with one application of one AES key, and a file of that data behind it.
func NewDESFire(uid []byte, aid [3]byte, key, file []byte) *NFCCard {
	return &NFCCard{
		UID: uid, ATQA: [2]byte{0x03, 0x44}, SAK: 0x20, ATS: []byte{0x75, 0x77, 0x81, 0x02, 0x80},
		App: &DESFire{AID: aid, Key: key, FileNo: 1, File: file},
	}
}

// PN532View is what can be seen of a PN532.
type PN532View struct {
	Field     bool
	Looks     int // into the field
	Exchanges int // with a card
	Released  int
	BadIn     int // frames with a wrong checksum
	Aborts    int // ACKs from the host
	Asked     int // answers that were asked for again
	Commands  int
}

// PN532 is the chip at the end of a serial line.
type PN532 struct {
	port *port

	watch
	seen   PN532View
	in     []byte
	last   []byte // answer, for a NACK
	fault  NFCFault
	mute   bool
	cards  []*NFCCard
	active []*NFCCard // selected, by target number from 1
}

// NewPN532 opens the pty, with a symlink to it where link says one; it starts nothing.
func NewPN532(link string) (*PN532, error) {
	p, err := newPort(link)
	return &PN532{port: p}, err
}

// Path is the tty the agent opens: the link where there is one.
func (n *PN532) Path() string { return n.port.name() }

// Run is the chip's life; it ends with ctx, unplugged.
func (n *PN532) Run(ctx context.Context) error { return n.port.read(ctx, n.hear) }

// hear takes bytes: frames from the host begin with 00 FF, what is between them wakes us.
func (n *PN532) hear(b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.in = append(n.in, b...)
	for n.frame() {
	}
	n.tell()
}

func (n *PN532) frame() bool {
	at := -1
	for i := 0; i+1 < len(n.in); i++ {
		if n.in[i] == 0 && n.in[i+1] == 0xFF {
			at = i + 2
			break
		}
	}
	if at < 0 || len(n.in) < at+2 {
		return false
	}
	size, sum := int(n.in[at]), n.in[at+1]
	head := at + 2
	switch {
	case size == 0 && sum == 0xFF:
		n.in = n.in[head:]
		n.seen.Aborts++
		return true
	case size == 0xFF && sum == 0:
		n.in = n.in[head:]
		n.seen.Asked++
		if n.fault == NFCBadSums {
			bad := bytes.Clone(n.last)
			bad[len(bad)-2] ^= 0x5A
			_ = n.port.write(bad)
		} else if len(n.last) > 0 {
			_ = n.port.write(n.last)
		}
		return true
	case size == 0xFF && sum == 0xFF:
		if len(n.in) < at+5 {
			return false
		}
		size, head = int(n.in[at+2])*256+int(n.in[at+3]), at+5
		if n.in[at+2]+n.in[at+3]+n.in[at+4] != 0 || size > 265 {
			n.seen.BadIn++
			n.in = n.in[at:]
			return true
		}
	case byte(size)+sum != 0: //nolint:gosec // it is a byte
		n.seen.BadIn++
		n.in = n.in[at:]
		return true
	}
	if len(n.in) < head+size+1 {
		return false
	}
	body := bytes.Clone(n.in[head : head+size])
	var total byte
	for _, x := range n.in[head : head+size+1] {
		total += x
	}
	n.in = bytes.Clone(n.in[head+size+1:])
	switch {
	case n.mute:
	case total != 0 || size < 2 || body[0] != 0xD4:
		n.seen.BadIn++
	default:
		n.command(body[1], body[2:])
	}
	return true
}

// command acknowledges and answers.
func (n *PN532) command(cmd byte, data []byte) {
	n.seen.Commands++
	fault := n.fault
	if !n.about(cmd, data) {
		fault = NFCFine
	} else if fault != NFCBadSums {
		n.fault = NFCFine
	}
	if fault == NFCNoACK {
		return
	}
	_ = n.port.write([]byte{0, 0, 0xFF, 0, 0xFF, 0})
	answer, ok := n.does(cmd, data, fault)
	if !ok || fault == NFCSyntax {
		n.last = []byte{0, 0, 0xFF, 1, 0xFF, 0x7F, 0x81, 0}
		_ = n.port.write(n.last)
		return
	}
	b := []byte{0, 0, 0xFF}
	size := len(answer) + 2
	if size > 255 {
		b = append(b, 0xFF, 0xFF, byte(size/256), byte(size%256), byte(512-size/256-size%256)) //nolint:gosec // bytes
	} else {
		b = append(b, byte(size), byte(256-size))
	}
	b = append(append(b, 0xD5, cmd+1), answer...)
	var total byte
	for _, x := range b[len(b)-size:] {
		total += x
	}
	n.last = append(b, byte(256-int(total)), 0) //nolint:gosec // a byte
	n.say(fault)
}

func (n *PN532) say(fault NFCFault) {
	b := bytes.Clone(n.last)
	switch fault {
	case NFCBadSum, NFCBadSums:
		b[len(b)-2] ^= 0x5A
	case NFCSilent:
		return
	case NFCTruncated:
		b = b[:len(b)/2]
	case NFCNoise:
		b = append([]byte{0x12, 0x00, 0xFE, 0x34}, b...)
	case NFCTwice:
		b = append(b, b...)
	case NFCFine, NFCNoACK, NFCTorn, NFCOtherChip, NFCDamaged, NFCSyntax, NFCWrongProof, NFCSpoiled:
	}
	_ = n.port.write(b)
}

// about reports whether the fault that is set is about that command.
func (n *PN532) about(cmd byte, data []byte) bool {
	switch n.fault {
	case NFCOtherChip:
		return cmd == 0x02
	case NFCDamaged:
		return cmd == 0x4A
	case NFCSpoiled:
		return cmd == 0x40 && len(data) > 2 && data[1] == 0x90 && data[2] == 0xBD
	case NFCWrongProof:
		return cmd == 0x40 && len(data) > 32 // the host's proof is in it
	case NFCFine:
		return false
	default:
		return cmd == 0x40
	}
}

// does is the answer's data behind its command; not ok: the command is not understood.
func (n *PN532) does(cmd byte, data []byte, fault NFCFault) ([]byte, bool) {
	switch cmd {
	case 0x00: // diagnose: the line
		if len(data) > 0 && data[0] == 0 {
			return data, true
		}
		return []byte{0}, true
	case 0x02:
		if fault == NFCOtherChip {
			return []byte{0x33, 0x01, 0x06, 0x07}, true
		}
		return []byte{0x32, 0x01, 0x06, 0x07}, true
	case 0x06: // registers: a byte each
		return make([]byte, len(data)/2), true
	case 0x08, 0x12, 0x14:
		return nil, true
	case 0x32:
		if len(data) == 2 && data[0] == 1 {
			n.seen.Field = data[1]&1 != 0
			if !n.seen.Field {
				n.forget()
			}
		}
		return nil, true
	case 0x40:
		return n.exchange(data, fault), true
	case 0x42: // of protocols that no card here speaks
		return []byte{0x01}, true
	case 0x44, 0x52:
		n.seen.Released++
		n.forget()
		return []byte{0x00}, true
	case 0x4A:
		if fault == NFCDamaged {
			return []byte{0x01, 0x01, 0x00}, true
		}
		return n.look(data), true
	}
	return nil, false
}

func (n *PN532) forget() {
	for _, c := range n.active {
		c.halt()
	}
	n.active = nil
}

func (c *NFCCard) halt() {
	c.auth = false
	if c.App != nil {
		c.App.reset()
	}
}

// look is InListPassiveTarget.
func (n *PN532) look(data []byte) []byte {
	n.seen.Looks++
	n.seen.Field = true
	n.forget()
	if len(data) < 2 || data[1] != 0 { // other bit rates and modulations
		return []byte{0}
	}
	out := []byte{0}
	for _, c := range n.cards {
		if len(n.active) == int(data[0]) {
			break
		}
		n.active = append(n.active, c)
		out[0]++
		out = append(out, out[0], c.ATQA[0], c.ATQA[1], c.SAK, byte(len(c.UID)))
		out = append(out, c.UID...)
		if c.SAK&0x20 != 0 {
			out = append(append(out, byte(len(c.ATS)+1)), c.ATS...)
		}
	}
	return out
}

// exchange is InDataExchange: a status, and what the card said.
func (n *PN532) exchange(data []byte, fault NFCFault) []byte {
	n.seen.Exchanges++
	if fault == NFCTorn {
		n.cards = nil
		n.forget()
	}
	if len(data) < 2 || int(data[0]) < 1 {
		return []byte{0x27}
	}
	if int(data[0]) > len(n.active) {
		return []byte{0x01}
	}
	c := n.active[data[0]-1]
	if c.App != nil {
		return append([]byte{0}, c.App.apdu(data[1:], fault == NFCWrongProof || fault == NFCSpoiled)...)
	}
	return c.classic(data[1:])
}

// classic is what a MIFARE Classic does.
func (c *NFCCard) classic(b []byte) []byte {
	switch {
	case len(b) == 12 && b[0] == 0x60:
		if c.auth = bytes.Equal(b[2:8], c.Key) && bytes.Equal(b[8:], c.UID[len(c.UID)-4:]); !c.auth {
			return []byte{0x14}
		}
		return []byte{0}
	case len(b) == 2 && b[0] == 0x30 && c.auth:
		block := make([]byte, 16)
		copy(block, c.Blocks[b[1]])
		return append([]byte{0}, block...)
	}
	return []byte{0x01}
}

// Misbehave sets what goes wrong next; Mute makes the chip dead, or alive again.
func (n *PN532) Misbehave(f NFCFault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = f
}

// Mute makes the chip hear and say nothing, or lets it again.
func (n *PN532) Mute(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mute = on
}

// Present lays cards on the reader, in place of those that are there; none: they are taken away.
func (n *PN532) Present(cards ...*NFCCard) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget()
	n.cards = cards
	n.tell()
}

// Say puts bytes nobody asked for on the wire.
func (n *PN532) Say(b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = n.port.write(b)
}

// Line sets what becomes of what it says.
func (n *PN532) Line(f LineFault) { n.port.misbehave(f) }

// Unplug takes the cable, which is its power too.
func (n *PN532) Unplug() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.in, n.seen.Field = nil, false
	n.forget()
	n.port.unplug()
	n.tell()
}

// Replug puts the cable in again; the tty is a new one, the link points to it.
func (n *PN532) Replug() error { return n.port.replug() }

// View is what can be seen now.
func (n *PN532) View() PN532View {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen
}

// Wait waits until what can be seen is ok.
func (n *PN532) Wait(ctx context.Context, ok func(PN532View) bool) error {
	return await(ctx, &n.watch, func() PN532View { return n.seen }, ok)
}
