package agent

import (
	"fmt"

	"coinop/agent/session"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// Plan is what stands behind the item numbers of each lane's machine: the planogram.
type Plan map[protocol.Lane]map[protocol.Outlet]Planned

// Planned is a product at an outlet. Zero Price: the plan does not say. Charge: it is what is charged,
// whatever the machine asks (MDB/ICP 4.2, 7.4, VEND APPROVED: the amount may be another); else the
// machine's own price is, and Price is only held against it.
type Planned struct {
	Name   string
	Price  money.Amount
	Charge bool
}

// planned is a Plan and what does not fit it: each oddity is told once, and its end, over restarts too.
type planned struct {
	plan Plan
	odd  map[string]code.Code // by place
}

// place names an outlet in a DeviceEvent.
func place(l protocol.Lane, o protocol.Outlet) string { return fmt.Sprintf("lane %d item %d", l, o) }

// look names a request's product, sets its price where the plan does, and says what is new about how it
// fits. It sells all the same.
func (p *planned) look(l protocol.Lane, r *session.VendRequest) (out []Fault) {
	items := p.plan[l]
	if len(items) == 0 || r.Bad != "" || r.Item == protocol.OutletAny {
		return nil
	}
	at := place(l, r.Item)
	says := func(c code.Code, format string, args ...any) {
		if p.odd[at] == c {
			return
		}
		if p.odd == nil {
			p.odd = map[string]code.Code{}
		}
		p.odd[at] = c
		out = append(out, Fault{Code: c, Device: at, Detail: at + ": " + fmt.Sprintf(format, args...)})
	}
	it, known := items[r.Item]
	r.Product = it.Name
	switch {
	case !known:
		says(code.PlanUnmapped, "the machine asks %s, the plan has no such item", r.Price)
	case it.Price.Minor != 0 && it.Price != r.Price:
		charged := r.Price
		if it.Charge && it.Price.Currency == r.Price.Currency {
			charged = it.Price
		}
		says(code.PlanPrice, "%s costs %s at the machine, %s in the plan; %s is charged", it.Name, r.Price, it.Price, charged)
		r.Price = charged
	case p.odd[at] != "":
		says(code.PlanFits, "%s costs %s in both", it.Name, r.Price)
		delete(p.odd, at)
	}
	return out
}

// oddity folds a record: what of the plan did not fit when it was written.
func (t *totals) oddity(b protocol.DeviceEvent) {
	switch c := code.Code(b.Code); c {
	case code.PlanPrice, code.PlanUnmapped:
		if t.Odd == nil {
			t.Odd = map[string]code.Code{}
		}
		t.Odd[b.Device] = c
	case code.PlanFits:
		delete(t.Odd, b.Device)
	}
}
