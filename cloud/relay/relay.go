// Package relay is the way from a device's message to the service that answers it, and back. It is
// the only place that parses a topic or opens a seal.
//
//	r := relay.New(relay.Config{Device: store.Device, Key: relayKey, Payments: svc, Intake: in, ...})
//	err := r.Receive(msg)          // the broker's tap: queues by device and returns, or ErrBusy
//	err := r.Run(ctx)              // works the queues
//	err := r.Handle(ctx, now, msg) // what a worker does: synchronous, for the simulator
//
// It promises:
//   - a device's messages are handled one after the other, in the order they were queued;
//   - what does not open, or is not of the device that sent it, is dropped and counted;
//   - a message over which a handler panics is dropped and counted, and the next one is handled;
//   - whether a certificate is still good is asked for every message;
//   - what is told to a device leaves after the commit that it speaks of.
package relay

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"coinop/cloud/identity"
	"coinop/cloud/intake"
	"coinop/cloud/payment"
	"coinop/protocol"
	"coinop/protocol/seal"
)

// Message is what a device published, or its last will. The broker vouches for Device: it is the
// name in the certificate.
type Message struct {
	Device  protocol.DeviceID
	Topic   protocol.Topic
	Payload []byte
	Will    bool
}

// Config of a Relay. Device, Key, Signer, Payments, Intake, Publish and Run are needed.
type Config struct {
	// Device finds a registered device: the store.
	Device   func(context.Context, protocol.DeviceID) (identity.Device, error)
	Key      seal.PrivateKey // opens tickets
	Signer   seal.Signer     // signs checkpoints
	Payments *payment.Service
	Intake   *intake.Intake
	// Publish hands bytes to the broker; nil means accepted, not delivered.
	Publish func(context.Context, protocol.Topic, []byte) error
	// Effect gets what payment wants done beside telling the device: Send, Ask and Timer.
	Effect func(payment.Effect)
	// Kick closes a device's connection, after what was published to it had time to leave; nil: nobody does.
	Kick func(protocol.DeviceID)
	// Conn is told when a device comes and goes; nil: nobody.
	Conn func(protocol.Conn)
	// Asked is told of a request for an authorization, and the func it returns of its end; nil: nobody.
	Asked func(protocol.AuthorizationRequest) func(error)
	// Telemetry takes what a device says of itself; nil: nobody does.
	Telemetry func(protocol.DeviceID, protocol.Leaf, []byte) error
	Log       *slog.Logger // nil: discard
	Queue     int          // messages a worker may have waiting; 0 = 256
	Works     int          // workers, each waiting for a commit that many share; 0 = 256
}

// ErrBusy means that a device's queue is full. Its sender sends again.
var ErrBusy = errors.New("busy")

// ErrDropped wraps why a message was not handled: it is not worth repeating.
var ErrDropped = errors.New("dropped")

// Stats count by reason; they only grow.
type Stats struct {
	Handled, Dropped, Busy, Failed, Tickets, Untold, Panics atomic.Int64
}

// Relay is safe for concurrent use.
type Relay struct {
	cfg    Config
	queues []chan Message
	stats  Stats

	mu       sync.Mutex // guards what follows
	channels map[seal.ChannelID]*channel
	order    []seal.ChannelID
	latest   map[protocol.DeviceID]*channel
	conns    map[protocol.DeviceID]place
}

// place is a connection's: numbers begin again in a new epoch.
type place struct {
	epoch  protocol.Epoch
	number uint64
	online bool // as it was told; this replica may not have heard of its end
}

// channel is an opened ticket.
type channel struct {
	*seal.Channel
	ticket seal.Ticket
	opened protocol.UnixMS
}

// Limits of the ticket cache.
const (
	ticketLife   = 24 * time.Hour
	channelsMost = 200_000
)

// New makes a Relay.
func New(cfg Config) *Relay {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Queue == 0 {
		cfg.Queue = 256
	}
	if cfg.Works == 0 {
		cfg.Works = 256
	}
	r := &Relay{cfg: cfg, channels: map[seal.ChannelID]*channel{}, latest: map[protocol.DeviceID]*channel{}, conns: map[protocol.DeviceID]place{}}
	for range cfg.Works {
		r.queues = append(r.queues, make(chan Message, cfg.Queue))
	}
	return r
}

// Stats are the counters.
func (r *Relay) Stats() *Stats { return &r.stats }

// Receive queues a message, or returns ErrBusy. It never blocks.
func (r *Relay) Receive(m Message) error {
	h := fnv.New32a()
	h.Write([]byte(m.Device))
	select {
	case r.queues[h.Sum32()%uint32(len(r.queues))] <- m:
		return nil
	default:
		r.stats.Busy.Add(1)
		return ErrBusy
	}
}

