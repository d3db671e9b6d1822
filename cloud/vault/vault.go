// Package vault is the one package that sees a PAN.
//
//	keys, err := vault.ParseKeys(file)
//	v, err := vault.Open(vault.Options{Opener: paymentKey, Kept: store, Keys: keys})
//	go v.Run(ctx)                                   // drops what was not used in time
//	kept, err := v.Take(ctx, ask, epoch)            // opens the sealed card; store kept by payment
//	err = v.WithCard(ctx, op.Key, use)              // at pack time; acquirer.Cards
//
// What it promises:
//   - Track, ICC data and PIN of an authorization stand in memory only, for at most HoldFor, and are
//     zeroed when the authorization was written.
//   - What is to be stored is PAN, expiry and card sequence number, AES-256-GCM under a key of the
//     key file, bound to the payment id: moved to another payment it does not open.
//   - No error holds any of it.
//
// A reader's own ciphertext (P2PE) is refused with ErrScheme: its keys belong in an HSM.
package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"coinop/cloud/acquirer"
	"coinop/protocol"
	"coinop/protocol/card"
)

// Errors of a vault. Trying again helps with none of them.
var (
	ErrOpen   = errors.New("card data does not open: sealed for another payment or key, or altered")
	ErrCard   = errors.New("card data is not a usable card")
	ErrScheme = errors.New("a reader's own encryption is not supported")
	ErrNone   = errors.New("no card data for this payment")
	ErrKept   = errors.New("kept card does not open: unknown key, other payment, or altered")
)

// Opener opens what was sealed to the payment key: protocol/seal.CardOpener.
type Opener interface {
	OpenCard(sealed, aad []byte) ([]byte, error)
}

// Kept finds what Take returned for a payment; nil for none.
type Kept interface {
	Card(ctx context.Context, payment protocol.PaymentID) ([]byte, error)
}

// Options of a Vault. Opener, Kept and Keys are needed.
type Options struct {
	Opener  Opener
	Kept    Kept
	Keys    Keys
	HoldFor time.Duration    // of an authorization's card in memory: 2 min, longer than any T1
	Most    int              // cards in memory; the oldest goes first: 10,000
	Now     func() time.Time // time.Now
}

// Vault is safe for concurrent use.
type Vault struct {
	o Options

	mu    sync.Mutex // guards what follows
	held  map[protocol.PaymentID]*hand
	order []*hand // by age, oldest first; used ones stay until their time
}

var _ acquirer.Cards = (*Vault)(nil)

// hand is a card in memory.
type hand struct {
	payment protocol.PaymentID
	card    acquirer.Card
	until   time.Time
	users   int  // in the hands of WithCard
	dropped bool // to be wiped by the last of them
}

