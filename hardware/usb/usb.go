// Package usb resets devices at USB, as pulling the cable and putting it in again would, but for their power: the step
// between opening a port anew and taking a device's power away.
//
//	at, err := usb.Tree{}.Find("/dev/serial/by-id/usb-ID_TECH_VP3300-if00")
//	err = at.Reset()
//
// What has the device open sees its port go, and opens it again. A hub is never reset: what is found is the device
// that a port belongs to, and nothing above it.
//
// Source: Linux, include/uapi/linux/usbdevice_fs.h (USBDEVFS_RESET) and Documentation/ABI/testing/sysfs-bus-usb.
package usb

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoUSB means that a port is not there, or belongs to no device at USB.
var ErrNoUSB = errors.New("no device at USB")

// Tree is where the kernel says what there is. The zero value is this computer's; a test has one of its own.
type Tree struct {
	Sys, Dev string                  // /sys, /dev
	Send     func(node string) error // the reset; nil: USBDEVFS_RESET at the node
}

// Device is one that was found.
type Device struct {
	Node string // /dev/bus/usb/001/004
	Name string // what it calls itself, with its numbers: "VP3300 0acd:3530"
	send func(node string) error
}

// classes are where ports stand, below /sys/class.
var classes = []string{"tty", "hidraw", "usbmisc", "input"}

// Find is the device of a port, by any of its names. ErrNoUSB.
func (t Tree) Find(port string) (Device, error) {
	node, err := filepath.EvalSymlinks(port)
	if err != nil {
		return Device{}, fmt.Errorf("%s: %w", port, ErrNoUSB)
	}
	sys := cmp.Or(t.Sys, "/sys")
	for _, class := range classes {
		at, err := filepath.EvalSymlinks(filepath.Join(sys, "class", class, filepath.Base(node), "device"))
		if err != nil {
			continue
		}
		root, err := filepath.EvalSymlinks(sys)
		if err != nil {
			root = sys
		}
		for ; strings.HasPrefix(at, root+"/"); at = filepath.Dir(at) {
			bus, dev := number(at, "busnum"), number(at, "devnum")
			if bus == 0 || dev == 0 {
				continue
			}
			if word(at, "bDeviceClass") == "09" {
				break // a hub: others hang at it
			}
			d := Device{
				Node: filepath.Join(cmp.Or(t.Dev, "/dev"), fmt.Sprintf("bus/usb/%03d/%03d", bus, dev)), send: t.Send,
				Name: strings.TrimSpace(word(at, "product") + " " + word(at, "idVendor") + ":" + word(at, "idProduct")),
			}
			if d.send == nil {
				d.send = reset
			}
			return d, nil
		}
	}
	return Device{}, fmt.Errorf("%s: %w", port, ErrNoUSB)
}

// Reset resets it; fs.ErrPermission where this user may not.
func (d Device) Reset() error { return d.send(d.Node) }

const usbdevfsReset = 0x5514 // _IO('U', 20)

func reset(node string) error {
	f, err := os.OpenFile(node, os.O_WRONLY, 0) //nolint:gosec // the kernel's
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = unix.IoctlSetInt(int(fd), usbdevfsReset, 0) }); err != nil { //nolint:gosec // a descriptor
		return err
	}
	if inner != nil {
		return fmt.Errorf("reset %s: %w", node, inner)
	}
	return nil
}

func word(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // the kernel's
	if err != nil {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, strings.TrimSpace(string(b[:min(len(b), 80)])))
}

func number(dir, name string) int {
	n, err := strconv.Atoi(word(dir, name))
	if err != nil || n < 0 || n > 999 {
		return 0
	}
	return n
}
