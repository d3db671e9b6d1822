package outlet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

func raw(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Frames as makers print them. Waveshare: wiki "Modbus RTU Relay" (development protocol); the answers of 01
// and 02 are readings of a board of that kind; 0F's answer is MODBUS Application Protocol V1.1b3, 6.11.
var frames = []struct {
	name      string
	r         Request
	to, from  string
	bits      uint32
	exception Exception
}{
	{"6.1 relays", Request{Address: 1, Function: readCoils, Count: 8}, "01 01 00 00 00 08 3D CC", "01 01 01 00 51 88", 0, 0},
	{"6.2 inputs", Request{Address: 1, Function: readInputs, Count: 8}, "01 02 00 00 00 08 79 CC", "01 02 01 20 A0 50", 0x20, 0},
	{"6.5 on", Request{Address: 1, Function: writeCoil, Bits: 1}, "01 05 00 00 FF 00 8C 3A", "01 05 00 00 FF 00 8C 3A", 0, 0},
	{"6.5 off", Request{Address: 1, Function: writeCoil}, "01 05 00 00 00 00 CD CA", "01 05 00 00 00 00 CD CA", 0, 0},
	{"6.11 all on", Request{Address: 1, Function: writeCoils, Count: 8, Bits: 0xFF}, "01 0F 00 00 00 08 01 FF BE D5", "01 0F 00 00 00 08 54 0D", 0, 0},
	{"flash on 700 ms", Request{Address: 1, Function: writeCoil, Flash: 700 * time.Millisecond}, "01 05 02 00 00 07 8D B0", "01 05 02 00 00 07 8D B0", 0, 0},
	{"flash on 800 ms", Request{Address: 1, Function: writeCoil, At: 1, Flash: 800 * time.Millisecond}, "01 05 02 01 00 08 9C 74", "01 05 02 01 00 08 9C 74", 0, 0},
}

func TestFrames(t *testing.T) {
	t.Parallel()
	for _, c := range frames {
		to, from := raw(t, c.to), raw(t, c.from)
		if got := c.r.Append(nil); !bytes.Equal(got, to) {
			t.Errorf("%s: % X, want %s", c.name, got, c.to)
		}
		if got, err := ParseRequest(to); got != c.r || err != nil {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if got := c.r.AppendAnswer(nil, c.bits); !bytes.Equal(got, from) {
			t.Errorf("%s: answer % X, want %s", c.name, got, c.from)
		}
		// Whole, after noise, after the answer to another, and with more behind.
		for _, before := range []string{"", "FF", "01", "01 05", "01 05 02 07 00 01 7D B3", "01 01 01"} {
			b := append(append(raw(t, before), from...), 0x55, 0xAA)
			if bits, n, err := c.r.Find(b); bits != c.bits || n != len(b)-2 || err != nil {
				t.Errorf("%s after %q: %X, %d, %v", c.name, before, bits, n, err)
			}
		}
		for n := range len(from) {
			if _, used, err := c.r.Find(from[:n]); used != 0 || err != nil {
				t.Errorf("%s: %d bytes are an answer", c.name, n)
			}
			spoiled := bytes.Clone(from)
			spoiled[n] ^= 1
			if _, used, _ := c.r.Find(spoiled); used != 0 {
				t.Errorf("%s: % X is an answer", c.name, spoiled)
			}
		}
		if _, n, err := c.r.Find(c.r.AppendException(nil, 2)); n != 5 || !errors.Is(err, Exception(2)) || !strings.Contains(err.Error(), "address") {
			t.Errorf("%s: %d, %v", c.name, n, err)
		}
	}
	if Exception(99).Error() != "the board says no (99)" {
		t.Error(Exception(99))
	}
	// 3.4 of the serial line: an answer of another board is none of ours.
	if _, n, _ := (Request{Address: 2, Function: readCoils, Count: 8}).Find(raw(t, "01 01 01 00 51 88")); n != 0 {
		t.Error("the answer of another")
	}
	// Longer than a board can count is the most it can; shorter is one.
	for d, want := range map[time.Duration]string{2 * time.Hour: "7fff", time.Millisecond: "0001", 54 * time.Minute: "7e90"} {
		if got := hex.EncodeToString(Request{Address: 1, Function: writeCoil, Flash: d}.Append(nil)[4:6]); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "01", "01 05 00 00 12 34", "01 05 00 00 FF 00 00", "01 05 02 00 00 00", "01 05 02 00 80 00", "01 05 00 40 FF 00",
		"01 01 00 00 00 00", "01 01 00 00 00 21", "01 0F 00 00 00 08 02 FF", "01 0F 00 00 00 08 01", "01 03 00 00 00 01", "01 0F 00 00 00 00 00",
	} {
		if r, err := ParseRequest(sealed(raw(t, s))); !errors.Is(err, errFrame) {
			t.Errorf("%s: %+v", s, r)
		}
	}
	if _, err := ParseRequest(raw(t, "01 05 00 00 FF 00 8C 3B")); !errors.Is(err, errFrame) {
		t.Error("a wrong checksum")
	}
}

// FuzzModbus: whatever comes, nothing breaks; what is a request is its own bytes again, and an answer is
// found only whole.
func FuzzModbus(f *testing.F) {
	for _, c := range frames {
		f.Add(raw(f, c.to))
		f.Add(raw(f, c.from))
		f.Add(c.r.AppendException(nil, 4))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseRequest(b); err == nil {
			again, err := ParseRequest(r.Append(nil))
			if err != nil || again != r {
				t.Fatalf("%+v became %+v, %v", r, again, err)
			}
			if _, n, err := r.Find(r.AppendAnswer(nil, 0xA5A5A5A5)); n == 0 || err != nil {
				t.Fatalf("%+v: its own answer is none: %v", r, err)
			}
		}
		for _, c := range frames {
			bits, n, err := c.r.Find(b)
			if n > len(b) || (n == 0 && (bits != 0 || err != nil)) || bits&^mask(8) != 0 {
				t.Fatalf("%s: %X %d %v", c.name, bits, n, err)
			}
		}
	})
}
