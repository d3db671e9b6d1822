package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"coinop/sim/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use:   "demo --for 20s --seed N [--broker mosquitto] [--store postgres]",
		Short: "Run a whole installation, let things go wrong, and compare the books",
		Long: `demo starts a bank, the cloud, three vending machines with card readers and printers on ptys, and the agents in
them, each a process of its own, all on free ports of 127.0.0.1. Buyers come and go. One agent is
killed in the middle of a vend, one line is cut, one motor turns and nothing falls, one relay board
falls silent before it has said whether something fell (a case), one machine keeps a buyer's coins and
does not tell of another cash sale, some cards are declined.

With --broker mosquitto the machines connect to a Mosquitto, with --store postgres the ledger is in a
PostgreSQL: both are started for the run and end with it. With both there are two replicas of the
cloud, and one of them is killed and started again.

After --for, or Ctrl-C, the buyers stop, everything settles, the processes end, and books that
nobody shares are compared: the bank's and the terminal's, the ledger, what fell out of the machines, and
the cash that they counted. The last line is

  sales N · captured 12.50 EUR · voided N · declined N · cases N · lost 0 · doubled 0 · unexplained 0 · cash explained 9.50 of 9.50 EUR · ledger balanced

lost: something fell that nobody paid and no case names. doubled: paid twice, or paid and not fallen.
unexplained: money at the bank, the terminal or in a machine that nobody can account for. Exit code 1
when one of them is not 0. cash explained: how much of what went into the machines and did not come back
is sold, owed in a case, or named by what a machine's own counters say.`,
		Example: `  make demo DEMO_FOR=20s SEED=7
  make demo BROKER=mosquitto STORE=postgres
  coinop-sim demo --for 1m --seed 7 --dir /tmp/demo`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Bin == "" {
				self, err := os.Executable()
				if err != nil {
					return fmt.Errorf("where are the programs? give --bin: %w", err)
				}
				o.Bin = filepath.Dir(self)
			}
			if o.For < time.Second {
				return fmt.Errorf("--for %s: want 1s or more", o.For)
			}
			o.Out = c.OutOrStdout()
			_, err := demo.Run(c.Context(), o)
			return err
		},
	}
	f := c.Flags()
	f.DurationVar(&o.For, "for", 20*time.Second, "how long buyers come")
	f.Uint64Var(&o.Seed, "seed", 1, "the same seed gives the same buyers")
	f.StringVar(&o.Broker, "broker", "", "mosquitto, or nothing for the cloud's own")
	f.StringVar(&o.Store, "store", "", "postgres, or nothing for a file")
	f.StringVar(&o.Dir, "dir", "", "empty folder for all files, kept; none: a temporary one, kept when something is wrong")
	f.StringVar(&o.Receipts, "receipts", "", "folder that gets a picture of each machine's last 20 receipts; none: in --dir")
	f.StringVar(&o.Bin, "bin", "", "folder of coinop-agent and coinop-cloud; none: that of this program")
	return c
}
