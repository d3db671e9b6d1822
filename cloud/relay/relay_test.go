package relay_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/identity"
	"coinop/cloud/payment"
	"coinop/cloud/relay"
	"coinop/cloud/store"
	"coinop/cloud/vault"
	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"
)

const t0 = protocol.UnixMS(1_800_000_000_000)

type told struct {
	topic   protocol.Topic
	payload []byte
}

// bed is the cloud's parts with everything real but the broker, the host and the clock.
type bed struct {
	t       *testing.T
	keys    identity.Keys
	parts   cloud.Parts
	now     protocol.UnixMS
	told    []told
	sent    []acquirer.Op
	conns   []protocol.Conn
	kicked  []protocol.DeviceID
	publish error
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, now: t0}
	var err error
	if b.keys, err = identity.OpenKeys(t.TempDir(), t0.Time()); err != nil {
		t.Fatal(err)
	}
	line, err := vault.NewKeyLine("k1")
	if err != nil {
		t.Fatal(err)
	}
	vk, err := vault.ParseKeys(line)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Options{Path: ":memory:", Gather: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	b.parts, err = cloud.Wire(st, cloud.Wiring{
		Keys: b.keys, VaultKeys: vk, Now: func() time.Time { return b.now.Time() },
		Profile: func(string) (acquirer.Profile, bool) { return acquirer.Profile{Flow: acquirer.DualFinal}, true },
		Kick:    func(d protocol.DeviceID) { b.kicked = append(b.kicked, d) },
		Publish: func(_ context.Context, topic protocol.Topic, p []byte) error {
			if b.publish != nil {
				return b.publish
			}
			b.told = append(b.told, told{topic, p})
			return nil
		},
		Effect: func(e payment.Effect) {
			if s, ok := e.(payment.Send); ok {
				b.sent = append(b.sent, s.Op)
			}
		},
		Conn: func(c protocol.Conn) { b.conns = append(b.conns, c) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// box is a device, as far as the relay sees it.
type box struct {
	b      *bed
	id     protocol.DeviceID
	bundle identity.Bundle
	epoch  protocol.Epoch
	n      uint64
	ch     *seal.Channel
	head   protocol.Position
	log    [][]byte
}

func (b *bed) add(id protocol.DeviceID, replace bool) *box {
	b.t.Helper()
	bundle, err := b.keys.Authority.Device(id, t0.Time(), identity.Cloud{})
	if err != nil {
		b.t.Fatal(err)
	}
	key, err := x509.MarshalPKIXPublicKey(&bundle.Key.PublicKey)
	if err != nil {
		b.t.Fatal(err)
	}
	d := identity.Device{ID: id, Tenant: "acme", Serial: bundle.Serial, Key: key, Link: "bank", Merchant: acquirer.Merchant{TID: "T1", MID: "M1"}}
	if err := b.parts.Store.PutDevice(b.t.Context(), d, replace); err != nil {
		b.t.Fatal(err)
	}
	x := &box{b: b, id: id, bundle: bundle, epoch: protocol.Epoch{1}}
	x.head.Epoch = x.epoch
	x.write(protocol.EpochStarted{CertSerial: bundle.Serial, Reason: "new"})
	x.dial()
	return x
}

// dial makes the channel of a new connection.
func (x *box) dial() {
	x.b.t.Helper()
	x.n++
	ch, err := seal.NewChannel(x.bundle.Signer(), seal.Ticket{Device: x.id, CertSerial: x.bundle.Serial, Epoch: x.epoch, Connection: x.n}, x.b.keys.Relay.Public())
	if err != nil {
		x.b.t.Fatal(err)
	}
	x.ch = ch
}

func (x *box) write(body protocol.Body) {
	x.b.t.Helper()
	s, err := protocol.SealRecord(x.id, x.head, protocol.Record{Body: body})
	if err != nil {
		x.b.t.Fatal(err)
	}
	x.head, x.log = s.Position, append(x.log, s.Bytes)
}

func (x *box) topic(l protocol.Leaf) protocol.Topic { return protocol.TopicOf(x.id, l) }

// ask is a request for a payment, sealed for the connection there is.
func (x *box) ask(n byte) relay.Message {
	x.b.t.Helper()
	a := protocol.Ask{
		V: protocol.Version, Device: x.id, Sale: protocol.SaleID{n}, Payment: protocol.PaymentID{n}, Class: protocol.Live,
		AuthorizedBy: protocol.ByHost, Purpose: protocol.Exact, Amount: money.New(250, money.EUR), WaitMS: 10_000,
		Anchor: payment.Anchors{Key: x.b.keys.Anchor}.Make(x.id, t0),
		Tap:    protocol.Tap{Entry: protocol.EntryContactless, LocalTime: "20270115120000"},
	}
	plain := protocol.MustEncode(protocol.SealedCard{Payment: a.Payment, Entry: protocol.EntryContactless, Track2: []byte("5413330089020011=25122010123456789")})
	aad := protocol.MustEncode(protocol.CardAAD{Device: x.id, Epoch: x.epoch, Sale: a.Sale, Payment: a.Payment, Amount: a.Amount})
	var err error
	if a.Sealed, err = seal.NewCardSealer(x.b.keys.Payment.Public()).Seal(aad, plain); err != nil {
		x.b.t.Fatal(err)
	}
	return x.seal(protocol.MsgRequest, protocol.MustEncode(protocol.AuthorizationRequest{Ask: protocol.MustEncode(a), Position: x.head}))
}

func (x *box) seal(typ protocol.MsgType, body []byte) relay.Message {
	x.b.t.Helper()
	p, err := x.ch.Seal(x.topic(protocol.UpAuth), protocol.MustEncode(protocol.Auth{T: typ, Body: body}))
	if err != nil {
		x.b.t.Fatal(err)
	}
	return relay.Message{Device: x.id, Topic: x.topic(protocol.UpAuth), Payload: p}
}

// upload is the whole journal in one batch.
func (x *box) upload() relay.Message {
	x.b.t.Helper()
	return x.batch(protocol.Batch{V: protocol.Version, Device: x.id, Epoch: x.epoch, First: 1, Last: x.head.Seq, Head: x.head.Hash, Record: x.log})
}

func (x *box) batch(b protocol.Batch) relay.Message {
	x.b.t.Helper()
	signed, err := x.bundle.Signer().Sign(x.topic(protocol.UpJournal), protocol.MustEncode(b), x.ch.Ticket())
	if err != nil {
		x.b.t.Fatal(err)
	}
	return relay.Message{Device: x.id, Topic: x.topic(protocol.UpJournal), Payload: protocol.MustEncode(protocol.Journal{Signed: signed})}
}

func (b *bed) handle(m relay.Message) error { return b.parts.Relay.Handle(b.t.Context(), b.now, m) }

func (b *bed) must(m relay.Message) {
	b.t.Helper()
	if err := b.handle(m); err != nil {
		b.t.Fatal(err)
	}
}

// answer lets the host approve the last operation that was sent.
func (b *bed) answer() {
	b.t.Helper()
	op := b.sent[len(b.sent)-1]
	effects, err := b.parts.Payments.Handle(b.t.Context(), b.now+100, payment.HostAnswer{Key: op.Key, Answer: acquirer.Answer{Outcome: acquirer.OK, Approved: op.Amount, RRN: "1", AuthID: "2"}})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.parts.Relay.Do(b.t.Context(), effects); err != nil {
		b.t.Fatal(err)
	}
}

// hear opens the last thing the device was told, with one of its channels.
func (x *box) hear(ch *seal.Channel, l protocol.Leaf) []byte {
	x.b.t.Helper()
	last := x.b.told[len(x.b.told)-1]
	if last.topic != x.topic(l) {
		x.b.t.Fatalf("told on %s", last.topic)
	}
	p, err := ch.Open(last.topic, last.payload)
	if err != nil {
		x.b.t.Fatal(err)
	}
	return p
}

func TestAnswersOpenOnTheDevice(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.add("snack-1", false)
	b.must(x.ask(1))
	b.answer()
	var a protocol.Auth
	var r protocol.AuthorizationResponse
	if err := protocol.Decode(x.hear(x.ch, protocol.DnAuth), &a); err != nil {
		t.Fatal(err)
	}
	if err := protocol.Decode(a.Body, &r); err != nil || r.Result != protocol.Approved || r.Device != "snack-1" {
		t.Fatalf("%+v %v", r, err)
	}
	b.must(x.upload())
	var w protocol.Watermark
	if err := protocol.Decode(x.hear(x.ch, protocol.DnAck), &w); err != nil || w.N != 1 {
		t.Fatalf("%+v %v", w, err)
	}
	empty := protocol.Batch{V: protocol.Version, Device: x.id, Epoch: x.epoch, First: 2, Last: 1, Prev: x.head.Hash, Head: x.head.Hash}
	b.told = nil
	b.must(x.batch(empty))
	if len(b.told) != 2 || b.told[1].topic != x.topic(protocol.DnCheckpoint) {
		t.Fatalf("%d messages", len(b.told))
	}
	signed, err := seal.ParseSigned(b.told[1].payload)
	if err != nil {
		t.Fatal(err)
	}
	pub := b.keys.Signing.Key.Public().(*ecdsa.PublicKey)
	plain, err := signed.Verify(b.told[1].topic, pub)
	var c protocol.Checkpoint
	if err != nil || protocol.Decode(plain, &c) != nil || c.N != 1 || c.Hash != x.head.Hash {
		t.Fatalf("%+v %v", c, err)
	}
	// One ticket was opened for all of it.
	if n := b.parts.Relay.Stats().Tickets.Load(); n != 1 {
		t.Fatalf("%d tickets opened", n)
	}
}

// fingerprint is everything a message could change.
func (b *bed) fingerprint() string {
	b.t.Helper()
	ctx := b.t.Context()
	ps, err1 := b.parts.Store.Payments(ctx, store.PaymentFilter{}, 100)
	balances, err2 := b.parts.Store.Balances(ctx)
	is, err3 := b.parts.Store.Incidents(ctx)
	h1, err4 := b.parts.Store.Head(ctx, "snack-1")
	h2, err5 := b.parts.Store.Head(ctx, "snack-2")
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		b.t.Fatal(err)
	}
	h1.Version, h1.Released = 0, 0
	return fmt.Sprint(ps, balances, is, h1, h2, b.sent, b.conns)
}

func TestWhatIsNotBelieved(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x, other := b.add("snack-1", false), b.add("snack-2", false)
	good, journal := x.ask(1), x.upload()
	b.must(journal)
	b.must(good)
	b.answer()
	stranger, err := b.keys.Authority.Device("snack-1", t0.Time(), identity.Cloud{})
	if err != nil {
		t.Fatal(err)
	}
	with := func(m relay.Message, change func(*relay.Message)) relay.Message {
		m.Payload = slices.Clone(m.Payload)
		change(&m)
		return m
	}
	forged := *x
	forged.bundle = stranger
	forged.dial()
	otherSerial := *x
	otherSerial.bundle.Serial = "beef"
	otherSerial.dial()
	foreign := *x
	foreign.ch = other.ch // snack-2's ticket on snack-1's topic
	badRelay := *x
	key, err := seal.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	badRelay.ch, err = seal.NewChannel(x.bundle.Signer(), seal.Ticket{Device: x.id, CertSerial: x.bundle.Serial, Epoch: x.epoch, Connection: 9}, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	otherBatch := protocol.Batch{V: protocol.Version, Device: "snack-2", Epoch: x.epoch, First: 1, Last: 0}
	record, err := protocol.SealRecord("snack-2", protocol.Position{Epoch: x.epoch}, protocol.Record{Body: protocol.PaymentOutcome{Payment: protocol.PaymentID{1}, What: protocol.Void}})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		m    relay.Message
	}{
		{"nothing", relay.Message{Device: "snack-1", Topic: x.topic(protocol.UpAuth)}},
		{"another plane", with(good, func(m *relay.Message) { m.Topic = "a/b" })},
		{"a topic of another device", with(good, func(m *relay.Message) { m.Topic = other.topic(protocol.UpAuth) })},
		{"a topic nobody takes", with(good, func(m *relay.Message) { m.Topic = x.topic(protocol.UpEvent) })},
		{"a device nobody knows", with(good, func(m *relay.Message) { m.Device, m.Topic = "nobody", protocol.TopicOf("nobody", protocol.UpAuth) })},
		{"too long", with(good, func(m *relay.Message) { m.Payload = make([]byte, protocol.MaxMessage+1) })},
		{"replayed in the name of another", with(good, func(m *relay.Message) { m.Device, m.Topic = other.id, other.topic(protocol.UpAuth) })},
		{"a journal on up/auth", with(journal, func(m *relay.Message) { m.Topic = x.topic(protocol.UpAuth) })},
		{"a request on up/journal", with(good, func(m *relay.Message) { m.Topic = x.topic(protocol.UpJournal) })},
		{"signed by another key", forged.upload()},
		{"a ticket by another key", forged.ask(7)},
		{"a ticket of another certificate", otherSerial.ask(7)},
		{"a ticket of another device", foreign.ask(7)},
		{"a ticket of another device, journal", foreign.upload()},
		{"a ticket for another relay", badRelay.ask(7)},
		{"a batch of another device", x.batch(otherBatch)},
		{"an early copy of another device's record", x.seal(protocol.MsgOutcomeCopy, protocol.MustEncode(protocol.OutcomeCopy{V: protocol.Version, Device: x.id, Record: record.Bytes}))},
		{"a type only the cloud says", x.seal(protocol.MsgResponse, protocol.MustEncode("x"))},
		{"an early copy of nothing", x.seal(protocol.MsgOutcomeCopy, protocol.MustEncode("x"))},
		{"conn of another device", relay.Message{Device: "snack-1", Topic: x.topic(protocol.UpConn), Payload: protocol.MustEncode(protocol.Conn{V: protocol.Version, Device: "snack-2"})}},
	}
	for i := range good.Payload { // every byte of a request, one at a time
		if i%7 == 0 {
			cases = append(cases, struct {
				name string
				m    relay.Message
			}{fmt.Sprintf("request, byte %d altered", i), with(good, func(m *relay.Message) { m.Payload[i] ^= 0x10 })})
		}
	}
	for i := range journal.Payload {
		if i%13 == 0 {
			cases = append(cases, struct {
				name string
				m    relay.Message
			}{fmt.Sprintf("batch, byte %d altered", i), with(journal, func(m *relay.Message) { m.Payload[i] ^= 0x10 })})
		}
	}
	was := b.fingerprint()
	for _, c := range cases {
		dropped, said := b.parts.Relay.Stats().Dropped.Load(), len(b.told)
		if err := b.handle(c.m); !errors.Is(err, relay.ErrDropped) {
			t.Errorf("%s: %v", c.name, err)
		}
		if n := b.parts.Relay.Stats().Dropped.Load(); n != dropped+1 {
			t.Errorf("%s was not counted", c.name)
		}
		if len(b.told) != said {
			t.Errorf("%s: %s was told something", c.name, b.told[said].topic)
		}
	}
	// What is replayed as it was is answered as it was, and changes nothing.
	for _, m := range []relay.Message{good, journal} {
		b.must(m)
	}
	if now := b.fingerprint(); now != was {
		t.Fatalf("something changed:\n%s\n%s", was, now)
	}
	// And nobody's answers went astray: snack-2, whose ticket was misused, is told on its own channel.
	b.must(other.ask(2))
	b.answer()
	other.hear(other.ch, protocol.DnAuth)
	b.must(x.ask(3))
	b.answer()
	x.hear(x.ch, protocol.DnAuth)
}

// A device is told on its newest connection; an older message that comes late does not change that.
func TestNewestConnection(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.add("snack-1", false)
	first, old := x.ask(1), x.ch
	b.must(first)
	x.dial()
	b.must(x.upload())
	b.must(first) // repeated after the reconnect, the same bytes
	b.answer()
	x.hear(x.ch, protocol.DnAuth)
	// A new journal starts its numbers again.
	x.epoch, x.n, x.log, x.head = protocol.Epoch{2}, 0, nil, protocol.Position{Epoch: protocol.Epoch{2}}
	x.write(protocol.EpochStarted{PrevEpoch: protocol.Epoch{1}, PrevSeq: 1, CertSerial: x.bundle.Serial})
	x.dial()
	b.must(x.upload())
	b.must(x.ask(2))
	b.must(first) // an old epoch's message, replayed
	b.must(x.ask(3))
	b.answer()
	x.hear(x.ch, protocol.DnAuth)
	if _, err := old.Open(x.topic(protocol.DnAuth), b.told[len(b.told)-1].payload); err == nil {
		t.Fatal("told on the old channel")
	}
}

// Whether a certificate is good is asked for every message, and believed no longer than a second.
func TestRevocation(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.add("snack-1", false)
	b.must(x.ask(1))
	fresh := b.add("snack-1", true) // replaced
	b.now += 1000
	for _, m := range []relay.Message{x.ask(2), x.upload()} {
		if err := b.handle(m); !errors.Is(err, relay.ErrDropped) {
			t.Fatalf("the old certificate: %v", err)
		}
	}
	b.must(fresh.ask(3))
	b.revoke(fresh)
	b.must(fresh.ask(4))
	var r protocol.AuthorizationResponse
	var a protocol.Auth
	plain := fresh.hear(fresh.ch, protocol.DnAuth)
	if err := errors.Join(protocol.Decode(plain, &a), protocol.Decode(a.Body, &r)); err != nil || r.Code != protocol.DeviceStopped {
		t.Fatalf("%+v %v", r, err)
	}
	b.must(fresh.upload())
	var w protocol.Watermark
	if err := protocol.Decode(fresh.hear(fresh.ch, protocol.DnAck), &w); err != nil || w.Verdict != protocol.Revoked {
		t.Fatalf("%+v %v", w, err)
	}
	if len(b.kicked) != 1 || b.kicked[0] != "snack-1" {
		t.Fatalf("kicked: %v", b.kicked)
	}
}

func TestTicketsAge(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.add("snack-1", false)
	b.must(x.upload())
	b.now = t0.Add(24*time.Hour + time.Second)
	if err := b.handle(x.upload()); !errors.Is(err, relay.ErrDropped) {
		t.Fatal(err)
	}
	x.dial()
	b.must(x.upload())
}

// What cannot be told is counted; the device's repeat brings it.
func TestUntold(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.add("snack-1", false)
	b.publish = errors.New("the broker is full")
	m := x.ask(1)
	b.must(m)
	op := b.sent[0]
	effects, err := b.parts.Payments.Handle(t.Context(), b.now, payment.HostAnswer{Key: op.Key, Answer: acquirer.Answer{Outcome: acquirer.No, Class: protocol.DeclineFinal}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.parts.Relay.Do(t.Context(), effects); !errors.Is(err, b.publish) || b.parts.Relay.Stats().Untold.Load() != 1 {
		t.Fatal(err)
	}
	b.publish = nil
	b.must(m)
	x.hear(x.ch, protocol.DnAuth)
	if len(b.sent) != 1 {
		t.Fatal("sent twice")
	}
}

func TestConn(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.add("snack-1", false)
	for _, s := range []struct {
		name   string
		epoch  byte
		number uint64
		online bool
		told   bool
	}{
		{"comes", 1, 5, true, true},
		{"an older one's will", 1, 4, false, false},
		{"an older one's hello", 1, 4, true, false},
		{"its own will", 1, 5, false, true},
		{"comes again", 1, 6, true, true},
		{"a new journal starts at 1", 2, 1, true, true},
		{"the will of a connection of the journal before", 1, 6, false, false},
		{"its own will", 2, 1, false, true},
	} {
		n := len(b.conns)
		x.epoch, x.n = protocol.Epoch{s.epoch}, s.number-1
		x.dial()
		b.must(x.conn(s.online))
		if (len(b.conns) > n) != s.told {
			t.Errorf("%s: told %t", s.name, len(b.conns) > n)
		}
	}
}

// revoke revokes a device, and waits until that is known.
func (b *bed) revoke(x *box) {
	b.t.Helper()
	d, err := b.parts.Store.Device(b.t.Context(), x.id)
	if err != nil {
		b.t.Fatal(err)
	}
	d.Revoked = true
	if err := b.parts.Store.PutDevice(b.t.Context(), d, true); err != nil {
		b.t.Fatal(err)
	}
	b.now += 1000
}

// conn is up/conn of the connection there is.
func (x *box) conn(online bool) relay.Message {
	c := protocol.Conn{V: protocol.Version, Device: x.id, Online: online, Epoch: x.epoch, Connection: x.n}
	if online {
		c.Ticket = x.ch.Ticket()
	}
	return relay.Message{Device: x.id, Topic: x.topic(protocol.UpConn), Will: !online, Payload: protocol.MustEncode(c)}
}

// Who comes shows a ticket that is good now: a broker elsewhere knows nothing of revoked certificates.
func TestConnNeedsATicket(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.add("snack-1", false)
	bare := x.conn(true)
	bare.Payload = protocol.MustEncode(protocol.Conn{V: protocol.Version, Device: x.id, Online: true, Epoch: x.epoch, Connection: x.n})
	other := x.conn(true)
	other.Payload = protocol.MustEncode(protocol.Conn{V: protocol.Version, Device: x.id, Online: true, Epoch: x.epoch, Connection: x.n + 1, Ticket: x.ch.Ticket()})
	old := x.conn(true)
	b.must(old)
	for name, m := range map[string]relay.Message{"no ticket": bare, "another connection's": other} {
		if err := b.handle(m); !errors.Is(err, relay.ErrDropped) {
			t.Errorf("%s: %v", name, err)
		}
	}
	x = b.add("snack-1", true) // a new identity, the old one is revoked
	b.now += 1000
	if err := b.handle(old); !errors.Is(err, relay.ErrDropped) {
		t.Errorf("the old certificate: %v", err)
	}
	b.must(x.conn(true))
	b.revoke(x)
	if err := b.handle(x.conn(true)); !errors.Is(err, relay.ErrDropped) {
		t.Errorf("revoked: %v", err)
	}
	b.must(x.conn(false)) // that it goes is true all the same
}

// A full queue is busy, and what was queued is handled in its order.
func TestQueue(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []uint64
	done := make(chan struct{})
	r := relay.New(relay.Config{
		Device: func(_ context.Context, id protocol.DeviceID) (identity.Device, error) {
			return identity.Device{ID: id}, nil
		},
		Conn: func(c protocol.Conn) {
			mu.Lock()
			defer mu.Unlock()
			if got = append(got, c.Connection); len(got) == 8 {
				close(done)
			}
		},
		Queue: 8, Works: 3,
	})
	m := func(n int) relay.Message {
		return relay.Message{Device: "snack-1", Topic: protocol.TopicOf("snack-1", protocol.UpConn), Payload: protocol.MustEncode(protocol.Conn{
			V: protocol.Version, Device: "snack-1", Connection: uint64(n),
		})}
	}
	for i := range 8 {
		if err := r.Receive(m(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Receive(m(9)); !errors.Is(err, relay.ErrBusy) || r.Stats().Busy.Load() != 1 {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	<-done
	cancel()
	if err := <-ended; err != nil || !slices.IsSorted(got) {
		t.Fatal(err, got)
	}
}

// A message over which its handler panics is dropped and counted; the device's next one is handled.
func TestPoison(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	r := relay.New(relay.Config{
		Device: func(_ context.Context, id protocol.DeviceID) (identity.Device, error) {
			return identity.Device{ID: id}, nil
		},
		Conn: func(c protocol.Conn) {
			if c.Connection == 1 {
				panic("poison")
			}
			close(done)
		},
		Works: 1,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	for n := range uint64(2) {
		err := r.Receive(relay.Message{Device: "snack-1", Topic: protocol.TopicOf("snack-1", protocol.UpConn), Payload: protocol.MustEncode(protocol.Conn{
			V: protocol.Version, Device: "snack-1", Connection: n + 1,
		})})
		if err != nil {
			t.Fatal(err)
		}
	}
	<-done
	cancel()
	if err := <-ended; err != nil || r.Stats().Panics.Load() != 1 {
		t.Errorf("%v, %d panics counted", err, r.Stats().Panics.Load())
	}
}

// A device that is connected is told of its own bank, and of the accounts; one that has gone is not.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	here, gone, fresh := b.add("snack-1", false), b.add("snack-2", false), b.add("snack-3", false)
	for _, x := range []*box{here, gone} {
		b.must(x.conn(true))
		b.must(x.upload())
	}
	b.must(fresh.conn(true)) // and was not heard yet: its watermark will say it
	b.must(gone.conn(false))
	b.told = nil
	asked := []string{}
	err := b.parts.Relay.Announce(t.Context(), t0+5, func(link string) []protocol.AcquirerState {
		asked = append(asked, link)
		return []protocol.AcquirerState{{Name: link, Up: true}}
	})
	if err != nil || len(b.told) != 1 || len(asked) != 1 || asked[0] != "bank" {
		t.Fatalf("%v, %d told, of %v", err, len(b.told), asked)
	}
	var a protocol.Auth
	var n protocol.Announcement
	if err := protocol.Decode(here.hear(here.ch, protocol.DnAuth), &a); err != nil || a.T != protocol.MsgAnnouncement {
		t.Fatal(a.T, err)
	}
	if err := protocol.Decode(a.Body, &n); err != nil || n.Device != "snack-1" || n.Cloud != t0+5 || len(n.Acquirers) != 1 || !n.Acquirers[0].Up {
		t.Fatalf("%+v %v", n, err)
	}
	b.revoke(here)
	b.told = nil
	if err := b.parts.Relay.Announce(t.Context(), t0+9, b.parts.Announced); err != nil || len(b.told) != 0 {
		t.Fatalf("revoked, and %d told; %v", len(b.told), err)
	}
}
