package vivopay

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/card"
	"coinop/protocol/money"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Commands printed in the vendor's documents, and one built from its layout.
func TestCommand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		cmd, sub   byte
		data       string
	}{
		{"ping", "5669564F74656368320018010000B3CD", 0x18, 0x01, ""},
		{"serial number", "5669564F7465636832001201000018A5", 0x12, 0x01, ""},
		{"set ICS 3C", "5669564f746563683200601600010392ed", 0x60, 0x16, "03"},
		{
			"activate 30 s, 1.50 EUR", "5669564F746563683200024000161E9C01005F2A0209785F3601029F020600000000015096F8", 0x02, 0x40,
			"1E9C01005F2A0209785F3601029F0206000000000150",
		},
		{"cancel", "5669564F7465636832000501000092EF", 0x05, 0x01, ""},
	} {
		if got := Command(c.cmd, c.sub, unhex(t, c.data)...); !bytes.Equal(got, unhex(t, c.want)) {
			t.Errorf("%s: %X", c.name, got)
		}
	}
}

const online = "5669564F7465636832000223008900243B343736313733393030313031303031303D33303132313031313233343536373839303F0001" +
	"E1815E9F260801020304050607089F2701809F100706010A03A0A0009F3704112233449F36020042950500000000009A032611229C01009F0206" +
	"0000000001505F2A020978820220009F1A0202769F03060000000000009F3303E0F8C89F3501252828"

func TestDecoder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		cmd, sub byte
		n        int
	}{
		{"ping", "5669564F74656368320018000000FA83", 0x18, 0, 0},
		{"serial number", "5669564F74656368320012 00 00 0F 36 33 30 5A 30 30 30 30 30 31 00 00 00 00 00 94 BC", 0x12, 0, 15},
		{"set ICS", "5669564f746563683200600000003d35", 0x60, 0, 0},
		{"time-out", "5669564F74656368320002080000202E", 0x02, 0x08, 0},
		{"cancel", "5669564F74656368320005000000D8A2", 0x05, 0, 0},
		{"card error", "5669564F746563683200020A0004200000007422", 0x02, 0x0A, 4},
		{"online", online, 0x02, 0x23, 0x89},
	} {
		raw := unhex(t, c.in)
		for cut := range raw { // in two pieces, wherever cut
			var d Decoder
			d.Add(raw[:cut])
			if _, ok, _ := d.Next(); ok {
				t.Fatalf("%s: a frame out of its first %d bytes", c.name, cut)
			}
			d.Add(raw[cut:])
			f, ok, err := d.Next()
			if !ok || err != nil || f.Cmd != c.cmd || f.Sub != c.sub || len(f.Data) != c.n || d.Pending() || d.Skipped != 0 {
				t.Fatalf("%s cut at %d: %v %v %X", c.name, cut, ok, err, f)
			}
			if !bytes.Equal(Response(f), raw) {
				t.Errorf("%s: back to %X", c.name, Response(f))
			}
		}
		for i := len(header) + 4; i < len(raw); i++ { // every byte but header and length matters
			bad := bytes.Clone(raw)
			bad[i] ^= 0x10
			var d Decoder
			d.Add(bad)
			if _, ok, err := d.Next(); !ok || !errors.Is(err, ErrCRC) {
				t.Errorf("%s with byte %d damaged: %v %v", c.name, i, ok, err)
			}
		}
	}
	var d Decoder
	d.Add(append([]byte("noise ViVOtech"), unhex(t, "5669564F7465636832001800FFFF0000")...))
	d.Add(unhex(t, "5669564F74656368320018000000FA83"))
	if _, ok, err := d.Next(); !ok || !errors.Is(err, ErrLength) {
		t.Errorf("a frame of 64 kB: %v %v", ok, err)
	}
	if f, ok, err := d.Next(); !ok || err != nil || f.Cmd != 0x18 || d.Skipped == 0 {
		t.Errorf("the frame behind: %v %v %+v", ok, err, f)
	}
}

