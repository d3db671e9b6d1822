package emvqr

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"coinop/protocol/card"
)

// Samples of the standards, and of wallets.
const (
	transport = "00020101021229300012D156000000000510A93FO3230Q31280012D15600000001030812345678520441115802CN5914BEST TRANSPORT6007BEIJING64200002ZH0104最佳运输0202北京540523.7253031565502016233030412340603***0708A60086670902ME91320016A0112233449988770708123456786304A13A"
	kiosk     = "00020101021226370014com.kiosk.test0115KSK000000000042520458145303978540410.55802DE5910KIOSK TEST6006BERLIN62220110ORD00000420704T00163040B33"
	consumer  = "hQVDUFYwMWETTwegAAAAVVVVUAhQcm9kdWN0MWETTwegAAAAZmZmUAhQcm9kdWN0MmJJWggSNFZ4kBI0WF8gDkNBUkRIT0xERVIvRU1WXy0IcnVlc2RlZW5kIZ8QBwYBCgMAAACfJghYT9OF+iNLzJ82AgABnzcEbVjvEw=="
)

func TestMerchant(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text, id, value string
		accounts        int
		dynamic         bool
	}{
		"MPM 1.1, annex: the sample": {transport, IDName, "BEST TRANSPORT", 2, true},
		"a kiosk's, dynamic":         {kiosk, IDAmount, "10.5", 1, true},
	} {
		m, err := ParseMerchant(c.text)
		if err != nil || m.Get(c.id) != c.value || len(m.Accounts()) != c.accounts || m.Dynamic() != c.dynamic {
			t.Errorf("%s: %v, %v", name, m, err)
			continue
		}
		if again, err := m.Text(); err != nil || again != c.text {
			t.Errorf("%s: made as %s, %v", name, again, err)
		}
	}
	m, _ := ParseMerchant(transport)
	zh, err := m.Template(IDLanguage)
	if want := []Object{{"00", "ZH"}, {"01", "最佳运输"}, {"02", "北京"}}; err != nil || !slices.Equal(zh, want) {
		t.Errorf("MPM 1.1, 4.1, lengths count characters: %v, %v", zh, err)
	}
}

// sum puts the right check sum behind a text.
func sum(text string) string { return text + "6304" + crc(text+"6304") }

func TestMerchantWrong(t *testing.T) {
	t.Parallel()
	body := kiosk[:len(kiosk)-8]
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"a digit of it":                 {strings.Replace(kiosk, "10.5", "99.5", 1), ErrCRC},
		"a check sum in small letters":  {kiosk[:len(kiosk)-4] + "0b33", ErrCRC},
		"without a check sum":           {body, ErrFormat},
		"something behind the sum":      {kiosk + "0101", ErrFormat},
		"a length beyond the end":       {sum(body + "8099x"), ErrFormat},
		"a length in bytes":             {sum(body + "8003é"), ErrFormat},
		"a length that is no number":    {sum(body + "80x1y"), ErrFormat},
		"nothing in it":                 {sum(body + "8000"), ErrFormat},
		"the same twice":                {sum(body + "5802DE"), ErrFormat},
		"the format not first":          {sum(body[6:] + "000201"), ErrField},
		"another format":                {sum("000202" + body[6:]), ErrField},
		"no account":                    {sum("000201" + body[6+6+41:]), ErrField},
		"an account without its scheme": {sum(strings.Replace(body, "0014com", "0114com", 1)), ErrField},
		"a country of one letter":       {sum(strings.Replace(body, "5802DE", "5801D", 1)), ErrField},
		"an amount with a comma":        {sum(strings.Replace(body, "10.5", "10,5", 1)), ErrField},
		"an amount of nothing":          {sum(strings.Replace(body, "10.5", "0.00", 1)), ErrField},
		"a tip without its amount":      {sum(body + "550202"), ErrField},
		"bytes that are no text":        {sum(body + "8001\xff"), ErrFormat},
		"too long":                      {sum(body + strings.Repeat("8099"+strings.Repeat("x", 99), 5)), ErrFormat},
		"":                              {"", ErrFormat},
	} {
		if _, err := ParseMerchant(c.text); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Merchant{{"26", "0001A"}}).Text(); !errors.Is(err, ErrField) {
		t.Error("made without what it must have: ", err)
	}
	if _, err := Join([]Object{{"5", "x"}}); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

