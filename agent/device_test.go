package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"slices"
	"testing"
	"time"

	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/agent/uplink"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
	"coinop/protocol/seal"
)

const track = "5413330089020011=25122010123456789"

// rig is a Device and the other end of its channel, in time that is only counted.
type rig struct {
	t       *testing.T
	key     seal.Signer
	relay   seal.PrivateKey
	payment seal.PrivateKey
	cloud   seal.Signer
	disk    *journal.Disk
	jour    *journal.Journal
	dev     *Device
	mono    time.Duration
	boots   byte
	channel *seal.Channel // the cloud's end
	done    []Do
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, disk: journal.NewDisk()}
	var err error
	if r.relay, err = seal.NewPrivateKey(); err != nil {
		t.Fatal(err)
	}
	if r.payment, err = seal.NewPrivateKey(); err != nil {
		t.Fatal(err)
	}
	r.key, r.cloud = signer(t, "5e"), signer(t, "cloud")
	r.boot()
	return r
}

func signer(t *testing.T, id string) seal.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return seal.Signer{Key: k, KeyID: id}
}

// boot starts the agent on the disk there is.
func (r *rig) boot() {
	r.t.Helper()
	r.boots++
	r.mono, r.done, r.channel = time.Second, nil, nil
	var err error
	if r.jour, err = journal.OpenMem(r.disk, journal.Options{Device: "m1", NewEpoch: func() protocol.Epoch { return protocol.Epoch{1} }}); err != nil {
		r.t.Fatal(err)
	}
	var do []Do
	r.dev, do, err = NewDevice(r.now(), DeviceConfig{
		Core:   CoreConfig{Lanes: []session.Config{{Device: "m1", Flow: protocol.SelectionFirst}}, Policy: protocol.Policy{Version: 1, Currency: money.EUR}},
		Signer: r.key, Relay: r.relay.Public(), Payment: r.payment.Public(), Cloud: r.cloud.Key.Public().(*ecdsa.PublicKey),
		Boot: protocol.BootID{r.boots}, Random: crand.Reader, Software: "test",
	}, r.jour)
	if err != nil {
		r.t.Fatal(err)
	}
	r.done = do
}

func (r *rig) now() protocol.Reading { return protocol.Reading{Wall: 1_800_000_000_000, Mono: r.mono} }

