package cloud

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestCrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := newCrew(ctx.Done())
		var begun, ended atomic.Int32
		work := func() {
			begun.Add(1)
			time.Sleep(time.Second / 2)
			ended.Add(1)
		}
		for range 3 { // the second and third rounds find rested members, and one too few
			for range 2 + begun.Load()/2 {
				c.do(work)
			}
			synctest.Wait()
			if begun.Load()-ended.Load() < 2 {
				t.Fatalf("%d at work, of those some wait for others", begun.Load()-ended.Load())
			}
			time.Sleep(time.Second * 3 / 4)
		}
		time.Sleep(2 * crewRest) // all have gone; the bubble ends with none left
		c.do(func() { c.do(work) })
		c.do(func() { cancel() })
		c.wait()
		if begun.Load() != ended.Load() || begun.Load() == 0 {
			t.Errorf("%d begun, %d ended", begun.Load(), ended.Load())
		}
	})
}
