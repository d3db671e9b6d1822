package broker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"coinop/protocol"

	paho "github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/mochi-mqtt/server/v2/packets"
)

const topic = "coinop/v1/m1/up/auth"

var (
	aConnect     = frame(0x10, connectBody("MQTT", 4, 0x82, 30, "m1", "m1"))
	aWill        = frame(0x10, connectBody("MQTT", 4, 0xce, 60, "m1", "coinop/v1/m1/up/conn", "\x00\xffbye", "m1", "pw"))
	aPublish0    = frame(0x30, str(topic)+"\xff\x00payload")
	aPublish1    = frame(0x3a, str(topic)+"\x00\x01")
	aPuback      = frame(0x40, "\x12\x34")
	aSubscribe   = frame(0x82, "\x00\x07"+str("coinop/v1/m1/dn/#")+"\x01"+str("+/+")+"\x00")
	aUnsubscribe = frame(0xa2, "\x00\x07"+str("coinop/v1/m1/dn/#"))
	aPing        = frame(0xc0, "")
	aDisconnect  = frame(0xe0, "")
)

func connectBody(name string, level, flags byte, keepalive uint16, fields ...string) string {
	b := str(name) + string([]byte{level, flags}) + string(binary.BigEndian.AppendUint16(nil, keepalive))
	for _, f := range fields {
		b += str(f)
	}
	return b
}

// judge runs the guard over a whole stream; rest is what it was still waiting for.
func judge(p []byte) (r Reason, passed, rest int) {
	var g guard
	for {
		f, r := g.next(p[passed:])
		if r != reasonNone {
			return r, passed, 0
		}
		if f.header == 0 || f.size > len(p)-passed {
			return reasonNone, passed, len(p) - passed
		}
		if r = g.check(f, p[passed:]); r != reasonNone {
			return r, passed, 0
		}
		passed += f.size
	}
}

func TestGuardPasses(t *testing.T) {
	t.Parallel()
	for name, p := range map[string][]byte{
		"connect": aConnect, "with a will and a password": aWill,
		"publish QoS 0":         cat(aConnect, aPublish0),
		"publish QoS 1, DUP":    cat(aConnect, aPublish1),
		"puback":                cat(aConnect, aPuback),
		"subscribe":             cat(aConnect, aSubscribe),
		"eight filters":         cat(aConnect, frame(0x82, "\x00\x01"+strings.Repeat(str("a/+/#")+"\x00", 8))),
		"unsubscribe":           cat(aConnect, aUnsubscribe),
		"ping":                  cat(aConnect, aPing),
		"disconnect":            cat(aConnect, aDisconnect),
		"everything":            cat(aWill, aPublish0, aPublish1, aPuback, aSubscribe, aUnsubscribe, aPing, aDisconnect),
		"the longest":           cat(aConnect, frame(0x30, str(topic)+strings.Repeat("x", maxPublish-2-len(topic)))),
		"filter # alone":        cat(aConnect, frame(0x82, "\x00\x01"+str("#")+"\x01")),
		"keepalive at its most": frame(0x10, connectBody("MQTT", 4, 0x82, 60, "m1", "m1")),
	} {
		if r, passed, rest := judge(p); r != reasonNone || rest != 0 || passed != len(p) {
			t.Errorf("%s: %s after %d bytes, %d waiting", name, r, passed, rest)
		}
	}
}

