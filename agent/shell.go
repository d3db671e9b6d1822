package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"coinop/agent/cashbook"
	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/agent/uplink"
	"coinop/hardware"
	"coinop/hardware/paper"
	"coinop/hardware/thermo"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// inboxSize bounds what waits for the owner.
const inboxSize = 256

// shell is the world around a Device. The goroutine of run owns every field that is not said to be
// anybody's; the others only send to inbox. When inbox is full,
//
//   - a driver waits (cards, vend results, resets), but for a sign of life that says nothing new,
//     which is dropped: the driver repeats it every second,
//   - a message from the cloud is dropped: the cloud answers every repeat of ours,
//   - the uplink's own calls wait.
//
// Timers need no queue: the owner looks at its deadlines itself.
type shell struct {
	cfg   Config
	log   *slog.Logger
	start time.Time // set once
	inbox chan any  // anybody's: heard, uplink.Inbound, call
	show  func(protocol.Lane, session.Screen, money.Amount, string)

	journal *journal.Journal
	device  *Device
	lanes   map[protocol.Lane]*lane
	timers  map[timerKey]deadline
	wake    time.Duration // Mono of the next Tick; 0: none
	agent   *agent
	check   time.Duration // Mono of the next look at the disk
	trim    time.Duration // Mono of the next Trim
	touched time.Duration // Mono of the last touch
	storage code.Code     // of the disk, as last told
	conn    *conn         // nil: no connection stands
	way     uplink.Way    // to the bank, as it was last told
	joined  time.Time     // when it was made
	heard   time.Time     // the cloud, last
	clock   *ClockStatus  // this device's against the cloud's; nil: not known
	pings   []chan Pong   // who waits for the cloud's next answer
	last    *LastSale     // nil: none is known
	told    protocol.Seq
	lately  lately
	wrote   map[string]time.Duration         // Mono when a kind of it last became a record
	charged map[protocol.SaleID]money.Amount // of sales that have not ended: change may be owed
	stopped bool
	job     uint32          // the last of any printer
	loose   map[loop]string // tamper loops that are open now, whose
	board   Board           // nil: none
	box     box
	resets  sync.WaitGroup // of devices at USB

	totals   totals
	totalsAt time.Duration  // Mono of the next keepTotals
	cashbook *cashbook.Book // up to booked; nil: nobody needed it yet
	booked   protocol.Seq
}

// lane is what stands at one place to buy.
type lane struct {
	id      protocol.Lane
	vending Vending
	readers []*reader
	printer Printer // nil: none
	audit   Audit   // nil: none
	scanner Scanner // nil: none
	cash    Cash    // nil: none
	// The terminal (nil: none): how often its day is ended, when next (Mono), and when it was.
	terminal        Terminal
	dayEvery, dayAt time.Duration
	dayEnded        time.Time
	accepts         money.Amount       // coins of up to this, and bills
	level           hardware.CashLevel // leveled: as it was last told
	leveled         bool
	// Of the machine's books: how often they are read, when next (Mono), and that they are.
	auditEvery, auditAt time.Duration
	auditing, moved     bool            // and that the door did meanwhile
	asking              []chan auditEnd // who waits for its end
	form                paper.Form      // of its paper
	copies              Copies
	jobs                map[uint32]printing // at the printer
	again               []printing          // wait for it to be right
	signal              hardware.Signal
	devices             []DeviceStatus
	health              map[part]hardware.Health
	selling             selling
	ladders             map[string]*ladder // by the device's name
	ports               map[string]string  // so too
	armed               *money.Amount      // the session waits for a card for this
	read                *reader            // has read the card of this sale; nil: none has, or nobody knows which
	orders              bool               // are taken here: its outlets are ours
	refused             string             // why the last screen refused
}

type timerKey struct {
	lane protocol.Lane
	name session.TimerName
}

type deadline struct {
	id session.TimerID
	at time.Duration // Mono
}

// heard is an event of a driver.
type heard struct {
	lane *lane
	from part
	ev   hardware.Event
}

// part says which of a lane's devices spoke.
type part uint8

const (
	partVending part = iota + 1
	partPrinter
	partAudit
	partCash
	partTerminal
	partScanner
	partBoard  // of the box: no lane's
	partReader // a lane's first reader; those beside it follow, and so it stands last
)

// call is something another goroutine wants done by the owner. done is closed after it.
type call struct {
	f    func() error
	done chan struct{}
}

