package terminal

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// The exchanges are those of PA00P015 rev 13.08 and PA00P016 rev 04, with results as captured from
// terminals by the authors of Portalum.Zvt (C#, receipt 0470) and of the EVerest zvt driver (Rust, Feig
// cVEND, terminal 52523535).
const (
	debit = "27 00 04 00 00 00 00 20 40 0B 00 04 70 0C 22 39 53 0D 10 06 0E 25 12 17 00 01 19 70 22 F0 F8 EE EE EE EE EE EE 47 71 " +
		"29 28 00 48 69 2A 31 30 30 34 36 31 37 36 33 20 20 20 20 20 20 3B 36 31 31 38 30 34 00 00 3C F0 F1 F4 47 45 4E 2E 4E 52 2E 3A " +
		"36 31 31 38 30 34 49 09 78 87 04 70 88 00 04 70 8A 2E 8B F1 F7 44 65 62 69 74 20 4D 61 73 74 65 72 63 61 72 64 00"
	held = "27 00 04 00 00 00 00 25 00 49 09 78 0C 22 55 58 0D 04 05 22 F0 F8 55 98 83 EE EE EE 80 74 87 02 31 3B 37 35 30 30 37 31 00 00 " +
		"0B 00 09 75 19 60 29 52 52 35 35 0E 24 05 8A 06 8C 01 8B F1 F1 4D 61 73 74 65 72 43 61 72 64 00 2A 38 30 34 30 31 31 39 32 36 20 20 20 20 20 20"
	booked = "27 00 04 00 00 00 00 07 50 49 09 78 0C 23 01 12 0D 04 05 87 02 32 0B 00 09 76 29 52 52 35 35"
	taken  = "27 00 04 00 00 00 00 20 40 49 09 78 0B 00 04 71 37 00 04 70 0C 22 41 10 0D 10 06 29 28 00 48 69 87 04 71"
	day    = "27 00 04 00 00 00 00 09 58 0B 00 09 82 0D 04 06 0C 08 17 06 60 F0 F5 F3 02 33 02 34 00 00 00 00 00 00 00 00 00 00 00 00 00 00 " +
		"02 00 00 00 00 09 58 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
)

// aborted is debit, had it come to nothing.
var aborted = strings.Replace(debit, "27 00", "27 6C", 1)

var (
	payment  = protocol.PaymentID{0: 1, 10: 0xA1, 15: 0xB2}
	theirRef = protocol.TerminalRef{Terminal: "28004869", Receipt: "0470", Trace: "000470", AuthID: "611804"}
	heldRef  = protocol.TerminalRef{Terminal: "52523535", Receipt: "0231", Trace: "000975", AuthID: "750071"}
	maestro  = hardware.TerminalCard{Brand: "maestro", Last4: "4771"}
)

func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// msg is a message with its length put in.
func msg(t testing.TB, class, instr byte, data string) string {
	return fmt.Sprintf("% X", apdu{class, instr, unhex(t, data)}.bytes())
}

// rig plays the far end by hand.
type rig struct {
	t      testing.TB
	s      State
	now    time.Duration
	wrote  bytes.Buffer
	events []hardware.Event
	end    error
	wake   time.Duration
}

func newRig(t testing.TB, hold bool) *rig {
	r := &rig{t: t, s: newState(setting{currency: money.EUR, number: [2]byte{0x09, 0x78}, hold: hold, finish: finishTime})}
	r.in(hardware.Opened{})
	return r
}

func (r *rig) in(in any) {
	s, o := r.s.Step(r.now, in)
	r.s, r.wake = s, o.Wake
	if o.End != nil {
		r.end = o.End
	}
	for todo := o.Do; len(todo) > 0; todo = todo[1:] {
		if e := todo[0].Emit; e != nil {
			r.events = append(r.events, e)
			continue
		}
		r.wrote.Write(todo[0].Write)
		var o hardware.Output
		r.s, o = r.s.Step(r.now, hardware.Wrote{N: len(todo[0].Write)})
		r.wake = o.Wake
		todo = append(todo, o.Do...)
	}
}

