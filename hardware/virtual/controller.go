package virtual

import (
	"context"
	"errors"
	"sync"
	"time"

	"coinop/protocol"
)

// ControllerConfig is a vending machine whose cashless device is at a raw port. MachineConfig's fields
// mean what they mean there.
type ControllerConfig struct {
	MachineConfig
	Level byte // 3
	Wide  bool // 32 bit money, where the device offers it
	Keys  bool // its keys can be asked for digits, where the device offers it
	// Currencies says multi currency, where the device offers it; Foreign, that its own is another than EUR.
	Currencies, Foreign bool
	Till                *Till // nil: it takes no cash
	// Pause is between two exchanges; 2 ms. A machine polls each device every 25 to 200 ms.
	Pause time.Duration
	// Polled is told how long each POLL's answer took, from the last byte of the one to the last of the
	// other; nil: nobody.
	Polled func(time.Duration)
}

// Controller is a vending machine controller as the master of an MDB bus with one cashless device, which
// it polls; its words travel as a port that marks parity gives them (FF 00 byte for a word with the mode
// bit). It has its own idea of blocks and sums.
//
// Requests are at the currency's smallest coin, scale 1.
type Controller struct {
	cfg   ControllerConfig
	port  *port
	cable *port // that a fault takes out
	wait  time.Duration

	stage[View]
	in       []byte   // of the device, not unmarked yet
	answer   []uint16 // words of the answer that comes in
	whole    chan []uint16
	boot     int // step of the start; len(steps) is done
	misses   int
	product  Product
	todo     [][]byte // commands to be said before the next POLL
	pending  bool     // a request has no answer
	approved bool     // it was approved, and has no result
	canceled bool
	session  bool
	result   []byte    // said until it is acknowledged
	refund   time.Time // after a failure: until then silence means that the refund is under way
	held     []byte    // said at Release
	fault    Fault
	off      time.Time // without power until then
	motor    time.Time // the motor's end
	turning  bool
	turns    Fault
}

// Times of the controller.
const (
	pollPause  = 2 * time.Millisecond
	answerWait = 60 * time.Millisecond // 5 ms on a bus; a process under load may be later
	missesMost = 5
	// MDB/ICP 4.2, 7.1: how long a cashless device may be silent.
	nonResponse = 5 * time.Second
)

// NewController opens the pty and the book of drops; it starts nothing.
func NewController(cfg ControllerConfig) (*Controller, error) {
	if cfg.Patience == 0 {
		cfg.Patience = 30 * time.Second
	}
	if cfg.Level == 0 {
		cfg.Level = 3
	}
	if cfg.Pause == 0 {
		cfg.Pause = pollPause
	}
	c := &Controller{cfg: cfg, wait: answerWait, whole: make(chan []uint16, 4)}
	c.seen.Status = "INACTIVE"
	var err error
	if c.book, err = openBook(cfg.Drops); err != nil {
		return nil, err
	}
	c.seen.Drops = len(c.book.drops)
	c.port, err = newPort(cfg.Link)
	c.cable = c.port
	return c, err
}

// Path is the tty the agent opens: the link where there is one.
func (c *Controller) Path() string { return c.port.name() }

// Run is the machine's life; it ends with ctx, unplugged.
func (c *Controller) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			c.turn(ctx)
			select {
			case <-time.After(c.cfg.Pause):
			case <-ctx.Done():
			}
		}
	})
	err := c.port.read(ctx, c.hear)
	wg.Wait()
	c.book.close()
	return err
}

// hear puts the device's line together: an answer ends with its word that has the mode bit.
func (c *Controller) hear(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, b...)
	for len(c.in) > 0 {
		w, n := uint16(c.in[0]), 1
		if c.in[0] == 0xFF {
			switch {
			case len(c.in) < 2:
				return
			case c.in[1] == 0xFF:
				n = 2
			case len(c.in) < 3:
				return
			default:
				w, n = 0x100|uint16(c.in[2]), 3
			}
		}
		c.in = c.in[n:]
		c.answer = append(c.answer, w)
		if w&0x100 != 0 {
			select {
			case c.whole <- c.answer:
			default:
			}
			c.answer = nil
		}
	}
}

