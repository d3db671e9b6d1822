package virtual

import (
	"context"
	"net"
	"sync"
)

// TerminalFault is what a terminal does wrong with the next command it fits; each works once.
type TerminalFault uint8

// Faults of a terminal. What is "dropped" is the connection.
const (
	TerminalFine            TerminalFault = iota
	TerminalDeclines                      // the host says no
	TerminalNoCard                        // nobody presents one: 6C
	TerminalSilent                        // a command gets no 80
	TerminalDropsFirst                    // dropped when a payment is asked: nothing is done
	TerminalDropsMidFrame                 // dropped in the middle of the result of a payment, which is kept
	TerminalDiesApproved                  // a payment is kept, then dropped before its result
	TerminalLosesCompletion               // the result is said and acknowledged, the completion is not
	TerminalDropsCompletion               // the same, and dropped
	TerminalNoResult                      // completed, and no result was said
	TerminalRepeats                       // the result is said twice
	TerminalWrongAmount                   // a cent more than asked
	TerminalOtherMoney                    // the result is in another currency
	TerminalGarbage                       // bytes that are no protocol
	TerminalDribbles                      // the exchange comes byte by byte
	TerminalJoins                         // everything of an exchange comes in one piece, as far as it may
	TerminalTalks                         // extended lengths, TLV nobody asked for, unknown tags and commands
	TerminalWinsAbort                     // 06 B0 is refused; the payment is approved
	TerminalContradicts                   // result 00, then 06 1E
	TerminalDropsReversal                 // a reversal is done, then dropped before its result
	TerminalWontReverse                   // B5
	TerminalDueDay                        // F0 from now on, until 06 50
	TerminalDeaf                          // 9C to the next status enquiry
	TerminalWrongPassword                 // registration is refused
	TerminalWantsHelp                     // it wants its initialisation first
)

// TerminalConfig is one terminal. The zero value of a field is its default.
type TerminalConfig struct {
	Address    string // 127.0.0.1:0
	ID         string // eight digits; 52523535
	Receipt    int    // the last receipt number; 0 (9999 comes before 1)
	History    bool   // a payment of 1.00 of before stands in its books
	Waits      bool   // a card is presented by Present; else at once
	LoseUnread bool   // what was not acknowledged is reversed by itself; else it is kept
}

// TerminalTx is one transaction in its books.
type TerminalTx struct {
	Kind     string // purchase, hold, booked, reversal, release, refund
	Receipt  int
	Of       int // receipt of what it ends
	Amount   int64
	Standing int64  // what the buyer is charged for, of this one
	Ref      string // our reference, as it came
	Result   byte   // 0: approved
}

// TerminalView is what can be seen of it.
type TerminalView struct {
	Books    []TerminalTx
	Charged  int64 // of everything that stands, held or booked
	Held     int64 // of it in holds that nothing ended
	Asked    int   // payments it was asked for
	Days     int
	Waiting  bool // for a card
	Opened   int  // connections so far
	Enquired int
}

// Terminal is a ZVT terminal on a TCP port, with books of its own. It reads and composes the protocol
// by itself.
type Terminal struct {
	cfg  TerminalConfig
	l    net.Listener
	addr string

	watch
	seen  TerminalView
	fault TerminalFault
	due   bool
	conn  net.Conn
	card  chan TerminalFault
	day   int // first transaction of the day
	last  int
	deaf  int
	off   bool
}

// NewTerminal opens the port; it serves nothing before Run.
func NewTerminal(cfg TerminalConfig) (*Terminal, error) {
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	if cfg.ID == "" {
		cfg.ID = "52523535"
	}
	l, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, err
	}
	t := &Terminal{cfg: cfg, l: l, addr: l.Addr().String(), card: make(chan TerminalFault, 1), last: cfg.Receipt}
	if cfg.History {
		t.book(TerminalTx{Kind: "purchase", Amount: 100, Standing: 100})
	}
	return t, nil
}

// Address is where it listens.
func (t *Terminal) Address() string { return t.addr }

// View is what can be seen now.
func (t *Terminal) View() TerminalView {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.view()
}

func (t *Terminal) view() TerminalView {
	v := t.seen
	v.Books = append([]TerminalTx(nil), v.Books...)
	v.Charged, v.Held = 0, 0
	for _, b := range v.Books {
		v.Charged += b.Standing
		if b.Kind == "hold" {
			v.Held += b.Standing
		}
	}
	return v
}

// Wait waits until what can be seen is ok.
func (t *Terminal) Wait(ctx context.Context, ok func(TerminalView) bool) error {
	return await(ctx, &t.watch, t.view, ok)
}

// Misbehave sets what goes wrong next.
func (t *Terminal) Misbehave(f TerminalFault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault = f
	switch f {
	case TerminalDueDay:
		t.due, t.fault = true, TerminalFine
	case TerminalDeaf:
		t.deaf, t.fault = 1, TerminalFine
	}
}

// Present holds a card to a terminal that waits for one; how is Fine, or what goes wrong with it.
func (t *Terminal) Present(how TerminalFault) {
	select {
	case t.card <- how:
	default: // somebody does already
	}
}

// Unplug takes the network away, Replug gives it back.
func (t *Terminal) Unplug() { t.plug(true) }

// Replug gives the network back.
func (t *Terminal) Replug() { t.plug(false) }

func (t *Terminal) plug(off bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.off = off
	if off && t.conn != nil {
		_ = t.conn.Close()
	}
}

// takes reports, once, that f is to happen.
func (t *Terminal) takes(f ...TerminalFault) (TerminalFault, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range f {
		if t.fault == g {
			t.fault = TerminalFine
			return g, true
		}
	}
	return TerminalFine, false
}

// Run is its life; it ends with ctx, and its port with it.
func (t *Terminal) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		_ = t.l.Close()
		t.plug(true)
	})
	defer stop()
	defer func() { _ = t.l.Close() }()
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		c, err := t.l.Accept()
		if err != nil {
			return context.Cause(ctx)
		}
		t.mu.Lock()
		before, off := t.conn, t.off
		if !off {
			t.conn = c
			t.seen.Opened++
		}
		t.tell()
		t.mu.Unlock()
		if off {
			_ = c.Close()
			continue
		}
		if before != nil {
			_ = before.Close() // it has one line
		}
		wg.Wait()
		wg.Go(func() {
			s := &terminalLine{t: t, c: c, in: make(chan []byte), done: make(chan struct{}), ctx: ctx}
			s.serve()
		})
	}
	return context.Cause(ctx)
}
