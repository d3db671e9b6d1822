// Command coinop-sim is the world around Coinop: a bank, vending machines with buyers before them,
// and a demonstration of the whole with both.
//
//	coinop-sim demo --for 20s --seed 1
//	coinop-sim host --listen 127.0.0.1:5000 --books books.jsonl
//	coinop-sim machine --dir run/machine-1 --seed 1
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"coinop/sim/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first Ctrl-C ends things in order; a second one ends this process at once.
	context.AfterFunc(ctx, stop)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil && !errors.Is(err, demo.ErrWrong) { // that has been printed, and the last line stays the last
		fmt.Fprintln(os.Stderr, "coinop-sim:", err)
	}
	if err != nil {
		os.Exit(1)
	}
}

// commands are all there are; each file adds its own here.
func commands() []*cobra.Command {
	return []*cobra.Command{demoCommand(), runCommand(), benchCommand(), farCommand(), loadCommand(), hostCommand(), machineCommand()}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "coinop-sim",
		Short:         "A bank, vending machines and buyers, to try Coinop with",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, c.CommandPath())
	})
	c.AddCommand(commands()...)
	return c
}

// writeReady puts a line into path in one step: whoever finds the file finds all of it.
func writeReady(path, line string) error {
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	err := os.MkdirAll(filepath.Dir(path), 0o750)
	if err == nil {
		err = os.WriteFile(tmp, []byte(line+"\n"), 0o600)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}
