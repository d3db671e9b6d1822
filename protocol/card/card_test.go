package card

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

const (
	testPAN   = "5413330089020011"
	testTrack = "5413330089020011=25122010123456789"
)

func mustTrack(t *testing.T) Track2 {
	t.Helper()
	tr, err := ParseTrack2(testTrack)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestNothingPrintsACard(t *testing.T) {
	t.Parallel()
	tr := mustTrack(t)
	type exported struct {
		P PAN
		E Expiry
		T Track2
	}
	type hidden struct {
		p PAN
		e Expiry
		t Track2
	}
	ex, hi := exported{tr.PAN(), tr.Expiry(), tr}, hidden{tr.PAN(), tr.Expiry(), tr}
	values := []any{
		tr, &tr, tr.PAN(), tr.Expiry(), ex, &ex, hi, &hi,
		[]PAN{tr.PAN()},
		map[string]Track2{"t": tr},
		map[string]hidden{"h": hi},
		[]any{hi, ex},
		[1]Expiry{tr.Expiry()},
		struct{ in *hidden }{&hi},
		fmt.Errorf("read %v: %w", tr, ErrPAN),
	}
	secrets := []string{
		testPAN, testPAN[:12], "541333", "2512", "25122010", fmt.Sprintf("%x", testPAN), fmt.Sprintf("%X", testTrack),
		strings.Trim(fmt.Sprint([]byte(testPAN)), "[]"), "0x35, 0x34, 0x31",
	}
	check := func(how, got string) {
		t.Helper()
		for _, s := range secrets {
			if strings.Contains(got, s) {
				t.Errorf("%s shows %q in %q", how, s, got)
			}
		}
	}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%b", "%o", "%c", "%U", "%T", "%10v", "%t", "%e"} {
			check(fmt.Sprintf("%s of %T", verb, v), fmt.Sprintf(verb, v))
		}
		js, err := json.Marshal(v)
		if err != nil {
			t.Errorf("json of %T: %v", v, err)
		}
		check(fmt.Sprintf("json of %T", v), string(js))
		var text, jsn bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&jsn, nil)).Info("m", "v", v)
		check(fmt.Sprintf("slog text of %T", v), text.String())
		check(fmt.Sprintf("slog json of %T", v), jsn.String())
	}
	for _, m := range []interface{ MarshalText() ([]byte, error) }{tr, tr.PAN(), tr.Expiry()} {
		b, err := m.MarshalText()
		if err != nil {
			t.Error(err)
		}
		check(fmt.Sprintf("text of %T", m), string(b))
	}
	if got := tr.PAN().String(); got != "************0011" {
		t.Errorf("PAN prints %q", got)
	}
}

func TestTrack2(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, raw, pan, expiry, service string
		err                             error
	}{
		{"as DE35", testTrack, testPAN, "2512", "201", nil},
		{"sentinels and check character", ";" + testTrack + "?1", testPAN, "2512", "201", nil},
		{"tag 57 with D and F", "5413330089020011D25122010123456789F", testPAN, "2512", "201", nil},
		{"shortest", "501234567890=2512201", "501234567890", "2512", "201", nil},
		{"no separator", testPAN + "2512201", "", "", "", ErrTrack2},
		{"no service code", testPAN + "=251220", "", "", "", ErrTrack2},
		{"two separators", testPAN + "=2512201=1", "", "", "", ErrTrack2},
		{"month 13", testPAN + "=2513201", "", "", "", ErrExpiry},
		{"letters in the number", "54133300A9020011=2512201", "", "", "", ErrPAN},
		{"37 characters", testPAN + "=25122010123456789012", testPAN, "2512", "201", nil},
		{"38 characters", testPAN + "=251220101234567890123", "", "", "", ErrTrack2},
		{"text after the end", testTrack + "?;;;", "", "", "", ErrTrack2},
		{"empty", "", "", "", "", ErrTrack2},
	} {
		tr, err := ParseTrack2(c.raw)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.err)
			continue
		}
		if got := []string{tr.PAN().Reveal(), tr.Expiry().Reveal(), tr.Service()}; c.err == nil &&
			(got[0] != c.pan || got[1] != c.expiry || got[2] != c.service) {
			t.Errorf("%s: read %q", c.name, got)
		}
		if err != nil && strings.Contains(err.Error(), "541") {
			t.Errorf("%s: the error holds the track", c.name)
		}
	}
}

func TestWipe(t *testing.T) {
	t.Parallel()
	tr := mustTrack(t)
	again := tr
	tr.Wipe()
	if !again.IsZero() || again.Reveal() != "" || again.String() != "" {
		t.Error("a copy outlived the wipe")
	}
}

func TestLuhnAndBrand(t *testing.T) {
	t.Parallel()
	for digits, want := range map[string]Brand{
		"4111111111111111": Visa, "5413330089020011": Mastercard, "2223000048400011": Mastercard,
		"378282246310005": Amex, "30569309025904": Diners, "6011111111111117": Discover,
		"3530111333300000": JCB, "6240008631401148": UnionPay, "6759649826438453": Maestro,
	} {
		if !Luhn(digits) {
			t.Errorf("%s has a right check digit", mask(digits))
		}
		if b := BrandOf(digits); b != want {
			t.Errorf("%s is %v, want %v", mask(digits), b, want)
		}
		wrong := digits[:len(digits)-1] + string('0'+(digits[len(digits)-1]-'0'+1)%10)
		if Luhn(wrong) {
			t.Errorf("%s passed with a wrong check digit", mask(wrong))
		}
	}
	if Luhn("0") || Luhn("12a4") || BrandOf("9999990000000000") != BrandUnknown || BrandUnknown.String() != "unknown" {
		t.Error("took nonsense")
	}
}

// TestEachTLVVendor: FF EE begins a tag of three bytes, any other FF is padding.
func TestEachTLVVendor(t *testing.T) {
	t.Parallel()
	var got []Tag
	err := EachTLV([]byte{0xFF, 0xFF, 0xEE, 0x1F, 1, 0x02, 0xFF, 0x9F, 0x27, 1, 0x80, 0xFF, 0xEE, 0x12, 2, 0xFF, 0xEE, 0xFF}, func(tag Tag, _, _ []byte) { got = append(got, tag) })
	if want := []Tag{0xFFEE1F, 0x9F27, 0xFFEE12}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%X, %v", got, err)
	}
	if err := EachTLV([]byte{0xFF, 0xEE}, func(Tag, []byte, []byte) {}); !errors.Is(err, ErrTLV) {
		t.Errorf("half a tag: %v", err)
	}
}

func TestEachTLV(t *testing.T) {
	t.Parallel()
	var got []string
	err := EachTLV([]byte{0x00, 0x9F, 0x27, 1, 0x80, 0x91, 0x81, 2, 1, 2, 0xFF}, func(tag Tag, v, whole []byte) {
		got = append(got, fmt.Sprintf("%X=%X/%d", uint32(tag), v, len(whole)))
	})
	if want := "[9F27=80/4 91=0102/5]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("read %v, %v; want %s", got, err, want)
	}
	for _, bad := range [][]byte{{0x9F}, {0x91}, {0x91, 2, 1}, {0x91, 0x80}, {0x91, 0x83, 0, 0, 1, 1}, {0x9F, 0x81, 0x81, 0x81, 1, 0}} {
		if err := EachTLV(bad, func(Tag, []byte, []byte) {}); !errors.Is(err, ErrTLV) {
			t.Errorf("% X: %v", bad, err)
		}
	}
}
