package mdb

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/protocol"
)

// TestCashlessRandom: a controller that does anything, and hears and is heard badly. Of every vend that
// was approved:
//
//	the approval ends once; withdrawn means that no controller has heard it, delivered that it has;
//	a result is told at most once, only of what the controller reported, and of the vend it meant;
//	a request is told once, however often it is repeated.
//
// Of every load that was agreed to the same, and a request to load is told once. Of every question for digits: it
// ends once, and what was entered is what the controller said last.
func TestCashlessRandom(t *testing.T) {
	t.Parallel()
	rounds := 1500
	if testing.Short() {
		rounds = 400
	}
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a test
		m := &controller{bus: newBus(t, CashlessConfig{}), r: r, keys: map[protocol.BusKey]int{}}
		m.run(120)
		if m.wrong != "" {
			t.Fatalf("seed %d: %s\n%s", seed, m.wrong, strings.Join(m.log, "\n"))
		}
	}
}

// controller is a model of one, with its own book: what it heard, and what it reported.
type controller struct {
	*bus
	r     *rand.Rand
	log   []string
	wrong string

	n        byte
	open     bool // it made a request and has no answer
	granted  bool // it heard 05 and has not said how it ended
	current  protocol.VendID
	key      protocol.BusKey // of the newest request told
	keys     map[protocol.BusKey]int
	heard    map[protocol.VendID]bool // its 05 came to the controller
	ended    map[protocol.VendID]hardware.Delivery
	reported map[protocol.VendID]string // by the controller, and that report came through
	results  map[protocol.VendID]int
	taken    []protocol.VendID

	loading    bool // it asked to load and has no answer
	loadKey    protocol.BusKey
	loadHeard  map[protocol.BusKey]bool // its 0D came to the controller
	loadEnded  map[protocol.BusKey]hardware.Delivery
	loadAgreed map[protocol.BusKey]bool
	loads      int // made, repeats not counted
	loadsTold  int

	pad    bool // it was asked for digits
	typed  string
	asks   uint32
	answer map[uint32]int // ends of each

	by map[protocol.VendID]time.Duration // when each is not to be said any more

	requests int // made, repeats not counted
}

func (m *controller) run(steps int) {
	m.heard, m.ended = map[protocol.VendID]bool{}, map[protocol.VendID]hardware.Delivery{}
	m.reported, m.results = map[protocol.VendID]string{}, map[protocol.VendID]int{}
	m.loadHeard, m.loadEnded, m.loadAgreed = map[protocol.BusKey]bool{}, map[protocol.BusKey]hardware.Delivery{}, map[protocol.BusKey]bool{}
	m.answer, m.by = map[uint32]int{}, map[protocol.VendID]time.Duration{}
	m.in(limit{200})
	m.start()
	for range steps {
		m.now += time.Duration(m.r.IntN(30)) * time.Millisecond
		m.one()
		if m.wrong != "" {
			return
		}
	}
	m.in(hardware.Closed{})
	m.events()
	for _, v := range m.taken {
		how, ok := m.ended[v]
		switch {
		case !ok:
			m.fail("%v has no end", v)
		case how == hardware.ApprovalWithdrawn && m.heard[v]:
			m.fail("%v ended withdrawn, and the controller has heard it", v)
		case how == hardware.ApprovalDelivered && !m.heard[v]:
			m.fail("%v ended delivered, and the controller has not heard it", v)
		case m.results[v] > 1:
			m.fail("%v has %d results", v, m.results[v])
		}
	}
	for k, yes := range m.loadAgreed {
		switch how, ok := m.loadEnded[k]; {
		case !yes:
		case !ok:
			m.fail("load %v has no end", k)
		case how == hardware.ApprovalWithdrawn && m.loadHeard[k]:
			m.fail("load %v ended withdrawn, and the controller has heard it", k)
		case how == hardware.ApprovalDelivered && !m.loadHeard[k]:
			m.fail("load %v ended delivered, and the controller has not heard it", k)
		}
	}
	for id := range m.asks {
		if n := m.answer[id+1]; n != 1 {
			m.fail("question %d has %d ends", id+1, n)
		}
	}
	if m.loadsTold > m.loads {
		m.fail("%d requests to load told, %d made", m.loadsTold, m.loads)
	}
}

func (m *controller) fail(format string, args ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf(format, args...)
	}
}

func (m *controller) start() {
	for _, l := range level3 {
		says, _, _ := strings.Cut(l, " -> ")
		if strings.HasPrefix(says, "17*") {
			says = "17* 04 00 00 00 30 4B" // data entry too
		}
		m.say(says)
	}
	m.open, m.granted, m.loading, m.pad = false, false, false, false
}

// say puts words on the wire, and looks at events.
func (m *controller) say(words string) string {
	answer := m.vmc(words)
	m.log = append(m.log, fmt.Sprintf("%s -> %s  %+v", words, answer, m.ev))
	m.events()
	return answer
}

