package configs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestExamples: every example loads, is short enough to read, and its commented lines are right too.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := Examples.ReadDir(".")
	if err != nil || len(files) < 3 {
		t.Fatal(len(files), err)
	}
	for _, f := range files {
		data, err := Examples.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(data), "\n"); n > 25 {
			t.Errorf("%s has %d lines", f.Name(), n)
		}
		if !strings.HasPrefix(string(data), "# yaml-language-server: $schema=") {
			t.Errorf("%s does not name its schema", f.Name())
		}
		uncommented := strings.NewReplacer("# timeouts:", "timeouts:", "#   wait", "  wait").Replace(string(data))
		for _, text := range []string{string(data), uncommented} {
			if f.Name() == "cloud.yaml" {
				_, err = ParseCloud(f.Name(), []byte(text), nil)
			} else {
				_, err = ParseAgent(f.Name(), []byte(text), nil)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
}

func TestVending(t *testing.T) {
	t.Parallel()
	data, _ := Examples.ReadFile("vending.yaml")
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := LoadAgent(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Identity != "/etc/coinop/identity" || a.Cloud != "cloud.example.com:8883" || a.Timeouts.Wait != 10*time.Second || a.Log.Format != "text" {
		t.Errorf("%+v", a)
	}
	if l := a.Lanes[0]; l.Vending.Port != Auto || l.Vending.Scale != "0.05" || l.Reader.Driver != "vivopay" {
		t.Errorf("%+v %+v", l.Vending, l.Reader)
	}
}

const least = "identity: /i\ndata: /d\ncloud: c.example:1\nlanes:\n  - vending: {port: /dev/v}\n"

// TestOptional: what may be missing can be removed, and the rest goes on.
func TestOptional(t *testing.T) {
	t.Parallel()
	for _, more := range []string{"", "timeouts:\n", "log:\n# format: json\n", "\r\n", "    reader: {}\n", "# end"} {
		a, err := ParseAgent("f", []byte("\xef\xbb\xbf"+least+more), nil)
		if err != nil {
			t.Errorf("%q: %v", more, err)
			continue
		}
		if (a.Lanes[0].Reader != nil) != strings.Contains(more, "reader") {
			t.Errorf("%q: reader %v", more, a.Lanes[0].Reader)
		}
		if a.Currency != "EUR" || a.Timeouts.VendTimeout != time.Minute || a.Lanes[0].Vending.Driver != "qibixx" {
			t.Errorf("%+v", a)
		}
	}
}

// TestLayers: default, file, environment, flag; each says where it came from.
func TestLayers(t *testing.T) {
	t.Parallel()
	file := []byte(least + "timeouts: {wait: 11s, order_timeout: 20s}\n")
	env := []string{"COINOP_WAIT=12s", "COINOP_TIMEOUTS_ORDER_TIMEOUT=21s", "COINOP_CURRENCY=", "COINOP_READER=/dev/r", "PATH=/bin"}
	a, err := ParseAgent("f", file, env, Flag{"wait", "13s"}, Flag{"log", "json"})
	if err != nil {
		t.Fatal(err)
	}
	if a.Timeouts.Wait != 13*time.Second || a.Timeouts.OrderTimeout != 21*time.Second || a.Lanes[0].Reader.Port != "/dev/r" ||
		a.Currency != "EUR" || a.Log.Format != "json" {
		t.Errorf("%+v %+v", a.Timeouts, a.Lanes[0].Reader)
	}
	if rs := a.Lanes[0].AllReaders(); len(rs) != 1 {
		t.Errorf("the flag of the first reader is taken for another: %+v", rs)
	}
	want := map[string]string{
		"timeouts.wait": "--wait", "timeouts.order_timeout": "environment COINOP_TIMEOUTS_ORDER_TIMEOUT", "cloud": "f:3:8",
		"lanes.0.reader.port": "environment COINOP_READER", "timeouts.vend_timeout": "default", "log.format": "--log",
	}
	for _, s := range a.Settings() {
		if w, ok := want[s.Key]; ok && w != s.Place.String() {
			t.Errorf("%s is from %s, want %s", s.Key, s.Place, w)
		}
		delete(want, s.Key)
	}
	if len(want) > 0 {
		t.Errorf("not told: %v", want)
	}
	// No file at all.
	a, err = LoadAgent("", []string{"COINOP_LANES_0_VENDING_SCALE=0.10"}, Flag{"identity", "i"}, Flag{"data", "d"}, Flag{"cloud", "c:1"}, Flag{"vmc", "v"})
	if err != nil || a.Lanes[0].Vending.Port != "v" || a.Lanes[0].Vending.Scale != "0.10" || a.Lanes[0].Reader != nil {
		t.Errorf("%+v %v", a, err)
	}
	_, err = ParseAgent("f", file, []string{"COINOP_WAIT=soon"}, Flag{"vend-timeout", "1s"})
	for _, w := range []string{`environment COINOP_WAIT: timeouts.wait: "soon" is no time`, "--vend-timeout: timeouts.vend_timeout: 1s is too short; 2s to 10m may be"} {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %s", err, w)
		}
	}
	c, err := ParseCloud("f", nil, []string{"COINOP_DIR=/x", "COINOP_HOSTS=a, b"})
	if err != nil || len(c.Hosts) != 2 || c.Listen != "127.0.0.1:8883" {
		t.Errorf("%+v %v", c, err)
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	a, err := ParseAgent("f", []byte(least+"currency: XXQ\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = a.Refuse("currency", "nobody pays in it", "write EUR") // a Problem is an error
	if want := "f:6:11: currency: nobody pays in it; write EUR\n    6 | currency: XXQ\n      |           ^~~"; err.Error() != want {
		t.Errorf("%s", err)
	}
	if err := a.Refuse("lanes.0.vending.scale", "x", "y"); !strings.HasPrefix(err.Error(), "f:5:5: lanes.0.vending.scale: x; y") {
		t.Error(err)
	}
	b, _ := ParseAgent("f", []byte(strings.Replace(least, "/dev/v", "/dev/w", 1)+"    reader: {}\n"), nil)
	if got := strings.Join(b.Changes(a.Origin), " "); got != "currency lanes.0.vending.port lanes.0.reader.driver lanes.0.reader.port" {
		t.Error(got)
	}
}

func TestScale(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s                          Scale
		exponent, factor, decimals int
	}{
		{"", 2, 1, 2},
		{"0.05", 2, 5, 2},
		{"0.10", 2, 1, 1},
		{"1", 2, 1, 0},
		{"10.00", 2, 10, 0},
		{"50", 0, 50, 0},
		{"0.250", 3, 25, 2},
		{"0.005", 2, 0, 0},
		{"2.57", 2, 0, 0},
		{"999999", 0, 0, 0},
		{"0.5", 0, 0, 0},
	} {
		f, d, err := c.s.Units(c.exponent)
		if f != c.factor || d != c.decimals || (err != nil) != (c.factor == 0) {
			t.Errorf("%q: %d %d %v", c.s, f, d, err)
		}
	}
}

func TestFileItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{filepath.Join(dir, "no"): "there is no such file", dir: "is a folder", big: "too large"} {
		_, err := LoadAgent(path, nil)
		if es, ok := errors.AsType[Errors](err); !ok || !strings.Contains(es.Error(), path+": ") || !strings.Contains(es.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := LoadCloud(path, nil); err == nil {
			t.Error("no error")
		}
	}
}

// TestReaders: a lane's readers, in order, each with all that the first can say; its layers are its own.
func TestReaders(t *testing.T) {
	t.Parallel()
	file := []byte(least + "    reader: {port: /dev/r}\n    readers:\n      - {driver: pn532, port: /dev/i2c-1, unproven_cards: taken}\n      - {driver: magstripe, own_cards: [6000]}\n" +
		"board: {power: [{device: reader 2, pin: GPIO5}]}\n")
	a, err := ParseAgent("f", file, []string{"COINOP_LANES_0_READERS_1_HEAD=serial"}, Flag{"reader", "/dev/q"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range a.Lanes[0].AllReaders() {
		got = append(got, strings.TrimSpace(strings.Join(append([]string{r.Key, r.Driver, string(r.Port), r.Head, r.Unproven}, r.OwnCards...), " ")))
	}
	want := []string{"reader vivopay /dev/q", "readers.0 pn532 /dev/i2c-1  taken", "readers.1 magstripe auto serial  6000"}
	if !slices.Equal(got, want) || a.Board.Power[0].Device != "reader 2" {
		t.Errorf("%q, want %q", got, want)
	}
	if p := a.Refuse("lanes.0.readers.1.port", "x", "y"); p.Line != 9 {
		t.Errorf("%+v", p)
	}
}
