package brokertest

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Packet types as they stand in the first byte of a packet (OASIS mqtt-v3.1.1, section 2.2.1).
const (
	connack     = 0x20
	publishType = 0x30
	puback      = 0x40
	suback      = 0x90
	unsuback    = 0xb0
	pingresp    = 0xd0
)

// packet is one as it came.
type packet struct {
	head byte
	body []byte
}

func (p packet) kind() byte { return p.head & 0xf0 }

// message is a PUBLISH taken apart.
type message struct {
	topic   string
	id      uint16
	payload []byte
}

func (p packet) message() (message, error) {
	var m message
	if len(p.body) < 2 {
		return m, errors.New("PUBLISH without a topic")
	}
	n := 2 + int(binary.BigEndian.Uint16(p.body))
	if n > len(p.body) {
		return m, errors.New("PUBLISH shorter than its topic")
	}
	m.topic, m.payload = string(p.body[2:n]), p.body[n:]
	if p.head&0x06 != 0 {
		if len(m.payload) < 2 {
			return m, errors.New("PUBLISH without a packet id")
		}
		m.id, m.payload = binary.BigEndian.Uint16(m.payload), m.payload[2:]
	}
	return m, nil
}

func word(n uint16) string { return string(binary.BigEndian.AppendUint16(nil, n)) }

// text is a length and so many bytes, right or wrong.
func text(s string) string { return word(uint16(len(s))) + s }

func frame(head byte, body string) []byte {
	b := []byte{head}
	for n := len(body); ; {
		d := byte(n % 128)
		if n /= 128; n > 0 {
			b = append(b, d|0x80)
			continue
		}
		return append(append(b, d), body...)
	}
}

func numbered(head byte, id uint16, body string) []byte { return frame(head, word(id)+body) }

// publish makes a PUBLISH of any flags; the packet id is there when the QoS is not 0.
func publish(head byte, topic string, id uint16, payload string) []byte {
	if head&0x06 == 0 {
		return frame(head, text(topic)+payload)
	}
	return frame(head, text(topic)+word(id)+payload)
}

// hello is a CONNECT of which anything can be wrong.
type hello struct {
	name      string
	level     byte
	flags     byte
	keepalive uint16
	id, user  string
	topic     string // of the will
	will      string
	extra     string // behind all
}

func (h hello) bytes() []byte {
	b := text(h.name) + string([]byte{h.level, h.flags}) + word(h.keepalive)
	if h.level == 5 {
		b += "\x00" // no properties
	}
	b += text(h.id)
	if h.flags&0x04 != 0 {
		if h.level == 5 {
			b += "\x00"
		}
		b += text(h.topic) + text(h.will)
	}
	if h.flags&0x80 != 0 {
		b += text(h.user)
	}
	return frame(0x10, b+h.extra)
}

// helloOf is what an agent sends.
func helloOf(device string, change ...func(*hello)) hello {
	h := hello{name: "MQTT", level: 4, flags: 0x82, keepalive: 60, id: device, user: device}
	for _, f := range change {
		f(&h)
	}
	return h
}

func withWill(payload string) func(*hello) {
	return func(h *hello) { h.flags, h.topic, h.will = h.flags|0x0c, up(h.id, "conn"), payload }
}

// client is one end of a connection.
type client struct {
	t          testing.TB
	id         string
	c          *tls.Conn
	r          *bufio.Reader
	subscribes bool
}

// dial makes a connection, with a certificate and nothing said.
func (s *suite) dial(t testing.TB, device string) *client {
	t.Helper()
	raw, err := (&net.Dialer{Timeout: answerTime}).Dial("tcp", s.Addr)
	if err != nil {
		t.Fatalf("%s: %v", device, err)
	}
	return s.secure(t, device, raw)
}

func (s *suite) secure(t testing.TB, device string, raw net.Conn) *client {
	t.Helper()
	t.Cleanup(func() { raw.Close() })
	c := tls.Client(raw, s.Device(device))
	_ = c.SetDeadline(time.Now().Add(answerTime))
	if err := c.Handshake(); err != nil {
		t.Fatalf("%s: %v", device, err)
	}
	return &client{t: t, id: device, c: c, r: bufio.NewReader(c), subscribes: s.Subscribed}
}

// device makes a connection that is past CONNECT.
func (s *suite) device(t testing.TB, name string, change ...func(*hello)) *client {
	t.Helper()
	c := s.dial(t, name)
	c.connect(change...)
	return c
}

func (c *client) connect(change ...func(*hello)) {
	c.t.Helper()
	c.send(helloOf(c.id, change...).bytes())
	if p := c.recv(); p.head != connack || string(p.body) != "\x00\x00" {
		c.t.Fatalf("%s: %x %x instead of CONNACK", c.id, p.head, p.body)
	}
	if c.subscribes {
		if code := c.subscribe(down(c.id, "#")); code != 1 {
			c.t.Fatalf("%s: SUBACK %#x", c.id, code)
		}
	}
}

