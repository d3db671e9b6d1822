package risk

import (
	"testing"

	"coinop/protocol"
	"coinop/protocol/money"
)

func TestDecide(t *testing.T) {
	on := protocol.Policy{Currency: money.EUR, Offline: protocol.OfflinePolicy{
		On: true, Kind: protocol.OfflineDeferred, MaxOne: 500, MaxSum: 1000, MaxCount: 3,
	}}
	off, noKind := on, on
	off.Offline.On = false
	noKind.Offline.Kind = 0
	for _, c := range []struct {
		policy protocol.Policy
		past   protocol.Counters
		amount money.Amount
		accept bool
		rule   string
	}{
		{protocol.Policy{Currency: money.EUR}, protocol.Counters{}, money.New(1, money.EUR), false, "offline_off"},
		{off, protocol.Counters{}, money.New(1, money.EUR), false, "offline_off"},
		{noKind, protocol.Counters{}, money.New(1, money.EUR), false, "kind_not_contracted"},
		{on, protocol.Counters{}, money.New(0, money.EUR), false, "amount"},
		{on, protocol.Counters{}, money.New(1, money.USD), false, "amount"},
		{on, protocol.Counters{}, money.New(501, money.EUR), false, "one_too_large"},
		{on, protocol.Counters{Exposure: 501}, money.New(500, money.EUR), false, "exposure_full"},
		{on, protocol.Counters{Exposure: 1 << 62}, money.New(500, money.EUR), false, "exposure_full"},
		{on, protocol.Counters{Count: 3}, money.New(1, money.EUR), false, "count_full"},
		{on, protocol.Counters{Exposure: 500, Count: 2}, money.New(500, money.EUR), true, "within_limits"},
	} {
		v := Decide(c.policy, c.past, Ask{Amount: c.amount})
		if v.Accept != c.accept || v.Rule != c.rule || (v.Accept && v.Kind != protocol.OfflineDeferred) {
			t.Errorf("%+v %s: %+v, want %v %s", c.past, c.amount, v, c.accept, c.rule)
		}
	}
}