func newShell(a *agent) *shell {
	return &shell{
		cfg: a.cfg, log: a.log, start: time.Now(), inbox: make(chan any, inboxSize), show: a.show, agent: a,
		lanes: map[protocol.Lane]*lane{}, charged: map[protocol.SaleID]money.Amount{}, timers: map[timerKey]deadline{}, loose: map[loop]string{}, wrote: map[string]time.Duration{}, box: box{devices: slices.Clone(a.box)}, storage: code.StorageOK,
	}
}

// showInLog is what is shown when nobody else shows it.
func (a *agent) showInLog(l protocol.Lane, on session.Screen, amount money.Amount, reason string) {
	attrs := []any{"lane", int(l), "screen", on.String()}
	if !amount.IsZero() {
		attrs = append(attrs, "amount", amount.String())
	}
	if reason != "" {
		attrs = append(attrs, "reason", reason)
	}
	a.log.Info("screen", attrs...)
}

func (s *shell) mono() time.Duration { return time.Since(s.start) }

// now is the time as pure code takes it; Device adds boot and anchor.
func (s *shell) now() protocol.Reading {
	return protocol.Reading{Wall: protocol.At(time.Now()), Mono: s.mono()}
}

// run recovers, starts drivers and uplink, and decides until ctx ends.
func (s *shell) run(ctx context.Context) error {
	do, err := s.boot()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var drivers sync.WaitGroup
	defer drivers.Wait()
	defer s.resets.Wait()
	defer stop()
	if err := s.install(ctx, &drivers); err != nil {
		return err
	}
	ins := s.carryOut(do)
	if s.agent.was != "" {
		ins = append(ins, Fault{Code: s.agent.was, Detail: "it works again"})
		s.agent.was = ""
		for _, l := range s.cfg.Lanes {
			s.service(l.Lane)
		}
	}
	for _, l := range s.cfg.Lanes {
		if s.locked(l.Lane) {
			s.log.Warn("locked: it was opened", "lane", int(l.Lane), "check", code.Of(code.Tamper).Next)
			s.service(l.Lane)
		}
	}
	if how := s.agent.unclean; how != "" {
		s.log.Warn("the last run ended without a word", "how", how, "check", code.Of(code.AgentUnclean).Next)
		ins = append(ins, Fault{Code: code.AgentUnclean, Detail: how})
		s.agent.unclean = ""
	}
	if err := s.handle(ins...); err != nil {
		return err
	}
	s.tellStatus()
	drivers.Go(func() { s.uplink(ctx) })
	s.control(ctx, &drivers)
	if s.cfg.Ready != nil {
		s.cfg.Ready()
	}
	s.agent.lives.Store(&living{s, ctx})
	s.agent.door.ours(s.cfg.Data, s.log)
	err = s.own(ctx)
	s.agent.lives.Store(nil)
	stop()
	drivers.Wait()
	if last := s.drain(err == nil); err == nil {
		err = last
	}
	if err == nil {
		s.totalsAt = 0
		err = s.fold(s.mono())
	}
	if err == nil {
		s.log.Info("stopped", "cause", context.Cause(ctx).Error(), "head", uint64(s.journal.Head().Seq))
	}
	return err
}

// boot makes the Device: it recovers and says what is still owed.
func (s *shell) boot() ([]Do, error) {
	cfg, id := s.cfg, s.cfg.Identity
	lanes := make([]session.Config, 0, len(cfg.Lanes))
	for _, l := range cfg.Lanes {
		lanes = append(lanes, session.Config{
			Device: id.Device, Lane: l.Lane, Flow: max(l.Flow, protocol.SelectionFirst), Bus: l.Bus, Z7: l.Z7, OwnsMotor: l.OwnsMotor, Cash: l.Cash != nil, Terminal: l.Terminal != nil,
		})
	}
	var err error
	if s.totals, err = loadTotals(cfg.Data); err != nil {
		s.log.Warn("what was sold before is not known for EVA-DTS files: counting begins anew", "error", err)
	}
	s.totalsAt = totalsKept
	for range foldAtStart {
		if err := s.foldSome(); err != nil {
			return nil, err
		}
	}
	s.told = s.journal.Head().Seq
	s.told -= min(s.told+1-s.journal.Oldest(), lastSaleWithin)
	if err := s.findLast(); err != nil {
		return nil, err
	}
	device, do, err := NewDevice(s.now(), DeviceConfig{
		Core:   CoreConfig{Lanes: lanes, Policy: cfg.Policy},
		Signer: id.Signer, Relay: id.Relay, Payment: id.Payment, Cloud: id.Cloud,
		Boot: newID[protocol.BootID](), Random: rand.Reader, Software: cfg.Software, Plan: cfg.Plan, Odd: s.totals.Odd,
	}, s.journal)
	if err != nil {
		return nil, err
	}
	s.device = device
	head := s.journal.Head()
	fate, why := s.journal.Fate()
	s.log.Info("booted", "software", cfg.Software, "head", uint64(head.Seq), "epoch", head.Epoch.String(),
		"journal", fate.String(), "repaired", why, "policy", cfg.Policy.Version, "currency", cfg.Policy.Currency.String())
	return do, s.tellRecords()
}

