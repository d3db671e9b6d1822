// Coinop-agent runs one point of sale: see coinop-agent run --help.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute is the program: 0 when it did what it was asked, or a signal ended it; 1 on an error.
func execute(ctx context.Context, args []string, env []string, out, errs io.Writer) int {
	root := newRoot(env)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	if err := root.ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintf(errs, "coinop-agent: %v\n", err)
		return 1
	}
	return 0
}
