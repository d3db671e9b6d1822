package scanner

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"coinop/hardware"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a machine whose time stands still unless it is moved.
type rig struct {
	s   State
	now time.Duration
	out []string
}

func newRig(cfg Config) *rig {
	cfg.Key = []byte("a key")
	r := &rig{s: NewState(cfg), now: time.Second}
	r.do(hardware.Opened{})
	r.do(scan{})
	r.out = nil
	return r
}

// do steps; what comes of it is a code's text, a reason, a health code, or the bytes of a trigger.
func (r *rig) do(in any) {
	var o hardware.Output
	r.s, o = r.s.Step(r.now, in)
	for _, a := range o.Do {
		switch e := a.Emit.(type) {
		case nil:
			r.out = append(r.out, fmt.Sprintf("<%X>", a.Write))
		case hardware.CodeRead:
			r.out = append(r.out, string(e.Code.Reveal()))
		case hardware.CodeRefused:
			r.out = append(r.out, e.Reason)
		case hardware.Health:
			r.out = append(r.out, e.Code)
		}
	}
}

func (r *rig) hear(text string)      { r.do(hardware.Bytes{B: []byte(text)}) }
func (r *rig) after(d time.Duration) { r.now += d; r.do(hardware.Wake{}) }

func TestState(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", mostRead)
	for name, c := range map[string]struct {
		cfg  Config
		do   func(*rig)
		want string
	}{
		"CR":                            {Config{}, func(r *rig) { r.hear("4006381333931\r") }, "4006381333931"},
		"CR LF":                         {Config{}, func(r *rig) { r.hear("a\r\nb\r\n") }, "a b"},
		"byte by byte":                  {Config{}, func(r *rig) { r.slowly("abc\r", gapTime/2) }, "abc"},
		"no suffix: the gap ends it":    {Config{}, func(r *rig) { r.hear("abc"); r.after(gapTime); r.hear("def"); r.after(gapTime) }, "abc def"},
		"half of one that has a suffix": {Config{}, func(r *rig) { r.hear("abc\rde"); r.after(gapTime); r.hear("f\r") }, "abc code_torn f"},
		"half of one from a keyboard":   {Config{Keyboard: true}, func(r *rig) { r.hear("abc"); r.after(2 * gapTime) }, "code_torn"},
		"gone in the middle": {Config{}, func(r *rig) {
			r.hear("ab")
			r.do(hardware.Closed{})
			r.do(hardware.Opened{})
			r.do(scan{})
			r.hear("cd\r")
		}, "ready cd"},
		"512 characters, not bytes": {Config{}, func(r *rig) { r.hear(long + "\r") }, long},
		"513":                       {Config{}, func(r *rig) { r.hear(long + "é\r") }, "code_too_long"},
		"without end":               {Config{}, func(r *rig) { r.hear(strings.Repeat("x", 9999) + "\r"); r.hear("a\r") }, "code_too_long a"},
		"a control character":       {Config{}, func(r *rig) { r.hear("a\x1db\r"); r.hear("c\r") }, "garbage code_garbled ready c"},
		"one beyond ASCII":          {Config{}, func(r *rig) { r.hear("a\u0085b\r") }, "garbage code_garbled"},
		"no text":                   {Config{}, func(r *rig) { r.hear("a\xffb\r") }, "garbage code_garbled"},
		"a lost key":                {Config{Keyboard: true}, func(r *rig) { r.hear("a\x18b\r") }, "garbage code_garbled"},
		"seen still": {Config{}, func(r *rig) {
			r.hear("a\ra\r")
			r.now += sameTime - 1
			r.hear("a\r")
			r.now += sameTime - 1
			r.hear("a\r")
		}, "a"},
		"shown again": {Config{}, func(r *rig) {
			r.hear("a\r")
			r.now += sameTime
			r.hear("a\r")
			r.hear("a\r")
			r.now += sameTime
			r.hear("a\r")
		}, "a code_stale code_stale"},
		"another between": {Config{}, func(r *rig) { r.hear("a\rb\r"); r.now += sameTime; r.hear("a\rb\r") }, "a b code_stale code_stale"},
		"after its life":  {Config{}, func(r *rig) { r.hear("a\r"); r.now += lifeTime; r.hear("a\r") }, "a a"},
		"shown again after unplugging": {Config{}, func(r *rig) {
			r.hear("a\r")
			r.do(hardware.Closed{})
			r.now += sameTime
			r.do(hardware.Opened{})
			r.do(scan{})
			r.hear("a\r")
		}, "a ready code_stale"},
		"nobody asked": {Config{}, func(r *rig) { r.do(stop{}); r.hear("a\r"); r.do(scan{}); r.hear("a\r") }, "a"},
		"Honeywell": {
			Config{Trigger: Honeywell},
			func(r *rig) { r.do(scan{}); r.hear("a\r"); r.after(lookTime); r.do(stop{}); r.after(lookTime) },
			"<16540D> a <16540D> <16540D> <16550D>",
		},
		"Newland": {
			Config{Trigger: Newland},
			func(r *rig) { r.do(scan{}); r.hear("\x06a\r"); r.do(stop{}); r.hear("\x06") },
			"<015404> a <015404> <015004>",
		},
		"GM65": {
			Config{Trigger: GM65},
			func(r *rig) { r.do(scan{}); r.hear("\x02\x00\x00\x01\x00\x33\x31a\r"); r.do(stop{}) },
			"<7E000801000201ABCD> a <7E000801000201ABCD> <7E000801000200ABCD>",
		},
		"GM65, its answer byte by byte": {Config{Trigger: GM65}, func(r *rig) { r.slowly("\x02\x00\x00\x01\x00\x0D\x31a\r", time.Millisecond) }, "a <7E000801000201ABCD>"},
		"GM65, an answer cut off":       {Config{Trigger: GM65}, func(r *rig) { r.hear("\x02\x00\x00"); r.after(gapTime); r.hear("a\r") }, "a <7E000801000201ABCD>"},
	} {
		r := newRig(c.cfg)
		c.do(r)
		if got := strings.Join(r.out, " "); got != c.want {
			t.Errorf("%s: %.80q, want %.80q", name, got, c.want)
		}
		if len(bytes.Trim(r.s.line[:cap(r.s.line)], "\x00")) > 0 {
			t.Errorf("%s: something of a code is left behind", name)
		}
	}
}

