package virtual

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
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

// terminalLine is one connection.
type terminalLine struct {
	t       *Terminal
	c       net.Conn
	ctx     context.Context //nolint:containedctx // of one connection
	in      chan []byte     // messages, whole
	done    chan struct{}
	dribble bool
	join    bool
	talk    bool
	joined  []byte
}

var errLine = errors.New("the line is gone")

func (s *terminalLine) serve() {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(s.in)
		r := bufio.NewReader(s.c)
		for {
			m, err := readTerminal(r)
			if err != nil {
				return
			}
			select {
			case s.in <- m:
			case <-s.done:
				return
			}
		}
	})
	for {
		m, ok := <-s.in
		if !ok || s.command(m) != nil {
			break
		}
		s.dribble, s.join, s.talk = false, false, false
	}
	close(s.done)
	_ = s.c.Close()
	wg.Wait()
}

// readTerminal reads one message: two bytes, a length, so many bytes.
func readTerminal(r io.Reader) ([]byte, error) {
	head := make([]byte, 3)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := int(head[2])
	if n == 255 {
		more := make([]byte, 2)
		if _, err := io.ReadFull(r, more); err != nil {
			return nil, err
		}
		n = int(more[1])*256 + int(more[0])
	}
	data := make([]byte, n)
	_, err := io.ReadFull(r, data)
	return append(head[:2], data...), err
}

// frame puts the length in.
func (s *terminalLine) frame(m []byte) []byte {
	n := len(m) - 2
	out := []byte{m[0], m[1], byte(n)}
	if n >= 255 || s.talk {
		out = []byte{m[0], m[1], 255, byte(n % 256), byte(n / 256)}
	}
	return append(out, m[2:]...)
}

func (s *terminalLine) write(m ...byte) error {
	b := append(s.joined, s.frame(m)...)
	s.joined = nil
	if !s.dribble {
		_, err := s.c.Write(b)
		return err
	}
	for i := range b {
		if _, err := s.c.Write(b[i : i+1]); err != nil {
			return err
		}
		time.Sleep(200 * time.Microsecond) // so that they come apart
	}
	return nil
}

// ok answers a command. With join it waits for what comes behind it.
func (s *terminalLine) ok() error {
	if s.join {
		s.joined = append(s.joined, 0x80, 0, 0)
		return nil
	}
	return s.write(0x80, 0)
}

// say sends a message and waits for its acknowledgment.
func (s *terminalLine) say(m ...byte) ([]byte, error) {
	if err := s.write(m...); err != nil {
		return nil, err
	}
	for {
		select {
		case a, ok := <-s.in:
			switch {
			case !ok:
				return nil, errLine
			case a[0] == 0x06 && a[1] == 0xB0: // it is past that
				if err := s.write(0x84, 0x83); err != nil {
					return nil, err
				}
				continue
			case a[0] != 0x80 && a[0] != 0x84:
				return nil, fmt.Errorf("%w: % X is no acknowledgment", errLine, a)
			}
			return a, nil
		case <-time.After(5 * time.Second):
			return nil, errLine
		case <-s.ctx.Done():
			return nil, errLine
		}
	}
}

func (s *terminalLine) all(ms ...[]byte) error {
	for _, m := range ms {
		if _, err := s.say(m...); err != nil {
			return err
		}
	}
	return nil
}

var completed = []byte{0x06, 0x0F}

func refused(code byte) []byte { return []byte{0x06, 0x1E, code} }

func bcdOf(n int64, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[size-1-i] = byte(n%10) + byte(n/10%10)<<4
		n /= 100
	}
	return b
}

func ofBCD(b []byte) (n int64) {
	for _, c := range b {
		n = n*100 + int64(c>>4)*10 + int64(c&15)
	}
	return n
}

// terminalAsk is what a command asks for.
type terminalAsk struct {
	amount  int64
	receipt int
	ref     string
	money   int64
}

