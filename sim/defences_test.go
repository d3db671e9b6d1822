//go:build defences

package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// defence is what takes a defence away, and the laws of which one must then be seen broken.
type defence struct {
	name  string
	laws  []string
	edits []edit
}

type edit struct{ file, old, with string }

// TestDefences removes each defence once, plays seeds, and wants a law to break by name. It builds
// the tree anew for each, so it runs only when asked for: make defences.
func TestDefences(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, d := range removed {
		t.Run(strings.ReplaceAll(d.name, " ", "_"), func(t *testing.T) {
			law, seed := d.play(t, root)
			fmt.Fprintf(&table, "| %s | `%s` | %s | %s |\n", d.name, d.edits[0].file, law, seed)
		})
	}
	t.Logf("\n| defence removed | in | law that broke | seed |\n|---|---|---|---|\n%s", table.String())
}

func (d defence) play(t *testing.T, root string) (law, seed string) {
	dir := t.TempDir()
	replace := map[string]string{}
	for i, e := range d.edits {
		path := filepath.Join(root, e.file)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if was, ok := replace[path]; ok {
			if text, err = os.ReadFile(was); err != nil {
				t.Fatal(err)
			}
		}
		if n := bytes.Count(text, []byte(e.old)); n != 1 {
			t.Fatalf("%s: what is to be replaced is there %d times", e.file, n)
		}
		changed := filepath.Join(dir, fmt.Sprintf("changed%d.go", i))
		if err := os.WriteFile(changed, bytes.Replace(text, []byte(e.old), []byte(e.with), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[path] = changed
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", file, "-run", "^TestSeeds$", "-count=1", "-short", "-v", "./sim", "-seeds=20")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed {
		t.Fatalf("20 seeds and nothing broke (%v)\n%s", err, out)
	}
	for _, l := range d.laws {
		if _, after, ok := bytes.Cut(out, []byte("law broken: "+l)); ok {
			before := string(out[:len(out)-len(after)])
			_, seed, _ = strings.Cut(before[strings.LastIndex(before, "seed "):], "seed ")
			seed, _, _ = strings.Cut(seed, ":")
			t.Logf("seed %s: %s%s", seed, l, bytes.SplitN(after, []byte("\n"), 2)[0])
			return l, seed
		}
	}
	t.Fatalf("want one of the laws %q broken:\n%s", d.laws, out)
	return "", ""
}

const (
	inJournal = "agent/journal/journal.go"
	inCore    = "agent/core.go"
	inMachine = "cloud/payment/machine.go"
)

var removed = []defence{
	{"AuthorizationSent not written", []string{LawFinal, LawBooks}, []edit{{
		inCore,
		`		positions, err := c.journal.Append(records, blobs)`,
		`		var kept []protocol.Record
		for _, r := range records {
			if r.Body.Kind() != protocol.KindAuthorizationSent {
				kept = append(kept, r)
			}
		}
		some, err := c.journal.Append(kept, blobs)
		var positions []protocol.Position
		for _, r := range records {
			if r.Body.Kind() == protocol.KindAuthorizationSent || len(some) == 0 {
				positions = append(positions, c.journal.Head())
			} else {
				positions, some = append(positions, some[0]), some[1:]
			}
		}`,
	}}},
	{"effects before records", []string{LawCharged}, []edit{
		{inCore, `	failed  error
}`, `	failed  error
	lag     []protocol.Record
}`},
		{inCore, `	if len(records) > 0 {
		for i := range records {
			records[i].At = now
		}`, `	late := len(requests) == 0 && len(records) > 0
	for _, r := range records {
		late = late && (r.Body.Kind() == protocol.KindAuthorizationAnswered || r.Body.Kind() == protocol.KindVendStarted)
	}
	if late { // written with the next transaction: what is done about them comes first
		c.lag = append(c.lag, records...)
		c.snap = next
		return effects, nil
	}
	if len(records) > 0 && len(c.lag) > 0 {
		for e := range requests {
			requests[e] += len(c.lag)
		}
		records, c.lag = append(c.lag, records...), nil
	}
	if len(records) > 0 {
		for i := range records {
			records[i].At = now
		}`},
	}},
	{"payment id ignored", []string{LawOnce, LawBooks, LawFinal, LawCharged}, []edit{{
		inMachine,
		`	switch p.State {
	case None:
		s.first(f)`,
		`	switch State(None) {
	case None:
		p.State = None
		s.first(f)`,
	}}},
	{"ack before commit", []string{LawHeld}, []edit{{
		"cloud/relay/relay.go",
		`	res, err := r.cfg.Intake.Accept(ctx, now, from(d), b)`,
		`	if len(b.Record) > 0 {
		early := protocol.Watermark{V: protocol.Version, Device: d.ID, Epoch: b.Epoch, Verdict: protocol.Acked, N: b.Last, Hash: b.Head}
		if err := r.tellOn(ctx, c, protocol.DnAck, protocol.MustEncode(early)); err != nil {
			return err
		}
	}
	res, err := r.cfg.Intake.Accept(ctx, now, from(d), b)`,
	}}},
	{"resend to the host after restart", []string{LawBooks, LawFinal, LawOnce}, []edit{{
		inMachine,
		`	s.do(Close{Kind: acquirer.Authorization, N: p.AuthN, Dead: true})
	s.expire("68")
}`,
		`	p.LeaseUntil = s.now.Add(20 * time.Second)
	s.do(Retry{Kind: acquirer.Authorization, N: p.AuthN, At: s.now})
}`,
	}}},
	{"void of a published approval on silence", []string{LawCharged, LawApproved}, []edit{
		{
			inMachine, `	case p.State == Approved && !p.Frozen && s.now >= p.ReleaseAt:`,
			`	case p.State == Approved && !p.Frozen && s.now >= p.LeaseUntil:`,
		},
		{"cloud/payment/store.go", `			return p.ReleaseAt`, `			return p.LeaseUntil`},
	}},
	{"release past the snapshot", []string{LawStopped, LawIncidents, LawCharged, LawBooks, LawFinal, LawCases}, []edit{{
		inJournal,
		`	if snapshot == 0 {
		return 0
	}
	return min(released, snapshot-1)`,
		`	return released`,
	}}},
	{"journal opened without repair", []string{LawStopped, LawCharged, LawBooks, LawFinal, LawCases}, []edit{{
		inJournal,
		`		if err := redo(o.m, e, n, false); err != nil {
			return nil, err
		}
		t.n, t.size, t.again = x.last, x.size, x.base+max(x.base, twinRoom)`,
		`		j.notes("as it is")`,
	}}},
}
