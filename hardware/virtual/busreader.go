package virtual

import (
	"context"
	"time"
)

// BusReaderConfig is a cashless reader at an MDB bus, of level 3 unless it says less. The zero value of a
// field is its default.
type BusReaderConfig struct {
	Link       string // symlink to the pty; none
	Level      byte   // 3
	Second     bool   // address 60 instead of 10
	AlwaysIdle bool   // a vend can be requested before the card
	Wide       bool   // 32 bits of money
	Waits      bool   // for Present; else a card is there whenever it is wanted
	Funds      uint16 // on the card, in cents; FFFF (not known)
	Z7         byte   // seconds it may take to answer; 5
}

// BusReaderFault is what goes wrong; each works once. Faults of the line are of the next VEND command
// (13), or of the next answer that is more than ACK.
type BusReaderFault uint8

// Faults.
const (
	BusReaderFine          BusReaderFault = iota
	BusReaderDeclines                     // 06
	BusReaderNoAnswer                     // neither 05 nor 06
	BusReaderSlow                         // the approval takes 300 ms
	BusReaderOtherAmount                  // one cent more is approved
	BusReaderMute                         // the command is carried out, and not acknowledged
	BusReaderNAK                          // it is not carried out, and NAK
	BusReaderMisses                       // it is not heard
	BusReaderSequence                     // it is not carried out, and 0B
	BusReaderDeaf                         // our ACK is not heard: it says it again
	BusReaderBadSum                       // an answer's sum is wrong once
	BusReaderGarbage                      // noise before an answer
	BusReaderDribbles                     // an answer comes byte by byte
	BusReaderHalf                         // half an answer, and the cable is out
	BusReaderUnplugs                      // approved and told; then the cable is out
	BusReaderWontRefund                   // 0A C0 to VEND FAILURE
	BusReaderRefundsSlow                  // it is silent for 300 ms first
	BusReaderResetAsked                   // it begins anew when it is asked
	BusReaderResetApproved                // it begins anew when its approval was heard
	BusReaderResetUnheard                 // it approves, and begins anew before it says so
	BusReaderJoins                        // the approval comes in one block with something else
	BusReaderTalks                        // it has a text to show first
	BusReaderUnplugsAsked                 // the cable is out when it is asked: nothing is done
	BusReaderUnplugsFailed                // VEND FAILURE is carried out, and the cable is out
	BusReaderWinsAbort                    // VEND CANCEL comes too late: it approves
	BusReaderDead                         // it says nothing any more, until Misbehave says otherwise
)

// BusReaderView is what can be seen of it: the buyers' money by its own books, in cents.
type BusReaderView struct {
	State    byte  // as in 0B: 1 inactive, 2 disabled, 3 enabled, 4 session idle, 5 vend
	Held     int64 // approved, and not ended
	Charged  int64
	Asked    int // vend requests carried out
	Approved int
	Refunds  int
	Resets   int
	Waiting  bool // for a card
}

// BusReader is the device. A vend it approved is charged when it hears that it succeeded, given back when
// it failed, and charged when it begins anew before it hears of either (MDB/ICP 4.2, 7.4.7).
type BusReader struct {
	cfg  BusReaderConfig
	port *port

	watch
	seen    BusReaderView
	in      []byte
	block   []uint16
	queue   [][]byte
	told    bool // queue[0] was said and waits for its ACK
	fault   BusReaderFault
	wide    bool
	always  bool
	config  bool
	price   int64
	ready   time.Time // when the approval is there
	silent  time.Time // until then POLLs are not answered
	dead    bool
	pending bool // asked, and not answered
}

// NewBusReader opens the pty; it starts nothing.
func NewBusReader(cfg BusReaderConfig) (*BusReader, error) {
	if cfg.Level == 0 {
		cfg.Level = 3
	}
	if cfg.Funds == 0 {
		cfg.Funds = 0xFFFF
	}
	if cfg.Z7 == 0 {
		cfg.Z7 = 5
	}
	p, err := newPort(cfg.Link)
	r := &BusReader{cfg: cfg, port: p, queue: [][]byte{{0x00}}}
	r.seen.State = 1
	return r, err
}

// Path is the tty the agent opens.
func (r *BusReader) Path() string { return r.port.name() }

// Run is its life; it ends with ctx, unplugged.
func (r *BusReader) Run(ctx context.Context) error { return r.port.read(ctx, r.hear) }

// Unplug takes the cable out; Replug puts it back.
func (r *BusReader) Unplug() { r.port.unplug() }

// Replug puts the cable back: a new pty behind the same link.
func (r *BusReader) Replug() error { return r.port.replug() }

