package card

import (
	"fmt"
	"strings"
	"testing"
)

// FuzzTrack2: whatever a reader sends parses to something that prints masked, or to an error that
// does not quote it.
func FuzzTrack2(f *testing.F) {
	for _, s := range []string{"4761739001010119=30122010000000000000", ";4111111111111111=2512?", "4111111111111111D25121010000000F", "=", "", "4111"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		t2, err := ParseTrack2(s)
		if err != nil {
			if len(s) >= 12 && strings.Contains(err.Error(), s) {
				t.Fatalf("an error quotes a track: %v", err)
			}
			return
		}
		digits := t2.PAN().Reveal()
		for _, shown := range []string{fmt.Sprint(t2), fmt.Sprintf("%+v", t2), fmt.Sprintf("%#v", t2), fmt.Sprintf("%x", t2)} {
			if strings.Contains(shown, digits) {
				t.Fatalf("%q shows a number", shown)
			}
		}
	})
}

// FuzzTLV: BER-TLV of any bytes ends, in bounds.
func FuzzTLV(f *testing.F) {
	f.Add([]byte{0x9f, 0x26, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 0x5a, 0x02, 0x47, 0x61})
	f.Add([]byte{0x70, 0x81, 0x02, 0x5a, 0x00})
	f.Add([]byte{0x9f})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_ = EachTLV(b, func(_ Tag, value, whole []byte) {
			if n += len(whole); n > len(b) || len(value) > len(whole) {
				t.Fatalf("%d of %d bytes", n, len(b))
			}
		})
	})
}