func (m *controller) events() {
	for _, e := range m.ev {
		switch e := e.(type) {
		case hardware.VendRequest:
			if m.keys[e.Bus]++; e.Bus != m.key && !e.Bus.Later(m.key) {
				m.fail("key %v after %v", e.Bus, m.key)
			}
			m.key = e.Bus
		case hardware.Approval:
			if _, twice := m.ended[e.Vend]; twice {
				m.fail("%v ended twice", e.Vend)
			}
			m.ended[e.Vend] = e.How
		case hardware.LoadRequest:
			if m.loadsTold++; !e.Bus.Later(m.loadKey) || !e.Bus.Later(m.key) {
				m.fail("key %v after %v and %v", e.Bus, m.loadKey, m.key)
			}
			m.loadKey = e.Bus
		case hardware.Loaded:
			if _, twice := m.loadEnded[e.Bus]; twice || !m.loadAgreed[e.Bus] {
				m.fail("load %v ended twice, or nobody agreed to it", e.Bus)
			}
			m.loadEnded[e.Bus] = e.How
		case hardware.DataEntered:
			m.answer[e.ID]++
			if got := string(e.Data.Reveal()); got != m.typed {
				m.fail("entered %q, the controller said %q", got, m.typed)
			}
		case hardware.DataRefused:
			if e.Reason != hardware.EntryRepeated && e.Reason != hardware.EntryLate {
				m.answer[e.ID]++
			}
		case hardware.VendSuccess:
			m.result(e.Vend, "success")
		case hardware.VendFailure:
			m.result(e.Vend, "failure")
		}
	}
	m.ev = nil
}

func (m *controller) result(v protocol.VendID, what string) {
	m.results[v]++
	if m.reported[v] != what {
		m.fail("%s of %v, the controller reported %q", what, v, m.reported[v])
	}
}

const (
	open150 = "13* 00 00 96 00 05 AE"
	load150 = "15* 00 00 96 AB"
)

// one is one thing that happens.
func (m *controller) one() {
	switch m.r.IntN(18) {
	case 0, 1, 2, 3: // poll
		m.poll()
	case 4, 5: // a buyer
		if !m.open && !m.granted && (!m.loading || m.r.IntN(9) == 0) { // while it loads it should not
			m.requests++
			if m.say(open150); m.r.IntN(5) == 0 { // it did not hear our ACK
				m.say(open150)
			}
			m.open, m.loading = true, false
		}
	case 6, 7: // the session approves
		again := m.n > 0 && m.r.IntN(4) == 0 // the session answers a repeated request so
		if !again {
			m.n++
		}
		v := vendOf(m.n)
		key := m.key
		if m.r.IntN(6) == 0 {
			key = protocol.BusKey{}
		}
		if !again {
			m.taken = append(m.taken, v)
		}
		by := m.now + time.Duration(50+m.r.IntN(400))*time.Millisecond
		if _, ok := m.by[v]; !ok {
			m.by[v] = by
		}
		m.in(approve{vend: v, bus: key, units: 150, by: by})
		m.log = append(m.log, fmt.Sprintf("approve %v  %+v", v, m.ev))
		m.events()
	case 8:
		if m.r.IntN(3) == 0 {
			m.in(end{})
		} else {
			m.in(deny{bus: m.key})
		}
		m.by[m.s.approval.vend] = 0
		m.log = append(m.log, fmt.Sprintf("deny  %+v", m.ev))
		m.events()
	case 9: // the vend ends
		if m.granted {
			says, what := "13* 02 00 05 1A", "success"
			if m.r.IntN(3) == 0 {
				says, what = "13* 03 16", "failure"
			}
			m.reported[m.current] = what
			m.granted = false
			m.say(says)
			if m.r.IntN(4) == 0 {
				m.say(says)
			}
		}
	case 10: // it takes its request back
		if m.open {
			m.say("13* 01 14")
		}
	case 11:
		switch m.r.IntN(3) {
		case 0:
			m.say("10* 10")
		case 1:
			m.in(hardware.Bytes{B: []byte{0xFF, 0, 0}})
			m.events()
		case 2: // it lost its patience
			m.say("10* 10")
			m.say("10* 10")
		}
		m.start()
	case 12: // noise, and others on the bus
		noise := []string{"0B* 0B", "00", "FF", "13* 00 00 96", "13* 00 00 96 00 05 AF", "55", "13* 77 8A"}[m.r.IntN(7)]
		if !strings.Contains(noise, "*") && m.s.wantsAck {
			noise = "0B* " + noise // a lone 00 behind a block of ours is an ACK, whoever said it
		}
		m.say(noise)
		m.now += blockGap
		m.in(hardware.Wake{})
		m.events()
	case 13:
		m.in(hardware.Wake{})
		m.events()
	case 14: // a buyer who puts cash on his card
		if !m.open && !m.granted {
			if !m.loading {
				m.loads++
			}
			if m.say(load150); m.r.IntN(5) == 0 {
				m.say(load150)
			}
			m.loading = true
		}
	case 15: // our owner agrees, or not; the same again at times, and too late
		yes := m.r.IntN(4) > 0
		if m.loadKey.IsZero() {
			return
		}
		m.loadAgreed[m.loadKey] = m.loadAgreed[m.loadKey] || yes
		m.in(load{m.loadKey, yes})
		m.log = append(m.log, fmt.Sprintf("load %v  %+v", yes, m.ev))
		m.events()
	case 16: // our owner wants digits
		if m.r.IntN(4) == 0 {
			m.in(unask{m.asks})
		} else {
			m.asks++
			m.in(prompt{id: m.asks, length: 4, again: m.r.IntN(2) == 0, by: m.now + time.Duration(50+m.r.IntN(400))*time.Millisecond})
		}
		m.log = append(m.log, fmt.Sprintf("question %d  %+v", m.asks, m.ev))
		m.events()
	case 17: // and the buyer enters them
		if m.pad || m.r.IntN(5) == 0 {
			m.pad = false
			says := "14* 03 FF FF FF FF FF FF FF FF 0F"
			if m.r.IntN(4) > 0 {
				d := m.r.IntN(10)
				m.typed = fmt.Sprintf("123%d", d)
				says = fmt.Sprintf("14* 03 31 32 33 %02X 00 00 00 00 %02X", 0x30+d, 0xDD+d)
			}
			if m.say(says); m.r.IntN(4) == 0 {
				m.say(says)
			}
		}
	}
}

