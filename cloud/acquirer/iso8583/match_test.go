package iso8583

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coinop/cloud/acquirer"
	"coinop/protocol"
	"coinop/protocol/money"
)

// answer is the host's 0110 of the frames, edited: 39=51 sets, 39= removes.
func answer(t *testing.T, edits map[int]string) *Message {
	t.Helper()
	m := padded(find(t, "0100 contactless auth, response").msg)
	for de, v := range edits {
		m.Set(de, v)
	}
	return m
}

func TestMatchApproval(t *testing.T) {
	t.Parallel()
	op := authorization()
	op.Merchant.TID = "KIOSK001"
	got, ok := testContract().Match(op, answer(t, map[int]string{15: "1123", 55: "\x91\x02\xAA\xBB\x9F\x27\x01\x80\x71\x01\x05"}))
	want := acquirer.Answer{
		Outcome: acquirer.OK, Raw: "00", Approved: money.New(250, money.EUR), RRN: "632610000103",
		AuthID: "100001", Settle: "1123", ICC: []byte{0x91, 2, 0xAA, 0xBB, 0x71, 1, 5},
	}
	if d := cmp.Diff(want, got); !ok || d != "" {
		t.Errorf("matched %t, -want +got\n%s", ok, d)
	}
}

func TestMatchNotOurs(t *testing.T) {
	t.Parallel()
	op := authorization()
	for name, edit := range map[string]func(*Message, *acquirer.Op){
		"class":        func(m *Message, _ *acquirer.Op) { m.MTI = "0210" },
		"a request":    func(m *Message, _ *acquirer.Op) { m.MTI = "0100" },
		"STAN":         func(m *Message, _ *acquirer.Op) { m.Set(11, "000104") },
		"TID":          func(m *Message, _ *acquirer.Op) { m.Set(41, "KIOSK002") },
		"DE7":          func(m *Message, _ *acquirer.Op) { m.Set(7, "1122093003") },
		"never sent":   func(_ *Message, o *acquirer.Op) { o.SentDE7 = nil },
		"unknown kind": func(_ *Message, o *acquirer.Op) { o.Key.Kind = 0 },
	} {
		m, o := answer(t, nil), op
		edit(m, &o)
		if got, ok := testContract().Match(o, m); ok {
			t.Errorf("%s: taken for %v", name, got.Outcome)
		}
	}
	op.SentDE7 = []acquirer.Stamp{"1122093001", "1122093002", "1122093003"}
	if _, ok := testContract().Match(op, answer(t, nil)); !ok {
		t.Error("the answer to an earlier transmission is refused")
	}
}

