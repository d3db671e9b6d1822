// Package mdb is vending machines on the MDB/ICP bus. A Linux process cannot keep the bus's times
// (1 ms between bytes, 5 ms to answer; MDB/ICP 4.2, sections 2 and 3), so an adapter does, and this package
// speaks with it. Qibixx is the one for adapters of that maker, as a cashless device that is always
// idle: the buyer selects first, and the controller's VEND REQUEST is the order.
//
//	q, err := mdb.NewQibixx(mdb.Config{Path: "/dev/serial/by-id/usb-Qibixx_MDB-HAT_0-if00",
//		Scale: mdb.Scale{Currency: money.EUR, Decimals: 2}, BusEpoch: last}, out)
//	go hardware.Supervise(ctx, "vmc", q.Open, out)
//
// Controller, Peripheral, ParseCommand and Split are the bus's own blocks, for adapters that pass them
// raw; no driver uses them yet.
package mdb

import (
	"context"
	"fmt"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Config is one adapter. The zero value of a field is its default.
type Config struct {
	Device   string            // its name in Health; "vmc"
	Path     string            // the tty; required
	Baud     int               // 115,200
	Scale    Scale             // currency required; factor 1; decimals as given
	BusEpoch uint64            // the last one of an earlier run; the first opening's is one more
	Params   map[string]string // more SETCONF parameters, set after ours; MDB names of the adapter
	Clock    hardware.Clock    // of At in events; starts at New
}

// Qibixx is a Vender. Approvals never end as delivered: the adapter does not tell the controller's
// ACK, so SeesAck is false, and they end as maybe as soon as C,VEND is written.
type Qibixx struct {
	cfg   Config
	out   func(hardware.Event)
	state State
	port  hardware.Port
	box   hardware.Mailbox
}

var _ hardware.Vender = (*Qibixx)(nil)

// NewQibixx checks the configuration; it starts and opens nothing. out gets every event, from the
// goroutine of Run; give Supervise the same.
func NewQibixx(cfg Config, out func(hardware.Event)) (*Qibixx, error) {
	if cfg.Device == "" {
		cfg.Device = "vmc"
	}
	if cfg.Baud == 0 {
		cfg.Baud = 115200
	}
	if cfg.Clock == nil {
		cfg.Clock = hardware.Since()
	}
	if err := cfg.Scale.Check(); err != nil {
		return nil, fmt.Errorf("mdb %s: %w", cfg.Device, err)
	}
	return &Qibixx{cfg: cfg, out: out, state: NewState(cfg)}, nil
}

// Open opens the tty for one Run; it is what Supervise calls. State is kept between openings: the
// adapter and its session outlive an unplugged cable.
func (q *Qibixx) Open(context.Context) (hardware.Driver, error) {
	p, err := hardware.OpenTTY(q.cfg.Path, q.cfg.Baud)
	if err != nil {
		return nil, err
	}
	q.port = p
	return q, nil
}

// Run serves the opening until the port fails or ctx ends. Only after Open.
func (q *Qibixx) Run(ctx context.Context) error {
	step := func(now time.Duration, in any) (o hardware.Output) {
		q.state, o = q.state.Step(now, in)
		return o
	}
	return hardware.Serve(ctx, q.port, q.cfg.Clock, step, &q.box, q.out)
}

// Commands of the machine.
type (
	begin struct {
		funds string // as Qibixx writes it
		units uint32 // as the bus counts
	}
	approve struct {
		vend   protocol.VendID
		bus    protocol.BusKey
		outlet protocol.Outlet
		amount string        // as Qibixx writes it
		units  uint32        // as the bus counts
		by     time.Duration // by the clock
	}
	withdraw struct{ vend protocol.VendID }
	deny     struct{ bus protocol.BusKey }
	end      struct{}
	refunded struct{ vend protocol.VendID }
	resume   struct{ vend protocol.VendID }
)

// Begin opens a card-first session: C,START. In any state but Enabled it is answered with
// SessionComplete at once.
func (q *Qibixx) Begin(funds money.Amount) error {
	if _, err := q.cfg.Scale.Units(funds); err != nil {
		return err
	}
	return q.box.Post(begin{funds: funds.Decimal()})
}

// Approve answers the open vend request: C,VEND. See hardware.Vender.
func (q *Qibixx) Approve(v protocol.VendID, bus protocol.BusKey, o protocol.Outlet, a money.Amount, by time.Duration) error {
	if _, err := q.cfg.Scale.Units(a); err != nil {
		return err
	}
	if by <= 0 {
		by = hardware.DefaultApproveBy
	}
	return q.box.Post(approve{vend: v, bus: bus, outlet: o, amount: a.Decimal(), by: q.cfg.Clock() + by})
}

// Deny answers it with no: C,STOP. Approvals that still wait here are taken back.
func (q *Qibixx) Deny(bus protocol.BusKey) error { return takeBack(&q.box, deny{bus}) }

// End closes a card-first session: C,STOP when it is idle. Like Deny it takes back.
func (q *Qibixx) End() error { return takeBack(&q.box, end{}) }

// takeBack queues cmd, and makes withdrawals of the approvals that wait before it.
func takeBack(box *hardware.Mailbox, cmd any) error {
	return box.Edit(false, func(queue []any) []any {
		for i, waits := range queue {
			if a, ok := waits.(approve); ok {
				queue[i] = withdraw{a.vend}
			}
		}
		return append(queue, cmd)
	})
}

// Resume binds a late result to v, even one that came before Resume and belongs to no vend known here.
func (q *Qibixx) Resume(v protocol.VendID) error { return q.box.Keep(resume{v}) }

// SeesAck is false: the adapter does not tell.
func (q *Qibixx) SeesAck() bool { return false }

// HasEvidence is false: there is only the bus.
func (q *Qibixx) HasEvidence() bool { return false }
