package broker

import (
	"unicode/utf8"

	"coinop/protocol"
)

// The guard is a list of the packets a device may send, byte for byte; what is not on it never
// reaches mochi, which dies of one truncated SUBSCRIBE and waits for any length that is announced.
//
//	CONNECT      once and first: MQTT 3.1.1, clean session, user name, keepalive 10 to 60 s,
//	             a will that is not retained
//	PUBLISH      QoS 0 and 1, not retained, a topic without wildcards
//	PUBACK
//	SUBSCRIBE    1 to 8 filters, QoS 0 and 1
//	UNSUBSCRIBE  1 to 8 filters
//	PINGREQ
//	DISCONNECT   last
//
// Every field must fill its packet exactly, every text be UTF-8. Section numbers below are of OASIS
// mqtt-v3.1.1. It is pure, and it allocates nothing.
type guard struct {
	phase phase
}

type phase uint8

const (
	phaseConnect phase = iota
	phaseOpen
	phaseEnded
)

// Most bytes a packet of each type may have after its fixed header. A stranger may announce no more
// than a CONNECT: it has shown a certificate, but not yet said who it is.
const (
	maxTopic       = 256
	maxFilters     = 8
	maxConnect     = 16 << 10 // a will carries a ticket
	maxPublish     = protocol.MaxMessage + 1024
	maxSubscribe   = 2 + maxFilters*(2+maxTopic+1)
	maxUnsubscribe = 2 + maxFilters*(2+maxTopic)
	maxHeader      = 5
)

// Packet types, section 2.2.1.
const (
	typeConnect     = 1
	typePublish     = 3
	typePuback      = 4
	typeSubscribe   = 8
	typeUnsubscribe = 10
	typePingreq     = 12
	typeDisconnect  = 14
)

// packet is what the guard knows of the packet at the beginning of some bytes.
type packet struct {
	kind   byte
	header int // bytes of the fixed header; 0 = not all here yet
	size   int // of the whole packet
}

// next reads the fixed header at the beginning of p and says how long the packet is, before any of
// its bytes is waited for.
func (g *guard) next(p []byte) (packet, Reason) {
	if len(p) == 0 {
		return packet{}, reasonNone
	}
	f := packet{kind: p[0] >> 4}
	if r := g.admit(p[0]); r != reasonNone {
		return f, r
	}
	length := 0
	for i := 1; ; i++ {
		if i == maxHeader {
			return f, ReasonLength // a fifth byte of length, section 2.2.3
		}
		if i == len(p) {
			return f, reasonNone
		}
		length |= int(p[i]&0x7f) << (7 * (i - 1))
		if p[i]&0x80 != 0 {
			continue
		}
		if p[i] == 0 && i > 1 {
			return f, ReasonLength // longer than it need be: nobody's encoder does that
		}
		f.header, f.size = i+1, i+1+length
		break
	}
	low, high := span(f.kind)
	if length < low || length > high {
		return f, ReasonLength
	}
	return f, reasonNone
}

// admit judges the first byte, and whether it is this packet's turn.
func (g *guard) admit(b byte) Reason {
	kind, flags := b>>4, b&0x0f
	switch kind {
	case typePublish: // DUP, QoS, QoS, RETAIN: section 3.3.1
		switch qos := flags >> 1 & 3; {
		case qos > 1:
			return ReasonQoS
		case flags&1 != 0:
			return ReasonRetain
		case qos == 0 && flags&8 != 0:
			return ReasonFlags // 3.3.1.1
		}
	case typeSubscribe, typeUnsubscribe:
		if flags != 2 {
			return ReasonFlags
		}
	case typeConnect, typePuback, typePingreq, typeDisconnect:
		if flags != 0 {
			return ReasonFlags
		}
	default:
		return ReasonType
	}
	if g.phase == phaseEnded || (kind == typeConnect) != (g.phase == phaseConnect) {
		return ReasonOrder
	}
	return reasonNone
}

// span is the least and the most a packet's remaining length may be.
func span(kind byte) (low, high int) {
	switch kind {
	case typeConnect:
		return 10 + 2, maxConnect
	case typePublish:
		return 2, maxPublish
	case typePuback:
		return 2, 2
	case typeSubscribe:
		return 2 + 4, maxSubscribe
	case typeUnsubscribe:
		return 2 + 3, maxUnsubscribe
	}
	return 0, 0
}

// check judges a whole packet and takes it as sent.
func (g *guard) check(f packet, p []byte) Reason {
	body := fields{p: p[f.header:f.size]}
	r := reasonNone
	switch f.kind {
	case typeConnect:
		r = body.connect()
		g.phase = phaseOpen
	case typePublish:
		r = body.publish(p[0]>>1&3 > 0)
	case typePuback:
		r = body.packetID()
	case typeSubscribe:
		r = body.filters(true)
	case typeUnsubscribe:
		r = body.filters(false)
	case typeDisconnect:
		g.phase = phaseEnded
	}
	if r == reasonNone && len(body.p) != 0 {
		r = ReasonShape
	}
	return r
}

// fields is what is left of a packet's body.
type fields struct{ p []byte }

