package dex

import (
	"context"
	"errors"
	"time"

	"coinop/hardware"
)

// Control characters of the link (EVA-DTS 6.1.1, DEX/UCS).
const (
	soh, stx, etx, eot, enq, dle, nak, etb = 0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x15, 0x17
	ack0, ack1, wack                       = 0x30, 0x31, 0x3B // behind DLE
)

// Times of a session.
const (
	answerTime = time.Second // timer A
	quietTime  = 2 * time.Second
	overall    = 60 * time.Second
	enqEvery   = time.Second
	enqTries   = 10
	tries      = 5
	blockMost  = 512 // bytes of data; the standard has 245
	nameMost   = 64

	firstHandshake = "R" + "R00L06" // we read; revision and level of what we speak
)

// Reasons of hardware.AuditRead beside "".
const (
	ReasonBusy     = "busy"      // a reading runs
	ReasonNoAnswer = "no_answer" // the machine does not speak DEX, or the cable is out
	ReasonBroken   = "broken"    // it began, and did not come to its end
	ReasonTooLong  = "too_long"
	ReasonPortLost = "port_lost"
	defaultCommID  = "COINOP0001" // ten characters
)

// phase is how far a session is. As the one that collects, we begin, and then change sides twice:
//
//	ask: ENQ → name: SOH who we are → listen ENQ → hear: SOH who it is → listen ENQ → data: STX blocks → EOT
type phase uint8

const (
	idle    phase = iota
	asking        // ENQ sent, DLE 0 awaited
	naming        // our name sent, DLE 1 awaited
	listen1       // its ENQ awaited
	hearing       // its name comes
	listen2       // its ENQ awaited
	reading       // its data come
)

// State is the machine of one reading: pure, its time is given.
type State struct {
	comm  string
	open  bool
	phase phase
	until time.Duration // of this wait
	end   time.Duration // of the whole
	tried int
	next  byte // acknowledgment of the next block

	esc   bool
	in    bool // within SOH or STX
	head  byte
	block []byte
	last  byte // ETX or ETB, when its sum comes
	sum   []byte
	file  []byte
}

// NewState is a machine whose port is not open yet.
func NewState(comm string) State { return State{comm: comm} }

type read struct{}

// Step takes one input at a time now.
func (s State) Step(now time.Duration, in any) (State, hardware.Output) {
	var o hardware.Output
	switch in := in.(type) {
	case hardware.Opened:
		s = State{comm: s.comm, open: true}
		o.Emit(hardware.Health{Device: "dex", State: hardware.Ready, Code: hardware.CodeReady})
	case hardware.Closed:
		if s.phase != idle {
			s.finish(&o, ReasonPortLost)
		}
		s.open = false
	case read:
		s.begin(&o, now)
	case hardware.Bytes:
		for _, b := range in.B {
			s.hear(&o, now, b)
		}
	case hardware.Wake:
		s.tick(&o, now)
	}
	if s.phase != idle {
		o.Wake = min(s.until, s.end)
	}
	return s, o
}

func (s *State) begin(o *hardware.Output, now time.Duration) {
	switch {
	case !s.open:
		o.Emit(hardware.AuditRead{Reason: ReasonPortLost})
	case s.phase != idle:
		o.Emit(hardware.AuditRead{Reason: ReasonBusy})
	default:
		*s = State{comm: s.comm, open: true, phase: asking, until: now + enqEvery, end: now + overall}
		o.Write([]byte{enq})
	}
}

// finish ends the session.
func (s *State) finish(o *hardware.Output, reason string) {
	ev := hardware.AuditRead{Reason: reason}
	if reason == "" {
		ev.File = s.file
	}
	o.Emit(ev)
	*s = State{comm: s.comm, open: s.open}
}

func (s *State) tick(o *hardware.Output, now time.Duration) {
	switch {
	case s.phase == idle || now < min(s.until, s.end):
	case now >= s.end:
		o.Write([]byte{eot})
		s.finish(o, ReasonBroken)
	case s.phase == asking && s.tried+1 < enqTries:
		s.tried++
		s.until = now + enqEvery
		o.Write([]byte{enq})
	case s.phase == asking:
		s.finish(o, ReasonNoAnswer)
	case s.phase == naming && s.tried < tries:
		s.tried++
		s.until = now + answerTime
		o.Write([]byte{enq}) // what did you say?
	default:
		o.Write([]byte{eot})
		s.finish(o, ReasonBroken)
	}
}

// name is our first handshake: who we are, and that we want to read.
func (s *State) name(o *hardware.Output, now time.Duration) {
	s.phase, s.until = naming, now+answerTime
	text := (s.comm + defaultCommID)[:10] + firstHandshake
	b := append([]byte{dle, soh}, text...)
	b = append(b, dle, etx)
	sum := crc(crc(0, []byte(text)...), etx)
	o.Write(append(b, byte(sum), byte(sum>>8)))
}

