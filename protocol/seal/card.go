package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"fmt"
	"sync"

	"coinop/protocol"
)

// Cards are sealed to the payment key along a chain: one HPKE encapsulation opens it, and each card
// takes the next key of it.
//
//	chain 0    = HPKE Export("coinop/v1/card chain", 32)      RFC 9180, section 5.3
//	key n      = HMAC-SHA-256(chain n, 00)                    AES-256-GCM; one card a key, so the nonce is zero
//	chain n+1  = HMAC-SHA-256(chain n, 01)
//
// The device forgets a chain's value when it has taken the next, so that what it has sealed it cannot
// open, just as with an encapsulation a card. The cloud remembers chains, and an exchange, a quarter
// of what an authorization cost it, serves cardChain cards of a device instead of one.

const (
	cardInfo  = "coinop/v1/card"
	cardLabel = "coinop/v1/card chain"
	// cardChain bounds how far the cloud must walk for a card that comes late or out of turn, and for
	// how many cards to come a device's memory is worth anything to who reads it.
	cardChain = 64
	// chainsMost bounds the chains a CardOpener remembers: one a device that sells, 150 bytes each.
	chainsMost = 1 << 16
)

type chain [sha256.Size]byte

func newChain(export func(string, int) ([]byte, error)) (c chain, err error) {
	b, err := export(cardLabel, len(c))
	copy(c[:], b)
	clear(b)
	return c, err
}

func (c *chain) mac(what byte) (out chain) {
	m := hmac.New(sha256.New, c[:])
	m.Write([]byte{what})
	m.Sum(out[:0])
	return out
}

func (c *chain) next() { *c = c.mac(1) }

// aead is the cipher of the one card that this link of the chain is for.
func (c *chain) aead() (cipher.AEAD, error) {
	k := c.mac(0)
	defer clear(k[:])
	b, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

var zeroNonce [12]byte

type sealedTo struct {
	_     struct{} `cbor:",toarray"`
	KeyID string
	Enc   []byte
	N     uint8 // the place in the chain
	CT    []byte
}

// CardSealer seals card data to the payment key. It is safe for concurrent use.
type CardSealer struct {
	to PublicKey

	mu    sync.Mutex // guards what follows
	enc   []byte     // nil: a chain is to be opened
	chain chain
	n     uint8
}

// NewCardSealer makes a sealer to a payment key.
func NewCardSealer(to PublicKey) *CardSealer { return &CardSealer{to: to} }

// Seal seals card data; aad binds it to its payment.
func (s *CardSealer) Seal(aad, plaintext []byte) ([]byte, error) {
	box, a, err := s.take()
	if err != nil {
		return nil, fmt.Errorf("seal card: %w", err)
	}
	box.CT = a.Seal(nil, zeroNonce[:], plaintext, aad)
	return protocol.Encode(box)
}

// take takes the next link.
func (s *CardSealer) take() (sealedTo, cipher.AEAD, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc == nil {
		enc, sender, err := hpke.NewSender(s.to.key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(cardInfo))
		if err != nil {
			return sealedTo{}, nil, err
		}
		if s.chain, err = newChain(sender.Export); err != nil {
			return sealedTo{}, nil, err
		}
		s.enc, s.n = enc, 0
	}
	box := sealedTo{KeyID: s.to.ID, Enc: s.enc, N: s.n}
	a, err := s.chain.aead()
	s.chain.next()
	if s.n++; s.n == cardChain {
		clear(s.chain[:])
		s.enc = nil
	}
	return box, a, err
}

// CardOpener opens what CardSealers sealed to its key. It remembers chains, for speed only, and only
// those of cards that opened: a stranger cannot drive out a device's. It is safe for concurrent use.
type CardOpener struct {
	key PrivateKey

	mu  sync.Mutex // guards what follows
	now map[[32]byte]*links
	old map[[32]byte]*links // what was now until it was half of chainsMost
}

// links are two values of a chain: the first, and one not yet used.
type links struct {
	first, ahead chain
	n            uint8 // of ahead
}

// NewCardOpener makes an opener with a payment key.
func NewCardOpener(k PrivateKey) *CardOpener {
	return &CardOpener{key: k, now: map[[32]byte]*links{}}
}

// OpenCard opens what was sealed for this key and aad, else ErrSeal. Only the vault calls it.
func (o *CardOpener) OpenCard(sealed, aad []byte) ([]byte, error) {
	var s sealedTo
	if err := protocol.Decode(sealed, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	if s.KeyID != o.key.ID || len(s.Enc) != 32 || s.N >= cardChain {
		return nil, fmt.Errorf("%w: sealed to key %s, %d of %d", ErrSeal, s.KeyID, s.N, cardChain)
	}
	id := [32]byte(s.Enc)
	l, known := o.recall(id)
	if !known {
		r, err := hpke.NewRecipient(s.Enc, o.key.key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(cardInfo))
		if err == nil {
			l.first, err = newChain(r.Export)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSeal, err)
		}
		l.ahead = l.first
	}
	if s.N < l.n {
		l.ahead, l.n = l.first, 0
	}
	for ; l.n < s.N; l.n++ {
		l.ahead.next()
	}
	a, err := l.ahead.aead()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	p, err := a.Open(nil, zeroNonce[:], s.CT, aad)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	l.ahead.next()
	l.n++
	o.remember(id, l)
	return p, nil
}

func (o *CardOpener) recall(id [32]byte) (links, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.now[id]
	if l == nil {
		if l = o.old[id]; l == nil {
			return links{}, false
		}
	}
	return *l, true
}

// remember keeps a chain, and where the next card of it is expected.
func (o *CardOpener) remember(id [32]byte, l links) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if was := o.now[id]; was != nil {
		if was.n < l.n { // a card that came late does not set it back
			*was = l
		}
		return
	}
	if len(o.now) >= chainsMost/2 {
		o.old, o.now = o.now, map[[32]byte]*links{}
	}
	o.now[id] = &l
}
