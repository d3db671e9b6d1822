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

// Planned is a product at an outlet. The machine's own price is what is charged: a Price here is only
// held against it. Zero: the plan does not say.
type Planned struct {
	Name  string
	Price money.Amount
}

// planned is a Plan and what does not fit it: each oddity is told once, and its end. After a restart it
// is told again.
type planned struct {
	plan Plan
	odd  map[place]code.Code
}

type place struct {
	lane protocol.Lane
	item protocol.Outlet
}

// look names a request's product, and says what is new about how it fits. It sells all the same.
func (p *planned) look(l protocol.Lane, r *session.VendRequest) (out []Fault) {
	items := p.plan[l]
	if len(items) == 0 || r.Bad != "" || r.Item == protocol.OutletAny {
		return nil
	}
	at := place{l, r.Item}
	says := func(c code.Code, format string, args ...any) {
		if p.odd[at] == c {
			return
		}
		if p.odd == nil {
			p.odd = map[place]code.Code{}
		}
		p.odd[at] = c
		out = append(out, Fault{Code: c, Detail: fmt.Sprintf("lane %d item %d: ", l, r.Item) + fmt.Sprintf(format, args...)})
	}
	it, known := items[r.Item]
	r.Product = it.Name
	switch {
	case !known:
		says(code.PlanUnmapped, "the machine asks %s, the plan has no such item", r.Price)
	case it.Price.Minor != 0 && it.Price != r.Price:
		says(code.PlanPrice, "%s costs %s at the machine, %s in the plan", it.Name, r.Price, it.Price)
	case p.odd[at] != "":
		says(code.PlanFits, "%s costs %s in both", it.Name, r.Price)
		delete(p.odd, at)
	}
	return out
}
