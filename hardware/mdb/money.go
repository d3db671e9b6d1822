package mdb

import (
	"errors"
	"fmt"
	"strings"

	"coinop/hardware"
	"coinop/protocol/money"
)

// Scale is how the bus counts money: actual = units * Factor * 10^-Decimals (MDB/ICP 4.2, 7.4, SETUP, Z4
// and Z5).
type Scale struct {
	Currency money.Currency
	Factor   uint8 // 0 is 1
	Decimals uint8
}

var errScale = errors.New("scale")

// Check reports a scale in which no unit is a whole number of minor units.
func (s Scale) Check() error {
	_, err := s.unit()
	return err
}

// unit is one bus unit in minor units.
func (s Scale) unit() (int64, error) {
	if !s.Currency.Known() {
		return 0, fmt.Errorf("%w: unknown currency %d", errScale, s.Currency)
	}
	u := max(int64(s.Factor), 1)
	for d := int(s.Decimals); d < s.Currency.Exponent(); d++ {
		u *= 10
	}
	for d := int(s.Decimals); d > s.Currency.Exponent(); d-- {
		if u%10 != 0 {
			return 0, fmt.Errorf("%w: %d with %d decimals is no whole number of %s's smallest unit", errScale, s.Factor, s.Decimals, s.Currency)
		}
		u /= 10
	}
	return u, nil
}

// Amount is units of the bus in minor units.
func (s Scale) Amount(units uint32) (money.Amount, error) {
	u, err := s.unit()
	if err != nil {
		return money.Amount{}, err
	}
	return money.New(int64(units)*u, s.Currency), nil
}

// Units is an amount as the bus counts it: hardware.ErrInexact unless it is exactly that, not negative,
// and no more than FFFFFFFE (all ones mean unknown; MDB/ICP 4.2, 7.4, BEGIN SESSION). Where money has two bytes
// no more than FFFE can be told.
func (s Scale) Units(a money.Amount) (uint32, error) { return s.units(a, 0xFFFFFFFE) }

func (s Scale) units(a money.Amount, most int64) (uint32, error) {
	u, err := s.unit()
	if err != nil {
		return 0, err
	}
	if a.Currency != s.Currency || a.Minor < 0 || a.Minor%u != 0 || a.Minor/u > most {
		return 0, fmt.Errorf("%w: %s in units of %d", hardware.ErrInexact, a, u)
	}
	return uint32(a.Minor / u), nil //nolint:gosec // checked above
}

// short is Units where an adapter speaks for us, with money of two bytes.
func (s Scale) short(a money.Amount) error {
	_, err := s.units(a, 0xFFFE)
	return err
}

// parsePrice reads the adapter's decimal price; digits beyond the currency's that are not 0 are
// an error, nothing is rounded.
func (s Scale) parsePrice(text string) (money.Amount, error) {
	if _, frac, ok := strings.Cut(text, "."); ok && frac != "" {
		for len(frac) > s.Currency.Exponent() && frac[len(frac)-1] == '0' {
			frac, text = frac[:len(frac)-1], text[:len(text)-1]
		}
		text = strings.TrimSuffix(text, ".")
	}
	a, err := money.Parse(text, s.Currency)
	if err != nil {
		return money.Amount{}, err
	}
	if err := s.short(a); err != nil {
		return money.Amount{}, err
	}
	return a, nil
}

// foreign reports whether two bytes of the bus name another currency than c. Zeros, FF FF and the numbers of
// countries (a leading 0, before level 3) name none.
func foreign(b []byte, c money.Currency) bool {
	ours := isoBCD(c)
	return len(b) == 2 && b[0]>>4 == 1 && (b[0] != ours[0] || b[1] != ours[1])
}

// isoBCD is a currency's number with the digit that says so before it (7.4.2): EUR is 19 78.
func isoBCD(c money.Currency) [2]byte {
	n := uint16(c)
	return [2]byte{0x10 | byte(n/100%10), byte(n/10%10)<<4 | byte(n%10)} //nolint:gosec // digits
}
