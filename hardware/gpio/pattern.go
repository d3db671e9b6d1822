package gpio

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Pattern is what a lamp or a buzzer does, as a technician writes it: steps with blanks between them, in ms.
//
//	80                   on for 80 ms
//	2x150/100            twice 150 ms, with 100 ms between and after
//	3x200/200 0/1500 *   three times, a pause, and again, for ever
//	on, off              steady
//
// The zero value is off.
type Pattern struct {
	steps []step
	loop  bool
	on    bool // steady
}

// step is so many times on and off.
type step struct {
	n       int
	on, off time.Duration
}

// Limits of a pattern.
const (
	mostTimes = 20
	mostStep  = 10 * time.Second
	mostSteps = 8
)

var errPattern = errors.New(`want steps as 80 or 2x150/100 in ms, with blanks between them and * at the end for "again"; or on, or off`)

// ParsePattern reads one.
func ParsePattern(text string) (p Pattern, err error) {
	fields := strings.Fields(text)
	switch {
	case len(fields) == 1 && fields[0] == "on":
		return Pattern{on: true}, nil
	case len(fields) == 1 && fields[0] == "off":
		return Pattern{}, nil
	}
	if n := len(fields); n > 1 && fields[n-1] == "*" {
		p.loop, fields = true, fields[:n-1]
	}
	if len(fields) == 0 || len(fields) > mostSteps {
		return Pattern{}, fmt.Errorf("%q: %w", text, errPattern)
	}
	for _, f := range fields {
		s, err := parseStep(f)
		if err != nil {
			return Pattern{}, fmt.Errorf("%q: %w", f, err)
		}
		p.steps = append(p.steps, s)
	}
	if p.length() == 0 {
		return Pattern{}, fmt.Errorf("%q: %w", text, errPattern)
	}
	return p, nil
}

func parseStep(text string) (s step, err error) {
	s.n = 1
	if n, rest, ok := strings.Cut(text, "x"); ok {
		if s.n, err = strconv.Atoi(n); err != nil || s.n < 1 || s.n > mostTimes || len(n) > 2 {
			return s, errPattern
		}
		text = rest
	}
	on, off, pause := strings.Cut(text, "/")
	ms := func(text string) (d time.Duration) {
		n, wrong := strconv.ParseUint(text, 10, 16)
		if d = time.Duration(n) * time.Millisecond; wrong != nil || d > mostStep { //nolint:gosec // 16 bits
			err = errPattern
		}
		return d
	}
	if s.on = ms(on); pause {
		s.off = ms(off)
	} else if s.n > 1 {
		return s, errPattern
	}
	return s, err
}

// MustPattern is of a text that is right.
func MustPattern(text string) Pattern {
	p, err := ParsePattern(text)
	if err != nil {
		panic(err)
	}
	return p
}

// Blinks is n short ones, a pause, and again.
func Blinks(n int) Pattern {
	if n = max(0, min(n, mostTimes)); n == 0 {
		return Pattern{}
	}
	return MustPattern(fmt.Sprintf("%dx200/300 0/1500 *", n))
}

// String is the pattern as it is written.
func (p Pattern) String() string {
	switch {
	case p.on:
		return "on"
	case len(p.steps) == 0:
		return "off"
	}
	var out []string
	for _, s := range p.steps {
		text := strconv.FormatInt(s.on.Milliseconds(), 10)
		if s.n > 1 {
			text = fmt.Sprintf("%dx%s", s.n, text)
		}
		if s.n > 1 || s.off > 0 {
			text += "/" + strconv.FormatInt(s.off.Milliseconds(), 10)
		}
		out = append(out, text)
	}
	if p.loop {
		out = append(out, "*")
	}
	return strings.Join(out, " ")
}

func (p Pattern) length() (d time.Duration) {
	for _, s := range p.steps {
		d += time.Duration(s.n) * (s.on + s.off)
	}
	return d
}

// at is how it stands a while after its beginning: until when, 0 for ever; over: it has ended, and is off.
func (p Pattern) at(since time.Duration) (on bool, until time.Duration, over bool) {
	if len(p.steps) == 0 {
		return p.on, 0, false
	}
	base := time.Duration(0)
	if length := p.length(); p.loop {
		base = since / length * length
	} else if since >= length {
		return false, 0, true
	}
	for _, s := range p.steps {
		for range s.n {
			if base += s.on; since < base {
				return true, base, false
			}
			if base += s.off; since < base {
				return false, base, false
			}
		}
	}
	return false, base, false
}
