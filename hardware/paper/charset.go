package paper

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"
)

// Charset is the characters a printer is set to. What it lacks is a question mark, and counted.
type Charset uint8

// Charsets of receipt printers.
const (
	CP858   Charset = iota // Western Europe with the euro sign, one byte a character
	GB18030                // Chinese; a character of two or four bytes is two columns wide
	UTF8                   // printers that take Unicode
)

// Charsets are their names in a configuration.
var Charsets = map[string]Charset{"cp858": CP858, "gb18030": GB18030, "utf8": UTF8}

const yen, fullYen = '\u00A5', '\uFFE5'

// Encode is a character's bytes; ok is false where the printer has none for it. GB 18030 has the yen
// sign in four bytes only, and most Chinese printers know it as the full-width one, A3 A4. Of the codes
// of four bytes it is only those of Chinese characters that printers may have: the rest are not asked for.
func (c Charset) Encode(r rune) (b []byte, ok bool) {
	if r < 0x20 || r == 0x7F || r == utf8.RuneError {
		return nil, false
	}
	switch c {
	case CP858:
		one, ok := charmap.CodePage858.EncodeRune(r)
		return []byte{one}, ok
	case GB18030:
		if r == yen {
			r = fullYen
		}
		b, err := simplifiedchinese.GB18030.NewEncoder().Bytes(utf8.AppendRune(nil, r))
		return b, err == nil && (len(b) <= 2 && r != '\u0080' || unicode.Is(unicode.Han, r))
	case UTF8:
		return utf8.AppendRune(nil, r), unicode.IsPrint(r) && !unicode.Is(unicode.M, r)
	}
	return nil, false
}

// Printable reports whether the printer has a character, and it is one to be seen.
func (c Charset) Printable(r rune) bool {
	_, ok := c.Encode(r)
	return ok
}

// Cells is how many columns a character takes: 1 or 2.
func (c Charset) Cells(r rune) int {
	wide := false
	switch c {
	case CP858:
	case GB18030:
		wide = r >= 0x80
	case UTF8:
		k := width.LookupRune(r).Kind()
		wide = k == width.EastAsianWide || k == width.EastAsianFullwidth
	}
	if wide {
		return 2
	}
	return 1
}

// cells is how wide a text is.
func (c Charset) cells(s string) (n int) {
	for _, r := range s {
		n += c.Cells(r)
	}
	return n
}

// cut is s in two, the first of at most that many columns.
func (c Charset) cut(s string, columns int) (fits, rest string) {
	n := 0
	for i, r := range s {
		if n += c.Cells(r); n > columns {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// plain is s with blanks for what is blank and question marks for what is missing.
func (c Charset) plain(s string) (out string, missing int) {
	var b []byte
	for _, r := range norm.NFC.String(s) { // a letter and its mark are one character on paper
		switch {
		case r == '\t' || r == '\n' || r == '\u00A0':
			r = ' '
		case r == yen && c == GB18030:
			r = fullYen
		case !c.Printable(r):
			missing++
			r = '?'
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b), missing
}
