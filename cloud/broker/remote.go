package broker

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"coinop/protocol"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// Remote is the cloud's end at a broker that runs elsewhere, for as many replicas as there are:
//
//	r, err := broker.NewRemote(broker.RemoteConfig{URL: "mqtts://mqtt.internal:8884", TLS: tlsConfig, Tap: relayQueue})
//	go r.Run(ctx)
//
// What it promises:
//
//   - What devices say is shared out among the connections of all replicas ($share): each message
//     comes to one of them. Who comes and goes (up/conn) every replica hears.
//   - Who said something is in the topic, which the broker's access list protects. What is worth
//     money the relay believes by its seal alone.
//   - A message is acknowledged when the tap has queued it. One it has no room for, or that is more than
//     its device's share, is acknowledged too, and counted: nobody would send it again for want of a PUBACK, and 64 of those would close the
//     window of a connection for every other device. Its sender's own timer repeats it.
//   - Publish queues and returns. What waits is bounded; what is lost with a connection is counted.
//   - A lost connection is made again, after 100 ms at first and never later than 10 s.
//
// What the broker inside can do and this cannot is in docs/decisions/0021.
type Remote struct {
	cfg   RemoteConfig
	addr  string
	id    string // of this replica's clients, but for their number
	out   chan outgoing
	up    atomic.Int64
	share *shares
	ready chan struct{}
	once  sync.Once
	stats Stats
}

// RemoteConfig of a Remote. URL, TLS and Tap are required.
type RemoteConfig struct {
	URL string      // mqtts://host:port
	TLS *tls.Config // the cloud's certificate and who vouches for the broker
	// Tap takes every message of a device. It queues and returns.
	Tap         func(Message) error
	Group       string       // that all replicas share; "coinop"
	User        string       // user name, for a broker that wants one: "coinop.cloud"
	Connections int          // 0 = 4
	Rate        Rate         // of one device; what is more is dropped
	Log         *slog.Logger // nil = discard
}

// ErrURL means a broker's address that is no mqtts://host:port.
var ErrURL = errors.New("want mqtts://host:port")

// Limits of a Remote.
const (
	maxOut        = 4096 // messages to devices that wait for a connection
	maxUnacked    = 256  // messages on one connection that the broker has not acknowledged
	remoteDial    = 10 * time.Second
	remoteWrite   = 5 * time.Second
	remoteAlive   = 10 * time.Second // keepalive
	remoteSilence = 15 * time.Second
	backoffLeast  = 100 * time.Millisecond
	backoffMost   = 10 * time.Second
)

// sharedLeaves are what one replica of all hears; otlp is telemetry, whose signals are leaves below it.
var sharedLeaves = []protocol.Leaf{protocol.UpAuth, protocol.UpJournal, protocol.UpEvent, protocol.UpReply, "up/otlp/#"}

type outgoing struct {
	topic   protocol.Topic
	payload []byte
}