// View is what can be seen now.
func (r *BusReader) View() BusReaderView {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// Wait waits until what can be seen is ok.
func (r *BusReader) Wait(ctx context.Context, ok func(BusReaderView) bool) error {
	return await(ctx, &r.watch, func() BusReaderView { return r.seen }, ok)
}

// Misbehave sets what goes wrong next.
func (r *BusReader) Misbehave(f BusReaderFault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault, r.dead = f, false
}

// PowerCut takes its power and gives it back: what it holds is charged, nobody told it otherwise.
func (r *BusReader) PowerCut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restart()
	r.tell()
}

// Present holds a card out; ErrNoEntry when none is waited for.
func (r *BusReader) Present(f BusReaderFault) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.tell()
	if !r.seen.Waiting {
		return ErrNoEntry
	}
	r.fault = f
	r.card()
	return nil
}

// card is one held out: a session where none is needed first, else the vend goes on.
func (r *BusReader) card() {
	r.seen.Waiting = false
	switch {
	case r.pending:
		r.decide()
	case r.seen.State == 3:
		f := r.cfg.Funds
		b := []byte{0x03, byte(f >> 8), byte(f)}
		switch {
		case r.cfg.Level < 2:
		case r.wide:
			wide := uint32(f)
			if f == 0xFFFF {
				wide = 0xFFFFFFFF
			}
			b = []byte{0x03, byte(wide >> 24), byte(wide >> 16), byte(wide >> 8), byte(wide)}
			b = append(b, 0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0, 0, 'e', 'n', 0x19, 0x78, 0x02)
		default:
			b = append(b, 0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0, 0)
		}
		r.queue = append(r.queue, b)
	}
}

// decide answers the vend request.
func (r *BusReader) decide() {
	switch r.fault {
	case BusReaderDeclines:
		r.fault, r.pending = BusReaderFine, false
		r.seen.State = 4
		r.queue = append(r.queue, []byte{0x06})
		return
	case BusReaderNoAnswer:
		r.fault = BusReaderFine
		return
	case BusReaderSlow:
		r.fault = BusReaderFine
		r.ready = time.Now().Add(300 * time.Millisecond)
		return
	}
	r.approve()
}

func (r *BusReader) approve() {
	amount := r.price
	switch r.fault {
	case BusReaderOtherAmount:
		r.fault = BusReaderFine
		amount++
	case BusReaderResetUnheard: // its host has charged, and nobody was told
		r.fault, r.pending = BusReaderFine, false
		r.seen.Held, r.seen.Approved = amount, r.seen.Approved+1
		r.restart()
		return
	}
	r.pending = false
	r.seen.Held, r.seen.Approved = amount, r.seen.Approved+1
	b := []byte{0x05, byte(amount >> 8), byte(amount)}
	if r.wide {
		b = []byte{0x05, byte(amount >> 24), byte(amount >> 16), byte(amount >> 8), byte(amount)}
	}
	switch r.fault {
	case BusReaderJoins:
		r.fault = BusReaderFine
		b = append([]byte{0x0A, 0x40}, b...)
	case BusReaderTalks:
		r.fault = BusReaderFine
		r.queue = append(r.queue, append([]byte{0x02, 0x32}, "Bitte warten"...))
	}
	r.queue = append(r.queue, b)
}

// restart begins anew: what it holds has succeeded.
func (r *BusReader) restart() {
	r.seen.Charged += r.seen.Held
	r.seen.Held, r.seen.State, r.seen.Waiting = 0, 1, false
	r.seen.Resets++
	r.queue, r.told, r.wide, r.always, r.config, r.pending = [][]byte{{0x00}}, false, false, false, false, false
	r.ready, r.silent = time.Time{}, time.Time{}
}

// hear takes the controller's words.
func (r *BusReader) hear(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.tell()
	r.in = append(r.in, b...)
	for len(r.in) > 0 {
		w, n := uint16(r.in[0]), 1
		if r.in[0] == 0xFF {
			switch {
			case len(r.in) < 2:
				return
			case r.in[1] == 0xFF:
				n = 2
			case len(r.in) < 3:
				return
			default:
				w, n = 0x100|uint16(r.in[2]), 3
			}
		}
		r.in = r.in[n:]
		r.word(w)
	}
}

// size of a controller's block, sum included.
func (r *BusReader) size(b []uint16) int {
	switch byte(b[0]) & 7 {
	case 0, 2:
		return 2
	}
	if len(b) < 2 {
		return 0
	}
	switch uint16(b[0]&7)<<8 | b[1]&0xFF {
	case 0x100:
		return 7
	case 0x101:
		if r.wide {
			return 13
		}
		return 7
	case 0x300:
		if r.wide {
			return 9
		}
		return 7
	case 0x302:
		return 5
	case 0x700:
		return 32
	case 0x704:
		return 7
	}
	return 3
}

