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
	"slices"
	"strings"
	"syscall"

	"coinop/configs"
)

// heap is what the collector keeps the heap to, as long as what is held fits into it: opening a long
// journal makes much garbage, and the boxes are small. GOMEMLIMIT overrides it.
const heap = 32 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heap)
	}
	if slices.Contains(os.Args[1:min(2, len(os.Args))], "run") {
		urgent()
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

// Exit codes of every command beside 0.
const (
	exitProblem = 1  // it did what was asked, and something is wrong with what it looked at
	exitFailure = 2  // it could not do it
	exitUsage   = 64 // it was asked for something that there is not (EX_USAGE of sysexits.h)
	exitAgain   = 75 // of run, when it could not replace itself: to be started anew (EX_TEMPFAIL)
)

// usage is an error of who typed the command.
func usage(format string, args ...any) error { return exit{exitUsage, fmt.Errorf(format, args...)} }

// exit is an error with an exit code of its own.
type exit struct {
	code int
	err  error // nil: all was said
}

func (e exit) Error() string { return fmt.Sprint(e.err) }

// execute is the program: 0 when it did what it was asked, or a signal ended it.
func execute(ctx context.Context, args []string, env []string, out, errs io.Writer) int {
	root := newRoot(env)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	if err := root.ExecuteContext(ctx); err != nil {
		e, ok := errors.AsType[exit](err)
		switch _, found := errors.AsType[configs.Found](err); {
		case ok:
		case found:
			e = exit{exitProblem, err}
		case errors.Is(err, configs.ErrNoKey), strings.HasPrefix(err.Error(), "unknown command"): // cobra has no type for it
			e = exit{exitUsage, err}
		default:
			e = exit{exitFailure, err}
		}
		if e.err != nil {
			_, _ = fmt.Fprintf(errs, "coinop-agent: %v\n", err)
		}
		return e.code
	}
	return 0
}
