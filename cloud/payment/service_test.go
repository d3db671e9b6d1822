package payment_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
)

var (
	pay  = protocol.PaymentID{7}
	sale = protocol.SaleID{8}
)

const snack = protocol.DeviceID("snack-1")

// handle is Handle that must not fail.
func handle(t testing.TB, s *payment.Service, at protocol.UnixMS, ev payment.Event) []payment.Effect {
	t.Helper()
	effects, err := s.Handle(t.Context(), at, ev)
	if err != nil {
		t.Fatal(err)
	}
	return effects
}

// one is the only operation sent.
func one(t testing.TB, effects []payment.Effect) acquirer.Op {
	t.Helper()
	ops := sent(effects)
	if len(ops) != 1 {
		t.Fatalf("%d operations in %v", len(ops), effects)
	}
	return ops[0]
}

// answer lets the host answer an operation and feeds it back.
func answer(t testing.TB, s *payment.Service, h *host, at protocol.UnixMS, op acquirer.Op, how hostsim.Behavior) []payment.Effect {
	t.Helper()
	a, err := h.do(at, op, how)
	return handle(t, s, at, payment.HostAnswer{Device: snack, Key: op.Key, Answer: a, Err: err})
}

func TestSaleIsApprovedAndCaptured(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testSaleIsApprovedAndCaptured)
}