func (r *BusReader) word(w uint16) {
	switch {
	case w&0x100 != 0:
		base := byte(0x10)
		if r.cfg.Second {
			base = 0x60
		}
		if r.block = nil; byte(w)&0xF8 != base {
			return
		}
		r.block = []uint16{w}
	case len(r.block) == 0:
		if byte(w) == 0x00 && r.told {
			r.heard()
		}
		return
	default:
		r.block = append(r.block, w)
	}
	n := r.size(r.block)
	if n == 0 || len(r.block) < n {
		return
	}
	var data []byte
	sum := byte(0)
	for _, x := range r.block[:n-1] {
		data = append(data, byte(x))
		sum += byte(x)
	}
	good := sum == byte(r.block[n-1])
	r.block, r.told = nil, false // what was not acknowledged is said again
	switch {
	case r.dead:
	case !good:
		r.lone(0xFF)
	default:
		r.command(data)
	}
}

// heard is our answer's ACK.
func (r *BusReader) heard() {
	r.told = false
	if r.fault == BusReaderDeaf {
		r.fault = BusReaderFine
		return
	}
	m := r.queue[0]
	r.queue = r.queue[1:]
	switch m[0] {
	case 0x03:
		r.seen.State = 4
	case 0x05, 0x0A:
		switch r.fault {
		case BusReaderResetApproved:
			r.fault = BusReaderFine
			r.restart()
		case BusReaderUnplugs:
			r.fault = BusReaderFine
			r.port.unplug()
		}
	case 0x07:
		r.seen.State = 3
		r.want()
	}
}

// want is a reader that is ready for a card.
func (r *BusReader) want() {
	if r.seen.State != 3 || r.always {
		return
	}
	r.seen.Waiting = true
	if !r.cfg.Waits {
		r.card()
	}
}

func (r *BusReader) lone(b byte) { r.put([]uint16{0x100 | uint16(b)}) }

// put is words on the line, marked as a port does.
func (r *BusReader) put(words []uint16) {
	var out []byte
	for _, w := range words {
		switch {
		case w&0x100 != 0:
			out = append(out, 0xFF, 0, byte(w))
		case w == 0xFF:
			out = append(out, 0xFF, 0xFF)
		default:
			out = append(out, byte(w))
		}
	}
	switch {
	case len(words) == 1:
	case r.fault == BusReaderGarbage:
		r.fault = BusReaderFine
		out = append([]byte{0x55, 0xFF, 0x12, 0x33, 0xFF, 0, 0x77}, out...)
	case r.fault == BusReaderDribbles:
		r.fault = BusReaderFine
		for i := range out {
			_ = r.port.write(out[i : i+1])
			time.Sleep(time.Millisecond) // it is what the fault is
		}
		return
	case r.fault == BusReaderHalf && words[0] == 0x05:
		r.fault = BusReaderFine
		_ = r.port.write(out[:len(out)/2])
		r.port.unplug()
		return
	}
	_ = r.port.write(out)
}

// say answers with data.
func (r *BusReader) say(data []byte) {
	var words []uint16
	sum := byte(0)
	for _, b := range data {
		words, sum = append(words, uint16(b)), sum+b
	}
	if r.fault == BusReaderBadSum {
		r.fault = BusReaderFine
		sum++
	}
	r.put(append(words, 0x100|uint16(sum)))
}

func (r *BusReader) command(data []byte) {
	ack := func() { r.lone(0x00) }
	sub := byte(0xFF)
	if len(data) > 1 {
		sub = data[1]
	}
	switch data[0] & 7 {
	case 0:
		r.restart()
		ack()
	case 1:
		if sub == 0x00 {
			r.config = true
			r.say([]byte{0x01, r.cfg.Level, 0x19, 0x78, 0x01, 0x02, r.cfg.Z7, 0x01})
			return
		}
		ack()
		if r.config && r.seen.State == 1 {
			r.seen.State = 2
		}
	case 2:
		r.poll()
	case 3:
		r.vend(sub, data[2:])
	case 4:
		r.reader(sub)
	case 7:
		r.expansion(sub, data[2:])
	default:
		r.sequence()
	}
}

func (r *BusReader) poll() {
	if !r.ready.IsZero() && r.pending && time.Now().After(r.ready) {
		r.ready = time.Time{}
		r.approve()
	}
	switch {
	case time.Now().Before(r.silent):
	case len(r.queue) == 0:
		r.lone(0x00)
	default:
		r.told = true
		r.say(r.queue[0])
	}
}

// sequence is a command that does not fit: acknowledged, and not carried out.
func (r *BusReader) sequence() {
	r.lone(0x00)
	b := []byte{0x0B, r.seen.State}
	if r.cfg.Level < 2 {
		b = b[:1]
	}
	r.queue = append(r.queue, b)
}

