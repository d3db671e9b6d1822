package broker

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"coinop/protocol"
)

// express is the short way of what devices send and are told all day, past mochi: up, a PUBLISH of a
// device's own to the tap; down, a PUBLISH to the one filter that every agent subscribes. mochi has the
// rest: connections, subscriptions, what is refused, and clients that subscribe otherwise. A session is
// clean, so a message that was not acknowledged is never sent again, and nothing of it need be kept but
// a count.
type express struct {
	up        string // the topics the device may write begin with it
	keepalive time.Duration
	listens   atomic.Bool   // it has subscribed its dn/#, QoS 1
	number    atomic.Uint32 // of packets down
	unheard   atomic.Int32  // of them, that were not acknowledged
	deadline  time.Time     // of reads; the reader's own
}

// Numbers of packets: mochi counts from 1, we from here.
const firstNumber = 1 << 15

// introduce lets a connection use the short way.
func (c *conn) introduce(d protocol.DeviceID, keepalive uint16) {
	c.device = d
	c.up = string(protocol.TopicOf(d, "up/"))
	c.keepalive = time.Duration(keepalive) * time.Second * 3 / 2 // MQTT 3.1.1, 3.1.2.10
}

// took handles a packet the guard has let through, when it may go the short way.
func (c *conn) took(f packet, p []byte) bool {
	if c.client.Load() == nil {
		return false
	}
	body := p[f.header:f.size]
	switch f.kind {
	case typePuback:
		if binary.BigEndian.Uint16(body) < firstNumber || !c.listens.Load() {
			return false
		}
		if c.unheard.Add(-1) < 0 { // of something we never sent
			c.unheard.Store(0)
		}
	case typePublish:
		n := int(binary.BigEndian.Uint16(body))
		topic := body[2 : 2+n]
		if len(topic) <= len(c.up) || string(topic[:len(c.up)]) != c.up {
			return false // mochi says no
		}
		payload, id := body[2+n:], []byte(nil)
		if p[0]>>1&3 > 0 {
			id, payload = payload[:2], payload[2:]
		}
		m := Message{Device: c.device, Topic: protocol.Topic(topic), Payload: append([]byte(nil), payload...)}
		if c.tap(m) == nil && id != nil {
			c.acknowledge(id)
		}
	default:
		return false
	}
	if now := time.Now(); c.deadline.Sub(now) < c.keepalive-time.Second { // mochi renews it for the packets it sees
		c.deadline = now.Add(c.keepalive)
		_ = c.SetReadDeadline(c.deadline)
	}
	return true
}

// tell publishes to the device with QoS 1; false when it has acknowledged nothing for long.
func (c *conn) tell(topic protocol.Topic, payload []byte) bool {
	if c.unheard.Add(1) > maxInflight {
		c.unheard.Add(-1)
		return false
	}
	id := firstNumber | uint16(c.number.Add(1))
	var buf [maxHeader + 2 + maxTopic + 2]byte
	head := append(buf[:0], typePublish<<4|1<<1)
	head = binary.AppendUvarint(head, uint64(2+len(topic)+2+len(payload)))
	head = append(binary.BigEndian.AppendUint16(head, uint16(len(topic))), topic...)
	head = binary.BigEndian.AppendUint16(head, id)
	_ = c.queue(head, payload) // a connection that ends is counted as such
	return true
}
