package protocol

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"
	"testing"

	"coinop/protocol/money"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite testdata/golden.txt")

// fill gives every field of v a value that is not its zero, the same each time.
func fill(v reflect.Value, n *byte) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[money.Amount]() {
			v.Set(reflect.ValueOf(money.New(int64(*n), money.EUR)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[Raw]() {
			v.SetBytes([]byte{0x81, 0x05})
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(*n))
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("s%d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	default:
		panic(v.Type().String())
	}
}

func filled[T any]() T {
	var v T
	n := byte(0)
	fill(reflect.ValueOf(&v).Elem(), &n)
	return v
}

// messages are pointers to every type that is written to a wire or a journal.
func messages() map[string]any {
	m := map[string]any{}
	add := func(vs ...any) {
		for _, v := range vs {
			p := reflect.New(reflect.TypeOf(v))
			p.Elem().Set(reflect.ValueOf(v))
			m[reflect.TypeOf(v).Name()] = p.Interface()
		}
	}
	add(filled[Auth](), filled[Ask](), filled[AuthorizationRequest](), filled[OutcomeCopy](), filled[Received](),
		filled[AuthorizationResponse](), filled[Batch](), filled[Journal](), filled[Watermark](), filled[Checkpoint](),
		filled[Announcement](), filled[Conn](), filled[SealedCard](), filled[CardAAD](), filled[Policy](), filled[envelope](),
		filled[EpochStarted](), filled[Booted](), filled[Snapshot](), filled[SaleOpened](), filled[AuthorizationSent](),
		filled[AuthorizationAnswered](), filled[OfflineAccepted](), filled[VendStarted](), filled[AckHint](),
		filled[VendResult](), filled[VendResolved](), filled[PaymentOutcome](), filled[CaseOpened](), filled[SaleClosed](),
		filled[LateAnswer](), filled[ClockAnchor](), filled[PolicyApplied](), filled[DeviceEvent](), filled[BlobDropped](),
		filled[DeadlineAlarm](), filled[CashIn](), filled[ChangeOrdered](), filled[ChangePaid](), filled[ChangeUnknown](),
		filled[StackOrdered](), filled[CashSale](), filled[CountersRead](), filled[CashCollected](), filled[BagCounted](), filled[CashByHand](),
		filled[TerminalSent](), filled[TerminalAnswered](), filled[TerminalDone](), filled[TerminalClosed]())
	return m
}

// The bytes of every message are fixed: a difference here breaks journals in the field.
func TestGolden(t *testing.T) {
	const file = "testdata/golden.txt"
	got := map[string]string{}
	for name, v := range messages() {
		b := MustEncode(v)
		got[name] = hex.EncodeToString(b)
		back := reflect.New(reflect.TypeOf(v).Elem())
		if err := DecodeExact(b, back.Interface()); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(v, back.Interface(), cmp.Comparer(func(a, b money.Amount) bool { return a == b })); diff != "" {
			t.Errorf("%s: round trip: %s", name, diff)
		}
	}
	if *update {
		names := make([]string, 0, len(got))
		for n := range got {
			names = append(names, n)
		}
		sort.Strings(names)
		var out strings.Builder
		out.WriteString("# Every message with every field set, in hex. go test ./protocol -run Golden -update\n")
		for _, n := range names {
			fmt.Fprintf(&out, "%s %s\n", n, got[n])
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		name, want, ok := strings.Cut(s.Text(), " ")
		if name == "#" || !ok {
			continue
		}
		seen++
		if got[name] != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got[name], want)
		}
	}
	if seen != len(got) {
		t.Errorf("%s holds %d messages, there are %d", file, seen, len(got))
	}
}

func TestStrictDecode(t *testing.T) {
	good := MustEncode(AckHint{Vend: VendID{1}, Hint: HintAcked})
	cases := map[string][]byte{
		"empty":             {},
		"cut":               good[:len(good)-1],
		"appended":          append(bytes.Clone(good), 0),
		"unknown key":       {0xa1, 0x09, 0x01},
		"duplicate key":     {0xa2, 0x02, 0x01, 0x02, 0x01},
		"indefinite map":    {0xbf, 0x02, 0x01, 0xff},
		"indefinite bytes":  {0xa1, 0x01, 0x5f, 0x41, 0x01, 0xff},
		"tag":               {0xc1, 0xa1, 0x02, 0x01},
		"short id":          {0xa1, 0x01, 0x41, 0x01},
		"huge string":       {0xa1, 0x01, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"huge array":        {0x9b, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff},
		"deep":              bytes.Repeat([]byte{0x81}, 10_000),
		"enum out of range": {0xa1, 0x02, 0x19, 0x01, 0x00},
		"too large":         make([]byte, MaxMessage+1),
	}
	for name, b := range cases {
		var a AckHint
		if err := Decode(b, &a); !errors.Is(err, ErrDecode) {
			t.Errorf("%s: %v, want ErrDecode", name, err)
		}
	}
	// longer than needed: Decode may read it, what is hashed may not be written so
	var a AckHint
	loose := append([]byte{0xa2, 0x18, 0x01}, good[2:]...)
	if err := DecodeExact(loose, &a); !errors.Is(err, ErrDecode) {
		t.Errorf("not deterministic: %v", err)
	}
}

func TestRecordChain(t *testing.T) {
	prev := Position{Epoch: Epoch{1}}
	rec := Record{Lane: 2, Sale: SaleID{3}, At: Reading{Wall: 5, Boot: BootID{4}, Mono: ms(7)}, Body: filled[VendResult]()}
	for seq := Seq(1); seq <= 3; seq++ {
		s, err := SealRecord("m1", prev, rec)
		if err != nil {
			t.Fatal(err)
		}
		o, err := OpenRecord(s.Bytes)
		if err != nil || o.Content != nil {
			t.Fatal(err, o.Content)
		}
		if diff := cmp.Diff(rec, o.Record); diff != "" {
			t.Fatal(diff)
		}
		if o.Position != s.Position || o.Prev != prev.Hash || o.Position.Seq != seq || o.Device != "m1" {
			t.Fatalf("%+v after %+v", o, prev)
		}
		prev = s.Position
	}
}

// A kind or version not known is kept as it came; a known one that does not decode is a content
// fault, never a broken chain.
func TestUnknownAndBroken(t *testing.T) {
	s, err := SealRecord("m1", Position{}, Record{Body: UnknownBody{K: 999, Raw: Raw{0x81, 0x05}}})
	if err != nil {
		t.Fatal(err)
	}
	o, err := OpenRecord(s.Bytes)
	if u, ok := o.Body.(UnknownBody); err != nil || o.Content != nil || !ok || u.K != 999 || !bytes.Equal(u.Raw, []byte{0x81, 0x05}) {
		t.Fatalf("%+v %v", o, err)
	}
	s, err = SealRecord("m1", Position{}, Record{Body: UnknownBody{K: KindAckHint, Raw: Raw{0xa1, 0x09, 0x01}}})
	if err != nil {
		t.Fatal(err)
	}
	if o, err = OpenRecord(s.Bytes); err != nil || !errors.Is(o.Content, ErrContent) {
		t.Fatalf("%+v %v", o, err)
	}
}

func TestIDs(t *testing.T) {
	id := NewID[saleTag](0x0123456789ab, [10]byte{0xff, 0xff, 0xff, 3, 4, 5, 6, 7, 8, 9})
	const want = "01234567-89ab-7fff-bf03-040506070809"
	if id.String() != want {
		t.Fatalf("%s, want %s", id, want)
	}
	back, err := ParseID[saleTag](want)
	if err != nil || back != id {
		t.Fatal(back, err)
	}
	for _, bad := range []string{"", want[1:], strings.Replace(want, "-", "x", 1), strings.Replace(want, "a", "g", 1)} {
		if _, err := ParseID[saleTag](bad); err == nil {
			t.Errorf("%q parsed", bad)
		}
	}
	for _, d := range []DeviceID{"", "-a", "a-", "A", "a_b", "a/b", "+", DeviceID(strings.Repeat("a", 64))} {
		if d.Check() == nil {
			t.Errorf("device %q accepted", d)
		}
	}
	for _, d := range []DeviceID{"a", "m-1", DeviceID(strings.Repeat("a", 63))} {
		if err := d.Check(); err != nil {
			t.Errorf("device %q: %v", d, err)
		}
	}
}

func TestTopics(t *testing.T) {
	d, l, err := ParseTopic(TopicOf("m1", UpJournal))
	if d != "m1" || l != UpJournal || err != nil {
		t.Fatal(d, l, err)
	}
	for _, bad := range []Topic{"", "coinop/v1", "coinop/v1/m1", "coinop/v1/+/up/auth", "coinop/v2/m1/up/auth", "coinop/v1/m1/", "$SYS/x", "coinop/v1/../up/auth"} {
		if _, _, err := ParseTopic(bad); !errors.Is(err, ErrTopic) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzOpenRecord(f *testing.F) {
	s, _ := SealRecord("m1", Position{}, Record{Body: filled[SaleOpened]()})
	f.Add(s.Bytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := OpenRecord(b)
		if err != nil {
			if !errors.Is(err, ErrDecode) {
				t.Fatal(err)
			}
			return
		}
		if o.Position.Hash != HashBytes(b) {
			t.Fatal("hash")
		}
		if l, err := RecordLink(b); err != nil || l != linkOf(o) {
			t.Fatal("link", l, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	all := messages()
	for _, v := range all {
		f.Add(MustEncode(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, v := range all {
			out := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := Decode(b, out); err != nil {
				if !errors.Is(err, ErrDecode) {
					t.Fatal(name, err)
				}
				continue
			}
			if _, err := Encode(out); err != nil {
				t.Fatal(name, err)
			}
		}
	})
}
