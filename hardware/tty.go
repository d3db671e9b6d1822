package hardware

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

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
	fd, err := openNode(path)
	if err != nil {
		return nil, err
	}
	err = setRaw(fd, speed)
	var p Port
	if err == nil {
		p, err = newTTY(fd, path)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return p, nil
}

// TTY is an open serial line. Its bytes come all day and mostly mean nothing (a bus is polled 40 times a second),
// so it is made to cost little where an *os.File costs a wake or two more for each message:
//
//   - an *os.File waits for room to write with every wait for input, so whatever has left the line wakes us
//     once more. This one waits for input alone, and for room only when there was none.
//   - an *os.File tells the scheduler of each system call, and that starts a thread of the runtime which watches
//     for calls that last. These calls cannot: the line never waits.
//
// One goroutine reads, one writes; Close may come from any, and ends both.
type TTY struct {
	fd   int
	path string

	in   watch // for input
	read struct {
		sync.Mutex
		attempt func(uintptr) bool
		b       []byte
		n       int
		errno   syscall.Errno
	}

	out   watch // for room, which is looked for anew each time
	write struct {
		sync.Mutex
		now     func(uintptr)
		attempt func(uintptr) bool
		by      time.Time // zero: any time will do
		b       []byte
		n       int
		errno   syscall.Errno
	}

	once   sync.Once
	closed error // of Close
}

// watch is an epoll instance of a single descriptor. What it is told of is all that wakes who waits for it.
type watch struct {
	epoll *os.File
	raw   syscall.RawConn
}

func watchFor(fd int, events uint32, path string) (w watch, err error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return w, err
	}
	err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events})
	if err == nil {
		err = unix.SetNonblock(ep, true) // or the runtime would not wait for it
	}
	if err != nil {
		_ = unix.Close(ep)
		return w, err
	}
	w.epoll = os.NewFile(uintptr(ep), path) //nolint:gosec // a descriptor
	if err = w.epoll.SetReadDeadline(time.Time{}); err == nil {
		w.raw, err = w.epoll.SyscallConn()
	}
	if err != nil {
		_ = w.epoll.Close()
	}
	return w, err
}

// newTTY takes over a descriptor that never waits.
func newTTY(fd int, path string) (*TTY, error) {
	t := &TTY{fd: fd, path: path}
	var err error
	if t.in, err = watchFor(fd, unix.EPOLLIN, path); err != nil {
		return nil, err
	}
	if t.out, err = watchFor(fd, unix.EPOLLONESHOT, path); err != nil {
		_ = t.in.epoll.Close()
		return nil, err
	}
	t.read.attempt, t.write.attempt = t.tryRead, t.tryWrite
	t.write.now = func(uintptr) { t.write.n, t.write.errno = transfer(unix.SYS_WRITE, t.fd, t.write.b) }
	return t, nil
}

// Read waits for bytes.
func (t *TTY) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	r := &t.read
	r.Lock()
	defer r.Unlock()
	r.b, r.n, r.errno = b, 0, 0
	err := t.in.raw.Read(r.attempt)
	r.b = nil
	switch {
	case err != nil:
		return 0, t.failed("read", err)
	case r.errno != 0:
		return 0, t.failed("read", r.errno)
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

// tryRead is called while the descriptor is certainly open; false: there was nothing.
func (t *TTY) tryRead(uintptr) bool {
	t.read.n, t.read.errno = transfer(unix.SYS_READ, t.fd, t.read.b)
	return t.read.errno != unix.EAGAIN
}

// Write writes all of b, or what there is room for until the deadline.
func (t *TTY) Write(b []byte) (done int, err error) {
	w := &t.write
	w.Lock()
	defer w.Unlock()
	for done < len(b) {
		w.b, w.n, w.errno = b[done:], 0, 0
		if err = t.out.raw.Control(w.now); err == nil && w.errno == unix.EAGAIN {
			if err = t.out.epoll.SetReadDeadline(w.by); err == nil {
				err = t.out.raw.Read(w.attempt)
			}
		}
		w.b = nil
		if err == nil && w.errno != 0 {
			err = w.errno
		}
		if err != nil {
			return done, t.failed("write", err)
		}
		done += w.n
	}
	return done, nil
}

// tryWrite is called while the descriptor is certainly open; false: there was no room, and there will be a wake
// when there is.
func (t *TTY) tryWrite(epoll uintptr) bool {
	w := &t.write
	w.n, w.errno = transfer(unix.SYS_WRITE, t.fd, w.b)
	if w.errno != unix.EAGAIN {
		return true
	}
	w.n = 0
	err := unix.EpollCtl(int(epoll), unix.EPOLL_CTL_MOD, t.fd, &unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLONESHOT}) //nolint:gosec // a descriptor
	if err != nil {
		w.errno, _ = errors.AsType[syscall.Errno](err)
	}
	return err != nil
}

// transfer is read(2) or write(2) of a descriptor that never waits, unknown to the scheduler.
func transfer(trap uintptr, fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // as package syscall does
		switch errno {
		case 0:
			return int(n), 0 //nolint:gosec // at most len(b)
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// SetReadDeadline ends a Read that waits then, and those after it until there is another.
func (t *TTY) SetReadDeadline(at time.Time) error { return t.in.epoll.SetReadDeadline(at) }

// SetWriteDeadline is how long the next Write may wait for room.
func (t *TTY) SetWriteDeadline(at time.Time) error {
	t.write.Lock()
	defer t.write.Unlock()
	t.write.by = at
	return nil
}

// Control calls f with the descriptor, which stays open meanwhile.
func (t *TTY) Control(f func(fd int) error) error {
	var err error
	if e := t.in.raw.Control(func(uintptr) { err = f(t.fd) }); e != nil {
		return t.failed("control", e)
	}
	return err
}

// Close ends who waits, and returns when nobody uses the descriptor any more.
func (t *TTY) Close() error {
	t.once.Do(func() {
		t.closed = errors.Join(t.in.epoll.Close(), t.out.epoll.Close())
		unlock(t.fd)
		t.closed = errors.Join(t.closed, unix.Close(t.fd))
	})
	return t.closed
}

// failed names what went wrong. os.ErrDeadlineExceeded stays what it is, and a line that was closed is os.ErrClosed.
func (t *TTY) failed(op string, err error) error {
	if _, of := errors.AsType[syscall.Errno](err); !of && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = os.ErrClosed
	}
	return &os.PathError{Op: op, Path: t.path, Err: err}
}

// OpenNode opens a device's node without waiting, locked with flock until it is closed: one program, or one
// driver, has a device at a time. The error says so where another has it. A node is hidraw's, a serial line's, or
// what stands for one.
func OpenNode(path string) (*Node, error) {
	fd, err := openNode(path)
	if err != nil {
		return nil, err
	}
	return &Node{os.NewFile(uintptr(fd), path)}, nil //nolint:gosec // a descriptor
}

// Node is what OpenNode has locked.
type Node struct{ *os.File }

// Close lets another have it.
func (n *Node) Close() error {
	if raw, err := n.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { unlock(int(fd)) }) //nolint:gosec // a descriptor
	}
	return n.File.Close()
}

// unlock comes before a close: a process that is being started has a copy of every descriptor until it runs its
// program, and a lock lasts as long as the last copy.
func unlock(fd int) { _ = unix.Flock(fd, unix.LOCK_UN) }

func openNode(path string) (fd int, err error) {
	for { // a signal of the runtime's may come between
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("open %s: another process has it: %w", path, err)
	}
	return fd, nil
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
