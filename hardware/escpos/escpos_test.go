package escpos

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/paper"
)

// TestBytes: the commands are those of the manuals (Epson ESC/POS, Bixolon SRP-350).
func TestBytes(t *testing.T) {
	t.Parallel()
	p := paper.Page{Columns: 32, Lines: []paper.Line{{Text: "KIOSK 42", Big: true}, {Text: "1 €", Bold: true}, {Text: "ü水"}}}
	want := "1b40 1b7413 1d2111 4b494f534b203432 0a 1b4501 1d2100 3120d5 0a 1b4500 813f 0a 1d564200"
	if got := hex.EncodeToString(Bytes(p)); got != strings.ReplaceAll(want, " ", "") {
		t.Errorf("have %s\nwant %s", got, want)
	}
}

// bench is a machine and its time.
type bench struct {
	t   *testing.T
	s   State
	now time.Duration
	// out is what the last input led to.
	out []byte
	ev  []hardware.Event
	end error
}

func (b *bench) in(in any) {
	b.t.Helper()
	b.out, b.ev = nil, nil
	b.step(in)
}

func (b *bench) step(in any) {
	var o hardware.Output
	b.s, o = b.s.Step(b.now, in)
	b.end = o.End
	for _, a := range o.Do {
		if a.Emit != nil {
			b.ev = append(b.ev, a.Emit)
			continue
		}
		b.out = append(b.out, a.Write...)
		b.step(hardware.Wrote{N: len(a.Write)})
	}
	if o.Wake > 0 && o.Wake-b.now < time.Millisecond { // at once
		b.now = o.Wake
		b.step(hardware.Wake{})
	}
}

func (b *bench) hear(text string) {
	b.t.Helper()
	b.in(hardware.Bytes{B: unhex(b.t, text)})
}

func (b *bench) wants(out string, events ...hardware.Event) {
	b.t.Helper()
	if got := hex.EncodeToString(b.out); got != strings.ReplaceAll(out, " ", "") {
		b.t.Errorf("wrote %s, want %s", got, out)
	}
	if len(b.ev) != len(events) {
		b.t.Errorf("said %+v, want %+v", b.ev, events)
		return
	}
	for i := range events {
		if b.ev[i] != events[i] {
			b.t.Errorf("said %+v, want %+v", b.ev[i], events[i])
		}
	}
}

func ready() hardware.Event {
	return hardware.Health{Device: "p", State: hardware.Ready, Code: "ready"}
}

func fault(code string) hardware.Event {
	return hardware.Health{Device: "p", State: hardware.Fault, Code: code}
}

// opened is a printer that is ready.
func opened(t *testing.T) *bench {
	b := &bench{t: t, s: NewState("p")}
	b.in(hardware.Opened{})
	b.wants("1b40 1d610f 100401")
	b.hear("12")
	b.wants("100402")
	b.hear("12")
	b.wants("100403")
	b.hear("12")
	b.wants("100404")
	b.hear("12")
	b.wants("", ready())
	return b
}

// TestStatus: each answer of the manuals' status tables.
func TestStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, answers string
		want          hardware.Event
	}{
		{"cover", "1a 16 12 12", fault(CodeCoverOpen)},
		{"paper ended the print", "1a 32 12 12", fault(CodePaperOut)},
		{"cutter", "1a 52 1a 12", fault(CodeCutter)},
		{"head hot", "1a 52 52 12", fault(CodeError)},
		{"near the end", "12 12 12 1e", hardware.Health{Device: "p", State: hardware.Degraded, Code: CodePaperLow}},
		{"the end", "12 12 12 7e", fault(CodePaperOut)},
		{"offline", "1a 12 12 12", hardware.Health{Device: "p", State: hardware.Degraded, Code: CodeOffline}},
		{"XON and XOFF between", "13 12 11 12 12 12", ready()},
		{"XON and XOFF in an automatic status", "10 13 00 11 0f 00", fault(CodePaperOut)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := &bench{t: t, s: NewState("p")}
			b.in(hardware.Opened{})
			var said []hardware.Event
			for _, a := range strings.Fields(c.answers) {
				b.hear(a)
				said = append(said, b.ev...)
			}
			if len(said) != 1 || said[0] != c.want {
				t.Errorf("said %+v, want %+v", said, c.want)
			}
		})
	}
}

// TestAutomatic: GS a's four bytes, cut anywhere and mixed with answers to DLE EOT.
func TestAutomatic(t *testing.T) {
	t.Parallel()
	b := opened(t)
	b.hear("38 00 00")
	b.wants("")
	b.hear("00")
	b.wants("", fault(CodeCoverOpen))
	b.hear("10 00 00 00")
	b.wants("", ready())
	b.hear("18 00 0f 00 18 00 0f 00")
	b.wants("", fault(CodePaperOut)) // once
	b.hear("10 00 12 10 00 00 00")   // cut off by an answer, then whole
	b.wants("", ready())
}