// play is a script of lines "> what we must have written" and "< what comes".
func (r *rig) play(script ...string) {
	r.t.Helper()
	for _, line := range script {
		b := unhex(r.t, line[1:])
		if line[0] == '<' {
			r.in(hardware.Bytes{B: b})
			continue
		}
		if got := r.wrote.Next(r.wrote.Len()); !bytes.Equal(got, b) {
			r.t.Fatalf("wrote % X\n not  % X", got, b)
		}
	}
}

const ack = "80 00 00"

// ready plays the opening.
func ready(t testing.TB, hold bool) *rig {
	r := newRig(t, hold)
	r.play("> 06 00 0A 00 00 00 3E 09 78 03 01 06 00", "< "+ack, "< 06 0F 0A 19 10 29 52 52 35 35 49 09 78",
		"> "+ack+"05 01 05 00 00 00 03 02", "< "+ack, "< 06 0F 01 00", "> "+ack+"06 20 05 00 00 00 03 03",
		"< "+ack, "< "+msg(t, 4, 0x0F, debit), "> "+ack, "< 06 0F 00", "> "+ack)
	want := hardware.TerminalReady{Terminal: "52523535", Last: hardware.TerminalFound{Ref: theirRef, Result: protocol.TerminalApproved, Amount: eur(2040), Card: maestro}}
	if got := r.events[len(r.events)-1]; !cmp.Equal(got, want) {
		t.Fatal(cmp.Diff(want, got))
	}
	r.events = nil
	return r
}

// ours is the container with our reference.
const ours = "06 16 E9 14 1F 62 02 43 50 1F 63 0C 41 31 30 30 30 30 30 30 30 30 42 32"