func TestParseCard(t *testing.T) {
	t.Parallel()
	data := func() []byte { raw := unhex(t, online); return raw[14 : len(raw)-2] }
	c, err := ParseCard(data())
	if err != nil {
		t.Fatal(err)
	}
	if c.Last4() != "0010" || c.Brand() != card.Visa || c.AC != hardware.ARQC || c.Entry != protocol.EntryContactless ||
		hex.EncodeToString(c.TapKey) != "0102030405060708004211223344" || c.Capability != "e0f8c825" {
		t.Errorf("%v %+v", c, []any{c.AC, c.TapKey, c.Capability})
	}
	for n := range data() {
		short := data()[:n]
		if _, err := ParseCard(short); err != nil && !errors.Is(err, errData) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if !bytes.Equal(short, make([]byte, n)) {
			t.Fatalf("%d bytes: the buffer still holds the card", n)
		}
	}
	for name, c := range map[string]struct {
		in    string
		entry protocol.EntryMode
		ac    hardware.Cryptogram
		last4 string
		err   bool
	}{
		"stripe data alone": {"00 25 3B343736313733393030313031303031303D3330313231303131323334353637383930 3F31", protocol.EntryMSD, 0, "0010", false},
		"tag 5A alone":      {"00000001 5A08 4761739001010010 9F270140", protocol.EntryContactless, hardware.TC, "0010", false},
		"tag 57 alone":      {"00000001 5713 5413330089020011D25122010123456789 0F 9F270100", 0, 0, "", true},
		"encrypted":         {"00000001 DFEF4D04 01020304 DFEE1202 AABB 9F270180", protocol.EntryContactless, hardware.ARQC, "", false},
		"02-40":             {"01 5A08 4761739001010010 9F270180", protocol.EntryContactless, hardware.ARQC, "0010", false},
		"02-40, in E1":      {"01 E10E 5A08 4761739001010010 9F270180", protocol.EntryContactless, hardware.ARQC, "0010", false},
		"02-40, encrypted":  {"41 FFEE1202AABB DFEF4D04 01020304 9F270180", protocol.EntryContactless, hardware.ARQC, "", false},
		"nothing":           {"00000000", 0, 0, "", true},
		"nested too deep":   {"00000001 E108 E106 E104 E102 5F00", 0, 0, "", true},
	} {
		got, err := ParseCard(unhex(t, c.in))
		if (err != nil) != c.err || err == nil && (got.Entry != c.entry || got.AC != c.ac || got.Last4() != c.last4) {
			t.Errorf("%s: %v %v %v %v", name, got, got.AC, got.Entry, err)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add(unhex(f, online), 20)
	f.Add(append([]byte("ViVOViVOtech2\x00\x02\x23\x00\x01"), unhex(f, "5669564F74656368320018000000FA83")...), 9)
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
				if err == nil {
					_, _ = ParseCard(fr.Data)
				}
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

func FuzzParseCard(f *testing.F) {
	f.Add(unhex(f, online)[14:])
	f.Add([]byte{0, 0, 0, 1, 0x57, 3, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCard(b)
		if err != nil {
			return
		}
		if card.EachTLV(c.ICC.Reveal(), func(card.Tag, []byte, []byte) {}) != nil {
			t.Fatal("what was kept is no sequence of data objects")
		}
		if p := c.Track2.PAN().Reveal(); p != "" && strings.Contains(fmt.Sprintf("%+v %#v %x", c, c, c), p) {
			t.Fatal("it prints its number")
		}
		c.DE55()
		c.Wipe()
	})
}

// step is the machine with the lines it writes and what it tells.
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
		switch {
		case a.Emit == nil:
			r.got = append(r.got, fmt.Sprintf("> %X-%X", a.Write[10], a.Write[11]))
		default:
			r.got = append(r.got, strings.TrimPrefix(fmt.Sprintf("%T", a.Emit), "hardware."))
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

func (r *rig) frame(cmd, status byte, data ...byte) {
	r.in(hardware.Bytes{B: Response(Frame{Cmd: cmd, Sub: status, Data: data})})
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
	r.frame(cmdPing, 0)
	r.frame(cmdPoll, 0)
	r.frame(cmdSerial, 0, []byte("630Z000001\x00\x00")...)
	r.frame(cmdFirmware, 0, []byte("V1.0")...)
	r.want(t, "> 18-1", "> 1-1", "> 12-1", "> 29-0", "Health")
	if r.s.serial != "630Z000001" {
		t.Fatalf("serial number %q", r.s.serial)
	}
	return r
}

func price(minor int64) money.Amount { return money.New(minor, money.EUR) }

func TestMachine(t *testing.T) {
	t.Parallel()
	t.Run("silent at the start", func(t *testing.T) {
		t.Parallel()
		r := &rig{s: NewState(Config{Currency: money.EUR})}
		r.in(hardware.Opened{})
		r.after(time.Minute)
		r.want(t, "> 18-1", "> 18-1", "> 18-1")
		if !errors.Is(r.end, errSilent) || r.now != 3*time.Second {
			t.Errorf("ended %v at %v", r.end, r.now)
		}
	})
	t.Run("pinged when idle", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.after(pingEvery)
		r.frame(cmdPing, 0)
		r.after(pingEvery)
		r.want(t, "> 18-1", "> 18-1")
	})
	t.Run("a card in the moment of a cancel is dropped", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{price(150), 30 * time.Second})
		r.in(cancel{})
		r.in(hardware.Bytes{B: unhex(t, online)})
		r.frame(cmdCancel, 0)
		r.want(t, "> 2-40", "> 5-1")
	})
	t.Run("a card for another amount is dropped", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{price(999), 30 * time.Second})
		r.in(hardware.Bytes{B: unhex(t, online)})
		r.want(t, "> 2-40", "CardFailed")
	})
	t.Run("half a frame", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{price(150), 30 * time.Second})
		r.in(hardware.Bytes{B: unhex(t, online)[:50]})
		r.after(gapTime)
		r.frame(cmdCancel, 0)
		r.want(t, "> 2-40", "CardFailed", "> 5-1", "Health")
	})
	t.Run("no answer in time", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{price(150), 1200 * time.Millisecond}) // 2 s for the reader
		r.after(2*time.Second + cardTime)
		r.want(t, "> 2-40", "CardFailed", "> 5-1")
		r.after(time.Minute)
		r.want(t, "> 5-1", "> 5-1")
		if r.end == nil {
			t.Error("never ended")
		}
	})
	t.Run("armed while it starts, outcome before arming", func(t *testing.T) {
		t.Parallel()
		r := &rig{s: NewState(Config{Currency: money.EUR, Legacy: true})}
		r.in(hardware.Opened{})
		r.in(activate{price(150), time.Second})
		r.in(finish{hardware.OutcomeDeclined})
		r.frame(cmdPing, 0)
		r.frame(cmdPoll, 3) // older firmware
		r.frame(cmdSerial, 3)
		r.frame(cmdFirmware, 3)
		r.frame(cmdUpdate, 0)
		r.want(t, "> 18-1", "> 1-1", "> 12-1", "> 29-0", "Health", "> 3-3", "> 2-1")
	})
	t.Run("closed while armed", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{price(150), time.Second})
		r.in(hardware.Closed{})
		r.in(activate{price(150), time.Second})
		r.want(t, "> 2-40", "CardFailed", "CardFailed")
	})
	t.Run("settings, one of them refused", func(t *testing.T) {
		t.Parallel()
		r := &rig{s: NewState(Config{Currency: money.EUR, Settings: []Frame{{Cmd: 0x60, Sub: 0x16, Data: []byte{3}}, {Cmd: 4, Sub: 3}}})}
		for range 2 { // at each opening
			r.in(hardware.Opened{})
			r.frame(cmdPing, 0)
			r.frame(cmdPoll, 0)
			r.frame(cmdSerial, 0, []byte("630Z000001")...)
			r.frame(cmdFirmware, 0)
			r.in(hardware.Bytes{B: unhex(t, "5669564f746563683200600000003d35")})
			r.frame(4, 5)
			r.want(t, "> 18-1", "> 1-1", "> 12-1", "> 29-0", "> 60-16", "> 4-3", "Health")
			if r.s.refused != ", setting 04-03 refused: 05" {
				t.Errorf("refused %q", r.s.refused)
			}
			r.in(hardware.Closed{})
		}
	})
	t.Run("told to insert or swipe by its display", func(t *testing.T) {
		t.Parallel()
		r := ready(t)
		r.in(activate{price(150), 30 * time.Second})
		r.frame(cmdActivate, statusUI, 0x03, 0x08)
		r.frame(cmdActivate, statusUI, 0x15) // and it looks on
		r.after(shownTime)
		r.want(t, "> 2-40", "CardFailed", "> 5-1")
		r.frame(cmdCancel, 0)
		r.in(activate{price(150), 30 * time.Second}) // told of the card before
		r.frame(cmdActivate, statusTimeout)
		r.want(t, "> 2-40", "CardFailed")
	})
}

