package acquirer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"coinop/protocol/card"
)

func TestCardPrintsMasked(t *testing.T) {
	t.Parallel()
	tr, err := card.ParseTrack2("5413330089020011=25122010123456789")
	if err != nil {
		t.Fatal(err)
	}
	c := Card{PAN: tr.PAN(), Expiry: tr.Expiry(), Track2: tr, ICC: []byte("5413330089020011"), PINBlock: []byte("PINBLOCK"), KSN: []byte("KSNKSN")}
	for _, v := range []any{c, &c, []Card{c}, map[string]any{"c": c}, struct{ C Card }{c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			s := fmt.Sprintf(verb, v)
			for _, secret := range []string{"541333", "35343133", "PINBLOCK", "50494e424c4f434b", "53 52 49", "2512"} {
				if strings.Contains(s, secret) {
					t.Errorf("%s of %T: %s", verb, v, s)
				}
			}
		}
		if js, err := json.Marshal(v); err != nil || strings.Contains(string(js), "541333") || strings.Contains(string(js), "NTQx") {
			t.Errorf("json of %T: %s, %v", v, js, err)
		}
	}
	c.Wipe()
	if !c.PAN.IsZero() || c.ICC[0] != 0 || c.PINBlock[0] != 0 || c.KSN[0] != 0 {
		t.Error("not wiped")
	}
}
