package emvqr

import "regexp"

// Kind is what a code is.
type Kind uint8

// Kinds of codes. Those of wallets are good for one payment within about a minute: they are never stored, and
// never logged.
const (
	Unknown Kind = iota
	MerchantPresented
	ConsumerPresented
	WeChat
	Alipay
	AlipayPlus
	UnionPay
)

func (k Kind) String() string {
	return [...]string{"unknown", "emv_merchant", "emv_consumer", "wechat", "alipay", "alipay_plus", "unionpay"}[min(int(k), 6)]
}

// ranges are those of wallets' codes: what they publish (WeChat, Alipay+), or what is believed of them.
var ranges = []struct {
	kind Kind
	form *regexp.Regexp
}{
	{WeChat, regexp.MustCompile(`^1[0-5][0-9]{16}$`)},
	{Alipay, regexp.MustCompile(`^(2[5-9]|30)[0-9]{14,22}$`)},
	// 24 digits: issuer 6, type 2, number 16; the others are older.
	{AlipayPlus, regexp.MustCompile(`^(2[5-9]|30)([0-9]{22}|[0-9]{23,30})$|^28[0-9]{15,16}$|^28[0-8][0-9]{16}$|^289[0-9]{10}6[0-9]{5}$`)},
	{UnionPay, regexp.MustCompile(`^62[0-9]{17}$`)},
}

// Classify says what a code can be: of wallets' ranges that overlap, all. Nil is something else, as the code
// of a product.
func Classify(text string) (kinds []Kind) {
	for _, r := range ranges {
		if r.form.MatchString(text) {
			kinds = append(kinds, r.kind)
		}
	}
	if kinds != nil {
		return kinds
	}
	if _, err := ParseMerchant(text); err == nil {
		return []Kind{MerchantPresented}
	}
	if _, err := ParseConsumer(text); err == nil {
		return []Kind{ConsumerPresented}
	}
	return nil
}