func (c *client) send(p []byte) {
	c.t.Helper()
	_ = c.c.SetWriteDeadline(time.Now().Add(answerTime))
	if _, err := c.c.Write(p); err != nil {
		c.t.Fatalf("%s: %v", c.id, err)
	}
}

// read reads a packet under whatever deadline there is.
func (c *client) read() (packet, error) {
	head, err := c.r.ReadByte()
	if err != nil {
		return packet{}, err
	}
	n := 0
	for shift := 0; ; shift += 7 {
		d, err := c.r.ReadByte()
		if err != nil {
			return packet{}, err
		}
		if shift > 21 {
			return packet{}, errors.New("a length of five bytes")
		}
		n |= int(d&0x7f) << shift
		if d < 0x80 {
			break
		}
	}
	p := packet{head: head, body: make([]byte, n)}
	_, err = io.ReadFull(c.r, p.body)
	return p, err
}

func (c *client) recv() packet {
	c.t.Helper()
	_ = c.c.SetReadDeadline(time.Now().Add(answerTime))
	p, err := c.read()
	if err != nil {
		c.t.Fatalf("%s: %v", c.id, err)
	}
	return p
}

// want reads a packet and compares it.
func (c *client) want(head byte, body string) {
	c.t.Helper()
	if p := c.recv(); p.head != head || string(p.body) != body {
		c.t.Fatalf("%s: got %x %q, want %x %q", c.id, p.head, p.body, head, body)
	}
}

// wantMessage reads a PUBLISH and acknowledges it.
func (c *client) wantMessage(topic, payload string) {
	c.t.Helper()
	p := c.recv()
	m, err := p.message()
	if err != nil || p.kind() != publishType || m.topic != topic || string(m.payload) != payload {
		c.t.Fatalf("%s: got %x %q %q (%v), want %q on %s", c.id, p.head, m.topic, m.payload, err, payload, topic)
	}
	if p.head&0x09 != 0 || p.head&0x06 == 0x02 && m.id == 0 {
		c.t.Fatalf("%s: DUP, RETAIN or no packet id: %x", c.id, p.head)
	}
	if m.id != 0 {
		c.send(numbered(0x40, m.id, ""))
	}
}

// subscribe returns the code of the only filter.
func (c *client) subscribe(filter string) byte {
	c.t.Helper()
	c.send(numbered(0x82, 7, text(filter)+"\x01"))
	p := c.recv()
	if p.head != suback || len(p.body) != 3 || !strings.HasPrefix(string(p.body), "\x00\x07") {
		c.t.Fatalf("%s: %x %x instead of SUBACK", c.id, p.head, p.body)
	}
	return p.body[2]
}

// ping proves that the connection lives and that nothing else has come.
func (c *client) ping() {
	c.t.Helper()
	c.send(frame(0xc0, ""))
	c.want(pingresp, "")
}

// closed waits for the broker to end the connection, and returns what came before.
func (c *client) closed() ([]packet, error) {
	var got []packet
	_ = c.c.SetReadDeadline(time.Now().Add(closeTime))
	for {
		p, err := c.read()
		if gone(err) {
			return got, nil
		}
		if err != nil {
			return got, fmt.Errorf("still connected after %s", closeTime)
		}
		got = append(got, p)
	}
}

// finish says that nothing more comes, and waits for the broker to draw the line.
func (c *client) finish() ([]packet, error) {
	_ = c.c.CloseWrite()
	return c.closed()
}

// cut ends the connection as a pulled cable's timeout would: without a word.
func (c *client) cut() { _ = c.c.NetConn().Close() }

// Client is a device that is past CONNECT, for other tests of brokers.
type Client struct {
	c  *client
	id uint16
}

// Dial connects a device.
func Dial(t testing.TB, addr string, certificate func(name string) *tls.Config, device string) *Client {
	t.Helper()
	s := &suite{Broker: Broker{Addr: addr, Device: certificate}}
	return &Client{c: s.device(t, device)}
}

// Subscribe subscribes a filter with QoS 1.
func (c *Client) Subscribe(filter string) {
	c.c.t.Helper()
	if code := c.c.subscribe(filter); code != 1 {
		c.c.t.Fatalf("SUBACK %#x", code)
	}
}

// Publish sends with QoS 1 and waits for the PUBACK.
func (c *Client) Publish(topic, payload string) {
	c.c.t.Helper()
	c.id = c.id%0xffff + 1
	c.c.send(publish(0x32, topic, c.id, payload))
	c.c.want(puback, word(c.id))
}

// WantMessage waits for one, acknowledges it and compares it.
func (c *Client) WantMessage(topic, payload string) {
	c.c.t.Helper()
	c.c.wantMessage(topic, payload)
}
