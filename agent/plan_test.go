package agent

import (
	"slices"
	"testing"

	"coinop/agent/session"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// TestPlan: a product has its name; what does not fit is told once, and when it fits again; all of it
// is sold.
func TestPlan(t *testing.T) {
	t.Parallel()
	p := planned{plan: Plan{1: {5: {Name: "Cola", Price: money.New(150, money.EUR)}, 6: {Name: "Crisps"}}}}
	for i, c := range []struct {
		lane  protocol.Lane
		item  protocol.Outlet
		minor int64
		name  string
		codes []code.Code
	}{
		{1, 5, 150, "Cola", nil},
		{1, 5, 180, "Cola", []code.Code{code.PlanPrice}},
		{1, 5, 180, "Cola", nil}, // once
		{1, 6, 999, "Crisps", nil},
		{1, 7, 100, "", []code.Code{code.PlanUnmapped}},
		{1, 7, 100, "", nil},
		{1, 5, 150, "Cola", []code.Code{code.PlanFits}},
		{1, 5, 150, "Cola", nil},
		{1, 5, 170, "Cola", []code.Code{code.PlanPrice}}, // anew
		{2, 5, 170, "", nil},                             // a lane without a plan
		{1, protocol.OutletAny, 170, "", nil},            // a machine that does not say which
	} {
		r := session.VendRequest{Item: c.item, Price: money.New(c.minor, money.EUR)}
		var got []code.Code
		for _, f := range p.look(c.lane, &r) {
			got = append(got, f.Code)
		}
		if r.Product != c.name || !slices.Equal(got, c.codes) || r.Price.Minor != c.minor {
			t.Errorf("%d: %q %v, want %q %v", i, r.Product, got, c.name, c.codes)
		}
	}
}
