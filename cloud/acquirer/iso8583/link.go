package iso8583

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"coinop/cloud/acquirer"
	"coinop/protocol"
)

// Config of a Link. Addr, Cards and Contract.Institution are needed; zero values of the rest are
// the defaults named.
type Config struct {
	Name     string // as Op.Link and the announced state say it: Contract.Name
	Addr     string // host:port
	Contract Contract
	Cards    acquirer.Cards
	Codec    *Codec // ASCII87

	// Dial opens the connection; TLS goes here. Plain TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Late gets answers that came after Do gave up, within Contract.LateWindowMS of it. It is
	// called by the goroutine that reads and must not block.
	Late func(acquirer.OpKey, acquirer.Answer)
	// Written is told that an operation has left, by the goroutine of its Do. It must not block.
	Written func(acquirer.OpKey)
	// Changed is told when the link comes into service and when it leaves it. It must not block.
	Changed func(State)
	Log     *slog.Logger // discard

	InFlight    int           // operations at a time; more are ErrNotSent: 256
	DialTimeout time.Duration // 5 s
	WriteWithin time.Duration // write deadline: 5 s
	AnswerIn    time.Duration // time for an answer to our 0800: 10 s
	EchoEvery   time.Duration // idle time before an echo: 60 s
	BackoffMin  time.Duration // before the first reconnect, then doubled, with 20 % jitter: 1 s
	BackoffMax  time.Duration // 60 s
}

// missedEchoes in a row end a connection.
const missedEchoes = 3

// State of a link.
type State struct {
	Up     bool      // connected and signed on
	Since  time.Time // of the last change
	Reason string    // why it is down
}

// Stats count what a link saw since it was made.
type Stats struct {
	Connects  uint64
	Answers   uint64 // delivered to Do
	Late      uint64 // delivered to Late
	Unmatched uint64 // responses to nothing we wait for: logged, dropped
	Refused   uint64 // Do refused because InFlight were waiting
}

// Link is one host on one TCP connection. It is an acquirer.Acquirer, safe for concurrent use.
//
// What it promises about Do:
//   - ErrNotSent: no byte of the request left this process. The link was down or not signed on, too
//     many were waiting, the vault had no card, WriteBy passed or the caller went before the write.
//   - ErrUnknown: at least one byte may have left and no answer came in time, or the connection was
//     lost after it.
//   - a card is in the hands of Do only until its message was written; its owner wipes it, the link its
//     buffers.
//   - an answer is matched by class, DE41, DE11 and DE7 of any transmission; a second one is dropped.
type Link struct {
	cfg   Config
	codec *Codec

	mu      sync.Mutex // guards what follows
	state   State
	stats   Stats
	session *session // in service, else nil
	waiting map[answerKey]*flight
	late    map[answerKey]*flight // given up, until their window ends
	lateSeq []*flight             // late, oldest first
	count   int
	stan    acquirer.STAN // of our own 0800s
}

var _ acquirer.Acquirer = (*Link)(nil)

// answerKey is what a response is told apart by.
type answerKey struct {
	mti, tid, stan string
	de7            acquirer.Stamp
}

// Errors that wrap ErrNotSent.
var (
	errDown  = fmt.Errorf("link down: %w", acquirer.ErrNotSent)
	errBusy  = fmt.Errorf("too many operations waiting: %w", acquirer.ErrNotSent)
	errTwice = fmt.Errorf("the same operation is waiting: %w", acquirer.ErrNotSent)
	errTime  = fmt.Errorf("too late to write: %w", acquirer.ErrNotSent)
)

// NewLink makes a link; Run connects it.
func NewLink(cfg Config) (*Link, error) {
	if cfg.Addr == "" || cfg.Cards == nil || cfg.Contract.Institution == "" {
		return nil, errors.New("iso8583 link: want an address, cards and an institution (DE32)")
	}
	if cfg.Name == "" {
		cfg.Name = cfg.Contract.Name
	}
	if cfg.Contract.Flow == 0 {
		cfg.Contract.Flow = acquirer.DualFinal
	}
	if cfg.Codec == nil {
		cfg.Codec = ASCII87()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		at  *time.Duration
		def time.Duration
	}{
		{&cfg.DialTimeout, 5 * time.Second},
		{&cfg.WriteWithin, 5 * time.Second},
		{&cfg.AnswerIn, 10 * time.Second},
		{&cfg.EchoEvery, time.Minute},
		{&cfg.BackoffMin, time.Second},
		{&cfg.BackoffMax, time.Minute},
	} {
		if *d.at <= 0 {
			*d.at = d.def
		}
	}
	if cfg.InFlight <= 0 {
		cfg.InFlight = 256
	}
	l := &Link{cfg: cfg, codec: cfg.Codec, waiting: map[answerKey]*flight{}, late: map[answerKey]*flight{}}
	l.cfg.Log = cfg.Log.With("link", cfg.Name)
	l.state = State{Since: time.Now(), Reason: "not started"}
	if cfg.Dial == nil {
		l.cfg.Dial = l.dial
	}
	return l, nil
}

