package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/store/storetest"
	"coinop/configs"
)

// run is the command line in this process.
func run(ctx context.Context, args ...string) (out string, err error) {
	c := root(nil)
	var stdout, stderr bytes.Buffer
	c.SetOut(&stdout)
	c.SetErr(&stderr)
	c.SetArgs(args)
	err = c.ExecuteContext(ctx)
	return stdout.String(), err
}

func TestMain(m *testing.M) { storetest.Main(m) }

func TestDevices(t *testing.T) {
	t.Parallel()
	t.Run("file", func(t *testing.T) { testDevices(t, run) })
	t.Run("postgres", func(t *testing.T) {
		db := storetest.Database(t)
		testDevices(t, func(ctx context.Context, args ...string) (string, error) {
			return run(ctx, append(args, "--store", db)...)
		})
	})
}

func testDevices(t *testing.T, run func(context.Context, ...string) (string, error)) {
	dir, id := t.TempDir(), filepath.Join(t.TempDir(), "id")
	add := []string{"device", "add", "snack-1", "--dir", dir, "--out", id, "--tid", "10000001", "--mid", "1", "--location", "Hall 2"}
	if out, err := run(t.Context(), add...); err != nil || !strings.Contains(out, "coinop-agent run --identity "+id) {
		t.Fatalf("add: %q, %v", out, err)
	}
	if _, err := os.Stat(filepath.Join(id, "device.key")); err != nil {
		t.Error(err)
	}
	if _, err := run(t.Context(), add...); err == nil || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("added twice: %v, want a hint at --replace", err)
	}
	out, err := run(t.Context(), "device", "list", "--dir", dir)
	if err != nil || !strings.Contains(out, "10000001") {
		t.Errorf("list: %q, %v", out, err)
	}
	out, err = run(t.Context(), "device", "list", "--dir", dir, "--json")
	var got []listed
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || len(got) != 1 || got[0].Merchant.Location != "Hall 2" || got[0].Link != "bank" {
		t.Errorf("list --json: %s, %v", out, err)
	}
	out, err = run(t.Context(), "books", "--dir", dir)
	if err != nil || !strings.Contains(out, "is balanced") {
		t.Errorf("books: %q, %v", out, err)
	}
	out, err = run(t.Context(), "books", "--dir", dir, "--json")
	var b books
	if err != nil || json.Unmarshal([]byte(out), &b) != nil || !b.Balanced {
		t.Errorf("books --json: %s, %v", out, err)
	}
}

// TestRefused: what is wrong is named, with what to do.
func TestRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"books --dir " + dir, "--dir is the folder given to serve"},
		{"device list --dir " + dir, "--dir is the folder given to serve"},
		{"device add --dir " + dir, "want one NAME"},
		{"device add a/b --out x --tid 1 --mid 1 --dir " + dir, "name"},
		{"device add a --out x --tid 123456789 --mid 1 --dir " + dir, "1 to 8"},
		{"device add a --out x --tid 1 --mid 1 --mcc x --dir " + dir, "4 digits"},
		{"serve --acquirer bank --institution 1 --dir " + dir, "NAME=HOST:PORT"},
		{"serve --acquirer bank=1.2.3.4:5 --dir " + dir, "--institution"},
		{"books --store ledger.db --dir " + dir, "postgres://user@host/database"},
		{"serve", "--dir: which folder? or --config"},
		{"serve --config x --institution 1", "under acquirers"},
		{"serve --config x", "there is no such file"},
		{"serve --broker mqtt://h:1 --dir " + dir, "mqtts://host:port"},
		{"broker mosquitto --dir " + dir, "out"},
		{"broker mosquitto --listen x --dir " + dir + " --out " + dir, "address"},
		{"serve --log xml --dir " + dir, "text or json"},
		{"serve --loog text --dir " + dir, "see coinop-cloud serve --help"},
	} {
		if _, err := run(t.Context(), strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	serveUntil(t, nil, nil, func() {}, "--dir", dir, "--listen", "127.0.0.1:0", "--log", "json", "--acquirer", "bank=127.0.0.1:1", "--institution", "1")
}

const file = "dir: %s\nlisten: 127.0.0.1:1\nlog: {format: json}\nacquirers:\n  - name: bank\n    addr: 127.0.0.1:1\n    institution: 00000000001\n"

// TestServeWithAFile: the service starts with a file, flags go before it, on SIGHUP it says what needs
// a restart, and a wrong file changes nothing.
func TestServeWithAFile(t *testing.T) {
	t.Parallel()
	text := fmt.Sprintf(file, t.TempDir())
	path := written(t, text)
	log := &shared{}
	serveUntil(t, log, []string{"COINOP_HTTP=127.0.0.1:0"}, func() {
		for more, want := range map[string]string{
			"hosts: [pos.example.com]\n": `"keys":"hosts"`,
			"hots: 1\n":                  `did you mean`,
		} {
			if err := os.WriteFile(path, []byte(text+more), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), want); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%q: no %s in %s", more, want, log)
				}
			}
		}
	}, "--config", path, "--listen", "127.0.0.1:0")
	if !strings.Contains(log.String(), "openapi.json") {
		t.Errorf("no HTTP interface, though the environment names one: %s", log)
	}
}

