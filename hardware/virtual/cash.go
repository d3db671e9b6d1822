package virtual

import (
	"context"
	"errors"
	"time"
)

// CashConfig is a coin changer of level 2 or 3 and a bill validator at a raw MDB port. The zero value of a
// field is its default.
type CashConfig struct {
	Link    string // symlink to the pty; none
	Coins   []int  // values in units of 0.05: 1, 2, 4, 10, 20, 40
	Tubes   []int  // coins in the tube of each type; -1: it has none, they go to the box
	Bills   []int  // values in units of 1.00: 5, 10, 20
	NoBills bool   // there is no validator
	Level3  bool   // the changer can be given an amount, and chooses the coins
}

// CashFault is what goes wrong; each works once, but for dead and the jams, which last.
type CashFault uint8

// Faults.
const (
	CashOK         CashFault = iota
	CashShort                // of the next coins that are ordered one does not come out
	CashStuck                // none of them does, of any order
	CashMute                 // the next DISPENSE is carried out and not acknowledged
	CashDeaf                 // the next report is not heard to be acknowledged: it is said again
	CashBadSum               // the next answer has a wrong sum
	CashDead                 // the changer says nothing any more
	CashResetInPay           // the changer begins anew in mid payout
	CashJam                  // a coin is stuck in the changer: 0C
	CashBillJam              // a bill is stuck in the validator: 05
)

// CashView is what can be seen of it.
type CashView struct {
	Tubes     []int
	Box       int64 // minor units, in the coin box
	In        int64 // coins that were let in, and bills when they are stacked
	Out       int64 // given, in coins
	ByHand    int64 // taken out at its buttons
	Stacked   []int // bills, by type
	Returned  int
	Escrow    int // type of the bill in it; -1: none
	Accepting bool
	Bills     bool // accepted
	Resets    int
	Idle      int // POLLs at which the changer had nothing to tell
}

// Cash is the two devices. They know nothing of each other but the line.
type Cash struct {
	cfg  CashConfig
	port *port

	watch
	seen    CashView
	in      []byte
	block   []uint16
	fault   CashFault
	unheard []byte // a report that waits for its ACK
	from    byte   // whose it was
	coin    [][]byte
	bill    [][]byte
	busy    time.Time
	gave    []byte // by the last payout it chose the coins of
	types   int    // of coins that are let in, a bit each
}

// NewCash opens the pty; it starts nothing.
func NewCash(cfg CashConfig) (*Cash, error) {
	if cfg.Coins == nil {
		cfg.Coins = []int{1, 2, 4, 10, 20, 40}
	}
	if cfg.Bills == nil {
		cfg.Bills = []int{5, 10, 20}
	}
	for len(cfg.Tubes) < len(cfg.Coins) {
		cfg.Tubes = append(cfg.Tubes, -1)
	}
	p, err := newPort(cfg.Link)
	c := &Cash{cfg: cfg, port: p}
	c.seen.Tubes = append([]int(nil), cfg.Tubes...)
	c.seen.Escrow = -1
	c.seen.Stacked = make([]int, len(cfg.Bills))
	c.coin, c.bill = [][]byte{{0x0B}}, [][]byte{{0x06}}
	return c, err
}

// Path is the tty the agent opens.
func (c *Cash) Path() string { return c.port.name() }

// Run is their life; it ends with ctx, unplugged.
func (c *Cash) Run(ctx context.Context) error { return c.port.read(ctx, c.hear) }

// Unplug takes the cable out; Replug puts it back.
func (c *Cash) Unplug() { c.port.unplug() }

// Replug puts the cable back: a new pty behind the same link.
func (c *Cash) Replug() error { return c.port.replug() }

// View is what can be seen now.
func (c *Cash) View() CashView {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view()
}

func (c *Cash) view() CashView {
	v := c.seen
	v.Tubes, v.Stacked = append([]int(nil), v.Tubes...), append([]int(nil), v.Stacked...)
	return v
}

