package session

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// rig is one lane with its disk, its clock and somebody who keeps the books. Each step of it is cut
// by a power failure at every point there is.
type rig struct {
	t      testing.TB
	where  string // script and line, or seed
	cfg    Config
	policy protocol.Policy
	now    protocol.Reading
	s      State
	books  *books
	disk   Snapshot // the fold of all that was synced, a transaction at a time
	log    []protocol.Record
	cases  int
	cov    *coverage
	quiet  bool // do not cut at each step
}

func eur(n int64) money.Amount { return money.New(n, money.EUR) }

func newRig(t testing.TB, where string, cov *coverage, cfg Config, p protocol.Policy) *rig {
	cfg.Device, cfg.Lane = "d", 1
	p.Version, p.Currency = 1, money.EUR
	r := &rig{t: t, where: where, cfg: cfg, policy: p, books: newBooks(), cov: cov, s: New(cfg, p)}
	r.boot(1)
	r.disk = Snapshot{Lanes: []State{r.s}}
	return r
}

func (r *rig) boot(n byte) {
	r.now = protocol.Reading{Boot: protocol.BootID{n}, Mono: time.Minute, Anchor: protocol.AnchorID{n}, SinceAnchor: time.Second}
}

// warm shows the lane its vending side and its link.
func (r *rig) warm(evidence bool) {
	r.step(BusState{State: BusStateEnabled, At: r.now.Mono, HasEvidence: evidence})
	r.step(Link{LinkUp})
}

func (r *rig) in(e Event) In {
	r.cases++
	return In{Lane: 1, Case: mk[protocol.CaseID](r.cases), Event: e}
}

func (r *rig) fail(format string, a ...any) {
	r.t.Helper()
	r.t.Fatalf(r.where+": "+format, a...)
}

// take is one step of the live lane whose records are synced.
func (r *rig) take(e Event) Output {
	r.t.Helper()
	before, in := r.s, r.in(e)
	kept := before.Clone()
	next, o := before.Step(r.now, in)
	if !reflect.DeepEqual(kept, before) {
		r.fail("%T changed the state it was given", e)
	}
	if again, o2 := before.Step(r.now, in); !reflect.DeepEqual(again, next) || !reflect.DeepEqual(o, o2) {
		r.fail("%T: two outputs of one step", e)
	}
	later := false
	if q, ok := e.(VendRequest); ok {
		later = q.Bus.Later(before.heard) && q.Bus.Later(before.d.Bus)
	}
	if t, ok := e.(Timer); ok && r.books.timers[t.Name] == t.ID {
		delete(r.books.timers, t.Name)
	}
	r.books.hear(e, later)
	for _, law := range r.books.step(e, o, next.Phase()) {
		r.fail("%T in %s, row %v: %s", e, before.Phase(), o.Rows(), law)
	}
	r.disk, r.s, r.log = Recover(r.disk, o.Records), next, append(r.log, o.Records...)
	r.cov.step(before, e, o)
	r.same()
	return o
}

// same holds that what is synced is what is live.
func (r *rig) same() {
	r.t.Helper()
	live := r.s
	live.d = live.written()
	if !r.disk.Lanes[0].Equal(live) {
		r.fail("recovered %+v, live %+v", r.disk.Lanes[0].d, live.d)
	}
}

// step takes an event, and tries all power cuts of it aside.
func (r *rig) step(e Event) Output {
	r.t.Helper()
	before, unsynced := r.s, r.disk
	books := r.books.clone()
	o := r.take(e)
	if r.quiet {
		return o
	}
	r.cut(before, e, o, unsynced, books, "unsynced")
	r.cut(before, e, o, r.disk, r.books, "synced")
	r.cut(before, e, o, r.disk, r.books, "done")
	return o
}

