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
	requests int // made, repeats not counted
}

func (m *controller) run(steps int) {
	m.heard, m.ended = map[protocol.VendID]bool{}, map[protocol.VendID]hardware.Delivery{}
	m.reported, m.results = map[protocol.VendID]string{}, map[protocol.VendID]int{}
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
}

func (m *controller) fail(format string, args ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf(format, args...)
	}
}

func (m *controller) start() {
	for _, l := range level3 {
		says, _, _ := strings.Cut(l, " -> ")
		m.say(says)
	}
	m.open, m.granted = false, false
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

const open150 = "13* 00 00 96 00 05 AE"

// one is one thing that happens.
func (m *controller) one() {
	switch m.r.IntN(14) {
	case 0, 1, 2, 3: // poll
		m.poll()
	case 4, 5: // a buyer
		if !m.open && !m.granted {
			m.requests++
			if m.say(open150); m.r.IntN(5) == 0 { // it did not hear our ACK
				m.say(open150)
			}
			m.open = true
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
		m.in(approve{vend: v, bus: key, units: 150, by: m.now + time.Duration(50+m.r.IntN(400))*time.Millisecond})
		m.log = append(m.log, fmt.Sprintf("approve %v  %+v", v, m.ev))
		m.events()
	case 8:
		m.in(deny{bus: m.key})
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
	}
}

// poll hears, or does not, and is heard, or is not.
func (m *controller) poll() {
	answer := m.say("12* 12")
	if answer == "00*" || answer == "" {
		return
	}
	if m.r.IntN(6) == 0 { // lost on the way to the controller: it says nothing, and polls again
		return
	}
	for m.r.IntN(8) == 0 {
		if again := m.say("AA"); again != answer {
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

func FuzzCashless(f *testing.F) {
	f.Add([]byte{0xFF, 0, 0x10, 0x10, 0xFF, 0, 0x12, 0x12, 0, 0xFF, 0, 0x13, 0, 0, 0x96, 0, 5, 0xAE})
	f.Fuzz(func(t *testing.T, b []byte) {
		bus := newBus(t, CashlessConfig{})
		for i, c := range b {
			bus.now += time.Duration(c) * time.Millisecond / 8
			if c%7 == 3 {
				bus.in(approve{vend: vendOf(byte(i)), units: 150, by: bus.now + time.Second})
			}
			bus.in(hardware.Bytes{B: []byte{c}})
			if len(bus.s.queue) > 64 || len(bus.s.block) > BlockMax+1 {
				t.Fatalf("%d messages, %d words", len(bus.s.queue), len(bus.s.block))
			}
		}
	})
}
