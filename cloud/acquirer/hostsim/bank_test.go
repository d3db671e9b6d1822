package hostsim

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// msg is a message of an ATM-like till: 41, 42, 12, 13, 49 and a card are given, the rest by kv.
func msg(mti string, kv ...any) []byte {
	m := message{mti: mti, f: &fields{
		3: "000000", 7: "1122110000", 12: "120000", 13: "1122", 37: "632611000001",
		41: "KIOSK001", 42: "000000012345678", 49: "978", 2: "5413330089020011", 14: "2512",
	}}
	for i := 0; i < len(kv); i += 2 {
		m.f[kv[i].(int)] = kv[i+1].(string)
	}
	return ascii87().write(m)
}

const orig90 = "0100000001112211000000000123456" + "00000000000"

func auth(amount string) []byte { return msg("0100", 4, amount, 11, "1") }

func one(t *testing.T, replies []Reply) message {
	t.Helper()
	if len(replies) != 1 || replies[0].Drop || replies[0].Frame == nil {
		t.Fatalf("replies %+v, want one message", replies)
	}
	m, err := ascii87().parse(replies[0].Frame)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func code(t *testing.T, b *Bank, frame []byte) string {
	t.Helper()
	return one(t, b.Handle(noon, frame)).f[39]
}

func TestParsesTheFramesOfAHost(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../iso8583/testdata/ascii87.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		word, rest, _ := strings.Cut(sc.Text(), " ")
		if !strings.HasSuffix(word, "-frame") {
			continue
		}
		raw, err := hex.DecodeString(rest)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ascii87().parse(raw[2:])
		if err != nil {
			t.Errorf("frame %d: %v", n, err)
		} else if got := string(ascii87().write(m)); got != string(raw[2:]) {
			t.Errorf("frame %d: wrote %q, read %q", n, got, raw[2:])
		}
		n++
	}
	if n != 20 {
		t.Errorf("%d frames", n)
	}
}

func TestHoldCaptureReverse(t *testing.T) {
	t.Parallel()
	b := NewBank(Options{})
	a := one(t, b.Handle(noon, auth("250")))
	want := &fields{
		3: "000000", 4: "000000000250", 7: "1122110000", 11: "000001", 12: "120000", 13: "1122", 15: "1122",
		37: "632611000001", 38: "100001", 39: "00", 41: "KIOSK001", 42: "000000012345678", 49: "978",
	}
	if d := cmp.Diff(want, a.f); a.mti != "0110" || d != "" {
		t.Errorf("%s -want +got\n%s", a.mti, d)
	}
	entry := Entry{
		TID: "KIOSK001", MID: "000000012345678", MTI: "0100", STAN: "000001", DE7: "1122110000", RRN: "632611000001",
		AuthID: "100001", Currency: "978", Asked: 250, Approved: 250, Code: "00", Held: 250, Last4: "0011", At: noon,
	}
	check := func(when string) {
		t.Helper()
		if d := cmp.Diff([]Entry{entry}, b.Books()); d != "" {
			t.Errorf("%s: -want +got\n%s", when, d)
		}
	}
	check("authorized")
	if c := code(t, b, msg("0220", 4, "251", 11, "2", 90, orig90)); c != "13" {
		t.Errorf("capture of more than held: %s", c)
	}
	if c := code(t, b, msg("0220", 4, "200", 11, "3", 90, orig90)); c != "00" {
		t.Errorf("capture: %s", c)
	}
	entry.Held, entry.Captured = 0, 200
	check("captured")
	if c := code(t, b, msg("0420", 4, "250", 11, "4", 90, orig90)); c != "12" {
		t.Errorf("reversal of the hold after its capture: %s", c)
	}
	check("still captured")
	if c := code(t, b, msg("0200", 3, "200000", 4, "50", 11, "5", 90, orig90)); c != "00" {
		t.Errorf("refund: %s", c)
	}
	if c := code(t, b, msg("0200", 3, "200000", 4, "151", 11, "6", 90, orig90)); c != "64" {
		t.Errorf("refund of more than captured: %s", c)
	}
	entry.Refunded = 50
	check("refunded")
	if s := b.Books()[0].Stands(); s != 150 {
		t.Errorf("stands %d", s)
	}
	if c := code(t, b, msg("0420", 4, "200", 11, "7", 90, strings.Replace(orig90, "0100000001", "0220000003", 1))); c != "00" {
		t.Errorf("reversal of the capture: %s", c)
	}
	entry.Captured, entry.Reversed = 0, true
	check("reversed")
}