// TestFailures: every error code by its name, in either form.
func TestFailures(t *testing.T) {
	t.Parallel()
	want := map[byte]string{
		0x00: "reader_error", 0x01: "reader_error", 0x02: "use_contact", 0x03: "reader_error", 0x04: "use_contact", 0x05: "use_contact", 0x06: "use_contact",
		0x20: "card_error", 0x21: "collision", 0x22: "over_limit", 0x23: "unsupported", 0x24: "card_error", 0x25: "blocked", 0x26: "expired", 0x27: "unsupported",
		0x30: "card_error", 0x40: "unsupported", 0x41: "unsupported", 0x42: "card_declined", 0x43: "card_declined", 0x44: "unsupported",
		0x50: "reader_error", 0x51: "unsupported", 0x52: "unsupported", 0x53: "unsupported", 0x54: "unsupported", 0x55: "unsupported",
		0x56: "card_declined", 0x57: "pin_required", 0x58: "card_declined", 0x61: "reader_error", 0x62: "reader_error", 0x70: "card_error",
		0x73: "reader_error", 0x80: "reader_error", 0x81: "card_error", 0x88: "reader_error", 0x99: "reader_error",
	}
	for code, name := range want {
		for form, data := range map[string][]byte{
			"02-01":           {code, 0x69, 0x85, 0x03},
			"02-40":           {0x01, 0xFF, 0xEE, 0x1F, 4, code, 0x69, 0x85, 0x03},
			"02-40, encrypts": append([]byte{0x41, 0xDF, 0xEE, 0x12, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0xFF, 0xEE, 0x1F, 4}, code, 0, 0, 0, 0x9F, 0x39, 1, 7),
		} {
			if got := failure(data); got != name {
				t.Errorf("%02X by %s: %s, want %s", code, form, got, name)
			}
		}
		if name != hardware.ReasonReader && !slices.Contains(hardware.CardReasons(), name) {
			t.Errorf("%s has no name for the buyer", name)
		}
	}
	if failure(nil) != hardware.ReasonReader {
		t.Error("no code")
	}
}

