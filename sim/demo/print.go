package demo

import (
	"fmt"
	"io"
	"sync"
	"time"

	"coinop/protocol"
)

// printer says what happens, a line each.
type printer struct {
	out   io.Writer
	began time.Time

	mu    sync.Mutex // guards what follows
	sales map[protocol.DeviceID]int
}

func (p *printer) line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintln(p.out, text)
}

func (p *printer) at(format string, args ...any) {
	p.line(fmt.Sprintf("%6.1f  ", time.Since(p.began).Seconds()) + fmt.Sprintf(format, args...))
}

// note is about the whole; act is something that is done to somebody.
func (p *printer) note(format string, args ...any) { p.at("-- "+format, args...) }
func (p *printer) act(format string, args ...any)  { p.at("** "+format, args...) }

// ends are the events that end a visit, in the words of the demo.
var ends = map[string]string{
	EventSold: "sold", EventRefused: "declined", EventTurnedAway: "turned away", EventFailed: "nothing fell", EventLeft: "walked away",
}

// event prints one line a visit.
func (p *printer) event(s *station, e Event) {
	how, over := ends[e.What]
	switch {
	case e.What == EventBad:
		p.note("%s did not understand: %s", s.name, e.Why)
	case !over:
		return
	}
	if e.What == EventSold {
		p.mu.Lock()
		if p.sales == nil {
			p.sales = map[protocol.DeviceID]int{}
		}
		p.sales[s.name]++
		p.mu.Unlock()
	}
	if e.What == EventRefused && s.line.isCut() && !descriptions[s.kind].terminal {
		how = "refused: no line to the cloud"
	}
	if e.Why != "" {
		how += ": " + e.Why
	}
	p.at("%-10s %-10s %10s  %-15s  %s", s.name, e.Product, e.Price, e.Card, how)
}

// sold is how much a machine sold since it was last asked.
func (p *printer) sold(d protocol.DeviceID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.sales[d]
	delete(p.sales, d)
	return n
}
