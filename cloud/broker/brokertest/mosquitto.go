package brokertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"coinop/deploy/mosquitto"
)

// Mosquitto is one of our own, in a temporary folder and on free ports. Started by root, it runs as
// the user mosquitto from the start.
type Mosquitto struct {
	mosquitto.Place
	bin   string
	as    *syscall.Credential
	cmd   *exec.Cmd
	ended chan struct{}
}

// StartMosquitto starts one on the files that fill writes into the place's folder: those of
// deploy/mosquitto. It fails when Mosquitto is not installed.
func StartMosquitto(fill func(mosquitto.Place) error) (_ *Mosquitto, err error) {
	m := &Mosquitto{}
	if m.bin, err = exec.LookPath("mosquitto"); err != nil {
		m.bin = "/usr/sbin/mosquitto" // where Debian puts it, outside most users' PATH
	}
	if _, err := os.Stat(m.bin); err != nil {
		return nil, fmt.Errorf(`mosquitto is not installed: "make tools" does so, or "apt-get install mosquitto" (%w)`, err)
	}
	if m.Dir, err = os.MkdirTemp("", "mosquitto"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(m.Dir)
		}
	}()
	for range 5 { // somebody else may take a free port before it does
		err = m.begin(fill)
		if err == nil || !errors.Is(err, errTaken) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

var errTaken = errors.New("the port is taken")

// begin chooses ports, lets the files be written and starts it.
func (m *Mosquitto) begin(fill func(mosquitto.Place) error) (err error) {
	if m.Machines, err = freeAddr(); err != nil {
		return err
	}
	if m.Clouds, err = freeAddr(); err != nil {
		return err
	}
	for _, name := range []string{mosquitto.ConfFile, logFile} { // of the try before
		if err := os.Remove(filepath.Join(m.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := fill(m.Place); err != nil {
		return err
	}
	if err := m.unprivileged(); err != nil {
		return err
	}
	return m.Run()
}

// freeAddr is an address nobody listens at now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (m *Mosquitto) unprivileged() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("mosquitto")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	m.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	files, err := os.ReadDir(m.Dir)
	for _, f := range files {
		err = errors.Join(err, os.Chown(filepath.Join(m.Dir, f.Name()), uid, gid))
	}
	return errors.Join(err, os.Chown(m.Dir, uid, gid))
}

// Run starts it, again after Kill, and returns when it listens.
func (m *Mosquitto) Run() error {
	log, err := os.OpenFile(m.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	m.cmd = exec.Command(m.bin, "-c", filepath.Join(m.Dir, mosquitto.ConfFile))
	m.cmd.Stdout, m.cmd.Stderr = log, log
	// A group of its own: Ctrl-C ends the tests, and those end the broker. And it does not outlive them.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: m.as, Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("start mosquitto: %w", err)
	}
	m.ended = make(chan struct{})
	go func(ended chan struct{}, cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(ended)
	}(m.ended, m.cmd)
	for end := time.Now().Add(10 * time.Second); ; {
		listens := m.listens()
		if strings.Contains(m.Log(), "Address already in use") {
			<-m.ended
			return fmt.Errorf("mosquitto on %s and %s: %w", m.Machines, m.Clouds, errTaken)
		}
		err := m.Alive()
		if err == nil && listens {
			return nil
		}
		if err != nil || time.Now().After(end) {
			return fmt.Errorf("mosquitto does not listen on %s and %s: %w\n%s", m.Machines, m.Clouds, err, m.Log())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// listens reports whether it does, at both doors: whoever answers has its certificate.
func (m *Mosquitto) listens() bool {
	root, err := os.ReadFile(filepath.Join(m.Dir, mosquitto.RootFile))
	if err != nil {
		return false
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	for _, addr := range []string{m.Machines, m.Clouds} {
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		c, err := d.DialContext(ctx, "tcp", addr) // as of TLS 1.3 it asks for our certificate only now
		cancel()
		if err != nil {
			return false
		}
		c.Close()
	}
	return true
}

// Alive says whether it still runs.
func (m *Mosquitto) Alive() error {
	select {
	case <-m.ended:
		return errors.New("mosquitto has ended")
	default:
		return nil
	}
}

// Fill lets the files be written anew and asks it to read them (SIGHUP).
func (m *Mosquitto) Fill(fill func(mosquitto.Place) error) error {
	if err := fill(m.Place); err != nil {
		return err
	}
	if err := m.unprivileged(); err != nil {
		return err
	}
	return m.cmd.Process.Signal(syscall.SIGHUP)
}

// Kill ends it at once, SIGKILL.
func (m *Mosquitto) Kill() {
	_ = m.cmd.Process.Kill()
	<-m.ended
}

// Close ends it and removes its folder.
func (m *Mosquitto) Close() error {
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-m.ended:
	case <-time.After(5 * time.Second):
		m.Kill()
	}
	return os.RemoveAll(m.Dir)
}

const logFile = "log"

func (m *Mosquitto) log() string { return filepath.Join(m.Dir, logFile) }

// Log is what it said.
func (m *Mosquitto) Log() string {
	text, err := os.ReadFile(m.log())
	if err != nil {
		return err.Error()
	}
	return string(text)
}
