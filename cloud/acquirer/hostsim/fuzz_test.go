package hostsim

import (
	"testing"
	"time"
)

// FuzzHandle: whatever comes over the wire, the bank lives and its books hold no more than was asked.
func FuzzHandle(f *testing.F) {
	f.Add(auth("000000001000"))
	f.Add(msg("0420", 4, "000000001000", 11, "1"))
	f.Add([]byte("0800"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		b := NewBank(Options{Behave: Magic})
		for range 2 {
			b.Handle(time.Unix(1_800_000_000, 0), frame)
			b.Refuse(frame)
		}
		for _, e := range b.Books() {
			if e.Held < 0 || e.Held+e.Captured > e.Asked {
				t.Fatalf("%+v", e)
			}
		}
	})
}
