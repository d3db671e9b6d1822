package mdb

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
)

// teletype is a port whose other end is a script.
type teletype struct {
	in  io.Reader
	out bytes.Buffer
}

func (t *teletype) Read(b []byte) (int, error)       { return t.in.Read(b) }
func (t *teletype) Write(b []byte) (int, error)      { return t.out.Write(b) }
func (t *teletype) SetWriteDeadline(time.Time) error { return nil }
func (t *teletype) Close() error                     { return nil }

func atQibixx(p hardware.Port) *adapterMaster {
	return &adapterMaster{Port: p, now: hardware.Since(), t: &qibixxMaster{}}
}

// TestQibixxMasterWrites: blocks of the bus as the adapter's requests (docs.qibixx.com, api-generic-master).
func TestQibixxMasterWrites(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ words, want string }{
		{"14* 01 15", "R,14,01\r\n"}, // the example there: READER ENABLE
		{"0B* 0B", "R,0B\r\n"},
		{"0C* FF FF FF FF 08", "R,0C,FFFFFFFF\r\n"},
		{"0F* 02 07 18", "R,0F,0207\r\n"},
		{"00", ""}, // ACK: the adapter has said it
		{"FF", ""},
		{"AA", ""},
		{"0B* 0C", ""}, // no block of ours
	} {
		far := &teletype{}
		m := atQibixx(far)
		b := Mark(wire(t, c.words))
		if n, err := m.Write(b); n != len(b) || err != nil || far.out.String() != c.want {
			t.Errorf("%s: %q, want %q (%d, %v)", c.words, far.out.String(), c.want, n, err)
		}
	}
	far := &teletype{}
	m := atQibixx(far)
	if _, err := m.Write(Mark([]Word{Break})); err != nil || far.out.String() != "R,RESET\r\n" {
		t.Errorf("%q %v", far.out.String(), err)
	}
}

// one gives its bytes one by one.
type one struct{ io.Reader }

func (o one) Read(b []byte) (int, error) { return o.Reader.Read(b[:min(1, len(b))]) }

// TestQibixxMasterReads: answers as words, whatever comes between them.
func TestQibixxMasterReads(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"ack":                  {"m,ACK\r\np,ACK\r\n", "00*"},
		"just reset":           {"m,ACK\r\np,00\r\n", "00 00*"},
		"a coin":               {"m,ACK\r\np,521E\r\n", "52 1E 70*"},
		"small letters":        {"m,ack\np,521e\n", "52 1E 70*"},
		"nobody answers":       {"m,ACK\r\np,NACK\r\n", ""},
		"of another time":      {"p,521E\r\nm,ACK\r\np,ACK\r\n", "00*"},
		"never the master":     {"m,NACK\r\np,521E\r\n", ""},
		"half a line":          {"m,ACK\r\np,52", ""},
		"an odd number":        {"m,ACK\r\np,521\r\n", ""},
		"no hex":               {"m,ACK\r\np,52G0\r\n", ""},
		"nothing":              {"m,ACK\r\np,\r\n", ""},
		"too long for a block": {"m,ACK\r\np," + strings.Repeat("00", 36) + "\r\np,ACK\r\n", "00*"},
		"noise":                {"m,ACK\r\nr,ACK\r\n\xfe\xff\x00\r\n" + strings.Repeat("x", 500) + "\r\np,ACK\r\n", "00*"},
		"two in one":           {"m,ACK\r\np,00\r\np,ACK\r\n", "00 00* 00*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, in := range []io.Reader{strings.NewReader(c.text), one{strings.NewReader(c.text)}} {
				m := atQibixx(&teletype{in: in})
				got, err := io.ReadAll(io.Reader(readerOf(m.Read)))
				u := Unmark{Peripheral: true}
				if s := text(u.Add(got)); s != c.want || err != nil {
					t.Errorf("%q, want %q (%v)", s, c.want, err)
				}
			}
		})
	}
}

type readerOf func([]byte) (int, error)

func (f readerOf) Read(b []byte) (int, error) { return f(b) }

func FuzzQibixxMaster(f *testing.F) {
	f.Add([]byte("m,ACK\r\np,521E\r\np,NACK\r\np,ACK\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		q := &qibixxMaster{}
		m := &adapterMaster{Port: &teletype{in: bytes.NewReader(in)}, now: hardware.Since(), t: q}
		buf := make([]byte, 7)
		var all []byte
		for {
			n, err := m.Read(buf)
			all = append(all, buf[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if cap(q.lines.line) > 4*textLine {
				t.Fatalf("a line of %d is kept", cap(q.lines.line))
			}
		}
		// What comes out are whole blocks of a peripheral's.
		u := Unmark{Peripheral: true}
		var block []Word
		for _, w := range u.Add(all) {
			if block = append(block, w); w&Mode != 0 {
				if _, err := ReadPeripheral(block); err != nil {
					t.Fatalf("%s: %v", text(block), err)
				}
				block = nil
			}
		}
		if len(block) > 0 || u.Lost > 0 || slices.Contains(block, Break) {
			t.Fatalf("half a block: %s", text(block))
		}
	})
}
