package main

import (
	"fmt"
	"time"

	"coinop/sim/bench"

	"github.com/spf13/cobra"
)

// benchCommand measures.
func benchCommand() *cobra.Command {
	var o bench.Options
	var out string
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure sessions, journal and authorizations beside their limits",
		Long: `Measure, and name beside each figure the limit it is held against and how near it comes.

The chain of an authorization is the real one, in this process: lean devices over mutual TLS, broker, relay,
payment, a ledger on disk, ISO 8583 over TCP to a bank that answers at once. Load and service share the CPUs.`,
		Example: "  coinop-sim bench\n  coinop-sim bench --for 10s --dir /var/tmp --out out/bench.json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := bench.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if err := r.Print(c.OutOrStdout()); err != nil {
				return err
			}
			if out == "" {
				return nil
			}
			if err := r.Write(out); err != nil {
				return fmt.Errorf("write %s: %w", out, err)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "folder on the disk to measure (a temporary one)")
	f.DurationVar(&o.For, "for", 3*time.Second, "time of each of five stages")
	f.StringVar(&out, "out", "", "file for the figures as JSON")
	return c
}
