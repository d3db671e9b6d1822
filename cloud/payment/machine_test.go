package payment

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/cloud/acquirer"
	"coinop/protocol"
	"coinop/protocol/money"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite testdata")

const t0 = protocol.UnixMS(1_800_000_000_000)

func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }

func at(seq byte) protocol.Position {
	return protocol.Position{Epoch: protocol.Epoch{1}, Seq: protocol.Seq(seq), Hash: protocol.Hash{seq}}
}

var (
	testID   = protocol.PaymentID{7}
	testSale = protocol.SaleID{8}
	testAsk  = protocol.Ask{
		V: protocol.Version, Device: "snack-1", Sale: testSale, Payment: testID, Class: protocol.Live,
		Purpose: protocol.Exact, Amount: eur(250), WaitMS: 10_000, Tap: protocol.Tap{Entry: protocol.EntryContactless, LocalTime: "20270115120000"},
	}
)

func asked(change func(*Asked)) Asked {
	f := Asked{Ask: testAsk, Hash: protocol.Hash{9}, Tenant: "acme", Received: t0, Made: t0, Route: Route{Link: "bank"}}
	if change != nil {
		change(&f)
	}
	return f
}

func flow(f acquirer.Flow) Asked {
	return asked(func(a *Asked) { a.Route.Profile.Flow = f })
}

// byLoop asks our own accounts.
var byLoop = asked(func(a *Asked) { a.Ask.AuthorizedBy = protocol.ByClosedLoop })

func said(n uint8, o acquirer.Outcome, minor int64) HostSaid {
	return HostSaid{N: n, Answer: acquirer.Answer{Outcome: o, Class: protocol.DeclineFinal, Approved: eur(minor), RRN: "123456789012", AuthID: "A1B2C3"}}
}

func outcome(seq byte, w protocol.What, minor int64, r protocol.Reason) Outcome {
	return Outcome{Device: "snack-1", Sale: testSale, Tenant: "acme", What: w, Amount: eur(minor), Reason: r, Position: at(seq)}
}

func op(k acquirer.Kind, n uint8, o acquirer.Outcome) OpSaid {
	return OpSaid{Followed{Kind: k, N: n, Tries: 1, Owed: t0}, acquirer.Answer{Outcome: o}}
}

// moment is a fact after a span.
type moment struct {
	after time.Duration
	fact  Fact
}