// install makes the drivers of every lane and lets them run until ctx ends.
func (s *shell) install(ctx context.Context, drivers *sync.WaitGroup) error {
	type opening struct {
		name string
		open func(context.Context) (hardware.Driver, error)
		out  func(hardware.Event)
	}
	var all []opening
	for _, c := range s.cfg.Lanes {
		l := &lane{id: c.Lane, orders: c.OwnsMotor, ports: c.Ports}
		w := Wiring{Clock: s.mono, BusEpoch: s.device.BusEpoch(), Language: c.Language, Z7: c.Z7, Out: s.out(ctx, l, partVending)}
		var err error
		if l.vending, err = c.Vending(w); err != nil {
			return fmt.Errorf("lane %d: %w", l.id, err)
		}
		all = append(all, opening{cmp.Or(c.Name, "vmc"), l.vending.Open, w.Out})
		for i, c := range c.Readers {
			r := &reader{name: ReaderName(i), part: partReader + part(i), cards: c.Cards, copied: c.Unproven} //nolint:gosec // a handful
			w := w
			w.Device, w.Out = r.name, s.out(ctx, l, r.part)
			if r.Reader, err = c.New(w); err != nil {
				return fmt.Errorf("lane %d: %w", l.id, err)
			}
			l.readers = append(l.readers, r)
			all = append(all, opening{r.name, r.Open, w.Out})
		}
		if l.form = c.Form; c.Printer != nil {
			l.form.Columns, l.copies = cmp.Or(l.form.Columns, paper.Width80), c.Copies
			w.Out = s.out(ctx, l, partPrinter)
			if l.printer, err = c.Printer(w); err != nil {
				return fmt.Errorf("lane %d: %w", l.id, err)
			}
			all = append(all, opening{"printer", l.printer.Open, w.Out})
		}
		if l.auditEvery, l.auditAt = cmp.Or(c.AuditEvery, 24*time.Hour), s.mono()+min(auditSoon, cmp.Or(c.AuditEvery, auditSoon)); c.Audit != nil {
			w.Out = s.out(ctx, l, partAudit)
			if l.audit, err = c.Audit(w); err != nil {
				return fmt.Errorf("lane %d: %w", l.id, err)
			}
			all = append(all, opening{"dex", l.audit.Open, w.Out})
		}
		if c.Terminal != nil {
			if len(c.Readers) > 0 {
				return fmt.Errorf("lane %d: a terminal is in place of readers", l.id)
			}
			w.Out = s.out(ctx, l, partTerminal)
			if l.terminal, err = c.Terminal(w); err != nil {
				return fmt.Errorf("lane %d: %w", l.id, err)
			}
			l.dayEvery = cmp.Or(c.CloseEvery, 24*time.Hour)
			l.dayAt = s.mono() + l.dayEvery
			all = append(all, opening{"terminal", l.terminal.Open, w.Out})
		}
		if c.Scanner != nil {
			w.Out = s.out(ctx, l, partScanner)
			if l.scanner, err = c.Scanner(w); err != nil {
				return fmt.Errorf("lane %d: %w", l.id, err)
			}
			all = append(all, opening{"scanner", l.scanner.Open, w.Out})
		}
		if c.Cash != nil {
			w.Out = s.out(ctx, l, partCash)
			if l.cash, err = c.Cash(w); err != nil {
				return fmt.Errorf("lane %d: %w", l.id, err)
			}
			all = append(all, opening{"cash", l.cash.Open, w.Out})
		}
		s.lanes[l.id] = l
	}
	if s.cfg.Board.New != nil {
		out := s.out(ctx, nil, partBoard)
		var err error
		if s.board, err = s.cfg.Board.New(Wiring{Clock: s.mono, Out: out}); err != nil {
			return err
		}
		all = append(all, opening{"board", s.board.Open, out})
	}
	if len(s.cfg.Thermometers) > 0 {
		out := s.out(ctx, nil, partBoard)
		t, err := thermo.New(thermo.Config{Sensors: s.cfg.Thermometers, Every: s.cfg.ThermometersEvery}, out)
		if err != nil {
			return err
		}
		all = append(all, opening{"thermometers", t.Open, out})
	}
	for _, o := range all {
		drivers.Go(func() { _ = hardware.Supervise(ctx, o.name, o.open, o.out) }) // ends with ctx alone
	}
	return nil
}

