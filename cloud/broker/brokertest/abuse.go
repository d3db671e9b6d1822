package brokertest

import (
	"fmt"
	"strings"
	"testing"
)

// abuse is one thing no device of ours sends. The suite sends it, on a connection past CONNECT
// unless it is a stranger's; a broker with counters has to close by itself and to count exactly one
// offence, of that reason. Any broker has to stay, and to let nobody hear of it.
type abuse struct {
	name     string
	send     []byte
	reason   string
	stranger bool
	always   bool // any broker has to close: the letter of MQTT, or this one's configuration
}

func asked(change func(*hello)) []byte { return helloOf("m1", change).bytes() }

// corpus of packets that are wrong in one way, by name.
func corpus() []abuse {
	own := up("m1", "auth")
	all := []abuse{
		{"fact 0.1, SUBSCRIBE of version 5 without options", []byte{0x82, 8, 0, 1, 0, 0, 3, 'a', '/', 'b'}, "filter", false, false},
		{"fact 0.1, after CONNECT of version 5", append(asked(func(h *hello) { h.level = 5 }), 0x82, 8, 0, 1, 0, 0, 3, 'a', '/', 'b'), "protocol", true, false},
		{"fact 0.2, a stranger announces 256 MiB", []byte{0x10, 0xff, 0xff, 0xff, 0x7f}, "length", true, true},
		{"fact 0.3, seven bytes that announce 256 MiB", []byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 4}, "length", false, true},
		{"fault 45, length of five bytes", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, "length", false, true},
		{"fault 45, SUBSCRIBE cut short", numbered(0x82, 1, "\x00\x09coin"), "shape", false, true},
		{"fault 45, topic that is not UTF-8", publish(0x32, up("m1", "\xff"), 1, "forged"), "utf8", false, true},
		{"fault 45, topic with a surrogate", publish(0x32, up("m1", "\xed\xa0\x80"), 1, "forged"), "utf8", false, true},
		{"fault 45, topic overlong", publish(0x32, up("m1", "\xc0\xaf"), 1, "forged"), "utf8", false, true},
		{"fault 45, topic with U+0000", publish(0x32, up("m1", "a\x00b"), 1, "forged"), "utf8", false, true},
		{"fault 45, filter that is not UTF-8", numbered(0x82, 1, text(down("m1", "\xfe"))+"\x01"), "utf8", false, true},
		{"fault 45, client id that is not UTF-8", asked(func(h *hello) { h.id = "\xc3\x28" }), "utf8", true, true},
		{"fault 45, wildcard # in PUBLISH", publish(0x32, "coinop/v1/m1/up/#", 1, "forged"), "topic", false, true},
		{"fault 45, wildcard + in PUBLISH", publish(0x32, "coinop/v1/+/dn/auth", 1, "forged"), "topic", false, true},
		{"fault 45, topic of no length", publish(0x32, "", 1, "forged"), "topic", false, true},
		{"fault 45, topic longer than any", publish(0x32, up("m1", strings.Repeat("t", 60_000)), 1, "its own"), "topic", false, false},
		{"fault 45, packet id 0 in PUBLISH", publish(0x32, own, 0, "forged"), "packet_id", false, true},
		{"fault 45, packet id 0 in SUBSCRIBE", numbered(0x82, 0, text(down("m1", "#"))+"\x01"), "packet_id", false, true},
		{"fault 45, packet id 0 in UNSUBSCRIBE", numbered(0xa2, 0, text(down("m1", "#"))), "packet_id", false, true},
		{"fault 45, packet id 0 in PUBACK", numbered(0x40, 0, ""), "packet_id", false, false},
		{"fault 46, payload of 1 MiB", publish(0x32, own, 1, "forged"+strings.Repeat("x", 1<<20)), "length", false, true},
		{"fault 46, CBOR of depth 150,000", publish(0x32, own, 1, "forged"+strings.Repeat("\x81", 150_000)), "length", false, true},
		{"$SYS", publish(0x32, "$SYS/broker/x", 1, "forged"), "topic", false, false},
		{"$share in PUBLISH", publish(0x32, "$share/g/coinop/v1/bystander/dn/auth", 1, "forged"), "topic", false, false},
		{"retained", publish(0x33, own, 1, "forged"), "retain", false, false},
		{"QoS 2", publish(0x34, own, 1, "forged"), "qos", false, true},
		{"QoS 3", publish(0x36, own, 1, "forged"), "qos", false, true},
		{"DUP of QoS 0", publish(0x38, own, 0, "its own"), "flags", false, false},
		{"SUBSCRIBE QoS 3", numbered(0x82, 1, text(down("m1", "#"))+"\x03"), "qos", false, true},
		{"SUBSCRIBE of nine", numbered(0x82, 1, strings.Repeat(text(down("m1", "x"))+"\x01", 9)), "filter", false, false},
		{"SUBSCRIBE of 10,000", numbered(0x82, 1, strings.Repeat(text("a")+"\x01", 10_000)), "length", false, false},
		{"SUBSCRIBE of none", numbered(0x82, 1, ""), "length", false, true},
		{"SUBSCRIBE # in the middle", numbered(0x82, 1, text("coinop/#/m1")+"\x01"), "filter", false, true},
		{"SUBSCRIBE + beside a word", numbered(0x82, 1, text("coinop/v1/m+/dn")+"\x01"), "filter", false, true},
		{"SUBSCRIBE with the flags of PUBLISH", frame(0x80, "\x00\x01"+text(down("m1", "#"))+"\x01"), "flags", false, true},
		{"CONNECT again", asked(func(*hello) {}), "order", false, true},
		{"not CONNECT first", publish(0x32, own, 1, "forged"), "order", true, true},
		{"PINGREQ first", frame(0xc0, ""), "order", true, true},
		{"PINGREQ with a body", frame(0xc0, "x"), "length", false, false},
		{"keepalive 0", asked(func(h *hello) { h.keepalive = 0 }), "keepalive", true, false},
		{"keepalive 65535", asked(func(h *hello) { h.keepalive = 65535 }), "keepalive", true, false},
		{"client id != certificate", asked(func(h *hello) { h.id = "m2" }), "identity", true, false},
		{"user name != certificate", asked(func(h *hello) { h.user = "m2" }), "identity", true, false},
		{"client id of the bystander", asked(func(h *hello) { h.id, h.user = bystander, bystander }), "identity", true, false},
		{"client id of another case", asked(func(h *hello) { h.id = "M1" }), "identity", true, false},
		{"no client id", asked(func(h *hello) { h.id = "" }), "user", true, false},
		{"client id of 60,000 bytes", asked(func(h *hello) { h.id = strings.Repeat("m", 60_000) }), "length", true, false},
		{"no user name", asked(func(h *hello) { h.flags = 0x02 }), "user", true, false},
		{"a session to keep", asked(func(h *hello) { h.flags = 0x80 }), "session", true, false},
		{"reserved flag of CONNECT", asked(func(h *hello) { h.flags |= 1 }), "flags", true, true},
		{"CONNECT with more behind", asked(func(h *hello) { h.extra = "more" }), "shape", true, false},
		{"protocol MQIsdp", asked(func(h *hello) { h.name, h.level = "MQIsdp", 3 }), "protocol", true, false},
		{"protocol HTTP", []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "flags", true, true},
		{"will retained", asked(func(h *hello) { withWill("forged")(h); h.flags |= 0x20 }), "will", true, false},
		{"will QoS 3", asked(func(h *hello) { withWill("forged")(h); h.flags |= 0x18 }), "will", true, true},
		{"will of another", asked(func(h *hello) { withWill("forged")(h); h.topic = up(bystander, "conn") }), "foreign_will", true, false},
		{"will to another", asked(func(h *hello) { withWill("forged")(h); h.topic = down(bystander, "auth") }), "foreign_will", true, false},
		{"will on a wildcard", asked(func(h *hello) { withWill("forged")(h); h.topic = "coinop/v1/+/up/conn" }), "topic", true, true},
	}
	for _, p := range []struct {
		name string
		head byte
		body string
	}{
		{"type 0", 0x00, ""},
		{"CONNACK", 0x20, "\x00\x00"},
		{"PUBREC", 0x50, "\x00\x01"},
		{"PUBREL", 0x62, "\x00\x01"},
		{"PUBCOMP", 0x70, "\x00\x01"},
		{"SUBACK", 0x90, "\x00\x01\x00"},
		{"UNSUBACK", 0xb0, "\x00\x01"},
		{"PINGRESP", 0xd0, ""},
		{"AUTH of version 5", 0xf0, ""},
	} {
		all = append(all, abuse{"a packet that is not a client's: " + p.name, frame(p.head, p.body), "type", false, false})
	}
	for _, p := range whole() { // announced lengths that have nothing to do with what is there
		stranger := p.name == "CONNECT"
		if len(p.bytes) > 2 { // else 0 is right
			all = append(all, abuse{"length 0: " + p.name, []byte{p.bytes[0], 0}, "length", stranger, false})
		}
		all = append(all, abuse{"length max: " + p.name, []byte{p.bytes[0], 0xff, 0xff, 0xff, 0x7f}, "length", stranger, false})
	}
	return all
}

