package virtual

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// terminalLine is one connection.
type terminalLine struct {
	t       *Terminal
	c       net.Conn
	ctx     context.Context //nolint:containedctx // of one connection
	in      chan []byte     // messages, whole
	done    chan struct{}
	dribble bool
	join    bool
	talk    bool
	joined  []byte
}

var errLine = errors.New("the line is gone")

func (s *terminalLine) serve() {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(s.in)
		r := bufio.NewReader(s.c)
		for {
			m, err := readTerminal(r)
			if err != nil {
				return
			}
			select {
			case s.in <- m:
			case <-s.done:
				return
			}
		}
	})
	for {
		m, ok := <-s.in
		if !ok || s.command(m) != nil {
			break
		}
		s.dribble, s.join, s.talk = false, false, false
	}
	close(s.done)
	_ = s.c.Close()
	wg.Wait()
}

// readTerminal reads one message: two bytes, a length, so many bytes.
func readTerminal(r io.Reader) ([]byte, error) {
	head := make([]byte, 3)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := int(head[2])
	if n == 255 {
		more := make([]byte, 2)
		if _, err := io.ReadFull(r, more); err != nil {
			return nil, err
		}
		n = int(more[1])*256 + int(more[0])
	}
	data := make([]byte, n)
	_, err := io.ReadFull(r, data)
	return append(head[:2], data...), err
}

// frame puts the length in.
func (s *terminalLine) frame(m []byte) []byte {
	n := len(m) - 2
	out := []byte{m[0], m[1], byte(n)}
	if n >= 255 || s.talk {
		out = []byte{m[0], m[1], 255, byte(n % 256), byte(n / 256)}
	}
	return append(out, m[2:]...)
}

func (s *terminalLine) write(m ...byte) error {
	b := append(s.joined, s.frame(m)...)
	s.joined = nil
	if !s.dribble {
		_, err := s.c.Write(b)
		return err
	}
	for i := range b {
		if _, err := s.c.Write(b[i : i+1]); err != nil {
			return err
		}
		time.Sleep(200 * time.Microsecond) // so that they come apart
	}
	return nil
}

// ok answers a command. With join it waits for what comes behind it.
func (s *terminalLine) ok() error {
	if s.join {
		s.joined = append(s.joined, 0x80, 0, 0)
		return nil
	}
	return s.write(0x80, 0)
}

// say sends a message and waits for its acknowledgment.
func (s *terminalLine) say(m ...byte) ([]byte, error) {
	if err := s.write(m...); err != nil {
		return nil, err
	}
	for {
		select {
		case a, ok := <-s.in:
			switch {
			case !ok:
				return nil, errLine
			case a[0] == 0x06 && a[1] == 0xB0: // it is past that
				if err := s.write(0x84, 0x83); err != nil {
					return nil, err
				}
				continue
			case a[0] != 0x80 && a[0] != 0x84:
				return nil, fmt.Errorf("%w: % X is no acknowledgment", errLine, a)
			}
			return a, nil
		case <-time.After(5 * time.Second):
			return nil, errLine
		case <-s.ctx.Done():
			return nil, errLine
		}
	}
}

func (s *terminalLine) all(ms ...[]byte) error {
	for _, m := range ms {
		if _, err := s.say(m...); err != nil {
			return err
		}
	}
	return nil
}

var completed = []byte{0x06, 0x0F}

func refused(code byte) []byte { return []byte{0x06, 0x1E, code} }

func bcdOf(n int64, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[size-1-i] = byte(n%10) + byte(n/10%10)<<4
		n /= 100
	}
	return b
}

func ofBCD(b []byte) (n int64) {
	for _, c := range b {
		n = n*100 + int64(c>>4)*10 + int64(c&15)
	}
	return n
}

// terminalAsk is what a command asks for.
type terminalAsk struct {
	amount  int64
	receipt int
	ref     string
	money   int64
}

// readAsk reads the bitmaps a register sends; what it never sends is not known here.
func readAsk(b []byte) (a terminalAsk, err error) {
	for len(b) > 0 {
		n := 0
		switch b[0] {
		case 0x04:
			n = 6
		case 0x0B:
			n = 3
		case 0x87, 0x49:
			n = 2
		case 0x19, 0x03:
			n = 1
		case 0x3B:
			n = 8
		case 0x06:
			if len(b) < 2 || b[1] > 127 {
				return a, errLine
			}
			n = 1 + int(b[1])
		}
		if n == 0 || len(b) < 1+n {
			return a, fmt.Errorf("%w: % X", errLine, b)
		}
		v := b[1 : 1+n]
		switch b[0] {
		case 0x04:
			a.amount = ofBCD(v)
		case 0x49:
			a.money = ofBCD(v)
		case 0x87:
			if a.receipt = int(ofBCD(v)); v[0] == 255 {
				a.receipt = -1
			}
		case 0x06:
			if len(v) > 9 && v[1] == 0xE9 { // 1F62 02 xx 1F63 n text
				a.ref = string(v[11:])
			}
		}
		b = b[1+n:]
	}
	return a, nil
}
