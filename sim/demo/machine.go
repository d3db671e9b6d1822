package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"coinop/hardware/virtual"
	"coinop/protocol"
	"coinop/protocol/money"
)

// Files of a machine's folder.
const (
	VMCFile     = "vmc"         // symlink to the vending controller's tty
	ReaderFile  = "reader"      // symlink to the card reader's tty
	PrinterFile = "printer"     // symlink to the receipt printer's tty
	DropsFile   = "drops.jsonl" // what fell
)

// MachineOptions is one machine on its own. Dir is needed; zero fields mean the default named.
type MachineOptions struct {
	Dir       string
	Seed      uint64
	Currency  money.Currency // EUR
	Think     time.Duration  // a buyer comes at most so long after the one before: 900 ms
	VendTime  time.Duration  // the motor turns: 250 ms
	Pictures  string         // folder that gets a PNG of each of the last receipts; none
	Paused    bool           // no buyer comes before "resume"
	QuitAtEOF bool           // end with the commands: whoever gave them is gone
	Commands  io.Reader      // one a line; nil: none
	Events    io.Writer      // one JSON object a line; nil: none
}

// Event is what a bystander sees at a machine.
type Event struct {
	UnixMS  int64  `json:"unix_ms"`
	What    string `json:"what"` // one of the constants below
	Product string `json:"product,omitempty"`
	Price   string `json:"price,omitempty"` // "1.50 EUR"
	Card    string `json:"card,omitempty"`  // brand and last four digits
	Why     string `json:"why,omitempty"`
}

// What happens at a machine. A visit is chose, mostly tapped, perhaps vending, and one end: sold,
// refused, turned_away, failed, left.
const (
	EventReady      = "ready"  // the ttys are there
	EventChose      = "chose"  // a button was pressed
	EventTapped     = "tapped" // a card was presented
	EventVending    = "vending"
	EventSold       = "sold"        // it fell
	EventRefused    = "refused"     // after the card, the machine said no
	EventTurnedAway = "turned_away" // no card was asked for
	EventFailed     = "failed"      // the motor turned, nothing fell
	EventLeft       = "left"        // the buyer gave up
	EventPaused     = "paused"      // nobody is there, and nobody comes
	EventTold       = "told"        // a command was understood
	EventBad        = "bad_command"
)

// product is what buyers know of an outlet.
type product struct {
	name   string
	outlet protocol.Outlet
	minor  int64
	often  int // of 30 buyers
}

// The last two cost what makes hostsim.Magic decline: 51 not enough funds, 05 do not honour.
var assortment = []product{
	{"water", 1, 100, 8},
	{"cola", 2, 150, 6},
	{"crisps", 3, 180, 5},
	{"coffee", 4, 220, 5},
	{"sandwich", 5, 340, 4},
	{"headphones", 8, 9051, 1},
	{"power bank", 9, 9005, 1},
}

// DearOutlet sells what the host declines.
const DearOutlet = 8

type testCard struct {
	name string
	tap  virtual.Tap
}

func testCards() []testCard {
	return []testCard{{"visa 0119", virtual.VisaTest()}, {"mastercard 0011", virtual.MastercardTest()}, {"maestro 8453", virtual.MaestroTest()}}
}

// How long a buyer stands before a machine that does nothing.
const (
	patienceForReader = 4 * time.Second
	patienceForAnswer = 8 * time.Second
	patienceForMotor  = 5 * time.Second
)

type machine struct {
	o      MachineOptions
	rnd    *rand.Rand
	vmc    *virtual.Machine
	reader *virtual.Reader
	paper  *virtual.Printer
	cards  []testCard

	mu     sync.Mutex // guards what follows
	paused bool
	next   protocol.Outlet // what the next buyer wants; 0 as he likes
	turn   chan struct{}   // closed and renewed by pause and resume
}