// Open makes a vault.
func Open(o Options) (*Vault, error) {
	if o.Opener == nil || o.Kept == nil || len(o.Keys.all) == 0 {
		return nil, errors.New("vault: want an opener, a store and a key")
	}
	if o.HoldFor <= 0 {
		o.HoldFor = 2 * time.Minute
	}
	if o.Most <= 0 {
		o.Most = 10_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Vault{o: o, held: map[protocol.PaymentID]*hand{}}, nil
}

// Take opens the card an ask carries, keeps it in memory for the authorization, and returns the
// bytes to store by payment id for captures, reversals and refunds. Errors are ErrOpen, ErrCard and
// ErrScheme: the ask is refused unsent. Taken again, the same ask gives bytes of the same card.
func (v *Vault) Take(_ context.Context, ask protocol.Ask, epoch protocol.Epoch) ([]byte, error) {
	aad := protocol.CardAAD{Device: ask.Device, Epoch: epoch, Sale: ask.Sale, Payment: ask.Payment, Amount: ask.Amount}.Encode()
	plain, err := v.o.Opener.OpenCard(ask.Sealed, aad)
	if err != nil {
		return nil, ErrOpen // the cause is the opener's and says no more
	}
	defer clear(plain)
	var sealed protocol.SealedCard
	if err := protocol.Decode(plain, &sealed); err != nil {
		return nil, ErrCard // the decoder's error may quote what it read
	}
	defer wipe(&sealed)
	if sealed.Payment != ask.Payment || sealed.Entry != ask.Tap.Entry {
		return nil, ErrOpen
	}
	if (ask.AuthorizedBy == protocol.ByClosedLoop) != (sealed.Loop != nil) {
		return nil, ErrCard // a bank's card is not for our accounts, nor ours for a bank
	}
	c, err := read(sealed)
	if err != nil {
		return nil, err
	}
	if ask.Tap.Last4 != "" && ask.Tap.Last4 != c.PAN.Last4() {
		c.Wipe()
		return nil, ErrCard
	}
	kept, err := v.o.Keys.seal(ask.Payment, c)
	if err != nil {
		c.Wipe()
		return nil, err
	}
	v.hold(ask.Payment, c)
	return kept, nil
}

// read makes a card of what a reader without encryption gave: track 2, or its equivalent among the
// chip's data, which is then taken out of what goes into DE55.
func read(s protocol.SealedCard) (acquirer.Card, error) {
	if len(s.Cipher) > 0 {
		return acquirer.Card{}, ErrScheme
	}
	if s.Loop != nil {
		if len(s.Track2)+len(s.ICC)+len(s.PINBlock) > 0 || s.Loop.Ref() == "" {
			return acquirer.Card{}, ErrCard
		}
		loop := *s.Loop
		loop.UID = append([]byte(nil), s.Loop.UID...)
		return acquirer.Card{Loop: &loop}, nil
	}
	var c acquirer.Card
	track := string(s.Track2)
	icc := make([]byte, 0, len(s.ICC))
	err := card.EachTLV(s.ICC, func(tag card.Tag, value, whole []byte) {
		switch tag {
		case card.TagTrack2Equiv, card.TagTrack2MSD:
			if track == "" {
				track = fmt.Sprintf("%X", value)
			}
		case card.TagTrack1Equiv, card.TagPAN, card.TagHolder, card.TagExpiry, card.TagTrack1Discr, card.TagTrack2Discr:
		default:
			icc = append(icc, whole...)
		}
	})
	if err != nil {
		return c, ErrCard
	}
	if c.Track2, err = card.ParseTrack2(track); err != nil || len(icc) > 255 || len(s.PSN) > 1 ||
		len(s.PINBlock) != 0 && len(s.PINBlock) != 8 {
		c.Track2.Wipe()
		clear(icc)
		return acquirer.Card{}, ErrCard
	}
	c.PAN, c.Expiry = c.Track2.PAN(), c.Track2.Expiry()
	c.PSN, c.ICC = append([]byte(nil), s.PSN...), icc
	c.PINBlock, c.KSN = append([]byte(nil), s.PINBlock...), append([]byte(nil), s.PINKSN...)
	return c, nil
}

func wipe(s *protocol.SealedCard) {
	for _, b := range [][]byte{s.Track2, s.ICC, s.PSN, s.PINBlock, s.PINKSN, s.Cipher} {
		clear(b)
	}
	if s.Loop != nil {
		clear(s.Loop.UID)
		*s.Loop = protocol.SealedLoop{}
	}
}

func (v *Vault) hold(p protocol.PaymentID, c acquirer.Card) {
	now := v.o.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sweep(now)
	if old := v.held[p]; old != nil {
		v.drop(old)
	}
	h := &hand{payment: p, card: c, until: now.Add(v.o.HoldFor)}
	v.held[p] = h
	v.order = append(v.order, h)
	for len(v.order) > v.o.Most {
		v.drop(v.order[0])
		v.order[0] = nil
		v.order = v.order[1:]
	}
}

// sweep drops what is too old.
func (v *Vault) sweep(now time.Time) {
	for len(v.order) > 0 && !v.order[0].until.After(now) {
		v.drop(v.order[0])
		v.order[0] = nil
		v.order = v.order[1:]
	}
}

// drop forgets a card and wipes it, when nobody uses it.
func (v *Vault) drop(h *hand) {
	if v.held[h.payment] == h {
		delete(v.held, h.payment)
	}
	if h.dropped = true; h.users == 0 {
		h.card.Wipe()
	}
}

// Run drops cards in memory as their time ends, until ctx does; then it drops all and returns nil.
func (v *Vault) Run(ctx context.Context) error {
	tick := time.NewTicker(max(v.o.HoldFor/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			v.mu.Lock()
			v.sweep(v.o.Now())
			v.mu.Unlock()
		case <-ctx.Done():
			v.mu.Lock()
			defer v.mu.Unlock()
			for _, h := range v.order {
				v.drop(h)
			}
			v.order = nil
			return nil
		}
	}
}

// Forget drops the card of a payment that will not be authorized.
func (v *Vault) Forget(p protocol.PaymentID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if h := v.held[p]; h != nil {
		v.drop(h)
	}
}

// WithCard calls use with the card of a payment: for an authorization with track, ICC and PIN from
// memory, for all else with what was stored. What use got is zeroed after it. A card in memory is
// dropped when use returns nil: the message was written. Errors are ErrNone, ErrKept, use's own, and
// those of the store.
func (v *Vault) WithCard(ctx context.Context, key acquirer.OpKey, use func(acquirer.Card) error) error {
	if key.Kind == acquirer.Authorization {
		return v.withHeld(key.Payment, use)
	}
	kept, err := v.o.Kept.Card(ctx, key.Payment)
	if err != nil {
		return fmt.Errorf("card of %s: %w", key.Payment, err)
	}
	if len(kept) == 0 {
		return fmt.Errorf("card of %s: %w", key.Payment, ErrNone)
	}
	c, err := v.o.Keys.open(key.Payment, kept)
	if err != nil {
		return fmt.Errorf("card of %s: %w", key.Payment, err)
	}
	defer c.Wipe()
	return use(c)
}

func (v *Vault) withHeld(p protocol.PaymentID, use func(acquirer.Card) error) error {
	v.mu.Lock()
	v.sweep(v.o.Now())
	h := v.held[p]
	if h == nil {
		v.mu.Unlock()
		return fmt.Errorf("card of %s: %w", p, ErrNone)
	}
	h.users++
	v.mu.Unlock()

	err := use(h.card)

	v.mu.Lock()
	defer v.mu.Unlock()
	h.users--
	if err == nil || h.dropped {
		v.drop(h)
	}
	return err
}

// String says how many cards are in memory and nothing else of the vault.
func (v *Vault) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return fmt.Sprintf("vault{held: %d}", len(v.held))
}

// Format prints String under every verb.
func (v *Vault) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(v.String())) }

// LogValue is String.
func (v *Vault) LogValue() slog.Value { return slog.StringValue(v.String()) }
