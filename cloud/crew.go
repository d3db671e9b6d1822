package cloud

import (
	"sync"
	"time"
)

// crew runs functions, each in a goroutine of its own until it returns; then the goroutine waits for
// the next. A fresh one has a stack of a few KB, and copies it to a larger one some four times
// before a unit of work stands on it: 5 % of what an authorization cost.
type crew struct {
	work chan func() // to whoever rests
	over <-chan struct{}
	all  sync.WaitGroup
}

// crewRest is how long one waits for work.
const crewRest = time.Second

// newCrew makes a crew whose members do not rest after over.
func newCrew(over <-chan struct{}) *crew { return &crew{work: make(chan func()), over: over} }

// do never blocks.
func (c *crew) do(f func()) {
	select {
	case c.work <- f:
	default:
		c.all.Go(func() { c.serve(f) })
	}
}

func (c *crew) serve(f func()) {
	rest := time.NewTimer(crewRest)
	defer rest.Stop()
	for {
		f()
		rest.Reset(crewRest)
		select {
		case f = <-c.work:
		case <-rest.C:
			return
		case <-c.over:
			return
		}
	}
}

// wait returns when all have ended. Nothing may be given to do meanwhile but by what is being done.
func (c *crew) wait() { c.all.Wait() }