func (r *rig) slowly(text string, pause time.Duration) {
	for i := range len(text) {
		r.hear(text[i : i+1])
		r.after(pause)
	}
}

// TestSeen: what is remembered has a bound, and is not the code.
func TestSeen(t *testing.T) {
	t.Parallel()
	r := newRig(Config{})
	for i := range mostSeen + 10 {
		r.hear(fmt.Sprintf("code-%d\r", i))
	}
	r.now += sameTime
	r.out = nil
	r.hear("code-0\r")
	r.hear(fmt.Sprintf("code-%d\r", mostSeen))
	if got := strings.Join(r.out, " "); len(r.s.seen) != mostSeen || got != "code-0 code_stale" {
		t.Errorf("%d remembered, %s", len(r.s.seen), got)
	}
	if s := fmt.Sprintf("%v %+v", r.s.seen, r.s); strings.Contains(s, "code-") {
		t.Error("a code is kept")
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte("4006381333931\r\n"), 3)
	f.Add([]byte("\x02\x00\x00\x01\x00\x33\x31a\r"), 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if len(b) == 0 {
			return
		}
		for trigger := range Trigger(4) {
			r := newRig(Config{Trigger: trigger})
			for chunk := range slices.Chunk(slices.Clone(b), max(1, min(size, len(b)))) {
				r.do(hardware.Bytes{B: chunk})
				r.now += time.Millisecond
			}
			for _, said := range r.out {
				if wrong([]byte(said)) != "" {
					t.Fatal("a code that cannot be was given")
				}
			}
		}
	})
}
