package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"coinop/protocol"
)

// link is as much of MQTT 3.1.1 as a device needs: QoS 1 both ways over a clean session. It costs one
// goroutine and a kilobyte or two beside its TLS connection.
type link struct {
	conn *tls.Conn
	in   *bufio.Reader

	mu  sync.Mutex // guards what follows, and writes
	out []byte
	id  uint16
}

// Spans and sizes of a link.
const (
	dialTime   = 20 * time.Second
	keepalive  = 60 // seconds
	pingEvery  = 30 * time.Second
	writeTime  = 10 * time.Second
	maxPacket  = protocol.MaxMessage + 1024
	readBuffer = 1024
	keptBuffer = 4 << 10
)

var errPacket = errors.New("the broker sent no packet a device expects")

// dial connects from an address, nil for any, and subscribes.
func dial(ctx context.Context, addr string, from net.Addr, cfg *tls.Config, device protocol.DeviceID, will []byte) (_ *link, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	c, err := (&tls.Dialer{NetDialer: &net.Dialer{LocalAddr: from}, Config: cfg}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &link{conn: c.(*tls.Conn), in: bufio.NewReaderSize(c, readBuffer)}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	_ = c.SetDeadline(time.Now().Add(dialTime))
	if err := l.write(connectPacket(device, will)); err != nil {
		return nil, err
	}
	if err := l.expect(0x20, func(p []byte) bool { return len(p) == 2 && p[1] == 0 }); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	filter := protocol.DownFilter(device)
	body := append(text([]byte{0, 1}, filter), 1)
	if err := l.write(append([]byte{0x82, byte(len(body))}, body...)); err != nil {
		return nil, err
	}
	if err := l.expect(0x90, func(p []byte) bool { return len(p) == 3 && p[2] == 1 }); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	l.id = 1
	return l, c.SetDeadline(time.Time{})
}

// connectPacket is section 3.1: a clean session, the device's name as client id and user.
func connectPacket(device protocol.DeviceID, will []byte) []byte {
	body := text(nil, "MQTT")
	body = append(body, 4, 0x80|0x02|0x04|0x08, 0, keepalive) // user, clean, will of QoS 1
	body = text(body, string(device))
	body = text(body, string(protocol.TopicOf(device, protocol.UpConn)))
	body = text(body, string(will))
	body = text(body, string(device))
	return append(binary.AppendUvarint([]byte{0x10}, uint64(len(body))), body...)
}

// text is a length of two bytes and so many bytes, section 1.5.3.
func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func (l *link) expect(first byte, good func([]byte) bool) error {
	head, body, err := l.read(nil)
	if err != nil {
		return err
	}
	if head != first || !good(body) {
		return fmt.Errorf("%w: %x %x", errPacket, head, body)
	}
	return nil
}

// read is the next packet; its body may stand in buf, and is no longer than we accept.
func (l *link) read(buf []byte) (head byte, body []byte, err error) {
	if head, err = l.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(l.in)
	if err != nil {
		return 0, nil, err
	}
	if n > maxPacket {
		return 0, nil, fmt.Errorf("%w: %d bytes", errPacket, n)
	}
	if uint64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	_, err = io.ReadFull(l.in, buf[:n])
	return head, buf[:n], err
}

// serve hands what is published to in, which must keep nothing of it, until the connection ends.
func (l *link) serve(in func(protocol.Topic, []byte)) error {
	var buf []byte
	for {
		head, body, err := l.read(buf)
		if err != nil {
			return err
		}
		if head>>4 != 3 {
			continue // PUBACK, PINGRESP
		}
		if len(body) < 2 {
			return errPacket
		}
		n := int(binary.BigEndian.Uint16(body))
		payload := 2 + n
		if head&6 != 0 {
			payload += 2
		}
		if payload > len(body) {
			return errPacket
		}
		if head&6 != 0 {
			if err := l.write([]byte{0x40, 2, body[2+n], body[3+n]}); err != nil {
				return err
			}
		}
		in(protocol.Topic(body[2:2+n]), body[payload:])
		if buf = body; cap(buf) > keptBuffer {
			buf = nil
		}
	}
}

// publish sends with QoS 1 and waits for nothing: what matters is answered by the cloud itself.
func (l *link) publish(topic protocol.Topic, payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id++; l.id == 0 {
		l.id = 1
	}
	l.out = append(l.out[:0], 0x32)
	l.out = binary.AppendUvarint(l.out, uint64(2+len(topic)+2+len(payload)))
	l.out = text(l.out, string(topic))
	l.out = binary.BigEndian.AppendUint16(l.out, l.id)
	l.out = append(l.out, payload...)
	err := l.send(l.out)
	if cap(l.out) > keptBuffer {
		l.out = nil
	}
	return err
}

func (l *link) ping() error { return l.write([]byte{0xc0, 0}) }

func (l *link) write(p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.send(p)
}

func (l *link) send(p []byte) error {
	_ = l.conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := l.conn.Write(p)
	return err
}

// close ends the connection without the orderly end of TLS, which waits for a peer.
func (l *link) close() { _ = l.conn.NetConn().Close() }

// gone reports an end of the connection that we made.
func gone(err error) bool { return errors.Is(err, net.ErrClosed) }
