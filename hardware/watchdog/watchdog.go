// Package watchdog restarts the box, or the agent, when the agent hangs: it must be kicked, and nobody but a
// healthy agent does. Device is the kernel's (/dev/watchdog), Service is systemd's.
//
//	w, err := watchdog.Open("/dev/watchdog", 15*time.Second)
//	for healthy() { w.Kick(); time.Sleep(w.Every()) }
//	w.Close() // ended on purpose: disarmed
package watchdog

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of linux/watchdog.h.
const (
	setTimeout = 0xC0045706 // WDIOC_SETTIMEOUT: seconds in, those that it took out
	keepAlive  = 0x80045705 // WDIOC_KEEPALIVE
	magicClose = 'V'        // before Close: disarm, unless the kernel was built with nowayout
)

// Device is the kernel's watchdog. Only one process has it open.
type Device struct {
	f       *os.File
	timeout time.Duration
	ioctl   func(fd uintptr, request uint, value *int32) error
}

// Open opens and arms it: from here on it wants to be kicked. timeout is in whole seconds; the driver may take
// another (Timeout says which), as bcm2835 no more than 15 s.
func Open(path string, timeout time.Duration) (*Device, error) {
	return open(path, timeout, ioctl)
}

func open(path string, timeout time.Duration, ioctl func(uintptr, uint, *int32) error) (*Device, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // the technician's
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	d := &Device{f: f, timeout: timeout, ioctl: ioctl}
	seconds := int32(timeout / time.Second) //nolint:gosec // minutes
	switch err := d.control(setTimeout, &seconds); {
	case err == nil && seconds > 0:
		d.timeout = time.Duration(seconds) * time.Second
	case err == nil, errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EOPNOTSUPP): // it has one of its own
	default:
		return nil, errors.Join(fmt.Errorf("watchdog %s: timeout %v: %w", path, timeout, err), d.Close())
	}
	return d, d.Kick()
}

func ioctl(fd uintptr, request uint, value *int32) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(unsafe.Pointer(value))) //nolint:gosec // as the kernel wants it
	if errno != 0 {
		return errno
	}
	return nil
}

func (d *Device) control(request uint, value *int32) error {
	raw, err := d.f.SyscallConn()
	if err != nil {
		return err
	}
	var said error
	if err := raw.Control(func(fd uintptr) { said = d.ioctl(fd, request, value) }); err != nil {
		return err
	}
	return said
}

// Timeout is after how long without a kick it restarts the box.
func (d *Device) Timeout() time.Duration { return d.timeout }

// Every is how often to kick it: four times in its timeout.
func (d *Device) Every() time.Duration { return d.timeout / 4 }

// Kick says that all is well.
func (d *Device) Kick() error {
	var none int32
	err := d.control(keepAlive, &none)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) { // any byte will do
		_, err = d.f.Write([]byte{0})
	}
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	return nil
}

// Close disarms it.
func (d *Device) Close() error {
	_, err := d.f.Write([]byte{magicClose})
	return errors.Join(err, d.f.Close())
}