func TestExchanges(t *testing.T) {
	pay := job{do: toAuthorize, payment: payment, amount: eur(2040)}
	asked := "> 06 01 24 04 00 00 00 00 20 40 49 09 78 19 40 " + ours
	no := func(r protocol.TerminalResult, why string) hardware.TerminalAnswered {
		return hardware.TerminalAnswered{Payment: payment, Result: r, Reason: why, Approved: eur(0)}
	}
	status := func(code string) hardware.TerminalStatus {
		return hardware.TerminalStatus{Payment: payment, Code: code}
	}
	last := func(h hardware.HoldState, f hardware.TerminalFound) hardware.TerminalLast {
		return hardware.TerminalLast{Payment: payment, Known: true, Hold: h, Found: f}
	}
	reversed := hardware.TerminalFound{
		Ref: protocol.TerminalRef{Terminal: "28004869", Receipt: "0471", Trace: "000471"}, Result: protocol.TerminalApproved, Amount: eur(2040), Original: "000470",
	}
	canceled := no(protocol.TerminalAborted, "aborted")
	done := func(op protocol.TerminalOp, end protocol.TerminalEnd, why string, ref protocol.TerminalRef) hardware.TerminalDone {
		return hardware.TerminalDone{Payment: payment, Op: op, End: end, Reason: why, Ref: ref}
	}
	bookedRef := protocol.TerminalRef{Terminal: "52523535", Receipt: "0232", Trace: "000976"}
	approved := hardware.TerminalAnswered{
		Payment: payment, Result: protocol.TerminalApproved, Approved: eur(2040), Ref: theirRef, Card: maestro,
		Receipt: []string{"Terminal 28004869", "VU 100461763", "Receipt 0470", "Trace 000470", "Card Debit Mastercard *4771", "Approval 611804", "GEN.NR.:611804"},
	}
	text := approved
	text.Receipt = []string{"Beleg 0470", "", "Beleg 0470"}
	for _, c := range []struct {
		section string // of S (PA00P015) or T (PA00P016)
		hold    bool
		jobs    []any
		script  []string
		want    []hardware.Event
	}{
		{
			"S2.2 authorization: approved, the result comes twice", false,
			[]any{pay},
			[]string{
				asked, "< " + ack, "< 04 FF 01 0A", "> " + ack, "< 04 FF 01 04", "> " + ack, "< " + msg(t, 4, 0x0F, debit), "> " + ack,
				"< " + msg(t, 4, 0x0F, debit), "> " + ack, "< 06 0F 00", "> " + ack,
			},
			[]hardware.Event{status("insert_card"), status("asking_host"), approved},
		},
		{
			"S2.2.6 the terminal takes it back before the end", false,
			[]any{pay},
			[]string{
				asked, "< " + ack, "< " + msg(t, 4, 0x0F, debit), "> " + ack, "< 04 FF 01 05", "> " + ack, "< 04 0F 02 27 6C", "> " + ack,
				"< 06 1E 01 6C", "> " + ack,
			},
			[]hardware.Event{status("reversing"), canceled},
		},
		{
			"S2.2 the customer cancels", false,
			[]any{pay},
			[]string{
				asked, "< " + ack,
				"< 04 0F 1E 27 6C 29 28 00 48 69 3C F0 F1 F9 41 62 62 72 75 63 68 20 64 75 72 63 68 20 4B 75 6E 64 65", "> " + ack, "< 06 1E 01 6C", "> " + ack,
			},
			[]hardware.Event{canceled},
		},
		{
			"S2.12 reservation, S2.14 its release", true,
			[]any{job{do: toAuthorize, payment: payment, amount: eur(2500)}, job{do: toCancel, payment: payment, ref: heldRef, approved: eur(2500)}},
			[]string{
				"> 06 22 24 04 00 00 00 00 25 00 49 09 78 19 40 " + ours, "< " + ack, "< 04 FF 01 17", "> " + ack, "< " + msg(t, 4, 0x0F, held), "> " + ack,
				"< 06 0F 00", "> " + ack + "06 25 08 87 02 31 49 09 78 19 40", "< " + ack, "< " + msg(t, 4, 0x0F, booked), "> " + ack, "< 06 0F 00", "> " + ack,
			},
			[]hardware.Event{
				status("wait"),
				hardware.TerminalAnswered{
					Payment: payment, Result: protocol.TerminalApproved, Approved: eur(2500), Ref: heldRef, Card: hardware.TerminalCard{Brand: "mastercard", Last4: "8074"},
					Receipt: []string{"Terminal 52523535", "VU 804011926", "Receipt 0231", "Trace 000975", "Card MasterCard *8074", "Approval 750071"},
				},
				done(protocol.TerminalCancel, protocol.TerminalOK, "", bookedRef),
			},
		},
		{
			"S2.13 book total of what was used", true,
			[]any{job{do: toCapture, payment: payment, ref: heldRef, approved: eur(2500), amount: eur(750)}},
			[]string{
				"> 06 24 1C 87 02 31 04 00 00 00 00 07 50 49 09 78 19 40 0B 00 09 75 3B 37 35 30 30 37 31 00 00", "< " + ack,
				"< " + msg(t, 4, 0x0F, booked), "> " + ack, "< 06 0F 00", "> " + ack,
			},
			[]hardware.Event{done(protocol.TerminalCapture, protocol.TerminalOK, "", bookedRef)},
		},
		{
			"S2.13 any open pre-authorisation: the first, then none", true,
			[]any{job{do: toLast, payment: payment, ref: heldRef}, job{do: toLast, payment: payment, ref: heldRef}},
			[]string{
				"> 06 23 03 87 FF FF", "< " + ack, "< 06 1E 04 B8 87 02 31", "> " + ack + "06 20 05 00 00 00 03 03", "< " + ack, "< " + msg(t, 4, 0x0F, held), "> " + ack,
				"< 06 0F 00", "> " + ack + "06 23 03 87 FF FF", "< " + ack, "< 06 1E 04 B8 87 FF FF", "> " + ack + "06 20 05 00 00 00 03 03", "< " + ack,
				"< " + msg(t, 4, 0x0F, booked), "> " + ack, "< 06 0F 00", "> " + ack,
			},
			[]hardware.Event{
				last(hardware.HoldOpen, hardware.TerminalFound{Ref: heldRef, Result: protocol.TerminalApproved, Amount: eur(2500), Card: hardware.TerminalCard{Brand: "mastercard", Last4: "8074"}}),
				last(hardware.HoldEnded, hardware.TerminalFound{Ref: bookedRef, Result: protocol.TerminalApproved, Amount: eur(750)}),
			},
		},
		{
			"S2.9 reversal, and once more", false,
			[]any{job{do: toCancel, payment: payment, ref: theirRef, approved: eur(2040)}, job{do: toCancel, payment: payment, ref: theirRef, approved: eur(2040)}},
			[]string{
				"> 06 30 10 00 00 00 87 04 70 04 00 00 00 00 20 40 49 09 78", "< " + ack, "< " + msg(t, 4, 0x0F, taken), "> " + ack, "< 06 0F 00",
				"> " + ack + "06 30 10 00 00 00 87 04 70 04 00 00 00 00 20 40 49 09 78", "< " + ack, "< 06 1E 01 B4", "> " + ack,
			},
			[]hardware.Event{done(protocol.TerminalCancel, protocol.TerminalOK, "", reversed.Ref), done(protocol.TerminalCancel, protocol.TerminalOK, "", protocol.TerminalRef{})},
		},
		{
			"S2.8 last transaction, a reversal", false,
			[]any{job{do: toLast, payment: payment}},
			[]string{"> 06 20 05 00 00 00 03 03", "< " + ack, "< " + msg(t, 4, 0x0F, taken), "> " + ack, "< 06 0F 00", "> " + ack},
			[]hardware.Event{last(hardware.HoldNotSaid, reversed)},
		},
		{
			"S2.8 last transaction, one that was aborted", false,
			[]any{job{do: toLast, payment: payment}},
			[]string{"> 06 20 05 00 00 00 03 03", "< " + ack, "< " + msg(t, 4, 0x0F, aborted), "> " + ack, "< 06 0F 00", "> " + ack},
			[]hardware.Event{last(hardware.HoldNotSaid, hardware.TerminalFound{Ref: theirRef, Result: protocol.TerminalDeclined, Amount: eur(2040), Card: maestro})},
		},
		{
			"S2.10 refund", false,
			[]any{job{do: toRefund, payment: payment, amount: eur(150)}},
			[]string{"> 06 31 0D 00 00 00 04 00 00 00 00 01 50 49 09 78", "< " + ack, "< 06 1E 01 05", "> " + ack},
			[]hardware.Event{done(protocol.TerminalRefund, protocol.TerminalRefused, "declined", protocol.TerminalRef{})},
		},
		{
			"S2.16 end of day", false,
			[]any{job{do: toClose}},
			[]string{"> 06 50 03 00 00 00", "< " + ack, "< " + msg(t, 4, 0x0F, day), "> " + ack, "< 06 0F 00", "> " + ack + "05 01 05 00 00 00 03 02"},
			[]hardware.Event{hardware.TerminalClosed{Trace: "000982", Total: eur(958), Of: []hardware.TerminalTotal{{Brand: "mastercard", Count: 2, Sum: eur(958)}}}},
		},
		{
			"S2.16 end of day is due", false,
			[]any{pay},
			[]string{asked, "< " + ack, "< 06 1E 01 F0", "> " + ack + "06 20 05 00 00 00 03 03"},
			[]hardware.Event{no(protocol.TerminalDeclined, "day_end_due")},
		},
		{
			"S3.5 text block, print line, S2.66 unknown command, T5.2.4 a long length for a short message", false,
			[]any{pay},
			[]string{
				asked, "< " + ack, "< 0F 77 00", "> 84 83 00", "< " + msg(t, 4, 0x0F, debit), "> " + ack,
				"< 06 D3 19 06 17 1F 07 01 02 25 11 07 0A 42 65 6C 65 67 20 30 34 37 30 07 00 09 01 81", "> " + ack,
				"< 06 D1 0B 40 42 65 6C 65 67 20 30 34 37 30", "> " + ack, "< 06 0F FF 00 00", "> " + ack,
			},
			[]hardware.Event{text},
		},
		{
			"S2.21 abort, taken", false,
			[]any{pay, job{do: toAbort, payment: payment}},
			[]string{asked, "< " + ack, "> 06 B0 00", "< " + ack, "< 04 0F 02 27 6C", "> " + ack, "< 06 1E 01 6C", "> " + ack},
			[]hardware.Event{canceled},
		},
		{
			"S2.21 abort, refused: the payment had won", false,
			[]any{pay, job{do: toAbort, payment: payment}},
			[]string{asked, "< " + ack, "> 06 B0 00", "< 84 83 00", "< " + msg(t, 4, 0x0F, debit), "> " + ack, "< 06 0F 00", "> " + ack},
			[]hardware.Event{approved},
		},
		{
			"T5.2.5 a command that is refused at once", false,
			[]any{pay},
			[]string{asked, "< 84 9C 00"},
			[]hardware.Event{no(protocol.TerminalDeclined, "busy")},
		},
		{
			"T5.2 84 00 is a yes", false,
			[]any{pay},
			[]string{asked, "< 84 00 00", "< 06 1E 01 6C", "> " + ack},
			[]hardware.Event{no(protocol.TerminalAborted, "aborted")},
		},
		{
			"T4 four reads of one stream", false,
			[]any{pay},
			[]string{asked, "< 80 00", "< 00 04 FF 01", "> ", "< 0E 04 0F 02", "> " + ack, "< 27 05", "> " + ack, "< 06 1E 01 05", "> " + ack},
			[]hardware.Event{status("wait"), no(protocol.TerminalDeclined, "declined")},
		},
	} {
		t.Run(c.section, func(t *testing.T) {
			for _, dribble := range []bool{false, true} {
				r := ready(t, c.hold)
				for _, j := range c.jobs {
					r.in(j)
				}
				for _, line := range c.script {
					if b := unhex(t, line[1:]); line[0] == '<' && dribble {
						for _, x := range b {
							r.in(hardware.Bytes{B: []byte{x}})
						}
					} else {
						r.play(line)
					}
				}
				if d := cmp.Diff(c.want, r.events); d != "" || r.end != nil {
					t.Error(d, r.end)
				}
			}
		})
	}
}

