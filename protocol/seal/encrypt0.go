package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"

	"coinop/protocol"
)

// A COSE_Encrypt0 (RFC 9052 section 5.2) in the one form we write and accept:
//
//	16([ << {1: alg} >>, {? 4: kid, 5: iv, ? ticketLabel: ticket}, ciphertext ])
//
// with definite shortest lengths, keys in order and nothing else; so there is one encoding of a
// message and an unknown header, crit included, is refused.
const tagEncrypt0 = 0xd0

type headers struct{ kid, ticket []byte }

type encrypt0 struct {
	protected, iv, ciphertext []byte
	headers
}

// key is an AES-GCM key: 32 bytes in all our messages (A256GCM); 16 (A128GCM) for test vectors.
type key struct {
	aead      cipher.AEAD
	protected []byte // << {1: alg} >>
}

func newKey(b []byte) (*key, error) {
	alg := map[int]byte{16: 1, 32: 3}[len(b)] // RFC 9053 table 5; A192GCM is not offered
	if alg == 0 {
		return nil, fmt.Errorf("aes-gcm key of %d bytes", len(b))
	}
	block, err := aes.NewCipher(b)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &key{aead: aead, protected: []byte{0xa1, 0x01, alg}}, nil
}

func (k *key) seal(external, plaintext []byte, h headers) ([]byte, error) {
	var iv [12]byte
	rand.Read(iv[:]) // never fails: crypto/rand ends the process instead
	return k.sealIV(iv, external, plaintext, h)
}

func (k *key) sealIV(iv [12]byte, external, plaintext []byte, h headers) ([]byte, error) {
	size := len(plaintext) + len(h.kid) + len(h.ticket) + len(external) + 96
	buf := make([]byte, 0, 2*size)
	aad := k.aad(buf, external)
	out := append(aad[len(aad):], tagEncrypt0, 0x83)
	out = appendBytes(out, k.protected)
	n := byte(1)
	if h.kid != nil {
		n++
	}
	if h.ticket != nil {
		n++
	}
	out = append(out, 0xa0|n)
	if h.kid != nil {
		out = appendBytes(append(out, 0x04), h.kid)
	}
	out = appendBytes(append(out, 0x05), iv[:])
	if h.ticket != nil {
		out = appendBytes(append(out, 0x3a, 0x00, 0x01, 0x00, 0x00), h.ticket)
	}
	out = protocol.AppendHead(out, 2, uint64(len(plaintext)+k.aead.Overhead())) //nolint:gosec // a length
	if len(out)+len(plaintext)+k.aead.Overhead() > protocol.MaxMessage {
		return nil, fmt.Errorf("seal: message of %d bytes, at most %d", len(plaintext), protocol.MaxMessage)
	}
	return k.aead.Seal(out, iv[:], plaintext, aad), nil
}

func (k *key) open(external, msg []byte) ([]byte, error) {
	m, err := parse(msg)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(m.protected, k.protected) {
		return nil, fmt.Errorf("%w: algorithm", ErrSeal)
	}
	p, err := k.aead.Open(nil, m.iv, m.ciphertext, k.aad(nil, external))
	if err != nil {
		return nil, ErrSeal
	}
	return p, nil
}

// aad is the Enc_structure of RFC 9052 section 5.3.
func (k *key) aad(buf, external []byte) []byte {
	buf = append(buf, 0x83, 0x68)
	buf = append(buf, "Encrypt0"...)
	buf = appendBytes(buf, k.protected)
	return appendBytes(buf, external)
}

func parse(b []byte) (encrypt0, error) {
	var m encrypt0
	bad := func(what string) (encrypt0, error) { return encrypt0{}, fmt.Errorf("%w: %s", ErrSeal, what) }
	if len(b) > protocol.MaxMessage || len(b) < 3 || b[0] != tagEncrypt0 || b[1] != 0x83 {
		return bad("not a COSE_Encrypt0")
	}
	b = b[2:]
	var ok bool
	if m.protected, b, ok = takeBytes(b); !ok || len(b) == 0 {
		return bad("protected header")
	}
	pairs := b[0]
	if pairs < 0xa1 || pairs > 0xa3 {
		return bad("unprotected header")
	}
	b = b[1:]
	if len(b) > 0 && b[0] == 0x04 {
		if m.kid, b, ok = takeBytes(b[1:]); !ok {
			return bad("kid")
		}
		pairs--
	}
	if len(b) == 0 || b[0] != 0x05 {
		return bad("no iv")
	}
	if m.iv, b, ok = takeBytes(b[1:]); !ok || len(m.iv) != 12 {
		return bad("iv")
	}
	if pairs--; pairs == 0xa1 {
		if !bytes.HasPrefix(b, []byte{0x3a, 0x00, 0x01, 0x00, 0x00}) {
			return bad("unknown header")
		}
		if m.ticket, b, ok = takeBytes(b[5:]); !ok {
			return bad("ticket")
		}
		pairs--
	}
	if pairs != 0xa0 {
		return bad("unknown header")
	}
	if m.ciphertext, b, ok = takeBytes(b); !ok || len(b) != 0 {
		return bad("ciphertext")
	}
	return m, nil
}

func appendBytes(b, s []byte) []byte { return append(protocol.AppendHead(b, 2, uint64(len(s))), s...) }

// takeBytes reads a byte string in shortest form.
func takeBytes(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 || b[0]>>5 != 2 {
		return nil, nil, false
	}
	n, head := int(b[0]&0x1f), 1
	if n >= 24 {
		if n > 26 {
			return nil, nil, false
		}
		width := 1 << (n - 24)
		if len(b) < 1+width {
			return nil, nil, false
		}
		n, head = 0, 1+width
		for _, c := range b[1:head] {
			n = n<<8 | int(c)
		}
		if len(protocol.AppendHead(nil, 2, uint64(n))) != head {
			return nil, nil, false
		}
	}
	if n > len(b)-head {
		return nil, nil, false
	}
	return b[head : head+n : head+n], b[head+n:], true
}
