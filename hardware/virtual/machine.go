package virtual

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Product is what a vending machine sells at one outlet.
type Product struct {
	Outlet protocol.Outlet
	Price  money.Amount
}

// MachineConfig is one vending machine. The zero value of a field is its default.
type MachineConfig struct {
	Link     string        // symlink to the pty; none
	Drops    string        // file the drops are appended to, one JSON object a line; none
	Products []Product     //
	VendTime time.Duration // how long the motor turns; 0
	Patience time.Duration // the controller takes its request back after it; 30 s (MDB Z7)
}

// Fault is what the machine does wrong with the next vend.
type Fault uint8

// Faults. Those of the controller take effect when it is approved; each works once.
const (
	FaultNone       Fault = iota
	FaultFail             // nothing falls; it says so
	FaultSilentDrop       // it falls, and nothing is said
	FaultSilentJam        // nothing falls, and nothing is said
	FaultResetDrop        // it falls, then RESET instead of a result
	FaultResetJam         // nothing falls, then RESET
	FaultLateDrop         // it falls; the result is said at Release
	FaultLateJam          // nothing falls; the failure is said at Release
	FaultUnplugDrop       // the cable goes when the approval has come; it falls; the result at Release
	FaultUnplugJam        // the same, and nothing falls
	FaultRepeat           // every line of this vend comes twice
	FaultGarbage          // noise between the lines
	// Of a relay board.
	FaultLost      // a command is carried out, its answer gets lost
	FaultMissed    // a command is not heard
	FaultCRC       // an answer has a wrong checksum
	FaultException // a command is refused
	FaultStuck     // the machine's feedback stays active
	FaultDribble   // every answer of this vend comes byte by byte
	// Of a controller at a raw port.
	FaultDeaf      // it does not hear the device's next answer
	FaultDeafReset // it hears none any more, and resets the bus
)

var faultNames = [...]string{
	"none", "fail", "silent_drop", "silent_jam", "reset_drop", "reset_jam", "late_drop", "late_jam",
	"unplug_drop", "unplug_jam", "repeat", "garbage", "lost", "missed", "crc", "exception", "stuck", "dribble", "deaf", "deaf_reset",
}

func (f Fault) String() string {
	if int(f) < len(faultNames) {
		return faultNames[f]
	}
	return "fault?"
}

// ParseFault reads the name String prints, for command lines.
func ParseFault(s string) (Fault, error) {
	for i, n := range faultNames {
		if n == s {
			return Fault(i), nil //nolint:gosec // few
		}
	}
	return 0, fmt.Errorf("no fault %q: want one of %s", s, strings.Join(faultNames[:], ", "))
}

// Why a button did nothing.
var (
	ErrNotEnabled = errors.New("the machine's cashless reader is not enabled")
	ErrSelling    = errors.New("the machine is selling")
	ErrNoProduct  = errors.New("no such product")
)

// View is what can be seen of a machine.
type View struct {
	Status    string // of the adapter: OFF, INACTIVE, DISABLED, ENABLED, IDLE, VEND
	Set       bool   // the adapter has got a parameter since it has power: before, it is switched off once more
	Requests  int
	Approvals int // vends the controller was let do
	Denials   int
	Canceled  int // requests it took back
	Results   int // results it said, on the wire or into the air
	Held      bool
	Drops     int
	// Of a controller at a raw port: POLLs not answered while a refund was under way, refunds it was told
	// of, and errors (0A).
	Waits, Refunds, Errors int
	Session                Session // what it was told of sessions beside vends
}

// Machine is a vending machine: controller, motors, and a Qibixx adapter before it.
type Machine struct {
	cfg  MachineConfig
	port *port

	stage[View]
	line     []byte
	approved bool // the open request is
	product  Product
	funds    string
	fault    Fault
	held     []string // said at Release
	mute     bool
	ended    bool // nothing begins any more that wg would have to wait for
	wg       sync.WaitGroup
	ctx      context.Context //nolint:containedctx // Run's, for the motors
}

// NewMachine opens the pty and the book of drops; it starts nothing.
func NewMachine(cfg MachineConfig) (*Machine, error) {
	if cfg.Patience == 0 {
		cfg.Patience = 30 * time.Second
	}
	m := &Machine{cfg: cfg}
	m.seen.Status = "OFF"
	var err error
	if m.book, err = openBook(cfg.Drops); err != nil {
		return nil, err
	}
	m.seen.Drops = len(m.book.drops)
	m.port, err = newPort(cfg.Link)
	return m, err
}

// Path is the tty the agent opens: the link where there is one.
func (m *Machine) Path() string { return m.port.name() }