// PA00P016 5.2.4: 300 bytes of data, low byte of the length first.
func TestExtendedLength(t *testing.T) {
	text := strings.Repeat("41", 281)
	whole := unhex(t, "06 D3 FF 2C 01 06 82 01 28 1F 07 01 02 25 82 01 20 07 82 01 19"+text+"09 01 81")
	var s stream
	s.feed(whole)
	a, ok, err := s.next()
	if !ok || err != nil || len(a.data) != 300 || !bytes.Equal(a.bytes(), whole) {
		t.Fatalf("%v %v %d", ok, err, len(a.data))
	}
	if f := parse(a.data); f.cut || f.kind != 2 || len(f.printed) != 1 || len(f.printed[0]) != textMost {
		t.Errorf("%+v", f)
	}
}

// PA00P015 5: an acknowledgment with data, and a completion with a container.
func TestMessageIDs(t *testing.T) {
	r := newRig(t, false)
	r.play("> 06 00 0A 00 00 00 3E 09 78 03 01 06 00", "< 80 00 08 06 06 1F 73 03 00 00 01",
		"< 06 0F 18 19 00 29 65 00 00 28 49 09 78 06 0C 26 04 0A 02 06 D3 1F 73 03 00 00 00", "> "+ack+"05 01 05 00 00 00 03 02")
	if r.s.id != "65000028" {
		t.Error(r.s.id)
	}
}

