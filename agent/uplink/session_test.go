package uplink

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"testing"
	"time"

	"coinop/protocol"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"
)

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "m1"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// allow lets everyone do everything.
type allow struct{ mochi.HookBase }

func (*allow) ID() string { return "allow" }
func (*allow) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}
func (*allow) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (*allow) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

// A session with a real broker over TLS: messages both ways, and a lost connection is told.
func TestSession(t *testing.T) {
	defer goleak.VerifyNone(t)
	server := mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(allow), nil); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	cert := certificate(t)
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
			go server.EstablishConnection("test", c)
		}
	}()
	up := make(chan []byte, 4)
	if err := server.Subscribe("coinop/v1/m1/up/#", 1, func(_ *mochi.Client, _ packets.Subscription, pk packets.Packet) {
		up <- pk.Payload
	}); err != nil {
		t.Fatal(err)
	}
	in := make(chan Inbound, 4)
	d := Dialer{Addr: l.Addr().String(), TLS: &tls.Config{RootCAs: roots}, Device: "m1", Will: []byte("bye")}
	s, err := d.Dial(t.Context(), func(m Inbound) { in <- m })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(protocol.TopicOf("m1", protocol.UpAuth), []byte("ask")); err != nil {
		t.Fatal(err)
	}
	if got := <-up; string(got) != "ask" {
		t.Fatalf("%q", got)
	}
	if err := server.Publish("coinop/v1/m1/dn/auth", []byte("answer"), false, 1); err != nil {
		t.Fatal(err)
	}
	if m := <-in; m.Topic != "coinop/v1/m1/dn/auth" || string(m.Payload) != "answer" {
		t.Fatalf("%+v", m)
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	(<-accepted).Close()
	select {
	case <-s.Lost():
	case <-time.After(5 * time.Second):
		t.Fatal("a lost connection was not told")
	}
	if s.Err() == nil {
		t.Fatal("no reason")
	}
	if got := <-up; string(got) != "bye" {
		t.Fatalf("will %q", got)
	}
	s.Close()
}

// A broker that announces 256 MiB does not make us allocate it.
func TestSessionRefusesHugeFrames(t *testing.T) {
	cert := certificate(t)
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Write([]byte{0x20, 0xff, 0xff, 0xff, 0x7f})
		io.Copy(io.Discard, c)
	}()
	if _, err := (Dialer{Addr: l.Addr().String(), TLS: &tls.Config{RootCAs: roots}, Device: "m1"}).Dial(t.Context(), func(Inbound) {}); err == nil {
		t.Fatal("connected")
	}
}