func (f *fields) take(n int) ([]byte, bool) {
	if n > len(f.p) {
		return nil, false
	}
	b := f.p[:n]
	f.p = f.p[n:]
	return b, true
}

// number is two bytes, high first, section 1.5.2.
func (f *fields) number() (int, bool) {
	b, ok := f.take(2)
	if !ok {
		return 0, false
	}
	return int(b[0])<<8 | int(b[1]), true
}

// bytes is a length and so many bytes.
func (f *fields) bytes() ([]byte, bool) {
	n, ok := f.number()
	if !ok {
		return nil, false
	}
	return f.take(n)
}

// text is UTF-8 without U+0000, section 1.5.3.
func (f *fields) text() ([]byte, Reason) {
	b, ok := f.bytes()
	if !ok {
		return nil, ReasonShape
	}
	if !utf8.Valid(b) {
		return nil, ReasonUTF8
	}
	for _, c := range b {
		if c == 0 {
			return nil, ReasonUTF8
		}
	}
	return b, reasonNone
}

func (f *fields) packetID() Reason {
	switch id, ok := f.number(); {
	case !ok:
		return ReasonShape
	case id == 0:
		return ReasonPacketID // 2.3.1
	}
	return reasonNone
}

// Flags of CONNECT, section 3.1.2.3.
const (
	connectReserved   = 0x01
	connectClean      = 0x02
	connectWill       = 0x04
	connectWillQoS    = 0x18
	connectWillRetain = 0x20
	connectPassword   = 0x40
	connectUser       = 0x80
)

func (f *fields) connect() Reason {
	name, ok := f.bytes()
	if !ok {
		return ReasonShape
	}
	head, ok := f.take(2) // level, flags
	if !ok {
		return ReasonShape
	}
	keepalive, ok := f.number()
	flags := head[1]
	switch {
	case string(name) != "MQTT" || head[0] != 4:
		return ReasonProtocol
	case !ok:
		return ReasonShape
	case flags&connectReserved != 0:
		return ReasonFlags
	case flags&connectClean == 0:
		return ReasonSession
	case flags&connectUser == 0:
		return ReasonUser
	case flags&connectWillRetain != 0, flags&connectWillQoS > 0x08,
		flags&connectWill == 0 && flags&connectWillQoS != 0:
		return ReasonWill
	case keepalive < minKeepalive || keepalive > maxKeepalive:
		return ReasonKeepalive
	}
	if r := f.name(); r != reasonNone { // client id
		return r
	}
	if flags&connectWill != 0 {
		if r := f.topic(); r != reasonNone {
			return r
		}
		if _, ok := f.bytes(); !ok {
			return ReasonShape
		}
	}
	if r := f.name(); r != reasonNone { // user name
		return r
	}
	if flags&connectPassword != 0 { // some clients send one with every user name; nobody reads it
		if _, ok := f.bytes(); !ok {
			return ReasonShape
		}
	}
	return reasonNone
}

func (f *fields) name() Reason {
	b, r := f.text()
	if r == reasonNone && len(b) == 0 {
		return ReasonUser
	}
	return r
}

func (f *fields) publish(numbered bool) Reason {
	if r := f.topic(); r != reasonNone {
		return r
	}
	if numbered {
		if r := f.packetID(); r != reasonNone {
			return r
		}
	}
	f.p = nil // the payload is any bytes
	return reasonNone
}

// topic is a name to publish to: no wildcards (4.7.1), and none of the server's own (4.7.2).
func (f *fields) topic() Reason {
	b, r := f.text()
	if r != reasonNone {
		return r
	}
	if len(b) == 0 || len(b) > maxTopic || b[0] == '$' {
		return ReasonTopic
	}
	for _, c := range b {
		if c == '+' || c == '#' {
			return ReasonTopic
		}
	}
	return reasonNone
}

// filters is the body of SUBSCRIBE and, without the QoS of each, of UNSUBSCRIBE.
func (f *fields) filters(qos bool) Reason {
	if r := f.packetID(); r != reasonNone {
		return r
	}
	for n := 0; len(f.p) > 0; n++ {
		if n == maxFilters {
			return ReasonFilter
		}
		b, r := f.text()
		if r != reasonNone {
			return r
		}
		if !validFilter(b) {
			return ReasonFilter
		}
		if !qos {
			continue
		}
		q, ok := f.take(1)
		if !ok {
			return ReasonShape
		}
		if q[0] > 1 {
			return ReasonQoS
		}
	}
	return reasonNone
}

// validFilter: + and # stand alone in their level, # only in the last (section 4.7.1). Filters of the
// server's own topics, $share/ among them, are nothing a device asks for.
func validFilter(b []byte) bool {
	if len(b) == 0 || len(b) > maxTopic || b[0] == '$' {
		return false
	}
	for i, c := range b {
		if c != '+' && c != '#' {
			continue
		}
		if i > 0 && b[i-1] != '/' {
			return false
		}
		if last := i == len(b)-1; !last && (c == '#' || b[i+1] != '/') {
			return false
		}
	}
	return true
}