func TestConsumer(t *testing.T) {
	t.Parallel()
	c, err := ParseConsumer(consumer)
	if err != nil || len(c.Apps) != 2 || c.Common == nil {
		t.Fatal("CPM 1.1, annex: the sample: ", err)
	}
	if a := c.Apps; fmt.Sprintf("%X", a[0].AID) != "A0000000555555" || fmt.Sprintf("%X", a[1].AID) != "A0000000666666" || a[1].Label != "Product2" {
		t.Errorf("applications %v", c.Apps)
	}
	pan, _ := card.ParsePAN("1234567890123458")
	if !c.PAN().Equal(pan) {
		t.Errorf("number %v", c.PAN())
	}
	if again, err := c.Text(); err != nil || again != consumer {
		t.Errorf("made as another, %v", err)
	}
	own, err := card.ParseTrack2("4761739001010010=30121011234567890")
	if err != nil {
		t.Fatal(err)
	}
	made, err := Consumer{Apps: []Template{Template{AID: []byte("\xA0\x00\x00\x00\x03"), Track2: own}.WithHolder("NOBODY/N")}}.Text()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseConsumer(made); err != nil || !back.Apps[0].Track2.Equal(own) || back.PAN().Last4() != "0010" {
		t.Errorf("round trip: %v, %v", back, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, v := range []any{c, &c, c.Apps, *c.Common, struct{ c Consumer }{c}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "123456789") || strings.Contains(s, "HOLDER") || strings.Contains(s, "4841524444") {
				t.Errorf("%s of %T shows a card", verb, v)
			}
		}
	}
}

func TestConsumerWrong(t *testing.T) {
	t.Parallel()
	raw := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	const app = "\x61\x09\x4F\x07\xA0\x00\x00\x00\x55\x55\x55"
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"no base64":             {"hQVD*", ErrFormat},
		"nothing":               {"", ErrFormat},
		"no format":             {raw(app), ErrFormat},
		"the format behind":     {raw(app + "\x85\x05CPV01"), ErrFormat},
		"another format":        {raw("\x85\x05CPV02" + app), ErrField},
		"no application":        {raw("\x85\x05CPV01"), ErrField},
		"an id of four bytes":   {raw("\x85\x05CPV01\x61\x06\x4F\x04\xA0\x00\x00\x00"), ErrField},
		"no id":                 {raw("\x85\x05CPV01\x61\x03\x50\x01A"), ErrField},
		"torn off":              {raw("\x85\x05CPV01" + app[:8]), ErrFormat},
		"a number that is none": {raw("\x85\x05CPV01" + app + "\x62\x05\x5A\x03\xAB\xCD\xEF"), ErrField},
		"too long":              {strings.Repeat("A", 516), ErrFormat},
	} {
		if _, err := ParseConsumer(c.text); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]Kind{
		"135056725249518813":           {WeChat},
		"165056725249518813":           nil,
		"13505672524951881":            nil,
		"280123456789012345":           {Alipay, AlipayPlus},
		"2512345678901234":             {Alipay},
		"251001020123456789012345":     {Alipay, AlipayPlus},
		"2512345678901234567890123456": {AlipayPlus},
		"2890123456789612345":          {Alipay, AlipayPlus},
		"2890123456789012345":          {Alipay},
		"6212345678901234567":          {UnionPay},
		"4006381333931":                nil, // of a product
		kiosk:                          {MerchantPresented},
		consumer:                       {ConsumerPresented},
		"":                             nil,
	} {
		if got := Classify(text); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func FuzzMerchant(f *testing.F) {
	f.Add(transport)
	f.Add(kiosk)
	f.Fuzz(func(t *testing.T, text string) {
		for _, x := range []string{text, sum(text)} {
			m, err := ParseMerchant(x)
			if err != nil {
				continue
			}
			if again, err := m.Text(); err != nil || again != x {
				t.Fatalf("%q made as %q, %v", x, again, err)
			}
		}
	})
}

func FuzzConsumer(f *testing.F) {
	f.Add(consumer)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConsumer(text)
		if err != nil {
			return
		}
		again, err := c.Text()
		if err != nil {
			return // longer than a code may be: lengths were written shorter than ours
		}
		if d, err := ParseConsumer(again); err != nil || len(d.Apps) != len(c.Apps) || !d.PAN().Equal(c.PAN()) {
			t.Fatalf("made as another: %v", err)
		}
	})
}
