package intake_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"coinop/cloud/acquirer"
	"coinop/cloud/intake"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
	"coinop/protocol/money"

	"github.com/google/go-cmp/cmp"
)

const (
	t0    = protocol.UnixMS(1_800_000_000_000)
	snack = protocol.DeviceID("snack-1")
)

var anchors = payment.Anchors{Key: []byte("0123456789abcdef")}

func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }

type vault struct{}

func (vault) Take(context.Context, protocol.Ask, protocol.Epoch) ([]byte, error) {
	return []byte{1}, nil
}
func (vault) Forget(protocol.PaymentID) {}

// bed is an intake over a store. broken, when set, ends each unit of work before its commit.
type bed struct {
	t      testing.TB
	st     *store.Store
	pay    *payment.Service
	in     *intake.Intake
	broken error
	ids    uint64
}

func TestMain(m *testing.M) { storetest.Main(m) }

func newBed(t testing.TB, fresh storetest.Fresh) *bed {
	st, err := store.Open(context.Background(), store.Options{Path: fresh(t), Gather: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	b := &bed{t: t, st: st}
	id := func(protocol.UnixMS) (id [16]byte) {
		b.ids++
		copy(id[:], fmt.Sprintf("id%014d", b.ids))
		return id
	}
	b.pay = payment.NewService(payment.Config{
		Do: func(ctx context.Context, d protocol.DeviceID, fn func(payment.Tx) error) error {
			return st.Do(ctx, store.Shard(d), func(tx *store.Tx) error { return fn(tx) })
		},
		Put: func(ctx context.Context, d protocol.DeviceID, fn func(payment.Tx) error) error {
			return st.Put(ctx, store.Shard(d), func(tx *store.Tx) error { return fn(tx) })
		},
		Claim: st.Claim, Overdue: st.Overdue,
		Owner:   func(context.Context, protocol.PaymentID) (protocol.DeviceID, error) { return snack, nil },
		Profile: func(string) (acquirer.Profile, bool) { return acquirer.Profile{Flow: acquirer.DualFinal}, true },
		Vault:   vault{}, Anchors: anchors,
		NewAnswer: func(at protocol.UnixMS) protocol.AnswerID { return id(at) },
		NewCase:   func(at protocol.UnixMS) protocol.CaseID { return id(at) },
	})
	b.in = intake.New(intake.Config{
		Do: func(ctx context.Context, d protocol.DeviceID, fn func(intake.Tx) error) error {
			return st.Do(ctx, store.Shard(d), func(tx *store.Tx) error {
				if err := fn(tx); err != nil {
					return err
				}
				return b.broken
			})
		},
		Payments: b.pay, Anchors: anchors, ReleaseEvery: 8,
	})
	return b
}

func who(serial string) payment.From {
	return payment.From{Device: snack, Serial: serial, Tenant: "acme", Link: "bank", Merchant: acquirer.Merchant{TID: "T1", MID: "M1"}}
}

func (b *bed) accept(serial string, batch protocol.Batch) intake.Result {
	b.t.Helper()
	res, err := b.in.Accept(context.Background(), t0, who(serial), batch)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

func (b *bed) head() intake.Head {
	b.t.Helper()
	h, err := b.st.Head(context.Background(), snack)
	if err != nil {
		b.t.Fatal(err)
	}
	return h
}

func (b *bed) incidents() map[payment.IncidentName]int {
	all, err := b.st.Incidents(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[payment.IncidentName]int{}
	for _, i := range all {
		out[i.Name]++
	}
	return out
}

// approve brings a payment to approved, as if it had been asked and answered.
func (b *bed) approve(sale protocol.SaleID, id protocol.PaymentID, minor int64) (answerHash protocol.Hash) {
	b.t.Helper()
	ask := protocol.Ask{
		V: protocol.Version, Device: snack, Sale: sale, Payment: id, Class: protocol.Live, Purpose: protocol.Exact,
		Amount: eur(minor), WaitMS: 10_000, Anchor: anchors.Make(snack, t0), Tap: protocol.Tap{LocalTime: "20270115120000"},
	}
	q := payment.Request{From: who("01"), Request: protocol.AuthorizationRequest{Ask: protocol.MustEncode(ask)}}
	if _, err := b.pay.Handle(context.Background(), t0, q); err != nil {
		b.t.Fatal(err)
	}
	_, err := b.pay.Handle(context.Background(), t0, payment.HostAnswer{
		Device: snack, Key: acquirer.OpKey{Payment: id, Kind: acquirer.Authorization, N: 1},
		Answer: acquirer.Answer{Outcome: acquirer.OK, Approved: eur(minor), RRN: "1", AuthID: "1"},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	p, err := b.st.Payment(context.Background(), id)
	if err != nil || p.State != payment.Approved {
		b.t.Fatal(p.State, err)
	}
	return protocol.HashBytes(p.Answer)
}

// chain is a device's journal.
type chain struct {
	epoch   protocol.Epoch
	records []protocol.Sealed
}

func newChain(epoch byte, started protocol.EpochStarted) *chain {
	c := &chain{epoch: protocol.Epoch{epoch}}
	return c.add(protocol.Record{Body: started})
}

func (c *chain) head() protocol.Position {
	if len(c.records) == 0 {
		return protocol.Position{Epoch: c.epoch}
	}
	return c.records[len(c.records)-1].Position
}

func (c *chain) add(rs ...protocol.Record) *chain {
	for _, r := range rs {
		s, err := protocol.SealRecord(snack, c.head(), r)
		if err != nil {
			panic(err)
		}
		c.records = append(c.records, s)
	}
	return c
}

// fill adds n records that say nothing about money.
func (c *chain) fill(n int) *chain {
	for range n {
		c.add(protocol.Record{Body: protocol.DeviceEvent{Code: fmt.Sprint("event ", len(c.records))}})
	}
	return c
}

func (c *chain) clone() *chain {
	return &chain{epoch: c.epoch, records: slices.Clone(c.records)}
}

// batch is records first to last; last < first is an empty one.
func (c *chain) batch(first, last int) protocol.Batch {
	b := protocol.Batch{V: protocol.Version, Device: snack, Epoch: c.epoch, First: protocol.Seq(first), Last: protocol.Seq(last), Nonce: protocol.Nonce{byte(first), byte(last)}}
	if first > 1 {
		b.Prev = c.records[first-2].Position.Hash
	}
	b.Head = b.Prev
	for _, s := range c.records[first-1 : last] {
		b.Record, b.Head = append(b.Record, s.Bytes), s.Position.Hash
	}
	return b
}

func (c *chain) empty() protocol.Batch { return c.batch(len(c.records)+1, len(c.records)) }

func started(prev protocol.Position) protocol.EpochStarted {
	return protocol.EpochStarted{PrevEpoch: prev.Epoch, PrevSeq: prev.Seq, PrevHash: prev.Hash, CertSerial: "01", Reason: "new"}
}

// step is one batch and what must come of it.
type step struct {
	name    string
	serial  string // "01"
	batch   protocol.Batch
	verdict protocol.Verdict
	n       int // the watermark
	want    int
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testVerdicts)
}

func testVerdicts(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	a := newChain(1, protocol.EpochStarted{CertSerial: "01"}).fill(20)
	fork := a.clone() // the same up to 9, then another story
	fork.records = fork.records[:9]
	fork.add(protocol.Record{Body: protocol.DeviceEvent{Code: "another story"}}).fill(20)
	next := newChain(2, started(a.records[9].Position)).fill(3)
	cut := newChain(2, started(a.head())).fill(3)
	alien := newChain(3, protocol.EpochStarted{CertSerial: "01"}).fill(3)
	broken := a.batch(1, 10)
	broken.Record = slices.Clone(broken.Record)
	broken.Record[4], broken.Record[5] = broken.Record[5], broken.Record[4]
	foreign := a.batch(1, 3)
	foreign.Head = protocol.Hash{1}
	otherEmpty := a.batch(11, 10)
	otherEmpty.Prev, otherEmpty.Head = protocol.Hash{9}, protocol.Hash{9}
	otherEmptyBelow := a.batch(6, 5)
	otherEmptyBelow.Prev, otherEmptyBelow.Head = protocol.Hash{9}, protocol.Hash{9}
	took := step{"1 to 10", "", a.batch(1, 10), protocol.Acked, 10, 0}
	for _, c := range []struct {
		name      string
		steps     []step
		stopped   string
		incidents map[payment.IncidentName]int
	}{
		{"in order", []step{took, {"the rest", "", a.batch(11, 21), protocol.Acked, 21, 0}}, "", nil},
		{"first an empty one", []step{
			{"of nothing", "", (&chain{epoch: protocol.Epoch{1}}).empty(), protocol.Acked, 0, 0},
			took,
			{"at the head", "", a.batch(11, 10), protocol.Acked, 10, 0},
			{"below it", "", a.batch(6, 5), protocol.Acked, 10, 0},
		}, "", nil},
		{"overlap", []step{took, {"5 to 15", "", a.batch(5, 15), protocol.Acked, 15, 0}}, "", nil},
		{"repeat", []step{took, {"again", "", a.batch(1, 10), protocol.Repeat, 10, 0}, {"part of it", "", a.batch(3, 7), protocol.Repeat, 10, 0}}, "", nil},
		{"gap", []step{
			took,
			{"13 to 15", "", a.batch(13, 15), protocol.Gap, 10, 11},
			{"an empty one ahead", "", a.batch(15, 14), protocol.Gap, 10, 11},
			{"what is wanted", "", a.batch(11, 15), protocol.Acked, 15, 0},
		}, "", nil},
		{"gap before anything", []step{{"5 to 6", "", a.batch(5, 6), protocol.Gap, 0, 1}}, "", nil},
		{"fork below the head", []step{
			{"1 to 15", "", a.batch(1, 15), protocol.Acked, 15, 0},
			{"10 to 12", "", fork.batch(10, 12), protocol.Fork, 15, 0},
			{"and nothing is taken any more", "", a.batch(16, 18), protocol.Fork, 15, 0},
		}, intake.StopFork, map[payment.IncidentName]int{payment.ChainFault: 1}},
		{"fork at the head", []step{took, {"11 to 12", "", fork.batch(11, 12), protocol.Fork, 10, 0}}, intake.StopFork, map[payment.IncidentName]int{payment.ChainFault: 1}},
		{"fork told by an empty one", []step{took, {"other hash", "", otherEmpty, protocol.Fork, 10, 0}}, intake.StopFork, map[payment.IncidentName]int{payment.ChainFault: 1}},
		{"fork told by an empty one below", []step{took, {"other hash", "", otherEmptyBelow, protocol.Fork, 10, 0}}, intake.StopFork, map[payment.IncidentName]int{payment.ChainFault: 1}},
		{"not a chain", []step{{"two swapped", "", broken, protocol.Fork, 0, 0}}, intake.StopFork, map[payment.IncidentName]int{payment.ChainFault: 1}},
		{"not ending in its head", []step{{"head", "", foreign, protocol.Fork, 0, 0}}, intake.StopFork, map[payment.IncidentName]int{payment.ChainFault: 1}},
		{"wrong epoch", []step{
			took,
			{"not its first record", "", alien.batch(2, 4), protocol.Gap, 0, 1},
			{"names no epoch before", "", alien.batch(1, 4), protocol.BadEpoch, 0, 0},
			{"the old one is stopped too", "", a.batch(11, 12), protocol.BadEpoch, 10, 0},
		}, intake.StopEpoch, map[payment.IncidentName]int{payment.ChainFault: 1}},
		{
			"an epoch that begins with something else",
			[]step{took, {"event", "", (&chain{epoch: protocol.Epoch{4}}).fill(2).batch(1, 2), protocol.BadEpoch, 0, 0}},
			intake.StopEpoch,
			map[payment.IncidentName]int{payment.ChainFault: 1},
		},
		{"next epoch", []step{took, {"names the one before", "", next.batch(1, 3), protocol.Acked, 3, 0}, {"goes on", "", next.batch(4, 4), protocol.Acked, 4, 0}}, "", nil},
		{"next epoch, with records that never came", []step{took, {"21 records before", "", cut.batch(1, 4), protocol.Acked, 4, 0}}, "", map[payment.IncidentName]int{payment.EpochCut: 1}},
		// What is replayed from an epoch that was held changes nothing; who runs on in it is stopped.
		{"the old epoch again", []step{
			took,
			{"next", "", next.batch(1, 4), protocol.Acked, 4, 0},
			{"replayed", "", a.batch(1, 10), protocol.BadEpoch, 0, 0},
			{"part of it", "", a.batch(1, 4), protocol.BadEpoch, 0, 0},
			{"the new one goes on", "", next.empty(), protocol.Acked, 4, 0},
		}, "", nil},
		{
			"an old image",
			[]step{took, {"next", "", next.batch(1, 4), protocol.Acked, 4, 0}, {"the old epoch, and more", "", a.batch(1, 12), protocol.BadEpoch, 0, 0}},
			intake.StopEpoch,
			map[payment.IncidentName]int{payment.ChainFault: 1},
		},
		{"replaced", []step{
			took,
			{"fork", "", fork.batch(10, 12), protocol.Fork, 10, 0},
			{"same certificate, new epoch", "", alien.batch(1, 4), protocol.Fork, 0, 0},
			{"new certificate, old epoch", "02", a.batch(11, 12), protocol.Fork, 10, 0},
			{"new certificate, new epoch", "02", alien.batch(1, 4), protocol.Acked, 4, 0},
			{"goes on", "02", alien.empty(), protocol.Acked, 4, 0},
		}, "", map[payment.IncidentName]int{payment.ChainFault: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, fresh)
			for _, s := range c.steps {
				if s.serial == "" {
					s.serial = "01"
				}
				was := b.head()
				w := b.accept(s.serial, s.batch).Watermark
				if w.Verdict != s.verdict || int(w.N) != s.n || int(w.Want) != s.want {
					t.Fatalf("%s: %s, n %d, want %d; not %s, %d, %d", s.name, w.Verdict, w.N, w.Want, s.verdict, s.n, s.want)
				}
				if w.Anchor.Nonce != s.batch.Nonce || w.Epoch != s.batch.Epoch {
					t.Fatalf("%s: %+v", s.name, w)
				}
				if at, ok := anchors.Time(snack, w.Anchor.ID); !ok || at != t0 {
					t.Fatalf("%s: anchor %v %t", s.name, at, ok)
				}
				if h := b.head(); s.verdict != protocol.Acked && h.Position != was.Position {
					t.Fatalf("%s moved the head to %+v", s.name, h.Position)
				}
			}
			if h := b.head(); h.Stopped != c.stopped {
				t.Fatalf("stopped %q, want %q", h.Stopped, c.stopped)
			}
			if diff := cmp.Diff(c.incidents, b.incidents()); len(c.incidents)+len(b.incidents()) > 0 && diff != "" {
				t.Fatal(diff)
			}
		})
	}
	t.Run("of another device", func(t *testing.T) {
		t.Parallel()
		from := who("01")
		from.Device = "other"
		if _, err := newBed(t, fresh).in.Accept(t.Context(), t0, from, a.batch(1, 2)); err == nil {
			t.Fatal("taken in")
		}
	})
}

// A record that cannot be applied is kept, acknowledged and told, again with a repeat.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testQuarantine)
}

func testQuarantine(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh)
	c := newChain(1, protocol.EpochStarted{CertSerial: "01"})
	c.add(
		protocol.Record{Body: protocol.UnknownBody{K: 99, Raw: protocol.MustEncode("what")}},
		protocol.Record{Body: protocol.UnknownBody{K: protocol.KindSaleClosed, Raw: protocol.MustEncode("nonsense")}},
		protocol.Record{Sale: protocol.SaleID{1}, Body: protocol.PaymentOutcome{Payment: protocol.PaymentID{1}, What: protocol.Capture, Amount: eur(1)}},
		protocol.Record{Sale: protocol.SaleID{2}, Body: protocol.OfflineAccepted{Payment: protocol.PaymentID{2}, Amount: eur(1)}},
	).fill(1)
	want := []protocol.Quarantined{{Seq: 2, Code: protocol.UnknownKind}, {Seq: 3, Code: protocol.BadContent}, {Seq: 4, Code: protocol.QuarantineCase}, {Seq: 5, Code: protocol.OfflineNotYet}}
	for _, batch := range []protocol.Batch{c.batch(1, 6), c.batch(1, 6), c.batch(1, 5)} {
		w := b.accept("01", batch).Watermark
		if diff := cmp.Diff(want, w.Quarantined); diff != "" || w.N != 6 {
			t.Fatalf("%s: %s", w.Verdict, diff)
		}
	}
	rs, err := b.st.Records(t.Context(), snack, c.epoch, 0, 10)
	if err != nil || len(rs) != 6 {
		t.Fatal(len(rs), err)
	}
	for i, r := range rs {
		if string(r.Bytes) != string(c.records[i].Bytes) || r.Verdict.Disposition == 0 {
			t.Fatalf("record %d: %+v", i+1, r)
		}
	}
}

func TestCheckpoints(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testCheckpoints)
}

func testCheckpoints(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh)
	c := newChain(1, protocol.EpochStarted{CertSerial: "01"}).fill(20)
	for _, s := range []struct {
		batch protocol.Batch
		n     int // of the checkpoint; 0: none
	}{
		{c.batch(1, 7), 0}, {c.batch(8, 8), 8}, {c.batch(9, 12), 0}, {c.batch(9, 12), 0}, {c.batch(13, 12), 12}, {c.batch(13, 19), 0}, {c.batch(20, 21), 21},
	} {
		cp := b.accept("01", s.batch).Checkpoint
		switch {
		case (cp != nil) != (s.n > 0):
			t.Fatalf("%d to %d: %+v", s.batch.First, s.batch.Last, cp)
		case cp != nil && (int(cp.N) != s.n || cp.Hash != c.records[s.n-1].Position.Hash || cp.Epoch != c.epoch):
			t.Fatalf("%+v", cp)
		}
	}
}

