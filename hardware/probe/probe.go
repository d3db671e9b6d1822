// Package probe finds out what stands at a port, by asking in each language what only its devices answer.
//
//	for _, path := range probe.Ports("/dev") {
//	    fmt.Println(probe.Identify(ctx, path))
//	}
//
// A question is harmless to devices of other languages, and moves neither money nor goods; the least harmful come
// first: at a machine's own bus it is listened before anybody speaks, and a receipt printer would print what it does
// not know, so it is asked before all others. A port that somebody has is not asked.
//
//   - Serial lines: the questions of serial.go, one after the other. The kernel's console is not asked: a question
//     would be typed at a login.
//   - hidraw: by the kernel's word for its maker; only a reader of ID TECH's is asked for its serial number.
//   - Keyboards are never opened: their names speak for them.
//   - I2C: a read of the address of a PN532, and its question only where the bus was named (Named): another
//     chip at that address could take it for a command.
//   - Pins: what the kernel calls them.
//   - pcscd is asked for the names of its readers, a terminal in the network for its status (Readers, Terminal).
package probe

import (
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
)

// Found is what stands at a port.
type Found struct {
	Path   string `json:"path"`   // the stable one, where there is one
	Node   string `json:"node"`   // the device file it leads to
	Part   string `json:"part"`   // reader, terminal, scanner, vending, printer, cash, audit, pins; "": nobody answered
	Driver string `json:"driver"` // as the configuration names it
	Says   string `json:"says"`   // firmware, serial number, level
	// With is what the configuration says of it beside driver and port, as "head: magtek".
	With []string `json:"with,omitempty"`
	// Sure: it answered, or the kernel knows its maker and kind. Otherwise its name alone speaks for it.
	Sure bool `json:"sure"`
	// Aside: it was not asked, for it is hardly one of ours, and nothing is wrong with that.
	Aside bool `json:"aside,omitempty"`
	// WhyNot is what became of each question, in order, when nobody answered; or why nobody could be asked.
	WhyNot []string `json:"why_not,omitempty"`
}

const answerTime = 250 * time.Millisecond

// Identify asks at one port until somebody answers.
func Identify(ctx context.Context, path string) Found { return identify(ctx, path, "/sys", false) }

// Named is Identify of a port that somebody named who knows what hangs there: an I2C bus is asked too.
func Named(ctx context.Context, path string) Found { return identify(ctx, path, "/sys", true) }

func identify(ctx context.Context, path, sys string, named bool) Found {
	f := Found{Path: path, Node: path}
	if node, err := filepath.EvalSymlinks(path); err == nil {
		f.Node = node
	}
	st, err := os.Stat(path)
	switch node := filepath.Base(f.Node); {
	case err != nil:
		f.WhyNot = []string{reasonOf(err)}
		f.byName(filepath.Base(path))
	case strings.HasSuffix(path, keyboardEnd):
		f.keyboard(sys)
	case strings.HasPrefix(node, "hidraw"), st.Mode()&fs.ModeSocket != 0: // a socket stands for one at a bench
		f.hid(ctx, sys)
	case strings.HasPrefix(node, "i2c-"):
		f.i2c(named)
	case strings.HasPrefix(node, "gpiochip"):
		f.pins()
	case console(sys, node):
		f.WhyNot = []string{"it is the kernel's console"}
	default:
		f.serial(ctx, serial)
		if f.Part == "" {
			f.byName(filepath.Base(path))
		}
	}
	return f
}

// serial asks questions in turn.
func (f *Found) serial(ctx context.Context, questions []question) {
	for _, q := range questions {
		if ctx.Err() != nil {
			f.WhyNot = append(f.WhyNot, "given up: "+ctx.Err().Error())
			return
		}
		says, why, hopeless := q.put(ctx, f.Path)
		if why == "" {
			f.Part, f.Driver, f.Says, f.With, f.Sure, f.WhyNot = q.part, q.driver, says, q.with, true, nil
			if q.more != nil {
				if more, why, _ := q.more.put(ctx, f.Path); why == "" {
					f.Says += "; " + more
				}
			}
			return
		}
		f.WhyNot = append(f.WhyNot, q.driver+": "+why)
		if hopeless {
			f.WhyNot = []string{why}
			return
		}
	}
}

// put asks. hopeless: nobody can be asked at this port.
func (q question) put(ctx context.Context, path string) (says, why string, hopeless bool) {
	open := q.open
	if open == nil {
		open = func(path string) (hardware.Port, error) { return hardware.OpenTTY(path, q.baud) }
	}
	port, err := open(path)
	if err != nil {
		return "", reasonOf(err), q.open == nil || !errors.Is(err, unix.EINVAL) // a parity that it does not have
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
	if _, err := port.Write(q.ask); err != nil && len(q.ask) > 0 {
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

// Ports are the ports of a machine below dev, each once and by its stable path where it has one: serial lines by
// id, those without one, printers at USB, human interface devices, keyboards, I2C buses, pins.
func Ports(dev string) []string {
	var out []string
	seen := map[string]bool{}
	for _, pattern := range []string{"serial/by-id/*", "ttyUSB*", "ttyACM*", "ttyAMA*", "ttyS[0-9]*", "usb/lp*", "hidraw*", "input/by-id/*" + keyboardEnd, "i2c-[0-9]*", "gpiochip[0-9]*"} {
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
