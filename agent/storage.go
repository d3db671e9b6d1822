package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"

	"golang.org/x/sys/unix"
)

// Storage says how the journal's disk is kept. Bytes are of free space.
type Storage struct {
	Low         int64         // below it the cloud is told; 128 MB
	Full        int64         // below it no sale begins; 48 MB
	Ballast     int64         // kept back, and given up to end what is under way on a full disk; 16 MB, negative: none
	KeepRecords uint64        // records the cloud has released stay for a cloud restored from a backup; 50,000
	KeepFor     time.Duration // and for how long at most; 30 days
}

const megabyte = 1_000_000

func (c Storage) withDefaults() Storage {
	c.Low, c.Full, c.Ballast = cmp.Or(c.Low, 128*megabyte), cmp.Or(c.Full, 48*megabyte), cmp.Or(c.Ballast, 16*megabyte)
	return c
}

// Spans of storage.
const (
	storageEvery = time.Second // looks at the disk: two system calls
	trimEvery    = time.Minute
	touchEvery   = 30 * time.Second // tries whether it takes a change: a file system that gave up does not say so
	firstRetry   = time.Second      // of a disk that did not work; doubles
	lastRetry    = 30 * time.Second
)

// Again ends a Run whose process is to be replaced by a new one: its disk failed under an open journal and works
// again, and the journal's files are still mapped; or a device stays away. coinop-agent does it by itself.
type Again struct{ After code.Code }

func (e *Again) Error() string {
	return fmt.Sprintf("after %s: the agent must be started anew", e.After)
}

// storageError is an error of the data folder, with its code.
type storageError struct {
	code code.Code
	err  error
}

func (e *storageError) Error() string {
	return fmt.Sprintf("%s: %v; %s", e.code, e.err, code.Of(e.code).Next)
}
func (e *storageError) Unwrap() error { return e.err }

// ofStorage finds the code of an error of the disk; "" when it is of something else.
func ofStorage(err error) code.Code {
	var known *storageError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &known):
		return known.code
	case errors.Is(err, journal.ErrForeign):
		return code.StorageForeign
	case errors.Is(err, journal.ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return code.StorageFull
	case errors.Is(err, syscall.EROFS):
		return code.StorageReadOnly
	case errors.Is(err, journal.ErrFailed), errors.Is(err, journal.ErrCorrupt), errors.Is(err, syscall.EIO):
		return code.StorageFailing
	case errors.Is(err, fs.ErrPermission):
		return code.StorageDenied
	}
	return ""
}

// onDisk marks an error of the data folder.
func onDisk(err error) error {
	if err == nil {
		return nil
	}
	return &storageError{cmp.Or(ofStorage(err), code.StorageFailing), err}
}

// state is what the session must know of a code.
func sessionState(c code.Code) session.StorageState {
	switch c {
	case code.StorageFull:
		return session.StorageFull
	case code.StorageReadOnly:
		return session.StorageReadOnly
	case code.StorageOK, code.StorageLow, code.StorageRebuilt, code.StorageDamaged:
		return session.StorageOK
	default:
		return session.StorageCorrupt
	}
}

// lock makes the data folder ours. The kernel gives a flock back when we die, however that happens.
func lock(dir string) (unlock func(), err error) {
	bad := func(err error) error {
		if c := ofStorage(err); c != "" {
			return &storageError{c, fmt.Errorf("%s: %w", dir, err)}
		}
		return fmt.Errorf("%s %w: %w; check that it is a folder that the user the agent runs as may write to", dir, ErrData, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, bad(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, syscall.EROFS) { // ours nonetheless, to say so
		f, err = os.Open(filepath.Join(dir, lockName))
	}
	if err != nil {
		return nil, bad(err)
	}
	for wait := time.Duration(0); ; wait += askLock {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || wait >= lockTime {
			break
		}
		time.Sleep(askLock)
	}
	if err != nil {
		who := make([]byte, 16)
		n, _ := f.ReadAt(who, 0)
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data folder %s: %w (process %s); stop that one first, or give this agent a folder of its own",
				dir, ErrInUse, strings.TrimSpace(string(who[:n])))
		}
		return nil, bad(err)
	}
	if err = f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	// Who we are is for people; whether the disk takes a journal is seen later.
	if err != nil && ofStorage(err) == "" && !errors.Is(err, syscall.EBADF) && !errors.Is(err, syscall.EINVAL) {
		return nil, errors.Join(bad(err), f.Close())
	}
	return func() { letGo(f) }, nil
}

// A status that is asked for has the lock for a moment: nobody is to start in vain for that.
const (
	lockTime = 200 * time.Millisecond
	askLock  = 10 * time.Millisecond
)

// letGo gives a lock back, and closes: a process that is being started has a copy of the file until it runs its
// program, and the lock would last as long.
func letGo(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) //nolint:gosec // a descriptor
	_ = f.Close()
}

