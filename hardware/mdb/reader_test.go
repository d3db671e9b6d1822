package mdb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// readerTalk is a master, and what its reader is made to say.
type readerTalk struct {
	t   *testing.T
	s   ReaderState
	now time.Duration
	ev  []string
	out []string // said while an event was awaited
	end error
}

func newReaderTalk(t *testing.T) *readerTalk {
	return &readerTalk{t: t, s: NewReaderState(ReaderConfig{Config: Config{Device: "terminal"}, Currency: money.EUR}), now: time.Second}
}

// said is an event in a line.
func said(e hardware.Event) string {
	switch e := e.(type) {
	case hardware.TerminalReady:
		return strings.TrimSpace("ready " + e.Terminal)
	case hardware.TerminalStatus:
		return strings.TrimSpace(fmt.Sprintf("status %s %s", e.Code, e.Text))
	case hardware.TerminalAnswered:
		return strings.TrimSpace(fmt.Sprintf("answered %s %d %s", e.Result, e.Approved.Minor, e.Reason))
	case hardware.TerminalDone:
		return strings.TrimSpace(fmt.Sprintf("done %s %s %s", e.Op, e.End, e.Reason))
	case hardware.TerminalLast:
		if e.Never {
			return "last never"
		}
		return fmt.Sprintf("last %v %s", e.Known, e.Hold)
	case hardware.TerminalClosed:
		return "closed " + e.Reason
	case hardware.Health:
		return fmt.Sprintf("health %s %s", e.State, e.Code)
	}
	return fmt.Sprintf("%T", e)
}

func (d *readerTalk) step(in any) string {
	var o hardware.Output
	var line Unmark
	d.s, o = d.s.Step(d.now, in)
	var words []Word
	for _, a := range o.Do {
		if a.Emit != nil {
			d.ev = append(d.ev, said(a.Emit))
		}
		words = append(words, line.Add(a.Write)...)
	}
	if o.End != nil {
		d.end = o.End
	}
	return text(words)
}

// run is a conversation, a line each: "says -> hears" (without hears: silence), "> command" of the
// session, "= event" that came next, "+1s" of time in which only POLLs are said and acknowledged, and
// "~1s" in which nothing is answered.
func (d *readerTalk) run(lines string) {
	d.t.Helper()
	for l := range strings.Lines(lines) {
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		switch rest := strings.TrimSpace(l[1:]); l[0] {
		case '>':
			d.command(rest)
		case '=':
			for i := 0; len(d.ev) == 0 && i < 100; i++ {
				d.now += 10 * time.Millisecond
				if w := d.step(hardware.Wake{}); w != "" {
					d.out = append(d.out, w)
				}
			}
			if len(d.ev) == 0 || d.ev[0] != rest {
				d.t.Fatalf("want %q, came %q", rest, d.ev)
			}
			d.ev = d.ev[1:]
		case '+', '~':
			span, err := time.ParseDuration(rest)
			if err != nil {
				d.t.Fatal(err)
			}
			for end := d.now + span; d.now < end; {
				d.now += 10 * time.Millisecond
				if w := d.step(hardware.Wake{}); l[0] == '+' && w == "12* 12" {
					d.step(hardware.Bytes{B: Mark(wire(d.t, "00*"))})
				}
			}
		default:
			says, hears, _ := strings.Cut(l, "->")
			d.talk(strings.TrimSpace(says), strings.TrimSpace(hears))
		}
	}
	if len(d.ev) > 0 {
		d.t.Errorf("came too: %q", d.ev)
	}
}

// talk waits until something else than a POLL is said, unless a POLL is awaited.
func (d *readerTalk) talk(says, hears string) {
	d.t.Helper()
	for range 400 {
		var w string
		if len(d.out) > 0 {
			w, d.out = d.out[0], d.out[1:]
		} else {
			d.now += 10 * time.Millisecond
			w = d.step(hardware.Wake{})
		}
		switch {
		case w == "":
			continue
		case w != says:
			d.t.Fatalf("said %q, want %q; events %q", w, says, d.ev)
		case hears == "":
			return
		}
		got := d.step(hardware.Bytes{B: Mark(wire(d.t, hears))})
		if hears != "00*" && hears != "FF*" && got != "00" {
			d.t.Errorf("%s was answered by %q", hears, got)
		}
		return
	}
	d.t.Fatalf("%q was never said", says)
}

var payA = protocol.PaymentID{0: 0xA1}

