package session

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the outputs in testdata")

// TestScripts runs the flows in testdata. "== name (options)" begins a lane of its own; a line that
// begins with ">" is an event, and what it made is printed below it: rows, next phase, records in
// brackets, effects. Ids are small numbers: sale s1, its vends v11, v12 …, payment p1, its spare p101.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, f := range scripts(t) {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			want, got := runScript(t, f, newCoverage())
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s (-want +got), -update rewrites it:\n%s", f, d)
			}
		})
	}
}

func scripts(t *testing.T) []string {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	return files
}

func runScript(t *testing.T, file string, cov *coverage) (want, got string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	var r *rig
	end := func() {
		if r != nil {
			r.atEnd()
		}
	}
	for n, line := range strings.Split(string(b), "\n") {
		where := fmt.Sprintf("%s:%d", file, n+1)
		switch {
		case strings.HasPrefix(line, "== "):
			if end(); r != nil {
				out.WriteString("\n")
			}
			_, options, _ := strings.Cut(strings.TrimSuffix(line, ")"), "(")
			r = scriptRig(t, where, strings.Fields(options), cov)
			out.WriteString(line + "\n")
		case strings.HasPrefix(line, "> "):
			r.where = where
			out.WriteString(line + "\n" + r.line(strings.Fields(line[2:])))
		case strings.HasPrefix(line, "#"):
			out.WriteString(line + "\n")
		}
	}
	end()
	return string(b), out.String()
}

// offlineOn is a policy of offline payments: up to 10.00 each, 50.00 in all.
var offlineOn = protocol.OfflinePolicy{On: true, Kind: protocol.OfflineDeferred, MaxOne: 1000, MaxSum: 5000, MaxCount: 5}

func scriptRig(t *testing.T, where string, options []string, cov *coverage) *rig {
	cfg, p := Config{Flow: protocol.SelectionFirst}, protocol.Policy{}
	evidence, cold := false, false
	for _, o := range options {
		switch o {
		case "card_first":
			cfg.Flow, cfg.Bus = protocol.CardFirst, protocol.BusMDB
		case "mdb":
			cfg.Bus = protocol.BusMDB
		case "owns_motor":
			cfg.OwnsMotor = true
		case "offline":
			p.Offline = offlineOn
		case "sensed":
			p.MinGrade = protocol.GradeSensed
		case "stop_on_failure":
			p.StopOnFailure = true
		case "hinted_is_free":
			p.HintedIsFree = true
		case "one_attempt":
			p.Attempts = 1
		case "cash":
			cfg.Cash = true
		case "terminal":
			cfg.Terminal = true
		case "evidence":
			evidence = true
		case "cold":
			cold = true
		default:
			t.Fatalf("%s: no option %q", where, o)
		}
	}
	r := newRig(t, where, cov, cfg, p)
	if !cold {
		r.warm(evidence)
	}
	return r
}

// line runs one line of a script and prints what came of it.
func (r *rig) line(w []string) string {
	switch w[0] {
	case "wait":
		d, err := time.ParseDuration(w[1])
		if err != nil {
			r.fail("%v", err)
		}
		r.now.Mono += d
		r.now.SinceAnchor += d
		return ""
	case "no_anchor":
		r.now.Anchor = protocol.AnchorID{}
		return ""
	case "booted":
		r.restart()
	}
	o := r.step(r.event(w))
	r.cov.scripted(o)
	var b strings.Builder
	rows := strings.Join(o.Rows(), " ")
	if rows == "" {
		rows = "-"
	}
	fmt.Fprintf(&b, "    %s: %s\n", rows, phaseName(r.s))
	for _, rec := range o.Records {
		fmt.Fprintf(&b, "        [%s]\n", recordText(rec))
	}
	for _, bl := range o.Blobs {
		fmt.Fprintf(&b, "        [blob %s]\n", pN(bl.Payment))
	}
	for _, e := range o.Effects {
		fmt.Fprintf(&b, "        -> %s\n", effectText(e))
	}
	return b.String()
}

// args are the words of a script's line: positional ones, and options as key=value or a bare name.
type args struct {
	r *rig
	w []string
}

func (a args) at(i int) string {
	if i >= len(a.w) {
		a.r.fail("%v: an argument is missing", a.w)
	}
	return a.w[i]
}

