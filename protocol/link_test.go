package protocol

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

func linkOf(o Opened) Link { return Link{o.Device, o.Position, o.Prev} }

func TestRecordLink(t *testing.T) {
	t.Parallel()
	at := Reading{Wall: 5, Boot: BootID{4}, Mono: ms(7)}
	for _, device := range []DeviceID{"m1", DeviceID(strings.Repeat("a", 23)), DeviceID(strings.Repeat("b", 24)), DeviceID(strings.Repeat("c", 63))} {
		for _, seq := range []Seq{1, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64} {
			s, err := SealRecord(device, Position{Epoch: Epoch{1, 2}, Seq: seq - 1, Hash: Hash{9}}, Record{Lane: 2, At: at, Body: filled[VendResult]()})
			if err != nil {
				t.Fatal(err)
			}
			o, err := OpenRecord(s.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if l, err := RecordLink(s.Bytes); err != nil || l != linkOf(o) {
				t.Errorf("%s %d: %+v, %v; want %+v", device, seq, l, err, linkOf(o))
			}
		}
	}
}

func TestRecordLinkRefuses(t *testing.T) {
	t.Parallel()
	s, err := SealRecord("m1", Position{Epoch: Epoch{1}, Seq: 41, Hash: Hash{9}}, Record{Body: filled[VendResult]()})
	if err != nil {
		t.Fatal(err)
	}
	good := s.Bytes
	if _, err := RecordLink(good); err != nil {
		t.Fatal(err)
	}
	change := func(old, now string) []byte {
		if bytes.Count(good, []byte(old)) != 1 {
			t.Fatalf("%x is not there once", old)
		}
		return bytes.Replace(good, []byte(old), []byte(now), 1)
	}
	cases := map[string][]byte{
		"nothing":             nil,
		"an array":            append([]byte{0x8d}, good[1:]...),
		"another version":     change("\x01\x01\x02\x62m1", "\x01\x02\x02\x62m1"),
		"keys out of order":   change("\x01\x01\x02\x62m1", "\x02\x62m1\x01\x01"),
		"no name":             change("\x62m1", "\x60"),
		"no device's name":    change("\x62m1", "\x62M1"),
		"a name as bytes":     change("\x62m1", "\x42m1"),
		"a short epoch":       change("\x03\x50\x01", "\x03\x4f"),
		"sequence 0":          change("\x04\x18\x2a", "\x04\x00"),
		"a negative one":      change("\x04\x18\x2a", "\x04\x38\x2a"),
		"longer than needed":  change("\x04\x18\x2a", "\x04\x19\x00\x2a"),
		"one byte for 23":     change("\x04\x18\x2a", "\x04\x18\x17"),
		"a width there is no": change("\x04\x18\x2a", "\x04\x1c\x2a"),
		"a short hash":        change("\x05\x58\x20\x09", "\x05\x58\x1f"),
		"no body's kind":      change("\x04\x18\x2a", "\x04\x18\x2a\x04"),
	}
	for n := range 60 { // before the sixth key
		cases["cut off at "+string(rune('0'+n/10))+string(rune('0'+n%10))] = good[:n]
	}
	for name, b := range cases {
		if l, err := RecordLink(b); !errors.Is(err, ErrDecode) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
}

func BenchmarkRecordLink(b *testing.B) {
	s, err := SealRecord("bench", Position{Seq: 100_000}, Record{Sale: SaleID{1}, Body: DeviceEvent{Code: "bench", Detail: string(make([]byte, 200))}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("link", func(b *testing.B) {
		for b.Loop() {
			_, _ = RecordLink(s.Bytes)
		}
	})
	b.Run("record", func(b *testing.B) {
		for b.Loop() {
			_, _ = OpenRecord(s.Bytes)
		}
	})
}