func (d *readerTalk) command(c string) {
	f := strings.Fields(c)
	j := readerJob{payment: payA, approved: money.New(150, money.EUR), amount: money.New(150, money.EUR)}
	j.ref = protocol.TerminalRef{Trace: payA.String()}
	j.do = map[string]readerDo{
		"authorize": readerAuthorize, "abort": readerAbort, "capture": readerCapture, "cancel": readerCancel,
		"refund": readerRefund, "last": readerLast, "lost": readerLast, "close": readerClose, "less": readerCapture,
	}[f[0]]
	switch f[0] {
	case "lost":
		j.ref = protocol.TerminalRef{}
	case "less":
		j.amount.Minor = 100
	}
	if f[0] == "unplug" {
		d.step(hardware.Closed{})
		return
	}
	if f[0] == "plug" {
		d.step(hardware.Opened{})
		return
	}
	if len(f) > 1 {
		var n int64
		if _, err := fmt.Sscan(f[1], &n); err != nil {
			d.t.Fatal(err)
		}
		j.amount.Minor = n
	}
	d.step(j)
}

// Openings of MDB/ICP 4.2, 7.4.1, for readers of each kind.
const (
	askID  = "17* 00 43 4F 49 30 30 30 30 30 30 30 30 30 30 30 31 43 4F 49 4E 4F 50 2D 41 47 45 4E 54 01 00 98"
	theID  = "09 4B 53 4B 30 30 30 30 30 30 30 30 30 30 34 32 45 44 47 45 41 47 45 4E 54 2D 30 31 01 00"
	begins = `
		12* 12 -> 00 00*
		11* 00 03 00 00 00 14 -> 01 03 19 78 01 02 05 00 9D*
		11* 01 FF FF 00 00 10 -> 00*
	`
	ready = `
		= health ready ready
		= ready KSK000000000042
	`
	firstLevel = `
		12* 12 -> 00 00*
		11* 00 03 00 00 00 14 -> 01 01 19 78 01 02 05 00 9B*
		11* 01 FF FF 00 00 10 -> 00*
		` + askID + " -> " + theID + " 4B*" + ready
	idleWide = begins + askID + " -> " + theID + " 00 00 00 2F 7A*" + `
		17* 04 00 00 00 22 3D -> 00*
		11* 01 FF FF FF FF 00 00 00 00 19 78 9F -> 00*
	` + ready
	idleShort = begins + askID + " -> " + theID + " 00 00 00 20 6B*" + `
		17* 04 00 00 00 20 3B -> 00*
	` + ready + "14* 01 15 -> 00*\n"
	// to the vend request, and to the approval
	asked = firstLevel + `
		> authorize
		= status insert_card
		14* 01 15 -> 00*
		12* 12 -> 00*
		12* 12 -> 03 03 E8 EE*
		= status asking_host
		12* 12 -> 03 03 E8 EE*
		12* 12 -> 00*
		13* 00 00 96 FF FF A7 -> 00*
	`
	held = asked + `
		12* 12 -> 05 00 96 9B*
		= answered approved 150
		12* 12 -> 00*
	`
	heldThird = idleShort + `
		> authorize
		= status insert_card
		13* 00 00 96 FF FF A7 -> 00*
		12* 12 -> 05 00 96 9B*
		= answered approved 150
	`
	ended = `
		13* 04 17 -> 00*
		12* 12 -> 07 07*
		14* 00 14 -> 00*
		12* 12 -> 00*
	`
	again = `
		10* 10 -> 00*
		12* 12 -> 00 00*
		11* 00 03 00 00 00 14 -> 01 01 19 78 01 02 05 00 9B*
	`
)

