package mdb

import (
	"errors"
	"strconv"
	"strings"

	"coinop/protocol"
)

// The text an MDB-USB or MDB Pi HAT of Qibixx speaks: lines of ASCII, the host's in upper case and
// ended by CR LF, the adapter's in lower case. Facts: docs.qibixx.com, api-cashless-slave and
// vending-sessions-examples; "VEND 1" and the parameters' names are from programs in the field.

// lineMax bounds a line; the longest known is under 60 bytes.
const lineMax = 128

// Lines cuts a stream into lines. Whatever is too long, or not printable ASCII, is dropped up to
// its end of line and counted: after a garbled line the next one is good again.
type Lines struct {
	buf  [lineMax]byte
	n    int
	bad  bool
	Lost int
}

// Add takes bytes and gives the lines that are complete.
func (l *Lines) Add(b []byte) []string {
	var out []string
	for _, c := range b {
		switch {
		case c == '\r' || c == '\n':
			if l.bad {
				l.Lost++
			} else if l.n > 0 {
				out = append(out, string(l.buf[:l.n]))
			}
			l.n, l.bad = 0, false
		case c < 0x20 || c > 0x7e || l.n == lineMax:
			l.bad = true
		default:
			l.buf[l.n] = c
			l.n++
		}
	}
	return out
}

// Kind is what a line of the adapter is.
type Kind uint8

// Kinds of line.
const (
	KindNoise   Kind = iota // r,ACK: the controller asked the adapter something
	KindVersion             // v,4.0.2.0,...: answer to V
	KindOn                  // c,1: echo of C,1
	KindOff                 // c,0
	KindSet                 // c,SET,OK
	KindStatus              // c,STATUS,...
	KindSuccess             // c,VEND,SUCCESS
	KindVendErr             // c,ERR,VEND n: n is the MDB subcommand, 1 cancel, 3 failure
	KindIsOn                // c,ERR,"cashless is on"
	KindIsOff               // c,ERR,"cashless is off"
	KindRefused             // any other c,ERR: it did not do what we said
	KindUnknown             // nothing we know
)

// Status is the cashless state the adapter tells, MDB/ICP 4.2, 7.2.
type Status uint8

// States. StatusUnknown is ours: the adapter lived on and has not said.
const (
	StatusUnknown Status = iota
	StatusInactive
	StatusDisabled
	StatusEnabled
	StatusIdle
	StatusVend
)

func (s Status) String() string {
	if s > StatusVend {
		return "status?"
	}
	return [...]string{"unknown", "INACTIVE", "DISABLED", "ENABLED", "IDLE", "VEND"}[s]
}

// Line is one line of the adapter, understood.
type Line struct {
	Kind   Kind
	Status Status
	Price  string // of StatusVend, as written
	Item   string
	Code   int // of KindVendErr
}

// ParseLine reads a line. It fails for nothing: what it does not know is KindUnknown.
func ParseLine(s string) Line {
	switch {
	case strings.HasPrefix(s, "r,"):
		return Line{Kind: KindNoise}
	case strings.HasPrefix(s, "v,"):
		return Line{Kind: KindVersion}
	case s == "c,1":
		return Line{Kind: KindOn}
	case s == "c,0":
		return Line{Kind: KindOff}
	case s == "c,SET,OK":
		return Line{Kind: KindSet}
	case s == "c,VEND,SUCCESS":
		return Line{Kind: KindSuccess}
	}
	if st, ok := strings.CutPrefix(s, "c,STATUS,"); ok {
		return parseStatus(st)
	}
	if e, ok := strings.CutPrefix(s, "c,ERR,"); ok {
		return parseErr(strings.Trim(e, `" `))
	}
	return Line{Kind: KindUnknown}
}

func parseStatus(s string) Line {
	word, rest, more := strings.Cut(s, ",")
	for st := StatusInactive; st <= StatusVend; st++ {
		if word != st.String() {
			continue
		}
		l := Line{Kind: KindStatus, Status: st}
		if st == StatusVend {
			price, item, two := strings.Cut(rest, ",")
			if !more || !two {
				return Line{Kind: KindUnknown} // VEND without price and item is half a line
			}
			l.Price, l.Item = strings.TrimSpace(price), strings.TrimSpace(item)
		}
		return l
	}
	return Line{Kind: KindUnknown}
}

func parseErr(s string) Line {
	switch {
	case strings.EqualFold(s, "cashless is on"):
		return Line{Kind: KindIsOn}
	case strings.EqualFold(s, "cashless is off"):
		return Line{Kind: KindIsOff}
	}
	if n, ok := strings.CutPrefix(s, "VEND "); ok {
		if code, err := strconv.Atoi(strings.TrimSpace(n)); err == nil && code >= 0 && code < 100 {
			return Line{Kind: KindVendErr, Code: code}
		}
	}
	return Line{Kind: KindRefused}
}

var errItem = errors.New("item is not a number of 16 bits")

func parseItem(s string) (protocol.Outlet, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, errItem
	}
	return protocol.Outlet(n), nil
}