// The device's cursor says which payment dispositions it has seen; the others come with each ack.
func TestDispositions(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testDispositions)
}

func testDispositions(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh)
	c := newChain(1, protocol.EpochStarted{CertSerial: "01"})
	b.accept("01", c.batch(1, 1))
	const n = 70
	err := b.st.Do(t.Context(), store.Shard(snack), func(tx *store.Tx) error {
		for i := range n {
			tx.PutDisposition(snack, protocol.Disposition{Payment: protocol.PaymentID{byte(i + 1)}, What: protocol.DispExpired, Amount: eur(1)})
		}
		tx.PutDisposition("other", protocol.Disposition{Payment: protocol.PaymentID{99}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []protocol.Disposition
	var cursor uint64
	for range 3 {
		batch := c.empty()
		batch.Cursor = cursor
		w := b.accept("01", batch).Watermark
		got, cursor = append(got, w.Dispositions...), w.Cursor
	}
	if len(got) != n || got[0].Payment != (protocol.PaymentID{1}) || got[n-1].Payment != (protocol.PaymentID{n}) {
		t.Fatalf("%d dispositions", len(got))
	}
}

// purchase is the records of one sale with its outcome.
func purchase(sale protocol.SaleID, pay protocol.PaymentID, minor int64, answer protocol.Hash, what protocol.What) []protocol.Record {
	out := protocol.PaymentOutcome{Payment: pay, What: what, Amount: eur(minor), Reason: protocol.ReasonSold}
	if what == protocol.Void {
		out.Amount, out.Reason = eur(0), protocol.VendFailed
	}
	return []protocol.Record{
		{Sale: sale, Body: protocol.SaleOpened{Due: eur(minor)}},
		{Sale: sale, Body: protocol.AuthorizationAnswered{Payment: pay, AnswerHash: answer, Result: protocol.Approved, Approved: eur(minor)}},
		{Sale: sale, Body: out},
		{Sale: sale, Body: protocol.SaleClosed{How: protocol.Sold, Delivered: eur(minor)}},
	}
}

func sends(res intake.Result) (n int) {
	for _, e := range res.Effects {
		if _, ok := e.(payment.Send); ok {
			n++
		}
	}
	return n
}

// Several sales in one batch; and a unit of work that fails leaves nothing behind.
func TestMoneyInABatch(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testMoneyInABatch)
}

func testMoneyInABatch(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh)
	c := newChain(1, protocol.EpochStarted{CertSerial: "01"})
	for i := byte(1); i <= 5; i++ {
		h := b.approve(protocol.SaleID{i}, protocol.PaymentID{i}, 100)
		c.add(purchase(protocol.SaleID{i}, protocol.PaymentID{i}, 100, h, protocol.Capture+protocol.What(i/5))...)
	}
	before, err := b.st.Balances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.broken = errors.New("the power is cut")
	if _, err := b.in.Accept(t.Context(), t0, who("01"), c.batch(1, 21)); !errors.Is(err, b.broken) {
		t.Fatal(err)
	}
	after, _ := b.st.Balances(t.Context())
	rs, _ := b.st.Records(t.Context(), snack, c.epoch, 0, 100)
	if diff := cmp.Diff(before, after); diff != "" || len(rs) != 0 || b.head().Version != 0 {
		t.Fatalf("something was stored: %d records, %s", len(rs), diff)
	}
	b.broken = nil
	res := b.accept("01", c.batch(1, 21))
	if res.Watermark.N != 21 || len(res.Watermark.Quarantined) != 0 || sends(res) != 5 {
		t.Fatalf("%+v, %d operations", res.Watermark, sends(res))
	}
	if n := sends(b.accept("01", c.batch(1, 21))); n != 0 {
		t.Fatalf("a repeat made %d operations", n)
	}
	all, err := b.st.Balances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.CheckSums(all); err != nil {
		t.Fatal(err)
	}
	if got := all[ledger.Key{Tenant: "acme", Currency: money.EUR, Account: ledger.MerchantPayable}].Net(); got != -400 {
		t.Fatalf("merchant_payable %d", got)
	}
	if n := b.incidents(); len(n) != 0 {
		t.Fatal(n)
	}
}

// Whatever the order and however often batches come: the same head, records and money, and each
// operation once.
func TestAnyOrder(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testAnyOrder)
}

