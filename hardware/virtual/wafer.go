package virtual

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// WaferMachine is a vending machine controller with a Waferstar RS232-MDB at its bus: that one is the
// cashless device, answers RESET, POLL and SETUP, passes the other commands on, and gives what it was told
// at a POLL. Its cable to the agent is the one that can be unplugged; it lives on, and so does the controller.
type WaferMachine struct {
	*Controller
	port *port // to the agent

	mu     sync.Mutex
	bus    *os.File
	in     []byte   // of the controller, not unmarked yet
	block  []byte   // of a command to us
	ours   bool     // it is
	wide   bool     // 32 bit money was enabled
	just   bool     // JUST RESET is to be said
	said   byte     // what a POLL was answered by last: an ACK is its; 0: nothing
	queue  [][]byte // of the host's, with their sums
	config []byte
	host   []byte // bytes of a message that may not be whole
	pause  *time.Timer
	noise  bool
}

// adapterWait is how long the controller waits for the adapter, which always answers: an answer that is given up
// and comes all the same would be taken for the next one.
const adapterWait = 5 * time.Second

// NewWaferMachine opens the ptys and the book of drops; it starts nothing. cfg.Link is the agent's side.
func NewWaferMachine(cfg ControllerConfig) (*WaferMachine, error) {
	p, err := newPort(cfg.Link)
	if err != nil {
		return nil, err
	}
	cfg.Link = ""
	c, err := NewController(cfg)
	w := &WaferMachine{Controller: c, port: p, config: []byte{0x01, 0x01, 0x09, 0x72, 0x0A, 0x02, 0x07, 0x0D}} // as delivered
	if err == nil {
		c.cable, c.wait = p, adapterWait
	}
	return w, err
}

// Path is the tty the agent opens: the link where there is one.
func (w *WaferMachine) Path() string { return w.port.name() }

// Unplug takes the cable between adapter and agent out, Replug puts it in again.
func (w *WaferMachine) Unplug() error { return w.do(func() error { w.port.unplug(); return nil }) }

// Replug puts the cable in again; the tty is a new one, the link points to it.
func (w *WaferMachine) Replug() error { return w.do(w.port.replug) }

// Misbehave sets what goes wrong with the next vend.
func (w *WaferMachine) Misbehave(f Fault) error {
	w.mu.Lock()
	w.noise = f == FaultGarbage
	w.mu.Unlock()
	return w.Controller.Misbehave(f)
}

// PowerCut is machine and adapter without power for a moment.
func (w *WaferMachine) PowerCut() error {
	w.mu.Lock()
	w.queue, w.host, w.just, w.wide, w.said = nil, nil, false, false, 0
	config := w.config
	w.mu.Unlock()
	_ = w.port.write([]byte("\x02CN0999-VIRTUAL\x03"))
	w.pass(withSum(config))
	return w.Controller.PowerCut()
}

// Run is their life; it ends with ctx, unplugged.
func (w *WaferMachine) Run(ctx context.Context) error {
	blocking, err := os.OpenFile(w.Controller.Path(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if w.bus, err = pollable(blocking); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 256)
		for {
			n, err := w.bus.Read(buf)
			w.words(buf[:n])
			if err != nil {
				return
			}
		}
	})
	wg.Go(func() { _ = w.port.read(ctx, w.hostSays) })
	err = w.Controller.Run(ctx)
	_ = w.bus.Close()
	wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pause != nil {
		w.pause.Stop()
	}
	return err
}

func withSum(b []byte) []byte {
	sum := byte(0)
	for _, x := range b {
		sum += x
	}
	return append(append([]byte(nil), b...), sum)
}

// pass is what the agent hears. mu is not held.
func (w *WaferMachine) pass(b []byte) {
	w.mu.Lock()
	noise := w.noise
	w.mu.Unlock()
	if noise {
		_ = w.port.write([]byte("\x00\xff\x02130\x0213ZZ\x03\xfe"))
	}
	_ = w.port.write(fmt.Appendf(nil, "\x02%X\x03", b))
}

// words takes the controller's line apart: FF 00 byte begins a block.
func (w *WaferMachine) words(b []byte) {
	w.in = append(w.in, b...)
	for len(w.in) > 0 {
		c, n, first := w.in[0], 1, false
		if c == 0xFF {
			switch {
			case len(w.in) < 2:
				return
			case w.in[1] == 0xFF:
				n = 2
			case len(w.in) < 3:
				return
			default:
				c, n, first = w.in[2], 3, true
			}
		}
		w.in = w.in[n:]
		w.word(c, first)
	}
}

