package payment_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/ledger"
	"coinop/cloud/payment"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
)

// The early copy and the journal's copy of an outcome are one, whichever comes first; another one is
// a fork.
func TestCopies(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testCopies)
}

func testCopies(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	for _, w := range []protocol.What{protocol.Capture, protocol.Void} {
		for _, early := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, early copy first %t", w, early), func(t *testing.T) {
				t.Parallel()
				b := newBed(t, fresh, acquirer.Profile{})
				s, h := b.service(), newHost(b.profile)
				answer(t, s, h, t0+500, one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250))), hostsim.Behavior{})
				rec := outcome(snack, sale, pay, 5, w, 250, protocol.VendFailed)
				var ops []acquirer.Op
				for i := range 4 {
					if (i%2 == 0) == early {
						ops = append(ops, sent(handle(t, s, t0+1000, payment.Copy{From: from(snack), Record: rec}))...)
						continue
					}
					v, effects := b.journal(s, t0+1000, rec)
					if v != (payment.Verdict{Disposition: payment.Posted}) {
						t.Fatalf("%+v", v)
					}
					ops = append(ops, sent(effects)...)
				}
				if len(ops) != 1 || len(b.ops(pay)) != 2 || len(b.incidents()) != 0 {
					t.Fatal(ops, b.incidents())
				}
				v, effects := b.journal(s, t0+2000, outcome(snack, sale, pay, 6, w, 250, protocol.VendFailed))
				if v.Quarantine != protocol.QuarantineContradiction || len(effects) != 0 || b.incidents()[payment.OutcomeFork] != 1 {
					t.Fatal(v, effects, b.incidents())
				}
			})
		}
	}
}

// Outcomes that cannot be applied freeze the release and open a case; nothing is sent.
func TestOutcomesInQuestion(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testOutcomesInQuestion)
}

func testOutcomesInQuestion(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	bad := func(kv uint8, body any) protocol.Opened {
		s, err := protocol.SealRecord(snack, protocol.Position{Epoch: protocol.Epoch{1}, Seq: 4},
			protocol.Record{Sale: sale, Body: protocol.UnknownBody{K: protocol.KindPaymentOutcome, Raw: protocol.MustEncode(body)}})
		if err != nil {
			t.Fatal(err)
		}
		o, err := protocol.OpenRecord(s.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if kv != protocol.KindVersion {
			o.Body, o.Content = protocol.UnknownBody{K: protocol.KindPaymentOutcome, KV: kv}, nil
		}
		return o
	}
	for _, c := range []struct {
		name  string
		rec   protocol.Opened
		q     protocol.Quarantine
		cause protocol.CaseCause
	}{
		{"more than was approved", outcome(snack, sale, pay, 5, protocol.Capture, 251, protocol.ReasonSold), protocol.QuarantineOverApproved, protocol.CaseOverApproved},
		{"a body that does not decode", bad(1, "nonsense"), protocol.BadContent, protocol.CaseIncident},
		{"a version we do not know", bad(2, "nonsense"), protocol.UnknownKind, protocol.CaseIncident},
		{"neither capture nor void", outcome(snack, sale, pay, 5, 3, 250, protocol.ReasonSold), protocol.BadContent, protocol.CaseIncident},
		{"less than nothing", outcome(snack, sale, pay, 5, protocol.Capture, -1, protocol.ReasonSold), protocol.BadContent, protocol.CaseIncident},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, fresh, acquirer.Profile{})
			s, h := b.service(), newHost(b.profile)
			answer(t, s, h, t0+500, one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250))), hostsim.Behavior{})
			v, effects := b.journal(s, t0+1000, c.rec)
			if v.Disposition != payment.Quarantined || v.Quarantine != c.q || len(sent(effects)) != 0 {
				t.Fatalf("%+v %v", v, effects)
			}
			if cs := b.cases(); len(cs) != 1 || cs[0].Cause != c.cause || cs[0].Payment != pay {
				t.Fatalf("%+v", cs)
			}
			if effects, err := s.Sweep(t.Context(), t0.Add(30*time.Hour)); err != nil || len(effects) != 0 {
				t.Fatal("the release is not frozen", effects, err)
			}
			b.want(pay, payment.Approved)
		})
	}
	t.Run("a capture of a payment nobody asked for", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{})
		v, effects := b.journal(b.service(), t0, outcome(snack, sale, pay, 5, protocol.Capture, 250, protocol.ReasonSold))
		if v.Quarantine != protocol.QuarantineCase || len(effects) != 0 || b.cases()[0].Cause != protocol.CaseUnseen {
			t.Fatal(v, effects, b.cases())
		}
	})
	t.Run("two payments of one sale", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{})
		s, h := b.service(), newHost(b.profile)
		other := protocol.PaymentID{9}
		for i, id := range []protocol.PaymentID{pay, other} {
			answer(t, s, h, t0+500, one(t, handle(t, s, t0, request(t0, snack, sale, id, 250))), hostsim.Behavior{})
			_, effects := b.journal(s, t0+1000, outcome(snack, sale, id, protocol.Seq(5+i), protocol.Capture, 250, protocol.ReasonSold))
			if len(sent(effects)) != 1-i {
				t.Fatalf("payment %d: %v", i, effects)
			}
		}
		b.want(other, payment.Approved)
		if b.incidents()[payment.SecondCapture] != 1 {
			t.Fatal(b.incidents())
		}
	})
	t.Run("offline, which is not built", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, fresh, acquirer.Profile{})
		s := b.service()
		off := outcome(snack, sale, pay, 5, protocol.Capture, 250, protocol.ReasonSold)
		off.Body = protocol.OfflineAccepted{Payment: pay, Amount: eur(250)}
		for _, r := range []protocol.Opened{off, outcome(snack, sale, pay, 6, protocol.Capture, 250, protocol.ReasonSold)} {
			if v, effects := b.journal(s, t0, r); v.Quarantine != protocol.OfflineNotYet || len(effects) != 0 {
				t.Fatalf("%s: %+v %v", r.Body.Kind(), v, effects)
			}
		}
		if len(b.cases()) != 0 || len(b.balances()) != 0 {
			t.Fatal(b.cases(), b.balances())
		}
	})
}

