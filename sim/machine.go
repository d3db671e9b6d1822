package sim

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"coinop/agent"
	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/cloud/acquirer"
	"coinop/cloud/identity"
	"coinop/protocol"
	"coinop/protocol/card"
)

// machine is one device with its vending side, its disk and its buyers.
type machine struct {
	w    *World
	i    int
	name string
	id   protocol.DeviceID
	tid  string
	rng  *rand.Rand // buyers and the vending side
	net  *rand.Rand // the way to the cloud
	cfg  agent.DeviceConfig
	key  identity.Bundle

	// The process. Its state is gone when it dies; gen tells its runs apart.
	dev    *agent.Device
	j      *journal.Journal
	on     bool
	gen    int
	boot   byte
	bootAt protocol.UnixMS
	timers map[session.TimerName]session.TimerID
	wake   uint64

	disk    *journal.Disk
	heldAt  protocol.UnixMS // when the cloud last had all its records
	renewed bool            // both copies were spoiled once
	wall    time.Duration   // how far its clock is off
	cut     *Fault          // a power cut that is armed
	skip    int
	down    time.Duration // of that power cut

	conn           *conn
	linkCut        bool
	cutSince       protocol.UnixMS
	lose, twice    int // messages up
	slow           int
	deaf, slowDown int // messages down

	kiosk   bool
	canteen bool // its buyers pay with cards of the operator's own
	vmc     vmc
	sales   []*sale
	cur     *sale // the one a buyer is at, or was last
	waits   []*Fault
	used    map[int64]bool
}

// sale is what one buyer wanted, and what the world knows of it.
type sale struct {
	n      int
	total  int64
	at     protocol.UnixMS
	fell   int64 // price of what fell
	items  int   // how many fell
	causes map[string]bool
	last   bool // of the sales after healing
	taps   int
	over   bool // the buyer has gone
}

var pans = []string{"4761739001010119", "5555555555554444", "4111111111111111", "5105105105105100", "4012888888881881"}

func newMachine(w *World, i int) (*machine, error) {
	m := &machine{
		w: w, i: i, name: fmt.Sprintf("m%02d", i), id: protocol.DeviceID(fmt.Sprintf("m%02d", i)), tid: fmt.Sprintf("T%07d", i),
		rng: w.rng(streamMachine + uint64(i)*10), net: w.rng(streamMachine + uint64(i)*10 + 1),
		disk: journal.NewDisk(), kiosk: i%4 == 3, canteen: i%5 == 2, used: map[int64]bool{},
	}
	m.vmc = vmc{m: m, seesAck: i%2 == 0, evidence: i%4 == 3}
	m.wall = span(m.rng, -48*time.Hour, 48*time.Hour)
	m.disk.Before = func() error { return m.power(cutBefore) }
	m.disk.Between = func() error { return m.power(cutTorn) }
	m.disk.After = func() error { return m.power(cutAfter) }
	var err error
	cloudKeys, err := w.keys.Cloud()
	if err != nil {
		return nil, err
	}
	if m.key, err = w.keys.Authority.Device(m.id, epoch0.Time(), cloudKeys); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&m.key.Key.PublicKey)
	if err != nil {
		return nil, err
	}
	err = w.store.PutDevice(w.ctx, identity.Device{
		ID: m.id, Tenant: "sim", Serial: m.key.Serial, Key: der, Link: linkName,
		Merchant: acquirer.Merchant{TID: m.tid, MID: "MERCHANT0000001", MCC: "5814", Country: "276", Location: "somewhere"},
	}, false)
	if err != nil {
		return nil, err
	}
	lane := session.Config{Device: m.id, Lane: 0, Flow: protocol.SelectionFirst, Bus: protocol.BusMDB}
	if m.kiosk {
		lane.Bus, lane.OwnsMotor = protocol.BusNone, true
	}
	pub, ok := w.keys.Signing.Key.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("signing key")
	}
	m.cfg = agent.DeviceConfig{
		Core:   agent.CoreConfig{Lanes: []session.Config{lane}, Policy: protocol.Policy{Version: 1, Currency: eur(0).Currency}, SnapshotEvery: 40},
		Signer: m.key.Signer(), Relay: w.keys.Relay.Public(), Payment: w.keys.Payment.Public(), Cloud: pub,
		Random: w.bytes(streamMachine + uint64(i)), Software: "sim",
	}
	return m, nil
}

