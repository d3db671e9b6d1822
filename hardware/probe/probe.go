// Package probe finds out what stands at a port, by asking in each language what only its devices answer.
//
//	for _, path := range probe.Ports("/dev") {
//	    fmt.Println(probe.Identify(ctx, path))
//	}
//
// A question is harmless to devices of other languages, and the least harmful come first: a receipt printer
// would print what it does not know, so it is asked before all others. A port that somebody has is not asked.
package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"coinop/hardware"
	"coinop/hardware/mdb"
)

// Found is what stands at a port.
type Found struct {
	Path   string `json:"path"`   // the stable one, where there is one
	Node   string `json:"node"`   // the device file it leads to
	Part   string `json:"part"`   // reader, vending, printer, cash, audit; "": nobody answered
	Driver string `json:"driver"` // as the configuration names it
	Says   string `json:"says"`   // firmware, serial number, level
	// Sure: it answered. Otherwise its name alone speaks for it.
	Sure bool `json:"sure"`
	// WhyNot is what became of each question, in order, when nobody answered; or why nobody could be asked.
	WhyNot []string `json:"why_not,omitempty"`
}

// question is a device's own.
type question struct {
	driver, part string
	baud         int
	ask          []byte
	open         func(path string) (hardware.Port, error) // nil: 8N1 at baud
	wait         time.Duration
	// answer looks at what has come so far.
	answer func(got []byte) (says string, ok bool)
}

// questions, the least harmful first. Sources: ESC/POS DLE EOT; ID TECH NEO 2, 12-01; PN532 user manual, 7.2.2;
// Qibixx MDB interface, V; Modbus RTU, function 01; MDB/ICP 4.2, section 5, SETUP; EVA-DTS 6.1, DEX.
var questions = []question{
	{driver: "escpos", part: "printer", baud: 9600, ask: []byte{0x10, 0x04, 0x01}, answer: printer},
	{driver: "escpos", part: "printer", baud: 115200, ask: []byte{0x10, 0x04, 0x01}, answer: printer},
	{driver: "vivopay", part: "reader", baud: 115200, ask: []byte("ViVOtech2\x00\x12\x01\x00\x00\x18\xA5"), answer: vivopay},
	{driver: "pn532", part: "reader", baud: 115200, ask: pn532Firmware, answer: pn532},
	{driver: "qibixx", part: "vending", baud: 115200, ask: []byte("\r\nV\r\n"), answer: qibixx},
	{driver: "relay-board", part: "vending", baud: 9600, ask: []byte{1, 1, 0, 0, 0, 8, 0x3D, 0xCC}, answer: board},
	{driver: "mdb", part: "cash", open: mdb.OpenRaw, ask: changerSetup(), answer: changer, wait: 300 * time.Millisecond},
	{driver: "dex", part: "audit", baud: 9600, ask: []byte{0x05}, answer: dex},
}

const answerTime = 250 * time.Millisecond

// Identify asks at one port until somebody answers.
func Identify(ctx context.Context, path string) Found {
	f := Found{Path: path, Node: path}
	if node, err := filepath.EvalSymlinks(path); err == nil {
		f.Node = node
	}
	for _, q := range questions {
		if ctx.Err() != nil {
			f.WhyNot = append(f.WhyNot, "given up: "+ctx.Err().Error())
			return f
		}
		says, why, hopeless := q.put(ctx, path)
		if why == "" {
			f.Part, f.Driver, f.Says, f.Sure, f.WhyNot = q.part, q.driver, says, true, nil
			return f
		}
		f.WhyNot = append(f.WhyNot, q.driver+": "+why)
		if hopeless {
			f.WhyNot = []string{why}
			break
		}
	}
	f.byName()
	return f
}

// put asks. hopeless: nobody can be asked at this port.
func (q question) put(ctx context.Context, path string) (says, why string, hopeless bool) {
	open := q.open
	if open == nil {
		open = func(path string) (hardware.Port, error) { return hardware.OpenTTY(path, q.baud) }
	}
	port, err := open(path)
	if err != nil {
		return "", reasonOf(err), true
	}
	defer port.Close()
	type readDeadline interface{ SetReadDeadline(time.Time) error }
	d, ok := port.(readDeadline)
	if !ok {
		return "", "it cannot be waited for", true
	}
	old := make([]byte, 4096) // what it said before is no answer
	_ = d.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, _ = port.Read(old)
	_ = port.SetWriteDeadline(time.Now().Add(answerTime))
	if _, err := port.Write(q.ask); err != nil {
		return "", "it takes nothing: " + err.Error(), errors.Is(err, unix.EIO)
	}
	wait := q.wait
	if wait == 0 {
		wait = answerTime
	}
	var got []byte
	end := time.Now().Add(wait)
	for time.Now().Before(end) && ctx.Err() == nil && len(got) < 4096 {
		_ = d.SetReadDeadline(end)
		buf := make([]byte, 512)
		n, err := port.Read(buf)
		got = append(got, buf[:n]...)
		if says, ok := q.answer(got); ok {
			return says, "", false
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return "", "gone while it was asked: " + err.Error(), true
		}
	}
	if len(got) > 0 {
		return "", fmt.Sprintf("it said something else (% X)", got[:min(len(got), 8)]), false
	}
	return "", "no answer", false
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "not there"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not open it: add the user to the group dialout"
	case errors.Is(err, unix.EWOULDBLOCK):
		return "another process has it: is the agent running?"
	case errors.Is(err, unix.ENOTTY):
		return "no serial line"
	}
	return err.Error()
}