func (a args) option(name, def string) string {
	for _, w := range a.w {
		if w == name {
			return name
		}
		if v, ok := strings.CutPrefix(w, name+"="); ok {
			return v
		}
	}
	return def
}

func (a args) number(s string) int {
	n, err := strconv.Atoi(strings.TrimLeft(s, "spv"))
	if err != nil {
		a.r.fail("%v: %v", a.w, err)
	}
	return n
}

func (a args) name(s string, names ...string) uint8 {
	for i, n := range names {
		if n == s {
			return uint8(i)
		}
	}
	a.r.fail("%q is none of %v", s, names)
	return 0
}

func (a args) vend() (v protocol.VendID) {
	if s := a.at(1); s != "-" {
		v = mk[protocol.VendID](a.number(s))
	}
	return v
}

func (a args) grade(def string) protocol.Grade {
	return protocol.Grade(a.name(a.option("grade", def), "none", "reported", "counted", "sensed"))
}

// event reads one event of a script.
func (r *rig) event(w []string) Event {
	a := args{r, w}
	switch w[0] {
	case "booted":
		return Booted{}
	case "order":
		return a.order()
	case "card": // p1 [sale=s1] [tc] [own]
		c := tap(a.number(a.at(1)))
		if s := a.option("sale", ""); s != "" {
			c.Sale = mk[protocol.SaleID](a.number(s))
		}
		c.TC, c.Loop = a.option("tc", "") != "", a.option("own", "") != ""
		return c
	case "cancel":
		return Cancel{"buyer"}
	case "card_failed":
		return CardFailed{"read_error"}
	case "aac":
		return CardAAC{}
	case "removed":
		return CardRemoved{}
	case "received":
		return Received{mk[protocol.PaymentID](a.number(a.at(1)))}
	case "answer":
		return a.answer()
	case "timer": // vend [stale]
		n := TimerName(a.name(a.at(1), "", "order", "wait", "vend", "evidence", "session", "change", "terminal"))
		if a.option("stale", "") != "" {
			return Timer{n, r.s.timers[n] + 100}
		}
		return Timer{n, r.s.timers[n]}
	case "vend_request":
		return a.vendRequest()
	case "vend_cancel":
		return VendCancel{}
	case "approval": // v11 delivered
		return Approval{a.vend(), Delivery(a.name(a.at(2), "", "delivered", "withdrawn", "maybe"))}
	case "success": // v11 [grade=sensed]
		return VendSuccess{Vend: a.vend(), Grade: a.grade("reported")}
	case "failure":
		return VendFailure{a.vend()}
	case "reset":
		return BusReset{}
	case "complete":
		return SessionComplete{}
	case "port_gone":
		return PortGone{}
	case "evidence": // v11 delivered [grade=counted]
		return Evidence{a.vend(), protocol.VendOutcome(a.name(a.at(2), "", "delivered", "failed", "presumed")), a.grade("sensed"), protocol.SourceSensor}
	}
	return a.noted()
}

// noted are the events that do not belong to a sale.
func (a args) noted() Event {
	switch a.w[0] {
	case "bus": // up [evidence]
		return BusState{State: BusUp(a.name(a.at(1), "", "up", "down", "enabled", "disabled")), At: a.r.now.Mono, HasEvidence: a.option("evidence", "") != ""}
	case "link":
		return Link{LinkState(a.name(a.at(1), "", "up", "down", "cloud", "acquirer", "slow"))}
	case "accounts": // up
		return Accounts{a.name(a.at(1), "down", "up") == 1}
	case "policy": // 2
		q := a.r.policy
		q.Version = uint64(a.number(a.at(1)))
		return NewPolicy{Policy: q}
	case "storage":
		return Storage{StorageState(a.name(a.at(1), "", "ok", "full", "readonly", "corrupt"))}
	case "means": // [why]: none without one
		why := ""
		if len(a.w) > 1 {
			why = a.at(1)
		}
		return Means{why}
	case "headroom":
		return Headroom{Counters: protocol.Counters{Exposure: int64(a.number(a.at(1))), Count: 1}}
	case "stopped":
		return Stopped{"device_stopped"}
	case "tamper":
		return Tamper{Cleared: a.option("cleared", "") != ""}
	case "door":
		return Door{a.option("open", "") != ""}
	}
	if strings.HasPrefix(a.w[0], "t_") {
		return a.terminal()
	}
	return a.cash()
}

