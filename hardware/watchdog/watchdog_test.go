package watchdog

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDevice: the requests of linux/watchdog.h, what the driver makes of the timeout, and the magic close.
func TestDevice(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var asked []uint
	d, err := open(path, time.Minute, func(_ uintptr, request uint, value *int32) error {
		asked = append(asked, request)
		if request == setTimeout {
			if *value != 60 {
				t.Errorf("asked for %d s", *value)
			}
			*value = 15 // bcm2835
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if d.Timeout() != 15*time.Second || d.Every() != 3750*time.Millisecond {
		t.Errorf("%v, every %v", d.Timeout(), d.Every())
	}
	if err := errors.Join(d.Kick(), d.Close()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked, []uint{0xC0045706, 0x80045705, 0x80045705}) {
		t.Errorf("%X", asked)
	}
	if b, _ := os.ReadFile(path); string(b) != "V" {
		t.Errorf("written: %q", b)
	}
}

// TestPlainFile: a driver without the requests is kicked by bytes.
func TestPlainFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Kick(), d.Close()); err != nil || d.Timeout() != 20*time.Second {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "\x00\x00V" {
		t.Errorf("written: %q", b)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), time.Second); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	_, err = open(path, 20*time.Second, func(uintptr, uint, *int32) error { return unix.EINVAL })
	if !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
}

// TestSystemd: what a service says to its manager, and whether it is to kick.
func TestSystemd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": strconv.Itoa(os.Getpid())}
	getenv := func(k string) string { return env[k] }
	s, err := Systemd(getenv)
	if err != nil {
		t.Fatal(err)
	}
	if s.Every() != 5*time.Second {
		t.Error(s.Every())
	}
	if err := errors.Join(s.Ready(), s.Kick(), s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"READY=1", "WATCHDOG=1"} {
		b := make([]byte, 64)
		_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := l.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("%q, want %q: %v", b[:n], want, err)
		}
	}
	env["WATCHDOG_PID"] = "1"
	if s, err := Systemd(getenv); err != nil || s.Every() != 0 {
		t.Error("kicks for another process", err)
	} else {
		_ = s.Close()
	}
	env["NOTIFY_SOCKET"] = filepath.Join(t.TempDir(), "none")
	if _, err := Systemd(getenv); err == nil {
		t.Error("nobody is there, and nothing is said of it")
	}
	if s, err := Systemd(func(string) string { return "" }); s != nil || err != nil {
		t.Error(s, err)
	}
}