// waferBlock is how many bytes a command has, its sum included; 0: more are needed to know.
func waferBlock(b []byte, wide bool) int {
	more := 0
	if wide {
		more = 2
	}
	switch b[0] & 7 {
	case 0, 2:
		return 2
	}
	if len(b) < 2 {
		return 0
	}
	switch [2]byte{b[0] & 7, b[1]} {
	case [2]byte{1, 0}:
		return 7
	case [2]byte{1, 1}:
		return 7 + 3*more
	case [2]byte{3, 0}:
		return 7 + more
	case [2]byte{3, 2}:
		return 5
	case [2]byte{3, 5}:
		return 7 + 2*more
	case [2]byte{4, 3}:
		return 11
	case [2]byte{5, 0}:
		return 5 + more
	case [2]byte{7, 0}:
		return 32
	case [2]byte{7, 4}:
		return 7
	}
	return 3
}

func (w *WaferMachine) word(c byte, first bool) {
	switch {
	case first:
		w.block, w.ours = []byte{c}, c&0xF8 == 0x10
	case w.block == nil:
		w.mu.Lock()
		passed := w.said != 0 && c == 0x00
		if passed {
			if w.said == 1 {
				w.just = false
			} else if len(w.queue) > 0 {
				w.queue = w.queue[1:]
			}
		}
		w.said = 0
		w.mu.Unlock()
		if passed { // as some of them do
			w.pass([]byte{0x00})
		}
		return
	default:
		w.block = append(w.block, c)
	}
	if n := waferBlock(w.block, w.wide); !w.ours || n == 0 || len(w.block) < n {
		return
	}
	b := w.block
	w.block = nil
	sum := byte(0)
	for _, x := range b[:len(b)-1] {
		sum += x
	}
	if sum != b[len(b)-1] {
		w.answer(0x1FF)
		return
	}
	w.command(b)
}

// answer says words at the bus.
func (w *WaferMachine) answer(words ...uint16) {
	var out []byte
	for _, x := range words {
		switch {
		case x&0x100 != 0:
			out = append(out, 0xFF, 0x00, byte(x))
		case x == 0xFF:
			out = append(out, 0xFF, 0xFF)
		default:
			out = append(out, byte(x))
		}
	}
	_, _ = w.bus.Write(out)
}

func (w *WaferMachine) answerBlock(b []byte) {
	words := make([]uint16, len(b))
	for i, x := range b {
		words[i] = uint16(x)
	}
	words[len(b)-1] |= 0x100
	w.answer(words...)
}

func (w *WaferMachine) command(b []byte) {
	w.mu.Lock()
	w.said = 0
	var say []byte
	switch {
	case b[0] == 0x10:
		w.just, w.wide, w.queue = true, false, nil
	case b[0] == 0x12 && w.just:
		say, w.said = []byte{0x00, 0x00}, 1
	case b[0] == 0x12 && len(w.queue) > 0:
		say, w.said = w.queue[0], 2
	case b[0] == 0x11 && b[1] == 0x00:
		say = withSum(w.config)
	case b[0] == 0x17 && b[1] == 0x04:
		w.wide = b[5]&0x06 != 0
	}
	w.mu.Unlock()
	if say != nil {
		w.answerBlock(say)
	} else {
		w.answer(0x100)
	}
	if b[0] != 0x10 && b[0] != 0x12 {
		w.pass(b)
	}
}

// hostSays collects what comes without a pause: that is a message.
func (w *WaferMachine) hostSays(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.host = append(w.host, b...)
	if w.pause != nil {
		w.pause.Stop()
	}
	w.pause = time.AfterFunc(8*time.Millisecond, w.message)
}

// message is one of the host's: with its sum it is for the controller, or the configuration; without, its sum
// is what it wants to hear.
func (w *WaferMachine) message() {
	w.mu.Lock()
	b := w.host
	w.host = nil
	sum := byte(0)
	for _, x := range b[:max(0, len(b)-1)] {
		sum += x
	}
	switch {
	case len(b) < 2:
		b = nil
	case sum != b[len(b)-1]:
		b = []byte{sum + b[len(b)-1]}
	case b[0] == 0x01:
		w.config, b = b[:len(b)-1], nil
	default:
		w.queue, b = append(w.queue, b), nil
	}
	w.mu.Unlock()
	if b != nil {
		w.pass(b)
	}
}