// histories lead to every state there is, by every flow where it matters.
var histories = []struct {
	name  string
	facts []moment
}{
	{"none", nil},
	{"sent", []moment{{0, asked(nil)}}},
	{"sent with a void flag", []moment{{0, asked(nil)}, {time.Second, outcome(1, protocol.Void, 0, protocol.NoAnswer)}}},
	{"sent, second host", []moment{{0, asked(nil)}, {time.Second, HostNotSent{N: 1, Next: &Route{Link: "other"}}}}},
	{"unknown", []moment{{0, asked(func(a *Asked) { a.Route.Profile.CanQuery = true })}, {9 * time.Second, HostSilent{N: 1}}}},
	{"approved", []moment{{0, asked(nil)}, {time.Second, said(1, acquirer.OK, 250)}}},
	{"approved in part", []moment{{0, asked(nil)}, {time.Second, said(1, acquirer.PartialOK, 100)}}},
	{"approved, dual_partial", []moment{{0, flow(acquirer.DualPartial)}, {time.Second, said(1, acquirer.OK, 250)}}},
	{"approved, single", []moment{{0, flow(acquirer.Single)}, {time.Second, said(1, acquirer.OK, 250)}}},
	{"capturing", []moment{{0, asked(nil)}, {time.Second, said(1, acquirer.OK, 250)}, {2 * time.Second, outcome(1, protocol.Capture, 250, protocol.ReasonSold)}}},
	{"capturing, dual_partial", []moment{{0, flow(acquirer.DualPartial)}, {time.Second, said(1, acquirer.OK, 250)}, {2 * time.Second, outcome(1, protocol.Capture, 100, protocol.ReasonSold)}}},
	{"capturing, single", []moment{{0, flow(acquirer.Single)}, {time.Second, said(1, acquirer.OK, 250)}, {2 * time.Second, outcome(1, protocol.Capture, 100, protocol.ReasonSold)}}},
	{"captured", []moment{{0, asked(nil)}, {time.Second, said(1, acquirer.OK, 250)}, {2 * time.Second, outcome(1, protocol.Capture, 250, protocol.ReasonSold)}, {3 * time.Second, op(acquirer.Capture, 1, acquirer.OK)}}},
	{"reversing", []moment{{0, asked(nil)}, {9 * time.Second, HostSilent{N: 1}}}},
	{"reversing, single", []moment{{0, flow(acquirer.Single)}, {time.Second, said(1, acquirer.OK, 250)}, {2 * time.Second, outcome(1, protocol.Void, 0, protocol.VendFailed)}}},
	{"reversed", []moment{{0, asked(nil)}, {time.Second, said(1, acquirer.OK, 250)}, {2 * time.Second, outcome(1, protocol.Void, 0, protocol.VendFailed)}, {3 * time.Second, op(acquirer.Reversal, 1, acquirer.OK)}}},
	{"reversed, no outcome yet", []moment{{0, asked(nil)}, {9 * time.Second, HostSilent{N: 1}}, {11 * time.Second, op(acquirer.Reversal, 1, acquirer.OK)}}},
	{"expired", []moment{{0, outcome(1, protocol.Void, 0, protocol.NoAnswer)}}},
	{"declined", []moment{{0, asked(nil)}, {time.Second, said(1, acquirer.No, 0)}}},
	{"refused_unsent", []moment{{0, asked(func(a *Asked) { a.Refuse = protocol.NoRoute })}}},
	{"refused_unsent after not sent", []moment{{0, asked(nil)}, {time.Second, HostNotSent{N: 1}}}},
	{"approved, second host, and the first one after all", []moment{
		{0, asked(nil)},
		{time.Second, HostNotSent{N: 1, Next: &Route{Link: "other"}}},
		{2 * time.Second, said(2, acquirer.PartialOK, 100)},
		{3 * time.Second, said(1, acquirer.OK, 250)},
	}},
	{"approved, closed loop", []moment{{0, byLoop}, {time.Second, said(1, acquirer.OK, 250)}}},
	{"capturing, closed loop", []moment{{0, byLoop}, {time.Second, said(1, acquirer.OK, 250)}, {2 * time.Second, outcome(1, protocol.Capture, 100, protocol.ReasonSold)}}},
	{"held", []moment{{0, Offline{Device: "snack-1", Sale: testSale, Amount: eur(250), Position: at(3)}}}},
	{"case, unseen", []moment{{0, outcome(1, protocol.Capture, 250, protocol.ReasonSold)}}},
	{"case, capture refused", []moment{{0, asked(nil)}, {time.Second, said(1, acquirer.OK, 250)}, {2 * time.Second, outcome(1, protocol.Capture, 250, protocol.ReasonSold)}, {3 * time.Second, op(acquirer.Capture, 1, acquirer.No)}}},
}

