// Package udev holds rules that make devices of a point of sale the agent's.
package udev

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// term is one of a rule: KEY{attribute}, an operator, a value without escapes. udev(7).
var term = regexp.MustCompile(`^([A-Z]+(?:\{[A-Za-z_]+\})?)(==|!=|=)"([^"\\]*)"$`)

// apply is what the rules make of a device: group and mode.
func apply(t *testing.T, rules string, device map[string]string) (given string) {
	t.Helper()
	skip := ""
	for line := range strings.Lines(rules) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fits, gives := true, map[string]string{}
		for _, word := range strings.Split(line, ", ") {
			m := term.FindStringSubmatch(word)
			if m == nil {
				t.Fatalf("%s: %q is no term", line, word)
			}
			if m[2] == "=" {
				if !slices.Contains([]string{"GROUP", "MODE", "GOTO", "LABEL"}, m[1]) {
					t.Fatalf("%s: sets %s", line, m[1])
				}
				gives[m[1]] = m[3]
				continue
			}
			one := slices.ContainsFunc(strings.Split(m[3], "|"), func(pattern string) bool {
				ok, err := path.Match(pattern, device[m[1]])
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				return ok
			})
			fits = fits && one == (m[2] == "==")
		}
		switch {
		case skip != "":
			if gives["LABEL"] == skip {
				skip = ""
			}
		case fits && gives["GROUP"] != "":
			given = gives["GROUP"] + " " + gives["MODE"]
		case fits:
			skip = gives["GOTO"]
		}
	}
	if skip != "" {
		t.Fatalf("no label %s", skip)
	}
	return given
}

func TestRules(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("70-coinop.rules")
	if err != nil {
		t.Fatal(err)
	}
	port := func(kernel string) map[string]string {
		return map[string]string{"ACTION": "add", "SUBSYSTEM": "tty", "KERNEL": kernel}
	}
	hid := func(vendor string) map[string]string {
		return map[string]string{"ACTION": "add", "SUBSYSTEM": "hidraw", "KERNEL": "hidraw0", "ATTRS{idVendor}": vendor}
	}
	usb := func(vendor, interfaces string) map[string]string {
		return map[string]string{
			"ACTION": "add", "SUBSYSTEM": "usb", "ENV{DEVTYPE}": "usb_device", "ATTR{idVendor}": vendor, "ENV{ID_USB_INTERFACES}": interfaces,
		}
	}
	gone := port("ttyUSB0")
	gone["ACTION"] = "remove"
	for _, c := range []struct {
		name   string
		device map[string]string
		want   string
	}{
		{"a serial chip's port", port("ttyUSB12"), "coinop 0660"},
		{"a modem class port", port("ttyACM0"), "coinop 0660"},
		{"the computer's own", port("ttyS0"), ""},
		{"it goes", gone, ""},
		{"a reader's reports", hid("0acd"), "coinop 0660"},
		{"a keyboard's reports", hid("046d"), ""},
		{"a reader", usb("0acd", ":030000:"), "coinop 0664"},
		{"a serial chip", usb("0403", ":ffffff:"), "coinop 0664"},
		{"CDC ACM of any maker", usb("cafe", ":020201:0a0000:"), "coinop 0664"},
		{"a disk with a chip of such a maker", usb("067b", ":080650:"), ""},
		{"a hub", usb("1a86", ":090000:"), ""},
		{"a keyboard", usb("046d", ":030101:"), ""},
	} {
		if got := apply(t, string(rules), c.device); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