func TestMatchMismatch(t *testing.T) {
	t.Parallel()
	const less, more = "000000000100", "000000000300"
	for _, c := range []struct {
		name    string
		purpose protocol.Purpose
		edits   map[int]string
		want    acquirer.Outcome
	}{
		{"as asked", protocol.Exact, nil, acquirer.OK},
		{"less without saying so", protocol.Exact, map[int]string{4: less}, acquirer.Mismatch},
		{"less, hold", protocol.MaxHold, map[int]string{4: less}, acquirer.Mismatch},
		{"more, exact", protocol.Exact, map[int]string{4: more}, acquirer.Mismatch},
		{"more, hold", protocol.MaxHold, map[int]string{4: more}, acquirer.OK},
		{"partial", protocol.Exact, map[int]string{39: "10", 4: less}, acquirer.PartialOK},
		{"partial of all", protocol.Exact, map[int]string{39: "10"}, acquirer.OK},
		{"partial of more, exact", protocol.Exact, map[int]string{39: "10", 4: more}, acquirer.Mismatch},
		{"partial of nothing", protocol.Exact, map[int]string{39: "10", 4: "000000000000"}, acquirer.Mismatch},
		{"no amount", protocol.Exact, map[int]string{4: ""}, acquirer.Mismatch},
		{"no currency", protocol.Exact, map[int]string{49: ""}, acquirer.Mismatch},
		{"currency", protocol.Exact, map[int]string{49: "756"}, acquirer.Mismatch},
		{"processing code", protocol.Exact, map[int]string{3: "200000"}, acquirer.Mismatch},
		{"RRN", protocol.Exact, map[int]string{37: "632610000104"}, acquirer.Mismatch},
		{"merchant", protocol.Exact, map[int]string{42: "000000012345679"}, acquirer.Mismatch},
		{"no merchant", protocol.Exact, map[int]string{42: ""}, acquirer.OK},
		{"no response code", protocol.Exact, map[int]string{39: ""}, acquirer.Mismatch},
		{"declined in another currency", protocol.Exact, map[int]string{39: "51", 49: "756"}, acquirer.No},
	} {
		op := authorization()
		op.Purpose = c.purpose
		if got, ok := testContract().Match(op, answer(t, c.edits)); !ok || got.Outcome != c.want {
			t.Errorf("%s: %v, %t; want %v", c.name, got.Outcome, ok, c.want)
		}
	}
	op := authorization()
	op.RRN = ""
	if got, _ := testContract().Match(op, answer(t, map[int]string{37: "HOSTS0000001"})); got.Outcome != acquirer.OK || got.RRN != "HOSTS0000001" {
		t.Errorf("the host's own RRN: %v %s", got.Outcome, got.RRN)
	}
	rev := follow(acquirer.Reversal)
	for de4, want := range map[string]acquirer.Outcome{"": acquirer.OK, "000000000250": acquirer.OK, less: acquirer.Mismatch} {
		m := answer(t, map[int]string{4: de4, 3: "", 49: ""})
		m.MTI = "0430"
		if got, ok := testContract().Match(rev, m); !ok || got.Outcome != want {
			t.Errorf("0430 with DE4 %q: %v, want %v", de4, got.Outcome, want)
		}
	}
}

// TestResponseCodes is the table of DE39 for each kind of operation.
func TestResponseCodes(t *testing.T) {
	t.Parallel()
	kinds := []acquirer.Kind{acquirer.Authorization, acquirer.Capture, acquirer.Reversal, acquirer.PartialReversal, acquirer.Refund}
	rows := map[string][5]string{
		"00": {"ok", "ok", "ok", "ok", "ok"},
		"11": {"ok", "ok", "no final", "no final", "ok"},
		"08": {"mismatch", "mismatch", "no final", "no final", "mismatch"},
		"10": {"partial", "no final", "no final", "no final", "partial"},
		"25": {"no final", "no final", "not_found", "not_found", "no final"},
		"32": {"no final", "no final", "no final", "ok", "no final"},
		"94": {"mismatch", "ok", "ok", "ok", "mismatch"},
		"Y1": {"mismatch", "mismatch", "no final", "no final", "mismatch"},
		"05": {"no final", "no final", "no final", "no final", "no final"},
		"12": {"no final", "no final", "no final", "no final", "no final"},
		"21": {"no final", "no final", "no final", "no final", "no final"},
		"51": {"no final", "no final", "no final", "no final", "no final"},
		"ZZ": {"no final", "no final", "no final", "no final", "no final"},
		"30": {"no format", "no format", "no format", "no format", "no format"},
		"97": {"no format", "no format", "no format", "no format", "no format"},
		"41": {"no pick_up", "no pick_up", "no pick_up", "no pick_up", "no pick_up"},
		"01": {"no refer", "no refer", "no refer", "no refer", "no refer"},
	}
	for _, soft := range []string{"06", "09", "19", "68", "90", "91", "92", "96"} {
		rows[soft] = [5]string{"no temporary", "later", "later", "later", "no temporary"}
	}
	for code, row := range rows {
		for i, k := range kinds {
			out, class := classify(k, code)
			got := out.String()
			if out == acquirer.No {
				got = fmt.Sprintf("%v %v", out, class)
			}
			if got != row[i] {
				t.Errorf("%s to %v: %s, want %s", code, k, got, row[i])
			}
		}
	}
}
