package payment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"coinop/cloud/acquirer"
	"coinop/protocol"
)

// Config of a Service; all of it is needed.
type Config struct {
	// Do runs a unit of work of one device: the store. It returns after the commit.
	Do func(context.Context, protocol.DeviceID, func(Tx) error) error
	// Put is Do for a unit that reads nothing; one that reads fails: the store.
	Put func(context.Context, protocol.DeviceID, func(Tx) error) error
	// Claim takes over operations that are owed, or whose lease lapsed: the store.
	Claim func(ctx context.Context, now protocol.UnixMS, lease time.Duration, limit int, prepare func(*OpRow)) ([]OpRow, error)
	// Overdue are payments whose Due is over: the store.
	Overdue func(ctx context.Context, now protocol.UnixMS, limit int) ([]Overdue, error)
	// Owner finds the device of a payment: the store. "" when it is not known.
	Owner func(context.Context, protocol.PaymentID) (protocol.DeviceID, error)
	// Profile is that of a link by name; false when there is none of that name.
	Profile func(link string) (acquirer.Profile, bool)
	Vault   Vault
	Anchors Anchors
	// NewAnswer and NewCase mint ids.
	NewAnswer func(protocol.UnixMS) protocol.AnswerID
	NewCase   func(protocol.UnixMS) protocol.CaseID
}

// Vault opens the card of a request and keeps it in memory for its authorization.
type Vault interface {
	Take(context.Context, protocol.Ask, protocol.Epoch) ([]byte, error)
	Forget(protocol.PaymentID)
}

// Overdue is a payment somebody must look at.
type Overdue struct {
	Payment protocol.PaymentID
	Device  protocol.DeviceID
}

// From is the device a message came from, as the registry knows it.
type From struct {
	Device   protocol.DeviceID
	Serial   string // of its certificate, hex
	Tenant   string
	Link     string // to its acquirer; "" = none
	Merchant acquirer.Merchant
}

// Event is what a Service takes.
type Event interface{ event() }

// Request is an authorization request.
type Request struct {
	From    From
	Request protocol.AuthorizationRequest
	Stopped bool // the device is revoked: refused_unsent(device_stopped)
}

// Copy is the early copy of an outcome's record. It must be of the device it came from.
type Copy struct {
	From   From
	Record protocol.Opened
}

// HostAnswer is what Do of an acquirer returned. Device may be empty for an answer that came after.
type HostAnswer struct {
	Device protocol.DeviceID
	Key    acquirer.OpKey
	Answer acquirer.Answer
	Err    error
}

// QueryAnswer is what Query of an acquirer returned.
type QueryAnswer struct {
	Device protocol.DeviceID
	Key    acquirer.OpKey
	Answer acquirer.Answer
	Err    error
}

// Look is a Timer that fired.
type Look struct {
	Device  protocol.DeviceID
	Payment protocol.PaymentID
}

func (Request) event()     {}
func (Copy) event()        {}
func (HostAnswer) event()  {}
func (QueryAnswer) event() {}
func (Look) event()        {}

// Effect is what is to be done after the commit. The switch that runs effects has no default.
type Effect interface{ effect() }

// Send hands an operation to its link; what Do returns comes back as a HostAnswer.
type Send struct {
	Device protocol.DeviceID
	Op     acquirer.Op
	// After are operations that are to be on the wire before this one: reversals owed on the same TID.
	// Await: they are to be answered first, because the profile says so.
	After []acquirer.OpKey
	Await bool
}

// Ask asks a link what became of an operation; what Query returns comes back as a QueryAnswer.
type Ask struct {
	Device protocol.DeviceID
	Op     acquirer.Op
}

// Publish tells the device: Body is an encoded protocol.Auth, for dn/auth.
type Publish struct {
	Device protocol.DeviceID
	Body   []byte
}

// Timer asks for a Look.
type Timer struct {
	Device  protocol.DeviceID
	Payment protocol.PaymentID
	At      protocol.UnixMS
}

func (Send) effect()    {}
func (Ask) effect()     {}
func (Publish) effect() {}
func (Timer) effect()   {}

