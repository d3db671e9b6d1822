package virtual

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"coinop/protocol"
	"coinop/protocol/money"
)

// TillFault is what a machine does wrong with the next cash sale.
type TillFault uint8

// Faults of a till; each works once.
const (
	TillOK    TillFault = iota
	TillSteal           // the money is kept: nothing falls, nothing is given back, nothing is told
	TillSkip            // it sells, and counts, but does not tell by CASH SALE
	TillTwice           // it tells twice
	TillCard            // a sale that was not for cash is not counted
)

// ErrNoTill means that a machine takes no cash.
var ErrNoTill = errors.New("the machine has no till")

// Till is the cash a machine owns: what buyers put in, what it gives back, its counters, and the file it
// makes of them for its audit port. It writes EVA-DTS by itself.
type Till struct {
	mu       sync.Mutex
	serial   string
	board    int
	currency money.Currency
	prices   map[protocol.Outlet]int64
	sold     map[protocol.Outlet][2]int64 // value, count
	order    []protocol.Outlet
	sales    [2]int64
	cards    [2]int64
	in, out  int64
	box      int64 // what lies in it
	took     int64 // in its life, whatever board counted it
	gave     int64
	fault    TillFault
	drops    int
}

// NewTill is a machine's till; its counters begin at some value, as those of a used machine do.
func NewTill(serial string, c money.Currency, products []Product) *Till {
	t := &Till{serial: serial, board: 1, currency: c, prices: map[protocol.Outlet]int64{}}
	for _, p := range products {
		t.prices[p.Outlet] = p.Price.Minor
		t.order = append(t.order, p.Outlet)
	}
	t.begin(10_000)
	return t
}

func (t *Till) begin(at int64) {
	t.sold = map[protocol.Outlet][2]int64{}
	t.sales, t.cards, t.in, t.out = [2]int64{at, at / 100}, [2]int64{}, at, 0
}

// Misbehave sets what goes wrong with the next sale.
func (t *Till) Misbehave(f TillFault) { t.mu.Lock(); defer t.mu.Unlock(); t.fault = f }

// Swap exchanges the controller's board: its counters begin anew.
func (t *Till) Swap() { t.mu.Lock(); defer t.mu.Unlock(); t.board++; t.begin(0) }

// Empty takes what lies in the box out.
func (t *Till) Empty() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.box
	t.box = 0
	return n
}

// Moved is what buyers put in and what came back, in minor units, since the machine was set up: coins do not
// care about boards, or about what was counted or told.
func (t *Till) Moved() (in, out int64) { t.mu.Lock(); defer t.mu.Unlock(); return t.took, t.gave }

// Drops is how many items fell for cash.
func (t *Till) Drops() int { t.mu.Lock(); defer t.mu.Unlock(); return t.drops }

// sell takes the coins of a buyer, and says how often the sale is told.
func (t *Till) sell(o protocol.Outlet, paid int64) (price int64, told int, err error) {
	if t == nil {
		return 0, 0, ErrNoTill
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	price, ok := t.prices[o]
	if !ok {
		return 0, 0, ErrNoProduct
	}
	if paid < price {
		return 0, 0, fmt.Errorf("%d is less than the price, %d", paid, price)
	}
	f := t.fault
	t.fault = TillOK
	t.in += paid
	t.box += paid
	t.took += paid
	if f == TillSteal {
		return price, 0, nil
	}
	t.out += paid - price // from the tubes
	t.gave += paid - price
	t.sales[0], t.sales[1] = t.sales[0]+price, t.sales[1]+1
	s := t.sold[o]
	t.sold[o] = [2]int64{s[0] + price, s[1] + 1}
	t.drops++
	return price, map[TillFault]int{TillOK: 1, TillSkip: 0, TillTwice: 2}[f], nil
}

// cashless counts a sale that was not for cash.
func (t *Till) cashless(o protocol.Outlet, price int64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault == TillCard {
		t.fault = TillOK
		return
	}
	t.cards[0], t.cards[1] = t.cards[0]+price, t.cards[1]+1
	s := t.sold[o]
	t.sold[o] = [2]int64{s[0] + price, s[1] + 1}
}

// File is what the audit port gives now.
func (t *Till) File() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	n := 0
	line := func(format string, args ...any) {
		n++
		fmt.Fprintf(&b, format+"\r\n", args...)
	}
	line("ST*001*0001")
	line("ID1*%s*VIRTUAL*0100", t.serial)
	line("ID4*%d*%d*%s", t.currency.Exponent(), uint16(t.currency), t.currency)
	line("CB1*BOARD%04d*VIRTUAL*0100", t.board)
	line("VA1*%d*%d", t.sales[0]+t.cards[0], t.sales[1]+t.cards[1])
	line("CA2*%d*%d", t.sales[0], t.sales[1])
	line("CA3*0*0*0*0*%d*%d*0*0", t.in, t.in)
	line("CA4*0*0*%d*0", t.out)
	line("DA2*%d*%d", t.cards[0], t.cards[1])
	for _, o := range t.order {
		line("PA1*%d*%d", o, t.prices[o])
		line("PA2*%d*%d", t.sold[o][1], t.sold[o][0])
	}
	sum := uint16(0)
	for _, c := range []byte(b.String()) {
		sum ^= uint16(c)
		for range 8 {
			if low := sum & 1; low != 0 {
				sum = sum>>1 ^ 0xA001
			} else {
				sum >>= 1
			}
		}
	}
	fmt.Fprintf(&b, "G85*%04X\r\nSE*%d*0001\r\nDXE*1*1\r\n", sum, n+2)
	return []byte("DXS*VIRTUAL001*VA*V0/6*1\r\n" + b.String())
}

// Pay is a buyer who puts coins in, minor units of them, and presses a button: the machine sells for
// cash, and tells its cashless device so.
func (c *Controller) Pay(o protocol.Outlet, paid int64) error {
	price, told, err := c.cfg.Till.sell(o, paid)
	if err != nil {
		return err
	}
	return c.do(func() error {
		for range told {
			b := []byte{0x13, 0x05}
			if c.long() {
				b = append(b, byte(price>>24), byte(price>>16))
			}
			b = append(b, byte(price>>8), byte(price), byte(o>>8), byte(o))
			if c.long() {
				b = append(b, c.currency()...)
			}
			c.todo = append(c.todo, b)
		}
		return nil
	})
}
