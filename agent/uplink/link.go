// Package uplink is the agent's way to the cloud: Link decides what to send and when to send it
// again, a thin shell around it does so.
//
//	link := uplink.New(uplink.Config{Device: id, Cloud: cloudKey}, head)
//	link, effects = link.Step(now, uplink.Connected{...})
//
// What Link promises:
//
//   - Within a payment's wait the same bytes are sent 1, 2 and 4 s after the first without a sign of
//     the cloud, every 3 s after `received`, and at once after a reconnect; never after the wait,
//     never after the answer, never after a restart (it then knows nothing of the payment).
//   - One batch is in flight at a time. Its acknowledgement is the cloud's watermark alone; a PUBACK
//     means nothing.
//   - After a chain fault nothing is uploaded any more, and the reason is told once.
//
// Step is pure but for the nonces protocol/seal draws.
package uplink

import (
	"crypto/ecdsa"
	"encoding/binary"
	"slices"
	"time"

	"coinop/protocol"
	"coinop/protocol/seal"
)

// Config of a Link.
type Config struct {
	Device protocol.DeviceID
	Cloud  *ecdsa.PublicKey // signs checkpoints
}

// Event is something Link must know. The shell makes them.
type Event interface{ linkEvent() }

// Connected: MQTT is up and dn/# subscribed. Number comes from the journal and was synced before
// CONNECT; Channel was made for it.
type Connected struct {
	Number  uint64
	Channel *seal.Channel
}

// Disconnected: the connection is gone.
type Disconnected struct{}

// Inbound is a message from a dn/ topic, not yet believed.
type Inbound struct {
	Topic   protocol.Topic
	Payload []byte
}

// Request asks for an authorization. Its record stands at Position.
type Request struct {
	Ask      protocol.Ask
	Position protocol.Position
}

// Outcome is the record of a payment's outcome: send its early copy and repeat the request no more.
type Outcome struct {
	Payment protocol.PaymentID
	Record  protocol.Sealed
}

// Head: the journal has grown.
type Head struct{ Position protocol.Position }

// Uploaded says what a batch held, after it was published; Err when it could not be built, which
// means the cloud wants records this device no longer has.
type Uploaded struct {
	Last protocol.Seq
	Err  error
}

// Tick: the time asked for by Wake has come (or any other time).
type Tick struct{}

// Ping: somebody wants to know whether the cloud answers. A batch is sent if none is in flight; Anchored
// tells the answer.
type Ping struct{}

func (Connected) linkEvent()    {}
func (Disconnected) linkEvent() {}
func (Inbound) linkEvent()      {}
func (Request) linkEvent()      {}
func (Outcome) linkEvent()      {}
func (Head) linkEvent()         {}
func (Uploaded) linkEvent()     {}
func (Tick) linkEvent()         {}
func (Ping) linkEvent()         {}

// Effect is what Link wants done. The switch that runs them has no default.
type Effect interface{ linkEffect() }

// Publish sends bytes with QoS 1. Accepted is all that is asked.
type Publish struct {
	Topic   protocol.Topic
	Payload []byte
}

// Upload builds, signs and publishes a batch of at most Max records after After (0 records when Max
// is 0), then reports Uploaded.
type Upload struct {
	After  protocol.Seq
	Max    int
	Nonce  protocol.Nonce
	Cursor uint64
}

// Wake asks for a Tick after a span; it replaces the Wake before.
type Wake struct{ After time.Duration }

// Received passes on that the cloud holds a request.
type Received struct{ Payment protocol.PaymentID }

// Answered passes on the answer to a request.
type Answered struct {
	Response protocol.AuthorizationResponse
}

// Anchored is cloud time, received now; RTT after it was asked for.
type Anchored struct {
	Anchor protocol.Anchor
	RTT    time.Duration
}

// Disposed passes on final payment dispositions.
type Disposed struct {
	Dispositions []protocol.Disposition
	Cursor       uint64
}

// Leased passes on this device's share of exposure.
type Leased struct{ Lease protocol.Lease }

// Way says how the way to the bank stands.
type Way uint8

// States of the way.
const (
	WayDown Way = iota + 1
	WayCloudDown
	WayAcquirerDown
	WayUp
)

func (w Way) String() string {
	return [...]string{"?", "down", "cloud_down", "acquirer_down", "up"}[min(int(w), 4)]
}

// State passes on a change of the way, or of whether accounts of closed-loop cards can be asked where the cloud can.
type State struct {
	Way      Way
	Accounts bool
}

