package brokertest

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// conformance is what an agent relies on. Numbers are sections of OASIS mqtt-v3.1.1.
func (s *suite) conformance(t *testing.T) {
	t.Run("3.1.2.2 another version", func(t *testing.T) {
		c := s.dial(t, "m1")
		c.send(helloOf("m1", func(h *hello) { h.level = 6 }).bytes())
		c.want(connack, "\x00\x01")
		if _, err := c.closed(); err != nil {
			t.Error(err)
		}
	})
	t.Run("3.3 QoS 0", func(t *testing.T) {
		c := s.device(t, "m1")
		c.send(publish(0x30, up("m1", "otlp/metrics"), 0, "\x00\xff"))
		if got := s.hears(t, up("m1", "otlp/metrics")); got != "\x00\xff" {
			t.Errorf("%q", got)
		}
		c.ping() // and no PUBACK before it
	})
	t.Run("3.3 QoS 1", func(t *testing.T) {
		c := s.device(t, "m1")
		for _, head := range []byte{0x32, 0x3a} { // again, with DUP
			c.send(publish(head, up("m1", "auth"), 0xffff, "ask"))
			c.want(puback, "\xff\xff")
			if got := s.hears(t, up("m1", "auth")); got != "ask" {
				t.Errorf("%q", got)
			}
		}
	})
	t.Run("3.3 an empty message and the longest", func(t *testing.T) {
		c := s.device(t, "m1")
		for n, payload := range []string{"", strings.Repeat("x", 128<<10)} {
			c.send(publish(0x32, up("m1", "journal"), uint16(n+1), payload))
			c.want(puback, word(uint16(n+1)))
			if got := s.hears(t, up("m1", "journal")); got != payload {
				t.Errorf("%d bytes of %d", len(got), len(payload))
			}
		}
	})
	t.Run("3.8 SUBSCRIBE of eight", func(t *testing.T) {
		c := s.device(t, "m1")
		body := text("coinop/v1/m1/dn/#") + "\x01" + text("coinop/v1/m1/dn/auth") + "\x00"
		for n := range 6 {
			body += text(fmt.Sprintf("coinop/v1/m1/dn/%d", n)) + "\x01"
		}
		c.send(numbered(0x82, 3, body))
		want := "\x01\x00\x01\x01\x01\x01\x01\x01"
		if s.Subscribed { // its dn/# is all it needs
			want = "\x01" + strings.Repeat("\x80", 7)
		}
		c.want(suback, "\x00\x03"+want)
	})
	t.Run("3.10 UNSUBSCRIBE", func(t *testing.T) {
		c := s.device(t, "m1")
		c.subscribe("coinop/v1/m1/dn/#")
		s.publish(t, down("m1", "cmd"), "one")
		c.wantMessage(down("m1", "cmd"), "one")
		c.send(numbered(0xa2, 5, text("coinop/v1/m1/dn/#")))
		c.want(unsuback, "\x00\x05")
		s.publish(t, down("m1", "cmd"), "two")
		s.passes(t)
		c.ping()
	})
	t.Run("3.12 PINGREQ", func(t *testing.T) { s.device(t, "m1").ping() })
	t.Run("3.14 DISCONNECT, no will", func(t *testing.T) {
		s.forget()
		c := s.device(t, "m1", withWill("forged: it said goodbye"))
		c.send(frame(0xe0, ""))
		if _, err := c.closed(); err != nil {
			t.Error(err)
		}
		s.passes(t)
	})
	t.Run("3.1.2.5 will", func(t *testing.T) {
		for name, end := range map[string]func(*client){
			"cut":       func(c *client) { c.cut() },
			"closed":    func(c *client) { _ = c.c.Close() },
			"violation": func(c *client) { c.send([]byte{0x00, 0x00}) },
			"second CONNECT": func(c *client) {
				c.send(helloOf(c.id, withWill("forged: the second CONNECT's")).bytes())
			},
		} {
			if name == "second CONNECT" && s.Counted == nil {
				continue // Mosquitto closes, and lets the will go with it
			}
			s.forget()
			end(s.device(t, "m1", withWill("offline: "+name)))
			if got := s.hears(t, up("m1", "conn")); got != "offline: "+name {
				t.Errorf("%s: %q", name, got)
			}
		}
	})
	t.Run("3.1.2.4 clean session", func(t *testing.T) {
		c := s.device(t, "m1")
		c.subscribe("coinop/v1/m1/dn/#")
		c.send(frame(0xe0, ""))
		if _, err := c.closed(); err != nil {
			t.Error(err)
		}
		s.publish(t, down("m1", "auth"), "while it was away")
		c = s.device(t, "m1") // wants "no session present"
		if !s.Subscribed {
			s.publish(t, down("m1", "auth"), "before it subscribed")
		}
		s.passes(t)
		c.ping()
	})
	t.Run("4.6 order", func(t *testing.T) {
		c := s.device(t, "m1")
		c.subscribe("coinop/v1/m1/dn/#")
		var all []byte
		for n := range 40 {
			all = append(all, publish(0x32, up("m1", "event"), uint16(n+1), fmt.Sprint(n))...)
			s.publish(t, down("m1", "cmd"), fmt.Sprint(n))
		}
		for n := range 40 {
			c.wantMessage(down("m1", "cmd"), fmt.Sprint(n))
		}
		c.send(all)
		for n := range 40 {
			c.want(puback, word(uint16(n+1)))
			if got := s.hears(t, up("m1", "event")); got != fmt.Sprint(n) {
				t.Fatalf("%s instead of %d", got, n)
			}
		}
	})
	t.Run("4.2 in pieces", func(t *testing.T) {
		c := s.dial(t, "m1")
		for _, b := range append(helloOf("m1").bytes(), publish(0x32, up("m1", "event"), 9, "in pieces")...) {
			c.send([]byte{b})
		}
		c.want(connack, "\x00\x00")
		c.want(puback, "\x00\x09")
		if got := s.hears(t, up("m1", "event")); got != "in pieces" {
			t.Errorf("%q", got)
		}
	})
}

