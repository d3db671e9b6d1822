package bench

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/iso8583"
	"coinop/cloud/identity"
	"coinop/cloud/store"
	"coinop/cloud/store/storetest"
	"coinop/protocol"
	"coinop/protocol/card"
	"coinop/protocol/seal"
)

// bareChain is an authorization with nothing that makes it safe, to measure a cloud against on the same
// machine in the same minute: the same devices over mutual TLS, their messages and cards opened, two units of
// three rows in groups that are synced before anything leaves, the same message to the same bank on one
// connection, the answer sealed. It has no limits and no list of who may do what, knows no repeat, no late
// answer, no reversal and no second replica, and what it owes is gone with it.
type bareChain struct {
	cards *seal.CardOpener
	relay seal.PrivateKey
	codec *iso8583.Codec
	bank  net.Conn

	work chan *bareAsk   // wants its next unit
	done chan []*bareAsk // had it

	mu   sync.Mutex // guards what follows
	sent map[string]*bareAsk
	stan uint32
	n    atomic.Uint64
}

// bareAsk is one authorization on its way.
type bareAsk struct {
	to     *bareConn
	ask    protocol.Ask
	hash   protocol.Hash
	track  card.Track2
	answer *iso8583.Message // nil: the first unit
}

// bareConn is a device's connection, and as much of MQTT as a device of package load needs.
type bareConn struct {
	net.Conn
	in      *bufio.Reader
	key     *ecdsa.PublicKey
	channel *seal.Channel

	mu  sync.Mutex // guards what follows, and writes
	out []byte
}

// runBare serves until ctx ends. dir is as a cloud's.
func runBare(ctx context.Context, dir, bank string, ready func(string)) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keys, err := identity.OpenKeys(filepath.Join(dir, "keys"), time.Now())
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "bare.db")
	st, err := store.Open(ctx, store.Options{Path: path}) // makes the tables
	if err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	engine, err := storetest.OpenBare(ctx, path)
	if err != nil {
		return err
	}
	defer engine.Close()
	b := &bareChain{
		cards: seal.NewCardOpener(keys.Payment), relay: keys.Relay, codec: iso8583.ASCII87(),
		work: make(chan *bareAsk, 2*manyAtATime), done: make(chan []*bareAsk, 2*manyAtATime), sent: map[string]*bareAsk{},
	}
	if b.bank, err = net.Dial("tcp", bank); err != nil {
		return err
	}
	l, err := listen(keys)
	if err != nil {
		return errors.Join(err, b.bank.Close())
	}
	defer context.AfterFunc(ctx, func() { _, _ = l.Close(), b.bank.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel(nil)
	for _, part := range []func() error{
		func() error { return b.units(ctx, engine) }, func() error { return b.after(ctx) }, b.answers,
	} {
		all.Go(func() { cancel(part()) })
	}
	ready(l.Addr().String())
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		all.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			_ = b.serve(c.(*tls.Conn)) // a device that is gone is the fleet's to tell
			_ = c.Close()
		})
	}
}

// listen is mutual TLS as the broker's.
func listen(keys identity.Keys) (net.Listener, error) {
	server, err := keys.Authority.Server([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(keys.Authority.Cert)
	return tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{server.Cert}, PrivateKey: server.Key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS13,
	})
}

