package sim

import (
	"time"

	"coinop/agent"
	"coinop/agent/session"
	"coinop/agent/uplink"
	"coinop/protocol"
	"coinop/protocol/money"
)

var tick = uplink.Tick{}

// vendFault is what the vending side does wrong with the next vend.
type vendFault uint8

const (
	vendOK vendFault = iota
	vendFails
	vendSilentDrop
	vendSilentJam
	vendResetDrop
	vendResetJam
	vendLateDrop
	vendLateJam
	vendAckLost
	vendFaults
)

func (f vendFault) String() string {
	return [...]string{"ok", "fails", "silent_drop", "silent_jam", "reset_drop", "reset_jam", "late_drop", "late_jam", "ack_lost"}[f]
}

// vmc is a vending side: a controller on a bus, with an adapter and the driver's queue before it, or
// a kiosk's own outlets with a drop sensor. It has its own power and lives on when the process dies.
type vmc struct {
	m        *machine
	seesAck  bool
	evidence bool
	next     vendFault

	epoch   uint64 // of the bus, counted by the driver
	session uint32
	n       uint32
	req     *request
	queued  *approval                                // in the driver, not yet on the wire
	fell    map[protocol.VendID]bool                 // the drop sensor's memory
	kept    map[protocol.VendID]protocol.VendOutcome // results an adapter kept while nobody listened
}

// request is a vend request the controller waits with.
type request struct {
	sale     *sale
	key      protocol.BusKey
	price    int64
	approved bool
	done     bool
}

type approval struct{ vend session.Vend }

func (v *vmc) driverStarts() {
	if v.fell == nil {
		v.fell, v.kept = map[protocol.VendID]bool{}, map[protocol.VendID]protocol.VendOutcome{}
	}
	v.epoch = v.m.dev.BusEpoch()
	v.session, v.n, v.queued = 1, 0, nil
}

// driverDies: what is in the driver's queue is gone. whole takes the controller's power too: a motor
// that turned stops wherever it was, and nobody will ever say.
func (v *vmc) driverDies(whole bool) {
	v.queued = nil
	if whole {
		v.kept = map[protocol.VendID]protocol.VendOutcome{}
		if v.req != nil {
			v.req.done = true
			v.req = nil
		}
	}
}

// request: a buyer pressed a button.
func (v *vmc) request(s *sale, price int64) {
	v.n++
	r := &request{sale: s, price: price, key: protocol.BusKey{BusEpoch: v.epoch, Session: v.session, Request: v.n}}
	v.req = r
	v.m.handle(v.m.busState(session.BusStateEnabled), agent.Asked{Request: session.VendRequest{
		Bus: r.key, Price: eur(price), Item: 1,
	}})
	v.m.w.after(30*time.Second, func() { // Z7
		if v.req == r && !r.approved {
			v.m.w.trace(v.m.name, "the controller takes its request back")
			v.cancel()
		}
	})
}

// cancel: the controller takes an unanswered request back.
func (v *vmc) cancel() {
	if v.req == nil || v.req.approved {
		return
	}
	v.req.sale.over = true
	v.req = nil
	v.withdraw()
	v.m.lane(session.VendCancel{})
}

// withdraw: an approval that is not on the wire never will be; the driver says so first.
func (v *vmc) withdraw() {
	if q := v.queued; q != nil {
		v.queued = nil
		v.m.lane(session.Approval{Vend: q.vend.ID, How: session.ApprovalWithdrawn})
	}
}

func (v *vmc) deny(bus protocol.BusKey) {
	v.m.later(5*time.Millisecond, func() {
		v.withdraw()
		if v.req != nil && !v.req.approved && v.req.key == bus {
			v.req.sale.over = true
			v.req = nil
		}
	})
}

