package outlet

import (
	"testing"
	"time"

	"coinop/hardware"
)

// BenchmarkPoll is one reading of inputs, which a lane with buttons makes ten times a second.
func BenchmarkPoll(b *testing.B) {
	s := NewState(Config{Path: "x", Outlets: []Outlet{{Number: 1, Relay: 1, Feedback: 1, Button: 5}, {Number: 2, Relay: 2, Feedback: 2, Button: 6}}})
	now := time.Hour
	var o hardware.Output
	s, o = s.Step(now, hardware.Opened{})
	b.ReportAllocs()
	for b.Loop() {
		now = max(o.Wake, now+1)
		s, o = s.Step(now, hardware.Wake{})
		for len(o.Do) > 0 {
			a := o.Do[0]
			o.Do = o.Do[1:]
			if a.Write == nil {
				continue
			}
			r, err := ParseRequest(a.Write)
			if err != nil {
				b.Fatal(err)
			}
			s, _ = s.Step(now, hardware.Wrote{N: len(a.Write)})
			now += 17 * time.Millisecond
			s, o = s.Step(now, hardware.Bytes{B: r.AppendAnswer(nil, 0)})
		}
	}
}
