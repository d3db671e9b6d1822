package pn532

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"periph.io/x/conn/v3/i2c/i2ctest"

	"coinop/hardware"
	"coinop/protocol/money"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// frames are exchanges of UM0701-02 and of its commands' layouts, sums and all.
var frames = []struct {
	name, wire string
	tfi        byte
	data       string
}{
	{"7.2.2, GetFirmwareVersion", "00 00 FF 02 FE D4 02 2A 00", tfiHost, "02"},
	{"7.2.2, firmware 1.6", "00 00 FF 06 FA D5 03 32 01 06 07 E8 00", tfiChip, "03 32 01 06 07"},
	{"7.2.10, SAMConfiguration, normal, 1 s", "00 00 FF 05 FB D4 14 01 14 01 02 00", tfiHost, "14 01 14 01"},
	{"7.2.10, done", "00 00 FF 02 FE D5 15 16 00", tfiChip, "15"},
	{"7.3.5, InListPassiveTarget", "00 00 FF 04 FC D4 4A 01 00 E1 00", tfiHost, "4A 01 00"},
	{"7.3.5, none", "00 00 FF 03 FD D5 4B 00 E0 00", tfiChip, "4B 00"},
	{"7.3.5, a MIFARE Classic", "00 00 FF 0C F4 D5 4B 01 01 00 04 08 04 DE AD BE EF 96 00", tfiChip, "4B 01 01 00 04 08 04 DE AD BE EF"},
	{"7.3.8, authentication A of block 4", "00 00 FF 0F F1 D4 40 01 60 04 FF FF FF FF FF FF DE AD BE EF 55 00", tfiHost, "40 01 60 04 FF FF FF FF FF FF DE AD BE EF"},
	{"7.3.8, done", "00 00 FF 03 FD D5 41 00 EA 00", tfiChip, "41 00"},
	{"7.3.8, refused", "00 00 FF 03 FD D5 41 14 D6 00", tfiChip, "41 14"},
	{"7.3.8, read of block 4", "00 00 FF 05 FB D4 40 01 30 04 B7 00", tfiHost, "40 01 30 04"},
	{"7.3.8, a value block as bytes", "00 00 FF 13 ED D5 41 00 E8 03 00 00 17 FC FF FF E8 03 00 00 04 FB 04 FB 05 00", tfiChip, "41 00 E8 03 00 00 17 FC FF FF E8 03 00 00 04 FB 04 FB"},
	{"7.3.8, an APDU", "00 00 FF 17 E9 D4 40 01 00 A4 04 00 0E 32 50 41 59 2E 53 59 53 2E 44 44 46 30 31 00 8F 00", tfiHost, "40 01 00 A4 04 00 0E 32 50 41 59 2E 53 59 53 2E 44 44 46 30 31 00"},
	{"6.2.1.2, extended", "00 00 FF FF FF 01 01 FE D5" + strings.Repeat("00", 256) + "2B 00", tfiChip, strings.Repeat("00", 256)},
}

