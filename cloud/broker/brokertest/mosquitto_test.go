package brokertest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/cloud/broker/brokertest"
)

// TestMosquitto: the same suite on Mosquitto with the files of deploy/mosquitto, so that the broker
// stays something that can be replaced.
func TestMosquitto(t *testing.T) { // not parallel: the bystander is timed
	brokertest.Run(t, func(t *testing.T) brokertest.Broker {
		ca := newAuthority(t)
		p := startMosquitto(t, ca)
		c := dialCloud(t, p.addr, ca.device("coinop.cloud"))
		return brokertest.Broker{
			Addr: p.addr, Device: ca.device, Messages: c.heard, Publish: c.publish,
			Alive: func() error {
				select {
				case <-p.ended:
					return errors.New("mosquitto has ended")
				default:
					return nil
				}
			},
		}
	})
}

// process is a mosquitto of this test's own.
type process struct {
	addr  string
	ended chan struct{}
}

const mosquittoFiles = "../../../deploy/mosquitto"

func startMosquitto(t *testing.T, ca *authority) process {
	t.Helper()
	bin, err := exec.LookPath("mosquitto")
	if err != nil {
		bin = "/usr/sbin/mosquitto" // where Debian puts it, outside most users' PATH
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("mosquitto is not installed: make tools installs it (%v)", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.Command(bin, "-c", mosquittoDir(t, ca, addr))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := process{addr: addr, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-p.ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-p.ended
		}
		if t.Failed() {
			t.Logf("mosquitto said:\n%s", said.String())
		}
	})
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return p
		}
		select {
		case <-p.ended:
			t.Fatalf("mosquitto ended:\n%s", said.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatalf("mosquitto does not listen on %s: %v", addr, err)
		}
	}
}

// mosquittoDir fills a folder as an installation would and returns the configuration's path. Started
// by root, mosquitto becomes the user mosquitto, whose files these then are.
func mosquittoDir(t *testing.T, ca *authority, addr string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mosquitto")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	server := ca.issue("broker", x509.ExtKeyUsageServerAuth)
	key, err := x509.MarshalECPrivateKey(server.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	files := map[string][]byte{
		"ca.pem":     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}),
		"server.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate[0]}),
		"server.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
	}
	for _, name := range []string{"mosquitto.conf", "acl"} {
		text, err := os.ReadFile(filepath.Join(mosquittoFiles, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = []byte(strings.NewReplacer("@PORT@", port, "@DIR@", dir).Replace(string(text)))
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("mosquitto")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		for _, path := range []string{
			dir, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"),
			filepath.Join(dir, "acl"), filepath.Join(dir, "mosquitto.conf"),
		} {
			if err := os.Chown(path, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	return filepath.Join(dir, "mosquitto.conf")
}

// cloud is the cloud's end at a broker that is not inside it.
type cloud struct {
	*brokertest.Client
	mu    sync.Mutex // of id and writing
	id    uint16
	heard chan brokertest.Message
}

func dialCloud(t *testing.T, addr string, cfg *tls.Config) *cloud {
	t.Helper()
	c := &cloud{heard: make(chan brokertest.Message, 10_000)}
	var err error
	if c.Client, err = brokertest.Connect(addr, cfg, "coinop.cloud", "coinop/v1/+/up/#"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Listen(func(m brokertest.Message) { c.heard <- m })
	}()
	t.Cleanup(func() {
		c.Cut()
		<-ended
	})
	return c
}

func (c *cloud) publish(topic string, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.id = c.id%0xffff + 1
	if err := c.Publish(topic, c.id, payload); err != nil {
		return fmt.Errorf("the cloud's own connection: %w", err)
	}
	return nil
}