// own is the one goroutine that decides.
func (s *shell) own(ctx context.Context) error {
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	defer s.agent.beat(endingMost)
	for {
		s.agent.beat(s.cfg.HangsAfter)
		var err error
		select {
		case <-ctx.Done():
			return nil
		case m := <-s.inbox:
			err = s.take(m)
		case <-alarm.C:
			err = s.due()
		}
		if err != nil {
			return err
		}
		alarm.Reset(max(0, s.next()-s.mono()))
	}
}

func (s *shell) take(m any) error {
	switch m := m.(type) {
	case heard:
		return s.hear(m)
	case uplink.Inbound:
		s.heard = time.Now()
		return s.handle(Uplink{m})
	case call:
		defer close(m.done)
		return m.f()
	}
	panic(fmt.Sprintf("agent: %T in the inbox", m))
}

// drain empties the inbox when everything that sends has ended. What is known of a vend is still
// taken in, or the next start would have to ask a person about it; the rest is of no use any more.
func (s *shell) drain(take bool) error {
	var err error
	for _, l := range s.lanes { // no change is ordered that nobody would pay
		if take && err == nil && l.cash != nil {
			err = s.cashGone(l)
		}
	}
	for {
		select {
		case m := <-s.inbox:
			h, ok := m.(heard)
			if !ok {
				continue
			}
			wipe(h.ev)
			switch h.ev.(type) {
			case hardware.Approval, hardware.VendSuccess, hardware.VendFailure, hardware.EvidenceSeen, hardware.CashIn, hardware.Paid,
				hardware.TerminalAnswered, hardware.TerminalDone:
				if take && err == nil {
					err = s.hear(h)
				}
			}
		default:
			return err
		}
	}
}