// lateWindow is how long after Do gave up an answer is still of use.
func (l *Link) lateWindow() time.Duration {
	if ms := l.cfg.Contract.LateWindowMS; ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return 90 * time.Second
}

// State is whether the link is in service.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Stats is a copy of the counters.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Query always answers ErrNotSent: ISO 8583:1987 has no message for it that hosts agree on.
func (l *Link) Query(context.Context, acquirer.Op) (acquirer.Answer, error) {
	return acquirer.Answer{}, fmt.Errorf("query: %w", acquirer.ErrNotSent)
}

// Do sends op and waits for its answer until op.AnswerBy or the end of ctx.
func (l *Link) Do(ctx context.Context, op acquirer.Op) (acquirer.Answer, error) {
	f, err := l.admit(op)
	if err != nil {
		return acquirer.Answer{}, err
	}
	if op.AnswerBy > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, op.AnswerBy.Time())
		defer cancel()
	}
	err = l.withCard(ctx, op, func(card *acquirer.Card) error { return l.write(ctx, f, card) })
	if !f.sent() {
		l.forget(f)
		if !errors.Is(err, acquirer.ErrNotSent) {
			err = fmt.Errorf("%w: %w", acquirer.ErrNotSent, err)
		}
		return acquirer.Answer{}, err
	}
	select {
	case ans := <-f.answer:
		l.forget(f)
		return ans, nil
	default:
	}
	select {
	case ans := <-f.answer:
		l.forget(f)
		return ans, nil
	case <-f.session.gone:
		l.giveUp(f)
		return l.lastLook(f, fmt.Errorf("connection lost: %w", acquirer.ErrUnknown))
	case <-ctx.Done():
		l.giveUp(f)
		return l.lastLook(f, fmt.Errorf("no answer in time: %w", acquirer.ErrUnknown))
	}
}

// lastLook takes an answer that was delivered while the wait ended.
func (l *Link) lastLook(f *flight, err error) (acquirer.Answer, error) {
	select {
	case ans := <-f.answer:
		l.forget(f)
		return ans, nil
	default:
		return acquirer.Answer{}, err
	}
}

// withCard hands f the card; a reversal goes without one when the vault has none any more.
func (l *Link) withCard(ctx context.Context, op acquirer.Op, f func(*acquirer.Card) error) error {
	used := false
	err := l.cfg.Cards.WithCard(ctx, op.Key, func(c acquirer.Card) error {
		used = true
		return f(&c)
	})
	if reversal := op.Key.Kind == acquirer.Reversal || op.Key.Kind == acquirer.PartialReversal; err != nil && !used && reversal {
		l.cfg.Log.Warn("reversal without a card", "op", op.Key, "err", err)
		return f(nil)
	}
	return err
}

// write packs the message and hands it to the writer; it returns when the message was written or
// never will be.
func (l *Link) write(ctx context.Context, f *flight, card *acquirer.Card) error {
	m, err := l.cfg.Contract.Build(f.op, card)
	if err != nil {
		return err
	}
	if f.frame, err = l.codec.AppendFrame(nil, m); err != nil {
		return err
	}
	defer clear(f.frame)
	select {
	case f.session.out <- f:
	case <-f.session.gone:
		return errDown
	case <-ctx.Done():
		return errTime
	}
	select {
	case <-f.written:
	case <-f.session.gone:
		f.withdraw()
		<-f.written // by withdraw, or by the writer that has it
	case <-ctx.Done():
		f.withdraw()
		<-f.written
	}
	if !f.sent() {
		return errTime
	}
	if l.cfg.Written != nil {
		l.cfg.Written(f.op.Key)
	}
	return nil
}

// admit registers the answers op waits for, while the link is in service and has room.
func (l *Link) admit(op acquirer.Op) (*flight, error) {
	mti, ok := l.cfg.Contract.mti(op)
	if !ok || !slices.Contains(op.SentDE7, op.DE7) {
		return nil, fmt.Errorf("%w: %w: no kind, or DE7 not among those sent", acquirer.ErrNotSent, ErrBuild)
	}
	f := newFlight(op, l.cfg.Contract, response(mti))
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.session == nil:
		return nil, errDown
	case l.count >= l.cfg.InFlight:
		l.stats.Refused++
		return nil, errBusy
	}
	for _, k := range f.keys {
		if l.waiting[k] != nil {
			return nil, errTwice
		}
	}
	f.session = l.session
	for _, k := range f.keys {
		if old := l.late[k]; old != nil {
			l.remove(old) // its answer is this one's
		}
		l.waiting[k] = f
	}
	l.count++
	return f, nil
}

// forget ends the wait for f's answers.
func (l *Link) forget(f *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(f)
}

func (l *Link) remove(f *flight) {
	n := 0
	for _, k := range f.keys {
		if l.waiting[k] == f {
			delete(l.waiting, k)
			n++
		}
		if l.late[k] == f {
			delete(l.late, k)
		}
	}
	if n > 0 {
		l.count--
	}
}

// lateMost is how many given up operations are remembered; the oldest goes first.
const lateMost = 4096

