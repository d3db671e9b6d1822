package bench

import (
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"coinop/agent/uplink"
	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/broker"
	"coinop/cloud/identity"
	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"
)

// inFlight is how many devices ask at a time in the second measurement.
const inFlight = 64

// Limits of the chain, measured elsewhere on two weak cores.
const (
	roundTrip      = 330 * time.Microsecond // MQTT, one in flight, this client and this broker: p50
	roundTrips64   = 11_603.0               // MQTT round trips a second, mutual TLS, 64 in flight, this broker
	storeUnits64   = 16_161.0               // units of work a second, 64 waiting, one commit a group
	unitsOfAnAsk   = 2                      // sent, answered
	limitOfOne     = "MQTT round trip 0.33 ms + 2 synced writes of this run"
	limitOfMany    = "least of MQTT 11,603 round trips/s and 16,161 grouped store units/s, 2 an authorization"
	limitOfWaiting = "64 at that rate"
)

// authorizations asks through the whole chain, with one device and with many.
func (r *Report) authorizations(ctx context.Context, o Options, dir string, raw time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	host, err := hostsim.Open(hostsim.Config{})
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = host.Run(ctx) })

	keys, bundles, err := register(ctx, dir, inFlight)
	if err != nil {
		return err
	}
	ready, ended := make(chan string, 1), make(chan error, 1)
	running.Go(func() {
		ended <- cloud.Run(ctx, cloud.Config{
			Dir: dir, Listen: "127.0.0.1:0", Rate: broker.Rate{Messages: 1e6, MessagesBurst: 1e6}, // one device asks as many would
			Ready:     func(a string) { ready <- a },
			Acquirers: []cloud.Acquirer{{Name: "bank", Addr: host.Addr(), Institution: "00000000001"}},
		})
	})
	var addr string
	select {
	case addr = <-ready:
	case err := <-ended:
		return errors.Join(err, context.Cause(ctx))
	}
	clients := make([]*client, inFlight)
	for i, b := range bundles {
		if clients[i], err = dial(ctx, addr, deviceID(i), b, keys); err != nil {
			return err
		}
		defer clients[i].session.Close()
	}
	// The link to the bank signs on meanwhile; refusals until then are not counted.
	if err := clients[0].warm(ctx); err != nil {
		return err
	}
	floor := roundTrip + unitsOfAnAsk*raw
	spans, rate, err := drive(ctx, clients[:1], o.For)
	if err != nil {
		return err
	}
	r.less("authorization, 1 in flight, p50", ms(percentile(spans, 0.5)), "ms", ms(floor), limitOfOne)
	r.less("authorization, 1 in flight, p99", ms(percentile(spans, 0.99)), "ms", ms(floor), limitOfOne)
	r.more("authorizations, 1 in flight", rate, "/s", 1/floor.Seconds(), limitOfOne)

	spans, rate, err = drive(ctx, clients, o.For)
	if err != nil {
		return err
	}
	most := min(roundTrips64, storeUnits64/unitsOfAnAsk)
	r.less("authorization, 64 in flight, p50", ms(percentile(spans, 0.5)), "ms", inFlight/most*1000, limitOfWaiting)
	r.less("authorization, 64 in flight, p99", ms(percentile(spans, 0.99)), "ms", inFlight/most*1000, limitOfWaiting)
	r.more("authorizations, 64 in flight", rate, "/s", most, limitOfMany)
	return nil
}

func deviceID(i int) protocol.DeviceID { return protocol.DeviceID(fmt.Sprintf("bench-%d", i)) }

// register makes the cloud's folder and enough devices.
func register(ctx context.Context, dir string, n int) (identity.Keys, []identity.Bundle, error) {
	st, keys, _, err := cloud.Open(ctx, dir)
	if err != nil {
		return keys, nil, err
	}
	defer st.Close()
	var out []identity.Bundle
	for i := range n {
		b, err := keys.Authority.Device(deviceID(i), time.Now(), identity.Cloud{})
		if err != nil {
			return keys, nil, err
		}
		key, err := x509.MarshalPKIXPublicKey(&b.Key.PublicKey)
		if err != nil {
			return keys, nil, err
		}
		err = st.PutDevice(ctx, identity.Device{
			ID: deviceID(i), Tenant: "bench", Serial: b.Serial, Key: key, Link: "bank",
			Merchant: acquirer.Merchant{TID: fmt.Sprintf("B%07d", i), MID: "MERCHANT0000001", MCC: "5814", Country: "040"},
		}, false)
		if err != nil {
			return keys, nil, err
		}
		out = append(out, b)
	}
	return keys, out, nil
}

// client is a device with nothing but its end of the chain: no journal, no session.
type client struct {
	id      protocol.DeviceID
	epoch   protocol.Epoch
	keys    identity.Keys
	session *uplink.Session
	channel *seal.Channel
	anchor  protocol.Anchor
	since   time.Time // the anchor's receipt
	answers chan protocol.AuthorizationResponse
}

