// Coinop-agent runs one point of sale: see coinop-agent run --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// heap is what the collector keeps the heap to, as long as what is held fits into it: opening a long
// journal makes much garbage, and the boxes are small. GOMEMLIMIT overrides it.
const heap = 32 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heap)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	again := code == exitAgain && ctx.Err() == nil
	stop()
	if again {
		exe, err := os.Executable()
		if err == nil {
			err = syscall.Exec(exe, os.Args, os.Environ()) //nolint:gosec // ourselves
		}
		fmt.Fprintf(os.Stderr, "coinop-agent: start anew: %v\n", err)
	}
	os.Exit(code)
}

// Exit codes beside 0 and 1.
const (
	exitDegraded   = 2  // of status
	exitNotRunning = 3  // of status
	exitAgain      = 75 // of run, when it could not replace itself: to be started anew
)

// exit is an error with an exit code of its own.
type exit struct {
	code int
	err  error // nil: all was said
}

func (e exit) Error() string { return fmt.Sprint(e.err) }

// execute is the program: 0 when it did what it was asked, or a signal ended it; 1 on an error; or as
// the command says.
func execute(ctx context.Context, args []string, env []string, out, errs io.Writer) int {
	root := newRoot(env)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	if err := root.ExecuteContext(ctx); err != nil {
		e, ok := errors.AsType[exit](err)
		if !ok {
			e = exit{1, err}
		}
		if e.err != nil {
			_, _ = fmt.Fprintf(errs, "coinop-agent: %v\n", err)
		}
		return e.code
	}
	return 0
}
