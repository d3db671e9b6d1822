package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coinop/cloud"
	"coinop/sim/bench"

	"github.com/spf13/cobra"
)

// farWord begins the processes that bench measures.
const farWord = "bench-far"

// farCommand is one of them.
func farCommand() *cobra.Command {
	return &cobra.Command{
		Use: farWord, Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			return bench.Far(c.Context(), args, c.InOrStdin(), c.OutOrStdout())
		},
	}
}

// benchCommand measures.
func benchCommand() *cobra.Command {
	var o bench.Options
	var out string
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure sessions, journal, ledger, authorizations, connections and an agent beside their limits",
		Long: `Measure, and name beside each figure the limit it is held against and how near it comes.

The chain of an authorization is the real one: lean devices over mutual TLS and a bank that answers at once in this
process, broker, relay, payment, a ledger on disk and ISO 8583 over TCP in another, all on the same CPUs. Before it and
after it the same devices ask a bare chain of the same parts, without what makes them safe: what this machine could do
in that minute. The ledger is measured on SQLite and on a PostgreSQL that is started for it.`,
		Example: "  coinop-sim bench\n  coinop-sim bench --for 10s --dir /var/tmp --out out/bench.json\n  coinop-sim bench --only authorizations --profiles /tmp",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Self = []string{self, farWord}
			if o.Bin == "" {
				o.Bin = filepath.Dir(self)
			}
			cloud.PaceCollector() // devices and bank share the CPUs: their garbage is not what is measured
			o.Progress = func(what string) { _, _ = fmt.Fprintln(c.ErrOrStderr(), "measuring:", what) }
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
	f.DurationVar(&o.For, "for", 3*time.Second, "time of each measurement")
	f.StringVar(&o.Bin, "bin", "", "folder of coinop-agent and coinop-cloud (where this program is)")
	f.IntVar(&o.Devices, "devices", 15_000, "how many are connected at once; each needs a file descriptor here and in the cloud")
	f.IntVar(&o.Records, "records", 100_000, "in the journal the agent is started on")
	f.StringSliceVar(&o.Only, "only", nil, "measure these stages: "+strings.Join(bench.Stages(), ", "))
	f.StringVar(&o.Profiles, "profiles", "", "folder that keeps the CPU profiles of the cloud and of a bare chain of the same parts")
	f.StringVar(&out, "out", "", "file for the figures as JSON")
	return c
}