func TestPartialFlows(t *testing.T) {
	t.Parallel()
	const to100 = "000000000100000000000000D00000000D00000000"
	dual := NewBank(Options{})
	code(t, dual, auth("250"))
	if c := code(t, dual, msg("0420", 4, "250", 11, "2", 90, orig90, 95, to100)); c != "00" || dual.Books()[0].Held != 100 || dual.Books()[0].Reversed {
		t.Errorf("%s %+v", c, dual.Books())
	}
	if c := code(t, dual, msg("0220", 4, "100", 11, "3", 90, orig90)); c != "00" || dual.Books()[0].Stands() != 100 {
		t.Errorf("%s %+v", c, dual.Books())
	}
	single := NewBank(Options{})
	code(t, single, msg("0200", 4, "250", 11, "1"))
	o := strings.Replace(orig90, "0100", "0200", 1)
	if c := code(t, single, msg("0420", 4, "250", 11, "2", 90, o, 95, to100)); c != "00" || single.Books()[0].Captured != 100 {
		t.Errorf("%s %+v", c, single.Books())
	}
	if c := code(t, single, msg("0420", 4, "250", 11, "3", 90, o)); c != "00" || single.Books()[0].Stands() != 0 {
		t.Errorf("%s %+v", c, single.Books())
	}
	offline := NewBank(Options{})
	if c := code(t, offline, msg("0220", 4, "320", 11, "8", 38, "Y1")); c != "00" || offline.Books()[0].Captured != 320 {
		t.Errorf("%s %+v", c, offline.Books())
	}
	if c := code(t, offline, msg("0220", 4, "320", 11, "9", 90, orig90)); c != "25" {
		t.Errorf("completion of nothing: %s", c)
	}
}

func TestRepeatsAndDuplicates(t *testing.T) {
	t.Parallel()
	b := NewBank(Options{})
	first := one(t, b.Handle(noon, auth("250")))
	if c := code(t, b, auth("250")); c != "94" {
		t.Errorf("the same again: %s", c)
	}
	again := one(t, b.Handle(noon, msg("0101", 4, "250", 11, "1", 7, "1122110015")))
	first.f[7] = "1122110015"
	if d := cmp.Diff(first.f, again.f); d != "" || len(b.Books()) != 1 {
		t.Errorf("the repeat: %s, %d entries", d, len(b.Books()))
	}
	if c := code(t, b, msg("0421", 4, "250", 11, "2", 90, orig90)); c != "00" {
		t.Errorf("a repeat whose original was lost: %s", c)
	}
	if c := code(t, b, msg("0421", 4, "250", 11, "2", 90, orig90)); c != "00" || b.Books()[0].Stands() != 0 {
		t.Errorf("reversed once more: %s", c)
	}
}

func TestApprovalAfterItsReversalHolds(t *testing.T) {
	t.Parallel()
	b := NewBank(Options{})
	if c := code(t, b, msg("0420", 4, "250", 11, "2", 90, orig90)); c != "25" {
		t.Errorf("reversal of the unknown: %s", c)
	}
	if c := code(t, b, auth("250")); c != "00" || b.Books()[0].Held != 250 {
		t.Errorf("approval after its reversal: %s %+v", c, b.Books())
	}
	if c := code(t, b, msg("0421", 4, "250", 11, "2", 90, orig90)); c != "00" || b.Books()[0].Held != 0 {
		t.Errorf("the reversal's repeat: %s %+v", c, b.Books())
	}
	declined := NewBank(Options{Behave: Magic})
	if c := code(t, declined, auth("9051")); c != "51" || declined.Books()[0].Stands() != 0 {
		t.Errorf("declined: %s", c)
	}
	if c := code(t, declined, msg("0420", 4, "9051", 11, "2", 90, orig90)); c != "25" {
		t.Errorf("reversal of a decline: %s", c)
	}
}

