package payment_test

import (
	"container/heap"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
	"coinop/protocol/money"
)

var (
	seed  = flag.Uint64("seed", 0, "run the random test with this seed alone")
	seeds = flag.Int("seeds", 5, "how many seeds the random test runs")
)

// TestRandom lets devices buy, hosts fail and replicas die in any order, in time that is only
// counted, until nothing is owed any more. Then the bank's books, the ledger and what the devices
// know must be one story.
func TestRandom(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testRandom)
}

func testRandom(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	var all []uint64
	for n := range *seeds {
		all = append(all, uint64(n)+1)
	}
	if *seed != 0 {
		all = []uint64{*seed}
	}
	profiles := []acquirer.Profile{
		{Flow: acquirer.DualFinal},
		{Flow: acquirer.DualPartial},
		{Flow: acquirer.Single},
		{Flow: acquirer.DualFinal, STANPerRepeat: true, ReversalAmount: "approved"},
		{Flow: acquirer.Single, STANPerRepeat: true},
		{Flow: acquirer.DualPartial, ReversalAmount: "approved", LateWindowMS: 120_000},
	}
	for _, n := range all {
		t.Run(fmt.Sprintf("seed %d", n), func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", n)
			w := newWorld(t, fresh, n, profiles[n%uint64(len(profiles))])
			for i := range 40 {
				w.after(time.Duration(w.rng.IntN(60_000))*time.Millisecond, func() { w.buy(i) })
			}
			for i := range 4 {
				w.after(time.Duration(w.rng.IntN(80_000))*time.Millisecond, func() { w.die(i % len(w.replicas)) })
			}
			w.run()
			w.judge()
		})
	}
}

type event struct {
	at protocol.UnixMS
	n  int
	do func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any     { old := *q; x := old[len(old)-1]; *q = old[:len(old)-1]; return x }

type replica struct {
	svc  *payment.Service
	life int // deaths so far: what was under way in an earlier one is lost
}

// buyer is a device with one sale, as far as it knows.
type buyer struct {
	device    protocol.DeviceID
	sale      protocol.SaleID
	id        protocol.PaymentID
	amount    int64
	ends      protocol.UnixMS
	over      bool // the wait: answered or not
	captured  int64
	journaled protocol.UnixMS // when the outcome came to the cloud for sure; 0: never
}

type world struct {
	*bed
	rng      *rand.Rand
	now      protocol.UnixMS
	queue    events
	n        int
	swept    protocol.UnixMS
	host     *host
	do       func(protocol.UnixMS, acquirer.Op, hostsim.Behavior) (acquirer.Answer, error) // what answers operations
	query    func(acquirer.Op) (acquirer.Answer, error)                                    // nil: it cannot be asked
	change   func(*protocol.Ask)                                                           // of every request
	replicas []*replica
	buyers   map[protocol.PaymentID]*buyer
	deaths   int
	loaded   map[ledger.Account]int64 // by a desk
}

func newWorld(t testing.TB, fresh storetest.Fresh, seed uint64, p acquirer.Profile) *world {
	w := &world{bed: newBed(t, fresh, p), rng: rand.New(rand.NewPCG(seed, 1)), now: t0, swept: t0, buyers: map[protocol.PaymentID]*buyer{}}
	w.host = newHost(w.profile)
	w.do, w.change = w.host.do, func(*protocol.Ask) {}
	for range 3 {
		w.replicas = append(w.replicas, &replica{svc: w.service()})
	}
	return w
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }
func (w *world) ms(n int) time.Duration  { return time.Duration(w.rng.IntN(n)) * time.Millisecond }

func (w *world) after(d time.Duration, do func()) {
	w.n++
	heap.Push(&w.queue, event{w.now.Add(d), w.n, do})
}

func (w *world) die(i int) {
	w.replicas[i] = &replica{svc: w.service(), life: w.replicas[i].life + 1}
	w.deaths++
}

// alive runs do later, unless the replica has died by then.
func (w *world) alive(r *replica, d time.Duration, do func()) {
	w.after(d, func() {
		for _, other := range w.replicas {
			if other == r {
				do()
			}
		}
	})
}

func (w *world) any() *replica { return w.replicas[w.rng.IntN(len(w.replicas))] }

func (w *world) handle(r *replica, ev payment.Event) {
	effects, err := r.svc.Handle(context.Background(), w.now, ev)
	if err != nil {
		w.t.Errorf("%T: %v", ev, err)
	}
	w.effects(r, effects)
}

func (w *world) effects(r *replica, effects []payment.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case payment.Send:
			w.send(r, e)
		case payment.Timer:
			w.alive(r, e.At.Sub(w.now), func() { w.handle(r, payment.Look{Device: e.Device, Payment: e.Payment}) })
		case payment.Publish:
			if w.chance(90) {
				w.after(w.ms(50), func() { w.told(e) })
			}
		case payment.Ask:
			if w.query == nil {
				w.t.Error("a query where none can be made")
				continue
			}
			w.alive(r, w.ms(300), func() {
				ans, err := w.query(e.Op)
				w.handle(r, payment.QueryAnswer{Device: e.Device, Key: e.Op.Key, Answer: ans, Err: err})
			})
		}
	}
}

