package iso8583

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coinop/cloud/acquirer/dialects"
)

// vector is one frame of testdata/ascii87.txt with its fields.
type vector struct {
	name  string
	msg   *Message
	frame []byte // with its length
}

var fieldStart = regexp.MustCompile(` (\d{1,3})=`)

func vectors(t testing.TB) []vector {
	t.Helper()
	f, err := os.Open("testdata/ascii87.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	byDir := map[string]*vector{}
	var out []vector
	name := ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		word, rest, _ := strings.Cut(sc.Text(), " ")
		if word == "#" || word == "" {
			name, byDir = rest, map[string]*vector{}
			continue
		}
		dir, isFrame := strings.CutSuffix(word, "-frame")
		v := byDir[dir]
		if v == nil {
			v = &vector{name: name + ", " + dir}
			byDir[dir] = v
		}
		if isFrame {
			if v.frame, err = hex.DecodeString(rest); err != nil {
				t.Fatal(err)
			}
		} else {
			v.msg = NewMessage(rest[:4])
			at := fieldStart.FindAllStringSubmatchIndex(rest, -1)
			for i, m := range at {
				end := len(rest)
				if i+1 < len(at) {
					end = at[i+1][0]
				}
				de, _ := strconv.Atoi(rest[m[2]:m[3]])
				value := rest[m[1]:end]
				if de == 55 {
					b, err := hex.DecodeString(value)
					if err != nil {
						t.Fatal(err)
					}
					value = string(b)
				}
				v.msg.Set(de, value)
			}
		}
		if v.msg != nil && v.frame != nil {
			out = append(out, *v)
		}
	}
	if len(out) != 20 {
		t.Fatalf("%d frames in testdata, want 20", len(out))
	}
	return out
}

func find(t testing.TB, name string) vector {
	t.Helper()
	for _, v := range vectors(t) {
		if v.name == name {
			return v
		}
	}
	t.Fatalf("no vector %q", name)
	return vector{}
}

func padded(m *Message) *Message {
	out := NewMessage(m.MTI)
	for _, f := range m.fields {
		row, v := ASCII87().table[f.de], f.value
		for row.prefix == 0 && len(v) < row.max {
			if row.format == fmtN {
				v = "0" + v
			} else {
				v += " "
			}
		}
		out.Set(int(f.de), v)
	}
	return out
}

func same(a, b *Message) string {
	return cmp.Diff(a, b, cmp.Transformer("open", func(m *Message) []string {
		s := []string{m.MTI}
		for _, f := range m.fields {
			s = append(s, fmt.Sprintf("%d=%q", f.de, f.value))
		}
		return s
	}))
}