// What the guard refuses, and why. Numbers are sections of OASIS mqtt-v3.1.1.
func TestGuardRefuses(t *testing.T) {
	t.Parallel()
	after := func(p ...[]byte) []byte { return cat(append([][]byte{aConnect}, p...)...) }
	connect := func(flags byte, keepalive uint16, f ...string) []byte {
		return frame(0x10, connectBody("MQTT", 4, flags, keepalive, f...))
	}
	for _, c := range []struct {
		name string
		p    []byte
		want Reason
	}{
		{"2.2.1 type 0", after([]byte{0x00, 0}), ReasonType},
		{"2.2.1 type 15, AUTH of version 5", after([]byte{0xf0, 0}), ReasonType},
		{"2.2.1 CONNACK", after(frame(0x20, "\x00\x00")), ReasonType},
		{"2.2.1 PUBREC", after(frame(0x50, "\x00\x01")), ReasonType},
		{"2.2.1 PUBREL", after(frame(0x62, "\x00\x01")), ReasonType},
		{"2.2.1 PUBCOMP", after(frame(0x70, "\x00\x01")), ReasonType},
		{"2.2.1 SUBACK", after(frame(0x90, "\x00\x01\x00")), ReasonType},
		{"2.2.1 UNSUBACK", after(frame(0xb0, "\x00\x01")), ReasonType},
		{"2.2.1 PINGRESP", after(frame(0xd0, "")), ReasonType},
		{"2.2.2 flags of CONNECT", frame(0x11, connectBody("MQTT", 4, 0x82, 30, "m1", "m1")), ReasonFlags},
		{"2.2.2 flags of SUBSCRIBE", after(frame(0x80, "\x00\x07"+str("a")+"\x01")), ReasonFlags},
		{"2.2.2 flags of PINGREQ", after(frame(0xc1, "")), ReasonFlags},
		{"2.2.3 length of five bytes", after([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}), ReasonLength},
		{"2.2.3 256 MiB", after([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}), ReasonLength},
		{"2.2.3 256 MiB of a stranger", []byte{0x10, 0xff, 0xff, 0xff, 0x7f}, ReasonLength},
		{"2.2.3 longer than it need be", after([]byte{0x40, 0x82, 0x00}), ReasonLength},
		{"2.2.3 one byte too many", after([]byte{0x30, 0x81, 0x88, 0x08}), ReasonLength},
		{"2.3.1 PUBLISH, packet id 0", after(frame(0x32, str(topic)+"\x00\x00x")), ReasonPacketID},
		{"2.3.1 PUBACK, packet id 0", after(frame(0x40, "\x00\x00")), ReasonPacketID},
		{"2.3.1 SUBSCRIBE, packet id 0", after(frame(0x82, "\x00\x00"+str("a")+"\x01")), ReasonPacketID},
		{"3.1 not first", after(aConnect), ReasonOrder},
		{"3.1 not CONNECT", aPing, ReasonOrder},
		{"3.1.2.1 MQIsdp", frame(0x10, connectBody("MQIsdp", 3, 0x82, 30, "m1", "m1")), ReasonProtocol},
		{"3.1.2.2 version 5", frame(0x10, str("MQTT")+"\x05\x82\x00\x1e\x00"+str("m1")+str("m1")), ReasonProtocol},
		{"3.1.2.2 version 3", frame(0x10, connectBody("MQTT", 3, 0x82, 30, "m1", "m1")), ReasonProtocol},
		{"3.1.2.3 reserved flag", connect(0x83, 30, "m1", "m1"), ReasonFlags},
		{"3.1.2.4 session to be kept", connect(0x80, 30, "m1", "m1"), ReasonSession},
		{"3.1.2.6 QoS of no will", connect(0x8a, 30, "m1", "m1"), ReasonWill},
		{"3.1.2.6 QoS 2 of a will", connect(0x96, 30, "m1", "t", "x", "m1"), ReasonWill},
		{"3.1.2.7 will retained", connect(0xa6, 30, "m1", "t", "x", "m1"), ReasonWill},
		{"3.1.2.8 no user name", connect(0x02, 30, "m1"), ReasonUser},
		{"3.1.2.9 password alone", connect(0x42, 30, "m1", "m1"), ReasonUser},
		{"3.1.2.10 keepalive 0", connect(0x82, 0, "m1", "m1"), ReasonKeepalive},
		{"3.1.2.10 keepalive 65535", connect(0x82, 65535, "m1", "m1"), ReasonKeepalive},
		{"3.1.3.1 no client id", connect(0x82, 30, "", "m1"), ReasonUser},
		{"3.1.3 user name missing", connect(0x82, 30, "m1xx"), ReasonShape},
		{"3.1.3 one field more", connect(0x82, 30, "m1", "m1", "pw"), ReasonShape},
		{"3.1.3.2 wildcard in a will", connect(0x86, 30, "m1", "a/#", "x", "m1"), ReasonTopic},
		{"1.5.3 client id", connect(0x82, 30, "\xff", "m1"), ReasonUTF8},
		{"1.5.3 surrogate", after(frame(0x30, str("a\xed\xa0\x80"))), ReasonUTF8},
		{"1.5.3 overlong", after(frame(0x30, str("a\xc0\xaf"))), ReasonUTF8},
		{"1.5.3 U+0000", after(frame(0x82, "\x00\x01"+str("a\x00b")+"\x01")), ReasonUTF8},
		{"3.3.1.1 DUP of QoS 0", after(frame(0x38, str(topic))), ReasonFlags},
		{"3.3.1.2 QoS 2", after(frame(0x34, str(topic)+"\x00\x01")), ReasonQoS},
		{"3.3.1.2 QoS 3", after(frame(0x36, str(topic)+"\x00\x01")), ReasonQoS},
		{"3.3.1.3 retained", after(frame(0x33, str(topic)+"\x00\x01")), ReasonRetain},
		{"3.3.2.1 no topic", after(frame(0x30, str("")+"x")), ReasonTopic},
		{"3.3.2.1 wildcard +", after(frame(0x30, str("a/+/b"))), ReasonTopic},
		{"3.3.2.1 wildcard #", after(frame(0x30, str("a/#"))), ReasonTopic},
		{"3.3.2.1 longer than the packet", after(frame(0x30, "\x00\x09abc")), ReasonShape},
		{"3.3.2.2 no packet id", after(frame(0x32, str(topic))), ReasonShape},
		{"4.7.2 $SYS", after(frame(0x30, str("$SYS/x"))), ReasonTopic},
		{"4.7.3 long topic", after(frame(0x30, str(strings.Repeat("t", maxTopic+1)))), ReasonTopic},
		{"3.4 PUBACK of 3 bytes", after(frame(0x40, "\x00\x01\x00")), ReasonLength},
		{"3.8.3 no filter", after(frame(0x82, "\x00\x01")), ReasonLength},
		{"3.8.3 no QoS", after(frame(0x82, "\x00\x01"+str("abc"))), ReasonShape},
		{"3.8.3 QoS 2", after(frame(0x82, "\x00\x01"+str("abc")+"\x02")), ReasonQoS},
		{"3.8.3 options of version 5", after(frame(0x82, "\x00\x01"+str("abc")+"\x05")), ReasonQoS},
		{"3.8.3 nine filters", after(frame(0x82, "\x00\x01"+strings.Repeat(str("a")+"\x00", 9))), ReasonFilter},
		{"3.8.3 empty filter", after(frame(0x82, "\x00\x01"+str("")+"\x01"+str("a")+"\x01")), ReasonFilter},
		{"4.7.1 # not last", after(frame(0x82, "\x00\x01"+str("a/#/b")+"\x01")), ReasonFilter},
		{"4.7.1 # not alone", after(frame(0x82, "\x00\x01"+str("a#")+"\x01")), ReasonFilter},
		{"4.7.1 + not alone", after(frame(0x82, "\x00\x01"+str("a/b+/c")+"\x01")), ReasonFilter},
		{"4.7.2 $SYS in a filter", after(frame(0x82, "\x00\x01"+str("$SYS/#")+"\x01")), ReasonFilter},
		{"shared subscription", after(frame(0x82, "\x00\x01"+str("$share/g/coinop/v1/m1/dn/#")+"\x01")), ReasonFilter},
		{"3.10.3 filter missing", after(frame(0xa2, "\x00\x01")), ReasonLength},
		{"3.10.3 lying length", after(frame(0xa2, "\x00\x01\x00\x07abc")), ReasonShape},
		{"3.12 PINGREQ with a body", after(frame(0xc0, "x")), ReasonLength},
		{"3.14.4 after DISCONNECT", after(aDisconnect, aPing), ReasonOrder},
		{"mochi issue 501", after([]byte{0x82, 8, 0, 1, 0, 0, 3, 'a', '/', 'b'}), ReasonFilter},
	} {
		if r, _, _ := judge(c.p); r != c.want {
			t.Errorf("%s: %s, want %s", c.name, r, c.want)
		}
	}
}

