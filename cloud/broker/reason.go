package broker

import "sync/atomic"

// Reason is why a connection was closed, refused or slowed. Each is a counter.
type Reason uint8

// Reasons. Those up to ReasonCut are the guard's, about bytes; the others are about who sends them.
const (
	reasonNone        Reason = iota
	ReasonType               // a packet that is not on the list
	ReasonFlags              // header flags the packet may not have (DUP of QoS 0 too)
	ReasonLength             // the announced length cannot be, or is longer than this packet may be
	ReasonShape              // fields that do not fill the packet exactly
	ReasonOrder              // not CONNECT first, CONNECT again, anything after DISCONNECT
	ReasonProtocol           // not MQTT 3.1.1
	ReasonSession            // a session that is to be kept
	ReasonUser               // no user name, or no client id
	ReasonWill               // a retained will, or flags of a will that is not there
	ReasonKeepalive          // none, too short or too long
	ReasonUTF8               // text that is not UTF-8 or holds U+0000
	ReasonTopic              // empty, too long, a wildcard or a leading $ in a PUBLISH
	ReasonFilter             // empty, too long, a misplaced wildcard, none of them or too many
	ReasonPacketID           // 0
	ReasonQoS                // above 1
	ReasonRetain             // nothing is kept here
	ReasonCut                // the connection ended in the middle of a packet
	ReasonIdentity           // client id, user name and certificate do not agree, or it may not come in
	ReasonForeignWill        // a will on another topic than the device's own up/conn
	ReasonDenied             // a topic or filter that is not the device's; the connection may live on
	ReasonStuck              // the device's older connection did not end in time
	ReasonCrowd              // too many connections, or too many of one address that have not said who they are
	ReasonSlow               // it does not read what it is sent
	ReasonRate               // more than its share: slowed, or at a broker elsewhere dropped
	reasons
)

var reasonNames = [reasons]string{
	"none", "type", "flags", "length", "shape", "order", "protocol", "session", "user", "will", "keepalive", "utf8",
	"topic", "filter", "packet_id", "qos", "retain", "cut", "identity", "foreign_will", "denied", "stuck", "crowd", "slow", "rate",
}

func (r Reason) String() string {
	if r >= reasons {
		return "unknown"
	}
	return reasonNames[r]
}

// Stats counts what went wrong. The counters only grow.
type Stats struct {
	Refused   atomic.Int64 // CONNECTs
	Panics    atomic.Int64 // connections that ended in one
	Takeovers atomic.Int64
	Busy      atomic.Int64 // messages the tap refused
	Dropped   atomic.Int64 // messages to a device whose queue was full, or that were lost with the connection to a broker
	Lost      atomic.Int64 // connections to a broker elsewhere that ended
	by        [reasons]atomic.Int64
}

// By is how often a reason was met.
func (s *Stats) By(r Reason) int64 {
	if r >= reasons {
		return 0
	}
	return s.by[r].Load()
}

// Reasons are all there are.
func Reasons() []Reason {
	var all []Reason
	for r := reasonNone + 1; r < reasons; r++ {
		all = append(all, r)
	}
	return all
}

// Reasons are all that were met, by name.
func (s *Stats) Reasons() map[string]int64 {
	m := map[string]int64{}
	for r := range reasons {
		if n := s.by[r].Load(); n > 0 {
			m[r.String()] = n
		}
	}
	return m
}

func (s *Stats) count(r Reason) { s.by[r].Add(1) }