func (m *machine) reading() protocol.Reading {
	return protocol.Reading{Wall: m.w.now.Add(m.wall), Mono: m.w.now.Sub(m.bootAt)}
}

// powerOn starts the process: it opens the journal the disk has and says what is still owed.
func (m *machine) powerOn() {
	m.gen++
	m.boot++
	m.w.counts.Boots++
	m.on, m.bootAt, m.timers, m.conn = true, m.w.now, map[session.TimerName]session.TimerID{}, nil
	m.w.trace(m.name, "starts")
	var err error
	m.j, err = journal.OpenMem(m.disk, journal.Options{
		Device: m.id, CertSerial: m.key.Serial, Software: "sim",
		NewEpoch: func() protocol.Epoch { return protocol.Epoch{byte(m.i), m.boot} }, KeepRecords: 1, KeepFor: time.Millisecond, Now: m.reading(), // nothing that need not be
	})
	if err != nil {
		m.crashed(err)
		return
	}
	m.cfg.Boot = protocol.BootID{byte(m.i), m.boot, 1}
	var do []agent.Do
	m.dev, do, err = agent.NewDevice(m.reading(), m.cfg, m.j)
	if err != nil {
		m.crashed(err)
		return
	}
	m.vmc.driverStarts()
	m.run(do)
	if m.on {
		m.handle(m.busState(session.BusStateEnabled))
	}
	m.beat()
	m.connectSoon(span(m.net, 100*time.Millisecond, 3*time.Second))
}

// powerOff ends the process where it stands. whole takes the vending side's power too.
func (m *machine) powerOff(whole bool, down time.Duration) {
	if !m.on {
		return
	}
	m.on = false
	m.gen++
	m.w.counts.Cuts++
	m.blame("power")
	if c := m.conn; c != nil {
		c.live = false
		m.conn = nil
	}
	m.vmc.driverDies(whole)
	m.w.trace(m.name, "loses its power for %s, whole=%t", down, whole)
	gen := m.gen
	m.w.after(down, func() {
		if m.gen == gen && !m.on {
			m.powerOn()
		}
	})
}

// spoil makes one copy of the journal, or both, unreadable while the power is away. What the cloud had
// not yet of both is gone, and explains what becomes of these sales.
func (m *machine) spoil(both bool, down time.Duration) {
	if !m.on {
		return
	}
	m.powerOff(false, down)
	m.disk.Spoil(both)
	m.w.counts.Spoiled++
	m.w.trace(m.name, "its disk spoils the journal, both=%t", both)
	if !both {
		return
	}
	m.renewed = true
	for _, s := range m.sales {
		if s.at >= m.heldAt.Add(-30*time.Minute) {
			s.causes["disk"] = true
		}
	}
}

// power is the disk's hook around a commit: an armed cut strikes at its boundary.
func (m *machine) power(modes ...cutMode) error {
	f := m.cut
	if f == nil || !m.on {
		return nil
	}
	for _, mode := range modes {
		if f.Mode != mode {
			continue
		}
		if m.skip--; m.skip >= 0 {
			return nil
		}
		if mode == cutTorn {
			m.disk.Tear(f.N%2 == 0, f.N/2%4)
		}
		m.cut = nil
		m.down = f.For
		m.w.trace(m.name, "power cut %s a commit", f.Mode)
		m.powerOff(f.Whole, f.For)
		return journal.ErrPowerCut
	}
	return nil
}

// crashed: an error ends the process. Only a power cut may be the cause.
func (m *machine) crashed(err error) {
	if errors.Is(err, journal.ErrPowerCut) {
		return // powerOff has seen to the rest
	}
	m.w.fail("no crash", "%s: %v", m.name, err)
}

func (m *machine) handle(ins ...agent.Input) {
	if !m.on || m.w.broken != nil {
		return
	}
	gen := m.gen
	do, err := m.dev.Handle(m.reading(), ins...)
	if err != nil {
		m.crashed(err)
		return
	}
	if m.gen != gen {
		return
	}
	m.run(do)
	m.w.ackedIsHeld(m)
}

