package load

import (
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"coinop/cloud/identity"
	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"
)

// device is one lean device: its end of the chain and nothing behind it, no journal on a disk and no
// session. It asks for one thing at a time.
type device struct {
	id     protocol.DeviceID
	bundle identity.Bundle
	epoch  protocol.Epoch
	fleet  *Fleet
	sealer *seal.CardSealer
	from   net.Addr // nil: any

	mu         sync.Mutex // guards what follows
	link       *link
	connection uint64
	channel    *seal.Channel
	anchor     protocol.AnchorID
	since      time.Time // the anchor's receipt
	cards      []card    // sealed before anybody waits for them
	paid       []paid    // approved, not told to the journal yet
	head       protocol.Position
	wait       *wait
}

func newDevice(f *Fleet, id protocol.DeviceID) *device {
	return &device{id: id, epoch: newEpoch(), fleet: f, sealer: seal.NewCardSealer(f.keys.Payment.Public())}
}

// card is one presentation of a card: sealing it is the reader's work, and its time.
type card struct {
	payment protocol.PaymentID
	sealed  []byte
}

// paid is an approved payment.
type paid struct {
	payment  protocol.PaymentID
	ask      protocol.Hash
	response protocol.AuthorizationResponse
	answer   protocol.Hash
}

// wait is what a device has asked for. done is called once, without d.mu, by whoever ends it.
type wait struct {
	topic   protocol.Topic
	msg     []byte
	payment protocol.PaymentID // of an authorization; zero: a batch
	ask     protocol.Hash
	began   time.Time
	again   time.Time // of the next repeat
	repeats int
	done    func(answer, error)
}

// answer is what a device was told.
type answer struct {
	span      time.Duration
	response  protocol.AuthorizationResponse
	watermark protocol.Watermark
}

// A device repeats what is not answered, as agents do, and gives up in the end.
const (
	repeatAfter = 3 * time.Second
	giveUpAfter = 10 * time.Second
)

var (
	errNoAnswer = errors.New("no answer in 10 s")
	errBusy     = errors.New("the device waits for something else")
	errOffline  = errors.New("the device is not connected")
)

var price = money.New(250, money.EUR)

func newEpoch() (e protocol.Epoch) {
	_, _ = crand.Read(e[:])
	return e
}

// connect dials with a fresh ticket, says hello, and serves in a goroutine of its own.
func (d *device) connect(ctx context.Context) error {
	d.mu.Lock()
	d.connection++
	number, head := d.connection, d.head
	d.mu.Unlock()
	ch, err := seal.NewChannel(d.bundle.Signer(), seal.Ticket{Device: d.id, CertSerial: d.bundle.Serial, Epoch: d.epoch, Connection: number}, d.fleet.keys.Relay.Public())
	if err != nil {
		return err
	}
	hello := protocol.Conn{
		V: protocol.Version, Device: d.id, Online: true, Epoch: d.epoch, Connection: number, Seq: head.Seq, Software: "load", Ticket: ch.Ticket(),
	}
	will := hello
	will.Online, will.Reason, will.Ticket = false, "connection lost", nil
	l, err := dial(ctx, d.fleet.addr, d.from, d.fleet.tls(d), d.id, protocol.MustEncode(will))
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.link, d.channel = l, ch
	d.mu.Unlock()
	d.fleet.serving.Go(func() { d.lost(l, l.serve(d.in)) })
	return l.publish(protocol.TopicOf(d.id, protocol.UpConn), protocol.MustEncode(hello))
}

// lost is the end of a connection; what was waited for on it fails.
func (d *device) lost(l *link, why error) {
	l.close()
	if gone(why) {
		why = errOffline
	}
	d.mu.Lock()
	if d.link == l {
		d.link = nil
	}
	w := d.wait
	d.wait = nil
	d.mu.Unlock()
	if w != nil {
		w.done(answer{}, fmt.Errorf("connection lost: %w", why))
	}
}

func (d *device) close() {
	d.mu.Lock()
	l := d.link
	d.mu.Unlock()
	if l != nil {
		l.close()
	}
}

// in takes what the cloud says.
func (d *device) in(topic protocol.Topic, msg []byte) {
	_, leaf, err := protocol.ParseTopic(topic)
	if err != nil || leaf != protocol.DnAuth && leaf != protocol.DnAck {
		return
	}
	d.mu.Lock()
	ch := d.channel
	d.mu.Unlock()
	plain, err := ch.Open(topic, msg)
	if err != nil {
		d.fleet.note("an answer that does not open")
		return
	}
	if leaf == protocol.DnAck {
		var a answer
		if protocol.Decode(plain, &a.watermark) == nil {
			d.settle(a, func(w *wait) bool {
				d.anchor, d.since = a.watermark.Anchor.ID, time.Now()
				return w != nil && w.payment.IsZero()
			})
		}
		return
	}
	var m protocol.Auth
	var a answer
	if protocol.Decode(plain, &m) != nil || m.T != protocol.MsgResponse || protocol.Decode(m.Body, &a.response) != nil {
		return
	}
	d.settle(a, func(w *wait) bool {
		if w == nil || w.payment != a.response.Payment {
			return false
		}
		if a.response.Result == protocol.Approved && d.fleet.keep.Load() {
			d.paid = append(d.paid, paid{w.payment, w.ask, a.response, protocol.HashBytes(m.Body)})
		}
		return true
	})
}

// settle ends the wait when it is the one that is meant.
func (d *device) settle(a answer, meant func(*wait) bool) {
	d.mu.Lock()
	w := d.wait
	if !meant(w) {
		d.mu.Unlock()
		return
	}
	d.wait = nil
	d.mu.Unlock()
	a.span = time.Since(w.began)
	w.done(a, nil)
}