// send is a link: not sent, lost on the way, late on either way, or answered.
func (w *world) send(r *replica, e payment.Send) {
	written := w.ms(20)
	if w.chance(10) {
		written = w.ms(8000)
	}
	if by := e.Op.WriteBy; w.chance(10) || by > 0 && w.now.Add(written) > by {
		w.alive(r, written, func() { w.handle(r, payment.HostAnswer{Device: e.Device, Key: e.Op.Key, Err: acquirer.ErrNotSent}) })
		return
	}
	waiting := true
	w.alive(r, e.Op.AnswerBy.Sub(w.now), func() {
		if waiting {
			waiting = false
			w.handle(r, payment.HostAnswer{Device: e.Device, Key: e.Op.Key, Err: acquirer.ErrUnknown})
		}
	})
	if w.chance(8) {
		return
	}
	there := w.ms(300)
	if w.chance(8) {
		there = w.ms(60_000) // less than the late window
	}
	var how hostsim.Behavior
	auth := e.Op.Key.Kind == acquirer.Authorization
	switch n := w.rng.IntN(100); {
	case n < 8 && auth:
		how.Decline = "51"
	case n < 8:
		how.Decline = "91"
	case n < 16 && auth:
		how.Partial = 1 + int64(w.rng.IntN(200))
	case n < 20:
		how.WrongAmount = true
	}
	w.after(written+there, func() {
		ans, err := w.do(w.now, e.Op, how)
		if err != nil && w.query == nil { // accounts may say that its time is over
			w.t.Errorf("%s: %v", e.Op.Key, err)
			return
		}
		if w.chance(8) {
			return
		}
		back := w.ms(300)
		if w.chance(8) {
			back = w.ms(30_000)
		}
		w.alive(r, back, func() {
			ev := payment.HostAnswer{Key: e.Op.Key, Answer: ans, Err: err}
			if waiting {
				waiting, ev.Device = false, e.Device
			}
			w.handle(r, ev)
		})
	})
}

func (w *world) buy(i int) {
	b := &buyer{
		device: protocol.DeviceID(fmt.Sprintf("d%d", i%7)), sale: protocol.SaleID{1, byte(i)}, id: protocol.PaymentID{1, byte(i)},
		amount: 100 + int64(w.rng.IntN(900)), ends: w.now.Add(10 * time.Second),
	}
	w.buyers[b.id] = b
	q := request(w.now, b.device, b.sale, b.id, b.amount, w.change)
	q.From.Merchant.TID = fmt.Sprintf("TID%05d", i%5)
	for _, at := range []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 7 * time.Second} {
		if w.chance(15) {
			continue
		}
		w.after(at+w.ms(100), func() {
			if !b.over {
				w.handle(w.any(), q)
			}
		})
	}
	w.after(10*time.Second, func() {
		if !b.over {
			b.over = true
			w.settle(b, protocol.Void, 0, protocol.NoAnswer)
		}
	})
}

// told is the device's end: what it is told first within its wait counts.
func (w *world) told(e payment.Publish) {
	var a protocol.Auth
	var r protocol.AuthorizationResponse
	if err := protocol.Decode(e.Body, &a); err != nil {
		w.t.Error(err)
		return
	}
	if a.T != protocol.MsgResponse {
		return
	}
	if err := protocol.Decode(a.Body, &r); err != nil {
		w.t.Error(err)
		return
	}
	b := w.buyers[r.Payment]
	if b.over {
		return
	}
	b.over = true
	if r.Result != protocol.Approved && r.Result != protocol.Partial {
		return // nothing stands, nothing is owed
	}
	if r.Approved.Minor > b.amount || r.Approved.Minor <= 0 {
		w.t.Errorf("approved %s of %d", r.Approved, b.amount)
	}
	switch n := w.rng.IntN(100); {
	case n < 10: // never heard of again
	case n < 30:
		w.after(w.ms(30_000), func() { w.settle(b, protocol.Void, 0, protocol.VendFailed) })
	default:
		c := 1 + w.rng.Int64N(r.Approved.Minor)
		if w.chance(50) {
			c = r.Approved.Minor
		}
		w.after(w.ms(30_000), func() {
			b.captured = c
			w.settle(b, protocol.Capture, c, protocol.ReasonSold)
		})
	}
}

// settle brings the outcome up: perhaps its early copy, its record for sure, perhaps after days.
func (w *world) settle(b *buyer, what protocol.What, minor int64, why protocol.Reason) {
	rec := outcome(b.device, b.sale, b.id, protocol.Seq(10+b.id[1]), what, minor, why)
	if w.chance(60) {
		w.after(w.ms(2000), func() { w.handle(w.any(), payment.Copy{From: from(b.device), Record: rec}) })
	}
	late := w.ms(60_000)
	if w.chance(8) {
		late = 26*time.Hour + w.ms(60_000)
	}
	for range 1 + w.rng.IntN(2) {
		w.after(late, func() {
			r := w.any()
			v, effects := w.journal(r.svc, w.now, rec)
			if v.Disposition == payment.Quarantined {
				w.t.Errorf("%s of %s is quarantined: %s", what, b.id, v.Quarantine)
			}
			if b.journaled == 0 {
				b.journaled = w.now
			}
			w.effects(r, effects)
		})
	}
}

