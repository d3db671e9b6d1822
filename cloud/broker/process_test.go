package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"coinop/cloud/identity"
	"coinop/protocol"
)

// The variable that makes this test program a broker: the folder of its keys.
const helperDir = "COINOP_TEST_BROKER"

// helper is the broker of the test below, as a process of its own. After a message "boom" the next
// write to its connection panics, on the goroutine that writes.
func helper(dir string) error {
	keys, err := identity.OpenKeys(dir, time.Now())
	if err != nil {
		return err
	}
	server, err := keys.Authority.Server([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(keys.Authority.Cert)
	var armed atomic.Bool
	b, err := New(Config{TLS: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{server.Cert}, PrivateKey: server.Key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS13,
	}, Tap: func(m Message) error { armed.Store(string(m.Payload) == "boom"); return nil }})
	if err != nil {
		return err
	}
	b.door.l = minedListener{b.door.l, &armed}
	os.Stdout.WriteString("listening " + b.Addr() + "\n")
	return b.Run(context.Background()) // until it panics
}

type minedListener struct {
	net.Listener
	armed *atomic.Bool
}

func (l minedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return minedConn{c, l.armed}, err
}

type minedConn struct {
	net.Conn
	armed *atomic.Bool
}

func (c minedConn) Write(p []byte) (int, error) {
	if c.armed.Load() {
		panic("boom on the writer")
	}
	return c.Conn.Write(p)
}

// A panic on a goroutine that no recover of ours covers ends the process, with the reason on standard
// error, and does not leave half a broker behind. One that is started again serves the same devices.
func TestPanicOutsideEndsTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, err := identity.OpenKeys(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h := &hall{t: t, ca: keys.Authority}
	for life := range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), helperDir+"="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(out)
		for addr := ""; addr == ""; {
			if !lines.Scan() {
				t.Fatalf("life %d: it does not listen: %s", life+1, said.String())
			}
			addr, _ = strings.CutPrefix(lines.Text(), "listening ")
			if addr == lines.Text() {
				addr = ""
			}
			h.addr = addr
		}
		c := h.connected("m1")
		c.publish(string(protocol.TopicOf("m1", protocol.UpAuth)), "ask")
		if head, _, err := c.recv(); head != 0x40 || err != nil {
			t.Fatalf("life %d: no PUBACK: %x %v", life+1, head, err)
		}
		c.publish(string(protocol.TopicOf("m1", protocol.UpAuth)), "boom")
		if !c.gone() {
			t.Errorf("life %d: the connection stands", life+1)
		}
		for lines.Scan() { // to the end of its output
		}
		err = cmd.Wait()
		if status, ok := err.(*exec.ExitError); !ok || status.ExitCode() != 2 || !strings.Contains(said.String(), "panic: boom on the writer") {
			t.Errorf("life %d: %v\n%.400s", life+1, err, said.String())
		}
	}
}
