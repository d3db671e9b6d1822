package brokertest

import (
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// floods are faults of amount: too many, too fast, too slow.
func (s *suite) floods(t *testing.T) {
	t.Run("fact 0.2, thirty strangers announce 256 MiB each", func(t *testing.T) {
		for range 30 {
			c := s.dial(t, "m1")
			_, _ = c.c.Write([]byte{0x10, 0xff, 0xff, 0xff, 0x7f})
		}
		s.passes(t)
	})
	t.Run("fault 47, a device that does not read", func(t *testing.T) {
		s.stalled(t, "m4")
		s.passes(t)
	})
	t.Run("fault 48, a message its handler panics over", func(t *testing.T) {
		if s.Poison == "" {
			t.Log("this broker has no handler of ours")
			return
		}
		c := s.device(t, "m1", withWill("poisoned"))
		c.send(publish(0x32, up("m1", "event"), 1, s.Poison))
		if _, err := c.closed(); err != nil {
			t.Error(err)
		}
		if got := s.hears(t, up("m1", "conn")); got != "poisoned" {
			t.Errorf("will: %q", got)
		}
		c = s.device(t, "m1")
		c.send(publish(0x32, up("m1", "event"), 1, "next"))
		c.want(puback, "\x00\x01")
	})
	t.Run("fault 49, connections that say nothing", func(t *testing.T) {
		var idle []net.Conn
		for range 300 {
			c, err := net.DialTimeout("tcp", s.Addr, answerTime)
			if err != nil {
				t.Fatal(err)
			}
			idle = append(idle, c)
		}
		s.device(t, "m1").ping()
		s.passes(t)
		for _, c := range idle {
			c.Close()
		}
	})
	t.Run("fault 49, half a handshake", func(t *testing.T) {
		for range 100 {
			c, err := net.DialTimeout("tcp", s.Addr, answerTime)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte{0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc})
			defer c.Close()
		}
		s.passes(t)
	})
	t.Run("fault 49, a site comes back at once", func(t *testing.T) {
		var wg sync.WaitGroup
		cfg := s.Device("site")
		for range 40 {
			wg.Go(func() {
				c, err := tls.Dial("tcp", s.Addr, cfg)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(answerTime))
				_, _ = c.Write(helloOf("site").bytes())
				_, _ = c.Read(make([]byte, 4))
			})
		}
		wg.Wait()
		s.device(t, "site").ping()
		s.passes(t)
	})
	t.Run("a flood of messages", func(t *testing.T) {
		before := s.count("rate")
		c := s.device(t, "m1")
		one := publish(0x30, up("m1", "event"), 0, strings.Repeat("x", 200))
		began := time.Now()
		c.send(append(bytesOf(one, 600), frame(0xc0, "")...))
		c.want(pingresp, "")
		if s.Counted == nil {
			return
		}
		if n := s.count("rate") - before; n < 100 {
			t.Errorf("%d messages slowed", n)
		}
		if d := time.Since(began); d < 900*time.Millisecond {
			t.Errorf("600 messages at 200 a second after a burst of 400 took %s", d)
		}
		s.passes(t)
	})
	t.Run("a flood of PINGREQ", func(t *testing.T) {
		c := s.device(t, "m1")
		c.send(bytesOf(frame(0xc0, ""), 300))
		for range 300 {
			c.want(pingresp, "")
		}
		s.passes(t)
	})
}

func bytesOf(p []byte, n int) []byte { return []byte(strings.Repeat(string(p), n)) }