// Run handles what was queued until ctx ends, and returns when no message is being handled.
func (r *Relay) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, q := range r.queues {
		wg.Go(func() {
			for {
				select {
				case m := <-q:
					if err := r.survive(ctx, m); err != nil {
						r.cfg.Log.Warn("message not handled", "device", m.Device, "topic", m.Topic, "error", err)
					}
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// survive is Handle for a worker: a message over which it panics costs that message, or every restart
// would end at its repeat. What it was about has been rolled back.
func (r *Relay) survive(ctx context.Context, m Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.stats.Panics.Add(1)
			r.cfg.Log.Error("message ended in a panic", "device", m.Device, "topic", m.Topic, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: a panic", ErrDropped)
		}
	}()
	return r.Handle(ctx, protocol.At(time.Now()), m)
}

// Handle does what a message asks for. An error that wraps ErrDropped says that the message can
// never be handled; after any other its sender's repeat may be.
func (r *Relay) Handle(ctx context.Context, now protocol.UnixMS, m Message) error {
	err := r.handle(ctx, now, m)
	switch {
	case err == nil:
		r.stats.Handled.Add(1)
	case errors.Is(err, ErrDropped):
		r.stats.Dropped.Add(1)
	default:
		r.stats.Failed.Add(1)
	}
	return err
}

func (r *Relay) handle(ctx context.Context, now protocol.UnixMS, m Message) error {
	device, leaf, err := protocol.ParseTopic(m.Topic)
	switch {
	case err != nil:
		return drop(err)
	case device != m.Device:
		return drop(fmt.Errorf("topic of %s from %s", device, m.Device))
	case len(m.Payload) > protocol.MaxMessage:
		return drop(fmt.Errorf("%d bytes", len(m.Payload)))
	}
	d, err := r.cfg.Device(ctx, device)
	if err != nil {
		return fmt.Errorf("look up %s: %w", device, err)
	}
	if d.ID == "" {
		return drop(fmt.Errorf("%s is not registered", device))
	}
	switch leaf {
	case protocol.UpAuth:
		return r.auth(ctx, now, d, m)
	case protocol.UpJournal:
		return r.journal(ctx, now, d, m)
	case protocol.UpConn:
		return r.conn(now, d, m)
	case protocol.UpTraces, protocol.UpMetrics, protocol.UpLogs:
		if d.Revoked || r.cfg.Telemetry == nil {
			return nil
		}
		if err := r.cfg.Telemetry(d.ID, leaf, m.Payload); err != nil {
			return drop(err)
		}
		return nil
	default:
		return drop(fmt.Errorf("nobody takes %s", leaf))
	}
}

func drop(why error) error { return fmt.Errorf("%w: %w", ErrDropped, why) }

func from(d identity.Device) payment.From {
	return payment.From{Device: d.ID, Serial: d.Serial, Tenant: d.Tenant, Link: d.Link, Merchant: d.Merchant}
}

// open finds the channel whose ticket rides in a message. One verification and one opening a
// connection; whether the certificate is still good is looked at every time.
func (r *Relay) open(now protocol.UnixMS, d identity.Device, msg []byte) (*channel, error) {
	ticket, err := seal.TicketIn(msg)
	if err != nil {
		return nil, drop(err)
	}
	return r.ticket(now, d, ticket)
}

// ticket is the channel of a ticket that is still good.
func (r *Relay) ticket(now protocol.UnixMS, d identity.Device, ticket []byte) (*channel, error) {
	c, err := r.find(now, d, ticket)
	if err != nil {
		return nil, err
	}
	switch {
	case c.ticket.Device != d.ID:
		return nil, drop(fmt.Errorf("ticket of %s from %s", c.ticket.Device, d.ID))
	case c.ticket.CertSerial != d.Serial:
		return nil, drop(fmt.Errorf("certificate %s of %s is not good any more", c.ticket.CertSerial, d.ID))
	case now.Sub(c.opened) > ticketLife:
		return nil, drop(fmt.Errorf("ticket of %s is older than %s", d.ID, ticketLife))
	}
	return c, nil
}

func (r *Relay) find(now protocol.UnixMS, d identity.Device, ticket []byte) (*channel, error) {
	h := protocol.HashBytes(ticket)
	id := seal.ChannelID(h[:8])
	r.mu.Lock()
	c := r.channels[id]
	r.mu.Unlock()
	if c != nil {
		return c, nil
	}
	t, ch, err := seal.OpenTicket(ticket, func(who protocol.DeviceID, serial string) (*ecdsa.PublicKey, error) {
		if who != d.ID || serial != d.Serial {
			return nil, fmt.Errorf("certificate %s of %s is not registered", serial, who)
		}
		return d.PublicKey()
	}, r.cfg.Key)
	if err != nil {
		return nil, drop(err)
	}
	r.stats.Tickets.Add(1)
	c = &channel{Channel: ch, ticket: t, opened: now}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.channels[id] = c
	if r.order = append(r.order, id); len(r.order) > channelsMost {
		delete(r.channels, r.order[0])
		r.order = r.order[1:]
	}
	return c, nil
}

// heard notes the channel a device is to be told on: the newest of its connections that anything
// was believed on. A message that is repeated or replayed under an older ticket leaves it; one of
// another epoch takes it over only when intake took its journal in.
func (r *Relay) heard(c *channel, taken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.latest[c.ticket.Device]
	switch {
	case old == nil || taken && old.ticket.Epoch != c.ticket.Epoch:
	case old.ticket.Epoch != c.ticket.Epoch || old.ticket.Connection > c.ticket.Connection:
		return
	}
	r.latest[c.ticket.Device] = c
}

func (r *Relay) auth(ctx context.Context, now protocol.UnixMS, d identity.Device, m Message) (err error) {
	c, err := r.open(now, d, m.Payload)
	if err != nil {
		return err
	}
	plain, err := c.Open(m.Topic, m.Payload)
	if err != nil {
		return drop(err)
	}
	r.heard(c, false)
	var a protocol.Auth
	if err := protocol.Decode(plain, &a); err != nil {
		return drop(err)
	}
	var ev payment.Event
	switch a.T {
	case protocol.MsgRequest:
		var q protocol.AuthorizationRequest
		if err := protocol.Decode(a.Body, &q); err != nil {
			return drop(err)
		}
		ev = payment.Request{From: from(d), Request: q, Stopped: d.Revoked}
		if r.cfg.Asked != nil {
			end := r.cfg.Asked(q)
			defer func() { end(err) }()
		}
	case protocol.MsgOutcomeCopy:
		if d.Revoked {
			return drop(fmt.Errorf("%s is revoked", d.ID))
		}
		var oc protocol.OutcomeCopy
		if err := protocol.Decode(a.Body, &oc); err != nil {
			return drop(err)
		}
		o, err := protocol.OpenRecord(oc.Record)
		if err != nil {
			return drop(err)
		}
		ev = payment.Copy{From: from(d), Record: o}
	default:
		return drop(fmt.Errorf("message type %d on up/auth", a.T))
	}
	effects, err := r.cfg.Payments.Handle(ctx, now, ev)
	if errors.Is(err, payment.ErrRequest) {
		return drop(err)
	}
	if err != nil {
		return err
	}
	return r.Do(ctx, effects)
}

// Do runs what payment wants done after a commit. An error means that a device was not told; its
// own repeat brings the answer.
func (r *Relay) Do(ctx context.Context, effects []payment.Effect) error {
	var untold error
	for _, e := range effects {
		p, ok := e.(payment.Publish)
		if !ok {
			r.cfg.Effect(e)
			continue
		}
		untold = errors.Join(untold, r.tell(ctx, p.Device, protocol.DnAuth, p.Body))
	}
	return untold
}

// tell seals for the channel a device was last heard on. It keeps the keys of every connection that
// a request of its waits on.
func (r *Relay) tell(ctx context.Context, d protocol.DeviceID, l protocol.Leaf, plain []byte) error {
	r.mu.Lock()
	c := r.latest[d]
	r.mu.Unlock()
	if c == nil { // since this replica began; the device repeats what it waits for
		r.stats.Untold.Add(1)
		return nil
	}
	return r.tellOn(ctx, c, l, plain)
}

// Announce tells every device that was heard, and is not known to have gone, how what authorizes its payments is:
// states says it for a device's link. It ends with ctx; who was not told learns it with its next watermark.
func (r *Relay) Announce(ctx context.Context, now protocol.UnixMS, states func(link string) []protocol.AcquirerState) error {
	r.mu.Lock()
	var all []*channel
	for d, c := range r.latest {
		if p, known := r.conns[d]; !known || p.online { // another replica may have heard of it
			all = append(all, c)
		}
	}
	r.mu.Unlock()
	var untold error
	for _, c := range all {
		if ctx.Err() != nil {
			return errors.Join(untold, context.Cause(ctx))
		}
		d, err := r.cfg.Device(ctx, c.ticket.Device)
		if err != nil || d.ID == "" || d.Revoked || d.Serial != c.ticket.CertSerial {
			untold = errors.Join(untold, err)
			continue
		}
		n := protocol.Announcement{V: protocol.Version, Device: d.ID, Acquirers: states(d.Link), Cloud: now}
		untold = errors.Join(untold, r.tellOn(ctx, c, protocol.DnAuth, protocol.MustEncode(protocol.Auth{T: protocol.MsgAnnouncement, Body: protocol.MustEncode(n)})))
	}
	return untold
}

func (r *Relay) tellOn(ctx context.Context, c *channel, l protocol.Leaf, plain []byte) error {
	topic := protocol.TopicOf(c.ticket.Device, l)
	b, err := c.Seal(topic, plain)
	if err != nil {
		return fmt.Errorf("seal for %s: %w", topic, err)
	}
	if err := r.cfg.Publish(ctx, topic, b); err != nil {
		r.stats.Untold.Add(1)
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}

func (r *Relay) journal(ctx context.Context, now protocol.UnixMS, d identity.Device, m Message) error {
	var j protocol.Journal
	if err := protocol.Decode(m.Payload, &j); err != nil {
		return drop(err)
	}
	c, err := r.open(now, d, j.Signed)
	if err != nil {
		return err
	}
	signed, err := seal.ParseSigned(j.Signed)
	if err != nil {
		return drop(err)
	}
	key, err := d.PublicKey()
	if err != nil {
		return err
	}
	plain, err := signed.Verify(m.Topic, key)
	if err != nil {
		return drop(err)
	}
	if d.Revoked {
		return r.revoked(ctx, c)
	}
	var b protocol.Batch
	if err := protocol.Decode(plain, &b); err != nil {
		return drop(err)
	}
	if b.Device != d.ID || b.V != protocol.Version {
		return drop(fmt.Errorf("batch v%d of %q", b.V, b.Device))
	}
	res, err := r.cfg.Intake.Accept(ctx, now, from(d), b)
	if err != nil {
		return err
	}
	r.heard(c, res.Watermark.Verdict == protocol.Acked && c.ticket.Epoch == b.Epoch)
	err = r.Do(ctx, res.Effects)
	err = errors.Join(err, r.tellOn(ctx, c, protocol.DnAck, protocol.MustEncode(res.Watermark)))
	if res.Checkpoint != nil {
		err = errors.Join(err, r.checkpoint(ctx, *res.Checkpoint))
	}
	return err
}

// revoked tells a device that it must not sell any more, and lets go of it. What it has not sent
// is not taken in: whoever holds its key could have written it.
func (r *Relay) revoked(ctx context.Context, c *channel) error {
	err := r.tellOn(ctx, c, protocol.DnAck, protocol.MustEncode(protocol.Watermark{
		V: protocol.Version, Device: c.ticket.Device, Epoch: c.ticket.Epoch, Verdict: protocol.Revoked,
	}))
	if r.cfg.Kick != nil {
		r.cfg.Kick(c.ticket.Device)
	}
	return err
}

func (r *Relay) checkpoint(ctx context.Context, c protocol.Checkpoint) error {
	topic := protocol.TopicOf(c.Device, protocol.DnCheckpoint)
	c.KeyID = r.cfg.Signer.KeyID
	b, err := r.cfg.Signer.Sign(topic, protocol.MustEncode(c), nil)
	if err != nil {
		return err
	}
	return r.cfg.Publish(ctx, topic, b)
}

// conn: a device came or went. What an older connection says, above all its will, is old news; so
// is the end of a connection of another epoch than the one that came last. Who comes shows a ticket: a
// broker elsewhere lets in whoever has a certificate of that name, a revoked one too.
func (r *Relay) conn(now protocol.UnixMS, d identity.Device, m Message) error {
	var c protocol.Conn
	if err := protocol.Decode(m.Payload, &c); err != nil {
		return drop(err)
	}
	if c.Device != d.ID || c.V != protocol.Version {
		return drop(fmt.Errorf("conn v%d of %q", c.V, c.Device))
	}
	if c.Online {
		ch, err := r.ticket(now, d, c.Ticket)
		switch {
		case err != nil:
			return err
		case d.Revoked:
			return drop(fmt.Errorf("%s is revoked", d.ID))
		case ch.ticket.Epoch != c.Epoch || ch.ticket.Connection != c.Connection:
			return drop(fmt.Errorf("conn of %s on the ticket of another connection", d.ID))
		}
	}
	r.mu.Lock()
	last, known := r.conns[d.ID]
	old := known && c.Connection < last.number
	if known && c.Epoch != last.epoch {
		old = !c.Online
	}
	if !old {
		r.conns[d.ID] = place{c.Epoch, c.Connection, c.Online}
	}
	r.mu.Unlock()
	if !old && r.cfg.Conn != nil {
		r.cfg.Conn(c)
	}
	return nil
}