// run does what the device wants, in order. An armed cut may strike between any two.
func (m *machine) run(do []agent.Do) {
	for _, d := range do {
		if f := m.cut; f != nil && f.Mode == cutEffect {
			if m.skip--; m.skip < 0 {
				m.cut = nil
				m.w.trace(m.name, "power cut between effects, before %T", d)
				m.powerOff(f.Whole, f.For)
				return
			}
		}
		m.do(d)
	}
}

func (m *machine) do(d agent.Do) {
	switch d := d.(type) {
	case agent.Publish:
		m.w.scan("a message up", d.Payload)
		if m.conn != nil {
			m.w.up(m.conn, d.Topic, d.Payload)
		}
	case agent.WakeLink:
		m.wake++
		n := m.wake
		m.later(d.After, func() {
			if m.wake == n {
				m.handle(agent.Uplink{Event: tick})
			}
		})
	case agent.Reconnect:
		m.disconnect(0)
	case agent.Way:
		m.w.trace(m.name, "the way to the bank is %s", d.Way)
	case agent.Stopped:
		m.w.fail("no device is stopped without cause", "%s: %s", m.name, d.Code)
	case agent.Effect:
		m.effect(d.Effect)
	}
}

// later is after, for this run of the process.
func (m *machine) later(d time.Duration, do func()) {
	gen := m.gen
	m.w.after(d, func() {
		if m.gen == gen && m.on {
			do()
		}
	})
}

func (m *machine) lane(ev session.Event) { m.handle(agent.Lane{Event: ev}) }

func (m *machine) effect(e session.Effect) {
	switch e := e.(type) {
	case session.Show:
		m.w.trace(m.name, "shows %s %s %s", e.Screen, e.Amount, e.Reason)
		if e.Screen == session.ScreenRefused || e.Screen == session.ScreenNotCharged {
			m.w.counts.Refused++
		}
	case session.ArmReader:
		m.buyerSees(e)
	case session.DisarmReader, session.CardSignal, session.Receipt, session.StopOutlet, session.BeginSession, session.EndSession:
	case session.StartTimer:
		m.timers[e.Name] = e.ID
		m.later(e.After, func() {
			if m.timers[e.Name] == e.ID {
				delete(m.timers, e.Name)
				m.lane(session.Timer{Name: e.Name, ID: e.ID})
			}
		})
	case session.StopTimer:
		if m.timers[e.Name] == e.ID {
			delete(m.timers, e.Name)
		}
	case session.Vend:
		m.vmc.approve(e)
	case session.DenyVend:
		m.vmc.deny(e.Bus)
	case session.Resume:
		m.vmc.resume(e.Vend)
	case session.AskEvidence:
		m.vmc.ask(e.Vend)
	case session.Authorize, session.SendOutcomeCopy:
		m.w.fail("sim", "%T came out of the device", e)
	}
}

// beat is the vending side's sign of life while a sale is under way.
func (m *machine) beat() {
	m.later(2*time.Second, func() {
		st, ok := m.dev.LaneState(0)
		if !ok || st.Idle() {
			return
		}
		m.handle(m.busState(session.BusStateEnabled))
		m.beat()
	})
}

func (m *machine) busState(s session.BusUp) agent.Input {
	return agent.Lane{Event: session.BusState{State: s, SeesAck: m.vmc.seesAck, HasEvidence: m.vmc.evidence, At: m.reading().Mono}}
}

// nextBuyer lets one come after a while, and so on.
func (m *machine) nextBuyer() {
	m.w.after(span(m.rng, 20*time.Minute, 5*time.Hour), func() {
		if m.w.closing {
			return
		}
		m.order(false)
		m.nextBuyer()
	})
}

func (m *machine) lastBuyer() { m.w.after(span(m.rng, 0, 10*time.Minute), func() { m.order(true) }) }

// price is one that no other order of this machine has, so that the bank's books can be read by it.
func (m *machine) price(qty int64) int64 {
	for {
		p := 100 + m.rng.Int64N(400)
		if !m.used[p*qty] {
			m.used[p*qty] = true
			return p
		}
	}
}