// Every packet cut after every byte waits for the rest; with a length that agrees with the cut it is
// refused, or is a packet by itself.
func TestGuardCuts(t *testing.T) {
	t.Parallel()
	for _, p := range [][]byte{aConnect, aWill, aPublish0, aPublish1, aPuback, aSubscribe, aUnsubscribe, aPing, aDisconnect} {
		var before []byte
		if p[0] != 0x10 {
			before = aConnect
		}
		for n := range p {
			if r, _, rest := judge(cat(before, p[:n])); r != reasonNone || rest != n {
				t.Errorf("%x cut at %d: %s, %d waiting", p, n, r, rest)
			}
		}
		for n := range len(p) - 2 {
			cut := cat(before, frame(p[0], string(p[2:2+n])))
			if r, _, _ := judge(cut); r == reasonNone {
				understood(t, cut)
			}
		}
	}
}

// understood: what the guard passes, mochi and paho decode without an error, to the same packets.
func understood(t *testing.T, p []byte) {
	t.Helper()
	theirs := bytes.NewReader(p)
	for r := bufio.NewReader(bytes.NewReader(p)); ; {
		head, err := r.ReadByte()
		if err != nil {
			return
		}
		var pk packets.Packet
		if err := pk.FixedHeader.Decode(head); err != nil {
			t.Fatalf("%x: mochi: %v", p, err)
		}
		pk.FixedHeader.Remaining, _, err = packets.DecodeLength(r)
		if err != nil {
			t.Fatalf("%x: mochi: %v", p, err)
		}
		pk.ProtocolVersion = 4
		body := make([]byte, pk.FixedHeader.Remaining)
		if _, err := io.ReadFull(r, body); err != nil {
			t.Fatalf("%x: mochi: %v", p, err)
		}
		decode := map[byte]func([]byte) error{
			typeConnect: pk.ConnectDecode, typePublish: pk.PublishDecode, typePuback: pk.PubackDecode,
			typeSubscribe: pk.SubscribeDecode, typeUnsubscribe: pk.UnsubscribeDecode,
			typePingreq: pk.PingreqDecode, typeDisconnect: pk.DisconnectDecode,
		}[head>>4]
		if err := decode(body); err != nil {
			t.Fatalf("%x: mochi: %v", p, err)
		}
		other, err := paho.ReadPacket(theirs)
		if err != nil {
			t.Fatalf("%x: paho: %v", p, err)
		}
		if pub, ok := other.(*paho.PublishPacket); ok &&
			(pub.TopicName != pk.TopicName || !bytes.Equal(pub.Payload, pk.Payload) || pub.MessageID != pk.PacketID) {
			t.Fatalf("%x: paho reads %+v, mochi %+v", p, pub, pk)
		}
	}
}

