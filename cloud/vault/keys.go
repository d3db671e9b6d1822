package vault

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"coinop/cloud/acquirer"
	"coinop/protocol"
	"coinop/protocol/card"
)

// ErrKeyFile means a key file cannot be used. It never holds a key.
var ErrKeyFile = errors.New("vault key file: want lines of a key id and 64 hex digits, the key in use first")

// Keys encrypt what is stored. The first of a file encrypts, all decrypt: a new key is written above
// the old ones, and an old one is removed when the last card under it is past the refund window.
type Keys struct {
	all []key
}

type key struct {
	id   string
	aead cipher.AEAD
}

var keyID = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// ParseKeys reads a key file: lines of an id (1 to 32 of a-z, 0-9, -) and an AES-256 key in hex;
// empty lines and those that begin with # are skipped. Errors wrap ErrKeyFile and name the line.
func ParseKeys(file []byte) (Keys, error) {
	var k Keys
	n := 0
	for sc := bufio.NewScanner(bytes.NewReader(file)); sc.Scan(); {
		n++
		words := strings.Fields(sc.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		bad := fmt.Errorf("%w: line %d", ErrKeyFile, n)
		if len(words) != 2 || !keyID.MatchString(words[0]) {
			return Keys{}, bad
		}
		if slices.ContainsFunc(k.all, func(o key) bool { return o.id == words[0] }) {
			return Keys{}, bad
		}
		raw, err := hex.DecodeString(words[1])
		if err != nil || len(raw) != 32 {
			return Keys{}, bad
		}
		aead, err := newAEAD(raw)
		clear(raw)
		if err != nil {
			return Keys{}, bad
		}
		k.all = append(k.all, key{words[0], aead})
	}
	if len(k.all) == 0 {
		return Keys{}, fmt.Errorf("%w: no key", ErrKeyFile)
	}
	return k, nil
}

// NewKeyLine is a line for a key file, with a fresh key.
func NewKeyLine(id string) ([]byte, error) {
	if !keyID.MatchString(id) {
		return nil, fmt.Errorf("%w: id", ErrKeyFile)
	}
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: crypto/rand
	defer clear(raw[:])
	return fmt.Appendf(nil, "%s %x\n", id, raw), nil
}

// String names the keys.
func (k Keys) String() string {
	ids := make([]string, len(k.all))
	for i, o := range k.all {
		ids[i] = o.id
	}
	return "vault keys " + strings.Join(ids, ", ")
}

// Format prints String under every verb.
func (k Keys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue is String.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

func newAEAD(raw []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// keptVersion is the first byte of a kept card: version, length of the key id, key id, then nonce,
// ciphertext and tag of AES-256-GCM. What stands before the nonce, and the payment id, are
// authenticated with it.
const keptVersion = 1

// keptCard is the plaintext of a kept card.
type keptCard struct {
	PAN    []byte `cbor:"1,keyasint"`
	Expiry []byte `cbor:"2,keyasint,omitempty"`
	PSN    []byte `cbor:"3,keyasint,omitempty"`
}

func keptAAD(head []byte, p protocol.PaymentID) []byte {
	aad := append([]byte("coinop/vault/card/"), head...)
	return append(aad, p[:]...)
}

func (k Keys) seal(p protocol.PaymentID, c acquirer.Card) ([]byte, error) {
	in := k.all[0]
	body := keptCard{PAN: []byte(c.PAN.Reveal()), Expiry: []byte(c.Expiry.Reveal()), PSN: c.PSN}
	plain, err := protocol.Encode(body)
	if err != nil {
		return nil, ErrCard
	}
	defer func() { clear(plain); clear(body.PAN); clear(body.Expiry) }()
	head := append([]byte{keptVersion, byte(len(in.id))}, in.id...)
	return append(head, in.aead.Seal(nil, nil, plain, keptAAD(head, p))...), nil
}

func (k Keys) open(p protocol.PaymentID, kept []byte) (acquirer.Card, error) {
	if len(kept) < 2 || kept[0] != keptVersion || len(kept) < 2+int(kept[1]) {
		return acquirer.Card{}, ErrKept
	}
	head := kept[: 2+int(kept[1]) : 2+int(kept[1])]
	i := slices.IndexFunc(k.all, func(o key) bool { return o.id == string(head[2:]) })
	if i < 0 {
		return acquirer.Card{}, ErrKept
	}
	plain, err := k.all[i].aead.Open(nil, nil, kept[len(head):], keptAAD(head, p))
	if err != nil {
		return acquirer.Card{}, ErrKept
	}
	defer clear(plain)
	var body keptCard
	if err := protocol.Decode(plain, &body); err != nil {
		return acquirer.Card{}, ErrKept
	}
	defer func() { clear(body.PAN); clear(body.Expiry) }()
	c := acquirer.Card{PSN: body.PSN}
	if len(body.PAN) == 0 { // of a closed-loop card nothing need be kept: its account knows what it did
		return c, nil
	}
	if c.PAN, err = card.ParsePAN(string(body.PAN)); err != nil {
		return acquirer.Card{}, ErrKept
	}
	if len(body.Expiry) > 0 {
		if c.Expiry, err = card.ParseExpiry(string(body.Expiry)); err != nil {
			return acquirer.Card{}, ErrKept
		}
	}
	return c, nil
}
