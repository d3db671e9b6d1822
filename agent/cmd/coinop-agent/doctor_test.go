package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/agent"
	"coinop/hardware/virtual"
	"coinop/protocol/code"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"explain storage.full", 0, "storage.full\n  what   the disk is full"},
		{"explain STORAGE.LOW", 0, "  sales  it sells on\n"},
		{"explain", 0, "identity.revoked\n"},
		{"explain storage.full link.down --json", 0, `[{"code":"storage.full"`},
		{"explain storage.fall", exitUsage, `there is no code "storage.fall"`},
		{"explain dns link", exitUsage, `no code "link", did you mean "link.`},
	} {
		code, out, errs := call(t, nil, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: ends with %d\n%s%s", c.args, code, out, errs)
		}
	}
}

// found runs doctor and returns what fails and warns, by code. The clock of a container is nobody's.
func found(t *testing.T, args ...string) (status int, named []code.Code, text string) {
	t.Helper()
	status, out, errs := call(t, nil, append([]string{"doctor", "--json"}, args...)...)
	var d diagnosis
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, out, errs)
	}
	for _, f := range d.Findings {
		if c := f.Fault.Code; c != "" && c != code.ClockUnsynced {
			if code.Of(c).Next == "" {
				t.Errorf("%s is not in the catalogue", c)
			}
			named = append(named, c)
		}
	}
	slices.Sort(named)
	return status, slices.Compact(named), out
}

func TestDoctorNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	id := newIdentity(t, dir)
	data := someRecords(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0") // its port is free when it is closed
	if err != nil {
		t.Fatal(err)
	}
	refused := nobody.Addr().String()
	_ = nobody.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	broken := filepath.Join(dir, "broken")
	if err := os.Mkdir(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want []code.Code
	}{
		{"no identity", []string{"--identity", broken}, []code.Code{code.IdentityBroken}},
		{"expires", []string{"--identity", id}, []code.Code{code.IdentityExpires}},
		{"refused", []string{"--identity", id, "--cloud", refused}, []code.Code{code.IdentityExpires, code.LinkRefused}},
		{"silent", []string{"--identity", id, "--cloud", silent.Addr().String()}, []code.Code{code.IdentityExpires, code.LinkNoAnswer}},
		{"name", []string{"--identity", id, "--cloud", "no-such-host.invalid:1"}, []code.Code{code.IdentityExpires, code.LinkName}},
		{"address", []string{"--identity", id, "--cloud", "cloud"}, []code.Code{code.IdentityExpires, code.LinkAddress}},
		{"stranger", []string{"--identity", id, "--cloud", stranger(t, "127.0.0.1")}, []code.Code{code.IdentityExpires, code.LinkUntrusted}},
		{"no folder", []string{"--data", filepath.Join(dir, "none")}, []code.Code{code.DataFolder, code.JournalNone}},
		{"not running", []string{"--data", data}, []code.Code{code.AgentNotRunning, code.JournalWaiting}},
		{"no file", []string{"--config", filepath.Join(dir, "none.yaml")}, []code.Code{code.ConfigInvalid}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			status, named, out := found(t, c.args...)
			if !slices.Equal(named, c.want) {
				t.Errorf("names %v, want %v\n%s", named, c.want, out)
			}
			if fails := strings.Contains(out, `"level":"fail"`); (status == exitProblem) != fails || !fails && status != 0 {
				t.Errorf("ends with %d\n%s", status, out)
			}
			t.Logf("%s", time.Since(began))
		})
	}
	if code, _, errs := call(t, nil, "doctor"); code != exitUsage || !strings.Contains(errs, "--config is missing") {
		t.Errorf("%d %s", code, errs)
	}
}