// readAsk reads the bitmaps a register sends; what it never sends is not known here.
func readAsk(b []byte) (a terminalAsk, err error) {
	for len(b) > 0 {
		n := 0
		switch b[0] {
		case 0x04:
			n = 6
		case 0x0B:
			n = 3
		case 0x87, 0x49:
			n = 2
		case 0x19, 0x03:
			n = 1
		case 0x3B:
			n = 8
		case 0x06:
			if len(b) < 2 || b[1] > 127 {
				return a, errLine
			}
			n = 1 + int(b[1])
		}
		if n == 0 || len(b) < 1+n {
			return a, fmt.Errorf("%w: % X", errLine, b)
		}
		v := b[1 : 1+n]
		switch b[0] {
		case 0x04:
			a.amount = ofBCD(v)
		case 0x49:
			a.money = ofBCD(v)
		case 0x87:
			if a.receipt = int(ofBCD(v)); v[0] == 255 {
				a.receipt = -1
			}
		case 0x06:
			if len(v) > 9 && v[1] == 0xE9 { // 1F62 02 xx 1F63 n text
				a.ref = string(v[11:])
			}
		}
		b = b[1+n:]
	}
	return a, nil
}

// command carries one out; an error drops the line.
func (s *terminalLine) command(m []byte) error {
	t := s.t
	if f, ok := t.takes(TerminalSilent, TerminalGarbage, TerminalDribbles, TerminalJoins, TerminalTalks); ok {
		switch f {
		case TerminalSilent:
			return nil
		case TerminalGarbage:
			_, _ = s.c.Write([]byte("\xAA\x55HTTP/1.1 400"))
			return nil
		case TerminalDribbles:
			s.dribble = true
		case TerminalJoins:
			s.join = true
		default:
			s.talk = true
		}
	}
	body := m[2:]
	switch [2]byte{m[0], m[1]} {
	case [2]byte{0x06, 0x00}:
		return s.registration(body)
	case [2]byte{0x05, 0x01}:
		return s.enquiry()
	case [2]byte{0x06, 0x93}, [2]byte{0x06, 0x70}:
		if err := s.ok(); err != nil {
			return err
		}
		return s.all(completed)
	case [2]byte{0x06, 0x01}:
		return s.payment("purchase", body)
	case [2]byte{0x06, 0x22}:
		return s.payment("hold", body)
	case [2]byte{0x06, 0x23}:
		return s.holds()
	case [2]byte{0x06, 0x24}:
		return s.undo("booked", body)
	case [2]byte{0x06, 0x25}:
		return s.undo("release", body)
	case [2]byte{0x06, 0x30}:
		return s.undo("reversal", body[min(3, len(body)):])
	case [2]byte{0x06, 0x31}:
		return s.refund(body[min(3, len(body)):])
	case [2]byte{0x06, 0x20}:
		return s.repeat()
	case [2]byte{0x06, 0x50}:
		return s.endDay()
	case [2]byte{0x06, 0xB0}:
		if err := s.ok(); err != nil { // nothing to end
			return err
		}
		return nil
	}
	if m[0] == 0x80 || m[0] == 0x84 {
		return nil
	}
	return s.write(0x84, 0x83)
}

func (s *terminalLine) registration(b []byte) error {
	if _, no := s.t.takes(TerminalWrongPassword); no || len(b) < 6 || b[0] != 0 || b[1] != 0 || b[2] != 0 {
		return s.write(0x84, 0x83)
	}
	if err := s.ok(); err != nil {
		return err
	}
	status := byte(0x10)
	if _, help := s.t.takes(TerminalWantsHelp); help {
		status |= 1
	}
	done := append(append([]byte{0x06, 0x0F, 0x19, status, 0x29}, bcdOf(ofDigits(s.t.cfg.ID), 4)...), 0x49, 0x09, 0x78)
	return s.all(done)
}

func ofDigits(s string) (n int64) {
	for _, c := range s {
		n = n*10 + int64(c-'0')
	}
	return n
}