// Release: a signed checkpoint covers 1..UpTo.
type Release struct{ UpTo protocol.Seq }

// Rewind tells that uploads start again after a lower record: Seq is the first wanted.
type Rewind struct{ Seq protocol.Seq }

// Reconnect: close the connection and make a new one, with a new ticket. Nothing is waited for.
type Reconnect struct{}

// Stop: this device must not sell or upload. Code names why.
type Stop struct{ Code string }

// Codes of Stop.
const (
	StopFork       = "journal.fork"
	StopEpoch      = "journal.epoch"
	StopRevoked    = "identity.revoked"
	StopRolledBack = "journal.rolled_back" // the cloud holds more than this disk: an old image
	StopWanting    = "journal.wanting"     // the cloud wants what this disk no longer holds
)

func (Publish) linkEffect()   {}
func (Upload) linkEffect()    {}
func (Wake) linkEffect()      {}
func (Received) linkEffect()  {}
func (Answered) linkEffect()  {}
func (Anchored) linkEffect()  {}
func (Disposed) linkEffect()  {}
func (Leased) linkEffect()    {}
func (State) linkEffect()     {}
func (Release) linkEffect()   {}
func (Rewind) linkEffect()    {}
func (Stop) linkEffect()      {}
func (Reconnect) linkEffect() {}

// Spans of Link.
const (
	batchRecords    = 64
	batchRepeat     = 5 * time.Second  // first repeat of an unanswered batch; doubles
	batchRepeatMax  = 60 * time.Second // longest
	cloudSilent     = 10 * time.Second // an unanswered batch this old means the cloud is down
	receivedRepeat  = 3 * time.Second
	acquirerPoll    = 15 * time.Second // while it is said to be down, ask again; doubles
	acquirerPollMax = 2 * time.Minute
	renewAfter      = 12 * time.Hour  // of a connection: its ticket is good for 24 h
	cloudDead       = 3 * time.Minute // an unanswered batch this old: try with a new connection and ticket
	maxWaits        = 32
)

var firstRepeats = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}

// wait is one request still worth an answer.
type wait struct {
	payment protocol.PaymentID
	askHash protocol.Hash
	number  uint64 // connection whose channel sealed it
	bytes   []byte // nil until there was a connection
	plain   []byte
	ends    time.Duration
	sent    time.Duration // first sending
	repeats int
	isRecv  bool
	next    time.Duration
}

type connection struct {
	number  uint64
	channel *seal.Channel
}

// Link is the state; a value. Use New.
type Link struct {
	cfg     Config
	conn    *connection // nil: down
	connAt  time.Duration
	leaving bool         // Reconnect was said
	keys    []connection // newest last; older ones only while a wait needs them
	waits   []wait
	head    protocol.Position
	acked   protocol.Seq
	known   bool // acked was learned on this connection
	flying  bool // a batch is unanswered
	sentAt  time.Duration
	since   time.Duration // first sending of the unanswered batch
	backoff time.Duration
	poll    time.Duration // until the cloud is asked whether the acquirers are back
	nonce   protocol.Nonce
	count   uint64
	cursor  uint64
	restore uint64
	way     Way
	acqDown bool
	loops   bool            // the cloud has accounts of closed-loop cards
	told    bool            // as State said last
	saidAt  protocol.UnixMS // cloud time of what acqDown and loops say
	stopped string
}

// New is a Link that is down, over a journal with this head.
func New(cfg Config, head protocol.Position, cursor uint64) Link {
	return Link{cfg: cfg, head: head, cursor: cursor, way: WayDown}
}

// Way is how the way to the bank stands.
func (l Link) Way() Way { return l.way }

// Accounts reports that accounts of closed-loop cards can be asked, where the cloud can.
func (l Link) Accounts() bool { return l.loops }

// Acked is the cloud's watermark as far as known on this connection.
func (l Link) Acked() (protocol.Seq, bool) { return l.acked, l.known }

// Head is the journal's head as far as it was told.
func (l Link) Head() protocol.Position { return l.head }

// Stopped is the code of a Stop, or "".
func (l Link) Stopped() string { return l.stopped }

// Waiting is how many requests are still repeated.
func (l Link) Waiting() int { return len(l.waits) }

type step struct {
	Link
	now  time.Duration
	ping bool
	out  []Effect
}