func testSaleIsApprovedAndCaptured(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	for _, flow := range []acquirer.Flow{acquirer.DualFinal, acquirer.DualPartial, acquirer.Single} {
		for _, c := range []int64{250, 100} {
			t.Run(fmt.Sprintf("%s %d of 250", flow, c), func(t *testing.T) {
				t.Parallel()
				b := newBed(t, fresh, acquirer.Profile{Flow: flow})
				s, h := b.service(), newHost(b.profile)
				effects := handle(t, s, t0, request(t0, snack, sale, pay, 250))
				op := one(t, effects)
				if rs, n := said(t, effects); len(rs)+n != 0 {
					t.Fatal("something was said before the host answered")
				}
				if kept, err := b.st.Card(t.Context(), pay); err != nil || string(kept) != "kept" {
					t.Fatalf("card kept: %q %v", kept, err)
				}
				if b.ops(pay)[0].State != payment.OpSent {
					t.Fatal("sent before it is stored as sent")
				}
				effects = answer(t, s, h, t0+800, op, hostsim.Behavior{})
				r, raw := response(t, effects)
				if r.Result != protocol.Approved || r.Approved != eur(250) || r.ReleaseAt != t0.Add(24*time.Hour)+800 || r.AuthID == "" {
					t.Fatalf("%+v", r)
				}
				// The same ask again gets the same bytes, before answer_by.
				if _, again := response(t, handle(t, s, t0+2000, request(t0, snack, sale, pay, 250))); !bytes.Equal(raw, again) {
					t.Fatal("another answer to the same ask")
				}
				if rs, _ := said(t, handle(t, s, t0+9000, request(t0, snack, sale, pay, 250))); len(rs) != 0 {
					t.Fatal("an approval was published after answer_by")
				}
				effects = handle(t, s, t0+3000, payment.Copy{From: from(snack), Record: outcome(snack, sale, pay, 5, protocol.Capture, c, protocol.ReasonSold)})
				for at := t0 + 3100; len(sent(effects)) > 0; at += 100 {
					effects = answer(t, s, h, at, one(t, effects), hostsim.Behavior{})
				}
				b.want(pay, payment.Captured)
				if held, captured := h.stands(); held != 0 || captured != c {
					t.Fatalf("host holds %d, captured %d", held, captured)
				}
				if got := b.net(ledger.AcqReceivable); got != c {
					t.Fatalf("acq_receivable %d", got)
				}
				if got := -b.net(ledger.MerchantPayable); got != c {
					t.Fatalf("merchant_payable %d", got)
				}
				if n, err := b.st.OpenOps(t.Context()); err != nil || n != 0 {
					t.Fatalf("%d operations open, %v", n, err)
				}
				if len(b.incidents()) != 0 || len(b.cases()) != 0 {
					t.Fatal(b.incidents(), b.cases())
				}
			})
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testRequests)
}

func testRequests(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	old := func(a *protocol.Ask) { a.Anchor = anchors.Make(snack, t0-7000) }
	foreign := func(a *protocol.Ask) { a.Anchor = anchors.Make("other", t0) }
	for _, c := range []struct {
		name   string
		bed    func(*bed)
		change func(*protocol.Ask)
		link   string
		code   protocol.Code
	}{
		{"no time left", nil, old, "bank", protocol.NoTime},
		{"no route", nil, nil, "", protocol.NoRoute},
		{"class test", nil, func(a *protocol.Ask) { a.Class = protocol.Test }, "bank", protocol.NotAllowed},
		{"another device's anchor", nil, foreign, "bank", protocol.NotAllowed},
		{"the vault refuses", func(b *bed) { b.refuse = errors.New("does not open") }, nil, "bank", protocol.NotAllowed},
		{"device stopped", func(b *bed) { stop(b) }, nil, "bank", protocol.DeviceStopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, fresh, acquirer.Profile{})
			s := b.service()
			if c.bed != nil {
				c.bed(b)
			}
			var change []func(*protocol.Ask)
			if c.change != nil {
				change = append(change, c.change)
			}
			q := request(t0, snack, sale, pay, 250, change...)
			q.From.Link = c.link
			effects := handle(t, s, t0, q)
			if r, _ := response(t, effects); r.Result != protocol.RefusedUnsent || r.Code != c.code {
				t.Fatalf("%s %s", r.Result, r.Code)
			}
			if len(sent(effects)) != 0 || len(b.ops(pay)) != 0 {
				t.Fatal("something was sent")
			}
			b.want(pay, payment.RefusedUnsent)
			if b.taken[pay] != 0 {
				t.Fatal("the card was left in memory")
			}
			if kept, _ := b.st.Card(t.Context(), pay); kept != nil {
				t.Fatal("the card was kept")
			}
			if n := b.incidents()[payment.CardRefused]; (n == 1) != (b.refuse != nil) {
				t.Fatalf("%d incidents of a card refused", n)
			}
		})
	}

	t.Run("same id, another ask", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{})
		s, h := b.service(), newHost(b.profile)
		op := one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250)))
		effects := handle(t, s, t0+100, request(t0, snack, sale, pay, 300))
		if r, _ := response(t, effects); r.Result != protocol.RefusedUnsent || r.Code != protocol.NotAllowed || r.AskHash == b.row(pay).AskHash {
			t.Fatalf("%+v", r)
		}
		b.want(pay, payment.Sent)
		answer(t, s, h, t0+500, op, hostsim.Behavior{})
		handle(t, s, t0+600, request(t0, "other", sale, pay, 250))
		b.want(pay, payment.Approved)
		if n := b.incidents()[payment.OtherAsk]; n != 2 {
			t.Fatalf("%d incidents", n)
		}
	})

	t.Run("what no agent sends", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{})
		s := b.service()
		q := request(t0, snack, sale, pay, 250)
		q.From.Device = "other"
		for _, ev := range []payment.Event{
			q,
			request(t0, snack, sale, pay, -1),
			request(t0, snack, sale, protocol.PaymentID{}, 1),
			payment.Request{From: from(snack), Request: protocol.AuthorizationRequest{Ask: protocol.Raw{0xa0}}},
			payment.Copy{From: from("other"), Record: outcome(snack, sale, pay, 5, protocol.Void, 0, protocol.NoAnswer)},
			payment.Copy{From: from(snack), Record: outcome(snack, sale, pay, 5, 9, 250, protocol.NoAnswer)},
			payment.Copy{From: from(snack), Record: outcome(snack, sale, pay, 5, protocol.Capture, -250, protocol.NoAnswer)},
		} {
			if _, err := s.Handle(t.Context(), t0, ev); !errors.Is(err, payment.ErrRequest) {
				t.Errorf("%+v: %v", ev, err)
			}
		}
		if ps, err := b.st.Payments(t.Context(), storeAll, 10); err != nil || len(ps) != 0 {
			t.Fatal(ps, err)
		}
	})

	// A device that says it waits for days does not keep a dead replica's row for days.
	t.Run("a wait without end", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{})
		handle(t, b.service(), t0, request(t0, snack, sale, pay, 250, func(a *protocol.Ask) { a.WaitMS = 1 << 31 }))
		if p := b.want(pay, payment.Sent); p.LeaseUntil.Sub(t0) > 3*time.Minute {
			t.Fatal(p.LeaseUntil.Sub(t0))
		}
	})
}

