package seal

import (
	"crypto/ecdsa"
	"crypto/hpke"
	"encoding/hex"
	"fmt"

	"coinop/protocol"
)

// Ticket opens a channel: signed by the device, it names the connection and carries the HPKE
// encapsulation from which both ends draw their keys. It rides in every message of the channel.
type Ticket struct {
	V          uint8             `cbor:"1,keyasint"`
	Device     protocol.DeviceID `cbor:"2,keyasint"`
	CertSerial string            `cbor:"3,keyasint"`
	Epoch      protocol.Epoch    `cbor:"4,keyasint"`
	Boot       protocol.BootID   `cbor:"5,keyasint"`
	Connection uint64            `cbor:"6,keyasint"` // counter in the journal's meta; never repeats
	RelayKey   string            `cbor:"7,keyasint"`
	Enc        []byte            `cbor:"8,keyasint"`
	Wall       protocol.UnixMS   `cbor:"9,keyasint"` // the device's clock; advisory
}

const ticketTopic protocol.Topic = "coinop/v1/ticket"

const (
	upLabel  = "coinop/v1/up"
	dnLabel  = "coinop/v1/dn"
	hpkeInfo = "coinop/v1/channel"
)

// ChannelID is the first 8 bytes of the SHA-256 of a ticket's bytes; downward messages carry it so
// that a device knows which of its connections' keys to use.
type ChannelID [8]byte

func (c ChannelID) String() string { return hex.EncodeToString(c[:]) }

// Channel is one end of a connection's two keys.
type Channel struct {
	ID     ChannelID
	ticket []byte // on the device's end: rides along
	out    *key
	in     *key
}

// NewChannel makes the device's end and its ticket. t.Enc and t.RelayKey are filled in.
func NewChannel(device Signer, t Ticket, relay PublicKey) (*Channel, error) {
	enc, s, err := hpke.NewSender(relay.key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(hpkeInfo))
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	t.V, t.Enc, t.RelayKey = protocol.Version, enc, relay.ID
	b, err := device.Sign(ticketTopic, protocol.MustEncode(t), nil)
	if err != nil {
		return nil, err
	}
	c := &Channel{ID: channelID(b), ticket: b}
	if c.out, err = exported(s.Export, upLabel); err != nil {
		return nil, err
	}
	c.in, err = exported(s.Export, dnLabel)
	return c, err
}

// Ticket is the bytes that ride along; nil on the cloud's end.
func (c *Channel) Ticket() []byte { return c.ticket }

// OpenTicket makes the cloud's end. keyOf returns the public key of a device's certificate, or an
// error that is passed through (revoked, unknown). Other errors wrap ErrSeal.
func OpenTicket(b []byte, keyOf func(protocol.DeviceID, string) (*ecdsa.PublicKey, error), relay PrivateKey) (Ticket, *Channel, error) {
	signed, err := ParseSigned(b)
	if err != nil {
		return Ticket{}, nil, err
	}
	var t Ticket
	if err := protocol.Decode(signed.m.Payload, &t); err != nil {
		return Ticket{}, nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	if t.V != protocol.Version || t.Device.Check() != nil || t.RelayKey != relay.ID || t.CertSerial != signed.KeyID {
		return Ticket{}, nil, fmt.Errorf("%w: ticket v%d of %q for key %s", ErrSeal, t.V, t.Device, t.RelayKey)
	}
	pub, err := keyOf(t.Device, t.CertSerial)
	if err != nil {
		return Ticket{}, nil, err
	}
	if _, err := signed.Verify(ticketTopic, pub); err != nil {
		return Ticket{}, nil, err
	}
	r, err := hpke.NewRecipient(t.Enc, relay.key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(hpkeInfo))
	if err != nil {
		return Ticket{}, nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	c := &Channel{ID: channelID(b)}
	if c.in, err = exported(r.Export, upLabel); err != nil {
		return Ticket{}, nil, err
	}
	if c.out, err = exported(r.Export, dnLabel); err != nil {
		return Ticket{}, nil, err
	}
	return t, c, nil
}

func channelID(ticket []byte) ChannelID {
	h := protocol.HashBytes(ticket)
	return ChannelID(h[:8])
}

func exported(export func(string, int) ([]byte, error), label string) (*key, error) {
	b, err := export(label, 32)
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	return newKey(b)
}

// Seal protects plaintext for topic. A device's messages carry its ticket, the cloud's the id of
// the channel.
func (c *Channel) Seal(topic protocol.Topic, plaintext []byte) ([]byte, error) {
	if c.ticket != nil {
		return c.out.seal([]byte(topic), plaintext, headers{ticket: c.ticket})
	}
	return c.out.seal([]byte(topic), plaintext, headers{kid: c.ID[:]})
}

// Open returns what the other end sealed for topic, or ErrSeal.
func (c *Channel) Open(topic protocol.Topic, msg []byte) ([]byte, error) {
	return c.in.open([]byte(topic), msg)
}

// TicketIn is the ticket that rides in a sealed or signed message, not yet believed.
func TicketIn(msg []byte) ([]byte, error) {
	if len(msg) > 0 && msg[0] == tagEncrypt0 {
		m, err := parse(msg)
		if err != nil {
			return nil, err
		}
		if m.ticket == nil {
			return nil, fmt.Errorf("%w: no ticket", ErrSeal)
		}
		return m.ticket, nil
	}
	s, err := ParseSigned(msg)
	if err != nil {
		return nil, err
	}
	if s.Ticket == nil {
		return nil, fmt.Errorf("%w: no ticket", ErrSeal)
	}
	return s.Ticket, nil
}

// ChannelOf is the channel a downward message was sealed on, not yet believed.
func ChannelOf(msg []byte) (ChannelID, error) {
	m, err := parse(msg)
	if err != nil {
		return ChannelID{}, err
	}
	if len(m.kid) != len(ChannelID{}) {
		return ChannelID{}, fmt.Errorf("%w: no channel", ErrSeal)
	}
	return ChannelID(m.kid), nil
}