// Step takes one event in.
func (l Link) Step(now protocol.Reading, ev Event) (Link, []Effect) {
	l.waits, l.keys = slices.Clone(l.waits), slices.Clone(l.keys)
	s := &step{Link: l, now: now.Mono}
	switch ev := ev.(type) {
	case Connected:
		s.connected(ev)
	case Disconnected:
		s.conn, s.known, s.flying = nil, false, false
	case Inbound:
		s.inbound(ev)
	case Request:
		s.request(ev)
	case Outcome:
		s.outcome(ev)
	case Head:
		s.head = ev.Position
	case Uploaded:
		if ev.Err != nil {
			s.stop(StopWanting)
		}
	case Ping:
		s.ping = true
	case Tick:
	}
	s.expire()
	s.repeat()
	s.upload()
	s.renew()
	s.tellWay()
	s.dropKeys()
	s.wake()
	return s.Link, s.out
}

func (s *step) do(e Effect) { s.out = append(s.out, e) }

func (s *step) connected(ev Connected) {
	c := connection{number: ev.Number, channel: ev.Channel}
	s.conn, s.keys = &c, append(s.keys, c)
	s.known, s.flying, s.backoff = false, false, 0
	s.connAt, s.leaving = s.now, false
	for i := range s.waits { // at once after a reconnect, the same bytes
		s.send(&s.waits[i])
	}
}

// send publishes a wait's bytes, sealing them on the first connection there is.
func (s *step) send(w *wait) {
	if s.conn == nil {
		return
	}
	topic := protocol.TopicOf(s.cfg.Device, protocol.UpAuth)
	if w.bytes == nil {
		b, err := s.conn.channel.Seal(topic, w.plain)
		if err != nil {
			return // too large to send: the wait ends it
		}
		w.bytes, w.number, w.sent = b, s.conn.number, s.now
	}
	s.do(Publish{Topic: topic, Payload: w.bytes})
	switch {
	case w.isRecv:
		w.next = s.now + receivedRepeat
	case w.repeats < len(firstRepeats):
		w.next = max(w.sent+firstRepeats[w.repeats], s.now+time.Second)
	default:
		w.next = w.ends
	}
}

func (s *step) request(ev Request) {
	if len(s.waits) >= maxWaits || s.find(ev.Ask.Payment) >= 0 {
		return
	}
	plain := protocol.MustEncode(protocol.Auth{T: protocol.MsgRequest, Body: protocol.MustEncode(protocol.AuthorizationRequest{
		Ask: protocol.MustEncode(ev.Ask), Position: ev.Position,
	})})
	w := wait{
		payment: ev.Ask.Payment, askHash: protocol.HashOf(ev.Ask), plain: plain,
		ends: s.now + time.Duration(ev.Ask.WaitMS)*time.Millisecond,
	}
	w.next = w.ends
	s.send(&w)
	s.waits = append(s.waits, w)
}

func (s *step) outcome(ev Outcome) {
	s.drop(ev.Payment)
	if s.conn == nil {
		return // the journal's copy tells it
	}
	topic := protocol.TopicOf(s.cfg.Device, protocol.UpAuth)
	b, err := s.conn.channel.Seal(topic, protocol.MustEncode(protocol.Auth{
		T: protocol.MsgOutcomeCopy,
		Body: protocol.MustEncode(protocol.OutcomeCopy{
			V: protocol.Version, Device: s.cfg.Device, Record: ev.Record.Bytes, Hash: ev.Record.Position.Hash,
		}),
	}))
	if err == nil {
		s.do(Publish{Topic: topic, Payload: b})
	}
}

func (s *step) find(p protocol.PaymentID) int {
	return slices.IndexFunc(s.waits, func(w wait) bool { return w.payment == p })
}

func (s *step) drop(p protocol.PaymentID) {
	if i := s.find(p); i >= 0 {
		s.waits = slices.Delete(s.waits, i, i+1)
	}
}

func (s *step) expire() {
	s.waits = slices.DeleteFunc(s.waits, func(w wait) bool { return s.now >= w.ends })
}

func (s *step) repeat() {
	for i := range s.waits {
		w := &s.waits[i]
		if s.conn == nil || s.now < w.next || (w.bytes != nil && !w.isRecv && w.repeats >= len(firstRepeats)) {
			continue
		}
		if w.bytes != nil && !w.isRecv {
			w.repeats++
		}
		s.send(w)
	}
}

