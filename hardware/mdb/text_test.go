package mdb

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"coinop/hardware"
	"coinop/protocol/money"
)

func TestParseLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Line{
		"c,STATUS,INACTIVE":         {Kind: KindStatus, Status: StatusInactive},
		"c,STATUS,DISABLED":         {Kind: KindStatus, Status: StatusDisabled},
		"c,STATUS,ENABLED":          {Kind: KindStatus, Status: StatusEnabled},
		"c,STATUS,IDLE":             {Kind: KindStatus, Status: StatusIdle},
		"c,STATUS,VEND,1.00,5":      {Kind: KindStatus, Status: StatusVend, Price: "1.00", Item: "5"},
		"c,STATUS,VEND,99.20, 18":   {Kind: KindStatus, Status: StatusVend, Price: "99.20", Item: "18"},
		"c,STATUS,VEND":             {Kind: KindUnknown},
		"c,STATUS,VEND,1.00":        {Kind: KindUnknown},
		"c,STATUS,ASLEEP":           {Kind: KindUnknown},
		"c,VEND,SUCCESS":            {Kind: KindSuccess},
		"c,ERR,VEND 3":              {Kind: KindVendErr, Code: 3},
		"c,ERR,VEND 1":              {Kind: KindVendErr, Code: 1},
		"c,ERR,VEND x":              {Kind: KindRefused},
		`c,ERR,"cashless is on"`:    {Kind: KindIsOn},
		`c,ERR,"cashless is off"`:   {Kind: KindIsOff},
		"c,SET,OK":                  {Kind: KindSet},
		"c,1":                       {Kind: KindOn},
		"c,0":                       {Kind: KindOff},
		"r,ACK":                     {Kind: KindNoise},
		"v,4.0.2.0,1a2b3c4d":        {Kind: KindVersion},
		"d,STATUS,RESET":            {Kind: KindUnknown},
		"":                          {Kind: KindUnknown},
		"c,VEND,SUCCESS,and more":   {Kind: KindUnknown},
		"C,VEND,1.00":               {Kind: KindUnknown}, // an echo of ours is no word of the adapter's
		"c,STATUS,VENDING,1.00,5":   {Kind: KindUnknown},
		"c,STATUS,VEND,1.00,5,more": {Kind: KindStatus, Status: StatusVend, Price: "1.00", Item: "5,more"},
	} {
		if got := ParseLine(text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	var l Lines
	got := l.Add([]byte("c,1\r\n\r\nr,A"))
	got = append(got, l.Add([]byte("CK\nc,\x00\xff\r\nc,0\r"))...)
	got = append(got, l.Add([]byte(strings.Repeat("x", 500)+"\nv,1\n"))...)
	if want := []string{"c,1", "r,ACK", "c,0", "v,1"}; !slices.Equal(got, want) || l.Lost != 2 {
		t.Errorf("%q, %d lost", got, l.Lost)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("c,STATUS,VEND,1.00,5\r\nc,VEND,SUCCESS\r\n"), 3)
	f.Add([]byte("c,ERR,\"cashless is on\"\r\n\x00c,ERR,VEND 3\n"), 7)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var whole, parts Lines
		want := whole.Add(b)
		cut = min(max(cut, 0), len(b))
		got := append(parts.Add(b[:cut]), parts.Add(b[cut:])...)
		if !slices.Equal(want, got) || whole != parts {
			t.Fatalf("cut at %d: %q, want %q", cut, got, want)
		}
		for _, text := range got {
			if len(text) > lineMax {
				t.Fatalf("a line of %d", len(text))
			}
			if l := ParseLine(text); l.Kind == KindStatus && l.Status == StatusVend {
				s := Scale{Currency: money.EUR, Decimals: 2}
				if a, err := s.parsePrice(l.Price); err == nil && (a.Minor < 0 || a.Minor > 0xFFFE) {
					t.Fatalf("price %v of %q", a, text)
				}
			}
		}
	})
}

func TestPrice(t *testing.T) {
	t.Parallel()
	eur := Scale{Currency: money.EUR, Decimals: 2}
	five := Scale{Currency: money.EUR, Factor: 5, Decimals: 2}
	dime := Scale{Currency: money.EUR, Factor: 1, Decimals: 1}
	jpy, err := money.CurrencyOf("JPY")
	if err != nil {
		t.Fatal(err)
	}
	yen := Scale{Currency: jpy}
	for _, c := range []struct {
		s     Scale
		text  string
		minor int64 // -1: refused
	}{
		{eur, "1.00", 100},
		{eur, "1", 100},
		{eur, "10", 1000},
		{eur, "1.5", 150},
		{eur, "1.500", 150},
		{eur, "0.00", 0},
		{eur, "1.005", -1},
		{eur, "655.34", 65534},
		{eur, "655.35", -1},
		{eur, "-1.00", -1},
		{eur, "", -1},
		{eur, "x", -1},
		{eur, "1.", -1},
		{eur, ".5", -1},
		{eur, "1,00", -1},
		{five, "1.05", 105},
		{five, "1.01", -1},
		{dime, "1.10", 110},
		{dime, "1.15", -1},
		{yen, "100.00", 100},
		{yen, "100", 100},
		{yen, "100.50", -1},
	} {
		a, err := c.s.parsePrice(c.text)
		if (err != nil) != (c.minor < 0) || err == nil && a.Minor != c.minor {
			t.Errorf("%q in %+v: %v, %v", c.text, c.s, a, err)
		}
	}
	for _, bad := range []Scale{{}, {Currency: money.EUR, Factor: 1, Decimals: 3}} {
		if bad.Check() == nil {
			t.Errorf("%+v passed", bad)
		}
	}
	if u, err := five.Units(money.New(150, money.EUR)); err != nil || u != 30 {
		t.Errorf("%d, %v", u, err)
	}
	for minor, units := range map[int64]uint32{65534: 0xFFFE, 65535: 0xFFFF, 4_294_967_294: 0xFFFFFFFE, 4_294_967_295: 0, 1 << 40: 0} {
		if u, err := eur.Units(money.New(minor, money.EUR)); u != units || (err == nil) != (units > 0) {
			t.Errorf("%d: %d units, %v", minor, u, err)
		}
	}
	if a, err := five.Amount(30); err != nil || a != money.New(150, money.EUR) {
		t.Errorf("%v, %v", a, err)
	}
	if _, err := eur.Units(money.New(100, money.USD)); !errors.Is(err, hardware.ErrInexact) {
		t.Error(err)
	}
}