// Service keeps the rows. It blocks on the store, never on a host, and is safe for concurrent use.
type Service struct {
	cfg Config

	mu    sync.Mutex
	taken map[protocol.PaymentID]*presented // whose cards this replica opened
	order []protocol.PaymentID
}

// presented is what a replica remembers of a payment it was asked for. It is worth nothing to
// another: it only saves work.
type presented struct {
	answered bool
	// sent is the row as the request's unit stored it, until the answer's unit has used it: read again it
	// would be the same, or its version another, and then nothing can be put over it.
	sent *row
}

// takenMost bounds what is remembered of opened cards.
const takenMost = 1 << 14

// NewService makes a Service. It panics when something of the configuration is missing.
func NewService(cfg Config) *Service {
	if cfg.Do == nil || cfg.Put == nil || cfg.Claim == nil || cfg.Overdue == nil || cfg.Owner == nil || cfg.Profile == nil ||
		cfg.Vault == nil || len(cfg.Anchors.Key) < 16 || cfg.NewAnswer == nil || cfg.NewCase == nil {
		panic("payment: incomplete configuration")
	}
	return &Service{cfg: cfg, taken: map[protocol.PaymentID]*presented{}}
}

// ErrRequest means a request that no agent of ours would send.
var ErrRequest = errors.New("request")

// Handle takes one event in, commits what it means and returns what is then to be done. An error
// means that nothing is known to have been stored: the event may come again.
func (s *Service) Handle(ctx context.Context, now protocol.UnixMS, ev Event) ([]Effect, error) {
	switch ev := ev.(type) {
	case Request:
		return s.request(ctx, now, ev)
	case Copy:
		if ev.Record.Device != ev.From.Device {
			return nil, fmt.Errorf("%w: a record of %s from %s", ErrRequest, ev.Record.Device, ev.From.Device)
		}
		if o, ok := ev.Record.Body.(protocol.PaymentOutcome); !ok || !sensible(o) {
			return nil, fmt.Errorf("%w: early copy of %s", ErrRequest, ev.Record.Body.Kind())
		}
		return s.unit(ctx, now, ev.From.Device, func(u *Unit) error {
			_, err := u.outcome(ev.From.Tenant, ev.Record)
			return err
		})
	case HostAnswer:
		return s.hostAnswer(ctx, now, ev)
	case QueryAnswer:
		return s.unit(ctx, now, ev.Device, func(u *Unit) error {
			known := ev.Err == nil
			return u.step(ev.Key.Payment, QuerySaid{N: ev.Key.N, Known: known, Answer: ev.Answer})
		})
	case Look:
		if s.answered(ev.Payment) { // the timer of a request: nearly always
			return nil, nil
		}
		return s.look(ctx, now, ev)
	}
	panic(fmt.Sprintf("payment: event %T", ev))
}

func (s *Service) look(ctx context.Context, now protocol.UnixMS, ev Look) ([]Effect, error) {
	return s.unit(ctx, now, ev.Device, func(u *Unit) error { return u.step(ev.Payment, Due{}) })
}

// Begin is a unit of work for intake: what records mean for payments, in the transaction that
// stores them.
func (s *Service) Begin(now protocol.UnixMS, tx Tx) *Unit {
	return &Unit{s: s, tx: tx, now: now, rows: map[protocol.PaymentID]*row{}, stans: map[trace]acquirer.STAN{}}
}

func (s *Service) unit(ctx context.Context, now protocol.UnixMS, d protocol.DeviceID, fn func(*Unit) error) ([]Effect, error) {
	return s.unitBy(s.cfg.Do, ctx, now, d, fn)
}

func (s *Service) unitBy(do func(context.Context, protocol.DeviceID, func(Tx) error) error,
	ctx context.Context, now protocol.UnixMS, d protocol.DeviceID, fn func(*Unit) error,
) ([]Effect, error) {
	var effects []Effect
	err := do(ctx, d, func(tx Tx) error {
		u := s.Begin(now, tx) // anew: this may run again
		if err := fn(u); err != nil {
			return err
		}
		var err error
		effects, err = u.End()
		return err
	})
	if err != nil {
		return nil, err
	}
	return effects, nil
}

