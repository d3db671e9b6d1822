package cloud

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/payment"
	"coinop/protocol"
)

// hostStub is a link that notes when it is asked, and answers after a while.
type hostStub struct {
	mu    sync.Mutex
	asked []acquirer.Kind
	at    []time.Time
	wrote func(acquirer.OpKey)
	write time.Duration // until it is on the wire; 0: never
	takes time.Duration
}

func (h *hostStub) Do(ctx context.Context, op acquirer.Op) (acquirer.Answer, error) {
	h.mu.Lock()
	h.asked, h.at = append(h.asked, op.Key.Kind), append(h.at, time.Now())
	h.mu.Unlock()
	if h.write > 0 {
		time.Sleep(h.write)
		h.wrote(op.Key)
	}
	select {
	case <-time.After(h.takes):
	case <-ctx.Done():
	}
	return acquirer.Answer{}, acquirer.ErrUnknown
}

func (h *hostStub) Query(context.Context, acquirer.Op) (acquirer.Answer, error) {
	return acquirer.Answer{}, acquirer.ErrNotSent
}

// deaf is a service whose store takes nothing: what comes back from a host goes nowhere.
func deaf() *payment.Service {
	no := errors.New("no store")
	return payment.NewService(payment.Config{
		Do:  func(context.Context, protocol.DeviceID, func(payment.Tx) error) error { return no },
		Put: func(context.Context, protocol.DeviceID, func(payment.Tx) error) error { return no },
		Claim: func(context.Context, protocol.UnixMS, time.Duration, int, func(*payment.OpRow)) ([]payment.OpRow, error) {
			return nil, no
		},
		Overdue: func(context.Context, protocol.UnixMS, int) ([]payment.Overdue, error) { return nil, no },
		Owner:   func(context.Context, protocol.PaymentID) (protocol.DeviceID, error) { return "", no },
		Profile: func(string) (acquirer.Profile, bool) { return acquirer.Profile{}, false },
		Vault:   noVault{}, Anchors: payment.Anchors{Key: make([]byte, 16)},
		NewAnswer: func(protocol.UnixMS) protocol.AnswerID { return protocol.AnswerID{} },
		NewCase:   func(protocol.UnixMS) protocol.CaseID { return protocol.CaseID{} },
	})
}

type noVault struct{}

func (noVault) Take(context.Context, protocol.Ask, protocol.Epoch) ([]byte, error) { return nil, nil }
func (noVault) Forget(protocol.PaymentID)                                          {}

// An authorization waits until the reversals before it are on the wire, at most 300 ms; or until
// they are answered, where the profile says so.
func TestReversalsLeaveFirst(t *testing.T) {
	for _, c := range []struct {
		name         string
		write, takes time.Duration
		await        bool
		want         time.Duration
	}{
		{"written at once", 20 * time.Millisecond, 5 * time.Second, false, 20 * time.Millisecond},
		{"never written", 0, 5 * time.Second, false, wireWait},
		{"answered first", 20 * time.Millisecond, time.Second, true, 1020 * time.Millisecond},
		{"answer comes too late", 20 * time.Millisecond, time.Minute, true, 4 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &hostStub{write: c.write, takes: c.takes}
				ctx, cancel := context.WithCancel(t.Context())
				s := &shell{
					ctx: ctx, crew: newCrew(ctx.Done()), log: slog.New(slog.DiscardHandler), links: map[string]acquirer.Acquirer{"bank": h},
					under: map[acquirer.OpKey]*underway{}, parts: Parts{Payments: deaf()},
				}
				h.wrote = s.written
				began := time.Now()
				rev := acquirer.OpKey{Payment: protocol.PaymentID{1}, Kind: acquirer.Reversal, N: 1}
				auth := acquirer.OpKey{Payment: protocol.PaymentID{2}, Kind: acquirer.Authorization, N: 1}
				s.effect(payment.Send{Op: acquirer.Op{Key: rev, Link: "bank"}})
				s.effect(payment.Send{
					Op:    acquirer.Op{Key: auth, Link: "bank", WriteBy: protocol.At(began.Add(4 * time.Second))},
					After: []acquirer.OpKey{rev}, Await: c.await,
				})
				time.Sleep(10 * time.Second)
				h.mu.Lock()
				if len(h.asked) != 2 || h.asked[0] != acquirer.Reversal || h.at[1].Sub(began) != c.want {
					t.Errorf("%v, the authorization after %s, want %s", h.asked, h.at[len(h.at)-1].Sub(began), c.want)
				}
				h.mu.Unlock()
				cancel() // what comes back is not handled any more
				s.crew.wait()
				if len(s.under) != 0 {
					t.Errorf("%d operations are kept", len(s.under))
				}
			})
		})
	}
}
