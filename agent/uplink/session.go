package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"coinop/protocol"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Dialer makes one MQTT session with the broker. It never connects again by itself: whoever owns it
// dials anew with a new connection number and, between two tries, waits with jitter.
type Dialer struct {
	Addr   string      // host:port of the broker
	TLS    *tls.Config // the device's certificate and the authority it trusts
	Device protocol.DeviceID
	Will   []byte // payload of the last will on up/conn
}

// Spans of a session. Silence is told by the read deadline: the broker answers a ping every
// keepalive, so a half-open link is noticed within 45 s.
const (
	dialTime  = 10 * time.Second
	keepalive = 30 * time.Second
	silence   = 45 * time.Second
	writeTime = 10 * time.Second
)

// ErrRefused means that the broker does not let this device in. Retrying does not help until somebody
// has added the device, or given it its new identity.
var ErrRefused = errors.New("the broker refuses this device")

// Session is one connection. Its methods may be called from any goroutine.
type Session struct {
	client mqtt.Client
	device protocol.DeviceID
	lost   chan struct{}
	once   sync.Once
	mu     sync.Mutex
	why    error
}

// Dial connects, subscribes the device's dn/ topics and hands what arrives to in, which must not
// block. When it returns without error the subscription stands.
func (d Dialer) Dial(ctx context.Context, in func(Inbound)) (*Session, error) {
	s := &Session{device: d.Device, lost: make(chan struct{})}
	o := mqtt.NewClientOptions().AddBroker("tls://" + d.Addr).
		SetClientID(string(d.Device)).SetUsername(string(d.Device)).SetProtocolVersion(4).
		SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).SetOrderMatters(false).
		SetKeepAlive(keepalive).SetPingTimeout(silence - keepalive).SetWriteTimeout(writeTime).SetConnectTimeout(dialTime).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { s.end(err) }).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return d.open(ctx) })
	if d.Will != nil {
		o.SetBinaryWill(string(protocol.TopicOf(d.Device, protocol.UpConn)), d.Will, 1, false)
	}
	s.client = mqtt.NewClient(o)
	if err := settled(ctx, s.client.Connect()); err != nil {
		s.Close()
		if errors.Is(err, packets.ErrorRefusedNotAuthorised) || errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) {
			err = ErrRefused
		}
		return nil, fmt.Errorf("connect to %s: %w", d.Addr, err)
	}
	t := s.client.Subscribe(protocol.DownFilter(d.Device), 1, func(_ mqtt.Client, m mqtt.Message) {
		in(Inbound{Topic: protocol.Topic(m.Topic()), Payload: m.Payload()})
	})
	err := settled(ctx, t)
	if err == nil && t.(*mqtt.SubscribeToken).Result()[protocol.DownFilter(d.Device)] > 1 {
		err = errors.New("subscription refused: is this device's certificate the right one?")
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("subscribe at %s: %w", d.Addr, err)
	}
	return s, nil
}

func (d Dialer) open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	c, err := (&tls.Dialer{Config: d.TLS}).DialContext(ctx, "tcp", d.Addr)
	if err != nil {
		return nil, err
	}
	return &bounded{Conn: c}, nil
}

func settled(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(dialTime):
		return errors.New("no answer")
	}
}

// Publish hands bytes to the session with QoS 1 and does not wait: what matters is answered by the
// cloud itself. An error means the session is over.
func (s *Session) Publish(topic protocol.Topic, payload []byte) error {
	if t := s.client.Publish(string(topic), 1, false, payload); t.Error() != nil {
		return t.Error()
	}
	return nil
}

// Tell hands bytes to the session with QoS 0, for what may be lost, and waits until they have left.
func (s *Session) Tell(ctx context.Context, topic protocol.Topic, payload []byte) error {
	return settled(ctx, s.client.Publish(string(topic), 0, false, payload))
}

// Lost is closed when the session is over; Err then says why.
func (s *Session) Lost() <-chan struct{} { return s.lost }

// Err is why the session ended, or nil while it lives.
func (s *Session) Err() error { s.mu.Lock(); defer s.mu.Unlock(); return s.why }

// Close ends the session without its last will being told.
func (s *Session) Close() {
	s.client.Disconnect(250)
	s.end(net.ErrClosed)
}

func (s *Session) end(why error) {
	s.once.Do(func() {
		s.mu.Lock()
		s.why = why
		s.mu.Unlock()
		close(s.lost)
	})
}

// bounded is the connection paho reads from: a packet announced longer than any we accept ends it,
// and every write, and every silence, has an end.
type bounded struct {
	net.Conn
	frames protocol.Frames
}

const maxFrame = protocol.MaxMessage + 1024

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	n, err := b.Conn.Read(p)
	if bad := b.frames.Follow(p[:n], maxFrame); bad != nil {
		return 0, errors.Join(bad, b.Close())
	}
	return n, err
}

func (b *bounded) Write(p []byte) (int, error) {
	if err := b.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, err
	}
	return b.Conn.Write(p)
}