// command is a block of ours on the wire: address with the mode bit, data, sum.
func command(data []byte) []byte {
	sum := byte(0)
	out := []byte{0xFF, 0x00, data[0]}
	for i, x := range data {
		sum += x
		if i == 0 {
			continue
		}
		if out = append(out, x); x == 0xFF {
			out = append(out, 0xFF)
		}
	}
	if out = append(out, sum); sum == 0xFF {
		out = append(out, 0xFF)
	}
	return out
}

// say puts a block on the wire and waits for the answer: nil for ACK; ok is false for silence and for
// what is no answer.
func (c *Controller) say(ctx context.Context, data []byte, deaf bool) (answer []byte, ok bool) {
	for len(c.whole) > 0 {
		<-c.whole
	}
	if c.port.write(command(data)) != nil {
		return nil, false
	}
	late := time.NewTimer(c.wait)
	defer late.Stop()
	var w []uint16
	select {
	case w = <-c.whole:
	case <-late.C:
		return nil, false
	case <-ctx.Done():
		return nil, false
	}
	if len(w) == 1 {
		return nil, byte(w[0]) == 0x00
	}
	sum := byte(0)
	for _, x := range w[:len(w)-1] {
		answer = append(answer, byte(x))
		sum += byte(x)
	}
	if deaf {
		return nil, false
	}
	if sum != byte(w[len(w)-1]) {
		_ = c.port.write([]byte{0xFF, 0xFF}) // NAK
		return nil, false
	}
	_ = c.port.write([]byte{0x00}) // ACK
	return answer, true
}

// starts is what a controller says at its start, step by step (MDB/ICP 4.2, 7.4.1).
func (c *Controller) starts() [][]byte {
	steps := [][]byte{
		{0x10},
		{0x12},
		{0x11, 0x00, c.cfg.Level, 0, 0, 0},
		{0x11, 0x01, 0xFF, 0xFF, 0x00, 0x00},
		append(append([]byte{0x17, 0x00}, "VMC                        "...), 0x01, 0x02),
	}
	if c.cfg.Level >= 3 {
		ask := byte(0x20)
		if c.cfg.Wide {
			ask |= 0x02
		}
		if c.cfg.Currencies {
			ask |= 0x04
		}
		if c.cfg.Keys {
			ask |= 0x10
		}
		steps = append(steps, []byte{0x17, 0x04, 0, 0, 0, ask})
		if c.long() {
			steps = append(steps, append([]byte{0x11, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}, c.currency()...))
		}
	}
	return append(steps, []byte{0x14, 0x01})
}