// cut is a power failure at one point: whatever was live ends, or waits for evidence and then ends,
// a second restart writes nothing, and each payment has one end. Where the effects were done, their
// answers come after it.
func (r *rig) cut(live State, e Event, o Output, disk Snapshot, before *books, when string) {
	r.t.Helper()
	fail := func(format string, a ...any) {
		r.t.Helper()
		r.fail("%T in %s, cut %s: "+format, slices.Concat([]any{e, live.Phase(), when}, a)...)
	}
	r.cov.cut(live, e, o, when)
	base, err := Restore(disk.Record(), []Config{r.cfg}, r.policy)
	if err != nil || !base.Lanes[0].Equal(disk.Lanes[0]) {
		fail("restored %+v, %v; want %+v", base, err, disk.Lanes[0].d)
	}
	b := before.clone()
	b.reboot()
	now := protocol.Reading{Boot: protocol.BootID{200}, Mono: time.Second}
	n := 10_000
	step := func(s State, e Event) (State, Output) {
		n++
		if t, ok := e.(Timer); ok {
			delete(b.timers, t.Name)
		}
		b.hear(e, false)
		next, o := s.Step(now, In{Lane: 1, Case: mk[protocol.CaseID](n), Event: e})
		for _, law := range b.step(e, o, next.Phase()) {
			fail("%T, row %v: %s", e, o.Rows(), law)
		}
		for _, ef := range o.Effects {
			switch ef.(type) {
			case Vend, Authorize, BeginSession, ArmReader, TerminalAuthorize:
				fail("%T after a restart makes %T", e, ef)
			}
		}
		return next, o
	}
	done := o.Effects
	s, o := step(base.Lanes[0], Booted{})
	if ph := s.Phase(); ph != Idle && ph != InEvidence && ph != InChange {
		fail("%s after a restart", ph)
	}
	again := Recover(base, o.Records).Lanes[0]
	if !again.Equal(s) {
		fail("second restart finds %+v, want %+v", again.d, s.d)
	}
	b.reboot()
	if s, o = step(again, Booted{}); len(o.Records) > 0 {
		fail("second restart writes %d records", len(o.Records))
	}
	if when == "done" {
		s = r.aftermath(s, step, done)
	}
	if s.Phase() == InEvidence {
		if s, _ = step(s, Timer{TimerEvidence, s.timers[TimerEvidence]}); !s.Idle() && s.Phase() != InChange {
			fail("the wait is over and the lane is %s", s.Phase())
		}
	}
	s = r.changeAfter(s, step)
	if s = r.terminalAfter(s, step); s.d.Terminal != nil {
		fail("the terminal still owes %+v", s.d.Terminal)
	}
	if n := b.open(); n > 0 {
		fail("%d payments without an end", n)
	}
}

// changeAfter brings a lane that owes change after a power cut to its end: by a count of the tubes, by
// one that makes no sense, or without any.
func (r *rig) changeAfter(s State, step func(State, Event) (State, Output)) State {
	for n := r.cases; s.Phase() == InChange; n++ {
		c := *s.d.Change
		level := CashLevel{Known: true, Still: true, Tubes: slices.Clone(c.Tubes)}
		switch {
		case n%3 == 0:
			s, _ = step(s, Timer{TimerChange, s.timers[TimerChange]})
			continue
		case !c.Ordered:
			level.Tubes = []money.Tube{{Value: 5, Count: 200}}
		case n%3 == 1 && len(level.Tubes) > 0:
			level.Tubes[0].Count++
		}
		if s, _ = step(s, level); s.paying != 0 {
			s, _ = step(s, Paid{ID: s.paying, Given: c.Amount, Known: true})
		}
	}
	return s
}

// aftermath brings the answers to effects that ran before a power cut, each twice.
func (r *rig) aftermath(s State, step func(State, Event) (State, Output), done []Effect) State {
	for _, ef := range done {
		var e Event
		switch a := ef.(type) {
		case Authorize:
			e = Answer{protocol.AuthorizationResponse{Payment: a.Ask.Payment, AskHash: protocol.HashOf(a.Ask), Result: protocol.Approved, Approved: a.Ask.Amount, Answer: protocol.AnswerID{1}}}
		case Vend:
			e = VendSuccess{Vend: a.ID, Item: a.Outlet, Grade: protocol.GradeSensed}
		default:
			continue
		}
		var o Output
		if s, o = step(s, e); len(o.Records) == 0 {
			r.fail("%T after a cut is not written", e)
		}
		if s, o = step(s, e); len(o.Records) > 0 {
			r.fail("%T after a cut is written twice", e)
		}
	}
	return s
}

// restart is a power cut of the live lane.
func (r *rig) restart() {
	r.boot(r.now.Boot[0] + 1)
	r.s = r.disk.Lanes[0].Clone()
	r.books.reboot()
}

// atEnd holds what an idle lane owes: nothing; and that all records at once fold to what they did
// one transaction after the other.
func (r *rig) atEnd() {
	r.t.Helper()
	all := Recover(Snapshot{Lanes: []State{New(r.cfg, r.policy)}}, r.log)
	if !reflect.DeepEqual(all.Record(), r.disk.Record()) {
		r.fail("folded at once %+v, one by one %+v", all, r.disk)
	}
	if n := r.books.open(); r.s.Idle() && r.s.d.Terminal == nil && n > 0 {
		r.fail("%d payments without an end", n)
	}
}

func mk[I ~[16]byte](n int) (i I) { i[0], i[1] = byte(n>>8), byte(n); return i }

func num[I ~[16]byte](i I) int { return int(i[0])<<8 | int(i[1]) }
