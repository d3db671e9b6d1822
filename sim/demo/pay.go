package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"coinop/hardware/virtual"
)

// way is one to pay at a machine.
type way interface {
	name() string // as an order says it
	// asked begins before the order, and waits until it is time to pay.
	asked(context.Context) func(context.Context) error
	// pay does, until enough is paid or over says that nobody asks any more; paid is called when a card is
	// presented, or the first coin is in.
	pay(ctx context.Context, p product, paid func(with string), over func() bool)
}

// build makes what stands at the machine but its printer, and what of it lives by itself.
func (m *machine) build() (run []func(context.Context) error, err error) {
	o := m.o
	if m.what.board {
		m.goods, err = newOutlets(o, m.what)
	} else {
		var all []virtual.Product
		for _, p := range m.what.products {
			all = append(all, p.at(o.Currency))
		}
		if m.what.owns {
			m.till = virtual.NewTill("SNACK1", o.Currency, all)
		}
		m.goods, err = newVending(o, all, m.till)
	}
	if err != nil {
		return nil, err
	}
	if m.what.owns {
		if m.dex, err = virtual.NewDEX(filepath.Join(o.Dir, DEXFile), nil); err != nil {
			return nil, fmt.Errorf("audit port: %w", err)
		}
		m.dex.Source(m.till.File)
		run = append(run, m.dex.Run)
	}
	if !m.what.terminal {
		m.reader, err = virtual.NewReader(virtual.ReaderConfig{Link: filepath.Join(o.Dir, ReaderFile), Seed: o.Seed})
		if err != nil {
			return nil, fmt.Errorf("card reader: %w", err)
		}
		m.ways = []way{byCard{m.reader, testCards(), m.rnd}}
		return append(run, m.reader.Run), nil
	}
	if m.terminal, err = virtual.NewTerminal(virtual.TerminalConfig{Waits: true, Receipt: 9990}); err != nil {
		return nil, fmt.Errorf("payment terminal: %w", err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, PayFile), []byte(m.terminal.Address()), 0o600); err != nil {
		return nil, err
	}
	// Coins of 2.00 go to the box.
	m.cash, err = virtual.NewCash(virtual.CashConfig{Link: filepath.Join(o.Dir, CashFile), Tubes: []int{60, 60, 60, 60, 60, -1}, Level3: o.Seed%2 == 1})
	if err != nil {
		return nil, fmt.Errorf("coin changer: %w", err)
	}
	m.ways = []way{atTerminal{m.terminal}, inCash{m.cash, m.rnd}}
	return append(run, m.terminal.Run, m.cash.Run), nil
}

// byCard is a card at our reader.
type byCard struct {
	reader *virtual.Reader
	cards  []testCard
	rnd    *rand.Rand
}

func (byCard) name() string { return "card" }

func (w byCard) asked(context.Context) func(context.Context) error {
	arms := w.reader.View().Arms
	return func(ctx context.Context) error {
		return w.reader.Wait(ctx, func(v virtual.ReaderView) bool { return v.Armed && v.Arms > arms })
	}
}

func (w byCard) pay(_ context.Context, _ product, paid func(string), _ func() bool) {
	c := w.cards[w.rnd.IntN(len(w.cards))]
	if w.reader.Tap(c.tap) == nil {
		paid(c.name)
	}
}

// atTerminal is a card at a terminal that authorizes by itself.
type atTerminal struct{ terminal *virtual.Terminal }

func (atTerminal) name() string { return "card" }

func (w atTerminal) asked(context.Context) func(context.Context) error {
	asked := w.terminal.View().Asked
	return func(ctx context.Context) error {
		return w.terminal.Wait(ctx, func(v virtual.TerminalView) bool { return v.Waiting && v.Asked > asked })
	}
}

// pay: its bank declines what is dear.
func (w atTerminal) pay(_ context.Context, p product, paid func(string), _ func() bool) {
	how := virtual.TerminalFine
	if p.outlet == DearOutlet {
		how = virtual.TerminalDeclines
	}
	w.terminal.Present(how)
	paid("terminal")
}

