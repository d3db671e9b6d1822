package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"coinop/cloud/acquirer"
	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"
)

const (
	pan   = "5413330089020011"
	track = pan + "=25122010123456789"
)

type shelf map[protocol.PaymentID][]byte

func (s shelf) Card(_ context.Context, p protocol.PaymentID) ([]byte, error) { return s[p], nil }

type bench struct {
	v    *Vault
	key  seal.PrivateKey
	kept shelf
	now  time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	key, err := seal.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	line, err := NewKeyLine("k1")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeys(line)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{key: key, kept: shelf{}, now: time.Unix(1000, 0)}
	b.v, err = Open(Options{Opener: seal.NewCardOpener(key), Kept: b.kept, Keys: keys, Now: func() time.Time { return b.now }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var epoch = protocol.Epoch{5}

// ask is a request with a card sealed as the agent's shell seals it.
func (b *bench) ask(t *testing.T, p byte, change ...func(*protocol.SealedCard)) protocol.Ask {
	t.Helper()
	a := protocol.Ask{
		Device: "m1", Sale: protocol.SaleID{1}, Payment: protocol.PaymentID{p}, Amount: money.New(150, money.EUR),
		Tap: protocol.Tap{Entry: protocol.EntryContactless},
	}
	c := protocol.SealedCard{Payment: a.Payment, Entry: protocol.EntryContactless, Track2: []byte(track), Nonce: protocol.Nonce{1}}
	for _, f := range change {
		f(&c)
	}
	aad := protocol.MustEncode(protocol.CardAAD{Device: a.Device, Epoch: epoch, Sale: a.Sale, Payment: a.Payment, Amount: a.Amount})
	var err error
	if a.Sealed, err = seal.NewCardSealer(b.key.Public()).Seal(aad, protocol.MustEncode(c)); err != nil {
		t.Fatal(err)
	}
	return a
}

func op(p byte, k acquirer.Kind) acquirer.OpKey {
	return acquirer.OpKey{Payment: protocol.PaymentID{p}, Kind: k, N: 1}
}

// The card an agent sealed reaches the authorization once, with its track; what follows it gets the
// number and expiry alone, from what was stored.
func TestCardToAuthorizationAndCapture(t *testing.T) {
	b := newBench(t)
	kept, err := b.v.Take(t.Context(), b.ask(t, 1), epoch)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(kept, []byte(pan)) {
		t.Fatal("stored in clear")
	}
	b.kept[protocol.PaymentID{1}] = kept
	uses := 0
	use := func(wantTrack bool) func(acquirer.Card) error {
		return func(c acquirer.Card) error {
			uses++
			if c.PAN.Reveal() != pan || c.Track2.IsZero() == wantTrack {
				t.Errorf("card %v, track given %v", c, !c.Track2.IsZero())
			}
			return nil
		}
	}
	if err := b.v.WithCard(t.Context(), op(1, acquirer.Authorization), use(true)); err != nil {
		t.Fatal(err)
	}
	if err := b.v.WithCard(t.Context(), op(1, acquirer.Authorization), use(true)); !errors.Is(err, ErrNone) {
		t.Fatalf("the track outlived its message: %v", err)
	}
	for _, k := range []acquirer.Kind{acquirer.Capture, acquirer.Reversal} {
		if err := b.v.WithCard(t.Context(), op(1, k), use(false)); err != nil {
			t.Fatal(k, err)
		}
	}
	if uses != 3 {
		t.Fatalf("%d uses", uses)
	}
}

// A write that failed keeps the card for another host; time does not.
func TestHeldOnlySoLong(t *testing.T) {
	b := newBench(t)
	if _, err := b.v.Take(t.Context(), b.ask(t, 1), epoch); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("not written")
	if err := b.v.WithCard(t.Context(), op(1, acquirer.Authorization), func(acquirer.Card) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if err := b.v.WithCard(t.Context(), op(1, acquirer.Authorization), func(acquirer.Card) error { return nil }); err != nil {
		t.Fatalf("after a failed write: %v", err)
	}
	if _, err := b.v.Take(t.Context(), b.ask(t, 2), epoch); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(time.Hour)
	if err := b.v.WithCard(t.Context(), op(2, acquirer.Authorization), func(acquirer.Card) error { return nil }); !errors.Is(err, ErrNone) {
		t.Fatalf("after an hour: %v", err)
	}
}

// What was sealed for something else, or altered, does not open; and no error shows a card.
func TestRefused(t *testing.T) {
	b := newBench(t)
	quiet := func(name string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if s := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(s, pan) || strings.Contains(s, pan[:12]) {
			t.Errorf("%s: the error shows a card", name)
		}
	}
	amount := b.ask(t, 1)
	amount.Amount.Minor = 1
	_, err := b.v.Take(t.Context(), amount, epoch)
	quiet("other amount", err, ErrOpen)
	_, err = b.v.Take(t.Context(), b.ask(t, 1), protocol.Epoch{6})
	quiet("other epoch", err, ErrOpen)
	flipped := b.ask(t, 1)
	flipped.Sealed[len(flipped.Sealed)-1] ^= 1
	_, err = b.v.Take(t.Context(), flipped, epoch)
	quiet("altered", err, ErrOpen)
	_, err = b.v.Take(t.Context(), b.ask(t, 1, func(c *protocol.SealedCard) { c.Payment = protocol.PaymentID{9} }), epoch)
	if err == nil {
		t.Error("a card of another payment was taken")
	}
	_, err = b.v.Take(t.Context(), b.ask(t, 1, func(c *protocol.SealedCard) { c.Track2 = []byte(pan + "x") }), epoch)
	quiet("no track", err, ErrCard)
	_, err = b.v.Take(t.Context(), b.ask(t, 1, func(c *protocol.SealedCard) { c.Track2, c.Cipher, c.Scheme = nil, []byte{1}, "dukpt" }), epoch)
	quiet("reader's ciphertext", err, ErrScheme)

	kept, err := b.v.Take(t.Context(), b.ask(t, 1), epoch)
	if err != nil {
		t.Fatal(err)
	}
	b.kept[protocol.PaymentID{2}] = kept // moved to another payment
	err = b.v.WithCard(t.Context(), op(2, acquirer.Capture), func(acquirer.Card) error { t.Error("used"); return nil })
	quiet("moved", err, ErrKept)
	for i := range kept {
		bad := bytes.Clone(kept)
		bad[i] ^= 1
		b.kept[protocol.PaymentID{1}] = bad
		err := b.v.WithCard(t.Context(), op(1, acquirer.Capture), func(acquirer.Card) error { t.Error("used"); return nil })
		quiet(fmt.Sprint("byte ", i), err, ErrKept)
	}
	err = b.v.WithCard(t.Context(), op(7, acquirer.Capture), func(acquirer.Card) error { return nil })
	quiet("unknown payment", err, ErrNone)
}

func TestKeyFile(t *testing.T) {
	for _, bad := range []string{"", "k1", "k1 zz", "K1 " + strings.Repeat("0", 64), "k1 " + strings.Repeat("0", 62)} {
		if _, err := ParseKeys([]byte(bad)); !errors.Is(err, ErrKeyFile) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	line, err := NewKeyLine("k1")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeys(line)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Fields(string(line))[1]
	if s := fmt.Sprintf("%v %+v %#v %s", keys, keys, keys, keys); strings.Contains(s, secret[:16]) {
		t.Error("a key file prints its key")
	}
}

// A closed-loop card goes to our own accounts and nowhere else, and leaves nothing behind.
func TestClosedLoopCard(t *testing.T) {
	t.Parallel()
	loop := func(l protocol.SealedLoop) func(*protocol.SealedCard) {
		return func(c *protocol.SealedCard) { c.Track2, c.Loop = nil, &l }
	}
	proven := loop(protocol.SealedLoop{ID: "0000000001", Counter: 3, Verified: true})
	for _, c := range []struct {
		name   string
		by     protocol.AuthorizedBy
		change func(*protocol.SealedCard)
		err    error
		ref    string
	}{
		{"proven", protocol.ByClosedLoop, proven, nil, "0000000001"},
		{"a chip's number", protocol.ByClosedLoop, loop(protocol.SealedLoop{UID: []byte{4, 1}}), nil, "uid:0401"},
		{"a stripe", protocol.ByClosedLoop, loop(protocol.SealedLoop{Stripe: protocol.StripeRef("4711")}), nil, protocol.StripeRef("4711")},
		{"an id that was not proven", protocol.ByClosedLoop, loop(protocol.SealedLoop{ID: "0000000001"}), ErrCard, ""},
		{"nothing to go by", protocol.ByClosedLoop, loop(protocol.SealedLoop{}), ErrCard, ""},
		{"for a bank", protocol.ByHost, proven, ErrCard, ""},
		{"a bank's card for our accounts", protocol.ByClosedLoop, func(*protocol.SealedCard) {}, ErrCard, ""},
		{"both in one", protocol.ByClosedLoop, func(c *protocol.SealedCard) { c.Loop = &protocol.SealedLoop{ID: "1", Verified: true} }, ErrCard, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			ask := b.ask(t, 1, c.change)
			ask.AuthorizedBy = c.by
			kept, err := b.v.Take(t.Context(), ask, epoch)
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			if bytes.Contains(kept, []byte("0000000001")) {
				t.Error("stored in clear")
			}
			err = b.v.WithCard(t.Context(), op(1, acquirer.Authorization), func(a acquirer.Card) error {
				if a.Loop == nil || a.Loop.Ref() != c.ref {
					t.Errorf("%+v, want %s", a.Loop, c.ref)
				}
				if s := fmt.Sprintf("%v %+v %#v", a, a, a); strings.Contains(s, "0000000001") || strings.Contains(s, "0401") {
					t.Errorf("it prints who carries it: %s", s)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			b.kept[protocol.PaymentID{1}] = kept
			if err := b.v.WithCard(t.Context(), op(1, acquirer.Capture), func(a acquirer.Card) error {
				if a.Loop != nil || !a.PAN.IsZero() {
					t.Errorf("kept: %v", a)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}
