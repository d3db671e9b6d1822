// Package money is amounts: int64 minor units of an ISO 4217 currency.
//
//	a, err := money.Parse("2.50", money.EUR)   // 2.50 EUR
//	b, err := a.Add(money.New(50, money.EUR))  // 3.00 EUR; other currency or overflow is an error
//	fmt.Println(b)                             // 3.00 EUR
//
// There are no floats. The exponent (0 to 4 decimals) is the currency's.
package money

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Errors of arithmetic and parsing. None can be mended by trying again.
var (
	ErrCurrency = errors.New("different currencies")
	ErrOverflow = errors.New("amount too large")
	ErrSyntax   = errors.New("not an amount")
	ErrUnknown  = errors.New("unknown currency")
)

// Amount is Minor units (cents) of Currency. The zero value is no money of no currency; it adds to
// any amount. On the wire it is [minor, currency number].
type Amount struct {
	_        struct{} `cbor:",toarray"`
	Minor    int64
	Currency Currency
}

// New is minor units of c.
func New(minor int64, c Currency) Amount { return Amount{Minor: minor, Currency: c} }

// IsZero reports whether a is 0 of whatever currency.
func (a Amount) IsZero() bool { return a.Minor == 0 }

// Add returns a+b. ErrCurrency unless both have one currency (or one of them is the zero value),
// ErrOverflow beyond int64.
func (a Amount) Add(b Amount) (Amount, error) {
	c, err := same(a, b)
	if err != nil {
		return Amount{}, err
	}
	s := a.Minor + b.Minor
	if (s > a.Minor) != (b.Minor > 0) && b.Minor != 0 {
		return Amount{}, ErrOverflow
	}
	return New(s, c), nil
}

// Sub returns a-b, with the errors of Add.
func (a Amount) Sub(b Amount) (Amount, error) {
	if b.Minor == math.MinInt64 {
		return Amount{}, ErrOverflow
	}
	return a.Add(Amount{Minor: -b.Minor, Currency: b.Currency})
}

// Mul returns a times n, or ErrOverflow.
func (a Amount) Mul(n int64) (Amount, error) {
	if a.Minor == 0 || n == 0 {
		return New(0, a.Currency), nil
	}
	p := a.Minor * n
	if p/n != a.Minor || (n == -1 && a.Minor == math.MinInt64) {
		return Amount{}, ErrOverflow
	}
	return New(p, a.Currency), nil
}

// Cmp is -1, 0 or 1 as a is less than, equal to or more than b, or ErrCurrency.
func (a Amount) Cmp(b Amount) (int, error) {
	if _, err := same(a, b); err != nil {
		return 0, err
	}
	switch {
	case a.Minor < b.Minor:
		return -1, nil
	case a.Minor > b.Minor:
		return 1, nil
	}
	return 0, nil
}

// Less reports a < b; amounts of different currencies are never less than one another.
func (a Amount) Less(b Amount) bool { c, err := a.Cmp(b); return err == nil && c < 0 }

// Min is the smaller of a and b, or ErrCurrency.
func Min(a, b Amount) (Amount, error) {
	c, err := a.Cmp(b)
	if err != nil {
		return Amount{}, err
	}
	if c <= 0 {
		return a, nil
	}
	return b, nil
}

// Sum adds amounts; the sum of none is the zero value.
func Sum(as ...Amount) (Amount, error) {
	var s Amount
	for _, a := range as {
		var err error
		if s, err = s.Add(a); err != nil {
			return Amount{}, err
		}
	}
	return s, nil
}

func same(a, b Amount) (Currency, error) {
	switch {
	case a.Currency == b.Currency:
		return a.Currency, nil
	case a == Amount{}:
		return b.Currency, nil
	case b == Amount{}:
		return a.Currency, nil
	}
	return 0, fmt.Errorf("%w: %s and %s", ErrCurrency, a.Currency, b.Currency)
}

// Decimal is the amount without its currency: "2.50", "-0.05", "300" (JPY), "1.234" (KWD).
func (a Amount) Decimal() string {
	exp := a.Currency.Exponent()
	neg := a.Minor < 0
	digits := strconv.FormatUint(abs(a.Minor), 10)
	if exp > 0 {
		for len(digits) <= exp {
			digits = "0" + digits
		}
		digits = digits[:len(digits)-exp] + "." + digits[len(digits)-exp:]
	}
	if neg {
		return "-" + digits
	}
	return digits
}

// String is the amount with its currency: "2.50 EUR".
func (a Amount) String() string { return a.Decimal() + " " + a.Currency.String() }

func abs(v int64) uint64 {
	if v < 0 {
		return uint64(-(v + 1)) + 1
	}
	return uint64(v)
}

// Parse reads "2.50", "2.5", "2" or "-0.05" as an amount of c. More decimals than the currency has
// are an error, not rounded.
func Parse(s string, c Currency) (Amount, error) {
	exp := c.Exponent()
	num, neg := strings.CutPrefix(s, "-")
	whole, frac, point := strings.Cut(num, ".")
	if whole == "" || (point && frac == "") || !digits(whole) || !digits(frac) {
		return Amount{}, fmt.Errorf("%w: %q, want a number like 2.50", ErrSyntax, s)
	}
	if len(frac) > exp {
		return Amount{}, fmt.Errorf("%w: %q, %s has %d decimals", ErrSyntax, s, c, exp)
	}
	frac += strings.Repeat("0", exp-len(frac))
	sign := ""
	if neg {
		sign = "-"
	}
	minor, err := strconv.ParseInt(sign+whole+frac, 10, 64)
	if err != nil {
		return Amount{}, fmt.Errorf("%w: %q", ErrOverflow, s)
	}
	return New(minor, c), nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