func (s *suite) abuse(t *testing.T) {
	for _, a := range corpus() {
		t.Run(a.name, func(t *testing.T) { s.suffer(t, a) })
	}
	s.passes(t)
}

func (s *suite) suffer(t *testing.T, a abuse) {
	var before map[string]int64
	if s.Counted != nil {
		before = s.Counted()
	}
	c := s.dial(t, "m1")
	if !a.stranger {
		c.connect()
		c.ping()
	}
	_, _ = c.c.Write(a.send) // a broker may close before it has all of it
	end := c.finish
	if s.Counted != nil || a.always {
		end = c.closed
	}
	got, err := end()
	if err != nil {
		t.Error(err)
	}
	for _, p := range got {
		if p.kind() == publishType {
			t.Errorf("it was delivered: %x %q", p.head, p.body)
		}
	}
	if s.Counted == nil {
		return
	}
	for reason, n := range s.Counted() {
		want := before[reason]
		if reason == a.reason {
			want++
		}
		if n != want {
			t.Errorf("%s: %d counted, want %d", reason, n-before[reason], want-before[reason])
		}
	}
	if s.Counted()[a.reason] == before[a.reason] {
		t.Errorf("not counted as %s", a.reason)
	}
}

// named is a right packet.
type named struct {
	name  string
	bytes []byte
}

