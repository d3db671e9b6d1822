package cloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop/cloud/broker/brokertest"
	"coinop/cloud/identity"
	"coinop/deploy/mosquitto"
)

// A machine that was given a new identity, its box stolen perhaps: the old certificate reaches a Mosquitto
// elsewhere until its list of revoked ones is written anew, and then no more, without a restart.
func TestMosquittoLetsNoRevokedIn(t *testing.T) {
	t.Parallel()
	place := Place{Dir: t.TempDir()}
	fill := func(at mosquitto.Place) error {
		return place.WriteMosquitto(t.Context(), at, []string{"127.0.0.1"})
	}
	add := func(replace bool) func(string) *tls.Config {
		t.Helper()
		out := filepath.Join(t.TempDir(), "id")
		if _, err := place.AddDevice(t.Context(), out, NewDevice{ID: "snack-1", Link: "bank", Replace: replace}); err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(filepath.Join(out, "device.crt"), filepath.Join(out, "device.key"))
		if err != nil {
			t.Fatal(err)
		}
		root, err := os.ReadFile(filepath.Join(out, "root.crt"))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(root)
		return func(string) *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}
		}
	}
	first := add(false)
	m, err := brokertest.StartMosquitto(fill)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	brokertest.Dial(t, m.Machines, first, "snack-1").Publish("coinop/v1/snack-1/up/event", "x")

	second := add(true)
	if err := m.Fill(fill); err != nil {
		t.Fatal(err)
	}
	refused := func(certificate func(string) *tls.Config) bool {
		c, err := tls.Dial("tcp", m.Machines, certificate(""))
		if err != nil {
			return true
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // TLS 1.3: the alert comes after the handshake
		_, err = c.Read(make([]byte, 1))
		return !errors.Is(err, os.ErrDeadlineExceeded)
	}
	for end := time.Now().Add(5 * time.Second); !refused(first); {
		if time.Now().After(end) {
			t.Fatalf("the old certificate is let in\n%s", m.Log())
		}
	}
	brokertest.Dial(t, m.Machines, second, "snack-1").Publish("coinop/v1/snack-1/up/event", "x")

	if err := place.RevokeDevice(t.Context(), "snack-1"); err != nil {
		t.Fatal(err)
	}
	if err := m.Fill(fill); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); !refused(second); {
		if time.Now().After(end) {
			t.Fatalf("a revoked one is let in\n%s", m.Log())
		}
	}
}

// What an operator has changed stays; certificate and key are new ones.
func TestMosquittoWrittenAgain(t *testing.T) {
	t.Parallel()
	place, at := Place{Dir: t.TempDir()}, mosquitto.Place{Dir: filepath.Join(t.TempDir(), "m"), Machines: ":8883"}
	write := func() map[string]string {
		t.Helper()
		if err := place.WriteMosquitto(t.Context(), at, []string{"pos.example.com"}); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		files, err := os.ReadDir(at.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(at.Dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got[f.Name()] = string(text)
		}
		return got
	}
	first := write()
	if conf := first[mosquitto.ConfFile]; !strings.Contains(conf, "\nlistener 8883\n") || !strings.Contains(conf, "\nlistener 8884 127.0.0.1\n") || strings.Contains(conf, "@DIR@") {
		t.Errorf("%s", conf)
	}
	info, err := os.Stat(filepath.Join(at.Dir, mosquitto.ServerKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(at.Dir, mosquitto.ConfFile), []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := write()
	if second[mosquitto.ConfFile] != "# mine\n" {
		t.Error("the operator's configuration is gone")
	}
	for name, again := range map[string]bool{
		mosquitto.ServerFile: false, mosquitto.ServerKeyFile: false, mosquitto.RootFile: true, mosquitto.ReplicasFile: true, mosquitto.ACLFile: true,
	} {
		if (first[name] == second[name]) != again || first[name] == "" {
			t.Errorf("%s: the same again: %t", name, !again)
		}
	}
}

// A replica without its broker serves its interface and says what is wrong.
func TestHealthWithoutABroker(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	web, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{
			Dir: t.TempDir(), Broker: "mqtts://127.0.0.1:1", HTTP: "127.0.0.1:0", ReadyHTTP: func(a string) { web <- a },
			Ready: func(string) { t.Error("ready without a broker") },
		})
	}()
	addr := <-web
	for path, want := range map[string]string{
		"/healthz": `"broker":"no connection to 127.0.0.1:1"`, "/metrics": "coinop_broker_connections 0",
	} {
		res, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !strings.Contains(string(text), want) || (path == "/healthz") != (res.StatusCode == http.StatusServiceUnavailable) {
			t.Errorf("%s: %d %.300s %v", path, res.StatusCode, text, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := Run(t.Context(), Config{Dir: t.TempDir(), Broker: "mqtt://127.0.0.1:1"}); err == nil {
		t.Error("a broker without TLS was taken")
	}
}

// A device keeps the serials of all its certificates before, whatever becomes of it.
func TestOldSerialsAreKept(t *testing.T) {
	t.Parallel()
	place := Place{Dir: t.TempDir()}
	var d identity.Device
	var serials []string
	for n := range 3 {
		var err error
		if d, err = place.AddDevice(t.Context(), filepath.Join(t.TempDir(), "id"), NewDevice{ID: "snack-1", Replace: n > 0}); err != nil {
			t.Fatal(err)
		}
		serials = append(serials, d.Serial)
	}
	if got := d.Revocations(); len(got) != 2 || got[0] != serials[0] || got[1] != serials[1] {
		t.Errorf("%v, want the first two of %v", got, serials)
	}
	d.Revoked = true
	if got := d.Revocations(); len(got) != 3 || got[2] != serials[2] {
		t.Errorf("%v, want all of %v", got, serials)
	}
}