func (s *terminalLine) enquiry() error {
	t := s.t
	t.mu.Lock()
	status := byte(0)
	if t.due {
		status = 0xF0
	}
	if t.deaf > 0 {
		t.deaf--
		status = 0x9C
	}
	t.seen.Enquired++
	t.tell()
	t.mu.Unlock()
	if err := s.ok(); err != nil {
		return err
	}
	return s.all(append(completed[:2:2], status))
}

// book puts a transaction down. mu is held, or nobody else is there yet.
func (t *Terminal) book(x TerminalTx) TerminalTx {
	if t.last++; t.last > 9999 {
		t.last = 1
	}
	x.Receipt = t.last
	t.seen.Books = append(t.seen.Books, x)
	t.tell()
	return x
}

// told is a transaction as a result; traces are counted with the receipts here.
func (t *Terminal) told(x TerminalTx) []byte {
	out := append([]byte{0x04, 0x0F, 0x27, x.Result, 0x04}, bcdOf(x.Amount, 6)...)
	out = append(append(out, 0x0B), bcdOf(int64(x.Receipt)+100, 3)...)
	out = append(out, 0x0C, 0x22, 0x39, 0x53, 0x0D, 0x10, 0x06, 0x0E, 0x25, 0x12)
	out = append(out, 0x22, 0xF0, 0xF8, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0x47, 0x71, 0x29)
	out = append(out, bcdOf(ofDigits(t.cfg.ID), 4)...)
	out = append(out, []byte{0x3B, '6', '1', '1', '8', '0', '4', 0, 0, 0x49, 0x09, 0x78, 0x87}...)
	out = append(out, bcdOf(int64(x.Receipt), 2)...)
	if x.Kind == "reversal" {
		out = append(append(out, 0x37), bcdOf(int64(x.Of)+100, 3)...)
	}
	return append(out, 0x8A, 0x06, 0x8B, 0xF1, 0xF1, 'M', 'a', 's', 't', 'e', 'r', 'C', 'a', 'r', 'd', 0)
}

// payment is 06 01 and 06 22.
func (s *terminalLine) payment(kind string, body []byte) error {
	t := s.t
	ask, err := readAsk(body)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.seen.Asked++
	due := t.due
	t.tell()
	t.mu.Unlock()
	f, _ := t.takes(TerminalDeclines, TerminalNoCard, TerminalDropsFirst, TerminalDropsMidFrame, TerminalDiesApproved,
		TerminalLosesCompletion, TerminalDropsCompletion, TerminalNoResult, TerminalRepeats, TerminalWrongAmount, TerminalOtherMoney, TerminalContradicts)
	if f == TerminalDropsFirst {
		return errLine
	}
	if err := s.ok(); err != nil {
		return err
	}
	switch {
	case due:
		return s.all(refused(0xF0))
	case ask.money != 978:
		return s.all(refused(0x6F))
	}
	if s.talk {
		if err := s.talks(); err != nil {
			return err
		}
	}
	insert := []byte{0x04, 0xFF, 0x0A}
	if s.talk { // a text, to be shown
		insert = append(insert, 0x06, 0x0B, 0x24, 0x09, 0x07, 0x07, 'B', 'i', 't', 't', 'e', ' ', 0x84)
	}
	if err := s.all(insert); err != nil {
		return err
	}
	if t.cfg.Waits {
		how, err := s.waits()
		if err != nil || how == TerminalSilent {
			return err
		}
		f = how
	}
	switch f {
	case TerminalDeclines:
		return s.all([]byte{0x04, 0x0F, 0x27, 0x05}, refused(0x05))
	case TerminalNoCard:
		return s.all([]byte{0x04, 0x0F, 0x27, 0x6C}, refused(0x6C))
	}
	if err := s.all([]byte{0x04, 0xFF, 0x04}); err != nil {
		return err
	}
	return s.approves(kind, ask, f)
}

