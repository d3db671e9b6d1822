package broker

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"coinop/protocol"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook is where mochi asks us. Everything not granted is denied.
type hook struct {
	mqtt.HookBase
	b *Broker
}

func (h *hook) ID() string { return "coinop" }

func (h *hook) Provides(b byte) bool {
	return bytes.IndexByte([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPublish, mqtt.OnWill, mqtt.OnPublishDropped,
		mqtt.OnSubscribed, mqtt.OnUnsubscribed,
	}, b) >= 0
}

// OnConnect refuses a will that is not the device's own. The guard has seen to the rest.
func (h *hook) OnConnect(_ *mqtt.Client, pk packets.Packet) error {
	own := protocol.TopicOf(protocol.DeviceID(pk.Connect.ClientIdentifier), protocol.UpConn)
	if pk.Connect.WillFlag && pk.Connect.WillTopic != string(own) {
		return h.b.refused(ReasonForeignWill)
	}
	return nil
}

// OnConnectAuthenticate reads who the client is from its certificate, and takes over the device.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return false
	}
	if err := h.identify(c, pk); err != nil {
		_ = h.b.refused(ReasonIdentity)
		h.b.cfg.Log.Warn("connection refused", "remote", cl.Net.Remote, "error", err)
		return false
	}
	c.client.Store(cl)
	if !h.b.door.take(c) {
		_ = h.b.refused(ReasonStuck)
		return false
	}
	return true
}

func (h *hook) identify(c *conn, pk packets.Packet) error {
	certs := c.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return errors.New("no certificate")
	}
	id := protocol.DeviceID(certs[0].Subject.CommonName)
	if err := id.Check(); err != nil {
		return err
	}
	if pk.Connect.ClientIdentifier != string(id) || string(pk.Connect.Username) != string(id) {
		return fmt.Errorf("certificate of %s, client id %q", id, pk.Connect.ClientIdentifier)
	}
	if h.b.cfg.Allowed != nil {
		serial := fmt.Sprintf("%x", certs[0].SerialNumber.Bytes())
		if err := apart(func() error { return h.b.cfg.Allowed(id, serial) }); err != nil {
			return err
		}
	}
	c.introduce(id, pk.Connect.Keepalive)
	return nil
}

// OnACLCheck grants a device its own up/ topics to write and its own dn/ topics to read.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	if cl.Net.Inline {
		return true
	}
	side := "/dn/"
	if write {
		side = "/up/"
	}
	if c, ok := cl.Net.Conn.(*conn); ok && c.device != "" && strings.HasPrefix(topic, "coinop/v1/"+string(c.device)+side) {
		return true
	}
	h.b.stats.count(ReasonDenied)
	return false
}

// OnSubscribed opens the short way down to a device that subscribed as agents do.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, granted []byte) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}
	for i, f := range pk.Filters {
		if f.Filter == protocol.DownFilter(c.device) {
			c.listens.Store(granted[i] == 1)
		}
	}
}

// OnUnsubscribed closes it, unless mochi only clears away what it has let go of.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok || c.ours {
		return
	}
	for _, f := range pk.Filters {
		if f.Filter == protocol.DownFilter(c.device) {
			c.listens.Store(false)
		}
	}
}

// OnPublish is the tap: a device's message goes there and nowhere else.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline {
		return pk, nil
	}
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk, packets.ErrRejectPacket
	}
	if err := h.b.tap(Message{Device: c.device, Topic: protocol.Topic(pk.TopicName), Payload: pk.Payload}); err != nil {
		return pk, err
	}
	return pk, packets.CodeSuccessIgnore
}

// OnWill hands a last will to the tap: mochi routes wills past OnPublish.
func (h *hook) OnWill(cl *mqtt.Client, w mqtt.Will) (mqtt.Will, error) {
	if c, ok := cl.Net.Conn.(*conn); ok {
		h.b.will(will(c.device, w))
	}
	return w, nil
}

func (h *hook) OnPublishDropped(*mqtt.Client, packets.Packet) { h.b.stats.Dropped.Add(1) }

func will(d protocol.DeviceID, w mqtt.Will) *Message {
	return &Message{Device: d, Topic: protocol.Topic(w.TopicName), Payload: w.Payload, Will: true}
}

// will hands a last will to the tap; nil is none.
func (b *Broker) will(m *Message) {
	if m != nil && b.tap(*m) != nil {
		b.cfg.Log.Warn("last will dropped: the relay is busy", "device", m.Device)
	}
}

// refused counts a CONNECT that is not answered with success.
func (b *Broker) refused(r Reason) error {
	b.stats.Refused.Add(1)
	b.stats.count(r)
	return offence{r}
}