func (b *bareChain) serve(conn *tls.Conn) error {
	c := &bareConn{Conn: conn, in: bufio.NewReaderSize(conn, 4096)}
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.key, _ = conn.ConnectionState().PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
	for {
		head, err := c.in.ReadByte()
		if err != nil {
			return err
		}
		n, err := binary.ReadUvarint(c.in)
		if err != nil || n > protocol.MaxMessage+1024 {
			return errors.Join(err, io.ErrUnexpectedEOF)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(c.in, body); err != nil {
			return err
		}
		switch head >> 4 {
		case 1: // CONNECT: CONNACK
			err = c.write(0x20, 2, 0, 0)
		case 8: // SUBSCRIBE: SUBACK of QoS 1
			err = c.write(0x90, 3, body[0], body[1], 1)
		case 12: // PINGREQ: PINGRESP
			err = c.write(0xd0, 0)
		case 3: // PUBLISH
			topic := 2 + int(binary.BigEndian.Uint16(body))
			if err = c.write(0x40, 2, body[topic], body[topic+1]); err == nil {
				err = b.heard(c, protocol.Topic(body[2:topic]), body[topic+2:])
			}
		}
		if err != nil {
			return err
		}
	}
}

// heard is what a device published.
func (b *bareChain) heard(c *bareConn, topic protocol.Topic, msg []byte) error {
	device, leaf, err := protocol.ParseTopic(topic)
	if err != nil {
		return err
	}
	switch leaf {
	case protocol.UpConn:
		var hello protocol.Conn
		if err := protocol.Decode(msg, &hello); err != nil {
			return err
		}
		_, c.channel, err = seal.OpenTicket(hello.Ticket, func(protocol.DeviceID, string) (*ecdsa.PublicKey, error) { return c.key, nil }, b.relay)
		return err
	case protocol.UpJournal: // nothing of it is kept: only an anchor is wanted
		var w protocol.Watermark
		w.V, w.Device, w.Verdict = protocol.Version, device, protocol.Acked
		_, _ = crand.Read(w.Anchor.ID[:])
		return c.tell(protocol.TopicOf(device, protocol.DnAck), protocol.MustEncode(w))
	case protocol.UpAuth:
		return b.asked(c, topic, msg)
	}
	return nil
}

func (b *bareChain) asked(c *bareConn, topic protocol.Topic, msg []byte) error {
	plain, err := c.channel.Open(topic, msg)
	if err != nil {
		return err
	}
	var m protocol.Auth
	var r protocol.AuthorizationRequest
	a := &bareAsk{to: c}
	err1 := protocol.Decode(plain, &m)
	err2 := protocol.Decode(m.Body, &r)
	err3 := protocol.Decode(r.Ask, &a.ask)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	a.hash = protocol.HashBytes(r.Ask)
	aad := protocol.MustEncode(protocol.CardAAD{Device: a.ask.Device, Epoch: r.Position.Epoch, Sale: a.ask.Sale, Payment: a.ask.Payment, Amount: a.ask.Amount})
	opened, err := b.cards.OpenCard(a.ask.Sealed, aad)
	if err != nil {
		return err
	}
	var sealed protocol.SealedCard
	if err := protocol.Decode(opened, &sealed); err != nil {
		return err
	}
	if a.track, err = card.ParseTrack2(string(sealed.Track2)); err == nil {
		b.work <- a
	}
	return err
}

// units stores what waits, in groups.
func (b *bareChain) units(ctx context.Context, engine *storetest.Bare) error {
	for {
		var group []*bareAsk
		select {
		case a := <-b.work:
			group = append(group, a)
		case <-ctx.Done():
			return nil
		}
		for more := true; more && len(group) < manyAtATime; {
			select {
			case a := <-b.work:
				group = append(group, a)
			default:
				more = false
			}
		}
		err := engine.Group(ctx, func(do func(query string, args []any) error) error {
			for range group {
				if err := store.Statements(func(tx *store.Tx) error { return unit(tx, b.n.Add(1)) }, do); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("bare engine: %w", err)
		}
		b.done <- group
	}
}

// after does what is synced: asks the bank, tells the device.
func (b *bareChain) after(ctx context.Context) error {
	for {
		var group []*bareAsk
		select {
		case group = <-b.done:
		case <-ctx.Done():
			return nil
		}
		var frames []byte
		for _, a := range group {
			var err error
			if a.answer != nil {
				err = a.answered()
			} else {
				frames, err = b.ask(frames, a)
			}
			if err != nil {
				return err
			}
		}
		if len(frames) > 0 {
			if _, err := b.bank.Write(frames); err != nil {
				return err
			}
		}
	}
}

// ask appends what the bank is asked.
func (b *bareChain) ask(frames []byte, a *bareAsk) ([]byte, error) {
	now := time.Now().UTC()
	op := acquirer.Op{
		Key:      acquirer.OpKey{Payment: a.ask.Payment, Kind: acquirer.Authorization, N: 1},
		Merchant: acquirer.Merchant{TID: "BARE0001", MID: "MERCHANT0000001", MCC: "5814", Country: "040"},
		DE7:      acquirer.Stamp(now.Format("0102150405")), LocalTime: now.Format("0102150405"), Amount: a.ask.Amount,
		Purpose: a.ask.Purpose, Entry: a.ask.Tap.Entry,
	}
	op.SentDE7 = []acquirer.Stamp{op.DE7}
	b.mu.Lock()
	b.stan = b.stan%999_999 + 1
	op.STAN = acquirer.STAN(b.stan)
	b.sent[fmt.Sprintf("%06d", b.stan)] = a
	b.mu.Unlock()
	op.RRN = fmt.Sprintf("%012d", b.stan)
	m, err := iso8583.Contract{Profile: acquirer.Profile{Institution: "00000000001"}}.Build(op, &acquirer.Card{Track2: a.track})
	if err != nil {
		return frames, err
	}
	return b.codec.AppendFrame(frames, m)
}

// answers reads what the bank says.
func (b *bareChain) answers() error {
	in := bufio.NewReaderSize(b.bank, 1<<16)
	var frame []byte
	for {
		var err error
		if frame, err = b.codec.ReadFrame(in, frame); err != nil {
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
			return err
		}
		m, err := b.codec.Unpack(frame)
		if err != nil {
			return err
		}
		b.mu.Lock()
		a := b.sent[m.Get(11)]
		delete(b.sent, m.Get(11))
		b.mu.Unlock()
		if a == nil || m.Get(39) != "00" {
			return fmt.Errorf("bare chain: the bank says %s to %s", m.Get(39), m.Get(11))
		}
		a.answer = m
		b.work <- a
	}
}

// answered tells the device.
func (a *bareAsk) answered() error {
	r := protocol.AuthorizationResponse{
		V: protocol.Version, Device: a.ask.Device, Payment: a.ask.Payment, AskHash: a.hash, Result: protocol.Approved,
		Approved: a.ask.Amount, RRN: a.answer.Get(37), AuthID: a.answer.Get(38), Cloud: protocol.At(time.Now()),
	}
	_, _ = crand.Read(r.Answer[:])
	m := protocol.Auth{T: protocol.MsgResponse, Body: protocol.MustEncode(r)}
	if err := a.to.tell(protocol.TopicOf(a.ask.Device, protocol.DnAuth), protocol.MustEncode(m)); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// tell publishes with QoS 1; the PUBACK is read and not looked at.
func (c *bareConn) tell(topic protocol.Topic, plain []byte) error {
	msg, err := c.channel.Seal(topic, plain)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = binary.AppendUvarint(append(c.out[:0], 0x32), uint64(2+len(topic)+2+len(msg)))
	c.out = append(binary.BigEndian.AppendUint16(c.out, uint16(len(topic))), topic...)
	c.out = append(append(c.out, 0, 1), msg...)
	_, err = c.Write(c.out)
	return err
}

func (c *bareConn) write(p ...byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Write(p)
	return err
}
