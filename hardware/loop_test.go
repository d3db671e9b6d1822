package hardware

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCMAC(t *testing.T) {
	t.Parallel()
	key := fromHex(t, "2b7e151628aed2a6abf7158809cf4f3c")
	msg := fromHex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for name, c := range map[string]struct {
		n    int
		want string
	}{
		"RFC 4493, 4, example 1": {0, "bb1d6929e95937287fa37d129b756746"},
		"RFC 4493, 4, example 2": {16, "070a16b46b4d4144f79bdd9dd04a287c"},
		"RFC 4493, 4, example 3": {40, "dfa66747de9ae63030ca32611497c827"},
		"RFC 4493, 4, example 4": {64, "51f0bebf7e3b9d92fc49741779363cfe"},
	} {
		if got := hex.EncodeToString(CMAC(key, nil, msg[:c.n])); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	k, err := ParseLoopKeys([]byte("# of the operator\nmac 2b7e151628aed2a6abf7158809cf4f3c\nclassic 4 A0A1A2A3A4A5 # block, key A\ndesfire F00001 0 1 000102030405060708090A0B0C0D0E0F\n"))
	if err != nil {
		t.Fatal(err)
	}
	if k.Block != 4 || k.Classic.Len() != 6 || k.DESFire.Len() != 16 || k.File != 1 || k.AID != [3]byte{0xF0, 0, 1} {
		t.Errorf("%+v", k)
	}
	if s := fmt.Sprintf("%v %+v %#v %x", k, k, k, k); strings.Contains(strings.ToLower(s), "2b7e") || strings.Contains(s, "43 126") || strings.Contains(strings.ToLower(s), "a0a1") {
		t.Errorf("keys print: %s", s)
	}
	uid := []byte{4, 1, 2, 3, 4, 5, 6}
	ref := k.Reference(0x1234567890, 7, uid)
	if len(ref) != referenceSize {
		t.Fatalf("%d bytes", len(ref))
	}
	c, err := k.Open(ref, uid)
	if err != nil || c.ID != "1234567890" || c.Counter != 7 || !c.Verified {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := k.Open(ref, uid[:4]); !errors.Is(err, ErrWrongMAC) {
		t.Errorf("on another chip: %v", err)
	}
	for i := range ref {
		bad := append([]byte(nil), ref...)
		bad[i] ^= 1
		want := ErrWrongMAC
		if i == 0 {
			want = ErrNoReference
		}
		if _, err := k.Open(bad, uid); !errors.Is(err, want) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for _, short := range [][]byte{nil, ref[:15], make([]byte, 16)} {
		if _, err := k.Open(short, uid); !errors.Is(err, ErrNoReference) {
			t.Errorf("%x: %v", short, err)
		}
	}
	for _, bad := range []string{"", "classic 4 FFFFFFFFFFFF", "mac 00", "mac 2b7e151628aed2a6abf7158809cf4f3c\nclassic 7 FFFFFFFFFFFF", "mac 2b7e151628aed2a6abf7158809cf4f3c x", "desfire F0 0 1 00", "key"} {
		if _, err := ParseLoopKeys([]byte(bad)); err == nil || strings.Contains(err.Error(), "2b7e") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzLoopKeys(f *testing.F) {
	f.Add([]byte("mac 2b7e151628aed2a6abf7158809cf4f3c\nclassic 4 FFFFFFFFFFFF\n"), []byte{1, 2})
	f.Fuzz(func(t *testing.T, text, ref []byte) {
		k, err := ParseLoopKeys(text)
		if err != nil {
			return
		}
		_, _ = k.Open(ref, []byte{1, 2, 3, 4})
		if c, err := k.Open(k.Reference(5, 6, ref), ref); err != nil || c.ID != "0000000005" {
			t.Fatal(err)
		}
	})
}