func FuzzGuard(f *testing.F) {
	f.Add(cat(aWill, aPublish0, aPublish1, aPuback, aSubscribe, aUnsubscribe, aPing, aDisconnect))
	for _, p := range [][]byte{aPublish0, aPublish1, aPuback, aSubscribe, aUnsubscribe, aPing, aDisconnect} {
		f.Add(cat(aConnect, p))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		_, passed, _ := judge(p)
		understood(t, p[:passed])
		c := reader(iotest.OneByteReader(bytes.NewReader(p)))
		if got, err := io.ReadAll(c); !bytes.Equal(got, p[:passed]) {
			t.Fatalf("in pieces %x passes, at once %x: %v", got, p[:passed], err)
		}
	})
}

// reader is a connection that reads from memory.
func reader(r io.Reader) *conn {
	far, raw := net.Pipe()
	far.Close()
	c := newConn(raw, nil, unlimited(), &Stats{}, nil)
	c.in = r
	return c
}

func TestReadHandsOnWholePackets(t *testing.T) {
	t.Parallel()
	long := frame(0x30, str(topic)+strings.Repeat("x", 100_000))
	good := cat(aConnect, aPublish1, long, aPing)
	for name, in := range map[string]io.Reader{
		"at once":   bytes.NewReader(cat(good, []byte{0xf0, 0}, aPing)),
		"in pieces": iotest.OneByteReader(bytes.NewReader(cat(good, []byte{0xf0, 0}, aPing))),
	} {
		c := reader(in)
		got, err := io.ReadAll(c)
		var o offence
		if !bytes.Equal(got, good) || !errors.As(err, &o) || o.reason != ReasonType {
			t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(good), err)
		}
		if c.stats.By(ReasonType) != 1 || c.stats.By(ReasonCut) != 0 || !c.isClosed() {
			t.Errorf("%s: %v", name, c.stats.Reasons())
		}
	}
	c := reader(bytes.NewReader(cat(aConnect, aPublish1[:9])))
	if got, _ := io.ReadAll(c); !bytes.Equal(got, aConnect) || c.stats.By(ReasonCut) != 1 {
		t.Errorf("cut: %x, %v", got, c.stats.Reasons())
	}
}