func (s *suite) publish(t *testing.T, topic, payload string) {
	t.Helper()
	if err := s.Publish(topic, []byte(payload)); err != nil {
		t.Fatalf("publish to %s: %v", topic, err)
	}
}

// takeover: the second connection of a device ends the first, at once, and is not deaf.
func (s *suite) takeover(t *testing.T) {
	t.Run("of a living one", func(t *testing.T) {
		var longest time.Duration
		s.device(t, "m2").subscribe("coinop/v1/m2/dn/#")
		for n := range 30 {
			began := time.Now()
			c := s.device(t, "m2")
			longest = max(longest, time.Since(began))
			c.subscribe("coinop/v1/m2/dn/#")
			s.publish(t, down("m2", "auth"), fmt.Sprint(n))
			c.wantMessage(down("m2", "auth"), fmt.Sprint(n))
		}
		s.inTime(t, longest)
	})
	t.Run("the old one is closed", func(t *testing.T) {
		old := s.device(t, "m2", withWill("replaced"))
		c := s.device(t, "m2")
		if _, err := old.closed(); err != nil {
			t.Error(err)
		}
		if got := s.hears(t, up("m2", "conn")); got != "replaced" {
			t.Errorf("will: %q", got)
		}
		c.ping()
	})
	t.Run("fault 47, of a stalled one", func(t *testing.T) {
		s.stalled(t, "m3")
		began := time.Now()
		c := s.device(t, "m3")
		s.inTime(t, time.Since(began))
		c.subscribe("coinop/v1/m3/dn/#")
		s.publish(t, down("m3", "auth"), "hello")
		c.wantMessage(down("m3", "auth"), "hello")
	})
}

func (s *suite) inTime(t *testing.T, d time.Duration) {
	t.Helper()
	t.Logf("took %s, TLS handshake and CONNECT", d)
	if d > takeoverTime {
		t.Errorf("longer than %s", takeoverTime)
	}
}

// stalled makes a device that subscribes, stops reading and is sent more than all buffers hold.
func (s *suite) stalled(t *testing.T, device string) {
	t.Helper()
	raw, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.(*net.TCPConn).SetReadBuffer(4 << 10)
	c := s.secure(t, device, raw)
	c.connect()
	c.subscribe("coinop/v1/" + device + "/dn/#")
	load := strings.Repeat("x", 100<<10)
	for range 200 {
		s.publish(t, down(device, "cmd"), load)
	}
	s.passes(t)
}