func (r *BusReader) reader(sub byte) {
	switch {
	case sub == 0x00:
		if r.seen.State == 3 {
			r.seen.State, r.seen.Waiting = 2, false
		}
		r.lone(0x00)
	case sub == 0x01:
		r.lone(0x00)
		if r.seen.State == 2 {
			r.seen.State = 3
			r.want()
		}
	case sub == 0x02 && r.seen.State == 3:
		r.seen.Waiting = false
		r.say([]byte{0x08})
	default:
		r.sequence()
	}
}

func (r *BusReader) expansion(sub byte, data []byte) {
	switch sub {
	case 0x00:
		b := append([]byte{0x09}, "KSK000000000042EDGE-READER1"...)
		b = append(b, 0x01, 0x00)
		if r.cfg.Level >= 3 {
			f := byte(0x01) // FTL, which nobody wants
			if r.cfg.AlwaysIdle {
				f |= 0x20
			}
			if r.cfg.Wide {
				f |= 0x02
			}
			b = append(b, 0, 0, 0, f)
		}
		r.say(b)
	case 0x04:
		r.lone(0x00)
		r.always, r.wide = data[3]&0x20 != 0, data[3]&0x06 != 0
	default:
		r.sequence()
	}
}

// vend is 13.
func (r *BusReader) vend(sub byte, data []byte) {
	ack := func() { r.lone(0x00) }
	switch f := r.fault; f {
	case BusReaderMute:
		r.fault = BusReaderFine
		ack = func() {}
	case BusReaderNAK:
		r.fault = BusReaderFine
		r.lone(0xFF)
		return
	case BusReaderMisses:
		r.fault = BusReaderFine
		return
	case BusReaderSequence:
		r.fault = BusReaderFine
		r.sequence()
		return
	case BusReaderDead:
		r.dead = true
		return
	case BusReaderUnplugsAsked:
		r.fault = BusReaderFine
		r.port.unplug()
		return
	}
	switch {
	case sub == 0x00 && (r.seen.State == 4 || r.seen.State == 3 && r.always):
		ack()
		r.request(data)
	case sub == 0x01 && r.pending && r.fault == BusReaderWinsAbort:
		r.fault, r.seen.Waiting = BusReaderFine, false
		ack()
		r.approve()
	case sub == 0x01 && r.seen.State == 5 && r.seen.Held == 0:
		ack()
		r.pending, r.ready, r.seen.Waiting, r.seen.State = false, time.Time{}, false, 4
		r.queue = append(r.queue, []byte{0x06})
	case sub == 0x02 && r.seen.State == 5 && r.seen.Held > 0:
		r.dropApproval()
		ack()
		r.seen.Charged += r.seen.Held
		r.seen.Held, r.seen.State = 0, 4
	case sub == 0x03 && r.seen.State == 5:
		r.dropApproval()
		if r.fault == BusReaderUnplugsFailed {
			r.fault = BusReaderFine
			ack = r.port.unplug
		}
		ack()
		r.failed()
	case sub == 0x04 && (r.seen.State == 4 || r.seen.State == 3):
		ack()
		r.queue = append(r.queue, []byte{0x07})
	default:
		ack()
		r.queue = append(r.queue, []byte{0x0B, r.seen.State}[:min(2, 1+int(r.cfg.Level/2))])
	}
}

func (r *BusReader) request(data []byte) {
	r.price = int64(data[0])<<8 | int64(data[1])
	if r.wide {
		r.price = r.price<<16 | int64(data[2])<<8 | int64(data[3])
	}
	r.seen.Asked++
	if r.fault == BusReaderResetAsked {
		r.fault = BusReaderFine
		r.restart()
		return
	}
	card := r.seen.State == 3 // always idle: it comes now
	r.seen.State, r.pending = 5, true
	if r.seen.Waiting = card && r.cfg.Waits; !r.seen.Waiting {
		r.decide()
	}
}

// dropApproval is one whose ACK was not heard: whoever says how the vend ended has heard it.
func (r *BusReader) dropApproval() {
	kept := r.queue[:0]
	for _, m := range r.queue {
		if m[0] != 0x05 && len(m) < 5 {
			kept = append(kept, m)
		}
	}
	r.queue = kept
}

func (r *BusReader) failed() {
	held := r.seen.Held
	r.seen.Held, r.seen.State, r.pending = 0, 4, false
	switch r.fault {
	case BusReaderWontRefund:
		r.fault = BusReaderFine
		r.seen.Charged += held
		r.queue = append(r.queue, []byte{0x0A, 0xC0})
		return
	case BusReaderRefundsSlow:
		r.fault = BusReaderFine
		r.silent = time.Now().Add(300 * time.Millisecond)
	}
	r.seen.Refunds++
}
