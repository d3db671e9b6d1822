package agent

import (
	"maps"
	"slices"
	"strings"
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

// TestPlanCharges: where the plan has the say, its price is charged, and both are told.
func TestPlanCharges(t *testing.T) {
	t.Parallel()
	p := planned{plan: Plan{1: {5: {Name: "Cola", Price: money.New(150, money.EUR), Charge: true}, 6: {Name: "Crisps", Charge: true}}}}
	for _, c := range []struct {
		item        protocol.Outlet
		asks, costs money.Amount
	}{
		{5, money.New(180, money.EUR), money.New(150, money.EUR)},
		{5, money.New(150, money.EUR), money.New(150, money.EUR)},
		{5, money.New(90, money.EUR), money.New(150, money.EUR)},
		{6, money.New(90, money.EUR), money.New(90, money.EUR)},
		{7, money.New(90, money.EUR), money.New(90, money.EUR)},
		{5, money.New(90, money.USD), money.New(90, money.USD)}, // the session refuses it
	} {
		r := session.VendRequest{Item: c.item, Price: c.asks}
		found := p.look(1, &r)
		if r.Price != c.costs {
			t.Errorf("%d at %s: %s", c.item, c.asks, r.Price)
		}
		for _, f := range found {
			if f.Code == code.PlanPrice && !strings.Contains(f.Detail, c.asks.String()+" at the machine, 1.50 EUR in the plan; "+c.costs.String()+" is charged") {
				t.Error(f.Detail)
			}
		}
	}
}

// TestPlanOverRestarts: what was told stays told, until it fits.
func TestPlanOverRestarts(t *testing.T) {
	t.Parallel()
	plan := Plan{1: {5: {Name: "Cola", Price: money.New(150, money.EUR)}}}
	var tt totals
	seq := protocol.Seq(0)
	for i, c := range []struct {
		minor int64
		codes int
	}{{180, 1}, {180, 0}, {150, 1}, {150, 0}, {170, 1}} {
		p := planned{plan: plan, odd: maps.Clone(tt.Odd)} // anew each time
		r := session.VendRequest{Item: 5, Price: money.New(c.minor, money.EUR)}
		found := p.look(1, &r)
		if len(found) != c.codes {
			t.Errorf("%d: %+v", i, found)
		}
		for _, f := range found {
			seq++
			tt.see(protocol.Opened{
				Position: protocol.Position{Epoch: protocol.Epoch{1}, Seq: seq},
				Record:   protocol.Record{Body: protocol.DeviceEvent{Code: string(f.Code), Device: f.Device, Detail: f.Detail}},
			})
		}
	}
}
