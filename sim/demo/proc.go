package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Deadlines of processes.
const (
	readyIn   = 20 * time.Second
	stoppedIn = 15 * time.Second
)

// proc is a process we started; we end it by its own handle and no other way.
type proc struct {
	name  string
	log   string
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of Wait, after ended
	leave bool  // we ended it, or have said that it ended by itself
}

// errEnded means that a process is gone that should be there.
var errEnded = errors.New("ended by itself")

// start runs a program with its output at the end of a log file. stdin and stdout are pipes or nil:
// with anything else the end of the process would wait for a copy of it.
func start(name, log string, stdin, stdout *os.File, bin string, args ...string) (*proc, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o750); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()                                                              // the child has its own
	p := &proc{name: name, log: log, cmd: exec.Command(bin, args...), ended: make(chan struct{})} //nolint:gosec // ours
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	// A group of its own: Ctrl-C is for us, who end it in order. And it does not outlive us.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w; make build makes the programs", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// alive reports whether it still runs.
func (p *proc) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// ready waits for the file the process writes when it serves, and returns what it says.
func (p *proc) ready(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readyIn, fmt.Errorf("%s was not ready in %s; see %s", p.name, readyIn, p.log))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if b, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(b)), nil
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return "", p.died()
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// died says how it ended, with the last it had to say; it is said once.
func (p *proc) died() error {
	p.leave = true
	return fmt.Errorf("%s %w: %v; see %s\n%s", p.name, errEnded, p.err, p.log, lastLines(p.log, 3))
}

// stop asks it to end by SIGTERM. One that does not in time is killed, which is an error; so is an
// exit code other than 0.
func (p *proc) stop() error {
	if p == nil {
		return nil
	}
	if !p.alive() {
		if p.leave {
			return nil
		}
		return p.died()
	}
	p.leave = true
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	t := time.NewTimer(stoppedIn)
	defer t.Stop()
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("%s stopped with %w; see %s\n%s", p.name, p.err, p.log, lastLines(p.log, 3))
		}
		return nil
	case <-t.C:
		p.kill()
		return fmt.Errorf("%s did not stop by itself within %s of SIGTERM", p.name, stoppedIn)
	}
}

// kill ends it at once, SIGKILL, and waits for the end.
func (p *proc) kill() {
	if p == nil {
		return
	}
	p.leave = true
	_ = p.cmd.Process.Kill()
	<-p.ended
}

func lastLines(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-n):], "\n  ")
}