// PA00P015 2.8: what stands last in the books may have been aborted; the terminal is ready all the same.
func TestLastWasAborted(t *testing.T) {
	r := newRig(t, false)
	r.play("> 06 00 0A 00 00 00 3E 09 78 03 01 06 00", "< "+ack, "< 06 0F 0A 19 10 29 52 52 35 35 49 09 78",
		"> "+ack+"05 01 05 00 00 00 03 02", "< "+ack, "< 06 0F 01 00", "> "+ack+"06 20 05 00 00 00 03 03",
		"< "+ack, "< "+msg(t, 4, 0x0F, aborted), "> "+ack, "< 06 0F 00", "> "+ack)
	want := hardware.TerminalReady{Terminal: "52523535", Last: hardware.TerminalFound{Ref: theirRef, Result: protocol.TerminalDeclined, Amount: eur(2040), Card: maestro}}
	if got := r.events[len(r.events)-1]; !cmp.Equal(got, want) {
		t.Fatal(cmp.Diff(want, got))
	}
}

// PA00P015 2.1: a register of another currency, or with a wrong password.
func TestRegistrationRefused(t *testing.T) {
	r := newRig(t, false)
	r.play("> 06 00 0A 00 00 00 3E 09 78 03 01 06 00", "< 84 1E 03 6F 07 56")
	h, ok := r.events[0].(hardware.Health)
	if r.end == nil || !ok || h.State != hardware.Fault {
		t.Error(r.end, r.events)
	}
}