func TestFramesOfAHost(t *testing.T) {
	t.Parallel()
	c := ASCII87()
	for _, v := range vectors(t) {
		got, err := c.AppendFrame(nil, v.msg)
		if err != nil || !bytes.Equal(got, v.frame) {
			t.Errorf("%s: packed\n%X, %v; want\n%X", v.name, got, err, v.frame)
		}
		raw, err := c.ReadFrame(bytes.NewReader(v.frame), nil)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		m, err := c.Unpack(raw)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		if d := same(padded(v.msg), m); d != "" {
			t.Errorf("%s: -want +got\n%s", v.name, d)
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, frame string
		de          int
	}{
		{"empty", "", 1},
		{"no bitmap", "0800", 1},
		{"message type of letters", "08A00000000000000000", 0},
		{"message type 1993", "11000000000000000000", 0},
		{"bitmap not hex", "0800G000000000000000", 1},
		{"bitmap with a sign", "0800+000000000000000", 1},
		{"second bitmap missing", "08008000000000000000", 1},
		{"third bitmap", "080080000000000000008000000000000000", 65},
		{"field not in the dialect", "08000100000000000000", 8},
		{"short fixed field", "0800002000000000000000001", 11},
		{"letters in a number", "080000200000000000000A0001", 11},
		{"length not decimal", "01004000000000000000 9", 2},
		{"length 0", "0100400000000000000000", 2},
		{"longer than the field", "010040000000000000002054133300890200115413", 2},
		{"ends in the length", "010040000000000000001", 2},
		{"ends in the value", "0100400000000000000016541333008902001", 2},
		{"track with a letter", "0100000000002000000017541333008902001A=", 35},
		{"lower case hex", "010000000000000010001b9c1845eb993a7a", 52},
		{"credit or debit", "0100000000100000000000000000000", 28},
		{"control character", "0100000000000080000012345\x01  ", 41},
		{"bytes after it", "080000200000000000000001010", 129},
		{"too long", "0800" + strings.Repeat("0", 2048), 129},
	} {
		_, err := ASCII87().Unpack([]byte(c.frame))
		fe, ok := errors.AsType[*FieldError](err)
		if !ok || fe.DE != c.de || !errors.Is(err, ErrFormat) || !fe.Permanent() {
			t.Errorf("%s: %v, want a fault of DE%d", c.name, err, c.de)
		}
		if err != nil && strings.Contains(err.Error(), "5413") {
			t.Errorf("%s: the error shows a card", c.name)
		}
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		de    int
		value string
	}{
		{2, "54133300890200110000"},
		{2, "5413330089O20011"},
		{3, "00000000"},
		{4, "-12"},
		{8, "1"},
		{28, "00000025"},
		{28, "D25"},
		{35, "5413330089020011D2512"},
		{38, "A-1"},
		{41, "KIOSK\n"},
		{52, "1b9c1845eb993a7a"},
		{52, "1B9C"},
		{55, strings.Repeat("x", 256)},
		{127, "x"},
	} {
		m := NewMessage("0100")
		m.Set(c.de, c.value)
		before := []byte("before")
		got, err := ASCII87().Pack(before, m)
		if fe, ok := errors.AsType[*FieldError](err); !ok || fe.DE != c.de || string(got) != "before" ||
			strings.Contains(err.Error(), c.value) {
			t.Errorf("DE%d: %q, %v", c.de, got, err)
		}
	}
	if _, err := ASCII87().Pack(nil, NewMessage("1100")); err == nil {
		t.Error("packed a message of 1993")
	}
	long := NewMessage("0100")
	for _, de := range []int{48, 60, 61} {
		long.Set(de, strings.Repeat("x", 999))
	}
	if _, err := ASCII87().Pack(nil, long); !errors.Is(err, ErrFormat) {
		t.Errorf("packed more than max_frame: %v", err)
	}
}

func TestMessagePrintsNoCard(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if s := fmt.Sprintf(verb, v.msg); strings.Contains(s, "541333") || strings.Contains(s, "2512") ||
				strings.Contains(s, "1B9C") || strings.Contains(s, "9F26") || !strings.HasPrefix(s, v.msg.MTI) {
				t.Errorf("%s of %s: %s", verb, v.name, s)
			}
		}
		if js, err := json.Marshal(v.msg); err != nil || strings.Contains(string(js), "541333") {
			t.Errorf("json of %s: %s, %v", v.name, js, err)
		}
	}
}

func TestSetAndGet(t *testing.T) {
	t.Parallel()
	m := NewMessage("0100")
	m.Set(11, "1")
	m.Set(3, "0")
	m.Set(11, "2")
	if m.Get(11) != "2" || m.Has(4) || m.String() != "0100 3=0 11=2" {
		t.Errorf("%v", m)
	}
	if m.Set(3, ""); m.Has(3) {
		t.Error("an empty value stays")
	}
}

func TestReadFrameRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"end between messages": {"", io.EOF},
		"half a length":        {"\x00", io.ErrUnexpectedEOF},
		"nothing":              {"\x00\x00", ErrFrame},
		"too long":             {"\x08\x01", ErrFrame},
		"half a message":       {"\x00\x050800", io.ErrUnexpectedEOF},
	} {
		if _, err := ASCII87().ReadFrame(strings.NewReader(c.in), nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestNewCodecRefuses(t *testing.T) {
	t.Parallel()
	for _, edit := range [][2]string{
		{`"format": "z"`, `"format": "zz"`},
		{`"length": "ll"`, `"length": "llll"`},
		{`"2":`, `"65":`},
		{`"2":`, `"129":`},
		{`"max": 19`, `"max": 100`},
		{`"bitmap": "hex"`, `"bitmap": "raw"`},
		{`"max_frame"`, `"maxframe"`},
		{`2048`, `70000`},
	} {
		broken := strings.Replace(string(dialects.ASCII87), edit[0], edit[1], 1)
		if broken == string(dialects.ASCII87) {
			t.Fatalf("%s is not in the dialect", edit[0])
		}
		if _, err := NewCodec([]byte(broken)); err == nil {
			t.Errorf("took %s", edit[1])
		}
	}
}

func FuzzUnpack(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.frame[2:])
	}
	c := ASCII87()
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := c.Unpack(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		packed, err := c.Pack(nil, m)
		if err != nil {
			t.Fatalf("%v: what was read does not pack: %v", m, err)
		}
		again, err := c.Unpack(packed)
		if err != nil || same(m, again) != "" {
			t.Fatalf("%v, then %v, %v", m, again, err)
		}
	})
}

func BenchmarkPackUnpack(b *testing.B) {
	v := find(b, "0100 contactless auth, request")
	c := ASCII87()
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		out, err := c.Pack(buf, v.msg)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Unpack(out); err != nil {
			b.Fatal(err)
		}
	}
}
