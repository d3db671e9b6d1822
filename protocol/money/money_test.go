package money

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestParseAndPrint(t *testing.T) {
	for _, c := range []struct {
		in    string
		cur   Currency
		minor int64
		out   string
	}{
		{"2.50", EUR, 250, "2.50 EUR"},
		{"2.5", EUR, 250, "2.50 EUR"},
		{"2", EUR, 200, "2.00 EUR"},
		{"-0.05", EUR, -5, "-0.05 EUR"},
		{"0", EUR, 0, "0.00 EUR"},
		{"300", JPY, 300, "300 JPY"},
		{"1.234", KWD, 1234, "1.234 KWD"},
		{"0.0001", CLF, 1, "0.0001 CLF"},
		{"92233720368547758.07", EUR, math.MaxInt64, "92233720368547758.07 EUR"},
		{"-92233720368547758.08", EUR, math.MinInt64, "-92233720368547758.08 EUR"},
	} {
		a, err := Parse(c.in, c.cur)
		if err != nil || a.Minor != c.minor || a.String() != c.out {
			t.Errorf("%s %s: %s, %v", c.in, c.cur, a, err)
		}
	}
	for in, want := range map[string]error{
		"": ErrSyntax, ".5": ErrSyntax, "1.": ErrSyntax, "1,5": ErrSyntax, "+1": ErrSyntax, "--1": ErrSyntax, "1e3": ErrSyntax,
		"1.005": ErrSyntax, "92233720368547758.08": ErrOverflow,
	} {
		if a, err := Parse(in, EUR); !errors.Is(err, want) {
			t.Errorf("%q: %s, %v, want %v", in, a, err, want)
		}
	}
}

func TestArithmetic(t *testing.T) {
	e := func(n int64) Amount { return New(n, EUR) }
	if _, err := e(1).Add(New(1, USD)); !errors.Is(err, ErrCurrency) {
		t.Error(err)
	}
	if _, err := e(math.MaxInt64).Add(e(1)); !errors.Is(err, ErrOverflow) {
		t.Error(err)
	}
	if _, err := e(math.MinInt64).Add(e(-1)); !errors.Is(err, ErrOverflow) {
		t.Error(err)
	}
	if _, err := e(0).Sub(e(math.MinInt64)); !errors.Is(err, ErrOverflow) {
		t.Error(err)
	}
	for _, n := range []int64{-1, 2} {
		if _, err := e(math.MinInt64).Mul(n); !errors.Is(err, ErrOverflow) {
			t.Errorf("times %d: %v", n, err)
		}
	}
	if s, err := Sum(e(1), Amount{}, e(2)); err != nil || s != e(3) {
		t.Error(s, err)
	}
	if m, err := Min(e(3), e(2)); err != nil || m != e(2) {
		t.Error(m, err)
	}
	if e(1).Less(New(2, USD)) {
		t.Error("1 EUR < 2 USD")
	}
}

// What prints parses to the same, in every currency; adding and taking away come back.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := currencies[rapid.IntRange(0, len(currencies)-1).Draw(t, "currency")].number
		a := New(rapid.Int64().Draw(t, "a"), c)
		if b, err := Parse(a.Decimal(), c); err != nil || b != a {
			t.Fatalf("%s: %s %v", a, b, err)
		}
		b := New(rapid.Int64().Draw(t, "b"), c)
		s, err := a.Add(b)
		exact := float64(a.Minor) + float64(b.Minor)
		if (err == nil) && (exact > 1.1*math.MaxInt64 || exact < 1.1*math.MinInt64) {
			t.Fatalf("%s + %s = %s", a, b, s)
		}
		if err == nil {
			if d, err := s.Sub(b); b.Minor != math.MinInt64 && (err != nil || d != a) {
				t.Fatalf("%s + %s - %s = %s (%v)", a, b, b, d, err)
			}
		}
	})
}

func TestISO4217(t *testing.T) {
	codes := map[string]bool{}
	for _, c := range currencies {
		if len(c.code) != 3 || codes[c.code] || c.exponent < 0 || c.exponent > 4 || len(byNumber) != len(currencies) {
			t.Errorf("%+v", c)
		}
		codes[c.code] = true
	}
	if c, err := CurrencyOf("eur"); c != EUR || err != nil {
		t.Error(c, err)
	}
	if _, err := CurrencyOf("EUX"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}