// dial connects and asks for an anchor with an empty batch, as every agent does.
func dial(ctx context.Context, addr string, id protocol.DeviceID, b identity.Bundle, keys identity.Keys) (*client, error) {
	c := &client{id: id, keys: keys, answers: make(chan protocol.AuthorizationResponse, 16)}
	_, _ = crand.Read(c.epoch[:])
	var err error
	c.channel, err = seal.NewChannel(b.Signer(), seal.Ticket{Device: id, CertSerial: b.Serial, Epoch: c.epoch, Connection: 1}, keys.Relay.Public())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(keys.Authority.Cert)
	acks := make(chan protocol.Watermark, 1)
	c.session, err = uplink.Dialer{Addr: addr, Device: id, TLS: &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{b.Cert}, PrivateKey: b.Key}},
	}}.Dial(ctx, func(m uplink.Inbound) { c.in(m, acks) })
	if err != nil {
		return nil, err
	}
	topic := protocol.TopicOf(id, protocol.UpJournal)
	signed, err := b.Signer().Sign(topic, protocol.MustEncode(protocol.Batch{V: protocol.Version, Device: id, Epoch: c.epoch, First: 1, Nonce: protocol.Nonce{1}}), c.channel.Ticket())
	if err != nil {
		return nil, err
	}
	if err := c.session.Publish(topic, protocol.MustEncode(protocol.Journal{Signed: signed})); err != nil {
		return nil, err
	}
	select {
	case w := <-acks:
		c.anchor, c.since = w.Anchor, time.Now()
		return c, nil
	case <-time.After(10 * time.Second):
		return nil, fmt.Errorf("%s: no answer to its first batch", id)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *client) in(m uplink.Inbound, acks chan<- protocol.Watermark) {
	_, leaf, err := protocol.ParseTopic(m.Topic)
	if err != nil {
		return
	}
	plain, err := c.channel.Open(m.Topic, m.Payload)
	if err != nil {
		return
	}
	if leaf == protocol.DnAck {
		var w protocol.Watermark
		if protocol.Decode(plain, &w) == nil {
			acks <- w
		}
		return
	}
	var a protocol.Auth
	var r protocol.AuthorizationResponse
	if protocol.Decode(plain, &a) == nil && a.T == protocol.MsgResponse && protocol.Decode(a.Body, &r) == nil {
		c.answers <- r
	}
}

// ask is one authorization: from the request's sealing to the answer's decoding. Sealing the card is
// the reader's time, not the chain's.
func (c *client) ask(ctx context.Context) (time.Duration, protocol.AuthorizationResponse, error) {
	var res protocol.AuthorizationResponse
	var r [10]byte
	_, _ = crand.Read(r[:])
	now := time.Now()
	id := [16]byte(protocol.NewID[struct{}](protocol.At(now), r))
	a := protocol.Ask{
		V: protocol.Version, Device: c.id, Sale: id, Payment: id, Class: protocol.Live, AuthorizedBy: protocol.ByHost,
		Purpose: protocol.Exact, Amount: money.New(250, money.EUR), WaitMS: 10_000, Anchor: c.anchor.ID, SinceAnchorMS: time.Since(c.since).Milliseconds(),
		Tap: protocol.Tap{Entry: protocol.EntryContactless, Brand: "mastercard", Last4: "0011", LocalTime: now.Format("20060102150405")},
	}
	plain := protocol.MustEncode(protocol.SealedCard{Payment: id, Entry: protocol.EntryContactless, Track2: []byte("5413330089020011=25122010123456789")})
	aad := protocol.MustEncode(protocol.CardAAD{Device: c.id, Epoch: c.epoch, Sale: id, Payment: id, Amount: a.Amount})
	var err error
	if a.Sealed, err = seal.SealCard(c.keys.Payment.Public(), aad, plain); err != nil {
		return 0, res, err
	}
	body := protocol.MustEncode(protocol.AuthorizationRequest{Ask: protocol.MustEncode(a), Position: protocol.Position{Epoch: c.epoch, Seq: 1}})
	topic := protocol.TopicOf(c.id, protocol.UpAuth)
	began := time.Now()
	msg, err := c.channel.Seal(topic, protocol.MustEncode(protocol.Auth{T: protocol.MsgRequest, Body: body}))
	if err != nil {
		return 0, res, err
	}
	if err := c.session.Publish(topic, msg); err != nil {
		return 0, res, err
	}
	lost := time.NewTimer(10 * time.Second)
	defer lost.Stop()
	for {
		select {
		case res = <-c.answers:
			if res.Payment == protocol.PaymentID(id) {
				return time.Since(began), res, nil
			}
		case <-lost.C:
			return 0, res, fmt.Errorf("%s: no answer in 10 s", c.id)
		case <-ctx.Done():
			return 0, res, context.Cause(ctx)
		}
	}
}

// warm asks until the bank answers.
func (c *client) warm(ctx context.Context) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, res, err := c.ask(ctx)
		if err != nil || res.Result == protocol.Approved {
			return err
		}
	}
	return errors.New("the bank does not come into service")
}

// drive lets every client ask, one payment after the other, for a span.
func drive(ctx context.Context, clients []*client, span time.Duration) (spans []time.Duration, rate float64, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	end := began.Add(span)
	for _, c := range clients {
		wg.Go(func() {
			var mine []time.Duration
			var failed error
			for time.Now().Before(end) && failed == nil {
				d, res, err := c.ask(ctx)
				switch {
				case err != nil:
					failed = err
				case res.Result != protocol.Approved:
					failed = fmt.Errorf("%s was answered %s, %s", c.id, res.Result, res.Code)
				default:
					mine = append(mine, d)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			spans, err = append(spans, mine...), errors.Join(err, failed)
		})
	}
	wg.Wait()
	return spans, float64(len(spans)) / time.Since(began).Seconds(), err
}
