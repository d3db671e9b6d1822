// Package keyboard reads devices that type what they read: heads of stripe readers and scanners that are
// keyboards to the computer (evdev). Such a device is a Port of text, as one at a serial line is:
//
//	p, err := keyboard.Open("/dev/input/by-id/usb-…-event-kbd")
//	n, err := p.Read(b)     // ";4761…?\r": what was typed, KEY_ENTER as a carriage return
//
// It is ours alone while it is open (EVIOCGRAB): what a buyer swipes is not typed into a program that
// happens to have the screen. Keys are read as on a US keyboard; set the device to that layout.
//
// Source: Linux, include/uapi/linux/input.h and input-event-codes.h.
package keyboard

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"coinop/hardware"
)

// Lost stands in the text for something that was typed and is not known: the kernel dropped events, or a
// key has no character. What it stands in is not what was read.
const Lost = 0x18 // CAN

const eviocgrab = 0x40044590 // _IOW('E', 0x90, int)

// Open opens an event device and keeps everybody else from it. A serial line will do where its other end
// says events: containers have no uinput, so benches do that.
func Open(path string) (hardware.Port, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0) //nolint:gosec // configured
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err == nil {
		var inner error
		if err = raw.Control(func(fd uintptr) { inner = unix.IoctlSetInt(int(fd), eviocgrab, 1) }); err == nil { //nolint:gosec // a descriptor
			err = inner
		}
	}
	switch {
	case err == nil:
		return &port{Port: f}, nil
	case errors.Is(err, unix.ENOTTY):
		_ = f.Close()
		tty, err := hardware.OpenTTY(path, 115200)
		if err != nil {
			return nil, fmt.Errorf("%w; it is no keyboard (event device) either", err)
		}
		return &port{Port: tty}, nil
	case errors.Is(err, unix.EBUSY):
		err = fmt.Errorf("another program has this keyboard: %w", err)
	}
	_ = f.Close()
	return nil, fmt.Errorf("open %s: %w", path, err)
}

// port is a device's events as text.
type port struct {
	hardware.Port
	d   Decoder
	raw [size * 64]byte
}

// Read waits until something was typed.
func (p *port) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, err := p.Port.Read(p.raw[:min(len(p.raw), size*len(b)-p.d.n)])
		text := p.d.Text(b[:0], p.raw[:n])
		clear(p.raw[:n]) // it may have been a card
		if len(text) > 0 || err != nil {
			return len(text), err
		}
	}
}
