// Package brokertest is what every broker of the machine plane must do, whoever wrote it: MQTT
// 3.1.1, the takeover of a connection, who may say and hear what, and a corpus of abuse.
//
//	func TestMyBroker(t *testing.T) {
//	    brokertest.Run(t, func(t *testing.T) brokertest.Broker { … start it, t.Cleanup its end … })
//	}
//
// The suite speaks bytes of its own making, no client library, because most of what it sends no
// library would. While it does, a bystander, a device like any other, asks and is answered all the
// time: a broker passes when it lives, the bystander notices nothing, the cloud hears nothing forged
// and the offender is counted by reason.
package brokertest

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// Message is what a device published, or its last will.
type Message struct {
	Topic   string
	Payload []byte
}

// Broker is one that runs, as the suite sees it. All but the optional fields are needed.
type Broker struct {
	Addr string
	// Device gives a certificate of a device of that name and the root that vouches for the broker.
	Device func(name string) *tls.Config
	// Publish is the cloud's way to a device.
	Publish func(topic string, payload []byte) error
	// Messages is the cloud's ear: all that devices published.
	Messages <-chan Message
	// Alive says whether the broker still runs.
	Alive func() error

	// Optional.

	// Counted are the broker's counters by reason. A broker that has them is held to the strict
	// list: what is not on it is closed and counted, not only harmless. nil: the letter of MQTT.
	Counted func() map[string]int64
	// Subscribed lets every device subscribe its dn/# with QoS 1 before it says anything else, as agents
	// do: for a broker that serves such a one in a way of its own.
	Subscribed bool
	// Poison is a payload over which the handler of the broker's messages panics; "" = there is none.
	Poison string
}

// Spans the suite allows. They are long for a race detector on a busy machine; what is usual is logged.
const (
	answerTime   = 20 * time.Second // for anything that has to come
	closeTime    = 3 * time.Second  // for a connection to be closed
	takeoverTime = time.Second
	undisturbed  = time.Second // the longest round trip of the bystander, at a broker that promises it
	repeatTime   = 2 * time.Second
	bystanderGap = 20 * time.Millisecond
	bystander    = "bystander"
)

// forged is in every payload that nobody may ever hear.
var forged = []byte("forged")

// suite is one run: the broker, its cloud and the bystander.
type suite struct {
	Broker
	seen   chan Message // of other devices than the bystander
	mu     sync.Mutex
	forged []string
	trips  []time.Duration
	quit   chan struct{} // ends the bystander
	asks   sync.WaitGroup
	last   chan struct{} // ends the cloud, which answers him to his last
	heard  sync.WaitGroup
}

// Run runs the suite.
func Run(t *testing.T, start func(t *testing.T) Broker) {
	s := &suite{Broker: start(t), seen: make(chan Message, 10_000), quit: make(chan struct{}), last: make(chan struct{})}
	s.heard.Go(s.cloud)
	s.standBy(t)
	t.Run("conformance", s.conformance)
	t.Run("takeover", s.takeover)
	t.Run("access", s.access)
	t.Run("abuse", s.abuse)
	t.Run("cuts", s.cuts)
	t.Run("floods", s.floods)
	close(s.quit)
	s.asks.Wait()
	close(s.last)
	s.heard.Wait()
	if err := s.Alive(); err != nil {
		t.Errorf("the broker: %v", err)
	}
	if len(s.forged) > 0 {
		t.Errorf("the cloud heard %q", s.forged)
	}
	slices.Sort(s.trips)
	if n := len(s.trips); n > 0 {
		t.Logf("bystander: %d round trips, p50 %s, p99 %s, longest %s", n, s.trips[n/2], s.trips[n*99/100], s.trips[n-1])
	}
	if s.Counted != nil {
		t.Logf("counted: %v", s.Counted())
	}
}

