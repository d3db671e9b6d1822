// Package paper is what stands on a receipt: the words, laid out once in lines of a paper's width.
// A printer's bytes, the text of a log and the picture are made from the same lines, so that a preview
// shows what is printed.
//
//	page := receipt.Layout(paper.Width80)
//	err := printer.Print(1, page)     // hardware/escpos makes its bytes of it
//	fmt.Print(page.Text())            // what a technician reads
//	err = png.Encode(f, page.Picture())
package paper

import "strings"

// Columns of font A (12 by 24 dots, 203 dots an inch) on the two widths of paper that are sold.
const (
	Width58 = 32 // 58 mm, 384 dots
	Width80 = 48 // 80 mm, 576 dots
)

// Line is one line of a page. Text is at most the page's columns long; half of them when it is Big. A
// Code or an Image is in its place, in the middle.
type Line struct {
	Text  string
	Bold  bool
	Big   bool // twice as wide and as high
	Code  *Code
	Image *Bitmap
}

// Page is lines of characters that a printer has.
type Page struct {
	Columns int
	Charset Charset
	Lines   []Line
	Missing int  // characters that the charset lacks; each stands as a question mark
	Drawer  bool // the cash drawer opens with it
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
	l.Text, _ = p.Charset.cut(p.plain(l.Text), columns)
	l.Text = strings.TrimRight(l.Text, " ")
	p.Lines = append(p.Lines, l)
}

// plain replaces what cannot be printed.
func (p *Page) plain(s string) string {
	s, missing := p.Charset.plain(s)
	p.Missing += missing
	return s
}

// center is s in the middle of that many columns.
func (c Charset) center(s string, columns int) string {
	return strings.Repeat(" ", max(0, columns-c.cells(s))/2) + s
}

// maxText bounds one text, in characters: far more than anybody prints.
const maxText = 1000

// wrap is s in lines of at most that many columns, broken at blanks where there are any.
func (c Charset) wrap(s string, columns int) (out []string) {
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText])
	}
	line := ""
	for _, word := range strings.Fields(s) {
		for {
			n, w := c.cells(line), c.cells(word)
			switch {
			case n == 0 && w > columns: // a word longer than a line
				fits, rest := c.cut(word, max(columns, 2)) // a wide character goes on at any rate
				out, word = append(out, fits), rest
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
	for _, s := range p.Charset.wrap(p.plain(style.Text), columns) {
		style.Text = p.Charset.center(s, columns)
		p.add(style)
	}
}

// Pair adds text at the left and at the right. The right keeps its place; a left that is too long for
// both goes on in the next lines.
func (p *Page) Pair(left, right string, bold bool) {
	left, right = p.plain(left), p.plain(right)
	width := max(p.Columns-p.Charset.cells(right)-1, 1)
	lines := p.Charset.wrap(left, width)
	if len(lines) == 0 {
		lines = []string{""}
	}
	for i, s := range lines {
		if i == 0 {
			s += strings.Repeat(" ", max(1, p.Columns-p.Charset.cells(s)-p.Charset.cells(right))) + right
		}
		p.add(Line{Text: s, Bold: bold})
	}
}

// Code adds a code for scanners; the error says why it cannot be on this paper, and nothing is added.
func (p *Page) Code(c Code) error {
	if err := c.Check(p.Columns); err != nil {
		return err
	}
	if len(p.Lines) < maxLines {
		p.Lines = append(p.Lines, Line{Code: &c})
	}
	return nil
}

// Image adds a picture.
func (p *Page) Image(b *Bitmap) {
	if len(p.Lines) < maxLines && b.Width <= p.Columns*CellWidth {
		p.Lines = append(p.Lines, Line{Image: b})
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
		switch {
		case l.Code != nil:
			text = p.Charset.center("["+l.Code.Data+"]", p.Columns)
		case l.Image != nil:
			text = p.Charset.center("[picture]", p.Columns)
		case l.Big:
			text = strings.TrimRight(strings.Join(strings.Split(text, ""), " "), " ")
		}
		b.WriteString(text)
		b.WriteByte('\n')
	}
	return b.String()
}
