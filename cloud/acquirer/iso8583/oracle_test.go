package iso8583

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	moov "github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/prefix"
	"pgregory.net/rapid"

	"coinop/cloud/acquirer/dialects"
)

// padOnly pads like the library's padders, but leaves what it reads as it is: those strip a
// processing code of 000000 to nothing.
type padOnly struct {
	with byte
	left bool
}

func (p padOnly) Pad(b []byte, n int) []byte {
	if len(b) >= n {
		return b
	}
	fill := bytes.Repeat([]byte{p.with}, n-len(b))
	if p.left {
		return append(fill, b...)
	}
	return append(append([]byte{}, b...), fill...)
}
func (p padOnly) Unpad(b []byte) []byte { return b }
func (p padOnly) Inspect() []byte       { return []byte{p.with} }

type row struct {
	Format string `json:"format"`
	Length string `json:"length"`
	Max    int    `json:"max"`
}

func dialectRows(t testing.TB) map[int]row {
	t.Helper()
	var file struct {
		Fields map[string]row `json:"fields"`
	}
	if err := json.Unmarshal(dialects.ASCII87, &file); err != nil {
		t.Fatal(err)
	}
	rows := map[int]row{}
	for k, r := range file.Fields {
		n, err := strconv.Atoi(k)
		if err != nil {
			t.Fatal(err)
		}
		rows[n] = r
	}
	return rows
}

// oracleSpec is moov-io/iso8583's spec for the same dialect file.
func oracleSpec(rows map[int]row) *moov.MessageSpec {
	fields := map[int]field.Field{
		0: field.NewString(&field.Spec{Length: 4, Enc: encoding.ASCII, Pref: prefix.ASCII.Fixed}),
		1: field.NewBitmap(&field.Spec{Length: 8, Enc: encoding.BytesToASCIIHex, Pref: prefix.Hex.Fixed}),
	}
	for n, r := range rows {
		spec := &field.Spec{Length: r.Max, Enc: encoding.ASCII}
		spec.Pref = map[string]prefix.Prefixer{"fixed": prefix.ASCII.Fixed, "ll": prefix.ASCII.LL, "lll": prefix.ASCII.LLL}[r.Length]
		if r.Length == "fixed" {
			spec.Pad = padOnly{' ', false}
			if r.Format == "n" {
				spec.Pad = padOnly{'0', true}
			}
		}
		if r.Format == "b-raw" {
			spec.Enc = encoding.Binary
			fields[n] = field.NewBinary(spec)
			continue
		}
		fields[n] = field.NewString(spec)
	}
	return &moov.MessageSpec{Name: "ascii87", Fields: fields}
}

func drawValue(t *rapid.T, r row) string {
	alphabet := map[string]string{
		"n": "0123456789", "an": "ABCXYZabcxyz0189 ", "ans": "AZaz09 -/.,#&=~!", "z": "0123456789=",
		"x+n": "0123456789", "b-hex": "0123456789ABCDEF",
	}[r.Format]
	least := 1
	if r.Length == "fixed" && (r.Format == "x+n" || r.Format == "b-hex") {
		least = r.Max
	}
	n := rapid.IntRange(least, min(r.Max, 60)).Draw(t, "length")
	if r.Format == "b-raw" {
		return string(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "bytes"))
	}
	b := make([]byte, n)
	for i, k := range rapid.SliceOfN(rapid.IntRange(0, len(alphabet)-1), n, n).Draw(t, "characters") {
		b[i] = alphabet[k]
	}
	if r.Format == "x+n" {
		b[0] = "CD"[rapid.IntRange(0, 1).Draw(t, "sign")]
	}
	return string(b)
}

// TestSameBytesAsMoov: for random messages of the dialect our codec and moov-io/iso8583 v0.26.1
// write the same bytes, and each reads the other's.
func TestSameBytesAsMoov(t *testing.T) {
	t.Parallel()
	rows := dialectRows(t)
	spec := oracleSpec(rows)
	var numbers []int
	for n := 2; n <= 128; n++ {
		if _, ok := rows[n]; ok {
			numbers = append(numbers, n)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		mti := rapid.SampledFrom([]string{"0100", "0110", "0220", "0421", "0800"}).Draw(t, "mti")
		ours, theirs := NewMessage(mti), moov.NewMessage(spec)
		theirs.MTI(mti)
		for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(numbers), 1, 20, rapid.ID[int]).Draw(t, "fields") {
			v := drawValue(t, rows[n])
			ours.Set(n, v)
			if err := theirs.BinaryField(n, []byte(v)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := ASCII87().Pack(nil, ours)
		if err != nil {
			t.Fatal(err)
		}
		want, err := theirs.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("packed\n%q, the oracle\n%q", got, want)
		}
		m, err := ASCII87().Unpack(want)
		if err != nil {
			t.Fatal(err)
		}
		read := moov.NewMessage(spec)
		if err := read.Unpack(got); err != nil {
			t.Fatal(err)
		}
		for _, n := range numbers {
			v, err := read.GetString(n)
			if err != nil {
				t.Fatal(err)
			}
			if rows[n].Format == "b-raw" {
				b, _ := read.GetBytes(n)
				v = string(b)
			}
			if strings.Compare(v, m.Get(n)) != 0 {
				t.Fatalf("DE%d: we read %q, the oracle %q", n, m.Get(n), v)
			}
		}
	})
}
