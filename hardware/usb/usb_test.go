package usb

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// tree is a computer with a hub, a reader and a printer behind it, and a serial line of its own.
func tree(t *testing.T) (Tree, func(port string) string) {
	t.Helper()
	dir := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, to string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Symlink(filepath.Join(dir, to), path)); err != nil {
			t.Fatal(err)
		}
	}
	device := func(at, bus, dev, class, product string) {
		at = "sys/devices/pci0/usb1/" + at + "/"
		put(at+"busnum", bus+"\n")
		put(at+"devnum", dev+"\n")
		put(at+"bDeviceClass", class+"\n")
		put(at+"product", product+"\n")
		put(at+"idVendor", "0acd\n")
		put(at+"idProduct", "3530\n")
	}
	device("1-1", "1", "2", "09", "USB2.0 Hub")
	device("1-1/1-1.2", "1", "14", "00", "VP3300\x01")
	put("sys/devices/pci0/usb1/1-1/1-1.2/1-1.2:1.0/ttyUSB0/dev", "188:0")
	link("sys/class/tty/ttyUSB0/device", "sys/devices/pci0/usb1/1-1/1-1.2/1-1.2:1.0/ttyUSB0")
	put("sys/devices/pci0/usb1/1-1/1-1:1.0/x", "")
	link("sys/class/hidraw/hidraw0/device", "sys/devices/pci0/usb1/1-1/1-1:1.0")
	put("sys/devices/platform/serial8250/x", "")
	link("sys/class/tty/ttyS0/device", "sys/devices/platform/serial8250")
	for _, name := range []string{"ttyUSB0", "hidraw0", "ttyS0"} {
		put("dev/"+name, "")
	}
	link("dev/serial/by-id/usb-ID_TECH-if00", "dev/ttyUSB0")
	return Tree{Sys: filepath.Join(dir, "sys"), Dev: filepath.Join(dir, "dev")}, func(port string) string { return filepath.Join(dir, "dev", port) }
}

func TestFind(t *testing.T) {
	t.Parallel()
	u, dev := tree(t)
	for _, port := range []string{"ttyUSB0", "serial/by-id/usb-ID_TECH-if00"} {
		var sent []string
		u.Send = func(node string) error { sent = append(sent, node); return nil }
		d, err := u.Find(dev(port))
		if err != nil || d.Node != dev("bus/usb/001/014") || d.Name != "VP3300 0acd:3530" {
			t.Fatalf("%s: %+v %v", port, d, err)
		}
		if err := d.Reset(); err != nil || len(sent) != 1 || sent[0] != d.Node {
			t.Errorf("%q %v", sent, err)
		}
	}
	for what, port := range map[string]string{"a line of the computer's own": "ttyS0", "what hangs at a hub alone": "hidraw0", "not there": "ttyUSB9"} {
		if d, err := u.Find(dev(port)); !errors.Is(err, ErrNoUSB) {
			t.Errorf("%s: %+v %v", what, d, err)
		}
	}
}

// The kernel's own word for a node that is none.
func TestReset(t *testing.T) {
	t.Parallel()
	u, dev := tree(t)
	d, err := u.Find(dev("ttyUSB0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Reset(); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(d.Node), 0o700), os.WriteFile(d.Node, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := d.Reset(); err == nil {
		t.Error("a file was reset")
	}
}