// hear takes one byte. Commands come behind DLE, or alone; data between them.
func (s *State) hear(o *hardware.Output, now time.Duration, b byte) {
	if s.phase == idle {
		return
	}
	if s.last != 0 { // the sum, as it is
		if s.sum = append(s.sum, b); len(s.sum) == 2 {
			s.whole(o, now)
		}
		return
	}
	if s.esc {
		s.esc = false
		s.command(o, now, b)
		return
	}
	switch {
	case b == dle:
		s.esc = true
	case s.in:
		s.data(o, b)
	case b == enq:
		s.asked(o, now)
	case b == eot:
		s.over(o, now)
	case b == nak && s.phase == naming && s.tried < tries:
		s.tried++
		s.name(o, now)
	}
}

func (s *State) data(o *hardware.Output, b byte) {
	limit := blockMost
	if s.head == soh {
		limit = nameMost
	}
	if s.block = append(s.block, b); len(s.block) > limit {
		s.in, s.block = false, nil
		o.Write([]byte{nak})
	}
}

// command is a byte behind DLE.
func (s *State) command(o *hardware.Output, now time.Duration, b byte) {
	switch {
	case s.in && b == dle: // a DLE that is data
		s.data(o, b)
	case s.in && (b == etx || b == etb):
		s.in, s.last, s.sum = false, b, nil
	case b == soh && s.phase == hearing, b == stx && s.phase == reading:
		s.in, s.head, s.block = true, b, nil
	case b == ack0 && s.phase == asking:
		s.tried = 0
		s.name(o, now)
	case b == ack1 && s.phase == naming:
		s.phase, s.until = listen1, now+quietTime
		o.Write([]byte{eot})
	case b == wack: // it is busy: wait on
		s.until = now + quietTime
	}
}

// asked is the machine's ENQ: it has something to say, or did not hear our last answer.
func (s *State) asked(o *hardware.Output, now time.Duration) {
	switch s.phase {
	case listen1:
		s.phase, s.next = hearing, ack1
	case listen2:
		s.phase, s.next = reading, ack1
	case hearing, reading: // our answer was lost: the same again
		s.until = now + quietTime
		o.Write([]byte{dle, s.before()})
		return
	default:
		return
	}
	s.until = now + quietTime
	o.Write([]byte{dle, ack0})
}

// before is the acknowledgment that was said last.
func (s *State) before() byte { return ack0 + ack1 - s.next }

// whole is a block with its sum.
func (s *State) whole(o *hardware.Output, now time.Duration) {
	last, said := s.last, uint16(s.sum[0])|uint16(s.sum[1])<<8
	s.last, s.sum = 0, nil
	s.until = now + quietTime
	if crc(crc(0, s.block...), last) != said {
		if s.tried++; s.tried > tries {
			o.Write([]byte{eot})
			s.finish(o, ReasonBroken)
			return
		}
		o.Write([]byte{nak})
		return
	}
	s.tried = 0
	if s.phase == reading {
		if s.file = append(s.file, s.block...); len(s.file) > MaxFile {
			o.Write([]byte{eot})
			s.finish(o, ReasonTooLong)
			return
		}
	}
	o.Write([]byte{dle, s.next})
	s.next = s.before()
}

// over is the machine's EOT: the end of its name, or of its file.
func (s *State) over(o *hardware.Output, now time.Duration) {
	switch s.phase {
	case hearing:
		s.phase, s.until = listen2, now+quietTime
	case reading:
		if len(s.file) == 0 {
			s.finish(o, ReasonBroken)
			return
		}
		s.finish(o, "")
	default:
		s.finish(o, ReasonBroken)
	}
}

// Config is one link. The zero value of a field is its default.
type Config struct {
	Path  string         // the tty; required
	Comm  string         // our communication id, ten characters; "COINOP0001"
	Clock hardware.Clock // starts at New
}

// Reader reads a machine's audit file over DEX.
type Reader struct {
	hardware.Driven
	state State
	box   hardware.Mailbox
}

var _ hardware.Audit = (*Reader)(nil)

// New checks the configuration; it starts and opens nothing.
func New(cfg Config, out func(hardware.Event)) (*Reader, error) {
	if cfg.Comm == "" {
		cfg.Comm = defaultCommID
	}
	if len(cfg.Comm) != 10 {
		return nil, errors.New("dex: a communication id has ten characters")
	}
	if cfg.Clock == nil {
		cfg.Clock = hardware.Since()
	}
	r := &Reader{state: NewState(cfg.Comm)}
	open := func(context.Context) (hardware.Port, error) { return hardware.OpenTTY(cfg.Path, 9600) }
	r.Driven = hardware.Drive(open, cfg.Clock, hardware.Stepping(&r.state), &r.box, out)
	return r, nil
}

// Read begins a reading; it takes seconds, and ends with hardware.AuditRead.
func (r *Reader) Read() error { return r.box.Post(read{}) }
