// Package paper is what stands on a receipt: the words, laid out once in lines of a paper's width.
// A printer's bytes, the text of a log and the picture are made from the same lines, so that a preview
// shows what is printed.
//
//	page := receipt.Layout(paper.Width80)
//	err := printer.Print(1, page)     // hardware/escpos makes its bytes of it
//	fmt.Print(page.Text())            // what a technician reads
//	err = png.Encode(f, page.Picture())
package paper

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Columns of font A (12 by 24 dots, 203 dots an inch) on the two widths of paper that are sold.
const (
	Width58 = 32 // 58 mm, 384 dots
	Width80 = 48 // 80 mm, 576 dots
)

// Line is one line of a page. Text is at most the page's columns long; half of them when it is Big.
type Line struct {
	Text string
	Bold bool
	Big  bool // twice as wide and as high
}

// Page is lines of characters that every printer with code page 858 has.
type Page struct {
	Columns int
	Lines   []Line
	Missing int // characters that code page 858 lacks; each stands as a question mark
}

// maxLines bounds a page: about a metre of paper.
const maxLines = 300

// add appends a line, cut to what fits.
func (p *Page) add(l Line) {
	columns := p.Columns
	if l.Big {
		columns /= 2
	}
	if len(p.Lines) == maxLines {
		return
	}
	l.Text = p.plain(l.Text)
	if r := []rune(l.Text); len(r) > columns {
		l.Text = string(r[:columns])
	}
	l.Text = strings.TrimRight(l.Text, " ")
	p.Lines = append(p.Lines, l)
}

// plain replaces what cannot be printed.
func (p *Page) plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\u00A0':
			return ' '
		case Printable(r):
			return r
		}
		p.Missing++
		return '?'
	}, s)
}

// Printable reports whether code page 858 has a character, and it is one to be seen.
func Printable(r rune) bool {
	if r < 0x20 || r == 0x7F || r == utf8.RuneError {
		return false
	}
	_, ok := charmap.CodePage858.EncodeRune(r)
	return ok
}

// center is s in the middle of that many columns.
func center(s string, columns int) string {
	return strings.Repeat(" ", max(0, columns-utf8.RuneCountInString(s))/2) + s
}

// maxText bounds one text, in characters: far more than anybody prints.
const maxText = 1000

// wrap is s in lines of at most that many columns, broken at blanks where there are any.
func wrap(s string, columns int) (out []string) {
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText])
	}
	line := ""
	for _, word := range strings.Fields(s) {
		for {
			n, w := utf8.RuneCountInString(line), utf8.RuneCountInString(word)
			switch {
			case n == 0 && w > columns: // a word longer than a line
				r := []rune(word)
				out, word = append(out, string(r[:columns])), string(r[columns:])
				continue
			case n == 0:
				line = word
			case n+1+w <= columns:
				line += " " + word
			default:
				out, line = append(out, line), ""
				continue
			}
			break
		}
	}
	if line != "" {
		out = append(out, line)
	}
	return out
}

// Center adds text in the middle, in as many lines as it needs.
func (p *Page) Center(style Line) {
	columns := p.Columns
	if style.Big {
		columns /= 2
	}
	for _, s := range wrap(style.Text, columns) {
		style.Text = center(s, columns)
		p.add(style)
	}
}

// Pair adds text at the left and at the right. The right keeps its place; a left that is too long for
// both goes on in the next lines.
func (p *Page) Pair(left, right string, bold bool) {
	width := max(p.Columns-utf8.RuneCountInString(right)-1, 1)
	lines := wrap(left, width)
	if len(lines) == 0 {
		lines = []string{""}
	}
	for i, s := range lines {
		if i == 0 {
			s += strings.Repeat(" ", max(1, p.Columns-utf8.RuneCountInString(s)-utf8.RuneCountInString(right))) + right
		}
		p.add(Line{Text: s, Bold: bold})
	}
}

// Rule adds a line across, Blank an empty one.
func (p *Page) Rule() { p.add(Line{Text: strings.Repeat("-", p.Columns)}) }

// Blank adds an empty line.
func (p *Page) Blank() { p.add(Line{}) }

// Text is the page for a terminal. Big lines stand apart by blanks between their letters.
func (p Page) Text() string {
	var b strings.Builder
	for _, l := range p.Lines {
		text := l.Text
		if l.Big {
			text = strings.TrimRight(strings.Join(strings.Split(text, ""), " "), " ")
		}
		b.WriteString(text)
		b.WriteByte('\n')
	}
	return b.String()
}