func TestBehaviors(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct {
		how    Behavior
		frames int
		check  func(Reply, message) bool
		held   int64
	}{
		"approve":      {Behavior{}, 1, func(_ Reply, m message) bool { return m.f[39] == "00" }, 250},
		"decline:51":   {Behavior{Decline: "51"}, 1, func(_ Reply, m message) bool { return m.f[39] == "51" && m.f[38] == "" }, 0},
		"soft":         {Behavior{Decline: "91"}, 1, func(_ Reply, m message) bool { return m.f[39] == "91" }, 0},
		"partial:100":  {Behavior{Partial: 100}, 1, func(_ Reply, m message) bool { return m.f[39] == "10" && minor(m.f[4]) == 100 }, 100},
		"silent":       {Behavior{Silent: true}, 0, nil, 250},
		"late:20s":     {Behavior{Late: 20 * time.Second}, 1, func(r Reply, _ message) bool { return r.After == 20*time.Second }, 250},
		"twice":        {Behavior{Twice: true}, 2, func(_ Reply, m message) bool { return m.f[39] == "00" }, 250},
		"wrong-stan":   {Behavior{WrongSTAN: true}, 1, func(_ Reply, m message) bool { return m.f[11] == "000002" }, 250},
		"wrong-amount": {Behavior{WrongAmount: true}, 1, func(_ Reply, m message) bool { return minor(m.f[4]) == 251 }, 250},
		"drop-before":  {Behavior{DropBefore: true}, 1, func(r Reply, _ message) bool { return r.Drop && r.Frame == nil }, 0},
		"drop-after":   {Behavior{DropAfter: true}, 1, func(r Reply, _ message) bool { return r.Drop && r.Frame == nil }, 250},
		"late:1s, partial:1, twice": {
			Behavior{Late: time.Second, Partial: 1, Twice: true},
			2,
			func(r Reply, m message) bool { return r.After == time.Second && m.f[39] == "10" }, 1,
		},
	} {
		how, err := ParseBehavior(text)
		if err != nil || how != c.how {
			t.Errorf("%s: %+v, %v", text, how, err)
			continue
		}
		b := NewBank(Options{Behave: func(time.Time, Summary) Behavior { return how }})
		replies := b.Handle(noon, auth("250"))
		if len(replies) != c.frames {
			t.Errorf("%s: %d replies", text, len(replies))
			continue
		}
		for _, r := range replies {
			m, err := ascii87().parse(r.Frame)
			if err != nil && r.Frame != nil {
				t.Fatal(err)
			}
			if !c.check(r, m) {
				t.Errorf("%s: %+v", text, r)
			}
		}
		var held int64
		for _, e := range b.Books() {
			held += e.Held
		}
		if held != c.held {
			t.Errorf("%s: %d held, want %d", text, held, c.held)
		}
	}
	for _, bad := range []string{"", "sulk", "decline", "decline:5", "partial:x", "late:soon"} {
		if _, err := ParseBehavior(bad); err == nil {
			t.Errorf("took %q", bad)
		}
	}
}

func TestSoftRefusalOfAnAdviceIsForgotten(t *testing.T) {
	t.Parallel()
	how := Behavior{}
	b := NewBank(Options{Behave: func(time.Time, Summary) Behavior { return how }})
	code(t, b, auth("250"))
	how.Decline = "91"
	if c := code(t, b, msg("0220", 4, "200", 11, "2", 90, orig90)); c != "91" || b.Books()[0].Captured != 0 {
		t.Errorf("%s", c)
	}
	how.Decline = ""
	if c := code(t, b, msg("0221", 4, "200", 11, "2", 90, orig90)); c != "00" || b.Books()[0].Captured != 200 {
		t.Errorf("%s", c)
	}
}

