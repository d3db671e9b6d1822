package code

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestCatalogue(t *testing.T) {
	form, seen := regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)?$`), map[Code]bool{}
	for _, f := range All() {
		if seen[f.Code] || !form.MatchString(string(f.Code)) {
			t.Errorf("%q: twice, or of another form", f.Code)
		}
		seen[f.Code] = true
		if f.Cause == "" || f.Next == "" && f.Code != StorageOK {
			t.Errorf("%s does not say what it is and what to do", f.Code)
		}
		if Of(f.Code) != f {
			t.Errorf("Of(%s) is %+v", f.Code, Of(f.Code))
		}
	}
	if f := Of("no.such"); f.Code != "no.such" || f.Sells {
		t.Errorf("%+v", f)
	}
}

// TestLanguages: each file of texts has every code once, and no other.
func TestLanguages(t *testing.T) {
	for _, lang := range Languages() {
		b, err := os.ReadFile("fault." + lang + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		lines := map[string]int{}
		for _, line := range strings.Split(string(b), "\n") {
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			part := strings.Split(line, "\t")
			if len(part) != 3 {
				t.Errorf("%s.txt: %q: want code, cause, next step, tabs between them", lang, line)
			}
			if lines[part[0]]++; Of(Code(part[0])).Cause == "" || lines[part[0]] > 1 {
				t.Errorf("%s.txt: %s stands there twice, or is no code", lang, part[0])
			}
		}
		for _, f := range In(lang) {
			if f.Cause == "" || lines[string(f.Code)] == 0 {
				t.Errorf("%s.txt has no %s", lang, f.Code)
			}
		}
		if len(In(lang)) != len(In(English)) {
			t.Errorf("%s: %d codes", lang, len(In(lang)))
		}
	}
	if In("xx") != nil {
		t.Error("a language that nobody wrote")
	}
}

// TestBlinks: every fault has its number of blinks, and the page for technicians has the same table.
func TestBlinks(t *testing.T) {
	page, err := os.ReadFile("../../docs/board.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range append([]Blink{{Times: 1, Of: "anything else"}}, BlinkTable...) {
		if b.Times != i+1 || !strings.Contains(string(page), fmt.Sprintf("| %d | %s |", b.Times, b.Of)) {
			t.Errorf("%+v: docs/board.md does not say so", b)
		}
	}
	for c, want := range map[Code]int{
		"": 0, LinkDown: 2, StorageFull: 3, IdentityRevoked: 4, JournalFork: 4, PortLost: 5, Silent: 5, CashJammed: 6, Tamper: 7, Garbage: 1, "no.such": 1,
	} {
		if n := Blinks(c); n != want {
			t.Errorf("%s blinks %d times, want %d", c, n, want)
		}
	}
}

// TestBuyer: one line a reason, each of them once, and short enough for a screen.
func TestBuyer(t *testing.T) {
	seen := map[string]bool{}
	for line := range strings.Lines(buyerEnglish) {
		reason, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok || seen[reason] || text == "" || len(text) > 100 || !strings.HasSuffix(text, ".") || Buyer(reason) != text {
			t.Errorf("%q", line)
		}
		seen[reason] = true
	}
	if len(seen) < 30 || Buyer("no such") != "" {
		t.Errorf("%d texts", len(seen))
	}
}
