package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"coinop/agent/uplink"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Order is what a person at the machine wants of the agent that runs there. Its socket lies in the data
// folder, for the agent's user alone; an order is one line of JSON, and so is its Reply.
type Order struct {
	// Do is what: audit reads the machine's own books, collect says that its box is emptied into a bag,
	// count what was found in one, tamper_clear that a person has looked at what was opened, ping asks whether
	// the cloud answers.
	Do     OrderKind     `json:"do"`
	Lane   protocol.Lane `json:"lane"`
	Person string        `json:"person,omitempty"`
	Bag    string        `json:"bag,omitempty"`
	Amount string        `json:"amount,omitempty"` // of count, as "12.50"
}

// OrderKind names an order.
type OrderKind string

// Orders.
const (
	OrderAudit       OrderKind = "audit"
	OrderCollect     OrderKind = "collect"
	OrderCount       OrderKind = "count"
	OrderTamperClear OrderKind = "tamper_clear"
	OrderPing        OrderKind = "ping"
)

// Reply is how an order ended. Error is empty when it was done.
type Reply struct {
	Error    string `json:"error,omitempty"`
	File     string `json:"file,omitempty"`     // of an audit
	Expected string `json:"expected,omitempty"` // in the bag
	Currency string `json:"currency,omitempty"`
	Pong     *Pong  `json:"pong,omitempty"`
}

// Pong is the cloud's answer to a ping: what it took, from here to the ledger's door and back, and
// whether the bank could be asked.
type Pong struct {
	RTTMS    int64 `json:"rtt_ms"`
	Acquirer bool  `json:"acquirer_up"`
}

const (
	controlName = "control.sock"
	orderTime   = 75 * time.Second // a reading may take 60
	orderLine   = 4 << 10
	nameLength  = 60
)

// control takes orders until ctx ends. It listens when it returns.
func (s *shell) control(ctx context.Context, serving *sync.WaitGroup) {
	path := filepath.Join(s.cfg.Data, controlName)
	l, err := listenStatus(path)
	if err != nil {
		s.log.Warn("no orders are taken", "error", err)
		return
	}
	serving.Go(func() {
		defer os.Remove(path)
		defer context.AfterFunc(ctx, func() { _ = l.Close() })()
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			s.obey(ctx, c)
		}
	})
}

// obey is one order; they come one after the other.
func (s *shell) obey(ctx context.Context, c *net.UnixConn) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	var o Order
	d := json.NewDecoder(io.LimitReader(c, orderLine))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		_ = json.NewEncoder(c).Encode(Reply{Error: "no order: " + err.Error()})
		return
	}
	_ = json.NewEncoder(c).Encode(s.order(ctx, o))
}