func TestMagic(t *testing.T) {
	t.Parallel()
	for amount, want := range map[int64]Behavior{
		250: {}, 9000: {}, 9100: {}, 9010: {Partial: 4505}, 9051: {Decline: "51"}, 9005: {Decline: "05"}, 119091: {Decline: "91"}, 9500: {Silent: true},
		9501: {Late: 30 * time.Second}, 9502: {Twice: true}, 9503: {WrongSTAN: true}, 9504: {WrongAmount: true}, 9505: {DropBefore: true}, 9506: {DropAfter: true},
	} {
		if got := Magic(noon, Summary{MTI: "0100", Amount: amount}); got != want {
			t.Errorf("%d: %+v", amount, got)
		}
	}
	if got := Magic(noon, Summary{MTI: "0420", Amount: 9051}); got != (Behavior{}) {
		t.Errorf("a reversal of 9051: %+v", got)
	}
}

func TestNetworkAndNonsense(t *testing.T) {
	t.Parallel()
	b := NewBank(Options{})
	net := ascii87().write(message{mti: "0800", f: &fields{7: "1122110000", 11: "1", 32: "123456", 70: "301"}})
	if m := one(t, b.Handle(noon, net)); m.mti != "0810" || m.f[39] != "00" || m.f[70] != "301" {
		t.Errorf("%+v", m)
	}
	if r := b.Handle(noon, ascii87().write(message{mti: "0810", f: &fields{7: "1122110000", 11: "1", 39: "00"}})); r != nil {
		t.Errorf("answered an answer: %+v", r)
	}
	if c := code(t, b, msg("0500", 4, "1", 11, "1")); c != "12" {
		t.Errorf("unknown class: %s", c)
	}
	good := auth("250")
	for i := range good {
		if r := b.Handle(noon, good[:i]); len(r) != 1 || !r[0].Drop {
			t.Fatalf("cut after %d: %+v", i, r)
		}
	}
	if r := b.Handle(noon, append(good, 'x')); !r[0].Drop || len(b.Books()) != 0 {
		t.Errorf("with a byte too many: %+v", r)
	}
}

// TestLinesRebuildTheBank: books, repeats and duplicates survive, and the lines hold no card.
func TestLinesRebuildTheBank(t *testing.T) {
	t.Parallel()
	a := NewBank(Options{Behave: Magic})
	for _, f := range [][]byte{
		auth("250"), msg("0220", 4, "200", 11, "2", 90, orig90), msg("0100", 4, "9051", 11, "3", 37, "2"), msg("0100", 4, "300", 11, "4", 37, "3"),
		msg("0220", 4, "10", 11, "5", 37, "4"),
	} {
		a.Handle(noon, f)
	}
	b := NewBank(Options{})
	for _, l := range a.Take() {
		js, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(js), "5413330089020011") || strings.Contains(string(l.Answer), "541333") {
			t.Errorf("a card in the books: %s", js)
		}
		var again Line
		if err := json.Unmarshal(js, &again); err != nil {
			t.Fatal(err)
		}
		if err := b.Load(again); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(a.Books(), b.Books()); d != "" || len(b.Books()) != 4 {
		t.Errorf("-want +got\n%s", d)
	}
	for name, f := range map[string][]byte{
		"duplicate":                auth("250"),
		"repeat":                   msg("0221", 4, "200", 11, "2", 90, orig90),
		"reversal of the capture":  msg("0420", 4, "200", 11, "9", 90, strings.Replace(orig90, "0100000001", "0220000002", 1)),
		"the next approval number": msg("0100", 4, "1", 11, "10", 37, "9"),
	} {
		if d := cmp.Diff(one(t, a.Handle(noon, f)).f, one(t, b.Handle(noon, f)).f); d != "" {
			t.Errorf("%s: -before +after\n%s", name, d)
		}
	}
	if err := b.Load(Line{Entry: &Entry{}, Index: 99}); err == nil {
		t.Error("took a line of an entry far ahead")
	}
}