func TestFrames(t *testing.T) {
	t.Parallel()
	for _, c := range frames {
		raw, data := unhex(t, c.wire), unhex(t, c.data)
		if got := Encode(Frame{Kind: Information, TFI: c.tfi, Data: data}); !bytes.Equal(got, raw) {
			t.Errorf("%s: wrote %X", c.name, got)
		}
		var d Decoder
		for _, x := range raw { // byte by byte
			d.Add([]byte{x})
			if f, ok, err := d.Next(); ok && (err != nil || f.TFI != c.tfi || !bytes.Equal(f.Data, data)) {
				t.Errorf("%s: read %+v, %v", c.name, f, err)
			}
		}
		if d.Skipped > 0 || len(d.buf) > 1 {
			t.Errorf("%s: %d bytes skipped, %d left", c.name, d.Skipped, len(d.buf))
		}
		for i := 3; i < len(raw)-1; i++ { // every byte between start and postamble matters
			bad := bytes.Clone(raw)
			bad[i] ^= 0x10
			var d Decoder
			d.Add(bad)
			if f, ok, err := d.Next(); ok && err == nil && f.Kind == Information {
				t.Errorf("%s with byte %d damaged: %+v", c.name, i, f)
			}
		}
	}
	for name, c := range map[string]struct {
		wire string
		want Frame
		err  error
	}{
		"6.2.1.3, ACK":               {"00 00 FF 00 FF 00", Frame{Kind: ACK}, nil},
		"6.2.1.4, NACK":              {"00 00 FF FF 00 00", Frame{Kind: NACK}, nil},
		"6.2.1.5, error":             {"00 00 FF 01 FF 7F 81 00", Frame{Kind: Error}, nil},
		"6.2.1.1, length's checksum": {"00 00 FF 02 FF D4 02 2A 00", Frame{}, ErrSum},
		"6.2.1.2, 4 kB":              {"00 00 FF FF FF 10 00 F0", Frame{}, ErrLength},
		"noise before":               {"55 55 00 12 34 00 00 FF 00 FF 00", Frame{Kind: ACK}, nil},
	} {
		var d Decoder
		d.Add(unhex(t, c.wire))
		f, ok, err := d.Next()
		if !ok || f.Kind != c.want.Kind || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v %v %v", name, f, ok, err)
		}
		if err == nil && name[0] == '6' && !bytes.Equal(Encode(f), unhex(t, c.wire)) {
			t.Errorf("%s: back to %X", name, Encode(f))
		}
	}
}

func TestParseTargets(t *testing.T) {
	t.Parallel()
	two := unhex(t, "02 01 0004 08 04 DEADBEEF 02 0344 20 07 04112233445566 06 75778102 80")
	ts, err := ParseTargets(two)
	if err != nil || len(ts) != 2 || !ts[0].classic() || ts[0].layer4() || !ts[1].layer4() || hex.EncodeToString(ts[1].ATS) != "7577810280" || len(ts[1].UID) != 7 {
		t.Errorf("%+v %v", ts, err)
	}
	for n := range two {
		if _, err := ParseTargets(two[:n]); err == nil && n != len(two)-6 { // no ATS where the chip was told not to ask for it
			t.Errorf("%d bytes were taken", n)
		}
	}
	for _, bad := range []string{"", "03", "00 00", "01 01 0004 08 05 DEADBEEF00", "01 01 0004 20 04 DEADBEEF 00"} {
		if _, err := ParseTargets(unhex(t, bad)); !errors.Is(err, errTarget) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestSevenByteUID: a MIFARE Classic with a longer number is authenticated by its last four bytes.
func TestSevenByteUID(t *testing.T) {
	t.Parallel()
	keys, err := hardware.ParseLoopKeys([]byte("mac 00000000000000000000000000000000\nclassic 8 FFFFFFFFFFFF\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := classicTalk{keys: keys, uid: unhex(t, "04112233445566")}
	if send, _ := c.next(nil); hex.EncodeToString(send) != "6008ffffffffffff33445566" {
		t.Errorf("%x", send)
	}
	if send, _ := c.next(nil); hex.EncodeToString(send) != "3008" {
		t.Errorf("%x", send)
	}
	if _, err := c.next(make([]byte, 15)); !errors.Is(err, errNonsense) {
		t.Error(err)
	}
}

func FuzzDecoder(f *testing.F) {
	for _, c := range frames {
		f.Add(unhex(f, c.wire), 7)
	}
	f.Add(unhex(f, "00 00 FF 00 FF 00 00 00 FF FF 00 00 00 00 FF 01 FF 7F 81 00"), 4)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		cut = min(max(cut, 0), len(b))
		var got, want []string
		read := func(d *Decoder, out *[]string) {
			for {
				fr, ok, err := d.Next()
				if !ok {
					return
				}
				*out = append(*out, fmt.Sprintf("%X %v", fr, err))
				_, _ = ParseTargets(fr.Data)
			}
		}
		var whole, parts Decoder
		whole.Add(b)
		read(&whole, &want)
		parts.Add(b[:cut])
		read(&parts, &got)
		parts.Add(b[cut:])
		read(&parts, &got)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("cut at %d: %v, want %v", cut, got, want)
		}
	})
}

// FuzzTalk gives a card's answers to both talks: whatever it says, they end, and take nothing unproven.
func FuzzTalk(f *testing.F) {
	f.Add([]byte{2, 0x91, 0xAF, 2, 0x91, 0xAF, 2, 0x91, 0, 2, 0x91, 0, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0x91, 0xAF})
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := hardware.ParseLoopKeys([]byte("mac 00000000000000000000000000000000\nclassic 4 FFFFFFFFFFFF\ndesfire F00001 0 1 00000000000000000000000000000000\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []talk{&classicTalk{keys: keys, uid: []byte{1, 2, 3, 4}}, &desfireTalk{keys: keys, random: func([]byte) {}}} {
			rest, answer := b, []byte(nil)
			for n := 0; ; n++ {
				send, err := k.next(answer)
				if err != nil {
					break
				}
				if send == nil {
					if _, ok := k.(*desfireTalk); ok {
						t.Fatal("a card without the key was believed")
					}
					break
				}
				if n > 20 {
					t.Fatal("the talk does not end")
				}
				answer = nil
				if len(rest) > 0 {
					l := min(int(rest[0]), len(rest)-1)
					answer, rest = rest[1:1+l], rest[1+l:]
				}
			}
		}
	})
}