// approve is the driver's Approve: the approval waits for a poll.
func (v *vmc) approve(e session.Vend) {
	if v.m.kiosk {
		v.m.later(50*time.Millisecond, func() {
			v.req = &request{sale: v.m.cur, price: e.Amount.Minor}
			v.turn(e, v.req)
		})
		return
	}
	a := &approval{e}
	v.queued = a
	v.m.later(span(v.m.rng, 5*time.Millisecond, 250*time.Millisecond), func() {
		if v.queued != a {
			return
		}
		v.queued = nil
		r := v.req
		if r == nil || r.approved || r.key != e.Bus {
			v.m.lane(session.Approval{Vend: e.ID, How: session.ApprovalWithdrawn})
			return
		}
		v.turn(e, r)
	})
}

// turn: the controller has the approval and delivers.
func (v *vmc) turn(e session.Vend, r *request) {
	m := v.m
	r.approved = true
	fault := v.next
	v.next = vendOK
	how := session.ApprovalMaybe
	if v.seesAck && fault != vendAckLost {
		how = session.ApprovalDelivered
	}
	if fault != vendOK {
		m.blame("bus")
		m.w.trace(m.name, "the vend will go wrong: %s", fault)
	}
	m.w.after(span(m.rng, time.Second, 6*time.Second), func() {
		if r.done {
			return // its power went
		}
		r.done = true
		if v.req == r {
			v.req = nil
		}
		v.end(e, r, fault)
	})
	m.lane(session.Approval{Vend: e.ID, How: how})
}

func (v *vmc) end(e session.Vend, r *request, fault vendFault) {
	m := v.m
	drop := fault == vendOK || fault == vendSilentDrop || fault == vendResetDrop || fault == vendLateDrop || fault == vendAckLost
	if drop {
		v.drop(e, r)
	}
	result := protocol.Failed
	if drop {
		result = protocol.Delivered
	}
	switch fault {
	case vendOK, vendFails, vendAckLost:
		v.say(e.ID, result)
	case vendSilentDrop, vendSilentJam:
	case vendResetDrop, vendResetJam:
		v.epoch++
		v.session, v.n = 1, 0
		m.lane(session.BusReset{})
		m.handle(m.busState(session.BusStateEnabled))
	case vendLateDrop, vendLateJam:
		m.w.after(span(m.rng, 20*time.Second, 5*time.Minute), func() { v.say(e.ID, result) })
	}
	r.sale.over = true
}

// say tells the result, or keeps it while nobody listens.
func (v *vmc) say(id protocol.VendID, result protocol.VendOutcome) {
	if !v.m.on {
		v.kept[id] = result
		return
	}
	v.tell(id, result)
}

func (v *vmc) tell(id protocol.VendID, result protocol.VendOutcome) {
	grade := protocol.GradeReported
	if v.evidence {
		grade = protocol.GradeSensed
	}
	if result == protocol.Delivered {
		v.m.lane(session.VendSuccess{Vend: id, Item: 1, Grade: grade})
	} else {
		v.m.lane(session.VendFailure{Vend: id})
	}
}

// resume binds a result that the adapter kept to the vend it is of.
func (v *vmc) resume(id protocol.VendID) {
	v.m.later(20*time.Millisecond, func() {
		if r, ok := v.kept[id]; ok {
			delete(v.kept, id)
			v.tell(id, r)
		}
	})
}

// ask is for the drop sensor, where there is one. It says that nothing fell only when nothing can
// fall any more.
func (v *vmc) ask(id protocol.VendID) {
	if !v.evidence {
		return
	}
	v.m.later(time.Second, func() {
		if v.req != nil && !v.fell[id] {
			v.ask(id) // the motor turns
			return
		}
		result := protocol.Failed
		if v.fell[id] {
			result = protocol.Delivered
		}
		v.m.lane(session.Evidence{Vend: id, Result: result, Grade: protocol.GradeSensed, Source: protocol.SourceSensor})
	})
}

// drop: it fell. The oracle counts it, whatever anybody says.
func (v *vmc) drop(e session.Vend, r *request) {
	m := v.m
	v.fell[e.ID] = true
	m.w.counts.Drops++
	r.sale.fell += r.price
	r.sale.items++
	m.w.trace(m.name, "drops %s", money.New(r.price, eur(0).Currency))
	m.w.approvedBefore(m, r.sale)
}
