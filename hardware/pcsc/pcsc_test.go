package pcsc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"coinop/hardware"
	"coinop/protocol/money"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const name = "ACS ACR122U 00 00"

// slots is the bytes of all readers' states.
func slots(ss ...Slot) []byte {
	b := make([]byte, statesSize)
	for i, s := range ss {
		at := b[i*stateSize:]
		copy(at, s.Name)
		binary.LittleEndian.PutUint32(at[128:], s.Events)
		state := uint32(0x02)
		if s.Present {
			state = 0x34
		}
		binary.LittleEndian.PutUint32(at[132:], state)
		copy(at[140:], s.ATR)
		binary.LittleEndian.PutUint32(at[176:], uint32(len(s.ATR)))
	}
	return b
}

// Requests, byte by byte (pcsc-lite 1.9.9, winscard_msg.h).
func TestRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"CMD_VERSION", request(cmdVersion, numbers(major, minor, 0)), "0c00000011000000 040000000400000000000000"},
		{"SCARD_ESTABLISH_CONTEXT", request(cmdEstablish, numbers(2, 0, 0)), "0c00000001000000 020000000000000000000000"},
		{"CMD_WAIT_READER_STATE_CHANGE", request(cmdWait, nil), "0000000013000000"},
		{"CMD_STOP_WAITING_READER_STATE_CHANGE", request(cmdStop, nil), "0000000014000000"},
		{"SCARD_CONNECT", connectRequest(7, "R"), "9800000004000000 07000000 52" + strings.Repeat("00", 127) + "01000000 03000000 00000000 00000000 00000000"},
		{"SCARD_CONNECT, a long name", connectRequest(7, strings.Repeat("R", 200)), "9800000004000000 07000000" + strings.Repeat("52", 127) + "00 01000000 03000000 00000000 00000000 00000000"},
	} {
		if got := hex.EncodeToString(c.got); got != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestParseSlots(t *testing.T) {
	t.Parallel()
	got, err := ParseSlots(slots(Slot{Name: name, Events: 3, Present: true, ATR: []byte{0x3B, 0}}, Slot{}, Slot{Name: "B"}))
	if err != nil || len(got) != 2 || got[0].Name != name || !got[0].Present || got[0].Events != 3 || !bytes.Equal(got[0].ATR, []byte{0x3B, 0}) || got[1].Present {
		t.Errorf("%+v %v", got, err)
	}
	long := slots(Slot{Name: name, Present: true, ATR: make([]byte, 34)})
	unended := bytes.Repeat([]byte{'x'}, statesSize)
	for _, bad := range [][]byte{nil, make([]byte, statesSize-1), long, unended} {
		if _, err := ParseSlots(bad); !errors.Is(err, errBody) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

type rig struct {
	s   State
	now time.Duration
	got []string
	end error
}

func (r *rig) in(in any) {
	s, o := r.s.Step(r.now, in)
	r.s = s
	for _, a := range o.Do {
		switch e := a.Emit.(type) {
		case nil:
			r.got = append(r.got, fmt.Sprintf("> %X", binary.LittleEndian.Uint32(a.Write[4:])))
		case hardware.CardFailed:
			r.got = append(r.got, e.Reason)
		case hardware.Health:
			r.got = append(r.got, e.State.String())
		default:
			r.got = append(r.got, strings.TrimPrefix(fmt.Sprintf("%T", a.Emit), "hardware."))
		}
	}
	if o.End != nil {
		r.end = o.End
	}
}

func (r *rig) pcscd(b []byte) { r.in(hardware.Bytes{B: bytes.Clone(b)}) }

func (r *rig) want(t *testing.T, want ...string) {
	t.Helper()
	if strings.Join(r.got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", r.got, want)
	}
	r.got = nil
}

var signal = make([]byte, signalSize)

func ready(t *testing.T) *rig {
	t.Helper()
	r := &rig{s: NewState(Config{Name: "ACR122U", Currency: money.EUR})}
	r.in(hardware.Opened{})
	r.pcscd(numbers(major, minor, 0))
	r.pcscd(numbers(2, 7, 0))
	r.pcscd(slots(Slot{Name: name}))
	r.want(t, "> 11", "> 1", "> 13", "ready")
	return r
}

// insert has a card put in, up to the wish to connect it.
func (r *rig) insert(t *testing.T) {
	t.Helper()
	r.in(activate{time.Minute})
	r.pcscd(signal)
	r.pcscd(slots(Slot{Name: name, Events: 1, Present: true, ATR: []byte{0x3B}}))
	r.pcscd(signal)
	r.want(t, "> 13", "> 14", "> 4")
}

func connected(result uint32) []byte {
	return append(make([]byte, connectSize-12), numbers(9, 1, result)...)
}

func transmitted(result uint32, answer ...byte) []byte {
	return append(numbers(9, 1, 16, 5, 0, 0, uint32(len(answer)), result), answer...) //nolint:gosec // short
}

func TestMachine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, reason string
		result       uint32
		ends         bool
	}{
		{"removed", "card_error", resultRemoved, false},
		{"mute", "card_error", resultMute, false},
		{"reset by another program", "card_error", resultReset, false},
		{"reader unavailable", "reader_error", resultAway, false},
		{"another program has the card", "reader_error", resultSharing, false},
		{"service stopped", "reader_error", resultStopped, true},
		{"what is not known", "reader_error", 0x801000FF, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := ready(t)
			r.insert(t)
			r.pcscd(connected(c.result))
			want := []string{c.reason, "> 13"}
			if c.ends {
				want = want[:1]
			}
			r.want(t, want...)
			r = ready(t)
			r.insert(t)
			r.pcscd(connected(resultOK))
			r.pcscd(transmitted(c.result))
			if want[0] = c.reason; !c.ends {
				want[1] = "> 6"
			}
			r.want(t, append([]string{"> 9"}, want...)...)
			if (r.end != nil) != c.ends {
				t.Error(r.end)
			}
		})
	}
	t.Run("reader unplugged and plugged in", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{time.Minute})
		r.pcscd(signal)
		r.pcscd(slots())
		r.in(activate{time.Minute})
		r.pcscd(signal)
		r.pcscd(slots(Slot{Name: name}))
		r.want(t, "> 13", "reader_error", "absent", "reader_error", "> 13", "ready")
	})
	t.Run("byte by byte, two answers in one read", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{time.Minute})
		all := append(bytes.Clone(signal), slots(Slot{Name: name, Events: 1, Present: true})...)
		r.pcscd(all) // both at once
		r.want(t, "> 13", "> 14")
		for _, x := range append(append(bytes.Clone(signal), connected(resultOK)...), transmitted(resultOK, 1, 2, 3, 4, 0x90, 0)...) {
			r.pcscd([]byte{x})
		}
		r.want(t, "> 4", "> 9", "CardRead", "> 6")
	})
	t.Run("taken out and put in between two looks", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.insert(t)
		r.pcscd(connected(resultOK))
		r.pcscd(transmitted(resultOK, 1, 2, 3, 4, 0x90, 0))
		r.pcscd(numbers(9, 0, 0))
		r.in(activate{time.Minute})
		r.pcscd(slots(Slot{Name: name, Events: 3, Present: true}))
		r.want(t, "> 9", "CardRead", "> 6", "> 13", "CardRemoved", "> 14")
	})
	t.Run("canceled while it was read: the next activation has it", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.insert(t)
		r.in(cancel{})
		r.pcscd(connected(resultOK))
		r.pcscd(transmitted(resultOK, 1, 2, 3, 4, 0x90, 0))
		r.pcscd(numbers(9, 0, 0))
		r.pcscd(slots(Slot{Name: name, Events: 1, Present: true}))
		r.in(activate{time.Minute})
		r.want(t, "> 9", "> 6", "> 13", "> 14")
	})
	t.Run("nonsense", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.insert(t)
		r.pcscd(connected(resultOK))
		r.pcscd(transmitted(resultOK, 0x90))
		r.want(t, "> 9", "card_error", "> 6")
		r = ready(t)
		r.insert(t)
		r.pcscd(connected(resultOK))
		r.pcscd(numbers(9, 1, 16, 5, 0, 0, 0xFFFFFFFF, 0))
		if !errors.Is(r.end, errBody) {
			t.Error(r.end)
		}
		r = &rig{s: NewState(Config{Currency: money.EUR})}
		r.in(hardware.Opened{})
		r.pcscd(numbers(3, 0, 0))
		if !errors.Is(r.end, errVersion) {
			t.Error(r.end)
		}
	})
	t.Run("pcscd hangs", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{time.Hour})
		r.now += askEvery
		r.in(hardware.Wake{})
		r.now += answerTime
		r.in(hardware.Wake{})
		r.want(t, "> 14", "reader_error")
		if !errors.Is(r.end, errSilent) {
			t.Error(r.end)
		}
	})
	t.Run("asked whether it is there", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.now += askEvery
		r.in(hardware.Wake{})
		r.pcscd(signal)
		r.pcscd(slots(Slot{Name: name}))
		r.want(t, "> 14", "> 13")
	})
	t.Run("gone while armed", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.insert(t)
		r.in(hardware.Closed{})
		r.in(activate{time.Minute})
		r.want(t, "reader_error", "reader_error")
	})
}

// FuzzMachine: whatever pcscd says, in whatever pieces, an activation has one answer at most, and nothing breaks.
func FuzzMachine(f *testing.F) {
	f.Add(append(append(numbers(major, minor, 0), numbers(2, 7, 0)...), slots(Slot{Name: name, Present: true, ATR: []byte{0x3B}})...), 100)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = min(max(size, 1), 4096)
		r := &rig{s: NewState(Config{Currency: money.EUR})}
		r.in(hardware.Opened{})
		r.in(activate{time.Minute})
		for len(b) > 0 && r.end == nil {
			n := min(size, len(b))
			r.pcscd(b[:n])
			b = b[n:]
		}
		r.in(hardware.Closed{})
		answers := 0
		for _, g := range r.got {
			if g == "CardRead" || strings.HasSuffix(g, "_error") || g == "unsupported" {
				answers++
			}
		}
		if answers != 1 {
			t.Fatalf("%d answers: %q", answers, r.got)
		}
	})
}
