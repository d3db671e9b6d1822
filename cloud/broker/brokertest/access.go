package brokertest

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// access is who may come in, hear and speak. A broker may refuse a filter or grant it and deliver
// nothing; it may close or drop a message. What may never happen is that somebody hears.
func (s *suite) access(t *testing.T) {
	t.Run("no certificate", func(t *testing.T) {
		cfg := s.Device("m1")
		cfg.Certificates = nil
		c, err := tls.Dial("tcp", s.Addr, cfg)
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(closeTime))
		_, _ = c.Write(helloOf("m1").bytes())
		if n, err := c.Read(make([]byte, 1)); n != 0 || !gone(err) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	t.Run("no TLS", func(t *testing.T) {
		c, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(closeTime))
		_, _ = c.Write(helloOf("m1").bytes())
		said, err := io.ReadAll(c) // nothing, or a TLS alert
		if len(said) > 0 && said[0] != 0x15 || os.IsTimeout(err) {
			t.Errorf("%x, %v", said, err)
		}
	})
	for _, filter := range []string{
		"#", "+/#", "+/+/+/+/+", "coinop/#", "coinop/v1/#", "coinop/v1/+/dn/#", "coinop/v1/" + bystander + "/dn/#",
		"coinop/v1/" + bystander + "/dn/auth", "coinop/v1/" + bystander + "/up/#", "coinop/v1/m1/up/#", "coinop/v1/m11/dn/#",
		"coinop/v1/m1", "coinop/view/#", "$SYS/#", "$SYS/broker/clients/connected", "$share/g/coinop/v1/+/dn/#",
		"$share/g/coinop/v1/" + bystander + "/dn/#", "$share/g/#", "$share//#", "$share/g", "$queue/#",
	} {
		t.Run("SUBSCRIBE "+filter, func(t *testing.T) {
			before := s.count("denied") + s.count("filter")
			c := s.device(t, "m1")
			c.send(numbered(0x82, 7, text(filter)+"\x01"))
			p, err := c.read()
			if s.Counted != nil && s.count("denied")+s.count("filter") != before+1 {
				t.Error("not counted")
			}
			if gone(err) {
				return
			}
			if err != nil || p.head != suback || len(p.body) != 3 {
				t.Fatalf("%x %x, %v", p.head, p.body, err)
			}
			if s.Counted != nil && p.body[2] != 0x80 {
				t.Errorf("SUBACK %#x", p.body[2])
			}
			if p.body[2] != 0x80 {
				s.passes(t) // what others say and are told meanwhile
				c.ping()
			}
		})
	}
	listener := s.device(t, "m5")
	listener.subscribe("coinop/v1/m5/dn/#")
	for _, topic := range []string{
		"coinop/v1/m5/dn/auth", "coinop/v1/m5/up/auth", "coinop/v1/m1/dn/auth", "coinop/v1/" + bystander + "/dn/auth", "x",
		"coinop/v1/m1", "/coinop/v1/m1/up/auth", "coinop/v1/m1/upside", "coinop/v2/m1/up/auth", "coinop/view/v1/a/b/num", "COINOP/v1/m1/up/auth",
	} {
		t.Run("fault 44, PUBLISH "+topic, func(t *testing.T) {
			before := s.count("denied")
			c := s.device(t, "m1")
			c.subscribe("coinop/v1/m1/dn/#")
			c.send(publish(0x30, topic, 0, "forged"))
			c.send(publish(0x32, topic, 9, "forged"))
			got, err := c.finish()
			if err != nil {
				t.Error(err)
			}
			for _, p := range got {
				if p.kind() == publishType {
					t.Errorf("it was delivered: %x %q", p.head, p.body)
				}
			}
			if s.Counted != nil && s.count("denied") != before+2 {
				t.Errorf("%d counted", s.count("denied")-before)
			}
		})
	}
	s.passes(t)
	listener.ping() // heard nothing
}

// count is one counter, 0 where there are none.
func (s *suite) count(reason string) int64 {
	if s.Counted == nil {
		return 0
	}
	return s.Counted()[reason]
}