// RunMachine is a vending machine with its card reader and receipt printer on ptys, and buyers who come again and again,
// until ctx ends or it is told to quit. The same seed gives the same buyers.
func RunMachine(ctx context.Context, o MachineOptions) error {
	if o.Currency == 0 {
		o.Currency = money.EUR
	}
	if o.Think == 0 {
		o.Think = 900 * time.Millisecond
	}
	if o.VendTime == 0 {
		o.VendTime = 250 * time.Millisecond
	}
	if o.Events == nil {
		o.Events = io.Discard
	}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return err
	}
	m := &machine{o: o, rnd: rand.New(rand.NewPCG(o.Seed, 1)), cards: testCards(), paused: o.Paused, turn: make(chan struct{})} //nolint:gosec // a simulation
	var goods []virtual.Product
	for _, p := range assortment {
		goods = append(goods, virtual.Product{Outlet: p.outlet, Price: money.New(p.minor, o.Currency)})
	}
	var err error
	m.vmc, err = virtual.NewMachine(virtual.MachineConfig{
		Link:  filepath.Join(o.Dir, VMCFile),
		Drops: filepath.Join(o.Dir, DropsFile), Products: goods, VendTime: o.VendTime,
	})
	if err != nil {
		return fmt.Errorf("vending machine: %w", err)
	}
	m.reader, err = virtual.NewReader(virtual.ReaderConfig{Link: filepath.Join(o.Dir, ReaderFile), Seed: o.Seed})
	if err != nil {
		return fmt.Errorf("card reader: %w", err)
	}
	m.paper, err = virtual.NewPrinter(virtual.PrinterConfig{Link: filepath.Join(o.Dir, PrinterFile), Pictures: o.Pictures})
	if err != nil {
		return fmt.Errorf("receipt printer: %w", err)
	}
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	var all sync.WaitGroup
	var picture error
	all.Go(func() { _ = m.vmc.Run(ctx) })
	all.Go(func() { _ = m.reader.Run(ctx) })
	all.Go(func() {
		if err := m.paper.Run(ctx); !errors.Is(err, context.Canceled) {
			picture = err
		}
	})
	if o.Commands != nil {
		// Not waited for: a read of standard input cannot be ended.
		go m.obey(o.Commands, quit)
	}
	m.tell(Event{What: EventReady})
	m.buyers(ctx)
	quit()
	all.Wait()
	return picture
}