// Run is the machine's life; it ends with ctx, unplugged.
func (m *Machine) Run(ctx context.Context) error {
	m.mu.Lock()
	m.ctx, m.ended = ctx, false
	m.mu.Unlock()
	err := m.port.read(ctx, m.hear)
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.wg.Wait()
	m.book.close()
	return err
}

// hear takes what the agent writes.
func (m *Machine) hear(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range b {
		if c != '\r' && c != '\n' {
			if len(m.line) < 256 {
				m.line = append(m.line, c)
			}
			continue
		}
		if len(m.line) > 0 && !m.mute {
			m.command(string(m.line))
		}
		m.line = m.line[:0]
	}
	m.tell()
}

func (m *Machine) command(l string) {
	f := strings.Split(l, ",")
	switch {
	case l == "V":
		m.say("v,4.0.2.0,1a2b3c4d")
	case l == "C,1" && m.seen.Status != "OFF":
		m.say(`c,ERR,"cashless is on"`)
	case l == "C,1":
		m.status("INACTIVE")
		m.say("c,1", "c,STATUS,INACTIVE", "r,ACK")
		m.start()
	case l == "C,0" && m.seen.Status == "OFF":
		m.say(`c,ERR,"cashless is off"`)
	case l == "C,0":
		m.seen.Status, m.approved = "OFF", false
		m.say("c,0")
	case len(f) == 3 && f[1] == "SETCONF" && strings.Contains(f[2], "="):
		if m.seen.Status != "OFF" {
			m.say(`c,ERR,"cashless is on"`)
			return
		}
		m.seen.Set = true
		m.say("c,SET,OK")
	case m.seen.Status == "OFF":
		m.say(`c,ERR,"cashless is off"`)
	case len(f) >= 3 && f[0] == "C" && f[1] == "VEND":
		m.approval(f[2])
	case len(f) >= 3 && f[0] == "C" && f[1] == "START":
		if m.seen.Status == "ENABLED" {
			m.funds = f[2]
			m.status("IDLE")
		}
	case l == "C,STOP":
		m.stop()
	default:
		m.say(`c,ERR,"unknown command"`)
	}
}

// start is the controller that finds its reader: MDB/ICP 4.2, 7.4.1 (start-up).
func (m *Machine) start() {
	m.status("DISABLED")
	m.say("r,ACK", "r,ACK")
	m.status("ENABLED")
}

func (m *Machine) stop() {
	switch {
	case m.seen.Status == "VEND" && !m.approved:
		m.seen.Denials++
		m.finish()
	case m.seen.Status == "IDLE":
		m.finish()
	default:
		m.say(`c,ERR,"nothing to stop"`)
	}
}

// finish is SESSION COMPLETE and END SESSION.
func (m *Machine) finish() {
	m.approved, m.funds = false, ""
	if m.seen.Status != "IDLE" {
		m.status("IDLE")
	}
	m.status("ENABLED")
}

// approval is VEND APPROVED (05). One of less than the price is a failure; one too many is not a vend.
func (m *Machine) approval(amount string) {
	if m.seen.Status != "VEND" || m.approved {
		m.say(`c,ERR,"no vend request"`)
		return
	}
	m.approved = true
	m.seen.Approvals++
	a, err := money.Parse(amount, m.product.Price.Currency)
	if err != nil || a.Less(m.product.Price) {
		m.results("c,ERR,VEND 3")
		return
	}
	fault := m.fault
	if fault != FaultRepeat && fault != FaultGarbage { // those last over the vend
		m.fault = FaultNone
	}
	if fault == FaultUnplugDrop || fault == FaultUnplugJam {
		m.port.unplug()
	}
	if m.cfg.VendTime == 0 {
		m.turn(fault)
		return
	}
	m.later(m.cfg.VendTime, func() { m.turn(fault) })
}

// later does f after d, unless the machine is switched off before or another request came.
func (m *Machine) later(d time.Duration, f func()) {
	if m.ctx == nil || m.ctx.Err() != nil || m.ended {
		return
	}
	ctx, request := m.ctx, m.seen.Requests
	m.wg.Go(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.seen.Requests == request {
			f()
			m.tell()
		}
	})
}