func TestHostDoesNotAnswerAsHoped(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testHostDoesNotAnswerAsHoped)
}

func testHostDoesNotAnswerAsHoped(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	t.Run("declined", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{})
		s, h := b.service(), newHost(b.profile)
		op := one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250)))
		if r, _ := response(t, answer(t, s, h, t0+500, op, hostsim.Behavior{Decline: "51"})); r.Result != protocol.Declined || r.Code != protocol.DeclineFinal {
			t.Fatalf("%+v", r)
		}
		b.want(pay, payment.Declined)
		if len(b.balances()) != 0 {
			t.Fatal("a decline moved money")
		}
	})
	t.Run("not sent", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{})
		s := b.service()
		op := one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250)))
		effects := handle(t, s, t0+500, payment.HostAnswer{Device: snack, Key: op.Key, Err: fmt.Errorf("down: %w", acquirer.ErrNotSent)})
		r, raw := response(t, effects)
		if r.Result != protocol.RefusedUnsent || r.Code != protocol.AcquirerDown || len(sent(effects)) != 0 {
			t.Fatalf("%+v", r)
		}
		if _, again := response(t, handle(t, s, t0+900, request(t0, snack, sale, pay, 250))); !bytes.Equal(raw, again) {
			t.Fatal("another answer to the same ask")
		}
	})
	t.Run("not sent after a void", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{})
		s := b.service()
		op := one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250)))
		handle(t, s, t0+100, payment.Copy{From: from(snack), Record: outcome(snack, sale, pay, 5, protocol.Void, 0, protocol.Canceled)})
		handle(t, s, t0+500, payment.HostAnswer{Device: snack, Key: op.Key, Err: acquirer.ErrNotSent})
		b.want(pay, payment.RefusedUnsent)
		// No answer was made, for nobody waits; a repeat that was under way is told so.
		if r, _ := response(t, handle(t, s, t0+900, request(t0, snack, sale, pay, 250))); r.Result != protocol.Expired {
			t.Fatalf("%+v", r)
		}
	})
	for _, name := range []string{"unknown", "unknown, then an approval that came late", "wrong amount"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, fresh, acquirer.Profile{})
			s, h := b.service(), newHost(b.profile)
			op := one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250)))
			late, err := h.do(t0+400, op, hostsim.Behavior{WrongAmount: name == "wrong amount"})
			if err != nil {
				t.Fatal(err)
			}
			ev := payment.HostAnswer{Device: snack, Key: op.Key, Err: acquirer.ErrUnknown}
			if name == "wrong amount" {
				ev = payment.HostAnswer{Device: snack, Key: op.Key, Answer: late}
			}
			effects := handle(t, s, t0+8500, ev)
			if r, _ := response(t, effects); r.Result != protocol.Expired {
				t.Fatalf("%+v", r)
			}
			undo := one(t, effects)
			if undo.Key.Kind != acquirer.Reversal || undo.Original.STAN != op.STAN || undo.Original.DE7 != op.DE7 || undo.STAN == op.STAN {
				t.Fatalf("%+v", undo)
			}
			b.want(pay, payment.Reversing)
			if name == "unknown, then an approval that came late" {
				// The link knows the operation, not the device.
				if effects := handle(t, s, t0+9000, payment.HostAnswer{Key: op.Key, Answer: late}); len(effects) != 0 {
					t.Fatalf("%v", effects)
				}
			}
			answer(t, s, h, t0+9500, undo, hostsim.Behavior{})
			b.want(pay, payment.Reversed)
			if held, captured := h.stands(); held+captured != 0 {
				t.Fatal(held, captured)
			}
			// And one more, after all was over: undone again, with the same keys.
			effects = handle(t, s, t0+20_000, payment.HostAnswer{Key: op.Key, Answer: late})
			if again := one(t, effects); !again.Repeat || again.STAN != undo.STAN || again.RRN != undo.RRN || again.DE7 != undo.DE7 {
				t.Fatalf("%+v", again)
			}
			if b.incidents()[payment.LateApproval] != 1 {
				t.Fatal(b.incidents())
			}
			if r, _ := response(t, handle(t, s, t0+21_000, request(t0, snack, sale, pay, 250))); r.Result != protocol.Expired {
				t.Fatalf("%+v", r)
			}
		})
	}
	t.Run("an answer to nothing we know", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{})
		s := b.service()
		handle(t, s, t0, payment.HostAnswer{Key: acquirer.OpKey{Payment: pay, Kind: acquirer.Authorization, N: 1}, Answer: acquirer.Answer{Outcome: acquirer.OK, Approved: eur(1)}})
		if b.incidents()[payment.HostAnswerUnmatched] != 1 {
			t.Fatal(b.incidents())
		}
	})
	t.Run("code 25", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{LateWindowMS: 90_000})
		s, h := b.service(), newHost(b.profile)
		op := one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250)))
		undo := one(t, handle(t, s, t0+8500, payment.HostAnswer{Device: snack, Key: op.Key, Err: acquirer.ErrUnknown}))
		answer(t, s, h, t0+8600, undo, hostsim.Behavior{}) // 25: the bank never saw the request
		b.want(pay, payment.Reversing)
		if _, err := h.do(t0+60_000, op, hostsim.Behavior{Silent: true}); !errors.Is(err, acquirer.ErrUnknown) { // it gets it now
			t.Fatal(err)
		}
		if effects, err := s.Sweep(t.Context(), t0+90_000); err != nil || len(sent(effects)) != 0 {
			t.Fatal(effects, err)
		}
		effects, err := s.Sweep(t.Context(), t0+5500+90_000)
		if err != nil {
			t.Fatal(err)
		}
		again := one(t, effects)
		if !again.Repeat || again.STAN != undo.STAN || again.DE7 != undo.DE7 {
			t.Fatalf("%+v", again)
		}
		answer(t, s, h, t0+96_000, again, hostsim.Behavior{})
		b.want(pay, payment.Reversed)
		if held, _ := h.stands(); held != 0 {
			t.Fatalf("%d held", held)
		}
	})
}