func page(lines int) paper.Page {
	p := paper.Page{Columns: 32}
	for range lines {
		p.Lines = append(p.Lines, paper.Line{Text: strings.Repeat("x", 32)})
	}
	return p
}

// TestJob: a job is written in pieces, proved by an answer in its turn, and ended once.
func TestJob(t *testing.T) {
	t.Parallel()
	b := opened(t)
	text := Bytes(page(20))
	id := func(n int) string { return fmt.Sprintf("4040404%x", n) }
	b.in(job{1, text})
	b.wants(hex.EncodeToString(text) + "1d28480600 3030" + id(1) + "1d7201") // what it knows is not known yet
	b.in(job{2, text})
	b.wants("")
	b.hear("00")
	b.wants(hex.EncodeToString(text)+"1d7201", hardware.Printed{Job: 1}) // no process ids
	b.hear("00")
	b.wants("", hardware.Printed{Job: 2})
	b.hear("00 00") // of nobody
	b.wants("")

	b.in(job{3, text})
	b.hear("18 00 0f 00")
	b.wants("", hardware.Printed{Job: 3, Reason: ReasonPaperOut, Result: hardware.PrintUnknown}, fault(CodePaperOut))
	b.in(job{4, text})
	b.wants("", hardware.Printed{Job: 4, Reason: ReasonPaperOut, Result: hardware.PrintNone})
	b.hear("10 00 00 00")
	b.wants("", ready())

	b.in(job{5, text})
	b.in(job{6, text})
	b.in(job{7, text})
	b.now += 2 * proofTime
	b.in(hardware.Wake{})
	b.wants("", hardware.Printed{Job: 5, Reason: ReasonUnconfirmed, Result: hardware.PrintUnknown})
	if !errors.Is(b.end, errUnproven) {
		t.Errorf("ended as %v: what comes now could be taken for another job's proof", b.end)
	}
	b.in(hardware.Closed{})
	b.wants("", hardware.Printed{Job: 6, Reason: ReasonPortLost, Result: hardware.PrintNone}, hardware.Printed{Job: 7, Reason: ReasonPortLost, Result: hardware.PrintNone})
	b.in(job{8, text})
	b.wants("", hardware.Printed{Job: 8, Reason: ReasonPortLost, Result: hardware.PrintNone})
}

// TestProof: GS ( H 48, among everything else that a printer says.
func TestProof(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, answers string
		want          []hardware.Event
	}{
		{"whole", "37224040404100", []hardware.Event{hardware.Printed{Job: 1}}},
		{"XON and XOFF between", "37 13 22 11 40 40 13 40 41 11 00", []hardware.Event{hardware.Printed{Job: 1}}},
		{"behind an answer to DLE EOT", "12 37 22 40 40 40 41 00", []hardware.Event{hardware.Printed{Job: 1}}},
		{"an answer to DLE EOT within", "37 22 40 12 40 40 41 00", []hardware.Event{hardware.Printed{Job: 1}}},
		{"behind an automatic status", "10 00 03 00 37 22 40 40 40 41 00", []hardware.Event{
			hardware.Health{Device: "p", State: hardware.Degraded, Code: CodePaperLow}, hardware.Printed{Job: 1},
		}},
		{"an automatic status within", "37 22 40 40 10 00 00 00 40 41 00", []hardware.Event{hardware.Printed{Job: 1}}},
		{"begun twice", "37 37 22 40 40 40 41 00", []hardware.Event{hardware.Printed{Job: 1}}},
		{"half", "37 22 40 40", nil},
		{"garbage", "fe ff 93 37", nil},
	} {
		b := opened(t)
		b.in(job{1, Bytes(page(1))})
		var said []hardware.Event
		for _, raw := range unhex(t, c.answers) {
			b.in(hardware.Bytes{B: []byte{raw}})
			said = append(said, b.ev...)
		}
		if !slices.Equal(said, c.want) {
			t.Errorf("%s: said %+v, want %+v", c.name, said, c.want)
		}
	}
	b := opened(t)
	b.in(job{1, nil})
	b.hear("37224040404100 00") // that to GS r 1 comes behind it
	b.wants("", hardware.Printed{Job: 1})
	b.in(job{2, nil})
	b.wants("1d28480600 303040404042") // only what it knows is asked for
	b.hear("00")
	b.wants("")
	b.hear("37224040404100") // of another job
	b.wants("")
	b.hear("37224040404200")
	b.wants("", hardware.Printed{Job: 2})
}