// tRef is a transaction of the terminal by its receipt number.
func tRef(n int) protocol.TerminalRef {
	return protocol.TerminalRef{Terminal: "t", Receipt: fmt.Sprintf("%04d", n), Trace: fmt.Sprintf("%06d", n)}
}

// terminal are the events of a terminal.
func (a args) terminal() Event {
	pay := func() protocol.PaymentID { return mk[protocol.PaymentID](a.number(a.at(1))) }
	num := func(i int) (n int) {
		if i < len(a.w) && a.w[i][0] >= '0' && a.w[i][0] <= '9' {
			n = a.number(a.w[i])
		}
		return n
	}
	ref := func(i int) (r protocol.TerminalRef) {
		if num(i) > 0 {
			r = tRef(num(i))
		}
		return r
	}
	switch a.w[0] {
	case "t_ready": // 10 [due] [id=u]: the last receipt
		return TerminalReady{Terminal: a.option("id", "t"), Last: ref(1), Due: a.option("due", "") != ""}
	case "t_gone":
		return TerminalGone{}
	case "t_status":
		return TerminalStatus{Payment: pay(), Code: a.at(2)}
	case "t_answer": // p1 approved 150 11
		return TerminalAnswered{
			Payment: pay(), Result: protocol.TerminalResult(a.name(a.at(2), "", "approved", "declined", "aborted", "unsent", "unknown")),
			Approved: eur(int64(num(3))), Ref: ref(4), Card: TerminalCard{Brand: "visa", Last4: "0011"},
		}
	case "t_done": // p1 cancel ok 12
		e := TerminalDone{Payment: pay(), Op: protocol.TerminalOp(a.name(a.at(2), "", "capture", "cancel")), End: protocol.TerminalEnd(a.name(a.at(3), "", "ok", "refused", "not_sent", "lost")), Ref: ref(4)}
		if e.End != protocol.TerminalOK {
			e.Reason = a.at(3)
		}
		return e
	case "t_last": // p1 11 150 [declined] [taken=10] [open] [ended] | p1 ? [never]
		e := TerminalLast{Payment: pay(), Known: a.at(2) != "?", Never: a.option("never", "") != "", Ref: ref(2), Amount: eur(int64(num(3))), Approved: a.option("declined", "") == ""}
		if n := a.option("taken", ""); n != "" {
			e.Original = tRef(a.number(n)).Trace
		}
		if a.option("open", "") != "" {
			e.Hold = HoldOpen
		}
		if a.option("ended", "") != "" {
			e.Hold = HoldEnded
		}
		return e
	case "t_close":
		return CloseDay{}
	case "t_closed": // [reason]
		return TerminalClosed{protocol.TerminalClosed{Reason: strings.Join(a.w[1:], " "), Total: eur(150)}}
	}
	a.r.fail("no event %q", a.w[0])
	return nil
}

// cash are the events of a coin changer and a bill validator.
func (a args) cash() Event {
	switch a.w[0] {
	case "cash": // p1 200 [bill] [box]
		c := CashIn{Payment: mk[protocol.PaymentID](a.number(a.at(1))), Value: eur(int64(a.number(a.at(2))))}
		c.Bill = a.option("bill", "") != ""
		c.Box = c.Bill || a.option("box", "") != ""
		return c
	case "held": // 500
		return BillHeld{eur(int64(a.number(a.at(1))))}
	case "returned":
		return BillReturned{eur(0)}
	case "paid": // 50 [reason] | ? reason: nobody could count
		p := Paid{ID: a.r.s.paying, Given: eur(0), Known: a.at(1) != "?"}
		if p.Known {
			p.Given = eur(int64(a.number(a.at(1))))
		}
		if len(a.w) > 2 {
			p.Reason = a.w[2]
		}
		return p
	case "level": // gone | still | low; tubes: 50=3 200=0
		l := CashLevel{Known: a.option("gone", "") == "", Still: a.option("still", "") != "", Exact: a.option("low", "") != ""}
		for _, v := range []int{10, 50, 100, 200} {
			l.Tubes = append(l.Tubes, money.Tube{Value: int64(v), Count: uint16(a.number(a.option(strconv.Itoa(v), "5")))})
		}
		return l
	}
	a.r.fail("no event %q", a.w[0])
	return nil
}