// A replica that died is replaced by the sweep of another: what it had sent is undone after its
// lease, what it owed is repeated with the same keys, and its authorization is sent by nobody.
func TestDeadReplica(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testDeadReplica)
}

func testDeadReplica(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh, acquirer.Profile{})
	dead, alive, h := b.service(), b.service(), newHost(b.profile)
	op := one(t, handle(t, dead, t0, request(t0, snack, sale, pay, 250)))
	if _, err := h.do(t0+100, op, hostsim.Behavior{}); err != nil { // approved, and nobody is there to hear it
		t.Fatal(err)
	}
	for at := t0; at < t0+11_000; at += 500 {
		if effects, err := alive.Sweep(t.Context(), at); err != nil || len(effects) != 0 {
			t.Fatalf("after %s: %v %v", at.Sub(t0), effects, err)
		}
	}
	if rs, n := said(t, handle(t, alive, t0+5000, request(t0, snack, sale, pay, 250))); len(rs) != 0 || n != 1 {
		t.Fatal("a repeat at another replica is told received")
	}
	effects, err := alive.Sweep(t.Context(), t0+11_000)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := response(t, effects); r.Result != protocol.Expired {
		t.Fatalf("%+v", r)
	}
	first := one(t, effects)
	if first.Key.Kind != acquirer.Reversal || first.Repeat {
		t.Fatalf("%+v", first)
	}
	// alive dies too, with the reversal unanswered.
	if effects, err = dead.Sweep(t.Context(), t0+27_000); err != nil || len(effects) != 0 {
		t.Fatal(effects, err)
	}
	third := b.service()
	if effects, err = third.Sweep(t.Context(), t0+28_000); err != nil {
		t.Fatal(err)
	}
	second := one(t, effects)
	if !second.Repeat || second.STAN != first.STAN || second.DE7 != first.DE7 || second.RRN != first.RRN || second.Original != first.Original || second.LocalTime != first.LocalTime {
		t.Fatalf("%+v", second)
	}
	if effects, err = alive.Sweep(t.Context(), t0+28_100); err != nil || len(effects) != 0 {
		t.Fatal("two replicas took one operation", effects, err)
	}
	answer(t, third, h, t0+28_200, second, hostsim.Behavior{})
	b.want(pay, payment.Reversed)
	if h.seen["0100"] != 1 || h.seen["0101"] != 0 {
		t.Fatal(h.seen)
	}
	if held, _ := h.stands(); held != 0 {
		t.Fatal(held)
	}
}