// PA00P015 7, 2.55: what a status may look like.
func TestStatus(t *testing.T) {
	for _, c := range []struct {
		data string
		want byte
		ok   bool
	}{
		{"00", 0, true},
		{"F0", 0xF0, true},
		{"F0 F0 F3 31 2E 30 9C", 0x9C, true},
		{"F0 F0 F3 31 2E 30 F0 06 00", 0xF0, true},
		{"F6 06 00", 0xF6, true},
		{"", 0, false},
	} {
		if got, _, ok := readStatus(unhex(t, c.data)); got != c.want || ok != c.ok {
			t.Errorf("%s: %02X %v", c.data, got, ok)
		}
	}
}

// PA00P016: T3 ends the connection 5 s after a command, T4 180 s after its 80; 04 FF begins it anew, and
// may say how long it is.
func TestTimes(t *testing.T) {
	pay := job{do: toAuthorize, payment: payment, amount: eur(2040)}
	unknown := hardware.TerminalAnswered{Payment: payment, Result: protocol.TerminalUnknown, Reason: "lost", Approved: eur(0)}
	late := func(r *rig) {
		t.Helper()
		r.now = r.wake - 1
		r.in(hardware.Wake{})
		if r.end != nil {
			t.Fatal("ended early")
		}
		r.now++
		r.in(hardware.Wake{})
		if r.end == nil || !cmp.Equal(r.events[len(r.events)-1], hardware.Event(unknown)) {
			t.Fatal(r.end, r.events)
		}
	}
	r := ready(t, false)
	r.in(pay)
	if r.wake != answerTime {
		t.Error(r.wake)
	}
	late(r)

	r = ready(t, false)
	r.in(pay)
	r.play("< " + ack)
	r.now = 100 * time.Second
	r.play("< 04 FF 01 0A")
	if r.wake != 280*time.Second {
		t.Error(r.wake)
	}
	r.play("< 04 FF 02 0A 10") // ten minutes, BCD
	if r.wake != 700*time.Second {
		t.Error(r.wake)
	}
	for range 20 { // and it goes on for ever
		r.now += time.Minute
		r.play("< 04 FF 02 0A 10")
	}
	if r.wake != longest {
		t.Error(r.wake)
	}
	r.now = longest
	r.in(hardware.Wake{})
	if r.end == nil {
		t.Error("it waits for ever")
	}
}

// A command whose first byte never left was not sent; one of which some did may have been done.
func TestNeverLeft(t *testing.T) {
	for _, n := range []int{0, 5} {
		s := ready(t, false).s
		s, o := s.Step(0, job{do: toAuthorize, payment: payment, amount: eur(2040)})
		s, _ = s.Step(0, hardware.Wrote{N: n, Err: errFrame})
		_, o2 := s.Step(0, hardware.Closed{})
		e, ok := o2.Do[0].Emit.(hardware.TerminalAnswered)
		if want := pick(n == 0, protocol.TerminalUnsent, protocol.TerminalUnknown); len(o.Do) != 1 || !ok || e.Result != want {
			t.Errorf("%d bytes: %+v", n, e)
		}
	}
}

// What waits when the line goes was not sent, and each is answered once.
func TestQueueEnds(t *testing.T) {
	r := ready(t, true)
	ids := map[protocol.PaymentID]int{}
	for i := range byte(queueMost + 3) {
		r.in(job{do: toAuthorize, payment: protocol.PaymentID{i + 1}, amount: eur(1)})
	}
	r.in(hardware.Closed{})
	for i, e := range r.events {
		e := e.(hardware.TerminalAnswered)
		ids[e.Payment]++
		if e.Result == protocol.TerminalUnknown != (e.Payment == protocol.PaymentID{1}) {
			t.Errorf("%d: %+v", i, e)
		}
	}
	if len(ids) != queueMost+3 || len(r.events) != len(ids) {
		t.Error(ids)
	}
}

