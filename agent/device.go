package agent

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/agent/uplink"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/seal"
)

// DeviceConfig is what a Device is made for. All but Repaired is needed.
type DeviceConfig struct {
	Core     CoreConfig
	Signer   seal.Signer      // the device's own key; KeyID is its certificate's serial
	Relay    seal.PublicKey   // opens our channels
	Payment  seal.PublicKey   // opens our cards
	Cloud    *ecdsa.PublicKey // signs checkpoints
	Boot     protocol.BootID
	Random   io.Reader            // of ids
	Plan     Plan                 // what stands behind the buses' item numbers; nil: nobody says
	Odd      map[string]code.Code // what did not fit it before, as it was told
	Software string
}

// Device is Core and Link together: everything that decides on a machine, synchronous and without a
// goroutine. The shell around it brings events and time in and carries out what comes back; so does
// the simulator.
//
//	d, do, err := NewDevice(now, config, journal)  // recovers, boots: do says what is still owed
//	do, err = d.Handle(now, inputs...)             // ever after; an error: start anew
type Device struct {
	cfg     DeviceConfig
	core    *Core
	link    uplink.Link
	journal *journal.Journal
	cards   *seal.CardSealer
	id      protocol.DeviceID

	anchor   protocol.Anchor
	anchored time.Duration // Mono at its receipt
	note     bool          // the next anchor is this connection's first: it is kept as a record
	channel  *seal.Channel
	told     session.LinkState
	stopped  string
	plan     planned
}

// Input is something that happened, as the shell brings it.
type Input interface{ input() }

// Lane is an event of one lane.
type Lane struct {
	Lane  protocol.Lane
	Event session.Event
}

// Chosen is an order at a screen: lines of one buyer. Ids are minted here; that of the sale only when it
// has none.
type Chosen struct {
	Lane  protocol.Lane
	Sale  protocol.SaleID
	Class protocol.Class
	Lines []protocol.Line
	Cash  bool // where there is a terminal too
}

// Asked is a vend request of a bus. Ids are minted here.
type Asked struct {
	Lane    protocol.Lane
	Request session.VendRequest // without ids
}

// Tapped is a card that was read; it is sealed here and Card's bytes are wiped.
type Tapped struct {
	Lane protocol.Lane
	Card TappedCard
}

// TappedCard is what the shell knows of a card. Sealed.Payment and Nonce are filled in here.
type TappedCard struct {
	Sealed  protocol.SealedCard
	Tap     protocol.Tap
	Ref     string // the reader's token, or PAR
	TapHMAC []byte
	TC      bool
}

// Inserted is money that came in for good. Its payment's id is minted here.
type Inserted struct {
	Lane protocol.Lane
	Cash session.CashIn // without an id
}

// Uplink is an event of the link.
type Uplink struct{ Event uplink.Event }

// Everywhere is an event for every lane: a policy, tamper, storage.
type Everywhere struct{ Event session.Event }

// Noted is a record of a lane that no session has a part in.
type Noted struct {
	Lane protocol.Lane
	Body protocol.Body
	Sale bool // it is a sale of its own: its id is minted here
}

// Fault is something wrong with the device itself, or over: it is written for the cloud.
type Fault struct {
	Code   code.Code
	Device string // "": the whole
	Detail string
}

func (Lane) input()       {}
func (Chosen) input()     {}
func (Asked) input()      {}
func (Tapped) input()     {}
func (Inserted) input()   {}
func (Uplink) input()     {}
func (Everywhere) input() {}
func (Noted) input()      {}
func (Fault) input()      {}

// Do is one thing the shell must do, in order. The switch that does them has no default.
type Do interface{ do() }

// Effect (of a lane, in core.go) is one of them; Authorize and SendOutcomeCopy never come out.

// Publish hands bytes to the broker with QoS 1.
type Publish struct {
	Topic   protocol.Topic
	Payload []byte
}

// WakeLink asks for Uplink{Tick} after a span; it replaces the one before.
type WakeLink struct{ After time.Duration }

// Reconnect asks for a new connection in place of this one.
type Reconnect struct{}

// Way tells how the way to the bank stands; lanes know already.
type Way struct{ Way uplink.Way }