// Wait waits until what can be seen is ok.
func (c *Cash) Wait(ctx context.Context, ok func(CashView) bool) error {
	return await(ctx, &c.watch, c.view, ok)
}

// Misbehave sets what goes wrong next.
func (c *Cash) Misbehave(f CashFault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// ErrNoEntry means that the slot is shut.
var ErrNoEntry = errors.New("it is not taken")

// Coin puts one in.
func (c *Cash) Coin(kind int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.tell()
	if c.types>>kind&1 == 0 {
		return ErrNoEntry
	}
	c.seen.In += int64(c.cfg.Coins[kind]) * 5
	if c.seen.Tubes[kind] < 0 {
		c.seen.Box += int64(c.cfg.Coins[kind]) * 5
		c.coin = append(c.coin, []byte{0x40 | byte(kind), 0})
		return nil
	}
	c.seen.Tubes[kind]++
	c.coin = append(c.coin, []byte{0x50 | byte(kind), byte(c.seen.Tubes[kind])})
	return nil
}

// ByHand takes coins of a kind out at the changer's buttons.
func (c *Cash) ByHand(kind, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.tell()
	if c.seen.Tubes[kind] < n || n < 1 || n > 7 {
		return ErrNoEntry
	}
	c.seen.Tubes[kind] -= n
	c.seen.ByHand += int64(n) * int64(c.cfg.Coins[kind]) * 5
	c.coin = append(c.coin, []byte{0x80 | byte(n)<<4 | byte(kind), byte(c.seen.Tubes[kind])})
	return nil
}

// Lever is the return lever.
func (c *Cash) Lever() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coin = append(c.coin, []byte{0x01})
}

// Bill puts one in: it waits in escrow.
func (c *Cash) Bill(kind int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.tell()
	if !c.seen.Bills || c.seen.Escrow >= 0 {
		return ErrNoEntry
	}
	c.seen.Escrow = kind
	c.bill = append(c.bill, []byte{0x90 | byte(kind)})
	return nil
}

// hear takes the master's words.
func (c *Cash) hear(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, b...)
	for len(c.in) > 0 {
		w, n := uint16(c.in[0]), 1
		if c.in[0] == 0xFF {
			if len(c.in) < 2 {
				return
			}
			if c.in[1] == 0xFF {
				n = 2
			} else {
				if len(c.in) < 3 {
					return
				}
				w, n = 0x100|uint16(c.in[2]), 3
			}
		}
		c.in = c.in[n:]
		c.word(w)
	}
	c.tell()
}

// sizes of the master's blocks, sum included, by address byte; those with a subcommand by its value.
func cashSize(b []uint16) int {
	a := byte(b[0])
	switch a {
	case 0x08, 0x09, 0x0A, 0x0B, 0x30, 0x31, 0x33, 0x36:
		return 2
	case 0x0C, 0x34:
		return 6
	case 0x0D, 0x35:
		return 3
	case 0x32:
		return 4
	case 0x0F, 0x37:
		if len(b) > 1 && a == 0x0F && b[1] == 0x01 {
			return 7
		}
		if len(b) > 1 && a == 0x0F && b[1] == 0x02 {
			return 4
		}
		return 3
	}
	return 0
}

func (c *Cash) word(w uint16) {
	if w&0x100 != 0 {
		c.block = []uint16{w}
	} else if len(c.block) == 0 {
		if c.unheard != nil && byte(w) == 0x00 {
			if c.fault == CashDeaf {
				c.fault = CashOK
				return // it is said again
			}
			c.heard()
		}
		return
	} else {
		c.block = append(c.block, w)
	}
	n := cashSize(c.block)
	if n == 0 || len(c.block) < n {
		return
	}
	var data []byte
	sum := byte(0)
	for _, x := range c.block[:n-1] {
		data = append(data, byte(x))
		sum += byte(x)
	}
	good := sum == byte(c.block[n-1])
	c.block = nil
	if !good {
		c.say(0x100 | 0xFF)
		return
	}
	c.unheard = nil // what was not acknowledged before another command is said again
	switch {
	case data[0]&0xF8 == 0x08:
		if c.fault != CashDead {
			c.changer(data)
		}
	case !c.cfg.NoBills:
		c.validator(data)
	}
}

