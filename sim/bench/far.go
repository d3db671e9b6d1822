package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"

	"coinop/cloud"
	"coinop/cloud/broker"
	"coinop/cloud/identity"
)

// What is measured by its process runs in one of its own: this program again, with a word before the
// arguments that its main hands to Far.
//
//	cloud DIR BANK   a cloud with a link to a bank
//	bare DIR BANK    the same chain without what makes it safe
//	tls DIR          the least a broker can do: accept connections of the cloud's devices, and hold them
//
// It says its address on standard output, and obeys standard input: "profile FILE" begins a CPU profile,
// "end" ends it. It ends with its standard input.

// Far is the other process.
func Far(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := func(addr string) { fmt.Fprintln(out, addr) }
	obeying := make(chan error, 1)
	go func() {
		defer cancel()
		obeying <- obey(in, out)
	}()
	var err error
	switch {
	case len(args) == 3 && args[0] == "cloud":
		cloud.PaceCollector()
		err = cloud.Run(ctx, cloud.Config{
			Dir: args[1], Listen: "127.0.0.1:0", Ready: ready,
			Rate:      broker.Rate{Messages: 1e6, MessagesBurst: 1e6}, // one device asks as many would
			Acquirers: []cloud.Acquirer{{Name: "bank", Addr: args[2], Institution: "00000000001"}},
		})
	case len(args) == 3 && args[0] == "bare":
		cloud.PaceCollector()
		err = runBare(ctx, args[1], args[2], ready)
	case len(args) == 2 && args[0] == "tls":
		cloud.PaceCollector()
		err = hold(ctx, args[1], ready)
	default:
		return fmt.Errorf("bench: no such process: %q", args)
	}
	cancel()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, <-obeying)
}

func obey(in io.Reader, out io.Writer) error {
	for lines := bufio.NewScanner(in); lines.Scan(); fmt.Fprintln(out, "done") {
		word, path, _ := strings.Cut(lines.Text(), " ")
		if word != "profile" {
			pprof.StopCPUProfile()
			continue
		}
		f, err := os.Create(path)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hold accepts, shakes hands, says one byte, and waits for the end of each connection.
func hold(ctx context.Context, dir string, ready func(string)) error {
	keys, err := identity.OpenKeys(filepath.Join(dir, "keys"), time.Now())
	if err != nil {
		return err
	}
	l, err := listen(keys)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	ready(l.Addr().String())
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		all.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			if _, err := c.Write([]byte{1}); err == nil {
				_, _ = c.Read(make([]byte, 1))
			}
			_ = c.Close()
		})
	}
}

// process is a Far seen from here.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	addr string
}

func startFar(ctx context.Context, program []string, args ...string) (*process, error) {
	args = append(append([]string(nil), program[1:]...), args...)
	p := &process{cmd: exec.CommandContext(ctx, program[0], args...)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	var out io.ReadCloser
	var err error
	if p.in, err = p.cmd.StdinPipe(); err == nil {
		out, err = p.cmd.StdoutPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %v: %w", args, err)
	}
	p.out = bufio.NewReader(out)
	if p.addr, err = p.line(); err != nil {
		return nil, errors.Join(fmt.Errorf("%v does not come up: %w", args, err), p.stop())
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) line() (string, error) {
	s, err := p.out.ReadString('\n')
	return strings.TrimSpace(s), err
}

func (p *process) do(order string) error {
	if _, err := fmt.Fprintln(p.in, order); err != nil {
		return err
	}
	if s, err := p.line(); err != nil || s != "done" {
		return fmt.Errorf("%s: %q %w", order, s, err)
	}
	return nil
}

func (p *process) stop() error {
	_ = p.in.Close()
	return p.cmd.Wait()
}
