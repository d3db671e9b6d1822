package demo

import (
	"bufio"
	"cmp"
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
	VMCFile     = "vmc"         // symlink to the tty of the vending controller, or of the relay board
	ReaderFile  = "reader"      // symlink to the card reader's tty
	PrinterFile = "printer"     // symlink to the receipt printer's tty
	DEXFile     = "dex"         // symlink to the tty of the controller's audit port
	CashFile    = "cash"        // symlink to the tty of the coin changer and the bill validator
	PayFile     = "terminal"    // the payment terminal's address
	DropsFile   = "drops.jsonl" // what fell
	MovedFile   = "moved.jsonl" // cash that went in and came back, by the machine's own count
	BooksFile   = "books.json"  // what the terminal's provider has, when the machine has ended
)

// MachineOptions is one machine on its own. Dir is needed; zero fields mean the default named.
type MachineOptions struct {
	Dir       string
	Kind      string // vending
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
	Card    string `json:"card,omitempty"`  // brand and last four digits; or terminal, or cash
	Why     string `json:"why,omitempty"`
}

// What happens at a machine. A visit is chose, mostly tapped, perhaps vending, and one end: sold,
// refused, turned_away, failed, left.
const (
	EventReady      = "ready"  // the ttys are there
	EventChose      = "chose"  // a button was pressed
	EventTapped     = "tapped" // a card was presented, or money put in
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

// product is what buyers know of an outlet, and what hangs there.
type product struct {
	name   string
	outlet protocol.Outlet
	minor  int64
	often  int // of 30 buyers
	hangs
}

// hangs is what hangs at a relay of ours, as the agent's file and the virtual machine behind it have it;
// nothing where a vending controller stands.
type hangs struct {
	relay, pulses, feedback, button int
	on                              time.Duration
}

func (p product) at(c money.Currency) virtual.Product {
	return virtual.Product{Outlet: p.outlet, Price: money.New(p.minor, c)}
}

// description is what stands at a machine of a kind.
type description struct {
	what     string
	products []product
	board    bool // its outlets are behind a relay board that the agent drives; else a controller does
	owns     bool // cash, and tells of it: a controller at a raw port, and another for its books
	screen   bool // its buyers order at a screen, whose program speaks with the agent over HTTP
	terminal bool // in place of a card reader, and beside it a changer and a validator that the agent drives
}

// Kinds of machines that a fleet has, in order.
var kinds = []string{"snack", "kiosk", "laundry"}

// snacks: the last two cost what makes hostsim.Magic decline: 51 not enough funds, 05 do not honour.
var snacks = []product{
	{"water", 1, 100, 8, hangs{}},
	{"cola", 2, 150, 6, hangs{}},
	{"crisps", 3, 180, 5, hangs{}},
	{"coffee", 4, 220, 5, hangs{}},
	{"sandwich", 5, 340, 4, hangs{}},
	{"headphones", DearOutlet, 9051, 1, hangs{}},
	{"power bank", 9, 9005, 1, hangs{}},
}

// descriptions of the kinds. What its agent is told of one is file.
var descriptions = map[string]description{
	"vending": {what: "a vending machine behind a Qibixx adapter", products: snacks},
	"snack":   {what: "a snack machine at an MDB bus, which owns its cash and tells of it by DEX too", owns: true, products: snacks},
	"kiosk": {what: "a kiosk with dispensers at a relay board, ordered over HTTP, paid at a ZVT terminal or in cash that its agent owns", board: true, screen: true, terminal: true, products: []product{
		{"bread", 1, 120, 10, hangs{relay: 1, pulses: 1, feedback: 1, on: 300 * time.Millisecond}},
		{"tea", 2, 210, 10, hangs{relay: 2, pulses: 1, on: 400 * time.Millisecond}},
		{"soup", 3, 360, 9, hangs{relay: 3, pulses: 1, feedback: 3, on: 300 * time.Millisecond}},
		{"hamper", DearOutlet, 9051, 1, hangs{relay: 8, pulses: 1, on: 300 * time.Millisecond}},
	}},
	"laundry": {what: "a laundry: washers that count pulses of a relay board, ordered by buttons", board: true, products: []product{
		{"washer 1", 1, 300, 12, hangs{relay: 1, pulses: 3, feedback: 1, button: 5, on: 100 * time.Millisecond}},
		{"washer 2", 2, 350, 12, hangs{relay: 2, pulses: 3, feedback: 2, button: 6, on: 100 * time.Millisecond}},
		{"dryer", 3, 130, 6, hangs{relay: 3, pulses: 1, button: 7, on: 200 * time.Millisecond}},
	}},
}

// file is the agent's file of a machine of this kind, in dir: what no flag says.
func (d description) file(dir string) (string, error) {
	var b strings.Builder
	if !d.board {
		b.WriteString("lanes:\n  - vending:\n      driver: mdb-raw\n      products:\n")
		for _, p := range d.products {
			fmt.Fprintf(&b, "        - {item: %d, name: %s}\n", p.outlet, p.name)
		}
		fmt.Fprintf(&b, "    audit: {port: %q}\n", filepath.Join(dir, DEXFile))
		return b.String(), nil
	}
	fmt.Fprintf(&b, "lanes:\n  - vending:\n      driver: relay-board\n      door: %d\n      outlets:\n", doorInput)
	for _, p := range d.products {
		fmt.Fprintf(&b, "        - {number: %d, name: %s, price: %s, relay: %d, pulses: %d, on: %s, off: 200ms, window: 500ms",
			p.outlet, p.name, money.New(p.minor, money.EUR).Decimal(), p.relay, p.pulses, p.on)
		for key, n := range map[string]int{"feedback": p.feedback, "button": p.button} {
			if n > 0 {
				fmt.Fprintf(&b, ", %s: %d", key, n)
			}
		}
		b.WriteString("}\n")
	}
	if d.terminal {
		at, err := os.ReadFile(filepath.Join(dir, PayFile))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "    terminal: {address: %q}\n    cash: {owner: agent, port: %q}\n", at, filepath.Join(dir, CashFile))
	}
	b.WriteString("screen: {listen: \"127.0.0.1:0\"}\ntimeouts: {order_timeout: 10s}\n")
	return b.String(), nil
}