func (c *Cash) say(words ...uint16) {
	var out []byte
	for _, w := range words {
		switch {
		case w&0x100 != 0:
			out = append(out, 0xFF, 0x00, byte(w))
		case w == 0xFF:
			out = append(out, 0xFF, 0xFF)
		default:
			out = append(out, byte(w))
		}
	}
	_ = c.port.write(out)
}

func (c *Cash) ack() { c.say(0x100) }

// data says a block.
func (c *Cash) data(b []byte) {
	var w []uint16
	sum := byte(0)
	for _, x := range b {
		w = append(w, uint16(x))
		sum += x
	}
	if c.fault == CashBadSum {
		c.fault = CashOK
		sum++
	}
	c.say(append(w, 0x100|uint16(sum))...)
}

// report says what waits, until it is acknowledged.
func (c *Cash) report(queue [][]byte, from byte) {
	if len(queue) == 0 {
		c.ack()
		return
	}
	c.unheard, c.from = queue[0], from
	c.data(queue[0])
}

func (c *Cash) heard() {
	if c.from == 0x08 {
		c.coin = c.coin[1:]
	} else {
		c.bill = c.bill[1:]
	}
	c.unheard = nil
}

func (c *Cash) changer(data []byte) {
	switch data[0] {
	case 0x08:
		c.coin, c.unheard, c.seen.Accepting, c.types = [][]byte{{0x0B}}, nil, false, 0
		c.seen.Resets++
		c.ack()
	case 0x09:
		b := []byte{0x02, 0x19, 0x78, 0x05, 0x02, 0xFF, 0xFF}
		if c.cfg.Level3 {
			b[0] = 0x03
		}
		for i, n := range c.seen.Tubes {
			if n < 0 {
				b[6-i/8] &^= 1 << (i % 8)
			}
		}
		for i := range 16 {
			v := 0
			if i < len(c.cfg.Coins) {
				v = c.cfg.Coins[i]
			}
			b = append(b, byte(v))
		}
		c.data(b)
	case 0x0A:
		b := []byte{0, 0}
		for i := range 16 {
			n := 0
			if i < len(c.seen.Tubes) {
				n = max(c.seen.Tubes[i], 0)
			}
			b = append(b, byte(n))
		}
		c.data(b)
	case 0x0B:
		if c.unheard == nil && time.Now().Before(c.busy) {
			if c.fault == CashResetInPay {
				c.fault, c.busy = CashOK, time.Time{}
				c.coin, c.seen.Accepting, c.types = append([][]byte{{0x0B}}, c.coin...), false, 0
				c.seen.Resets++
				c.report(c.coin, 0x08)
				return
			}
			c.data([]byte{0x02})
			return
		}
		if c.fault == CashJam {
			c.data([]byte{0x0C})
			return
		}
		if len(c.coin) == 0 {
			c.seen.Idle++
		}
		c.report(c.coin, 0x08)
	case 0x0C:
		c.types = int(data[1])<<8 | int(data[2])
		c.seen.Accepting = c.types != 0
		c.ack()
	case 0x0F:
		c.expansion(data)
	case 0x0D:
		c.dispense(int(data[1]&15), int(data[1]>>4))
	default:
		c.ack()
	}
}

