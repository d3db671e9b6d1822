package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/protocol"
	"coinop/protocol/money"

	"golang.org/x/sys/unix"
)

// session runs whole sales through the pure state and times each step, but not what stands around
// it. A step returns a new value, so the least it can cost is the copy of the old one.
func (r *Report) session(ctx context.Context, o Options) error {
	cfg := []session.Config{{Device: "bench", Flow: protocol.SelectionFirst}}
	snap, err := session.Restore(protocol.Snapshot{}, cfg, protocol.Policy{Version: 1, Currency: money.EUR})
	if err != nil {
		return err
	}
	st := snap.Lanes[0]
	price := money.New(250, money.EUR)
	now := protocol.Reading{Wall: 1, Boot: protocol.BootID{1}, Mono: time.Second, Anchor: protocol.AnchorID{1}}
	var spent, copied time.Duration
	var steps, copies int
	step := func(ev session.Event) session.Output {
		var out session.Output
		began := time.Now()
		st, out = st.Step(now, session.In{Case: protocol.CaseID{1}, Event: ev})
		spent += time.Since(began)
		steps++
		return out
	}
	step(session.Booted{})
	step(session.Link{State: session.LinkUp})
	step(session.BusState{State: session.BusStateEnabled, At: now.Mono})
	spent, steps = 0, 0
	for n := uint64(1); spent < o.For/6 && ctx.Err() == nil; n++ {
		var id [16]byte
		for i := range 8 {
			id[i] = byte(n >> (8 * i))
		}
		sale, pay, vend := protocol.SaleID(id), protocol.PaymentID(id), protocol.VendID(id)
		spare := pay
		spare[15] = 1
		step(session.Order{
			Sale: sale, Class: protocol.Live, Lines: []protocol.Line{{Product: "cola", Outlet: 5, Qty: 1, Unit: price, Amount: price}},
			Items: []protocol.Item{{Vend: vend, Outlet: 5, Amount: price}},
		})
		out := step(session.CardRead{
			Payment: pay, Spare: spare, Card: protocol.Card{Brand: "visa", Last4: "0011", Entry: protocol.EntryContactless},
			Sealed: make([]byte, 300), Tap: protocol.Tap{LocalTime: "20261124120000"},
		})
		var ask protocol.Hash
		for _, e := range out.Effects {
			if a, ok := e.(session.Authorize); ok {
				ask = protocol.HashOf(a.Ask)
			}
		}
		step(session.Answer{Response: protocol.AuthorizationResponse{
			V: protocol.Version, Device: "bench", Payment: pay, AskHash: ask,
			Result: protocol.Approved, Approved: price, Answer: protocol.AnswerID(id),
		}})
		began := time.Now()
		st = st.Clone()
		copied += time.Since(began)
		copies++
		step(session.VendSuccess{Vend: vend, Item: 5, Grade: protocol.GradeReported})
		if !st.Idle() {
			return fmt.Errorf("sale %d does not end: %v", n, st.Phase())
		}
	}
	if steps == 0 {
		return context.Cause(ctx)
	}
	r.less("session step", float64(spent.Nanoseconds())/float64(steps), "ns", float64(copied.Nanoseconds())/float64(copies), "copy of the lane's state, same run")
	return nil
}

// journal commits one record at a time, as a sale does, in turns with writes of the same bytes to a
// file that was allocated before. It returns what a raw write costs.
func (r *Report) journal(ctx context.Context, o Options, dir string) (raw time.Duration, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	j, err := journal.OpenBadger(filepath.Join(dir, "badger"), journal.Options{Device: "bench", NewEpoch: func() protocol.Epoch { return protocol.Epoch{1} }})
	if err != nil {
		return 0, err
	}
	defer j.Close()
	rec := protocol.Record{Sale: protocol.SaleID{1}, At: protocol.Reading{Wall: 1}, Body: protocol.DeviceEvent{Code: "bench", Detail: string(make([]byte, 240))}}
	at, err := j.Append([]protocol.Record{rec}, nil)
	if err != nil {
		return 0, err
	}
	read, err := j.Read(at[0].Seq-1, 1)
	if err != nil {
		return 0, err
	}
	bytes := read[0].Bytes
	f, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const room = 64 << 20
	if err := unix.Fallocate(int(f.Fd()), 0, 0, room); err != nil {
		return 0, err
	}
	if _, err := f.WriteAt(make([]byte, room), 0); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	var commits, raws []time.Duration
	const turns = 6
	offset := int64(0)
	for turn := range turns {
		for end := time.Now().Add(o.For / turns); time.Now().Before(end) && ctx.Err() == nil; {
			began := time.Now()
			if turn%2 == 0 {
				if _, err := f.WriteAt(bytes, offset%(room-int64(len(bytes)))); err != nil {
					return 0, err
				}
				if err := unix.Fdatasync(int(f.Fd())); err != nil {
					return 0, err
				}
				offset += int64(len(bytes))
				raws = append(raws, time.Since(began))
				continue
			}
			if _, err := j.Append([]protocol.Record{rec}, nil); err != nil {
				return 0, err
			}
			commits = append(commits, time.Since(began))
		}
	}
	if len(commits) == 0 || len(raws) == 0 {
		return 0, context.Cause(ctx)
	}
	perSecond := func(spans []time.Duration) float64 {
		var sum time.Duration
		for _, s := range spans {
			sum += s
		}
		return float64(len(spans)) / sum.Seconds()
	}
	name := fmt.Sprintf("pwrite + fdatasync of the same %d bytes, same run", len(bytes))
	r.more("journal commits, one record each, synced", perSecond(commits), "/s", perSecond(raws), name)
	raw = percentile(raws, 0.5)
	r.less("journal commit, p50", ms(percentile(commits, 0.5)), "ms", ms(raw), name)
	return raw, nil
}
