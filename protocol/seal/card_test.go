package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"coinop/protocol"
)

func TestCard(t *testing.T) {
	k, _ := NewPrivateKey()
	sealed, err := NewCardSealer(k.Public()).Seal([]byte("aad"), []byte("track"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := NewCardOpener(k).OpenCard(sealed, []byte("aad")); err != nil || string(p) != "track" {
		t.Fatalf("%q %v", p, err)
	}
	if _, err := NewCardOpener(k).OpenCard(sealed, []byte("other payment")); !errors.Is(err, ErrSeal) {
		t.Errorf("other aad: %v", err)
	}
	k2, _ := NewPrivateKey()
	if _, err := NewCardOpener(k2).OpenCard(sealed, []byte("aad")); !errors.Is(err, ErrSeal) {
		t.Errorf("other key: %v", err)
	}
	opener := NewCardOpener(k)
	for i := range sealed {
		for bit := range 8 {
			spoiled := bytes.Clone(sealed)
			spoiled[i] ^= 1 << bit
			if _, err := opener.OpenCard(spoiled, []byte("aad")); !errors.Is(err, ErrSeal) {
				t.Fatalf("bit %d of byte %d turned: %v", bit, i, err)
			}
		}
	}
	if len(opener.now) != 0 {
		t.Errorf("%d chains of cards that did not open are remembered", len(opener.now))
	}
}

// Cards of several devices and chains come in any order, some twice, to an opener that remembers and to
// one that does not.
func TestCardsInAnyOrder(t *testing.T) {
	k, _ := NewPrivateKey()
	type card struct{ sealed, aad, plain []byte }
	var cards []card
	places := map[string]map[uint8]bool{}
	for d := range 3 {
		s := NewCardSealer(k.Public())
		for n := range 2*cardChain + 5 {
			c := card{aad: fmt.Appendf(nil, "payment %d", n), plain: fmt.Appendf(nil, "card %d of %d", n, d)}
			var err error
			if c.sealed, err = s.Seal(c.aad, c.plain); err != nil {
				t.Fatal(err)
			}
			var box sealedTo
			if err := protocol.Decode(c.sealed, &box); err != nil {
				t.Fatal(err)
			}
			if at := places[string(box.Enc)]; at == nil {
				places[string(box.Enc)] = map[uint8]bool{box.N: true}
			} else if at[box.N] {
				t.Fatalf("place %d of a chain was taken twice", box.N)
			} else {
				at[box.N] = true
			}
			cards = append(cards, c)
		}
	}
	if len(places) != 3*3 {
		t.Errorf("%d chains for 3 devices of %d cards", len(places), 2*cardChain+5)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	opener := NewCardOpener(k)
	for range 2 {
		r.Shuffle(len(cards), func(i, j int) { cards[i], cards[j] = cards[j], cards[i] })
		for _, c := range cards {
			for _, o := range []*CardOpener{opener, NewCardOpener(k)} {
				if p, err := o.OpenCard(c.sealed, c.aad); err != nil || !bytes.Equal(p, c.plain) {
					t.Fatalf("%q: %q, %v", c.plain, p, err)
				}
			}
		}
	}
}

// A device that has sealed a card holds nothing that opens it.
func TestCardIsForgotten(t *testing.T) {
	k, _ := NewPrivateKey()
	s := NewCardSealer(k.Public())
	for range cardChain - 1 {
		sealed, err := s.Seal(nil, []byte("track"))
		if err != nil {
			t.Fatal(err)
		}
		var box sealedTo
		if err := protocol.Decode(sealed, &box); err != nil {
			t.Fatal(err)
		}
		for c := s.chain; ; c.next() { // as far as who reads its memory can go
			a, err := c.aead()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Open(nil, zeroNonce[:], box.CT, nil); err == nil {
				t.Fatalf("card %d opens with what the device holds", box.N)
			}
			if s.n++; s.n >= cardChain {
				break
			}
		}
		s.n = box.N + 1
	}
	if _, err := s.Seal(nil, nil); err != nil || s.chain != (chain{}) {
		t.Errorf("at its end a chain is still held: %v", err)
	}
}

func TestCardChainsAreBounded(t *testing.T) {
	o := NewCardOpener(PrivateKey{})
	for i := range chainsMost {
		o.remember([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, links{n: 1})
		if len(o.now)+len(o.old) > chainsMost {
			t.Fatalf("%d chains", len(o.now)+len(o.old))
		}
	}
	if _, known := o.recall([32]byte{1}); !known {
		t.Error("one of a generation ago is forgotten")
	}
}

// goldenCards are the first and the sixth card of a chain to the key of 32 sevens, as the format was first written.
var goldenCards = []struct{ sealed, plain string }{
	{"847030663664323535336666306330663434582038d302fe18ed8c7ad2b87cb4ff977cc7c68ae876b2bc5e8f20e68f4a7415af710056d4aff713088197e81acb329d4611449502678470561d", "card 0"},
	{"847030663664323535336666306330663434582038d302fe18ed8c7ad2b87cb4ff977cc7c68ae876b2bc5e8f20e68f4a7415af710556fd9c15d07b13e6e731af5a19fadeb6ffaba63461658b", "card 5"},
}

// What stands sealed on a device's disk today must open tomorrow.
func TestCardGolden(t *testing.T) {
	k, err := ParsePrivateKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range goldenCards {
		sealed, err := hex.DecodeString(c.sealed)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := NewCardOpener(k).OpenCard(sealed, []byte("aad")); err != nil || string(p) != c.plain {
			t.Errorf("%q, want %q: %v", p, c.plain, err)
		}
	}
}

func FuzzOpenCard(f *testing.F) {
	k, _ := NewPrivateKey()
	sealed, _ := NewCardSealer(k.Public()).Seal(nil, []byte("seed"))
	f.Add(sealed)
	o := NewCardOpener(k)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := o.OpenCard(b, nil); err != nil && !errors.Is(err, ErrSeal) {
			t.Fatal(err)
		}
	})
}

func BenchmarkOpenCard(b *testing.B) {
	k, _ := NewPrivateKey()
	s := NewCardSealer(k.Public())
	var cards [cardChain][]byte
	for i := range cards {
		cards[i], _ = s.Seal(nil, make([]byte, 80))
	}
	for _, kind := range []string{"remembered", "anew"} {
		b.Run(kind, func(b *testing.B) {
			o, n := NewCardOpener(k), 0
			for b.Loop() {
				if n++; n == cardChain || kind == "anew" {
					o, n = NewCardOpener(k), 0
				}
				if _, err := o.OpenCard(cards[n], nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
