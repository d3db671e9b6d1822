package hardware

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Port is an open way to a device. Close ends a Read or Write that waits.
type Port interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	SetWriteDeadline(time.Time) error
	Close() error
}

var bauds = map[int]uint32{
	1200: unix.B1200, 2400: unix.B2400, 4800: unix.B4800, 9600: unix.B9600, 19200: unix.B19200,
	38400: unix.B38400, 57600: unix.B57600, 115200: unix.B115200, 230400: unix.B230400,
}

// OpenTTY opens a serial line raw, 8N1, without flow control. A pty will do.
//
// It is not go.bug.st/serial's: there a Write that a hung device never takes cannot be ended, so Run
// could not end either; and its exclusive flag (TIOCEXCL) stays on a pty when we are killed. This one
// is non-blocking with deadlines, and locked with flock, which the kernel gives back. What was
// received before the opening is kept: an adapter's result that came while we were dead is in it.
func OpenTTY(path string, baud int) (Port, error) {
	speed, ok := bauds[baud]
	if !ok {
		return nil, fmt.Errorf("open %s: no such speed: %d baud", path, baud)
	}
	f, err := OpenNode(path)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err == nil {
		var inner error
		if err = raw.Control(func(fd uintptr) { inner = setRaw(int(fd), speed) }); err == nil {
			err = inner
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return f, nil
}

// OpenNode opens a device's node without waiting, locked with flock until it is closed: one program, or one
// driver, has a device at a time. The error says so where another has it. A node is hidraw's, a serial line's, or
// what stands for one.
func OpenNode(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0) //nolint:gosec // configured
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err == nil {
		var inner error
		err = raw.Control(func(fd uintptr) { inner = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) }) //nolint:gosec // a descriptor
		err = errors.Join(err, inner)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open %s: another process has it: %w", path, err)
	}
	return f, nil
}

func setRaw(fd int, speed uint32) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("not a serial line: %w", err)
	}
	Raw(t)
	t.Cflag &^= unix.CBAUD | unix.CSTOPB | unix.CRTSCTS
	t.Cflag |= unix.CREAD | unix.CLOCAL | speed
	t.Ispeed, t.Ospeed = speed, speed
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// Raw sets a terminal to pass every byte as it is (cfmakeraw).
func Raw(t *unix.Termios) {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL |
		unix.IXON | unix.IXOFF | unix.INPCK
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
}