// inOwner lets the owner do f, and waits. It is false when ctx ended first; whether f was or will be
// done is then not known.
func (s *shell) inOwner(ctx context.Context, f func() error) bool {
	c := call{f: f, done: make(chan struct{})}
	select {
	case s.inbox <- c:
	case <-ctx.Done():
		return false
	}
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// next is the nearest deadline.
func (s *shell) next() time.Duration {
	at := s.check
	if s.wake > 0 {
		at = min(at, s.wake)
	}
	for _, t := range s.timers {
		at = min(at, t.at)
	}
	for _, l := range s.lanes {
		if l.audit != nil && !l.auditing {
			at = min(at, l.auditAt)
		}
		if l.terminal != nil && l.dayEvery >= 0 {
			at = min(at, l.dayAt)
		}
	}
	return at
}

// due takes in what has run out. A timer that a lane stopped or restarted meanwhile is stale by its
// id, and the session knows that.
func (s *shell) due() error {
	now := s.mono()
	var ins []Input
	for _, k := range slices.SortedFunc(maps.Keys(s.timers), func(a, b timerKey) int {
		return cmp.Or(cmp.Compare(s.timers[a].at, s.timers[b].at), cmp.Compare(a.lane, b.lane), cmp.Compare(a.name, b.name))
	}) {
		if t := s.timers[k]; t.at <= now {
			delete(s.timers, k)
			ins = append(ins, Lane{k.lane, session.Timer{Name: k.name, ID: t.id}})
		}
	}
	if s.wake > 0 && s.wake <= now {
		s.wake = 0
		ins = append(ins, Uplink{uplink.Tick{}})
	}
	if s.check <= now {
		s.check = now + storageEvery
		s.cfg.telemetry.room(s.journal)
		more, err := s.watch()
		if err != nil {
			return err
		}
		ins = append(ins, more...)
		if err := s.fold(now); err != nil {
			return err
		}
		if err := s.recoverPower(now); err != nil {
			return err
		}
		if err := s.recover(now); err != nil {
			return err
		}
		if err := s.modes(now); err != nil {
			return err
		}
		defer s.tellStatus()
	}
	s.audits(now)
	ins = append(ins, s.days(now)...)
	return s.handle(ins...)
}

// handle lets the Device decide, and carries out what it wants until it wants nothing more. After an
// error nothing may be done: the caller ends the run.
func (s *shell) handle(ins ...Input) error {
	for len(ins) > 0 {
		do, err := s.device.Handle(s.now(), ins...)
		if err != nil {
			return err
		}
		ins = s.carryOut(do)
		if err := s.tellRecords(); err != nil {
			return err
		}
	}
	s.ready()
	s.cfg.telemetry.look(s.device, s.journal)
	return nil
}

// tellRecords logs what people care for among the records that are new.
func (s *shell) tellRecords() error {
	head := s.journal.Head().Seq
	for s.told < head {
		sealed, err := s.journal.Read(s.told, 64)
		if err != nil {
			return err
		}
		if len(sealed) == 0 {
			return fmt.Errorf("read back record %d: it is gone", s.told+1)
		}
		for _, r := range sealed {
			s.told = r.Position.Seq
			o, err := protocol.OpenRecord(r.Bytes)
			if err != nil {
				return err
			}
			s.tellRecord(o)
			s.lately.see(o)
			if s.totals.next(o.Position) { // what was behind is folded later
				s.totals.see(o)
			}
		}
	}
	return nil
}

func (s *shell) tellRecord(o protocol.Opened) {
	log := s.log.With("lane", int(o.Lane), "sale", o.Sale.String())
	switch b := o.Body.(type) {
	case protocol.AuthorizationSent:
		log.Debug("authorization asked", "payment", b.Payment.String(), "amount", b.Amount.String(), "brand", b.Card.Brand)
	case protocol.AuthorizationAnswered:
		log.Debug("authorization answered", "payment", b.Payment.String(), "result", b.Result.String(), "approved", b.Approved.String())
	case protocol.VendResult:
		log.Debug("vend", "vend", b.Vend.String(), "result", b.Result.String(), "reason", b.Reason.String())
	case protocol.PaymentOutcome:
		if !o.Sale.IsZero() {
			s.charged[o.Sale] = b.Amount
		}
	case protocol.SaleClosed:
		s.last = &LastSale{
			Sale: o.Sale, Lane: o.Lane, At: o.At.Wall.Time(), How: b.How.String(),
			Charged: s.charged[o.Sale].String(), Delivered: b.Delivered.String(),
		}
		s.cfg.telemetry.sale(s.journal, o.Sale)
		log.Info("sale ended", "how", b.How.String(), "charged", s.charged[o.Sale].String(), "delivered", b.Delivered.String())
		delete(s.charged, o.Sale)
	case protocol.TerminalSent:
		log.Debug("terminal asked", "payment", b.Payment.String(), "amount", b.Amount.String(), "terminal", b.Terminal)
	case protocol.TerminalAnswered:
		log.Debug("terminal answered", "payment", b.Payment.String(), "result", b.Result.String(), "reason", b.Reason, "approved", b.Approved.String(), "receipt", b.Ref.Receipt)
		if b.AskedBack {
			log.Info("a payment at the terminal was asked back", "payment", b.Payment.String(), "result", b.Result.String(), "approved", b.Approved.String())
		}
	case protocol.TerminalDone:
		log.Info("done at the terminal", "payment", b.Payment.String(), "what", b.Op.String(), "end", b.End.String(), "amount", b.Amount.String(), "reason", b.Reason)
	case protocol.CashIn:
		log.Debug("cash in", "payment", b.Payment.String(), "value", b.Value.String(), "bill", b.Bill)
	case protocol.ChangePaid:
		log.Debug("change", "payment", b.Payment.String(), "given", b.Given.String(), "short", b.Short.String(), "reason", b.Reason)
	case protocol.ChangeUnknown:
		log.Warn("change not known", "payment", b.Payment.String(), "of", b.Amount.String(), "reason", b.Reason)
	case protocol.CaseOpened:
		log.Warn("case opened", "case", b.Case.String(), "cause", b.Cause.String(), "charged", b.Charged)
	case protocol.VendResolved:
		if b.Late {
			log.Info("vend resolved late", "vend", b.Vend.String(), "result", b.Result.String())
		}
	}
}