// serveUntil runs serve, calls then when machines can connect, and stops it.
func serveUntil(t *testing.T, log io.Writer, env []string, then func(), args ...string) {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "run", "addr")
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		c := root(env)
		c.SetErr(cmp.Or(log, io.Discard))
		c.SetArgs(append([]string{"serve", "--ready-file", ready}, args...))
		ended <- c.ExecuteContext(ctx)
	}()
	for ctx.Err() == nil {
		if b, err := os.ReadFile(ready); err == nil {
			if !strings.HasPrefix(string(b), "127.0.0.1:") {
				t.Errorf("ready file says %q", b)
			}
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	then()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloud.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shared is a log that is read while it is written.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	good := fmt.Sprintf(file, "/d")
	example, err := configs.Examples.ReadFile("cloud.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		good:                                " is good",
		string(example):                     " is good",
		good + "store: postgres://c@db/c\n": " is good",
		good + "store: postgres://c:sesame@db/c\n": ":8:8: store: has a password in it",
		good + "store: mysql://c@db/c\n":           `:8:8: store: "mysql://c@db/c" cannot be`,
		good + "http: 0.0.0.0:80\n":                ":8:7: http: the HTTP interface has no users yet",
		good + "lisen: :1\n":                       `did you mean "listen"?`,
	} {
		out, err := run(t.Context(), "config", "check", written(t, text))
		if !strings.Contains(out, want) || (err == nil) != (want == " is good") || strings.Contains(out, "sesame") {
			t.Errorf("%s: %v %s", text, err, out)
		}
	}
	if out, err := run(t.Context(), "config", "schema"); err != nil || out != string(configs.CloudSchema()) {
		t.Error(err, out)
	}
	if out, err := run(t.Context(), "config", "explain", "late_window", "--config", written(t, good)); err != nil || !strings.Contains(out, "1m30s") {
		t.Error(err, out)
	}
}

// TestBrokerElsewhere: the command that prepares one says how to go on, and a file names it.
func TestBrokerElsewhere(t *testing.T) {
	t.Parallel()
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "m")
	said, err := run(t.Context(), "broker", "mosquitto", "--dir", dir, "--out", out, "--replicas", "127.0.0.1:1")
	if err != nil || !strings.Contains(said, "--broker mqtts://127.0.0.1:1 ") {
		t.Errorf("%q %v", said, err)
	}
	if _, err := os.Stat(filepath.Join(out, "mosquitto.conf")); err != nil {
		t.Error(err)
	}
	f := following{path: written(t, fmt.Sprintf(file, dir)+"broker: mqtts://127.0.0.1:1\n")}
	if cfg, err := f.config(serveCommand(nil)); err != nil || cfg.Broker != "mqtts://127.0.0.1:1" {
		t.Errorf("%q %v", cfg.Broker, err)
	}
}

// TestFileToConfig: what a file says of a bank is what the link gets.
func TestFileToConfig(t *testing.T) {
	t.Parallel()
	f := following{path: written(t, fmt.Sprintf(file, "/d")+`    flow: single
    host_timeout: 7s
    late_window: 80s
    stan_per_repeat: true
    reversal_amount: approved
    reversal_first: await
    can_query: true
`)}
	cfg, err := f.config(serveCommand(nil))
	want := []cloud.Acquirer{{Name: "bank", Addr: "127.0.0.1:1", Institution: "00000000001", Profile: acquirer.Profile{
		Flow: acquirer.Single, T1MS: 7000, LateWindowMS: 80000, STANPerRepeat: true, ReversalAmount: "approved", ReversalFirst: "await", CanQuery: true,
	}}}
	if err != nil || !reflect.DeepEqual(cfg.Acquirers, want) || cfg.Dir != "/d" || cfg.Store != "" {
		t.Errorf("%v %+v", err, cfg)
	}
}

// The unit's command line is one of this program's.
func TestUnit(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("../../../deploy/systemd/coinop-cloud.service")
	if err != nil {
		t.Fatal(err)
	}
	_, start, ok := strings.Cut(string(unit), "\nExecStart=/usr/local/bin/coinop-cloud ")
	start, _, _ = strings.Cut(start, "\n")
	c, rest, err := root(nil).Find(strings.Fields(start))
	if err == nil {
		err = c.ParseFlags(rest)
	}
	if !ok || err != nil || c.Name() != "serve" || c.Flag("config").Value.String() != "/etc/coinop/cloud.yaml" {
		t.Errorf("%q: %v", start, err)
	}
}