// order reads "s1 150 80x2 [test] [bad_lines]": a line each, 80x2 is two of one product.
func (a args) order() Event {
	n := a.number(a.at(1))
	o := Order{Sale: mk[protocol.SaleID](n), Class: protocol.Live, Payment: mk[protocol.PaymentID](n)}
	for _, w := range a.w[2:] {
		switch w {
		case "test":
			o.Class = protocol.Test
			continue
		case "cash":
			o.Cash = true
			continue
		case "bad_lines":
			o.Lines[0].Amount.Minor++
			continue
		}
		price, times, _ := strings.Cut(w, "x")
		qty := 1
		if times != "" {
			qty = a.number(times)
		}
		unit, line := eur(int64(a.number(price))), len(o.Lines)
		sum, _ := unit.Mul(int64(qty))
		o.Lines = append(o.Lines, protocol.Line{Product: fmt.Sprintf("item%d", line+1), Outlet: protocol.Outlet(line + 1), Qty: uint16(qty), Unit: unit, Amount: sum})
		for range qty {
			o.Items = append(o.Items, protocol.Item{Vend: mk[protocol.VendID](n*10 + len(o.Items) + 1), Line: uint8(line), Outlet: protocol.Outlet(line + 1), Amount: unit})
		}
	}
	return o
}

// answer reads "p1 approved 150 [acquirer_down] [other_ask]".
func (a args) answer() Event {
	p := mk[protocol.PaymentID](a.number(a.at(1)))
	res := protocol.AuthorizationResponse{
		Payment: p, AskHash: a.r.books.payments[p].ask, Answer: protocol.AnswerID{p[0], p[1]},
		Result: protocol.Result(a.name(a.at(2), "", "approved", "partial", "declined", "refused", "expired")),
	}
	if len(a.w) > 3 && a.w[3][0] >= '0' && a.w[3][0] <= '9' {
		res.Approved = eur(int64(a.number(a.w[3])))
	}
	if a.option("acquirer_down", "") != "" {
		res.Code = protocol.AcquirerDown
	}
	for c := protocol.DeclineFunds; c <= protocol.DeclineUnverified; c++ {
		if a.option(c.String(), "") != "" {
			res.Code = c
		}
	}
	if a.option("other_ask", "") != "" {
		res.AskHash[0]++
	}
	return Answer{res}
}

// vendRequest reads "1 s1 150 [epoch=2] [vend=v12] [since=4s] [bad]".
func (a args) vendRequest() Event {
	q := VendRequest{
		Bus:  protocol.BusKey{BusEpoch: uint64(a.number(a.option("epoch", "1"))), Request: uint32(a.number(a.at(1)))},
		Sale: mk[protocol.SaleID](a.number(a.at(2))), Price: eur(int64(a.number(a.at(3)))), Item: 7,
		Payment: mk[protocol.PaymentID](a.number(a.at(2))),
	}
	q.Vend = mk[protocol.VendID](a.number(a.option("vend", fmt.Sprintf("v%d", num(q.Sale)*10+1))))
	if a.option("bad", "") != "" {
		q.Bad = "currency"
	}
	d, err := time.ParseDuration(a.option("since", "0s"))
	if err != nil {
		a.r.fail("%v", err)
	}
	q.Since = d
	return q
}

// tap is a contactless card. Where the card comes first it opens the sale of its own number.
func tap(n int) CardRead {
	return CardRead{
		Sale: mk[protocol.SaleID](n), Payment: mk[protocol.PaymentID](n), Spare: mk[protocol.PaymentID](100 + n),
		Sealed: []byte{1}, SpareSealed: []byte{2}, SpareHash: protocol.Hash{2},
		Card: protocol.Card{BlobHash: protocol.Hash{1}, Brand: "visa", Last4: "0011", Entry: protocol.EntryContactless},
		Tap:  protocol.Tap{LocalTime: "20261124120000"},
	}
}
