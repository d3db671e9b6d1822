// Package dex is vending machines' own books: audit files in the form of EVA-DTS 6.1, which every
// controller keeps and every vending management system reads, and the DEX link they are read over.
//
//	d := dex.New(dex.Config{Path: "/dev/serial/by-id/..."}, out)
//	go hardware.Supervise(ctx, "dex", d.Open, out)
//	d.Read()                              // then hardware.AuditRead
//	f, err := dex.Parse(raw)              // what it says, and what is odd about it
//	a := f.Audit()                        // its counters
//	delta, findings := dex.Compare(before, a)
//
// Counters are the controller's word: they only grow, until somebody changes the board.
package dex

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Limits of a file: the largest known have some 60 KB.
const (
	MaxFile     = 256 << 10
	maxSegments = 8192
	maxFields   = 64
)

// Segment is one line: PA2*50*7500 is ID "PA2" and two fields.
type Segment struct {
	ID     string
	Fields []string
	Line   int
}

// Field is a field by its number from 1, "" when it is not there.
func (s Segment) Field(n int) string {
	if n < 1 || n > len(s.Fields) {
		return ""
	}
	return s.Fields[n-1]
}

// Number is a field as a number; ok is false when it is none, or not there.
func (s Segment) Number(n int) (v int64, ok bool) {
	v, err := strconv.ParseInt(s.Field(n), 10, 64)
	return v, err == nil && v >= 0
}

// Problem is something odd about a file; what it says may be used all the same.
type Problem struct {
	Line int // 0: of the whole
	Code string
	Text string
}

func (p Problem) String() string { return fmt.Sprintf("line %d: %s: %s", p.Line, p.Code, p.Text) }

// Codes of Problem.
const (
	ProblemNoSum    = "no_checksum"   // there is no G85
	ProblemSwapped  = "swapped_sum"   // G85's two bytes stand the other way round, as in old machines
	ProblemCount    = "segment_count" // SE counts other segments than there are
	ProblemNumber   = "not_a_number"
	ProblemPrice    = "no_price" // a product without one
	ProblemTwice    = "twice"    // two products of one number
	ProblemDecimals = "decimals" // ID4 does not say how money is written
)

// File is a file taken apart.
type File struct {
	Segments []Segment
	Problems []Problem
}

// Why a file cannot be used.
var (
	ErrFile = errors.New("no EVA-DTS file")
	ErrSum  = errors.New("the audit file's checksum is wrong")
)

// Parse takes a file apart. Lines end with CR LF; LF alone will do. Bytes that are not printable are
// refused: they are the line's, not the machine's.
func Parse(raw []byte) (File, error) {
	if len(raw) > MaxFile {
		return File{}, fmt.Errorf("%w: %d bytes", ErrFile, len(raw))
	}
	var f File
	start, sum := -1, -1 // offsets: of ST, and behind the line before G85
	offset := 0
	for n, text := range bytes.SplitAfter(raw, []byte("\n")) {
		at := offset
		offset += len(text)
		line := strings.TrimRight(string(text), "\r\n")
		if line == "" {
			continue
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r < 0x20 || r == 0x7F || r == '\uFFFD' }); i >= 0 {
			return File{}, fmt.Errorf("%w: line %d has byte %#02x", ErrFile, n+1, line[i])
		}
		part := strings.Split(line, "*")
		if len(part) > maxFields+1 || part[0] == "" || len(part[0]) > 4 || len(f.Segments) == maxSegments {
			return File{}, fmt.Errorf("%w: line %d", ErrFile, n+1)
		}
		s := Segment{ID: part[0], Fields: part[1:], Line: n + 1}
		switch s.ID {
		case "ST":
			start = at
		case "G85":
			sum = at
		}
		f.Segments = append(f.Segments, s)
	}
	if start < 0 {
		return File{}, fmt.Errorf("%w: there is no ST", ErrFile)
	}
	return f, f.check(raw, start, sum)
}

func (f *File) problem(line int, code, format string, args ...any) {
	f.Problems = append(f.Problems, Problem{line, code, fmt.Sprintf(format, args...)})
}

// check holds the file against its own sum and count.
func (f *File) check(raw []byte, start, sum int) error {
	if sum < start {
		f.problem(0, ProblemNoSum, "there is no G85 behind ST")
	} else {
		g, _ := f.First("G85")
		said, err := strconv.ParseUint(g.Field(1), 16, 16)
		is := crc(0, raw[start:sum]...)
		switch {
		case err != nil:
			return fmt.Errorf("%w: line %d: G85 is %q", ErrSum, g.Line, g.Field(1))
		case uint16(said) == is: //nolint:gosec // 16 bits
		case uint16(said) == is<<8|is>>8: //nolint:gosec // 16 bits
			f.problem(g.Line, ProblemSwapped, "G85 is %04X", is)
		default:
			return fmt.Errorf("%w: line %d: G85 is %04X, the file's is %04X", ErrSum, g.Line, said, is)
		}
	}
	if se, ok := f.First("SE"); ok {
		from := slices.IndexFunc(f.Segments, func(s Segment) bool { return s.ID == "ST" })
		to := slices.IndexFunc(f.Segments, func(s Segment) bool { return s.ID == "SE" })
		if n, ok := se.Number(1); !ok || n != int64(to-from+1) {
			f.problem(se.Line, ProblemCount, "SE counts %s segments, there are %d", se.Field(1), to-from+1)
		}
	}
	return nil
}

// First is the first segment of an id.
func (f File) First(id string) (Segment, bool) {
	i := slices.IndexFunc(f.Segments, func(s Segment) bool { return s.ID == id })
	if i < 0 {
		return Segment{}, false
	}
	return f.Segments[i], true
}

// Write is a file of the segments between ST and G85, with everything around them.
func Write(comm string, body []Segment) []byte {
	var b bytes.Buffer
	line := func(id string, fields ...string) {
		b.WriteString(strings.TrimRight(strings.Join(append([]string{id}, fields...), "*"), "*"))
		b.WriteString("\r\n")
	}
	line("DXS", comm, "VA", "V0/6", "1")
	start := b.Len()
	line("ST", "001", "0001")
	for _, s := range body {
		line(s.ID, plain(s.Fields)...)
	}
	sum := crc(0, b.Bytes()[start:]...)
	line("G85", fmt.Sprintf("%04X", sum))
	line("SE", strconv.Itoa(len(body)+3), "0001") // ST, G85 and SE count too
	line("DXE", "1", "1")
	return b.Bytes()
}

// plain leaves out of names what would be read as something else.
func plain(fields []string) []string {
	out := make([]string, len(fields))
	for i, s := range fields {
		out[i] = strings.Map(func(r rune) rune {
			switch {
			case r == '*':
				return '-'
			case r < 0x20 || r > 0x7E:
				return '?'
			}
			return r
		}, s)
	}
	return out
}