func (s *Service) request(ctx context.Context, now protocol.UnixMS, ev Request) ([]Effect, error) {
	ask, err := protocol.DecodeAsk(ev.Request.Ask)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := ask.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if ask.Device != ev.From.Device {
		return nil, fmt.Errorf("%w: %s asks in the name of %s", ErrRequest, ev.From.Device, ask.Device)
	}
	f := Asked{Ask: ask, Hash: protocol.HashBytes(ev.Request.Ask), Tenant: ev.From.Tenant, Received: now}
	anchored, ok := s.cfg.Anchors.Time(ask.Device, ask.Anchor)
	if !ok {
		f.Refuse = protocol.NotAllowed
	}
	f.Made = min(anchored+protocol.UnixMS(ask.SinceAnchorMS), now)
	link := ev.From.Link
	if ask.AuthorizedBy == protocol.ByClosedLoop {
		link = acquirer.Accounts
	}
	profile, ok := s.cfg.Profile(link)
	switch {
	case ev.Stopped:
		f.Refuse = protocol.DeviceStopped
	case f.Refuse != 0:
	case ask.Class != protocol.Live, // its card is not even opened
		ask.AuthorizedBy > protocol.ByHost && ask.AuthorizedBy != protocol.ByClosedLoop: // others ask nobody
		f.Refuse = protocol.NotAllowed
	case !ok:
		f.Refuse = protocol.NoRoute
	}
	f.Route = Route{Link: link, Merchant: ev.From.Merchant, Profile: profile}

	var kept []byte
	var closed error // why the card did not open
	first := s.take(ask.Payment)
	if first && f.Refuse == 0 {
		if kept, closed = s.cfg.Vault.Take(ctx, ask, ev.Request.Position.Epoch); closed != nil {
			f.Refuse = protocol.NotAllowed
		}
	}
	used := false
	var sent *row
	effects, err := s.unit(ctx, now, ask.Device, func(u *Unit) error {
		used = false
		r, err := u.open(ask.Payment, ask.Device, trace{f.Route.Link, f.Route.Merchant.TID})
		if err != nil {
			return err
		}
		g := f
		if r.p.State == None {
			if u.opening.Stopped != "" {
				g.Refuse = protocol.DeviceStopped
			}
			if closed != nil {
				u.incident(CardRefused, ask.Device, ask.Payment, closed.Error())
			}
			if g.Refuse == 0 && kept == nil {
				return fmt.Errorf("%w: card of %s was opened and is gone", ErrRequest, ask.Payment)
			}
		}
		fresh := r.p.State == None
		if err := u.step(ask.Payment, g); err != nil {
			return err
		}
		if used = fresh && r.p.State == Sent; used {
			u.queue(func(tx Tx) { tx.PutCard(ask.Payment, kept) })
			sent = r
		}
		return nil
	})
	if err == nil && used {
		s.keep(ask.Payment, sent)
	}
	if first && (err != nil || !used) {
		s.cfg.Vault.Forget(ask.Payment)
	}
	if first && err != nil {
		s.untake(ask.Payment)
	}
	return effects, err
}

// take reports whether this replica has not opened the card of a payment before: a repeat of the
// request must not put it back into memory.
func (s *Service) take(p protocol.PaymentID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[p] != nil {
		return false
	}
	s.taken[p] = &presented{}
	if s.order = append(s.order, p); len(s.order) > takenMost {
		delete(s.taken, s.order[0])
		s.order = s.order[1:]
	}
	return true
}

// answered reports whether the host's answer to the authorization of a payment was taken in here.
func (s *Service) answered(p protocol.PaymentID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.taken[p]
	return t != nil && t.answered
}

// keep remembers a row that was stored anew, with the operation that was sent.
func (s *Service) keep(p protocol.PaymentID, r *row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.taken[p]; t != nil {
		t.sent = &row{p: r.p, ops: r.ops}
		t.sent.p.Version = 1
	}
}

// kept is what keep remembered, once.
func (s *Service) kept(p protocol.PaymentID) *row {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.taken[p]
	if t == nil {
		return nil
	}
	r := t.sent
	t.sent = nil
	return r
}

func (s *Service) untake(p protocol.PaymentID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.taken, p)
}