// TestKernelStatus: what LPGETSTATUS says counts as long as the printer itself says nothing.
func TestKernelStatus(t *testing.T) {
	t.Parallel()
	silent := hardware.Health{Device: "p", State: hardware.Degraded, Code: hardware.CodeSilent, Detail: "it says nothing of its state: jobs are written and not confirmed"}
	b := &bench{t: t, s: NewState("p")}
	b.in(hardware.Opened{})
	b.in(lpStatus(0x38)) // it may still speak
	b.wants("")
	b.now += answerTime
	b.in(hardware.Wake{})
	b.wants("100401", silent)
	for _, c := range []struct {
		status lpStatus
		want   hardware.Event
	}{
		{0x38, fault(CodePaperOut)},
		{0x18, silent},
		{0x10, fault(CodeError)},
		{0x08, hardware.Health{Device: "p", State: hardware.Degraded, Code: CodeOffline}},
		{0x00, silent},
	} {
		b.in(c.status)
		b.wants("", c.want)
	}
	b.in(job{1, nil})
	b.now += proofTime
	b.in(hardware.Wake{})
	if len(b.ev) != 1 || b.ev[0] != hardware.Event(hardware.Printed{Job: 1, Reason: ReasonUnconfirmed, Result: hardware.PrintUnsaid}) {
		t.Errorf("said %+v", b.ev)
	}
	b.hear("12")
	b.in(lpStatus(0x38))
	b.wants("")
}

// TestCutterFreed: DLE ENQ 2 at every round while the knife is stuck, and none later.
func TestCutterFreed(t *testing.T) {
	t.Parallel()
	b := opened(t)
	b.hear("18 08 00 00")
	b.wants("", fault(CodeCutter))
	b.now += pollEvery
	b.in(hardware.Wake{})
	b.wants("100502 100401")
	b.hear("10 00 00 00")
	b.wants("", ready())
	b.hear("12 12 12 12")
	b.now += pollEvery
	b.in(hardware.Wake{})
	b.wants("100401")
}

// TestNoQuestionInAPicture: no status is asked for while a job is written.
func TestNoQuestionInAPicture(t *testing.T) {
	t.Parallel()
	b := opened(t)
	s, o := b.s.Step(b.now, job{1, make([]byte, 10*chunk)})
	for wrote := chunk; wrote < 10*chunk; wrote += chunk {
		s, _ = s.Step(b.now, hardware.Wrote{N: chunk})
		b.now += pollEvery
		s, o = s.Step(b.now, hardware.Wake{})
		if len(o.Do) == 0 || len(o.Do[0].Write) != chunk {
			t.Fatalf("%d: %+v", wrote, o.Do)
		}
		if last := wrote+chunk == 10*chunk; !last && len(o.Do) != 1 {
			t.Fatalf("%d: %+v", wrote, o.Do)
		}
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestFull: more jobs than wait are answered at once.
func TestFull(t *testing.T) {
	t.Parallel()
	b := opened(t)
	for i := range uint32(maxJobs) {
		b.in(job{i, Bytes(page(1))})
		if len(b.ev) != 0 {
			t.Fatalf("job %d: %+v", i, b.ev)
		}
	}
	b.in(job{99, nil})
	b.wants("", hardware.Printed{Job: 99, Reason: ReasonError, Result: hardware.PrintNone})
}

// TestSilent: one that spoke and falls silent ends the opening, one that never spoke prints blind.
func TestSilent(t *testing.T) {
	t.Parallel()
	b := opened(t)
	b.now += pollEvery
	for range tries {
		if b.end != nil {
			t.Fatal("given up too early")
		}
		b.in(hardware.Wake{})
		b.now += answerTime
	}
	b.in(hardware.Wake{})
	if b.end == nil {
		t.Error("the silence was not noticed")
	}
	b = &bench{t: t, s: NewState("p")}
	b.in(hardware.Opened{})
	b.in(job{1, Bytes(page(1))})
	b.wants("")
	b.now += answerTime
	b.in(hardware.Wake{})
	if len(b.ev) != 1 || !bytes.Contains(b.out, []byte("xxxx")) {
		t.Errorf("wrote %q, said %+v", b.out, b.ev)
	}
	for range 10 {
		b.now += answerTime
		b.in(hardware.Wake{})
	}
	if b.end != nil {
		t.Error("given up, though it prints")
	}
}

// FuzzState: whatever the line says, at whatever time, each job that was taken ends exactly once.
func FuzzState(f *testing.F) {
	f.Add([]byte{1, 0x12, 2, 0x12, 0, 0x12, 1, 0x7e, 3, 0, 4, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		b := &bench{t: t, s: NewState("p")}
		b.in(hardware.Opened{})
		taken, ended := uint32(0), map[uint32]int{}
		note := func() {
			for _, e := range b.ev {
				if p, ok := e.(hardware.Printed); ok {
					ended[p.Job]++
				}
			}
		}
		for i := 0; i+1 < len(script) && b.end == nil; i += 2 {
			switch script[i] % 4 {
			case 0:
				b.in(job{taken, Bytes(page(int(script[i+1]) % 9))})
				taken++
			case 1:
				b.in(hardware.Bytes{B: script[i+1 : i+2]})
			case 2:
				b.now += time.Duration(script[i+1]) * 50 * time.Millisecond
				b.in(hardware.Wake{})
			case 3:
				b.in(hardware.Bytes{B: bytes.Repeat(script[i+1:i+2], 5)})
			}
			note()
		}
		b.in(hardware.Closed{})
		note()
		for id := range taken {
			if ended[id] != 1 {
				t.Fatalf("job %d ended %d times: %s", id, ended[id], b.s)
			}
		}
	})
}