// run is time: the next thing that happens, or the next sweep that has something to do.
func (w *world) run() {
	for steps := 0; !w.t.Failed(); steps++ {
		if steps > 200_000 {
			w.t.Fatal("it does not come to an end")
		}
		if len(w.queue) > 0 && w.queue[0].at <= w.swept.Add(2*time.Second) {
			e := heap.Pop(&w.queue).(event)
			w.now = max(w.now, e.at)
			e.do()
			continue
		}
		due, err := w.st.NextDue(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		next := max(due, w.now).Add(w.ms(500) + 1)
		switch {
		case len(w.queue) > 0 && (due == 0 || w.queue[0].at < next):
			w.swept = w.queue[0].at
		case due == 0:
			return
		default:
			w.now, w.swept = next, next
			r := w.any()
			effects, err := r.svc.Sweep(context.Background(), w.now)
			if err != nil {
				w.t.Error(err)
			}
			w.sums()
			for _, op := range sent(effects) {
				if op.Key.Kind == acquirer.Authorization {
					w.t.Errorf("%s was sent again", op.Key)
				}
			}
			w.effects(r, effects)
		}
	}
}

// judge compares what stands at the bank, in the ledger and on the devices.
func (w *world) judge() {
	type key struct {
		tid, stan string
	}
	books := map[key]hostsim.Entry{}
	for _, e := range w.host.bank.Books() {
		books[key{e.TID, e.STAN}] = e
	}
	w.judgeBy(ledger.AcqReceivable, func(o acquirer.Op) (held, debited int64) {
		e := books[key{o.Merchant.TID, fmt.Sprintf("%06d", o.STAN)}]
		return e.Held, e.Captured
	})
}

// judgeBy is judge by the books of whom authorizations went to, who owes what was captured.
func (w *world) judgeBy(owing ledger.Account, stands func(acquirer.Op) (held, debited int64)) {
	if w.t.Failed() {
		return
	}
	if n, err := w.st.OpenOps(context.Background()); err != nil || n != 0 {
		w.t.Errorf("%d operations are open: %v", n, err)
	}
	states := map[payment.State]int{}
	var captured, lost int64
	for _, b := range w.buyers {
		p, err := w.st.Payment(context.Background(), b.id)
		if err != nil {
			if b.journaled == 0 && errors.Is(err, storeNotFound) {
				continue // no word of it ever came
			}
			w.t.Errorf("%s: %v", b.id, err)
			continue
		}
		states[p.State]++
		if !p.State.Final() || p.State == payment.InCase {
			w.t.Errorf("%s ended as %s", b.id, p.State)
		}
		var held, debited int64
		auths := 0
		for _, o := range w.ops(b.id) {
			if o.Op.Key.Kind == acquirer.Authorization {
				auths++
				h, d := stands(o.Op)
				held, debited = held+h, debited+d
			}
		}
		want := int64(0)
		if p.State == payment.Captured {
			want = p.Captured.Minor
			captured += want
		}
		if auths > 1 || held != 0 || debited != want {
			w.t.Errorf("%s is %s: %d authorizations, %d held, %d debited, want %d", b.id, p.State, auths, held, debited, want)
		}
		switch {
		case p.State == payment.Captured:
			if b.captured != want {
				w.t.Errorf("%s: the device captured %d, the cloud %d", b.id, b.captured, want)
			}
		case b.captured > 0 && p.ReleaseAt > 0 && b.journaled < p.ReleaseAt:
			w.t.Errorf("%s: approved, delivered, told in time and %s", b.id, p.State)
		case b.captured > 0:
			lost += b.captured
		}
	}
	for _, x := range []struct {
		account ledger.Account
		want    int64
	}{
		{owing, captured},
		{ledger.MerchantPayable, -captured - lost},
		{ledger.ExpiredLoss, lost},
		{ledger.AcqUnconfirmed, 0},
		{ledger.VendPending, 0},
		{ledger.ReversalOwed, 0},
		{ledger.Suspense, 0},
	} {
		if x.account == owing || x.account == ledger.Suspense {
			x.want += w.loaded[x.account]
		}
		bal := w.balances()[ledger.Key{Tenant: "acme", Currency: money.EUR, Account: x.account}]
		if bal.Net() != x.want || bal.PendingNet() != 0 {
			w.t.Errorf("%s is %d and %d pending, want %d", x.account, bal.Net(), bal.PendingNet(), x.want)
		}
	}
	w.t.Logf("%s: %d deaths, ends %v, host saw %v, %d debited, %d delivered too late, incidents %v", w.profile.Flow, w.deaths, states, w.host.seen, captured, lost, w.incidents())
}