// TestShown: what its display says makes a name of an end that has none of its own.
func TestShown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		shows string
		end   Frame
		want  string
	}{
		{"08", Frame{Cmd: 2, Sub: statusTimeout}, "use_contact"},
		{"18", Frame{Cmd: 2, Sub: statusFailed, Data: []byte{0x62, 0, 0, 0}}, "use_contact"},
		{"1C", Frame{Cmd: 2, Sub: 0x0B}, "use_contact"},
		{"1D", Frame{Cmd: 2, Sub: statusFailed, Data: []byte{0x20, 0, 0, 0}}, "use_contact"},
		{"0308", Frame{Cmd: 2, Sub: statusTimeout}, "use_contact"},
		{"08", Frame{Cmd: 2, Sub: statusFailed, Data: []byte{0x26, 0, 0, 0}}, "expired"},
		{"0108", Frame{Cmd: 2, Sub: statusTimeout}, "timeout"}, // a lamp
		{"0208", Frame{Cmd: 2, Sub: statusTimeout}, "timeout"}, // a sound
		{"01", Frame{Cmd: 2, Sub: statusTimeout}, "timeout"},   // it has found a card
		{"15", Frame{Cmd: 2, Sub: statusTimeout}, "timeout"},
		{"", Frame{Cmd: 2, Sub: statusTimeout}, "timeout"},
	} {
		r := ready(t)
		r.in(activate{price(150), 30 * time.Second})
		r.frame(cmdActivate, statusUI, unhex(t, c.shows)...)
		_, o := r.s.Step(r.now, hardware.Bytes{B: Response(c.end)})
		if got := o.Do[0].Emit; got != (hardware.CardFailed{Reason: c.want}) {
			t.Errorf("%s, then %v: %v", c.shows, c.end, got)
		}
	}
}

