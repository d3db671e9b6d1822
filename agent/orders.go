package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"coinop/agent/screen"
	"coinop/agent/session"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// ScreenFile is the file in the data folder that holds the address orders are taken at, while they are.
const ScreenFile = "screen.addr"

// errNoShell means that there is no journal, so nobody who decides.
var errNoShell = errors.New("the agent has no journal now")

// orders is the agent as package screen sees it.
type orders struct{ a *agent }

// in lets the owner of the shell that lives do f.
func (o orders) in(ctx context.Context, f func(s *shell) error) error {
	l := o.a.lives.Load()
	if l == nil {
		return errNoShell
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(l.ctx, func() { end(context.Cause(l.ctx)) })()
	if !l.s.inOwner(ctx, func() error { return f(l.s) }) {
		return context.Cause(ctx)
	}
	return nil
}

// living is the shell that decides, as long as ctx.
type living struct {
	s   *shell
	ctx context.Context //nolint:containedctx // the life of s
}

// Order takes an order at the plan's prices.
func (o orders) Order(ctx context.Context, lane uint8, lines []screen.Line, pay screen.Pay) (string, error) {
	var sale string
	var refused error
	err := o.in(ctx, func(s *shell) error {
		l, ok := s.lanes[protocol.Lane(lane)]
		if !ok {
			refused = screen.ErrNoLane
			return nil
		}
		var chosen Chosen
		if chosen, refused = s.choose(l, lines); refused != nil {
			return nil
		}
		if chosen.Cash = pay == screen.PayCash; chosen.Cash && l.cash == nil {
			refused = &screen.Refusal{Reason: "no_cash"}
			return nil
		}
		if err := s.touch(); err != nil {
			return err
		}
		l.refused = ""
		if err := s.handle(chosen); err != nil {
			return err
		}
		if st, _ := s.device.LaneState(l.id); st.Sale() == chosen.Sale {
			sale = chosen.Sale.String()
			return nil
		}
		refused = &screen.Refusal{Reason: cmp.Or(l.refused, "refused")}
		return nil
	})
	if err != nil { // the owner may still be at it
		return "", err
	}
	return sale, refused
}

// choose makes an order of lines.
func (s *shell) choose(l *lane, lines []screen.Line) (Chosen, error) {
	plan := s.cfg.Plan[l.id]
	if !l.orders {
		return Chosen{}, &screen.Refusal{Reason: "no_orders"} // its machine takes none
	}
	c := Chosen{Lane: l.id, Class: protocol.Live, Sale: newID[protocol.SaleID]()}
	for _, line := range lines {
		it, ok := plan[protocol.Outlet(line.Outlet)]
		if !ok || it.Price.Minor <= 0 {
			return Chosen{}, &screen.Refusal{Reason: "no_such_outlet"}
		}
		if v, ok := l.vending.(interface{ Refuses(protocol.Outlet) string }); ok {
			if why := v.Refuses(protocol.Outlet(line.Outlet)); why != "" {
				return Chosen{}, &screen.Refusal{Reason: why}
			}
		}
		unit, qty := it.Price, line.Quantity
		if unit.Minor > maxPrice/int64(qty) {
			return Chosen{}, &screen.Refusal{Reason: "amount"}
		}
		c.Lines = append(c.Lines, protocol.Line{
			Product: it.Name, Outlet: protocol.Outlet(line.Outlet), Qty: qty, Unit: unit, Amount: money.New(unit.Minor*int64(qty), unit.Currency),
		})
	}
	return c, nil
}

// maxPrice of one line, in minor units: what terminals and hosts can say (ISO 8583, DE 4, has 12 digits).
const maxPrice = 999_999_999_999

// Cancel ends a sale that has not come to its vend.
func (o orders) Cancel(ctx context.Context, sale string) error {
	refused := screen.ErrNoSale
	err := o.in(ctx, func(s *shell) error {
		for _, id := range slices.Sorted(maps.Keys(s.lanes)) {
			st, ok := s.device.LaneState(id)
			if !ok || st.Sale().IsZero() || st.Sale().String() != sale {
				continue
			}
			if err := s.handle(Lane{id, session.Cancel{Who: "order"}}); err != nil {
				return err
			}
			if refused = nil; s.saleAt(id).String() == sale {
				if st, _ = s.device.LaneState(id); !st.GivenUp() {
					refused = &screen.Refusal{Reason: st.Phase().String()}
				}
			}
			return nil
		}
		return nil
	})
	if err != nil {
		return err
	}
	return refused
}

// Lane tells how one stands.
func (o orders) Lane(ctx context.Context, lane uint8) (screen.Lane, error) {
	out := screen.Lane{Lane: lane, Outlets: []screen.Outlet{}}
	var refused error
	err := o.in(ctx, func(s *shell) error {
		l, ok := s.lanes[protocol.Lane(lane)]
		st, has := s.device.LaneState(protocol.Lane(lane))
		if !ok || !has {
			refused = screen.ErrNoLane
			return nil
		}
		out.Phase, out.Refuses = st.Phase().String(), st.Gate(s.now())
		if sale := st.Sale(); !sale.IsZero() {
			out.Sale = sale.String()
		}
		if !l.orders {
			return nil
		}
		plan := s.cfg.Plan[l.id]
		for _, n := range slices.Sorted(maps.Keys(plan)) {
			if plan[n].Price.Minor <= 0 {
				continue
			}
			out.Outlets = append(out.Outlets, screen.Outlet{Number: uint16(n), Name: plan[n].Name, Price: plan[n].Price.Decimal(), Money: plan[n].Price.Currency.String()})
		}
		return nil
	})
	if err != nil {
		return screen.Lane{Lane: lane}, err
	}
	return out, refused
}

func (s *shell) saleAt(l protocol.Lane) protocol.SaleID {
	st, _ := s.device.LaneState(l)
	return st.Sale()
}

// about keeps which sale a lane's screen is about: the live one, or the one that has just ended.
func (s *shell) about(l *lane, e session.Show) {
	if e.Screen == session.ScreenRefused {
		l.refused = e.Reason
	}
	if s.agent == nil || s.device == nil {
		return
	}
	if sale := s.saleAt(l.id); !sale.IsZero() {
		s.agent.sale[l.id] = sale
	}
}

// tell passes a screen on to those who watch. The goroutine that decides calls it.
func (a *agent) tell(l protocol.Lane, on session.Screen, amount money.Amount, reason string) {
	what := screen.Shown{Screen: on.String(), Reason: reason, Text: cmp.Or(a.says[l], code.Buyer(reason))}
	if !amount.IsZero() {
		what.Amount, what.Money = amount.Decimal(), amount.Currency.String()
	}
	if sale := a.sale[l]; !sale.IsZero() && reason != "busy" && on != session.ScreenIdle && on != session.ScreenOutOfService {
		what.Sale = sale.String()
	}
	a.screen.Show(uint8(l), what)
}

// takeOrders opens the door for them, until stop.
func (a *agent) takeOrders(ctx context.Context) (stop func(), err error) {
	if a.cfg.Screen == "" {
		return func() {}, nil
	}
	if a.screen, err = screen.New(a.cfg.Screen, a.log, orders{a}); err != nil {
		return nil, err
	}
	before := a.show
	a.show = func(l protocol.Lane, on session.Screen, amount money.Amount, reason string) {
		before(l, on, amount, reason)
		a.tell(l, on, amount, reason)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.screen.Run(ctx, func(addr string) { a.door.opened(addr) })
	}()
	return func() {
		cancel()
		<-done
		a.door.close()
	}, nil
}

// door is the file that says where orders are taken. It is written when there are an address and a folder
// that is ours.
type door struct {
	mu         sync.Mutex
	addr, path string
	log        *slog.Logger
	wrote      bool
}

func (d *door) opened(addr string) { d.write(func() { d.addr = addr }) }

// ours is called when nobody else works in the folder.
func (d *door) ours(folder string, log *slog.Logger) {
	d.write(func() { d.path, d.log = filepath.Join(folder, ScreenFile), log })
}

func (d *door) write(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f(); d.addr == "" || d.path == "" {
		return
	}
	tmp := d.path + ".new"
	err := os.WriteFile(tmp, []byte(d.addr+"\n"), 0o600)
	if err == nil {
		err = os.Rename(tmp, d.path)
	}
	if d.wrote = true; err != nil { // a disk that works no more is told elsewhere
		d.log.Warn("address of orders not written", "error", err)
	}
}

func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wrote {
		_ = os.Remove(d.path)
	}
}