// PCI: no card number comes through, whatever a terminal puts where.
func TestNoCardNumber(t *testing.T) {
	pan := "4012888888881881"
	var text string
	for _, c := range pan {
		text += fmt.Sprintf("%02X", c)
	}
	f := parse(unhex(t, "22 F0 F8"+pan+"23 F1 F0"+pan+"D1 23 3C F0 F1 F6"+text+"8B F1 F6"+text+"2D F1 F6"+text+
		"06 30 25 12 07 10"+text+"24 12 07 10"+text+"42 06 41 42 43 44 45 46"))
	if f.cut || f.last4 != "1881" || f.app != "ABCDEF" {
		t.Errorf("%+v", f)
	}
	if s := fmt.Sprintf("%+v", f); strings.Contains(s, "401288888888") || strings.Contains(s, "3132383838") {
		t.Error(s)
	}
	var s stream
	s.feed(append([]byte{4, 0x0F, 11, 0x22, 0xF0, 0xF8}, unhex(t, pan)...))
	before := s.buf
	if _, ok, _ := s.next(); !ok || bytes.Contains(before, unhex(t, pan[:8])) {
		t.Error("it stays in memory")
	}
}

func TestCutFields(t *testing.T) {
	for _, c := range []string{"04 00", "FF", "22", "22 F9", "22 F9 F9 00", "06", "06 80", "06 02 1F", "06 03 1F 07 05", "0B 00 00", "3C FA F0 F0"} {
		if f := parse(unhex(t, c)); !f.cut {
			t.Errorf("%s: %+v", c, f)
		}
	}
	if f := parse(unhex(t, "27 05 C3 04")); !f.cut || f.result != 5 {
		t.Errorf("what was read is kept: %+v", f)
	}
}

// FuzzFields: no message harms; a number it gives is one.
func FuzzFields(f *testing.F) {
	for _, s := range []string{debit, held, booked, taken, day, "06 17 1F 07 01 02 25 11 07 0A 42 65 6C 65 67 20 30 34 37 30 07 00 09 01 81"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x := parse(b)
		if x.amount < 0 || x.amount > 999_999_999_999 || len(x.printed) > len(b) || len(x.last4) > 4 {
			t.Errorf("%+v", x)
		}
		_ = totals(x.totals)
		_, _, _ = readStatus(b)
	})
}

// FuzzStream: a stream gives the same messages however it is cut, and they are what was in it.
func FuzzStream(f *testing.F) {
	f.Add(unhex(f, "80 00 00 04 FF 01 0E 04 0F 02 27 05"), uint8(3))
	f.Add(unhex(f, "04 0F FF 02 00 27 00"), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		read := func(step int) (out []apdu, end error) {
			var s stream
			for at := 0; at < len(b); at += step {
				s.feed(b[at:min(at+step, len(b))])
				for {
					a, ok, err := s.next()
					if err != nil {
						return out, err
					}
					if !ok {
						break
					}
					out = append(out, a)
				}
			}
			return out, nil
		}
		whole, err := read(max(1, len(b)))
		parts, err2 := read(int(cut%7) + 1)
		if (err == nil) != (err2 == nil) || len(whole) != len(parts) {
			t.Fatalf("%d messages, %v; in parts %d, %v", len(whole), err, len(parts), err2)
		}
		for i, a := range whole {
			var s stream
			s.feed(a.bytes())
			again, ok, _ := s.next()
			if !ok || !bytes.Equal(again.data, a.data) || !bytes.Equal(parts[i].data, a.data) {
				t.Errorf("% X", a.bytes())
			}
		}
	})
}

// FuzzState: whatever a terminal says, a payment is answered at most once, and once when the line ends.
func FuzzState(f *testing.F) {
	f.Add(unhex(f, "80 00 00 04 0F 02 27 05 06 1E 01 05"))
	f.Add(unhex(f, "80 00 00"+msg(f, 4, 0x0F, debit)+"06 0F 00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, hold := range []bool{false, true} {
			r := ready(t, hold)
			r.in(job{do: toAuthorize, payment: payment, amount: eur(2040)})
			r.in(job{do: toCancel, payment: payment, ref: theirRef, approved: eur(2040)})
			r.in(job{do: toLast, payment: payment})
			r.in(job{do: toClose})
			r.in(hardware.Bytes{B: b})
			r.in(hardware.Closed{})
			n := map[string]int{}
			for _, e := range r.events {
				n[fmt.Sprintf("%T", e)]++
			}
			for _, k := range []string{"Answered", "Done", "Last", "Closed"} {
				if n["hardware.Terminal"+k] != 1 {
					t.Errorf("%s: %v", k, n)
				}
			}
		}
	})
}
