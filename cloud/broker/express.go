package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"coinop/protocol"

	mqtt "github.com/mochi-mqtt/server/v2"
)

// express is the short way of what devices send and are told all day, past mochi: up, a PUBLISH of a
// device's own to the tap; down, a PUBLISH to the one filter that every agent subscribes. Once a device
// has subscribed that, mochi lets go of the connection and it is served here, by attend: a client of
// mochi's and its two goroutines are more memory than all else of an idle device. mochi has CONNECT,
// what is refused, and clients that subscribe otherwise. A session is clean, so a message that was not
// acknowledged is never sent again, and nothing of it need be kept but a count.
type express struct {
	up        string // the topics the device may write begin with it
	keepalive time.Duration
	ours      bool          // mochi has let go; of the goroutine that serves the connection
	will      *Message      // of a connection that is ours; nil: none
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
	if c.device == "" {
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
	c.alive() // mochi sees to it for the packets it sees
	return true
}

// alive begins the keepalive's time anew: something has come.
func (c *conn) alive() {
	if now := time.Now(); c.deadline.Sub(now) < c.keepalive-time.Second {
		c.deadline = now.Add(c.keepalive)
		_ = c.SetReadDeadline(c.deadline)
	}
}

// errOurs ends mochi's part of a connection.
var errOurs = errors.New("served without mochi")

// leave takes a connection over from mochi once its device has subscribed as agents do; the SUBACK is
// queued by then. What mochi does after a connection has ended clears the client away: its will is
// taken before, and its Close closes nothing.
func (c *conn) leave() bool {
	cl := c.client.Load()
	if !c.listens.Load() || cl == nil {
		return false
	}
	if atomic.CompareAndSwapUint32(&cl.Properties.Will.Flag, 1, 0) {
		c.will = will(c.device, cl.Properties.Will)
		cl.Properties.Will = mqtt.Will{}
	}
	c.ours = true
	c.client.Store(nil)
	return true
}

// attend serves a connection that is ours until it ends; nil after a DISCONNECT.
func (c *conn) attend() error {
	for {
		f, err := c.next()
		if err != nil {
			return err
		}
		p := c.buf[c.start:c.good]
		if !c.took(f, p) {
			if f.kind == typeDisconnect {
				return nil
			}
			if err := c.serve(f, p); err != nil {
				return err
			}
			c.alive()
		}
		c.start = c.good
	}
}

// Of SUBACK and UNSUBACK (MQTT 3.1.1, 3.9 and 3.11).
const (
	typeSuback   = 9
	typeUnsuback = 11
	typePingresp = 13
	granted      = 1    // QoS 1
	notGranted   = 0x80 // 3.9.3
)

// serve answers the seldom packets. A device has one subscription here, its dn/#: any other is refused.
func (c *conn) serve(f packet, p []byte) error {
	body := fields{p: p[f.header:]}
	switch f.kind {
	case typePingreq:
		return c.queue([]byte{typePingresp << 4, 0}, nil)
	case typePublish: // of another's
		c.stats.count(ReasonDenied)
		if p[0]>>1&3 > 0 {
			return offence{ReasonDenied}
		}
	case typeSubscribe:
		id, _ := body.take(2)
		answer := append([]byte{typeSuback << 4, 0}, id...)
		for len(body.p) > 0 {
			filter, _ := body.bytes()
			qos, _ := body.take(1)
			switch {
			case string(filter) == protocol.DownFilter(c.device) && qos[0] == granted:
				c.listens.Store(true)
				answer = append(answer, granted)
			default:
				c.stats.count(ReasonDenied)
				answer = append(answer, notGranted)
			}
		}
		answer[1] = byte(len(answer) - 2)
		return c.queue(answer, nil)
	case typeUnsubscribe:
		id, _ := body.take(2)
		for len(body.p) > 0 {
			if filter, _ := body.bytes(); string(filter) == protocol.DownFilter(c.device) {
				c.listens.Store(false)
			}
		}
		return c.queue(append([]byte{typeUnsuback << 4, 2}, id...), nil)
	case typePuback: // of something that was told before mochi let go
	default:
		return fmt.Errorf("packet type %d", f.kind)
	}
	return nil
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
