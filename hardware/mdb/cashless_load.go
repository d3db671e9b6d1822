package mdb

import (
	"bytes"
	"time"

	"coinop/hardware"
	"coinop/protocol"
)

// loading is the REVALUE REQUEST that is open, or was last (MDB/ICP 4.2, 7.4, 15 00). It is answered once, by
// 0D or 0E, and nothing else is done before that answer was acknowledged (7.3, uninterruptible).
type loading struct {
	bus   protocol.BusKey
	bytes []byte        // as on the wire
	open  bool          // no answer yet
	yes   bool          // 0D waits, or is on the wire: no end was told yet
	by    time.Duration // then it is denied, where 0D is not on the wire
	over  protocol.BusKey
}

// revalue is 15 00. The same bytes before our answer was acknowledged are the same request: the controller did
// not hear that we took it. What cannot be loaded is denied here, and nobody asked.
func (s *CashlessState) revalue(o *hardware.Output, now time.Duration, data []byte, a Asked) {
	if s.phase == busRevalue && bytes.Equal(data, s.loading.bytes) {
		s.send(o, nil)
		return
	}
	if !s.canLoad() {
		s.noLoad(o)
		return
	}
	s.send(o, nil)
	s.drop(0x0E, 0x0F) // of a limit that it has gone on without
	if s.phase == busEnabled {
		s.key.Session, s.key.Request = s.key.Session+1, 0
	}
	s.key.Request++
	s.phase = busRevalue
	s.loading = loading{bus: s.key, bytes: bytes.Clone(data), over: s.loading.over}
	amount, err := s.amount(a.Units)
	if err != nil || a.Units == 0 || a.Units > s.limit || a.Units == s.unknown() || s.foreign {
		s.answerLoad(false)
		return
	}
	z7 := time.Duration(s.z7) * time.Second
	s.loading.open, s.loading.by = true, now+max(z7-time.Second, z7/2)
	o.Emit(hardware.LoadRequest{Bus: s.key, Amount: amount, At: now})
}

// canLoad reports whether the revaluation commands are in sequence: level 2, in a session, or always idle.
func (s *CashlessState) canLoad() bool {
	return s.common >= 2 && (s.phase == busIdle || s.phase == busEnabled && s.alwaysIdle() && !s.beginning())
}

// noLoad answers what is out of sequence, or, behind an adapter that lived on, perhaps not: then it is denied.
func (s *CashlessState) noLoad(o *hardware.Output) {
	if s.phase == busUnknown {
		s.drop(0x0E)
		s.say([]byte{0x0E})
		return
	}
	s.outOfSequence(o)
}

// revalueLimit is 15 01: 0F, or 0E where nothing can be loaded.
func (s *CashlessState) revalueLimit(o *hardware.Output) {
	switch {
	case !s.canLoad():
		s.noLoad(o)
	case s.limit == 0 || s.foreign:
		s.drop(0x0F)
		s.reply(o, []byte{0x0E})
	default:
		s.drop(0x0E)
		s.reply(o, append([]byte{0x0F}, s.money(min(s.limit, s.most()))...))
	}
}

// load is our owner's word.
func (s *CashlessState) load(o *hardware.Output, in load) {
	switch l := &s.loading; {
	case l.open && in.bus == l.bus:
		l.yes = in.yes
		s.answerLoad(in.yes)
	case !in.yes || l.yes && in.bus == l.bus || in.bus == l.over: // nothing waits; or the same again
	default:
		l.over = in.bus
		o.Emit(hardware.Loaded{Bus: in.bus, How: hardware.ApprovalWithdrawn})
	}
}

func (s *CashlessState) answerLoad(yes bool) {
	a := answer{data: []byte{0x0E}, load: true}
	if yes {
		a.data[0] = 0x0D
	}
	s.loading.open = false
	s.queue = append(s.queue, a)
}

// loaded tells the end of a yes, once.
func (s *CashlessState) loaded(o *hardware.Output, how hardware.Delivery) {
	if l := &s.loading; l.yes {
		l.yes, l.over = false, l.bus
		o.Emit(hardware.Loaded{Bus: l.bus, How: how})
	}
}

// loadWaits is where in the queue the answer to a REVALUE REQUEST is; -1: nowhere.
func (s *CashlessState) loadWaits() int {
	for i, a := range s.queue {
		if a.load {
			return i
		}
	}
	return -1
}

// loseLoad ends a revaluation that the controller acknowledges no more.
func (s *CashlessState) loseLoad(o *hardware.Output) {
	how := hardware.ApprovalWithdrawn
	if i := s.loadWaits(); i >= 0 {
		if s.queue[i].sent {
			how = hardware.ApprovalMaybe
		}
		s.queue = append(s.queue[:i], s.queue[i+1:]...)
	}
	s.loading.open = false
	s.loaded(o, how)
}

// lateLoad denies what nobody answered in time, or what was not asked for by a POLL in time.
func (s *CashlessState) lateLoad(o *hardware.Output, now time.Duration) {
	if now < s.loading.by {
		return
	}
	if i := s.loadWaits(); s.loading.open || i >= 0 && s.loading.yes && !s.queue[i].sent {
		s.loseLoad(o)
		s.answerLoad(false)
	}
}

// goesOn is a controller that does, as in a session, when our answer was on the wire and its ACK was not heard:
// whether it heard it nobody knows, but it is through with it.
func (s *CashlessState) goesOn(o *hardware.Output, data []byte, c Command) {
	i := s.loadWaits()
	if s.phase != busRevalue || i < 0 || !s.queue[i].sent {
		return
	}
	switch c {
	case VendRequest, SessionComplete, RevalueLimit, NegativeVend:
	case Revalue:
		if bytes.Equal(data, s.loading.bytes) {
			return
		}
	default:
		return
	}
	s.loseLoad(o)
	s.leaveVend(o)
}
