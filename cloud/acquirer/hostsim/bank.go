// Package hostsim is a bank: an independent host for tests, the simulator and the demo.
//
//	bank := hostsim.NewBank(hostsim.Options{Behave: hostsim.Magic})
//	for _, r := range bank.Handle(now, message) { ... send r.Frame after r.After ... }
//	books := bank.Books()                     // what stands at the host, to compare with our own
//
//	srv, err := hostsim.Open(hostsim.Config{Bank: bank})   // the same on a socket
//	err = srv.Run(ctx)
//
// Bank is plain: no clock, no goroutine; a simulator drives it. It shares with the link it tests
// the dialect's data file and not one line of code, so that a mistake of one shows at the other.
//
// It keeps books as real hosts do, unkindly: an approval that arrives after its reversal is booked
// and holds the buyer's money; code 25 answers a reversal whose original it never saw; the same
// message type with the same keys again is a duplicate, 94, and only its repeat (x1) gets the
// stored answer.
package hostsim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Entry is what the bank knows of one authorization, sale or refund. Amounts are minor units of
// Currency.
type Entry struct {
	TID      string    `json:"tid"`
	MID      string    `json:"mid"`
	MTI      string    `json:"mti"` // of the request that made it: 0100, 0200, 0220
	STAN     string    `json:"stan"`
	DE7      string    `json:"de7"`
	RRN      string    `json:"rrn"`
	AuthID   string    `json:"auth_id"`
	Currency string    `json:"currency"` // ISO 4217 number
	Asked    int64     `json:"asked"`
	Approved int64     `json:"approved"` // 0 = declined
	Code     string    `json:"code"`     // DE39
	Held     int64     `json:"held"`     // reserved on the buyer's account now
	Captured int64     `json:"captured"` // debited from it
	Refunded int64     `json:"refunded"` // given back to it
	Reversed bool      `json:"reversed"`
	Last4    string    `json:"last4"` // the last four digits
	At       time.Time `json:"at"`
}

// Stands is what the buyer is short of: held or debited and not given back.
func (e Entry) Stands() int64 { return e.Held + e.Captured - e.Refunded }

// Reply is one thing the bank does in answer to a message.
type Reply struct {
	After time.Duration // from now
	Frame []byte        // the message to send, without its length; nil for none
	Drop  bool          // close the connection then
}

// Options of a Bank. The zero value approves everything.
type Options struct {
	Behave func(now time.Time, s Summary) Behavior // nil: approve
}

// Bank is a host's books. It is not safe for concurrent use.
type Bank struct {
	dialect *dialect
	behave  func(time.Time, Summary) Behavior
	entries []*Entry
	places  map[*Entry]int    // in entries
	byOrig  map[string]*Entry // by MTI, TID, MID, STAN and DE7 of every request that touched it
	byRRN   map[string]*Entry // by TID, MID and RRN
	answers map[string][]byte // by the keys of a request
	auths   int
	changed []Line
}

// Line is one change of the books, for a file. Lines given to Load in order rebuild the bank.
type Line struct {
	Entry  *Entry   `json:"entry,omitempty"`
	Index  int      `json:"index"`            // of Entry in the books
	Orig   []string `json:"orig,omitempty"`   // keys Entry can be found by from now on
	Key    string   `json:"key,omitempty"`    // of the request
	Answer []byte   `json:"answer,omitempty"` // what its repeat gets
	Auths  int      `json:"auths"`
}

// NewBank has empty books.
func NewBank(o Options) *Bank {
	b := &Bank{dialect: ascii87(), behave: o.Behave, places: map[*Entry]int{}, byOrig: map[string]*Entry{}, byRRN: map[string]*Entry{}, answers: map[string][]byte{}}
	if b.behave == nil {
		b.behave = func(time.Time, Summary) Behavior { return Behavior{} }
	}
	return b
}

// Books is a copy of all entries, in the order they were made.
func (b *Bank) Books() []Entry {
	out := make([]Entry, len(b.entries))
	for i, e := range b.entries {
		out[i] = *e
	}
	return out
}

// Take returns the changes since it was last called.
func (b *Bank) Take() []Line {
	out := b.changed
	b.changed = nil
	return out
}

// Load applies a line another bank's Take returned.
func (b *Bank) Load(l Line) error {
	if l.Entry != nil {
		switch {
		case l.Index == len(b.entries):
			b.entries = append(b.entries, new(Entry))
		case l.Index < 0 || l.Index > len(b.entries):
			return fmt.Errorf("books: line of entry %d, have %d", l.Index, len(b.entries))
		}
		e := b.entries[l.Index]
		*e = *l.Entry
		b.places[e] = l.Index
		b.index(e, l.Orig)
	}
	if l.Key != "" {
		b.answers[l.Key] = l.Answer
	}
	b.auths = l.Auths
	return nil
}