func testAnyOrder(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	const sales = 8
	build := func(b *bed) *chain {
		c := newChain(1, protocol.EpochStarted{CertSerial: "01"})
		for i := byte(1); i <= sales; i++ {
			h := b.approve(protocol.SaleID{i}, protocol.PaymentID{i}, 100+int64(i))
			c.add(purchase(protocol.SaleID{i}, protocol.PaymentID{i}, 100+int64(i), h, protocol.Capture+protocol.What(i%3/2))...)
		}
		return c
	}
	type books struct {
		Head     protocol.Position
		Records  []intake.Stored
		Balances map[ledger.Key]ledger.Balance
		Sends    int
	}
	look := func(b *bed, c *chain, sends int) books {
		rs, err := b.st.Records(t.Context(), snack, c.epoch, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		balances, err := b.st.Balances(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return books{b.head().Position, rs, balances, sends}
	}
	straight := newBed(t, fresh)
	whole := build(straight)
	n := len(whole.records)
	want := look(straight, whole, sends(straight.accept("01", whole.batch(1, n))))
	if want.Sends != sales || int(want.Head.Seq) != n {
		t.Fatal(want.Sends, want.Head)
	}
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 2))
			b := newBed(t, fresh)
			c := build(b)
			count := 0
			for tries := 0; int(b.head().Position.Seq) < n; tries++ {
				if tries > 2000 {
					t.Fatal("it does not come to an end")
				}
				first := 1 + rng.IntN(n)
				if rng.IntN(3) == 0 {
					first = int(b.head().Position.Seq) + 1 // what the cloud wants
				}
				batch := c.batch(first, min(n, first-1+rng.IntN(7)))
				if rng.IntN(8) == 0 {
					b.broken = errors.New("cut")
					_, _ = b.in.Accept(t.Context(), t0, who("01"), batch)
					b.broken = nil
					continue
				}
				if rng.IntN(6) == 0 { // the early copy of some outcome, before or after its record
					if o, err := protocol.OpenRecord(c.records[rng.IntN(n)].Bytes); err == nil && o.Body.Kind() == protocol.KindPaymentOutcome {
						effects, err := b.pay.Handle(t.Context(), t0, payment.Copy{From: who("01"), Record: o})
						if err != nil {
							t.Fatal(err)
						}
						count += sends(intake.Result{Effects: effects})
					}
				}
				res := b.accept("01", batch)
				if v := res.Watermark.Verdict; v == protocol.Fork || v == protocol.BadEpoch || len(res.Watermark.Quarantined) > 0 {
					t.Fatalf("%d to %d: %+v", batch.First, batch.Last, res.Watermark)
				}
				count += sends(res)
			}
			if diff := cmp.Diff(want, look(b, c, count)); diff != "" {
				t.Fatal(diff)
			}
			if len(b.incidents()) != 0 {
				t.Fatal(b.incidents())
			}
		})
	}
}
