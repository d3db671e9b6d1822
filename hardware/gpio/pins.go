package gpio

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/host/v3"
)

// ErrNoPin is a pin that this computer does not have, or none at all.
var ErrNoPin = errors.New("this computer has no such pin")

// Pin is a pin of this computer, by periph.io's name for it. Retrying does not help.
func Pin(name string) (gpio.PinIO, error) {
	if _, err := host.Init(); err != nil {
		return nil, fmt.Errorf("gpio: %w", err)
	}
	p := gpioreg.ByName(name)
	if p == nil {
		return nil, fmt.Errorf("gpio %s: %w", name, ErrNoPin)
	}
	return p, nil
}

// Times of the pins. A driver without edges is asked; so is one whose edge does not come.
const (
	edgeWait = 500 * time.Millisecond
	edgeRest = 2 * time.Millisecond // a contact that bounces for ever must not take the computer
	askEvery = 20 * time.Millisecond
)

type contactPin struct {
	gpio.PinIO
	bit   byte
	high  bool
	edges bool
}

type outPin struct {
	gpio.PinIO
	bit  byte
	low  bool
	most time.Duration // it is on; 0: no matter
	n    int           // of on-times
}

// pins are a board's, as a Port.
type pins struct {
	in   []contactPin
	news chan struct{} // levels may have changed, or are asked for
	done chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	mu  sync.Mutex
	out []outPin
	on  byte
	end bool
}

func openPins(c Config) (*pins, error) {
	p := &pins{news: make(chan struct{}, 1), done: make(chan struct{})}
	contact := func(i Input, bit byte) error {
		if i.Pin == "" {
			return nil
		}
		pin, err := Pin(i.Pin)
		p.in = append(p.in, contactPin{PinIO: pin, bit: bit, high: i.High})
		return err
	}
	output := func(o Output, bit byte, most time.Duration) error {
		if o.Pin == "" {
			return nil
		}
		pin, err := Pin(o.Pin)
		p.out = append(p.out, outPin{PinIO: pin, bit: bit, low: o.Low, most: most})
		return err
	}
	errs := []error{
		contact(c.Door, bitDoor), contact(c.Tamper, bitTamper), output(c.Lamp, bitLamp, 0), output(c.Buzzer, bitBuzzer, 0),
	}
	for i, w := range c.Power {
		errs = append(errs, output(w.Output, bitPower<<i, w.Off+time.Second))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := p.set(0); err != nil { // relays first
		return nil, err
	}
	for i := range p.in {
		in := &p.in[i]
		pull := gpio.PullUp
		if in.high {
			pull = gpio.PullDown
		}
		in.edges = in.In(pull, gpio.BothEdges) == nil
		if !in.edges {
			if err := in.In(pull, gpio.NoEdge); err != nil {
				return nil, errors.Join(fmt.Errorf("gpio %s: %w", in, err), p.Close())
			}
		}
		p.wg.Go(func() { p.watch(in) })
	}
	return p, nil
}

// watch says when an input may have changed.
func (p *pins) watch(in *contactPin) {
	rest := time.NewTimer(0)
	defer rest.Stop()
	was := in.Read()
	for {
		pause := askEvery
		if in.edges {
			pause = edgeRest
			if !in.WaitForEdge(edgeWait) {
				pause = 0
			}
		}
		rest.Reset(pause)
		select {
		case <-p.done:
			return
		case <-rest.C:
		}
		if now := in.Read(); in.edges && pause > 0 || now != was {
			was = now
			p.tell()
		}
	}
}

func (p *pins) tell() {
	select {
	case p.news <- struct{}{}:
	default: // it was said, and levels are read after
	}
}

func (p *pins) levels() (b byte) {
	for _, in := range p.in {
		if (in.Read() == gpio.High) == in.high {
			b |= in.bit
		}
	}
	return b
}

func (p *pins) Read(b []byte) (int, error) {
	select {
	case <-p.done:
		return 0, os.ErrClosed
	case <-p.news:
		b[0] = p.levels()
		return 1, nil
	}
}

// Write is an operation: see opRead and opSet.
func (p *pins) Write(b []byte) (int, error) {
	if len(b) != 2 {
		return 0, errors.New("gpio: no operation")
	}
	if b[0] == opRead {
		p.tell()
		return 2, nil
	}
	return 2, p.set(b[1])
}

func (p *pins) SetWriteDeadline(time.Time) error { return nil }

// set switches outputs. One that has a longest time goes off by itself after it: whoever is to switch it off
// may hang.
func (p *pins) set(on byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end {
		on = 0
	}
	var errs []error
	for i := range p.out {
		o := &p.out[i]
		want := on&o.bit != 0
		if want && p.on&o.bit == 0 && o.most > 0 {
			o.n++
			n := o.n
			time.AfterFunc(o.most, func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				if o.n == n && p.on&o.bit != 0 {
					_ = o.Out(gpio.Level(o.low))
					p.on &^= o.bit
				}
			})
		}
		if err := o.Out(gpio.Level(want != o.low)); err != nil {
			errs = append(errs, fmt.Errorf("gpio %s: %w", o, err))
		}
	}
	p.on = on
	return errors.Join(errs...)
}

// Close switches all off and waits for what watches the inputs.
func (p *pins) Close() (err error) {
	p.once.Do(func() {
		close(p.done)
		p.mu.Lock()
		p.end = true
		p.mu.Unlock()
		err = p.set(0)
		p.wg.Wait()
	})
	return err
}