func (b *Bank) index(e *Entry, orig []string) {
	for _, k := range orig {
		b.byOrig[k] = e
	}
	if e.RRN != "" && e.Approved > 0 {
		b.byRRN[rrnKey(e.TID, e.MID, e.RRN)] = e
	}
}

// Handle takes one message, without its length, and says what the bank does. A message that cannot
// be read closes the connection.
func (b *Bank) Handle(now time.Time, frame []byte) []Reply {
	req, err := b.dialect.parse(frame)
	if err != nil {
		return []Reply{{Drop: true}}
	}
	if req.mti[2]%2 == 1 { // a response to one of our own
		return nil
	}
	if req.mti[1] == '8' {
		return []Reply{{Frame: b.dialect.write(network(req))}}
	}
	s := summary(req)
	how := b.behave(now, s)
	if how.DropBefore {
		return []Reply{{Drop: true}}
	}
	answer := b.book(now, req, s, how)
	return b.misbehave(answer, how)
}

// Refuse is the answer of a host that has not been signed on to: 91, nothing booked. nil for a
// message that needs no sign-on or cannot be read.
func (b *Bank) Refuse(frame []byte) []byte {
	req, err := b.dialect.parse(frame)
	if err != nil || req.mti[1] == '8' || req.mti[2]%2 == 1 {
		return nil
	}
	return b.dialect.write(b.respond(req, "91"))
}

// book does what the message asks, once, and returns the answer.
func (b *Bank) book(now time.Time, req message, s Summary, how Behavior) message {
	key := requestKey(req)
	if stored, seen := b.answers[key]; seen {
		if !s.Repeat {
			return b.respond(req, "94")
		}
		m, err := b.dialect.parse(stored)
		if err != nil {
			panic("hostsim: stored answer: " + err.Error())
		}
		m.f[7] = req.f[7] // the repeat's own transmission time
		return m
	}
	if how.Decline != "" && s.MTI != "0100" && s.MTI != "0200" {
		return b.respond(req, how.Decline) // a soft refusal of an advice: not stored, so it may come again
	}
	if s.MTI == "0420" && b.original(req) == nil {
		return b.respond(req, "25") // not stored: the original may still come, and then a repeat finds it
	}
	line := Line{Index: -1, Key: key}
	var e *Entry
	var answer message
	switch s.MTI {
	case "0100", "0200":
		e, answer = b.authorize(now, req, s, how, &line)
	case "0220":
		e, answer = b.capture(now, req, s, &line)
	case "0420":
		e, answer = b.reverse(req, s)
	default:
		answer = b.respond(req, "12")
	}
	line.Answer = b.dialect.write(answer)
	if e != nil {
		line.Index = b.places[e]
		at := *e
		line.Entry = &at
		b.index(e, line.Orig)
	}
	line.Auths = b.auths
	b.answers[key] = line.Answer
	b.changed = append(b.changed, line)
	return answer
}

func (b *Bank) authorize(now time.Time, req message, s Summary, how Behavior, line *Line) (*Entry, message) {
	if strings.HasPrefix(req.f[3], "20") {
		return b.refund(req, s, how)
	}
	code, approved := "00", s.Amount
	switch {
	case how.Decline != "":
		code, approved = how.Decline, 0
	case how.Partial > 0 && how.Partial < s.Amount:
		code, approved = "10", how.Partial
	}
	answer := b.respond(req, code)
	e := b.open(now, req, s, line)
	e.Approved, e.Code = approved, code
	if approved == 0 {
		return e, answer
	}
	e.AuthID = b.nextAuth()
	if s.MTI == "0200" {
		e.Captured = approved
	} else {
		e.Held = approved
	}
	answer.f[4], answer.f[38], answer.f[15] = twelve(approved), e.AuthID, now.UTC().Format("0102")
	if code == "10" {
		answer.f[54] = "0057" + req.f[49] + "D" + req.f[4] // 57: the amount asked for
	}
	return e, answer
}

func (b *Bank) refund(req message, s Summary, how Behavior) (*Entry, message) {
	e := b.original(req)
	switch {
	case how.Decline != "":
		return nil, b.respond(req, how.Decline)
	case e == nil:
		return nil, b.respond(req, "25")
	case e.Refunded+s.Amount > e.Captured:
		return nil, b.respond(req, "64")
	}
	e.Refunded += s.Amount
	answer := b.respond(req, "00")
	answer.f[38] = b.nextAuth()
	return e, answer
}

