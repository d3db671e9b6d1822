package payment_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"coinop/cloud/account"
	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/acquirer/iso8583"
	"coinop/cloud/intake"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
	"coinop/protocol/card"
	"coinop/protocol/money"
)

const t0 = protocol.UnixMS(1_800_000_000_000)

func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }

var storeAll store.PaymentFilter

var storeNotFound = store.ErrNotFound

var anchors = payment.Anchors{Key: []byte("0123456789abcdef")}

// bed is a store and as many Services over it as a test wants. After each commit the ledger's sums
// are checked.
type bed struct {
	t       testing.TB
	st      *store.Store
	profile acquirer.Profile
	refuse  error // of the vault

	mu    sync.Mutex
	taken map[protocol.PaymentID]int
	ids   uint64
	told  map[protocol.DeviceID]protocol.Position // by tell
	tells *payment.Service
}

func TestMain(m *testing.M) { storetest.Main(m) }

func newBed(t testing.TB, fresh storetest.Fresh, p acquirer.Profile) *bed {
	st, err := store.Open(context.Background(), store.Options{Path: fresh(t), Gather: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	if p.Institution == "" {
		p.Institution = "00000000001"
	}
	if p.Flow == 0 {
		p.Flow = acquirer.DualFinal
	}
	return &bed{t: t, st: st, profile: p, taken: map[protocol.PaymentID]int{}}
}

// Take and Forget are the vault's.
func (b *bed) Take(_ context.Context, a protocol.Ask, _ protocol.Epoch) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != nil {
		return nil, b.refuse
	}
	b.taken[a.Payment]++
	return []byte("kept"), nil
}

func (b *bed) Forget(p protocol.PaymentID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.taken, p)
}

func (b *bed) newID() (id [16]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids++
	copy(id[:], fmt.Sprintf("id%014d", b.ids))
	return id
}

func (b *bed) do(ctx context.Context, d protocol.DeviceID, fn func(payment.Tx) error) error {
	return b.balanced(b.st.Do(ctx, store.Shard(d), func(tx *store.Tx) error { return fn(tx) }))
}

func (b *bed) put(ctx context.Context, d protocol.DeviceID, fn func(payment.Tx) error) error {
	return b.balanced(b.st.Put(ctx, store.Shard(d), func(tx *store.Tx) error { return fn(tx) }))
}

func (b *bed) balanced(err error) error {
	b.t.Helper()
	if err == nil {
		b.sums()
	}
	return err
}

func (b *bed) sums() {
	b.t.Helper()
	if err := ledger.CheckSums(b.balances()); err != nil {
		b.t.Error(err)
	}
	if err := b.st.CheckAccounts(context.Background()); err != nil {
		b.t.Error(err)
	}
}