// What is owed is repeated with growing pauses, and given to a person after three days.
func TestOwedIsRepeated(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testOwedIsRepeated)
}

func testOwedIsRepeated(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		outcome protocol.Opened
		mti     string
		cause   protocol.CaseCause
		profile acquirer.Profile
	}{
		{"capture", outcome(snack, sale, pay, 5, protocol.Capture, 250, protocol.ReasonSold), "0221", protocol.CaseLatePresentment, acquirer.Profile{}},
		{"reversal", outcome(snack, sale, pay, 5, protocol.Void, 0, protocol.VendFailed), "0421", protocol.CaseReversalFailed, acquirer.Profile{}},
		{"partial reversal", outcome(snack, sale, pay, 5, protocol.Capture, 100, protocol.ReasonSold), "0421", protocol.CaseReversalFailed, acquirer.Profile{Flow: acquirer.DualPartial}},
		{"capture, new DE7", outcome(snack, sale, pay, 5, protocol.Capture, 250, protocol.ReasonSold), "0221", protocol.CaseLatePresentment, acquirer.Profile{STANPerRepeat: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, fresh, c.profile)
			s, h := b.service(), newHost(b.profile)
			answer(t, s, h, t0+500, one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250))), hostsim.Behavior{})
			first := one(t, handle(t, s, t0+1000, payment.Copy{From: from(snack), Record: c.outcome}))
			handle(t, s, t0+1000, payment.HostAnswer{Device: snack, Key: first.Key, Err: acquirer.ErrUnknown})
			last, n := t0+1000, 0
			at := last
			for ; at < t0.Add(74*time.Hour); at += 1000 {
				next, err := b.st.NextDue(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if next == 0 {
					break
				}
				at = max(at, next)
				effects, err := s.Sweep(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				for _, op := range sent(effects) {
					if n++; !op.Repeat || op.STAN != first.STAN || op.RRN != first.RRN || op.SentDE7[0] != first.DE7 || (op.DE7 == first.DE7) == c.profile.STANPerRepeat {
						t.Fatalf("%+v", op)
					}
					if gap := at.Sub(last); n > 8 && n <= 12 && gap != 2*time.Minute {
						t.Fatalf("repeat %d after %s", n, gap)
					}
					if last = at; n > 12 {
						at = at.Add(6 * time.Hour) // nobody looked for a while: the same, faster
					}
					if m, err := h.contract.Build(op, nil); op.Key.Kind != acquirer.Capture && (err != nil || m.MTI != c.mti) {
						t.Fatal(m, err)
					}
					handle(t, s, at, payment.HostAnswer{Device: snack, Key: op.Key, Err: acquirer.ErrUnknown})
				}
			}
			if at.Sub(t0) < 72*time.Hour || n < 15 {
				t.Fatalf("given up after %s and %d repeats", at.Sub(t0), n)
			}
			b.want(pay, payment.InCase)
			if cs := b.cases(); len(cs) != 1 || cs[0].Cause != c.cause {
				t.Fatalf("%+v", cs)
			}
			if open, _ := b.st.OpenOps(t.Context()); open != 0 {
				t.Fatalf("%d operations open", open)
			}
		})
	}
}

// A reversal that is owed on a TID goes before its next authorization, which waits for it to be on
// the wire, or to be answered where the profile says so. Another device's does not.
func TestReversalsGoFirst(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testReversalsGoFirst)
}

