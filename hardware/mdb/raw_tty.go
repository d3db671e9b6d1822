package mdb

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"coinop/hardware"
)

// OpenRaw opens a serial line for the bus's nine bits: 9,600 baud, and the parity bit as the mode bit. A
// pty has no parity; over one, and over a socket, words travel in the form Mark gives them.
func OpenRaw(path string) (hardware.Port, error) {
	p, err := hardware.OpenTTY(path, 9600)
	if err != nil {
		return nil, err
	}
	line, ok := p.(*hardware.TTY)
	if !ok {
		return p, nil
	}
	r := &rawPort{TTY: line}
	if err := r.parity(false); err != nil {
		_ = line.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	// A pty's driver drops PARENB: then there is no ninth bit to switch, and nothing for the kernel to mark.
	err = line.Control(func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if r.plain = err == nil && t.Cflag&unix.PARENB == 0; !r.plain {
			return err
		}
		t.Iflag &^= unix.INPCK | unix.PARMRK
		return unix.IoctlSetTermios(fd, unix.TCSETS, t)
	})
	if err != nil {
		_ = line.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return r, nil
}

// rawPort writes marked words as bytes of the parity that is their mode bit.
type rawPort struct {
	*hardware.TTY
	plain bool
}

// parity sets what is sent from here on, mark or space; what is received is always checked for space.
func (r *rawPort) parity(mark bool) error {
	return r.Control(func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		t.Cflag |= unix.PARENB | unix.CMSPAR
		t.Iflag |= unix.INPCK | unix.PARMRK
		t.Iflag &^= unix.IGNPAR | unix.IGNBRK | unix.BRKINT | unix.ISTRIP
		t.Cflag &^= unix.PARODD
		if mark {
			t.Cflag |= unix.PARODD
		}
		// TCSETSW waits until what was written has left.
		return unix.IoctlSetTermios(fd, unix.TCSETSW, t)
	})
}

// Write sends marked words. n counts bytes of b, as for any port.
func (r *rawPort) Write(b []byte) (n int, err error) {
	if r.plain {
		return r.TTY.Write(b)
	}
	var u Unmark
	u.Peripheral = true
	for i := range b {
		words := u.Add(b[i : i+1])
		if len(words) == 0 {
			continue
		}
		w := words[0]
		mark := w&Mode != 0
		if mark {
			if err := r.parity(true); err != nil {
				return n, err
			}
		}
		if _, err := r.TTY.Write([]byte{byte(w)}); err != nil {
			return n, err
		}
		n = i + 1
		if mark {
			if err := r.parity(false); err != nil {
				return n, err
			}
		}
	}
	return len(b), nil
}

var _ interface{ SetWriteDeadline(time.Time) error } = (*rawPort)(nil)