// A large packet's buffer is let go, and one that was only announced is never there.
func TestBufferFollowsWhatCame(t *testing.T) {
	t.Parallel()
	c := reader(bytes.NewReader(cat(aConnect, []byte{0x30, 0x80, 0x80, 0x08})))
	_, _ = io.ReadAll(c)
	if len(c.buf) > smallBuffer {
		t.Errorf("%d bytes for an announcement", len(c.buf))
	}
	c = reader(io.MultiReader(bytes.NewReader(cat(aConnect, frame(0x30, str(topic)+strings.Repeat("x", 100_000)))), bytes.NewReader(aPing)))
	_, _ = io.ReadAll(c)
	if len(c.buf) > keptBuffer {
		t.Errorf("%d bytes kept", len(c.buf))
	}
}

func TestBucket(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := newBucket(200, 400)
	for n := range 400 {
		if w := b.take(now, 1); w != 0 {
			t.Fatalf("message %d of the burst waits %s", n, w)
		}
	}
	for n := range 5 {
		if w := b.take(now, 1); w != time.Duration(n+1)*5*time.Millisecond {
			t.Fatalf("message %d waits %s", 400+n, w)
		}
	}
	if w := b.take(now.Add(time.Hour), 400); w != 0 {
		t.Fatalf("after a rest: %s", w)
	}
}

// Beyond a share nothing is taken, and nothing owed: a second later one may say as much as ever. Who
// is quiet is forgotten.
func TestShares(t *testing.T) {
	t.Parallel()
	s := newShares(Rate{})
	now := time.Unix(1_800_000_000, 0)
	took := func(d protocol.DeviceID, n, size int) (got int) {
		for range n {
			if s.take(now, d, size) {
				got++
			}
		}
		return got
	}
	if n := took("m1", 5000, 100); n != 400 {
		t.Errorf("%d of a burst, want 400", n)
	}
	if n := took("m2", 100, protocol.MaxMessage); n != 31 { // 4 MiB and no more
		t.Errorf("%d of 128 KiB, want 31", n)
	}
	now = now.Add(time.Second)
	if n := took("m1", 5000, 100); n != 200 {
		t.Errorf("%d a second later, want 200", n)
	}
	for i := range keptShares {
		s.take(now, protocol.DeviceID(fmt.Sprint("d", i)), 1)
	}
	now = now.Add(time.Minute)
	for i := range keptShares {
		s.take(now, protocol.DeviceID(fmt.Sprint("e", i)), 1)
	}
	if n := len(s.of); n > keptShares+10 {
		t.Errorf("%d devices are remembered", n)
	}
}

func TestReasonsHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for r := range reasons {
		if s := r.String(); s == "" || seen[s] {
			t.Errorf("%d: %q", r, s)
		}
		seen[r.String()] = true
	}
}

// endless repeats one packet for ever.
type endless struct {
	p  []byte
	at int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.p[e.at:])
	e.at = (e.at + n) % len(e.p)
	return n, nil
}

func unlimited() Rate {
	return Rate{Messages: 2e9, MessagesBurst: 1, Bytes: 2e9, BytesBurst: 1} // a token a fraction of a nanosecond
}

func BenchmarkGuard(b *testing.B) {
	p := frame(0x32, str(topic)+"\x00\x09"+strings.Repeat("x", 400))
	b.Run("publish", func(b *testing.B) { benchGuard(b, p) })
	b.Run("puback", func(b *testing.B) { benchGuard(b, aPuback) })
	b.Run("read", func(b *testing.B) {
		c := reader(&endless{p: p})
		c.guard.phase = phaseOpen
		out := make([]byte, len(p))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := io.ReadFull(c, out); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchGuard(b *testing.B, p []byte) {
	g := guard{phase: phaseOpen}
	b.ReportAllocs()
	for b.Loop() {
		f, r := g.next(p)
		if r != reasonNone || g.check(f, p) != reasonNone {
			b.Fatal(r)
		}
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	p := frame(0x32, str(topic)+"\x00\x09"+strings.Repeat("x", 400))
	c := reader(&endless{p: p})
	c.guard.phase = phaseOpen
	out := make([]byte, len(p))
	if n := testing.AllocsPerRun(1000, func() { _, _ = io.ReadFull(c, out) }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}
