package escpos

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coinop/hardware"

	"golang.org/x/sys/unix"
)

// connectTime is for a printer in the local network.
const connectTime = 5 * time.Second

// open opens the way to a printer, by the kind of it: host:port is TCP, a node of the USB printer class
// has no speed, and anything else is a serial line. status is nil where the kernel has none.
func open(ctx context.Context, path string, baud int) (p hardware.Port, status func() (lpStatus, bool), err error) {
	if !strings.HasPrefix(path, "/") {
		p, err = dial(ctx, path)
		return p, nil, err
	}
	if at, err := filepath.EvalSymlinks(path); err == nil && strings.HasPrefix(at, "/dev/usb/") {
		f, err := openLP(path)
		if err != nil {
			return nil, nil, err
		}
		return f, func() (lpStatus, bool) { return statusOf(f) }, nil
	}
	p, err = hardware.OpenTTY(path, baud)
	return p, nil, err
}

// dial opens port 9100 of a printer, or another. It serves one client at a time and resets a second, which
// is then the same as a port that is gone: Supervise comes again.
func dial(ctx context.Context, address string) (hardware.Port, error) {
	d := net.Dialer{Timeout: connectTime, KeepAlive: 15 * time.Second}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, Unreachable(err) // it names the address
	}
	p, ok := c.(hardware.Port)
	if !ok {
		return nil, fmt.Errorf("dial %s: not a stream", address)
	}
	return p, nil
}

// Unreachable is why a printer in the network cannot be reached.
func Unreachable(err error) hardware.Named {
	return hardware.Unreachable(err, CodeName, CodeRefused, CodeNoAnswer)
}

// openLP opens a USB printer device. The kernel lets one process have it at a time.
func openLP(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0) //nolint:gosec // configured
	if err != nil {
		return nil, err
	}
	if err := f.SetWriteDeadline(time.Time{}); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open %s: no printer device: %w", path, err)
	}
	return f, nil
}

// lpGetStatus is LPGETSTATUS of linux/lp.h.
const lpGetStatus = 0x060B

// statusOf asks the kernel how a USB printer is; not ok: it does not know.
func statusOf(f *os.File) (s lpStatus, ok bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, false
	}
	_ = raw.Control(func(fd uintptr) {
		n, err := unix.IoctlGetInt(int(fd), lpGetStatus)
		s, ok = lpStatus(n), err == nil //nolint:gosec // its low byte
	})
	return s, ok
}