// facts are what may come in any state.
var facts = []struct {
	name string
	moment
}{
	{"request", moment{4 * time.Second, asked(nil)}},
	{"request past answer_by", moment{10 * time.Second, asked(nil)}},
	{"request past its lease", moment{12 * time.Second, asked(nil)}},
	{"request, no route", moment{0, asked(func(a *Asked) { a.Refuse = protocol.NoRoute })}},
	{"request, no time", moment{7 * time.Second, asked(func(a *Asked) { a.Received = t0 + 7000 })}},
	{"request, class test", moment{0, asked(func(a *Asked) { a.Ask.Class = protocol.Test })}},
	{"request, other hash", moment{4 * time.Second, asked(func(a *Asked) { a.Hash = protocol.Hash{10} })}},
	{"approved", moment{4 * time.Second, said(1, acquirer.OK, 250)}},
	{"approved for part", moment{4 * time.Second, said(1, acquirer.PartialOK, 100)}},
	{"approved for more", moment{4 * time.Second, said(1, acquirer.OK, 900)}},
	{"approved past answer_by", moment{10 * time.Second, said(1, acquirer.OK, 250)}},
	{"approved, of the second authorization", moment{4 * time.Second, said(2, acquirer.OK, 250)}},
	{"mismatch", moment{4 * time.Second, said(1, acquirer.Mismatch, 0)}},
	{"declined", moment{4 * time.Second, said(1, acquirer.No, 0)}},
	{"not sent", moment{4 * time.Second, HostNotSent{N: 1}}},
	{"not sent, another host", moment{4 * time.Second, HostNotSent{N: 1, Next: &Route{Link: "other"}}}},
	{"not sent, another host, no time", moment{8 * time.Second, HostNotSent{N: 1, Next: &Route{Link: "other"}}}},
	{"silent", moment{9 * time.Second, HostSilent{N: 1}}},
	{"query: nothing known", moment{12 * time.Second, QuerySaid{N: 1}}},
	{"query: approved", moment{12 * time.Second, QuerySaid{N: 1, Known: true, Answer: acquirer.Answer{Outcome: acquirer.OK, RRN: "9"}}}},
	{"query: declined", moment{12 * time.Second, QuerySaid{N: 1, Known: true, Answer: acquirer.Answer{Outcome: acquirer.No}}}},
	{"300 ms", moment{300 * time.Millisecond, Due{}}},
	{"lease over", moment{40 * time.Second, Due{}}},
	{"release_at", moment{25 * time.Hour, Due{}}},
	{"capture", moment{20 * time.Second, outcome(2, protocol.Capture, 250, protocol.ReasonSold)}},
	{"capture of less", moment{20 * time.Second, outcome(2, protocol.Capture, 100, protocol.ReasonSold)}},
	{"capture of more", moment{20 * time.Second, outcome(2, protocol.Capture, 900, protocol.ReasonSold)}},
	{"capture, the sale is taken", moment{20 * time.Second, func() Outcome {
		o := outcome(2, protocol.Capture, 250, protocol.ReasonSold)
		o.Second = true
		return o
	}()}},
	{"capture again", moment{20 * time.Second, outcome(1, protocol.Capture, 250, protocol.ReasonSold)}},
	{"void", moment{20 * time.Second, outcome(2, protocol.Void, 0, protocol.VendFailed)}},
	{"void again", moment{20 * time.Second, outcome(1, protocol.Void, 0, protocol.VendFailed)}},
	{"void by another device", moment{20 * time.Second, func() Outcome {
		o := outcome(2, protocol.Void, 0, protocol.VendFailed)
		o.Device = "other"
		return o
	}()}},
	{"outcome unreadable", moment{20 * time.Second, Unreadable{}}},
	{"offline", moment{20 * time.Second, Offline{Device: "snack-1", Sale: testSale, Amount: eur(250), Position: at(3)}}},
	{"0230 ok", moment{20 * time.Second, op(acquirer.Capture, 1, acquirer.OK)}},
	{"0230 refused", moment{20 * time.Second, op(acquirer.Capture, 1, acquirer.No)}},
	{"0230 later", moment{20 * time.Second, op(acquirer.Capture, 1, acquirer.Later)}},
	{"0220 not sent", moment{20 * time.Second, OpNotSent{Followed{Kind: acquirer.Capture, N: 1, Tries: 2, Owed: t0}}}},
	{"0220 silent", moment{20 * time.Second, OpSilent{Followed{Kind: acquirer.Capture, N: 1, Tries: 2, Owed: t0}}}},
	{"0220 silent for days", moment{73 * time.Hour, OpSilent{Followed{Kind: acquirer.Capture, N: 1, Tries: 200, Owed: t0}}}},
	{"0430 ok", moment{20 * time.Second, op(acquirer.Reversal, 1, acquirer.OK)}},
	{"0430 code 25, early", moment{20 * time.Second, op(acquirer.Reversal, 1, acquirer.NotFound)}},
	{"0430 code 25", moment{5 * time.Minute, op(acquirer.Reversal, 1, acquirer.NotFound)}},
	{"0430 refused", moment{20 * time.Second, op(acquirer.Reversal, 1, acquirer.No)}},
	{"0430 later", moment{20 * time.Second, op(acquirer.Reversal, 1, acquirer.Later)}},
	{"0420 not sent", moment{20 * time.Second, OpNotSent{Followed{Kind: acquirer.Reversal, N: 1, Tries: 1, Owed: t0}}}},
	{"0420 silent", moment{20 * time.Second, OpSilent{Followed{Kind: acquirer.Reversal, N: 1, Tries: 1, Owed: t0}}}},
	{"0420 silent for days", moment{73 * time.Hour, OpSilent{Followed{Kind: acquirer.Reversal, N: 1, Tries: 200, Owed: t0}}}},
	{"partial 0430 ok", moment{20 * time.Second, op(acquirer.PartialReversal, 1, acquirer.OK)}},
	{"partial 0430 refused", moment{20 * time.Second, op(acquirer.PartialReversal, 1, acquirer.No)}},
	{"partial 0430 later", moment{20 * time.Second, op(acquirer.PartialReversal, 1, acquirer.Later)}},
}