// upload sends a batch when one is due: an empty one first after each connect, which asks for the
// watermark and an anchor; then what the cloud lacks; and again what was not answered.
func (s *step) upload() {
	if s.conn == nil || s.stopped != "" {
		return
	}
	if s.flying {
		if s.now < s.sentAt+s.backoff {
			return
		}
		s.backoff = min(2*s.backoff, batchRepeatMax)
	} else {
		asks := s.acqDown && s.now >= s.sentAt+s.poll // a lane that cannot sell has nothing to send
		if s.known && s.head.Seq <= s.acked && !asks && !s.ping {
			return
		}
		if s.poll = min(2*s.poll, acquirerPollMax); !asks {
			s.poll = acquirerPoll
		}
		s.since, s.backoff = s.now, batchRepeat
	}
	s.count++
	binary.BigEndian.PutUint64(s.nonce[:8], s.conn.number)
	binary.BigEndian.PutUint64(s.nonce[8:], s.count)
	s.flying, s.sentAt = true, s.now
	u := Upload{After: s.acked, Max: batchRecords, Nonce: s.nonce, Cursor: s.cursor}
	if !s.known {
		u.After, u.Max = s.head.Seq, 0
	}
	s.do(u)
}

func (s *step) inbound(ev Inbound) {
	device, leaf, err := protocol.ParseTopic(ev.Topic)
	if err != nil || device != s.cfg.Device {
		return
	}
	switch leaf {
	case protocol.DnAuth:
		s.auth(ev)
	case protocol.DnAck:
		s.ack(ev)
	case protocol.DnCheckpoint:
		s.checkpoint(ev)
	}
}

// open tries the keys of the connection the message names; what does not open is dropped.
func (s *step) open(ev Inbound) ([]byte, connection, bool) {
	id, err := seal.ChannelOf(ev.Payload)
	if err != nil {
		return nil, connection{}, false
	}
	for _, c := range s.keys {
		if c.channel.ID == id {
			p, err := c.channel.Open(ev.Topic, ev.Payload)
			return p, c, err == nil
		}
	}
	return nil, connection{}, false
}

func (s *step) auth(ev Inbound) {
	plain, _, ok := s.open(ev)
	var a protocol.Auth
	if !ok || protocol.Decode(plain, &a) != nil {
		return
	}
	switch a.T {
	case protocol.MsgReceived:
		var r protocol.Received
		if protocol.Decode(a.Body, &r) != nil {
			return
		}
		i := s.find(r.Payment)
		if i < 0 || s.waits[i].askHash != r.AskHash {
			return
		}
		if !s.waits[i].isRecv {
			s.waits[i].isRecv, s.waits[i].next = true, s.now+receivedRepeat
			s.do(Received{Payment: r.Payment})
		}
	case protocol.MsgResponse:
		var r protocol.AuthorizationResponse
		if protocol.Decode(a.Body, &r) != nil || r.V != protocol.Version || r.Device != s.cfg.Device {
			return
		}
		if i := s.find(r.Payment); i >= 0 && s.waits[i].askHash != r.AskHash {
			return // an answer to something we did not ask
		}
		s.drop(r.Payment)
		s.do(Answered{Response: r}) // a late one too: the session records it
	case protocol.MsgAnnouncement:
		var n protocol.Announcement
		if protocol.Decode(a.Body, &n) == nil && n.V == protocol.Version && n.Device == s.cfg.Device && s.known {
			s.acquirers(n.Acquirers, n.Cloud)
		}
	}
}

func (s *step) ack(ev Inbound) {
	plain, from, ok := s.open(ev)
	var w protocol.Watermark
	if !ok || protocol.Decode(plain, &w) != nil || w.V != protocol.Version || w.Device != s.cfg.Device {
		return
	}
	if s.conn == nil || from.number != s.conn.number || s.stopped != "" {
		return
	}
	if w.Verdict == protocol.Revoked {
		s.stop(StopRevoked)
		return
	}
	if w.Verdict == protocol.BadEpoch || w.Epoch != s.head.Epoch {
		s.stop(StopEpoch)
		return
	}
	if w.Verdict == protocol.Fork {
		s.stop(StopFork)
		return
	}
	if w.N > s.head.Seq {
		s.stop(StopRolledBack)
		return
	}
	fresh := w.Anchor.Nonce == s.nonce
	if fresh {
		s.do(Anchored{Anchor: w.Anchor, RTT: s.now - s.sentAt})
	}
	switch {
	case w.Verdict == protocol.Gap || w.RestoreEpoch != s.restore || (s.known && w.N < s.acked && fresh):
		// a cloud restored from a backup, or one that lacks what we thought it had
		if s.known && w.N < s.acked {
			s.do(Rewind{Seq: w.N + 1})
		}
		s.acked, s.known, s.restore = w.N, true, w.RestoreEpoch
	case w.N >= s.acked || !s.known:
		s.acked, s.known = w.N, true
	}
	if fresh {
		s.flying = false
	}
	if w.Cursor > s.cursor {
		s.cursor = w.Cursor
		s.do(Disposed{Dispositions: w.Dispositions, Cursor: w.Cursor})
	}
	if w.Lease != nil {
		s.do(Leased{Lease: *w.Lease})
	}
	s.acquirers(w.Acquirers, w.Anchor.Cloud)
}

