// Package broker is the MQTT server the agents talk to: mochi, wrapped so that one client can hurt
// neither another nor the process.
//
//	b, err := broker.New(broker.Config{TLS: tlsConfig, Tap: relayQueue})
//	go b.Run(ctx)
//	err = b.Publish(ctx, topic, payload) // accepted, not delivered
//	b.Kick("snack-1")
//
// Remote is the cloud's end at a broker that runs elsewhere, and what such a one cannot do. Of the one
// in here:
//
//   - Who a client is comes from its certificate alone; client id and user name must be the same.
//     A device writes coinop/v1/{id}/up/…, reads coinop/v1/{id}/dn/…, and nothing else.
//   - mochi reads only bytes the guard has let through: seven kinds of packet, each checked to its
//     last byte. Anything else closes the connection; every reason has a counter. A device that has
//     subscribed as agents do is served without mochi from then on.
//   - Publish never waits for a device. One that does not read is closed when 2 MiB wait for it.
//   - A connection that sends more than its share is slowed. Strangers are few.
//   - A second connection of a device closes the first and waits for it before it is answered.
//   - A panic while serving one connection ends that connection, with its will; the broker lives.
//   - A PUBACK promises nothing: the tap has queued the message, or refused it and no PUBACK went.
//
// Nothing is kept: no retained messages, no sessions, no storage.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"coinop/protocol"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Message is what a device published, or its last will.
type Message struct {
	Device  protocol.DeviceID
	Topic   protocol.Topic
	Payload []byte
	Will    bool
}

// ErrBusy is a tap's word that its queue is full: the message is not acknowledged and its sender
// will send it again.
var ErrBusy = errors.New("busy")

// Config of a broker. TLS and Tap are required.
type Config struct {
	Addr string      // host:port; "" = 127.0.0.1:0
	TLS  *tls.Config // must demand and verify client certificates
	// Tap takes every message of a device. It queues and returns; it runs on the client's goroutine.
	Tap func(Message) error
	// Allowed says whether a certificate may connect (not revoked); nil = all that verify.
	Allowed    func(protocol.DeviceID, string) error
	MaxClients int64 // 0 = 50,000
	// MaxStrangers and MaxStrangersPerAddress bound the connections that have not got past CONNECT;
	// 0 = 4,096 and 1,024: a site of machines behind one address comes back at once after an outage.
	MaxStrangers, MaxStrangersPerAddress int
	Rate                                 Rate         // of one connection
	Log                                  *slog.Logger // nil = discard
}

// Limits of a connection.
const (
	connectTime   = 10 * time.Second // from accept to the end of CONNECT
	takeoverTime  = 2 * time.Second  // for the old connection's goroutine to end
	minKeepalive  = 10               // seconds
	maxKeepalive  = 60
	maxPending    = 128
	maxInflight   = 64
	acceptBackoff = 50 * time.Millisecond
)

// Broker is one MQTT listener.
type Broker struct {
	cfg    Config
	server *mqtt.Server
	door   *door
	stats  Stats
	deaf   atomic.Int64 // messages to devices that acknowledged none of those before, on the short way
}

// New listens; Run serves.
func New(cfg Config) (*Broker, error) {
	if cfg.Tap == nil || cfg.TLS == nil || cfg.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		return nil, errors.New("broker: needs a tap and a TLS configuration that verifies client certificates")
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.MaxClients == 0 {
		cfg.MaxClients = 50_000
	}
	if cfg.MaxStrangers == 0 {
		cfg.MaxStrangers = 4096
	}
	if cfg.MaxStrangersPerAddress == 0 {
		cfg.MaxStrangersPerAddress = 1024
	}
	cfg.Rate = cfg.Rate.filled()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClients = cfg.MaxClients
	caps.MaximumPacketSize = maxPublish + maxHeader
	caps.MaximumClientWritesPending = maxPending
	caps.MaximumInflight, caps.ReceiveMaximum = maxInflight, maxInflight
	caps.MaximumSessionExpiryInterval = 0
	caps.MinimumProtocolVersion = 4
	caps.MaximumQos, caps.RetainAvailable = 1, 0
	caps.SharedSubAvailable, caps.SubIDAvailable = 0, 0
	b := &Broker{cfg: cfg}
	b.server = mqtt.New(&mqtt.Options{
		Capabilities: caps, InlineClient: true, Logger: slog.New(slog.DiscardHandler), // its logs carry packets
		SysTopicResendInterval:  24 * 60 * 60,
		ClientNetReadBufferSize: 64, // conn has read the packet already
	})
	b.door = &door{b: b, l: l, conns: map[*conn]bool{}, devices: map[protocol.DeviceID]*conn{}, crowd: map[netip.Addr]int{}}
	if err := b.server.AddHook(&hook{b: b}, nil); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := b.server.AddListener(b.door); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return b, nil
}

// Addr is where it listens.
func (b *Broker) Addr() string { return b.door.l.Addr().String() }

// Ready is closed: it listens from the start.
func (b *Broker) Ready() <-chan struct{} { return listening }

var listening = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Stats are the counters; they only grow.
func (b *Broker) Stats() *Stats { return &b.stats }

// Run serves until ctx ends, and returns after the last connection's goroutine has ended.
func (b *Broker) Run(ctx context.Context) error {
	if err := b.server.Serve(); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	<-ctx.Done()
	b.door.shut()
	err := b.server.Close()
	b.door.wg.Wait()
	return err
}

// Publish hands a message to the device that subscribed its topic. nil means accepted, not
// delivered: what matters is answered by the device itself.
func (b *Broker) Publish(_ context.Context, topic protocol.Topic, payload []byte) error {
	if len(topic) <= maxTopic && len(payload) <= protocol.MaxMessage {
		d, _, err := protocol.ParseTopic(topic)
		b.door.mu.Lock()
		c := b.door.devices[d]
		b.door.mu.Unlock()
		if err == nil && c != nil && c.listens.Load() {
			if !c.tell(topic, payload) {
				b.deaf.Add(1)
			}
			return nil
		}
	}
	return b.server.Publish(string(topic), payload, false, 1)
}

// Kick closes a device's connection, if it has one.
func (b *Broker) Kick(d protocol.DeviceID) {
	b.door.mu.Lock()
	c := b.door.devices[d]
	b.door.mu.Unlock()
	if c != nil {
		c.abort()
	}
}

// Connected is the number of connections that are past CONNECT.
func (b *Broker) Connected() int64 {
	b.door.mu.Lock()
	defer b.door.mu.Unlock()
	return int64(len(b.door.devices))
}

// InflightDropped is how many messages were dropped because their device had acknowledged none of the
// 64 before. mochi tells nobody of its own.
func (b *Broker) InflightDropped() int64 {
	return b.deaf.Load() + atomic.LoadInt64(&b.server.Info.InflightDropped)
}

// tap hands a message on. A will is handed on even when the queue refuses it: it is only news.
func (b *Broker) tap(m Message) error {
	if err := b.cfg.Tap(m); err != nil {
		b.stats.Busy.Add(1)
		return packets.ErrRejectPacket
	}
	return nil
}
