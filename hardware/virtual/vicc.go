package virtual

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// VICC is the field of a virtual smart card reader (vpcd of vsmartcard): the reader listens at a TCP port, and
// the card is who connects. Every message is a length of two bytes, MSB first, and so many bytes: 00 power off,
// 01 on, 02 reset, 04 the ATR is asked for; what is longer is an APDU.
type VICC struct {
	addr string

	mu     sync.Mutex
	cancel context.CancelFunc
	done   chan struct{}
}

// NewVICC is the field of the reader that listens at addr; it is empty.
func NewVICC(addr string) *VICC { return &VICC{addr: addr} }

// Present puts a card in, in place of the one that is there; none: it is taken out. The reader need not listen yet.
func (v *VICC) Present(cards ...*NFCCard) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cancel != nil {
		v.cancel()
		<-v.done
		v.cancel = nil
	}
	if len(cards) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	v.cancel, v.done = cancel, done
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			v.insert(ctx, cards[0])
			t := time.NewTimer(50 * time.Millisecond)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
		}
	}()
}

// insert is the card's life in the reader.
func (v *VICC) insert(ctx context.Context, c *NFCCard) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", v.addr)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		in := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, in); err != nil {
			return
		}
		var out []byte
		switch {
		case len(in) > 1:
			out = c.apdu(in)
		case len(in) == 1 && in[0] == 0x04:
			out = c.atr()
		default: // power
			c.halt()
			continue
		}
		b := binary.BigEndian.AppendUint16(nil, uint16(len(out))) //nolint:gosec // short
		if _, err := conn.Write(append(b, out...)); err != nil {
			return
		}
	}
}

// atr is what a contactless reader makes of a card; of a card without a number it is its own, by contacts.
func (c *NFCCard) atr() []byte {
	switch {
	case len(c.UID) == 0:
		return unhex("3B6800000073C84012009000")
	case c.SAK&0x20 != 0:
		return unhex("3B8180018080")
	}
	b := unhex("3B8F8001804F0CA0000003060300010000000000")
	if c.SAK&0x08 == 0 {
		b[14] = 3 // Ultralight
	}
	var sum byte
	for _, x := range b[1 : len(b)-1] {
		sum ^= x
	}
	b[len(b)-1] = sum
	return b
}

// apdu answers what a PC/SC reader does for a memory card (PC/SC part 3, 3.2.2.1).
func (c *NFCCard) apdu(b []byte) []byte {
	switch {
	case len(c.UID) == 0 || len(b) < 5 || b[0] != 0xFF:
		return []byte{0x6E, 0x00}
	case bytes.Equal(b, []byte{0xFF, 0xCA, 0, 0, 0}):
		return append(bytes.Clone(c.UID), 0x90, 0x00)
	case b[1] == 0x82 && len(b) == 11:
		c.loaded = bytes.Clone(b[5:])
		return []byte{0x90, 0x00}
	case b[1] == 0x86 && len(b) == 10 && b[8] == 0x60:
		if c.auth = bytes.Equal(c.loaded, c.Key); c.auth {
			return []byte{0x90, 0x00}
		}
		return []byte{0x63, 0x00}
	case b[1] == 0xB0 && len(b) == 5 && c.auth:
		block := make([]byte, 16)
		copy(block, c.Blocks[b[3]])
		return append(block, 0x90, 0x00)
	}
	return []byte{0x69, 0x82}
}