func (m *machine) order(last bool) {
	if !m.on {
		m.w.counts.Walked++
		if last {
			m.w.fail("it keeps selling", "%s is off after healing", m.name)
		}
		return
	}
	st, _ := m.dev.LaneState(0)
	if !st.Idle() || m.vmc.req != nil {
		m.w.counts.Walked++
		if last {
			m.w.fail("it keeps selling", "%s is busy after healing: %s", m.name, st.Phase())
		}
		return
	}
	qty := int64(1)
	if m.kiosk {
		qty = 1 + m.rng.Int64N(3)
	}
	unit := m.price(qty)
	s := &sale{n: len(m.sales), total: unit * qty, at: m.w.now, causes: map[string]bool{}, last: last}
	m.sales, m.cur = append(m.sales, s), s
	m.w.counts.Orders++
	m.w.trace(m.name, "a buyer wants %d x %s", qty, eur(unit))
	for _, f := range m.waits {
		m.w.after(f.Delay, func() { m.w.strike(f, m) })
	}
	m.waits = nil
	m.beat()
	if m.kiosk {
		m.handle(m.busState(session.BusStateEnabled), agent.Chosen{Class: protocol.Live, Lines: []protocol.Line{{
			Product: "p", Outlet: 1, Qty: uint16(qty), Unit: eur(unit), Amount: eur(unit * qty),
		}}})
		return
	}
	m.vmc.request(s, unit)
}

// buyerSees: the reader waits for a card. Most buyers tap, after a while; some walk away.
func (m *machine) buyerSees(e session.ArmReader) {
	s := m.cur
	if s == nil || s.over {
		return
	}
	s.taps++
	switch {
	case !s.last && m.rng.IntN(15) == 0:
		m.later(span(m.rng, time.Second, 12*time.Second), func() {
			m.w.trace(m.name, "the buyer gives up")
			s.over = true
			if m.kiosk {
				m.lane(session.Cancel{Who: "buyer"})
			} else {
				m.vmc.cancel()
			}
		})
	default:
		pan := pans[m.rng.IntN(len(pans))]
		poor := m.canteen && !s.last && m.rng.IntN(12) == 0 // there is too little on his card
		m.later(span(m.rng, time.Second, 15*time.Second), func() {
			m.w.trace(m.name, "a tap for %s", e.Amount)
			if m.canteen {
				m.handle(agent.Tapped{Card: m.customer(poor)})
			} else {
				m.handle(agent.Tapped{Card: m.tap(pan)})
			}
		})
	}
}

func (m *machine) tap(pan string) agent.TappedCard {
	t2, err := card.ParseTrack2(pan + "=30122010000000000000")
	if err != nil {
		panic(err)
	}
	return agent.TappedCard{
		Sealed: protocol.SealedCard{Reader: "sim", Entry: protocol.EntryContactless, Track2: []byte(pan + "=30122010000000000000")},
		Tap: protocol.Tap{
			Entry: protocol.EntryContactless, Reader: "sim", Brand: string(t2.PAN().Brand()), Last4: t2.PAN().Last4(),
			LocalTime: m.w.now.Add(m.wall).Time().Format("20060102150405"),
		},
	}
}

// customer is a card of the operator's own.
func (m *machine) customer(poor bool) agent.TappedCard {
	card := richCard
	if poor {
		card = poorCard
	}
	return agent.TappedCard{
		Sealed: protocol.SealedCard{Reader: "sim", Entry: protocol.EntryContactless, Loop: &protocol.SealedLoop{ID: card, Counter: 1, Verified: true}},
		Tap: protocol.Tap{
			Entry: protocol.EntryContactless, Reader: "sim", Brand: "closed_loop", LocalTime: m.w.now.Add(m.wall).Time().Format("20060102150405"),
		},
	}
}

// blame notes a fault that may explain what becomes of the sale under way.
func (m *machine) blame(cause string) {
	if m.cur != nil && (!m.cur.over || m.w.now.Sub(m.cur.at) < 30*time.Minute) {
		m.cur.causes[cause] = true
	}
}

func (w *World) blame(tid, cause string) {
	for _, m := range w.machines {
		if m.tid == tid {
			m.blame(cause)
		}
	}
}

// heal ends what is wrong with the machine.
func (m *machine) heal() {
	m.cut, m.waits = nil, nil
	m.lose, m.twice, m.slow, m.deaf, m.slowDown = 0, 0, 0, 0, 0
	m.vmc.next = vendOK
	m.linkCut = false
	if !m.on {
		m.powerOn()
	} else if m.conn == nil {
		m.connectSoon(time.Second)
	}
}