// rig is the machine, with what it writes and tells.
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
		if a.Emit != nil {
			r.got = append(r.got, strings.TrimPrefix(fmt.Sprintf("%T", a.Emit), "hardware."))
			continue
		}
		f, _, _ := decodeOne(a.Write)
		switch f.Kind {
		case ACK:
			r.got = append(r.got, "> ACK")
		case NACK:
			r.got = append(r.got, "> NACK")
		case Information, Error:
			r.got = append(r.got, fmt.Sprintf("> %X", f.Data[0]))
		}
	}
	if o.End != nil {
		r.end = o.End
	}
}

func (r *rig) after(d time.Duration) {
	for end := r.now + d; r.end == nil; {
		at := r.s.wake()
		if at == 0 || at > end {
			r.now = end
			return
		}
		r.now = max(r.now, at)
		r.in(hardware.Wake{})
	}
}

func (r *rig) chip(data ...byte) {
	r.in(hardware.Bytes{B: append(bytes.Clone(ackFrame), Encode(Frame{Kind: Information, TFI: tfiChip, Data: data})...)})
}

func (r *rig) want(t *testing.T, want ...string) {
	t.Helper()
	if strings.Join(r.got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", r.got, want)
	}
	r.got = nil
}

func ready(t *testing.T) *rig {
	t.Helper()
	r := &rig{s: NewState(Config{Device: "reader", Currency: money.EUR})}
	r.in(hardware.Opened{})
	r.chip(cmdSAM + 1)
	r.chip(cmdVersion+1, 0x32, 1, 6, 7)
	r.chip(cmdRF + 1)
	r.want(t, "> 14", "> 2", "Health", "> 32", "Health")
	return r
}

