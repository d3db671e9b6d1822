package seal

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestExchange: circl's exchange is RFC 7748's (section 6.1, the numbers as Go's own tests have them) and
// the standard library's, and refuses what that refuses.
func TestExchange(t *testing.T) {
	t.Parallel()
	type pair struct{ private, peer []byte }
	pairs := []pair{{
		unhex(t, "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"),
		unhex(t, "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"),
	}}
	for range 200 {
		a, err1 := ecdh.X25519().GenerateKey(rand.Reader)
		b, err2 := ecdh.X25519().GenerateKey(rand.Reader)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		public := b.PublicKey().Bytes()
		pairs = append(pairs, pair{a.Bytes(), public})
		top := bytes.Clone(public)
		top[31] |= 0x80 // which is masked
		pairs = append(pairs, pair{a.Bytes(), top})
	}
	for i, p := range pairs {
		k, err1 := ecdh.X25519().NewPrivateKey(p.private)
		peer, err2 := ecdh.X25519().NewPublicKey(p.peer)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		want, err1 := k.ECDH(peer)
		got, err2 := newExchanger(k).ECDH(peer)
		if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d: %x, want %x (%v %v)", i, got, want, err1, err2)
		}
		if i == 0 && !bytes.Equal(got, unhex(t, "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")) {
			t.Errorf("RFC 7748: %x", got)
		}
		for _, bad := range []string{
			"0000000000000000000000000000000000000000000000000000000000000000",
			"0100000000000000000000000000000000000000000000000000000000000000",
			"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		} {
			low, err := ecdh.X25519().NewPublicKey(unhex(t, bad))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := newExchanger(k).ECDH(low); err == nil {
				t.Fatalf("a secret with %s: %x", bad, got)
			}
		}
	}
	p, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newExchanger(k).ECDH(p.PublicKey()); err == nil {
		t.Error("with a key of another curve")
	}
}
