package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"coinop/protocol"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func authority(t *testing.T) *Authority {
	t.Helper()
	a, err := NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestDeviceCertificate(t *testing.T) {
	a := authority(t)
	b, err := a.Device("snack-1", now, Cloud{RelayKey: []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	id, pub, err := a.PublicKeyOf(b.Cert, now)
	if err != nil || id != "snack-1" || !pub.Equal(b.Key.Public()) {
		t.Fatal(id, err)
	}
	if _, _, err := authority(t).PublicKeyOf(b.Cert, now); err == nil {
		t.Error("another authority accepts it")
	}
	if _, _, err := a.PublicKeyOf(b.Cert, now.Add(deviceLife+time.Hour)); err == nil {
		t.Error("accepted after its end")
	}
	s, err := a.Server([]string{"127.0.0.1", "cloud.example"}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.PublicKeyOf(s.Cert, now); err == nil {
		t.Error("a server's certificate passes as a device's")
	}
	for _, bad := range []protocol.DeviceID{"", "A", "a/b", "+"} {
		if _, err := a.Device(bad, now, Cloud{}); !errors.Is(err, ErrName) || !errors.Is(err, protocol.ErrDeviceID) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestWriteNeverOverwritesAKey(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	b, err := a.Device("m1", now, Cloud{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Write(dir); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(dir, keyFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st.Mode(), err)
	}
	first, _ := os.ReadFile(filepath.Join(dir, keyFile))
	if err := b.Write(dir); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(filepath.Join(dir, keyFile)); string(again) != string(first) {
		t.Fatal("the key changed")
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, certFile), filepath.Join(dir, keyFile)); err != nil {
		t.Fatal(err)
	}
}

// A real TLS 1.3 handshake, both sides checked; a device of another authority does not get in.
func TestMutualTLS(t *testing.T) {
	a := authority(t)
	server, err := a.Server([]string{"127.0.0.1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
	pair := func(b Bundle) []tls.Certificate {
		return []tls.Certificate{{Certificate: [][]byte{b.Cert}, PrivateKey: b.Key}}
	}
	clock := func() time.Time { return now }
	for name, from := range map[string]*Authority{"ours": a, "other": authority(t)} {
		device, err := from.Device("m1", now, Cloud{})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				got <- err
				return
			}
			defer c.Close()
			s := tls.Server(c, &tls.Config{
				Certificates: pair(server), ClientAuth: tls.RequireAndVerifyClientCert,
				ClientCAs: roots, MinVersion: tls.VersionTLS13, Time: clock,
			})
			got <- s.HandshakeContext(t.Context())
		}()
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{Certificates: pair(device), RootCAs: roots, MinVersion: tls.VersionTLS13, Time: clock})
		if err == nil {
			defer c.Close()
		}
		if err := <-got; (err == nil) != (name == "ours") {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
	}
}