// TestSwiped: the reader's own head for stripes, in either form.
func TestSwiped(t *testing.T) {
	t.Parallel()
	hexOf := func(track string) string { return hex.EncodeToString([]byte(track)) }
	plain, chip, pin := ";4761739001010010=30121011234567890?", ";4761739001010010=30122011234567890?", ";4761739001010010=30121051234567890?"
	for _, c := range []struct {
		name, data string
		chip       bool
		want       any
	}{
		{"02-40", "08 DFEF1824" + hexOf(plain) + "9F390190", false, protocol.EntryStripe},
		{"02-40, older tags", "08 FFEE1424" + hexOf(plain) + "FFEE0104DF30010C", false, protocol.EntryStripe},
		{"02-01", "0024" + hexOf(plain) + "0000 FFEE0104DF30010C", false, protocol.EntryStripe},
		{"a chip", "08 DFEF1824" + hexOf(chip) + "9F390190", false, hardware.ReasonUseChip},
		{"a chip, taken", "08 DFEF1824" + hexOf(chip) + "9F390190", true, protocol.EntryFallback},
		{"a chip that failed, says the reader", "08 DFEF1824" + hexOf(chip) + "9F390180", false, protocol.EntryFallback},
		{"wants a PIN", "08 DFEF1824" + hexOf(pin) + "9F390190", true, hardware.ReasonPIN},
		{"no stripe: without contact, by its tracks", "11 DFEF1824" + hexOf(chip) + "9F390191", false, protocol.EntryMSD},
	} {
		r := ready(t)
		r.s.rules = stripes{c.chip, func() time.Time { return time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC) }}
		r.in(activate{price(150), 30 * time.Second})
		_, o := r.s.Step(r.now, hardware.Bytes{B: Response(Frame{Cmd: 2, Sub: statusOK, Data: unhex(t, c.data)})})
		var got any
		switch e := o.Do[0].Emit.(type) {
		case hardware.CardRead:
			got = e.Card.Entry
			if e.Card.Last4() != "0010" || bytes.Contains(e.Card.ICC.Reveal(), []byte("4761")) {
				t.Errorf("%s: %v, or its track among the chip's data", c.name, e.Card)
			}
		case hardware.CardFailed:
			got = e.Reason
		}
		if got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestExchanges: what a reader says while it is armed, and what becomes of it.
func TestExchanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		want     hardware.Event // nil: it looks on
	}{
		{"time-out", "5669564F74656368320002080000202E", hardware.CardFailed{Reason: hardware.ReasonTimeout}},
		{"card error", "5669564F746563683200020A0004200000007422", hardware.CardFailed{Reason: hardware.ReasonCardError}},
		{"collision", failed(0x21), hardware.CardFailed{Reason: hardware.ReasonCollision}},
		{"no application in common", failed(0x27), hardware.CardFailed{Reason: hardware.ReasonUnsupported}},
		{"not taken without contact: the buyer falls back", failed(0x02), hardware.CardFailed{Reason: hardware.ReasonUseContact}},
		{"communication error", failed(0x24), hardware.CardFailed{Reason: hardware.ReasonCardError}},
		{"the card did not respond", failed(0x30), hardware.CardFailed{Reason: hardware.ReasonCardError}},
		{"an event of its display", hex.EncodeToString(Response(Frame{Cmd: 2, Sub: statusUI, Data: []byte{0x15}})), nil},
		{"not allowed", hex.EncodeToString(Response(Frame{Cmd: 2, Sub: 0x0B})), hardware.CardFailed{Reason: hardware.ReasonReader}},
		{"tamper, unsolicited", hex.EncodeToString(Response(Frame{Cmd: 0x18, Sub: statusTamper})), hardware.Tamper{Device: "reader"}},
	} {
		r := ready(t)
		r.in(activate{price(150), 30 * time.Second})
		_, o := r.s.Step(r.now, hardware.Bytes{B: unhex(t, c.in)})
		var got hardware.Event
		for _, a := range o.Do {
			if a.Emit != nil && got == nil {
				got = a.Emit
			}
		}
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	r := ready(t)
	r.in(activate{price(150), 30 * time.Second})
	_, o := r.s.Step(r.now, hardware.Bytes{B: unhex(t, online)})
	if read, ok := o.Do[0].Emit.(hardware.CardRead); !ok || read.Card.AC != hardware.ARQC || read.Card.Reader != "630Z000001" {
		t.Errorf("online: %+v", o.Do)
	}
}

func failed(code byte) string {
	return hex.EncodeToString(Response(Frame{Cmd: 2, Sub: statusFailed, Data: []byte{code, 0, 0, 0}}))
}