func (s *Service) hostAnswer(ctx context.Context, now protocol.UnixMS, ev HostAnswer) ([]Effect, error) {
	if ev.Device == "" {
		var err error
		if ev.Device, err = s.cfg.Owner(ctx, ev.Key.Payment); err != nil {
			return nil, fmt.Errorf("owner of %s: %w", ev.Key.Payment, err)
		}
	}
	var kept *row
	if ev.Key.Kind == acquirer.Authorization { // any other was stored after it
		kept = s.kept(ev.Key.Payment)
	}
	effects, err := s.answer(ctx, now, ev, kept)
	if err != nil && kept != nil { // somebody else has changed it, or more than the row must be read
		effects, err = s.answer(ctx, now, ev, nil)
	}
	if err == nil && ev.Key.Kind == acquirer.Authorization {
		again := slices.ContainsFunc(effects, func(e Effect) bool {
			s, ok := e.(Send)
			return ok && s.Op.Key.Kind == acquirer.Authorization // another host is asked now
		})
		s.mu.Lock()
		if t := s.taken[ev.Key.Payment]; t != nil {
			t.answered = !again
		}
		s.mu.Unlock()
	}
	return effects, err
}

// answer takes an answer in, over a row that is known or one that is read.
func (s *Service) answer(ctx context.Context, now protocol.UnixMS, ev HostAnswer, known *row) ([]Effect, error) {
	do := s.cfg.Do
	if known != nil { // and what it means is known without the store
		do = s.cfg.Put
	}
	return s.unitBy(do, ctx, now, ev.Device, func(u *Unit) error {
		if known != nil {
			u.touch(ev.Key.Payment, known.p, slices.Clone(known.ops))
		}
		r, err := u.row(ev.Key.Payment)
		if err != nil {
			return err
		}
		op := r.op(ev.Key.Kind, ev.Key.N)
		if op == nil {
			u.incident(HostAnswerUnmatched, ev.Device, ev.Key.Payment, ev.Key.String())
			return nil
		}
		return u.step(ev.Key.Payment, hostFact(ev, op))
	})
}

func hostFact(ev HostAnswer, op *OpRow) Fact {
	if ev.Key.Kind == acquirer.Authorization {
		switch {
		case ev.Err == nil:
			return HostSaid{N: ev.Key.N, Answer: ev.Answer}
		case errors.Is(ev.Err, acquirer.ErrNotSent):
			return HostNotSent{N: ev.Key.N}
		}
		return HostSilent{N: ev.Key.N}
	}
	f := Followed{Kind: ev.Key.Kind, N: ev.Key.N, Tries: op.Tries, Owed: op.Owed}
	switch {
	case ev.Err == nil:
		return OpSaid{Followed: f, Answer: ev.Answer}
	case errors.Is(ev.Err, acquirer.ErrNotSent):
		return OpNotSent{f}
	}
	return OpSilent{f}
}

// sweepMost is how many rows one Sweep takes of each kind.
const sweepMost = 64

// Sweep takes over what is owed or was left behind by a dead replica. Call it often; when it
// returns effects there may be more.
func (s *Service) Sweep(ctx context.Context, now protocol.UnixMS) ([]Effect, error) {
	rows, err := s.cfg.Claim(ctx, now, defaultT1+leaseMargin, sweepMost, func(o *OpRow) { s.resend(o, now) })
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	var out []Effect
	for _, r := range rows {
		out = append(out, Send{Device: r.Device, Op: r.Op})
	}
	over, err := s.cfg.Overdue(ctx, now, sweepMost)
	if err != nil {
		return out, fmt.Errorf("overdue: %w", err)
	}
	var failed error
	for _, o := range over { // one that fails must not keep the others waiting
		effects, err := s.look(ctx, now, Look{Device: o.Device, Payment: o.Payment})
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("look at %s: %w", o.Payment, err))
		}
		out = append(out, effects...)
	}
	return out, failed
}

// resend makes an operation ready to be handed to a link. One that may have been written is a
// repeat with the same keys.
func (s *Service) resend(o *OpRow, now protocol.UnixMS) {
	if o.State == OpSent {
		o.Op.Repeat = true
	}
	if p, ok := s.cfg.Profile(o.Op.Link); ok {
		restamp(&o.Op, p, now)
	}
	o.Op.AnswerBy = now.Add(defaultT1)
}