// TestReaderExchanges: the sections are of MDB/ICP 4.2.
func TestReaderExchanges(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string]string{
		"7.4.1 level 1":                   firstLevel + "12* 12 -> 00*",
		"7.4.1 level 3, 32 bits":          idleWide + "14* 01 15 -> 00*\n12* 12 -> 00*",
		"7.4.2 setup at a later poll":     "12* 12 -> 00 00*\n11* 00 03 00 00 00 14 -> 00*\n12* 12 -> 01 01 19 78 01 02 05 00 9B*\n11* 01 FF FF 00 00 10 -> 00*",
		"7.4.2 another currency":          "12* 12 -> 00 00*\n11* 00 03 00 00 00 14 -> 01 01 18 40 01 02 05 00 62*\n11* 01 FF FF 00 00 10 -> 00*\n" + askID + " -> " + theID + " 4B*\n= health fault not_configured\n> authorize\n+200ms\n= answered unsent 0 currency",
		"7.4.4 a damaged answer":          "12* 12 -> 00 00*\n11* 00 03 00 00 00 14 ->\n~60ms\n",
		"7.3 success":                     held + "> capture\n13* 02 FF FF 13 -> 00*\n12* 12 -> 00*\n= done capture ok\n" + ended,
		"7.3 failure":                     held + "> cancel\n13* 03 16 -> 00*\n12* 12 -> 00*\n= done cancel ok\n" + ended,
		"7.4.8 failure, silent meanwhile": held + "> cancel\n13* 03 16 -> 00*\n12* 12 ->\n12* 12 ->\n12* 12 -> 00*\n= done cancel ok\n" + ended,
		"7.4.8 failure, credit lost":      held + "> cancel\n13* 03 16 -> 00*\n12* 12 -> 0A C1 CB*\n= done cancel refused refund_failed\n" + ended,
		"7.3.1 denied":                    asked + "12* 12 -> 06 06*\n= answered declined 0 declined\n" + ended,
		"7.3.1 denied, all in one block":  asked + "12* 12 -> 06 07 0D*\n= answered declined 0 declined\n14* 00 14 -> 00*",
		"7.4.4 not enough funds":          firstLevel + "> authorize 1001\n= status insert_card\n14* 01 15 -> 00*\n12* 12 -> 03 03 E8 EE*\n= answered declined 0 insufficient_funds\n" + ended,
		"7.4.4 funds not known":           firstLevel + "> authorize\n= status insert_card\n14* 01 15 -> 00*\n12* 12 -> 03 FF FF 01*\n= status asking_host\n12* 12 -> 00*\n13* 00 00 96 FF FF A7 -> 00*",
		"7.4.4 a session nobody ordered":  firstLevel + "12* 12 -> 03 03 E8 EE*\n" + "13* 04 17 -> 00*\n12* 12 -> 07 07*\n12* 12 -> 00*",
		"7.4.4 what it shows":             asked + "12* 12 -> 02 32 50 49 4E 1B*\n= status display PIN\n12* 12 -> 00*",
		"7.4.10 given up before the card": firstLevel + "> authorize\n= status insert_card\n14* 01 15 -> 00*\n> abort\n14* 02 16 -> 08 08*\n= answered aborted 0 canceled\n14* 00 14 -> 00*",
		"7.4.6 given up while it asks":    asked + "> abort\n13* 01 14 -> 00*\n12* 12 -> 06 06*\n= answered aborted 0 canceled\n" + ended,
		"7.4.6 given up, at once":         asked + "> abort\n13* 01 14 -> 06 06*\n= answered aborted 0 canceled\n" + ended,
		"7.4.6 given up too late":         asked + "> abort\n13* 01 14 -> 00*\n12* 12 -> 05 00 96 9B*\n= answered approved 150\n> cancel\n13* 03 16 -> 00*\n12* 12 -> 00*\n= done cancel ok\n" + ended,
		"7.4.7 our ACK was not heard":     asked + "12* 12 -> 05 00 96 9B*\n= answered approved 150\n12* 12 -> 05 00 96 9B*\n12* 12 -> 00*\n> capture\n13* 02 FF FF 13 -> 00*\n12* 12 -> 00*\n= done capture ok",
		"7.4.7 another amount":            asked + "12* 12 -> 05 00 97 9C*\n= answered approved 151",
		"7.4.7 reset, then success":       held + "12* 12 -> 00 00*\n> capture\n= done capture ok\n11* 00 03 00 00 00 14 -> 01 01 19 78 01 02 05 00 9B*",
		"7.4.7 reset, then failure":       held + "12* 12 -> 00 00*\n> cancel\n= done cancel refused reader_reset\n11* 00 03 00 00 00 14 -> 01 01 19 78 01 02 05 00 9B*",
		"7.4.7 reset after VEND SUCCESS":  held + "> capture\n13* 02 FF FF 13 ->\n13* 02 FF FF 13 -> 00*\n12* 12 -> 00 00*\n= done capture ok\n11* 00 03 00 00 00 14 -> 01 01 19 78 01 02 05 00 9B*",
		"7.4.7 success said twice":        heldThird + "> capture\n13* 02 FF FF 13 ->\n13* 02 FF FF 13 -> 00*\n12* 12 -> 0B 04 0F*\n= done capture ok\n10* 10 -> 00*",
		"7.4.8 failure said twice":        heldThird + "> cancel\n13* 03 16 ->\n13* 03 16 -> 00*\n12* 12 -> 0B 04 0F*\n= done cancel ok\n10* 10 -> 00*",
		"7.3 success not executed":        heldThird + "> capture\n13* 02 FF FF 13 -> 00*\n12* 12 -> 0B 03 0E*\n= done capture refused out_of_sequence\n10* 10 -> 00*",
		"7.3 reset before the approval":   asked + "12* 12 -> 00 00*\n= answered unknown 0 reader_reset\n11* 00 03 00 00 00 14 -> 01 01 19 78 01 02 05 00 9B*",
		"7.3 request out of sequence":     asked + "12* 12 -> 0B 0B*\n= answered unknown 0 lost\n" + again,
		"7.3 success out of sequence":     held + "> capture\n13* 02 FF FF 13 -> 00*\n12* 12 -> 0B 0B*\n= done capture lost lost\n" + again,
		"7.4.6 no answer":                 asked + "+6s\n13* 01 14 -> 00*\n12* 12 -> 06 06*\n= answered aborted 0 canceled",
		"7.4.6 no answer to that either":  asked + "+12s\n= answered unknown 0 lost\n",
		"a request is said once":          firstLevel + "> authorize\n= status insert_card\n14* 01 15 -> 00*\n12* 12 -> 03 03 E8 EE*\n= status asking_host\n12* 12 -> 00*\n13* 00 00 96 FF FF A7 ->\n12* 12 -> 00*\n12* 12 -> 05 00 96 9B*\n= answered approved 150",
		"a request that is NAKed":         firstLevel + "> authorize\n= status insert_card\n14* 01 15 -> 00*\n12* 12 -> 03 03 E8 EE*\n= status asking_host\n12* 12 -> 00*\n13* 00 00 96 FF FF A7 -> FF*\n12* 12 -> 00*\n12* 12 -> 05 00 96 9B*\n= answered approved 150",
		"always idle":                     idleShort + "> authorize\n= status insert_card\n13* 00 00 96 FF FF A7 -> 00*\n12* 12 -> 05 00 96 9B*\n= answered approved 150\n> capture\n13* 02 FF FF 13 -> 00*\n12* 12 -> 00*\n= done capture ok\n13* 04 17 -> 00*\n12* 12 -> 07 07*\n12* 12 -> 00*",
		"32 bits":                         idleWide + "14* 01 15 -> 00*\n> authorize 100000\n= status insert_card\n13* 00 00 01 86 A0 FF FF 38 -> 00*\n12* 12 -> 05 00 01 86 A0 2C*\n= answered approved 100000",
		"16 bits are not enough":          firstLevel + "> authorize 65535\n+100ms\n= answered unsent 0 amount",
		"less is not possible":            held + "> less\n13* 02 FF FF 13 -> 00*\n12* 12 -> 00*\n= done capture refused not_possible\n" + ended,
		"no refund, no day":               firstLevel + "> refund\n= done refund refused not_possible\n> close\n= closed not_possible",
		"it has no books":                 held + "> capture\n13* 02 FF FF 13 -> 00*\n12* 12 -> 00*\n= done capture ok\n> lost\n= last never",
		"gone in mid vend":                asked + "> unplug\n= answered unknown 0 lost",
		"gone, and here again":            held + "> unplug\n> plug\n12* 12 -> 00*\n= ready KSK000000000042\n> last\n= last true open\n> cancel\n13* 03 16 -> 00*\n12* 12 -> 00*\n= done cancel ok\n10* 10 -> 00*",
		"an earlier run's, success":       "12* 12 -> 00*\n= ready\n> last\n= last true open\n> capture\n13* 02 FF FF 13 -> 00*\n12* 12 -> 00*\n= done capture ok\n10* 10 -> 00*",
		"an earlier run's, failure":       "12* 12 -> 00*\n= ready\n> last\n= last true open\n> cancel\n13* 03 16 -> 00*\n12* 12 -> 00*\n= done cancel ok\n10* 10 -> 00*",
		"an earlier run's, not asked":     "12* 12 -> 00*\n= ready\n> capture\n13* 02 FF FF 13 -> 00*\n12* 12 -> 00*\n= done capture ok\n10* 10 -> 00*",
		"an earlier run's, given back":    "12* 12 -> 00*\n= ready\n> cancel\n13* 03 16 -> 00*\n12* 12 -> 00*\n= done cancel ok\n10* 10 -> 00*",
		"an earlier run's, forgotten":     "12* 12 -> 00*\n= ready\n> last\n= last true open\n> cancel\n13* 03 16 -> 00*\n12* 12 -> 0B 03 0E*\n= done cancel refused out_of_sequence\n10* 10 -> 00*",
		"an earlier run's, no answer":     "12* 12 -> 00*\n= ready\n> lost\n13* 03 16 -> 00*\n12* 12 -> 00*\n= last true not_said\n10* 10 -> 00*",
		"an earlier run's, not known":     "12* 12 -> 00*\n= ready\n> lost\n13* 03 16 -> 00*\n12* 12 -> 0B 03 0E*\n= last never\n10* 10 -> 00*",
		"an earlier run's approval":       "12* 12 -> 05 00 96 9B*\n= ready\n+301s\n13* 03 16 -> 00*\n12* 12 -> 00*\n10* 10 -> 00*",
		"nothing is left, it is wanted":   "12* 12 -> 00*\n= ready\n+60s\n> authorize\n" + again,
		"nothing is left":                 "12* 12 -> 00*\n= ready\n+301s\n" + again,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newReaderTalk(t)
			d.step(hardware.Opened{}) // its first POLL is said at once: the time for an answer is over
			d.s.sent, d.s.next = nil, d.now+10*time.Millisecond
			d.run(lines)
		})
	}
}