func arrive(facts []moment) Payment {
	p := Payment{ID: testID}
	for _, m := range facts {
		var out Output
		p, out = p.Step(t0.Add(m.after), m.fact)
		for _, a := range out.Acts { // as a unit of work would keep them
			switch r, _ := a.(Reply); r.With {
			case ReplyNew:
				p.Answer = protocol.Raw{1}
			case ReplyExpired:
				p.Gone = protocol.Raw{1}
			}
		}
	}
	return p
}

// TestTable writes down what the machine does in every state with every fact, and compares it with
// what was read and found right.
func TestTable(t *testing.T) {
	var b strings.Builder
	seen := map[string]bool{}
	for _, h := range histories {
		p := arrive(h.facts)
		fmt.Fprintf(&b, "# %s\n", h.name)
		for _, f := range facts {
			next, out := p.Step(t0.Add(f.after), f.fact)
			if out.Cell == "" {
				t.Errorf("%s, %s: no cell", h.name, f.name)
			}
			seen[out.Cell] = true
			fmt.Fprintf(&b, "%-40s %-34s -> %-15s%s\n", f.name, out.Cell, next.State, acts(out.Acts))
			again, _ := p.Step(t0.Add(f.after), f.fact)
			if diff := cmp.Diff(next, again); diff != "" {
				t.Errorf("%s, %s: not a function:\n%s", h.name, f.name, diff)
			}
		}
		b.WriteByte('\n')
	}
	for _, cell := range cells {
		if !seen[cell] {
			t.Errorf("cell %s was never visited", cell)
		}
	}
	t.Logf("%d states x %d facts, %d cells of which the table names %d", len(histories), len(facts), len(seen), len(cells))
	const file = "testdata/table.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")); diff != "" {
		t.Errorf("the machine does something else than %s says (-update after reading):\n%s", file, diff)
	}
}

// cells are those of the table of a payment's row that say something, but for what belongs to
// offline payments.
var cells = []string{
	"none/request", "none/request_refused", "any/request_other", "none/capture", "none/void",
	"sent/request", "sent/request_lapsed", "sent/approved", "sent/approved_void_flag", "sent/late", "sent/mismatch",
	"sent/declined", "sent/not_sent", "sent/not_sent_void_flag", "sent/not_sent_next", "sent/silent", "sent/received",
	"sent/lease_over", "sent/capture", "sent/void", "unknown/query", "unknown/lease_over",
	"approved/request", "approved/request_late", "approved/approved", "approved/mismatch", "approved/declined",
	"approved/capture", "approved/capture_over", "approved/capture_second", "approved/void", "approved/release",
	"approved/unreadable",
	"capturing/request", "capturing/approved", "capturing/capture_fork", "capturing/capture_repeat", "capturing/void_fork",
	"capturing/0230_ok", "capturing/0230_refused", "capturing/0230_later", "capturing/op_not_sent", "capturing/op_silent",
	"capturing/dead", "capturing/0430_partial_done", "capturing/0430_partial_refused", "capturing/0430_partial_later",
	"captured/request", "captured/approved", "captured/capture_repeat", "captured/capture_fork", "captured/void_fork", "captured/0230",
	"reversing/request", "reversing/late", "reversing/mismatch", "reversing/declined", "reversing/capture", "reversing/void",
	"reversing/op_not_sent", "reversing/op_silent", "reversing/dead", "reversing/0430_done", "reversing/0430_early",
	"reversing/0430_refused", "reversing/0430_later",
	"reversed/request", "reversed/late", "reversed/mismatch", "reversed/capture", "reversed/void", "reversed/0430",
	"expired/request", "expired/late", "expired/mismatch", "expired/capture_fork", "expired/void_repeat", "expired/0430",
	"declined/request", "declined/request_late", "declined/late", "declined/mismatch", "declined/capture", "declined/void",
	"refused_unsent/request", "refused_unsent/request_late", "refused_unsent/late", "refused_unsent/mismatch",
	"refused_unsent/capture", "refused_unsent/void",
	"case/request", "case/late", "case/mismatch", "case/declined", "case/capture_fork", "case/0230", "case/0430",
	"none/offline", "held/request", "held/late", "held/capture", "held/void", "unknown/request", "unknown/late",
	"approved/late", "approved/0430_done", "approved/0430_early", "approved/0430_refused", "approved/dead",
}