// doorInput is where a relay board has the switch of the service door: no outlet has a button or feedback there.
const doorInput = 8

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
	o        MachineOptions
	what     description
	rnd      *rand.Rand
	goods    goods
	ways     []way // to pay there; a buyer takes one of them
	reader   *virtual.Reader
	terminal *virtual.Terminal
	cash     *virtual.Cash
	till     *virtual.Till // of the controller
	dex      *virtual.DEX
	paper    *virtual.Printer

	mu     sync.Mutex // guards what follows
	paused bool
	next   protocol.Outlet // what the next buyer wants; 0 as he likes
	turn   chan struct{}   // closed and renewed by pause and resume
}

// RunMachine is a machine with what one pays at and its receipt printer on ptys and sockets, and buyers who come again and again,
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
	what, ok := descriptions[cmp.Or(o.Kind, "vending")]
	if !ok {
		return fmt.Errorf("kind %q: %w", o.Kind, errKind)
	}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return err
	}
	m := &machine{o: o, what: what, rnd: rand.New(rand.NewPCG(o.Seed, 1)), paused: o.Paused, turn: make(chan struct{})} //nolint:gosec // a simulation
	far, err := m.build()
	if err != nil {
		return fmt.Errorf("%s: %w", what.what, err)
	}
	m.paper, err = virtual.NewPrinter(virtual.PrinterConfig{Link: filepath.Join(o.Dir, PrinterFile), Pictures: o.Pictures})
	if err != nil {
		return fmt.Errorf("receipt printer: %w", err)
	}
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	var all sync.WaitGroup
	var picture error
	all.Go(func() { m.goods.run(ctx) })
	for _, run := range far {
		all.Go(func() { _ = run(ctx) })
	}
	var counted error
	all.Go(func() { counted = m.count(ctx) })
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
	return errors.Join(picture, counted, m.books())
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
		return m.goods.misbehave(virtual.FaultFail)
	case "fault":
		f, err := virtual.ParseFault(arg)
		if err != nil {
			return err
		}
		return m.goods.misbehave(f)
	case "till":
		f, ok := map[string]virtual.TillFault{"steal": virtual.TillSteal, "skip": virtual.TillSkip, "twice": virtual.TillTwice}[arg]
		if !ok || m.till == nil {
			return fmt.Errorf("till %q: want steal, skip or twice, of a machine that owns its cash", arg)
		}
		m.till.Misbehave(f)
	case "door":
		g, ok := m.goods.(*outlets)
		if !ok || arg != "open" && arg != "shut" {
			return fmt.Errorf("door %q: want open or shut, of a machine with a relay board", arg)
		}
		return g.board.Hold(doorInput, arg == "open")
	case "choose":
		n, err := strconv.ParseUint(arg, 10, 16)
		if err != nil {
			return fmt.Errorf("choose %q: want an outlet", arg)
		}
		set(func() { m.next = protocol.Outlet(n) })
	default:
		return fmt.Errorf("no command %q: want pause, resume, fail next, fault NAME, till steal|skip|twice, door open|shut, choose OUTLET or quit", words[0])
	}
	return nil
}

