package hardware

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lineTo is a line and its far end.
func lineTo(t *testing.T) (*TTY, *os.File) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	raw, err := far.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n uint32
	err = raw.Control(func(fd uintptr) {
		if err := unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			t.Error(err)
		}
		if n, err = unix.IoctlGetUint32(int(fd), unix.TIOCGPTN); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := OpenTTY(fmt.Sprintf("/dev/pts/%d", n), 9600)
	if err != nil {
		t.Fatal(err)
	}
	line, ok := p.(*TTY)
	if !ok {
		t.Fatalf("%T", p)
	}
	t.Cleanup(func() { _ = line.Close() })
	return line, far
}

// fill writes until there is no room, and no time to wait for it.
func fill(t *testing.T, line *TTY) (n int) {
	t.Helper()
	for {
		_ = line.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		done, err := line.Write(bytes.Repeat([]byte{'x'}, 4096))
		n += done
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			return n
		}
	}
}

// later calls f when the goroutine that called has most likely begun to wait; the tests hold without, too.
func later(f func()) { time.AfterFunc(20*time.Millisecond, f) }

func TestTTY(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]func(t *testing.T, line *TTY, far *os.File){
		"what comes is read": func(t *testing.T, line *TTY, far *os.File) {
			b := make([]byte, 16)
			for _, want := range []string{"\xFF\x00\x12", "again"} {
				later(func() { _, _ = far.WriteString(want) })
				if n, err := line.Read(b); string(b[:n]) != want || err != nil {
					t.Fatalf("%q, %v, want %q", b[:n], err, want)
				}
			}
		},
		"nothing is read of no room": func(t *testing.T, line *TTY, _ *os.File) {
			if n, err := line.Read(nil); n != 0 || err != nil {
				t.Fatal(n, err)
			}
		},
		"what is written comes": func(t *testing.T, line *TTY, far *os.File) {
			if n, err := line.Write([]byte("\xFF\x00\x00")); n != 3 || err != nil {
				t.Fatal(n, err)
			}
			b := make([]byte, 16)
			if n, err := far.Read(b); string(b[:n]) != "\xFF\x00\x00" || err != nil {
				t.Fatalf("%q, %v", b[:n], err)
			}
		},
		"a Read ends at its deadline, and not without one": func(t *testing.T, line *TTY, far *os.File) {
			later(func() { _ = line.SetReadDeadline(time.Unix(1, 0)) })
			if _, err := line.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			_ = line.SetReadDeadline(time.Time{})
			_, _ = far.WriteString("x")
			if n, err := line.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		},
		"a Write ends at its deadline, and says how much has left": func(t *testing.T, line *TTY, far *os.File) {
			sent := fill(t, line)
			if sent == 0 {
				t.Fatal("nothing has left")
			}
			if n, err := io.ReadFull(far, make([]byte, sent)); n != sent || err != nil {
				t.Fatal(n, err)
			}
		},
		"a Write waits for room": func(t *testing.T, line *TTY, far *os.File) {
			sent := fill(t, line)
			_ = line.SetWriteDeadline(time.Now().Add(time.Minute))
			later(func() { _, _ = io.CopyN(io.Discard, far, int64(sent)+4096) })
			if n, err := line.Write(make([]byte, 4096)); n != 4096 || err != nil {
				t.Fatal(n, err)
			}
		},
		"a deadline of the Write before does not end the next": func(t *testing.T, line *TTY, far *os.File) {
			sent := fill(t, line)
			_, _ = io.CopyN(io.Discard, far, int64(sent))
			if n, err := line.Write([]byte("x")); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		},
		"Close ends a Read": func(t *testing.T, line *TTY, _ *os.File) {
			later(func() { _ = line.Close() })
			if _, err := line.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
				t.Fatal(err)
			}
		},
		"Close ends a Write": func(t *testing.T, line *TTY, _ *os.File) {
			fill(t, line)
			_ = line.SetWriteDeadline(time.Time{})
			later(func() { _ = line.Close() })
			if _, err := line.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrClosed) {
				t.Fatal(err)
			}
		},
		"after Close there is nothing": func(t *testing.T, line *TTY, _ *os.File) {
			err1, err2 := line.Close(), line.Close()
			_, err3 := line.Read(make([]byte, 1))
			_, err4 := line.Write([]byte("x"))
			err5 := line.Control(func(int) error { return nil })
			if err1 != nil || err2 != nil || !errors.Is(err3, os.ErrClosed) || !errors.Is(err4, os.ErrClosed) || !errors.Is(err5, os.ErrClosed) {
				t.Fatal(err1, err2, err3, err4, err5)
			}
		},
		"the far end goes": func(t *testing.T, line *TTY, far *os.File) {
			later(func() { _ = far.Close() })
			if n, err := line.Read(make([]byte, 1)); n != 0 || !errors.Is(err, unix.EIO) && !errors.Is(err, io.EOF) {
				t.Fatal(n, err)
			}
			if _, err := line.Write([]byte("x")); err == nil {
				t.Fatal("written to nobody")
			}
		},
		"another does not get it meanwhile": func(t *testing.T, line *TTY, _ *os.File) {
			if _, err := OpenTTY(line.path, 9600); err == nil {
				t.Fatal("opened twice")
			}
		},
		// Each would wake the agent once for each message it wrote: 40 times a second on a bus.
		"what has left wakes nobody": func(t *testing.T, line *TTY, far *os.File) {
			if _, err := line.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := far.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			for _, w := range []watch{line.in, line.out} {
				err := w.raw.Control(func(fd uintptr) {
					if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
						t.Errorf("%d, %v", n, err)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line, far := lineTo(t)
			check(t, line, far)
		})
	}
}

// A line that is closed can be opened at once, though a process that is being started has a copy of its descriptor.
func TestLockEndsWithClose(t *testing.T) {
	t.Parallel()
	line, _ := lineTo(t)
	if _, err := OpenNode(line.path); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatalf("open while another has it: %v", err)
	}
	var copied int
	if err := line.Control(func(fd int) (err error) { copied, err = unix.Dup(fd); return err }); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(copied)
	if err := line.Close(); err != nil {
		t.Fatal(err)
	}
	node, err := OpenNode(line.path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := node.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var again int
	if err := raw.Control(func(fd uintptr) { again, err = unix.Dup(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	last, err := OpenTTY(line.path, 9600)
	if err != nil {
		t.Fatal(err)
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
}
