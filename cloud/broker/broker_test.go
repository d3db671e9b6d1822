package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop/cloud/identity"
	"coinop/protocol"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		fmt.Fprintln(os.Stderr, helper(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// hall is a running broker, its authority and what its tap saw.
type hall struct {
	t    *testing.T
	b    *Broker
	addr string // of one that is not b
	ca   *identity.Authority
	tap  func(Message) error
	mu   sync.Mutex
	seen chan Message
}

func open(t *testing.T) *hall {
	t.Helper()
	now := time.Now()
	ca, err := identity.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server([]string{"127.0.0.1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	h := &hall{t: t, ca: ca, seen: make(chan Message, 1000)}
	h.b, err = New(Config{TLS: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{server.Cert}, PrivateKey: server.Key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: h.roots(), MinVersion: tls.VersionTLS13,
	}, Tap: func(m Message) error {
		h.mu.Lock()
		tap := h.tap
		h.mu.Unlock()
		if tap != nil {
			return tap(m)
		}
		h.seen <- m
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the broker did not stop")
		}
	})
	return h
}

func (h *hall) roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(h.ca.Cert)
	return p
}

func (h *hall) onTap(f func(Message) error) { h.mu.Lock(); h.tap = f; h.mu.Unlock() }

// client speaks MQTT 3.1.1 bytes (OASIS mqtt-v3.1.1) over mutual TLS.
type client struct {
	t  *testing.T
	c  *tls.Conn
	r  *bufio.Reader
	id string
}

func (h *hall) dial(cn string) *client {
	h.t.Helper()
	b, err := h.ca.Device(protocol.DeviceID(cn), time.Now(), identity.Cloud{})
	if err != nil {
		h.t.Fatal(err)
	}
	addr := h.addr
	if addr == "" {
		addr = h.b.Addr()
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{b.Cert}, PrivateKey: b.Key}}, RootCAs: h.roots(), MinVersion: tls.VersionTLS13,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.NetConn().Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: h.t, c: c, r: bufio.NewReader(c), id: cn}
}

func str(s string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s }

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