// poll hears, or does not, and is heard, or is not.
func (m *controller) poll() {
	answer := m.say("12* 12")
	if answer == "00*" || answer == "" {
		return
	}
	m.inTime(answer)
	if m.r.IntN(6) == 0 { // lost on the way to the controller: it says nothing, and polls again
		return
	}
	for m.r.IntN(8) == 0 {
		again := m.say("AA")
		if m.inTime(again); again == "" && m.now >= m.by[m.s.approval.vend] && strings.HasPrefix(answer, "05 ") {
			return
		}
		if again != answer {
			m.fail("RET gave %q after %q", again, answer)
		}
	}
	switch {
	case strings.HasPrefix(answer, "05 "):
		if m.open {
			m.open, m.granted = false, true
			m.current = m.s.approval.vend
		}
		if m.granted {
			m.heard[m.s.approval.vend] = true
		}
	case answer == "06 06*":
		m.open = false
	case answer == "0D 0D*":
		m.loadHeard[m.s.loading.bus] = true
		m.loading = false
	case answer == "0E 0E*":
		m.loading = false
	case strings.HasPrefix(answer, "12 "):
		m.pad = true
	case answer == "13 13*":
		m.pad = false
	case strings.HasPrefix(answer, "0B"):
		m.open = false
	}
	if m.r.IntN(6) == 0 {
		return // its ACK is lost
	}
	m.say("00")
	if strings.HasPrefix(answer, "0B") { // 7.3: the controller resets
		m.granted = false
		m.start()
	}
}

// inTime: no 05 is on the wire later than agreed, first time or again, nor after it was taken back.
func (m *controller) inTime(answer string) {
	if by := m.by[m.s.approval.vend]; strings.HasPrefix(answer, "05 ") && m.now >= by {
		m.fail("an approval on the wire at %v, which was until %v", m.now, by)
	}
}

func FuzzCashless(f *testing.F) {
	f.Add([]byte{0xFF, 0, 0x10, 0x10, 0xFF, 0, 0x12, 0x12, 0, 0xFF, 0, 0x13, 0, 0, 0x96, 0, 5, 0xAE})
	var all []byte
	for _, l := range append(append([]string{}, level3...), "17* 04 00 00 00 30 4B", open150, "12* 12", "00", "14* 03 31 32 33 34 00 00 00 00 E1", "13* 01 14", "12* 12", "00", load150, "12* 12", "00", "15* 01 16", "17* FF 01 02 19") {
		says, _, _ := strings.Cut(l, " -> ")
		all = append(all, Mark(wire(f, says))...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		bus := newBus(t, CashlessConfig{})
		for i, c := range b {
			bus.now += time.Duration(c) * time.Millisecond / 8
			switch c % 7 {
			case 3:
				bus.in(approve{vend: vendOf(byte(i)), units: 150, by: bus.now + time.Second})
			case 4:
				bus.in(prompt{id: uint32(i), length: int(c) % 10, again: c&0x40 != 0, by: bus.now + time.Second}) //nolint:gosec // an index
			case 5:
				bus.in(limit{uint32(c)})
				bus.in(load{bus.s.loading.bus, c&0x40 != 0})
			}
			bus.in(hardware.Bytes{B: []byte{c}})
			if len(bus.s.queue) > 64 || len(bus.s.block) > BlockMax+1 {
				t.Fatalf("%d messages, %d words", len(bus.s.queue), len(bus.s.block))
			}
		}
	})
}
