// Package seal protects messages.
//
// What must convince a third party later (journal batches, tickets, checkpoints, policy) is a
// COSE_Sign1 with ES256. What must convince only the other end, now, goes through a Channel:
// COSE_Encrypt0 with A256GCM under keys both ends draw from one HPKE exporter. Card data is sealed
// to the payment key alone, by a CardSealer. The topic is always the external data.
//
//	ch, err := seal.NewChannel(deviceKey, ticket, relayKey)   // once a connection, on the device
//	msg, err := ch.Seal(topic, plaintext)                     // carries its ticket
//
//	raw, err := seal.TicketIn(msg)                            // in the cloud
//	t, ch, err := seal.OpenTicket(raw, keyOf, relayKey)       // cache by hash of raw
//	plaintext, err := ch.Open(topic, msg)
//
// Nonces are 96 random bits a message, at most 2^31 messages a key, so that replicas may share a
// key without knowing of each other. A message that does not open says nothing but ErrSeal.
//
// Sources: RFC 9052 (COSE), RFC 9053 (algorithms), RFC 9180 (HPKE: DHKEM(X25519, HKDF-SHA256),
// HKDF-SHA256, AES-256-GCM).
package seal

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"coinop/protocol"

	"github.com/veraison/go-cose"
)

// ErrSeal means a message is not what its sender sealed for this topic, or not in the one form we
// write. It cannot be mended by trying again.
var ErrSeal = errors.New("seal does not open")

// ticketLabel is the unprotected header that carries a ticket (private use, RFC 9052 section 3.1).
const ticketLabel = -65537

// Signer is a device's or the cloud's ES256 key; a TPM makes one as well as memory does.
type Signer struct {
	Key   crypto.Signer // ECDSA P-256
	KeyID string        // certificate serial in hex, or a key's name
}

// Sign makes a tagged COSE_Sign1 over payload and topic. ticket may be nil.
func (s Signer) Sign(topic protocol.Topic, payload, ticket []byte) ([]byte, error) {
	signer, err := cose.NewSigner(cose.AlgorithmES256, s.Key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	m := cose.NewSign1Message()
	m.Headers.Protected.SetAlgorithm(cose.AlgorithmES256)
	m.Headers.Protected[cose.HeaderLabelKeyID] = []byte(s.KeyID)
	if ticket != nil {
		m.Headers.Unprotected[int64(ticketLabel)] = ticket
	}
	m.Payload = payload
	if err := m.Sign(rand.Reader, []byte(topic), signer); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return m.MarshalCBOR()
}

// Signed is a COSE_Sign1 taken apart but not yet believed.
type Signed struct {
	KeyID  string
	Ticket []byte // nil when none rode along
	m      *cose.Sign1Message
}

// ParseSigned takes a tagged COSE_Sign1 apart. Errors wrap ErrSeal.
func ParseSigned(b []byte) (Signed, error) {
	if len(b) > protocol.MaxMessage {
		return Signed{}, fmt.Errorf("%w: %d bytes", ErrSeal, len(b))
	}
	m := cose.NewSign1Message()
	if err := m.UnmarshalCBOR(b); err != nil {
		return Signed{}, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	s := Signed{m: m}
	alg, err := m.Headers.Protected.Algorithm()
	if err != nil || alg != cose.AlgorithmES256 {
		return Signed{}, fmt.Errorf("%w: algorithm", ErrSeal)
	}
	if _, ok := m.Headers.Protected[cose.HeaderLabelCritical]; ok {
		return Signed{}, fmt.Errorf("%w: crit", ErrSeal)
	}
	if kid, ok := m.Headers.Protected[cose.HeaderLabelKeyID].([]byte); ok {
		s.KeyID = string(kid)
	}
	if t, ok := m.Headers.Unprotected[int64(ticketLabel)].([]byte); ok {
		s.Ticket = t
	}
	return s, nil
}

// Verify returns the payload if key signed it for topic, else ErrSeal.
func (s Signed) Verify(topic protocol.Topic, key *ecdsa.PublicKey) ([]byte, error) {
	v, err := cose.NewVerifier(cose.AlgorithmES256, key)
	if err != nil {
		return nil, fmt.Errorf("%w: key: %w", ErrSeal, err)
	}
	if err := s.m.Verify([]byte(topic), v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	return s.m.Payload, nil
}

// PublicKey is what others seal to: a relay's or a payment key (X25519).
type PublicKey struct {
	ID  string
	key hpke.PublicKey
	raw []byte
}

// PrivateKey opens what was sealed to its PublicKey.
type PrivateKey struct {
	ID  string
	key hpke.PrivateKey
	raw *ecdh.PrivateKey
}

// NewPrivateKey makes a key; its ID is the first 8 bytes of the SHA-256 of the public key, in hex.
func NewPrivateKey() (PrivateKey, error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return PrivateKey{}, err
	}
	return ParsePrivateKey(k.Bytes())
}

// ParsePrivateKey reads the 32 bytes of PrivateKey.Bytes.
func ParsePrivateKey(b []byte) (PrivateKey, error) {
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("private key: %w", err)
	}
	h, err := hpke.NewDHKEMPrivateKey(newExchanger(k))
	if err != nil {
		return PrivateKey{}, fmt.Errorf("private key: %w", err)
	}
	return PrivateKey{ID: keyID(k.PublicKey().Bytes()), key: h, raw: k}, nil
}

// Bytes are for a file only its owner can read.
func (k PrivateKey) Bytes() []byte { return k.raw.Bytes() }

// Public is the key to give away.
func (k PrivateKey) Public() PublicKey {
	p, err := ParsePublicKey(k.raw.PublicKey().Bytes())
	if err != nil {
		panic(err) // a key that was made cannot fail to parse
	}
	return p
}

// ParsePublicKey reads the 32 bytes of PublicKey.Bytes.
func ParsePublicKey(b []byte) (PublicKey, error) {
	k, err := ecdh.X25519().NewPublicKey(b)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	h, err := hpke.NewDHKEMPublicKey(k)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	return PublicKey{ID: keyID(b), key: h, raw: b}, nil
}

// Bytes is the key's 32 bytes.
func (k PublicKey) Bytes() []byte { return k.raw }

func keyID(pub []byte) string {
	h := sha256.Sum256(pub)
	return hex.EncodeToString(h[:8])
}