func (c *client) send(head byte, body string) {
	c.t.Helper()
	if _, err := c.c.Write(frame(head, body)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) recv() (byte, string, error) {
	head, err := c.r.ReadByte()
	if err != nil {
		return 0, "", err
	}
	n, shift := 0, 0
	for {
		d, err := c.r.ReadByte()
		if err != nil {
			return 0, "", err
		}
		n |= int(d&0x7f) << shift
		if shift += 7; d < 0x80 {
			break
		}
	}
	body := make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	return head, string(body), err
}

type connectOpt struct {
	id, user  string
	level     byte
	keepalive uint16
	will      string
}

// connect sends CONNECT and returns the return code of CONNACK, or an error when there was none.
func (c *client) connect(change ...func(*connectOpt)) (byte, error) {
	c.t.Helper()
	o := connectOpt{id: c.id, user: c.id, level: 4, keepalive: 30}
	for _, f := range change {
		f(&o)
	}
	flags := byte(0x82)
	payload := str(o.id)
	if o.will != "" {
		flags |= 0x04 | 0x08
		payload += str(string(protocol.TopicOf(protocol.DeviceID(c.id), protocol.UpConn))) + str(o.will)
	}
	payload += str(o.user)
	body := str("MQTT") + string([]byte{o.level, flags}) + string(binary.BigEndian.AppendUint16(nil, o.keepalive))
	if o.level == 5 {
		body += "\x00"
	}
	c.send(0x10, body+payload)
	head, ack, err := c.recv()
	if err != nil || head != 0x20 {
		return 0xff, errors.Join(err, errors.New("no CONNACK"))
	}
	return ack[1], nil
}

func (h *hall) connected(cn string, change ...func(*connectOpt)) *client {
	h.t.Helper()
	c := h.dial(cn)
	if code, err := c.connect(change...); code != 0 || err != nil {
		h.t.Fatalf("CONNECT of %s: %d %v", cn, code, err)
	}
	return c
}

func (c *client) subscribe(filter string) byte {
	c.t.Helper()
	c.send(0x82, "\x00\x07"+str(filter)+"\x01")
	head, body, err := c.recv()
	if err != nil || head != 0x90 {
		c.t.Fatalf("SUBACK: %x %v", head, err)
	}
	return body[2]
}

func (c *client) publish(topic, payload string) { c.send(0x32, str(topic)+"\x00\x09"+payload) }

// gone reports that the broker closed the connection within 3 s.
func (c *client) gone() bool {
	c.c.SetReadDeadline(time.Now().Add(3 * time.Second))
	for {
		if _, _, err := c.recv(); err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

func (h *hall) next() Message {
	h.t.Helper()
	select {
	case m := <-h.seen:
		return m
	case <-time.After(5 * time.Second):
		h.t.Fatal("the tap saw nothing")
		return Message{}
	}
}

func TestRoundTrip(t *testing.T) {
	h := open(t)
	c := h.connected("m1")
	if q := c.subscribe(protocol.DownFilter("m1")); q != 1 {
		t.Fatalf("SUBACK %#x", q)
	}
	c.publish("coinop/v1/m1/up/auth", "ask")
	if m := h.next(); m.Device != "m1" || m.Topic != "coinop/v1/m1/up/auth" || string(m.Payload) != "ask" || m.Will {
		t.Fatalf("%+v", m)
	}
	if head, _, err := c.recv(); head != 0x40 || err != nil {
		t.Fatalf("PUBACK: %x %v", head, err)
	}
	if err := h.b.Publish(t.Context(), protocol.TopicOf("m1", protocol.DnAuth), []byte("answer")); err != nil {
		t.Fatal(err)
	}
	if head, body, err := c.recv(); head&0xf0 != 0x30 || !strings.HasSuffix(body, "answer") || err != nil {
		t.Fatalf("%x %q %v", head, body, err)
	}
}

// What a device may not do: it is refused or closed, and a bystander does not notice.
func TestDenied(t *testing.T) {
	h := open(t)
	bystander := h.connected("by")
	bystander.subscribe(protocol.DownFilter("by"))
	for _, filter := range []string{
		"#", "+/v1/m1/dn/#", "coinop/v1/+/dn/#", "coinop/v1/m2/dn/auth", "coinop/v1/m1/up/#", "coinop/v1/m10/dn/#",
		"$SYS/#", "$share/g/coinop/v1/m1/dn/#", "coinop/view/#",
	} {
		c := h.connected("m1")
		c.send(0x82, "\x00\x07"+str(filter)+"\x01")
		if head, body, err := c.recv(); err == nil && head == 0x90 && body[2] != 0x80 {
			t.Errorf("%s: granted %#x", filter, body[2])
		}
	}
	for _, topic := range []string{"coinop/v1/m2/up/auth", "coinop/v1/m1/dn/auth", "x", "coinop/v1/by/dn/auth", "coinop/view/v1/a/b/num", "$SYS/x"} {
		c := h.connected("m1")
		c.publish(topic, "forged")
		if !c.gone() {
			t.Errorf("%s: not closed", topic)
		}
	}
	for name, f := range map[string]func(*connectOpt){
		"other client id": func(o *connectOpt) { o.id = "m2" },
		"other user":      func(o *connectOpt) { o.user = "m2" },
		"MQTT 5":          func(o *connectOpt) { o.level = 5 },
		"MQTT 3":          func(o *connectOpt) { o.level = 3 },
		"no keepalive":    func(o *connectOpt) { o.keepalive = 0 },
		"long keepalive":  func(o *connectOpt) { o.keepalive = 65535 },
	} {
		c := h.dial("m1")
		if code, err := c.connect(f); code == 0 && err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := h.connected("m1")
	c.c.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}) // 268,435,455 bytes announced
	if !c.gone() {
		t.Error("a length of 256 MiB was waited for")
	}
	if err := h.b.Publish(t.Context(), protocol.TopicOf("by", protocol.DnAuth), []byte("still here")); err != nil {
		t.Fatal(err)
	}
	if _, body, err := bystander.recv(); !strings.HasSuffix(body, "still here") || err != nil {
		t.Fatalf("bystander: %q %v", body, err)
	}
	if len(h.seen) != 0 {
		t.Fatalf("the tap saw %+v", <-h.seen)
	}
}

// The second connection takes over at once from one that neither reads nor writes, again and again,
// and what is published then reaches it. The old one's will is told before the new one's messages.
func TestTakeover(t *testing.T) {
	h := open(t)
	h.connected("m1", func(o *connectOpt) { o.will = "0" }).subscribe(protocol.DownFilter("m1"))
	for n := range 150 {
		start := time.Now()
		c := h.connected("m1", func(o *connectOpt) { o.will = "later" })
		if d := time.Since(start); d > time.Second {
			t.Fatalf("takeover %d took %s", n, d)
		}
		c.subscribe(protocol.DownFilter("m1"))
		if m := h.next(); !m.Will || m.Device != "m1" {
			t.Fatalf("%+v", m)
		}
		if err := h.b.Publish(t.Context(), protocol.TopicOf("m1", protocol.DnAck), []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, body, err := c.recv(); !strings.HasSuffix(body, "hello") || err != nil {
			t.Fatalf("takeover %d: deaf: %q %v", n, body, err)
		}
	}
	if n := h.b.Connected(); n != 1 {
		t.Fatalf("%d connected", n)
	}
}

// A panic in the middle of one connection ends that one, tells its will and leaves nothing behind.
func TestPanicEndsOneConnection(t *testing.T) {
	h := open(t)
	wills := make(chan Message, 1)
	h.onTap(func(m Message) error {
		if m.Will {
			wills <- m
			return nil
		}
		panic("poison")
	})
	c := h.connected("m1", func(o *connectOpt) { o.will = "bye" })
	c.subscribe(protocol.DownFilter("m1"))
	c.publish("coinop/v1/m1/up/auth", "x")
	if !c.gone() {
		t.Fatal("still connected")
	}
	select {
	case m := <-wills:
		if string(m.Payload) != "bye" || m.Topic != "coinop/v1/m1/up/conn" {
			t.Fatalf("%+v", m)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no will")
	}
	h.onTap(nil)
	c = h.connected("m1")
	c.publish("coinop/v1/m1/up/auth", "again")
	if m := h.next(); string(m.Payload) != "again" {
		t.Fatalf("%+v", m)
	}
	if n := h.b.Stats().Panics.Load(); n != 1 {
		t.Fatalf("%d panics counted", n)
	}
}

// A tap that is full means no PUBACK; the connection stays and the next message is acknowledged.
func TestBusy(t *testing.T) {
	h := open(t)
	h.onTap(func(m Message) error {
		if string(m.Payload) == "first" {
			return ErrBusy
		}
		return nil
	})
	c := h.connected("m1")
	c.send(0x32, str("coinop/v1/m1/up/auth")+"\x00\x01first")
	c.send(0x32, str("coinop/v1/m1/up/auth")+"\x00\x02second")
	if head, body, err := c.recv(); head != 0x40 || body != "\x00\x02" || err != nil {
		t.Fatalf("%x %q %v, want the PUBACK of the second", head, body, err)
	}
	if h.b.Stats().Busy.Load() != 1 {
		t.Fatal("not counted")
	}
}

func TestKickAndWill(t *testing.T) {
	h := open(t)
	c := h.connected("m1", func(o *connectOpt) { o.will = "gone" })
	h.b.Kick("nobody")
	h.b.Kick("m1")
	if !c.gone() {
		t.Fatal("still connected")
	}
	if m := h.next(); !m.Will || string(m.Payload) != "gone" {
		t.Fatalf("%+v", m)
	}
}

// A device that acknowledges nothing is sent 64 messages; what comes after is dropped, and counted.
func TestInflightDroppedIsCounted(t *testing.T) {
	h := open(t)
	c := h.connected("m1")
	c.subscribe(protocol.DownFilter("m1"))
	for range maxInflight + 10 {
		if err := h.b.Publish(t.Context(), protocol.TopicOf("m1", protocol.DnAuth), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.b.InflightDropped(); n != 10 {
		t.Fatalf("%d counted", n)
	}
}

func cat(p ...[]byte) []byte { return bytes.Join(p, nil) }

// What agents send and are told all day does not pass mochi; what was subscribed otherwise does, and
// nothing comes to who has unsubscribed.
func TestShortWay(t *testing.T) {
	h := open(t)
	up, dn := string(protocol.TopicOf("m1", protocol.UpAuth)), protocol.TopicOf("m1", protocol.DnAuth)
	mochi := func() int64 {
		i := h.b.server.Info
		return atomic.LoadInt64(&i.MessagesReceived) + atomic.LoadInt64(&i.MessagesSent)
	}
	c := h.connected("m1")
	for i, filter := range []string{string(dn), protocol.DownFilter("m1")} {
		c.subscribe(filter)
		before := mochi()
		c.publish(up, "ask")
		if head, body, err := c.recv(); err != nil || head != 0x40 || body != "\x00\x09" {
			t.Fatalf("%x %x %v", head, body, err)
		}
		if m := h.next(); m.Device != "m1" || string(m.Topic) != up || string(m.Payload) != "ask" || m.Will {
			t.Fatalf("%+v", m)
		}
		for n := range uint16(3) {
			if err := h.b.Publish(t.Context(), dn, []byte("answer")); err != nil {
				t.Fatal(err)
			}
			head, body, err := c.recv()
			rest, ok := strings.CutPrefix(body, str(string(dn)))
			if err != nil || head != 0x32 || !ok || rest[2:] != "answer" {
				t.Fatalf("%x %q %v", head, body, err)
			}
			if id := binary.BigEndian.Uint16([]byte(rest)); i == 1 && id != firstNumber+1+n {
				t.Errorf("packet %x", id)
			}
			c.send(0x40, rest[:2])
		}
		if passed := mochi() - before; i == 0 && passed < 3 || i == 1 && passed != 0 {
			t.Errorf("subscribed to %s: %d messages passed mochi", filter, passed)
		}
	}
	for _, f := range []string{string(dn), protocol.DownFilter("m1")} {
		c.send(0xa2, "\x00\x07"+str(f))
		if head, _, err := c.recv(); err != nil || head != 0xb0 {
			t.Fatalf("%x %v", head, err)
		}
	}
	if err := h.b.Publish(t.Context(), dn, []byte("nobody listens")); err != nil {
		t.Fatal(err)
	}
	c.send(0xc0, "")
	if head, body, err := c.recv(); err != nil || head != 0xd0 {
		t.Fatalf("%x %q %v", head, body, err)
	}
}