// turn is one exchange, and what comes of it.
func (c *Controller) turn(ctx context.Context) {
	c.mu.Lock()
	if !c.off.IsZero() {
		if time.Now().Before(c.off) {
			c.mu.Unlock()
			return
		}
		c.off = time.Time{}
	}
	if c.turning && !time.Now().Before(c.motor) {
		c.turning = false
		c.fell()
	}
	data, starting := c.next()
	noise := c.fault == FaultGarbage && !starting
	twice := c.fault == FaultRepeat && !starting && data[0] >= 0x13 && data[0] <= 0x15
	deaf := (c.fault == FaultDeaf || c.fault == FaultDeafReset) && !starting
	c.mu.Unlock()

	if noise { // another device's block, and one of ours that came apart
		_ = c.port.write(append(command([]byte{0x0B}), command([]byte{0x13, 0x00, 0x00})[:4]...))
		time.Sleep(30 * time.Millisecond)
	}
	began := time.Now()
	answer, ok := c.say(ctx, data, deaf)
	if ok && c.cfg.Polled != nil && data[0] == 0x12 {
		c.cfg.Polled(time.Since(began))
	}
	if twice && ok {
		answer, ok = c.say(ctx, data, false)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took(data, answer, ok, starting)
	c.tell()
}

// next is what is to be said now.
func (c *Controller) next() (data []byte, starting bool) {
	if steps := c.starts(); c.boot < len(steps) {
		return steps[c.boot], true
	}
	if !c.refund.IsZero() { // first it wants to hear of the refund
		return []byte{0x12}, false
	}
	if len(c.todo) > 0 {
		return c.todo[0], false
	}
	if c.result != nil {
		return c.result, false
	}
	return []byte{0x12}, false
}

// took is the answer to data, or silence.
func (c *Controller) took(data, answer []byte, ok, starting bool) {
	if !ok {
		if c.fault == FaultDeaf && !starting {
			c.fault = FaultNone
		}
		if data[0] == 0x12 && time.Now().Before(c.refund) {
			c.seen.Waits++
			return
		}
		if c.misses++; c.misses > missesMost { // its non-response time is over
			c.misses = 0
			if c.fault == FaultDeafReset {
				c.fault = FaultNone
			}
			c.restart()
		}
		return
	}
	c.misses = 0
	if data[0] == 0x12 && !c.refund.IsZero() { // the first answer after the failure
		if c.refund = (time.Time{}); len(answer) == 0 {
			c.seen.Refunds++
		}
	}
	if starting {
		switch {
		case c.boot == 1 && (len(answer) == 0 || answer[0] != 0x00): // JUST RESET is still to come
		case data[0] == 0x14:
			c.boot++
			c.status("ENABLED")
		default:
			if c.boot++; c.boot == 4 {
				c.status("DISABLED")
			}
		}
		return
	}
	switch {
	case len(c.todo) > 0 && &c.todo[0][0] == &data[0]:
		c.todo = c.todo[1:]
	case c.result != nil && &c.result[0] == &data[0]:
		if c.result[1] == 0x03 {
			c.refund = time.Now().Add(nonResponse)
		}
		c.result = nil
		c.finish()
	}
	if len(answer) > 0 {
		c.told(answer)
	}
}

// told is a message of the device's.
func (c *Controller) told(a []byte) {
	switch a[0] {
	case 0x03:
		if c.seen.Status == "ENABLED" {
			c.session = true
			c.begins(a)
			c.status("IDLE")
		}
	case 0x04:
		if c.session && c.seen.Status == "IDLE" {
			c.todo = append(c.todo, []byte{0x13, 0x04})
		}
	case 0x05:
		c.approval(a[1:])
	case 0x06:
		if c.pending {
			if !c.canceled {
				c.seen.Denials++
			}
			c.finish()
		}
	case 0x07:
		c.session = false
		c.status("ENABLED")
	case 0x0A: // an error: credit lost, or another
		c.seen.Errors++
	case 0x0B, 0x00:
		c.restart()
	default:
		c.toldMore(a)
	}
}

func (c *Controller) approval(units []byte) {
	if !c.pending {
		return
	}
	c.pending, c.approved = false, true
	c.seen.Approvals++
	n := int64(0)
	for _, x := range units {
		n = n<<8 | int64(x)
	}
	fault := c.fault
	if fault != FaultRepeat && fault != FaultGarbage { // those last over the vend
		c.fault = FaultNone
	}
	if n < c.product.Price.Minor {
		fault = FaultFail
	}
	if fault == FaultUnplugDrop || fault == FaultUnplugJam {
		c.cable.unplug()
	}
	c.turns, c.turning, c.motor = fault, true, time.Now().Add(c.cfg.VendTime)
}

// fell is the motor's end.
func (c *Controller) fell() {
	success, failure := []byte{0x13, 0x02, byte(c.product.Outlet >> 8), byte(c.product.Outlet)}, []byte{0x13, 0x03}
	drop := func() []byte {
		if c.book.drop(c.product, c.seen.Requests) != nil {
			return failure
		}
		c.seen.Drops = len(c.book.drops)
		c.cfg.Till.cashless(c.product.Outlet, c.product.Price.Minor)
		return success
	}
	switch c.turns {
	case FaultNone, FaultRepeat, FaultGarbage:
		c.say1(drop())
	case FaultFail:
		c.say1(failure)
	case FaultSilentDrop:
		drop()
	case FaultSilentJam:
	case FaultResetDrop:
		drop()
		c.restart()
	case FaultResetJam:
		c.restart()
	case FaultLateDrop, FaultUnplugDrop:
		c.held = drop()
	case FaultLateJam, FaultUnplugJam:
		c.held = failure
	}
	c.seen.Held = c.held != nil
	c.tell()
}

// say1 says a result, until it is acknowledged.
func (c *Controller) say1(result []byte) {
	c.seen.Results++
	c.result = result
}

// finish ends a vend: back to the session, which this controller completes, or to ENABLED.
func (c *Controller) finish() {
	c.pending, c.approved, c.canceled = false, false, false
	if c.fault == FaultRepeat || c.fault == FaultGarbage {
		c.fault = FaultNone
	}
	if c.session {
		c.status("IDLE")
		c.todo = append(c.todo, []byte{0x13, 0x04})
		return
	}
	c.status("ENABLED")
}

// restart is RESET, and a new start.
func (c *Controller) restart() {
	c.boot, c.todo, c.result, c.held, c.session, c.refund = 0, nil, nil, nil, false, time.Time{}
	c.pending, c.approved, c.canceled, c.turning, c.seen.Held = false, false, false, false, false
	c.seen.Session.Digits = 0
	c.status("INACTIVE")
}

func (c *Controller) status(s string) { c.seen.Status = s }

// Select presses a product's button. A controller that is about to be ready is waited for, a moment.
func (c *Controller) Select(o protocol.Outlet) error {
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) {
		err := c.do(func() error { return c.choose(o) })
		if !errors.Is(err, ErrNotEnabled) || time.Now().After(deadline) {
			return err
		}
	}
}