// A void that comes before its request makes a tombstone; the request is then told expired.
func TestVoidFirst(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testVoidFirst)
}

func testVoidFirst(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh, acquirer.Profile{})
	s := b.service()
	b.journal(s, t0, outcome(snack, sale, pay, 5, protocol.Void, 0, protocol.NoAnswer))
	var raw [][]byte
	for range 2 {
		effects := handle(t, s, t0+100, request(t0, snack, sale, pay, 250))
		r, bytes := response(t, effects)
		if r.Result != protocol.Expired || len(sent(effects)) != 0 || r.AskHash != b.row(pay).AskHash {
			t.Fatalf("%+v", r)
		}
		raw = append(raw, bytes)
	}
	if !bytes.Equal(raw[0], raw[1]) {
		t.Fatal("two answers")
	}
	if b.want(pay, payment.Expired).Cause != protocol.VoidFirst || b.taken[pay] != 0 {
		t.Fatal("cause or card")
	}
}

// What a replica remembers of a row it stored is worth nothing once another replica has changed it.
func TestAnswerOverChangedRow(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testAnswerOverChangedRow)
}

func testAnswerOverChangedRow(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh, acquirer.Profile{})
	s, other := b.service(), b.service()
	auth := sent(handle(t, s, t0+100, request(t0, snack, sale, pay, 250)))[0]
	b.journal(other, t0+200, outcome(snack, sale, pay, 5, protocol.Void, 0, protocol.NoAnswer))
	if p := b.row(pay); p.State != payment.Sent || p.VoidFlag == 0 || p.Version != 2 {
		t.Fatalf("%+v", p)
	}
	answer := payment.HostAnswer{Device: snack, Key: auth.Key, Answer: acquirer.Answer{Outcome: acquirer.OK, Approved: auth.Amount, RRN: "1", AuthID: "2"}}
	undo := sent(handle(t, s, t0+300, answer))
	if len(undo) != 1 || undo[0].Key.Kind != acquirer.Reversal {
		t.Fatalf("%+v", undo)
	}
	b.want(pay, payment.Reversing)
}

// A time-out that is looked at before the link says so: the reversal is answered before its authorization is given
// up, and that answer is no stranger's.
func TestReversalIsAnsweredFirst(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testReversalIsAnsweredFirst)
}

func testReversalIsAnsweredFirst(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh, acquirer.Profile{})
	s := b.service()
	auth := sent(handle(t, s, t0+100, request(t0, snack, sale, pay, 250)))[0]
	var undo []acquirer.Op
	for at := t0 + 1000; len(undo) == 0; at += 1000 {
		undo = sent(handle(t, s, at, payment.Look{Device: snack, Payment: pay}))
		if at > t0+600_000 {
			t.Fatal("nobody gives it up")
		}
	}
	handle(t, s, undo[0].AnswerBy, payment.HostAnswer{Device: snack, Key: undo[0].Key, Answer: acquirer.Answer{Outcome: acquirer.OK}})
	b.want(pay, payment.Reversed)
	handle(t, s, undo[0].AnswerBy+1, payment.HostAnswer{Device: snack, Key: auth.Key, Err: acquirer.ErrUnknown})
	b.want(pay, payment.Reversed)
	if n := b.odd(); n != 0 {
		t.Errorf("incidents %v", b.incidents())
	}
}

// Nobody settles: the hold is released, and a capture after that is a loss, by name.
func TestRelease(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testRelease)
}

func testRelease(t *testing.T, fresh storetest.Fresh) {
	t.Parallel()
	b := newBed(t, fresh, acquirer.Profile{})
	s, h := b.service(), newHost(b.profile)
	answer(t, s, h, t0+500, one(t, handle(t, s, t0, request(t0, snack, sale, pay, 250))), hostsim.Behavior{})
	at := t0.Add(24*time.Hour) + 500
	if effects, err := s.Sweep(t.Context(), at-1); err != nil || len(effects) != 0 {
		t.Fatal(effects, err)
	}
	effects, err := s.Sweep(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if rs, _ := said(t, effects); len(rs) != 0 {
		t.Fatal("a release is told to the device")
	}
	answer(t, s, h, at+100, one(t, effects), hostsim.Behavior{})
	b.want(pay, payment.Reversed)
	if b.incidents()[payment.NoOutcome] != 1 {
		t.Fatal(b.incidents())
	}
	v, effects := b.journal(s, at+500, outcome(snack, sale, pay, 5, protocol.Capture, 250, protocol.ReasonSold))
	if v.Disposition != payment.RecordExpired || len(effects) != 0 {
		t.Fatalf("%+v %v", v, effects)
	}
	if b.net(ledger.ExpiredLoss) != 250 || b.net(ledger.MerchantPayable) != -250 || b.net(ledger.AcqReceivable) != 0 {
		t.Fatal(b.balances())
	}
}