// NewRemote starts nothing; Run does.
func NewRemote(cfg RemoteConfig) (*Remote, error) {
	if cfg.Tap == nil || cfg.TLS == nil || len(cfg.TLS.Certificates) == 0 {
		return nil, errors.New("broker: needs a tap and a TLS configuration with a certificate")
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "mqtts" || u.Hostname() == "" || u.Port() == "" || u.User != nil || u.Path != "" {
		return nil, fmt.Errorf("broker %q: %w", cfg.URL, ErrURL)
	}
	if cfg.Group == "" {
		cfg.Group = "coinop"
	}
	if cfg.User == "" {
		cfg.User = "coinop.cloud"
	}
	if cfg.Connections == 0 {
		cfg.Connections = 4
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	return &Remote{
		cfg: cfg, addr: u.Host, id: "coinop.cloud." + hex.EncodeToString(id[:]),
		out: make(chan outgoing, maxOut), share: newShares(cfg.Rate), ready: make(chan struct{}),
	}, nil
}

// Addr is the broker's.
func (r *Remote) Addr() string { return r.addr }

// Stats are the counters; they only grow.
func (r *Remote) Stats() *Stats { return &r.stats }

// Ready is closed when the first connection hears what devices say.
func (r *Remote) Ready() <-chan struct{} { return r.ready }

// Up is how many connections stand now, of how many.
func (r *Remote) Up() (up, of int) { return int(r.up.Load()), r.cfg.Connections }

// Publish hands a message to the broker. nil means accepted, not delivered: what matters is answered
// by the device itself. ErrBusy: too much waits already.
func (r *Remote) Publish(_ context.Context, topic protocol.Topic, payload []byte) error {
	select {
	case r.out <- outgoing{topic, payload}:
		return nil
	default:
		r.stats.Dropped.Add(1)
		return ErrBusy
	}
}

// Run serves until ctx ends, and returns after the last connection has ended. A broker that is not
// there is waited for.
func (r *Remote) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for n := range r.cfg.Connections {
		wg.Go(func() { r.keep(ctx, n) })
	}
	wg.Wait()
	return nil
}

// keep makes the nth connection again and again.
func (r *Remote) keep(ctx context.Context, n int) {
	wait := backoffLeast
	for ctx.Err() == nil {
		began := time.Now()
		stood, err := r.connection(ctx, n)
		if ctx.Err() != nil {
			return
		}
		if stood {
			r.stats.Lost.Add(1)
		}
		if stood && time.Since(began) > backoffMost {
			wait = backoffLeast
		}
		r.cfg.Log.Warn("no connection to the broker", "broker", r.addr, "connection", n, "error", err, "again_in", wait)
		select {
		case <-time.After(wait/2 + mathrand.N(wait)): //nolint:gosec // jitter
		case <-ctx.Done():
		}
		wait = min(2*wait, backoffMost)
	}
}

// connection connects, subscribes, and serves until the connection ends; stood says that it came that far.
func (r *Remote) connection(ctx context.Context, n int) (stood bool, err error) {
	lost := make(chan error, 1)
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tls://" + r.addr).
		SetClientID(fmt.Sprintf("%s.%d", r.id, n)).SetUsername(r.cfg.User).SetProtocolVersion(4).
		SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).
		SetAutoAckDisabled(true).SetOrderMatters(true).
		SetKeepAlive(remoteAlive).SetPingTimeout(remoteSilence - remoteAlive).SetWriteTimeout(remoteWrite).SetConnectTimeout(remoteDial).
		SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err }).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return r.open(ctx) }))
	defer c.Disconnect(50)
	if err := settled(ctx, c.Connect()); err != nil {
		return false, fmt.Errorf("connect: %w", err)
	}
	filters := map[string]byte{}
	for _, l := range sharedLeaves {
		filters["$share/"+r.cfg.Group+"/"+protocol.UpFilter(l)] = 1
	}
	if n == 0 {
		filters[protocol.UpFilter(protocol.UpConn)] = 1
	}
	t := c.SubscribeMultiple(filters, func(_ paho.Client, m paho.Message) { r.take(m) })
	if err := settled(ctx, t); err != nil {
		return false, fmt.Errorf("subscribe: %w", err)
	}
	for filter, code := range t.(*paho.SubscribeToken).Result() {
		if code > 1 {
			return false, fmt.Errorf("subscribe %s: refused; does the broker's access list know the cloud's certificate?", filter)
		}
	}
	r.up.Add(1)
	defer r.up.Add(-1)
	r.once.Do(func() { close(r.ready) })
	r.cfg.Log.Info("connected to the broker", "broker", r.addr, "connection", n)
	return true, r.send(ctx, c, lost)
}

// take is what paho calls with one message after the other.
func (r *Remote) take(m paho.Message) {
	topic := protocol.Topic(m.Topic())
	d, _, err := protocol.ParseTopic(topic)
	switch {
	case err != nil:
		r.stats.count(ReasonDenied)
	case !r.share.take(time.Now(), d, len(m.Payload())):
		r.stats.count(ReasonRate)
	case r.cfg.Tap(Message{Device: d, Topic: topic, Payload: m.Payload()}) != nil:
		r.stats.Busy.Add(1)
	}
	m.Ack()
}

// send publishes what waits until the connection is lost or ctx ends.
func (r *Remote) send(ctx context.Context, c paho.Client, lost <-chan error) error {
	tokens := make(chan paho.Token, maxUnacked)
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { r.count(tokens, over) })
	defer wg.Wait()
	defer close(tokens)
	defer close(over)
	for {
		select {
		case m := <-r.out:
			select {
			case tokens <- c.Publish(string(m.topic), 1, false, m.payload):
			case err := <-lost:
				r.stats.Dropped.Add(1)
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case err := <-lost:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// count waits for the broker's PUBACKs, in the order of the messages, and counts those that never come.
func (r *Remote) count(tokens <-chan paho.Token, over <-chan struct{}) {
	for t := range tokens {
		select {
		case <-t.Done():
		case <-over:
		}
		select {
		case <-t.Done():
			if t.Error() == nil {
				continue
			}
		default:
		}
		r.stats.Dropped.Add(1)
	}
}

func (r *Remote) open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, remoteDial)
	defer cancel()
	c, err := (&tls.Dialer{Config: r.cfg.TLS}).DialContext(ctx, "tcp", r.addr)
	if err != nil {
		return nil, err
	}
	return &remoteConn{Conn: c}, nil
}

func settled(ctx context.Context, t paho.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(remoteDial):
		return errors.New("no answer")
	}
}

// remoteConn is the connection paho reads from: a packet announced longer than any we accept ends
// it, and every write, and every silence, has an end.
type remoteConn struct {
	net.Conn
	frames protocol.Frames
}

func (c *remoteConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(remoteSilence)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if bad := c.frames.Follow(p[:n], maxPublish); bad != nil {
		return 0, errors.Join(bad, c.Close())
	}
	return n, err
}

func (c *remoteConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(remoteWrite)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