// talks is what no register asked for.
func (s *terminalLine) talks() error {
	for _, m := range [][]byte{
		{0x0F, 0x77},
		{0x04, 0xFF, 0x17, 0x05, 0x06, 0x0B, 0x24, 0x09, 0x07, 0x07, 'B', 'i', 't', 't', 'e', ' ', 0x84},
		{0x06, 0xD1, 0x40, 'B', 'e', 'l', 'e', 'g'},
	} {
		if _, err := s.say(m...); err != nil {
			return err
		}
	}
	return nil
}

// waits is a terminal that waits for a card: Silent is that it was aborted.
func (s *terminalLine) waits() (TerminalFault, error) {
	t := s.t
	set := func(on bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.seen.Waiting = on
		t.tell()
	}
	select {
	case <-t.card: // of a buyer before
	default:
	}
	set(true)
	defer set(false)
	for {
		select {
		case how := <-t.card:
			return how, nil
		case m, ok := <-s.in:
			switch {
			case !ok:
				return TerminalSilent, errLine
			case m[0] != 0x06 || m[1] != 0xB0:
				return TerminalSilent, fmt.Errorf("%w: % X in mid payment", errLine, m)
			}
			set(false)
			if _, wins := t.takes(TerminalWinsAbort); wins {
				return TerminalFine, s.write(0x84, 0x83)
			}
			if err := s.write(0x80, 0); err != nil {
				return TerminalSilent, err
			}
			return TerminalSilent, s.all([]byte{0x04, 0x0F, 0x27, 0x6C}, refused(0x6C))
		case <-s.ctx.Done():
			return TerminalSilent, errLine
		}
	}
}

// approves puts the payment down, and says so.
func (s *terminalLine) approves(kind string, ask terminalAsk, f TerminalFault) error {
	t := s.t
	if f == TerminalWrongAmount {
		ask.amount++
	}
	t.mu.Lock()
	x := t.book(TerminalTx{Kind: kind, Amount: ask.amount, Standing: ask.amount, Ref: ask.ref})
	t.mu.Unlock()
	m := t.told(x)
	if s.talk { // an unknown tag in a container nobody asked for
		m = append(m, 0x06, 0x09, 0x1F, 0x7A, 0x01, 0x42, 0x43, 0x03, 0xA0, 0x00, 0x00)
	}
	switch f {
	case TerminalDiesApproved:
		return errLine
	case TerminalDropsMidFrame:
		b := s.frame(m)
		_, _ = s.c.Write(b[:len(b)/2])
		return errLine
	case TerminalOtherMoney:
		for i := range m {
			if i+2 < len(m) && m[i] == 0x49 && m[i+1] == 0x09 && m[i+2] == 0x78 {
				m[i+1], m[i+2] = 0x07, 0x56
			}
		}
	case TerminalNoResult:
		return s.all(completed)
	}
	if _, err := s.say(m...); err != nil {
		if t.cfg.LoseUnread {
			t.mu.Lock()
			t.seen.Books[len(t.seen.Books)-1].Standing = 0
			t.seen.Books[len(t.seen.Books)-1].Result = 0x6C
			t.tell()
			t.mu.Unlock()
		}
		return err
	}
	switch f {
	case TerminalRepeats:
		return s.all(m, completed)
	case TerminalLosesCompletion:
		return nil
	case TerminalDropsCompletion:
		return errLine
	case TerminalContradicts:
		return s.all(refused(0x6C))
	}
	return s.all(completed)
}

// holds is 06 23 FF FF: the first hold that nothing has ended.
func (s *terminalLine) holds() error {
	t := s.t
	t.mu.Lock()
	list := []byte{0x87, 0xFF, 0xFF}
	for _, x := range t.seen.Books {
		if x.Kind == "hold" && x.Standing > 0 {
			list = append([]byte{0x87}, bcdOf(int64(x.Receipt), 2)...)
			break
		}
	}
	t.mu.Unlock()
	if err := s.ok(); err != nil {
		return err
	}
	return s.all(append(refused(0xB8), list...))
}

