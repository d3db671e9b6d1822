// Package mdb is the MDB/ICP bus of vending machines, from both of its sides. A Linux process cannot
// always keep the bus's times (1 ms between bytes, 5 ms to answer; MDB/ICP 4.2, sections 2 and 3), so an
// adapter does. What stands between is Config.Port; it says what can be seen (Port.SeesAck).
//
// Where the machine's controller is the master we are its cashless device, a hardware.Vender:
// Cashless at the bus itself, Qibixx and Waferstar behind adapters of those makers.
//
//	q, err := mdb.NewQibixx(mdb.CashlessConfig{Config: mdb.Config{Path: "/dev/serial/by-id/usb-Qibixx_MDB-HAT_0-if00"},
//		Scale: mdb.Scale{Currency: money.EUR, Decimals: 2}, BusEpoch: last}, out)
//	go hardware.Supervise(ctx, "vmc", q.Open, out)
//
// Where we are the master ourselves, Cash drives a changer and a validator, and Reader a cashless reader,
// over any of the ports: adapters give the words of the bus as a raw port does.
package mdb

import (
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Qibixx is a Vender. Approvals never end as delivered: the adapter does not tell the controller's
// ACK, so SeesAck is false, and they end as maybe as soon as C,VEND is written.
type Qibixx struct {
	hardware.Driven
	cfg   CashlessConfig
	state State
	box   hardware.Mailbox
}

var _ hardware.Vender = (*Qibixx)(nil)

// NewQibixx checks the configuration; it starts and opens nothing. out gets every event, from the
// goroutine of Run; give Supervise the same. State is kept between openings: the adapter and its session
// outlive an unplugged cable.
func NewQibixx(cfg CashlessConfig, out func(hardware.Event)) (*Qibixx, error) {
	cfg.Port = PortQibixx
	if err := cfg.check(); err != nil {
		return nil, err
	}
	q := &Qibixx{cfg: cfg, state: NewState(cfg)}
	q.Driven = hardware.Drive(cfg.device, cfg.Clock, hardware.Stepping(&q.state), &q.box, out)
	return q, nil
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
	limit    struct{ units uint32 }
	load     struct {
		bus protocol.BusKey
		yes bool
	}
	prompt struct {
		id     uint32
		length int
		again  bool
		by     time.Duration // by the clock
	}
	unask  struct{ id uint32 }
	resume struct{ vend protocol.VendID }
)

// Begin opens a card-first session: C,START. In any state but Enabled it is answered with
// SessionComplete at once.
func (q *Qibixx) Begin(funds money.Amount) error {
	if err := q.cfg.Scale.short(funds); err != nil {
		return err
	}
	return q.box.Post(begin{funds: funds.Decimal()})
}

// Approve answers the open vend request: C,VEND. See hardware.Vender.
func (q *Qibixx) Approve(v protocol.VendID, bus protocol.BusKey, o protocol.Outlet, a money.Amount, by time.Duration) error {
	if err := q.cfg.Scale.short(a); err != nil {
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