// send publishes and waits for the answer; done is called then, or not at all when send fails.
func (d *device) send(w *wait) error {
	d.mu.Lock()
	l := d.link
	switch {
	case l == nil:
		d.mu.Unlock()
		return errOffline
	case d.wait != nil:
		d.mu.Unlock()
		return errBusy
	}
	w.again = w.began.Add(repeatAfter)
	d.wait = w
	d.mu.Unlock()
	if err := l.publish(w.topic, w.msg); err != nil {
		l.close() // its reader ends the wait
	}
	return nil
}

// look repeats what has not been answered for long, and gives it up in the end.
func (d *device) look(now time.Time) {
	d.mu.Lock()
	w, l := d.wait, d.link
	if w == nil {
		d.mu.Unlock()
		return
	}
	late := now.Sub(w.began) > giveUpAfter
	again := !late && now.After(w.again) && l != nil
	if late {
		d.wait = nil
	}
	if again {
		w.again = now.Add(repeatAfter)
		w.repeats++
	}
	d.mu.Unlock()
	switch {
	case late:
		w.done(answer{}, errNoAnswer)
	case again:
		d.fleet.repeats.Add(1)
		_ = l.publish(w.topic, w.msg)
	}
}

// present seals a card for a payment to come.
func (d *device) present() (card, error) {
	var r [10]byte
	_, _ = crand.Read(r[:])
	id := protocol.NewID[struct{}](protocol.At(time.Now()), r)
	c := card{payment: protocol.PaymentID(id)}
	plain := protocol.MustEncode(protocol.SealedCard{Payment: c.payment, Entry: protocol.EntryContactless, Track2: []byte(testTrack2)})
	aad := protocol.MustEncode(protocol.CardAAD{Device: d.id, Epoch: d.epoch, Sale: protocol.SaleID(id), Payment: c.payment, Amount: price})
	var err error
	c.sealed, err = d.sealer.Seal(aad, plain)
	return c, err
}

// testTrack2 is a Mastercard test card that no bank honours.
const testTrack2 = "5413330089020011=25122010123456789"

// authorize asks for one authorization.
func (d *device) authorize(done func(answer, error)) error {
	d.mu.Lock()
	var c card
	if len(d.cards) > 0 { // in the order they were sealed, as buyers come
		c, d.cards = d.cards[0], d.cards[1:]
	}
	anchor, since, head, ch := d.anchor, d.since, d.head, d.channel
	d.mu.Unlock()
	if c.sealed == nil {
		var err error
		if c, err = d.present(); err != nil {
			return err
		}
		d.fleet.unprepared.Add(1)
	}
	now := time.Now()
	a := protocol.Ask{
		V: protocol.Version, Device: d.id, Sale: protocol.SaleID(c.payment), Payment: c.payment, Class: protocol.Live,
		AuthorizedBy: protocol.ByHost, Purpose: protocol.Exact, Amount: price, WaitMS: uint32(giveUpAfter.Milliseconds()),
		Anchor: anchor, SinceAnchorMS: now.Sub(since).Milliseconds(), Sealed: c.sealed,
		Tap: protocol.Tap{Entry: protocol.EntryContactless, Brand: "mastercard", Last4: "0011", LocalTime: now.Format("20060102150405")},
	}
	ask := protocol.MustEncode(a)
	body := protocol.MustEncode(protocol.AuthorizationRequest{Ask: ask, Position: protocol.Position{Epoch: d.epoch, Seq: head.Seq + 1}})
	topic := protocol.TopicOf(d.id, protocol.UpAuth)
	w := &wait{topic: topic, payment: c.payment, ask: protocol.HashBytes(ask), began: time.Now(), done: done}
	var err error
	if w.msg, err = ch.Seal(topic, protocol.MustEncode(protocol.Auth{T: protocol.MsgRequest, Body: body})); err != nil {
		return err
	}
	return d.send(w)
}

// upload sends records as one batch; none asks for the watermark and an anchor.
func (d *device) upload(records []protocol.Record, done func(answer, error)) error {
	d.mu.Lock()
	ch, prev := d.channel, d.head
	d.mu.Unlock()
	if prev.Epoch.IsZero() {
		prev.Epoch = d.epoch
	}
	b := protocol.Batch{V: protocol.Version, Device: d.id, Epoch: d.epoch, First: prev.Seq + 1, Prev: prev.Hash}
	_, _ = crand.Read(b.Nonce[:])
	for _, r := range records {
		s, err := protocol.SealRecord(d.id, prev, r)
		if err != nil {
			return err
		}
		b.Record = append(b.Record, s.Bytes)
		prev = s.Position
	}
	b.Last, b.Head = prev.Seq, prev.Hash
	topic := protocol.TopicOf(d.id, protocol.UpJournal)
	signed, err := d.bundle.Signer().Sign(topic, protocol.MustEncode(b), ch.Ticket())
	if err != nil {
		return err
	}
	w := &wait{topic: topic, msg: protocol.MustEncode(protocol.Journal{Signed: signed}), began: time.Now()}
	w.done = func(a answer, err error) {
		if err == nil && a.watermark.Verdict != protocol.Acked && a.watermark.Verdict != protocol.Repeat {
			err = fmt.Errorf("batch: %s", a.watermark.Verdict)
		}
		if err == nil {
			d.mu.Lock()
			d.head = prev
			d.mu.Unlock()
		}
		done(a, err)
	}
	return d.send(w)
}

// tls is a device's own certificate over what all share.
func (f *Fleet) tls(d *device) *tls.Config {
	return &tls.Config{
		RootCAs: f.roots, MinVersion: tls.VersionTLS13, ServerName: f.server,
		Certificates: []tls.Certificate{{Certificate: [][]byte{d.bundle.Cert}, PrivateKey: d.bundle.Key}},
	}
}