func (m *machine) tell(e Event) {
	e.UnixMS = time.Now().UnixMilli()
	b, err := json.Marshal(e)
	if err != nil {
		panic("demo: " + err.Error())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _ = m.o.Events.Write(append(b, '\n'))
}

// obey carries out commands until there are no more.
func (m *machine) obey(r io.Reader, quit func()) {
	for s := bufio.NewScanner(r); s.Scan(); {
		if strings.TrimSpace(s.Text()) == "" {
			continue
		}
		if err := m.command(strings.Fields(s.Text()), quit); err != nil {
			m.tell(Event{What: EventBad, Why: err.Error()})
			continue
		}
		m.tell(Event{What: EventTold, Why: s.Text()})
	}
	if m.o.QuitAtEOF {
		quit()
	}
}

func (m *machine) command(words []string, quit func()) error {
	arg := ""
	if len(words) > 1 {
		arg = words[1]
	}
	set := func(f func()) {
		m.mu.Lock()
		defer m.mu.Unlock()
		f()
		close(m.turn)
		m.turn = make(chan struct{})
	}
	switch words[0] {
	case "pause":
		set(func() { m.paused = true })
	case "resume":
		set(func() { m.paused = false })
	case "quit":
		quit()
	case "fail":
		return m.vmc.Misbehave(virtual.FaultFail)
	case "fault":
		f, err := virtual.ParseFault(arg)
		if err != nil {
			return err
		}
		return m.vmc.Misbehave(f)
	case "choose":
		n, err := strconv.ParseUint(arg, 10, 16)
		if err != nil {
			return fmt.Errorf("choose %q: want an outlet", arg)
		}
		set(func() { m.next = protocol.Outlet(n) })
	default:
		return fmt.Errorf("no command %q: want pause, resume, fail next, fault NAME, choose OUTLET or quit", words[0])
	}
	return nil
}

// buyers come until ctx ends.
func (m *machine) buyers(ctx context.Context) {
	said, off := false, false
	for ctx.Err() == nil {
		m.mu.Lock()
		paused, turn := m.paused, m.turn
		m.mu.Unlock()
		if paused {
			if !said {
				m.tell(Event{What: EventPaused})
			}
			said = true
			select {
			case <-turn:
			case <-ctx.Done():
			}
			continue
		}
		said = false
		if !sleep(ctx, m.think(m.o.Think)) {
			return
		}
		enabled, done := context.WithTimeout(ctx, 200*time.Millisecond)
		err := m.vmc.Wait(enabled, func(v virtual.View) bool { return v.Status == "ENABLED" })
		done()
		if off = off && err != nil; err == nil {
			m.visit(ctx, m.choice())
		} else if !off && ctx.Err() == nil { // told once: the next ones read the sign
			off = true
			m.tell(Event{What: EventTurnedAway, Why: "the machine takes no cards now"})
		}
	}
}

func (m *machine) think(most time.Duration) time.Duration {
	return most/5 + time.Duration(m.rnd.Int64N(int64(most-most/5)))
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (m *machine) choice() product {
	m.mu.Lock()
	want := m.next
	m.next = 0
	m.mu.Unlock()
	n := m.rnd.IntN(30)
	chosen := assortment[0]
	for _, p := range assortment {
		if p.outlet == want {
			return p
		}
		if n -= p.often; n < 0 && n+p.often >= 0 {
			chosen = p
		}
	}
	return chosen
}

// visit is one buyer.
func (m *machine) visit(ctx context.Context, p product) {
	c := m.cards[m.rnd.IntN(len(m.cards))]
	before, arms := m.vmc.View(), m.reader.View().Arms
	if err := m.vmc.Select(p.outlet); err != nil {
		return // it is being switched off, or still busy: the next one may have more luck
	}
	e := Event{Product: p.name, Price: money.New(p.minor, m.o.Currency).String()}
	tell := func(what, why string) {
		e.What, e.Why = what, why
		m.tell(e)
	}
	tell(EventChose, "")
	over := func(v virtual.View) bool { return v.Status != "VEND" || v.Requests != before.Requests+1 }

	err := either(ctx, patienceForReader,
		func(ctx context.Context) error {
			return m.reader.Wait(ctx, func(v virtual.ReaderView) bool { return v.Armed && v.Arms > arms })
		},
		func(ctx context.Context) error { return m.vmc.Wait(ctx, over) })
	switch v := m.vmc.View(); {
	case v.Denials > before.Denials:
		tell(EventTurnedAway, "no card was asked for")
		return
	case err != nil || over(v):
		_ = m.vmc.Cancel()
		tell(EventLeft, "no card was asked for")
		return
	}

	if !sleep(ctx, m.think(200*time.Millisecond)) {
		return
	}
	if m.reader.Tap(c.tap) == nil {
		e.Card = c.name
		tell(EventTapped, "")
	}
	waited, done := context.WithTimeout(ctx, patienceForAnswer)
	err = m.vmc.Wait(waited, func(v virtual.View) bool { return v.Approvals > before.Approvals || over(v) })
	done()
	if err != nil {
		_ = m.vmc.Cancel() // does nothing when it was approved just now
	}
	switch v := m.vmc.View(); {
	case v.Approvals > before.Approvals:
	case v.Denials > before.Denials:
		tell(EventRefused, "")
		return
	default:
		tell(EventLeft, "no answer")
		return
	}

	tell(EventVending, "")
	waited, done = context.WithTimeout(ctx, m.o.VendTime+patienceForMotor)
	defer done()
	err = m.vmc.Wait(waited, func(v virtual.View) bool { return v.Drops > before.Drops || v.Results > before.Results })
	switch {
	case m.vmc.View().Drops > before.Drops:
		tell(EventSold, "")
	case errors.Is(err, context.DeadlineExceeded):
		tell(EventFailed, "and the machine says nothing")
	default:
		tell(EventFailed, "")
	}
}

// either waits for the first of two waits, at most d.
func either(ctx context.Context, d time.Duration, a, b func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	first := make(chan error, 2)
	for _, f := range []func(context.Context) error{a, b} {
		go func() { first <- f(ctx) }()
	}
	err := <-first
	cancel()
	<-first
	return err
}