func (b *bed) balances() map[ledger.Key]ledger.Balance {
	b.t.Helper()
	m, err := b.st.Balances(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

// net is an account's posted balance.
func (b *bed) net(a ledger.Account) int64 {
	return b.balances()[ledger.Key{Tenant: "acme", Currency: money.EUR, Account: a}].Net()
}

func (b *bed) service() *payment.Service {
	return payment.NewService(payment.Config{
		Do: b.do, Put: b.put, Claim: b.st.Claim, Overdue: b.st.Overdue,
		Owner: func(ctx context.Context, id protocol.PaymentID) (protocol.DeviceID, error) {
			p, err := b.st.Payment(ctx, id)
			if errors.Is(err, store.ErrNotFound) {
				err = nil
			}
			return p.Device, err
		},
		Profile: func(link string) (acquirer.Profile, bool) {
			if link == acquirer.Accounts {
				return account.Profile(), true
			}
			return b.profile, link == "bank"
		},
		Vault: b, Anchors: anchors,
		NewAnswer: func(protocol.UnixMS) protocol.AnswerID { return b.newID() },
		NewCase:   func(protocol.UnixMS) protocol.CaseID { return b.newID() },
	})
}

func (b *bed) row(id protocol.PaymentID) payment.Payment {
	b.t.Helper()
	p, err := b.st.Payment(context.Background(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *bed) ops(id protocol.PaymentID) []payment.OpRow {
	b.t.Helper()
	ops, err := b.st.PaymentOps(context.Background(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return ops
}

func (b *bed) incidents() map[payment.IncidentName]int {
	b.t.Helper()
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

func (b *bed) cases() []payment.Case {
	b.t.Helper()
	cs, err := b.st.Cases(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	return cs
}

// want fails unless the row is in a state.
func (b *bed) want(id protocol.PaymentID, s payment.State) payment.Payment {
	b.t.Helper()
	p := b.row(id)
	if p.State != s {
		b.t.Fatalf("payment is %s, want %s", p.State, s)
	}
	return p
}

func from(d protocol.DeviceID) payment.From {
	return payment.From{Device: d, Serial: "01", Tenant: "acme", Link: "bank", Merchant: acquirer.Merchant{
		TID: "T" + fmt.Sprintf("%07d", len(d)), MID: "000000000000001", MCC: "5814", Country: "040",
	}}
}

// request is one made at a time for a payment of a sale.
func request(at protocol.UnixMS, d protocol.DeviceID, sale protocol.SaleID, id protocol.PaymentID, minor int64, change ...func(*protocol.Ask)) payment.Request {
	a := protocol.Ask{
		V: protocol.Version, Device: d, Sale: sale, Payment: id, Class: protocol.Live, AuthorizedBy: protocol.ByHost,
		Purpose: protocol.Exact, Amount: eur(minor), WaitMS: 10_000, Anchor: anchors.Make(d, at), Sealed: []byte{1},
		Tap: protocol.Tap{Entry: protocol.EntryContactless, LocalTime: "20270115120000"},
	}
	for _, f := range change {
		f(&a)
	}
	return payment.Request{From: from(d), Request: protocol.AuthorizationRequest{Ask: protocol.MustEncode(a), Position: protocol.Position{Epoch: protocol.Epoch{1}, Seq: 1}}}
}

// outcome is a journal record; seq and the rest make it this one and no other.
func outcome(d protocol.DeviceID, sale protocol.SaleID, id protocol.PaymentID, seq protocol.Seq, w protocol.What, minor int64, r protocol.Reason) protocol.Opened {
	s, err := protocol.SealRecord(d, protocol.Position{Epoch: protocol.Epoch{1}, Seq: seq - 1, Hash: protocol.Hash{byte(seq)}},
		protocol.Record{Sale: sale, Body: protocol.PaymentOutcome{Payment: id, What: w, Amount: eur(minor), Reason: r}})
	if err != nil {
		panic(err)
	}
	o, err := protocol.OpenRecord(s.Bytes)
	if err != nil {
		panic(err)
	}
	return o
}

// loop makes a request one for a closed-loop card.
func loop(a *protocol.Ask) { a.AuthorizedBy = protocol.ByClosedLoop }

// journal takes a record in as intake would.
func (b *bed) journal(s *payment.Service, at protocol.UnixMS, r protocol.Opened) (payment.Verdict, []payment.Effect) {
	b.t.Helper()
	var v payment.Verdict
	var effects []payment.Effect
	err := b.do(context.Background(), r.Device, func(tx payment.Tx) error {
		u := s.Begin(at, tx)
		var err error
		if v, err = u.Record("acme", r); err != nil {
			return err
		}
		effects, err = u.End()
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return v, effects
}

// sent and published pick effects.
// record is a record of a device's journal, and what the cloud makes of it: its disposition.
type record struct {
	sale protocol.SaleID
	body protocol.Body
	want string
}

// tell lets a device's journal tell records, one after the other. Nothing of them goes to a bank.
func (b *bed) tell(d protocol.DeviceID, records ...record) {
	b.t.Helper()
	if b.told == nil {
		b.told, b.tells = map[protocol.DeviceID]protocol.Position{}, b.service()
	}
	for _, r := range records {
		prev, known := b.told[d]
		if !known {
			prev.Epoch = protocol.Epoch{1}
		}
		sealed, err := protocol.SealRecord(d, prev, protocol.Record{Sale: r.sale, Lane: 1, Body: r.body})
		if err != nil {
			b.t.Fatal(err)
		}
		b.told[d] = sealed.Position
		o, err := protocol.OpenRecord(sealed.Bytes)
		if err != nil {
			b.t.Fatal(err)
		}
		v, effects := b.journal(b.tells, t0+protocol.UnixMS(sealed.Position.Seq), o)
		if v.Disposition.String() != r.want || len(effects) > 0 {
			b.t.Errorf("%s %+v is %s, want %s; effects %+v", r.body.Kind(), r.body, v.Disposition, r.want, effects)
		}
	}
}

// odd is how many incidents there are.
func (b *bed) odd() (n int) {
	for _, k := range b.incidents() {
		n += k
	}
	return n
}

func sent(effects []payment.Effect) (out []acquirer.Op) {
	for _, e := range effects {
		if s, ok := e.(payment.Send); ok {
			out = append(out, s.Op)
		}
	}
	return out
}

// said is what a device was told: bodies of responses, and how often received.
func said(t testing.TB, effects []payment.Effect) (responses [][]byte, received int) {
	t.Helper()
	for _, e := range effects {
		p, ok := e.(payment.Publish)
		if !ok {
			continue
		}
		var a protocol.Auth
		if err := protocol.Decode(p.Body, &a); err != nil {
			t.Fatalf("%v: % x", err, p.Body)
		}
		switch a.T {
		case protocol.MsgResponse:
			var r protocol.AuthorizationResponse
			if err := protocol.Decode(a.Body, &r); err != nil || r.Device != p.Device {
				t.Fatalf("%v: % x", err, a.Body)
			}
			responses = append(responses, a.Body)
		case protocol.MsgReceived:
			received++
		}
	}
	return responses, received
}

// response is the one and only response in effects.
func response(t testing.TB, effects []payment.Effect) (r protocol.AuthorizationResponse, raw []byte) {
	t.Helper()
	rs, _ := said(t, effects)
	if len(rs) != 1 {
		t.Fatalf("%d responses in %v", len(rs), effects)
	}
	if err := protocol.Decode(rs[0], &r); err != nil {
		t.Fatal(err)
	}
	return r, rs[0]
}

// host is a bank that operations are packed for as a link would.
type host struct {
	bank     *hostsim.Bank
	contract iso8583.Contract
	how      hostsim.Behavior // of the next message
	seen     map[string]int   // by message type
}

func newHost(p acquirer.Profile) *host {
	h := &host{contract: iso8583.Contract{Profile: p}, seen: map[string]int{}}
	h.bank = hostsim.NewBank(hostsim.Options{Behave: func(time.Time, hostsim.Summary) hostsim.Behavior { return h.how }})
	return h
}

var track = func() card.Track2 {
	t2, err := card.ParseTrack2("5413330089020011=25122010123456789")
	if err != nil {
		panic(err)
	}
	return t2
}()

// do brings one operation to the bank and its answer back; no answer is ErrUnknown.
func (h *host) do(at protocol.UnixMS, op acquirer.Op, how hostsim.Behavior) (acquirer.Answer, error) {
	c := acquirer.Card{PAN: track.PAN(), Expiry: track.Expiry()}
	if op.Key.Kind == acquirer.Authorization {
		c.Track2 = track
	}
	m, err := h.contract.Build(op, &c)
	if err != nil {
		return acquirer.Answer{}, fmt.Errorf("%w: %w", acquirer.ErrNotSent, err)
	}
	frame, err := iso8583.ASCII87().Pack(nil, m)
	if err != nil {
		return acquirer.Answer{}, fmt.Errorf("%w: %w", acquirer.ErrNotSent, err)
	}
	h.seen[m.MTI]++
	h.how = how
	replies := h.bank.Handle(at.Time(), frame)
	h.bank.Take()
	for _, r := range replies {
		if r.Frame == nil {
			continue
		}
		m, err := iso8583.ASCII87().Unpack(r.Frame)
		if err != nil {
			return acquirer.Answer{}, fmt.Errorf("%w: %w", acquirer.ErrUnknown, err)
		}
		if ans, ok := h.contract.Match(op, m); ok {
			return ans, nil
		}
	}
	return acquirer.Answer{}, acquirer.ErrUnknown
}

// stands is what the bank holds or debited in all.
func (h *host) stands() (held, captured int64) {
	for _, e := range h.bank.Books() {
		held, captured = held+e.Held, captured+e.Captured
	}
	return held, captured
}

// stop makes the device's journal one that is not believed.
func stop(b *bed) {
	err := b.st.Do(context.Background(), store.Shard("snack-1"), func(tx *store.Tx) error {
		tx.PutHead(intake.Head{Device: "snack-1", Stopped: "journal.fork"})
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}