// cloud answers the bystander and keeps what others say.
func (s *suite) cloud() {
	for {
		select {
		case <-s.last:
			return
		case m := <-s.Messages:
			if bytes.Contains(m.Payload, forged) {
				s.mu.Lock()
				s.forged = append(s.forged, fmt.Sprintf("%.60q: %.40q", m.Topic, m.Payload))
				s.mu.Unlock()
			}
			if m.Topic == up(bystander, "auth") {
				_ = s.Publish(down(bystander, "auth"), m.Payload)
				continue
			}
			select {
			case s.seen <- m:
			default: // a flood: nobody waits for these
			}
		}
	}
}

// standBy keeps a device asking, and fails the test when an answer is late or its connection ends.
func (s *suite) standBy(t *testing.T) {
	c := s.device(t, bystander)
	if code := c.subscribe("coinop/v1/" + bystander + "/dn/#"); code != 1 {
		t.Fatalf("bystander: SUBACK %#x", code)
	}
	s.asks.Go(func() {
		tick := time.NewTicker(bystanderGap)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-s.quit:
				return
			case <-tick.C:
			}
			began := time.Now()
			if err := c.trip(uint16(n%0xffff+1), fmt.Sprintf("trip %d", n)); err != nil {
				t.Errorf("bystander, round trip %d: %v", n, err)
				return
			}
			d := time.Since(began)
			s.mu.Lock()
			s.trips = append(s.trips, d)
			s.mu.Unlock()
			if d > undisturbed && s.Counted != nil {
				t.Errorf("bystander, round trip %d took %s", n, d)
			}
		}
	})
}

// trip asks and waits for both the PUBACK and the answer; what nobody answers it asks again and again, as agents
// do: a broker may have dropped it where too much waited.
func (c *client) trip(id uint16, payload string) error {
	ask := publish(0x32, up(c.id, "auth"), id, payload)
	end := time.Now().Add(answerTime)
	_ = c.c.SetWriteDeadline(end)
	if _, err := c.c.Write(ask); err != nil {
		return err
	}
	_ = c.c.SetReadDeadline(time.Now().Add(repeatTime))
	for acked, answered := false, false; !acked || !answered; {
		p, err := c.read()
		switch {
		case os.IsTimeout(err) && time.Now().Before(end):
			_ = c.c.SetReadDeadline(time.Now().Add(repeatTime))
			if _, err := c.c.Write(ask); err != nil {
				return err
			}
		case err != nil:
			return err
		case p.kind() == puback:
			acked = true
		case p.kind() == publishType:
			m, err := p.message()
			if err != nil {
				return err
			}
			if m.id != 0 {
				_, _ = c.c.Write(numbered(0x40, m.id, ""))
			}
			answered = string(m.payload) == payload
		default:
			return fmt.Errorf("packet %x", p.head)
		}
	}
	return nil
}

// hears waits until the cloud has heard a message of a topic, and returns its payload.
func (s *suite) hears(t *testing.T, topic string) string {
	t.Helper()
	for late := time.After(answerTime); ; {
		select {
		case m := <-s.seen:
			if m.Topic == topic {
				return string(m.Payload)
			}
		case <-late:
			t.Fatalf("the cloud heard nothing on %s", topic)
		}
	}
}

// forget drops what the cloud has heard so far.
func (s *suite) forget() {
	for {
		select {
		case <-s.seen:
		default:
			return
		}
	}
}

// passes waits until the bystander has come through twice more: what was sent before has been
// handled by then, or is not in anybody's way.
func (s *suite) passes(t *testing.T) {
	t.Helper()
	count := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.trips) }
	from, end := count(), time.Now().Add(answerTime)
	for tick := time.NewTicker(bystanderGap / 4); count() < from+2; <-tick.C {
		if time.Now().After(end) {
			t.Fatal("the bystander does not come through")
		}
	}
}

// total of all that was counted.
func (s *suite) total() (n int64) {
	for _, v := range s.Counted() {
		n += v
	}
	return n
}

func up(device, leaf string) string   { return "coinop/v1/" + device + "/up/" + leaf }
func down(device, leaf string) string { return "coinop/v1/" + device + "/dn/" + leaf }

// gone reports an error that is the end of a connection, not of our patience.
func gone(err error) bool { return err != nil && !os.IsTimeout(err) }