func testReversalsGoFirst(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	for _, await := range []bool{false, true} {
		p := acquirer.Profile{}
		if await {
			p.ReversalFirst = "await"
		}
		b := newBed(t, fresh, p)
		s, h := b.service(), newHost(b.profile)
		answer(t, s, h, t0+500, one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250))), hostsim.Behavior{})
		rev := one(t, handle(t, s, t0+1000, payment.Copy{From: from(snack), Record: outcome(snack, sale, pay, 5, protocol.Void, 0, protocol.VendFailed)}))
		handle(t, s, t0+1000, payment.HostAnswer{Device: snack, Key: rev.Key, Err: acquirer.ErrUnknown}) // owed again in 2 s

		var sends []payment.Send
		for _, e := range handle(t, s, t0+1500, request(t0+1500, snack, protocol.SaleID{2}, protocol.PaymentID{2}, 300)) {
			if x, ok := e.(payment.Send); ok {
				sends = append(sends, x)
			}
		}
		if len(sends) != 2 || sends[0].Op.Key != rev.Key || !sends[0].Op.Repeat || sends[1].Op.Key.Kind != acquirer.Authorization {
			t.Fatalf("%+v", sends)
		}
		if len(sends[1].After) != 1 || sends[1].After[0] != rev.Key || sends[1].Await != await {
			t.Fatalf("%+v", sends[1])
		}
		if effects, err := s.Sweep(t.Context(), t0+4000); err != nil || len(sent(effects)) != 0 {
			t.Fatalf("sent again by the sweep: %v %v", effects, err)
		}
		if got := handle(t, s, t0+1600, request(t0+1600, "other", protocol.SaleID{3}, protocol.PaymentID{3}, 300)); len(sent(got)) != 1 {
			t.Fatalf("another device: %+v", got)
		}
	}
}

// Requests of many devices that share a TID, at once at two replicas: no STAN comes twice, and every
// payment has one authorization.
func TestSTANIsUnique(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testSTANIsUnique)
}

func testSTANIsUnique(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh, acquirer.Profile{})
	replicas := []*payment.Service{b.service(), b.service()}
	var mu sync.Mutex
	stans := map[string][]acquirer.STAN{}
	var wg sync.WaitGroup
	const each = 25
	for w := range 8 {
		wg.Go(func() {
			d := protocol.DeviceID(fmt.Sprintf("d%d", w))
			for i := range each {
				q := request(t0, d, protocol.SaleID{byte(w + 1), byte(i + 1)}, protocol.PaymentID{byte(w + 1), byte(i + 1)}, 100)
				q.From.Merchant.TID = fmt.Sprintf("TID%d", w%2)
				var ops []acquirer.Op
				for _, s := range replicas { // the second sees a repeat
					effects, err := s.Handle(t.Context(), t0, q)
					if err != nil {
						t.Error(err)
						return
					}
					ops = append(ops, sent(effects)...)
				}
				if len(ops) != 1 {
					t.Errorf("%d authorizations of one payment", len(ops))
					return
				}
				mu.Lock()
				stans[ops[0].Merchant.TID] = append(stans[ops[0].Merchant.TID], ops[0].STAN)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for tid, ns := range stans {
		slices.Sort(ns)
		if n := len(slices.Compact(slices.Clone(ns))); n != len(ns) || n != 4*each || ns[0] != 1 || int(ns[n-1]) != n {
			t.Errorf("%s: %d numbers, %d different, %d to %d", tid, len(ns), n, ns[0], ns[len(ns)-1])
		}
	}
}

// 300 ms after the request the device is told received, but only when there is no answer yet.
func TestReceived(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testReceived)
}

func testReceived(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh, acquirer.Profile{})
	s, h := b.service(), newHost(b.profile)
	effects := handle(t, s, t0, request(t0, snack, sale, pay, 250))
	var look payment.Timer
	for _, e := range effects {
		if e, ok := e.(payment.Timer); ok {
			look = e
		}
	}
	if look.At != t0+300 || look.Payment != pay {
		t.Fatalf("%+v", look)
	}
	if rs, n := said(t, handle(t, s, look.At, payment.Look{Device: snack, Payment: pay})); len(rs) != 0 || n != 1 {
		t.Fatal(rs, n)
	}
	answer(t, s, h, t0+500, one(t, effects), hostsim.Behavior{})
	for _, replica := range []*payment.Service{s, b.service()} {
		if effects := handle(t, replica, t0+600, payment.Look{Device: snack, Payment: pay}); len(effects) != 0 {
			t.Fatal(effects)
		}
	}
}
