package uplink

import "testing"

// FuzzFollow: however a stream of packets is cut into reads, it is judged the same, and no
// announcement above the limit passes.
func FuzzFollow(f *testing.F) {
	f.Add([]byte{0x30, 0x03, 1, 2, 3, 0xd0, 0x00}, uint8(1))
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		var whole, parts bounded
		first := whole.follow(b)
		var second error
		for step := int(cut%7) + 1; len(b) > 0 && second == nil; {
			n := min(step, len(b))
			second = parts.follow(b[:n])
			b = b[n:]
		}
		if (first == nil) != (second == nil) {
			t.Fatalf("at once %v, in parts %v", first, second)
		}
		if first == nil && whole.left > maxFrame {
			t.Fatalf("%d bytes announced", whole.left)
		}
	})
}
