package card

import "strconv"

// Brand is a card scheme.
type Brand uint8

// Brands.
const (
	BrandUnknown Brand = iota
	Visa
	Mastercard
	Maestro
	Amex
	Diners
	Discover
	JCB
	UnionPay
)

// String is the name records carry.
func (b Brand) String() string {
	return [...]string{
		"unknown", "visa", "mastercard", "maestro", "amex", "diners", "discover", "jcb",
		"unionpay",
	}[min(int(b), 8)%9]
}

// prefixes are ranges of the first six digits, narrower ones first. Schemes publish theirs and
// change them; a wrong brand costs a wrong icon, never a routing: hosts route by the whole number.
var prefixes = [...]struct {
	from, to uint32
	brand    Brand
}{
	{340000, 349999, Amex},
	{370000, 379999, Amex},
	{300000, 305999, Diners},
	{309500, 309599, Diners},
	{360000, 369999, Diners},
	{380000, 399999, Diners},
	{352800, 358999, JCB},
	{222100, 272099, Mastercard},
	{510000, 559999, Mastercard},
	{400000, 499999, Visa},
	{601100, 601199, Discover},
	{644000, 659999, Discover},
	{620000, 629999, UnionPay},
	{810000, 817199, UnionPay},
	{500000, 509999, Maestro},
	{560000, 589999, Maestro},
	{600000, 699999, Maestro},
}

// BrandOf is the scheme of a number by its first six digits.
func BrandOf(digits string) Brand {
	if len(digits) < 6 || !allDigits(digits[:6]) {
		return BrandUnknown
	}
	n, _ := strconv.ParseUint(digits[:6], 10, 32)
	for _, p := range prefixes {
		if uint32(n) >= p.from && uint32(n) <= p.to {
			return p.brand
		}
	}
	return BrandUnknown
}

// lengths are the usual numbers of digits of a brand's cards.
func (b Brand) lengths() []int {
	switch b {
	case BrandUnknown:
		return nil
	case Amex:
		return []int{15}
	case Diners:
		return []int{14, 16}
	case UnionPay, Maestro:
		return []int{16, 18, 19}
	case Visa:
		return []int{16, 19}
	default:
		return []int{16}
	}
}