// capture completes a hold, or books a sale made offline when nothing says there was a hold.
func (b *Bank) capture(now time.Time, req message, s Summary, line *Line) (*Entry, message) {
	e := b.original(req)
	switch {
	case e == nil && req.f[90] != "":
		return nil, b.respond(req, "25")
	case e == nil:
		e = b.open(now, req, s, line)
		e.Approved, e.Captured, e.Code, e.AuthID = s.Amount, s.Amount, "00", strings.TrimSpace(req.f[38])
		return e, b.respond(req, "00")
	case e.Reversed || e.Captured > 0:
		return nil, b.respond(req, "12")
	case s.Amount > e.Held:
		return nil, b.respond(req, "13")
	}
	e.Held, e.Captured = 0, s.Amount // the rest of the hold is released
	line.Orig = append(line.Orig, origKey(req.f[41], req.f[42], s.MTI, req.f[11], req.f[7]))
	return e, b.respond(req, "00")
}

func (b *Bank) reverse(req message, s Summary) (*Entry, message) {
	e := b.original(req)
	switch {
	case e.Approved == 0:
		return nil, b.respond(req, "25") // declined: nothing to reverse
	case s.Actual > 0 && e.Captured > 0:
		e.Captured = min(e.Captured, s.Actual)
	case s.Actual > 0:
		e.Held = min(e.Held, s.Actual)
	case e.Captured > 0 && e.MTI == "0100" && !strings.HasPrefix(req.f[90], "0220"):
		return nil, b.respond(req, "12") // already completed: the completion must be reversed
	default:
		e.Held, e.Captured, e.Reversed = 0, 0, true
	}
	return e, b.respond(req, "00")
}

func (b *Bank) open(now time.Time, req message, s Summary, line *Line) *Entry {
	e := &Entry{
		TID: s.TID, MID: strings.TrimSpace(req.f[42]), MTI: s.MTI, STAN: s.STAN, DE7: req.f[7], RRN: s.RRN,
		Currency: req.f[49], Asked: s.Amount, Last4: s.Last4, At: now.UTC(),
	}
	b.places[e] = len(b.entries)
	b.entries = append(b.entries, e)
	line.Orig = append(line.Orig, origKey(req.f[41], req.f[42], s.MTI, req.f[11], req.f[7]))
	return e
}

func (b *Bank) nextAuth() string {
	b.auths++
	return fmt.Sprintf("%06d", 100_000+b.auths)
}

// original is the entry a follow-up means: by DE90 when it has one, else by RRN.
func (b *Bank) original(req message) *Entry {
	if o := req.f[90]; o != "" {
		return b.byOrig[origKey(req.f[41], req.f[42], o[:3]+"0", o[4:10], o[10:20])]
	}
	if req.f[37] == "" {
		return nil
	}
	return b.byRRN[rrnKey(strings.TrimSpace(req.f[41]), strings.TrimSpace(req.f[42]), strings.TrimSpace(req.f[37]))]
}

// respond echoes what hosts echo, with code in DE39.
func (b *Bank) respond(req message, code string) message {
	return echo(req, code, 3, 4, 7, 11, 12, 13, 32, 33, 37, 41, 42, 49, 90)
}

func network(req message) message { return echo(req, "00", 7, 11, 32, 33, 70) }

func echo(req message, code string, numbers ...int) message {
	m := message{mti: answerTo(req.mti), f: new(fields)}
	for _, n := range numbers {
		m.f[n] = req.f[n]
	}
	m.f[39] = code
	return m
}

func answerTo(mti string) string { return mti[:2] + string(mti[2]+1) + "0" }

// requestKey is what makes two requests the same one: message class, DE41, DE42, DE11, DE12, DE13
// and DE37. DE7 is not in it: some profiles give a repeat its own.
func requestKey(req message) string {
	return req.mti[:3] + "|" + req.f[41] + "|" + req.f[42] + "|" + req.f[11] + "|" + req.f[12] + "|" + req.f[13] + "|" + req.f[37]
}

func origKey(tid, mid, mti, stan, de7 string) string {
	return strings.TrimSpace(tid) + "|" + strings.TrimSpace(mid) + "|" + mti + "|" + stan + "|" + de7
}

func rrnKey(tid, mid, rrn string) string { return tid + "|" + mid + "|" + rrn }

func twelve(minor int64) string { return fmt.Sprintf("%012d", minor) }

func minor(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
