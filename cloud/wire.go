package cloud

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"coinop/cloud/account"
	"coinop/cloud/acquirer"
	"coinop/cloud/identity"
	"coinop/cloud/intake"
	"coinop/cloud/payment"
	"coinop/cloud/relay"
	"coinop/cloud/store"
	"coinop/cloud/telemetry"
	"coinop/cloud/vault"
	"coinop/protocol"
	"coinop/protocol/seal"
)

// Parts are what decides in the cloud, wired together: no goroutine, no clock of their own, no
// network. Run puts a broker, links to hosts and timers around them; the simulator drives them bare.
type Parts struct {
	Store    *store.Store
	Vault    *vault.Vault
	Payments *payment.Service
	Intake   *intake.Intake
	Relay    *relay.Relay
	Accounts *account.Link // of closed-loop cards: the link acquirer.Accounts
	// Announced is what a device of a link to an acquirer is told.
	Announced func(link string) []protocol.AcquirerState
}

// Wiring is what Parts are connected to. Profile, Publish and Effect are needed.
type Wiring struct {
	Keys      identity.Keys
	VaultKeys vault.Keys
	Profile   func(link string) (acquirer.Profile, bool)
	// Acquirers is how the links to hosts are; of a device its own is told, and the accounts.
	Acquirers func() []protocol.AcquirerState
	Publish   func(context.Context, protocol.Topic, []byte) error
	Effect    func(payment.Effect)
	Conn      func(protocol.Conn)
	Kick      func(protocol.DeviceID)
	Telemetry *telemetry.Telemetry // nil: none
	Now       func() time.Time     // nil: time.Now
	Random    io.Reader            // of ids; nil: crypto/rand
	Log       *slog.Logger
	// Before runs before each unit of work, which an error ends: the simulator's power switch.
	Before func() error
}

// registryLife is how long what the registry said of a device is believed.
const registryLife = time.Second

// Wire makes the parts over a store.
func Wire(st *store.Store, w Wiring) (Parts, error) {
	if w.Now == nil {
		w.Now = time.Now
	}
	if w.Before == nil {
		w.Before = func() error { return nil }
	}
	if w.Random == nil {
		w.Random = crand.Reader
	}
	v, err := vault.Open(vault.Options{Opener: seal.NewCardOpener(w.Keys.Payment), Kept: st, Keys: w.VaultKeys, Now: w.Now})
	if err != nil {
		return Parts{}, err
	}
	p := Parts{Store: st, Vault: v, Announced: w.announced}
	anchors := payment.Anchors{Key: w.Keys.Anchor}
	// unit is one of a device, by a way of the store's.
	unit := func(ctx context.Context, by func(context.Context, uint32, func(*store.Tx) error) error, d protocol.DeviceID, fn func(*store.Tx) error) error {
		if err := w.Before(); err != nil {
			return err
		}
		return by(ctx, store.Shard(d), fn)
	}
	p.Payments = payment.NewService(payment.Config{
		Do: func(ctx context.Context, d protocol.DeviceID, fn func(payment.Tx) error) error {
			return unit(ctx, st.Do, d, func(tx *store.Tx) error { return fn(tx) })
		},
		Put: func(ctx context.Context, d protocol.DeviceID, fn func(payment.Tx) error) error {
			return unit(ctx, st.Put, d, func(tx *store.Tx) error { return fn(tx) })
		},
		Claim: st.Claim, Overdue: st.Overdue,
		Owner: func(ctx context.Context, id protocol.PaymentID) (protocol.DeviceID, error) {
			row, err := st.Payment(ctx, id)
			if errors.Is(err, store.ErrNotFound) {
				err = nil
			}
			return row.Device, err
		},
		Profile: func(link string) (acquirer.Profile, bool) {
			if link == acquirer.Accounts {
				return account.Profile(), true
			}
			return w.Profile(link)
		},
		Vault: v, Anchors: anchors,
		NewAnswer: func(now protocol.UnixMS) protocol.AnswerID { return protocol.AnswerID(w.newID(now)) },
		NewCase:   func(now protocol.UnixMS) protocol.CaseID { return protocol.CaseID(w.newID(now)) },
	})
	p.Accounts = account.NewLink(account.LinkConfig{
		Do: func(ctx context.Context, key string, fn func(account.Tx) error) error {
			if err := w.Before(); err != nil {
				return err
			}
			return st.DoAccount(ctx, key, fn)
		},
		Cards: v, Now: func() protocol.UnixMS { return protocol.At(w.Now()) },
	})
	p.Intake = intake.New(intake.Config{
		Do: func(ctx context.Context, d protocol.DeviceID, fn func(intake.Tx) error) error {
			return unit(ctx, st.Do, d, func(tx *store.Tx) error { return fn(tx) })
		},
		Payments: p.Payments, Anchors: anchors, Acquirers: w.announced,
	})
	registry := &registry{st: st, now: w.Now, known: map[protocol.DeviceID]entry{}}
	p.Relay = relay.New(relay.Config{
		Device: registry.device, Key: w.Keys.Relay, Signer: w.Keys.Signing, Payments: p.Payments, Intake: p.Intake,
		Publish: w.Publish, Effect: w.Effect, Conn: w.Conn, Kick: w.Kick, Log: w.Log,
		Asked: w.Telemetry.Asked, Telemetry: w.Telemetry.Forward,
	})
	return p, nil
}

// announced is what a device of a link to an acquirer is told: how that link is, and that the accounts of
// closed-loop cards can be asked, which they can wherever this can be said.
func (w Wiring) announced(link string) (out []protocol.AcquirerState) {
	if w.Acquirers != nil {
		for _, a := range w.Acquirers() {
			if a.Name == link {
				out = append(out, a)
			}
		}
	}
	return append(out, protocol.AcquirerState{Name: acquirer.Accounts, Up: true, By: protocol.ByClosedLoop})
}

func (w Wiring) newID(now protocol.UnixMS) protocol.AnswerID {
	var r [10]byte
	if _, err := io.ReadFull(w.Random, r[:]); err != nil {
		panic(fmt.Sprintf("cloud: no randomness: %v", err))
	}
	return protocol.AnswerID(protocol.NewID[struct{}](now, r))
}

// registry remembers what the store said of devices, as long as the store's stamp stays the same.
type registry struct {
	st  *store.Store
	now func() time.Time

	mu      sync.Mutex // guards what follows
	stamp   string
	checked time.Time // when the stamp was
	known   map[protocol.DeviceID]entry
}

// entry was read when the stamp was not newer than this.
type entry struct {
	device identity.Device
	stamp  string
}

func (r *registry) device(ctx context.Context, id protocol.DeviceID) (identity.Device, error) {
	e, known, stamp, err := r.look(ctx, id)
	if err != nil || known {
		return e.device, err
	}
	d, err := r.st.Device(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return d, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[id] = entry{d, stamp}
	return d, nil
}

// look finds what is known, under a stamp that is not older than registryLife.
func (r *registry) look(ctx context.Context, id protocol.DeviceID) (e entry, known bool, stamp string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); r.checked.IsZero() || now.Sub(r.checked) >= registryLife || now.Before(r.checked) {
		stamp, err := r.st.RegistryStamp(ctx)
		if err != nil {
			return e, false, "", err
		}
		if stamp != r.stamp {
			clear(r.known)
		}
		r.stamp, r.checked = stamp, now
	}
	e, known = r.known[id]
	return e, known && e.stamp == r.stamp, r.stamp, nil
}