func (c *Controller) choose(o protocol.Outlet) error {
	for _, p := range c.cfg.Products {
		if p.Outlet != o {
			continue
		}
		switch {
		case c.seen.Status == "VEND":
			if c.canceled {
				return ErrNotEnabled // until its 06 has come
			}
			return ErrSelling
		case c.seen.Status != "ENABLED" && c.seen.Status != "IDLE":
			return ErrNotEnabled
		}
		c.product, c.pending, c.approved, c.canceled = p, true, false, false
		c.seen.Requests++
		c.status("VEND")
		c.todo = append(c.todo, c.request())
		return nil
	}
	return ErrNoProduct
}

func (c *Controller) request() []byte {
	price, item := c.product.Price.Minor, c.product.Outlet
	b := []byte{0x13, 0x00}
	if c.long() {
		b = append(b, byte(price>>24), byte(price>>16))
	}
	return append(b, byte(price>>8), byte(price), byte(item>>8), byte(item))
}

// Cancel takes the open request back: VEND CANCEL.
func (c *Controller) Cancel() error {
	return c.do(func() error {
		if c.pending && !c.canceled {
			c.canceled = true
			c.seen.Canceled++
			c.todo = append(c.todo, []byte{0x13, 0x01})
		}
		return nil
	})
}

// Complete ends a session in which nothing is chosen: SESSION COMPLETE.
func (c *Controller) Complete() error {
	return c.do(func() error {
		if c.seen.Status != "IDLE" {
			return ErrNotEnabled
		}
		c.todo = append(c.todo, []byte{0x13, 0x04})
		return nil
	})
}

// Repeat says the open vend request again, as a controller does that saw no answer.
func (c *Controller) Repeat() error {
	return c.do(func() error {
		if c.seen.Status != "VEND" {
			return ErrNotEnabled
		}
		c.todo = append(c.todo, c.request())
		return nil
	})
}

// Misbehave sets what goes wrong with the next vend.
func (c *Controller) Misbehave(f Fault) error { return c.do(func() error { c.fault = f; return nil }) }

// Release says the result that a fault held back.
func (c *Controller) Release() error {
	return c.do(func() error {
		if c.held != nil {
			c.say1(c.held)
		}
		c.held, c.seen.Held = nil, false
		return nil
	})
}

// Reset is the controller switched off and on: RESET, and a new start.
func (c *Controller) Reset() error { return c.do(func() error { c.restart(); return nil }) }

// PowerCut is the machine without power for a moment.
func (c *Controller) PowerCut() error {
	return c.do(func() error {
		c.restart()
		c.off = time.Now().Add(20 * time.Millisecond)
		return nil
	})
}

// Off switches the machine off: it polls no more, and its cable stays in.
func (c *Controller) Off() error {
	return c.do(func() error {
		c.restart()
		c.off = time.Now().Add(24 * time.Hour)
		return nil
	})
}

// Unplug takes the cable out, Replug puts it in again.
func (c *Controller) Unplug() error { return c.do(func() error { c.port.unplug(); return nil }) }

// Replug puts the cable in again; the tty is a new one, the link points to it.
func (c *Controller) Replug() error { return c.do(c.port.replug) }