// Heard tells that the cloud has answered a batch, with its time, and how long that took.
type Heard uplink.Anchored

// Stopped tells that the device must not sell any more, and why; lanes know already.
type Stopped struct{ Code string }

func (Effect) do()    {}
func (Publish) do()   {}
func (WakeLink) do()  {}
func (Reconnect) do() {}
func (Way) do()       {}
func (Heard) do()     {}
func (Stopped) do()   {}

// NewDevice recovers what the journal says and lets every lane say what is still owed.
func NewDevice(now protocol.Reading, cfg DeviceConfig, j *journal.Journal) (*Device, []Do, error) {
	if len(cfg.Core.Lanes) == 0 || cfg.Signer.Key == nil || cfg.Cloud == nil || cfg.Random == nil || cfg.Boot.IsZero() {
		return nil, nil, errors.New("device: incomplete configuration")
	}
	cfg.Core.Software = cfg.Software
	fate, why := j.Fate()
	cfg.Core.Repaired = why
	core, err := NewCore(cfg.Core, j)
	if err != nil {
		return nil, nil, err
	}
	d := &Device{plan: planned{plan: cfg.Plan, odd: maps.Clone(cfg.Odd)}, cfg: cfg, core: core, journal: j, cards: seal.NewCardSealer(cfg.Payment), id: cfg.Core.Lanes[0].Device, told: session.LinkDown}
	effects, err := core.Boot(d.reading(now), d.newCase(now), fateRecords(fate, why)...)
	if err != nil {
		return nil, nil, err
	}
	d.link = uplink.New(uplink.Config{Device: d.id, Cloud: cfg.Cloud}, j.Head(), core.Cursor())
	do, err := d.effects(now, effects)
	return d, do, err
}

// fateRecords are how the cloud hears of a disk that has spoiled the journal.
func fateRecords(f journal.Fate, why string) []protocol.Record {
	switch f {
	case journal.Rebuilt:
		return []protocol.Record{{Body: protocol.DeviceEvent{Code: string(code.StorageRebuilt), Detail: why}}}
	case journal.Renewed:
		return []protocol.Record{{Body: protocol.DeviceEvent{Code: string(code.StorageDamaged), Detail: why}}}
	case journal.Sound, journal.Mended: // Booted says it
	}
	return nil
}

// BusEpoch is where the numbering of a bus begins in this run: above all that came before, for each
// start writes a record. Drivers count resets up from it.
func (d *Device) BusEpoch() uint64 { return uint64(d.journal.Head().Seq) << 20 }

// LaneState is the state of a lane.
func (d *Device) LaneState(l protocol.Lane) (session.State, bool) { return d.core.Lane(l) }

// Link is the state of the uplink.
func (d *Device) Link() uplink.Link { return d.link }

