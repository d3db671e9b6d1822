package uplink

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"
)

// world is a Link, the cloud's ends of its channels and a clock moved by hand.
type world struct {
	t      *testing.T
	now    time.Duration
	link   Link
	device *ecdsa.PrivateKey
	cloud  *ecdsa.PrivateKey
	relay  seal.PrivateKey
	ends   map[uint64]*seal.Channel
	number uint64
	out    []Effect
}

func newWorld(t *testing.T, head protocol.Seq) *world {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	relay, err := seal.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, device: key(), cloud: key(), relay: relay, ends: map[uint64]*seal.Channel{}}
	w.link = New(Config{Device: "m1", Cloud: &w.cloud.PublicKey}, position(head), 0)
	return w
}

func position(n protocol.Seq) protocol.Position {
	return protocol.Position{Epoch: protocol.Epoch{1}, Seq: n, Hash: protocol.Hash{byte(n)}}
}

func (w *world) step(ev Event) []Effect {
	w.t.Helper()
	w.link, w.out = w.link.Step(protocol.Reading{Mono: w.now}, ev)
	return w.out
}

func (w *world) connect() []Effect {
	w.t.Helper()
	w.number++
	ch, err := seal.NewChannel(seal.Signer{Key: w.device, KeyID: "0a"}, seal.Ticket{Device: "m1", CertSerial: "0a", Connection: w.number}, w.relay.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	_, end, err := seal.OpenTicket(ch.Ticket(), func(protocol.DeviceID, string) (*ecdsa.PublicKey, error) { return &w.device.PublicKey, nil }, w.relay)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ends[w.number] = end
	return w.step(Connected{Number: w.number, Channel: ch})
}

func (w *world) down(number uint64, leaf protocol.Leaf, msg any) []Effect {
	w.t.Helper()
	topic := protocol.TopicOf("m1", leaf)
	b, err := w.ends[number].Seal(topic, protocol.MustEncode(msg))
	if err != nil {
		w.t.Fatal(err)
	}
	return w.step(Inbound{Topic: topic, Payload: b})
}

func (w *world) ack(n protocol.Seq, change ...func(*protocol.Watermark)) []Effect {
	w.t.Helper()
	m := protocol.Watermark{
		V: protocol.Version, Device: "m1", Epoch: protocol.Epoch{1}, Verdict: protocol.Acked, N: n,
		Anchor: protocol.Anchor{ID: protocol.AnchorID{1}, Cloud: 1, Nonce: w.link.nonce},
	}
	for _, c := range change {
		c(&m)
	}
	return w.down(w.number, protocol.DnAck, m)
}

func effects[T Effect](es []Effect) (out []T) {
	for _, e := range es {
		if t, ok := e.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

func ask(p byte) protocol.Ask {
	return protocol.Ask{
		V: protocol.Version, Device: "m1", Sale: protocol.SaleID{1}, Payment: protocol.PaymentID{p},
		Amount: money.New(150, money.EUR), WaitMS: 10_000,
	}
}

// tick moves the clock in small steps and returns when something was published on up/auth.
func (w *world) tick(until time.Duration) (at []time.Duration, bytes [][]byte) {
	for ; w.now <= until; w.now += 100 * time.Millisecond {
		for _, p := range effects[Publish](w.step(Tick{})) {
			at, bytes = append(at, w.now), append(bytes, p.Payload)
		}
	}
	return at, bytes
}

// Within the wait the same bytes go 1, 2 and 4 s after the first, then no more.
func TestRepeatsWithoutReceived(t *testing.T) {
	w := newWorld(t, 1)
	w.connect()
	w.ack(1)
	first := effects[Publish](w.step(Request{Ask: ask(1), Position: position(1)}))
	at, bytes := w.tick(20 * time.Second)
	if want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}; !slices.Equal(at, want) {
		t.Fatalf("repeats at %v, want %v", at, want)
	}
	for _, b := range bytes {
		if !slices.Equal(b, first[0].Payload) {
			t.Fatal("a repeat is not the same bytes")
		}
	}
	if w.link.Waiting() != 0 {
		t.Fatal("the wait did not end")
	}
}

func TestRepeatsAfterReceived(t *testing.T) {
	w := newWorld(t, 1)
	w.connect()
	w.ack(1)
	w.step(Request{Ask: ask(1), Position: position(1)})
	msg := func(hash protocol.Hash) protocol.Auth {
		return protocol.Auth{T: protocol.MsgReceived, Body: protocol.MustEncode(protocol.Received{Payment: protocol.PaymentID{1}, AskHash: hash})}
	}
	if out := effects[Received](w.down(1, protocol.DnAuth, msg(protocol.Hash{9}))); len(out) != 0 {
		t.Fatal("received for another ask")
	}
	for want := range 2 { // the second says nothing new
		if out := effects[Received](w.down(1, protocol.DnAuth, msg(protocol.HashOf(ask(1))))); len(out) != 1-want {
			t.Fatalf("%d: %v", want, out)
		}
	}
	at, _ := w.tick(20 * time.Second)
	if want := []time.Duration{3 * time.Second, 6 * time.Second, 9 * time.Second}; !slices.Equal(at, want) {
		t.Fatalf("repeats at %v, want %v", at, want)
	}
}

// A repeat after a reconnect is the same bytes under the old ticket, and its answer still opens.
func TestReconnectKeepsBytesAndKeys(t *testing.T) {
	w := newWorld(t, 1)
	w.connect()
	first := effects[Publish](w.step(Request{Ask: ask(1), Position: position(1)}))
	w.step(Disconnected{})
	if at, _ := w.tick(3 * time.Second); len(at) != 0 {
		t.Fatalf("published while down at %v", at)
	}
	again := effects[Publish](w.connect())
	if len(again) != 1 || !slices.Equal(again[0].Payload, first[0].Payload) {
		t.Fatalf("after the reconnect: %d messages", len(again))
	}
	resp := protocol.AuthorizationResponse{
		V: protocol.Version, Device: "m1", Payment: protocol.PaymentID{1},
		AskHash: protocol.HashOf(ask(1)), Result: protocol.Approved, Approved: money.New(150, money.EUR),
	}
	out := effects[Answered](w.down(1, protocol.DnAuth, protocol.Auth{T: protocol.MsgResponse, Body: protocol.MustEncode(resp)}))
	if len(out) != 1 || out[0].Response.Result != protocol.Approved {
		t.Fatalf("%+v", out)
	}
	if w.link.Waiting() != 0 || len(w.link.keys) != 1 {
		t.Fatalf("%d waits, %d keys", w.link.Waiting(), len(w.link.keys))
	}
	if at, _ := w.tick(9 * time.Second); len(at) != 0 {
		t.Fatalf("repeated after the answer at %v", at)
	}
}

// An outcome ends the repeats and sends its copy; an answer to another ask is no answer.
func TestOutcomeAndForeignAnswer(t *testing.T) {
	w := newWorld(t, 1)
	w.connect()
	w.ack(1)
	w.step(Request{Ask: ask(1), Position: position(1)})
	resp := protocol.AuthorizationResponse{V: protocol.Version, Device: "m1", Payment: protocol.PaymentID{1}, AskHash: protocol.Hash{9}}
	if out := effects[Answered](w.down(1, protocol.DnAuth, protocol.Auth{T: protocol.MsgResponse, Body: protocol.MustEncode(resp)})); len(out) != 0 {
		t.Fatal("foreign answer taken")
	}
	out := effects[Publish](w.step(Outcome{Payment: protocol.PaymentID{1}, Record: protocol.Sealed{Bytes: []byte{1}, Position: position(2)}}))
	if len(out) != 1 || w.link.Waiting() != 0 {
		t.Fatalf("%d messages, %d waits", len(out), w.link.Waiting())
	}
}

// One batch in flight; an empty one first; what is not answered goes again with backoff.
func TestUpload(t *testing.T) {
	w := newWorld(t, 5)
	up := effects[Upload](w.connect())
	if len(up) != 1 || up[0].Max != 0 || up[0].After != 5 {
		t.Fatalf("first batch %+v", up)
	}
	if up := effects[Upload](w.step(Head{Position: position(7)})); len(up) != 0 {
		t.Fatal("a second batch in flight")
	}
	out := w.ack(3)
	if up := effects[Upload](out); len(up) != 1 || up[0].After != 3 || up[0].Max == 0 {
		t.Fatalf("after the watermark %+v", up)
	}
	if a := effects[Anchored](out); len(a) != 1 || a[0].Anchor.ID != (protocol.AnchorID{1}) {
		t.Fatalf("anchor %+v", a)
	}
	var at []time.Duration
	for ; w.now < 40*time.Second; w.now += 500 * time.Millisecond {
		if len(effects[Upload](w.step(Tick{}))) > 0 {
			at = append(at, w.now)
		}
	}
	if want := []time.Duration{5 * time.Second, 15 * time.Second, 35 * time.Second}; !slices.Equal(at, want) {
		t.Fatalf("repeats at %v, want %v", at, want)
	}
	if w.link.Way() != WayCloudDown {
		t.Fatalf("way %s", w.link.Way())
	}
	if up := effects[Upload](w.ack(7)); len(up) != 0 || w.link.Way() != WayUp {
		t.Fatalf("all is there: %+v, way %s", up, w.link.Way())
	}
}

// A stale watermark (an old nonce) neither anchors nor ends the flight nor rewinds.
// A ping is a batch though there is nothing to send; while one is in flight, its answer is the ping's too.
func TestPing(t *testing.T) {
	w := newWorld(t, 5)
	if out := w.step(Ping{}); len(effects[Upload](out)) != 0 {
		t.Fatal("sent without a connection")
	}
	w.connect()
	if out := w.step(Ping{}); len(effects[Upload](out)) != 0 {
		t.Fatal("a second batch in flight")
	}
	if a := effects[Anchored](w.ack(5)); len(a) != 1 {
		t.Fatal("the first batch's answer is no answer")
	}
	if out := w.step(Tick{}); len(effects[Upload](out)) != 0 {
		t.Fatal("sent with nothing to send")
	}
	if up := effects[Upload](w.step(Ping{})); len(up) != 1 || up[0].After != 5 {
		t.Fatalf("ping: %+v", up)
	}
	if a := effects[Anchored](w.ack(5)); len(a) != 1 {
		t.Fatal("a ping's answer is not told")
	}
}

func TestStaleWatermark(t *testing.T) {
	w := newWorld(t, 5)
	w.connect()
	old := w.link.nonce
	w.ack(5)
	w.step(Head{Position: position(9)})
	out := w.ack(2, func(m *protocol.Watermark) { m.Anchor.Nonce = old })
	if len(effects[Anchored](out))+len(effects[Rewind](out))+len(effects[Upload](out)) != 0 {
		t.Fatalf("%+v", out)
	}
	if n, known := w.link.Acked(); n != 5 || !known {
		t.Fatal(n)
	}
}

func TestRewind(t *testing.T) {
	for name, change := range map[string]func(*protocol.Watermark){
		"gap":            func(m *protocol.Watermark) { m.Verdict, m.Want = protocol.Gap, 3 },
		"restored cloud": func(m *protocol.Watermark) { m.RestoreEpoch = 2 },
	} {
		w := newWorld(t, 5)
		w.connect()
		w.ack(5)
		w.step(Head{Position: position(6)})
		out := w.ack(2, change)
		up := effects[Upload](out)
		if r := effects[Rewind](out); len(r) != 1 || r[0].Seq != 3 || len(up) != 1 || up[0].After != 2 {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

func TestStops(t *testing.T) {
	for code, change := range map[string]func(*protocol.Watermark){
		StopFork:       func(m *protocol.Watermark) { m.Verdict = protocol.Fork },
		StopEpoch:      func(m *protocol.Watermark) { m.Verdict = protocol.BadEpoch },
		StopRevoked:    func(m *protocol.Watermark) { m.Verdict = protocol.Revoked },
		StopRolledBack: func(m *protocol.Watermark) { m.N = 99 },
	} {
		w := newWorld(t, 5)
		w.connect()
		if s := effects[Stop](w.ack(5, change)); len(s) != 1 || s[0].Code != code {
			t.Fatalf("%s: %+v", code, s)
		}
		w.now += time.Hour
		if out := w.step(Head{Position: position(8)}); len(effects[Upload](out)) != 0 {
			t.Errorf("%s: still uploading", code)
		}
	}
	w := newWorld(t, 5)
	w.connect()
	if s := effects[Stop](w.step(Uploaded{Err: protocol.ErrDecode})); len(s) != 1 || s[0].Code != StopWanting {
		t.Fatalf("%+v", s)
	}
}

// Bytes that were not sealed on one of our channels, or for another topic or device, do nothing.
func TestForeignBytes(t *testing.T) {
	w := newWorld(t, 5)
	w.connect()
	other := newWorld(t, 5)
	other.connect()
	m := protocol.Watermark{V: protocol.Version, Device: "m1", Epoch: protocol.Epoch{1}, Verdict: protocol.Fork}
	topic := protocol.TopicOf("m1", protocol.DnAck)
	foreign, err := other.ends[1].Seal(topic, protocol.MustEncode(m))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := w.ends[1].Seal(protocol.TopicOf("m1", protocol.DnAuth), protocol.MustEncode(m))
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]Inbound{
		"another channel": {Topic: topic, Payload: foreign},
		"another topic":   {Topic: topic, Payload: ours},
		"another device":  {Topic: protocol.TopicOf("m2", protocol.DnAck), Payload: ours},
		"noise":           {Topic: topic, Payload: []byte{0xd0, 0x83}},
		"empty":           {Topic: topic},
	} {
		if s := effects[Stop](w.step(in)); len(s) != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	w := newWorld(t, 5)
	topic := protocol.TopicOf("m1", protocol.DnCheckpoint)
	sign := func(k *ecdsa.PrivateKey, n protocol.Seq) Inbound {
		b, err := seal.Signer{Key: k, KeyID: "cloud"}.Sign(topic, protocol.MustEncode(protocol.Checkpoint{
			V: protocol.Version, Device: "m1", Epoch: protocol.Epoch{1}, N: n,
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		return Inbound{Topic: topic, Payload: b}
	}
	if out := w.step(sign(w.device, 3)); len(effects[Release](out)) != 0 {
		t.Fatal("a checkpoint signed by a device was believed")
	}
	if r := effects[Release](w.step(sign(w.cloud, 3))); len(r) != 1 || r[0].UpTo != 3 {
		t.Fatalf("%+v", r)
	}
	if s := effects[Stop](w.step(sign(w.cloud, 6))); len(s) != 1 || s[0].Code != StopRolledBack {
		t.Fatalf("%+v", s)
	}
}

// What the cloud says of banks and accounts is believed from a watermark and from an announcement, and the later one
// counts; another device's announcement does not.
func TestAcquirers(t *testing.T) {
	t.Parallel()
	bank := func(up bool) protocol.AcquirerState { return protocol.AcquirerState{Name: "bank", Up: up} }
	own := protocol.AcquirerState{Name: "accounts", Up: true, By: protocol.ByClosedLoop}
	type said = []protocol.AcquirerState
	for _, c := range []struct {
		name      string
		ack       said
		at        protocol.UnixMS // of the announcement; the watermark is of 1
		announced said
		device    protocol.DeviceID
		way       Way
		accounts  bool
	}{
		{"nothing is said", nil, 0, nil, "m1", WayUp, false},
		{"both are up", said{bank(true), own}, 0, nil, "m1", WayUp, true},
		{"the bank is down", said{bank(false), own}, 0, nil, "m1", WayAcquirerDown, true},
		{"a device without a bank", said{own}, 0, nil, "m1", WayUp, true},
		{"one bank of two", said{bank(false), bank(true)}, 0, nil, "m1", WayUp, false},
		{"the bank goes down", said{bank(true), own}, 2, said{bank(false), own}, "m1", WayAcquirerDown, true},
		{"the bank comes back", said{bank(false), own}, 2, said{bank(true), own}, "m1", WayUp, true},
		{"that was before", said{bank(false), own}, -2, said{bank(true), own}, "m1", WayAcquirerDown, true},
		{"that was another's", said{bank(true), own}, 2, said{bank(false)}, "m2", WayUp, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.connect()
			states := effects[State](w.ack(1, func(m *protocol.Watermark) { m.Acquirers = c.ack }))
			if c.at != 0 {
				n := protocol.Announcement{V: protocol.Version, Device: c.device, Acquirers: c.announced, Cloud: c.at}
				states = append(states, effects[State](w.down(1, protocol.DnAuth, protocol.Auth{T: protocol.MsgAnnouncement, Body: protocol.MustEncode(n)}))...)
			}
			if w.link.Way() != c.way || w.link.Accounts() != c.accounts {
				t.Errorf("%s, accounts %t; want %s, %t", w.link.Way(), w.link.Accounts(), c.way, c.accounts)
			}
			if len(states) == 0 || states[len(states)-1] != (State{c.way, c.accounts}) {
				t.Errorf("told %v", states)
			}
		})
	}
}
