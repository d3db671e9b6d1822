// Package coinop holds no code: its one test keeps the tree's shape.
package coinop

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
)

type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// floors are the top rooms, lowest first. A package may import its own floor and those below it;
// rooms on one floor do not see each other.
var floors = map[string]int{"protocol": 0, "hardware": 1, "agent": 2, "cloud": 2, "sim": 3}

// barred are arrows the floors alone would allow.
var barred = map[string][]string{
	"cloud":   {"hardware"},
	"configs": {"protocol", "hardware", "agent", "cloud", "sim", "web"},
	"web":     {"protocol", "hardware", "agent", "cloud", "sim", "configs"},
}

// cloudArrows: which of cloud's rooms each may import. cloud itself (wiring) and tests may import
// all; a room that is not named may import none of the others.
var cloudArrows = map[string][]string{
	"relay":     {"payment", "intake", "fleet", "identity"},
	"api":       {"payment", "intake", "account"},
	"intake":    {"payment", "ledger", "fleet"},
	"identity":  {"acquirer"},
	"payment":   {"ledger", "acquirer"},
	"store":     {"payment", "account", "ledger", "acquirer", "intake", "fleet", "identity", "vault", "settle", "audit", "people"},
	"vault":     {"acquirer"},
	"telemetry": {"acquirer"},
	"acquirer":  {"acquirer"},
	"account":   {"acquirer", "ledger", "payment"},
}

// agentArrows: the same for the agent's rooms. session, which is pure, sees none of them.
var agentArrows = map[string][]string{
	"journal": {}, "uplink": {}, "session": {}, "screen": {}, "update": {}, "telemetry": {},
}

// hardwareArrows: drivers do not see each other, and the far ends see no driver: a mistake made on
// both sides of a cable would be invisible. What stands on paper, and its dots, is no protocol, and no more are pins or a keyboard's keys.
// Who asks what stands at a port opens it as its driver does.
var hardwareArrows = map[string][]string{"hardwaretest": {"virtual", "paper"}, "probe": {"mdb", "vivopay", "pn532", "pcsc", "terminal", "gpio"}, "outlet": {"gpio"}, "escpos": {"paper"}, "virtual": {"paper"}, "magstripe": {"keyboard"}, "scanner": {"keyboard"}}

// doors: the only places a dependency may be imported from. "" is never allowed.
var doors = map[string][]string{
	"github.com/eclipse/paho.mqtt.golang": {"agent/uplink", "cloud/broker"},
	"github.com/mochi-mqtt/server":        {"cloud/broker"},
	"github.com/dgraph-io/badger":         {"agent/journal"},
	"modernc.org/sqlite":                  {"cloud/store"},
	"database/sql":                        {"cloud/store"},
	"github.com/jackc/pgx":                {"cloud/store"},
	"github.com/pressly/goose":            {"cloud/store"},
	"github.com/spf13/viper":              {"configs"},
	"periph.io":                           {"hardware"},
	"go.bug.st/serial":                    {"hardware"},
	"github.com/creack/pty":               {"hardware/virtual"},
	"github.com/moov-io/iso8583":          {"cloud/acquirer/iso8583"},
	"github.com/veraison/go-cose":         {"protocol/seal"},
	"github.com/fxamacker/cbor":           {"protocol"},
	"crypto/hpke":                         {"protocol/seal"},
	"github.com/cloudflare/circl":         {"protocol/seal"},
	"github.com/danielgtaylor/huma":       {"cloud/api"},
	"github.com/prometheus":               {"cloud"},
	"go.opentelemetry.io":                 {"agent/telemetry", "cloud/telemetry"},
	"golang.org/x/image":                  {"hardware/paper"},
	"github.com/hajimehoshi/bitmapfont":   {"hardware/paper"},
	"github.com/boombuler/barcode":        {"hardware/paper"},
}

// pure are the packages that may not touch the world, and what touching it would need.
var pure = []string{"protocol", "agent/session", "agent/cashbook", "cloud/ledger"}

var world = map[string]string{
	"os": "disk", "net": "network", "net/http": "network", "log": "logger", "database/sql": "disk",
	"math/rand": "randomness", "math/rand/v2": "randomness", "crypto/rand": "randomness", "os/exec": "world",
	"syscall": "world", "context": "goroutines",
}

// allowed are the exceptions, each with its reason.
var allowed = map[string]string{
	"protocol/seal crypto/rand": "draws nonces",
	"protocol/card context":     "a slog.Handler's methods take one",
}

func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var ps []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	if len(ps) < 5 {
		t.Fatalf("only %d packages found", len(ps))
	}
	return ps
}

// room is a package's path inside the module: "cloud/store"; top is its first part.
func room(path string) (rel, top string, ours bool) {
	rel, ours = strings.CutPrefix(path, "coinop/")
	top, _, _ = strings.Cut(rel, "/")
	return rel, top, ours
}

func within(rel, dir string) bool { return rel == dir || strings.HasPrefix(rel, dir+"/") }

func TestFloors(t *testing.T) {
	for _, p := range list(t) {
		_, from, ours := room(p.ImportPath)
		if !ours {
			continue
		}
		for _, imp := range append(append(p.Imports, p.TestImports...), p.XTestImports...) {
			_, to, ours := room(imp)
			if !ours || from == to {
				continue
			}
			fl, okFrom := floors[from]
			tl, okTo := floors[to]
			if okFrom && okTo && fl <= tl {
				t.Errorf("%s imports %s: %s may only import floors below it", p.ImportPath, imp, from)
			}
			for _, b := range barred[from] {
				if to == b {
					t.Errorf("%s imports %s: %s never imports %s", p.ImportPath, imp, from, b)
				}
			}
		}
	}
}

func TestArrowsInside(t *testing.T) {
	for _, p := range list(t) {
		for _, imp := range p.Imports {
			check(t, p.ImportPath, imp, "cloud", cloudArrows)
			check(t, p.ImportPath, imp, "agent", agentArrows)
			check(t, p.ImportPath, imp, "hardware", hardwareArrows)
		}
	}
}

func check(t *testing.T, from, to, top string, arrows map[string][]string) {
	t.Helper()
	f, ok1 := strings.CutPrefix(from, "coinop/"+top+"/")
	g, ok2 := strings.CutPrefix(to, "coinop/"+top+"/")
	if !ok1 || !ok2 || strings.HasPrefix(f, "cmd/") {
		return
	}
	a, _, _ := strings.Cut(f, "/")
	b, _, _ := strings.Cut(g, "/")
	if a == b {
		return
	}
	for _, ok := range arrows[a] {
		if ok == b {
			return
		}
	}
	t.Errorf("%s imports %s: not an arrow of %s", from, to, top)
}

func TestDoors(t *testing.T) {
	for _, p := range list(t) {
		rel, _, _ := room(p.ImportPath)
		for _, imp := range p.Imports {
			for dep, places := range doors {
				if !within(imp, dep) {
					continue
				}
				ok := false
				for _, place := range places {
					ok = ok || within(rel, place)
				}
				if !ok {
					t.Errorf("%s imports %s: its door is %v", rel, imp, places)
				}
			}
		}
	}
}

func TestPurity(t *testing.T) {
	for _, p := range list(t) {
		rel, _, _ := room(p.ImportPath)
		for _, dir := range pure {
			if !within(rel, dir) {
				continue
			}
			for _, imp := range p.Imports {
				if what, bad := world[imp]; bad && allowed[rel+" "+imp] == "" {
					t.Errorf("%s is pure but imports %s (%s)", rel, imp, what)
				}
			}
		}
	}
}
