package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coinop/agent"
	"coinop/configs"
	"coinop/protocol/seal"
)

const small = "identity: /nowhere\ndata: /d\ncloud: c.example:1\nlanes:\n  - vending: {port: /dev/v, scale: 0.05}\n"

func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLogo: a picture that is none is said with its file.
func TestLogo(t *testing.T) {
	t.Parallel()
	bad := written(t, "GIF89a")
	for _, path := range []string{"/nowhere.png", bad} {
		if _, what := formOf(configs.Printer{Paper: "58mm", Logo: configs.Path(path)}); !strings.Contains(what, path) {
			t.Errorf("%s: %q", path, what)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	good, bad := written(t, small), written(t, small+"curency: EUR\ntimeouts: {wait: 1s}\n")
	if code, out, errs := call(t, nil, "config", "check", good); code != 0 || out != good+" is good\n" || errs != "" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	code, out, errs := call(t, nil, "config", "check", bad)
	if code != 1 || !strings.Contains(out, bad+`:6:1: curency: unknown key; did you mean "currency"?`) ||
		!strings.Contains(out, "^~") || errs != "coinop-agent: "+bad+": 2 problems\n" {
		t.Errorf("%d %s %s", code, out, errs)
	}
	var got struct {
		OK       bool
		Problems []struct {
			In, Key, Problem, Instead string
			Line, Column              int
		}
	}
	code, out, _ = call(t, nil, "config", "check", "--json", bad)
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || got.OK || len(got.Problems) != 2 || got.Problems[1].Line != 7 || got.Problems[1].Key != "timeouts.wait" {
		t.Errorf("%d %v %s", code, err, out)
	}
	if code, out, _ = call(t, nil, "config", "check", "--json", good); code != 0 || !strings.Contains(out, `"problems": []`) {
		t.Errorf("%d %s", code, out)
	}
	for text, want := range map[string]string{
		"currency: XXQ\n": ":6:11: currency: XXQ is no currency of ISO 4217; write a code like EUR",
		"currency: JPY\n": ":5:36: lanes.0.vending.scale: 0.05 is not a whole number",
		"  - vending: {port: /w, scale: 0.05, products: [{item: 65535, name: x}]}\n":                 "lanes.1.vending.products.0.item: 65535 is no item number",
		"  - vending: {port: /w, scale: 0.05, products: [{item: 1, name: x}, {item: 1, name: y}]}\n": "item 1 is x already",
		"  - vending: {port: /w, scale: 0.05, products: [{item: 1, name: x, price: 1.505}]}\n":       "1.505 is no amount of EUR",
		"  - vending: {port: /w, scale: 2.57}\n":                                                     ":6:32: lanes.1.vending.scale: 2.57 is factor 257",
		"    printer: {port: /dev/usb/lp0, address: 10.0.0.1:9100}\n":                                "lanes.0.printer.address: a printer has a port or an address",
	} {
		if code, out, _ := call(t, nil, "config", "check", written(t, small+text)); code != 1 || !strings.Contains(out, want) {
			t.Errorf("%q: %d %s", text, code, out)
		}
	}
	if code, out, _ := call(t, nil, "config", "check", "--here", good); code != 1 || !strings.Contains(out, good+":1:11: identity: ") {
		t.Errorf("%d %s", code, out)
	}
	if code, out, _ := call(t, nil, "config", "check", good+"x"); code != 1 || !strings.Contains(out, "there is no such file") {
		t.Errorf("%d %s", code, out)
	}
}

func TestConfigExplain(t *testing.T) {
	t.Parallel()
	code, out, _ := call(t, map[string]string{"COINOP_WAIT": "12s"}, "config", "explain", "wait", "--config", written(t, small))
	if code != 0 || !strings.Contains(out, "12s  (environment COINOP_WAIT)") || !strings.Contains(out, "5s to 28s") {
		t.Errorf("%d %s", code, out)
	}
	if code, out, _ := call(t, nil, "config", "explain"); code != 0 || !strings.Contains(out, "lanes[].reader.port") {
		t.Errorf("%d %s", code, out)
	}
	if code, _, errs := call(t, nil, "config", "explain", "wiat"); code != exitUsage || !strings.Contains(errs, `did you mean "wait"?`) {
		t.Errorf("%d %s", code, errs)
	}
	if code, out, _ := call(t, nil, "config", "schema"); code != 0 || out != string(configs.AgentSchema()) {
		t.Errorf("%d", code)
	}
}

// TestExamples: what the examples say is taken by the program too.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"vending.yaml", "kiosk.yaml", "laundry.yaml", "canteen.yaml"} {
		text, err := configs.Examples.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if code, out, _ := call(t, nil, "config", "check", written(t, string(text))); code != 0 {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// TestLoopKeys: a file of closed-loop keys that is none is said where it is named, and nothing of it is.
func TestLoopKeys(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"mac 2b7e151628aed2a6abf7158809cf4f3c\nclassic 4 a0a1a2a3a4a5\n": "",
		"classic 4 a0a1a2a3a4a5\n":                                       "there is no line mac KEY",
		"mac 2b7e151628aed2a6abf7158809cf4f\n":                           "line 1 is none of",
	} {
		keys, what := loopKeysOf(configs.Path(written(t, text)))
		if !strings.HasPrefix(what, want) || (what == "") != (want == "") || strings.Contains(what, "2b7e") || keys.IsZero() != (want != "") {
			t.Errorf("%q: %q", text, what)
		}
	}
	if _, what := loopKeysOf("/none"); what == "" {
		t.Error("a file that is not there")
	}
}

// TestCardsOf: by which cards a lane can be paid at, its reader's lines say.
func TestCardsOf(t *testing.T) {
	t.Parallel()
	own := []string{"6000"}
	for _, c := range []struct {
		name   string
		reader configs.Reader
		want   agent.Cards
	}{
		{"contactless", configs.Reader{Driver: "vivopay"}, agent.BankCards},
		{"a chip for our own", configs.Reader{Driver: "pn532"}, agent.LoopCards},
		{"behind pcscd", configs.Reader{Driver: "pcsc"}, agent.LoopCards},
		{"stripes of banks", configs.Reader{Driver: "magstripe", BankCards: "clear"}, agent.BankCards},
		{"and our own", configs.Reader{Driver: "magstripe", BankCards: "clear", OwnCards: own}, agent.BothCards},
		{"our own alone", configs.Reader{Driver: "magstripe", BankCards: "none", OwnCards: own}, agent.LoopCards},
		{"a head that encrypts takes banks' too", configs.Reader{Driver: "magstripe", Head: "magtek", OwnCards: own}, agent.BothCards},
		{"and may not", configs.Reader{Driver: "magstripe", Head: "idtech", BankCards: "none", OwnCards: own}, agent.LoopCards},
		{"one that does not takes none in clear", configs.Reader{Driver: "magstripe", OwnCards: own}, agent.LoopCards},
	} {
		if got := cardsOf(c.reader); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestFindPort(t *testing.T) {
	t.Parallel()
	const hat, card, other = "/by-id/usb-Qibixx_MDB-HAT_0-if00", "/by-id/usb-ID_TECH_VP3300_0-if00", "/by-id/usb-FTDI_x"
	const typed = "/dev/input/by-id/usb-ID_TECH_MiniMag_0-event-kbd"
	for _, c := range []struct {
		port         configs.Port
		driver       string
		there        []string
		path, reason string
	}{
		{"/dev/x", "qibixx", nil, "/dev/x", ""},
		{configs.Auto, "qibixx", []string{hat, card, other}, hat, ""},
		{configs.Auto, "vivopay", []string{hat, card, other}, card, ""},
		{configs.Auto, typing + "magstripe", []string{card, typed}, typed, ""},
		{configs.Auto, "vivopay", []string{card, typed}, card, ""},
		{configs.Auto, typing + "magstripe", []string{card}, "", "auto found no keyboard at all"},
		{configs.Auto, "vivopay", []string{hat, other}, "", "auto found no vivopay among " + hat + ", " + other},
		{configs.Auto, "qibixx", []string{hat, hat + "2"}, "", "auto found 2 of qibixx: " + hat + ", " + hat + "2"},
		{configs.Auto, "qibixx", nil, "", "auto found no serial port at all"},
	} {
		if path, what := findPort(c.port, c.driver, func() []string { return c.there }); path != c.path || what != c.reason {
			t.Errorf("%v: %q %q", c, path, what)
		}
	}
}

// TestRunWithAFile: the agent starts with a file, says on SIGHUP what needs a restart, keeps running
// when the file is wrong, and stops as ever.
func TestRunWithAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	id := newIdentity(t, dir)
	file := strings.NewReplacer("/nowhere", id, "/d\n", filepath.Join(dir, "data")+"\n", "/dev/v", filepath.Join(dir, "no-tty")).Replace(small)
	path, ready := written(t, file), filepath.Join(dir, "ready")
	if code, out, _ := call(t, nil, "config", "check", "--here", path); code != 0 {
		t.Fatal(out)
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	log := &shared{}
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, []string{"run", "--config", path, "--ready-file", ready, "--log", "json", "--scale-factor", "5"},
			[]string{"COINOP_CLOUD=127.0.0.1:1"}, log, log)
	}()
	await := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			select {
			case code := <-ended:
				t.Fatalf("%s: ended with %d: %s", what, code, log)
			case <-ctx.Done():
				t.Fatalf("%s: %s", what, log)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	await("ready", func() bool { _, err := os.Stat(ready); return err == nil })
	for text, want := range map[string]string{
		"timeouts: {wait: 11s}\n": `"keys":"timeouts.wait"`,
		"timeouts: {wait: 1s}\n":  `"problem":"1s is too short"`,
	} {
		if err := os.WriteFile(path, []byte(file+text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		await(want, func() bool { return strings.Contains(log.String(), want) })
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("%d %s", code, log)
	}
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

// newIdentity is what the cloud would have written for a device.
func newIdentity(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	sealed, errSealed := seal.NewPrivateKey()
	if err = errors.Join(err, errSealed); err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "snack-1"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err1 := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	public, err3 := x509.MarshalPKIXPublicKey(key.Public())
	relay := sealed.Public().Bytes()
	cloud, err4 := json.Marshal(map[string][]byte{"relay_key": relay, "payment_key": relay, "signing_key": public})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "identity")
	err = os.Mkdir(dir, 0o700)
	for name, text := range map[string][]byte{
		"device.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"device.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		"root.crt":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		"cloud.json": cloud,
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
