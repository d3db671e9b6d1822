package payment_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"coinop/cloud/acquirer"
	"coinop/cloud/payment"
	"coinop/protocol"
)

// Rows and messages of authorizations are encoded by hand to the same bytes as the library makes of them: each field
// alone, and all of them.
func TestRows(t *testing.T) {
	same := func(name string, v any, by []byte) {
		t.Helper()
		want, err := protocol.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(by, want) {
			t.Fatalf("%s of %+v:\n got %x\nwant %x", name, v, by, want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		for only := -1; only < 40; only++ {
			var p payment.Payment
			var o acquirer.Op
			fill(r, reflect.ValueOf(&p).Elem(), only)
			fill(r, reflect.ValueOf(&o).Elem(), only)
			p.Version = 0
			same("payment", p, p.Encode())
			same("operation", o, o.Encode())
			same("profile", p.Profile, p.Profile.Encode())

			var a protocol.Ask
			var res protocol.AuthorizationResponse
			var aad protocol.CardAAD
			fill(r, reflect.ValueOf(&a).Elem(), only)
			fill(r, reflect.ValueOf(&res).Elem(), only)
			fill(r, reflect.ValueOf(&aad).Elem(), only)
			m := protocol.Auth{T: protocol.MsgType(r.IntN(30))}
			if only < 20 {
				m.Body = protocol.MustEncode(res)
			}
			same("response", res, res.Encode())
			same("message", m, m.Encode())
			same("card's binding", aad, aad.Encode())
			raw := protocol.MustEncode(a)
			if got, err := protocol.DecodeAsk(raw); err != nil || !bytes.Equal(protocol.MustEncode(got), raw) {
				t.Fatalf("ask %+v: %v", a, err)
			}
			if a.V < 24 { // written longer than need be it has another hash
				raw = append([]byte{raw[0], raw[1], 0x18}, raw[2:]...)
				if _, err := protocol.DecodeAsk(raw); !errors.Is(err, protocol.ErrDecode) {
					t.Fatalf("an ask in another encoding: %v", err)
				}
			}
		}
	}
	if n := reflect.TypeFor[payment.Payment]().NumField(); n > 40 {
		t.Fatalf("%d fields: each alone needs more turns", n)
	}
}

// fill puts something into the field of that number, or with -1 into each one in turns of three.
func fill(r *rand.Rand, v reflect.Value, only int) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && (only == i || only == -1 && r.IntN(3) > 0) {
				fill(r, f, -1)
			}
		}
	case reflect.Slice:
		switch {
		case v.Type() == reflect.TypeFor[protocol.Raw]():
			v.SetBytes(protocol.MustEncode(strings.Repeat("x", r.IntN(300))))
		default:
			v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 3))
			for i := range v.Len() {
				fill(r, v.Index(i), -1)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(r.IntN(256)))
		}
	case reflect.String:
		v.SetString(strings.Repeat("ä", r.IntN(40)*r.IntN(10)))
	case reflect.Bool:
		v.SetBool(r.IntN(2) > 0)
	case reflect.Int16, reflect.Int64:
		v.SetInt(int64(r.Uint64()>>r.IntN(64)) >> (64 - 8*v.Type().Size()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> r.IntN(64) & (1<<(8*v.Type().Size()) - 1))
	default:
		panic(v.Type())
	}
}
