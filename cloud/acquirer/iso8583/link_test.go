package iso8583

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/protocol"
	"coinop/protocol/money"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeVault hands out one card.
type fakeVault struct {
	t    testing.TB
	err  error
	hold chan struct{} // when set, use is called only after it is closed
	errs atomic.Int32  // of use
}

func (v *fakeVault) WithCard(_ context.Context, key acquirer.OpKey, use func(acquirer.Card) error) error {
	if v.err != nil {
		return v.err
	}
	if v.hold != nil {
		<-v.hold
	}
	c := keptCard(v.t)
	if key.Kind == acquirer.Authorization {
		c = trackCard(v.t)
	}
	err := use(c)
	if err != nil {
		v.errs.Add(1)
	}
	return err
}

type rig struct {
	t      *testing.T
	link   *Link
	host   *hostsim.Server
	vault  *fakeVault
	states chan State
	late   chan acquirer.Answer
	log    *bytes.Buffer
	stop   func()
}

// behave holds what the bank does; tests change it between operations.
type behave struct {
	atomic.Pointer[hostsim.Behavior]
}

func (b *behave) choose(time.Time, hostsim.Summary) hostsim.Behavior {
	if how := b.Load(); how != nil {
		return *how
	}
	return hostsim.Behavior{}
}

type lockedWriter struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// start runs a link against a host simulator on a socket; both end with the test.
func start(t *testing.T, how *behave, edit func(*Config, *hostsim.Config)) *rig {
	t.Helper()
	hostCfg := hostsim.Config{Bank: hostsim.NewBank(hostsim.Options{Behave: how.choose})}
	r := &rig{t: t, vault: &fakeVault{t: t}, states: make(chan State, 64), late: make(chan acquirer.Answer, 64), log: new(bytes.Buffer)}
	cfg := Config{
		Contract: testContract(), Cards: r.vault, AnswerIn: 2 * time.Second, BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond,
		Late: func(_ acquirer.OpKey, a acquirer.Answer) { r.late <- a }, Changed: func(s State) { r.states <- s },
		Log: slog.New(slog.NewTextHandler(&lockedWriter{b: r.log}, nil)),
	}
	if edit != nil {
		edit(&cfg, &hostCfg)
	}
	var err error
	if r.host, err = hostsim.Open(hostCfg); err != nil {
		t.Fatal(err)
	}
	cfg.Addr = r.host.Addr()
	if r.link, err = NewLink(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := r.host.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	linkCtx, stopLink := context.WithCancel(ctx)
	all.Go(func() {
		if err := r.link.Run(linkCtx); err != nil {
			t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() {
		stopLink()
		r.wait(false)
		cancel()
		all.Wait()
	})
	t.Cleanup(func() {
		stopLink()
		cancel()
		all.Wait()
		if s := r.log.String(); strings.Contains(s, "541333") || strings.Contains(s, "9F26") {
			t.Errorf("card data in the log: %s", s)
		}
	})
	return r
}

// wait returns when the link went up or down.
func (r *rig) wait(up bool) State {
	r.t.Helper()
	end := time.NewTimer(10 * time.Second)
	defer end.Stop()
	for {
		select {
		case s := <-r.states:
			if s.Up == up {
				return s
			}
		case <-end.C:
			r.t.Fatalf("the link did not go up=%t: %+v", up, r.link.State())
		}
	}
}

func numbered(n int) acquirer.Op {
	op := authorization()
	op.Key.Payment = protocol.PaymentID{byte(n), byte(n >> 8)}
	op.STAN = acquirer.STAN(n)
	op.RRN = fmt.Sprintf("6326100%05d", n)
	op.AnswerBy = protocol.At(time.Now().Add(10 * time.Second))
	return op
}

func after(op acquirer.Op, k acquirer.Kind, stan acquirer.STAN) acquirer.Op {
	o := op
	o.Key.Kind, o.STAN, o.Reason = k, stan, "00"
	o.AnswerBy = protocol.At(time.Now().Add(10 * time.Second))
	o.Original = acquirer.Original{MTI: "0100", STAN: op.STAN, DE7: op.DE7, Acquirer: "123456"}
	if k != acquirer.Capture {
		o.Reason = "68"
	}
	return o
}

func (r *rig) do(op acquirer.Op) acquirer.Answer {
	r.t.Helper()
	ans, err := r.link.Do(context.Background(), op)
	if err != nil {
		r.t.Fatalf("%v: %v", op.Key.Kind, err)
	}
	return ans
}

func TestSaleOverTheWire(t *testing.T) {
	t.Parallel()
	r := start(t, new(behave), nil)
	r.wait(true)
	op := numbered(103)
	ans := r.do(op)
	want := acquirer.Answer{
		Outcome: acquirer.OK, Raw: "00", Approved: money.New(250, money.EUR), RRN: op.RRN, AuthID: "100001",
		Settle: time.Now().UTC().Format("0102"),
	}
	if d := cmp.Diff(want, ans); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	capture := after(op, acquirer.Capture, 104)
	capture.Amount, capture.AuthID = money.New(200, money.EUR), ans.AuthID
	if a := r.do(capture); a.Outcome != acquirer.OK {
		t.Errorf("capture: %+v", a)
	}
	capture.Repeat = true
	if a := r.do(capture); a.Outcome != acquirer.OK {
		t.Errorf("capture again: %+v", a)
	}
	second := numbered(105)
	r.do(second)
	if a := r.do(after(second, acquirer.Reversal, 106)); a.Outcome != acquirer.OK {
		t.Errorf("reversal: %+v", a)
	}
	if a := r.do(after(numbered(999), acquirer.Reversal, 107)); a.Outcome != acquirer.NotFound {
		t.Errorf("reversal of nothing: %+v", a)
	}
	books := r.host.Books()
	if len(books) != 2 || books[0].Captured != 200 || books[0].Last4 != "0011" || books[1].Stands() != 0 || !books[1].Reversed {
		t.Errorf("books %+v", books)
	}
	if _, err := r.link.Query(context.Background(), op); !errors.Is(err, acquirer.ErrNotSent) {
		t.Errorf("query: %v", err)
	}
	if s := r.link.Stats(); s.Answers != 6 || s.Unmatched != 0 || s.Connects != 1 {
		t.Errorf("%+v", s)
	}
}

func TestReversalWithoutACard(t *testing.T) {
	t.Parallel()
	r := start(t, new(behave), nil)
	r.wait(true)
	op := numbered(1)
	r.do(op)
	r.vault.err = errors.New("no such card")
	if a := r.do(after(op, acquirer.Reversal, 2)); a.Outcome != acquirer.OK {
		t.Errorf("%+v", a)
	}
	if _, err := r.link.Do(context.Background(), after(op, acquirer.Capture, 3)); !errors.Is(err, acquirer.ErrNotSent) || !errors.Is(err, r.vault.err) {
		t.Errorf("capture without a card: %v", err)
	}
}

func TestManyAtOnceOnOneConnection(t *testing.T) {
	t.Parallel()
	r := start(t, new(behave), nil)
	r.wait(true)
	var all sync.WaitGroup
	for n := 1; n <= 200; n++ {
		op := numbered(n)
		op.Amount = money.New(int64(n), money.EUR)
		op.Merchant.TID = fmt.Sprintf("KIOSK%03d", n%7)
		op.STAN = acquirer.STAN(n/7 + 1) // the same number on several terminals
		all.Go(func() {
			a, err := r.link.Do(context.Background(), op)
			if err != nil || a.Outcome != acquirer.OK || a.Approved.Minor != op.Amount.Minor || a.RRN != op.RRN {
				t.Errorf("%d: %+v, %v", n, a, err)
			}
		})
	}
	all.Wait()
	if n := len(r.host.Books()); n != 200 {
		t.Errorf("%d in the books", n)
	}
	r.link.mu.Lock()
	defer r.link.mu.Unlock()
	if len(r.link.waiting) != 0 || r.link.count != 0 {
		t.Errorf("still waiting: %d, %d", len(r.link.waiting), r.link.count)
	}
}

// TestBadManners drives the link against every misbehaviour of the bank.
func TestBadManners(t *testing.T) {
	t.Parallel()
	const soon = 150 * time.Millisecond
	for _, c := range []struct {
		how      string
		outcome  acquirer.Outcome // 0: ErrUnknown
		stands   int64            // at the host, before anything is undone
		late     bool             // the answer comes to Late
		twice    uint64           // responses nobody waited for
		answerIn time.Duration
	}{
		{"approve", acquirer.OK, 250, false, 0, 0},
		{"decline:51", acquirer.No, 0, false, 0, 0},
		{"soft", acquirer.No, 0, false, 0, 0},
		{"partial:100", acquirer.PartialOK, 100, false, 0, 0},
		{"silent", 0, 250, false, 0, soon},
		{"late:300ms", 0, 250, true, 0, soon},
		{"late:20ms", acquirer.OK, 250, false, 0, 0},
		{"twice", acquirer.OK, 250, false, 1, 0},
		{"wrong-stan", 0, 250, false, 1, soon},
		{"wrong-amount", acquirer.Mismatch, 250, false, 0, 0},
		{"drop-before", 0, 0, false, 0, 0},
		{"drop-after", 0, 250, false, 0, 0},
	} {
		t.Run(c.how, func(t *testing.T) {
			t.Parallel()
			how, err := hostsim.ParseBehavior(c.how)
			if err != nil {
				t.Fatal(err)
			}
			b := new(behave)
			b.Store(&how)
			r := start(t, b, nil)
			r.wait(true)
			op := numbered(103)
			if c.answerIn > 0 {
				op.AnswerBy = protocol.At(time.Now().Add(c.answerIn))
			}
			ans, err := r.link.Do(context.Background(), op)
			if c.outcome == 0 {
				if !errors.Is(err, acquirer.ErrUnknown) {
					t.Errorf("%+v, %v; want unknown", ans, err)
				}
			} else if err != nil || ans.Outcome != c.outcome {
				t.Errorf("%+v, %v; want %v", ans, err, c.outcome)
			}
			if how.DropAfter || how.DropBefore {
				r.wait(false)
				r.wait(true) // and comes back
			}
			if c.late {
				select {
				case a := <-r.late:
					if a.Outcome != acquirer.OK || a.AuthID != "100001" {
						t.Errorf("late: %+v", a)
					}
				case <-time.After(5 * time.Second):
					t.Error("no late answer")
				}
			}
			var stands int64
			for _, e := range r.host.Books() {
				stands += e.Stands()
			}
			if stands != c.stands {
				t.Errorf("%d stands at the host, want %d", stands, c.stands)
			}
			b.Store(nil) // what is unknown is undone, on the same or the next connection
			undone := r.do(after(op, acquirer.Reversal, 104))
			if undone.Outcome != acquirer.OK && undone.Outcome != acquirer.NotFound {
				t.Errorf("reversal: %+v", undone)
			}
			for _, e := range r.host.Books() {
				if e.Stands() != 0 {
					t.Errorf("still stands: %+v", e)
				}
			}
			if s := r.link.Stats(); s.Unmatched != c.twice {
				t.Errorf("%d unmatched, want %d", s.Unmatched, c.twice)
			}
		})
	}
}

func TestNotSent(t *testing.T) {
	t.Parallel()
	r := start(t, new(behave), func(c *Config, _ *hostsim.Config) { c.InFlight = 1 })
	r.wait(true)
	past := numbered(1)
	past.WriteBy = protocol.At(time.Now().Add(-time.Second))
	_, err := r.link.Do(context.Background(), past)
	if !errors.Is(err, acquirer.ErrNotSent) || r.vault.errs.Load() != 1 {
		t.Errorf("past WriteBy: %v; the vault saw %d errors", err, r.vault.errs.Load())
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.link.Do(gone, numbered(2)); err != nil && !errors.Is(err, acquirer.ErrNotSent) && !errors.Is(err, acquirer.ErrUnknown) {
		t.Errorf("caller gone: %v", err)
	}
	bad := numbered(3)
	bad.Amount.Minor = 0
	if _, err := r.link.Do(context.Background(), bad); !errors.Is(err, acquirer.ErrNotSent) || !errors.Is(err, ErrBuild) {
		t.Errorf("cannot be built: %v", err)
	}
	bad = numbered(3)
	bad.SentDE7 = nil
	if _, err := r.link.Do(context.Background(), bad); !errors.Is(err, acquirer.ErrNotSent) {
		t.Errorf("DE7 not stored: %v", err)
	}
	bad = numbered(4)
	bad.Merchant.TID = "TOO LONG A NAME"
	if _, err := r.link.Do(context.Background(), bad); !errors.Is(err, acquirer.ErrNotSent) || !errors.Is(err, ErrFormat) {
		t.Errorf("cannot be packed: %v", err)
	}

	// One waits for its card; a second finds no room.
	r.vault.hold = make(chan struct{})
	first := make(chan error, 1)
	go func() { _, err := r.link.Do(context.Background(), numbered(5)); first <- err }()
	for r.waiting() == 0 {
		runtime.Gosched() // the first is between its admission and its card
	}
	if _, err := r.link.Do(context.Background(), numbered(6)); !errors.Is(err, acquirer.ErrNotSent) || r.link.Stats().Refused != 1 {
		t.Errorf("no room: %v", err)
	}
	close(r.vault.hold)
	if err := <-first; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
	for _, e := range r.host.Books() {
		if e.STAN != "000005" && e.STAN != "000002" {
			t.Errorf("was sent: %+v", e)
		}
	}
	r.stop()
	if _, err := r.link.Do(context.Background(), numbered(7)); !errors.Is(err, acquirer.ErrNotSent) {
		t.Errorf("stopped: %v", err)
	}
}

func (r *rig) waiting() int {
	r.link.mu.Lock()
	defer r.link.mu.Unlock()
	return r.link.count
}

func TestSameOperationTwice(t *testing.T) {
	t.Parallel()
	r := start(t, new(behave), nil)
	r.wait(true)
	r.vault.hold = make(chan struct{})
	first := make(chan error, 1)
	go func() { _, err := r.link.Do(context.Background(), numbered(5)); first <- err }()
	for r.waiting() == 0 {
		runtime.Gosched()
	}
	if _, err := r.link.Do(context.Background(), numbered(5)); !errors.Is(err, acquirer.ErrNotSent) {
		t.Errorf("the same again: %v", err)
	}
	close(r.vault.hold)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// TestRepeatTakesTheAnswerOfTheFirst: a repeat waits for the same keys, so whichever answer comes
// first is its own, and the late one is nobody's.
func TestRepeatTakesTheAnswerOfTheFirst(t *testing.T) {
	t.Parallel()
	b := new(behave)
	r := start(t, b, nil)
	r.wait(true)
	op := numbered(1)
	r.do(op)
	b.Store(&hostsim.Behavior{Silent: true})
	rev := after(op, acquirer.Reversal, 2)
	rev.AnswerBy = protocol.At(time.Now().Add(100 * time.Millisecond))
	if _, err := r.link.Do(context.Background(), rev); !errors.Is(err, acquirer.ErrUnknown) {
		t.Fatalf("silent: %v", err)
	}
	b.Store(nil)
	rev.Repeat, rev.AnswerBy = true, 0
	rev.DE7, rev.SentDE7 = "1122093102", []acquirer.Stamp{rev.DE7, "1122093102"}
	if a := r.do(rev); a.Outcome != acquirer.OK {
		t.Errorf("%+v", a)
	}
	if s := r.link.Stats(); s.Late != 0 {
		t.Errorf("%+v", s)
	}
}

func TestNotSignedOn(t *testing.T) {
	t.Parallel()
	r := start(t, new(behave), func(c *Config, h *hostsim.Config) { c.AnswerIn, h.Mute = 30*time.Millisecond, true })
	if _, err := r.link.Do(context.Background(), numbered(1)); !errors.Is(err, acquirer.ErrNotSent) {
		t.Errorf("before the sign-on: %v", err)
	}
	r.host.Mute(false)
	if s := r.wait(true); s.Reason != "" || !r.link.State().Up {
		t.Errorf("%+v", s)
	}
	if len(r.host.Books()) != 0 {
		t.Error("something was sent")
	}
}

func TestEchoes(t *testing.T) {
	t.Parallel()
	r := start(t, new(behave), func(c *Config, _ *hostsim.Config) { c.AnswerIn, c.EchoEvery = 20*time.Millisecond, 20*time.Millisecond })
	r.wait(true)
	r.host.Mute(true)
	if s := r.wait(false); !strings.Contains(s.Reason, errMuted.Error()) {
		t.Errorf("%+v", s)
	}
	r.host.Mute(false)
	r.wait(true)
	if r.link.Stats().Connects != 2 {
		t.Errorf("%+v", r.link.Stats())
	}
}

// TestHostBreaksOff: what was sent is unknown, and what comes after is not sent until the link is
// up again.
func TestHostBreaksOff(t *testing.T) {
	t.Parallel()
	b := new(behave)
	b.Store(&hostsim.Behavior{Silent: true})
	r := start(t, b, nil)
	r.wait(true)
	got := make(chan error, 1)
	op := numbered(1)
	go func() { _, err := r.link.Do(context.Background(), op); got <- err }()
	for len(r.host.Books()) == 0 {
		runtime.Gosched()
	}
	r.host.DropAll()
	if err := <-got; !errors.Is(err, acquirer.ErrUnknown) {
		t.Errorf("%v", err)
	}
	r.wait(false)
	r.wait(true)
}

// TestHostOnASocket is the other side by hand: the host's own 0800, responses to nothing, and bytes
// that are no message.
func TestHostOnASocket(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	states := make(chan State, 64)
	link, err := NewLink(Config{
		Addr: l.Addr().String(), Contract: testContract(), Cards: &fakeVault{t: t}, BackoffMin: time.Millisecond,
		Changed: func(s State) { states <- s },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- link.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	c := ASCII87()
	accept := func() net.Conn {
		t.Helper()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		return conn
	}
	read := func(conn net.Conn) *Message {
		t.Helper()
		raw, err := c.ReadFrame(conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Unpack(raw)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	write := func(conn net.Conn, m *Message) {
		frame, err := c.AppendFrame(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	refused := accept()
	on := read(refused)
	if on.MTI != "0800" || on.Get(70) != "001" || on.Get(32) != "123456" || len(on.Get(7)) != 10 {
		t.Errorf("sign-on %v", on)
	}
	no := networkReply(on)
	no.Set(39, "05")
	write(refused, no)
	conn := accept() // a refused sign-on is tried again on a new connection
	_ = refused.Close()
	write(conn, networkReply(read(conn)))
	theirs := NewMessage("0800")
	theirs.Set(7, "1122093000")
	theirs.Set(11, "77")
	theirs.Set(70, "301")
	write(conn, theirs)
	if a := read(conn); a.MTI != "0810" || a.Get(11) != "000077" || a.Get(39) != "00" || a.Get(70) != "301" {
		t.Errorf("answered %v", a)
	}
	write(conn, find(t, "0100 contactless auth, response").msg)
	write(conn, find(t, "0100 contactless auth, request").msg)
	if _, err := conn.Write([]byte("\x00\x04GET ")); err != nil {
		t.Fatal(err)
	}
	again := accept() // no message of this dialect: a new connection
	_ = conn.Close()
	write(again, networkReply(read(again)))
	for ups := 0; ups < 2; {
		if s := <-states; s.Up {
			ups++
		}
	}
	if s := link.Stats(); s.Unmatched != 1 {
		t.Errorf("%+v", s)
	}
	cancel()
	if off := read(again); off.Get(70) != "002" {
		t.Errorf("sign-off %v", off)
	}
	_ = again.Close()
}

// TestBooksSurviveAKill: a host that ends and starts again on its file knows what it booked.
func TestBooksSurviveAKill(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "books")
	with := func(_ *Config, h *hostsim.Config) { h.Books = file }
	first := start(t, new(behave), with)
	first.wait(true)
	op := numbered(1)
	first.do(op)
	first.stop()
	second := start(t, new(behave), with)
	second.wait(true)
	again := op
	again.Repeat = true
	if a := second.do(again); a.Outcome != acquirer.OK || a.AuthID != "100001" {
		t.Errorf("repeat after the restart: %+v", a)
	}
	if a := second.do(after(op, acquirer.Reversal, 2)); a.Outcome != acquirer.OK {
		t.Errorf("reversal after the restart: %+v", a)
	}
	if books := second.host.Books(); len(books) != 1 || books[0].Stands() != 0 {
		t.Errorf("%+v", books)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "www", 10: "www", 11: "sww", 20: "sww", 25: "sww", 26: "ssw", 35: "sss", 40: "sss"} {
		var batch []*flight
		for _, size := range []int{15, 5, 15} {
			batch = append(batch, &flight{frame: make([]byte, size), written: make(chan struct{})})
		}
		batch[1].frame = make([]byte, 5)
		settle(batch, 45, n) // 10 bytes of the batch's write are a network message
		got := ""
		for _, f := range batch {
			got += map[bool]string{true: "s", false: "w"}[f.sent()]
			<-f.written
		}
		if got != want {
			t.Errorf("%d bytes written: %s, want %s", n, got, want)
		}
	}
}

func TestNewLinkRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{}, {Addr: "x:1"}, {Addr: "x:1", Cards: &fakeVault{t: t}}} {
		if _, err := NewLink(c); err == nil {
			t.Errorf("took %+v", c)
		}
	}
}