// inCash is coins and bills in a changer and a validator of the agent's.
type inCash struct {
	cash *virtual.Cash
	rnd  *rand.Rand
}

func (inCash) name() string { return "cash" }

func (w inCash) asked(context.Context) func(context.Context) error {
	return func(ctx context.Context) error {
		return w.cash.Wait(ctx, func(v virtual.CashView) bool { return v.Accepting })
	}
}

// pay puts in what the buyer happens to have, until it is enough; what is not taken he tries smaller.
func (w inCash) pay(ctx context.Context, p product, paid func(string), over func() bool) {
	ctx, done := context.WithTimeout(ctx, patienceForReader)
	defer done()
	began := w.cash.View().In
	in := func() int64 { return w.cash.View().In - began }
	told, bill := false, p.minor > 200 && w.rnd.IntN(3) == 0
	for kind := 3 + w.rnd.IntN(3); in() < p.minor && !over() && ctx.Err() == nil; {
		was := in()
		if bill {
			bill = false
			if w.cash.Bill(0) != nil {
				continue
			}
			_ = w.cash.Wait(ctx, func(v virtual.CashView) bool { return v.Escrow < 0 })
		} else if w.cash.Coin(kind) != nil {
			kind = max(0, kind-1)
			sleep(ctx, 50*time.Millisecond)
			continue
		}
		if in() > was && !told {
			told = true
			paid("cash")
		}
		kind = 3 + w.rnd.IntN(3)
		// A mechanism takes longer for a coin than a master for the next POLL, which drivers count on.
		idle := w.cash.View().Idle
		_ = w.cash.Wait(ctx, func(v virtual.CashView) bool { return v.Idle > idle })
	}
}

// coins is a buyer at a machine that owns its cash: it asks nobody.
func (m *machine) coins(ctx context.Context, p product, e *Event, tell func(what, why string)) {
	tell(EventChose, "")
	e.Card = "cash"
	fell := m.till.Drops()
	if m.goods.(vending).controller.(*virtual.Controller).Pay(p.outlet, (p.minor+99)/100*100) != nil {
		tell(EventLeft, "it took no coins")
		return
	}
	tell(EventTapped, "")
	if !sleep(ctx, m.o.VendTime) {
		return
	}
	if m.till.Drops() == fell {
		tell(EventFailed, "it kept the money")
		return
	}
	tell(EventSold, "")
}

// Moved is cash at one machine so far, in minor units: what went in, and what came back.
type Moved struct {
	UnixMS   int64  `json:"unix_ms"`
	Currency string `json:"currency"`
	In       int64  `json:"in"`
	Out      int64  `json:"out"`
}

// count writes down what moved, by the machine's own count, as soon as it has.
func (m *machine) count(ctx context.Context) error {
	look := func() (in, out int64) { return 0, 0 }
	switch {
	case m.till != nil:
		look = m.till.Moved
	case m.cash != nil:
		look = func() (in, out int64) { v := m.cash.View(); return v.In, v.Out }
	}
	file, err := os.OpenFile(filepath.Join(m.o.Dir, MovedFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	last := Moved{Currency: m.o.Currency.String()}
	for n, more := 0, true; more && err == nil; n++ {
		more = sleep(ctx, 5*time.Millisecond)
		now := last
		now.In, now.Out = look()
		if now == last && n > 0 {
			continue
		}
		last = now
		now.UnixMS = time.Now().UnixMilli()
		err = json.NewEncoder(file).Encode(now)
	}
	if end := file.Close(); err == nil {
		err = end
	}
	return err
}

// books writes down what the terminal's provider has.
func (m *machine) books() error {
	if m.terminal == nil {
		return nil
	}
	b, err := json.Marshal(m.terminal.View().Books)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.o.Dir, BooksFile), b, 0o600)
}