const (
	lockName    = "lock"
	journalName = "journal"
)

// look is the state of the disk by what the kernel says of it, with some room between up and down.
func (s *shell) look() (c code.Code, free int64) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.cfg.Data, &st); err != nil {
		return code.StorageFailing, 0
	}
	free = int64(st.Bavail) * int64(st.Bsize) //nolint:gosec,unconvert // far below; on arm it is an int32
	up := func(now code.Code, limit int64) int64 {
		if s.storage == now {
			return limit + limit/4
		}
		return limit
	}
	full := up(code.StorageFull, s.cfg.Storage.Full)
	low := up(code.StorageLow, s.cfg.Storage.Low)
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		return code.StorageReadOnly, free
	case free < full:
		return code.StorageFull, free
	case free < low:
		return code.StorageLow, free
	}
	return code.StorageOK, free
}

// watch looks at the disk, tells everybody when its state has changed, and lets go of what need not be
// kept. A disk that takes nothing any more ends this life of the shell.
func (s *shell) watch() ([]Input, error) {
	c, free := s.look()
	if s.mono() >= s.touched+touchEvery {
		if err := s.touch(); err != nil {
			return nil, err
		}
	}
	if s.mono() >= s.trim {
		n, err := s.journal.Trim(protocol.At(time.Now()), c != code.StorageOK)
		if err != nil {
			return nil, err
		}
		if s.trim = s.mono() + trimEvery; n > 0 {
			s.trim = s.mono() // there may be more
		}
	}
	if c == s.storage {
		return nil, nil
	}
	s.log.Warn("disk", "code", string(c), "was", string(s.storage), "free_bytes", free, "cause", code.Of(c).Cause, "check", code.Of(c).Next)
	sold := sessionState(s.storage) == session.StorageOK
	s.storage = c
	if c == code.StorageReadOnly || c == code.StorageFailing {
		return nil, &storageError{c, errors.New("seen by the watch")}
	}
	if c == code.StorageOK {
		if err := s.journal.Refill(); err != nil {
			return nil, err
		}
	}
	for _, l := range s.cfg.Lanes {
		if sold != (sessionState(c) == session.StorageOK) {
			s.service(l.Lane)
		}
	}
	return []Input{
		Fault{Code: c, Detail: fmt.Sprintf("%d MB free", free/megabyte)},
		Everywhere{session.Storage{State: sessionState(c)}},
	}, nil
}

// touch changes a file's time, without a sync. It comes before each buyer too: what cannot be recorded
// must not begin.
func (s *shell) touch() error {
	s.touched = s.mono()
	err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(s.cfg.Data, lockName), []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}, 0)
	return onDisk(err)
}

// service puts an idle lane's screen in or out of service.
func (s *shell) service(l protocol.Lane) {
	st, ok := s.device.LaneState(l)
	if !ok || !st.Idle() {
		return // a buyer stands there: what he is shown comes first
	}
	screen, why := s.idleScreen(s.lanes[l])
	sig := hardware.SignalIdle
	if screen == session.ScreenOutOfService {
		sig = hardware.SignalFault
	}
	s.indicate(s.lanes[l], sig)
	s.show(l, screen, money.Amount{}, why)
}

// reason is a code as screens have it: storage_full.
func reason(c code.Code) string { return strings.ReplaceAll(string(c), ".", "_") }

// wait stays up without a journal until the disk seems to work: it says so on every screen and to who
// asks for the status, and tries again less and less often.
func (a *agent) wait(ctx context.Context, cause *storageError, open bool) error {
	f := code.Of(cause.code)
	level := slog.LevelError
	if a.was == cause.code { // again
		level = slog.LevelDebug
	}
	a.log.Log(ctx, level, "no journal: nothing is sold", "code", string(f.Code), "cause", f.Cause, "error", cause.err, "check", f.Next)
	for _, l := range a.cfg.Lanes {
		if a.was != cause.code {
			a.show(l.Lane, session.ScreenOutOfService, money.Amount{}, reason(cause.code))
		}
	}
	a.was = cause.code
	a.tellDown(cause)
	pause := a.retry
	a.beat(pause + openingMost)
	select {
	case <-time.After(pause):
	case <-ctx.Done():
		return nil
	}
	a.retry = min(2*pause, lastRetry)
	if !open {
		return nil
	}
	for { // our own files are still mapped: only when the disk works is it worth a new process
		err := journal.Check(filepath.Join(a.cfg.Data, journalName))
		if err == nil {
			return &Again{cause.code}
		}
		if c := ofStorage(err); c != "" && c != cause.code {
			return a.wait(ctx, &storageError{c, err}, true)
		}
		a.beat(a.retry + openingMost)
		select {
		case <-time.After(a.retry):
			a.retry = min(2*a.retry, lastRetry)
		case <-ctx.Done():
			return nil
		}
	}
}