// stranger is a server that some other cloud made.
func stranger(t *testing.T, ip string) string {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	form := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "another cloud"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(ip)},
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, form, form, key.Public(), key))
	l := must[net.Listener](t)(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestDiagnosisIsPrinted(t *testing.T) {
	t.Parallel()
	d := diagnosis{Failures: 1, Warnings: 1, Findings: []agent.Finding{
		{Part: "config", Level: agent.LevelOK, Says: "agent.yaml is good"},
		{Part: "clock", Level: agent.LevelWarn, Says: "+9.00 s against the cloud", Fault: code.Of(code.ClockOff)},
		{Part: "lane 0 reader", Level: agent.LevelFail, Says: "absent: no such file\nor directory", Fault: code.Of(code.PortAbsent)},
		{Part: "authorize", Level: agent.LevelNone, Says: "not asked: the agent does not run"},
	}}
	var plain, painted bytes.Buffer
	if err := printDiagnosis(&plain, d, false); err != nil {
		t.Fatal(err)
	}
	want := ` ok    config         agent.yaml is good
 warn  clock          +9.00 s against the cloud
                      clock.off: ` + code.Of(code.ClockOff).Cause + `
                      -> ` + code.Of(code.ClockOff).Next + `
 FAIL  lane 0 reader  absent: no such file
                      or directory
                      port_absent: ` + code.Of(code.PortAbsent).Cause + `
                      -> ` + code.Of(code.PortAbsent).Next + `
 -     authorize      not asked: the agent does not run

1 failure, 1 warning.  Codes: port_absent clock.off.  More: coinop-agent explain port_absent
`
	if plain.String() != want {
		t.Errorf("got\n%s\nwant\n%s", plain.String(), want)
	}
	if err := printDiagnosis(&painted, d, true); err != nil {
		t.Fatal(err)
	}
	text := painted.String()
	for _, esc := range []string{"\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[90m", "\x1b[39m", "\x1b[0m"} {
		text = strings.ReplaceAll(text, esc, "")
	}
	if text != want {
		t.Errorf("in colour the columns are others:\n%s", text)
	}
	if inColor(&plain, nil) || inColor(os.Stdout, []string{"NO_COLOR=1"}) {
		t.Error("colour where nobody sees it")
	}
}

// A reader behind pcscd, a printer and a payment terminal in the network have no port to look at: they are asked.
func TestDoctorLooksWithoutPorts(t *testing.T) {
	t.Parallel()
	nobody := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")) // its port is free when it is closed
	refused := nobody.Addr().String()
	_ = nobody.Close()
	takes := must[*virtual.Printer](t)(virtual.NewPrinter(virtual.PrinterConfig{TCP: true}))
	zvt := must[*virtual.Terminal](t)(virtual.NewTerminal(virtual.TerminalConfig{}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- zvt.Run(ctx) }()
	defer func() { cancel(); <-done }()
	other := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer func() { _ = other.Close() }()
	go func() {
		for c, err := other.Accept(); err == nil; c, err = other.Accept() {
			_, _ = c.Write([]byte("220 mail\r\n"))
			_ = c.Close()
		}
	}()
	file, dir := filepath.Join(t.TempDir(), "agent.yaml"), t.TempDir()
	for _, c := range []struct {
		name, lane, socket string
		want               code.Code // "": it is well
	}{
		{"printer refuses", "printer: {address: " + refused + "}", "", code.PrinterRefused},
		{"printer has no name", "printer: {address: no-such-printer.invalid:9100}", "", code.PrinterName},
		{"printer has no route", "printer: {address: 255.255.255.255:9100}", "", code.PrinterNoAnswer},
		{"printer is there", "printer: {address: " + takes.Path() + "}", "", ""},
		{"terminal refuses", "terminal: {address: " + refused + "}", "", code.TerminalRefused},
		{"terminal has no name", "terminal: {address: no-such-terminal.invalid:20007}", "", code.TerminalName},
		{"terminal has no route", "terminal: {address: 255.255.255.255:20007}", "", code.TerminalNoAnswer},
		{"something else is there", "terminal: {address: " + other.Addr().String() + "}", "", code.TerminalNoAnswer},
		{"terminal is there", "terminal: {address: " + zvt.Address() + "}", "", ""},
		{"no pcscd", "reader: {driver: pcsc}", filepath.Join(dir, "none"), code.PCSCService},
		{"pcscd lets nobody in", "reader: {driver: pcsc}", pcscd(t, nil), code.PCSCDenied},
		{"no reader", "reader: {driver: pcsc}", pcscd(t, []string{""}), code.PCSCReader},
		{"another reader", "reader: {driver: pcsc, name: ACR122U}", pcscd(t, []string{"SCM SCR331 00 00"}), code.PCSCReader},
		{"the reader", "reader: {driver: pcsc, name: ACR122U}", pcscd(t, []string{"ACS ACR122U PICC 00 00"}), ""},
	} {
		text := "identity: " + dir + "\ndata: " + dir + "\ncloud: 127.0.0.1:1\nlanes:\n  - vending: {port: " + dir + "}\n    " + c.lane + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, out, errs := call(t, map[string]string{"PCSCLITE_CSOCK_NAME": c.socket}, "doctor", "--config", file, "--json")
		took := time.Since(began)
		var d diagnosis
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			t.Fatalf("%s: %v\n%s%s", c.name, err, out, errs)
		}
		part, _, _ := strings.Cut(c.lane, ":")
		i := slices.IndexFunc(d.Findings, func(f agent.Finding) bool { return f.Part == "lane 0 "+part })
		if i < 0 || d.Findings[i].Fault.Code != c.want || (c.want == "") != (d.Findings[i].Level == agent.LevelOK) || c.want != "" && d.Findings[i].Fault.Next == "" {
			t.Errorf("%s: want %q\n%s", c.name, c.want, out)
		}
		if took > 3*time.Second {
			t.Errorf("%s: took %s", c.name, took)
		}
	}
}

// Each reader of a lane is looked at, and has its own name.
func TestDoctorNamesReaders(t *testing.T) {
	t.Parallel()
	file, dir := filepath.Join(t.TempDir(), "agent.yaml"), t.TempDir()
	text := "identity: " + dir + "\ndata: " + dir + "\ncloud: 127.0.0.1:1\nlanes:\n  - vending: {port: " + dir + "}\n    reader: {port: /dev/null}\n" +
		"    readers: [{driver: pn532, port: " + dir + "/none}, {driver: pcsc}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, out, errs := call(t, map[string]string{"PCSCLITE_CSOCK_NAME": filepath.Join(dir, "none")}, "doctor", "--config", file, "--json")
	var d diagnosis
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	for name, want := range map[string]code.Code{"lane 0 reader": "", "lane 0 reader 2": code.PortAbsent, "lane 0 reader 3": code.PCSCService} {
		if i := slices.IndexFunc(d.Findings, func(f agent.Finding) bool { return f.Part == name }); i < 0 || d.Findings[i].Fault.Code != want {
			t.Errorf("%s: want %q\n%s", name, want, out)
		}
	}
}

// pcscd is a socket that answers as pcscd 4.4 does who asks for its version and its readers; no readers: it hangs
// up, as on whom polkit does not allow. The real one judges the driver in hardware/hardwaretest.
func pcscd(t *testing.T, readers []string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l := must[net.Listener](t)(net.Listen("unix", socket))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := io.ReadFull(c, make([]byte, 8+12)); err == nil && readers != nil {
				_, _ = c.Write([]byte{4, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0})
				_, _ = io.ReadFull(c, make([]byte, 8))
				states := make([]byte, 16*184)
				for i, name := range readers {
					copy(states[i*184:], name)
				}
				_, _ = c.Write(states)
				_, _ = c.Read(make([]byte, 1)) // until it is over
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return socket
}