func (r *rig) handle(ins ...Input) []Do {
	r.t.Helper()
	do, err := r.dev.Handle(r.now(), ins...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.done = append(r.done, do...)
	return do
}

// connect dials and lets the cloud open the ticket.
func (r *rig) connect() []Do {
	r.t.Helper()
	c, hello, will, err := r.dev.Dial(r.now())
	if err != nil {
		r.t.Fatal(err)
	}
	var h, w protocol.Conn
	if protocol.Decode(hello, &h) != nil || protocol.Decode(will, &w) != nil || !h.Online || w.Online || h.Connection != c.Number || w.Connection != c.Number {
		r.t.Fatalf("%+v %+v", h, w)
	}
	ticket, ch, err := seal.OpenTicket(h.Ticket, func(protocol.DeviceID, string) (*ecdsa.PublicKey, error) {
		return r.key.Key.Public().(*ecdsa.PublicKey), nil
	}, r.relay)
	if err != nil || ticket.Connection != c.Number || ticket.Device != "m1" {
		r.t.Fatal(ticket, err)
	}
	r.channel = ch
	return r.handle(Uplink{Event: c})
}

// batch is the last batch in do.
func (r *rig) batch(do []Do) (b protocol.Batch) {
	r.t.Helper()
	found := false
	for _, d := range do {
		p, ok := d.(Publish)
		if !ok || p.Topic != protocol.TopicOf("m1", protocol.UpJournal) {
			continue
		}
		var j protocol.Journal
		if err := protocol.Decode(p.Payload, &j); err != nil {
			r.t.Fatal(err)
		}
		s, err := seal.ParseSigned(j.Signed)
		if err != nil {
			r.t.Fatal(err)
		}
		plain, err := s.Verify(p.Topic, r.key.Key.Public().(*ecdsa.PublicKey))
		if err != nil || protocol.Decode(plain, &b) != nil {
			r.t.Fatal(err)
		}
		found = true
	}
	if !found {
		r.t.Fatalf("no batch in %v", do)
	}
	return b
}

// ack answers a batch: the cloud holds up to n.
func (r *rig) ack(b protocol.Batch, v protocol.Verdict, n protocol.Seq) []Do {
	r.t.Helper()
	return r.tell(protocol.DnAck, protocol.MustEncode(protocol.Watermark{
		V: protocol.Version, Device: "m1", Epoch: b.Epoch, Verdict: v, N: n, Hash: b.Head,
		Anchor: protocol.Anchor{ID: protocol.AnchorID{byte(n), 7}, Cloud: 1_800_000_000_500, Nonce: b.Nonce},
	}))
}

func (r *rig) tell(l protocol.Leaf, plain []byte) []Do {
	r.t.Helper()
	topic := protocol.TopicOf("m1", l)
	msg, err := r.channel.Seal(topic, plain)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.handle(Uplink{Event: uplink.Inbound{Topic: topic, Payload: msg}})
}

// up connects and answers batches until the cloud holds everything.
func (r *rig) up() {
	r.t.Helper()
	do := r.connect()
	b := r.batch(do)
	if len(b.Record) != 0 {
		r.t.Fatal("the first batch of a connection is not empty")
	}
	do = r.ack(b, protocol.Acked, 0)
	for n := 0; n < 10; n++ {
		if acked, ok := r.dev.Link().Acked(); ok && acked == r.jour.Head().Seq {
			return
		}
		b = r.batch(do)
		do = r.ack(b, protocol.Acked, b.Last)
	}
	r.t.Fatal("uploads do not come to an end") // an anchor's record must not call for another anchor
}

// opened are messages of up/auth in do.
func (r *rig) opened(do []Do) (out []protocol.Auth) {
	r.t.Helper()
	for _, d := range do {
		if p, ok := d.(Publish); ok && p.Topic == protocol.TopicOf("m1", protocol.UpAuth) {
			plain, err := r.channel.Open(p.Topic, p.Payload)
			var a protocol.Auth
			if err != nil || protocol.Decode(plain, &a) != nil {
				r.t.Fatal(err)
			}
			out = append(out, a)
		}
	}
	return out
}

func effect[T session.Effect](do []Do) (found []T) {
	for _, d := range do {
		if e, ok := d.(Effect); ok {
			if x, ok := e.Effect.(T); ok {
				found = append(found, x)
			}
		}
	}
	return found
}

// bodies are those of all records of a kind.
func (r *rig) bodies(k protocol.Kind) (out []protocol.Opened) {
	r.t.Helper()
	rs, err := r.jour.Read(0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range rs {
		o, err := protocol.OpenRecord(s.Bytes)
		if err != nil {
			r.t.Fatal(err)
		}
		if o.Body.Kind() == k {
			out = append(out, o)
		}
	}
	return out
}

// order is a buyer's choice, with the vending side seen alive.
func (r *rig) order() []Do {
	r.t.Helper()
	price := money.New(125, money.EUR)
	return r.handle(Lane{Event: session.BusState{State: session.BusStateEnabled, At: r.mono}},
		Chosen{Class: protocol.Live, Lines: []protocol.Line{{Product: "cola", Outlet: 5, Qty: 2, Unit: price, Amount: money.New(251, money.EUR), Surcharge: 1}}})
}

func (r *rig) tap() (do []Do, bytes []byte) {
	r.t.Helper()
	bytes = []byte(track)
	return r.handle(Tapped{Card: TappedCard{
		Sealed: protocol.SealedCard{Entry: protocol.EntryContactless, Track2: bytes},
		Tap:    protocol.Tap{Entry: protocol.EntryContactless, Last4: "0011", LocalTime: "20270115120000"},
	}}), bytes
}

// request is the one request in do.
func (r *rig) request(do []Do) (protocol.Ask, protocol.AuthorizationRequest) {
	r.t.Helper()
	as := r.opened(do)
	if len(as) != 1 || as[0].T != protocol.MsgRequest {
		r.t.Fatalf("%d messages on up/auth", len(as))
	}
	var q protocol.AuthorizationRequest
	var a protocol.Ask
	if protocol.Decode(as[0].Body, &q) != nil || protocol.DecodeExact(q.Ask, &a) != nil || a.Check() != nil {
		r.t.Fatalf("%+v", a)
	}
	return a, q
}

func (r *rig) answer(a protocol.Ask, res protocol.Result) []Do {
	r.t.Helper()
	body := protocol.MustEncode(protocol.AuthorizationResponse{
		V: protocol.Version, Device: "m1", Payment: a.Payment, AskHash: protocol.HashOf(a),
		Result: res, Approved: a.Amount, Answer: protocol.AnswerID{9},
	})
	return r.tell(protocol.DnAuth, protocol.MustEncode(protocol.Auth{T: protocol.MsgResponse, Body: body}))
}

func TestDeviceSells(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if len(effect[session.ArmReader](r.order())) != 1 {
		t.Fatal("the reader is not armed")
	}
	do, bytes := r.tap()
	if len(r.opened(do)) != 0 || len(r.bodies(protocol.KindAuthorizationSent)) != 0 {
		t.Fatal("asked without a link")
	}
	if slices.ContainsFunc(bytes, func(b byte) bool { return b != 0 }) {
		t.Fatal("card data is left in memory")
	}
	r.up()
	if len(r.bodies(protocol.KindClockAnchor)) != 1 {
		t.Fatal("one anchor record a connection")
	}
	r.order()
	do, bytes = r.tap()
	if slices.ContainsFunc(bytes, func(b byte) bool { return b != 0 }) {
		t.Fatal("card data is left in memory")
	}
	a, q := r.request(do)
	sent := r.bodies(protocol.KindAuthorizationSent)
	if len(sent) != 1 || sent[0].Position != q.Position || sent[0].Body.(protocol.AuthorizationSent).AskHash != protocol.HashBytes(q.Ask) {
		t.Fatal("the request does not stand where it says")
	}
	if a.Amount != money.New(251, money.EUR) || a.Anchor.IsZero() {
		t.Fatalf("%+v", a)
	}
	plain, err := seal.NewCardOpener(r.payment).OpenCard(a.Sealed, protocol.MustEncode(protocol.CardAAD{Device: "m1", Epoch: protocol.Epoch{1}, Sale: a.Sale, Payment: a.Payment, Amount: a.Amount}))
	var card protocol.SealedCard
	if err != nil || protocol.Decode(plain, &card) != nil || string(card.Track2) != track || card.Payment != a.Payment {
		t.Fatal("the sealed card does not open for its payment", err)
	}
	// An answer that is not of our channel changes nothing.
	other, err := seal.NewChannel(r.key, seal.Ticket{Device: "m1", CertSerial: "5e"}, r.relay.Public())
	if err != nil {
		t.Fatal(err)
	}
	forged, _ := other.Seal(protocol.TopicOf("m1", protocol.DnAuth), []byte("x"))
	if do := r.handle(Uplink{Event: uplink.Inbound{Topic: protocol.TopicOf("m1", protocol.DnAuth), Payload: forged}}); len(effect[session.Vend](do)) != 0 {
		t.Fatal("vends")
	}
	do = r.answer(a, protocol.Approved)
	var copies []protocol.Auth
	for i := range 2 { // quantity 2 is two vends
		v := effect[session.Vend](do)
		if len(v) != 1 || v[0].Amount.Minor != int64(126-i) {
			t.Fatalf("vend %d: %+v", i, v)
		}
		do = r.handle(Lane{Event: session.VendSuccess{Vend: v[0].ID, Item: 5, Grade: protocol.GradeReported}})
		copies = append(copies, r.opened(do)...)
	}
	outs := r.bodies(protocol.KindPaymentOutcome)
	var oc protocol.OutcomeCopy
	if len(outs) != 1 || len(copies) != 1 || copies[0].T != protocol.MsgOutcomeCopy || protocol.Decode(copies[0].Body, &oc) != nil || oc.Hash != outs[0].Position.Hash {
		t.Fatalf("%d outcomes, %d copies", len(outs), len(copies))
	}
	if o := outs[0].Body.(protocol.PaymentOutcome); o.What != protocol.Capture || o.Amount != a.Amount || protocol.HashBytes(oc.Record) != oc.Hash {
		t.Fatalf("%+v", o)
	}
	if len(effect[session.Receipt](do)) != 1 {
		t.Fatal("no receipt")
	}
}

// Power goes while the host is being asked: after the restart nothing is asked or vended again, and
// the payment is void.
func TestDeviceRestartsWhileAsking(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up()
	r.order()
	do, _ := r.tap()
	a, _ := r.request(do)
	r.boot()
	r.up()
	outs := r.bodies(protocol.KindPaymentOutcome)
	if len(outs) != 1 || outs[0].Body.(protocol.PaymentOutcome).What != protocol.Void {
		t.Fatalf("%+v", outs)
	}
	if ms := r.opened(r.done); len(ms) > 1 || len(ms) == 1 && ms[0].T != protocol.MsgOutcomeCopy {
		t.Fatalf("%+v", ms)
	}
	if do := r.answer(a, protocol.Approved); len(effect[session.Vend](do)) != 0 || len(r.bodies(protocol.KindLateAnswer)) != 1 {
		t.Fatal("an answer from before the restart was taken")
	}
}

// A request is repeated as the same bytes after a reconnect, and its answer on the old channel counts.
func TestDeviceReconnectsWhileAsking(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up()
	r.order()
	do, _ := r.tap()
	a, _ := r.request(do)
	first := slices.IndexFunc(do, func(d Do) bool { p, ok := d.(Publish); return ok && p.Topic == protocol.TopicOf("m1", protocol.UpAuth) })
	old := r.channel
	r.handle(Uplink{Event: uplink.Disconnected{}})
	r.mono += 500 * time.Millisecond
	again := r.connect()
	if !slices.ContainsFunc(again, func(d Do) bool {
		p, ok := d.(Publish)
		return ok && string(p.Payload) == string(do[first].(Publish).Payload)
	}) {
		t.Fatal("not the same bytes at once after the reconnect")
	}
	r.channel = old
	if do := r.answer(a, protocol.Approved); len(effect[session.Vend](do)) != 1 {
		t.Fatal("the answer on the old channel was not taken")
	}
}

// What the cloud says of the journal: released records may go, a fork ends selling.
func TestDeviceIsToldOfItsJournal(t *testing.T) {
	t.Parallel()
	checkpoint := func(r *rig, by seal.Signer, n protocol.Seq) []Do {
		topic := protocol.TopicOf("m1", protocol.DnCheckpoint)
		msg, err := by.Sign(topic, protocol.MustEncode(protocol.Checkpoint{V: protocol.Version, Device: "m1", Epoch: protocol.Epoch{1}, N: n}), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r.handle(Uplink{Event: uplink.Inbound{Topic: topic, Payload: msg}})
	}
	stopped := func(do []Do) string {
		for _, d := range do {
			if s, ok := d.(Stopped); ok {
				return s.Code
			}
		}
		return ""
	}
	for _, c := range []struct {
		name string
		do   func(*rig) []Do
		code string
	}{
		{"a checkpoint", func(r *rig) []Do { return checkpoint(r, r.cloud, 2) }, ""},
		{"a forged checkpoint from the future", func(r *rig) []Do { return checkpoint(r, r.key, 99) }, ""},
		{"a checkpoint from the future", func(r *rig) []Do { return checkpoint(r, r.cloud, 99) }, uplink.StopRolledBack},
		{"fork", func(r *rig) []Do { return r.ack(r.batch(r.done), protocol.Fork, 0) }, uplink.StopFork},
		{"epoch", func(r *rig) []Do { return r.ack(r.batch(r.done), protocol.BadEpoch, 0) }, uplink.StopEpoch},
		{"revoked", func(r *rig) []Do { return r.ack(r.batch(r.done), protocol.Revoked, 0) }, uplink.StopRevoked},
		{"holds more than the disk", func(r *rig) []Do { return r.ack(r.batch(r.done), protocol.Acked, 99) }, uplink.StopRolledBack},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.up()
			if code := stopped(c.do(r)); code != c.code {
				t.Fatalf("stopped by %q, want %q", code, c.code)
			}
			if armed := len(effect[session.ArmReader](r.order())) == 1; armed != (c.code == "") {
				t.Fatalf("reader armed: %t", armed)
			}
		})
	}
}

// TestDevicePlan: a bus's item has its product's name in every record and on the receipt; what does not
// fit the plan stands in the journal, once, before the sale that met it.
func TestDevicePlan(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.dev.plan = planned{plan: Plan{0: {5: {Name: "Cola", Price: money.New(100, money.EUR)}}}}
	r.up()
	for n := range uint32(2) {
		r.handle(Lane{Event: session.BusState{State: session.BusStateEnabled, At: r.mono}})
		do := r.handle(Asked{Request: session.VendRequest{Bus: protocol.BusKey{BusEpoch: 1, Session: n + 1, Request: 1}, Price: money.New(150, money.EUR), Item: 5}})
		if len(effect[session.ArmReader](do)) != 1 {
			t.Fatalf("the reader is not armed: %+v", effect[session.Show](do))
		}
		do, _ = r.tap()
		a, _ := r.request(do)
		v := effect[session.Vend](r.answer(a, protocol.Approved))
		if len(v) != 1 {
			t.Fatalf("%+v", v)
		}
		r.handle(Lane{Event: session.VendSuccess{Vend: v[0].ID, Item: 5, Grade: protocol.GradeReported}})
		records, err := recordsOf(r.jour, a.Sale)
		if err != nil {
			t.Fatal(err)
		}
		if p := receiptOf(records, a.Sale, money.EUR); p.Items[0].Name != "Cola" || p.Charged != money.New(150, money.EUR) {
			t.Errorf("%+v", p)
		}
	}
	events := r.bodies(protocol.KindDeviceEvent)
	if len(events) != 1 || events[0].Body.(protocol.DeviceEvent).Code != string(code.PlanPrice) {
		t.Errorf("%+v", events)
	}
}
