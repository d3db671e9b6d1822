package load

import (
	"math"
	"time"
)

// Spans counts durations in steps of 2 %, from 1 µs to 45 minutes: a run of any length fits.
type Spans struct {
	n   [1100]uint32
	sum int
}

const spanStep = 1.02

// Add counts one.
func (s *Spans) Add(d time.Duration) {
	i := 0
	if us := float64(d) / float64(time.Microsecond); us > 1 {
		i = min(int(math.Log(us)/math.Log(spanStep))+1, len(s.n)-1)
	}
	s.n[i]++
	s.sum++
}

// Count is how many were added.
func (s *Spans) Count() int { return s.sum }

// Join adds what another counted.
func (s *Spans) Join(o *Spans) {
	for i, n := range o.n {
		s.n[i] += n
	}
	s.sum += o.sum
}

// Percentile is the span below which p of all are, 0.5 for the median; 0 when there are none.
func (s *Spans) Percentile(p float64) time.Duration {
	left := int(math.Ceil(p * float64(s.sum)))
	for i, n := range s.n {
		if left -= int(n); left <= 0 && s.sum > 0 {
			return time.Duration(math.Pow(spanStep, float64(i)-0.5) * float64(time.Microsecond))
		}
	}
	return 0
}