func acts(as []Act) string {
	var out []string
	for _, a := range as {
		switch a := a.(type) {
		case Insert:
			s := fmt.Sprintf("insert %s/%d %s", a.Kind, a.N, a.Amount)
			if a.Of > 0 {
				s += fmt.Sprintf(" de39=%s", a.Reason)
			}
			if a.Actual.Minor > 0 {
				s += " actual " + a.Actual.String()
			}
			if a.Waits {
				s += " waits"
			}
			out = append(out, s)
		case Close:
			s := "answered"
			if a.Dead {
				s = "dead"
			}
			out = append(out, fmt.Sprintf("%s %s/%d", s, a.Kind, a.N))
		case Retry:
			out = append(out, fmt.Sprintf("retry %s/%d +%s", a.Kind, a.N, a.At.Sub(t0)))
		case Refresh:
			out = append(out, fmt.Sprintf("refresh reversal/%d", a.N))
		case Query:
			out = append(out, fmt.Sprintf("query %d", a.N))
		case Move:
			for _, t := range a.Transfers {
				out = append(out, fmt.Sprintf("%s %s Dr %s Cr %s", t.Kind, t.Amount, t.Debit, t.Credit))
			}
		case Reply:
			s := "A:" + a.With.String()
			if a.With == ReplyNew {
				s += " " + a.Result.String()
				if a.Code != 0 {
					s += " " + a.Code.String()
				}
			}
			out = append(out, s)
		case Dispose:
			out = append(out, fmt.Sprintf("dispose %s %s", a.What, a.Cause))
		case Report:
			out = append(out, "incident "+a.Name.String())
		case Open:
			out = append(out, "case "+a.Cause.String())
		case Wake:
			out = append(out, fmt.Sprintf("wake +%s", a.At.Sub(t0)))
		case Judge:
			s := "judge " + a.Disposition.String()
			if a.Quarantine != 0 {
				s += " " + a.Quarantine.String()
			}
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " " + strings.Join(out, " · ")
}

// TestExpiredIsSaidOnce: the answer expired is stored and not made twice.
func TestExpiredIsSaidOnce(t *testing.T) {
	p, out := arrive([]moment{{0, asked(nil)}}).Step(t0.Add(9*time.Second), HostSilent{N: 1})
	if !slices.ContainsFunc(out.Acts, func(a Act) bool { r, ok := a.(Reply); return ok && r.With == ReplyExpired }) {
		t.Fatalf("not said: %v", out.Acts)
	}
	p.Gone = protocol.Raw{1}
	p.State = Sent
	if _, out = p.Step(t0.Add(13*time.Second), Due{}); slices.ContainsFunc(out.Acts, func(a Act) bool { _, ok := a.(Reply); return ok }) {
		t.Fatalf("said twice: %v", out.Acts)
	}
}

func TestAnchors(t *testing.T) {
	a := Anchors{Key: []byte("0123456789abcdef")}
	id := a.Make("snack-1", t0)
	if at, ok := a.Time("snack-1", id); !ok || at != t0 {
		t.Fatalf("%d %t", at, ok)
	}
	if _, ok := a.Time("snack-2", id); ok {
		t.Fatal("another device's anchor was taken")
	}
	id[5]++
	if _, ok := a.Time("snack-1", id); ok {
		t.Fatal("an altered anchor was taken")
	}
}
