package store

import (
	"testing"

	"coinop/cloud/identity"
	"coinop/cloud/intake"
	"coinop/cloud/payment"
	"coinop/protocol"
)

// TestSales: sales by card, in cash, and of a machine that owns its cash, which have a record and no
// payment, in one order; pages of every size hold all of them once.
func TestSales(t *testing.T) {
	onAll(t, func(t *testing.T, s *Store) {
		if err := s.PutDevice(t.Context(), identity.Device{ID: "snack-1", Tenant: "acme"}, false); err != nil {
			t.Fatal(err)
		}
		put := func(n byte, device protocol.DeviceID, k protocol.Kind, d payment.Verdict) {
			do(t, s, func(tx *Tx) {
				tx.PutRecord(intake.Stored{
					Device: device, Position: protocol.Position{Epoch: protocol.Epoch{1}, Seq: protocol.Seq(n), Hash: protocol.HashBytes([]byte{n})},
					Kind: k, Sale: aPayment(n).Sale, Verdict: d, Bytes: []byte{n},
				})
			})
		}
		posted := payment.Verdict{Disposition: payment.Posted}
		for n := byte(1); n <= 9; n++ {
			switch n % 3 {
			case 0: // of a machine that owns its cash
				put(n, "snack-1", protocol.KindCashSale, posted)
			case 1: // by card
				p := aPayment(n)
				p.State = payment.Captured
				do(t, s, func(tx *Tx) { tx.PutPayment(p) })
				put(n, "snack-1", protocol.KindAuthorizationSent, posted)
			default: // in cash: two coins
				p := aPayment(n)
				p.By, p.State, p.Device, p.Tenant = protocol.ByCash, payment.Reversed, "snack-2", "other"
				do(t, s, func(tx *Tx) { tx.PutPayment(p) })
				put(n, "snack-2", protocol.KindCashIn, posted)
				put(n+100, "snack-2", protocol.KindCashIn, posted)
			}
		}
		put(20, "snack-1", protocol.KindCashSale, payment.Verdict{Disposition: payment.Quarantined})
		for name, c := range map[string]struct {
			f    SaleFilter
			want string
		}{
			"all":            {SaleFilter{}, "\x09\x08\x07\x06\x05\x04\x03\x02\x01"},
			"cash":           {SaleFilter{Tender: Cash}, "\x09\x08\x06\x05\x03\x02"},
			"card":           {SaleFilter{Tender: Card}, "\x07\x04\x01"},
			"cash, captured": {SaleFilter{Tender: Cash, State: payment.Captured}, "\x09\x06\x03"},
			"cash, reversed": {SaleFilter{Tender: Cash, State: payment.Reversed}, "\x08\x05\x02"},
			"of a device":    {SaleFilter{Device: "snack-1"}, "\x09\x07\x06\x04\x03\x01"},
			"of a tenant":    {SaleFilter{Tenant: "acme", Tender: Cash}, "\x09\x06\x03"},
		} {
			for size := 1; size <= 10; size++ {
				got := ""
				f := c.f
				for {
					ids := must(s.Sales(t.Context(), f, size))(t)
					for _, id := range ids {
						got += string(id[:1])
						f.Before = id
					}
					if len(ids) < size {
						break
					}
				}
				if got != c.want {
					t.Errorf("%s, %d a page: %q, want %q", name, size, got, c.want)
				}
			}
		}
		r, tenant, err := s.CashSale(t.Context(), aPayment(3).Sale)
		if err != nil || r.Device != "snack-1" || tenant != "acme" || r.Position.Seq != 3 || string(r.Bytes) != "\x03" {
			t.Errorf("%+v %q %v", r, tenant, err)
		}
		for _, n := range []byte{1, 2, 20, 99} {
			if r, _, err := s.CashSale(t.Context(), aPayment(n).Sale); err != nil || r.Device != "" {
				t.Errorf("%d: %+v %v", n, r, err)
			}
		}
	})
}