// giveUp moves f to those whose answer is late.
func (l *Link) giveUp(f *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(f)
	now := time.Now()
	f.lateUntil = now.Add(l.lateWindow())
	for len(l.lateSeq) > 0 && (len(l.lateSeq) >= lateMost || l.lateSeq[0].lateUntil.Before(now)) {
		l.remove(l.lateSeq[0])
		l.lateSeq[0] = nil
		l.lateSeq = l.lateSeq[1:]
	}
	for _, k := range f.keys {
		l.late[k] = f
	}
	l.lateSeq = append(l.lateSeq, f)
}

// deliver gives a response to who waits for it.
func (l *Link) deliver(m *Message) {
	k := answerKey{m.MTI, trim(m.Get(41)), m.Get(11), acquirer.Stamp(m.Get(7))}
	l.mu.Lock()
	f, late := l.waiting[k], false
	if f == nil {
		f, late = l.late[k], true
	}
	if f != nil && late && f.lateUntil.Before(time.Now()) {
		l.remove(f)
		f = nil
	}
	var ans acquirer.Answer
	ok := false
	if f != nil {
		if ans, ok = l.cfg.Contract.Match(f.op, m); ok {
			l.remove(f)
			l.tally(late)
			if !late {
				f.answer <- ans // holds one and only one comes: f was just removed
			}
		}
	}
	if !ok {
		l.stats.Unmatched++
	}
	l.mu.Unlock()
	switch {
	case !ok:
		l.cfg.Log.Warn("response to nothing sent", "message", m)
	case late && l.cfg.Late != nil:
		l.cfg.Late(f.op.Key, ans)
	}
}

func (l *Link) tally(late bool) {
	if late {
		l.stats.Late++
	} else {
		l.stats.Answers++
	}
}

// Run connects, signs on, serves, and connects again until ctx ends; it then signs off and returns
// nil. Operations waiting at that moment are ErrUnknown.
func (l *Link) Run(ctx context.Context) error {
	wait := l.cfg.BackoffMin
	for ctx.Err() == nil {
		served, err := l.connect(ctx)
		if ctx.Err() != nil {
			break
		}
		l.set(State{Reason: err.Error()}, nil)
		if served {
			wait = l.cfg.BackoffMin
		}
		pause := time.NewTimer(time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64())))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
		wait = min(2*wait, l.cfg.BackoffMax)
	}
	l.set(State{Reason: "stopped"}, nil)
	return nil
}

// set changes the state and tells of it; a link that stays down keeps its Since.
func (l *Link) set(s State, ses *session) {
	l.mu.Lock()
	changed := l.state.Up != s.Up
	s.Since = time.Now()
	if !changed {
		s.Since = l.state.Since
	}
	l.state, l.session = s, ses
	if s.Up {
		l.stats.Connects++
	}
	l.mu.Unlock()
	if !changed {
		return
	}
	if s.Up {
		l.cfg.Log.Info("acquirer up")
	} else {
		l.cfg.Log.Warn("acquirer down", "reason", s.Reason)
	}
	if l.cfg.Changed != nil {
		l.cfg.Changed(s)
	}
}

func (l *Link) dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: l.cfg.DialTimeout, Control: userTimeout(l.lateWindow() / 2)}
	return d.DialContext(ctx, "tcp", addr)
}

// connect is one connection from dial to its end; served says it was signed on.
func (l *Link) connect(ctx context.Context) (served bool, err error) {
	dialing, cancel := context.WithTimeout(ctx, l.cfg.DialTimeout)
	conn, err := l.cfg.Dial(dialing, l.cfg.Addr)
	cancel()
	if err != nil {
		return false, fmt.Errorf("connect: %w", err)
	}
	s := &session{
		link: l, conn: conn, out: make(chan *flight, 64), network: make(chan *Message, 8), gone: make(chan struct{}),
		replies: make(chan *Message, 8),
	}
	var all sync.WaitGroup
	var once sync.Once
	end := func(cause error) {
		once.Do(func() {
			l.leave(s)
			err = cause
			close(s.gone)
			_ = conn.Close()
		})
	}
	all.Go(func() { end(s.read(bufio.NewReaderSize(conn, 4096))) })
	all.Go(func() { end(s.send()) })
	served, cause := s.keep(ctx)
	end(cause)
	all.Wait()
	s.drain()
	return served, err
}

// leave takes s out of service, so that nothing new is handed to it.
func (l *Link) leave(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == s {
		l.session = nil
	}
}

// ownSTAN is the next number for a message of our own; they have no DE41 and meet no other's.
func (l *Link) ownSTAN() acquirer.STAN {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stan = l.stan%999_999 + 1
	return l.stan
}

// stamp is DE7 for now.
func stamp(t time.Time) acquirer.Stamp { return acquirer.Stamp(t.UTC().Format("0102150405")) }

// errEnd is an orderly end by the host.
var errEnd = errors.New("host closed the connection")

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errEnd
	}
	return err
}

// tooLate is whether a request may no longer be written.
func tooLate(by protocol.UnixMS) bool { return by > 0 && protocol.At(time.Now()) > by }