// TestReaderSecond: the second cashless device is 50h higher (MDB/ICP 4.2, 7.1), and what the first says to
// others is not its.
func TestReaderSecond(t *testing.T) {
	t.Parallel()
	d := newReaderTalk(t)
	d.s = NewReaderState(ReaderConfig{Config: Config{Device: "terminal"}, Currency: money.EUR, Second: true})
	d.step(hardware.Opened{})
	d.s.sent, d.s.next = nil, d.now+10*time.Millisecond
	d.run(`
		62* 62 -> 00 00*
		61* 00 03 00 00 00 64 -> 01 01 19 78 01 02 05 00 9B*
		61* 01 FF FF 00 00 60 -> 00*
		` + "67" + askID[2:len(askID)-2] + "E8 -> " + theID + ` 4B*
		= health ready ready
		= ready KSK000000000042
		> authorize
		= status insert_card
		64* 01 65 -> 00*
	`)
}

// FuzzReader: whatever a line brings, each command is answered once, and a vend is requested once for a
// payment.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0xFF, 0, 0x10, 0x10, 0xFF, 0, 0x00, 0x05, 0, 0x96, 0xFF, 0, 0x9B})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newReaderTalk(t)
		d.step(hardware.Opened{})
		d.s.step, d.s.format, d.s.scale, d.s.enabled = readLive, Format{Level: 2}, Scale{Currency: money.EUR, Decimals: 2}, true
		asked, requests := map[readerDo]int{}, 0
		for i, c := range b {
			d.now += time.Duration(c) * time.Millisecond
			if strings.HasPrefix(d.step(hardware.Wake{}), "13* 00") {
				requests++
			}
			switch {
			case c%31 == 3 && asked[readerAuthorize] == 0:
				asked[readerAuthorize]++
				d.step(readerJob{do: readerAuthorize, payment: payA, amount: money.New(150, money.EUR)})
			case c%31 == 7 && d.s.pay != nil && d.s.pay.stage == vendHeld:
				j := readerJob{do: readerCapture, payment: payA, amount: money.New(150, money.EUR), approved: money.New(150, money.EUR)}
				if i%2 == 0 {
					j.do = readerCancel
				}
				asked[j.do]++
				d.step(j)
			case c%31 == 8:
				d.step(readerJob{do: readerAbort, payment: payA})
			case c == 0xEE:
				d.step(hardware.Closed{})
				d.step(hardware.Opened{})
			}
			if strings.HasPrefix(d.step(hardware.Bytes{B: []byte{c}}), "13* 00") {
				requests++
			}
		}
		d.step(hardware.Closed{})
		got := map[string]int{}
		for _, e := range d.ev {
			got[strings.Join(strings.Fields(e)[:min(2, len(strings.Fields(e)))], " ")]++
		}
		answers := 0
		for e, n := range got {
			if strings.HasPrefix(e, "answered") {
				answers += n
			}
		}
		if requests > 1 || answers != asked[readerAuthorize] || got["done capture"] != asked[readerCapture] || got["done cancel"] != asked[readerCancel] {
			t.Fatalf("%d requests; asked %v, got %v", requests, asked, d.ev)
		}
	})
}
