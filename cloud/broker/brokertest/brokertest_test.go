package brokertest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"coinop/cloud/broker"
	"coinop/cloud/broker/brokertest"
	"coinop/protocol"
)

// authority certifies brokers and devices for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	mu   sync.Mutex
	made map[string]tls.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, made: map[string]tls.Certificate{}}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue gives the certificate of a name, the same one each time.
func (a *authority) issue(name string, use x509.ExtKeyUsage) tls.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.made[name]; ok {
		return c
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(a.made) + 2)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Error(err)
	}
	a.made[name] = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return a.made[name]
}

func (a *authority) roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) device(name string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{a.issue(name, x509.ExtKeyUsageClientAuth)}, RootCAs: a.roots(),
		ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13,
	}
}

const poison = "poison"

// TestMochi: the broker that runs inside the cloud.
func TestMochi(t *testing.T) { // not parallel: the bystander is timed
	brokertest.Run(t, func(t *testing.T) brokertest.Broker { return startMochi(t, 1) })
}

// TestAgents: the same broker, as agents meet it: mochi has let go of each that has subscribed.
func TestAgents(t *testing.T) {
	brokertest.Run(t, func(t *testing.T) brokertest.Broker { return subscribed(startMochi(t, 1)) })
}

func subscribed(b brokertest.Broker) brokertest.Broker { b.Subscribed = true; return b }

func TestKeepalive(t *testing.T) {
	t.Parallel()
	t.Run("mochi", func(t *testing.T) {
		t.Parallel()
		brokertest.Keepalive(t, func(t *testing.T) brokertest.Broker { return startMochi(t, 0) })
	})
	t.Run("agents", func(t *testing.T) {
		t.Parallel()
		brokertest.Keepalive(t, func(t *testing.T) brokertest.Broker { return subscribed(startMochi(t, 0)) })
	})
	t.Run("mosquitto", func(t *testing.T) {
		t.Parallel()
		brokertest.Keepalive(t, startMosquitto)
	})
}

// startMochi starts the broker that runs inside the cloud; panics are how many its end may have counted.
func startMochi(t *testing.T, panics int64) brokertest.Broker {
	ca := newAuthority(t)
	heard := make(chan brokertest.Message, 1000)
	b, err := broker.New(broker.Config{TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.issue("broker", x509.ExtKeyUsageServerAuth)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.roots(), MinVersion: tls.VersionTLS13,
	}, Tap: func(m broker.Message) error {
		if string(m.Payload) == poison {
			panic(poison)
		}
		select {
		case heard <- brokertest.Message{Topic: string(m.Topic), Payload: m.Payload}:
			return nil
		default:
			return broker.ErrBusy
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel(nil)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := b.Connected(); n != 0 {
			t.Errorf("%d still connected", n)
		}
		if n := b.Stats().Panics.Load(); n != panics {
			t.Errorf("%d panics, want %d, of the poison", n, panics)
		}
	})
	return brokertest.Broker{
		Addr: b.Addr(), Device: ca.device, Messages: heard, Counted: b.Stats().Reasons, Poison: poison,
		Publish: func(topic string, payload []byte) error { return b.Publish(ctx, protocol.Topic(topic), payload) },
		Alive: func() error {
			select {
			case err := <-ended:
				ended <- err
				return net.ErrClosed
			default:
				return nil
			}
		},
	}
}