func TestMachine(t *testing.T) {
	t.Parallel()
	t.Run("silent at the start", func(t *testing.T) {
		t.Parallel()
		r := &rig{s: NewState(Config{Currency: money.EUR})}
		r.in(hardware.Opened{})
		r.after(time.Minute)
		r.want(t, "> 14", "> 14", "> 14")
		if !errors.Is(r.end, errSilent) || r.now != 3*ackTime {
			t.Errorf("ended %v at %v", r.end, r.now)
		}
	})
	t.Run("wakes the chip on a UART, not at I2C", func(t *testing.T) {
		t.Parallel()
		for path, want := range map[string]bool{"/dev/ttyS0": true, "/dev/i2c-1": false} {
			_, o := NewState(Config{Path: path}).Step(0, hardware.Opened{})
			if bytes.HasPrefix(o.Do[0].Write, []byte{0x55, 0x55}) != want {
				t.Errorf("%s: %X", path, o.Do[0].Write)
			}
		}
	})
	t.Run("pinged when idle", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.after(pingEvery)
		r.chip(cmdVersion+1, 0x32, 1, 6, 7)
		r.after(pingEvery)
		r.want(t, "> 2", "> 2")
	})
	t.Run("looks until the time-out, then the field is off", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{250 * time.Millisecond})
		r.chip(cmdList+1, 0)
		r.after(listPause)
		r.chip(cmdList+1, 0)
		r.after(listPause)
		r.chip(cmdList+1, 0)
		r.after(listPause)
		r.chip(cmdRF + 1)
		r.want(t, "> 4A", "> 4A", "> 4A", "CardFailed", "> 32")
		if r.s.phase != idle {
			t.Errorf("phase %d", r.s.phase)
		}
	})
	t.Run("a card in the moment of a cancel is dropped", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{time.Minute})
		r.in(cancel{})
		r.chip(append([]byte{cmdList + 1, 1, 1, 0, 4, 8, 4}, 1, 2, 3, 4)...)
		r.chip(cmdRF + 1)
		r.want(t, "> 4A", "> 32")
	})
	t.Run("a chip that acknowledges and says no more", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{time.Minute})
		for range tries {
			r.in(hardware.Bytes{B: bytes.Clone(ackFrame)})
			r.after(answerTime)
		}
		r.want(t, "> 4A", "> ACK", "> 4A", "> ACK", "> 4A", "> ACK", "CardFailed")
		if !errors.Is(r.end, errSilent) {
			t.Error(r.end)
		}
	})
	t.Run("half an answer is asked for again", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{time.Minute})
		r.in(hardware.Bytes{B: append(bytes.Clone(ackFrame), 0, 0, 0xFF, 3, 0xFD, 0xD5)})
		r.after(gapTime)
		r.want(t, "> 4A", "> NACK", "Health")
	})
	t.Run("the chip asks again", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{time.Minute})
		r.in(hardware.Bytes{B: bytes.Clone(nackFrame)})
		r.want(t, "> 4A", "> 4A")
	})
	t.Run("closed while armed", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{time.Minute})
		r.in(hardware.Closed{})
		r.in(activate{time.Minute})
		r.want(t, "> 4A", "CardFailed", "CardFailed")
	})
}

// TestI2C plays a bus back: the byte of readiness, the ACK, the answer with what lies behind it.
func TestI2C(t *testing.T) {
	t.Parallel()
	command := unhex(t, "0000FF02FED4022A00")
	answer := unhex(t, "0000FF06FAD50332010607E800")
	long := append([]byte{i2cReady}, make([]byte, dataMax+10)...)
	copy(long[1:], answer)
	for i := 1 + len(answer); i < len(long); i++ {
		long[i] = 0xFF
	}
	bus := &i2ctest.Playback{Ops: []i2ctest.IO{
		{Addr: i2cAddress, W: command},
		{Addr: i2cAddress, R: make([]byte, 1+ackBytes)}, // not ready
		{Addr: i2cAddress, R: append([]byte{i2cReady}, ackFrame...)},
		{Addr: i2cAddress, R: make([]byte, len(long))},
		{Addr: i2cAddress, R: long},
		{Addr: i2cAddress, W: ackFrame}, // gives up: nothing is asked for any more
	}, DontPanic: true}
	p := newI2C(bus)
	if _, err := p.Write(command); err != nil {
		t.Fatal(err)
	}
	var d Decoder
	buf := make([]byte, 1024)
	for _, want := range []Kind{ACK, Information} {
		n, err := p.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		d.Add(buf[:n])
		if f, ok, err := d.Next(); !ok || err != nil || f.Kind != want {
			t.Errorf("%+v %v %v", f, ok, err)
		}
	}
	if d.Next(); d.Skipped != 0 {
		t.Errorf("%d bytes behind the frame came with it", d.Skipped)
	}
	if _, err := p.Write(ackFrame); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { _, err := p.Read(buf); ended <- err }()
	if err := p.Close(); err != nil {
		t.Fatal(err) // of the playback: something was not asked for
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := openI2C("/dev/i2c-none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestI2CGone: a bus that answers no more ends the reading and the writing.
func TestI2CGone(t *testing.T) {
	t.Parallel()
	p := newI2C(&i2ctest.Playback{DontPanic: true})
	if _, err := p.Write(ackFrame); err == nil {
		t.Error("written to nobody")
	}
	p.due = 2
	if _, err := p.Read(make([]byte, 1024)); err == nil {
		t.Error("read from nobody")
	}
	_ = p.Close()
}