// acquirers is how what authorizes payments is, unless something later was said.
func (s *step) acquirers(all []protocol.AcquirerState, at protocol.UnixMS) {
	if at < s.saidAt {
		return
	}
	s.saidAt = at
	hosts, up := 0, false
	s.loops = false
	for _, a := range all {
		switch {
		case a.By == protocol.ByClosedLoop:
			s.loops = s.loops || a.Up
		case a.By <= protocol.ByHost:
			hosts++
			up = up || a.Up
		}
	}
	s.acqDown = hosts > 0 && !up
}

func (s *step) checkpoint(ev Inbound) {
	signed, err := seal.ParseSigned(ev.Payload)
	if err != nil {
		return
	}
	plain, err := signed.Verify(ev.Topic, s.cfg.Cloud)
	var c protocol.Checkpoint
	if err != nil || protocol.Decode(plain, &c) != nil || c.V != protocol.Version || c.Device != s.cfg.Device || c.Epoch != s.head.Epoch {
		return
	}
	if c.N > s.head.Seq {
		s.stop(StopRolledBack)
		return
	}
	s.do(Release{UpTo: c.N})
}

func (s *step) stop(code string) {
	if s.stopped == "" {
		s.stopped, s.flying = code, false
		s.do(Stop{Code: code})
	}
}

func (s *step) tellWay() {
	way := WayUp
	switch {
	case s.conn == nil:
		way = WayDown
	case s.flying && s.now >= s.since+cloudSilent:
		way = WayCloudDown
	case !s.known: // connected, but not a word of the cloud yet
		if way = s.way; way == WayUp || way == WayAcquirerDown {
			way = WayDown
		}
	case s.acqDown:
		way = WayAcquirerDown
	}
	if way != s.way || s.loops != s.told {
		s.way, s.told = way, s.loops
		s.do(State{Way: way, Accounts: s.loops})
	}
}

// renew asks for a new connection before the ticket of this one is too old, or when the cloud has
// long been silent on it; never while a request waits for its answer.
func (s *step) renew() {
	if s.conn == nil || s.leaving || len(s.waits) > 0 {
		return
	}
	if s.now >= s.connAt+renewAfter || s.flying && s.now >= s.since+cloudDead {
		s.leaving = true
		s.do(Reconnect{})
	}
}

// dropKeys forgets the keys of connections that are over and no wait was sealed with.
func (s *step) dropKeys() {
	s.keys = slices.DeleteFunc(s.keys, func(c connection) bool {
		return (s.conn == nil || c.number != s.conn.number) &&
			!slices.ContainsFunc(s.waits, func(w wait) bool { return w.bytes != nil && w.number == c.number })
	})
}

func (s *step) wake() {
	next := time.Duration(-1)
	earliest := func(t time.Duration) {
		if next < 0 || t < next {
			next = t
		}
	}
	for _, w := range s.waits {
		earliest(w.ends)
		if s.conn != nil && (w.isRecv || w.repeats < len(firstRepeats)) {
			earliest(w.next)
		}
	}
	if s.conn != nil && !s.leaving {
		earliest(s.connAt + renewAfter)
		if s.flying {
			earliest(s.since + cloudDead)
		}
	}
	if s.conn != nil && s.acqDown && !s.flying && s.stopped == "" {
		earliest(s.sentAt + s.poll)
	}
	if s.flying {
		earliest(s.sentAt + s.backoff)
		if s.way != WayCloudDown {
			earliest(s.since + cloudSilent)
		}
	}
	if next >= 0 {
		s.do(Wake{After: max(next-s.now, time.Millisecond)})
	}
}
