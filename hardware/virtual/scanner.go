package virtual

import (
	"bytes"
	"context"
)

// ScannerKind is what a scanner is connected by, and how it is told to look.
type ScannerKind uint8

// Kinds of scanners. Those without a maker's name look all the time.
const (
	ScannerCR       ScannerKind = iota // at a serial line, codes end with CR
	ScannerCRLF                        // with CR LF
	ScannerBare                        // with nothing
	ScannerKeyboard                    // it types, and Enter behind it
	ScannerHoneywell
	ScannerNewland
	ScannerGM65
)

// ScannerFault is what a scanner does wrong with the next code.
type ScannerFault uint8

// Faults of a scanner; each works once.
const (
	ScannerOK      ScannerFault = iota
	ScannerTwice                // it sees it twice
	ScannerTornOff              // half of it comes, and no end
	ScannerControl              // a control character stands in it
	ScannerLostKey              // the kernel dropped a key of it
)

// ScannerView is what can be seen of a scanner.
type ScannerView struct {
	Looks  bool // it would read a code now
	Starts int  // times it was told to look
	Stops  int
	BadIn  int // bytes that were no command of its maker's
}

// Scanner is a reader of codes. Show holds one before it.
type Scanner struct {
	kind ScannerKind
	port *port

	watch
	seen  ScannerView
	in    []byte
	fault ScannerFault
}

// NewScanner opens the pty; link is a symlink to it, or "". It starts nothing.
func NewScanner(link string, kind ScannerKind) (*Scanner, error) {
	p, err := newPort(link)
	s := &Scanner{kind: kind, port: p}
	s.seen.Looks = kind < ScannerHoneywell
	return s, err
}

// Path is what the agent opens: the link where there is one.
func (s *Scanner) Path() string { return s.port.name() }

// Run is the scanner's life; it ends with ctx, unplugged.
func (s *Scanner) Run(ctx context.Context) error { return s.port.read(ctx, s.hear) }

// Unplug takes its cable out; it has no power then, and looks for nothing when it is back.
func (s *Scanner) Unplug() {
	s.port.unplug()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Looks, s.in = s.kind < ScannerHoneywell, nil
	s.tell()
}

// Replug puts it in again.
func (s *Scanner) Replug() error { return s.port.replug() }

// Line sets what becomes of what it says.
func (s *Scanner) Line(f LineFault) { s.port.misbehave(f) }

// Misbehave sets what it does wrong with the next code.
func (s *Scanner) Misbehave(f ScannerFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// View is what can be seen now.
func (s *Scanner) View() ScannerView {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// Wait waits until what can be seen is ok.
func (s *Scanner) Wait(ctx context.Context, ok func(ScannerView) bool) error {
	return await(ctx, &s.watch, func() ScannerView { return s.seen }, ok)
}

// Show holds a code before it. It is ErrNotArmed when it does not look.
func (s *Scanner) Show(code string) error {
	s.mu.Lock()
	f := s.fault
	s.fault = ScannerOK
	looks := s.seen.Looks
	if s.kind >= ScannerHoneywell { // one code for each time it was told
		s.seen.Looks = false
		s.tell()
	}
	s.mu.Unlock()
	if !looks {
		return ErrNotArmed
	}
	say, end := func(text string) []byte { return []byte(text) }, "\r"
	switch s.kind {
	case ScannerCRLF:
		end = "\r\n"
	case ScannerBare:
		end = ""
	case ScannerKeyboard:
		say = typed
	default:
	}
	half := len(code) / 2
	var b []byte
	switch f {
	case ScannerOK:
		b = say(code + end)
	case ScannerTwice:
		b = say(code + end + code + end)
	case ScannerTornOff:
		b = say(code[:half])
	case ScannerControl:
		b = append(append(say(code[:half]), 0x1D), say(code[half:]+end)...)
		if s.kind == ScannerKeyboard { // Ctrl held, and ]
			group := event(event(event(nil, 1, 29, 1), 1, 27, 1), 1, 27, 0)
			b = bytes.Join([][]byte{say(code[:half]), event(event(group, 1, 29, 0), 0, 0, 0), say(code[half:] + end)}, nil)
		}
	case ScannerLostKey:
		b = append(append(say(code[:half]), event(event(nil, 0, 3, 0), 0, 0, 0)...), say(code[half:]+end)...)
	}
	return s.port.write(b)
}

// hear takes commands apart, of its own maker alone.
func (s *Scanner) hear(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.tell()
	s.in = append(s.in, b...)
	for len(s.in) > 0 {
		n, start, answer := s.command()
		switch {
		case n == 0: // not all of it is here
			return
		case n < 0:
			s.seen.BadIn++
			s.in = s.in[1:]
			continue
		}
		s.in = s.in[n:]
		if s.seen.Looks = start; start {
			s.seen.Starts++
		} else {
			s.seen.Stops++
		}
		if answer != nil {
			_ = s.port.write(answer)
		}
	}
}

func (s *Scanner) command() (n int, start bool, answer []byte) {
	in := s.in
	switch s.kind {
	case ScannerHoneywell: // SYN, T or U, CR
		if in[0] != 0x16 {
			return -1, false, nil
		} else if len(in) < 3 {
			return 0, false, nil
		} else if in[2] != '\r' || in[1] != 'T' && in[1] != 'U' {
			return -1, false, nil
		}
		return 3, in[1] == 'T', nil
	case ScannerNewland: // SOH, T or P, EOT
		if in[0] != 0x01 {
			return -1, false, nil
		} else if len(in) < 3 {
			return 0, false, nil
		} else if in[2] != 0x04 || in[1] != 'T' && in[1] != 'P' {
			return -1, false, nil
		}
		return 3, in[1] == 'T', []byte{0x06}
	case ScannerGM65: // 7E 00, write, one byte, at 0002, value, no CRC wanted
		if in[0] != 0x7E {
			return -1, false, nil
		} else if len(in) < 9 {
			return 0, false, nil
		} else if !bytes.Equal(in[:6], []byte{0x7E, 0, 8, 1, 0, 2}) || in[6] > 1 || in[7] != 0xAB || in[8] != 0xCD {
			return -1, false, nil
		}
		return 9, in[6] == 1, []byte{0x02, 0, 0, 0x01, 0, 0x33, 0x31}
	default:
		return -1, false, nil
	}
}
