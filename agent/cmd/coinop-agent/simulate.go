package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"coinop/agent/profile"

	"github.com/spf13/cobra"
)

func newSimulate() *cobra.Command {
	var dir string
	var about strings.Builder
	for _, name := range profile.Names() {
		fmt.Fprintf(&about, "  %-8s %s\n", name, profile.About(name))
	}
	c := &cobra.Command{
		Use: "simulate PROFILE", Short: "Put virtual devices on ttys, to try a configuration without hardware", Args: cobra.ExactArgs(1),
		Long: `Simulate makes the devices of a machine, each at a tty in --dir, and the
configuration that names them, agent.yaml, with an identity that no cloud knows:
cash can be tried, cards are refused. They speak the bytes of real ones.
Then it takes commands, a line each: what a buyer or a technician does there.
Ctrl-C, or the end of the commands, ends it.

Profiles:
` + about.String(),
		Example: `  coinop-agent simulate snack --dir /tmp/snack
  coinop-agent config check --here /tmp/snack/agent.yaml
  coinop-agent run --config /tmp/snack/agent.yaml
  coinop-agent setup --port '/tmp/snack/*'`,
		RunE: func(c *cobra.Command, args []string) error {
			if dir == "" {
				return usage("--dir is missing: a folder for the ttys")
			}
			p, err := profile.Open(args[0], dir)
			if errors.Is(err, profile.ErrNoProfile) {
				return exit{exitUsage, err}
			}
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			for _, d := range p.Devices {
				_, _ = fmt.Fprintf(out, "%-8s %-12s %s\n", d.Part, d.Driver, d.Path)
			}
			config := filepath.Join(p.Dir, profile.ConfigFile)
			_, _ = fmt.Fprintf(out, "config   %s\n\nIts identity is one that no cloud knows: cash can be tried, cards are refused.\nNext, in another terminal: coinop-agent run --config %s\nHere:\n%s", config, config, p.Help())
			ctx, stop := context.WithCancel(c.Context())
			defer stop()
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			lines := make(chan string)
			go func() { // blocks in a read for as long as the program lives
				defer close(lines)
				for in := bufio.NewScanner(c.InOrStdin()); in.Scan(); {
					lines <- in.Text()
				}
			}()
			for {
				select {
				case line, more := <-lines:
					if !more {
						stop()
						return <-done
					}
					if strings.TrimSpace(line) == "" {
						continue
					}
					said, err := p.Do(line)
					if err != nil {
						said = err.Error() + "\n"
					}
					_, _ = fmt.Fprint(out, said)
				case <-ctx.Done():
					return <-done
				}
			}
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "`folder` for the ttys and agent.yaml (required)")
	return c
}