// undo ends a transaction: 06 24, 06 25, 06 30.
func (s *terminalLine) undo(kind string, body []byte) error {
	ask, err := readAsk(body)
	if err != nil {
		return err
	}
	if err := s.ok(); err != nil {
		return err
	}
	if _, no := s.t.takes(TerminalWontReverse); no {
		return s.all(refused(0xB5))
	}
	x, code := s.t.undone(kind, ask)
	if code != 0 {
		return s.all(refused(code))
	}
	if _, drop := s.t.takes(TerminalDropsReversal); drop {
		return errLine
	}
	return s.all([]byte{0x04, 0xFF, 0x05}, s.t.told(x), completed)
}

func (t *Terminal) undone(kind string, ask terminalAsk) (x TerminalTx, code byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	want := "hold"
	code = 0xB8
	if kind == "reversal" {
		want, code = "purchase", 0xB5
	}
	for i := t.day; i < len(t.seen.Books); i++ {
		b := &t.seen.Books[i]
		switch {
		case b.Kind != want || b.Receipt != ask.receipt || b.Result != 0:
		case kind == "reversal" && b.Amount != ask.amount, kind == "booked" && ask.amount > b.Amount:
			return x, 0xB7
		case b.Standing == 0 && kind == "reversal":
			return x, 0xB4
		case b.Standing == 0:
			return x, 0xB8
		default:
			amount, standing := b.Standing, int64(0)
			if kind == "booked" {
				amount, standing = ask.amount, ask.amount
			}
			b.Standing = 0
			return t.book(TerminalTx{Kind: kind, Of: ask.receipt, Amount: amount, Standing: standing}), 0
		}
	}
	return x, code
}

func (s *terminalLine) refund(body []byte) error {
	ask, err := readAsk(body)
	if err != nil {
		return err
	}
	if err := s.ok(); err != nil {
		return err
	}
	if _, no := s.t.takes(TerminalDeclines); no {
		return s.all(refused(0x05))
	}
	s.t.mu.Lock()
	x := s.t.book(TerminalTx{Kind: "refund", Amount: ask.amount, Standing: -ask.amount})
	s.t.mu.Unlock()
	return s.all([]byte{0x04, 0xFF, 0x0A}, s.t.told(x), completed)
}

// repeat is 06 20: the last transaction.
func (s *terminalLine) repeat() error {
	t := s.t
	t.mu.Lock()
	var x *TerminalTx
	if n := len(t.seen.Books); n > 0 {
		x = &t.seen.Books[n-1]
	}
	t.mu.Unlock()
	if err := s.ok(); err != nil {
		return err
	}
	if x == nil {
		return s.all(refused(0x65))
	}
	return s.all(t.told(*x), completed)
}

// endDay is 06 50. Everything still held is charged in full, as some terminals do.
func (s *terminalLine) endDay() error {
	t := s.t
	t.mu.Lock()
	count, sum := 0, int64(0)
	for _, x := range t.seen.Books[t.day:] {
		if x.Standing != 0 {
			count++
			sum += x.Standing
		}
	}
	t.day = len(t.seen.Books)
	t.due = false
	t.seen.Days++
	t.tell()
	t.mu.Unlock()
	if err := s.ok(); err != nil {
		return err
	}
	m := append([]byte{0x04, 0x0F, 0x27, 0x00, 0x04}, bcdOf(sum, 6)...)
	m = append(m, 0x0B, 0x00, 0x09, 0x82, 0x60, 0xF0, 0xF5, 0xF3, 0x00, 0x01, 0x99, 0x99)
	for i := range 7 {
		if i == 2 {
			m = append(append(m, byte(count)), bcdOf(sum, 6)...)
		} else {
			m = append(m, 0, 0, 0, 0, 0, 0, 0)
		}
	}
	return s.all(m, completed)
}
