package gpio

import (
	"testing"
	"time"
)

// TestPattern: what is written is what is done, and printed; what is no pattern is refused.
func TestPattern(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for text, edges := range map[string][]time.Duration{ // when it changes, from on at 0
		"80":           {80 * ms},
		"2x150/100":    {150 * ms, 250 * ms, 400 * ms},
		"3x60/60":      {60 * ms, 120 * ms, 180 * ms, 240 * ms, 300 * ms},
		"500/0 80":     {580 * ms},
		"10x500/500":   nil,
		"2x100/50 0/9": {100 * ms, 150 * ms, 250 * ms},
		"on":           nil,
		"off":          nil,
	} {
		p, err := ParsePattern(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if again, err := ParsePattern(p.String()); err != nil || again.String() != p.String() {
			t.Errorf("%s becomes %s", text, p)
		}
		var got []time.Duration
		was := true
		for now := time.Duration(0); now < time.Second && edges != nil; now += ms {
			if on, _, _ := p.at(now); on != was {
				got, was = append(got, now), on
			}
		}
		if len(got) != len(edges) {
			t.Errorf("%s: changes at %v", text, got)
			continue
		}
		for i := range got {
			if got[i] != edges[i] {
				t.Errorf("%s: changes at %v, want %v", text, got, edges)
			}
		}
	}
	if on, until, over := MustPattern("on").at(time.Hour); !on || until != 0 || over {
		t.Error("on is not steady")
	}
	b := Blinks(3)
	if on, until, over := b.at(time.Hour*24*365 + 3*time.Second); over || until == 0 {
		t.Errorf("a fault's code has ended: %v %v", on, until)
	}
	if b.String() != "3x200/300 0/1500 *" || Blinks(0).String() != "off" {
		t.Error(b)
	}
	for _, bad := range []string{"", "*", "x", "2x", "2x100", "0x1/1", "21x1/1", "-1", "1/2/3", "80,80", "10001", "0", "0/0 *", "on 80", "1 1 1 1 1 1 1 1 1", "99999999999999999999", "3 x 80/80"} {
		if p, err := ParsePattern(bad); err == nil {
			t.Errorf("%q is taken as %s", bad, p)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"80", "2x150/100", "3x200/200 0/1500 *", "on", "off", "20x10000/10000 *"} {
		f.Add(s, int64(12345))
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		p, err := ParsePattern(text)
		if err != nil {
			return
		}
		again, err := ParsePattern(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%q becomes %q, and that %v", text, p, err)
		}
		now := time.Duration(at & (1<<50 - 1))
		if _, until, over := p.at(now); !over && until != 0 && until <= now {
			t.Errorf("%q at %v lasts until %v", text, now, until)
		}
	})
}
