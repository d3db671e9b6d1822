package keyboard

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ev is one event as the kernel writes it.
func ev(kind, code uint16, value int32) []byte {
	b := make([]byte, size-8, size)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, code)
	return binary.NativeEndian.AppendUint32(b, uint32(value)) //nolint:gosec // as the kernel
}

func key(code uint16, values ...int32) (b []byte) {
	for _, v := range values {
		b = slices.Concat(b, ev(4, 4, int32(code)), ev(evKey, code, v), ev(evSyn, synReport, 0)) // MSC_SCAN comes before each
	}
	return b
}

func TestText(t *testing.T) {
	t.Parallel()
	shifted := func(code uint16) []byte { return slices.Concat(key(keyShiftL, 1), key(code, 1, 0), key(keyShiftL, 0)) }
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"digits and Enter":           {slices.Concat(key(2, 1, 0), key(11, 1, 0), key(keyEnter, 1, 0)), "10\r"},
		"Shift":                      {slices.Concat(shifted(6), shifted(30), key(30, 1, 0), shifted(53)), "%Aa?"},
		"the right Shift":            {slices.Concat(key(keyShiftR, 1), key(7, 1, 0), key(keyShiftR, 0), key(7, 1, 0)), "^6"},
		"held, it repeats":           {key(30, 1, 2, 2, 0), "a"},
		"keypad":                     {slices.Concat(key(79, 1, 0), key(82, 1, 0), key(keyKPEnter, 1, 0)), "10\r"},
		"Ctrl-] is GS":               {slices.Concat(key(keyCtrlL, 1), key(27, 1, 0), key(keyCtrlL, 0)), "\x1d"},
		"Alt and digits":             {slices.Concat(key(56, 1), key(79, 1, 0), key(56, 0), key(2, 1, 0)), "\x181"},
		"a key without a character":  {key(59, 1, 0), "\x18"},
		"locks type nothing":         {key(58, 1, 0), ""},
		"the kernel dropped some":    {slices.Concat(key(keyShiftL, 1), ev(evSyn, synDropped, 0), ev(evKey, 30, 1), ev(evSyn, synReport, 0), key(30, 1, 0)), "\x18a"},
		"half an event":              {key(30, 1)[:size+3], ""},
		"an event of another device": {ev(2, 8, 1), ""},
	} {
		for _, n := range []int{1, 7, size, len(c.b)} {
			var d Decoder
			var got []byte
			for chunk := range slices.Chunk(c.b, n) {
				got = d.Text(got, chunk)
			}
			if string(got) != c.want {
				t.Errorf("%s, %d bytes at a time: %q, want %q", name, n, got, c.want)
			}
		}
	}
}

// pipe is a Port that is read only.
type pipe struct{ *io.PipeReader }

func (pipe) Write([]byte) (int, error)        { return 0, errors.ErrUnsupported }
func (pipe) SetWriteDeadline(time.Time) error { return nil }

// TestRead: a short buffer gets all of it, in order, and an end is said.
func TestRead(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = w.Write(slices.Concat(key(keyShiftL, 1), key(30, 1, 0), key(keyShiftL, 0), key(31, 1, 0), key(keyEnter, 1, 0)))
		_ = w.CloseWithError(io.ErrClosedPipe)
	}()
	p := &port{Port: pipe{r}}
	var got []byte
	for b := make([]byte, 2); ; {
		n, err := p.Read(b)
		if got = append(got, b[:n]...); err != nil {
			break
		}
	}
	<-done
	if string(got) != "As\r" {
		t.Errorf("%q", got)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, path := range []string{t.TempDir() + "/absent", "/dev/null", t.TempDir()} {
		if _, err := Open(path); err == nil {
			t.Errorf("%s is a keyboard", path)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add(key(30, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d, e Decoder
		whole := d.Text(nil, b)
		var parts []byte
		for chunk := range slices.Chunk(b, 5) {
			parts = e.Text(parts, chunk)
		}
		if string(whole) != string(parts) || len(whole) > len(b)/size {
			t.Fatalf("%q in one, %q in parts", whole, parts)
		}
	})
}