// buyers come until ctx ends.
func (m *machine) buyers(ctx context.Context) {
	said, off := false, false
	patience := 200 * time.Millisecond
	if m.cash != nil { // the one before takes his change
		patience = 2 * time.Second
	}
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
		enabled, done := context.WithTimeout(ctx, patience)
		takes := m.goods.takes(enabled)
		done()
		if off = off && !takes; takes {
			m.visit(ctx, m.choice())
		} else if !off && ctx.Err() == nil { // told once: the next ones read the sign
			off = true
			m.tell(Event{What: EventTurnedAway, Why: "the machine takes no orders now"})
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
	chosen := m.what.products[0]
	for _, p := range m.what.products {
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
	e := Event{Product: p.name, Price: money.New(p.minor, m.o.Currency).String()}
	tell := func(what, why string) {
		e.What, e.Why = what, why
		m.tell(e)
	}
	if m.till != nil && p.outlet < DearOutlet && m.rnd.IntN(4) == 0 {
		m.coins(ctx, p, &e, tell)
		return
	}
	w := m.ways[m.rnd.IntN(len(m.ways))]
	if p.outlet == DearOutlet {
		w = m.ways[0] // nobody has so much in coins
	}
	before, asked := m.goods.look(), w.asked(ctx)
	if err := m.goods.choose(ctx, p, w.name()); err != nil {
		return // it is being switched off, or still busy: the next one may have more luck
	}
	tell(EventChose, "")
	over := func(v view) bool { return !v.open || v.asks != before.asks+1 }

	err := either(ctx, patienceForReader,
		asked,
		func(ctx context.Context) error { return m.goods.wait(ctx, over) })
	switch v := m.goods.look(); {
	case v.denials > before.denials:
		tell(EventTurnedAway, "nothing was asked for")
		return
	case err != nil || over(v):
		m.goods.cancel()
		tell(EventLeft, "nothing was asked for")
		return
	}

	if !sleep(ctx, m.think(200*time.Millisecond)) {
		return
	}
	w.pay(ctx, p, func(with string) {
		e.Card = with
		tell(EventTapped, "")
	}, func() bool { v := m.goods.look(); return over(v) || v.approvals > before.approvals })
	waited, done := context.WithTimeout(ctx, patienceForAnswer)
	err = m.goods.wait(waited, func(v view) bool { return v.approvals > before.approvals || over(v) })
	done()
	if err != nil {
		m.goods.cancel() // does nothing when it was approved just now
	}
	switch v := m.goods.look(); {
	case v.approvals > before.approvals:
	case v.denials > before.denials:
		m.goods.cancel() // does nothing where it is over
		tell(EventRefused, "")
		return
	default:
		tell(EventLeft, "no answer")
		return
	}

	tell(EventVending, "")
	waited, done = context.WithTimeout(ctx, m.o.VendTime+patienceForMotor)
	defer done()
	err = m.goods.wait(waited, func(v view) bool { return v.drops > before.drops || v.results > before.results })
	switch {
	case m.goods.look().drops > before.drops:
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