// order does one.
func (s *shell) order(ctx context.Context, o Order) Reply {
	var r Reply
	var err error
	switch o.Do {
	case OrderAudit:
		r.File, err = s.auditNow(ctx, o.Lane)
	case OrderCollect:
		err = s.collect(ctx, o, &r)
	case OrderCount:
		err = s.count(ctx, o, &r)
	case OrderPing:
		err = s.ping(ctx, &r)
	case OrderTamperClear:
		err = s.clearTamper(ctx, o.Person)
	default:
		err = fmt.Errorf("no such order: %q", o.Do)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// owned lets the owner do f on a lane, and gives back what it said. f says itself what ends the agent.
func (s *shell) owned(ctx context.Context, id protocol.Lane, f func(*lane) (said, fatal error)) error {
	var said error
	done := s.inOwner(ctx, func() error {
		l, ok := s.lanes[id]
		if !ok {
			said = fmt.Errorf("there is no lane %d", id)
			return nil
		}
		var fatal error
		said, fatal = f(l)
		return fatal
	})
	if !done {
		return errors.New("the agent did not come to it in time")
	}
	return said
}

// pingTime is how long a cloud may take to answer, pingsMost how many may wait for it.
const (
	pingTime  = 3 * time.Second
	pingsMost = 8
)

// ping asks the cloud, and waits for its answer.
func (s *shell) ping(ctx context.Context, r *Reply) error {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	pong := make(chan Pong, 1)
	var said error
	if !s.inOwner(ctx, func() error {
		if s.conn == nil {
			said = errors.New("there is no connection to the cloud")
			return nil
		}
		s.pings = append(s.pings[max(0, len(s.pings)-pingsMost):], pong)
		return s.handle(Uplink{uplink.Ping{}})
	}) {
		return errors.New("the agent did not come to it in time")
	}
	if said != nil {
		return said
	}
	select {
	case p := <-pong:
		r.Pong = &p
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the cloud does not answer within %s", pingTime)
	}
}

// pinged keeps what the cloud's answer says of our clock, and tells who waits for it.
func (s *shell) pinged(h Heard) {
	wall := s.now().Wall.Time().Add(-h.RTT / 2)
	s.clock = &ClockStatus{AheadMS: wall.Sub(h.Anchor.Cloud.Time()).Milliseconds(), RTTMS: h.RTT.Milliseconds(), At: time.Now()}
	for _, p := range s.pings {
		p <- Pong{RTTMS: h.RTT.Milliseconds(), Acquirer: s.device.Link().Way() == uplink.WayUp} // it has room for one
	}
	s.pings = nil
}

// auditNow reads the machine's books, and says where the file is.
func (s *shell) auditNow(ctx context.Context, id protocol.Lane) (string, error) {
	ended := make(chan auditEnd, 1)
	err := s.owned(ctx, id, func(l *lane) (error, error) {
		if l.audit == nil {
			return errNoAudit, nil
		}
		if st, ok := s.device.LaneState(l.id); ok && !st.Idle() {
			return errors.New("somebody buys: again in a moment"), nil
		}
		if !l.auditing {
			if err := l.audit.Read(); err != nil {
				return fmt.Errorf("the DEX port: %w", err), nil
			}
			l.auditing = true
		}
		l.asking = append(l.asking, ended)
		return nil, nil
	})
	if err != nil {
		return "", err
	}
	select {
	case e := <-ended:
		return e.file, e.err
	case <-ctx.Done():
		return "", errors.New("the machine's books did not come in time")
	}
}

var errNoAudit = errors.New("the configuration names no DEX port (audit:) for this lane")

// auditEnd is how a reading ended, for who asked for it.
type auditEnd struct {
	file string
	err  error
}

// collect reads the counters, where there are any, and writes the collection.
func (s *shell) collect(ctx context.Context, o Order, r *Reply) error {
	if err := named(o.Person, o.Bag); err != nil {
		return err
	}
	if _, err := s.auditNow(ctx, o.Lane); err != nil && !errors.Is(err, errNoAudit) {
		return fmt.Errorf("the counters are needed first: %w", err)
	}
	return s.owned(ctx, o.Lane, func(l *lane) (error, error) {
		b, err := s.books()
		if err != nil {
			return err, err
		}
		c, err := b.Lane(l.id).Collect(o.Person, o.Bag)
		if err != nil {
			return err, nil
		}
		r.Expected, r.Currency = c.Expected.String(), c.Expected.Currency.String()
		return nil, s.handle(Noted{Lane: l.id, Body: c})
	})
}

// count writes what was found in a bag.
func (s *shell) count(ctx context.Context, o Order, r *Reply) error {
	if err := named(o.Person, o.Bag); err != nil {
		return err
	}
	a, err := money.Parse(o.Amount, s.cfg.Policy.Currency)
	if err != nil || a.Minor < 0 {
		return fmt.Errorf("amount %q: write it as 12.50, in %s", o.Amount, s.cfg.Policy.Currency)
	}
	return s.owned(ctx, o.Lane, func(l *lane) (error, error) {
		b, err := s.books()
		if err != nil {
			return err, err
		}
		expected, waits := b.Lane(l.id).Bag(o.Bag)
		if !waits {
			return fmt.Errorf("no bag %q waits to be counted at lane %d", o.Bag, l.id), nil
		}
		r.Currency = a.Currency.String()
		return nil, s.handle(Noted{Lane: l.id, Body: protocol.BagCounted{Person: o.Person, Bag: o.Bag, Value: a, Expected: expected}})
	})
}

func named(person, bag string) error {
	return errors.Join(nameOf("person", person), nameOf("bag", bag))
}

func nameOf(what, v string) error {
	if v == "" || len(v) > nameLength {
		return fmt.Errorf("%s: 1 to %d characters", what, nameLength)
	}
	return nil
}

// ErrNotRunning means that no agent of this data folder takes orders.
var ErrNotRunning = errors.New("no agent runs with this data folder")

// Tell gives an order to the agent of a data folder, and waits for its end.
func Tell(ctx context.Context, data string, o Order) (Reply, error) {
	name, done, err := short(filepath.Join(data, controlName))
	if err != nil {
		return Reply{}, err
	}
	defer done()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", name)
	if err != nil {
		return Reply{}, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetDeadline(time.Now().Add(orderTime + 5*time.Second))
	if err := json.NewEncoder(c).Encode(o); err != nil {
		return Reply{}, err
	}
	var r Reply
	if err := json.NewDecoder(io.LimitReader(c, 1<<16)).Decode(&r); err != nil {
		return Reply{}, fmt.Errorf("the agent gave no answer: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}
