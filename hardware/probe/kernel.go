package probe

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"coinop/hardware/gpio"
	"coinop/hardware/pcsc"
	chip "coinop/hardware/pn532"
	"coinop/hardware/terminal"
	reader "coinop/hardware/vivopay"
)

// keyboardEnd is how the stable names of keyboards end.
const keyboardEnd = "-event-kbd"

// Makers by their USB numbers.
const (
	vendorIDTECH = "0ACD"
	vendorMagTek = "0801"
)

// keyboard is a device that types. It is not opened: who does that takes it from everybody else.
func (f *Found) keyboard(sys string) {
	name := filepath.Base(f.Path)
	if b, err := os.ReadFile(filepath.Join(sys, "class/input", filepath.Base(f.Node), "device/name")); err == nil { //nolint:gosec // the kernel's
		name += " " + strings.TrimSpace(string(b))
	}
	f.byName(name, "scanner")
	if f.Part == "" {
		f.byName(name, "reader")
	}
	switch {
	case f.Part == "scanner":
		f.Driver = "keyboard"
	case f.Part == "reader": // of ID TECH's, what types is a reader of stripes
		f.Driver = "magstripe"
	default:
		f.Aside = true
	}
	f.WhyNot = []string{"a keyboard is not asked: it only types"}
}

// hid is a human interface device by the kernel's word for it.
func (f *Found) hid(ctx context.Context, sys string) {
	at := filepath.Join(sys, "class/hidraw", filepath.Base(f.Node), "device")
	vendor, product, name := identity(filepath.Join(at, "uevent"))
	if _, err := os.Stat(filepath.Join(at, "input")); err == nil && vendor != vendorIDTECH {
		f.Aside, f.WhyNot = true, []string{cmp.Or(name, "it") + " types, or points: see /dev/input/by-id"}
		return
	}
	switch vendor {
	case vendorMagTek:
		f.Part, f.Driver, f.Sure, f.With = "reader", "magstripe", true, []string{"head: magtek"}
		f.Says = fmt.Sprintf("%s, USB %s:%s, by the kernel's word", name, vendor, product)
	case vendorIDTECH, "": // "": a bench
		f.serial(ctx, []question{{driver: "vivopay", part: "reader", open: reader.OpenPort, ask: vivopaySerial, answer: vivopay}})
		if f.Part == "" && vendor != "" && strings.Contains(strings.Join(f.WhyNot, ""), "no answer") {
			f.Part, f.Driver, f.With = "reader", "magstripe", []string{"head: idtech"}
			f.Says = fmt.Sprintf("%s, USB %s:%s, by the kernel's word; it is no ViVOpay", name, vendor, product)
		}
	default:
		f.Aside, f.WhyNot = true, []string{fmt.Sprintf("%s, USB %s:%s, is none that we know", name, vendor, product)}
	}
}

// identity reads what the kernel says of a device: HID_ID=0003:00000ACD:00003530, HID_NAME=….
func identity(uevent string) (vendor, product, name string) {
	file, err := os.Open(uevent) //nolint:gosec // the kernel's
	if err != nil {
		return "", "", ""
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		switch key, value, _ := strings.Cut(lines.Text(), "="); key {
		case "HID_ID":
			if ids := strings.Split(value, ":"); len(ids) == 3 && len(ids[1]) == 8 && len(ids[2]) == 8 {
				vendor, product = strings.ToUpper(ids[1][4:]), strings.ToUpper(ids[2][4:])
			}
		case "HID_NAME":
			name = printable(value)
		}
	}
	return vendor, product, name
}

func (f *Found) i2c(named bool) {
	if !named {
		f.Aside, f.WhyNot = true, []string{"an I2C bus is asked only where it is named (--port " + f.Path + "): another chip could take the question for a command"}
		return
	}
	says, err := chip.Identify(f.Path)
	if err != nil {
		f.WhyNot = []string{"pn532: no answer: " + err.Error()}
		return
	}
	f.Part, f.Driver, f.Says, f.Sure = "reader", "pn532", says, true
}

// pins are a chip's lines.
func (f *Found) pins() {
	f.Aside = true
	says, err := gpio.Chip(filepath.Base(f.Node))
	if err != nil {
		f.WhyNot = []string{reasonOf(err)}
		return
	}
	f.Part, f.Driver, f.Says, f.Sure = "pins", "gpio", says, true
}

// Readers are those of the service pcscd; an empty socket is the usual one. Their paths begin with "pcscd:".
func Readers(ctx context.Context, socket string) (all []Found, err error) {
	names, err := pcsc.Names(ctx, socket)
	for _, name := range names {
		all = append(all, Found{
			Path: "pcscd:" + name, Node: name, Part: "reader", Driver: "pcsc", Says: name + ", by pcscd's word", Sure: true,
			With: []string{fmt.Sprintf("name: %q", name)},
		})
	}
	return all, err
}

// Terminal asks at host:port for a payment terminal's status (ZVT, 05 01).
func Terminal(ctx context.Context, address string) Found {
	f := Found{Path: address, Node: address}
	says, err := terminal.Identify(ctx, address)
	if err != nil {
		f.WhyNot = []string{"zvt: no answer: " + err.Error()}
		return f
	}
	f.Part, f.Driver, f.Says, f.Sure = "terminal", "zvt", says, true
	return f
}

// console reports a serial line that the kernel talks on (Documentation/ABI/testing/sysfs-tty).
func console(sys, node string) bool {
	active, err := os.ReadFile(filepath.Join(sys, "class/tty/console/active"))
	return err == nil && slices.Contains(strings.Fields(string(active)), node)
}
