package configs

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Place is where a value was written: a file's name with line and column from 1 (columns are
// characters), or, with Line 0, a file as a whole, "environment COINOP_X" or "--flag".
type Place struct {
	Name   string `json:"in"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String is the form editors and terminals make a link of.
func (p Place) String() string {
	if p.Line == 0 {
		return p.Name
	}
	return fmt.Sprintf("%s:%d:%d", p.Name, p.Line, p.Column)
}

// Problem is one thing that is wrong.
type Problem struct {
	Place
	Key     string `json:"key,omitempty"`     // lanes.0.reader.port
	What    string `json:"problem"`           // is wrong
	Instead string `json:"instead,omitempty"` // to write or do

	source string // the line
	width  int    // of what is wrong in it
}

// Error is the problem in one line and, when it has a line in a file, that line with a caret below.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Place.String() + ": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.What)
	if p.Instead != "" {
		b.WriteString("; " + p.Instead)
	}
	if p.source == "" {
		return b.String()
	}
	number := fmt.Sprintf("%5d", p.Line)
	blank := strings.Repeat(" ", len(number))
	under := strings.Repeat(" ", max(p.Column-1, 0)) + "^" + strings.Repeat("~", max(p.width-1, 0))
	fmt.Fprintf(&b, "\n%s | %s\n%s | %s", number, p.source, blank, under)
	return b.String()
}

// mostProblems is what a person reads; after that it is the wrong file.
const mostProblems = 50

// Errors is everything that is wrong, in the order of the file, but the first 50; never empty. All of it must be mended
// before a retry can help.
type Errors []Problem

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// longestLine is what an excerpt shows of a line; more says nothing to a person.
const longestLine = 120

// excerpt gives a problem the line it is in.
func (p Problem) excerpt(lines []string, width int) Problem {
	if p.Line < 1 || p.Line > len(lines) {
		return p
	}
	line := strings.TrimRight(lines[p.Line-1], "\r")
	long := len(line) > utf8.UTFMax*(longestLine+1)
	if long { // a file may be one line, and each of its words a problem
		line = line[:utf8.UTFMax*(longestLine+1)]
	}
	// A tab or a control character would move the caret, or the terminal.
	line = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return '→'
		case r < ' ' || r == 0x7f || r == utf8.RuneError:
			return '·'
		}
		return r
	}, line)
	runes := []rune(line)
	if long || len(runes) > longestLine {
		line = string(runes[:min(len(runes), longestLine)]) + " …"
	}
	if p.Column > longestLine {
		return p
	}
	p.source, p.width = line, max(min(width, len(runes)-p.Column+1, longestLine-p.Column), 1)
	return p
}

// near finds the name that was meant: what differs by at most two letters, in case or in - for _.
func near(name string, names []string) (string, bool) {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "_", " ", "_").Replace(s)) }
	best, least := "", 3
	for _, n := range names {
		d := distance(plain(name), plain(n))
		// Two letters of three are no likeness.
		if d < least && d < len(n)-1 {
			best, least = n, d
		}
	}
	return best, best != ""
}

// distance is how many letters must be put in, taken out, changed or swapped with their neighbour.
func distance(a, b string) int {
	const far = 99
	if len(a) > 64 || len(b) > 64 {
		return far
	}
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(x)][len(y)]
}
