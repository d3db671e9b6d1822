package virtual

import "time"

// LineFault is what becomes of what a far end says, on its way.
type LineFault uint8

// Faults of a line. They last, but for LineHalf.
const (
	LineFine     LineFault = iota
	LineDribbles           // it comes byte by byte
	LineJoins              // what is said twice within a moment comes in one piece
	LineNoise              // every seventh time something else comes before it
	LineHalf               // of the next, half comes, and then the cable is out
	LineLate               // all of it comes late, in the order it was said
	LineFlows              // XOFF and XON stand between its bytes, as from a printer whose buffer is full
)

// lateness of what comes late: through an adapter, or a machine, that is busy.
const lateness = 110 * time.Millisecond

// line is a port's.
type line struct {
	fault LineFault
	said  int
	held  []byte
}

func (p *port) misbehave(f LineFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// badly says b, with mu held.
func (p *port) badly(b []byte) error {
	p.said++
	fault := p.fault
	if p.net != nil && p.net.network == "unixpacket" && fault != LineHalf {
		fault = LineFine // reports come whole, one at a time
	}
	switch fault {
	case LineDribbles:
		// Some 25 pauses are enough to meet every kind of piece. On a slow machine a pause takes many times as
		// long, and a long message must not come later than its bus allows.
		for i := range b {
			if err := p.put(b[i : i+1]); err != nil {
				return err
			}
			if i%(len(b)/25+1) == 0 {
				time.Sleep(200 * time.Microsecond)
			}
		}
		return nil
	case LineJoins:
		if len(p.held) > 0 {
			b, p.held = append(p.held, b...), nil
			return p.put(b)
		}
		p.held = append(p.held, b...)
		time.AfterFunc(3*time.Millisecond, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.master != nil && len(p.held) > 0 {
				_ = p.put(p.held)
			}
			p.held = nil
		})
		return nil
	case LineLate:
		b = append([]byte(nil), b...)
		time.AfterFunc(lateness, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.master != nil {
				_ = p.put(b)
			}
		})
		return nil
	case LineFlows:
		var mixed []byte
		for _, c := range b {
			mixed = append(mixed, 0x13, 0x11, c)
		}
		return p.put(mixed)
	case LineNoise:
		if p.said%7 == 0 {
			b = append([]byte{0xFE, 0xFE}, b...)
		}
	case LineHalf:
		p.fault = LineFine
		err := p.put(b[:len(b)/2])
		time.Sleep(2 * time.Millisecond) // it arrives
		p.out()
		return err
	case LineFine:
	}
	return p.put(b)
}

// Line sets what becomes of what each of them says.
func (r *Reader) Line(f LineFault)     { r.port.misbehave(f) }
func (p *Printer) Line(f LineFault)    { p.port.misbehave(f) }
func (d *DEX) Line(f LineFault)        { d.port.misbehave(f) }
func (c *Cash) Line(f LineFault)       { c.port.misbehave(f) }
func (a *Adapter) Line(f LineFault)    { a.port.misbehave(f) }
func (m *Machine) Line(f LineFault)    { m.port.misbehave(f) }
func (b *Board) Line(f LineFault)      { b.port.misbehave(f) }
func (c *Controller) Line(f LineFault) { c.cable.misbehave(f) }