// Handle takes inputs in, in order, and returns what is to be done, in order. Records are synced
// before anything that depends on them is in the result. After an error nothing more may be done:
// the device starts anew from its journal.
func (d *Device) Handle(now protocol.Reading, ins ...Input) ([]Do, error) {
	var out []Do
	var evs []session.In
	flush := func() error {
		if len(evs) == 0 {
			return nil
		}
		effects, err := d.core.Handle(d.reading(now), evs)
		evs = nil
		if err != nil {
			return err
		}
		do, err := d.effects(now, effects)
		out = append(out, do...)
		return err
	}
	for _, in := range ins {
		switch in := in.(type) {
		case Lane:
			evs = append(evs, d.in(now, in.Lane, in.Event))
		case Everywhere:
			for _, l := range d.cfg.Core.Lanes {
				evs = append(evs, d.in(now, l.Lane, in.Event))
			}
		case Noted:
			r := protocol.Record{Lane: in.Lane, Body: in.Body}
			if in.Sale {
				r.Sale = protocol.SaleID(d.newID(now))
			}
			do, err := d.write(now, r)
			out = append(out, do...)
			if err != nil {
				return nil, err
			}
		case Fault:
			do, err := d.fault(now, in)
			out = append(out, do...)
			if err != nil {
				return nil, err
			}
		case Chosen:
			evs = append(evs, d.in(now, in.Lane, d.order(now, in)))
		case Asked:
			r := in.Request
			if err := flush(); err != nil {
				return nil, err
			}
			for _, f := range d.plan.look(in.Lane, &r) {
				do, err := d.fault(now, f)
				out = append(out, do...)
				if err != nil {
					return nil, err
				}
			}
			r.Sale, r.Vend = protocol.SaleID(d.newID(now)), protocol.VendID(d.newID(now))
			r.Payment = d.forTerminal(now, in.Lane)
			evs = append(evs, d.in(now, in.Lane, r))
		case Inserted:
			in.Cash.Payment = protocol.PaymentID(d.newID(now))
			evs = append(evs, d.in(now, in.Lane, in.Cash))
		case Tapped:
			// A card is sealed for what is due, so what came before it must have happened.
			if err := flush(); err != nil {
				return nil, err
			}
			ev, err := d.card(now, in)
			if err != nil {
				return nil, err
			}
			evs = append(evs, d.in(now, in.Lane, ev))
		case Uplink:
			if err := flush(); err != nil {
				return nil, err
			}
			do, err := d.uplink(now, in.Event)
			out = append(out, do...)
			if err != nil {
				return nil, err
			}
		}
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return out, nil
}

// Dial makes the channel of the next connection: its number is synced first. hello is for up/conn
// when the connection stands, will is its last will.
func (d *Device) Dial(now protocol.Reading) (connected uplink.Connected, hello, will []byte, err error) {
	n, err := d.journal.NextConnection()
	if err != nil {
		return uplink.Connected{}, nil, nil, err
	}
	head := d.journal.Head()
	ch, err := seal.NewChannel(d.cfg.Signer, seal.Ticket{
		Device: d.id, CertSerial: d.cfg.Signer.KeyID, Epoch: head.Epoch, Boot: d.cfg.Boot, Connection: n, Wall: now.Wall,
	}, d.cfg.Relay)
	if err != nil {
		return uplink.Connected{}, nil, nil, err
	}
	c := protocol.Conn{
		V: protocol.Version, Device: d.id, Online: true, Epoch: head.Epoch, Connection: n, Seq: head.Seq,
		PolicyVersion: d.cfg.Core.Policy.Version, Software: d.cfg.Software, Ticket: ch.Ticket(),
	}
	hello = protocol.MustEncode(c)
	c.Online, c.Reason, c.Ticket = false, "connection lost", nil
	d.channel, d.note = ch, true
	return uplink.Connected{Number: n, Channel: ch}, hello, protocol.MustEncode(c), nil
}

func (d *Device) reading(now protocol.Reading) protocol.Reading {
	now.Boot = d.cfg.Boot
	if !d.anchor.ID.IsZero() {
		now.Anchor, now.SinceAnchor = d.anchor.ID, now.Mono-d.anchored
	}
	return now
}

func (d *Device) in(now protocol.Reading, l protocol.Lane, ev session.Event) session.In {
	return session.In{Lane: l, Case: protocol.CaseID(d.newID(now)), Event: ev}
}

func (d *Device) newID(now protocol.Reading) protocol.ID[struct{}] {
	var r [10]byte
	if _, err := io.ReadFull(d.cfg.Random, r[:]); err != nil {
		panic(fmt.Sprintf("device: no randomness: %v", err))
	}
	return protocol.NewID[struct{}](now.Wall, r)
}

func (d *Device) newCase(now protocol.Reading) func() protocol.CaseID {
	return func() protocol.CaseID { return protocol.CaseID(d.newID(now)) }
}

// fault writes a DeviceEvent.
func (d *Device) fault(now protocol.Reading, f Fault) ([]Do, error) {
	return d.write(now, protocol.Record{Body: protocol.DeviceEvent{Code: string(f.Code), Device: f.Device, Detail: f.Detail}})
}

// write writes a record of the device's own.
func (d *Device) write(now protocol.Reading, r protocol.Record) ([]Do, error) {
	effects, err := d.core.Handle(d.reading(now), nil, r)
	if err != nil {
		return nil, err
	}
	return d.effects(now, effects)
}

// forTerminal is the id of the payment that an order on a lane with a terminal begins with.
func (d *Device) forTerminal(now protocol.Reading, l protocol.Lane) (p protocol.PaymentID) {
	for _, c := range d.cfg.Core.Lanes {
		if c.Lane == l && c.Terminal {
			p = protocol.PaymentID(d.newID(now))
		}
	}
	return p
}

// order expands lines to items: quantity q is q vends; what a line's amount has beside q unit
// prices is spread over them, the remainder on the first.
func (d *Device) order(now protocol.Reading, c Chosen) session.Order {
	if c.Sale.IsZero() {
		c.Sale = protocol.SaleID(d.newID(now))
	}
	o := session.Order{Sale: c.Sale, Class: c.Class, Lines: c.Lines, Payment: d.forTerminal(now, c.Lane), Cash: c.Cash}
	for i, l := range c.Lines {
		q := int64(l.Qty)
		for k := range q {
			a := l.Amount
			a.Minor = l.Amount.Minor / q
			if k == 0 {
				a.Minor += l.Amount.Minor % q
			}
			o.Items = append(o.Items, protocol.Item{Vend: protocol.VendID(d.newID(now)), Line: uint8(i), Outlet: l.Outlet, Amount: a})
		}
	}
	return o
}

// card seals a card twice: under the payment's id for the request, and under a spare id for the case
// that it is taken offline.
func (d *Device) card(now protocol.Reading, in Tapped) (session.Event, error) {
	c := in.Card
	defer func() {
		clear(c.Sealed.Track2)
		clear(c.Sealed.ICC)
		clear(c.Sealed.PINBlock)
		if c.Sealed.Loop != nil {
			clear(c.Sealed.Loop.UID)
		}
	}()
	st, ok := d.core.Lane(in.Lane)
	if !ok || !st.Accepting() {
		return session.CardFailed{Reason: "not_expected"}, nil
	}
	sale := st.Sale()
	ev := session.CardRead{
		Sale: protocol.SaleID(d.newID(now)), Payment: protocol.PaymentID(d.newID(now)), Spare: protocol.PaymentID(d.newID(now)),
		Tap: c.Tap, TapHMAC: c.TapHMAC, TC: c.TC, Loop: c.Sealed.Loop != nil,
	}
	if sale.IsZero() { // the card comes first
		sale = ev.Sale
	}
	sealFor := func(p protocol.PaymentID) ([]byte, error) {
		s := c.Sealed
		s.Payment, s.Nonce = p, protocol.Nonce(d.newID(now))
		plain := protocol.MustEncode(s)
		defer clear(plain)
		aad := protocol.MustEncode(protocol.CardAAD{Device: d.id, Epoch: d.journal.Head().Epoch, Sale: sale, Payment: p, Amount: st.Due()})
		return d.cards.Seal(aad, plain)
	}
	var err error
	if ev.Sealed, err = sealFor(ev.Payment); err == nil {
		ev.SpareSealed, err = sealFor(ev.Spare)
	}
	if err != nil {
		return nil, fmt.Errorf("seal a card: %w", err)
	}
	ev.SpareHash = protocol.HashBytes(ev.SpareSealed)
	ev.Card = protocol.Card{
		BlobHash: protocol.HashBytes(ev.Sealed), Brand: c.Tap.Brand, Last4: c.Tap.Last4, Ref: c.Ref,
		Entry: c.Tap.Entry, CVM: c.Tap.CVM,
	}
	return ev, nil
}

// effects passes lanes' effects on; requests and early copies go to the link, which is told how far
// the journal has come.
func (d *Device) effects(now protocol.Reading, effects []Effect) ([]Do, error) {
	var out []Do
	for _, e := range effects {
		var ev uplink.Event
		switch x := e.Effect.(type) {
		case session.Authorize:
			ev = uplink.Request{Ask: x.Ask, Position: x.Position}
		case session.SendOutcomeCopy:
			o, err := protocol.OpenRecord(x.Sealed.Bytes)
			if err != nil {
				return nil, err
			}
			out2, ok := o.Body.(protocol.PaymentOutcome)
			if !ok {
				return nil, fmt.Errorf("early copy of a %s", o.Body.Kind())
			}
			ev = uplink.Outcome{Payment: out2.Payment, Record: x.Sealed}
		default:
			out = append(out, e)
			continue
		}
		do, err := d.uplink(now, ev)
		out = append(out, do...)
		if err != nil {
			return nil, err
		}
	}
	do, err := d.grown(now)
	return append(out, do...), err
}

// grown tells the link of a journal that has grown.
func (d *Device) grown(now protocol.Reading) ([]Do, error) {
	if d.link.Head() == d.journal.Head() {
		return nil, nil
	}
	return d.uplink(now, uplink.Head{Position: d.journal.Head()})
}

func (d *Device) uplink(now protocol.Reading, ev uplink.Event) ([]Do, error) {
	var effects []uplink.Effect
	d.link, effects = d.link.Step(d.reading(now), ev)
	var out []Do
	for _, e := range effects {
		do, err := d.linkEffect(now, e)
		out = append(out, do...)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (d *Device) linkEffect(now protocol.Reading, e uplink.Effect) ([]Do, error) {
	switch e := e.(type) {
	case uplink.Publish:
		return []Do{Publish(e)}, nil
	case uplink.Wake:
		return []Do{WakeLink(e)}, nil
	case uplink.Reconnect:
		return []Do{Reconnect{}}, nil
	case uplink.Upload:
		return d.upload(now, e)
	case uplink.Received:
		return d.all(now, session.Received{Payment: e.Payment})
	case uplink.Answered:
		return d.all(now, session.Answer{Response: e.Response})
	case uplink.Anchored:
		d.anchor, d.anchored = e.Anchor, now.Mono
		heard := []Do{Heard(e)}
		if !d.note { // a record of each would call for a batch, and that for an anchor, for ever
			return heard, nil
		}
		d.note = false
		effects, err := d.core.Handle(d.reading(now), nil, protocol.Record{Body: protocol.ClockAnchor{
			Anchor: e.Anchor, MonoMS: now.Mono.Milliseconds(), RTTMS: e.RTT.Milliseconds(),
		}})
		if err != nil {
			return nil, err
		}
		do, err := d.effects(now, effects)
		return append(heard, do...), err
	case uplink.State:
		do, err := d.all(now, session.Link{State: linkState(e.Way)}, session.Accounts{Up: e.Accounts})
		return append(do, Way{e.Way}), err
	case uplink.Stop:
		d.stopped = e.Code
		do, err := d.all(now, session.Stopped{Code: e.Code})
		return append(do, Stopped{e.Code}), err
	case uplink.Release:
		if err := d.journal.Release(e.UpTo); err != nil {
			return nil, err
		}
		_, err := d.journal.Trim(now.Wall, false)
		return nil, err
	case uplink.Rewind, uplink.Disposed, uplink.Leased: // of offline payments, which are not taken yet
		return nil, nil
	}
	panic(fmt.Sprintf("device: link effect %T", e))
}

func linkState(w uplink.Way) session.LinkState {
	switch w {
	case uplink.WayUp:
		return session.LinkUp
	case uplink.WayCloudDown:
		return session.LinkCloudDown
	case uplink.WayAcquirerDown:
		return session.LinkAcquirerDown
	default:
		return session.LinkDown
	}
}

// all tells every lane.
func (d *Device) all(now protocol.Reading, all ...session.Event) ([]Do, error) {
	evs := make([]session.In, 0, len(all)*len(d.cfg.Core.Lanes))
	for _, ev := range all {
		for _, l := range d.cfg.Core.Lanes {
			evs = append(evs, d.in(now, l.Lane, ev))
		}
	}
	effects, err := d.core.Handle(d.reading(now), evs)
	if err != nil {
		return nil, err
	}
	return d.effects(now, effects)
}

func (d *Device) upload(now protocol.Reading, u uplink.Upload) ([]Do, error) {
	if d.channel == nil {
		return nil, nil
	}
	msg, last, err := u.Build(d.id, d.journal, d.cfg.Signer, d.channel.Ticket())
	if errors.Is(err, journal.ErrReleased) { // the cloud wants what this disk no longer holds
		return d.uplink(now, uplink.Uploaded{Err: err})
	}
	if err != nil {
		return nil, err
	}
	do, err := d.uplink(now, uplink.Uploaded{Last: last})
	return append([]Do{Publish{Topic: protocol.TopicOf(d.id, protocol.UpJournal), Payload: msg}}, do...), err
}
