package agent

import (
	"context"
	"errors"
	"strconv"
	"time"

	"coinop/agent/session"
	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// ReaderConfig is a card reader of a lane.
type ReaderConfig struct {
	New      func(Wiring) (Reader, error) // needed
	Cards    Cards                        // which it takes; a bank's
	Unproven bool                         // closed-loop cards that are only their chip's number, which anyone can copy, go to the cloud all the same
}

// Reader is a card reader that Supervise can open.
type Reader interface {
	hardware.CardReader
	Open(context.Context) (hardware.Driver, error)
}

// Cards are kinds of cards a reader takes.
type Cards uint8

// Kinds of cards.
const (
	BankCards Cards = iota
	LoopCards       // the operator's own
	BothCards
)

func (c Cards) bank() bool { return c != LoopCards }
func (c Cards) own() bool  { return c != BankCards }

// ReaderName is how a lane's reader is named in status, faults, Ports and Power: reader, reader 2, reader 3.
func ReaderName(i int) string {
	if i == 0 {
		return "reader"
	}
	return "reader " + strconv.Itoa(i+1)
}

// reader is one of a lane's. They look for a card together, and each is told again by itself when it was away or
// found nobody; the first that reads one ends it for the others. A card that another has read in that moment was
// read for a wait that is over, and changes nothing.
type reader struct {
	Reader
	name   string
	part   part
	cards  Cards         // it takes
	copied bool          // and closed-loop cards that are not proven
	looks  bool          // for a card for lane.armed, as it was told
	since  time.Duration // Mono when it was
}

// reader is the one that a part is; nil: none.
func (l *lane) reader(p part) *reader {
	if i := int(p) - int(partReader); i >= 0 && i < len(l.readers) {
		return l.readers[i]
	}
	return nil
}

// payers are the readers that the buyer looks at: the one that has read his card. After a restart nobody knows which.
func (l *lane) payers() []*reader {
	if l.read != nil {
		return []*reader{l.read}
	}
	return l.readers
}

// takes reports a closed-loop card that is asked for in the cloud: one that is proven, a stripe of the operator's
// (their first digits are configured), or, where that is wanted, a chip's bare number. An account must be open for it.
func (r *reader) takes(c hardware.LoopCard) bool {
	return sealedLoop(c).Ref() != "" && (c.Verified || c.Ref != "" || r.copied)
}

// want lets the lane's readers look for a card for an amount. One that looks for that already is not disturbed: a
// card may lie on it.
func (s *shell) want(l *lane, a money.Amount) {
	if l.armed == nil || *l.armed != a {
		l.read = nil
		for _, r := range l.readers {
			r.looks = false
		}
	}
	l.armed = &a
	s.arm(l)
}

// arm tells the readers that do not look for the card that is waited for.
func (s *shell) arm(l *lane) {
	for _, r := range l.readers {
		if !r.looks {
			s.activate(l, r)
		}
	}
}

// activate lets one look for a card. One whose port is gone is told when it is back.
func (s *shell) activate(l *lane, r *reader) {
	r.since = s.mono()
	err := r.Activate(*l.armed, lookFor)
	r.looks = err == nil
	s.reader(l, r, "activate", err)
}

// ready arms the readers of lanes where the card comes first, as long as one could be taken.
func (s *shell) ready() {
	for _, c := range s.cfg.Lanes {
		l := s.lanes[c.Lane]
		st, ok := s.device.LaneState(c.Lane)
		if c.Flow != protocol.CardFirst || l == nil || !ok || !st.Idle() {
			continue
		}
		open := st.Gate(s.now()) == ""
		switch {
		case open && l.armed == nil:
			s.want(l, st.Due())
		case open:
			s.arm(l)
		case l.armed != nil:
			s.disarm(l)
		}
	}
}

// disarm ends the wait for a card.
func (s *shell) disarm(l *lane) {
	l.armed = nil
	for _, r := range l.readers {
		if r.looks {
			r.looks = false
			s.reader(l, r, "cancel", r.Cancel())
		}
	}
}

// cardRead is the card that was waited for, and the end of the wait for all readers; or one too many.
func (s *shell) cardRead(l *lane, r *reader, ev hardware.CardRead) error {
	if l.armed == nil || ev.At < r.since {
		ev.Card.Wipe()
		s.log.Info("a card that nobody waits for any more is dropped", "lane", int(l.id), "part", r.name)
		return nil
	}
	if loop := ev.Card.Loop; !loop.IsZero() && !r.takes(loop) {
		ev.Card.Wipe()
		return s.cardFailed(l, r, hardware.ReasonNotAccepted)
	}
	r.looks = false // it looks for one card; the session arms it anew
	s.disarm(l)
	l.read = r
	s.indicate(l, hardware.SignalCard)
	return s.card(l, ev.Card)
}

// cardFailed is a card that cannot be used, or nobody. Where another was read meanwhile it is no news.
func (s *shell) cardFailed(l *lane, r *reader, reason string) error {
	r.looks = false
	if l.armed == nil {
		return nil
	}
	if reason == hardware.ReasonTimeout { // nobody came yet: the session's timer decides for how long
		s.activate(l, r)
		return nil
	}
	if err := s.handle(Lane{l.id, session.CardFailed{Reason: reason}}); err != nil || reason != hardware.ReasonCardError {
		return err
	}
	return s.happened(l, code.CardTorn, r.name, "")
}

// reader logs a command that was not taken.
func (s *shell) reader(l *lane, r *reader, what string, err error) {
	if err != nil && !errors.Is(err, hardware.ErrPortGone) {
		s.log.Warn("command not taken by the reader", "lane", int(l.id), "part", r.name, "command", what, "error", err)
	}
}

// indicate lets the lane's lights and sounds say something new: of a payment those of the reader where it is made.
func (s *shell) indicate(l *lane, sig hardware.Signal) {
	if l.signal == sig {
		return
	}
	l.signal = sig
	s.light(sig)
	at := l.readers
	switch sig {
	case hardware.SignalCard, hardware.SignalOK, hardware.SignalNo:
		at = l.payers()
	case hardware.SignalIdle, hardware.SignalFault:
	}
	for _, r := range at {
		if i, ok := r.Reader.(hardware.Indicator); ok {
			s.reader(l, r, "signal", i.Show(sig))
		}
	}
}