// turn is the motor, and what the controller says of it.
func (m *Machine) turn(fault Fault) {
	switch fault {
	case FaultNone, FaultRepeat, FaultGarbage, FaultSilentDrop, FaultResetDrop, FaultLateDrop, FaultUnplugDrop:
		if err := m.drop(); err != nil {
			m.results("c,ERR,VEND 3") // it did not fall: no book, no drop
			return
		}
	case FaultFail, FaultSilentJam, FaultResetJam, FaultLateJam, FaultUnplugJam:
	}
	switch fault {
	case FaultNone, FaultRepeat, FaultGarbage:
		m.results("c,VEND,SUCCESS")
	case FaultFail:
		m.results("c,ERR,VEND 3")
	case FaultSilentDrop, FaultSilentJam:
	case FaultResetDrop, FaultResetJam:
		m.reset()
	case FaultLateDrop, FaultUnplugDrop:
		m.held = []string{"c,VEND,SUCCESS"}
	case FaultLateJam, FaultUnplugJam:
		m.held = []string{"c,ERR,VEND 3"}
	}
	m.seen.Held = m.held != nil
}

func (m *Machine) results(l string) {
	m.seen.Results++
	m.say(l)
	m.finish()
	if m.fault == FaultRepeat || m.fault == FaultGarbage { // those last over the vend; another is for the next
		m.fault = FaultNone
	}
}

func (m *Machine) drop() error {
	err := m.book.drop(m.product, m.seen.Requests)
	m.seen.Drops = len(m.book.drops)
	return err
}

func (m *Machine) reset() {
	m.approved, m.held, m.seen.Held = false, nil, false
	m.status("INACTIVE")
	m.start()
}

func (m *Machine) status(s string) {
	m.seen.Status = s
	m.say("c,STATUS," + s)
}

func (m *Machine) say(lines ...string) {
	for _, l := range lines {
		n := 1
		if m.fault == FaultRepeat {
			n = 2
		}
		for range n {
			if m.fault == FaultGarbage {
				_ = m.port.write([]byte("\x00\xffc,ST\x80\x00,VEND,9\r\n"))
			}
			_ = m.port.write([]byte(l + "\r\n"))
		}
	}
}

// Select presses a product's button: VEND REQUEST, or why the controller makes none.
func (m *Machine) Select(o protocol.Outlet) error {
	return m.do(func() error {
		for _, p := range m.cfg.Products {
			if p.Outlet != o {
				continue
			}
			switch m.seen.Status {
			case "ENABLED", "IDLE":
			case "VEND":
				return ErrSelling
			default:
				return ErrNotEnabled
			}
			m.product, m.approved = p, false
			m.seen.Requests++
			m.seen.Status = "VEND"
			m.say(fmt.Sprintf("c,STATUS,VEND,%s,%d", p.Price.Decimal(), p.Outlet))
			m.later(m.cfg.Patience, func() { m.cancel() })
			return nil
		}
		return ErrNoProduct
	})
}

// Cancel takes the open request back: VEND CANCEL.
func (m *Machine) Cancel() error { return m.do(func() error { m.cancel(); return nil }) }

func (m *Machine) cancel() {
	if m.seen.Status == "VEND" && !m.approved {
		m.seen.Canceled++
		m.say("c,ERR,VEND 1")
		m.finish()
	}
}

// Repeat says the open vend request again, as a controller does that saw no answer.
func (m *Machine) Repeat() error {
	return m.do(func() error {
		if m.seen.Status != "VEND" {
			return ErrNotEnabled
		}
		m.say(fmt.Sprintf("c,STATUS,VEND,%s,%d", m.product.Price.Decimal(), m.product.Outlet))
		return nil
	})
}

// Say puts any line on the wire.
func (m *Machine) Say(line string) error { return m.do(func() error { m.say(line); return nil }) }

// Misbehave sets what goes wrong with the next vend.
func (m *Machine) Misbehave(f Fault) error { return m.do(func() error { m.fault = f; return nil }) }

// Release says the result that a fault held back.
func (m *Machine) Release() error {
	return m.do(func() error {
		for _, l := range m.held {
			m.results(l)
		}
		m.held, m.seen.Held = nil, false
		return nil
	})
}

// Reset is the controller switched off and on: RESET, and a new start.
func (m *Machine) Reset() error { return m.do(func() error { m.reset(); return nil }) }

// PowerCut is the adapter without power for a moment: off, nothing kept.
func (m *Machine) PowerCut() error {
	return m.do(func() error {
		m.seen.Status, m.seen.Set, m.approved, m.held, m.line, m.seen.Held = "OFF", false, false, nil, nil, false
		return nil
	})
}

// Mute makes the adapter say nothing and hear nothing, or lets it again.
func (m *Machine) Mute(on bool) error { return m.do(func() error { m.mute = on; return nil }) }

// Unplug takes the cable out: the adapter, powered by the bus, keeps its session. Replug puts it in.
func (m *Machine) Unplug() error { return m.do(func() error { m.port.unplug(); return nil }) }

// Replug puts the cable in again; the tty is a new one, the link points to it.
func (m *Machine) Replug() error { return m.do(m.port.replug) }
