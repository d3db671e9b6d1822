package protocol

import (
	"bytes"
	"errors"
	"testing"
)

// TestFrames: whatever the sizes of the reads, lengths are followed and one too long is refused.
func TestFrames(t *testing.T) {
	t.Parallel()
	const most = MaxMessage + 1024
	packet := func(n int) []byte {
		head := []byte{0x30}
		for d := n; ; {
			c := byte(d % 128)
			if d /= 128; d > 0 {
				head = append(head, c|0x80)
				continue
			}
			return append(append(head, c), make([]byte, n)...)
		}
	}
	good := bytes.Join([][]byte{packet(0), packet(1), packet(127), packet(128), packet(20_000), packet(most), packet(2)}, nil)
	for _, chunk := range []int{1, 2, 3, 7, 1000, len(good)} {
		var f Frames
		for p := good; len(p) > 0; p = p[min(chunk, len(p)):] {
			if err := f.Follow(p[:min(chunk, len(p))], most); err != nil {
				t.Fatalf("chunks of %d: %v", chunk, err)
			}
		}
		if f.left != 0 || len(f.head) != 0 {
			t.Fatalf("chunks of %d: %d bytes left over", chunk, f.left)
		}
	}
	for name, bad := range map[string][]byte{
		"one more":     packet(most + 1)[:5],
		"256 MiB":      {0x30, 0xff, 0xff, 0xff, 0x7f},
		"never ending": {0x30, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		if err := new(Frames).Follow(bad, most); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzFrames: however a stream of packets is cut into reads, it is judged the same, and no
// announcement above the limit passes.
func FuzzFrames(f *testing.F) {
	const most = 1000
	f.Add([]byte{0x30, 0x03, 1, 2, 3, 0xd0, 0x00}, uint8(1))
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		var whole, parts Frames
		first := whole.Follow(b, most)
		var second error
		for step := int(cut%7) + 1; len(b) > 0 && second == nil; {
			n := min(step, len(b))
			second = parts.Follow(b[:n], most)
			b = b[n:]
		}
		if (first == nil) != (second == nil) {
			t.Fatalf("at once %v, in parts %v", first, second)
		}
		if first == nil && whole.left > most {
			t.Fatalf("%d bytes announced", whole.left)
		}
	})
}