// knownAs are words in the names of ports, in small letters, by driver.
var knownAs = []struct{ word, driver, part string }{
	{"qibixx", "qibixx", "vending"},
	{"id_tech", "vivopay", "reader"},
	{"idtech", "vivopay", "reader"},
	{"vivo", "vivopay", "reader"},
	{"epson", "escpos", "printer"},
	{"star", "escpos", "printer"},
	{"bixolon", "escpos", "printer"},
	{"printer", "escpos", "printer"},
	{"rs485", "relay-board", "vending"},
	{"rs-485", "relay-board", "vending"},
	{"dex", "dex", "audit"},
}

// byName is what a port's name speaks for.
func (f *Found) byName() {
	name := strings.ToLower(filepath.Base(f.Path))
	for _, k := range knownAs {
		if strings.Contains(name, k.word) {
			f.Part, f.Driver, f.Says = k.part, k.driver, "by its name alone"
			return
		}
	}
}

// Ports are the ports of a machine below dev, each once and by its stable path where it has one: serial lines by
// id, those without one, printers at USB.
func Ports(dev string) []string {
	var out []string
	seen := map[string]bool{}
	for _, pattern := range []string{"serial/by-id/*", "ttyUSB*", "ttyACM*", "ttyAMA*", "ttyS[0-9]*", "usb/lp*", "hidraw*"} {
		paths, _ := filepath.Glob(filepath.Join(dev, pattern)) // of a pattern that is right
		slices.Sort(paths)
		for _, path := range paths {
			node, err := filepath.EvalSymlinks(path)
			if err != nil || seen[node] {
				continue
			}
			seen[node] = true
			out = append(out, path)
		}
	}
	return out
}

func printer(got []byte) (string, bool) {
	for _, b := range got {
		if b&0x93 == 0x12 {
			says := "a receipt printer"
			if b&0x08 != 0 {
				says += ", offline"
			}
			return says, len(got) == 1 // a status is one byte; more is another's speech
		}
	}
	return "", false
}

func vivopay(got []byte) (string, bool) {
	i := bytes.Index(got, []byte("ViVOtech2\x00\x12"))
	if i < 0 || len(got) < i+14 || len(got) < i+16+int(got[i+13]) {
		return "", false
	}
	serial := got[i+14 : i+14+int(got[i+13])]
	return "ID TECH ViVOpay, serial " + string(bytes.TrimRight(serial, "\x00 ")), got[i+11] == 0
}

// pn532Firmware wakes a PN532 at a UART and asks for its firmware: GetFirmwareVersion.
var pn532Firmware = append(append([]byte{0x55, 0x55}, make([]byte, 14)...), 0, 0, 0xFF, 0x02, 0xFE, 0xD4, 0x02, 0x2A, 0)

func pn532(got []byte) (string, bool) {
	i := bytes.Index(got, []byte{0xD5, 0x03, 0x32})
	if i < 0 || len(got) < i+5 {
		return "", false
	}
	return fmt.Sprintf("PN532, firmware %d.%d", got[i+3], got[i+4]), true
}

func qibixx(got []byte) (string, bool) {
	for _, line := range strings.FieldsFunc(string(got), func(r rune) bool { return r == '\r' || r == '\n' }) {
		if strings.HasPrefix(line, "v,") {
			return "Qibixx MDB adapter, " + printable(line[2:]), true
		}
	}
	return "", false
}

func board(got []byte) (string, bool) {
	return "Modbus relay board at address 1", len(got) == 6 && got[0] == 1 && got[1] == 1 && got[2] == 1
}

func dex(got []byte) (string, bool) {
	return "a vending controller's DEX port", len(got) >= 2 && got[0] == 0x10 && (got[1] == 0x30 || got[1] == 0x31)
}

func changerSetup() []byte {
	w, err := mdb.Controller(0x09)
	if err != nil {
		panic(err) // one byte is a block
	}
	return mdb.Mark(w)
}

func changer(got []byte) (string, bool) {
	u := mdb.Unmark{Peripheral: true}
	words := u.Add(got)
	if len(words) < 8 || words[len(words)-1]&mdb.Mode == 0 {
		return "", false
	}
	return fmt.Sprintf("coin changer of level %d, units of %d", byte(words[0]), byte(words[3])), true
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s[:min(len(s), 80)])
}