func (c *Cash) dispense(kind, n int) {
	mute := c.fault == CashMute
	switch c.fault {
	case CashShort:
		n--
		c.fault = CashOK
	case CashStuck:
		n = 0
	case CashMute:
		c.fault = CashOK
	default:
	}
	if kind < len(c.seen.Tubes) {
		n = min(n, max(c.seen.Tubes[kind], 0))
		c.seen.Tubes[kind] -= n
		c.seen.Out += int64(n) * int64(c.cfg.Coins[kind]) * 5
	}
	c.busy = time.Now().Add(30 * time.Millisecond)
	if !mute {
		c.ack()
	}
}

// expansion is what a changer of level 3 understands.
func (c *Cash) expansion(data []byte) {
	switch data[1] {
	case 0x00:
		b := make([]byte, 33)
		copy(b, "VIR000000000001Changer 3   ")
		b[32] = 1
		c.data(b)
	case 0x02:
		c.payout(int(data[2]))
	case 0x03:
		if time.Now().Before(c.busy) {
			c.ack()
			return
		}
		c.data(c.gave)
	case 0x04:
		if !time.Now().Before(c.busy) {
			c.ack()
			return
		}
		if c.fault == CashResetInPay {
			c.fault, c.busy = CashOK, time.Time{}
			c.coin, c.seen.Accepting, c.types = append([][]byte{{0x0B}}, c.coin...), false, 0
			c.seen.Resets++
		}
		c.data([]byte{0})
	default:
		c.ack()
	}
}

// payout gives units, the largest coins first.
func (c *Cash) payout(units int) {
	mute, less := c.fault == CashMute, 0
	switch c.fault {
	case CashShort:
		less, c.fault = 1, CashOK
	case CashStuck:
		units = 0
	case CashMute:
		c.fault = CashOK
	default:
	}
	c.gave = make([]byte, 16)
	for kind := len(c.cfg.Coins) - 1; kind >= 0; kind-- {
		n := min(units/c.cfg.Coins[kind], max(c.seen.Tubes[kind], 0))
		units -= n * c.cfg.Coins[kind]
		if n > 0 && less > 0 {
			n, less = n-less, 0
		}
		c.seen.Tubes[kind] -= max(n, 0)
		c.seen.Out += int64(n) * int64(c.cfg.Coins[kind]) * 5
		c.gave[kind] = byte(n)
	}
	c.busy = time.Now().Add(60 * time.Millisecond)
	if !mute {
		c.ack()
	}
}

func (c *Cash) validator(data []byte) {
	switch data[0] {
	case 0x30:
		c.bill, c.unheard, c.seen.Bills = [][]byte{{0x06}}, nil, false
		c.giveBack()
		c.ack()
	case 0x31:
		b := []byte{0x02, 0x19, 0x78, 0x00, 0x64, 0x02, 0x01, 0x00, 0x00, 0x00, 0xFF}
		for i := range 16 {
			v := 0
			if i < len(c.cfg.Bills) {
				v = c.cfg.Bills[i]
			}
			b = append(b, byte(v))
		}
		c.data(b)
	case 0x33:
		if c.fault == CashBillJam {
			c.data([]byte{0x05})
			return
		}
		if len(c.bill) == 0 && !c.seen.Bills {
			c.data([]byte{0x09})
			return
		}
		c.report(c.bill, 0x30)
	case 0x34:
		c.seen.Bills = data[1] != 0 || data[2] != 0
		c.ack()
	case 0x35:
		c.ack()
		if c.seen.Escrow < 0 {
			c.bill = append(c.bill, []byte{0x0A})
			return
		}
		if data[1] == 0 {
			c.giveBack()
			return
		}
		k := c.seen.Escrow
		c.seen.Escrow = -1
		c.seen.Stacked[k]++
		c.seen.In += int64(c.cfg.Bills[k]) * 100
		c.bill = append(c.bill, []byte{0x80 | byte(k)})
	default:
		c.ack()
	}
}

func (c *Cash) giveBack() {
	if k := c.seen.Escrow; k >= 0 {
		c.seen.Escrow = -1
		c.seen.Returned++
		c.bill = append(c.bill, []byte{0xA0 | byte(k)})
	}
}