// whole are right packets of every type a client sends, none with a payload that could be cut and
// still be right.
func whole() []named {
	return []named{
		{"CONNECT", helloOf("m1", withWill("forged")).bytes()},
		{"PUBLISH QoS 0", publish(0x30, up("m1", "event"), 0, "")},
		{"PUBLISH QoS 1", publish(0x32, up("m1", "event"), 1, "")},
		{"PUBACK", numbered(0x40, 1, "")},
		{"SUBSCRIBE", numbered(0x82, 1, text(down("m1", "#"))+"\x01")},
		{"UNSUBSCRIBE", numbered(0xa2, 1, text(down("m1", "#")))},
		{"PINGREQ", frame(0xc0, "")},
		{"DISCONNECT", frame(0xe0, "")},
	}
}

// cuts: every packet ends after every byte, once as it is (the rest never comes) and once with a
// length that says this is all; and every length lies by one.
func (s *suite) cuts(t *testing.T) {
	for _, p := range whole() {
		t.Run(p.name, func(t *testing.T) {
			var sent [][]byte
			for n := 1; n < len(p.bytes); n++ {
				sent = append(sent, p.bytes[:n])
				if n >= 2 && len(p.bytes) > 2 {
					sent = append(sent, frame(p.bytes[0], string(p.bytes[2:n])))
				}
			}
			longer := append([]byte{p.bytes[0], p.bytes[1] + 1}, p.bytes[2:]...)
			sent = append(sent, longer)
			var before int64
			if s.Counted != nil {
				before = s.total()
			}
			for _, b := range sent {
				s.cutShort(t, p.name == "CONNECT", b)
			}
			if s.Counted != nil {
				if n := s.total() - before; n != int64(len(sent)) {
					t.Errorf("%d of %d counted", n, len(sent))
				}
			}
		})
	}
}

func (s *suite) cutShort(t *testing.T, stranger bool, b []byte) {
	t.Helper()
	c := s.dial(t, "m1")
	defer c.cut()
	if !stranger {
		c.connect()
		c.ping()
	}
	_, _ = c.c.Write(b)
	if _, err := c.finish(); err != nil {
		t.Errorf("%s: %v", fmt.Sprintf("%x", b), err)
	}
}
